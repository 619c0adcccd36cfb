"""The PDF of a built book against the book's pages: both are made of the same executed cells."""

import os
import re
import subprocess
import sys
import unicodedata
from functools import cached_property
from pathlib import Path

import book_checks as checks
import pytest
import yaml
from pypdf import PdfReader

from pdf_reading import bookmarks, heights, links, pictures, spans, tags

CODE = "The code"  # the part that the pages do not have
ROOM = 28  # points, 1 cm: the paper's edges stay empty
LARGEST = 12_000_000  # bytes
MOST = 90  # pages
HOLE = 0.4  # of a page's height


def squashed(text: str) -> str:
    """Without white space, ligatures and mathematical alphabets, in which PDF and HTML differ."""
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text))


class Made:
    """A book's PDF, and the chapters' pages that it lies beside, in the book's order."""

    def __init__(self, book: Path):
        (self.file,) = book.glob("*.pdf")
        config = yaml.safe_load((book.parent / "_quarto.yml").read_text("utf-8"))
        files = config["book"]["chapters"] + config["book"]["appendices"]
        self.chapters = [book / file.replace(".qmd", ".html") for file in files]
        self.reader = PdfReader(self.file)
        starts = [(title, page) for depth, title, page in bookmarks(self.reader) if depth == 1]
        end = dict(starts).get(CODE, len(self.reader.pages))
        self.body = range(starts[0][1], end)  # the pages from the first chapter to the code

    @cached_property
    def texts(self) -> list[str]:
        return [page.extract_text() for page in self.reader.pages]

    def prose(self, number: int) -> str:
        """A page's text without code, which may show Markdown as it is written."""
        parts = []

        def see(text: str, _cm: list, _tm: list, font: dict | None, _size: float) -> None:
            parts.append(text if "Mono" not in (font or {}).get("/BaseFont", "") else " ")

        self.reader.pages[number].extract_text(visitor_text=see)
        return "".join(parts)


@pytest.fixture(scope="module", params=["sample", "report"])
def pdf(request, books) -> Made:
    book = books(request.param)
    if request.param == "sample":
        command = [sys.executable, "-m", "bookbinder", "--project", str(book.parent), "--pdf"]
        environment = os.environ | {"LAZY_ARTIST_CACHE": str(book.parents[1] / "cache")}
        subprocess.run(command, env=environment, check=True, timeout=280)
    elif not list(book.glob("*.pdf")):
        pytest.skip("the report's PDF is not built: make pdf")
    return Made(book)


def test_its_bookmarks_are_the_headings_of_the_pages(pdf):
    found = [f"h{depth} {title}" for depth, title, _ in bookmarks(pdf.reader)]
    expected = [heading for page in pdf.chapters for heading in checks.headings(page)]
    assert len(expected) > len(pdf.chapters) and found[: len(expected)] == expected
    assert found[len(expected) :][:1] in ([], [f"h1 {CODE}"])


def test_its_captions_and_alternative_texts_are_those_of_the_pages(pdf):
    text = squashed("".join(pdf.texts[number] for number in pdf.body))
    captions = [c for page in pdf.chapters for c in checks.floats(page).values()]
    assert captions
    for word in ("Figure", "Table"):
        at = 0
        for caption in captions:
            if caption.startswith(word):
                at = text.find(squashed(caption)[:50], at)
                assert at >= 0, f"{caption!r} is not where it should be"
    found = tags(pdf.reader)
    one = "img:not(.mixed > img:last-child)"  # the other is for dark pages
    images = [image for page in pdf.chapters for image in checks.main_of(page).select(one)]
    expected = sorted(" ".join(image["alt"].split()) for image in images)
    assert sorted(alt for tag, alt in found if tag == "/Figure") == expected
    assert all(alt for tag, alt in found if tag == "/Formula")
    kinds = [tag for tag, _ in found]
    tables = sum(len(checks.main_of(page)("table")) for page in pdf.chapters)
    assert kinds.count("/Table") == kinds.count("/THead") == tables  # each says which row is head


def test_nothing_is_left_unresolved_or_unrendered(pdf):
    for number in pdf.body:
        text = pdf.prose(number)
        assert not checks.UNRENDERED.search(text) and "??" not in text, f"page {number + 1}"
        assert "Traceback (most recent call last)" not in pdf.texts[number]


def test_every_link_leads_to_what_it_names(pdf):
    said = []
    for _, text, to in links(pdf.reader):
        if isinstance(to, str):
            assert re.match(r"(https?|mailto):", to)
            continue
        if named := re.match(r"(Figure|Table) \d+(\.\d+)?", text):
            assert squashed(f"{named[0]}:") in squashed(pdf.texts[to]), text
        said.append(text)
    references = [text for page in pdf.chapters for text, _ in checks.cross_references(page)]
    assert {text for text in references if re.match("Figure|Table", text)} <= {*said}
    assert len(said) > len(references) > 0


def test_its_text_and_pictures_stay_on_the_paper_and_its_size_in_bounds(pdf):
    for number, page in enumerate(pdf.reader.pages, 1):
        starts, ends = zip(*spans(page), strict=True)  # no page is empty
        lefts, _, rights, _ = zip(*pictures(page), (ROOM + 1,) * 4, strict=True)
        assert min(*starts, *lefts) > ROOM, number
        assert max(*ends, *rights) < float(page.mediabox.width) - ROOM, number
    assert sum(len(pictures(page)) for page in pdf.reader.pages)
    assert len(pdf.reader.pages) <= MOST
    assert pdf.file.stat().st_size < LARGEST


def test_no_page_has_a_large_hole(pdf):
    begun = {page for depth, _, page in bookmarks(pdf.reader) if depth == 1}
    for number in pdf.body:
        page = pdf.reader.pages[number]
        top = float(page.mediabox.height)
        found = sorted([*heights(page), (top - ROOM, top)], key=lambda span: -span[1])
        if number + 1 not in begun and number + 1 < len(pdf.reader.pages):
            found.append((0, 2 * ROOM))  # what follows did not have to wait for the next page
        reached = top
        for low, high in found:
            assert reached - high < HOLE * top, f"page {number + 1}: {reached - high:.0f} points"
            reached = min(reached, low)
