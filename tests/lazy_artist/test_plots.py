"""What figures share: their style, their small parts, and the numbers that they carry."""

import base64
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
from lazy_artist.canvas import COLOUR_NAMES
from lazy_artist.evaluate import Estimate


def png_of(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


# --- style and parts -----------------------------------------------------------------------------


def test_figures_are_opaque_white_in_the_house_style_and_leave_no_state():
    code = """
import sys
from lazy_artist import plots
figure, axes = plots.grid(4, 3, 2, 3, sharex=True)
axes[1, 2].plot([0, 1])
axes[1, 2].legend(["a"], title="b")
figure.canvas.draw()
ax = axes[1, 2]
assert axes.shape == (2, 3) and tuple(figure.get_size_inches()) == (4, 3)
assert axes[0, 0].get_shared_x_axes().joined(axes[0, 0], axes[1, 0])
assert figure.get_facecolor() == (1, 1, 1, 1) and figure.get_constrained_layout()
assert not (ax.spines["top"].get_visible() or ax.spines["right"].get_visible())
assert ax.spines["left"].get_visible() and not ax.get_legend().get_frame_on()
assert ax.xaxis.label.get_size() == ax.title.get_size() == 9
assert ax.get_xticklabels()[0].get_size() == ax.get_legend().get_texts()[0].get_size() == 8
assert plots.grid(2, 2)[1].shape == (1, 1)
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_picture_is_the_image_itself():
    image = np.random.default_rng(0).random((3, 28, 28), dtype=np.float32)
    ax = plots.grid(1, 1)[1][0, 0]
    plots.picture(ax, image, "a red 1", size=5)
    assert ax.get_title() == "a red 1" and ax.title.get_size() == 5 and not ax.axison
    np.testing.assert_array_equal(ax.images[0].get_array()[3, 7], image[:, 3, 7])


@pytest.mark.parametrize("top", [None, 180.0])
def test_a_heat_map_has_each_text_in_its_cell_and_reads_on_dark_cells(top):
    table = np.arange(100.0).reshape(10, 10)
    ax = plots.grid(3, 3)[1][0, 0]
    plots.heat_map(ax, table, table.astype(int).astype(str), top=top)
    assert len(ax.texts) == 100
    for text in ax.texts:
        column, row = text.get_position()
        value = 10 * row + column
        assert text.get_text() == str(value) and text.get_size() == plots.SMALL
        # 0.55 of 99 is 54.45, of 180 is 99
        assert text.get_color() == ("white" if top is None and value > 54 else plots.DARK)
    (drawn,) = ax.images
    np.testing.assert_array_equal(drawn.get_array(), table)
    assert drawn.get_clim() == (0, top or 99)
    for axis in (ax.xaxis, ax.yaxis):
        assert [tick.get_text() for tick in axis.get_ticklabels()] == list("0123456789")
        assert list(axis.get_ticklocs()) == list(range(10))


def test_shares_are_whole_percents_and_nothing_where_they_round_to_zero():
    table = np.array([[0, 0.0049, 0.0051], [0.126, 0.994, 1]])
    assert plots.shares(table).tolist() == [["", "", "1"], ["13", "99", "100"]]


def test_colours_are_named_along_the_axis():
    ax = plots.grid(3, 3)[1][0, 0]
    plots.colour_ticks(ax)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == list(COLOUR_NAMES)
    assert ax.get_xlabel() == "colour"
    plots.colour_ticks(ax, ("lime", "teal"), "unseen colour")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["lime", "teal"]
    assert list(ax.get_xticks()) == [0, 1] and ax.get_xlabel() == "unseen colour"


def test_stacked_bars_are_as_wide_as_their_shares():
    shares = {"block1": (0.5, 0.3, 0.15, 0.05), "block2": (0.1, 0.06, 0.24, 0.6)}
    parts = {"colour": plots.VERMILION, "shape": plots.BLUE, "both": plots.AMBER, "none": "#dddddd"}
    rows = {
        title: {part: Estimate(share, None, 1) for part, share in zip(parts, values, strict=True)}
        for title, values in shares.items()
    }
    styles = {part: (colour, "//", "white") for part, colour in parts.items()}
    ax = plots.stacked_bars(rows, styles, "share of channels").axes[0]
    for k, (container, part) in enumerate(zip(ax.containers, parts, strict=True)):
        assert container.get_label() == part
        for row, (bar, values) in enumerate(zip(container, shares.values(), strict=True)):
            assert bar.get_width() == pytest.approx(values[k])
            assert bar.get_x() == pytest.approx(sum(values[:k]))
            assert bar.get_y() + bar.get_height() / 2 == pytest.approx(row)
            assert to_hex(bar.get_facecolor()) == parts[part].lower()
    # written in the middle of each that is wider than 0.06
    places = {(text.get_text(), *np.round(text.get_position(), 3)) for text in ax.texts}
    assert places == {
        ("50%", 0.25, 0), ("30%", 0.65, 0), ("15%", 0.875, 0),
        ("10%", 0.05, 1), ("24%", 0.28, 1), ("60%", 0.7, 1),
    }  # fmt: skip
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["block1", "block2"]
    assert ax.yaxis_inverted() and ax.get_xlim() == (0, 1)
    assert ax.get_xlabel() == "share of channels"


# --- a figure and its numbers --------------------------------------------------------------------

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
    plain = FRAME[["images"]]
    assert plots.show(figure, plain, "how many").data_csv == "# how many\nimages\n10000\n7\n"
    assert plots.show(figure, plain[:0], "none").data_csv == "# none\nimages\n"
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
import base64, sys
import pandas as pd
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
from lazy_artist import plots

figure, axes = plots.grid(3, 2)
axes[0, 0].plot([1, 2])
plain = shell.display_formatter.format(figure)[0]["image/png"]
plots.show(figure, pd.DataFrame({"x": [1.5, 2]}), "x: seconds")
data, metadata = shell.display_formatter.format(figure)
png = data["image/png"]
as_bytes = lambda png: base64.b64decode(png) if isinstance(png, str) else png
assert sorted(data) == ["image/png", "text/plain"]
assert plots.data_in(as_bytes(png)) == "# x: seconds\\nx\\n1.5\\n2\\n"
assert plots.data_in(as_bytes(plain)) == ""
size = metadata["image/png"]
assert 250 < size["width"] < 400 and size["width"] > size["height"]  # about 3 inches of 110
print(png if isinstance(png, str) else base64.b64encode(png).decode())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    with Image.open(io.BytesIO(base64.b64decode(run.stdout.splitlines()[-1]))) as image:
        assert image.format == "PNG" and 500 < image.width < 800  # two pixels for one
