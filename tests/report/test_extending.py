"""The recipes of report/extending.qmd work: their blocks are applied to a copy of the checkout, and
their commands are run there.

A block that is called by a file's name is that file if there is none yet; else, by its language,
a change to it (diff) or what is added at its end. A bash block holds commands.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import book_checks as checks
import pytest
import yaml

from lazy_artist.debias import METHODS
from lazy_artist.reach import code_of

pytestmark = pytest.mark.timeout(900)  # seconds each on an idle machine; each starts Python anew

ROOT = Path(__file__).resolve().parents[2]
FILES = {  # how many each recipe touches
    "A measurement": 2, "A figure": 2, "A cure": 2, "An attack": 2, "A palette": 2, "A chapter": 4,
}  # fmt: skip
BLOCK = re.compile(r'^(`{3,})\{\.(\w+)(?: filename="([^"]+)")?\}\n(.*?)^\1$', re.M | re.S)


def recipe(title: str) -> list[tuple[str, str, str]]:
    """(language, file or "", text) of each block of a section, as the page shows them."""
    page = (ROOT / "report" / "extending.qmd").read_text(encoding="utf-8")
    (section,) = (s for s in re.split(r"^## ", page, flags=re.M) if s.startswith(f"{title}\n"))
    assert "```{." not in BLOCK.sub("", section), "a block that this test does not see"
    shown = section.replace("```{{python}}", "```{python}")  # an escaped cell is shown as a cell
    return [(m[2], m[3] or "", m[4]) for m in BLOCK.finditer(shown)]


def changed(text: str, diff: str) -> str:
    """The text after a diff without line numbers, whose parts @@ separates: what each takes for
    given must stand there exactly once."""
    for part in re.split(r"^@@\n", diff, flags=re.M):
        lines = part.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1, f"not exactly once in the file:\n{before}"
        text = text.replace(before, after)
    return text


@pytest.fixture
def checkout(tmp_path) -> Path:
    root = tmp_path / "checkout"
    ignore = shutil.ignore_patterns("__pycache__", "*_files", "*.egg-info")
    for name in ("code", "report", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    for name in ("_quarto.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    return root


@pytest.fixture
def python(checkout, tmp_path) -> Callable[..., str]:
    """Runs Python in the copy, on its code, with small drawn digits; returns what it prints."""
    settings = {"CACHE": str(tmp_path / "cache"), "SCALE": "quick", "STANDIN_SIZE": "600"}
    environment = os.environ | {f"LAZY_ARTIST_{name}": value for name, value in settings.items()}
    environment |= {"PYTHONPATH": str(checkout / "code"), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> str:
        command, how = [sys.executable, *arguments], {"cwd": checkout, "env": environment}
        done = subprocess.run(command, **how, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def follow(title: str, root: Path, python: Callable[..., str]) -> list[str]:
    """Applies a recipe to the copy in `root`, runs its tests and the house's style checks on its
    files, and returns the commands that are no tests."""
    blocks = recipe(title)
    touched = sorted({file for _, file, _ in blocks if file})
    assert len(touched) == FILES[title], f"{title} touches {touched}"
    commands: list[str] = []
    for language, name, added in blocks:
        if not name:
            assert language == "bash", "a block without a file's name that is no command"
            commands += added.splitlines()
            continue
        text = (root / name).read_text(encoding="utf-8") if (root / name).exists() else ""
        new = changed(text, added) if language == "diff" else f"{text}\n\n{added}".lstrip("\n")
        (root / name).write_text(new, encoding="utf-8")
    tests = [c for c in commands if c.startswith(".venv/bin/python -m pytest ")]
    for command in tests:
        report = python(*command.split()[1:], "-p", "no:cacheprovider")
        assert re.search(r"^\d+ passed", report, re.M), report
    code = [file for file in touched if file.endswith(".py")]
    python("-m", "ruff", "check", "--no-cache", *code)
    python("-m", "ruff", "format", "--no-cache", "--check", *code)
    return [command for command in commands if command not in tests]


def run_cells(page: Path, labels: list[str], shown: str, python: Callable[..., str]) -> Any:
    """The value of the expression `shown` after a page's imports and its cells of these labels,
    which end in `tbl` or `fig`."""
    cells = re.findall(r"^```\{python\}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    imports = [s for s in ast.parse(cells[0]).body if isinstance(s, ast.Import | ast.ImportFrom)]
    lines = [ast.unparse(statement) for statement in imports]
    for label in labels:
        (cell,) = (cell for cell in cells if f"#| label: {label}\n" in cell)
        *before, last = map(ast.unparse, ast.parse(cell).body)
        lines += [*before, f"{label[:3]} = {last}"]
    return json.loads(python("-c", "\n".join([*lines, f"import json; print(json.dumps({shown}))"])))


def test_a_measurement_and_its_figure_are_added_in_two_files_each(checkout, python):
    assert follow("A measurement", checkout, python) == []
    assert follow("A figure", checkout, python) == []
    page = checkout / "report" / "intervention.qmd"
    names = "[tick.get_text() for tick in fig.axes[0].get_xticklabels()]"
    heights = "[100 * float(bar.get_height()) for bar in fig.axes[0].patches]"
    shown = f"[tbl.data, {names}, {heights}, fig.data_csv]"
    labels = ["tbl-confidence", "fig-confidence"]
    table, names, heights, csv = run_cells(page, labels, shown, python)
    lines = [line.strip("|").split("|") for line in table.strip().splitlines()]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    assert head == ["network", "wrong", "correct"] and sorted(names) == ["colour-swap", "erm"]
    means = {row[0]: [float(cell.split()[0]) for cell in row[1:]] for row in rows}
    expected = [means[name][column] for column in (1, 0) for name in names]
    assert heights == pytest.approx(expected, abs=0.051)  # the table rounds
    assert csv.startswith("# confidence: mean probability of the predicted class")
    assert csv.count("\n") == 2 + 2 * 2 * 2  # networks, seeds, correct or not


def test_a_cure_is_added_and_retrains_no_other(checkout, python):
    expected = {name: code_of(method.train) for name, method in METHODS.items()}
    assert follow("A cure", checkout, python) == []
    ask = "from lazy_artist.debias import METHODS; from lazy_artist.reach import code_of; "
    ask += "import json; print(json.dumps({n: code_of(m.train) for n, m in METHODS.items()}))"
    found = json.loads(python("-c", ask))
    assert "lazy_artist.debias.mine:channel_shuffle" in found.pop("channel-shuffle")
    assert found == expected


@pytest.mark.parametrize("title", ["An attack", "A palette"])
def test_a_library_module_is_added_and_keeps_to_the_house(title, checkout, python):
    assert follow(title, checkout, python) == []
    imports = ["tests/lazy_artist/test_imports.py", "-k", "shifting or colours"]
    assert "1 passed" in python("-m", "pytest", "-p", "no:cacheprovider", *imports)


def test_a_chapter_is_added_and_its_claim_stands_in_the_ledger(checkout, python):
    """With the chapters that need trained networks left out, and a short opening page."""
    (command,) = follow("A chapter", checkout, python)
    chapter = re.fullmatch(r"make report CHAPTER=(report/[\w-]+\.qmd)", command)[1]
    config = yaml.safe_load((checkout / "_quarto.yml").read_text(encoding="utf-8"))
    assert config["book"]["chapters"][-1] == chapter
    listed = {"chapters": ["index.qmd", chapter], "appendices": ["report/ledger.qmd"]}
    config["book"] |= listed
    (checkout / "_quarto.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (checkout / "index.qmd").write_text("# Welcome {.unnumbered}\n", encoding="utf-8")
    ledger = checkout / "report" / "ledger.qmd"
    text = re.sub(r" ?\(?@sec-[\w-]+\)?", "", ledger.read_text(encoding="utf-8"))
    ledger.write_text(text, encoding="utf-8")  # without references to the chapters left out
    assert "1 of 1 claims hold" in python("-m", "bookbinder", "--chapter", chapter)
    page = (checkout / "_book" / chapter).with_suffix(".html")
    caption = "Figure 1.1: Mean grey value of each digit’s test images."
    assert checks.floats(page) == {"fig-weight": caption}
    shown = checks.parse(page)
    assert shown.select_one("#fig-weight img")["alt"].startswith("Ten bars")
    assert "✓ holds weight-of-one" in checks.text_of(shown.select_one(".claim-holds"))
    (claim,) = json.loads((checkout / "_book" / "claims.json").read_text(encoding="utf-8"))
    assert claim["id"] == "weight-of-one" and 0 < claim["value"] < 1
    assert "weight-of-one" in (checkout / "_book/report/ledger.html").read_text(encoding="utf-8")


def test_a_diff_must_fit_exactly_once():
    assert changed("a\nb\nc\n", "-b\n+B\n c\n@@\n+0\n a\n") == "0\na\nB\nc\n"
    with pytest.raises(AssertionError, match="not exactly once"):
        changed("b\nb\n", "-b\n+B\n")
