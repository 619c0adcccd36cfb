"""The biased canvas: exact shares, and paint that changes the colour and nothing else."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazy_artist import canvas
from lazy_artist.canvas import PALETTE, SPLITS, assign_colours, colour_split, paint, split_digits
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


def ids(count: int, colour: int) -> np.ndarray:
    return np.full(count, colour)


def test_hue_palette_turns_once_round_in_equal_steps():
    low = 0.9 * (1 - 0.89)
    expected = [[0.9, low, low], [low, 0.9, low], [low, low, 0.9]]
    np.testing.assert_allclose(canvas.hue_palette(3), expected, atol=1e-6)
    np.testing.assert_allclose(canvas.hue_palette(6)[1], [0.9, 0.9, low], atol=1e-6)  # yellow


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
    first, second = (paint(images, ids(3, k), seed, palette) for k in (0, 1))
    difference = (palette[1] - palette[0])[None, :, None, None]
    np.testing.assert_allclose(second - first, alpha * difference, atol=1e-6)
    np.testing.assert_array_equal((second - first)[np.broadcast_to(alpha == 0, first.shape)], 0)
    np.testing.assert_array_equal(images, before)
    assert first.dtype == np.float32


def test_a_stroke_has_one_jittered_colour_and_is_mixed_with_the_background_by_alpha():
    background, stroke, mixed = (paint(flat(2000, v), ids(2000, 6), 7) for v in (0, 255, 51))
    np.testing.assert_allclose(mixed, 0.2 * stroke + 0.8 * background, atol=1e-6)
    grey_stroke = paint(flat(2000, 255), ids(2000, 0), 7, np.full((1, 3), 0.5))
    jitter = grey_stroke[:, :, 0, 0] - 0.5
    np.testing.assert_allclose(grey_stroke - grey_stroke[:, :, :1, :1], 0, atol=1e-6)
    assert abs(jitter.mean()) < 0.002 and jitter.std() == pytest.approx(0.03, rel=0.06)
    assert np.abs(np.corrcoef(jitter.T) - np.eye(3)).max() < 0.12  # each channel its own


def test_the_background_is_a_coloured_lattice_of_its_own_under_every_colour(monkeypatch):
    count = 2100  # more than are painted at once
    background = paint(flat(count, 0), ids(count, 0), 3)
    np.testing.assert_array_equal(background, paint(flat(count, 0), ids(count, 7), 3))
    assert np.unique(background[:, 0, 0, 0]).size > 0.8 * count
    monkeypatch.setattr(canvas, "GRAIN", 0)
    smooth = paint(flat(count, 0), ids(count, 0), 3).astype(float)
    grain = (background - smooth)[(smooth > 0.12).all(1)[:, None].repeat(3, 1)]  # unclipped
    assert smooth.mean() == pytest.approx(0.075, rel=0.01)
    assert grain.std() == pytest.approx(0.03, rel=0.05)
    # lattice points lie 4.5 pixels apart: pixels 0 to 4 are in one cell, 5 to 9 in the next
    for axis in (2, 3):
        bend = np.moveaxis(np.diff(smooth, n=2, axis=axis), axis, 0)
        np.testing.assert_allclose(bend[:3], 0, atol=1e-6)
        assert np.abs(bend[3]).max() > 1e-2


def test_flat_fill_is_white_on_one_colour():
    images = flat(3, 0)
    images[:, 3:6], images[:, 6] = 255, 51
    filled = canvas.flat_fill(images, np.array([0, 1, 2]), 4)
    background = filled[:, :, 20, 20]
    np.testing.assert_allclose(background, PALETTE[:3], atol=0.15)
    share = images[:, None] / 255
    expected = share + (1 - share) * background[:, :, None, None]
    np.testing.assert_allclose(filled, expected, atol=1e-6)


BAD = [
    ({"images": grey(4) / 255}, TypeError, "images must be uint8 .* not float64"),
    ({"images": grey(4).reshape(4, 784)}, ValueError, r"\(N, 28, 28\), not \(4, 784\)"),
    ({"colour_ids": ids(3, 0)}, ValueError, r"colour_ids .*shape \(4,\), .* not of shape \(3,\)"),
    ({"colour_ids": np.array([0, 1, 2, 10])}, ValueError, "colour_ids .*0..9, not 0 to 10"),
    ({"palette": PALETTE * 255}, ValueError, r"palette must have shape \(K, 3\) .* \[0, 1\]"),
    ({"palette": PALETTE[:, :2]}, ValueError, r"\(K, 3\)"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_paint_refuses_bad_input(change, error, message):
    for draw in (paint, canvas.flat_fill)[: 1 if "palette" in change else 2]:
        arguments = {"images": grey(4), "colour_ids": ids(4, 0), "seed": 0} | change
        with pytest.raises(error, match=message):
            draw(**arguments)


def test_training_digits_are_cut_at_eleven_twelfths(monkeypatch):
    train, validation = (split_digits(name, DIGITS) for name in ("train", "validation"))
    assert len(train[1]) == 220 and len(validation[1]) == 20
    for part, whole in enumerate((DIGITS.images, DIGITS.labels)):
        np.testing.assert_array_equal(np.concatenate([train[part], validation[part]]), whole)
    assert split_digits("hard", DIGITS)[1] is DIGITS.labels
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1200")
    for name, count in {"train": 1100, "validation": 100, "hard": 200, "unseen": 200}.items():
        assert len(colour_split(name, 0)) == count == len(split_digits(name)[1])


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
    first, whole = canvas.test_split(name, 30), canvas.test_split(name)
    expected = colour_split(name, 1000)
    np.testing.assert_array_equal(whole.images, expected.images)
    for split, n in ((first, 30), (whole, None)):
        np.testing.assert_array_equal(split.labels, expected.labels[:n])
        np.testing.assert_array_equal(split.colours, expected.colours[:n])
    stream = [1000, SPLITS.index(name), 1]
    painted = paint(split_digits(name)[0][:30], first.colours, stream, TWENTY)
    np.testing.assert_array_equal(first.images, painted)


def test_unknown_names_and_shares_are_refused_before_digits_are_loaded(monkeypatch):
    monkeypatch.setattr(canvas, "load_digits", None)
    with pytest.raises(ValueError, match="unknown split 'Hard'.*train.*validation.*unseen"):
        colour_split("Hard", 0)
    for correlation in (-0.01, 1.01, math.nan):
        for refuse in (assign_colours, lambda _, share, seed: colour_split("train", seed, share)):
            with pytest.raises(ValueError, match=rf"correlation .* 0 to 1, not {correlation}"):
                refuse(np.arange(10), correlation, 0)
    with pytest.raises(ValueError, match=r"labels must be integers in 0\.\.9"):
        assign_colours(np.array([3, 10]), 0.5, seed=0)


def test_take_keeps_order_and_company():
    split = colour_split("train", 0, digits=DIGITS)
    for index, places in ((np.array([7, 2]), [7, 2]), (np.arange(220) == 7, [7])):
        for name, part in vars(split.take(index)).items():
            np.testing.assert_array_equal(part, getattr(split, name)[places])


def test_mutual_information_in_bits():
    assert canvas.mutual_information(range(10), range(10)) == pytest.approx(math.log2(10))
    assert canvas.mutual_information([0, 0, 1, 1], [3, 4, 3, 4]) == pytest.approx(0, abs=1e-12)
    # joint 1/3, 1/6, 1/6, 1/3 with margins 1/2
    bits = 2 / 3 * math.log2(4 / 3) + math.log2(2 / 3) / 3
    assert canvas.mutual_information([0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 1, 1]) == pytest.approx(bits)
