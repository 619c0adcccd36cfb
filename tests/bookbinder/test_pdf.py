"""From executed cells to one PDF: numbers, links, folded code, tags; and what is executed again."""

import os
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from making import FIGURE, WORKS, cell, png, result
from pypdf import PdfReader

from bookbinder import BookError
from bookbinder.__main__ import main
from bookbinder.execute import empty_notebook
from bookbinder.pdf import bind_pdf, typeset
from pdf_reading import bookmarks, links, spans, tags


@pytest.fixture
def pdf(book):
    return lambda *arguments: PdfReader(BytesIO(bind_pdf(*book(*arguments))))


@pytest.fixture
def source(book, tmp_path):
    """The Typst source, without what sets it up."""

    def make(*arguments: Any, **settings: str) -> str:
        (tmp_path / "out").mkdir(exist_ok=True)
        return typeset(*book(*arguments, **settings), tmp_path / "out").split("\n\n", 1)[1]

    return make


def text_of(page) -> str:
    return " ".join(page.extract_text().split())


def test_a_books_pdf_has_numbers_bookmarks_links_tags_and_alternative_texts(pdf):
    files = {
        "index.qmd": "# Preface {.unnumbered}\n\n@fig-a, @tbl-t, @eq-e and @sec-b.\n\n## Aside\n",
        "report/a.qmd": "# First\n\n## Small\n\n" + cell(*FIGURE)
        + "\nThere are `{python} n` images, $a^2$ each.\n\n$$\\sum b$$ {#eq-e}\n",
        "b.qmd": "# Second {#sec-b}\n\n| h | k |\n|---|--:|\n| one | 2 |\n\n: Pairs. {#tbl-t}\n",
        "appendix/c.qmd": "# Third\n\n## Fine\n\n### Finer\n", "appendix/d.qmd": "# Fourth\n",
    }  # fmt: skip
    outputs = {"report/a.qmd": [[result(image_png=png(60, 40))], [result(text_plain="'42'")]]}
    made = pdf(files, outputs)
    assert list(bookmarks(made)) == [
        *((1, "Preface", 2), (2, "Aside", 2), (1, "1 First", 2), (2, "1.1 Small", 2)),
        *((1, "2 Second", 2), (1, "Appendix A — Third", 2), (2, "A.1 Fine", 2)),
        *((3, "A.1.1 Finer", 2), (1, "Appendix B — Fourth", 2)),
        *((1, "The code", 2), (2, "1 First", 2)),  # chapters follow on
    ]
    title, contents, body = map(text_of, made.pages)
    assert title == "Tiny"
    assert re.sub(r"( \.)+", "", contents) == (  # without headings that have no number
        "2 Contents Preface 3 1 First 3 1.1 Small 3 2 Second 3 "
        "Appendix A — Third 3 A.1 Fine 3 Appendix B — Fourth 3 The code 3"
    )
    assert "Appendix A — Third A.1 Fine A.1.1 Finer Appendix B" in body
    assert "Figure 1.1, Table 2.1, Equation 1.1 and 2 Second." in body
    assert "There are 42 images" in body and "(1.1)" in body
    assert "Figure 1.1: A line. code 1" in body and "1 Figure 1.1, page 3 x = 1" in body
    assert "Table 2.1: Pairs. h k one 2" in body
    # from the references, and from the figure's caption to its code, and back
    assert [to for page, _, to in links(made) if page > 1] == [2] * 6
    found = [("/Figure", 'A "thin" line.'), ("/Formula", "\\sum b"), ("/Formula", "a^2")]
    assert sorted((tag, alt) for tag, alt in tags(made) if alt) == found
    assert [tag for tag, _ in tags(made)].count("/TH") == 2
    root = made.trailer["/Root"]
    assert (made.metadata.title, root["/Lang"]) == ("Tiny", "en")
    assert "<pdfuaid:part>1</pdfuaid:part>" in root["/Metadata"].get_object().get_data().decode()


