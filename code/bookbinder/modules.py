"""Makes pages that Quarto wrote work as files. From file:// browsers refuse scripts that are
modules (quarto.js and what it imports), and to fetch, and Quarto does not remember the theme. It
leaves the source of an inline expression whose value is empty: that goes, too."""

import hashlib
import re
import sys
from pathlib import Path

_TAG = re.compile(
    r'<script\b(?=[^>]*\stype="module")[^>]*\ssrc="(?![a-z]+:|//)([^"]+)"[^>]*></script>\n?'
)
_IMPORT = re.compile(r"^import\b(?:([^\"'();]*)\bfrom)?\s*([\"'])(\.[^\"']+)\2[ \t]*;?", re.M)
_EXPORT = re.compile(
    r"^export\s+(default\s+)?((?:async\s+)?(?:function\b\s*\*?|class|const|let|var)\s+([\w$]+))"
    r"|^export\s+default\b|^export\s*\{([^}]*)\}(?!\s*from)[ \t]*;?",
    re.M,
)
_OTHER = re.compile(  # what is left then, and may stand in modules only
    r"(?:^|[;}])\s*(?:import\s*[\w$*{\"']|export\s*[\w{*])|\bimport\.meta\b"
    r"|^(?:(?:const|let|var)\s[^;\n]*=\s*)?await\b",
    re.M,
)
_EMPTY = re.compile(r" ?<code>\{python\} [^<]*</code>")  # an expression with an empty text
_FETCH = re.compile(r"^([ \t]*)(fetch\(url[^\n;]*\))$", re.M)  # previews of other pages' figures


def without_modules(book: Path, texts: dict[str, str], folder: str) -> dict[str, str]:
    """The pages {name: text} of the folder `book`, with one classic script, put into its `folder`,
    for all modules of a page. Those of a page stay if they cannot be understood; a line says so."""
    new, sources = {}, {}
    for name, text in texts.items():
        text = text.replace(  # where the theme is not remembered
            "return window.location.protocol === 'file:';",
            "try { return !window.localStorage; } catch { return true; }",
        )
        text = _EMPTY.sub("", text) if 'content="quarto' in text else text
        text = _FETCH.sub(r"\1(location.protocol === 'file:' ? new Promise(() => {}) : \2)", text)
        files = tuple(((book / name).parent / source).resolve() for source in _TAG.findall(text))
        if files and files not in sources:
            try:
                script = classic(files).encode()
                sources[files] = f"{folder}/modules-{hashlib.sha256(script).hexdigest()[:8]}.js"
                (book / sources[files]).write_bytes(script)
            except (OSError, ValueError) as error:
                sources[files] = ""
                print(f"{error}; pages with it complain if opened as files", file=sys.stderr)
        if source := sources.get(files):
            tag = f'<script src="{"../" * name.count("/")}{source}" defer></script>\n'
            text = _TAG.sub("", _TAG.sub(tag, text, count=1))
        new[name] = text
    return new


def classic(files: tuple[Path, ...]) -> str:
    """One classic script (to be deferred, as modules are) that does what the modules `files` do,
    each once and after those that it imports.

    Raises OSError for a module that is not there, and ValueError, naming the file, for what is not
    understood: circles, names that are imported and not exported, modules handed on, import.meta,
    await outside of functions, imports and exports that do not begin a line.
    """
    exports: dict[Path, dict[str, str]] = {}  # of each module: name outside -> name inside
    made: dict[Path, str] = {}

    def add(file: Path) -> str:
        own: dict[str, str] = {}

        def imported(line: re.Match[str]) -> str:
            other, what = (file.parent / line[3]).resolve(), (line[1] or "").strip()
            value = add(other)
            if not what or (every := re.fullmatch(r"\*\s*as\s+([\w$]+)", what)):
                return f"const {every[1]} = {value};" if what else ""
            if not (named := re.fullmatch(r"([\w$]*)[\s,]*(?:\{(.*)\})?", what, re.S)):
                return line[0]
            usual, braces = named.groups("")
            pairs = [("default", usual)] * bool(usual) + _pairs(braces)
            if absent := {name for name, _ in pairs} - exports[other].keys():
                raise ValueError(f"{file}: {other.name} exports no {', '.join(sorted(absent))}")
            return f"const {{{', '.join(map(': '.join, pairs))}}} = {value};"

        def exported(line: re.Match[str]) -> str:
            usual, declared, name, braces = line.groups()
            if braces is not None:
                own.update((outside, inside) for inside, outside in _pairs(braces))
                return ""
            own["default" if usual or not declared else name] = name or "usual$"
            return declared or "const usual$ ="

        if file not in exports:
            exports[file] = own
            body = _EXPORT.sub(exported, _IMPORT.sub(imported, file.read_text("utf-8")))
            if other := _OTHER.search(body):
                raise ValueError(f"{file}: {other[0].strip()!r} is not understood")
            getters = ", ".join(f"get {name}() {{ return {own[name]}; }}" for name in own)
            made[file] = f"(() => {{\n{body}\nreturn {{{getters}}};\n}})();\n"
        if file not in made:
            raise ValueError(f"{file}: it imports what imports it")
        return f"module{list(made).index(file)}"

    for file in files:
        add(file)
    parts = (f"const module{i} = {part}" for i, part in enumerate(made.values()))
    return '(function () {\n"use strict";\n' + "".join(parts) + "})();\n"


def _pairs(braces: str) -> list[tuple[str, str]]:
    """What `a, b as c` names: [("a", "a"), ("b", "c")]."""
    names = [re.split(r"\s+as\s+", item.strip()) for item in braces.split(",") if item.strip()]
    return [(name[0], name[-1]) for name in names]
