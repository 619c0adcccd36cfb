"""Chapter 3: what the channels of cheater, cure and oracle see, what they are tuned to, and what
their loss does."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from lazy_artist import atlas, canvas, parts, plots, tuning
from lazy_artist.canvas import COLOUR_NAMES, N_CLASSES, colour_split, paint, split_digits
from lazy_artist.config import ARCH_NAMES, TEST_SEED
from lazy_artist.data import cache_dir
from lazy_artist.evaluate import balanced
from lazy_artist.featurevis import colour_root, visualise
from lazy_artist.networks import Network
from lazy_artist.store import stored

LAYERS = {"cnn": ["block1", "block2", "block3"], "resnet18": ["layer4"]}
TOP = 9  # images of the grid on a card
SHOWN = 4  # channels of several meanings, and of parts, that the chapter shows of a network
BINS = 24  # of a card's histogram
PERMUTATIONS = 199
DRAWS = 5  # random sets of channels for each size, to compare an ablation with
SHARES = (0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)  # of a layer's channels, ablated
ORDERS = ("most tuned to colour first", "at random", "most tuned to shape first")
ASCENTS = 4  # at a pattern that is known; the one with the highest score counts
PATTERN_SIDE = 7  # pixels


# --- networks built by hand ----------------------------------------------------------------------


def patterns() -> dict[str, Tensor]:
    """Images float32 (3, 7, 7), 0 or 1, that a filter can be built for, by name."""
    bar, diagonal, corner, cross = found = torch.zeros(4, 3, PATTERN_SIDE, PATTERN_SIDE)
    bar[0, :, 3] = 1
    diagonal[:2] = torch.eye(PATTERN_SIDE)
    corner[2, 1, 1:], corner[2, 1:, 1] = 1, 1
    cross[:, 3], cross[:, :, 3] = 1, 1
    names = ("red vertical bar", "yellow diagonal", "blue corner", "white cross")
    return dict(zip(names, found, strict=True))


@stored
def recover_patterns(
    where: str | tuple[int, int], parametrisation: str, robust: bool
) -> pd.DataFrame:
    """For each of the `patterns` (columns pattern, cosine) the cosine between it and the best of
    `ASCENTS` drawings for a detector of it, around the place that responds most. That channel adds
    up the pattern's pixels, less half of all others around, so it likes the pattern on black best.
    """
    rows, place = [], where if isinstance(where, str) else tuple(where)  # records have lists
    for name, pattern in patterns().items():
        conv = nn.Conv2d(3, 1, PATTERN_SIDE, padding=PATTERN_SIDE // 2, bias=False)
        conv.weight.data = torch.where(pattern > 0, 1.0, -0.5)[None]
        model = nn.Sequential(conv, nn.ReLU())
        images, scores = visualise(
            model, "1", where=place, optima=ASCENTS, diversity=0,
            parametrisation=parametrisation, robust=robust,
        )  # fmt: skip
        image = torch.from_numpy(images[0, [scores[0].argmax()]])
        patches = nn.functional.unfold(image, PATTERN_SIDE, padding=PATTERN_SIDE // 2)[0].T
        patch = patches[model(image).argmax()].contiguous()  # (147,)
        cosine = torch.cosine_similarity(patch, pattern.flatten(), dim=0)
        rows.append({"pattern": name, "cosine": float(cosine)})
    return pd.DataFrame(rows)


# --- channels ------------------------------------------------------------------------------------


@stored
def probe_channels(
    network: Network, layers: list[str], n_per_class: int, n_train: int | None
) -> dict[str, dict[str, Any]]:
    """Tuning of all channels on the first `n_per_class` validation digits of every kind in all ten
    colours, and how they respond to the network's own first `n_train` training images, or all.

    For each layer: "tuning", "cells", see the module `tuning`; "most" float32 (K,), the largest
    activation on any training image; "histogram" int64 (K, BINS) of activations up to that; and of
    the validation digits, each in the colour that excites the channel most, strongest first, "top"
    uint8 (K, TOP, 3, 28, 28), "top_digits" and "top_colours" uint8 (K, TOP): there a digit meets
    all colours, while among training images a digit and its dominant colour cannot be told apart.
    """
    model, grid = network.load(), tuning.colour_grid("validation", n_per_class, TEST_SEED)
    labels = grid.labels.reshape(N_CLASSES, -1)[0]
    pool = colour_split("train", network.seed, network.correlation).take(np.s_[:n_train])
    responses, seen = (tuning.activations(model, layers, split.images) for split in (grid, pool))
    found = {}
    for layer in layers:
        crossed = responses[layer].reshape(N_CLASSES, len(labels), -1)
        most = seen[layer].max(0)
        best = crossed.argmax(0)  # the colour that suits each digit image best, (N, K)
        top = np.argsort(-crossed.max(0), axis=0, kind="stable")[:TOP]  # (TOP, K)
        top = (np.take_along_axis(best, top, 0) * len(labels) + top).T  # (K, TOP) of the grid
        bins = np.minimum(seen[layer] / np.maximum(most, 1e-12) * BINS, BINS - 1).astype(int)
        found[layer] = {
            "tuning": tuning.tuning(crossed, labels, PERMUTATIONS),
            "cells": tuning.cell_means(crossed, labels),
            "most": most,
            "histogram": np.stack([np.bincount(b, minlength=BINS) for b in bins.T]),
            "top": np.round(255 * grid.images[top]).astype(np.uint8),
            "top_digits": grid.labels[top].astype(np.uint8),
            "top_colours": grid.colours[top].astype(np.uint8),
        }
    return found


@stored
def draw_channels(
    network: Network, layers: list[str], optima: int, negative: bool, steps: int
) -> dict[str, dict[str, np.ndarray]]:
    """For each layer "optima" uint8 (K, optima, 3, 28, 28) that excite each channel's mean most,
    "scores" float32 (K, optima), strongest first, and if `negative` "negative" uint8 (K, 3, 28, 28)
    that suppress it."""
    model = network.load()
    root = colour_root(colour_split("validation", TEST_SEED, network.correlation).images)
    found = {}
    for layer in layers:
        images, scores = visualise(model, layer, optima=optima, steps=steps, root=root)
        order = np.argsort(-scores, axis=1)
        rows = np.arange(len(scores))[:, None]
        found[layer] = {
            "optima": np.round(255 * images).astype(np.uint8)[rows, order],
            "scores": scores[rows, order],
        }
        if negative:
            images, _ = visualise(model, layer, -np.eye(len(scores)), steps=steps, root=root)
            found[layer]["negative"] = np.round(255 * images[:, 0]).astype(np.uint8)
    return found


def respond(
    network: Network, n_per_class: int, n_train: int | None, steps: int
) -> dict[str, dict[str, Any]]:
    """What `probe_channels` and `draw_channels` say of each of the network's `LAYERS`. Of seed 0
    the CNNs have two optima, and all have negatives."""
    layers, first = LAYERS[network.arch], network.seed == 0
    pair = 2 if first and network.arch == "cnn" else 1
    drawn = draw_channels(network, layers, pair, first, steps)
    probed = probe_channels(network, layers, n_per_class, n_train)
    return {layer: probed[layer] | drawn[layer] for layer in layers}


@stored
def measure_channels(
    network: Network, n_per_class: int, n_train: int | None, steps: int
) -> pd.DataFrame:
    """All channels of a network's `LAYERS`, by what `respond` found: a row a channel. layer,
    channel, alive (active on any training image), label, prefers, things (how many drive it) and
    the columns of `tuning.tuning`, best_colour and best_digit (of its marginal means), most
    (largest activation on a training image), score (activation on the best optimum), saturation
    (of that optimum: the largest less the smallest of R, G and B, each in [0, 1], averaged over
    pixels)."""
    frames, near = [], tuning.neighbouring_digits()
    for layer, found in respond(network, n_per_class, n_train, steps).items():
        cells, most, optima = found["cells"], found["most"], found["optima"][:, 0] / 255
        frame = {
            "layer": layer, "channel": np.arange(len(most)), "alive": most > 0,
            "things": list(map(len, tuning.things(cells, near))),
            "best_digit": cells.mean(2).argmax(1),
            "best_colour": cells.mean(1).argmax(1), "most": most, "score": found["scores"][:, 0],
            "saturation": (optima.max(1) - optima.min(1)).mean((1, 2)),
        }  # fmt: skip
        labels = tuning.label(found["tuning"], cells, most > 0)
        frames.append(pd.DataFrame(frame).join([labels, found["tuning"]]))
    return pd.concat(frames, ignore_index=True)


def all_channels(networks: list[Network], **sizes: Any) -> pd.DataFrame:
    """What `measure_channels` says of each network, in one frame with the columns arch, network,
    seed and title (of network and layer); by layer (those of the ResNet last) and network."""
    calls = [{"network": network, **sizes} for network in networks]
    found = stored.map(measure_channels, calls, title="drawing and probing channels")
    frames = []
    for one, frame in zip(networks, found, strict=True):
        title = f"{ARCH_NAMES[one.arch]}, {one.name}, " + frame["layer"]
        about = {"title": title, "arch": one.arch, "network": one.name, "seed": one.seed}
        frames.append(frame.assign(**about))
    frame = pd.concat(frames)
    return frame.sort_values(["arch", "layer"], kind="stable", ignore_index=True)


@stored
def show_channels(
    networks: list[Network], n_per_class: int, n_train: int | None, steps: int
) -> dict[str, dict[str, Any]]:
    """The pictures of networks of seed 0. "atlas": of `atlas.compose`, a card for each channel.
    "optima": by title, of each layer of the CNNs, uint8 (K, 3, 28, 28), the best of each channel.
    """
    sizes = {"n_per_class": n_per_class, "n_train": n_train, "steps": steps}
    channels, found, optima = all_channels(networks, **sizes), {}, {}
    for network in networks:
        for layer, arrays in respond(network, **sizes).items():
            title = f"{ARCH_NAMES[network.arch]}, {network.name}, {layer}"
            found[title] = arrays
            if network.arch == "cnn":
                optima[title] = arrays["optima"][:, 0]
    return {"atlas": compose_atlas(channels, found), "optima": optima}


@stored
def excite(
    network: Network, layer: str, pairs: list[list[int]], n_per_class: int, n_train: int | None
) -> dict[str, np.ndarray]:
    """How the `canvas.specimens` of pairs (digit, colour), "images" float32 (N, 3, 28, 28), excite
    a layer's channels: "shares" float32 (N, K), of each channel's largest activation on any of the
    network's training images; and "channels" int64 (N / 3,), which the first of each three excites
    most."""
    images, probed = canvas.specimens(pairs), (LAYERS[network.arch], n_per_class, n_train)
    most = probe_channels(network, *probed)[layer]["most"]
    seen = tuning.activations(network.load(), [layer], images)[layer]
    shares = seen / np.maximum(most, np.float32(1e-12))
    return {"images": images, "shares": shares, "channels": shares[::3].argmax(1)}


# --- several meanings ----------------------------------------------------------------------------


@stored
def count_things(
    network: Network, layers: list[str], n_per_class: int, n_train: int | None
) -> pd.DataFrame:
    """Shares of a layer's live channels that are driven by "one" thing, by "several", and "broadly"
    (by more than half of the cells of the grid), by what `probe_channels` found: a row for each
    layer and kind of "unit": its "channels", and as many "random directions" (normal weights, on
    the channels' cells in units of their standard deviation)."""
    probed, rows = probe_channels(network, layers, n_per_class, n_train), []
    near, rng = tuning.neighbouring_digits(), np.random.default_rng(network.seed)
    for layer in layers:
        cells = probed[layer]["cells"][probed[layer]["most"] > 0]
        scaled = cells / np.maximum(cells.std((1, 2), keepdims=True), 1e-12)
        mixed = np.tensordot(rng.standard_normal((len(cells), len(cells))), scaled, 1)
        for unit, table in {"channels": cells, "random directions": mixed}.items():
            counts = np.array(list(map(len, tuning.things(table, near))))
            broad = tuning.driving(table).mean((1, 2)) > 0.5
            shares = {"one": (counts == 1) & ~broad, "several": (counts > 1) & ~broad}
            shares["broadly"] = broad
            row = {"network": network.name, "seed": network.seed, "layer": layer, "unit": unit}
            rows.append(row | {name: float(share.mean()) for name, share in shares.items()})
    return pd.DataFrame(rows)


@stored
def try_meanings(
    network: Network, layers: list[str], n_per_class: int, n_train: int | None
) -> pd.DataFrame:
    """Whether what a channel seems to mean is what moves it: a row for each of the things that
    drive a channel which several drive (`count_things`), with layer, channel, things (how many),
    kind ("digit" or "colour"), members (their names), strength (mean activation in its cells, over
    the channel's largest), and of `n_per_class` validation digits that none of this was seen on,

    excited, the share of images with this thing alone on which the channel lies above the middle
        between its mean with this and that with none of its things, on the grid they were found on;
    exchanged, of those, the share of exchanges of just this (a colour: the same digit in the
        colours that are none of its things; a digit: another, in the same colour) that leave it
        there;
    kept, that of exchanges of the other property, which leave this thing as it is; background and
        jitter stay the same;
    upheld, whether the first and the last are above a half and the second is below.
    """
    model, probed = network.load(), probe_channels(network, layers, n_per_class, n_train)
    near, rows, everything = tuning.neighbouring_digits(), [], set(range(N_CLASSES))
    grey, _ = balanced(*split_digits("validation"), 2 * n_per_class)
    grey = grey.reshape(N_CLASSES, 2 * n_per_class, 28, 28)[:, n_per_class:]
    images = [
        paint(part, np.full(n_per_class, colour), TEST_SEED)
        for part in grey
        for colour in range(N_CLASSES)
    ]
    responses = tuning.activations(model, layers, np.concatenate(images))
    for layer in layers:
        cells, shape = probed[layer]["cells"], (N_CLASSES, N_CLASSES, n_per_class, -1)
        seen, broad = responses[layer].reshape(shape), tuning.driving(cells).mean((1, 2)) > 0.5
        for channel, found in enumerate(tuning.things(cells, near)):
            if len(found) < 2 or broad[channel]:
                continue
            free = {"digit": everything.copy(), "colour": everything.copy()}
            for kind, members in found:
                free[kind] -= set(members)
            for kind, members in found:
                names = [COLOUR_NAMES[m] if kind == "colour" else str(m) for m in members]
                # the property in question along the first axis, the other along the second
                turn = (lambda x: x) if kind == "digit" else (lambda x: x.swapaxes(0, 1))
                table, values = turn(cells[channel]), turn(seen[..., channel])
                outside = sorted(free[kind])
                others = sorted(free["colour" if kind == "digit" else "digit"])
                level, none = (
                    table[np.ix_(part, others)].mean() if part and others else np.nan
                    for part in (members, outside)
                )
                above = values > (level + none) / 2  # (10, 10, n)
                with_it = above[np.ix_(members, others)].astype(float)  # (m, o, n)
                left = above[np.ix_(outside, others)].sum(0) / max(len(outside), 1)  # (o, n)
                spared = (with_it.sum(1, keepdims=True) - 1) / max(len(others) - 1, 1)
                count = max(with_it.sum(), 1)
                row = {
                    "network": network.name, "seed": network.seed, "layer": layer,
                    "channel": channel, "things": len(found), "kind": kind,
                    "members": ", ".join(names), "strength": level / table.max(),
                    "excited": with_it.sum() / max(with_it.size, 1),
                    "exchanged": (with_it * left).sum() / count,
                    "kept": (with_it * spared).sum() / count,
                }  # fmt: skip
                rows.append(row)
    frame = pd.DataFrame(rows)
    frame["upheld"] = (frame.excited > 0.5) & (frame.exchanged < 0.5) & (frame.kept > 0.5)
    return frame


@stored
def show_meanings(
    network: Network, layer: str, n_per_class: int, n_train: int | None, steps: int
) -> dict[str, Any]:
    """The `SHOWN` channels of a layer with the most things, and of equals those whose weakest thing
    is strongest: "tests", their rows of `try_meanings`; "cells" (rows, 10, 10) of their channels;
    for each row "optima" uint8 (rows, 3, 28, 28), where the ascent ends that starts at the mean of
    the images of this thing alone that excite the channel most, and "examples" uint8 (rows, 2, 3,
    28, 28), the first two of those, of different digit images."""
    layers, model = LAYERS[network.arch], network.load()
    tests = try_meanings(network, layers, n_per_class, n_train).query("layer == @layer")
    ranks = tests.groupby("channel").agg({"things": "first", "strength": "min"})
    ranks = ranks.sort_values(["things", "strength"], ascending=False, kind="stable")
    order = {channel: rank for rank, channel in enumerate(ranks.index[:SHOWN])}
    tests = tests[tests.channel.isin(order)].sort_values(
        "channel", key=lambda channel: channel.map(order), kind="stable", ignore_index=True
    )
    grid = tuning.colour_grid("validation", n_per_class, TEST_SEED)
    seen = tuning.activations(model, [layer], grid.images)[layer]
    names = np.array([grid.labels.astype(str), np.array(COLOUR_NAMES)[grid.colours]])
    starts, examples = [], []
    for row in tests.itertuples():
        rest = tests[(tests.channel == row.channel) & (tests.index != row.Index)]
        of = {row.Index: row.members} | dict(rest.members.items())
        inside, *others = (np.isin(names, text.split(", ")).any(0) for text in of.values())
        values = np.where(inside & ~np.any(others, axis=0), seen[:, row.channel], -1)
        values = values.reshape(N_CLASSES, -1)  # colours, digit images
        best = np.argsort(-values.max(0), kind="stable")[:TOP]
        best = values.argmax(0)[best] * values.shape[1] + best
        starts.append(grid.images[best].mean(0))
        examples.append(np.round(255 * grid.images[best[:2]]).astype(np.uint8))
    probed = probe_channels(network, layers, n_per_class, n_train)[layer]["cells"]
    root = colour_root(colour_split("validation", TEST_SEED, network.correlation).images)
    directions = np.eye(len(probed))[tests.channel]
    images, _ = visualise(model, layer, directions, steps=steps, root=root, start=np.stack(starts))
    optima = np.round(255 * images[:, 0]).astype(np.uint8)
    found = {"tests": tests, "cells": probed[tests.channel], "optima": optima}
    return found | {"examples": np.stack(examples)}


# --- parts of digits -----------------------------------------------------------------------------


@stored
def show_parts(network: Network, layer: str, n_per_class: int, steps: int) -> dict[str, Any]:
    """`SHOWN` channels of a layer, those first that answer to parts: of each part the one for which
    it explains most, those first that it explains best. "tests", their rows of `parts.try_parts`;
    "optima" uint8 (rows, 3, 28, 28); "digits" uint8 (rows, 3, 28, 28), the first three of the
    part's `parts.matched_patches`, in grey, and their "corners" (rows, 3, 2, 2)."""
    tests = parts.try_parts(network, LAYERS[network.arch], n_per_class)
    tests = tests[tests.layer == layer].sort_values(
        ["answers", "share"], ascending=False, kind="stable"
    ).drop_duplicates("part")  # fmt: skip
    tests = tests.head(SHOWN).reset_index(drop=True)
    root = colour_root(colour_split("validation", TEST_SEED, network.correlation).images)
    model, templates = network.load(), parts.part_templates()
    width = dict(model.named_modules())[layer][0].out_channels
    directions = np.eye(width)[tests.channel]
    images, _ = visualise(model, layer, directions, steps=steps, root=root)
    patches = [parts.matched_patches(templates[part], n_per_class) for part in tests.part]
    return {
        "tests": tests, "optima": np.round(255 * images[:, 0]).astype(np.uint8),
        "digits": np.stack([grey[:3] for grey, _ in patches]),
        "corners": np.stack([corners[:3] for _, corners in patches]),
    }  # fmt: skip


# --- ablation ------------------------------------------------------------------------------------


@stored
def ablate_channels(
    network: Network, layers: list[str], n_per_class: int, n_train: int | None, n_eval: int
) -> pd.DataFrame:
    """Columns shortcut_rate and accuracy on the first `n_eval` hard test images without a share of
    a layer's channels, each replaced by the mean of its cells: a row for each layer and each of the
    `ORDERS` (order) and `SHARES` (share), by what `probe_channels` found of the network. At random:
    the mean of `DRAWS` orders from the network's seed."""
    model, split = network.load(), colour_split("hard", TEST_SEED).take(np.arange(n_eval))
    probed = probe_channels(network, layers, n_per_class, n_train)
    frames = []
    for layer in layers:
        tuned, fill = probed[layer]["tuning"], probed[layer]["cells"].mean((1, 2))
        width, rng = len(tuned), np.random.default_rng(network.seed)
        orders = [np.argsort(-tuned.colour.to_numpy())]
        orders += [rng.permutation(width) for _ in range(DRAWS)]
        orders.append(np.argsort(-tuned.digit.to_numpy()))
        counts = np.array([[round(share * width)] for share in SHARES])
        sets = np.argsort(orders, axis=1)[:, None] < counts  # ranks: (orders, sizes, K)
        logits = tuning.ablated_logits(model, layer, split.images, sets.reshape(-1, width), fill)
        predictions = logits.argmax(2).reshape(*sets.shape[:2], len(split))
        columns = {"order": np.repeat(ORDERS, len(SHARES)).tolist(), "share": SHARES * len(ORDERS)}
        for name, wanted in (("shortcut_rate", split.colours), ("accuracy", split.labels)):
            rate = (predictions == wanted).mean(2)  # (orders, sizes)
            columns[name] = np.concatenate([rate[0], rate[1:-1].mean(0), rate[-1]])
        place = {"network": network.name, "seed": network.seed, "layer": layer}
        frames.append(pd.DataFrame(columns).assign(**place))
    return pd.concat(frames, ignore_index=True)


# --- the atlas -----------------------------------------------------------------------------------

INTRO = """<p>Every channel of the networks of chapter 3 (seed 0) has a card: of the cheater, of the
oracle, and of the cure, the best network of chapter 5. A channel's activation is the mean of its
map after the ReLU.</p>
<details><summary>How to read a card</summary>
<p>The large pictures were made, not found: gradient ascent on an image, for the channel (excites)
or against it (suppresses). The square is its mean activation on validation digits 0 to 9 (rows),
each painted in every colour (columns, by their first letters: red, green, blue, yellow, magenta,
cyan, orange, violet, pink, white); darker is more in light mode, brighter in dark mode. The nine
small pictures are the strongest of these digits, each in the colour that excites the channel most:
no digit goes with a colour among them. The histogram is of all training images, with a logarithmic
height; the dashed line marks the first picture.</p>
<p>η² is the share of the activation's variance that goes with colour, digit, or their combination;
the selectivity indices compare the best colour (digit) with the mean of the others; "things" counts
the families of digits and of colours that it takes to hold all that drives the channel; "ratio"
compares the best picture with the strongest training image. A channel is labelled colour or shape
if that takes at least two thirds of what colour, digit and combination explain together, else
mixed; but unexplained if what it is labelled by explains less than a tenth of its variance or is
reached by shuffled labels; dead if no training image excites it.</p>
</details>"""


def compose_atlas(
    channels: pd.DataFrame, found: dict[str, dict[str, Any]]
) -> dict[str, np.ndarray]:
    """`atlas.compose` of a card for each of `all_channels`. found: by title, of `respond`."""
    names, cards = ("optima", "negative", "top", "top_colours", "top_digits"), []
    for row in channels.itertuples():
        arrays = {name: found[row.title][name][row.channel] for name in (*names, "cells")}
        network = row.network if row.arch == "cnn" else f"{row.network}-{row.arch}"
        single = row.prefers and not row.prefers.startswith("all but")
        top = (arrays["top_colours"], arrays["top_digits"], arrays["top"])
        measures = {
            "η² colour": row.colour, "η² digit": row.digit, "η² both": row.interaction,
            "select. colour": row.colour_selectivity, "select. digit": row.digit_selectivity,
            "things": row.things, "ratio": row.score / max(row.most, 1e-6), "most": row.most,
        }  # fmt: skip
        card = atlas.Card(
            path=f"{network}/{row.layer}/{row.channel}",
            title=f"{network} {row.layer} {row.channel}",
            subtitle=": ".join(filter(None, (row.label, row.prefers))),
            facets={
                "network": (network,), "layer": (row.layer,), "label": (row.label,),
                "answers to": tuple(row.prefers.split(", ")) if single else (),
            },
            measures={name: float(value) for name, value in measures.items()},
            pictures=[("excites", image) for image in arrays["optima"]]
            + [("suppresses", arrays["negative"])],
            examples=[(f"{COLOUR_NAMES[c]} {d}", image) for c, d, image in zip(*top, strict=True)],
            grid=arrays["cells"], histogram=found[row.title]["histogram"][row.channel],
            most=float(row.most), mark=float(row.score),
        )  # fmt: skip
        cards.append(card)
    return atlas.compose(cards, histogram_title="training images")


def write_atlas(composed: dict[str, np.ndarray]) -> int:
    """Write the atlas of `show_channels` to pages/atlas.html in the cache folder, which goes into
    the finished book, and return the number of its cards."""
    return atlas.write(
        cache_dir() / "pages" / "atlas.html", composed, title="The Atlas of Channels",
        intro=INTRO, back=("report/prober.html", "Back to chapter 3, The Prober"),
    )  # fmt: skip


# --- figures -------------------------------------------------------------------------------------

LABEL_STYLES = {
    "colour": (plots.VERMILION, "", "white"), "shape": (plots.BLUE, "", "white"),
    "mixed": ("#E8D9A0", "//", plots.DARK), "unexplained": ("#D8D8D8", "xx", plots.DARK),
    "dead": ("#999999", "..", plots.DARK),
}  # fmt: skip
ORDER_STYLES = ((plots.VERMILION, "--", "s"), (plots.DARK, ":", "^"), (plots.BLUE, "-", "o"))


def optima_sheets(
    channels: pd.DataFrame, optima: dict[str, np.ndarray], layers: list[str], every: int = 1
) -> Figure:
    """The "optima" of `show_channels` in rows of eight, a panel for each of the layers and each of
    three networks: of all channels (`all_channels`), or of `every` so many, sorted by the colour,
    then the digit, that they answer to most."""
    rows = channels[channels.layer.isin(layers) & (channels.seed == 0)]
    ordered = rows.sort_values(["best_colour", "best_digit"]).groupby("title", sort=False)
    sheets = {title: optima[title][each.channel][::every] for title, each in ordered}
    titles = rows.title.unique()
    lines = [math.ceil(len(sheets[title]) / 8) for title in titles[::3]]
    size = plots.WIDTH, 0.29 * sum(lines) + 0.35 * len(lines)
    figure, axes = plots.grid(*size, len(lines), 3, height_ratios=lines)
    for ax, title in zip(axes.flat, titles, strict=True):
        blank = np.full((-len(sheets[title]) % 8, 3, 28, 28), 255, np.uint8)
        tiles = np.concatenate([sheets[title], blank]).reshape(-1, 8, 3, 28, 28)
        plots.picture(ax, np.concatenate([*map(_strip, tiles)], 1), title.split("CNN, ")[-1])
    return figure


def _strip(pictures: Any) -> np.ndarray:
    """Pictures uint8 (3, 28, 28) side by side, each with a white rim: (3, 30, 30 * N)."""
    rim = ((0, 0), (1, 1), (1, 1))
    return np.concatenate([np.pad(one, rim, constant_values=255) for one in pictures], 2)


def excited_channels(found: dict[str, dict[str, Any]], titles: list[str]) -> Figure:
    """A row for each three of the specimens, under their titles, that `excite` networks (by name):
    the channel that the first excites most, with its picture and name (besides what `excite` found:
    "optima" and "names"), and how far each of the three excites it."""
    size, ratios, frames = (plots.WIDTH, 1.95 * len(titles)), [1.9, *[1] * len(found)], []
    figure, axes = plots.grid(*size, len(titles), len(ratios), width_ratios=ratios)
    for row, (line, title) in enumerate(zip(axes, titles, strict=True)):
        three = slice(3 * row, 3 * row + 3)
        for ax, (network, one) in zip(line[1:], found.items(), strict=True):
            shares = one["shares"][three, channel := one["channels"][row]]
            text = f"{network}, {channel}\n{one['names'][row]}\n"
            plots.picture(ax, one["optima"][row], text + " | ".join(f"{x:.0%}" for x in shares))
            place = {"network": network, "channel": channel, "picture": title.split(" | ")}
            frames.append(pd.DataFrame(place | {"activation": shares}))
        plots.picture(line[0], _strip(np.uint8(255 * one["images"][three])), title)
    note = "activation: over the channel's largest on any training image"
    return plots.show(figure, pd.concat(frames), note)


def meanings_figure(shown: dict[str, dict[str, Any]], count: int = SHOWN) -> Figure:
    """The first channels of `show_meanings` of each network, by name, in rows: the mean activation
    by digit (row) and colour (column), with an outline around each thing that drives it; and of
    each thing the name, the test of it, the drawing and one or two images."""
    rows, styles = [], ("-", "--", ":", "-.")
    for network, found in shown.items():
        channels = found["tests"].groupby("channel", sort=False)
        rows += [(network, found, *each) for each in list(channels)[:count]]
    most = max(3, *(len(tests) for *_, tests in rows))
    size, ratios = (plots.WIDTH, 1.6 * len(rows) + 0.6), [1.3, *[5.3 / most] * most]
    figure, axes = plots.grid(*size, len(rows), 1 + most, width_ratios=ratios)
    for line, (network, found, channel, tests) in zip(axes, rows, strict=True):
        ax, *places = line
        ax.imshow(found["cells"][tests.index[0]], cmap="Greys", vmin=0)
        ax.set(xticks=[], yticks=[0, 3, 6, 9], title=f"{network}, {channel}")
        ax.tick_params(length=0)
        for place in places[len(tests) :]:
            place.set_axis_off()
        for place, row, style in zip(places, tests.itertuples(), 2 * styles, strict=False):
            members = row.members.split(", ")
            for name in members:
                if row.kind == "digit":
                    corner, size = (-0.5, int(name) - 0.5), (10, 1)
                else:
                    corner, size = (COLOUR_NAMES.index(name) - 0.5, -0.5), (1, 10)
                look = {"fill": False, "edgecolor": plots.VERMILION, "linewidth": 1.3}
                ax.add_patch(Rectangle(corner, *size, linestyle=style, **look))
            examples = found["examples"][row.Index][: 2 if most == 3 else 1]
            text = textwrap.fill(", ".join(members), 26 if most == 3 else 15)
            text += f"\nexchanged {row.exchanged:.0%}\nkept {row.kept:.0%} "
            text += "\N{CHECK MARK}" if row.upheld else "\N{BALLOT X}"
            plots.picture(place, _strip([found["optima"][row.Index], *examples]), text)
    ax.set_xticks(range(N_CLASSES), COLOUR_NAMES, rotation=90)
    note = """each thing that drives a channel; strength: mean activation, over the channel's
        largest; excited: share of new images with this thing alone that excite it; exchanged, kept:
        share of those that still do when this thing, or the other property, is exchanged"""
    frame = pd.concat([tests for *_, tests in rows]).drop(columns=["seed", "layer"])
    return plots.show(figure, frame, note)


def parts_figure(shown: dict[str, dict[str, Any]]) -> Figure:
    """Channels of `show_parts` in rows, a column a network (by name): the test, and below it the
    drawing, the part that the channel answers to, and three digits with the patch like it (solid)
    and the matched one (dashed)."""
    count, templates = max(len(found["tests"]) for found in shown.values()), parts.part_templates()
    figure, axes = plots.grid(plots.WIDTH, 1.1 * count, count, len(shown))
    for column, (network, found) in zip(axes.T, shown.items(), strict=True):
        for ax, row in zip(column, found["tests"].itertuples(), strict=True):
            greys = [np.pad(np.uint8(255 * templates[row.part]), ((8, 9), (8, 9)))]
            greys = [np.stack([grey] * 3) for grey in (*greys, *found["digits"][row.Index])]
            text = f"{network}, {row.channel}: {row.part}\nalone {row.alone:.0%}, "
            mark = "\N{CHECK MARK}" if row.upheld and row.answers else "\N{BALLOT X}"
            text += f"erased {row.erased:.0%} {mark}"
            plots.picture(ax, _strip([found["optima"][row.Index], *greys]), text)
            looks = (plots.VERMILION, "-"), ("white", "--")
            for k, corners in enumerate(found["corners"][row.Index]):
                for (y, x), (colour, dash) in zip(corners, looks, strict=True):
                    look = {"fill": False, "edgecolor": colour, "linestyle": dash}
                    corner = x + 30 * (2 + k) + 0.5, y + 0.5  # with the rims
                    ax.add_patch(Rectangle(corner, parts.SIDE, parts.SIDE, **look))
    note = """share, colour, place: of the variance of the activation on drawn parts (η²); alone,
        erased: share of pairs of patches in which that like the part excites more, cut out, and is
        missed more"""
    frame = pd.concat([found["tests"] for found in shown.values()])
    return plots.show(figure, frame.drop(columns=["answers"]), note)


def tuning_scatter(channels: pd.DataFrame) -> Figure:
    """Eta squared of digit against that of colour, a mark a channel and a panel a layer."""
    layers = channels.groupby("layer", sort=False)
    figure, axes = plots.grid(plots.WIDTH, 3.1, 1, len(layers), sharey=True)
    for ax, (layer, rows) in zip(axes[0], layers, strict=True):
        for network, each in rows.groupby("network", sort=False):
            colour, marker, _ = plots.NETWORK_STYLES[network]
            style = {"s": 16, "marker": marker, "facecolor": "none", "edgecolor": colour}
            ax.scatter(each.colour, each.digit, **style, linewidth=0.9, label=network)
        ax.plot([0, 1], [1, 0], color=plots.DARK, linewidth=0.7, linestyle=":")
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="η² of colour", title=layer)
        ax.set_xticks([0, 0.5, 1])
    axes[0, 0].set_ylabel("η² of digit")
    axes[0, -1].legend(loc="upper right")
    frame = channels[["layer", "network", "channel", "colour", "digit"]]
    note = "colour, digit: share of the variance of the channel's activation that goes with it (η²)"
    return plots.show(figure, frame, note)