def test_what_the_pages_fold_stands_at_the_end_and_the_rest_where_it_was(source):
    text = (
        *("# A\n", cell(*FIGURE, code="folded = 1"), cell("echo: false", code="silent = 3")),
        *(cell("include: false", code="absent = 4"), cell(code="alone = 5")),
        "```python\nwritten = 6\n```\n",
        '```{.python filename="a.py"}\nnamed = 7\n```\n',
    )
    files = {"a.qmd": "".join(text), "b.qmd": "# B\n" + cell(code="later = 8")}
    made = source(files, {"a.qmd": [[result(image_png=png(2, 2))], [], [], []]})
    body, end = made.split("[The code]")
    assert re.findall(r"\w+ = \d", body) == ["written = 6", "named = 7"]
    assert re.search(r'#book.listing\(file: "a.py"\)\[\s*```python\nnamed', body)
    assert re.findall(r"\w+ = \d", end) == ["folded = 1", "alone = 5", "later = 8"]
    assert re.findall(r"#book\.code-mark\(number: (\d)\)", body) == ["1", "2", "3"]
    assert re.findall(r"#book\.code-cell\(number: (\d)", end) == ["1", "2", "3"]
    assert re.search(r"A #emph\[line\]\. #book\.code-mark\(number: 1\)\s*\]\[", body)
    assert 'number: 1, what: "Figure\u00a01.1"' in end and 'number: 2, what: ""' in end
    made = source({"a.qmd": "# A\n" + cell()}, fold="false")
    assert "```python\nx = 1\n```" in made and "[The code]" not in made


def test_links_callouts_claims_intervals_and_raw_html(source):
    made = source({"report/b.qmd": "# B\n\n## There\n", "report/a.qmd": (
        "# A {#sec-a}\n\n## Here\n\n[up](../index.qmd), [self](#here), [*far*](b.qmd#there), [the "
        "atlas](../atlas.html), [claims.json](../claims.json), [web](https://example.org/x).\n\n"
        '::: {.callout-tip title="Do"}\nIt.\n:::\n\n'
        "::: {.callout-note collapse='true'}\n## Mind *it*\nNow.\n:::\n\n"
        "::: {.claim .claim-fails}\nNo.\n:::\n\n::: {.claim .claim-undecided}\nEh.\n:::\n\n"
        "`[1, 2]`\n\n| a |\n|---|\n| 0.9 [0.8, 1.0], 3 seeds |\n\n"
        "It is <b>7</b>.\n\n```{=html}\n<p>Only <em>raw</em></p>\n```\n"
    )})  # fmt: skip
    made = re.sub(r"\s*([][])\s*", r"\1", made)
    assert '#book.inside(name: "index")[up]' in made
    assert '#book.inside(name: "report.a:here")[self]' in made and "<report.a:here>" in made
    assert '#book.inside(name: "report.b:there")[#emph[far]]' in made and "<report.b:there>" in made
    assert "atlas~(`atlas.html`), claims.json," in " ".join(made.split())
    assert '#link("https://example.org/x")[web]' in made
    assert '#book.callout(kind: "tip")[Do][It.]' in made
    assert '#book.callout(kind: "note")[Mind #emph[it]][Now.]' in made
    for outcome, told in (("fails", "No"), ("undecided", "Eh")):
        assert f'#book.claim(outcome: "claim-{outcome}")[{told}.]' in made
    assert "0.9 \\[0.8,~1.0\\], 3 seeds" in made and "`[1, 2]`" in made  # on one line
    assert "It is 7." in made and "raw" not in made  # raw HTML stays with the pages


def test_the_works_cited_make_one_bibliography_at_the_end_or_in_its_place(source):
    files = {"a.qmd": "# A\nAs @knuth1984 says.\n", "b.qmd": "# B\nSee [@turing1950].\n"}
    body, references = source(files | {"r.bib": WORKS}).split("[References]")
    assert "As Knuth (#link(<ref-knuth1984>)[1984])" in body
    assert "Literate" in references and "Machinery" in references and "Nothing" not in references
    files = {"s.qmd": "# Sources {.unnumbered}\n\n::: {#refs}\n:::\n", **files, "r.bib": WORKS}
    made = source(files)
    assert made.index("[Sources]") < made.index("#book.bibliography-list") < made.index("= A")
    assert "[References]" not in made


