"""Chapter 7: the cheater's hidden states taken apart by sparse autoencoders, labelled, and steered.

Interventions act on the last maps (`LAYER`), where they are matrix products: see `latents`.
"""

from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lazy_artist import atlas, canvas, erasure, latents, plots
from lazy_artist.canvas import COLOUR_NAMES, N_CLASSES, Split, paint, split_digits
from lazy_artist.config import NO_BIAS, TEST_SEED, device, pick
from lazy_artist.evaluate import balanced
from lazy_artist.interface import to_array
from lazy_artist.networks import Network, network, networks
from lazy_artist.sae import SparseAutoencoder, fit_autoencoder, matched_cosine, quality, steer
from lazy_artist.store import stored

LAYER = "block3"  # (N, 128, 7, 7)
WIDTHS = {"block1": 32, "block2": 64, "block3": 128, "pooled": 128}
CHOSEN = {"kind": "batchtopk", "sparsity": 16.0, "expansion": 8}
SWEEP = {"topk": (4.0, 12.0, 32.0), "batchtopk": (4.0, 12.0, 32.0), "relu": (0.4, 1.0, 2.5)}
EXPANSIONS = (4, 16)  # other widths, at the chosen kind and sparsity
PAINT_SEED = 2000  # paints training and validation digits in uninformative colours
CUTS = (0, 2, 5, 7)  # rows and columns of the last maps, cut into 3 x 3 cells
N_CELLS = (len(CUTS) - 1) ** 2
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of the parts, ablated
SCALE_PENALTIES = (1e-3, 1e-2)
PROBE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
FACTORS = (1, 2, 4, 8)  # by which latents of shape are amplified
N_ALIGNED = 1000  # aligned test images: enough for a number that is near 1
N_SHEET, N_TOP, N_BINS = 16, 9, 24  # latents on the sheet; images and bars on a latent's card
LABELS_BY_EYE = Path(__file__).parents[3] / "report" / "latent-labels.csv"


# --- autoencoders --------------------------------------------------------------------------------


