"""Digits drawn by a program, for where MNIST cannot be had."""

from __future__ import annotations

import math

import numpy as np

_POINTS = 72  # on the skeleton of each digit: less than a pixel apart
_BOX = 20.0  # MNIST fits each digit into a box of 20 x 20 pixels …
_CENTRE = 14.0  # … and puts its centre of mass here, in pixels

# How people write each digit: (share, skeleton). A skeleton is a list of strokes, separated by
# "/", each a smooth curve through its points "x,y" on a sheet of 100 x 100, y downwards. Equal
# points are one point: it stays joined when the points are moved, and a new stroke from it makes
# a corner.
_SKELETONS: dict[int, list[tuple[float, str]]] = {
    0: [
        (4, "50,0 22,15 10,50 22,88 50,100 78,85 90,48 78,12 50,0"),
        (3, "66,8 40,2 16,25 10,62 30,96 62,96 86,68 86,32 66,6 44,5"),
        (2, "42,6 20,22 10,55 28,96 60,98 88,62 84,25 62,6 40,10 28,24"),
        (1, "38,8 16,30 12,65 34,98 66,94 88,60 84,24 66,4 50,14"),
    ],
    1: [
        (9, "50,0 50,50 50,100"),
        (3, "54,0 52,30 48,66 46,100"),
        (2, "36,20 52,0 / 52,0 51,50 50,100"),
        (1, "34,24 44,14 54,0 / 54,0 53,50 52,100 / 30,100 52,100 76,99"),
        (1, "32,30 48,14 58,0 / 58,0 52,50 46,100"),
        (0.5, "14,26 36,16 58,0 / 58,0 52,50 46,98 / 8,100 46,98 84,94"),
    ],
    2: [
        (4, "14,24 30,5 56,0 78,18 70,45 40,76 10,100 / 10,100 50,97 94,96"),
        (4, "14,22 36,2 66,4 78,26 62,58 34,88 12,96 8,84 24,76 54,86 94,96"),
        (2, "10,10 40,4 84,6 / 84,6 48,50 8,96 / 8,96 50,96 96,94"),
        (2, "18,30 24,8 54,0 78,14 74,44 50,76 24,94 / 24,94 14,88 26,80 56,92 96,90"),
        (2, "22,22 42,2 66,16 62,50 42,86 14,98 4,80 22,64 56,80 98,66"),
        (2, "6,28 30,8 62,6 70,30 48,62 20,94 6,98 12,84 50,84 98,84"),
        (1, "10,16 40,6 76,10 64,42 36,72 16,90 / 16,90 56,82 98,74"),
    ],
    3: [
        (4, "14,14 44,0 76,14 66,40 36,48 / 36,48 72,54 84,76 58,98 10,90"),
        (3, "12,8 44,2 80,4 / 80,4 62,24 40,42 / 40,42 76,52 82,80 52,100 8,92"),
        (3, "14,14 46,0 74,16 58,42 34,52 40,44 68,52 84,74 60,98 8,92"),
        (1, "16,16 46,0 78,16 72,40 56,50 74,62 80,84 50,100 8,86"),
        (1, "26,8 50,0 70,14 60,34 46,44 / 46,44 64,58 66,80 50,98 30,96"),
    ],
    4: [
        (4, "20,4 12,30 12,52 / 12,52 40,56 90,48 / 78,0 72,50 66,100"),
        (3, "62,0 36,32 8,64 / 8,64 50,64 94,60 / 62,0 62,50 60,100"),
        (3, "18,2 12,36 24,54 52,50 76,34 / 84,2 76,34 70,66 64,100"),
        (2, "26,0 20,28 10,58 / 10,58 46,58 92,54 / 66,22 64,60 60,100"),
    ],
    5: [
        (4, "84,2 54,4 24,5 / 24,5 20,26 16,46 / 16,46 48,38 80,56 76,86 44,100 8,92"),
        (3, "30,10 26,28 20,46 / 20,46 52,42 76,62 66,90 36,100 8,92 / 30,8 60,6 96,0"),
        (2, "88,4 56,2 32,14 30,34 58,50 74,72 58,96 28,100 6,88"),
        (2, "96,2 62,4 36,8 / 36,8 28,26 20,42 / 20,42 48,48 64,68 48,92 6,96"),
        (2, "82,4 50,5 26,6 / 26,6 24,26 20,48 / 20,48 54,36 86,58 74,92 40,100 12,82"),
        (1, "96,6 46,20 / 46,20 34,34 22,46 / 22,46 50,46 66,64 48,92 4,98"),
    ],
    6: [
        (4, "70,0 38,26 16,64 26,94 56,100 80,80 66,58 40,60 18,80"),
        (3, "52,0 26,36 12,72 28,98 62,98 86,78 72,58 44,62 20,84"),
        (2, "62,2 30,30 12,70 36,100 74,90 82,66 58,54 26,68 30,94"),
        (2, "34,0 20,34 12,72 32,98 66,96 84,74 66,58 38,66 24,92"),
        (3, "38,0 12,36 6,76 30,98 68,96 96,78 78,60 50,68 30,94"),
        (1, "76,4 40,10 16,44 18,88 54,100 80,82 66,62 20,72"),
    ],
    7: [
        (4, "8,10 46,7 88,4 / 88,4 62,48 44,100"),
        (3, "10,26 14,8 / 14,8 50,8 88,4 / 88,4 68,46 56,100"),
        (2, "8,12 46,6 86,4 / 86,4 58,50 40,100 / 30,54 56,50 86,46"),
        (2, "6,20 28,4 60,8 86,8 76,40 64,68 58,100"),
        (2, "8,42 12,10 / 12,10 50,12 90,2 / 90,2 76,48 66,100"),
        (1, "8,26 14,8 / 14,8 50,8 88,4 / 88,4 66,48 54,100 / 40,52 64,50 90,48"),
    ],
    8: [
        (4, "78,16 52,0 24,12 32,36 64,56 80,82 50,100 20,84 34,56 66,36 78,16"),
        (3, "88,10 56,0 26,14 34,38 60,56 70,82 42,100 14,82 34,56 64,34 90,8"),
        (3, "50,46 24,26 46,0 76,18 50,46 22,74 46,100 78,78 50,46"),
        (1, "72,10 46,2 24,22 50,44 74,66 60,96 30,98 20,74 44,50 68,30 72,10"),
        (2, "16,10 34,34 64,58 82,80 54,100 26,84 44,54 76,26 84,6 50,0 16,10"),
        (2, "86,12 60,0 20,10 24,38 56,54 66,76 46,100 30,84 44,58 70,38 86,12"),
        (1, "96,6 70,0 34,12 36,36 60,56 62,84 30,100 10,82 32,60 62,44"),
        (2, "50,46 12,30 16,6 50,0 84,8 88,30 50,46 8,66 12,92 50,100 90,92 92,64 50,46"),
    ],
    9: [
        (4, "78,18 52,0 22,16 20,42 48,50 72,32 78,18 / 78,18 72,58 64,100"),
        (3, "80,14 50,0 20,20 22,44 50,48 80,14 / 80,14 78,50 70,80 46,100 16,92"),
        (3, "76,10 46,2 16,26 26,50 56,44 80,8 / 80,8 70,50 52,100"),
        (1, "76,20 54,2 24,14 22,40 50,46 76,20 / 76,20 76,60 78,100"),
        (2, "66,6 32,8 16,34 38,50 72,30 / 80,8 72,30 66,64 58,100"),
        (1, "84,8 46,0 12,34 20,64 52,58 84,8 / 84,8 80,56 84,100"),
        (2, "70,14 52,2 32,14 36,34 54,34 70,14 / 70,14 64,56 52,100"),
        (1, "80,4 46,8 18,28 30,46 62,28 80,4 / 80,4 64,50 46,100"),
    ],
}


