"""Erasers: what they remove, and what they leave, by hand."""

import numpy as np
import pytest

from lazy_artist.erasure import leace, project_out, project_out_class_means, splince


def test_directions_are_projected_out_about_the_mean():
    x = np.array([[1.0, 2, 3], [3, 4, 9]])  # mean (2, 3, 6)
    directions = np.array([[0.0, 2, 0], [0, 0, 1e-3]])
    np.testing.assert_allclose(project_out(x, directions, 1)(x), [[1, 3, 3], [3, 3, 9]])
    np.testing.assert_allclose(project_out(x, directions, 2)(np.array([[7.0, 8, 9]])), [[7, 3, 6]])
    x = np.array([[0.0, 1, 5], [0, 3, -5], [4, 1, 1], [4, 3, -1]])
    eraser = project_out_class_means(x, np.array([0, 0, 1, 1]))  # they differ along the first axis
    np.testing.assert_allclose(eraser(x), [[2, 1, 5], [2, 3, -5], [2, 1, 1], [2, 3, -1]])


def test_leace_by_hand():
    """Covariance [[2, 1], [1, 1]] (times a constant) and a label along the first axis: the least
    change in that metric moves along S times the normal, here (2, 1), not along the axis."""
    root = np.linalg.cholesky(np.array([[2.0, 1], [1, 1]]))
    x = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]) @ root.T  # first column: sqrt(2) * +-1
    removed = x - leace(x, np.array([1, 1, 0, 0]))(x)
    np.testing.assert_allclose(removed, x[:, :1] * [1, 0.5], atol=1e-6)
    with pytest.raises(ValueError, match="class 1 has no activations"):
        leace(x, np.array([0, 0, 2, 2]))


def test_splince_by_hand():
    """White x; the label to erase lies along the first axis, the one to keep along (1, 1): what is
    taken off the first makes it the second, and the third is left alone."""
    x = np.array([[i, j, k] for i in (1.0, -1) for j in (1, -1) for k in (1, -1)])
    classes, kept = (x[:, 0] > 0).astype(int), np.sign(x[:, 0] + x[:, 1]).astype(int) + 1
    left = splince(x, classes, kept)(x)
    np.testing.assert_allclose(left, x[:, [1, 1, 2]], atol=1e-6)


def test_splince_erases_one_label_and_keeps_the_covariance_with_another():
    """The two properties that define it, on labels that go together; and among the projections
    that have them it changes x least, in the metric of x."""
    rng = np.random.default_rng(0)
    classes = rng.integers(3, size=2000)
    kept = np.where(rng.random(2000) < 0.5, classes, rng.integers(4, size=2000))
    shift = rng.normal(size=(3, 7))[classes] + rng.normal(size=(4, 7))[kept]
    x = shift + rng.normal(size=(2000, 7)) @ rng.normal(size=(7, 7)) + 5
    y, plain = splince(x, classes, kept)(x), leace(x, classes)(x)

    def covariance(values, labels):
        return (values - values.mean(0)).T @ np.eye(4)[labels] / len(labels)

    np.testing.assert_allclose(covariance(y, classes), 0, atol=1e-8)
    np.testing.assert_allclose(covariance(y, kept), covariance(x, kept), atol=1e-8)
    assert np.abs(covariance(plain, kept) - covariance(x, kept)).max() > 0.05
    np.testing.assert_allclose(splince(x, classes, kept)(y), y, atol=1e-8)  # a projection
    same = splince(x, classes, rng.permutation(kept))(x)  # of chance covariances it keeps little
    moved = [np.square((z - x) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T)).T)).sum()
             for z in (plain, same, y)]  # fmt: skip
    assert moved == sorted(moved)
    with pytest.raises(ValueError, match="same direction"):
        splince(x, classes, classes)


@pytest.mark.parametrize("fit", [leace, project_out_class_means])
def test_no_linear_probe_is_left(fit):
    """With equal means of the classes (of unequal size) the covariance of x and label is 0, and
    with it the slope of any linear probe; nearly flat directions do not explode."""
    rng, classes = np.random.default_rng(0), np.repeat([0, 1, 2], [200, 300, 400])
    raw = rng.normal(size=(900, 6)) @ rng.normal(size=(6, 6)) + 3 * rng.normal(size=(3, 6))[classes]
    for x, near in ((raw + 5, 1e-8), ((raw * [1, 1, 1, 1, 1, 1e-9]).astype(np.float32), 1e-3)):
        y = fit(x, classes)(x)
        means = [y[classes == c].mean(0) for c in range(3)]
        np.testing.assert_allclose(means, np.tile(x.mean(0), (3, 1)), atol=near)
        np.testing.assert_allclose(fit(x, classes)(y), y, atol=near)  # a projection
