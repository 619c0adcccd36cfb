"""Imports run one way, no library module knows a chapter, nothing is imported by computed name."""

import ast
from pathlib import Path

import pytest

import lazy_artist

ROOT = Path(lazy_artist.__file__).parent
ORDER = (
    ("config", "data", "standin"),
    ("reach",),
    ("store",),
    ("canvas",),
    ("models",),
    ("training",),
    ("evaluate",),
    ("debias",),
    ("networks",),
    ("claims", "plots", "gradcam", "featurevis", "tuning", "faithfulness", "attack", "sae"),
    ("latents", "erasure", "atlas", "playground"),
)  # fmt: skip
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
RANK |= {"chapters": len(ORDER) + 1, "eis7": len(ORDER) + 1}  # what has no place is below them
MODULES = sorted(
    path.relative_to(ROOT)
    for path in ROOT.rglob("*.py")
    if path.parent != ROOT or path.stem != "__init__"
)


def imported(path: Path) -> set[str]:
    """The parts of the package, modules and folders, that a module imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("lazy_artist.")}
            assert not any(
                a.name.partition(".")[0] == "importlib" and a.name != "importlib.metadata"
                for a in node.names
            ), f"{path} imports importlib: name what you import"
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write imports with the package's name"
            if node.module == "lazy_artist":
                found |= {alias.name for alias in node.names}
            elif (node.module or "").startswith("lazy_artist."):
                found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_run_one_way(path):
    own = path.parts[0].removesuffix(".py")
    for name in imported(path):
        if own == "evaluate" and name == "networks":
            continue  # for type checking alone
        here, there = (RANK.get(module, len(ORDER)) for module in (own, name))
        assert there <= here, f"{path} imports {name}, which stands above it"


def test_chapters_are_one_module_each():
    stems = {path.stem.replace("-", "_") for path in (ROOT.parents[1] / "report").glob("*.qmd")}
    chapters = {path.stem for path in (ROOT / "chapters").glob("*.py")} - {"__init__"}
    assert chapters - stems <= {"opening"}  # index.qmd and the colophon


def test_the_house_keeps_its_budgets():
    lines = {
        path: len(path.read_text(encoding="utf-8").splitlines())
        for path in ROOT.parent.rglob("*.py")
    }
    assert sum(lines.values()) <= 13_000
    assert {path.name: n for path, n in lines.items() if n > 650} == {}
