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

ROOT = Path(__file__).resolve().parents[1]
WANTED = 0.95


def copy(folder: Path) -> Path:
    """Copies what git tracks, and what it does not know yet, without docs/ and results/."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.check_output(command, cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("docs/", "results/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def plant(root: Path, fault: dict[str, str]) -> str:
    """Plants the fault in the copy, tests, and takes it out again: "" if it is caught, else what
    went wrong."""
    file, tests = root / fault["file"], root / fault["tests"]
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if (count := text.count(fault["old"])) != 1 or not tests.is_file():
        return f"ERROR: {fault['old']!r} stands there {count} times, or there is no {tests}"
    environment = os.environ | {"PYTHONPATH": str(root / "code"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # edits within a second would not be seen
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
    options = {"capture_output": True, "text": True, "timeout": 900}
    try:
        file.write_text(text.replace(fault["old"], fault["new"]), encoding="utf-8")
        done = subprocess.run(command, cwd=root, env=environment, **options)
    except subprocess.TimeoutExpired:
        return ""
    finally:
        file.write_text(text, encoding="utf-8")
    told = {0: "MISSED", 1: ""}  # 1: tests failed; others: pytest could not run them
    return told.get(done.returncode, f"ERROR: {done.stdout[-500:]}{done.stderr[-500:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--area", action="append", help="only tests/faults/AREA.json")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time, each in a copy")
    options = parser.parse_args()
    files = sorted((ROOT / "tests/faults").glob("*.json"))
    files = [file for file in files if not options.area or file.stem in options.area]
    faults = [fault for file in files for fault in json.loads(file.read_text("utf-8"))]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        copies: Queue[Path] = Queue()
        for i in range(options.jobs):
            copies.put(copy(Path(folder) / str(i)))

        def judge(fault: dict[str, str]) -> bool:
            root, started = copies.get(), time.monotonic()
            told = plant(root, fault)
            copies.put(root)
            change = " ".join(f"{fault['old']} -> {fault['new']}".split())[:90]
            seconds = f"{time.monotonic() - started:5.1f} s"
            name = fault["file"].removeprefix("code/")
            print(seconds, name, change, told or "caught", flush=True)
            return not told

        with ThreadPoolExecutor(options.jobs) as pool:
            caught = sum(pool.map(judge, faults))
    share = caught / len(faults) if faults else 0.0
    print(f"{caught} of {len(faults)} caught: {share:.0%}")
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
