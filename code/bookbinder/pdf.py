"""Turns the composed chapters into one PDF, with pandoc and Typst; no TeX.

Code that the pages fold stands at the end of the book, and marks in the text lead there and back.
Raw HTML stays with the pages. What the Typst functions called here do is in assets/book.typ.
"""

import json
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import matplotlib
import typst
from nbformat import NotebookNode

from bookbinder import BookError, compose, compress
from bookbinder.compose import NAMES, REFERENCES, SPACE, Node, Page, node, rewrite, string
from bookbinder.source import ASSETS, Book

_FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")  # DejaVu: signs that Typst's fonts lack
_MARKER = re.compile(r"(?:=+|[-+/]|\d+\.)(?: |$)")  # a heading, list item … of Typst's
_INTERVAL = re.compile(r"(\\\[[^]\[\s]+,) ([^]\[\s]+\\\])")


def bind_pdf(book: Book, notebooks: dict[str, NotebookNode]) -> bytes:
    """The whole book as an accessible PDF (PDF/UA-1): tagged, with bookmarks.

    Raises BookError for what `compose` refuses, and for what Typst cannot set.
    """
    with tempfile.TemporaryDirectory(prefix="pdf-") as folder:
        root = Path(folder)
        (root / "main.typ").write_text(typeset(book, notebooks, root), encoding="utf-8")
        compress.images(root, printed=True)
        shutil.copy(ASSETS / "book.typ", root)
        try:
            fonts = {"font_paths": [_FONTS], "ignore_system_fonts": True}
            content = typst.compile(root / "main.typ", root=root, pdf_standards=["ua-1"], **fonts)
        except typst.TypstError as error:
            what = f"{error}; {' '.join(error.hints)}".rstrip("; ")
            raise BookError(f"_quarto.yml:1: Typst cannot set this book: {what}") from None
    return compress.pdf(content)


def typeset(book: Book, notebooks: dict[str, NotebookNode], out: Path) -> str:
    """The book's Typst source; writes the images that it shows below the folder `out`."""
    pages = compose.compose(book, notebooks, out)
    labels = {page.chapter.page: page for page in pages}
    body: list[Node] = []
    code: list[Node] = []  # what the pages fold
    numbers, appendices = count(1), _raw("#show: book.appendices")
    for page in pages:
        start = len(code)
        if page.chapter.appendix and appendices not in body:
            body.append(appendices)
        body += _chapter(book, page, labels, numbers, code)
        if len(code) > start:
            code.insert(start, _header(2, page.numbered_title, f"code.{_label(page)}", False))
    cited = {label for page in pages for label in page.cited}
    if cited and not any(REFERENCES in page.blocks for page in pages):
        body += [_header(1, [string("References")], "references", False)]
        body += _call("bibliography-list", [REFERENCES])
    if code:
        body += [_header(1, [string("The code")], "code", False)]
        body += _call("the-code", code)
    options = ["-t", "typst-citations", "--syntax-highlighting=idiomatic"]
    text = compose.written(book, pages[0], body, cited, options, {})
    text = _INTERVAL.sub(r"\1~\2", text)  # [low, high] on one line
    given = {"title": book.title, "subtitle": book.subtitle, "author": book.author}
    show = _function("bind.with", **given, language=book.lang)
    return f'#import "book.typ"\n#import book: horizontalrule\n#show: {show}\n\n{text}'


