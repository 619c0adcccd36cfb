"""Sparse autoencoders from first principles: training, quality, and steering a network by them.

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

Gradients are clipped (Pascanu et al. 2013, arXiv:1211.5063) to a length that all exceed: theirs
falls fortyfold in the first hundred steps, and Adam, which remembers squares for a thousand, would
go on with steps too short by as much.
"""

from __future__ import annotations

import math
import warnings
from contextlib import AbstractContextManager

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from lazy_artist.config import device
from lazy_artist.forward import Rewrite, as_tensor, hooked
from lazy_artist.interface import Array, check_number, public, to_array
from lazy_artist.training import low_precision

KINDS = ("relu", "topk", "batchtopk")
# weight of the auxiliary loss; latents that an input wakes; steps after which one counts as dead
AUXILIARY, REVIVED, PATIENCE = 1 / 32, 64, 50
LENGTH = 1e-3  # of all gradients together


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
        if not (sparsity > 0 if kind == "relu" else sparsity in range(1, latents + 1)):
            needs = "a weight l1 > 0" if kind == "relu" else f"a whole number k in 1..{latents}"
            raise ValueError(f"{kind} needs {needs}, not {sparsity}")
        self.kind, self.sparsity = kind, sparsity if kind == "relu" else int(sparsity)
        rows = torch.randn(latents, width, generator=torch.Generator().manual_seed(seed))
        self.decoder = nn.Parameter(F.normalize(rows))  # D (L, W)
        self.encoder = nn.Parameter(self.decoder.detach().clone())  # E (L, W)
        self.bias = nn.Parameter(torch.zeros(latents))  # e
        self.offset = nn.Parameter(torch.zeros(width))  # d
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("scale", torch.ones(()))
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


