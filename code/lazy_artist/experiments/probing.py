"""Chapter 3: what the channels of cheater, cure and oracle see, what they are tuned to, and what
their loss does."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lazy_artist import atlas, edition
from lazy_artist.artifacts import Artifact, fetch, fetch_many
from lazy_artist.canvas import CLASSES, COLOUR_NAMES, colour_split, paint, split_digits
from lazy_artist.evaluate import Estimate, balanced, estimate
from lazy_artist.experiments.networks import (
    ARCH_NAMES,
    TEST_SEED,
    data_md5,
    percent,
    scale,
    seeds,
)
from lazy_artist.experiments.subjects import KINDS, load, prepare_cures, subject
from lazy_artist.probe import (
    LABELS,
    LEVEL,
    PARAMETRISATIONS,
    Label,
    Tuning,
    ablated_logits,
    activations,
    colour_root,
    concepts,
    label,
    tuning,
    visualise,
)

LAYERS = {"cnn": ("block1", "block2", "block3"), "resnet18": ("layer4",)}
LAST = "block3"  # the CNN's last layer, which its claims are about
TOP = 9  # dataset images on a card
BINS = 24  # of a card's histogram
PERMUTATIONS = 199
STEPS = 96
DRAWS = 5  # random sets of channels for each size, to compare an ablation with
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)  # of a layer's channels, taken away
CLAIMED = 1 / 4  # the share that the claim is about, fixed before any ablation was run
ASCENTS = 4  # at a pattern that is known; the one with the highest score counts
KNOWN = 7  # side of the known patterns, in pixels
PLACE = (14, 14)  # of the unit that is asked for them


# --- networks built by hand ----------------------------------------------------------------------


def patterns() -> dict[str, Tensor]:
    """Images float32 (3, 7, 7), 0 or 1, that a filter can be built for, by name."""
    bar, cross, corner = torch.zeros(3, KNOWN, KNOWN)
    bar[:, 3] = 1
    cross[3], cross[:, 3] = 1, 1
    corner[1, 1:], corner[1:, 1] = 1, 1
    shapes = {
        "red vertical bar": ((1, 0, 0), bar),
        "yellow diagonal": ((1, 1, 0), torch.eye(KNOWN)),
        "blue corner": ((0, 0, 1), corner),
        "white cross": ((1, 1, 1), cross),
    }
    return {name: torch.tensor(ink)[:, None, None] * form for name, (ink, form) in shapes.items()}


class Detector(nn.Module):
    """A network of one channel, built by hand: `layer` adds up the pixels of a pattern (3, 7, 7),
    less half of all others around, and cuts at 0; so the image that it likes best is known: the
    pattern on black. Logits (N, 1), the mean of its map."""

    def __init__(self, pattern: Tensor):
        super().__init__()
        conv = nn.Conv2d(3, 1, KNOWN, padding=KNOWN // 2, bias=False)
        conv.weight.data = torch.where(pattern > 0, 1.0, -0.5)[None]
        self.layer = nn.Sequential(conv, nn.ReLU(inplace=True))

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images).mean((2, 3))


def recovered(where: str | list[int], parametrisation: str, robust: bool) -> tuple[dict, dict]:
    """Build: for each of the `patterns`, the cosine between it and what `visualise` draws for the
    `Detector` of it, around the place that answers most, in the best of `ASCENTS` ascents."""
    cosines = {}
    for name, pattern in patterns().items():
        model = Detector(pattern).eval()
        found = visualise(
            model, "layer", where=where if where == "max" else tuple(where), optima=ASCENTS,
            diversity=0, parametrisation=parametrisation, robust=robust,
        )  # fmt: skip
        image = torch.from_numpy(found.images[0, found.scores[0].argmax()])
        with torch.no_grad():
            row, column = divmod(int(model.layer(image[None]).argmax()), image.shape[2])
        padded = nn.functional.pad(image, [KNOWN // 2] * 4)
        patch = padded[:, row : row + KNOWN, column : column + KNOWN]
        cosines[name] = float(torch.cosine_similarity(patch.flatten(), pattern.flatten(), dim=0))
    return {}, cosines


# --- builds --------------------------------------------------------------------------------------


def probed(network: dict, layers: list[str], each: int, watched: int | None) -> tuple[dict, dict]:
    """Build: tuning of all channels on `each` validation digits of every kind in all ten inks, and
    what the network's own training images do to them, the first `watched`, or all.

    For each layer: "tuning.…", the fields of `Tuning`; "most" float32 (K,), the largest activation
    on any training image; "histogram" int64 (K, BINS) of activations between 0 and that; and of
    the TOP training images "top" uint8 (K, TOP, 3, 28, 28), "top_digits", "top_inks" (K, TOP).
    """
    model = load(network)
    images, labels = balanced(*split_digits("validation"), each)
    inks = np.arange(CLASSES).repeat(len(images))
    grid = np.concatenate(
        [paint(images, ids, TEST_SEED) for ids in inks.reshape(CLASSES, -1)]
    )  # all inks of a digit on the same ground
    answers = activations(model, layers, grid)
    pool = colour_split("train", network["seed"], network["correlation"])
    pool = pool.take(np.arange(len(pool))[:watched]) if watched else pool
    seen = activations(model, layers, pool.images)
    tensors = {}
    for layer in layers:
        tuned = tuning(answers[layer].reshape(CLASSES, len(images), -1), labels, PERMUTATIONS)
        tensors |= {f"{layer}.tuning.{name}": value for name, value in tuned._asdict().items()}
        most = seen[layer].max(0)
        top = np.argpartition(-seen[layer], TOP, axis=0)[:TOP]  # (TOP, K), in any order
        order = np.take_along_axis(seen[layer], top, 0).argsort(0)[::-1]
        top = np.take_along_axis(top, order, 0).T  # (K, TOP), strongest first
        bins = np.minimum(seen[layer] / np.maximum(most, 1e-12) * BINS, BINS - 1).astype(int)
        tensors |= {
            f"{layer}.most": most,
            f"{layer}.histogram": np.stack([np.bincount(b, minlength=BINS) for b in bins.T]),
            f"{layer}.top": np.round(255 * pool.images[top]).astype(np.uint8),
            f"{layer}.top_digits": pool.labels[top].astype(np.uint8),
            f"{layer}.top_inks": pool.colours[top].astype(np.uint8),
        }
    return tensors, {"images": len(pool), "grid": len(grid)}


def visualised(
    network: dict, layers: list[str], optima: int, negative: bool, steps: int
) -> tuple[dict, dict]:
    """Build: for each layer "images" uint8 (K, optima, 3, 28, 28) that excite each channel's mean
    most, "scores" float32 (K, optima), and if `negative` "negative" uint8 (K, 3, 28, 28)."""
    model = load(network)
    root = colour_root(colour_split("validation", TEST_SEED, network["correlation"]).images)
    tensors = {}
    for layer in layers:
        shown = visualise(model, layer, optima=optima, steps=steps, root=root)
        tensors[f"{layer}.images"] = np.round(255 * shown.images).astype(np.uint8)
        tensors[f"{layer}.scores"] = shown.scores
        if negative:
            directions = -np.eye(len(shown.scores))
            least = visualise(model, layer, directions, steps=steps, root=root)
            tensors[f"{layer}.negative"] = np.round(255 * least.images[:, 0]).astype(np.uint8)
    return tensors, {}


def ablated(
    network: dict, layers: list[str], each: int, watched: int | None, count: int
) -> tuple[dict, dict]:
    """Build: answers to the first `count` hard test images while channels are replaced by their
    mean on validation digits.

    For each layer "follows" and "reads", float64 (3, len(SHARES) + 1): the shares called the ink's
    digit and the true digit, without each of 0, then SHARES, of the channels; rows: most tuned to
    colour first, at random (mean of DRAWS orders), most tuned to shape first.
    """
    model = load(network)
    config = {"network": network, "layers": layers, "each": each, "watched": watched}
    tuned = fetch(probed, config, data_md5()).tensors
    split = colour_split("hard", TEST_SEED).take(np.arange(count))
    tensors = {}
    for layer in layers:
        colour, digit = (tuned[f"{layer}.tuning.{name}"] for name in ("colour", "digit"))
        width = len(colour)
        rng = np.random.default_rng(network["seed"])
        orders = [np.argsort(-colour), *(rng.permutation(width) for _ in range(DRAWS))]
        orders.append(np.argsort(-digit))
        sets = np.zeros((len(orders), len(SHARES) + 1, width), dtype=bool)
        for row, order in enumerate(orders):
            for column, share in enumerate((0, *SHARES)):
                sets[row, column, order[: round(share * width)]] = True
        fill = tuned[f"{layer}.tuning.cells"].mean((1, 2))
        logits = ablated_logits(model, layer, split.images, sets.reshape(-1, width), fill)
        called = logits.argmax(2).reshape(*sets.shape[:2], count)
        for name, wanted in (("follows", split.colours), ("reads", split.labels)):
            rate = (called == wanted).mean(2)  # (orders, sizes)
            rows = np.stack([rate[0], rate[1:-1].mean(0), rate[-1]])
            tensors[f"{layer}.{name}"] = rows
    return tensors, {}


# --- all at once ---------------------------------------------------------------------------------


def prepare() -> None:
    """Measure all that the chapter asks for, in parallel; what is stored already costs nothing."""
    prepare_cures()
    cases = [(arch, kind, seed) for arch, kind, runs in _networks() for seed in runs]
    for build, configs, title in (
        (probed, [_probed_config(*case) for case in cases], "tuning of channels"),
        (visualised, [_visualised_config(*case) for case in cases], "visualising channels"),
        (ablated, [_ablated_config(seed) for seed in seeds()], "ablating channels"),
        (recovered, _recovered_configs(), "drawing what is known"),
    ):
        fetch_many(build, configs, data_md5(), title=title)


def _networks() -> list[tuple[str, str, range]]:
    """(architecture, kind, seeds) of all networks that are probed: the ResNet at full scale,
    once."""
    found = [("resnet18", kind, range(1)) for kind in ("cheater", "oracle") if scale() == "full"]
    return found + [("cnn", kind, seeds()) for kind in KINDS]


def _probed_config(arch: str, kind: str, seed: int) -> dict[str, Any]:
    each, watched = (30, None) if scale() == "full" else (10, 5_000)
    return {
        "network": subject(kind, seed, arch),
        "layers": list(LAYERS[arch]),
        "each": each,
        "watched": watched,
    }


def _visualised_config(arch: str, kind: str, seed: int) -> dict[str, Any]:
    """Cards are those of the first seed: two optima and a negative. Of the others one optimum."""
    first = seed == 0
    return {
        "network": subject(kind, seed, arch),
        "layers": list(LAYERS[arch]),
        "optima": 2 if first and arch == "cnn" else 1,
        "negative": first,
        "steps": STEPS if scale() == "full" else STEPS // 6,
    }


def _ablated_config(seed: int) -> dict[str, Any]:
    """Of the cheater, whose cheating is to be taken from it."""
    count = 1000 if scale() == "full" else 200
    return _probed_config("cnn", "cheater", seed) | {"count": count}


def _recovered_configs() -> list[dict[str, Any]]:
    """A unit, with nothing moved, in both parametrisations; and the whole map, as with cards."""
    units = [
        {"where": list(PLACE), "parametrisation": p, "robust": False} for p in PARAMETRISATIONS
    ]
    return [*units, {"where": "max", "parametrisation": PARAMETRISATIONS[0], "robust": True}]


# --- channels ------------------------------------------------------------------------------------


class Channels(NamedTuple):
    """All channels of one layer of one network; arrays are (K, ...).

    tuned: `probe.Tuning` on validation digits; labels, concepts: `probe.label`, `probe.concepts`;
    most: largest activation on its own training images; scores: activation on the best optimum.
    """

    tuned: Tuning
    labels: list[Label]
    concepts: np.ndarray
    most: np.ndarray
    scores: np.ndarray

    @property
    def alive(self) -> np.ndarray:
        """Whether the channel was active on any training image, bool (K,)."""
        return self.most > 0

    @property
    def ratios(self) -> np.ndarray:
        """Of live channels: activation on the optimum over the largest on a training image."""
        return self.scores[self.alive] / self.most[self.alive]


def channels(kind: str, layer: str, seed: int = 0, arch: str = "cnn") -> Channels:
    """What was measured of a layer's channels, of one of the `KINDS`."""
    tensors = _probed(arch, kind, seed).tensors
    tuned = Tuning(**{name: tensors[f"{layer}.tuning.{name}"] for name in Tuning._fields})
    most = tensors[f"{layer}.most"]
    scores = _best_first(arch, kind, layer, seed)[1][:, 0]
    return Channels(tuned, label(tuned, most > 0), concepts(tuned.cells), most, scores)


