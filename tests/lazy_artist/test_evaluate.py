"""Measurements on networks and grids made by hand, whose right answers are known."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lazy_artist import evaluate
from lazy_artist.canvas import PALETTE, colour_split, paint, test_split
from lazy_artist.evaluate import Estimate, estimate, evaluate_networks, percent, predict, repaint

test_split.__test__ = False  # a function of the canvas, whatever its name


class Scripted(nn.Module):
    """Predicts the classes given, in turn; keeps the images, and whether the precision was low."""

    def __init__(self, classes):
        super().__init__()
        self.classes, self.seen = torch.tensor(classes), []

    def forward(self, images):
        start, self.low = sum(map(len, self.seen)), torch.is_autocast_enabled("cpu")
        self.seen.append(images.numpy().copy())
        return nn.functional.one_hot(self.classes[start : start + len(images)], 10).float()


class Average(nn.Module):
    """Logits that depend on the whole image linearly; with dropout, which must not act."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(3, 10)

    def features(self, images):
        return self.drop(images.mean((2, 3)))

    def forward(self, images):
        return self.linear(self.features(images))


def rgb(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, 28, 28), dtype=np.float32)


def test_the_interval_is_students_cut_at_the_bounds():
    # mean 0.5, s = 0.1, t(0.975, 2) = 4.302653: 0.5 +- 4.302653 * 0.1 / sqrt(3) = 0.248414
    result = estimate([0.4, 0.5, 0.6])
    assert result.mean == pytest.approx(0.5) and result.n == 3
    assert result.interval == pytest.approx((0.251586, 0.748414), abs=1e-6)
    # two values: t(0.975, 1) = 12.706205 times half their distance
    for values, interval in (
        (iter([0.48, 0.52]), (0.5 - 12.706205 * 0.02, 0.5 + 12.706205 * 0.02)),
        ([0.0, 0.1], (0, 0.05 + 12.706205 * 0.05)),
        ([0.9, 1.0], (0.95 - 12.706205 * 0.05, 1)),
    ):
        assert estimate(values).interval == pytest.approx(interval, abs=1e-6)
    assert estimate([0.25]) == Estimate(0.25, None, 1)
    with pytest.raises(ValueError, match="at least one seed"):
        estimate([])


def test_how_estimates_are_written():
    several, one = Estimate(0.0312, (0.02, 0.0424), 3), Estimate(0.5, None, 1)
    assert (str(several), str(one)) == ("0.031 [0.020, 0.042]", "0.500")
    assert several.format("{:.1%}") == "3.1% [2.0%, 4.2%]"
    assert (percent(several), percent(one)) == ("3.1 [2.0, 4.2]", "50.0")


def test_summaries_are_estimates_of_each_group_in_order_of_appearance():
    frame = pd.DataFrame({"network": list("zazz"), "split": ["hard", "hard", "easy", "hard"]})
    frame = frame.assign(accuracy=[0.1, 0.3, 0.5, 0.2], size=[9, 2, 4, 7])
    one = evaluate.summarise(frame, "network", "accuracy")
    assert list(one.index) == ["z", "a"] and one.index.name == "network"
    assert one["z"] == estimate([0.1, 0.5, 0.2]) and one["a"] == Estimate(0.3, None, 1)
    wide = (-math.inf, math.inf)
    both = evaluate.summarise(frame, ["network", "split"], ["size", "accuracy"], bounds=wide)
    assert list(both) == ["size", "accuracy"] and list(both.index.names) == ["network", "split"]
    assert list(both.index) == [("z", "hard"), ("a", "hard"), ("z", "easy")]
    # sizes 9 and 7: 8 +- 12.706205 * 1, which nothing cuts
    assert both.loc[("z", "hard"), "size"].interval == pytest.approx((-4.706205, 20.706205))
    assert both.loc[("z", "hard"), "accuracy"] == estimate([0.1, 0.2], wide)
    assert list(both["size"].unstack().index) == ["a", "z"]  # in order, once they are a table


