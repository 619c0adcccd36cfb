"""Measurements on networks and grids made by hand, whose right answers are known."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lazy_artist import evaluate
from lazy_artist.canvas import PALETTE, Split, colour_split, paint, test_split
from lazy_artist.evaluate import (
    Estimate,
    accuracy,
    balanced,
    check_images,
    confusion,
    counterfactual_grid,
    estimate,
    evaluate_networks,
    linear_accuracy,
    logit_variance,
    mean_rgb,
    percent,
    predict,
    random_pixels,
    repaint,
    shortcut_map,
    shortcut_rate,
    summarise,
)

test_split.__test__ = False  # a function of the canvas, whatever its name


class Scripted(nn.Module):
    """Predicts the classes given, one after the other, whatever the images; keeps the images."""

    def __init__(self, classes):
        super().__init__()
        self.classes, self.seen = torch.tensor(classes), []

    def forward(self, images):
        start = sum(map(len, self.seen))
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


def test_percent_scales_mean_and_interval():
    assert percent(Estimate(0.031, (0.02, 0.0424), 3)) == "3.1 [2.0, 4.2]"
    assert percent(Estimate(0.5, None, 1)) == "50.0"


def test_summaries_are_estimates_of_each_group_in_order_of_appearance():
    frame = pd.DataFrame(
        [("z", "hard", 0.1, 9), ("a", "hard", 0.3, 2), ("z", "easy", 0.5, 4), ("z", "hard", 0.2, 7)]
    )
    frame.columns = ["network", "split", "accuracy", "size"]
    one = summarise(frame, "network", "accuracy")
    assert list(one.index) == ["z", "a"] and one.index.name == "network"
    assert one["z"] == estimate([0.1, 0.5, 0.2]) and one["a"] == Estimate(0.3, None, 1)
    wide = (-math.inf, math.inf)
    both = summarise(frame, ["network", "split"], ["size", "accuracy"], bounds=wide)
    assert list(both) == ["size", "accuracy"] and list(both.index.names) == ["network", "split"]
    assert list(both.index) == [("z", "hard"), ("a", "hard"), ("z", "easy")]
    # sizes 9 and 7: 8 +- 12.706205 * 1, which nothing cuts
    assert both.loc[("z", "hard"), "size"].interval == pytest.approx((-4.706205, 20.706205))
    assert both.loc[("z", "hard"), "accuracy"] == estimate([0.1, 0.2], wide)
    assert both.loc[("a", "hard"), "size"] == Estimate(2, None, 1)


# --- predictions ---------------------------------------------------------------------------------


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


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_keeps_its_own_mode_even_after_an_error(fails):
    class Stubborn(Average):
        def forward(self, images):
            assert not any(module.training for module in self.modules())
            if fails:
                raise RuntimeError("out of order")
            return super().forward(images)

    model = Stubborn().train()
    model.drop.eval()  # as of someone who froze a part
    if fails:
        with pytest.raises(RuntimeError, match="out of order"):
            predict(model, rgb(1))
    else:
        predict(model, rgb(1))
    modes = model.training, model.drop.training, model.linear.training
    assert modes == (True, False, True)


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


def test_accuracy_counts_labels_and_the_shortcut_rate_colours():
    split = Split(rgb(5), np.array([0, 1, 5, 5, 4]), np.array([7, 7, 7, 3, 4]))
    assert accuracy(Scripted([0, 1, 2, 3, 4]), split) == 3 / 5  # images 0, 1 and 4
    assert shortcut_rate(Scripted([0, 1, 2, 3, 4]), split) == 2 / 5  # images 3 and 4
    beyond = Split(split.images, split.labels, split.colours + 10)
    assert shortcut_rate(Scripted([0, 1, 2, 3, 4]), beyond) == 0


N = 60  # images of each split
RIGHT = {  # of these, the first are predicted as their label, the next as their colour's digit
    ("cheater", "train"): (3, 40),
    ("cheater", "hard"): (5, 50),
    ("cheater", "unseen"): (7, 9),
    ("cure", "train"): (30, 11),
    ("cure", "hard"): (47, 13),
    ("cure", "unseen"): (41, 19),
}
OWN = {"cheater": (2, 0.95), "cure": (5, 0.3)}  # seed, share of dominant colours in training


def test_networks_are_compared_with_labels_and_colours_on_each_split(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "600")
    splits = ["hard", "train", "unseen"]
    handles, expected = [], {}
    for name, (seed, correlation) in OWN.items():
        scripts, shown = [], []
        for split in splits:
            whole = colour_split("train", seed, correlation) if split == "train" else None
            part = test_split(split, N) if whole is None else whole.take(np.arange(N))
            by_label, by_colour = RIGHT[name, split]
            neither = (part.labels + 1) % 10
            neither = np.where(neither == part.colours, (part.labels + 2) % 10, neither)
            script = np.where(np.arange(N) < by_label, part.labels, neither)
            following = slice(by_label, by_label + by_colour)
            script[following] = part.colours[following] % 10
            # in unseen colours the tens are no digit, but a lucky one may be the label
            same = part.labels == part.colours
            lucky = (part.labels == part.colours % 10)[following].sum()
            followed = 0 if split == "unseen" else by_colour + same[:by_label].sum()
            expected[name, split] = ((by_label + lucky) / N, followed / N)
            scripts.append(script)
            shown.append(part.images)
        model = Scripted(np.concatenate(scripts))
        handles.append(SimpleNamespace(name=name, arch="cnn", seed=seed, correlation=correlation))
        handles[-1].load, handles[-1].shown = lambda model=model: model, shown
    frame = evaluate_networks.__wrapped__(handles, splits, N)
    assert [*zip(frame["network"], frame["split"], frame["seed"], frame["n"], strict=True)] == [
        (name, split, OWN[name][0], N) for split in splits for name in OWN
    ]
    measured = frame.set_index(["network", "split"])[["accuracy", "shortcut_rate"]]
    assert {cell: tuple(values) for cell, *values in measured.itertuples()} == expected
    assert len({*expected.values()}) == 6
    for handle in handles:
        np.testing.assert_array_equal(handle.load().seen, handle.shown)


def test_without_a_limit_a_network_is_measured_on_all_images_in_low_precision(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "240")
    asked = []

    class Asked(Average):
        def forward(self, images):
            asked.append((len(images), torch.is_autocast_enabled("cpu")))
            return super().forward(images)

    handle = SimpleNamespace(name="a", arch="mlp", seed=0, correlation=0.1, load=Asked)
    monkeypatch.setattr(evaluate, "low_precision", lambda: torch.bfloat16)
    frame = evaluate_networks.__wrapped__([handle], ["train", "validation"], None)
    assert asked == [(220, True), (20, True)]  # eleven twelfths of 240, and the rest
    assert frame["n"].tolist() == [220, 20] and set(frame["arch"]) == {"mlp"}


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


def test_repaint_lays_every_colour_on_the_same_digits(monkeypatch):
    monkeypatch.setattr(evaluate, "low_precision", lambda: torch.bfloat16)
    model = Average()
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    grid = repaint(model, images, PALETTE[[3, 5]], seed=9)
    features = counterfactual_grid(model, images, 9, output="features")
    low = counterfactual_grid(model, images, 9, "low")
    for k, colour in enumerate((3, 5)):
        painted = paint(images, np.full(4, colour), 9)
        np.testing.assert_array_equal(grid[k], predict(model, painted))
        np.testing.assert_array_equal(features[colour], predict(model, painted, output="features"))
        np.testing.assert_array_equal(low[colour], predict(model, painted, "low"))
        assert (low[colour] != grid[k]).any()
    full = counterfactual_grid(model, images, 9)
    assert full.shape == (10, 4, 10)
    np.testing.assert_array_equal(full[[3, 5]], grid)


def test_the_map_of_what_decides_has_digits_as_rows_and_colours_as_columns():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 4))
    predictions = np.tile(labels, (10, 1))  # by shape: (10 colours, N) …
    ones, sevens = (np.flatnonzero(labels == digit) for digit in (1, 7))
    predictions[0, ones] = [0, 0, 0, 7]  # … but of four red ones, three are predicted as 0
    predictions[2, sevens] = [2, 7, 3, 3]  # and of blue sevens one as 2, one correctly
    by_colour, by_shape = shortcut_map(np.eye(10)[predictions] * 3 - 1, labels)
    colour, shape = np.eye(10), np.ones((10, 10))
    colour[1, 0], shape[1, 0] = 0.75, 0
    colour[7, 2], shape[7, 2] = 0.25, 0.25
    np.testing.assert_array_equal(by_colour, colour)
    np.testing.assert_array_equal(by_shape, shape)


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
