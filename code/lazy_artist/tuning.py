"""What is a unit tuned to, and what does its loss do? Measured, without any drawing.

A channel's *activation* on an image is, throughout, the spatial mean of its map in the layer's
output, after the ReLU.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lazy_artist.canvas import COLOUR_NAMES, N_CLASSES, PALETTE, Split, paint, split_digits
from lazy_artist.evaluate import balanced
from lazy_artist.forward import as_logits, as_maps, asked, batches, hooked
from lazy_artist.gradcam import check_inputs
from lazy_artist.interface import Array, check_classes, public

BATCH = 128  # images a pass
LABELS = ("colour", "shape", "mixed", "unexplained", "dead")
DOMINANT = 2 / 3  # a unit is labelled by the factor with this share of what factors explain
LEVEL = 0.01  # and only where that factor is told from the permutation null at this level
FLOOR = 0.1  # and explains at least this share of the variance; fixed before anything was labelled
DRIVES = 0.4  # of the way from the lowest to the highest cell: below the half that one of two gives
NEIGHBOURS = math.sqrt(3) / 3  # colours nearer than a third of the RGB cube's diagonal: one family


@public
def activations(model: nn.Module, layers: Sequence[str], images: Array) -> dict[str, Array]:
    """Activations float32 (N, K) by layer, of images (N, C, H, W), in one pass. Raises ValueError
    for no images, and layers that do not run once or give neither maps nor vectors."""
    images, _ = check_inputs(images, 0)
    seen: dict[str, Tensor] = {}  # of one batch

    def keep(output: Tensor, layer: str) -> None:
        seen[layer] = as_maps(output, layer).mean((2, 3)).float().cpu()

    parts = []
    with ExitStack() as stack, torch.inference_mode():
        ask = stack.enter_context(asked(model))
        for layer in layers:
            stack.enter_context(hooked(model, layer, functools.partial(keep, layer=layer)))
        for part in batches(images, BATCH):
            ask(part)
            parts.append(dict(seen))
    return {layer: torch.cat([part[layer] for part in parts]).numpy() for layer in layers}


def colour_grid(name: str, n_per_class: int, seed: int) -> Split:
    """The first images of every digit of a split, each in all ten colours on the same background,
    colour by colour."""
    grey, labels = balanced(*split_digits(name), n_per_class)
    images = [paint(grey, np.full(len(grey), k), seed) for k in range(N_CLASSES)]
    colours = np.arange(N_CLASSES).repeat(len(grey))
    return Split(np.concatenate(images), np.tile(labels, N_CLASSES), colours)


@public
def cell_means(grid: Array, labels: Array) -> Array:
    """Mean activation float64 (K, 10 digits, 10 colours) of a grid as `tuning` takes it."""
    return _by_digit(grid, labels).mean(1).transpose(2, 0, 1)


@public
def tuning(grid: Array, labels: Array, permutations: int = 199, seed: int = 0) -> pd.DataFrame:
    """What each channel's activation goes with: a row a channel.

    grid: activations (10 colours, N, K), >= 0, on a `colour_grid`; labels: int (N,), equally many
    of each digit.

    digit, colour, interaction: eta squared, a factor's sum of squares over the total's (two-way
    analysis of variance); what is missing to 1 differs within cells. digit_selectivity,
    colour_selectivity: (best - mean of others) / (best + mean of others) of the ten marginal means
    (Morcos et al. 2018, arXiv:1803.06959). p_…: (1 + shuffles that reach the value) / (1 +
    permutations); for colour (and for the interaction, on the residuals of the additive fit) the
    colours are shuffled within each digit image, for digit the labels among the images. A channel
    that never varies has eta squared 0 and p 1.

    Raises ValueError for arrays that do not fit, unequal digits, and negative activations.
    """
    data = _by_digit(grid, labels)
    n_each = data.shape[1]
    cells = data.mean(1)  # (10 digits, 10 colours, K)
    mean = cells.mean((0, 1))
    digit, colour = cells.mean(1), cells.mean(0)  # (10, K) each
    additive = digit[:, None] + colour[None] - mean
    total = np.square(data - mean).mean((0, 1, 2))

    def eta(effect: np.ndarray) -> np.ndarray:
        """Mean square of deviations (..., levels, K) over the total: (..., K)."""
        square = np.square(effect).mean(-2)
        return np.divide(square, total, out=np.zeros_like(square), where=total > 1e-12 * mean**2)

    def selectivity(marginal: np.ndarray) -> np.ndarray:
        best = marginal.max(-2)
        rest = (marginal.sum(-2) - best) / (N_CLASSES - 1)
        return np.divide(best - rest, best + rest, out=np.zeros_like(best), where=best > 0)

    def measure(colour: np.ndarray, digit: np.ndarray, rest: np.ndarray) -> dict[str, np.ndarray]:
        """Of marginal means (..., 10, K) and what they leave of the cells (..., 100, K)."""
        return {
            "colour": eta(colour - mean),
            "digit": eta(digit - mean),
            "interaction": eta(rest),
            "colour_selectivity": selectivity(colour),
            "digit_selectivity": selectivity(digit),
        }

    values = measure(colour, digit, (cells - additive).reshape(N_CLASSES * N_CLASSES, -1))
    rng = np.random.default_rng(seed)
    reached = {name: np.ones(len(mean)) for name in values}
    by_image = data.mean(2).reshape(N_CLASSES * n_each, -1)  # (N, K)
    rest = (data - additive[:, None]).reshape(N_CLASSES, n_each * N_CLASSES, -1)
    flat = data.reshape(N_CLASSES, n_each * N_CLASSES, -1)
    digits = np.arange(N_CLASSES)
    for start in range(0, permutations, 20):
        n = min(20, permutations - start)
        # colours shuffled in each image, as 0/1 weights (10 digits, n * 10 colours, images x 10)
        colours = rng.permuted(np.tile(digits, (n, N_CLASSES, n_each, 1)), axis=-1)
        weights = colours[:, None] == digits[None, :, None, None, None]
        weights = weights.transpose(2, 0, 1, 3, 4).reshape(N_CLASSES, n * N_CLASSES, -1) / n_each
        shuffled = (weights @ flat).mean(0).reshape(n, N_CLASSES, -1)  # colour marginals
        residual = (weights @ rest).reshape(N_CLASSES, n, N_CLASSES, -1).swapaxes(0, 1)
        residual = residual - residual.mean(1, keepdims=True)  # no colour has an effect left
        # labels shuffled among images
        labelled = rng.permuted(np.tile(digits.repeat(n_each), (n, 1)), axis=1)
        chosen = labelled[:, None] == digits[None, :, None]  # (n, 10, N)
        means = (chosen.reshape(n * N_CLASSES, -1) / n_each @ by_image).reshape(n, N_CLASSES, -1)
        null = measure(shuffled, means, residual.reshape(n, N_CLASSES * N_CLASSES, -1))
        for name, value in values.items():
            reached[name] += (null[name] >= value - 1e-12).sum(0)
    p = {f"p_{name}": count / (1 + permutations) for name, count in reached.items()}
    return pd.DataFrame(values | p)


def _by_digit(grid: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The grid (10 colours, N, K) ordered by digit: (10 digits, images of each, 10 colours, K)."""
    grid, labels = np.asarray(grid, dtype=np.float64), np.asarray(labels)
    if grid.ndim != 3 or grid.shape[:2] != (N_CLASSES, len(labels)):
        raise ValueError(
            f"grid must have shape ({N_CLASSES} colours, {len(labels)} labels, K), not {grid.shape}"
        )
    counts = np.bincount(labels, minlength=N_CLASSES)
    if len(counts) != N_CLASSES or len(set(counts)) != 1:
        raise ValueError(f"the grid must hold equally many of each digit, not {counts.tolist()}")
    if not (np.isfinite(grid).all() and grid.min(initial=0) >= 0):
        raise ValueError("activations must be finite and >= 0: take them after the ReLU")
    grid = grid[:, np.argsort(labels, kind="stable")]
    return grid.reshape(N_CLASSES, N_CLASSES, int(counts[0]), -1).transpose(1, 2, 0, 3)


