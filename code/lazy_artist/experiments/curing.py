"""Chapter 5: the cures, trained and measured on one protocol.

What the full scale trains, in passes of the CNN over the 55,000 training images or their equal (13
s on one core of a slow machine, half of that on a faster one): the table of methods about 150
(three seeds), the correlations 55 (one seed, three where a claim is made), the ablations 25 (one
seed), the ResNet-18 20, the perceptron 50. At quick scale networks see 3,300 of the images.
Painting and measuring come on top, a few seconds a network.

A cure is stored under the code of its own training function, so that a new row, or an edit to one
method, trains that one alone.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from lazy_artist.artifacts import Artifact, fetch, fetch_many, fingerprint
from lazy_artist.canvas import CLASSES, Split, colour_split, paint, split_digits
from lazy_artist.data import Digits, load_digits
from lazy_artist.debias.protocol import Method, cure, run
from lazy_artist.evaluate import Estimate, balanced, estimate, logit_variance, predict
from lazy_artist.experiments.networks import (
    ASKED,
    BIAS,
    TEST_SEED,
    data_md5,
    first_of,
    load_network,
    network_config,
    percent,
    restore,
    scale,
    seeds,
)
from lazy_artist.gradcam import chroma_reliance, display, grad_cam
from lazy_artist.models import check_architecture

MEASURED = ("validation", "hard", "aligned", "unseen")
SWEPT = {
    "full": ("erm", "jtt", "lazy-resampling", "resampling", "combination"),
    "quick": ("erm", "resampling", "combination"),
}
LFF = ("erm", "lff", "lazy-resampling", "combination")
RESNET = ("erm", "combination")
OWN = ("lazy-resampling", "saliency", "ink-swap", "combination")
GAZED = {
    "cheater": "cheater (chapter 2)",
    "erm": "ERM",
    "saliency": "saliency guide",
    "combination": "the combination",
    "oracle": "oracle",
}
LOOKED_AT = {"full": 50, "quick": 20}  # images of each digit
TAUGHT = {"full": 55_000, "quick": 3_300}  # training images, at most
REPORTED = (
    ("LfF", "85.4"),
    ("LDD", "89.7"),
    ("uLA", "92.8"),
    ("CCDB", "96.4"),
    ("FG-CCDB", "98.2"),
)


def robust(method: str = "best", seed: int = 0, arch: str = "cnn") -> nn.Module:
    """A cured network, in eval mode: float32 (N, 3, 28, 28) in [0, 1] -> logits (N, 10).

    method: a name in `debias.METHODS`, or "best", the best one without colour labels. Trained once
    and kept. Raises ValueError, before any work, for an unknown method or architecture.
    """
    if method == "best":
        method = _debias().BEST
    config = cured_config(method, arch, seed)
    return restore(fetch(cured, config, data_md5()), arch)


def cured_config(
    method: str, arch: str, seed: int, correlation: float | None = None
) -> dict[str, Any]:
    """What determines a cured network: the arguments of `cured`. correlation: of the canvas, by
    default that of the method."""
    row = _debias().find(method)
    check_architecture(arch)
    if row.correlation is not None:
        correlation = row.correlation
    return {
        "method": method,
        "arch": arch,
        "correlation": BIAS if correlation is None else correlation,
        "seed": seed,
        "images": TAUGHT[scale()],
        "code": _code(row),
    }


def _debias():
    """The package of cures, by a computed name: `cured` stands on the one method that it trains,
    which "code" in its configuration tells, and not on all of them."""
    return importlib.import_module("lazy_artist.debias")


def _code(row: Method) -> str:
    parts = json.dumps(fingerprint(row.train), sort_keys=True).encode()
    return hashlib.sha256(parts).hexdigest()[:20]


def cured(
    method: str, arch: str, correlation: float, seed: int, images: int, code: str
) -> tuple[dict, dict]:
    """Build: the weights of a network cured on the first `images` training images, the facts of its
    training, and its seconds of processor time, painting not counted. code: see `cured_config`; it
    only tells versions apart."""
    row = _debias().find(method)
    split = _taught(seed, correlation, images)
    start = time.process_time()
    model, facts = cure(method, row, split, seed, arch)
    tensors = {name: t.detach().contiguous() for name, t in model.state_dict().items()}
    return tensors, {"seconds": time.process_time() - start, "facts": facts}


def _taught(seed: int, correlation: float, images: int) -> Split:
    """The training split, painted; of fewer `images` than there are, each digit's share of dominant
    inks is as exact."""
    digits = load_digits("train")
    if images < len(split_digits("train")[1]):
        some = images * 12 // 11
        digits = Digits(digits.images[:some], digits.labels[:some], digits.source)
    return colour_split("train", seed, correlation, digits)


def tested(networks: list[dict], splits: list[str], count: int | None) -> tuple[dict, dict]:
    """Build: accuracies of several cured networks on the first `count` images, or all, of each of
    `splits`, a list over networks by split, and under "hard follows" the shares of hard images
    called the colour's digit. In the arithmetic of training (see `run`)."""
    models = [restore(fetch(cured, config, data_md5()), config["arch"]) for config in networks]
    metrics = {}
    for name in splits:
        split = first_of(name, count)
        called = [run(model, split.images).argmax(1) for model in models]
        metrics[name] = [float(np.mean(answers == split.labels)) for answers in called]
        if name == "hard":
            metrics["hard follows"] = [float(np.mean(a == split.colours)) for a in called]
    return {}, metrics


