"""The pages' last dressing, on pages written by hand as each builder writes them."""

import io
import json
import re
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from bookbinder import reader
from bookbinder.reader import CARD, SITE, dress
from lazy_artist import plots

PAGE = """<!DOCTYPE html><html lang="en"><head><meta name="generator" content="{by}">
<title>{title}</title></head>
<body class="x"><nav>menu</nav><main id="main">{main}</main></body></html>
"""
GLOSSARY = """<h1>Glossary</h1><dl><dt><span id="term-cue" class="term" data-also="cues, hint">Cue
</span></dt><dd><p>What <em>tells</em> &lt;it&gt;.</p></dd>
<dt><span id="term-ink" class="term">Ink</span></dt><dd>Colour.</dd></dl>"""


CSV = "# y: a share\nx,y\n1,3\n2,4\n"


def figure_png() -> bytes:
    figure, axes = plots.grid(3, 2)
    axes[0, 0].plot([1, 2], [3, 4])
    plots.show(figure, pd.DataFrame({"x": [1, 2], "y": [3, 4]}), "y: a share")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=20)
    return plots.with_data(file.getvalue(), figure)


@pytest.fixture
def book(tmp_path: Path):
    """Writes {page: its main text}, dresses the book, and returns its folder."""

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
def test_each_page_finds_its_script_and_style_and_no_page_gets_them_twice(book, by, tmp_path):
    other = "<html><head></head><body>of no builder</body></html>"
    (tmp_path / "atlas.html").write_text(other)
    made = book({"index.html": "<p>a</p>", "report/a.html": "<p>b</p>"}, by)
    assert (made / "atlas.html").read_text() == other
    before = {page: page.read_bytes() for page in made.rglob("*") if page.is_file()}
    dress(made)
    assert {page: page.read_bytes() for page in made.rglob("*") if page.is_file()} == before
    for name in ("index.html", "report/a.html"):
        page = soup(made, name)
        links = [tag.get("src") or tag["href"] for tag in page.head.select("script, link")]
        names = ["favicon.svg", "reader.css", "glossary.js", "reader.js"]
        assert [Path(link).name for link in links] == names
        assert all((made / name).parent.joinpath(link).resolve().is_file() for link in links)
        (skip,) = page.select("body > a.skip:first-child")
        assert skip["href"] == "#main"


def test_the_index_holds_the_text_by_sections_with_the_address_of_each(book):
    main = """<header><h1 id="sec-a"><span class="chapter-number">1</span> First</h1><p>By me</p>
    </header><p>Opening <b>words</b>.</p><section id="s2">
    <h2 data-anchor-id="s2"><span class="header-section-number">1.1</span> Next</h2>
    <pre>code</pre><p>Caf\u00e9 &lt;/script&gt;</p><div><p>one</p><p>two</p></div></section>
    <h2 id="s3">Last</h2><nav>pager</nav><button>press</button>"""
    found = index(book({"index.html": main, "b/c.html": "<p>no heading</p><style>p {}</style>"}))
    assert found["titles"] == {"index.html": "A Book", "b/c.html": "c – A Book"}
    assert found["sections"] == [
        ["b/c.html", "", "", "no heading"],
        ["index.html", "sec-a", "First", "Opening words."],
        ["index.html", "s2", "Next", "Caf\u00e9 </script> one two"],
        ["index.html", "s3", "Last", ""],
    ]


def test_the_terms_of_the_glossary_with_all_their_forms(book):
    cue, ink = ["term-cue", ["Cue", "cues", "hint"], "What tells <it>."], ["term-ink", ["Ink"]]
    assert glossary(book({"index.html": "<p>Cue</p>"})) == {"page": "", "terms": []}
    found = glossary(book({"index.html": "<p>Cue</p>", "report/glossary.html": GLOSSARY}))
    assert found == {"page": "report/glossary.html", "terms": [cue, [*ink, "Colour."]]}


def test_images_are_lazy_and_sized_and_bring_their_data(book):
    images = (
        '<img src="../a.png" alt="a > b"><img src="../a.png" width="7" alt="x" loading="eager"/>'
        '<img src="data:image/png;base64,x" alt="y">'
    )
    made = book({"index.html": "<p>a</p>", "report/c.html": images})
    first, second, third = soup(made, "report/c.html").find_all("img")
    width, height = map(str, Image.open(made / "a.png").size)
    assert first.attrs == {
        **{"src": "../a.png", "alt": "a > b", "loading": "lazy", "data-csv": "../a.csv"},
        **{"width": width, "height": height},
    }
    assert second["loading"] == "eager" and second["width"] == "7" and "height" not in second.attrs
    assert third.attrs == {"src": "data:image/png;base64,x", "alt": "y"}
    assert (made / "a.csv").read_text() == CSV  # with the line that says what the columns mean


def test_an_interval_in_a_table_stays_on_one_line(book):
    row = '<td class="x">0.9 [−0.8, 1.0], 3 seeds</td><td>[a, b, c]</td>'
    made = book({"index.html": f"<p>At [0.8, 1.0].</p><table><tr>{row}</tr></table>"})
    page = soup(made, "index.html")
    cells = [cell.string for cell in page.find_all("td")]
    assert cells == ["0.9 [−0.8,\u00a01.0], 3 seeds", "[a, b, c]"]
    assert page.find("p").string == "At [0.8, 1.0]."


def test_long_data_are_zipped(book, monkeypatch):
    monkeypatch.setattr(reader, "LONG", 10)
    made = book({"index.html": '<p>a</p><img src="a.png" alt="a">'})
    assert soup(made, "index.html").find("img")["data-csv"] == "a.csv.zip"
    with zipfile.ZipFile(made / "a.csv.zip") as archive:
        (entry,) = archive.infolist()
        assert archive.read("a.csv").decode() == CSV
    assert entry.date_time[0] == 1980  # the same bytes each time


@pytest.mark.parametrize("site", ["", "https://example.org/b/"])
def test_card_description_and_sitemap_with_and_without_a_site(book, monkeypatch, site):
    monkeypatch.setenv(SITE, site)
    words = f"<h1>T</h1><p>{'word & ' * 60}</p>"
    made = book({
        "index.html": '<p class="subtitle lead">Sub</p><img src="a.png" alt="a">',
        "report/a b.html": words,
        "404.html": "<p>c</p>",
    })  # fmt: skip
    with Image.open(made / "reader" / "card.png") as card:
        assert card.size == CARD
        centre = card.convert("L").crop((100, 200, 1100, 620))
        assert centre.getextrema()[0] < 100  # the figure is on it
    first, other = properties_of(made, "index.html"), properties_of(made, "report/a b.html")
    assert (first["og:title"], first["og:type"], other["og:type"]) == (
        "A Book",
        "website",
        "article",
    )
    assert other["og:image"] == (f"{site}reader/card.png" if site else "../reader/card.png")
    assert other.get("og:url", "") == (f"{site}report/a%20b.html" if site else "")
    assert other["og:description"].startswith("word & word") and len(other["og:description"]) <= 202
    assert other["og:description"].endswith("word & …")  # cut at a word
    tree = ElementTree.parse(made / "sitemap.xml").getroot()
    listed = [loc.text for loc in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")]
    assert listed == [f"{site}index.html", f"{site}report/a%20b.html"]
