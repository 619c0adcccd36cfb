"""The biased canvas: exact shares, and paint that changes the colour and nothing else."""

import colorsys
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazy_artist import canvas
from lazy_artist.canvas import PALETTE, SPLITS, assign_colours, colour_split, paint, split_digits
from lazy_artist.config import sealed_splits
from lazy_artist.data import procedural_digits

SEEDS = st.integers(0, 2**32)
DIGITS = procedural_digits(240, seed=5)
TWENTY = np.concatenate([PALETTE, canvas.UNSEEN_PALETTE])


def grey(count: int, seed: int = 0) -> np.ndarray:
    """Random grey images: a third of the pixels 0, a third 255, the rest between."""
    noise = np.random.default_rng(seed).integers(-255, 511, (count, 28, 28))
    return noise.clip(0, 255).astype(np.uint8)


def flat(count: int, value: int) -> np.ndarray:
    return np.full((count, 28, 28), value, np.uint8)


def test_hue_palette_turns_once_round_in_equal_steps():
    expected = [colorsys.hsv_to_rgb(k / 6, 0.89, 0.9) for k in range(6)]
    np.testing.assert_allclose(canvas.hue_palette(6), expected, atol=1e-6)


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 9), max_size=300),
    thousandths=st.integers(0, 1000) | st.sampled_from([0, 1000]),
    seed=SEEDS,
)
def test_each_digit_gets_its_exact_share_rounded_up(labels, thousandths, seed):
    labels = np.array(labels, dtype=np.int64)
    colours = assign_colours(labels, thousandths / 1000, seed)
    assert colours.dtype == np.int64 and ((colours >= 0) & (colours <= 9)).all()
    for digit in range(10):
        mine = colours[labels == digit]
        assert (mine == digit).sum() == math.ceil(Fraction(thousandths, 1000) * len(mine))


@pytest.mark.parametrize("digit", [0, 4, 9])
def test_which_images_are_dominant_is_random_and_other_colours_are_equally_likely(digit):
    colours = assign_colours(np.full(10_000, digit), 0.1, seed=3)
    counts = np.bincount(colours, minlength=10)
    # 9,000 draws of probability 1/9: mean 1000, standard deviation 29.8
    assert np.abs(counts - 1000).max() < 5 * 29.8
    assert np.delete(counts, digit).std() > 5  # drawn, not dealt out
    assert abs((colours[:5000] == digit).sum() - 500) < 100  # not the first half, nor the second


def test_the_random_streams_are_those_of_all_published_numbers():
    images = np.concatenate([flat(1, 0), flat(1, 255)])
    background, stroke = paint(images, np.array([3, 6]), [1000, 2, 1])
    np.testing.assert_allclose(background[:, 0, 0], [0.072906, 0.127900, 0.119578], atol=1e-6)
    np.testing.assert_allclose(background[:, 3, 20], [0.087746, 0.097803, 0.105605], atol=1e-6)
    np.testing.assert_allclose(stroke[:, 0, 0], [0.999224, 0.556223, 0.025116], atol=1e-6)
    colours = assign_colours(np.arange(20) % 10, 0.5, [7, 1])
    assert list(colours) == [0, 3, 4, 3, 8, 0, 6, 0, 8, 4, 7, 1, 2, 5, 4, 5, 5, 7, 1, 9]


@settings(deadline=None)
@given(
    seed=SEEDS,  # colours are too far from the ends for jitter to be clipped
    palette=st.lists(st.tuples(*[st.floats(0.25, 0.75)] * 3), min_size=2, max_size=2),
)
def test_repainting_changes_the_stroke_by_alpha_times_the_colour_difference(seed, palette):
    palette, images = np.array(palette), grey(3, seed)
    before, alpha = images.copy(), images[:, None] / 255
    first, second = (paint(images, np.full(3, k), seed, palette) for k in (0, 1))
    difference = (palette[1] - palette[0])[None, :, None, None]
    np.testing.assert_allclose(second - first, alpha * difference, atol=1e-6)
    assert (first == second)[np.broadcast_to(alpha == 0, first.shape)].all()
    assert first.dtype == np.float32 and (images == before).all()


def test_a_stroke_has_one_jittered_colour_and_is_mixed_with_the_background_by_alpha():
    background, stroke, mixed = (paint(flat(9, v), np.full(9, 6), 7) for v in (0, 255, 51))
    np.testing.assert_allclose(mixed, 0.2 * stroke + 0.8 * background, atol=1e-6)
    grey_stroke = paint(flat(2000, 255), np.zeros(2000, int), 7, np.full((1, 3), 0.5))
    jitter = grey_stroke[:, :, 0, 0] - 0.5
    np.testing.assert_allclose(grey_stroke - grey_stroke[:, :, :1, :1], 0, atol=1e-6)
    assert abs(jitter.mean()) < 0.002 and jitter.std() == pytest.approx(0.03, rel=0.06)
    assert np.abs(np.corrcoef(jitter.T) - np.eye(3)).max() < 0.12  # each channel its own


def test_the_background_is_a_coloured_lattice_of_its_own_under_every_colour(monkeypatch):
    count = 2100  # more than are painted at once
    background = paint(flat(count, 0), np.full(count, 0), 3)
    np.testing.assert_array_equal(background, paint(flat(count, 0), np.full(count, 7), 3))
    assert np.unique(background[:, 0, 0, 0]).size > 0.8 * count
    monkeypatch.setattr(canvas, "GRAIN", 0)
    smooth = paint(flat(count, 0), np.full(count, 0), 3).astype(float)
    grain = (background - smooth)[(smooth > 0.12).all(1)[:, None].repeat(3, 1)]  # unclipped
    assert smooth.mean() == pytest.approx(0.075, rel=0.01)
    assert grain.std() == pytest.approx(0.03, rel=0.05)
    # lattice points lie 4.5 pixels apart: pixels 0 to 4 are in one cell, 5 to 9 in the next
    for axis in (2, 3):
        bend = np.moveaxis(np.diff(smooth, n=2, axis=axis), axis, 0)
        np.testing.assert_allclose(bend[:3], 0, atol=1e-6)
        assert np.abs(bend[3]).max() > 1e-2


