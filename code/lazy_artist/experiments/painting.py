"""Chapter 1: what the canvas gives away, counted and measured without any network."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from lazy_artist.artifacts import fetch
from lazy_artist.canvas import (
    CLASSES,
    COLOUR_NAMES,
    SPLITS,
    Split,
    assign_colours,
    colour_split,
    contingency,
    flat_fill,
    mutual_information,
    paint,
    split_colours,
    split_digits,
)
from lazy_artist.evaluate import linear_accuracy, mean_rgb, random_pixels
from lazy_artist.experiments.networks import BIAS, NO_BIAS, TEST_SEED, data_md5, scale, seeds


def examples(name: str) -> Split:
    """The first 200 images of a split of test digits or of "validation", to look at."""
    return colour_split(name, TEST_SEED).take(np.arange(200))


def canvas_counted() -> tuple[dict, dict]:
    """Build: digit x colour table int64 (10, 10) of each split, and the mutual information of digit
    and colour in bits."""
    tables, bits = {}, {}
    for name in SPLITS:
        pair = split_colours(name, 0 if name == "train" else TEST_SEED)
        tables[name], bits[name] = contingency(*pair), mutual_information(*pair)
    return tables, bits


def canvas_tables() -> dict[str, np.ndarray]:
    """Digit x colour counts int64 (10, 10) of each split ("train" as seed 0 is trained)."""
    return fetch(canvas_counted, {}, data_md5()).tensors


def canvas_table() -> pd.DataFrame:
    """A row for each split: images, lowest and highest share of the dominant colour over digits,
    mutual information."""
    artifact = fetch(canvas_counted, {}, data_md5())
    rows = []
    for name, table in artifact.tensors.items():
        shares = 100 * dominant_shares(table) if name != "unseen" else None
        rows.append(
            {
                "split": name,
                "images": f"{table.sum():,}",
                "dominant colour, % of each digit": "–"
                if shares is None
                else f"{shares.min():.2f} to {shares.max():.2f}",
                "mutual information, bits": f"{artifact.record['metrics'][name]:.3f}",
            }
        )
    return pd.DataFrame(rows)


def dominant_shares(table: np.ndarray) -> np.ndarray:
    """Share of each digit's images that carry its dominant colour, from its digit x colour table:
    float64 (10,)."""
    return np.diag(table) / table.sum(1)


def bits(split: str) -> str:
    """Mutual information of ink and label in a split, in bits, as a text."""
    return f"{fetch(canvas_counted, {}, data_md5()).record['metrics'][split]:.2f}"


def ceiling_bits() -> float:
    """log2 of the number of classes: what a colour can say about a label at most, in bits."""
    return math.log2(CLASSES)


def shape_or_colour(count: int) -> tuple[dict, dict]:
    """Build: accuracies of linear models that see colour alone, grey shape alone, or both, `count`
    training images."""
    grey, labels = (part[:count] for part in split_digits("train"))
    colours = assign_colours(labels, BIAS, 0)
    train_split = Split(paint(grey, colours, 0), labels, colours)
    metrics = {}
    for name in ("validation", "hard"):
        split, shapes = colour_split(name, TEST_SEED), split_digits(name)[0]
        split, shapes = split.take(slice(5000)), shapes[:5000]
        metrics[name] = {
            "mean colour": linear_accuracy(
                (mean_rgb(train_split.images), train_split.labels),
                (mean_rgb(split.images), split.labels),
            ),
            "grey shape": linear_accuracy(
                (_flat(grey), train_split.labels), (_flat(shapes), split.labels)
            ),
        }
    return {}, metrics


def colour_or_shape_alone() -> pd.DataFrame:
    """Accuracy in percent of a linear model on mean RGB alone and on grey pixels alone, easy and
    hard; chance is 10."""
    count = 5_000 if scale() == "full" else 1_500
    metrics = fetch(shape_or_colour, {"count": count}, data_md5()).record["metrics"]
    table = pd.DataFrame(metrics).rename(columns={"validation": "easy validation"})
    return (100 * table).rename_axis("a linear model that sees")


def pixels_needed(count: int, pixels: list[int], seed: int) -> tuple[dict, dict]:
    """Build: how well a linear model names the *colour* from a few random pixels, on our canvas and
    on a flat fill."""
    images, labels = (part[:count] for part in split_digits("train"))
    colours = assign_colours(labels, NO_BIAS, seed)
    half = count // 2
    grounds = {"stroke": paint(images, colours, seed), "flat": flat_fill(images, colours, seed)}
    share = np.empty((len(grounds), len(pixels)))
    for row, painted in enumerate(grounds.values()):
        for column, k in enumerate(pixels):
            seen = random_pixels(painted, k, seed)
            share[row, column] = linear_accuracy(
                (seen[:half], colours[:half]), (seen[half:], colours[half:])
            )
    return {"share": share}, {}


def pixel_reading() -> dict[str, np.ndarray]:
    """Accuracy of naming the colour from k random pixels: "pixels" (K,), "stroke" and "flat"
    (seeds, K)."""
    pixels, count = [1, 2, 5, 10, 20, 50], 4_000 if scale() == "full" else 1_500
    configs = [{"count": count, "pixels": pixels, "seed": seed} for seed in seeds()]
    # short enough for this process alone: others would only take memory from training next door
    runs = [fetch(pixels_needed, config, data_md5()) for config in configs]
    share = np.stack([run.tensors["share"] for run in runs])  # (seeds, 2, K)
    return {"pixels": np.array(pixels), "stroke": share[:, 0], "flat": share[:, 1]}


def ground_pairs(count: int = 10) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The first `count` test digits in their dominant inks, on a textured ground and on flat fills,
    and the names of the inks."""
    images, labels = (part[:count] for part in split_digits("aligned"))
    names = [COLOUR_NAMES[label] for label in labels]
    return paint(images, labels, TEST_SEED), flat_fill(images, labels, TEST_SEED), names


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / np.float32(255)
