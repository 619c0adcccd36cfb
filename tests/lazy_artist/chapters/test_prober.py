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

from lazy_artist.canvas import PALETTE, Split, colour_split, paint, split_digits
from lazy_artist.chapters import prober
from lazy_artist.claims import begin_chapter
from lazy_artist.config import TEST_SEED
from lazy_artist.data import cache_dir
from lazy_artist.evaluate import estimate, percent
from lazy_artist.featurevis import colour_root, visualise


class Eye(nn.Module):
    """A network made by hand: `layer` is the image itself, so that a channel's activation is the
    mean of red, of green, of blue; it predicts the digit of the colour that is nearest to the
    brightest of each."""

    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(3, 3, 1, bias=False)
        conv.weight.data = torch.eye(3)[:, :, None, None]
        self.layer = nn.Sequential(conv, nn.ReLU(inplace=True))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        brightest = self.layer(images).amax((2, 3))
        return -torch.cdist(brightest, torch.tensor(PALETTE, dtype=torch.float32))


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
    found = prober.recover_patterns.__wrapped__((3, 4), "pixels", True).set_index("pattern").cosine
    # 7 pixels of the bar and 1 more; the diagonal has it; 11 of the corner; 13 * 3 of the cross
    expected = {"red vertical bar": 7 / 8, "yellow diagonal": 1, "blue corner": 11 / 12}
    expected |= {"white cross": 39 / 40}
    assert list(found.index) == list(expected)
    np.testing.assert_allclose(found, np.sqrt(list(expected.values())), rtol=1e-6)


def test_tuning_is_measured_on_validation_digits_in_all_colours():
    found = prober.probe_channels.__wrapped__(handle(), ["layer"], 3, 50)["layer"]
    grey, labels = split_digits("validation")
    first = np.concatenate([np.flatnonzero(labels == digit)[:3] for digit in range(10)])
    for colour in range(10):
        mean = paint(grey[first], np.full(30, colour), TEST_SEED).mean((2, 3))  # (30, 3)
        expected = mean.reshape(10, 3, 3).mean(1)  # (10 digits, 3 channels)
        np.testing.assert_allclose(found["cells"][:, :, colour].T, expected, rtol=1e-5)
    tuned = found["tuning"]
    assert tuned.colour.min() > 0.6 > 0.2 > tuned.digit.max() and tuned.p_colour.max() == 1 / 200


def test_the_strongest_of_the_networks_own_training_images_are_kept():
    network = handle(seed=4, correlation=0.7)
    found = prober.probe_channels.__wrapped__(network, ["layer"], 3, 120)["layer"]
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
    found = prober.draw_channels.__wrapped__(handle(), ["layer"], 1, False, 1)
    assert "negative" not in found["layer"]


# --- channels ------------------------------------------------------------------------------------


def tuned_frame(**columns) -> pd.DataFrame:
    """What `tuning` may find of some channels, all measures of it far below their null."""
    frame = pd.DataFrame(columns)
    for name in prober.MEASURES:
        frame[name] = frame.get(name, 0.02)
        frame[f"p_{name}"] = frame.get(f"p_{name}", 0.5)
    return frame


def measured(*networks) -> tuple[pd.DataFrame, dict[str, dict[str, np.ndarray]], list]:
    """What `measure_channels` makes of channels made by hand, and the calls that it asked for.

    Channel 0 answers to green, most to green sevens, and no drawing excites it as much as a
    training image; channel 1 is dead. Each network has an offset, in the scores and in `most`.
    """
    asked = []

    def run(calls, title):
        asked.extend(calls)
        return [{layer: made(f, **given) for layer in given["layers"]} for f, given in calls]

    def made(function, network, **given):
        offset = network.seed + 10 * (network.name == "oracle")
        optima = np.zeros((2, 2, 3, 28, 28), np.uint8)
        optima[0, 0, 0], optima[0, 0, 1, :14] = 255, 51  # red, its upper half with a fifth of green
        optima[0, 0, 2] = 51
        optima[:, 1, 2] = 255
        if function is prober.draw_channels:
            scores = np.array([[3, 2], [0, 0]], np.float32) + offset
            return {"optima": optima, "scores": scores, "negative": optima[:, 1] // 3}
        cells = np.zeros((2, 10, 10))
        cells[0, :, 1], cells[0, 7, 1] = 4, 5
        tuned = tuned_frame(
            colour=[0.6, 0], digit=[0.11, 0], interaction=[0.12, 0], p_colour=[0.005, 1],
            colour_selectivity=[0.9, 0], digit_selectivity=[0.3, 0],
        )  # fmt: skip
        return {
            "tuning": tuned, "cells": cells, "histogram": np.arange(48).reshape(2, 24),
            "most": np.array([6, 0], np.float32) * (1 + offset),
            "top": np.full((2, 9, 3, 28, 28), 7, np.uint8),
            "top_digits": np.arange(18, dtype=np.uint8).reshape(2, 9) % 10,
            "top_colours": np.arange(9, 27, dtype=np.uint8).reshape(2, 9) % 10,
        }  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prober.stored, "run", run)
        frame, pictures = prober.measure_channels(networks, n_per_class=5, n_train=60, steps=8)
    return frame, pictures, asked


