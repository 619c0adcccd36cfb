"""From executed cells to pages: numbers, references, outputs. No kernel is started here."""

import base64

import pytest
from making import FIGURE, WORKS, cell, png, result, stream

from bookbinder import BookError


def texts(page, selector: str) -> list[str]:
    return [" ".join(tag.get_text().split()) for tag in page.select(selector)]


def linked(page) -> list[tuple[str, str]]:
    links = page.select("main > p a")
    return [(a.get_text().replace("\xa0", " "), a["href"]) for a in links]


def test_sections_are_numbered_and_pages_know_their_neighbours_and_assets(pages, tmp_path):
    text = "# A {#sec-a}\n## One\n### Deep\n### Deeper\n## Aside {.unnumbered}\n## Two\n### Last\n"
    made = pages({"report/a.qmd": text, "report/b.qmd": "# B\n## Here\n"})
    page = made["report/a.html"]
    numbered = ["1 A", "1.1 One", "1.1.1 Deep", "1.1.2 Deeper", "Aside", "1.2 Two", "1.2.1 Last"]
    assert texts(page, "h1, main h2, main h3") == numbered
    assert texts(made["report/b.html"], "main h2") == ["2.1 Here"]
    assert page.h1["id"] == "sec-a" and page.title.get_text() == "A – Tiny"
    assert page.select_one("a[rel=prev]")["href"] == "../index.html"
    assert page.select_one("a[rel=next]")["href"] == "b.html"
    assert texts(page, "#book-chapters [aria-current=page]") == ["1 A"]
    for asset in [page.select_one("link[rel=stylesheet]")["href"], page.script["src"]]:
        assert (tmp_path / "out/report" / asset).is_file()


def test_references_lead_across_chapters(pages):
    made = pages({
        "index.qmd": "# P {.unnumbered}\n## Own\n![Cap](a.svg){#fig-p fig-alt='x'}\n\n"
        "@sec-a, @sec-s, @tbl-t, [-@eq-e], [panel @fig-f; @tbl-t].\n",
        "report/a.qmd": "# A {#sec-a}\n## S {#sec-s}\n![C](a.svg){#fig-f fig-alt='x'}\n\n"
        "| a |\n|---|\n| 1 |\n\n: T {#tbl-t}\n\n$$a\nb$$ {#eq-e}\n\nBack to @fig-f.\n",
        "a.svg": "<svg/>", "report/a.svg": "<svg/>",
        "other/b.qmd": "# B\n@fig-f, @sec-a, [-@sec-s], @fig-p and [it](../report/a.qmd#sec-s)\n",
    })  # fmt: skip
    # an unnumbered page has plain figure numbers, and speaks of titles, as in Quarto
    assert texts(made["index.html"], "main h2, figcaption") == ["Own", "Figure 1: Cap"]
    assert linked(made["index.html"]) == [
        *(("1 A", "report/a.html#sec-a"), ("S", "report/a.html#sec-s")),
        *(("Table 1.1", "report/a.html#tbl-t"), ("1.1", "report/a.html#eq-e")),
        *(("panel 1.1", "report/a.html#fig-f"), ("Table 1.1", "report/a.html#tbl-t")),
    ]
    here = made["report/a.html"]
    assert linked(here) == [("Figure 1.1", "#fig-f")]
    assert texts(here, "figcaption") == ["Figure 1.1: C", "Table 1.1: T"]
    assert here.select_one("#eq-e math") and texts(here, "#eq-e .equation-number") == ["(1.1)"]
    assert linked(made["other/b.html"]) == [
        *(("Figure 1.1", "../report/a.html#fig-f"), ("Chapter 1", "../report/a.html#sec-a")),
        *(("1.1", "../report/a.html#sec-s"), ("Figure 1", "../index.html#fig-p")),
        ("it", "../report/a.html#sec-s"),
    ]


