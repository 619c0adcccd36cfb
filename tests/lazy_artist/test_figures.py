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
ALL = ("cheater", "cure", "oracle")
SCENES = [
    Scene(
        EASY.images[k],
        f"red {k}",
        {kind: RNG.random((3, 7, 7), dtype=np.float32) for kind in ALL},
        {kind: [f"{k}: 90%", "0: 5%", "1: 6%"] for kind in ALL},
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
CURES = {
    "plain": ("reference", Estimate(0.1, (0.05, 0.2), 3)),
    "best": ("no labels", Estimate(0.9, (0.85, 0.95), 3)),
    "reweighted": ("colour labels", Estimate(0.4, None, 1)),
}
SWEEP = {
    title: {0.95: Estimate(0.8, (0.7, 0.9), 3), 0.995: Estimate(0.3, None, 1)}
    for title in ("plain", "swap")
}
GREY = DIGITS.images[:40].reshape(2, 20, 28, 28)  # uint8
BAND = (-34.0, -15.0)
POINTS = {
    "plane": RNG.normal(size=(60, 2)),
    "digit": np.arange(60) % 10,
    "answer": np.arange(60) % 3 == 0,
    "similarity": np.linspace(-60, 5, 60),
}
EVIDENCE = RNG.normal(size=(3, 60))
FADE = {"fade": np.linspace(0, 1, 5)} | {
    f"fade {name}": np.linspace(0.5, 0.9, 5) for name in ("network", "program", "agreement")
}
PHASE = np.arange(113) % 8
TABLE = RNG.random((113, 113)) < 0.5
SCAN = {
    "exponent": np.array([1, 1.25, 1.5, 1.75]),
    "errors": np.array([900, 1200, 0, 800]),
    "period": np.array([4, 8, 12]),
    "period errors": np.array([700, 3, 500]),
}
FLIPS = {"x": np.array([40, 1, 100, 93]), "y": np.array([65, 25, 33, 40])}
FAMILIES = {
    "left": np.array([True, False, False, False]),
    "lower": np.array([False, True, False, False]),
    "line": np.array([False, False, True, True]),
}
DISTANCES = {
    "steps": np.array(["1", "2–3", "no change"]),
    "released": np.array([[0.2, 0.1, 0.0]]),
    "trained": np.array([[0.4, 0.2, 0.1], [0.2, 0.2, 0.3]]),
}
CLOAKED = {
    name: {
        "image": EASY.images[7],
        "changed": np.clip(EASY.images[7] + 0.02, 0, 1),
        "before": np.eye(10)[7],
        "after": 0.9 * np.eye(10)[3] + 0.01,
        "size": 0.0201,
    }
    for name in ("cheater", "cure")
}
SIZES = {
    goal: {
        "cheater": np.array([[0.01, 0.02], [0.01, 0.04]]),
        "cure": np.array([[0.1, np.inf], [0.2, 0.3]]),
        "oracle": np.array([[0.1, 0.2]]),
        "adversarially trained": np.array([[0.3, 0.4]]),
    }
    for goal in ("predicts 3", "p(3) > 0.9")
}
PAIRS = np.where(np.eye(10) == 1, 0, 0.125)
PAIRS[2, 5] = np.inf
LATENT = {
    "latent": 41,
    "label": "colour red",
    "manual": "thick red",
    "images": EASY.images[:9],
    "effect": np.array([0, 1, 2, 9, 0, 0, 0, 0, 0, 0.0]),
}
SILENCED = {"share": np.array([0.1, 0.5, 0.9])} | {
    name: RNG.random((2, 3, 2)) for name in ("zeroed", "mean", "balanced")
}
WALK = np.linspace(0, 1, 11)[:, None, None] * np.eye(10)[np.ones(5, int)]  # to surely one
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
        {"block1": {kind: tuple(RNG.random((2, 8))) for kind in ALL}}
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
            for kind in ALL
        }
    ),
    "chroma_parts": lambda: figures.chroma_parts(
        {kind: RNG.random((2, 9)) for kind in ALL},
        {"image": EASY.images[0]} | {kind: np.full((2, 28, 28), 1 / 1568) for kind in ALL},
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
    "recoloured": lambda: figures.recoloured(
        {"as painted": EASY.images[:3], "inks swapped": HARD.images[:3]}
    ),
    "cures_ranked": lambda: figures.cures_ranked(CURES),
    "correlation_curves": lambda: figures.correlation_curves(SWEEP),
    "gaze": lambda: figures.gaze(
        {"cheater": np.linspace(0.5, 0.9, 101), "best": np.linspace(0, 0.4, 101)},
        {"cheater": (RNG.random(16), RNG.random(16)), "best": (RNG.random(16), RNG.random(16))},
    ),
    "overlays": lambda: figures.overlays(
        HARD.images[:2],
        {title: (np.array([4, 9]), RNG.random((2, 28, 28))) for title in ("before", "after")},
    ),
    "cloak": lambda: figures.cloak(CLOAKED),
    "success_curves": lambda: figures.success_curves(SIZES, bound=0.08),
    "survival_curves": lambda: figures.survival_curves(SIZES),
    "pair_maps": lambda: figures.pair_maps({"cheater": PAIRS, "cure": 2 * PAIRS}),
    "sparse_front": lambda: figures.sparse_front(
        {
            kind: [{"l0": 2.0, "fvu": 0.4}, {"l0": 16.0, "fvu": 0.1}]
            for kind in figures.CODE_STYLES
        }
    ),
    "latent_sheet": lambda: figures.latent_sheet([LATENT, LATENT | {"manual": ""}], columns=2),
    "silence_curves": lambda: figures.silence_curves(SILENCED),
    "dial_walks": lambda: figures.dial_walks(WALK, single=3),
    "challenge_extremes": lambda: figures.challenge_extremes(GREY[0, 0], GREY[:, :10]),
    "hidden_plane": lambda: figures.hidden_plane(POINTS, BAND),
    "ramps": lambda: figures.ramps(
        {"similarity": POINTS["similarity"], "evidence": EVIDENCE, "margin": EVIDENCE.sum(0)},
        ("one", "anti-one", "brake"),
        BAND,
    ),
    "templates": lambda: figures.templates(
        {"clue": RNG.normal(size=(28, 28)), "one": np.eye(28)}, RNG.normal(size=(8, 3, 3))
    ),
    "threshold_curve": lambda: figures.threshold_curve(
        {"similarity": np.array([-50.0, -25, 0]), "share": np.array([0.9, 0.1, 0.8])}, BAND
    ),
    "fading": lambda: figures.fading(FADE),
    "pixel_edits": lambda: figures.pixel_edits(
        GREY[0, :4], np.array([-40, -10.25, -20, -14]), np.array([True, True, False, True])
    ),
    "label_maps": lambda: figures.label_maps({"true labels": TABLE, "network": ~TABLE}),
    "sorted_rows": lambda: figures.sorted_rows(TABLE, PHASE),
    "exponent_scan": lambda: figures.exponent_scan(SCAN, 113**2),
    "flip_curves": lambda: figures.flip_curves(FLIPS, FAMILIES),
    "error_distance": lambda: figures.error_distance(DISTANCES),
    "transformer_inside": lambda: figures.transformer_inside(
        RNG.random((8, 2, 113)), RNG.random((4, 113, 113)), RNG.normal(size=(2, 113, 113))
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
        assert sum(text.endswith("0: 5%") for text in shown) == 2 * len(ALL)
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


def test_cures_are_ranked_best_on_top_with_their_intervals():
    ax = DRAWN["cures_ranked"]().axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["plain", "reweighted", "best"]
    spans = [list(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
    assert spans[:3] == [[0.05, 0.2], [0.4, 0.4], [0.85, 0.95]]  # then guessing and the bar
    assert {"10.0", "40.0", "90.0"} <= {text.get_text() for text in ax.texts}


def test_a_correlation_is_drawn_as_the_share_of_misleading_images():
    ax = DRAWN["correlation_curves"]().axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["5%", "0.5%"]
    curves = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert set(curves) == {"plain", "swap"}
    np.testing.assert_allclose(curves["swap"].get_xdata(), [0.05, 0.005])
    assert list(curves["swap"].get_ydata()) == [0.8, 0.3]
    ends = [list(line.get_ydata()) for line in ax.lines if line.get_label().startswith("_")]
    assert ends == [[0.7, 0.9]] * 2  # one seed has no interval


def test_gaze_boxes_and_dots_stand_where_the_numbers_are():
    dots = (np.array([0.1, 0.2]), np.array([0.8, 0.9]))  # digit, ink
    figure = figures.gaze({"first": np.linspace(0.5, 0.9, 101), "last": np.zeros(9)}, {"a": dots})
    above, below = figure.axes
    assert [tick.get_text() for tick in above.get_yticklabels()] == ["last", "first"]
    last, first = above.patches
    assert last.get_width() == 0
    np.testing.assert_allclose([first.get_x(), first.get_width()], [0.6, 0.2])
    assert list(below.lines[1].get_xdata()) == [0.8, 0.9]
    assert (below.get_xlabel(), below.get_ylabel()) == ("variance with ink", "variance with digit")


def test_overlays_write_the_answers_of_each_network():
    shown = texts(DRAWN["overlays"]())
    assert shown.count("“4”") == shown.count("“9”") == 2 and {"before", "after"} <= set(shown)


def test_a_cloak_shows_its_size_rounded_up_and_both_probabilities():
    figure = figures.cloak(CLOAKED, factor=5)
    assert texts(figure).count("the sum (change ≤ 0.03)") == 2
    assert texts(figure).count("change, 5 times") == 2
    change = figure.axes[1].images[0].get_array()
    np.testing.assert_allclose(change[change < 0.6 - 1e-4], 0.5, atol=0.1)  # clipped at white
    assert np.mean(np.isclose(change, 0.6, atol=1e-4)) > 0.9  # grey + 5 * 0.02
    heights = [bar.get_height() for bar in figure.axes[3].patches]
    assert heights == [*CLOAKED["cheater"]["before"], *CLOAKED["cheater"]["after"]]


def test_success_rises_by_an_image_at_its_size_and_never_for_one_out_of_reach():
    ax = DRAWN["success_curves"]().axes[0]
    means = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    at = {
        name: np.interp([0.005, 0.015, 0.03, 0.05, 1], line.get_xdata(), line.get_ydata())
        for name, line in means.items()
    }
    np.testing.assert_allclose(at["cheater"], [0, 0.5, 0.75, 1, 1])
    np.testing.assert_allclose(at["cure"], [0, 0, 0, 0, 0.75])


def test_survival_falls_by_an_image_at_its_size_and_never_for_one_out_of_reach():
    ax = DRAWN["survival_curves"]().axes[0]
    means = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    at = {
        name: np.interp([0.15, 0.25, 0.5, 20], line.get_xdata(), line.get_ydata())
        for name, line in means.items()
    }
    np.testing.assert_allclose(at["cheater"], 0)
    np.testing.assert_allclose(at["oracle"], [0.5, 0, 0, 0])
    np.testing.assert_allclose(at["cure"], [0.75, 0.5, 0.25, 0.25])


def test_a_map_of_pairs_is_in_hundredths_and_marks_what_was_not_reached():
    first, second = DRAWN["pair_maps"]().axes
    shown = [[text.get_text() for text in ax.texts] for ax in (first, second)]
    assert shown[0].count("12.5") == shown[1].count("25.0") == 89
    assert shown[0].count("–") == 1 and shown[0][25] == "–"
    assert shown[0][::11] == [""] * 10


def test_a_latent_is_named_and_its_digit_stands_out():
    figure = DRAWN["latent_sheet"]()
    assert {"41: colour red\n“thick red”", "41: colour red\n"} <= set(texts(figure))
    bars = figure.axes[1].patches
    assert len(bars) == 10 and len({bar.get_facecolor() for bar in bars}) == 2
    assert [k for k, bar in enumerate(bars) if bar.get_facecolor() != bars[0].get_facecolor()] == [
        3
    ]
    np.testing.assert_allclose([bars[3].get_height(), bars[0].get_height()], [7.8, -1.2])


def test_a_front_draws_unexplained_variance_against_active_latents():
    for line in DRAWN["sparse_front"]().axes[0].lines:
        assert list(line.get_xdata()) == [2, 16] and list(line.get_ydata()) == [0.4, 0.1]


def test_silencing_shows_accuracy_left_and_followers_right():
    figure = DRAWN["silence_curves"]()
    for k, ax in enumerate(figure.axes):
        (mean,) = [line for line in ax.lines if line.get_label() == "balanced"]
        np.testing.assert_allclose(mean.get_ydata(), SILENCED["balanced"][:, :, k].mean(0))


def test_a_dial_goes_from_one_to_silence():
    ax = DRAWN["dial_walks"]().axes[0]
    (ones,) = [line for line in ax.lines if line.get_label() == "answers 1"]
    np.testing.assert_allclose(ones.get_xdata() + ones.get_ydata(), 1)
    assert ones.get_ydata()[-1] == 1 and ax.xaxis_inverted()


def test_extremes_stand_by_answer_and_digit():
    figure = DRAWN["challenge_extremes"]()
    shown = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    np.testing.assert_array_equal(np.array(shown[:-1]).reshape(2, 10, 28, 28), GREY[:, :10])
    np.testing.assert_array_equal(shown[-1], GREY[0, 0])  # the clue
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()] == ["called 1", "called 0"]


def test_the_plane_splits_the_points_by_answer_and_writes_zeros_and_ones():
    ax = DRAWN["hidden_plane"]().axes[0]
    on = POINTS["answer"]
    for dots, chosen in zip(ax.collections, (on, ~on), strict=True):
        np.testing.assert_array_equal(dots.get_offsets(), POINTS["plane"][chosen])
    assert [text.get_text() for text in ax.texts] == ["0"] * 6 + ["1"] * 6
    assert ax.texts[6].get_position() == tuple(POINTS["plane"][1])


def test_the_program_s_thresholds_are_steps_and_dashed_lines():
    network, program = DRAWN["threshold_curve"]().axes[0].lines
    assert list(network.get_ydata()) == [0.9, 0.1, 0.8]
    assert list(program.get_xdata()) == [-51, -34, -34, -15, -15, 1]
    assert list(program.get_ydata()) == [1, 1, 0, 0, 1, 1]
    ramps = DRAWN["ramps"]().axes
    for ax in ramps:
        assert {line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"} == {*BAND}
    for dots, evidence in zip(ramps[0].collections, EVIDENCE, strict=True):
        np.testing.assert_array_equal(dots.get_offsets()[:, 1], evidence)


def test_templates_show_nought_as_white():
    figure = DRAWN["templates"]()
    pictures = [ax.images[0] for ax in figure.axes]
    assert all(picture.norm.vmin == -picture.norm.vmax for picture in pictures)
    assert len({picture.norm.vmax for picture in pictures[2:]}) == 1  # one scale for all kernels


def test_edits_stand_below_their_originals():
    axes = DRAWN["pixel_edits"]().axes  # (2 rows, 2 columns)
    titles = [
        f"s = −{s}\ncalled {c}" for s, c in (("40.0", 1), ("20.0", 0), ("10.2", 1), ("14.0", 1))
    ]
    assert [ax.get_title() for ax in axes] == titles
    for ax, k in zip(axes, (0, 2, 1, 3), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), GREY[0, k])


def test_rows_are_sorted_by_phase_and_then_by_x():
    first, second = DRAWN["sorted_rows"]().axes
    np.testing.assert_array_equal(first.images[0].get_array(), TABLE)
    order = [x for phase in range(8) for x in range(phase, 113, 8)]
    np.testing.assert_array_equal(second.images[0].get_array(), TABLE[order])
    assert second.get_yticks()[0] == 7 and len(second.lines) == 7  # x = 0, 8, .. 112: 15 rows


def test_a_scan_writes_out_its_minima():
    assert {"1.5: 0 wrong", "8: 3 wrong", "cells wrong, of 12,769"} <= set(
        texts(DRAWN["exponent_scan"]())
    )


def test_changes_of_label_lie_on_their_curves():
    ax = DRAWN["flip_curves"]().axes[0]
    for line, dots in zip(ax.lines, ax.collections, strict=True):
        for y, x in dots.get_offsets():
            assert abs(np.interp(x, line.get_ydata(), line.get_xdata()) - y) <= 1.01
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["x⁴ = 40,000 y (1)", "y⁴ = 360,000 x (1)", "x + y = 133 (2)"]


def test_errors_by_distance_are_means_over_seeds():
    ax = DRAWN["error_distance"]().axes[0]
    means = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(means["trained"], [0.3, 0.2, 0.2])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2–3", "no change"]
