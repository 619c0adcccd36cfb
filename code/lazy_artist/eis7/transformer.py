"""The second challenge: which pairs of numbers does the transformer call 1?

`transformer_label` is the recovered program; it needs no network and no data. `Transformer` is the
released network's architecture, to be trained here: the released weights are not to be had.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.config import device
from lazy_artist.interface import Array, public
from lazy_artist.training import _one_thread

SIDE = 113  # numbers x and y are 0 to 112
WIDTH, HEADS, NEURONS = 128, 8, 1024


class Constants(NamedTuple):
    """The numbers in the program. With t = floor(x^exponent) mod period,

    z = t + left_step * [x^4 < left * y] + lower_step * [y^4 >= lower * x]
    label = [z >= top] or ([z is one of the two below top - 3] and x + y < line)
    """

    exponent: float = 1.5
    period: int = 8
    left: float = 40_000
    left_step: int = 3
    lower: float = 360_000
    lower_step: int = 2
    top: int = 7
    line: float = 133


PROGRAM = Constants()


class Variables(NamedTuple):
    """The program's inner variables, one value a pair: phase, int64, t in `Constants`; left, lower
    and line, bool, its comparisons."""

    phase: np.ndarray
    left: np.ndarray
    lower: np.ndarray
    line: np.ndarray


def label_pair(x: int, y: int) -> bool:
    """The label of a pair of integers in 0..112: the program in its plainest form."""
    z = math.isqrt(x**3) % 8 + 3 * (x**4 < 40_000 * y) + 2 * (y**4 >= 360_000 * x)
    return z >= 7 or (z in (2, 3) and x + y < 133)


@public
def transformer_label(x: Array, y: Array) -> Array:
    """Labels (bool) of pairs of integers x, y in 0..112, by the program alone; x and y broadcast.

    With z = isqrt(x^3) mod 8 + 3 [x^2 < 200 sqrt(y)] + 2 [y^2 >= 600 sqrt(x)] the label is 1 if
    z >= 7, or if z is 2 or 3 and x + y < 133. All arithmetic is on integers (both sides of the
    comparisons squared), so nothing is rounded. Raises TypeError for other types, ValueError for
    numbers out of range or shapes that do not broadcast.
    """
    return decide(program_variables(x, y))


@public
def program_variables(x: Array, y: Array, c: Constants = PROGRAM) -> Variables:
    """The inner variables of `transformer_label`, or of the program with other constants."""
    x, y = np.asarray(x), np.asarray(y)
    for name, value in (("x", x), ("y", y)):
        if value.dtype.kind not in "iu":
            raise TypeError(f"{name} must hold integers, not {value.dtype}")
        if value.size and not (value.min() >= 0 and value.max() < SIDE):
            ends = f"it goes from {value.min()} to {value.max()}"
            raise ValueError(f"{name} must lie in 0..{SIDE - 1}; {ends}")
    x, y = np.broadcast_arrays(x.astype(np.int64), y.astype(np.int64))
    if c.exponent == 1.5:
        roots = np.array([math.isqrt(number**3) for number in range(SIDE)])
    else:
        roots = np.floor(np.arange(SIDE) ** c.exponent).astype(np.int64)
    phase = roots[x] % c.period
    return Variables(phase, x**4 < c.left * y, y**4 >= c.lower * x, x + y < c.line)


def decide(v: Variables, c: Constants = PROGRAM) -> np.ndarray:
    """The label from the program's inner variables: bool, of their shape."""
    z = v.phase + c.left_step * v.left + c.lower_step * v.lower
    return (z >= c.top) | ((z >= c.top - 5) & (z < c.top - 3) & v.line)


def all_pairs() -> tuple[np.ndarray, np.ndarray]:
    """x and y of all pairs, int64 (113, 113) each, x by row."""
    x, y = np.mgrid[:SIDE, :SIDE]
    return x, y


# --- the network ---------------------------------------------------------------------------------


class States(NamedTuple):
    """What the last position holds for N pairs: attention (N, 8, 3) to x, y and itself; heads
    (N, 8, 128), what each head adds; resid_mid (N, 128), the residual stream that the MLP reads;
    neurons (N, 1024); resid_post (N, 128), the stream that is unembedded; logits (N, 2)."""

    attention: Tensor
    heads: Tensor
    resid_mid: Tensor
    neurons: Tensor
    resid_post: Tensor
    logits: Tensor


