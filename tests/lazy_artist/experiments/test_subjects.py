"""The networks that chapters 3 and 4 look into."""

import numpy as np
import pytest
import torch

from lazy_artist import debias
from lazy_artist.artifacts import fingerprint
from lazy_artist.experiments import curing, interrogating, networks, probing, subjects


def test_the_cure_is_the_best_one():
    network = subjects.subject("cure", 1)
    assert network["method"] == debias.BEST and (network["arch"], network["seed"]) == ("cnn", 1)
    assert network["correlation"] == networks.BIAS
    assert subjects.subject("oracle", 1) == networks.network_config("oracle", "cnn", 1)
    with pytest.raises(ValueError, match="choose one of cheater, cure, oracle"):
        subjects.subject("diligent", 0)


def test_a_cure_is_loaded_as_it_was_trained(monkeypatch):
    monkeypatch.setattr(subjects, "METHOD", "erm")
    images = np.random.default_rng(0).random((3, 3, 28, 28), dtype=np.float32)
    ours, theirs = subjects.load(subjects.subject("cure", 0)), curing.robust("erm", 0)
    assert not ours.training
    with torch.no_grad():
        np.testing.assert_array_equal(*(m(torch.from_numpy(images)) for m in (ours, theirs)))


def test_what_is_measured_of_a_cure_is_new_when_the_cure_is(monkeypatch):
    before = subjects.subject("cure", 0)
    monkeypatch.setattr(curing, "TAUGHT", {"quick": 1234})
    assert subjects.subject("cure", 0)["artefact"] != before["artefact"]


@pytest.mark.parametrize(
    "measure", [probing.probed, probing.visualised, interrogating.interrogated]
)
def test_measurements_do_not_stand_on_the_tables_of_chapter_5(measure):
    parts = fingerprint(measure)
    assert "lazy_artist.experiments.subjects" in parts
    assert not any("curing" in part or "debias" in part for part in parts)
