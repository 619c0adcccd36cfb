"""Tuning, labels and ablation by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lazy_artist.models import build
from lazy_artist.tuning import ablated_logits, activations, cell_means, concepts, label, tuning

RED, GREEN, ORANGE = 0, 1, 6
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 4))  # in no order


class TwoFilters(nn.Module):
    """Channel 0 is the mean of red, channel 1 that of green; logits are red and red + 2 green."""

    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(3, 2, 1, bias=False)
        conv.weight.data = torch.eye(3)[:2, :, None, None]
        self.layer = nn.Sequential(conv, nn.ReLU(inplace=True))
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data = torch.tensor([[1.0, 0.0], [1.0, 2.0]])
        self.unused = nn.Conv2d(3, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(images).mean((2, 3)))


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, 28, 28), dtype=np.float32)


def grid_of(*tables: np.ndarray) -> np.ndarray:
    """Activations (10 colours, N, K) without spread within cells, from cells (10 digits, 10
    colours) for each channel."""
    return np.stack([table.T[:, LABELS] for table in tables], axis=2).astype(np.float64)


def cells(**drives: float) -> np.ndarray:
    """cells(d3=1, c0=2): threes add 1, red adds 2."""
    table = np.zeros((10, 10))
    for name, value in drives.items():
        kind, index = name[0], int(name[1:])
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
    assert silent.colour == silent.digit == silent.interaction == silent.colour_selectivity == 0
    assert silent.p_colour == silent.p_digit == 1


def test_cell_means_and_spread_within_cells():
    """Every digit and colour another value; the four images of a cell lie around it. Spread by 1
    around a colour's 4 against 2, a variance of 0.36, is a variance of 1."""
    tables = np.arange(200.0).reshape(2, 10, 10)
    grid, spread = grid_of(*tables), grid_of(cells(c0=2) + 2)
    for digit in range(10):
        grid[:, digit == LABELS] += np.array([0, 0.1, 0.2, 0.5])[:, None]
        spread[:, digit == LABELS] += np.array([1, -1, -1, 1])[:, None]
    np.testing.assert_allclose(cell_means(grid, LABELS), tables + 0.2)
    found = tuning(spread, LABELS, permutations=19).iloc[0]
    assert found.colour == pytest.approx(0.36 / 1.36)
    assert found.digit == pytest.approx(0) and found.interaction == pytest.approx(0)


def test_the_permutation_null_tells_signal_from_noise():
    rng = np.random.default_rng(1)
    noise = rng.random((10, len(LABELS), 40))
    noise[:, :, 0] += 0.6 * cells(c2=1).T[:, LABELS]
    noise[:, :, 1] += 0.6 * cells(d5=1).T[:, LABELS]
    noise[:, :, 2] += 2 * np.eye(10)[:, LABELS]  # each digit in its own colour: interaction alone
    found = tuning(noise, LABELS, permutations=99)
    assert found.p_colour[0] == found.p_digit[1] == found.p_interaction[2] == 0.01
    assert found.p_colour_selectivity[0] == found.p_digit_selectivity[1] == 0.01
    assert found.p_digit[0] > 0.01 and found.p_colour[1] > 0.01 and found.p_colour[2] > 0.01
    for name in ("p_digit", "p_colour", "p_interaction", "p_colour_selectivity"):
        p = found[name][3:]
        assert (p <= 0.1).mean() < 0.3 and 0.3 < p.mean() < 0.7, name  # uniform under the null
    # a tendency that shuffling explains is no label
    noise = np.random.default_rng(0).random((10, len(LABELS), 60))
    found = label(tuning(noise, LABELS, 199), cell_means(noise, LABELS), np.ones(60, bool))
    assert (found.label == "mixed").sum() >= 58


def test_p_counts_the_shuffles_that_reach_the_value():
    """Noise, two images of each digit: of 19 shuffles some spread the means as much as the data do.
    The labels are shuffled among images; the colours within each, of what is left of it when the
    effects of digit and colour are taken off."""
    labels, noise = np.arange(10).repeat(2), np.random.default_rng(3).random((10, 20, 30))
    found = tuning(noise, labels, permutations=19, seed=4)
    rng = np.random.default_rng(4)
    colours = rng.permuted(np.tile(np.arange(10), (19, 10, 2, 1)), axis=-1)
    shuffled = rng.permuted(np.tile(labels, (19, 1)), axis=1)
    for k in range(30):
        values = noise[:, :, k].mean(0)
        spread = [
            np.var([values[draw == digit].mean() for digit in range(10)])
            for draw in (labels, *shuffled)
        ]
        assert found.p_digit[k] == (1 + sum(spread[1:] >= spread[0])) / 20
        data = noise[:, :, k].T.reshape(10, 2, 10)  # digits, images, colours
        cells = data.mean(1)
        rest = data - (cells.mean(1)[:, None] + cells.mean(0) - cells.mean())[:, None]
        moved = [rest, *(np.take_along_axis(rest, draw.argsort(2), 2) for draw in colours)]
        spread = [
            np.square(each - each.mean(0) - each.mean(1)[:, None] + each.mean()).mean()
            for each in (every.mean(1) for every in moved)
        ]
        assert found.p_interaction[k] == (1 + sum(spread[1:] >= spread[0])) / 20
    assert found.p_digit.nunique() > 5 and found.p_interaction.nunique() > 5


