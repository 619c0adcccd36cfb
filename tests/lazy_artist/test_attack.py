"""The attacks find known minima of simple networks, and refuse what cannot be attacked."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import nn

from lazy_artist import attack
from lazy_artist.attack import colour_attack, fmn, minimal_epsilon, square_attack, targeted_pgd
from lazy_artist.evaluate import predict

W = np.random.default_rng(0).normal(size=(3, 28, 28)).astype(np.float32)


class Linear(nn.Module):
    """Two classes that count: z_0 = offset, z_1 = direction . x; the others are far below. doubt is
    added to z_0 where no gradients are computed."""

    def __init__(self, offset: float, direction: np.ndarray = W, doubt: float = 0):
        super().__init__()
        self.register_buffer("direction", torch.from_numpy(direction))
        self.offset, self.doubt = offset, doubt

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x * self.direction).flatten(1).sum(1)
        first = torch.full_like(score, self.offset + self.doubt * (not torch.is_grad_enabled()))
        return torch.stack([first, score, *[score * 0 - 1e3] * 8], 1)


def images(count: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    return np.random.default_rng(1).uniform(low, high, (count, 3, 28, 28)).astype(np.float32)


def scores(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.float64) * W).reshape(len(x), -1).sum(1)


def size(x: np.ndarray, y: np.ndarray, norm: str) -> np.ndarray:
    delta = (y.astype(np.float64) - x).reshape(len(x), -1)
    return np.linalg.norm(delta, np.inf if norm == "linf" else 2, axis=1)


@pytest.fixture
def given() -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """A tiny random network, 8 images and the fifth likeliest class of each."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 7, 7), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))
    model[-1].weight.data.mul_(10)
    return model, images(8), predict(model, images(8)).argsort(1)[:, -5]


# --- searches ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize(("criterion", "odds"), [("predict", 0.0), (0.9, math.log(9))])
def test_a_linear_network_is_reached_from_the_margin_over_the_dual_norm_on(
    norm, dual, criterion, odds
):
    x = images(6, 0.4, 0.6)  # so far inside that [0, 1] never matters
    offset = float(scores(x).max() + 5)
    needed = (offset + odds - scores(x)) / np.linalg.norm(W.ravel(), dual)
    found = minimal_epsilon(Linear(offset), x, 1, norm, criterion)
    np.testing.assert_allclose(found.epsilon, needed, rtol=2e-3)
    assert (found.epsilon >= needed * (1 - 1e-6)).all()  # nothing smaller exists
    epsilon = float(np.median(needed))
    climbed = targeted_pgd(Linear(offset), x, 1, epsilon, norm, criterion)
    np.testing.assert_array_equal(climbed.reached, needed < epsilon)
    np.testing.assert_allclose(climbed.size, size(x, climbed.images, norm), rtol=1e-12)
    assert (climbed.size < epsilon).all()
    p = 0.5 if criterion == "predict" else 0.9
    np.testing.assert_array_equal(climbed.probability > p, climbed.reached)


def test_the_range_of_pixels_makes_the_minimum_larger_and_it_is_still_found():
    x = images(4, 0.0, 0.2)  # many pixels cannot go down by much
    offset = float(scores(x).max() + 100)

    def gap(epsilon: float, row: np.ndarray) -> float:
        return np.sum(np.clip(row + epsilon * np.sign(W), 0, 1) * W) - offset

    expected = [brentq(gap, 0, 1, args=(row,)) for row in x.astype(np.float64)]
    np.testing.assert_allclose(minimal_epsilon(Linear(offset), x, 1).epsilon, expected, rtol=2e-3)


