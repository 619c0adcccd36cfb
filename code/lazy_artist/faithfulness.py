"""Does an attribution map deserve belief? How much of it lies where, whether deleting what it
points at takes the prediction away, and whether it notices that the weights are made random.

Maps (N, h, w), non-negative unless said otherwise, images and classes are as in `gradcam`; grey
digits (N, H, W) lie in [0, 1]. ValueError is raised for shapes and ranges that do not fit.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from lazy_artist.evaluate import predict
from lazy_artist.forward import find_layer, home_of
from lazy_artist.gradcam import (
    check_baseline,
    check_inputs,
    check_maps,
    pick_logits,
    ratio,
    upsample,
)
from lazy_artist.interface import Array, Classes, check_classes, check_number, public


@public
def attribution_share(maps: Array, alpha: Array) -> tuple[Array, Array]:
    """How much of the upsampled attribution lies on the stroke, where alpha > 0.5: its share, NaN
    for a map that is 0, and the stroke's share of the pixels, which is what a flat map would score;
    float64 (N,) in [0, 1] each. alpha: grey digits (N, H, W), or a mask."""
    check_maps(maps)
    stroke = _check_alpha(alpha, len(maps)) > 0.5
    attribution = upsample(maps, stroke.shape[1:]).astype(np.float64)
    share = ratio((attribution * stroke).sum((1, 2)), attribution.sum((1, 2)))
    return share, stroke.mean((1, 2))


@public
def discriminative_mask(alpha: Array, labels: Array, prototypes: Array) -> Array:
    """The parts of each stroke that tell the digit from its nearest rival: bool (N, H, W).

    alpha: grey digits (N, H, W); labels: int (N,); prototypes: (K, H, W), the mean of each digit.
    The rival is the other digit whose prototype is nearest to the image (Euclidean); a pixel of the
    stroke tells the two apart if the rival's prototype is less than half as bright there as the
    digit's own.
    """
    alpha = _check_alpha(alpha, len(labels))
    prototypes = _check_alpha(prototypes, len(prototypes))
    labels = check_classes(labels, len(alpha), "labels", len(prototypes))
    if prototypes.shape[1:] != alpha.shape[1:]:
        raise ValueError(f"prototypes must be (K, {alpha.shape[1:]}), not {prototypes.shape}")
    flat, means = alpha.reshape(len(alpha), -1), prototypes.reshape(len(prototypes), -1)
    distance = np.square(means).sum(1) - 2 * flat @ means.T  # up to |image|^2, the same for all
    distance[np.arange(len(labels)), labels] = np.inf
    rivals = distance.argmin(1)
    return (alpha > 0.5) & (prototypes[rivals] < 0.5 * prototypes[labels])


@public
def deletion_curve(
    model: nn.Module, images: Array, classes: Classes, maps: Array, baseline: Array | float,
    steps: int = 28, seed: int = 0, insert: bool = False,
) -> Array:  # fmt: skip
    """Probability of the class while pixels are deleted, those of highest attribution first:
    float32 (N, steps + 1) (Petsiuk et al. 2018, arXiv:1806.07421). maps: of any sign, negative ones
    go last.

    Column s has the round(s / steps * H * W) pixels of highest attribution, in the upsampled map,
    replaced by those of `baseline`, which broadcasts to the images and lies in [0, 1]; best is the
    same background without a stroke, which adds no edges of its own. Pixels of equal attribution,
    many where a map is 0, go in a random order that `seed` decides. insert: the insertion curve
    instead, from the bare baseline to the whole image, in the same order.
    """
    images, classes = check_inputs(images, classes)
    check_maps(maps, signed=True)
    if len(maps) != len(images):
        raise ValueError(f"there must be a map for each of {len(images)} images, not {len(maps)}")
    pixels = images[0, 0].size
    steps = check_number(steps, "steps", 1, pixels, whole=True)
    baseline = check_baseline(baseline, images)
    first, second = (baseline, images) if insert else (images, baseline)
    attribution = upsample(maps, images.shape[2:]).reshape(len(maps), pixels)
    ties = np.random.default_rng(seed).random(attribution.shape)
    rank = np.lexsort((ties, -attribution)).argsort(1).reshape(-1, 1, *images.shape[2:])
    curve = np.empty((len(images), steps + 1), dtype=np.float32)
    for step in range(steps + 1):
        mixed = np.where(rank < round(step / steps * pixels), second, first)
        probabilities = torch.from_numpy(predict(model, mixed)).softmax(1)
        curve[:, step] = pick_logits(probabilities, classes).numpy()
    return curve


@public
def area_under(curves: Array) -> Array:
    """Area under each curve (N, steps + 1) over [0, 1], by the trapezium rule: float64 (N,)."""
    curves = np.asarray(curves, dtype=np.float64)
    if curves.ndim != 2 or curves.shape[1] < 2:
        raise ValueError(f"curves must have shape (N, steps + 1), not {curves.shape}")
    return (curves[:, 1:] + curves[:, :-1]).mean(1) / 2


@public
def randomise(model: nn.Module, layers: Sequence[str], seed: int) -> nn.Module:
    """A copy of the model in which the named layers, with all inside them, are initialised anew
    (Adebayo et al. 2018, arXiv:1810.03292). The draws are torch's defaults (`reset_parameters`;
    batch normalisation forgets its statistics too), and depend on `seed` and the layer's own name
    alone: `[randomise(model, order[:k], seed) for k in (1, 2, ...)]` keeps what was drawn before.
    Raises ValueError for layers that do not exist, have no parameters, or cannot be reset."""
    if isinstance(layers, str):
        raise TypeError(f"layers must be a list of names: [{layers!r}]")
    model, home = copy.deepcopy(model), home_of(model)[0]
    for layer in layers:
        module = find_layer(model, layer)
        if next(module.parameters(), None) is None:
            raise ValueError(f"layer {layer!r} has no parameters to make random")
        for name, part in module.named_modules(prefix=layer):
            if hasattr(part, "reset_parameters"):
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(zlib.crc32(f"{seed} {name}".encode()))
                    part.cpu().reset_parameters()  # with the processor's draws, wherever it lives
                part.to(home)
            elif next(part.parameters(recurse=False), None) is not None:
                raise ValueError(f"{name!r} ({type(part).__name__}) has no reset_parameters()")
    return model


@public
def rank_correlation(maps_a: Array, maps_b: Array) -> Array:
    """Spearman's rank correlation of two maps of each image, (N, h, w) twice: float64 (N,) in
    [-1, 1]; equal values share their mean rank; NaN where a map is constant."""
    from scipy.stats import rankdata  # slow to import

    if maps_a.shape != maps_b.shape or maps_a.ndim != 3:
        shapes = f"{maps_a.shape} and {maps_b.shape}"
        raise ValueError(f"maps must both have the same shape (N, h, w), not {shapes}")
    if not (np.isfinite(maps_a).all() and np.isfinite(maps_b).all()):
        raise ValueError("maps must be finite")
    a, b = (rankdata(maps.reshape(len(maps), -1), axis=1) for maps in (maps_a, maps_b))
    a, b = (ranks - ranks.mean(1, keepdims=True) for ranks in (a, b))
    return ratio((a * b).sum(1), np.sqrt((a * a).sum(1) * (b * b).sum(1)))


def _check_alpha(alpha: np.ndarray, count: int) -> np.ndarray:
    alpha = np.asarray(alpha, dtype=np.float64)
    if alpha.ndim != 3 or len(alpha) != count:
        raise ValueError(f"grey digits must have shape ({count}, H, W), not {alpha.shape}")
    if alpha.size and not (alpha.min() >= 0 and alpha.max() <= 1):
        raise ValueError("grey digits must lie in [0, 1]; divide 0..255 by 255")
    return alpha
