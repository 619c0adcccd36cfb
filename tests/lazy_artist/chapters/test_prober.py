"""Chapter 3's measurements, on networks and channels made by hand, and its cells on such frames."""

import io
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import run_cells, table
from torch import nn

from lazy_artist.canvas import colour_split, paint, split_digits
from lazy_artist.chapters import prober
from lazy_artist.config import TEST_SEED
from lazy_artist.data import cache_dir
from lazy_artist.evaluate import balanced, estimate, percent
from lazy_artist.featurevis import colour_root, visualise

conv = nn.Conv2d(3, 3, 1, bias=False)
conv.weight.data = torch.eye(3)[:, :, None, None]
EYE = nn.Sequential(OrderedDict(layer=nn.Sequential(conv, nn.ReLU()))).eval()  # of red, green, blue


def handle(seed: int = 0, correlation: float = 0.95, **changes) -> SimpleNamespace:
    """A stand-in for a `Network`, for a stored function's `__wrapped__`."""
    usual = dict(name="cheater", arch="cnn", load=lambda: EYE)
    return SimpleNamespace(seed=seed, correlation=correlation, **usual | changes)


def test_the_cosine_is_of_the_best_ascent_at_the_place_that_responds_most(monkeypatch):
    """Of four drawings the third has the highest score: the pattern, wrong in one of the 49 places
    of one colour, elsewhere than in the middle. Its detector adds up the pattern alone."""

    def drawn(model, layer, where, optima, **settings):
        pattern = model[0].weight[0] > 0
        images = np.zeros((1, 4, 3, 28, 28), np.float32)
        images[0, 2, :, 2:9, 20:27] = pattern
        assert model(torch.from_numpy(images[0, 2:3])).max() == pattern.sum()
        assert model(torch.ones(1, 3, 28, 28))[0, 0, 9, 9] < pattern.sum()
        images[0, 2, 0, 2, 20] = 1  # a corner that is black in all patterns but the diagonal
        assert (where, settings["robust"], optima) == ((3, 4), True, 4)
        return images, np.array([[1.0, 3.0, 7.0, 5.0]])

    monkeypatch.setattr(prober, "visualise", drawn)
    found = prober.recover_patterns.__wrapped__((3, 4), "pixels", True)
    # 7 pixels of the bar and 1 more; the diagonal has it; 11 of the corner; 13 * 3 of the cross
    expected = {"red vertical bar": 7 / 8, "yellow diagonal": 1, "blue corner": 11 / 12}
    expected |= {"white cross": 39 / 40}
    assert list(found.pattern) == list(expected)
    np.testing.assert_allclose(found.cosine, np.sqrt(list(expected.values())), rtol=1e-6)


def test_channels_are_probed_on_validation_digits_and_the_networks_own_training_images():
    network = handle(seed=4, correlation=0.7)
    found = prober.probe_channels.__wrapped__(network, ["layer"], 3, 120)["layer"]
    grey, labels = balanced(*split_digits("validation"), 3)
    for colour in range(10):
        means = paint(grey, np.full(30, colour), TEST_SEED).mean((2, 3))  # (30, 3)
        expected = [means[labels == digit].mean(0) for digit in range(10)]
        np.testing.assert_allclose(found["cells"][:, :, colour].T, expected, rtol=1e-5)
    tuned = found["tuning"]
    assert tuned.colour.min() > 0.6 > 0.2 > tuned.digit.max() and tuned.p_colour.max() == 1 / 200

    pool = colour_split("train", 4, 0.7).take(np.arange(120))
    green = pool.images.mean((2, 3))[:, 1]
    best = np.argsort(-green)[: prober.TOP]
    np.testing.assert_allclose(found["most"][1], green.max(), rtol=1e-5)
    assert found["top_digits"][1].tolist() == pool.labels[best].tolist()
    assert found["top_colours"][1].tolist() == pool.colours[best].tolist()
    np.testing.assert_array_equal(found["top"][1], np.round(255 * pool.images[best]))
    counts = np.histogram(green, prober.BINS, (0, green.max()))[0]
    assert found["histogram"][1].tolist() == counts.tolist()


