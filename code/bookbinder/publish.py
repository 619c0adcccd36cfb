"""Puts the built book into docs/ as the edition that readers meet: `make publish`.

It is called twice, around a build. `ready` refuses a build that could not be published: without
git, from uncommitted work, at another scale than full, of other digits than MNIST, without Quarto.
`place` asks the same again and puts the book into docs/: images compressed, at most `LIMIT` bytes,
with a record (`EDITION`) of the commit. `check` refuses a docs/ that is too large or without a
record, and says whether it lags behind the sources: it is refreshed in commits of its own.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten

from bookbinder import __version__, compress
from bookbinder.build import replacing
from bookbinder.reader import FOLDER
from lazy_artist.data import load_digits

EDITION = "edition.json"
LIMIT = 18_000_000  # bytes of all that lies in docs/
SOURCES = ("_quarto.yml", "_environment", "index.qmd", "report", "code")


class Refused(Exception):
    """Why nothing is published; the message ends with what to do."""


def ready(root: Path) -> tuple[str, str]:
    """What an edition built now from the folder `root` would say of itself: commit, and builder.

    The builder is Quarto, as QUARTO names it, or bookbinder if PUBLISH_WITH says so. Uncommitted
    work in docs/ does not count. Raises Refused as the top of this file says.
    """
    commit = _git(root, "rev-parse", "HEAD").strip()
    if changed := _git(root, "status", "--porcelain", "--", ".", ":(exclude)docs").splitlines():
        files = _listed(line[3:] for line in changed)
        raise Refused(f"uncommitted work ({files}). Commit it, or put it aside")
    if (scale := os.environ.get("LAZY_ARTIST_SCALE") or "full") != "full":
        raise Refused(f"the scale is {scale}, not full. Unset LAZY_ARTIST_SCALE and SCALE")
    for split in ("train", "test"):
        if not (source := load_digits(split).source).startswith("MNIST"):
            what = f"the {split} digits are not MNIST but: {source}"
            raise Refused(f"{what}. Set LAZY_ARTIST_DATA to a folder that holds mnist/")
    if os.environ.get("PUBLISH_WITH") == "bookbinder":
        return commit, f"bookbinder {__version__}"
    quarto = shutil.which(os.environ.get("QUARTO") or "quarto")
    done = quarto and subprocess.run([quarto, "--version"], capture_output=True, text=True)
    if not done or done.returncode:
        what = "Quarto is not here: install it, or name it by QUARTO=/path/to/quarto"
        raise Refused(f"{what}, or do without it: `make publish PUBLISH_WITH=bookbinder`")
    return commit, f"Quarto {done.stdout.strip()}"


def place(root: Path, book: Path, docs: Path) -> None:
    """Puts the pages of `book`, just built from the folder `root`, in the place of `docs`.

    Raises Refused, with `docs` as it was, for all that `ready` refuses, for no book or one of
    another commit than is checked out now, and for more than `LIMIT` bytes.
    """
    commit, builder = ready(root)
    colophon = book / "report" / "colophon.html"
    if not colophon.is_file():
        raise Refused(f"there is no book in {book}: run `make publish`, which builds it first")
    if commit[:12] not in colophon.read_text(encoding="utf-8"):
        what = f"{book} was not built from {commit[:12]}, which is checked out"
        raise Refused(f"{what}. Run `make publish` again, and commit nothing meanwhile")
    with replacing(docs) as new:
        shutil.copytree(book, new, ignore=shutil.ignore_patterns(".*", "search.json"))
        compress.images(new)
        compress.figures(new)
        compress.scripts(new, FOLDER)
        compress.styles(new)
        (new / ".nojekyll").touch()  # GitHub Pages shows the files as they are
        record = {"commit": commit, "built": f"{datetime.now(UTC):%Y-%m-%d}", "builder": builder}
        (new / EDITION).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        check_size(new)


def lag(root: Path, docs: Path) -> str:
    """One sentence on how the published edition lags behind its sources in the folder `root`;
    empty if it does not. Raises Refused if its record cannot be read."""
    try:
        record = json.loads((docs / EDITION).read_text(encoding="utf-8"))
        commit, built = str(record["commit"]), str(record["built"])
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused(f"docs/{EDITION} is missing or unreadable; run `make publish`") from None
    then = f"docs/ was built from {commit[:12]} on {built}"
    try:
        changed = _git(root, "diff", "--name-only", commit, "--", *SOURCES).split()
    except Refused:
        return f"{then}; what has changed since cannot be told, for git does not know that commit."
    changed += _git(root, "ls-files", "-o", "--exclude-standard", "--", *SOURCES).split()
    told = f"{then}; changed since: {_listed(sorted(changed))}. `make publish` refreshes it."
    return told if changed else ""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 if nothing can be published, or docs/ is no edition; else 0."""
    parser = argparse.ArgumentParser(prog="python -m bookbinder.publish", description=__doc__)
    parser.add_argument("step", choices=["ready", "place", "check"])
    options = parser.parse_args(arguments)
    root, docs = Path().resolve(), Path("docs").resolve()
    try:
        if options.step == "ready":
            print("Publishing {:.12} with {}, at full scale, from MNIST".format(*ready(root)))
        elif options.step == "place":
            place(root, root / "_book", docs)
            print(f"docs: {check_size(docs):.1f} MB. Commit it: git add docs && git commit")
        elif not docs.is_dir():
            print("docs: nothing is published yet (make publish)")
        else:
            check_size(docs)
            print(f"docs: {lag(root, docs) or 'as new as the chapters and modules'}")
    except Refused as error:
        print(f"publish: {error}", file=sys.stderr)
        return 1
    return 0


def _listed(names: Iterable[str]) -> str:
    return shorten(", ".join(names), 200, placeholder=" …")


def _git(root: Path, *arguments: str) -> str:
    try:
        how = {"cwd": root, "capture_output": True, "text": True, "check": True}
        return subprocess.run(["git", *arguments], **how).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        what = f"git {arguments[0]} failed in {root}. Publish from a git checkout"
        raise Refused(what) from error


def check_size(docs: Path) -> float:
    """The megabytes of all files together. Raises Refused if they are too many."""
    sizes = {path: path.stat().st_size for path in docs.rglob("*") if path.is_file()}
    if (total := sum(sizes.values())) > LIMIT:
        what = f"the edition has {total / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}"
        largest = max(sizes, key=sizes.get).name
        raise Refused(f"{what}. Make its files smaller: {largest} is the largest")
    return total / 1e6


if __name__ == "__main__":
    sys.exit(main())
