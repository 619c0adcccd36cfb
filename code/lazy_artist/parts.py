"""Parts of digits: bars, strokes, bends and loops, drawn and cut out of real digits. Which channels
answer to one of them, wherever it is?"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from lazy_artist import tuning
from lazy_artist.canvas import N_CLASSES, paint, split_digits
from lazy_artist.config import TEST_SEED
from lazy_artist.evaluate import balanced
from lazy_artist.networks import Network
from lazy_artist.store import stored

SIDE = 11  # pixels of a part
STEP = 4  # pixels between the places where drawn parts are shown
PAIRS = 100  # digits with a patch that looks like a part, and one that does not
SHIFT = 3  # pixels by which what should not look like the part may be shifted
ALIKE = 0.15  # by which the amounts of stroke in two matched patches may differ


def part_templates() -> dict[str, np.ndarray]:
    """Parts of digits, float32 (11, 11) in [0, 1], by name: strokes three pixels wide."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    curves = {  # distance from the middle of the stroke
        "bar": np.abs(y), "upright stroke": np.abs(x), "loop": np.abs(np.hypot(x, y) - 4),
        "rising stroke": np.abs(x + y) / math.sqrt(2),
        "falling stroke": np.abs(x - y) / math.sqrt(2),
    }  # fmt: skip
    for name, side, other in (
        ("right", x, y), ("left", -x, y), ("bottom", y, x), ("top", -y, x),
    ):  # fmt: skip
        bent = np.abs(np.hypot(side - 2, other) - 4.5)
        curves[f"bend open to the {name}"] = np.where(side <= 2, bent, np.inf)
    return {name: np.clip(2 - away, 0, 1).astype(np.float32) for name, away in curves.items()}


