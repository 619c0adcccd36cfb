"""Our own methods: swap colours, re-weight by a bias-amplified network, augment; together and one
part at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import Split
from lazy_artist.debias.amplified import train_amplified
from lazy_artist.debias.protocol import LONGER, Trained, inverse_frequency, train_new
from lazy_artist.debias.views import affine, mix_colours, swap_colours

POWER = 0.75  # of the re-weighting; 0.5, 0.75 and 1 were tried


def colour_swap(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """Cross-entropy on images that swap their colours in each batch, whatever their labels."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        return F.cross_entropy(model(swap_colours(images)).float(), labels)

    return train_new(split, seed, arch, epoch_scale, loss=loss)


def combination(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """Swapped colours, re-weighting by a bias-amplified network and affine augmentation."""
    return combine(swap_colours, split, seed, arch, epoch_scale)


def combine(
    recolour: Callable[[Tensor], Tensor], split: Split, seed: int, arch: str, epoch_scale: float,
    reweight: bool = True, augment: bool = True,
) -> Trained:  # fmt: skip
    """The combination, with parts left out or exchanged: `recolour` batches, sample by 1 / count(y,
    prediction of a bias-amplified network) ** `POWER`, augment by `views.affine`."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        seen = recolour(images)
        seen = affine(seen) if augment else seen
        return F.cross_entropy(model(seen).float(), labels)

    weights, info = None, {}
    if reweight:
        amplified = train_amplified(split, seed, arch, epoch_scale)
        weights = inverse_frequency(split.labels, amplified.predictions, POWER)
        info = amplified.info()
    return train_new(split, seed, arch, LONGER * epoch_scale, info, loss=loss, weights=weights)


def no_recolouring(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """We expect: a few exceptions, shown over and over, do not teach enough shape."""
    return combine(lambda images: images, split, seed, arch, epoch_scale)


def colours_mixed(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """We expect: a mixed colour still tells its origin, a swapped one hardly."""
    return combine(mix_colours, split, seed, arch, epoch_scale)


def background_tinted(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """We expect: the tint tells the old colour."""
    return combine(partial(swap_colours, keep_background=False), split, seed, arch, epoch_scale)


def no_reweighting(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """We expect: a trace of the old colour is left, and a network would find it."""
    return combine(swap_colours, split, seed, arch, epoch_scale, reweight=False)


def no_augmentation(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """We expect: the exceptions are memorised."""
    return combine(swap_colours, split, seed, arch, epoch_scale, augment=False)
