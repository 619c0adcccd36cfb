"""Turns chapters and their executed notebooks into HTML pages, with pandoc.

Each page goes Markdown -> pandoc's JSON tree -> (numbers, cross-references, callouts) -> HTML.
"""

from __future__ import annotations

import base64
import json
import os
import posixpath
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import pypandoc
from nbformat import NotebookNode

from bookbinder import __version__
from bookbinder.source import CALLOUTS, Book, Chapter, Code, Prose

ASSETS = Path(__file__).with_name("assets")
NAMES = {"fig": "Figure", "tbl": "Table", "eq": "Equation", "sec": "Section"}
_MIME_PRIORITY = ("text/html", "text/markdown", "image/svg+xml", "image/png", "text/plain")
EXTERNAL = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.I)
_REMOTE = re.compile(
    r"<(?:img|script|iframe|video|audio|source|embed)\b[^>]*\ssrc=\"(?:https?:)?//[^>]*>"
    r"|<link\b[^>]*\shref=\"(?:https?:)?//[^>]*>"
)
# a cell that is shown, not run: ```{{python}} within a block of more backquotes
_ESCAPED = re.compile(r"^(\s*`{3,})\{\{(\w+)\}\}", re.M)

Node = dict[str, Any]  # an element of pandoc's tree: {"t": type, "c": contents}


class Target(NamedTuple):
    """What a cross-reference can mean: its chapter, kind ("fig", "chapter" …) and number."""

    chapter: Chapter
    kind: str
    number: str  # empty in unnumbered chapters and sections
    title: list[Node]  # of a chapter or section


@dataclass
class Page:
    chapter: Chapter
    title: list[Node]
    title_id: str
    blocks: list[Node]
    api: list[int]  # version of pandoc's tree
    targets: dict[str, Target] = field(default_factory=dict)
    cited: set[str] = field(default_factory=set)


def bind(book: Book, notebooks: dict[str, NotebookNode], out: Path) -> None:
    """Writes all pages of the book, with their images and assets, into the existing folder `out`.

    Raises BookError for what can only be seen now: a figure cell without exactly one image, a
    missing image file, a cross-reference or citation that leads nowhere.
    """
    (out / "bookbinder").mkdir()
    for asset in ("book.css", "book.js"):
        shutil.copyfile(ASSETS / asset, out / "bookbinder" / asset)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pages = list(
            pool.map(
                lambda chapter: read_page(chapter, book, notebooks[chapter.file], out),
                book.chapters,
            )
        )
        for page in pages:
            number_page(page, book, out)
        targets = {label: target for page in pages for label, target in page.targets.items()}
        for page in pages:
            resolve_page(page, book, targets)
        list(pool.map(lambda page: _write(page, pages, book, out), pages))


# Cells to Markdown


def markdown(chapter: Chapter, notebook: NotebookNode, out: Path) -> str:
    """The chapter's Markdown with the results of its code; writes its images below `out`."""
    cells = iter(notebook.cells)
    parts = []
    for piece in chapter.pieces:
        if isinstance(piece, Prose):
            parts.append(_ESCAPED.sub(r"\1{\2}", piece.text) if piece.verbatim else piece.text)
        elif piece.options is None:
            parts.append(_inline_value(chapter, piece, next(cells)))
        else:
            parts.append(_cell_markdown(chapter, piece, next(cells), out))
    return "".join(parts)


def _inline_value(chapter: Chapter, code: Code, cell: NotebookNode) -> str:
    """The Markdown of an inline expression's value, by Quarto's rules."""
    data = next((o.data for o in cell.outputs if o.output_type == "execute_result"), None)
    kind, value = _best(data) if data else ("text/plain", "None")
    if kind == "text/markdown":
        return value
    if kind == "text/html":
        return f"`{value}`{{=html}}"
    if value.startswith("np."):
        raise chapter.error(
            code.line, f'`{code.source}` gives {value}; format it: f"{{{code.source}:.3f}}"'
        )
    if value[:1] in "'\"" and value[-1:] == value[:1]:
        return re.sub(r"([\\`*_{}\[\]()>#+,\-.!<$@^~|])", r"\\\1", value[1:-1])
    return value


