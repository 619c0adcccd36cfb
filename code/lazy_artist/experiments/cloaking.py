"""Chapter 6: how little noise makes a network see a 3 in a 7, cheater against cure.

All networks are attacked on the same test images: sevens in their dominant ink that every cheater
and every cured network reads rightly. Numbers are minimal sizes of `attack.minimal_epsilon`; the
chapter's other measurements are controls of it.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from lazy_artist.artifacts import Artifact, fetch, fetch_many
from lazy_artist.attack import (
    HOPS,
    chroma_share,
    ciede2000,
    colour_attack,
    fmn,
    minimal_epsilon,
    square_attack,
    ssim,
    targeted_pgd,
)
from lazy_artist.canvas import CLASSES, COLOUR_NAMES, colour_split, paint, split_digits
from lazy_artist.evaluate import Estimate, estimate, predict
from lazy_artist.experiments.networks import (
    ARCH_NAMES,
    NO_BIAS,
    TEST_SEED,
    data_md5,
    load_network,
    network_config,
    restore,
    scale,
    seeds,
)
from lazy_artist.models import build
from lazy_artist.training import cross_entropy, train

DIGIT, TARGET = 7, 3
BOUND = 0.05  # the largest change that the report calls invisible
SURE = 0.9
STEPS = 30  # of the searches, one descent each; the comparison with the rival has its own
RIVALLED = {
    "full": {"linf": 100, "l2": 60},  # steps of each descent; in l2 `attack.HOPS` more follow
    "quick": {"linf": 40, "l2": 20},
}
RIVAL = 5  # times as many gradients for the rival
CURE = "combination"  # the method of chapter 5 that this chapter attacks
ADVERSARY = 0.1  # the size that the adversarially trained copy is trained against

# images of each measurement: of cheater and cure; with matched temperatures; of the others; of
# every digit in the map of pairs; training passes of the yardstick
COUNTS = {
    "full": {"main": 500, "side": 100, "few": 30, "pair": 8, "epochs": 1.5},
    "quick": {"main": 40, "side": 10, "few": 8, "pair": 1, "epochs": 0.25},
}

UNREACHED, MISSING = 1e9, -1.0  # stand for infinity and NaN, which the store refuses


def count(name: str) -> Any:
    return COUNTS[scale()][name]


# --- networks and images -------------------------------------------------------------------------


def lazy(seed: int) -> dict[str, Any]:
    """What determines the cheater of a seed."""
    return network_config("cheater", "cnn", seed)


def cure(seed: int, method: str | None = None) -> dict[str, Any]:
    """What determines a cured network of a seed: the one name under which the chapter knows it."""
    return dict(_cured_config(method or CURE, seed, scale()))


@functools.cache
def _cured_config(method: str, seed: int, scale: str) -> dict[str, Any]:
    """Kept for the process: it takes the source of a cure's code, and is asked for in every
    measurement's configuration."""
    return _curing().cured_config(method, "cnn", seed)


def oracle(seed: int) -> dict[str, Any]:
    return network_config("oracle", "cnn", seed)


def deep(seed: int) -> dict[str, Any]:
    """What determines the ResNet-18 that cheats."""
    return network_config("cheater", "resnet18", seed)


def hardened(seed: int) -> dict[str, Any]:
    """What determines the adversarially trained copy."""
    return {"adversary": ADVERSARY, "seed": seed, "epochs": count("epochs")}


def _curing():
    """By a computed name: results stand on a cured network's weights and configuration, and not on
    the tables of another chapter."""
    return importlib.import_module("lazy_artist.experiments.curing")


def load(network: dict[str, Any]) -> nn.Module:
    """The network of a configuration, in eval mode; trained first if it is not stored."""
    if "adversary" in network:
        return restore(fetch(trained_against, network, data_md5()), "cnn")
    if "method" in network:
        return restore(fetch(_curing().cured, network, data_md5()), network["arch"])
    return load_network(network)