def test_a_channels_row_by_hand():
    frame = measured(handle())[0]
    row = frame.iloc[0]
    assert row[["channel", "alive", "label", "prefers"]].tolist() == [0, True, "colour", "green"]
    assert row[["best_digit", "best_colour", "concepts"]].tolist() == [7, 1, 1]
    assert row[["most", "score"]].tolist() == [6, 3]
    assert row.saturation == pytest.approx((1 - 0.2) / 2 + (1 - 0) / 2)  # red less the lowest other
    assert row[["colour", "digit", "p_colour"]].tolist() == [0.6, 0.11, 0.005]
    assert frame.iloc[1][["alive", "label", "prefers"]].tolist() == [False, "dead", ""]


def test_channels_are_put_together_by_layer_network_and_seed():
    """Only of seed 0 are negatives drawn, and two optima of CNNs; the first networks' are first."""
    given = [handle(seed, name=name) for name in ("cheater", "oracle") for seed in (0, 1)]
    frame, pictures, asked = measured(handle(0, name="oracle", arch="resnet18"), *given)
    drawn, probed = {}, set()
    for function, each in asked:
        network, _, *options = each.values()
        if function is prober.draw_channels:
            drawn[network.name, network.arch, network.seed] = options
        else:
            probed.add(tuple(options))
    assert drawn.pop(("oracle", "resnet18", 0)) == [1, True, 8]
    assert probed == {(5, 60)} and len(asked) == 10
    for name in ("cheater", "oracle"):
        assert drawn[name, "cnn", 0] == [2, True, 8] and drawn[name, "cnn", 1] == [1, False, 8]
    titles = [f"three-layer CNN, {n}, block{k}" for k in (1, 2, 3) for n in ("cheater", "oracle")]
    titles.append("ResNet-18, oracle, layer4")
    assert frame.title.unique().tolist() == titles and sorted(pictures) == sorted(titles)
    last = frame[frame.title == "three-layer CNN, oracle, block3"]
    assert last.seed.tolist() == [0, 0, 1, 1] and last.channel.tolist() == [0, 1, 0, 1]
    assert last.score.tolist() == [13, 10, 14, 11] and last.most.tolist() == [66, 0, 72, 0]
    assert pictures[titles[5]]["scores"][0].tolist() == [13, 12]  # of seed 0


def test_the_atlas_by_hand():
    """Of seed 0 alone; it is written where the book finds it."""
    networks = [handle(seed, name="oracle", arch="resnet18") for seed in (0, 1)]
    first, second = prober.write_atlas(*measured(*networks)[:2])
    assert first.path == "oracle-resnet18/layer4/0" and second.path == "oracle-resnet18/layer4/1"
    assert first.title == "oracle-resnet18 layer4 0" and first.subtitle == "colour: green"
    assert second.subtitle == "dead"
    assert first.facets == {
        "network": ("oracle-resnet18",), "layer": ("layer4",), "label": ("colour",),
        "answers to": ("green",),
    }  # fmt: skip
    assert first.measures == {
        "η² colour": 0.6, "η² digit": 0.11, "η² both": 0.12, "select. colour": 0.9,
        "select. digit": 0.3, "things": 1.0, "ratio": pytest.approx(13 / 66), "most": 66.0,
    }  # fmt: skip
    assert (first.most, first.mark) == (66, 13)
    assert [name for name, _ in first.pictures] == ["excites", "excites", "suppresses"]
    assert [picture[2].max() for _, picture in first.pictures] == [51, 255, 85]
    assert [name for name, _ in first.examples][:3] == ["white 0", "red 1", "green 2"]
    assert second.examples[0][0] == "pink 9" and first.grid[7, 1] == 5
    page = (cache_dir() / "pages" / "atlas.html").read_text("utf-8")
    rows = BeautifulSoup(page, "html.parser").find("tbody").find_all("tr")
    assert [row["id"] for row in rows] == [first.path, second.path]


