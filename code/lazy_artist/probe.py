"""What do the neurons see? Feature visualisation from first principles, tuning, and ablation.

A *channel* is one map of a convolutional layer. It is shown by the image that excites it most
(`visualise`), measured by what it answers to digits and inks that are crossed (`tuning`), and
tested by taking it away (`ablated_logits`). A channel's activation on an image is, throughout, the
*spatial mean* of its map in the layer's output, after the ReLU: what a network that ends in global
average pooling reads of its last layer.

Networks are called in eval mode, on the processor; their parameters, gradients and hooks are left
as they were. Images are float32 (N, 3, 28, 28) in [0, 1].
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import CLASSES, COLOUR_NAMES, PALETTE
from lazy_artist.evaluate import check_images

SIDE = 28  # pixels
BATCH = 128  # images a pass, whose maps stay in the processor's cache; results do not hang on it
START = 0.5  # standard deviation of the noise to start from, before the sigmoid
LEAK = 0.1  # slope of the score where a ReLU is shut, so that a silent channel can be woken
JITTER, TURN, ZOOM = 1.5, 5.0, 0.05  # robustness: pixels, degrees, share of the size, either way
PARAMETRISATIONS = ("fourier", "pixels")
LABELS = ("colour", "shape", "mixed", "dead")
DOMINANT = 2 / 3  # a channel is labelled by the factor with this share of what factors explain
DRIVES = 0.4  # of the way from the lowest to the highest cell: below the half that one of two gives
LEVEL = 0.01  # and only where that factor is told from the permutation null at this level
NEIGHBOURS = math.sqrt(3) / 3  # inks nearer than a third of the RGB cube's diagonal: one family


# --- feature visualisation -----------------------------------------------------------------------


class Optima(NamedTuple):
    """images: float32 (M, optima, 3, 28, 28) in [0, 1]. scores: float32 (M, optima), what each
    image as it stands gives in its direction, in the layer's own output (after its ReLU)."""

    images: np.ndarray
    scores: np.ndarray


def colour_root(images: np.ndarray) -> np.ndarray:
    """The symmetric square root float32 (3, 3) of the covariance of RGB over all pixels of images,
    scaled so that its largest column has length 1: by it `visualise` decorrelates colours (Olah et
    al. 2017, doi:10.23915/distill.00007, who take that of ImageNet)."""
    check_images(images)
    pixels = images.transpose(1, 0, 2, 3).reshape(3, -1)
    values, vectors = np.linalg.eigh(np.cov(pixels.astype(np.float64)))
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return (root / max(np.linalg.norm(root, axis=0).max(), 1e-12)).astype(np.float32)