def trained_against(adversary: float, seed: int, epochs: float) -> tuple[dict, dict]:
    """Build: the CNN trained on uninformative inks against changes of size `adversary` (linf), by
    one signed gradient step from a random start (Wong et al. 2020, arXiv:2001.03994)."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        start = adversary * (2 * torch.rand_like(images) - 1)
        start = ((images + start).clamp(0, 1)).requires_grad_(True)
        gradient = torch.autograd.grad(cross_entropy(model, start, labels, index), start)[0]
        moved = start.detach() + 1.25 * adversary * gradient.sign()
        moved = torch.minimum(torch.maximum(moved, images - adversary), images + adversary)
        return cross_entropy(model, moved.clamp(0, 1), labels, index)

    model = build("cnn", seed)
    split = colour_split("train", seed, NO_BIAS)
    recipe = {"epochs": epochs, "learning_rate": 4e-3, "batch_size": 256}
    history = train(model, split, seed=seed, loss=loss, **recipe)
    tensors = {name: t.detach().contiguous() for name, t in model.state_dict().items()}
    return tensors, {"loss": float(history.losses[-50:].mean())}


def chosen(networks: list[dict], most: int, each: int) -> tuple[dict, dict]:
    """Build: the images that all measurements share, in their dominant ink, and that all of
    `networks` read rightly: "sevens" float32 (n <= most, 3, 28, 28) with their "index" among the
    test digits, and "pairs" (10, each, 3, 28, 28), the first of every digit."""
    split, models = colour_split("aligned", TEST_SEED), [load(network) for network in networks]

    def first(digit: int, wanted: int, looked_at: int | None) -> np.ndarray:
        index = np.flatnonzero(split.labels == digit)[:looked_at]
        for model in models:
            index = index[predict(model, split.images[index]).argmax(1) == digit]
        if not len(index):
            raise ValueError(f"no {digit} is read rightly by all networks: train them longer")
        return index[np.arange(wanted) % len(index)] if looked_at else index[:wanted]

    sevens = first(DIGIT, most, None)
    pairs = [first(digit, each, 50) for digit in range(CLASSES)]
    images = {"sevens": split.images[sevens], "pairs": split.images[np.stack(pairs)]}
    return images | {"index": sevens}, {}


def shared() -> dict[str, Any]:
    """What determines the shared images: all cheaters and all cures must read them rightly."""
    judges = [config(seed) for seed in seeds() for config in (lazy, cure)]
    return {"networks": judges, "most": count("main"), "each": count("pair")}


def _shared(spec: dict[str, Any], name: str) -> np.ndarray:
    return fetch(chosen, spec, data_md5()).tensors[name]


# --- measurements --------------------------------------------------------------------------------


def cloaked(network: dict, spec: dict, norms: dict[str, int], steps: int) -> tuple[dict, dict]:
    """Build: minimal sizes for the first sevens, as many as `norms` says for each norm.

    Tensors float64 (n,) by "norm/criterion/what", with the criteria "predict" and "sure": what is
    "epsilon", the size, or "chroma", the change's share of chroma; `MISSING` where the network does
    not read the seven rightly, `UNREACHED` where nothing was found. "noise", of those that it
    reads: how often ten random sign patterns of the smallest linf size reach the target.
    """
    model, images = load(network), _shared(spec, "sevens")
    read = predict(model, images).argmax(1) == DIGIT
    tensors: dict[str, Any] = {"noise": np.zeros(0)}
    for norm, number in norms.items():
        rows = np.flatnonzero(read[:number])
        for name, criterion in (("predict", "predict"), ("sure", SURE)):
            for what in ("epsilon", "chroma"):
                tensors[f"{norm}/{name}/{what}"] = np.full(len(read[:number]), MISSING)
            if not len(rows):
                continue
            found = minimal_epsilon(model, images[rows], TARGET, norm, criterion, steps, hops=0)
            shares = chroma_share(images[rows], found.images)
            for what, values in (("epsilon", found.epsilon), ("chroma", shares)):
                kept = np.where(found.reached, values, UNREACHED)
                tensors[f"{norm}/{name}/{what}"][rows] = kept
            if (norm, name) == ("linf", "predict"):
                tensors["noise"] = _noise(model, images[rows], found.epsilon)
    return tensors, {"read": float(read.mean())}


def _noise(model: nn.Module, images: np.ndarray, sizes: np.ndarray, draws: int = 10) -> np.ndarray:
    """Share (n,) of random sign patterns of each image's own size that reach the target."""
    rng = np.random.default_rng(TEST_SEED)
    sizes = np.minimum(sizes, 1)[:, None, None, None].astype(np.float32)
    hits = np.zeros(len(images))
    for _ in range(draws):
        signs = rng.choice(np.float32([-1, 1]), size=images.shape)
        hits += predict(model, np.clip(images + sizes * signs, 0, 1)).argmax(1) == TARGET
    return hits / draws


class _Tempered(nn.Module):
    """The network with its logits divided by a temperature."""

    def __init__(self, model: nn.Module, temperature: float):
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images) / self.temperature


def tempered(network: dict, like: dict, spec: dict, most: int, steps: int) -> tuple[dict, dict]:
    """Build: minimal linf sizes (n,) for p(3) > 0.9 once the network's mean confidence on the
    sevens equals that of `like`, by a temperature on its logits (Guo et al. 2017,
    arXiv:1706.04599); and the temperature."""
    model, images = load(network), _shared(spec, "sevens")[:most]
    wanted = _confidence(predict(load(like), images), 1.0)
    logits = predict(model, images)
    low, high = -5.0, 5.0  # of log temperature
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if _confidence(logits, np.exp(middle)) > wanted else (low, middle)
        )
    found = minimal_epsilon(
        _Tempered(model, float(np.exp(low))), images, TARGET, "linf", SURE, steps
    )
    return {"epsilon": np.where(found.reached, found.epsilon, UNREACHED)}, {
        "temperature": float(np.exp(low)),
        "before": _confidence(logits, 1.0),
        "confidence": wanted,
    }


