"""The numbers that a figure shows, as CSV, carried within its own PNG.

In a notebook, `carry` makes every figure's PNG hold the table of `rows` as a compressed text chunk
(iTXt, PNG specification 11.3.4.5); whoever builds the book, picture and data cannot come apart.
`data_in` takes the table out again.

Data are lines, points, bars, intervals, and matrices shown as cells of a heat map. Pictures
(digits, saliency maps: images without axes) are not, nor are reference lines, texts, decoration.
"""

from __future__ import annotations

import base64
import csv
import io
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.ticker import FixedLocator
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLUMNS = ("panel", "x axis", "y axis", "kind", "series", "x", "y", "low", "high", "value")
KEYWORD = "data.csv"
_IHDR_END = 33  # bytes: PNG's signature and its first chunk, which holds the size
_TILE = 400  # cells: a larger matrix without ticks is a picture
_MOST = 20_000  # rows; more is no table to read but a picture

Row = dict[str, str]


def rows(figure: Figure) -> list[Row]:
    """One row for each datum shown, in the order drawn; its keys are among COLUMNS.

    kind: "line", "point", "bar" (y from `low`, if the bar does not start at nought), "interval"
    (from `low` to `high`, upright at x or lying at y), "outline" (of a stepped histogram) or "cell"
    (`value` at x, y). Places on an axis
    with names instead of numbers are given by name. Empty if there is nothing of the kind, or so
    much (over 20,000 rows) that it is a picture.
    """
    found: list[Row] = []
    for number, ax in enumerate(figure.axes, start=1):
        titles = (ax.get_title(where) for where in ("center", "left", "right"))
        common = {
            "panel": _text(next(filter(None, titles), "")) or str(number),
            "x axis": _text(ax.get_xlabel()),
            "y axis": _text(ax.get_ylabel()),
        }
        found += [common | row for row in _rows(ax) if "nan" not in row.values()]
    return found if len(found) <= _MOST else []


def _rows(ax: Axes) -> Iterator[Row]:
    x_name, y_name = _namer(ax.xaxis), _namer(ax.yaxis)
    series = _series(ax)
    caps: list[Artist] = []
    for container in ax.containers:
        kind = type(container).__name__
        if kind == "ErrorbarContainer":
            caps += container[1]
        elif kind == "BarContainer":
            lying = container.orientation == "horizontal"
            for bar in container.patches:
                (x, y), width, height = bar.get_xy(), bar.get_width(), bar.get_height()
                if lying:
                    start, place = x, {"x": _number(x + width), "y": y_name(y + height / 2, True)}
                else:
                    start, place = y, {"x": x_name(x + width / 2, True), "y": _number(y + height)}
                low = {"low": _number(start)} if start else {}
                yield {"kind": "bar", "series": _label(container), **place, **low}
    for line in ax.lines:
        if line.get_transform() == ax.transData and line not in caps:
            for x, y in line.get_xydata():
                yield {"kind": "line", "series": series[line], "x": x_name(x), "y": y_name(y)}
    for patch in ax.patches:
        if type(patch).__name__ == "Polygon" and patch.get_data_transform() == ax.transData:
            for x, y in patch.get_xy():
                yield {"kind": "outline", "series": series[patch], "x": x_name(x), "y": y_name(y)}
    for drawn in ax.collections:
        kind = type(drawn).__name__
        if kind == "PathCollection":
            offsets = np.ma.filled(np.ma.asarray(drawn.get_offsets(), float), np.nan)
            values = drawn.get_array()
            for i, (x, y) in enumerate(offsets):
                value = {} if values is None else {"value": _number(values[i])}
                place = {"x": x_name(x), "y": y_name(y)}
                yield {"kind": "point", "series": series[drawn], **place, **value}
        elif kind == "LineCollection" and drawn.get_transform() == ax.transData:
            for segment in drawn.get_segments():
                (x0, y0), (x1, y1) = segment[0], segment[-1]
                ends = (y0, y1) if x0 == x1 else (x0, x1)
                place = {"x": x_name(x0)} if x0 == x1 else {"y": y_name(y0)}
                limits = {"low": _number(min(ends)), "high": _number(max(ends))}
                yield {"kind": "interval", "series": series[drawn], **place, **limits}
    for image in ax.images if ax.axison else ():
        table = np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)
        if table.ndim == 2 and (len(ax.get_xticks()) or table.size <= _TILE):
            for (i, j), value in np.ndenumerate(table):
                place = {"x": x_name(j, True), "y": y_name(i, True)}
                yield {"kind": "cell", **place, "value": _number(value)}


