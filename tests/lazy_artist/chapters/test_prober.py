"""Chapter 3's measurements, on networks and channels made by hand, and its cells on such frames."""

import io
from collections import OrderedDict
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import run_cells, table
from torch import nn

from lazy_artist.canvas import colour_split, paint, specimens, split_digits
from lazy_artist.chapters import prober
from lazy_artist.config import TEST_SEED
from lazy_artist.data import cache_dir
from lazy_artist.evaluate import balanced, estimate, percent
from lazy_artist.featurevis import colour_root, visualise
from lazy_artist.plots import plus_minus

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
    # what excites green most are digits of the grid, each once, in the colour that has most of it
    grid = np.stack([paint(grey, np.full(30, colour), TEST_SEED) for colour in range(10)])
    green = grid.mean((3, 4))[:, :, 1]  # (10 colours, 30)
    best = np.argsort(-green.max(0))[: prober.TOP]
    assert found["top_digits"][1].tolist() == labels[best].tolist()
    assert found["top_colours"][1].tolist() == green.argmax(0)[best].tolist()
    expected = np.round(255 * grid[green.argmax(0)[best], best])
    np.testing.assert_array_equal(found["top"][1], expected)
    tuned = found["tuning"]
    assert tuned.colour.min() > 0.6 > 0.2 > tuned.digit.max() and tuned.p_colour.max() == 1 / 200

    pool = colour_split("train", 4, 0.7).take(np.arange(120))
    green = pool.images.mean((2, 3))[:, 1]
    np.testing.assert_allclose(found["most"][1], green.max(), rtol=1e-5)
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


def test_specimens_excite_channels_relative_to_training_images(monkeypatch):
    """The channels are the means of red, green and blue; the largest green is less than others."""
    pairs, most = [[0, 0], [7, 2], [1, 1], [7, 2], [1, 1], [0, 0]], np.array([1, 0.9, 1])
    monkeypatch.setattr(prober, "probe_channels", lambda *given: {"layer": {"most": most}})
    found = prober.excite.__wrapped__(handle(), "layer", pairs, 3, 60)
    np.testing.assert_array_equal(found["images"], images := specimens(pairs))
    np.testing.assert_allclose(found["shares"], images.mean((2, 3)) / most, rtol=1e-5)
    assert found["channels"].tolist() == [0, 2]  # a red zero, a blue seven


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


def told(share: float) -> str:
    return f"{100 * share:.1f}"


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
    cards, optima = shown["atlas"], shown["optima"]
    assert sorted(optima) == sorted(titles[:6])  # of the CNNs
    expected = made("draw", networks[3], "block3")["optima"][:, 0]
    np.testing.assert_array_equal(optima[titles[5]], expected)
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


def given_cells(monkeypatch, *tables, most=None) -> None:
    """One layer whose channels have these cells (10 digits, 10 colours); no digits are alike."""
    most = np.ones(len(tables)) if most is None else most
    probed = {"layer": {"cells": np.stack(tables).astype(float), "most": np.array(most)}}
    monkeypatch.setattr(prober, "probe_channels", lambda *given: probed)
    monkeypatch.setattr(prober.tuning, "neighbouring_digits", lambda: np.eye(10, dtype=bool))


def test_things_are_counted_of_live_channels_and_of_random_directions(monkeypatch):
    red, both, wide, ramp = np.zeros((4, 10, 10))
    red[:, 0], both[:, 0], both[3], wide[:6] = 1, 1, 1, 1
    ramp[:] = np.arange(10)[:, None] / 10  # more than half drive
    given_cells(monkeypatch, red, both, wide, ramp, red, most=[1, 1, 1, 1, 0])
    found = prober.count_things.__wrapped__(handle(3), ["layer"], 5, 60).set_index("unit")
    shares = ["one", "several", "broadly"]
    assert found.loc["channels", shares].tolist() == [1 / 4, 1 / 4, 1 / 2]
    weights = np.random.default_rng(3).standard_normal((4, 4))
    scaled = [table / table.std() for table in (red, both, wide, ramp)]
    mixed = np.stack([sum(w * t for w, t in zip(row, scaled, strict=True)) for row in weights])
    broad = prober.tuning.driving(mixed).mean((1, 2)) > 0.5
    one = np.array([len(each) == 1 for each in prober.tuning.things(mixed)])
    assert found.loc["random directions", "one"] == (one & ~broad).mean()
    assert found.loc["random directions", "broadly"] == broad.mean()


