"""How little must an image change before a network sees what we want it to see?

Two white-box attacks for a target class t. `targeted_pgd` looks for a change of less than a given
size (Madry et al. 2018, arXiv:1706.06083); `minimal_epsilon` looks for the smallest one. Both climb
a margin f of the target, which is positive exactly when the criterion is met:

    "predict"            f = z_t - max_{j != t} z_j
    p, from 0.5 below 1  f = z_t - log sum_{j != t} exp z_j - log(p / (1 - p))

that is, when t is predicted, or when the softmax gives it more than p. The size of a change is its
largest absolute pixel value ("linf") or its Euclidean length ("l2", over all 3 * 28 * 28 values).
Changed images stay in [0, 1], and what an attack claims to have reached is checked once more from
the images alone, by the network as it was given.

`square_attack` needs no gradient, `colour_attack` can only tint or repaint, and `fmn` is a rival as
published: they are controls. `ciede2000` and `ssim` say whether a change can be seen. All call
networks in eval mode, on the processor, and leave them as they were. Images are float32
(N, 3, 28, 28) in [0, 1]; targets are one integer for all or one each (N,), other than what the
network says already. Raises ValueError for images of another type, shape or range, none at all,
targets out of range, of another length or predicted already, an unknown norm or criterion, sizes
that are not positive, and a network that gives a NaN or an infinity.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lazy_artist.canvas import CLASSES
from lazy_artist.evaluate import check_images, predict
from lazy_artist.training import arithmetic

NORMS = {"linf": 1.0, "l2": math.sqrt(3 * 28 * 28)}  # and the size that reaches every image
SLACK = 1e-4  # margin that a search asks for, in logits: above the rounding of float32
BATCH = 125  # images at a time, so that activations stay in the processor's cache
# First and last step, relative to the size: along the gradient over its mean absolute value (linf)
# or over its length (l2). Chosen, as the other numbers of the search, on validation digits.
STEPS = {"linf": (3.0, 0.05), "l2": (3.0, 0.03)}
CAP = (0.1, 0.005)  # largest relative change of the size in a step, at the first and the last
# Share of a descent's steps that are taken in the arithmetic of training, which is cheaper; what is
# found there does not count.
ROUGH = 0.85
PRESS = 0.05  # largest relative change of the size in a round of the test at the end
# Descents after the first, each from a random point: far ones and near ones by turns. In linf one
# descent was enough on validation digits; in l2 it stopped in local minima.
HOPS = {"linf": 0, "l2": 4}
NEAR = 0.7  # for a near start: the factor of the best change, and of noise as large

Targets = int | Sequence[int] | np.ndarray
Criterion = str | float


class Attack(NamedTuple):
    """images: float32 (N, 3, 28, 28); reached: bool (N,), whether the criterion is met; size:
    float64 (N,) of the change; probability: float64 (N,) of the target, by softmax."""

    images: np.ndarray
    reached: np.ndarray
    size: np.ndarray
    probability: np.ndarray


class Minimum(NamedTuple):
    """epsilon: float64 (N,), the size of a change that reaches the target, infinity if none was
    found up to the limit (the image is censored there); lower: float64 (N,), the largest smaller
    size at which the search failed; images: float32 (N, 3, 28, 28), the changed images, or the
    given ones where nothing was found."""

    epsilon: np.ndarray
    lower: np.ndarray
    images: np.ndarray

    @property
    def reached(self) -> np.ndarray:
        """bool (N,)."""
        return np.isfinite(self.epsilon)


def targeted_pgd(
    model: nn.Module,
    images: np.ndarray,
    targets: Targets,
    epsilon: float,
    norm: str = "linf",
    steps: int = 40,
    restarts: int = 1,
    confidence: float | None = 0.9,
    seed: int = 0,
) -> Attack:
    """Images that the model takes for their targets, each changed by less than `epsilon`.

    Projected gradient ascent of the margin, each image until it is reached. The first of
    `restarts` runs starts at the image, the others at random points of the ball (`seed`), and only
    images that were not reached yet run again. confidence: the probability that the target must
    exceed, or None: it need only be predicted. Of unreached images the last point is returned.
    """
    criterion = "predict" if confidence is None else confidence
    targets = _check(model, images, targets, norm, criterion)
    _check_sizes(epsilon=epsilon, steps=steps, restarts=restarts)
    generator = torch.Generator().manual_seed(seed)
    search = _quick(model)
    radius = epsilon * (1 - 1e-6) - 2e-7  # of the float32 images, whose sums are rounded
    found = images.copy()
    open_ = np.ones(len(images), dtype=bool)
    for run in range(restarts):
        for part in _parts(np.flatnonzero(open_)):
            x, t = _tensor(images[part]), torch.from_numpy(targets[part])
            start = torch.zeros_like(x)
            sizes = torch.full((len(x),), radius)
            if run:
                start = _inside(_noise(x, norm, sizes, generator), x)
            delta, hit, _ = _climb(search, x, start, t, criterion, norm, sizes, steps)
            found[part] = (x + delta).clamp_(0, 1).numpy()
            open_[part] = ~hit.numpy()
    size, margin, probability = _verify(model, images, found, targets, norm, criterion)
    return Attack(found, (margin > 0) & (size < epsilon), size, probability)


def minimal_epsilon(
    model: nn.Module,
    images: np.ndarray,
    targets: Targets,
    norm: str = "linf",
    criterion: Criterion = "predict",
    steps: int = 80,
    tolerance: float = 0.01,
    limit: float | None = None,
    hops: int | None = None,
    seed: int = 0,
) -> Minimum:
    """The smallest change of each image that makes the model take it for its target.

    A descent of `steps` gradients, in the manner of the fast minimum-norm attack (Pintor et al.
    2021, arXiv:2102.12827): a step up the margin (`STEPS`), within a ball whose size follows the
    boundary by Newton's steps to where the linearised margin is zero (at most `CAP`). Then `hops`
    (by default `HOPS`) further descents as long, from random points (`seed`) as large as the best
    change so far: noise alone, and the best change mixed with noise, by turns (basin hopping, Wales
    and Doye 1997, doi:10.1021/jp970984n). Then the result is put to the test: an eighth as many
    steps at a size smaller by `tolerance`, again and again as long as they succeed, by more where
    the margin has room for more. So `lower` is within the tolerance of `epsilon`; a search that
    started there, next to a solution, found none: a bracket of the search, not a proof.

    limit: the largest size that counts; by default that of the whole cube [0, 1]. Raises ValueError
    for negative hops too.
    """
    targets = _check(model, images, targets, norm, criterion)
    limit = NORMS[norm] if limit is None else limit
    hops = HOPS[norm] if hops is None else hops
    _check_sizes(limit=limit, steps=steps, tolerance=tolerance)
    if hops < 0:
        raise ValueError(f"hops must not be negative, not {hops}")
    generator = torch.Generator().manual_seed(seed)
    search = _quick(model)
    found = images.copy()
    lower = np.full(len(images), float(limit))
    for part in _parts(np.arange(len(images))):
        x, t = _tensor(images[part]), torch.from_numpy(targets[part])
        start, best = torch.zeros_like(x), torch.zeros_like(x)
        for hop in range(hops + 1):
            if hop:
                start = _hop(x, best, norm, limit, hop % 2 == 0, generator)
            _descend(search, x, start, best, t, criterion, norm, steps, limit)
        failed = _press(search, x, best, t, criterion, norm, max(5, steps // 8), tolerance)
        found[part] = (x + best).clamp_(0, 1).numpy()
        hit = best.flatten(1).any(1)
        lower[part] = np.where(hit, failed, limit)
    size, margin, _ = _verify(model, images, found, targets, norm, criterion)
    reached = (margin > 0) & (size > 0) & (size <= limit)
    found[~reached] = images[~reached]
    return Minimum(np.where(reached, size, math.inf), np.where(reached, lower, limit), found)


def square_attack(
    model: nn.Module,
    images: np.ndarray,
    targets: Targets,
    epsilon: float | np.ndarray,
    queries: int = 500,
    criterion: Criterion = "predict",
    seed: int = 0,
) -> Attack:
    """The Square attack (Andriushchenko et al. 2020, arXiv:1912.00049) in linf, without gradients.

    From stripes of +-epsilon (one size, or one for each image), squares at random places are set to
    +-epsilon, one colour each, and kept where the margin grows. Their share of the image starts at
    0.8 and is halved after 10, 50, 200, 500, ... of 10,000 queries, scaled to `queries`.
    """
    targets = _check(model, images, targets, "linf", criterion)
    _check_sizes(epsilon=np.min(epsilon), queries=queries)
    epsilon = np.broadcast_to(np.asarray(epsilon, dtype=np.float64), len(images))
    rng = np.random.default_rng(seed)
    radius = (epsilon * (1 - 1e-6) - 2e-7).astype(np.float32)[:, None, None, None]
    count, side = len(images), images.shape[2]
    stripes = radius * rng.choice(np.float32([-1, 1]), size=(count, 3, 1, side))
    found = np.clip(images + stripes, 0, 1)
    best = _margins(predict(model, found), targets, criterion)
    for query in range(1, queries):
        active = np.flatnonzero(best <= 0)
        if not len(active):
            break
        halvings = np.searchsorted([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000],
                                   query / queries * 10000)  # fmt: skip
        edge = max(1, round(side * math.sqrt(0.8 / 2**halvings)))
        trial = found[active]
        signs = radius[active] * rng.choice(np.float32([-1, 1]), size=(len(active), 3, 1, 1))
        for k, (row, column) in enumerate(rng.integers(0, side - edge + 1, size=(len(active), 2))):
            place = np.s_[:, row : row + edge, column : column + edge]
            trial[k][place] = np.clip(images[active[k]][place] + signs[k], 0, 1)
        margin = _margins(predict(model, trial), targets[active], criterion)
        better = margin > best[active]
        found[active[better]], best[active[better]] = trial[better], margin[better]
    size, margin, probability = _verify(model, images, found, targets, "linf", criterion)
    return Attack(found, (margin > 0) & (size < epsilon), size, probability)


def colour_attack(
    model: nn.Module,
    images: np.ndarray,
    targets: Targets,
    kind: str,
    criterion: Criterion = "predict",
    grid: int = 72,
) -> Attack:
    """The smallest change of colour alone, the same for every pixel, that reaches the target.

    kind: "hue" turns the hue of all pixels by one angle, saturation and value as they were (`grid`
    angles around the circle); "tint" adds one colour to all pixels and cuts at [0, 1]: each of the
    26 directions of -1, 0 and 1 in RGB, in `grid` sizes up to 1. Sizes are linf; unreached images
    come back as they were, with an infinite size.
    """
    targets = _check(model, images, targets, "linf", criterion)
    if kind not in ("hue", "tint"):
        raise ValueError(f"unknown kind of colour attack {kind!r}: choose one of hue, tint")
    change = _hues(images, grid) if kind == "hue" else _tints(images, grid)
    found, sizes = images.copy(), np.full(len(images), math.inf)
    for changed in change:
        size = np.abs(changed - images).max(axis=(1, 2, 3)).astype(np.float64)
        try_ = np.flatnonzero(size < sizes)  # the others could not be the smallest
        logits = predict(model, np.ascontiguousarray(changed[try_]))
        hit = try_[_margins(logits, targets[try_], criterion) > 0]
        found[hit], sizes[hit] = changed[hit], size[hit]
    probability = _verify(model, images, found, targets, "linf", criterion)[2]
    return Attack(found, np.isfinite(sizes), sizes, probability)


def fmn(
    model: nn.Module,
    images: np.ndarray,
    targets: Targets,
    norm: str = "linf",
    steps: int = 500,
    first: float = 1.0,
) -> Minimum:
    """The fast minimum-norm attack as published (Pintor et al. 2021, arXiv:2102.12827), as a rival
    of `minimal_epsilon` for the criterion "predict".

    Steps along the gradient fall from `first` to a hundredth of it, and the share by which the size
    shrinks or grows from 0.05 to 0.001, both by a cosine. `lower` is 0: it brackets nothing.
    """
    targets = _check(model, images, targets, norm, "predict")
    _check_sizes(steps=steps, first=first)
    search = _quick(model)
    found = images.copy()
    for part in _parts(np.arange(len(images))):
        x, t = _tensor(images[part]), torch.from_numpy(targets[part])
        best = _rival(search, x, t, norm, steps, first)
        found[part] = (x + best).clamp_(0, 1).numpy()
    size, margin, _ = _verify(model, images, found, targets, norm, "predict")
    reached = (margin > 0) & (size > 0)
    found[~reached] = images[~reached]
    return Minimum(np.where(reached, size, math.inf), np.zeros(len(images)), found)


def change_sizes(images: np.ndarray, changed: np.ndarray, norm: str) -> np.ndarray:
    """Size float64 (N,) of the change from images to changed, both (N, 3, 28, 28)."""
    delta = (changed.astype(np.float64) - images).reshape(len(images), -1)
    return np.abs(delta).max(1) if norm == "linf" else np.sqrt(np.square(delta).sum(1))


def chroma_share(images: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Share float64 (N,) of each change's energy that alters colour, not brightness.

    The change of a pixel (r, g, b) splits into its mean over the channels, the same for all three,
    and the rest; energy is the sum of squares. Noise that does not know of colours has 2/3.
    """
    delta = changed.astype(np.float64) - images
    grey = 3 * np.square(delta.mean(1)).sum((1, 2))
    return 1 - grey / np.maximum(np.square(delta).sum((1, 2, 3)), 1e-300)


