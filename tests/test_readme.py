"""What the README names is there: targets, files, settings."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
OWN = {"BUILDER", "CHAPTER", "COMMIT", "RESULTS", "STANDIN_SIZE"}  # for programs and tests


def test_every_target_that_the_readme_names_is_one_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    named = set(re.findall(r"(?:^ +|`)make ([a-z]+)", README, re.M))
    assert {"report", "test", "publish"} <= named <= targets


def test_every_file_that_the_readme_names_exists():
    """Files of Python may be named without their folder, after another of the same folder."""
    linked = re.findall(r"\]\(([^):#]+)\)", README)
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*\*?[\w.-]*)`", README)
    made = ("_book/", ".cache/", "mnist/", "fashion-mnist/", "eis-vii/", "assets/")
    for name in linked + [name for name in named if not name.startswith(made)]:
        assert list(ROOT.glob(name.rstrip("/"))), name
    modules = {path.name for path in (ROOT / "code").rglob("*.py")}
    found = set(re.findall(r"`(\w+\.py)`", README))
    assert found and found <= modules


def test_every_setting_is_in_the_readme_and_no_other():
    files = [*(ROOT / "code").rglob("*.py"), ROOT / "Makefile"]
    read = {s for file in files for s in re.findall(r"LAZY_ARTIST_([A-Z_]+)", file.read_text())}
    assert set(re.findall(r"LAZY_ARTIST_([A-Z_]+)", README)) == read - OWN
