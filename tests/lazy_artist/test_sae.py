"""Sparse autoencoders: the three kinds, their training, quality, and steering a network by them."""

import numpy as np
import pytest
import torch

from lazy_artist import sae as module
from lazy_artist.models import build
from lazy_artist.sae import (
    SparseAutoencoder,
    fit_autoencoder,
    latent_shares,
    quality,
    rewritten,
    steer,
)

SPARSITY = {"relu": 0.3, "topk": 2, "batchtopk": 2}


def by_hand(kind: str) -> SparseAutoencoder:
    """Width 2, three latents along (1, 0), (0, 1), (-1, 0); encoder as decoder, nothing scaled."""
    sae = SparseAutoencoder(2, 3, kind, 1).requires_grad_(False)
    sae.encoder[:] = sae.decoder[:] = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    return sae


def test_latents_by_hand():
    x = torch.tensor([[2.0, 1.0], [-3.0, -1.0], [0.0, 0.5]])
    for kind, threshold, expected in (
        ("relu", 0, [[2, 1, 0], [0, 0, 3], [0, 0.5, 0]]),
        ("topk", 0, [[2, 0, 0], [0, 0, 3], [0, 0.5, 0]]),
        ("batchtopk", 1, [[2, 0, 0], [0, 0, 3], [0, 0, 0]]),  # above 1: not the 1 of the first
    ):
        sae = by_hand(kind)
        sae.threshold.fill_(threshold)
        np.testing.assert_allclose(sae.encode(x), expected, atol=1e-6)
    sae = by_hand("relu")
    sae.centre.copy_(torch.tensor([10.0, -4.0]))
    sae.scale.fill_(2.0)
    sae.offset[0] = 0.5
    z = sae.encode(torch.tensor([[14.0, -2.0]]))  # (2, 1) scaled
    torch.testing.assert_close(z, torch.tensor([[2.0, 1.0, 0.0]]))
    torch.testing.assert_close(sae.decode(z), torch.tensor([[15.0, -2.0]]))  # moved by the offset


def test_whose_a_crosscoders_latents_are_by_hand():
    """Three channels of each network. One latent in the first, one in the second, one half as long
    in the second as in the first, one as long in both though its decoder knows the first alone,
    and two that are never active."""
    sae = SparseAutoencoder(6, 6, "relu", 1).requires_grad_(False)
    eye = torch.eye(6)
    rows = [eye[0], eye[3], (2 * eye[1] + eye[4]) / 5**0.5, eye[2], eye[5], eye[5]]
    sae.decoder[:] = torch.stack(rows)
    sae.encoder[:] = torch.stack([eye[0], eye[3], eye[1] * 5**0.5 / 2, eye[2], 0 * eye[5], -eye[5]])
    sae.scale.fill_(4.0)
    sae.centre[3] = 7
    x = torch.zeros(9, 6)
    for k, direction in enumerate([*rows[:3], eye[2] + eye[5]]):
        x[2 * k : 2 * k + 2] = torch.tensor([[1.0], [3.0]]) * direction
    found = latent_shares(sae, 4 * x.numpy() + sae.centre.numpy(), 3)
    np.testing.assert_allclose(found, [0, 1, 0.25, 0.5, np.nan, np.nan], atol=1e-6)


def test_quality_and_stability_by_hand():
    x = torch.tensor([[2.0, 1.0], [2.0, -1.0]])
    # x' is (2, 0) twice: all of the variance is missed; with ReLU it is (2, 1) and (2, 0)
    assert quality(by_hand("topk"), x) == pytest.approx({"l0": 1.0, "fvu": 1.0, "dead": 2 / 3})
    assert quality(by_hand("relu"), x) == pytest.approx({"l0": 1.5, "fvu": 0.5, "dead": 1 / 3})
    a, b = by_hand("topk"), by_hand("topk")
    # greedily (1, 0) would take (0.8, 0.6), which leaves (0, 1) a cosine of -0.8
    b.decoder[:2] = torch.tensor([[0.8, 0.6], [0.6, -0.8]])
    assert module.matched_cosine(a, b) == pytest.approx((0.6 + 0.6 + 1) / 3)


@pytest.mark.parametrize("kind", SPARSITY)
def test_training_explains_sums_of_two_of_twenty_directions(kind):
    rng = np.random.default_rng(0)
    z = rng.uniform(1, 3, (3000, 20)) * (rng.random((3000, 20)).argsort(1) < 2)
    x = torch.tensor(z @ rng.normal(size=(20, 12)), dtype=torch.float32)
    sae = fit_autoencoder(x, 24, kind, SPARSITY[kind], seed=0, steps=200, batch=256)
    assert quality(sae, x)["fvu"] < 0.1 and not sae.training
    np.testing.assert_allclose(sae.decoder.detach().norm(dim=1), 1, rtol=1e-5)


def test_the_threshold_of_batchtopk_is_the_mean_of_the_last_tenth_of_steps(monkeypatch):
    """At a rate of 0 the weights stay as they start, and the smallest value that stays of a batch
    of 20 is the 40th largest (k = 2). Two batches a pass: the last 2 of 20 steps are the 10th."""
    monkeypatch.setattr(module, "low_precision", lambda *_: torch.float32)
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(5)) + 3
    sae = fit_autoencoder(x, 9, "batchtopk", 2, seed=7, steps=20, batch=20, learning_rate=0.0)
    start = SparseAutoencoder(6, 9, "batchtopk", 2, seed=7).decoder.detach()
    u = (x - x.mean(0)) / (x - x.mean(0)).square().mean().sqrt()
    generator = torch.Generator().manual_seed(7)
    last = [torch.randperm(40, generator=generator) for _ in range(10)][-1].view(2, 20)
    smallest = (u[last] @ start.T).flatten(1).topk(40).values[:, -1]
    assert float(sae.threshold) == pytest.approx(float(smallest.mean()), rel=1e-5)