def ciede2000(images: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Colour difference of each pixel, float64 (N, 28, 28), of sRGB images under daylight (D65).

    CIEDE2000 with all weights one (Sharma et al. 2005, doi:10.1002/col.20070); about 1 is the least
    that a trained eye sees side by side.
    """
    return ciede2000_lab(_lab(images), _lab(changed))


def ciede2000_lab(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """CIEDE2000 of colours in CIE L*a*b*, (..., 3) each; float64 (...)."""
    (l1, a1, b1), (l2, a2, b2) = (np.moveaxis(lab, -1, 0) for lab in (first, second))
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    boost = 1.5 - 0.5 * np.sqrt(mean**7 / (mean**7 + 25.0**7))
    a1, a2 = a1 * boost, a2 * boost
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.arctan2(b1, a1) % (2 * np.pi), np.arctan2(b2, a2) % (2 * np.pi)
    grey = c1 * c2 == 0
    turn = np.where(grey, 0, (h2 - h1 + np.pi) % (2 * np.pi) - np.pi)
    hue = np.where(grey, h1 + h2, h1 + turn / 2)
    light, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * np.cos(hue - np.pi / 6)
        + 0.24 * np.cos(2 * hue)
        + 0.32 * np.cos(3 * hue + np.pi / 30)
        - 0.20 * np.cos(4 * hue - 63 * np.pi / 180)
    )
    s_l = 1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2)
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    degrees = np.degrees(hue) % 360
    rotation = (
        -2
        * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
        * np.sin(np.radians(60 * np.exp(-(((degrees - 275) / 25) ** 2))))
    )
    x_l, x_c = (l2 - l1) / s_l, (c2 - c1) / s_c
    x_h = 2 * np.sqrt(c1 * c2) * np.sin(turn / 2) / s_h
    return np.sqrt(np.maximum(x_l**2 + x_c**2 + x_h**2 + rotation * x_c * x_h, 0))


def ssim(images: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Structural similarity float64 (N,), 1 for equal images: a mean over channels and pixels (Wang
    et al. 2004, doi:10.1109/TIP.2003.819861), Gaussian windows of 11 pixels with deviation 1.5,
    inside the image alone."""
    from scipy.ndimage import gaussian_filter1d

    def blur(values: np.ndarray) -> np.ndarray:
        for axis in (2, 3):
            values = gaussian_filter1d(values, 1.5, axis=axis, radius=5)
        return values[:, :, 5:-5, 5:-5]

    x, y = images.astype(np.float64), changed.astype(np.float64)
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    both = blur(x * y) - mean_x * mean_y
    one, two = 0.01**2, 0.03**2
    map_ = ((2 * mean_x * mean_y + one) * (2 * both + two)) / (
        (mean_x**2 + mean_y**2 + one) * (var_x + var_y + two)
    )
    return map_.mean((1, 2, 3))


# --- the searches --------------------------------------------------------------------------------


def _descend(
    search: nn.Module,
    x: Tensor,
    delta: Tensor,
    best: Tensor,
    t: Tensor,
    criterion: Criterion,
    norm: str,
    steps: int,
    limit: float,
) -> None:
    """Puts the smallest changes that it finds on a way from `delta` into `best` (n, 3, 28, 28),
    zero where there is none, if they are smaller than what is there; in the first half of a way
    from elsewhere than the image, changes may be larger than those, by a tenth."""
    is_hop = bool(delta.any())
    exact_from = round(ROUGH * steps)
    best_size = torch.where(best.flatten(1).any(1), _size(best, norm), math.inf)
    radius = _size(delta, norm)
    for step in range(steps + 1):
        margin, gradient = _ascent(search, x + delta, t, criterion, rough=step < exact_from)
        size = _size(delta, norm)
        if step >= exact_from:
            better = (margin > 0) & (size < best_size)
            best_size[better], best[better] = size[better], delta[better]
        if step == steps:
            break
        decay = (1 + math.cos(math.pi * step / steps)) / 2
        cap = CAP[1] + (CAP[0] - CAP[1]) * decay
        slope = _slope(x, delta, gradient, radius, norm)
        if step == 0 and not is_hop:
            radius = -margin / slope
        else:
            newton = (-margin / (slope * radius)).clamp_(-cap, 1 if step < 6 else cap)
            radius = torch.minimum(radius, torch.where(margin > 0, size, radius)) * (1 + newton)
        ceiling = 1.1 if is_hop and step <= steps // 2 else 1 - 1e-4
        radius = torch.minimum(radius, best_size * ceiling).clamp_(1e-7, limit)
        delta = _step(x, delta, gradient, norm, radius, decay)


def _hop(
    x: Tensor, best: Tensor, norm: str, limit: float, is_near: bool, generator: torch.Generator
) -> Tensor:
    """Where another descent starts: a random change as large as the best one, or near to it; a
    tenth of the limit where there is none."""
    sizes = torch.where(best.flatten(1).any(1), _size(best, norm), 0.1 * limit)
    noise = _inside(_noise(x, norm, sizes, generator), x)
    return _inside(NEAR * (best + noise), x) if is_near else noise


def _press(
    search: nn.Module,
    x: Tensor,
    best: Tensor,
    t: Tensor,
    criterion: Criterion,
    norm: str,
    steps: int,
    tolerance: float,
) -> np.ndarray:
    """Shrinks the changes `best` in place while searches at a smaller size succeed; returns the
    sizes (n,) at which they did not, smaller by `tolerance`. After a success the next size is
    smaller by what the linearised margin promises, up to `PRESS`."""
    failed, shrink = torch.zeros(len(x)), torch.full((len(x),), tolerance)
    active = best.flatten(1).any(1).nonzero()[:, 0]
    while len(active):
        radius = _size(best[active], norm) * (1 - shrink[active])
        start = _project(best[active], norm, radius)
        delta, hit, room = _climb(
            search, x[active], start, t[active], criterion, norm, radius, steps, late=True
        )
        best[active[hit]] = delta[hit]
        done = ~hit & (shrink[active] <= tolerance)
        failed[active[done]] = radius[done]
        promised = (room / radius).clamp(tolerance, max(tolerance, PRESS))
        shrink[active] = torch.where(hit, promised, tolerance)
        active = active[~done]
    return failed.double().numpy()


def _rival(search: nn.Module, x: Tensor, t: Tensor, norm: str, steps: int, first: float) -> Tensor:
    """The changes (n, 3, 28, 28) that `fmn` finds, zero where there is none."""
    delta, best = torch.zeros_like(x), torch.zeros_like(x)
    best_size = worst = _size(torch.maximum(x, 1 - x), norm)
    radius = torch.full((len(x),), math.inf)
    ever = torch.zeros(len(x), dtype=torch.bool)
    for step in range(steps):
        decay = (1 + math.cos(math.pi * step / steps)) / 2
        length, share = first * (0.01 + 0.99 * decay), 0.001 + 0.049 * decay
        margin, gradient = _ascent(search, x + delta, t, "predict")
        size = _size(delta, norm)
        hit = margin > 0
        better = hit & (size < best_size)
        best_size = torch.where(better, size, best_size)
        best[better] = delta[better]
        ever |= hit
        flat = gradient.flatten(1)
        away = margin.abs() / (flat.abs().sum(1) if norm == "linf" else flat.norm(dim=1))
        outward = torch.where(ever, radius * (1 + share), size + away)
        radius = torch.where(hit, torch.minimum(radius * (1 - share), best_size), outward)
        radius = torch.minimum(radius, worst)
        delta = delta + length * gradient / _each(flat.norm(dim=1).clamp_min(1e-12))
        if norm == "linf":
            delta = _project(delta, norm, radius)
        else:  # onto the sphere, not the ball
            delta = delta * _each(radius / _size(delta, norm).clamp_min(1e-12))
        delta = _inside(delta, x)
    return best


def _climb(
    search: nn.Module,
    x: Tensor,
    delta: Tensor,
    t: Tensor,
    criterion: Criterion,
    norm: str,
    radius: Tensor,
    steps: int,
    late: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Ascent within balls of `radius` (n,) from `delta`, each image until its target is reached:
    changes (n, 3, 28, 28); who reached it (n,); and how much smaller the size may be for the
    linearised margin to stay positive (n,), 0 for the others. late: with the steps of a search's
    second half."""
    delta, hit = delta.clone(), torch.zeros(len(x), dtype=torch.bool)
    room = torch.zeros(len(x))
    active = torch.arange(len(x))
    for step in range(steps + 1):
        margin, gradient = _ascent(search, x[active] + delta[active], t[active], criterion)
        left = margin <= 0
        there = active[~left]
        hit[there] = True
        slope = _slope(x[there], delta[there], gradient[~left], radius[there], norm)
        room[there] = margin[~left] / slope
        active, gradient = active[left], gradient[left]
        if step == steps or not len(active):
            break
        decay = (1 + math.cos(math.pi * step / steps)) / 2
        if late:
            decay *= 0.25
        delta[active] = _step(x[active], delta[active], gradient, norm, radius[active], decay)
    return delta, hit, room


def _ascent(
    search: nn.Module, x: Tensor, t: Tensor, criterion: Criterion, rough: bool = False
) -> tuple[Tensor, Tensor]:
    """Margins (n,), less the slack, and their gradients (n, 3, 28, 28). rough: in the arithmetic of
    training."""
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_(True)
    low = arithmetic()
    with torch.autocast("cpu", low, enabled=rough and low != torch.float32):
        logits = search(x)
    margin = _margin(logits.float() if rough else logits, t, criterion)
    return margin.detach() - SLACK, torch.autograd.grad(margin.sum(), x)[0]


def _margin(logits: Tensor, t: Tensor, criterion: Criterion) -> Tensor:
    """The margins of the module's docstring, (n,)."""
    own = logits.gather(1, t[:, None])[:, 0]
    others = logits.scatter(1, t[:, None], -math.inf)
    if criterion == "predict":
        return own - others.amax(1)
    return own - others.logsumexp(1) - math.log(criterion / (1 - criterion))


def _step(
    x: Tensor, delta: Tensor, gradient: Tensor, norm: str, radius: Tensor, decay: float
) -> Tensor:
    """One step up, back into the balls and then into [0, 1]. decay: from 1 (first) to 0 (last)."""
    size = gradient.flatten(1).abs().mean(1) if norm == "linf" else gradient.flatten(1).norm(dim=1)
    first, last = STEPS[norm]
    length = (last + (first - last) * decay) * radius / size.clamp_min(1e-20)
    return _inside(_project(delta + _each(length) * gradient, norm, radius), x)


def _slope(x: Tensor, delta: Tensor, gradient: Tensor, radius: Tensor, norm: str) -> Tensor:
    """How fast the margin grows with the size of the change, by its gradient: linf, the sum of
    absolute derivatives; l2, the derivative along the change, at least a tenth of the gradient's
    length; both without pixels that the range [0, 1] stops."""
    reach = delta if norm == "l2" else _each(radius) * gradient.sign()
    free = torch.where(gradient > 0, x + reach < 1, x + reach > 0)
    gradient = gradient * free
    if norm == "linf":
        return gradient.flatten(1).abs().sum(1).clamp_min(1e-20)
    length = gradient.flatten(1).norm(dim=1)
    along = (gradient * delta).flatten(1).sum(1) / _size(delta, "l2").clamp_min(1e-20)
    moved = delta.flatten(1).any(1)
    return torch.where(moved, torch.maximum(along, 0.1 * length), length).clamp_min(1e-20)


def _project(delta: Tensor, norm: str, radius: Tensor) -> Tensor:
    radius = _each(radius)
    if norm == "linf":
        return torch.minimum(torch.maximum(delta, -radius), radius)
    return delta * (radius / _each(_size(delta, "l2")).clamp_min(1e-20)).clamp_max(1)


def _inside(delta: Tensor, x: Tensor) -> Tensor:
    return (x + delta).clamp_(0, 1) - x


def _size(delta: Tensor, norm: str) -> Tensor:
    flat = delta.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)


def _each(values: Tensor) -> Tensor:
    """(n,) -> (n, 1, 1, 1)."""
    return values[:, None, None, None]


def _noise(x: Tensor, norm: str, radius: Tensor, generator: torch.Generator) -> Tensor:
    """Changes at random: uniform in the cube (linf), of length `radius` (n,) in any direction
    (l2)."""
    if norm == "linf":
        return (2 * torch.rand(x.shape, generator=generator) - 1) * _each(radius)
    delta = torch.randn(x.shape, generator=generator)
    return delta * _each(radius / _size(delta, "l2"))


def _quick(model: nn.Module) -> nn.Module:
    """A copy that computes the same, in eval mode, faster: convolutions absorb the normalisation
    that follows them in a Sequential, weights need no gradients, memory is channels-last."""
    search = copy.deepcopy(model).eval().requires_grad_(False)
    for block in [m for m in search.modules() if isinstance(m, nn.Sequential)]:
        for k in range(len(block) - 1):
            if isinstance(block[k], nn.Conv2d) and isinstance(block[k + 1], nn.BatchNorm2d):
                block[k], block[k + 1] = fuse_conv_bn_eval(block[k], block[k + 1]), nn.Identity()
    return search.to(memory_format=torch.channels_last)


# --- colours -------------------------------------------------------------------------------------


def _hues(images: np.ndarray, grid: int) -> Iterator[np.ndarray]:
    """Every image with its hue turned by k / grid of the circle, k = 1 ... grid - 1."""
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    hsv = rgb_to_hsv(images.transpose(0, 2, 3, 1))
    for k in range(1, grid):
        turned = hsv.copy()
        turned[..., 0] = (hsv[..., 0] + k / grid) % 1
        yield hsv_to_rgb(turned).transpose(0, 3, 1, 2).astype(np.float32)


def _tints(images: np.ndarray, grid: int) -> Iterator[np.ndarray]:
    """Every image with one colour added, small ones first."""
    directions = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3, 1, 1)
    for k in range(1, grid + 1):
        for direction in directions[np.abs(directions).sum((1, 2, 3)) > 0]:
            yield np.clip(images + np.float32(k / grid) * direction.astype(np.float32), 0, 1)


