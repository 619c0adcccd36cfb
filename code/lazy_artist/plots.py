"""What all figures share: one style, and the numbers of a figure carried in its PNG.

The style is `house.mplstyle`, in force once this module is imported. Lines differ in dash and
marker, not in colour alone, and colours of digits carry their names.

`show` ends a figure that shows numbers. In a notebook its PNG holds the table that was plotted as
CSV in a text chunk (iTXt), so that picture and data cannot come apart, and another one says where
in it pictures are, which a dark page shows as they are while it inverts what is drawn around them,
and how small its smallest text is; `bookbinder.reader` reads both.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib import figure as _figure
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import Bbox
from PIL.PngImagePlugin import PngInfo

from lazy_artist.canvas import COLOUR_NAMES, N_CLASSES
from lazy_artist.evaluate import Estimate

matplotlib.style.use(Path(__file__).with_name("house.mplstyle"))

# Okabe and Ito's colours, which the common colour deficiencies keep apart; a dash and a marker go
# with each
DARK, BLUE, VERMILION, GREEN, AMBER = "#222222", "#0072B2", "#D55E00", "#00795C", "#B37700"
WIDTH = 7  # inches of a figure that fills the page's column of 700 px
SMALL = 9.3  # points: the smallest text, 12 px there
NETWORK_STYLES = {
    "cheater": (VERMILION, "s", "-"), "cure": (GREEN, "^", "-."), "oracle": (BLUE, "o", "--"),
}  # fmt: skip
"""Colour, marker and dash of the networks that chapters 3 and 4 look into."""


class Figure(_figure.Figure):
    """A matplotlib figure that notebooks show sharp, with its numbers."""

    data_csv = ""


def grid(
    width: float, height: float, rows: int = 1, columns: int = 1, **subplots: Any
) -> tuple[Figure, np.ndarray]:
    """A figure (inches) and its axes (rows, columns), in the house style. subplots: as for
    `Figure.subplots`."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, squeeze=False, **subplots)


def picture(ax: Axes, image: np.ndarray, title: str = "", size: float = SMALL) -> None:
    """One image (3, h, w) in [0, 1] without axes, under a title of `size` points."""
    ax.imshow(image.transpose(1, 2, 0))
    ax.set_title(title, fontsize=size, pad=2)
    ax.set_axis_off()


def picture_rows(
    rows: dict[str, Any], titles: Sequence[str] = (), height: float = 0.95
) -> tuple[Figure, np.ndarray]:
    """Images (N, 3, h, w) in named rows, `height` inches each, with titles above the first row."""
    columns = len(next(iter(rows.values())))
    figure, axes = grid(WIDTH, height * len(rows), len(rows), columns)
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        row[0].text(-0.15, 0.5, name, transform=row[0].transAxes, ha="right", va="center")
        for ax, image, title in zip(row, images, titles or [""] * columns, strict=True):
            picture(ax, image, title)
        titles = ()
    return figure, axes


def heat_map(
    ax: Axes, table: np.ndarray, texts: np.ndarray, top: float | None = None, size: float = SMALL
) -> None:
    """A matrix (10, 10) on axes of classes with a text in each cell, dark for values near `top`, by
    default the highest."""
    top = float(table.max()) if top is None else top
    ax.imshow(table, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    for (row, column), text in np.ndenumerate(texts):
        colour = "white" if table[row, column] > 0.55 * top else DARK
        ax.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    ax.tick_params(length=0)
    class_ticks(ax.xaxis)
    class_ticks(ax.yaxis)
    ax.spines[:].set_visible(False)


def shares(table: np.ndarray) -> np.ndarray:
    """Texts of shares in percent, for `heat_map`; empty where they round to zero."""
    return np.vectorize(lambda share: f"{100 * share:.0f}" if share >= 0.005 else "")(table)


def plus_minus(value: Estimate, number: str = "{:.1f}", scale: float = 100) -> str:
    """An estimate for a narrow table, a share in percent by default: "95.1 ± 0.1", its mean and the
    distance to the end of its 95% interval, the farther one where the interval was cut."""
    told = number.format(scale * value.mean)
    if value.interval is None:
        return told
    reach = max(abs(end - value.mean) for end in value.interval)
    return f"{told}\u00a0±\u00a0{number.replace('+', '').format(scale * reach)}"


def class_ticks(axis: Axis) -> None:
    """The ten digits along an axis."""
    axis.set_ticks(range(N_CLASSES), [str(digit) for digit in range(N_CLASSES)])


def colour_ticks(ax: Axes, names: Sequence[str] = COLOUR_NAMES, label: str = "colour") -> None:
    """Names of colours along the x axis."""
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=SMALL)
    ax.set_xlabel(label)


