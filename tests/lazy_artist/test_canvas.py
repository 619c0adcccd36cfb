"""The biased canvas: exact shares, and paint that changes the colour and nothing else."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazy_artist import canvas
from lazy_artist.canvas import (
    COLOUR_NAMES,
    PALETTE,
    SPLITS,
    UNSEEN_NAMES,
    UNSEEN_PALETTE,
    Split,
    assign_colours,
    colour_split,
    contingency,
    flat_fill,
    hue_palette,
    mutual_information,
    paint,
    split_digits,
)
from lazy_artist.data import procedural_digits

SEEDS = st.integers(0, 2**32)
DIGITS = procedural_digits(240, seed=5)


def grey(count: int, seed: int = 0) -> np.ndarray:
    """Random grey images: a third of the pixels 0, a third 255, the rest between."""
    noise = np.random.default_rng(seed).integers(-255, 511, (count, 28, 28))
    return noise.clip(0, 255).astype(np.uint8)


def ids(count: int, colour: int) -> np.ndarray:
    return np.full(count, colour)


def split_of(labels: list[int], colours: list[int]) -> Split:
    images = np.zeros((len(labels), 3, 28, 28), np.float32)
    return Split(images, np.array(labels), np.array(colours))


# --- palettes ------------------------------------------------------------------------------------


def test_the_twenty_colours_are_named_and_distinct():
    both = np.concatenate([PALETTE, UNSEEN_PALETTE])
    assert both.shape == (20, 3)
    assert 0 <= both.min() <= both.max() <= 1
    assert len({*COLOUR_NAMES, *UNSEEN_NAMES}) == 20
    distance = np.linalg.norm(both[:, None] - both, axis=2) + np.eye(20)
    assert distance.min() > 6 * canvas.JITTER  # no jitter turns one colour into another
    red, green = PALETTE[0], PALETTE[1]
    assert red.argmax() == 0 and green.argmax() == 1


def test_hue_palette_turns_once_round_in_equal_steps():
    low = 0.9 * (1 - 0.89)
    expected = [[0.9, low, low], [low, 0.9, low], [low, low, 0.9]]
    np.testing.assert_allclose(hue_palette(3), expected, atol=1e-6)
    np.testing.assert_allclose(hue_palette(6)[1], [0.9, 0.9, low], atol=1e-6)  # yellow
    assert hue_palette(36).shape == (36, 3)


# --- assigning colours ---------------------------------------------------------------------------


@given(
    labels=st.lists(st.integers(0, 9), max_size=300),
    thousandths=st.integers(0, 1000),
    seed=SEEDS,
)
def test_each_digit_gets_its_exact_share_rounded_up(labels, thousandths, seed):
    labels = np.array(labels, dtype=np.int64)
    colours = assign_colours(labels, thousandths / 1000, seed)
    assert colours.dtype == np.int64 and colours.shape == labels.shape
    assert ((colours >= 0) & (colours <= 9)).all()
    for digit in range(10):
        of_digit = colours[labels == digit]
        exact = math.ceil(Fraction(thousandths, 1000) * len(of_digit))
        assert (of_digit == digit).sum() == exact


@given(labels=st.lists(st.integers(0, 9), max_size=100), seed=SEEDS)
def test_the_ends_never_and_always(labels, seed):
    labels = np.array(labels, dtype=np.int64)
    assert (assign_colours(labels, 0, seed) != labels).all()
    assert (assign_colours(labels, 1, seed) == labels).all()


@pytest.mark.parametrize("digit", [0, 4, 9])
def test_the_other_nine_colours_are_equally_likely(digit):
    colours = assign_colours(np.full(10_000, digit), 0.1, seed=3)
    counts = np.bincount(colours, minlength=10)
    assert counts.sum() == 10_000 and counts[digit] == 1000
    # 9,000 draws of probability 1/9: mean 1000, standard deviation 29.8
    assert np.abs(counts - 1000).max() < 5 * 29.8
    assert np.delete(counts, digit).std() > 5  # drawn, not dealt out


def test_which_images_are_dominant_is_random_and_follows_the_seed():
    labels = np.zeros(1000, dtype=np.int64)
    first, again, other = (assign_colours(labels, 0.5, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert 180 < (first[:500] == 0).sum() < 320  # not the first half, nor the second


@pytest.mark.parametrize("correlation", [-0.01, 1.01, 95, math.nan])
def test_a_correlation_is_a_share(correlation):
    with pytest.raises(ValueError, match=rf"\[0, 1\], not {correlation}"):
        assign_colours(np.arange(10), correlation, seed=0)
    with pytest.raises(ValueError, match=rf"\[0, 1\], not {correlation}"):
        colour_split("train", 0, correlation, DIGITS)


# --- painting ------------------------------------------------------------------------------------


@given(count=st.integers(0, 5), seed=SEEDS, colours=st.randoms(use_true_random=False))
def test_paint_gives_float32_in_the_unit_range_and_leaves_the_digits_alone(count, seed, colours):
    images = grey(count, seed)
    before = images.copy()
    chosen = np.array([colours.randrange(10) for _ in range(count)], dtype=np.int64)
    painted = paint(images, chosen, seed)
    assert painted.dtype == np.float32 and painted.shape == (count, 3, 28, 28)
    assert ((painted >= 0) & (painted <= 1)).all()
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(painted, paint(images, chosen, seed))


@given(
    seed=SEEDS,
    palette=st.lists(
        st.tuples(*[st.floats(0.25, 0.75)] * 3),  # too far from the ends for jitter to be clipped
        min_size=2,
        max_size=2,
    ),
)
def test_repainting_changes_the_ink_by_alpha_times_the_colour_difference(seed, palette):
    palette = np.array(palette)
    images = grey(3, seed)
    first, second = (paint(images, ids(3, k), seed, palette) for k in (0, 1))
    alpha = images[:, None] / 255
    difference = (palette[1] - palette[0])[None, :, None, None]
    np.testing.assert_allclose(second - first, alpha * difference, atol=1e-6)
    np.testing.assert_array_equal((second - first)[np.broadcast_to(alpha == 0, first.shape)], 0)


@given(seed=SEEDS, one=st.integers(0, 9), other=st.integers(0, 9))
def test_repainting_in_the_palette_moves_no_further_than_the_colours_are_apart(seed, one, other):
    images = grey(2, seed)
    moved = paint(images, ids(2, other), seed) - paint(images, ids(2, one), seed)
    alpha = images[:, None] / 255
    allowed = alpha * (PALETTE[other] - PALETTE[one])[None, :, None, None]
    # clipping the jittered ink to [0, 1] can only bring two colours nearer to each other
    assert (moved * np.sign(allowed) >= -1e-6).all()
    assert (np.abs(moved) <= np.abs(allowed) + 1e-6).all()
    assert (moved[np.broadcast_to(alpha == 0, moved.shape)] == 0).all()


def test_full_ink_is_the_colour_shifted_by_one_jitter_an_image():
    count = 2000
    ink = paint(np.full((count, 28, 28), 255, np.uint8), ids(count, 0), 7, np.full((1, 3), 0.5))
    # a * ink + (1 - a) * ground with a = 1: one colour all over the image
    np.testing.assert_allclose(ink, np.broadcast_to(ink[:, :, :1, :1], ink.shape), atol=1e-6)
    jitter = ink[:, :, 0, 0] - 0.5
    assert abs(jitter.mean()) < 5 * 0.03 / math.sqrt(3 * count)
    assert jitter.std() == pytest.approx(0.03, rel=0.06)
    assert np.abs(np.corrcoef(jitter.T) - np.eye(3)).max() < 0.12  # each channel its own


def test_half_ink_lies_half_way_between_ink_and_ground():
    alpha = 51 / 255  # 0.2
    zeros, full = np.zeros((2, 28, 28), np.uint8), np.full((2, 28, 28), 255, np.uint8)
    part = np.full((2, 28, 28), 51, np.uint8)
    ground, ink, mixed = (paint(images, ids(2, 6), 11) for images in (zeros, full, part))
    np.testing.assert_allclose(mixed, alpha * ink + (1 - alpha) * ground, atol=1e-6)


def test_the_ground_is_dark_textured_and_the_same_under_every_colour():
    count = 2100  # more than are painted at once
    zeros = np.zeros((count, 28, 28), np.uint8)
    ground = paint(zeros, ids(count, 0), 3)
    np.testing.assert_array_equal(ground, paint(zeros, ids(count, 7), 3))
    assert ground.mean() == pytest.approx(canvas.GROUND / 2, abs=0.01)
    assert ground.max() < canvas.GROUND + 6 * canvas.GRAIN
    assert ground.std(axis=(2, 3)).min() > 0.02  # never flat
    assert np.unique(ground[:, 0, 0, 0]).size > 0.8 * count  # one of its own for each image


def test_without_grain_the_ground_is_linear_between_the_lattice_points(monkeypatch):
    monkeypatch.setattr(canvas, "GRAIN", 0)
    ground = paint(np.zeros((4, 28, 28), np.uint8), ids(4, 0), 3).astype(np.float64)
    assert ground.max() <= canvas.GROUND
    # lattice points lie 4.5 pixels apart: pixels 0 to 4 are in one cell, 5 to 9 in the next
    for axis in (2, 3):
        bend = np.moveaxis(np.diff(ground, n=2, axis=axis), axis, 0)
        np.testing.assert_allclose(bend[:3], 0, atol=1e-6)
        assert np.abs(bend[3]).max() > 1e-3
    assert np.abs(ground[:, 0] - ground[:, 1]).max() > 0.05  # coloured, not grey


def test_grain_is_fine_grey_noise(monkeypatch):
    zeros = np.zeros((50, 28, 28), np.uint8)
    monkeypatch.setattr(canvas, "GROUND", 1.0)  # brighter, so that nothing is clipped at 0
    with_grain = paint(zeros, ids(50, 0), 3)
    monkeypatch.setattr(canvas, "GRAIN", 0)
    smooth = paint(zeros, ids(50, 0), 3)
    inside = ((smooth > 0.15) & (smooth < 0.85)).all(axis=1)
    grain = np.moveaxis(with_grain - smooth, 1, 3)[inside]  # (pixels, 3)
    np.testing.assert_allclose(grain, grain[:, :1].repeat(3, axis=1), atol=1e-6)
    assert grain.std() == pytest.approx(0.03, rel=0.05)


def test_bilinear_matrices():
    np.testing.assert_allclose(canvas._bilinear(2, 3), [[1, 0], [0.5, 0.5], [0, 1]])
    np.testing.assert_allclose(
        canvas._bilinear(3, 5), [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]]
    )
    lift = canvas._bilinear(7, 28)
    assert lift.shape == (28, 7) and lift.dtype == np.float32
    np.testing.assert_allclose(lift.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(lift @ np.arange(7), np.linspace(0, 6, 28), atol=1e-5)


def test_different_seeds_paint_differently():
    images = grey(3)
    assert (paint(images, ids(3, 2), 1) != paint(images, ids(3, 2), 2)).mean() > 0.9
    np.testing.assert_array_equal(
        paint(images, ids(3, 2), [1, 2]), paint(images, ids(3, 2), (1, 2))
    )


def test_flat_fill_is_white_on_one_colour():
    images = np.zeros((3, 28, 28), np.uint8)
    images[:, 3:6] = 255
    images[:, 6] = 51
    filled = flat_fill(images, np.array([0, 1, 2]), 4)
    assert filled.dtype == np.float32 and filled.shape == (3, 3, 28, 28)
    np.testing.assert_allclose(filled[:, :, 3:6], 1, atol=1e-6)
    ground = filled[:, :, 10, 10]
    np.testing.assert_array_equal(filled[:, :, 20:], np.tile(ground[..., None, None], (8, 28)))
    np.testing.assert_allclose(ground, PALETTE[:3], atol=0.15)
    np.testing.assert_allclose(filled[:, :, 6, 0], 0.2 + 0.8 * ground, atol=1e-6)


GOOD = {"images": grey(4), "colour_ids": ids(4, 0), "palette": PALETTE}
BAD = [
    ({"images": grey(4) / 255}, TypeError, "images must be uint8 .* not float64"),
    ({"images": grey(4).astype(np.int64)}, TypeError, "uint8 .* not int64"),
    ({"images": grey(4).reshape(4, 784)}, ValueError, r"\(N, 28, 28\), not \(4, 784\)"),
    ({"images": np.zeros((4, 32, 32), np.uint8)}, ValueError, r"not \(4, 32, 32\)"),
    ({"images": np.zeros((4, 28, 28, 1), np.uint8)}, ValueError, r"not \(4, 28, 28, 1\)"),
    ({"colour_ids": np.zeros(4)}, TypeError, "colour_ids must be integers, not float64"),
    ({"colour_ids": ids(3, 0)}, ValueError, r"shape \(4,\), not \(3,\)"),
    ({"colour_ids": np.array([0, 1, 2, 10])}, ValueError, "0..9.* found 0 to 10"),
    ({"colour_ids": np.array([0, 1, 2, -1])}, ValueError, "0..9.* found -1 to 2"),
    ({"palette": PALETTE * 255}, ValueError, r"palette must have shape \(K, 3\) .* \[0, 1\]"),
    ({"palette": PALETTE - 0.5}, ValueError, r"palette .* \[0, 1\]"),
    ({"palette": PALETTE[:, :2]}, ValueError, r"\(K, 3\)"),
    ({"palette": PALETTE[0]}, ValueError, r"\(K, 3\)"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_paint_refuses_bad_input(change, error, message):
    paint(**GOOD, seed=0)
    with pytest.raises(error, match=message):
        paint(**{**GOOD, **change}, seed=0)
    if "palette" not in change:
        change = {**GOOD, **change}
        with pytest.raises(error, match=message):
            flat_fill(change["images"], change["colour_ids"], 0)


# --- splits --------------------------------------------------------------------------------------


def test_training_digits_are_cut_at_eleven_twelfths():
    train, validation = (split_digits(name, DIGITS) for name in ("train", "validation"))
    assert len(train[1]) == 220 and len(validation[1]) == 20
    for part in (0, 1):
        whole = (DIGITS.images, DIGITS.labels)[part]
        np.testing.assert_array_equal(np.concatenate([train[part], validation[part]]), whole)
    for name in ("hard", "aligned", "unbiased", "unseen"):
        images, labels = split_digits(name, DIGITS)
        assert images is DIGITS.images and labels is DIGITS.labels


def test_training_and_test_digits_are_loaded_when_none_are_given(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1200")
    for name, count in {"train": 1100, "validation": 100, "hard": 200, "unseen": 200}.items():
        split = colour_split(name, 0)
        assert len(split) == count
        np.testing.assert_array_equal(split.labels, split_digits(name)[1])


@given(seed=SEEDS, name=st.sampled_from(SPLITS), correlation=st.floats(0, 1))
def test_splits_are_what_their_names_say(seed, name, correlation):
    before = DIGITS.images.copy(), DIGITS.labels.copy()
    split = colour_split(name, seed, correlation, DIGITS)
    assert split.images.dtype == np.float32 and split.images.shape == (len(split), 3, 28, 28)
    assert split.images.min() >= 0 and split.images.max() <= 1
    assert split.labels.dtype == split.colours.dtype == np.int64
    dominant = split.colours == split.labels
    if name == "unseen":
        assert ((split.colours >= 10) & (split.colours <= 19)).all()
    else:
        assert ((split.colours >= 0) & (split.colours <= 9)).all()
    share = {"hard": 0, "aligned": 1, "unbiased": 0.1}.get(name, correlation)
    if name != "unseen":
        for digit in range(10):
            mine = dominant[split.labels == digit]
            assert share * len(mine) - 1e-6 <= mine.sum() < share * len(mine) + 1
    np.testing.assert_array_equal(DIGITS.images, before[0])
    np.testing.assert_array_equal(DIGITS.labels, before[1])


@pytest.mark.parametrize("name", SPLITS)
def test_the_colours_named_are_the_colours_painted(name):
    split = colour_split(name, 3, digits=DIGITS)
    palette = np.concatenate([PALETTE, UNSEEN_PALETTE])
    grey_images, _ = split_digits(name, DIGITS)
    flat = grey_images.reshape(len(split), -1)
    inked = np.flatnonzero(flat.max(1) == 255)  # thin strokes nowhere reach full ink
    assert len(inked) > 0.7 * len(split)
    stroke = split.images.reshape(len(split), 3, -1)[inked, :, flat[inked].argmax(1)]
    np.testing.assert_allclose(stroke, palette[split.colours[inked]], atol=6 * canvas.JITTER)
    nearest = np.linalg.norm(stroke[:, None] - palette, axis=2).argmin(1)
    assert (nearest == split.colours[inked]).mean() > 0.95


def test_unseen_and_unbiased_use_all_ten_colours_evenly():
    digits = procedural_digits(2000, seed=6)
    for name, lowest in (("unbiased", 0), ("unseen", 10)):
        counts = np.bincount(colour_split(name, 1, digits=digits).colours - lowest, minlength=10)
        assert counts.shape == (10,)
        assert np.abs(counts - 200).max() < 5 * 13.5  # binomial, 2000 draws of 1/10


def test_seeds_and_names_decide_the_painting():
    def once(name, seed):
        return colour_split(name, seed, 0.5, DIGITS)

    for name in SPLITS:
        first, again, other = once(name, 1), once(name, 1), once(name, 2)
        np.testing.assert_array_equal(first.images, again.images)
        np.testing.assert_array_equal(first.colours, again.colours)
        assert (first.images != other.images).mean() > 0.5
        assert name == "aligned" or (first.colours != other.colours).any()
    # another name, another stream: not even the ground in the corner is the same
    hard, unbiased = (once(name, 1).images[:, :, 0, 0] for name in ("hard", "unbiased"))
    assert (hard != unbiased).any(axis=1).mean() > 0.9


@pytest.mark.parametrize("name", ["test", "Hard", ""])
def test_an_unknown_split_lists_the_known_ones(name, monkeypatch):
    monkeypatch.setattr(canvas, "load_digits", None)  # not even loaded
    with pytest.raises(ValueError, match=f"unknown split '{name}'") as caught:
        colour_split(name, 0)
    assert all(known in str(caught.value) for known in SPLITS)


def test_take_keeps_order_and_company():
    split = colour_split("train", 0, digits=DIGITS)
    index = np.array([7, 2])
    for part in (split.take(index), split.take(np.arange(220) == 7)):
        assert part.labels[0] == split.labels[7] and part.colours[0] == split.colours[7]
        np.testing.assert_array_equal(part.images[0], split.images[7])
    assert len(split.take(index)) == 2 and len(split.take(np.arange(220) == 7)) == 1


# --- tables --------------------------------------------------------------------------------------


def test_contingency_counts_digits_by_colour():
    expected = np.zeros((10, 10), np.int64)
    expected[0, 0], expected[0, 3], expected[9, 1] = 2, 1, 1
    labels = np.array([0, 0, 0, 9])
    np.testing.assert_array_equal(contingency(labels, np.array([0, 0, 3, 1])), expected)
    unseen = contingency(labels, np.array([10, 10, 13, 11]))
    np.testing.assert_array_equal(unseen, expected)
    assert unseen.dtype == np.int64


@pytest.mark.parametrize(
    ("labels", "colours", "bits"),
    [
        (list(range(10)), list(range(10)), math.log2(10)),
        ([0, 0, 1, 1], [3, 4, 3, 4], 0),
        ([0, 0, 1, 1], [13, 13, 14, 14], 1),
        # joint 1/3, 1/6, 1/6, 1/3 with margins 1/2: 2/3 log2(4/3) + 1/3 log2(2/3)
        ([0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 1, 1], 2 / 3 * math.log2(4 / 3) + math.log2(2 / 3) / 3),
    ],
)
def test_mutual_information_in_bits(labels, colours, bits):
    assert mutual_information(labels, colours) == pytest.approx(bits, abs=1e-12)


def test_mutual_information_of_the_protocols_bias():
    labels = np.repeat(np.arange(10), 180)
    # exact: 0.95 on the diagonal, the nine others equally often
    steps = np.tile(np.concatenate([np.zeros(171, int), np.arange(1, 10)]), 10)
    given_label = -0.95 * math.log2(0.95) - 0.05 * math.log2(0.05 / 9)
    bits = mutual_information(labels, (labels + steps) % 10)
    assert bits == pytest.approx(math.log2(10) - given_label, abs=1e-9)