def scattered(*places: tuple[int, int]) -> np.ndarray:
    """Cells of which those at (digit, colour) are 1."""
    table = np.zeros((10, 10))
    table[tuple(zip(*places, strict=True))] = 1
    return table


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (cells(), 0),
        (cells(c0=1), 1),
        (cells(d3=1), 1),
        (cells(c0=1, c6=1), 1),  # red and orange are neighbours
        (cells(c0=1, c6=1, c3=1), 1),  # and yellow by way of orange
        (cells(c0=1, c3=1), 2),  # but not without it
        (cells(c0=1, c1=1), 2),  # red and green
        (cells(c1=1, d3=1), 2),  # each alone is half as strong as both together
        (cells(d3=1, d8=1), 2),
        (cells(c0=1, c1=1, d3=2), 1),  # red and green alone are too weak
        (cells(c0=0.3, d3=1), 1),  # what is weak does not drive
        (cells(c0=0.45, c1=1), 2),  # nor what is not
        (np.eye(10), 3),  # all colours: green, the warm ones, the others
        (scattered((3, RED)), 1),
        (scattered((3, RED), (5, GREEN)), 2),
        (scattered((3, RED), (5, ORANGE)), 1),  # different digits, but one family of colours
    ],
)
def test_concepts_by_hand(table, expected):
    assert concepts(table[None])[0] == expected


def test_a_label_takes_two_thirds_of_what_is_explained_and_a_p_below_a_hundredth():
    rows = [  # colour, digit, interaction, p_colour, p_digit
        (0.20, 0.05, 0.04, 0.005, 0.005, "colour"),  # of .29, 69%
        (0.20, 0.05, 0.06, 0.005, 0.005, "mixed"),  # of .31, 65%
        (0.05, 0.20, 0.04, 0.005, 0.005, "shape"),
        (0.04, 0.20, 0.07, 0.005, 0.005, "mixed"),
        (0.20, 0.05, 0.04, 0.010, 0.005, "mixed"),
        (0.05, 0.20, 0.04, 0.005, 0.010, "mixed"),
        (0.05, 0.20, 0.04, 0.010, 0.005, "shape"),
    ]
    names = ["colour", "digit", "interaction", "p_colour", "p_digit", "label"]
    tuned = pd.DataFrame(rows, columns=names)
    tables = np.stack([cells(c2=1.0, d7=1.0)] * len(rows))
    found = label(tuned, tables, np.ones(len(rows), bool))
    assert found.label.tolist() == tuned.label.tolist()
    assert found.prefers.tolist() == ["blue", "", "7", "", "", "", "7"]
    tables = [cells(c0=2), cells(d3=2, d8=1.5), cells(c0=1, d3=1), cells(), 3 - cells(c1=2)]
    found = tuning(grid_of(*tables), LABELS, permutations=199)
    labels = label(found, np.stack(tables), np.array([True, True, True, False, True]))
    assert labels.to_numpy().tolist() == [
        ["colour", "red"], ["shape", "3, 8"], ["mixed", ""], ["dead", ""],
        ["colour", "all but green"],
    ]  # fmt: skip


def test_activations_are_spatial_means_of_the_layers_output():
    images = random_images(7)
    found = activations(TwoFilters().eval(), ["layer", "head"], images, batch=3)
    red, green = images.mean((2, 3))[:, :2].T
    np.testing.assert_allclose(found["layer"], np.stack([red, green], 1), atol=1e-6)
    np.testing.assert_allclose(found["head"], np.stack([red, red + 2 * green], 1), atol=1e-5)


def test_ablation_by_hand():
    """Logits are red, and red + 2 green: without red, with red at its mean, without both."""
    model, images = TwoFilters().eval(), random_images(5)
    red, green = images.mean((2, 3))[:, :2].T
    sets = np.array([[False, False], [True, False], [True, True]])
    for fill, (a, b) in ((0, (0, 0)), (np.array([0.3, 9]), (0.3, 9))):
        logits = ablated_logits(model, "layer", images, sets, fill, batch=6)  # two images a pass
        for found, (r, g) in zip(logits, ((red, green), (a, green), (a, b)), strict=True):
            np.testing.assert_allclose(found[:, 0], r + 0 * red, atol=1e-5)
            np.testing.assert_allclose(found[:, 1], r + 2 * g + 0 * red, atol=1e-5)


def test_bad_input_is_named():
    model, images, both = TwoFilters().eval(), random_images(2), np.ones((1, 2), bool)
    twice = build("cnn", 0).eval()
    twice.block2[2] = twice.block1[2]  # one ReLU for both blocks
    training = TwoFilters().train()
    for call, message in (
        (lambda: activations(model, ["layer", "unused"], images), "'unused' never runs"),
        (lambda: activations(twice, ["block1.2"], images), "'block1.2' runs more than once"),
        (lambda: activations(model, ["layer"], images[:0]), "no images"),
        (
            lambda: ablated_logits(model, "layer", images, both[:, :1]),
            r"sets must be bool \(C, 2\)",
        ),
        (lambda: ablated_logits(model, "layer", images, both, np.zeros(3)), "fill must be one"),
        (lambda: ablated_logits(training, "layer", images, both), "model.eval"),
        (lambda: tuning(np.zeros((9, 40, 1)), LABELS), "grid must have shape"),
        (lambda: cell_means(np.zeros((10, 40, 1)), np.zeros(40, int)), "equally many"),
        (lambda: tuning(np.full((10, 40, 1), -1.0), LABELS), ">= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
