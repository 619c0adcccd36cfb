"""Measurements on networks and grids made by hand, whose right answers are known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist.canvas import PALETTE, Split, paint
from lazy_artist.evaluate import (
    Estimate,
    accuracy,
    balanced,
    check_images,
    confusion,
    counterfactual_grid,
    estimate,
    follow_map,
    follows,
    linear_accuracy,
    logit_variance,
    mean_rgb,
    predict,
    random_pixels,
    repaint,
)


class Reader(nn.Module):
    """Says the class that the first pixel's red tells: 0.0 is 0, 0.9 is 9."""

    def forward(self, images):
        return nn.functional.one_hot((images[:, 0, 0, 0] * 10).round().long(), 10).float()


class Average(nn.Module):
    """Logits that depend on the whole image linearly; with dropout, which must not act."""

    def __init__(self):
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(3, 10)

    def forward(self, images):
        return self.linear(self.drop(images.mean((2, 3))))


def saying(classes: list[int]) -> np.ndarray:
    images = np.zeros((len(classes), 3, 28, 28), np.float32)
    images[:, 0, 0, 0] = np.array(classes) / 10
    return images


def rgb(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, 28, 28), dtype=np.float32)


# --- estimates -----------------------------------------------------------------------------------


def test_the_interval_is_students():
    # mean 0.5, s = 0.1, t(0.975, 2) = 4.302653: 0.5 +- 4.302653 * 0.1 / sqrt(3) = 0.248414
    result = estimate([0.4, 0.5, 0.6])
    assert result.mean == pytest.approx(0.5) and result.n == 3
    assert result.interval == pytest.approx((0.251586, 0.748414), abs=1e-6)
    # two values: s = 0.02 sqrt(2), t(0.975, 1) = 12.706205: 0.5 +- 12.706205 * 0.02
    assert estimate(iter([0.48, 0.52])).interval == pytest.approx((0.245876, 0.754124), abs=1e-6)
    assert estimate([0.3, 0.3]).interval == pytest.approx((0.3, 0.3))


def test_the_interval_is_cut_at_the_bounds():
    assert estimate([0.0, 0.1]).interval == pytest.approx((0, 0.05 + 12.706205 * 0.05))
    assert estimate([0.9, 1.0]).interval == pytest.approx((0.95 - 12.706205 * 0.05, 1))
    wide = estimate([-3, 5], bounds=(-math.inf, math.inf)).interval
    assert wide == pytest.approx((1 - 4 * 12.706205, 1 + 4 * 12.706205), abs=1e-4)


def test_one_seed_has_no_interval_and_none_is_an_error():
    assert estimate([0.25]) == Estimate(0.25, None, 1)
    with pytest.raises(ValueError, match="at least one seed"):
        estimate([])


def test_how_estimates_are_written():
    assert str(Estimate(0.5, (0.25, 0.75), 3)) == "0.500 [0.250, 0.750]"
    assert str(Estimate(0.5, None, 1)) == "0.500"
    assert Estimate(0.0312, (0.02, 0.0424), 3).format("{:.1%}") == "3.1% [2.0%, 4.2%]"


# --- predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_predict_works_in_eval_mode_and_leaves_the_mode(training):
    model = Average().train(training)
    images = rgb(7)
    logits = predict(model, images)
    assert logits.dtype == np.float32 and logits.shape == (7, 10)
    weight, bias = (p.detach().numpy() for p in model.linear.parameters())
    np.testing.assert_allclose(logits, images.mean((2, 3)) @ weight.T + bias, atol=1e-5)
    assert model.training is training and model.drop.training is training
    assert torch.is_grad_enabled() and model.linear.weight.grad is None


def test_predict_in_any_number_of_batches():
    model, images = Average(), rgb(7)
    whole = predict(model, images)
    for batch_size in (1, 3, 7, 8):
        np.testing.assert_allclose(predict(model, images, batch_size), whole, atol=1e-6)
    assert predict(model, images[:0]).shape == (0, 10)