def csv_of(figure) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(figure.data_csv), comment="#")


def test_a_cards_table_holds_map_histogram_and_drawing():
    channels, pictures, _ = measured(handle())
    figure = prober.channel_cards(channels[channels.alive], pictures, channels.title[0])
    shown = {name: rows for name, rows in csv_of(figure).groupby("shows")}
    assert {name: len(rows) for name, rows in shown.items()} == {
        "best drawing": 1, "mean activation": 100, "training images": 24,
    }  # fmt: skip
    cell = shown["mean activation"].query("digit == 7 and colour == 'green'")
    assert cell.activation.item() == 5 and shown["best drawing"].activation.item() == 3
    assert shown["training images"].activation.tolist() == [k * 0.25 for k in range(24)]
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


def test_ablation_rates_by_hand():
    """All votes are 136. In place of what is ablated stands half a vote, its mean on the grid. Most
    tuned to colour are the last channels: without 1, 2, 4, 8 and 12 of them are left 136 less half
    of 16, 31, 58, 100 and 126. Most tuned to shape are the first, which vote 1, 3, 10, 36 and 78. A
    class is the colour's digit, another the true one, but for the last image."""
    thresholds = np.array([74, 87, 104, 110, 119, 122, 129, 135, 135.6, 140])
    colours, labels = np.arange(10), (np.arange(10) + 3) % 10
    other = labels.copy()
    other[9] = 5
    images = np.stack([colours / 10, other / 10, thresholds / 200], 1)[:, :, None, None]
    images = np.broadcast_to(images, (10, 3, 28, 28)).astype(np.float32)
    split = Split(images.copy(), labels, colours)
    rank = np.arange(16.0)
    tuned = tuned_frame(colour=rank / 20, digit=1 - rank / 20)
    cells = np.full((16, 10, 10), 0.5)
    cells[:, 0], cells[:, 1] = 0.25, 0.75

    found = prober.ablation_rates(Vote().eval(), "layer", split, tuned, cells, seed=7)
    assert found.share.tolist() == [0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4] * 3

    def shares(order):
        left = [136 - 0.5 * sum(k + 1 for k in order[:count]) for count in (0, 1, 2, 4, 8, 12)]
        return np.array([np.mean(votes > thresholds) for votes in left])

    rng = np.random.default_rng(7)
    expected = {
        "most tuned to colour first": np.array([0.9, 0.6, 0.5, 0.3, 0.1, 0.0]),
        "at random": np.mean([shares(rng.permutation(16)) for _ in range(5)], 0),
        "most tuned to shape first": np.array([0.9, 0.8, 0.7, 0.7, 0.4, 0.2]),
    }
    for order, rates in expected.items():
        rows = found[found.order == order]
        np.testing.assert_allclose(rows.shortcut_rate, rates, atol=1e-9)
        np.testing.assert_allclose(rows.accuracy, 0.9 - rates, atol=1e-9)  # image 9 is never right


def test_the_networks_own_channels_are_ablated_on_hard_images(monkeypatch):
    cells = np.arange(300.0).reshape(3, 10, 10) / 300
    probed = {"layer": {"tuning": tuned_frame(colour=[0.1, 0.3, 0.2]), "cells": cells}}
    asked = []
    monkeypatch.setattr(prober, "probe_channels", lambda *given: asked.append(given) or probed)
    network = handle(seed=3)
    found = prober.ablate_channels.__wrapped__(network, ["layer"], 5, 60, 40)
    assert asked == [(network, ["layer"], 5, 60)]
    split = colour_split("hard", TEST_SEED).take(np.arange(40))
    brightest = split.images.max((2, 3))
    predictions = np.linalg.norm(brightest[:, None] - PALETTE, axis=2).argmin(1)
    whole = found[found.share == 0]
    rates = np.mean(predictions == split.colours), np.mean(predictions == split.labels)
    assert rates[0] > 0.6 and rates[1] < 0.2
    np.testing.assert_allclose(whole[["shortcut_rate", "accuracy"]], [rates] * 3)
    brightest[:, 1:] = 149.5 / 300, 249.5 / 300  # half of three channels are two; their means
    predictions = np.linalg.norm(brightest[:, None] - PALETTE, axis=2).argmin(1)
    cut = found[(found.share == 0.5) & (found.order == "most tuned to colour first")]
    assert cut.shortcut_rate.item() == pytest.approx(np.mean(predictions == split.colours))
    place = found[["network", "seed", "layer"]].drop_duplicates()
    assert place.to_numpy().tolist() == [["cheater", 3, "layer"]]


