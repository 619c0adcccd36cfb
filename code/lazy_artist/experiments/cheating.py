"""Chapter 2: what the cheater, the diligent network and the oracle do, measured and tabled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from lazy_artist.artifacts import Artifact, fetch, fetch_many
from lazy_artist.canvas import (
    PALETTE,
    SPLITS,
    colour_split,
    hue_palette,
    paint,
    split_digits,
)
from lazy_artist.evaluate import (
    Estimate,
    balanced,
    confusion,
    counterfactual_grid,
    estimate,
    follow_map,
    logit_variance,
    predict,
    repaint,
)
from lazy_artist.experiments.networks import (
    ARCH_NAMES,
    ASKED,
    BIAS,
    KINDS,
    NO_BIAS,
    TEST_SEED,
    WATCHED,
    cheater,
    data_md5,
    first_of,
    hurried,
    load_network,
    network_config,
    percent,
    scale,
    seeds,
    trained,
)

DOSES = (NO_BIAS, 0.5, 0.8, BIAS, 0.999)  # shares of dominant colours in the dose-response


def measured(networks: list[dict], splits: list[str], count: int | None) -> tuple[dict, dict]:
    """Build: predicted classes uint8 (networks, N) on the first `count` images, or all, of each of
    `splits`, and a list over networks of the accuracies and of the colour-following rates. "train"
    is each network's own."""
    models = [hurried(load_network(network)) for network in networks]
    tensors, metrics = {}, {}
    for name in splits:
        shared = None if name == "train" else first_of(name, count)
        called, right, follows = [], [], []
        for network, model in zip(networks, models, strict=True):
            split = shared
            if split is None:
                split = colour_split(name, network["seed"], network["correlation"])
                split = split.take(np.arange(len(split))[:count])
            called.append(predict(model, split.images).argmax(1).astype(np.uint8))
            right.append(float(np.mean(called[-1] == split.labels)))
            follows.append(float(np.mean(called[-1] == split.colours)))
        tensors[name] = np.stack(called)
        metrics |= {name: right, f"{name} follows": follows}
    return tensors, metrics


def grid_measured(network: dict, each: int) -> tuple[dict, dict]:
    """Build: what the counterfactual grid says, on `each` test images of every digit.

    The logits' variance is that of logits less their mean over the classes, since a common offset
    changes no probability.
    """
    images, labels = balanced(*split_digits("hard"), each)
    grid = counterfactual_grid(hurried(load_network(network)), images, TEST_SEED)
    by_colour, by_shape = follow_map(grid, labels)
    variance = logit_variance(grid - grid.mean(axis=2, keepdims=True), labels)
    metrics = {"follows": float(by_colour.mean()), "reads": float(by_shape.mean()), **variance}
    return {"by_colour": by_colour, "by_shape": by_shape}, metrics


def hue_measured(network: dict, each: int, steps: int) -> tuple[dict, dict]:
    """Build: share of each answer as the ink's hue turns: float64 (steps, 10 digits, 10
    answers)."""
    model = hurried(load_network(network))
    images, labels = balanced(*split_digits("hard"), each)
    called = repaint(model, images, hue_palette(steps), TEST_SEED).argmax(2)  # (steps, N)
    share = np.stack([confusion(labels, answers) for answers in called])
    return {"share": share}, {}


def prepare() -> None:
    """Train and measure all that the chapters ask for, longest first, in parallel; what is stored
    already costs nothing."""
    kinds = [(k, a) for a in ("resnet18", "cnn") for k in ("oracle", "diligent", "cheater")]
    cases = [(*kind, seed) for kind in kinds for seed in seeds(kind[1])]
    tests = [_measure_config(*kind) for kind in kinds] + [_dose_config(dose) for dose in DOSES]
    networks = [network for test in tests for network in test["networks"]]
    fetch_many(trained, networks, data_md5(), title="training networks")
    fetch_many(measured, tests, data_md5(), title="measuring networks")
    grids = [_grid_config(*case) for case in cases]
    fetch_many(grid_measured, grids, data_md5(), title="repainting digits")