class Transformer(nn.Module):
    """One layer of attention and MLP on [x, y, 113], unembedded at the last position; layout and
    initial spread of Nanda et al. (2023, arXiv:2301.05217), which the challenge builds on.

    No LayerNorm, no biases in attention or unembedding. Only the last position is computed, as in
    one layer nothing else reaches the logits; of the released network's 114 logits only 0 and 1 are
    ever correct, and only these are kept.
    """

    def __init__(self, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def weights(*shape: int, spread: float = WIDTH**-0.5) -> nn.Parameter:
            return nn.Parameter(spread * torch.randn(*shape, generator=generator))

        self.embed, self.position = weights(SIDE + 1, WIDTH), weights(3, WIDTH)
        self.query, self.key, self.value, self.out = (weights(WIDTH, WIDTH) for _ in range(4))
        self.mlp_in, self.mlp_out = weights(WIDTH, NEURONS), weights(NEURONS, WIDTH)
        self.mlp_in_bias = nn.Parameter(torch.zeros(NEURONS))
        self.mlp_out_bias = nn.Parameter(torch.zeros(WIDTH))
        self.unembed = weights(WIDTH, 2, spread=(SIDE + 1) ** -0.5)

    def attend(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attention (N, 8, 3), values (N, 3, 8, 16), and the last position's own stream (128,), of
        int64 (N,) each. The query at the last position never changes, so a number's score and value
        depend on it and its position alone: both come from tables over all numbers."""
        own = self.embed[SIDE] + self.position[2]
        query = (own @ self.query).view(HEADS, -1)
        reach = torch.einsum("whd,hd->wh", self.key.view(WIDTH, HEADS, -1), query)  # (128, 8)
        scores, values = [], []
        for position, number in enumerate((x, y)):
            table = self.embed[:SIDE] + self.position[position]  # (113, 128)
            scores.append(F.embedding(number, table @ reach))
            values.append(F.embedding(number, table @ self.value))
        scores.append((own @ reach).expand(len(x), -1))
        values.append((own @ self.value).expand(len(x), -1))
        attention = (torch.stack(scores, -1) / math.sqrt(WIDTH // HEADS)).softmax(-1)
        return attention, torch.stack(values, 1).unflatten(-1, (HEADS, -1)), own

    def mix(self, attention: Tensor, values: Tensor, own: Tensor) -> Tensor:
        """The residual stream (N, 128) after attention."""
        mixed = torch.einsum("nht,nthd->nhd", attention, values).flatten(1)
        return own + mixed @ self.out

    def neurons(self, resid_mid: Tensor) -> Tensor:
        """The neurons (N, 1024) of the residual stream (N, 128) that the MLP reads."""
        return F.relu(resid_mid @ self.mlp_in + self.mlp_in_bias)

    def logits(self, resid_mid: Tensor, neurons: Tensor | None = None) -> Tensor:
        """Logits (N, 2) of the residual stream (N, 128) that the MLP reads, with its own neurons or
        others (N, 1024)."""
        neurons = self.neurons(resid_mid) if neurons is None else neurons
        return (resid_mid + neurons @ self.mlp_out + self.mlp_out_bias) @ self.unembed

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.logits(self.mix(*self.attend(x, y)))

    @torch.no_grad()
    def states(self) -> States:
        """All inner states for all 12,769 pairs, in the order of `all_pairs`."""
        attention, values, own = self.attend(*map(torch.from_numpy, map(np.ravel, all_pairs())))
        out = self.out.view(HEADS, -1, WIDTH)
        heads = torch.einsum("nht,nthd,hde->nhe", attention, values, out)
        resid_mid = self.mix(attention, values, own)
        neurons = self.neurons(resid_mid)
        resid_post = resid_mid + neurons @ self.mlp_out + self.mlp_out_bias
        return States(attention, heads, resid_mid, neurons, resid_post, resid_post @ self.unembed)


@_one_thread()
def train_transformer(labels: np.ndarray, seen: np.ndarray, seed: int, steps: int) -> Transformer:
    """A `Transformer` trained on the cells of a table that are `seen`.

    labels, seen: bool (113, 113). Batches of 256; AdamW with rate 1e-3, decay 1, betas (0.9, 0.98),
    ten steps of warm-up, then half a cosine; one thread, so that the same arguments give the same
    weights.
    """
    cells = torch.from_numpy(np.flatnonzero(seen)).to(device())
    targets = torch.from_numpy(labels.flatten()).long().to(device())
    model = Transformer(seed).to(device())
    generator = torch.Generator().manual_seed(seed + 1_000_000)
    optimiser = torch.optim.AdamW(
        model.parameters(), 1e-3, weight_decay=1.0, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda k: min(1, (k + 1) / 10) * (1 + math.cos(math.pi * k / steps)) / 2
    )
    order = cells[:0]
    for _ in range(steps):
        if len(order) < 256:
            order = cells[torch.randperm(len(cells), generator=generator).to(cells.device)]
        batch, order = order[:256], order[256:]
        loss = F.cross_entropy(model(batch // SIDE, batch % SIDE), targets[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.cpu().eval()
