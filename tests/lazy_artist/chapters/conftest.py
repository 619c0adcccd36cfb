"""Quick scale, a small stand-in for the digits and one store for the tests of all chapters; and
networks made by hand, since the tiny ones that tests could train tell nothing apart."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chapters")


@pytest.fixture(autouse=True)
def quick(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(store))
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1500")


class Scripted(nn.Module):
    """Gives the rows of `logits` one after the other, whatever the images; keeps the images."""

    def __init__(self, logits: np.ndarray):
        super().__init__()
        self.logits, self.seen = torch.tensor(logits, dtype=torch.float32), []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        start = sum(map(len, self.seen))
        self.seen.append(images.clone())
        rows = self.logits[start : start + len(images)]
        assert len(rows) == len(images), "more images than logits"
        return rows


@pytest.fixture
def scripted() -> Callable[..., SimpleNamespace]:
    """A stand-in for a `Network`, for a stored function's `__wrapped__`: it predicts these classes
    in turn, or, given a matrix, has these logits. `.model.seen`: the images that it was shown."""

    def make(predictions, seed=0, name="cheater", arch="cnn", correlation=0.95) -> SimpleNamespace:
        logits = np.asarray(predictions)
        model = Scripted(np.eye(10)[logits] if logits.ndim == 1 else logits)
        return SimpleNamespace(
            name=name, arch=arch, seed=seed, correlation=correlation,
            model=model, load=lambda: model,
        )  # fmt: skip

    return make
