"""Appendix to chapter 7: what else could do an autoencoder's work, and what two networks share.

All is measured at the last maps (`decomposition.LAYER`) of the cheater, its weights untouched, but
where another layer is named. Training digits in uninformative colours are searched on, validation
digits in such colours choose; hard images choose nothing.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from lazy_artist import canvas, erasure, latents, plots, tuning
from lazy_artist.canvas import N_CLASSES, Split, paint, split_colours, split_digits
from lazy_artist.chapters.decomposition import (
    CUTS,
    LAYER,
    PAINT_SEED,
    intervention_sets,
    load_sae,
    shares_correct,
)
from lazy_artist.config import NO_BIAS, TEST_SEED, device
from lazy_artist.evaluate import predict
from lazy_artist.forward import as_logits, asked, hooked
from lazy_artist.interface import to_array
from lazy_artist.networks import Network
from lazy_artist.sae import SparseAutoencoder, fit_autoencoder, latent_shares, quality
from lazy_artist.store import stored

N_ABLATED = (2, 5, 10, 20, 50, 100, 500)  # parts in SCR and TPP, as in SAEBench
LAYER_SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)  # of a layer's latents, resampled
OWN, SHARED = 0.1, (0.4, 0.6)  # shares of latents (Minder et al.): below 0.1 and above 0.9 is own
N_MASKS = 3  # random masks of the size of a learnt one
MASK_RATE, MASK_BATCH = 0.05, 256  # of Adam; images
START, FAINT = (
    0.5,
    -3.0,
)  # first values of the masks' scores and of the logits' scale, its logarithm


def image_sets(
    n_search: int, n_validation: int, n_eval: int | None, splits: list[str]
) -> dict[str, Split]:
    """The sets "search" and "validation" of chapter 7, and the first `n_eval` (or all) images of
    the splits."""
    sets = intervention_sets(n_search, n_validation, n_eval)
    chosen_on = {name: sets[name] for name in ("search", "validation")}
    return chosen_on | {name: canvas.test_split(name, n_eval) for name in splits}


def measure(logits: dict[str, np.ndarray], sets: dict[str, Split]) -> dict[str, float]:
    """Accuracies by set (but "search"), and the shortcut rate on hard images."""
    return shares_correct({name: x for name, x in logits.items() if name != "search"}, sets)


# --- erasing -------------------------------------------------------------------------------------


@stored
def erase_colour(
    network: Network, n_search: int, n_validation: int, n_eval: int | None, splits: list[str]
) -> pd.DataFrame:
    """The network's accuracy with its pooled activations erased, by erasers fitted on the search
    images. Frame: eraser ("none", "random directions", as many as colours span; "LEACE", "SPLINCE",
    which keeps the covariance with the digit), head ("own"; "own, balanced", less what its answers
    to the search images favour; "new", a linear probe of the erased search images), validation, a
    column for each split, shortcut_rate."""
    model, sets = network.load(), image_sets(n_search, n_validation, n_eval, splits)
    head, bias = to_array(model.head.weight).T, to_array(model.head.bias)
    pooled = {name: predict(model, one.images, output="features") for name, one in sets.items()}
    x, search, rows = pooled["search"], sets["search"], []
    random = np.random.default_rng(network.seed).normal(size=(N_CLASSES - 1, x.shape[1]))
    erasers = {
        "none": lambda rows: rows,
        "random directions": erasure.project_out(x, random, len(random)),
        "LEACE": erasure.leace(x, search.colours),
        "SPLINCE": erasure.splince(x, search.colours, search.labels),
    }
    for name, eraser in erasers.items():
        left = {key: eraser(values).astype(np.float32) for key, values in pooled.items()}
        own = {key: values @ head + bias for key, values in left.items()}
        weights, offset = latents.fit_linear_probe(left["search"], search.labels)
        new = {key: values @ weights + offset for key, values in left.items()}
        for kind, logits in (("own", own), ("own, balanced", latents.even_out(own)), ("new", new)):
            rows.append({"eraser": name, "head": kind} | measure(logits, sets))
    return pd.DataFrame(rows)


# --- masks ---------------------------------------------------------------------------------------


@stored
def mask_channels(
    network: Network, layers: list[str], fitted_on: str, n_search: int, n_validation: int,
    n_eval: int | None, splits: list[str], steps: int,
) -> pd.DataFrame:  # fmt: skip
    """Accuracy of a subnetwork: channels of the layers switched off by a learnt mask, all weights
    frozen (after Matos et al. 2026, arXiv:2603.05582).

    A channel is kept if its score is above 0; the scores are learnt by Adam from the digits, with
    the sigmoid's gradient in the place of the step's (straight-through: Bengio et al. 2013,
    arXiv:1308.3432), in `steps` batches, beside an offset of the ten logits and a scale of all,
    small at first: else the surest way to lose less is to switch everything off. fitted_on: "random
    colours", the search images, or "own images", as many that the network was trained on, each
    weighted by one over the number of images of its digit and colour. Frame of mask ("none",
    "learnt", "random": as many of each layer, the mean over `N_MASKS`, less what their answers to
    the search images favour), kept (share of channels), validation, a column for each split,
    shortcut_rate.
    """
    model, sets = network.load(), image_sets(n_search, n_validation, n_eval, splits)
    model.requires_grad_(False)
    source, weights = sets["search"], np.ones(len(sets["search"]))
    if fitted_on == "own images":
        source = canvas.colour_split("train", network.seed, network.correlation)
        source = source.take(slice(-n_search, None))
        cells = N_CLASSES * source.labels + source.colours
        weights = 1 / np.bincount(cells, minlength=N_CLASSES**2)[cells]
    weights /= weights.mean()
    masks, offset = learn_masks(model, layers, source, weights, steps, network.seed)

    def answers(masks: dict[str, Tensor], offset: Any = 0.0) -> dict[str, np.ndarray]:
        return {name: masked(model, masks, one.images) + offset for name, one in sets.items()}

    rng, kept = np.random.default_rng(network.seed), torch.cat(list(masks.values())).mean()
    shuffled = [
        {layer: mask[torch.from_numpy(rng.permutation(len(mask)))] for layer, mask in masks.items()}
        for _ in range(N_MASKS)
    ]
    random = [measure(latents.even_out(answers(each)), sets) for each in shuffled]
    rows = [{"mask": "none", "kept": 1.0} | measure(answers({}), sets)]
    rows.append({"mask": "learnt", "kept": float(kept)} | measure(answers(masks, offset), sets))
    rows.append({"mask": "random", "kept": float(kept)} | pd.DataFrame(random).mean().to_dict())
    return pd.DataFrame(rows)


def masked(model: nn.Module, masks: dict[str, Tensor], images: np.ndarray) -> np.ndarray:
    """Logits (N, K) with the channels of each layer's maps multiplied by its mask (W,)."""
    with ExitStack() as stack:
        for layer, mask in masks.items():
            stack.enter_context(hooked(model, layer, lambda x, m=mask: x * m[:, None, None]))
        return predict(model, images)