def _series(ax: Axes) -> dict[Artist, str]:
    """What each line, outline and cloud of points shows, by the legend's name.

    Where it has no name of its own, it is numbered under that of the one in its colour.
    """
    names: dict[Artist, str] = {}
    for container in ax.containers:
        intervals = getattr(container, "errorbar", container)  # those on bars go by the bars' name
        if type(intervals).__name__ == "ErrorbarContainer":
            data, _, bars = intervals
            names |= dict.fromkeys([*filter(None, [data]), *bars], _label(container))
    by_colour: dict[str, str] = {}
    drawn = [*ax.lines, *ax.patches, *ax.collections]
    for artist in drawn:
        names[artist] = names.get(artist) or _label(artist)
        if names[artist]:
            by_colour.setdefault(_colour(artist), names[artist])
    count: Counter[str] = Counter()
    for artist in drawn:
        if not names[artist]:
            name = by_colour.get(_colour(artist), "")
            count[name] += 1
            names[artist] = f"{name} ({count[name]})".strip()
    return names


def _colour(artist: Any) -> str:
    """The colour of a line, or of an area's edge or else inside, without its opacity."""
    if hasattr(artist, "get_color"):
        colours = artist.get_color()
    else:
        edge, face = artist.get_edgecolor(), artist.get_facecolor()
        colours = edge if len(edge) and np.any(edge) else face
    return to_hex(np.atleast_2d(to_rgba_array(colours))[0]) if len(colours) else ""


def _namer(axis: Axis) -> Callable[..., str]:
    """Gives a place on the axis its name, if whole numbers on it bear names, else its number.

    Names that are numbers themselves stand only for what is certain to sit on them: bars, cells.
    """
    locator = axis.get_major_locator()
    ticks: dict[float, str] = {}
    if isinstance(locator, FixedLocator):
        labels = axis.get_major_formatter().format_ticks(list(locator.locs))
        ticks = dict(zip(map(float, locator.locs), map(_text, labels), strict=True))
    if any(place % 1 for place in ticks):
        ticks = {}
    numeric = all(_is_number(label) for label in ticks.values())

    def name(place: float, seated: bool = False) -> str:
        near = ticks.get(float(np.round(place)), "") if seated or not numeric else ""
        return near or _number(place)

    return name


def _label(artist: Any) -> str:
    label = str(artist.get_label() or "")
    return "" if label.startswith("_") else _text(label)


def _text(text: str) -> str:
    return " ".join(str(text).split())


def _number(value: float) -> str:
    """To five digits, more than a figure can show; whole numbers whole."""
    value = float(value)
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.5g}"


def _is_number(text: str) -> bool:
    try:
        float(text.strip("%").replace("\N{MINUS SIGN}", "-").replace(",", ""))
    except ValueError:
        return not text
    return True


def table(figure: Figure) -> str:
    """The figure's data as CSV, with the columns that it needs; empty if it shows none."""
    found = rows(figure)
    needed = [name for name in COLUMNS if any(row.get(name) for row in found)]
    file = io.StringIO()
    if found:
        writer = csv.DictWriter(
            file, needed, restval="", extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(found)
    return file.getvalue()


def with_data(png: bytes, figure: Figure) -> bytes:
    """The PNG file with the figure's data in it; the same bytes if the figure shows none."""
    text = table(figure)
    if not text:
        return png
    content = b"iTXt" + KEYWORD.encode() + b"\0\1\0\0\0" + zlib.compress(text.encode())
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:_IHDR_END] + chunk + png[_IHDR_END:]


def data_in(png: bytes) -> str:
    """The data that `with_data` put into a PNG file; empty if there is none."""
    with Image.open(io.BytesIO(png)) as image:
        return str(getattr(image, "text", {}).get(KEYWORD, ""))


def carry(shell: Any) -> None:
    """From now on, figures that the IPython `shell` shows as PNG carry their data."""
    from matplotlib.figure import Figure

    formatter = shell.display_formatter.formatters["image/png"]
    show = formatter.for_type(Figure)

    def show_with_data(figure: Figure) -> Any:
        shown = show(figure)
        png, *metadata = shown if isinstance(shown, tuple) else (shown,)
        if not png:
            return shown
        raw = base64.b64decode(png) if isinstance(png, str) else png
        raw = with_data(raw, figure)
        png = base64.b64encode(raw).decode() if isinstance(png, str) else raw
        return (png, *metadata) if metadata else png

    formatter.for_type(Figure, show_with_data)
