"""The networks that chapters 3 and 4 look into: the cheater, the best cure of chapter 5, and the
oracle."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from lazy_artist.artifacts import fetch, fetch_many, key
from lazy_artist.experiments.networks import (
    data_md5,
    load_network,
    network_config,
    restore,
    seeds,
)

KINDS = ("cheater", "cure", "oracle")
METHOD = "best"  # the cure that the chapters look into, as `curing.robust` takes it


def subject(kind: str, seed: int, arch: str = "cnn") -> dict[str, Any]:
    """What determines a network of one of the `KINDS`: a `network_config`, or that of a cure with
    the key of its artefact, so that what is measured of a cure is measured anew when it is trained
    anew. Either holds "arch", "correlation" and "seed". Raises ValueError for another kind."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of network {kind!r}: choose one of {', '.join(KINDS)}")
    if kind != "cure":
        return network_config(kind, arch, seed)
    config = _cure_config(seed, arch)
    return config | {"artefact": key(_curing().cured, config, data_md5())}


def load(network: dict[str, Any]) -> nn.Module:
    """The network of a `subject`, in eval mode; trained first if it is not stored."""
    if "artefact" not in network:
        return load_network(network)
    config = {name: value for name, value in network.items() if name != "artefact"}
    return restore(fetch(_curing().cured, config, data_md5()), network["arch"])


def prepare_cures() -> None:
    """Train the cures of all seeds, in parallel, if they are not stored."""
    configs = [_cure_config(seed) for seed in seeds()]
    fetch_many(_curing().cured, configs, data_md5(), title="training cures")


def _cure_config(seed: int, arch: str = "cnn") -> dict[str, Any]:
    debias = importlib.import_module("lazy_artist.debias")
    method = debias.BEST if METHOD == "best" else METHOD
    return _curing().cured_config(method, arch, seed)


def _curing():
    """By a computed name: what is measured stands on a cure's own artefact, and not on all that
    chapter 5 tells of cures."""
    return importlib.import_module("lazy_artist.experiments.curing")
