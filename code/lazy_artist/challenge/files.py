"""The files that came with the challenge: found, fetched, and checked before they are read.

Each is looked for in LAZY_ARTIST_DATA/eis-vii, then in the project's cache, then in its author's
public repository (github.com/thestephencasper/mechanistic_interpretability_challenge, at fixed
commits). A file whose checksum is wrong is never read. Even with the right checksum nothing in it
is run: weights are read as weights only, and the pickle by an unpickler that can make NumPy arrays
and nothing else.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import pickle
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lazy_artist.data import (
    DataNotFoundError,
    DataWarning,
    cache_dir,
    keep,
    locked,
    open_url,
    set_aside,
    within,
)

SIDE = 113  # numbers x and y of the second challenge are 0 to 112
FOLDER = "eis-vii"
_REPOSITORY = (
    "https://raw.githubusercontent.com/thestephencasper/mechanistic_interpretability_challenge"
)
_CONNECT_SECONDS = 6.0  # for a file of a third of a megabyte


class _File(NamedTuple):
    md5: str
    address: str


FILES = {
    "mnist_model.pt": _File(
        "470a4cdc20ce19ac64a4922ac101597e",
        "3e38c675bed8d5a68724a6379ddbf09091d0230f/mnist_model.pt",
    ),
    "mnist_example.png": _File(
        "5472a80f8efa290517b7733940dbb36c",
        "4c4c66fdb0df918ce6bc416ec99ca7abb7b0d38a/figs/mnist_example.png",
    ),
    "transformer_label_info.pkl": _File(
        "287c107e12b838615ac0599260823514",
        "3e38c675bed8d5a68724a6379ddbf09091d0230f/transformer_label_info.pkl",
    ),
}
_CNN_SHAPES = {
    "conv1.weight": (8, 1, 3, 3), "conv1.bias": (8,), "conv2.weight": (16, 8, 3, 3),
    "conv2.bias": (16,), "fc1.weight": (200, 400), "fc1.bias": (200,), "fc2.weight": (2, 200),
    "fc2.bias": (2,),
}  # fmt: skip
_failed: dict[str, str] = {}  # downloads that failed in this process, with the reason


def read(name: str) -> bytes:
    """The checked content of one of `FILES`.

    A damaged file in LAZY_ARTIST_DATA is named and left alone, one in the cache is set aside and
    fetched again. Raises ValueError for an unknown name, PermissionError for a file that cannot be
    read, `DataNotFoundError`, which says where it was looked for, if it cannot be had.
    LAZY_ARTIST_OFFLINE forbids the download.
    """
    if name not in FILES:
        raise ValueError(f"unknown file {name!r}; the files are {', '.join(FILES)}")
    looked = []
    if folder := os.environ.get("LAZY_ARTIST_DATA"):
        path = Path(folder).expanduser() / FOLDER / name
        content, why = _checked(path)
        if content is not None:
            return content
        looked.append(f"{path} {why}")
        if why != _MISSING:
            warnings.warn(
                f"{path} {why}; it is left alone and not used. Replace it with the author's file.",
                DataWarning,
                stacklevel=2,
            )
    else:
        looked.append("LAZY_ARTIST_DATA is not set")
    path = cache_dir() / "data" / FOLDER / name
    with locked(path):
        content, why = _checked(path)
        if content is not None:
            return content
        looked.append(f"{path} {why}")
        if why != _MISSING:
            set_aside(path, why)
        if os.environ.get("LAZY_ARTIST_OFFLINE", "") not in ("", "0"):
            looked.append("LAZY_ARTIST_OFFLINE forbids a download")
        else:
            try:
                content = _download(name)
            except OSError as error:
                looked.append(f"the download failed ({error})")
            else:
                keep(path, content)
                return content
    raise DataNotFoundError(
        f"{name} cannot be had: {'; '.join(looked)}. Set LAZY_ARTIST_DATA to a folder that holds "
        f"{FOLDER}/{name}, or connect to the network."
    )


def cnn_weights() -> dict[str, torch.Tensor]:
    """The weights of the first challenge's network, float32 on the CPU: conv1.weight (8, 1, 3, 3),
    ..., fc2.bias (2,). Raises as `read` does."""
    weights = torch.load(io.BytesIO(read("mnist_model.pt")), map_location="cpu", weights_only=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if shapes != _CNN_SHAPES:
        raise ValueError(f"mnist_model.pt holds {shapes}, not {_CNN_SHAPES}")
    return dict(weights)


def clue_picture() -> np.ndarray:
    """The picture given as a hint, averaged down to float64 (28, 28) in [0, 1]. Raises as `read`
    does."""
    from matplotlib.image import imread

    grey = imread(io.BytesIO(read("mnist_example.png")))[..., :3].mean(axis=2)
    bins = [np.arange(side) * 28 // side for side in grey.shape]
    total = np.zeros((28, 28))
    np.add.at(total, (bins[0][:, None], bins[1][None]), grey)
    return total / np.outer(np.bincount(bins[0]), np.bincount(bins[1]))


def transformer_labels() -> tuple[np.ndarray, np.ndarray]:
    """The true labels of the second challenge, and the released network's answers: bool (113, 113)
    each, by x (row) and y (column). Raises as `read` does."""
    content = unpickle_arrays(read("transformer_label_info.pkl"))
    for name in ("labels", "model_labels"):
        table = content.get(name)
        if np.shape(table) != (SIDE, SIDE) or not np.isin(table, (0, 1)).all():
            raise ValueError(
                f"{name} in transformer_label_info.pkl is not a table of {SIDE} x {SIDE} noughts "
                f"and ones"
            )
    return content["labels"] == 1, content["model_labels"] == 1


def unpickle_arrays(content: bytes) -> dict:
    """A pickled dictionary of NumPy arrays, read without letting the pickle call anything but
    NumPy's array constructor. Raises pickle.UnpicklingError for any other content."""
    return _ArraysOnly(io.BytesIO(content)).load()


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"this pickle asks for {module}.{name}: it is not read")


def _reconstruct(kind: type, shape: tuple, dtype: bytes) -> np.ndarray:
    """What numpy.core.multiarray._reconstruct does for plain arrays."""
    return np.ndarray.__new__(np.ndarray, shape, dtype)


_MISSING = "does not exist"


def _checked(path: Path) -> tuple[bytes | None, str]:
    """A file's content if its checksum is right, else None and what is wrong."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None, _MISSING
    except PermissionError as error:
        raise PermissionError(
            f"{path} cannot be read: make it and its folder readable (chmod -R u+rX {path.parent})"
        ) from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != FILES[path.name].md5:
        return None, f"has the wrong checksum: md5 {found}, not {FILES[path.name].md5}"
    return content, ""


def _download(name: str) -> bytes:
    """Raises OSError; what failed is not asked for again in this process."""
    if name not in _failed:
        address = f"{_REPOSITORY}/{FILES[name].address}"
        try:
            content = within(_CONNECT_SECONDS, _fetched, address)
        except (OSError, http.client.HTTPException) as error:
            _failed[name] = f"{address}: {error or type(error).__name__}"
        else:
            found = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if found == FILES[name].md5:
                return content
            _failed[name] = f"{address}: wrong checksum, md5 {found}"
    raise OSError(_failed[name])


def _fetched(address: str) -> bytes:
    with open_url(address) as answer:
        return answer.read()
