"""The pages' last dressing, on pages written by hand as each builder writes them."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from matplotlib.figure import Figure
from PIL import Image

from bookbinder import reader
from bookbinder.reader import CARD, SITE, dress
from lazy_artist.figure_data import with_data

PAGE = """<!DOCTYPE html><html lang="en"><head><meta name="generator" content="{by}">
<title>{title}</title></head>
<body class="x"><nav>menu</nav><main id="main">{main}</main></body></html>
"""
GLOSSARY = """<h1>Glossary</h1><dl><dt><span id="term-cue" class="term" data-also="cues, hint">Cue
</span></dt><dd><p>What <em>tells</em> &lt;it&gt;.</p></dd>
<dt><span id="term-ink" class="term">Ink</span></dt><dd>Colour.</dd></dl>"""


def figure_png() -> bytes:
    figure = Figure()
    figure.subplots().plot([1, 2], [3, 4])
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=20)
    return with_data(file.getvalue(), figure)


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes {page: its main text}, dresses the book, and returns its folder."""
    monkeypatch.delenv(SITE, raising=False)

    def make(pages: dict[str, str], by: str = "bookbinder 1") -> Path:
        for name, main in pages.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            title = "A Book" if name == "index.html" else f"{Path(name).stem} – A Book"
            (tmp_path / name).write_text(PAGE.format(by=by, title=title, main=main), "utf-8")
        (tmp_path / "a.png").write_bytes(figure_png())
        dress(tmp_path)
        return tmp_path

    return make