def matched_patches(template: np.ndarray, n_per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the first `n_per_class` validation digits of every kind those `PAIRS` in which a patch
    looks most like a part: grey uint8 (P, 28, 28), best first, and int (P, 2, 2), (row, column) of
    the corners of two patches. The first is that patch, by normalised cross-correlation with the
    template. The second is more than half a side away, has as much stroke (to `ALIKE`), and looks
    least like the part, and at most half as much as the first, also where it is shifted by up to
    `SHIFT` pixels. No network has a say. Raises ValueError if there are no such patches."""
    grey, _ = balanced(*split_digits("validation"), n_per_class)
    images, kernel = torch.from_numpy(grey)[:, None].double() / 255, torch.tensor(template).double()
    centred = (kernel - kernel.mean()) / (kernel - kernel.mean()).norm()
    kernels = torch.stack([torch.ones_like(kernel), centred])[:, None]
    amount, score = F.conv2d(images, kernels).unbind(1)  # (N, 18, 18) each
    squares = F.conv2d(images**2, kernels[:1])[:, 0]
    score = score / (squares - amount**2 / SIDE**2).clamp_min(1e-9).sqrt()
    score = torch.where(amount >= kernel.sum() / 2, score, -torch.inf)
    shifted = F.max_pool2d(score, 2 * SHIFT + 1, 1, SHIFT).flatten(1)
    side, amount, score = score.shape[2], amount.flatten(1), score.flatten(1)
    most, best = score.max(1, keepdim=True)
    places = torch.arange(side**2)
    away = torch.maximum((places // side - best // side).abs(), (places % side - best % side).abs())
    alike = (amount / amount.gather(1, best) - 1).abs() <= ALIKE
    allowed = (away > SIDE // 2) & alike & score.isfinite() & (shifted <= most / 2)
    if not allowed.any():
        raise ValueError("in none of these digits is there a matched patch: take more of them")
    other = torch.where(allowed, shifted, torch.inf).argmin(1)
    order = torch.where(allowed.any(1), most[:, 0], -torch.inf).argsort(descending=True)
    order = order[: min(PAIRS, int(allowed.any(1).sum()))]
    corners = torch.stack([best[order, 0], other[order]], 1)
    return grey[order.numpy()], torch.stack([corners // side, corners % side], 2).numpy()


@stored
def try_parts(network: Network, layers: list[str], n_per_class: int) -> pd.DataFrame:
    """Which channels answer to a part of a digit at any place: a row a channel, with layer,
    channel, part (that of `part_templates` which excites it most, on average), and, of its
    activation on all parts, drawn at 25 places in all ten colours, "share", "colour" and "place",
    the eta squared of part, colour and place;

    answers, whether the part has at least `tuning.DOMINANT` of what all of these and the
        combination of part and colour explain, at least `tuning.FLOOR` and a p below
        `tuning.LEVEL`;
    alone, erased: of `matched_patches` of its part in real digits, the share of pairs in which the
        patch that looks like the part excites the channel more than the other does, both cut out
        and put at the same place, drawn at random; and in which the digit without the first excites
        it less than the digit without the second. 1/2: the part does not matter.
    upheld: both so often that coins would do so less than one time in a hundred.
    """
    from scipy.stats import binom  # slow to import

    model, templates = network.load(), part_templates()
    steps = range(0, 28 - SIDE + 1, STEP)
    drawn = np.zeros((len(templates), len(steps) ** 2, 28, 28), np.uint8)
    for canvas, template in zip(drawn, templates.values(), strict=True):
        for grey, (row, column) in zip(canvas, product(steps, steps), strict=True):
            grey[row : row + SIDE, column : column + SIDE] = np.round(255 * template)
    flat = drawn.reshape(-1, 28, 28)
    images = [paint(flat, np.full(len(flat), colour), TEST_SEED) for colour in range(N_CLASSES)]
    shown = tuning.activations(model, layers, np.concatenate(images))
    parts = np.tile(np.arange(len(templates)).repeat(drawn.shape[1]), N_CLASSES)
    colours = np.arange(N_CLASSES).repeat(len(flat))

    rng, tests = np.random.default_rng(TEST_SEED), []
    for template in templates.values():
        grey, corners = matched_patches(template, n_per_class)
        versions = np.zeros((4, *grey.shape), np.uint8)  # alone: part, other; without: part, other
        for k, image in enumerate(grey):
            to = rng.integers(28 - SIDE + 1, size=2)
            for which, (row, column) in enumerate(corners[k]):
                patch = np.s_[row : row + SIDE, column : column + SIDE]
                versions[which, k][to[0] :, to[1] :][:SIDE, :SIDE] = image[patch]
                versions[2 + which, k] = image
                versions[2 + which, k][patch] = 0
        colour = rng.integers(N_CLASSES, size=len(grey))
        painted = np.concatenate([paint(each, colour, TEST_SEED) for each in versions])
        tests.append(tuning.activations(model, layers, painted))

    frames = []
    for layer in layers:
        values = shown[layer]
        found = tuning.label_units(values, colours, parts)
        crossed = values.reshape(N_CLASSES, *drawn.shape[:2], -1)  # colours, parts, places, K
        place = crossed.mean((0, 1)).var(0) / np.maximum(crossed.var((0, 1, 2)), 1e-12)
        explained = found.digit + found.colour + found.interaction + place
        told = (found.digit >= tuning.FLOOR) & (found.p_digit < tuning.LEVEL)
        best = crossed.mean((0, 2)).argmax(0)
        frame = pd.DataFrame({
            "layer": layer, "channel": np.arange(len(best)),
            "part": np.array(list(templates))[best],
            "share": found.digit, "colour": found.colour, "place": place,
            "answers": told & (found.digit >= tuning.DOMINANT * explained),
        })  # fmt: skip
        wins = []  # a part: (2, K), shares of pairs
        for each in tests:
            alone, other, without, less = each[layer].reshape(4, -1, len(best))
            pairs = np.stack([alone - other, less - without])
            wins.append((np.sign(pairs).mean(1) + 1) / 2)
        frame["alone"], frame["erased"] = np.stack(wins)[best, :, frame.channel].T
        counts = np.array([len(each[layer]) // 4 for each in tests])[best]
        chance = binom.sf(np.ceil(counts * frame[["alone", "erased"]].min(axis=1)) - 1, counts, 0.5)
        frame["upheld"] = chance < tuning.LEVEL
        frames.append(frame.assign(network=network.name, seed=network.seed))
    return pd.concat(frames, ignore_index=True)