# --- the cells -----------------------------------------------------------------------------------

KINDS = ("cheater", "cure", "oracle")
TITLE = "three-layer CNN, cheater, block1"
LABELS_OF = {  # of four channels, the fourth dead; by seed
    "cheater": (["colour", "colour", "shape"], ["colour", "colour", "colour"]),
    "cure": (["mixed", "shape", "shape"], ["colour", "shape", "mixed"]),
    "oracle": (["shape", "shape", "shape"], ["shape", "shape", "mixed"]),
}


def invented_channels(networks, **sizes) -> tuple[pd.DataFrame, dict[str, dict[str, np.ndarray]]]:
    """Four channels a layer, the last dead. A drawing wins in two of three, in seed 1 in all. Each
    network, layer and seed has an eta squared of its own: .1 for the network, .02 for the layer, by
    seed; of the p of colour two of three are below .01."""
    assert [(n.name, n.seed) for n in networks] == [(k, s) for k in KINDS for s in (0, 1)]
    assert sizes == {"n_per_class": 10, "n_train": 5_000, "steps": 16}
    frames, pictures = [], {}
    images = np.broadcast_to(np.arange(8, dtype=np.uint8).reshape(4, 2, 1, 1, 1), (4, 2, 3, 28, 28))
    for layer in (1, 2, 3):
        for network, seed in ((n, s) for n in KINDS for s in (0, 1)):
            n, title = KINDS.index(network), f"three-layer CNN, {network}, block{layer}"
            rows = tuned_frame(
                colour=[0.1 * (n + 1) + 0.02 * layer + seed / 2] * 4, digit=[0.3] * 4,
                p_colour=[0.005, 0.005, 0.01, 0.005], p_interaction=[0.001] * 4,
            )  # fmt: skip
            rows = rows.assign(
                channel=range(4), alive=[True, True, True, False], concepts=[1, 2, 5, 0],
                label=[*LABELS_OF[network][seed], "dead"], prefers="", title=title,
                most=np.float32([1, 2, 2, 0]), score=np.float32([2, 8, 3 if seed else 1, 5]),
                best_colour=[3, 3, 1, 0], best_digit=[4, 2, 9, 9], arch="cnn",
                saturation=np.array([0.1, 0.2, 0.3, 0.4]) * (n + 1) + seed / 10,
                network=network, layer=f"block{layer}", seed=seed,
            )  # fmt: skip
            frames.append(rows)
            pictures[title] = {
                "optima": images, "negative": images[:, 0], "cells": np.ones((4, 10, 10)),
                "top": np.zeros((4, 9, 3, 28, 28), np.uint8), "histogram": np.ones((4, 24), int),
                "top_digits": np.zeros((4, 9), int), "top_colours": np.zeros((4, 9), int),
            }  # fmt: skip
    return pd.concat(frames, ignore_index=True), pictures


def invented_ablation(network, layers, n_per_class, n_train, n_eval) -> pd.DataFrame:
    """The shortcut rate falls from .9 by .1 a step where colour goes first, by .05 at random, and
    rises by .01 where shape does; in seed 1 by .02 more, and .004. Block 2 falls less at random.
    Accuracy: distinct, highest in block 3 for shape, of which a half is gone."""
    assert (n_per_class, n_train, n_eval) == (10, 5_000, 200)
    rows, seed = [], network.seed
    for k, layer in enumerate(layers):
        fall = (0.1 + 0.02 * seed, (0.05, 0.02, 0.07)[k], -0.01 - 0.004 * seed)
        for o, order in enumerate(prober.ORDERS):
            for step, share in enumerate(prober.SHARES):
                best = 0.3 + seed / 10 if (k, o, step) == (2, 2, 4) else 0
                rates = (0.9 - fall[o] * step, best + 0.01 * (k + o + step))
                rows.append((layer, order, share, *rates))
    frame = pd.DataFrame(rows, columns=["layer", "order", "share", "shortcut_rate", "accuracy"])
    return frame.assign(network=network.name, seed=seed)


