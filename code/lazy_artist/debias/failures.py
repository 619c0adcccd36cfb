"""Cures that learn from the mistakes of a lazy network, without any colour label."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import CLASSES, Split
from lazy_artist.debias.lazy import gce, generalised_cross_entropy, lazy_twin
from lazy_artist.debias.protocol import fit, inverse_frequency, plain
from lazy_artist.models import build

MEMORY = 0.7  # of the running mean of each image's loss, in learning from failure
UPWEIGHT = 20.0  # just train twice: how often an image counts that the lazy twin got wrong


def gce_alone(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """Hypothesis, to be refuted: a loss that is robust to wrong labels is robust to bias. It is the
    other way round: to such a loss the exceptions are the noise (Zhang & Sabuncu 2018,
    arXiv:1805.07836)."""
    return plain(split, seed, arch, effort, loss=generalised_cross_entropy)


class _Pair(nn.Module):
    """Two networks that are trained side by side; their parameters do not meet."""

    def __init__(self, honest: nn.Module, lazy: nn.Module):
        super().__init__()
        self.honest, self.lazy = honest, lazy


def learning_from_failure(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """Hypothesis: an image that a lazy network, trained alongside, finds harder than the honest one
    does is an exception to the shortcut (Nam et al. 2020, arXiv:2007.02561).

    The lazy one learns by generalised cross-entropy, the honest one by cross-entropy with weights

        w = l_lazy / (l_lazy + l_honest),

    where each l is a running mean of the image's cross-entropy, over the largest of its class.
    """
    running = torch.zeros(2, len(split))  # lazy, honest
    largest = torch.ones(2, CLASSES)
    seen = torch.zeros(len(split), dtype=torch.bool)

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        lazy, honest = model.lazy(images).float(), model.honest(images).float()
        each = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in (lazy, honest)])
        with torch.no_grad():
            kept = torch.where(seen[index], MEMORY, 0.0)
            running[:, index] = kept * running[:, index] + (1 - kept) * each
            seen[index] = True
            for digit in labels.unique():
                members = index[labels == digit]
                largest[:, digit] = torch.maximum(
                    0.9 * largest[:, digit], running[:, members].amax(1)
                )
            share = running[:, index] / largest[:, labels]
            weight = share[0] / (share.sum(0) + 1e-8)
        return (weight * each[1]).mean() + gce(lazy, labels).mean()

    pair = _Pair(build(arch, seed), build(arch, seed + 7919))
    fit(pair, split, seed, arch, effort, loss=loss)
    return pair.honest, {}


def just_train_twice(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """Hypothesis: what a briefly trained network gets wrong is worth showing more often (Liu et al.
    2021, arXiv:2107.09044). Images that it got wrong are drawn 20 times as often."""
    twin = lazy_twin(split, seed, arch)
    weights = np.where(twin.wrong, UPWEIGHT, 1.0)
    model, _ = plain(split, seed, arch, effort, weights=weights)
    return model, twin.facts()


def lazy_resampling(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """Hypothesis (ours): the answer s of a lazy twin stands for the colour label. Draw every
    combination (y, s) equally often, and the shortcut says nothing about the label."""
    twin = lazy_twin(split, seed, arch)
    weights = inverse_frequency(split.labels, twin.answers)
    model, _ = plain(split, seed, arch, effort, weights=weights)
    return model, twin.facts()


def confident_partition(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """Hypothesis: a lazy network trained again on the images it is surest of is lazier still, and
    its confusion tells how the shortcut is spread (in the manner of CCDB).

    The twin is trained again on the surer half of each class; images are drawn in proportion to
    1 / P(s | y), with P counted on the whole training set.
    """
    first = lazy_twin(split, seed, arch)
    surer = np.zeros(len(split), dtype=bool)
    for digit in np.unique(split.labels):
        members = np.flatnonzero(split.labels == digit)
        sure = np.where(first.wrong[members], 0, first.sureness[members])
        surer[members[np.argsort(-sure, kind="stable")[: (len(members) + 1) // 2]]] = True
    twin = lazy_twin(split, seed, arch, keep=surer)
    cell = np.zeros((CLASSES, CLASSES))
    np.add.at(cell, (split.labels, twin.answers), 1)
    likelihood = cell / np.maximum(cell.sum(1, keepdims=True), 1)  # P(s | y)
    weights = 1 / likelihood[split.labels, twin.answers]
    model, _ = plain(split, seed, arch, effort, weights=weights)
    return model, twin.facts()


def contradicting_pairs(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """Hypothesis: mixtures of images that share the label but not the shortcut, or the shortcut but
    not the label, make the shortcut contradict itself (in the manner of SelecMix, Hwang et al.
    2022, arXiv:2211.02291).

    Half of the batches are mixed: each image with one such partner, a share of 0.5 to 1 of its own.
    The shortcut is what the lazy twin says; labels are mixed alike.
    """
    twin = lazy_twin(split, seed, arch)
    answers = torch.from_numpy(twin.answers)

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        if torch.rand(()) < 0.5:
            return F.cross_entropy(model(images).float(), labels)
        same_label = labels[:, None] == labels
        same_answer = answers[index][:, None] == answers[index]
        fit_for = torch.rand(len(labels), len(labels)) * (same_label ^ same_answer)
        partner = fit_for.argmax(1)
        own = 0.5 + 0.5 * torch.rand(len(labels))
        share = own[:, None, None, None].to(images.dtype)
        logits = model(share * images + (1 - share) * images[partner]).float()
        here, there = (
            F.cross_entropy(logits, y, reduction="none") for y in (labels, labels[partner])
        )
        return (own * here + (1 - own) * there).mean()

    weights = inverse_frequency(split.labels, twin.answers, power=0.5)
    model, _ = plain(split, seed, arch, effort, loss=loss, weights=weights)
    return model, twin.facts()
