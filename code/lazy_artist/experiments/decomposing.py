"""Chapter 7: the cheater's hidden states taken apart by sparse autoencoders, named, and turned.

Interventions act on the last maps (`LAYER`). The network averages them over places and reads the
mean with a linear head, so what a latent i does to the answer is the product of its mean over
places and its *effect*, the ten logits that a unit of it adds: all dials are matrix products.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor, nn

from lazy_artist.artifacts import Artifact, fetch, fetch_many
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
    NO_BIAS,
    TEST_SEED,
    data_md5,
    load_network,
    network_config,
    percent,
    scale,
    seeds,
)
from lazy_artist.sae import SparseAutoencoder, fit, matched_cosine, quality, rewritten

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
READERS = ("SAE latents", "raw channels", "PCA directions", "linear probe")
BASES = ("SAE latents", "random latents", "raw channels", "PCA directions")
ERASERS = ("colour class means", "linear colour probe", "LEACE")
PROCEDURES = ("zeroed", "mean", "balanced", "dials")
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
KINDS_OF_LATENT = ("colour", "shape", "mixed", "silent")
DOMINANT = 2 / 3  # of what digit and colour explain, for a latent to be named after one of them
ALIGNED = 3000  # aligned test images: enough for a number that is near 1
CELLS = (1, 3)  # a head reads the mean of the whole map, or of each of 3 x 3 cells
READING_STEPS = 600  # of a linear reader
SHOWN = 16  # latents on the contact sheet
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
    the network's own training images; and its quality on 1,000 easy validation images.

    "loss recovered" is (L_mean - L_spliced) / (L_mean - L), where L is the network's cross-entropy,
    L_spliced that with x' in the place of x, and L_mean that with the layer's mean activation at
    all places: 1 is lossless, 0 no better than knowing nothing of the image. (Replacing by the mean
    is a stricter reference than by 0.)
    """
    model = load_network(network)
    grey, labels = (part[:images] for part in split_digits("train"))
    colours = assign_colours(labels, network["correlation"], network["seed"])
    x = _sampled(model, layer, paint(grey, colours, network["seed"]), places, seed)
    latents = expansion * x.shape[1]
    sae = fit(x, latents, kind, sparsity, seed=seed, steps=steps)
    shown = colour_split("validation", TEST_SEED, network["correlation"])
    shown = shown.take(np.arange(min(1000, len(shown))))
    metrics = quality(sae, _sampled(model, layer, shown.images, places, seed + 1))
    mean = x.mean(0)
    losses = []
    for rewrite in (None, lambda a: sae.decode(sae.encode(a)), lambda a: mean.expand_as(a)):
        logits = _logits(model, layer, shown.images, rewrite)
        losses.append(float(F.cross_entropy(logits, torch.from_numpy(shown.labels.copy()))))
    plain, spliced, blind = losses
    metrics["loss recovered"] = (blind - spliced) / (blind - plain)
    return {name: t.detach().contiguous() for name, t in sae.state_dict().items()}, metrics


