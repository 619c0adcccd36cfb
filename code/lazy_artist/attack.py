"""How little must an image change before a network sees what we want it to see?

Two white-box attacks for a target class t. `targeted_pgd` looks for a change of less than a given
size (Madry et al. 2018, arXiv:1706.06083); `minimal_epsilon` looks for the smallest one. Both climb
a margin f of the target, which is positive exactly when the criterion is met:

    "predict"            f = z_t - max_{j != t} z_j
    p, from 0.5 below 1  f = z_t - log sum_{j != t} exp z_j - log(p / (1 - p))

that is, when t is predicted, or when the softmax gives it more than p. The size of a change is its
largest absolute pixel value ("linf") or its Euclidean length ("l2", over all C * H * W values).
Changed images stay in [0, 1], and what an attack claims to have reached is checked once more from
the images alone, by the network as it was given.

`square_attack`, `colour_attack` and `fmn` are controls. Networks run in eval mode. Images are
(N, C, H, W) in [0, 1], N > 0; targets are one integer for all or one each (N,), other than what the
network predicts already. Raises ValueError for a network that gives a NaN or an infinity, too.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lazy_artist.evaluate import predict
from lazy_artist.forward import asked, home_of
from lazy_artist.gradcam import check_inputs, ratio
from lazy_artist.interface import Array, Classes, check_classes, check_number, check_pair, public
from lazy_artist.training import low_precision

NORMS = ("linf", "l2")
SLACK = 1e-4  # margin that a search asks for, in logits: above the rounding of float32
BATCH = 125  # images at a time, so that activations stay in the processor's cache
# First and last step, relative to the size, along the gradient over its mean absolute value (linf)
# or its length (l2); chosen, as the other numbers of the search, on validation digits
STEPS = {"linf": (3.0, 0.05), "l2": (3.0, 0.03)}
CAP = (0.1, 0.005)  # largest relative change of the size in a step, at the first and the last
COARSE = 0.85  # share of a descent's steps in low precision: cheap, and what they find is not kept
TIGHTEN = 0.05  # largest relative change of the size in a round of the test at the end
HOPS = {"linf": 0, "l2": 4}  # descents after the first: in l2 there are local minima
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries: see `square_attack`
NEAR = 0.7  # for a near start: the factor of the best change, and of noise as large

Criterion = str | float


class Attack(NamedTuple):
    """images: float32 (N, C, H, W); reached: bool (N,), whether the criterion is met; size:
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


@public
def targeted_pgd(
    model: nn.Module, images: Array, targets: Classes, epsilon: float, norm: str = "linf",
    criterion: Criterion = 0.9, steps: int = 40, restarts: int = 1, seed: int = 0,
) -> Attack:  # fmt: skip
    """Images that the model takes for their targets, each changed by less than `epsilon`.

    Projected gradient ascent of the margin, each image until it is reached. The first of
    `restarts` runs starts at the image, the others at random points of the ball (`seed`), and only
    images that were not reached yet run again. Of unreached images the last point is returned.
    """
    sizes = {"epsilon": epsilon, "steps": steps, "restarts": restarts}
    search = _Search(model, images, targets, norm, criterion, **sizes)
    generator = torch.Generator().manual_seed(seed)
    radius = epsilon * (1 - 1e-6) - 2e-7  # of the float32 images, whose sums are rounded
    found = search.images.copy()
    open_ = np.ones(len(images), dtype=bool)
    for run in range(restarts):
        for part, x, t in search.batches(np.flatnonzero(open_)):
            radii = x.new_full((len(x),), radius)
            start = _noise(x, norm, radii, generator) if run else torch.zeros_like(x)
            delta, hit, _ = _climb(search, x, start, t, radii, steps)
            found[part] = (x + delta).clamp_(0, 1).cpu().numpy()
            open_[part] = ~hit.cpu().numpy()
    return search.attack(found, epsilon)


