"""Chapter 3: what the channels of cheater, cure and oracle see, what they are tuned to, and what
their loss does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lazy_artist import atlas, plots, tuning
from lazy_artist.canvas import COLOUR_NAMES, N_CLASSES, colour_split
from lazy_artist.config import ARCH_NAMES, TEST_SEED
from lazy_artist.data import cache_dir
from lazy_artist.featurevis import colour_root, visualise
from lazy_artist.networks import Network
from lazy_artist.store import stored

LAYERS = {"cnn": ["block1", "block2", "block3"], "resnet18": ["layer4"]}
TOP = 9  # dataset images on a card
SHOWN = 6  # channels of a layer whose cards the chapter shows
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
    the training images, strongest first, "top" uint8 (K, TOP, 3, 28, 28), "top_digits" and
    "top_colours" uint8 (K, TOP).
    """
    model, grid = network.load(), tuning.colour_grid("validation", n_per_class, TEST_SEED)
    labels = grid.labels.reshape(N_CLASSES, -1)[0]
    pool = colour_split("train", network.seed, network.correlation).take(np.s_[:n_train])
    responses, seen = (tuning.activations(model, layers, split.images) for split in (grid, pool))
    found = {}
    for layer in layers:
        crossed = responses[layer].reshape(N_CLASSES, len(labels), -1)
        most = seen[layer].max(0)
        top = np.argpartition(-seen[layer], TOP, axis=0)[:TOP]  # (TOP, K), in any order
        order = np.take_along_axis(seen[layer], top, 0).argsort(0)[::-1]
        top = np.take_along_axis(top, order, 0).T  # (K, TOP), strongest first
        bins = np.minimum(seen[layer] / np.maximum(most, 1e-12) * BINS, BINS - 1).astype(int)
        found[layer] = {
            "tuning": tuning.tuning(crossed, labels, PERMUTATIONS),
            "cells": tuning.cell_means(crossed, labels),
            "most": most,
            "histogram": np.stack([np.bincount(b, minlength=BINS) for b in bins.T]),
            "top": np.round(255 * pool.images[top]).astype(np.uint8),
            "top_digits": pool.labels[top].astype(np.uint8),
            "top_colours": pool.colours[top].astype(np.uint8),
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
    channel, alive (active on any training image), label, prefers, concepts and the columns of
    `tuning.tuning`, best_colour and best_digit (of its marginal means), most (largest activation on
    a training image), score (activation on the best optimum), saturation (of that optimum: the
    largest less the smallest of R, G and B, each in [0, 1], averaged over pixels)."""
    frames = []
    for layer, found in respond(network, n_per_class, n_train, steps).items():
        cells, most, optima = found["cells"], found["most"], found["optima"][:, 0] / 255
        frame = {
            "layer": layer, "channel": np.arange(len(most)), "alive": most > 0,
            "concepts": tuning.concepts(cells), "best_digit": cells.mean(2).argmax(1),
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
    "layers": by title, of the last layer of each CNN, "optima" uint8 (K, 3, 28, 28), the best of
    each channel; and of its first `SHOWN` channels "cells" and "histogram", see `probe_channels`,
    and "pictures" uint8 (SHOWN, 7, 3, 28, 28): two that excite it, what suppresses it, and the four
    training images that excite it most."""
    sizes = {"n_per_class": n_per_class, "n_train": n_train, "steps": steps}
    channels, found, layers = all_channels(networks, **sizes), {}, {}
    for network in networks:
        for layer, arrays in respond(network, **sizes).items():
            title = f"{ARCH_NAMES[network.arch]}, {network.name}, {layer}"
            found[title] = arrays
            if layer == LAYERS["cnn"][-1]:
                optima, few = arrays["optima"], slice(SHOWN)
                pictures = optima[few], arrays["negative"][few, None], arrays["top"][few, :4]
                layers[title] = {
                    "optima": optima[:, 0], "pictures": np.concatenate(pictures, axis=1),
                    "cells": arrays["cells"][few], "histogram": arrays["histogram"][few],
                }  # fmt: skip
    return {"atlas": compose_atlas(channels, found), "layers": layers}


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
or against it (suppresses). The nine small ones are the training images that excite it most. The
square is its mean activation on validation digits 0 to 9 (rows) in each colour (columns, by their
first letters: red, green, blue, yellow, magenta, cyan, orange, violet, pink, white); darker is more
in light mode, brighter in dark mode. The histogram is of all training images, with a logarithmic
height; the dashed line marks the first picture.</p>
<p>η² is the share of the activation's variance that goes with colour, digit, or their combination;
the selectivity indices compare the best colour (digit) with the mean of the others; "things" counts
the digits and families of colours that it takes to hold all that drives the channel; "ratio"
compares the best picture with the strongest training image. A channel is labelled colour or shape
if that takes at least two thirds of what colour, digit and combination explain together, and
shuffled labels do not reach it; else mixed; dead if no training image excites it.</p>
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
            "things": row.concepts, "ratio": row.score / max(row.most, 1e-6), "most": row.most,
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
    "mixed": ("#E8D9A0", "//", plots.DARK), "dead": ("#999999", "..", plots.DARK),
}  # fmt: skip
ORDER_STYLES = ((plots.VERMILION, "--", "s"), (plots.DARK, ":", "^"), (plots.BLUE, "-", "o"))


