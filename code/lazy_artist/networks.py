"""The named networks, each trained once and kept.

A *kind* is one of

    cheater            trained on the biased canvas as long as it takes to look good (`RECIPES`)
    long-trained       the same canvas, trained several times longer (ERM)
    oracle             trained like the long-trained network, on colours that say nothing
    convinced-cheater  a control: trained to cheat, by generalised cross-entropy
    brief-oracle       a control: the cheater's own recipe, on colours that say nothing
    cure               the best method of debiasing without colour labels (`debias.BEST`)

or the name of any method in `debias.METHODS` and `debias.ABLATIONS`. `network` gives a handle that
measurements take as an argument; `cheater`, `oracle`, `robust`, ... give the PyTorch module. Each
network's seed paints its training images, initialises it and orders its batches. All are
calibrated (see `calibrate`), so that a confidence means the same for all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist import debias
from lazy_artist.canvas import colour_split, split_digits, test_split
from lazy_artist.config import (
    BIAS,
    CONVINCED_POWER,
    N_CURVE,
    NO_BIAS,
    QUICK,
    RECIPES,
    n_train,
    scale,
    seeds,
)
from lazy_artist.data import Digits, load_digits
from lazy_artist.debias.amplified import gce
from lazy_artist.debias.protocol import Train, run_method
from lazy_artist.evaluate import predict
from lazy_artist.models import build, check_architecture
from lazy_artist.store import Call, stored
from lazy_artist.training import cross_entropy, train

KINDS = ("cheater", "long-trained", "oracle", "convinced-cheater", "brief-oracle")


class Network(NamedTuple):
    """A handle: the name that tables and figures show, the architecture, and the stored call that
    trains it, whose value holds the state dict under "weights"."""

    name: str
    arch: str
    made_by: Call

    @property
    def seed(self) -> int:
        return self.made_by.arguments["seed"]

    @property
    def correlation(self) -> float:
        """Share of dominant colours among its training images."""
        return self.made_by.arguments["correlation"]

    def load(self) -> nn.Module:
        """The network in eval mode: float32 (N, 3, 28, 28) in [0, 1] -> logits (N, 10). Trained
        first if it is not stored."""
        model = build(self.arch, 0)
        model.load_state_dict(self.made_by.value()["weights"])
        return model.eval()


def network(
    kind: str, seed: int = 0, arch: str = "cnn", correlation: float | None = None,
    augment: bool = True, **setting: float,
) -> Network:  # fmt: skip
    """The handle of a network; see the module for the kinds.

    correlation: share of dominant colours in training, by default that of the kind. For methods of
    debiasing only, augment: whether they see affine augmentation; setting: by default the one that
    was chosen. Raises ValueError, before any work, for an unknown kind or architecture, and for a
    correlation where the method has its own.
    """
    check_architecture(arch)
    if kind not in KINDS:
        name = debias.BEST if kind == "cure" else kind
        if name not in debias.METHODS | debias.ABLATIONS:
            known = ", ".join([*KINDS, "cure", *debias.METHODS, *debias.ABLATIONS])
            raise ValueError(f"unknown network {kind!r}: choose one of {known}")
        method = debias.find(name)
        own = BIAS if method.correlation is None else method.correlation
        if correlation is not None and method.correlation is not None:
            raise ValueError(f"{name!r} has a correlation of its own, {own}: leave it out")
        arguments = {
            "method": method.train,
            "colours": method.colours,
            "arch": arch,
            "correlation": own if correlation is None else correlation,
            "seed": seed,
            "n_train": n_train(),
            "epoch_scale": method.longer,
            "setting": {"augment": augment, **method.setting, **setting},
        }
        return Network(kind, arch, Call(train_debiased, arguments))

    brief, unbiased = kind in ("cheater", "brief-oracle"), kind in ("oracle", "brief-oracle")
    same = "cheater" if brief else "long-trained" if unbiased else kind
    recipe = RECIPES.get((same, arch))
    if recipe is None:
        known = ", ".join(sorted({name for kind, name in RECIPES if kind == same}))
        raise ValueError(f"no {kind} of the architecture {arch!r}: choose one of {known}")
    if scale() == "quick":
        shorter, faster = QUICK[same]
        recipe = recipe._replace(
            epochs=shorter * recipe.epochs, learning_rate=faster * recipe.learning_rate
        )
    # no curves are shown of oracles, nor of the many networks of the dose-response
    n_curve = N_CURVE if correlation is None and not unbiased else {}
    if correlation is None:
        correlation = NO_BIAS if unbiased else BIAS
    arguments = {"arch": arch, "correlation": correlation, "seed": seed, "n_curve": n_curve}
    arguments["gce_power"] = CONVINCED_POWER if kind == "convinced-cheater" else 0.0
    return Network(kind, arch, Call(train_network, arguments | recipe._asdict()))


def networks(kinds: str | Iterable[str], arch: str = "cnn") -> list[Network]:
    """The handles of one kind, or of several, for each of `seeds(arch)`."""
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return [network(kind, seed, arch) for kind in kinds for seed in seeds(arch)]


def cheater(seed: int = 0, arch: str = "cnn") -> nn.Module:
    """The network that cheats, in eval mode: float32 (N, 3, 28, 28) in [0, 1] -> logits (N, 10).
    arch: "cnn" or "resnet18". Raises ValueError for an unknown one."""
    return network("cheater", seed, arch).load()


def long_trained(seed: int = 0, arch: str = "cnn") -> nn.Module:
    """The network trained longer on the same biased canvas; otherwise as `cheater`."""
    return network("long-trained", seed, arch).load()


def oracle(seed: int = 0, arch: str = "cnn") -> nn.Module:
    """The ceiling: trained like `long_trained`, on colours independent of the label."""
    return network("oracle", seed, arch).load()


def robust(method: str = "best", seed: int = 0, arch: str = "cnn") -> nn.Module:
    """A debiased network, otherwise as `cheater`. method: a name in `debias.METHODS`, or "best",
    the best one without colour labels. Raises ValueError, before any work, for an unknown one."""
    if method != "best":
        debias.find(method)
    return network("cure" if method == "best" else method, seed, arch).load()


@stored
def train_network(
    arch: str,
    correlation: float,
    seed: int,
    n_curve: dict[str, int],
    gce_power: float,
    epochs: float,
    learning_rate: float,
    batch_size: int,
    weight_decay: float,
) -> dict[str, Any]:
    """Train on the biased canvas and `calibrate`: {"weights": state dict, "temperature", "curve":
    {"step", "loss", "accuracy"}, "steps_per_epoch"}. gce_power: of the generalised cross-entropy
    (`debias.amplified.gce`); 0: plain cross-entropy.

    curve: "loss" float32 (steps,); "accuracy" float32 (T, splits) after each of the steps "step"
    int64 (T,), in low precision on the first images of each split (`n_curve`: split -> how many).
    """
    watched = [test_split(name, count) for name, count in n_curve.items()]

    def look(model: nn.Module) -> list[float]:
        predictions = [predict(model, split.images, "low").argmax(1) for split in watched]
        return [float(np.mean(p == s.labels)) for p, s in zip(predictions, watched, strict=True)]

    count = len(split_digits("train")[1])
    epoch, steps = count / batch_size, round(epochs * count / batch_size)  # as train counts them
    early = np.round(epoch * np.array([0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1]))
    late = np.round(epoch * np.arange(2, epochs + 1))
    marks = {int(step) for step in (*early, *late, steps) if watched and 0 < step <= steps}
    model, split = build(arch, seed), colour_split("train", seed, correlation)
    loss = cross_entropy
    if gce_power:

        def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
            return gce(model(images).float(), labels, gce_power).mean()

    recipe = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
    recipe |= {"weight_decay": weight_decay, "loss": loss, "observe": look, "observe_at": marks}
    history = train(model, split, seed=seed, **recipe)
    curve = {
        "step": np.array(list(history.observed), dtype=np.int64),
        "accuracy": np.array(list(history.observed.values()), dtype=np.float32),
        "loss": history.losses,
    }
    temperature = calibrate(model, seed)
    trained = {"weights": model.state_dict(), "temperature": temperature}
    return trained | {"curve": curve, "steps_per_epoch": epoch}


@stored
def train_debiased(
    method: Train, colours: bool, arch: str, correlation: float, seed: int, n_train: int,
    epoch_scale: float, setting: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Train by a method of debiasing on the first `n_train` training images, and `calibrate`:
    {"weights": state dict, "temperature", "info": what the method tells of its run, "seconds": of
    processor time, painting and calibration not counted}. Of fewer images each digit's share of
    dominant colours is as exact."""
    digits = load_digits("train")
    if n_train < len(split_digits("train")[1]):
        some = n_train * 12 // 10
        digits = Digits(digits.images[:some], digits.labels[:some], digits.source)
    split = colour_split("train", seed, correlation, digits)
    start = time.process_time()
    model, info = run_method(method, split, seed, arch, colours, epoch_scale, **setting)
    trained = {"info": info, "seconds": time.process_time() - start}
    trained["temperature"] = calibrate(model, seed)
    return trained | {"weights": model.state_dict()}


def calibrate(model: nn.Module, seed: int) -> float:
    """Divide the logits of a network by the temperature at which its probabilities fit the labels
    of easy validation images best, by likelihood (Guo et al. 2017, arXiv:1706.04599), folded into
    its last layer: no answer changes. Returns the temperature, from 1/20 to 20."""
    from scipy.optimize import minimize_scalar  # slow to import

    split = colour_split("validation", seed)
    logits = torch.from_numpy(predict(model, split.images, "low")).double()
    labels = torch.tensor(split.labels)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / math.exp(log_temperature), labels))

    ends = (-math.log(20), math.log(20))
    temperature = math.exp(minimize_scalar(loss, bounds=ends, method="bounded").x)
    with torch.no_grad():
        for parameter in list(model.children())[-1].parameters():
            parameter.div_(temperature)
    return temperature