def learn_masks(
    model: nn.Module, layers: list[str], split: Split, weights: np.ndarray, steps: int, seed: int
) -> tuple[dict[str, Tensor], np.ndarray]:
    """Masks of zeros and ones (W,), by layer, and the offset (10,); see `mask_channels`. weights:
    of the images, (N,)."""
    widths = {}
    with ExitStack() as stack, torch.no_grad():
        for layer in layers:
            see = lambda x, layer=layer: widths.update({layer: x.shape[1]})  # noqa: E731
            stack.enter_context(hooked(model, layer, see))
        model(torch.from_numpy(split.images[:1]).to(device()))
    scores = {
        layer: torch.full((width,), START, device=device()) for layer, width in widths.items()
    }
    offset = torch.zeros(N_CLASSES, device=device())
    log_scale = torch.full((1,), FAINT, device=device())
    learnt = [one.requires_grad_() for one in (*scores.values(), offset, log_scale)]
    optimiser = torch.optim.Adam(learnt, MASK_RATE)
    rng, order = np.random.default_rng(seed), np.empty(0, int)

    def switch(x: Tensor, score: Tensor) -> Tensor:
        soft = score.sigmoid()
        return x * ((score > 0).float() + soft - soft.detach())[:, None, None]

    with ExitStack() as stack:
        ask = stack.enter_context(asked(model))
        for layer, score in scores.items():
            stack.enter_context(hooked(model, layer, lambda x, s=score: switch(x, s)))
        for step in range(steps):
            if len(order) < MASK_BATCH:
                order = rng.permutation(len(split))
            index, order = order[:MASK_BATCH], order[MASK_BATCH:]
            optimiser.param_groups[0]["lr"] = MASK_RATE * (1 - step / steps)
            labels = torch.from_numpy(split.labels[index]).to(device())
            logits = as_logits(ask(torch.from_numpy(split.images[index])), len(index)) + offset
            loss = F.cross_entropy(log_scale.exp() * logits, labels, reduction="none")
            weight = torch.from_numpy(weights[index]).to(loss)
            optimiser.zero_grad()
            (weight * loss).mean().backward()
            optimiser.step()
    masks = {layer: (score.detach() > 0).float() for layer, score in scores.items()}
    return masks, to_array(offset)


