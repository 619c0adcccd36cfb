"""Sparse autoencoders from first principles: training, quality, and turning single latents.

An activation x of width W becomes a sum of a few of many directions (Bricken et al. 2023, "Towards
Monosemanticity"). With u = (x - centre) / scale, of mean square 1,

    z = sparse(u E^T + e),    u' = z D + d,    x' = u' * scale + centre

for L latents z >= 0 and rows of D of length 1. Three ways to be sparse (`KINDS`):

    relu       sparse = ReLU; to the loss |u - u'|^2 / W comes l1 * |z|_1 / W (Bricken et al.)
    topk       of each input the k largest stay (Gao et al. 2024, arXiv:2406.04093)
    batchtopk  of a batch of B inputs the B * k largest stay; after training all above a threshold,
               the mean over batches of the smallest that stays (Bussmann et al. 2024,
               arXiv:2412.06410)

The last two revive dead latents by Gao et al.'s auxiliary loss. E starts as D; what lies along a
row of D is taken off its gradient before each step of Adam, and rows are renormalised after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.training import arithmetic

KINDS = ("relu", "topk", "batchtopk")
AUXILIARY, REVIVED, PATIENCE = 1 / 32, 64, 50  # weight; latents an input wakes; steps of silence
Rewrite = Callable[[Tensor], Tensor]
"""Activations (M, W) -> (M, W)."""


class SparseAutoencoder(nn.Module):
    """Encodes activations (N, W) into latents (N, L) >= 0 and decodes them again.

    sparsity: k for "topk" and "batchtopk", a whole number in 1..L; the weight l1 > 0 for "relu".
    Raises ValueError for an unknown kind, L below W, or a sparsity out of range.
    """

    def __init__(self, width: int, latents: int, kind: str, sparsity: float, seed: int = 0):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"unknown autoencoder {kind!r}: choose one of {', '.join(KINDS)}")
        if latents < width:
            raise ValueError(f"{latents} latents are fewer than the input's {width}: take more")
        if kind != "relu" and not (sparsity % 1 == 0 and 1 <= sparsity <= latents):
            raise ValueError(f"k must be a whole number in 1..{latents} latents, not {sparsity}")
        if not sparsity > 0:
            raise ValueError(f"the weight l1 must be positive, not {sparsity}")
        self.kind, self.sparsity = kind, sparsity if kind == "relu" else int(sparsity)
        rows = torch.randn(latents, width, generator=torch.Generator().manual_seed(seed))
        self.decoder = nn.Parameter(F.normalize(rows))  # D (L, W)
        self.encoder = nn.Parameter(self.decoder.detach().clone())  # E (L, W)
        self.bias = nn.Parameter(torch.zeros(latents))  # e
        self.offset = nn.Parameter(torch.zeros(width))  # d
        for name, start in (("centre", torch.zeros(width)), ("scale", torch.ones(()))):
            self.register_buffer(name, start)
        self.register_buffer("threshold", torch.zeros(()))

    def encode(self, x: Tensor) -> Tensor:
        """Latents (N, L) >= 0 of activations (N, W)."""
        p = F.linear((x - self.centre) / self.scale, self.encoder, self.bias)
        if self.kind == "topk":
            values, index = p.topk(self.sparsity, sorted=False)
            return torch.zeros_like(p).scatter_(1, index, values.relu())
        return F.threshold(p, float(self.threshold), 0.0)  # of "relu" the threshold stays 0

    def decode(self, z: Tensor) -> Tensor:
        """Activations (N, W) of latents (N, L)."""
        return z @ self.directions() + self.offset * self.scale + self.centre

    def directions(self) -> Tensor:
        """What a unit of each latent adds to the activation: (L, W)."""
        return self.decoder * self.scale


def fit(
    x: Tensor,
    latents: int,
    kind: str,
    sparsity: float,
    *,
    seed: int,
    steps: int,
    batch: int = 2048,
    learning_rate: float = 2e-3,
) -> SparseAutoencoder:
    """An autoencoder trained on activations float32 (N, W), in eval mode.

    Inputs are drawn without replacement, pass by pass; the learning rate falls linearly to 0 over
    the last third. A latent silent for `PATIENCE` steps counts as dead, and the auxiliary loss asks
    the dead ones to explain what is missing. The same arguments give the same autoencoder.

    Raises ValueError for activations that are empty, not (N, W) or not finite, for less than one
    step, and as `SparseAutoencoder` does.
    """
    check_activations(x)
    if steps < 1:
        raise ValueError(f"{steps} steps are no training at all")
    model = SparseAutoencoder(x.shape[1], latents, kind, sparsity, seed)
    model.centre.copy_(x.mean(0))
    model.scale.copy_(x.var(0, correction=0).mean().sqrt().clamp(min=1e-12))
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    silent, order = torch.zeros(latents, dtype=torch.long), torch.empty(0, dtype=torch.long)
    batch, smallest = min(batch, len(x)), []
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(x), generator=generator)
        index, order = order[:batch], order[batch:]
        optimiser.param_groups[0]["lr"] = learning_rate * min(1, 3 * (steps - step) / steps)
        optimiser.zero_grad()
        u = (x[index] - model.centre) / model.scale
        loss, fired, least = _loss(model, u, (silent >= PATIENCE).nonzero()[:, 0])
        loss.backward()
        smallest.append(least)
        silent = torch.where(fired, 0, silent + 1)
        with torch.no_grad():
            slope, rows = model.decoder.grad, model.decoder
            slope -= (slope * rows).sum(1, keepdim=True) * rows
            optimiser.step()
            rows.copy_(F.normalize(rows))
    if kind == "batchtopk":  # of the last steps, when the rate was low
        model.threshold.copy_(torch.stack(smallest[-max(1, steps // 10) :]).mean())
    return model.eval()


def _loss(model: SparseAutoencoder, u: Tensor, dead: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss on scaled inputs (B, W) given the numbers of dead latents, which latents fired, bool
    (L,), and the smallest pre-activation that stayed.

    All products are dense: in bfloat16 they cost less than gathering the few latents that stay.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=arithmetic() == torch.bfloat16):
        p = F.linear(u, model.encoder, model.bias)  # (B, L)
        z, least = _largest(p, model.kind, model.sparsity)
        missing = u - model.offset - z @ model.decoder
        loss, fired = missing.square().mean(), z.detach().amax(0) > 0
        if model.kind == "relu":
            loss = loss + model.sparsity * z.sum(1, dtype=torch.float32).mean() / u.shape[1]
        elif len(dead):
            woken, _ = _largest(p.index_select(1, dead), "topk", min(REVIVED, len(dead)))
            rest = missing.detach()
            error = (rest - woken @ model.decoder[dead]).square().sum()
            loss = loss + AUXILIARY * error / rest.square().sum()
    return loss, fired, least


def _largest(p: Tensor, kind: str, k: float) -> tuple[Tensor, Tensor]:
    """What stays of pre-activations (B, L), the others being 0, and the smallest of it.

    Positive floating-point numbers are ordered as their bits are, and whole numbers are the faster
    to partition. Equals of the k-th largest stay with it.
    """
    if kind == "relu":
        return p.relu(), torch.zeros(())
    bits = p.detach().view(torch.int16 if p.element_size() == 2 else torch.int32).numpy()
    if kind == "batchtopk":
        bits = bits.reshape(1, -1)
        k = k * len(p)
    place = bits.shape[1] - k
    least = torch.from_numpy(np.partition(bits, place, axis=1)[:, place, None]).view(p.dtype)
    return torch.where(p >= least, p.relu(), 0), least.min().float().relu()


def quality(sae: SparseAutoencoder, x: Tensor) -> dict[str, float]:
    """On activations (N, W): "l0", the mean number of active latents; "fvu", the fraction of
    variance unexplained, sum |x - x'|^2 / sum |x - mean|^2; "dead", the share never active."""
    check_activations(x)
    active, error = torch.zeros(len(sae.bias)), 0.0
    with torch.inference_mode():
        for part in x.split(4096):
            z = sae.encode(part)
            active += (z > 0).sum(0)
            error += float((part - sae.decode(z)).square().sum())
    fvu = error / float((x - x.mean(0)).square().sum())
    return {
        "l0": float(active.sum()) / len(x),
        "fvu": fvu,
        "dead": float((active == 0).sum() / len(active)),
    }


def matched_cosine(a: SparseAutoencoder, b: SparseAutoencoder) -> float:
    """Stability: mean cosine of the decoder rows of two autoencoders, paired one to one so that it
    is largest (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    cosines = (a.decoder @ b.decoder.T).detach().numpy()
    return float(cosines[linear_sum_assignment(-cosines)].mean())


def check_activations(x: Tensor) -> None:
    """Raises ValueError unless activations are (N, W), at least one, and finite."""
    if x.ndim != 2 or not len(x):
        raise ValueError(f"activations must be (N, W) with N >= 1, not {tuple(x.shape)}")
    if not torch.isfinite(torch.stack(x.aminmax())).all():
        raise ValueError("activations must be finite: found NaN or infinity")


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