def _config(
    kind: str,
    seed: int,
    layer: str = LAYER,
    way: tuple[str, float, int] = CHOSEN,
    start: int = 0,
) -> dict[str, Any]:
    """The arguments of `coded` for a network of a kind; `start`: the autoencoder's own seed."""
    chosen = way == CHOSEN and layer == LAYER
    steps, images = (250, 12_000) if chosen else (120, 6_000)
    if scale() == "quick":
        steps, images = 80, 4_000
    return {
        "network": network_config(kind, "cnn", seed),
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

    for part in torch.from_numpy(images).split(250):
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
    ten inks), and how well single latents and their rivals tell each colour and each digit.

    Latents are named, and the best of each kind is chosen, on validation digits; what is reported
    of the chosen ones, "auroc" (4 readers, 20: ten colours, then ten digits), is on test digits.
    "colour", "digit" (L,): shares of the variance of a latent's mean over places that go with
    either; "cells" (L, 10 digits, 10 colours): its mean; "effect" (L, 10): logits that a unit of it
    adds; "top" (SHOWN, 9): the places in the grid of the images that excite the shown latents most.
    """
    model, sae = load_network(code["network"]), autoencoder(code)
    sets = []
    for name, seed in (("validation", PAINT_SEED), ("hard", TEST_SEED)):
        images, labels, colours = _grid(name, each, seed)
        z, x = _pooled(model, sae, images)
        sets.append((z, x, labels, colours))
    (z, x, labels, colours), (test_z, test_x, test_labels, test_colours) = sets
    centre, axes = _principal(x)
    rivals = [(z, test_z), (x, test_x), ((x - centre) @ axes, (test_x - centre) @ axes)]
    answers, test_answers = (np.stack(pair) for pair in ((colours, labels), sets[1][3:1:-1]))
    auroc = np.empty((len(READERS), 2 * CLASSES))
    probes = {}
    for k, (here, there) in enumerate(zip(answers, test_answers, strict=True)):
        span = slice(k * CLASSES, (k + 1) * CLASSES)
        for r, (chosen_on, shown_on) in enumerate(rivals):
            first, second = separation(chosen_on, here), separation(shown_on, there)
            best = np.abs(first - 0.5).argmax(1)  # a silent latent says as much as a loud one
            value = second[np.arange(CLASSES), best]
            upside = first[np.arange(CLASSES), best] >= 0.5
            auroc[r, span] = np.where(upside, value, 1 - value)
            if r == 0:
                probes[f"best {('colour', 'digit')[k]}"] = best
        weights, bias, scaler = _readout(x, here)
        scores = ((test_x - scaler[0]) / scaler[1]) @ weights + bias
        auroc[3, span] = separation(scores, there).diagonal()
        probes[f"probe {('colour', 'digit')[k]}"] = float((scores.argmax(1) == there).mean())
    tensors = {
        "auroc": auroc,
        "colour": explained(z, colours),
        "digit": explained(z, labels),
        "cells": _cells(z, labels, colours),
        "effect": (sae.directions() @ model.head.weight.detach().T).numpy(),
        "active": (z > 0).mean(0),
    }
    shown = _shown(probes["best colour"], tensors["digit"], tensors["colour"])
    tensors |= {"shown": shown, "top": np.argsort(-z[:, shown], axis=0)[:9].T.copy()}
    metrics = {
        "colour probe": probes["probe colour"],
        "digit probe": probes["probe digit"],
        "colours found": int((auroc[0, :CLASSES] > 0.95).sum()),
        "digits found": int((auroc[0, CLASSES:] > 0.95).sum()),
    }
    return tensors, metrics


def _grid(name: str, each: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every digit image in all ten inks: images (10 * N, 3, 28, 28), labels and colours."""
    grey, labels = balanced(*split_digits(name), each)
    images = [paint(grey, np.full(len(grey), k), seed) for k in range(CLASSES)]
    return np.concatenate(images), np.tile(labels, CLASSES), np.arange(CLASSES).repeat(len(grey))


def _pooled(model: nn.Module, sae: SparseAutoencoder, images: np.ndarray):
    """Means over places: latents (N, L) and activations (N, W)."""
    z, x = [], []
    for maps in _maps(model, LAYER, images):
        z.append(sae.encode(maps.flatten(0, 1)).view(*maps.shape[:2], -1).mean(1))
        x.append(maps.mean(1))
    return torch.cat(z).numpy(), torch.cat(x).numpy()


