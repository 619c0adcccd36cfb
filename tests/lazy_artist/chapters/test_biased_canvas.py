"""Chapter 1 counts what is painted, fits what it says, and shows what was measured."""

from unittest.mock import Mock

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
            assert row.dominant == (row.colour == COLOUR_NAMES[row.digit])
        assert part["images"].sum() == len(split)
        bits = canvas.mutual_information(split.labels, split.colours)
        assert counted["bits"][name] == pytest.approx(bits)


@pytest.fixture
def fitted(monkeypatch) -> Mock:
    """Stands in for the fits of linear models; the k-th has an accuracy of k percent."""
    mock = Mock(side_effect=[0.01, 0.02, 0.03, 0.04])
    monkeypatch.setattr(biased_canvas, "linear_accuracy", mock)
    return mock


def test_linear_models_see_colour_or_shape_alone(fitted):
    found = biased_canvas.colour_or_shape.__wrapped__(n_train=40, n_eval=30)
    kinds = [(s, name) for name in ("validation", "hard") for s in ("mean colour", "grey shape")]
    rows = [(*kind, k / 100) for k, kind in enumerate(kinds, start=1)]
    assert [*found[["sees", "split", "accuracy"]].itertuples(index=False, name=None)] == rows
    grey, labels = (part[:40] for part in canvas.split_digits("train"))
    painted = canvas.paint(grey, canvas.assign_colours(labels, 0.95, 0), 0)
    for (sees, name), call in zip(kinds, fitted.call_args_list, strict=True):
        (seen, taught), (tested, truth) = call.args
        split = canvas.colour_split(name, TEST_SEED).take(slice(30))
        train, test = painted.mean((2, 3)), split.images.mean((2, 3))
        if sees == "grey shape":
            train, test = grey / 255, canvas.split_digits(name)[0][:30] / 255
        np.testing.assert_allclose(seen, train.reshape(40, -1), rtol=1e-6)
        np.testing.assert_allclose(tested, test.reshape(30, -1), rtol=1e-6)
        np.testing.assert_array_equal(taught, labels)
        np.testing.assert_array_equal(truth, split.labels)


def test_pixels_are_to_tell_the_colour_and_halves_are_kept_apart(fitted):
    found = biased_canvas.colour_from_pixels.__wrapped__(n=50, pixels=[1, 4], seed=3)
    kinds = [(kind, count) for kind in ("stroke on texture", "flat fill") for count in (1, 4)]
    rows = [(*kind, 3, k / 100) for k, kind in enumerate(kinds, start=1)]
    assert [*found.itertuples(index=False, name=None)] == rows
    images, labels = (part[:50] for part in canvas.split_digits("train"))
    colours = canvas.assign_colours(labels, 0.1, 3)  # no hint from the digit
    for (kind, count), call in zip(kinds, fitted.call_args_list, strict=True):
        (seen, taught), (tested, truth) = call.args
        draw = canvas.flat_fill if kind == "flat fill" else canvas.paint
        pixels = biased_canvas.random_pixels(draw(images, colours, 3), count, 3)
        np.testing.assert_array_equal(np.concatenate([seen, tested]), pixels)
        np.testing.assert_array_equal(np.concatenate([taught, truth]), colours)
        assert len(seen) == len(taught) == 25