def test_the_exchange_upholds_what_moves_the_channel_and_refutes_what_does_not(monkeypatch):
    """Of three new images of each kind. Channel 0 has red and threes, as the grid says. Channel 1
    had the same cells, but on new images red moves it only on zeros, and threes only in blue (a
    tenth of what should); channel 2 is always on; channel 3 has one thing, channel 4 is broad."""
    both, red, wide = np.zeros((3, 10, 10))
    both[:, 0], both[3], red[:, 0], wide[:6] = 1, 0.8, 1, 1
    given_cells(monkeypatch, both, both, both, red, wide)
    values = np.zeros((10, 10, 3, 5))
    values[..., 0] = both[..., None]
    values[4, 0, 0, 0], values[4, 7, 1, 0] = 0, 2  # a red four is missed, and a violet one is not
    values[0, 0, :, 1], values[3, 2, :, 1], values[..., 2] = 1, 1, 1
    shown = []

    def activations(model, layers, images):
        shown.append(images)
        return {"layer": values.reshape(300, 5)}

    monkeypatch.setattr(prober.tuning, "activations", activations)
    found = prober.try_meanings.__wrapped__(handle(), ["layer"], 3, 60)
    grey, _ = balanced(*split_digits("validation"), 6)
    expected = paint(grey[45:48], np.full(3, 4), TEST_SEED)  # the second three sevens, in magenta
    np.testing.assert_array_equal(shown[0][222:225], expected)
    assert found.channel.tolist() == [0, 0, 1, 1, 2, 2] and (found.things == 2).all()
    assert found.kind.tolist() == ["digit", "colour"] * 3
    assert found.members.tolist() == ["3", "red"] * 3
    assert found.strength.tolist() == [0.8, 1] * 3
    assert found.upheld.tolist() == [True, True, False, False, False, False]
    three, red, rare_three, rare_red, *always = found.itertuples()
    # threes in nine colours, 27 images; exchanged for nine other digits, of which one violet four
    assert (three.excited, three.kept) == (1, 1)
    assert three.exchanged == pytest.approx(1 / (27 * 9))
    # 26 of 27 red ones; image 0 of eight digits finds seven others red of eight, else all eight
    assert red.excited == pytest.approx(26 / 27)
    assert red.kept == pytest.approx((8 * 7 / 8 + 18) / 26)
    assert red.exchanged == pytest.approx(1 / 9 / 26)
    assert rare_red.excited == pytest.approx(1 / 9) and rare_red.kept == 0
    assert (rare_three.excited, rare_three.exchanged) == (pytest.approx(1 / 9), 0)
    assert [each.exchanged for each in always] == [1, 1]


def test_channels_of_most_things_are_shown_with_a_drawing_from_each(monkeypatch):
    """Channel 2 has three things, of 0 and 3, with two, the weaker thing of 3 is the stronger."""
    rows = [(0, 2, "0", 0.5), (0, 2, "red", 1), (2, 3, "1", 0.3), (2, 3, "7", 1)]
    rows += [(2, 3, "green", 1), (3, 2, "blue", 0.6), (3, 2, "8", 0.9)]
    tests = pd.DataFrame(rows, columns=["channel", "things", "members", "strength"])
    monkeypatch.setattr(prober, "try_meanings", lambda *given: tests.assign(layer="layer"))
    monkeypatch.setattr(prober, "SHOWN", 2)
    cells = np.arange(400.0).reshape(4, 10, 10)
    given_cells(monkeypatch, *cells)
    grid = prober.tuning.colour_grid("validation", 3, TEST_SEED)  # 10 colours, 30 digit images
    seen, asked = np.random.default_rng(0).random((300, 4)), {}
    monkeypatch.setattr(prober.tuning, "activations", lambda *given: {"layer": seen})

    def drawn(model, layer, directions, **settings):
        asked.update(settings, directions=directions)
        return np.full((5, 1, 3, 28, 28), 0.2), None

    monkeypatch.setattr(prober, "visualise", drawn)
    found = prober.show_meanings.__wrapped__(handle(), "layer", 3, 60, 7)
    assert found["tests"].members.tolist() == ["1", "7", "green", "blue", "8"]
    assert asked["directions"].argmax(1).tolist() == [2, 2, 2, 3, 3] and asked["steps"] == 7
    np.testing.assert_array_equal(found["cells"], cells[[2, 2, 2, 3, 3]])
    assert (found["optima"] == 51).all()
    # green ones and sevens are not of green alone; each digit image counts once
    alone = (grid.colours == 1) & ~np.isin(grid.labels, [1, 7])
    best = np.flatnonzero(alone)[np.argsort(-seen[alone, 2])]
    expected = np.round(255 * grid.images[best[:2]])
    np.testing.assert_array_equal(found["examples"][2], expected)
    np.testing.assert_allclose(asked["start"][2], grid.images[best[:9]].mean(0), atol=1e-6)
    eights = (grid.labels == 8) & (grid.colours != 2)
    values = np.where(eights, seen[:, 3], -1).reshape(10, 30)
    best = np.argsort(-values.max(0))[:2]
    expected = grid.images[values.argmax(0)[best] * 30 + best]
    np.testing.assert_array_equal(found["examples"][4], np.round(255 * expected))


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