def test_the_rate_falls_in_the_last_third_and_gradients_are_of_one_length(monkeypatch):
    seen = []

    class Recorder(torch.optim.Adam):
        def step(self, *args):
            rate, weights = self.param_groups[0]["lr"], self.param_groups[0]["params"]
            along = (weights[0].grad * weights[0].detach()).sum(1).abs().max()
            length = torch.nn.utils.get_total_norm([w.grad for w in weights])
            seen.append((rate, float(along), float(length)))
            return super().step(*args)

    monkeypatch.setattr(torch.optim, "Adam", Recorder)
    x = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    fit_autoencoder(x, 24, "topk", 2, seed=0, steps=9, batch=50, learning_rate=0.03)
    rates, along, lengths = zip(*seen, strict=True)
    np.testing.assert_allclose(rates, [0.03] * 7 + [0.02, 0.01])
    np.testing.assert_allclose(lengths, 1e-3, rtol=1e-4)
    assert max(along) < 1e-9


def plain_loss(sae: SparseAutoencoder, u: torch.Tensor, dead: list[int]):
    """The loss, word by word, for autograd: dense, and with PyTorch's own k largest; and z."""
    p = (u @ sae.encoder.T + sae.bias).relu()
    rows = p if sae.kind == "topk" else p.flatten()[None]
    k = sae.sparsity * len(u) // len(rows)
    z = p if sae.kind == "relu" else p * (p >= rows.topk(int(k)).values[:, -1:])
    missing = u - z @ sae.decoder - sae.offset
    loss, rest = missing.square().mean(), missing.detach()
    if sae.kind == "relu":
        return loss + sae.sparsity * z.sum() / u.numel(), z
    error = (rest - p[:, dead] @ sae.decoder[dead]).square().sum()
    return loss + bool(dead) * error / rest.square().sum() / 32, z


@pytest.mark.parametrize("way", ["_gradients", "_dense_gradients"])  # the latter on accelerators
@pytest.mark.parametrize("dead", [[], [1, 4, 7]])
@pytest.mark.parametrize("kind", SPARSITY)
def test_gradients_are_those_of_the_loss(kind, dead, way, monkeypatch):
    monkeypatch.setattr(module, "low_precision", lambda *_: torch.float32)
    generator = torch.Generator().manual_seed(0)
    sae = SparseAutoencoder(6, 20, kind, SPARSITY[kind])
    for weights in sae.parameters():
        weights.data += 0.1 * torch.randn(weights.shape, generator=generator)
    sae.bias.data[2] = -100  # never fires
    u = torch.randn(40, 6, generator=generator)
    loss, z = plain_loss(sae, u, dead)
    expected = torch.autograd.grad(loss, list(sae.parameters()))
    numbers = np.array(dead, dtype=int)
    fired, least = getattr(module, way)(sae, u, numbers if way[1] == "g" else torch.tensor(numbers))
    for weights, gradient in zip(sae.parameters(), expected, strict=True):
        torch.testing.assert_close(weights.grad, gradient, rtol=1e-4, atol=1e-6)
    assert not fired[2] and fired.tolist() == (z > 0).any(0).tolist()
    assert least == (0 if kind == "relu" else pytest.approx(z.detach()[z > 0].min().item()))


def test_latents_are_scaled_and_what_is_missed_stays():
    sae, x = by_hand("topk"), torch.tensor([[2.0, 1.0]])  # (0, 1) is missed
    for scale, rest, moved in ((1, 0, 2), (0, 0, 0), (2, 0, 4), (0, 0.5, 0.5), (0.5, 1, 1.5)):
        steered = steer(sae, np.array([scale, 1, 1]), np.array([rest, 0, 0]))
        torch.testing.assert_close(steered(x), torch.tensor([[moved, 1.0]]))


def test_rewriting_reaches_every_place_of_a_layer():
    maps, shapes = torch.rand(2, 3, 4, 5), []
    model = torch.nn.Sequential(torch.nn.Identity())
    with rewritten(model, "0", lambda x: x + torch.arange(3)):
        torch.testing.assert_close(model(maps), maps + torch.arange(3)[:, None, None])
    model, images = build("cnn", 0).eval(), torch.rand(3, 3, 28, 28)
    for layer, bias in (("block3", model.head.bias), ("pooled", model.head.bias), ("head", 0)):
        with rewritten(model, layer, lambda x: shapes.append(x.shape) or 0 * x):
            torch.testing.assert_close(model(images), torch.zeros(3, 10) + bias)
    assert shapes == [(3 * 49, 128), (3, 128), (3, 10)]


def test_what_cannot_be_is_refused():
    for arguments, match in (
        ((4, 3, "topk", 1), "fewer than the input's 4"),
        ((4, 8, "topk", 9), r"1\.\.8"),
        ((4, 8, "batchtopk", 2.5), "whole number"),
        ((4, 8, "relu", float("nan")), "l1 > 0"),
        ((4, 8, "gated", 1), "relu, topk, batchtopk"),
    ):
        with pytest.raises(ValueError, match=match):
            SparseAutoencoder(*arguments)
    nan = torch.tensor([[0.0, float("nan"), 0, 0]])
    for x, match in ((torch.empty(0, 4), "N >= 1"), (torch.zeros(3), r"\(N, W\)"), (nan, "NaN")):
        with pytest.raises(ValueError, match=match):
            quality(SparseAutoencoder(4, 8, "topk", 1), x)
