"""Which code of the project a function reaches: what a stored result stands on, beside its data."""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

NOT_FOLLOWED = tuple(
    f"lazy_artist.{name}" for name in ("store", "results", "reach", "data", "standin", "interface")
)
"""The store does not shape what it keeps; for the digits their checksum stands."""

_IMPORT = ast.Import | ast.ImportFrom


class EditedError(RuntimeError):
    """Source was edited after this process loaded it."""


def code_of(function: Callable[..., Any]) -> dict[str, str]:
    """The project's code that `function` reaches: {"module:name": sha256 of its source}.

    Followed are the functions, classes and constants of the project that the source refers to, by
    name or as `module.name`, from one to the next and across modules; imports in functions too.
    Source is taken without docstrings, comments, annotations and layout: they change no result.
    What is reached through a value (`network.load()`) is not followed, nor are `NOT_FOLLOWED`.

    Raises TypeError if `function` is not found by its name at the top level of a module, and
    `EditedError` if its source was edited after this process loaded the module.
    """
    home, name = function.__module__, function.__qualname__
    if home == "__main__" or getattr(sys.modules.get(home), name, None) is not function:
        raise TypeError(
            f"{function!r} must stand at the top level of an importable module, so that its "
            f"source can be found"
        )
    stamps, parts = _codes.get(function, ({}, {}))
    if stamps and all(_stamp(module) == stamp for module, stamp in stamps.items()):
        return parts
    stamps, parts, todo = {}, {}, [(home, name)]
    while todo:
        module, name = todo.pop()
        key = f"{module}:{name}"
        if key in parts or module in NOT_FOLLOWED:
            continue
        parts[key] = ""
        stamps[module] = _stamp(module)
        sources = []
        for statement in _parse(*stamps[module]).get(name, ()):
            if isinstance(statement, _IMPORT):
                todo += _resolve(module, (name,), ())
                continue
            sources.append(ast.unparse(statement))
            chains, imports = _references(statement)
            todo += [target for chain in chains for target in _resolve(module, chain, imports)]
        if sources:
            digest = hashlib.sha256("\n".join(sources).encode()).hexdigest()
            parts[key] = _unedited(module, name, digest)
    parts = {key: digest for key, digest in sorted(parts.items()) if digest}
    _codes[function] = (stamps, parts)
    return parts


def excerpt(module: ModuleType, *names: str, lines: tuple[str, str] | None = None) -> str:
    """The statements of a module that bind these names, as they stand in its file and in its order,
    without decorators and docstrings: a block of code in Markdown. lines: of them the part alone
    from the first line that holds the one text to the next that holds the other. Raises KeyError
    for a name that no function, class or plain assignment at the module's top level binds, and
    ValueError for a text that no line holds."""
    text = Path(module.__file__).read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for node in ast.parse(text).body:
        targets = getattr(node, "targets", [node])  # of an assignment, else itself
        bound = {getattr(target, "name", getattr(target, "id", None)) for target in targets}
        numbered = text.splitlines()[node.lineno - 1 : node.end_lineno]
        kept = dict(enumerate(numbered, node.lineno))
        match getattr(node, "body", []):
            case [ast.Expr(ast.Constant(str())) as docstring, *_]:
                for number in range(docstring.lineno, docstring.end_lineno + 1):
                    del kept[number]
        gap = "\n" * (bool(found) and hasattr(node, "body"))
        found |= {name: gap + "\n".join(kept.values()) for name in bound & set(names)}
    if missing := set(names) - set(found):
        raise KeyError(f"{module.__name__} has no {', '.join(sorted(missing))}")
    shown = "\n".join(found.values()).splitlines()
    for text, end in zip(lines or (), (False, True), strict=False):
        if (place := next((k for k, line in enumerate(shown) if text in line), None)) is None:
            raise ValueError(f"no line of {', '.join(names)} holds {text!r}")
        shown = shown[: place + 1] if end else shown[place:]
    shown = textwrap.dedent("\n".join(shown))
    return "\n".join(["```python", shown, "```"])


_codes: dict[Callable[..., Any], tuple[dict[str, tuple], dict[str, str]]] = {}


def _stamp(module: str) -> tuple[str, int, int]:
    path = _file(module)
    if path is None:
        raise TypeError(f"module {module} has no source file, so its content cannot be known")
    stat = os.stat(path)
    return path, stat.st_mtime_ns, stat.st_size


def _file(module: str) -> str | None:
    """The file of a module of a loaded top-level package, found without importing the module."""
    root, *rest = module.split(".")
    top = sys.modules.get(root)
    if not rest:
        return getattr(top, "__file__", None)
    for folder in getattr(top, "__path__", ()):
        base = os.path.join(folder, *rest)
        for path in (os.path.join(base, "__init__.py"), f"{base}.py"):
            if os.path.isfile(path):
                return path
    return None