def _chapter(
    book: Book, page: Page, labels: dict[str, Page], numbers: Iterator[int], code: list[Node]
) -> list[Node]:
    """The chapter's blocks for pandoc's Typst writer; labels: each page's file -> the page.

    The code that the pages fold is added to `code`, each cell with the next of the `numbers`.
    """
    chapter = page.chapter

    def cell(blocks: list[Node]) -> list[Node]:
        """A cell's blocks, with a mark in the place of code, or in a caption, that leads to it."""
        new = [block for block in blocks if block["t"] != "RawBlock"]  # what folds it on the pages
        if new[0]["t"] == "CodeBlock" and "cell-code" in new[0]["c"][0][1]:
            new[0] = source = node("CodeBlock", ["", ["python"], []], new[0]["c"][1])
            if book.code_fold:
                number, what = next(numbers), ""
                mark = "#" + _function("code-mark", number=number)
                new[0] = _raw(mark)
                for block in new[1:]:
                    if block["t"] == "Div" and "float" in block["c"][0][1]:
                        _, (_, kind), ((_, value),) = block["c"][0]
                        what = f"{NAMES[kind]}\u00a0{value}"
                        block["c"][1][0]["c"] += [SPACE, _raw(mark, "RawInline")]
                        del new[0]
                        break
                code.extend(_call("code-cell", [source], number=number, what=what))
        return rewrite(new, visit)

    def link(text: list[Node], url: str) -> list[Node] | None:
        """Links within the book lead to labels, links to files beside the pages become text."""
        path, _, anchor = url.partition("#")
        if compose.EXTERNAL.match(path):
            return None
        text = rewrite(text, visit)
        place = posixpath.normpath(posixpath.join(posixpath.dirname(chapter.page), path))
        if other := labels.get(place) if path else page:
            return _call("inside", text, inline=True, name=_label(other, anchor))
        name = [string("\u00a0("), node("Code", ["", [], []], place), string(")")]
        return text + (name if place not in compose.plain(text) else [])

    def visit(element: Node) -> list[Node] | None:
        if element == REFERENCES:
            return _call("bibliography-list", [element])
        if element["t"] == "DefinitionList":
            return _call("glossary", [node("DefinitionList", *rewrite(element["c"], visit))])
        kind, contents = element["t"], element.get("c")
        if kind == "Header":
            level, (identifier, classes, _), inlines = contents
            numbered = chapter.number is not None and "unnumbered" not in classes
            return [_header(level, rewrite(inlines, visit), _label(page, identifier), numbered)]
        if name := compose.callout_kind(element):
            title, *blocks = rewrite(contents[1], visit)
            return _call("callout", [title], blocks, kind=name)
        if kind == "Div":
            (label, classes, attributes), blocks = contents
            if "cell" in classes:
                return cell(blocks)
            if "float" in classes:
                given = {"kind": classes[1], "word": NAMES[classes[1]]}
                given |= {"number": dict(attributes).get("number", "")}
                given |= {"name": _label(page, label) if label else ""}
                caption, *blocks = rewrite(blocks, visit)
                return _call("floating", [caption], blocks, **given)
            if "claim" in classes:
                outcome = next(each for each in classes if each.startswith("claim-"))
                return _call("claim", rewrite(blocks, visit), outcome=outcome)
        if kind == "CodeBlock" and (file := dict(contents[0][2]).get("filename")):
            listing = node("CodeBlock", ["", contents[0][1], []], contents[1])
            return _call("listing", [listing], file=file)
        if kind == "Table":
            _, _, columns, *rest = rewrite(contents, visit)
            columns = [[align, {"t": "ColWidthDefault"}] for align, _ in columns]
            bare = ["", ["typst:no-figure"], []]  # no figure of pandoc's around it
            return _call("fitting", [node("Table", bare, [None, []], columns, *rest)])
        if kind == "Plain":
            marked = bool(_MARKER.match(compose.plain(contents)))  # pandoc would not escape it
            guard = [_raw("#none;", "RawInline")] * marked
            return [node("Plain", guard + rewrite(contents, visit))]
        if kind == "Span" and "equation" in contents[0][1]:
            (label, _, ((_, number),)), (math,) = contents
            settings = {"number": number, "name": _label(page, label)}
            return _call("equation", [math], inline=True, tex=math["c"][1], **settings)
        if kind == "Math":
            return _call("equation", [element], inline=True, tex=contents[1])
        if kind == "Image":
            given, source = dict(contents[0][2]), contents[2][0]
            place = posixpath.join("/", posixpath.dirname(chapter.file), source)
            width = given.get("width", "auto")
            if re.fullmatch(r"[\d.]+(?:px)?", width):
                width = f"{float(width.removesuffix('px')) * 0.75:g}pt"
            call = _function("picture", file=posixpath.normpath(place), alt=given["alt"])
            return [_raw(f"#{call[:-1]}, width: {width});", "RawInline")]
        if kind == "Link":
            return link(contents[1], contents[2][0])
        if kind == "RawInline" and contents[0] == "html":
            return [string(re.sub(r"<[^>]*>", "", contents[1]))]
        return None

    title = rewrite(page.title, visit)
    heading = _header(1, title, _label(page), chapter.number is not None)
    return [heading, *rewrite(page.blocks, visit)]


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
    return node(kind, "typst", text)


def _header(level: int, inlines: list[Node], label: str, numbered: bool) -> Node:
    return node("Header", level, [label, [] if numbered else ["unnumbered"], []], inlines)
