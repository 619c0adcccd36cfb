"""Builds a book from start to end; whatever goes wrong, the last good one stays in place."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nbformat import NotebookNode

from bookbinder import BookError
from bookbinder.execute import execute, keep_notebook, kept_notebook
from bookbinder.notebooks import add_notebooks
from bookbinder.pages import bind
from bookbinder.pdf import bind_pdf
from bookbinder.source import Book, Chapter, read_book
from lazy_artist.data import ask_again, write_whole


def build(root: Path, only: Sequence[Path] = ()) -> Path:
    """Builds the book in the folder `root` and returns the folder that holds its pages.

    All chapters are executed; with `only`, just these, those marked `always`, and those whose text
    or settings are not those of their last execution. Raises BookError with the old book in place.
    """
    book = read_book(root)
    ask_again()  # for what could not be reached in the last build
    files = {chapter.file for chapter in book.chapters}
    again = {path.as_posix() for path in only}
    for path in again - files:
        raise BookError(f"{path}:1: no chapter of this book; it has {', '.join(sorted(files))}")
    others = [c for c in book.chapters if only and c.file not in again and not c.always]
    notebooks = _execute_but(book, others)
    output = book.root / book.output_dir
    with replacing(output) as new:
        bind(book, notebooks, new)
    if book.post_render:
        command = [sys.executable, book.post_render]
        environment = os.environ | {"QUARTO_PROJECT_OUTPUT_DIR": str(output)}
        if subprocess.run(command, cwd=book.root, env=environment).returncode:
            raise BookError(f"_quarto.yml:1: post-render {book.post_render!r} failed; see above")
    return output


def build_pdf(root: Path) -> Path:
    """Writes the book in the folder `root`, as it was built last, as one PDF among its pages, and
    returns its file. Raises BookError."""
    book, notebooks = _last_build(root)
    file = book.root / book.output_dir / (re.sub(r"\W+", "-", book.title).strip("-") + ".pdf")
    write_whole(file, bind_pdf(book, notebooks))
    return file


def build_notebooks(root: Path) -> Path:
    """Puts the chapters of the book in the folder `root`, as it was built last, among its pages as
    Jupyter notebooks, and returns its folder. Raises BookError."""
    book, notebooks = _last_build(root)
    output = book.root / book.output_dir
    for page in ("index.html", *(chapter.page for chapter in book.chapters)):
        if not (output / page).is_file():
            raise BookError(f"{output / page}:1: no such page; build the book first")
    add_notebooks(book, notebooks, output)
    return output


def _last_build(root: Path) -> tuple[Book, dict[str, NotebookNode]]:
    """The book with the cells of its last build; chapters whose text, settings or modules
    (`code/**/*.py`) have changed since are executed again, and those marked `always` with them."""
    book = read_book(root)
    changed = max((f.stat().st_mtime for f in book.root.glob("code/**/*.py")), default=0.0)
    fitting = [c for c in book.chapters if not c.code or kept_notebook(book, c, changed)]
    stale = len(fitting) < len(book.chapters)
    return book, _execute_but(book, [c for c in fitting if not (stale and c.always)])


def _execute_but(book: Book, others: Sequence[Chapter]) -> dict[str, NotebookNode]:
    """Executes all chapters but `others`, of which the kept notebooks are taken if they fit."""
    kept = {chapter.file: kept_notebook(book, chapter) for chapter in others}
    chapters = [chapter for chapter in book.chapters if not kept.get(chapter.file)]
    executed = execute(book, chapters)
    for chapter in chapters:
        if chapter.code:
            keep_notebook(book, chapter, executed[chapter.file])
    return kept | executed


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A new path; the folder made there takes the place of `output`, or none if anything fails."""
    with tempfile.TemporaryDirectory(prefix="_book.", dir=output.parent) as folder:
        new, old = Path(folder, "new"), Path(folder, "old")
        yield new
        if output.exists():
            os.rename(output, old)
        try:
            os.rename(new, output)
        except BaseException:
            if old.exists():
                os.rename(old, output)
            raise
