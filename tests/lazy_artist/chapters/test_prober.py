"""Chapter 3's measurements, on networks and channels made by hand, and its cells on such frames."""

import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from cells import run_cells, table
from torch import nn

from lazy_artist.canvas import Split, colour_split, paint, split_digits
from lazy_artist.chapters import prober
from lazy_artist.config import TEST_SEED
from lazy_artist.data import cache_dir
from lazy_artist.evaluate import estimate, percent
from lazy_artist.featurevis import colour_root, visualise


class Eye(nn.Module):
    """`layer` is the image: a channel's activation is the mean of red, of green, of blue."""

    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(3, 3, 1, bias=False)
        conv.weight.data = torch.eye(3)[:, :, None, None]
        self.layer = nn.Sequential(conv, nn.ReLU(inplace=True))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images).mean((2, 3))


EYE = Eye().eval()


def handle(seed: int = 0, correlation: float = 0.95, **changes) -> SimpleNamespace:
    """A stand-in for a `Network`, for a stored function's `__wrapped__`."""
    usual = dict(name="cheater", arch="cnn", load=lambda: EYE)
    return SimpleNamespace(seed=seed, correlation=correlation, **usual | changes)


def test_the_cosine_is_of_the_best_ascent_at_the_place_that_responds_most(monkeypatch):
    """Of four drawings the third has the highest score: the pattern, wrong in one of the 49 places
    of one colour, elsewhere than in the middle. Its detector adds up the pattern alone."""

    def drawn(model, layer, where, optima, **settings):
        pattern = model.layer[0].weight[0] > 0
        images = np.zeros((1, 4, 3, 28, 28), np.float32)
        images[0, 2, :, 2:9, 20:27] = pattern
        assert model.layer(torch.from_numpy(images[0, 2:3])).max() == pattern.sum()
        assert model.layer(torch.ones(1, 3, 28, 28))[0, 0, 9, 9] < pattern.sum()
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
    grey, labels = split_digits("validation")
    first = np.concatenate([np.flatnonzero(labels == digit)[:3] for digit in range(10)])
    for colour in range(10):
        mean = paint(grey[first], np.full(30, colour), TEST_SEED).mean((2, 3))  # (30, 3)
        expected = mean.reshape(10, 3, 3).mean(1)  # (10 digits, 3 channels)
        np.testing.assert_allclose(found["cells"][:, :, colour].T, expected, rtol=1e-5)
    tuned = found["tuning"]
    assert tuned.colour.min() > 0.6 > 0.2 > tuned.digit.max() and tuned.p_colour.max() == 1 / 200

    pool = colour_split("train", 4, 0.7).take(np.arange(120))
    green = pool.images.mean((2, 3))[:, 1]
    best = np.argsort(-green)[: prober.TOP]
    np.testing.assert_allclose(found["most"][1], green.max(), rtol=1e-5)
    assert found["top_digits"][1].tolist() == pool.labels[best].tolist()
    assert found["top_colours"][1].tolist() == pool.colours[best].tolist()
    expected = np.round(255 * pool.images[best]).astype(np.uint8)
    np.testing.assert_array_equal(found["top"][1], expected)
    counts = np.histogram(green, prober.BINS, (0, green.max()))[0]
    assert found["histogram"][1].tolist() == counts.tolist() and counts.sum() == 120
    whole = prober.probe_channels.__wrapped__(network, ["layer"], 3, None)["layer"]
    assert whole["histogram"][1].sum() == len(colour_split("train", 4, 0.7))


def test_optima_are_drawn_in_decorrelated_colours_and_kept_strongest_first():
    found = prober.draw_channels.__wrapped__(handle(correlation=0.5), ["layer"], 3, True, 12)
    root = colour_root(colour_split("validation", TEST_SEED, 0.5).images)
    images, scores = visualise(EYE, "layer", optima=3, steps=12, root=root)
    order = [sorted(range(3), key=lambda i, k=k: -scores[k, i]) for k in range(3)]
    assert order != [[0, 1, 2]] * 3
    for k in range(3):
        assert found["layer"]["scores"][k].tolist() == scores[k, order[k]].tolist()
        expected = np.round(255 * images[k, order[k]])
        np.testing.assert_array_equal(found["layer"]["optima"][k], expected)
        red = found["layer"]["negative"][k, k].mean()
        assert red < 100 < found["layer"]["optima"][k, 0, k].mean()