def _confidence(logits: np.ndarray, temperature: float) -> float:
    return float(torch.from_numpy(logits / temperature).double().softmax(1).amax(1).mean())


def inked(network: dict, spec: dict, most: int, steps: int) -> tuple[dict, dict]:
    """Build: minimal linf sizes float64 (10 inks, n) of the same sevens in every ink, "predict" and
    "sure"; -1 where the network does not read a 7, 0 where it sees a 3 already."""
    model = load(network)
    grey = split_digits("aligned")[0][_shared(spec, "index")[:most]]
    tables = {name: np.full((CLASSES, len(grey)), MISSING) for name in ("predict", "sure")}
    for ink in range(CLASSES):
        painted = paint(grey, np.full(len(grey), ink), TEST_SEED)
        called = predict(model, painted).argmax(1)
        rows = np.flatnonzero(called == DIGIT)
        for name, criterion in (("predict", "predict"), ("sure", SURE)):
            tables[name][ink, called == TARGET] = 0
            if len(rows):
                found = minimal_epsilon(
                    model, painted[rows], TARGET, criterion=criterion, steps=steps
                )
                tables[name][ink, rows] = np.where(found.reached, found.epsilon, UNREACHED)
    return tables, {}


def repainted(network: dict, spec: dict, most: int) -> tuple[dict, dict]:
    """Build: the smallest linf sizes (n,) of changes of colour alone ("hue", "tint": see
    `attack.colour_attack`) that make the network predict a 3."""
    model, images = load(network), _shared(spec, "sevens")[:most]
    kinds = {
        kind: colour_attack(model, images, TARGET, kind, grid=32).size for kind in ("hue", "tint")
    }
    return {k: np.where(np.isfinite(v), v, UNREACHED) for k, v in kinds.items()}, {}


def paired(network: dict, spec: dict, steps: int) -> tuple[dict, dict]:
    """Build: median minimal linf size (10 digits, 10 targets), over the shared images
    of every digit; 0 on the diagonal."""
    model, pairs = load(network), _shared(spec, "pairs")
    table = np.zeros((CLASSES, CLASSES))
    for digit, few in enumerate(pairs):
        others = np.delete(np.arange(CLASSES), digit)
        found = minimal_epsilon(
            model, np.repeat(few, 9, axis=0), np.tile(others, len(few)), steps=steps
        )
        sizes = np.median(found.epsilon.reshape(len(few), 9), axis=0)
        table[digit, others] = np.where(np.isfinite(sizes), sizes, UNREACHED)
    return {"median": table}, {}


def masked(network: dict, other: dict, spec: dict, most: int) -> tuple[dict, dict]:
    """Build: signs of gradient masking (Athalye et al. 2018, arXiv:1802.00420).

    "large": share reached at sizes 0.1, 0.2, 0.4 and 0.8; "steps": share reached at the median size
    after 5, 10, 20 and 40 steps; "transfer": share of the attacks on the other network, at twice
    its minimal sizes, that this network falls for, and "white": the same of attacks on itself;
    "square": share of images for which a search without gradients succeeds at 0.98 of the minimal
    size.
    """
    model, images = load(network), _shared(spec, "sevens")[:most]
    found = minimal_epsilon(model, images, TARGET, steps=STEPS)
    median = float(np.median(found.epsilon))

    def share(size: float, steps: int) -> float:
        attack = targeted_pgd(model, images, TARGET, size, steps=steps, confidence=None)
        return float(attack.reached.mean())

    away = minimal_epsilon(load(other), images, TARGET, steps=STEPS).images
    moved = {"transfer": away, "white": found.images}
    caught = {
        name: float(
            np.mean(predict(model, np.clip(images + 2 * (x - images), 0, 1)).argmax(1) == TARGET)
        )
        for name, x in moved.items()
    }
    blind = square_attack(model, images, TARGET, 0.98 * np.minimum(found.epsilon, 1), queries=300)
    return {}, {
        "large": [share(size, 40) for size in (0.1, 0.2, 0.4, 0.8)],
        "steps": [share(median, steps) for steps in (5, 10, 20, 40)],
        "square": float(blind.reached.mean()),
    } | caught


