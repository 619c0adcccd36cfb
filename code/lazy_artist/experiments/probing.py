"""Chapter 3: what the channels of cheater and oracle see, what they are tuned to, and what their
loss does."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lazy_artist import atlas
from lazy_artist.artifacts import Artifact, fetch, fetch_many
from lazy_artist.canvas import CLASSES, COLOUR_NAMES, colour_split, paint, split_digits
from lazy_artist.data import cache_dir
from lazy_artist.evaluate import Estimate, balanced, estimate
from lazy_artist.experiments.networks import (
    ARCH_NAMES,
    TEST_SEED,
    data_md5,
    load_network,
    network_config,
    percent,
    scale,
    seeds,
)
from lazy_artist.probe import (
    LABELS,
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

KINDS = ("cheater", "oracle")
LAYERS = {"cnn": ("block1", "block2", "block3"), "resnet18": ("layer4",)}
LAST = "block3"  # the CNN's last layer, which its claims are about
TOP = 9  # dataset images on a card
BINS = 24  # of a card's histogram
PERMUTATIONS = 199
STEPS = 96
DRAWS = 5  # random sets of channels for each size, to compare an ablation with
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)  # of a layer's channels, taken away
CLAIMED = 1 / 4  # the share that the claim is about, fixed before any ablation was run


# --- builds --------------------------------------------------------------------------------------


def probed(network: dict, layers: list[str], each: int) -> tuple[dict, dict]:
    """Build: tuning of all channels on `each` validation digits of every kind in all ten inks, and
    what the network's own training images do to them.

    For each layer: "tuning.…", the fields of `Tuning`; "most" float32 (K,), the largest activation
    on any training image; "histogram" int64 (K, BINS) of activations between 0 and that; and of
    the TOP training images "top" uint8 (K, TOP, 3, 28, 28), "top_digits", "top_inks" (K, TOP).
    """
    model = load_network(network)
    images, labels = balanced(*split_digits("validation"), each)
    inks = np.arange(CLASSES).repeat(len(images))
    grid = np.concatenate(
        [paint(images, ids, TEST_SEED) for ids in inks.reshape(CLASSES, -1)]
    )  # all inks of a digit on the same ground
    answers = activations(model, layers, grid)
    pool = colour_split("train", network["seed"], network["correlation"])
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
    model = load_network(network)
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


def ablated(network: dict, layers: list[str], each: int, count: int) -> tuple[dict, dict]:
    """Build: answers to the first `count` hard test images while channels are replaced by their
    mean on validation digits.

    For each layer "follows" and "reads", float64 (3, len(SHARES) + 1): the shares called the ink's
    digit and the true digit, without each of 0, then SHARES, of the channels; rows: most tuned to
    colour first, at random (mean of DRAWS orders), most tuned to shape first.
    """
    model = load_network(network)
    config = {"network": network, "layers": layers, "each": each}
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
    cases = [("resnet18", kind, 0) for kind in KINDS if scale() == "full"]
    cases += [("cnn", kind, seed) for seed in seeds() for kind in KINDS]
    for build, config, title in (
        (probed, _probed_config, "tuning of channels"),
        (visualised, _visualised_config, "visualising channels"),
        (ablated, _ablated_config, "ablating channels"),
    ):
        fetch_many(build, [config(*case) for case in cases], data_md5(), title=title)


def _probed_config(arch: str, kind: str, seed: int) -> dict[str, Any]:
    each = 30 if scale() == "full" else 20
    return {
        "network": network_config(kind, arch, seed),
        "layers": list(LAYERS[arch]),
        "each": each,
    }


def _visualised_config(arch: str, kind: str, seed: int) -> dict[str, Any]:
    """Cards are those of the first seed: two optima and a negative. Of the others one optimum."""
    first = seed == 0
    return {
        "network": network_config(kind, arch, seed),
        "layers": list(LAYERS[arch]),
        "optima": 2 if first and arch == "cnn" else 1,
        "negative": first,
        "steps": STEPS if scale() == "full" else 48,
    }


def _ablated_config(arch: str, kind: str, seed: int) -> dict[str, Any]:
    count = 1000 if scale() == "full" else 500
    return _probed_config(arch, kind, seed) | {"count": count}


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
    """What was measured of a layer's channels, of a "cheater" or an "oracle"."""
    tensors = _probed(arch, kind, seed).tensors
    tuned = Tuning(**{name: tensors[f"{layer}.tuning.{name}"] for name in Tuning._fields})
    most = tensors[f"{layer}.most"]
    scores = _best_first(arch, kind, layer, seed)[1][:, 0]
    return Channels(tuned, label(tuned, most > 0), concepts(tuned.cells), most, scores)


def _probed(arch: str, kind: str, seed: int) -> Artifact:
    return fetch(probed, _probed_config(arch, kind, seed), data_md5())


def _visualised(arch: str, kind: str, seed: int) -> Artifact:
    return fetch(visualised, _visualised_config(arch, kind, seed), data_md5())