def invented_counts(network, layers, n_per_class, n_train) -> pd.DataFrame:
    """One thing drives a tenth more in each layer, and .02 more of another network."""
    rows = []
    for k, unit in np.ndindex(3, 2):
        one = (0.1 * (k + 1) + 0.02 * KINDS.index(network.name)) / (1 + unit) + 0.01 * network.seed
        unit = ("channels", "random directions")[unit]
        shares = {"one": one, "several": 0.4, "broadly": 0.6 - one}
        rows.append({"layer": layers[k], "unit": unit, **shares})
    return pd.DataFrame(rows).assign(network=network.name, seed=network.seed)


def invented_meanings(network, layers, n_per_class, n_train) -> pd.DataFrame:
    """Four things in each layer, of which three are upheld, in the oracle of seed 1 two."""
    upheld = [True, True, network.name != "oracle" or network.seed == 0, False]
    kind = ["colour", "digit", "colour", "colour"]
    more = {"channel": [0, 0, 1, 2], "kind": kind}
    share = {"excited": [1, 0.9, 0.8, 0.7], "exchanged": 0.1, "kept": 0.8 + 0.1 * network.seed}
    frames = [pd.DataFrame({"layer": layer, **more, **share, "upheld": upheld}) for layer in layers]
    return pd.concat(frames).assign(network=network.name, seed=network.seed)


def shown_meanings(network, layer, n_per_class, n_train, steps) -> dict:
    rows = [
        (5, "digit", "3, 8", True),
        (5, "colour", "red", False),
        (9, "colour", "red, pink", True),
    ]
    tests = pd.DataFrame(rows, columns=["channel", "kind", "members", "upheld"])
    tests = tests.assign(exchanged=[0.11, 0.22, 0.33], kept=0.9, network="x", seed=0, layer=layer)
    pictures = np.zeros((3, 3, 28, 28), np.uint8)
    return {
        "tests": tests, "cells": np.ones((3, 10, 10)), "optima": pictures,
        "examples": pictures[:, None].repeat(2, 1),
    }  # fmt: skip


def invented_parts(network, layers, n_per_class) -> pd.DataFrame:
    """Of four channels of a layer two answer, of the cheater none; one is upheld, of the oracle's
    second layer both in seed 1."""
    rows = []
    for layer, channel in product(layers, range(4)):
        also = (network.name, layer, network.seed) == ("oracle", "block2", 1)
        rows.append({
            "layer": layer, "channel": channel,
            "answers": channel < 2 and network.name != "cheater",
            "alone": 0.9 - 0.1 * channel, "erased": 0.7, "upheld": channel == 0 or also,
        })  # fmt: skip
    return pd.DataFrame(rows).assign(network=network.name, seed=network.seed)


def shown_parts(network, layer, n_per_class, steps) -> dict:
    tests = pd.DataFrame({
        "channel": [3, 4], "part": ["bar", "loop"], "alone": [0.81, 0.6], "erased": [0.72, 0.5],
        "answers": True, "upheld": [True, False], "network": network.name,
    })  # fmt: skip
    pictures, corners = np.zeros((2, 3, 28, 28), np.uint8), np.arange(24).reshape(2, 3, 2, 2) % 17
    return {"tests": tests, "optima": pictures, "digits": pictures, "corners": corners}