@public
def things(cells: Array, near_digits: Array | None = None) -> list[list[tuple[str, list[int]]]]:
    """Polysemanticity: the separate things that drive each channel, none for a flat one.

    cells: mean activation (K, 10 digits, 10 colours); near_digits: bool (10, 10), the digits that
    count as neighbours (`neighbouring_digits`), by default none. A cell *drives* if it lies more
    than `DRIVES` of the way up from the lowest to the highest. One thing is a family of digits (in
    whatever colour), ("digit", members), or a family of colours (on whatever digit), ("colour",
    members): those that are neighbours, or have neighbours between them that drive too. Colours
    are if their RGB differ by less than `NEIGHBOURS`. The things are the fewest that hold all
    driving cells, and of such those that hold the fewest others: one for a detector of warm
    colours, of threes or of red threes; two for one of red and green, or of red and threes.
    """
    low, high = cells.min((1, 2), keepdims=True), cells.max((1, 2), keepdims=True)
    driving = (cells > low + DRIVES * (high - low)) & (high > low)  # (K, digits, colours)
    near = (np.eye(N_CLASSES) if near_digits is None else near_digits), _near_colours()
    subsets = (np.arange(2**N_CLASSES)[:, None] >> np.arange(N_CLASSES)) & 1 == 1  # (1024, 10)
    digits, colours = (_families(table.astype(bool).tobytes()) for table in near)
    sizes, of_digits, of_colours = (
        subsets.sum(1),
        *(np.array([len(groups) for groups in families]) for families in (digits, colours)),
    )
    bits = (driving << np.arange(N_CLASSES)).sum(2)  # (K, digits): the colours that drive, packed
    found = []
    for row in bits:
        # a subset of the digits that drive is covered by them; the others' colours need covering
        needed = np.bitwise_or.reduce(np.where(subsets, 0, row), axis=1)  # (1024,)
        covered = N_CLASSES * sizes + (N_CLASSES - sizes) * sizes[needed]
        allowed = ~(subsets & (row == 0)).any(1)
        cost = np.where(allowed, of_digits + of_colours[needed] + covered / 1000, np.inf)
        best = cost.argmin()
        families = ("digit", digits[best]), ("colour", colours[needed[best]])
        found.append([(kind, group) for kind, groups in families for group in groups])
    return found


