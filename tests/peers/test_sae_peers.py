"""Sparse autoencoders equal those of dictionary-learning with the same weights (the library serves
for this comparison alone)."""

import pytest
import torch

from lazy_artist.sae import SparseAutoencoder


@pytest.mark.parametrize("kind", ["topk", "batchtopk"])
def test_latents_and_reconstructions_are_those_of_dictionary_learning(kind):
    pytest.importorskip("dictionary_learning", reason="pip install dictionary-learning")
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK

    generator = torch.Generator().manual_seed(1)
    sae = SparseAutoencoder(16, 64, kind, 5, seed=0).requires_grad_(False)
    sae.encoder += 0.1 * torch.randn(64, 16, generator=generator)
    sae.bias += 0.1 * torch.randn(64, generator=generator)
    sae.offset += torch.randn(16, generator=generator)
    sae.threshold.fill_(0.7 if kind == "batchtopk" else 0.0)
    x = torch.randn(40, 16, generator=generator)
    peer = {"topk": AutoEncoderTopK, "batchtopk": BatchTopKSAE}[kind](16, 64, 5)
    peer = peer.requires_grad_(False)
    peer.encoder.weight.copy_(sae.encoder)
    # theirs encodes what is left after the offset, ours the input itself
    peer.encoder.bias.copy_(sae.bias + sae.encoder @ sae.offset)
    peer.decoder.weight.copy_(sae.decoder.T)
    peer.b_dec.copy_(sae.offset)
    peer.threshold.fill_(float(sae.threshold))
    z = sae.encode(x)
    assert 0 < float((z > 0).float().mean()) < 0.5
    torch.testing.assert_close(z, peer.encode(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(z), peer(x), rtol=1e-5, atol=1e-5)