def test_appendices_have_letters_and_stand_in_a_part_of_their_own(pages):
    names = "@sec-a, @sec-s, [-@sec-a], @fig-f, @sec-c.\n"
    made = pages({
        "index.qmd": f"# P {{.unnumbered}}\n{names}", "a.svg": "<svg/>",
        "one.qmd": f"# One {{#sec-c}}\n{names}",
        "appendix/a.qmd": "# Add {#sec-a}\n## S {#sec-s}\n### T\n"
        "![C](../a.svg){#fig-f fig-alt='x'}\n",
        "appendix/u.qmd": "# Last {.unnumbered}\n## V\n", "appendix/b.qmd": "# Bed\n@sec-a\n",
    })  # fmt: skip
    page = made["appendix/a.html"]
    assert texts(page, "h1, main h2, main h3") == ["Appendix A — Add", "A.1 S", "A.1.1 T"]
    assert texts(page, "figcaption") == ["Figure A.1: C"]
    assert texts(made["appendix/b.html"], "h1") == ["Appendix B — Bed"]
    assert texts(made["appendix/u.html"], "h1, main h2") == ["Last", "V"]
    listed = page.select("#book-chapters > ul > li")
    assert [li.get_text(" ", strip=True).split() for li in listed] == [
        ["P"], ["1", "One"], ["Appendices", "A", "Add", "Last", "B", "Bed"]
    ]  # fmt: skip
    assert texts(page, "#book-chapters > ul > li > ul a") == ["A Add", "Last", "B Bed"]
    assert page.select_one("a[rel=prev]")["href"] == "../one.html"
    # as Quarto has them, on a numbered page and on one that is not
    here = ["Appendix A", "Section A.1", "A", "Figure A.1", "Chapter 1"]
    assert [text for text, _ in linked(made["one.html"])] == here
    there = ["Appendix A — Add", "S", "Appendix A — Add", "Figure A.1", "1 One"]
    assert [text for text, _ in linked(made["index.html"])] == there
    assert linked(made["appendix/b.html"]) == [("Appendix A", "a.html#sec-a")]


PRINTED = cell(code="print('{#tbl-a}')")
IMAGE = result(image_png=png(2, 2))
HTML = result(text_html="<b>a</b>", text_markdown="**a**")


@pytest.mark.parametrize(
    ("text", "outputs", "message"),
    [
        ("See @sec-p.\n", [], "@sec-p is not numbered"),
        ("See @tbl-a.\n\n" + PRINTED, [[]], "@tbl-a is defined by no output"),
        ("[x](gone.qmd)\n", [], r"link to gone\.qmd"),
        ("![C](gone.png)\n", [], r"no image file gone\.png"),
        ("![](a.svg)\n", [], r"image a\.svg has no fig-alt"),
        ("[@nobody2000]\n", [], "@nobody2000 is not in the bibliography"),
        ("[@fig-f; @nobody2000] ![C](a.svg){#fig-f}\n", [], "@fig-f among citations"),
        ("$$\\undefined{$$\n", [], "pandoc does not understand"),
        (cell(), [[HTML]], "HTML output.*; return Markdown"),
        ("`{python} x`\n", [[HTML]], "HTML output.*; return Markdown"),
        ("`{python} x`\n", [[result(text_plain="np.float64(0.5)")]], r"`x` gives np\.float64\(0"),
        (cell(*FIGURE), [[stream("x")]], "cell fig-a shows 0 images"),
        (cell(*FIGURE), [[IMAGE, IMAGE]], "cell fig-a shows 2 images"),
        (cell("label: tbl-a", "tbl-cap: T"), [[]], "cell tbl-a shows no table"),
        (cell(), [[IMAGE]], "an image without alternative text.*fig-alt"),
    ],
)
def test_what_leads_nowhere_or_cannot_be_shown_is_refused(pages, text, outputs, message):
    files = {"index.qmd": "# P {#sec-p .unnumbered}\n", "a.svg": "<svg/>", "r.bib": WORKS}
    with pytest.raises(BookError, match=rf"^a\.qmd:{3 if text[0] != '$' else 1}: {message}"):
        pages(files | {"a.qmd": "# A\n\n" + text}, {"a.qmd": outputs})


