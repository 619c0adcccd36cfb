"""Measuring a network: predictions, accuracies with intervals, confusion, and what happens when
only the colour changes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.special import stdtrit  # the quantiles of Student's t; scipy.stats is slow to import
from torch import nn

from lazy_artist.canvas import N_CLASSES, Split, colour_split, paint, test_split
from lazy_artist.forward import as_logits, asked, batches, home_of
from lazy_artist.interface import Array, check_classes, check_images, check_number, public
from lazy_artist.store import stored
from lazy_artist.training import low_precision

if TYPE_CHECKING:
    from lazy_artist.networks import Network


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


def percent(value: Estimate) -> str:
    """An estimate of a share in percent with its interval, such as "3.1 [2.0, 4.2]"."""
    scaled = tuple(100 * bound for bound in value.interval) if value.interval else None
    return Estimate(100 * value.mean, scaled, value.n).format("{:.1f}")


def summarise(
    frame: pd.DataFrame,
    by: str | list[str],
    values: str | list[str],
    bounds: tuple[float, float] = (0, 1),
) -> Any:
    """Estimates over the rows of each group, one row a seed: a frame of `Estimate`, indexed by `by`
    in the order of first appearance, with the columns `values`; a series for a single column."""
    columns = [values] if isinstance(values, str) else values
    groups = frame.groupby(by, sort=False)
    table = pd.DataFrame({column: groups[column].apply(estimate, bounds) for column in columns})
    if isinstance(table.index, pd.MultiIndex):  # with levels in order, as `unstack` puts them
        table.index = pd.MultiIndex.from_tuples(table.index, names=by)
    return table[values]


def split_table(measured: pd.DataFrame) -> pd.DataFrame:
    """The rows of `evaluate_networks` as estimates over seeds, indexed by "arch" and "network": a
    column for the accuracy on each split, "mixture", 0.1 aligned + 0.9 hard (Nam et al. 2020), and
    "shortcut rate", that on hard images. NaN where something was not measured."""
    keys = ["arch", "network", "seed"]
    wide = measured.pivot(index=keys, columns="split", values="accuracy")
    wide["mixture"] = 0.1 * wide["aligned"] + 0.9 * wide["hard"]
    wide["shortcut rate"] = measured[measured["split"] == "hard"].set_index(keys)["shortcut_rate"]
    long = wide.melt(var_name="split", ignore_index=False).dropna().reset_index()
    return summarise(long, [*keys[:2], "split"], "value").unstack("split")


@public
def predict(
    model: nn.Module,
    images: Array,
    precision: str = "float32",
    output: str = "logits",
    batch_size: int = 500,
) -> Array:
    """Logits float32 (N, K) of images (N, C, H, W) in [0, 1], in eval mode.

    precision: "float32", or "low": the arithmetic of training (bfloat16 where the device has
    it), twice as fast and rounded on the way, which is near enough where the predictions of
    thousands of images are counted. output: "logits", or "features", what `model.features` returns.
    Raises ValueError for images of another shape or range, an unknown precision or output, and a
    model that does not return logits.
    """
    images = check_images(images)
    if precision not in ("float32", "low"):
        raise ValueError(f"unknown precision {precision!r}: choose float32 or low")
    if output not in ("logits", "features"):
        raise ValueError(f"unknown output {output!r}: choose logits or features")
    device = home_of(model)[0]
    low = precision == "low" and low_precision(device) == torch.bfloat16
    forward = model if output == "logits" else model.features
    with (
        asked(model) as ask,
        torch.inference_mode(),
        torch.autocast(device.type, torch.bfloat16, enabled=low),
    ):
        parts = [
            as_logits(ask(part, forward), len(part)).cpu() for part in batches(images, batch_size)
        ]
    return torch.cat(parts).numpy() if parts else np.empty((0, N_CLASSES), np.float32)


@public
def accuracy(model: nn.Module, split: Split) -> float:
    """Share of the split's images that the model classifies correctly."""
    labels = check_classes(split.labels, len(split.images), "labels", below=None)
    return float(np.mean(predict(model, split.images).argmax(1) == labels))


@public
def shortcut_rate(model: nn.Module, split: Split) -> float:
    """Share of the split's images whose predicted class is the digit that the *colour* is dominant
    for."""
    colours = check_classes(split.colours, len(split.images), "colours", below=None)
    return float(np.mean(predict(model, split.images).argmax(1) == colours))


@stored
def evaluate_networks(
    networks: list[Network], splits: list[str], n_eval: int | None
) -> pd.DataFrame:
    """How networks fare on the first `n_eval` images (None: all) of each split, in low precision.

    One row a network and split: "network" (its name), "arch", "seed", "split", "n" (images),
    "accuracy", "shortcut_rate" (share of predictions that are the colour's digit), both in [0, 1].
    "train" is each network's own.
    """
    models = [network.load() for network in networks]
    rows = []
    for name in splits:
        shared = None if name == "train" else test_split(name, n_eval)
        for network, model in zip(networks, models, strict=True):
            split = shared or colour_split(name, network.seed, network.correlation)
            split = split.take(slice(n_eval))
            predictions = predict(model, split.images, "low").argmax(1)
            run = {"network": network.name, "arch": network.arch, "seed": network.seed}
            run |= {"split": name, "n": len(split)}
            run["accuracy"] = float(np.mean(predictions == split.labels))
            run["shortcut_rate"] = float(np.mean(predictions == split.colours))
            rows.append(run)
    return pd.DataFrame(rows)