@public
def fit_autoencoder(
    x: Array, latents: int, kind: str, sparsity: float, *, seed: int, steps: int,
    batch: int = 2048, learning_rate: float = 6e-3,
) -> SparseAutoencoder:  # fmt: skip
    """An autoencoder trained on activations float32 (N, W), in eval mode, on `config.device()`.

    Inputs are drawn without replacement, pass by pass; the learning rate falls linearly to 0 over
    the last third. The auxiliary loss asks latents inactive for `PATIENCE` steps, the dead ones, to
    explain what is missing. The same arguments give the same autoencoder. Raises ValueError for
    activations that are empty, not (N, W) or not finite, for no step, and as `SparseAutoencoder`.
    """
    x, steps = check_activations(x).to(device()), check_number(steps, "steps", 1, whole=True)
    model = SparseAutoencoder(x.shape[1], latents, kind, sparsity, seed).to(x.device)
    model.centre.copy_(x.mean(0))
    model.scale.copy_((x - model.centre).square().mean().sqrt().clamp(min=1e-12))
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    inactive, order = np.zeros(latents, dtype=int), torch.empty(0, dtype=torch.long).to(x.device)
    batch, smallest = min(batch, len(x)), []
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(x), generator=generator).to(x.device)
        index, order = order[:batch], order[batch:]
        optimiser.param_groups[0]["lr"] = learning_rate * min(1, 3 * (steps - step) / steps)
        optimiser.zero_grad()
        u = (x[index] - model.centre) / model.scale
        fired, least = _gradients(model, u, np.flatnonzero(inactive >= PATIENCE))
        smallest.append(least)
        inactive = np.where(fired, 0, inactive + 1)
        with torch.no_grad():
            gradient, rows = model.decoder.grad, model.decoder
            gradient -= (gradient * rows).sum(1, keepdim=True) * rows
            nn.utils.clip_grad_norm_(model.parameters(), LENGTH)
            optimiser.step()
            rows.copy_(F.normalize(rows))
    if kind == "batchtopk":  # of the last steps, when the rate was low
        model.threshold.fill_(np.mean(smallest[-max(1, steps // 10) :]))
    return model.eval()


def _gradients(model: SparseAutoencoder, u: Tensor, dead: np.ndarray) -> tuple[np.ndarray, float]:
    """Sets the gradients of the loss on scaled inputs (B, W), given the numbers of dead latents.
    Returns which latents fired, bool (L,), and the smallest value that stayed. On the processor,
    where few latents stay, the gradients are written by hand: only the choice takes a dense
    product, in `low_precision`; all else is sparse, in float32."""
    weights = (model.encoder, model.bias, model.decoder, model.offset)
    precision = low_precision(u.device)
    if model.kind == "relu" or u.device.type != "cpu":
        with torch.autocast(u.device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            return _dense_gradients(model, u, torch.from_numpy(dead).to(u.device))
    p = F.linear(*(t.detach().to(precision) for t in (u, *weights[:2])))  # (B, L)
    u, encoder, bias, decoder, offset = (t.detach().numpy() for t in (u, *weights))
    gradients = [np.zeros_like(t) for t in (encoder, bias, decoder, offset)]

    def explain(z: sparse.csr_array, target: np.ndarray, weight: float) -> np.ndarray:
        """Fills in z and adds the gradients of weight * |target - z D|^2; returns target - z D."""
        z.data = np.maximum(_dots(z, u, encoder) + bias[z.indices], 0)
        missing = target - z @ decoder
        by_sum, by_z = -2 * weight * missing, z.copy()
        by_z.data = _dots(z, by_sum, decoder) * (z.data > 0)
        parts = (by_z.T @ u, by_z.sum(0), z.T @ by_sum)
        for gradient, part in zip(gradients, parts, strict=False):
            gradient += part
        return missing

    z = _largest(p, model.sparsity, model.kind == "batchtopk")
    missing = explain(z, u - offset, 1 / u.size)
    gradients[3] -= 2 / u.size * missing.sum(0)
    fired = np.bincount(z.indices[z.data > 0], minlength=len(bias)) > 0
    if len(dead):
        woken = _largest(p[:, dead], min(REVIVED, len(dead)))
        woken = sparse.csr_array((woken.data, dead[woken.indices], woken.indptr), shape=z.shape)
        explain(woken, missing, AUXILIARY / np.square(missing).sum())
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = torch.from_numpy(gradient)
    return fired, float(z.data.min(initial=np.inf))


def _dense_gradients(model: SparseAutoencoder, u: Tensor, dead: Tensor) -> tuple[np.ndarray, float]:
    """What `_gradients` does, by automatic differentiation of the loss as it is defined."""
    p, kind = F.linear(u, model.encoder, model.bias).relu(), model.kind

    def keep(p: Tensor, k: int) -> Tensor:
        return torch.where(p >= p.topk(k, dim=-1).values[..., -1:], p, 0)

    if kind == "relu":
        z = p
    elif kind == "topk":
        z = keep(p, model.sparsity)
    else:
        z = keep(p.flatten(), model.sparsity * len(p)).view_as(p)
    missing = u - model.offset - z @ model.decoder
    loss = missing.square().mean()
    if kind == "relu":
        loss = loss + model.sparsity * z.sum(1, dtype=torch.float32).mean() / u.shape[1]
    elif len(dead):
        left = missing.detach()
        woken = keep(p[:, dead], min(REVIVED, len(dead)))
        weight = AUXILIARY / left.square().sum()
        loss = loss + weight * (left - woken @ model.decoder[dead]).square().sum()
    loss.backward()
    z = z.detach()
    least = torch.where(z > 0, z, math.inf).amin() if kind != "relu" else 0.0
    return (z > 0).any(0).cpu().numpy(), float(least)


def _largest(p: Tensor, k: int, together: bool = False) -> sparse.csr_array:
    """Where the k largest of each row of p (B, L), or the B * k largest of all, are as far as they
    are positive: a sparse (B, L), its values yet to be filled in. Equals of the k-th largest stay
    with it. (Positive floating-point numbers are ordered as their bits are, and whole numbers are
    the faster to partition.)"""
    bits = p.view(torch.int16 if p.element_size() == 2 else torch.int32).numpy()
    rows, k = (bits.reshape(1, -1), k * len(p)) if together else (bits, k)
    place = rows.shape[1] - k
    least = np.maximum(np.partition(rows, place, axis=1)[:, place, None], 1)
    stays = np.flatnonzero(bits >= least)
    starts = np.searchsorted(stays, np.arange(len(p) + 1) * p.shape[1])
    values = np.zeros(len(stays), np.float32)
    return sparse.csr_array((values, stays % p.shape[1], starts), shape=p.shape)


def _dots(z: sparse.csr_array, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a_i . b_j for each place (i, j) of z."""
    places = [torch.from_numpy(part) for part in (z.indptr, z.indices, np.zeros_like(z.data))]
    with warnings.catch_warnings():  # that such tensors are new to PyTorch
        warnings.filterwarnings("ignore", "Sparse CSR")
        pattern = torch.sparse_csr_tensor(*places, size=z.shape, check_invariants=False)
    rows, columns = torch.from_numpy(a), torch.from_numpy(b).T
    return torch.sparse.sampled_addmm(pattern, rows, columns, beta=0).values().numpy()


@public
def quality(sae: SparseAutoencoder, x: Array) -> dict[str, float]:
    """On activations (N, W): "l0", the mean number of active latents; "fvu", the fraction of
    variance unexplained, sum |x - x'|^2 / sum |x - mean|^2; "dead", the share never active."""
    x = check_activations(x).to(sae.bias.device)
    active, error = torch.zeros_like(sae.bias), 0.0
    with torch.inference_mode():
        for part in x.split(4096):
            z = sae.encode(part)
            active += (z > 0).sum(0)
            error += float((part - sae.decode(z)).square().sum())
    fvu, dead = error / float((x - x.mean(0)).square().sum()), (active == 0).float().mean()
    return {"l0": float(active.sum()) / len(x), "fvu": fvu, "dead": float(dead)}


@public
def latent_shares(sae: SparseAutoencoder, joined: Array, width: int) -> Array:
    """Whose the latents of a crosscoder are, (L,): 0 if only the first network has a latent in its
    activations, the first `width` columns of `joined` (N, W + V), 1/2 if both have as much of it, 1
    if only the second. NaN for a latent that is never active.

    A crosscoder of two networks (Lindsey et al. 2024, "Sparse Crosscoders") is an autoencoder of
    the activations of both at the same places, side by side: one set of latents for two. With
    decoder rows of length 1 over both, latents compete by what they rebuild in both together.

    By latent scaling (Minder et al. 2025): how much of a latent there is in a network is not read
    from the decoder, whose sparsity may have shrunk it, but fitted: the length of v = sum z y /
    sum z^2, the direction that explains best, by least squares, what the other latents leave of the
    network's activations y. Theirs is fitted along the direction in the other network, of the same
    basis; ours is free, since networks trained apart have no common basis. With lengths a and b,
    the share is 1/2 + (b - a) / (2 max(a, b)).
    """
    joined = check_activations(joined).to(sae.bias.device)
    square, left = torch.zeros_like(sae.bias), torch.zeros_like(sae.decoder)
    with torch.inference_mode():
        for part in joined.split(4096):
            z = sae.encode(part)
            square += z.square().sum(0)
            left += z.T @ (part - sae.decode(z))
        active = square > 0
        found = left / square.clamp(min=1e-24)[:, None] + sae.directions()
        a, b = (part.norm(dim=1) for part in (found[:, :width], found[:, width:]))
        share = 0.5 + (b - a) / (2 * torch.maximum(a, b))
    return to_array(torch.where(active, share, torch.nan))


def matched_cosine(a: SparseAutoencoder, b: SparseAutoencoder) -> float:
    """Stability: mean cosine of the decoder rows of two autoencoders, paired one to one so that it
    is largest (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    if a.decoder.shape[1] != b.decoder.shape[1]:
        shapes = f"{tuple(a.decoder.shape)} and {tuple(b.decoder.shape)}"
        raise ValueError(f"the autoencoders must read activations of one width, not {shapes}")
    cosines = to_array(a.decoder @ b.decoder.T)
    return float(cosines[linear_sum_assignment(-cosines)].mean())


def check_activations(x: np.ndarray) -> Tensor:
    """Activations as a tensor, if they are float (N, W), at least one, and finite; else raises."""
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f" or x.ndim != 2 or not len(x):
        given = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise ValueError(f"activations must be float32 (N, W) with N >= 1, not {given}")
    x = as_tensor(x).float()
    if not torch.isfinite(torch.stack(x.aminmax())).all():
        raise ValueError("activations must be finite: found NaN or infinity")
    return x


def rewritten(model: nn.Module, layer: str, rewrite: Rewrite) -> AbstractContextManager[None]:
    """`forward.hooked` with a row for each place of maps (N, W, h, w), or each vector (N, W)."""

    def through(x: Tensor) -> Tensor:
        rows = x.movedim(1, -1)
        out = rewrite(rows.flatten(0, -2)).reshape(rows.shape).movedim(-1, 1)
        return out.contiguous() if x.is_contiguous() else out

    return hooked(model, layer, through)


@public
def steer(sae: SparseAutoencoder, scales: Array, rest: Array | float = 0.0) -> Rewrite:
    """Scales latents, by scales (L,) of which 0 ablates: z becomes rest + scale * (z - rest), and x
    moves by what that changes of x', so that what the autoencoder misses stays as it was. Raises
    ValueError for another number of scales, or of `rest` (one, or one a latent), than latents."""
    n_latents = (len(sae.bias),)
    if np.shape(scales) != n_latents or np.shape(rest) not in ((), n_latents):
        given = f"{np.shape(scales)} and {np.shape(rest)}"
        raise ValueError(f"scales and rest must have shape {n_latents}, the latents', not {given}")
    scales, rest = (torch.as_tensor(value).to(sae.bias) for value in (scales, rest))
    return lambda x: x + ((sae.encode(x) - rest) * (scales - 1)) @ sae.directions()
