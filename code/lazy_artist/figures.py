"""Every figure of the report: pure functions from results to a matplotlib `Figure`.

Nothing here trains, measures or touches global state, and no other module plots. Figures are opaque
on white, so that they read alike on light and dark pages. Lines differ in dash and marker, not in
colour alone, and digit colours carry their names.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lazy_artist import edition
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
from lazy_artist.figure_data import carry
from lazy_artist.gradcam import display

if TYPE_CHECKING:
    from lazy_artist.experiments.interrogating import Scene

# Okabe and Ito's colours, which the common colour deficiencies keep apart; a dash and a marker go
# with each
INK, BLUE, VERMILION, GREEN, AMBER = "#222222", "#0072B2", "#D55E00", "#00795C", "#B37700"


def _show_in_notebooks() -> None:
    """Lets a `Figure` that ends a notebook's cell appear as a sharp PNG. Importing pyplot would do
    it too; older Quartos (before 1.7.33) with IPython 9 do not. The PNG carries the figure's data.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell:
        from IPython.core.pylabtools import select_figure_formats

        select_figure_formats(shell, {"retina"}, bbox_inches="tight")
        carry(shell)


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
    """A matrix with a text in each cell, dark for high values, on axes of classes."""
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
    ax.tick_params(length=0, labelsize=7)
    _class_ticks(ax.xaxis)
    _class_ticks(ax.yaxis)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _shares(table: np.ndarray) -> np.ndarray:
    """Texts of shares in percent; empty where they round to nought."""
    return np.vectorize(lambda share: f"{100 * share:.0f}" if share >= 0.005 else "")(table)


def _class_ticks(axis: Axis) -> None:
    """Names of the ten classes along an axis; across, those longer than a digit stand on edge."""
    names = edition.class_names()
    upright = axis.axis_name == "y" or all(len(name) == 1 for name in names)
    axis.set_ticks(range(CLASSES), names, rotation=0 if upright else 90)


def _ink_ticks() -> list[str]:
    """The inks' names, each below the class that it is dominant for."""
    return [f"{name}\n{ink}" for name, ink in zip(edition.class_names(), COLOUR_NAMES, strict=True)]


def _colour_ticks(ax: Axes, names: Sequence[str] = COLOUR_NAMES, label: str = "ink") -> None:
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    ax.set_xlabel(label, fontsize=8)


