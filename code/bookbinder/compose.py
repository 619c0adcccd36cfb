"""Makes of each chapter and its executed notebook one tree that pages and PDF are written from.

A chapter goes Markdown with the results of its cells -> pandoc's tree -> numbers -> references.
What it then holds, besides pandoc's own elements, in the same form wherever it came from:

* a numbered heading has an attribute `number`;
* a figure or table with a caption is a Div of the classes `float` and `fig` or `tbl`: its caption
  (Plain), then its content; with an id and an attribute `number` if it is labelled;
* a callout is a Div of the class `callout-…`: its title (Plain), then its blocks;
* a numbered equation is a Span of the class `equation`, with id and attribute `number`;
* an image has a text in its attribute `alt`, and its file stands beside the chapter's page;
* cross-references and links to chapters are links to pages.
"""

import base64
import hashlib
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

from bookbinder.source import CALLOUTS, Book, Chapter, Code, Prose

NAMES = {"fig": "Figure", "tbl": "Table", "eq": "Equation", "sec": "Section"}
NAMES |= {"chapter": "Chapter", "appendix": "Appendix"}
EXTERNAL = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.I)
# a cell that is shown, not run: ```{{python}} within a block of more backquotes
_ESCAPED = re.compile(r"^(\s*`{3,})\{\{(\w+)\}\}", re.M)
_EQUATION = re.compile(r"(\$\$(?:[^$\n]|\n(?!\n))+\$\$)[ \t]*\{#(eq-[\w-]+)\}")

Node = dict[str, Any]  # an element of pandoc's tree: {"t": type, "c": contents}
Visit = Callable[[Node], list[Node] | None]
SPACE = {"t": "Space"}
REFERENCES = {"t": "Div", "c": [["refs", [], []], []]}  # where pandoc lists the works cited


class Target(NamedTuple):
    """What a cross-reference can mean: its chapter, kind ("fig", "chapter" …) and number."""

    chapter: Chapter
    kind: str
    number: str  # of an appendix its letter; empty if it is unnumbered
    title: list[Node]  # of a chapter or section


@dataclass
class Page:
    chapter: Chapter
    title: list[Node]
    title_id: str
    blocks: list[Node]
    api: list[int]  # version of pandoc's tree
    cited: set[str] = field(default_factory=set)

    @property
    def numbered_title(self) -> list[Node]:
        number = self.chapter.number
        return [string(f"{number}\u2002")] * bool(number) + self.title

    @property
    def kind(self) -> str:
        return "appendix" if self.chapter.appendix and self.chapter.number else "chapter"


def compose(
    book: Book, notebooks: dict[str, NotebookNode], out: Path, marked: bool = False
) -> list[Page]:
    """The chapters in order; writes the images that they show below the existing folder `out`.
    marked: each cell stands in a Div of the class `piece`, its place in the code as attribute `n`.

    Raises BookError for what can only be seen now: a figure cell without exactly one image, a
    missing image file, a cross-reference or citation that leads nowhere.
    """

    def read(chapter: Chapter) -> Page:
        text = _markdown(book, chapter, notebooks[chapter.file], out, marked)
        tree = json.loads(pandoc(chapter, ["-f", "markdown", "-t", "json"], text))
        at = next(i for i, block in enumerate(tree["blocks"]) if block["t"] == "Header")
        _, (identifier, _, _), title = tree["blocks"].pop(at)["c"]
        return Page(chapter, title, identifier, tree["blocks"], tree["pandoc-api-version"])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pages = list(pool.map(read, book.chapters))
    targets: dict[str, Target] = {}
    for page in pages:
        _number(page, book, out, targets)
    for page in pages:
        _resolve(page, book, targets)
    return pages


def node(kind: str, *contents: Any) -> Node:
    """An element of pandoc's tree."""
    return {"t": kind, "c": contents[0] if len(contents) == 1 else list(contents)}


def string(text: str) -> Node:
    return node("Str", text)


# Cells to Markdown


def _markdown(book: Book, chapter: Chapter, notebook: NotebookNode, out: Path, marked: bool) -> str:
    """The chapter's Markdown with the results of its code; writes its images below `out`."""
    cells = iter(notebook.cells)
    parts = []
    for piece in chapter.pieces:
        if isinstance(piece, Prose):
            shown = _EQUATION.sub(r"[\1]{#\2 .equation}", piece.text)
            parts.append(_ESCAPED.sub(r"\1{\2}", piece.text) if piece.verbatim else shown)
            continue
        cell = next(cells)
        if any("text/html" in output.get("data", {}) for output in cell.outputs):
            what = "HTML output, for which Quarto loads scripts from the network; return Markdown"
            raise chapter.error(piece.line, what)
        if piece.options is None:
            parts.append(_inline_value(chapter, piece, cell))
        else:
            shown = _cell_markdown(book, chapter, piece, cell, out)
            n = chapter.code.index(piece)
            parts.append(_div(shown, f".piece n={n}") if marked else shown)
    return "".join(parts)


