"""A layer rewritten in a network, and latents turned."""

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist.interventions import rewritten, turned
from lazy_artist.models import build
from lazy_artist.sae import SparseAutoencoder


def by_hand() -> SparseAutoencoder:
    """TopK with k = 1, width 2, three latents along (1, 0), (0, 1), (-1, 0); encoder as decoder."""
    sae = SparseAutoencoder(2, 3, "topk", 1)
    rows = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    for weights in (sae.encoder, sae.decoder):
        weights.data.copy_(rows)
    return sae


def test_turning_all_dials_to_one_changes_nothing_and_what_is_missed_stays():
    sae = by_hand()
    x = torch.tensor([[2.0, 1.0]])  # (0, 1) is missed
    torch.testing.assert_close(turned(sae, np.ones(3))(x), x)
    torch.testing.assert_close(turned(sae, np.zeros(3))(x), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(turned(sae, np.array([2.0, 1, 1]))(x), torch.tensor([[4.0, 1.0]]))
    held = turned(sae, np.zeros(3), np.array([0.5, 0.0, 0.0]))(x)
    torch.testing.assert_close(held, torch.tensor([[0.5, 1.0]]))
    half = turned(sae, np.array([0.5, 1, 1]), np.array([1.0, 0, 0]))(x)
    torch.testing.assert_close(half, torch.tensor([[1.5, 1.0]]))


@pytest.mark.parametrize("layer", ["block1", "block3", "head"])
def test_rewriting_a_layer_reaches_every_place_and_ends(layer):
    model, images = build("cnn", 0).eval(), torch.rand(3, 3, 28, 28)
    seen = {}

    def rewrite(x):
        seen["shape"] = x.shape
        return 0 * x

    with torch.no_grad():
        before = model(images)
        with rewritten(model, layer, rewrite):
            silent = model(images)
        assert torch.equal(model(images), before)
    width, places = {"block1": (32, 196), "block3": (128, 49), "head": (10, 1)}[layer]
    assert seen["shape"] == (3 * places, width)
    if layer == "block3":
        torch.testing.assert_close(silent, model.head.bias.detach().expand(3, 10))
    assert torch.equal(silent[0], silent[1])


def test_rewriting_keeps_rows_and_places_together():
    """A rewrite of one channel moves that channel alone, at all places."""
    model = nn.Sequential(nn.Identity())
    maps = torch.rand(2, 3, 4, 5)
    with rewritten(model, "0", lambda x: x + torch.tensor([0.0, 1.0, 0.0])):
        moved = model(maps)
    torch.testing.assert_close(moved[:, 1], maps[:, 1] + 1)
    torch.testing.assert_close(moved[:, [0, 2]], maps[:, [0, 2]])


def test_no_such_layer():
    with (
        pytest.raises(ValueError, match="block3"),
        rewritten(build("cnn", 0), "block4", lambda x: x),
    ):
        pass