def _stacked(
    rows: dict[str, dict[str, Estimate]],
    styles: dict[str, tuple[str, str, str]],
    names: dict[str, str],
    label: str,
) -> Figure:
    """A stacked bar for each row of shares that add up to 1, which are written where they fit.

    styles: colour, hatch and colour of the text of each part, in order; names: of parts, where the
    legend is to call them otherwise.
    """
    figure, axes = _figure(7.5, 0.42 * len(rows) + 1.1)
    ax = axes[0, 0]
    left = np.zeros(len(rows))
    for part, (colour, hatch, text) in styles.items():
        widths = np.array([parts[part].mean for parts in rows.values()])
        ax.barh(
            range(len(rows)), widths, left=left, color=colour, hatch=hatch, edgecolor="white",
            label=names.get(part, part),
        )  # fmt: skip
        for y, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width > 0.06:
                box = {"facecolor": colour, "edgecolor": "none", "pad": 1}
                ax.text(
                    start + width / 2, y, f"{width:.0%}", ha="center", va="center", fontsize=8,
                    color=text, bbox=box,
                )  # fmt: skip
        left += widths
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel(label, fontsize=9)
    ax.legend(ncols=4, fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
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
        name = edition.class_names()[shares.argmax()]
        size = 9 if len(name) == 1 else 7.5
        _picture(ax, image, f"“{name}” ({shares.max():.0%})", size)
    left.suptitle(edition.words("what the cheater says of red ones"), fontsize=10, color=INK)
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


# --- chapter 1: the biased canvas ----------------------------------------------------------------


def palette() -> Figure:
    """The ten inks with digit and name, as most people see them and under three colour
    deficiencies."""
    views = ("typical sight", *DEFICIENCIES)
    figure, axes = _figure(7.5, 2.6)
    ax = axes[0, 0]
    colours = [PALETTE] + [simulate_deficiency(PALETTE, kind) for kind in DEFICIENCIES]
    ax.imshow(np.stack(colours), aspect="auto")
    ax.set_yticks(range(len(views)), views, fontsize=8)
    ax.set_xticks(range(CLASSES), _ink_ticks(), fontsize=8)
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
        name = edition.class_names()[digit]
        place, side = (-0.35, "left") if len(name) == 1 else (-0.12, "right")
        axes[digit, 0].text(
            place,
            0.5,
            name,
            ha=side,
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
        ax.set_ylabel(edition.words("digit"), fontsize=8)
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
            edition.words(name),
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
        title = edition.words(title)
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


# --- chapter 2: the cheater ----------------------------------------------------------------------

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
        ax.set_ylabel(edition.words("true digit"), fontsize=8)
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
            (edition.words("called the ink's digit"), edition.words("called the true digit")),
            strict=True,
        ):
            _heat_map(ax, result[key], _shares(result[key]), top=1)
            _class_ticks(ax.xaxis)
            turned = ax.get_xticklabels()[0].get_rotation()
            ax.set_xticks(range(CLASSES), _ink_ticks(), fontsize=6.5, rotation=turned)
            ax.set_xlabel(edition.words("ink, and the digit it is dominant for"), fontsize=8)
            ax.set_ylabel(edition.words("true digit"), fontsize=8)
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
        name = edition.class_names()[best]
        ax.set_xticks([best], [name], ha="center" if len(name) == 1 else "left")
        ax.set_yticks([0, 1] if column == 0 else [])
        ax.set_title(f"“{name}” {shares[best]:.0%}", fontsize=8, color=INK)
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
        classes = edition.class_names()
        names = [f"{name} ({ink})" for name, ink in zip(classes, COLOUR_NAMES, strict=True)]
        top.set_yticks(range(CLASSES), names if column == 0 else classes, fontsize=7)
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
    styles = {
        "colour": (VERMILION, "", "white"), "digit": (BLUE, "", "white"),
        "interaction": ("#E8D9A0", "//", INK), "image": ("#DDDDDD", "..", INK),
    }  # fmt: skip
    names = {"digit": "digit", "interaction": "colour × digit", "image": "image to image"}
    names = {part: edition.words(name) for part, name in names.items()}
    return _stacked(rows, styles, names, "share of the logits' variance")


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


# --- chapter 3: the prober -----------------------------------------------------------------------

LABEL_STYLES = {
    "colour": (VERMILION, "", "white"), "shape": (BLUE, "", "white"),
    "mixed": ("#E8D9A0", "//", INK), "dead": ("#999999", "..", INK),
}  # fmt: skip
ORDER_STYLES = {
    "most tuned to ink first": (VERMILION, "--", "s"),
    "at random": (INK, ":", "^"),
    "most tuned to shape first": (BLUE, "-", "o"),
}


def optima(sheets: dict[str, np.ndarray], columns: int = 22) -> Figure:
    """Optimised images uint8 (K, 3, 28, 28) of all channels, in rows, a panel for each title."""
    rows = max(math.ceil(len(sheet) / columns) for sheet in sheets.values())
    figure, axes = _figure(8, len(sheets) * (8 / columns * rows + 0.3), len(sheets), 1)
    for ax, (title, sheet) in zip(axes[:, 0], sheets.items(), strict=True):
        height = math.ceil(len(sheet) / columns)
        canvas = np.full((height * 30, columns * 30, 3), 255, np.uint8)
        for k, image in enumerate(sheet):
            row, column = 30 * (k // columns), 30 * (k % columns)
            canvas[row : row + 28, column : column + 28] = image.transpose(1, 2, 0)
        ax.imshow(canvas, interpolation="nearest")
        ax.set_title(title, fontsize=9, color=INK)
        ax.set_axis_off()
    return figure


def channel_cards(cards: Sequence[dict]) -> Figure:
    """A row for each channel: its optima, what silences it, the images that excite it most, its
    mean activation by digit and ink, and a histogram of its activation; see `probing.cards`."""
    shown = 4  # of the dataset images
    widths = [1, 1, 1, 0.15, *[1] * shown, 0.15, 1.7, 2.2]
    count = len(cards)
    figure, axes = _figure(8, 0.98 * count + 0.75, count, len(widths), width_ratios=widths)
    for row, card in zip(axes, cards, strict=True):
        for ax in row[[3, 4 + shown]]:
            ax.set_axis_off()
        pictures = [*card["optima"], card["negative"]]
        for ax, picture in zip(row[:3], pictures, strict=True):
            _picture(ax, picture)
        for ax, picture in zip(row[4:], card["top"][:shown], strict=False):
            _picture(ax, picture)
        name = row[0].set_title(card["title"], fontsize=8, color=INK, loc="left", pad=3)
        name.set_in_layout(False)
        grid, bars = row[-2:]
        grid.imshow(card["cells"], cmap="Blues", vmin=0, aspect="auto")
        grid.set_xticks(range(CLASSES), [])
        grid.set_yticks([0, 9], [edition.class_names()[label] for label in (0, 9)])
        grid.tick_params(length=0, labelsize=6)
        bins = len(card["histogram"])
        edges = np.arange(bins) / bins * card["most"]
        bars.bar(edges, card["histogram"], card["most"] / bins, align="edge", color="#8A8A8A")
        bars.axvline(card["score"], color=VERMILION, linestyle="--", linewidth=1.2)
        bars.set_yscale("log")
        bars.set_xlim(0, 1.08 * max(card["score"], card["most"]))
        bars.set_yticks([])
        bars.minorticks_off()
        bars.spines["left"].set_visible(False)
        bars.tick_params(labelsize=6)
    ticks = axes[-1, -2]
    ticks.set_xticks(range(CLASSES), COLOUR_NAMES, rotation=90, fontsize=6)
    axes[-1, -1].set_xlabel("activation", fontsize=7)
    heads = {0: "excite it", 2: "silences it", 4: "most exciting training images"}
    heads |= {len(widths) - 2: edition.words("digit by ink"), len(widths) - 1: "training images"}
    for column, text in heads.items():
        head = axes[0, column].annotate(
            text, (0, 1), xytext=(0, 17), xycoords="axes fraction", textcoords="offset points",
            fontsize=7.5, color=INK, annotation_clip=False,
        )  # fmt: skip
        head.set_in_layout(False)
    figure.suptitle(" ", fontsize=11)  # room for the heads
    figure.get_layout_engine().set(h_pad=0.11)
    return figure


def label_bars(shares: dict[str, dict[str, Estimate]]) -> Figure:
    """Shares of channels labelled colour, shape, mixed and dead, a stacked bar for each titled
    layer."""
    return _stacked(shares, LABEL_STYLES, {}, "share of the layer's channels")


def tuning_scatter(points: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]) -> Figure:
    """Eta squared of digit against that of ink, a mark for each channel; a panel for each layer."""
    figure, axes = _figure(8, 3.1, 1, len(points), sharey=True)
    for ax, (layer, kinds) in zip(axes[0], points.items(), strict=True):
        for kind, (colour, digit) in kinds.items():
            paint, marker, _ = KIND_STYLES[kind]
            ax.scatter(
                colour, digit, s=16, marker=marker, facecolor="none", edgecolor=paint,
                linewidth=0.9, label=kind,
            )  # fmt: skip
        ax.plot([0, 1], [1, 0], color=INK, linewidth=0.7, linestyle=":")
        ax.set_xlim(-0.03, 1.03)
        ax.set_ylim(-0.03, 1.03)
        ax.set_xlabel("η² of ink", fontsize=9)
        ax.set_title(layer, fontsize=9, color=INK)
    axes[0, 0].set_ylabel(edition.words("η² of digit"), fontsize=9)
    axes[0, -1].legend(fontsize=8, frameon=False, loc="upper right")
    return figure


def ablation_curves(layers: dict[str, dict[str, np.ndarray]]) -> Figure:
    """What a network answers as more and more channels of a layer (column) are gone: called the
    ink's digit above, the true digit below; see `probing.ablations`."""
    figure, axes = _figure(8, 4.6, 2, len(layers), sharex=True, sharey="row")
    titles = {"follows": "called the ink's digit", "reads": "called the true digit"}
    titles = {name: edition.words(title) for name, title in titles.items()}
    for column, (layer, curves) in enumerate(layers.items()):
        for ax, (name, title) in zip(axes[:, column], titles.items(), strict=True):
            for order, (label, (colour, dash, marker)) in enumerate(ORDER_STYLES.items()):
                runs = curves[name][:, order]  # (seeds, sizes)
                for run in runs:
                    ax.plot(curves["share"], run, color=colour, linewidth=0.5, alpha=0.4)
                ax.plot(
                    curves["share"], runs.mean(0), dash, color=colour, marker=marker, markersize=4,
                    label=label,
                )  # fmt: skip
            ax.axhline(0.1, color=INK, linewidth=0.6, linestyle="-.")
            ax.yaxis.set_major_formatter(PercentFormatter(1))
            if column == 0:
                ax.set_ylabel(title, fontsize=8.5)
        axes[0, column].set_title(layer, fontsize=9, color=INK)
        axes[1, column].set_xticks(curves["share"][[0, 3, 4, 5]])
        axes[1, column].xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes[1, column].set_xlabel("channels gone", fontsize=8.5)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


# --- chapter 4: the interrogation ----------------------------------------------------------------

KIND_STYLES = {
    "cheater": (VERMILION, "s", "-"), "cure": (GREEN, "^", "-."), "oracle": (BLUE, "o", "--"),
}  # fmt: skip
MAP_STYLES = {
    "Grad-CAM": (VERMILION, "-", "o"),
    "random": (INK, ":", "x"),
    "centre blob": (BLUE, "--", "s"),
    "the ink itself": (GREEN, "-.", "^"),
}


ASKED = ("predicted", "true digit", "ink's digit")


def _heat(ax: Axes, heat: np.ndarray, image: np.ndarray, title: str = "", size: float = 7):
    """One heat map (28, 28) in [0, 1] under the outline of the stroke of its image (3, 28, 28)."""
    picture = ax.imshow(heat, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    ax.contour(image.max(0), levels=[0.4], colors="white", linewidths=0.7)
    ax.set_title(title, fontsize=size, pad=2, color=INK)
    ax.set_axis_off()
    return picture


def _heat_bar(figure: Figure, picture, scale: float, name: str, **place) -> None:
    """What the colours of a heat map stand for, in raw heat."""
    bar = figure.colorbar(picture, **place)
    bar.set_ticks([0, 0.5, 1], labels=[f"{share * scale:.2g}" for share in (0, 0.5, 1)])
    bar.ax.tick_params(labelsize=7)
    bar.set_label(name, fontsize=8)


def _top(scenes: Sequence[Scene], kinds: Sequence[str]) -> float:
    """The largest heat of these networks in all scenes: the scale that their maps share."""
    return max(float(scene.maps[kind].max()) for scene in scenes for kind in kinds) or 1.0


def heat_overlays(scenes: Sequence[Scene]) -> Figure:
    """A row for each network: each scene's image beside the network's heat there for the class
    predicted, the true one and the ink's, all on one scale."""
    kinds = list(scenes[0].maps)
    ratios = [ratio for _ in scenes for ratio in (1, 1, 1, 1, 0.12)][:-1]
    figure, axes = _figure(
        8.6, 1.2 * len(kinds) + 0.2, len(kinds), len(ratios), width_ratios=ratios
    )
    scale = _top(scenes, kinds)
    for gap in axes[:, 4::5].flat:
        gap.set_axis_off()
    for row, kind in zip(axes, kinds, strict=True):
        for s, scene in enumerate(scenes):
            _picture(row[5 * s], scene.image, f"{scene.title},\nthe {kind}", 8)
            heats = display(scene.maps[kind], scale)
            places = row[5 * s + 1 : 5 * s + 4]
            for ax, heat, text, name in zip(places, heats, scene.texts[kind], ASKED, strict=True):
                title = f"{edition.words(name)}\n{text}"
                picture = _heat(ax, heat, scene.image, title, 8)
    _heat_bar(figure, picture, scale, "heat (raw Grad-CAM)", ax=axes, shrink=0.6, aspect=30)
    return figure


def heat_grid(scenes: Sequence[Scene]) -> Figure:
    """A row for each digit: in its own ink, with the heat of both networks for the class they
    predict; in another ink, with their heat for the class predicted, the true one and the ink's;
    one scale a network. The first half of the scenes are the former, the second half the latter."""
    kinds, half = list(scenes[0].maps), len(scenes) // 2
    wide, high = 33, 41  # pixels from tile to tile
    figure, axes = _figure(8.2, 0.82 * (0.55 + half) * high / wide + 0.3)
    ax = axes[0, 0]  # one for all, as a hundred would be slow to draw

    def tile(x: float, row: int, pixels: np.ndarray, title: str, stroke=None):
        top = high * row
        place = {"extent": (x, x + 28, top + 28, top), "interpolation": "nearest"}
        ax.text(x + 14, top - 2, title, ha="center", fontsize=6.5, color=INK)
        if stroke is not None:
            x_grid, y_grid = x + np.arange(28) + 0.5, top + np.arange(28) + 0.5
            ax.contour(
                x_grid,
                y_grid,
                stroke.max(0),
                levels=[0.4],
                colors="white",
                linewidths=0.7,
                zorder=3,
            )
        return ax.imshow(pixels, cmap="magma", vmin=0, vmax=1, **place)

    right = wide * (1 + len(kinds)) + 8  # where the second half starts
    for row, (own, other) in enumerate(zip(scenes[:half], scenes[half:], strict=True)):
        tile(0, row, own.image.transpose(1, 2, 0), own.title)
        tile(right, row, other.image.transpose(1, 2, 0), other.title)
    for k, kind in enumerate(kinds):
        scale, start = _top(scenes, [kind]), right + wide + 8 + k * (3 * wide + 8)
        for row, (own, other) in enumerate(zip(scenes[:half], scenes[half:], strict=True)):
            heat = display(own.maps[kind], scale)[0]
            tile(wide * (1 + k), row, heat, own.texts[kind][0], own.image)
            heats = display(other.maps[kind], scale)
            for c, (heat, text) in enumerate(zip(heats, other.texts[kind], strict=True)):
                picture = tile(start + c * wide, row, heat, text, other.image)
        heads = [(wide * (1 + k), ASKED[0]), *((start + c * wide, n) for c, n in enumerate(ASKED))]
        for x, name in heads:
            text = f"{kind}:\n{edition.words(name)}"
            ax.text(x + 14, -11, text, ha="center", fontsize=7, color=INK)
        bar = ax.inset_axes([start, high * half, 2 * wide + 28, 5], transform=ax.transData)
        place = {"cax": bar, "orientation": "horizontal"}
        _heat_bar(figure, picture, scale, f"heat of the {kind}", **place)
    ax.set_xlim(0, right + wide + 8 + len(kinds) * (3 * wide + 8))
    ax.set_ylim(high * half + 6, -24)
    ax.set_axis_off()
    return figure


def change_bars(shares: dict[str, dict[str, dict[str, Estimate]]]) -> Figure:
    """How far each network (by name) moves: a panel for each measure, a bar for each change, with
    95% intervals."""
    panels = {
        "answer": "answers changed",
        "logits": "logits moved\n(changing both = 1)",
        "map": "Grad-CAM moved\n(no heat in common = 1)",
    }
    figure, axes = _figure(8, 2.9, 1, len(panels))
    width = 0.8 / len(shares)
    for ax, (measure, title) in zip(axes[0], panels.items(), strict=True):
        for k, (kind, measures) in enumerate(shares.items()):
            values = list(measures[measure].values())
            means = np.array([value.mean for value in values])
            bounds = np.array([value.interval or (value.mean,) * 2 for value in values])
            places = np.arange(len(values)) + (k - (len(shares) - 1) / 2) * width
            ax.bar(
                places,
                means,
                width,
                yerr=np.abs(bounds - means[:, None]).T,
                color=KIND_STYLES[kind][0],
                hatch=("", "//", "..")[k],
                edgecolor="white",
                error_kw={"elinewidth": 1, "ecolor": INK},
                label=kind,
            )
            for place, bound, mean in zip(places, bounds[:, 1], means, strict=True):
                ax.text(place, bound + 0.02, f"{mean:.2f}", ha="center", fontsize=6, color=INK)
        ax.set_xticks(range(len(values)), list(measures[measure]), fontsize=8)
        ax.set_ylim(0, None)
        ax.set_title(title, fontsize=9, color=INK)
    axes[0, 0].yaxis.set_major_formatter(PercentFormatter(1))
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(shares),
        fontsize=8,
        frameon=False,
    )
    return figure


def chroma_parts(shares: dict[str, np.ndarray], parts: dict[str, np.ndarray]) -> Figure:
    """Left: one image, and each network's squared gradient there along brightness and along chroma,
    on one scale a network. Right: the chroma share of all images, for each network."""
    kinds = list(shares)
    figure = Figure(
        figsize=(8.4, 1.55 * len(kinds)), layout="constrained", facecolor="white", dpi=110
    )
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.1])
    axes = left.subplots(len(kinds), 3)
    for row, kind in zip(axes, kinds, strict=True):
        top = np.quantile(parts[kind].sum(0), 0.995)
        _picture(row[0], parts["image"], f"asked: the {kind}", 8)
        for ax, energy, name in zip(row[1:], parts[kind], ("brightness", "chroma"), strict=True):
            _heat(ax, np.clip(energy / top, 0, 1), parts["image"], f"{name} {energy.sum():.0%}", 8)
    ax = right.subplots()
    ax.tick_params(labelsize=8, colors=INK)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for kind, hatch in zip(kinds, ("", "//", ".."), strict=False):
        colour = KIND_STYLES[kind][0]
        values = shares[kind].ravel()
        weights = np.full(len(values), 1 / len(values))
        bins = np.linspace(0, 1, 41)
        settings = {"bins": bins, "weights": weights, "hatch": hatch, "edgecolor": colour}
        ax.hist(values, histtype="stepfilled", facecolor=f"{colour}55", label=kind, **settings)
    ax.axvline(2 / 3, color=INK, linewidth=0.9, linestyle=":", label="no preference (2/3)")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.3 * ax.get_ylim()[1])
    ax.set_xlabel("chroma reliance of an image", fontsize=9)
    ax.set_ylabel("share of images", fontsize=9)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def faithfulness(curves: dict[str, dict[str, np.ndarray]]) -> Figure:
    """Mean probability of the predicted class as pixels are deleted or inserted: a row for each
    network, thin lines for seeds."""
    figure, axes = _figure(8, 2.7 * len(curves) + 0.4, len(curves), 2, sharex=True, sharey=True)
    for row, (kind, tables) in zip(axes, curves.items(), strict=True):
        for ax, (measure, table) in zip(row, tables.items(), strict=True):  # (seeds, maps, steps)
            share = np.linspace(0, 1, table.shape[2])
            for k, (name, (colour, dash, marker)) in enumerate(MAP_STYLES.items()):
                for seed in table[:, k]:
                    ax.plot(share, seed, color=colour, linewidth=0.5, alpha=0.4)
                style = {"marker": marker, "markersize": 4, "markevery": (k, 4), "label": name}
                ax.plot(share, table[:, k].mean(0), dash, color=colour, linewidth=1.4, **style)
            ax.set_title(f"{kind}: {measure}", fontsize=9, color=INK)
            ax.set_ylim(0, 1.02)
            ax.xaxis.set_major_formatter(PercentFormatter(1))
            ax.yaxis.set_major_formatter(PercentFormatter(1))
        row[0].set_ylabel("probability of the class", fontsize=9)
    for ax, past in zip(axes[-1], ("taken away", "put back"), strict=True):
        ax.set_xlabel(f"pixels {past}, hottest first", fontsize=9)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=4,
        fontsize=8,
        frameon=False,
    )
    return figure


