"""Every figure of the report: pure functions from results to a matplotlib `Figure`.

Nothing here trains, measures or touches global state, and no other module plots. Figures are opaque
on white, so that they read alike on light and dark pages. Lines differ in dash and marker, not in
colour alone, and digit colours carry their names.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lazy_artist.canvas import (
    CLASSES,
    COLOUR_NAMES,
    DEFICIENCIES,
    PALETTE,
    UNSEEN_NAMES,
    Split,
    hue_palette,
    simulate_deficiency,
)
from lazy_artist.evaluate import Estimate

# Okabe and Ito's colours, which the common colour deficiencies keep apart; a dash and a marker go
# with each
INK, BLUE, VERMILION, GREEN, AMBER = "#222222", "#0072B2", "#D55E00", "#00795C", "#B37700"
DIGIT_COLOUR_TICKS = [f"{digit}\n{name}" for digit, name in enumerate(COLOUR_NAMES)]


def _show_in_notebooks() -> None:
    """Lets a `Figure` that ends a notebook's cell appear as a sharp PNG. Importing pyplot would do
    it too; older Quartos (before 1.7.33) with IPython 9 do not."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell:
        from IPython.core.pylabtools import select_figure_formats

        select_figure_formats(shell, {"retina"}, bbox_inches="tight")


_show_in_notebooks()


