"""Measuring latents and steering by matrix products: by hand, and against the network itself."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from scipy.special import log_softmax
from torch import nn

from lazy_artist import latents
from lazy_artist.canvas import Split

IMAGES = np.random.default_rng(1).random((6, 3, 4, 5)).astype(np.float32)


class Tiny(nn.Module):
    """Maps (N, 3, h, w) are the images themselves; their mean over places goes to a linear head."""

    def __init__(self):
        super().__init__()
        self.block, self.head = nn.Identity(), nn.Linear(3, 10)
        generator = torch.Generator().manual_seed(0)
        for weights in self.head.parameters():
            weights.data = torch.randn(weights.shape, generator=generator)

    def forward(self, images):
        return self.head(self.block(images).mean((2, 3)))


def test_activations_come_image_by_image_and_place_by_place(monkeypatch):
    monkeypatch.setattr(latents, "BATCH", 4)
    batches = list(latents.activations(Tiny(), "block", IMAGES))
    assert [len(batch) for batch in batches] == [4, 2]
    # place 7: row 1, column 2
    np.testing.assert_array_equal(torch.cat(batches)[5, 7], IMAGES[5, :, 1, 2])
    (pooled,) = latents.activations(Tiny(), "pooled", IMAGES[:3])
    np.testing.assert_allclose(pooled[:, 0], IMAGES[:3].mean((2, 3)), rtol=1e-6)
    # some of the places of each image, drawn without replacement
    drawn, other = (latents.sample_activations(Tiny(), "block", IMAGES, 19, s) for s in (3, 4))
    assert (drawn != other).any()
    for image, some in zip(IMAGES, drawn.view(6, 19, 3).tolist(), strict=True):
        rows = {*map(tuple, some)}
        assert len(rows) == 19 and rows < {*map(tuple, image.reshape(3, -1).T.tolist())}


@pytest.mark.parametrize("layer", ["block", "pooled"])
def test_loss_recovered_by_hand(layer):
    model, labels, mean = Tiny(), np.array([3, 1, 4, 1, 5, 9]), torch.tensor([0.2, 0.7, -0.4])
    halving = SimpleNamespace(encode=lambda a: a - 1, decode=lambda z: (z + 1) / 2)
    pooled = torch.from_numpy(IMAGES).mean((2, 3))
    plain, spliced, blind = (
        nn.functional.cross_entropy(model.head(x), torch.from_numpy(labels)).item()
        for x in (pooled, pooled / 2, mean.expand(6, 3))
    )
    found = latents.loss_recovered(model, layer, halving, mean, Split(IMAGES, labels, labels))
    assert found == pytest.approx((blind - spliced) / (blind - plain), rel=1e-4)


def test_cells_add_up_to_the_map():
    weights = latents.cell_weights((0, 2, 5, 7))
    torch.testing.assert_close(weights.sum(0), torch.full((49,), 1 / 49))
    one = torch.zeros(7, 7)
    one[2, 6] = 49  # third row: the middle band; last column: the last
    np.testing.assert_allclose((weights @ one.flatten()).numpy(), np.eye(9)[5])
    parts = np.arange(2 * 9 * 3, dtype=np.float32).reshape(2, 27)
    for wrap in (np.asarray, sparse.csr_array):
        np.testing.assert_allclose(latents.sum_cells(wrap(parts), 9)[:, 0], parts[:, ::3].sum(1))


# --- what parts tell -----------------------------------------------------------------------------


def test_the_best_column_is_chosen_on_one_set_and_measured_on_the_other():
    """Areas are counted: pairs of an image of the class and another that are right, ties half."""
    classes, sets = np.arange(60) % 10, np.random.default_rng(0).random((2, 60, 4)).round(1)
    best, areas = latents.best_auroc(sets[0], classes, sets[1], classes)
    for c in range(10):
        pairs = sets[:, classes == c, None] - sets[:, None, classes != c]
        here, there = ((pairs > 0) + (pairs == 0) / 2).mean((1, 2))
        np.testing.assert_allclose(latents.auroc(sets[0], classes)[c], here)
        k = np.abs(here - 0.5).argmax()
        assert best[c] == k and areas[c] == pytest.approx(abs((here[k] < 0.5) - there[k]))


def test_latents_are_described_by_hand():
    colours, labels = np.arange(10).repeat(50), np.tile(np.arange(50) % 10, 10)  # a balanced grid
    # a colour, magenta; a shape; half and half: mixed; dead; 25 : 4, colour pink; one image's own
    z = 2.0 * (colours == 4), 3 * (labels == 6), 1 * (labels == 2) + (colours == 1), 0 * colours
    z = [*z, 5 * (colours == 8) + 2 * (labels == 0), 4 * (np.tile(np.arange(50), 10) == 7)]
    effect = np.arange(60.0).reshape(6, 10)
    effect[1, 3] = 100  # the mean of the ten: (10 + ... + 19 - 13 + 100) / 10 = 23.2
    frame = latents.describe(np.stack(z, 1).reshape(10, 50, 6), labels[:50], effect)
    expected = [
        [0, "colour", "magenta", 1, 0, 0.1, 2, 9, 4.5, 0.2 * (4 - 4.5)],
        [1, "shape", "6", 0, 1, 0.1, 3, 3, 76.8, 0],
        [2, "mixed", "", 0.5, 0.5, 0.19, 2, 9, 4.5, -0.35],
        [3, "dead", "", 0, 0, 0, 0, 9, 4.5, 0],
        [4, "colour", "pink", 25 / 29, 4 / 29, 0.19, 7, 9, 4.5, 0.5 * (8 - 4.5)],
        [5, "unexplained", "", 0, 9 / 49, 0.02, 4, 9, 4.5, 0],
    ]  # fmt: skip
    expected = pd.DataFrame(expected, columns=frame.columns)
    pd.testing.assert_frame_equal(frame, expected, check_dtype=False)


def test_colour_comes_first_by_its_share_in_what_is_explained():
    colours, labels = np.arange(10).repeat(10), np.tile(np.arange(10), 10)
    z = [1.0 * (colours == 4), 1 * (labels == 6), 1 * (labels == 2) + (colours == 1)]
    # half of a colour's images: eta squared of colour .474 and of digit .053, a ratio of .9
    z = np.stack([*z, (colours == 5) & (labels < 5), 5 * (colours == 8) + 2 * (labels == 0)], 1)
    order, colour, digit = latents.colour_first(z, colours, labels)
    assert order.tolist() == [0, 3, 4, 2, 1]
    np.testing.assert_allclose((colour[3], digit[3]), (0.0225 / 0.0475, 0.0025 / 0.0475))


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_array])
def test_attribution_adds_up_to_the_logit_of_the_class(wrap):
    rng = np.random.default_rng(2)
    parts, effect, classes = rng.random((7, 3)), rng.normal(size=(3, 10)), rng.integers(0, 10, 7)
    found = latents.attribution(wrap(parts), effect, classes)
    by_hand = [
        np.mean([parts[i, k] * (effect[k, c] - effect[k].mean()) for i, c in enumerate(classes)])
        for k in range(3)
    ]
    np.testing.assert_allclose(found, by_hand)
    logits = parts @ effect
    assert found.sum() == pytest.approx((logits[np.arange(7), classes] - logits.mean(1)).mean())


def test_latents_are_matched_one_to_one_by_what_they_carry():
    """The latent 3 is dead; 4 and 1 both are nearest to 5, and 1 is the nearer to 6 as well: by
    logarithms 20 : 16 and 1.6 : 1.5 cost less than 16 : 1.5 and more."""
    carried = np.array([0.1, 16.0, 1.5, 0, 20, 19, 1.6, 0.09])
    assert latents.matched(carried, np.array([4, 6, 0])).tolist() == [5, 2, 7]
    assert latents.matched(carried, np.array([5, 4, 2])).tolist() in (
        [4, 1, 6],
        [1, 4, 6],
        [1, 6, 0],
    )


def test_principal_directions_by_hand():
    x = np.array([[3.0, 4], [-3, -4], [4, -3], [-4, 3]]) * [[2], [2], [1], [1]] + [1, 2]
    centre, axes = latents.principal_directions(x)
    np.testing.assert_allclose(centre, [1, 2])
    np.testing.assert_allclose(np.abs(axes), [[0.6, 0.8], [0.8, 0.6]])


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_array])
def test_a_linear_probe_minimises_what_it_says(wrap):
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 10, 400)
    parts = (5 + np.eye(10)[classes] + rng.normal(size=(400, 10))).astype(np.float32)
    parts *= np.arange(1, 11, dtype=np.float32)  # of unequal spread, which the penalty does not see
    spread = parts.std(0)
    weights, bias = latents.fit_linear_probe(wrap(parts), classes, penalty=0.1, steps=300)
    scores = np.exp(log_softmax(parts @ weights + bias, axis=1)) - np.eye(10)[classes]
    # the gradient by weights on standardised parts: 0 at the minimum
    gradient = (parts / spread).T @ scores / 400 + 0.1 * weights * spread[:, None]
    np.testing.assert_allclose([*gradient, scores.mean(0)], 0, atol=2e-3)


# --- what parts do -------------------------------------------------------------------------------


def test_parts_are_held_at_zero_at_their_mean_or_balanced():
    rng = np.random.default_rng(0)
    parts = {name: rng.random((50, 30), np.float32) for name in ("search", "hard")}
    effect, offset = rng.normal(size=(30, 10)).astype(np.float32), np.arange(10, dtype=np.float32)
    logits = {name: x @ effect + offset for name, x in parts.items()}
    scales = latents.ablation_scales(np.arange(30)[::-1], 20)
    assert scales[:10].all() and not scales[10:].any()
    zeroed, mean, balanced = (
        latents.scale_about(logits, parts, effect, scales, level) for level in latents.LEVELS
    )
    kept = parts["hard"][:, :10] @ effect[:10] + offset
    np.testing.assert_allclose(zeroed["hard"], kept, atol=1e-4)
    levels = parts["search"][:, 10:].mean(0) @ effect[10:]
    np.testing.assert_allclose(mean["hard"], kept + levels, atol=1e-4)
    shift = balanced["hard"] - mean["hard"]  # nothing but a constant apart
    np.testing.assert_allclose([balanced["search"].mean(0).std(), *shift.std(0)], 0, atol=1e-4)
    rest = latents.resting_levels("balanced", logits["search"], parts["search"], effect, scales)
    np.testing.assert_array_equal(rest[:10], parts["search"].mean(0)[:10])  # what stays stays
    even = latents.even_out({"search": np.array([[1.0, 3], [3, 9]]), "hard": np.zeros((1, 2))})
    np.testing.assert_allclose(even["hard"], [[2, -2]])  # means 2 and 6, less their own mean 4


def test_what_parts_miss_is_a_part_of_each_cell():
    """Two cells of one and three places out of four, three channels, two latents that explain some
    of them: logits are those of the parts, the residuals and the rest."""
    rng, sizes = np.random.default_rng(3), np.array([0.25, 0.75], np.float32)
    head, rest = rng.normal(size=(10, 3)).astype(np.float32), rng.normal(size=3)
    directions, z = rng.normal(size=(2, 3)), rng.random((5, 4)).astype(np.float32)
    missing = rng.normal(size=(5, 2, 3))
    x = z.reshape(5, 2, 2) @ directions + missing + sizes[:, None] * rest
    effect = (directions @ head.T).astype(np.float32)
    given = {"hard": sparse.csr_array(z)}, {"hard": x.reshape(5, 6).astype(np.float32)}
    whole, by_cell = latents.with_residual(*given, head, effect, rest, sizes)
    for (parts, units, groups), cells in ((whole, 1), (by_cell, 2)):
        values = parts["hard"] if cells == 1 else parts["hard"].toarray()
        np.testing.assert_allclose(values @ units, (x.sum(1) - rest) @ head.T, atol=1e-5)
        assert groups.tolist() == [*range(2 * cells), *np.arange(2 * cells, 3 * cells).repeat(10)]
        own = values[:, 2 * cells :].reshape(5, cells, 10)
        expected = missing @ head.T if cells == 2 else missing.sum(1, keepdims=True) @ head.T
        np.testing.assert_allclose(own, expected, atol=1e-5)
        np.testing.assert_allclose(
            values[:, 0], z[:, 0] + (z[:, 2] if cells == 1 else 0), atol=1e-6
        )
    # channels miss nothing of themselves
    channels = given[1], given[1], head, head.T, np.zeros(3), sizes
    assert [len(groups) for *_, groups in latents.with_residual(*channels)] == [3, 6]


@pytest.mark.parametrize("groups", [None, np.arange(12) % 5])
@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_array])
def test_the_search_finds_the_minimum(wrap, groups):
    """No scale can be moved to a lower loss, but those at the stop, which would have to go below 0:
    by finite differences of what the docstring says is minimised."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 300)
    z = (rng.random((300, 12)) * (1 + (labels[:, None] % 12 == np.arange(12)))).astype(np.float32)
    effect = rng.normal(size=(12, 10)).astype(np.float32)
    logits, penalty = z @ effect + rng.normal(size=(300, 10)), 0.05
    scales, offset = latents.search_scales(logits, wrap(z), effect, labels, penalty, 300, groups)
    spread = z.std(0) * np.linalg.norm(effect - effect.mean(1, keepdims=True), axis=1)
    best = np.concatenate([scales, offset]).astype(float)

    def loss(values):
        edited = latents.rescale({"": logits}, {"": z}, effect, values[:12], values[12:])[""]
        entropy = -log_softmax(edited, axis=1)[np.arange(300), labels].mean()
        return entropy + penalty / 2 * np.square(values[:12] * spread).sum()

    ways = np.eye(22) if groups is None else np.vstack([np.eye(22)[:12] * 0, np.eye(22)[12:]])
    for k in range(5 * (groups is not None)):  # all parts of a group at once
        ways[k, :12] = groups == k
    for way in ways:
        slope = (loss(best + 1e-2 * way) - loss(best - 1e-2 * way)) / 2e-2
        moved = way[:12] > 0
        assert abs(slope) < 2e-3 or (moved.any() and not best[:12][moved].any() and slope > 0)
    if groups is not None:
        assert all(len({*scales[groups == k]}) == 1 for k in range(5))
        return
    assert (scales == 0).any() and (scales > 0).any()
