"""Where does a network look? Grad-CAM from first principles, and what keeps it honest.

A heat map is easy to draw and easy to believe. So next to the maps stand the measurements: how much
of the gradient goes along colour, how much heat lies on the stroke, whether taking the hot pixels
away takes the prediction away, and whether the maps notice when the weights are made random.

Networks are called in eval mode, on the processor; their mode, parameters, gradients and hooks are
left as they were. Images are float32 (N, 3, 28, 28) in [0, 1]; classes are one integer for all
images or one for each (N,); maps are raw, non-negative and of the size of the layer they come from.
"""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.evaluate import check_images, predict

SIDE = 28  # pixels
BATCH = 250  # images a pass

Classes = int | Sequence[int] | np.ndarray


# --- maps ----------------------------------------------------------------------------------------


def grad_cam(model: nn.Module, layer: str, images: np.ndarray, classes: Classes) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): raw maps float32 (N, h, w), >= 0.

    With A_k the layer's k-th map (h, w) and z_c the logit of the class asked for,

        a_k = mean over places of dz_c / dA_k        M = ReLU(sum over k of a_k * A_k)

    layer: a name in `dict(model.named_modules())` that runs once a pass and gives (N, K, h, w).
    Neither the parameters nor the images need to require gradients.

    Raises ValueError for a layer that does not exist (the message lists those that do), never runs,
    runs more than once, gives something else than maps or does not reach the class's logit; for
    a class that the network does not have, no images, images of the wrong type, shape or range, and
    a model in train mode. TypeError for images that are no array and classes that are no integers.
    """
    classes = _check(model, images, classes)
    parts = []
    with _tapped(model, layer) as taken:
        for batch, wanted in _batches(images, classes):
            with torch.no_grad():  # the tap starts to record at the layer, and not before
                scores = _pick(model(batch), wanted)
            maps = _taken(taken, layer)
            gradient = _gradient(scores, maps, f"layer {layer!r}")
            parts.append(_weighted_sum(gradient.mean((2, 3)), maps).relu())
    return torch.cat(parts).numpy()


def class_activation_map(
    model: nn.Module, layer: str, head: str, images: np.ndarray, classes: Classes
) -> np.ndarray:
    """CAM (Zhou et al. 2016, arXiv:1512.04150): raw maps float32 (N, h, w), of either sign.

    For a network whose linear `head` reads the plain mean of the maps A_k of `layer`:

        z_c = b_c + sum over k of w_ck * mean(A_k)        CAM_c = sum over k of w_ck * A_k

    so that mean(CAM_c) + b_c = z_c. There dz_c/dA_k = w_ck / (h * w) at every place, and therefore
    Grad-CAM is CAM up to a constant: `grad_cam = ReLU(CAM) / (h * w)`.

    Raises as `grad_cam` does, and ValueError where the network does not end in this way, which is
    checked on its logits.
    """
    classes = _check(model, images, classes)
    linear = _module(model, head)
    if not isinstance(linear, nn.Linear):
        raise ValueError(f"{head!r} must name a linear layer, not {type(linear).__name__}")
    parts = []
    with _tapped(model, layer) as taken:
        for batch, wanted in _batches(images, classes):
            with torch.no_grad():
                logits = _pick(model(batch), wanted)
            maps = _taken(taken, layer)
            with torch.no_grad():  # again, since the tap records what follows the layer
                if linear.in_features != maps.shape[1]:
                    raise ValueError(
                        f"{head!r} reads {linear.in_features} features, but {layer!r} gives "
                        f"{maps.shape[1]} maps: CAM needs one feature a map"
                    )
                cam = _weighted_sum(linear.weight[wanted], maps)
                bias = 0 if linear.bias is None else linear.bias[wanted]
                if not torch.allclose(cam.mean((1, 2)) + bias, logits, rtol=1e-3, atol=1e-4):
                    raise ValueError(
                        f"CAM needs {head!r} to read the mean of the maps of {layer!r} and to give "
                        "the logits; this network does not: use grad_cam"
                    )
                parts.append(cam)
    return torch.cat(parts).numpy()


def upsample(maps: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Maps (N, h, w) at the size of the images, float32 (N, side, side): bilinear, pixel areas
    matched (no aligned corners)."""
    maps = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[:, None]
    return F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)[:, 0].numpy()


