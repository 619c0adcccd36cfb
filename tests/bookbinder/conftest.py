"""Tiny books for the tests, and outputs made by hand, so that most tests need no kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup

from bookbinder.pages import bind
from bookbinder.source import Book, read_book

CONFIG = """\
project:
  type: book
book:
  title: "Tiny"
  chapters: [{chapters}]
bibliography: [{bibliography}]
execute:
  warning: false
format:
  html:
    code-fold: true
    code-summary: "Show the code"
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LAZY_ARTIST_SCALE", raising=False)


@pytest.fixture
def project(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Writes a project: {file: text}; adds `_quarto.yml` and an index if they are not given."""

    def write(files: dict[str, str]) -> Path:
        files = {"index.qmd": "# Preface {.unnumbered}\n"} | files
        chapters = ", ".join(file for file in files if file.endswith(".qmd"))
        bibliography = ", ".join(file for file in files if file.endswith(".bib"))
        files.setdefault("_quarto.yml", CONFIG.format(chapters=chapters, bibliography=bibliography))
        for file, text in files.items():
            (tmp_path / "book" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "book" / file).write_text(text, encoding="utf-8")
        return tmp_path / "book"

    return write


@pytest.fixture
def pages(tmp_path: Path, project) -> Callable[..., dict[str, BeautifulSoup]]:
    """Binds a project whose code gave the `outputs` {file: [outputs of each piece of code]}."""

    def build(
        files: dict[str, str], outputs: dict[str, list[list[Any]]] | None = None
    ) -> dict[str, BeautifulSoup]:
        book: Book = read_book(project(files))
        notebooks = {}
        for chapter in book.chapters:
            given = (outputs or {}).get(chapter.file, [[] for _ in chapter.code])
            cells = [nbformat.v4.new_code_cell("", outputs=o) for o in given]
            assert len(cells) == len(chapter.code)
            notebooks[chapter.file] = nbformat.v4.new_notebook(cells=cells)
        out = tmp_path / "out"
        out.mkdir()
        bind(book, notebooks, out)
        return {
            file.relative_to(out).as_posix(): BeautifulSoup(file.read_text("utf-8"), "html.parser")
            for file in out.rglob("*.html")
        }

    return build
