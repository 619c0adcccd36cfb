"""Tuning, labels and ablation by hand."""

import numpy as np
import pandas as pd
import pytest
from detectors import random_images, two_filters

from lazy_artist.tuning import (
    ablated_logits,
    activations,
    cell_means,
    label,
    label_units,
    neighbouring_digits,
    things,
    tuning,
)

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 4))  # in no order


def grid_of(*tables: np.ndarray) -> np.ndarray:
    """Activations (10 colours, N, K) without spread within cells, from cells (10 digits, 10
    colours) for each channel."""
    return np.stack([table.T[:, LABELS] for table in tables], axis=2).astype(np.float64)


def cells(**drives: float) -> np.ndarray:
    """cells(d3=1, c0=2): threes add 1, red adds 2."""
    table = np.zeros((10, 10))
    for (kind, *index), value in drives.items():
        index = int("".join(index))
        table[index if kind == "d" else slice(None), index if kind == "c" else slice(None)] += value
    return table


def test_eta_squared_by_hand():
    """Red adds 2, threes add 1, and red threes 5 more. Marginals by colour: 2.6 for red, 0.1 else;
    by digit: 1.7 for threes, 0.2 else; mean 0.35. A second channel is silent."""
    table = cells(c0=2, d3=1)
    table[3, 0] += 5
    found, silent = (row for _, row in tuning(grid_of(table, cells()), LABELS, 19).iterrows())
    total = (9 * 2**2 + 9 * 1**2 + 8**2) / 100 - 0.35**2
    colour = ((2.6 - 0.35) ** 2 + 9 * (0.1 - 0.35) ** 2) / 10
    digit = ((1.7 - 0.35) ** 2 + 9 * (0.2 - 0.35) ** 2) / 10
    assert found.colour == pytest.approx(colour / total)
    assert found.digit == pytest.approx(digit / total)
    assert found.interaction == pytest.approx(1 - (colour + digit) / total)
    assert found.colour_selectivity == pytest.approx((2.6 - 0.1) / (2.6 + 0.1))
    assert found.digit_selectivity == pytest.approx((1.7 - 0.2) / (1.7 + 0.2))
    assert silent.to_numpy().tolist() == [0] * 5 + [1] * 5


def test_cell_means_and_spread_within_cells():
    """The four images of a cell lie around its value. Spread by 1 around a colour's 4 against 2, a
    variance of 0.36, is a variance of 1."""
    tables = np.arange(200.0).reshape(2, 10, 10)
    grid, spread = grid_of(*tables), grid_of(cells(c0=2) + 2)
    for digit in range(10):
        grid[:, digit == LABELS] += np.array([0, 0.1, 0.2, 0.5])[:, None]
        spread[:, digit == LABELS] += np.array([1, -1, -1, 1])[:, None]
    np.testing.assert_allclose(cell_means(grid, LABELS), tables + 0.2)
    found = tuning(spread, LABELS, permutations=19).iloc[0]
    assert found.colour == pytest.approx(0.36 / 1.36)
    assert found.digit == pytest.approx(0) and found.interaction == pytest.approx(0)


def test_p_counts_the_shuffles_that_reach_the_value():
    """Noise, two images of each digit: of 19 shuffles some spread the means as much as the data do.
    The labels are shuffled among images; the colours within each, for the interaction of what is
    left when the effects of digit and colour are taken off."""
    labels, noise = np.arange(10).repeat(2), np.random.default_rng(3).random((10, 20, 30))
    noise[2, :, 0] += 1  # a channel for a colour, another for a digit
    noise[:, 6:8, 1] += 1
    found = tuning(noise, labels, permutations=19, seed=4)
    rng = np.random.default_rng(4)
    colours = rng.permuted(np.tile(np.arange(10), (19, 10, 2, 1)), axis=-1).argsort(-1)
    shuffled = rng.permuted(np.tile(labels, (19, 1)), axis=1)
    data = noise.transpose(1, 0, 2).reshape(10, 2, 10, 30)  # digits, images, colours, channels
    cells, values = data.mean(1), noise.mean(0)
    rest = data - (cells.mean(1)[:, None] + cells.mean(0) - cells.mean((0, 1)))[:, None]
    moved, left = (
        np.mean([part, *(np.take_along_axis(part, draw[..., None], 2) for draw in colours)], 2)
        for part in (data, rest)
    )  # (20, digits, colours, channels)
    means = {
        "digit": [[values[draw == k].mean(0) for k in range(10)] for draw in (labels, *shuffled)],
        "colour": moved.mean(1),
        "interaction": left - left.mean(1, keepdims=True) - left.mean(2, keepdims=True),
    }
    for name, each in means.items():
        spread = np.reshape(each, (20, -1, 30)).var(1)
        reached = (spread[1:] >= spread[0] - 1e-12).sum(0)
        np.testing.assert_allclose(found[f"p_{name}"], (1 + reached) / 20)
    assert found.p_colour[0] == found.p_colour_selectivity[0] == 1 / 20
    assert found.p_digit[1] == found.p_digit_selectivity[1] == 1 / 20
    assert min(found[f"p_{name}"].nunique() for name in ("digit", "colour", "interaction")) > 5


