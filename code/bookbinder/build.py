"""Builds a book from start to end; whatever goes wrong, the last good one stays in place."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

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
    kept = cache_dir() / "bookbinder" / hashlib.sha256(str(book.root).encode()).hexdigest()[:12]
    notebooks = {}
    for chapter in book.chapters:
        if only and chapter.file not in again and not chapter.always:
            notebook = kept_notebook(kept, chapter)
            if notebook:
                notebooks[chapter.file] = notebook
    chapters = [chapter for chapter in book.chapters if chapter.file not in notebooks]
    with tqdm(total=sum(len(c.code) for c in chapters), unit="cell", disable=None) as bar:

        def done(chapter: Chapter) -> None:
            bar.set_description(chapter.file, refresh=False)
            bar.update()

        executed = execute(book, chapters, done)
    for chapter in chapters:
        if chapter.code:
            keep_notebook(kept, chapter, executed[chapter.file])
    output = book.root / book.output
    with tempfile.TemporaryDirectory(prefix=f"{output.name}.", dir=output.parent) as folder:
        new = Path(folder) / "new"
        new.mkdir()
        bind(book, notebooks | executed, new)
        _swap(new, output, Path(folder) / "old")
    for command in book.post_render:
        _post_render(book, command)
    return output


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
