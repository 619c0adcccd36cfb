"""Chapter 1 counts what is painted."""

import warnings

import numpy as np
import pandas as pd
import pytest

from lazy_artist import canvas
from lazy_artist.canvas import colour_split, paint
from lazy_artist.experiments import networks, painting


def is_share(array: np.ndarray) -> bool:
    return bool(((array >= 0) & (array <= 1)).all())


# --- the canvas itself ---------------------------------------------------------------------------


def test_canvas_tables_count_what_is_painted():
    tables = painting.canvas_tables()
    assert list(tables) == list(canvas.SPLITS)
    for name in ("train", "hard"):
        split = colour_split(name, 0 if name == "train" else networks.TEST_SEED)
        expected = canvas.contingency(split.labels, split.colours)
        np.testing.assert_array_equal(tables[name], expected)
    assert tables["validation"].sum() == 125 and tables["unseen"].sum() == 250
    assert (tables["hard"].diagonal() == 0).all()
    np.testing.assert_array_equal(tables["aligned"], np.diag(np.full(10, 25)))

    shown = painting.canvas_table().set_index("split")
    assert shown.loc["train", "images"] == "1,375"
    shares = shown["dominant colour, % of each digit"]
    assert shares["hard"] == "0.00 to 0.00" and shares["aligned"] == "100.00 to 100.00"
    assert shown.loc["aligned", "mutual information, bits"] == "3.322"  # log2 of ten


def test_bits():
    assert painting.ceiling_bits() == pytest.approx(3.321928)
    assert painting.bits("aligned") == "3.32"
    hard = colour_split("hard", networks.TEST_SEED)
    expected = canvas.mutual_information(hard.labels, hard.colours)
    assert painting.bits("hard") == f"{expected:.2f}"


def test_dominant_shares():
    table = np.full((10, 10), 1)
    table[3, 3], table[3, 4] = 6, 6  # of twenty threes, six are yellow
    expected = [0.1] * 10
    expected[3] = 0.3
    np.testing.assert_allclose(painting.dominant_shares(table), expected)


def test_ground_pairs_are_the_same_digits_in_their_own_colours():
    textured, flat, names = painting.ground_pairs(4)
    images, labels = (part[:4] for part in canvas.split_digits("hard"))
    np.testing.assert_array_equal(textured, paint(images, labels, networks.TEST_SEED))
    np.testing.assert_array_equal(flat, canvas.flat_fill(images, labels, networks.TEST_SEED))
    assert names == [canvas.COLOUR_NAMES[label] for label in labels]


def test_colour_betrays_the_easy_label_and_misleads_on_the_hard_one():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the regressions may stop early
        table = painting.colour_or_shape_alone()
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == ["easy validation", "hard"]
    assert table.loc["mean colour", "easy validation"] > 75
    assert table.loc["mean colour", "hard"] < 15
    assert table.loc["grey shape"].min() > 60


def test_single_pixels_tell_a_flat_fill_and_not_a_stroke(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "3600")  # half of 3,000 are for the test
    reading = painting.pixel_reading()
    count = len(reading["pixels"])
    assert reading["stroke"].shape == reading["flat"].shape == (2, count)
    assert is_share(reading["stroke"]) and is_share(reading["flat"])
    assert (np.diff(reading["pixels"]) > 0).all() and reading["pixels"][0] == 1
    assert (reading["flat"][:, 0] > reading["stroke"][:, 0] + 0.3).all()