# --- two networks --------------------------------------------------------------------------------


@stored
def diff_networks(
    pair: list[Network], n_images: int, n_validation: int, n_places: int, expansion: int,
    sparsity: int, steps: int,
) -> dict[str, Any]:  # fmt: skip
    """A BatchTopK crosscoder of two networks at the last maps, trained at `n_places` random places
    in each of `n_images` search images, activations of each network divided by their spread, so
    that both weigh alike; `expansion` latents for each channel of the first. "info": its quality on
    validation images, and the share of the variance of each network that it leaves unexplained.
    "latents": a row for each latent that is active on validation images, with its share
    (`sae.latent_shares`), the columns of `tuning.label_units` for its mean over places, and active,
    the share of images on which it is."""
    sets = intervention_sets(n_images, n_validation, 1)
    models, joined = [one.load() for one in pair], {}
    for seed, name in enumerate(("search", "validation")):
        joined[name] = [
            to_array(latents.sample_activations(one, LAYER, sets[name].images, n_places, seed))
            for one in models
        ]
    spread = [np.sqrt(part.var(0).mean()) for part in joined["search"]]
    x, y = (
        np.hstack([part / by for part, by in zip(parts, spread, strict=True)])
        for parts in joined.values()
    )
    width, split = joined["search"][0].shape[1], sets["validation"]
    size = expansion * width, "batchtopk", sparsity
    sae = fit_autoencoder(x, *size, seed=pair[0].seed, steps=steps).requires_grad_(False)
    z = to_array(sae.encode(torch.from_numpy(y).to(device())))
    info, missed = quality(sae, y), y - to_array(sae.decode(torch.from_numpy(z).to(device())))
    for name, columns in (("first", slice(width)), ("second", slice(width, None))):
        unexplained = np.square(missed[:, columns]).mean(0).sum() / y[:, columns].var(0).sum()
        info[f"fvu_{name}"] = float(unexplained)
    means = z.reshape(len(split), n_places, -1).mean(1)
    frame = tuning.label_units(means, split.colours, split.labels)
    frame = frame.assign(share=latent_shares(sae, y, width), active=(means > 0).mean(0))
    return {"info": info, "latents": frame[frame.active > 0].reset_index(names="latent")}


def owners(latents_of: pd.DataFrame) -> pd.Series:
    """ "first's own", "shared", "second's own" or "between" for each row, by its share."""
    share = latents_of["share"]
    cases = [share < OWN, share > 1 - OWN, share.between(*SHARED)]
    return pd.Series(np.select(cases, ["first", "second", "shared"], "between"), latents_of.index)


# --- scores of SAEBench --------------------------------------------------------------------------


