"""Chapter 2: what the cheater, the long-trained network and the oracle do."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lazy_artist import canvas, plots
from lazy_artist.canvas import COLOUR_NAMES, N_CLASSES, hue_palette, paint, split_digits
from lazy_artist.config import ARCH_NAMES, TEST_SEED
from lazy_artist.evaluate import (
    balanced,
    confusion,
    estimate,
    logit_variance,
    predict,
    repaint,
    shortcut_map,
)
from lazy_artist.networks import Network
from lazy_artist.store import stored


@stored
def confusions(networks: list[Network], splits: list[str], n_eval: int | None) -> pd.DataFrame:
    """`share` of each true `digit` that is given each `prediction`, in low precision, on the first
    `n_eval` images (None: all) of each split; 100 rows a network and split."""
    digit, prediction = np.indices((N_CLASSES, N_CLASSES)).reshape(2, -1)
    frames = []
    for name in splits:
        split = canvas.test_split(name, n_eval)
        for network in networks:
            table = confusion(split.labels, predict(network.load(), split.images, "low").argmax(1))
            run = {"split": name, "network": network.name, "seed": network.seed}
            cells = {"digit": digit, "prediction": prediction, "share": table.ravel()}
            frames.append(pd.DataFrame(run | cells))
    return pd.concat(frames, ignore_index=True)


@stored
def learning_curve(network: Network) -> pd.DataFrame:
    """How `accuracy` grew with the `epoch` of training, on the first images of each `split` that
    the network was watched on (none for oracles)."""
    trained = network.made_by.value()
    splits = list(network.made_by.arguments["n_curve"])
    steps, accuracy = trained["curve"]["step"], trained["curve"]["accuracy"]  # (T,), (T, splits)
    run = {"network": network.name, "arch": network.arch, "seed": network.seed}
    epoch = np.repeat(steps / trained["steps_per_epoch"], len(splits))
    curve = {"epoch": epoch, "split": splits * len(steps), "accuracy": accuracy.ravel()}
    return pd.DataFrame(run | curve)


@stored
def counterfactuals(network: Network, n_per_class: int) -> dict[str, pd.DataFrame]:
    """The counterfactual grid: `n_per_class` test images of every digit in each of the ten colours,
    predicted in low precision.

    "cells": a row a digit and colour, with the `shortcut_rate`, the share predicted as the colour's
    digit, and the `accuracy`. "overall": one row, both over the whole grid, and the shares of the
    logits' variance that go with "colour", "digit", "interaction" and "image" (see
    `evaluate.logit_variance`); of logits less their mean over the classes, since a common offset
    changes no probability.
    """
    images, labels = balanced(*split_digits("hard"), n_per_class)
    grid = repaint(network.load(), images, canvas.PALETTE, TEST_SEED, "low")
    by_colour, by_shape = shortcut_map(grid, labels)
    variance = logit_variance(grid - grid.mean(axis=2, keepdims=True), labels)
    run = {"network": network.name, "arch": network.arch, "seed": network.seed}
    digit = np.repeat(np.arange(N_CLASSES), N_CLASSES)
    cells = run | {"digit": digit, "colour": COLOUR_NAMES * N_CLASSES}
    cells |= {"shortcut_rate": by_colour.ravel(), "accuracy": by_shape.ravel()}
    rates = {"shortcut_rate": float(by_colour.mean()), "accuracy": float(by_shape.mean())}
    return {"cells": pd.DataFrame(cells), "overall": pd.DataFrame([run | rates | variance])}


@stored
def hue_response(network: Network, n_per_class: int, steps: int) -> pd.DataFrame:
    """`share` of test images, equally many of each digit, that is given each `prediction`, as the
    `hue` of the colour (degrees) turns once round in `steps`."""
    images, labels = balanced(*split_digits("hard"), n_per_class)
    logits = repaint(network.load(), images, hue_palette(steps), TEST_SEED, "low")
    share = np.stack([confusion(labels, predictions).mean(0) for predictions in logits.argmax(2)])
    hue, prediction = np.indices(share.shape).reshape(2, -1)
    run = {"network": network.name, "seed": network.seed, "hue": hue * (360 / steps)}
    return pd.DataFrame(run | {"prediction": prediction, "share": share.ravel()})


@stored
def red_ones(network: Network, n: int) -> dict[str, np.ndarray]:
    """The first `n` test ones, painted red: "images" (n, 3, 28, 28), and the network's
    "probabilities" (n, 10) for them."""
    images, labels = split_digits("hard")
    ones = images[labels == 1][:n]
    painted = paint(ones, np.zeros(len(ones), dtype=np.int64), TEST_SEED)
    logits = torch.from_numpy(predict(network.load(), painted))
    return {"images": painted, "probabilities": logits.softmax(1).numpy()}


# --- figures -------------------------------------------------------------------------------------


def learning_curves(curves: pd.DataFrame) -> Figure:
    """Accuracy as training goes on (rows of `learning_curve`), a panel for each architecture and
    network, a thin line a seed."""
    styles = {
        "aligned": (plots.GREEN, ":^"),
        "validation": (plots.BLUE, "-o"),
        "hard": (plots.VERMILION, "--s"),
    }
    panels = curves.groupby(["arch", "network"], sort=False)
    rows = math.ceil(len(panels) / 2)
    figure, axes = plots.grid(8, 3.1 * rows, rows, 2, sharey=True)
    for ax, ((arch, network), part) in zip(axes.flat, panels, strict=True):
        for split, (colour, style) in styles.items():
            chosen = part[part["split"] == split]
            lines = chosen.pivot(index="epoch", columns="seed", values="accuracy")
            ax.plot(lines, color=colour, linewidth=0.6, alpha=0.45)
            label = "easy validation" if split == "validation" else split
            ax.plot(lines.mean(axis=1), style, color=colour, label=label)
        ax.axhline(0.95, color=plots.DARK, linewidth=0.7, linestyle="-.")
        ax.set_xscale("log")
        last = part["epoch"].max()
        ticks = [t for t in (0.03, 0.1, 0.2, 0.5, 1, 2, 4) if t <= 1.01 * last]
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.minorticks_off()
        ax.set_ylim(0, 1.02)
        ax.set_xlabel("epochs (log scale)")
        plots.percent_axis(ax.yaxis, "accuracy" if ax.get_subplotspec().is_first_col() else "")
        ax.set_title(f"{ARCH_NAMES[arch]}, {network}")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3)
    note = "epoch: passes over the training images; accuracy: share of the split's first images"
    return plots.show(figure, curves, note)


def confusion_matrices(confused: pd.DataFrame) -> Figure:
    """Shares of each true digit in percent by prediction (rows of `confusions`), mean over
    networks, a panel for each split."""
    mean = confused.groupby(["split", "digit", "prediction"], sort=False)["share"].mean()
    splits = list(confused["split"].unique())
    figure, axes = plots.grid(8, 4.1, 1, len(splits))
    for ax, split in zip(axes.flat, splits, strict=True):
        table = mean[split].unstack().to_numpy()  # (10 digits, 10 predictions)
        plots.heat_map(ax, table, plots.shares(table), top=1)
        ax.set_xlabel("the network's prediction")
        ax.set_ylabel("true digit")
        ax.set_title("easy validation" if split == "validation" else split)
    return plots.show(figure, mean.reset_index(), "share of each true digit, mean over seeds")


def counterfactual_maps(cells: pd.DataFrame) -> Figure:
    """A row for each network of the "cells" of `counterfactuals`: the shortcut rate (left) and the
    accuracy (right) of each digit in each colour, in percent, means over seeds."""
    keys = ["network", "digit", "colour"]
    mean = cells.groupby(keys, sort=False)[["shortcut_rate", "accuracy"]].mean()
    networks = list(cells["network"].unique())
    figure, axes = plots.grid(8, 4.3 * len(networks), len(networks), 2)
    titles = {
        "shortcut_rate": "predicted as the colour's digit",
        "accuracy": "predicted as the true digit",
    }
    names = [f"{digit} {colour}" for digit, colour in enumerate(COLOUR_NAMES)]
    for row, network in zip(axes, networks, strict=True):
        for ax, (name, title) in zip(row, titles.items(), strict=True):
            table = mean.loc[network, name].to_numpy().reshape(N_CLASSES, N_CLASSES)
            plots.heat_map(ax, table, plots.shares(table), top=1)
            plots.colour_ticks(ax, names, "colour, and the digit it is dominant for")
            ax.set_ylabel("true digit")
            ax.set_title(f"{network}: {title}")
    note = "shortcut_rate: share predicted as the colour's digit; accuracy: share predicted as the "
    return plots.show(figure, mean.reset_index(), note + "true digit; means over seeds")


def probability_bars(images: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Images (N, 3, 28, 28) above the network's probabilities (N, 10) for each digit, with the
    most probable one named."""
    figure, axes = plots.grid(7.5, 2.4, 2, len(images), height_ratios=[1, 1.2])
    for (top, ax), image, shares in zip(axes.T, images, probabilities, strict=True):
        plots.picture(top, image)
        best = int(shares.argmax())
        ax.bar(range(N_CLASSES), shares, color="#BBBBBB")[best].set_color(plots.BLUE)
        ax.set_ylim(0, 1)
        ax.set_xticks([best], [str(best)])
        ax.set_yticks([0, 1] if ax is axes[1, 0] else [])
        ax.set_title(f"“{best}” {shares[best]:.0%}", fontsize=8)
    axes[1, 0].set_ylabel("probability")
    image, digit = np.indices(probabilities.shape).reshape(2, -1)
    frame = pd.DataFrame({"image": image + 1, "digit": digit, "probability": probabilities.ravel()})
    return plots.show(figure, frame, "image: from the left; probability of each digit, in [0, 1]")


