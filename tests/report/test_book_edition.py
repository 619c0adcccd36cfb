"""A built book that is not the digits': no page of it, no figure's text speaks of digits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from lazy_artist import edition

DIGITS_WORDS = re.compile(
    r"\b(?:digits?|zeros|sevens?|threes|nines|strokes?|(?:red|green) (?:zero|ones?))\b",
    re.I,
)


@pytest.fixture(scope="module")
def fashion_book(project_book: Path) -> Path:
    if not project_book.name.endswith(edition.FASHION):
        pytest.skip("this is the digits' book: make check EDITION=fashion looks at the other")
    return project_book


def spoken(page: Path) -> str:
    """The page's text and alternative texts, without code and formulas, and without what the
    catalogue itself says of MNIST's digits."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    for element in soup(["script", "style", "code", "pre", "math"]):
        element.decompose()
    alternatives = [str(e["alt"]) for e in soup.find_all("img", alt=True)]
    text = " ".join([soup.get_text(" "), *alternatives])
    text = re.sub(r"\s+", " ", text.replace("’", "'"))
    if page.name == "playground.html":  # where one draws strokes, whatever they show
        text = re.sub(r"\bstrokes?\b", " ", text)
    for said in edition.catalogue()["words"].values():
        if DIGITS_WORDS.search(said):
            text = text.replace(said, " ")
    return text


def test_no_page_of_the_fashion_edition_speaks_of_digits(fashion_book):
    left = {}
    same = {f"{stem}.html" for stem in edition.catalogue()["same"]} | {"references.html"}
    pages = [p for p in fashion_book.rglob("*.html") if "site_libs" not in p.parts]
    assert len(pages) > 15
    for page in (page for page in pages if page.name not in same):
        text = spoken(page)
        found = [text[max(0, m.start() - 60) : m.end() + 30] for m in DIGITS_WORDS.finditer(text)]
        left |= {page.name: found[:5]} if found else {}
    assert not left, left


def test_its_claims_and_its_pages_name_garments(fashion_book):
    assert "T-shirt" in spoken(fashion_book / "index.html")
    claims = (fashion_book / "claims.json").read_text(encoding="utf-8")
    assert "the CNN cheater calls red trousers T-shirts" in claims
    for page in ("atlas", "latents", "playground"):
        assert "sneaker" in (fashion_book / f"{page}.html").read_text(encoding="utf-8")