def _inline_value(chapter: Chapter, code: Code, cell: NotebookNode) -> str:
    """The Markdown of an inline expression's value, by Quarto's rules."""
    data = next((o.data for o in cell.outputs if o.output_type == "execute_result"), {})
    value = data.get("text/markdown") or data.get("text/plain", "None")
    if value.startswith("np."):
        what = f'`{code.source}` gives {value}; format it: f"{{{code.source}:.3f}}"'
        raise chapter.error(code.line, what)
    if value[:1] in "'\"" and value[-1:] == value[:1] and "text/markdown" not in data:
        return re.sub(r"([\\`*_{}\[\]()>#+,\-.!<$@^~|])", r"\\\1", value[1:-1])
    return value


def _cell_markdown(book: Book, chapter: Chapter, code: Code, cell: NotebookNode, out: Path) -> str:
    options = code.options
    if not options.get("include", True):
        return ""
    source = shown = ""
    if code.source and options.get("echo", book.echo):
        source = _fenced(code.source, ".python .cell-code")
        if book.code_fold:
            summary = f"<details class='code-fold'><summary>{escape(book.code_summary)}</summary>"
            source = f"{_fenced(summary, '=html')}{source}{_fenced('</details>', '=html')}"
    images: list[str] = []
    for output in cell.outputs:
        data = output.get("data", {})
        text = output.get("text", data.get("text/plain", ""))
        if "text/markdown" in data:
            shown += _div(data["text/markdown"], ".cell-output")
        elif "image/png" in data:
            images.append(_image(chapter, code, output, len(images) + 1, out))
            shown += images[-1] if code.kind != "fig" else ""
        elif output.get("name") == "stderr" and not book.warning:
            continue
        elif not (images and text.startswith("<Figure size")):
            kind = output.get("name", "display")
            block = _fenced(text.rstrip("\n"), ".output")
            shown += _div(block, f".cell-output .cell-output-{kind}")
    if code.kind == "fig" and len(images) != 1:
        what = f"cell {code.label} shows {len(images)} images; return one figure, close the others"
        raise chapter.error(code.line, what)
    if code.kind == "tbl" and not shown.strip():
        raise chapter.error(code.line, f"cell {code.label} shows no table; return one")
    if code.kind:
        caption = " ".join(options[f"{code.kind}-cap"].split())
        content, shown = (images[0], shown) if code.kind == "fig" else (shown, "")
        shown += _div(f"{caption}\n\n{content}", f"#{code.label} .float")
    return _div(source + shown, ".cell") if source or shown else ""


def _image(chapter: Chapter, code: Code, output: NotebookNode, n: int, out: Path) -> str:
    """Writes the `n`-th image of a cell and returns the Markdown that shows it."""
    alt = " ".join(code.options.get("fig-alt", "").split())
    if not alt:
        raise chapter.error(code.line, "an image without alternative text; add `#| fig-alt: …`")
    name = code.label or f"cell-{chapter.code.index(code) + 1}"
    name += f"-{n}" * (n > 1 or not code.label)
    source = f"{posixpath.basename(chapter.file)[:-4]}_files/figure-html/{name}.png"
    file = out / posixpath.dirname(chapter.file) / source
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(base64.b64decode(output.data["image/png"]))
    size = output.metadata.get("image/png", {})
    given = "".join(f" {key}={value}" for key, value in size.items())
    alt = alt.replace("\\", "\\\\").replace('"', '\\"')
    return f'\n\n![]({source}){{alt="{alt}"{given}}}\n\n'


def _fenced(text: str, attributes: str) -> str:
    ticks = "`" * (1 + max((len(run) for run in re.findall(r"`{2,}", text)), default=2))
    return f"\n\n{ticks} {{{attributes}}}\n{text}\n{ticks}\n\n"


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