# --- channels ------------------------------------------------------------------------------------

KINDS = ("cheater", "cure", "oracle")


def made(function, network, layer) -> dict:
    """Four channels made by hand: the first for green, most for green sevens, the second for sevens
    and twos, the third for red, green and blue, the fourth dead. The third's drawing excites it
    less than a training image, in seed 0. Eta squared of colour differs by network, layer, seed;
    what is labelled colour, by network and seed."""
    n, seed = KINDS.index(network.name), network.seed
    if function is prober.draw_channels:
        optima = np.zeros((4, 2, 3, 28, 28), np.uint8)
        optima[:, 0, 0] = 51 * (n + 1) + np.arange(4)[:, None, None]
        optima[:, 0, 1:, :14], optima[:, 1, 2] = 51 * seed, 255
        scores = np.array([[3, 2], [8, 1], [1 + 2 * seed, 0], [0, 0]], np.float32)
        return {"optima": optima, "scores": scores, "negative": optima[:, 1] // 3}
    cells, colour = np.zeros((4, 10, 10)), 0.2 + 0.1 * n + 0.02 * int(layer[-1]) + 0.3 * seed
    cells[0, :, 1], cells[0, 7, 1], cells[1, 7], cells[1, 2], cells[2, :, :3] = 4, 5, 3, 2.9, 1
    p_colour = [0.005 if 2 * n + seed < 3 else 0.5, 0.5, 0.005 if seed > n else 0.01, 1]
    tuned = {
        "colour": [colour, 0.01, colour, 0], "digit": [0.05, 0.3, 0.1, 0],
        "interaction": [0.03, 0.02, 0.02, 0], "colour_selectivity": [0.9, 0.02, 0.02, 0],
        "digit_selectivity": [0.3, 0.02, 0.02, 0], "p_colour": p_colour,
        "p_digit": [0.5, 0.005, 0.5, 1], "p_interaction": [0.001] * 4,
        "p_colour_selectivity": [0.5] * 4, "p_digit_selectivity": [0.5] * 4,
    }  # fmt: skip
    return {
        "tuning": pd.DataFrame(tuned), "cells": cells, "most": np.array([2, 4, 2, 0], np.float32),
        "histogram": np.arange(96).reshape(4, 24), "top": np.zeros((4, 9, 3, 28, 28), np.uint8),
        "top_digits": np.arange(36).reshape(4, 9) % 10,
        "top_colours": np.arange(9, 45).reshape(4, 9) % 10,
    }  # fmt: skip


def run_by_hand(calls, title):
    return [{at: made(f, given["network"], at) for at in given["layers"]} for f, given in calls]


def test_channels_are_put_together_by_layer_network_and_seed(monkeypatch):
    """Only of seed 0 are negatives drawn, and two optima of CNNs; the first networks' are first."""
    asked = {}

    def run(calls, title):
        for function, (network, _, *sizes) in ((f, given.values()) for f, given in calls):
            asked[function.__name__, network.name, network.arch, network.seed] = sizes
        return run_by_hand(calls, title)

    monkeypatch.setattr(prober.stored, "run", run)
    given = [handle(seed, name=name) for name in ("cheater", "oracle") for seed in (0, 1)]
    networks = [handle(0, name="oracle", arch="resnet18"), *given]
    frame, pictures = prober.measure_channels(networks, n_per_class=5, n_train=60, steps=8)
    for network in networks:
        place, first = (network.name, network.arch, network.seed), network.seed == 0
        assert asked["probe_channels", *place] == [5, 60]
        pair = 2 if first and network.arch == "cnn" else 1
        assert asked["draw_channels", *place] == [pair, first, 8]
    titles = [f"three-layer CNN, {n}, block{k}" for k in (1, 2, 3) for n in ("cheater", "oracle")]
    titles.append("ResNet-18, oracle, layer4")
    assert frame.title.unique().tolist() == titles and sorted(pictures) == sorted(titles)
    last = frame[frame.title == "three-layer CNN, oracle, block3"]
    assert last.seed.tolist() == [0] * 4 + [1] * 4 and last.channel.tolist() == [0, 1, 2, 3] * 2
    assert last.colour.tolist() == pytest.approx([0.46, 0.01, 0.46, 0, 0.76, 0.01, 0.76, 0])
    assert last.score.tolist() == [3, 8, 1, 0, 3, 8, 3, 0]
    assert pictures[titles[5]]["scores"][2].tolist() == [1, 0]  # of seed 0
    # red less the lowest other, of seed 1
    assert last.saturation.iloc[4] == pytest.approx((153 - 51 / 2) / 255)
    first = frame[:4]
    assert first.alive.tolist() == [True, True, True, False]
    assert first.label.tolist() == ["colour", "shape", "mixed", "dead"]
    assert first.prefers.tolist() == ["green", "7, 2", "", ""]
    assert first.concepts.tolist() == [1, 2, 3, 0]
    assert first.best_digit.tolist() == [7, 7, 0, 0] and first.best_colour.tolist() == [1, 0, 0, 0]


def csv_of(figure) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(figure.data_csv), comment="#")


