"""The PDF of a built book against the book's pages: both are made of the same executed cells."""

import os
import re
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path

import book_checks as checks
import pytest
import yaml
from pypdf import PageObject, PdfReader

from pdf_reading import bookmarks, links, spans, tags

CODE = "The code"  # the part that the pages do not have
ROOM = 28  # points, 1 cm: the paper's edges stay empty
LARGEST = 12_000_000  # bytes


@pytest.fixture(scope="session")
def sample_pdf(sample_by_bookbinder: Path) -> Path:
    project = sample_by_bookbinder.parent
    command = [sys.executable, "-m", "bookbinder", "--project", str(project), "--pdf"]
    environment = os.environ | {"LAZY_ARTIST_CACHE": str(project.parent / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return _pdf_in(sample_by_bookbinder)


@pytest.fixture(scope="session")
def project_pdf(project_book: Path) -> Path:
    if not list(project_book.glob("*.pdf")):
        pytest.skip("the report's PDF is not built: make pdf")
    return _pdf_in(project_book)


@pytest.fixture(scope="session", params=["sample_pdf", "project_pdf"])
def pdf(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def _pdf_in(book: Path) -> Path:
    (file,) = book.glob("*.pdf")
    return file


@cache
def read(pdf: Path) -> PdfReader:
    return PdfReader(pdf)


@cache
def texts(pdf: Path) -> list[str]:
    return [page.extract_text() for page in read(pdf).pages]


def prose(page: PageObject) -> str:
    """The page's text without code, which may show Markdown as it is written."""
    parts = []

    def see(text: str, _cm: list, _tm: list, font: dict | None, _size: float) -> None:
        parts.append(text if "Mono" not in (font or {}).get("/BaseFont", "") else " ")

    page.extract_text(visitor_text=see)
    return "".join(parts)


def squashed(text: str) -> str:
    """Without white space, ligatures and mathematical alphabets, in which PDF and HTML differ."""
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text))


def chapters(pdf: Path) -> list[Path]:
    """The pages of the book that the PDF lies in, in the book's order."""
    project = pdf.parent.parent
    files = yaml.safe_load((project / "_quarto.yml").read_text("utf-8"))["book"]["chapters"]
    return [pdf.parent / file.replace(".qmd", ".html") for file in files]


def body(pdf: Path) -> range:
    """The numbers of the pages from the first chapter to the code."""
    starts = [(title, page) for depth, title, page in bookmarks(read(pdf)) if depth == 1]
    return range(starts[0][1], dict(starts).get(CODE, len(read(pdf).pages)))


def test_its_bookmarks_are_the_headings_of_the_pages(pdf):
    found = [f"h{depth} {title}" for depth, title, _ in bookmarks(read(pdf))]
    assert len([heading for heading in found if heading.startswith("h1")]) >= len(chapters(pdf))
    expected = [heading for page in chapters(pdf) for heading in checks.headings(page)]
    assert found[: len(expected)] == expected
    assert found[len(expected) :][:1] in ([], [f"h1 {CODE}"])


def test_its_captions_are_those_of_the_pages_in_order(pdf):
    text = squashed("".join(texts(pdf)[number] for number in body(pdf)))
    captions = [c for page in chapters(pdf) for c in checks.floats(page).values()]
    assert captions
    for word in ("Figure", "Table"):
        at = 0
        for caption in captions:
            if caption.startswith(word):
                at = text.find(squashed(caption)[:50], at)
                assert at >= 0, f"{caption!r} is not where it should be"


def test_its_pictures_have_the_alternative_texts_of_the_pages(pdf):
    images = [image for page in chapters(pdf) for image in checks.main_of(page).find_all("img")]
    expected = [" ".join(image["alt"].split()) for image in images]
    assert sorted(alt for tag, alt in tags(read(pdf)) if tag == "/Figure") == sorted(expected)
    assert all(alt for tag, alt in tags(read(pdf)) if tag == "/Formula")
    kinds = [tag for tag, _ in tags(read(pdf))]
    tables = sum(len(checks.main_of(page).find_all("table")) for page in chapters(pdf))
    assert kinds.count("/Table") == kinds.count("/THead") == tables  # each says which row is head


def test_nothing_is_left_unresolved_or_unrendered(pdf):
    patterns = checks.UNRENDERED | {"a reference to nothing": r"\?\?"}
    for number in body(pdf):
        text = prose(read(pdf).pages[number])
        for what, pattern in patterns.items():
            match = re.search(pattern, text)
            assert not match, f"page {number + 1}: {what}, {match[0]!r}"
        assert "Traceback (most recent call last)" not in texts(pdf)[number]


def test_every_link_leads_to_what_it_names(pdf):
    said = []
    for _, text, to in links(read(pdf)):
        if isinstance(to, str):
            assert re.match(r"(https?|mailto):", to)
            continue
        if named := re.match(r"(Figure|Table) \d+(\.\d+)?", text):
            assert squashed(f"{named[0]}:") in squashed(texts(pdf)[to]), text
        said.append(text)
    references = [r for page in chapters(pdf) for r in checks.cross_references(page)]
    assert {text for text, _ in references if re.match("Figure|Table", text)} <= {*said}
    assert len(said) > len(references) > 0


def test_its_text_stays_on_the_paper_and_its_size_in_bounds(pdf):
    for number, page in enumerate(read(pdf).pages, 1):
        starts, ends = zip(*spans(page), strict=True)  # no page is empty
        assert min(starts) > ROOM and max(ends) < float(page.mediabox.width) - ROOM, number
    assert pdf.stat().st_size < LARGEST