def test_things_by_hand():
    red_three, green_five, orange_five = np.zeros((3, 10, 10))
    red_three[3, 0], green_five[5, 1], orange_five[5, 6] = 1, 1, 1
    for table, expected in (
        (cells(), 0),
        (cells(c0=1), 1),
        (cells(c0=1, c6=1, c3=1), 1),  # red and yellow are neighbours by way of orange
        (cells(c0=1, c3=1), 2),  # but not without it
        (cells(c1=1, d3=1), 2),  # each alone is half as strong as both together
        (cells(c0=1, c1=1, d3=2), 1),  # red and green alone are too weak
        (cells(c0=0.3, d3=1), 1),  # what is weak does not drive
        (cells(c0=0.45, c1=1), 2),  # nor what is not
        (cells(d0=1, d2=1, d4=1, d6=1, d8=1), 5),  # not three families of all colours
        (np.eye(10), 3),  # all colours: green, the warm ones, the others
        (red_three + green_five, 2),
        (red_three + orange_five, 1),  # different digits, but one family of colours
    ):
        assert len(things(table[None])[0]) == expected


def test_things_are_named_and_neighbouring_digits_are_one():
    """Fours and nines are neighbours, nines and sevens are; not fours and sevens."""
    near = np.eye(10, dtype=bool)
    near[[4, 9, 9, 7], [9, 4, 7, 9]] = True
    tables = [cells(d4=1, d9=1, d7=0.9), cells(d4=1, d7=1), cells(c6=2, c0=2, d3=1.9), cells(d3=1)]
    tables[3][3, 1:] = 0  # red threes alone: a thing of colour or of digit covers as much
    tables.append(cells(c5=1))
    tables[4][0, 5] = 0  # cyan on all but zeros: fewer other cells than nine digits hold
    assert things(np.stack(tables), near) == [
        [("digit", [4, 7, 9])],
        [("digit", [4]), ("digit", [7])],
        [("digit", [3]), ("colour", [0, 6])],
        [("colour", [0])],
        [("colour", [5])],
    ]
    assert [len(each) for each in things(np.stack(tables))] == [3, 2, 2, 1, 1]
    warm_three = np.zeros((1, 10, 10))
    warm_three[0, 3, [0, 6]] = 1  # threes are ten cells, red and orange twenty
    assert things(warm_three, near) == [[("digit", [3])]]


def test_as_many_digits_are_neighbours_as_colours(monkeypatch):
    """Mean images are powers of two in one pixel: the seven nearest of 45 pairs."""
    grey = np.zeros((20, 28, 28))
    grey[:, 3, 4] = np.repeat(1.5 ** np.arange(10), 2) + np.tile([-1, 1], 10)
    monkeypatch.setattr(
        "lazy_artist.tuning.split_digits", lambda name: (grey, np.arange(10).repeat(2))
    )
    near = neighbouring_digits()
    assert near.sum() == 14 and (near == near.T).all()
    pairs = {(int(i), int(j)) for i, j in np.argwhere(near) if i < j}
    assert pairs == {(0, 1), (1, 2), (0, 2), (2, 3), (1, 3), (3, 4), (0, 3)}


def test_a_label_takes_two_thirds_of_what_is_explained_the_floor_and_a_p_below_a_hundredth():
    rows = [  # colour, digit, interaction, p_colour, p_digit, p_interaction
        (0.20, 0.05, 0.04, 0.005, 0.005, 0.5, "colour"),  # of .29, 69%
        (0.20, 0.05, 0.06, 0.005, 0.010, 0.5, "mixed"),  # of .31, 65%
        (0.05, 0.20, 0.04, 0.010, 0.005, 0.5, "shape"),
        (0.04, 0.20, 0.07, 0.010, 0.010, 0.005, "mixed"),
        (0.20, 0.05, 0.04, 0.010, 0.005, 0.5, "unexplained"),
        (0.05, 0.20, 0.04, 0.005, 0.010, 0.5, "unexplained"),
        (0.09, 0.02, 0.01, 0.005, 0.005, 0.5, "unexplained"),  # .09 is below the floor
        (0.05, 0.04, 0.02, 0.005, 0.010, 0.5, "mixed"),  # .11 altogether is not
        (0.05, 0.02, 0.02, 0.005, 0.010, 0.5, "unexplained"),
        (0.05, 0.04, 0.02, 0.010, 0.010, 0.010, "unexplained"),
    ]
    names = ["colour", "digit", "interaction", "p_colour", "p_digit", "p_interaction", "label"]
    tuned = pd.DataFrame(rows, columns=names)
    found = label(tuned, np.stack([cells(c2=1.0, d7=1.0)] * 10), np.ones(10, bool))
    assert found.label.tolist() == tuned.label.tolist()
    assert found.prefers.tolist() == ["blue", "", "7", *[""] * 7]
    assert (label(tuned, np.ones((10, 10, 10)), np.ones(10, bool), 0.21).label != "colour").all()
    tables = [cells(c0=2), cells(d3=2, d8=1.5), cells(c0=1, d3=1), cells(), 3 - cells(c1=2)]
    found = tuning(grid_of(*tables), LABELS, permutations=199)
    labels = label(found, np.stack(tables), np.array([True, True, True, False, True]))
    assert labels.label.tolist() == ["colour", "shape", "mixed", "dead", "colour"]
    assert labels.prefers.tolist() == ["red", "3, 8", "", "", "all but green"]