class _Strip(ast.NodeTransformer):
    """Takes docstrings and annotations out; names of annotated fields stay."""

    def visit(self, node: ast.AST) -> ast.AST:
        node = self.generic_visit(node)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Module():
                match node.body:
                    case [ast.Expr(ast.Constant(str())), *rest]:
                        node.body = rest or [ast.Pass()]
                if hasattr(node, "returns"):
                    node.returns = None
            case ast.arg():
                node.annotation = None
            case ast.AnnAssign():
                node.annotation = ast.Constant(None)
        return node


@functools.cache
def _parse(path: str, mtime: int, size: int) -> dict[str, list[ast.stmt]]:
    """The statements of a module, without docstrings and annotations, by the name they bind."""
    tree = ast.fix_missing_locations(_Strip().visit(ast.parse(Path(path).read_bytes(), path)))
    bindings: dict[str, list[ast.stmt]] = {}
    todo = list(reversed(tree.body))
    while todo:
        node = todo.pop()
        if isinstance(node, _IMPORT):
            for name in _bound(node):
                bindings.setdefault(name, []).append(node)
            continue
        for symbol in symtable.symtable(ast.unparse(node), path, "exec").get_symbols():
            if symbol.is_assigned():
                bindings.setdefault(symbol.get_name(), []).append(node)
        if isinstance(node, ast.If | ast.Try | ast.With):
            todo += [inner for inner in ast.iter_child_nodes(node) if isinstance(inner, _IMPORT)]
    return bindings


def _bound(node: ast.Import | ast.ImportFrom) -> dict[str, ast.alias]:
    """The names that an import binds."""
    return {alias.asname or alias.name.partition(".")[0]: alias for alias in node.names}


@functools.cache
def _references(statement: ast.stmt) -> tuple[list[tuple[str, ...]], list[ast.stmt]]:
    """The module-level names that a statement refers to, each with the attributes taken of it
    (`attack.tighten` -> ("attack", "tighten")), and the imports inside the statement."""
    imports = [node for node in ast.walk(statement) if isinstance(node, _IMPORT)]
    names = {name for node in imports for name in _bound(node)}
    tables = [symtable.symtable(ast.unparse(statement), "<source>", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        top = table.get_type() == "module"
        symbols = [symbol for symbol in table.get_symbols() if symbol.is_referenced()]
        names |= {symbol.get_name() for symbol in symbols if symbol.is_global() or top}
    chains, seen = set(), set()
    for node in ast.walk(statement):  # outer attributes come before the inner ones
        attributes, inner = [], node
        while isinstance(inner, ast.Attribute):
            attributes.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner not in seen and inner.id in names:
            seen.add(inner)
            chains.add((inner.id, *reversed(attributes)))
    return sorted(chains), imports


def _resolve(
    module: str, chain: tuple[str, ...], imports: Iterable[ast.stmt]
) -> Iterator[tuple[str, str]]:
    """The (module, name) of the project that a chain of names in `module` means."""
    name, *attributes = chain
    bound = _parse(*_stamp(module)).get(name, [])
    if not all(isinstance(node, _IMPORT) for node in bound):
        yield module, name
    for node in (*imports, *bound):
        alias = _bound(node).get(name) if isinstance(node, _IMPORT) else None
        if alias is None:
            continue
        rest = attributes
        if isinstance(node, ast.Import):
            target = alias.name if alias.asname else name
        else:
            parts = module.split(".")
            if not str(_file(module)).endswith("__init__.py"):
                parts.pop()
            base = parts[: len(parts) - node.level + 1] if node.level else []
            target = ".".join([*base, *filter(None, [node.module])])
            rest = [alias.name, *attributes]
        if target.partition(".")[0] not in {"lazy_artist", module.partition(".")[0]}:
            continue
        while rest and _file(f"{target}.{rest[0]}"):
            target, rest = f"{target}.{rest[0]}", rest[1:]
        if _file(target) and rest:
            yield from _resolve(target, (rest[0],), ())
        elif _file(target):  # the module itself is handed on: all of it
            yield from ((target, each) for each in _parse(*_stamp(target)))


_first_seen: dict[tuple[str, str], tuple[Any, str]] = {}


def _unedited(module: str, name: str, digest: str) -> str:
    """`digest`, unless the source was edited since this process loaded the module: then what is
    computed here would be the old code's work, stored under the new code's address."""
    spec = getattr(sys.modules.get(module), "__spec__", None)  # a reload makes a new one
    seen_spec, seen = _first_seen.get((module, name), (None, digest))
    if spec is not None and seen_spec is spec and seen != digest:
        raise EditedError(
            f"the source of {module}.{name} was edited after this process loaded it: run again in "
            f"a new process (restart the kernel)"
        )
    _first_seen[module, name] = (spec, digest)
    return digest
