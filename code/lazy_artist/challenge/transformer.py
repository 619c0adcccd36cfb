"""The second challenge: which pairs of numbers does the transformer call 1?

`transformer_label` is the recovered program; it needs no network and no data. `Transformer` is the
released network's architecture (one layer, no LayerNorm), and `fit` trains it, since the released
weights are not to be had.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.challenge.files import SIDE

WIDTH, HEADS, NEURONS = 128, 8, 1024
QUESTION = SIDE  # the token at the last position


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


class Parts(NamedTuple):
    """The program's inner variables, one value a pair: phase, score z: int64; left, lower, line:
    bool (x^4 < 40000 y; y^4 >= 360000 x; x + y < 133)."""

    phase: np.ndarray
    left: np.ndarray
    lower: np.ndarray
    line: np.ndarray
    score: np.ndarray


def transformer_label(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Labels (bool) of pairs of integers x, y in 0..112, by the program alone; x and y broadcast.

    With z = isqrt(x^3) mod 8 + 3 [x^2 < 200 sqrt(y)] + 2 [y^2 >= 600 sqrt(x)] the label is 1 if
    z >= 7, or if z is 2 or 3 and x + y < 133. All arithmetic is on integers (both sides of the
    comparisons squared), so nothing is rounded. Raises TypeError for other types, ValueError for
    numbers out of range or shapes that do not broadcast.
    """
    return decide(program_parts(x, y), Constants())


def program_parts(x: np.ndarray, y: np.ndarray, constants: Constants | None = None) -> Parts:
    """The inner variables of `transformer_label`, or of the program with other constants. Raises
    as `transformer_label` does."""
    x, y = _checked_numbers(x, y)
    c = constants or Constants()
    if c.exponent == 1.5:
        roots = np.array([math.isqrt(number**3) for number in range(SIDE)])
    else:
        roots = np.floor(np.arange(SIDE) ** c.exponent).astype(np.int64)
    phase = roots[x] % c.period
    left, lower = x**4 < c.left * y, y**4 >= c.lower * x
    score = phase + c.left_step * left + c.lower_step * lower
    return Parts(phase, left, lower, x + y < c.line, score)


def decide(parts: Parts, constants: Constants) -> np.ndarray:
    """The label from the program's inner variables: bool, of their shape."""
    band = (parts.score >= constants.top - 5) & (parts.score < constants.top - 3)
    return (parts.score >= constants.top) | (band & parts.line)


def grid() -> tuple[np.ndarray, np.ndarray]:
    """All pairs: x and y, int64 (113, 113) each, x by row."""
    x, y = np.mgrid[:SIDE, :SIDE]
    return x, y


