"""The pages' last dressing, on pages written by hand as each builder writes them."""

import io
import json
import re
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from making import contents
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
    figure.savefig(file, dpi=20, **plots.with_data(figure))
    return file.getvalue()


@pytest.fixture
def book(tmp_path):
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


def written(book: Path, name: str) -> dict:
    """What a script of the reader's holds."""
    text = (book / "reader" / name).read_text("utf-8")
    return json.loads(re.fullmatch(r"[\w =]+\(?({.*})\)?;\n", text, re.S)[1])


@pytest.mark.parametrize("by", ["bookbinder 0.1.0", "quarto-1.7.30"])
def test_each_page_gets_the_script_the_sheet_and_the_icon_once(book, by):
    made = book({"index.html": "<p>a</p>", "report/b.html": "<p>b</p>"}, by)
    (made / "atlas.html").write_text(PAGE.format(by="hand", title="t", main="m"), "utf-8")
    dress(made)
    before = contents(made)
    dress(made)
    assert contents(made) == before
    assert "reader" not in (made / "atlas.html").read_text()
    for name in ("index.html", "report/b.html"):
        page = soup(made, name)
        links = [tag.get("href") or tag["src"] for tag in page.head.select("link, script")]
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
    made = book({"index.html": main, "b/c.html": "<p>no heading</p><style>p {}</style>"})
    assert written(made, "index.js") == {
        "titles": {"index.html": "1 First", "b/c.html": "c – A Book"},
        "sections": [
            ["b/c.html", "", "", "no heading"],
            ["index.html", "sec-a", "1 First", "Opening words."],
            ["index.html", "s2", "1.1 Next", "Caf\u00e9 </script> one two"],
            ["index.html", "s3", "Last", ""],
        ],
    }
    assert "</script>" not in (made / "reader/index.js").read_text("utf-8")


def test_the_terms_of_the_glossary_with_all_their_forms(book):
    cue, ink = ["term-cue", ["Cue", "cues", "hint"], "What tells <it>."], ["term-ink", ["Ink"]]
    made = book({"index.html": "<p>Cue</p>"})
    assert written(made, "glossary.js") == {"page": "", "terms": []}
    found = written(book({"report/glossary.html": GLOSSARY}), "glossary.js")
    assert found == {"page": "report/glossary.html", "terms": [cue, [*ink, "Colour."]]}


def test_images_are_lazy_and_sized_and_bring_their_data(book, monkeypatch):
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
    monkeypatch.setattr(reader, "LONG", 10)
    made = book({"index.html": '<p>a</p><img src="a.png" alt="a">'})
    assert soup(made, "index.html").find("img")["data-csv"] == "a.csv.zip"
    with zipfile.ZipFile(made / "a.csv.zip") as archive:
        (entry,) = archive.infolist()
        assert archive.read("a.csv").decode() == CSV
    assert entry.date_time[0] == 1980  # the same bytes each time


