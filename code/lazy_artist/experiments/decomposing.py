"""Chapter 7: the cheater's hidden states taken apart by sparse autoencoders, named, and turned.

Interventions act on the last maps (`LAYER`). The network averages them over places and reads the
mean with a linear head, so what a latent i does to the answer is the product of its mean over
places and its *effect*, the ten logits that a unit of it adds: all dials are matrix products, also
those that differ from one part of the map to another.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.optimize import linear_sum_assignment, minimize
from scipy.special import log_softmax
from scipy.stats import rankdata
from torch import Tensor, nn

from lazy_artist import atlas, edition
from lazy_artist.artifacts import Artifact, fetch, fetch_all, fetch_many, key
from lazy_artist.canvas import (
    CLASSES,
    COLOUR_NAMES,
    assign_colours,
    colour_split,
    paint,
    split_digits,
)
from lazy_artist.evaluate import Estimate, balanced, estimate
from lazy_artist.experiments.networks import (
    ASKED,
    BIAS,
    NO_BIAS,
    TEST_SEED,
    data_md5,
    first_of,
    load_network,
    network_config,
    percent,
    restore,
    scale,
    seeds,
)
from lazy_artist.interventions import rewritten, turned
from lazy_artist.sae import SparseAutoencoder, fit, quality

LAYER = "block3"  # (N, 128, 7, 7)
LAYERS = {"block1": 32, "block2": 64, "block3": 128, "pooled": 128}  # widths
CHOSEN = ("batchtopk", 16.0, 8)  # kind, sparsity, latents for each input
SWEEP = {
    "topk": (4.0, 12.0, 32.0),
    "batchtopk": (4.0, 12.0, 32.0),
    "relu": (0.4, 1.0, 2.5),
}
WIDTHS = (4, 16)  # other widths, at the chosen kind and sparsity
PAINT_SEED = 2000  # paints training and validation digits in inks that say nothing
KINDS = ("cheater", "oracle", "cure")  # networks that are taken apart
READERS = ("SAE latents", "raw channels", "PCA directions", "linear probe")
BASES = ("SAE latents", "random latents", "untrained latents", "raw channels", "PCA directions")
ERASERS = ("colour class means", "linear colour probe", "LEACE")
LEVELS = ("zeroed", "mean", "balanced")
PROCEDURES = (*LEVELS, "dials", "dials by cell")
PENALTIES = (1e-3, 1e-2)  # on dials
FACTORS = (1, 2, 4, 8)  # by which latents of shape are amplified
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
DEPTHS = ("block1", "block2", "block3")
KINDS_OF_LATENT = ("colour", "shape", "mixed", "silent")
DOMINANT = 2 / 3  # of what digit and colour explain, for a latent to be named after one of them
ALIGNED = 1000  # aligned test images: enough for a number that is near 1
CUTS = (0, 2, 5, 7)  # rows and columns of the last maps, cut into 3 x 3 cells
CELLS = (len(CUTS) - 1) ** 2
READING, READINGS = 1e-3, (1e-3, 1e-2, 1e-1, 1.0)  # penalties on a linear reader
READING_STEPS = 50  # of a linear reader
SHOWN = 16  # latents on the contact sheet
TOP, BINS = 9, 24  # images and bars on a latent's card
MEASURES = {
    "validation": "validation, random inks",
    "hard": "hard",
    "follows": "hard: called the ink's digit",
    "aligned": "aligned",
}
LABELS = Path(__file__).parents[3] / "report" / "latent-labels.csv"


# --- autoencoders --------------------------------------------------------------------------------


def coded(
    network: dict,
    layer: str,
    kind: str,
    sparsity: float,
    expansion: int,
    seed: int,
    steps: int,
    images: int,
    places: int,
) -> tuple[dict, dict]:
    """Build: an autoencoder of a layer, trained on `places` random places in each of `images` of
    the network's own training images; and its quality on a fifth as many easy validation images,
    at most 1,000.

    "loss recovered" is (L_mean - L_spliced) / (L_mean - L), where L is the network's cross-entropy,
    L_spliced that with x' in the place of x, and L_mean that with the layer's mean activation at
    all places: 1 is lossless, 0 no better than knowing nothing of the image. (Replacing by the mean
    is a stricter reference than by 0.)
    """
    model = _load(network)
    grey, labels = (part[:images] for part in split_digits("train"))
    colours = assign_colours(labels, network["correlation"], network["seed"])
    x = _sampled(model, layer, paint(grey, colours, network["seed"]), places, seed)
    latents = expansion * x.shape[1]
    sae = fit(x, latents, kind, sparsity, seed=seed, steps=steps)
    shown = colour_split("validation", TEST_SEED, network["correlation"])
    shown = shown.take(np.arange(min(1000, images // 5, len(shown))))
    metrics = quality(sae, _sampled(model, layer, shown.images, places, seed + 1))
    mean = x.mean(0)
    losses = []
    for rewrite in (None, lambda a: sae.decode(sae.encode(a)), lambda a: mean.expand_as(a)):
        logits = _logits(model, layer, shown.images, rewrite)
        losses.append(float(F.cross_entropy(logits, torch.from_numpy(shown.labels.copy()))))
    plain, spliced, blind = losses
    metrics["loss recovered"] = (blind - spliced) / (blind - plain)
    return {name: t.detach().contiguous() for name, t in sae.state_dict().items()}, metrics


def _network(kind: str, seed: int) -> dict[str, Any]:
    """What determines a network of one of `KINDS`. Of the best cure of chapter 5 it is what
    determines that, and its address in the store, which knows the code that made it."""
    if kind != "cure":
        return network_config(kind, "cnn", seed)
    curing, best = _curing(), importlib.import_module("lazy_artist.debias").BEST
    config = curing.cured_config(best, "cnn", seed)
    address = key(curing.cured, config, data_md5())
    return {"cured": config, "address": address, "correlation": BIAS, "seed": seed}


def _load(network: dict) -> nn.Module:
    """The network of a `_network`, in eval mode; trained first if it is not stored."""
    if "cured" not in network:
        return load_network(network)
    return restore(fetch(_curing().cured, network["cured"], data_md5()), "cnn")


def _curing():
    """By a computed name, so that autoencoders of other networks do not stand on the cures."""
    return importlib.import_module("lazy_artist.experiments.curing")


def _config(
    kind: str,
    seed: int,
    layer: str = LAYER,
    way: tuple[str, float, int] = CHOSEN,
    start: int = 0,
) -> dict[str, Any]:
    """The arguments of `coded` for a network of a kind; `start`: the autoencoder's own seed."""
    chosen = way == CHOSEN and layer == LAYER
    steps, images = (200, 10_000) if chosen else (100, 5_000)
    if scale() == "quick":
        steps, images = (60, 2_000) if chosen else (30, 1_000)
    return {
        "network": _network(kind, seed),
        "layer": layer,
        "kind": way[0],
        "sparsity": way[1] if layer != "block1" else min(way[1], 8.0),
        "expansion": way[2],
        "seed": start,
        "steps": steps,
        "images": images,
        "places": 1 if layer == "pooled" else 16,
    }


def autoencoder(config: dict[str, Any]) -> SparseAutoencoder:
    """The autoencoder of a `_config`, trained first if it is not stored."""
    tensors = fetch(coded, config, data_md5()).tensors
    latents, width = tensors["decoder"].shape
    sae = SparseAutoencoder(width, latents, config["kind"], config["sparsity"])
    sae.load_state_dict(tensors)
    return sae.requires_grad_(False).eval()


