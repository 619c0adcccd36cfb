"""The PDF of a built book against the book's pages: both are made of the same executed cells."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import book_checks as checks
import pytest
import yaml
from pypdf import PageObject, PdfReader

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


def bookmarks(pdf: Path) -> Iterator[tuple[int, str, int]]:
    """(depth, title, page) of each bookmark, in order."""

    def walk(outline: list, depth: int) -> Iterator[tuple[int, str, int]]:
        for entry in outline:
            if isinstance(entry, list):
                yield from walk(entry, depth + 1)
            else:
                page = read(pdf).get_destination_page_number(entry)
                yield depth, " ".join(entry.title.split()), page

    yield from walk(read(pdf).outline, 1)


def body(pdf: Path) -> range:
    """The numbers of the pages from the first chapter to the code."""
    starts = [(title, page) for depth, title, page in bookmarks(pdf) if depth == 1]
    return range(starts[0][1], dict(starts).get(CODE, len(read(pdf).pages)))


def tags(pdf: Path) -> list[tuple[str, str]]:
    """(tag, alternative text) of each element of the PDF's structure, in reading order."""
    found = []
    stack = [read(pdf).trailer["/Root"]["/StructTreeRoot"]["/K"]]
    while stack:
        node = stack.pop()
        node = node.get_object() if hasattr(node, "get_object") else node
        if isinstance(node, list):
            stack += reversed(node)
        elif isinstance(node, dict):
            if "/S" in node:
                found.append((node["/S"], " ".join(str(node.get("/Alt", "")).split())))
            stack.append(node.get("/K", []))
    return found


def links(page: PageObject) -> Iterator[tuple[str, dict]]:
    """(text, annotation) of each link on the page."""
    found: list[tuple[float, float, str]] = []

    def see(text: str, cm: list, tm: list, _font: dict, _size: float) -> None:
        found.append((cm[4] + tm[4], cm[5] - tm[5], " ".join(text.split())))

    page.extract_text(visitor_text=see)
    for annotation in page.get("/Annots", []):
        annotation = annotation.get_object()
        left, low, right, high = annotation["/Rect"]
        inside = (t for x, y, t in found if t and left - 1 < x < right and low < y < high)
        yield next(inside, ""), annotation


def test_its_bookmarks_are_the_headings_of_the_pages(pdf: Path) -> None:
    found = [f"h{depth} {title}" for depth, title, _ in bookmarks(pdf)]
    expected = [heading for page in chapters(pdf) for heading in checks.headings(page)]
    assert found[: len(expected)] == expected
    assert found[len(expected) :][:1] in ([], [f"h1 {CODE}"])


def test_its_captions_are_those_of_the_pages_in_order(pdf: Path) -> None:
    text = squashed("".join(texts(pdf)[number] for number in body(pdf)))
    captions = [c for page in chapters(pdf) for c in checks.floats(page).values()]
    assert captions
    for word in ("Figure", "Table"):
        at = 0
        for caption in captions:
            if caption.startswith(word):
                at = text.find(squashed(caption)[:50], at)
                assert at >= 0, f"{caption!r} is not where it should be"


def test_its_pictures_have_the_alternative_texts_of_the_pages(pdf: Path) -> None:
    images = [image for page in chapters(pdf) for image in checks.main_of(page).find_all("img")]
    expected = [" ".join(image["alt"].split()) for image in images]
    assert sorted(alt for tag, alt in tags(pdf) if tag == "/Figure") == sorted(expected)
    assert all(alt for tag, alt in tags(pdf) if tag == "/Formula")


def test_it_says_what_it_is_to_those_who_hear_it(pdf: Path) -> None:
    root = read(pdf).trailer["/Root"]
    config = yaml.safe_load((pdf.parent.parent / "_quarto.yml").read_text("utf-8"))
    assert read(pdf).metadata.title == config["book"]["title"]
    assert root["/Lang"] == "en" and root["/MarkInfo"]["/Marked"]
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    assert b"<pdfuaid:part>1</pdfuaid:part>" in root["/Metadata"].get_object().get_data()
    kinds = [tag for tag, _ in tags(pdf)]
    tables = sum(len(checks.main_of(page).find_all("table")) for page in chapters(pdf))
    assert kinds.count("/Table") == tables
    assert kinds.count("/THead") == tables  # every table says which row is its head


def test_nothing_is_left_unresolved_or_unrendered(pdf: Path) -> None:
    patterns = checks.UNRENDERED | {"a reference to nothing": r"\?\?"}
    for number in body(pdf):
        text = prose(read(pdf).pages[number])
        for what, pattern in patterns.items():
            match = re.search(pattern, text)
            assert not match, f"page {number + 1}: {what}, {match[0]!r}"
        assert "Traceback (most recent call last)" not in texts(pdf)[number]


def test_every_link_leads_to_what_it_names(pdf: Path) -> None:
    reader, said = read(pdf), []
    for page in reader.pages:
        for text, link in links(page):
            if "/Dest" not in link:
                assert re.match(r"(https?|mailto):", link["/A"]["/URI"])
                continue
            to = link["/Dest"]
            if isinstance(to, str):
                assert to in reader.named_destinations
                number = reader.get_destination_page_number(reader.named_destinations[to])
            else:
                number = reader.get_page_number(to.get_object()[0].get_object())
            if named := re.match(r"(Figure|Table) \d+(\.\d+)?", text):
                assert squashed(f"{named[0]}:") in squashed(texts(pdf)[number]), text
            said.append(text)
    references = [r for page in chapters(pdf) for r in checks.cross_references(page)]
    assert {text for text, _ in references if re.match("Figure|Table", text)} <= {*said}
    assert len(said) > len(references) > 0


def test_its_text_stays_on_the_paper_and_its_size_in_bounds(pdf: Path) -> None:
    for number, page in enumerate(read(pdf).pages):
        spans: list[tuple[float, float]] = []

        def see(text: str, cm: list, tm: list, _font: dict, size: float, spans=spans) -> None:
            if text.strip():  # letters are a third of their size wide, or wider
                start = cm[4] + tm[4]
                spans.append((start, start + len(text.strip()) * size / 3))

        page.extract_text(visitor_text=see)
        assert spans, f"page {number + 1} is empty"
        assert min(start for start, _ in spans) > ROOM, f"page {number + 1}"
        room = float(page.mediabox.width) - ROOM
        assert max(end for _, end in spans) < room, f"page {number + 1}"
    assert pdf.stat().st_size < LARGEST


def test_the_reports_pdf_has_every_chapter(project_pdf: Path) -> None:
    titles = [title for depth, title, _ in bookmarks(project_pdf) if depth == 1 and title != CODE]
    assert len(titles) == len(chapters(project_pdf))
    assert len(read(project_pdf).pages) > 2 * len(titles)