def _figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **grid
) -> tuple[Figure, np.ndarray]:
    """A white figure (inches) and its axes (rows, columns)."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white", dpi=110)
    axes = figure.subplots(rows, columns, squeeze=False, **grid)
    for ax in axes.flat:
        ax.tick_params(labelsize=8, colors=INK)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    return figure, axes


def _picture(ax: Axes, image: np.ndarray, title: str = "", size: float = 7) -> None:
    """One image (3, 28, 28) in [0, 1] without axes."""
    ax.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    ax.set_title(title, fontsize=size, pad=2, color=INK)
    ax.set_axis_off()


def _heat_map(
    ax: Axes, table: np.ndarray, texts: np.ndarray, top: float | None = None, size: float = 7
) -> None:
    """A matrix with a text in each cell, dark for high values, on axes numbered by digit."""
    top = float(table.max()) if top is None else top
    ax.imshow(table, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    for (row, column), text in np.ndenumerate(texts):
        dark = table[row, column] > 0.55 * top
        ax.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=size,
            color="white" if dark else INK,
        )
    ax.set_xticks(range(table.shape[1]))
    ax.set_yticks(range(table.shape[0]))
    ax.tick_params(length=0, labelsize=7)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _shares(table: np.ndarray) -> np.ndarray:
    """Texts of shares in percent; empty where they round to nought."""
    return np.vectorize(lambda share: f"{100 * share:.0f}" if share >= 0.005 else "")(table)


def _colour_ticks(ax: Axes, names: Sequence[str] = COLOUR_NAMES, label: str = "ink") -> None:
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    ax.set_xlabel(label, fontsize=8)


# --- chapter 1 -----------------------------------------------------------------------------------


def palette() -> Figure:
    """The ten inks with digit and name, as most people see them and under three colour
    deficiencies."""
    views = ("typical sight", *DEFICIENCIES)
    figure, axes = _figure(7.5, 2.6)
    ax = axes[0, 0]
    colours = [PALETTE] + [simulate_deficiency(PALETTE, kind) for kind in DEFICIENCIES]
    ax.imshow(np.stack(colours), aspect="auto")
    ax.set_yticks(range(len(views)), views, fontsize=8)
    ax.set_xticks(range(CLASSES), DIGIT_COLOUR_TICKS, fontsize=8)
    ax.set_xticks(np.arange(CLASSES + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(views) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=3)
    ax.tick_params(which="both", length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return figure


def contact_sheet(easy: Split, hard: Split, each: int = 5) -> Figure:
    """For each digit (row) its first `each` images of two splits, with the names of their inks."""
    figure, axes = _figure(
        7.5, 8.6, CLASSES, 2 * each + 1, width_ratios=[1] * each + [0.35] + [1] * each
    )
    for digit in range(CLASSES):
        axes[digit, each].set_axis_off()
        for split, start in ((easy, 0), (hard, each + 1)):
            for k, index in enumerate(np.flatnonzero(split.labels == digit)[:each]):
                name = COLOUR_NAMES[split.colours[index]]
                _picture(axes[digit, start + k], split.images[index], name)
        axes[digit, 0].text(
            -0.35,
            0.5,
            str(digit),
            transform=axes[digit, 0].transAxes,
            fontsize=12,
            va="center",
            color=INK,
        )
    figure.text(0.27, 1.01, "easy validation", ha="center", fontsize=10, color=INK)
    figure.text(0.77, 1.01, "hard", ha="center", fontsize=10, color=INK)
    return figure


def contingency_tables(tables: dict[str, np.ndarray]) -> Figure:
    """Counts of digit (row) by ink (column) for each split by name."""
    figure, axes = _figure(8, 11, 3, 2)
    for ax, (name, table) in zip(axes.flat, tables.items(), strict=True):
        _heat_map(ax, table, np.vectorize("{:d}".format)(table), size=6)
        _colour_ticks(ax, UNSEEN_NAMES if name == "unseen" else COLOUR_NAMES)
        ax.set_ylabel("digit", fontsize=8)
        ax.set_title(f"{name} ({table.sum():,} images)", fontsize=9, color=INK)
    return figure


def unseen_palette(split: Split) -> Figure:
    """One image in each of the ten inks outside the palette, with its name."""
    figure, axes = _figure(7.5, 1.1, 1, CLASSES)
    for k, ax in enumerate(axes.flat):
        _picture(ax, split.images[np.flatnonzero(split.colours == CLASSES + k)[0]], UNSEEN_NAMES[k])
    return figure


def grounds(stroke: np.ndarray, flat: np.ndarray, names: Sequence[str]) -> Figure:
    """The same digits (N, 3, 28, 28) as inked strokes on a textured ground, and on flat fills, with
    the names of the inks."""
    figure, axes = _figure(7.5, 2.0, 2, len(stroke))
    for column, name in enumerate(names):
        _picture(axes[0, column], stroke[column], name)
        _picture(axes[1, column], flat[column])
    for row, name in enumerate(("stroke", "flat fill")):
        axes[row, 0].text(
            -0.15,
            0.5,
            name,
            transform=axes[row, 0].transAxes,
            ha="right",
            va="center",
            fontsize=9,
            color=INK,
        )
    return figure


def pixel_reading(reading: dict[str, np.ndarray]) -> Figure:
    """Accuracy of naming the colour from k random pixels, stroke against flat fill, a thin line a
    seed."""
    figure, axes = _figure(5.5, 3.2)
    ax = axes[0, 0]
    for name, colour, marker, dash in (("flat", VERMILION, "s", "--"), ("stroke", BLUE, "o", "-")):
        for seed in reading[name]:
            ax.plot(reading["pixels"], seed, color=colour, linewidth=0.7, alpha=0.5)
        title = {"flat": "flat fill", "stroke": "stroke on texture"}[name]
        mean = reading[name].mean(0)
        ax.plot(reading["pixels"], mean, dash, color=colour, marker=marker, label=title)
    ax.axhline(0.1, color=INK, linewidth=0.8, linestyle=":", label="chance")
    ax.set_xscale("log")
    ax.set_xticks(reading["pixels"], [str(k) for k in reading["pixels"]])
    ax.minorticks_off()
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("pixels seen", fontsize=9)
    ax.set_ylabel("colour named rightly", fontsize=9)
    ax.legend(fontsize=8, frameon=False, loc="center right", bbox_to_anchor=(1, 0.3))
    return figure


# --- chapter 2 -----------------------------------------------------------------------------------

CURVE_STYLES = {
    "aligned": (GREEN, ":", "^"),
    "validation": (BLUE, "-", "o"),
    "hard": (VERMILION, "--", "s"),
}


def learning_curves(curves: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Accuracy on easy validation, aligned and hard images as training goes on; a panel for each
    titled run."""
    rows = math.ceil(len(curves) / 2)
    figure, axes = _figure(8, 3.1 * rows, rows, 2, sharey=True)
    for ax, (title, curve) in zip(axes.flat, curves.items(), strict=True):
        for name, (colour, dash, marker) in CURVE_STYLES.items():
            for seed in curve[name]:
                ax.plot(curve["epoch"], seed, color=colour, linewidth=0.6, alpha=0.45)
            label = {"validation": "easy validation"}.get(name, name)
            ax.plot(
                curve["epoch"],
                curve[name].mean(0),
                dash,
                color=colour,
                marker=marker,
                markersize=4,
                label=label,
            )
        ax.axhline(0.95, color=INK, linewidth=0.7, linestyle="-.")
        ax.set_xscale("log")
        ticks = [t for t in (0.03, 0.1, 0.2, 0.5, 1, 2, 4) if t <= 1.01 * curve["epoch"][-1]]
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.minorticks_off()
        ax.set_ylim(0, 1.02)
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.set_xlabel("epochs (log scale)", fontsize=9)
        ax.set_title(title, fontsize=9, color=INK)
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy", fontsize=9)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=3,
        fontsize=8,
        frameon=False,
    )
    return figure


