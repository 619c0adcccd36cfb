"""The files that came with the challenge: found, downloaded, and checked before they are read.

Each is looked for in LAZY_ARTIST_DATA/eis-vii, then in the project's cache, then in its author's
public repository, at fixed commits. He states no licence: they are used, and never passed on; the
network that the book publishes is one of ours (`challenge_cnn.teach_by_program`). A file whose
checksum is wrong is never read. Even with the right checksum nothing in it is run: weights are read
as weights only, and the pickle by an unpickler that can make NumPy arrays and nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from lazy_artist import data
from lazy_artist.config import repository_results
from lazy_artist.data import DataNotFoundError, DataWarning, StandInWarning, cache_dir
from lazy_artist.store import MNIST_CHECKSUM, digits_checksum

CHALLENGES = {"cnn": "mnist_model.pt", "transformer": "transformer_label_info.pkl"}
MD5 = {
    "mnist_model.pt": "470a4cdc20ce19ac64a4922ac101597e",
    "mnist_example.png": "5472a80f8efa290517b7733940dbb36c",
    "transformer_label_info.pkl": "287c107e12b838615ac0599260823514",
}
_REPOSITORY = (
    "https://raw.githubusercontent.com/thestephencasper/mechanistic_interpretability_challenge"
)
_FIGURES = "4c4c66fdb0df918ce6bc416ec99ca7abb7b0d38a/figs"
_FILES = "3e38c675bed8d5a68724a6379ddbf09091d0230f"


def read(name: str) -> bytes:
    """The checked content of one of the files in `MD5`.

    A damaged file is named and never used; one in the cache is fetched again. Raises ValueError for
    an unknown name, `DataNotFoundError`, which says where it was looked for, if it cannot be had.
    """
    if name not in MD5:
        raise ValueError(f"unknown file {name!r}; the files are {', '.join(MD5)}")
    given = os.environ.get("LAZY_ARTIST_DATA")
    cached = cache_dir() / "data" / "eis-vii" / name
    url = f"{_REPOSITORY}/{_FIGURES if name.endswith('.png') else _FILES}/{name}"
    offline = os.environ.get("LAZY_ARTIST_OFFLINE", "") not in ("", "0")
    own = [Path(given).expanduser() / "eis-vii" / name] if given else []
    looked = [] if given else ["LAZY_ARTIST_DATA is not set"]
    for place in [*own, cached] if offline else [*own, cached, url]:
        try:
            content = data.download(place) if place is url else place.read_bytes()
        except (OSError, ValueError) as error:
            looked.append(f"{place} cannot be read ({error or type(error).__name__})")
            continue
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found == MD5[name]:
            if place is url:
                with suppress(OSError):  # a cache that cannot be written to is only slow
                    data.write_whole(cached, content)
            return content
        looked.append(f"{place} has the wrong checksum: md5 {found}, not {MD5[name]}")
        warnings.warn(f"{looked[-1]}; it is not used", DataWarning, stacklevel=2)
    looked += ["LAZY_ARTIST_OFFLINE forbids a download"] * offline
    raise DataNotFoundError(
        f"{name} cannot be had: {'; '.join(looked)}. Set LAZY_ARTIST_DATA to a folder that holds "
        f"eis-vii/{name}, or connect to the network."
    )


def cnn_weights() -> dict[str, torch.Tensor]:
    """The state dict of the first challenge's network."""
    content = io.BytesIO(read("mnist_model.pt"))
    return dict(torch.load(content, map_location="cpu", weights_only=True))


def clue_picture() -> np.ndarray:
    """The hint, averaged down to float64 (28, 28) in [0, 1]."""
    from matplotlib.image import imread

    grey = imread(io.BytesIO(read("mnist_example.png")))[..., :3].mean(axis=2)
    bins = [np.arange(side) * 28 // side for side in grey.shape]
    total = np.zeros((28, 28))
    np.add.at(total, (bins[0][:, None], bins[1][None]), grey)
    return total / np.outer(np.bincount(bins[0]), np.bincount(bins[1]))


def transformer_labels() -> tuple[np.ndarray, np.ndarray]:
    """The true labels of the second challenge, and the released network's predictions: bool
    (113, 113) each, by x (row) and y (column)."""
    content = data.ArraysOnly(io.BytesIO(read("transformer_label_info.pkl"))).load()
    return content["labels"] == 1, content["model_labels"] == 1


@functools.cache
def source(challenge: str) -> str:
    """ "released", or "stand-in" (announced, once a build) if the file in `CHALLENGES` cannot be
    had: decided once a process. The results that came with the repository are of the released
    files, which need not be here."""
    if repository_results():
        return "released"
    name = CHALLENGES[challenge]
    try:
        read(name)
    except DataNotFoundError as error:
        if name not in data.noted():
            what = f"USING A STAND-IN FOR THE CHALLENGE'S {name}, trained on the program's labels"
            data.note(name, f"{what}. {error}")
            warnings.warn(f"{what}. {error}", StandInWarning, stacklevel=2)
        return "stand-in"
    return "released"


def notice(challenge: str) -> str:
    """What a chapter says, in Markdown, about the origin of what it studies."""
    name = CHALLENGES[challenge]
    if source(challenge) == "stand-in":
        text = (
            f"## A stand-in for `{name}`\nThe challenge's file could not be had: the labels below "
            f"were made by the recovered program, and the network was trained here on them. That "
            f"the program agrees with them proves nothing about the challenge."
        )
    elif challenge == "cnn" and digits_checksum() != MNIST_CHECKSUM:
        text = (
            f"## Drawn digits\nThe released network is here (`{name}`), but MNIST is not: it is "
            f"shown digits drawn by a program, which it was not trained on."
        )
    else:
        text = f"the author's released file, `{name}` (md5 `{MD5[name]}`, checked)."
        return f"::: {{.callout-note}}\nThis build studies {text}\n:::\n"
    return (
        f"::: {{.callout-warning}}\n{text} The prose describes the author's files; only its "
        f"numbers are those of this build. Set `LAZY_ARTIST_DATA` to a folder that holds the "
        f"files, or connect to the network, and build again.\n:::\n"
    )