def test_predict_restores_the_mode_after_an_error():
    class Failing(nn.Module):
        def forward(self, images):
            raise RuntimeError("out of order")

    model = Failing().train()
    with pytest.raises(RuntimeError, match="out of order"):
        predict(model, rgb(1))
    assert model.training


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (rgb(2).astype(np.float64), "must be float32 .* not float64"),
        ((rgb(2) * 255).astype(np.uint8), "must be float32 .* not uint8"),
        (rgb(2).transpose(0, 2, 3, 1), r"\(N, 3, 28, 28\), .*\(2, 28, 28, 3\)"),
        (rgb(2)[:, :1], r"\(2, 1, 28, 28\)"),
        (rgb(2)[0], r"\(3, 28, 28\)"),
        (rgb(2) * 255, r"\[0, 1\]; divide"),
        (rgb(2) - 0.5, r"\[0, 1\]"),
        (np.full((1, 3, 28, 28), np.nan, np.float32), r"\[0, 1\]"),
    ],
)
def test_predict_refuses_what_is_not_images(images, message):
    for refuse in (check_images, lambda images: predict(Average(), images)):
        with pytest.raises(ValueError, match=message):
            refuse(images)


def test_accuracy_and_colour_following():
    split = Split(saying([0, 1, 2, 3]), np.array([0, 1, 5, 5]), np.array([7, 7, 7, 3]))
    assert accuracy(Reader(), split) == 0.5
    assert follows(Reader(), split) == 0.25
    assert follows(Reader(), Split(split.images, split.labels, split.colours + 10)) == 0


def test_confusion_is_normalised_by_row():
    table = confusion(np.array([0, 0, 0, 0, 3]), np.array([0, 2, 2, 2, 3]))
    expected = np.zeros((10, 10))
    expected[0, 0], expected[0, 2], expected[3, 3] = 0.25, 0.75, 1
    np.testing.assert_array_equal(table, expected)  # rows of absent digits stay 0


def test_balanced_takes_the_first_of_every_digit_in_order():
    labels = np.array([1, 0, 2, 3, 4, 5, 6, 7, 8, 9] * 2 + [0, 0])
    images = np.arange(22)
    chosen, of = balanced(images, labels, 2)
    np.testing.assert_array_equal(of, np.repeat(np.arange(10), 2))
    np.testing.assert_array_equal(chosen[:6], [1, 11, 0, 10, 2, 12])
    with pytest.raises(ValueError, match="digit 1 has 2 images, fewer than the 3"):
        balanced(images, labels, 3)
    with pytest.raises(ValueError, match="digit 9 has 0 images"):
        balanced(images[:9], labels[:9], 1)


# --- counterfactuals -----------------------------------------------------------------------------


def test_repaint_lays_every_colour_on_the_same_digits():
    model = Average()
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    palette = PALETTE[[3, 5]]
    grid = repaint(model, images, palette, seed=9)
    assert grid.shape == (2, 4, 10) and grid.dtype == np.float32
    for k, colour in enumerate((3, 5)):
        expected = predict(model, paint(images, np.full(4, colour), 9))
        np.testing.assert_array_equal(grid[k], expected)
    full = counterfactual_grid(model, images, 9)
    assert full.shape == (10, 4, 10)
    np.testing.assert_array_equal(full[[3, 5]], grid)


def as_logits(predictions: np.ndarray) -> np.ndarray:
    return np.eye(10)[predictions] * 3 - 1


def test_follow_map_of_a_slave_of_colour_and_of_an_honest_reader():
    labels = np.repeat(np.arange(10), 2)
    slave = np.tile(np.arange(10)[:, None], (1, 20))  # (10 colours, N)
    by_colour, by_shape = follow_map(as_logits(slave), labels)
    np.testing.assert_array_equal(by_colour, np.ones((10, 10)))
    np.testing.assert_array_equal(by_shape, np.eye(10))
    by_colour, by_shape = follow_map(as_logits(np.tile(labels, (10, 1))), labels)
    np.testing.assert_array_equal(by_colour, np.eye(10))
    np.testing.assert_array_equal(by_shape, np.ones((10, 10)))


def test_follow_map_rows_are_digits_and_columns_colours():
    labels = np.repeat(np.arange(10), 4)
    answers = np.tile(labels, (10, 1))  # honest …
    ones = np.flatnonzero(labels == 1)
    answers[0, ones] = [0, 0, 0, 7]  # … but of four red ones, three are called 0 and one 7
    by_colour, by_shape = follow_map(as_logits(answers), labels)
    assert by_colour[1, 0] == 0.75 and by_shape[1, 0] == 0
    assert by_colour[0, 1] == 0 and by_shape[0, 1] == 1
    assert by_colour.sum() == 10.75 and by_shape.sum() == 99


