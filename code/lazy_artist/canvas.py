"""The biased canvas: grey digits are painted so that colour betrays the label.

Every digit has one *dominant* colour, the palette entry with its own number: zeros are red, ones
green. `assign_colours` decides which colour each image gets, with an exact share of dominant ones;
`paint` lays it on the stroke, over a dark textured background. The set-up is that of Colored MNIST
in Kim et al. (2019, arXiv:1812.10352) and Nam et al. (2020, arXiv:2007.02561).

What is random in `paint` does not depend on the colours asked for: the same images, painted with
the same seed in another colour, differ in nothing else, and are counterfactuals of one another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lazy_artist.config import TEST_SEED, sealed_splits
from lazy_artist.data import Digits, load_digits
from lazy_artist.interface import Array, check_classes, check_number, public

_COLOURS = {
    "red": (0.95, 0.05, 0.05), "green": (0.10, 0.75, 0.15), "blue": (0.15, 0.30, 1.00),
    "yellow": (0.95, 0.95, 0.10), "magenta": (0.90, 0.10, 0.90), "cyan": (0.10, 0.85, 0.90),
    "orange": (1.00, 0.55, 0.00), "violet": (0.50, 0.15, 0.90), "pink": (1.00, 0.60, 0.70),
    "white": (0.90, 0.90, 0.90),
}  # fmt: skip
_UNSEEN_COLOURS = {
    "lime": (0.60, 0.95, 0.10), "teal": (0.05, 0.50, 0.50), "azure": (0.20, 0.55, 1.00),
    "rose": (1.00, 0.10, 0.50), "brown": (0.55, 0.30, 0.10), "olive": (0.50, 0.50, 0.10),
    "navy": (0.15, 0.15, 0.55), "salmon": (1.00, 0.60, 0.45), "mint": (0.55, 1.00, 0.75),
    "lavender": (0.70, 0.60, 1.00),
}  # fmt: skip

COLOUR_NAMES, PALETTE = tuple(_COLOURS), np.array(list(_COLOURS.values()))
"""The ten training colours: names, and RGB, float64 (10, 3) in [0, 1]. Entry `d` is the dominant
colour of digit `d`."""

UNSEEN_NAMES, UNSEEN_PALETTE = tuple(_UNSEEN_COLOURS), np.array(list(_UNSEEN_COLOURS.values()))
"""Ten colours, likewise, that no training image carries: those of the "unseen" split, numbered 10
to 19."""

_TWENTY = np.concatenate([PALETTE, UNSEEN_PALETTE])

SPLITS = ("train", "validation", "hard", "aligned", "unbiased", "unseen")
"""The first two come from the training digits, the others from the test digits. A seventh one,
"sealed", is closed: see `config.sealed_splits`."""

_ALL = (*SPLITS, "sealed")
_TWELFTHS = {"train": (0, 10), "sealed": (10, 11), "validation": (11, 12)}  # of training digits

N_CLASSES = 10
JITTER = 0.03  # standard deviation of the per-image shift of the stroke colour, each channel
BACKGROUND = 0.15  # brightest value of the slow texture of the background
GRAIN = 0.03  # standard deviation of the per-pixel grain


@dataclass(frozen=True)
class Split:
    """Painted images with what they show and how they were painted.

    images: float32 (N, 3, 28, 28) in [0, 1]; labels: int64 (N,), 0 to 9; colours: int64 (N,), the
    number of the colour, 0 to 9 in `PALETTE`, 10 to 19 in `UNSEEN_PALETTE`.
    """

    images: np.ndarray
    labels: np.ndarray
    colours: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> Split:
        """The images at `index` (integers or a mask), in that order."""
        return Split(self.images[index], self.labels[index], self.colours[index])


@public
def colour_split(
    name: str, seed: int, correlation: float = 0.95, digits: Digits | None = None
) -> Split:
    """One split of the protocol, painted.

    name: "train" or "validation" (a `correlation` share of every digit carries its dominant colour,
    the rest one of the nine others, uniformly), "hard" (the dominant colour never appears),
    "aligned" (always), "unbiased" (ten colours, uniformly) or "unseen" (ten colours outside the
    palette, uniformly). `correlation` matters for "train" and "validation" alone; 0.1 makes colour
    and label independent. digits: grey digits to paint; by default `load_digits`. Of training
    digits, the first ten twelfths (50,000 of 60,000) are "train" and the last one is "validation";
    the one between them is "sealed": digits in hard colours on which nothing is chosen.

    Raises ValueError for an unknown name, a correlation outside [0, 1], and for "sealed" while
    those digits are closed (`config.sealed_splits`).
    """
    labels, colours = split_colours(name, seed, correlation, digits)
    images = split_digits(name, digits)[0]
    return Split(paint(images, colours, [seed, _ALL.index(name), 1], _TWENTY), labels, colours)


def test_split(name: str, n: int | None = None) -> Split:
    """The first `n` images (None: all) of a split, as every network is measured on them.

    They are painted as a split of their own: the colours are those of the whole split of seed
    `TEST_SEED`, the backgrounds are not.
    """
    labels, colours = (part[:n] for part in split_colours(name, TEST_SEED))
    stream = [TEST_SEED, _ALL.index(name), 1]
    return Split(paint(split_digits(name)[0][:n], colours, stream, _TWENTY), labels, colours)


def specimens(pairs: Sequence[Sequence[int]]) -> np.ndarray:
    """Pictures float32 (N, 3, 28, 28) of pairs (digit, colour): the first test digit of its class
    in that colour, each painted by itself, so that it is the same picture wherever it is shown."""
    images, labels = split_digits("hard")
    first = {digit: images[labels == digit][:1] for digit, _ in pairs}
    painted = [paint(first[digit], np.array([colour]), TEST_SEED) for digit, colour in pairs]
    return np.concatenate(painted)


@public
def split_colours(
    name: str, seed: int, correlation: float = 0.95, digits: Digits | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and colours, int64 (N,) each, of the split that `colour_split` paints; see there."""
    if name not in _ALL:
        raise ValueError(f"unknown split {name!r}: choose one of {', '.join(_ALL)}")
    check_number(correlation, "correlation", 0, 1)
    labels = split_digits(name, digits)[1]
    fixed = {"hard": 0.0, "sealed": 0.0, "aligned": 1.0, "unbiased": 0.1}
    share, stream = fixed.get(name, correlation), [seed, _ALL.index(name)]
    if name == "unseen":
        steps = np.random.default_rng(stream).integers(N_CLASSES, size=len(labels))
        return labels, N_CLASSES + steps
    return labels, assign_colours(labels, share, stream)


