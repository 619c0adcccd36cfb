"""Every solution of every exercise of the report runs as it stands, in a process of its own: a fork
of one that has imported what they share, and computed nothing."""

import json
import os
import re
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


FORKS = """
import json, os, sys, traceback
from lazy_artist import attack, featurevis, gradcam, networks, sae, tuning
from lazy_artist.eis7 import challenge_cnn, challenge_transformer
for line in sys.stdin:
    program, folder = json.loads(line)
    if not os.fork():
        os.chdir(folder)
        for stream, name in enumerate((os.devnull, "out", "err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), stream)
        try:
            exec(program, {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.stdout.flush()
        os._exit(0)
    _, status, used = os.wait4(-1, 0)
    print(json.dumps([status, used.ru_utime + used.ru_stime]), flush=True)
"""


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """The process that forks. Solutions share a store, also with those of other workers, so that
    each network is trained once."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    given = {"CACHE": str(shared / "exercises"), "SCALE": "quick", "STANDIN_SIZE": ""}
    if DIGITS:
        given |= {"DATA": DIGITS, "SOURCE": "auto"}
    environment = os.environ | {f"LAZY_ARTIST_{k}": v for k, v in given.items()}
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], env=environment | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield process


@pytest.mark.parametrize("name", FOUND)
def test_a_solution_runs_as_it_stands(name, forks, tmp_path):
    print(json.dumps([FOUND[name][1], str(tmp_path)]), file=forks.stdin, flush=True)
    status, spent = json.loads(forks.stdout.readline())
    shown, errors = ((tmp_path / stream).read_text("utf-8") for stream in ("out", "err"))
    assert status == 0, f"{shown}\n{errors[-2000:]}"
    assert shown.strip(), "it prints nothing to explain"
    print(f"{spent:.1f} s: {shown}")
    assert spent < SECONDS
