"""Builds a book from start to end; whatever goes wrong, the last good one stays in place."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode
from tqdm import tqdm

from bookbinder import BookError
from bookbinder.execute import execute, keep_notebook, kept_notebook
from bookbinder.pages import bind
from bookbinder.source import Book, Chapter, read_book
from lazy_artist.data import cache_dir


def build(root: Path, only: Sequence[Path] = ()) -> Path:
    """Builds the book in the folder `root` and returns the folder that holds its pages.

    All chapters are executed; with `only`, just these, those marked `always`, and those whose
    text or scale is not that of their last execution. Raises BookError with the old book in place.
    """
    book = read_book(root)
    again = _chosen(book, only)
    others = [c for c in book.chapters if only and c.file not in again and not c.always]
    notebooks = _execute_but(book, others)
    output = book.root / book.output
    with tempfile.TemporaryDirectory(prefix=f"{output.name}.", dir=output.parent) as folder:
        new = Path(folder) / "new"
        new.mkdir()
        bind(book, notebooks, new)
        _swap(new, output, Path(folder) / "old")
    for command in book.post_render:
        _post_render(book, command)
    return output


def build_pdf(root: Path) -> Path:
    """Writes the book in the folder `root` as one PDF among its pages, and returns the PDF's file.

    It holds the cells of the last build. Chapters whose text, settings or modules (the Python files
    in `code/`) are no longer those of their last execution are executed again, and those marked
    `always` with them. Raises BookError with the old PDF in place.
    """
    from bookbinder.pdf import bind_pdf

    book = read_book(root)
    changed = max((f.stat().st_mtime for f in book.root.glob("code/**/*.py")), default=0.0)
    kept = _kept(book, book.chapters, changed)
    stale = [c for c in book.chapters if c.code and c.file not in kept]
    reusable = [c for c in book.chapters if c not in stale and not (stale and c.always)]
    notebooks = _execute_but(book, reusable)
    file = book.root / book.output / (re.sub(r"\W+", "-", book.title).strip("-") + ".pdf")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{book.output}.", dir=book.root) as folder:
        new = Path(folder) / file.name
        bind_pdf(book, notebooks, new)
        os.replace(new, file)
    return file


def _execute_but(book: Book, others: Sequence[Chapter]) -> dict[str, NotebookNode]:
    """Executes all chapters but `others`, of which the kept notebooks are taken if they fit."""
    notebooks = _kept(book, others)
    chapters = [chapter for chapter in book.chapters if chapter.file not in notebooks]
    with tqdm(total=sum(len(c.code) for c in chapters), unit="cell", disable=None) as bar:

        def done(chapter: Chapter) -> None:
            bar.set_description(chapter.file, refresh=False)
            bar.update()

        executed = execute(book, chapters, done)
    for chapter in chapters:
        if chapter.code:
            keep_notebook(_folder(book), chapter, executed[chapter.file])
    return notebooks | executed


def _kept(book: Book, chapters: Sequence[Chapter], since: float = 0.0) -> dict[str, NotebookNode]:
    """The chapters' notebooks of earlier builds that fit, if not executed before `since`."""
    notebooks = {c.file: kept_notebook(_folder(book), c, since) for c in chapters}
    return {file: notebook for file, notebook in notebooks.items() if notebook}


def _folder(book: Book) -> Path:
    """Where the notebooks of this book are kept, each edition's (its output folder) apart."""
    name = str(book.root / book.output)
    return cache_dir() / "bookbinder" / hashlib.sha256(name.encode()).hexdigest()[:12]


def _chosen(book: Book, only: Sequence[Path]) -> set[str]:
    files = {chapter.file for chapter in book.chapters}
    chosen = set()
    for path in only:
        if path.as_posix() in files:
            chosen.add(path.as_posix())
        elif path.resolve().is_relative_to(book.root):
            chosen.add(path.resolve().relative_to(book.root).as_posix())
        if not chosen & files or chosen - files:
            raise BookError(f"{path}:1: no chapter of this book; it has {', '.join(sorted(files))}")
    return chosen


def _swap(new: Path, output: Path, old: Path) -> None:
    """Puts `new` in the place of `output`, which moves to `old`."""
    if output.exists():
        os.rename(output, old)
    try:
        os.rename(new, output)
    except BaseException:
        if old.exists():
            os.rename(old, output)
        raise


def _post_render(book: Book, command: str) -> None:
    """Runs a post-render entry as Quarto does: a Python file, or else a command."""
    environment = os.environ | {"QUARTO_PROJECT_OUTPUT_DIR": str(book.root / book.output)}
    script = command.split()
    if script[0].endswith(".py"):
        script.insert(0, sys.executable)
    if subprocess.run(script, cwd=book.root, env=environment).returncode:
        raise BookError(f"_quarto.yml:1: post-render {command!r} failed; its message stands above")
