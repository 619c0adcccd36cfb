"""From executed cells to one PDF: numbers, links, folded code, tags; and what is executed again."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from PIL import Image
from pypdf import PdfReader

from bookbinder import BookError
from bookbinder.__main__ import main
from bookbinder.execute import _empty_notebook
from bookbinder.pdf import bind_pdf, typeset
from bookbinder.source import read_book


def result(**data: str) -> nbformat.NotebookNode:
    data = {kind.replace("_", "/", 1): value for kind, value in data.items()}
    return nbformat.v4.new_output("execute_result", data)


def png(width: int, height: int) -> str:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def cell(*options: str, code: str = "x = 1") -> str:
    return "```{python}\n" + "".join(f"#| {o}\n" for o in options) + code + "\n```\n"


FIGURE = ("label: fig-a", "fig-cap: A *line*.", 'fig-alt: A "thin" line.')


@pytest.fixture
def book(project) -> Callable[..., tuple]:
    """(book, notebooks) of a project whose code gave `outputs` {file: [those of each piece]}."""

    def make(files: dict[str, str], outputs: dict[str, list[list[Any]]] | None = None) -> tuple:
        made = read_book(project(files))
        notebooks = {}
        for chapter in made.chapters:
            given = (outputs or {}).get(chapter.file, [[] for _ in chapter.code])
            cells = [nbformat.v4.new_code_cell("", outputs=o) for o in given]
            notebooks[chapter.file] = nbformat.v4.new_notebook(cells=cells)
        return made, notebooks

    return make


@pytest.fixture
def pdf(book, tmp_path) -> Callable[..., PdfReader]:
    def make(*arguments: Any) -> PdfReader:
        bind_pdf(*book(*arguments), tmp_path / "book.pdf")
        return PdfReader(tmp_path / "book.pdf")

    return make


@pytest.fixture
def source(book, tmp_path) -> Callable[..., str]:
    """The Typst source, without what sets it up."""

    def make(*arguments: Any) -> str:
        (tmp_path / "out").mkdir()
        return typeset(*book(*arguments), tmp_path / "out").split("\n\n", 1)[1]

    return make


def text_of(page) -> str:
    return " ".join(page.extract_text().split())


def tags(reader: PdfReader) -> Iterator[tuple[str, str]]:
    """(tag, alternative text) of each element of the PDF's structure, in reading order."""
    stack = [reader.trailer["/Root"]["/StructTreeRoot"]["/K"]]
    while stack:
        node = stack.pop()
        node = node.get_object() if hasattr(node, "get_object") else node
        if isinstance(node, list):
            stack += reversed(node)
        elif isinstance(node, dict):
            if "/S" in node:
                yield node["/S"], node.get("/Alt", "")
            stack.append(node.get("/K", []))


def entries(outline: list, depth: int = 0) -> Iterator[tuple[int, str]]:
    for entry in outline:
        if isinstance(entry, list):
            yield from entries(entry, depth + 1)
        else:
            yield depth, entry.title.replace("\u2002", " ")


def links(reader: PdfReader) -> list[tuple[int, str, int]]:
    """(page, what a screen reader says, page that it leads to) of each link within the book."""
    found = []
    for number, page in enumerate(reader.pages):
        for annotation in page.get("/Annots", []):
            annotation = annotation.get_object()
            if to := annotation.get("/Dest"):
                named = isinstance(to, str)
                to = reader.named_destinations[to].page if named else to.get_object()[0]
                leads = reader.get_page_number(to.get_object())
                found.append((number, annotation["/Contents"], leads))
    return found


def test_a_books_pdf_has_numbers_bookmarks_links_tags_and_alternative_texts(pdf):
    files = {
        "index.qmd": "# Preface {.unnumbered}\n\n@fig-a, @tbl-t, @eq-e and @sec-b.\n\n## Aside\n",
        "report/a.qmd": (
            "# First\n\n## Small\n\n"
            + cell(*FIGURE)
            + "\nThere are `{python} n` images, $a^2$ each.\n\n$$\\sum b$$ {#eq-e}\n"
        ),
        "b.qmd": "# Second {#sec-b}\n\n| h | k |\n|---|--:|\n| one | 2 |\n\n: Pairs. {#tbl-t}\n",
    }
    outputs = {"report/a.qmd": [[result(image_png=png(60, 40))], [result(text_plain="'42'")]]}
    made = pdf(files, outputs)
    assert list(entries(made.outline)) == [
        *((0, "Preface"), (1, "Aside")),
        *((0, "1 First"), (1, "1.1 Small")),
        (0, "2 Second"),
        *((0, "The code"), (1, "1 First")),
    ]
    title, contents, preface, first, second, code = map(text_of, made.pages)
    assert title == "Tiny"
    contents = re.sub(r"( \.)+", "", contents)
    assert contents == (
        "2 Contents Preface 3 Aside 3 1 First 4 1.1 Small 4 2 Second 5 The code 6 1 First 6"
    )
    assert "Figure 1.1, Table 2.1, Equation 1.1 and 2 Second." in preface
    assert "There are 42 images" in first and "(1.1)" in first
    assert "Figure 1.1: A line. code 1" in first
    assert "Table 2.1: Pairs. h k one 2" in second
    assert "1 Figure 1.1, page 4 x = 1" in code

    found = links(made)
    assert [to for page, _, to in found if page == 2] == [3, 4, 3, 4]
    assert [to for page, _, to in found if page == 3] == [5]
    assert [to for page, _, to in found if page == 5] == [3]
    structure = list(tags(made))
    alternatives = [(kind, alt) for kind, alt in structure if alt]
    assert sorted(alternatives) == [
        ("/Figure", 'A "thin" line.'),
        ("/Formula", "\\sum b"),
        ("/Formula", "a^2"),
    ]
    assert [kind for kind, _ in structure].count("/TH") == 2
    root = made.trailer["/Root"]
    assert (made.metadata.title, root["/Lang"]) == ("Tiny", "en")
    assert "<pdfuaid:part>1</pdfuaid:part>" in root["/Metadata"].get_object().get_data().decode()