def gazed(network: dict, is_cured: bool, each: int) -> tuple[dict, dict]:
    """Build: how a network looks at `each` test images of every digit, in hard inks and in all ten.

    "chroma": float64 (N,), chroma reliance of the true class's score on hard images; "digit",
    "colour": float64 (K,), the shares of each last-layer channel's variance on the counterfactual
    grid that go with digit and with ink (eta squared). network: a `cured_config`, or a
    `network_config` of chapter 2.
    """
    model = (
        restore(fetch(cured, network, data_md5()), network["arch"])
        if is_cured
        else load_network(network)
    )
    images, labels = balanced(*split_digits("hard"), each)
    inks = (labels + 1 + np.arange(len(labels)) % (CLASSES - 1)) % CLASSES  # never the dominant one
    chroma = chroma_reliance(model, paint(images, inks, TEST_SEED), labels)
    grid = np.stack(
        [run(model, paint(images, inks * 0 + k, TEST_SEED), features=True) for k in range(CLASSES)]
    )  # (10 colours, N, K)
    alive = grid.std((0, 1)) > 0
    parts = [
        logit_variance(grid[..., k : k + 1], labels) if alive[k] else {"digit": 0, "colour": 0}
        for k in range(grid.shape[2])
    ]
    tensors = {name: np.array([part[name] for part in parts]) for name in ("digit", "colour")}
    return {"chroma": chroma, **tensors}, {"chroma": float(np.nanmean(chroma))}


def prepare() -> None:
    """Train and measure all that the chapter asks for, longest first, in parallel; what is stored
    already costs nothing."""
    tests = [_table_config(method) for method in _debias().METHODS]
    tests += [_table_config(method) for method in ablations()]
    tests += [_sweep_config(method, share) for method in SWEPT[scale()] for share in correlations()]
    tests += [_test_config(method, "mlp", ["hard", "aligned"]) for method in LFF]
    tests += [_resnet_config(method) for method in RESNET]
    runs = [network for config in tests for network in config["networks"]]
    runs.sort(key=_cost, reverse=True)
    fetch_many(cured, runs, data_md5(), title="training cures")
    fetch_many(tested, tests, data_md5(), title="testing cures")
    fetch_many(gazed, _gaze_configs(), data_md5(), title="looking at cured networks")


def _cost(network: dict[str, Any]) -> float:
    """Roughly, for the order: the longest first keep both cores busy to the end."""
    longer = network["method"] in ("combination", "oracle", *_debias().ABLATIONS)
    return (5 if longer else 2) * {"cnn": 1, "resnet18": 2, "mlp": 0.8}[network["arch"]]


def _test_config(
    method: str,
    arch: str = "cnn",
    splits: list[str] | None = None,
    correlation: float | None = None,
    runs: range | None = None,
) -> dict[str, Any]:
    """The arguments of `tested` for the networks of a method. At quick scale all but the CNN on the
    method's own canvas has one seed."""
    runs = runs or seeds()
    if scale() == "quick" and (arch, correlation) != ("cnn", None):
        runs = range(1)
    networks = [cured_config(method, arch, seed, correlation) for seed in runs]
    splits = list(splits or MEASURED)
    return {"networks": networks, "splits": splits, "count": ASKED[scale()]}


