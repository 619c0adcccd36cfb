"""The door of the public functions: what a caller may bring, and what comes back.

    @public
    def grad_cam(model: nn.Module, layer: str, images: Array, classes: Classes) -> Array: ...

A public function takes arrays and tensors alike: in any memory layout, read-only or mapped from a
file, on any device, with or without gradients; and NumPy's numbers where Python's are meant. Its
arrays come back as tensors, on the device of the first tensor that it was given, or as arrays if it
was given none. Within it torch's defaults hold, whatever the caller has switched on around it
(`no_grad`, `inference_mode`, autocast, another default dtype or device).

The checks below are shared by all public functions. Each returns its argument as the function works
with it, or raises, before any work, a ValueError or TypeError that names the argument, what it was
and what is wanted.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Array = np.ndarray | Tensor
Classes = int | Sequence[int] | Array
"""One integer for all images, or one for each of them, (N,)."""


def public(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function that others call, as the module says."""
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        devices: list[torch.device] = []
        args = [
            _take(value, names[min(k, len(names) - 1)], devices) for k, value in enumerate(args)
        ]
        kwargs = {name: _take(value, name, devices) for name, value in kwargs.items()}
        with _torch_defaults():
            result = function(*args, **kwargs)
        return _give(result, devices[0]) if devices else result

    return call


def _take(value: Any, name: str, devices: list[torch.device]) -> Any:
    """An argument with plain arrays for tensors and numbers for scalars; notes tensors' devices."""
    match value:
        case np.generic():
            return value.item()
        case Tensor():
            devices.append(value.device)
            return to_array(value, name)
        case np.ndarray():
            is_plain = value.dtype.isnative and min(value.strides, default=0) >= 0
            return value if is_plain else value.astype(value.dtype.newbyteorder("="), order="C")
        case nn.Module():
            return unwrapped(value)
        case tuple() | list() if any(isinstance(item, np.ndarray | Tensor) for item in value):
            items = [_take(item, name, devices) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # a Split, or Digits
        given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        taken = {name: _take(item, name, devices) for name, item in given.items()}
        if any(taken[name] is not item for name, item in given.items()):
            return dataclasses.replace(value, **taken)
    return value


def _give(value: Any, device: torch.device) -> Any:
    match value:
        case np.ndarray() if value.dtype.kind in "biufc":
            return torch.from_numpy(value).to(device)
        case tuple() | list():
            items = [_give(item, device) for item in value]
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        case dict():
            return {name: _give(item, device) for name, item in value.items()}
    return value


@contextmanager
def _torch_defaults() -> Iterator[None]:
    autocast = [kind for kind in ("cpu", "cuda", "mps") if torch.is_autocast_enabled(kind)]
    dtype, away = torch.get_default_dtype(), torch.get_default_device().type != "cpu"
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in autocast:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if away:
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def to_array(tensor: Tensor, name: str = "the tensor") -> np.ndarray:
    """The array of a tensor, wherever it is; bfloat16, which NumPy lacks, as float32."""
    if tensor.is_meta:
        raise ValueError(f"{name} is on the device meta, where there are no values: use the cpu")
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `torch.compile` or `DataParallel`, whose layers can be reached."""
    while inner := getattr(model, "_orig_mod", None) or (
        isinstance(model, nn.DataParallel) and model.module
    ):
        model = inner
    return model


# --- checks --------------------------------------------------------------------------------------


def check_images(images: Array, channels: int | None = None, name: str = "images") -> np.ndarray:
    """Images as float32 (N, C, H, W) in [0, 1]. channels: the C that is wanted, if not any."""
    wanted = f"(N, {channels or 'C'}, H, W), such as (N, 3, 28, 28)"
    if not isinstance(images, np.ndarray):
        kind = type(images).__name__
        raise TypeError(f"{name} must be an array or a tensor {wanted}, not a {kind}")
    if images.dtype.kind != "f" or images.ndim != 4 or channels not in (None, images.shape[1]):
        raise ValueError(
            f"{name} must be float32 {wanted}, in [0, 1] (divide grey values of 0..255 by 255), "
            f"not {images.dtype} {images.shape}"
        )
    if images.size and not (images.min() >= 0 and images.max() <= 1):  # NaN fails too
        raise ValueError(f"{name} must lie in [0, 1]; divide grey values of 0..255 by 255")
    return images.astype(np.float32, copy=False)


def check_pair(
    images: Array, changed: Array, channels: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Images and what became of them, of the same shape, in the precision that they have."""
    check_images(images, channels)
    check_images(changed, channels, "changed")
    if images.shape != changed.shape:
        raise ValueError(
            f"images and changed must have the same shape, not {images.shape} and {changed.shape}"
        )
    return images, changed


def check_classes(
    classes: Classes, count: int, name: str = "classes", below: int | None = 10, one: bool = False
) -> np.ndarray:
    """Integers int64 (count,) in 0..below - 1 (None: of any size): labels, colours, targets. one:
    a single integer may stand for all."""
    values = np.asarray(classes)
    either = "one integer, or " if one else ""
    wanted = f"{either}integers of shape ({count},), one for each image"
    if values.dtype.kind not in "iu" and values.size:
        raise TypeError(f"{name} must be {wanted}, not {values.dtype}")
    if values.shape != (count,) and not (one and values.shape == ()):
        raise ValueError(f"{name} must be {wanted}, not of shape {values.shape}")
    if values.size and (values.min() < 0 or (below is not None and values.max() >= below)):
        wanted = "of 0 and above" if below is None else f"in 0..{below - 1}"
        found = f"{values.min()} to {values.max()}"
        raise ValueError(f"{name} must be integers {wanted}, not {found}: out of range")
    return np.broadcast_to(values, (count,)).astype(np.int64)


def check_number(
    value: float, name: str, low: float, high: float = math.inf, whole: bool = False,
    remedy: str = "",
) -> float:  # fmt: skip
    """A number with low <= value <= high; whole: without a fraction, and an int."""
    if not isinstance(value, int | float) or not low <= value <= high or (whole and value % 1):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name} must be {kind} from {low:g} to {high:g}{remedy}, not {value!r}")
    return int(value) if whole else value