@pytest.mark.parametrize("criterion", ["predict", 0.9])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_minimum_is_what_it_says(given, norm, criterion):
    model, x, targets = given
    found = minimal_epsilon(model, x, targets, norm, criterion, steps=20, hops=0)
    assert found.images.min() >= 0 and found.images.max() <= 1
    np.testing.assert_allclose(found.epsilon, size(x, found.images, norm), rtol=1e-12)
    p = torch.from_numpy(predict(model, found.images)).double().softmax(1).numpy()
    if criterion == "predict":
        np.testing.assert_array_equal(p.argmax(1), targets)
    else:
        assert (p[np.arange(8), targets] > 0.9).all()
    np.testing.assert_allclose(found.lower, 0.99 * found.epsilon, rtol=1e-3)  # the tolerance
    more = {"steps": 80, "hops": 0} if norm == "linf" else {"steps": 20, "hops": 3}
    better = minimal_epsilon(model, x, targets, norm, criterion, **more).epsilon
    assert (better <= 1.01 * found.epsilon).all() and better.mean() < found.epsilon.mean()
    if criterion == "predict":
        theirs = fmn(model, x, targets, norm, steps=60)
        np.testing.assert_array_equal(predict(model, theirs.images).argmax(1), targets)
        np.testing.assert_allclose(theirs.epsilon, size(x, theirs.images, norm))
        assert (better <= 1.02 * theirs.epsilon).all() and (theirs.epsilon < 1.5 * better).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_hop_starts_as_far_away_as_the_best_change_or_near_to_it(norm):
    x = torch.from_numpy(images(3, 0.4, 0.6))
    best = torch.from_numpy(0.05 * np.sign(images(3) - 0.5))
    best[2] = 0  # nothing was found yet
    far, near = (
        attack._hop(x, best, norm, 1.0, is_near, torch.Generator().manual_seed(0))
        for is_near in (False, True)
    )
    expected = [*attack._size(best[:2], norm), 0.1]  # a tenth of the limit
    np.testing.assert_allclose(attack._size(far, norm), expected, rtol=1e-3)
    np.testing.assert_allclose(near, 0.7 * (best + far), atol=1e-6)


def test_images_that_cannot_be_reached_are_censored_not_dropped():
    x = images(4, 0.4, 0.6)
    far = float(scores(x).max() + 2 * np.abs(W).sum())  # beyond every image in [0, 1]
    for model in (Linear(far), Linear(5.0, 0 * W)):  # and one without gradients
        found = minimal_epsilon(model, x, 1, steps=10)
        assert np.isinf(found.epsilon).all() and not found.reached.any()
        np.testing.assert_array_equal(found.images, x)
    offset = float(scores(x).max()) + 5
    needed = (offset - scores(x)) / np.abs(W).sum()
    limit = float(np.sort(needed)[1:3].mean())
    some = minimal_epsilon(Linear(offset), x, 1, limit=limit)
    np.testing.assert_array_equal(some.reached, needed < limit)
    np.testing.assert_array_equal(some.lower[needed >= limit], limit)


