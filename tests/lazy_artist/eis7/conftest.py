"""Quick scale, a small stand-in for the digits and one store for the tests of both challenges."""

import sys
from pathlib import Path

import pytest

from lazy_artist.eis7 import files

sys.path.append(str(Path(__file__).parents[1] / "chapters"))  # for cells.py


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("eis7")


@pytest.fixture(autouse=True)
def quick(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(store))
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "300")
    files.source.cache_clear()