def neighbouring_digits() -> np.ndarray:
    """Bool (10, 10): of the 45 pairs of digits as many as there are pairs of neighbouring colours,
    those whose mean training images are nearest. So a family of digits is as wide as one of colours
    when things are counted."""
    grey, labels = split_digits("train")
    means = np.stack([grey[labels == digit].mean(0).ravel() for digit in range(N_CLASSES)])
    distance = np.linalg.norm(means[:, None] - means, axis=2)
    np.fill_diagonal(distance, np.inf)
    near = _near_colours()
    return distance <= np.sort(distance, axis=None)[near.sum() - len(near) - 1]


def _near_colours() -> np.ndarray:
    return np.linalg.norm(PALETTE[:, None] - PALETTE, axis=2) < NEIGHBOURS


@functools.cache
def _families(near: bytes) -> list[list[list[int]]]:
    """Of each of the 1024 subsets of ten, bit by bit, its connected groups, where `near` says which
    are joined: the bytes of a bool (10, 10)."""
    from scipy.sparse.csgraph import connected_components  # slow to import

    table, found = np.frombuffer(near, bool).reshape(N_CLASSES, N_CLASSES), []
    for subset in range(2**N_CLASSES):
        members = np.flatnonzero((subset >> np.arange(N_CLASSES)) & 1)
        count, group = connected_components(table[members][:, members])
        found.append([members[group == k].tolist() for k in range(count)])
    return found


def label(
    tuned: pd.DataFrame, cells: np.ndarray, alive: np.ndarray, floor: float = FLOOR
) -> pd.DataFrame:
    """What each channel responds to, by rule: a row a channel, with its label, one of `LABELS`, and
    what it prefers, if "colour" or "shape": the levels above the middle of its marginal means,
    strongest first, such as "red, orange"; "all but …" if they are more than half.

    tuned: what `tuning` found; cells: as of `cell_means`; alive: bool (K,), whether the channel was
    ever active. The rule is that of `label_units`.
    """
    kinds = _by_rule(tuned, np.asarray(alive), floor)
    prefers = [""] * len(kinds)
    for kind, axis, names in (("colour", 0, COLOUR_NAMES), ("shape", 1, "0123456789")):
        for k in np.flatnonzero(kinds == kind):
            marginal = cells[k].mean(axis)
            above = marginal > (marginal.min() + marginal.max()) / 2
            if few := above.sum() <= N_CLASSES / 2:
                marginal = -marginal
            named = ", ".join(names[i] for i in np.argsort(marginal) if above[i] == few)
            prefers[k] = named if few else f"all but {named}"
    return pd.DataFrame({"label": kinds.tolist(), "prefers": prefers})