def ablations() -> tuple[str, ...]:
    """The names of `debias.ABLATIONS`; at quick scale the first of them."""
    return tuple(_debias().ABLATIONS)[: None if scale() == "full" else 1]


def _table_config(method: str) -> dict[str, Any]:
    """All seeds for a method; the first alone for an ablation, and at quick scale for methods whose
    gaze is not looked at."""
    settled = scale() == "quick" and method not in GAZED
    if method in _debias().ABLATIONS or settled:
        return _test_config(method, runs=range(1))
    return _test_config(method)


def _sweep_config(method: str, correlation: float) -> dict[str, Any]:
    if correlation == BIAS:
        return _table_config(method)
    runs = _sweep_seeds(method, correlation)
    return _test_config(method, splits=["hard"], correlation=correlation, runs=runs)


def _sweep_seeds(method: str, correlation: float) -> range:
    """All seeds where a claim is made, for the best method at the highest correlation; else one."""
    claimed = method == _debias().BEST and correlation == max(correlations())
    return seeds() if claimed else range(1)


def _resnet_config(method: str) -> dict[str, Any]:
    return _test_config(method, "resnet18", runs=seeds() if method == _debias().BEST else range(1))


def exceptions_per_pair(correlation: float) -> float:
    """How many training images show a digit in one of its nine foreign inks, on average."""
    return len(split_digits("train")[1]) * (1 - correlation) / (CLASSES * (CLASSES - 1))


def correlations() -> tuple[float, ...]:
    """The shares of dominant colours of the curve: fewer at quick scale."""
    return (0.95, 0.98, 0.99, 0.995) if scale() == "full" else (0.95, 0.995)


def _results(config: dict[str, Any]) -> dict[str, Estimate]:
    """Estimates over the networks of a `tested` configuration: each split, "hard follows",
    "lff unbiased" (0.1 aligned + 0.9 hard) where both are there, and "seconds"."""
    metrics = fetch(tested, config, data_md5()).record["metrics"]
    values = {name: np.array(shares) for name, shares in metrics.items()}
    if "aligned" in values:
        values["lff unbiased"] = 0.1 * values["aligned"] + 0.9 * values["hard"]
    table = {name: estimate(shares) for name, shares in values.items()}
    runs = fetch_many(cured, config["networks"], data_md5())
    seconds = [run.record["metrics"]["seconds"] for run in runs]
    return table | {"seconds": estimate(seconds, bounds=(0, np.inf))}


def results(method: str, arch: str = "cnn") -> dict[str, Estimate]:
    """What a method reaches, over seeds: accuracy on "validation", "hard", "aligned", "unseen",
    and "lff unbiased" (0.1 aligned + 0.9 hard); "hard follows", the share of hard images called the
    colour's digit; "seconds" of processor time. Of the MLP only "hard", "aligned" and the mixture.
    """
    if arch == "mlp":
        return _results(_test_config(method, "mlp", ["hard", "aligned"]))
    return _results(_resnet_config(method) if arch == "resnet18" else _table_config(method))


def methods_table() -> pd.DataFrame:
    """A row for each method: accuracies in percent, colour-following, and cost relative to ERM."""
    unit = results("erm")["seconds"].mean
    rows = []
    for name, method in _debias().METHODS.items():
        values = results(name)
        rows.append(
            {
                "method": f"*{method.title}*" if method.reference else method.title,
                "hard": percent(values["hard"]),
                "follows ink": percent(values["hard follows"]),
                "aligned": percent(values["aligned"]),
                "unbiased": percent(values["lff unbiased"]),
                "unseen inks": percent(values["unseen"]),
                "cost": f"{values['seconds'].mean / unit:.1f}",
            }
        )
    return pd.DataFrame(rows)


def rules_table() -> pd.DataFrame:
    """A row for each method: its hypothesis, what it needs, how its settings were chosen."""
    return pd.DataFrame(
        {
            "method": method.title,
            "we expect": method.hypothesis,
            "must know": method.needs,
            "settings chosen": method.chosen,
        }
        for method in _debias().METHODS.values()
    )


def hard_accuracies() -> dict[str, tuple[str, Estimate]]:
    """By method: which group it belongs to ("reference", "colour labels", "no labels"), and its
    accuracy on hard images; ordered by the table."""
    groups = {}
    for name, method in _debias().METHODS.items():
        labelled = "colour labels" if method.colours else "no labels"
        groups[name] = ("reference" if method.reference else labelled, results(name)["hard"])
    return groups