def answers(
    ax: Axes,
    images: np.ndarray,
    pairs: Sequence[Sequence[int]],
    probabilities: dict[str, np.ndarray],
    names: Sequence[str] = "0123456789",
) -> pd.DataFrame:
    """Images (N, 3, 28, 28) of pairs (digit, colour) in a row, and below each what every network
    (its name -> probabilities (N, 10)) predicts, with its confidence and what it goes with: the
    digit (of other data, the class of one of ten names), the colour, both or neither. Returns what
    is shown as a tidy frame."""
    own, side, high = ("digit", 0.88, 0.56) if names[0] == "0" else ("shape", 0.6, 0.37)
    top = side + 0.12
    looks = {"digit": (f"✓ {own}", "#DCEBF5"), "both": ("✓ both", "#DCEBF5")}
    looks |= {"colour": ("✗ colour", "#FADFCB"), "neither": ("✗ neither", "#EEEEEE")}
    rows = []
    for column, (image, (digit, colour)) in enumerate(zip(images, pairs, strict=True)):
        left = column + 0.5 - side / 2
        ax.imshow(image.transpose(1, 2, 0), extent=(left, left + side, side + 0.06, 0.06))
        title = f"{COLOUR_NAMES[colour]} {names[digit]}"
        ax.text(column + 0.5, 0, title, ha="center", va="bottom", fontsize=SMALL)
        for row, (network, shares) in enumerate(probabilities.items()):
            best = int(shares[column].argmax())
            kinds = {(1, 1): "both", (1, 0): "digit", (0, 1): "colour", (0, 0): "neither"}
            kind = kinds[best == digit, best == colour]
            told, tint = looks[kind]
            corner = (column + 0.03, top + high * row + 0.02)
            ax.add_patch(Rectangle(corner, 0.94, high - 0.04, facecolor=tint))
            text = f"“{names[best]}” {shares[column, best]:.0%}\n{told}"
            place = (column + 0.5, top + high * (row + 0.5))
            ax.text(*place, text, ha="center", va="center", fontsize=SMALL, linespacing=1.15)
            told = {"prediction": best, "confidence": shares[column, best], "goes with": kind}
            rows.append({"digit": digit, "colour": colour, "network": network} | told)
    for row, network in enumerate(probabilities):
        ax.text(-0.08, top + high * (row + 0.5), network, ha="right", va="center")
    ax.set_xlim(0, len(pairs))
    ax.set_ylim(top + high * len(probabilities), -0.25 * side)
    ax.set_aspect("equal")
    ax.set_axis_off()
    frame = pd.DataFrame(rows)
    return frame.assign(colour=np.array(COLOUR_NAMES)[frame["colour"]])


def stacked_bars(
    rows: dict[str, dict[str, Estimate]], styles: dict[str, tuple[str, str, str]], label: str
) -> Figure:
    """A stacked bar for each row of shares that add up to 1, which are written where they fit.

    rows: by title, the parts' estimates by name; styles: colour, hatch and colour of the text of
    each part, in order; label: of the x axis.
    """
    figure, axes = grid(WIDTH, 0.42 * len(rows) + 1.1)
    ax = axes[0, 0]
    left = np.zeros(len(rows))
    for part, (colour, hatch, text) in styles.items():
        widths = np.array([parts[part].mean for parts in rows.values()])
        look = {"color": colour, "hatch": hatch, "edgecolor": "white", "label": part}
        bars = ax.barh(range(len(rows)), widths, left=left, **look)
        texts = [f"{width:.0%}" if width > 0.06 else "" for width in widths]
        look = {"color": text, "bbox": {"facecolor": colour, "edgecolor": "none", "pad": 1}}
        ax.bar_label(bars, texts, label_type="center", fontsize=SMALL, **look)
        left += widths
    ax.set_yticks(range(len(rows)), rows)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    percent_axis(ax.xaxis, label)
    ax.legend(ncols=len(styles), loc="lower center", bbox_to_anchor=(0.5, 1))
    return figure


def percent_axis(axis: Axis, label: str) -> None:
    """Ticks of an axis of shares in percent, and its label."""
    axis.set_major_formatter(PercentFormatter(1))
    axis.set_label_text(label)


