"""Quick scale, a small stand-in, and one store for all tests of the experiments."""

from pathlib import Path

import pytest

from lazy_artist.experiments import cheating
from lazy_artist.experiments.networks import ASKED, RECIPES


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiments")


@pytest.fixture(autouse=True)
def quick(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,500 training digits, two seeds, two doses, small grids, and ResNets of a single step."""
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(store))
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1500")
    monkeypatch.setattr(cheating, "DOSES", (0.5, 0.95))
    monkeypatch.setitem(ASKED, "quick", None)
    for (kind, arch), recipe in RECIPES.items():
        if arch == "resnet18":
            short = recipe._replace(epochs=0.2 if kind == "cheater" else 0.5)
            monkeypatch.setitem(RECIPES, (kind, arch), short)
    whole_grid = cheating._grid_config
    monkeypatch.setattr(
        cheating, "_grid_config", lambda *network: whole_grid(*network) | {"each": 5}
    )