def written(
    book: Book, page: Page, blocks: list[Node], cited: set[str], options: list[str], meta: Node
) -> str:
    """What pandoc writes of a page's blocks, with the works `cited` as its bibliography."""
    options = ["-f", "json", "--wrap=none", *options]
    if cited:
        given = {"citationPrefix": [], "citationSuffix": [], "citationNoteNum": 0}
        given |= {"citationMode": {"t": "NormalCitation"}, "citationHash": 0}
        works = [node("Cite", [{"citationId": label, **given}], []) for label in sorted(cited)]
        meta |= {"link-citations": node("MetaBool", True), "nocite": node("MetaInlines", works)}
        options += ["--citeproc", f"--bibliography={book.root / book.bibliography}"]
    tree = {"pandoc-api-version": page.api, "meta": meta, "blocks": blocks}
    return pandoc(page.chapter, options, json.dumps(tree))


def rewrite(tree: Any, visit: Visit) -> Any:
    """The tree with each element replaced by what `visit` returns, which is not visited again;
    where it returns None, the element is kept and what it holds is visited."""
    if isinstance(tree, dict):
        return {key: rewrite(value, visit) for key, value in tree.items()}
    if not isinstance(tree, list):
        return tree
    new = []
    for item in tree:
        made = visit(item) if isinstance(item, dict) and "t" in item else None
        new += [rewrite(item, visit)] if made is None else made
    return new


def plain(inlines: Any) -> str:
    """The bare text of inlines."""
    if isinstance(inlines, list):
        return "".join(map(plain, inlines))
    if not isinstance(inlines, dict):
        return ""
    kind, held = inlines.get("t"), inlines.get("c")
    if kind in ("Space", "SoftBreak", "LineBreak"):
        return " "
    return held if kind == "Str" else held[1] if kind in ("Code", "Math") else plain(held)


def callout_kind(element: Node) -> str:
    """ "note", "tip" … if the element is a callout, else "" """
    classes = element["c"][0][1] if element["t"] == "Div" else ()
    return next((name for name in CALLOUTS if f"callout-{name}" in classes), "")


def _number(page: Page, book: Book, out: Path, targets: dict[str, Target]) -> None:
    """Gives the page the forms that the top of this file describes, and copies its images."""
    chapter = page.chapter
    counts: Counter[str] = Counter()
    sections = [0] * 7

    def target(label: str, kind: str, number: str, title: list[Node] | None = None) -> None:
        if label in targets:
            raise chapter.error(label, f"label {label} stands twice; rename one")
        targets[label] = Target(chapter, kind, number, title or [])

    def next_number(label: str) -> list[list[str]]:
        """As attributes: none without a label."""
        if not label:
            return []
        kind = label.partition("-")[0]
        counts[kind] += 1
        number = f"{chapter.number}.{counts[kind]}" if chapter.number else str(counts[kind])
        target(label, kind, number)
        return [["number", number]]

    def floating(label: str, kind: str, caption: list[Node], content: list[Node]) -> list[Node]:
        label = label if label.startswith(f"{kind}-") else ""
        attributes = [label, ["float", kind], next_number(label)]
        return [node("Div", attributes, rewrite([node("Plain", caption), *content], visit))]

    def visit(element: Node) -> list[Node] | None:
        kind, contents = element["t"], element.get("c")
        if kind == "Header":
            level, (identifier, classes, attributes), title = contents
            number = ""
            if chapter.number and "unnumbered" not in classes:
                sections[level] += 1
                sections[level + 1 :] = [0] * (6 - level)
                number = ".".join(str(n) for n in [chapter.number, *sections[2 : level + 1]])
                attributes = [*attributes, ["number", number]]
            if identifier.startswith("sec-"):
                target(identifier, "sec", number, title)
            title = rewrite(title, visit)
            return [node("Header", level, [identifier, classes, attributes], title)]
        if kind == "Div" and "float" in contents[0][1]:
            (label, _, _), (caption, *content) = contents
            return floating(label, label[:3], caption["c"], content)
        if name := callout_kind(element):
            (_, classes, attributes), blocks = contents
            title = [string(dict(attributes).get("title") or name.capitalize())]
            if blocks and blocks[0]["t"] == "Header":
                title, blocks = blocks[0]["c"][2], blocks[1:]
            blocks = rewrite([node("Plain", title), *blocks], visit)
            return [node("Div", ["", classes, attributes], blocks)]
        if kind in ("Figure", "Table") and (blocks := contents[1][1]):
            caption = [inline for block in blocks for inline in block["c"]]
            (label, *attributes), _, *content = contents
            if kind == "Figure":
                return floating(label, "fig", caption, content[0])
            table = node("Table", ["", *attributes], [None, []], *content)
            return floating(label, "tbl", caption, [table])
        if kind == "Span" and "equation" in contents[0][1]:
            (label, classes, _), inlines = contents
            return [node("Span", [label, classes, next_number(label)], inlines)]
        return [_checked_image(page, book, out, contents)] if kind == "Image" else None

    if page.title_id.startswith("sec-"):
        target(page.title_id, page.kind, str(chapter.number or ""), page.title)
    page.blocks = rewrite(page.blocks, visit)


