"""Methods that learn from the errors of a bias-amplified network, without any colour label."""

from __future__ import annotations

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
UPWEIGHT = 20.0  # just train twice: how often an image counts that the auxiliary network got wrong


def gce_alone(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """The loss of the bias-amplified network by itself, as a warning: robust to wrong labels (Zhang
    & Sabuncu 2018, arXiv:1805.07836), it takes the exceptions for the noise."""
    return train_new(split, seed, arch, epoch_scale, loss=gce_loss)


class _Pair(nn.Module):
    """Two networks that are trained side by side; their parameters do not meet."""

    def __init__(self, debiased: nn.Module, biased: nn.Module):
        super().__init__()
        self.debiased, self.biased = debiased, biased

    def forward(self, images: Tensor) -> Tensor:
        return self.debiased(images)


def learning_from_failure(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """Weigh up what a biased network, trained alongside, finds harder than the debiased one does
    (Nam et al. 2020, arXiv:2007.02561).

    The biased one learns by generalised cross-entropy, the debiased one by cross-entropy with
    weights l_biased / (l_biased + l_debiased), where each l is a running mean of the image's
    cross-entropy, over the largest of its class.
    """
    running = torch.zeros(2, len(split), device=device())  # biased, debiased
    largest = torch.ones(2, N_CLASSES, device=device())
    seen = torch.zeros(len(split), dtype=torch.bool, device=device())

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        biased, debiased = model.biased(images).float(), model.debiased(images).float()
        each = [F.cross_entropy(z, labels, reduction="none") for z in (biased, debiased)]
        losses = torch.stack(each)
        with torch.no_grad():
            kept = torch.where(seen[index], MEMORY, 0.0)
            running[:, index] = kept * running[:, index] + (1 - kept) * losses
            seen[index] = True
            for digit in labels.unique():
                members = index[labels == digit]
                top = running[:, members].amax(1)
                largest[:, digit] = torch.maximum(0.9 * largest[:, digit], top)
            share = running[:, index] / largest[:, labels]
            weight = share[0] / (share.sum(0) + 1e-8)
        return (weight * losses[1]).mean() + gce(biased, labels).mean()

    pair = _Pair(build(arch, seed), build(arch, seed + 7919))
    train_by_recipe(pair, split, seed, arch, epoch_scale, loss=loss)
    return pair.debiased, {}


def just_train_twice(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """Images that the bias-amplified network gets wrong are drawn 20 times as often (Liu et al.
    2021, arXiv:2107.09044)."""
    amplified = train_amplified(split, seed, arch, epoch_scale)
    weights = np.where(amplified.wrong, UPWEIGHT, 1.0)
    return train_new(split, seed, arch, epoch_scale, amplified.info(), weights=weights)


def amplified_resampling(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """Draw every combination (y, s) of label and prediction of the bias-amplified network equally
    often (ours)."""
    amplified = train_amplified(split, seed, arch, epoch_scale)
    weights = inverse_frequency(split.labels, amplified.predictions)
    return train_new(split, seed, arch, epoch_scale, amplified.info(), weights=weights)


def confident_partition(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """In the manner of CCDB: the bias-amplified network is trained again on the half of each class
    that it is most confident of; images are drawn in proportion to 1 / P(s | y), with P of its
    predictions s counted on the whole training set."""
    first = train_amplified(split, seed, arch, epoch_scale)
    confident = np.zeros(len(split), dtype=bool)
    for digit in np.unique(split.labels):
        members = np.flatnonzero(split.labels == digit)
        correctly = np.where(first.wrong[members], 0, first.confidence[members])
        half = np.argsort(-correctly, kind="stable")[: (len(members) + 1) // 2]
        confident[members[half]] = True
    second = train_amplified(split, seed, arch, epoch_scale, keep=confident)
    counts = np.zeros((N_CLASSES, N_CLASSES))
    np.add.at(counts, (split.labels, second.predictions), 1)
    likelihood = counts / np.maximum(counts.sum(1, keepdims=True), 1)  # P(s | y)
    weights = 1 / likelihood[split.labels, second.predictions]
    return train_new(split, seed, arch, epoch_scale, second.info(), weights=weights)


def contradicting_pairs(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """In the manner of SelecMix (Hwang et al. 2022, arXiv:2211.02291): half of the batches are
    mixed, each image, with a share of 0.5 to 1, with a partner that shares the label but not the
    shortcut, or the shortcut but not the label. The shortcut is what the bias-amplified network
    predicts; labels are mixed alike."""
    amplified = train_amplified(split, seed, arch, epoch_scale)
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
    info = amplified.info()
    return train_new(split, seed, arch, epoch_scale, info, loss=loss, weights=weights)
