"""The workflow for GitHub Actions is not run here; what can be said of it without running it is."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


def test_the_workflow_makes_what_there_is_with_what_is_pinned():
    text = (ROOT / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8")
    (job,) = yaml.safe_load(text)["jobs"].values()
    steps = job["steps"]
    for step in steps:
        assert ("uses" in step) != ("run" in step), step
        assert re.fullmatch(r"[\w./-]+@v\d+", step.get("uses", "a/b@v1")), step
    made = [words[1] for s in steps if (words := s.get("run", "").split())[:1] == ["make"]]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert made == ["lint", "test", "report", "check"] and set(made) <= set(targets)
    (setup,) = (s for s in steps if "quarto-actions/setup" in s.get("uses", ""))
    environment = (ROOT / "environment.yml").read_text(encoding="utf-8")
    asked = re.search(r"\bquarto *>=? *([\d.]+)", environment)[1].split(".")
    assert [int(n) for n in setup["with"]["version"].split(".")] >= [int(n) for n in asked]
    (script,) = (s["run"] for s in steps if "requirements.lock" in s.get("run", ""))
    left_out = re.compile(re.search(r"grep -vE '([^']+)'", script)[1])  # what serves GPUs
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    names = {re.split(r"[=\[ ;]", line)[0] for line in lines if left_out.match(line)}
    assert names and all(name.startswith(("cuda", "nvidia", "triton")) for name in names)