def invented_shares(network, layer, pairs, n_per_class, n_train) -> dict:
    """The channels are 2 and 0; specimen k excites channel c by k tenths and c hundredths."""
    shares, images = np.arange(6)[:, None] / 10 + np.arange(4) / 100, np.zeros((6, 3, 28, 28))
    return {"shares": shares, "channels": np.array([2, 0]), "images": images}


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    """What the cells of both pages show of the invented measurements, at quick scale."""
    invented = {
        "recover_patterns": invented_patterns, "ablate_channels": invented_ablation,
        "count_things": invented_counts, "try_meanings": invented_meanings,
        "try_parts": invented_parts,
    }  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZY_ARTIST_CACHE", str(tmp_path_factory.mktemp("prober")))
        patch.setenv("LAZY_ARTIST_SCALE", "quick")
        by_hand(patch, **invented)
        patch.setattr(prober, "show_meanings", shown_meanings)
        patch.setattr(prober, "show_parts", shown_parts)
        patch.setattr(prober, "excite", invented_shares)
        ASKED.clear()
        parts = [run_cells(name) for name in ("prober", "prober-more")]
        cells = [parts[0][k] | parts[1][k] for k in (0, 1)]
        assert {given for (what, *_), given in ASKED.items() if what == "probed"} == {(10, 5_000)}
        assert {given[-1] for (what, *_), given in ASKED.items() if what == "drawn"} == {16}
        return cells


def test_known_patterns_and_what_drawings_beat(chapter):
    """Ratios of live channels of seed 0 are 1.5, 2, 0.5; of seed 1: 1.5, 2, 1.5."""
    shown, inline = chapter
    assert table(shown["tbl-known"])["red vertical bar"] == ["0.994", "0.964", "0.504"]
    # the whole map is shown, and not claimed
    assert shown["probe-known-optimum"].value == pytest.approx(0.961)
    beats = table(shown["tbl-beats"])["cure, block2"]
    assert beats == ["6", "83.3", "1.50", "0.50"]
    claim = shown["probe-beats-dataset"]
    assert claim.value == pytest.approx((2 / 3 + 1) / 2) and claim.n == 2
    mean = estimate([(51 * 2 + 1.5 - 25.5 * seed) / 255 for seed in (0, 1)])
    assert inline['grey["cure"]'] == f"{mean.mean:.2f}"
    assert inline["told(beaten)"] == told(claim.value)
    # in order of the best colour, then of the best digit; the chapter shows every fourth
    assert len(shown["fig-early"].axes) == 6
    for name, order in (("fig-optima-all", [2, 3, 1, 0]), ("fig-optima", [2])):
        pixels = shown[name].axes[0].images[0].get_array()
        assert [pixels[5, 5 + 30 * k, 0] - 51 for k in range(len(order))] == order
    texts = [ax.get_title() for ax in shown["fig-excited"].axes]
    assert texts[1] == "cheater, 2\n\n2% | 12% | 22%" and texts[-1].endswith("30% | 40% | 50%")
    rows = csv_of(shown["fig-excited"]).query("network == 'cure'")
    assert rows.picture.tolist()[3:5] == ["yellow 7", "violet 7"] and len(rows) == 6


def test_shares_of_labels_and_tuning(chapter):
    shown, inline = chapter
    rows = csv_of(shown["fig-labels"]).set_index("channels of")
    quarters = {"colour": [1, 2], "shape": [1, 1], "mixed": [1, 0], "unexplained": [0, 0]}
    for name, each in quarters.items():
        mean = np.mean(each) / 4
        assert rows[name]["cheater, block1"] == pytest.approx(mean)
    # of live channels of the last layer
    assert inline['told(share["cheater"])'] == told((1 / 3 + 2 / 3) / 2)
    assert inline['told(depth["block1"])'] == "0.0"
    assert shown["probe-cheater-colour-share"].value == pytest.approx(1 / 2)
    assert shown["probe-cure-colour-share"].value == pytest.approx(1 / 3)
    # of live channels of the first seed
    rows = table(shown["tbl-tuning"])
    assert rows["channels of"][1::3] == ["η² digit", "selectivity, digit"]
    expected = ["0.23 (33%)", "0.15 (33%)", "0.02 (100%)", "0.31 (0%)", "0.11 (0%)"]
    assert rows["cure, block2"] == expected
    assert inline['f"{told.to_numpy().mean():.0%}"'] == "31%"  # (2 / 9 + 1 / 3 + 1) of five
    points = csv_of(shown["fig-tuning"])
    assert len(points) == 3 * 3 * 3 and points.colour.max() == pytest.approx(0.46)


