"""Measuring a network: accuracies with intervals, confusion, and what happens when only the colour
changes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import stdtrit  # the quantiles of Student's t; scipy.stats is slow to import
from torch import nn

from lazy_artist.canvas import CLASSES, PALETTE, Split, paint


class Estimate(NamedTuple):
    """A mean over seeds with its 95% interval (None for a single seed) and the number of seeds."""

    mean: float
    interval: tuple[float, float] | None
    n: int

    def __str__(self) -> str:
        return self.format("{:.3f}")

    def format(self, number: str) -> str:
        """For tables: mean and interval, each by the format string `number`, such as "{:.1%}"."""
        if self.interval is None:
            return number.format(self.mean)
        low, high = (number.format(bound) for bound in self.interval)
        return f"{number.format(self.mean)} [{low}, {high}]"


def estimate(values: Iterable[float], bounds: tuple[float, float] = (0, 1)) -> Estimate:
    """Mean of one value a seed, with the 95% interval of Student's t, cut at `bounds` (those of a
    share by default).

    mean ± t(0.975, n - 1) * s / sqrt(n). With one seed there is no interval. Raises ValueError for
    no values at all.
    """
    values = np.asarray(list(values), dtype=np.float64)
    if not len(values):
        raise ValueError("an estimate needs the value of at least one seed")
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return Estimate(mean, None, 1)
    reach = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, (max(mean - reach, bounds[0]), min(mean + reach, bounds[1])), n)


def predict(model: nn.Module, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """Logits float32 (N, 10) of images float32 (N, 3, 28, 28) in [0, 1], in float32 and eval mode.

    The model is left in the mode it was in. Raises ValueError for images of another type, shape or
    range.
    """
    check_images(images)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            parts = [
                model(
                    torch.from_numpy(images[i : i + batch_size]).contiguous(
                        memory_format=torch.channels_last
                    )
                )
                for i in range(0, len(images), batch_size)
            ]
    finally:
        model.train(training)
    return torch.cat(parts).numpy() if parts else np.empty((0, CLASSES), np.float32)


def check_images(images: np.ndarray) -> None:
    """Raises ValueError unless images are float32 (N, 3, 28, 28) in [0, 1]."""
    if images.dtype != np.float32 or images.ndim != 4 or images.shape[1:] != (3, 28, 28):
        raise ValueError(
            f"images must be float32 (N, 3, 28, 28), not {images.dtype} {images.shape}"
        )
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError("images must lie in [0, 1]; divide grey values of 0..255 by 255")


def accuracy(model: nn.Module, split: Split) -> float:
    """Share of the split's images that the model classifies rightly."""
    return float(np.mean(predict(model, split.images).argmax(1) == split.labels))


def follows(model: nn.Module, split: Split) -> float:
    """Share of the split's images whose predicted class is the digit that the *colour* is dominant
    for."""
    return float(np.mean(predict(model, split.images).argmax(1) == split.colours))


