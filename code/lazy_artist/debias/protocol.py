"""What every method has in common: its row of the table, the recipe, and the rules.

A method is a function `train(split, seed, arch, epoch_scale) -> (model, info)`. It may change the
loss and the sampling of `training.train`, and nothing else: the images that it is given are
read-only, and their checksum is taken before and after.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from lazy_artist.canvas import N_CLASSES, Split
from lazy_artist.config import DEBIAS_RECIPES
from lazy_artist.models import build, check_architecture
from lazy_artist.training import History, train

Trained = tuple[nn.Module, dict[str, Any]]
"""A network in eval mode, and JSON-able information about its training."""

Train = Callable[[Split, int, str, float], Trained]
"""A method. epoch_scale multiplies the number of epochs, those of auxiliary networks included. One
that does not declare `colours` is given a split whose colours are all -1."""


class Method(NamedTuple):
    """A row of the table of methods.

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


LONGER = 2.5
"""Epochs of the combination and of the oracle it is compared with, in units of the recipe's: views
that are drawn anew each time take longer to learn from, and to memorise."""


def run_method(
    train: Train, split: Split, seed: int, arch: str, colours: bool = False, epoch_scale: float = 1
) -> Trained:
    """Train by one method, with the rules enforced. colours: whether it sees the colour labels.

    Raises ValueError, before any work, for an unknown architecture, a split with fewer than two
    classes or colours, or one without colour labels if the method needs them; RuntimeError if the
    method altered the images or labels; FloatingPointError, which names method, step and seed, when
    the loss is not finite.
    """
    check_architecture(arch)
    name = train.__name__
    if len(np.unique(split.labels)) < 2:
        raise ValueError(f"the split has a single class: {name!r} has nothing to tell apart")
    known = split.colours.min() >= 0
    if colours and not known:
        raise ValueError(
            f"{name!r} needs the colour label of every image, and this split has none: pass "
            f"split.colours, or choose a method that needs no colour labels"
        )
    if known and len(np.unique(split.colours)) < 2:
        raise ValueError(f"the split has a single colour: there is no bias for {name!r} to cure")
    images, labels = split.images.view(), split.labels.view()
    images.flags.writeable = labels.flags.writeable = False
    given = Split(images, labels, split.colours if colours else np.full(len(labels), -1))
    before = checksum(split)
    try:
        with warnings.catch_warnings():  # of torch, which would like the array to be writable
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            model, info = train(given, seed, arch, epoch_scale)
    except FloatingPointError as error:
        raise FloatingPointError(f"{name!r} failed: {error}") from error
    if checksum(split) != before:
        raise RuntimeError(f"{name!r} altered its training images: a method must not touch them")
    return model.eval(), info


def checksum(split: Split) -> str:
    """sha1 in hex over the raw bytes of the split's images, then its labels."""
    digest = hashlib.sha1(np.ascontiguousarray(split.images), usedforsecurity=False)
    digest.update(np.ascontiguousarray(split.labels))
    return digest.hexdigest()


def train_by_recipe(
    model: nn.Module, split: Split, seed: int, arch: str, epoch_scale: float, **strategy: Any
) -> History:
    """`training.train` by the architecture's recipe, for `epoch_scale` times its epochs."""
    recipe = DEBIAS_RECIPES[arch]
    return train(
        model,
        split,
        seed=seed,
        epochs=max(recipe.epochs * epoch_scale, recipe.batch_size / len(split)),
        learning_rate=recipe.learning_rate,
        batch_size=min(recipe.batch_size, len(split)),
        **strategy,
    )


def train_new(
    split: Split, seed: int, arch: str, epoch_scale: float, info: Any = None, **strategy: Any
) -> Trained:
    """A new network, trained once: the whole of a method that only changes loss or sampling. info:
    what the method has to tell, returned beside it."""
    model = build(arch, seed)
    train_by_recipe(model, split, seed, arch, epoch_scale, **strategy)
    return model, info or {}


def inverse_frequency(labels: np.ndarray, guesses: np.ndarray, power: float = 1.0) -> np.ndarray:
    """Sampling weights float64 (N,): 1 / count(label, guess) ** power, with mean 1. At power 1 the
    guess (a colour label, or an auxiliary network's prediction) says nothing about the label."""
    cell = labels * N_CLASSES + guesses
    weights = 1.0 / np.bincount(cell, minlength=N_CLASSES * N_CLASSES)[cell] ** power
    return weights / weights.mean()
