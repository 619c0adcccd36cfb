"""Of the benchmark on accelerators, what can be known without one."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def on_gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("on_gpu")


def test_networks_that_are_trained_together_are_those_trained_alone(on_gpu, monkeypatch):
    monkeypatch.setattr(on_gpu, "low_precision", lambda place: torch.float32)
    monkeypatch.setattr("lazy_artist.training.low_precision", lambda *place: torch.float32)
    splits = on_gpu.painted(8 * on_gpu.RECIPE.batch_size, 2)
    assert not np.array_equal(splits[0].colours, splits[1].colours)
    networks, losses = on_gpu.train_together(splits)
    for seed, split in enumerate(splits):
        alone, expected = on_gpu.train_one(split, seed)
        np.testing.assert_allclose(losses[:, seed], expected, rtol=1e-4)
        for name, value in networks[seed].state_dict().items():
            difference = (value - alone.state_dict()[name]).abs().double()
            # where a gradient is zero but for rounding, the first steps of Adam go either way
            assert difference.quantile(0.9) < 1e-5, name


def test_without_an_accelerator_it_says_so(on_gpu, monkeypatch, capsys):
    monkeypatch.setenv("LAZY_ARTIST_DEVICE", "cpu")
    monkeypatch.setattr("sys.argv", ["on_gpu.py"])
    assert on_gpu.main() == 0
    assert "no accelerator here: nothing is measured" in capsys.readouterr().out
