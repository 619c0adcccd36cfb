"""Plants one fault after another in a copy of the checkout and sees whether the tests catch it.

    python tests/plant_faults.py [--area NAME ...] [--jobs N]

The faults stand in `tests/faults/<area>.json`: a list of objects with `file`, `old` (a snippet that
stands in the file once), `new`, and `tests`, the narrowest test file, which has to fail. It is no
test itself: `make test` does not run it. Ends non-zero if less than 95% are caught.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
WANTED = 0.95


class Outcome(NamedTuple):
    caught: bool
    seconds: float
    told: str = ""  # what went wrong with the fault itself


def copy(folder: Path) -> Path:
    """Copies what git tracks, and what it does not know yet, without docs/."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("docs/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def test(root: Path, file: str, timeout: float = 900) -> tuple[int, float, str]:
    """Runs a test file in the copy, on its code: the exit status, the seconds, the output's end."""
    environment = os.environ | {"PYTHONPATH": str(root / "code"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # edits within a second would not be seen
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", file]
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return 1, timeout, "it did not end"
    return done.returncode, time.monotonic() - started, done.stdout[-500:] + done.stderr[-500:]


def plant(root: Path, fault: dict[str, str]) -> Outcome:
    """Plants the fault in the copy, tests, and takes it out again."""
    file = root / fault["file"]
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if (count := text.count(fault["old"])) != 1:
        return Outcome(False, 0.0, f"{fault['old']!r} stands in {fault['file']} {count} times")
    if not (root / fault["tests"]).is_file():
        return Outcome(False, 0.0, f"there is no {fault['tests']}")
    try:
        file.write_text(text.replace(fault["old"], fault["new"]), encoding="utf-8")
        status, seconds, output = test(root, fault["tests"])
    finally:
        file.write_text(text, encoding="utf-8")
    return Outcome(status == 1, seconds, "" if status in (0, 1) else f"pytest: {output}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--area", action="append", help="only tests/faults/AREA.json")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time, each in a copy")
    options = parser.parse_args()
    areas = options.area or sorted(f.stem for f in (ROOT / "tests/faults").glob("*.json"))
    faults = [
        fault
        for area in areas
        for fault in json.loads((ROOT / "tests/faults" / f"{area}.json").read_text("utf-8"))
    ]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        copies: Queue[Path] = Queue()
        for i in range(options.jobs):
            copies.put(copy(Path(folder) / str(i)))

        def judge(fault: dict[str, str]) -> bool:
            root = copies.get()
            outcome = plant(root, fault)
            copies.put(root)
            verdict = "caught" if outcome.caught else "ERROR" if outcome.told else "MISSED"
            change = " ".join(f"{fault['old']} -> {fault['new']}".split())[:90]
            file = fault["file"].removeprefix("code/")
            line = f"{verdict:7} {outcome.seconds:5.1f} s  {file:40} {change}"
            print(line + f"\n        {outcome.told}" * bool(outcome.told), flush=True)
            return outcome.caught

        with ThreadPoolExecutor(options.jobs) as pool:
            outcomes = list(pool.map(judge, faults))
    caught = sum(outcomes)
    share = caught / len(outcomes) if outcomes else 0.0
    print(f"{caught} of {len(outcomes)} caught: {share:.0%}")
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
