"""The built books that the checks of this folder look at."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml
from browsing import browser  # noqa: F401  (a fixture)

ROOT = Path(__file__).resolve().parents[2]
BOOKS = {  # and how to have them
    "sample": "",
    "sample-quarto": "put `quarto` on PATH or set QUARTO",
    "report": "make report",
    "report-quarto": "let LAZY_ARTIST_BOOK_QUARTO name a build of the report by Quarto",
}


def _build_sample(folder: Path, *command: str) -> Path:
    """Builds a copy of the sample book, in the report's own theme; returns its pages' folder."""
    project = folder / "sample"
    sample = Path(__file__).with_name("sample")
    shutil.copytree(sample, project, ignore=shutil.ignore_patterns("_book", ".quarto", "*_files"))
    (project / "report").mkdir()
    for theme in (ROOT / "report").glob("*.scss"):
        shutil.copy(theme, project / "report")
    config, report = (yaml.safe_load((at / "_quarto.yml").read_text()) for at in (project, ROOT))
    config["format"]["html"]["theme"] = report["format"]["html"]["theme"]
    (project / "_quarto.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    environment = os.environ | {"QUARTO_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    environment["LAZY_ARTIST_CACHE"] = str(folder / "cache")
    subprocess.run(command, cwd=project, env=environment, check=True, timeout=280)
    return project / "_book"


@pytest.fixture(scope="session")
def books(tmp_path_factory):
    """books(name) -> the folder of one of `BOOKS`; skips the test if it cannot be had."""

    @cache
    def built(name: str) -> Path:
        folder, quarto = tmp_path_factory.mktemp("b"), os.environ.get("QUARTO", "quarto")
        if name == "sample":
            return _build_sample(folder, sys.executable, "-m", "bookbinder")
        if name == "sample-quarto" and (quarto := shutil.which(quarto)):
            return _build_sample(folder, quarto, "render")
        if name == "report" and (ROOT / "_book" / "index.html").is_file():
            return ROOT / "_book"
        if name == "report-quarto" and (named := os.environ.get("LAZY_ARTIST_BOOK_QUARTO")):
            return Path(named).resolve()
        pytest.skip(f"no {name} is built: {BOOKS[name]}")

    return built


@pytest.fixture(scope="session", params=BOOKS)
def book(request, books) -> Path:
    """The folder of a built book: each of `BOOKS` in turn."""
    return books(request.param)


@pytest.fixture
def make_book(tmp_path):
    """make_book(body, files) -> a book of one such page, for checks to find fault with."""

    def make(body: str, files: dict[str, str] | None = None) -> Path:
        page = f"<!DOCTYPE html><html><head><title>t</title></head><body>{body}</body></html>"
        for name, text in {"index.html": page, **(files or {})}.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return make