def test_wide_tables_and_long_lines_stay_on_the_page(pdf):
    row, head = "0.123 [0.100, 0.150] |" * 14, "".join(f"column{i} |" for i in range(14))
    code = f"```python\n{'name = ' + ' + '.join(['value'] * 60)}\n```\n"
    made = pdf({"a.qmd": f"# A\n\n| {head}\n|{'---|' * 14}\n" + f"| {row}\n" * 3 + f"\n{code}"})
    ends = [end for page in made.pages for _, end in spans(page)]
    assert max(ends) < float(made.pages[0].mediabox.width) - 28  # 1 cm
    assert text_of(made.pages[2]).count("0.150]") == 3 * 14


def test_no_cell_of_a_table_is_taken_for_markup(pdf):
    cells = ["= 0.1", "- 5", "+ 6", "1. 8", "/ term: x", "*a* = #let @b ~ $"]
    rows = "".join("| " + re.sub(r"([*@$~])", r"\\\1", text) + " |\n" for text in cells)
    made = pdf({"a.qmd": f"# A\n\n| head |\n|---|\n{rows}"})
    assert text_of(made.pages[2]).endswith(f"1 A head {' '.join(cells)}")
    assert not {"/H2", "/L", "/LI"} & {kind for kind, _ in tags(made)}


@pytest.mark.parametrize(
    ("text", "told"), [("See [x](b.qmd#gone).\n", ".*b:gone"), ("### Deep\n", ".*heading")]
)
def test_what_cannot_be_set_is_refused(pdf, text, told):
    with pytest.raises(BookError, match=r"^_quarto\.yml:1: Typst cannot set this book: " + told):
        pdf({"a.qmd": f"# A\n\n{text}", "b.qmd": "# B\n"})


@pytest.fixture
def executed(monkeypatch) -> list[str]:
    """The files of the chapters that were executed; no kernel runs, all code gives "42"."""
    files = []

    def execute(book, chapters) -> dict:
        notebooks = {chapter.file: empty_notebook(chapter) for chapter in chapters}
        for given in (given for notebook in notebooks.values() for given in notebook.cells):
            given.outputs = [result(text_plain="'42'")]
        files.extend(notebooks)
        return notebooks

    monkeypatch.setattr("bookbinder.build.execute", execute)
    return files


def test_the_pdf_has_the_cells_of_the_last_build_until_they_are_stale(project, executed, capsys):
    closing = "---\nbookbinder:\n  after: all\n  always: true\n---\n\n# B\n\n`{python} x`\n"
    root = project({"a.qmd": "# A\n\n`{python} x`\n", "b.qmd": closing, "code/module.py": ""})
    os.utime(root / "code/module.py", (0, 0))

    def run(*arguments: str) -> list[str]:
        executed.clear()
        assert main(["--project", str(root), *arguments]) == 0
        return [file for file in executed if file != "index.qmd"]  # which has no code

    assert run() == ["a.qmd", "b.qmd"]
    page = (root / "_book/a.html").read_bytes()
    assert run("--pdf") == []
    assert (root / "_book/a.html").read_bytes() == page  # the PDF joins the pages
    file = root / "_book" / "Tiny.pdf"
    assert "1 A 42" in text_of(PdfReader(file).pages[2])
    assert str(Path("_book", "Tiny.pdf")) in capsys.readouterr().out
    (root / "a.qmd").write_text("# Another\n\n`{python} x`\n")
    assert run("--pdf") == ["a.qmd", "b.qmd"]  # what is marked `always` goes with it
    assert "1 Another 42" in text_of(PdfReader(file).pages[2])
    os.utime(root / "code/module.py", (2e9, 2e9))
    assert run("--pdf") == ["a.qmd", "b.qmd"]
    # one that fails leaves the last good one, and it is of the whole book
    good = file.read_bytes()
    (root / "a.qmd").write_text("# A\n\n[x](#gone)\n")
    assert main(["--project", str(root), "--pdf"]) == 1
    assert "gone" in capsys.readouterr().err and file.read_bytes() == good
    with pytest.raises(SystemExit):
        main(["--project", str(root), "--pdf", "--chapter", "a.qmd"])
