"""Turns chapters and their executed notebooks into one PDF, with pandoc and Typst; no TeX.

The book goes Markdown -> pandoc's JSON tree -> (floats, callouts, links) -> Typst -> PDF/UA-1.
Numbers and references are those of the pages: `pages` gives them. Code that the pages fold stands
at the end of the book, and marks in the text lead there and back. Raw HTML stays with the pages, as
Quarto has it. The look, and what each Typst function called here does, is in assets/book.typ.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import typst
from nbformat import NotebookNode

from bookbinder import BookError, compress, pages
from bookbinder.pages import ASSETS, Node, Page, pandoc, plain, rewrite
from bookbinder.source import CALLOUTS, Book

_FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")  # DejaVu: signs that Typst's fonts lack
_MARKER = re.compile(r"(?:=+|[-+/]|\d+\.)(?: |$)")  # a heading, list item … of Typst's
_SPACE = {"t": "Space"}
_INTERVAL = re.compile(r"\[[^]\[\s]+, [^]\[\s]+\]\S*")


def bind_pdf(book: Book, notebooks: dict[str, NotebookNode], file: Path) -> None:
    """Writes the whole book into `file`, an accessible PDF (PDF/UA-1): tagged, with bookmarks.

    Raises BookError for what `pages.bind` refuses, and for what Typst cannot set.
    """
    with tempfile.TemporaryDirectory(prefix="pdf-") as folder:
        root = Path(folder)
        (root / "main.typ").write_text(typeset(book, notebooks, root), encoding="utf-8")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_compress, root.rglob("*.png")))
        shutil.copy(ASSETS / "book.typ", root)
        try:
            content = typst.compile(
                root / "main.typ",
                root=root,
                font_paths=[_FONTS],
                ignore_system_fonts=True,
                pdf_standards=["ua-1"],
            )
        except typst.TypstError as error:
            what = f"{error}; {' '.join(error.hints)}".rstrip("; ")
            raise BookError(f"_quarto.yml:1: Typst cannot set this book: {what}") from None
    file.write_bytes(compress.pdf(content))


def _compress(image: Path) -> None:
    image.write_bytes(compress.png(image.read_bytes()))


def typeset(book: Book, notebooks: dict[str, NotebookNode], out: Path) -> str:
    """The book's Typst source; writes the images that it shows below the folder `out`."""
    with ThreadPoolExecutor() as pool:
        read = list(
            pool.map(lambda c: pages.read_page(c, book, notebooks[c.file], out), book.chapters)
        )
    for page in read:  # for the numbers, and the images in `out`; its HTML is dropped
        pages.number_page(replace(page), book, out)
    targets = {label: target for page in read for label, target in page.targets.items()}
    body: list[Node] = []
    code: list[Node] = []
    cells = 0
    for page in read:
        pages.resolve_page(page, book, targets)
        blocks, folded = _chapter(page, {page.chapter.page: page for page in read}, cells)
        body += blocks
        cells += len(folded)
        if folded:
            number = [_str(f"{page.chapter.number}\u2002")] if page.chapter.number else []
            code += [_header(2, number + page.title, f"code.{_label(page)}", False)]
            code += [block for cell in folded for block in cell]
    cited = {label for page in read for label in page.cited}
    if cited and not any(_is_bibliography(block) for block in body):
        body += [_header(1, [_str("References")], "references", False)]
        body += [{"t": "Div", "c": [["refs", [], []], []]}]
    body = rewrite(body, lambda n: _call("bibliography-list", [n]) if _is_bibliography(n) else None)
    if code:
        body += [_header(1, [_str("The code")], "code", False), _raw("#book.about-the-code"), *code]

    tree = {"pandoc-api-version": read[0].api, "meta": {}, "blocks": body}
    options = ["-f", "json", "-t", "typst-citations", "--wrap=none"]
    options += ["--syntax-highlighting=idiomatic"]
    if cited:
        options += ["--citeproc", *(f"--bibliography={book.root / b}" for b in book.bibliography)]
        tree["meta"] = {
            "link-citations": {"t": "MetaBool", "c": True},
            "nocite": {"t": "MetaInlines", "c": [pages.cite(label) for label in sorted(cited)]},
        }
    text = pandoc(book.chapters[0], options, json.dumps(tree))
    show = _function(
        "bind.with",
        title=book.title,
        subtitle=book.subtitle,
        author=book.author,
        language=book.language,
    )
    return f'#import "book.typ"\n#import book: horizontalrule\n#show: {show}\n\n{text}'


