"""The one training loop, `train`, through which every network of the report goes.

It is plain: AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), one cycle of the learning rate
(Smith & Topin 2018, arXiv:1708.07120), mini-batches from memory, without a loader. Matrices are
multiplied in low precision: bfloat16 where the device has instructions for it, float32 elsewhere
(weights, their updates and the loss stay float32). It runs where the model is; there the images of
the split live, too.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lazy_artist.canvas import Split
from lazy_artist.forward import as_logits, as_tensor, asked, home_of
from lazy_artist.interface import Array, check_classes, check_images, check_number, public

Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""`loss(model, images, labels, index)` -> scalar: what a training strategy may change.

images: (B, 3, 28, 28) in [0, 1], in `low_precision`; labels: int64 (B,); index: int64 (B,),
positions in the split; all on the model's device.
"""


_PROCESSOR = torch.device("cpu")


class History(NamedTuple):
    """losses: float32 (steps,), the training loss of each step; observed: {step: what `observe`
    returned}."""

    losses: np.ndarray
    observed: dict[int, Any]


def cross_entropy(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
    """Mean cross-entropy of the batch: the loss of a network left to itself."""
    return F.cross_entropy(model(images).float(), labels)


@public
def train(
    model: nn.Module,
    split: Split,
    *,
    seed: int,
    epochs: float,
    learning_rate: float,
    batch_size: int = 128,
    weight_decay: float = 0.01,
    one_cycle: bool = True,
    loss: Loss = cross_entropy,
    weights: Array | None = None,
    observe: Callable[[nn.Module], Any] | None = None,
    observe_at: Collection[int] = (),
) -> History:
    """Train `model` in place on `split` and leave it in eval mode.

    epochs: passes over the split, may be a fraction; learning_rate: the peak of the one cycle,
    reached after a fifth of the steps; without `one_cycle` the rate is constant, so that each step
    is what stopping there gives; weights: float (N,), non-negative: draw images with
    replacement in this proportion instead of each once an epoch. observe: called in eval mode,
    without gradients, after each of the steps in `observe_at` (0: before the first; -1: after the
    last); it may look, and must not touch.

    The same arguments give the same weights on the same machine: the loop runs on one thread, since
    the order of sums depends on it. Raises ValueError for splits of the wrong shape or range
    (labels are classes that the model has), bad weights or lengths, FloatingPointError when the
    loss is not finite.
    """
    if not len(split.images):
        raise ValueError("the split is empty: there is nothing to train on")
    images, (device, dtype) = as_tensor(check_images(split.images)), home_of(model)
    if dtype != torch.float32:
        raise ValueError(f"training needs a model in float32, not {dtype}: call model.float()")
    with asked(model) as ask, torch.no_grad():
        n_classes = as_logits(ask(images[:2]), len(images[:2])).shape[1]
    labels = torch.from_numpy(check_classes(split.labels, len(images), "labels", n_classes))
    images, labels = images.to(device), labels.to(device)
    batch_size = min(check_number(batch_size, "batch_size", 1, whole=True), len(labels))
    steps = round(epochs * len(labels) / batch_size)
    if steps < 1:
        raise ValueError(f"{epochs} epochs of {len(labels)} images are no step at all")
    wanted = {steps if step == -1 else step for step in observe_at}
    if wanted and (observe is None or min(wanted) < 0 or max(wanted) > steps):
        raise ValueError(
            f"observe_at names steps in 0..{steps} or -1, and needs a function `observe` to call "
            f"there; it is {sorted(observe_at)}, observe is {observe}"
        )
    observed: dict[int, Any] = {}
    losses = torch.empty(steps, device=device)
    generator = torch.Generator().manual_seed(seed)

    def look(step: int) -> None:
        if step in wanted:
            model.eval()
            with torch.no_grad():
                observed[step] = observe(model)
            model.train()

    precision, on_processor = low_precision(device), device.type == "cpu"
    forked = torch.random.fork_rng([] if on_processor else [device], device_type=device.type)
    with _one_thread(), forked, _in_layout(model, ask.layouts[0]):
        torch.manual_seed(seed)  # for layers and losses that draw from torch's own generator
        optimiser = torch.optim.AdamW(
            model.parameters(), learning_rate, weight_decay=weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1)
        if one_cycle:
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimiser, learning_rate, total_steps=steps + 1, pct_start=0.2 + 1e-9
            )
        model.train()
        batches = _batches(len(labels), batch_size, weights, generator)
        look(0)
        for step in _progress(range(1, steps + 1), f"training, seed {seed}"):
            index = next(batches).to(device, non_blocking=True)
            optimiser.zero_grad()
            batch = images[index].to(precision).contiguous(memory_format=ask.layouts[0])
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                value = loss(model, batch, labels[index], index)
            torch.clear_autocast_cache()  # of weights: within a caller's autocast it would stay
            losses[step - 1] = value.detach()
            looks = on_processor or step % 100 == 0 or step == steps  # to look is to wait for it
            if looks and len(bad := losses[:step].isfinite().logical_not().nonzero()):
                raise FloatingPointError(
                    f"the loss is {losses[bad[0]].item()} at step {bad[0].item() + 1} of {steps} "
                    f"(seed {seed}): lower the learning rate, now {learning_rate}"
                )
            value.backward()
            optimiser.step()
            schedule.step()
            look(step)
        optimiser.zero_grad()
    return History(losses.cpu().numpy(), observed)


def low_precision(device: torch.device = _PROCESSOR) -> torch.dtype:
    """bfloat16 where the device has instructions for it (AVX-512 BF16, AMX; CUDA since Ampere),
    else float32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        fast = device.type == "cpu" and known()
    return torch.bfloat16 if fast else torch.float32


def _batches(
    count: int, batch_size: int, weights: np.ndarray | None, generator: torch.Generator
) -> Iterator[Tensor]:
    """Endless batches of positions int64 (batch_size,): permutations of all, or draws by weight."""
    if weights is not None:
        weights = np.asarray(weights, dtype=np.float64)
        if weights.shape != (count,) or not (weights.min() >= 0 and 0 < weights.sum() < np.inf):
            raise ValueError(
                f"weights must be {count} finite numbers >= 0, one an image, not all 0"
            )
        weights = torch.tensor(weights)
    whole = count // batch_size * batch_size
    while True:
        if weights is None:
            order = torch.randperm(count, generator=generator)[:whole]
        else:
            order = torch.multinomial(weights, whole, replacement=True, generator=generator)
        yield from order.view(-1, batch_size)


def _progress(steps: range, title: str) -> Iterator[int]:
    """A bar on a terminal, in the main process alone (of parallel seeds the store shows one)."""
    main = multiprocessing.current_process().name == "MainProcess"
    return tqdm(steps, title, leave=False, disable=None if main else True)


@contextmanager
def _in_layout(model: nn.Module, layout: torch.memory_format) -> Iterator[None]:
    """Weights in this memory format while it lasts, then contiguous again, as files have them,
    unless they were not; and the model in eval mode."""
    was_contiguous = all(weight.is_contiguous() for weight in model.parameters())
    model.to(memory_format=layout)
    try:
        yield
    finally:
        model.eval()
        if was_contiguous:
            model.to(memory_format=torch.contiguous_format)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
