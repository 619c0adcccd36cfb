"""Methods that are told the colour of every training image."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import N_CLASSES, Split
from lazy_artist.config import device
from lazy_artist.debias.protocol import Trained, inverse_frequency, train_new
from lazy_artist.evaluate import predict

STEP = 0.02  # how fast group DRO moves its weights
RIDGE = 1e-3  # weight decay of the retrained last layer


def resampling(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """Draw every combination of label and colour equally often."""
    weights = inverse_frequency(split.labels, split.colours)
    return train_new(split, seed, arch, epoch_scale, weights=weights)


def group_dro(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """Minimise the loss of the worst group (Sagawa et al. 2020, arXiv:1911.08731).

    Groups are the combinations of label and colour, drawn equally often; their weights q grow with
    their losses, q_g <- q_g exp(step * loss_g), and add up to 1.
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
        present = count > 0
        return (q[present] * mean[present]).sum() / q[present].sum()

    weights = inverse_frequency(split.labels, split.colours)
    return train_new(split, seed, arch, epoch_scale, loss=loss, weights=weights)


def last_layer(split: Split, seed: int, arch: str, epoch_scale: float) -> Trained:
    """ERM with a new last layer, fitted by L-BFGS on the features of equally many training images
    of each combination of label and colour (DFR, Kirichenko et al. 2023, arXiv:2204.02937)."""
    model, _ = train_new(split, seed, arch, epoch_scale)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(split))
    group = (split.labels * N_CLASSES + split.colours)[order]
    least = np.bincount(group)[np.unique(group)].min()
    chosen = np.concatenate([order[group == g][:least] for g in np.unique(group)])
    features = predict(model, split.images[chosen], precision="low", output="features")
    head = list(model.children())[-1]
    refit(head, *(torch.from_numpy(x).to(device()) for x in (features, split.labels[chosen])))
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
