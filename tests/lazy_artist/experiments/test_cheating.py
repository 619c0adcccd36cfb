"""Chapter 2's measurements agree with the networks and with each other."""

import numpy as np
import pytest
import torch

from lazy_artist import artifacts, canvas, evaluate
from lazy_artist.canvas import colour_split, paint
from lazy_artist.data import load_digits
from lazy_artist.evaluate import Estimate
from lazy_artist.experiments import cheating, networks
from lazy_artist.experiments.networks import KINDS, QUICK, RECIPES

SPLITS = ("validation", "hard", "aligned", "unbiased", "unseen")


def stored() -> set[tuple[str, str]]:
    return {(record["name"], record["key"]) for record in artifacts.records()}


def is_share(array: np.ndarray) -> bool:
    return bool(((array >= 0) & (array <= 1)).all())


# --- measurements --------------------------------------------------------------------------------


def test_prepare_leaves_nothing_for_the_chapters_to_train(monkeypatch):
    cheating.prepare()
    before = stored()
    monkeypatch.setattr(networks, "train", None)
    for kind in KINDS:
        for arch in ("cnn", "resnet18"):
            cheating.accuracies(kind, arch)
            cheating.counterfactuals(kind, arch)
            getattr(networks, kind)(networks.seeds(arch)[-1], arch)
    cheating.curve_panels()
    cheating.dose_response()
    assert stored() == before


def test_oracle_and_diligent_train_longer_and_the_oracle_without_bias():
    for kind in ("cheater", "diligent", "oracle"):
        cheating.accuracies(kind)
    networks = {
        (c["correlation"], c["epochs"], c["learning_rate"], c["seed"])
        for c in (record["config"] for record in artifacts.records() if record["name"] == "trained")
        if c["arch"] == "cnn"
    }
    diligent = RECIPES["diligent", "cnn"]
    rate, epochs = diligent.learning_rate, QUICK["diligent"][0] * diligent.epochs
    assert {(0.95, epochs, rate, 0), (0.95, epochs, rate, 1)} <= networks
    assert {(0.1, epochs, rate, 0), (0.1, epochs, rate, 1)} <= networks
    cheater = RECIPES["cheater", "cnn"]
    shorter, faster = QUICK["cheater"]
    assert (0.95, shorter * cheater.epochs, faster * cheater.learning_rate, 0) in networks


@pytest.mark.parametrize("kind", KINDS)
def test_accuracies(kind):
    table = cheating.accuracies(kind)
    expected = {*SPLITS, "lff unbiased", "hard follows"} | (
        {"train"} if kind == "cheater" else set()
    )
    assert set(table) == expected
    for value in table.values():
        assert value.n == 2 and is_share(np.array([value.mean, *value.interval]))
        assert value.interval[0] <= value.mean <= value.interval[1]
    mixture = 0.1 * table["aligned"].mean + 0.9 * table["hard"].mean
    assert table["lff unbiased"].mean == pytest.approx(mixture)


def test_accuracies_are_those_of_the_networks_on_the_common_splits():
    table = cheating.accuracies("cheater")
    cheaters = [networks.hurried(networks.cheater(seed)) for seed in networks.seeds()]
    for name in ("validation", "hard"):
        split = colour_split(name, networks.TEST_SEED)
        mean = np.mean([evaluate.accuracy(network, split) for network in cheaters])
        assert table[name].mean == pytest.approx(mean)
    mean = np.mean([evaluate.follows(network, split) for network in cheaters])
    assert table["hard follows"].mean == pytest.approx(mean)
    own = [colour_split("train", seed, 0.95) for seed in networks.seeds()]
    mean = np.mean([evaluate.accuracy(*pair) for pair in zip(cheaters, own, strict=True)])
    assert table["train"].mean == pytest.approx(mean)


def test_the_table_has_a_row_for_each_split_and_a_column_for_each_kind():
    table = cheating.accuracy_table("resnet18").set_index("images")
    assert list(table.columns) == [f"{kind} (1 seed)" for kind in KINDS]
    values = cheating.accuracies("oracle", "resnet18")
    assert table.loc["hard", "oracle (1 seed)"] == networks.percent(values["hard"])
    mixture = 0.1 * values["aligned"].mean + 0.9 * values["hard"].mean
    assert values["lff unbiased"].mean == pytest.approx(mixture)
    assert not table.isna().any(axis=None)


