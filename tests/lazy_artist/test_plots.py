"""What figures share: their style, their small parts, and the numbers that they carry."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from lazy_artist import plots
from lazy_artist.evaluate import Estimate


def png_of(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def test_figures_are_in_the_house_style_and_leave_no_state():
    code = """
import sys
from lazy_artist import plots
figure, axes = plots.grid(4, 3, 2, 3, sharex=True)
assert axes.shape == (2, 3) and tuple(figure.get_size_inches()) == (4, 3)
assert axes[0, 0].get_shared_x_axes().joined(axes[0, 0], axes[1, 0])
assert figure.get_facecolor() == (1, 1, 1, 1) and figure.get_constrained_layout()
assert not axes[1, 2].spines["top"].get_visible() and axes[1, 2].title.get_size() == 9
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


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


def test_stacked_bars_are_as_wide_as_their_shares():
    shares = {"block1": (0.5, 0.3, 0.15, 0.05), "block2": (0.1, 0.06, 0.24, 0.6)}
    styles = {part: (f"#0000{k}0", "//", "white") for k, part in enumerate("abcd", start=1)}
    rows = {
        title: {part: Estimate(share, None, 1) for part, share in zip(styles, values, strict=True)}
        for title, values in shares.items()
    }
    ax = plots.stacked_bars(rows, styles, "share of channels").axes[0]
    for k, (bars, (part, style)) in enumerate(zip(ax.containers, styles.items(), strict=True)):
        assert bars.get_label() == part
        for row, (bar, values) in enumerate(zip(bars, shares.values(), strict=True)):
            place = bar.get_x(), bar.get_width(), bar.get_y() + bar.get_height() / 2
            assert place == pytest.approx((sum(values[:k]), values[k], row))
            assert to_hex(bar.get_facecolor()) == style[0]
    # written on each that is wider than 0.06
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["50%", "10%", "30%", "", "15%", "24%", "", "60%"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["block1", "block2"]
    assert ax.yaxis_inverted()


FRAME = pd.DataFrame(
    {
        "split": ["hard", "unseen, “Größe”"],
        "accuracy": [Estimate(0.1234567891, (0.05, 0.25), 3), Estimate(0.5, None, 1)],
        "images": [10_000, 7],
        "missing": [np.nan, 2.5],
    },
    index=[4, 2],
)
CSV = """\
# accuracy: share of images in [0, 1]; images: how many
split,accuracy,accuracy low,accuracy high,seeds,images,missing
hard,0.123457,0.05,0.25,3,10000,
"unseen, “Größe”",0.5,,,1,7,2.5
"""


def test_a_figure_keeps_the_frame_that_was_plotted_as_csv():
    figure = Figure()
    note = "accuracy: share of images\n  in [0, 1]; images: how many"
    assert plots.show(figure, FRAME, note) is figure
    assert figure.data_csv == CSV
    assert plots.show(figure, FRAME[["images"]][:0], "none").data_csv == "# none\nimages\n"
    two = pd.DataFrame({"a": [Estimate(1, (0, 2), 3)], "b": [Estimate(4, None, 1)]})
    assert plots.show(figure, two, "two").data_csv.splitlines()[1:] == [
        "a,a low,a high,seeds,b,b low,b high,b seeds",
        "1,0,2,3,4,,,1",
    ]


def test_the_png_carries_the_csv_and_is_the_same_picture():
    figure, axes = plots.grid(2, 1)
    axes[0, 0].plot([1, 2], [3, 4])
    bare = png_of(figure)
    assert plots.with_data(bare, figure) is bare and plots.data_in(bare) == ""
    figure.data_csv = CSV
    laden = plots.with_data(bare, figure)
    assert plots.data_in(laden) == CSV
    with Image.open(io.BytesIO(laden)) as image:
        image.verify()  # the checksums of all chunks
    with Image.open(io.BytesIO(bare)) as one, Image.open(io.BytesIO(laden)) as other:
        assert one.size == other.size and one.tobytes() == other.tobytes()


def test_a_figure_that_ends_a_cell_is_shown_sharp_as_a_png_with_its_data():
    code = """
import base64, io
import pandas as pd
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image
shell = InteractiveShell.instance()
from lazy_artist import plots

figure = plots.show(plots.grid(3, 2)[0], pd.DataFrame({"x": [1.5, 2]}), "x: seconds")
data, metadata = shell.display_formatter.format(figure)
png = data["image/png"]
png = base64.b64decode(png) if isinstance(png, str) else png
assert sorted(data) == ["image/png", "text/plain"]
assert plots.data_in(png) == "# x: seconds\\nx\\n1.5\\n2\\n"
size, image = metadata["image/png"], Image.open(io.BytesIO(png))
assert 250 < size["width"] < 400 and size["width"] > size["height"]  # about 3 inches of 110
assert image.format == "PNG" and 500 < image.width < 800  # two pixels for one
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
