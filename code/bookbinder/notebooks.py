"""Each chapter as an executed Jupyter notebook, with the cells of the last build.

Its text is the page's, with the values of inline expressions, numbers and references; its cells
hold the chapter's code and what it gave, pictures small. Chapters that speak of the whole book
(`after: all`) have none.
"""

import base64
import io
import math
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from PIL import Image

from bookbinder import compose
from bookbinder.compose import NAMES, REFERENCES, SPACE, Node, Page, node, rewrite, string
from bookbinder.execute import empty_notebook, keep_notebook
from bookbinder.source import TURNS, Book
from lazy_artist.data import write_whole

PIXELS = 120_000  # of a picture in a notebook; pages have it sharp
_FORMAT = "commonmark+pipe_tables+tex_math_dollars+raw_html"
_CUT = "<!-- cut -->"  # between the parts of a notebook, which pandoc writes all at once
_LINK = '\n<p class="notebook"><a href="{}" download>This chapter as a notebook</a></p>'
_RUNS = "It runs in any folder, where the package is installed."


def take_over(book: Book) -> None:
    """Keeps what Quarto has executed (its `keep-ipynb`) as if bookbinder had executed it, and
    removes Quarto's files. What is of another text than a chapter has now is not kept."""
    for chapter in book.chapters:
        stem = (book.root / chapter.file).with_suffix("")
        files = [f for f in stem.parent.iterdir() if f.name.startswith(f"{stem.name}.quarto_ipynb")]
        if not files:
            continue
        file = max(files, key=lambda file: file.stat().st_mtime)
        cells = nbformat.read(file, as_version=4).cells
        outputs = iter([cell.outputs for cell in cells if cell.cell_type == "code"])
        values = iter([v for cell in cells for v in cell.metadata.get("user_expressions", [])])
        notebook = empty_notebook(chapter)
        try:
            for cell, code in zip(notebook.cells, chapter.code, strict=True):
                if code.options is not None:
                    cell.outputs = next(outputs)
                else:
                    value = next(v for v in values if v.expression.strip() == code.source)
                    cell.outputs = [nbformat.v4.new_output("execute_result", value.result.data)]
        except StopIteration:
            pass
        else:
            keep_notebook(book, chapter, notebook)
        for file in files:
            file.unlink()


def add_notebooks(book: Book, notebooks: dict[str, NotebookNode], out: Path) -> list[Path]:
    """Writes each chapter as a notebook beside its page in the folder `out`, with a link to it on
    the page; returns the notebooks' files. notebooks: as they were executed, by chapter."""
    with tempfile.TemporaryDirectory() as folder:  # for images that the pages have already
        pages = compose.compose(book, notebooks, Path(folder), marked=True)

    def write(page: Page) -> Path:
        file = (out / page.chapter.page).with_suffix(".ipynb")
        notebook = _notebook(book, page, notebooks[page.chapter.file])
        html = file.with_suffix(".html")
        text, link = html.read_text(encoding="utf-8"), _LINK.format(file.name)
        if link not in text:
            text = re.sub(r"<main\b[^>]*>", lambda main: main[0] + link, text, count=1)
        write_whole(file, f"{nbformat.writes(notebook)}\n".encode())
        write_whole(html, text.encode())
        return file

    wanted = [page for page in pages if page.chapter.code and page.chapter.turn < len(TURNS) - 1]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(write, wanted))


def _notebook(book: Book, page: Page, executed: NotebookNode) -> NotebookNode:
    name = page.chapter.page.rpartition("/")[2]
    cells: list[NotebookNode] = []
    parts: list[tuple[dict[str, Any], str, list[Node]]] = []  # what holds a part, its key, the part

    def text(*blocks: Node) -> None:
        if not cells or cells[-1].cell_type != "markdown":
            cells.append(nbformat.v4.new_markdown_cell(id=f"text-{len(cells)}"))
            parts.append((cells[-1], "source", []))
        parts[-1][2].extend(blocks)

    link = node("Link", ["", [], []], [string("a chapter")], [name, ""])
    told = [string("This is "), link, string(f" of {book.title} as a notebook. {_RUNS}")]
    text(node("Header", 1, ["", [], []], page.numbered_title), node("Para", [node("Emph", told)]))
    for block in _flat(page.blocks):
        if "piece" not in _classes(block):
            text(block)
            continue
        number = int(dict(block["c"][0][2])["n"])
        code, divs = page.chapter.code[number], list(_divs(block))
        cell = nbformat.v4.new_code_cell(code.source, id=code.label or f"cell-{number}")
        if not code.options.get("echo", book.echo):
            cell.metadata["jupyter"] = {"source_hidden": True}
        cells.append(cell)
        markdown = (div["c"][1] for div in divs if _classes(div) == ["cell-output"])
        for output in executed.cells[number].outputs if code.options.get("include", True) else ():
            if output.get("name") == "stderr" and not book.warning:
                continue
            output, data = deepcopy(output), output.get("data", {})
            if "text/markdown" in data:
                output.data, output.metadata = NotebookNode({"text/markdown": ""}), {}
                parts.append((output.data, "text/markdown", next(markdown)))
            elif "image/png" in data:
                output.data, output.metadata = _picture(data["image/png"]), {}
            cell.outputs.append(output)
        for div in divs:
            if code.kind and div["c"][0][0] == code.label:
                text(_caption(div))
    if page.cited:
        text(node("Header", 2, ["", [], []], [string("References")]), REFERENCES)

    cut = node("RawBlock", "html", _CUT)
    blocks = [block for _, _, part in parts for block in (*part, cut)]
    blocks = rewrite(blocks, lambda element: _markdown(element, name))
    made = compose.written(book, page, blocks, page.cited, ["-t", _FORMAT], {})
    made = re.sub(r"\[([^][]*)\]\(#ref-[^)]*\)", r"\1", made)  # ids are the page's alone
    made = re.sub(r"^</?div\b[^>]*>\n+", "", made, flags=re.M)  # round the references
    for (holder, key, _), content in zip(parts, made.split(_CUT)[:-1], strict=True):
        holder[key] = content.strip()
    language = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": language, "language_info": {"name": "python"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(notebook)
    return notebook