def separation(z: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, float64 (10, K): the chance that an image of class c excites column
    k of z (N, K) more than one that is not, ties counted half (Mann and Whitney)."""
    ranks = rankdata(z, axis=0)
    found = np.empty((CLASSES, z.shape[1]))
    for c in range(CLASSES):
        inside = answers == c
        n, m = inside.sum(), (~inside).sum()
        found[c] = (ranks[inside].sum(0) - n * (n + 1) / 2) / (n * m)
    return found


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
    """A way to write the head's reading as a sum: parts (N, K) for each set of images by name, and
    the effect (K, 10) of each part on the logits."""

    parts: dict[str, np.ndarray]
    effect: np.ndarray


def operated(code: dict, search: int, chosen_on: int, steps: int, ones: int) -> tuple[dict, dict]:
    """Build: the network's answers while parts of its last maps are silenced, its head untouched.

    Four bases compete on the same terms: the autoencoder's latents, the same latents in random
    order, the raw channels and the principal directions. Parts are ranked by how much more their
    mean over places goes with the ink than with the digit, on `search` training digits painted in
    random inks. The first n of them are then "zeroed", held at their "mean", or "balanced": held at
    levels at which the ten answers are equally strong on average over the search images. "dials"
    turns every part by a dial >= 0 of its own, found by logistic regression on the search images
    through the network's own head, the parts held at balanced levels. For each procedure n is
    the best of `SHARES` on `chosen_on` validation digits in random inks, and so is the procedure
    of the "chosen" cure. Test digits choose nothing.

    Metrics are named "basis | procedure | measure". Tensors: "curve" (3 levels, SHARES, 3 measures:
    validation, hard, follows), for the latents; "order" (L,), most of all
    ink first; "dials" (L,); "levels" (L,), those of "balanced";
    "walk" (11 dials, ones, 10), the probabilities for red test ones as the silenced latents'
    dial goes from 1 to 0; "moved" and "called one" (2, 10), for each
    digit in red, the share that is called 0 before and the digit itself after, and the share that
    is called 1 after; first zeroed, then balanced.
    """
    model, sae = load_network(code["network"]), autoencoder(code)
    head, offset = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    answers, latents, pooled = {}, {}, {}
    sets = _operating_sets(search, chosen_on)
    for name, (images, labels, colours) in sets.items():
        latents[name], pooled[name] = _pooled(model, sae, images)
        answers[name] = (labels, colours)
    logits = {name: x @ head.T + offset for name, x in pooled.items()}
    labels, colours = answers["search"]
    centre, axes = _principal(pooled["search"])
    effect = (sae.directions() @ model.head.weight.detach().T).numpy()
    bases = {
        "SAE latents": Basis(latents, effect),
        "raw channels": Basis(pooled, head.T),
        "PCA directions": Basis(
            {n: (x - centre) @ axes for n, x in pooled.items()}, axes.T @ head.T
        ),
    }
    metrics: dict[str, float] = {}

    def record(title: str, edited: dict[str, np.ndarray]) -> float:
        for measure, value in _measures(edited, answers).items():
            metrics[f"{title} | {measure}"] = value
        return metrics[f"{title} | validation"]

    record("none | none", logits)
    rng = np.random.default_rng(code["network"]["seed"])
    orders, found = {}, {}
    for name, (parts, part_effect) in bases.items():
        by_ink, by_digit = (explained(parts["search"], a) for a in (colours, labels))
        orders[name] = np.argsort(-by_ink / np.maximum(by_ink + by_digit, 1e-12))
        found[name] = _search(logits["search"], parts["search"], part_effect, labels, steps)
    bases["random latents"] = bases["SAE latents"]
    orders["random latents"] = rng.permutation(len(orders["SAE latents"]))
    found["random latents"] = rng.permutation(found["SAE latents"])
    counts, curves = {}, {}
    for name in BASES:
        curves[name], counts[name] = _silenced(
            logits,
            *bases[name],
            orders[name],
            answers,
            lambda *a, n=name: record(f"{n} | {a[0]}", a[1]),
        )
        for procedure, n in counts[name].items():
            metrics[f"{name} | {procedure} | count"] = n
        parts, part_effect = bases[name]
        mean = parts["search"].mean(0)
        edited = _turned(logits, parts, part_effect, found[name], mean, "balanced")
        record(f"{name} | dials", edited)
        metrics[f"{name} | dials | count"] = int((found[name] < 0.05).sum())
        winner = max(PROCEDURES, key=lambda p, n=name: metrics[f"{n} | {p} | validation"])
        for measure in ("hard", "aligned", "follows", "validation"):
            metrics[f"{name} | chosen | {measure}"] = metrics[f"{name} | {winner} | {measure}"]
        metrics[f"{name} | chosen | which"] = PROCEDURES.index(winner)

    order, n = orders["SAE latents"], counts["SAE latents"]["balanced"]
    silent = _dials(order, n)
    levels = _levels(logits, latents, effect, silent, latents["search"].mean(0))
    tensors = {"curve": curves["SAE latents"], "order": order, "dials": found["SAE latents"]}
    tensors["levels"] = levels

    for name, eraser in _erasers(pooled["search"], colours).items():
        for procedure in ("mean", "balanced"):
            edited = {n: eraser(x) @ head.T + offset for n, x in pooled.items()}
            if procedure == "balanced":
                edited = {n: value - _lean(edited["search"]) for n, value in edited.items()}
            record(f"{name} | {procedure}", edited)

    metrics |= _refitted(model, sae, code["network"], order[n:], sets)
    return tensors | _walked(model, sae, silent, levels, ones), metrics


def _silenced(logits, parts, effect, order, answers, record) -> tuple[np.ndarray, dict[str, int]]:
    """Silences the first n parts in an order, for all n and three levels: the curve (3 levels,
    SHARES, 3 measures), and the best n of each level, which goes on `record`."""
    mean = parts["search"].mean(0)
    curve, best = np.empty((3, len(SHARES), 3)), {}
    for level, procedure in enumerate(PROCEDURES[:3]):
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


def _operating_sets(search: int, chosen_on: int) -> dict[str, tuple]:
    """Images, labels and colours: training digits to search on, validation digits to choose on,
    both in random inks, and the hard and aligned test images."""
    sets = {}
    for name, split, part in (
        ("search", "train", slice(-search, None)),
        ("validation", "validation", slice(0, chosen_on)),
    ):
        grey, labels = (values[part] for values in split_digits(split))
        colours = assign_colours(labels, NO_BIAS, PAINT_SEED)
        sets[name] = (paint(grey, colours, PAINT_SEED), labels, colours)
    for name in ("hard", "aligned"):
        split = colour_split(name, TEST_SEED)
        some = split.take(np.arange(min(len(split), ALIGNED if name == "aligned" else len(split))))
        sets[name] = (some.images, some.labels, some.colours)
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
    logits: np.ndarray, z: np.ndarray, effect: np.ndarray, labels: np.ndarray, steps: int
) -> np.ndarray:
    """Dials float32 (K,) >= 0 that make the head's answers right: logistic regression with one
    weight a part, and the balance of the answers, by projected Adam. What the parts do not explain
    of the logits stays as it is. A dial's step is measured in what it moves the logits."""
    x = torch.from_numpy(z - z.mean(0))
    e = torch.from_numpy(np.ascontiguousarray(effect - effect.mean(1, keepdims=True)))
    others = torch.from_numpy(logits - z @ effect)
    unit = 1 / (x.std(0) * e.norm(dim=1)).clamp(min=1e-4)
    dial = torch.full((len(e),), 0.05, requires_grad=True)
    lean = torch.zeros(CLASSES, requires_grad=True)
    optimiser = torch.optim.Adam([dial, lean], 0.03)
    answers = torch.from_numpy(labels.astype(np.int64))
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.03 * min(1, 2 * (steps - step) / steps)
        index = torch.randint(len(x), (2000,), generator=generator)
        optimiser.zero_grad()
        turned = others[index] + x[index] @ ((dial * unit)[:, None] * e) + lean
        F.cross_entropy(turned, answers[index]).backward()
        optimiser.step()
        with torch.no_grad():
            dial.clamp_(min=0)
    return (dial * unit).detach().numpy()


def _erasers(x: np.ndarray, colours: np.ndarray) -> dict[str, Any]:
    """Functions (N, W) -> (N, W) that take the ink out of pooled activations.

    "colour class means": their nine directions are projected out; "linear colour probe": so are
    those of a logistic regression; "LEACE": the least change after which no linear reader does
    better than guessing (Belrose et al. 2023, arXiv:2306.03819).
    """
    centre = x.mean(0)
    means = np.stack([x[colours == c].mean(0) for c in range(CLASSES)]) - centre
    weights, _, (_, spread) = _readout(x, colours)
    values, vectors = np.linalg.eigh(np.cov(x.T.astype(np.float64)))
    roots = np.sqrt(np.maximum(values, 1e-6 * values.max()))
    whiten, colour = vectors / roots @ vectors.T, vectors * roots @ vectors.T

    def span(rows: np.ndarray) -> np.ndarray:
        kept = np.linalg.svd(rows, full_matrices=False)[2][: CLASSES - 1]
        return kept.T @ kept

    away = {
        "colour class means": span(means),
        "linear colour probe": span((weights / spread[:, None]).T),
        "LEACE": (colour @ span(means @ whiten) @ whiten).T,
    }
    return {name: lambda y, p=p: y - (y - centre) @ p for name, p in away.items()}


def _readout(z: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple]:
    """A linear reader of the answers: weights (K, 10), bias (10,), and the mean and spread by which
    the inputs are standardised. Cross-entropy, AdamW with weight decay 0.5."""
    x = torch.from_numpy(z)
    mean, spread = x.mean(0), x.std(0).clamp(min=1e-4)
    x = (x - mean) / spread
    weights, bias = torch.zeros(x.shape[1], CLASSES), torch.zeros(CLASSES)
    parameters = [weights.requires_grad_(), bias.requires_grad_()]
    optimiser = torch.optim.AdamW(parameters, 0.01, weight_decay=0.5)
    target = torch.from_numpy(answers.astype(np.int64))
    generator, steps = torch.Generator().manual_seed(0), READING_STEPS
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.01 * min(1, 2 * (steps - step) / steps)
        index = torch.randint(len(x), (512,), generator=generator)
        optimiser.zero_grad()
        F.cross_entropy(x[index] @ weights + bias, target[index]).backward()
        optimiser.step()
    return (
        weights.detach().numpy(),
        bias.detach().numpy(),
        (mean.numpy(), spread.numpy()),
    )


def _refitted(
    model: nn.Module,
    sae: SparseAutoencoder,
    network: dict,
    survivors: np.ndarray,
    sets: dict[str, tuple],
) -> dict[str, float]:
    """Accuracies of linear heads fitted anew, on all sets but the first. "random inks": fitted on
    the search images; "own images": on the same digits in inks biased as the network's training
    images are. Neither uses a colour label. "cells": the head reads the mean in each of 3 x 3
    overlapping cells of the map, else that of the whole map."""
    grey, labels = (values[-len(sets["search"][1]) :] for values in split_digits("train"))
    colours = assign_colours(labels, network["correlation"], network["seed"])
    sets = sets | {"own": (paint(grey, colours, network["seed"]), labels, colours)}
    keep = torch.from_numpy(np.ascontiguousarray(survivors))
    features: dict[tuple[str, str], np.ndarray] = {}
    for name, (images, *_) in sets.items():
        parts: dict[str, list[Tensor]] = {}
        for maps in _maps(model, LAYER, images):
            side = int(maps.shape[1] ** 0.5)
            code = sae.encode(maps.flatten(0, 1))[:, keep].view(*maps.shape[:2], -1)
            for what, values in (("surviving latents", code), ("raw channels", maps)):
                square = values.transpose(1, 2).unflatten(2, (side, side))
                for cells in CELLS:
                    title = what + (", cells" if cells > 1 else "")
                    cut = F.adaptive_avg_pool2d(square, cells).flatten(1)
                    parts.setdefault(title, []).append(cut)
        features |= {(name, title): torch.cat(cut).numpy() for title, cut in parts.items()}
    found = {}
    for title in parts:
        for source, fitted_on in (("search", "random inks"), ("own", "own images")):
            weights, bias, (mean, spread) = _readout(features[source, title], sets[source][1])
            for name in ("validation", "hard", "aligned"):
                scores = (features[name, title] - mean) / spread @ weights + bias
                right = float((scores.argmax(1) == sets[name][1]).mean())
                found[f"refit | {title}, {fitted_on} | {name}"] = right
    return found


def _walked(
    model: nn.Module, sae: SparseAutoencoder, silent: np.ndarray, levels: np.ndarray, ones: int
) -> dict[str, np.ndarray]:
    """ "walk" and "moved" of `operated`."""
    head, offset = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    change = (silent - 1)[:, None] * (sae.directions().numpy() @ head.T)
    grey, labels = split_digits("hard")
    moved, called_one, walk = np.zeros((2, CLASSES)), np.zeros((2, CLASSES)), None
    for digit in range(CLASSES):
        some = grey[labels == digit][:ones]
        z, x = _pooled(model, sae, paint(some, np.zeros(len(some), int), TEST_SEED))
        plain = x @ head.T + offset
        for row, rest in enumerate((0 * levels, levels)):
            called = (plain + (z - rest) @ change).argmax(1)
            moved[row, digit] = ((plain.argmax(1) == 0) & (called == digit)).mean()
            called_one[row, digit] = (called == 1).mean()
        if digit == 1:
            steps = np.linspace(0, 1, 11)[:, None, None]
            path = torch.from_numpy(plain + steps * ((z - levels) @ change))
            walk = path.softmax(2).numpy().astype(np.float32)
    return {"walk": walk, "moved": moved, "called one": called_one}


# --- for the chapter -----------------------------------------------------------------------------


def _named_config(kind: str, seed: int) -> dict[str, Any]:
    return {"code": _config(kind, seed), "each": 30 if scale() == "full" else 10}


def _operated_config(seed: int) -> dict[str, Any]:
    full = scale() == "full"
    sizes = {"search": 8_000 if full else 2_000, "chosen_on": 3_000 if full else 1_000}
    return {
        "code": _config("cheater", seed),
        **sizes,
        "steps": 300 if full else 150,
        "ones": 200 if full else 50,
    }


def prepare() -> None:
    """Train and measure all that the chapter asks for; what is stored already costs nothing."""
    codes = [_config(kind, seed) for kind in ("cheater", "oracle") for seed in seeds()]
    codes += [_config("cheater", 0, start=1), *_sweep_configs(), *_layer_configs()]
    fetch_many(coded, codes, data_md5(), title="training sparse autoencoders")
    cases = [_named_config(kind, seed) for kind in ("cheater", "oracle") for seed in seeds()]
    fetch_many(named, cases, data_md5(), title="naming latents")
    fetch_many(operated, _operations(), data_md5(), title="turning latents")


def _operations() -> list[dict]:
    return [_operated_config(seed) for seed in seeds()]


def _sweep_configs() -> list[dict[str, Any]]:
    ways = [(kind, value, CHOSEN[2]) for kind, values in SWEEP.items() for value in values]
    ways += [(*CHOSEN[:2], width) for width in WIDTHS]
    return [_config("cheater", 0, way=way) for way in ways]


def _layer_configs() -> list[dict[str, Any]]:
    return [_config("cheater", 0, layer) for layer in LAYERS]


def _both(seed: int, kind: str = "cheater") -> tuple[Artifact, dict[str, Any]]:
    artifact = fetch(named, _named_config(kind, seed), data_md5())
    return artifact, artifact.record["metrics"]


def _quality(configs: list[dict[str, Any]]) -> list[dict[str, float]]:
    return [a.record["metrics"] for a in fetch_many(coded, configs, data_md5())]


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
    """Mean area under the ROC curve over the ten inks and the ten digits, by reader, cheater and
    oracle, over seeds."""
    rows = []
    for r, reader in enumerate(READERS):
        row = {"reader": reader}
        for kind in ("cheater", "oracle"):
            tables = [_both(seed, kind)[0].tensors["auroc"][r] for seed in seeds()]
            for k, what in enumerate(("ink", "digit")):
                span = slice(k * CLASSES, (k + 1) * CLASSES)
                value = estimate(table[span].mean() for table in tables)
                row[f"{kind}: {what}"] = value.format("{:.3f}")
        rows.append(row)
    return pd.DataFrame(rows)


def found(kind: str = "cheater") -> dict[str, Estimate]:
    """Over seeds: "colours found" and "digits found", how many of the ten have a latent of AUROC
    above 0.95; "colour probe" and "digit probe", accuracy of linear readers of the pooled layer."""
    metrics = [_both(seed, kind)[1] for seed in seeds()]
    return {
        name: estimate((m[name] for m in metrics), (0, 10) if "found" in name else (0, 1))
        for name in metrics[0]
    }


def labels(seed: int = 0, kind: str = "cheater") -> list[tuple[str, str]]:
    """Automatic label of each latent: its kind of `KINDS_OF_LATENT`, and the ink or digit that
    excites it most on average.

    A latent that is never active is "silent". Of what digit and colour explain of its variance
    together, a "colour" latent has at least `DOMINANT` by colour, a "shape" latent by digit.
    """
    tensors = _both(seed, kind)[0].tensors
    result = []
    for cells, colour, digit, active in zip(
        *(tensors[name] for name in ("cells", "colour", "digit", "active")), strict=True
    ):
        if not active:
            result.append(("silent", ""))
        elif colour >= DOMINANT * (colour + digit):
            result.append(("colour", COLOUR_NAMES[cells.mean(0).argmax()]))
        elif digit >= DOMINANT * (colour + digit):
            result.append(("shape", str(cells.mean(1).argmax())))
        else:
            result.append(("mixed", ""))
    return result


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
            "images": images[top],
            "effect": tensors["effect"][k],
        }
        for k, top in zip(tensors["shown"], tensors["top"], strict=True)
    ]