@public
def confusion(labels: Array, predictions: Array) -> Array:
    """Row-normalised confusion matrix float64 (10, 10): share of digit r (row) that is predicted
    as c (column). labels, predictions: integers (N,)."""
    labels = check_classes(labels, len(labels), "labels")
    predictions = check_classes(predictions, len(labels), "predictions")
    table = np.zeros((N_CLASSES, N_CLASSES))
    np.add.at(table, (labels, predictions), 1)
    return table / np.maximum(table.sum(axis=1, keepdims=True), 1)


@public
def balanced(images: Array, labels: Array, n_per_class: int) -> tuple[Array, Array]:
    """The first `n_per_class` images of every digit, ordered by digit. Raises ValueError if a digit
    has fewer."""
    labels = check_classes(labels, len(images), "labels")
    counts = np.bincount(labels, minlength=N_CLASSES)
    if counts.min() < n_per_class:
        digit = int(counts.argmin())
        raise ValueError(
            f"digit {digit} has {counts[digit]} images, fewer than the {n_per_class} asked for"
        )
    index = np.concatenate(
        [np.flatnonzero(labels == digit)[:n_per_class] for digit in range(N_CLASSES)]
    )
    return images[index], labels[index]


@public
def repaint(
    model: nn.Module,
    images: Array,
    palette: Array,
    seed: int,
    precision: str = "float32",
    output: str = "logits",
) -> Array:
    """The same digits in every colour of a palette: logits float32 (K, N, 10). With the ten of
    `PALETTE` this is the counterfactual grid.

    images: grey uint8 (N, 28, 28); palette: (K, 3). All K versions of an image share background,
    grain and jitter: nothing but the colour differs (see `canvas.paint`). precision, output: as for
    `predict`; features are float32 (K, N, F).
    """
    ids = np.zeros(len(images), dtype=np.int64)
    return np.stack(
        [
            predict(model, paint(images, ids + k, seed, palette), precision, output)
            for k in range(len(palette))
        ]
    )


def check_grid(grid: np.ndarray, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """A counterfactual grid (10 colours, N, K), and its labels int64 (N,)."""
    if grid.ndim != 3 or len(grid) != N_CLASSES:
        raise ValueError(f"grid must have shape (10 colours, N images, K), not {grid.shape}")
    return grid, check_classes(labels, grid.shape[1], "labels")


@public
def shortcut_map(grid: Array, labels: Array) -> tuple[Array, Array]:
    """What decides, cell by cell of the counterfactual grid (10 colours, N, 10): colour or shape?

    Returns two float64 (10 digits, 10 colours): the share of each cell predicted as the colour's
    digit, and the share predicted as the true digit. On the diagonal the two are the same.
    """
    grid, labels = check_grid(grid, labels)
    predictions = grid.argmax(2)  # (10 colours, N)
    by_colour, by_shape = np.zeros((2, N_CLASSES, N_CLASSES))
    for digit in range(N_CLASSES):
        cell = predictions[:, labels == digit]  # (10 colours, n)
        by_colour[digit] = (cell == np.arange(N_CLASSES)[:, None]).mean(1)
        by_shape[digit] = (cell == digit).mean(1)
    return by_colour, by_shape


@public
def logit_variance(grid: Array, labels: Array) -> dict[str, float]:
    """Shares of the variance of the logits that colour, digit, their interaction, and the rest
    account for.

    Two-way analysis of variance with fixed effects on a balanced grid: `grid` (10 colours, N, 10
    classes), `labels` with equally many images of each digit. Sums of squares are taken per class
    around that class's mean and added up over the ten classes. What remains ("image") varies from
    image to image within a cell. The four shares add up to 1.

    Raises ValueError if the digits are not equally frequent.
    """
    grid, labels = check_grid(grid, labels)
    counts = np.bincount(labels, minlength=N_CLASSES)
    if len(set(counts)) != 1:
        raise ValueError(
            f"the grid must hold equally many images of each digit, not {counts.tolist()}"
        )
    logits = grid.astype(np.float64) - grid.mean(axis=(0, 1), dtype=np.float64)
    cells = np.stack([logits[:, labels == digit].mean(1) for digit in range(N_CLASSES)], axis=1)
    colour = cells.mean(1, keepdims=True)  # (10 colours, 1, 10 classes)
    digit = cells.mean(0, keepdims=True)  # (1, 10 digits, 10 classes)
    total = np.square(logits).mean(axis=(0, 1)).sum()
    parts = {
        "colour": np.square(colour).mean(axis=(0, 1)).sum() / total,
        "digit": np.square(digit).mean(axis=(0, 1)).sum() / total,
        "interaction": np.square(cells - colour - digit).mean(axis=(0, 1)).sum() / total,
    }
    return {**parts, "image": 1 - sum(parts.values())}


@public
def linear_accuracy(train: tuple[Array, Array], test: tuple[Array, Array]) -> float:
    """Accuracy on `test` of a logistic regression fitted on `train`; each is (features (N, F),
    labels (N,))."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, tol=1e-3))
    return float(model.fit(*train).score(*test))


@public
def random_pixels(images: Array, count: int, seed: int) -> Array:
    """RGB of `count` pixels, drawn anew for each image without replacement and sorted by
    brightness: (N, 3 * count), of images (N, 3, H, W)."""
    images = check_images(images, channels=3)
    n, pixels = len(images), images.reshape(len(images), 3, -1)  # (N, 3, H * W)
    check_number(count, "count", 1, pixels.shape[2], whole=True)
    draws = np.random.default_rng(seed).random((n, pixels.shape[2]))
    where = draws.argpartition(count - 1, axis=1)[:, :count]  # (N, count)
    pixels = np.take_along_axis(pixels, where[:, None], axis=2)  # (N, 3, count)
    order = pixels.sum(1).argsort(axis=1)  # (N, count)
    return np.take_along_axis(pixels, order[:, None], axis=2).reshape(n, -1)
