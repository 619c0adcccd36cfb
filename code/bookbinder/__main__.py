"""`python -m bookbinder [--project DIR] [--chapter FILE ... | --pdf | --notebooks]`"""

import argparse
import os
import sys
import time
from pathlib import Path

from bookbinder import BookError, __version__
from bookbinder.build import build, build_notebooks, build_pdf
from bookbinder.source import read_environment


def main(arguments: list[str] | None = None) -> int:
    """Builds the book; returns the exit status: 0, 1 for a BookError, 130 for an interrupt."""
    parser = argparse.ArgumentParser(prog="bookbinder", description="Build a Quarto book's pages.")
    parser.add_argument("--project", type=Path, default=Path(), help="the book's folder")
    one = parser.add_mutually_exclusive_group()
    what = "execute only these (and what changed); the other chapters keep their last results"
    one.add_argument("--chapter", type=Path, nargs="+", action="extend", default=[], help=what)
    what = "write the whole book as one PDF among the pages, with the cells of the last build"
    one.add_argument("--pdf", action="store_true", help=what)
    what = "put the chapters among the pages as notebooks too, with the cells of the last build"
    one.add_argument("--notebooks", action="store_true", help=what)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        root = options.project
        for name, value in read_environment(root).items():
            os.environ.setdefault(name, value)
        if options.pdf or options.notebooks:
            output = build_pdf(root) if options.pdf else build_notebooks(root)
        else:
            output = build(root, options.chapter)
    except BookError as error:
        print(f"bookbinder: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bookbinder: interrupted; no half-made book is left", file=sys.stderr)
        return 130
    seconds = time.monotonic() - started
    print(f"{os.path.relpath(output)}: built in {seconds:.1f} s by bookbinder {__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