def _best_first(arch: str, kind: str, layer: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Optima uint8 (K, optima, 3, 28, 28) and scores (K, optima), each channel's strongest
    first."""
    tensors = _visualised(arch, kind, seed).tensors
    images, scores = tensors[f"{layer}.images"], tensors[f"{layer}.scores"]
    order = np.argsort(-scores, axis=1)
    rows = np.arange(len(scores))[:, None]
    return images[rows, order], scores[rows, order]


def _layers() -> list[tuple[str, str, str, range]]:
    """(architecture, kind, layer, seeds) of all that is probed: the ResNet at full scale, once."""
    found = [("cnn", kind, layer, seeds()) for layer in LAYERS["cnn"] for kind in KINDS]
    if scale() == "full":
        found += [("resnet18", kind, "layer4", range(1)) for kind in KINDS]
    return found


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
        name = ": ".join(filter(None, measured.labels[k]))
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


def colour_share(kind: str, seed: int) -> float:
    """Share of the live channels of the CNN's last layer that are labelled colour."""
    found = channels(kind, LAST, seed)
    return float(np.mean([found.labels[k].kind == "colour" for k in np.flatnonzero(found.alive)]))


def colour_share_gap() -> Estimate:
    """`colour_share` of the cheater less that of the oracle, over seeds."""
    gaps = (colour_share("cheater", seed) - colour_share("oracle", seed) for seed in seeds())
    return estimate(gaps, bounds=(-1, 1))


def tuning_table() -> pd.DataFrame:
    """Means over a layer's live channels, seed 0: eta squared, their shares told from the null, and
    selectivity indices."""
    rows = []
    for arch, kind, layer, _ in _layers():
        found = channels(kind, layer, 0, arch)
        tuned, live = found.tuned, found.alive
        row: dict[str, Any] = {"channels of": _title(arch, kind, layer)}
        for text, value, p in (
            ("η² ink", tuned.colour, tuned.p_colour),
            ("η² digit", tuned.digit, tuned.p_digit),
            ("η² ink × digit", tuned.interaction, tuned.p_interaction),
            ("selectivity, ink", tuned.colour_selectivity, tuned.p_colour_selectivity),
            ("selectivity, digit", tuned.digit_selectivity, tuned.p_digit_selectivity),
        ):
            row[text] = f"{value[live].mean():.2f} ({np.mean(p[live] < 0.01):.0%})"
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


def ablations(kind: str) -> dict[str, dict[str, np.ndarray]]:
    """By layer of the CNN: "share" (T,) of its channels that are gone, and "follows" and "reads"
    (seeds, 3 orders, T) on hard test images; orders: colour first, at random, shape first."""
    runs = [fetch(ablated, _ablated_config("cnn", kind, seed), data_md5()) for seed in seeds()]
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
    curves = ablations("cheater")[layer]
    at = int(np.flatnonzero(curves["share"] == share)[0])
    colour, random, _ = curves["follows"][:, :, at].T
    return estimate(random - colour, bounds=(-1, 1))


def ablation_table() -> pd.DataFrame:
    """`ablation_gap` in points of percent, a row for each layer and a column for each share."""
    return pd.DataFrame(
        {"layer": layer}
        | {f"{100 * share:.4g}%": percent(ablation_gap(layer, share)) for share in SHARES}
        for layer in LAYERS["cnn"]
    )


def claimed_channels() -> int:
    """Number of channels that the claim takes away."""
    return round(CLAIMED * len(channels("cheater", LAST).most))


# --- the atlas -----------------------------------------------------------------------------------

INTRO = """<p>Every channel of the networks of chapter 3 (seed 0) has a card. A channel's activation
is the mean of its map after the ReLU.</p>
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
    found = []
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
                    subtitle=": ".join(filter(None, (sort, which))),
                    facets={
                        "network": (network,),
                        "layer": (layer,),
                        "label": (sort,),
                        "answers to": tuple(
                            which.split(", ") if which and not which.startswith("all but") else ()
                        ),
                    },
                    measures={
                        "η² ink": float(tuned.colour[k]),
                        "η² digit": float(tuned.digit[k]),
                        "η² both": float(tuned.interaction[k]),
                        "select. ink": float(tuned.colour_selectivity[k]),
                        "select. digit": float(tuned.digit_selectivity[k]),
                        "things": float(measured.concepts[k]),
                        "ratio": float(measured.scores[k] / max(measured.most[k], 1e-6)),
                        "most": float(measured.most[k]),
                    },
                    pictures=pictures,
                    examples=[
                        (f"{COLOUR_NAMES[ink]} {digit}", image)
                        for ink, digit, image in zip(*top, strict=True)
                    ],
                    grid=tuned.cells[k],
                    histogram=seen[f"{layer}.histogram"][k],
                    most=float(measured.most[k]),
                    mark=float(measured.scores[k]),
                )
            )
    return found


def write_atlas() -> int:
    """Write the atlas to pages/atlas.html in the cache folder, from where it goes into the finished
    book; returns its number of cards."""
    cards = atlas_cards()
    atlas.write(
        cache_dir() / "pages" / "atlas.html",
        cards,
        title="The Atlas of Channels",
        intro=INTRO,
        back=("report/prober.html", "Back to chapter 3, The Prober"),
        rows=[str(digit) for digit in range(CLASSES)],
        columns=COLOUR_NAMES,
        grid_title="digit by ink",
        histogram_title="training images",
    )
    return len(cards)
