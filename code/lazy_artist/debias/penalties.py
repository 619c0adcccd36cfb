"""Methods that add a term to the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import N_CLASSES, Split
from lazy_artist.config import DEBIAS_RECIPES, device
from lazy_artist.debias.protocol import Trained, train_by_recipe, train_new
from lazy_artist.debias.views import mix_colours
from lazy_artist.models import build

GUIDED = 32  # images a batch whose gradient the saliency guide looks at
WARM_UP = 0.3  # share of the steps before the IRM penalty has its weight


def colour_penalty(
    split: Split, seed: int, arch: str, epoch_scale: float, weight: float, **setting: Any
) -> Trained:
    """cross-entropy(z) + weight * mean squared difference of the centred logits of the image and of
    its recoloured self. The cross-entropy sees the original alone."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        logits = model(torch.cat([images, mix_colours(images)])).float()
        here, there = (logits - logits.mean(1, keepdim=True)).chunk(2)
        return F.cross_entropy(here, labels) + weight * F.mse_loss(here, there)

    return train_new(split, seed, arch, epoch_scale, loss=loss, **setting)


def saliency_guide(
    split: Split, seed: int, arch: str, epoch_scale: float, weight: float, **setting: Any
) -> Trained:
    """cross-entropy + weight * share of chroma in the squared gradient of the true class's centred
    logit, the measure that chapter 4 calls chroma reliance, on a part of each batch (in the spirit
    of right for the right reasons, Ross et al. 2017, arXiv:1703.03717)."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        watched = images[:GUIDED].detach().requires_grad_()
        part = model(watched).float()
        score = part.gather(1, labels[:GUIDED, None])[:, 0] - part.mean(1)
        (gradient,) = torch.autograd.grad(score.sum(), watched, create_graph=True)
        whole = F.cross_entropy(model(images).float(), labels)
        return whole + weight * chroma_share(gradient).mean()

    return train_new(split, seed, arch, epoch_scale, loss=loss, **setting)


def chroma_share(gradient: Tensor) -> Tensor:
    """Share (B,) of a squared gradient (B, 3, H, W) that does not lie along grey (1, 1, 1)."""
    gradient = gradient.float()
    mean = gradient.mean(1, keepdim=True)
    chroma = (gradient - mean).square().sum((1, 2, 3))
    return chroma / (chroma + 3 * mean.square().sum((1, 2, 3)) + 1e-12)


class _Reverse(torch.autograd.Function):
    """The identity, its gradient reversed and scaled (Ganin & Lempitsky 2015, arXiv:1409.7495)."""

    @staticmethod
    def forward(ctx, features: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return features.view_as(features)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradient, None


class _WithHead(nn.Module):
    """A network with a second head, which predicts the colour from its features."""

    def __init__(self, network: nn.Module, seed: int):
        super().__init__()
        self.network = network
        width = network.features(torch.zeros(2, 3, 28, 28, device=device())).shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            head = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, N_CLASSES))
        self.colour = head.to(device())

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


def adversary(
    split: Split, seed: int, arch: str, epoch_scale: float, weight: float, **setting: Any
) -> Trained:
    """Cross-entropy, and that of a second head on the colour, whose gradient is reversed (Kim et
    al. 2019, arXiv:1812.10352; here with plain gradient reversal)."""
    colours = torch.from_numpy(split.colours).to(device())

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        features = model.network.features(images)
        logits = list(model.network.children())[-1](features).float()
        guess = model.colour(_Reverse.apply(features, weight)).float()
        return F.cross_entropy(logits, labels) + F.cross_entropy(guess, colours[index])

    pair = _WithHead(build(arch, seed), seed)
    train_by_recipe(pair, split, seed, arch, epoch_scale, loss=loss, **setting)
    return pair.network, {}


def irm(
    split: Split, seed: int, arch: str, epoch_scale: float, weight: float, **setting: Any
) -> Trained:
    """IRMv1 (Arjovsky et al. 2019, arXiv:1907.02893): in each of two environments the penalty is
    the squared derivative of its risk with respect to a scale of the logits, at 1, without bias as
    the product of the derivatives on two halves of the batch. Half of the aligned images are in the
    second environment, and four fifths of the conflicting ones."""
    rng = np.random.default_rng(seed)
    conflict = split.colours != split.labels
    second = torch.from_numpy(rng.random(len(split)) < np.where(conflict, 0.8, 0.5)).to(device())
    recipe = DEBIAS_RECIPES[arch]
    steps = recipe.epochs * epoch_scale * len(split) / min(recipe.batch_size, len(split))
    warm_up, done = max(1, round(steps * WARM_UP)), 0

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        nonlocal done
        logits = model(images).float()
        factor = weight if done >= warm_up else 1.0
        done += 1
        risk, penalty = logits.new_zeros(()), logits.new_zeros(())
        for where in (second[index], ~second[index]):
            own, slopes = where.nonzero()[:, 0], []
            if len(own) < 2:
                continue
            for half in (own[::2], own[1::2]):
                scale = torch.ones((), device=device(), requires_grad=True)
                part = F.cross_entropy(logits[half] * scale, labels[half])
                slopes += torch.autograd.grad(part, scale, create_graph=True)
            risk = risk + F.cross_entropy(logits[own], labels[own]) / 2
            penalty = penalty + slopes[0] * slopes[1] / 2
        return (risk + factor * penalty) / max(factor, 1.0)

    return train_new(split, seed, arch, epoch_scale, loss=loss, **setting)