def test_the_atlas_and_the_cards_by_hand(monkeypatch):
    """Of seed 0 alone; the atlas is written where the book finds it."""
    monkeypatch.setattr(prober.stored, "run", run_by_hand)
    networks = [handle(seed, arch="resnet18") for seed in (0, 1)]
    channels, pictures = prober.measure_channels(networks, n_per_class=5, n_train=60, steps=8)
    first, *_, dead = prober.write_atlas(channels, pictures)
    assert first.title == "cheater-resnet18 layer4 0" and first.subtitle == "colour: green"
    assert dead.subtitle == "dead" and dead.facets["answers to"] == ()
    assert first.facets == {
        "network": ("cheater-resnet18",), "layer": ("layer4",), "label": ("colour",),
        "answers to": ("green",),
    }  # fmt: skip
    assert first.measures == {
        "η² colour": pytest.approx(0.28), "η² digit": 0.05, "η² both": 0.03, "select. colour": 0.9,
        "select. digit": 0.3, "things": 1.0, "ratio": 1.5, "most": 2.0,
    }  # fmt: skip
    assert (first.most, first.mark) == (2, 3)
    assert [name for name, _ in first.pictures] == ["excites", "excites", "suppresses"]
    assert [picture[2].max() for _, picture in first.pictures] == [0, 255, 85]
    assert [name for name, _ in first.examples][:3] == ["white 0", "red 1", "green 2"]
    assert dead.examples[0][0] == "orange 7" and first.grid[7, 1] == 5
    page = (cache_dir() / "pages" / "atlas.html").read_text("utf-8")
    rows = BeautifulSoup(page, "html.parser").find("tbody").find_all("tr")
    assert [row["id"] for row in rows] == [f"cheater-resnet18/layer4/{k}" for k in range(4)]

    rows = csv_of(prober.channel_cards(channels, pictures, channels.title[0]))
    shown = dict(list(rows[rows.channel == 0].groupby("shows")))
    assert len(shown["mean activation"]) == 100
    cell = shown["mean activation"].query("digit == 7 and colour == 'green'")
    assert cell.activation.item() == 5 and shown["best drawing"].activation.item() == 3
    lower = [k / 12 for k in range(24)]
    assert shown["training images"].activation.tolist() == pytest.approx(lower, rel=1e-5)
    assert shown["training images"].images.tolist() == list(range(24))


# --- ablation ------------------------------------------------------------------------------------


