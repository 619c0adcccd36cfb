"""Feature visualisation on networks whose optima are known, tuning by hand, ablation by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist import probe
from lazy_artist.canvas import CLASSES
from lazy_artist.models import build

RED, GREEN, ORANGE, WHITE = 0, 1, 6, 9


class Detector(nn.Module):
    """One filter a channel, ReLU, global average pooling, and a head of the given weights."""

    def __init__(self, filters: torch.Tensor, head: torch.Tensor):
        super().__init__()
        channels, _, side, _ = filters.shape
        conv = nn.Conv2d(3, channels, side, padding=side // 2, bias=False)
        conv.weight.data = filters
        self.layer = nn.Sequential(conv, nn.ReLU(inplace=True))
        self.head = nn.Linear(channels, len(head), bias=False)
        self.head.weight.data = head
        self.unused = nn.Conv2d(3, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(images).mean((2, 3)))


def bar() -> torch.Tensor:
    """A red vertical bar, seven high and one wide, on black: (3, 7, 7)."""
    weights = torch.full((3, 7, 7), -0.5)
    weights[0, :, 3] = 1
    return weights


def bar_detector() -> Detector:
    return Detector(bar()[None], torch.eye(1)).eval()


def two_filters() -> Detector:
    """Channel 0 sees red, channel 1 green, both pixel by pixel."""
    filters = torch.zeros(2, 3, 1, 1)
    filters[0, 0], filters[1, 1] = 1, 1
    return Detector(filters, torch.tensor([[1.0, 0.0], [1.0, 2.0]])).eval()


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, 28, 28), dtype=np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


# --- feature visualisation -----------------------------------------------------------------------


@pytest.mark.parametrize("parametrisation", probe.PARAMETRISATIONS)
def test_the_known_optimum_of_a_bar_detector_is_found_wherever_it_lies(parametrisation):
    model = bar_detector()
    # the best of four ascents; a bar one pixel wide does not bear both free pixels and jitter
    found = probe.visualise(
        model, "layer", where="max", optima=4, diversity=0,
        parametrisation=parametrisation, robust=parametrisation == "fourier",
    )  # fmt: skip
    best = found.scores[0].argmax()
    image = torch.from_numpy(found.images[0, best])
    row, column = divmod(int(model.layer(image[None]).argmax()), 28)
    patch = np.pad(image.numpy(), ((0, 0), (3, 3), (3, 3)))[:, row : row + 7, column : column + 7]
    assert cosine(patch, (bar() > 0).numpy()) >= 0.95
    assert found.scores[0, best] > 0.9 * 7  # all seven red pixels, nothing against them


def test_a_unit_is_shown_what_it_sees_at_its_place():
    found = probe.visualise(
        bar_detector(), "layer", where=(14, 10), parametrisation="pixels", robust=False
    )
    patch = found.images[0, 0][:, 11:18, 7:14]
    assert cosine(patch, (bar() > 0).numpy()) >= 0.95
    start = probe.visualise(
        bar_detector(), "layer", where=(14, 10), parametrisation="pixels", learning_rate=0
    )
    np.testing.assert_allclose(  # where the unit does not look the start stays
        found.images[0, 0][:, :, 20:], start.images[0, 0][:, :, 20:], atol=1e-6
    )


def test_the_channel_mean_its_negative_and_a_combination_of_channels():
    directions = np.array([[1, 0], [-1, 0], [1, -1]])
    found = probe.visualise(two_filters(), "layer", directions, parametrisation="pixels", steps=48)
    red, not_red, red_not_green = found.images[:, 0].mean((2, 3))
    assert red[0] > 0.95 and 0.45 < red[1] < 0.55 and 0.45 < red[2] < 0.55
    assert not_red[0] < 0.05 and 0.45 < not_red[1] < 0.55
    assert red_not_green[0] > 0.95 and red_not_green[1] < 0.05
    np.testing.assert_allclose(
        found.scores[:, 0], [red[0], -not_red[0], red_not_green[0] - red_not_green[1]], atol=1e-5
    )


def test_a_logit_is_a_channel_of_the_head():
    found = probe.visualise(two_filters(), "head", parametrisation="pixels", steps=48)
    red_logit, both_logit = found.images[:, 0].mean((2, 3))
    assert red_logit[0] > 0.95 and red_logit[1] < 0.6
    assert both_logit[0] > 0.95 and both_logit[1] > 0.95
    assert found.scores[1, 0] == pytest.approx(both_logit[0] + 2 * both_logit[1], abs=1e-4)


def test_a_silent_channel_is_woken():
    """Red less green and blue: shut on the grey start, everywhere, and 1 on pure red."""
    filters = torch.tensor([1, -0.8, -0.8]).view(1, 3, 1, 1)
    model = Detector(filters, torch.eye(1)).eval()
    grey = np.full((1, 3, 28, 28), 0.5, np.float32)
    assert probe.activations(model, ["layer"], grey)["layer"][0, 0] == 0
    found = probe.visualise(model, "layer", parametrisation="pixels")
    assert found.scores[0, 0] > 0.9


def test_each_channel_comes_out_as_it_would_alone():
    model = build("cnn", 3).eval()
    settings = dict(optima=2, steps=5)
    every = probe.visualise(model, "block2", **settings, batch=48)
    alone = probe.visualise(model, "block2", np.eye(64)[[17]], **settings)
    np.testing.assert_allclose(every.images[17], alone.images[0], atol=1e-3)
    again = probe.visualise(model, "block2", np.eye(64)[[17]], **settings)
    np.testing.assert_array_equal(alone.images, again.images)
    other = probe.visualise(model, "block2", np.eye(64)[[17]], **settings, seed=1)
    assert np.abs(alone.images - other.images).max() > 0.01


def test_diversity_keeps_the_optima_of_a_channel_apart():
    """A channel that averages all three primaries is pleased by any; two optima need not agree."""
    model = build("cnn", 0).eval()
    near, far = (
        probe.visualise(model, "block1", optima=2, diversity=weight, steps=32)
        for weight in (0.0, 2.0)
    )

    def apart(found):
        maps = model.block1(torch.from_numpy(found.images.reshape(-1, 3, 28, 28))).detach()
        return float(probe._likeness(maps.unflatten(0, (-1, 2))).mean())

    assert apart(far) < apart(near) - 0.02
    assert far.images.shape == (32, 2, 3, 28, 28)


def test_gram_likeness_of_hand_made_maps():
    """Optima that excite the same channels are alike (1), other channels not at all (0)."""
    maps = torch.zeros(1, 3, 2, 1, 2)
    maps[0, 0, 0], maps[0, 1, 0], maps[0, 2, 1] = 1, 3, 1
    torch.testing.assert_close(probe._likeness(maps), torch.tensor([[0.5, 0.5, 0.0]]))


def test_all_images_lie_in_the_unit_range_and_their_colours_are_mixed_by_the_root():
    """With one direction in the root, all that can be drawn is that much more red than green."""
    root = np.array([[2, 0, 0], [1, 0, 0], [0, 0, 0]], np.float32)
    model = build("cnn", 0).eval()
    for parametrisation in probe.PARAMETRISATIONS:
        images = probe.visualise(
            model, "block1", steps=8, root=root, parametrisation=parametrisation
        ).images
        assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
        red, green, blue = np.moveaxis(np.log(images / (1 - images)), 2, 0)
        np.testing.assert_allclose(red, 2 * green, rtol=1e-2, atol=1e-3)
        np.testing.assert_array_equal(blue, 0)


def test_the_colour_root_by_hand():
    """Red alone varies, between 0 and 1: its standard deviation is all there is."""
    images = np.zeros((2, 3, 28, 28), np.float32)
    images[1, 0] = 1
    images[:, 2] = 0.25
    np.testing.assert_allclose(probe.colour_root(images), np.diag([1, 0, 0]), atol=1e-6)
    images[1, 1] = 1  # now red and green go together
    root = probe.colour_root(images)
    np.testing.assert_allclose(root[:2, :2], np.full((2, 2), 2**-0.5), atol=1e-3)


def test_transformations_move_all_images_alike_and_little():
    images = torch.zeros(2, 3, 28, 28)
    images[:, :, 10:18, 10:18] = 1
    moved = probe._shaken(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(moved[0], moved[1])
    assert 0 < (moved - images).abs().mean() < 0.05
    assert moved[:, :, 13:15, 13:15].min() > 0.95  # the middle of the square stays inside it


# --- tuning --------------------------------------------------------------------------------------

LABELS = np.repeat(np.arange(CLASSES), 4)


def grid_of(cell: np.ndarray) -> np.ndarray:
    """Activations (10 colours, N, 1) without spread within cells, from cells (10 digits, 10
    colours)."""
    return cell.T[:, LABELS, None].astype(np.float64)


def cells(**drives: float) -> np.ndarray:
    table = np.zeros((CLASSES, CLASSES))
    for name, value in drives.items():
        kind, index = name[0], int(name[1:])
        if kind == "d":
            table[index] += value
        else:
            table[:, index] += value
    return table


def test_eta_squared_by_hand():
    """Red adds 2, threes add 1, and red threes 5 more.

    Marginals by ink: 2.6 for red, 0.1 else; by digit: 1.7 for threes, 0.2 else; mean 0.35.
    Squares: total 7.8 a mean cell; worked out below from the definitions.
    """
    table = cells(c0=2, d3=1)
    table[3, 0] += 5
    found = probe.tuning(grid_of(table), LABELS, permutations=19)
    total = (9 * 2**2 + 9 * 1**2 + 8**2) / 100 - 0.35**2
    colour = ((2.6 - 0.35) ** 2 + 9 * (0.1 - 0.35) ** 2) / 10
    digit = ((1.7 - 0.35) ** 2 + 9 * (0.2 - 0.35) ** 2) / 10
    assert found.colour[0] == pytest.approx(colour / total)
    assert found.digit[0] == pytest.approx(digit / total)
    assert found.interaction[0] == pytest.approx(1 - (colour + digit) / total)
    assert found.colour_selectivity[0] == pytest.approx((2.6 - 0.1) / (2.6 + 0.1))
    assert found.digit_selectivity[0] == pytest.approx((1.7 - 0.2) / (1.7 + 0.2))
    np.testing.assert_allclose(found.cells[0], table)


def test_spread_within_cells_lowers_eta_squared():
    """Half of each cell's images at +1, half at -1 around an ink's 4 against 2: variances 1 and
    0.36."""
    grid = grid_of(cells(c0=2) + 2)
    grid += np.tile([1, -1], 20)[None, :, None]
    found = probe.tuning(grid, LABELS, permutations=19)
    assert found.colour[0] == pytest.approx(0.36 / 1.36)
    assert found.digit[0] == pytest.approx(0) and found.interaction[0] == pytest.approx(0)


def test_the_permutation_null_tells_signal_from_noise():
    rng = np.random.default_rng(1)
    noise = rng.random((CLASSES, len(LABELS), 40))
    noise[:, :, 0] += 0.6 * cells(c2=1).T[:, LABELS]
    noise[:, :, 1] += 0.6 * cells(d5=1).T[:, LABELS]
    noise[:, :, 2] += 2 * np.eye(CLASSES)[:, LABELS]  # each digit in its own ink: interaction alone
    found = probe.tuning(noise, LABELS, permutations=99)
    assert found.p_colour[0] == found.p_digit[1] == found.p_interaction[2] == 0.01
    assert found.p_colour_selectivity[0] == found.p_digit_selectivity[1] == 0.01
    assert found.p_digit[0] > 0.01 and found.p_colour[1] > 0.01 and found.p_colour[2] > 0.01
    for name in ("p_digit", "p_colour", "p_interaction", "p_colour_selectivity"):
        p = getattr(found, name)[3:]
        assert (p <= 0.1).mean() < 0.3 and 0.3 < p.mean() < 0.7, name  # uniform under the null


def test_a_silent_channel_is_tuned_to_nothing():
    found = probe.tuning(np.zeros((CLASSES, len(LABELS), 1)), LABELS, permutations=9)
    assert found.colour[0] == found.digit[0] == found.interaction[0] == 0
    assert found.colour_selectivity[0] == 0 and found.p_colour[0] == found.p_digit[0] == 1


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
        (np.eye(10), 3),  # all inks: green, the warm ones, the others
    ],
)
def test_concepts_by_hand(table, expected):
    assert probe.concepts(table[None])[0] == expected


def test_a_single_cell_is_one_thing_and_scattered_cells_are_several():
    table = np.zeros((3, CLASSES, CLASSES))
    table[0, 3, RED] = 1
    table[1, 3, RED] = table[1, 5, GREEN] = 1
    table[2, 3, RED] = table[2, 5, ORANGE] = 1  # different digits, but one family of inks
    assert probe.concepts(table).tolist() == [1, 2, 1]


def test_labels_follow_their_rule():
    tables = [cells(c0=2), cells(d3=2, d8=1.5), cells(c0=1, d3=1), cells(), 3 - cells(c1=2)]
    found = probe.tuning(
        np.concatenate([grid_of(table) for table in tables], axis=2), LABELS, permutations=199
    )
    labels = probe.label(found, np.array([True, True, True, False, True]))
    assert labels == [
        ("colour", "red"), ("shape", "3, 8"), ("mixed", ""), ("dead", ""),
        ("colour", "all but green"),
    ]  # fmt: skip


def test_a_tendency_that_shuffling_explains_is_no_label():
    noise = np.random.default_rng(0).random((CLASSES, len(LABELS), 60))
    labels = probe.label(probe.tuning(noise, LABELS, 199), np.ones(60, bool))
    assert sum(kind == "mixed" for kind, _ in labels) >= 58


# --- activations and ablation --------------------------------------------------------------------


def test_activations_are_spatial_means_of_the_layers_output():
    model, images = build("cnn", 0).eval(), random_images(7)
    found = probe.activations(model, ["block2", "block3"], images, batch=3)
    with torch.no_grad():
        maps = model.block2(model.pool(model.block1(torch.from_numpy(images))))
        np.testing.assert_allclose(found["block2"], maps.mean((2, 3)), atol=1e-5)
        np.testing.assert_allclose(
            found["block3"], model.features(torch.from_numpy(images)), atol=1e-5
        )


def test_ablation_by_hand():
    """Logits are red, and red + 2 green: without red, with red at its mean, without both."""
    model, images = two_filters(), random_images(5)
    red, green = images.mean((2, 3))[:, :2].T
    sets = np.array([[False, False], [True, False], [True, True]])
    logits = probe.ablated_logits(model, "layer", images, sets, batch=6)
    np.testing.assert_allclose(logits[0], np.stack([red, red + 2 * green], 1), atol=1e-5)
    np.testing.assert_allclose(logits[1], np.stack([0 * red, 2 * green], 1), atol=1e-5)
    np.testing.assert_allclose(logits[2], 0, atol=1e-6)
    filled = probe.ablated_logits(model, "layer", images, sets[1:2], np.array([0.3, 9]))
    np.testing.assert_allclose(filled[0], np.stack([0.3 + 0 * red, 0.3 + 2 * green], 1), atol=1e-5)


@pytest.mark.parametrize(("arch", "layer"), [("cnn", "block1"), ("resnet18", "layer4")])
def test_taking_nothing_away_changes_nothing_and_leaves_no_trace(arch, layer):
    model, images = build(arch, 0).eval(), random_images(4)
    before = model(torch.from_numpy(images)).detach().numpy()
    width = probe.activations(model, [layer], images)[layer].shape[1]
    logits = probe.ablated_logits(model, layer, images, np.zeros((2, width), bool))
    np.testing.assert_allclose(logits[1], before, atol=1e-5)
    probe.visualise(model, layer, np.eye(width)[:2], steps=2, optima=2)
    np.testing.assert_array_equal(model(torch.from_numpy(images)).detach().numpy(), before)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_the_score_returned_is_the_layers_own_output_also_where_relus_work_in_place():
    model = build("resnet18", 0).eval()
    found = probe.visualise(model, "layer4", np.eye(128)[:3], steps=4)
    again = probe.activations(model, ["layer4"], found.images[:, 0])["layer4"]
    np.testing.assert_allclose(found.scores[:, 0], again[range(3), range(3)], atol=1e-5)
    assert (found.scores > 0).all()


# --- bad input -----------------------------------------------------------------------------------


def test_bad_input_is_named():
    model, images = two_filters(), random_images(2)
    with pytest.raises(ValueError, match="no layer 'block9': the model has layer, layer.0"):
        probe.visualise(model, "block9")
    with pytest.raises(ValueError, match="'unused' never runs"):
        probe.visualise(model, "unused")
    with pytest.raises(ValueError, match="'unused' never runs"):
        probe.activations(model, ["layer", "unused"], images)
    with pytest.raises(ValueError, match="'block1.2' runs more than once"):
        twice = build("cnn", 0).eval()
        twice.block2[2] = twice.block1[2]  # one ReLU for both blocks
        probe.activations(twice, ["block1.2"], images)
    with pytest.raises(ValueError, match=r"directions must have shape \(M, 2\)"):
        probe.visualise(model, "layer", np.eye(3))
    with pytest.raises(ValueError, match="unit .28, 0. lies outside"):
        probe.visualise(model, "layer", where=(28, 0))
    with pytest.raises(ValueError, match='"mean", "max"'):
        probe.visualise(model, "layer", where="best")
    with pytest.raises(ValueError, match="choose one of fourier, pixels"):
        probe.visualise(model, "layer", parametrisation="wavelet")
    with pytest.raises(ValueError, match="steps must be at least 1"):
        probe.visualise(model, "layer", steps=0)
    with pytest.raises(ValueError, match=r"sets must be bool \(C, 2\)"):
        probe.ablated_logits(model, "layer", images, np.ones((1, 3), bool))
    with pytest.raises(ValueError, match="fill must be one number"):
        probe.ablated_logits(model, "layer", images, np.ones((1, 2), bool), np.zeros(3))
    with pytest.raises(ValueError, match="no images"):
        probe.activations(model, ["layer"], images[:0])
    with pytest.raises(ValueError, match="model.eval"):
        probe.visualise(model.train(), "layer")


def test_a_bad_grid_is_named():
    with pytest.raises(ValueError, match="grid must have shape"):
        probe.tuning(np.zeros((9, 40, 1)), LABELS)
    with pytest.raises(ValueError, match="equally many"):
        probe.tuning(np.zeros((10, 40, 1)), np.zeros(40, int))
    with pytest.raises(ValueError, match=">= 0"):
        probe.tuning(np.full((10, 40, 1), -1.0), LABELS)