def _measure_config(kind: str, arch: str) -> dict[str, Any]:
    return {
        "networks": [network_config(kind, arch, seed) for seed in seeds(arch)],
        "splits": list(_measured_splits(kind, arch)),
        "count": ASKED[scale()],
    }


def _measured_splits(kind: str, arch: str) -> tuple[str, ...]:
    """All splits; the 55,000 training images only where the report makes a claim about them."""
    return SPLITS if (kind, arch) == ("cheater", "cnn") else SPLITS[1:]


def _dose_config(correlation: float) -> dict[str, Any]:
    if correlation == BIAS:
        return _measure_config("cheater", "cnn")
    runs = seeds() if scale() == "full" else range(1)
    networks = [network_config("cheater", "cnn", seed, correlation) for seed in runs]
    return {"networks": networks, "splits": ["hard"], "count": ASKED[scale()]}


def _grid_config(kind: str, arch: str, seed: int) -> dict[str, Any]:
    """The grid takes 300 test images of each digit for the CNN, 100 for the slower ResNet; a
    quarter of that at quick scale."""
    each = (300 if arch == "cnn" else 100) // (1 if scale() == "full" else 4)
    return {"network": network_config(kind, arch, seed), "each": each}


def _measurements(kind: str, arch: str) -> Artifact:
    return fetch(measured, _measure_config(kind, arch), data_md5())


def accuracies(kind: str, arch: str = "cnn") -> dict[str, Estimate]:
    """Accuracy on each split ("validation", "hard", ...; "train" for the CNN cheater), as estimates
    over seeds.

    Also "lff unbiased", the mixture of Nam et al. (2020): 0.1 aligned + 0.9 hard, and "hard
    follows", the share of hard images that are called the colour's digit. kind: "cheater",
    "diligent" or "oracle".
    """
    metrics = {k: np.array(v) for k, v in _measurements(kind, arch).record["metrics"].items()}
    table = {name: estimate(metrics[name]) for name in _measured_splits(kind, arch)}
    table["lff unbiased"] = estimate(0.1 * metrics["aligned"] + 0.9 * metrics["hard"])
    table["hard follows"] = estimate(metrics["hard follows"])
    return table


def accuracy_table(arch: str = "cnn") -> pd.DataFrame:
    """Accuracies in percent with 95% intervals over seeds: a row for each split, a column for each
    kind of network."""
    shown = {
        "train": "train",
        "validation": "easy validation",
        "aligned": "aligned",
        "unbiased": "unbiased",
        "lff unbiased": "0.1 aligned + 0.9 hard",
        "unseen": "unseen inks",
        "hard": "hard",
        "hard follows": "hard: called the ink's digit",
    }
    columns = {}
    for kind in KINDS:
        values = accuracies(kind, arch)
        runs = values["hard"].n
        title = f"{kind} ({runs} seed{'s' * (runs > 1)})"
        columns[title] = {
            text: percent(values[name]) for name, text in shown.items() if name in values
        }
    table = pd.DataFrame(columns).reindex(shown.values()).dropna(how="all").fillna("–")
    return table.rename_axis("images").reset_index()


def confusions(kind: str, arch: str = "cnn") -> dict[str, np.ndarray]:
    """Confusion matrices (10, 10) on "validation" and "hard": rows are true digits, averaged over
    seeds."""
    called = _measurements(kind, arch).tensors
    return {
        name: np.mean(
            [confusion(split_digits(name)[1][: len(row)], row) for row in called[name]], axis=0
        )
        for name in ("validation", "hard")
    }