def invented_patterns(where, parametrisation, robust) -> pd.DataFrame:
    value = {(False, "fourier"): 0.99, (False, "pixels"): 0.96, (True, "fourier"): 0.5}
    assert where == ("max" if robust else (14, 14))
    cosines = value[robust, parametrisation] + np.array([0.004, 0.003, 0.001, 0.002])
    return pd.DataFrame({"pattern": list(prober.patterns()), "cosine": cosines})


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    """What the cells of the chapter show of the invented measurements, at quick scale."""
    made = {prober.recover_patterns: invented_patterns, prober.ablate_channels: invented_ablation}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZY_ARTIST_CACHE", str(tmp_path_factory.mktemp("prober")))
        patch.setenv("LAZY_ARTIST_SCALE", "quick")
        patch.setattr(prober, "measure_channels", invented_channels)
        patch.setattr(
            prober.stored, "map", lambda f, configs, *_: [made[f](**each) for each in configs]
        )
        yield run_cells("prober")
    begin_chapter("prober")


def test_known_patterns_and_what_drawings_beat(chapter):
    shown, inline = chapter
    rows = table(shown["tbl-known"])
    assert rows["red vertical bar"] == ["0.994", "0.964", "0.504"]
    assert rows["blue corner"] == ["0.991", "0.961", "0.501"]
    # the whole map is shown, and not claimed
    assert shown["probe-known-optimum"].value == pytest.approx(0.961)
    # ratios of live channels of seed 0: 2, 4, 0.5; of seed 1: 2, 4, 1.5
    beats = table(shown["tbl-beats"])["three-layer CNN, cure, block2"]
    assert beats == ["6", "83.3", "2.00", "0.50"]
    claim = shown["probe-beats-dataset"]
    assert claim.value == pytest.approx((2 / 3 + 1) / 2) and claim.n == 2
    for n, kind in enumerate(KINDS):  # mean .25 times 1, 2 or 3, and .1 more in seed 1
        mean = estimate([0.25 * (n + 1), 0.25 * (n + 1) + 0.1])
        assert inline[f'grey["{kind}"]'] == mean.format("{:.2f}")
    assert inline['f"{len(cards):,}"'] == "36"
    # best optima are of value 0, 2, 4, 6; channels by colour and digit: 3, 2, 1, 0
    pixels = shown["fig-optima"].axes[0].images[0].get_array()
    assert [pixels[5, 5 + 30 * k, 0] for k in range(4)] == [6, 4, 2, 0]
    assert pixels.shape == (30, 22 * 30, 3) and pixels[5, 28].tolist() == [255] * 3


def test_shares_of_labels(chapter):
    shown, inline = chapter
    head, row = (table(shown["tbl-labels"])[name] for name in ("channels of", TITLE))
    parts = {"colour": [2 / 4, 3 / 4], "shape": [1 / 4, 0], "mixed": [0, 0], "dead": [1 / 4] * 2}
    assert head == list(parts) and row == [percent(estimate(each)) for each in parts.values()]
    figure = csv_of(shown["fig-labels"]).set_index("channels of")
    assert figure.loc["three-layer CNN, cure, block3", "shape"] == pytest.approx((2 + 1) / 8)
    # of live channels of the last layer
    assert inline['share["cheater"]'] == percent(estimate([2 / 3, 1]))
    assert inline['share["cure"]'] == percent(estimate([0, 1 / 3]))
    assert inline['oracle["block1"]'] == percent(estimate([0, 0]))
    assert shown["probe-cheater-colour-share"].value == pytest.approx((2 / 3 + 1) / 2)
    cure = estimate([2 / 3, 1 - 1 / 3], bounds=(-1, 1))
    assert shown["probe-cure-colour-share"].value == pytest.approx(cure.interval[0])


def test_tuning_is_of_live_channels_of_the_first_seed(chapter):
    shown, inline = chapter
    rows = table(shown["tbl-tuning"])
    assert rows["channels of"] == [*prober.MEASURES.values(), "things, median"]
    expected = ["0.24 (67%)", "0.30 (0%)", "0.02 (100%)", "0.02 (0%)", "0.02 (0%)", "2"]
    assert rows["three-layer CNN, cure, block2"] == expected
    assert inline['f"{told.to_numpy().mean():.0%}"'] == "33%"  # (2 / 3 + 1) of five measures
    points = csv_of(shown["fig-tuning"])
    assert len(points) == 3 * 3 * 3 and points.colour.max() == pytest.approx(0.36)


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