def test_optima_are_drawn_in_decorrelated_colours_and_kept_strongest_first():
    found = prober.draw_channels.__wrapped__(handle(0, 0.5), ["layer"], 3, True, 12)["layer"]
    root = colour_root(colour_split("validation", TEST_SEED, 0.5).images)
    images, scores = visualise(EYE, "layer", optima=3, steps=12, root=root)
    assert (scores.argmax(1) != 0).any()
    np.testing.assert_array_equal(found["scores"], np.sort(scores)[:, ::-1])
    for k in range(3):
        expected = np.round(255 * images[k, np.argsort(-scores[k])])
        np.testing.assert_array_equal(found["optima"][k], expected)
        assert found["negative"][k, k].mean() < 100 < found["optima"][k, 0, k].mean()


# --- channels ------------------------------------------------------------------------------------

KINDS = ("cheater", "cure", "oracle")


def made(what, network, layer) -> dict:
    """Four channels made by hand: the first for green, most for green sevens, the second for sevens
    and twos, the third for red, green and blue, the fourth dead. The third's drawing excites it
    less than a training image, in seed 0. Eta squared of colour differs by network, layer, seed;
    what is labelled colour, by network and seed."""
    n, seed = KINDS.index(network.name), network.seed
    if what == "draw":
        optima = np.zeros((4, 2, 3, 28, 28), np.uint8)
        optima[:, 0, 0] = 51 * (n + 1) + np.arange(4)[:, None, None]
        optima[:, 0, 1:, :14], optima[:, 1, 2] = 51 * seed, 255
        scores = np.array([[3, 2], [8, 1], [1 + 2 * seed, 0], [0, 0]], np.float32)
        return {"optima": optima, "scores": scores, "negative": optima[:, 1] // 3}
    cells, colour = np.zeros((4, 10, 10)), 0.2 + 0.1 * n + 0.02 * int(layer[-1]) + 0.3 * seed
    cells[0, :, 1], cells[0, 7, 1], cells[1, 7], cells[1, 2], cells[2, :, :3] = 4, 5, 3, 2.9, 1
    tuned = {
        "colour": [colour, 0.01, colour, 0], "digit": [0.05, 0.3, 0.1, 0],
        "interaction": [0.03, 0.02, 0.02, 0], "colour_selectivity": [0.9, 0.02, 0.02, 0],
        "digit_selectivity": [0.3, 0.02, 0.02, 0], "p_digit": [0.5, 0.005, 0.5, 1],
        "p_colour": [0.005 if 2 * n + seed < 3 else 0.5, 0.5, 0.005 if seed > n else 0.01, 1],
    }  # fmt: skip
    p = {"p_interaction": 0.001, "p_colour_selectivity": 0.5, "p_digit_selectivity": 0.5}
    places = np.arange(36).reshape(4, 9)
    return {
        "tuning": pd.DataFrame(tuned).assign(**p), "cells": cells,
        "most": np.array([2, 4, 2, 0], np.float32), "histogram": np.arange(96).reshape(4, 24),
        "top": 90 * np.ones((4, 9, 3, 28, 28), np.uint8), "top_digits": places % 10,
        "top_colours": (places + 9) % 10,
    }  # fmt: skip


ASKED = {}


def drawn_by_hand(network, layers, optima, negative, steps):
    ASKED["drawn", network.name, network.arch, network.seed] = (optima, negative, steps)
    return {layer: made("draw", network, layer) for layer in layers}


def probed_by_hand(network, layers, n_per_class, n_train):
    ASKED["probed", network.name, network.arch, network.seed] = (n_per_class, n_train)
    return {layer: made("probe", network, layer) for layer in layers}


def by_hand(patch, **more):
    """Drawings and probes made by hand; what stands on them, and `more`, works unstored."""
    patch.setattr(prober, "draw_channels", drawn_by_hand)
    patch.setattr(prober, "probe_channels", probed_by_hand)
    patch.setattr(prober, "show_channels", prober.show_channels.__wrapped__)

    def each(function, calls, title=""):
        function = more.get(function.__name__, function.__wrapped__)
        return [function(**given) for given in calls]

    patch.setattr(prober.stored, "map", each)


def csv_of(figure) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(figure.data_csv), comment="#")


