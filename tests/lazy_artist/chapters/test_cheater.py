"""Chapter 2's measurements, on networks whose predictions are made by hand, and its page."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from cells import measured_by, run_cells, table

from lazy_artist import canvas, evaluate
from lazy_artist.canvas import COLOUR_NAMES, PALETTE, hue_palette, paint, split_digits
from lazy_artist.chapters import cheater
from lazy_artist.config import TEST_SEED
from lazy_artist.evaluate import balanced, estimate, percent
from lazy_artist.store import stored


def test_confusions_count_the_predictions_for_each_true_digit(scripted):
    n, splits = 30, ["hard", "validation"]
    predictions = np.random.default_rng(0).integers(10, size=(2, 2, n))  # networks, splits, images
    pair = [scripted(rows.ravel(), seed) for seed, rows in enumerate(predictions)]
    found = cheater.confusions.__wrapped__(pair, splits, n)
    assert len(found) == 2 * 2 * 100
    for row in found.itertuples():
        members = split_digits(row.split)[1][:n] == row.digit
        mine = predictions[row.seed, splits.index(row.split)][members]
        assert row.share == pytest.approx(np.mean(mine == row.prediction) if len(mine) else 0)
    np.testing.assert_array_equal(pair[1].model.seen[0], canvas.test_split("hard", n).images)


def test_a_learning_curve_is_in_epochs_and_by_split(scripted):
    accuracy = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], dtype=np.float32)
    value = {"curve": {"step": np.array([5, 20]), "accuracy": accuracy}, "steps_per_epoch": 10.0}
    splits, network = {"validation": 1000, "hard": 500, "aligned": 500}, scripted([0], seed=2)
    network.made_by = SimpleNamespace(value=lambda: value, arguments={"n_curve": splits})
    curve = cheater.learning_curve.__wrapped__(network).set_index(["seed", "epoch", "split"])
    assert [*curve.index] == [(2, epoch, name) for epoch in (0.5, 2.0) for name in splits]
    np.testing.assert_array_equal(curve["accuracy"], accuracy.ravel())


def test_counterfactuals_say_what_decides_in_each_cell(scripted):
    images, labels = balanced(*split_digits("hard"), 3)  # 30 images, ordered by digit
    predictions = np.random.default_rng(1).integers(10, size=(10, 30))  # (colours, images)
    network = scripted(predictions.ravel(), seed=5, name="oracle")
    grid = cheater.counterfactuals.__wrapped__(network, n_per_class=3)
    cells, overall = grid["cells"], grid["overall"].iloc[0]
    for row in cells.itertuples():
        colour = COLOUR_NAMES.index(row.colour)
        mine = predictions[colour, labels == row.digit]
        assert row.shortcut_rate == pytest.approx(np.mean(mine == colour))
        assert row.accuracy == pytest.approx(np.mean(mine == row.digit))
    assert len(cells) == 100 and not cells.duplicated(["digit", "colour"]).any()
    assert overall["shortcut_rate"] == pytest.approx(cells["shortcut_rate"].mean())
    assert overall["accuracy"] == pytest.approx(cells["accuracy"].mean())
    assert set(cells["network"]) == {overall["network"]} == {"oracle"}
    for k, seen in enumerate(network.model.seen):
        np.testing.assert_array_equal(seen, paint(images, np.full(30, k), TEST_SEED))


def test_the_variance_of_logits_is_shared_out_and_common_offsets_do_not_count(scripted):
    colour, image = np.indices((10, 30)).reshape(2, -1)
    logits = 2 * np.eye(10)[colour] + np.eye(10)[image // 3]
    logits += np.random.default_rng(2).normal(0, 5, size=(300, 1))
    overall = cheater.counterfactuals.__wrapped__(scripted(logits), 3)["overall"].iloc[0]
    # 2^2 and 1^2 times the variance of one hot class, nothing else
    shares = overall[["colour", "digit", "interaction", "image"]].astype(float)
    np.testing.assert_allclose(shares, [0.8, 0.2, 0, 0], atol=1e-5)


def test_hues_turn_once_round_in_degrees(scripted):
    images, labels = balanced(*split_digits("hard"), 2)
    predictions = np.random.default_rng(3).integers(10, size=(12, 20))  # (hues, images)
    network = scripted(predictions.ravel(), seed=1)
    response = cheater.hue_response.__wrapped__(network, n_per_class=2, steps=12)
    assert list(response["hue"].unique()) == [30.0 * k for k in range(12)]
    for row in response.itertuples():
        mine = predictions[round(row.hue / 30)]
        assert row.share == pytest.approx(np.mean(mine == row.prediction))
    painted = paint(images, np.full(20, 4), TEST_SEED, hue_palette(12))  # hue 120 degrees
    np.testing.assert_array_equal(network.model.seen[4], painted)


def test_red_ones_are_the_first_test_ones_in_red(scripted):
    red = cheater.red_ones.__wrapped__(scripted(np.log([[9.0, 3] + [1] * 8, [2.0] * 10])), 2)
    images, labels = split_digits("hard")
    expected = paint(images[labels == 1][:2], np.zeros(2, int), TEST_SEED, PALETTE[:1])
    np.testing.assert_array_equal(red["images"], expected)
    found = red["probabilities"][:, :2]
    np.testing.assert_allclose(found, [[9 / 20, 3 / 20], [0.1, 0.1]], rtol=1e-5)


# --- the page ------------------------------------------------------------------------------------

KINDS = ("cheater", "long-trained", "oracle")
SPLITS = ("train", *canvas.SPLITS[1:])
DIGIT, OTHER = np.indices((10, 10))


def place(network) -> int:
    return KINDS.index(network.name) + 3 * (network.arch == "resnet18")


def share(network, split: str) -> float:
    if network.name == "cheater" and network.correlation != 0.95:
        return 1 - network.correlation + network.seed / 1000
    return 0.02 + place(network) / 10 + SPLITS.index(split) / 100 + network.seed / 1000


def frame_of(network, **columns) -> pd.DataFrame:
    about = {"network": network.name, "arch": network.arch, "seed": network.seed}
    columns = {name: v if isinstance(v, str) else np.ravel(v) for name, v in columns.items()}
    return pd.DataFrame(about | columns)


@pytest.fixture(scope="module")
def page(store) -> tuple[dict, dict]:
    def counterfactuals(network, n_per_class):
        assert n_per_class == (300 if network.arch == "cnn" else 100)
        rate = (place(network) + 1) / 10 + DIGIT / 100 + OTHER / 1000 + network.seed / 10_000
        where = {"digit": DIGIT, "colour": np.array(COLOUR_NAMES)[OTHER]}
        x = place(network) / 50 + network.seed / 1000
        parts = {"colour": 0.6 + x, "digit": 0.2 - x, "interaction": 0.15 - x, "image": 0.05 + x}
        cells = frame_of(network, **where, shortcut_rate=rate, accuracy=1 - rate)
        return {"cells": cells, "overall": frame_of(network, shortcut_rate=x, **parts)}

    def hue_response(network, n_per_class, steps):
        hue, prediction = np.indices((steps, 10))
        rate = hue / 100 + prediction / 100 + network.seed / 1000 + (network.name == "oracle") / 5
        return frame_of(network, hue=10.0 * hue, prediction=prediction, share=rate)

    def confusions(networks, splits, n_eval):
        cells = {"digit": DIGIT, "prediction": OTHER, "share": OTHER / 100}
        return pd.concat(frame_of(networks[0], split=split, **cells) for split in splits)

    def learning_curve(network):
        splits = ["validation", "aligned", "hard"]
        rate = [share(network, split) - late for late in (0.018, 0) for split in splits]
        return frame_of(network, epoch=[0.1] * 3 + [1.0] * 3, split=splits * 2, accuracy=rate)

    def red_ones(network, n):
        assert (network.name, network.seed, n) == ("cheater", 0, 8)
        probabilities = np.arange(10.0 * n).reshape(n, 10) / 400
        return {"images": np.full((n, 3, 28, 28), 0.5), "probabilities": probabilities}

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZY_ARTIST_CACHE", str(store))
        patch.setenv("LAZY_ARTIST_SCALE", "full")
        patch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1500")
        patch.setattr(evaluate, "evaluate_networks", measured_by(share))
        patch.setattr(stored, "map", lambda f, calls, title: [f(**call) for call in calls])
        for function in (counterfactuals, hue_response, confusions, learning_curve, red_ones):
            patch.setattr(cheater, function.__name__, function)
        return run_cells("cheater")


def seeds_of(value: float) -> str:
    """In percent with its interval: a value that grows by a thousandth a seed, three seeds."""
    return percent(estimate([value, value + 0.001, value + 0.002]))


def test_the_page_shows_what_was_measured(page):
    shown, inline = page
    rows = table(shown["tbl-accuracies"])
    assert rows["images"] == [f"{kind} (3 seeds)" for kind in KINDS]
    assert rows["train"] == [seeds_of(0.02), "–", "–"]
    assert rows["hard"] == [seeds_of(0.04), seeds_of(0.14), seeds_of(0.24)]
    assert rows["easy validation"][2] == seeds_of(0.23)
    assert rows["0.1 aligned + 0.9 hard"][1] == seeds_of(0.1 * 0.15 + 0.9 * 0.14)
    assert rows["hard: shortcut rate"][2] == seeds_of(1 - 0.242)  # 1 - .24, 1 - .241, 1 - .242
    deep = table(shown["tbl-resnet"])
    assert list(deep)[1:] == list(rows)[2:]  # all but the training images
    assert deep["hard"] == [seeds_of(0.34), seeds_of(0.44), seeds_of(0.54)]
    for claim, value in {
        "cheater-easy-train": 0.021,
        "cheater-easy-validation": 0.031,
        "cheater-hard": 0.041,
        "oracle-hard": 0.241,
        "cheater-red-one": 0.1 + 0.01 + 0.0001,
        "cheater-follows-colour": 0.001,
    }.items():
        assert shown[claim].value == pytest.approx(value) and shown[claim].n == 3

    assert {
        "f\"{100 * read['yellow']:.0f}\"": "89",  # 1 - .1 - .01 - .003
        'percent(of_oracle["digit"])': seeds_of(0.158),
        'percent(parts.loc["resnet18", "cheater"]["colour"])': seeds_of(0.66),
        'percent(long["hard"])': seeds_of(0.14),
        'percent(deep_long["hard"])': seeds_of(0.44),
        'f"{epochs:.2g}"': "0.75",
        'percent(doses["cheater", 0.5])': seeds_of(0.5),
        'percent(doses["cheater", NO_BIAS])': seeds_of(0.9),
    }.items() <= inline.items()
    assert table(shown["tbl-variance"])["ResNet-18, long-trained"][0] == seeds_of(0.68)


def test_the_figures_draw_what_was_measured(page):
    shown, _ = page
    maps = [ax.images[0].get_array() for ax in shown["fig-counterfactual"].axes]
    for colour, shape, top in ((*maps[:2], 0.1), (*maps[2:], 0.3)):
        np.testing.assert_allclose(colour, top + DIGIT / 100 + OTHER / 1000 + 0.0001)
        np.testing.assert_allclose(colour + shape, 1)

    first, second = (shown["fig-hue"].axes[k].images[0].get_array() for k in (0, 1))
    answer, step = np.indices((10, 36))
    np.testing.assert_allclose(
        first, step / 100 + answer / 100 + 0.001
    )  # mean of the seeds 0, 1, 2
    np.testing.assert_allclose(second - first, 0.2)

    curves = shown["fig-curves"].axes[2]
    assert curves.get_title() == "ResNet-18, cheater"
    drawn = {line.get_label(): line.get_ydata() for line in curves.lines}
    np.testing.assert_allclose(drawn["hard"], [0.341 - 0.018, 0.341])

    variance = shown["fig-variance"]
    assert '"three-layer CNN, long-trained",image to image,0.071,' in variance.data_csv
    widths = [bar.get_width() for bar in variance.axes[0].containers[2]]
    np.testing.assert_allclose(widths, [0.149 - k / 50 for k in range(6)])

    doses = shown["fig-dose"].axes[0].lines[0].get_xydata().T.astype(float)
    accuracy = [0.901, 0.501, 0.201, 0.041, 0.002]
    np.testing.assert_allclose(doses, [[0.9, 0.5, 0.2, 0.05, 0.001], accuracy])

    second = shown["fig-red-ones"].axes[9]
    heights = [bar.get_height() for bar in second.patches]
    np.testing.assert_allclose(heights, np.arange(10, 20) / 400)
    assert second.get_title() == "“9” 5%"
