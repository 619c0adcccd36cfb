"""Chapter 1: what the canvas gives away, counted and measured without any network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lazy_artist import canvas, plots
from lazy_artist.config import BIAS, NO_BIAS, TEST_SEED
from lazy_artist.evaluate import linear_accuracy, random_pixels
from lazy_artist.store import stored


@stored
def count_colours(splits: list[str]) -> dict[str, Any]:
    """How digit and colour go together ("train" as seed 0 is trained): {"counts": a row a split,
    digit and colour, with `dominant`, whether the colour is the digit's own, and `images`, their
    number; "bits": the mutual information of digit and colour by split, 0 to log2 10 = 3.32}."""
    frames, bits = [], {}
    for name in splits:
        labels, colours = canvas.split_colours(name, 0 if name == "train" else TEST_SEED)
        names = canvas.UNSEEN_NAMES if name == "unseen" else canvas.COLOUR_NAMES
        digit, colour = np.indices((canvas.N_CLASSES, canvas.N_CLASSES)).reshape(2, -1)
        cells = {"split": name, "digit": digit, "colour": np.array(names)[colour]}
        cells["dominant"] = (digit == colour) & (name != "unseen")
        cells["images"] = canvas.contingency(labels, colours).ravel()
        frames.append(pd.DataFrame(cells))
        bits[name] = canvas.mutual_information(labels, colours)
    return {"counts": pd.concat(frames, ignore_index=True), "bits": bits}


@stored
def example_pictures(n_per_class: int) -> dict[str, Any]:
    """Pictures uint8 (n, 3, 28, 28). "validation", "hard": for each digit the first `n_per_class`
    of the split, "images", with their "colours". "unseen": the first in each colour of that split.
    "stroke", "flat fill": the first ten test digits as `canvas.paint` and `canvas.flat_fill` draw
    them in their dominant colours, which "digits" names."""

    def as_bytes(images: np.ndarray) -> np.ndarray:
        return np.round(255 * images).astype(np.uint8)

    shown: dict[str, Any] = {}
    for name in ("validation", "hard"):
        split = canvas.colour_split(name, TEST_SEED)
        found = [np.flatnonzero(split.labels == k)[:n_per_class] for k in range(canvas.N_CLASSES)]
        shown[name] = {
            "images": [as_bytes(split.images[index]) for index in found],
            "colours": [[canvas.COLOUR_NAMES[k] for k in split.colours[index]] for index in found],
        }
    unseen = canvas.colour_split("unseen", TEST_SEED)
    first = [list(unseen.colours).index(10 + k) for k in range(10)]
    images, labels = (part[:10] for part in canvas.split_digits("aligned"))
    return shown | {
        "unseen": as_bytes(unseen.images[first]),
        "stroke": as_bytes(canvas.paint(images, labels, TEST_SEED)),
        "flat fill": as_bytes(canvas.flat_fill(images, labels, TEST_SEED)),
        "digits": [canvas.COLOUR_NAMES[label] for label in labels],
    }


@stored
def colour_or_shape(n_train: int, n_eval: int) -> pd.DataFrame:
    """`accuracy` of linear models that see (`sees`) an image's mean colour alone or its grey pixels
    alone, on the first `n_eval` images of each `split`."""
    grey, labels = (part[:n_train] for part in canvas.split_digits("train"))
    painted = canvas.paint(grey, canvas.assign_colours(labels, BIAS, 0), 0)
    rows = []
    for name in ("validation", "hard"):
        split = canvas.colour_split(name, TEST_SEED).take(slice(n_eval))
        shapes = canvas.split_digits(name)[0][:n_eval]
        seen = {
            "mean colour": [x.mean(axis=(2, 3)) for x in (painted, split.images)],
            "grey shape": [x.reshape(len(x), -1) / np.float32(255) for x in (grey, shapes)],
        }
        for sees, (train, test) in seen.items():
            accuracy = linear_accuracy((train, labels), (test, split.labels))
            rows.append({"sees": sees, "split": name, "accuracy": accuracy})
    return pd.DataFrame(rows)


@stored
def colour_from_pixels(n: int, pixels: list[int], seed: int) -> pd.DataFrame:
    """`accuracy` of a linear model that names an image's *colour* from a few random `pixels`, on
    each `canvas`; one half of `n` training images is for fitting, the other for the test."""
    images, labels = (part[:n] for part in canvas.split_digits("train"))
    colours, half = canvas.assign_colours(labels, NO_BIAS, seed), n // 2
    rows = []
    for kind, draw in (("stroke on texture", canvas.paint), ("flat fill", canvas.flat_fill)):
        painted = draw(images, colours, seed)
        for count in pixels:
            seen = random_pixels(painted, count, seed)
            accuracy = linear_accuracy((seen[:half], colours[:half]), (seen[half:], colours[half:]))
            rows.append({"canvas": kind, "pixels": count, "seed": seed, "accuracy": accuracy})
    return pd.DataFrame(rows)


# --- figures -------------------------------------------------------------------------------------


def temptation(examples: dict[str, Any], measured: pd.DataFrame) -> Figure:
    """Examples (`example_pictures`) of easy and of hard images, and beside each row how often the
    linear models of `colour_or_shape` are right on such images."""
    figure = plots.Figure(figsize=(plots.WIDTH, 2.0))
    left, right = figure.subfigures(1, 2, width_ratios=[1.6, 1])
    digits, titles = (0, 1, 3, 5, 7, 8), {"validation": "easy", "hard": "hard"}
    bars = right.subplots(2, 1, sharex=True)
    rows = zip(left.subplots(2, len(digits)), bars, titles.items(), strict=True)
    shares = measured.set_index(["split", "sees"])["accuracy"]
    styles = {
        "mean colour": ("colour alone", plots.VERMILION, ""),
        "grey shape": ("shape alone", plots.BLUE, "//"),
    }
    for row, ax, (split, title) in rows:
        row[0].text(-0.3, 0.5, title, transform=row[0].transAxes, ha="right", va="center")
        images, colours = (examples[split][name] for name in ("images", "colours"))
        for picture, digit in zip(row, digits, strict=True):
            plots.picture(picture, images[digit][0], colours[digit][0])
        names, looks, hatches = zip(*(styles[sees] for sees in styles), strict=True)
        values = [shares[split, sees] for sees in styles]
        drawn = ax.barh(names, values, color=looks, hatch=hatches, edgecolor="white")
        ax.bar_label(drawn, [f"{share:.0%}" for share in values], padding=3)
        ax.axvline(0.1, color=plots.DARK, linewidth=0.8, linestyle=":")
        ax.invert_yaxis()
        ax.set_xlim(0, 1.15)
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
        ax.tick_params(length=0)
    bars[0].set_title("a linear model is right on")
    note = "accuracy of a linear model that sees the mean colour or the grey shape alone, a share"
    return plots.show(figure, measured, note)


def palette() -> Figure:
    """The ten colours with digit and name, as most people see them and under three colour
    deficiencies."""
    views = ("typical sight", *canvas.DEFICIENCIES)
    figure, axes = plots.grid(plots.WIDTH, 2.6)
    ax = axes[0, 0]
    seen = [canvas.simulate_deficiency(canvas.PALETTE, view) for view in views[1:]]
    ax.imshow(np.stack([canvas.PALETTE, *seen]), aspect="auto")
    ax.set_yticks(range(len(views)), views)
    names = [f"{digit}\n{name}" for digit, name in enumerate(canvas.COLOUR_NAMES)]
    ax.set_xticks(range(len(names)), names)
    ax.set_xticks(np.arange(canvas.N_CLASSES + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(views) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=3)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    return figure


def contact_sheet(examples: dict[str, Any], n_per_class: int) -> Figure:
    """For each digit (row) its first images of two splits, with the names of their colours; of
    `example_pictures`."""
    figure = plots.Figure(figsize=(plots.WIDTH, 8.6))
    titles = {"validation": "easy validation", "hard": "hard"}
    for part, (name, title) in zip(figure.subfigures(1, 2), titles.items(), strict=True):
        part.suptitle(title)
        for digit, row in enumerate(part.subplots(canvas.N_CLASSES, n_per_class)):
            row[0].text(-0.35, 0.5, str(digit), transform=row[0].transAxes, va="center")
            images, colours = (values[digit] for values in examples[name].values())
            for ax, image, colour in zip(row, images, colours, strict=False):
                plots.picture(ax, image, colour)
    return figure


def contingency_tables(counts: pd.DataFrame) -> Figure:
    """How the images of each digit (row) share in the colours (column), a panel for each split of
    `count_colours`."""
    figure, axes = plots.grid(plots.WIDTH, 3.4, 1, counts["split"].nunique())
    for ax, (name, part) in zip(axes.flat, counts.groupby("split", sort=False), strict=True):
        table = part["images"].to_numpy().reshape(canvas.N_CLASSES, canvas.N_CLASSES)
        shares = table / table.sum(axis=1, keepdims=True)
        drawn = ax.imshow(shares, cmap="Blues", norm=PowerNorm(0.4, 0, 1), aspect="auto")
        plots.colour_ticks(ax, canvas.UNSEEN_NAMES if name == "unseen" else canvas.COLOUR_NAMES)
        plots.class_ticks(ax.yaxis)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_ylabel("digit")
        ax.set_title(f"{name} ({table.sum():,} images)")
    bar = figure.colorbar(
        drawn, ax=axes, ticks=[0, 0.01, 0.1, 0.5, 0.95], format=PercentFormatter(1)
    )
    bar.set_label("of the digit's images")
    note = "dominant: whether the colour is the digit's own; images: how many"
    return plots.show(figure, counts, note)


def pixel_curves(reading: pd.DataFrame) -> Figure:
    """How often the colour is named correctly from k random pixels (rows of `colour_from_pixels`),
    a thin line a seed."""
    figure, axes = plots.grid(plots.WIDTH, 2.9)
    ax = axes[0, 0]
    styles = {"flat fill": (plots.VERMILION, "--s"), "stroke on texture": (plots.BLUE, "-o")}
    for kind, (colour, style) in styles.items():
        part = reading[reading["canvas"] == kind]
        lines = part.pivot(index="pixels", columns="seed", values="accuracy")
        ax.plot(lines, color=colour, linewidth=0.7, alpha=0.5)
        ax.plot(lines.mean(axis=1), style, color=colour, label=kind)
    ax.axhline(0.1, color=plots.DARK, linewidth=0.8, linestyle=":", label="chance")
    ax.set_xscale("log")
    ax.set_xticks(lines.index, [str(k) for k in lines.index])
    ax.minorticks_off()
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("pixels seen")
    plots.percent_axis(ax.yaxis, "colour named correctly")
    ax.legend(loc="center right", bbox_to_anchor=(1, 0.3))
    return plots.show(figure, reading, "accuracy of naming the colour, a share; a row a seed")
