"""Kernels that are forked from one server, against kernels that are new processes."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from making import contents

from bookbinder.__main__ import main
from bookbinder.kernels import LIBRARIES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")

# What a kernel is, as far as its cells can tell; four chapters are enough to be forked.
STATE = """
import json, multiprocessing, os, random, signal, sys
state = dict(
    argv=[sys.argv[0], *sys.argv[3:]], flags=str(sys.flags), folder=os.getcwd(),
    settings=[os.environ.get(k) for k in ("MPLBACKEND", "MATPLOTLIBRC", "LATE", "HOME")],
    main=sys.modules["__main__"].__dict__ is globals() and __name__,
    own="lazy_artist" in sys.modules, method=multiprocessing.get_start_method(),
    session=os.getsid(0) == os.getpgid(0) == os.getpid(), interrupts=str(signal.getsignal(2)),
    input="" if sys.__stdin__.closed else sys.__stdin__.read(),
)
import joblib, matplotlib, numpy as np, torch
state |= dict(matplotlib={k: str(v) for k, v in matplotlib.rcParams.items()})
drawn = [random.random(), float(np.random.rand()), float(torch.rand(()))]
workers = joblib.Parallel(2)(joblib.delayed(os.getpid)() for _ in range(4))
print(json.dumps(dict(state=state, drawn=drawn, workers=workers, server=os.getppid())),
      file=open(FILE, "w"))
"""


def chapter(*cells: str) -> str:
    return "# A\n" + "".join(f"\n```{{python}}\n{cell.strip()}\n```\n" for cell in cells)


def ends(pid: int) -> bool:
    """Whether the process ends soon. One that nobody has waited for has ended, too."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_forked_kernel_is_what_a_new_one_is(project, monkeypatch, capsys):
    monkeypatch.setenv("LATE", "set for the kernels alone")
    texts = {f"{c}.qmd": chapter(f"FILE = '{c}.json'", STATE) for c in "abcd"}
    root = project(texts)
    assert main(["--project", str(root)]) == 0
    forked = [json.loads((root / f"{name}.json").read_text()) for name in "abcd"]
    (root / "a.qmd").write_text(texts["a.qmd"] + "\nOnce more.\n")
    assert main(["--project", str(root), "--chapter", "a.qmd"]) == 0
    new = json.loads((root / "a.json").read_text())
    assert len({kernel["server"] for kernel in forked}) == 1
    assert new["server"] == os.getpid() != forked[0]["server"]
    for kernel in forked:
        assert kernel["state"] == new["state"]
    assert new["state"]["main"] == "__main__" and not new["state"]["own"]
    assert all(len(set(draws)) == 4 for draws in zip(*(k["drawn"] for k in forked), strict=True))
    assert all(ends(pid) for kernel in forked for pid in kernel["workers"])
    # what goes wrong in one is named
    project(texts | {"a.qmd": chapter("1", "raise KeyError('no sum')")})
    assert main(["--project", str(root)]) == 1
    assert "a.qmd:7: cell failed: KeyError: 'no sum'" in capsys.readouterr().err
    # a module of the project would be the same for all kernels, though it be edited meanwhile
    assert not {name.partition(".")[0] for name in LIBRARIES} & {"lazy_artist", "bookbinder"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_kernels_and_server_end_with_the_builder_and_the_last_book_stays(project, number):
    cell = "import os, time\nprint(os.getpid(), os.getppid(), file=open('pids', 'a'), flush=True)"
    good = {f"{name}.qmd": chapter(cell, "time.sleep(60)") for name in "abcd"}
    root = project(good | {"_book/index.html": "the last good one"})
    command = [sys.executable, "-m", "bookbinder", "--project", str(root)]
    build = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    pids, deadline = root / "pids", time.monotonic() + 60
    while not (pids.exists() and pids.read_text().count("\n") == 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    build.send_signal(number)
    _, message = build.communicate(timeout=60)
    if number == signal.SIGINT:
        assert build.returncode == 130 and message.startswith("bookbinder: interrupted")
    found = {int(pid) for pid in pids.read_text().split()}
    assert len(found) == 3 and all(ends(pid) for pid in found)
    assert contents(root / "_book") == {"index.html": b"the last good one"}