def test_units_are_labelled_on_any_images():
    """On a grid, flat, eta squared and labels are those of the two-way analysis; colours that go
    with the digits by chance, and few digit images, are told by the null."""
    tables = [cells(c0=2), cells(d3=2, d8=1.5), cells(c0=1, d3=1), cells()]
    grid = grid_of(*tables) + np.random.default_rng(1).random((10, 40, 4)) * [[[1, 1, 1, 0]]]
    colours, images = np.arange(10).repeat(40), np.tile(np.arange(40), 10)
    flat = grid.reshape(400, 4)
    found = label_units(flat, colours, np.tile(LABELS, 10), images)
    expected = tuning(grid, LABELS)
    for name in ("colour", "digit", "interaction"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-12)
    assert found.label.tolist() == ["colour", "shape", "mixed", "dead"]
    assert found.p_colour.tolist()[::2] == [1 / 200] * 2 and found.p_colour[3] == 1

    # a value that each image has in all of its paintings: with the images known, chance is large
    rng = np.random.default_rng(5)
    own = rng.random((40, 50))[images]
    alone = label_units(own, colours, np.tile(LABELS, 10))
    known = label_units(own, colours, np.tile(LABELS, 10), images)
    np.testing.assert_allclose(alone.digit, known.digit)
    assert (alone.label == "shape").mean() > 0.8 and (known.label == "shape").mean() < 0.1
    assert known.p_digit.mean() == pytest.approx(0.5, abs=0.12)
    # a little more in red is told within the paintings of an image, and not across images
    little = own + 0.05 * (colours == 0)[:, None]
    assert (label_units(little, colours, np.tile(LABELS, 10), images).p_colour == 1 / 200).all()

    # by hand: five of six ones are red, one green; as many twos the other way about
    values = np.array([4, 4, 4, 4, 4, 0, 1, 0, 0, 0, 0, 0.0])[:, None]
    colours, digits = np.array([0] * 5 + [1] + [0] + [1] * 5), np.repeat([1, 2], 6)
    (row,) = label_units(values, colours, digits, permutations=19).itertuples()
    total = 5 * 16 + 1 - 21**2 / 12
    assert row.digit == pytest.approx((20**2 / 6 + 1 / 6 - 21**2 / 12) / total)
    assert row.colour == pytest.approx((21**2 / 6 - 21**2 / 12) / total)
    assert row.digit + row.colour + row.interaction == pytest.approx(row.digit + row.colour)
    with pytest.raises(ValueError, match="have its label"):
        label_units(values, colours, digits, np.zeros(12, int))


def test_activations_are_spatial_means_and_ablation_replaces_them():
    """Logits are red, and red + 2 green: without red, with red at its mean, without both."""
    model, images = two_filters(), random_images(130)
    red, green = images.mean((2, 3))[:, :2].T
    found = activations(model, ["layer", "head"], images)  # in two passes
    np.testing.assert_allclose(found["layer"], np.stack([red, green], 1), atol=1e-6)
    np.testing.assert_allclose(found["head"], np.stack([red, red + 2 * green], 1), atol=1e-5)
    sets = np.array([[False, False], [True, False], [True, True]])
    for fill, (a, b) in ((0, (0, 0)), (np.array([0.3, 9]), (0.3, 9))):
        logits = ablated_logits(model, "layer", images, sets, fill)
        for found, (r, g) in zip(logits, ((red, green), (a, green), (a, b)), strict=True):
            np.testing.assert_allclose(found[:, 0], r + 0 * red, atol=1e-5)
            np.testing.assert_allclose(found[:, 1], r + 2 * g + 0 * red, atol=1e-5)


def test_bad_input_is_named():
    ablated, both = (two_filters(), "layer", random_images(2)), np.ones((1, 2), bool)
    for function, given, message in (
        (ablated_logits, (*ablated, both[:, :1]), r"must be bool \(C, 2\)"),
        (ablated_logits, (*ablated, both, np.zeros(3)), "fill must be one"),
        (tuning, (np.zeros((9, 40, 1)), LABELS), "grid must have shape"),
        (cell_means, (np.zeros((10, 40, 1)), np.zeros(40, int)), "equally many"),
        (tuning, (np.full((10, 40, 1), -1.0), LABELS), ">= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            function(*given)
