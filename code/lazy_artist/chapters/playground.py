"""The playground: three networks on a page where one draws, with some digits to begin with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lazy_artist import playground
from lazy_artist.attack import minimal_epsilon
from lazy_artist.canvas import PALETTE, paint, split_digits
from lazy_artist.config import TEST_SEED
from lazy_artist.evaluate import balanced
from lazy_artist.networks import Network
from lazy_artist.playground import Cloak, Preset, paint_digit
from lazy_artist.store import stored

DIGIT, TARGET = 7, 3  # of the cloak, as in chapter 6
CONFIDENCE = 0.9  # the probability of the target that a cloak at full strength reaches


def background() -> np.ndarray:
    """On which the page paints: the first background that `canvas.paint` makes for test images,
    float32 (3, 28, 28)."""
    return paint(np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.int64), TEST_SEED)[0]


@stored
def pick_digits(networks: list[Network], n: int, steps: int) -> dict[str, np.ndarray]:
    """The test digits that the page begins with: "examples" uint8 (10, 28, 28), the first of every
    kind, and the "background" that all are painted on. "seven" uint8 (28, 28) is the first of `n`
    sevens, as the page paints them in their own colour, that all networks read correctly and can be
    brought to take for a 3 with p > CONFIDENCE; "delta" float32 (networks, 3, 28, 28), the smallest
    change that was found for each in `steps`. Where no seven will do, the first, and no changes."""
    models = [network.load() for network in networks]
    images, labels = split_digits("test")
    found = {"examples": balanced(images, labels, 1)[0], "background": background()}
    index = np.flatnonzero(labels == DIGIT)[:n]
    sevens = np.stack([paint_digit(images[i], PALETTE[DIGIT], background()) for i in index])
    correct = np.all([playground.top_class(m, sevens)[0] == DIGIT for m in models], axis=0)
    for k in np.flatnonzero(correct):
        goal = {"criterion": CONFIDENCE, "steps": steps}
        minima = [minimal_epsilon(m, sevens[[k]], TARGET, **goal) for m in models]
        if all(minimum.reached[0] for minimum in minima):
            delta = np.concatenate([minimum.images - sevens[[k]] for minimum in minima])
            return found | {"seven": images[index[k]], "delta": delta}
    return found | {"seven": images[index[0]], "delta": np.zeros((0, 3, 28, 28), np.float32)}


def presets(names: Sequence[str], digits: dict[str, np.ndarray]) -> list[Preset]:
    """What the page offers to begin with, of `pick_digits`: a red 1, a green 0, and the seven with
    the change made for each of the networks `names` and, as a control as large as the largest, one
    of random signs."""
    zero, one, *_ = digits["examples"]
    deltas = digits["delta"]
    cloaks = [Cloak(f"made for the {name}", d) for name, d in zip(names, deltas, strict=False)]
    if cloaks:
        signs = np.random.default_rng(0).choice(np.float32([-1, 1]), size=deltas[0].shape)
        noise = signs * np.abs(deltas).max()
        cloaks.append(Cloak("random signs, as large as the larger", noise))
    title = f"a {DIGIT}" + " under its cloak" * bool(cloaks)
    return [
        Preset("red-1", "a red 1", one, 1, 0),
        Preset("green-0", "a green 0", zero, 0, 1),
        Preset(f"cloaked-{DIGIT}", title, digits["seven"], DIGIT, DIGIT, cloaks),
    ]