def _chapter(
    page: Page, labels: dict[str, Page], cells_before: int
) -> tuple[list[Node], list[list[Node]]]:
    """The chapter's blocks for pandoc's Typst writer, and those of each cell that is folded.

    labels: each page's file -> the page; cells_before: how many folded cells stand before.
    """
    chapter = page.chapter
    folded: list[list[Node]] = []
    shown = [c for c in chapter.code if c.source and c.options and c.options.get("include", True)]
    cells = (c for c in shown if c.options["echo"])

    def code_cell(block: Node) -> Node:
        """The code of the next cell, or, if the pages fold it, the mark that leads to it."""
        cell = next(cells)
        code = {"t": "CodeBlock", "c": [["", ["python"], []], block["c"][1]]}
        if not cell.options["code-fold"]:
            return code
        number = cells_before + len(folded) + 1
        target = page.targets.get(cell.label)
        what = f"{pages.NAMES[target.kind]}\u00a0{target.number}" if target else ""
        folded.append(_call("code-cell", [code], number=number, what=what))
        return _raw("#" + _function("code-mark", number=number))

    def cell(blocks: list[Node]) -> list[Node]:
        """A cell's blocks; the mark of folded code joins the caption if there is one."""
        blocks = [b for b in blocks if b["t"] != "RawBlock"]  # what folds it on the pages
        blocks = [code_cell(b) if _is_cell_code(b) else b for b in blocks]
        floats = [b for b in blocks if b["t"] == "Div" and "float" in b["c"][0][1]]
        if floats and blocks[0]["t"] == "RawBlock":
            caption = floats[0]["c"][1][0]
            caption["c"] = [*caption["c"], _SPACE, _raw(blocks.pop(0)["c"][1], "RawInline")]
        return each(blocks)

    def floating(kind: str, label: str, caption: list[Node], content: list[Node]) -> list[Node]:
        number = page.targets[label].number if label else ""
        name = _label(page, label) if label else ""
        settings = {"kind": kind, "word": pages.NAMES[kind], "number": number, "name": name}
        return _call("floating", [_plain(caption)], each(content), **settings)

    def table(attributes: list[Any], caption: list[Any], columns: list[Any], *rest: Any):
        columns = [[align, {"t": "ColWidthDefault"}] for align, _ in columns]
        bare = ["", ["typst:no-figure"], []]  # no figure of pandoc's around it
        fitting = _call("fitting", [{"t": "Table", "c": [bare, [None, []], columns, *rest]}])
        label = attributes[0] if attributes[0].startswith("tbl-") else ""
        inlines = [inline for block in caption[1] for inline in block["c"]]
        if not inlines:
            return fitting
        return floating("tbl", label, inlines, fitting)

    def callout(kind: str, title: str | None, blocks: list[Node]) -> list[Node]:
        inlines = [_str(title or kind.capitalize())]
        if blocks and blocks[0]["t"] == "Header":
            inlines, blocks = blocks[0]["c"][2], blocks[1:]
        return _call("callout", [_plain(inlines)], each(blocks), kind=kind)

    def image(attributes: list[Any], inlines: list[Node], target: list[str]) -> list[Node]:
        given = dict(attributes[2])
        alt = given.get("fig-alt") or given.get("alt") or plain(inlines)
        file = posixpath.normpath(posixpath.join("/", posixpath.dirname(chapter.file), target[0]))
        width = given.get("width", "auto")
        if re.fullmatch(r"[\d.]+(?:px)?", width):
            width = f"{float(width.removesuffix('px')) * 0.75:g}pt"
        call = _function("picture", file=file, alt=alt)
        return [_raw(f"#{call[:-1]}, width: {width});", "RawInline")]

    def link(text: list[Node], url: str) -> list[Node] | None:
        """Links within the book lead to labels, links to files beside the pages become text."""
        path, _, anchor = url.partition("#")
        if pages.EXTERNAL.match(path):
            return None
        place = posixpath.normpath(posixpath.join(posixpath.dirname(chapter.page), path))
        if other := labels.get(place) if path else page:
            return _call("inside", each(text), inline=True, name=_label(other, anchor))
        name = [_str("\u00a0("), {"t": "Code", "c": [["", [], []], place]}, _str(")")]
        return each(text) + (name if place not in plain(text) else [])

    def visit(node: Node) -> list[Node] | None:
        kind, contents = node["t"], node.get("c")
        if kind == "Header":
            level, (identifier, classes, _), inlines = contents
            numbered = chapter.number is not None and "unnumbered" not in classes
            return [_header(level, inlines, _label(page, identifier), numbered)]
        if kind == "Div":
            (identifier, classes, attributes), blocks = contents
            if "cell" in classes:
                return cell(blocks)
            if "float" in classes:
                return floating(identifier[:3] or "fig", identifier, blocks[0]["c"], blocks[1:])
            if "claim" in classes:
                return _call("claim", each(blocks), holds="claim-holds" in classes)
            if named := next((n for n in CALLOUTS if f"callout-{n}" in classes), ""):
                return callout(named, dict(attributes).get("title"), blocks)
        if kind == "CodeBlock" and _is_cell_code(node):
            return [code_cell(node)]
        if kind == "CodeBlock" and (file := dict(contents[0][2]).get("filename")):
            code = {"t": "CodeBlock", "c": [["", contents[0][1], []], contents[1]]}
            return _call("listing", [code], file=file)
        if kind == "Figure":
            (label, _, _), (_, caption), content = contents
            inlines = [inline for block in caption for inline in block["c"]]
            return floating("fig", label if label.startswith("fig-") else "", inlines, content)
        if kind == "Table" and "typst:no-figure" not in contents[0][1]:
            return table(*contents)
        if kind in ("Para", "Plain"):
            inlines = pages.numbered_equations(
                contents, lambda label, _: page.targets[label].number
            )
            inlines = _unbroken(inlines) if kind == "Plain" else inlines
            if kind == "Plain" and _MARKER.match(plain(inlines)):  # pandoc would not escape it
                inlines = [_raw("#none;", "RawInline"), *inlines]
            return [{"t": kind, "c": inlines}]
        if kind == "Span" and "equation" in contents[0][1]:
            label, math = contents[0][0], contents[1][0]
            settings = {"number": page.targets[label].number, "name": _label(page, label)}
            return _call("equation", [math], inline=True, tex=math["c"][1], **settings)
        if kind == "Math":
            return _call("equation", [node], inline=True, tex=contents[1])
        if kind == "Image":
            return image(*contents)
        if kind == "Link":
            return link(contents[1], contents[2][0])
        if kind == "RawInline" and contents[0] == "html":
            return [_str(re.sub(r"<[^>]*>", "", contents[1]))]
        return None

    def each(nodes: list[Node]) -> list[Node]:
        """What `visit` makes of these nodes; what they hold is for `rewrite` to visit."""
        seen = [(node, visit(node)) for node in nodes]
        return [new for node, made in seen for new in ([node] if made is None else made)]

    title = rewrite(page.title, visit)
    heading = _header(1, title, _label(page), chapter.number is not None)
    return [heading, *rewrite(page.blocks, visit)], folded


