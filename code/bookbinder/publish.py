"""Puts the built book into docs/ as the edition that readers meet: `make publish`.

It is called twice, around a build. `ready` refuses a build that could not be published: from
uncommitted work, at another scale than full, of other digits than MNIST, without Quarto. `place`
asks the same again, since a build takes long, and then puts the book into docs/, whole or not at
all: images and style sheets compressed, at most `LIMIT` bytes, with a record (`EDITION`) of the
commit, the sources and the files. `check` says whether docs/ is damaged, which is an error, and
whether it lags behind the sources, which is not: the edition is refreshed now and then, in a commit
of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bookbinder import __version__, compress
from bookbinder.build import _swap
from lazy_artist import edition
from lazy_artist.data import load_digits

EDITION = "edition.json"
_TEXTS = (".html", ".js", ".css")
LIMIT = 15_000_000  # bytes of all that lies in docs/
SOURCES = ("_quarto.yml", "index.qmd", "report", "code/lazy_artist", "code/bookbinder")


class Refused(Exception):
    """Why nothing is published; the message ends with what to do."""


class LagWarning(UserWarning):
    """The published edition is older than the chapters or modules."""


def ready(root: Path) -> tuple[str, str]:
    """What an edition built now from the folder `root` would say of itself: commit, and builder.

    The builder is Quarto, as QUARTO names it, or bookbinder if PUBLISH_WITH says so. Raises Refused
    for a folder that is no git checkout or holds uncommitted work (docs/ does not count), for a
    scale that is not full, for digits that are not MNIST, and where Quarto is not there.
    """
    commit = _git(root, "rev-parse", "HEAD").strip()
    if changed := _git(root, "status", "--porcelain", "--", ".", ":(exclude)docs").splitlines():
        shown = ", ".join(line[3:] for line in changed[:5]) + ", …" * (len(changed) > 5)
        raise Refused(
            f"uncommitted work ({shown}): an edition names the commit that it can be built from "
            f"again. Commit it, or put it aside"
        )
    scale = os.environ.get("LAZY_ARTIST_SCALE") or "full"
    if scale != "full":
        raise Refused(
            f"the scale is {scale}: the edition is made at full scale. Run `make publish` without "
            f"SCALE, and unset LAZY_ARTIST_SCALE"
        )
    if edition.name() != edition.DIGITS:
        raise Refused(
            f"the edition is {edition.name()}: docs/ holds that of the digits. Run `make publish` "
            f"without EDITION, and unset QUARTO_PROFILE and LAZY_ARTIST_SOURCE"
        )
    for split in ("train", "test"):
        source = load_digits(split).source
        if not source.startswith("MNIST"):
            raise Refused(
                f"the {split} digits are not MNIST but: {source}. Set LAZY_ARTIST_DATA to a folder "
                f"that holds mnist/, or connect to the network, and unset LAZY_ARTIST_SOURCE"
            )
    return commit, _builder()


def place(root: Path, book: Path, docs: Path) -> None:
    """Puts the pages of `book`, just built from the folder `root`, in the place of `docs`.

    Raises Refused, with `docs` as it was, for all that `ready` refuses, a book that is not there or
    was built from another commit than is checked out now, and more than `LIMIT` bytes.
    """
    commit, builder = ready(root)
    colophon = book / "report" / "colophon.html"
    if not colophon.is_file():
        raise Refused(f"there is no book in {book}: run `make publish`, which builds it first")
    if commit[:12] not in colophon.read_text(encoding="utf-8"):
        raise Refused(
            f"the book in {book} was not built from {commit[:12]}, which is checked out now. Run "
            f"`make publish` again, and commit nothing meanwhile"
        )
    with tempfile.TemporaryDirectory(prefix="_book.publish.", dir=root) as folder:
        new = Path(folder) / "new"
        shutil.copytree(book, new, ignore=shutil.ignore_patterns(".*"))
        _make_smaller(new)
        (new / ".nojekyll").touch()  # GitHub Pages shows the files as they are
        record = {
            "commit": commit,
            "built": datetime.now(UTC).strftime("%Y-%m-%d"),
            "builder": builder,
            "sources": sources(root),
            "files": {name: _sha256(path) for name, path in _files(new).items()},
        }
        (new / EDITION).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        _check_size(new)
        _swap(new, docs, Path(folder) / "old")


def sources(root: Path) -> dict[str, str]:
    """What the book is made of: sha256 in hex by file, of the chapters and modules (`SOURCES`)."""
    found = {}
    for name in SOURCES:
        files = _files(root / name) if (root / name).is_dir() else {"": root / name}
        for inner, path in files.items():
            parts = path.relative_to(root).parts
            made = any(p.startswith(".") or p.endswith(("__pycache__", "_files")) for p in parts)
            if path.is_file() and not made and ".quarto_ipynb" not in path.name:
                found[f"{name}/{inner}".rstrip("/")] = _sha256(path)
    return found


def faults(docs: Path) -> list[str]:
    """What is wrong with a published edition in itself: its record, its files, its size."""
    try:
        expected = _record(docs)["files"]
    except Refused as error:
        return [str(error)]
    found = _files(docs)
    found.pop(EDITION)
    told = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    told += [f"{name} is in no record" for name in sorted(found.keys() - expected.keys())]
    told += [
        f"{name} is not as it was published"
        for name in sorted(expected.keys() & found.keys())
        if _sha256(found[name]) != expected[name]
    ]
    if "index.html" not in expected:
        told.append("it has no index.html")
    try:
        _check_size(docs)
    except Refused as error:
        told.append(str(error))
    return told


def lag(root: Path, docs: Path) -> str:
    """One sentence on how the published edition lags behind the chapters and modules in the folder
    `root`; empty if it does not. Raises Refused if its record cannot be read."""
    record = _record(docs)
    then, now = record["sources"], sources(root)
    changed = sorted(n for n in then.keys() | now.keys() if then.get(n) != now.get(n))
    if not changed:
        return ""
    more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
    return (
        f"the published edition in docs/ was built from {record['commit'][:12]} "
        f"({record['built']}); changed since: {', '.join(changed[:5])}{more}. "
        f"`make publish` refreshes it."
    )


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 if nothing can be published, or docs/ is damaged; else 0."""
    parser = argparse.ArgumentParser(prog="python -m bookbinder.publish", description=__doc__)
    parser.add_argument("step", choices=["ready", "place", "check"])
    parser.add_argument("--book", type=Path, default=Path("_book"), help="the built book")
    options = parser.parse_args(arguments)
    root, docs = Path().resolve(), Path("docs").resolve()
    try:
        if options.step == "ready":
            commit, builder = ready(root)
            print(f"Publishing {commit[:12]} with {builder}, at full scale, from MNIST")
        elif options.step == "place":
            place(root, options.book, docs)
            size = sum(path.stat().st_size for path in _files(docs).values())
            print(f"docs: published, {size / 1e6:.1f} MB. Commit it: git add docs && git commit")
        elif not docs.is_dir():
            print("docs: nothing is published yet (make publish)")
        elif damage := faults(docs):
            raise Refused(
                "docs: damaged: " + "; ".join(damage) + ". Restore it by git, or `make publish`"
            )
        else:
            print(f"docs: {lag(root, docs) or 'as new as the chapters and modules'}")
    except Refused as error:
        print(f"publish: {error}", file=sys.stderr)
        return 1
    return 0


