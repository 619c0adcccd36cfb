"""Tiny books for the tests, so that most of them need no kernel."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup

from bookbinder.pages import bind
from bookbinder.source import read_book

CONFIG = """\
project: {{type: book}}
book: {{title: "Tiny", chapters: [{chapters}], appendices: [{appendices}]}}
execute: {{warning: {warning}}}
format: {{html: {{code-fold: {fold}, code-summary: "Show the code"}}}}
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def project(tmp_path):
    """Writes a project: {file: text}; adds `_quarto.yml` and an index if they are not given. What
    is in the folder `appendix` is one."""

    def write(files: dict[str, str], fold: str = "true", warning: str = "false") -> Path:
        files = {"index.qmd": "# Preface {.unnumbered}\n"} | files
        appendices = [f for f in files if re.match(r"appendix/.*\.qmd$", f)]
        chapters = [f for f in files if f.endswith(".qmd") and f not in appendices]
        listed = {"chapters": ", ".join(chapters), "appendices": ", ".join(appendices)}
        config = CONFIG.format(**listed, fold=fold, warning=warning)
        config += "".join(f"bibliography: {file}\n" for file in files if file.endswith(".bib"))
        for file, text in {"_quarto.yml": config, **files}.items():
            (tmp_path / "book" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "book" / file).write_text(text, encoding="utf-8")
        return tmp_path / "book"

    return write


@pytest.fixture
def book(project):
    """(book, notebooks) of a project whose code gave `outputs` {file: [those of each piece]}."""

    def make(files: dict[str, str], outputs: dict | None = None, **settings: str) -> tuple:
        made = read_book(project(files, **settings))
        notebooks = {}
        for chapter in made.chapters:
            given = (outputs or {}).get(chapter.file, [[] for _ in chapter.code])
            cells = [nbformat.v4.new_code_cell("", outputs=o) for o in given]
            assert len(cells) == len(chapter.code)
            notebooks[chapter.file] = nbformat.v4.new_notebook(cells=cells)
        return made, notebooks

    return make


@pytest.fixture
def pages(tmp_path, book):
    """The pages of such a project, by file."""

    def build(*arguments: Any, **settings: str) -> dict[str, BeautifulSoup]:
        out = tmp_path / "out"
        bind(*book(*arguments, **settings), out)
        files = {file.relative_to(out).as_posix(): file for file in out.rglob("*.html")}
        return {n: BeautifulSoup(f.read_text("utf-8"), "html.parser") for n, f in files.items()}

    return build
