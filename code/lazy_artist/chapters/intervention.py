"""Chapter 5: the methods of debiasing, trained and measured on one protocol.

At full scale most of the book's training is here: four passes of the CNN over 50,000 images for
each method, seed and setting, a hundred of the MLP. At quick scale networks see 3,000 images.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lazy_artist import plots
from lazy_artist.canvas import COLOUR_NAMES, N_CLASSES, PALETTE, paint, specimens, split_digits
from lazy_artist.config import BIAS, NO_BIAS, TEST_SEED, pick, scale, sealed_splits, seeds
from lazy_artist.debias import ABLATIONS, BEST, BLIND, METHODS, RULES, views
from lazy_artist.evaluate import (
    Estimate,
    balanced,
    estimate,
    evaluate_networks,
    logit_variance,
    predict,
    repaint,
    summarise,
)
from lazy_artist.gradcam import chroma_reliance, display, grad_cam
from lazy_artist.networks import Network, network, networks
from lazy_artist.reach import excerpt
from lazy_artist.store import stored

SPLITS = ["validation", "hard", "aligned", "unseen"]
ON_MLP = ("erm", "lff", BLIND, "resampling", BEST, "oracle-same-budget")
ON_RESNET = ("erm", BEST)
OWN = (BLIND, "saliency", "colour-swap", BEST)
EXAMINED = {
    "cheater": "cheater",
    "erm": "ERM",
    "saliency": "saliency guide",
    BEST: "the combination",
    "oracle-same-budget": "oracle",
}
"""Networks whose gradients and features are examined, with their names in figures and tables."""
REPORTED = {"LfF": "85.4", "LDD": "89.7", "uLA": "92.8", "CCDB": "96.4", "FG-CCDB": "98.2"}
"""What papers report on the mixture, in percent, on a canvas of their own."""

Group = tuple[list[Network], list[str]]


def swept() -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The methods that are trained at several correlations, and these."""
    methods = ("erm", BLIND, "resampling", BEST)
    return methods, pick((0.95, 0.98, 0.99, 0.995), (0.95, 0.995))


def groups() -> list[Group]:
    """All networks of the chapter, with the splits on which they are measured: each method with all
    seeds, and without augmentation with one; so LfF at its longest, ablations, and the sweep over
    correlations, but for the highest one; of MLP and ResNet-18 the methods of a claim with all.

    At quick scale one seed, but for methods whose gradients are examined, and the first ablation.
    """
    full, (methods, correlations) = scale() == "full", swept()
    hard = ["hard", *sealed_splits()]

    def runs(method: str, every_seed: bool, **options: Any) -> list[Network]:
        used = seeds() if every_seed else range(1)
        return [network(method, seed, **options) for seed in used]

    usual = [name for name, method in METHODS.items() if method.longer == 1]
    found = [(runs(name, full or name in EXAMINED), SPLITS + sealed_splits()) for name in usual]
    found += [(runs(name, False), SPLITS) for name in METHODS if name not in usual]
    found += [(runs(name, False, augment=False), SPLITS) for name in usual[: None if full else 2]]
    found += [(runs(method, False), SPLITS) for method in list(ABLATIONS)[: None if full else 1]]
    for method in methods:
        for share in correlations:
            if share != BIAS:  # which is in the table
                every = full and share == max(correlations)
                found.append((runs(method, every, correlation=share), hard))
    claimed = (BEST, "oracle-same-budget")
    for method in ON_MLP:
        found.append((runs(method, full and method in claimed, arch="mlp"), [*hard, "aligned"]))
    found += [(runs(m, full and m == BEST, arch="resnet18"), SPLITS) for m in ON_RESNET]
    return found


def measure(groups: Sequence[Group], n_eval: int | None) -> pd.DataFrame:
    """Train and measure groups of networks on the first `n_eval` images (None: all) of their
    splits, in parallel, what takes longest first.

    The rows of `evaluate.evaluate_networks` with the columns "correlation", "augment" and
    "seconds", of processor time that training took.
    """
    work = {"cnn": 1, "resnet18": 1, "mlp": 5}
    members = [networks for networks, _ in groups]
    members.sort(key=lambda nets: METHODS.get(nets[0].name, METHODS[BEST]).longer, reverse=True)
    members.sort(key=lambda nets: work[nets[0].arch], reverse=True)
    stored.map(training_seconds, [{"networks": n} for n in members], "timing networks")
    calls = [{"networks": nets, "splits": splits, "n_eval": n_eval} for nets, splits in groups]
    frames = stored.map(evaluate_networks, calls, "measuring networks")
    for frame, (members, splits) in zip(frames, groups, strict=True):
        frame["correlation"] = [one.correlation for one in members] * len(splits)
        settings = [one.made_by.arguments["setting"] for one in members]
        frame["augment"] = [setting["augment"] for setting in settings] * len(splits)
        frame["seconds"] = training_seconds(members) * len(splits)
    return pd.concat(frames, ignore_index=True)