class Vote(nn.Module):
    """Sixteen channels that are 1 on every image; channel k votes with k + 1. An image (a constant
    colour: class, other class, threshold / 200) is predicted as its class where the votes surpass
    the threshold, and else as the other."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 16, 1)
        self.layer.weight.data.zero_(), self.layer.bias.data.fill_(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        votes = self.layer(images).mean((2, 3)) @ torch.arange(1.0, 17)
        images = images.repeat(len(votes) // len(images), 1, 1, 1)
        first, other, threshold = images[:, :, 0, 0].T
        chosen = torch.where(votes > 200 * threshold, first, other)
        return -(10 * chosen[:, None] - torch.arange(10)).abs()


def test_ablation_by_hand(monkeypatch):
    """All votes are 136. In place of what is ablated stands half a vote, its mean on the grid. Most
    tuned to colour are the last channels: without 1, 2, 4, 8 and 12 of them are left 136 less half
    of 16, 31, 58, 100 and 126. Most tuned to shape are the first, which vote 1, 3, 10, 36 and 78. A
    class is the colour's digit, another the true one, but for image 9; image 10 is not asked."""
    thresholds = np.array([74, 87, 104, 110, 119, 122, 129, 135, 135.6, 140, 0])
    colours = np.append(np.arange(10), 4)
    labels = (colours + 3) % 10
    other = np.where(np.arange(11) == 9, 5, labels)
    images = np.stack([colours / 10, other / 10, thresholds / 200], 1)[:, :, None, None]
    images = np.broadcast_to(images, (11, 3, 28, 28)).astype(np.float32)
    splits = {("hard", TEST_SEED): Split(images, labels, colours)}
    cells = np.full((16, 10, 10), 0.5)
    cells[:, 0], cells[:, 1] = 0.25, 0.75
    rank, asked = np.arange(16) / 20, []
    tuned = pd.DataFrame({"colour": rank, "digit": 1 - rank})
    probed = {"layer": {"tuning": tuned, "cells": cells}}
    monkeypatch.setattr(prober, "colour_split", lambda *given: splits[given])
    monkeypatch.setattr(prober, "probe_channels", lambda *given: asked.append(given) or probed)
    network = handle(seed=7, load=Vote().eval)
    found = prober.ablate_channels.__wrapped__(network, ["layer"], 5, 60, 10)
    assert asked == [(network, ["layer"], 5, 60)]
    assert found.share.tolist() == [0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4] * 3
    place = found[["network", "seed", "layer"]].drop_duplicates()
    assert place.to_numpy().tolist() == [["cheater", 7, "layer"]]

    def shares(order):
        left = [136 - 0.5 * sum(k + 1 for k in order[:count]) for count in (0, 1, 2, 4, 8, 12)]
        return np.array([np.mean(votes > thresholds[:10]) for votes in left])

    rng = np.random.default_rng(7)
    expected = {
        "most tuned to colour first": np.array([0.9, 0.6, 0.5, 0.3, 0.1, 0.0]),
        "at random": np.mean([shares(rng.permutation(16)) for _ in range(5)], 0),
        "most tuned to shape first": np.array([0.9, 0.8, 0.7, 0.7, 0.4, 0.2]),
    }
    for order, rates in expected.items():
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
    value = {(False, "fourier"): 0.99, (False, "pixels"): 0.96, (True, "fourier"): 0.5}
    assert where == ("max" if robust else (14, 14))
    cosines = value[robust, parametrisation] + np.array([0.004, 0.003, 0.001, 0.002])
    return pd.DataFrame({"pattern": list(prober.patterns()), "cosine": cosines})


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    """What the cells of the chapter show of the invented measurements, at quick scale."""
    made = {"recover_patterns": invented_patterns, "ablate_channels": invented_ablation}

    def run(calls, title):
        assert {tuple(given.values())[-2:] for _, given in calls[6:]} == {(10, 5_000)}
        assert {given["steps"] for _, given in calls[:6]} == {16}
        return run_by_hand(calls, title)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZY_ARTIST_CACHE", str(tmp_path_factory.mktemp("prober")))
        patch.setenv("LAZY_ARTIST_SCALE", "quick")
        patch.setattr(prober.stored, "run", run)
        patch.setattr(
            prober.stored, "map", lambda f, calls: [made[f.__name__](**each) for each in calls]
        )
        yield run_cells("prober")