def map_sanity(results: dict[str, dict[str, np.ndarray]], stages: Sequence[str]) -> Figure:
    """Rank correlation with a network's own maps: as its layers are made random one after the other
    (lines, from the output down), and with other maps (points); thin marks are seeds."""
    figure, axes = _figure(8, 3.4, 1, 2, sharey=True, width_ratios=[1.2, 1])
    left, right = axes[0]
    others = {
        "retrained": "same recipe,\nnext seed",
        "others": "same network,\nanother image",
        "by heart": "shuffled labels,\nlearnt by heart",
    }
    for k, (kind, result) in enumerate(results.items()):
        colour, marker, dash = KIND_STYLES[kind]
        paths = np.insert(result["cascade"], 0, 1, axis=1)  # (seeds, stages + 1)
        for seed in paths:
            left.plot(seed, color=colour, linewidth=0.5, alpha=0.5)
        left.plot(paths.mean(0), dash, color=colour, marker=marker, label=kind)
        for x, name in enumerate(others):
            values = result[name][:, 0]
            place = x + 0.16 * (2 * k - 1)
            right.plot([place] * len(values), values, "_", color=colour, markersize=9)
            right.plot(place, values.mean(), marker, color=colour, label=kind if x == 0 else None)
            text = f"{values.mean():.2f}"
            right.text(place, values.max() + 0.04, text, ha="center", fontsize=7, color=INK)
    for ax in (left, right):
        ax.axhline(0, color=INK, linewidth=0.7)
        ax.axhline(0.5, color=INK, linewidth=0.7, linestyle=":")
        ax.set_ylim(-0.25, 1.08)
    ticks = ["as trained", *(f"+ {stage}" for stage in stages)]
    left.set_xticks(range(len(ticks)), ticks, fontsize=8)
    left.set_xlabel("made random, from the output down", fontsize=9)
    left.set_ylabel("rank correlation", fontsize=9)
    right.set_xticks(range(len(others)), list(others.values()), fontsize=8)
    right.set_xlim(-0.5, len(others) - 0.5)
    left.legend(fontsize=8, frameon=False)
    return figure