def test_the_page_shows_what_was_measured(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "full")
    sizes = []

    def colour_or_shape(n_train, n_eval):
        sizes.append((n_train, n_eval))
        accuracy = {"validation": [0.951, 0.842], "hard": [0.023, 0.834]}
        frame = pd.DataFrame({"sees": ["mean colour", "grey shape"]} | accuracy)
        return frame.melt("sees", var_name="split", value_name="accuracy")

    def colour_from_pixels(n, pixels, seed):
        sizes.append((n, seed))
        base = {"stroke on texture": 0.20, "flat fill": 0.90}
        rows = [(c, k, seed, base[c] + k / 1000 + seed / 50) for c in base for k in pixels]
        return pd.DataFrame(rows, columns=["canvas", "pixels", "seed", "accuracy"])

    for function in (colour_or_shape, colour_from_pixels):
        monkeypatch.setattr(biased_canvas, function.__name__, function)
    shown, inline = run_cells("biased-canvas")
    more, _ = run_cells("biased-canvas-more")
    assert sizes == [(5000, 5000), (4000, 0), (4000, 1), (4000, 2)]

    counted = biased_canvas.count_colours(list(SPLITS))
    counts, bits = counted["counts"], counted["bits"]
    rows = table(shown["tbl-splits"])
    assert list(rows)[1:] == sorted(SPLITS, key=bits.get, reverse=True)
    assert rows["unseen"] == ["250", "–", f"{bits['unseen']:.3f}"]
    assert rows["aligned"] == ["250", "100.00 to 100.00", "3.322"]
    train = counts[counts["split"] == "train"]["images"].to_numpy().reshape(10, 10)
    shares = 100 * train.diagonal() / train.sum(1)
    rows_of_train = f"{min(shares):.2f} to {max(shares):.2f}"
    assert rows["train"][:2] == ["1,250", rows_of_train]
    excess = np.abs(train.diagonal() - 0.95 * train.sum(1)).max()
    assert shown["canvas-train-share"].value == excess
    assert shown["canvas-hard-zero"].value == 0

    assert shown["canvas-colour-alone"].value == pytest.approx(0.951)
    rows = [ax for ax in shown["fig-temptation"].axes if ax.patches]
    drawn = [[bar.get_width() for bar in ax.patches] for ax in rows]
    np.testing.assert_allclose(drawn, [[0.951, 0.842], [0.023, 0.834]])
    assert {
        "f\"{100 * colour['validation']:.1f}\"": "95.1",
        "f\"{100 * shape['hard']:.1f}\"": "83.4",
        "f\"{number['hard']:,}\"": "250",
        'f"{math.log2(10):.2f}"': "3.32",
        '"beat" if colour["validation"] > shape["validation"] else "do not beat"': "beat",
        'dominant["train"]': rows_of_train,
        # means over the seeds 0, 1 and 2: 0.02 more than seed 0
        'f"{fill[1]:.0%}"': "92%",
        'f"{ours[1]:.0%}"': "22%",
        'f"{ours[50]:.0%}"': "27%",
    }.items() <= inline.items()

    curves = {line.get_label(): line.get_ydata() for line in shown["fig-pixels"].axes[0].lines}
    np.testing.assert_allclose(curves["stroke on texture"][-2:], [0.24, 0.27])

    tables = [ax.images[0].get_array() for ax in more["fig-tables"].axes[:2]]
    painted = counts[counts["split"] == "hard"]["images"].to_numpy().reshape(10, 10)
    for drawn, count in zip(tables, (train, painted), strict=True):
        np.testing.assert_allclose(drawn, count / count.sum(1, keepdims=True))
    hard = canvas.colour_split("hard", TEST_SEED).take(slice(200))
    sevens = more["fig-sheet"].axes[50 + 35 : 50 + 40]
    for ax, index in zip(sevens, np.flatnonzero(hard.labels == 7), strict=False):
        image = 255 * hard.images[index].transpose(1, 2, 0)
        np.testing.assert_allclose(ax.images[0].get_array(), image, atol=0.501)
        assert ax.get_title() == COLOUR_NAMES[hard.colours[index]]
    assert [ax.get_title() for ax in more["fig-unseen"].axes] == list(UNSEEN_NAMES)
    unseen = canvas.colour_split("unseen", TEST_SEED)
    lime = unseen.images[unseen.colours == 10][0].transpose(1, 2, 0)
    pixels = more["fig-unseen"].axes[0].images[0].get_array()
    np.testing.assert_allclose(pixels, 255 * lime, atol=0.501)
    grey, labels = (part[:10] for part in canvas.split_digits("aligned"))
    fills = shown["fig-fill"].axes
    assert [ax.get_title() for ax in fills[:10]] == [COLOUR_NAMES[label] for label in labels]
    for row, draw in ((fills[:10], canvas.paint), (fills[10:], canvas.flat_fill)):
        pixels = np.stack([ax.images[0].get_array() for ax in row]).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(pixels, 255 * draw(grey, labels, TEST_SEED), atol=0.501)
    seen = shown["fig-palette"].axes[0].images[0].get_array()
    np.testing.assert_allclose(seen[3], canvas.simulate_deficiency(canvas.PALETTE, "tritanopia"))