def conflict_curves(
    accuracy: pd.Series,
    styles: Sequence[tuple[str, Any, str]],
    label: str = "accuracy on hard images",
    height: float = 3.8,
) -> Figure:
    """Accuracy against the share of training images whose colour misleads.

    accuracy: estimates, indexed by the title of a line and the share of dominant colours; styles:
    colour, dash and marker of each line; label: of the y axis; height: in inches.
    """
    figure, axes = grid(WIDTH, height)
    ax = axes[0, 0]
    frame = accuracy.rename_axis(["network", "misleading"]).rename("accuracy").reset_index()
    frame["misleading"] = 1 - frame["misleading"]
    lines = frame.groupby("network", sort=False)
    for (title, line), (colour, dash, marker) in zip(lines, styles, strict=False):
        means = np.array([value.mean for value in line["accuracy"]])
        bounds = np.array([value.interval or [value.mean] * 2 for value in line["accuracy"]])
        ax.errorbar(
            line["misleading"], means, yerr=np.abs(bounds.T - means), capsize=3, color=colour,
            linestyle=dash, marker=marker, label=title,
        )  # fmt: skip
    ax.axhline(0.1, color=DARK, linewidth=0.8, linestyle=":", label="guessing")
    ticks = sorted(set(frame["misleading"]))
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{100 * share:.3g}%" for share in ticks])
    ax.minorticks_off()
    ax.invert_xaxis()
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("training images whose colour misleads (log scale)")
    percent_axis(ax.yaxis, label)
    ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    note = (
        "misleading: share of training images whose colour is not the digit's own; "
        f"{label}: a share, mean over seeds; low, high: its 95% interval"
    )
    return show(figure, frame, note)


# --- a figure and its numbers --------------------------------------------------------------------


def show(figure: Figure, frame: pd.DataFrame, note: str) -> Figure:
    """The figure, with the tidy frame that was plotted; cells that are an `Estimate` become three
    columns (the mean under the column's name, "… low" and "… high", its 95% interval) and one of
    the number of seeds. note: one line that says what the columns mean, with units."""
    columns: dict[str, Any] = {}
    for name, column in frame.items():
        if len(column) and isinstance(column.iloc[0], Estimate):
            columns[name] = [value.mean for value in column]
            ends = [value.interval or (None, None) for value in column]
            columns[f"{name} low"], columns[f"{name} high"] = zip(*ends, strict=True)
            seeds = [value.n for value in column]
            columns["seeds" if columns.get("seeds", seeds) == seeds else f"{name} seeds"] = seeds
        else:
            columns[name] = column
    table = pd.DataFrame(columns)
    figure.data_csv = f"# {' '.join(note.split())}\n" + table.to_csv(
        index=False, float_format="%.6g", lineterminator="\n"
    )
    return figure


class _Sizes(RendererAgg):
    """A renderer that notes the sizes of the texts that it draws, in points."""

    def draw_text(
        self, gc: Any, x: float, y: float, text: str, prop: Any, *more: Any, **other: Any
    ):
        self.sizes.append(prop.get_size_in_points())


def with_data(figure: Figure) -> dict[str, Any]:
    """What `savefig` has to be given besides for a PNG, cut to what is drawn, that carries the
    figure's CSV and as JSON "text", the size of its smallest text as a share of its width, and
    "pictures", the boxes (left, top, right, bottom, as shares of the whole) of all that `imshow`
    drew but maps from white to blue."""
    renderer = _Sizes(*figure.bbox.size, figure.dpi)
    renderer.sizes = []
    figure.draw(renderer)
    whole = figure.get_tightbbox(renderer).padded(matplotlib.rcParams["savefig.pad_inches"])
    boxes = []
    for ax in figure.axes:
        for image in ax.images:
            if image.get_array().ndim == 3 or image.get_cmap().name != "Blues":
                box = Bbox.intersection(image.get_window_extent(), ax.bbox) or ax.bbox
                x, y = (box.get_points() / figure.dpi - whole.p0).T / whole.size[:, None]
                boxes.append([round(v, 5) for v in (x[0], 1 - y[1], x[1], 1 - y[0])])
    smallest = min(renderer.sizes, default=72) / 72 / whole.width
    info = PngInfo()
    info.add_itxt("data.csv", figure.data_csv, zip=True)
    about = {"text": round(smallest, 5), "pictures": boxes}
    info.add_itxt("figure.json", json.dumps(about), zip=True)
    return {"format": "png", "bbox_inches": "tight", "pil_kwargs": {"pnginfo": info}}


def _in_notebooks() -> None:
    """Lets a figure that ends a notebook's cell appear as a sharp PNG that carries its data (of a
    class of our own, since importing pyplot sets it for matplotlib's)."""
    if "IPython" not in sys.modules or not (shell := sys.modules["IPython"].get_ipython()):
        return
    from IPython.core.pylabtools import retina_figure

    def shown(figure: Figure) -> tuple[str, dict[str, int]]:
        return retina_figure(figure, base64=True, **with_data(figure))

    shell.display_formatter.formatters["image/png"].for_type(Figure, shown)


_in_notebooks()