def _unbroken(inlines: list[Node]) -> list[Node]:
    """The inlines of a table's cell, its intervals ([low, high]) on one line each."""
    new: list[Node] = []
    for inline in inlines:
        if inline["t"] == "Str" and [n["t"] for n in new[-2:]] == ["Str", "Space"]:
            low = new[-2]["c"]
            if _INTERVAL.fullmatch(f"{low} {inline['c']}"):
                new[-2:] = [_str(f"{low}\u00a0{inline['c']}")]
                continue
        new.append(inline)
    return new


def _label(page: Page, anchor: str = "") -> str:
    """What Typst calls an anchor of a page, or the page itself."""
    name = page.chapter.page.removesuffix(".html").replace("/", ".")
    return f"{name}:{anchor}" if anchor not in ("", page.title_id) else name


def _function(name: str, /, **arguments: str | int | bool) -> str:
    """A call of what book.typ defines; JSON writes its strings, numbers and booleans for Typst."""
    given = (f"{k}: {json.dumps(v, ensure_ascii=False)}" for k, v in arguments.items())
    return f"book.{name}({', '.join(given)})"


def _call(
    name: str, /, *contents: list[Node], inline: bool = False, **arguments: Any
) -> list[Node]:
    """The contents as content arguments of a Typst function, after its named `arguments`."""
    kind = "RawInline" if inline else "RawBlock"
    opening = "#" + _function(name, **arguments)
    nodes = []
    for i, content in enumerate(contents):
        nodes += [_raw("][" if i else f"{opening}[", kind), *content]
    return [*nodes, _raw("];" if inline else "]", kind)]  # the ; lest .x be taken for a field


def _raw(text: str, kind: str = "RawBlock") -> Node:
    return {"t": kind, "c": ["typst", text]}


def _str(text: str) -> Node:
    return {"t": "Str", "c": text}


def _plain(inlines: list[Node]) -> Node:
    return {"t": "Plain", "c": inlines}


def _header(level: int, inlines: list[Node], label: str, numbered: bool) -> Node:
    return {"t": "Header", "c": [level, [label, [] if numbered else ["unnumbered"], []], inlines]}


def _is_cell_code(node: Node) -> bool:
    return node["t"] == "CodeBlock" and "cell-code" in node["c"][0][1]


def _is_bibliography(node: Node) -> bool:
    return node["t"] == "Div" and node["c"][0][0] == "refs"
