"""The attacks against the reference libraries: the same algorithm gives the same numbers, and our
search is no weaker.

The libraries serve for this comparison alone: `pip install adv-lib`.
"""

import math
import sys
import types

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import nn

from lazy_artist.attack import change_sizes, ciede2000, fmn, minimal_epsilon, ssim
from lazy_artist.evaluate import predict
from lazy_artist.models import build

WHY = "a reference library for this comparison alone: pip install adv-lib"


@pytest.fixture
def library(monkeypatch):
    """adv-lib, which imports visdom only to draw what it does."""
    monkeypatch.setitem(sys.modules, "visdom", types.ModuleType("visdom"))
    return pytest.importorskip("adv_lib", reason=WHY)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(3).random((count, 3, 28, 28), dtype=np.float32)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A random CNN whose normalisations know its inputs."""
    model = build("cnn", 0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.from_numpy(images(64)))
    model.head.weight.data.mul_(20)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(("norm", "order"), [("linf", math.inf), ("l2", 2)])
def test_fmn_is_the_published_one_and_ours_finds_no_larger_changes(library, model, norm, order):
    from adv_lib.attacks import ddn
    from adv_lib.attacks import fmn as reference

    x = images(20)
    targets = predict(model, x).argsort(1)[:, -2]
    given = torch.from_numpy(x), torch.from_numpy(targets)
    theirs = reference(model, *given, order, targeted=True, steps=60).numpy()
    sizes = change_sizes(x, theirs, norm)
    same = fmn(model, x, targets, norm, steps=60)
    np.testing.assert_allclose(np.sort(same.epsilon), np.sort(sizes), rtol=0.02)
    assert np.median(np.abs(same.epsilon / sizes - 1)) < 2e-3
    best = np.minimum(sizes, same.epsilon)
    if norm == "l2":
        other = ddn(model, *given, targeted=True, steps=60, levels=None).numpy()
        best = np.minimum(best, change_sizes(x, other, norm))
    ours = minimal_epsilon(model, x, targets, norm).epsilon
    assert np.mean(ours <= 1.01 * best) >= 0.95


def test_colour_difference_and_similarity_equal_the_reference(library):
    from adv_lib.distances.color_difference import ciede2000_color_difference
    from adv_lib.distances.structural_similarity import compute_ssim

    x, noise = images(4), images(8)[4:]
    y = np.clip(x + 0.1 * (noise - 0.5), 0, 1).astype(np.float32)
    # of the same colours in L*a*b*; its own conversion gives red a lightness of 2, not of 53
    labs = [torch.from_numpy(rgb2lab(z.astype(float), channel_axis=1)) for z in (x, y)]
    np.testing.assert_allclose(
        ciede2000(x, y), ciede2000_color_difference(*labs).numpy().reshape(4, 28, 28), rtol=1e-6
    )
    first, second = torch.from_numpy(x), torch.from_numpy(y)
    reference = compute_ssim(first, second).numpy()
    np.testing.assert_allclose(ssim(x, y), reference.ravel(), atol=2e-3)