def _classes(block: Node) -> list[str]:
    return block["c"][0][1] if block["t"] == "Div" else []


def _divs(tree: Any) -> Iterator[Node]:
    """All Divs in a tree, from the outside in."""
    if isinstance(tree, dict):
        if tree.get("t") == "Div":
            yield tree
        tree = tree.get("c")
    for item in tree if isinstance(tree, list) else ():
        yield from _divs(item)


def _flat(blocks: list[Node]) -> Iterator[Node]:
    """The blocks, with those that hold cells taken apart, since no cell stands within a text."""
    for block in blocks:
        pieces = [div for div in _divs(block) if "piece" in _classes(div)]
        if not pieces or block is pieces[0]:
            yield block
        elif compose.callout_kind(block):
            title, *rest = block["c"][1]
            yield from (node("Para", [node("Strong", title["c"])]), *_flat(rest))
        else:
            yield from _flat(block["c"][1])


def _caption(div: Node) -> Node:
    """The caption of a figure or table as a paragraph."""
    (_, (_, kind), numbers), (caption, *_) = div["c"]
    name = [string(f"{NAMES[kind]}\u00a0{number}:") for _, number in numbers]
    return node("Para", [node("Strong", name), SPACE, *caption["c"]] if name else caption["c"])


def _markdown(element: Node, page: str) -> list[Node] | None:
    """What a notebook has in the place of an element of the composed tree: plain Markdown.
    page: the chapter's own page, where links within the chapter lead."""
    kind, contents = element["t"], element.get("c")

    def inside(tree: Any) -> Any:
        return rewrite(tree, lambda element: _markdown(element, page))

    if kind == "Header":
        level, (_, _, attributes), title = contents
        number = [string(f"{value}\u2002") for key, value in attributes if key == "number"]
        return [node("Header", level, ["", [], []], number + inside(title))]
    if compose.callout_kind(element):
        title, *blocks = contents[1]
        title = node("Para", [node("Strong", title["c"])])
        return [node("BlockQuote", inside([title, *blocks]))]
    if kind == "Div" and "float" in contents[0][1]:
        return inside([*contents[1][1:], _caption(element)])
    if kind == "Span" or (kind == "Div" and contents[0][0] != "refs"):
        return inside(contents[1])
    if kind == "Image":
        (_, _, attributes), _, target = contents
        return [node("Image", ["", [], []], [string(dict(attributes)["alt"])], target)]
    if kind == "Link":
        _, inlines, (url, title) = contents
        url = page + url if url.startswith("#") else url
        return [node("Link", ["", [], []], inside(inlines), [url, title])]
    if kind == "CodeBlock":
        return [node("CodeBlock", ["", contents[0][1][:1], []], contents[1])]
    if kind == "Table":
        return [node("Table", ["", [], []], *inside(contents[1:]))]
    return None


def _picture(content: str) -> NotebookNode:
    """An image (PNG in base 64) in few bytes, as an output's data: of at most `PIXELS`, half as
    wide as it was at most, in 64 colours, or as JPEG where that is smaller."""
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        scale = min(0.5, math.sqrt(PIXELS / (image.width * image.height)))
        size = [max(1, round(scale * length)) for length in image.size]
        image = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    few = image.quantize(64, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(png := io.BytesIO(), "PNG", optimize=True)
    image.save(jpeg := io.BytesIO(), "JPEG", quality=40, optimize=True, progressive=True)
    made = {"image/png": png.getvalue(), "image/jpeg": jpeg.getvalue()}
    kind = min(made, key=lambda kind: len(made[kind]))
    return NotebookNode({kind: base64.b64encode(made[kind]).decode()})