def _make_smaller(book: Path) -> None:
    """Compresses images and style sheets, and drops Quarto's index of a search that is off."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda f: f.write_bytes(compress.png(f.read_bytes())), book.rglob("*.png")))
    texts = {f: f.read_text(encoding="utf-8") for f in _files(book).values() if f.suffix in _TEXTS}
    names = compress.names_in(text for file, text in texts.items() if file.suffix != ".css")
    for file, text in texts.items():
        if file.suffix == ".css":
            file.write_text(compress.css(text, names), encoding="utf-8")
    if not any("search.json" in text for text in texts.values()):
        (book / "search.json").unlink(missing_ok=True)


def _builder() -> str:
    wish = os.environ.get("PUBLISH_WITH") or "quarto"
    if wish == "bookbinder":
        return f"bookbinder {__version__}"
    if wish != "quarto":
        raise Refused(f"PUBLISH_WITH is {wish}: set it to quarto or bookbinder, or unset it")
    quarto = shutil.which(os.environ.get("QUARTO") or "quarto")
    done = quarto and subprocess.run([quarto, "--version"], capture_output=True, text=True)
    if not done or done.returncode:
        raise Refused(
            "Quarto is not here: install it (environment.yml does), or name it by "
            "QUARTO=/path/to/quarto. To publish bookbinder's pages instead, say "
            "`make publish PUBLISH_WITH=bookbinder`"
        )
    return f"Quarto {done.stdout.strip()}"


def _git(root: Path, *arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise Refused(
            f"git {arguments[0]} failed in {root}: an edition names the commit it was built from. "
            f"Publish from a git checkout"
        ) from error


def _record(docs: Path) -> dict[str, Any]:
    try:
        record = json.loads((docs / EDITION).read_text(encoding="utf-8"))
        kinds = {"commit": str, "built": str, "sources": dict, "files": dict}
        if all(isinstance(record[key], kind) for key, kind in kinds.items()):
            return record
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise Refused(f"{docs.name}/{EDITION} is missing or unreadable; run `make publish`")


def _check_size(folder: Path) -> None:
    sizes = {name: path.stat().st_size for name, path in _files(folder).items()}
    if (total := sum(sizes.values())) > LIMIT:
        largest = sorted(sizes, key=sizes.get, reverse=True)[:5]
        shown = ", ".join(f"{name} {sizes[name] / 1e6:.1f}" for name in largest)
        raise Refused(
            f"the edition has {total / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}. The largest files "
            f"(MB): {shown}. Make them smaller"
        )


def _files(folder: Path) -> dict[str, Path]:
    """All files below the folder by their paths in it, with forward slashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in files}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
