"""The reference libraries of each benchmark, in a folder that it alone sees.

Several do not install beside the project's pinned packages, though they work with them. One pins
an old kornia (torch-lucent), one an old requests (torchattacks), one asks for visdom, whose sources
no longer build (adv-lib). So `peers/NAME.txt` lists, whole and pinned, what comes on top of the
virtual environment; just that is installed, without its dependencies, into a folder of the cache.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lazy_artist.data import cache_dir

LISTS = Path(__file__).resolve().parent / "peers"


def environment(name: str) -> dict[str, str]:
    """The variables under which this Python also finds the packages of `peers/NAME.txt`. They are
    installed first if they are not there, or others than the list says, or for another Python.

    Raises RuntimeError, saying why, if that fails; what was there before is kept.
    """
    wanted = f"# Python {sys.version}\n{(LISTS / f'{name}.txt').read_text()}"
    folder = cache_dir().resolve() / "peers" / name
    mark = folder / "installed.txt"
    if not mark.is_file() or mark.read_text() != wanted:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            new = Path(temporary) / "new"
            _install(LISTS / f"{name}.txt", new)
            (new / "installed.txt").write_text(wanted)
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
    given = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [given, str(folder)]))}


def _install(requirements: Path, folder: Path) -> None:
    if uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    elif importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    else:
        raise RuntimeError(f"{sys.executable} has no pip, and uv is not on PATH: install one")
    command += ["--no-deps", "--target", str(folder), "-r", str(requirements)]
    print(f"installing {requirements.name} into {cache_dir() / 'peers'}", flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise RuntimeError(f"{' '.join(command)} failed: {' / '.join(said)}")
