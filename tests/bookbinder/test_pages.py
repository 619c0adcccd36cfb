"""From executed cells to pages: numbers, references, outputs. No kernel is started here."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import nbformat
import pytest

from bookbinder import BookError


def result(metadata: dict[str, Any] | None = None, /, **data: str) -> nbformat.NotebookNode:
    """A returned value; its MIME types are written with _ for /: text_plain, image_png …"""
    data = {kind.replace("_", "/", 1): value for kind, value in data.items()}
    return nbformat.v4.new_output("execute_result", data, metadata=metadata or {})


def stream(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", name=name, text=text)


def png(width: int, height: int) -> str:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xff" * width) * height)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + data).decode()


def texts(page, selector: str) -> list[str]:
    return [
        " ".join(found.get_text().replace("\xa0", " ").split()) for found in page.select(selector)
    ]


def linked(page) -> list[tuple[str, str]]:
    links = page.select("main > p a")
    return [(a.get_text().replace("\xa0", " "), a["href"]) for a in links]


def cell(*options: str, code: str = "1") -> str:
    return "```{python}\n" + "".join(f"#| {o}\n" for o in options) + code + "\n```\n"


FIGURE = ("label: fig-a", "fig-cap: A *line*.", 'fig-alt: A "thin" line.')


def test_sections_are_numbered_within_their_chapter(pages):
    text = "# A {#sec-a}\n## One\n### Deep\n### Deeper\n## Aside {.unnumbered}\n## Two\n### Last\n"
    made = pages({"report/a.qmd": text, "b.qmd": "# B\n## Here\n"})
    assert texts(made["report/a.html"], "h1, h2, h3")[:-1] == [
        "1 A",
        "1.1 One",
        "1.1.1 Deep",
        "1.1.2 Deeper",
        "Aside",
        "1.2 Two",
        "1.2.1 Last",
    ]
    assert texts(made["b.html"], "main h2") == ["2.1 Here"]
    assert made["report/a.html"].h1["id"] == "sec-a"


def test_an_unnumbered_chapter_has_plain_figure_numbers_and_no_section_numbers(pages):
    text = "# P {.unnumbered}\n## S\n![Cap](a.svg){#fig-p fig-alt='x'}\n"
    made = pages({"index.qmd": text, "a.svg": "<svg/>", "a.qmd": "# A\nSee @fig-p.\n"})
    assert texts(made["index.html"], "main h2, figcaption") == ["S", "Figure 1: Cap"]
    assert texts(made["a.html"], "main p a") == ["Figure 1"]


def test_references_lead_across_chapters(pages):
    files = {
        "index.qmd": (
            "# P {.unnumbered}\n@sec-a, @sec-s, @tbl-t, [-@eq-e], [panel @fig-f; @tbl-t].\n"
        ),
        "report/a.qmd": (
            "# A {#sec-a}\n## S {#sec-s}\n![C](a.svg){#fig-f fig-alt='x'}\n\n"
            "| a |\n|---|\n| 1 |\n\n: T {#tbl-t}\n\n$$a$$ {#eq-e}\n\nBack to @fig-f.\n"
        ),
        "report/a.svg": "<svg/>",
        "other/b.qmd": "# B\n@fig-f, @sec-a, [-@sec-s] and [there](../report/a.qmd#sec-s)\n",
    }
    made = pages(files)
    assert linked(made["index.html"]) == [
        ("1 A", "report/a.html#sec-a"),  # an unnumbered page speaks of titles, as in Quarto
        ("S", "report/a.html#sec-s"),
        ("Table 1.1", "report/a.html#tbl-t"),
        ("1.1", "report/a.html#eq-e"),
        ("panel 1.1", "report/a.html#fig-f"),
        ("Table 1.1", "report/a.html#tbl-t"),
    ]
    here = made["report/a.html"]
    assert here.select_one("main > p a.xref")["href"] == "#fig-f"
    assert texts(here, "figcaption") == ["Figure 1.1: C", "Table 1.1: T"]
    assert here.select_one("#eq-e math") and texts(here, "#eq-e .equation-number") == ["(1.1)"]
    assert linked(made["other/b.html"]) == [
        ("Figure 1.1", "../report/a.html#fig-f"),
        ("Chapter 1", "../report/a.html#sec-a"),
        ("1.1", "../report/a.html#sec-s"),
        ("there", "../report/a.html#sec-s"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# A\n\nSee @sec-p.\n", r"a\.qmd:3: @sec-p is not numbered"),
        ("# A\n\n\n[x](gone.qmd)\n", r"a\.qmd:4: link to gone\.qmd"),
        ("# A\n\n![C](gone.png)\n", r"a\.qmd:3: no image file gone\.png"),
        ("# A\n\n![](a.svg)\n", r"a\.qmd:3: image a\.svg has no fig-alt"),
        ("# A\n\n\n\n[@nobody2000]\n", r"a\.qmd:5: @nobody2000 is not in the bibliography"),
        ("# A\n\n[@fig-f; @nobody2000] ![C](a.svg){#fig-f}\n", r"a\.qmd:3: @fig-f among citations"),
        ("# A\n\n$$\\undefined{$$\n", r"a\.qmd:1: pandoc does not understand"),
    ],
)
def test_what_leads_nowhere_is_refused(pages, text, message):
    files = {
        "index.qmd": "# P {#sec-p .unnumbered}\n",
        "a.qmd": text,
        "a.svg": "<svg/>",
        "r.bib": "@book{b, title={B}, year=2000}",
    }
    with pytest.raises(BookError, match="^" + message):
        pages(files)


def test_a_remote_resource_in_an_output_is_refused(pages):
    html = stream('<script src="https://example.org/x.js"></script>')
    with pytest.raises(BookError, match=r"a\.qmd:1: the page would load .*example\.org"):
        pages({"a.qmd": "# A\n" + cell("output: asis")}, {"a.qmd": [[html]]})


@pytest.mark.parametrize("options", [[], ["include: false"], ["output: asis"]])
def test_an_html_output_is_refused_because_of_what_quarto_makes_of_it(pages, options):
    html = result(text_html="<b>a</b>", text_markdown="**a**")
    with pytest.raises(BookError, match=r"^a\.qmd:2: HTML output.*; return Markdown"):
        pages({"a.qmd": "# A\n" + cell(*options)}, {"a.qmd": [[html]]})


@pytest.mark.parametrize(
    ("output", "html"),
    [
        ([result(text_plain="0.5")], "0.5"),
        ([result(text_plain="'95%'")], "95%"),
        ([result(text_plain="'*a* <b> $x$ `c`'")], "*a* &lt;b&gt; $x$ `c`"),
        ([result(text_plain="<X>", text_markdown="**a**")], "<strong>a</strong>"),
        ([result(text_plain="<X>", text_html="<b>a</b>")], "<b>a</b>"),
        ([], "None"),
    ],
)
def test_inline_values(pages, output, html):
    made = pages({"a.qmd": "# A\nIt is `{python} x`.\n"}, {"a.qmd": [output]})
    assert (
        made["a.html"].select_one("main > p").decode_contents(formatter="minimal")
        == f"It is {html}."
    )


def test_inline_values_stand_in_headings_and_titles(pages):
    values = [[result(text_plain="3")], [result(text_plain="4")]]
    made = pages({"a.qmd": "# A `{python} x`\n## B `{python} y`\n"}, {"a.qmd": values})
    assert texts(made["a.html"], "h1, main h2") == ["1 A 3", "1.1 B 4"]
    assert texts(made["index.html"], "#book-chapters a") == ["Preface", "1 A 3"]


def test_a_bare_numpy_number_in_prose_is_refused(pages):
    with pytest.raises(BookError, match=r"a\.qmd:2: `x` gives np\.float64\(0\.5\); format it"):
        pages({"a.qmd": "# A\n`{python} x`\n"}, {"a.qmd": [[result(text_plain="np.float64(0.5)")]]})


@pytest.mark.parametrize(
    ("options", "folded", "summary"),
    [
        ([], "closed", "Show the code"),
        (["code-fold: show"], "open", "Show the code"),
        (["code-summary: See <it>"], "closed", "See <it>"),
        (["code-fold: false"], "not", ""),
        (["echo: false"], "absent", ""),
        (["include: false"], "absent", ""),
    ],
)
def test_code_folding(pages, options, folded, summary):
    page = pages({"a.qmd": "# A\n" + cell(*options, code="x = '`'")})["a.html"]
    details, code = page.select_one("main details"), page.select_one("main pre.python")
    assert (code is None) == (folded == "absent")
    assert (details is None) == (folded in ("not", "absent"))
    if details:
        assert details.has_attr("open") == (folded == "open")
        assert details.summary.get_text() == summary
        assert details.select_one("pre.python").get_text() == "x = '`'"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], ["out <1>\n```", "42"]),
        (["warning: true"], ["out <1>\n```", "careful", "42"]),
        (["output: false"], []),
        (["include: false"], []),
    ],
)
def test_text_outputs(pages, options, shown):
    outputs = [stream("out <1>\n```\n"), stream("careful", "stderr"), result(text_plain="42")]
    page = pages({"a.qmd": "# A\n" + cell(*options)}, {"a.qmd": [outputs]})["a.html"]
    assert [pre.get_text() for pre in page.select("pre.output")] == shown


def test_printed_markdown_is_markdown_if_the_cell_says_so(pages):
    claim = "::: {.claim .claim-holds}\n**Holds** at @tbl-t\n:::\n"
    printed = claim + "\n| a |\n|--|\n| 1 |\n\n: T {#tbl-t}\n"
    text = "# A\n" + cell("output: asis", code="print('{#tbl-t}')") + "After @tbl-t.\n"
    page = pages({"a.qmd": text}, {"a.qmd": [[stream(printed)]]})["a.html"]
    assert texts(page, ".claim.claim-holds strong") == ["Holds"]
    assert texts(page, "figcaption") == ["Table 1.1: T"]
    assert texts(page, "a.xref") == ["Table 1.1", "Table 1.1"]


def test_a_table_cell_gets_number_and_caption(pages):
    table = result(text_plain="x", text_markdown="| a | b |\n|:--|--:|\n| 1 | 2 |")
    text = "# A\n" + cell("label: tbl-a", "tbl-cap: Pairs, as in @sec-s.") + "## S {#sec-s}\n"
    page = pages({"a.qmd": text}, {"a.qmd": [[table]]})["a.html"]
    assert texts(page, "figure#tbl-a figcaption") == ["Table 1.1: Pairs, as in Section 1.1."]
    assert texts(page, "figure#tbl-a td") == ["1", "2"]


def test_a_figure_cell_gets_number_caption_and_a_lazy_image_of_half_its_pixels(pages, tmp_path):
    outputs = [result(image_png=png(6, 4), text_plain="<Figure>"), stream("note")]
    text = "# A\n" + cell(*FIGURE, "column: page") + "@fig-a\n"
    page = pages({"report/a.qmd": text}, {"report/a.qmd": [outputs]})["report/a.html"]
    figure = page.select_one("figure#fig-a.column-page")
    assert texts(figure, "figcaption") == ["Figure 1.1: A line."]
    assert figure.img.attrs == {
        "src": "a_files/figure-html/fig-a.png",
        "alt": 'A "thin" line.',
        "loading": "lazy",
        "width": "3",
        "height": "2",
    }
    file = tmp_path / "out" / "report" / figure.img["src"]
    assert file.read_bytes() == base64.b64decode(png(6, 4))
    assert [pre.get_text() for pre in page.select("pre.output")] == ["note"]


def test_a_given_image_width_is_kept(pages):
    output = result({"image/png": {"width": 100, "height": 50}}, image_png=png(6, 4))
    page = pages({"a.qmd": "# A\n" + cell(*FIGURE)}, {"a.qmd": [[output]]})["a.html"]
    assert (page.figure.img["width"], page.figure.img["height"]) == ("100", "50")


@pytest.mark.parametrize("outputs", [[], [result(image_png=png(2, 2))] * 2])
def test_a_figure_cell_without_exactly_one_image_is_refused(pages, outputs):
    outputs = [*outputs, stream("x")]
    message = rf"^a\.qmd:2: cell fig-a shows {len(outputs) - 1} images"
    with pytest.raises(BookError, match=message):
        pages({"a.qmd": "# A\n" + cell(*FIGURE)}, {"a.qmd": [outputs]})


def test_an_image_without_alternative_text_is_refused(pages):
    with pytest.raises(BookError, match=r"^a\.qmd:3: .*fig-alt"):
        pages({"a.qmd": "# A\n\n" + cell()}, {"a.qmd": [[result(image_png=png(2, 2))]]})


def test_callouts(pages):
    text = (
        '# A\n::: {.callout-note}\nOne\n:::\n\n::: {.callout-tip title="Do"}\nTwo\n:::\n\n'
        '::: {.callout-warning collapse="true"}\n## Mind *it*\nThree\n:::\n\n## Real\n'
    )
    page = pages({"a.qmd": text})["a.html"]
    assert texts(page, ".callout .callout-title") == ["Note", "Do", "Mind it"]
    assert texts(page, ".callout > p") == ["One", "Two", "Three"]
    assert not page.select_one("details.callout-warning").has_attr("open")
    assert texts(page, "main h2") == ["1.1 Real"]


def test_citations_are_listed_on_their_page_and_in_the_references(pages):
    files = {
        "a.qmd": "# A\nAs @knuth1984 says.\n",
        "b.qmd": "# B\nSee [@turing1950].\n",
        "references.qmd": "# References {.unnumbered}\n::: {#refs}\n:::\n",
        "r.bib": (
            "@book{knuth1984, author={Knuth, Donald}, title={Literate}, year=1984}\n"
            "@book{turing1950, author={Turing, Alan}, title={Machinery}, year=1950}\n"
            "@book{unread2000, author={Unread, Una}, title={Nothing}, year=2000}\n"
        ),
    }
    made = pages(files)
    assert texts(made["a.html"], "main > p") == ["As Knuth (1984) says."]
    entries = {name: [e["id"] for e in made[name].select(".csl-entry")] for name in made}
    assert entries == {
        "index.html": [],
        "a.html": ["ref-knuth1984"],
        "b.html": ["ref-turing1950"],
        "references.html": ["ref-knuth1984", "ref-turing1950"],
    }


def test_pages_know_their_neighbours_and_the_way_to_their_assets(pages, tmp_path):
    made = pages({"report/a.qmd": "# A\n", "report/b.qmd": "# B\n"})
    page = made["report/a.html"]
    assert page.select_one("a[rel=prev]")["href"] == "../index.html"
    assert page.select_one("a[rel=next]")["href"] == "b.html"
    assert texts(page, "#book-chapters [aria-current=page]") == ["1 A"]
    assert page.title.get_text() == "A – Tiny"
    for asset in [page.select_one("link[rel=stylesheet]")["href"], page.script["src"]]:
        assert (tmp_path / "out/report" / asset).is_file()


def test_a_cell_within_a_block_of_more_backquotes_is_shown_and_not_run(pages):
    cell = "```{{python}}\n#| echo: false\nx\n```\n"
    text = '# A\n````{.markdown filename="b.qmd"}\n# B\n\n' + cell + "````\n"
    page = pages({"a.qmd": text})["a.html"]
    block = page.select_one("div.sourceCode[data-filename='b.qmd'] code")
    assert block.get_text() == "# B\n\n```{python}\n#| echo: false\nx\n```"
