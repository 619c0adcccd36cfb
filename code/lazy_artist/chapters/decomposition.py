"""Chapter 7: the cheater's hidden states taken apart by sparse autoencoders, labelled, and steered.

Interventions act on the last maps (`LAYER`), where they are matrix products: see `latents`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.special import softmax

from lazy_artist import atlas, canvas, erasure, latents, plots, tuning
from lazy_artist.canvas import COLOUR_NAMES, N_CLASSES, Split, paint, split_digits
from lazy_artist.config import NO_BIAS, TEST_SEED, device, n_eval, pick, sealed_splits
from lazy_artist.interface import to_array
from lazy_artist.models import build
from lazy_artist.networks import Network, network, networks
from lazy_artist.sae import SparseAutoencoder, fit_autoencoder, matched_cosine, quality
from lazy_artist.store import stored
from lazy_artist.tuning import colour_grid

LAYER = "block3"  # (N, 128, 7, 7)
WIDTHS = {"block1": 32, "block2": 64, "block3": 128, "pooled": 128}
CHOSEN = {"kind": "batchtopk", "sparsity": 16.0, "expansion": 8}
OTHERS = {"topk": 16.0, "relu": 1.0}  # other kinds, each with a sparsity
EXPANSIONS = (4, 16)  # other widths, at the chosen kind and sparsity
PAINT_SEED = 2000  # paints training and validation digits in uninformative colours
CUTS = (0, 2, 5, 7)  # rows and columns of the last maps, cut into 3 x 3 cells
N_CELLS = (len(CUTS) - 1) ** 2
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of the parts, ablated
SCALE_PENALTIES = (1e-3, 1e-2)
PROBE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
REDS = (8, 16, 32, 64, 128, 256)  # how many latents may count as those of red
DOSES = np.linspace(0, 4, 17)  # of red: 0 is the mean over colours, 1 what the digit has in red
N_ALIGNED = 1000  # aligned test images: enough for a number that is near 1
N_SHEET, N_TOP, N_BINS = 16, 9, 24  # latents on the sheet; images and bars on a latent's card
LABELS_BY_EYE = Path(__file__).parents[3] / "report" / "latent-labels.csv"


# --- autoencoders --------------------------------------------------------------------------------


@stored
def train_sae(
    network: Network, layer: str, kind: str, sparsity: float, expansion: int, seed: int,
    steps: int, n_images: int, n_places: int,
) -> dict[str, dict]:  # fmt: skip
    """An autoencoder of a layer ("weights"), trained on `n_places` random places in each of the
    first `n_images` of the images that the network was trained on; and its quality ("info") on a
    fifth as many easy validation images, at most 1,000; see `latents.loss_recovered`."""
    model, bias = network.load(), network.correlation
    own = canvas.colour_split("train", network.seed, bias).take(slice(n_images))
    x = latents.sample_activations(model, layer, own.images, n_places, seed)
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
    longer, shorter = pick(((2_000, 10_000), (100, 5_000)), ((60, 2_000), (30, 1_000)))
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
    "restart" of the first cheater), "layer", "kind" or "expansion" (the first cheater)."""
    first = network("cheater")
    runs = [("chosen", one, sae_options()) for one in networks(["cheater", "oracle", "cure"])]
    runs.append(("restart", first, sae_options(seed=1)))
    runs += [("layer", first, sae_options(layer)) for layer in WIDTHS]
    runs += [("kind", first, sae_options(kind=kind, sparsity=k)) for kind, k in OTHERS.items()]
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
def compare_saes(network: Network, options: list[dict[str, Any]]) -> dict[str, float]:
    """`matched_cosine` of two autoencoders of a network, by their `sae_options` ("trained"), and of
    two dictionaries of random directions of the same size ("random")."""
    trained = [load_sae(network, **each) for each in options]
    size = trained[0].decoder.shape[::-1]
    random = [SparseAutoencoder(*size, "topk", 1, seed) for seed in (0, 1)]
    return {"trained": matched_cosine(*trained), "random": matched_cosine(*random)}