def test_flat_fill_is_white_on_one_colour():
    images = grey(3)
    background = canvas.flat_fill(0 * images, [0, 1, 2], 4)
    np.testing.assert_allclose(background[:, :, 20, 20], PALETTE[:3], atol=0.15)
    assert (np.ptp(background, axis=(2, 3)) == 0).all()
    alpha = images[:, None] / 255
    expected = alpha + (1 - alpha) * background
    np.testing.assert_allclose(canvas.flat_fill(images, [0, 1, 2], 4), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "palette", "message"),
    [
        (grey(4) / 255, PALETTE, "images must be uint8 .* not float64"),
        (grey(4).reshape(4, 784), PALETTE, r"\(N, 28, 28\), not \(4, 784\)"),
        (grey(4), PALETTE * 255, r"palette must have shape \(K, 3\) .* \[0, 1\]"),
        (grey(4), PALETTE[:, :2], r"\(K, 3\)"),
        (grey(4), PALETTE[:4], r"colour_ids must be integers in 0\.\.3, not 4 to 4"),
    ],
)
def test_paint_refuses_bad_input(images, palette, message):
    with pytest.raises((TypeError, ValueError), match=message):
        paint(images, np.full(4, 4), 0, palette)


def test_training_digits_are_cut_into_train_sealed_and_validation(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_SEALED", "open")
    parts = [split_digits(name, DIGITS) for name in ("train", "sealed", "validation")]
    assert [len(labels) for _, labels in parts] == [200, 20, 20]
    for k, whole in enumerate(split_digits("hard", DIGITS)):
        np.testing.assert_array_equal(whole, (DIGITS.images, DIGITS.labels)[k])
        np.testing.assert_array_equal(np.concatenate([part[k] for part in parts]), whole)


def test_the_sealed_digits_stay_closed_until_they_are_opened(monkeypatch):
    for state in (None, "", "closed"):
        monkeypatch.setenv("LAZY_ARTIST_SEALED", state or "")
        if state is None:
            monkeypatch.delenv("LAZY_ARTIST_SEALED")
        assert sealed_splits() == []
        for closed in (split_digits, lambda name: colour_split(name, 0), canvas.test_split):
            with pytest.raises(ValueError, match="sealed digits are closed"):
                closed("sealed")
    monkeypatch.setenv("LAZY_ARTIST_SEALED", "open")
    assert sealed_splits() == ["sealed"]
    split = colour_split("sealed", 3, digits=DIGITS)
    images, labels = split_digits("sealed", DIGITS)
    assert not np.any(split.colours == labels) and split.colours.max() < 10
    np.testing.assert_array_equal(split.images, paint(images, split.colours, [3, 6, 1], TWENTY))
    monkeypatch.setenv("LAZY_ARTIST_SEALED", "ajar")
    with pytest.raises(ValueError, match="LAZY_ARTIST_SEALED is 'ajar': choose closed or open"):
        sealed_splits()


@settings(deadline=None)
@given(seed=SEEDS, name=st.sampled_from(SPLITS), correlation=st.floats(0, 1))
def test_splits_are_what_their_names_say(seed, name, correlation):
    split = colour_split(name, seed, correlation, DIGITS)
    images, labels = split_digits(name, DIGITS)
    np.testing.assert_array_equal(split.labels, labels)
    painted = paint(images, split.colours, [seed, SPLITS.index(name), 1], TWENTY)
    np.testing.assert_array_equal(split.images, painted)
    if name == "unseen":
        counts = np.bincount(split.colours - 10, minlength=10)  # 240 draws of 1/10
        assert len(counts) == 10 and np.abs(counts - 24).max() < 7 * 4.7
        return
    share = {"hard": 0, "aligned": 1, "unbiased": 0.1}.get(name, correlation)
    for digit in range(10):
        mine = (split.colours == digit)[labels == digit]
        assert share * len(mine) - 1e-6 <= mine.sum() < share * len(mine) + 1


@pytest.mark.parametrize("name", SPLITS)
def test_networks_are_measured_on_first_images_painted_as_a_split_of_their_own(name, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1200")
    expected, stream = colour_split(name, 1000), [1000, SPLITS.index(name), 1]
    for n in (30, None):
        split = canvas.test_split(name, n)
        np.testing.assert_array_equal(split.labels, expected.labels[:n])
        np.testing.assert_array_equal(split.colours, expected.colours[:n])
        painted = paint(split_digits(name)[0][:n], split.colours, stream, TWENTY)
        np.testing.assert_array_equal(split.images, painted)


def test_unknown_names_are_refused_before_digits_are_loaded(monkeypatch):
    monkeypatch.setattr(canvas, "load_digits", None)
    with pytest.raises(ValueError, match="unknown split 'Hard'.*train.*validation.*unseen"):
        colour_split("Hard", 0)


def test_mutual_information_in_bits():
    assert canvas.mutual_information(range(10), range(10)) == pytest.approx(math.log2(10))
    # joint 1/3, 1/6, 1/6, 1/3 with margins 1/2
    bits = 2 / 3 * math.log2(4 / 3) + math.log2(2 / 3) / 3
    assert canvas.mutual_information([0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 1, 1]) == pytest.approx(bits)
