"""Chapter 1 counts what is painted, fits what it says, and shows what was measured."""

import numpy as np
import pandas as pd
import pytest
from cells import run_cells, table

from lazy_artist import canvas
from lazy_artist.canvas import COLOUR_NAMES, SPLITS, UNSEEN_NAMES
from lazy_artist.chapters import biased_canvas
from lazy_artist.config import TEST_SEED


def test_colours_are_counted_as_painted():
    counted = biased_canvas.count_colours(list(SPLITS))
    for name, part in counted["counts"].groupby("split"):
        split = canvas.colour_split(name, 0 if name == "train" else TEST_SEED)
        names = np.array(COLOUR_NAMES + UNSEEN_NAMES)[split.colours]
        for row in part.itertuples():
            assert row.images == ((split.labels == row.digit) & (names == row.colour)).sum()
            own = row.colour == COLOUR_NAMES[row.digit]
            assert row.dominant == own and not (own and name == "unseen")
        assert part["images"].sum() == len(split)
        bits = canvas.mutual_information(split.labels, split.colours)
        assert counted["bits"][name] == pytest.approx(bits)
    assert counted["bits"]["aligned"] == pytest.approx(3.321928)  # log2 of ten


@pytest.fixture
def fitted(monkeypatch) -> list:
    """What linear models are fitted to and tested on; the k-th has an accuracy of k percent."""
    calls = []

    def linear_accuracy(train, test):
        calls.append((train, test))
        return len(calls) / 100

    monkeypatch.setattr(biased_canvas, "linear_accuracy", linear_accuracy)
    return calls


def test_linear_models_see_colour_or_shape_alone(fitted):
    found = biased_canvas.colour_or_shape.__wrapped__(n_train=40, n_eval=30)
    colour, shape = "mean colour", "grey shape"
    expected = {(colour, "validation"): 0.01, (shape, "validation"): 0.02}
    expected |= {(colour, "hard"): 0.03, (shape, "hard"): 0.04}
    assert found.set_index(["sees", "split"])["accuracy"].to_dict() == expected
    grey, labels = (part[:40] for part in canvas.split_digits("train"))
    for name, (by_colour, by_shape) in {"validation": fitted[:2], "hard": fitted[2:]}.items():
        split = canvas.colour_split(name, TEST_SEED).take(slice(30))
        painted = canvas.paint(grey, canvas.assign_colours(labels, 0.95, 0), 0)
        test_grey = canvas.split_digits(name)[0][:30]
        for ((seen, taught), (tested, truth)), train, test in (
            (by_colour, painted.mean((2, 3)), split.images.mean((2, 3))),
            (by_shape, grey.reshape(40, 784) / 255, test_grey.reshape(30, 784) / 255),
        ):
            np.testing.assert_allclose(seen, train, rtol=1e-6)
            np.testing.assert_allclose(tested, test, rtol=1e-6)
            np.testing.assert_array_equal(taught, labels)
            np.testing.assert_array_equal(truth, split.labels)