def test_predict_works_in_eval_mode_without_gradients_in_any_number_of_batches():
    model, images = Average().train(), rgb(7)
    weight, bias = (p.detach().numpy() for p in model.linear.parameters())
    for batch_size in (1, 3, 7, 8):
        logits = predict(model, images, batch_size=batch_size)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, images.mean((2, 3)) @ weight.T + bias, atol=1e-5)
    features = predict(model, images, output="features")
    np.testing.assert_allclose(features, images.mean((2, 3)), atol=1e-6)
    assert predict(model, images[:0]).shape == (0, 10)
    assert torch.is_grad_enabled() and model.linear.weight.grad is None


def test_low_precision_is_the_arithmetic_of_training(monkeypatch):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 1, bias=False))
    model.features = model.forward
    with torch.no_grad():
        model[1].weight.zero_()[0, 0] = 1 + 2**-9  # bfloat16 has no such number
    ones = np.ones((1, 3, 28, 28), np.float32)
    for dtype, rounded in ((torch.bfloat16, 1), (torch.float32, 1 + 2**-9)):
        monkeypatch.setattr(evaluate, "low_precision", lambda dtype=dtype: dtype)
        for output in ("logits", "features"):
            low = predict(model, ones, "low", output)
            assert low.dtype == np.float32 and low[0, 0] == rounded
            assert predict(model, ones, "float32", output)[0, 0] == 1 + 2**-9
    for wrong in ({"precision": "half"}, {"output": "maps"}):
        with pytest.raises(ValueError, match=r"unknown \w+ '(half|maps)': choose"):
            predict(model, ones, **wrong)


@pytest.mark.parametrize("n", [60, None])
def test_networks_are_compared_with_labels_and_colours_on_each_split(monkeypatch, n):
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "600")
    monkeypatch.setattr(evaluate, "low_precision", lambda: torch.bfloat16)
    splits, rng = ["hard", "train", "unseen"], np.random.default_rng(0)
    models, handles, expected = [], [], []
    for name, seed, correlation in (("cheater", 2, 0.95), ("cure", 5, 0.3)):
        own = colour_split("train", seed, correlation).take(slice(n))
        shown = [test_split("hard", n), own, test_split("unseen", n)]
        predictions = [rng.integers(10, size=len(split)) for split in shown]
        models.append(Scripted(np.concatenate(predictions)))
        about = {"name": name, "arch": "cnn", "seed": seed, "correlation": correlation}
        handles.append(SimpleNamespace(**about, load=lambda model=models[-1]: model))
        for title, split, row in zip(splits, shown, predictions, strict=True):
            rates = np.mean(row == split.labels), np.mean(row == split.colours)
            expected.append((title, name, "cnn", seed, title, len(split), *rates))
        models[-1].shown = np.concatenate([split.images for split in shown])
    frame = evaluate_networks.__wrapped__(handles, splits, n)
    assert [*frame.itertuples(index=False, name=None)] == [row[1:] for row in sorted(expected)]
    for model in models:
        np.testing.assert_array_equal(np.concatenate(model.seen), model.shown)
        assert model.low


def test_balanced_takes_the_first_of_every_digit_in_order():
    labels = np.array([1, 0, 2, 3, 4, 5, 6, 7, 8, 9] * 2 + [0, 0])
    chosen, of = evaluate.balanced(np.arange(22), labels, 2)
    np.testing.assert_array_equal(of, np.repeat(np.arange(10), 2))
    np.testing.assert_array_equal(chosen[:6], [1, 11, 0, 10, 2, 12])
    with pytest.raises(ValueError, match="digit 1 has 2 images, fewer than the 3"):
        evaluate.balanced(np.arange(22), labels, 3)