def test_a_label_that_is_printed_twice_is_refused(pages):
    table = [[result(text_markdown="| a |\n|--|\n| 1 |\n\n: T {#tbl-a}")]]
    with pytest.raises(BookError, match=r"^b\.qmd:3: label tbl-a stands twice"):
        sources = dict.fromkeys(("a.qmd", "b.qmd"), f"# A\n{PRINTED}")
        pages(sources, dict.fromkeys(sources, table))


def test_inline_values_stand_in_prose_headings_and_titles(pages):
    plain, markdown = result(text_plain="'*a* <b> $x$ `c`'"), result(text_markdown="**a**")
    outputs = [[result(text_plain="0.5")], [result(text_plain="'4'")], [plain], [markdown], []]
    text = "# A `{python} x`\n## B `{python} y`\n`{python} x`; `{python} x`; `{python} x`\n"
    made = pages({"a.qmd": text}, {"a.qmd": outputs})
    assert texts(made["a.html"], "h1, main h2") == ["1 A 0.5", "1.1 B 4"]
    assert texts(made["index.html"], "#book-chapters a") == ["Preface", "1 A 0.5"]
    shown = made["a.html"].select_one("main > p").decode_contents(formatter="minimal")
    assert shown == "*a* &lt;b&gt; $x$ `c`; <strong>a</strong>; None"


@pytest.mark.parametrize("fold", ["true", "false"])
@pytest.mark.parametrize("option", ["echo: true", "echo: false", "include: false"])
def test_code_is_folded_or_open_or_absent_and_warnings_are_shown_if_wanted(pages, fold, option):
    outputs = [stream("out <1>\n```\n"), stream("careful", "stderr"), result(text_plain="42")]
    text = "# A\n" + cell(option, code="x = '`'")
    page = pages({"a.qmd": text}, {"a.qmd": [outputs]}, fold=fold, warning=fold)["a.html"]
    shown = ["x = '`'"] if option == "echo: true" else []
    assert [code.get_text() for code in page.select("main pre.python")] == shown
    folded = page.select("main details:not([open]) pre.python")
    assert len(folded) == (fold == "true" and len(shown))
    assert texts(page, "main summary") == ["Show the code"] * len(folded)
    printed = ["out <1>\n```", *["careful"] * (fold == "true"), "42"]
    printed = [] if option == "include: false" else printed
    assert [pre.get_text() for pre in page.select("pre.output")] == printed


def test_returned_markdown_is_markdown_and_an_escaped_cell_is_shown_and_not_run(pages):
    claim = "::: {.claim .claim-holds}\n**Holds** at @tbl-t\n:::\n"
    markdown = claim + "\n| a |\n|--|\n| 1 |\n\n: T {#tbl-t}\n"
    shown = '````{.markdown filename="b.qmd"}\n# B\n```{{python}}\n#| echo: false\n```\n````\n'
    text = "# A\n" + cell(code="Markdown('{#tbl-t}')") + "After @tbl-t.\n\n" + shown
    page = pages({"a.qmd": text}, {"a.qmd": [[result(text_markdown=markdown)]]})["a.html"]
    assert texts(page, ".claim.claim-holds strong") == ["Holds"]
    assert texts(page, "figcaption, a.xref") == ["Table 1.1", "Table 1.1: T", "Table 1.1"]
    assert page.select_one("#tbl-t .table-scroll table")
    block = page.select_one("div.sourceCode[data-filename='b.qmd'] code")
    assert block.get_text() == "# B\n```{python}\n#| echo: false\n```"