@stored
def train_sae(
    network: Network, layer: str, kind: str, sparsity: float, expansion: int, seed: int,
    steps: int, n_images: int, n_places: int,
) -> dict[str, dict]:  # fmt: skip
    """An autoencoder of a layer ("weights"), trained on `n_places` random places in each of
    `n_images` training digits, painted with the network's bias and seed; and its quality ("info")
    on a fifth as many easy validation images, at most 1,000; see `latents.loss_recovered`."""
    model, bias = network.load(), network.correlation
    grey, labels = (part[:n_images] for part in split_digits("train"))
    images = paint(grey, canvas.assign_colours(labels, bias, network.seed), network.seed)
    x = latents.sample_activations(model, layer, images, n_places, seed)
    sae = fit_autoencoder(x, expansion * x.shape[1], kind, sparsity, seed=seed, steps=steps)
    held_out = canvas.colour_split("validation", TEST_SEED, bias)
    held_out = held_out.take(np.arange(min(1000, n_images // 5, len(held_out))))
    y = latents.sample_activations(model, layer, held_out.images, n_places, seed + 1)
    info = quality(sae, y)
    info["loss_recovered"] = latents.loss_recovered(model, layer, sae, x.mean(0), held_out)
    return {"weights": sae.state_dict(), "info": info}


def sae_options(layer: str = LAYER, seed: int = 0, **other: Any) -> dict[str, Any]:
    """What `train_sae` is given besides the network; `other` instead of what is `CHOSEN`. All but
    the chosen way on the last maps is trained for a shorter time. seed: the autoencoder's own."""
    options = {"layer": layer, **CHOSEN, **other, "seed": seed}
    if layer == "block1":
        options["sparsity"] = min(options["sparsity"], 8.0)
    longer, shorter = pick(((200, 10_000), (100, 5_000)), ((60, 2_000), (30, 1_000)))
    steps, n_images = longer if layer == LAYER and not other else shorter
    n_places = 1 if layer == "pooled" else 16
    return options | {"steps": steps, "n_images": n_images, "n_places": n_places}


def load_sae(network: Network, **options: Any) -> SparseAutoencoder:
    """The autoencoder of a network and `sae_options`, in eval mode; trained unless it is stored."""
    weights = train_sae(network, **options)["weights"]
    latents, width = weights["decoder"].shape
    sae = SparseAutoencoder(width, latents, options["kind"], options["sparsity"])
    sae.load_state_dict(weights)
    return sae.requires_grad_(False).eval().to(device())


def train_saes() -> pd.DataFrame:
    """All autoencoders of the chapter, trained in parallel: a row each, with what it was trained
    with and its "l0", "fvu", "dead" and "loss_recovered". study: "chosen" (every network, and a
    "restart" of the first cheater), "layer", "sparsity" or "expansion" (the first cheater)."""
    first = network("cheater")
    runs = [("chosen", one, sae_options()) for one in networks(["cheater", "oracle", "cure"])]
    runs.append(("restart", first, sae_options(seed=1)))
    runs += [("layer", first, sae_options(layer)) for layer in WIDTHS]
    for kind, values in SWEEP.items():
        for value in values[:: pick(1, 2)]:  # at quick scale the ends alone
            runs.append(("sparsity", first, sae_options(kind=kind, sparsity=value)))
    runs += [("expansion", first, sae_options(expansion=factor)) for factor in EXPANSIONS]
    rated = rate_saes([{"network": one, **options} for _, one, options in runs])
    return pd.DataFrame(
        {"study": study, "network": one.name, "network_seed": one.seed, **options, **info}
        for (study, one, options), info in zip(runs, rated, strict=True)
    )


@stored
def rate_saes(given: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The "info" of `train_sae` for each of these arguments, trained in parallel."""
    trained = stored.map(train_sae, given, title="training sparse autoencoders")
    return [sae["info"] for sae in trained]


@stored
def compare_saes(network: Network, options: list[dict[str, Any]]) -> float:
    """`matched_cosine` of two autoencoders of a network, by their `sae_options`."""
    return matched_cosine(*(load_sae(network, **each) for each in options))


# --- labels --------------------------------------------------------------------------------------


def colour_grid(name: str, n_per_class: int, seed: int) -> Split:
    """The first images of every digit of a split, each in all ten colours, colour by colour."""
    grey, labels = balanced(*split_digits(name), n_per_class)
    images = np.concatenate([paint(grey, np.full(len(grey), k), seed) for k in range(N_CLASSES)])
    return Split(images, np.tile(labels, N_CLASSES), np.arange(N_CLASSES).repeat(len(grey)))


@stored
def label_latents(network: Network, options: dict[str, Any], n_per_class: int) -> dict[str, Any]:
    """What each latent goes with on the `colour_grid`, how well single latents and their rivals
    tell each colour and digit, and whether the network uses its colour latents. options:
    `sae_options` of its latents. Latents are labelled, and the best of each basis is chosen, on
    validation digits; what is reported of the chosen ones is on test digits. Returns

    "auroc": frame of basis, attribute ("colour", "digit"), level (0 to 9), auroc;
    "latents": frame, see `latents.describe`, of the means over places;
    "cells" (L, 10 digits, 10 colours): their means; "effect" (L, 10): logits that a unit adds;
    "top" (L, N_TOP): places in the grid of the images that excite it most, strongest first;
    "histogram" (L, N_BINS): of its means between 0 and the largest; "sheet" (N_SHEET,): the best
        latent of each colour, then those in which the digit has most to say;
    "summary": colour_probe and digit_probe, accuracies of linear probes; colour_latents, their
        share of the live ones; correct and correct_ablated, the network's accuracy before and after
        they are held at their means; colours_found and digits_found, of ten, by an area above 0.95.
    """
    model, sae, cells = network.load(), load_sae(network, **options), latents.cell_weights(CUTS)
    grid = colour_grid("validation", n_per_class, PAINT_SEED)
    test = colour_grid("hard", n_per_class, TEST_SEED)
    z, x, test_z, test_x = (
        latents.sum_cells(parts, N_CELLS)
        for split in (grid, test)
        for parts in latents.parts_by_cell(model, LAYER, split.images, cells, sae)
    )
    centre, axes = latents.principal_directions(x)
    rivals = {
        "SAE latents": (z, test_z),
        "raw channels": (x, test_x),
        "PCA directions": ((x - centre) @ axes, (test_x - centre) @ axes),
    }
    rows, summary, best = [], {}, {}
    known = {"colour": (grid.colours, test.colours), "digit": (grid.labels, test.labels)}
    for attribute, (here, there) in known.items():
        areas = {}
        for basis, (values, unseen) in rivals.items():
            best[attribute, basis], areas[basis] = latents.best_auroc(values, here, unseen, there)
        weights, bias = latents.fit_linear_probe(x, here)
        scores = test_x @ weights + bias
        areas["linear probe"] = latents.auroc(scores, there).diagonal()
        summary[f"{attribute}_probe"] = float((scores.argmax(1) == there).mean())
        summary[f"{attribute}s_found"] = int((areas["SAE latents"] > 0.95).sum())
        for basis, values in areas.items():
            row = {"basis": basis, "attribute": attribute, "level": range(N_CLASSES)}
            rows.append(pd.DataFrame(row | {"auroc": values}))

    head, offset = model.head.weight.detach(), to_array(model.head.bias)
    effect = to_array(sae.directions() @ head.T)
    means = z.reshape(N_CLASSES, N_CLASSES, n_per_class, -1).mean(2).transpose(2, 1, 0)
    frame = latents.describe(z, grid.colours, grid.labels, means, effect)
    bins = np.minimum(z / np.maximum(z.max(0), 1e-12) * N_BINS, N_BINS - 1).astype(int)
    sheet = list(dict.fromkeys(best["colour", "SAE latents"].tolist()))
    sheet += [k for k in np.argsort((frame.colour - frame.digit).to_numpy()) if k not in sheet]
    of_colour = (frame.label == "colour").to_numpy()
    logits = test_x @ to_array(head).T + offset
    ablated = logits - (test_z - z.mean(0))[:, of_colour] @ effect[of_colour]
    summary |= {
        "colour_latents": float(of_colour.sum() / max(1, (frame.most > 0).sum())),
        "correct": float((logits.argmax(1) == test.labels).mean()),
        "correct_ablated": float((ablated.argmax(1) == test.labels).mean()),
    }
    return {
        "auroc": pd.concat(rows, ignore_index=True), "latents": frame, "cells": means,
        "effect": effect, "top": np.argsort(-z, axis=0)[:N_TOP].T,
        "histogram": np.stack([np.bincount(column, minlength=N_BINS) for column in bins.T]),
        "sheet": np.array(sheet[:N_SHEET]), "summary": summary,
    }  # fmt: skip


@stored
def describe_latents(network: Network, options: dict[str, Any], n_per_class: int) -> dict[str, Any]:
    """What `label_latents` says of a network's latents as a whole: its "auroc" and "summary";
    "shares", of all latents, by label; and "mark", a short text that two autoencoders share only if
    their weights (rounded to three places) are the same."""
    found, sae = label_latents(network, options, n_per_class), load_sae(network, **options)
    labels, weights = found["latents"].label, np.round(to_array(sae.decoder), 3) + 0.0
    shares = {label: float((labels == label).mean()) for label in ("colour", "shape", "mixed")}
    mark = hashlib.sha256(weights.tobytes()).hexdigest()[:12]
    return {"auroc": found["auroc"], "summary": found["summary"], "shares": shares, "mark": mark}


def labels_by_eye(mark: str, path: Path = LABELS_BY_EYE) -> dict[str, str]:
    """The labels by eye of the autoencoder with this mark (see `describe_latents`), by latent, from
    a file with the columns autoencoder (the mark), latent, label. Raises ValueError, by line, for a
    row that cannot be read."""
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    if wrong := rows.index[~rows.latent.str.isdigit() | (rows.label == "")].tolist():
        raise ValueError(f"{path.name}, line {wrong[0] + 2}: give autoencoder, latent and label")
    rows = rows[rows.autoencoder == mark]
    return dict(zip(rows.latent.astype(int).astype(str), rows.label.str.strip(), strict=True))


@stored
def show_latents(
    networks: list[Network], options: dict[str, Any], n_per_class: int, by_eye: dict[str, str]
) -> dict[str, Any]:
    """The latents in pictures. by_eye: labels of the first network's latents, by latent. "atlas":
    of `atlas.compose`, a card for each latent of all networks. Of the first: "latents", its frame
    of `label_latents` with a column by_eye; "sheet", see there, with "pictures" uint8 (N_SHEET,
    N_TOP, 3, 28, 28) that excite those latents most, and their "effect" (N_SHEET, 10)."""
    grid = colour_grid("validation", n_per_class, PAINT_SEED)
    images, cards = np.round(255 * grid.images).astype(np.uint8), []
    names = [f"{COLOUR_NAMES[c]} {k}" for c, k in zip(grid.colours, grid.labels, strict=True)]
    labelled = {one.name: label_latents(one, options, n_per_class) for one in networks}
    first, *others = labelled.values()
    first["latents"]["by_eye"] = [by_eye.get(str(k), "") for k in first["latents"].latent]
    for other in others:
        other["latents"]["by_eye"] = ""
    for name, result in labelled.items():
        for row in result["latents"].itertuples():
            k, quoted = row.latent, f"“{row.by_eye}”" if row.by_eye else ""
            pictures = [(names[i], images[i]) for i in result["top"][k]]
            cards.append(atlas.Card(
                path=f"{name}/latent/{k}", title=f"{name}, latent {k}",
                subtitle=" ".join(filter(None, (row.label, row.prefers, quoted))),
                facets={
                    "network": (name,), "label": (row.label,),
                    "answers to": (row.prefers,) if row.prefers else (),
                    "speaks for": (str(row.speaks_for),), "by eye": ("labelled",) * bool(quoted),
                },
                measures={
                    "η² colour": row.colour, "η² digit": row.digit,
                    "active on, %": 100 * row.active, "adds": row.adds, "most": row.most,
                },
                pictures=pictures[:1], examples=pictures[1:], grid=result["cells"][k],
                histogram=result["histogram"][k], most=row.most, mark=row.most,
            ))  # fmt: skip
    sheet = first["sheet"]
    return {
        "atlas": atlas.compose(cards, histogram_title="validation digits in all colours"),
        "latents": first["latents"], "sheet": sheet, "effect": first["effect"][sheet],
        "pictures": images[first["top"][sheet]],
    }  # fmt: skip


# --- interventions -------------------------------------------------------------------------------


def intervention_sets(n_search: int, n_validation: int, n_eval: int | None) -> dict[str, Split]:
    """Training digits to search on ("search"), validation digits to choose on, both in
    uninformative colours, and the first hard (`n_eval`, or all) and aligned test images."""
    sets = {"search": ("train", slice(-n_search, None))}
    sets["validation"] = ("validation", slice(n_validation))
    for name, (split, part) in sets.items():
        grey, labels = (values[part] for values in split_digits(split))
        colours = canvas.assign_colours(labels, NO_BIAS, PAINT_SEED)
        sets[name] = Split(paint(grey, colours, PAINT_SEED), labels, colours)
    hard, aligned = canvas.test_split("hard", n_eval), canvas.test_split("aligned", N_ALIGNED)
    return sets | {"hard": hard, "aligned": aligned}


def shares_correct(logits: dict[str, np.ndarray], sets: dict[str, Any]) -> dict[str, float]:
    """Accuracies by set (but "search"), and the shortcut rate on hard images. sets: by name, with
    `labels` and `colours`."""
    answers = {name: value.argmax(1) for name, value in logits.items() if name != "search"}
    correct = {name: float((answers[name] == sets[name].labels).mean()) for name in answers}
    return correct | {"shortcut_rate": float((answers["hard"] == sets["hard"].colours).mean())}


@stored
def intervene_on_latents(
    network: Network, options: dict[str, Any], n_search: int, n_validation: int,
    n_eval: int | None, steps: int, n_red: int,
) -> dict[str, Any]:  # fmt: skip
    """The network's accuracy on `intervention_sets` while parts of its last maps are ablated or
    scaled, its head untouched.

    Five bases compete: the autoencoder's latents; the same in random order, with their scales
    shuffled; those of an autoencoder before training, as many and as sparse; the raw channels; and
    the principal directions. Parts are ordered by how much more their mean over places goes with
    colour than with digit, on the search images. "ablated": the first are held at one of
    `latents.LEVELS`, for each of `SHARES`. "scales": each part has a scale >= 0 of its own, "scales
    by cell": one for each cell of the map, searched in `steps` iterations. Validation digits choose
    the penalty, and all else; test digits choose nothing. Returns

    "accuracy": frame of basis, procedure, level, n (parts ablated, or with a scale below 0.05),
        share (ablated), validation, hard, aligned, shortcut_rate; a row for all that was tried.
    "latents": frame of latent, label, scale, on the search images. "amplified": frame of factor, by
        which the latents of shape that survive the balanced ablation are scaled, and accuracies.
    "refit": frame of features, fitted_on (the search images, in "random colours", or "own images",
        half of the same digits, biased as in the network's training), and what `refit_heads` tells.
    "red": frame of procedure, digit, moved (of `n_red` test images of this digit in red, the share
        predicted 0 before and the digit itself after) and called_one. "walk" (11, n, 10): the
        probabilities for red ones as the ablated latents' scale goes from 1 to 0.
    """
    model, sae = network.load(), load_sae(network, **options)
    head, bias = to_array(model.head.weight), to_array(model.head.bias)
    sets, cells = intervention_sets(n_search, n_validation, n_eval), latents.cell_weights(CUTS)
    digits, colours = sets["search"].labels, sets["search"].colours
    size, k, seed = sae.decoder.shape[::-1], options["sparsity"], network.seed
    untrained = SparseAutoencoder(*size, "topk", k, seed + 1).requires_grad_(False).to(device())
    untrained.centre.copy_(sae.centre)
    untrained.scale.copy_(sae.scale)

    z, noise, channels = {}, {}, {}  # by set: parts by cell
    for name, split in sets.items():
        z[name], noise[name], channels[name] = latents.parts_by_cell(
            model, LAYER, split.images, cells, sae, untrained
        )
    pooled = {name: latents.sum_cells(x, N_CELLS) for name, x in channels.items()}
    logits = {name: x @ head.T + bias for name, x in pooled.items()}
    centre, axes = latents.principal_directions(pooled["search"])
    means = (centre * cells.sum(1, keepdim=True).numpy()).ravel()  # of each cell, if all alike
    principal = {
        name: ((x - means).reshape(-1, len(centre)) @ axes).reshape(len(x), -1)
        for name, x in channels.items()
    }
    effect = to_array(sae.directions()) @ head.T
    bases = {
        "SAE latents": (z, effect),
        "random latents": (z, effect),
        "untrained latents": (noise, to_array(untrained.directions()) @ head.T),
        "raw channels": (channels, head.T),
        "PCA directions": (principal, axes.T @ head.T),
    }
    row = {"basis": "none", "procedure": "as it was", "level": "", "n": 0}
    rows = [row | shares_correct(logits, sets)]
    rng, scales, of_basis = np.random.default_rng(seed), {}, {}
    for basis, (by_cell, unit) in bases.items():
        shuffled = basis == "random latents"
        whole = {name: latents.sum_cells(parts, N_CELLS) for name, parts in by_cell.items()}
        order, *eta = latents.colour_first(whole["search"], colours, digits)
        order = rng.permutation(len(unit)) if shuffled else order
        of_basis[basis] = whole, order, eta
        for level, share in product(latents.LEVELS, SHARES):
            n = max(1, round(share * len(unit)))
            held = latents.ablation_scales(order, n)
            edited = latents.scale_about(logits, whole, unit, held, level)
            row = {"basis": basis, "procedure": "ablated", "level": level, "n": n, "share": share}
            rows.append(row | shares_correct(edited, sets))
        for procedure, parts in (("scales", whole), ("scales by cell", by_cell)):
            units = np.tile(unit, (parts["search"].shape[1] // len(unit), 1))
            if shuffled:
                scale, offset = scales["SAE latents", procedure]
                candidates = [(rng.permutation(scale), offset)]
            else:
                task = logits["search"], parts["search"], units, digits
                candidates = [latents.search_scales(*task, p, steps) for p in SCALE_PENALTIES]
            tried = []
            for scale, offset in candidates:
                edited = latents.rescale(logits, parts, units, scale, offset)
                edited = latents.even_out(edited) if shuffled else edited
                n = int((scale < 0.05).sum())
                row = {"basis": basis, "procedure": procedure, "level": "", "n": n}
                tried.append((row | shares_correct(edited, sets), (scale, offset)))
            best, scales[basis, procedure] = max(tried, key=lambda one: one[0]["validation"])
            rows.append(best)

    weights, _ = latents.fit_linear_probe(pooled["search"], colours)
    erasers = {
        "colour class means": erasure.project_out_class_means(pooled["search"], colours),
        "linear colour probe": erasure.project_out(pooled["search"], weights.T, N_CLASSES - 1),
        "LEACE": erasure.leace(pooled["search"], colours),
    }
    for basis, eraser in erasers.items():
        edited = {name: eraser(x) @ head.T + bias for name, x in pooled.items()}
        row = {"basis": basis, "procedure": "erased", "level": "mean", "n": 0}
        rows.append(row | shares_correct(edited, sets))
        rows.append(row | {"level": "balanced"} | shares_correct(latents.even_out(edited), sets))

    tried = [row for row in rows if row["basis"] == "SAE latents" and row["level"] == "balanced"]
    n = max(tried, key=lambda row: row["validation"])["n"]
    whole, order, eta = of_basis["SAE latents"]
    labels = latents.label_by_share(*eta, whole["search"].max(0) > 0)
    held = latents.ablation_scales(order, n)
    amplified = []
    for factor in FACTORS:
        louder = np.where((labels == "shape") & (held > 0), factor, held).astype(np.float32)
        edited = latents.scale_about(logits, whole, effect, louder, "balanced")
        amplified.append({"factor": factor} | shares_correct(edited, sets))

    # half of the search digits are enough to show how it goes
    grey, own = split_digits("train")[0][-n_search:], slice(0, n_search // 2)
    biased = canvas.assign_colours(digits, network.correlation, seed)[own]
    sets["own"] = Split(paint(grey[own], biased, seed), digits[own], biased)
    z["own"], channels["own"] = latents.parts_by_cell(model, LAYER, sets["own"].images, cells, sae)
    kept = {"surviving latents": (z, order[n:]), "raw channels": (channels, np.arange(len(head.T)))}
    fitted, refit = {"random colours": "search", "own images": "own"}, []
    for (features, task), (fitted_on, source) in product(kept.items(), fitted.items()):
        row = {"features": features, "fitted_on": fitted_on}
        refit += [row | one for one in refit_heads(*task, sets, source)]

    levels = latents.resting_levels("balanced", logits["search"], whole["search"], effect, held)
    by_cell = np.tile(effect, (N_CELLS, 1)), *scales["SAE latents", "scales by cell"]
    (grey, shown), plain, reds, reds_by_cell = split_digits("hard"), {}, {}, {}
    for digit in range(N_CLASSES):
        some = grey[shown == digit][:n_red]
        some = paint(some, np.zeros(len(some), int), TEST_SEED)
        reds_by_cell[digit], x = latents.parts_by_cell(model, LAYER, some, cells, sae)
        plain[digit] = latents.sum_cells(x, N_CELLS) @ head.T + bias
        reds[digit] = latents.sum_cells(reds_by_cell[digit], N_CELLS)
    ends = {
        "zeroed": latents.scale_about(plain, reds, effect, held, 0 * levels),
        "balanced": latents.scale_about(plain, reds, effect, held, levels),
        "scales by cell": latents.rescale(plain, reds_by_cell, *by_cell),
    }
    red = []
    for (digit, before), (procedure, end) in product(plain.items(), ends.items()):
        after = end[digit].argmax(1)
        moved = float(((before.argmax(1) == 0) & (after == digit)).mean())
        row = {"procedure": procedure, "digit": digit, "moved": moved}
        red.append(row | {"called_one": float((after == 1).mean())})
    path = plain[1] + np.linspace(0, 1, 11)[:, None, None] * (ends["balanced"][1] - plain[1])
    scale = scales["SAE latents", "scales"][0]
    return {
        "accuracy": pd.DataFrame(rows), "amplified": pd.DataFrame(amplified),
        "latents": pd.DataFrame({"latent": np.arange(len(scale)), "label": labels, "scale": scale}),
        "refit": pd.DataFrame(refit), "red": pd.DataFrame(red),
        "walk": torch.from_numpy(path).softmax(2).numpy().astype(np.float32),
    }  # fmt: skip


def refit_heads(
    parts: dict[str, Any], keep: np.ndarray, sets: dict[str, Any], source: str
) -> list[dict[str, Any]]:
    """Linear heads fitted anew to the labels of the set `source`, on the parts `keep`: a dictionary
    each for places "whole map" and "cells", with the penalty that is best on "validation", and
    `shares_correct`. parts: by cell, (N, N_CELLS * K), by set."""
    rows, measured = [], ("validation", "hard", "aligned")
    whole = {name: latents.sum_cells(parts[name], N_CELLS) for name in (source, *measured)}
    in_cells = (np.arange(N_CELLS)[:, None] * whole[source].shape[1] + keep).ravel()
    for places, columns, values in (("whole map", keep, whole), ("cells", in_cells, parts)):
        read, tried = {name: values[name][:, columns] for name in whole}, []
        for penalty in PROBE_PENALTIES:
            weights, bias = latents.fit_linear_probe(read[source], sets[source].labels, penalty)
            logits = {name: read[name] @ weights + bias for name in measured}
            row = {"places": places, "penalty": penalty}
            tried.append(row | shares_correct(logits, sets))
        rows.append(max(tried, key=lambda row: row["validation"]))
    return rows


@stored
def ablate_layers(network: Network, layers: list[dict[str, Any]], n_images: int) -> pd.DataFrame:
    """Hard accuracy as latents of earlier layers are ablated, by an autoencoder of each
    (`sae_options`). Latents are ordered as in `intervene_on_latents`, on `n_images` search images,
    and the first of them held at their mean over those, at every place; everything behind the layer
    works on as it is. Frame: layer, share (of 1/4, 1/2, 3/4 and 1 the best on as many validation
    images), validation, hard (on 2 * n_images)."""
    model, rows = network.load(), []
    sets = intervention_sets(n_images, n_images, 2 * n_images)
    for options in layers:
        sae, layer = load_sae(network, **options), options["layer"]
        z = latents.mean_latents(model, layer, sets["search"].images, sae)
        order, *_ = latents.colour_first(z, sets["search"].colours, sets["search"].labels)
        tried = []
        for share in (0.25, 0.5, 0.75, 1):
            held = latents.ablation_scales(order, round(share * len(order)))
            steered = steer(sae, held, z.mean(0))
            logits = {
                name: latents.rewritten_logits(model, layer, sets[name].images, steered).numpy()
                for name in ("validation", "hard")
            }
            tried.append({"layer": layer, "share": share} | shares_correct(logits, sets))
        rows.append(max(tried, key=lambda row: (row["validation"], row["hard"], row["share"])))
    return pd.DataFrame(rows)


# --- figures -------------------------------------------------------------------------------------

STYLES = ((plots.BLUE, "-", "o"), (plots.VERMILION, "--", "s"), (plots.AMBER, ":", "^"))


def sparse_front(frame: pd.DataFrame) -> Figure:
    """Variance unexplained against the number of active latents, a line for each kind of
    autoencoder: frame of kind, sparsity, l0, fvu."""
    names = {"topk": "TopK", "batchtopk": "BatchTopK", "relu": "ReLU with L1"}
    figure, axes = plots.grid(6.5, 3.4)
    ax, frame = axes[0, 0], frame.sort_values(["kind", "l0"])[["kind", "sparsity", "l0", "fvu"]]
    for (kind, name), (colour, dash, marker) in zip(names.items(), STYLES, strict=True):
        points = frame[frame.kind == kind]
        ax.plot(points.l0, points.fvu, dash, color=colour, marker=marker, label=name)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:.0f}")
    ax.set_ylim(bottom=0)
    ax.set_xlabel("active latents at a place, L0 (log scale)")
    plots.percent_axis(ax.yaxis, "variance unexplained")
    ax.legend()
    note = "l0: active latents at a place; fvu: share of the variance left unexplained"
    return plots.show(figure, frame, note)


def latent_sheet(found: dict[str, Any]) -> Figure:
    """A card for each latent of the sheet of `show_latents`: number and labels, its nine top
    images, and what it adds to the ten logits."""
    rows = -(-len(found["sheet"]) // 4)
    figure = plots.Figure(figsize=(8.4, 2.75 * rows))
    effect = found["effect"] - found["effect"].mean(1, keepdims=True)
    shown = found["latents"].loc[found["sheet"], ["latent", "label", "prefers", "by_eye"]]
    panels = figure.subfigures(rows, 4, squeeze=False).flat
    each = zip(panels, shown.itertuples(), found["pictures"], effect, strict=False)
    for panel, row, pictures, adds in each:
        top, bottom = panel.subplots(2, 1, height_ratios=[2.1, 1])
        mosaic = pictures.reshape(3, 3, 3, 28, 28)
        title = f"{row.latent}: {row.label} {row.prefers}\n" + f"“{row.by_eye}”" * bool(row.by_eye)
        plots.picture(top, mosaic.transpose(2, 0, 3, 1, 4).reshape(3, 84, 84), title)
        bottom.bar(range(N_CLASSES), adds, color=np.where(adds == adds.max(), plots.BLUE, "#BBB"))
        bottom.axhline(0, color=plots.DARK, linewidth=0.6)
        plots.class_ticks(bottom.xaxis)
        bottom.set_yticks([])
        bottom.tick_params(length=0)
        bottom.spines[:].set_visible(False)
    answers = [str(digit) for digit in range(N_CLASSES)]
    wide = shown.join(pd.DataFrame(effect, index=shown.index, columns=answers))
    frame = wide.melt(list(shown), var_name="answer", value_name="effect")
    note = "effect: logits that a unit of the latent adds to an answer, less their mean"
    return plots.show(figure, frame, note)


def ablation_curves(frame: pd.DataFrame) -> Figure:
    """Hard accuracy and shortcut rate as ever more of the latents are ablated, for each level they
    are held at; thin lines are seeds. frame: seed, level, share, hard, shortcut_rate."""
    titles = {"hard": "accuracy on hard images", "shortcut_rate": "shortcut rate on hard images"}
    figure, axes = plots.grid(8, 3.3, 1, 2, sharey=True)
    for ax, (measure, title) in zip(axes[0], titles.items(), strict=True):
        for level, (colour, dash, marker) in zip(latents.LEVELS, STYLES, strict=True):
            lines = frame[frame.level == level].pivot(index="share", columns="seed", values=measure)
            ax.plot(lines.index, lines, color=colour, linewidth=0.6, alpha=0.45)
            ax.plot(lines.index, lines.mean(axis=1), dash, color=colour, marker=marker, label=level)
        ax.axhline(0.1, color=plots.DARK, linewidth=0.8, linestyle="-.")
        ax.text(1, 0.105, "guessing", size=plots.SMALL, ha="right", va="bottom")
        ax.set_title(title)
        plots.percent_axis(ax.xaxis, "share of latents ablated, most of all colour first")
    plots.percent_axis(axes[0, 0].yaxis, "share of predictions")
    axes[0, 1].legend()
    note = "share: of the latents ablated; hard (accuracy) and shortcut_rate: shares of hard images"
    return plots.show(figure, frame[["seed", "level", "share", *titles]], note)


def red_ones(walk: np.ndarray) -> Figure:
    """Probabilities of 0 and of 1 for red ones as a scale goes from 1 to 0: walk (11, N, 10). Thin
    lines are the first twelve images, thick ones the mean of all."""
    figure, axes = plots.grid(6.5, 3.3)
    ax, scale, tables = axes[0, 0], np.linspace(1, 0, len(walk)), []
    for answer, (colour, dash, marker) in enumerate(STYLES[:2]):
        values, mean = walk[:, :12, answer], walk[:, :, answer].mean(1)
        ax.plot(scale, values, color=colour, linewidth=0.5, alpha=0.5)
        ax.plot(scale, mean, dash, color=colour, marker=marker, label=f"predicts {answer}")
        table = pd.DataFrame(values).assign(mean=mean, scale=scale, answer=answer)
        tables.append(table.melt(["scale", "answer"], var_name="image", value_name="probability"))
    ax.invert_xaxis()
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("scale of the ablated latents (1: as it was, 0: ablated)")
    plots.percent_axis(ax.yaxis, "probability")
    ax.legend()
    note = "scale: of the ablated latents; image: a red one, or the mean of all"
    return plots.show(figure, pd.concat(tables), note)
