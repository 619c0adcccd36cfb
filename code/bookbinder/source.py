"""Reads a book: `_quarto.yml`, the profile's additions to it, and its chapters, cut into prose and
code.

Everything that bookbinder does not support is refused here, by file and line, before any code runs.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bookbinder import BookError

# A schema maps a key to a nested schema, to a set of permitted values, or to permitted types.
_FOLD = {True, False, "show"}
_EXECUTE = {"freeze": {False}, "cache": {False}, "echo": bool, "warning": bool, "daemon": {False}}
_BOOK = {
    "project": {
        "type": {"book"},
        "output-dir": str,
        "execute-dir": {"project"},
        "post-render": (str, list),
    },
    "lang": str,
    "book": {
        "title": str,
        "subtitle": str,
        "author": str,
        "description": str,
        "search": {False},  # Quarto's; the pages' last dressing (reader.py) brings its own
        "chapters": list,
    },
    "bibliography": (str, list),
    "execute": _EXECUTE,
    "jupyter": {"python3"},
    "filters": list,
    "metadata-files": list,
    "format": {
        "html": {
            "theme": (str, list, dict),  # Quarto's; bookbinder has one look of its own
            "html-math-method": {"mathml"},
            "code-fold": _FOLD,
            "code-summary": str,
            "code-copy": {True},
            "respect-user-color-scheme": {True},
            "fig-format": {"retina"},
            "anchor-sections": {False},  # likewise
            "toc": {True},
            "toc-depth": int,
            "number-sections": {True},
            "link-external-newwindow": {False},
        }
    },
}
_CHAPTER = {
    "title": str,
    "execute": {"echo": bool, "warning": bool},
    "bookbinder": {"after": {"all"}, "always": {True}},
}
_CELL = {
    "label": str,
    "fig-cap": str,
    "fig-alt": str,
    "tbl-cap": str,
    "echo": bool,
    "include": bool,
    "output": {True, False, "asis"},
    "code-fold": _FOLD,
    "code-summary": str,
    "eval": bool,
    "warning": bool,
    "column": {"page", "body"},
}

_FILES = ("bibliography", "filters", "metadata-files")  # keys that name files of the project

_TYPE_NAMES = {
    str: "text",
    bool: "true or false",
    int: "whole number",
    list: "list",
    dict: "mapping",
}

CALLOUTS = ("note", "tip", "important", "warning", "caution")
_REFERENCE_KINDS = "fig|tbl|sec|eq"

_INLINE = re.compile(r"(?<!`)`\{python\}[ \t]([^`]+)`")
_FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})\s*(.*?)\s*$")
_HEADING = re.compile(r"^# +(.*?)\s*$")
_DEFINITION = re.compile(rf"\{{[^{{}}\n]*#((?:{_REFERENCE_KINDS})-[\w-]+)")
_REFERENCE = re.compile(rf"(?<![\w\\])@((?:{_REFERENCE_KINDS})-[\w-]*\w)")

# What prose may not hold: pattern, what it is, what to do instead.
_REFUSED = [
    (r"\{\{<", "shortcodes are not supported", "write its result, or compute it in a cell"),
    (
        r"^:{3,}.*[{ .](?:panel-[\w-]+|content-(?:visible|hidden)|column-[\w-]+|columns|aside)\b",
        "this fenced div is not supported",
        "use plain sections, figures and callouts",
    ),
    (r"\{[^}\n]*\blayout(?:-\w+)?=", "layouts are not supported", "draw the panels in one figure"),
    (
        r"^:{3,}.*#(?:fig|tbl|lst|thm|lem|cor|def|exm)-",
        "labelled divs are not supported",
        "label a cell, an image, a table or an equation",
    ),
    (
        rf"^:{{3,}}.*\.callout-(?!(?:{'|'.join(CALLOUTS)})\b)",
        "unknown callout",
        "use one of callout-" + ", callout-".join(CALLOUTS),
    ),
    (
        # attributes of a callout other than title and collapse, skipping quoted values
        r"^:{3,}\s*\{(?=[^}\n]*\.callout-)(?:\"[^\"]*\"|(?:title|collapse)=|[^}\n\"=])*?"
        r"\b(?!title=|collapse=)[\w-]+=",
        "a callout takes only title and collapse",
        "drop the other attributes",
    ),
    (
        r"!\[[^\]]*\]\((?:https?:)?//|<\w+[^>]*\s(?:src|srcset|poster)=[\"']?(?:https?:)?//"
        r"|<link\b[^>]*\shref=[\"']?(?:https?:)?//",
        "a remote resource",
        "keep a copy beside the chapter: a page asks nothing of the network",
    ),
]
_REFUSED = [(re.compile(pattern, re.M), what, remedy) for pattern, what, remedy in _REFUSED]


@dataclass(frozen=True)
class Prose:
    """Markdown as it stands, from `line` on; verbatim: a code block that is shown, never run."""

    line: int
    text: str
    verbatim: bool = False


@dataclass(frozen=True)
class Code:
    """A code cell, or an inline expression (options None); `line` is where it starts."""

    line: int
    source: str
    options: dict[str, Any] | None = None

    @property
    def label(self) -> str:
        return (self.options or {}).get("label", "")

    @property
    def kind(self) -> str:
        """ "fig" or "tbl" for a labelled float, else "" """
        return self.label[:3] if re.match(r"(?:fig|tbl)-", self.label) else ""


@dataclass(frozen=True)
class Chapter:
    """One .qmd file; `pieces` stand in document order."""

    file: str  # relative to the project, with forward slashes
    text: str
    number: int | None
    title: str | None  # from the YAML header; else the first heading in the text is the title
    after_all: bool  # executed after all others
    always: bool  # executed again whenever another chapter is
    pieces: tuple[Prose | Code, ...]

    @property
    def code(self) -> list[Code]:
        return [piece for piece in self.pieces if isinstance(piece, Code)]

    @property
    def page(self) -> str:
        return self.file.removesuffix(".qmd") + ".html"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def error(self, where: int | str, what: str) -> BookError:
        """An error at a line, or at the first line that holds the given text (else line 1)."""
        if isinstance(where, str):
            where = self.text.count("\n", 0, max(self.text.find(where), 0)) + 1
        return BookError(f"{self.file}:{where}: {what}")


@dataclass(frozen=True)
class Book:
    root: Path
    title: str
    subtitle: str
    author: str
    language: str
    output: str
    toc_depth: int
    bibliography: tuple[str, ...]
    post_render: tuple[str, ...]
    filters: tuple[str, ...]  # of pandoc's tree, in Lua
    metadata: tuple[str, ...]  # YAML files that the filters read
    chapters: tuple[Chapter, ...] = field(repr=False)


def read_book(root: Path) -> Book:
    """Reads and checks the book in the folder `root`, with the profiles that QUARTO_PROFILE names.

    Raises BookError, naming file and line.
    """
    root = root.resolve()
    config_file = root / "_quarto.yml"
    if not config_file.is_file():
        raise BookError(f"{config_file}:1: no such file; name the book's folder with --project")
    config = _read_yaml(config_file.read_text(encoding="utf-8"), _BOOK, "_quarto.yml", 1)
    for name in profiles():
        text = _profile_file(root, name).read_text(encoding="utf-8")
        config = _merged(config, _read_yaml(text, _BOOK, f"_quarto-{name}.yml", 1))
    book, project = config.get("book", {}), config.get("project", {})
    html = config.get("format", {}).get("html", {})
    defaults = {
        "echo": config.get("execute", {}).get("echo", True),
        "warning": config.get("execute", {}).get("warning", True),
        "code-fold": html.get("code-fold", False),
        "code-summary": html.get("code-summary", "Code"),
    }
    chapters: list[Chapter] = []
    for name in book.get("chapters", []):
        if not isinstance(name, str) or not name.endswith(".qmd"):
            raise BookError(f"_quarto.yml:1: chapter {name!r} is not a .qmd file; list files only")
        if not (root / name).is_file():
            raise BookError(f"_quarto.yml:1: chapter {name} does not exist; create or unlist it")
        number = 1 + max((c.number or 0 for c in chapters), default=0)
        chapters.append(read_chapter(name, (root / name).read_text("utf-8"), number, defaults))
    if not chapters or chapters[0].file != "index.qmd":
        raise BookError("_quarto.yml:1: a book starts with index.qmd; list it first in chapters")
    _check_labels(chapters)
    named = {key: tuple(_listed(config.get(key))) for key in _FILES}
    for key, files in named.items():
        for file in files:
            if not (root / file).is_file():
                what = f"{key} {file} does not exist; create or drop it"
                raise BookError(f"_quarto.yml:1: {what}")
    return Book(
        root=root,
        title=book.get("title", "Untitled"),
        subtitle=book.get("subtitle", ""),
        author=book.get("author", ""),
        language=config.get("lang", "en"),
        output=project.get("output-dir", "_book"),
        toc_depth=html.get("toc-depth", 3),
        bibliography=named["bibliography"],
        post_render=tuple(_listed(project.get("post-render"))),
        filters=named["filters"],
        metadata=named["metadata-files"],
        chapters=tuple(chapters),
    )


def profiles() -> list[str]:
    """The profiles to build with, as QUARTO_PROFILE names them."""
    return [name for name in (os.environ.get("QUARTO_PROFILE") or "").split(",") if name]


def profile_environment(root: Path) -> dict[str, str]:
    """What the profiles set in the environment where it is not set already, as Quarto does: lines
    `NAME=value` of `_environment-<profile>`. Raises BookError for an unknown profile or a line of
    another form."""
    found: dict[str, str] = {}
    for name in profiles():
        _profile_file(root, name)
        file = root / f"_environment-{name}"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        for number, line in enumerate(lines, start=1):
            if line.strip() and not line.startswith("#"):
                if not (setting := re.fullmatch(r"(\w+)=([\w./:-]*)", line.strip())):
                    raise BookError(f"{file.name}:{number}: not a setting; write NAME=value")
                found[setting[1]] = setting[2]
    return {name: value for name, value in found.items() if name not in os.environ}


def _profile_file(root: Path, name: str) -> Path:
    file = root / f"_quarto-{name}.yml"
    if not file.is_file():
        known = [f.stem.removeprefix("_quarto-") for f in sorted(root.glob("_quarto-*.yml"))]
        raise BookError(
            f"{file.name}:1: no such profile; QUARTO_PROFILE may name: {', '.join(known) or 'none'}"
        )
    return file


def _merged(config: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """As Quarto merges a profile: mappings by key, lists joined, else what the profile says."""
    new = dict(config)
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(new.get(key), dict):
            new[key] = _merged(new[key], value)
        elif isinstance(value, list) and isinstance(new.get(key), list):
            new[key] = new[key] + value
        else:
            new[key] = value
    return new


def read_chapter(file: str, text: str, number: int, defaults: dict[str, Any]) -> Chapter:
    """Cuts a chapter's text into pieces; `number` is the one it gets if it is a numbered one.

    `defaults` are the options of a cell that sets none (echo, warning, code-fold, code-summary).
    Raises BookError for anything that bookbinder does not support.
    """
    lines = text.splitlines()
    header: dict[str, Any] = {}
    start = 0
    if lines and lines[0].rstrip() == "---":
        try:
            start = [line.rstrip() for line in lines].index("---", 1) + 1
        except ValueError:
            raise BookError(f"{file}:1: the YAML header never ends; close it with ---") from None
        header = _read_yaml("\n".join(lines[1 : start - 1]), _CHAPTER, file, 2)
    defaults = defaults | header.get("execute", {})
    title = header.get("title")
    if title and "{" in title:
        raise BookError(f"{file}:1: attributes in title; write the title as `# {title}` instead")

    pieces: list[Prose | Code] = []
    headings: list[tuple[int, str]] = []
    for line, block, language in _blocks(file, lines, start):
        if language == "python":
            pieces.append(_cell(file, line, block, defaults))
        elif language == "prose":
            prose = "\n".join(block) + "\n"
            _check_prose(file, line, prose)
            headings += [(line + i, m[1]) for i, s in enumerate(block) if (m := _HEADING.match(s))]
            pieces += _inlines(file, line, prose)
        else:
            pieces.append(Prose(line, "\n".join(block) + "\n", verbatim=True))

    if len(headings) > (title is None):
        raise BookError(
            f"{file}:{headings[-1][0]}: a second title; one per chapter, start sections with ##"
        )
    if not headings and title is None:
        raise BookError(
            f"{file}:{start + 1}: no title; start the chapter with `# Title {{#sec-x}}`"
        )
    if headings and any(line.strip() for line in lines[start : headings[0][0] - 1]):
        raise BookError(f"{file}:{headings[0][0]}: text before the title; move it below")
    unnumbered = bool(headings) and re.search(r"\{[^}]*\.unnumbered\b[^}]*\}$", headings[0][1])
    return Chapter(
        file=file,
        text=text,
        number=None if unnumbered else number,
        title=title,
        after_all="after" in header.get("bookbinder", {}),
        always="always" in header.get("bookbinder", {}),
        pieces=tuple(pieces),
    )


def _blocks(file: str, lines: list[str], start: int) -> Iterator[tuple[int, list[str], str]]:
    """Yields (line number, lines, "prose" | "verbatim" | "python") in document order."""
    prose: list[str] = []
    i = start
    while i < len(lines):
        fence = _FENCE.match(lines[i])
        if not fence or (fence[2][0] == "`" and "`" in fence[3]):
            prose.append(lines[i])
            i += 1
            continue
        end = i + 1
        closing = re.compile(rf"^\s*{fence[2][0]}{{{len(fence[2])},}}\s*$")
        while end < len(lines) and not closing.match(lines[end]):
            end += 1
        if end == len(lines):
            raise BookError(f"{file}:{i + 1}: this code block never ends; close it with {fence[2]}")
        if prose:
            yield i - len(prose) + 1, prose, "prose"
            prose = []
        executable = re.match(r"\{+(\w+)", fence[3])
        if not executable:
            yield i + 1, lines[i : end + 1], "verbatim"
        elif fence[3] != "{python}":
            remedy = "write ```{python}, with its options in `#|` lines below"
            raise BookError(f"{file}:{i + 1}: {fence[3]} cells are not supported; {remedy}")
        elif fence[1]:
            raise BookError(f"{file}:{i + 1}: an indented cell; start its fence in column 1")
        else:
            yield i + 1, lines[i + 1 : end], "python"
        i = end + 1
    if prose:
        yield i - len(prose) + 1, prose, "prose"


def _cell(file: str, line: int, block: list[str], defaults: dict[str, Any]) -> Code:
    n = next((i for i, s in enumerate(block) if not s.startswith("#|")), len(block))
    text = "\n".join(s[2:].removeprefix(" ") for s in block[:n])
    given = _read_yaml(text, _CELL, file, line + 1)
    code = Code(line, "\n".join(block[n:]).strip("\n"), defaults | given)
    label = code.label
    if label and not re.fullmatch(r"[A-Za-z][\w-]*", label):
        raise BookError(f"{file}:{line}: label {label!r}; use letters, digits and hyphens")
    wanted = {"fig": ("fig-cap", "fig-alt"), "tbl": ("tbl-cap",)}.get(code.kind, ())
    for key in wanted:
        if not str(given.get(key, "")).strip():
            raise BookError(f"{file}:{line}: cell {label} has no {key}; add `#| {key}: …`")
    return code


def _inlines(file: str, line: int, prose: str) -> Iterator[Prose | Code]:
    """Cuts prose at its inline expressions."""
    end = 0
    for match in _INLINE.finditer(prose):
        at = line + prose.count("\n", 0, match.start())
        source = match[1].strip()
        try:
            ast.parse(source, mode="eval")
        except SyntaxError as error:
            raise BookError(
                f"{file}:{at}: `{source}` is not an expression ({error.msg}); compute it in a cell"
            ) from None
        yield Prose(line + prose.count("\n", 0, end), prose[end : match.start()])
        yield Code(at, source)
        end = match.end()
    yield Prose(line + prose.count("\n", 0, end), prose[end:])


def _check_prose(file: str, line: int, prose: str) -> None:
    for pattern, what, remedy in _REFUSED:
        if match := pattern.search(prose):
            at = line + prose.count("\n", 0, match.start())
            shown = match[0].strip()[:60]
            raise BookError(f"{file}:{at}: {what} ({shown!r}); {remedy}")


def _check_labels(chapters: list[Chapter]) -> None:
    """Each label is defined once, and each cross-reference names a label of the book."""
    where: dict[str, str] = {}
    printed: set[str] = set()  # what cells may define in the Markdown that they print
    references: list[tuple[str, str]] = []
    for chapter in chapters:
        for piece in chapter.pieces:
            if isinstance(piece, Code):
                options = piece.options or {}
                definitions = [(piece.label, piece.line)] if piece.label else []
                printed.update(_DEFINITION.findall(piece.source))
                captions = f"{options.get('fig-cap', '')} {options.get('tbl-cap', '')}"
                cited = [(label, piece.line) for label in _REFERENCE.findall(captions)]
            elif piece.verbatim:
                continue
            else:
                definitions = _find(_DEFINITION, piece)
                cited = _find(_REFERENCE, piece)
            for label, line in definitions:
                place = f"{chapter.file}:{line}"
                if label in where:
                    raise BookError(
                        f"{place}: label {label} is taken by {where[label]}; rename one"
                    )
                where[label] = place
            references += [(label, f"{chapter.file}:{line}") for label, line in cited]
    for label, place in references:
        if label not in where and label not in printed:
            raise BookError(
                f"{place}: @{label} names nothing in this book; correct it, or label what it means"
            )


def _find(pattern: re.Pattern[str], prose: Prose) -> list[tuple[str, int]]:
    """The first groups of all matches outside code spans, with their line numbers."""
    text = re.sub(r"`[^`]*`", lambda span: re.sub(r"[^\n]", " ", span[0]), prose.text)
    return [(m[1], prose.line + text.count("\n", 0, m.start(1))) for m in pattern.finditer(text)]


def _listed(value: Any) -> list[str]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _read_yaml(text: str, schema: dict[str, Any], file: str, line: int) -> dict[str, Any]:
    """Reads a YAML mapping that starts at `line` of `file` and holds only what `schema` permits."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = line + (mark.line if mark else 0)
        problem = getattr(error, "problem", None) or "unreadable"
        raise BookError(f"{file}:{at}: not valid YAML ({problem}); correct it") from None
    if value is None:
        return {}
    _check_yaml(tree, value, schema, file, line)
    return value


