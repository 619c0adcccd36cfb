"""What all chapters have in common: no cell touches digits, but through the store, whose functions
take plain arguments."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest
from cells import CODE, REPORT

import lazy_artist
from lazy_artist import reach

PAGES = sorted([*REPORT.glob("*.qmd"), REPORT.parent / "index.qmd"], key=lambda path: path.stem)
DIGITS = ("lazy_artist.data", "load_digits")
ABOUT_THE_DATA = {
    ("lazy_artist.chapters.opening", "colophon"),
    ("lazy_artist.chapters.fashion", "measure"),
    ("lazy_artist.eis7.files", "notice"),
}


def named_in(page: Path) -> set[tuple[str, str]]:
    """The project's functions that a page's cells and inline expressions name."""
    code = [match[1] or match[2] for match in CODE.finditer(page.read_text("utf-8"))]
    names, found, trees = {}, set(), [ast.parse(part) for part in code]
    for node in (node for tree in trees for node in tree.body if isinstance(node, ast.ImportFrom)):
        exec(compile(ast.Module([node], []), page.name, "exec"), names)
    for node in (node for tree in trees for node in ast.walk(tree)):
        match node:
            case ast.Attribute(value=ast.Name(owner), attr=name):
                owner = names.get(owner)
                value = getattr(owner, name, None) if isinstance(owner, ModuleType) else None
            case ast.Name(name):
                value = names.get(name)
            case _:
                continue
        if callable(value) and value.__module__.startswith("lazy_artist"):
            found.add((value.__module__, value.__qualname__))
    return found


def path_to_digits(start: tuple[str, str]) -> list[str]:
    """Names from `start` to `load_digits`, none of them a stored function; [] if there are none."""
    todo, seen = [(start, [])], set()
    while todo:
        (module, name), path = todo.pop()
        if (module, name) == DIGITS:
            return [*path, name]
        value = getattr(importlib.import_module(module), name, None)
        skipped = module in reach.NOT_FOLLOWED or (module, name) in seen | ABOUT_THE_DATA
        if skipped or hasattr(value, "data") and callable(value):
            continue
        seen.add((module, name))
        for statement in reach._parse(*reach._stamp(module)).get(name, ()):
            chains, imports = reach._references(statement)
            for chain in chains:
                found = reach._resolve(module, chain, imports)
                todo += [(target, [*path, name]) for target in found]
    return []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_cells_take_digits_from_the_store_alone(page):
    """Where the results came with the repository, a book is built without any digits."""
    for start in sorted(named_in(page)):
        assert path_to_digits(start) == [], f"{page.name} names {start[1]}: let it be @stored"


def test_stored_functions_take_no_arrays():
    """So that a record says what a result is of, and no digits are needed to ask for it."""
    names = [each.name for each in pkgutil.walk_packages(lazy_artist.__path__, "lazy_artist.")]
    loaded = [vars(importlib.import_module(name)).values() for name in names]
    members = {one for values in loaded for one in values if inspect.isfunction(one)}
    stored = [function for function in members if hasattr(function, "data")]
    assert len(stored) > 50
    for function in stored:
        for parameter in inspect.signature(function).parameters.values():
            kinds = [kind for kind in ("ndarray", "Tensor", "Array") if kind in str(parameter)]
            assert not kinds, f"{function.__module__}.{function.__name__}({parameter})"


def test_a_cell_that_paints_is_found():
    assert path_to_digits(("lazy_artist.canvas", "colour_split"))[-1] == "load_digits"
    assert path_to_digits(("lazy_artist.chapters.interrogation", "matched_pairs"))
    assert not path_to_digits(("lazy_artist.chapters.cheater", "red_ones"))  # stored
