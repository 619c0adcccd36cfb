"""Reads a book: `_quarto.yml`, and its chapters, cut into prose and code.

Everything that bookbinder does not support is refused here, by file and line, before any code runs.
"""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from bookbinder import BookError

ASSETS = Path(__file__).with_name("assets")
ENVIRONMENT = "_environment"
CALLOUTS = ("note", "tip", "important", "warning", "caution")
_SUPPORTED = yaml.safe_load((ASSETS / "supported.yml").read_text(encoding="utf-8"))
TURNS = (None, "earlier", "those", "all")  # what a chapter's header may say under `after`
_REFERENCE_KINDS = "fig|tbl|sec|eq"

_INLINE = re.compile(r"(?<!`)`\{python\}[ \t]([^`]+)`")
# indent, fence, information, contents; the last group is there if the block never ends
_BLOCK = re.compile(
    r"^([ \t]*)(`{3,}(?!.*`)|~{3,})[ \t]*(.*?)[ \t]*\n((?:.*\n)*?)(?:[ \t]*\2[`~]*[ \t]*\n|(\Z))",
    re.M,
)
_TITLE = re.compile(r"^# +(.*?)[ \t]*$", re.M)
_DEFINITION = re.compile(rf"\{{[^{{}}\n]*#((?:{_REFERENCE_KINDS})-[\w-]+)")
_REFERENCE = re.compile(rf"(?<![\w\\])@((?:{_REFERENCE_KINDS})-[\w-]*\w)")


@dataclass(frozen=True)
class Prose:
    """Markdown as it stands; verbatim: a code block that is shown, never run."""

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
    number: int | str | None  # a letter of an appendix; None if it is unnumbered
    appendix: bool  # listed among the book's `appendices`
    turn: int  # executed after all chapters of lower turns
    always: bool  # executed again whenever another chapter is
    pieces: tuple[Prose | Code, ...]

    @property
    def code(self) -> list[Code]:
        return [piece for piece in self.pieces if isinstance(piece, Code)]

    @property
    def page(self) -> str:
        return self.file.removesuffix(".qmd") + ".html"

    def error(self, where: int | str, what: str) -> BookError:
        """An error at a line, or at the first line that holds the given text (else line 1)."""
        if isinstance(where, str):
            where = self.text.count("\n", 0, max(self.text.find(where), 0)) + 1
        return BookError(f"{self.file}:{where}: {what}")


@dataclass(frozen=True)
class Book:
    """A book's settings (assets/supported.yml says what they are if `_quarto.yml` does not)."""

    root: Path
    lang: str
    title: str
    subtitle: str
    author: str
    bibliography: str
    output_dir: str
    post_render: str
    toc_depth: int
    echo: bool  # whether the code of a cell is shown that does not say so itself
    warning: bool  # whether what a cell writes to stderr is shown
    code_fold: bool
    code_summary: str
    chapters: tuple[Chapter, ...] = field(repr=False)


def read_book(root: Path) -> Book:
    """Reads and checks the book in the folder `root`. Raises BookError, naming file and line."""
    root = root.resolve()
    file = root / "_quarto.yml"
    if not file.is_file():
        raise BookError(f"{file}:1: no such file; name the book's folder with --project")
    config = _read_yaml(_read_text(root, file.name), "book", file.name, 1)
    html = config.get("format", {}).get("html", {})
    given = {**config, **html}
    for part in ("project", "book", "execute"):
        given |= config.get(part, {})
    settings = {key: given.get(key, usual) for key, usual in _SUPPORTED["defaults"].items()}
    files, behind = given.get("chapters", []), given.get("appendices", [])
    for file in filter(None, (*files, *behind, settings["bibliography"])):
        if not (root / file).is_file():
            raise BookError(f"_quarto.yml:1: {file} does not exist; create or unlist it")
    if files[:1] != ["index.qmd"]:
        raise BookError("_quarto.yml:1: a book starts with index.qmd; list it first in chapters")
    chapters: list[Chapter] = []
    for appendix, listed in ((False, files), (True, behind)):
        numbered = 0
        for file in listed:
            number = chr(ord("A") + numbered) if appendix else 1 + numbered
            chapters.append(read_chapter(file, _read_text(root, file), number, appendix))
            numbered += chapters[-1].number is not None
    _check_labels(chapters)
    settings = {key.replace("-", "_"): value for key, value in settings.items()}
    return Book(root, chapters=tuple(chapters), **settings)


def read_environment(root: Path) -> dict[str, str]:
    """The variables that the file `_environment` of the book in the folder `root` gives to what is
    executed, as Quarto reads it; {} without one. Raises BookError, naming file and line."""
    found: dict[str, str] = {}
    lines = _read_text(root, ENVIRONMENT).split("\n") if (root / ENVIRONMENT).is_file() else []
    for number, line in enumerate(lines, start=1):
        given = re.fullmatch(r"([A-Za-z_][A-Za-z_0-9]*)=([^\s\"'`$#\\]*)[ \t]*", line)
        if given and given[1] not in found:
            found[given[1]] = given[2]
        elif not re.match(r"[ \t]*(#|$)", line):
            what = f"{line[:60]!r} is not NAME=value with a new name and a value without blanks"
            raise BookError(f"{ENVIRONMENT}:{number}: {what}, quotes, $; correct or remove it")
    return found


def _read_text(root: Path, file: str) -> str:
    """A file's text, without the byte-order mark that some editors write before it."""
    content = (root / file).read_bytes()
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BookError(f"{file}:{line}: this is not UTF-8 text; save the file in UTF-8") from None