def test_repaint_lays_every_colour_on_the_same_digits(monkeypatch):
    monkeypatch.setattr(evaluate, "low_precision", lambda: torch.bfloat16)
    model, palette = Average(), PALETTE[[3, 5]]
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    grid = repaint(model, images, palette, seed=9)
    features = repaint(model, images, palette, 9, output="features")
    low = repaint(model, images, palette, 9, "low")
    for k, colour in enumerate((3, 5)):
        painted = paint(images, np.full(4, colour), 9)
        np.testing.assert_array_equal(grid[k], predict(model, painted))
        np.testing.assert_array_equal(features[k], predict(model, painted, output="features"))
        np.testing.assert_array_equal(low[k], predict(model, painted, "low"))
    assert (low != grid).any()


@pytest.mark.parametrize("parts", [(4, 3, 2, 1), (0, 5, 0, 0), (1, 1, 8, 6)])
def test_logit_variance_of_a_grid_with_known_shares(parts):
    """Orthogonal effects of variance 1, times the square roots of the wanted shares."""
    labels = np.repeat(np.arange(10), 2)
    colour = np.resize([1.0, -1.0], 10)[:, None]  # mean 0, variance 1 over the ten colours
    digit = np.array([1.0] * 5 + [-1.0] * 5)[labels]
    image = np.resize([1.0, -1.0], len(labels))  # averages out in each cell of two images
    effects = (colour + 0 * digit, digit + 0 * colour, colour * digit, image + 0 * colour)
    grid = sum(math.sqrt(part) * effect for part, effect in zip(parts, effects, strict=True))
    # three classes vary, each at a height and size of its own; the sum runs over classes
    logits = np.full((10, len(labels), 10), 5.0)
    for column, (height, size) in {2: (-40, 1), 5: (3, -2), 9: (0, 0.5)}.items():
        logits[..., column] = height + size * grid
    logits[..., 7] = 3 * colour  # and one that colour alone moves: it weighs by its variance
    order = np.random.default_rng(0).permutation(len(labels))  # labels need no order
    shares = evaluate.logit_variance(logits[:, order].astype(np.float32), labels[order])
    expected = 5.25 * np.array(parts) + [9, 0, 0, 0]  # 1² + 2² + 0.5², and 3²
    assert list(shares) == ["colour", "digit", "interaction", "image"]
    np.testing.assert_allclose(list(shares.values()), expected / expected.sum(), atol=1e-6)


def test_logit_variance_needs_a_balanced_grid():
    with pytest.raises(ValueError, match=r"equally many .* \[2, 1, 1, 1, 1, 1, 1, 1, 1, 1\]"):
        evaluate.logit_variance(np.zeros((10, 11, 10)), np.array([*range(10), 0]))


def test_linear_accuracy_is_measured_on_the_test_part():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 50)
    features = labels[:, None] * 100.0 + rng.normal(size=(100, 2))
    train = (features[:60], labels[:60])
    assert evaluate.linear_accuracy(train, (features[60:], labels[60:])) == 1
    assert evaluate.linear_accuracy(train, (features[60:], 1 - labels[60:])) == 0


def test_random_pixels_are_sorted_by_brightness_channel_by_channel():
    images, count = rgb(6), 20
    seen = evaluate.random_pixels(images, count, seed=1)
    pixels = seen.reshape(6, 3, count)
    assert (np.diff(pixels.sum(1), axis=1) >= 0).all()
    chosen = []
    for own, flat in zip(pixels, images.reshape(6, 3, -1), strict=True):
        places = {int(np.flatnonzero((p == flat.T).all(1))[0]) for p in own.T}
        assert len(places) == count  # whole pixels of that image, none twice
        chosen.append(frozenset(places))
    assert len(set(chosen)) == 6  # drawn anew for each image
    np.testing.assert_array_equal(seen, evaluate.random_pixels(images, count, seed=1))
    assert (seen != evaluate.random_pixels(images, count, seed=2)).any()
