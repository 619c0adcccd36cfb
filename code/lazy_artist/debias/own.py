"""Our own methods: swap colours, re-weight by a bias-amplified network, augment; together and one
part at a time."""

from __future__ import annotations

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
    return combine(split, seed, arch, epoch_scale)


def combine(
    split: Split,
    seed: int,
    arch: str,
    epoch_scale: float,
    recolour: str = "swap",
    reweight: bool = True,
    augment: bool = True,
) -> Trained:
    """The combination, with parts left out or exchanged.

    recolour: "swap" (`views.swap_colours`), "tint" (the same, the background not kept), "mix"
    (`views.mix_colours`) or "none"; reweight: sample by 1 / count(y, prediction of a bias-amplified
    network) ** `POWER`; augment: `views.affine`. Raises ValueError for another recolour.
    """
    views = {
        "swap": swap_colours,
        "tint": lambda images: swap_colours(images, keep_background=False),
        "mix": mix_colours,
        "none": lambda images: images,
    }
    if recolour not in views:
        raise ValueError(f"unknown recolouring {recolour!r}: choose one of {', '.join(views)}")

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        seen = views[recolour](images)
        seen = affine(seen) if augment else seen
        return F.cross_entropy(model(seen).float(), labels)

    weights, info = None, {}
    if reweight:
        amplified = train_amplified(split, seed, arch, epoch_scale)
        weights = inverse_frequency(split.labels, amplified.predictions, POWER)
        info = amplified.info()
    model, _ = train_new(split, seed, arch, LONGER * epoch_scale, loss=loss, weights=weights)
    return model, info


def no_recolouring(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """We expect: a few exceptions, shown over and over, do not teach enough shape."""
    return combine(split, seed, arch, epoch_scale, recolour="none")


def colours_mixed(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """We expect: a mixed colour still tells its origin, a swapped one hardly."""
    return combine(split, seed, arch, epoch_scale, recolour="mix")


def background_tinted(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """We expect: the tint tells the old colour."""
    return combine(split, seed, arch, epoch_scale, recolour="tint")


def no_reweighting(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """We expect: a trace of the old colour is left, and a network would find it."""
    return combine(split, seed, arch, epoch_scale, reweight=False)


def no_augmentation(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """We expect: the exceptions are memorised."""
    return combine(split, seed, arch, epoch_scale, augment=False)