# --- labels --------------------------------------------------------------------------------------


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
    by_colour = z.reshape(N_CLASSES, N_CLASSES * n_per_class, -1)
    frame = latents.describe(by_colour, grid.labels[: by_colour.shape[1]], effect)
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
    shares = {label: float((labels == label).mean()) for label in tuning.LABELS}
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
                    "η² colour": row.colour, "η² digit": row.digit, "pushes": row.attribution,
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


def intervention_sets(
    n_search: int, n_validation: int, n_eval: int | None, splits: Sequence[str] = ("hard",)
) -> dict[str, Split]:
    """Training digits to search on ("search"), validation digits to choose on, both in
    uninformative colours, the first `n_eval` (or all) images of the splits, and aligned ones."""
    sets = {"search": ("train", slice(-n_search, None))}
    sets["validation"] = ("validation", slice(n_validation))
    for name, (split, part) in sets.items():
        grey, labels = (values[part] for values in split_digits(split))
        colours = canvas.assign_colours(labels, NO_BIAS, PAINT_SEED)
        sets[name] = Split(paint(grey, colours, PAINT_SEED), labels, colours)
    measured = {name: canvas.test_split(name, n_eval) for name in splits}
    return sets | measured | {"aligned": canvas.test_split("aligned", N_ALIGNED)}


def shares_correct(logits: dict[str, np.ndarray], sets: dict[str, Any]) -> dict[str, float]:
    """Accuracies by set, and the shortcut rate on hard images. sets: by name, with `labels` and
    `colours`."""
    answers = {name: value.argmax(1) for name, value in logits.items()}
    correct = {name: float((answers[name] == sets[name].labels).mean()) for name in answers}
    return correct | {"shortcut_rate": float((answers["hard"] == sets["hard"].colours).mean())}


def untrained_like(sae: SparseAutoencoder, seed: int) -> SparseAutoencoder:
    """An autoencoder before training, as large and as sparse: random directions."""
    size = sae.decoder.shape[::-1]
    random = SparseAutoencoder(*size, "topk", sae.sparsity, seed).requires_grad_(False)
    random.centre.copy_(sae.centre)
    random.scale.copy_(sae.scale)
    return random.to(device())