def visualise(
    model: nn.Module,
    layer: str,
    directions: np.ndarray | None = None,
    *,
    where: str | tuple[int, int] = "mean",
    optima: int = 1,
    diversity: float = 0.5,
    steps: int = 96,
    learning_rate: float = 0.3,
    parametrisation: str = "fourier",
    root: np.ndarray | None = None,
    robust: bool = True,
    seed: int = 0,
    batch: int = BATCH,
) -> Optima:
    """Images that excite directions of a layer most, by gradient ascent on the image (Simonyan et
    al. 2014, arXiv:1312.6034; Olah et al. 2017, doi:10.23915/distill.00007). All are optimised
    together, and each comes out as it would alone.

    layer: a name in `dict(model.named_modules())` whose output is maps (N, K, h, w) or a vector
        (N, K); the network's head for logits.
    directions: (M, K), a row for each image wanted: a unit row for a channel, its negative for what
        silences it, any other for a combination; by default all K channels.
    where: the score is the direction's response averaged over the map ("mean"), its largest value
        ("max"; the ascent starts from the mean and goes over to it in the first half, lest it stay
        where the start happened to be largest), or that at one unit (row, column).
    optima: images a direction, started apart and kept apart by `diversity` times the mean cosine
        similarity of their Gram matrices in the layer, relative to the score.
    parametrisation: "pixels", or "fourier", where the amplitude of each frequency f is divided by
        f, so that coarse structure moves first, as in natural images (Olah et al. 2017).
    root: an image is the sigmoid of `root @ canvas`, so with the `colour_root` of our data the
        three numbers that the optimiser sees at a pixel are uncorrelated there; by default they are
        red, green and blue. The start is grey with coarse noise of standard deviation `START`: from
        a flat start some channels of deep networks are never reached.
    robust: at each step the images are shifted, turned and zoomed a little (`JITTER`, `TURN`,
        `ZOOM`), all by the same draw, so that no optimum hangs on single pixels.

    Where the layer ends in a ReLU, the score is taken before it, with what lies below zero scaled
    by `LEAK`: a silent channel would have no gradient otherwise. The scores returned are after it.

    Raises ValueError for a layer that does not exist (the message lists those that do), never runs
    or gives neither maps nor vectors; for directions, a place or settings that do not fit; and a
    model in train mode.
    """
    _check_model(model)
    _check_settings(optima, steps, parametrisation)
    width, grid = _layer_shape(model, layer)
    directions = _check_directions(directions, width, layer)
    _check_place(where, grid, layer)
    parts = [
        _ascend(model, layer, part, where, optima, diversity, steps, learning_rate,
                parametrisation, root, robust, seed)
        for part in torch.from_numpy(directions).split(max(1, batch // optima))
    ]  # fmt: skip
    images, scores = (torch.cat(tensors).numpy() for tensors in zip(*parts, strict=True))
    return Optima(images, scores)


def _ascend(
    model, layer, directions, where, optima, diversity, steps, learning_rate, parametrisation,
    root, robust, seed,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The images (M, optima, 3, 28, 28) and scores (M, optima) of one batch of directions."""
    generator = torch.Generator().manual_seed(seed)
    count = len(directions)
    repeated = directions.repeat_interleave(optima, 0)  # (M * optima, K)
    canvas, draw = _canvas(parametrisation, count, optima, root, generator)
    optimiser = torch.optim.Adam([canvas], learning_rate)
    with torch.inference_mode(False), torch.enable_grad(), _tapped(model, layer) as look:
        for step in range(steps):
            rate = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimiser.param_groups[0]["lr"] = rate
            images = draw(canvas)
            before, after = look(_shaken(images, generator) if robust else images)
            loss = -_scores(before, repeated, where, LEAK)
            if where == "max" and step < steps // 2:
                share = step / (steps // 2)
                loss = share * loss - (1 - share) * _scores(before, repeated, "mean", LEAK)
            if optima > 1:
                alike = _likeness(after.unflatten(0, (count, optima)))
                loss = loss + diversity * loss.detach().abs() * alike.flatten()
            (canvas.grad,) = torch.autograd.grad(loss.sum(), canvas)
            optimiser.step()
        with torch.no_grad():
            images = draw(canvas)
            scores = _scores(look(images)[1], repeated, where, None)
    return (
        images.contiguous().unflatten(0, (count, optima)),
        scores.unflatten(0, (count, optima)),
    )


def _canvas(parametrisation, count, optima, root, generator):
    """The parameters of count * optima images, and the function that draws the images from them.

    The start is the same for all directions, and another for each optimum.
    """
    if parametrisation == "fourier":
        rows, columns = torch.fft.fftfreq(SIDE)[:, None], torch.fft.rfftfreq(SIDE)[None]
        frequency = torch.sqrt(rows**2 + columns**2).clamp_min(1 / SIDE)  # (28, 15)
        amplitude = 1 / frequency
        amplitude /= amplitude.norm()  # so that a rate moves pixels about as far as in "pixels"
        shape: tuple[int, ...] = (optima, 3, SIDE, SIDE // 2 + 1, 2)

        def plane(canvas: Tensor) -> Tensor:
            spectrum = torch.view_as_complex(canvas) * amplitude
            return torch.fft.irfft2(spectrum, s=(SIDE, SIDE), norm="forward")
    else:
        shape = (optima, 3, SIDE, SIDE)

        def plane(canvas: Tensor) -> Tensor:
            return canvas

    mixing = torch.eye(3) if root is None else torch.from_numpy(root)

    def draw(canvas: Tensor) -> Tensor:
        return torch.sigmoid(torch.einsum("ij,njhw->nihw", mixing, plane(canvas)))

    start = START * torch.randn(shape, generator=generator)
    return start.repeat(count, *[1] * (len(shape) - 1)).requires_grad_(), draw


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


def _scores(maps: Tensor, directions: Tensor, where, leak: float | None) -> Tensor:
    """Response of each direction (N, K) in its maps (N, K, h, w), reduced to one number: (N,)."""
    if leak is not None:
        maps = F.leaky_relu(maps, leak)
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


# --- tuning --------------------------------------------------------------------------------------


def activations(
    model: nn.Module, layers: Sequence[str], images: np.ndarray, batch: int = BATCH
) -> dict[str, np.ndarray]:
    """Spatial mean of each channel of each layer: float32 (N, K) by layer, of images (N, 3, 28,
    28), in one pass. Raises as `visualise` does, and ValueError for no images."""
    _check_model(model)
    check_images(images)
    if not len(images):
        raise ValueError("there are no images: the batch is empty")
    found: dict[str, list[Tensor]] = {layer: [] for layer in layers}

    def keep(layer: str):
        return lambda module, inputs, output: found[layer].append(_maps(output, layer).mean((2, 3)))

    handles = [_module(model, layer).register_forward_hook(keep(layer)) for layer in layers]
    try:
        with torch.inference_mode():
            for part in torch.from_numpy(images).split(batch):
                model(part.contiguous(memory_format=torch.channels_last))
    finally:
        for handle in handles:
            handle.remove()
    for layer, parts in found.items():
        _check_ran(len(parts), math.ceil(len(images) / batch), layer)
    return {layer: torch.cat(parts).numpy() for layer, parts in found.items()}


class Tuning(NamedTuple):
    """How channels answer to digit and ink; all arrays are float64 (K,) unless said otherwise.

    cells: (K, 10 digits, 10 colours), mean activation. digit, colour, interaction: eta squared,
    their shares of the variance over all images of the grid; what is missing to 1 differs within
    cells. digit_selectivity, colour_selectivity: (best - mean of others) / (best + mean of others)
    of the ten marginal means. p_…: of each of these, against its permutation null.
    """

    cells: np.ndarray
    digit: np.ndarray
    colour: np.ndarray
    interaction: np.ndarray
    digit_selectivity: np.ndarray
    colour_selectivity: np.ndarray
    p_digit: np.ndarray
    p_colour: np.ndarray
    p_interaction: np.ndarray
    p_digit_selectivity: np.ndarray
    p_colour_selectivity: np.ndarray


def tuning(grid: np.ndarray, labels: np.ndarray, permutations: int = 199, seed: int = 0) -> Tuning:
    """What each channel's activation goes with, on the balanced grid: every digit image in all ten
    inks.

    grid: activations (10 colours, N, K), >= 0; labels: int (N,), equally many of each digit.
    Eta squared is a factor's sum of squares over the total's (two-way analysis of variance); the
    selectivity index is that of Morcos et al. (2018, arXiv:1803.06959), for digits and for inks.
    Under the null for colour (and for the interaction, on the residuals of the additive fit) the
    inks are shuffled within each digit image; under that for digit, the labels among the images.
    p = (1 + number of shuffles that reach the value) / (1 + permutations). A channel that never
    varies has eta squared 0 and p 1.

    Raises ValueError for arrays that do not fit, unequal digits, and negative activations.
    """
    grid, labels = np.asarray(grid, dtype=np.float64), np.asarray(labels)
    if grid.ndim != 3 or grid.shape[:2] != (CLASSES, len(labels)):
        raise ValueError(
            f"grid must have shape ({CLASSES} colours, {len(labels)} labels, K), not {grid.shape}"
        )
    counts = np.bincount(labels, minlength=CLASSES)
    if len(counts) != CLASSES or len(set(counts)) != 1:
        raise ValueError(f"the grid must hold equally many of each digit, not {counts.tolist()}")
    if not (np.isfinite(grid).all() and grid.min(initial=0) >= 0):
        raise ValueError("activations must be finite and >= 0: take them after the ReLU")

    each = int(counts[0])
    order = np.argsort(labels, kind="stable")
    # (10 digits, each, 10 colours, K)
    data = grid[:, order].reshape(CLASSES, CLASSES, each, -1).transpose(1, 2, 0, 3)
    cells = data.mean(1)  # (10 digits, 10 colours, K)
    mean = cells.mean((0, 1))
    digit, colour = cells.mean(1), cells.mean(0)  # (10, K) each
    additive = digit[:, None] + colour[None] - mean
    total = np.square(data - mean).mean((0, 1, 2))

    def eta(effect: np.ndarray) -> np.ndarray:
        """Mean square of deviations (..., levels, K) over the total: (..., K)."""
        square = np.square(effect).mean(-2)
        return np.divide(square, total, out=np.zeros_like(square), where=total > 1e-12 * mean**2)

    values = {
        "digit": eta(digit - mean),
        "colour": eta(colour - mean),
        "interaction": eta((cells - additive).reshape(CLASSES * CLASSES, -1)),
        "digit_selectivity": _selectivity(digit),
        "colour_selectivity": _selectivity(colour),
    }

    rng = np.random.default_rng(seed)
    reached = {name: np.ones(len(mean)) for name in values}
    by_image = data.mean(2).reshape(CLASSES * each, -1)  # (N, K)
    rest = (data - additive[:, None]).reshape(CLASSES, each * CLASSES, -1)
    flat = data.reshape(CLASSES, each * CLASSES, -1)
    block = 20  # permutations at a time
    for start in range(0, permutations, block):
        n = min(block, permutations - start)
        # inks shuffled within each image, as 0/1 weights (10 digits, n * 10 colours, images x inks)
        inks = rng.permuted(np.tile(np.arange(CLASSES), (n, CLASSES, each, 1)), axis=-1)
        weights = inks[:, None] == np.arange(CLASSES)[None, :, None, None, None]
        weights = weights.transpose(2, 0, 1, 3, 4).reshape(CLASSES, n * CLASSES, -1) / each
        shuffled = (weights @ flat).mean(0).reshape(n, CLASSES, -1)  # colour marginals
        residual = (weights @ rest).reshape(CLASSES, n, CLASSES, -1).swapaxes(0, 1)
        residual = residual - residual.mean(1, keepdims=True)  # no digit has an effect left
        # labels shuffled among images
        labelled = rng.permuted(np.tile(np.arange(CLASSES).repeat(each), (n, 1)), axis=1)
        chosen = labelled[:, None] == np.arange(CLASSES)[None, :, None]  # (n, 10, N)
        means = (chosen.reshape(n * CLASSES, -1) / each @ by_image).reshape(n, CLASSES, -1)
        null = {
            "digit": eta(means - mean),
            "colour": eta(shuffled - mean),
            "interaction": eta(residual.reshape(n, CLASSES * CLASSES, -1)),
            "digit_selectivity": _selectivity(means),
            "colour_selectivity": _selectivity(shuffled),
        }
        for name, value in values.items():
            reached[name] += (null[name] >= value - 1e-12).sum(0)
    p = {f"p_{name}": count / (1 + permutations) for name, count in reached.items()}
    return Tuning(cells=cells.transpose(2, 0, 1), **values, **p)


def _selectivity(marginal: np.ndarray) -> np.ndarray:
    """Of marginal means (..., levels, K), >= 0: (..., K) in [0, 1]; 0 for a silent channel."""
    best = marginal.max(-2)
    rest = (marginal.sum(-2) - best) / (marginal.shape[-2] - 1)
    return np.divide(best - rest, best + rest, out=np.zeros_like(best), where=best > 0)


def concepts(cells: np.ndarray) -> np.ndarray:
    """Polysemanticity: how many separate things drive a channel, int64 (K,); 0 for a flat one.

    cells: mean activation (K, 10 digits, 10 colours). A cell *drives* if it lies more than `DRIVES`
    of the way up from the lowest to the highest; where two things add up, each alone still does.
    One thing is a digit (in whatever ink) or a family of inks (on whatever digit), where inks whose
    RGB differ by less than `NEIGHBOURS` are of one family, and so are inks with such neighbours
    between them that drive too. The count is the smallest number of things that hold all driving
    cells: 1 for a red detector, for one of warm inks, for one of threes or of red threes; 2 for one
    of red and of green, or of red and of threes.
    """
    low, high = cells.min((1, 2), keepdims=True), cells.max((1, 2), keepdims=True)
    driving = (cells > low + DRIVES * (high - low)) & (high > low)  # (K, digits, colours)
    subsets, families = _ink_families()
    bits = (driving << np.arange(CLASSES)).sum(2)  # (K, digits): the inks that drive, as a number
    # each subset of digits is covered by them; the inks of the other digits need covering
    needed = np.bitwise_or.reduce(np.where(subsets, 0, bits[:, None]), axis=2)  # (K, 1024)
    return (subsets.sum(1) + families[needed]).min(1)


@functools.cache
def _ink_families() -> tuple[np.ndarray, np.ndarray]:
    """All subsets of ten, bool (1024, 10), and how many connected groups of inks each holds, where
    inks are joined if their RGB are near."""
    subsets = (np.arange(2**CLASSES)[:, None] >> np.arange(CLASSES)) & 1 == 1
    near = np.linalg.norm(PALETTE[:, None] - PALETTE, axis=2) < NEIGHBOURS
    counts = []
    for subset in subsets:
        joined = near & subset & subset[:, None]
        reach = np.linalg.matrix_power(joined.astype(int), CLASSES) > 0
        counts.append(len({tuple(row) for row in reach[subset].tolist()}))
    return subsets, np.array(counts)


class Label(NamedTuple):
    """kind: one of `LABELS`. which: the inks or digits that a "colour" or "shape" channel answers
    to, such as "red, orange" or "3"; "" for the others."""

    kind: str
    which: str


def label(tuned: Tuning, alive: np.ndarray) -> list[Label]:
    """What each channel answers to, by rule.

    alive: bool (K,), whether the channel was ever active. A live channel is "colour" if colour has
    at least `DOMINANT` of what digit, colour and interaction explain together, and its eta squared
    is told from the null (p < `LEVEL`); "shape" likewise for digit; else "mixed".
    """
    explained = np.maximum(tuned.digit + tuned.colour + tuned.interaction, 1e-12)
    result = []
    for k, live in enumerate(alive):
        if not live:
            result.append(Label("dead", ""))
        elif tuned.colour[k] >= DOMINANT * explained[k] and tuned.p_colour[k] < LEVEL:
            result.append(Label("colour", _which(tuned.cells[k].mean(0), COLOUR_NAMES)))
        elif tuned.digit[k] >= DOMINANT * explained[k] and tuned.p_digit[k] < LEVEL:
            digits = [str(digit) for digit in range(CLASSES)]
            result.append(Label("shape", _which(tuned.cells[k].mean(1), digits)))
        else:
            result.append(Label("mixed", ""))
    return result


def _which(marginal: np.ndarray, names: Sequence[str]) -> str:
    """The levels above the middle of the marginal means (10,), strongest first; "all but …" if
    they are more than half."""
    above = marginal > (marginal.min() + marginal.max()) / 2
    if above.sum() > len(names) / 2:
        return "all but " + ", ".join(names[i] for i in np.argsort(marginal) if not above[i])
    return ", ".join(names[i] for i in np.argsort(-marginal) if above[i])


# --- ablation ------------------------------------------------------------------------------------


def ablated_logits(
    model: nn.Module,
    layer: str,
    images: np.ndarray,
    sets: np.ndarray,
    fill: np.ndarray | float = 0.0,
    batch: int = 2 * BATCH,
) -> np.ndarray:
    """Logits float32 (C, N, 10) with each of C sets of a layer's channels taken away in turn.

    sets: bool (C, K), the channels to take away; fill: what stands in their maps instead, at every
    place: 0 (zero ablation) or one value a channel (K,), such as its mean activation (mean
    ablation), which disturbs less. What comes before the layer is computed once for all sets.

    Raises as `activations` does, and ValueError for sets or fill that do not fit the layer.
    """
    _check_model(model)
    check_images(images)
    if not len(images):
        raise ValueError("there are no images: the batch is empty")
    width, _ = _layer_shape(model, layer)
    sets, fill = np.asarray(sets), np.asarray(fill, dtype=np.float32)
    if sets.dtype != bool or sets.ndim != 2 or sets.shape[1] != width or not len(sets):
        raise ValueError(
            f"sets must be bool (C, {width}), a row for each ablation of {layer!r}, not "
            f"{sets.dtype} {sets.shape}"
        )
    if fill.shape not in ((), (width,)):
        raise ValueError(f"fill must be one number or one for each of {width} channels")
    away = torch.from_numpy(sets)[:, None, :, None, None]  # (C, 1, K, 1, 1)
    instead = torch.from_numpy(np.broadcast_to(fill, (width,)).copy())[:, None, None]

    def ablate(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        maps = _maps(output, layer)[None]  # (1, n, K, h, w)
        changed = torch.where(away, instead, maps).flatten(0, 1)
        return changed.reshape(-1, *output.shape[1:])

    parts = []
    handle = _module(model, layer).register_forward_hook(ablate)
    try:
        with torch.inference_mode():
            for part in torch.from_numpy(images).split(max(1, batch // len(sets))):
                part = part.contiguous(memory_format=torch.channels_last)
                parts.append(model(part).unflatten(0, (len(sets), len(part))))
    finally:
        handle.remove()
    return torch.cat(parts, dim=1).numpy()


# --- within --------------------------------------------------------------------------------------


class _Enough(Exception):
    """Ends a pass once the layer has been seen."""


@contextmanager
def _tapped(model: nn.Module, layer: str) -> Iterator:
    """Yields a function from images to the layer's maps before and after the ReLU it ends in (the
    same twice if it ends otherwise), (N, K, h, w) each; the rest of the network is not run."""
    module = _module(model, layer)
    seen: dict[str, Tensor] = {}

    def before(relu: nn.Module, inputs: tuple) -> tuple:
        seen["before"] = inputs[0]
        return (inputs[0].clone(),)  # which the ReLU may overwrite

    def after(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        seen["after"] = output
        raise _Enough

    relus = [part for part in module.modules() if isinstance(part, nn.ReLU)]
    handles = [relu.register_forward_pre_hook(before) for relu in relus]
    handles.append(module.register_forward_hook(after))

    def look(images: Tensor) -> tuple[Tensor, Tensor]:
        seen.clear()
        with suppress(_Enough):
            model(images.contiguous(memory_format=torch.channels_last))
        _check_ran(int("after" in seen), 1, layer)
        output = seen["after"]
        pre = seen.get("before", output)
        ends_in_relu = pre.shape == output.shape and torch.equal(pre.detach().relu(), output)
        return _maps(pre if ends_in_relu else output, layer), _maps(output, layer)

    try:
        yield look
    finally:
        for handle in handles:
            handle.remove()


def _maps(output: Tensor, layer: str) -> Tensor:
    """A layer's output as maps (N, K, h, w); a vector's (N, K) are of one pixel."""
    if not isinstance(output, Tensor) or output.ndim not in (2, 4):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"layer {layer!r} must give maps (N, K, h, w) or (N, K), not {shape}")
    return output if output.ndim == 4 else output[:, :, None, None]


def _module(model: nn.Module, layer: str) -> nn.Module:
    modules = dict(model.named_modules())
    del modules[""]
    if layer not in modules:
        raise ValueError(f"no layer {layer!r}: the model has {', '.join(modules) or 'no layers'}")
    return modules[layer]


def _layer_shape(model: nn.Module, layer: str) -> tuple[int, tuple[int, int]]:
    """Channels and map size of a layer."""
    with torch.no_grad(), _tapped(model, layer) as look:
        maps = look(torch.zeros(1, 3, SIDE, SIDE))[1]
    return maps.shape[1], (maps.shape[2], maps.shape[3])


def _check_model(model: nn.Module) -> None:
    if any(module.training for module in model.modules()):
        raise ValueError(
            "the model is in train mode, where images of a batch meet and units drop out: call "
            "model.eval() first"
        )


def _check_ran(times: int, passes: int, layer: str) -> None:
    if times < passes:
        raise ValueError(f"layer {layer!r} never runs when the model is called on images")
    if times > passes:
        raise ValueError(f"layer {layer!r} runs more than once in a pass: name one that runs once")


def _check_settings(optima: int, steps: int, parametrisation: str) -> None:
    for name, value in (("optima", optima), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    if parametrisation not in PARAMETRISATIONS:
        raise ValueError(
            f"unknown parametrisation {parametrisation!r}: choose one of "
            f"{', '.join(PARAMETRISATIONS)}"
        )


def _check_directions(directions: np.ndarray | None, width: int, layer: str) -> np.ndarray:
    if directions is None:
        return np.eye(width, dtype=np.float32)
    directions = np.asarray(directions, dtype=np.float32)
    if directions.ndim != 2 or directions.shape[1] != width or not len(directions):
        raise ValueError(
            f"directions must have shape (M, {width}), one number for each channel of {layer!r}, "
            f"not {directions.shape}"
        )
    return directions


def _check_place(where: str | tuple[int, int], grid: tuple[int, int], layer: str) -> None:
    if where in ("mean", "max"):
        return
    if isinstance(where, str) or len(where) != 2:
        raise ValueError(f'where must be "mean", "max" or (row, column), not {where!r}')
    if not all(0 <= place < size for place, size in zip(where, grid, strict=True)):
        raise ValueError(f"unit {tuple(where)} lies outside the maps of {layer!r}, {grid}")