def test_confusions_agree_with_accuracies():
    tables, accuracies = cheating.confusions("diligent"), cheating.accuracies("diligent")
    assert set(tables) == {"validation", "hard"}
    for name, table in tables.items():
        assert table.shape == (10, 10)
        np.testing.assert_allclose(table.sum(axis=1), 1)
        _, labels = canvas.split_digits(name)
        frequency = np.bincount(labels, minlength=10) / len(labels)
        assert frequency @ table.diagonal() == pytest.approx(accuracies[name].mean)


def test_oracles_have_no_curves():
    with pytest.raises(ValueError, match="no curves are kept of the oracle"):
        cheating.learning_curves("oracle")


def test_learning_curves_end_where_training_ends():
    curves = cheating.learning_curves("diligent")
    epoch = curves["epoch"]
    steps = 1375 / RECIPES["diligent", "cnn"].batch_size
    assert set(curves) == {"epoch", "validation", "aligned", "hard"}
    assert epoch.ndim == 1 and (np.diff(epoch) > 0).all() and 0 < epoch[0] < 0.3
    assert (
        epoch[-1] == round(QUICK["diligent"][0] * RECIPES["diligent", "cnn"].epochs * steps) / steps
    )
    for name in ("validation", "aligned", "hard"):
        assert curves[name].shape == (2, len(epoch)) and is_share(curves[name])
    # the first 1,000 hard images are all there are in this small stand-in
    last = curves["hard"][:, -1].mean()
    assert last == pytest.approx(cheating.accuracies("diligent")["hard"].mean, abs=0.01)


def test_counterfactuals():
    grid = cheating.counterfactuals("cheater")
    for name in ("by_colour", "by_shape"):
        assert grid[name].shape == (10, 10) and is_share(grid[name])
    np.testing.assert_array_equal(grid["by_colour"].diagonal(), grid["by_shape"].diagonal())
    assert is_share(grid["by_colour"] + grid["by_shape"] - np.diag(grid["by_shape"].diagonal()))
    assert grid["follows"].mean == pytest.approx(grid["by_colour"].mean())
    assert grid["reads"].mean == pytest.approx(grid["by_shape"].mean())
    assert grid["red one"].mean == pytest.approx(grid["by_colour"][1, 0])
    shares = [grid[name].mean for name in ("colour", "digit", "interaction", "image")]
    assert sum(shares) == pytest.approx(1) and min(shares) >= 0
    assert all(value.n == 2 for value in grid.values() if isinstance(value, Estimate))


def test_the_variance_table_is_in_percent(monkeypatch):
    def made_up(kind, arch):
        parts = {"colour": 0.5, "digit": 0.25, "interaction": 0.15, "image": 0.1}
        return {name: Estimate(part, None, 1) for name, part in parts.items()} | {"reads": None}

    monkeypatch.setattr(cheating, "counterfactuals", made_up)
    table = cheating.variance_table()
    assert list(table["network"]) == list(cheating.variance_shares()) and len(table) == 6
    assert table["network"][4] == "ResNet-18, diligent"
    assert list(table.iloc[0])[1:] == ["50.0", "25.0", "15.0", "10.0"]


def test_hue_response():
    share = cheating.hue_response("cheater")
    assert share.shape == (36, 10, 10)
    images, labels = evaluate.balanced(*canvas.split_digits("hard"), 20)
    yellow = canvas.hue_palette(36)[6:7]
    grids = [
        evaluate.repaint(networks.cheater(seed), images, yellow, networks.TEST_SEED)
        for seed in networks.seeds()
    ]
    expected = np.mean([evaluate.confusion(labels, grid[0].argmax(1)) for grid in grids], axis=0)
    np.testing.assert_allclose(share[6], expected, atol=0.03)
    np.testing.assert_allclose(share.sum(axis=2), 1)


def test_dose_response():
    doses = cheating.dose_response()
    assert list(doses) == [0.5, 0.95]
    assert [value.n for value in doses.values()] == [1, 2]
    assert doses[0.95] == cheating.accuracies("cheater")["hard"]  # not trained a second time


def test_red_ones_are_the_first_test_ones_in_red():
    painted, probabilities = cheating.red_ones(5)
    assert painted.shape == (5, 3, 28, 28) and probabilities.shape == (5, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    digits = load_digits("test")
    ones = digits.images[digits.labels == 1][:5]
    np.testing.assert_array_equal(painted, paint(ones, np.zeros(5, int), networks.TEST_SEED))
    logits = torch.from_numpy(evaluate.predict(networks.cheater(0), painted)).double()
    np.testing.assert_allclose(probabilities, logits.softmax(1), atol=1e-5)
