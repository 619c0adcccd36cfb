"""Our own cures: swap the inks, watch a lazy twin, move a little; together and one by one."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import Split
from lazy_artist.debias.lazy import lazy_twin
from lazy_artist.debias.protocol import LONGER, inverse_frequency, plain
from lazy_artist.debias.views import mix_colours, move, swap_inks

POWER = 0.75  # of the twin's re-weighting; 0.5, 0.75 and 1 were tried


def ink_swap(split: Split, seed: int, arch: str, effort: float) -> tuple[nn.Module, dict[str, Any]]:
    """Hypothesis: ink is a cue only as long as it stays with its digit; let images of a batch swap
    their inks, whatever their labels, and what is left to learn is shape."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        return F.cross_entropy(model(swap_inks(images)).float(), labels)

    return plain(split, seed, arch, effort, loss=loss)


def combination(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """Hypothesis: swapped inks let every image teach shape; what trace of the old ink the swap
    leaves, the lazy twin notices and re-weighting makes useless; small moves stretch the few
    exceptions further."""
    return combined(split, seed, arch, effort)


def combined(
    split: Split,
    seed: int,
    arch: str,
    effort: float,
    recolour: str = "swap",
    twin: bool = True,
    moves: bool = True,
) -> tuple[nn.Module, dict[str, Any]]:
    """The combination, with parts left out or exchanged.

    recolour: "swap" (`views.swap_inks`), "tint" (the same, the ground not kept), "mix"
    (`views.mix_colours`) or "none"; twin: sample by 1 / count(y, twin's answer) ** `POWER`; moves:
    `views.move`. Raises ValueError for another recolour.
    """
    views = {
        "swap": swap_inks,
        "tint": lambda images: swap_inks(images, keep_ground=False),
        "mix": mix_colours,
        "none": lambda images: images,
    }
    if recolour not in views:
        raise ValueError(f"unknown recolouring {recolour!r}: choose one of {', '.join(views)}")

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        seen = views[recolour](images)
        seen = move(seen) if moves else seen
        return F.cross_entropy(model(seen).float(), labels)

    weights, facts = None, {}
    if twin:
        lazy = lazy_twin(split, seed, arch)
        weights, facts = inverse_frequency(split.labels, lazy.answers, POWER), lazy.facts()
    model, _ = plain(split, seed, arch, LONGER * effort, loss=loss, weights=weights)
    return model, facts


def without_recolouring(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """The combination with the twin and moves alone."""
    return combined(split, seed, arch, effort, recolour="none")


def mixed_instead(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """The combination with colours mixed at random instead of swapped inks."""
    return combined(split, seed, arch, effort, recolour="mix")


def ground_tinted(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """The combination with a swap that does not keep the ground."""
    return combined(split, seed, arch, effort, recolour="tint")


def without_twin(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """The combination without re-weighting."""
    return combined(split, seed, arch, effort, twin=False)


def without_moves(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """The combination without moves."""
    return combined(split, seed, arch, effort, moves=False)