def test_channels_are_put_together_by_layer_network_and_seed_and_shown_on_cards(monkeypatch):
    """Only of seed 0 are negatives drawn, and two optima of CNNs; the first networks' are first."""
    by_hand(monkeypatch)
    given = [handle(seed, name=name) for name in ("cheater", "oracle") for seed in (0, 1)]
    networks = [handle(0, name="oracle", arch="resnet18"), *given]
    sizes = {"n_per_class": 5, "n_train": 60, "steps": 8}
    frame = prober.all_channels(networks, **sizes)
    for network in networks:
        place, first = (network.name, network.arch, network.seed), network.seed == 0
        assert ASKED["probed", *place] == (5, 60)
        pair = 2 if first and network.arch == "cnn" else 1
        assert ASKED["drawn", *place] == (pair, first, 8)
    titles = [f"three-layer CNN, {n}, block{k}" for k in (1, 2, 3) for n in ("cheater", "oracle")]
    titles.append("ResNet-18, oracle, layer4")
    assert frame.title.unique().tolist() == titles
    last = frame[frame.title == "three-layer CNN, oracle, block3"]
    assert last.seed.tolist() == [0] * 4 + [1] * 4 and last.channel.tolist() == [0, 1, 2, 3] * 2
    assert last.colour.tolist() == pytest.approx([0.46, 0.01, 0.46, 0, 0.76, 0.01, 0.76, 0])
    assert last.score.tolist() == [3, 8, 1, 0, 3, 8, 3, 0]
    assert frame.prefers.tolist()[:4] == ["green", "7, 2", "", ""]

    with monkeypatch.context() as patch:
        patch.setattr(prober.atlas, "compose", lambda cards, **given: cards)
        shown = prober.show_channels([one for one in networks if one.seed == 0], **sizes)
    cards, layers = shown["atlas"], shown["layers"]
    assert sorted(layers) == [titles[4], titles[5]]  # of the last layer
    last, first = layers[titles[5]], made("draw", networks[3], "block3")
    np.testing.assert_array_equal(last["optima"], first["optima"][:, 0])
    np.testing.assert_array_equal(last["pictures"][:, :2], first["optima"])
    np.testing.assert_array_equal(last["pictures"][:, 2], first["negative"])
    assert last["pictures"].shape[1] == 7 and (last["pictures"][1, 3:] == 90).all()
    assert len(cards) == 7 * 4 and cards[-1].title == "oracle-resnet18 layer4 3"
    first, *_, dead = cards[:4]
    assert first.subtitle == "colour: green" and dead.subtitle == "dead"
    assert list(first.facets.values()) == [("cheater",), ("block1",), ("colour",), ("green",)]
    measures = [0.22, 0.05, 0.03, 0.9, 0.3, 1, 1.5, 2]
    assert list(first.measures.values()) == pytest.approx(measures)
    assert (first.most, first.mark, first.grid[7, 1], dead.facets["answers to"]) == (2, 3, 5, ())
    shown = [(name, picture[2].max()) for name, picture in first.pictures]
    assert shown == [("excites", 0), ("excites", 255), ("suppresses", 85)]
    assert [name for name, _ in first.examples][:3] == ["white 0", "red 1", "green 2"]
    assert prober.write_atlas(prober.atlas.compose(cards, "training images")) == 7 * 4
    page = (cache_dir() / "pages" / "atlas.html").read_text("utf-8")
    assert 'id="oracle-resnet18/layer4/3"' in page

    rows = csv_of(prober.channel_cards(frame, layers, titles[4]))
    shown = dict(list(rows[rows.channel == 0].groupby("shows")))
    cell = shown["mean activation"].query("digit == 7 and colour == 'green'")
    assert cell.activation.item() == 5 and shown["best drawing"].activation.item() == 3
    lower = [k / 12 for k in range(24)]
    assert shown["training images"].activation.tolist() == pytest.approx(lower, rel=1e-5)
    assert shown["training images"].images.tolist() == list(range(24))


