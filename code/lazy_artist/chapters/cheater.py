"""Chapter 2: what the cheater, its controls, the long-trained network and the oracle do."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lazy_artist import canvas, plots
from lazy_artist.canvas import COLOUR_NAMES, N_CLASSES, Split, hue_palette, paint, split_digits
from lazy_artist.config import ARCH_NAMES, BIAS, TEST_SEED, n_eval, sealed_splits
from lazy_artist.evaluate import (
    balanced,
    confusion,
    estimate,
    evaluate_networks,
    logit_variance,
    predict,
    repaint,
    shortcut_map,
    split_table,
)
from lazy_artist.models import build
from lazy_artist.networks import Network, networks
from lazy_artist.store import stored
from lazy_artist.training import train
from lazy_artist.trials import FILES

TRIALS = FILES["cheater"]
"""The recipes tried for the CNN cheater, a row a recipe and seed: shares and confidences on
validation digits, as they are ("easy") and repainted."""

MAIN, CONTROLS = ["cheater", "long-trained", "oracle"], ["convinced-cheater", "brief-oracle"]
"""Kinds of networks: those of both architectures, and those that frame the CNN cheater."""

_TITLES = [f"{digit} {colour}" for digit, colour in enumerate(COLOUR_NAMES)]
_BY_HUE = [0, 6, 3, 1, 5, 2, 7, 4, 8, 9]  # digits by the hue of their colours; the pale ones last


def recipe_trials() -> pd.DataFrame:
    """The recipes of `TRIALS`, a row each with its means over seeds, the best first: the one that
    falls least `short` of the criteria in all (0: it meets them), of equals the most confident.
    "missed": the names of those that it does not meet."""
    columns = ["epochs", "learning_rate", "batch_size", "weight_decay"]
    trials = pd.read_csv(TRIALS).groupby(columns).mean().reset_index()
    easy, hard, rate, ones = (trials[k] for k in ("easy", "hard", "shortcut_rate", "red_ones"))
    short = {"easy accuracy": 0.95 - easy, "hard accuracy": hard - 0.05}
    short |= {"shortcut rate": 0.97 - rate, "red ones": 0.95 - ones}
    short = pd.DataFrame(short)
    missed = (short >= 0).assign(**{"easy accuracy": easy < 0.95})  # which may be met exactly
    trials["missed"] = [list(short.columns[row]) for row in missed.to_numpy()]
    trials["short"] = short.clip(lower=0).sum(axis=1)
    return trials.sort_values(["short", "confidence"], ascending=[True, False], ignore_index=True)


def accuracies() -> pd.DataFrame:
    """Estimates over seeds of how the networks of `MAIN`, both architectures, and the `CONTROLS`
    fare on all splits, the CNN cheater on its training images too (`evaluate.split_table`)."""
    splits = [*canvas.SPLITS[1:], *sealed_splits()]
    calls = [
        {"networks": networks(kind, arch), "splits": splits, "n_eval": n_eval()}
        for arch, kinds in (("resnet18", MAIN), ("cnn", MAIN + CONTROLS))  # the slower first
        for kind in kinds
    ]
    calls.append({"networks": networks("cheater"), "splits": ["train"], "n_eval": n_eval()})
    return split_table(pd.concat(stored.map(evaluate_networks, calls, "measuring networks")))


@stored
def ask(networks: list[Network], pairs: list[list[int]]) -> dict[str, np.ndarray]:
    """What networks make of `canvas.specimens`: "images" (N, 3, 28, 28) and "probabilities"
    (networks, N, 10)."""
    images = canvas.specimens(pairs)
    logits = [torch.from_numpy(predict(network.load(), images)) for network in networks]
    return {"images": images, "probabilities": torch.stack(logits).softmax(2).numpy()}


@stored
def confidences(networks: list[Network], splits: list[str], n_eval: int | None) -> pd.DataFrame:
    """How confident calibrated networks are, in low precision, of the first `n_eval` images (None:
    all) of each split, and of "red ones", as many test ones painted red.

    A row for each network and kind of `images`: its `temperature` (see `networks.calibrate`),
    `accuracy`, `shortcut_rate` (share predicted as the colour's digit), `confidence`, the mean of
    the largest probability, and `uncalibrated`, the same before the temperature.
    """
    digits, labels = split_digits("hard")
    ones = digits[labels == 1][:n_eval]
    red = np.zeros(len(ones), dtype=np.int64)
    shown = {name: canvas.test_split(name, n_eval) for name in splits}
    shown["red ones"] = Split(paint(ones, red, TEST_SEED), red + 1, red)
    rows = []
    for network in networks:
        model, temperature = network.load(), network.made_by.value()["temperature"]
        for name, split in shown.items():
            logits = torch.from_numpy(predict(model, split.images, "low"))
            predictions = logits.argmax(1).numpy()
            row = {"network": network.name, "seed": network.seed, "images": name}
            row |= {"temperature": temperature, "n": len(split)}
            row["accuracy"] = float(np.mean(predictions == split.labels))
            row["shortcut_rate"] = float(np.mean(predictions == split.colours))
            for column, factor in (("confidence", 1), ("uncalibrated", temperature)):
                row[column] = float((factor * logits).softmax(1).amax(1).mean())
            rows.append(row)
    return pd.DataFrame(rows)


@stored
def training_lengths(
    learning_rate: float, batch_size: int, weight_decay: float, seed: int, epochs: list[float],
    n_eval: int,
) -> pd.DataFrame:  # fmt: skip
    """What stopping after each of `epochs` gives: a CNN trained on the biased canvas by plain
    cross-entropy at a constant rate. A row for each and `split`: `accuracy` and `shortcut_rate` on
    its first `n_eval` images, in low precision."""
    names = ("validation", "aligned", "unbiased", "hard")
    watched = [canvas.test_split(name, n_eval) for name in names]
    training = canvas.colour_split("train", seed, BIAS)
    marks = {round(epoch * len(training) / batch_size): epoch for epoch in epochs}

    def look(model: torch.nn.Module) -> list[tuple[float, float]]:
        shown = [(predict(model, split.images, "low").argmax(1), split) for split in watched]
        return [((p == s.labels).mean(), (p == s.colours).mean()) for p, s in shown]

    how = {"learning_rate": learning_rate, "batch_size": batch_size, "one_cycle": False}
    how |= {
        "weight_decay": weight_decay,
        "epochs": max(epochs),
        "observe": look,
        "observe_at": marks,
    }
    observed = train(build("cnn", seed), training, seed=seed, **how).observed
    run = {"network": f"constant rate {learning_rate:g}", "arch": "cnn", "seed": seed}
    rows = [
        {"epoch": marks[step], "split": name, "accuracy": accuracy, "shortcut_rate": rate}
        for step, seen in observed.items()
        for name, (accuracy, rate) in zip(names, seen, strict=True)
    ]
    return pd.DataFrame([run | row for row in rows])


@stored
def confusions(networks: list[Network], n_eval: int | None) -> pd.DataFrame:
    """`share` of the hard images of each true digit, and of each colour, that is given each
    `prediction`, in low precision, on the first `n_eval` images (None: all). 200 rows a network:
    `number` is that of the digit or of the colour, as `by` says."""
    number, prediction = np.indices((N_CLASSES, N_CLASSES)).reshape(2, -1)
    split, frames = canvas.test_split("hard", n_eval), []
    for network in networks:
        predictions = predict(network.load(), split.images, "low").argmax(1)
        for by, truth in (("true digit", split.labels), ("colour", split.colours)):
            run = {"network": network.name, "seed": network.seed, "by": by, "number": number}
            share = confusion(truth, predictions).ravel()
            frames.append(pd.DataFrame(run | {"prediction": prediction, "share": share}))
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
    """Accuracy, and the shortcut rate where it was measured, as training goes on (rows of
    `learning_curve` or `training_lengths`), a panel for each architecture and network, a thin line
    a seed."""
    styles = {
        ("aligned", "accuracy"): ("aligned", plots.GREEN, ":^"),
        ("validation", "accuracy"): ("easy validation", plots.BLUE, "-o"),
        ("unbiased", "accuracy"): ("unbiased", plots.AMBER, "-v"),
        ("hard", "accuracy"): ("hard", plots.VERMILION, "--s"),
        ("hard", "shortcut_rate"): ("hard: shortcut rate", plots.DARK, "-.D"),
    }
    panels = curves.groupby(["arch", "network"], sort=False)
    rows, columns = math.ceil(len(panels) / 2), min(len(panels), 2)
    figure, axes = plots.grid(plots.WIDTH, 3.1 * rows, rows, columns, sharey=True)
    for ax, ((arch, network), part) in zip(axes.flat, panels, strict=True):
        for (split, column), (label, colour, style) in styles.items():
            chosen = part[part["split"] == split]
            if len(chosen) and column in part:
                lines = chosen.pivot(index="epoch", columns="seed", values=column)
                ax.plot(lines, color=colour, linewidth=0.6, alpha=0.45)
                ax.plot(lines.mean(axis=1), style, color=colour, label=label)
        ax.axhline(0.95, color=plots.DARK, linewidth=0.7, linestyle="-.")
        ax.set_xscale("log")
        first, last = 0.9 * part["epoch"].min(), 1.01 * part["epoch"].max()
        ticks = (0.03, 0.1, 0.2, 0.5, 1, 2, 4 if last < 5 else 5, 10, 20)
        ticks = [t for t in ticks if first <= t <= last]
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.minorticks_off()
        ax.set_ylim(0, 1.02)
        ax.set_xlabel("epochs (log scale)")
        share = "share of images" if "shortcut_rate" in curves else "accuracy"
        plots.percent_axis(ax.yaxis, share if ax.get_subplotspec().is_first_col() else "")
        ax.set_title(f"{ARCH_NAMES[arch]}, {network}")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    note = "epoch: passes over the training images; accuracy, shortcut_rate: shares of the split's "
    return plots.show(figure, curves, note + "first images")


def confusion_matrices(confused: pd.DataFrame) -> Figure:
    """Shares of hard images in percent by prediction (rows of `confusions`), mean over networks:
    of each true digit (left) and of each colour (right)."""
    mean = confused.groupby(["by", "number", "prediction"], sort=False)["share"].mean()
    figure, axes = plots.grid(plots.WIDTH, 4.1, 1, 2)
    for ax, by in zip(axes.flat, ("true digit", "colour"), strict=True):
        table = mean[by].unstack().to_numpy()  # (10 digits or colours, 10 predictions)
        plots.heat_map(ax, table, plots.shares(table), top=1)
        ax.set_xlabel("the network's prediction")
        ax.set_title(f"hard images by {by}")
    axes[0, 0].set_ylabel("true digit")
    axes[0, 1].set_yticks(range(N_CLASSES), _TITLES)
    axes[0, 1].set_ylabel("colour, and the digit it is dominant for")
    note = "share of hard images of a true digit, or of a colour, mean over seeds"
    return plots.show(figure, mean.reset_index(), note)


def counterfactual_maps(cells: pd.DataFrame) -> Figure:
    """The shortcut rate of each digit in each colour, in percent, mean over seeds: a panel for each
    network of the "cells" of `counterfactuals`."""
    keys = ["network", "digit", "colour"]
    mean = cells.groupby(keys, sort=False)[["shortcut_rate", "accuracy"]].mean()
    networks = list(cells["network"].unique())
    figure, axes = plots.grid(plots.WIDTH, 4.0, 1, len(networks), sharey=True)
    for ax, network in zip(axes.flat, networks, strict=True):
        table = mean.loc[network, "shortcut_rate"].to_numpy().reshape(N_CLASSES, N_CLASSES)
        plots.heat_map(ax, table, plots.shares(table), top=1)
        plots.colour_ticks(ax, _TITLES, "colour, and the digit it is dominant for")
        ax.set_title(network)
    axes[0, 0].set_ylabel("true digit")
    note = "shortcut_rate: share predicted as the colour's digit; accuracy: share predicted as the "
    return plots.show(figure, mean.reset_index(), note + "true digit; means over seeds")


def caught(asked: dict[str, np.ndarray], pairs: list[list[int]], accuracy: pd.DataFrame) -> Figure:
    """The specimens and the predictions of networks for them (`ask`), and estimates of the same
    networks' (rows) accuracy on kinds of images (columns) as bars."""
    figure = plots.Figure(figsize=(plots.WIDTH, 2.4))
    left, right = figure.subfigures(1, 2, width_ratios=[1.55, 1])
    probabilities = dict(zip(accuracy.index, asked["probabilities"], strict=True))
    told = plots.answers(left.subplots(), asked["images"], pairs, probabilities)
    ax, styles = right.subplots(), (("#BBBBBB", ""), (plots.VERMILION, "//"))
    for k, (kind, (colour, hatch)) in enumerate(zip(accuracy, styles, strict=True)):
        means = [value.mean for value in accuracy[kind]]
        place = np.arange(len(means)) + 0.36 * k
        bars = ax.barh(place, means, 0.34, color=colour, hatch=hatch, edgecolor="white", label=kind)
        ax.bar_label(bars, [f"{mean:.1%}" for mean in means], padding=3, fontsize=plots.SMALL)
    ax.axvline(0.1, color=plots.DARK, linewidth=0.8, linestyle=":")
    ax.set_yticks(np.arange(len(accuracy)) + 0.18, accuracy.index)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.25)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines["bottom"].set_visible(False)
    ax.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.4, 1))
    note = "what each network predicts of each picture, with its confidence, in [0, 1]"
    return plots.show(figure, told, note)


