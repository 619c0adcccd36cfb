"""Methods that are told the colour of every training image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import N_CLASSES, Split
from lazy_artist.config import device
from lazy_artist.debias.protocol import Trained, inverse_frequency, train_new
from lazy_artist.evaluate import predict

STEP = 0.01  # how fast group DRO moves its weights, as published
HELD_OUT = 0.2  # of the training images, that the last layer is fitted anew on


def resampling(
    split: Split, seed: int, arch: str, epoch_scale: float, power: float, **setting: Any
) -> Trained:
    """Sample by 1 / count(label, colour) ** power: at power 1 every combination is drawn equally
    often."""
    weights = inverse_frequency(split.labels, split.colours, power)
    return train_new(split, seed, arch, epoch_scale, weights=weights, **setting)


def group_dro(split: Split, seed: int, arch: str, epoch_scale: float, **setting: Any) -> Trained:
    """Minimise the loss of the worst group (Sagawa et al. 2020, arXiv:1911.08731), with the strong
    weight decay that the authors call essential.

    Groups are the combinations of label and colour, drawn equally often; their weights q grow with
    their losses, q_g <- q_g exp(step * loss_g), and add up to 1; the loss is the sum of q_g loss_g
    over all groups, where one that the batch lacks has none.
    """
    groups = torch.from_numpy(split.labels * N_CLASSES + split.colours).to(device())
    q = torch.full((N_CLASSES * N_CLASSES,), 1 / N_CLASSES**2, device=device())

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        losses = F.cross_entropy(model(images).float(), labels, reduction="none")
        group = groups[index]
        count = torch.bincount(group, minlength=len(q))
        mean = torch.zeros_like(q).index_add(0, group, losses) / count.clamp_min(1)
        q.mul_(torch.exp(STEP * mean.detach()))
        q.div_(q.sum())
        return (q * mean).sum()

    weights = inverse_frequency(split.labels, split.colours)
    return train_new(split, seed, arch, epoch_scale, loss=loss, weights=weights, **setting)


def last_layer(
    split: Split, seed: int, arch: str, epoch_scale: float, ridge: float, **setting: Any
) -> Trained:
    """ERM on four fifths of the images, and then a new last layer, fitted by L-BFGS on the features
    of equally many held-out ones of each combination of label and colour (DFR, Kirichenko et al.
    2023, arXiv:2204.02937). A combination that no held-out image has is left out."""
    order = np.random.default_rng(seed).permutation(len(split))
    held_out, rest = np.split(order, [round(HELD_OUT * len(split))])
    passes = epoch_scale * len(split) / len(rest)  # as many steps as on all
    model, _ = train_new(split.take(rest), seed, arch, passes, **setting)
    group = (split.labels * N_CLASSES + split.colours)[held_out]
    least = np.bincount(group)[np.unique(group)].min()
    chosen = np.concatenate([held_out[group == g][:least] for g in np.unique(group)])
    features = predict(model, split.images[chosen], precision="low", output="features")
    head = list(model.children())[-1]
    refit(
        head, *(torch.tensor(x, device=device()) for x in (features, split.labels[chosen])), ridge
    )
    return model, {"balanced images": len(chosen)}


def refit(head: nn.Linear, features: Tensor, labels: Tensor, ridge: float) -> None:
    """Fit a linear layer to features (N, F) and labels (N,) in place: cross-entropy plus `ridge`
    times the squared weights, to convergence."""
    optimiser = torch.optim.LBFGS(
        head.parameters(), max_iter=300, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(head(features), labels) + ridge * head.weight.square().sum()
        value.backward()
        return value

    optimiser.step(closure)