@public
def minimal_epsilon(
    model: nn.Module, images: Array, targets: Classes, norm: str = "linf",
    criterion: Criterion = "predict", steps: int = 80, tolerance: float = 0.01,
    limit: float | None = None, hops: int | None = None, seed: int = 0,
) -> Minimum:  # fmt: skip
    """The smallest change of each image that makes the model take it for its target.

    A descent of `steps` gradients, in the manner of the fast minimum-norm attack (Pintor et al.
    2021, arXiv:2102.12827): steps up the margin within a ball whose size follows the boundary, by
    Newton's steps to where the linearised margin is zero. Then `hops` (by default `HOPS`) further
    ones from random points (`seed`) as large as the best change so far: noise alone, and the best
    change mixed with noise, by turns (basin hopping, Wales and Doye 1997, doi:10.1021/jp970984n).
    Then an eighth as many steps at a size smaller by `tolerance`, again as long as they succeed. So
    `lower` is within the tolerance of `epsilon`: a bracket of the search, not a proof.

    limit: the largest size that counts; by default that of the whole cube [0, 1].
    """
    limit = _largest(images.shape, norm) if limit is None else limit
    sizes = {"limit": limit, "steps": steps, "tolerance": tolerance}
    search = _Search(model, images, targets, norm, criterion, **sizes)
    hops = check_number(HOPS[norm] if hops is None else hops, "hops", 0, whole=True)
    generator = torch.Generator().manual_seed(seed)
    found, lower = search.images.copy(), np.empty(len(images))
    for part, x, t in search.batches(np.arange(len(images))):
        start, best = torch.zeros_like(x), torch.zeros_like(x)
        for hop in range(hops + 1):
            if hop:
                start = _hop(x, best, norm, limit, hop % 2 == 0, generator)
            _descend(search, x, start, best, t, steps, limit)
        lost = ~best.flatten(1).any(1)
        if lost.any():  # low precision may have led them astray
            again = best[lost]
            nothing = torch.zeros_like(again)
            _descend(search, x[lost], nothing, again, t[lost], steps, limit, coarse=0.0)
            best[lost] = again
        lower[part] = _tighten(search, x, best, t, max(5, steps // 8), tolerance)
        found[part] = (x + best).clamp_(0, 1).cpu().numpy()
    return search.minimum(found, lower, limit)


@public
def square_attack(
    model: nn.Module, images: Array, targets: Classes, epsilon: float | np.ndarray,
    queries: int = 500, seed: int = 0,
) -> Attack:  # fmt: skip
    """The Square attack (Andriushchenko et al. 2020, arXiv:1912.00049) in linf, without gradients,
    for the criterion "predict".

    From stripes of +-epsilon (one size, or one for each image), squares at random places are set to
    +-epsilon, one colour each, and kept where the margin grows. Their share of the image starts at
    0.8 and is halved after each of `HALVINGS` of 10,000 queries, scaled to `queries`.
    """
    sizes = {"epsilon": float(np.min(epsilon)), "queries": queries}
    search = _Search(model, images, targets, "linf", "predict", **sizes)
    images = search.images
    n, channels, height, width = images.shape
    epsilon = np.broadcast_to(np.asarray(epsilon, dtype=np.float64), n)
    radius = _each(epsilon * (1 - 1e-6) - 2e-7).astype(np.float32)
    rng, ends = np.random.default_rng(seed), np.float32([-1, 1])
    found = np.clip(images + radius * rng.choice(ends, size=(n, channels, 1, width)), 0, 1)
    best, _ = search.judge(found)
    for query in range(1, queries):
        active = np.flatnonzero(best <= 0)
        if not len(active):
            break
        halvings = np.searchsorted(HALVINGS, query / queries * 10000)
        edge = max(1, round(min(height, width) * math.sqrt(0.8 / 2**halvings)))
        trial = found[active]
        signs = radius[active] * rng.choice(ends, size=(len(active), channels, 1, 1))
        room = (height - edge + 1, width - edge + 1) if height != width else height - edge + 1
        for k, (row, column) in enumerate(rng.integers(0, room, size=(len(active), 2))):
            place = np.s_[:, row : row + edge, column : column + edge]
            trial[k][place] = np.clip(images[active[k]][place] + signs[k], 0, 1)
        margin, _ = search.judge(trial, active)
        better = margin > best[active]
        found[active[better]], best[active[better]] = trial[better], margin[better]
    return search.attack(found, epsilon)


@public
def colour_attack(
    model: nn.Module, images: Array, targets: Classes, kind: str, grid: int = 72
) -> Attack:
    """The smallest change of colour alone, the same for every pixel, that has the target predicted.

    kind: "hue" turns the hue of all pixels by one angle, saturation and value as they were (`grid`
    angles around the circle); "tint" adds one colour to all pixels and cuts at [0, 1]: each of the
    26 directions of -1, 0 and 1 in RGB, in `grid` sizes up to 1. Sizes are linf; unreached images
    come back as they were, with an infinite size.
    """
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    search = _Search(model, images, targets, "linf", "predict")
    images, sizes = search.images, np.full(len(images), math.inf)
    found = images.copy()
    if kind == "hue":
        hue, *rest = np.split(rgb_to_hsv(images.transpose(0, 2, 3, 1)), 3, axis=-1)
        turned = (np.concatenate([(hue + k / grid) % 1, *rest], axis=-1) for k in range(1, grid))
        recoloured = (hsv_to_rgb(x).transpose(0, 3, 1, 2).astype(np.float32) for x in turned)
    elif kind == "tint":
        axes = np.meshgrid(*[np.float32([-1, 0, 1])] * 3)
        tints = [c for c in np.stack(axes, axis=-1).reshape(-1, 3, 1, 1) if c.any()]
        shares = np.float32(np.arange(1, grid + 1) / grid)
        recoloured = (np.clip(images + k * tint, 0, 1) for k in shares for tint in tints)
    else:
        raise ValueError(f"unknown kind of colour attack {kind!r}: choose one of hue, tint")
    for changed in recoloured:
        size = np.abs(changed - images).max(axis=(1, 2, 3)).astype(np.float64)
        smaller = np.flatnonzero(size < sizes)  # the others could not be the smallest
        hit = smaller[search.judge(np.ascontiguousarray(changed[smaller]), smaller)[0] > 0]
        found[hit], sizes[hit] = changed[hit], size[hit]
    return Attack(found, np.isfinite(sizes), sizes, search.judge(found)[1])


@public
def fmn(
    model: nn.Module, images: Array, targets: Classes, norm: str = "linf", steps: int = 500
) -> Minimum:
    """The fast minimum-norm attack as published (Pintor et al. 2021, arXiv:2102.12827), to compare
    `minimal_epsilon` with, for the criterion "predict".

    Steps along the gradient fall from 1 to 0.01, and the share by which the size shrinks or grows
    from 0.05 to 0.001, both by a cosine. Where something was found, `lower` is 0.
    """
    search = _Search(model, images, targets, norm, "predict", steps=steps)
    found = search.images.copy()
    for part, x, t in search.batches(np.arange(len(images))):
        delta, best = torch.zeros_like(x), torch.zeros_like(x)
        best_size = worst = _size(torch.maximum(x, 1 - x), norm)
        radius = x.new_full((len(x),), math.inf)
        ever = torch.zeros_like(t, dtype=torch.bool)
        for step in range(steps):
            decay = (1 + math.cos(math.pi * step / steps)) / 2
            length, share = 0.01 + 0.99 * decay, 0.001 + 0.049 * decay
            margin, gradient = search.ascent(x + delta, t)
            size, hit = _size(delta, norm), margin > 0
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
        found[part] = (x + best).clamp_(0, 1).cpu().numpy()
    return search.minimum(found, np.zeros(len(images)), math.inf)


@public
def change_sizes(images: Array, changed: Array, norm: str) -> Array:
    """Size float64 (N,) of the change from images to changed, both (N, C, H, W)."""
    _check_norm(norm)
    images, changed = check_pair(images, changed)
    delta = (changed.astype(np.float64) - images).reshape(len(images), -1)
    return np.abs(delta).max(1) if norm == "linf" else np.sqrt(np.square(delta).sum(1))


@public
def chroma_share(images: Array, changed: Array) -> Array:
    """Share float64 (N,) of each change's energy that alters colour, not brightness.

    The change of a pixel (r, g, b) splits into its mean over the channels, the same for all three,
    and the rest; energy is the sum of squares. Noise that does not know of colours has 2/3. NaN
    where nothing changed.
    """
    images, changed = check_pair(images, changed, channels=3)
    delta = changed.astype(np.float64) - images
    grey = 3 * np.square(delta.mean(1)).sum((1, 2))
    energy = np.square(delta).sum((1, 2, 3))
    return 1 - ratio(grey, energy)


@public
def ciede2000(images: Array, changed: Array) -> Array:
    """Colour difference of each pixel, float64 (N, H, W), of sRGB images under daylight (D65).

    CIEDE2000 with all weights one (Sharma et al. 2005, doi:10.1002/col.20070); about 1 is the least
    that a trained eye sees side by side.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    pair = check_pair(images, changed, channels=3)
    pair = (rgb2lab(x.astype(np.float64), channel_axis=1) for x in pair)
    return deltaE_ciede2000(*pair, channel_axis=1)


# --- the searches --------------------------------------------------------------------------------


class _Search:
    """What all attacks have in common: their arguments, checked (see the module's docstring), and
    what the network makes of changed images."""

    def __init__(
        self, model: nn.Module, images: Array, targets: Classes, norm: str,
        criterion: Criterion, **sizes: float,
    ) -> None:  # fmt: skip
        self.images, _ = check_inputs(images, 0)
        _check_norm(norm)
        if criterion != "predict" and not (isinstance(criterion, float) and 0.5 <= criterion < 1):
            known = '"predict" or a probability from 0.5 to below 1'
            raise ValueError(f"the criterion is {known}, not {criterion!r}")
        for name, value in sizes.items():
            top = _largest(images.shape, norm) if name in ("epsilon", "limit") else math.inf
            if not isinstance(value, int | float) or not (0 < value <= top and value < math.inf):
                grey = "; divide grey levels by 255" if top == 1 else ""
                raise ValueError(f"{name} must lie above 0, at most {top:g}{grey}, not {value!r}")
        self.model, self.norm, self.criterion = model, norm, criterion
        logits = predict(model, self.images)
        self.targets = check_classes(targets, len(images), "targets", logits.shape[1], one=True)
        if len(bad := np.flatnonzero(~np.isfinite(logits).all(1))):
            raise ValueError(f"the network gives NaN or infinity for image {bad[0]}: retrain it")
        if len(same := np.flatnonzero(logits.argmax(1) == self.targets)):
            raise ValueError(
                f"image {same[0]} and {len(same) - 1} others are already predicted as their target "
                f"{self.targets[same[0]]}: choose other targets or images"
            )

    def batches(self, index: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """`BATCH` of the images at `index` at a time: positions; images and targets on the
        network's device."""
        device = home_of(self.fast)[0]
        for i in range(0, len(index), BATCH):
            part = index[i : i + BATCH]
            x = torch.from_numpy(self.images[part]).to(device)
            t = torch.from_numpy(self.targets[part]).to(device)
            yield part, x.contiguous(memory_format=self.layout), t

    @functools.cached_property
    def layout(self) -> torch.memory_format:
        with asked(self.model) as ask, torch.inference_mode():
            ask(torch.from_numpy(self.images[:1]))
        return ask.layouts[0]

    @functools.cached_property
    def fast(self) -> nn.Module:
        """A faster copy of the network, in float32, eval mode and without gradients of the weights:
        convolutions absorb the normalisation that follows them in a Sequential, unless a hook of
        either would be lost."""
        fast = copy.deepcopy(self.model).eval().requires_grad_(False).float()
        for block in [m for m in fast.modules() if isinstance(m, nn.Sequential)]:
            for k, (one, other) in enumerate(itertools.pairwise(list(block))):
                hooked = any(m._forward_hooks or m._forward_pre_hooks for m in (one, other))
                fits = isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d)
                if fits and not hooked:
                    block[k], block[k + 1] = fuse_conv_bn_eval(one, other), nn.Identity()
        return fast.to(memory_format=self.layout)

    def ascent(self, x: Tensor, t: Tensor, coarse: bool = False) -> tuple[Tensor, Tensor]:
        """Margins (n,) by the fast copy, less the slack, and their gradients (n, 3, 28, 28).
        coarse: in low precision."""
        x = x.contiguous(memory_format=self.layout).requires_grad_()
        coarse = coarse and low_precision(x.device) == torch.bfloat16
        with torch.autocast(x.device.type, torch.bfloat16, enabled=coarse):
            logits = self.fast(x).float()
        margin = _margin(logits, t, self.criterion)
        return margin.detach() - SLACK, torch.autograd.grad(margin.sum(), x)[0]

    def judge(self, changed: np.ndarray, index: Any = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Margins and target probabilities float64 (n,) of changed images at `index` (all), by the
        network as it was given."""
        logits = torch.from_numpy(predict(self.model, changed)).double()
        targets = torch.from_numpy(self.targets[index])
        probability = logits.softmax(1).gather(1, targets[:, None])[:, 0]
        return _margin(logits, targets, self.criterion).numpy(), probability.numpy()

    def attack(self, changed: np.ndarray, epsilon: float | np.ndarray) -> Attack:
        """The changed images, verified: reached are those changed by less than `epsilon`."""
        margin, probability = self.judge(changed)
        size = change_sizes(self.images, changed, self.norm)
        return Attack(changed, (margin > 0) & (size < epsilon), size, probability)

    def minimum(self, changed: np.ndarray, lower: np.ndarray, limit: float) -> Minimum:
        """The changed images, verified; those that do not reach their target are put back."""
        margin, _ = self.judge(changed)
        size = change_sizes(self.images, changed, self.norm)
        reached = (margin > 0) & (size > 0) & (size <= limit)
        changed[~reached] = self.images[~reached]
        return Minimum(np.where(reached, size, math.inf), np.where(reached, lower, limit), changed)


def _check_norm(norm: str) -> None:
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}: choose one of {', '.join(NORMS)}")


def _largest(shape: tuple[int, ...], norm: str) -> float:
    """The size of a change that reaches every image of this shape (N, C, H, W)."""
    return math.sqrt(math.prod(shape[1:])) if norm == "l2" else 1.0


def _descend(
    search: _Search, x: Tensor, delta: Tensor, best: Tensor, t: Tensor, steps: int, limit: float,
    coarse: float = COARSE,
) -> None:  # fmt: skip
    """Puts the smallest changes that it finds on a way from `delta` into `best` (n, 3, 28, 28),
    zero where there is none, if they are smaller than what is there; in the first half of a way
    from elsewhere than the image, changes may be larger than those, by a tenth. coarse: share of
    the steps in low precision."""
    norm, is_hop = search.norm, bool(delta.any())
    exact_from = round(coarse * steps)
    best_size = torch.where(best.flatten(1).any(1), _size(best, norm), math.inf)
    radius = _size(delta, norm)
    for step in range(steps + 1):
        margin, gradient = search.ascent(x + delta, t, coarse=step < exact_from)
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
    noise = _noise(x, norm, sizes, generator)
    return _inside(NEAR * (best + noise), x) if is_near else noise


def _tighten(
    search: _Search, x: Tensor, best: Tensor, t: Tensor, steps: int, tolerance: float
) -> np.ndarray:
    """Shrinks the changes `best` in place while searches at a smaller size succeed; returns the
    sizes (n,) at which they did not, smaller by `tolerance`. After a success the next size is
    smaller by what the linearised margin promises, up to `TIGHTEN`."""
    failed, shrink = x.new_zeros(len(x)), x.new_full((len(x),), tolerance)
    active = best.flatten(1).any(1).nonzero()[:, 0]
    while len(active):
        radius = _size(best[active], search.norm) * (1 - shrink[active])
        start = _project(best[active], search.norm, radius)
        delta, hit, room = _climb(search, x[active], start, t[active], radius, steps, late=True)
        best[active[hit]] = delta[hit]
        done = ~hit & (shrink[active] <= tolerance)
        failed[active[done]] = radius[done]
        promised = (room / radius).clamp(tolerance, max(tolerance, TIGHTEN))
        shrink[active] = torch.where(hit, promised, tolerance)
        active = active[~done]
    return failed.cpu().double().numpy()  # there may be no double there


def _climb(
    search: _Search, x: Tensor, delta: Tensor, t: Tensor, radius: Tensor, steps: int,
    late: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Ascent within balls of `radius` (n,) from `delta`, each image until its target is reached:
    changes (n, 3, 28, 28), who reached it (n,), and how much smaller the size may be for the
    linearised margin to stay positive (n,). late: with the steps of a search's second half."""
    delta, active = delta.clone(), torch.arange(len(x), device=x.device)
    hit, room = torch.zeros_like(t, dtype=torch.bool), x.new_zeros(len(x))
    for step in range(steps + 1):
        margin, gradient = search.ascent(x[active] + delta[active], t[active])
        left = margin <= 0
        done = active[~left]
        hit[done] = True
        slope = _slope(x[done], delta[done], gradient[~left], radius[done], search.norm)
        room[done] = margin[~left] / slope
        active, gradient = active[left], gradient[left]
        if step == steps or not len(active):
            break
        decay = (0.25 if late else 1) * (1 + math.cos(math.pi * step / steps)) / 2
        moved = _step(x[active], delta[active], gradient, search.norm, radius[active], decay)
        delta[active] = moved
    return delta, hit, room


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
    """Changes at random, uniform in the cube (linf) or of length `radius` (n,) in any direction
    (l2), cut at [0, 1]."""
    if norm == "linf":
        delta = (2 * torch.rand(x.shape, generator=generator).to(x) - 1) * _each(radius)
    else:
        delta = torch.randn(x.shape, generator=generator).to(x)
        delta = delta * _each(radius / _size(delta, "l2"))
    return _inside(delta, x)
