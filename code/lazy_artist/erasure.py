"""Linear concept erasure: affine maps that take a label out of activations.

`leace` is the least change, in the metric of the activations' covariance, after which no linear
probe of the label does better than guessing (Belrose et al. 2023, arXiv:2306.03819); `splince` the
least that also keeps the covariance with another label (Holstege et al. 2025, arXiv:2506.10703).
Their relatives are orthogonal projections: `project_out` removes given directions, such as a linear
probe's weights, and `project_out_class_means` those in which the classes' means differ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lazy_artist.interface import Array, check_classes, public

SMALLEST = 1e-6  # of the covariance's eigenvalues, relative to the largest: smaller ones are raised


class Eraser(NamedTuple):
    """x -> x - (x - centre) P. centre: the mean that stays (W,); projection: P = P P (W, W)."""

    centre: np.ndarray
    projection: np.ndarray

    @public
    def __call__(self, x: Array) -> Array:
        """Activations (N, W) without what the eraser removes."""
        return x - (x - self.centre) @ self.projection


@public
def project_out(x: Array, directions: Array, rank: int) -> Eraser:
    """Removes the `rank` leading directions that rows (K, W) span, about the mean of activations x
    (N, W)."""
    return Eraser(x.mean(0), _span(directions, rank))


@public
def project_out_class_means(x: Array, classes: Array) -> Eraser:
    """Removes the directions in which the means of activations x (N, W) differ from class to class;
    classes: int (N,), 0 to C - 1. Raises ValueError for a class without a row."""
    means = _class_means(x, classes)
    return project_out(x, means, len(means) - 1)


@public
def leace(x: Array, classes: Array) -> Eraser:
    """LEACE fitted on activations x (N, W) and classes int (N,), 0 to C - 1: P = S^+ Q S for
    columns, with S the inverse square root of the covariance and Q the orthogonal projection on
    what the classes' means span after S. Raises ValueError for a class without a row."""
    means = _class_means(x, classes)
    whiten, colour = _whitening(x)
    inside = _span(means @ whiten, len(means) - 1)
    return Eraser(x.mean(0), (colour @ inside @ whiten).T)


@public
def splince(x: Array, classes: Array, kept: Array) -> Eraser:
    """SPLINCE fitted on activations x (N, W), the classes to erase and those to keep, int (N,):
    P = S^+ Q S for columns, with S as in `leace`. Q is oblique: onto A, what the means of `classes`
    span after S, along K, what those of `kept` span, and along all that is orthogonal to both.

    With orthonormal bases A and K (as columns) and R = (1 - K K') A, Q = A (R' A)^-1 R'; by it x
    loses all covariance with `classes`, and none with `kept`. Raises ValueError for a class without
    a row, and where the two spans share a direction, which cannot be both erased and kept.
    """
    whiten, colour = _whitening(x)
    bases = []
    for labels in (classes, kept):
        _, spread, rows = np.linalg.svd(_class_means(x, labels) @ whiten, full_matrices=False)
        bases.append(rows[spread > SMALLEST * spread.max()].T)
    erased, saved = bases
    across = erased - saved @ (saved.T @ erased)
    if np.linalg.svd(across, compute_uv=False).min(initial=1) < SMALLEST:
        raise ValueError("classes and kept differ in the same direction: erase one, keep the other")
    oblique = erased @ np.linalg.solve(across.T @ erased, across.T)
    return Eraser(x.mean(0), (colour @ oblique @ whiten).T)


def _whitening(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse square root (W, W) of the covariance of x (N, W), and its square root."""
    values, vectors = np.linalg.eigh(np.cov(x.T.astype(np.float64)))
    roots = np.sqrt(np.maximum(values, SMALLEST * values.max()))
    return vectors / roots @ vectors.T, vectors * roots @ vectors.T


def _class_means(x: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Means of the classes less the mean of all: (C, W)."""
    if x.ndim != 2:
        raise ValueError(f"activations must have shape (N, W), not {x.shape}")
    classes = check_classes(classes, len(x), below=None)
    counts = np.bincount(classes)
    if not counts.all():
        raise ValueError(f"class {counts.argmin()} has no activations: each needs at least one")
    return np.stack([x[classes == c].mean(0) for c in range(len(counts))]) - x.mean(0)


def _span(rows: np.ndarray, rank: int) -> np.ndarray:
    """Orthogonal projection (W, W) on the `rank` leading right singular vectors of rows (K, W)."""
    kept = np.linalg.svd(rows, full_matrices=False)[2][:rank]
    return kept.T @ kept
