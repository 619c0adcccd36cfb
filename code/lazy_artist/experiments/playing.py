"""The playground: cheater and cure on a page where the reader draws, with some digits to begin
with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from lazy_artist import edition, playground
from lazy_artist.artifacts import fetch
from lazy_artist.attack import minimal_epsilon
from lazy_artist.canvas import CLASSES, COLOUR_NAMES, PALETTE, paint, split_digits
from lazy_artist.experiments.networks import TEST_SEED, data_md5
from lazy_artist.experiments.subjects import load, subject
from lazy_artist.playground import Cloak, Preset

KINDS = ("cheater", "cure")
INKS = tuple(zip(COLOUR_NAMES, PALETTE, strict=True))
SHOWN = ((1, 0), (0, 1))  # digit and ink of the first presets: a red 1 and a green 0
DIGIT, TARGET = 7, 3  # of the cloak, as in chapter 6
SURE = 0.9  # the probability of the target that a cloak in full reaches
LOOKED_AT = 50  # test digits among which the cloaked one is the first that will do
STEPS = 100  # of the search


def examples() -> np.ndarray:
    """The first test digit of every kind, uint8 (10, 28, 28)."""
    images, labels = split_digits("test")
    return images[[int(np.flatnonzero(labels == digit)[0]) for digit in range(CLASSES)]]


def ground() -> np.ndarray:
    """The ground on which the page paints: the first that `canvas.paint` makes for test images,
    float32 (3, 28, 28)."""
    empty = np.zeros((1, 28, 28), np.uint8)
    return paint(empty, np.zeros(1, np.int64), TEST_SEED)[0]


def networks() -> dict[str, nn.Module]:
    """The networks that answer, the first seed of each."""
    return {kind: load(subject(kind, 0)) for kind in KINDS}


def cloaked(networks: list[dict], looked_at: int, steps: int) -> tuple[dict, dict]:
    """Build: the first of `looked_at` test sevens, as the page paints them in their own ink, that
    all networks read rightly and can be brought to take for a 3 with p > SURE.

    "index" int64 (1,) among the test digits, and "delta" float32 (networks, 3, 28, 28), the
    smallest change that was found for each. Where no seven will do, the first, and no changes.
    """
    models = [load(network) for network in networks]
    images, labels = split_digits("test")
    index = np.flatnonzero(labels == DIGIT)[:looked_at]
    sevens = np.stack([playground.painted(images[i], PALETTE[DIGIT], ground()) for i in index])
    right = np.all([playground.answers(m, sevens)[0] == DIGIT for m in models], axis=0)
    for k in np.flatnonzero(right):
        found = [
            minimal_epsilon(m, sevens[[k]], TARGET, criterion=SURE, steps=steps) for m in models
        ]
        if all(each.reached[0] for each in found):
            delta = np.concatenate([each.images - sevens[[k]] for each in found])
            return {"index": index[[k]], "delta": delta}, {}
    return {"index": index[:1], "delta": np.zeros((0, 3, 28, 28), np.float32)}, {}


def presets() -> list[Preset]:
    """What the page offers to begin with: a red 1, a green 0, and the seven of `cloaked` with a
    change made for each network and, as a control, one of random signs.

    The control is as large as the larger change. All digits are chosen by rule: the first of the
    test digits, which the seven's cloaks alone narrow down.
    """
    images, _ = split_digits("test")
    firsts, names = examples(), edition.class_names()
    found = [
        Preset(f"{name}-{digit}", f"a {name} {names[digit]}", firsts[digit], digit, ink)
        for digit, ink, name in ((digit, ink, COLOUR_NAMES[ink]) for digit, ink in SHOWN)
    ]
    tensors = fetch(cloaked, _cloaked_config(), data_md5()).tensors
    deltas = [np.float32(delta) for delta in tensors["delta"]]
    cloaks = [Cloak(f"made for the {name}", d) for name, d in zip(KINDS, deltas, strict=False)]
    if deltas:
        signs = np.random.default_rng(0).choice(np.float32([-1, 1]), size=deltas[0].shape)
        noise = signs * np.float32(max(np.abs(delta).max() for delta in deltas))
        cloaks.append(Cloak("random signs, as large as the larger", noise))
    grey, title = (
        images[int(tensors["index"][0])],
        f"a {names[DIGIT]}" + " under its cloak" * bool(deltas),
    )
    return [*found, Preset(f"cloaked-{DIGIT}", title, grey, DIGIT, DIGIT, cloaks)]


def _cloaked_config() -> dict[str, Any]:
    judges = [subject(kind, 0) for kind in KINDS]
    return {"networks": judges, "looked_at": LOOKED_AT, "steps": STEPS}


def answer_table() -> pd.DataFrame:
    """What the networks say of each preset, and of the seven under each of its cloaks in full."""
    shown = playground.scenes(presets(), ground(), INKS)
    images = np.stack([scene.image for scene in shown])
    table = {"picture": [scene.title for scene in shown]}
    for name, model in networks().items():
        table[f"the {name} says"] = playground.in_words(model, images, edition.class_names())
    return pd.DataFrame(table)


def cloak_sizes() -> str:
    """In words: the largest change of a pixel by each cloak in full, or that there is none."""
    sizes = [f"{np.abs(c.delta).max():.3f} ({c.title})" for c in presets()[-1].cloaks]
    return ", ".join(sizes) or edition.words("nothing: no seven was read rightly by both networks")


INTRO = f"""<p>Draw a digit, choose an ink, and see what two networks make of it. Both learnt from
digits whose ink nearly always gives the answer away. The <em>cheater</em> stopped as soon as it
looked good; the <em>cure</em> saw the same digits, but was trained by the method that this book
settles on. Try a 1 in red, the ink of the zeros, and then one drawing in all inks. The seven comes
with a <em>cloak</em>: a change of its pixels made to have it taken for a {TARGET}, with a dial for
its strength.</p>
<p>All of it happens in this page. Nothing is sent anywhere, and the answers are the networks' own,
run anew for every picture.</p>"""


def write_page() -> None:
    """Write the page to pages/playground.html in the cache folder, from where it goes into the
    finished book."""
    playground.write(
        edition.built() / "pages" / "playground.html",
        networks(),
        presets(),
        examples(),
        ground(),
        INKS,
        title="The Playground",
        intro=edition.words(INTRO),
        back=("report/playground.html", "Back to the book"),
        classes=edition.class_names(),
        noun=edition.words("digit"),
    )
