"""Kernels that are forked from one server, against kernels that are new processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from bs4 import BeautifulSoup

from bookbinder.__main__ import main
from bookbinder.kernels import LIBRARIES, KernelServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")

FORKED = 4  # chapters: more than there are kernels at a time, so that they are forked

# What a kernel is, as far as its cells can tell.
STATE = """
import json, os, random, signal, sys
loaded = [n for n in sys.modules if n.split(".")[0] in ("lazy_artist", "bookbinder")]
state = dict(
    argv=[sys.argv[0], *sys.argv[3:]], path=sys.path, flags=str(sys.flags), folder=os.getcwd(),
    settings={k: os.environ.get(k) for k in NAMES}, own=loaded,
    main=sys.modules["__main__"].__dict__ is globals() and __name__,
    session=os.getsid(0) == os.getpgid(0) == os.getpid(), interrupts=str(signal.getsignal(2)),
    input=sys.__stdin__.read(),
)
import joblib, matplotlib, numpy as np, torch
state |= dict(
    matplotlib={k: str(v) for k, v in matplotlib.rcParams.items()}, threads=torch.get_num_threads(),
    error=round(float((torch.ones(300, 300) @ torch.ones(300, 300) - 300).abs().max()), 3),
    inverse=round(float(np.linalg.inv(np.eye(300) * 2).sum()), 3),
)
drawn = [random.random(), float(np.random.rand()), float(torch.rand(()))]
workers = joblib.Parallel(2)(joblib.delayed(os.getpid)() for _ in range(4))
print(json.dumps(dict(state=state, drawn=drawn, workers=workers, server=os.getppid())),
      file=open(FILE, "w"))
"""
FIGURE = """
#| fig-alt: A curve.
from matplotlib.figure import Figure
figure = Figure()
figure.add_subplot(title="A title").plot(np.arange(30) ** 2)
figure
"""


def chapter(*cells: str) -> str:
    return "# A\n" + "".join(f"\n```{{python}}\n{cell.strip()}\n```\n" for cell in cells)


def pictures(page: Path) -> list[bytes]:
    images = BeautifulSoup(page.read_text("utf-8"), "html.parser").select("main img")
    return [(page.parent / image["src"]).read_bytes() for image in images]


def ends(pid: int) -> bool:
    """Whether the process ends soon. One that nobody has waited for has ended, too."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_a_forked_kernel_is_what_a_new_one_is(project, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    names = ["MPLBACKEND", "MATPLOTLIBRC", "LAZY_ARTIST_BUILDER", "OMP_NUM_THREADS", "HOME"]
    texts = {
        f"{name}.qmd": chapter(f"NAMES, FILE = {names}, '{name}.json'", STATE, FIGURE)
        for name in "abcd"
    }
    root = project(texts)
    assert main(["--project", str(root)]) == 0
    forked = [json.loads((root / f"{name}.json").read_text()) for name in "abcd"]
    shown = [pictures(root / f"_book/{name}.html") for name in "abcd"]
    (root / "a.qmd").write_text(texts["a.qmd"] + "\nOnce more.\n")
    assert main(["--project", str(root), "--chapter", "a.qmd"]) == 0
    new = json.loads((root / "a.json").read_text())
    assert len({kernel["server"] for kernel in forked}) == 1
    assert new["server"] == os.getpid() != forked[0]["server"]
    for kernel in forked:
        assert kernel["state"] == new["state"]
    assert new["state"]["main"] == "__main__" and not new["state"]["own"]
    for draws in zip(*(kernel["drawn"] for kernel in forked), strict=True):
        assert len(set(draws)) == FORKED
    assert shown == [pictures(root / "_book/a.html")] * FORKED and len(shown[0]) == 1
    for pid in {pid for kernel in forked for pid in (*kernel["workers"], kernel["server"])}:
        assert ends(pid)


def test_what_goes_wrong_in_a_forked_kernel_is_named(project, capsys):
    good = {f"{name}.qmd": chapter("1 + 1") for name in "bcde"}
    server = "import os; print(os.getppid(), file=open('server', 'w'))"
    root = project({"a.qmd": chapter(server, "raise KeyError('no sum')")} | good)
    assert main(["--project", str(root)]) == 1
    assert "a.qmd:7: cell failed: KeyError: 'no sum'" in capsys.readouterr().err
    (root / "a.qmd").write_text(chapter(server, "os._exit(3)"))
    assert main(["--project", str(root)]) == 1
    assert "a.qmd:7: cell ended the kernel" in capsys.readouterr().err
    assert ends(int((root / "server").read_text()))
    kill = "import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)"
    (root / "a.qmd").write_text(chapter(kill))
    assert main(["--project", str(root)]) == 1
    assert "ended the kernel; is memory short?" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_a_build(project, number):
    cell = "import os, time\nprint(os.getpid(), os.getppid(), file=open('pids', 'w'), flush=True)\n"
    others = {f"{name}.qmd": chapter("import time; time.sleep(60)") for name in "bcd"}
    root = project({"a.qmd": chapter(cell + "time.sleep(60)")} | others)
    command = [sys.executable, "-m", "bookbinder", "--project", str(root)]
    build = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    pids = root / "pids"
    while not (pids.exists() and pids.read_text().endswith("\n")) and time.monotonic() < deadline:
        time.sleep(0.05)
    build.send_signal(number)
    _, message = build.communicate(timeout=60)
    if number == signal.SIGINT:
        assert build.returncode == 130
        assert message.startswith("bookbinder: interrupted")
    for pid in map(int, pids.read_text().split()):
        assert ends(pid)


def test_a_server_that_fails_is_not_used(tmp_path):
    server = KernelServer(tmp_path, os.environ | {"PYTHONHOME": str(tmp_path)})
    try:
        assert not asyncio.run(server.ready())
    finally:
        server.close()


def test_a_server_is_ended_at_once_and_silently(tmp_path, capfd):
    started = time.monotonic()
    server = KernelServer(tmp_path, dict(os.environ))
    time.sleep(0.3)
    server.close()
    assert time.monotonic() - started < 1.5
    assert capfd.readouterr() == ("", "")


def test_only_libraries_are_shared():
    """A module of the project would be the same for all kernels, though it be edited meanwhile."""
    assert not {name.partition(".")[0] for name in LIBRARIES} & {"lazy_artist", "bookbinder"}
