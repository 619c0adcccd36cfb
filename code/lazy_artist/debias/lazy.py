"""The lazy twin: a network trained to cheat, so that its mistakes name the images that do not."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from lazy_artist.canvas import Split
from lazy_artist.debias.protocol import Recipe, run
from lazy_artist.models import build
from lazy_artist.training import train

LAZY = {
    "cnn": Recipe(epochs=0.5, learning_rate=1e-3, batch_size=256),
    "resnet18": Recipe(epochs=0.3, learning_rate=3e-4, batch_size=128),
    "mlp": Recipe(epochs=0.5, learning_rate=1e-3, batch_size=128),
}
"""Short and gentle, as the cheater's recipes of chapter 2."""

PASS = 55_000  # images that those epochs are passes over; of fewer images more passes are made

POWER = 0.7  # of the generalised cross-entropy


class Twin(NamedTuple):
    """answers: int64 (N,), what the lazy network says of each training image; sureness: float32
    (N,), its probability for that answer; wrong: bool (N,), where it is mistaken."""

    answers: np.ndarray
    sureness: np.ndarray
    wrong: np.ndarray

    def facts(self) -> dict[str, float]:
        return {"twin wrong": float(self.wrong.mean())}


def generalised_cross_entropy(
    model: nn.Module, images: Tensor, labels: Tensor, index: Tensor
) -> Tensor:
    """(1 - p_y^q) / q with q = 0.7 (Zhang & Sabuncu 2018, arXiv:1805.07836): images that the
    network finds hard count for less, so it goes on learning what it finds easy."""
    return gce(model(images).float(), labels).mean()


def gce(logits: Tensor, labels: Tensor) -> Tensor:
    """The generalised cross-entropy of each image, (B,), from logits (B, 10)."""
    likelihood = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    return (1 - likelihood.clamp_min(1e-6) ** POWER) / POWER


def lazy_twin(split: Split, seed: int, arch: str, keep: np.ndarray | None = None) -> Twin:
    """Train a network of the same architecture briefly, with a loss that rewards what is easy, and
    ask it about all training images. keep: train on these alone (integers or a mask). It takes as
    many steps on few images as on many: what makes it lazy is how little it has moved."""
    recipe = LAZY[arch]
    part = split if keep is None else split.take(keep)
    model = build(arch, seed + 7919)  # any other start than the network's own
    train(
        model,
        part,
        seed=seed,
        epochs=max(recipe.epochs * max(PASS, len(part)), recipe.batch_size) / len(part),
        learning_rate=recipe.learning_rate,
        batch_size=min(recipe.batch_size, len(part)),
        loss=generalised_cross_entropy,
    )
    logits = run(model, split.images)
    share = np.exp(logits - logits.max(1, keepdims=True))
    answers = logits.argmax(1)
    return Twin(answers, 1 / share.sum(1), answers != split.labels)