def titled(values: dict[str, Any]) -> dict[str, Any]:
    """The same by the methods' titles instead of their names."""
    return {_debias().METHODS[name].title: value for name, value in values.items()}


def cured_count(threshold: float = 0.7) -> int:
    """How many methods, references and ERM not counted, pass `threshold` on hard images."""
    values = hard_accuracies()
    return sum(
        group != "reference" and name != "erm" and value.mean > threshold
        for name, (group, value) in values.items()
    )


def own_brief() -> Estimate:
    """Accuracy on hard of the second best of our own methods: two pass what this passes."""
    ours = [results(name)["hard"] for name in OWN]
    return sorted(ours, key=lambda value: value.mean)[-2]


def gap_to_oracle() -> Estimate:
    """Hard accuracy of the oracle with the same budget and moves, less that of the best method, by
    seed."""
    both = [
        np.array(fetch(tested, _table_config(m), data_md5()).record["metrics"]["hard"])
        for m in ("oracle", _debias().BEST)
    ]
    return estimate(both[0] - both[1], bounds=(-1, 1))


def correlation_curve() -> dict[str, dict[float, Estimate]]:
    """Hard accuracy of the swept methods, by title, at each of `correlations`."""
    return {
        _debias().METHODS[method].title: {
            share: _results(_sweep_config(method, share))["hard"] for share in correlations()
        }
        for method in SWEPT[scale()]
    }


def ablation_table() -> pd.DataFrame:
    """The combination with one part changed at a time, one seed, all the same; in percent."""
    rows = []
    for name in (_debias().BEST, *ablations()):
        metrics = fetch(tested, _table_config(name), data_md5()).record["metrics"]
        first = {split: f"{100 * metrics[split][0]:.2f}" for split in ("hard", "unseen", "aligned")}
        rows.append({"variant": _debias().find(name).title} | first)
    return pd.DataFrame(rows).rename(columns={"unseen": "unseen inks"})


def costliest_part() -> tuple[str, float]:
    """The ablation that is furthest behind the combination on hard images, and by how much, in
    percentage points, for the first seed."""
    behind = _behind()
    worst = max(behind, key=behind.get)
    return worst, behind[worst]


def idle_parts(points: float = 0.2) -> str:
    """The ablations that are less than `points` percentage points behind the combination on hard
    images, for the first seed, as a text: what could have been left out."""
    return ", ".join(f'"{title}"' for title, gap in _behind().items() if gap < points) or "none"


def _behind() -> dict[str, float]:
    """How far each ablation, by title, is behind the combination on hard images, in percentage
    points, for the first seed."""
    hard = {
        name: fetch(tested, _table_config(name), data_md5()).record["metrics"]["hard"][0]
        for name in (_debias().BEST, *ablations())
    }
    return {
        _debias().find(name).title: 100 * (hard[_debias().BEST] - hard[name])
        for name in ablations()
    }


def resnet_table() -> pd.DataFrame:
    """The ResNet-18, ERM and cured: accuracies in percent."""
    rows = []
    for method in RESNET:
        values = results(method, "resnet18")
        rows.append(
            {
                "method": f"{_debias().METHODS[method].title} (seeds: {values['hard'].n})",
                "hard": percent(values["hard"]),
                "follows ink": percent(values["hard follows"]),
                "aligned": percent(values["aligned"]),
                "unseen inks": percent(values["unseen"]),
            }
        )
    return pd.DataFrame(rows)


def lff_table() -> pd.DataFrame:
    """Nam et al.'s protocol, 0.1 aligned + 0.9 hard with the MLP, in percent; below, what papers
    report of their own canvas."""
    rows = []
    for method in LFF:
        value = results(method, "mlp")["lff unbiased"]
        where = f"here ({value.n} seed{'s' * (value.n > 1)})"
        title = _debias().METHODS[method].title
        rows.append({"method": title, "unbiased": percent(value), "where": where})
    rows += [
        {"method": method, "unbiased": value, "where": "reported, on another canvas"}
        for method, value in REPORTED
    ]
    return pd.DataFrame(rows)


# --- gaze ----------------------------------------------------------------------------------------