def _maps(model: nn.Module, layer: str, images: np.ndarray) -> Iterator[Tensor]:
    """Yields a layer's activations (n, places, W), in batches of images."""
    seen: list[Tensor] = []

    def look(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    for part in torch.from_numpy(images).split(50):  # their latents stay in a core's cache
        if layer == "pooled":
            with torch.no_grad():
                seen.append(model.features(part))
        else:
            with torch.no_grad(), rewritten(model, layer, look):
                model(part)
        yield seen.pop().view(len(part), -1, LAYERS[layer])


def _sampled(model: nn.Module, layer: str, images: np.ndarray, places: int, seed: int) -> Tensor:
    """Activations (N * places, W) at random places, without replacement in an image."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for maps in _maps(model, layer, images):
        where = torch.rand(maps.shape[:2], generator=generator).argsort(1)[:, :places]
        parts.append(maps.gather(1, where[:, :, None].expand(-1, -1, maps.shape[2])).flatten(0, 1))
    return torch.cat(parts)


def _logits(model: nn.Module, layer: str, images: np.ndarray, rewrite) -> Tensor:
    """Logits (N, 10), with the layer's activations rewritten unless `rewrite` is None."""
    parts = []
    with torch.inference_mode():
        for part in torch.from_numpy(images).split(250):
            if rewrite is None:
                parts.append(model(part))
            elif layer == "pooled":
                parts.append(model.head(rewrite(model.features(part))))
            else:
                with rewritten(model, layer, rewrite):
                    parts.append(model(part))
    return torch.cat(parts)


# --- naming --------------------------------------------------------------------------------------


def named(code: dict, each: int) -> tuple[dict, dict]:
    """Build: what each latent goes with on the balanced grid (`each` images of every digit, in all
    ten inks), how well single latents and their rivals tell each colour and each digit, and whether
    the network uses what its colour latents know.

    Latents are named, and the best of each kind is chosen, on validation digits; what is reported
    of the chosen ones, "auroc" (4 readers, 20: ten colours, then ten digits), is on test digits, as
    are "right" and "right, colours held": the shares of the grid that the network answers rightly,
    before and after all latents that are named after a colour are held at their means.
    "colour", "digit" (L,): shares of the variance of a latent's mean over places that go with
    either; "cells" (L, 10 digits, 10 colours): its mean; "effect" (L, 10): logits that a unit of it
    adds; "top" (L, TOP): the places in the grid of the images that excite it most, strongest first;
    "most" (L,): its largest mean; "histogram" (L, BINS): of its means between 0 and that; "shown"
    (SHOWN,): the latents of the contact sheet.
    """
    model, sae = _load(code["network"]), autoencoder(code)
    sets = []
    for name, seed in (("validation", PAINT_SEED), ("hard", TEST_SEED)):
        images, labels, colours = _grid(name, each, seed)
        parts, channels = _parts(model, images, sae)
        sets.append((_whole(parts), _whole(channels), labels, colours))
    (z, x, labels, colours), (test_z, test_x, test_labels, test_colours) = sets
    centre, axes = _principal(x)
    rivals = [(z, test_z), (x, test_x), ((x - centre) @ axes, (test_x - centre) @ axes)]
    ranks = [tuple(rankdata(part, axis=0) for part in pair) for pair in rivals]
    answers, test_answers = (np.stack(pair) for pair in ((colours, labels), sets[1][3:1:-1]))
    auroc = np.empty((len(READERS), 2 * CLASSES))
    probes = {}
    for k, (here, there) in enumerate(zip(answers, test_answers, strict=True)):
        span = slice(k * CLASSES, (k + 1) * CLASSES)
        for r, (chosen_on, shown_on) in enumerate(ranks):
            first, second = separation(chosen_on, here), separation(shown_on, there)
            best = np.abs(first - 0.5).argmax(1)  # a silent latent says as much as a loud one
            value = second[np.arange(CLASSES), best]
            upside = first[np.arange(CLASSES), best] >= 0.5
            auroc[r, span] = np.where(upside, value, 1 - value)
            if r == 0:
                probes[f"best {('colour', 'digit')[k]}"] = best
        weights, bias = _readout(x, here)
        scores = test_x @ weights + bias
        auroc[3, span] = separation(rankdata(scores, axis=0), there).diagonal()
        probes[f"probe {('colour', 'digit')[k]}"] = float((scores.argmax(1) == there).mean())
    effect = (sae.directions() @ model.head.weight.detach().T).numpy()
    top = np.argsort(-z, axis=0)[:TOP].T.copy()
    most = z.max(0)
    bins = np.minimum(z / np.maximum(most, 1e-12) * BINS, BINS - 1).astype(int)
    tensors = {
        "auroc": auroc,
        "colour": explained(z, colours),
        "digit": explained(z, labels),
        "cells": _cells(z, labels, colours),
        "effect": effect,
        "active": (z > 0).mean(0),
        "top": top,
        "most": most,
        "histogram": np.stack([np.bincount(column, minlength=BINS) for column in bins.T]),
    }
    tensors["shown"] = _shown(probes["best colour"], tensors["digit"], tensors["colour"])
    of_colour = _kinds(tensors["colour"], tensors["digit"], most > 0) == "colour"
    logits = test_x @ model.head.weight.detach().numpy().T + model.head.bias.detach().numpy()
    held = logits - (test_z - z.mean(0))[:, of_colour] @ effect[of_colour]
    metrics = {
        "colour probe": probes["probe colour"],
        "digit probe": probes["probe digit"],
        "colours found": int((auroc[0, :CLASSES] > 0.95).sum()),
        "digits found": int((auroc[0, CLASSES:] > 0.95).sum()),
        "colour latents": float(of_colour.sum() / max(1, (most > 0).sum())),
        "right": float((logits.argmax(1) == test_labels).mean()),
        "right, colours held": float((held.argmax(1) == test_labels).mean()),
    }
    return tensors, metrics


def _grid(name: str, each: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every digit image in all ten inks: images (10 * N, 3, 28, 28), labels and colours."""
    grey, labels = balanced(*split_digits(name), each)
    images = [paint(grey, np.full(len(grey), k), seed) for k in range(CLASSES)]
    return np.concatenate(images), np.tile(labels, CLASSES), np.arange(CLASSES).repeat(len(grey))


def _cut() -> Tensor:
    """What sums the 49 places of a map into cells, over 49, so that the cells add up to the map's
    mean: (CELLS, 49)."""
    band = torch.zeros(len(CUTS) - 1, CUTS[-1])
    for row, (start, stop) in zip(band, pairwise(CUTS), strict=True):
        row[start:stop] = 1
    return torch.kron(band, band) / CUTS[-1] ** 2


def _parts(model: nn.Module, images: np.ndarray, *saes: SparseAutoencoder) -> list:
    """Of each image, what each cell of the last maps adds to the mean over all places: for each
    autoencoder its latents, sparse (N, CELLS * L), then the activations (N, CELLS * W)."""
    sums, channels = _cut(), []
    parts: list[list] = [[] for _ in saes]
    for maps in _maps(model, LAYER, images):
        channels.append((sums @ maps).flatten(1))
        for sae, found in zip(saes, parts, strict=True):
            z = sae.encode(maps.flatten(0, 1)).view(*maps.shape[:2], -1)
            found.append(sparse.csr_array((sums @ z).flatten(1).numpy()))
    return [*(sparse.vstack(found, format="csr") for found in parts), torch.cat(channels).numpy()]


def _whole(parts) -> np.ndarray:
    """Sums over cells: dense float32 (N, K) of parts (N, CELLS * K)."""
    if isinstance(parts, np.ndarray):
        return parts.reshape(len(parts), CELLS, -1).sum(1)
    width = parts.shape[1] // CELLS
    columns = parts.indices % width  # equal ones are added up as the array is made dense
    shape = (parts.shape[0], width)
    return sparse.csr_array((parts.data, columns, parts.indptr), shape=shape).toarray()


def separation(ranks: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, float64 (10, K): the chance that an image of class c excites column
    k more than one that is not, ties counted half (Mann and Whitney). ranks: (N, K), of each
    column's values among themselves, equals sharing their mean."""
    found = np.empty((CLASSES, ranks.shape[1]))
    for c in range(CLASSES):
        inside = answers == c
        n, m = inside.sum(), (~inside).sum()
        found[c] = (ranks[inside].sum(0) - n * (n + 1) / 2) / (n * m)
    return found


def _kinds(colour: np.ndarray, digit: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """A kind of `KINDS_OF_LATENT` for each latent, by what colour and digit explain of it: text
    (L,). See `labels`."""
    both = DOMINANT * (colour + digit)
    cases = {"silent": ~alive, "colour": colour >= both, "shape": digit >= both}
    return np.select(list(cases.values()), list(cases), "mixed")


def explained(z: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Eta squared, float64 (K,): the share of the variance of each column of z (N, K) that lies
    between the ten groups; 0 for a column that does not vary."""
    z = z.astype(np.float64)
    mean, total = z.mean(0), z.var(0) * len(z)
    between = sum(
        (answers == c).sum() * np.square(z[answers == c].mean(0) - mean) for c in range(CLASSES)
    )
    return np.divide(between, total, out=np.zeros_like(total), where=total > 0)


def _cells(z: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    cells = np.empty((z.shape[1], CLASSES, CLASSES), dtype=np.float32)
    for d in range(CLASSES):
        for c in range(CLASSES):
            cells[:, d, c] = z[(labels == d) & (colours == c)].mean(0)
    return cells


def _principal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (W,) and principal directions (W, W), as columns."""
    centre = x.mean(0)
    return centre, np.linalg.svd(x - centre, full_matrices=False)[2].T


def _shown(best: np.ndarray, digit: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """The latents of the contact sheet: the best of each colour, then those in which digit has most
    to say, (SHOWN,)."""
    first = list(dict.fromkeys(best.tolist()))
    others = [int(k) for k in np.argsort(colour - digit) if k not in first]
    return np.array((first + others)[:SHOWN])


# --- operating -----------------------------------------------------------------------------------


class Basis(NamedTuple):
    """A way to write the head's reading as a sum. By set of images: `whole` (N, K), the parts of
    the mean over places; `cells` (N, CELLS * K), the same by cell. effect: (K, 10), what a unit of
    each part adds to the logits."""

    whole: dict[str, np.ndarray]
    cells: dict[str, Any]
    effect: np.ndarray


def operated(
    code: dict, search: int, chosen_on: int, asked: int | None, steps: int, ones: int
) -> tuple[dict, dict]:
    """Build: the network's answers to the first `asked`, or all, hard images (and to `ALIGNED`
    ones) while parts of its last maps are turned, its head untouched.

    Five bases compete on the same terms: the autoencoder's latents; the same in random order, with
    their dials shuffled; the latents of an autoencoder before training, `CHOSEN` sparse; the raw
    channels; and the principal directions. Parts are ranked by how much more their
    mean over places goes with the ink than with the digit, on `search` training digits painted in
    random inks. The first n of them are then "zeroed", held at their "mean", or "balanced": held at
    levels at which the ten answers are equally strong on average over the search images; n is the
    best of `SHARES`. "dials" turns every part by a dial >= 0 of its own, and "dials by cell" by one
    for each cell of the map; `_search` finds them on the search images, in at most `steps`
    iterations, and the best of `PENALTIES` is taken. The best n, penalty, and procedure (the
    "chosen" cure) are the best on `chosen_on` validation digits in random inks. Test digits choose
    nothing.

    Metrics are named "basis | procedure | measure". Tensors: "curve" (3 levels, SHARES, 3 measures:
    validation, hard, follows), for the latents; "order" (L,), most of all ink first;
    "ink share" (L,), by which they are ordered; "kinds" (L,), places in `KINDS_OF_LATENT`, on the
    search images; "dials" (L,);
    "amplified" (FACTORS, 3 measures), with the latents of shape that survive the balanced silence
    turned up; "walk" (11 dials, ones, 10), the probabilities for red test ones as the silenced
    latents' dial goes from 1 to 0; "moved" and "called one" (3, 10), for each digit in red, the
    share that is called 0 before and the digit itself after, and the share that is called 1 after:
    zeroed, balanced, with dials by cell.
    """
    model, sae = _load(code["network"]), autoencoder(code)
    head, offset = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    twin = _untrained(sae, code["network"]["seed"])
    sets = _operating_sets(search, chosen_on, asked)
    answers = {name: (labels, colours) for name, (_, labels, colours) in sets.items()}
    labels, colours = answers["search"]
    latents, untrained, channels = {}, {}, {}
    for name, (images, *_) in sets.items():
        latents[name], untrained[name], channels[name] = _parts(model, images, sae, twin)
    pooled = {name: _whole(x) for name, x in channels.items()}
    logits = {name: x @ head.T + offset for name, x in pooled.items()}
    centre, axes = _principal(pooled["search"])
    means = (centre * (_cut().sum(1, keepdim=True).numpy())).ravel()  # of each cell, if all alike
    bases = {
        "SAE latents": _basis(latents, sae.directions().numpy() @ head.T),
        "untrained latents": _basis(untrained, twin.directions().numpy() @ head.T),
        "raw channels": Basis(pooled, channels, head.T),
        "PCA directions": _basis(
            {
                name: ((x - means).reshape(-1, len(centre)) @ axes).reshape(len(x), -1)
                for name, x in channels.items()
            },
            axes.T @ head.T,
        ),
    }
    metrics: dict[str, float] = {}

    def record(title: str, edited: dict[str, np.ndarray]) -> float:
        for measure, value in _measures(edited, answers).items():
            metrics[f"{title} | {measure}"] = value
        return metrics[f"{title} | validation"]

    record("none | none", logits)
    orders, dials, shares = {}, {}, {}
    for name, basis in bases.items():
        by_ink, by_digit = (explained(basis.whole["search"], a) for a in (colours, labels))
        shares[name] = (by_ink, by_digit, by_ink / np.maximum(by_ink + by_digit, 1e-12))
        orders[name] = np.argsort(-shares[name][2], kind="stable")
        for procedure, parts in (("dials", basis.whole), ("dials by cell", basis.cells)):
            effect = np.tile(basis.effect, (parts["search"].shape[1] // len(basis.effect), 1))
            tried = []
            for penalty in PENALTIES:
                found = _search(logits["search"], parts["search"], effect, labels, penalty, steps)
                edited = _dialled(logits, parts, effect, *found)
                tried.append((_measures(edited, answers)["validation"], found))
            dials[name, procedure] = max(tried, key=lambda pair: pair[0])[1]
    rng = np.random.default_rng(code["network"]["seed"])
    bases["random latents"] = bases["SAE latents"]
    orders["random latents"] = rng.permutation(len(orders["SAE latents"]))
    for procedure in ("dials", "dials by cell"):
        found, lean = dials["SAE latents", procedure]
        dials["random latents", procedure] = (rng.permutation(found), lean)
    counts, curves = {}, {}
    for name in BASES:
        basis = bases[name]
        curves[name], counts[name] = _silenced(
            logits,
            basis.whole,
            basis.effect,
            orders[name],
            answers,
            lambda *a, n=name: record(f"{n} | {a[0]}", a[1]),
        )
        for procedure, n in counts[name].items():
            metrics[f"{name} | {procedure} | count"] = n
        for procedure, parts in (("dials", basis.whole), ("dials by cell", basis.cells)):
            found, lean = dials[name, procedure]
            effect = np.tile(basis.effect, (len(found) // len(basis.effect), 1))
            edited = _dialled(logits, parts, effect, found, lean)
            if name == "random latents":  # shuffled dials favour other answers
                edited = {n: value - _lean(edited["search"]) for n, value in edited.items()}
            record(f"{name} | {procedure}", edited)
            metrics[f"{name} | {procedure} | count"] = int((found < 0.05).sum())
        winner = max(PROCEDURES, key=lambda p, n=name: metrics[f"{n} | {p} | validation"])
        for measure in MEASURES:
            metrics[f"{name} | chosen | {measure}"] = metrics[f"{name} | {winner} | {measure}"]
        metrics[f"{name} | chosen | which"] = PROCEDURES.index(winner)

    whole, _, effect = bases["SAE latents"]
    order, n = orders["SAE latents"], counts["SAE latents"]["balanced"]
    silent, mean = _dials(order, n), whole["search"].mean(0)
    by_ink, by_digit, share = shares["SAE latents"]
    kinds = _kinds(by_ink, by_digit, whole["search"].max(0) > 0)
    amplified = []
    for factor in FACTORS:
        louder = np.where((kinds == "shape") & (silent > 0), factor, silent).astype(np.float32)
        edited = _turned(logits, whole, effect, louder, mean, "balanced")
        found = _measures(edited, answers)
        amplified.append([found[m] for m in ("validation", "hard", "follows")])
    tensors = {
        "curve": curves["SAE latents"],
        "order": order,
        "ink share": share,
        "kinds": np.array([KINDS_OF_LATENT.index(kind) for kind in kinds]),
        "dials": dials["SAE latents", "dials"][0],
        "amplified": np.array(amplified),
    }

    for name, eraser in _erasers(pooled["search"], colours).items():
        for procedure in ("mean", "balanced"):
            edited = {n: eraser(x) @ head.T + offset for n, x in pooled.items()}
            if procedure == "balanced":
                edited = {n: value - _lean(edited["search"]) for n, value in edited.items()}
            record(f"{name} | {procedure}", edited)

    grey, _ = (values[-search:] for values in split_digits("train"))
    inks = assign_colours(labels, code["network"]["correlation"], code["network"]["seed"])
    half = slice(0, search // 2)  # enough to show how it goes
    own = paint(grey[half], inks[half], code["network"]["seed"])
    latents["own"], channels["own"] = _parts(model, own, sae)
    answers["own"] = (labels[half], inks[half])
    metrics |= _refitted(latents, channels, order[n:], answers)
    levels = _levels(logits, whole, effect, silent, mean)
    by_cell = dials["SAE latents", "dials by cell"]
    return tensors | _walked(model, sae, silent, levels, by_cell, ones), metrics


def _basis(cells: dict[str, Any], effect: np.ndarray) -> Basis:
    return Basis({name: _whole(parts) for name, parts in cells.items()}, cells, effect)


def _untrained(sae: SparseAutoencoder, seed: int) -> SparseAutoencoder:
    """An autoencoder of as many latents in random directions, of which `CHOSEN` stay active."""
    latents, width = sae.decoder.shape
    twin = SparseAutoencoder(width, latents, "topk", CHOSEN[1], seed + 1)
    twin.centre.copy_(sae.centre)
    twin.scale.copy_(sae.scale)
    return twin.requires_grad_(False).eval()


def _silenced(
    logits: dict[str, np.ndarray],
    parts: dict[str, np.ndarray],
    effect: np.ndarray,
    order: np.ndarray,
    answers: dict[str, tuple],
    record: Callable,
) -> tuple[np.ndarray, dict[str, int]]:
    """Silences the first n parts in an order, for all n and three levels: the curve (3 levels,
    SHARES, 3 measures), and the best n of each level, which goes on `record`."""
    mean = parts["search"].mean(0)
    curve, best = np.empty((len(LEVELS), len(SHARES), 3)), {}
    for level, procedure in enumerate(LEVELS):
        kept = (-1.0, 0, None)
        for place, share in enumerate(SHARES):
            n = max(1, round(share * len(order)))
            edited = _turned(logits, parts, effect, _dials(order, n), mean, procedure)
            found = _measures(edited, answers)
            curve[level, place] = [found[m] for m in ("validation", "hard", "follows")]
            if found["validation"] > kept[0]:
                kept = (found["validation"], n, edited)
        best[procedure] = kept[1]
        record(procedure, kept[2])
    return curve, best


def _dials(order: np.ndarray, n: int) -> np.ndarray:
    """Dials float32 (K,): 0 for the first n in an order, 1 for the others."""
    dials = np.ones(len(order), dtype=np.float32)
    dials[order[:n]] = 0
    return dials


def _operating_sets(search: int, chosen_on: int, asked: int | None) -> dict[str, tuple]:
    """Images, labels and colours: training digits to search on, validation digits to choose on,
    both in random inks, and the first hard (`asked`, or all) and aligned test images."""
    sets = {}
    for name, split, part in (
        ("search", "train", slice(-search, None)),
        ("validation", "validation", slice(0, chosen_on)),
    ):
        grey, labels = (values[part] for values in split_digits(split))
        colours = assign_colours(labels, NO_BIAS, PAINT_SEED)
        sets[name] = (paint(grey, colours, PAINT_SEED), labels, colours)
    for name, count in (("hard", asked), ("aligned", ALIGNED)):
        split = first_of(name, count)
        sets[name] = (split.images, split.labels, split.colours)
    return sets


def _measures(edited: dict[str, np.ndarray], answers: dict[str, tuple]) -> dict[str, float]:
    """Accuracies by set, and the share of hard images called their ink's digit."""
    called = {name: value.argmax(1) for name, value in edited.items()}
    found = {n: float((called[n] == answers[n][0]).mean()) for n in called if n != "search"}
    return found | {"follows": float((called["hard"] == answers["hard"][1]).mean())}


def _lean(logits: np.ndarray) -> np.ndarray:
    """What the answers favour on average: mean logits (10,), less their own mean."""
    mean = logits.mean(0)
    return mean - mean.mean()


def _turned(
    logits: dict[str, np.ndarray],
    parts: dict[str, np.ndarray],
    effect: np.ndarray,
    dials: np.ndarray,
    mean: np.ndarray,
    procedure: str,
) -> dict[str, np.ndarray]:
    """Logits with each part p turned to rest + dial * (p - rest), where rest is 0, the mean, or the
    balanced levels."""
    rest = {"zeroed": 0 * mean, "mean": mean}.get(procedure)
    if rest is None:
        rest = _levels(logits, parts, effect, dials, mean)
    change = (dials - 1)[:, None] * effect
    return {name: value + (parts[name] - rest) @ change for name, value in logits.items()}


def _levels(
    logits: dict[str, np.ndarray],
    parts: dict[str, np.ndarray],
    effect: np.ndarray,
    dials: np.ndarray,
    mean: np.ndarray,
) -> np.ndarray:
    """Levels (K,) to turn the parts about, as near as can be to their means, at which the turned
    logits of the search images are on average the same for all ten answers."""
    change = (dials - 1)[:, None] * effect  # (K, 10)
    centred = change - change.mean(1, keepdims=True)
    lean = _lean(logits["search"] + (parts["search"] - mean) @ change)
    # (rest - mean) @ centred = lean, by the least change of the levels
    return mean + np.linalg.lstsq(centred.T, lean, rcond=1e-6)[0].astype(np.float32)


def _search(
    logits: np.ndarray, parts, effect: np.ndarray, labels: np.ndarray, penalty: float, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Dials float32 (K,) >= 0 that make the head's answers right, and what to add to the ten
    logits (10,): logistic regression with one weight for each of the parts (N, K), dense or sparse,
    whose effects are (K, 10). What the parts do not explain of the logits stays as it is. (Adding a
    constant to the logits is holding the turned parts at other levels: see `_levels`.)

    Convex, by L-BFGS-B: mean cross-entropy + penalty / 2 * the sum of the squared spreads, in
    logits, of what the dials let through.
    """
    effect = effect - effect.mean(1, keepdims=True)
    unit = 1 / np.maximum(_spread(parts) * np.linalg.norm(effect, axis=1), 1e-4)
    scaled = (unit[:, None] * effect).astype(
        np.float32
    )  # (K, 10); float64 would take twice as long
    others = (logits - parts @ effect).astype(np.float32)
    rows = np.arange(len(labels))

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        dial, lean = np.split(values.astype(np.float32), [-CLASSES])
        scores = log_softmax(others + parts @ (dial[:, None] * scaled) + lean, axis=1)
        slope = np.exp(scores)
        slope[rows, labels] -= 1
        slope /= len(rows)
        by_dial = np.einsum("kc,kc->k", parts.T @ slope, scaled) + penalty * dial
        total = -scores[rows, labels].mean(dtype=float) + penalty / 2 * np.square(dial).sum()
        return float(total), np.concatenate([by_dial, slope.sum(0)]).astype(np.float64)

    start = np.zeros(len(unit) + CLASSES)
    bounds = [(0, None)] * len(unit) + [(None, None)] * CLASSES
    options = {"maxiter": steps, "maxcor": 10}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return (found[:-CLASSES] * unit).astype(np.float32), found[-CLASSES:].astype(np.float32)


def _dialled(
    logits: dict[str, np.ndarray], parts: dict, effect: np.ndarray, dials: np.ndarray, lean
) -> dict[str, np.ndarray]:
    """Logits with each part turned by its dial, and `lean` (10,) added."""
    change = (dials - 1)[:, None] * (effect - effect.mean(1, keepdims=True))
    return {name: value + parts[name] @ change + lean for name, value in logits.items()}


def _erasers(x: np.ndarray, colours: np.ndarray) -> dict[str, Any]:
    """Functions (N, W) -> (N, W) that take the ink out of pooled activations.

    "colour class means": their nine directions are projected out; "linear colour probe": so are
    those of a logistic regression; "LEACE": the least change after which no linear reader does
    better than guessing (Belrose et al. 2023, arXiv:2306.03819).
    """
    centre = x.mean(0)
    means = np.stack([x[colours == c].mean(0) for c in range(CLASSES)]) - centre
    weights, _ = _readout(x, colours)
    values, vectors = np.linalg.eigh(np.cov(x.T.astype(np.float64)))
    roots = np.sqrt(np.maximum(values, 1e-6 * values.max()))
    whiten, colour = vectors / roots @ vectors.T, vectors * roots @ vectors.T

    def span(rows: np.ndarray) -> np.ndarray:
        kept = np.linalg.svd(rows, full_matrices=False)[2][: CLASSES - 1]
        return kept.T @ kept

    away = {
        "colour class means": span(means),
        "linear colour probe": span(weights.T),
        "LEACE": (colour @ span(means @ whiten) @ whiten).T,
    }
    return {name: lambda y, p=p: y - (y - centre) @ p for name, p in away.items()}


def _spread(parts) -> np.ndarray:
    """Standard deviation of each column (K,), of dense or sparse parts (N, K); at least 1e-4."""
    squares = parts.multiply(parts) if sparse.issparse(parts) else parts * parts
    mean = np.asarray(parts.mean(0)).ravel()
    spread = np.sqrt(np.maximum(np.asarray(squares.mean(0)).ravel() - mean**2, 1e-8))
    return spread.astype(np.float32)


def _readout(parts, answers: np.ndarray, penalty: float = READING) -> tuple[np.ndarray, np.ndarray]:
    """A linear reader of the answers from dense or sparse parts (N, K): weights (K, 10) and bias
    (10,), both float32. Logistic regression on standardised parts, by L-BFGS: mean cross-entropy +
    penalty / 2 * the sum of squared weights, in at most READING_STEPS iterations."""
    unit = 1 / _spread(parts)[:, None]
    rows = np.arange(len(answers))

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = np.split(values.astype(np.float32).reshape(-1, CLASSES), [-1])
        scores = log_softmax(parts @ (weights * unit) + bias, axis=1)
        slope = np.exp(scores)
        slope[rows, answers] -= 1
        slope /= len(rows)
        slopes = (parts.T @ slope) * unit + penalty * weights
        total = -scores[rows, answers].mean(dtype=float) + penalty / 2 * np.square(weights).sum()
        return float(total), np.concatenate([slopes.ravel(), slope.sum(0)]).astype(np.float64)

    start = np.zeros((parts.shape[1] + 1) * CLASSES)
    options = {"maxiter": READING_STEPS, "maxcor": 10}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x
    weights, bias = np.split(found.astype(np.float32).reshape(-1, CLASSES), [-1])
    return weights * unit, bias[0]


def _refitted(
    latents: dict[str, Any],
    channels: dict[str, np.ndarray],
    survivors: np.ndarray,
    answers: dict[str, tuple],
) -> dict[str, float]:
    """Accuracies of linear heads fitted anew, each with the best of `READINGS` on the validation
    digits. "random inks": fitted on the search images; "own images": on half of the same digits in
    inks biased as the network's training images are. Neither uses a colour label. "cells": the head
    reads the part of each cell, else the mean of the whole map.

    latents, channels: parts by cell, as `_parts` gives them, of the sets "search", "own",
    "validation", "hard" and "aligned".
    """
    found = {}
    for what, parts in (("surviving latents", latents), ("raw channels", channels)):
        width = next(iter(parts.values())).shape[1] // CELLS
        keep = survivors if what == "surviving latents" else np.arange(width)
        places = (np.arange(CELLS)[:, None] * width + keep).ravel()
        for title in (what, f"{what}, cells"):
            read = {
                name: x[:, places] if title.endswith("cells") else _whole(x)[:, keep]
                for name, x in parts.items()
            }
            for source, fitted_on in (("search", "random inks"), ("own", "own images")):
                best: dict[str, float] = {"validation": -1}
                for penalty in READINGS:
                    weights, bias = _readout(read[source], answers[source][0], penalty)
                    right = {
                        name: float(
                            ((read[name] @ weights + bias).argmax(1) == answers[name][0]).mean()
                        )
                        for name in ("validation", "hard", "aligned")
                    }
                    best = max(best, right, key=lambda values: values["validation"])
                for name, value in best.items():
                    found[f"refit | {title}, {fitted_on} | {name}"] = value
    return found


def _walked(
    model: nn.Module,
    sae: SparseAutoencoder,
    silent: np.ndarray,
    levels: np.ndarray,
    by_cell: tuple[np.ndarray, np.ndarray],
    ones: int,
) -> dict[str, np.ndarray]:
    """ "walk", "moved" and "called one" of `operated`."""
    head, offset = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    effect = sae.directions().numpy() @ head.T
    change = (silent - 1)[:, None] * effect
    grey, labels = split_digits("hard")
    moved, called_one, walk = np.zeros((3, CLASSES)), np.zeros((3, CLASSES)), None
    for digit in range(CLASSES):
        some = grey[labels == digit][:ones]
        parts, channels = _parts(model, paint(some, np.zeros(len(some), int), TEST_SEED), sae)
        z, plain = _whole(parts), _whole(channels) @ head.T + offset
        ends = [plain + z @ change, plain + (z - levels) @ change]
        ends.append(_dialled({"": plain}, {"": parts}, np.tile(effect, (CELLS, 1)), *by_cell)[""])
        for row, end in enumerate(ends):
            called = end.argmax(1)
            moved[row, digit] = ((plain.argmax(1) == 0) & (called == digit)).mean()
            called_one[row, digit] = (called == 1).mean()
        if digit == 1:
            steps = np.linspace(0, 1, 11)[:, None, None]
            path = torch.from_numpy(plain + steps * (ends[1] - plain))
            walk = path.softmax(2).numpy().astype(np.float32)
    return {"walk": walk, "moved": moved, "called one": called_one}


def deepened(codes: list[dict], images: int) -> tuple[dict, dict]:
    """Build: hard accuracy as latents of earlier layers are silenced, an autoencoder in `codes` for
    each layer, all of one network.

    Latents are ranked as in `operated`, on `images` training digits in random inks, and the first
    of them held at their mean over those images, at every place; everything behind the layer works
    on as it is. For each layer, of the shares 1/4, 1/2, 3/4, 1 the best on as many validation
    digits in random inks: "share", "validation", "hard" (on 2 * images hard test images).
    """
    metrics = {}
    sets = _operating_sets(images, images, 2 * images)
    for code in codes:
        model, sae, layer = _load(code["network"]), autoencoder(code), code["layer"]
        shown, labels, colours = sets["search"]
        z = [
            sae.encode(maps.flatten(0, 1)).view(*maps.shape[:2], -1).mean(1)
            for maps in _maps(model, layer, shown)
        ]
        z = torch.cat(z).numpy()
        by_ink, by_digit = (explained(z, a) for a in (colours, labels))
        order = np.argsort(-by_ink / np.maximum(by_ink + by_digit, 1e-12), kind="stable")
        tried = []
        for share in (0.25, 0.5, 0.75, 1):
            rewrite = turned(sae, _dials(order, round(share * len(order))), z.mean(0))
            right = []
            for name in ("validation", "hard"):
                called = _logits(model, layer, sets[name][0], rewrite).argmax(1).numpy()
                right.append(float((called == sets[name][1]).mean()))
            tried.append((*right, share))
        validation, hard, share = max(tried)
        metrics[layer] = {"validation": validation, "hard": hard, "share": share}
    return {}, metrics


# --- for the chapter -----------------------------------------------------------------------------


def _named_config(kind: str, seed: int) -> dict[str, Any]:
    return {"code": _config(kind, seed), "each": 25 if scale() == "full" else 10}


def _operated_config(seed: int) -> dict[str, Any]:
    full = scale() == "full"
    return {
        "code": _config("cheater", seed),
        "search": 8_000 if full else 2_000,
        "chosen_on": 2_500 if full else 1_000,
        "asked": ASKED[scale()],
        "steps": 60 if full else 30,
        "ones": 200 if full else 50,
    }


def _deepened_config() -> dict[str, Any]:
    codes = [_config("cheater", 0, layer) for layer in DEPTHS]
    return {"codes": codes, "images": 400 if scale() == "full" else 200}


def prepare() -> None:
    """Train and measure all that the chapter asks for, what takes longest first, in parallel; what
    is stored already costs nothing."""
    chosen = [_config(kind, seed) for kind in KINDS for seed in seeds()]
    chosen.append(_config("cheater", 0, start=1))
    fetch_many(coded, chosen, data_md5(), title="training sparse autoencoders")
    rest = [(operated, config) for config in _operations()]
    rest += [(coded, config) for config in _layer_configs()]
    rest.append((deepened, _deepened_config()))
    rest += [(coded, config) for config in _sweep_configs()]
    rest += [(named, _named_config(kind, seed)) for kind in KINDS for seed in seeds()]
    fetch_all(rest, data_md5(), title="turning and naming latents")


def _operations() -> list[dict]:
    return [_operated_config(seed) for seed in seeds()]


def _operated() -> list[Artifact]:
    return fetch_many(operated, _operations(), data_md5(), title="turning latents")


def _sweep_configs() -> list[dict[str, Any]]:
    step = 1 if scale() == "full" else 2  # at quick scale the ends alone
    ways = [(kind, value, CHOSEN[2]) for kind, values in SWEEP.items() for value in values[::step]]
    ways += [(*CHOSEN[:2], width) for width in WIDTHS]
    return [_config("cheater", 0, way=way) for way in ways]


def _layer_configs() -> list[dict[str, Any]]:
    return [_config("cheater", 0, layer) for layer in LAYERS]


def _both(seed: int, kind: str = "cheater") -> tuple[Artifact, dict[str, Any]]:
    artifact = fetch(named, _named_config(kind, seed), data_md5())
    return artifact, artifact.record["metrics"]


def _quality(configs: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [a.record["metrics"] for a in fetch_many(coded, configs, data_md5())]


def matched_cosine(a: SparseAutoencoder, b: SparseAutoencoder) -> float:
    """Stability: mean cosine of the decoder rows of two autoencoders, paired one to one so that it
    is largest (Hungarian method)."""
    cosines = (a.decoder @ b.decoder.T).detach().numpy()
    return float(cosines[linear_sum_assignment(-cosines)].mean())


def chosen_quality() -> dict[str, Estimate]:
    """ "l0", "fvu", "dead", "loss recovered" of the chosen autoencoder, over the cheater's seeds,
    and "stability", the matched cosine of two autoencoders of the first cheater."""
    found = _quality([_config("cheater", seed) for seed in seeds()])
    bounds = {"l0": (0, np.inf), "loss recovered": (-np.inf, 1)}
    result = {
        name: estimate((m[name] for m in found), bounds.get(name, (0, 1))) for name in found[0]
    }
    pair = [autoencoder(_config("cheater", 0, start=start)) for start in (0, 1)]
    return result | {"stability": estimate([matched_cosine(*pair)])}


def sweep() -> dict[str, list[dict[str, float]]]:
    """For each kind of autoencoder, the metrics of `coded` with "sparsity", sparsest first."""
    configs = [c for c in _sweep_configs() if c["expansion"] == CHOSEN[2]]
    rows: dict[str, list[dict[str, float]]] = {}
    for config, metrics in zip(configs, _quality(configs), strict=True):
        rows.setdefault(config["kind"], []).append(metrics | {"sparsity": config["sparsity"]})
    return {kind: sorted(row, key=lambda m: m["l0"]) for kind, row in rows.items()}


def quality_table() -> pd.DataFrame:
    """The chosen way on each layer and at other widths, for the first cheater."""
    layers = _layer_configs()
    widths = [c for c in _sweep_configs() if c["expansion"] != CHOSEN[2]]
    configs = layers + widths
    rows = []
    for config, m in zip(configs, _quality(configs), strict=True):
        rows.append(
            {
                "layer": config["layer"],
                "latents": f"{config['expansion']} x {LAYERS[config['layer']]}",
                "k": f"{config['sparsity']:.0f}",
                "active (L0)": f"{m['l0']:.1f}",
                "variance unexplained": f"{m['fvu']:.3f}",
                "loss recovered": f"{m['loss recovered']:.3f}",
                "dead (%)": f"{100 * m['dead']:.1f}",
            }
        )
    return pd.DataFrame(rows)


def auroc_table() -> pd.DataFrame:
    """Mean area under the ROC curve over the ten inks and the ten digits, by network and reader,
    over seeds."""
    rows = []
    for kind in KINDS:
        tables = np.stack([_both(seed, kind)[0].tensors["auroc"] for seed in seeds()])
        for r, reader in enumerate(READERS):
            row = {"network": kind, "reader": reader}
            for k, what in enumerate(("an ink", "a digit")):
                means = tables[:, r, k * CLASSES : (k + 1) * CLASSES].mean(1)
                row[what] = estimate(means).format("{:.3f}")
            rows.append(row)
    return pd.DataFrame(rows)


def found(kind: str = "cheater") -> dict[str, Estimate]:
    """The metrics of `named`, over seeds."""
    metrics = [_both(seed, kind)[1] for seed in seeds()]
    return {
        name: estimate((m[name] for m in metrics), (0, 10) if "found" in name else (0, 1))
        for name in metrics[0]
    }


def use_table() -> pd.DataFrame:
    """What colour each network carries and what it uses of it, over seeds, shares in percent."""
    rows = []
    for kind in KINDS:
        values = found(kind)
        rows.append(
            {
                "network": kind,
                "inks with a latent": values["colours found"].format("{:.1f}"),
                "colour latents (%)": percent(values["colour latents"]),
                "a reader names the ink (%)": percent(values["colour probe"]),
                "right in all inks (%)": percent(values["right"]),
                "right, colour latents held (%)": percent(values["right, colours held"]),
            }
        )
    return pd.DataFrame(rows)


def labels(seed: int = 0, kind: str = "cheater") -> list[tuple[str, str]]:
    """Automatic label of each latent: its kind of `KINDS_OF_LATENT`, and the ink or digit that
    excites it most on average.

    A latent that is never active is "silent". Of what digit and colour explain of its variance
    together, a "colour" latent has at least `DOMINANT` by colour, a "shape" latent by digit.
    """
    tensors = _both(seed, kind)[0].tensors
    kinds = _kinds(tensors["colour"], tensors["digit"], tensors["active"] > 0)
    inks, digits = tensors["cells"].mean(1).argmax(1), tensors["cells"].mean(2).argmax(1)
    which = {
        "colour": lambda k: COLOUR_NAMES[inks[k]],
        "shape": lambda k: edition.class_names()[digits[k]],
    }
    return [(str(name), which.get(name, lambda k: "")(k)) for k, name in enumerate(kinds)]


def label_shares() -> dict[str, Estimate]:
    """Share of the latents of each kind, over the cheater's seeds."""
    tables = [[kind for kind, _ in labels(seed)] for seed in seeds()]
    return {
        kind: estimate(table.count(kind) / len(table) for table in tables)
        for kind in KINDS_OF_LATENT
    }


def contact_sheet() -> list[dict[str, Any]]:
    """Of the first cheater's latents on the contact sheet: "latent", "label" (automatic), "manual"
    ("" if there is none), "images" (9, 3, 28, 28), "effect" (10,)."""
    tensors = _both(0)[0].tensors
    each = _named_config("cheater", 0)["each"]
    images = _grid("validation", each, PAINT_SEED)[0]
    automatic, manual = labels(), manual_labels()
    return [
        {
            "latent": int(k),
            "label": " ".join(automatic[k]).strip(),
            "manual": manual.get(int(k), ""),
            "images": images[tensors["top"][k]],
            "effect": tensors["effect"][k],
        }
        for k in tensors["shown"]
    ]


def spoken_for() -> tuple[int, int]:
    """Of the latents on the contact sheet that are named after an ink, how many add most to that
    ink's own digit; and how many there are."""
    named_after_ink = [card for card in contact_sheet() if card["label"].startswith("colour")]
    own = [
        COLOUR_NAMES[card["effect"].argmax()] == card["label"].split()[1]
        for card in named_after_ink
    ]
    return sum(own), len(own)


def autoencoder_mark() -> str:
    """A short mark of the first cheater's autoencoder, the same only for the same weights (rounded
    to three places): labels by eye belong to one autoencoder alone."""
    rows = autoencoder(_config("cheater", 0)).decoder.numpy()
    return hashlib.sha256((np.round(rows, 3) + 0.0).tobytes()).hexdigest()[:12]


def manual_labels(path: Path | None = None) -> dict[int, str]:
    """Labels by eye, by latent, of the file in `report/` (columns autoencoder, latent, label), or
    none if they are of another autoencoder. Raises ValueError, by line, for a row that cannot be
    read."""
    path = path or LABELS
    mark, chosen = autoencoder_mark(), {}
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            if not (row.get("latent") or "").isdigit() or not row.get("label"):
                raise ValueError(f"{path.name}, line {number}: give autoencoder, latent and label")
            if row["autoencoder"] == mark:
                chosen[int(row["latent"])] = row["label"].strip()
    return chosen


def agreement() -> tuple[int, int]:
    """Of how many labels by eye the automatic one agrees, and how many there are: they agree if the
    automatic one's ink or digit, or "mixed", stands in the label by eye."""
    automatic, manual = labels(), manual_labels()
    same = [(automatic[k][1] or automatic[k][0]) in text for k, text in manual.items()]
    return sum(same), len(same)


INTRO = """<p>Every latent of the autoencoders of chapter 7 has a card: those of the first cheater's
last maps, and those of the best cure's (seed 0). A latent's activation is its mean over the
map.</p>
<details><summary>How to read a card</summary>
<p>The pictures are the validation digits, each painted in all ten inks, that excite the latent
most; the large one is the first. The square is its mean activation on digits 0 to 9 (rows) in each
ink (columns, by their first letters: red, green, blue, yellow, magenta, cyan, orange, violet, pink,
white); darker is more in light mode, brighter is more in dark mode. The histogram is of the same
images, with a logarithmic height.</p>
<p>η² is the share of the activation's variance that goes with ink or digit. A latent is labelled
colour or shape if that takes at least two thirds of what ink and digit explain together; else
mixed; silent if no such image excites it. "Speaks for" is the answer to which a unit of the latent
adds most, and "adds" how much more than to the mean of the ten. "By eye" are labels that people
gave: edit <code>report/latent-labels.csv</code>.</p>
</details>"""


def latent_cards() -> list[atlas.Card]:
    """A card for each latent of the first cheater and of the first best cure."""
    each = _named_config("cheater", 0)["each"]
    images, digits, inks = _grid("validation", each, PAINT_SEED)
    images = np.round(255 * images).astype(np.uint8)
    by_eye, names, cards = manual_labels(), edition.class_names(), []
    for kind in ("cheater", "cure"):
        tensors = _both(0, kind)[0].tensors
        effect = tensors["effect"] - tensors["effect"].mean(1, keepdims=True)
        for k, (sort, which) in enumerate(labels(0, kind)):
            manual = by_eye.get(k, "") if kind == "cheater" else ""
            quoted = f"“{manual}”" if manual else ""
            top = [
                (f"{COLOUR_NAMES[inks[i]]} {names[digits[i]]}", images[i])
                for i in tensors["top"][k]
            ]
            cards.append(
                atlas.Card(
                    path=f"{kind}/latent/{k}",
                    title=f"{kind}, latent {k}",
                    subtitle=" ".join(filter(None, (sort, which, quoted))),
                    facets={
                        "network": (kind,),
                        "label": (sort,),
                        "answers to": (which,) if which else (),
                        "speaks for": (names[effect[k].argmax()],),
                        "by eye": ("labelled",) if manual else (),
                    },
                    measures={
                        "η² ink": float(tensors["colour"][k]),
                        edition.words("η² digit"): float(tensors["digit"][k]),
                        "active on, %": float(100 * tensors["active"][k]),
                        "adds": float(effect[k].max()),
                        "most": float(tensors["most"][k]),
                    },
                    pictures=top[:1],
                    examples=top[1:],
                    grid=tensors["cells"][k],
                    histogram=tensors["histogram"][k],
                    most=float(tensors["most"][k]),
                    mark=float(tensors["most"][k]),
                )
            )
    return cards


def write_latents() -> int:
    """Write the page of latents to pages/latents.html in the cache folder, from where it goes into
    the finished book; returns its number of cards."""
    cards = latent_cards()
    atlas.write(
        edition.built() / "pages" / "latents.html",
        cards,
        title="The Latents",
        intro=edition.words(INTRO),
        back=("report/decomposition.html", "Back to chapter 7, The Decomposition"),
        rows=edition.class_names(),
        columns=COLOUR_NAMES,
        grid_title=edition.words("digit by ink"),
        histogram_title=edition.words("validation digits in all inks"),
    )
    return len(cards)


def _operating(name: str, bounds: tuple[float, float] = (0, 1)) -> Estimate:
    return estimate((a.record["metrics"][name] for a in _operated()), bounds)


def cure() -> dict[str, Estimate]:
    """Of the cure chosen on validation digits, and of none ("uncured"): "hard", "aligned",
    "follows", "uncured"; "margin", how much better on hard than the best control, and "whole
    margin", the same of dials on the whole map; "silenced", the balanced latents; "dialled", a dial
    for each latent on the whole map; "probe", what a linear reader fitted anew on the raw channels
    reads; "recovered", the share of what that reads beyond the uncured network that the cure reads;
    "cells", the reader by cell; "refit", the same on the surviving latents."""
    metrics = [a.record["metrics"] for a in _operated()]
    result = {m: _operating(f"SAE latents | chosen | {m}") for m in ("hard", "aligned", "follows")}
    hard, uncured, reader = (
        np.array([m[f"{name} | hard"] for m in metrics])
        for name in ("SAE latents | chosen", "none | none", "refit | raw channels, random inks")
    )

    def margin(procedure: str) -> Estimate:
        rows = [[m[f"{name} | {procedure} | hard"] for name in BASES] for m in metrics]
        return estimate((row[0] - max(row[1:]) for row in rows), (-1, 1))

    return result | {
        "uncured": estimate(uncured),
        "margin": margin("chosen"),
        "whole margin": margin("dials"),
        "ratio": estimate(hard / uncured, (0, np.inf)),
        "silenced": _operating("SAE latents | balanced | hard"),
        "dialled": _operating("SAE latents | dials | hard"),
        "probe": estimate(reader),
        "recovered": estimate((hard - uncured) / (reader - uncured), (-np.inf, np.inf)),
        "cells": _operating("refit | raw channels, cells, random inks | hard"),
        "refit": _operating("refit | surviving latents, cells, random inks | hard"),
    }


def chosen_procedure() -> str:
    """What was chosen for the latents, on validation digits; of several, most often first."""
    chosen = [int(a.record["metrics"]["SAE latents | chosen | which"]) for a in _operated()]
    names = sorted(
        {PROCEDURES[k] for k in chosen}, key=lambda n: -chosen.count(PROCEDURES.index(n))
    )
    return " or ".join(names)


def cure_table() -> pd.DataFrame:
    """Each basis and procedure, in percent over seeds. "silenced": at the level, and "erased": with
    or without balance, whichever is best on the validation digits."""
    cases = [("none", "as it was", ("none",))]
    for basis in BASES:
        cases += [(basis, "silenced", LEVELS)]
        cases += [(basis, procedure, (procedure,)) for procedure in ("dials", "dials by cell")]
    cases += [(eraser, "erased", ("mean", "balanced")) for eraser in ERASERS]
    rows = []
    for what, how, procedures in cases:
        best = []
        for metrics in (a.record["metrics"] for a in _operated()):
            tried = [
                {m: metrics[f"{what} | {procedure} | {m}"] for m in MEASURES}
                for procedure in procedures
            ]
            best.append(max(tried, key=lambda values: values["validation"]))
        row = {"what": what, "how": how}
        for measure, title in MEASURES.items():
            row[title] = percent(estimate(values[measure] for values in best))
        rows.append(row)
    return pd.DataFrame(rows)


def amplified_table() -> pd.DataFrame:
    """The balanced silence, with the surviving latents of shape turned up; in percent over
    seeds."""
    tables = np.stack([a.tensors["amplified"] for a in _operated()])  # (seeds, FACTORS, 3)
    titles = (MEASURES[m] for m in ("validation", "hard", "follows"))
    columns = list(enumerate(titles))
    return pd.DataFrame(
        {"shape latents": f"x {factor}"}
        | {title: percent(estimate(tables[:, row, k])) for k, title in columns}
        for row, factor in enumerate(FACTORS)
    )


def dial_table() -> pd.DataFrame:
    """What the search for dials, which is told no colour, did to latents of each kind; over
    seeds."""
    rows = []
    for k, kind in enumerate(KINDS_OF_LATENT[:-1]):
        of_kind = [a.tensors["dials"][a.tensors["kinds"] == k] for a in _operated()]
        of_kind = [dials for dials in of_kind if len(dials)]
        if not of_kind:
            continue
        counts = estimate(map(len, of_kind), (0, np.inf))
        rows.append(
            {
                "latents": kind,
                "number": counts.format("{:.0f}"),
                "dial below 0.05 (%)": percent(estimate((d < 0.05).mean() for d in of_kind)),
                "dial above 1 (%)": percent(estimate((d > 1).mean() for d in of_kind)),
            }
        )
    return pd.DataFrame(rows)


def depth_table() -> pd.DataFrame:
    """Silence in earlier layers of the first cheater, in percent of images."""
    metrics = fetch(deepened, _deepened_config(), data_md5()).record["metrics"]
    return pd.DataFrame(
        {
            "layer": layer,
            "latents held at their mean": f"{m['share']:.0%}",
            MEASURES["validation"]: f"{100 * m['validation']:.1f}",
            MEASURES["hard"]: f"{100 * m['hard']:.1f}",
        }
        for layer, m in metrics.items()
    )


def needed() -> dict[str, Estimate]:
    """How many latents, most of all ink first, must be held at balanced levels: "half", until at
    most half of the hard images are called their ink's digit; "most", until hard accuracy is at
    nine tenths of its best; "of", how many there are. Over seeds."""
    half, most = [], []
    for a in _operated():
        curve = a.tensors["curve"][LEVELS.index("balanced")]
        counts = np.round(np.array(SHARES) * len(a.tensors["order"]))
        below = curve[:, 2] <= 0.5
        half.append(counts[below.argmax()] if below.any() else len(a.tensors["order"]))
        most.append(counts[(curve[:, 1] >= 0.9 * curve[:, 1].max()).argmax()])
    count = len(_operated()[0].tensors["order"])
    return {
        "half": estimate(half, (0, count)),
        "most": estimate(most, (0, count)),
        "of": estimate([count], (0, count)),
    }


def refit_table() -> pd.DataFrame:
    """Heads fitted anew, in percent over seeds."""
    rows = []
    for source in ("surviving latents", "raw channels"):
        for cells in ("", ", cells"):
            for fitted_on in ("random inks", "own images"):
                name = f"refit | {source}{cells}, {fitted_on}"
                row = {
                    "head reads": source,
                    "places": "3 x 3 cells" if cells else "whole map",
                    "fitted on": fitted_on,
                }
                for measure in ("validation", "hard", "aligned"):
                    row[MEASURES[measure]] = percent(_operating(f"{name} | {measure}"))
                rows.append(row)
    return pd.DataFrame(rows)


def silence_curves() -> dict[str, np.ndarray]:
    """As ever more of the latents are silenced: "share" (S,), and for each of `LEVELS` accuracy on
    hard and the share that follows the ink: (seeds, S, 2)."""
    curves = np.stack([a.tensors["curve"] for a in _operated()])  # (seeds, 3, S, 3)
    result = {name: curves[:, level, :, 1:] for level, name in enumerate(LEVELS)}
    return {"share": np.array(SHARES), **result}


def dials() -> dict[str, Any]:
    """Red test ones as the silenced latents go from 1 to 0: "walk" (11, N, 10), probabilities of
    the first cheater; "moved" and "called one", by "zeroed", "balanced" and "dials by cell", arrays
    (10,) of means over seeds: the share of each digit in red that goes from 0 to itself, and that
    is called 1; "ones", the estimate for balanced red ones."""
    records = _operated()
    ends = ("zeroed", "balanced", "dials by cell")
    tables = {
        name: np.stack([a.tensors[name] for a in records]) for name in ("moved", "called one")
    }
    return {
        "walk": records[0].tensors["walk"],
        "ones": estimate(tables["moved"][:, 1, 1]),
        **{name: dict(zip(ends, table.mean(0), strict=True)) for name, table in tables.items()},
    }