def test_what_the_pages_fold_stands_at_the_end_and_the_rest_where_it_was(source):
    text = (
        "# A\n"
        + cell(*FIGURE, code="folded = 1")
        + cell("code-fold: false", code="open = 2")
        + cell("echo: false", code="silent = 3")
        + cell("include: false", code="absent = 4")
        + cell("output: asis", code="alone = 5")
        + "```python\nwritten = 6\n```\n"
        + '```{.python filename="a.py"}\nnamed = 7\n```\n'
    )
    outputs = [[result(image_png=png(2, 2))], [], [], [], []]
    body, end = source({"a.qmd": text}, {"a.qmd": outputs}).split("[The code]")
    assert re.findall(r"\w+ = \d", body) == ["open = 2", "written = 6", "named = 7"]
    assert re.search(r'#book.listing\(file: "a.py"\)\[\s*```python\nnamed', body)
    assert re.findall(r"\w+ = \d", end) == ["folded = 1", "alone = 5"]
    assert re.findall(r"#book\.code-mark\(number: (\d)\)", body) == ["1", "2"]
    assert 'number: 1, what: "Figure\u00a01.1"' in end and 'number: 2, what: ""' in end


def test_links_lead_to_labels_and_files_beside_the_pages_are_named(source):
    text = (
        "# A {#sec-a}\n\n## Here\n\n[up](../index.qmd), [self](#here), [*far*](b.qmd#there), "
        "[the atlas](../atlas.html), [claims.json](../claims.json), [web](https://example.org/x).\n"
    )
    files = {"report/a.qmd": text, "report/b.qmd": "# B\n\n## There\n"}
    made = source(files)
    assert '#book.inside(name: "index")[up]' in made
    assert '#book.inside(name: "report.a:here")[self]' in made
    assert '#book.inside(name: "report.b:there")[#emph[far]]' in made
    assert "the atlas~(`atlas.html`), claims.json, " in made
    assert '#link("https://example.org/x")[web]' in made
    assert "<report.a:here>" in made and "<report.b:there>" in made


def test_callouts_and_claims_keep_their_kind(source):
    text = (
        '# A\n\n::: {.callout-tip title="Do"}\nIt.\n:::\n\n'
        "::: {.callout-note collapse='true'}\n## Mind *it*\nNow.\n:::\n\n"
        "::: {.claim .claim-fails}\nNo.\n:::\n"
    )
    made = source({"a.qmd": text})
    assert re.search(r'#book.callout\(kind: "tip"\)\[\s*Do\s*\]\[\s*It\.\s*\]', made)
    assert re.search(
        r'#book.callout\(kind: "note"\)\[\s*Mind #emph\[it\]\s*\]\[\s*Now\.\s*\]', made
    )
    assert re.search(r"#book.claim\(holds: false\)\[\s*No\.\s*\]", made)


def test_an_interval_in_a_table_stays_on_one_line(source):
    made = source({"a.qmd": "# A\n\nAt [0.8, 1.0].\n\n| a |\n|---|\n| 0.9 [0.8, 1.0], 3 seeds |\n"})
    assert "0.9 \\[0.8,~1.0\\], 3 seeds" in made and "At \\[0.8, 1.0\\]." in made


def test_citations_of_all_chapters_make_one_bibliography(pdf):
    files = {
        "a.qmd": "# A\nAs @knuth1984 says.\n",
        "b.qmd": "# B\nSee [@turing1950].\n",
        "r.bib": (
            "@book{knuth1984, author={Knuth, Donald}, title={Literate}, year=1984}\n"
            "@book{turing1950, author={Turing, Alan}, title={Machinery}, year=1950}\n"
            "@book{unread2000, author={Unread, Una}, title={Nothing}, year=2000}\n"
        ),
    }
    made = pdf(files)
    assert list(entries(made.outline))[-1] == (0, "References")
    assert "As Knuth (1984) says." in text_of(made.pages[3])
    references = text_of(made.pages[5])
    assert "Literate" in references and "Machinery" in references and "Nothing" not in references
    assert {(page, to) for page, _, to in links(made) if page > 1} == {(3, 5), (4, 5)}


