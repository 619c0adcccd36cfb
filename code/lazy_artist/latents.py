"""What latents tell, and what they do: parts of a network's last maps, read by its linear head.

Where a linear head reads the mean over places, logits are a sum over *parts* of the maps: latents
of an autoencoder, channels, principal directions. Part k adds its mean over places times its
*effect*, the ten logits of a unit of it. Ablating and scaling parts are therefore matrix products,
also if a part has a scale of its own in each *cell* (a rectangle of places).

Shapes: parts (N, K) of N images, dense or sparse; effect (K, 10); scales (K,); logits (N, 10).
Several sets of images are passed together as dictionaries, set -> array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.special import log_softmax
from torch import Tensor, nn

from lazy_artist import tuning
from lazy_artist.canvas import COLOUR_NAMES, N_CLASSES, Split
from lazy_artist.forward import Rewrite, as_logits, as_maps, as_tensor, asked, hooked
from lazy_artist.interface import Array, check_classes, check_images, public
from lazy_artist.sae import SparseAutoencoder, rewritten

LEVELS = ("zeroed", "mean", "balanced")  # at which ablated parts are held
BATCH = 50  # images whose latents stay in a core's cache
Sets = dict[str, np.ndarray]


def activations(model: nn.Module, layer: str, images: np.ndarray) -> Iterator[Tensor]:
    """Yields a layer's activations (n, places, W), on the model's device, in batches of images
    (N, C, H, W). What the head reads, the layer "pooled", has one place."""
    seen: list[Tensor] = []

    def look(x: Tensor) -> None:
        rows = as_maps(x, layer).movedim(1, -1).flatten(1, 2)
        seen.append(rows.to(torch.float32, copy=True))

    for part in as_tensor(check_images(images)).split(BATCH):
        with asked(model, channels_last=False) as ask, hooked(model, layer, look), torch.no_grad():
            ask(part)
        yield seen.pop()


@public
def sample_activations(
    model: nn.Module, layer: str, images: Array, n_places: int, seed: int
) -> Tensor:
    """Activations (N * n_places, W), a tensor, at random places, each once in an image."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for maps in activations(model, layer, images):
        maps = maps.cpu()
        where = torch.rand(maps.shape[:2], generator=generator).argsort(1)[:, :n_places]
        parts.append(maps.gather(1, where[:, :, None].expand(-1, -1, maps.shape[2])).flatten(0, 1))
    return torch.cat(parts)


@public
def rewritten_logits(model: nn.Module, layer: str, images: Array, rewrite: Rewrite) -> Tensor:
    """Logits (N, K), a tensor, with a layer's activations rewritten as `sae.rewritten` does."""
    parts = as_tensor(check_images(images)).split(250)
    change = rewritten(model, layer, rewrite)
    with asked(model, channels_last=False) as ask, change, torch.inference_mode():
        return torch.cat([as_logits(ask(part), len(part)).cpu() for part in parts])


@public
def mean_latents(model: nn.Module, layer: str, images: Array, sae: SparseAutoencoder) -> Array:
    """Latents (N, L) of images, each the mean over a layer's places."""
    with torch.no_grad():
        parts = [
            sae.encode(maps.flatten(0, 1)).view(*maps.shape[:2], -1).mean(1)
            for maps in activations(model, layer, images)
        ]
    return torch.cat(parts).cpu().numpy()


@public
def loss_recovered(
    model: nn.Module, layer: str, sae: SparseAutoencoder, mean: Array, split: Split
) -> float:
    """(L_mean - L_spliced) / (L_mean - L), where L is the network's cross-entropy on a split,
    L_spliced that with x' in the place of x, and L_mean that with the layer's mean activation (W,)
    at all places: 1 is lossless, 0 no better than knowing nothing of the image."""
    labels = torch.from_numpy(check_classes(split.labels, len(split.images), "labels", None))
    losses, mean = [], torch.tensor(mean)
    for rewrite in (
        lambda a: a,
        lambda a: sae.decode(sae.encode(a)),
        lambda a: mean.to(a).expand_as(a),
    ):
        logits = rewritten_logits(model, layer, split.images, rewrite)
        losses.append(float(F.cross_entropy(logits, labels)))
    plain, spliced, blind = losses
    return (blind - spliced) / (blind - plain)


