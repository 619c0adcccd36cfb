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
RGB = np.random.default_rng(0).random((7, 3, 28, 28), dtype=np.float32)


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
    """Logits 0 to 9 times the image's first pixel, and 1 + 2 ** -9, which bfloat16 does not have;
    dropout must not act."""

    def __init__(self):
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(1, 10, bias=False)
        self.linear.weight.data = torch.arange(10.0)[:, None] * (1 + 2**-9)

    def features(self, images):
        return self.drop(self.linear(images[:, 0, 0, :1]))

    forward = features


def test_the_interval_is_students_cut_at_the_bounds():
    # s / sqrt(n) = 0.1 / sqrt(3) and t(0.975, 2) = 4.302653; then half of the distance of two
    # values and t(0.975, 1) = 12.706205
    for values, mean, reach in (
        ([0.4, 0.5, 0.6], 0.5, 4.302653 * 0.1 / math.sqrt(3)),
        (iter([0.48, 0.52]), 0.5, 12.706205 * 0.02),
        ([0.0, 0.1], 0.05, 12.706205 * 0.05),
        ([0.9, 1.0], 0.95, 12.706205 * 0.05),
    ):
        result = estimate(values)
        assert result.mean == pytest.approx(mean) and result.n in (2, 3)
        cut = (max(mean - reach, 0), min(mean + reach, 1))
        assert result.interval == pytest.approx(cut, abs=1e-6)
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
    one, wide = evaluate.summarise(frame, "network", "accuracy"), (-math.inf, math.inf)
    assert [*one.items()] == [("z", estimate([0.1, 0.5, 0.2])), ("a", Estimate(0.3, None, 1))]
    both = evaluate.summarise(frame, ["network", "split"], ["size", "accuracy"], bounds=wide)
    assert list(both) == ["size", "accuracy"] and list(both.index.names) == ["network", "split"]
    assert list(both.index) == [("z", "hard"), ("a", "hard"), ("z", "easy")]
    assert both.loc[("z", "hard"), "size"] == estimate([9, 7], wide)
    assert list(both["size"].unstack().index) == ["a", "z"]  # in order, once they are a table


def test_predict_gives_all_logits_in_batches_and_low_precision_is_the_arithmetic_of_training(
    monkeypatch,
):
    model, exact = Average().train(), RGB[:, 0, 0, :1] * np.arange(10, dtype="f4") * (1 + 2**-9)
    for batch_size in (1, 3, 7, 8):
        np.testing.assert_allclose(predict(model, RGB, batch_size=batch_size), exact, rtol=1e-6)
    assert predict(model, RGB[:0]).shape == (0, 10) and model.linear.weight.grad is None
    ones = np.ones((1, 3, 28, 28), np.float32)
    for dtype, rounded in ((torch.bfloat16, 1), (torch.float32, 1 + 2**-9)):
        monkeypatch.setattr(evaluate, "low_precision", lambda _, dtype=dtype: dtype)
        for output in ("logits", "features"):
            low = predict(model, ones, "low", output)
            assert low.dtype == np.float32 and low[0, 1] == rounded
            assert predict(model, ones, "float32", output)[0, 1] == 1 + 2**-9
    for wrong in ({"precision": "half"}, {"output": "maps"}):
        with pytest.raises(ValueError, match=r"unknown \w+ '(half|maps)': choose"):
            predict(model, ones, **wrong)


@pytest.mark.parametrize("n", [60, None])
def test_networks_are_compared_with_labels_and_colours_on_each_split(monkeypatch, n):
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "600")
    monkeypatch.setattr(evaluate, "low_precision", lambda _: torch.bfloat16)
    splits, rng = ["hard", "train", "unseen"], np.random.default_rng(0)
    models, handles, expected = [], [], []
    for name, seed, correlation in (("cheater", 2, 0.95), ("cure", 5, 0.3)):
        own = colour_split("train", seed, correlation).take(slice(n))
        shown = [test_split("hard", n), own, test_split("unseen", n)]
        predictions = [rng.integers(10, size=len(split)) for split in shown]
        models.append(model := Scripted(np.concatenate(predictions)))
        about = {"name": name, "arch": "cnn", "seed": seed, "correlation": correlation}
        handles.append(SimpleNamespace(**about, load=lambda model=model: model))
        for title, split, row in zip(splits, shown, predictions, strict=True):
            rates = np.mean(row == split.labels), np.mean(row == split.colours)
            expected.append((title, name, "cnn", seed, title, len(split), *rates))
        model.shown = np.concatenate([split.images for split in shown])
    frame = evaluate_networks.__wrapped__(handles, splits, n)
    assert [*frame.itertuples(index=False, name=None)] == [row[1:] for row in sorted(expected)]
    for model in models:
        assert model.low and np.array_equal(np.concatenate(model.seen), model.shown)


def test_balanced_takes_the_first_of_every_digit_in_order():
    labels = np.array([1, 0, 2, 3, 4, 5, 6, 7, 8, 9] * 2 + [0, 0])
    chosen, of = evaluate.balanced(np.arange(22), labels, 2)
    np.testing.assert_array_equal(of, np.repeat(np.arange(10), 2))
    np.testing.assert_array_equal(chosen[:6], [1, 11, 0, 10, 2, 12])
    with pytest.raises(ValueError, match="digit 1 has 2 images, fewer than the 3"):
        evaluate.balanced(np.arange(22), labels, 3)


def test_repaint_lays_every_colour_on_the_same_digits(monkeypatch):
    monkeypatch.setattr(evaluate, "low_precision", lambda _: torch.bfloat16)
    model, found = Average(), []
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    for how in (("float32", "logits"), ("low", "logits"), ("float32", "features")):
        found.append(repaint(model, images, PALETTE[[3, 5]], 9, *how))
        for grid, colour in zip(found[-1], (3, 5), strict=True):
            painted = paint(images, np.full(4, colour), 9)
            np.testing.assert_array_equal(grid, predict(model, painted, *how))
    assert (found[0] != found[1]).any()


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
    with pytest.raises(ValueError, match=r"equally many .* \[1, 2, 2, 2, 2, 2, 2, 2, 2, 2\]"):
        evaluate.logit_variance(logits[:, 1:], labels[1:])


def test_linear_accuracy_is_measured_on_the_test_part():
    labels = np.tile([0, 1], 50)
    features = labels[:, None] * 100.0 + np.random.default_rng(0).normal(size=(100, 2))
    train, test = (features[:60], labels[:60]), (features[60:], 1 - labels[60:])
    assert (
        evaluate.linear_accuracy(train, train) == 1 and evaluate.linear_accuracy(train, test) == 0
    )


def test_random_pixels_are_sorted_by_brightness_channel_by_channel():
    seen = evaluate.random_pixels(RGB, 20, seed=1)
    chosen = []
    for own, flat in zip(seen.reshape(7, 3, 20), RGB.reshape(7, 3, -1), strict=True):
        assert (np.diff(own.sum(0)) >= 0).all()
        places = {int(np.flatnonzero((p == flat.T).all(1))[0]) for p in own.T}
        assert len(places) == 20  # whole pixels of that image, none twice
        chosen.append(frozenset(places))
    assert len(set(chosen)) == 7  # drawn anew for each image
    np.testing.assert_array_equal(seen, evaluate.random_pixels(RGB, 20, seed=1))
    assert (seen != evaluate.random_pixels(RGB, 20, seed=2)).any()