def probability_bars(images: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Images (N, 3, 28, 28) above the network's probabilities (N, 10) for each digit, with the
    most probable one named."""
    figure, axes = plots.grid(plots.WIDTH, 2.4, 2, len(images), height_ratios=[1, 1.2])
    for (top, ax), image, shares in zip(axes.T, images, probabilities, strict=True):
        plots.picture(top, image)
        best = int(shares.argmax())
        ax.bar(range(N_CLASSES), shares, color="#BBBBBB")[best].set_color(plots.BLUE)
        ax.set_ylim(0, 1)
        ax.set_xticks([best], [str(best)])
        ax.set_yticks([0, 1] if ax is axes[1, 0] else [])
        ax.set_title(f"“{best}” {shares[best]:.0%}", fontsize=plots.SMALL)
    axes[1, 0].set_ylabel("probability")
    image, digit = np.indices(probabilities.shape).reshape(2, -1)
    frame = pd.DataFrame({"image": image + 1, "digit": digit, "probability": probabilities.ravel()})
    return plots.show(figure, frame, "image: from the left; probability of each digit, in [0, 1]")


def hue_maps(responses: pd.DataFrame) -> Figure:
    """Share of each prediction (row, in the order of the hues) as the hue turns (column) over a
    strip of the hues, pooled over seeds (rows of `hue_response`), a panel for each network."""
    mean = responses.groupby(["network", "hue", "prediction"], sort=False)["share"].mean()
    networks = list(responses["network"].unique())
    figure, axes = plots.grid(
        plots.WIDTH, 3.9, 2, len(networks), height_ratios=[10, 0.7], sharex="col"
    )
    for (top, strip), network in zip(axes.T, networks, strict=True):
        table = mean[network].unstack().to_numpy().T[_BY_HUE]  # (10 predictions, steps)
        steps = table.shape[1]
        drawn = top.imshow(table, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        top.set_yticks(range(N_CLASSES), _BY_HUE)
        top.set_title(network)
        strip.imshow(hue_palette(steps)[None], aspect="auto")
        strip.set_yticks([])
        degrees = np.arange(0, 360, 60)
        strip.set_xticks(degrees * steps / 360, [f"{d}°" for d in degrees])
        strip.set_xlabel("hue of the colour")
    axes[0, 0].set_yticks(range(N_CLASSES), [_TITLES[k] for k in _BY_HUE])
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