def _checked_numbers(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    arrays = []
    for name, value in (("x", x), ("y", y)):
        value = np.asarray(value)
        if value.dtype.kind not in "iu":
            raise TypeError(f"{name} must hold integers, not {value.dtype}")
        if value.size and not (value.min() >= 0 and value.max() < SIDE):
            raise ValueError(
                f"{name} must lie in 0..{SIDE - 1}; it goes from {value.min()} to {value.max()}"
            )
        arrays.append(value.astype(np.int64))
    try:
        return tuple(np.broadcast_arrays(*arrays))
    except ValueError:
        raise ValueError(
            f"x and y must have shapes that broadcast, not {arrays[0].shape} and {arrays[1].shape}"
        ) from None


# --- the network ---------------------------------------------------------------------------------


class States(NamedTuple):
    """What the last position holds for N pairs: attention (N, 8, 3) to x, to y and to itself;
    heads (N, 8, 128), what each head adds; before (N, 128), the stream that the MLP reads; neurons
    (N, 1024); after (N, 128), the stream that is read out; logits (N, 2)."""

    attention: Tensor
    heads: Tensor
    before: Tensor
    neurons: Tensor
    after: Tensor
    logits: Tensor


class Transformer(nn.Module):
    """One layer of attention and MLP on [x, y, 113], read at the last position; the layout of
    Nanda et al. (2023, arXiv:2301.05217), which the challenge builds on, and their initial spread.

    No LayerNorm, no biases in attention or read-out. Only the last position is computed: in one
    layer nothing else reaches the answer. Of the 114 logits of the released network only 0 and 1
    are ever right, and only these two are kept.
    """

    def __init__(self, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def weights(*shape: int, spread: float = WIDTH**-0.5) -> nn.Parameter:
            return nn.Parameter(spread * torch.randn(*shape, generator=generator))

        self.embed, self.place = weights(SIDE + 1, WIDTH), weights(3, WIDTH)
        self.query, self.key, self.value, self.out = (weights(WIDTH, WIDTH) for _ in range(4))
        self.rise, self.fall = weights(WIDTH, NEURONS), weights(NEURONS, WIDTH)
        self.rise_bias = nn.Parameter(torch.zeros(NEURONS))
        self.fall_bias = nn.Parameter(torch.zeros(WIDTH))
        self.read = weights(WIDTH, 2, spread=(SIDE + 1) ** -0.5)

    def attend(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Attention (N, 8, 3), values (N, 3, 8, 16), and the last position's own stream (128,), of
        int64 (N,) each.

        The query at the last position never changes, so a number's score and value depend on it
        and its place alone: both come from tables over all numbers.
        """
        own = self.embed[QUESTION] + self.place[2]
        query = (own @ self.query).view(HEADS, -1)
        reach = torch.einsum("whd,hd->wh", self.key.view(WIDTH, HEADS, -1), query)  # (128, 8)
        scores, values = [], []
        for place, number in enumerate((x, y)):
            table = self.embed[:SIDE] + self.place[place]  # (113, 128)
            scores.append(F.embedding(number, table @ reach))
            values.append(F.embedding(number, table @ self.value))
        scores.append((own @ reach).expand(len(x), -1))
        values.append((own @ self.value).expand(len(x), -1))
        attention = (torch.stack(scores, -1) / math.sqrt(WIDTH // HEADS)).softmax(-1)
        return attention, torch.stack(values, 1).unflatten(-1, (HEADS, -1)), own

    def mix(self, attention: Tensor, value: Tensor, own: Tensor) -> Tensor:
        """The stream (N, 128) after attention."""
        mixed = torch.einsum("nht,nthd->nhd", attention, value).flatten(1)
        return own + mixed @ self.out

    def answer(self, before: Tensor) -> Tensor:
        """Logits (N, 2) of the stream (N, 128) that the MLP reads."""
        return self.finish(before, self.excite(before))

    def excite(self, before: Tensor) -> Tensor:
        """The neurons (N, 1024)."""
        return F.relu(before @ self.rise + self.rise_bias)

    def finish(self, before: Tensor, neurons: Tensor) -> Tensor:
        """Logits (N, 2)."""
        return (before + neurons @ self.fall + self.fall_bias) @ self.read

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.answer(self.mix(*self.attend(x, y)))

    @torch.no_grad()
    def states(self, x: Tensor, y: Tensor) -> States:
        """All inner states for int64 x, y (N,)."""
        attention, value, own = self.attend(x, y)
        parts = torch.einsum("nht,nthd,hde->nhe", attention, value, self.out.view(HEADS, -1, WIDTH))
        before = self.mix(attention, value, own)
        neurons = self.excite(before)
        after = before + neurons @ self.fall + self.fall_bias
        return States(attention, parts, before, neurons, after, after @ self.read)


def fit(
    labels: np.ndarray, seen: np.ndarray, seed: int, steps: int, batch_size: int = 256
) -> tuple[Transformer, np.ndarray]:
    """A `Transformer` trained on the cells of a table that are `seen`, and the losses float32
    (steps,).

    labels, seen: bool (113, 113). AdamW with rate 1e-3, decay 1, betas (0.9, 0.98), ten steps of
    warm-up, then half a cosine. One thread, so that the same arguments give the same weights on the
    same machine. Raises ValueError for tables of the wrong shape, or fewer seen cells than a batch.
    """
    if labels.shape != (SIDE, SIDE) or seen.shape != (SIDE, SIDE):
        raise ValueError(
            f"labels and seen must be {SIDE} x {SIDE} tables, not {labels.shape} and {seen.shape}"
        )
    cells = torch.from_numpy(np.flatnonzero(seen))
    if len(cells) < batch_size:
        raise ValueError(f"{len(cells)} seen cells are fewer than a batch of {batch_size}")
    answers = torch.from_numpy(labels.flatten()).long()
    model = Transformer(seed)
    generator = torch.Generator().manual_seed(seed + 1_000_000)
    losses = np.empty(steps, np.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        optimiser = torch.optim.AdamW(
            model.parameters(), 1e-3, weight_decay=1.0, betas=(0.9, 0.98), fused=True
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda k: min(1, (k + 1) / 10) * (1 + math.cos(math.pi * k / steps)) / 2
        )
        order = torch.empty(0, dtype=torch.int64)
        for step in range(steps):
            if len(order) < batch_size:
                order = cells[torch.randperm(len(cells), generator=generator)]
            batch, order = order[:batch_size], order[batch_size:]
            loss = F.cross_entropy(model(batch // SIDE, batch % SIDE), answers[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses[step] = loss.item()
    finally:
        torch.set_num_threads(threads)
    return model.eval(), losses
