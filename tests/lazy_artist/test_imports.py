"""Imports run one way, no library module knows a chapter, nothing is imported by computed name (but
by results.py, which has the names of stored functions from their records)."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

import lazy_artist

ROOT = Path(lazy_artist.__file__).parent
ORDER = """
    config data standin interface > forward > reach > store > canvas > models > training > evaluate
    > debias > networks > claims plots gradcam featurevis tuning faithfulness attack sae
    > latents erasure atlas widgets playground parts
"""
RANK = {name: rank for rank, names in enumerate(ORDER.split(">")) for name in names.split()}
RANK |= {"chapters": 99, "eis7": 99}  # what has no place is below them
MODULES = sorted(
    path.relative_to(ROOT)
    for path in ROOT.rglob("*.py")
    if path.parent != ROOT or path.stem != "__init__"
)


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_run_one_way(path):
    names = []  # of what the module imports, in functions too
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "write imports with the package's name"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    computed = [name for name in names if re.match(r"importlib(?!\.metadata)", name)]
    assert not computed or path.stem == "results", "name what you import"
    own = path.parts[0].removesuffix(".py")
    for name in {name.split(".")[1] for name in names if name.startswith("lazy_artist.")}:
        here, there = (RANK.get(module, 98) for module in (own, name))
        for_types = (own, name) == ("evaluate", "networks")
        assert there <= here or for_types, f"{path} imports {name}, which stands above it"


def test_chapters_are_one_module_each():
    stems = {path.stem.replace("-", "_") for path in (ROOT.parents[1] / "report").glob("*.qmd")}
    chapters = {path.stem for path in (ROOT / "chapters").glob("*.py")} - {"__init__"}
    assert chapters - stems <= {"opening", "steering"}  # index.qmd and the colophon; a widget


def test_the_house_keeps_its_budgets():
    root = ROOT.parents[1]
    if not (root / ".git").exists():
        pytest.skip("only git tells which files belong to the project")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = [root / name for name in subprocess.check_output(command, cwd=root, text=True).split()]
    lines = {path: path.read_bytes().count(b"\n") for path in listed if path.is_file()}
    for folder, most in (("code", 17_100), ("tests", 17_600)):
        assert sum(n for path, n in lines.items() if root / folder in path.parents) <= most
    assert [path for path, n in lines.items() if n > 650 and root / "code" in path.parents] == []
