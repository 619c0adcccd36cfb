"""`python -m bookbinder [--project DIR] [--chapter FILE ...] [--profile NAME]`"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from bookbinder import BookError, __version__


def main(arguments: list[str] | None = None) -> int:
    """Builds the book; returns the exit status: 0, 1 for a BookError, 130 for an interrupt."""
    parser = argparse.ArgumentParser(prog="bookbinder", description="Build a Quarto book's pages.")
    parser.add_argument("--project", type=Path, default=Path(), help="the book's folder")
    parser.add_argument(
        "--chapter",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="execute only these (and what changed); the other chapters keep their last results",
    )
    parser.add_argument(
        "--pdf",
        action="store_true",
        help="write the whole book as one PDF among the pages, with the cells of the last build",
    )
    parser.add_argument("--profile", help="as Quarto's: a comma-separated list, or QUARTO_PROFILE")
    options = parser.parse_args(arguments)
    if options.profile:
        os.environ["QUARTO_PROFILE"] = options.profile
    if options.pdf and options.chapter:
        parser.error("--pdf is of the whole book: leave out --chapter")
    started = time.monotonic()
    try:
        from bookbinder.source import profile_environment

        os.environ.update(profile_environment(options.project))
        from bookbinder.build import build, build_pdf

        pdf = options.pdf
        output = build_pdf(options.project) if pdf else build(options.project, options.chapter)
    except BookError as error:
        print(f"bookbinder: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "bookbinder: interrupted; the kernels are shut down and no half-made book is left",
            file=sys.stderr,
        )
        return 130
    seconds = time.monotonic() - started
    print(f"{os.path.relpath(output)}: built in {seconds:.1f} s by bookbinder {__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
