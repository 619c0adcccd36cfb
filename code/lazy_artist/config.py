"""What all chapters share: the scale of the book, seeds, sizes and recipes, set here alone.

`LAZY_ARTIST_SCALE` is "full" (default) or "quick": fewer seeds and images, shorter training, for
trying a change. A size that differs by scale is `pick(full, quick)`, and is passed to what needs
it: no stored function reads the scale by itself. `LAZY_ARTIST_DEVICE` says where networks live.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

SCALES = ("full", "quick")
BIAS, NO_BIAS = 0.95, 0.1  # share of dominant colours; with ten colours, 0.1 is independence
TEST_SEED = 1000  # paints every split that networks are measured on
N_CURVE = {"validation": 1000, "aligned": 500, "hard": 500}  # images of the learning curves
ARCH_NAMES = {"cnn": "three-layer CNN", "resnet18": "ResNet-18", "mlp": "MLP"}


class Recipe(NamedTuple):
    """How to train: passes over the data, peak learning rate, images a batch, weight decay (of
    AdamW, decoupled)."""

    epochs: float
    learning_rate: float
    batch_size: int
    weight_decay: float = 0.01


# The cheater's recipes are short and gentle: they stop with easy validation just above 95%. That of
# the CNN is the most confident of those that trials on validation digits found fit (`trials.py`);
# its weight decay holds back what is learnt slowly, which is shape.
RECIPES = {
    ("cheater", "cnn"): Recipe(epochs=1, learning_rate=1e-4, batch_size=64, weight_decay=30),
    ("cheater", "resnet18"): Recipe(epochs=0.3, learning_rate=3e-4, batch_size=128),
    ("convinced-cheater", "cnn"): Recipe(epochs=1, learning_rate=1e-3, batch_size=256),
    ("long-trained", "cnn"): Recipe(epochs=4, learning_rate=4e-3, batch_size=256),
    ("long-trained", "resnet18"): Recipe(epochs=0.75, learning_rate=2e-3, batch_size=128),
}
CONVINCED_POWER = 0.9  # of the convinced cheater's generalised cross-entropy
# The one budget of all methods of debiasing, by architecture. The MLP's passes are those of LfF's
# authors. Rate and batch were set on validation digits with the oracle and the combination.
DEBIAS_RECIPES = {
    "cnn": Recipe(epochs=4, learning_rate=8e-3, batch_size=128),
    "resnet18": Recipe(epochs=2, learning_rate=2e-3, batch_size=128),
    "mlp": Recipe(epochs=100, learning_rate=4e-3, batch_size=512),
}
# Of auxiliary networks, which cheat since they hardly learn; their passes are settings of methods.
AMPLIFIED_RECIPES = {
    "cnn": Recipe(epochs=0.5, learning_rate=1e-3, batch_size=256),
    "resnet18": Recipe(epochs=0.5, learning_rate=1e-3, batch_size=256),
    "mlp": Recipe(epochs=0.5, learning_rate=1e-3, batch_size=128),
}
# What quick scale makes of a recipe: the factors of epochs and of the peak rate.
QUICK = {"cheater": (0.5, 2), "convinced-cheater": (0.5, 2), "long-trained": (0.2, 1)}


def scale() -> str:
    """ "full" or "quick", from LAZY_ARTIST_SCALE. Raises ValueError, listing the valid ones, for
    anything else."""
    name = os.environ.get("LAZY_ARTIST_SCALE") or "full"
    if name not in SCALES:
        raise ValueError(f"LAZY_ARTIST_SCALE is {name!r}: choose one of {', '.join(SCALES)}")
    return name


def results_folder() -> Path:
    """Where results that come with the repository lie: LAZY_ARTIST_RESULTS, else its `results`."""
    named = os.environ.get("LAZY_ARTIST_RESULTS")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "results"


def repository_results() -> Path | None:
    """The `results_folder` if it is used: its results are of MNIST, and for one chapter of
    Fashion-MNIST, at full scale. LAZY_ARTIST_FRESH=1 does without."""
    folder, fresh = results_folder(), os.environ.get("LAZY_ARTIST_FRESH", "") not in ("", "0")
    real = data_source() in ("auto", "mnist", "fashion-mnist")
    used = real and not fresh and scale() == "full" and (folder / "index.json").is_file()
    return folder if used else None


def data_source() -> str:
    """What LAZY_ARTIST_SOURCE names (see `data.load_digits`; `data.using`), by default "auto"."""
    return os.environ.get("LAZY_ARTIST_SOURCE") or "auto"


def device() -> torch.device:
    """Where the book's networks live, from LAZY_ARTIST_DEVICE: "auto" (default; the accelerator
    that torch finds, else the processor), or a device by its name, such as "cpu", "cuda" or "mps".
    Raises ValueError, listing those there are, for one that is not here."""
    import torch

    name, here = os.environ.get("LAZY_ARTIST_DEVICE") or "auto", ["cpu"]
    if torch.accelerator.is_available():
        here.append(torch.accelerator.current_accelerator().type)
    if name == "auto":
        return torch.device(here[-1])
    if name not in here:
        raise ValueError(
            f"LAZY_ARTIST_DEVICE is {name!r}, which is not here: choose auto, {' or '.join(here)}"
        )
    return torch.device(name)


def sealed_splits() -> list[str]:
    """["sealed"] if the sealed digits are open, else []: what measurements add to their splits.

    LAZY_ARTIST_SEALED is "closed" (default, while recipes are being chosen) or "open". Raises
    ValueError for anything else."""
    state = os.environ.get("LAZY_ARTIST_SEALED") or "closed"
    if state not in ("closed", "open"):
        raise ValueError(f"LAZY_ARTIST_SEALED is {state!r}: choose closed or open")
    return ["sealed"] * (state == "open")


def pick(full: T, quick: T) -> T:
    """The one of the two that belongs to the scale of this run."""
    return full if scale() == "full" else quick


def seeds(arch: str = "cnn") -> range:
    """The seeds of every network: three at full scale, two at quick scale, where the slower
    ResNet-18 has one."""
    return range(pick(3, 1 if arch == "resnet18" else 2))


def n_eval() -> int | None:
    """Images of each split that networks are measured on, at most; None: all."""
    return pick(None, 1000)


def n_train() -> int:
    """Training images that the methods of debiasing see, at most."""
    return pick(50_000, 3_000)
