"""Where does a network look? Grad-CAM, input gradients and integrated gradients, from first
principles.

Images are (N, C, H, W) in [0, 1], and at least one; classes one integer for all or one for each
(N,); Grad-CAM's maps are raw, non-negative and of the size of the layer they come from. Whether to
believe a map is the matter of `faithfulness`.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.forward import as_logits, as_maps, asked, batches, hooked
from lazy_artist.interface import (
    Array,
    Classes,
    check_classes,
    check_images,
    check_number,
    public,
)

BATCH = 250  # images a pass


@public
def grad_cam(model: nn.Module, layer: str, images: Array, classes: Classes) -> Array:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): raw maps float32 (N, h, w), >= 0.

    With A_k the layer's k-th map (h, w) and z_c the logit of the class asked for,

        a_k = mean over places of dz_c / dA_k        M = ReLU(sum over k of a_k * A_k)

    layer: a name in `dict(model.named_modules())`. Neither the parameters nor the images need to
    require gradients. Raises ValueError for a layer that does not run once, gives no maps (N, K, h,
    w) or does not reach the logit; a class that the network does not have; and no images.
    """
    images, classes = check_inputs(images, classes)
    taken: list[Tensor] = []

    def tap(output: Tensor) -> Tensor:
        """Records gradients from here on, and goes on from a copy, lest the model works in place
        (ResNet does)."""
        taken[:] = [as_maps(output, layer, vectors=False).detach().requires_grad_()]
        torch.set_grad_enabled(True)
        return taken[0].clone()

    parts = []
    with asked(model) as ask, hooked(model, layer, tap):
        for batch, wanted in zip(batches(images, BATCH), classes.split(BATCH), strict=True):
            with torch.no_grad():
                scores = pick_logits(ask(batch), wanted)
            gradient = _gradient(scores, taken[0], f"layer {layer!r}").float()
            maps = taken[0].detach().float()
            cam = torch.einsum("nk,nkhw->nhw", gradient.mean((2, 3)), maps)
            parts.append(cam.relu().cpu())
    return torch.cat(parts).numpy()


@public
def integrated_gradients(
    model: nn.Module, images: Array, baselines: Array | float, classes: Classes, steps: int = 50
) -> Array:
    """Integrated gradients (Sundararajan, Taly & Yan 2017, arXiv:1703.01365): what each value of an
    image x adds to the logit z_c of its class, on the straight way from a baseline x'; signed,
    float32 (N, C, H, W):

        (x - x') * g        g = integral over t from 0 to 1 of dz_c / dx at x' + t (x - x')

    Complete: an image's attributions add up to z_c(x) - z_c(x'), but for the error of the
    quadrature (Gauss-Legendre with `steps` nodes) in networks with kinks. baselines: broadcast to
    the images and lie in [0, 1]. Raises as `grad_cam` does.
    """
    slope = path_gradient(model, images, baselines, classes, steps)
    return (check_images(images) - check_baseline(baselines, images)) * slope


@public
def path_gradient(
    model: nn.Module, images: Array, baselines: Array | float, classes: Classes, steps: int = 50
) -> Array:
    """The mean gradient g of `integrated_gradients`, float32 (N, C, H, W). At each pixel (x - x') .
    g adds up over any orthogonal basis of RGB: along the grey axis it is sum(x - x') sum(g) / 3,
    and what is left lies along chroma."""
    images, classes = check_inputs(images, classes)
    baselines = check_baseline(baselines, images)
    steps = check_number(steps, "steps", 1, 1000, whole=True)
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # of [-1, 1]
    pairs = zip(batches(images, BATCH), batches(baselines, BATCH), strict=True)
    parts = []
    with asked(model) as ask:
        for (batch, start), wanted in zip(pairs, classes.split(BATCH), strict=True):
            batch, start = batch.double(), start.double()
            total = torch.zeros_like(batch)
            for node, weight in zip((1 + nodes) / 2, weights / 2, strict=True):
                point = torch.lerp(start, batch, node).requires_grad_()
                scores = pick_logits(ask(point.clone()), wanted)  # lest the model works in place
                total += weight * _gradient(scores, point, "the images")
            parts.append(total.float().contiguous())
    return torch.cat(parts).numpy()


@public
def upsample(maps: Array, size: tuple[int, int] = (28, 28)) -> Array:
    """Maps (N, h, w), of any sign, at the size of the images, float32 (N, *size): bilinear, areas
    matched."""
    check_maps(maps, signed=True)
    tensor = torch.tensor(np.ascontiguousarray(maps, dtype=np.float32))[:, None]
    return F.interpolate(tensor, size, mode="bilinear", align_corners=False)[:, 0].numpy()


