"""What `make` would run, told by a dry run."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def dry_run(*arguments: str) -> str:
    """What would be run for a target if .venv was there."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LAZY_", "MAKE"))}
    command = ["make", "--no-print-directory", "-n", "-o", ".venv/.ready", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["report", "QUARTO=/opt/quarto"], '"/opt/quarto" render --output-dir _book.new'),
        (["report", "QUARTO="], "python -m bookbinder \n"),
        (["report", "QUARTO=", "CHAPTER=report/a.qmd"], "python -m bookbinder --chapter report/a"),
        (["report", "QUARTO=", "STRICT=1"], "python -m lazy_artist.claims --book _book --strict"),
        (["pdf", "QUARTO=/opt/quarto"], "python -m bookbinder --pdf"),
        (["preview", "QUARTO="], "_book/index.html"),
        (["check"], "python -m bookbinder.publish check"),
        (["check"], "python -m pytest tests/report"),
    ],
)
def test_a_target_runs(arguments, told):
    assert told in dry_run(*arguments)


def test_what_is_cleaned_is_what_was_computed_and_not_what_was_downloaded():
    found = dry_run("clean").split()
    removed = found[found.index("-rf") + 1 : found.index("find")]
    results = [
        f".cache/{name}" for name in ("results", "artifacts", "claims", "bookbinder", "pages")
    ]
    assert removed == ["_book", "_book.*", ".quarto", *results]
