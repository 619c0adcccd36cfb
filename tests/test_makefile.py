"""What `make` would run, told by a dry run, and what the workflow for GitHub Actions would."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


def dry_run(*arguments: str) -> str:
    """What would be run for a target if .venv was there."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LAZY_", "MAKE"))}
    command = ["make", "--no-print-directory", "-n", "-o", ".venv/.ready", *arguments]
    return subprocess.check_output(command, cwd=ROOT, env=environment, text=True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("report QUARTO=/opt/quarto", '"/opt/quarto" render --output-dir _book.new'),
        ("report QUARTO=", "python -m bookbinder \n"),
        ("report QUARTO= CHAPTER=report/a.qmd", "python -m bookbinder --chapter report/a"),
        ("report QUARTO= STRICT=1", "python -m lazy_artist.claims --book _book --strict"),
        ("pdf QUARTO=/opt/quarto", "python -m bookbinder --pdf"),
        ("preview QUARTO=", "_book/index.html"),
        ("check", "python -m bookbinder.publish check"),
        ("check", "python -m pytest tests/report"),
    ],
)
def test_a_target_runs(arguments, told):
    assert told in dry_run(*arguments.split())


def test_what_is_cleaned_is_what_was_computed_and_not_what_was_downloaded():
    found = dry_run("clean").split()
    results = ["results", "artifacts", "claims", "bookbinder", "pages"]
    assert found[found.index("-rf") + 1 : found.index("find")] == [
        *("_book", "_book.*", ".quarto"), *(f".cache/{name}" for name in results)
    ]  # fmt: skip


def test_the_workflow_makes_what_there_is_with_what_is_pinned():
    text = {name: (ROOT / name).read_text("utf-8") for name in ("Makefile", "requirements.lock")}
    (job,) = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text("utf-8"))[
        "jobs"
    ].values()
    scripts = [step["run"] for step in job["steps"] if "uses" not in step]
    made = [script.split()[1] for script in scripts if script.startswith("make ")]
    assert made == ["lint", "test", "report", "check"]
    assert set(made) <= set(re.findall(r"^([a-z]+):", text["Makefile"], re.M))
    (setup,) = (s for s in job["steps"] if "quarto-actions/setup" in s.get("uses", ""))
    asked = re.search(r"quarto *>=? *([\d.]+)", (ROOT / "environment.yml").read_text("utf-8"))[1]
    used, asked = ([int(n) for n in v.split(".")] for v in (setup["with"]["version"], asked))
    assert used >= asked
    (script,) = (script for script in scripts if "requirements.lock" in script)
    left_out = re.search(r"grep -vE '([^']+)'", script)[1]  # what serves GPUs
    names = {line for line in text["requirements.lock"].splitlines() if re.match(left_out, line)}
    assert names and all(name.startswith(("cuda", "nvidia", "triton")) for name in names)