def _probed(arch: str, kind: str, seed: int) -> Artifact:
    return _kept(probed, json.dumps(_probed_config(arch, kind, seed)), data_md5())


def _visualised(arch: str, kind: str, seed: int) -> Artifact:
    return _kept(visualised, json.dumps(_visualised_config(arch, kind, seed)), data_md5())


@functools.cache  # a chapter asks many times, and looking an artefact up takes a while
def _kept(build: Callable[..., Any], config: str, md5: str) -> Artifact:
    return fetch(build, json.loads(config), md5)


def _best_first(arch: str, kind: str, layer: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Optima uint8 (K, optima, 3, 28, 28) and scores (K, optima), each channel's strongest
    first."""
    tensors = _visualised(arch, kind, seed).tensors
    images, scores = tensors[f"{layer}.images"], tensors[f"{layer}.scores"]
    order = np.argsort(-scores, axis=1)
    rows = np.arange(len(scores))[:, None]
    return images[rows, order], scores[rows, order]


def _layers() -> list[tuple[str, str, str, range]]:
    """(architecture, kind, layer, seeds) of all that is probed, layer by layer; the ResNet last."""
    found = [(*network, layer) for network in _networks() for layer in LAYERS[network[0]]]
    found.sort(key=lambda each: (each[0] != "cnn", each[3]))
    return [(arch, kind, layer, runs) for arch, kind, runs, layer in found]


def _title(arch: str, kind: str, layer: str) -> str:
    return f"{ARCH_NAMES[arch]}, {kind}, {layer}"


def optima(kind: str, layer: str = LAST) -> np.ndarray:
    """The best optimum of every channel of a CNN's layer, uint8 (K, 3, 28, 28), seed 0."""
    return _best_first("cnn", kind, layer, 0)[0][:, 0]


def tuned_order(kind: str, layer: str = LAST) -> np.ndarray:
    """The layer's channels by the ink, then by the digit, that they answer to most: indices
    int64 (K,)."""
    cells = channels(kind, layer).tuned.cells
    return np.lexsort((cells.mean(2).argmax(1), cells.mean(1).argmax(1)))


def cards(kind: str, layer: str = LAST, count: int = 6) -> list[dict[str, Any]]:
    """What `figures.channel_cards` draws of the first `count` channels of a CNN's layer, seed 0."""
    measured, found = channels(kind, layer), []
    shown, seen = _visualised("cnn", kind, 0).tensors, _probed("cnn", kind, 0).tensors
    images, _ = _best_first("cnn", kind, layer, 0)
    for k in range(count):
        sort, which = measured.labels[k]
        name = ": ".join(filter(None, (sort, _named(which))))
        found.append(
            {
                "title": f"{k}, {name}",
                "optima": images[k],
                "negative": shown[f"{layer}.negative"][k],
                "top": seen[f"{layer}.top"][k],
                "cells": measured.tuned.cells[k],
                "histogram": seen[f"{layer}.histogram"][k],
                "most": measured.most[k],
                "score": measured.scores[k],
            }
        )
    return found


# --- shares of labels ----------------------------------------------------------------------------


def label_shares() -> dict[str, dict[str, Estimate]]:
    """For each network and layer, by title, the share of its channels with each label of
    `probe.LABELS`."""
    result = {}
    for arch, kind, layer, runs in _layers():
        kinds = [[each.kind for each in channels(kind, layer, s, arch).labels] for s in runs]
        result[_title(arch, kind, layer)] = {
            name: estimate(np.mean([found == name for found in run]) for run in kinds)
            for name in LABELS
        }
    return result


def label_table() -> pd.DataFrame:
    """`label_shares` in percent of all channels, a row for each network and layer."""
    return pd.DataFrame(
        {"channels of": title} | {name: percent(share) for name, share in shares.items()}
        for title, shares in label_shares().items()
    )


def label_share(kind: str, layer: str, name: str) -> Estimate:
    """Share of the channels of a CNN's layer with a label of `probe.LABELS`."""
    return label_shares()[_title("cnn", kind, layer)][name]


def colour_share(kind: str, seed: int) -> float:
    """Share of the live channels of the CNN's last layer that are labelled colour."""
    found = channels(kind, LAST, seed)
    return float(np.mean([found.labels[k].kind == "colour" for k in np.flatnonzero(found.alive)]))


def colour_shares(kind: str) -> Estimate:
    """`colour_share` over seeds."""
    return estimate(colour_share(kind, seed) for seed in seeds())


def colour_share_gap(other: str) -> Estimate:
    """`colour_share` of the cheater less that of another kind, over seeds."""
    gaps = (colour_share("cheater", seed) - colour_share(other, seed) for seed in seeds())
    return estimate(gaps, bounds=(-1, 1))


MEASURES = {
    "colour": "η² ink",
    "digit": "η² digit",
    "interaction": "η² ink × digit",
    "colour_selectivity": "selectivity, ink",
    "digit_selectivity": "selectivity, digit",
}


def told_share() -> float:
    """Of all `MEASURES` of all live channels probed, seed 0, the share that is told from its
    permutation null."""
    told: list[np.ndarray] = []
    for arch, kind, layer, _ in _layers():
        found = channels(kind, layer, 0, arch)
        told += [getattr(found.tuned, f"p_{name}")[found.alive] < LEVEL for name in MEASURES]
    return float(np.mean(np.concatenate(told)))


def tuning_table() -> pd.DataFrame:
    """Means over a layer's live channels, seed 0: eta squared, their shares told from the null, and
    selectivity indices."""
    rows = []
    for arch, kind, layer, _ in _layers():
        found = channels(kind, layer, 0, arch)
        tuned, live = found.tuned, found.alive
        row: dict[str, Any] = {"channels of": _title(arch, kind, layer)}
        for name, text in MEASURES.items():
            value, p = getattr(tuned, name), getattr(tuned, f"p_{name}")
            row[text] = f"{value[live].mean():.2f} ({np.mean(p[live] < LEVEL):.0%})"
        row["things, median"] = f"{np.median(found.concepts[live]):.0f}"
        rows.append(row)
    return pd.DataFrame(rows)


def tuning_points() -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Eta squared of ink and of digit of each live channel, seed 0: by layer of the CNN, then by
    kind."""
    points: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for layer in LAYERS["cnn"]:
        for kind in KINDS:
            found = channels(kind, layer)
            pair = (found.tuned.colour[found.alive], found.tuned.digit[found.alive])
            points.setdefault(layer, {})[kind] = pair
    return points


# --- do the pictures flatter? --------------------------------------------------------------------


def recovered_table() -> pd.DataFrame:
    """Cosine of what was drawn for networks built by hand to what their one channel likes best: a
    row for each pattern, a column for each way to ask."""
    runs = [run.record["metrics"] for run in _recovered()]
    titles = ("a unit, in waves", "a unit, in pixels", "anywhere, in waves, moved")
    return pd.DataFrame(
        {"pattern": name}
        | {title: f"{run[name]:.3f}" for title, run in zip(titles, runs, strict=True)}
        for name in patterns()
    )


def lowest_recovered() -> float:
    """The lowest cosine of all patterns where a unit is asked."""
    *units, _ = _recovered()
    return min(cosine for run in units for cosine in run.record["metrics"].values())


def _recovered() -> list[Artifact]:
    return fetch_many(recovered, _recovered_configs(), data_md5())


def saturation(kind: str) -> Estimate:
    """How far the best optima of the CNN's last layer are from grey, over seeds: the largest less
    the smallest of R, G and B, each in [0, 1], averaged over pixels and channels."""
    runs = (_best_first("cnn", kind, LAST, seed)[0][:, 0] / 255 for seed in seeds())
    return estimate(np.mean(images.max(1) - images.min(1)) for images in runs)


def beating() -> Estimate:
    """Share of the live channels of all that is probed that one of their optima excites more than
    any training image does; over seeds, the ResNet (full scale) with the first."""
    shares = []
    for s in seeds():
        ratios = [
            channels(kind, layer, s, arch).ratios
            for arch, kind, layer, runs in _layers()
            if s in runs
        ]
        shares.append(np.mean(np.concatenate(ratios) > 1))
    return estimate(shares)


def beating_table() -> pd.DataFrame:
    """For each network and layer, over the live channels of all seeds: how the activation on the
    optimum compares with the largest on a training image."""
    rows = []
    for arch, kind, layer, runs in _layers():
        ratios = np.concatenate([channels(kind, layer, s, arch).ratios for s in runs])
        rows.append(
            {
                "channels of": _title(arch, kind, layer),
                "live channels": len(ratios),
                "optimum wins, %": f"{100 * np.mean(ratios > 1):.1f}",
                "ratio, median": f"{np.median(ratios):.2f}",
                "ratio, lowest": f"{ratios.min():.2f}",
            }
        )
    return pd.DataFrame(rows)


# --- ablation ------------------------------------------------------------------------------------


def ablations() -> dict[str, dict[str, np.ndarray]]:
    """By layer of the CNN cheater: "share" (T,) of its channels that are gone, and "follows" and
    "reads" (seeds, 3 orders, T) on hard test images; orders: colour first, at random, shape
    first."""
    runs = [fetch(ablated, _ablated_config(seed), data_md5()) for seed in seeds()]
    return {
        layer: {"share": np.array([0, *SHARES])}
        | {
            name: np.stack([run.tensors[f"{layer}.{name}"] for run in runs])
            for name in ("follows", "reads")
        }
        for layer in LAYERS["cnn"]
    }


def ablation_gap(layer: str = LAST, share: float = CLAIMED) -> Estimate:
    """How much more colour-following the cheater loses with this share of a layer's channels gone,
    most tuned to colour first, than with as many random ones; over seeds."""
    curves = ablations()[layer]
    colour, random, _ = curves["follows"][:, :, _place(curves, share)].T
    return estimate(random - colour, bounds=(-1, 1))


def ablation_table() -> pd.DataFrame:
    """`ablation_gap` in points of percent, a row for each layer and a column for each share."""
    return pd.DataFrame(
        {"layer": layer}
        | {f"{100 * share:.4g}%": percent(ablation_gap(layer, share)) for share in SHARES}
        for layer in LAYERS["cnn"]
    )


def largest_gap() -> tuple[str, float, Estimate]:
    """The layer, the share and the value of the largest `ablation_gap`."""
    gaps = [
        (layer, share, ablation_gap(layer, share)) for layer in LAYERS["cnn"] for share in SHARES
    ]
    return max(gaps, key=lambda gap: gap[2].mean)


def without_shape(layer: str = LAST, share: float = CLAIMED) -> Estimate:
    """How much more often the cheater follows the ink with this share of a layer's channels gone,
    most tuned to shape first, than whole; over seeds."""
    curves = ablations()[layer]
    _, _, shape = curves["follows"][:, :, _place(curves, share)].T
    return estimate(shape - curves["follows"][:, 2, 0], bounds=(-1, 1))


def best_reading() -> Estimate:
    """Share of hard images read rightly, over seeds, by the cheater with those channels gone that
    make this share largest, of all layers, orders and numbers."""
    curves = [each["reads"].reshape(len(each["reads"]), -1) for each in ablations().values()]
    reads = np.concatenate(curves, axis=1)  # (seeds, layers * orders * sizes)
    return estimate(reads[:, reads.mean(0).argmax()])


def _place(curves: dict[str, np.ndarray], share: float) -> int:
    """The column of a share."""
    return int(np.flatnonzero(curves["share"] == share)[0])


def claimed_channels() -> int:
    """Number of channels that the claim takes away."""
    return round(CLAIMED * len(channels("cheater", LAST).most))


# --- the atlas -----------------------------------------------------------------------------------

INTRO = """<p>Every channel of the networks of chapter 3 (seed 0) has a card: of the cheater, of the
oracle, and of the cure, which is the best network of chapter 5. A channel's activation is the mean
of its map after the ReLU.</p>
<details><summary>How to read a card</summary>
<p>The large pictures were made, not found: gradient ascent on an image, for the channel
(excites) or against it (silences). The nine small ones are the network's own training images
that excite it most. The square is the channel's mean activation on validation digits 0 to 9
(rows) painted in each ink (columns, by their first letters: red, green, blue, yellow, magenta,
cyan, orange, violet, pink, white); darker is more in light mode, brighter is more in dark mode.
The histogram is of all training images, with a logarithmic height; the dashed line marks the
first picture.</p>
<p>η² is the share of the activation's variance that goes with ink, digit, or their combination;
the selectivity indices compare the best ink (digit) with the mean of the others; "things"
counts the digits and families of inks that it takes to hold all that drives the channel;
"ratio" compares the best picture with the strongest training image. A channel is labelled
colour or shape if that takes at least two thirds of what ink and digit explain together, and
shuffled labels do not reach it; else mixed; dead if no training image excites it.</p>
</details>"""


def atlas_cards() -> list[atlas.Card]:
    """A card for each channel of all that is probed, seed 0."""
    found, names = [], edition.class_names()
    for arch, kind, layer, _ in _layers():
        measured = channels(kind, layer, 0, arch)
        tuned = measured.tuned
        shown, seen = _visualised(arch, kind, 0).tensors, _probed(arch, kind, 0).tensors
        images, _ = _best_first(arch, kind, layer, 0)
        network = kind if arch == "cnn" else f"{kind}-{arch}"
        for k, (sort, which) in enumerate(measured.labels):
            pictures = [("excites", image) for image in images[k]]
            pictures.append(("silences", shown[f"{layer}.negative"][k]))
            top = [seen[f"{layer}.{name}"][k] for name in ("top_inks", "top_digits", "top")]
            found.append(
                atlas.Card(
                    path=f"{network}/{layer}/{k}",
                    title=f"{network} {layer} {k}",
                    subtitle=": ".join(filter(None, (sort, _named(which)))),
                    facets={
                        "network": (network,),
                        "layer": (layer,),
                        "label": (sort,),
                        "answers to": tuple(
                            _named(which).split(", ")
                            if which and not which.startswith("all but")
                            else ()
                        ),
                    },
                    measures={
                        "η² ink": float(tuned.colour[k]),
                        edition.words("η² digit"): float(tuned.digit[k]),
                        "η² both": float(tuned.interaction[k]),
                        "select. ink": float(tuned.colour_selectivity[k]),
                        edition.words("select. digit"): float(tuned.digit_selectivity[k]),
                        "things": float(measured.concepts[k]),
                        "ratio": float(measured.scores[k] / max(measured.most[k], 1e-6)),
                        "most": float(measured.most[k]),
                    },
                    pictures=pictures,
                    examples=[
                        (f"{COLOUR_NAMES[ink]} {names[digit]}", image)
                        for ink, digit, image in zip(*top, strict=True)
                    ],
                    grid=tuned.cells[k],
                    histogram=seen[f"{layer}.histogram"][k],
                    most=float(measured.most[k]),
                    mark=float(measured.scores[k]),
                )
            )
    return found


def _named(which: str) -> str:
    """What a channel answers to, with the names of classes for their numbers."""
    return re.sub(r"\d", lambda label: edition.class_names()[int(label[0])], which)


def write_atlas() -> int:
    """Write the atlas to pages/atlas.html in the cache folder, from where it goes into the finished
    book; returns its number of cards."""
    cards = atlas_cards()
    atlas.write(
        edition.built() / "pages" / "atlas.html",
        cards,
        title="The Atlas of Channels",
        intro=edition.words(INTRO),
        back=("report/prober.html", "Back to chapter 3, The Prober"),
        rows=edition.class_names(),
        columns=COLOUR_NAMES,
        grid_title=edition.words("digit by ink"),
        histogram_title="training images",
    )
    return len(cards)
