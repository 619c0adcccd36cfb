"""The first challenge: program, thresholds, groups and edits."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lazy_artist.eis7 import cnn, cnn_label

BLANK = np.zeros((1, 28, 28), np.uint8)
ANYWHERE = np.ones((28, 28), bool)


def drawn(seed: int, count: int = 4) -> np.ndarray:
    """Images of random grey in the middle."""
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 6:22, 6:22] = np.random.default_rng(seed).integers(0, 256, (count, 16, 16))
    return images


def test_the_clue_is_the_digit_of_the_hint():
    digest = hashlib.md5(cnn.CLUE.tobytes(), usedforsecurity=False).hexdigest()
    assert digest == "f0a50495aa5c9ca8f10db8015f82a4ee"  # of image 6 of MNIST's training set


def test_similarity_by_hand():
    corner = BLANK.copy()
    corner[0, 0, 0] = 51  # a fifth of a full pixel, where the clue has none
    grey = cnn.CLUE / 255
    images = np.concatenate([BLANK, corner, BLANK + 255, cnn.CLUE[None]])
    expected = [0, -0.1, grey.sum() - 392, (grey * (grey - 0.5)).sum()]
    assert cnn.similarity(images) == pytest.approx(expected)


def test_the_label_is_one_at_both_ends_and_zero_between():
    low, high = cnn.BAND
    images = np.zeros((6, 28, 28), np.uint8)
    for image, target in zip(images[1:], (low - 1, low + 1, -25, high - 1, high + 1), strict=True):
        count = round(-2 * target)  # full pixels where the clue has none: -1/2 each
        image.ravel()[np.flatnonzero(cnn.CLUE == 0)[:count]] = 255
    expected = ["one", "anti-one", "between", "between", "between", "one"]
    assert cnn.zones(cnn.similarity(images)).tolist() == expected
    assert cnn_label(images).tolist() == [zone != "between" for zone in expected]
    assert set(cnn.zones(np.array(cnn.BAND))) == {"between"}


def test_what_is_no_stack_of_images_is_refused():
    for images in (np.zeros((28, 28), np.uint8), np.zeros((2, 1, 28, 28), np.uint8)):
        with pytest.raises(ValueError, match=r"shape \(N, 28, 28\)"):
            cnn_label(images)
    with pytest.raises(TypeError, match="images must be uint8"):
        cnn_label(np.zeros((2, 28, 28)))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=1, max_size=12))
def test_fit_band_finds_the_best_of_all_bands(points):
    scores = np.array([s for s, _ in points]) + np.arange(len(points)) / 100  # no ties
    labels = np.array([label for _, label in points])
    low, high, share = cnn.fit_band(scores, labels)
    assert np.mean(((scores < low) | (scores > high)) == labels) == pytest.approx(share)
    edges = [-np.inf, *np.sort(scores), np.inf]
    for i, a in enumerate(edges):
        for b in edges[i:]:
            assert np.mean(~((scores >= a) & (scores <= b)) == labels) <= share + 1e-12


def test_a_ramp_is_fitted_where_it_starts():
    scores = np.linspace(-10, 10, 201)
    ramp = 2.5 * np.maximum(scores - 3, 0)
    assert cnn.fit_ramp(scores, ramp) == pytest.approx((2.5, 3), abs=1e-4)
    falling = 0.5 * np.maximum(-4 - scores, 0)
    assert cnn.fit_ramp(-scores, falling) == pytest.approx((0.5, 4), abs=1e-4)


def test_groups_are_found_without_the_program():
    """By a hidden variable v: three units fire for v > 0.2, two for v < -0.2, one always (and
    speaks for 0), one never."""
    rng = np.random.default_rng(0)
    v = rng.uniform(-1, 1, 400)
    up, down = np.maximum(v - 0.2, 0), np.maximum(-v - 0.2, 0)
    hidden = np.stack([up, 2 * up, down, up, 1.5 * down, 3 + rng.random(400) / 10, 0 * v], axis=1)
    evidence = np.array([1.0, 1, 1, 1, 1, -1, -5])
    groups = cnn.unit_groups(hidden, evidence, np.array([1.0, 1, 0, 1, 0, 3, 0]))
    assert [np.flatnonzero(groups[g]).tolist() for g in cnn.GROUPS] == [[0, 1, 3], [2, 4], [5]]
    swapped = cnn.unit_groups(hidden, evidence, np.array([0.0, 0, 1, 0, 1, 3, 0]))
    assert np.flatnonzero(swapped["one"]).tolist() == [2, 4]  # the clue decides which is "one"


def test_fitted_template_recovers_a_linear_one():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (1500, 28, 28)).astype(np.uint8)
    wanted = np.zeros((28, 28))
    wanted[10:14, 10:14] = rng.normal(size=(4, 4))
    evidence = 60 + (images.reshape(len(images), -1) / 255) @ wanted.ravel()
    evidence[::5] = 0  # silent there: these images must not count
    found = cnn.fitted_template(images, evidence, ridge=1e-6)
    assert np.allclose(found, wanted, atol=1e-6)


def test_gradient_template_is_the_gradient():
    torch.manual_seed(1)
    network = cnn.ChallengeCNN()
    images = np.random.default_rng(2).integers(0, 256, (1, 28, 28)).astype(np.uint8)
    evidence, _ = network.evidence()
    group = np.arange(200) % 2 == 0
    slope = cnn.gradient_template(network, images, evidence, group)
    direction = np.random.default_rng(0).normal(size=(28, 28))
    pixels = np.stack([images[0] / 255 + step * direction for step in (1e-5, -1e-5)])
    hidden = network.double().hidden(torch.tensor(pixels)[:, None]).detach().numpy()
    above, below = hidden[:, group] @ evidence[group]
    assert (above - below) / 2e-5 == pytest.approx(float((slope * direction).sum()), rel=1e-2)


def test_the_stand_in_learns_the_program_from_few_images():
    rng = np.random.default_rng(3)
    images = np.zeros((600, 28, 28), np.uint8)
    images[:200] = np.rint(cnn.CLUE * rng.uniform(0.5, 1, (200, 1, 1)))
    images[200:, 4:24, 4:24] = 255 * (rng.random((400, 20, 20)) < rng.uniform(0, 0.4, (400, 1, 1)))
    labels = cnn_label(images)
    network, again = (cnn.train_cnn(images, labels, seed=0, epochs=12) for _ in range(2))
    evidence, offset = network.evidence()
    right = (cnn.hidden_units(network, images) @ evidence + offset > 0) == labels
    assert right.mean() > max(labels.mean(), 1 - labels.mean()) + 0.05
    assert torch.equal(network.fc1.weight, again.fc1.weight)


def test_push_reaches_any_similarity_as_far_as_the_allowed_pixels_go():
    images, targets = drawn(0, 5), np.array([-60.0, -30, -5, 0, 20])
    for target in (targets, -25.5):
        edited = cnn.push(images, target, ANYWHERE, 3)
        assert np.abs(cnn.similarity(edited) - target).max() < 0.5 / 255 + 1e-9
    allowed = np.zeros((28, 28), bool)
    allowed[8:20, 8:20] = True
    extremes = np.where(allowed, np.where(cnn.TEMPLATE > 0, 0, 255), images)
    assert np.array_equal(cnn.push(images, -200.0, allowed, 0), extremes)  # beyond reach


def test_the_control_edits_as_many_pixels_and_keeps_the_similarity():
    images = drawn(6)
    edited = cnn.push(images, np.full(4, -40.0), ANYWHERE, 0)
    still = cnn.disturb(images, edited, ANYWHERE, 1)
    assert np.abs(cnn.similarity(still) - cnn.similarity(images)).max() < 0.01
    changed = (still != images).sum(axis=(1, 2))
    assert (changed >= 0.9 * (edited != images).sum(axis=(1, 2))).all()
