"""Sparse autoencoders: the three kinds, their training, and quality."""

import numpy as np
import pytest
import torch

from lazy_artist import sae as module
from lazy_artist.sae import KINDS, SparseAutoencoder, _slopes, fit, quality

SPARSITY = {"relu": 0.3, "topk": 2, "batchtopk": 2}


def sparse_data(count: int = 3000, width: int = 12, latents: int = 20, seed: int = 0):
    """Activations that are sums of two of twenty directions, and the directions."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(latents, width))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    z = np.zeros((count, latents))
    for row in z:
        row[rng.choice(latents, 2, replace=False)] = rng.uniform(1, 3, 2)
    return torch.tensor(z @ rows, dtype=torch.float32), rows


def by_hand(kind: str, sparsity: float) -> SparseAutoencoder:
    """Width 2, three latents along (1, 0), (0, 1), (-1, 0); encoder as decoder, nothing scaled."""
    sae = SparseAutoencoder(2, 3, kind, sparsity)
    rows = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    for weights in (sae.encoder, sae.decoder):
        weights.data.copy_(rows)
    return sae


@pytest.mark.parametrize("kind", KINDS)
def test_latents_by_hand(kind):
    sae = by_hand(kind, 1)
    x = torch.tensor([[2.0, 1.0], [-3.0, -1.0], [0.0, 0.5]])
    expected = {
        "relu": [[2, 1, 0], [0, 0, 3], [0, 0.5, 0]],
        "topk": [[2, 0, 0], [0, 0, 3], [0, 0.5, 0]],
        "batchtopk": [[2, 0, 0], [0, 0, 3], [0, 0, 0.0]],
    }
    if kind == "batchtopk":
        sae.threshold.fill_(1.0)  # not above it: the 1 of the first input
    torch.testing.assert_close(
        sae.encode(x), torch.tensor(expected[kind], dtype=torch.float32), rtol=0, atol=1e-6
    )


def test_input_scaling_and_offset_are_undone():
    sae = by_hand("relu", 1)
    sae.centre.copy_(torch.tensor([10.0, -4.0]))
    sae.scale.fill_(2.0)
    sae.offset.data.copy_(torch.tensor([0.5, 0.0]))
    x = torch.tensor([[14.0, -2.0]])  # (2, 1) scaled: reproduced, and moved by the offset
    z = sae.encode(x)
    torch.testing.assert_close(z, torch.tensor([[2.0, 1.0, 0.0]]))
    torch.testing.assert_close(sae.decode(z), torch.tensor([[15.0, -2.0]]))
    torch.testing.assert_close(sae.directions()[0], torch.tensor([2.0, 0.0]))


def test_quality_by_hand():
    sae = by_hand("topk", 1)
    x = torch.tensor([[2.0, 1.0], [2.0, -1.0]])  # x' = (2, 0) twice: all of the variance is missed
    assert quality(sae, x) == pytest.approx({"l0": 1.0, "fvu": 1.0, "dead": 2 / 3})
    sae = by_hand("relu", 1)  # x' = (2, 1) and (2, 0)
    assert quality(sae, x) == pytest.approx({"l0": 1.5, "fvu": 0.5, "dead": 1 / 3})


@pytest.mark.parametrize("kind", KINDS)
def test_training_explains_the_variance_and_keeps_rows_of_length_one(kind):
    x, _ = sparse_data()
    sae = fit(x, 24, kind, SPARSITY[kind], seed=0, steps=400, batch=256, learning_rate=1e-2)
    found = quality(sae, x)
    assert found["fvu"] < 0.1 and found["dead"] < 0.5
    np.testing.assert_allclose(sae.decoder.detach().norm(dim=1), 1, rtol=1e-5)
    assert not sae.training
    z = sae.encode(x)
    assert float(z.detach().min()) >= 0
    if kind == "topk":
        assert int((z > 0).sum(1).max()) <= 2
    if kind == "batchtopk":
        assert found["l0"] == pytest.approx(2, abs=0.3)


def test_topk_finds_the_directions_that_made_the_data():
    x, rows = sparse_data(count=6000)
    sae = fit(x, 24, "topk", 2, seed=0, steps=900, batch=256, learning_rate=1e-2)
    cosines = rows @ sae.decoder.detach().numpy().T
    assert np.mean(cosines.max(1) > 0.95) >= 0.8


def test_scale_of_the_input_changes_nothing():
    x, _ = sparse_data()
    a = fit(x, 24, "topk", 2, seed=0, steps=50, batch=256)
    b = fit(1000 * x, 24, "topk", 2, seed=0, steps=50, batch=256)
    assert quality(a, x)["fvu"] == pytest.approx(quality(b, 1000 * x)["fvu"], rel=0.02)


def test_the_same_seed_gives_the_same_autoencoder_and_another_seed_another():
    x, _ = sparse_data(500)
    a, b, c = (fit(x, 24, "topk", 2, seed=seed, steps=20, batch=100) for seed in (0, 0, 1))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.decoder, c.decoder)


def plain_loss(sae: SparseAutoencoder, u: torch.Tensor, dead: list[int]) -> torch.Tensor:
    """The loss, word by word, for autograd: dense, and with PyTorch's own k largest."""
    p = (u @ sae.encoder.T + sae.bias).relu()
    flat = p if sae.kind == "topk" else p.flatten()
    k = sae.sparsity * (1 if sae.kind == "topk" else len(u))
    z = p if sae.kind == "relu" else p * (p >= flat.topk(k).values[..., -1:])
    missing = u - z @ sae.decoder - sae.offset
    loss = missing.square().mean()
    if sae.kind == "relu":
        return loss + sae.sparsity * z.sum() / u.numel()
    if dead:
        rest = missing.detach()
        error = (rest - p[:, dead] @ sae.decoder[dead]).square().sum()
        loss = loss + error / rest.square().sum() / 32
    return loss