def test_things_meanings_and_parts_in_the_cells(chapter):
    shown, inline = chapter
    lines = shown["tbl-things"].data.splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[:2] == ["cheater", "block1"]
    one, several, broad = estimate([0.1, 0.11]), estimate([0.4, 0.4]), estimate([0.5, 0.49])
    chance = estimate([0.05, 0.06])
    assert cells[2:] == [plus_minus(each) for each in (one, several, broad, chance)]
    assert inline['told(single["oracle", "block3"])'] == told(0.345)
    assert inline['told(several["cheater"])'] == "40.0"
    assert "all three" in inline.values()
    lines = [line.split("|") for line in shown["tbl-meanings"].data.splitlines()]
    row = [cell.strip() for cell in lines[2]][1:-1]
    assert row[:3] == ["cheater, block1", "colour", "6"]
    excited, kept, held = ([2.5 / 3] * 2, [0.8, 0.9], [2 / 3] * 2)
    assert [row[3], *row[5:]] == [plus_minus(estimate(each)) for each in (excited, kept, held)]
    assert inline['held.get(("oracle", "colour"), "none")'] == "3 of 6"
    assert inline['held.get(("cure", "digit"), "none")'] == "2 of 2"
    assert shown["probe-meanings"].value == pytest.approx((9 / 12 + 8 / 12) / 2)
    rows = csv_of(shown["fig-meanings-cure"])
    assert rows.members.tolist() == ["3, 8", "red", "red, pink"]
    texts = [ax.get_title() for ax in shown["fig-meanings-cure"].axes]
    assert texts[:2] == ["cure, 5", "3, 8\nexchanged 11%\nkept 90% ✓"] and texts[2][-1] == "✗"
    assert [len(ax.patches) for ax in shown["fig-meanings-cure"].axes][::4] == [3, 2]
    assert csv_of(shown["fig-meanings"]).members.tolist() == ["3, 8", "red"] * 3  # a channel each
    lines = [line.split("|") for line in shown["tbl-digit-parts"].data.splitlines()]
    rows = {tuple(cell.strip() for cell in line[1:3]): line[3:-1] for line in lines}
    oracle = [cell.strip() for cell in rows["oracle", "block2"]]
    expected = ([0.5, 0.5], [0.85] * 2, [0.7] * 2, [0.5, 1])
    assert oracle == [plus_minus(estimate(each)) for each in expected]
    assert [cell.strip() for cell in rows["cheater", "block2"]][1:] == ["–"] * 3
    # of channels 0 to 2 the first two answer
    assert inline['told(shared["cure"])'] == told(2 / 3)
    assert shown["probe-parts"].value == pytest.approx((0.5 + 0.75) / 2)
    assert len(csv_of(shown["fig-digit-parts"])) == 4
    texts = [ax.get_title() for ax in shown["fig-digit-parts"].axes]
    assert texts[:2] == [f"{n}, 3: bar\nalone 81%, erased 72% ✓" for n in ("cure", "oracle")]
    assert texts[2][-1] == "✗"  # and in the fourth picture
    assert shown["fig-digit-parts"].axes[0].patches[2].get_xy() == (5 + 90 + 0.5, 4 + 0.5)


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
    assert rows == shares | {block: [*map(plus_minus, each)] for block, each in gaps.items()}
    assert inline["told(value)"] == told(gaps["block3"][2].mean)
    assert inline['percent(gaps["block3", claimed])'] == percent(gaps["block3"][2])
    assert shown["probe-ablation"].value == pytest.approx(gaps["block3"][2].mean)
    assert inline["weak"] == "block2" and inline['f"{cut:.0%}"'] == "75%"
    assert inline["percent(most)"] == percent(gaps["block2"][4])
    assert inline["percent(shape)"] == percent(estimate([0.03, 0.042], bounds=(-1, 1)))
    assert inline["percent(reading)"] == percent(estimate([0.38, 0.48]))
    curves = shown["fig-ablation"].axes[2].lines  # block 3's shortcut rate
    assert [curves[2].get_ydata()[-1], curves[8].get_ydata()[-1]] == pytest.approx([0.35, 0.96])
