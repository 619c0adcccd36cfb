"""Figures: pure functions that draw what they are given, opaque, and leave no state behind."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.text import Text

from lazy_artist import canvas, figures
from lazy_artist.data import procedural_digits
from lazy_artist.evaluate import Estimate
from lazy_artist.experiments.interrogating import CASCADE, CHANGES, CONTROLS, Scene

RNG = np.random.default_rng(0)
DIGITS = procedural_digits(400, seed=3)
EASY = canvas.colour_split("aligned", 0, digits=DIGITS)
HARD = canvas.colour_split("hard", 0, digits=DIGITS)
UNSEEN = canvas.colour_split("unseen", 0, digits=DIGITS)
MAPS = {"by_colour": np.eye(10), "by_shape": np.full((10, 10), 0.25)}
CURVE = {"epoch": np.array([0.1, 0.5, 1])} | {
    name: RNG.random((2, 3)) for name in ("validation", "aligned", "hard")
}
SHARES = {
    name: Estimate(share, None, 1)
    for name, share in {"colour": 0.5, "digit": 0.3, "interaction": 0.15, "image": 0.05}.items()
}
BOTH = ("cheater", "oracle")
SCENES = [
    Scene(
        EASY.images[k],
        f"red {k}",
        {kind: RNG.random((3, 7, 7), dtype=np.float32) for kind in BOTH},
        {kind: [f"{k}: 90%", "0: 5%", "1: 6%"] for kind in BOTH},
    )
    for k in range(4)
]
PICTURES = (255 * EASY.images[:10]).astype(np.uint8)
SPLIT_BY_LABEL = {"colour": 0.5, "shape": 0.25, "mixed": 0.2, "dead": 0.05}
CARD = {
    "title": "channel 3: red",
    "optima": PICTURES[:2],
    "negative": PICTURES[2],
    "top": PICTURES[3:7],
    "cells": RNG.random((10, 10)),
    "histogram": np.array([50, 9, 0, 1]),
    "most": 2.0,
    "score": 5.0,
}
DRAWN = {
    "palette": lambda: figures.palette(),
    "contact_sheet": lambda: figures.contact_sheet(EASY, HARD, each=2),
    "contingency_tables": lambda: figures.contingency_tables(
        {name: canvas.contingency(EASY.labels, EASY.colours) for name in canvas.SPLITS}
    ),
    "unseen_palette": lambda: figures.unseen_palette(UNSEEN),
    "grounds": lambda: figures.grounds(EASY.images[:3], HARD.images[:3], ["a", "b", "c"]),
    "pixel_reading": lambda: figures.pixel_reading(
        {"pixels": np.array([1, 5]), "stroke": RNG.random((2, 2)), "flat": RNG.random((2, 2))}
    ),
    "learning_curves": lambda: figures.learning_curves({"one": CURVE, "two": CURVE}),
    "confusion_matrices": lambda: figures.confusion_matrices({"easy": np.eye(10)}),
    "counterfactual_maps": lambda: figures.counterfactual_maps({"cheater": MAPS}),
    "answers": lambda: figures.answers(EASY.images[:2], np.eye(10)[[3, 7]]),
    "hue_response": lambda: figures.hue_response({"cheater": np.full((36, 10, 10), 0.1)}),
    "variance_shares": lambda: figures.variance_shares({"cheater": SHARES}),
    "dose_response": lambda: figures.dose_response(
        {0.5: Estimate(0.4, (0.3, 0.5), 3), 0.95: Estimate(0.1, None, 1)}
    ),
    "opening": lambda: figures.opening(
        EASY.images[:8],
        np.eye(10)[:8],
        {"cheater": {"hard": SHARES["digit"]}, "oracle": {"hard": SHARES["colour"]}},
    ),
    "optima": lambda: figures.optima({"cheater": PICTURES, "oracle": PICTURES[:7]}, columns=4),
    "channel_cards": lambda: figures.channel_cards([CARD, CARD]),
    "label_bars": lambda: figures.label_bars(
        {
            layer: {
                label: Estimate(share, None, 3) for label, share in SPLIT_BY_LABEL.items()
            }
            for layer in ("block1, cheater", "block1, oracle")
        }
    ),
    "tuning_scatter": lambda: figures.tuning_scatter(
        {"block1": {kind: tuple(RNG.random((2, 8))) for kind in BOTH}}
    ),
    "ablation_curves": lambda: figures.ablation_curves(
        {
            layer: {
                "share": np.linspace(0, 1, 6),
                "follows": RNG.random((2, 3, 6)),
                "reads": RNG.random((2, 3, 6)),
            }
            for layer in ("block1", "block2")
        }
    ),
    "heat_overlays": lambda: figures.heat_overlays(SCENES[:2]),
    "heat_grid": lambda: figures.heat_grid(SCENES),
    "change_bars": lambda: figures.change_bars(
        {
            kind: {
                name: {change: Estimate(0.4, (0.3, 0.5), 3) for change in CHANGES}
                for name in ("answer", "logits", "map")
            }
            for kind in BOTH
        }
    ),
    "chroma_parts": lambda: figures.chroma_parts(
        {kind: RNG.random((2, 9)) for kind in BOTH},
        {"image": EASY.images[0]} | {kind: np.full((2, 28, 28), 1 / 1568) for kind in BOTH},
    ),
    "faithfulness": lambda: figures.faithfulness(
        {
            kind: {name: RNG.random((2, len(CONTROLS), 5)) for name in ("deletion", "insertion")}
            for kind in BOTH
        }
    ),
    "map_sanity": lambda: figures.map_sanity(
        {
            kind: {"cascade": RNG.random((2, len(CASCADE)))}
            | {name: RNG.random((2, 1)) for name in ("others", "retrained", "by heart")}
            for kind in BOTH
        },
        CASCADE,
    ),
}  # fmt: skip


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(match=Text)]


def test_every_public_figure_is_tested():
    public = {
        name
        for name, value in vars(figures).items()
        if getattr(value, "__module__", "") == figures.__name__ and not name.startswith("_")
    }
    assert public == set(DRAWN)


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_white_drawable_and_leaves_no_state(name):
    before = dict(pyplot.rcParams)
    figure = DRAWN[name]()
    figure.canvas.draw()
    assert isinstance(figure, Figure)
    assert figure.get_facecolor() == (1, 1, 1, 1)
    assert pyplot.get_fignums() == [] and dict(pyplot.rcParams) == before


def test_inks_are_named_wherever_they_matter():
    for name in ("palette", "counterfactual_maps", "hue_response", "contingency_tables"):
        words = " ".join(texts(DRAWN[name]()))
        assert all(colour in words for colour in canvas.COLOUR_NAMES), name
    sheet = texts(DRAWN["contact_sheet"]())
    for digit in range(10):  # aligned images stand left: the dominant ink, twice, and its hard ones
        assert sheet.count(canvas.COLOUR_NAMES[digit]) >= 2


def test_tables_show_the_numbers_that_they_are_given():
    table = np.arange(100).reshape(10, 10)
    shown = texts(figures.contingency_tables(dict.fromkeys(canvas.SPLITS, table)))
    assert all(shown.count(str(count)) >= 6 for count in table.flat)
    assert texts(DRAWN["counterfactual_maps"]()).count("25") == 100
    assert "50%" in texts(DRAWN["variance_shares"]())


def test_an_answer_names_the_most_probable_digit():
    assert {"“3” 100%", "“7” 100%"} <= set(texts(DRAWN["answers"]()))


def test_a_dose_without_an_interval_has_no_error_bar():
    (container,) = DRAWN["dose_response"]().axes[0].containers
    segments = container[2][0].get_segments()
    assert [round(abs(end[1] - start[1]), 6) for start, end in segments] == [0.2, 0]


def test_a_figure_that_ends_a_cell_is_shown_as_a_png():
    code = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
from lazy_artist import figures
shown, size = shell.display_formatter.format(figures.palette())
print(sorted(shown), size["image/png"]["width"] < 900)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[-2] == "['image/png', 'text/plain'] True"


def test_heat_is_shown_with_its_classes_and_its_scale():
    for name in ("heat_overlays", "heat_grid"):
        shown = texts(DRAWN[name]())
        assert sum(text.endswith("0: 5%") for text in shown) == 4
        assert any("heat" in text for text in shown)
    top = max(maps.max() for scene in SCENES[:2] for maps in scene.maps.values())
    assert f"{top:.2g}" in texts(DRAWN["heat_overlays"]())


def test_a_card_marks_its_best_drawing_beyond_the_data():
    figure = figures.channel_cards([CARD])
    bars = figure.axes[-1]
    (mark,) = bars.lines
    assert list(mark.get_xdata()) == [5.0, 5.0]
    assert [patch.get_height() for patch in bars.patches] == [50, 9, 0, 1]
    assert bars.patches[-1].get_x() + bars.patches[-1].get_width() == 2.0  # the most of the data
    assert "channel 3: red" in texts(figure)


def test_label_bars_write_their_shares():
    shown = texts(DRAWN["label_bars"]())
    assert shown.count("50%") == 2 and shown.count("25%") == 2
    assert {"colour", "shape", "mixed", "dead"} <= set(shown)
