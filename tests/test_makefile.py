"""What `make` would run, told by a dry run, and what the workflow for GitHub Actions would."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

import bookbinder

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
        ("notebooks", "python -m bookbinder --notebooks"),
        ("preview QUARTO=", "_book/index.html"),
        ("report QUARTO=", "python -m lazy_artist.results plan\n"),
        ("check", "python -m bookbinder.publish check"),
        ("check", "python -m lazy_artist.results check || true"),
        ("verify", "python -m lazy_artist.results verify \n"),
        ("verify ALL=1", "python -m lazy_artist.results verify --all\n"),
    ],
)
def test_a_target_runs(target, told):
    assert told in dry_run(*target.split())


def test_results_are_refused_early_then_built_then_filled():
    """At full scale or not at all: `ready` decides, before the build."""
    told = dry_run("results", "QUARTO=", "CHAPTER=report/a.qmd", "STRICT=1")
    steps = re.findall(r"python -m (\S+) ?(.*)", told)
    assert steps == [
        *[("lazy_artist.results", step) for step in ("ready", "plan")],
        *[("bookbinder", ""), ("lazy_artist.results", "fill")],
    ]


def test_what_is_cleaned_is_what_was_computed_and_not_what_was_downloaded():
    found = dry_run("clean").split()
    results = ["results", "asked", "verify", "claims", "bookbinder", "pages"]
    assert found[found.index("-rf") + 1 : found.index("find")] == [
        *("_book", "_book.*", ".quarto"), *(f".cache/{name}" for name in results)
    ]  # fmt: skip


def test_the_edition_has_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    latest = re.search(r"^## (\S+), (\d+ \w+ \d{4}): ", changes, re.M)
    assert project["version"] == citation["version"] == latest[1] == bookbinder.__version__
    assert f"{citation['date-released']:%-d %B %Y}" == latest[2]


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


STUB = r"""#!/bin/bash
# Stands in for Python and uv: makes a venv with itself inside, installs Quarto if it is told to
# (else leaves it half-made), writes down all that it is asked, and says yes to all else.
here=$(dirname "$0")
echo "${0##*/} $*" >> "$STUB_LOG"
case "$*" in
  "-c import tomllib"*) exec "$STUB_PYTHON" "$@";;
  *"venv "*) mkdir -p "${!#}/bin" .venv/lib/python3/site-packages && cp "$0" "${!#}/bin/python";;
  *quarto-cli*)
    mkdir -p .venv/lib/python3/site-packages/quarto_cli
    { echo '#!/bin/bash'; echo 'echo 9.9.9; echo "quarto $*" >> "$STUB_LOG"; mkdir -p _book.new'
    } > .venv/bin/quarto
    echo half > "$TMPDIR/quarto.tar.gz"
    [ "$STUB_ONLINE" ] && exec chmod +x .venv/bin/quarto
    echo "  Error downloading Quarto: <urlopen error no such host>"; exit 1;;
esac
exit 0
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
    """make(folder, *arguments) runs `make` with stubs in a project in that folder; returns what it
    gave and what the stubs were asked."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    log = tmp_path / "log"

    def run(folder: str, *arguments: str, **variables: str) -> tuple:
        project = tmp_path / folder / "project"
        if not project.exists():
            project.mkdir(parents=True)
            for file in ("Makefile", "requirements.lock", "pyproject.toml"):
                shutil.copy(ROOT / file, project)
        for name in ("python3", "uv"):
            (tmp_path / name).write_text(STUB)
            (tmp_path / name).chmod(0o755)
        stubs = {"STUB_LOG": str(log), "STUB_PYTHON": sys.executable, "STUB_ONLINE": ""}
        usual = {k: v for k, v in os.environ.items() if not k.startswith(("LAZY_", "MAKE"))}
        usual |= {"PATH": "/usr/bin:/bin", "PYTHON": str(tmp_path / "python3"), "UV": ""}
        log.write_text("")
        how = {"cwd": project, "env": usual | stubs | variables, "capture_output": True}
        done = subprocess.run(["make", *arguments], text=True, **how)
        return done, project, log.read_text()

    return run


@pytest.mark.parametrize("name", ["My Drive", "new(1) [b]", "Bücher", "Ann's", "a & b; c"])
@pytest.mark.parametrize("uv", [False, True])
def test_a_checkout_may_lie_in_a_folder_of_any_name(make, tmp_path, name, uv):
    given = {"UV": str(tmp_path / "uv")} if uv else {}
    for target in ("setup", "report", "test"):
        done, project, asked = make(name, target, "QUARTO=", **given)
        assert done.returncode == 0, done.stderr
        if target == "setup":
            lines = [line.split(" ", 1)[0] for line in asked.splitlines() if "-c " not in line]
            assert lines == (["uv"] * 3 if uv else ["python3", "python", "python"])
    assert (project / ".venv/.ready").is_file()


def test_a_fresh_report_says_so_to_the_modules(make):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert "FRESH=1" in makefile.split("SHELL")[0]
    for arguments, seen in (((), "unset"), (("FRESH=1",), "1")):
        expression = "show: ; @echo $${LAZY_ARTIST_FRESH-unset}"
        done, *_ = make("fresh", "--eval", expression, "show", *arguments)
        assert done.stdout.strip() == seen


@pytest.mark.parametrize("uv", [False, True])
def test_quarto_is_put_into_the_environment_or_nothing_is(make, tmp_path, uv):
    given = {"UV": str(tmp_path / "uv")} if uv else {}
    _, project, _ = make("book", "setup", **given)
    before = sorted(project.rglob("*"))
    done, _, asked = make("book", "quarto", **given)
    assert done.returncode and len(done.stdout.splitlines()) == 3
    assert "Error downloading Quarto: <urlopen error no such host>." in done.stdout
    assert "All is as it was" in done.stdout
    extra = "--constraint requirements.lock quarto-cli>=1.7 jupyter\n"
    assert extra in asked and asked.splitlines()[-1].startswith("uv pip" if uv else "python -m pip")
    assert sorted(project.rglob("*")) == before
    assert not list((tmp_path / "temporary").iterdir())
    done, _, _ = make("book", "quarto", STUB_ONLINE="1", **given)
    assert done.returncode == 0 and "Quarto 9.9.9 is in .venv" in done.stdout
    done, _, asked = make("book", "report", **given)
    assert done.returncode == 0 and "quarto render --output-dir _book.new" in asked
    done, _, _ = make("book", "quarto", **given)  # what works is left where a new one fails
    assert done.returncode and (project / ".venv/bin/quarto").is_file()
