"""The opening page and the colophon: what the book says about itself."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from lazy_artist import edition
from lazy_artist.artifacts import records
from lazy_artist.canvas import split_digits
from lazy_artist.data import load_digits
from lazy_artist.experiments import curing
from lazy_artist.experiments.cheating import accuracies, red_ones
from lazy_artist.experiments.networks import percent, scale, seeds
from lazy_artist.training import arithmetic


def opening() -> dict[str, Any]:
    """What the opening page tells: a count and three accuracies as texts, and the arguments of
    `figures.opening`."""
    lazy, honest = accuracies("cheater"), accuracies("oracle")
    images, probabilities = red_ones()
    shown = {"easy": "validation", "hard": "hard"}
    bars = {
        kind: {title: values[split] for title, split in shown.items()}
        for kind, values in (("cheater", lazy), ("oracle", honest))
    }
    return {
        "images": f"{len(split_digits('train')[1]):,}",
        "easy": f"{lazy['validation'].mean:.1%}",
        "hard": f"{lazy['hard'].mean:.1%}",
        "oracle": f"{honest['hard'].mean:.1%}",
        "figure": {"images": images, "probabilities": probabilities, "bars": bars},
    }


def edition_note() -> str:
    """What the opening page says of an edition that is not the digits', in Markdown; else ""."""
    if edition.name() == edition.DIGITS:
        return ""
    names = ", ".join(f"{name} ({label})" for label, name in enumerate(edition.class_names()))
    return f"""::: {{.callout-note}}
## The Fashion edition

This is the book on Fashion-MNIST [@xiao2017fashion], photographs of things to wear, in place of
MNIST's handwritten numerals. The ten classes are: {names}; the data set calls the first
T-shirt/top and the last ankle boot. Networks, recipes, expectations and the thresholds of claims
are those of the MNIST edition; none was changed or tuned for this one. All numbers are this
edition's own. Sentences that explain a number were written for MNIST, and reworded where these
images contradict them; a claim that fails is shown as failed, with the reason as far as we know it.
The two challenges, and the recipes for those who carry on, are about MNIST in every edition.
:::
"""


def commit() -> str:
    """The commit that the book in this folder is built from, as a text that says whether there is
    uncommitted work; "" where git is not there, or does not know the book.

    LAZY_ARTIST_COMMIT comes first: `make publish` sets it to the commit that it began with.
    """
    if given := os.environ.get("LAZY_ARTIST_COMMIT"):
        return f"`{given[:12]}`"

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "_quarto.yml")  # the repository is not another one's
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--", ".", ":(exclude)docs")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"`{head[:12]}`" + ", with uncommitted changes" * bool(changed)


def headline() -> pd.DataFrame:
    """The book in four rows: accuracies in percent of the three-layer CNN as cheater, trained for
    longer, cured without colour labels, and as oracle, means over seeds with 95% intervals."""
    networks = {
        "the cheater": accuracies("cheater"),
        "the same, trained longer": accuracies("diligent"),
        "cured, without colour labels": curing.results("combination"),
        "the oracle, never tempted": accuracies("oracle"),
    }
    shown = {
        "validation": "easy",
        "hard": "hard",
        "unseen": "unseen inks",
        "hard follows": "hard: says the ink's digit",
    }
    rows = [
        {"network": name} | {title: percent(values[split]) for split, title in shown.items()}
        for name, values in networks.items()
    ]
    return pd.DataFrame(rows)


def colophon() -> pd.DataFrame:
    """What this copy was made from: commit (where git knows it), data, scale, seeds, software,
    builder, machine, time."""
    digits = {split: load_digits(split) for split in ("train", "test")}
    kept = records()
    seconds = sum(record["wall_seconds"] for record in kept)
    made_from = commit()
    facts = {
        **({"commit": made_from} if made_from else {}),
        "digits": digits["train"].source,
        **{f"checksum of {split} digits (md5)": f"`{d.md5}`" for split, d in digits.items()},
        "scale": scale(),
        "seeds of every network": ", ".join(str(seed) for seed in seeds()),
        "arithmetic": f"{str(arithmetic()).removeprefix('torch.')} to train, float32 to measure",
        "artefacts kept, of all builds": f"{len(kept)}, made in {seconds / 60:.1f} minutes",
        "builder": os.environ.get("LAZY_ARTIST_BUILDER") or "Quarto, started by hand",
        "software": ", ".join(
            f"{name} {importlib.metadata.version(name)}"
            for name in (
                "lazy-artist",
                "torch",
                "torchvision",
                "numpy",
                "scikit-learn",
                "matplotlib",
            )
        ),
        "Python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processor cores",
        "built": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
    }
    return pd.DataFrame(facts.items(), columns=["what", "value"])