@stored
def score_bases(
    network: Network, options: dict[str, Any], n_search: int, n_validation: int,
    n_eval: int | None, splits: list[str],
) -> pd.DataFrame:  # fmt: skip
    """SCR and TPP (Karvonen et al. 2024, arXiv:2411.18895; in SAEBench), for colour as the spurious
    and digit as the wanted concept: a row for each score, basis, n (of `N_ABLATED`) and set (SCR:
    validation and the splits, TPP: unbiased test images), with its value. options: `sae_options`.

    Bases: the autoencoder's latents, those of one before training ("random dictionary"), the raw
    channels and the principal directions. A part's attribution to a class is the mean of the part
    on images of the class, less that on others, times what a unit of it adds to the classifier's
    score of the class, less that to the mean of the ten. The n parts of the largest attribution are
    held at their means over the search images.

    "SCR" = (A_n - A_0) / (A_new - A_0): accuracies of the network's own head, with the n parts
    of most attribution to the colour's digit (summed over colours) ablated, as it was, and of a
    linear head fitted to the search images. "TPP colour", "TPP digit": with ten linear probes, one
    a class, the mean fall of a probe's area under the ROC curve as the parts of its own class are
    ablated, less that of the nine others'.
    """
    model, sae = network.load(), load_sae(network, **options)
    sets = image_sets(n_search, n_validation, n_eval, splits)
    sets["unbiased"] = canvas.test_split("unbiased", n_eval)
    random = SparseAutoencoder(*sae.decoder.shape[::-1], "topk", sae.sparsity, network.seed + 1)
    random.requires_grad_(False).to(device())
    random.centre.copy_(sae.centre)
    random.scale.copy_(sae.scale)
    whole, z, noise, x = latents.cell_weights((0, CUTS[-1])), {}, {}, {}
    for name, split in sets.items():
        parts = latents.parts_by_cell(model, LAYER, split.images, whole, sae, random)
        z[name], noise[name] = (part.toarray() for part in parts[:2])
        x[name] = parts[2]
    centre, axes = latents.principal_directions(x["search"])
    principal = {name: (values - centre) @ axes for name, values in x.items()}
    bases = {
        "SAE latents": (z, to_array(sae.directions())),
        "random dictionary": (noise, to_array(random.directions())),
        "raw channels": (x, np.eye(len(centre), dtype=np.float32)),
        "PCA directions": (principal, axes.T),
    }
    search, rows = sets["search"], []
    head = to_array(model.head.weight).T, to_array(model.head.bias)
    new = latents.fit_linear_probe(x["search"], search.labels)
    measured, known = ("validation", *splits), {"colour": "colours", "digit": "labels"}
    plain, ceiling = (
        measure({name: x[name] @ weights + bias for name in measured}, sets)
        for weights, bias in (head, new)
    )
    probes = {
        name: latents.fit_linear_probe(x["search"], getattr(search, column))
        for name, column in known.items()
    }

    def ablated(parts: dict[str, np.ndarray], chosen: np.ndarray, name: str, unit: np.ndarray):
        """What the scores (N, 10) of a set change, as the chosen parts are held at their means."""
        return (parts["search"][:, chosen].mean(0) - parts[name][:, chosen]) @ unit[chosen]

    for basis, (parts, directions) in bases.items():
        unit = directions @ head[0]
        order = np.argsort(-attribution(parts["search"], unit, search.colours).sum(1))
        sizes = [n for n in N_ABLATED if n <= len(order)]
        for n in sizes:
            logits = {
                name: x[name] @ head[0] + head[1] + ablated(parts, order[:n], name, unit)
                for name in measured
            }
            after = measure(logits, sets)
            for name in measured:
                value = (after[name] - plain[name]) / (ceiling[name] - plain[name])
                rows.append({"score": "SCR", "basis": basis, "n": n, "set": name, "value": value})
        for attribute, column in known.items():
            weights, bias = probes[attribute]
            unit, classes = directions @ weights, getattr(sets["unbiased"], column)
            scores = x["unbiased"] @ weights + bias
            before = latents.auroc(scores, classes).diagonal()
            order = np.argsort(-attribution(parts["search"], unit, getattr(search, column)), axis=0)
            for n in sizes:
                after = [
                    scores + ablated(parts, order[:n, c], "unbiased", unit)
                    for c in range(N_CLASSES)
                ]  # rounded, since parts held at a constant leave ties
                areas = [latents.auroc(one.round(4), classes).diagonal() for one in after]
                falls = before - np.stack(areas)
                own, others = falls.diagonal().mean(), falls[~np.eye(N_CLASSES, dtype=bool)].mean()
                row = {"score": f"TPP {attribute}", "basis": basis, "n": n, "set": "unbiased"}
                rows.append(row | {"value": own - others})
    return pd.DataFrame(rows)


