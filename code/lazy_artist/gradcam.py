"""Where does a network look? Grad-CAM and input gradients, from first principles.
Whether to believe a map is the matter of `faithfulness`.

Networks are called in eval mode, on the processor; their mode, parameters, gradients and hooks are
left as they were. Images are float32 (N, 3, 28, 28) in [0, 1]; classes are one integer for all
images or one for each (N,); maps are raw, non-negative and of the size of the layer they come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.featurevis import SIDE, as_maps, check_ran, check_ready, find_layer

BATCH = 250  # images a pass

Classes = int | Sequence[int] | np.ndarray


def grad_cam(model: nn.Module, layer: str, images: np.ndarray, classes: Classes) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): raw maps float32 (N, h, w), >= 0.

    With A_k the layer's k-th map (h, w) and z_c the logit of the class asked for,

        a_k = mean over places of dz_c / dA_k        M = ReLU(sum over k of a_k * A_k)

    layer: a name in `dict(model.named_modules())` that runs once a pass and gives (N, K, h, w).
    Neither the parameters nor the images need to require gradients.

    Raises ValueError for a layer that does not exist, runs never or more than once, gives no maps
    or does not reach the logit; for a class that the network does not have; no images, or of the
    wrong type, shape or range; and a model in train mode. TypeError for images that are no array
    and classes that are no integers.
    """
    classes = check_inputs(model, images, classes)
    taken: list[Tensor] = []

    def tap(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        """Records gradients from the layer's maps on, and goes on from a copy, lest the model works
        in place (ResNet does)."""
        taken.append(as_maps(output, layer, vectors=False).detach().requires_grad_())
        torch.set_grad_enabled(True)
        return taken[-1].clone()

    parts, hook = [], find_layer(model, layer).register_forward_hook(tap)
    with hook, torch.inference_mode(False), torch.enable_grad():
        for batch, wanted in _batches(images, classes):
            taken.clear()
            with torch.no_grad():
                scores = pick_logits(model(batch), wanted)
            check_ran(len(taken), 1, layer)
            gradient = _gradient(scores, taken[0], f"layer {layer!r}")
            cam = torch.einsum("nk,nkhw->nhw", gradient.mean((2, 3)), taken[0].detach())
            parts.append(cam.relu())
    return torch.cat(parts).numpy()


def upsample(maps: np.ndarray) -> np.ndarray:
    """Maps (N, h, w) at the size of the images, float32 (N, 28, 28): bilinear, areas matched."""
    maps = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))[:, None]
    return F.interpolate(maps, (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0].numpy()


def display(maps: np.ndarray, scale: float | None = None) -> np.ndarray:
    """Raw maps (N, h, w) made ready to draw: float32 (N, 28, 28) in [0, 1], upsampled.

    All are divided by one `scale`, by default the largest value of all, so that a faint map stays
    faint beside a strong one; to compare across calls, pass the same to each. Raises ValueError for
    maps of the wrong shape or range, or a scale that is not positive.
    """
    check_maps(maps)
    if scale is None:
        scale = float(maps.max(initial=0)) or 1.0
    if not 0 < scale < np.inf:
        raise ValueError(f"scale must be positive and finite, not {scale}")
    return np.clip(upsample(maps) / np.float32(scale), 0, 1)


def gradient_energy(
    model: nn.Module, images: np.ndarray, classes: Classes
) -> tuple[np.ndarray, np.ndarray]:
    """Squared gradient of the class score, per pixel, along brightness and along chroma: two
    float32 (N, 28, 28), >= 0. Raises as `grad_cam` does.

    The score is z_c - mean(z): the part of the logit that can change a decision, since softmax does
    not see what all logits share. Its gradient at a pixel is a vector g in RGB, which the grey axis
    u = (1, 1, 1) / sqrt(3) parts in two:

        brightness (g . u)^2        chroma |g|^2 - (g . u)^2 = |g - (g . u) u|^2
    """
    classes = check_inputs(model, images, classes)
    parts = []
    with torch.inference_mode(False), torch.enable_grad():
        for batch, wanted in _batches(images, classes):
            batch.requires_grad_()
            logits = model(batch.clone())  # lest the model works in place
            gradient = _gradient(pick_logits(logits, wanted) - logits.mean(1), batch, "the images")
            mean = gradient.mean(1, keepdim=True)  # (g . u) u, the same in R, G and B
            parts.append(torch.stack([3 * mean[:, 0] ** 2, (gradient - mean).square().sum(1)]))
    brightness, chroma = torch.cat(parts, dim=1).numpy()
    return brightness, chroma


def chroma_reliance(model: nn.Module, images: np.ndarray, classes: Classes) -> np.ndarray:
    """How far the class score hangs on colour: the share of each image's squared gradient that lies
    along chroma (see `gradient_energy`), float64 (N,) in [0, 1]. A network that sees only grey
    scores 0, one that ignores brightness 1, and one whose gradients have no preferred direction in
    RGB 2/3, as chroma has two of the three dimensions. NaN where the gradient vanishes everywhere.
    Raises as `grad_cam` does."""
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
    """Each image's logit of its class: (N, C), (N,) -> (N,)."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(classes):
        raise ValueError(f"the model must return logits ({len(classes)}, C), one row an image")
    if (top := int(classes.max())) >= (count := logits.shape[1]):
        raise ValueError(f"class {top} is out of range: the model has the classes 0 to {count - 1}")
    return logits.gather(1, classes[:, None])[:, 0]


def _batches(images: np.ndarray, classes: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(images), BATCH):
        part = slice(start, start + BATCH)
        batch = torch.tensor(images[part]).contiguous(memory_format=torch.channels_last)
        yield batch, torch.from_numpy(classes[part])


def check_inputs(model: nn.Module, images: np.ndarray, classes: Classes) -> np.ndarray:
    """The classes int64 (N,), once model, images and classes are found to be in order."""
    if not isinstance(images, np.ndarray):
        raise TypeError(f"images must be a numpy array, not {type(images).__name__}")
    check_ready(model, images)
    classes, count = np.asarray(classes), len(images)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"classes must be integers, not {classes.dtype}")
    if classes.shape not in ((), (count,)):
        raise ValueError(
            f"classes must be one integer or one for each of {count} images, not {classes.shape}"
        )
    if classes.min() < 0:
        raise ValueError(f"class {classes.min()} is out of range: classes count from 0")
    return np.broadcast_to(classes, (count,)).astype(np.int64)


def check_maps(maps: np.ndarray) -> None:
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ValueError(f"maps must have shape (N, h, w), not {maps.shape}")
    if maps.size and not (maps.min() >= 0 and maps.max() < np.inf):
        raise ValueError("maps must be finite and >= 0: pass what grad_cam returns")


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