def compared(measured: pd.DataFrame) -> pd.DataFrame:
    """The rows of `measure` by which methods are compared: with augmentation, and not those of the
    sweep over correlations."""
    return measured[measured["correlation"].isin([BIAS, NO_BIAS]) & measured["augment"]]


def behind_oracle(measured: pd.DataFrame, arch: str, split: str = "hard") -> Estimate | str:
    """By how much the oracle is ahead of the combination, seed by seed; "closed" where nothing is
    measured on the split, as on sealed digits."""
    rows = compared(measured).query("arch == @arch and split == @split")
    if rows.empty:
        return "closed"
    accuracy = rows.pivot(index="seed", columns="network", values="accuracy")
    return estimate((accuracy["oracle-same-budget"] - accuracy[BEST]).dropna(), bounds=(-1, 1))


def explorer(
    measured: pd.DataFrame, asked: dict[str, np.ndarray], pairs: list[list[int]]
) -> dict[str, Any]:
    """What the page's explorer of cures shows, for `widgets.export`: the rows of `measure` of the
    CNN on hard images by method, and what `METHODS` predict (`cheater.ask`) of pairs (digit,
    colour). A result's share is that of misleading colours, of a hundred images; a network that is
    trained on unbiased ones has none."""
    rows = measured.query("arch == 'cnn' and split == 'hard' and network in @METHODS")
    found = summarise(rows, ["network", "correlation", "augment"], "accuracy")
    seconds, methods = compared(rows).groupby("network")["seconds"].mean(), []
    for (name, method), shown in zip(METHODS.items(), asked["probabilities"], strict=True):
        module = sys.modules[method.train.__module__]
        results = [
            {"share": None if bias == NO_BIAS else round(100 * (1 - bias), 1),
             "augment": bool(augment), "mean": value.mean, "interval": value.interval,
             "n": value.n, "told": plots.plus_minus(value)}
            for (other, bias, augment), value in found.items() if other == name
        ]  # fmt: skip
        about = {key: getattr(method, key) for key in ("title", "needs", "hypothesis", "reference")}
        about |= {"name": name, "results": results, "cost": seconds[name] / seconds["erm"]}
        about["file"] = f"code/{module.__name__.replace('.', '/')}.py"
        about["code"] = "\n".join(excerpt(module, method.train.__name__).splitlines()[1:-1])
        about["answers"] = [(int(each.argmax()), float(each.max())) for each in shown]
        methods.append(about)
    names = [{"digit": d, "colour": c, "name": COLOUR_NAMES[c]} for d, c in pairs]
    return {
        "methods": methods, "levels": list(RULES), "pairs": names,
        "shares": [round(100 * (1 - bias), 1) for bias in swept()[1]],
        "pictures": np.round(255 * asked["images"]).astype(np.uint8),
    }  # fmt: skip


@stored
def training_seconds(networks: list[Network]) -> list[float]:
    """Of processor time, that training each of the networks took."""
    return [one.made_by.value()["seconds"] for one in networks]


@stored
def gradient_and_tuning(network: Network, n_per_class: int) -> dict[str, pd.DataFrame]:
    """What a network looks at on `n_per_class` test images of every digit, in hard colours and in
    all ten; each frame with the columns "network" and "seed".

    "images": "label", "colour" and "chroma_reliance" of the true class's score on hard images,
    missing where the gradient vanishes. "channels": of each channel of the last layer the shares of
    its variance on the counterfactual grid that go with "digit" and with "colour" (eta squared).
    "networks": one row, with the means of all three, and "mostly_colour", the share of channels
    that colour moves more than digit does.
    """
    model = network.load()
    images, labels = balanced(*split_digits("hard"), n_per_class)
    step = 1 + np.arange(len(labels)) % (N_CLASSES - 1)
    colours = (labels + step) % N_CLASSES  # never the dominant one
    chroma = chroma_reliance(model, paint(images, colours, TEST_SEED), labels)
    grid = repaint(model, images, PALETTE, TEST_SEED, precision="low", output="features")
    alive = grid.std((0, 1)) > 0  # of (10 colours, N, K)
    parts = [
        logit_variance(grid[..., k : k + 1], labels) if alive[k] else {"digit": 0, "colour": 0}
        for k in range(grid.shape[2])
    ]
    images = pd.DataFrame({"label": labels, "colour": colours, "chroma_reliance": chroma})
    channels = pd.DataFrame(parts)[["digit", "colour"]].astype(float)
    digit, colour = channels["digit"].to_numpy(), channels["colour"].to_numpy()
    means = {"chroma_reliance": float(np.nanmean(chroma)), "digit": digit.mean()}
    means |= {"colour": colour.mean(), "mostly_colour": np.mean(colour > digit)}
    frames = {"images": images, "channels": channels, "networks": pd.DataFrame([means])}
    run = {"network": network.name, "seed": network.seed}
    return {name: frame.assign(**run) for name, frame in frames.items()}