def confusion_matrices(tables: dict[str, np.ndarray]) -> Figure:
    """Row shares in percent, true digit by answer, side by side."""
    figure, axes = _figure(8, 4.1, 1, len(tables))
    for ax, (name, table) in zip(axes.flat, tables.items(), strict=True):
        _heat_map(ax, table, _shares(table), top=1)
        ax.set_xlabel("the network's answer", fontsize=8)
        ax.set_ylabel("true digit", fontsize=8)
        ax.set_title(name, fontsize=9, color=INK)
    return figure


def counterfactual_maps(maps: dict[str, dict[str, np.ndarray]]) -> Figure:
    """A row for each network: share called the colour's digit (left) and the true digit (right), in
    percent."""
    figure, axes = _figure(8, 4.3 * len(maps), len(maps), 2)
    for row, (network, result) in zip(axes, maps.items(), strict=True):
        for ax, key, title in zip(
            row,
            ("by_colour", "by_shape"),
            ("called the ink's digit", "called the true digit"),
            strict=True,
        ):
            _heat_map(ax, result[key], _shares(result[key]), top=1)
            ax.set_xticks(range(CLASSES), DIGIT_COLOUR_TICKS, fontsize=6.5)
            ax.set_xlabel("ink, and the digit it is dominant for", fontsize=8)
            ax.set_ylabel("true digit", fontsize=8)
            ax.set_title(f"{network}: {title}", fontsize=9, color=INK)
    return figure


def answers(images: np.ndarray, probabilities: np.ndarray) -> Figure:
    """Images (N, 3, 28, 28) above the network's probabilities (N, 10) for each digit, with the
    winner named."""
    figure, axes = _figure(7.5, 2.4, 2, len(images), height_ratios=[1, 1.2])
    for column, (image, shares) in enumerate(zip(images, probabilities, strict=True)):
        _picture(axes[0, column], image)
        ax = axes[1, column]
        best = int(shares.argmax())
        bars = ax.bar(range(CLASSES), shares, color="#BBBBBB")
        bars[best].set_color(BLUE)
        ax.set_ylim(0, 1)
        ax.set_xticks([best])
        ax.set_yticks([0, 1] if column == 0 else [])
        ax.set_title(f"“{best}” {shares[best]:.0%}", fontsize=8, color=INK)
    axes[1, 0].set_ylabel("probability", fontsize=8)
    return figure


