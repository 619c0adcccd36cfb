"""Our own methods: swap colours and re-weight by a bias-amplified network; together and one part at
a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import Split
from lazy_artist.debias.amplified import train_amplified
from lazy_artist.debias.protocol import Trained, inverse_frequency, train_new
from lazy_artist.debias.views import mix_colours, swap_colours


def colour_swap(split: Split, seed: int, arch: str, epoch_scale: float, **setting: Any) -> Trained:
    """Cross-entropy on images that swap their colours in each batch, whatever their labels."""
    return combine(swap_colours, split, seed, arch, epoch_scale, passes=0, power=0, **setting)


def combination(split: Split, seed: int, arch: str, epoch_scale: float, **setting: Any) -> Trained:
    """Swapped colours, and re-weighting by a bias-amplified network."""
    return combine(swap_colours, split, seed, arch, epoch_scale, **setting)


def combine(
    recolour: Callable[[Tensor], Tensor] | None, split: Split, seed: int, arch: str,
    epoch_scale: float, passes: float, power: float, **setting: Any,
) -> Trained:  # fmt: skip
    """The combination, with parts left out or exchanged: `recolour` batches, and sample by 1 /
    count(y, prediction of a bias-amplified network) ** power; by nothing if it makes no passes."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        seen = images if recolour is None else recolour(images)
        return F.cross_entropy(model(seen).float(), labels)

    weights, info = None, {}
    if passes:
        amplified = train_amplified(split, seed, arch, passes)
        weights = inverse_frequency(split.labels, amplified.predictions, power)
        info = amplified.info()
    return train_new(split, seed, arch, epoch_scale, info, loss=loss, weights=weights, **setting)


def no_recolouring(
    split: Split, seed: int, arch: str, epoch_scale: float, **setting: Any
) -> Trained:
    """We expect: a few exceptions, shown over and over, do not teach enough shape."""
    return combine(None, split, seed, arch, epoch_scale, **setting)


def colours_mixed(
    split: Split, seed: int, arch: str, epoch_scale: float, **setting: Any
) -> Trained:
    """We expect: a mixed colour still tells its origin, a swapped one hardly."""
    return combine(mix_colours, split, seed, arch, epoch_scale, **setting)


def colours_invented(
    split: Split, seed: int, arch: str, epoch_scale: float, **setting: Any
) -> Trained:
    """We expect: who has seen all colours reads unseen ones better."""
    recolour = partial(swap_colours, invented=0.5)
    return combine(recolour, split, seed, arch, epoch_scale, **setting)


def background_tinted(
    split: Split, seed: int, arch: str, epoch_scale: float, **setting: Any
) -> Trained:
    """We expect: the tint tells the old colour."""
    recolour = partial(swap_colours, keep_background=False)
    return combine(recolour, split, seed, arch, epoch_scale, **setting)


def no_reweighting(
    split: Split, seed: int, arch: str, epoch_scale: float, **setting: Any
) -> Trained:
    """We expect: a trace of the old colour is left, and a network would find it."""
    return combine(swap_colours, split, seed, arch, epoch_scale, **setting | {"passes": 0})