def confusion(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Row-normalised confusion matrix float64 (10, 10): share of digit r (row) that is called c
    (column)."""
    table = np.zeros((CLASSES, CLASSES))
    np.add.at(table, (labels, predictions), 1)
    return table / np.maximum(table.sum(axis=1, keepdims=True), 1)


def balanced(images: np.ndarray, labels: np.ndarray, each: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `each` images of every digit, ordered by digit. Raises ValueError if a digit has
    fewer."""
    counts = np.bincount(labels, minlength=CLASSES)
    if counts.min() < each:
        digit = int(counts.argmin())
        raise ValueError(
            f"digit {digit} has {counts[digit]} images, fewer than the {each} asked for"
        )
    index = np.concatenate([np.flatnonzero(labels == digit)[:each] for digit in range(CLASSES)])
    return images[index], labels[index]


def repaint(model: nn.Module, images: np.ndarray, palette: np.ndarray, seed: int) -> np.ndarray:
    """The same digits in every colour of a palette: logits float32 (K, N, 10).

    images: grey uint8 (N, 28, 28); palette: (K, 3). All K versions of an image share ground, grain
    and jitter: nothing but the colour differs (see `canvas.paint`).
    """
    ids = np.zeros(len(images), dtype=np.int64)
    return np.stack(
        [predict(model, paint(images, ids + k, seed, palette)) for k in range(len(palette))]
    )


def counterfactual_grid(model: nn.Module, images: np.ndarray, seed: int) -> np.ndarray:
    """Every digit in each of the ten palette colours: logits float32 (10 colours, N, 10 classes);
    see `repaint`."""
    return repaint(model, images, PALETTE, seed)


def follow_map(grid: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What decides, cell by cell of the counterfactual grid (10 colours, N, 10): colour or shape?

    Returns two float64 (10 digits, 10 colours): the share of each cell that is called the colour's
    digit, and the share that is called the true digit. On the diagonal the two are the same.
    """
    predictions = grid.argmax(2)  # (10 colours, N)
    by_colour, by_shape = np.zeros((2, CLASSES, CLASSES))
    for digit in range(CLASSES):
        called = predictions[:, labels == digit]  # (10 colours, n)
        by_colour[digit] = (called == np.arange(CLASSES)[:, None]).mean(1)
        by_shape[digit] = (called == digit).mean(1)
    return by_colour, by_shape


def logit_variance(grid: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Shares of the variance of the logits that colour, digit, their interaction, and the rest
    account for.

    Two-way analysis of variance with fixed effects on a balanced grid: `grid` (10 colours, N, 10
    classes), `labels` with equally many images of each digit. Sums of squares are taken per class
    around that class's mean and added up over the ten classes. What remains ("image") varies from
    image to image within a cell. The four shares add up to 1.

    Raises ValueError if the digits are not equally frequent.
    """
    counts = np.bincount(labels, minlength=CLASSES)
    if len(set(counts)) != 1:
        raise ValueError(
            f"the grid must hold equally many images of each digit, not {counts.tolist()}"
        )
    logits = grid.astype(np.float64) - grid.mean(axis=(0, 1), dtype=np.float64)
    cells = np.stack([logits[:, labels == digit].mean(1) for digit in range(CLASSES)], axis=1)
    colour = cells.mean(1, keepdims=True)  # (10 colours, 1, 10 classes)
    digit = cells.mean(0, keepdims=True)  # (1, 10 digits, 10 classes)
    total = np.square(logits).mean(axis=(0, 1)).sum()
    parts = {
        "colour": np.square(colour).mean(axis=(0, 1)).sum() / total,
        "digit": np.square(digit).mean(axis=(0, 1)).sum() / total,
        "interaction": np.square(cells - colour - digit).mean(axis=(0, 1)).sum() / total,
    }
    return {**parts, "image": 1 - sum(parts.values())}


def linear_accuracy(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> float:
    """Accuracy on `test` of a logistic regression fitted on `train`; each is (features (N, F),
    labels (N,))."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, tol=1e-3))
    return float(model.fit(*train).score(*test))


def mean_rgb(images: np.ndarray) -> np.ndarray:
    """Average colour (N, 3) of images (N, 3, 28, 28): all that is left when shape is thrown
    away."""
    return images.mean(axis=(2, 3))


def random_pixels(images: np.ndarray, count: int, seed: int) -> np.ndarray:
    """RGB of `count` pixels, drawn anew for each image without replacement and sorted by
    brightness: (N, 3 * count)."""
    n = len(images)
    rng = np.random.default_rng(seed)
    where = rng.random((n, 28 * 28)).argpartition(count - 1, axis=1)[:, :count]  # (N, count)
    pixels = np.take_along_axis(images.reshape(n, 3, -1), where[:, None], axis=2)  # (N, 3, count)
    order = pixels.sum(1).argsort(axis=1)  # (N, count)
    return np.take_along_axis(pixels, order[:, None], axis=2).reshape(n, -1)