def cell_weights(cuts: Sequence[int]) -> Tensor:
    """What sums the places of a square map into cells, over their number, so that the cells add up
    to the map's mean: (cells, places). cuts: where rows and columns are cut, from 0 to the side."""
    band = torch.eye(len(cuts) - 1).repeat_interleave(torch.tensor(cuts).diff(), dim=1)
    return torch.kron(band, band) / cuts[-1] ** 2


def parts_by_cell(
    model: nn.Module, layer: str, images: np.ndarray, weights: Tensor, *saes: SparseAutoencoder
) -> list:
    """Of each image, what each cell adds to the mean over all places of a layer: for each
    autoencoder its latents, sparse (N, cells * L), then the activations (N, cells * W); weights:
    those of `cell_weights`."""
    channels: list[Tensor] = []
    parts: list[list] = [[] for _ in saes]
    for maps in activations(model, layer, images):
        weights = weights.to(maps)
        channels.append((weights @ maps).flatten(1))
        for sae, rows in zip(saes, parts, strict=True):
            z = sae.encode(maps.flatten(0, 1)).view(*maps.shape[:2], -1)
            rows.append(sparse.csr_array((weights @ z).flatten(1).cpu().numpy()))
    channels = torch.cat(channels).cpu().numpy()
    return [*(sparse.vstack(rows, format="csr") for rows in parts), channels]


def sum_cells(parts: Any, n_cells: int) -> np.ndarray:
    """Sums over cells: dense float32 (N, K) of parts (N, cells * K)."""
    if isinstance(parts, np.ndarray):
        return parts.reshape(len(parts), n_cells, -1).sum(1)
    width = parts.shape[1] // n_cells
    columns = parts.indices % width  # equal ones are added up as the array is made dense
    shape = (parts.shape[0], width)
    return sparse.csr_array((parts.data, columns, parts.indptr), shape=shape).toarray()


def with_residual(
    parts: dict[str, Any], channels: Sets, head: np.ndarray, effect: np.ndarray, rest: np.ndarray,
    sizes: np.ndarray,
) -> list[tuple[dict[str, Any], np.ndarray, np.ndarray]]:  # fmt: skip
    """Parts of the whole map, and parts of each cell, as the searches take them, with what they
    miss: tuples of parts (N, K) by set, their effects (K, 10), and their groups int (K,).

    parts: by cell, (N, cells * L); channels: what they are parts of, (N, cells * W); head: (10, W);
    effect: (L, 10); rest: activation (W,) where all parts are 0; sizes: share of the map in each
    cell. What is missed of a cell's (or the map's) logits is its residual: ten columns, one group.
    A basis that misses nothing has none."""
    each, tasks = np.eye(len(sizes), dtype=np.float32), []
    missed = {
        name: x @ np.kron(each, head.T) - parts[name] @ np.kron(each, effect)
        - np.kron(sizes, rest @ head.T)
        for name, x in channels.items()
    }  # fmt: skip
    empty = all(np.abs(left).max(initial=0) < 1e-3 for left in missed.values())
    for n_cells in (1, len(sizes)):
        joined, units = dict(parts), np.tile(effect, (n_cells, 1))
        if n_cells == 1:
            joined = {name: sum_cells(x, len(sizes)) for name, x in parts.items()}
        groups = np.arange(len(units))
        if not empty:
            for name, left in missed.items():
                if n_cells == 1:
                    joined[name] = np.hstack([joined[name], sum_cells(left, len(sizes))])
                else:
                    blocks = [sparse.csr_array(block) for block in (joined[name], left)]
                    joined[name] = sparse.hstack(blocks, format="csr")
            own = np.arange(n_cells).repeat(N_CLASSES)
            units = np.vstack([units, np.tile(np.eye(N_CLASSES, dtype=np.float32), (n_cells, 1))])
            groups = np.concatenate([groups, len(groups) + own])
        tasks.append((joined, units, groups))
    return tasks


