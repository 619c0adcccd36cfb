"""Methods that learn from the errors of a bias-amplified network, without any colour label."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import N_CLASSES, Split
from lazy_artist.config import device
from lazy_artist.debias.amplified import gce, gce_loss, train_amplified
from lazy_artist.debias.protocol import Trained, inverse_frequency, train_by_recipe, train_new
from lazy_artist.models import build

MEMORY = 0.7  # of the running mean of each image's loss, in learning from failure
SUBSET = 0.1  # of the training images, that CCDB's first network is trained on


def gce_alone(split: Split, seed: int, arch: str, epoch_scale: float, **setting: Any) -> Trained:
    """The loss of the bias-amplified network by itself, as a warning: robust to wrong labels (Zhang
    & Sabuncu 2018, arXiv:1805.07836), it takes the exceptions for the noise."""
    return train_new(split, seed, arch, epoch_scale, loss=gce_loss, **setting)


class _Pair(nn.Module):
    """Two networks that are trained side by side; their parameters do not meet."""

    def __init__(self, debiased: nn.Module, biased: nn.Module):
        super().__init__()
        self.debiased, self.biased = debiased, biased

    def forward(self, images: Tensor) -> Tensor:
        return self.debiased(images)


def learning_from_failure(
    split: Split, seed: int, arch: str, epoch_scale: float, **setting: Any
) -> Trained:
    """Weigh up what a biased network, trained alongside, finds harder than the debiased one does
    (Nam et al. 2020, arXiv:2007.02561).

    The biased one learns by generalised cross-entropy, the debiased one by cross-entropy with
    weights l_biased / (l_biased + l_debiased), where each l is a running mean of the image's
    cross-entropy, over the largest one of all training images of its class.
    """
    running = torch.zeros(2, len(split), device=device())  # biased, debiased
    seen = torch.zeros(len(split), dtype=torch.bool, device=device())
    members = [np.flatnonzero(split.labels == digit) for digit in range(N_CLASSES)]

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        biased, debiased = model.biased(images).float(), model.debiased(images).float()
        each = [F.cross_entropy(z, labels, reduction="none") for z in (biased, debiased)]
        losses = torch.stack(each)
        with torch.no_grad():
            kept = torch.where(seen[index], MEMORY, 0.0)
            running[:, index] = kept * running[:, index] + (1 - kept) * losses
            seen[index] = True
            tops = [running[:, own].amax(1) if len(own) else running[:, 0] for own in members]
            share = running[:, index] / torch.stack(tops, dim=1)[:, labels]
            weight = share[0] / (share.sum(0) + 1e-8)
        return (weight * losses[1]).mean() + gce(biased, labels).mean()

    pair = _Pair(build(arch, seed), build(arch, seed + 7919))
    train_by_recipe(pair, split, seed, arch, epoch_scale, loss=loss, **setting)
    return pair.debiased, {}


def just_train_twice(
    split: Split, seed: int, arch: str, epoch_scale: float, passes: float, upweight: float,
    **setting: Any,
) -> Trained:  # fmt: skip
    """Images that a network, trained briefly by cross-entropy, gets wrong are drawn `upweight`
    times as often (Liu et al. 2021, arXiv:2107.09044)."""
    first = train_amplified(split, seed, arch, passes, plain=True)
    weights = np.where(first.wrong, upweight, 1.0)
    return train_new(split, seed, arch, epoch_scale, first.info(), weights=weights, **setting)


def amplified_resampling(
    split: Split, seed: int, arch: str, epoch_scale: float, passes: float, power: float,
    **setting: Any,
) -> Trained:  # fmt: skip
    """Sample by 1 / count(y, s) ** power, of label and prediction of the bias-amplified network: at
    power 1 every combination is drawn equally often (ours)."""
    amplified = train_amplified(split, seed, arch, passes)
    weights = inverse_frequency(split.labels, amplified.predictions, power)
    return train_new(split, seed, arch, epoch_scale, amplified.info(), weights=weights, **setting)


def ccdb(
    split: Split, seed: int, arch: str, epoch_scale: float, passes: float, fine: bool = False,
    **setting: Any,
) -> Trained:  # fmt: skip
    """Class-conditional distribution balancing (Zhao et al. 2025, arXiv:2504.17314), with the
    partition of its successor: a network is trained by cross-entropy on a tenth of the images, then
    anew on the half of each class that it is most confident of. With its predictions s, images are
    drawn in proportion to q_s / P(s | y), of all predictions' shares to those in the class."""
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(split))[: max(1, round(SUBSET * len(split)))]

    first = train_amplified(split, seed, arch, passes, keep=some, plain=True)
    confident = np.zeros(len(split), dtype=bool)
    for digit in np.unique(split.labels):
        members = np.flatnonzero(split.labels == digit)
        correctly = np.where(first.wrong[members], 0, first.confidence[members])
        half = np.argsort(-correctly, kind="stable")[: (len(members) + 1) // 2]
        confident[members[half]] = True
    second = train_amplified(split, seed, arch, passes, keep=confident, plain=True)
    counts = np.zeros((N_CLASSES, N_CLASSES))  # M: of each label y, of each prediction s
    np.add.at(counts, (split.labels, second.predictions), 1)
    share = counts.sum(0) / counts.sum()  # q_s
    likelihood = counts / np.maximum(counts.sum(1, keepdims=True), 1)  # P(s | y)
    cell = split.labels, second.predictions
    weights = share[second.predictions] / likelihood[cell] / (counts[cell] if fine else 1)
    return train_new(split, seed, arch, epoch_scale, second.info(), weights=weights, **setting)


def fg_ccdb(
    split: Split, seed: int, arch: str, epoch_scale: float, passes: float, **setting: Any
) -> Trained:
    """Its fine-grained variant (Zhao & Zhang 2026): weights q_s / P(s | y) / M_sy, over the number
    of images with that label and prediction, so that small cells count as much as large ones."""
    return ccdb(split, seed, arch, epoch_scale, passes, fine=True, **setting)


def contradicting_pairs(
    split: Split, seed: int, arch: str, epoch_scale: float, passes: float, **setting: Any
) -> Trained:
    """In the manner of SelecMix (Hwang et al. 2022, arXiv:2211.02291): half of the batches are
    mixed, each image, with a share of 0.5 to 1, with a partner that shares the label but not the
    shortcut, or the shortcut but not the label. The shortcut is what the bias-amplified network
    predicts; labels are mixed alike."""
    amplified = train_amplified(split, seed, arch, passes)
    predictions = torch.from_numpy(amplified.predictions).to(device())

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        if torch.rand(()) < 0.5:
            return F.cross_entropy(model(images).float(), labels)
        same_label = labels[:, None] == labels
        same_prediction = predictions[index][:, None] == predictions[index]
        suitable = (same_label ^ same_prediction).float()
        suitable *= torch.rand_like(suitable)
        partner = suitable.argmax(1)
        own = 0.5 + 0.5 * torch.rand(len(labels), device=images.device)
        share = own[:, None, None, None].to(images.dtype)
        logits = model(share * images + (1 - share) * images[partner]).float()
        here, there = (
            F.cross_entropy(logits, y, reduction="none") for y in (labels, labels[partner])
        )
        return (own * here + (1 - own) * there).mean()

    weights = inverse_frequency(split.labels, amplified.predictions, power=0.5)
    strategy = {"loss": loss, "weights": weights, **setting}
    return train_new(split, seed, arch, epoch_scale, amplified.info(), **strategy)
