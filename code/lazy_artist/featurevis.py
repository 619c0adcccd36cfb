"""What does a unit like to see? `visualise` draws the image that excites a *channel*, one map of a
convolutional layer, most.

Networks are called in eval mode, on the processor; their parameters, gradients and hooks are left
as they were. Images are float32 (N, 3, 28, 28) in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.evaluate import check_images

SIDE = 28  # pixels
BATCH = 128  # images a pass, whose maps stay in the processor's cache; results do not hang on it
START = 0.5  # deviation of the noise to start from, before the sigmoid; a flat start wakes fewer
LEAK = 0.1  # slope of the score where a ReLU is shut, so that a silent channel can be woken
JITTER, TURN, ZOOM = 1.5, 5.0, 0.05  # robustness: pixels, degrees, share of the size, either way
PARAMETRISATIONS = ("fourier", "pixels")


def colour_root(images: np.ndarray) -> np.ndarray:
    """The symmetric square root float32 (3, 3) of the covariance of RGB over all pixels of images,
    scaled so that its largest column has length 1: by it `visualise` decorrelates colours."""
    check_images(images)
    pixels = images.transpose(1, 0, 2, 3).reshape(3, -1)
    values, vectors = np.linalg.eigh(np.cov(pixels.astype(np.float64)))
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return (root / max(np.linalg.norm(root, axis=0).max(), 1e-12)).astype(np.float32)


def visualise(
    model: nn.Module, layer: str, directions: np.ndarray | None = None, *,
    where: str | tuple[int, int] = "mean", optima: int = 1, diversity: float = 0.5,
    steps: int = 96, learning_rate: float = 0.3, parametrisation: str = "fourier",
    root: np.ndarray | None = None, robust: bool = True, seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Images that excite directions of a layer most, by gradient ascent on the image (Simonyan et
    al. 2014, arXiv:1312.6034; Olah et al. 2017, doi:10.23915/distill.00007): float32 (M, optima, 3,
    28, 28) in [0, 1], and scores float32 (M, optima), what each image as it stands gives in its
    direction. Each comes out as it would alone.

    layer: a name in `dict(model.named_modules())` whose output is maps (N, K, h, w) or a vector
        (N, K); the network's head for logits.
    directions: (M, K), a row an image: a unit row for a channel, its negative for what suppresses
        it, any other for a combination; by default all K channels.
    where: the score is the direction's response averaged over the map ("mean"), its largest value
        ("max"; to which the ascent goes over from the mean in its first half, lest it stay where
        the start happened to be largest), or that at one unit (row, column).
    optima: images a direction, started apart and kept apart by `diversity` times the mean cosine
        similarity of their Gram matrices in the layer, relative to the score.
    parametrisation: "pixels", or "fourier", where the amplitude of each frequency f is divided by
        f, so that coarse structure moves first, as in natural images (Olah et al. 2017).
    root: an image is the sigmoid of `root @ canvas`; by the `colour_root` of our data the numbers
        that the optimiser sees at a pixel are uncorrelated, by default they are red, green, blue.
    robust: at each step all images are shifted, turned and zoomed by the same small draw (`JITTER`,
        `TURN`, `ZOOM`), so that no optimum hangs on single pixels.

    Where the layer ends in a ReLU, the score is taken before it, with what lies below zero scaled
    by `LEAK`; the scores returned are after it.

    Raises ValueError for a layer that does not exist, never runs or gives neither maps nor vectors;
    for directions, a place or settings that do not fit; and a model in train mode.
    """
    check_ready(model)
    if min(optima, steps) < 1:
        raise ValueError(f"optima and steps must be at least 1, not {optima} and {steps}")
    if parametrisation not in PARAMETRISATIONS:
        raise ValueError(f"parametrisation must be fourier or pixels, not {parametrisation!r}")
    width, grid = layer_shape(model, layer)
    directions = np.asarray(np.eye(width) if directions is None else directions, np.float32)
    if directions.ndim != 2 or directions.shape[1] != width or not len(directions):
        raise ValueError(
            f"directions must have shape (M, {width} channels of {layer!r}), not {directions.shape}"
        )
    if where not in ("mean", "max", *np.ndindex(grid)):
        raise ValueError(f'where must be "mean", "max" or (row, column) in {grid}, not {where!r}')
    parts = []
    for part in torch.from_numpy(directions).split(max(1, BATCH // optima)):
        generator = torch.Generator().manual_seed(seed)
        wanted = part.repeat_interleave(optima, 0)  # (M * optima, K)
        canvas, draw = _canvas(parametrisation, len(part), optima, root, generator)
        optimiser = torch.optim.Adam([canvas], learning_rate)
        with torch.inference_mode(False), torch.enable_grad(), _tapped(model, layer) as look:
            for step in range(steps):
                rate = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
                optimiser.param_groups[0]["lr"] = rate
                images = draw(canvas)
                before, after = look(_shaken(images, generator) if robust else images)
                loss = -_scores(before, wanted, where, LEAK)
                if where == "max" and step < steps // 2:
                    share = step / (steps // 2)
                    loss = share * loss - (1 - share) * _scores(before, wanted, "mean", LEAK)
                if optima > 1:
                    alike = _likeness(after.unflatten(0, (-1, optima)))
                    loss = loss + diversity * loss.detach().abs() * alike.flatten()
                (canvas.grad,) = torch.autograd.grad(loss.sum(), canvas)
                optimiser.step()
            with torch.no_grad():
                images = draw(canvas)
                parts.append((images.contiguous(), _scores(look(images)[1], wanted, where, 1)))
    images, scores = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return tuple(tensor.unflatten(0, (-1, optima)).numpy() for tensor in (images, scores))


def _canvas(parametrisation, count, optima, root, generator):
    """Parameters of count * optima images, another start for each optimum, and what draws them."""
    rows, columns = torch.fft.fftfreq(SIDE)[:, None], torch.fft.rfftfreq(SIDE)[None]
    amplitude = 1 / torch.sqrt(rows**2 + columns**2).clamp_min(1 / SIDE)  # (28, 15)
    amplitude /= amplitude.norm()  # so that a rate moves pixels about as far as in "pixels"
    mixing = torch.eye(3) if root is None else torch.from_numpy(root)

    def draw(canvas: Tensor) -> Tensor:
        if parametrisation == "fourier":
            spectrum = torch.view_as_complex(canvas) * amplitude
            canvas = torch.fft.irfft2(spectrum, s=(SIDE, SIDE), norm="forward")
        return torch.sigmoid(torch.einsum("ij,njhw->nihw", mixing, canvas))

    shape = (SIDE, SIDE // 2 + 1, 2) if parametrisation == "fourier" else (SIDE, SIDE)
    start = START * torch.randn((optima, 3, *shape), generator=generator)
    return start.repeat(count, *[1] * (start.ndim - 1)).requires_grad_(), draw


def _shaken(images: Tensor, generator: torch.Generator) -> Tensor:
    """The images, all shifted, turned and zoomed by the same small random amounts."""
    draw = 2 * torch.rand(4, generator=generator) - 1
    turn, zoom = math.radians(TURN) * draw[0], 1 + ZOOM * draw[1]
    cos, sin = zoom * torch.cos(turn), zoom * torch.sin(turn)
    shift = 2 * JITTER / SIDE * draw[2:]  # in units of half the side
    theta = torch.stack([cos, -sin, shift[0], sin, cos, shift[1]]).view(1, 2, 3)
    grid = F.affine_grid(theta, (1, 1, SIDE, SIDE), align_corners=False)
    stack = images.reshape(1, -1, SIDE, SIDE)  # one grid serves all
    moved = F.grid_sample(stack, grid, padding_mode="border", align_corners=False)
    return moved.view_as(images)


def _scores(maps: Tensor, directions: Tensor, where, slope: float) -> Tensor:
    """Response of each direction (N, K) in its maps (N, K, h, w), reduced to one number: (N,). What
    lies below zero counts by `slope`."""
    maps = F.leaky_relu(maps, slope)
    if where == "mean":
        return (maps.mean((2, 3)) * directions).sum(1)
    response = torch.einsum("nk,nkhw->nhw", directions, maps)
    return response.amax((1, 2)) if where == "max" else response[:, where[0], where[1]]


def _likeness(maps: Tensor) -> Tensor:
    """Mean cosine similarity of each optimum's Gram matrix to those of its direction's others, of
    maps (M, optima, K, h, w): (M, optima)."""
    maps = maps.flatten(3)
    gram = F.normalize(torch.einsum("mokp,molp->mokl", maps, maps).flatten(2), dim=2)
    cosine = gram @ gram.transpose(1, 2)  # (M, optima, optima)
    return (cosine.sum(2) - cosine.diagonal(dim1=1, dim2=2)) / (maps.shape[1] - 1)


# --- layers ---------------------------------------------------------------------------------------


class _Enough(Exception):
    """Ends a pass once the layer has been seen."""


@contextmanager
def _tapped(model: nn.Module, layer: str) -> Iterator:
    """Yields a function from images to the layer's maps before and after the ReLU it ends in (the
    same twice if it ends otherwise), (N, K, h, w) each; the rest of the network is not run."""
    module = find_layer(model, layer)
    seen: dict[str, Tensor] = {}

    def before(relu: nn.Module, inputs: tuple) -> tuple:
        seen["before"] = inputs[0]
        return (inputs[0].clone(),)  # which the ReLU may overwrite

    def after(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        seen["after"] = output
        raise _Enough

    def look(images: Tensor) -> tuple[Tensor, Tensor]:
        seen.clear()
        with suppress(_Enough):
            model(images.contiguous(memory_format=torch.channels_last))
        check_ran(int("after" in seen), 1, layer)
        output = seen["after"]
        pre = seen.get("before", output)
        ends_in_relu = pre.shape == output.shape and torch.equal(pre.detach().relu(), output)
        return as_maps(pre if ends_in_relu else output, layer), as_maps(output, layer)

    with ExitStack() as hooks:
        for part in module.modules():
            if isinstance(part, nn.ReLU):
                hooks.enter_context(part.register_forward_pre_hook(before))
        hooks.enter_context(module.register_forward_hook(after))
        yield look


def as_maps(output: Tensor, layer: str, vectors: bool = True) -> Tensor:
    """A layer's output as maps (N, K, h, w); a vector's (N, K), if allowed, are of one pixel."""
    if not isinstance(output, Tensor) or output.ndim not in ((2, 4) if vectors else (4,)):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        wanted = "(N, K, h, w) or (N, K)" if vectors else "(N, K, h, w)"
        raise ValueError(f"layer {layer!r} must give maps {wanted}, not {shape}")
    return output if output.ndim == 4 else output[:, :, None, None]


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """The layer of that name; raises ValueError, listing those that exist, if there is none."""
    modules = dict(model.named_modules())
    del modules[""]
    if layer not in modules:
        raise ValueError(f"no layer {layer!r}: the model has {', '.join(modules) or 'no layers'}")
    return modules[layer]


def layer_shape(model: nn.Module, layer: str) -> tuple[int, tuple[int, int]]:
    """Channels and map size of a layer."""
    with torch.no_grad(), _tapped(model, layer) as look:
        maps = look(torch.zeros(1, 3, SIDE, SIDE))[1]
    return maps.shape[1], (maps.shape[2], maps.shape[3])


def check_ready(model: nn.Module, images: np.ndarray | None = None) -> None:
    """Raises ValueError for a model in train mode, or partly so; for no images or bad ones."""
    if any(module.training for module in model.modules()):
        raise ValueError("the model is in train mode: call model.eval() first")
    if images is not None:
        check_images(images)
        if not len(images):
            raise ValueError("there are no images: the batch is empty")


def check_ran(times: int, passes: int, layer: str) -> None:
    """Raises ValueError unless the layer ran once in each pass."""
    if times < passes:
        raise ValueError(f"layer {layer!r} never runs when the model is called on images")
    if times > passes:
        raise ValueError(f"layer {layer!r} runs more than once: name the block around it")