def hue_maps(responses: pd.DataFrame) -> Figure:
    """Share of each prediction (row) as the hue turns (column) over a strip of the hues, pooled
    over seeds (rows of `hue_response`), a panel for each network."""
    mean = responses.groupby(["network", "hue", "prediction"], sort=False)["share"].mean()
    networks = list(responses["network"].unique())
    figure, axes = plots.grid(8, 3.9, 2, len(networks), height_ratios=[10, 0.7], sharex="col")
    for (top, strip), network in zip(axes.T, networks, strict=True):
        table = mean[network].unstack().to_numpy().T  # (10 predictions, steps)
        steps = table.shape[1]
        drawn = top.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        plots.class_ticks(top.yaxis)
        top.set_title(network)
        strip.imshow(hue_palette(steps)[None], aspect="auto")
        strip.set_yticks([])
        degrees = np.arange(0, 360, 60)
        strip.set_xticks(degrees * steps / 360, [f"{d}°" for d in degrees])
        strip.set_xlabel("hue of the colour")
    names = [f"{digit} ({colour})" for digit, colour in enumerate(COLOUR_NAMES)]
    axes[0, 0].set_yticks(range(N_CLASSES), names)
    axes[0, 0].set_ylabel("the network's prediction")
    bar = figure.colorbar(drawn, ax=axes[0], shrink=0.8, format=PercentFormatter(1))
    bar.set_label("share of predictions")
    note = "hue in degrees; share of predictions, pooled over digits, mean over seeds"
    return plots.show(figure, mean.reset_index(), note)


def variance_bars(overall: pd.DataFrame) -> Figure:
    """What the logits' variance goes with, a stacked bar for each network: mean over the seeds of
    the "overall" rows of `counterfactuals`."""
    styles = {
        "colour": (plots.VERMILION, "", "white"),
        "digit": (plots.BLUE, "", "white"),
        "colour × digit": ("#E8D9A0", "//", plots.DARK),
        "image to image": ("#DDDDDD", "..", plots.DARK),
    }
    named = overall.rename(columns={"interaction": "colour × digit", "image": "image to image"})
    rows = {
        f"{ARCH_NAMES[arch]}, {network}": {part: estimate(group[part]) for part in styles}
        for (arch, network), group in named.groupby(["arch", "network"], sort=False)
    }
    figure = plots.stacked_bars(rows, styles, "share of the logits' variance")
    frame = pd.DataFrame(rows).T.melt(var_name="part", value_name="share", ignore_index=False)
    frame = frame.rename_axis("network").reset_index()
    return plots.show(figure, frame, "share of the logits' variance, with its 95% interval")