def soup(book: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((book / name).read_text("utf-8"), "html.parser")


def properties_of(book: Path, name: str) -> dict[str, str]:
    return {tag["property"]: tag["content"] for tag in soup(book, name).select("[property]")}


def index(book: Path) -> dict:
    text = (book / "reader" / "index.js").read_text("utf-8")
    return json.loads(re.fullmatch(r"bookIndex\((.*)\);\n", text, re.S)[1])


def glossary(book: Path) -> dict:
    text = (book / "reader" / "glossary.js").read_text("utf-8")
    return json.loads(re.fullmatch(r"const BOOK_GLOSSARY = (.*);\n", text, re.S)[1])


@pytest.mark.parametrize("by", ["bookbinder 0.1.0", "quarto-1.7.30"])
def test_each_page_finds_its_script_and_style_and_no_page_gets_them_twice(book, by):
    made = book({"index.html": "<p>a</p>", "report/a.html": "<p>b</p>"}, by)
    before = {page: page.read_bytes() for page in made.rglob("*") if page.is_file()}
    dress(made)
    assert {page: page.read_bytes() for page in made.rglob("*") if page.is_file()} == before
    for name in ("index.html", "report/a.html"):
        page = soup(made, name)
        links = [tag.get("src") or tag["href"] for tag in page.head.select("script, link")]
        assert [Path(link).name for link in links] == [
            "favicon.svg",
            "reader.css",
            "glossary.js",
            "reader.js",
        ]
        assert all((made / name).parent.joinpath(link).resolve().is_file() for link in links)
        (skip,) = page.select("body > a.skip:first-child")
        assert skip["href"] == "#main"


def test_a_page_that_no_builder_made_is_left_alone_but_listed(book, tmp_path):
    (tmp_path / "atlas.html").write_text("<html><head></head><body>all</body></html>")
    made = book({"index.html": "<p>a</p>"})
    assert (made / "atlas.html").read_text() == "<html><head></head><body>all</body></html>"
    assert "atlas.html" in (made / "sitemap.xml").read_text()


def test_the_index_holds_the_text_by_sections_with_the_address_of_each(book):
    main = """<header><h1 id="sec-a"><span class="chapter-number">1</span> First</h1><p>By me</p>
    </header><p>Opening <b>words</b>.</p><section id="s2">
    <h2 data-anchor-id="s2"><span class="header-section-number">1.1</span> Next</h2>
    <pre>code</pre><p>Caf\u00e9 &lt;/script&gt;</p><div><p>one</p><p>two</p></div></section>
    <h2 id="s3">Last</h2><nav>pager</nav><button>press</button>"""
    found = index(book({"index.html": main, "b/c.html": "<p>no heading</p>"}))
    assert found["titles"] == {"index.html": "A Book", "b/c.html": "c – A Book"}
    assert found["sections"] == [
        ["b/c.html", "", "", "no heading"],
        ["index.html", "sec-a", "First", "Opening words."],
        ["index.html", "s2", "Next", "Caf\u00e9 </script> one two"],
        ["index.html", "s3", "Last", ""],
    ]


def test_the_terms_of_the_glossary_with_all_their_forms(book):
    found = glossary(book({"index.html": "<p>Cue</p>", "report/glossary.html": GLOSSARY}))
    assert found == {
        "page": "report/glossary.html",
        "terms": [
            ["term-cue", ["Cue", "cues", "hint"], "What tells <it>."],
            ["term-ink", ["Ink"], "Colour."],
        ],
    }
    assert "</" not in json.dumps(found["page"])


def test_a_book_without_a_glossary_has_no_terms(book):
    assert glossary(book({"index.html": "<p>Cue</p>"})) == {"page": "", "terms": []}


def test_images_are_lazy_and_sized_and_bring_their_data(book):
    images = (
        '<img src="../a.png" alt="a > b"><img src="../a.png" width="7" alt="x" loading="eager"/>'
        '<img src="data:image/png;base64,x" alt="y">'
    )
    made = book({"index.html": "<p>a</p>", "report/c.html": images})
    first, second, third = soup(made, "report/c.html").find_all("img")
    width, height = Image.open(made / "a.png").size
    assert first.attrs == {
        "src": "../a.png",
        "alt": "a > b",
        "loading": "lazy",
        "width": str(width),
        "height": str(height),
        "data-csv": "../a.csv",
    }
    assert second["loading"] == "eager" and second["width"] == "7" and "height" not in second.attrs
    assert third.attrs == {"src": "data:image/png;base64,x", "alt": "y"}
    header, *lines = (made / "a.csv").read_text().splitlines()
    assert header == "panel,kind,series,x,y" and lines == ["1,line,(1),1,3", "1,line,(1),2,4"]


def test_an_interval_in_a_table_stays_on_one_line(book):
    row = '<td class="x">0.9 [−0.8, 1.0], 3 seeds</td><td>[a, b, c]</td>'
    made = book({"index.html": f"<p>At [0.8, 1.0].</p><table><tr>{row}</tr></table>"})
    page = soup(made, "index.html")
    cells = [cell.string for cell in page.find_all("td")]
    assert cells == ["0.9 [−0.8,\u00a01.0], 3 seeds", "[a, b, c]"]
    assert page.find("p").string == "At [0.8, 1.0]."


def test_long_data_are_zipped(book, monkeypatch):
    monkeypatch.setattr(reader, "LONG", 10)
    page = {"index.html": '<p>a</p><img src="a.png" alt="a">'}
    made = book(page)
    assert soup(made, "index.html").find("img")["data-csv"] == "a.csv.zip"
    content = (made / "a.csv.zip").read_bytes()
    with zipfile.ZipFile(made / "a.csv.zip") as archive:
        assert archive.namelist() == ["a.csv"]
        assert archive.read("a.csv").decode().startswith("panel,kind,series,x,y\n1,line,(1),1,3\n")
    assert reader._zipped("a.csv", zipfile.ZipFile(made / "a.csv.zip").read("a.csv")) == content


def test_the_card_is_drawn_and_named(book):
    made = book({"index.html": '<p class="subtitle lead">Sub</p><img src="a.png" alt="a">'})
    with Image.open(made / "reader" / "card.png") as card:
        assert card.size == CARD
        centre = card.convert("L").crop((100, 200, 1100, 620))
        assert centre.getextrema()[0] < 100  # the figure is on it
    properties = properties_of(made, "index.html")
    assert properties["og:title"] == "A Book" and properties["og:type"] == "website"
    assert properties["og:image"] == "reader/card.png" and "og:url" not in properties


def test_a_description_is_the_opening_cut_at_a_word(book):
    made = book({"index.html": f"<h1>T</h1><p>{'word & ' * 60}</p>"})
    description = soup(made, "index.html").select_one("[name=description]")["content"]
    assert description.startswith("word & word") and description.endswith("word & …")
    assert len(description) <= 202


@pytest.mark.parametrize(
    ("site", "root"), [(None, ""), ("https://example.org/b/", "https://example.org/b/")]
)
def test_the_sitemap_lists_every_page_where_it_is_published(book, monkeypatch, site, root):
    made = book({"index.html": "<p>a</p>", "report/a b.html": "<p>b</p>", "404.html": "<p>c</p>"})
    if site:
        monkeypatch.setenv(SITE, site)
    dress(made)
    tree = ElementTree.parse(made / "sitemap.xml").getroot()
    assert [loc.text for loc in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")] == [
        f"{root}index.html",
        f"{root}report/a%20b.html",
    ]


def test_where_the_site_is_known_the_card_has_its_whole_address(tmp_path, book, monkeypatch):
    page = PAGE.format(by="bookbinder 1", title="B", main="<p>b</p>")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "b.html").write_text(page)
    monkeypatch.setenv(SITE, "https://example.org/b")
    dress(tmp_path)
    properties = properties_of(tmp_path, "report/b.html")
    assert properties["og:image"] == "https://example.org/b/reader/card.png"
    assert properties["og:url"] == "https://example.org/b/report/b.html"
