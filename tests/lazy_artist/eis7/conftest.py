"""Quick scale and a small stand-in for the digits, for the tests of both challenges."""

import sys
from pathlib import Path

import pytest

from lazy_artist.eis7 import files

sys.path.append(str(Path(__file__).parents[1] / "chapters"))  # for cells.py


@pytest.fixture(scope="module", autouse=True)
def quick():
    files.source.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZY_ARTIST_SCALE", "quick")
        patch.setenv("LAZY_ARTIST_STANDIN_SIZE", "300")
        yield
