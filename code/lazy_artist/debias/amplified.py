"""The bias-amplified auxiliary network: trained to cheat, so that its errors name the images that
do not follow the shortcut."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from lazy_artist.canvas import Split
from lazy_artist.config import AMPLIFIED_RECIPES
from lazy_artist.evaluate import predict
from lazy_artist.models import build
from lazy_artist.training import cross_entropy, train

PASS = 50_000  # images that its passes are counted in; of fewer images more passes are made
POWER = 0.7  # of the generalised cross-entropy, as published


class Amplified(NamedTuple):
    """Of each training image the class that the network predicts, int64 (N,), its probability of
    that class, float32 (N,), and whether it errs, bool (N,)."""

    predictions: np.ndarray
    confidence: np.ndarray
    wrong: np.ndarray

    def info(self) -> dict[str, float]:
        """The share of training images that it gets wrong."""
        return {"amplified wrong": float(self.wrong.mean())}


def gce(logits: Tensor, labels: Tensor, power: float = POWER) -> Tensor:
    """Each image's generalised cross-entropy (1 - p_y^q) / q, (B,), from logits (B, 10), for a
    power q in (0, 1] (Zhang & Sabuncu 2018, arXiv:1805.07836): images that the network finds hard
    count for less, so it goes on learning what it finds easy. Cross-entropy is its limit at 0."""
    likelihood = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    return (1 - likelihood.clamp_min(1e-6) ** power) / power


def gce_loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
    """The mean of `gce` over a batch: a `training.Loss`."""
    return gce(model(images).float(), labels).mean()


def train_amplified(
    split: Split, seed: int, arch: str, passes: float, keep: np.ndarray | None = None,
    plain: bool = False,
) -> Amplified:  # fmt: skip
    """Train a network of the same architecture by `gce` (plain: by cross-entropy) for so many
    passes, and let it predict all training images. keep: train on these alone (integers or a mask).
    It takes as many steps on few images as on many: what makes it lazy is how little it moved."""
    recipe = AMPLIFIED_RECIPES[arch]
    part = split if keep is None else split.take(keep)
    shown = passes * max(PASS, len(part))
    model = build(arch, seed + 7919)  # any other start than the network's own
    train(
        model,
        part,
        seed=seed,
        epochs=max(shown, recipe.batch_size) / len(part),
        learning_rate=recipe.learning_rate,
        batch_size=min(recipe.batch_size, len(part)),
        loss=cross_entropy if plain else gce_loss,
    )
    logits = predict(model, split.images, precision="low")
    share = np.exp(logits - logits.max(1, keepdims=True))
    predictions = logits.argmax(1)
    return Amplified(predictions, 1 / share.sum(1), predictions != split.labels)
