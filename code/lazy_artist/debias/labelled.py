"""Cures that are told the colour of every training image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import CLASSES, Split
from lazy_artist.debias.protocol import inverse_frequency, plain, run

STEP = 0.02  # how fast group DRO moves its weights
RIDGE = 1e-3  # weight decay of the retrained last layer


def resampling(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """Hypothesis: draw every combination of label and ink equally often, and ink says nothing."""
    weights = inverse_frequency(split.labels, split.colours)
    return plain(split, seed, arch, effort, weights=weights)


def group_dro(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """Hypothesis: minimise the loss of the worst group, and no group can be sacrificed (Sagawa et
    al. 2020, arXiv:1911.08731).

    Groups are the combinations of label and ink, drawn equally often; their weights q grow with
    their losses, q_g <- q_g exp(step * loss_g), and add up to 1.
    """
    groups = torch.from_numpy(split.labels * CLASSES + split.colours)
    q = torch.full((CLASSES * CLASSES,), 1 / CLASSES**2)

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        each = F.cross_entropy(model(images).float(), labels, reduction="none")
        group = groups[index]
        count = torch.bincount(group, minlength=len(q))
        mean = torch.zeros(len(q)).index_add(0, group, each) / count.clamp_min(1)
        q.mul_(torch.exp(STEP * mean.detach()))
        q.div_(q.sum())
        present = count > 0
        return (q[present] * mean[present]).sum() / q[present].sum()

    weights = inverse_frequency(split.labels, split.colours)
    return plain(split, seed, arch, effort, loss=loss, weights=weights)


def last_layer(
    split: Split, seed: int, arch: str, effort: float
) -> tuple[nn.Module, dict[str, Any]]:
    """Hypothesis: a lazy network has learnt shape too and only ignores it, so a new last layer,
    fitted on a balanced set, is enough (DFR, Kirichenko et al. 2023, arXiv:2204.02937).

    Equally many training images of each combination of label and ink are picked, and the last layer
    is fitted on their features by L-BFGS; all other weights stay as ERM left them.
    """
    model, _ = plain(split, seed, arch, effort)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(split))
    cell = (split.labels * CLASSES + split.colours)[order]
    least = np.bincount(cell)[np.unique(cell)].min()
    chosen = np.concatenate([order[cell == c][:least] for c in np.unique(cell)])
    features = torch.from_numpy(run(model, split.images[chosen], features=True))
    labels = torch.from_numpy(split.labels[chosen])
    head = list(model.children())[-1]
    refit(head, features, labels)
    return model, {"balanced images": len(chosen)}


def refit(head: nn.Linear, features: Tensor, labels: Tensor) -> None:
    """Fit a linear layer to features (N, F) and labels (N,) in place: cross-entropy plus `RIDGE`
    times the squared weights, to convergence."""
    optimiser = torch.optim.LBFGS(
        head.parameters(), max_iter=300, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(head(features), labels) + RIDGE * head.weight.square().sum()
        value.backward()
        return value

    optimiser.step(closure)