def rivalled(network: dict, spec: dict, most: int, steps: dict[str, int]) -> tuple[dict, dict]:
    """Build: minimal sizes (n,) of our full search by norm, and under "norm/rival" of the fast
    minimum-norm attack with `RIVAL` times as many gradients."""
    model, images = load(network), _shared(spec, "sevens")[:most]
    tensors = {}
    for norm, number in steps.items():
        ours = minimal_epsilon(model, images, TARGET, norm, steps=number)
        theirs = fmn(model, images, TARGET, norm, steps=gradients(norm, number) * RIVAL)
        for name, found in ((norm, ours), (f"{norm}/rival", theirs)):
            tensors[name] = np.where(found.reached, found.epsilon, UNREACHED)
    return tensors, {}


def attacked(network: dict, spec: dict, index: int) -> tuple[dict, dict]:
    """Build: an entry of `exhibit`, of the shared seven `index`; one that is called the target
    already is left alone."""
    model, image = load(network), _shared(spec, "sevens")[[index]]
    changed, size = image, 0.0
    if predict(model, image).argmax() != TARGET:
        attack = targeted_pgd(model, image, TARGET, BOUND, steps=100, restarts=3, confidence=SURE)
        changed, size = attack.images, float(attack.size[0])
    colour = ciede2000(image, changed)
    logits = torch.from_numpy(predict(model, np.concatenate([image, changed])))
    before, after = logits.softmax(1).numpy()
    return {"image": image[0], "changed": changed[0], "before": before, "after": after}, {
        "size": size,
        "colour": [float(colour.mean()), float(colour.max())],
        "ssim": float(ssim(image, changed)[0]),
    }


def gradients(norm: str, steps: int) -> int:
    """Gradients of all descents of our full search."""
    return steps * (1 + HOPS[norm])


