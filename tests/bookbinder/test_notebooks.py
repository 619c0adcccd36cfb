"""The chapters as notebooks: what they hold, that they run, and what is taken over from Quarto."""

import base64
import io
import os
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from making import FIGURE, WORKS, cell, drawing, png_bytes, result, stream
from nbclient import NotebookClient
from PIL import Image

from bookbinder.__main__ import main
from bookbinder.execute import kept_notebook
from bookbinder.notebooks import PIXELS, add_notebooks, take_over
from bookbinder.pages import bind
from bookbinder.source import read_book

PICTURE = base64.b64encode(png_bytes(drawing().resize((1800, 1200)))).decode()
CHAPTER = f"""# Lines {{#sec-a}}

{cell("include: false", code="import this_is_run")}
Value `{{python}} 6 * 7`, see @fig-a and @tbl-b, as said [@knuth1984].

## A section {{#sec-b .extra}}

[A term]{{.term}}, and $x^2$.

$$y = x^2$$ {{#eq-c}}

{cell(*FIGURE, code="draw()")}
{cell("label: tbl-b", "tbl-cap: A table.", "echo: false", code="table()")}
::: {{.callout-tip collapse="true" title="An exercise"}}
Try it.

{cell(code="print(1)")}
After it.
:::

::: {{.callout-note title="Note"}}
Nothing runs here.
:::

```python
shown()
```
"""
TABLE = "| a | b |\n|:--|:--|\n| 1 | **2** |\n"
OUTPUTS = [
    [stream("hidden")],
    [result(text_plain="42")],
    [result({"image/png": {"width": 900}}, image_png=PICTURE, text_plain="<Figure>")],
    [result(text_markdown=TABLE, text_plain="<Markdown>"), stream("warned", "stderr")],
    [stream("1\n"), result(text_markdown="::: {.claim}\nSee @tbl-b.\n:::\n")],
]


def code_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def written(tmp_path, book):
    """The notebook of `CHAPTER`, and the page that links to it."""
    last = "---\nbookbinder: {after: all}\n---\n# Last\n`{python} 1`\n"
    files = {"a.qmd": CHAPTER, "b.qmd": last, "c.qmd": "# C\n@sec-b\n", "works.bib": WORKS}
    made, notebooks = book(files, {"a.qmd": OUTPUTS, "b.qmd": [[result(text_plain="1")]]})
    out = tmp_path / "out"
    bind(made, notebooks, out)
    for _ in range(2):  # a second time changes nothing
        assert add_notebooks(made, notebooks, out) == [out / "a.ipynb"]
    return nbformat.read(out / "a.ipynb", as_version=4), (out / "a.html").read_text("utf-8")


def test_a_notebook_holds_the_cells_of_its_chapter_and_what_they_gave(written):
    cells = code_of(written[0])
    nbformat.validate(written[0])
    assert [cell.source for cell in cells] == [
        "import this_is_run",
        "draw()",
        "table()",
        "print(1)",
    ]
    assert [cell.id for cell in cells[1:3]] == ["fig-a", "tbl-b"]
    hidden = [cell.metadata.get("jupyter", {}).get("source_hidden", False) for cell in cells]
    assert hidden == [False, False, True, False]
    assert not cells[0].outputs and [output.output_type for output in cells[3].outputs] == [
        "stream", "execute_result"
    ]  # fmt: skip
    (figure,), (table,) = cells[1].outputs, cells[2].outputs
    ((kind, content),) = figure.data.items()
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert f"image/{image.format.lower()}" == kind and not figure.metadata
    assert 0.95 * PIXELS < image.width * image.height < 1.05 * PIXELS and image.width < 900
    assert (
        list(table.data) == ["text/markdown"] and "| 1   | **2** |" in table.data["text/markdown"]
    )
    told = {"text/markdown": "See [Table\u00a01.1](a.html#tbl-b)."}
    assert cells[3].outputs[0].text == "1\n" and cells[3].outputs[1].data == told


def test_its_text_is_that_of_the_page(written):
    notebook, _ = written
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert texts[0].startswith("# 1\u2002Lines\n\n*This is [a chapter](a.html) of Tiny")
    assert texts[1].startswith("Value 42, see [Figure\u00a01.1](a.html#fig-a) and [Table")
    for part in ("(Knuth 1984).", "## 1.1\u2002A section\n\nA term, and $x^2$.", "$$y = x^2$$"):
        assert part in texts[1]
    assert texts[2] == "**Figure\u00a01.1:** A *line*."
    assert texts[3] == "**Table\u00a01.1:** A table.\n\n**An exercise**\n\nTry it."
    assert texts[4].startswith("After it.\n\n> **Note**\n>\n> Nothing runs here.")
    assert "``` python\nshown()\n```" in texts[4]
    assert texts[4].rpartition("## References\n\n")[2].startswith("Knuth, Donald. 1984.")
    assert not any(mark in "".join(texts) for mark in (":::", "{#", "<div", "<!--", "](#"))


def test_its_page_links_to_it_once(written):
    main = BeautifulSoup(written[1], "html.parser").main
    (link,) = main.select("p.notebook a")
    assert link["href"] == "a.ipynb" and main.find(True) is link.parent


def test_notebooks_of_a_built_book_run_in_any_folder(project, tmp_path, monkeypatch, capsys):
    text = "# A\n" + cell(code="x = 6") + "\nIt is `{python} x`.\n\n" + cell(code="x * 7")
    root = project({"report/a.qmd": text})
    assert main(["--project", str(root), "--notebooks"]) == 1
    assert "index.html:1: no such page; build the book first" in capsys.readouterr().err
    assert main(["--project", str(root)]) == 0
    assert main(["--project", str(root), "--notebooks"]) == 0
    notebook = nbformat.read(root / "_book/report/a.ipynb", as_version=4)
    assert [code.outputs[0].data["text/plain"] for code in code_of(notebook)[1:]] == ["42"]
    assert "It is 6." in notebook.cells[2].source
    for code in code_of(notebook):
        code.outputs = []
    monkeypatch.chdir(tmp_path)
    NotebookClient(notebook, timeout=60).execute()
    assert code_of(notebook)[1].outputs[0].data["text/plain"] == "42"


def test_what_quarto_has_executed_is_taken_over(project):
    text = "# A\n`{python} x`, ``{python} no``, `{python} y`\n" + cell("label: one", code="x = 1")
    root = project({"report/a.qmd": text})
    results = [{"status": "ok", "data": {"text/plain": str(n)}, "metadata": {}} for n in range(3)]
    values = zip(("x", "no", "y "), results, strict=True)
    values = [{"expression": one, "result": result} for one, result in values]
    code = nbformat.v4.new_code_cell("#| label: one\nx = 1", outputs=[stream("said")])
    mark = nbformat.v4.new_markdown_cell("`{python} x` …", metadata={"user_expressions": values})
    left = root / "report/a.quarto_ipynb"

    def executed(*cells: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
        nbformat.write(nbformat.v4.new_notebook(cells=[*cells]), left)
        book = read_book(root)
        take_over(book)
        assert not list(root.glob("report/*quarto*"))
        return kept_notebook(book, book.chapters[1])

    assert executed(mark) is None  # of another text
    older = left.with_name("a.quarto_ipynb_1")
    older.write_text("not read")
    os.utime(older, (0, 0))
    kept = executed(mark, code)
    first, second, third = (cell.outputs[0] for cell in kept.cells)
    assert [first.data["text/plain"], second.data["text/plain"], third.text] == ["0", "2", "said"]
    assert Path(os.environ["LAZY_ARTIST_CACHE"]) in next(root.parent.rglob("a.ipynb")).parents