@pytest.mark.parametrize("dead", [[], [1, 4, 7]])
@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_those_of_the_loss(kind, dead, monkeypatch):
    monkeypatch.setattr(module, "arithmetic", lambda: torch.float32)
    generator = torch.Generator().manual_seed(0)
    sae = SparseAutoencoder(6, 20, kind, SPARSITY[kind])
    with torch.no_grad():
        for weights in sae.parameters():
            weights += 0.1 * torch.randn(weights.shape, generator=generator)
    u = torch.randn(40, 6, generator=generator)
    expected = torch.autograd.grad(plain_loss(sae, u, dead), list(sae.parameters()))
    _slopes(sae, u, np.array(dead, dtype=int))
    for weights, slope in zip(sae.parameters(), expected, strict=True):
        torch.testing.assert_close(weights.grad, slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_the_auxiliary_loss_reaches_dead_latents_and_no_other_silent_ones(kind):
    sae = SparseAutoencoder(4, 8, kind, 1, seed=0)
    sae.bias.data[2:] = -100  # only the first two can ever be among the largest
    u = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    sae.bias.data[5] = 0.0  # counted as dead below: may explain what is missing
    fired, least = _slopes(sae, u, np.array([], dtype=int))
    assert not fired[[2, 3, 4, 6, 7]].any() and 0 < least < np.inf
    before = sae.encoder.grad
    _slopes(sae, u, np.array([4, 5]))
    moved = (sae.encoder.grad - before).abs().sum(1)
    assert moved[5] > 0 and (moved[[0, 1, 2, 3, 4, 6, 7]] == 0).all()


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((4, 3, "topk", 1), "fewer than the input's 4"),
        ((4, 8, "topk", 9), r"1\.\.8"),
        ((4, 8, "topk", 0), r"1\.\.8"),
        ((4, 8, "batchtopk", 2.5), "whole number"),
        ((4, 8, "relu", 0.0), "l1 > 0"),
        ((4, 8, "relu", float("nan")), "l1 > 0"),
        ((4, 8, "gated", 1), "relu, topk, batchtopk"),
    ],
)
def test_autoencoders_that_cannot_be(arguments, match):
    with pytest.raises(ValueError, match=match):
        SparseAutoencoder(*arguments)


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (torch.empty(0, 4), "at least|N >= 1"),
        (torch.zeros(3), r"\(N, W\)"),
        (torch.tensor([[0.0, float("nan"), 0, 0]]), "NaN"),
    ],
)
def test_activations_that_cannot_be(x, match):
    with pytest.raises(ValueError, match=match):
        fit(x, 8, "topk", 1, seed=0, steps=1)
    with pytest.raises(ValueError, match=match):
        quality(SparseAutoencoder(4, 8, "topk", 1), x)


def test_no_step():
    with pytest.raises(ValueError, match="no training"):
        fit(torch.zeros(3, 4), 8, "topk", 1, seed=0, steps=0)