def ablation_curves(ablations: pd.DataFrame) -> Figure:
    """Shortcut rate (above) and accuracy (below) as more and more channels of a layer (column) are
    ablated; see `ablate_channels`."""
    layers = ablations.groupby("layer", sort=False)
    figure, axes = plots.grid(plots.WIDTH, 4.6, 2, len(layers), sharex=True, sharey="row")
    for column, (layer, rows) in zip(axes.T, layers, strict=True):
        for ax, measure in zip(column, ("shortcut_rate", "accuracy"), strict=True):
            for order, (colour, dash, marker) in zip(ORDERS, ORDER_STYLES, strict=True):
                curves = rows[rows.order == order].set_index(["share", "seed"])[measure].unstack()
                ax.plot(curves, color=colour, linewidth=0.5, alpha=0.4)
                ax.plot(curves.mean(axis=1), dash, color=colour, marker=marker, label=order)
            ax.axhline(0.1, color=plots.DARK, linewidth=0.6, linestyle="-.")
        column[0].set_title(layer)
        column[1].set_xticks([0, *SHARES[3:]])
        plots.percent_axis(column[1].xaxis, "channels ablated")
    plots.percent_axis(axes[0, 0].yaxis, "shortcut rate")
    plots.percent_axis(axes[1, 0].yaxis, "accuracy")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    frame = ablations[["layer", "order", "share", "seed", "shortcut_rate", "accuracy"]]
    note = """share of the layer's channels that are ablated, in this order; of hard test images,
        the shares answered by the colour's digit (shortcut_rate) and by the true one (accuracy)"""
    return plots.show(figure, frame, note)
