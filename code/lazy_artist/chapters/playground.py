"""The playground: cheater and cure on a page where one draws, with some digits to begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from lazy_artist import playground
from lazy_artist.attack import minimal_epsilon
from lazy_artist.canvas import COLOUR_NAMES, PALETTE, paint, split_digits
from lazy_artist.config import TEST_SEED
from lazy_artist.data import cache_dir
from lazy_artist.evaluate import balanced
from lazy_artist.networks import Network
from lazy_artist.playground import Cloak, Preset, paint_digit
from lazy_artist.store import stored

FIRST = ((1, 0), (0, 1))  # digit and colour of the first presets: a red 1 and a green 0
DIGIT, TARGET = 7, 3  # of the cloak, as in chapter 6
CONFIDENCE = 0.9  # the probability of the target that a cloak at full strength reaches


def examples() -> np.ndarray:
    """The first test digit of every kind, uint8 (10, 28, 28)."""
    return balanced(*split_digits("test"), 1)[0]


def background() -> np.ndarray:
    """On which the page paints: the first background that `canvas.paint` makes for test images,
    float32 (3, 28, 28)."""
    return paint(np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.int64), TEST_SEED)[0]


@stored
def cloak_seven(networks: list[Network], n: int, steps: int) -> dict[str, np.ndarray]:
    """The first of `n` test sevens, as the page paints them in their own colour, that all networks
    read correctly and can be brought to take for a 3 with p > CONFIDENCE: "index" int64 (1,) among
    the test digits, and "delta" float32 (networks, 3, 28, 28), the smallest change that was found
    for each in `steps`. Where no seven will do, the first, and no changes."""
    models = [network.load() for network in networks]
    images, labels = split_digits("test")
    index = np.flatnonzero(labels == DIGIT)[:n]
    sevens = np.stack([paint_digit(images[i], PALETTE[DIGIT], background()) for i in index])
    correct = np.all([playground.top_class(m, sevens)[0] == DIGIT for m in models], axis=0)
    for k in np.flatnonzero(correct):
        goal = {"criterion": CONFIDENCE, "steps": steps}
        found = [minimal_epsilon(m, sevens[[k]], TARGET, **goal) for m in models]
        if all(minimum.reached[0] for minimum in found):
            delta = np.concatenate([minimum.images - sevens[[k]] for minimum in found])
            return {"index": index[[k]], "delta": delta}
    return {"index": index[:1], "delta": np.zeros((0, 3, 28, 28), np.float32)}


def presets(names: Sequence[str], seven: dict[str, np.ndarray]) -> list[Preset]:
    """What the page offers to begin with: a red 1, a green 0, and the `seven` of `cloak_seven` with
    the change made for each of the networks `names` and, as a control as large as the largest, one
    of random signs. All digits are the first of the test digits that will do."""
    firsts = examples()
    shown = [
        Preset(f"{name}-{digit}", f"a {name} {digit}", firsts[digit], digit, colour)
        for digit, colour, name in ((d, c, COLOUR_NAMES[c]) for d, c in FIRST)
    ]
    deltas = seven["delta"]
    cloaks = [Cloak(f"made for the {name}", d) for name, d in zip(names, deltas, strict=False)]
    if cloaks:
        signs = np.random.default_rng(0).choice(np.float32([-1, 1]), size=deltas[0].shape)
        noise = signs * np.abs(deltas).max()
        cloaks.append(Cloak("random signs, as large as the larger", noise))
    grey = split_digits("test")[0][int(seven["index"][0])]
    title = f"a {DIGIT}" + " under its cloak" * bool(cloaks)
    return [*shown, Preset(f"cloaked-{DIGIT}", title, grey, DIGIT, DIGIT, cloaks)]


INTRO = f"""<p>Draw a digit, choose a colour, and see what two networks make of it. Both learnt from
digits whose colour nearly always gives the answer away. The <em>cheater</em> stopped as soon as it
looked good; the <em>cure</em> saw the same digits, but was trained by the method that this book
settles on. Try a 1 in red, the colour of the zeros, and then one drawing in all colours. The seven
comes with a <em>cloak</em>: a change of its pixels made to have it taken for a {TARGET}, at any
strength.</p>
<p>All of it happens in this page. Nothing is sent anywhere, and the answers are the networks' own,
run anew for every picture.</p>"""


def write_page(networks: Mapping[str, nn.Module], presets: Sequence[Preset]) -> None:
    """Write the page to pages/playground.html in the cache folder, from where it goes into the
    finished book."""
    playground.write(
        cache_dir() / "pages" / "playground.html", networks, presets, examples(), background(),
        title="The Playground", intro=INTRO, back=("report/playground.html", "Back to the book"),
    )  # fmt: skip
