"""Interventions: a layer's output rewritten as a network runs, and single latents turned in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lazy_artist.sae import SparseAutoencoder

Rewrite = Callable[[Tensor], Tensor]
"""Activations (M, W) -> (M, W)."""


@contextmanager
def rewritten(model: nn.Module, layer: str, rewrite: Rewrite) -> Iterator[None]:
    """While it lasts, a layer's output passes through `rewrite`, a row for each place of maps (N,
    W, h, w) or each vector (N, W). Raises ValueError for a layer that does not exist."""
    modules = {name: module for name, module in model.named_modules() if name}
    if layer not in modules:
        raise ValueError(f"no layer {layer!r}: the model has {', '.join(modules)}")

    def hook(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        rows = output.movedim(1, -1)
        return rewrite(rows.flatten(0, -2)).reshape(rows.shape).movedim(-1, 1)

    handle = modules[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def turned(sae: SparseAutoencoder, dials: np.ndarray, rest: np.ndarray | float = 0.0) -> Rewrite:
    """Turns latents: z becomes rest + dial * (z - rest), and x moves by what that changes of x', so
    that what the autoencoder misses stays as it was.

    dials: (L,); 1 leaves a latent alone, 0 holds it at `rest` (silent by default), 2 doubles it.
    """
    dials, rest = (torch.as_tensor(value, dtype=torch.float32) for value in (dials, rest))
    return lambda x: x + ((sae.encode(x) - rest) * (dials - 1)) @ sae.directions()