@public
def display(maps: Array, scale: float | None = None, size: tuple[int, int] = (28, 28)) -> Array:
    """Raw maps (N, h, w) made ready to draw: float32 (N, *size) in [0, 1], upsampled.

    All are divided by one `scale` > 0, by default the largest value of all, so that a faint map
    stays faint beside a strong one; to compare across calls, pass the same to each.
    """
    check_maps(maps)
    if scale is None:
        scale = float(maps.max(initial=0)) or 1.0
    if not 0 < scale < np.inf:
        raise ValueError(f"scale must be positive and finite, not {scale}")
    return np.clip(upsample(maps, size) / np.float32(scale), 0, 1)


@public
def gradient_energy(model: nn.Module, images: Array, classes: Classes) -> tuple[Array, Array]:
    """Squared gradient of the class score, per pixel, along brightness and along chroma: two
    float32 (N, H, W), >= 0, of images (N, 3, H, W). Raises as `grad_cam` does.

    The score is z_c - mean(z): the part of the logit that can change a decision, since softmax does
    not see what all logits share. Its gradient at a pixel is a vector g in RGB, which the grey axis
    u = (1, 1, 1) / sqrt(3) parts in two:

        brightness (g . u)^2        chroma |g|^2 - (g . u)^2 = |g - (g . u) u|^2
    """
    images, classes = check_inputs(images, classes, channels=3)
    parts = []
    with asked(model) as ask:
        for batch, wanted in zip(batches(images, BATCH), classes.split(BATCH), strict=True):
            batch.requires_grad_()
            logits = as_logits(ask(batch.clone()), len(batch))  # lest the model works in place
            gradient = _gradient(pick_logits(logits, wanted) - logits.mean(1), batch, "the images")
            mean = gradient.mean(1, keepdim=True)  # (g . u) u, the same in R, G and B
            chroma = (gradient - mean).square().sum(1)
            parts.append(torch.stack([3 * mean[:, 0] ** 2, chroma]).cpu())
    brightness, chroma = torch.cat(parts, dim=1).numpy()
    return brightness, chroma


@public
def chroma_reliance(model: nn.Module, images: Array, classes: Classes) -> Array:
    """How far the class score hangs on colour: the share of each image's squared gradient that lies
    along chroma (see `gradient_energy`), float64 (N,) in [0, 1]. A network that sees only grey
    scores 0, one that ignores brightness 1, and one whose gradients have no preferred direction in
    RGB 2/3, as chroma has two of the three dimensions. NaN where the gradient vanishes."""
    brightness, chroma = gradient_energy(model, images, classes)
    chroma = chroma.sum((1, 2), dtype=np.float64)
    return ratio(chroma, chroma + brightness.sum((1, 2), dtype=np.float64))


def _gradient(scores: Tensor, inputs: Tensor, what: str) -> Tensor:
    """Of each image's score (N,) with respect to its own part of `inputs` (N, ...): images do not
    meet in eval mode, so one pass serves all."""
    if scores.requires_grad:
        (gradient,) = torch.autograd.grad(scores.sum(), inputs, allow_unused=True)
        if gradient is not None:
            return gradient
    raise ValueError(f"the class scores do not depend on {what}: there is no gradient")


def pick_logits(logits: Tensor, classes: Tensor) -> Tensor:
    """Each image's logit of its class: (N, K), (N,) -> (N,)."""
    logits = as_logits(logits, len(classes))
    if (top := int(classes.max())) >= (count := logits.shape[1]):
        raise ValueError(f"class {top} is out of range: the model has the classes 0 to {count - 1}")
    return logits.gather(1, classes.to(logits.device)[:, None])[:, 0]


def check_inputs(
    images: Array, classes: Classes, channels: int | None = None
) -> tuple[np.ndarray, Tensor]:
    """Images float32 (N, C, H, W), N > 0, and their classes int64 (N,)."""
    images = check_images(images, channels)
    if not len(images):
        raise ValueError("there are no images: the batch is empty")
    return images, torch.from_numpy(check_classes(classes, len(images), below=None, one=True))


def check_baseline(baseline: Array | float, images: np.ndarray) -> np.ndarray:
    """What stands for "nothing there", float32, broadcast to the images (N, C, H, W)."""
    try:
        baseline = np.broadcast_to(np.asarray(baseline, dtype=np.float32), images.shape)
    except ValueError as error:
        raise ValueError(f"baseline must broadcast to the images: {error}") from None
    if not (baseline.min() >= 0 and baseline.max() <= 1):
        raise ValueError("baseline must lie in [0, 1], as the images do")
    return baseline


def check_maps(maps: np.ndarray, signed: bool = False) -> None:
    if not isinstance(maps, np.ndarray) or maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ValueError(f"maps must have shape (N, h, w), not {np.shape(maps)}")
    if not np.isfinite(maps).all():
        raise ValueError("maps must be finite")
    if not signed and maps.min(initial=0) < 0:
        raise ValueError("maps must be >= 0: pass what grad_cam returns")


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