def test_where_low_precision_leads_astray_one_descent_does_without(monkeypatch):
    class Rough(Linear):
        """In low precision it sees class 1 everywhere, so that changes shrink to nothing."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = super().forward(x)
            rough = torch.is_autocast_enabled("cpu")
            return logits + 1e4 * torch.tensor([0, 1.0] + [0] * 8) * rough

    monkeypatch.setattr(attack, "low_precision", lambda device: torch.bfloat16)
    x = images(3, 0.4, 0.6)
    offset = float(scores(x).max()) + 5
    found = minimal_epsilon(Rough(offset), x, 1, steps=20)
    needed = (offset - scores(x)) / np.abs(W).sum()
    np.testing.assert_allclose(found.epsilon, needed, rtol=0.01)


def test_only_what_the_network_itself_confirms_counts_as_found():
    x = images(3, 0.4, 0.6)
    offset = float(scores(x).max()) + 5
    for search in (minimal_epsilon, fmn):
        assert search(Linear(offset), x, 1, steps=4).reached.all()
        found = search(Linear(offset, doubt=1e4), x, 1, steps=4)
        assert np.isinf(found.epsilon).all()
        np.testing.assert_array_equal(found.images, x)
    climbed = targeted_pgd(Linear(offset, doubt=1e4), x, 1, 0.1, steps=4)
    assert not climbed.reached.any() and (climbed.probability < 1e-6).all()


def test_only_unreached_images_start_again_and_the_same_way(given):
    needed = np.median(minimal_epsilon(*given, criterion=0.9, steps=20).epsilon)
    one, many, again = (targeted_pgd(*given, needed, steps=4, restarts=n) for n in (1, 4, 4))
    elsewhere = np.abs(many.images - one.images).max((1, 2, 3)) > 1e-3
    np.testing.assert_array_equal(elsewhere, ~one.reached)
    np.testing.assert_array_equal(many.images, again.images)


# --- controls, and what a change looks like ------------------------------------------------------


def test_the_square_attack_finds_changes_of_a_given_size_without_a_gradient(given):
    model, x, targets = given
    found = square_attack(model, x, targets, 0.5, queries=150)
    np.testing.assert_array_equal(predict(model, found.images).argmax(1) == targets, found.reached)
    assert found.reached.mean() >= 0.5 and (found.size < 0.5).all()
    assert found.images.min() >= 0 and found.images.max() <= 1


def test_tints_and_turned_hues():
    class Reader(nn.Module):
        """Calls an image 1 if its mean red exceeds its mean blue by more than 0.2, else 0."""

        def forward(self, x):
            red = 10 * ((x[:, 0] - x[:, 2]).mean((1, 2)) - 0.2)
            return torch.stack([-red, red, *[red * 0 - 50] * 8], 1)

    def plain(*rgb: float) -> np.ndarray:
        return np.float32(rgb)[:, None, None] * np.ones((2, 3, 28, 28), np.float32)

    tint = colour_attack(Reader(), plain(0.5, 0.5, 0.6), [1, 2], "tint", grid=100)
    assert tint.reached.tolist() == [True, False]  # each by its own target
    assert tint.size[0] == pytest.approx(0.16)  # red up, blue down: 0.3 / 2, and more
    np.testing.assert_allclose(tint.images[0].mean((1, 2))[[0, 2]], [0.66, 0.44], atol=1e-6)
    hue = colour_attack(Reader(), plain(0.5, 0.5, 0.6), 1, "hue")
    assert np.isinf(hue.size).all() and not hue.reached.any()  # never more than 0.1 apart
    np.testing.assert_array_equal(hue.images, plain(0.5, 0.5, 0.6))
    hue = colour_attack(Reader(), plain(0.1, 0.1, 0.9), 1, "hue", grid=6)
    np.testing.assert_allclose(hue.images, plain(0.9, 0.1, 0.1), atol=1e-6)
    np.testing.assert_allclose(hue.size, 0.8, atol=1e-6)


def test_the_share_of_chroma():
    change = np.array([[1, 1, 1], [1, -1, 0], [3, 0, 0]])  # of red alone a third is brightness
    x = np.full((3, 3, 28, 28), 0.5)
    shares = attack.chroma_share(x, x + 0.1 * change[:, :, None, None])
    np.testing.assert_allclose(shares, [0, 1, 2 / 3], atol=1e-6)


def test_ciede2000_of_known_colours():
    x, y, expected = images(4), images(4), np.zeros((4, 28, 28))
    red, green, blue = np.eye(3)
    pairs = [(red, blue), (red, green), (green, blue), (0 * red, red + green + blue)]
    for k, pair in enumerate(pairs):
        x[k, :, 3, 4], y[k, :, 3, 4] = pair
    expected[:, 3, 4] = 52.88, 86.61, 83.19, 100.0  # as published colour calculators have it
    np.testing.assert_allclose(attack.ciede2000(x, y), expected, atol=0.01)


def test_bad_input_is_named():
    for search, change, message in (
        (targeted_pgd, {"targets": 0}, "already predicted as their target 0"),
        (targeted_pgd, {"epsilon": math.nan}, "epsilon must lie above 0"),
        (targeted_pgd, {"restarts": 0}, "restarts"),
        (targeted_pgd, {"criterion": 0.2}, "probability"),
        (targeted_pgd, {"model": Linear(1e3, W * math.nan)}, "NaN"),
        (minimal_epsilon, {"tolerance": 0}, "tolerance must lie above 0"),
        (minimal_epsilon, {"hops": -1}, "hops"),
        (square_attack, {"epsilon": np.zeros(3)}, "epsilon must lie above 0"),
        (colour_attack, {"kind": "paint"}, "hue, tint"),
    ):
        arguments = {"model": Linear(1e3), "images": images(3), "targets": 1}
        arguments |= {"epsilon": 0.1} if search is targeted_pgd else {}
        with pytest.raises(ValueError, match=message):
            search(**arguments | change)