@pytest.mark.parametrize("parts", [(4, 3, 2, 1), (0, 5, 0, 0), (7, 0, 0, 1), (1, 1, 8, 6)])
def test_logit_variance_of_a_grid_with_known_shares(parts):
    """Orthogonal effects of variance 1, times the square roots of the wanted shares."""
    each = 2
    labels = np.repeat(np.arange(10), each)
    colour = np.resize([1.0, -1.0], 10)[:, None]  # mean 0, variance 1 over the ten colours
    digit = np.array([1.0] * 5 + [-1.0] * 5)[labels]
    image = np.resize([1.0, -1.0], len(labels))  # averages out in each cell of two images
    effects = (colour + 0 * digit, digit + 0 * colour, colour * digit, image + 0 * colour)
    grid = sum(math.sqrt(part) * effect for part, effect in zip(parts, effects, strict=True))
    # three classes vary, each at a height and size of its own; the sum runs over classes
    logits = np.full((10, len(labels), 10), 5.0)
    for column, (height, size) in {2: (-40, 1), 5: (3, -2), 9: (0, 0.5)}.items():
        logits[..., column] = height + size * grid
    order = np.random.default_rng(0).permutation(len(labels))  # labels need no order
    shares = logit_variance(logits[:, order].astype(np.float32), labels[order])
    expected = np.array(parts) / sum(parts)
    assert list(shares) == ["colour", "digit", "interaction", "image"]
    np.testing.assert_allclose(list(shares.values()), expected, atol=1e-6)


def test_logit_variance_weighs_classes_by_their_variance():
    labels = np.arange(10)
    logits = np.zeros((10, 10, 10))
    logits[..., 0] = 2 * np.resize([1.0, -1.0], 10)[:, None]  # colour alone: variance 4
    logits[..., 1] = np.resize([1.0, -1.0], 10)[None, :]  # digit alone: variance 1
    shares = logit_variance(logits, labels)
    assert shares["colour"] == pytest.approx(0.8) and shares["digit"] == pytest.approx(0.2)


def test_logit_variance_needs_a_balanced_grid():
    with pytest.raises(ValueError, match=r"equally many .* \[2, 1, 1, 1, 1, 1, 1, 1, 1, 1\]"):
        logit_variance(np.zeros((10, 11, 10)), np.array([*range(10), 0]))


# --- what images give away -----------------------------------------------------------------------


def test_linear_accuracy_is_measured_on_the_test_part():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 50)
    features = labels[:, None] * 100.0 + rng.normal(size=(100, 2))
    train = (features[:60], labels[:60])
    assert linear_accuracy(train, (features[60:], labels[60:])) == 1
    assert linear_accuracy(train, (features[60:], 1 - labels[60:])) == 0


def test_mean_rgb():
    images = np.zeros((2, 3, 28, 28), np.float32)
    images[1, 2, :14] = 1
    np.testing.assert_allclose(mean_rgb(images), [[0, 0, 0], [0, 0, 0.5]])


def test_random_pixels_are_sorted_by_brightness_channel_by_channel():
    rng = np.random.default_rng(0)
    images = rng.random((6, 3, 28, 28), dtype=np.float32)
    flat = images.reshape(6, 3, -1)
    seen = random_pixels(images, 20, seed=1)
    assert seen.shape == (6, 60)
    pixels = seen.reshape(6, 3, 20)
    assert (np.diff(pixels.sum(1), axis=1) >= 0).all()
    chosen = []
    for i in range(6):
        places = [int(np.flatnonzero((p == flat[i].T).all(1))[0]) for p in pixels[i].T]
        assert len(set(places)) == 20  # whole pixels of that image, none twice
        chosen.append(frozenset(places))
    assert len(set(chosen)) == 6  # drawn anew for each image
    np.testing.assert_array_equal(seen, random_pixels(images, 20, seed=1))
    assert (seen != random_pixels(images, 20, seed=2)).any()


def test_all_pixels_are_the_whole_image():
    images = np.zeros((1, 3, 28, 28), np.float32)
    images[0, 0] = np.random.default_rng(0).permutation(784).reshape(28, 28) / 784
    seen = random_pixels(images, 784, seed=0).reshape(3, 784)
    np.testing.assert_allclose(seen[0], np.arange(784) / 784, atol=1e-6)
    np.testing.assert_array_equal(seen[1:], 0)