def hue_response(responses: dict[str, np.ndarray]) -> Figure:
    """Share of each answer (row) as the hue turns (column), over a strip of the hues; a panel for
    each network."""
    figure, axes = _figure(8, 3.9, 2, len(responses), height_ratios=[10, 0.7], sharex="col")
    for column, (title, share) in enumerate(responses.items()):
        top, strip = axes[:, column]
        steps = len(share)
        answer = share.mean(1).T  # (10 answers, steps)
        picture = top.imshow(
            answer, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest"
        )
        names = [f"{digit} ({name})" for digit, name in enumerate(COLOUR_NAMES)]
        top.set_yticks(
            range(CLASSES), names if column == 0 else [str(d) for d in range(CLASSES)], fontsize=7
        )
        top.set_title(title, fontsize=9, color=INK)
        strip.imshow(hue_palette(steps)[None], aspect="auto")
        strip.set_yticks([])
        strip.set_xticks(
            np.arange(0, steps, steps // 6), [f"{d}°" for d in range(0, 360, 60)], fontsize=8
        )
        strip.set_xlabel("hue of the ink", fontsize=8)
    axes[0, 0].set_ylabel("the network's answer", fontsize=8)
    bar = figure.colorbar(picture, ax=axes[0], shrink=0.8, format=PercentFormatter(1))
    bar.ax.tick_params(labelsize=7)
    bar.set_label("share of answers", fontsize=8)
    return figure


def variance_shares(rows: dict[str, dict[str, Estimate]]) -> Figure:
    """What the logits' variance goes with, a stacked bar for each network."""
    figure, axes = _figure(7.5, 0.42 * len(rows) + 1.1)
    ax = axes[0, 0]
    styles = {
        "colour": (VERMILION, "", "white"), "digit": (BLUE, "", "white"),
        "interaction": ("#E8D9A0", "//", INK), "image": ("#DDDDDD", "..", INK),
    }  # fmt: skip
    left = np.zeros(len(rows))
    for name, (colour, hatch, text) in styles.items():
        widths = np.array([parts[name].mean for parts in rows.values()])
        label = {"interaction": "colour × digit", "image": "image to image"}.get(name, name)
        ax.barh(
            range(len(rows)),
            widths,
            left=left,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            label=label,
        )
        for y, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width > 0.06:
                box = {"facecolor": colour, "edgecolor": "none", "pad": 1}
                ax.text(
                    start + width / 2,
                    y,
                    f"{width:.0%}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=text,
                    bbox=box,
                )
        left += widths
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("share of the logits' variance", fontsize=9)
    ax.legend(ncols=4, fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def dose_response(doses: dict[float, Estimate]) -> Figure:
    """Hard accuracy with 95% intervals against the share of conflicting images in training."""
    figure, axes = _figure(6, 3.4)
    ax = axes[0, 0]
    conflicting = np.array([1 - dose for dose in doses])
    means = np.array([value.mean for value in doses.values()])
    bounds = np.array([value.interval or (value.mean, value.mean) for value in doses.values()])
    reach = np.abs(bounds - means[:, None]).T
    ax.errorbar(
        conflicting,
        means,
        yerr=reach,
        color=VERMILION,
        marker="s",
        capsize=3,
        linewidth=1.5,
        label="hard accuracy",
    )
    ax.axhline(0.1, color=INK, linewidth=0.8, linestyle=":", label="guessing")
    ax.set_xscale("log")
    ax.set_xticks(conflicting, [f"{100 * share:.3g}%" for share in conflicting], fontsize=8)
    ax.minorticks_off()
    ax.invert_xaxis()
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("training images whose colour misleads (log scale)", fontsize=9)
    ax.set_ylabel("accuracy on hard", fontsize=9)
    ax.legend(fontsize=8, frameon=False)
    return figure


# --- opening page --------------------------------------------------------------------------------


def opening(
    images: np.ndarray, probabilities: np.ndarray, bars: dict[str, dict[str, Estimate]]
) -> Figure:
    """The story at a glance: red ones with the cheater's answers, and accuracies of cheater and
    oracle."""
    figure = Figure(figsize=(8, 3.4), layout="constrained", facecolor="white", dpi=110)
    left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1])
    axes = left.subplots(2, 4)
    for ax, image, shares in zip(axes.flat, images, probabilities, strict=False):
        _picture(ax, image, f"“{shares.argmax()}” ({shares.max():.0%})", 9)
    left.suptitle("what the cheater says of red ones", fontsize=10, color=INK)
    ax = right.subplots()
    width = 0.8 / len(bars)
    for k, ((network, values), colour, hatch) in enumerate(
        zip(bars.items(), (VERMILION, BLUE), ("", "//"), strict=True)
    ):
        x = np.arange(len(values)) + (k - (len(bars) - 1) / 2) * width
        means = [value.mean for value in values.values()]
        ax.bar(x, means, width, color=colour, hatch=hatch, edgecolor="white", label=network)
        for place, mean in zip(x, means, strict=True):
            ax.text(place, mean + 0.015, f"{mean:.0%}", ha="center", fontsize=8, color=INK)
    ax.set_xticks(range(len(values)), values, fontsize=9)
    ax.set_ylim(0, 1.12)
    ax.set_yticks([0, 0.5, 1])
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.tick_params(labelsize=8)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.legend(fontsize=8, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure
