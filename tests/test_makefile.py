"""What `make` would run, told by a dry run, and what the workflow for GitHub Actions would."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]


def dry_run(*arguments: str) -> str:
    """What would be run for a target if .venv was there."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LAZY_", "MAKE"))}
    command = ["make", "--no-print-directory", "-n", "-o", ".venv/.ready", *arguments]
    return subprocess.check_output(command, cwd=ROOT, env=environment, text=True)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("report QUARTO=/opt/quarto", '"/opt/quarto" render --output-dir _book.new'),
        ("report QUARTO=", "python -m bookbinder \n"),
        ("report QUARTO= CHAPTER=report/a.qmd", "python -m bookbinder --chapter report/a"),
        ("report QUARTO= STRICT=1", "python -m lazy_artist.claims --book _book --strict"),
        ("pdf QUARTO=/opt/quarto", "python -m bookbinder --pdf"),
        ("preview QUARTO=", "_book/index.html"),
        ("check", "python -m bookbinder.publish check"),
    ],
)
def test_a_target_runs(target, told):
    assert told in dry_run(*target.split())


def test_what_is_cleaned_is_what_was_computed_and_not_what_was_downloaded():
    found = dry_run("clean").split()
    results = ["results", "artifacts", "claims", "bookbinder", "pages"]
    assert found[found.index("-rf") + 1 : found.index("find")] == [
        *("_book", "_book.*", ".quarto"), *(f".cache/{name}" for name in results)
    ]  # fmt: skip


def test_the_workflow_makes_what_there_is_with_what_is_pinned():
    text = {name: (ROOT / name).read_text("utf-8") for name in ("Makefile", "requirements.lock")}
    workflow = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text("utf-8"))
    (job,) = workflow["jobs"].values()
    scripts = [step["run"] for step in job["steps"] if "uses" not in step]
    made = [script.split()[1] for script in scripts if script.startswith("make ")]
    assert made == ["lint", "test", "report", "check"]
    assert set(made) <= set(re.findall(r"^([a-z]+):", text["Makefile"], re.M))
    (setup,) = (s for s in job["steps"] if "quarto-actions/setup" in s.get("uses", ""))
    asked = re.search(r"quarto *>=? *([\d.]+)", (ROOT / "environment.yml").read_text("utf-8"))[1]
    assert Version(setup["with"]["version"]) >= Version(asked)
    (script,) = (script for script in scripts if "requirements.lock" in script)
    left_out = re.search(r"grep -vE '([^']+)'", script)[1]  # what serves GPUs
    names = {line for line in text["requirements.lock"].splitlines() if re.match(left_out, line)}
    assert names and all(name.startswith(("cuda", "nvidia", "triton")) for name in names)


STUB = """#!/bin/bash
# stands in for Python: makes a venv with itself inside, and says yes to all else
[ "$1 $2" = "-m venv" ] && mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
exit 0
"""


@pytest.mark.parametrize("name", ["My Drive", "new(1) [b]", "Bücher", "Ann's", "a & b; c"])
def test_a_checkout_may_lie_in_a_folder_of_any_name(tmp_path, name):
    project, stub = tmp_path / name / "project", tmp_path / "python3"
    project.mkdir(parents=True)
    for file in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / file, project)
    stub.write_text(STUB)
    stub.chmod(0o755)
    for target in ("setup", "report", "test"):
        command = ["make", target, f"PYTHON={stub}", "QUARTO="]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (project / ".venv/.ready").is_file()