@public
def label_units(
    values: Array, colours: Array, labels: Array, images: Array | None = None,
    seed: int = 0, permutations: int = 199, floor: float = FLOOR,
) -> pd.DataFrame:  # fmt: skip
    """What each of K units goes with on any set of images, balanced or not: a row a unit, with its
    label, one of `LABELS`; digit, colour and interaction, eta squared (what the 100 cells of digit
    and colour explain beyond the two); and p_digit, p_colour and p_interaction, as in `tuning`.

    values: (N, K), >= 0 where a unit is to count as dead if it never is above; colours, labels: int
    (N,), 0 to 9; images: int (N,), the digit image that each row is a painting of. Where it is
    given, colours are shuffled among the paintings of an image and labels among images, as on a
    `colour_grid`; by default every row is an image of its own and both are shuffled among all. For
    the interaction both are shuffled at once.

    The rule: the statistic of a unit is the eta squared of colour if that is at least `DOMINANT` of
    what digit, colour and interaction explain together, likewise that of digit, else all three. It
    gives the label "colour", "shape" or "mixed" if it is at least `floor` and its p (of all three,
    the smallest) is below `LEVEL`; else the unit is "unexplained". Raises ValueError for arrays
    that do not fit.
    """
    values = np.asarray(values, np.float64)
    count = len(values)
    colours, labels = (
        check_classes(part, count, name)
        for part, name in ((colours, "colours"), (labels, "labels"))
    )
    _, first, of_row = np.unique(
        np.arange(count) if images is None else images, return_index=True, return_inverse=True
    )
    if values.ndim != 2 or len(of_row) != count or (labels[first][of_row] != labels).any():
        raise ValueError("values must be (N, K), and all paintings of an image have its label")
    centred = values - values.mean(0)
    total = np.square(centred).sum(0)

    def eta(classes: np.ndarray) -> np.ndarray:
        """(K,): sum of squares between classes over the total's."""
        counts = np.maximum(np.bincount(classes, minlength=N_CLASSES), 1)
        inside = np.arange(len(counts))[:, None] == classes
        square = (np.square(inside @ centred) / counts[:, None]).sum(0)
        return np.divide(square, total, out=np.zeros_like(square), where=total > 1e-12)

    def measure(colours: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        digit, colour = eta(labels), eta(colours)
        beyond = np.maximum(eta(N_CLASSES * labels + colours) - digit - colour, 0)
        return {"digit": digit, "colour": colour, "interaction": beyond}

    rng, found = np.random.default_rng(seed), measure(colours, labels)
    reached = {name: np.ones(len(total)) for name in found}
    for _ in range(permutations):
        shuffled = colours[rng.permutation(count)]
        if images is not None:  # among the rows of each image
            shuffled = np.empty_like(colours)
            shuffled[np.argsort(of_row, kind="stable")] = colours[
                np.lexsort((rng.random(count), of_row))
            ]
        null = measure(shuffled, rng.permutation(labels[first])[of_row])
        for name, value in found.items():
            reached[name] += null[name] >= value - 1e-12
    found |= {f"p_{name}": times / (1 + permutations) for name, times in reached.items()}
    frame = pd.DataFrame(found)
    return frame.assign(label=_by_rule(frame, values.max(0) > 0, floor))


def _by_rule(tuned: pd.DataFrame, alive: np.ndarray, floor: float) -> np.ndarray:
    """Labels (K,), by the rule of `label_units`."""
    parts = tuned[["colour", "digit", "interaction"]].to_numpy()
    levels = tuned[["p_colour", "p_digit", "p_interaction"]].to_numpy()
    explained = parts.sum(1)
    dominates = parts[:, :2] >= DOMINANT * np.maximum(explained, 1e-12)[:, None]
    kind = np.select(list(dominates.T), [0, 1], 2)
    rows = np.arange(len(parts))
    size = np.column_stack([parts[:, :2], explained])[rows, kind]
    level = np.column_stack([levels[:, :2], levels.min(1)])[rows, kind]
    told = np.where((size >= floor) & (level < LEVEL), kind, 3)
    return np.where(alive, np.array(LABELS)[told], "dead")


@public
def ablated_logits(
    model: nn.Module, layer: str, images: Array, sets: Array, fill: Array | float = 0
) -> Array:
    """Logits float32 (C, N, 10) with each of C sets of a layer's channels ablated in turn.

    sets: bool (C, K), the channels to ablate; fill: what stands in their maps instead, at every
    place: 0 (zero ablation) or one value a channel (K,), such as its mean activation (mean
    ablation), which disturbs less. Raises as `activations` does, and for sets or fill that do not
    fit the layer.
    """
    images, _ = check_inputs(images, 0)
    width = activations(model, [layer], images[:1])[layer].shape[1]
    sets, fill = np.asarray(sets), np.asarray(fill, dtype=np.float32)
    if sets.dtype != bool or sets.ndim != 2 or sets.shape[1] != width or not len(sets):
        raise ValueError(f"sets must be bool (C, {width}), not {sets.dtype} {sets.shape}")
    if fill.shape not in ((), (width,)):
        raise ValueError(f"fill must be one number or one for each of {width} channels")
    away = torch.from_numpy(sets)[:, None, :, None, None]  # (C, 1, K, 1, 1)
    instead = torch.from_numpy(np.broadcast_to(fill, (width,)).copy())[:, None, None]

    def ablate(output: Tensor) -> Tensor:
        maps = as_maps(output, layer)[None]  # (1, n, K, h, w)
        ablated = torch.where(away.to(maps.device), instead.to(maps), maps)
        return ablated.reshape(-1, *output.shape[1:])

    parts = []
    with asked(model) as ask, hooked(model, layer, ablate), torch.inference_mode():
        for part in batches(images, max(1, 2 * BATCH // len(sets))):
            logits = as_logits(ask(part), len(sets) * len(part)).cpu()
            parts.append(logits.unflatten(0, (len(sets), len(part))))
    return torch.cat(parts, dim=1).numpy()