def _check_yaml(tree: yaml.Node, value: Any, schema: Any, file: str, line: int) -> None:
    at = f"{file}:{line + tree.start_mark.line}"
    if not isinstance(schema, dict):
        if isinstance(schema, set):
            fits = any(value == item and type(value) is type(item) for item in schema)
            expected = "one of " + ", ".join(sorted(json.dumps(item) for item in schema))
        else:
            fits = isinstance(value, schema)
            types = schema if isinstance(schema, tuple) else (schema,)
            expected = "a " + " or ".join(_TYPE_NAMES[kind] for kind in types)
        if not fits:
            raise BookError(f"{at}: {value!r} is not supported; write {expected}")
        return
    if not isinstance(value, dict):
        raise BookError(
            f"{at}: {value!r} is not a mapping; write `key: value` with {_keys(schema)}"
        )
    seen = set()
    for key, child in tree.value:
        at = f"{file}:{line + key.start_mark.line}"
        name = key.value
        if name not in schema:
            raise BookError(f"{at}: unknown key {name!r}; bookbinder knows {_keys(schema)}")
        if name in seen:
            raise BookError(f"{at}: {name!r} is given twice; keep one")
        seen.add(name)
        _check_yaml(child, value[name], schema[name], file, line)


def _keys(schema: dict[str, Any]) -> str:
    return ", ".join(schema)