@public
def auroc(values: Array, classes: Array) -> Array:
    """Area under the ROC curve, float64 (10, K): the chance that an image of class c excites column
    k of values (N, K) more than one that is not, ties counted half (Mann and Whitney)."""
    from scipy.stats import rankdata  # slow to import

    inside, ranks = classes == np.arange(N_CLASSES)[:, None], rankdata(values, axis=0)
    n = inside.sum(1, keepdims=True)
    return (inside @ ranks - n * (n + 1) / 2) / (n * (len(classes) - n))


@public
def best_auroc(
    values: Array, classes: Array, test_values: Array, test_classes: Array
) -> tuple[Array, Array]:
    """For each class the column of values (N, K) that tells it best, (10,), by being high or low;
    and the area under its ROC curve on the test values, (10,)."""
    first, second, rows = auroc(values, classes), auroc(test_values, test_classes), range(N_CLASSES)
    best = np.abs(first - 0.5).argmax(1)
    return best, np.where(first[rows, best] >= 0.5, second[rows, best], 1 - second[rows, best])


@public
def eta_squared(values: Array, classes: Array) -> Array:
    """Float64 (K,): the share of the variance of each column of values (N, K) that lies between the
    ten classes; 0 for a column that does not vary."""
    values = values.astype(np.float64)
    mean, total = values.mean(0), values.var(0) * len(values)
    groups = [values[classes == c] for c in range(N_CLASSES)]
    between = sum(len(group) * np.square(group.mean(0) - mean) for group in groups)
    return np.divide(between, total, out=np.zeros_like(total), where=total > 0)


@public
def colour_first(values: Array, colours: Array, labels: Array) -> tuple:
    """The order of columns by how much more their values (N, K) go with colour than with digit,
    most first; and the eta squared of colour and of digit: (K,) each."""
    colour, digit = eta_squared(values, colours), eta_squared(values, labels)
    return np.argsort(-colour / np.maximum(colour + digit, 1e-12), kind="stable"), colour, digit


@public
def attribution(parts: Any, effect: Array, classes: Array) -> Array:
    """What each of the parts (N, K), dense or sparse, adds to the logit of its image's class, less
    what it adds to the ten on average: mean over images, (K,). This is activation times gradient,
    which a linear head makes exact: over all parts, and what they miss, it adds up to the logit."""
    inside = (classes[:, None] == np.arange(N_CLASSES)).astype(np.float32)
    centred = effect - effect.mean(1, keepdims=True)
    return np.asarray((parts.T @ inside) * centred).sum(1) / len(classes)


@public
def describe(grid: Array, labels: Array, effect: Array) -> pd.DataFrame:
    """A row for each latent: "latent", its number; "label", by the rule of `tuning.label_units`;
    "prefers", the colour or digit that excites it most on average, if it is labelled by one;
    "colour", "digit", eta squared; "active", the share of images on which it is; "most", its
    largest value; "speaks_for", the digit to which a unit of it adds most, and "adds", how much
    more than to the mean of the ten; "attribution", see there, to the colour's digit.

    grid: (10 colours, N, L) >= 0, on a `tuning.colour_grid` of images with labels (N,); effect:
    (L, 10)."""
    cells, most = tuning.cell_means(grid, labels), grid.max((0, 1))
    tuned = tuning.tuning(grid, labels)
    kinds = tuning.label(tuned, cells, most > 0).label.to_numpy()
    best = [np.array(COLOUR_NAMES)[cells.mean(1).argmax(1)], cells.mean(2).argmax(1).astype(str)]
    flat, colours = grid.reshape(-1, grid.shape[2]), np.arange(N_CLASSES).repeat(len(labels))
    return pd.DataFrame(
        {
            "latent": np.arange(len(kinds)), "label": kinds,
            "prefers": np.select([kinds == "colour", kinds == "shape"], best, ""),
            "colour": tuned.colour, "digit": tuned.digit, "active": (flat > 0).mean(0),
            "most": most, "speaks_for": effect.argmax(1),
            "adds": (effect - effect.mean(1, keepdims=True)).max(1),
            "attribution": attribution(flat, effect, colours),
        }
    )  # fmt: skip


