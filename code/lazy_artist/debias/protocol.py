"""What every cure has in common: the row of the table, the recipe, and the rules that are checked.

A cure is a function `train(split, seed, arch, effort) -> (model, facts)`. It may change the loss
and the sampling of `training.train`, which every network goes through, and nothing else: the images
that it is given are read-only, and their checksum is taken before and after.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lazy_artist.canvas import CLASSES, Split
from lazy_artist.models import build, check_architecture
from lazy_artist.training import History, arithmetic, train

Train = Callable[[Split, int, str, float], tuple[nn.Module, dict[str, Any]]]
"""`train(split, seed, arch, effort)`: a network in eval mode, and JSON-able facts about the run.

effort multiplies the number of epochs. Unless its method declares `colours`, a cure is given a
split whose colours are all -1.
"""


class Method(NamedTuple):
    """A row of the table of cures.

    title: for tables; hypothesis: why it should work, in one sentence; train: see `Train`;
    needs: what must be known beside images and labels; chosen: how its settings were chosen;
    colours: whether it reads the colour labels of the training images; correlation: of the canvas
    that it is trained on where that is not the biased one; reference: not a cure, shown for
    comparison.
    """

    title: str
    hypothesis: str
    train: Train
    needs: str
    chosen: str
    colours: bool = False
    correlation: float | None = None
    reference: bool = False


class Recipe(NamedTuple):
    """How long and how fast to train: passes over the data, peak learning rate, images a batch."""

    epochs: float
    learning_rate: float
    batch_size: int


RECIPES = {
    "cnn": Recipe(epochs=2, learning_rate=4e-3, batch_size=256),
    "resnet18": Recipe(epochs=1, learning_rate=2e-3, batch_size=128),
    "mlp": Recipe(epochs=20, learning_rate=4e-3, batch_size=256),
}
"""The same for all cures, by architecture: the peak rates and batches are the diligent ones of
chapter 2, the CNN's epochs half as many."""

LONGER = 2.5
"""Epochs of the combination and of the oracle it is compared with, in units of the recipe's: views
that are drawn anew each time take longer to learn from, and to learn by heart."""


def cure(
    name: str, method: Method, split: Split, seed: int, arch: str, effort: float = 1.0
) -> tuple[nn.Module, dict[str, Any]]:
    """Train by one method, with the rules enforced: (network in eval mode, facts).

    split: a training split; its arrays are read-only while the method has them.

    Raises ValueError, before any work, for an unknown architecture, a split with fewer than two
    classes or colours, or one without colour labels if the method needs them; RuntimeError if the
    method altered the images or labels; FloatingPointError, which names method, step and seed, when
    the loss is not finite.
    """
    check_architecture(arch)
    if len(np.unique(split.labels)) < 2:
        raise ValueError(f"the split has a single class: {name!r} has nothing to tell apart")
    known = split.colours.min() >= 0
    if method.colours and not known:
        raise ValueError(
            f"{name!r} needs the colour label of every image, and this split has none: pass "
            f"split.colours, or choose a method that needs no colour labels"
        )
    if known and len(np.unique(split.colours)) < 2:
        raise ValueError(f"the split has a single colour: there is no bias for {name!r} to cure")
    images, labels = split.images.view(), split.labels.view()
    images.flags.writeable = labels.flags.writeable = False
    colours = split.colours if method.colours else np.full(len(labels), -1)
    before = checksum(split)
    try:
        with warnings.catch_warnings():  # of torch, which would like the array to be writable
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            model, facts = method.train(Split(images, labels, colours), seed, arch, effort)
    except FloatingPointError as error:
        raise FloatingPointError(f"{name!r} failed: {error}") from error
    if checksum(split) != before:
        raise RuntimeError(f"{name!r} altered its training images: a cure must leave them alone")
    return model.eval(), facts


def checksum(split: Split) -> str:
    """sha1 in hex over the raw bytes of the split's images, then its labels."""
    digest = hashlib.sha1(np.ascontiguousarray(split.images), usedforsecurity=False)
    digest.update(np.ascontiguousarray(split.labels))
    return digest.hexdigest()


def fit(
    model: nn.Module, split: Split, seed: int, arch: str, effort: float, **strategy: Any
) -> History:
    """`training.train` by the architecture's recipe, for `effort` times its epochs."""
    recipe = RECIPES[arch]
    epochs = max(recipe.epochs * effort, recipe.batch_size / len(split))
    return train(
        model,
        split,
        seed=seed,
        epochs=epochs,
        learning_rate=recipe.learning_rate,
        batch_size=min(recipe.batch_size, len(split)),
        **strategy,
    )


def plain(
    split: Split, seed: int, arch: str, effort: float, **strategy: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """A fresh network, `fit` once: the whole of a method that only changes loss or sampling."""
    model = build(arch, seed)
    fit(model, split, seed, arch, effort, **strategy)
    return model, {}


def run(model: nn.Module, images: np.ndarray, features: bool = False) -> np.ndarray:
    """Logits, or features, float32 (N, K) of many images float32 (N, 3, 28, 28), in the arithmetic
    of training, which is twice as fast as `evaluate.predict`."""
    model.eval()
    call = model.features if features else model
    low = arithmetic()
    with torch.inference_mode(), torch.autocast("cpu", low, enabled=low != torch.float32):
        parts = [
            call(torch.tensor(images[i : i + 500]).contiguous(memory_format=torch.channels_last))
            for i in range(0, len(images), 500)
        ]
    return torch.cat([part.float() for part in parts]).numpy()


def inverse_frequency(labels: np.ndarray, guesses: np.ndarray, power: float = 1.0) -> np.ndarray:
    """Sampling weights float64 (N,): 1 / count(label, guess) ** power, with mean 1.

    At power 1 every combination of label and guess that occurs is drawn equally often, so that the
    guess (a colour label, or a lazy network's answer) says nothing about the label any more.
    """
    cell = labels * CLASSES + guesses
    weights = 1.0 / np.bincount(cell, minlength=CLASSES * CLASSES)[cell] ** power
    return weights / weights.mean()