def optima_sheets(sheets: dict[str, np.ndarray]) -> Figure:
    """Optimised images uint8 (K, 3, 28, 28) of all channels, in rows, a panel for each title."""
    columns = 22
    rows = math.ceil(max(map(len, sheets.values())) / columns)
    figure, axes = plots.grid(8, len(sheets) * (8 / columns * rows + 0.3), len(sheets))
    for ax, (title, sheet) in zip(axes[:, 0], sheets.items(), strict=True):
        tiles = np.full((rows * columns, 3, 30, 30), 255, np.uint8)
        tiles[: len(sheet), :, :28, :28] = sheet
        tiles = tiles.reshape(rows, columns, 3, 30, 30).transpose(2, 0, 3, 1, 4)
        plots.picture(ax, tiles.reshape(3, 30 * rows, 30 * columns), title, 9)
    return figure


def channel_cards(channels: pd.DataFrame, layers: dict[str, Any], title: str) -> Figure:
    """The first channels of a layer (seed 0) in rows: optima, what suppresses them, the training
    images that excite them most, mean activation by digit and colour, and a histogram of the
    activation on training images. channels: of `all_channels`; layers: of `show_channels`."""
    rows = channels[(channels.title == title) & (channels.seed == 0)].head(SHOWN)
    widths = [1, 1, 1, 0.15, 1, 1, 1, 1, 0.15, 1.7, 2.2]
    figure, axes = plots.grid(8, 0.98 * len(rows) + 0.75, len(rows), 11, width_ratios=widths)
    frames, digits = [], np.arange(N_CLASSES).repeat(N_CLASSES)
    for line, channel in zip(axes, rows.itertuples(), strict=True):
        shown = {name: array[channel.channel] for name, array in layers[title].items()}
        for ax, image in zip(line[[0, 1, 2, 4, 5, 6, 7]], shown["pictures"], strict=True):
            plots.picture(ax, image)
        for ax in line[[3, 8]]:
            ax.set_axis_off()
        name = ": ".join(filter(None, (f"{channel.channel}, {channel.label}", channel.prefers)))
        line[0].set_title(name, fontsize=8, loc="left", pad=3).set_in_layout(False)
        (square, bars), cells, counts = line[9:], shown["cells"], shown["histogram"]
        square.imshow(cells, cmap="Blues", vmin=0, aspect="auto")
        square.set(xticks=[], yticks=[0, 9])
        square.tick_params(length=0, labelsize=6)
        step = channel.most / len(counts)
        lower = np.arange(len(counts)) * step
        bars.bar(lower, counts, step, align="edge", color="#8A8A8A")
        bars.axvline(channel.score, color=plots.VERMILION, linestyle="--", linewidth=1.2)
        bars.set(yscale="log", xlim=(0, 1.08 * max(channel.score, channel.most, 1e-9)), yticks=[])
        bars.minorticks_off()
        bars.spines["left"].set_visible(False)
        bars.tick_params(labelsize=6)
        crossed = {"digit": digits, "colour": COLOUR_NAMES * 10, "activation": cells.ravel()}
        for name, columns in {
            "mean activation": crossed,
            "training images": {"activation": lower, "images": counts},
            "best drawing": {"activation": [channel.score]},
        }.items():
            frames.append(pd.DataFrame({"channel": channel.channel, "shows": name, **columns}))
    axes[-1, 9].set_xticks(range(N_CLASSES), COLOUR_NAMES, rotation=90, fontsize=6)
    axes[-1, 10].set_xlabel("activation", fontsize=plots.SMALL)
    heads = {
        0: "excite it", 2: "suppresses it", 4: "most exciting training images",
        9: "digit by colour", 10: "training images",
    }  # fmt: skip
    above = {"xycoords": "axes fraction", "xytext": (0, 17), "textcoords": "offset points"}
    for column, head in heads.items():
        axes[0, column].annotate(head, (0, 1), **above, fontsize=7.5).set_in_layout(False)
    figure.suptitle(" ", fontsize=11)  # room for the heads
    figure.get_layout_engine().set(h_pad=0.11)
    note = """activation: mean of the channel's map after the ReLU; where training images are shown,
        the lower end of a histogram's bin, with the number of images in it"""
    return plots.show(figure, pd.concat(frames), note)


def tuning_scatter(channels: pd.DataFrame) -> Figure:
    """Eta squared of digit against that of colour, a mark a channel and a panel a layer."""
    layers = channels.groupby("layer", sort=False)
    figure, axes = plots.grid(8, 3.1, 1, len(layers), sharey=True)
    for ax, (layer, rows) in zip(axes[0], layers, strict=True):
        for network, each in rows.groupby("network", sort=False):
            colour, marker, _ = plots.NETWORK_STYLES[network]
            style = {"s": 16, "marker": marker, "facecolor": "none", "edgecolor": colour}
            ax.scatter(each.colour, each.digit, **style, linewidth=0.9, label=network)
        ax.plot([0, 1], [1, 0], color=plots.DARK, linewidth=0.7, linestyle=":")
        ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="η² of colour", title=layer)
    axes[0, 0].set_ylabel("η² of digit")
    axes[0, -1].legend(loc="upper right")
    frame = channels[["layer", "network", "channel", "colour", "digit"]]
    note = "colour, digit: share of the variance of the channel's activation that goes with it (η²)"
    return plots.show(figure, frame, note)


def ablation_curves(ablations: pd.DataFrame) -> Figure:
    """Shortcut rate (above) and accuracy (below) as more and more channels of a layer (column) are
    ablated; see `ablate_channels`."""
    layers = ablations.groupby("layer", sort=False)
    figure, axes = plots.grid(8, 4.6, 2, len(layers), sharex=True, sharey="row")
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
