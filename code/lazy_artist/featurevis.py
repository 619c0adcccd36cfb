"""What does a unit like to see? Drawings of images that excite a *channel*, one map of a
convolutional layer, most."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.forward import as_maps, asked, find_layer, home_of, hooked
from lazy_artist.interface import Array, check_images, check_number, public

BATCH = 128  # images a pass, whose maps stay in the processor's cache; results do not hang on it
START = 0.5  # deviation of the noise to start from, before the sigmoid; a flat start wakes fewer
LEAK = 0.1  # slope of the score where a ReLU is shut, so that a silent channel can be woken
JITTER, TURN, ZOOM = 1.5, 5.0, 0.05  # robustness: pixels, degrees, share of the size, either way
PARAMETRISATIONS = ("fourier", "pixels")


@public
def colour_root(images: Array) -> Array:
    """The symmetric square root float32 (3, 3) of the covariance of RGB over all pixels of images,
    scaled so that its largest column has length 1: by it `visualise` decorrelates colours."""
    images = check_images(images, channels=3)
    pixels = images.transpose(1, 0, 2, 3).reshape(3, -1)
    values, vectors = np.linalg.eigh(np.cov(pixels.astype(np.float64)))
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return (root / max(np.linalg.norm(root, axis=0).max(), 1e-12)).astype(np.float32)


@public
def visualise(
    model: nn.Module, layer: str, directions: Array | None = None, *,
    where: str | tuple[int, int] = "mean", optima: int = 1, diversity: float = 0.5,
    steps: int = 96, learning_rate: float = 0.3, parametrisation: str = "fourier",
    root: Array | None = None, robust: bool = True, seed: int = 0,
    shape: tuple[int, int, int] = (3, 28, 28), start: Array | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Images that excite directions of a layer most, by gradient ascent on the image (Simonyan et
    al. 2014, arXiv:1312.6034; Olah et al. 2017, doi:10.23915/distill.00007): float32 (M, optima,
    *shape) in [0, 1], and scores float32 (M, optima), what each image as it stands gives in its
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
    start: images (M, *shape) to whose pixels the noise is added that an ascent starts from, such as
        the mean of what one facet of a unit answers to (Nguyen et al. 2016, arXiv:1602.03616).

    Where the layer ends in a ReLU, the score is taken before it, with what lies below zero scaled
    by `LEAK`; the scores returned are after it. Raises ValueError for a layer that does not run
    once or gives neither maps nor vectors; for directions, a place or settings that do not fit.
    """
    steps = check_number(steps, "steps", 1, whole=True)
    optima = check_number(optima, "optima", 1, whole=True)
    if parametrisation not in PARAMETRISATIONS:
        raise ValueError(f"parametrisation must be fourier or pixels, not {parametrisation!r}")
    sizes: list[torch.Size] = []

    def note(output: Tensor) -> None:
        sizes.append(as_maps(output, layer).shape)

    with asked(model) as ask, hooked(model, layer, note), torch.inference_mode():
        ask(torch.zeros(1, *shape))
    width, grid = sizes[-1][1], tuple(sizes[-1][2:])
    root = np.eye(shape[0]) if root is None else np.asarray(root)
    if root.shape != (shape[0], shape[0]):
        raise ValueError(f"root must have shape ({shape[0]}, {shape[0]}), not {root.shape}")
    directions = np.asarray(np.eye(width) if directions is None else directions, np.float32)
    if directions.ndim != 2 or directions.shape[1] != width or not len(directions):
        raise ValueError(
            f"directions must have shape (M, {width} channels of {layer!r}), not {directions.shape}"
        )
    if not (np.isfinite(directions).all() and np.isfinite(root).all()):
        raise ValueError("directions and root must be finite: there is a NaN or an infinity")
    if where not in ("mean", "max", *np.ndindex(grid)):
        raise ValueError(f'where must be "mean", "max" or (row, column) in {grid}, not {where!r}')
    if start is not None and start.shape != (wanted := (len(directions), *shape)):
        raise ValueError(f"start must be images of shape {wanted}, not {start.shape}")
    parts, device, size = [], home_of(model)[0], max(1, BATCH // optima)
    for first in range(0, len(directions), size):
        part = torch.from_numpy(directions[first : first + size]).to(device)
        generator = torch.Generator().manual_seed(seed)
        wanted = part.repeat_interleave(optima, 0)  # (M * optima, K)
        begin = None if start is None else start[first : first + size].repeat(optima, 0)
        canvas, draw = _canvas(
            parametrisation, len(part), optima, root, shape, generator, device, begin
        )
        optimiser = torch.optim.Adam([canvas], learning_rate)
        with _tapped(model, layer) as look:
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
    return tuple(tensor.unflatten(0, (-1, optima)).cpu().numpy() for tensor in (images, scores))


def _canvas(parametrisation, count, optima, root, shape, generator, device, begin):
    """Parameters of count * optima images, another noise for each optimum, on the images `begin` if
    there are any, and what draws them."""
    channels, height, width = shape
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    amplitude = 1 / torch.sqrt(rows**2 + columns**2).clamp_min(1 / max(height, width))
    amplitude /= amplitude.norm()  # so that a rate moves pixels about as far as in "pixels"
    amplitude = amplitude.to(device)
    mixing = torch.tensor(root, dtype=torch.float32, device=device)

    def draw(canvas: Tensor) -> Tensor:
        if parametrisation == "fourier":
            spectrum = torch.view_as_complex(canvas) * amplitude
            canvas = torch.fft.irfft2(spectrum, s=(height, width), norm="forward")
        return torch.sigmoid(torch.einsum("ij,njhw->nihw", mixing, canvas))

    numbers = (height, width // 2 + 1, 2) if parametrisation == "fourier" else (height, width)
    start = START * torch.randn((optima, channels, *numbers), generator=generator).to(device)
    start = start.repeat(count, *[1] * (start.ndim - 1))
    if begin is not None:
        logit = torch.tensor(begin, device=device).float().clamp(0.02, 0.98).logit()
        canvas = torch.einsum("ij,njhw->nihw", torch.linalg.pinv(mixing), logit)
        if parametrisation == "fourier":
            canvas = torch.view_as_real(torch.fft.rfft2(canvas, norm="forward") / amplitude)
        start = start + canvas
    return start.requires_grad_(), draw


def _shaken(images: Tensor, generator: torch.Generator) -> Tensor:
    """All images, shifted, turned and zoomed by the same draw."""
    draw = 2 * torch.rand(4, generator=generator) - 1
    turn, zoom = math.radians(TURN) * draw[0], 1 + ZOOM * draw[1]
    cos, sin = zoom * torch.cos(turn), zoom * torch.sin(turn)
    height, width = images.shape[2:]
    right, down = 2 * JITTER / width * draw[2], 2 * JITTER / height * draw[3]  # of half the side
    theta = torch.stack([cos, -sin, right, sin, cos, down]).view(1, 2, 3)
    grid = F.affine_grid(theta.to(images), (1, 1, height, width), align_corners=False)
    stack = images.reshape(1, -1, height, width)  # one grid serves all
    moved = F.grid_sample(stack, grid, padding_mode="border", align_corners=False)
    return moved.view_as(images)


def _scores(maps: Tensor, directions: Tensor, where, slope: float) -> Tensor:
    """Response of each direction (N, K) in its maps (N, K, h, w) as one number, (N,)."""
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


class _Enough(Exception):
    """Ends a pass once the layer has been seen."""


@contextmanager
def _tapped(model: nn.Module, layer: str) -> Iterator:
    """Yields a function from images to the layer's maps before and after the ReLU it ends in (the
    same twice if it ends otherwise), (N, K, h, w) each; the rest of the network is not run."""
    seen: dict[str, Tensor] = {}

    def before(_: nn.Module, inputs: tuple) -> tuple:
        seen["before"] = inputs[0]
        return (inputs[0].clone(),)  # which the ReLU may overwrite

    def after(output: Tensor) -> None:
        seen["after"] = output
        raise _Enough

    def look(images: Tensor) -> tuple[Tensor, Tensor]:
        seen.clear()
        with suppress(_Enough):
            ask(images)
        output = seen["after"]
        pre = seen.get("before", output)
        ends_in_relu = pre.shape == output.shape and torch.equal(pre.detach().relu(), output)
        pre, output = (as_maps(x, layer).float() for x in (pre, output))
        return pre if ends_in_relu else output, output

    with ExitStack() as stack:
        ask = stack.enter_context(asked(model))
        for part in find_layer(model, layer).modules():
            if isinstance(part, nn.ReLU):
                stack.enter_context(part.register_forward_pre_hook(before))
        stack.enter_context(hooked(model, layer, after))
        yield look