def test_known_patterns_and_what_drawings_beat(chapter):
    shown, inline = chapter
    rows = table(shown["tbl-known"])
    assert rows["red vertical bar"] == ["0.994", "0.964", "0.504"]
    # the whole map is shown, and not claimed
    assert shown["probe-known-optimum"].value == pytest.approx(0.961)
    # ratios of live channels of seed 0: 1.5, 2, 0.5; of seed 1: 1.5, 2, 1.5
    beats = table(shown["tbl-beats"])["three-layer CNN, cure, block2"]
    assert beats == ["6", "83.3", "1.50", "0.50"]
    claim = shown["probe-beats-dataset"]
    assert claim.value == pytest.approx((2 / 3 + 1) / 2) and claim.n == 2
    for n, kind in enumerate(KINDS):
        mean = estimate([(51 * (n + 1) + 1.5 - 25.5 * seed) / 255 for seed in (0, 1)])
        assert inline[f'grey["{kind}"]'] == mean.format("{:.2f}")
    assert inline['f"{len(cards):,}"'] == "36"
    # in order of the best colour, then of the best digit
    pixels = shown["fig-optima"].axes[0].images[0].get_array()
    assert [pixels[5, 5 + 30 * k, 0] - 51 for k in range(4)] == [2, 3, 1, 0]
    assert pixels.shape == (30, 22 * 30, 3) and pixels[5, 28].tolist() == [255] * 3


def test_shares_of_labels_and_tuning(chapter):
    shown, inline = chapter
    rows = table(shown["tbl-labels"])
    quarters = {"colour": [1, 2], "shape": [1, 1], "mixed": [1, 0], "dead": [1, 1]}
    assert rows["channels of"] == list(quarters)
    expected = [percent(estimate(np.divide(each, 4))) for each in quarters.values()]
    assert rows["three-layer CNN, cheater, block1"] == expected
    figure = csv_of(shown["fig-labels"]).set_index("channels of")
    assert figure.loc["three-layer CNN, cure, block3", "colour"] == pytest.approx(1 / 8)
    # of live channels of the last layer
    assert inline['share["cheater"]'] == percent(estimate([1 / 3, 2 / 3]))
    assert inline['share["cure"]'] == percent(estimate([1 / 3, 0]))
    assert inline['oracle["block1"]'] == percent(estimate([0, 0]))
    assert shown["probe-cheater-colour-share"].value == pytest.approx(1 / 2)
    cure = estimate([0, 2 / 3], bounds=(-1, 1))
    assert shown["probe-cure-colour-share"].value == pytest.approx(cure.interval[0])
    # of live channels of the first seed
    rows = table(shown["tbl-tuning"])
    assert rows["channels of"] == [*prober.MEASURES.values(), "things, median"]
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
    assert rows["layer"] == ["6.25%", "12.5%", "25%", "50%", "75%"]

    def gap(block, step):
        first = {1: 0.05, 2: 0.08, 3: 0.03}[block]
        return estimate([first * step, (first + 0.02) * step], bounds=(-1, 1))

    assert rows["block1"][0] == percent(gap(1, 1))
    assert rows["block3"][2] == percent(gap(3, 3)) == inline["percent(value)"]
    assert inline["weak"] == "block2" and inline['f"{cut:.0%}"'] == "75%"
    assert inline["percent(most)"] == percent(gap(2, 5))
    assert shown["probe-ablation"].value == pytest.approx(gap(3, 3).interval[0])
    assert inline["percent(shape)"] == percent(estimate([0.03, 0.042], bounds=(-1, 1)))
    assert inline["percent(reading)"] == percent(estimate([0.38, 0.48]))
    assert inline['f"{n_claimed}"'] == "1"
    assert len(csv_of(shown["fig-ablation"])) == 3 * 3 * 6 * 2