@stored
def intervene_on_latents(
    network: Network, options: dict[str, Any], n_search: int, n_validation: int,
    n_eval: int | None, splits: list[str], steps: int,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """The network's accuracy on `intervention_sets` while parts of its last maps are ablated or
    scaled, its head untouched.

    Five bases compete: the autoencoder's latents; the same in random order, with their scales
    shuffled; those of an autoencoder before training, as many and as sparse; the raw channels; and
    the principal directions. What an autoencoder misses, its residual, is one part more.
    "ablated": the first parts are held at one of `latents.LEVELS`, for each of `SHARES`, ordered by
    the share of colour in the variance of their means over places ("variance"), or by their
    `latents.attribution` to the colour's digit, on the search images. "scales": each part has a
    scale >= 0 of its own, "scales by cell": one for each cell of the map, searched in `steps`
    iterations. Validation digits choose the penalty, and all else; test digits choose nothing.

    "accuracy": frame of basis, procedure, order, level, n (parts ablated, or with a scale below
        0.05), share (ablated), coefficients (that were fitted to digits), the accuracy on each set
        and the shortcut_rate; a row for all that was tried.
    "residual": frame of part ("raw channels" and of these "reconstruction" and "residual"),
        variance and attribution (its shares of the channels'), and colour and digit: accuracies of
        linear probes of its mean over places, fitted on the search, on the validation images.
    """
    model, sae = network.load(), load_sae(network, **options)
    untrained = untrained_like(sae, network.seed + 1)
    head, bias = to_array(model.head.weight), to_array(model.head.bias)
    sets = intervention_sets(n_search, n_validation, n_eval, splits)
    cells = latents.cell_weights(CUTS)
    digits, colours = sets["search"].labels, sets["search"].colours
    z, noise, channels = {}, {}, {}  # by set: parts by cell
    for name, split in sets.items():
        z[name], noise[name], channels[name] = latents.parts_by_cell(
            model, LAYER, split.images, cells, sae, untrained
        )
    pooled = {name: latents.sum_cells(x, N_CELLS) for name, x in channels.items()}
    logits = {name: x @ head.T + bias for name, x in pooled.items()}
    centre, axes = latents.principal_directions(pooled["search"])
    size = cells.sum(1).numpy()  # of each cell, as a share of the map
    principal = {
        name: ((x - np.kron(size, centre)).reshape(-1, len(centre)) @ axes).reshape(len(x), -1)
        for name, x in channels.items()
    }

    def coded(parts: dict[str, Any], coder: SparseAutoencoder) -> tuple:
        blank = torch.zeros(1, len(coder.bias)).to(coder.bias)
        return parts, to_array(coder.directions()) @ head.T, to_array(coder.decode(blank))[0]

    bases = {
        "SAE latents": coded(z, sae),
        "random latents": coded(z, sae),
        "untrained latents": coded(noise, untrained),
        "raw channels": (channels, head.T, 0 * centre),
        "PCA directions": (principal, axes.T @ head.T, centre),
    }
    row = {"basis": "none", "procedure": "as it was", "level": "", "n": 0}
    rows = [row | shares_correct(logits, sets)]
    rng, scales, pushes = np.random.default_rng(network.seed), {}, {}
    for basis, (by_cell, effect, rest) in bases.items():
        tasks = latents.with_residual(by_cell, channels, head, effect, rest, size)
        shuffled = basis == "random latents"
        whole, units, groups = tasks[0]
        values, n_parts = whole["search"], groups.max() + 1
        spread = np.maximum(values.var(0), 1e-12)
        _, *etas = latents.colour_first(values, colours, digits)
        colour, digit = (
            np.bincount(groups, eta * spread) / np.bincount(groups, spread) for eta in etas
        )
        pushes[basis] = np.bincount(groups, latents.attribution(values, units, colours))
        by = {"variance": colour / np.maximum(colour + digit, 1e-12), "attribution": pushes[basis]}
        orders = {name: np.argsort(-value, kind="stable") for name, value in by.items()}
        orders = {"random": rng.permutation(n_parts)} if shuffled else orders
        for (order, ranked), level, share in product(orders.items(), latents.LEVELS, SHARES):
            n = max(1, round(share * n_parts))
            held = latents.ablation_scales(ranked, n)[groups]
            edited = latents.scale_about(logits, whole, units, held, level)
            row = {"basis": basis, "procedure": "ablated", "order": order, "level": level}
            rows.append(row | {"n": n, "share": share} | shares_correct(edited, sets))
        for procedure, task in zip(("scales", "scales by cell"), tasks, strict=True):
            parts, units, groups = task
            if shuffled:
                scale, offset = scales["SAE latents", procedure]
                scale, single = scale.copy(), np.bincount(groups)[groups] == 1
                scale[single] = rng.permutation(scale[single])  # the residual keeps its own
                candidates = [(scale, offset)]
            else:
                given = logits["search"], parts["search"], units, digits
                searches = ((*given, penalty, steps, groups) for penalty in SCALE_PENALTIES)
                candidates = [latents.search_scales(*one) for one in searches]
            tried = []
            for scale, offset in candidates:
                edited = latents.rescale(logits, parts, units, scale, offset)
                edited = latents.even_out(edited) if shuffled else edited
                n = len(set(groups[scale < 0.05]))
                row = {"basis": basis, "procedure": procedure, "level": "", "n": n}
                row["coefficients"] = groups.max() + 1 + N_CLASSES
                tried.append((row | shares_correct(edited, sets), (scale, offset)))
            best, scales[basis, procedure] = max(tried, key=lambda one: one[0]["validation"])
            rows.append(best)

    weights, _ = latents.fit_linear_probe(pooled["search"], colours)
    erasers = {
        "colour class means": erasure.project_out_class_means(pooled["search"], colours),
        "linear colour probe": erasure.project_out(pooled["search"], weights.T, N_CLASSES - 1),
        "LEACE": erasure.leace(pooled["search"], colours),
    }
    for (basis, eraser), level in product(erasers.items(), ("mean", "balanced")):
        edited = {name: eraser(x) @ head.T + bias for name, x in pooled.items()}
        edited = latents.even_out(edited) if level == "balanced" else edited
        row = {"basis": basis, "procedure": "erased", "level": level, "n": 0}
        rows.append(row | shares_correct(edited, sets))

    told, directions, rest = [], to_array(sae.directions()), bases["SAE latents"][2]
    rebuilt = {name: latents.sum_cells(x, N_CELLS) @ directions + rest for name, x in z.items()}
    residual = {name: pooled[name] - rebuilt[name] for name in pooled}
    pushed = pushes["SAE latents"][-1] / pushes["SAE latents"].sum()
    parts = {"raw channels": (pooled, 1.0), "reconstruction": (rebuilt, 1 - pushed)}
    for part, (x, push) in (parts | {"residual": (residual, pushed)}).items():
        row = {"part": part, "attribution": push}
        row["variance"] = float(x["search"].var(0).sum() / pooled["search"].var(0).sum())
        for attribute, name in (("colour", "colours"), ("digit", "labels")):
            weights, offset = latents.fit_linear_probe(x["search"], getattr(sets["search"], name))
            called = (x["validation"] @ weights + offset).argmax(1)
            row[attribute] = float((called == getattr(sets["validation"], name)).mean())
        told.append(row)
    return {"accuracy": pd.DataFrame(rows), "residual": pd.DataFrame(told)}


@stored
def refit_heads(
    network: Network, options: dict[str, Any], n_images: int, n_validation: int,
    n_eval: int | None, splits: list[str],
) -> pd.DataFrame:  # fmt: skip
    """Linear heads fitted anew to the digits of `n_images` images, on all latents, on those of an
    autoencoder before training, on the raw channels, and on those of the same network before it was
    trained: a row for features, places (means over the "whole map" or each of its "cells") and
    fitted_on ("random colours", search images of `intervention_sets`, or "own images" of the
    network, as many), with the number of coefficients, the penalty that is best on validation
    digits, the accuracy on each set ("search": what it was fitted on) and the shortcut_rate."""
    model, sae = network.load(), load_sae(network, **options)
    coders = sae, untrained_like(sae, network.seed + 1)
    sets, rows = intervention_sets(n_images, n_validation, n_eval, splits), []
    cells = latents.cell_weights(CUTS)
    own = canvas.colour_split("train", network.seed, network.correlation)
    sets["own"] = own.take(slice(-n_images, None))
    before = build(network.arch, network.seed).eval()
    names = ("SAE latents", "untrained latents", "raw channels", "channels before training")
    by_cell = {}
    for name, split in sets.items():
        parts = latents.parts_by_cell(model, LAYER, split.images, cells, *coders)
        parts += latents.parts_by_cell(before, LAYER, split.images, cells)
        by_cell[name] = dict(zip(names, parts, strict=True))
    sources = {"random colours": sets.pop("search"), "own images": sets.pop("own")}
    for features, places, (fitted_on, source) in product(
        names, ("whole map", "cells"), sources.items()
    ):
        read = {name: parts[features] for name, parts in by_cell.items()}
        if places == "whole map":
            read = {name: latents.sum_cells(x, N_CELLS) for name, x in read.items()}
        read["search"] = read["search" if fitted_on == "random colours" else "own"]
        tried, measured = [], sets | {"search": source}
        for penalty in PROBE_PENALTIES:
            weights, bias = latents.fit_linear_probe(read["search"], source.labels, penalty)
            logits = {name: read[name] @ weights + bias for name in measured}
            row = {"features": features, "places": places, "fitted_on": fitted_on}
            row |= {"coefficients": weights.size + bias.size, "penalty": penalty}
            tried.append(row | shares_correct(logits, measured))
        rows.append(max(tried, key=lambda row: row["validation"]))
    return pd.DataFrame(rows)


@stored
def turn_red(
    network: Network, options: dict[str, Any], n_per_class: int, n_choose: int, n_images: int
) -> dict[str, pd.DataFrame]:
    """What the network predicts as the latents of red are turned down and up, its head untouched.

    Latents are ranked by what they do for red on the grid of `label_latents`: how far red moves
    their mean from that over all colours, times their effect on the logit of 0. The first n of
    these, of `REDS` the n by which most of `n_choose` red validation ones are moved to 1, are
    "red". At dose 0 a latent is ablated by resampling: it takes its mean over the ten repaintings
    of the same digit. At dose 1 it has its value in the digit painted red, and so on in proportion.
    "control" is as many others (`latents.matched`, by what each carries), whose moves are
    multiplied so that together they carry as much: the variance between colours of what they add to
    the logits. Up they go by the way to their values in the colours that excite each of them most.

    "curve": frame of images ("red ones", "green ones"; `n_images` test digits), latents, dose
        (`DOSES`), answer, predicted (share of images) and probability (mean). "down": frame of
        latents (and "everything": logits averaged over the repaintings), digit, moved (the share of
        images of this digit in red predicted 0 before, and the digit itself at dose 0) and
        called_one (at dose 0). "sets": frame of latents, number, carried (a share of all latents'),
        times (the factor), labelled (of them "colour", with red first).
    """
    model, sae = network.load(), load_sae(network, **options)
    head, bias = to_array(model.head.weight), to_array(model.head.bias)
    effect = to_array(sae.directions()) @ head.T
    effect -= effect.mean(1, keepdims=True)
    found, place = label_latents(network, options, n_per_class), latents.cell_weights((0, CUTS[-1]))
    by_colour = found["cells"].mean(1)  # (L, colours)
    likes, each = by_colour.argmax(1), by_colour.var(1) * np.square(effect).sum(1)
    ranked = np.argsort(-(by_colour[:, 0] - by_colour.mean(1)) * effect[:, 0], kind="stable")

    def repainted(split: str, digit: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Latents (10 colours, n, L) and logits (10 colours, n, 10) of a split's first digits."""
        (grey, shown), z, logits = split_digits(split), [], []
        some = grey[shown == digit][:n]
        for colour in range(N_CLASSES):
            images = paint(some, np.full(len(some), colour), TEST_SEED)
            parts, x = latents.parts_by_cell(model, LAYER, images, place, sae)
            z.append(parts.toarray())
            logits.append(x @ head.T + bias)
        return np.stack(z), np.stack(logits)

    def ablated(z: np.ndarray, logits: np.ndarray, chosen: np.ndarray, times: float) -> np.ndarray:
        """Logits of the red images with the chosen latents at dose 0."""
        return logits[0] + times * (z.mean(0) - z[0])[:, chosen] @ effect[chosen]

    def moved(before: np.ndarray, after: np.ndarray, digit: int) -> float:
        return float(((before.argmax(1) == 0) & (after.argmax(1) == digit)).mean())

    z, logits = repainted("validation", 1, n_choose)
    n = max(REDS, key=lambda n: moved(logits[0], ablated(z, logits, ranked[:n], 1), 1))
    sets = {"red": ranked[:n], "control": latents.matched(each, ranked[:n])}
    sets["everything"] = np.arange(len(effect))
    carried = {name: (by_colour[k].T @ effect[k]).var(0).sum() for name, k in sets.items()}
    sets = {name: (sets[name], np.sqrt(carried["red"] / carried[name])) for name in list(sets)[:2]}

    curve, down = [], []
    for digit in range(N_CLASSES):
        z, logits = repainted("hard", digit, n_images)
        ends = {name: ablated(z, logits, *one) for name, one in sets.items()}
        for name, after in (ends | {"everything": logits.mean(0)}).items():
            row = {"latents": name, "digit": digit, "moved": moved(logits[0], after, digit)}
            down.append(row | {"called_one": float((after.argmax(1) == 1).mean())})
        if digit != 1:
            continue
        shown = enumerate(("red ones", "green ones"))
        for (colour, images), (name, (chosen, times)) in product(shown, sets.items()):
            base, target = z.mean(0)[:, chosen], z[0][:, chosen]
            if colour and name == "control":
                target = z[likes[chosen], :, chosen].T
            for dose in DOSES:
                move = base + dose * (target - base) - z[colour][:, chosen]
                edited = logits[colour] + times * move @ effect[chosen]
                called = np.bincount(edited.argmax(1), minlength=N_CLASSES) / len(edited)
                row = {"images": images, "latents": name, "dose": dose, "answer": range(N_CLASSES)}
                row |= {"predicted": called, "probability": softmax(edited, axis=1).mean(0)}
                curve.append(pd.DataFrame(row))
    red_first = (found["latents"].label == "colour").to_numpy() & (likes == 0)
    told = pd.DataFrame(
        {
            "latents": name, "number": len(chosen), "times": times,
            "carried": carried[name] / carried["everything"], "labelled": red_first[chosen].sum(),
        }
        for name, (chosen, times) in sets.items()
    )  # fmt: skip
    return {"curve": pd.concat(curve, ignore_index=True), "down": pd.DataFrame(down), "sets": told}


def measure() -> dict[str, pd.DataFrame]:
    """What the chapter measures of every cheater, in parallel: the frames of `intervene_on_latents`
    and `turn_red` and, as "heads", that of `refit_heads`; of all cheaters, with a column seed."""
    sizes = {"n_validation": pick(2_500, 1_000), "n_eval": n_eval()}
    sizes["splits"] = ["hard", *sealed_splits()]
    red = {"n_per_class": pick(25, 10)} | dict.fromkeys(("n_choose", "n_images"), pick(200, 50))
    asked = {
        intervene_on_latents: {"n_search": pick(20_000, 2_000), "steps": pick(60, 30)} | sizes,
        refit_heads: {"n_images": pick(8_000, 1_000)} | sizes,
        turn_red: red,
    }
    calls = [
        (function, {"network": one, "options": sae_options(), **given})
        for function, given in asked.items()
        for one in networks("cheater")
    ]
    frames: dict[str, list[pd.DataFrame]] = {}
    for (_, given), made in zip(calls, stored.run(calls, "steering latents"), strict=True):
        for name, frame in ({"heads": made} if isinstance(made, pd.DataFrame) else made).items():
            frames.setdefault(name, []).append(frame.assign(seed=given["network"].seed))
    return {name: pd.concat(each, ignore_index=True) for name, each in frames.items()}


# --- figures -------------------------------------------------------------------------------------

STYLES = ((plots.BLUE, "-", "o"), (plots.VERMILION, "--", "s"), (plots.AMBER, ":", "^"))


def latent_sheet(found: dict[str, Any], cards: slice) -> Figure:
    """Some cards of the sheet of `show_latents`, each of a latent: number and labels, its nine top
    images, and what it adds to the ten logits."""
    sheet, pictures = np.array(found["sheet"])[cards], found["pictures"][cards]
    effect = (found["effect"] - found["effect"].mean(1, keepdims=True))[cards]
    rows = -(-len(sheet) // 4)
    figure = plots.Figure(figsize=(plots.WIDTH, 2.1 * rows))
    shown = found["latents"].loc[sheet, ["latent", "label", "prefers", "by_eye"]]
    panels = figure.subfigures(rows, 4, squeeze=False).flat
    for panel, row, images, adds in zip(panels, shown.itertuples(), pictures, effect, strict=False):
        top, bottom = panel.subplots(2, 1, height_ratios=[2.1, 1])
        mosaic = images.reshape(3, 3, 3, 28, 28)
        title = f"{row.latent}: {row.label} {row.prefers}\n" + f"“{row.by_eye}”" * bool(row.by_eye)
        plots.picture(top, mosaic.transpose(2, 0, 3, 1, 4).reshape(3, 84, 84), title, plots.SMALL)
        bottom.bar(range(N_CLASSES), adds, color=np.where(adds == adds.max(), plots.BLUE, "#BBB"))
        bottom.axhline(0, color=plots.DARK, linewidth=0.6)
        plots.class_ticks(bottom.xaxis)
        bottom.tick_params(length=0, labelleft=False)
        bottom.spines[:].set_visible(False)
    wide = shown.join(pd.DataFrame(effect, shown.index, map(str, range(N_CLASSES))))
    frame = wide.melt(list(shown), var_name="answer", value_name="effect")
    return plots.show(figure, frame, "prefers: colour or digit; effect: logits added, less mean")


def ablation_curves(frame: pd.DataFrame) -> Figure:
    """Shortcut rate and hard accuracy as ever more parts are ablated, for each order in which they
    are; thin lines are seeds. frame: seed, order, n, share, hard, shortcut_rate."""
    titles = {"shortcut_rate": "shortcut rate on hard images", "hard": "accuracy on hard images"}
    names = {"attribution": "by attribution", "variance": "by variance", "random": "at random"}
    figure, axes = plots.grid(plots.WIDTH, 2.6, 1, 2, sharey=True)
    for ax, (measure, title) in zip(axes[0], titles.items(), strict=True):
        for (order, name), (colour, dash, marker) in zip(names.items(), STYLES, strict=True):
            lines = frame[frame.order == order].pivot(index="share", columns="seed", values=measure)
            ax.plot(lines.index, lines, color=colour, linewidth=0.6, alpha=0.45)
            ax.plot(lines.index, lines.mean(axis=1), dash, color=colour, marker=marker, label=name)
        ax.axhline(0.1, color=plots.DARK, linewidth=0.8, linestyle="-.")
        ax.set_title(title)
        plots.percent_axis(ax.xaxis, "share of latents ablated")
    plots.percent_axis(axes[0, 0].yaxis, "share of predictions")
    axes[0, 1].legend()
    note = "share: of the latents ablated; hard (accuracy) and shortcut_rate: shares of hard images"
    return plots.show(figure, frame[["seed", "order", "share", *titles]], note)


def red_curves(curve: pd.DataFrame) -> Figure:
    """Probabilities of the answers 0 and 1 as the latents of red are turned: the "curve" of
    `turn_red` of all seeds (seed). Thick lines are means over seeds, dotted ones the control's."""
    figure, axes = plots.grid(plots.WIDTH, 2.15, 1, 2, sharey=True)
    for ax, images in zip(axes[0], ("red ones", "green ones"), strict=True):
        for answer, name in product((1, 0), ("red", "control")):
            rows = curve[(curve.images == images) & (curve.latents == name)]
            rows = rows[rows.answer == answer]
            lines = rows.pivot(index="dose", columns="seed", values="probability")
            colour, *look = STYLES[answer]
            dash, marker = look if name == "red" else (":", "")
            ax.plot(lines.index, lines, dash, color=colour, linewidth=0.5, alpha=0.5)
            look = {"color": colour, "marker": marker, "markevery": 2}
            ax.plot(lines.index, lines.mean(axis=1), dash, **look, label=f"{answer}: {name} turned")
        ax.axvline(1, color=plots.DARK, linewidth=0.8, linestyle="-.")
        ax.set(title=images, ylim=(0, 1.02), xlabel="dose (0: mean over colours, 1: as in red)")
    plots.percent_axis(axes[0, 0].yaxis, "probability")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), ncols=4, loc="outside upper center")
    note = "dose: of latents of red or their control; predicted: share of images; probability: mean"
    return plots.show(figure, curve[curve.answer.isin([0, 1])], note)