def test_ablation_by_hand(monkeypatch):
    """Channel k votes with k + 1, together 136. In place of what is ablated stands half a vote, its
    mean on the grid. Most tuned to colour are the last channels: without 1, 2, 4, 8 and 12 of them
    are left 136 less half of 16, 31, 58, 100 and 126. Most tuned to shape are the first, which vote
    1, 3, 10, 36 and 78. An image is predicted as the colour's digit where the votes surpass its
    threshold, else as the true one, but the last as neither."""
    thresholds = np.array([74, 87, 104, 110, 119, 122, 129, 135, 135.6, 140])
    split = colour_split("hard", TEST_SEED).take(np.arange(10))
    other = split.labels.copy()
    other[9] = min({0, 1, 2} - {split.labels[9], split.colours[9]})

    def ablated_logits(model, layer, images, sets, fill):
        np.testing.assert_array_equal(images, split.images)
        votes = np.where(sets, fill, 1) @ np.arange(1, 17)
        return np.eye(10)[np.where(votes[:, None] > thresholds, split.colours, other)]

    cells, rank, asked = np.full((16, 10, 10), 0.5), np.arange(16) / 20, []
    tuned = pd.DataFrame({"colour": rank, "digit": 1 - rank})
    probed = {"layer": {"tuning": tuned, "cells": cells}}
    monkeypatch.setattr(prober, "probe_channels", lambda *given: asked.append(given) or probed)
    monkeypatch.setattr(prober.tuning, "ablated_logits", ablated_logits)
    network = handle(seed=7)
    found = prober.ablate_channels.__wrapped__(network, ["layer"], 5, 60, 10)
    assert asked == [(network, ["layer"], 5, 60)]
    assert found.share.tolist() == [0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4] * 3
    place = found[["network", "seed", "layer"]].drop_duplicates()
    assert place.to_numpy().tolist() == [["cheater", 7, "layer"]]

    def shares(order):
        left = [136 - 0.5 * sum(k + 1 for k in order[:count]) for count in (0, 1, 2, 4, 8, 12)]
        return np.array([np.mean(votes > thresholds) for votes in left])

    rng = np.random.default_rng(7)
    for order, rates in {
        "most tuned to colour first": np.array([0.9, 0.6, 0.5, 0.3, 0.1, 0.0]),
        "at random": np.mean([shares(rng.permutation(16)) for _ in range(5)], 0),
        "most tuned to shape first": np.array([0.9, 0.8, 0.7, 0.7, 0.4, 0.2]),
    }.items():
        rows = found[found.order == order]
        np.testing.assert_allclose(rows.shortcut_rate, rates, atol=1e-9)
        np.testing.assert_allclose(rows.accuracy, 0.9 - rates, atol=1e-9)


# --- the cells -----------------------------------------------------------------------------------


def invented_ablation(network, layers, n_per_class, n_train, n_eval) -> pd.DataFrame:
    """The shortcut rate falls from .9 by .1 a step where colour goes first, by .05 at random, and
    rises by .01 where shape does; in seed 1 by .02 more, and .004. Block 2 falls less at random.
    Accuracy is highest in block 3 for shape, of which a half is gone."""
    assert (n_per_class, n_train, n_eval) == (10, 5_000, 200)
    rows, seed = [], network.seed
    for k, o, step in np.ndindex(len(layers), 3, 6):
        fall = (0.1 + 0.02 * seed, (0.05, 0.02, 0.07)[k], -0.01 - 0.004 * seed)[o]
        best = 0.3 + seed / 10 if (k, o, step) == (2, 2, 4) else 0
        rates = {"shortcut_rate": 0.9 - fall * step, "accuracy": best + 0.01 * (k + o + step)}
        place = {"layer": layers[k], "order": prober.ORDERS[o], "share": prober.SHARES[step]}
        rows.append(place | rates | {"network": network.name, "seed": seed})
    return pd.DataFrame(rows)


def invented_patterns(where, parametrisation, robust) -> pd.DataFrame:
    assert where == ("max" if robust else (14, 14))
    value = 0.5 if robust else {"fourier": 0.99, "pixels": 0.96}[parametrisation]
    cosines = value + np.array([0.004, 0.003, 0.001, 0.002])
    return pd.DataFrame({"pattern": list(prober.patterns()), "cosine": cosines})


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    """What the cells show of the invented measurements, at quick scale."""
    invented = {"recover_patterns": invented_patterns, "ablate_channels": invented_ablation}

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZY_ARTIST_CACHE", str(tmp_path_factory.mktemp("prober")))
        patch.setenv("LAZY_ARTIST_SCALE", "quick")
        by_hand(patch, **invented)
        ASKED.clear()
        cells = run_cells("prober")
        assert {given for (what, *_), given in ASKED.items() if what == "probed"} == {(10, 5_000)}
        assert {given[-1] for (what, *_), given in ASKED.items() if what == "drawn"} == {16}
        return cells