def _cell_markdown(chapter: Chapter, code: Code, cell: NotebookNode, out: Path) -> str:
    options = code.options
    if any("text/html" in output.get("data", {}) for output in cell.outputs):
        what = "HTML output, for which Quarto loads scripts from the network"
        remedy = "return Markdown, or print a ```{=html} block with `#| output: asis`"
        raise chapter.error(code.line, f"{what}; {remedy}")
    if not options.get("include", True):
        return ""
    source = ""
    if options["echo"] and code.source:
        source = _fenced(code.source, ".python .cell-code")
        if fold := options["code-fold"]:
            opening = "<details class='code-fold'" + (" open>" if fold == "show" else ">")
            summary = f"<summary>{escape(options['code-summary'])}</summary>"
            source = _html(opening + summary) + source + _html("</details>")
    show = options.get("output", True)
    images: list[str] = []
    shown = ""
    outputs = cell.outputs if show is not False and options.get("eval", True) else []
    for output in outputs:
        if output.output_type == "stream":
            if output.name == "stderr" and not options["warning"]:
                continue
            text = output.text
            shown += f"{text}\n\n" if show == "asis" else _output(f"std{output.name[3:]}", text)
            continue
        kind, value = _best(output.data)
        if kind.startswith("image/"):
            name = code.label or f"cell-{chapter.code.index(code) + 1}"
            name += f"-{len(images) + 1}" * (bool(images) or not code.label)
            metadata = output.get("metadata", {}).get(kind, {})
            images.append(_image(chapter, code, kind, value, metadata, name, out))
            shown += images[-1] if code.kind != "fig" else ""
        elif kind == "text/markdown":
            shown += f"{value}\n\n" if show == "asis" else _div(value, ".cell-output")
        elif not (images and kind == "text/plain" and value.startswith("<Figure size")):
            shown += _output("display", value)
    wide = " .column-page" if options.get("column") == "page" else ""
    if code.kind and outputs:
        if code.kind == "fig" and len(images) != 1:
            raise chapter.error(
                code.line,
                f"cell {code.label} shows {len(images)} images; it has to show exactly one "
                "(return the figure, or call plt.show() once; plt.close() the others)",
            )
        if code.kind == "tbl" and not shown.strip():
            raise chapter.error(code.line, f"cell {code.label} shows no table; return one")
        caption = " ".join(options[f"{code.kind}-cap"].split())
        content, shown = (images[0], shown) if code.kind == "fig" else (shown, "")
        shown += _div(f"{caption}\n\n{content}", f"#{code.label} .float{wide}")
        wide = ""
    elif images and options.get("fig-cap"):
        shown = _div(f"{' '.join(options['fig-cap'].split())}\n\n{shown}", f".float{wide}")
        wide = ""
    if show == "asis":
        return f"\n{source}\n\n{shown}\n"
    return _div(source + shown, f".cell{wide}") if source or shown else ""


def _best(data: NotebookNode) -> tuple[str, str]:
    """The representation that Quarto would show, as (MIME type, text)."""
    kind = next((kind for kind in _MIME_PRIORITY if kind in data), "text/plain")
    value = data.get(kind, "")
    return kind, "".join(value) if isinstance(value, list) else value