def test_pixels_are_to_tell_the_colour_and_halves_are_kept_apart(fitted):
    found = biased_canvas.colour_from_pixels.__wrapped__(n=50, pixels=[1, 4], seed=3)
    stroke, fill = "stroke on texture", "flat fill"
    expected = {(stroke, 1): 0.01, (stroke, 4): 0.02, (fill, 1): 0.03, (fill, 4): 0.04}
    assert found.set_index(["canvas", "pixels"])["accuracy"].to_dict() == expected
    images, labels = (part[:50] for part in canvas.split_digits("train"))
    colours = canvas.assign_colours(labels, 0.1, 3)  # no hint from the digit
    drawings = [canvas.paint(images, colours, 3), canvas.flat_fill(images, colours, 3)]
    for k, ((seen, taught), (tested, truth)) in enumerate(fitted):
        pixels = biased_canvas.random_pixels(drawings[k // 2], (1, 4)[k % 2], 3)
        np.testing.assert_array_equal(seen, pixels[:25])
        np.testing.assert_array_equal(tested, pixels[25:])
        np.testing.assert_array_equal(taught, colours[:25])
        np.testing.assert_array_equal(truth, colours[25:])


def test_the_page_shows_what_was_measured(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "full")
    sizes = []

    def colour_or_shape(n_train, n_eval):
        sizes.append((n_train, n_eval))
        splits, accuracy = ["validation", "hard"] * 2, [0.951, 0.023, 0.842, 0.834]
        sees = ["mean colour"] * 2 + ["grey shape"] * 2
        return pd.DataFrame({"sees": sees, "split": splits, "accuracy": accuracy})

    def colour_from_pixels(n, pixels, seed):
        sizes.append((n, seed))
        base = {"stroke on texture": 0.20, "flat fill": 0.90}
        rows = [(c, k, seed, base[c] + k / 1000 + seed / 50) for c in base for k in pixels]
        return pd.DataFrame(rows, columns=["canvas", "pixels", "seed", "accuracy"])

    for function in (colour_or_shape, colour_from_pixels):
        monkeypatch.setattr(biased_canvas, function.__name__, function)
    shown, inline = run_cells("biased-canvas")
    assert sizes == [(5000, 5000), (4000, 0), (4000, 1), (4000, 2)]

    counted = biased_canvas.count_colours(list(SPLITS))
    counts, bits = counted["counts"], counted["bits"]
    rows = table(shown["tbl-splits"])
    assert list(rows)[1:] == list(SPLITS)
    assert rows["train"][0] == "1,375" and rows["unseen"] == ["250", "–", f"{bits['unseen']:.3f}"]
    assert rows["aligned"] == ["250", "100.00 to 100.00", "3.322"]
    train = counts[counts["split"] == "train"]["images"].to_numpy().reshape(10, 10)
    shares = 100 * train.diagonal() / train.sum(1)
    assert rows["train"][1] == f"{min(shares):.2f} to {max(shares):.2f}"
    excess = np.abs(train.diagonal() - 0.95 * train.sum(1)).max()
    assert shown["canvas-train-share"].value == excess
    assert shown["canvas-hard-zero"].value == 0

    assert table(shown["tbl-alone"]) == {
        "a linear model that sees": ["easy validation", "hard"],
        "mean colour": ["95.1", "2.3"],
        "grey shape": ["84.2", "83.4"],
    }
    assert shown["canvas-colour-alone"].value == pytest.approx(0.951)
    texts = list(inline.values())
    assert texts[:4] == ["1,375", "125", "250", "3.32"]
    # means over the seeds 0, 1 and 2: 0.02 more than seed 0
    assert texts[-5:] == ["2.3%", "92%", "22%", "50", "27%"]

    curves = shown["fig-pixels"].axes[0].lines
    drawn = {line.get_label(): line.get_ydata() for line in curves}
    np.testing.assert_allclose(drawn["flat fill"][:3], [0.921, 0.922, 0.925])
    np.testing.assert_allclose(drawn["stroke on texture"][-2:], [0.24, 0.27])

    for ax, name in zip(shown["fig-tables"].axes, SPLITS, strict=True):
        expected = counts[counts["split"] == name]["images"].to_numpy().reshape(10, 10)
        np.testing.assert_array_equal(ax.images[0].get_array(), expected)
        names = UNSEEN_NAMES if name == "unseen" else COLOUR_NAMES
        assert [text.get_text() for text in ax.get_xticklabels()] == list(names)

    hard = canvas.colour_split("hard", TEST_SEED).take(slice(200))
    sevens = shown["fig-sheet"].axes[50 + 35 : 50 + 40]
    for ax, index in zip(sevens, np.flatnonzero(hard.labels == 7), strict=False):
        np.testing.assert_allclose(ax.images[0].get_array(), hard.images[index].transpose(1, 2, 0))
        assert ax.get_title() == COLOUR_NAMES[hard.colours[index]]
    assert [ax.get_title() for ax in shown["fig-unseen"].axes] == list(UNSEEN_NAMES)
    seen = shown["fig-palette"].axes[0].images[0].get_array()
    np.testing.assert_allclose(seen[3], canvas.simulate_deficiency(canvas.PALETTE, "tritanopia"))