def test_table_and_figure_cells_get_numbers_captions_and_their_content(pages, tmp_path):
    table = result(text_plain="x", text_markdown="| a | b |\n|:--|--:|\n| 1 | 2 |")
    size = {"image/png": {"width": 3, "height": 2}}  # retina: half its pixels
    figure = [result(size, image_png=png(6, 4), text_plain="<Figure>"), stream("note")]
    text = "# A\n" + cell("label: tbl-a", "tbl-cap: Pairs, as in @sec-s.") + "## S {#sec-s}\n"
    files = {"report/a.qmd": text + cell(*FIGURE)}
    page = pages(files, {"report/a.qmd": [[table], figure]})["report/a.html"]
    captions = ["Table 1.1: Pairs, as in Section 1.1.", "Figure 1.1: A line."]
    assert texts(page, "figcaption") == captions
    assert texts(page, "figure#tbl-a td") == ["1", "2"]
    parts = [tag.name for tag in page(["figcaption", "table", "img"])]
    assert parts == ["figcaption", "table", "img", "figcaption"]
    image = page.select_one("figure#fig-a.float-fig img")
    assert image.attrs == {
        **{"src": "a_files/figure-html/fig-a.png", "alt": 'A "thin" line.'},
        **{"loading": "lazy", "width": "3", "height": "2"},
    }
    assert (tmp_path / "out/report" / image["src"]).read_bytes() == base64.b64decode(png(6, 4))
    assert [pre.get_text() for pre in page.select("pre.output")] == ["note"]


def test_a_picture_within_a_cells_markdown_becomes_a_file(pages, tmp_path):
    picture = f"![](data:image/png;base64,{png(6, 4)}){{fig-alt='White.' width=3}}"
    output = result(text_plain="x", text_markdown=f"| a |\n|---|\n| {picture} |")
    page = pages({"report/a.qmd": "# A\n" + cell()}, {"report/a.qmd": [[output]]})["report/a.html"]
    (image,) = page.select("td img")
    assert image["alt"] == "White." and image["width"] == "3"
    assert image["src"].startswith("a_files/figure-html/")
    assert (tmp_path / "out/report" / image["src"]).read_bytes() == base64.b64decode(png(6, 4))


def test_callouts(pages):
    page = pages({"a.qmd": (
        "# A\n::: {.callout-note}\nOne $$a$$ {#eq-a}\n:::\n\n"
        '::: {.callout-tip title="Do"}\nTwo\n:::\n\n'
        '::: {.callout-warning collapse="true"}\n## Mind *it*\nThree\n:::\n\n'
        "::: {.callout-important collapse='false'}\nFour\n:::\n\n## Real\n"
    )})["a.html"]  # fmt: skip
    assert texts(page, ".callout .callout-title") == ["Note", "Do", "Mind it", "Important"]
    assert [p[:5] for p in texts(page, ".callout > p")] == ["One a", "Two", "Three", "Four"]
    assert texts(page, ".callout-note .equation-number") == ["(1.1)"]
    assert not page.select_one("details.callout-warning").has_attr("open")
    assert page.select_one("details.callout-important").has_attr("open")
    assert texts(page, "main h2") == ["1.1 Real"]


def test_citations_are_listed_on_their_page_and_in_the_references(pages):
    made = pages({
        "a.qmd": "# A\nAs @knuth1984 says.\n", "b.qmd": "# B\nSee [@turing1950].\n",
        "references.qmd": "# References {.unnumbered}\n::: {#refs}\n:::\n", "r.bib": WORKS,
    })  # fmt: skip
    assert texts(made["a.html"], "main > p") == ["As Knuth (1984) says."]
    knuth, turing = "ref-knuth1984", "ref-turing1950"
    expected = {"a.html": [knuth], "b.html": [turing], "references.html": [knuth, turing]}
    for name, page in made.items():
        assert [entry["id"] for entry in page.select(".csl-entry")] == expected.get(name, [])