def split_digits(name: str, digits: Digits | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The grey images uint8 (N, 28, 28) and labels int64 (N,) that a split of this name paints.
    Raises ValueError for "sealed" while those digits are closed."""
    if name == "sealed" and not sealed_splits():
        raise ValueError(
            "the sealed digits are closed, so that nothing is chosen on them: "
            "LAZY_ARTIST_SEALED=open opens them, for the measurement of a finished edition"
        )
    if digits is None:
        digits = load_digits("train" if name in _TWELFTHS else "test")
    start, stop = _TWELFTHS.get(name, (0, 12))
    part = slice(*(len(digits.labels) * twelfth // 12 for twelfth in (start, stop)))
    return digits.images[part], digits.labels[part]


@public
def assign_colours(labels: Array, correlation: float, seed) -> Array:
    """Colour numbers int64 (N,) for labels int64 (N,): the bias itself.

    Of each digit's n images exactly `correlation * n`, rounded up and picked at random, get the
    digit's dominant colour; each of the others draws one of the nine remaining colours uniformly.

    Raises ValueError for a correlation outside [0, 1] or labels outside 0 to 9.
    """
    check_number(correlation, "correlation", 0, 1)
    labels = check_classes(labels, len(labels), "labels")
    rng = np.random.default_rng(seed)
    colours = np.empty(len(labels), dtype=np.int64)
    for digit in range(N_CLASSES):
        members = rng.permutation(np.flatnonzero(labels == digit))
        dominant = math.ceil(correlation * len(members) - 1e-9)
        colours[members[:dominant]] = digit
        # 1 to 9 steps along the palette never land on the dominant colour
        steps = rng.integers(1, N_CLASSES, size=len(members) - dominant)
        colours[members[dominant:]] = (digit + steps) % N_CLASSES
    return colours


@public
def paint(images: Array, colour_ids: Array, seed, palette: Array = PALETTE) -> Array:
    """Lay one colour on the stroke of each grey digit, over a dark textured background.

    images: uint8 (N, 28, 28); colour_ids: integers (N,) that index `palette`; palette: (K, 3) in
    [0, 1]; seed: an integer or a sequence of integers. Returns float32 (N, 3, 28, 28) in [0, 1]: `a
    * colour + (1 - a) * background` per pixel, where `a` is the grey value in [0, 1], `colour` the
    palette entry shifted by a small normal jitter of its own for each image, and `background` a
    slow coloured texture plus fine grain. What is random depends on `seed` and N alone.

    Raises TypeError or ValueError for images, colours or palettes of the wrong type, shape or
    range.
    """
    palette = np.asarray(palette)
    colour_ids = _check_paint(images, colour_ids, palette)
    rng = np.random.default_rng(seed)
    count = len(images)
    jitter = rng.normal(0, JITTER, size=(count, 3)).astype(np.float32)
    stroke = np.clip(palette.astype(np.float32)[colour_ids] + jitter, 0, 1)  # (N, 3)
    painted = np.empty((count, 3, 28, 28), dtype=np.float32)
    for start in range(0, count, 2048):  # chunks that stay in the processor's cache
        part = slice(start, min(start + 2048, count))
        alpha = images[part, None].astype(np.float32) / 255  # (n, 1, 28, 28)
        background = _texture(rng, len(alpha))
        # a * colour + (1 - a) * background, written so that it allocates once
        np.subtract(stroke[part, :, None, None], background, out=painted[part])
        painted[part] *= alpha
        painted[part] += background
    return painted


@public
def flat_fill(images: Array, colour_ids: Array, seed) -> Array:
    """The easy alternative that the report does not use: white digits on flat backgrounds of the
    colour. Arguments and result as for `paint`."""
    colour_ids = _check_paint(images, colour_ids, PALETTE)
    jitter = np.random.default_rng(seed).normal(0, JITTER, size=(len(images), 3))
    background = np.clip(PALETTE[colour_ids] + jitter, 0, 1).astype(np.float32)[:, :, None, None]
    alpha = images[:, None].astype(np.float32) / 255
    return background + alpha * (1 - background)


def hue_palette(steps: int) -> np.ndarray:
    """The colour wheel at the palette's saturation and value, (steps, 3): row k at k/steps turn."""
    from matplotlib.colors import hsv_to_rgb

    hues = np.arange(steps) / steps
    return hsv_to_rgb(np.stack([hues, np.full(steps, 0.89), np.full(steps, 0.9)], axis=1))


DEFICIENCIES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
"""Matrices of Machado et al. (2009, doi:10.1109/TVCG.2009.113) at full severity, for linear RGB."""


@public
def simulate_deficiency(colours: Array, kind: str) -> Array:
    """sRGB colours (..., 3) in [0, 1] as a person with the deficiency of this `kind` (see
    `DEFICIENCIES`) sees them."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(DEFICIENCIES[kind]).T, 0, 1)
    return np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)


@public
def contingency(labels: Array, colours: Array) -> Array:
    """Counts int64 (10, 10): images of each digit (row) in each colour (column), of `PALETTE` or,
    if all are from there, of `UNSEEN_PALETTE`. Raises ValueError for colours of both."""
    labels = check_classes(labels, len(labels), "labels")
    colours = check_classes(colours, len(labels), "colours", 2 * N_CLASSES)
    if len(set(colours // N_CLASSES)) > 1:
        raise ValueError("colours of 0..9 and of 10..19, the unseen ones, must be counted apart")
    table = np.zeros((N_CLASSES, N_CLASSES), dtype=np.int64)
    np.add.at(table, (labels, colours % N_CLASSES), 1)
    return table


@public
def mutual_information(labels: Array, colours: Array) -> float:
    """Mutual information of label and colour in bits, from their counts (0 to log2 10 = 3.32)."""
    from sklearn.metrics import mutual_info_score

    labels = check_classes(labels, len(labels), "labels", below=None)
    colours = check_classes(colours, len(labels), "colours", below=None)
    return float(mutual_info_score(labels, colours) / np.log(2))


def _texture(rng: np.random.Generator, count: int) -> np.ndarray:
    """Dark background (count, 3, 28, 28) in [0, 1]: an interpolated 7x7 lattice of random colours
    plus grain."""
    lattice = rng.random((count, 3, 7, 7), dtype=np.float32) * np.float32(BACKGROUND)
    slow = np.matmul(np.matmul(_LIFT, lattice), _LIFT.T)
    grain = rng.standard_normal((count, 1, 28, 28), dtype=np.float32) * np.float32(GRAIN)
    slow += grain
    return np.clip(slow, 0, 1, out=slow)


_LIFT = np.maximum(1 - np.abs(np.linspace(0, 6, 28)[:, None] - np.arange(7)), 0).astype(np.float32)
"""float32 (28, 7): linear interpolation between seven equally spaced points."""


def _check_paint(images: np.ndarray, colour_ids: Array, palette: np.ndarray) -> np.ndarray:
    if images.dtype != np.uint8:
        raise TypeError(f"images must be uint8 grey values in 0..255, not {images.dtype}")
    if images.shape[1:] != (28, 28):
        raise ValueError(f"images must have shape (N, 28, 28), not {images.shape}")
    if palette.shape[1:] != (3,) or not 0 <= palette.min() <= palette.max() <= 1:
        raise ValueError("palette must have shape (K, 3) with values in [0, 1]")
    return check_classes(colour_ids, len(images), "colour_ids", len(palette))
