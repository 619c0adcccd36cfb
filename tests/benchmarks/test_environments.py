"""The folders in which benchmarks find their reference libraries, with a wheel made here."""

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def peers(monkeypatch, tmp_path):
    """The module, with lists and cache in `tmp_path`."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("peers")
    monkeypatch.setattr(module, "LISTS", tmp_path)
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "a cache"))
    return module


def wheel(folder: Path, version: str) -> Path:
    """Of a package that asks for one that does not exist, as some peers all but do."""
    path, info = folder / f"onepeer-{version}-py3-none-any.whl", f"onepeer-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: onepeer\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("onepeer.py", f"version = {version!r}\n")
        file.writestr(f"{info}/METADATA", metadata + "Requires-Dist: no-such-package-anywhere\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any"
        )
        file.writestr(f"{info}/RECORD", "")
    return path


def test_a_list_is_installed_once_apart_and_again_when_it_changes(peers, tmp_path, monkeypatch):
    def version() -> str:
        command = [sys.executable, "-c", "import onepeer; print(onepeer.version)"]
        variables = peers.environment("some")
        return subprocess.run(command, env=variables, capture_output=True, text=True).stdout.strip()

    (tmp_path / "some.txt").write_text(f"onepeer @ {wheel(tmp_path, '1').as_uri()}\n")
    assert version() == "1"
    with monkeypatch.context() as patch:
        patch.setattr(peers, "_install", None)  # it would be called in vain
        assert version() == "1"
    (tmp_path / "some.txt").write_text(f"onepeer @ {wheel(tmp_path, '2').as_uri()}\n")
    assert version() == "2"
    (tmp_path / "some.txt").write_text(f"onepeer @ {(tmp_path / 'gone-3.whl').as_uri()}\n")
    with pytest.raises(RuntimeError, match=r"gone-3"):
        version()
    kept = sorted(p.name for p in (tmp_path / "a cache" / "peers").iterdir())
    assert kept == ["some"], "what was there is kept, and nothing half made is left"
    assert "version = '2'" in (tmp_path / "a cache" / "peers" / "some" / "onepeer.py").read_text()


def test_lists_are_pinned_and_name_each_package_once():
    for path in sorted((BENCHMARKS / "peers").glob("*.txt")):
        lines = path.read_text().split("\n")[:-1]
        names = [line.partition("==")[0] for line in lines]
        assert all(line.partition("==")[2] for line in lines) and names == sorted(set(names)), path
        assert not {"torch", "torchvision", "numpy"} & set(names), "those of the project serve"


def test_without_pip_and_uv_the_remedy_is_named(peers, tmp_path, monkeypatch):
    (tmp_path / "some.txt").write_text("onepeer==1\n")
    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="no pip, and uv is not on PATH: install one"):
        peers.environment("some")