# --- chapter 5: the intervention -----------------------------------------------------------------

GROUP_STYLES = {
    "no labels": (BLUE, "o"),
    "colour labels": (AMBER, "s"),
    "reference": (INK, "D"),
}


def recoloured(views: dict[str, np.ndarray]) -> Figure:
    """Images (N, 3, 28, 28) as painted and as training sees them: a row for each titled view."""
    count = len(next(iter(views.values())))
    figure, axes = _figure(7.5, 0.95 * len(views), len(views), count)
    for row, (title, images) in zip(axes, views.items(), strict=True):
        for ax, image in zip(row, images, strict=True):
            _picture(ax, image)
        row[0].text(
            -0.15, 0.5, title, transform=row[0].transAxes, ha="right", va="center", fontsize=9,
            color=INK,
        )  # fmt: skip
    return figure


def cures_ranked(values: dict[str, tuple[str, Estimate]]) -> Figure:
    """Hard accuracy of each method with its 95% interval, best on top; values: by title, a group of
    `GROUP_STYLES` and the estimate."""
    rows = sorted(values.items(), key=lambda item: item[1][1].mean)
    figure, axes = _figure(7.5, 0.27 * len(rows) + 1.1)
    ax = axes[0, 0]
    seen = set()
    for y, (_, (group, value)) in enumerate(rows):
        colour, marker = GROUP_STYLES[group]
        low, high = value.interval or (value.mean, value.mean)
        ax.plot([low, high], [y, y], color=colour, linewidth=1.5)
        ax.plot(
            value.mean, y, marker, color=colour, markersize=6, linestyle="none",
            label=None if group in seen else group,
        )  # fmt: skip
        ax.text(1.03, y, f"{100 * value.mean:.1f}", va="center", fontsize=8, color=INK)
        seen.add(group)
    for share, name in ((0.1, "guessing"), (0.7, "the bar")):
        ax.axvline(share, color=INK, linewidth=0.8, linestyle=":")
        ax.text(share, len(rows) - 0.3, name, ha="center", fontsize=8, color=INK)
    ax.set_yticks(range(len(rows)), [title for title, _ in rows], fontsize=8)
    ax.set_xlim(0, 1.02)
    ax.set_ylim(-0.6, len(rows) + 0.2)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("accuracy on hard images", fontsize=9)
    ax.grid(axis="y", color="#DDDDDD", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.legend(fontsize=8, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    return figure


def correlation_curves(curves: dict[str, dict[float, Estimate]]) -> Figure:
    """Hard accuracy of each titled method against the share of conflicting images in training."""
    figure, axes = _figure(7, 3.8)
    ax = axes[0, 0]
    styles = zip(
        (INK, VERMILION, AMBER, GREEN, BLUE), (":", "-.", "--", (0, (5, 1, 1, 1, 1, 1)), "-"),
        ("x", "v", "s", "^", "o"), strict=True,
    )  # fmt: skip
    for (title, curve), (colour, dash, marker) in zip(curves.items(), styles, strict=False):
        share = [1 - correlation for correlation in curve]
        means = [value.mean for value in curve.values()]
        ax.plot(share, means, color=colour, linestyle=dash, marker=marker, label=title)
        for x, value in zip(share, curve.values(), strict=True):
            if value.interval:
                ax.plot([x, x], value.interval, color=colour, linewidth=1)
    ax.set_xscale("log")
    ax.set_xticks(share, [f"{100 * x:.3g}%" for x in share])
    ax.minorticks_off()
    ax.invert_xaxis()
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("training images whose colour misleads (log scale)", fontsize=9)
    ax.set_ylabel("accuracy on hard", fontsize=9)
    ax.legend(fontsize=8, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def gaze(
    chroma: dict[str, np.ndarray], channels: dict[str, tuple[np.ndarray, np.ndarray]]
) -> Figure:
    """Above: how chroma reliance is spread over hard images, a box for each network. Below: for
    each network a dot for each last-layer channel, variance with ink against variance with
    digit."""
    figure = Figure(figsize=(8, 4.8), layout="constrained", facecolor="white", dpi=110)
    grid = figure.add_gridspec(2, len(channels), height_ratios=[1, 1.1])
    ax = figure.add_subplot(grid[0, :])
    for y, values in enumerate(list(chroma.values())[::-1], start=1):
        low, first, median, third, high = np.percentile(values, [5, 25, 50, 75, 95])
        ax.plot([low, high], [y, y], color=INK, linewidth=1)
        ax.barh(y, third - first, 0.55, left=first, color="white", edgecolor=INK)
        ax.plot([median, median], [y - 0.275, y + 0.275], color=VERMILION, linewidth=2)
    ax.set_yticks(range(1, len(chroma) + 1), list(chroma)[::-1], fontsize=8)
    ax.set_ylim(0.5, len(chroma) + 0.6)
    ax.axvline(2 / 3, color=INK, linewidth=0.8, linestyle=":")
    ax.text(2 / 3, len(chroma) + 0.62, "no preference", ha="center", fontsize=8, color=INK)
    ax.set_xlim(0, 1)
    ax.set_xlabel("chroma reliance: share of the squared input gradient along chroma", fontsize=9)
    panels = [figure.add_subplot(grid[1, k]) for k in range(len(channels))]
    for panel, (title, (digit, colour)) in zip(panels, channels.items(), strict=True):
        panel.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle=":")
        panel.plot(colour, digit, "o", color=BLUE, markersize=4, alpha=0.6, markeredgewidth=0)
        panel.set_xlim(-0.02, 1)
        panel.set_ylim(-0.02, 1)
        panel.set_aspect("equal")
        panel.set_title(title, fontsize=9, color=INK)
        panel.set_xlabel("variance with ink", fontsize=8)
    panels[0].set_ylabel(edition.words("variance with digit"), fontsize=8)
    for ax in figure.axes:
        ax.tick_params(labelsize=8, colors=INK)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    return figure


def overlays(images: np.ndarray, heats: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Images (N, 3, 28, 28), and below them, a row for each titled network, its answers (N,) and
    its heat (N, 28, 28) in [0, 1] as contours and brightness over a faded image."""
    figure, axes = _figure(7.5, 1.35 * (1 + len(heats)), 1 + len(heats), len(images))
    for ax, image in zip(axes[0], images, strict=True):
        _picture(ax, image)
    for row, (answers, maps) in zip(axes[1:], heats.values(), strict=True):
        for ax, image, answer, heat in zip(row, images, answers, maps, strict=True):
            _picture(ax, 0.35 * image, f"“{edition.class_names()[answer]}”", 9)
            ax.imshow(heat, cmap="gray", vmin=0, vmax=1, alpha=0.9 * heat)
            if heat.max() > 0.5:
                ax.contour(heat, levels=[0.5], colors="white", linewidths=1)
    for ax, title in zip(axes[:, 0], ("image", *heats), strict=True):
        ax.text(
            -0.15, 0.5, title, transform=ax.transAxes, ha="right", va="center", fontsize=9,
            color=INK,
        )  # fmt: skip
    return figure


# --- chapter 6: the cloak ------------------------------------------------------------------------


def cloak(shown: dict[str, dict], factor: float = 10) -> Figure:
    """For each network: the image, the change around grey and `factor` times as strong, the changed
    image, and the probabilities before and after."""
    figure, axes = _figure(8, 4.2, len(shown), 4, width_ratios=[1, 1, 1, 1.6])
    for row, (name, entry) in zip(axes, shown.items(), strict=True):
        change = entry["changed"] - entry["image"]
        _picture(row[0], entry["image"], edition.words(f"{name}: the seven"), 8)
        _picture(row[1], np.clip(0.5 + factor * change, 0, 1), f"change, {factor:g} times", 8)
        _picture(row[2], entry["changed"], f"the sum (change ≤ {_above(entry['size'])})", 8)
        places = np.arange(CLASSES)
        row[3].bar(places - 0.2, entry["before"], 0.4, color=BLUE, label="before")
        row[3].bar(places + 0.2, entry["after"], 0.4, color=VERMILION, hatch="///", label="after")
        _class_ticks(row[3].xaxis)
        row[3].set_ylim(0, 1.02)
        row[3].set_ylabel("probability", fontsize=8)
    axes[-1, 3].set_xlabel(edition.words("digit"), fontsize=8)
    axes[0, 3].legend(fontsize=7, frameon=False)
    return figure


def _above(size: float) -> str:
    """A size rounded up to two digits after the point."""
    return f"{math.ceil(100 * size) / 100:.2f}"


def success_curves(panels: dict[str, dict[str, np.ndarray]], bound: float) -> Figure:
    """For each goal: share of images reached against the size allowed, by network; thin lines are
    seeds, the dotted line is the bound. Minimal sizes are (seeds, n), infinity where unreached."""
    sizes = np.geomspace(0.003, 1, 200)
    figure, axes = _size_curves(panels, sizes, lambda values: values <= sizes)
    for ax in axes.flat:
        ax.axvline(bound, color=INK, linewidth=0.8, linestyle=":")
        ax.text(bound * 1.06, 0.02, f"{bound:g}", fontsize=8, color=INK)
        ax.set_xlabel("largest pixel change allowed", fontsize=9)
    axes[0, 0].set_ylabel(edition.words("sevens seen as a 3"), fontsize=9)
    return figure


def survival_curves(panels: dict[str, dict[str, np.ndarray]]) -> Figure:
    """For each goal: share of images not reached yet against the Euclidean length allowed, by
    network, otherwise as `success_curves`."""
    sizes = np.geomspace(0.1, 30, 200)
    figure, axes = _size_curves(panels, sizes, lambda values: values > sizes)
    for ax in axes.flat:
        ax.set_xlabel("Euclidean length allowed", fontsize=9)
    axes[0, 0].set_ylabel(edition.words("sevens that hold"), fontsize=9)
    return figure


def _size_curves(
    panels: dict[str, dict[str, np.ndarray]],
    sizes: np.ndarray,
    counts: Callable[[np.ndarray], np.ndarray],
) -> tuple[Figure, np.ndarray]:
    """A panel for each goal: the share of images that count at each size, from minimal sizes
    (seeds, n, 1); thin lines are seeds."""
    figure, axes = _figure(8, 3.4, 1, len(panels), sharey=True)
    styles = ((VERMILION, "--"), (BLUE, "-"), (GREEN, "-."), (AMBER, (0, (1, 1))))
    for ax, (goal, curves) in zip(axes.flat, panels.items(), strict=True):
        for (name, values), (colour, dash) in zip(curves.items(), styles, strict=True):
            shares = counts(values[:, :, None]).mean(1)  # (seeds, sizes)
            for share in shares:
                ax.plot(sizes, share, linestyle=dash, color=colour, linewidth=0.6, alpha=0.5)
            ax.plot(sizes, shares.mean(0), linestyle=dash, color=colour, linewidth=1.8, label=name)
        ax.set_xscale("log")
        ax.set_title(edition.words(goal), fontsize=9, color=INK)
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    return figure, axes


def pair_maps(maps: dict[str, np.ndarray]) -> Figure:
    """By network: the median minimal size for each digit (row) and target (column), in hundredths
    of the pixel range; the diagonal is empty."""
    figure, axes = _figure(8, 3.9, 1, len(maps))
    top = 100 * max(np.max(table[np.isfinite(table)]) for table in maps.values())
    for ax, (name, table) in zip(axes.flat, maps.items(), strict=True):
        texts = np.vectorize(lambda v: "" if v == 0 else f"{100 * v:.1f}" if v < 1 else "–")(table)
        _heat_map(ax, np.minimum(100 * table, top), texts, top, size=6.5)
        ax.set_title(f"{name}: size in hundredths", fontsize=9, color=INK)
        ax.set_xlabel("target", fontsize=8)
    axes[0, 0].set_ylabel(edition.words("digit"), fontsize=8)
    return figure


# --- chapter 7: the decomposition ----------------------------------------------------------------

CODE_STYLES = {
    "relu": (AMBER, "^", ":", "ReLU with L1"),
    "topk": (BLUE, "o", "-", "TopK"),
    "batchtopk": (VERMILION, "s", "--", "BatchTopK"),
}


def sparse_front(rows: dict[str, list[dict[str, float]]]) -> Figure:
    """Variance unexplained against the number of active latents, a line for each kind of
    autoencoder."""
    figure, axes = _figure(6.5, 3.4)
    ax = axes[0, 0]
    for kind, points in rows.items():
        colour, marker, dash, name = CODE_STYLES[kind]
        ax.plot(
            [point["l0"] for point in points],
            [point["fvu"] for point in points],
            dash,
            color=colour,
            marker=marker,
            label=name,
        )
    ax.set_xscale("log")
    ticks = (2, 4, 8, 16, 32, 64, 128, 256, 512)
    low, high = ax.get_xlim()
    shown = [tick for tick in ticks if low <= tick <= high]
    ax.set_xticks(shown, [str(tick) for tick in shown])
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("active latents at a place, L0 (log scale)", fontsize=9)
    ax.set_ylabel("variance unexplained", fontsize=9)
    ax.legend(fontsize=8, frameon=False)
    return figure


def latent_sheet(cards: Sequence[dict], columns: int = 4) -> Figure:
    """A card for each latent: number and labels, its nine top images, and what it adds to the ten
    logits."""
    rows = math.ceil(len(cards) / columns)
    figure = Figure(figsize=(8.4, 2.75 * rows), layout="constrained", facecolor="white", dpi=110)
    panels = np.atleast_1d(figure.subfigures(rows, columns)).flat
    for panel, card in zip(panels, cards, strict=False):
        top, bottom = panel.subplots(2, 1, height_ratios=[2.1, 1])
        mosaic = card["images"].reshape(3, 3, 3, 28, 28)  # (rows, columns, RGB, h, w)
        _picture(top, mosaic.transpose(2, 0, 3, 1, 4).reshape(3, 84, 84))
        title = f"{card['latent']}: {card['label']}"
        by_eye = f"\n“{card['manual']}”" if card["manual"] else "\n"
        top.set_title(title + by_eye, fontsize=7.5, pad=3, color=INK)
        effect = card["effect"] - card["effect"].mean()
        bars = bottom.bar(range(CLASSES), effect, color="#BBBBBB")
        bars[int(effect.argmax())].set_color(BLUE)
        bottom.axhline(0, color=INK, linewidth=0.6)
        _class_ticks(bottom.xaxis)
        bottom.set_yticks([])
        bottom.tick_params(labelsize=6, length=0)
        for side in ("top", "right", "left", "bottom"):
            bottom.spines[side].set_visible(False)
    return figure


def silence_curves(curves: dict[str, np.ndarray]) -> Figure:
    """Hard accuracy and colour-following as ever more of the latents are silenced, for each level
    they are held at; thin lines are seeds."""
    figure, axes = _figure(8, 3.3, 1, 2, sharey=True)
    styles = {
        "zeroed": (AMBER, ":", "^"), "mean": (BLUE, "--", "o"), "balanced": (VERMILION, "-", "s"),
    }  # fmt: skip
    for k, (ax, title) in enumerate(
        zip(axes[0], ("right on hard images", "call the ink's digit on hard images"), strict=True)
    ):
        title = edition.words(title)
        for name, (colour, dash, marker) in styles.items():
            for seed in curves[name]:
                ax.plot(curves["share"], seed[:, k], color=colour, linewidth=0.6, alpha=0.45)
            mean = curves[name].mean(0)[:, k]
            ax.plot(
                curves["share"], mean, dash, color=colour, marker=marker, markersize=4, label=name
            )
        ax.axhline(0.1, color=INK, linewidth=0.8, linestyle="-.")
        ax.text(1, 0.105, "guessing", fontsize=7, ha="right", va="bottom", color=INK)
        ax.set_title(title, fontsize=9, color=INK)
        ax.set_xlabel("share of latents silenced, most of all ink first", fontsize=9)
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    axes[0, 0].set_ylabel("share of answers", fontsize=9)
    axes[0, 1].legend(fontsize=8, frameon=False)
    return figure


def dial_walks(walk: np.ndarray, single: int = 12) -> Figure:
    """Probabilities of 0 and of 1 for red ones as a dial goes from 1 to 0: walk (11, N, 10). Thin
    lines are the first images, thick ones the mean of all."""
    figure, axes = _figure(6.5, 3.3)
    ax = axes[0, 0]
    dial, names = np.linspace(1, 0, len(walk)), edition.class_names()
    for answer, colour, dash, marker in ((0, VERMILION, "--", "s"), (1, BLUE, "-", "o")):
        ax.plot(dial, walk[:, :single, answer], color=colour, linewidth=0.5, alpha=0.5)
        mean = walk[:, :, answer].mean(1)
        ax.plot(dial, mean, dash, color=colour, marker=marker, label=f"answers {names[answer]}")
    ax.invert_xaxis()
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("dial of the silenced latents (1: as it was, 0: silent)", fontsize=9)
    ax.set_ylabel("probability", fontsize=9)
    ax.legend(fontsize=8, frameon=False)
    return figure


# --- chapters 8 and 9: the two challenges --------------------------------------------------------

_GROUP_STYLES = {"one": (BLUE, "o"), "anti-one": (VERMILION, "^"), "brake": ("#777777", "s")}
_LAW_COLOURS = {"left": BLUE, "lower": VERMILION, "line": GREEN}


def _grey(ax: Axes, image: np.ndarray, title: str = "", size: float = 7) -> None:
    """One grey image (28, 28) of 0..255, dark ink on white, in a thin frame."""
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    ax.set_title(title, fontsize=size, pad=2, color=INK)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.4)


def challenge_extremes(clue: np.ndarray, images: np.ndarray) -> Figure:
    """The clue (28, 28), and for each digit the image most surely called 1 (above) and 0 (below):
    images (2, 10, 28, 28)."""
    figure, axes = _figure(8, 1.9, 2, 12, width_ratios=[1.6, 0.4] + [1] * 10)
    for ax in axes[:, :2].flat:
        ax.set_axis_off()
    ax = figure.add_subplot(axes[0, 0].get_gridspec()[:, 0])
    _grey(ax, clue, "the hint", 8)
    for row, name in enumerate(("called 1", "called 0")):
        for digit in range(10):
            _grey(axes[row, 2 + digit], images[row, digit])
        axes[row, 2].set_ylabel(name, fontsize=8, color=INK)
    return figure


def hidden_plane(points: dict[str, np.ndarray], band: tuple[float, float]) -> Figure:
    """The hidden layer's first two principal components: by the network's answer (left) and by
    similarity to the clue (right), with the zeros and ones among the digits written out."""
    figure, (axes,) = _figure(8, 3.5, 1, 2, sharex=True, sharey=True)
    x, y = points["plane"].T
    styles = (
        (points["answer"], BLUE, "o", "called 1"),
        (~points["answer"], AMBER, "x", "called 0"),
    )
    for on, colour, marker, label in styles:
        axes[0].scatter(x[on], y[on], s=7, color=colour, marker=marker, linewidths=0.6, alpha=0.5,
                        label=label)  # fmt: skip
    for digit in (0, 1):
        for k in np.flatnonzero(points["digit"] == digit)[:25]:
            axes[0].text(x[k], y[k], str(digit), fontsize=8, color=INK, weight="bold")
    axes[0].legend(fontsize=8, frameon=False, markerscale=2)
    dots = axes[1].scatter(x, y, c=points["similarity"], s=5, cmap="viridis")
    bar = figure.colorbar(dots, ax=axes[1])
    bar.set_label("similarity to the clue", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    for edge in band:
        bar.ax.axhline(edge, color="white", linewidth=2)
        bar.ax.axhline(edge, color="black", linewidth=1, linestyle="--")
    for ax in axes:
        ax.set_xlabel("first principal component", fontsize=8)
    axes[0].set_ylabel("second principal component", fontsize=8)
    return figure


def ramps(
    values: dict[str, np.ndarray], groups: Sequence[str], band: tuple[float, float]
) -> Figure:
    """Evidence of each group of hidden units, and their sum, against similarity to the clue."""
    figure, axes = _figure(7.5, 4.8, 2, 1, sharex=True, height_ratios=[1.4, 1])
    for name, evidence in zip(groups, values["evidence"], strict=True):
        colour, marker = _GROUP_STYLES[name]
        axes[0, 0].scatter(values["similarity"], evidence, s=5, color=colour, marker=marker,
                           alpha=0.4, linewidths=0, label=f"“{name}”")  # fmt: skip
    axes[1, 0].scatter(values["similarity"], values["margin"], s=4, color=INK, alpha=0.4,
                       linewidths=0)  # fmt: skip
    for ax in axes[:, 0]:
        ax.axhline(0, color=INK, linewidth=0.7)
        for edge in band:
            ax.axvline(edge, color=INK, linewidth=0.9, linestyle="--")
    axes[0, 0].legend(fontsize=8, frameon=False, markerscale=3, loc="upper center")
    axes[0, 0].set_ylabel("evidence for 1", fontsize=8)
    axes[1, 0].set_ylabel("logit 1 − logit 0", fontsize=8)
    axes[1, 0].set_xlabel("similarity to the clue (dashed: the program's thresholds)", fontsize=8)
    return figure


def templates(pictures: dict[str, np.ndarray], kernels: np.ndarray) -> Figure:
    """Signed pictures (28, 28), each on its own scale, and the first layer's kernels (K, 3, 3) on a
    common one: orange for positive, purple for negative, white for nought."""
    figure = Figure(figsize=(8, 3.3), layout="constrained", facecolor="white", dpi=110)
    above, below = figure.subfigures(2, 1, height_ratios=[2.4, 1])
    for ax, (name, picture) in zip(above.subplots(1, len(pictures)), pictures.items(), strict=True):
        top = np.abs(picture).max()
        ax.imshow(picture, cmap="PuOr_r", vmin=-top, vmax=top, interpolation="nearest")
        ax.set_title(name, fontsize=8, color=INK)
        ax.set_xticks([])
        ax.set_yticks([])
    top = np.abs(kernels).max()
    for k, (ax, kernel) in enumerate(zip(below.subplots(1, len(kernels)), kernels, strict=True)):
        ax.imshow(kernel, cmap="PuOr_r", vmin=-top, vmax=top, interpolation="nearest")
        ax.set_title(f"kernel {k}", fontsize=7, color=INK)
        ax.set_xticks([])
        ax.set_yticks([])
    return figure


def threshold_curve(curve: dict[str, np.ndarray], band: tuple[float, float]) -> Figure:
    """Share called 1 by similarity to the clue, and what the program says (dashed steps)."""
    figure, axes = _figure(6.5, 2.8)
    ax = axes[0, 0]
    ax.plot(curve["similarity"], curve["share"], color=BLUE, marker="o", markersize=3,
            linewidth=1.2, label="the network")  # fmt: skip
    ends = [curve["similarity"].min() - 1, *np.repeat(band, 2), curve["similarity"].max() + 1]
    ax.plot(ends, [1, 1, 0, 0, 1, 1], color=VERMILION, linestyle="--", linewidth=1.2,
            label="the program")  # fmt: skip
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("similarity to the clue", fontsize=9)
    ax.set_ylabel("called 1", fontsize=9)
    ax.legend(fontsize=8, frameon=False, loc="center left")
    return figure


def fading(values: dict[str, np.ndarray]) -> Figure:
    """Share of digits called 1 as they fade, by the network and by the program, and the share on
    which they agree."""
    figure, axes = _figure(6.5, 2.8)
    ax = axes[0, 0]
    for key, label, colour, dash, marker in (
        ("fade network", "called 1 by the network", BLUE, "-", "o"),
        ("fade program", "called 1 by the program", VERMILION, "--", "s"),
        ("fade agreement", "both agree", GREEN, ":", "^"),
    ):
        ax.plot(values["fade"], values[key], dash, color=colour, marker=marker, markersize=3.5,
                linewidth=1.2, label=label)  # fmt: skip
    ax.set_ylim(0, 1.02)
    ax.invert_xaxis()
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("ink left", fontsize=9)
    ax.set_ylabel("share of digits", fontsize=9)
    ax.legend(fontsize=8, frameon=False, loc="lower center")
    return figure


def pixel_edits(images: np.ndarray, similarities: np.ndarray, called: np.ndarray) -> Figure:
    """Images (2n, 28, 28), unedited and edited in turn: above before, below after, each with its
    similarity and the network's answer."""
    count = len(images) // 2
    figure, axes = _figure(8, 2.5, 2, count)
    for k, image in enumerate(images):
        title = f"s = {similarities[k]:.1f}\ncalled {int(called[k])}".replace("-", "−")
        _grey(axes[k % 2, k // 2], image, title, 7)
    for row, name in enumerate(("before", "after")):
        axes[row, 0].set_ylabel(name, fontsize=8, color=INK)
    return figure


def label_maps(maps: dict[str, np.ndarray]) -> Figure:
    """Tables of labels by x (down) and y (across), side by side: white for 1, black for 0."""
    figure, (axes,) = _figure(8, 3.1, 1, len(maps))
    for ax, (name, table) in zip(axes, maps.items(), strict=True):
        ax.imshow(table, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(name, fontsize=9, color=INK)
        ax.set_xlabel("y", fontsize=9)
    axes[0].set_ylabel("x", fontsize=9)
    return figure


def sorted_rows(truth: np.ndarray, phase: np.ndarray) -> Figure:
    """The label map with its rows as they come, and sorted by phase (113,), then by x."""
    figure, (axes,) = _figure(8, 4.2, 1, 2)
    order = np.argsort(phase, kind="stable")
    for ax, table, title in (
        (axes[0], truth, "rows in order of x"),
        (axes[1], truth[order], "rows sorted by phase, then x"),
    ):
        ax.imshow(table, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(title, fontsize=9, color=INK)
        ax.set_xlabel("y", fontsize=9)
    axes[0].set_ylabel("x", fontsize=9)
    starts = np.searchsorted(phase[order], np.arange(8))
    ends = np.append(starts[1:], len(phase))
    axes[1].set_yticks((starts + ends - 1) / 2, [str(k) for k in range(8)])
    for start in starts[1:]:
        axes[1].axhline(start - 0.5, color=AMBER, linewidth=1.2)
    axes[1].set_ylabel("phase", fontsize=9)
    return figure


def exponent_scan(scan: dict[str, np.ndarray], cells: int) -> Figure:
    """Cells that the best table of phase and region gets wrong, by exponent (left) and by modulus
    (right); the minimum is written out."""
    figure, (axes,) = _figure(8, 2.7, 1, 2, sharey=True, width_ratios=[1.5, 1])
    axes[0].plot(scan["exponent"], scan["errors"], color=BLUE, linewidth=1)
    axes[1].plot(scan["period"], scan["period errors"], color=BLUE, linewidth=1, marker="o",
                 markersize=4)  # fmt: skip
    for ax, x, errors, name in (
        (axes[0], scan["exponent"], scan["errors"], "exponent p of floor(x^p) mod 8"),
        (axes[1], scan["period"], scan["period errors"], "modulus m of floor(x^1.5) mod m"),
    ):
        best = int(errors.argmin())
        ax.annotate(f"{x[best]:g}: {errors[best]:,} wrong", (x[best], errors[best]),
                    xytext=(8, 14), textcoords="offset points", fontsize=8, color=VERMILION,
                    arrowprops={"arrowstyle": "-", "color": VERMILION})  # fmt: skip
        ax.set_xlabel(name, fontsize=8)
    axes[0].set_ylabel(f"cells wrong, of {cells:,}", fontsize=8)
    axes[0].set_ylim(0, None)
    return figure


def flip_curves(flips: dict[str, np.ndarray], families: dict[str, np.ndarray]) -> Figure:
    """Where the label changes along y, on a plane of x (down) and y (across), with the program's
    two curves and its line."""
    figure, axes = _figure(5.6, 4.6)
    ax = axes[0, 0]
    x = np.linspace(0, 112, 500)
    laws = {"left": x**4 / 40_000, "lower": (360_000 * x) ** 0.25, "line": 133 - x}
    names = {"left": "x⁴ = 40,000 y", "lower": "y⁴ = 360,000 x", "line": "x + y = 133"}
    markers = {"left": "o", "lower": "^", "line": "s"}
    for family, on in families.items():
        colour = _LAW_COLOURS[family]
        ax.plot(laws[family] - 0.5, x, color=colour, linewidth=1)
        ax.scatter(flips["y"][on] - 0.5, flips["x"][on], s=14, color=colour,
                   marker=markers[family], label=f"{names[family]} ({on.sum()})")  # fmt: skip
    ax.set_xlim(-1, 113)
    ax.set_ylim(113, -1)
    ax.set_xlabel("y", fontsize=9)
    ax.set_ylabel("x", fontsize=9)
    ax.legend(fontsize=8, frameon=False, title="changes of label on", title_fontsize=8,
              loc="upper left", bbox_to_anchor=(1, 1))  # fmt: skip
    return figure


def error_distance(curves: dict[str, np.ndarray]) -> Figure:
    """Share of cells answered wrongly by the steps along y to the nearest change of label."""
    figure, axes = _figure(7, 2.9)
    ax = axes[0, 0]
    places = np.arange(len(curves["steps"]))
    styles = ((VERMILION, "--", "s"), (BLUE, "-", "o"))
    named = [name for name in curves if name != "steps"]
    for name, (colour, dash, marker) in zip(named, styles, strict=True):
        for each in curves[name]:
            ax.plot(places, each, dash, color=colour, linewidth=0.6, alpha=0.5)
        ax.plot(places, curves[name].mean(0), dash, color=colour, marker=marker, markersize=4,
                linewidth=1.4, label=name)  # fmt: skip
    ax.set_xticks(places, curves["steps"], fontsize=8)
    ax.set_ylim(0, None)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("steps along y to the nearest change of label", fontsize=9)
    ax.set_ylabel("wrong", fontsize=9)
    ax.legend(fontsize=8, frameon=False)
    return figure


def transformer_inside(attention: np.ndarray, neurons: np.ndarray, stream: np.ndarray) -> Figure:
    """attention (8, 2, 113): the share each head gives to x, by x and by y (above); stream
    (2, 113, 113): two principal components of the last stream, and neurons (4, 113, 113), all over
    x (down) and y (across) (below)."""
    figure = Figure(figsize=(8, 4.3), layout="constrained", facecolor="white", dpi=110)
    above, below = figure.subfigures(2, 1, height_ratios=[1.25, 1])
    axes = above.subplots(1, 2, sharey=True)
    shades = [BLUE, VERMILION, GREEN, AMBER] * 2
    for column, name in enumerate(("x", "y")):
        for head, share in enumerate(attention[:, column]):
            dash = "-" if head < 4 else "--"
            axes[column].plot(share, dash, color=shades[head], linewidth=1, label=f"head {head}")
        axes[column].set_xlabel(name, fontsize=8)
        axes[column].tick_params(labelsize=7)
        axes[column].yaxis.set_major_formatter(PercentFormatter(1))
    axes[0].set_ylabel("attention to x", fontsize=8)
    axes[1].legend(fontsize=6.5, frameon=False, ncols=1, loc="center left", bbox_to_anchor=(1, 0.5))
    axes = below.subplots(1, 6)
    titles = ["component 1", "component 2", *(f"neuron {k + 1}" for k in range(4))]
    for ax, table, title in zip(axes, [*stream, *neurons], titles, strict=True):
        ax.imshow(table, cmap="cividis", interpolation="nearest")
        ax.set_title(title, fontsize=8, color=INK)
        ax.set_xticks([])
        ax.set_yticks([])
    axes[0].set_ylabel("x", fontsize=8)
    for ax in axes:
        ax.set_xlabel("y", fontsize=8)
    return figure
