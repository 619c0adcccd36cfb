"""Tests of belief by hand: where attribution lies, deletion, controls, random weights."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from lazy_artist.faithfulness import (
    area_under,
    attribution_share,
    deletion_curve,
    discriminative_mask,
    randomise,
    rank_correlation,
)
from lazy_artist.models import build


def test_attribution_shares_by_hand():
    maps, alpha = np.zeros((3, 28, 28)), np.zeros((3, 28, 28))
    alpha[:, 10:14, 10:14] = 0.6
    alpha[1:, 3, 3:7] = 0.9
    alpha[:, 20, 20] = 0.5  # half is not yet stroke
    maps[0, 10, 10], maps[0, 0, 0], maps[0, 20, 20] = 3, 1, 4
    maps[1] = 5
    share, area = attribution_share(maps, alpha)
    np.testing.assert_allclose(share, [3 / 8, 20 / 784, np.nan])
    np.testing.assert_allclose(area, [16 / 784, 20 / 784, 20 / 784])
    maps, right = np.zeros((1, 7, 7)), np.zeros((1, 28, 28), bool)
    maps[0, :, 3:] = 1  # bilinear: the edge between the columns 11 and 12 is a ramp of four pixels
    right[..., 14:] = True
    # mean over the columns: 0.125, 0.375, 0.625, 0.875 at 10 to 13, then 14 whole ones
    np.testing.assert_allclose(attribution_share(maps, right)[0], [14 / 16], rtol=1e-6)
    for bad in (np.ones((2, 28, 28)), np.full((1, 28, 28), 255)):
        with pytest.raises(ValueError, match="grey digits must"):
            attribution_share(maps, bad)


def test_discriminative_mask_by_hand():
    prototypes = np.zeros((3, 28, 28))
    prototypes[0, 5, :] = 0.8  # a bar
    prototypes[1, 5, :14] = 0.8  # half a bar, and a foot
    prototypes[1, 9, :4] = 0.8
    prototypes[0, 9, :3] = [0.5, 0.4, 0.3]  # half as much, at 1, is not yet less
    prototypes[2, 20, :] = 1  # far from both: were it the rival, all of the stroke would count
    alpha = (prototypes[[0, 1]] > 0.5).astype(float)
    parts = discriminative_mask(alpha, np.array([0, 1]), prototypes)
    expected = [[[5, x] for x in range(14, 28)], [[9, 2], [9, 3]]]
    assert [np.argwhere(part).tolist() for part in parts] == expected
    with pytest.raises(ValueError, match=r"labels must be integers in 0\.\.2"):
        discriminative_mask(alpha, np.array([0, 3]), prototypes)


def one_pixel() -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """A network that looks at the red of one pixel, two white images, and maps that say so."""
    model, maps = nn.Sequential(nn.Flatten(), nn.Linear(2352, 2)).eval(), np.zeros((2, 28, 28))
    model[1].bias.data.zero_(), model[1].weight.data.zero_()
    model[1].weight.data.view(2, 3, 28, 28)[0, 0, 12, 3] = 4
    maps[:, 12, 3] = 1
    return model, np.ones((2, 3, 28, 28), np.float32), maps.astype(np.float32)


def test_curves_of_one_pixel():
    model, images, maps = one_pixel()
    high, low = 1 / (1 + np.exp(-4)), 0.5
    down = deletion_curve(model, images, [0, 1], maps, 0.0, steps=4)
    assert down.dtype == np.float32
    np.testing.assert_allclose(down, [[high] + [low] * 4, [1 - high] + [low] * 4], atol=1e-6)
    up = deletion_curve(model, images, 0, maps, np.zeros((3, 28, 28)), steps=2, insert=True)
    np.testing.assert_allclose(up, [[low, high, high]] * 2, atol=1e-6)
    late = deletion_curve(model, images, 0, 1 - maps, 0, steps=784)  # the coldest goes last
    np.testing.assert_allclose(late, [[high] * 784 + [low]] * 2, atol=1e-6)
    last = deletion_curve(model, images, 0, -maps, 0, steps=784)  # what is negative, too
    np.testing.assert_allclose(last, late)
    np.testing.assert_allclose(area_under(down[:1]), [(high + 7 * low) / 8], rtol=1e-6)

    def gone(seed):
        curve = deletion_curve(model, images, 0, 0 * maps, 0, steps=98, seed=seed)
        return (curve > 0.6).sum(1).tolist()  # the step at which the one pixel went

    assert gone(0) == gone(0) != gone(1)  # ties go in a random order that the seed decides
    assert gone(0)[0] != gone(0)[1] and all(1 < step < 98 for step in gone(0))
    for change, message in (
        ({"steps": 785}, "steps must be a whole number from 1 to 784, not 785"),
        ({"baseline": np.nan}, r"baseline must lie in \[0, 1\]"),
        ({"baseline": np.zeros((5, 5))}, r"baseline must broadcast .*\(5,\s?5\)"),
        ({"maps": maps[:1]}, "a map for each of 2 images, not 1"),
    ):
        with pytest.raises(ValueError, match=message):
            deletion_curve(model, images, 0, **{"maps": maps, "baseline": 0.0} | change)
    with pytest.raises(ValueError, match="curves must have shape"):
        area_under(np.ones((3, 1)))


def changed(model: nn.Module, other: nn.Module) -> set[str]:
    pairs = zip(model.state_dict().items(), other.state_dict().values(), strict=True)
    return {name for (name, value), now in pairs if not torch.equal(value, now)}


def test_the_cascade_keeps_what_it_has_drawn():
    model = build("cnn", 0).eval()
    model.block3[1].running_mean += 1
    state = torch.get_rng_state()
    top = randomise(model, ["head"], 7)
    both = randomise(model, ["head", "block3"], 7)
    assert torch.equal(torch.get_rng_state(), state)
    assert changed(model, top) == {"head.weight", "head.bias"}
    assert changed(top, both) == {"block3.0.weight", "block3.1.running_mean"}
    assert not changed(both, randomise(model, ["block3", "head"], 7))
    assert changed(both, randomise(model, ["block3", "head"], 8))
    assert changed(model, build("cnn", 0)) == {"block3.1.running_mean"}  # untouched itself
    assert not any(module.training for module in both.modules())
    twin = randomise(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), ["0", "1"], 0)
    assert not torch.equal(twin[0].weight, twin[1].weight)
    model.block1 = nn.MultiheadAttention(2, 1)
    for layers, error, message in (
        (["pool"], ValueError, "'pool' has no parameters"),
        ("head", TypeError, r"list of names: \['head'\]"),
        (["block1"], ValueError, r"'block1' \(MultiheadAttention\) has no reset_parameters"),
    ):
        with pytest.raises(error, match=message):
            randomise(model, layers, 0)


@pytest.mark.filterwarnings("error")
def test_rank_correlation_is_spearmans():
    """Of maps with many equal values, of which two are constant."""
    a, b = np.random.default_rng(0).integers(0, 4, (2, 50, 2, 3)).astype(float)
    a[0], b[1] = 1, 2
    expected = [spearmanr(*pair, axis=None).statistic for pair in zip(a[2:], b[2:], strict=True)]
    found = rank_correlation(a, b)
    np.testing.assert_allclose(found, [np.nan, np.nan, *expected], atol=1e-12)
    for other, message in ((b[:2], "same shape"), (b * np.nan, "must be finite")):
        with pytest.raises(ValueError, match=message):
            rank_correlation(a, other)