def autoencoder_mark() -> str:
    """A short mark of the first cheater's autoencoder, the same only for the same weights (rounded
    to three places): labels by eye belong to one autoencoder alone."""
    rows = autoencoder(_config("cheater", 0)).decoder.numpy()
    return hashlib.sha256((np.round(rows, 3) + 0.0).tobytes()).hexdigest()[:12]


def manual_labels(path: Path = LABELS) -> dict[int, str]:
    """Labels by eye, by latent, of the file in `report/` (columns autoencoder, latent, label), or
    none if they are of another autoencoder. Raises ValueError, by line, for a row that cannot be
    read."""
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


def _operating(name: str) -> Estimate:
    records = fetch_many(operated, _operations(), data_md5(), title="turning latents")
    return estimate(a.record["metrics"][name] for a in records)


def cure() -> dict[str, Estimate]:
    """Of the cure chosen on validation digits, and of none ("uncured"): "hard", "aligned",
    "follows", "uncured"; "margin", how much better on hard than the best control; "probe", what a
    linear reader fitted anew on the raw channels reads; "refit", on the surviving latents by
    cells."""
    records = fetch_many(operated, _operations(), data_md5(), title="turning latents")
    metrics = [a.record["metrics"] for a in records]
    result = {m: _operating(f"SAE latents | chosen | {m}") for m in ("hard", "aligned", "follows")}
    margins = [
        m["SAE latents | chosen | hard"] - max(m[f"{name} | chosen | hard"] for name in BASES[1:])
        for m in metrics
    ]
    return result | {
        "uncured": _operating("none | none | hard"),
        "margin": estimate(margins, (-1, 1)),
        "ratio": estimate(
            (m["SAE latents | chosen | hard"] / m["none | none | hard"] for m in metrics),
            (0, np.inf),
        ),
        "silenced": _operating("SAE latents | balanced | hard"),
        "probe": _operating("refit | raw channels, random inks | hard"),
        "refit": _operating("refit | surviving latents, cells, random inks | hard"),
    }


