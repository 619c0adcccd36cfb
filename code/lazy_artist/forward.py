"""Calling a network and reaching into it, so that it comes back as it was: its modes, hooks,
gradients, memory format and dtype are the caller's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lazy_artist.interface import unwrapped

Rewrite = Callable[[Tensor], Tensor | None]


def home_of(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and floating-point type of a network. Raises ValueError for one without values."""
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_meta:
            raise ValueError("the model is on the device meta, where there are no values: use cpu")
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


@contextmanager
def asked(model: nn.Module, channels_last: bool = True) -> Iterator[Callable[[Tensor], Any]]:
    """While it lasts, all parts of a model are in eval mode; then each is in its own mode again.

    Yields the function that calls it on images (n, C, H, W): on the model's device, in its dtype,
    and channels-last if wanted, which is the faster, unless the model cannot be called so (it
    flattens by `view`); `layouts[0]` of that function is the memory format. Raises ValueError if
    the model cannot be called on such images at all.
    """
    device, dtype = home_of(model)
    training = [module for module in model.modules() if module.training]
    layouts = [torch.channels_last] * channels_last + [torch.contiguous_format]

    def ask(images: Tensor, forward: Callable[[Tensor], Any] = model) -> Any:
        images = images.to(device, dtype)
        while True:
            try:
                return forward(images.contiguous(memory_format=layouts[0]))
            except RuntimeError as error:
                if len(layouts) == 1:
                    raise ValueError(
                        f"the model cannot be called on images {tuple(images.shape)} (those of "
                        f"this book are (N, 3, 28, 28)): {error}"
                    ) from error
                del layouts[0]

    ask.layouts = layouts
    for module in training:
        module.training = False
    try:
        yield ask
    finally:
        for module in training:
            module.training = True


def as_logits(output: Any, count: int) -> Tensor:
    """What a model returned, if it is logits (count, K), in float32. Raises ValueError if not."""
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != count:
        shape = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else "no tensor"
        raise ValueError(
            f"the model must return logits ({count}, K), one row an image; it returned a "
            f"{type(output).__name__}, {shape}: wrap it in a module that returns them alone"
        )
    return output.float()


def as_tensor(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory, also if that may not be written to: do not."""
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def batches(images: np.ndarray, size: int) -> Iterator[Tensor]:
    """Copies of `size` images at a time, as tensors, channels-last."""
    for start in range(0, len(images), size):
        part = as_tensor(images[start : start + size])
        yield part.to(memory_format=torch.channels_last, copy=True)


# --- layers ---------------------------------------------------------------------------------------


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """The layer of that name; raises ValueError, listing those that exist, if there is none."""
    modules = {name: module for name, module in unwrapped(model).named_modules() if name}
    if layer not in modules:
        raise ValueError(f"no layer {layer!r}: the model has {', '.join(modules) or 'no layers'}")
    return modules[layer]


@contextmanager
def hooked(model: nn.Module, layer: str, rewrite: Rewrite) -> Iterator[None]:
    """While it lasts, a layer's output passes through `rewrite`: what that returns goes on in its
    place, if it is not None. All that looks into networks, or changes them, does so here.

    layer: a name in `dict(model.named_modules())`, or "pooled": what `model.head` reads. It has to
    run once whenever the model is called: else a ValueError says so. Raises ValueError for a layer
    that does not exist.
    """
    model, pooled = unwrapped(model), layer == "pooled"
    module = model.head if pooled and hasattr(model, "head") else find_layer(model, layer)
    runs: list[None] = []  # in this call of the model
    calling: list[None] = []

    def begin(*_: Any) -> None:
        runs.clear()
        calling[:] = [None]

    def run(output: Tensor) -> Any:
        runs.append(None)
        if calling and len(runs) > 1:
            raise ValueError(f"layer {layer!r} runs more than once: name the block around it")
        return rewrite(output)

    def end(*_: Any) -> None:
        calling.clear()
        if not runs:
            raise ValueError(f"layer {layer!r} never runs when the model is called on images")

    with ExitStack() as hooks:
        hooks.enter_context(model.register_forward_pre_hook(begin))
        if pooled:
            hook = module.register_forward_pre_hook(lambda _, inputs: run(inputs[0]))
        else:
            hook = module.register_forward_hook(lambda _, inputs, output: run(output))
        hooks.enter_context(hook)
        hooks.enter_context(model.register_forward_hook(end))
        yield


def as_maps(output: Any, layer: str, vectors: bool = True) -> Tensor:
    """A layer's output as maps (N, K, h, w); a vector's (N, K), if allowed, are of one pixel."""
    if not isinstance(output, Tensor) or output.ndim not in ((2, 4) if vectors else (4,)):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        wanted = "(N, K, h, w) or (N, K)" if vectors else "(N, K, h, w)"
        raise ValueError(f"layer {layer!r} must give maps {wanted}, not {shape}")
    return output if output.ndim == 4 else output[:, :, None, None]