def _image(
    chapter: Chapter,
    code: Code,
    kind: str,
    value: str,
    metadata: dict[str, Any],
    name: str,
    out: Path,
) -> str:
    """Writes an image and returns the Markdown that shows it."""
    alt = " ".join(code.options.get("fig-alt", "").split())
    if not alt:
        raise chapter.error(
            code.line, "this cell shows an image; say what it is by `#| fig-alt: …`"
        )
    content, suffix = (
        (value.encode(), "svg") if kind == "image/svg+xml" else (base64.b64decode(value), "png")
    )
    if suffix == "png" and "width" not in metadata:
        width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
        metadata = {"width": width // 2, "height": height // 2}  # retina: two pixels a point
    source = f"{posixpath.basename(chapter.file)[:-4]}_files/figure-html/{name}.{suffix}"
    file = out / posixpath.dirname(chapter.file) / source
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    size = "".join(f" {key}={metadata[key]}" for key in ("width", "height") if key in metadata)
    alt = alt.replace("\\", "\\\\").replace('"', '\\"')
    return f'\n\n![]({source}){{alt="{alt}"{size}}}\n\n'


def _fenced(text: str, attributes: str) -> str:
    ticks = "`" * (1 + max((len(run) for run in re.findall(r"`{2,}", text)), default=2))
    return f"\n\n{ticks} {{{attributes}}}\n{text}\n{ticks}\n\n"


def _html(text: str) -> str:
    return _fenced(text, "=html")


def _output(kind: str, text: str) -> str:
    return _div(_fenced(text.rstrip("\n"), ".output"), f".cell-output .cell-output-{kind}")


def _div(text: str, attributes: str) -> str:
    return f"\n\n::: {{{attributes}}}\n\n{text}\n\n:::\n\n"


# The tree


def pandoc(chapter: Chapter, arguments: list[str], text: str) -> str:
    """What pandoc makes of `text`. Raises BookError if it fails or warns."""
    command = [pypandoc.get_pandoc_path(), *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8")
    if missing := re.search(r"citation (\S+) not found", done.stderr):
        what = f"@{missing[1]} is not in the bibliography; add or correct it"
        raise chapter.error(f"@{missing[1]}", what)
    if done.returncode or "[WARNING]" in done.stderr:
        raise chapter.error(1, f"pandoc does not understand this chapter: {done.stderr.strip()}")
    return done.stdout


def read_page(chapter: Chapter, book: Book, notebook: NotebookNode, out: Path) -> Page:
    """The chapter with what its cells gave, as pandoc's tree past the book's filters; writes its
    figures below the folder `out`."""
    options = ["-f", "markdown", "-t", "json", f"--metadata=chapter:{chapter.file}"]
    options += [f"--lua-filter={book.root / file}" for file in book.filters]
    options += [f"--metadata-file={book.root / file}" for file in book.metadata]

    def tree(text: str) -> dict[str, Any]:
        return json.loads(pandoc(chapter, options, text))

    read = tree(markdown(chapter, notebook, out))
    blocks, api = read["blocks"], read["pandoc-api-version"]
    if chapter.title is not None:
        return Page(chapter, tree(chapter.title)["blocks"][0]["c"], "", blocks, api)
    at = next(i for i, block in enumerate(blocks) if block["t"] == "Header")
    _, (identifier, _, _), title = blocks[at]["c"]
    return Page(chapter, title, identifier, blocks[:at] + blocks[at + 1 :], api)


def rewrite(tree: Any, visit: Callable[[Node], list[Node] | None]) -> Any:
    """The tree with each element replaced by what `visit` returns (None: kept), parents first."""
    if isinstance(tree, dict):
        return {key: rewrite(value, visit) for key, value in tree.items()}
    if not isinstance(tree, list):
        return tree
    new = []
    for item in tree:
        replaced = visit(item) if isinstance(item, dict) and "t" in item else None
        for element in [item] if replaced is None else replaced:
            new.append(rewrite(element, visit))
    return new


def plain(inlines: Any) -> str:
    """The bare text of inlines."""
    if isinstance(inlines, dict):
        kind = inlines.get("t")
        if kind in ("Space", "SoftBreak", "LineBreak"):
            return " "
        if kind in ("Code", "Math"):
            return inlines["c"][1]
        return inlines["c"] if kind == "Str" else plain(inlines.get("c", ""))
    return "".join(plain(i) for i in inlines) if isinstance(inlines, list) else ""


_SPACE = {"t": "Space"}


def _str(text: str) -> Node:
    return {"t": "Str", "c": text}


def _raw(html: str) -> Node:
    return {"t": "RawBlock", "c": ["html", html]}


def _span(css_class: str, inlines: list[Node], identifier: str = "") -> Node:
    return {"t": "Span", "c": [[identifier, [css_class], []], inlines]}


def cite(label: str) -> Node:
    citation = {
        "citationId": label,
        "citationPrefix": [],
        "citationSuffix": [],
        "citationMode": {"t": "NormalCitation"},
        "citationNoteNum": 0,
        "citationHash": 0,
    }
    return {"t": "Cite", "c": [[citation], []]}


def _div_node(css_class: str, blocks: list[Node]) -> Node:
    return {"t": "Div", "c": [["", [css_class], []], blocks]}


def number_page(page: Page, book: Book, out: Path) -> None:
    """Numbers sections and floats, forms floats and callouts, copies the images the page shows."""
    chapter = page.chapter
    counts: Counter[str] = Counter()
    sections = [0] * 7

    def target(label: str, kind: str, number: str, title: list[Node] | None = None) -> str:
        if label in page.targets:
            raise chapter.error(label, f"{label} stands twice on this page; rename one")
        page.targets[label] = Target(chapter, kind, number, title or [])
        return number

    def next_number(label: str, kind: str) -> str:
        counts[kind] += 1
        prefix = f"{chapter.number}." if chapter.number else ""
        return target(label, kind, f"{prefix}{counts[kind]}")

    def make_float(label: str, classes: list[str], caption: list[Node], content: list[Node]):
        kind = label[:3] if label else "fig"
        if label:
            name = f"{NAMES[kind]}\u00a0{next_number(label, kind)}:"
            caption = [_str(name), _SPACE, *caption]
        identifier = f' id="{label}"' if label else ""
        opening = f'<figure{identifier} class="{" ".join([f"float-{kind}", *classes])}">'
        captioned = [_raw("<figcaption>"), {"t": "Plain", "c": caption}, _raw("</figcaption>")]
        body = captioned + content if kind == "tbl" else content + captioned
        return [_raw(opening), *body, _raw("</figure>")]

    def visit(node: Node) -> list[Node] | None:
        kind, contents = node["t"], node.get("c")
        if kind == "Header":
            level, (identifier, classes, attributes), inlines = contents
            title, number = inlines, ""
            if chapter.number and "unnumbered" not in classes:
                sections[level] += 1
                sections[level + 1 :] = [0] * (6 - level)
                number = ".".join(str(n) for n in [chapter.number, *sections[2 : level + 1]])
                inlines = [_span("header-section-number", [_str(number)]), _SPACE, *title]
            if identifier.startswith("sec-"):
                target(identifier, "sec", number, title)
            return [{"t": "Header", "c": [level, [identifier, classes, attributes], inlines]}]
        if kind == "Div":
            (identifier, classes, attributes), blocks = contents
            if "float" in classes:
                classes = [name for name in classes if name != "float"]
                return make_float(identifier, classes, blocks[0]["c"], blocks[1:])
            if callout := next((n for n in CALLOUTS if f"callout-{n}" in classes), ""):
                return _callout(callout, dict(attributes), blocks)
        if kind == "Figure" and contents[0][0].startswith("fig-"):
            caption = [inline for block in contents[1][1] for inline in block["c"]]
            return make_float(contents[0][0], [], caption, contents[2])
        if kind == "Table" and "scroll" not in contents[0][1]:
            (label, classes, attributes), (_, caption), *rest = contents
            labelled = label.startswith("tbl-")
            header = ["" if labelled else label, [*classes, "scroll"], attributes]
            table = {"t": "Table", "c": [header, [None, [] if labelled else caption], *rest]}
            scrolling = _div_node("table-scroll", [table])
            if not labelled:
                return [scrolling]
            return make_float(label, [], [i for b in caption for i in b["c"]], [scrolling])
        if kind in ("Para", "Plain") and any(n["t"] == "Math" for n in contents):
            return [{"t": kind, "c": numbered_equations(contents, next_number)}]
        if kind == "Image":
            return [_image_node(page, book, out, contents)]
        return None

    if page.title_id.startswith("sec-"):
        target(page.title_id, "chapter", str(chapter.number or ""), page.title)
    page.blocks = rewrite(page.blocks, visit)


def _callout(kind: str, attributes: dict[str, str], blocks: list[Node]) -> list[Node]:
    title = [_str(attributes.get("title") or kind.capitalize())]
    if blocks and blocks[0]["t"] == "Header":
        title, blocks = blocks[0]["c"][2], blocks[1:]
    title = [{"t": "Plain", "c": [_span("callout-title", title)]}]
    if "collapse" in attributes:
        state = "" if attributes["collapse"] == "true" else " open"
        opening = f'<details class="callout callout-{kind}"{state}><summary>'
        return [_raw(opening), *title, _raw("</summary>"), *blocks, _raw("</details>")]
    opening = f'<div class="callout callout-{kind}" role="note">'
    return [_raw(opening), *title, *blocks, _raw("</div>")]


def numbered_equations(inlines: list[Node], next_number: Callable[[str, str], str]) -> list[Node]:
    """Numbers display equations that `{#eq-x}` follows."""
    new: list[Node] = []
    for inline in inlines:
        label = inline["t"] == "Str" and re.fullmatch(r"\{#(eq-[\w-]+)\}(.*)", inline["c"])
        before = next((i for i in reversed(new) if i["t"] != "Space"), None)
        if not label or not before or before["t"] != "Math":
            new.append(inline)
            continue
        while new.pop() is not before:
            pass
        number = _span("equation-number", [_str(f"({next_number(label[1], 'eq')})")])
        new.append(_span("equation", [before, number], label[1]))
        new += [_str(label[2])] * bool(label[2])
    return new


def _image_node(page: Page, book: Book, out: Path, contents: list[Any]) -> Node:
    """The image, lazy and with its alternative text; its file is copied beside the page."""
    (identifier, classes, attributes), inlines, (source, title) = contents
    attributes = dict(attributes)
    alt = attributes.pop("fig-alt", "") or attributes.get("alt", "") or plain(inlines)
    if not alt.strip():
        raise page.chapter.error(source, f'image {source} has no fig-alt; add {{fig-alt="…"}}')
    if EXTERNAL.match(source) and not source.startswith("data:"):
        raise page.chapter.error(source, f"image {source} is remote; keep a copy in the project")
    place = posixpath.normpath(posixpath.join(posixpath.dirname(page.chapter.file), source))
    if not source.startswith("data:") and not (out / place).is_file():
        if place.startswith("..") or not (book.root / place).is_file():
            raise page.chapter.error(
                source, f"no image file {place}; create it or correct the path"
            )
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(book.root / place, out / place)
    attributes |= {"alt": alt, "loading": "lazy"}
    return {
        "t": "Image",
        "c": [[identifier, classes, list(attributes.items())], [], [source, title]],
    }


def resolve_page(page: Page, book: Book, targets: dict[str, Target]) -> None:
    """Turns cross-references and links to chapters into links to pages; notes what is cited."""
    chapter = page.chapter
    pages = {other.file: other.page for other in book.chapters}

    def reference(citation: dict[str, Any]) -> Node:
        label = citation["citationId"]
        found = targets.get(label)
        if not found:
            raise chapter.error(f"@{label}", f"@{label} is defined by no output; correct it")
        if found.title and not chapter.number:  # as Quarto: unnumbered pages speak of titles
            number = [_str(found.number), _SPACE] if found.kind == "chapter" else []
            text = number * bool(found.number) + found.title
        elif not found.number:
            raise chapter.error(f"@{label}", f"@{label} is not numbered; link to it instead")
        elif citation["citationMode"]["t"] == "SuppressAuthor":
            text = [_str(found.number)]
        else:
            name = "Chapter" if found.kind == "chapter" else NAMES[found.kind]
            text = [*(citation["citationPrefix"] or [_str(name)]), _str(f"\u00a0{found.number}")]
        where = "" if found.chapter is chapter else _relative(chapter.page, found.chapter.page)
        return {"t": "Link", "c": [["", ["xref"], []], text, [f"{where}#{label}", ""]]}

    def visit(node: Node) -> list[Node] | None:
        if node["t"] == "Cite":
            citations = node["c"][0]
            labels = [c for c in citations if re.match(r"(?:fig|tbl|sec|eq)-", c["citationId"])]
            if not labels:
                page.cited.update(c["citationId"] for c in citations)
                return None
            if len(labels) != len(citations):
                label = labels[0]["citationId"]
                raise chapter.error(
                    f"@{label}", f"@{label} among citations; give it its own brackets"
                )
            links = [node for c in labels for node in (_str(", "), reference(c))]
            return links[1:]
        if node["t"] == "Link":
            attributes, text, (url, title) = node["c"]
            path, hash_, anchor = url.partition("#")
            if path.endswith(".qmd") and not EXTERNAL.match(path):
                place = posixpath.join(posixpath.dirname(chapter.file), path)
                file = posixpath.normpath(place).removeprefix("/")
                if file not in pages:
                    raise chapter.error(path, f"link to {path}, which is no chapter; correct it")
                url = _relative(chapter.page, pages[file]) + hash_ + anchor
                return [{"t": "Link", "c": [attributes, text, [url, title]]}]
        return None

    page.blocks = rewrite(page.blocks, visit)


def _relative(page: str, target: str) -> str:
    return posixpath.relpath(target, posixpath.dirname(page) or ".")


# The page


def _write(page: Page, pages: list[Page], book: Book, out: Path) -> None:
    chapter = page.chapter
    blocks = page.blocks
    cited = page.cited
    if any(node["t"] == "Div" and node["c"][0][0] == "refs" for node in blocks):
        cited = {label for other in pages for label in other.cited}
    elif cited:
        attributes = ["page-references", ["unnumbered"], []]
        header = {"t": "Header", "c": [2, attributes, [_str("References")]]}
        blocks = [*blocks, header, {"t": "Div", "c": [["refs", [], []], []]}]

    def link(other: Page, **attributes: str) -> Node:
        number = [_str(f"{other.chapter.number}\u2002")] if other.chapter.number else []
        url = _relative(chapter.page, other.chapter.page)
        attribute = ["", [], list(attributes.items())]
        return {"t": "Link", "c": [attribute, number + other.title, [url, ""]]}

    def inlines(nodes: list[Node]) -> Node:
        return {"t": "MetaInlines", "c": nodes}

    i = pages.index(page)
    nav = [
        [{"t": "Plain", "c": [link(p, **{"aria-current": "page"} if p is page else {})]}]
        for p in pages
    ]
    number = [_span("chapter-number", [_str(str(chapter.number))]), _SPACE]
    texts = {
        "lang": book.language,
        "pagetitle": f"{plain(page.title)} – {book.title}" if i else book.title,
        "book": book.title,
        "subtitle": book.subtitle if i == 0 else "",
        "author": book.author if i == 0 else "",
        "root": "../" * chapter.page.count("/"),
        "titleid": page.title_id,
        "version": __version__,
    }
    meta = {key: inlines([_str(text)]) for key, text in texts.items() if text}
    meta["heading"] = inlines((number if chapter.number else []) + page.title)
    meta["nav"] = {"t": "MetaBlocks", "c": [{"t": "BulletList", "c": nav}]}
    meta["first"] = {"t": "MetaBool", "c": i == 0}
    if i > 0:
        meta["previous"] = inlines([link(pages[i - 1], rel="prev")])
    if i + 1 < len(pages):
        meta["next"] = inlines([link(pages[i + 1], rel="next")])
    if cited:
        meta["link-citations"] = {"t": "MetaBool", "c": True}
        meta["nocite"] = inlines([cite(label) for label in sorted(cited)])
    options = ["-f", "json", "-t", "html5", "--standalone", "--mathml", "--wrap=none", "--toc"]
    options += [f"--toc-depth={book.toc_depth}", f"--template={ASSETS / 'page.html'}"]
    if cited:
        options += ["--citeproc", *(f"--bibliography={book.root / b}" for b in book.bibliography)]
    tree = {"pandoc-api-version": page.api, "meta": meta, "blocks": blocks}
    html = pandoc(chapter, options, json.dumps(tree))
    if remote := _REMOTE.search(html):
        raise chapter.error(
            1, f"the page would load {remote[0][:80]} from the network; keep a copy in the project"
        )
    file = out / chapter.page
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(html, encoding="utf-8")
