"""An accelerator made of paper: its tensors lie on the processor, say that they are on another
device, and refuse to meet those that are not, as tensors of real accelerators do.

torch knows the device "lazy" and has nothing for it, so that all that is done there comes by here.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("lazy", 0)
_aten = torch.ops.aten
_INDEXING = (_aten.index.Tensor, _aten.index_put_.default)  # by positions from anywhere
_MOVING = (_aten._to_copy.default, _aten.copy_.default)


class _Away(Tensor):
    @staticmethod
    def __new__(cls, here: Tensor) -> "_Away":
        made = Tensor._make_wrapper_subclass(
            cls, here.shape, strides=here.stride(), storage_offset=here.storage_offset(),
            dtype=here.dtype, device=DEVICE,
        )  # fmt: skip
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        return _run(op, args, kwargs or {})


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        return _run(op, args, kwargs or {})


def _run(op: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    away = [x for x in tensors if isinstance(x, _Away)]
    for x in tensors:
        position = op in _INDEXING and x is not args[0] and x.dtype in (torch.int64, torch.bool)
        if away and op not in _MOVING and not isinstance(x, _Away) and x.dim() and not position:
            raise RuntimeError(f"{op}: tensors of two devices meet")
    stays = not (isinstance(args[0], _Away) if op is _aten.copy_.default else away)
    if (target := kwargs.get("device")) is not None:
        stays, kwargs = torch.device(target).type == "cpu", kwargs | {"device": "cpu"}

    def here(x: Any) -> Any:
        return x.here if isinstance(x, _Away) else x

    out = op(*tree_map(here, args), **tree_map(here, kwargs))
    known = {id(x.here): x for x in away}  # what is changed in place stays what it is

    def there(x: Any) -> Any:
        if not isinstance(x, Tensor) or stays:
            return x
        return known[id(x)] if id(x) in known else _Away(x)

    return tree_map(there, out)


@contextmanager
def imitation() -> Iterator[torch.device]:
    """While it lasts, `config.device()` is the device of paper. Autocast, forked generators and
    inference mode, which torch has for real devices alone, do nothing."""
    from lazy_artist import config

    real = config.device
    users = [m for name, m in sys.modules.items() if name.startswith("lazy_artist")]
    fused = [sys.modules[f"torch.optim.{name}"] for name in ("adam", "adamw", "optimizer")]

    def idle(*_: Any, **__: Any) -> Any:
        return nullcontext()

    with ExitStack() as stack:
        for where, name, what in (
            *(
                (user, "device", lambda: DEVICE)
                for user in users
                if vars(user).get("device") is real
            ),
            *((m, "_get_fused_kernels_supported_devices", lambda: ["lazy", "cpu"]) for m in fused),
            (torch, "autocast", idle),
            (torch.random, "fork_rng", idle),
            (torch, "inference_mode", lambda mode=True: torch.no_grad() if mode else idle()),
        ):
            if hasattr(where, name):
                stack.enter_context(patch.object(where, name, what))
        stack.enter_context(_Dispatch())
        yield DEVICE