def test_a_given_bibliography_keeps_its_place(source):
    files = {
        "references.qmd": "# Sources {.unnumbered}\n\n::: {#refs}\n:::\n",
        "a.qmd": "# A\nAs @b says.\n",
        "r.bib": "@book{b, author={Bee, Ann}, title={T}, year=2000}\n",
    }
    made = source(files)
    assert made.index("[Sources]") < made.index("#book.bibliography-list") < made.index("= A")
    assert "[References]" not in made


def test_wide_tables_and_long_lines_stay_on_the_page(pdf):
    columns = 14
    row = "| " + " | ".join(["0.123 [0.100, 0.150]"] * columns) + " |\n"
    head = "| " + " | ".join(f"column{i}" for i in range(columns)) + " |\n"
    table = head + "|" + "---|" * columns + "\n" + row * 3
    text = f"# A\n\n{table}\n\n```python\n{'name = ' + ' + '.join(['value'] * 60)}\n```\n"
    made = pdf({"a.qmd": text})
    ends = []

    def see(string: str, cm: Any, tm: Any, _font: Any, size: float) -> None:
        if string.strip():  # letters are a third of their size wide, or wider
            ends.append(cm[4] + tm[4] + len(string.strip()) * size / 3)

    for page in made.pages:
        page.extract_text(visitor_text=see)
    assert max(ends) < float(made.pages[0].mediabox.width) - 28  # 1 cm
    assert text_of(made.pages[3]).count("0.150]") == 3 * columns


@pytest.mark.parametrize("text", ["= 0.1", "- 5", "+ 6", "1. 8", "/ term: x", "*a* = #let @b ~ $"])
def test_no_cell_of_a_table_is_taken_for_markup(pdf, text):
    escaped = re.sub(r"([*@$~])", r"\\\1", text)
    made = pdf({"a.qmd": f"# A\n\n| head |\n|---|\n| {escaped} |\n"})
    assert text_of(made.pages[3]) == f"4 1 A head {text}"
    assert not {"/H2", "/L", "/LI"} & {kind for kind, _ in tags(made)}


def test_raw_html_stays_with_the_pages_but_a_value_keeps_its_text(source):
    html = result(text_plain="<X>", text_html="<b>7</b>")
    text = "# A\n\nIt is `{python} x`.\n\n```{=html}\n<p>Only <em>there</em></p>\n```\n"
    made = source({"a.qmd": text}, {"a.qmd": [[html]]})
    assert "It is 7." in made and "there" not in made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# A\n\nSee [x](b.qmd#gone).\n", r"_quarto\.yml:1: Typst cannot set this book: .*b:gone"),
        ("# A\n\n### Deep\n", r"_quarto\.yml:1: Typst cannot set this book: .*heading"),
        ("# A\n\n![](a.svg)\n", r"a\.qmd:3: image a\.svg has no fig-alt"),
    ],
)
def test_what_cannot_be_set_is_refused(pdf, text, message):
    with pytest.raises(BookError, match="(?i)^" + message):
        pdf({"a.qmd": text, "b.qmd": "# B\n", "a.svg": "<svg/>"})


@pytest.fixture
def executed(monkeypatch) -> list[str]:
    """The files of the chapters that were executed; no kernel runs, all code gives "42"."""
    files = []

    def execute(book, chapters, done) -> dict[str, nbformat.NotebookNode]:
        notebooks = {chapter.file: _empty_notebook(chapter) for chapter in chapters}
        for notebook in notebooks.values():
            for given in notebook.cells:
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
    assert text_of(PdfReader(file).pages[3]) == "4 1 A 42"
    assert str(Path("_book", "Tiny.pdf")) in capsys.readouterr().out
    (root / "a.qmd").write_text("# Another\n\n`{python} x`\n")
    assert run("--pdf") == ["a.qmd", "b.qmd"]  # what is marked `always` goes with it
    assert text_of(PdfReader(file).pages[3]) == "4 1 Another 42"
    os.utime(root / "code/module.py", (2e9, 2e9))
    assert run("--pdf") == ["a.qmd", "b.qmd"]


def test_a_pdf_that_fails_leaves_the_last_good_one(project, executed, capsys):
    root = project({"a.qmd": "# A\n"})
    assert main(["--project", str(root), "--pdf"]) == 0
    good = (root / "_book" / "Tiny.pdf").read_bytes()
    (root / "a.qmd").write_text("# A\n\n[x](#gone)\n")
    assert main(["--project", str(root), "--pdf"]) == 1
    assert "gone" in capsys.readouterr().err
    assert (root / "_book" / "Tiny.pdf").read_bytes() == good
    assert [path.name for path in root.glob("_book*")] == ["_book"]


def test_a_pdf_of_one_chapter_is_refused(project, capsys):
    root = project({"a.qmd": "# A\n"})
    with pytest.raises(SystemExit):
        main(["--project", str(root), "--pdf", "--chapter", "a.qmd"])
    assert "leave out --chapter" in capsys.readouterr().err