def learning_curves(kind: str, arch: str = "cnn") -> dict[str, np.ndarray]:
    """How accuracy grew: "epoch" (T,), and "validation", "aligned", "hard" (seeds, T), on the
    first images of each. Raises ValueError for the oracle, which is not watched."""
    configs = [network_config(kind, arch, seed) for seed in seeds(arch)]
    if not configs[0]["watch"]:
        raise ValueError(f"no curves are kept of the {kind}: choose cheater or diligent")
    runs = fetch_many(trained, configs, data_md5(), title=f"training {kind} ({arch})")
    curves = np.stack([run.tensors["curve.accuracy"] for run in runs])  # (seeds, T, 3)
    epoch = runs[0].tensors["curve.step"] / runs[0].record["metrics"]["steps_per_epoch"]
    return {"epoch": epoch} | {name: curves[..., i] for i, name in enumerate(WATCHED)}


def curve_panels() -> dict[str, dict[str, np.ndarray]]:
    """The learning curves that the report shows, by title."""
    return {
        f"{name}, {kind}": learning_curves(kind, arch)
        for arch, name in ARCH_NAMES.items()
        for kind in ("cheater", "diligent")
    }


def counterfactuals(kind: str, arch: str = "cnn") -> dict[str, Any]:
    """The counterfactual grid, every chosen test digit in each of the ten colours, over seeds.

    "by_colour" and "by_shape": (10 digits, 10 colours), share called the colour's digit, share
    called the true digit; "follows", "reads": the same over all cells, as estimates; "red one":
    share of red ones called 0; "colour", "digit", "interaction", "image": their shares of the
    logits' variance, as estimates.
    """
    configs = [_grid_config(kind, arch, seed) for seed in seeds(arch)]
    grids = fetch_many(grid_measured, configs, data_md5(), title=f"repainting for {kind} ({arch})")
    result: dict[str, Any] = {
        name: np.mean([grid.tensors[name] for grid in grids], axis=0)
        for name in ("by_colour", "by_shape")
    }
    for name in ("follows", "reads", "colour", "digit", "interaction", "image"):
        result[name] = estimate(grid.record["metrics"][name] for grid in grids)
    result["red one"] = estimate(grid.tensors["by_colour"][1, 0] for grid in grids)
    return result


def variance_shares() -> dict[str, dict[str, Estimate]]:
    """Shares of the logits' variance (see `evaluate.logit_variance`) of each network, by its
    title."""
    parts = ("colour", "digit", "interaction", "image")
    shares = {}
    for arch, name in ARCH_NAMES.items():
        for kind in KINDS:
            grid = counterfactuals(kind, arch)
            shares[f"{name}, {kind}"] = {part: grid[part] for part in parts}
    return shares


def variance_table() -> pd.DataFrame:
    """`variance_shares` in percent, a row for each network."""
    return pd.DataFrame(
        {"network": title} | {part: percent(value) for part, value in parts.items()}
        for title, parts in variance_shares().items()
    )


def hue_response(kind: str, arch: str = "cnn") -> np.ndarray:
    """Share of each answer as the hue turns once round, averaged over seeds: (36 hues, 10 digits,
    10 answers)."""
    each = 50 if scale() == "full" else 20
    configs = [
        {"network": network_config(kind, arch, seed), "each": each, "steps": 36}
        for seed in seeds(arch)
    ]
    turns = fetch_many(hue_measured, configs, data_md5(), title=f"turning hues for {kind}")
    return np.mean([turn.tensors["share"] for turn in turns], axis=0)


def dose_response() -> dict[float, Estimate]:
    """Hard accuracy of the CNN, trained by the cheater's recipe, for each share of dominant colours
    in training."""
    runs = fetch_many(measured, [_dose_config(dose) for dose in DOSES], data_md5())
    hard = [run.record["metrics"]["hard"] for run in runs]
    return {dose: estimate(values) for dose, values in zip(DOSES, hard, strict=True)}


def red_ones(count: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """The first test ones, painted red, and the cheater's probabilities (count, 10) for them (seed
    0)."""
    images, labels = split_digits("hard")
    ones = images[labels == 1][:count]
    painted = paint(ones, np.zeros(len(ones), dtype=np.int64), TEST_SEED, PALETTE)
    logits = torch.from_numpy(predict(cheater(0), painted))
    return painted, logits.softmax(1).numpy()