def _lab(images: np.ndarray) -> np.ndarray:
    """sRGB (N, 3, h, w) in [0, 1] -> CIE L*a*b* (N, h, w, 3), white point D65."""
    rgb = images.transpose(0, 2, 3, 1).astype(np.float64)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ (matrix / matrix.sum(1, keepdims=True)).T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


# --- checks --------------------------------------------------------------------------------------


def _verify(
    model: nn.Module,
    images: np.ndarray,
    changed: np.ndarray,
    targets: np.ndarray,
    norm: str,
    criterion: Criterion,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes, margins and target probabilities (N,) of changed images, from nothing but them."""
    logits = predict(model, changed)
    probability = torch.from_numpy(logits).double().softmax(1).numpy()
    picked = probability[np.arange(len(targets)), targets]
    return change_sizes(images, changed, norm), _margins(logits, targets, criterion), picked


def _margins(logits: np.ndarray, targets: np.ndarray, criterion: Criterion) -> np.ndarray:
    return _margin(torch.from_numpy(logits).double(), torch.from_numpy(targets), criterion).numpy()


def _check(
    model: nn.Module, images: np.ndarray, targets: Targets, norm: str, criterion: Criterion
) -> np.ndarray:
    """Targets as int64 (N,)."""
    if not isinstance(images, np.ndarray):
        raise ValueError(f"images must be a NumPy array, not {type(images).__name__}")
    check_images(images)
    if not len(images):
        raise ValueError("there are no images to attack")
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")
    share = isinstance(criterion, float) and 0.5 <= criterion < 1
    if criterion != "predict" and not share:
        raise ValueError(
            f'the criterion is "predict" or a probability from 0.5 to below 1, not {criterion!r}'
        )
    targets = np.asarray(targets)
    if not np.issubdtype(targets.dtype, np.integer) or targets.shape not in ((), (len(images),)):
        raise ValueError(
            f"targets must be one integer, or one for each of the {len(images)} images, "
            f"not {targets.dtype} {targets.shape}"
        )
    if targets.min() < 0 or targets.max() >= CLASSES:
        raise ValueError(f"targets must lie in 0..{CLASSES - 1}")
    targets = np.broadcast_to(targets, len(images)).astype(np.int64)
    logits = predict(model, images)
    if not np.isfinite(logits).all():
        bad = int(np.flatnonzero(~np.isfinite(logits).all(1))[0])
        raise ValueError(f"the network gives NaN or infinity for image {bad}: retrain or repair it")
    same = np.flatnonzero(logits.argmax(1) == targets)
    if len(same):
        raise ValueError(
            f"image {same[0]} and {len(same) - 1} others are already called their target "
            f"{targets[same[0]]}: choose other targets, and images that are classified rightly"
        )
    return targets


def _check_sizes(**values: float) -> None:
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be positive, not {value}")


def _parts(index: np.ndarray) -> list[np.ndarray]:
    return [index[i : i + BATCH] for i in range(0, len(index), BATCH)]


def _tensor(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
