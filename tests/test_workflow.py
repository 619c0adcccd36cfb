"""The workflow for GitHub Actions is not run here; what can be said of it without running it is."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "book.yml"


@pytest.fixture(scope="module")
def steps() -> list[dict]:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert set(workflow) >= {"name", True, "jobs"}  # to YAML, the key `on` is the value true
    (job,) = workflow["jobs"].values()
    return job["steps"]


def test_every_step_is_an_action_of_a_fixed_version_or_a_command(steps):
    for step in steps:
        assert ("uses" in step) != ("run" in step), step
        assert re.fullmatch(r"[\w./-]+@v\d+", step.get("uses", "a/b@v1")), step


def test_it_makes_what_the_makefile_offers_and_checks_the_book_last(steps):
    made = [words[1] for s in steps if (words := s.get("run", "").split())[:1] == ["make"]]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert set(made) <= set(targets)
    assert made == ["lint", "test", "report", "check"]


def test_quarto_is_pinned_and_no_older_than_the_environment_asks(steps):
    (setup,) = (s for s in steps if "quarto-actions/setup" in s.get("uses", ""))
    pinned = str(setup["with"]["version"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", pinned)
    environment = (ROOT / "environment.yml").read_text(encoding="utf-8")
    asked = re.search(r"\bquarto *>=? *([\d.]+)", environment)[1]
    assert [int(n) for n in pinned.split(".")] >= [int(n) for n in asked.split(".")]


def test_it_installs_all_that_is_pinned_but_what_serves_gpus(steps):
    (script,) = (s["run"] for s in steps if "requirements.lock" in s.get("run", ""))
    left_out = re.compile(re.search(r"grep -vE '([^']+)'", script)[1])
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    names = {re.split(r"[=\[ ;]", line)[0] for line in lines if left_out.match(line)}
    assert names and all(name.startswith(("cuda", "nvidia", "triton")) for name in names)
    assert any(line.startswith("torch==") and not left_out.match(line) for line in lines)