def test_a_figure_has_a_frame_and_for_dark_pages_its_pictures_are_cut_out(book):
    def drawn(picture: bool) -> bytes:
        figure, axes = plots.grid(2, 1, 1, 2)
        if picture:
            axes[0, 0].imshow(np.full((2, 2, 3), [26, 76, 51], np.uint8))
        axes[0, 1].barh([0], [1], color="#0072B2")
        figure.savefig(file := io.BytesIO(), dpi=100, **plots.with_data(figure))
        return file.getvalue()

    made = book({"index.html": "<p>a</p>"})
    for name in ("chart", "mixed"):
        (made / f"{name}.png").write_bytes(drawn(name == "mixed"))
        (made / f"{name}.html").write_text(
            PAGE.format(by="bookbinder 1", title=name, main=f'<img src="{name}.png" width="80">')
        )
    dress(made)
    chart, mixed = (
        soup(made, f"{name}.html").select_one(".picture") for name in ("chart", "mixed")
    )
    assert chart["class"] == ["picture", "drawn"] and len(chart.find_all("img")) == 1
    assert chart["style"] == mixed["style"] == "--wide: 80px" and float(chart["data-text"]) > 0.02
    assert mixed["class"] == ["picture", "mixed"]
    whole, again = mixed.find_all("img")
    assert whole["src"] == again["src"] == "mixed.png" and again["aria-hidden"] == "true"
    pixels = np.asarray(Image.open(made / "mixed.png").convert("RGB"))
    rows, columns = np.nonzero((pixels == [26, 76, 51]).all(2))
    ends = [[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]
    for image, grown, before in ((whole, 3, ["0% 0%", "100% 100%"]), (again, -1, [])):
        cut = re.fullmatch(r"clip-path: polygon\(evenodd,0 0,(.*),0 0\)", image["style"])[1]
        *outer, around = (part.split(",") for part in cut.split(",0 0,"))
        assert [part[k] for part in outer for k in (0, 2)] == before
        assert len(around) == 5 and around[0] == around[4]  # it goes round
        corners = np.array([re.findall(r"[\d.]+", corner) for corner in around], float) / 100
        found = [corners.min(0), corners.max(0)] * np.array(pixels.shape[1::-1])
        wanted = ends + np.array([[-grown], [grown]])
        np.testing.assert_allclose(found, wanted, atol=2.5)  # pixels; the axes have a frame


MODULE = '<script src="../lib/quarto.js" type="module"></script>'


def test_modules_are_one_deferred_script_and_what_is_not_understood_stays(book, capsys):
    def scripts(**texts: str) -> list[str]:
        (tmp / "lib").mkdir(exist_ok=True)
        for name, text in texts.items():
            (tmp / "lib" / f"{name}.js").write_text(text)
        made = book({"index.html": "<p>a</p>", **{f"r/{x}.html": MODULE for x in "ab"}}, "quarto-1")
        first, second = (
            [tag.attrs for tag in soup(made, f"r/{x}.html").main("script")] for x in "ab"
        )
        assert first == second
        return first

    tmp = book({"index.html": "<p>a</p>"})
    (script,) = scripts(quarto='import * as x from "./axe.js";\nx.f()', axe="export const f = 1;")
    assert re.fullmatch(r"\.\./reader/modules-\w{8}\.js", script.pop("src")) and script == {
        "defer": ""
    }
    assert capsys.readouterr().err == ""
    for text, told in {
        'import {g} from "./axe.js"': "quarto.js: axe.js exports no g",
        'import {f} from "./none.js"': "none.js",
        'import * as x from "./quarto.js"': "quarto.js: it imports what imports it",
        'export * from "./axe.js"': "quarto.js: 'export *' is not understood",
        'let a = 1;import {f} from "./axe.js"': "import {",
        "import x from 'axe'": "import x",
        "const x = await f()": "await",
        "f(import.meta.url)": "import.meta",
    }.items():
        assert scripts(quarto=text) == [{"src": "../lib/quarto.js", "type": "module"}], text
        (line,) = capsys.readouterr().err.splitlines()  # one for all pages
        assert told in line and "if opened as files" in line


QUARTOS = """<script>const isFileUrl = () => {
      return window.location.protocol === 'file:';
    }
            fetch(url.split('#')[0])
            .then(res => res.text())</script>"""


@pytest.mark.parametrize(("builder", "left"), [("quarto-1", "One."), ("bookbinder 1", None)])
def test_what_quarto_leaves_of_an_empty_value_goes(book, builder, left):
    text = "One. <code>{python} x</code>"
    made = book({"index.html": f"<p>{text}</p>"}, builder)
    assert soup(made, "index.html").select_one("main p").decode_contents() == (left or text)


def test_quartos_pages_remember_the_theme_and_fetch_nothing_as_files(book):
    made = book({"index.html": QUARTOS}, "quarto-1.7.30")
    text = (made / "index.html").read_text("utf-8")
    assert "return window.location.protocol" not in text
    assert "try { return !window.localStorage; } catch { return true; }" in text
    asked = "'file:' ? new Promise(() => {}) : fetch(url.split('#')[0]))\n            .then(res"
    assert asked in text
    dress(made)
    assert (made / "index.html").read_text("utf-8") == text


def test_an_interval_in_a_table_stays_on_one_line(book):
    row = '<td class="x">0.9 [−0.8, 1.0], 3 seeds</td><td>[a, b, c]</td>'
    made = book({"index.html": f"<p>At [0.8, 1.0].</p><table><tr>{row}</tr></table>"})
    texts = [tag.string for tag in soup(made, "index.html").find_all(["p", "td"])]
    assert texts == ["At [0.8, 1.0].", "0.9 [−0.8,\u00a01.0], 3 seeds", "[a, b, c]"]


@pytest.mark.parametrize("site", ["", "https://example.org/b/"])
def test_card_description_and_sitemap_with_and_without_a_site(book, monkeypatch, site):
    monkeypatch.setenv(SITE, site)
    opening = '<p class="subtitle lead">Sub</p><img src="a.png" alt="a">'
    words = f"<h1>T</h1><p>{'word & ' * 60}</p>"
    made = book({"index.html": opening, "report/a b.html": words, "404.html": "<p>c</p>"})
    with Image.open(made / "reader" / "card.png") as card:
        assert card.size == CARD
        parts = [(0, 0, 1200, 110), (0, 110, 1200, 180), (100, 200, 1100, 620)]
        for part in parts:  # title, subtitle and figure
            assert card.convert("L").crop(part).getextrema()[0] < 100
    first, other = (
        {tag["property"][3:]: tag["content"] for tag in soup(made, name).select("[property]")}
        for name in ("index.html", "report/a b.html")
    )
    assert (first["title"], first["type"], other["type"]) == ("A Book", "website", "article")
    assert other["image"] == (f"{site}reader/card.png" if site else "../reader/card.png")
    assert other.get("url", "") == (f"{site}report/a%20b.html" if site else "")
    assert other["description"].startswith("word & word") and len(other["description"]) <= 202
    assert other["description"].endswith("word & …")  # cut at a word
    tree = ElementTree.parse(made / "sitemap.xml").getroot()
    listed = [loc.text for loc in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")]
    assert listed == [f"{site}index.html", f"{site}report/a%20b.html"]