def display(maps: np.ndarray, scale: float | None = None) -> np.ndarray:
    """Raw maps (N, h, w) made ready to draw: float32 (N, 28, 28) in [0, 1], upsampled.

    All are divided by the one `scale`, by default the largest value of all of them, so that a faint
    map stays faint beside a strong one. To compare across calls, pass the same scale to each.

    Raises ValueError for maps of the wrong shape or range, or a scale that is not positive.
    """
    _check_maps(maps)
    if scale is None:
        scale = float(maps.max(initial=0)) or 1.0
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"scale must be positive and finite, not {scale}")
    return np.clip(upsample(maps) / np.float32(scale), 0, 1)


# --- colour or brightness ------------------------------------------------------------------------


def gradient_energy(
    model: nn.Module, images: np.ndarray, classes: Classes
) -> tuple[np.ndarray, np.ndarray]:
    """Squared gradient of the class score, per pixel, along brightness and along chroma: two
    float32 (N, 28, 28), >= 0.

    The score is z_c - mean(z), the logit above the mean of all logits: the part of it that can
    change a decision, since softmax does not see what all logits share. Its gradient at a pixel is
    a vector g in RGB. With the grey axis u = (1, 1, 1) / sqrt(3), g falls into two orthogonal parts

        brightness (g . u)^2        chroma |g|^2 - (g . u)^2 = |g - (g . u) u|^2

    Raises as `grad_cam` does.
    """
    classes = _check(model, images, classes)
    parts = []
    with _recording():
        for batch, wanted in _batches(images, classes):
            batch.requires_grad_()
            logits = model(batch.clone())  # a clone, lest the model works in place
            gradient = _gradient(_pick(logits, wanted) - logits.mean(1), batch, "the images")
            mean = gradient.mean(1, keepdim=True)  # (g . u) u, the same in R, G and B
            parts.append(torch.stack([3 * mean[:, 0] ** 2, (gradient - mean).square().sum(1)]))
    brightness, chroma = torch.cat(parts, dim=1).numpy()
    return brightness, chroma


def chroma_reliance(model: nn.Module, images: np.ndarray, classes: Classes) -> np.ndarray:
    """How far the class score hangs on colour: for each image the share of its squared gradient
    that lies along chroma, float64 (N,) in [0, 1].

        sum over pixels of |g - (g . u) u|^2  /  sum over pixels of |g|^2

    with g and u as in `gradient_energy`. A network that sees only grey scores 0, one that ignores
    brightness scores 1, and one whose gradients have no preferred direction in RGB scores 2/3, as
    chroma has two of the three dimensions. NaN where the gradient vanishes everywhere.

    Raises as `grad_cam` does.
    """
    brightness, chroma = gradient_energy(model, images, classes)
    chroma = chroma.sum((1, 2), dtype=np.float64)
    return _ratio(chroma, chroma + brightness.sum((1, 2), dtype=np.float64))


# --- stroke or ground ----------------------------------------------------------------------------


class HeatShares(NamedTuple):
    """float64 (N,) each, in [0, 1].

    stroke, ground: shares of the heat, which add up to 1, or are NaN for a map without heat; area:
    the stroke's share of the pixels, which is what a flat map would score.
    """

    stroke: np.ndarray
    ground: np.ndarray
    area: np.ndarray


def heat_shares(maps: np.ndarray, alpha: np.ndarray) -> HeatShares:
    """How much of the upsampled heat lies on the stroke, where alpha > 0.5, and how much around it.

    maps: (N, h, w), >= 0; alpha: (N, 28, 28) in [0, 1], the grey digits / 255, or any mask of a
    part of the image, such as `telling_parts`.

    Raises ValueError for maps or alpha of the wrong shape or range.
    """
    _check_maps(maps)
    alpha = _check_alpha(alpha, len(maps))
    stroke, heat = alpha > 0.5, upsample(maps).astype(np.float64)
    share = _ratio((heat * stroke).sum((1, 2)), heat.sum((1, 2)))
    return HeatShares(share, 1 - share, stroke.mean((1, 2)))


