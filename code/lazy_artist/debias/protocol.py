"""What every method has in common: its row of the table, one budget, and the rules.

A method is a function `train(split, seed, arch, epoch_scale, **setting) -> (model, info)`. It may
change the loss and the sampling of `training.train`, and nothing else: the images that it is given
are read-only, and their checksum is taken before and after. All methods make the same passes over
the data, with the same augmentation.
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from lazy_artist.canvas import N_CLASSES, Split
from lazy_artist.config import DEBIAS_RECIPES
from lazy_artist.debias.views import affine
from lazy_artist.models import build, check_architecture
from lazy_artist.training import History, Loss, cross_entropy, train

Trained = tuple[nn.Module, dict[str, Any]]
"""A network in eval mode, and JSON-able information about its training."""

Train = Callable[..., Trained]
"""A method. epoch_scale multiplies the passes of the budget; `setting` has `augment` (affine
augmentation or none, the same for all), `rate` (of learning, in units of the recipe's), `passes`
(of an auxiliary network) and what else the method lets one choose. One that does not declare
`colours` is given a split whose colours are all -1."""

NOTHING, SHORTCUT, COLOURS = "nothing", "that the shortcut is colour", "colour labels"
RULES = {
    NOTHING: "accuracy on easy validation digits",
    SHORTCUT: "accuracy on validation digits in random colours",
    COLOURS: "worst group of easy validation digits",  # by digit, in its own colour or in others
}
"""How settings are chosen from six trials, by what one must know to use a method."""


class Method(NamedTuple):
    """A row of the table of methods.

    title: for tables; hypothesis: why it should work, in one sentence; train: see `Train`; needs:
    what must be known beside images and labels, a key of `RULES` (a reference says what it breaks);
    trials: the settings that were tried, setting: the one that was chosen; correlation: of the
    canvas that it is trained on where that is not the biased one; reference: not a cure, shown for
    comparison; longer: how many times the passes of the others it makes.
    """

    title: str
    hypothesis: str
    train: Train
    needs: str
    trials: tuple[dict[str, float], ...]
    setting: dict[str, float]
    correlation: float | None = None
    reference: bool = False
    longer: float = 1.0

    @property
    def colours(self) -> bool:
        """Whether it reads the colour labels of the training images."""
        return self.needs == COLOURS


def grid(**values: tuple[float, ...]) -> tuple[dict[str, float], ...]:
    """All combinations of the values of settings: the trials of a method."""
    return tuple(
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    )


def run_method(
    train: Train, split: Split, seed: int, arch: str, colours: bool = False,
    epoch_scale: float = 1, **setting: Any,
) -> Trained:  # fmt: skip
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
            model, info = train(given, seed, arch, epoch_scale, **setting)
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
    model: nn.Module, split: Split, seed: int, arch: str, epoch_scale: float, augment: bool = True,
    rate: float = 1.0, loss: Loss = cross_entropy, **strategy: Any,
) -> History:  # fmt: skip
    """`training.train` by the architecture's recipe, for `epoch_scale` times its passes, at `rate`
    times its learning rate; augment: the loss sees images through `views.affine`."""
    recipe = DEBIAS_RECIPES[arch]
    strategy = {"weight_decay": recipe.weight_decay, **strategy}

    def augmented(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        return loss(model, affine(images), labels, index)

    return train(
        model,
        split,
        seed=seed,
        epochs=max(recipe.epochs * epoch_scale, recipe.batch_size / len(split)),
        learning_rate=recipe.learning_rate * rate,
        batch_size=min(recipe.batch_size, len(split)),
        loss=augmented if augment else loss,
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