def draw_digits(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws `count` digits that look hand-written and are normalised as MNIST is: images uint8
    (count, 28, 28), 0 = background, 255 = full stroke, and labels int64 (count,).

    Each is a skeleton whose control points are moved at random, bent by a smooth random field
    (the elastic distortion of Simard, Steinkraus and Platt, 2003, applied to the stroke and not
    to the pixels), slanted, turned and stretched, fitted into 20 x 20 pixels, put with its centre
    of mass in the middle of 28 x 28, and drawn by a pen of random and varying width. The classes
    are balanced to within one image; the order is shuffled; the seed determines all. Raises
    ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 10)
    images = np.empty((count, 28, 28), np.uint8)
    for digit, skeletons in _SKELETONS.items():
        places = np.flatnonzero(labels == digit)
        shares = np.array([share for share, _ in skeletons])
        chosen = rng.choice(len(skeletons), len(places), p=shares / shares.sum())
        for variant, (_, text) in enumerate(skeletons):
            control, basis, ends = _parse_skeleton(text)
            drawn = places[chosen == variant]
            for start in range(0, len(drawn), 128):
                chunk = drawn[start : start + 128]
                points = _write(control, basis, ends, len(chunk), rng)
                images[chunk] = _draw(points, rng)
    return images, labels


def _parse_skeleton(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Control points (C, 2) of a sheet of size 1, the matrix (_POINTS, C) that makes curve points
    of them (Catmull-Rom splines), and for each control point whether a stroke ends there."""
    strokes = [stroke.split() for stroke in text.split("/")]
    names = list(dict.fromkeys(name for stroke in strokes for name in stroke))
    control = np.array([[float(n) for n in name.split(",")] for name in names]) / 100
    pieces = []  # for each span between two neighbouring control points: (4, C) weights
    for stroke in strokes:
        rows = np.eye(len(names))[[names.index(name) for name in stroke]]
        rows = np.concatenate([[2 * rows[0] - rows[1]], rows, [2 * rows[-1] - rows[-2]]])
        pieces += [rows[i : i + 4] for i in range(len(rows) - 3)]
    length = np.array([np.linalg.norm((piece[2] - piece[1]) @ control) for piece in pieces])
    along = (np.arange(_POINTS) + 0.5) / _POINTS * length.sum()
    before = np.concatenate([[0], np.cumsum(length)])
    span = np.searchsorted(before, along, side="right") - 1
    t = (along - before[span]) / length[span]
    blend = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    )
    basis = np.einsum("km,mkc->mc", blend, np.stack(pieces)[span])
    ends = np.isin(names, [name for stroke in strokes for name in (stroke[0], stroke[-1])])
    return control, basis, ends


def _write(
    control: np.ndarray, basis: np.ndarray, ends: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Curve points (n, _POINTS, 2) of n different hands, in units of the sheet."""
    jitter = rng.normal(0, np.where(ends, 0.055, 0.038)[:, None], (n, *control.shape))
    points = basis @ (control + jitter - 0.5)

    # A Gaussian random field of correlation length 0.35, as a sum of random waves.
    waves = 6
    frequency = rng.normal(0, 1 / 0.35, (n, 2, waves))
    phase = rng.uniform(0, 2 * np.pi, (n, 1, waves))
    amplitude = rng.normal(0, 0.045 * math.sqrt(2 / waves), (n, waves, 2))
    points = points + np.cos(points @ frequency + phase) @ amplitude

    aspect = np.exp(rng.normal(-0.2, 0.18, n))
    slant = rng.normal(0.18, 0.22, n)
    angle = rng.normal(0, 0.12, n)
    x = aspect[:, None] * points[..., 0] - slant[:, None] * points[..., 1]
    y = points[..., 1]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def _draw(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images uint8 (n, 28, 28) of the curves, normalised as MNIST is."""
    n = len(points)
    # The pen's radius in pixels; beyond these bounds digits vanish or clog.
    radius = np.exp(rng.normal(math.log(1.3), 0.3, (n, 1))).clip(0.6, 2.4)
    turns = np.linspace(0, 2 * np.pi, _POINTS) * rng.uniform(0.5, 1.5, (n, 1))
    pressure = 1 + 0.15 * np.sin(turns + rng.uniform(0, 2 * np.pi, (n, 1)))
    edge = rng.uniform(0.9, 1.5, (n, 1))  # over so many pixels the stroke fades out

    low, high = points.min(axis=1), points.max(axis=1)
    size = (high - low).max(axis=1, keepdims=True)
    points = points * ((_BOX - 2 * radius - edge / 2) / size)[..., None]
    step = np.linalg.norm(np.gradient(points, axis=1), axis=-1)
    weight = (np.minimum(step, 1.0) * pressure)[..., None]
    middle = (weight * points).sum(axis=1) / weight.sum(axis=1)
    # MNIST moves images by whole pixels, which leaves this much of a rounding.
    points = points - middle[:, None] + rng.uniform(-0.5, 0.5, (n, 1, 2))

    # Squared distance of each pixel to the nearest point, less the pen's local radius squared:
    # |g - p|^2 - r^2 = |g|^2 + (g, 1) . (-2p, |p|^2 - r^2), one matrix product for all.
    grid = np.arange(28, dtype=np.float32) - np.float32(_CENTRE)
    gy, gx = (axis.ravel() for axis in np.meshgrid(grid, grid, indexing="ij"))
    excess = (points**2).sum(axis=-1) - (radius * pressure) ** 2
    features = np.concatenate([-2 * points, excess[..., None]], axis=-1).astype(np.float32)
    pixels = np.stack([gx, gy, np.ones_like(gx)])
    power = (features.transpose(1, 0, 2).reshape(-1, 3) @ pixels).reshape(_POINTS, n, 784)
    nearest = power.min(axis=0) + (gx**2 + gy**2)
    radius, edge = radius.astype(np.float32), edge.astype(np.float32)
    outside = np.sqrt(np.maximum(nearest + radius**2, 0)) - radius
    stroke = np.clip(0.5 - outside / edge, 0, 1)
    return np.rint(255 * stroke).astype(np.uint8).reshape(n, 28, 28)
