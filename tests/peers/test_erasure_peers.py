"""LEACE equals that of concept-erasure, the library of its authors (for this comparison alone)."""

import numpy as np
import pytest
import torch

from lazy_artist.erasure import leace


def test_leace_is_that_of_concept_erasure():
    peers = pytest.importorskip("concept_erasure", reason="pip install concept-erasure")
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 10, 3000)
    x = rng.normal(size=(3000, 24)) @ rng.normal(size=(24, 24))
    x += 5 * rng.normal(size=(10, 24))[classes] + 2
    labels = torch.nn.functional.one_hot(torch.from_numpy(classes), 10).double()
    # as in the paper: theirs by default shrinks the covariance, and holds the trace down
    plain = dict(shrinkage=False, constrain_cov_trace=False, svd_tol=1e-6)
    theirs = peers.LeaceEraser.fit(torch.from_numpy(x), labels, **plain)
    new = rng.normal(size=(50, 24))
    expected = theirs(torch.from_numpy(new)).numpy()
    assert np.abs(expected - new).mean() > 0.5
    np.testing.assert_allclose(leace(x, classes)(new), expected, atol=1e-8)
