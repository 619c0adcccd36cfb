"""What the cures are compared with: nothing at all, plain regularisation, and two references.

The two references are not cures. The oracle learns on uncorrelated inks, the grey network breaks
the rule of this chapter, on purpose and by name, to show what the rule forbids.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import Split
from lazy_artist.debias.protocol import LONGER, plain
from lazy_artist.debias.views import move


def erm(split: Split, seed: int, arch: str, effort: float) -> tuple[nn.Module, dict[str, Any]]:
    """Empirical risk minimisation: cross-entropy, each image once an epoch."""
    return plain(split, seed, arch, effort)


def regularised(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """Hypothesis: a network held back by weight decay (0.5) and label smoothing (0.1) cannot afford
    to overrate one cue."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        return F.cross_entropy(model(images).float(), labels, label_smoothing=0.1)

    return plain(split, seed, arch, effort, loss=loss, weight_decay=0.5)


def moved(split: Split, seed: int, arch: str, effort: float) -> tuple[nn.Module, dict[str, Any]]:
    """Cross-entropy on slightly moved images, for as long as our own cure. On uncorrelated inks
    this is the ceiling of the chapter: same budget, same moves, no bias."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        return F.cross_entropy(model(move(images)).float(), labels)

    return plain(split, seed, arch, LONGER * effort, loss=loss)


def grey(split: Split, seed: int, arch: str, effort: float) -> tuple[nn.Module, dict[str, Any]]:
    """THE FORBIDDEN REFERENCE: a network that is shown the mean of the three channels alone.

    The averaging is folded into the first layer afterwards, each of whose filters is replaced by
    its mean over the channels: the same function, now of colour images.
    """

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        shade = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        return F.cross_entropy(model(shade).float(), labels)

    model, facts = plain(split, seed, arch, effort, loss=loss)
    first = next(model.parameters())  # (K, 3, h, w), or (K, 3 * 784) in the MLP
    with torch.no_grad():
        by_channel = first.view(len(first), 3, -1)
        by_channel.copy_(by_channel.mean(1, keepdim=True).expand_as(by_channel).clone())
    return model, facts