def prepare() -> None:
    """Train and measure all that the chapter asks for, in parallel; what is stored already costs
    nothing."""
    networks = [hardened(0)]
    fetch_many(trained_against, networks, data_md5(), title="training against attacks")
    fetch(chosen, shared(), data_md5())
    mains = [config(seed) for config in (lazy, cure) for seed in seeds()]
    others = [oracle(seed) for seed in seeds()] + networks
    rows = [cure(0, method) for method in methods() if method != CURE]
    configs = [_cloaked_config(n, "main") for n in mains]
    configs += [_cloaked_config(n, "few") for n in others]
    configs += [_cloaked_config(n, "few", ("linf",)) for n in [*rows, deep(0)]]
    fetch_many(cloaked, configs, data_md5(), title="searching for the smallest change")
    pair = {"spec": shared(), "steps": STEPS // 2}
    few = {"spec": shared(), "most": count("few")}
    side = {"spec": shared(), "most": count("side"), "steps": STEPS}
    work = [
        (paired, [{"network": n(0), **pair} for n in (lazy, cure)]),
        (tempered, [{"network": lazy(s), "like": cure(s), **side} for s in seeds()]),
        (inked, [{"network": n(0), "steps": STEPS, **few} for n in (lazy, cure)]),
        (repainted, [{"network": n(s), **few} for n in (lazy, cure) for s in seeds()]),
        (masked, [{"network": lazy(0), "other": cure(0), **few},
                  {"network": cure(0), "other": lazy(0), **few}]),
        (rivalled, [{"network": n(0), "steps": RIVALLED[scale()], **few} for n in (lazy, cure)]),
        (attacked, list(_exhibited().values())),
    ]  # fmt: skip
    for build_, configs in work:
        fetch_many(build_, configs, data_md5(), title=build_.__name__)


def methods() -> tuple[str, ...]:
    """The methods of chapter 5 that get a row."""
    found = importlib.import_module("lazy_artist.debias").METHODS
    return tuple(name for name, method in found.items() if not method.reference)


def _cloaked_config(
    network: dict[str, Any], number: str, norms: tuple[str, ...] = ("linf", "l2")
) -> dict[str, Any]:
    return {
        "network": network,
        "spec": shared(),
        "norms": {norm: count(number) for norm in norms},
        "steps": STEPS,
    }


# --- what the chapter reads ----------------------------------------------------------------------


def _runs(kind: str) -> list[Artifact]:
    """The measurements of a kind, one a seed: "cheater", "cure", "oracle", "hardened" (one), "deep"
    (one), or a method of chapter 5 (one)."""
    if kind in ("cheater", "cure"):
        network = lazy if kind == "cheater" else cure
        configs = [_cloaked_config(network(seed), "main") for seed in seeds()]
    elif kind == "oracle":
        configs = [_cloaked_config(oracle(seed), "few") for seed in seeds()]
    elif kind == "hardened":
        configs = [_cloaked_config(hardened(0), "few")]
    elif kind == "deep":
        configs = [_cloaked_config(deep(0), "few", ("linf",))]
    else:
        configs = [_cloaked_config(cure(0, kind), "few", ("linf",))]
    return fetch_many(cloaked, configs, data_md5(), title=f"attacking {kind}")


def _decoded(values: np.ndarray) -> np.ndarray:
    return np.where(values == MISSING, np.nan, np.where(values >= UNREACHED, np.inf, values))


def sizes(kind: str, norm: str = "linf", criterion: str = "predict") -> np.ndarray:
    """Minimal sizes (seeds, n) of the same images in the same order for all kinds (see `_runs`):
    infinity where none was found, NaN where the network does not read the image rightly.

    criterion: "predict" or "sure", p(3) > 0.9."""
    return _decoded(np.stack([run.tensors[f"{norm}/{criterion}/epsilon"] for run in _runs(kind)]))


def bootstrap(values: np.ndarray, statistic: Any, draws: int = 1000) -> tuple[float, float]:
    """95% interval of statistic(values) over values (seeds, n, ...): seeds are drawn with
    replacement, then images, the same for all seeds (percentiles)."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        rows = rng.integers(0, values.shape[0], values.shape[0])
        columns = rng.integers(0, values.shape[1], values.shape[1])
        found.append(statistic(values[rows][:, columns]))
    low, high = np.quantile(found, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)


def median(values: np.ndarray) -> Estimate:
    """Median over all seeds and images, with its bootstrap interval; NaN is left out."""
    values = values[:, ~np.isnan(values).any(0)]
    return Estimate(float(np.median(values)), bootstrap(values, np.median), len(values))


def ratio(norm: str = "linf", criterion: str = "predict") -> Estimate:
    """Median minimal size of the cure over that of the cheater, with its bootstrap interval: seeds
    and images are drawn for both at once."""
    both = np.stack([sizes("cure", norm, criterion), sizes("cheater", norm, criterion)], axis=2)
    return Estimate(_ratio(both), bootstrap(both, _ratio), len(both))


def _ratio(both: np.ndarray) -> float:
    return float(np.median(both[..., 0]) / np.median(both[..., 1]))


def in_words(value: Estimate, number: str = "{:.3f}") -> str:
    """A size with its interval, or that fewer than half of the images were reached."""
    return value.format(number) if np.isfinite(value.mean) else "not reached"


def difference(norm: str = "linf", criterion: str = "predict") -> Estimate:
    """Median minimal size of the cure less that of the cheater, with its bootstrap interval."""
    both = np.stack([sizes("cure", norm, criterion), sizes("cheater", norm, criterion)], axis=2)

    def gap(pair: np.ndarray) -> float:
        return float(np.median(pair[..., 0]) - np.median(pair[..., 1]))

    return Estimate(gap(both), bootstrap(both, gap), len(both))


def answer(value: Estimate) -> str:
    """In words: what a ratio of cure to cheater says about who is harder to fool."""
    low, high = value.interval
    if low <= 1 <= high:
        return "about as hard to fool as the cheater: the interval of the ratio includes one"
    return "harder to fool than the cheater" if low > 1 else "easier to fool than the cheater"


def paired_test(norm: str = "linf", criterion: str = "predict") -> tuple[float, float, int]:
    """Share of images for which the cure needs the larger change (median over seeds), the p-value
    of the two-sided sign test against one half, and the number of images. Censored images take
    part, as larger than all others."""
    cured, cheated = (np.median(sizes(k, norm, criterion), axis=0) for k in ("cure", "cheater"))
    more, less = int((cured > cheated).sum()), int((cured < cheated).sum())
    test = stats.binomtest(more, max(more + less, 1))
    return more / max(more + less, 1), float(test.pvalue), more + less


def success(kind: str, criterion: str = "sure", bound: float = BOUND) -> Estimate:
    """Share of images that a change of less than `bound` (linf) takes to the target, over seeds."""
    values = sizes(kind, "linf", criterion)
    shares = [float(np.mean(row[~np.isnan(row)] < bound)) for row in values]
    mean = float(np.mean(shares))
    keep = values[:, ~np.isnan(values).any(0)]
    return Estimate(mean, bootstrap(keep, lambda v: np.mean(v < bound)), len(shares))


NAMES = {
    "cheater": "cheater",
    "cure": "cure",
    "oracle": "oracle",
    "hardened": "adversarially trained",
}


def curves(criterion: str = "predict", norm: str = "linf") -> dict[str, np.ndarray]:
    """By the network's name: minimal sizes (seeds, n) that curves are drawn of."""
    found = {name: sizes(kind, norm, criterion) for kind, name in NAMES.items()}
    return {name: values[:, ~np.isnan(values).any(0)] for name, values in found.items()}


def sizes_table() -> pd.DataFrame:
    """Medians of the minimal sizes with 95% bootstrap intervals, and how many were not reached: a
    column for each goal and measure of size."""
    columns = {}
    for norm, title in (("linf", "ℓ∞"), ("l2", "ℓ2")):
        for criterion, goal in (("predict", "predicts 3"), ("sure", f"p(3) > {SURE}")):
            both = {kind: sizes(kind, norm, criterion) for kind in ("cheater", "cure")}
            share, p, number = paired_test(norm, criterion)
            columns[f"{goal}, {title}"] = {
                **{kind: in_words(median(values)) for kind, values in both.items()},
                "cure / cheater": ratio(norm, criterion).format("{:.2f}"),
                "cure needs more": f"{share:.0%}",
                "p, sign test": _small(p),
                "not reached": " / ".join(f"{np.isinf(v).mean():.1%}" for v in both.values()),
                "images": str(number),
            }
    return pd.DataFrame(columns).rename_axis("smallest change").reset_index()


def _small(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-6 else "<1e-6"


def methods_table() -> pd.DataFrame:
    """A row for each network: medians of the minimal linf size for both criteria, first seed but
    for the four that the chapter is about, on the same few images."""
    rows = []
    names = {method: _curing().titled({method: 0}) for method in methods() if method != CURE}
    kinds = NAMES | {method: next(iter(title)) for method, title in names.items()}
    for kind, name in kinds.items():
        row = {"network": name}
        for criterion, goal in (("predict", "predicts 3"), ("sure", f"p(3) > {SURE}")):
            values = sizes(kind, "linf", criterion)[:, : count("few")]
            keep = ~np.isnan(values).any(0)
            row["images"] = int(keep.sum())
            row["seeds"] = len(values)
            row[goal] = in_words(median(values)) if keep.any() else "–"
        rows.append(row)
    return pd.DataFrame(rows)


def easier_cures() -> tuple[int, int]:
    """How many of the other cures need less than the cheater for a 3, medians of the same few
    images, and how many there are."""
    cheated = median(sizes("cheater")[:, : count("few")]).mean
    others = [sizes(method) for method in methods() if method != CURE]
    others = [values for values in others if not np.isnan(values).all()]
    return sum(float(np.nanmedian(values)) < cheated for values in others), len(others)


def _tempered() -> list[Artifact]:
    side = {"spec": shared(), "most": count("side"), "steps": STEPS}
    configs = [{"network": lazy(s), "like": cure(s), **side} for s in seeds()]
    return fetch_many(tempered, configs, data_md5(), title="matching temperatures")


def confidence() -> tuple[Estimate, Estimate]:
    """Mean confidence on the sevens, over seeds: of the cheaters, and of their cures."""
    metrics = [run.record["metrics"] for run in _tempered()]
    return estimate(m["before"] for m in metrics), estimate(m["confidence"] for m in metrics)


def temperature() -> tuple[Estimate, Estimate]:
    """The temperatures that make the cheaters as confident as their cures, over seeds; and the
    ratio of medians, cure over tempered cheater, for p(3) > 0.9."""
    runs = _tempered()
    cheated = _decoded(np.stack([run.tensors["epsilon"] for run in runs]))
    both = np.stack([sizes("cure", "linf", "sure")[:, : cheated.shape[1]], cheated], axis=2)
    degrees = estimate((r.record["metrics"]["temperature"] for r in runs), (0, np.inf))
    return degrees, Estimate(_ratio(both), bootstrap(both, _ratio), len(both))


def _inked(kind: str) -> dict[str, np.ndarray]:
    network = {"cheater": lazy, "cure": cure}[kind](0)
    config = {"network": network, "spec": shared(), "steps": STEPS, "most": count("few")}
    return fetch(inked, config, data_md5()).tensors


def kindest(kind: str) -> tuple[float, float]:
    """The smallest linf size for p(3) > 0.9 that any of the sevens needs: in their own ink, over
    all seeds; and, first seed, in any other ink that the network reads as a 7 (infinity if there is
    none)."""
    foreign = np.delete(_inked(kind)["sure"], DIGIT, axis=0)
    foreign = _decoded(foreign[foreign > 0])
    return float(sizes(kind, "linf", "sure").min()), float(foreign.min(initial=np.inf))


def repainted_share(kind: str) -> float:
    """Share of the sevens, first seed, that the ink of the 3s alone makes a 3."""
    return float(np.mean(_inked(kind)["predict"][TARGET] == 0))


def ink_range(kind: str) -> tuple[float, float]:
    """The smallest and the largest of the inks' median sizes, first seed, over the inks in which at
    least half of the sevens are read as a 7."""
    table = _inked(kind)["predict"]
    medians = [np.median(_decoded(row[row > 0])) for row in table if np.mean(row > 0) >= 0.5]
    return float(min(medians)), float(max(medians))


def ink_table() -> pd.DataFrame:
    """The same sevens in each ink, first seed: how many are read as 7 and as 3, and the median
    minimal size of those read as 7."""
    rows = {name: {"ink": name} for name in COLOUR_NAMES}
    for kind in ("cheater", "cure"):
        table = _inked(kind)["predict"]
        for name, values in zip(COLOUR_NAMES, table, strict=True):
            read = values[values > 0]
            rows[name][f"{kind}: reads 7"] = f"{len(read) / len(values):.0%}"
            rows[name][f"{kind}: reads 3"] = f"{np.mean(values == 0):.0%}"
            size = f"{np.median(_decoded(read)):.3f}" if len(read) else "–"
            rows[name][f"{kind}: median size"] = size
    return pd.DataFrame(rows.values())


def colour_only() -> dict[str, dict[str, tuple[float, float, float]]]:
    """By network, then by kind of attack ("free", "tint", "hue"), over all seeds on the same few
    images: the median minimal size, infinity if fewer than half were reached, the lower quartile,
    and the share reached."""
    few = {"spec": shared(), "most": count("few")}
    found = {}
    for kind, config in (("cheater", lazy), ("cure", cure)):
        runs = fetch_many(repainted, [{"network": config(s), **few} for s in seeds()], data_md5())
        values = {k: _decoded(np.stack([run.tensors[k] for run in runs])) for k in ("tint", "hue")}
        values = {"free": sizes(kind)[:, : count("few")]} | values
        found[kind] = {
            name: (
                float(np.median(v)),
                float(np.quantile(v, 0.25, method="inverted_cdf")),
                float(np.isfinite(v).mean()),
            )
            for name, v in values.items()
        }
    return found


def colour_table() -> pd.DataFrame:
    """`colour_only` in rows."""
    titles = {
        "free": "any change",
        "tint": "one colour added everywhere",
        "hue": "hue turned everywhere",
    }
    rows = [
        {"change": title}
        | {
            text: value
            for kind, values in colour_only().items()
            for text, value in (
                (f"{kind}: median", size_text(values[name][0])),
                (f"{kind}: reached", f"{values[name][2]:.0%}"),
            )
        }
        for name, title in titles.items()
    ]
    return pd.DataFrame(rows)


def size_text(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "not reached"


def chroma(kind: str, norm: str = "linf") -> Estimate:
    """Mean share of a minimal perturbation's energy that lies in chroma ("predict")."""
    values = _chroma(kind, norm)
    return Estimate(float(np.nanmean(values)), bootstrap(values, np.nanmean), len(values))


def chroma_gap(norm: str = "linf") -> Estimate:
    """The share of chroma, cheater minus cure, paired by seed and image."""
    gap = _chroma("cheater", norm) - _chroma("cure", norm)
    return Estimate(float(np.nanmean(gap)), bootstrap(gap, np.nanmean), len(gap))


def _chroma(kind: str, norm: str) -> np.ndarray:
    values = np.stack([run.tensors[f"{norm}/predict/chroma"] for run in _runs(kind)])
    return np.where((values < 0) | (values >= UNREACHED), np.nan, values)


def noise(kind: str) -> Estimate:
    """Share of random sign patterns of each image's own minimal size that reach the target."""
    return estimate(float(run.tensors["noise"].mean()) for run in _runs(kind))


def pair_maps() -> dict[str, np.ndarray]:
    """Median minimal linf sizes (10 digits, 10 targets) of cheater and cure, first seed."""
    config = {"spec": shared(), "steps": STEPS // 2}
    found = {}
    for name, network in (("cheater", lazy(0)), ("cure", cure(0))):
        run = fetch(paired, {"network": network, **config}, data_md5())
        found[name] = _decoded(run.tensors["median"])
    return found


def middle_of(table: np.ndarray) -> float:
    """Median of a map of pairs, the diagonal left out."""
    return float(np.median(table[~np.eye(CLASSES, dtype=bool)]))


def pairs_below(maps: dict[str, np.ndarray]) -> float:
    """Share of the 90 pairs for which the cure needs less than the cheater."""
    return float(np.mean((maps["cure"] < maps["cheater"])[~np.eye(CLASSES, dtype=bool)]))


def masking() -> tuple[pd.DataFrame, int]:
    """The signs of gradient masking, cheater and cure (first seed), as a table; and how many of the
    checks fail."""
    few = {"spec": shared(), "most": count("few")}
    rows, failed = [], 0
    for name, one, other in (("cheater", lazy(0), cure(0)), ("cure", cure(0), lazy(0))):
        config = {"network": one, "other": other, **few}
        m = fetch(masked, config, data_md5()).record["metrics"]
        checks = {
            "large sizes reach everything": m["large"][-1] == 1,
            "more steps never hurt": bool((np.diff(m["steps"]) >= 0).all()),
            "attacks made for the other network work less": m["transfer"] < m["white"],
            "a search without gradients is no better": m["square"] == 0,
        }
        numbers = (
            ", ".join(f"{share:.0%}" for share in m["large"]) + " at 0.1, 0.2, 0.4, 0.8",
            ", ".join(f"{share:.0%}" for share in m["steps"]) + " after 5, 10, 20, 40",
            f"{m['transfer']:.0%} against {m['white']:.0%}",
            f"{m['square']:.0%} at 0.98 of our size",
        )
        for (check, holds), measured in zip(checks.items(), numbers, strict=True):
            answer = "yes" if holds else "no"
            rows.append({"network": name, "check": check, "measured": measured, "holds": answer})
            failed += not holds
    return pd.DataFrame(rows), failed


def _rivalled() -> list[Artifact]:
    config = {"spec": shared(), "most": count("few"), "steps": RIVALLED[scale()]}
    configs = [{"network": network(0), **config} for network in (lazy, cure)]
    return fetch_many(rivalled, configs, data_md5(), title="against the rival")


def strength() -> tuple[float, int, float]:
    """Share of searches, both norms and both networks, whose minimal size is no larger than the
    fast minimum-norm attack's by more than 1% (those that found nothing count as larger); how many
    there are; the median ratio of those that both reached."""
    pairs = np.concatenate(
        [
            np.stack([_decoded(run.tensors[norm]), _decoded(run.tensors[f"{norm}/rival"])])
            for run in _rivalled()
            for norm in RIVALLED[scale()]
        ],
        axis=1,
    )
    ours, theirs = pairs
    both = np.isfinite(pairs).all(0)
    share = float(np.mean(np.isfinite(ours) & (ours <= 1.01 * theirs)))
    return share, len(ours), float(np.median(ours[both] / theirs[both]))


def overrated() -> dict[str, float]:
    """By norm: median, over the images of `strength`, of the short search's size (the one of the
    tables) over the full search's, less one."""
    found = {}
    for norm in RIVALLED[scale()]:
        ratios = [
            sizes(kind, norm)[0, : len(run.tensors[norm])] / _decoded(run.tensors[norm])
            for kind, run in zip(("cheater", "cure"), _rivalled(), strict=True)
        ]
        found[norm] = float(np.nanmedian(np.concatenate(ratios))) - 1
    return found


def exhibit() -> dict[str, dict[str, Any]]:
    """One seven under attack at the bound, for cheater and cure of one seed: "seed", "image" and
    "changed" (3, 28, 28), "before" and "after" (10,) probabilities, "size", "colour": the mean and
    the largest CIEDE2000 of its pixels, "ssim".

    Of all seeds and sevens it is the one for which the needier of the two networks needs the
    smallest change to be more than 0.9 sure: the kindest to the attack, and said so in the chapter.
    """
    return {kind: _entry(config) for kind, config in _exhibited().items() if kind != "deep"}


def deep_exhibit() -> dict[str, Any]:
    """The exhibit's seven under the same attack on the ResNet-18 that cheats, first seed: as one of
    the entries of `exhibit`."""
    return _entry(_exhibited()["deep"])


def _exhibited() -> dict[str, dict[str, Any]]:
    """What the entries of `exhibit`, and "deep", are made of."""
    needed = np.maximum(sizes("cheater", "linf", "sure"), sizes("cure", "linf", "sure"))
    seed, index = (int(i) for i in np.unravel_index(int(np.argmin(needed)), needed.shape))
    networks = {"cheater": lazy(seed), "cure": cure(seed), "deep": deep(0)}
    seven = {"spec": shared(), "index": index}
    return {kind: {"network": network, **seven} for kind, network in networks.items()}


def _entry(config: dict[str, Any]) -> dict[str, Any]:
    tensors, record = fetch(attacked, config, data_md5())
    return {"seed": config["network"]["seed"], **tensors, **record["metrics"]}


def deep_sureness() -> tuple[float, float, int]:
    """Of the first sevens, those that the ResNet-18 that cheats reads rightly (first seed): the
    share that a change of less than the bound makes a sure 3, the median size that it takes, and
    their number."""
    values = sizes("deep", "linf", "sure")
    values = values[~np.isnan(values)]
    return float(np.mean(values < BOUND)), float(np.median(values)), len(values)


def exhibit_table() -> pd.DataFrame:
    """What the exhibit's networks say, and how visible the changes are; last, outside the exhibit,
    the ResNet-18 that cheats."""
    shown = exhibit() | {f"cheater, {ARCH_NAMES['resnet18']}": deep_exhibit()}
    return pd.DataFrame(
        {
            "network": name,
            "p(7) before": f"{e['before'][DIGIT]:.3f}",
            "p(3) before": f"{e['before'][TARGET]:.3f}",
            "p(3) after": f"{e['after'][TARGET]:.3f}",
            "largest change": f"{e['size']:.4f}",
            "mean colour difference": f"{e['colour'][0]:.1f}",
            "largest": f"{e['colour'][1]:.1f}",
            "SSIM": f"{e['ssim']:.3f}",
        }
        for name, e in shown.items()
    )
