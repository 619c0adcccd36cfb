"""The attacks find known minima of simple networks, and refuse what cannot be attacked."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import nn

from lazy_artist import attack
from lazy_artist.attack import (
    chroma_share,
    ciede2000,
    ciede2000_lab,
    colour_attack,
    fmn,
    minimal_epsilon,
    square_attack,
    ssim,
    targeted_pgd,
)
from lazy_artist.evaluate import predict
from lazy_artist.models import build

SIZE = 3 * 28 * 28


class Linear(nn.Module):
    """Two classes that count: z_0 = offset, z_1 = direction . x; the others are far below."""

    def __init__(self, direction: np.ndarray, offset: float):
        super().__init__()
        self.register_buffer("direction", torch.from_numpy(direction.astype(np.float32)))
        self.offset = offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x * self.direction).flatten(1).sum(1)
        rest = torch.full((len(x), 8), -1e3)
        return torch.cat([torch.full_like(score, self.offset)[:, None], score[:, None], rest], 1)


def direction() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 28, 28)).astype(np.float32)


def images(count: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    values = np.random.default_rng(1).uniform(low, high, size=(count, 3, 28, 28))
    return values.astype(np.float32)


def network(seed: int = 0) -> nn.Module:
    """A random CNN whose normalisations know its inputs, so that classes differ."""
    model = build("cnn", seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.from_numpy(images(64)))
    model.head.weight.data.mul_(20)
    return model.eval()


def others(model: nn.Module, x: np.ndarray) -> np.ndarray:
    """For each image the second likeliest class."""
    return predict(model, x).argsort(1)[:, -2]


def size(x: np.ndarray, y: np.ndarray, norm: str) -> np.ndarray:
    delta = (y.astype(np.float64) - x).reshape(len(x), -1)
    return np.linalg.norm(delta, np.inf if norm == "linf" else 2, axis=1)


# --- minimal sizes -------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize(("criterion", "odds"), [("predict", 0.0), (0.9, math.log(9))])
def test_the_minimum_of_a_linear_network_is_the_margin_over_the_dual_norm(
    norm, dual, criterion, odds
):
    w, x = direction(), images(6, 0.4, 0.6)  # so far inside that [0, 1] never matters
    score = (x.astype(np.float64) * w).reshape(6, -1).sum(1)
    offset = float(score.max() + 5)
    found = minimal_epsilon(Linear(w, offset), x, 1, norm, criterion)
    expected = (offset + odds - score) / np.linalg.norm(w.ravel(), dual)
    np.testing.assert_allclose(found.epsilon, expected, rtol=2e-3)
    assert (found.epsilon >= expected * (1 - 1e-6)).all()  # nothing smaller exists
    assert found.reached.all()


def test_the_range_of_pixels_makes_the_minimum_larger_and_it_is_still_found():
    w, x = direction(), images(4, 0.0, 0.2)  # many pixels cannot go down by much
    flat = x.reshape(4, -1).astype(np.float64)
    ends = (w.ravel() > 0).astype(np.float64)
    offset = float((flat @ w.ravel()).max() + 100)

    def gap(epsilon: float, row: np.ndarray) -> float:
        step = np.clip(np.where(ends > 0, row + epsilon, row - epsilon), 0, 1)
        return step @ w.ravel() - offset

    expected = [brentq(gap, 0, 1, args=(row,)) for row in flat]
    assert min(expected) > 1.05 * 100 / np.abs(w).sum()  # [0, 1] does matter here
    found = minimal_epsilon(Linear(w, offset), x, 1)
    np.testing.assert_allclose(found.epsilon, expected, rtol=2e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("criterion", ["predict", 0.9])
def test_every_minimum_is_what_it_says(norm, criterion):
    model, x = network(), images(12)
    targets = others(model, x)
    found = minimal_epsilon(model, x, targets, norm, criterion, steps=20)
    assert found.reached.all() and found.images.dtype == np.float32
    assert found.images.min() >= 0 and found.images.max() <= 1
    np.testing.assert_allclose(found.epsilon, size(x, found.images, norm), rtol=1e-12)
    p = torch.from_numpy(predict(model, found.images)).double().softmax(1).numpy()
    if criterion == "predict":
        np.testing.assert_array_equal(p.argmax(1), targets)
    else:
        assert (p[np.arange(12), targets] > 0.9).all()
    assert (found.lower < found.epsilon).all()
    np.testing.assert_allclose(found.lower, 0.99 * found.epsilon, rtol=1e-3)  # the tolerance


def test_to_convince_takes_more_than_to_be_predicted_and_more_steps_do_not_hurt():
    model, x = network(), images(12)
    targets = others(model, x)
    short = minimal_epsilon(model, x, targets, steps=10).epsilon
    long = minimal_epsilon(model, x, targets, steps=80).epsilon
    sure = minimal_epsilon(model, x, targets, criterion=0.9, steps=80).epsilon
    assert (long <= short * 1.01).all() and long.mean() < short.mean()
    assert (sure > long).all()


def test_what_is_found_in_rough_arithmetic_does_not_count(monkeypatch):
    model, x = Linear(direction(), 500.0), torch.from_numpy(images(4))
    exact = attack._ascent

    def liar(*arguments, rough=False):
        margin, gradient = exact(*arguments)
        return margin + 1e4 * rough, gradient

    monkeypatch.setattr(attack, "_ascent", liar)
    best, t = torch.zeros_like(x), torch.ones(4, dtype=torch.long)
    start = torch.full_like(x, 0.01)  # reaches nothing, whatever rough arithmetic says
    attack._descend(model, x, start, best, t, "predict", "linf", 20, 1.0)
    claimed = best.flatten(1).any(1)
    assert (exact(model, x + best, t, "predict")[0][claimed] > 0).all()


def test_the_final_test_shrinks_by_what_the_margin_promises(monkeypatch):
    w, x = direction(), images(4, 0.4, 0.6)
    model = Linear(w, float((x * w).sum((1, 2, 3)).max()) + 20.0)
    least = (model.offset - (x * w).sum((1, 2, 3))) / np.abs(w).sum()  # the range does not matter
    best = torch.from_numpy(3 * least[:, None, None, None] * np.sign(w)[None]).float()
    rounds, climb = [], attack._climb
    monkeypatch.setattr(attack, "_climb", lambda *a, **k: rounds.append(1) or climb(*a, **k))
    t = torch.ones(4, dtype=torch.long)
    failed = attack._press(
        model, torch.from_numpy(x), best, t, "predict", "linf", steps=5, tolerance=0.01
    )
    found = best.flatten(1).abs().amax(1).numpy()
    assert (found >= least).all() and (found <= 1.011 * least).all()
    np.testing.assert_allclose(failed, 0.99 * found, rtol=1e-5)
    assert len(rounds) < 40  # one percent at a time would take 110


class Bowl(nn.Module):
    """z_1 - z_0 = |x - centre|^2 - 1: no gradient at the centre, the same way out everywhere."""

    def __init__(self, centre: np.ndarray):
        super().__init__()
        self.register_buffer("centre", torch.from_numpy(centre))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x - self.centre).square().flatten(1).sum(1) - 1
        return torch.stack([score * 0, score, *[score * 0 - 1e3] * 8], 1)


def test_hops_leave_a_start_without_a_gradient_and_are_repeatable():
    x = images(1, 0.4, 0.6)
    stuck = minimal_epsilon(Bowl(x), x, 1, "l2", steps=20, hops=0)
    freed = minimal_epsilon(Bowl(x), x, 1, "l2", steps=20, hops=1)
    assert not stuck.reached.any()
    np.testing.assert_allclose(freed.epsilon, 1, rtol=1e-2)
    again = minimal_epsilon(Bowl(x), x, 1, "l2", steps=20, hops=1)
    np.testing.assert_array_equal(freed.images, again.images)
    other = minimal_epsilon(Bowl(x), x, 1, "l2", steps=20, hops=1, seed=1)
    assert np.abs(freed.images - other.images).max() > 1e-3  # another way out


def test_hops_find_smaller_changes_and_lose_none():
    model, x = network(), images(12)
    targets = others(model, x)
    one = minimal_epsilon(model, x, targets, "l2", steps=15, hops=0).epsilon
    many = minimal_epsilon(model, x, targets, "l2", steps=15, hops=3).epsilon
    assert (many <= 1.01 * one).all() and many.mean() < one.mean()


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
    edge = attack._hop(x * 0, best, norm, 1.0, True, torch.Generator())
    assert edge.min() >= 0  # nothing leaves [0, 1]


def test_images_that_cannot_be_reached_are_censored_not_dropped():
    w, x = direction(), images(4, 0.4, 0.6)
    score = (x * w).reshape(4, -1).sum(1)
    far = Linear(w, float(score.max() + 2 * np.abs(w).sum()))  # beyond every image in [0, 1]
    found = minimal_epsilon(far, x, 1)
    assert not found.reached.any() and np.isinf(found.epsilon).all()
    np.testing.assert_array_equal(found.lower, 1)
    np.testing.assert_array_equal(found.images, x)
    margins = float(score.max()) + 5 - score
    needed = margins / np.abs(w).sum()
    limit = float(np.sort(needed)[1:3].mean())
    some = minimal_epsilon(Linear(w, float(score.max()) + 5), x, 1, limit=limit)
    np.testing.assert_array_equal(some.reached, needed < limit)
    np.testing.assert_array_equal(some.lower[needed >= limit], limit)


def test_a_network_without_gradients_leaves_images_censored():
    class Steps(nn.Module):
        def forward(self, x):
            called = (x.mean((1, 2, 3)) * 0 + 1)[:, None]
            return torch.cat([called, called.repeat(1, 9) - 1], 1)

    found = minimal_epsilon(Steps(), images(3), 4, steps=5)
    assert not found.reached.any()


def test_the_network_is_left_as_it_was():
    model = network()
    before = copy.deepcopy(model.state_dict())
    model.train()
    x = images(3)
    model.eval()
    minimal_epsilon(model, x, others(model, x), steps=3)
    targeted_pgd(model, x, others(model, x), 0.1, steps=3)
    assert not model.training and all(p.requires_grad for p in model.parameters())
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("arch", ["cnn", "resnet18"])
def test_the_quick_copy_computes_the_same(arch):
    model = network() if arch == "cnn" else build(arch, 0).eval()
    x = torch.from_numpy(images(4))
    with torch.no_grad():
        torch.testing.assert_close(attack._quick(model)(x), model(x), rtol=1e-4, atol=1e-4)


# --- a given size --------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_reaches_above_the_minimum_and_not_below_it(norm):
    w, x = direction(), images(6, 0.4, 0.6)
    score = (x.astype(np.float64) * w).reshape(6, -1).sum(1)
    model = Linear(w, float(score.max() + 5))
    needed = (score.max() + 5 + math.log(9) - score) / np.linalg.norm(
        w.ravel(), 1 if norm == "linf" else 2
    )
    epsilon = float(np.median(needed))
    found = targeted_pgd(model, x, 1, epsilon, norm)
    np.testing.assert_array_equal(found.reached, needed < epsilon)
    assert 0 < found.reached.sum() < 6
    assert (found.size < epsilon).all() and found.images.min() >= 0 and found.images.max() <= 1
    np.testing.assert_allclose(found.size, size(x, found.images, norm), rtol=1e-12)
    assert (found.probability[found.reached] > 0.9).all()
    assert (found.probability[~found.reached] <= 0.9).all()


def test_pgd_without_confidence_only_asks_for_the_prediction():
    model, x = network(), images(12)
    targets = others(model, x)
    needed = minimal_epsilon(model, x, targets).epsilon
    epsilon = float(np.median(needed) * 1.05)
    loose = targeted_pgd(model, x, targets, epsilon, confidence=None)
    strict = targeted_pgd(model, x, targets, epsilon)
    assert loose.reached.sum() >= 6 and strict.reached.sum() < loose.reached.sum()
    hit = loose.reached
    np.testing.assert_array_equal(predict(model, loose.images).argmax(1)[hit], targets[hit])


def test_restarts_only_add_and_are_repeatable():
    model, x = network(), images(16)
    targets = others(model, x)
    epsilon = float(np.median(minimal_epsilon(model, x, targets, criterion=0.9, steps=20).epsilon))
    one = targeted_pgd(model, x, targets, epsilon, steps=4)
    many = targeted_pgd(model, x, targets, epsilon, steps=4, restarts=4)
    again = targeted_pgd(model, x, targets, epsilon, steps=4, restarts=4)
    assert (many.reached >= one.reached).all()
    np.testing.assert_array_equal(many.images, again.images)
    np.testing.assert_array_equal(many.images[one.reached], one.images[one.reached])


# --- controls ------------------------------------------------------------------------------------


def test_the_square_attack_works_and_never_beats_the_gradient():
    model, x = network(), images(8)
    targets = others(model, x)
    needed = minimal_epsilon(model, x, targets).epsilon
    wide = square_attack(model, x, targets, 0.5, queries=150)
    assert wide.reached.any() and wide.images.min() >= 0 and wide.images.max() <= 1
    assert (wide.size < 0.5).all()
    hit = wide.reached
    np.testing.assert_array_equal(predict(model, wide.images).argmax(1)[hit], targets[hit])
    near = square_attack(model, x, targets, float(needed.max()) * 1.2, queries=150)
    assert (near.size[near.reached] >= needed[near.reached] * 0.99).all()


def test_tints_and_turned_hues():
    class Reader(nn.Module):
        """Calls an image 1 if its mean red exceeds its mean blue by more than 0.2, else 0."""

        def forward(self, x):
            red = 10 * ((x[:, 0] - x[:, 2]).mean((1, 2)) - 0.2)
            return torch.stack([-red, red, *[red * 0 - 50] * 8], 1)

    x = np.full((2, 3, 28, 28), 0.5, dtype=np.float32)
    x[:, 2] = 0.6
    tint = colour_attack(Reader(), x, 1, "tint", grid=100)
    np.testing.assert_allclose(tint.size, 0.16, atol=1e-6)  # red up, blue down: 0.3 / 2, and more
    np.testing.assert_allclose(tint.images[0].mean((1, 2))[[0, 2]], [0.66, 0.44], atol=1e-6)
    hue = colour_attack(Reader(), x, 1, "hue")
    assert not hue.reached.any() and np.isinf(hue.size).all()  # never more than 0.1 apart
    np.testing.assert_array_equal(hue.images, x)
    x[:, 0], x[:, 1], x[:, 2] = 0.1, 0.1, 0.9
    hue = colour_attack(Reader(), x, 1, "hue", grid=6)
    np.testing.assert_allclose(hue.images[0].mean((1, 2)), [0.9, 0.1, 0.1], atol=1e-6)
    np.testing.assert_allclose(hue.size, 0.8, atol=1e-6)


def test_the_share_of_chroma():
    x = np.full((4, 3, 28, 28), 0.5, dtype=np.float32)
    y = x.copy()
    y[0] += 0.1  # brightness alone
    y[1, 0] += 0.1
    y[1, 1] -= 0.1  # colour alone
    y[2, 0] += 0.3  # red alone: a third of its energy is brightness
    y[3] += np.random.default_rng(0).normal(0, 0.1, size=(3, 28, 28)).astype(np.float32)
    np.testing.assert_allclose(chroma_share(x, y)[:3], [0, 1, 2 / 3], atol=1e-6)
    assert chroma_share(x, y)[3] == pytest.approx(2 / 3, abs=0.03)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_rival_finds_the_same_minima_and_no_smaller_ones(norm):
    model, x = network(), images(6)
    targets = others(model, x)
    rival = fmn(model, x, targets, norm, steps=60)
    assert rival.reached.all() and (predict(model, rival.images).argmax(1) == targets).all()
    np.testing.assert_allclose(rival.epsilon, size(x, rival.images, norm))
    ours = minimal_epsilon(model, x, targets, norm).epsilon
    assert (ours <= 1.02 * rival.epsilon).all() and (rival.epsilon < 1.5 * ours).all()
    far = Linear(direction(), float(2 * np.abs(direction()).sum()))
    assert not fmn(far, x, 1, steps=5).reached.any()


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [  # of the published test data of Sharma et al. (2005)
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
        ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (61, -5, 29), 22.8977),
        ((50, -1, 2), (50, 0, 0), 2.3669),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_ciede2000_of_published_pairs(first, second, difference):
    pair = np.array(first, float), np.array(second, float)
    assert ciede2000_lab(*pair) == pytest.approx(difference, abs=5e-5)
    assert ciede2000_lab(*pair[::-1]) == pytest.approx(difference, abs=5e-5)


def test_ciede2000_of_images():
    x = images(2)
    np.testing.assert_array_equal(ciede2000(x, x), np.zeros((2, 28, 28)))
    white, black = np.ones((1, 3, 2, 2)), np.zeros((1, 3, 2, 2))
    np.testing.assert_allclose(ciede2000(white, black), 100, atol=1e-6)
    y = x.copy()
    y[:, :, 3, 4] = 1 - y[:, :, 3, 4]
    assert (ciede2000(x, y)[:, 3, 4] > 1).all() and ciede2000(x, y)[:, 5:].max() == 0


def test_ssim():
    x = images(3)
    np.testing.assert_allclose(ssim(x, x), 1)
    slight, strong = (np.clip(x + d * (images(3)[::-1] - 0.5), 0, 1) for d in (0.05, 0.5))
    assert (ssim(x, slight) > 0.99).all() and (ssim(x, strong) < 0.98).all()
    flat, brighter = np.full((1, 3, 28, 28), 0.2), np.full((1, 3, 28, 28), 0.4)
    expected = (2 * 0.2 * 0.4 + 1e-4) / (0.04 + 0.16 + 1e-4)
    np.testing.assert_allclose(ssim(flat, brighter), expected)


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": 10}, "0..9"),
        ({"targets": [1, 2]}, "one for each of the 3 images"),
        ({"targets": 1.0}, "integer"),
        ({"images": images(3) * 2}, r"\[0, 1\]"),
        ({"images": images(3).astype(np.float64)}, "float32"),
        ({"images": images(0)}, "no images"),
        ({"images": [[1]]}, "NumPy"),
        ({"norm": "l1"}, "linf, l2"),
        ({"epsilon": 0.0}, "epsilon must be positive, not 0"),
        ({"epsilon": math.nan}, "epsilon must be positive"),
        ({"steps": 0}, "steps"),
        ({"restarts": 0}, "restarts"),
        ({"confidence": 1.0}, "probability"),
        ({"confidence": 0.2}, "probability"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"images": images(3), "targets": 1, "epsilon": 0.1} | change
    with pytest.raises(ValueError, match=message):
        targeted_pgd(Linear(direction(), 1e3), **arguments)


def test_a_target_that_is_predicted_already_and_a_broken_network_are_refused():
    x = images(3)
    with pytest.raises(ValueError, match="already called their target 0"):
        minimal_epsilon(Linear(direction(), 1e3), x, 0)
    with pytest.raises(ValueError, match="NaN"):
        minimal_epsilon(Linear(direction() * math.nan, 1e3), x, 1)
    with pytest.raises(ValueError, match="limit must be positive"):
        minimal_epsilon(Linear(direction(), 1e3), x, 1, limit=0)
    with pytest.raises(ValueError, match="hops must not be negative"):
        minimal_epsilon(Linear(direction(), 1e3), x, 1, hops=-1)
    with pytest.raises(ValueError, match="hue, tint"):
        colour_attack(Linear(direction(), 1e3), x, 1, "paint")