def examine() -> dict[str, pd.DataFrame]:
    """The frames of `gradient_and_tuning`, of all `EXAMINED` networks and seeds."""
    calls = [{"network": one, "n_per_class": pick(50, 20)} for one in networks(EXAMINED)]
    runs = stored.map(gradient_and_tuning, calls, "examining networks")
    return {name: pd.concat([run[name] for run in runs], ignore_index=True) for name in runs[0]}


@stored
def look_at_specimens(networks: list[Network], pairs: list[list[int]]) -> dict[str, Any]:
    """Grad-CAM on the `canvas.specimens` of pairs (digit, colour): these "images", and for each
    network "seen", by name: its "predictions" int64 (n,), their probability "confidence" (n,), and
    its "maps" for them, float32 (n, 28, 28) in [0, 1] on one scale a network."""
    images, seen = specimens(pairs), {}
    for watched in networks:
        model = watched.load()
        shares = torch.from_numpy(predict(model, images)).softmax(1).numpy()
        predictions = shares.argmax(1)
        maps = display(grad_cam(model, "block3", images, predictions))
        seen[watched.name] = {"predictions": predictions, "confidence": shares.max(1), "maps": maps}
    return {"images": images, "seen": seen}


@stored
def training_views(n: int = 6, seed: int = 0) -> dict[str, np.ndarray]:
    """What the methods show the network, uint8 (n, 3, 28, 28) by title: the first training images
    in their dominant colours, as painted, mixed, swapped, and swapped and augmented."""
    images, labels = (part[:64] for part in split_digits("train"))
    painted = torch.from_numpy(paint(images, labels, seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shown = {
            "as painted": painted,
            "colours mixed": views.mix_colours(painted),
            "colours swapped": views.swap_colours(painted),
        }
        shown["swapped, augmented"] = views.swap_colours(views.affine(painted))
    inside = {title: view[:n].clamp(0, 1) for title, view in shown.items()}
    return {title: (255 * view).round().byte().numpy() for title, view in inside.items()}


# --- figures -------------------------------------------------------------------------------------


def ranking(hard: pd.Series) -> Figure:
    """Estimates of accuracy on hard images, by name of the method, best on top, on a logit scale;
    marks say what one must know."""
    levels = dict(
        zip(RULES, ("nothing known", "colour is the shortcut", "colour labels"), strict=True)
    )
    marks = ((plots.BLUE, "o"), (plots.GREEN, "^"), (plots.AMBER, "s"), (plots.DARK, "D"))
    styles = dict(zip([*levels.values(), "reference"], marks, strict=True))
    rows = [(METHODS[name], value) for name, value in hard.items()]
    frame = pd.DataFrame(
        {
            "method": method.title,
            "group": levels.get(method.needs, "reference"),
            "accuracy": value,
        }
        for method, value in sorted(rows, key=lambda row: row[1].mean)
    )
    figure, axes = plots.grid(plots.WIDTH, 0.25 * len(frame) + 1)
    ax = axes[0, 0]
    low, high, ticks = 0.08, 0.994, (0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98, 0.99)
    for group, (colour, marker) in styles.items():
        mine = frame[frame["group"] == group]
        for y, value in mine["accuracy"].items():
            ends = np.clip(value.interval or [value.mean] * 2, low, high)
            ax.plot(ends, [y, y], color=colour)
            told = plots.plus_minus(value)
            ax.text(1.015, y, told, va="center", transform=ax.get_yaxis_transform())
        means = [value.mean for value in mine["accuracy"]]
        ax.plot(means, mine.index, marker, color=colour, markersize=6, label=group)
    for share, name in ((0.1, "guessing"), (0.7, "the bar")):
        ax.axvline(share, color=plots.DARK, linewidth=0.8, linestyle=":")
        ax.text(share, len(frame) - 0.3, name, ha="center")
    ax.set_yticks(range(len(frame)), frame["method"])
    ax.set_xscale("logit")
    ax.set_xlim(low, high)
    ax.set_xticks(ticks)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(-0.6, len(frame) + 0.2)
    plots.percent_axis(ax.xaxis, "accuracy on hard images (logit scale)")
    ax.grid(axis="y")
    figure.legend(*ax.get_legend_handles_labels(), ncols=4, loc="outside upper center")
    note = "accuracy: share of hard images, mean over seeds; low, high: its 95% interval"
    return plots.show(figure, frame[::-1], note)


def gradients_and_channels(images: pd.DataFrame, channels: pd.DataFrame) -> Figure:
    """Above: how chroma reliance is spread over hard images, a box for each network. Below: for
    each network a dot for each last-layer channel of seed 0, variance with colour against variance
    with digit. images, channels: see `examine`."""
    channels = channels[channels["seed"] == 0]
    kinds = list(dict.fromkeys(images["network"]))
    figure, axes = plots.grid(plots.WIDTH, 3.9, 2, len(kinds), height_ratios=[1, 0.9])
    for ax in axes[0]:
        ax.remove()
    ax = figure.add_subplot(axes[0, 0].get_gridspec()[0, :])
    frames = [channels.assign(shown="channel")]
    for y, kind in zip(range(len(kinds), 0, -1), kinds, strict=True):
        values = images.loc[images["network"] == kind, "chroma_reliance"].dropna()
        ends = (5, 25, 50, 75, 95)
        low, first, median, third, high = np.percentile(values, ends)
        ax.plot([low, high], [y, y], color=plots.DARK, linewidth=1)
        ax.barh(y, third - first, 0.55, left=first, color="white", edgecolor=plots.DARK)
        ax.plot([median, median], [y - 0.275, y + 0.275], color=plots.VERMILION, linewidth=2)
        box = {"chroma_reliance": [low, first, median, third, high], "percentile": ends}
        frames.append(pd.DataFrame(box).assign(shown="box", network=kind))
    ax.set_yticks(range(len(kinds), 0, -1), [EXAMINED[kind] for kind in kinds])
    ax.set_ylim(0.5, len(kinds) + 0.6)
    ax.axvline(2 / 3, color=plots.DARK, linewidth=0.8, linestyle=":")
    ax.text(2 / 3, len(kinds) + 0.62, "no preference", ha="center")
    ax.set_xlim(0, 1)
    ax.set_xlabel("chroma reliance: share of the squared input gradient along chroma")
    for panel, kind in zip(axes[1], kinds, strict=True):
        mine = channels[channels["network"] == kind]
        panel.plot([0, 1], [0, 1], color=plots.DARK, linewidth=0.7, linestyle=":")
        dots = {"color": plots.BLUE, "alpha": 0.6, "markeredgewidth": 0}
        panel.plot(mine["colour"], mine["digit"], "o", **dots)
        panel.set_xlim(-0.02, 1)
        panel.set_ylim(-0.02, 1)
        panel.set_aspect("equal")
        panel.set_title(EXAMINED[kind])
    for panel in axes[1, 1:]:
        panel.set_yticklabels([])
    axes[1, len(kinds) // 2].set_xlabel("variance with colour")
    axes[1, 0].set_ylabel("variance\nwith digit")
    order = ["shown", "network", "percentile", "chroma_reliance", "colour", "digit"]
    note = (
        "box: percentiles of chroma reliance (a share) over hard images of all seeds; channel: "
        "shares of a last-layer channel's variance that go with colour and with digit, seed 0"
    )
    return plots.show(figure, pd.concat(frames[1:] + frames[:1])[order], note)


def gaze(images: np.ndarray, seen: dict[str, dict[str, np.ndarray]]) -> Figure:
    """The images of `look_at_specimens`, a row each, and beside each what the networks look at: the
    image where the map is high, white where it is low, a line around its upper half."""
    figure, axes = plots.grid(plots.WIDTH, 1.75 * len(images), len(images), 1 + len(seen))
    for row, (line, image) in enumerate(zip(axes, images, strict=True)):
        plots.picture(line[0], image, "the image")
        for ax, (name, found) in zip(line[1:], seen.items(), strict=True):
            heat = found["maps"][row]
            shown = np.clip(0.15 + 0.85 * heat, 0, 1) * (image - 1) + 1
            told = f"“{found['predictions'][row]}” ({found['confidence'][row]:.0%})"
            plots.picture(ax, shown, f"{name}: {told}")
            if heat.max() > 0.5 > heat.min():
                ax.contour(heat, levels=[0.5], colors=plots.DARK, linewidths=1)
    return figure
