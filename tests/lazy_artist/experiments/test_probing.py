"""Chapter 3's measurements, on the stand-in: what is stored, and what is read out of it."""

import functools

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup

from lazy_artist import figures, probe
from lazy_artist.artifacts import Artifact, fetch_many
from lazy_artist.canvas import colour_split
from lazy_artist.data import cache_dir
from lazy_artist.experiments import networks, probing, subjects


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three digits of each in the grid, four steps of ascent, a quick cure, in this process."""
    for module in (probing, subjects):
        monkeypatch.setattr(module, "fetch_many", functools.partial(fetch_many, jobs=1))
    monkeypatch.setattr(subjects, "METHOD", "erm")
    for name, change in (
        ("_probed_config", {"each": 3}),
        ("_visualised_config", {"steps": 4}),
        ("_ablated_config", {"each": 3, "count": 60}),
    ):
        whole = getattr(probing, name)
        changed = functools.partial(lambda f, new, *case: f(*case) | new, whole, change)
        monkeypatch.setattr(probing, name, changed)


def stored(build, config, *case) -> dict:
    return probing.fetch(build, config(*case), networks.data_md5()).tensors


CHEATER = ("cnn", "cheater", 0)


# --- networks built by hand ----------------------------------------------------------------------


@pytest.mark.parametrize("parametrisation", probe.PARAMETRISATIONS)
def test_what_a_unit_of_a_hand_built_network_likes_is_drawn(parametrisation):
    _, cosines = probing.recovered([14, 14], parametrisation, robust=False)
    assert list(cosines) == list(probing.patterns()) and min(cosines.values()) >= 0.95


def test_a_detector_answers_most_to_its_pattern():
    for pattern in probing.patterns().values():
        image = torch.zeros(1, 3, 28, 28)
        image[0, :, 11:18, 7:14] = pattern
        answers = probing.Detector(pattern).layer(image)[0, 0].detach()
        assert answers.max() == answers[14, 10] == pattern.sum()
        image[0, :, 12, 8] = 1 - image[0, :, 12, 8]  # a pixel otherwise, inside the frame
        assert probing.Detector(pattern).layer(image)[0, 0, 14, 10] < pattern.sum()


def test_the_table_of_known_patterns_has_its_lowest(monkeypatch):
    runs = [dict.fromkeys(probing.patterns(), value) for value in (0.99, 0.97, 0.5)]
    monkeypatch.setattr(
        probing, "_recovered", lambda: [Artifact({}, {"metrics": run}) for run in runs]
    )
    assert probing.lowest_recovered() == 0.97  # the whole map is shown, and not claimed
    row = probing.recovered_table().iloc[0].tolist()
    assert row == ["red vertical bar", "0.990", "0.970", "0.500"]


# --- builds --------------------------------------------------------------------------------------


def test_the_strongest_training_images_are_stored_with_their_ink_and_digit():
    tensors = stored(probing.probed, probing._probed_config, *CHEATER)
    pool = colour_split("train", 0)
    seen = probe.activations(networks.cheater(0), ["block2"], pool.images)["block2"]
    np.testing.assert_allclose(tensors["block2.most"], seen.max(0), rtol=1e-4)
    best = np.argsort(-seen[:, 11])[: probing.TOP]
    assert tensors["block2.top_digits"][11].tolist() == pool.labels[best].tolist()
    assert tensors["block2.top_inks"][11].tolist() == pool.colours[best].tolist()
    np.testing.assert_array_equal(
        tensors["block2.top"][11], np.round(255 * pool.images[best]).astype(np.uint8)
    )
    assert (tensors["block2.histogram"].sum(1) == len(pool)).all()
    assert tensors["block2.histogram"][:, -1].min() >= 1  # the strongest image itself


def test_the_grid_is_of_validation_digits_in_all_inks():
    tensors = stored(probing.probed, probing._probed_config, *CHEATER)
    assert tensors["block3.tuning.cells"].shape == (128, 10, 10)
    shares = sum(tensors[f"block3.tuning.{name}"] for name in ("digit", "colour", "interaction"))
    assert (shares <= 1 + 1e-9).all() and shares.mean() > 0.3


def test_the_optima_stored_have_the_scores_stored():
    tensors = stored(probing.visualised, probing._visualised_config, *CHEATER)
    images = tensors["block1.images"]
    assert images.shape == (32, 2, 3, 28, 28) and images.dtype == np.uint8
    again = probe.activations(
        networks.cheater(0), ["block1"], images[:, 1].astype(np.float32) / 255
    )["block1"]
    np.testing.assert_allclose(np.diag(again), tensors["block1.scores"][:, 1], atol=0.02)
    assert tensors["block1.negative"].shape == (32, 3, 28, 28)


def test_ablation_starts_from_the_whole_network():
    tensors = stored(probing.ablated, probing._ablated_config, 0)
    split = colour_split("hard", networks.TEST_SEED).take(np.arange(60))
    with torch.no_grad():
        called = networks.cheater(0)(torch.from_numpy(split.images)).argmax(1).numpy()
    for layer in probing.LAYERS["cnn"]:
        assert tensors[f"{layer}.follows"].shape == (3, len(probing.SHARES) + 1)
        follows, reads = np.mean(called == split.colours), np.mean(called == split.labels)
        np.testing.assert_allclose(tensors[f"{layer}.follows"][:, 0], follows, atol=0.02)
        np.testing.assert_allclose(tensors[f"{layer}.reads"][:, 0], reads, atol=0.02)


def invented_ablation(config: dict) -> Artifact:
    """Following falls from 0.9 by 0.3 per step for colour, by 0.1 at random; a seed adds 0.01."""
    steps = np.arange(len(probing.SHARES) + 1)
    seed = config["network"]["seed"]
    rows = np.stack([0.9 - (0.3 + 0.01 * seed) * steps, 0.9 - 0.1 * steps, 0.9 + 0 * steps])
    return Artifact(
        {f"{layer}.{name}": rows for layer in config["layers"] for name in ("follows", "reads")}, {}
    )


def test_the_ablation_gap_is_random_minus_colour_at_the_share_asked_for(monkeypatch):
    monkeypatch.setattr(probing, "fetch", lambda build, config, md5: invented_ablation(config))
    value = probing.ablation_gap()  # a quarter is the third share
    assert probing.SHARES[2] == probing.CLAIMED == 0.25
    assert value.mean == pytest.approx(3 * (0.2 + 0.005)) and value.n == 2
    assert probing.ablation_gap("block1", 1 / 16).mean == pytest.approx(0.205)
    layer, share, gap = probing.largest_gap()
    assert (layer, share) == ("block1", 0.75) and gap.mean == pytest.approx(5 * 0.205)
    assert probing.without_shape().mean == 0
    assert probing.best_reading().mean == pytest.approx(0.9)
    table = probing.ablation_table()
    assert table["layer"].tolist() == ["block1", "block2", "block3"]
    assert table["6.25%"][0].startswith("20.5 [")


def invented_channels(kind: str, layer: str, seed: int = 0, arch: str = "cnn") -> probing.Channels:
    """Four channels, the last dead. Cheater: colour, colour, shape; others: mixed, shape, shape.
    The optimum wins in two of the three live ones, and in seed 1 in all."""
    lazy = kind == "cheater"
    kinds = ["colour", "colour", "shape"] if lazy else ["mixed", "shape", "shape"]
    values = {name: np.full(4, 0.5) for name in probe.Tuning._fields}
    tuned = probe.Tuning(**values | {"cells": np.ones((4, 10, 10)), "p_colour": np.zeros(4)})
    scores = np.array([2, 4, 3.0 if seed else 1.0, 5])
    return probing.Channels(
        tuned,
        [*(probe.Label(each, "") for each in kinds), probe.Label("dead", "")],
        np.array([1, 2, 3, 0]),
        np.array([1, 2, 2, 0.0]),
        scores,
    )


def test_shares_and_ratios_are_of_live_channels(monkeypatch):
    monkeypatch.setattr(probing, "channels", invented_channels)
    assert probing.colour_share("cheater", 0) == pytest.approx(2 / 3)
    assert probing.colour_shares("cheater") == (
        pytest.approx(2 / 3),
        pytest.approx((2 / 3,) * 2),
        2,
    )
    assert probing.colour_share_gap("cure").mean == pytest.approx(2 / 3)
    assert probing.label_share("cure", "block3", "shape").mean == 0.5
    assert probing.told_share() == pytest.approx(1 / 5)  # of five measures one beats its null
    assert probing.beating().mean == pytest.approx((2 / 3 + 1) / 2)
    table = probing.beating_table().set_index("channels of")
    row = table.loc["three-layer CNN, cheater, block3"]
    assert row["live channels"] == 6 and row["optimum wins, %"] == "83.3"
    assert row["ratio, lowest"] == "0.50" and row["ratio, median"] == "2.00"
    shares = probing.label_shares()["three-layer CNN, oracle, block2"]
    assert {name: shares[name].mean for name in probe.LABELS} == {
        "colour": 0, "shape": 0.5, "mixed": 0.25, "dead": 0.25,
    }  # fmt: skip
    tuned = probing.tuning_table().iloc[0]
    assert tuned["η² ink"] == "0.50 (100%)" and tuned["η² digit"] == "0.50 (0%)"
    assert tuned["things, median"] == "2"  # of the live ones


def test_grey_is_not_saturated_and_red_is(monkeypatch):
    images = np.zeros((2, 2, 3, 28, 28), np.uint8)
    images[0, 0, 0], images[1, 0] = 255, 128  # the second optima, which are worse, do not count
    images[:, 1, 2] = 255
    monkeypatch.setattr(probing, "_best_first", lambda *case: (images, None))
    assert probing.saturation("cure").mean == pytest.approx(0.5)


def test_the_best_optimum_comes_first(monkeypatch):
    images = np.arange(4, dtype=np.uint8).reshape(2, 2, 1, 1, 1)
    found = {"block1.images": images, "block1.scores": np.array([[1, 2], [5, 3]])}
    monkeypatch.setattr(probing, "_visualised", lambda *case: Artifact(found, {}))
    best, scores = probing._best_first("cnn", "cheater", "block1", 0)
    assert best.ravel().tolist() == [1, 0, 2, 3] and scores.tolist() == [[2, 1], [5, 3]]


def test_all_that_the_chapter_shows_is_made():
    probing.prepare()
    sheets = {kind: probing.optima(kind)[probing.tuned_order(kind)] for kind in probing.KINDS}
    made = [
        figures.optima(sheets),
        figures.channel_cards(probing.cards("cheater")),
        figures.label_bars(probing.label_shares()),
        figures.tuning_scatter(probing.tuning_points()),
        figures.ablation_curves(probing.ablations()),
    ]
    assert [len(figure.axes) for figure in made] == [3, 6 * 11, 1, 3, 6]
    assert sheets["oracle"].shape == (128, 3, 28, 28)
    assert probing.claimed_channels() == 32
    assert len(probing.label_table()) == len(probing.beating_table()) == 9
    assert probing.label_table()["channels of"].tolist()[:4] == [
        *(f"three-layer CNN, {kind}, block1" for kind in probing.KINDS),
        "three-layer CNN, cheater, block2",
    ]

    assert probing.write_atlas() == 3 * (32 + 64 + 128)
    page = BeautifulSoup((cache_dir() / "pages" / "atlas.html").read_text("utf-8"), "html.parser")
    for kind in probing.KINDS:
        assert page.find(id=f"{kind}/block3/127") is not None
