"""How long does the book take to build, and how much memory?

    python benchmarks/book_build.py [--scale full|quick] [--repetitions N] [--chapter FILE ...]
                                    [--setup] [--fresh]

Builds a copy of this checkout in a temporary folder with a cache of its own, so that neither the
book nor the cache here is touched; the virtual environment (`make setup`) and LAZY_ARTIST_DATA are
shared. Three clocks, all with bookbinder: the first build of a clone (with an empty cache, and the
results that come with the repository), one where nothing changed, and one after an edit to the text
of one chapter. On request also the set-up of an environment, and a build that computes all anew.
Memory is the most that make and all its descendants held at once (proportional set size, so shared
pages count once; Linux only).
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml

from common import machine

ROOT = Path(__file__).resolve().parents[1]
CLONE_SECONDS, UNCHANGED_SECONDS, CHAPTER_SECONDS, GIGABYTES = 60, 30, 15, 4
SAMPLE_SECONDS = 1  # between two looks at memory


class Build(NamedTuple):
    """What one build cost; gigabytes (10^9 bytes) is NaN where it cannot be known."""

    seconds: float
    gigabytes: float


def copy_checkout(folder: Path) -> Path:
    """A copy of the checkout's files, committed or not but never ignored, without .venv."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    copy = folder / "book"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # a file may be deleted and not yet committed so
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)  # with its time, which make looks at
    return copy


def environment(copy: Path, cache: Path) -> dict[str, str]:
    """This environment, but with the copy's modules and the cache in `cache`."""
    variables = os.environ | {"PYTHONPATH": str(copy / "code"), "LAZY_ARTIST_CACHE": str(cache)}
    if data := variables.get("LAZY_ARTIST_DATA"):
        variables["LAZY_ARTIST_DATA"] = str(Path(data).resolve())
    return variables


def build(copy: Path, cache: Path, *targets: str) -> Build:
    """Runs `make` for targets and variables; exits with the end of its messages if it fails."""
    command = ["make", "QUARTO=", *targets]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=copy, env=environment(copy, cache), stdout=log, stderr=log
        )
        peak = [float("nan")]
        sampler = threading.Thread(target=_sample, args=(process, f"CACHE={cache}".encode(), peak))
        sampler.start()
        process.wait()
        seconds = time.perf_counter() - start
        sampler.join()
        if process.returncode:
            log.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{log.read()[-3000:]}")
    return Build(seconds, peak[0])


def _sample(process: subprocess.Popen, mark: bytes, peak: list[float]) -> None:
    """Raises `peak[0]` to the gigabytes of all processes whose environment has `mark`.

    The mark finds those too that a process which has ended since had started.
    """
    while process.poll() is None:
        held = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes():
                    for line in (folder / "smaps_rollup").read_text().splitlines():
                        held += 1024 * int(line.split()[1]) if line.startswith("Pss:") else 0
            except OSError:
                continue  # it has ended, or is another user's
        if held:
            peak[0] = max(held / 1e9, 0 if peak[0] != peak[0] else peak[0])
        time.sleep(SAMPLE_SECONDS)


def chapters_with_cells(copy: Path) -> list[str]:
    """The book's chapters that compute something, but for the closing ones, which always do."""
    book = yaml.safe_load((copy / "_quarto.yml").read_text())["book"]
    texts = {name: (copy / name).read_text() for name in book["chapters"] + book["appendices"]}
    return [n for n, text in texts.items() if "```{python}" in text and "after: all" not in text]


def edit(file: Path, count: int) -> None:
    """Adds a sentence to the end of a chapter."""
    with file.open("a") as chapter:
        chapter.write(f"\n\nThis is edit number {count}.\n")


def row(name: str, builds: list[Build], target: float = math.inf) -> dict[str, object]:
    seconds = [build.seconds for build in builds]
    peak = max(build.gigabytes for build in builds)
    met = statistics.median(seconds) <= target and not peak > GIGABYTES
    return {
        "build": name,
        "runs": len(builds),
        "median s": f"{statistics.median(seconds):.1f}",
        "range s": f"{min(seconds):.1f} to {max(seconds):.1f}",
        "target s": target if target < math.inf else "none",
        "peak GB": f"{peak:.2f}" if peak == peak else "not measured",
        "target GB": GIGABYTES,
        "met": "yes" if met else "NO",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=("full", "quick"), default="full")
    parser.add_argument("--repetitions", type=int, default=5, help="of unchanged builds")
    parser.add_argument("--setup", action="store_true", help="measure `make setup` too")
    parser.add_argument("--fresh", action="store_true", help="and FRESH=1, in a cache of its own")
    parser.add_argument(
        "--chapter", nargs="+", metavar="FILE",
        help="edit these; by default each that has cells, once, then the slowest of them",
    )  # fmt: skip
    options = parser.parse_args()
    print(f"{machine()}, scale {options.scale}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="book-build-") as folder:
        copy, cache = copy_checkout(Path(folder)), Path(folder) / "cache"
        report = ("report", f"SCALE={options.scale}")
        rows = [row("set-up", [build(copy, cache, "setup")])] if options.setup else []
        if not options.setup:
            (copy / ".venv").symlink_to(ROOT / ".venv")
        ready = ["make", "-q", ".venv/.ready"]
        if subprocess.run(ready, cwd=copy, capture_output=True).returncode:
            sys.exit("the virtual environment is missing or out of date: run `make setup` first")
        chapters = options.chapter or chapters_with_cells(copy)

        rows.append(row("clone to book", [build(copy, cache, *report)], CLONE_SECONDS))
        unchanged = [build(copy, cache, *report) for _ in range(options.repetitions)]
        rows.append(row("unchanged", unchanged, UNCHANGED_SECONDS))
        edited: dict[str, list[Build]] = {chapter: [] for chapter in chapters}
        for count in range(options.repetitions):
            # each once; then only the slowest, unless chapters were named
            again = chapters
            if count and not options.chapter:
                again = [max(chapters, key=lambda chapter: edited[chapter][0].seconds)]
            for chapter in again:
                edit(copy / chapter, count)
                edited[chapter].append(build(copy, cache, *report, f"CHAPTER={chapter}"))
        rows += [row(f"edit of {c}", builds, CHAPTER_SECONDS) for c, builds in edited.items()]
        if options.fresh:
            rows.append(row("FRESH=1", [build(copy, Path(folder) / "fresh", *report, "FRESH=1")]))
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