def telling_parts(
    alpha: np.ndarray, labels: np.ndarray, prototypes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The parts of each stroke that tell the digit from its nearest rival: bool (N, 28, 28), and
    the rivals int64 (N,).

    alpha: (N, 28, 28) in [0, 1], the grey digits / 255; labels: int (N,); prototypes: (K, 28, 28)
    in [0, 1], the mean of each digit. The rival is the other digit whose prototype is nearest to
    the image (Euclidean); a pixel of the stroke tells the two apart if the rival's prototype has
    less than half as much ink there as the digit's own.

    Raises ValueError for arrays of the wrong shape or range, and labels without a prototype.
    """
    alpha = _check_alpha(alpha, len(labels))
    prototypes = _check_alpha(prototypes, len(prototypes))
    labels = _check_classes(labels, len(alpha))
    if len(labels) and labels.max() >= len(prototypes):
        raise ValueError(f"label {labels.max()} has no prototype: there are {len(prototypes)}")
    flat, means = alpha.reshape(len(alpha), -1), prototypes.reshape(len(prototypes), -1)
    distance = np.square(means).sum(1) - 2 * flat @ means.T  # up to |image|^2, the same for all
    distance[np.arange(len(labels)), labels] = np.inf
    rivals = distance.argmin(1)
    return (alpha > 0.5) & (prototypes[rivals] < 0.5 * prototypes[labels]), rivals


# --- does the heat matter? -----------------------------------------------------------------------


def deletion_curve(
    model: nn.Module,
    images: np.ndarray,
    classes: Classes,
    maps: np.ndarray,
    baseline: np.ndarray | float,
    steps: int = 28,
    seed: int = 0,
) -> np.ndarray:
    """Probability of the class while the hottest pixels are taken away first: float32 (N, steps +
    1) (Petsiuk et al. 2018, arXiv:1806.07421).

    Column s has the round(s / steps * 784) hottest pixels of the upsampled map replaced by those of
    `baseline`, which broadcasts to the images and lies in [0, 1]; best is the same ground without a
    stroke, `paint(0 * grey, colours, seed)`, which adds no edges of its own. Pixels of equal heat,
    many where a map is 0, go in a random order that `seed` decides. A map that points at what
    matters lets the curve fall early.

    Raises as `grad_cam` does, and ValueError for maps, baseline or steps of the wrong shape or
    range.
    """
    return _swap_curve(model, images, classes, maps, baseline, steps, seed, insert=False)


def insertion_curve(
    model: nn.Module,
    images: np.ndarray,
    classes: Classes,
    maps: np.ndarray,
    baseline: np.ndarray | float,
    steps: int = 28,
    seed: int = 0,
) -> np.ndarray:
    """Probability of the class while the hottest pixels are put on the baseline first: float32 (N,
    steps + 1), from the bare baseline to the whole image. Otherwise as `deletion_curve`; a map that
    points at what matters lets this one rise early."""
    return _swap_curve(model, images, classes, maps, baseline, steps, seed, insert=True)


def area_under(curves: np.ndarray) -> np.ndarray:
    """Area under each curve (N, steps + 1) over [0, 1], by the trapezium rule: float64 (N,)."""
    curves = np.asarray(curves, dtype=np.float64)
    if curves.ndim != 2 or curves.shape[1] < 2:
        raise ValueError(f"curves must have shape (N, steps + 1), not {curves.shape}")
    return (curves[:, 1:] + curves[:, :-1]).mean(1) / 2


def random_maps(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Control: maps of uniform noise, float32 of `shape` (N, h, w), in [0, 1). Take the shape of
    the maps compared, so that both are equally coarse."""
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def centre_maps(shape: tuple[int, int, int]) -> np.ndarray:
    """Control: the same round blob in the middle of every map, float32 of `shape` (N, h, w) in
    (0, 1]; a Gaussian whose standard deviation is a quarter of the side."""
    rows, columns = (((np.arange(n) + 0.5) / n - 0.5) / 0.25 for n in shape[1:])
    blob = np.exp(-(rows[:, None] ** 2 + columns**2) / 2)
    return np.broadcast_to(blob.astype(np.float32), shape).copy()


# --- does the map notice the weights? ------------------------------------------------------------


def randomise(model: nn.Module, layers: Sequence[str], seed: int) -> nn.Module:
    """A copy of the model in which the named layers, with all inside them, are initialised anew
    (Adebayo et al. 2018, arXiv:1810.03292); the original is left alone.

    The draws are torch's defaults (`reset_parameters`; batch normalisation forgets its statistics
    too). What a layer draws depends on `seed` and its own name alone. So the cascade from the
    output down, `[randomise(model, order[:k], seed) for k in range(1, len(order) + 1)]`, keeps at
    each stage what the stages before have drawn.

    Raises ValueError for layers that do not exist, have no parameters, or cannot be reset.
    """
    if isinstance(layers, str):
        raise TypeError(f"layers must be a list of names: [{layers!r}]")
    model = copy.deepcopy(model)
    for layer in layers:
        module = _module(model, layer)
        if next(module.parameters(), None) is None:
            raise ValueError(f"layer {layer!r} has no parameters to make random")
        for name, part in module.named_modules(prefix=layer):
            if hasattr(part, "reset_parameters"):
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(zlib.crc32(f"{seed} {name}".encode()))
                    part.reset_parameters()
            elif next(part.parameters(recurse=False), None) is not None:
                raise ValueError(f"{name!r} ({type(part).__name__}) has no reset_parameters()")
    return model


def rank_correlation(maps_a: np.ndarray, maps_b: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of two maps of each image, (N, h, w) twice: float64 (N,) in
    [-1, 1]; equal values share their mean rank; NaN where a map is constant.

    Raises ValueError for maps of unequal or wrong shape.
    """
    if maps_a.shape != maps_b.shape or maps_a.ndim != 3:
        raise ValueError(
            f"maps must both have the same shape (N, h, w), not {maps_a.shape} and {maps_b.shape}"
        )
    if not (np.isfinite(maps_a).all() and np.isfinite(maps_b).all()):
        raise ValueError("maps must be finite")
    a, b = (_ranks(maps.reshape(len(maps), -1)) for maps in (maps_a, maps_b))
    a, b = (ranks - ranks.mean(1, keepdims=True) for ranks in (a, b))
    return _ratio((a * b).sum(1), np.sqrt((a * a).sum(1) * (b * b).sum(1)))


# --- within --------------------------------------------------------------------------------------


@contextmanager
def _recording() -> Iterator[None]:
    """Gradients are recorded inside, whatever the caller has switched off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def _tapped(model: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """While open, every pass leaves the layer's maps in the list yielded, as a leaf of the graph.

    The pass goes on from a copy of them, so that it may work in place (ResNet does), with gradients
    recorded from there to the end of the enclosing `no_grad`.
    """
    taken: list[Tensor] = []

    def tap(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(
                f"layer {layer!r} ({type(module).__name__}) must give maps (N, K, h, w), not "
                f"{shape}: name a convolutional layer"
            )
        if taken:
            raise ValueError(
                f"layer {layer!r} runs more than once in a pass: name a layer that runs once, such "
                "as the block around it"
            )
        taken.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)
        return taken[0].clone()

    handle = _module(model, layer).register_forward_hook(tap)
    try:
        with _recording():
            yield taken
    finally:
        handle.remove()


def _taken(taken: list[Tensor], layer: str) -> Tensor:
    if not taken:
        raise ValueError(f"layer {layer!r} never runs when the model is called on images")
    return taken.pop()


def _gradient(scores: Tensor, inputs: Tensor, what: str) -> Tensor:
    """Of each image's score (N,) with respect to its own part of `inputs` (N, ...): images do not
    meet in eval mode, so one pass serves all."""
    gradient = None
    if scores.requires_grad:
        (gradient,) = torch.autograd.grad(scores.sum(), inputs, allow_unused=True)
    if gradient is None:
        raise ValueError(f"the class scores do not depend on {what}: there is no gradient")
    return gradient


def _weighted_sum(weights: Tensor, maps: Tensor) -> Tensor:
    """Weights (N, K), maps (N, K, h, w) -> (N, h, w)."""
    return torch.einsum("nk,nkhw->nhw", weights, maps.detach())


def _pick(logits: Tensor, classes: Tensor) -> Tensor:
    """Each image's logit of its class: (N, C), (N,) -> (N,)."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(classes):
        raise ValueError(f"the model must return logits ({len(classes)}, C), one row an image")
    if classes.max() >= logits.shape[1]:
        raise ValueError(
            f"class {int(classes.max())} is out of range: the model has the classes 0 to "
            f"{logits.shape[1] - 1}"
        )
    return logits.gather(1, classes[:, None])[:, 0]


def _batches(images: np.ndarray, classes: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        batch = torch.tensor(images[part]).contiguous(memory_format=torch.channels_last)
        yield batch, torch.from_numpy(classes[part])


def _swap_curve(
    model: nn.Module,
    images: np.ndarray,
    classes: Classes,
    maps: np.ndarray,
    baseline: np.ndarray | float,
    steps: int,
    seed: int,
    insert: bool,
) -> np.ndarray:
    classes = _check(model, images, classes)
    _check_maps(maps)
    if len(maps) != len(images):
        raise ValueError(
            f"there must be a map for each of the {len(images)} images, not {len(maps)}"
        )
    pixels = SIDE * SIDE
    if not 1 <= steps <= pixels:
        raise ValueError(f"steps must lie in 1..{pixels}, not {steps}")
    baseline = np.asarray(baseline, dtype=np.float32)
    try:
        baseline = np.broadcast_to(baseline, images.shape)
    except ValueError:
        raise ValueError(
            f"baseline must broadcast to the images {images.shape}; its shape is {baseline.shape}"
        ) from None
    if not (baseline.min() >= 0 and baseline.max() <= 1):
        raise ValueError("baseline must lie in [0, 1], as the images do")

    first, second = (baseline, images) if insert else (images, baseline)
    heat = upsample(maps).reshape(len(maps), pixels)
    order = np.lexsort((np.random.default_rng(seed).random(heat.shape), -heat))  # hottest first
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(pixels)[None], axis=1)
    rank = rank.reshape(-1, 1, SIDE, SIDE)
    curve = np.empty((len(images), steps + 1), dtype=np.float32)
    for step in range(steps + 1):
        mixed = np.where(rank < round(step / steps * pixels), second, first)
        probabilities = torch.from_numpy(predict(model, mixed)).softmax(1)
        curve[:, step] = _pick(probabilities, torch.from_numpy(classes)).numpy()
    return curve


def _ranks(rows: np.ndarray) -> np.ndarray:
    """Rank of each value in its row, float64 (N, P); equal values share their mean rank."""
    ranks = np.empty(rows.shape)
    for row, out in zip(rows, ranks, strict=True):  # scipy.stats does this, but is slow to import
        _, place, count = np.unique(row, return_inverse=True, return_counts=True)
        out[:] = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _module(model: nn.Module, layer: str) -> nn.Module:
    modules = dict(model.named_modules())
    del modules[""]
    if layer not in modules:
        raise ValueError(f"no layer {layer!r}: the model has {', '.join(modules) or 'no layers'}")
    return modules[layer]


def _check(model: nn.Module, images: np.ndarray, classes: Classes) -> np.ndarray:
    """The classes int64 (N,), once model, images and classes are found to be in order."""
    if any(module.training for module in model.modules()):
        raise ValueError(
            "the model is in train mode, where images of a batch meet and units drop out: call "
            "model.eval() first"
        )
    if not isinstance(images, np.ndarray):
        raise TypeError(f"images must be a numpy array, not {type(images).__name__}")
    check_images(images)
    if not len(images):
        raise ValueError("there are no images: the batch is empty")
    return _check_classes(classes, len(images))


def _check_classes(classes: Classes, count: int) -> np.ndarray:
    classes = np.asarray(classes)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"classes must be integers, not {classes.dtype}")
    if classes.ndim and classes.shape != (count,):
        raise ValueError(
            f"classes must be one integer, or one for each of the {count} images, not "
            f"{classes.shape}"
        )
    if classes.size and classes.min() < 0:
        raise ValueError(f"class {classes.min()} is out of range: classes count from 0")
    return np.broadcast_to(classes, (count,)).astype(np.int64)


def _check_maps(maps: np.ndarray) -> None:
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ValueError(f"maps must have shape (N, h, w), not {maps.shape}")
    if maps.size and not (maps.min() >= 0 and maps.max() < np.inf):
        raise ValueError("maps must be finite and >= 0: pass what grad_cam returns")


def _check_alpha(alpha: np.ndarray, count: int) -> np.ndarray:
    alpha = np.asarray(alpha, dtype=np.float64)
    if alpha.shape != (count, SIDE, SIDE):
        raise ValueError(f"expected shape ({count}, {SIDE}, {SIDE}), not {alpha.shape}")
    if alpha.size and not (alpha.min() >= 0 and alpha.max() <= 1):
        raise ValueError("grey digits must lie in [0, 1]; divide 0..255 by 255")
    return alpha