def attribution(parts: np.ndarray, unit: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Attribution (K, 10) of parts (N, K) to classes int (N,); unit: what each adds to the ten
    scores, (K, 10). See `score_bases`."""
    inside = (classes == np.arange(N_CLASSES)[:, None]).astype(np.float64)
    here, there = (w / w.sum(1, keepdims=True) @ parts for w in (inside, 1 - inside))
    return (here - there).T * (unit - unit.mean(1, keepdims=True))


# --- earlier layers ------------------------------------------------------------------------------


@stored
def resample_layers(
    network: Network, layers: list[dict[str, Any]], n_search: int, n_eval: int, splits: list[str]
) -> pd.DataFrame:
    """The network's accuracy with parts of one layer resampled: at each place a part takes its mean
    over the ten repaintings of the same digit on the same background, so that it stays among the
    values that the layer knows; what the autoencoder (by its `sae_options`) misses stays, and
    everything behind the layer works on.

    Frame: layer, parts ("colour latents": the first by `latents.colour_first` on `n_search` search
    images; "random latents", as many; "whole activation"; "none"), share (of `LAYER_SHARES`),
    validation (on `n_eval` images in random colours), a column for each split, shortcut_rate."""
    model, rows = network.load(), []
    search = intervention_sets(n_search, 1, 1)["search"]
    grey, labels = (values[:n_eval] for values in split_digits("validation"))
    given = {"validation": (grey, labels, canvas.assign_colours(labels, NO_BIAS, PAINT_SEED))}
    for name in splits:
        colours = split_colours(name, TEST_SEED)[1][:n_eval]
        given[name] = (*(values[:n_eval] for values in split_digits(name)), colours)
    sets = {name: Split(grey, labels, colours) for name, (grey, labels, colours) in given.items()}
    repainted = {
        name: np.stack([paint(grey, np.full(len(grey), k), PAINT_SEED) for k in range(N_CLASSES)])
        for name, (grey, _, _) in given.items()
    }
    rng = np.random.default_rng(network.seed)
    for options in layers:
        sae, layer = load_sae(network, **options), options["layer"]
        z = latents.mean_latents(model, layer, search.images, sae)
        orders = {
            "colour latents": latents.colour_first(z, search.colours, search.labels)[0],
            "random latents": rng.permutation(z.shape[1]),
        }
        tried = list(product(orders, LAYER_SHARES))
        chosen = torch.zeros(len(tried), z.shape[1], device=device())
        for row, (parts, share) in zip(chosen, tried, strict=True):
            row[orders[parts][: round(share * len(row))].copy()] = 1
        logits = {
            name: resampled(model, layer, sae, chosen, repainted[name], sets[name].colours)
            for name in sets
        }
        for k, (parts, share) in enumerate([("none", 0.0), *tried, ("whole activation", 1.0)]):
            one = {name: values[k] for name, values in logits.items()}
            rows.append({"layer": layer, "parts": parts, "share": share} | measure(one, sets))
    return pd.DataFrame(rows)


def resampled(
    model: nn.Module, layer: str, sae: SparseAutoencoder, chosen: Tensor, images: np.ndarray,
    colours: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Logits (M + 2, N, 10) of the images that are in their own colours: as they are, with each of
    M sets of latents, chosen (M, L), resampled, and with the whole layer resampled. images: (10
    colours, N, 3, 28, 28), the repaintings of N images; colours: int (N,), their own."""
    out = []
    for start in range(0, len(colours), latents.BATCH // 2):
        part = torch.from_numpy(images[:, start : start + latents.BATCH // 2])
        own = colours[start : start + part.shape[1]], np.arange(part.shape[1])

        def resample(maps: Tensor, own: tuple = own) -> Tensor:
            rows = maps.movedim(1, -1)  # (10 * n, h, w, W)
            x = rows.reshape(N_CLASSES, -1, *rows.shape[1:])
            z = sae.encode(rows.reshape(-1, rows.shape[-1])).view(*x.shape[:-1], -1)
            change, mine = z.mean(0) - z[own], x[own]
            steered = [mine + (change * one) @ sae.directions() for one in chosen]
            return torch.cat([mine, *steered, x.mean(0)]).movedim(-1, 1).contiguous()

        asking, change = asked(model, channels_last=False), hooked(model, layer, resample)
        with torch.no_grad(), asking as ask, change:
            logits = ask(part.flatten(0, 1))
        out.append(logits.view(len(chosen) + 2, -1, logits.shape[1]).cpu())
    return torch.cat(out, 1).numpy()


# --- figures -------------------------------------------------------------------------------------

LOOKS = {
    "SAE latents": (plots.VERMILION, "-", "s"), "PCA directions": (plots.BLUE, "--", "o"),
    "raw channels": (plots.GREEN, "-.", "^"), "random dictionary": (plots.AMBER, ":", "D"),
}  # fmt: skip
LABEL_LOOKS = {"colour": plots.VERMILION, "shape": plots.BLUE, "other": "#BBBBBB"}


def share_histograms(found: pd.DataFrame) -> Figure:
    """How many latents of a crosscoder have which share, by label, a panel for each pair of
    networks. found: pair (first, second), seed, share, label; a bar is the mean over seeds."""
    pairs = found.pair.unique()
    figure, axes = plots.grid(7, 3.2, 1, len(pairs), sharey=True)
    labels = found.label.where(found.label.isin(["colour", "shape"]), "other")
    bins, tables = np.linspace(0, 1, 21), []
    for ax, pair in zip(axes[0], pairs, strict=True):
        here, bottom = found.pair == pair, np.zeros(len(bins) - 1)
        for label, colour in LABEL_LOOKS.items():
            shares = found.share[here & (labels == label)]
            count = np.histogram(shares, bins)[0] / found.seed[here].nunique()
            look = {"color": colour, "edgecolor": "white", "linewidth": 0.4, "label": label}
            ax.bar(bins[:-1], count, 0.05, bottom, align="edge", **look)
            table = {"pair": pair, "label": label, "from": bins[:-1], "to": bins[1:]}
            tables.append(pd.DataFrame(table | {"latents": count}))
            bottom += count
        first, second = pair.split(" and ")
        ax.set_title(pair)
        ticks = ax.set_xticks([0, 0.5, 1], [f"only\n{first}", "both\nalike", f"only\n{second}"])
        for tick, side in zip(ticks, ("left", "center", "right"), strict=True):
            tick.label1.set_horizontalalignment(side)
    axes[0, 0].set_ylabel("latents of a crosscoder")
    axes[0, 1].legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.12))
    note = "from, to: the share of the second network; latents: how many, mean over seeds"
    return plots.show(figure, pd.concat(tables), note)


def score_curves(scores: pd.DataFrame) -> Figure:
    """SCR and TPP against the number of ablated parts, a line for each basis; thin lines are seeds.
    scores: seed, score, basis, n, value."""
    figure, axes = plots.grid(7, 3.2, 1, 3)
    for ax, (score, rows) in zip(axes[0], scores.groupby("score", sort=False), strict=True):
        for basis, (colour, dash, marker) in LOOKS.items():
            lines = rows[rows.basis == basis].pivot(index="n", columns="seed", values="value")
            ax.plot(lines.index, lines, color=colour, linewidth=0.6, alpha=0.45)
            ax.plot(lines.index, lines.mean(axis=1), dash, color=colour, marker=marker, label=basis)
        ax.axhline(0, color=plots.DARK, linewidth=0.8)
        ax.set_xscale("log")
        ax.set_xticks(N_ABLATED[::2], map(str, N_ABLATED[::2]))
        ax.minorticks_off()
        ax.set_title(score)
    axes[0, 0].set_ylabel("score")
    axes[0, 1].set_xlabel("parts ablated (log scale)")
    axes[0, 1].legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.12))
    note = "n: parts ablated; value: the score, 1 at best"
    return plots.show(figure, scores[["seed", "score", "basis", "n", "value"]], note)