def matched(carried: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """For each of the chosen latents another one that carries as much: pairs of distinct latents
    whose logarithms of `carried` (L,) differ least in sum (Hungarian method). Latents that carry
    nothing are not taken."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    others = np.setdiff1d(np.flatnonzero(carried > 0), chosen)
    sizes = np.log(np.maximum(carried, 1e-12))
    distance = np.abs(sizes[chosen, None] - sizes[others])
    return others[linear_sum_assignment(distance)[1]]


@public
def principal_directions(x: Array) -> tuple[Array, Array]:
    """Mean (W,) of x (N, W) and its principal directions (W, W), as columns."""
    centre = x.mean(0)
    return centre, np.linalg.svd(x - centre, full_matrices=False)[2].T


def column_spread(parts: Any) -> np.ndarray:
    """Standard deviation of each column (K,), of dense or sparse parts (N, K); at least 1e-4."""
    squares = parts.multiply(parts) if sparse.issparse(parts) else parts * parts
    mean = np.asarray(parts.mean(0)).ravel()
    spread = np.sqrt(np.maximum(np.asarray(squares.mean(0)).ravel() - mean**2, 1e-8))
    return spread.astype(np.float32)


@public
def fit_linear_probe(
    parts: Any, classes: Array, penalty: float = 1e-3, steps: int = 50
) -> tuple[Array, Array]:
    """A linear probe of the classes from dense or sparse parts (N, K): weights (K, 10) and bias
    (10,), both float32. Logistic regression on standardised parts, by L-BFGS: mean cross-entropy +
    penalty / 2 * the sum of squared weights, in at most `steps` iterations."""
    unit = 1 / column_spread(parts)[:, None]

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = np.split(values.astype(np.float32).reshape(-1, N_CLASSES), [-1])
        entropy, slope = _cross_entropy(parts @ (weights * unit) + bias, classes)
        slopes = (parts.T @ slope) * unit + penalty * weights
        total = entropy + penalty / 2 * np.square(weights).sum()
        return float(total), np.concatenate([slopes.ravel(), slope.sum(0)]).astype(np.float64)

    best = _minimise(loss, [(None, None)] * (parts.shape[1] + 1) * N_CLASSES, steps)
    weights, bias = np.split(best.astype(np.float32).reshape(-1, N_CLASSES), [-1])
    return weights * unit, bias[0]


def _cross_entropy(logits: np.ndarray, classes: np.ndarray) -> tuple[float, np.ndarray]:
    """Its mean over N images, and its slope by the logits (N, 10)."""
    rows = np.arange(len(classes))
    scores = log_softmax(logits, axis=1)
    slope = np.exp(scores)
    slope[rows, classes] -= 1
    slope /= len(rows)
    return -scores[rows, classes].mean(dtype=float), slope


def _minimise(loss: Callable, bounds: list, steps: int) -> np.ndarray:
    """Where a function that gives its value and slope is least, by L-BFGS-B from zero."""
    from scipy.optimize import minimize  # slow to import

    options, start = {"maxiter": steps, "maxcor": 10}, np.zeros(len(bounds))
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x


def favoured(logits: np.ndarray) -> np.ndarray:
    """What the predictions favour on average: mean logits (10,), less their own mean."""
    mean = logits.mean(0)
    return mean - mean.mean()


def even_out(logits: Sets) -> Sets:
    """Logits without what those of the set "search" favour on average."""
    surplus = favoured(logits["search"])
    return {name: value - surplus for name, value in logits.items()}


def ablation_scales(order: np.ndarray, n: int) -> np.ndarray:
    """Scales float32 (K,): 0 for the first n parts in an order, 1 for the others."""
    scales = np.ones(len(order), dtype=np.float32)
    scales[order[:n]] = 0
    return scales


def resting_levels(
    level: str, logits: np.ndarray, parts: np.ndarray, effect: np.ndarray, scales: np.ndarray
) -> np.ndarray:
    """What parts (N, K) are scaled about, (K,): zero ("zeroed"), their "mean", or the levels
    nearest to it at which the scaled logits of these images are on average the same for all ten
    classes ("balanced")."""
    mean = parts.mean(0)
    if level != "balanced":
        return {"zeroed": 0 * mean, "mean": mean}[level]
    change = (scales - 1)[:, None] * effect  # (K, 10)
    centred = change - change.mean(1, keepdims=True)
    surplus = favoured(logits + parts @ change - mean @ change)
    # (rest - mean) @ centred = surplus, by the least change of the levels
    return mean + np.linalg.lstsq(centred.T, surplus, rcond=1e-6)[0].astype(np.float32)


def scale_about(
    logits: Sets, parts: Sets, effect: np.ndarray, scales: np.ndarray, rest: str | np.ndarray
) -> Sets:
    """Logits with each part p set to rest + scale * (p - rest); rest: (K,), or one of `LEVELS`, as
    they are on the set "search"."""
    if isinstance(rest, str):
        rest = resting_levels(rest, logits["search"], parts["search"], effect, scales)
    change = (scales - 1)[:, None] * effect
    return {name: value + parts[name] @ change - rest @ change for name, value in logits.items()}


def rescale(
    logits: Sets, parts: dict[str, Any], effect: np.ndarray, scales: np.ndarray, offset: np.ndarray
) -> Sets:
    """Logits with each part times its scale, and `offset` (10,) added; a constant that all ten
    logits share is left out of the change."""
    change = (scales - 1)[:, None] * (effect - effect.mean(1, keepdims=True))
    return {name: value + parts[name] @ change + offset for name, value in logits.items()}


def search_scales(
    logits: np.ndarray, parts: Any, effect: np.ndarray, labels: np.ndarray, penalty: float,
    steps: int, groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Scales float32 (K,) >= 0 that make the head's predictions correct, and an offset of the ten
    logits (10,): logistic regression with one weight for each of the parts (N, K), dense or sparse,
    or for all parts of a group: groups int (K,), 0 to G - 1. What the parts do not explain of the
    logits stays as it is. Convex, by L-BFGS-B in at most
    `steps` iterations: mean cross-entropy + penalty / 2 * the sum of the squared spreads, in
    logits, of what the scales let through."""
    effect = effect - effect.mean(1, keepdims=True)
    groups = np.arange(len(effect)) if groups is None else groups
    spread = column_spread(parts) * np.linalg.norm(effect, axis=1)
    unit = 1 / np.maximum(np.sqrt(np.bincount(groups, spread**2)), 1e-4)
    scaled = (unit[groups, None] * effect).astype(np.float32)  # float64 would take twice as long
    others = (logits - parts @ effect).astype(np.float32)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        scale, offset = np.split(values.astype(np.float32), [-N_CLASSES])
        passed = parts @ (scale[groups, None] * scaled)
        entropy, slope = _cross_entropy(others + passed + offset, labels)
        by_part = np.einsum("kc,kc->k", parts.T @ slope, scaled)
        by_scale = np.bincount(groups, by_part) + penalty * scale
        total = entropy + penalty / 2 * np.square(scale).sum()
        return float(total), np.concatenate([by_scale, slope.sum(0)]).astype(np.float64)

    best = _minimise(loss, [(0, None)] * len(unit) + [(None, None)] * N_CLASSES, steps)
    return (best[:-N_CLASSES] * unit)[groups].astype(np.float32), best[-N_CLASSES:].astype(
        np.float32
    )
