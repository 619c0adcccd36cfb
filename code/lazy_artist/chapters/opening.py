"""The opening page and the colophon: what the book says about itself."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lazy_artist import plots
from lazy_artist.claims import result_origins
from lazy_artist.config import device, repository_results, scale, seeds
from lazy_artist.data import load_digits
from lazy_artist.results import read_index
from lazy_artist.store import digits_checksum, machine
from lazy_artist.training import low_precision

SOFTWARE = ("lazy-artist", "torch", "torchvision", "numpy", "scikit-learn", "matplotlib")


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


def colophon() -> pd.DataFrame:
    """What this copy was made from, `what` and `value`: commit (where git knows it), data, scale,
    seeds, software, builder, machine, time."""
    here = repository_results() is None
    digits = load_digits("train").source if here else "MNIST, by the checksum of the results"
    made_from, origins = commit(), result_origins()
    results = f"{origins['cache'] + origins['computed']} from this machine"
    if came := origins["repository"]:
        index = read_index()
        results += (
            f", {came} with the repository, computed from `{index['commit'][:12]}` on "
            f"{index['created']} ({index['machine']})"
        )
    versions = [f"{name} {importlib.metadata.version(name)}" for name in SOFTWARE]
    info = {
        **({"commit": made_from} if made_from else {}),
        "digits": digits,
        "checksums of train and test digits (md5)": f"`{digits_checksum()}`",
        "scale": scale(),
        "seeds of every network": ", ".join(str(seed) for seed in seeds()),
        "precision here": f"{low_precision(device())} to train, float32 to measure".replace(
            "torch.", ""
        ),
        "results": results,
        "builder": os.environ.get("LAZY_ARTIST_BUILDER") or "Quarto, started by hand",
        "software": ", ".join(versions),
        "Python": platform.python_version(),
        "machine": f"{platform.system()} {machine()}",
        "built": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC"),
    }
    return pd.DataFrame(info.items(), columns=["what", "value"])


# --- figures -------------------------------------------------------------------------------------


def cheater_at_a_glance(red: dict[str, np.ndarray], accuracy: pd.DataFrame) -> Figure:
    """The story at a glance: red ones with the cheater's predictions (`cheater.red_ones`), and
    estimates of two networks' (rows) accuracy on kinds of images (columns) as bars."""
    figure = plots.Figure(figsize=(plots.WIDTH, 3.4))
    left, right = figure.subfigures(1, 2, width_ratios=[1.15, 1])
    pairs = zip(red["images"], red["probabilities"], strict=True)
    for ax, (image, shares) in zip(left.subplots(2, 4).flat, pairs, strict=False):
        plots.picture(ax, image, f"“{shares.argmax()}” ({shares.max():.0%})", size=9)
    left.suptitle("what the cheater takes red ones for")

    ax = right.subplots()
    styles = ((-0.2, plots.VERMILION, ""), (0.2, plots.BLUE, "//"))
    for (network, row), (shift, colour, hatch) in zip(accuracy.iterrows(), styles, strict=True):
        x, means = np.arange(len(row)) + shift, [value.mean for value in row]
        bars = ax.bar(x, means, 0.4, color=colour, hatch=hatch, edgecolor="white", label=network)
        ax.bar_label(bars, [f"{mean:.0%}" for mean in means], padding=2, fontsize=plots.SMALL)
    ax.set_xticks(range(len(row)), row.index)
    ax.set_ylim(0, 1.12)
    ax.set_yticks([0, 0.5, 1])
    plots.percent_axis(ax.yaxis, "")
    ax.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    frame = accuracy.melt(var_name="images", value_name="accuracy", ignore_index=False)
    note = "accuracy: share of images, mean over seeds with its 95% interval"
    return plots.show(figure, frame.reset_index(), note)
