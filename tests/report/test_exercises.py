"""Every solution of every exercise of the report runs as it stands, in a process of its own."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import book_checks as checks
import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 30  # of processor time that a solution may take
SOLUTION = re.compile(
    r'^::: \{\.callout-tip title="Solution" collapse="true"\}\n'
    r"```python\n(.*?)^```\n(.*?)^:::$",
    re.M | re.S,
)
DIGITS = os.environ.get("LAZY_ARTIST_DATA")  # the real ones, where the machine has them; else drawn
FOUND = {
    f"{page.stem}-{number}": match
    for page in sorted((ROOT / "report").glob("*.qmd"))
    for number, match in enumerate(SOLUTION.finditer(page.read_text(encoding="utf-8")), start=1)
}


@pytest.mark.parametrize("chapter", checks.DONE)
def test_a_chapter_has_three_exercises_with_solutions(chapter):
    text = (ROOT / "report" / f"{chapter}.qmd").read_text(encoding="utf-8")
    section = text.split("\n## Try it\n")[1]
    assert re.findall(r"^(\d)\. \*\*", section, re.M) == ["1", "2", "3"]
    solutions = [*SOLUTION.finditer(section)]
    assert len(solutions) == section.count(":::") / 2 == section.count("```") / 2 == 3
    for match in solutions:
        assert "print(" in match[1] and match[2].strip(), match[0]


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """A store that the solutions share, so that each network is trained once."""
    given = {"CACHE": str(tmp_path_factory.mktemp("exercises")), "SCALE": "quick"}
    if DIGITS:
        given |= {"DATA": DIGITS, "SOURCE": "auto"}
    return os.environ | {f"LAZY_ARTIST_{k}": v for k, v in given.items()} | {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("name", FOUND)
def test_a_solution_runs_as_it_stands(name, environment, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = [sys.executable, "-c", FOUND[name][1]]
    done = subprocess.run(program, env=environment, cwd=tmp_path, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}"
    assert done.stdout.strip(), "it prints nothing to explain"
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{spent:.1f} s: {done.stdout}")
    assert spent < SECONDS
