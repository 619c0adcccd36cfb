"""Autoencoders equal those of dictionary-learning with the same weights, and LEACE that of
concept-erasure, by its authors (libraries that serve for this alone; `make bench` installs them).
"""

import numpy as np
import pytest
import torch

from lazy_artist.erasure import leace
from lazy_artist.sae import SparseAutoencoder


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_latents_and_reconstructions_are_those_of_dictionary_learning(kind):
    pytest.importorskip("dictionary_learning", reason="make bench installs it")
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    generator = torch.Generator().manual_seed(1)
    sae = SparseAutoencoder(16, 64, kind, 5, seed=0).requires_grad_(False)
    for weights in (sae.encoder, sae.bias, sae.offset):
        weights += 0.1 * torch.randn(weights.shape, generator=generator)
    sae.threshold.fill_(0.7 if kind == "batchtopk" else 0.0)
    peer = {"topk": AutoEncoderTopK, "batchtopk": BatchTopKSAE}[kind](16, 64, 5)
    peer.requires_grad_(False).encoder.weight.copy_(sae.encoder)
    # theirs encodes what is left after the offset, ours the input itself
    peer.encoder.bias.copy_(sae.bias + sae.encoder @ sae.offset)
    peer.decoder.weight.copy_(sae.decoder.T)
    peer.b_dec.copy_(sae.offset)
    peer.threshold.fill_(float(sae.threshold))
    x = torch.randn(40, 16, generator=generator)
    z = sae.encode(x)
    torch.testing.assert_close(z, peer.encode(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(z), peer(x), rtol=1e-5, atol=1e-5)


def test_leace_is_that_of_concept_erasure():
    peers = pytest.importorskip("concept_erasure", reason="make bench installs it")
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 10, 3000)
    x = rng.normal(size=(3000, 24)) @ rng.normal(size=(24, 24))
    x += 5 * rng.normal(size=(10, 24))[classes] + 2
    labels = torch.nn.functional.one_hot(torch.from_numpy(classes), 10).double()
    # as in the paper: theirs by default shrinks the covariance, and holds the trace down
    plain = dict(shrinkage=False, constrain_cov_trace=False, svd_tol=1e-6)
    theirs = peers.LeaceEraser.fit(torch.from_numpy(x), labels, **plain)
    new = rng.normal(size=(50, 24))
    np.testing.assert_allclose(leace(x, classes)(new), theirs(torch.from_numpy(new)), atol=1e-8)