def _gaze_configs() -> list[dict[str, Any]]:
    return [_gaze_config(name, seed) for name in GAZED for seed in seeds()]


def _gaze_config(name: str, seed: int) -> dict[str, Any]:
    is_cured = name != "cheater"
    network = cured_config(name, "cnn", seed) if is_cured else network_config(name, "cnn", seed)
    return {"network": network, "is_cured": is_cured, "each": LOOKED_AT[scale()]}


def _gazes(name: str) -> list[Artifact]:
    configs = [_gaze_config(name, seed) for seed in seeds()]
    return fetch_many(gazed, configs, data_md5(), title=f"looking at {name}")


def gaze_chroma() -> dict[str, np.ndarray]:
    """Chroma reliance on hard images by network, all images of all seeds, float64 (N,); those whose
    gradient vanishes are left out."""
    found = {}
    for name, title in GAZED.items():
        values = np.concatenate([run.tensors["chroma"] for run in _gazes(name)])
        found[title] = values[np.isfinite(values)]
    return found


def gaze_channels() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By network (first seed): the shares of each last-layer channel's variance that go with digit
    and with ink, float64 (K,) each."""
    return {
        title: (_gazes(name)[0].tensors["digit"], _gazes(name)[0].tensors["colour"])
        for name, title in GAZED.items()
    }


def gaze_table() -> pd.DataFrame:
    """By network: chroma reliance, and mean shares of the last layer's variance, over seeds."""
    rows = []
    for name, title in GAZED.items():
        runs = _gazes(name)
        share = {
            part: estimate(float(run.tensors[part].mean()) for run in runs)
            for part in ("colour", "digit")
        }
        coloured = estimate(
            float(np.mean(run.tensors["colour"] > run.tensors["digit"])) for run in runs
        )
        rows.append(
            {
                "network": f"{title} ({len(runs)} seeds)",
                "chroma reliance": percent(gaze_mean(name)),
                "variance with ink": percent(share["colour"]),
                "variance with digit": percent(share["digit"]),
                "channels more ink than digit": percent(coloured),
            }
        )
    return pd.DataFrame(rows)


def gaze_mean(name: str) -> Estimate:
    """Mean chroma reliance on hard images of a network of `GAZED`, over seeds."""
    return estimate(run.record["metrics"]["chroma"] for run in _gazes(name))


def gaze_difference(before: str = "cheater", after: str = "combination") -> Estimate:
    """Mean chroma reliance before less after the cure, by seed."""
    values = [[r.record["metrics"]["chroma"] for r in _gazes(name)] for name in (before, after)]
    return estimate(np.subtract(*values), bounds=(-1, 1))


def lower_end(value: Estimate) -> float:
    """Lower end of the 95% interval; NaN, which no claim survives, without an interval."""
    return value.interval[0] if value.interval else float("nan")


def overlays(count: int = 6) -> dict[str, Any]:
    """Grad-CAM before and after, on hard images (the first of `count` digits), seed 0.

    "images": float32 (count, 3, 28, 28); "labels": int64 (count,); "heats": for each network by
    title its answers int64 (count,), and maps float32 (count, 28, 28) in [0, 1] for them, on one
    scale a network.
    """
    split = colour_split("hard", TEST_SEED)
    first = [int(np.flatnonzero(split.labels == digit)[0]) for digit in range(count)]
    images = split.images[first]
    heats = {}
    for name in ("cheater", _debias().BEST):
        model = load_network(network_config(name, "cnn", 0)) if name == "cheater" else robust(name)
        answers = predict(model, images).argmax(1)
        heats[GAZED[name]] = (answers, display(grad_cam(model, "block3", images, answers)))
    return {"images": images, "labels": split.labels[first], "heats": heats}


def recoloured_views(count: int = 6, seed: int = 0) -> dict[str, np.ndarray]:
    """What the cures show the network: `count` training images, all in their dominant inks, mixed,
    swapped and moved; each float32 (count, 3, 28, 28) by title."""
    import torch

    from lazy_artist.debias import views

    images, labels = split_digits("train")
    painted = torch.from_numpy(paint(images[:64], labels[:64], seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shown = {
            "as painted": painted,
            "colours mixed": views.mix_colours(painted),
            "inks swapped": views.swap_inks(painted),
        }
        shown["swapped and moved"] = views.move(views.swap_inks(painted))
    return {title: view[:count].numpy() for title, view in shown.items()}
