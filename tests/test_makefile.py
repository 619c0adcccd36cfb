"""The switch between editions: what `make` would run, told by a dry run."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


LEFT_OUT = ("QUARTO_PROFILE", "LAZY_ARTIST_SOURCE", "EDITION", "MAKEFLAGS", "MAKEOVERRIDES")


def make(*arguments: str, rules: str = "", **settings: str) -> subprocess.CompletedProcess:
    """Runs make with `settings` in its environment, and with more rules after the Makefile's."""
    environment = {k: v for k, v in os.environ.items() if k not in LEFT_OUT} | settings
    command = ["make", "--no-print-directory", "-f", "Makefile", "-f", "-", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, input=rules, capture_output=True, text=True
    )


def dry_run(*arguments: str, **settings: str) -> subprocess.CompletedProcess:
    """What would be run for a target if .venv was there."""
    return make("-n", "-o", ".venv/.ready", *arguments, **settings)


def exported(name: str, *arguments: str, **settings: str) -> str:
    """What a recipe finds in the environment variable `name`."""
    rules = f'told:\n\t@echo "[$${{{name}-}}]"\n'
    done = make("-s", "told", *arguments, rules=rules, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()[1:-1]


def test_the_digits_edition_is_what_make_builds_by_itself():
    assert exported("QUARTO_PROFILE") == ""
    assert exported("LAZY_ARTIST_SOURCE") == ""
    assert "_book.new" in dry_run("report", "QUARTO=/opt/quarto").stdout


@pytest.mark.parametrize(
    "asked",
    [
        {"EDITION": "fashion"},
        {"LAZY_ARTIST_SOURCE": "fashion-mnist"},
        {"QUARTO_PROFILE": "fashion"},
    ],
)
def test_one_switch_sets_profile_and_images(asked):
    assert exported("QUARTO_PROFILE", **asked) == "fashion"
    assert exported("LAZY_ARTIST_SOURCE", **asked) == "fashion-mnist"


def test_the_fashion_book_leaves_the_digits_book_alone():
    for builder in ("/opt/quarto", ""):
        for target in ("report", "check", "pdf", "preview"):
            run = dry_run(target, "EDITION=fashion", f"QUARTO={builder}", "STRICT=1")
            assert run.returncode == 0, run.stderr
            assert "_book" not in run.stdout.replace("_book-fashion", "")
    assert "LAZY_ARTIST_BOOK=_book-fashion" in dry_run("check", "EDITION=fashion").stdout
    assert "_book-fashion" in dry_run("clean").stdout


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"EDITION": "letters"}, "EDITION=letters is unknown: the editions are digits fashion"),
        (
            {"EDITION": "digits", "LAZY_ARTIST_SOURCE": "fashion-mnist"},
            "EDITION=digits, but LAZY_ARTIST_SOURCE is fashion-mnist",
        ),
        (
            {"EDITION": "fashion", "LAZY_ARTIST_SOURCE": "mnist"},
            "EDITION=fashion, but LAZY_ARTIST_SOURCE is mnist",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(asked, told):
    run = dry_run("report", **asked)
    assert run.returncode == 2 and told in run.stderr and run.stdout == ""