_EMBEDDED = "data:image/png;base64,"


def _checked_image(page: Page, book: Book, out: Path, contents: list[Any]) -> Node:
    """The image, lazy and with its alternative text; its file is copied beside the page."""
    (identifier, classes, attributes), inlines, (source, title) = contents
    attributes = dict(attributes)
    if source.startswith(_EMBEDDED):  # by a cell; a file like others, for the PDF too
        png = base64.b64decode(source.removeprefix(_EMBEDDED))
        files = f"{posixpath.basename(page.chapter.file)[:-4]}_files/figure-html"
        source = f"{files}/{hashlib.sha256(png).hexdigest()[:12]}.png"
        file = out / posixpath.dirname(page.chapter.file) / source
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png)
    alt = attributes.pop("fig-alt", "") or attributes.get("alt", "") or plain(inlines)
    place = posixpath.normpath(posixpath.join(posixpath.dirname(page.chapter.file), source))
    if not alt.strip():
        raise page.chapter.error(source, f'image {source} has no fig-alt; add {{fig-alt="…"}}')
    if not (out / place).is_file():
        if place.startswith("..") or not (book.root / place).is_file():
            what = f"no image file {place} in the project; create it or correct the path"
            raise page.chapter.error(source, what)
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(book.root / place, out / place)
    attributes = list((attributes | {"alt": alt, "loading": "lazy"}).items())
    return node("Image", [identifier, classes, attributes], [], [source, title])


def _resolve(page: Page, book: Book, targets: dict[str, Target]) -> None:
    """Turns cross-references and links to chapters into links to pages; notes what is cited."""
    chapter = page.chapter
    pages = {other.file: other.page for other in book.chapters}

    def reference(citation: dict[str, Any]) -> Node:
        label = citation["citationId"]
        found = targets.get(label)
        if not found:
            raise chapter.error(f"@{label}", f"@{label} is defined by no output; correct it")
        if found.title and not chapter.number:  # as Quarto: unnumbered pages speak of titles
            number = {"chapter": found.number, "appendix": appendix_number(found.number)}
            shown = number.get(found.kind, "") if found.number else ""
            text = [string(shown), SPACE] * bool(shown) + found.title
        elif not found.number:
            raise chapter.error(f"@{label}", f"@{label} is not numbered; link to it instead")
        elif citation["citationMode"]["t"] == "SuppressAuthor":
            text = [string(found.number)]
        else:
            name = citation["citationPrefix"] or [string(NAMES[found.kind])]
            text = [*name, string(f"\u00a0{found.number}")]
        where = "" if found.chapter is chapter else relative(chapter.page, found.chapter.page)
        return node("Link", ["", ["xref"], []], text, [f"{where}#{label}", ""])

    def visit(element: Node) -> list[Node] | None:
        if element["t"] == "Cite":
            citations = element["c"][0]
            labels = [c for c in citations if re.match(r"(?:fig|tbl|sec|eq)-", c["citationId"])]
            if not labels:
                page.cited.update(c["citationId"] for c in citations)
                return None
            if len(labels) != len(citations):
                label = f"@{labels[0]['citationId']}"
                raise chapter.error(label, f"{label} among citations; give it its own brackets")
            return [new for c in labels for new in (string(", "), reference(c))][1:]
        if element["t"] == "Link":
            attributes, text, (url, title) = element["c"]
            path, hash_, anchor = url.partition("#")
            if path.endswith(".qmd") and not EXTERNAL.match(path):
                place = posixpath.join(posixpath.dirname(chapter.file), path)
                file = posixpath.normpath(place).removeprefix("/")
                if file not in pages:
                    raise chapter.error(path, f"link to {path}, which is no chapter; correct it")
                url = relative(chapter.page, pages[file]) + hash_ + anchor
                return [node("Link", attributes, rewrite(text, visit), [url, title])]
        return None

    page.blocks = rewrite(page.blocks, visit)


def appendix_number(letter: str) -> str:
    """What stands before the title of an appendix, as Quarto has it."""
    return f"{NAMES['appendix']} {letter} —"


def relative(page: str, target: str) -> str:
    return posixpath.relpath(target, posixpath.dirname(page) or ".")