def read_chapter(file: str, text: str, number: int | str, appendix: bool = False) -> Chapter:
    """Cuts a chapter's text into pieces; `number` is the one it gets if it is a numbered one.

    Raises BookError for anything that bookbinder does not support.
    """
    end = 0
    source = text if text.endswith("\n") else f"{text}\n"

    def line(position: int) -> int:
        return source.count("\n", 0, position) + 1

    def error(position: int, what: str) -> BookError:
        return BookError(f"{file}:{line(position)}: {what}")

    header: dict[str, Any] = {}
    if opening := re.match(r"---[ \t]*\n", source):
        closing = re.compile(r"^---[ \t]*\n", re.M).search(source, opening.end())
        if not closing:
            raise error(0, "the YAML header never ends; close it with ---")
        header = _read_yaml(source[opening.end() : closing.start()], "chapter", file, 2)
        end = closing.end()
    start = end
    pieces: list[Prose | Code] = []
    titles: list[re.Match[str]] = []
    for block in (*_BLOCK.finditer(source, start), None):
        until = block.start() if block else len(source)
        for refused in _SUPPORTED["refused"]:
            if match := re.compile(refused["pattern"], re.M).search(source, end, until):
                what = f"{refused['what']} ({match[0].strip()[:60]!r}); {refused['remedy']}"
                raise error(match.start(), what)
        titles += _TITLE.finditer(source, end, until)
        for match in _INLINE.finditer(source, end, until):
            value = match[1].strip()
            try:
                ast.parse(value, mode="eval")
            except SyntaxError as wrong:
                what = f"`{value}` is not an expression ({wrong.msg}); compute it in a cell"
                raise error(match.start(), what) from None
            pieces += [Prose(source[end : match.start()]), Code(line(match.start()), value)]
            end = match.end()
        pieces.append(Prose(source[end:until]))
        if not block:
            break
        indent, fence, info, contents, endless = block.groups()
        if endless is not None:
            raise error(until, f"this code block never ends; close it with {fence}")
        if not re.match(r"\{+\w", info):
            pieces.append(Prose(block[0], verbatim=True))
        elif info != "{python}":
            remedy = "write ```{python}, with its options in `#|` lines below"
            raise error(until, f"{info} cells are not supported; {remedy}")
        elif indent:
            raise error(until, "an indented cell; start its fence in column 1")
        else:
            pieces.append(_cell(file, line(until), contents))
        end = block.end()

    if len(titles) != 1:
        what = "a chapter has one title; write `# Title {#sec-x}`, and sections with ##"
        raise error(titles[1].start() if titles else start, what)
    if source[start : titles[0].start()].strip():
        raise error(titles[0].start(), "text before the title; move it below")
    number = None if re.search(r"\{[^}]*\.unnumbered\b[^}]*\}$", titles[0][1]) else number
    order = header.get("bookbinder", {})
    order = TURNS.index(order.get("after")), "always" in order
    return Chapter(file, text, number, appendix, *order, tuple(pieces))


def _cell(file: str, line: int, contents: str) -> Code:
    options = re.match(r"(?:#\|.*\n)*", contents)[0]
    text = re.sub(r"^#\| ?", "", options, flags=re.M).rstrip("\n")
    given = _read_yaml(text, "cell", file, line + 1)
    code = Code(line, contents[len(options) :].strip("\n"), given)
    for key in {"fig": ("fig-cap", "fig-alt"), "tbl": ("tbl-cap",)}.get(code.kind, ()):
        if not given.get(key, "").strip():
            raise BookError(f"{file}:{line}: cell {code.label} has no {key}; add `#| {key}: …`")
    return code


def _check_labels(chapters: list[Chapter]) -> None:
    """Each label is defined once, and each cross-reference names a label of the book."""
    defined: set[str] = set()
    printed: set[str] = set()  # what cells may define in the Markdown that they print
    references: list[tuple[Chapter, str]] = []
    for chapter in chapters:
        for piece in chapter.pieces:
            if isinstance(piece, Code):
                options = piece.options or {}
                text = f"{options.get('fig-cap', '')} {options.get('tbl-cap', '')}"
                labels = [piece.label] * bool(piece.label)
                printed.update(_DEFINITION.findall(piece.source))
            else:
                text = "" if piece.verbatim else re.sub(r"`[^`]*`", "", piece.text)
                labels = _DEFINITION.findall(text)
            for label in labels:
                if label in defined:
                    raise chapter.error(label, f"label {label} stands twice; rename one")
                defined.add(label)
            references += [(chapter, label) for label in _REFERENCE.findall(text)]
    for chapter, label in references:
        if label not in defined | printed:
            raise chapter.error(f"@{label}", f"@{label} names nothing in this book; correct it")


def _read_yaml(text: str, kind: str, file: str, line: int) -> dict[str, Any]:
    """Reads a YAML mapping that starts at `line` of `file` and holds only what bookbinder knows.

    kind: "book", "chapter" or "cell", as assets/supported.yml has them.
    """
    try:
        node, value = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", "")
        at = line + (mark.line if mark else 0)
        raise BookError(f"{file}:{at}: not valid YAML ({what}); correct it") from None
    if value is None:
        return {}
    validator = Draft202012Validator({**_SUPPORTED, "$ref": f"#/$defs/{kind}"})
    for error in validator.iter_errors(value):
        for name in error.path:
            inside = enumerate(node.value) if isinstance(name, int) else node.value
            node = next(child for key, child in inside if name in (key, getattr(key, "value", "")))
        if error.validator == "additionalProperties":
            node = next(key for key, _ in node.value if key.value not in error.schema["properties"])
        at = line + node.start_mark.line
        raise BookError(f"{file}:{at}: {error.message}; see bookbinder/assets/supported.yml")
    return value
