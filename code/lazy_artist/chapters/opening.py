"""The opening page and the colophon: what the book says about itself."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import os
import platform
import subprocess
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from lazy_artist import canvas, plots
from lazy_artist.attack import minimal_epsilon
from lazy_artist.canvas import PALETTE, split_digits
from lazy_artist.claims import book_ledger, quoted, result_origins
from lazy_artist.config import TEST_SEED, device, repository_results, scale, seeds
from lazy_artist.data import load_digits
from lazy_artist.eis7.cnn import CLUE
from lazy_artist.eis7.transformer import transformer_label
from lazy_artist.evaluate import balanced, repaint
from lazy_artist.gradcam import grad_cam
from lazy_artist.networks import Network
from lazy_artist.results import read_index
from lazy_artist.store import digits_checksum, machine, stored
from lazy_artist.training import low_precision

SOFTWARE = ("lazy-artist", "torch", "torchvision", "numpy", "scikit-learn", "matplotlib")


class Answer(NamedTuple):
    """A row of the opening page: a chapter's stem, its task, its answer in one sentence (see
    `claims.quoted`), the claims whose outcome stands beside it, and what the picture shows."""

    chapter: str
    task: str
    answer: str
    claims: str
    alt: str


ANSWERS = [
    Answer(
        "biased-canvas", "Paint digits whose colour gives them away",
        "A linear model that sees the mean colour alone is right on {canvas-colour-alone:.1%} of "
        "easy images.",
        "canvas-train-share", "A red zero and a green one.",
    ),
    Answer(
        "cheater", "Make a network cheat, and prove it",
        "The cheater is right on {cheater-hard:.1%} of hard images; of ones painted red it takes "
        "{cheater-red-one:.1%} for zeros.",
        "cheater-hard", "The same one in green and in red.",
    ),
    Answer(
        "prober", "Draw what its neurons see",
        "Channels that follow the colour: {probe-cheater-colour-share:points} percentage points "
        "more of the cheater's last layer than of the oracle's.",
        "probe-cheater-colour-share", "Small coloured squares: the cheater's first filters.",
    ),
    Answer(
        "interrogation", "Ask where it looks",
        "Recolouring turns {gradcam-recolour-moves-cheater:points} percentage points more of the "
        "cheater's answers than reshaping.",
        "gradcam-recolour-moves-cheater", "A yellow seven, and where the cheater looks.",
    ),
    Answer(
        "intervention", "Cure it, with the colour left in",
        "Without a label of colour, the cure is right on {cure-best-hard:.1%} of hard images, and "
        "on {cure-rare:.1%} where exceptions are ten times rarer.",
        "cure-best-hard cure-rare", "The same seven in yellow and in cyan.",
    ),
    Answer(
        "cloak", "Make a three of a seven",
        "The cure needs {cloak-ratio:.2f} times the noise that the cheater needs (below 1: it is "
        "easier to fool).",
        "cloak-ratio", "Two violet sevens that look alike; the cure takes the second for a three.",
    ),
    Answer(
        "decomposition", "Take its hidden states apart",
        "{sae-colours-found:.0f} colours of ten have a latent, a direction that an autoencoder "
        "learnt; with latents scaled, the cheater's own head reads {sae-cure:.1%} of hard images.",
        "sae-cure", "A cloud of points that falls into ten colours.",
    ),
    Answer(
        "fashion", "Do all of it again on clothes",
        "On clothes the cheater is right on {fashion-cheater-hard:.1%} of hard images, the cure on "
        "{fashion-cure-best-hard:.1%}.",
        "fashion-cheater-hard", "A red zero and a green one.",
    ),
    Answer(
        "challenge-cnn", "Find a CNN's secret rule",
        "A program of a few lines gives the network's answer on "
        "{challenge1-agreement-test:.2%} of test digits.",
        "challenge1-agreement-test", "A thin one, and its negative.",
    ),
    Answer(
        "challenge-transformer", "Find a transformer's secret rule",
        "A short program gets {challenge2-program-errors:.0f} of all labels wrong.",
        "challenge2-program-errors", "Bright and dark stripes: labels of pairs of numbers.",
    ),
]  # fmt: skip
"""The rows of the opening page, in order; a chapter that the book lacks is left out."""


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


def answers_table(chapters: list[str], pictures: dict[str, np.ndarray]) -> str:
    """The rows of `ANSWERS` whose chapter the book has, as a table in Markdown: the task, the
    answer with its numbers from the claims on record, a picture of `thumbnails`, the outcome."""
    made, rows = book_ledger(), ["| Task | Answer |  | Claim |"]
    rows.append(f"|:{'-' * 23}|:{'-' * 39}|{'-' * 19}|:{'-' * 17}|")  # widths, in percent
    for row in ANSWERS:
        if row.chapter in chapters:
            file, large = io.BytesIO(), np.kron(pictures[row.chapter], np.ones((2, 2, 1), np.uint8))
            Image.fromarray(large).save(file, "PNG", optimize=True)
            data = base64.b64encode(file.getvalue()).decode()
            size = f"width={large.shape[1]} height={large.shape[0]}"
            picture = f'![](data:image/png;base64,{data}){{fig-alt="{row.alt}" {size}}}'
            task = f"{row.task} (@sec-{row.chapter.removeprefix('biased-')})"
            outcome = quoted("; ".join(f"{{{id}:outcome}}" for id in row.claims.split()), made)
            rows.append(f"| {task} | {quoted(row.answer, made)} | {picture} | {outcome} |")
    return "\n".join(rows)


@stored
def thumbnails(cheater: Network, cure: Network) -> dict[str, np.ndarray]:
    """A picture uint8 (28, 57, 3) of what each chapter is about, by the chapter."""

    def whole(image: np.ndarray) -> np.ndarray:
        return np.round(255 * image.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)

    def pair(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Two images (3, 28, 28) in [0, 1] side by side."""
        return whole(np.concatenate([left, np.ones((3, 28, 1)), right], axis=2))

    def grey(image: np.ndarray) -> np.ndarray:
        return np.repeat(image[None] / 255, 3, axis=0)

    red_0, red_1, green_1, yellow_7, cyan_7, violet_7 = canvas.specimens(
        [[0, 0], [1, 0], [1, 1], [7, 3], [7, 5], [7, 7]]
    )
    model = cheater.load()
    heat = grad_cam(model, "block3", yellow_7[None], [3])[0]
    heat = np.kron(heat / max(heat.max(), 1e-9), np.ones((4, 4)))
    cloaked = minimal_epsilon(cure.load(), violet_7[None], [3]).images[0]

    kernels = model.block1[0].weight.detach().cpu().numpy()  # (32, 3, 5, 5)
    low, high = (f(kernels, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    framed = np.ones((32, 3, 7, 7))
    framed[:, :, 1:6, 1:6] = (kernels - low) / (high - low)
    sheet = framed.reshape(4, 8, 3, 7, 7).transpose(2, 0, 3, 1, 4).reshape(3, 28, 56)
    sheet = np.concatenate([sheet, np.ones((3, 28, 1))], axis=2)

    digits, labels = split_digits("hard")
    digits, _ = balanced(digits, labels, 4)
    hidden = repaint(model, digits, PALETTE, TEST_SEED, output="features")  # (10, 40, 128)
    flat = hidden.reshape(-1, hidden.shape[2])
    plane = (flat - flat.mean(0)) @ np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:2].T
    plane = (plane - plane.min(0)) / np.ptp(plane, axis=0)
    cloud = np.zeros((3, 28, 57))
    x, y = (plane * [56, 27]).round().astype(int).T
    cloud[:, y, x] = np.repeat(PALETTE, hidden.shape[1], axis=0).T

    side = np.arange(113)
    labels = transformer_label(side[:, None], side)[::4, ::2][:28, :57]
    labels = np.where(labels, 1.0, 0.15) * np.ones((3, 1, 1))
    return {
        "biased-canvas": pair(red_0, green_1),
        "cheater": pair(green_1, red_1),
        "prober": whole(sheet),
        "interrogation": pair(yellow_7, yellow_7 * (0.15 + 0.85 * heat)),
        "intervention": pair(yellow_7, cyan_7),
        "cloak": pair(violet_7, cloaked),
        "decomposition": whole(cloud),
        "fashion": pair(red_0, green_1),
        "challenge-cnn": pair(grey(CLUE), grey(255 - CLUE)),
        "challenge-transformer": whole(labels),
    }  # fmt: skip


# --- figures -------------------------------------------------------------------------------------


def opening_figure(
    asked: dict[str, np.ndarray], pairs: list[list[int]], networks: list[str], *names: list[str]
) -> Figure:
    """Digits in colours that mislead, or what else ten names tell, and what each network predicts
    (`cheater.ask`)."""
    figure, axes = plots.grid(plots.WIDTH, 2.35)
    probabilities = dict(zip(networks, asked["probabilities"], strict=True))
    told = plots.answers(axes[0, 0], asked["images"], pairs, probabilities, *names)
    note = "what each network predicts of each picture, with its confidence, in [0, 1]"
    return plots.show(figure, told, note)
