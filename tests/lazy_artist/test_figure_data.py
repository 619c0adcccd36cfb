"""The data of a figure, as CSV within its PNG."""

import base64
import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from lazy_artist import figure_data


def axes(**settings):
    ax = Figure().subplots()
    ax.set(**settings)
    return ax


def rows_of(ax, *columns: str) -> list[tuple[str, ...]]:
    return [tuple(row.get(name, "") for name in columns) for row in figure_data.rows(ax.figure)]


def test_lines_go_by_their_label_or_by_that_of_their_colour():
    ax = axes(title="Curves", xlabel="pixels\nseen", ylabel="share")
    ax.plot([1, 2], [0.25, 0.5], color="#ff0000", label="red")
    ax.plot([1, 2], [0.75, np.nan], color="#ff0000")
    ax.plot([3], [1], "o", color="#00ff00")
    ax.axhline(0.1)
    ax.text(1, 1, "said")
    assert rows_of(ax, "panel", "x axis", "y axis", "kind", "series", "x", "y") == [
        ("Curves", "pixels seen", "share", "line", series, x, y)
        for series, x, y in [
            ("red", "1", "0.25"),
            ("red", "2", "0.5"),
            ("red (1)", "1", "0.75"),
            ("(1)", "3", "1"),
        ]
    ]


def test_bars_stand_on_names_and_say_where_they_start():
    ax = axes()
    ax.bar([-0.2, 0.8], [3, 4], 0.4, label="a", yerr=[1, 2])
    ax.bar([0.2, 1.2], [5, 6], 0.4, bottom=[0, 1], label="b")
    ax.set_xticks([0, 1], ["one", "two\nlines"])
    columns = ("kind", "series", "x", "y", "low", "high")
    assert rows_of(ax, *columns) == [
        ("bar", "a", "one", "3", "", ""),
        ("bar", "a", "two lines", "4", "", ""),
        ("bar", "b", "one", "5", "", ""),
        ("bar", "b", "two lines", "7", "1", ""),
        ("interval", "a", "one", "", "2", "4"),
        ("interval", "a", "two lines", "", "2", "6"),
    ]


def test_lying_bars_and_lying_intervals():
    ax = axes()
    ax.barh([0, 1], [2, 3], left=[0, 1])
    ax.set_yticks([0, 1], ["up", "down"])
    ax.errorbar([4], [1], xerr=[0.5], fmt="o", capsize=2, label="mean")
    assert rows_of(ax, "kind", "series", "x", "y", "low", "high") == [
        ("bar", "", "2", "up", "", ""),
        ("bar", "", "4", "down", "1", ""),
        ("line", "mean", "4", "down", "", ""),
        ("interval", "mean", "", "down", "3.5", "4.5"),
    ]


def test_points_carry_the_value_that_colours_them():
    ax = axes()
    ax.scatter([1, 2], [3, 4], c=[5, 6])
    ax.scatter([7], [8], label="plain", color="black")
    assert rows_of(ax, "kind", "series", "x", "y", "value") == [
        ("point", "(1)", "1", "3", "5"),
        ("point", "(1)", "2", "4", "6"),
        ("point", "plain", "7", "8", ""),
    ]


def test_numbers_on_an_axis_are_kept_though_its_ticks_are_worded():
    ax = axes()
    ax.plot([0.2, 0.5], [1, 2])
    ax.set_xticks([0.2, 0.5], ["a fifth", "half"])
    assert rows_of(ax, "x") == [("0.2",), ("0.5",)]


def test_a_matrix_is_data_and_a_picture_is_not():
    ax = axes()
    ax.imshow([[1, 2], [3, 4]])
    ax.set_xticks([0, 1], ["red", "green"])
    ax.set_yticks([0, 1])
    cells = [("red", "0", "1"), ("green", "0", "2"), ("red", "1", "3"), ("green", "1", "4")]
    assert rows_of(ax, "x", "y", "value") == cells
    for picture in (np.zeros((28, 28, 3)), np.zeros((28, 28))):
        ax = axes(xticks=[], yticks=[])
        ax.imshow(picture)
        assert figure_data.rows(ax.figure) == []
    ax = axes()
    ax.imshow([[1, 2], [3, 4]])
    ax.set_axis_off()
    assert figure_data.rows(ax.figure) == []


def test_the_outline_of_a_stepped_histogram():
    ax = axes()
    ax.hist([0, 0, 1], bins=[0, 1, 2], histtype="stepfilled", label="ages")
    corners = rows_of(ax, "kind", "series", "x", "y")
    assert ("outline", "ages", "0", "2") in corners and ("outline", "ages", "2", "1") in corners


def test_more_than_a_table_can_hold_is_no_table():
    ax = axes()
    ax.plot(np.arange(20_000))
    assert len(figure_data.rows(ax.figure)) == 20_000
    ax.plot([1])
    assert figure_data.table(ax.figure) == ""


def png_of(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def test_the_png_carries_the_table_and_is_the_same_picture():
    ax = axes(title="Größe, “η²”")
    ax.plot([1, 2], [3, 4])
    bare = png_of(ax.figure)
    laden = figure_data.with_data(bare, ax.figure)
    text = figure_data.data_in(laden)
    assert list(csv.DictReader(io.StringIO(text))) == [
        {"panel": "Größe, “η²”", "kind": "line", "series": "(1)", "x": x, "y": y}
        for x, y in [("1", "3"), ("2", "4")]
    ]
    with Image.open(io.BytesIO(bare)) as a, Image.open(io.BytesIO(laden)) as b:
        b.verify()
        assert a.size == b.size
    with Image.open(io.BytesIO(bare)) as a, Image.open(io.BytesIO(laden)) as b:
        assert a.tobytes() == b.tobytes()
    assert figure_data.data_in(bare) == ""


def test_a_figure_without_data_keeps_its_bytes():
    figure = Figure()
    png = png_of(figure)
    assert figure_data.with_data(png, figure) is png


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("metadata", [{"width": 1}, None])
def test_what_a_notebook_shows_carries_its_data(encoded: bool, metadata: dict | None):
    ax = axes()
    ax.plot([1, 2], [3, 4])
    png = png_of(ax.figure)
    shown = base64.b64encode(png).decode() if encoded else png
    handlers = {Figure: lambda _: (shown, metadata) if metadata else shown}

    def for_type(kind, handler=None):
        return handlers.get(kind) if handler is None else handlers.update({kind: handler})

    formatter = SimpleNamespace(for_type=for_type)
    shell = SimpleNamespace(display_formatter=SimpleNamespace(formatters={"image/png": formatter}))
    figure_data.carry(shell)
    result = handlers[Figure](ax.figure)
    if metadata:
        result, returned = result
        assert returned == metadata
    raw = base64.b64decode(result) if encoded else result
    assert figure_data.data_in(raw) == figure_data.table(ax.figure) != ""
