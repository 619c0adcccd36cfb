"""What figures share: their style, their small parts, and the numbers that they carry."""

import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from bookbinder.reader import texts_in
from lazy_artist import plots
from lazy_artist.evaluate import Estimate


def test_a_figure_that_ends_a_cell_is_sharp_in_the_house_style_and_carries_its_data():
    code = """
import base64, io, sys
import pandas as pd
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image
shell = InteractiveShell.instance()
from bookbinder.reader import texts_in
from lazy_artist import plots

figure, axes = plots.grid(3, 2, 2, 3, sharex=True)
assert axes.shape == (2, 3) and axes[0, 0].get_shared_x_axes().joined(axes[0, 0], axes[1, 0])
assert figure.get_facecolor() == (1, 1, 1, 1) and figure.get_constrained_layout()
assert not axes[1, 2].spines["top"].get_visible() and axes[1, 2].title.get_size() == 9.5
plots.show(figure, pd.DataFrame({"x": [1.5, 2]}), "x: “seconds”")
data, metadata = shell.display_formatter.format(figure)
assert sorted(data) == ["image/png", "text/plain"] and "matplotlib.pyplot" not in sys.modules
png = base64.b64decode(data["image/png"])
assert texts_in(png)["data.csv"] == "# x: “seconds”\\nx\\n1.5\\n2\\n"
size, image = metadata["image/png"], Image.open(io.BytesIO(png))
assert 220 < size["width"] < 400 and size["width"] > size["height"]  # about 3 inches of 100
assert image.format == "PNG" and image.width // 2 == size["width"]  # two pixels for one
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("top", [None, 180.0])
def test_a_heat_map_has_each_text_in_its_cell_and_reads_on_dark_cells(top):
    table = np.arange(100.0).reshape(10, 10)
    ax = plots.grid(3, 3)[1][0, 0]
    plots.heat_map(ax, table, table.astype(int).astype(str), top=top)
    for text, value in zip(ax.texts, range(100), strict=True):
        assert text.get_text() == str(value) and text.get_position() == (value % 10, value // 10)
        # 0.55 of 99 is 54.45, of 180 is 99
        assert text.get_color() == ("white" if top is None and value > 54 else plots.DARK)
    np.testing.assert_array_equal(ax.images[0].get_array(), table)
    assert ax.images[0].get_clim() == (0, top or 99)
    for axis in (ax.xaxis, ax.yaxis):
        assert [tick.get_text() for tick in axis.get_ticklabels()] == list("0123456789")
        assert list(axis.get_ticklocs()) == list(range(10))


def test_shares_are_whole_percents_and_nothing_where_they_round_to_zero():
    table = np.array([[0, 0.0049, 0.0051], [0.126, 0.994, 1]])
    assert plots.shares(table).tolist() == [["", "", "1"], ["13", "99", "100"]]


def test_an_estimate_in_a_narrow_table():
    assert plots.plus_minus(Estimate(0.9512, (0.9505, 0.9519), 3)) == "95.1\u00a0±\u00a00.1"
    assert plots.plus_minus(Estimate(0.01, (0, 0.035), 3)) == "1.0\u00a0±\u00a02.5"  # cut at 0
    assert plots.plus_minus(Estimate(2.0, (1.5, 2.5), 3), "{:.2f}", 1) == "2.00\u00a0±\u00a00.50"
    assert plots.plus_minus(Estimate(0.5, None, 1)) == "50.0"


def test_stacked_bars_are_as_wide_as_their_shares():
    shares = {"block1": (0.5, 0.3, 0.15, 0.05), "block2": (0.1, 0.06, 0.24, 0.6)}
    styles = {part: (f"#0000{k}0", "//", "white") for k, part in enumerate("abcd", start=1)}
    rows = {
        title: {part: Estimate(share, None, 1) for part, share in zip(styles, values, strict=True)}
        for title, values in shares.items()
    }
    ax = plots.stacked_bars(rows, styles, "share of channels").axes[0]
    table = np.array(list(shares.values()))
    for k, (bars, style) in enumerate(zip(ax.containers, styles.values(), strict=True)):
        places = [(b.get_x(), b.get_width(), b.get_y() + b.get_height() / 2) for b in bars]
        np.testing.assert_allclose(places, np.c_[table[:, :k].sum(axis=1), table[:, k], [0, 1]])
        assert bars.get_label() == "abcd"[k] and to_hex(bars[0].get_facecolor()) == style[0]
    # written on each that is wider than 0.06
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["50%", "10%", "30%", "", "15%", "24%", "", "60%"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(rows) and ax.yaxis_inverted()


FRAME = pd.DataFrame(
    {
        "split": ["hard", "unseen, “Größe”"],
        "accuracy": [Estimate(0.1234567891, (0.05, 0.25), 3), Estimate(0.5, None, 1)],
        "images": [10_000, 7],
        "missing": [np.nan, 2.5],
    },
    index=[4, 2],
)
NOTE = "accuracy: share of images\n  in [0, 1]; images: how many"
CSV = """\
# accuracy: share of images in [0, 1]; images: how many
split,accuracy,accuracy low,accuracy high,seeds,images,missing
hard,0.123457,0.05,0.25,3,10000,
"unseen, “Größe”",0.5,,,1,7,2.5
"""


def test_a_figure_keeps_the_frame_that_was_plotted_as_csv():
    figure = Figure()
    assert plots.show(figure, FRAME, NOTE) is figure and figure.data_csv == CSV
    assert plots.show(figure, FRAME[["images"]][:0], "none").data_csv == "# none\nimages\n"
    two = pd.DataFrame({"a": [Estimate(1, (0, 2), 3)], "b": [Estimate(4, None, 1)]})
    expected = "# two\na,a low,a high,seeds,b,b low,b high,b seeds\n1,0,2,3,4,,,1\n"
    assert plots.show(figure, two, "two").data_csv == expected


def test_the_png_carries_the_csv():
    figure, file = plots.grid(2, 1)[0], io.BytesIO()
    plots.show(figure, FRAME, NOTE).savefig(file, **plots.with_data(figure))
    assert texts_in(file.getvalue())["data.csv"] == CSV
    figure.savefig(file := io.BytesIO(), format="png")
    assert texts_in(file.getvalue()).get("data.csv") is None


def test_the_png_tells_its_smallest_text_and_where_pictures_are():
    figure, axes = plots.grid(4, 2, 1, 3)
    axes[0, 0].imshow(np.zeros((4, 4, 3)))  # a picture
    axes[0, 1].imshow(np.zeros((4, 4)), cmap="Blues")  # a map from white: drawn
    axes[0, 2].imshow(np.zeros((4, 4)), cmap="magma")
    for ax in axes.flat:
        ax.set_axis_off()
    axes[0, 1].set_title("large", fontsize=20)
    axes[0, 2].text(1, 1, "small", fontsize=5)
    axes[0, 2].text(2, 2, "hidden", fontsize=3, visible=False)
    figure.savefig(file := io.BytesIO(), dpi=200, **plots.with_data(figure))
    told = json.loads(texts_in(file.getvalue())["figure.json"])
    image = Image.open(file).convert("RGB")
    assert told["text"] == pytest.approx(5 / 72 * 200 / image.width, rel=0.01)
    black = np.asarray(image).max(2) < 20  # both pictures are, and nothing else as large
    columns = np.flatnonzero(black.sum(0) > 50)
    first, second = columns[: len(columns) // 2], columns[len(columns) // 2 :]
    for (left, _, right, _), place in zip(told["pictures"], (first, second), strict=True):
        ends = np.array([left, right]) * image.width
        assert np.abs(ends - [place[0], place[-1] + 1]).max() < 2
    rows = np.flatnonzero(black[:, first[5]])
    _, top, _, bottom = told["pictures"][0]
    assert np.abs(np.array([top, bottom]) * image.height - [rows[0], rows[-1] + 1]).max() < 2