def cure_table() -> pd.DataFrame:
    """Each basis and procedure on test digits, in percent over seeds."""
    cases = [("none", "none")]
    cases += [(basis, procedure) for basis in BASES for procedure in PROCEDURES]
    cases += [(eraser, procedure) for eraser in ERASERS for procedure in ("mean", "balanced")]
    rows = []
    for basis, procedure in cases:
        values = {m: _operating(f"{basis} | {procedure} | {m}") for m in MEASURES}
        row = {"what": basis, "how": procedure}
        rows.append(row | {title: percent(values[m]) for m, title in MEASURES.items()})
    return pd.DataFrame(rows)


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
    """As ever more of the latents are silenced: "share" (S,), and for each level in `PROCEDURES`
    accuracy on hard and the share that follows the ink: (seeds, S, 2)."""
    records = fetch_many(operated, _operations(), data_md5(), title="turning latents")
    curves = np.stack([a.tensors["curve"] for a in records])  # (seeds, 3, S, 3)
    result = {name: curves[:, level, :, 1:] for level, name in enumerate(PROCEDURES[:3])}
    return {"share": np.array(SHARES), **result}


def dials() -> dict[str, Any]:
    """Red test ones as the silenced latents go from 1 to 0: "walk" (11, N, 10), probabilities of
    the first cheater; "moved" and "called one", by "zeroed" and "balanced", arrays (10,) of means
    over seeds: the share of each digit in red that goes from 0 to itself, and that is called 1;
    "ones", the estimate for balanced red ones."""
    records = fetch_many(operated, _operations(), data_md5(), title="turning latents")
    tables = {
        name: np.stack([a.tensors[name] for a in records]) for name in ("moved", "called one")
    }
    return {
        "walk": records[0].tensors["walk"],
        "moved": dict(zip(("zeroed", "balanced"), tables["moved"].mean(0), strict=True)),
        "called one": dict(zip(("zeroed", "balanced"), tables["called one"].mean(0), strict=True)),
        "ones": estimate(tables["moved"][:, 1, 1]),
    }