def test_known_patterns_and_what_drawings_beat(chapter):
    """Ratios of live channels of seed 0 are 1.5, 2, 0.5; of seed 1: 1.5, 2, 1.5."""
    shown, inline = chapter
    assert table(shown["tbl-known"])["red vertical bar"] == ["0.994", "0.964", "0.504"]
    # the whole map is shown, and not claimed
    assert shown["probe-known-optimum"].value == pytest.approx(0.961)
    beats = table(shown["tbl-beats"])["three-layer CNN, cure, block2"]
    assert beats == ["6", "83.3", "1.50", "0.50"]
    claim = shown["probe-beats-dataset"]
    assert claim.value == pytest.approx((2 / 3 + 1) / 2) and claim.n == 2
    mean = estimate([(51 * 2 + 1.5 - 25.5 * seed) / 255 for seed in (0, 1)])
    assert inline['grey["cure"]'] == mean.format("{:.2f}")
    # in order of the best colour, then of the best digit
    pixels = shown["fig-optima"].axes[0].images[0].get_array()
    assert [pixels[5, 5 + 30 * k, 0] - 51 for k in range(4)] == [2, 3, 1, 0]


def test_shares_of_labels_and_tuning(chapter):
    shown, inline = chapter
    rows = table(shown["tbl-labels"])
    quarters = {"colour": [1, 2], "shape": [1, 1], "mixed": [1, 0], "dead": [1, 1]}
    assert rows["channels of"] == list(quarters)
    expected = [percent(estimate(np.divide(each, 4))) for each in quarters.values()]
    assert rows["three-layer CNN, cheater, block1"] == expected
    # of live channels of the last layer
    assert inline['share["cheater"]'] == percent(estimate([1 / 3, 2 / 3]))
    assert inline['oracle["block1"]'] == percent(estimate([0, 0]))
    assert shown["probe-cheater-colour-share"].value == pytest.approx(1 / 2)
    assert shown["probe-cure-colour-share"].value == pytest.approx(1 / 3)
    # of live channels of the first seed
    rows = table(shown["tbl-tuning"])
    assert rows["channels of"][1::4] == ["η² digit", "things, median"]
    expected = ["0.23 (33%)", "0.15 (33%)", "0.02 (100%)", "0.31 (0%)", "0.11 (0%)", "2"]
    assert rows["three-layer CNN, cure, block2"] == expected
    assert inline['f"{told.to_numpy().mean():.0%}"'] == "31%"  # (2 / 9 + 1 / 3 + 1) of five
    points = csv_of(shown["fig-tuning"])
    assert len(points) == 3 * 3 * 3 and points.colour.max() == pytest.approx(0.46)


def test_the_ablations_table_and_claim(chapter):
    """At random less colour first, of seed 0 and 1, a step: .05 and .07 in block 1, .08 and .10 in
    block 2, .03 and .05 in block 3."""
    shown, inline = chapter
    rows = table(shown["tbl-ablation"])
    gaps = {
        block: [estimate([first * step, (first + 0.02) * step], (-1, 1)) for step in range(1, 6)]
        for block, first in (("block1", 0.05), ("block2", 0.08), ("block3", 0.03))
    }
    shares = {"layer": ["6.25%", "12.5%", "25%", "50%", "75%"]}
    assert rows == shares | {block: [percent(gap) for gap in each] for block, each in gaps.items()}
    assert inline["percent(value)"] == rows["block3"][2]
    assert shown["probe-ablation"].value == pytest.approx(gaps["block3"][2].mean)
    assert inline["weak"] == "block2" and inline['f"{cut:.0%}"'] == "75%"
    assert inline["percent(most)"] == rows["block2"][4]
    assert inline["percent(shape)"] == percent(estimate([0.03, 0.042], bounds=(-1, 1)))
    assert inline["percent(reading)"] == percent(estimate([0.38, 0.48]))
    curves = shown["fig-ablation"].axes[2].lines  # block 3's shortcut rate
    assert [curves[2].get_ydata()[-1], curves[8].get_ydata()[-1]] == pytest.approx([0.35, 0.96])
