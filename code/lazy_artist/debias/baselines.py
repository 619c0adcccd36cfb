"""What the cures are compared with: nothing at all, plain regularisation, and two references that
are no cures, the oracle and the forbidden grey network."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import Split
from lazy_artist.debias.protocol import Trained, train_new


def erm(split: Split, seed: int, arch: str, epoch_scale: float, **setting: Any) -> Trained:
    """Empirical risk minimisation: cross-entropy, each image once an epoch. On uncorrelated colours
    it is the oracle, the ceiling of the comparison."""
    return train_new(split, seed, arch, epoch_scale, **setting)


def regularised(
    split: Split, seed: int, arch: str, epoch_scale: float, smoothing: float = 0.1, **setting: Any
) -> Trained:
    """Cross-entropy with strong weight decay and label smoothing."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        return F.cross_entropy(model(images).float(), labels, label_smoothing=smoothing)

    return train_new(split, seed, arch, epoch_scale, loss=loss, **setting)


def grey(split: Split, seed: int, arch: str, epoch_scale: float, **setting: Any) -> Trained:
    """THE FORBIDDEN REFERENCE: a network that is shown the mean of the three channels alone. The
    filters of its first layer are then replaced by their means over the channels, which makes it
    the same function of colour images."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        shade = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        return F.cross_entropy(model(shade).float(), labels)

    model, info = train_new(split, seed, arch, epoch_scale, loss=loss, **setting)
    first = next(model.parameters())  # (K, 3, h, w), or (K, 3 * 784) in the MLP
    with torch.no_grad():
        by_channel = first.view(len(first), 3, -1)
        by_channel.copy_(by_channel.mean(1, keepdim=True).expand_as(by_channel).clone())
    return model, info
