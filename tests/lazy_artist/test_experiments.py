"""The named experiments, at quick scale on a small stand-in, with one store for all tests."""

import signal
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lazy_artist import artifacts, canvas, evaluate, experiments
from lazy_artist.canvas import colour_split, paint
from lazy_artist.data import load_digits
from lazy_artist.evaluate import Estimate
from lazy_artist.experiments import KINDS, RECIPES
from lazy_artist.models import build
from lazy_artist.training import train

SPLITS = ("validation", "hard", "aligned", "unbiased", "unseen")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiments")


@pytest.fixture(autouse=True)
def quick(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,500 training digits, two seeds, two doses, small grids, and ResNets of a single step."""
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(store))
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1500")
    monkeypatch.setattr(experiments, "doses", lambda: (0.5, 0.95))
    for (kind, arch), recipe in RECIPES.items():
        if arch == "resnet18":
            short = recipe._replace(epochs=0.1 if kind == "cheater" else 0.2)
            monkeypatch.setitem(RECIPES, (kind, arch), short)
    whole_grid = experiments._grid_config
    monkeypatch.setattr(
        experiments, "_grid_config", lambda *network: whole_grid(*network) | {"each": 5}
    )


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading digits, training and fetching are all called too late."""

    def refuse(*_, **__):
        raise AssertionError("work began before the arguments were checked")

    for module in (experiments, canvas):
        monkeypatch.setattr(module, "load_digits", refuse)
    for name in ("fetch", "fetch_many", "train", "split_digits", "colour_split"):
        monkeypatch.setattr(experiments, name, refuse)


def stored() -> set[tuple[str, str]]:
    return {(record["name"], record["key"]) for record in artifacts.records()}


def is_share(array: np.ndarray) -> bool:
    return bool(((array >= 0) & (array <= 1)).all())


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("named", "seeds"), [("full", 3), ("quick", 2), (None, 3)])
def test_the_scale_decides_the_seeds(named, seeds, monkeypatch):
    monkeypatch.delenv("LAZY_ARTIST_SCALE")
    if named:
        monkeypatch.setenv("LAZY_ARTIST_SCALE", named)
    assert experiments.scale() == (named or "full")
    assert experiments.seeds() == range(seeds)


BY_KIND = ("accuracies", "confusions", "counterfactuals", "learning_curves", "hue_response")
ASKS = {
    **{name: lambda name=name: getattr(experiments, name)("cheater") for name in BY_KIND},
    "prepare": experiments.prepare,
    "accuracy_table": experiments.accuracy_table,
    "variance_table": experiments.variance_table,
    "curve_panels": experiments.curve_panels,
    "opening": experiments.opening,
    "dose_response": experiments.dose_response,
    "diligent": experiments.diligent,
    "oracle": experiments.oracle,
}


@pytest.mark.parametrize("ask", ASKS)
def test_an_unknown_scale_is_named_before_any_work(ask, no_work, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "huge")
    with pytest.raises(ValueError, match="LAZY_ARTIST_SCALE is 'huge': choose one of full, quick"):
        ASKS[ask]()


@pytest.mark.parametrize("name", BY_KIND)
def test_an_unknown_kind_lists_the_known_ones_before_any_work(name, no_work):
    known = "unknown kind of network 'lazy': choose one of cheater, diligent, oracle"
    with pytest.raises(ValueError, match=known):
        getattr(experiments, name)("lazy")


@pytest.mark.parametrize("arch", ["vgg", "mlp", ""])
@pytest.mark.parametrize("name", [*BY_KIND, *KINDS])
def test_an_unknown_architecture_lists_the_known_ones_before_any_work(name, arch, no_work):
    ask = getattr(experiments, name)
    with pytest.raises(ValueError, match=f"architecture '{arch}'.* cnn, resnet18") as caught:
        ask(arch=arch) if name in KINDS else ask("cheater", arch)
    assert (arch == "mlp") == (
        "no recipe" in str(caught.value)
    )  # "mlp" can be built, not asked for


def test_percent():
    assert experiments.percent(Estimate(0.031, (0.02, 0.0424), 3)) == "3.1 [2.0, 4.2]"
    assert experiments.percent(Estimate(0.5, None, 1)) == "50.0"


# --- what a network stands on --------------------------------------------------------------------


def test_a_network_stands_on_the_canvas_and_not_on_the_figures():
    for build_function in (experiments.trained, experiments.measured, experiments.grid_measured):
        parts = artifacts.fingerprint(build_function)
        for module in ("canvas", "training", "models", "evaluate", "data"):
            assert f"lazy_artist.{module}" in parts
        for module in ("figures", "claims", "experiments", "probe", "gradcam"):
            assert f"lazy_artist.{module}" not in parts
        assert not any(part.startswith("bookbinder") for part in parts)
        assert f"lazy_artist.experiments:{build_function.__name__}" in parts
        assert "lazy_artist.experiments:TEST_SEED=" in parts


def test_an_edited_recipe_retrains_only_its_own_networks():
    parts = artifacts.fingerprint(experiments.trained)
    assert not any("RECIPES" in part or "DOSES" in part for part in parts)
    assert "lazy_artist.experiments:accuracies" not in parts


# --- networks ------------------------------------------------------------------------------------


def test_the_cheater_is_trained_once_and_reloads_with_the_same_weights(monkeypatch):
    first = experiments.cheater(0)
    torch.rand(3)
    with monkeypatch.context() as patch:
        patch.setattr(experiments, "train", None)  # not called again
        again = experiments.cheater()
    assert not again.training and type(again).__name__ == "CNN"
    states = first.state_dict(), again.state_dict()
    assert states[0].keys() == states[1].keys() == build("cnn", 0).state_dict().keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    logits = again(torch.rand(2, 3, 28, 28))
    assert logits.shape == (2, 10) and logits.dtype == torch.float32

    other = experiments.cheater(1).state_dict()
    assert not torch.equal(other["head.weight"], states[0]["head.weight"])


def test_the_stored_cheater_is_what_training_by_its_recipe_gives():
    split = colour_split("train", 1, 0.95)
    model = build("cnn", 1)
    history = train(model, split, seed=1, **RECIPES["cheater", "cnn"]._asdict())
    kept = experiments.cheater(1).state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())
    assert len(history.losses) == round(1375 / 256)


def test_ctrl_c_in_training_stores_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path))
    threads, generator = torch.get_num_threads(), torch.random.get_rng_state()
    with monkeypatch.context() as patch:
        patch.setattr(experiments, "predict", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            experiments.cheater(0)
    kept = [path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    assert all(name.endswith(".lock") for name in kept) and artifacts.records() == []
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), generator)
    experiments.cheater(0)  # and nothing is in the way of the next try
    assert [record["name"] for record in artifacts.records()] == ["trained"]


# --- measurements --------------------------------------------------------------------------------


def test_prepare_leaves_nothing_for_the_chapters_to_train(monkeypatch):
    experiments.prepare()
    before = stored()
    monkeypatch.setattr(experiments, "train", None)
    for kind in KINDS:
        for arch in ("cnn", "resnet18"):
            experiments.accuracies(kind, arch)
            experiments.learning_curves(kind, arch)
            experiments.counterfactuals(kind, arch)
            getattr(experiments, kind)(1, arch)
    experiments.dose_response()
    assert stored() == before


def test_oracle_and_diligent_train_longer_and_the_oracle_without_bias():
    for kind in ("cheater", "diligent", "oracle"):
        experiments.learning_curves(kind)
    networks = {
        (c["correlation"], c["epochs"], c["learning_rate"], c["seed"])
        for c in (record["config"] for record in artifacts.records() if record["name"] == "trained")
        if c["arch"] == "cnn"
    }
    diligent = RECIPES["diligent", "cnn"]
    rate, epochs = diligent.learning_rate, 0.75 * diligent.epochs  # shorter at quick scale
    assert {(0.95, epochs, rate, 0), (0.95, epochs, rate, 1)} <= networks
    assert {(0.1, epochs, rate, 0), (0.1, epochs, rate, 1)} <= networks
    cheater = RECIPES["cheater", "cnn"]
    assert (0.95, cheater.epochs, cheater.learning_rate, 0) in networks


@pytest.mark.parametrize("kind", KINDS)
def test_accuracies(kind):
    table = experiments.accuracies(kind)
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
    table = experiments.accuracies("cheater")
    networks = [experiments.cheater(seed) for seed in experiments.seeds()]
    for name in ("validation", "hard"):
        split = colour_split(name, experiments.TEST_SEED)
        mean = np.mean([evaluate.accuracy(network, split) for network in networks])
        assert table[name].mean == pytest.approx(mean)
    mean = np.mean([evaluate.follows(network, split) for network in networks])
    assert table["hard follows"].mean == pytest.approx(mean)
    own = [colour_split("train", seed, 0.95) for seed in experiments.seeds()]
    mean = np.mean([evaluate.accuracy(*pair) for pair in zip(networks, own, strict=True)])
    assert table["train"].mean == pytest.approx(mean)


def test_the_table_has_a_row_for_each_split_and_a_column_for_each_kind():
    table = experiments.accuracy_table("resnet18").set_index("images")
    assert list(table.columns) == [f"{kind} (2 seeds)" for kind in KINDS]
    values = experiments.accuracies("oracle", "resnet18")
    assert table.loc["hard", "oracle (2 seeds)"] == experiments.percent(values["hard"])
    mixture = 0.1 * values["aligned"].mean + 0.9 * values["hard"].mean
    assert values["lff unbiased"].mean == pytest.approx(mixture)
    assert not table.isna().any(axis=None)


def test_confusions_agree_with_accuracies():
    tables, accuracies = experiments.confusions("diligent"), experiments.accuracies("diligent")
    assert set(tables) == {"validation", "hard"}
    for name, table in tables.items():
        assert table.shape == (10, 10)
        np.testing.assert_allclose(table.sum(axis=1), 1)
        _, labels = canvas.split_digits(name)
        frequency = np.bincount(labels, minlength=10) / len(labels)
        assert frequency @ table.diagonal() == pytest.approx(accuracies[name].mean)


def test_learning_curves_end_where_training_ends():
    curves = experiments.learning_curves("diligent")
    epoch = curves["epoch"]
    steps = 1375 / RECIPES["diligent", "cnn"].batch_size
    assert set(curves) == {"epoch", "validation", "aligned", "hard"}
    assert epoch.ndim == 1 and (np.diff(epoch) > 0).all() and 0 < epoch[0] < 0.3
    assert epoch[-1] == round(0.75 * RECIPES["diligent", "cnn"].epochs * steps) / steps
    for name in ("validation", "aligned", "hard"):
        assert curves[name].shape == (2, len(epoch)) and is_share(curves[name])
    # the first 1,000 hard images are all there are in this small stand-in
    last = curves["hard"][:, -1].mean()
    assert last == pytest.approx(experiments.accuracies("diligent")["hard"].mean, abs=0.01)


def test_counterfactuals():
    grid = experiments.counterfactuals("cheater")
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

    monkeypatch.setattr(experiments, "counterfactuals", made_up)
    table = experiments.variance_table()
    assert list(table["network"]) == list(experiments.variance_shares()) and len(table) == 6
    assert table["network"][4] == "ResNet-18, diligent"
    assert list(table.iloc[0])[1:] == ["50.0", "25.0", "15.0", "10.0"]


def test_hue_response():
    share = experiments.hue_response("cheater")
    assert share.shape == (36, 10, 10)
    images, labels = evaluate.balanced(*canvas.split_digits("hard"), 20)
    yellow = canvas.hue_palette(36)[6:7]
    grids = [
        evaluate.repaint(experiments.cheater(seed), images, yellow, experiments.TEST_SEED)
        for seed in experiments.seeds()
    ]
    expected = np.mean([evaluate.confusion(labels, grid[0].argmax(1)) for grid in grids], axis=0)
    np.testing.assert_allclose(share[6], expected, atol=0.03)
    np.testing.assert_allclose(share.sum(axis=2), 1)


def test_dose_response():
    doses = experiments.dose_response()
    assert list(doses) == [0.5, 0.95]
    assert all(isinstance(value, Estimate) and value.n == 2 for value in doses.values())
    assert doses[0.95] == experiments.accuracies("cheater")["hard"]  # not trained a second time


# --- the canvas itself ---------------------------------------------------------------------------


def test_canvas_tables_count_what_is_painted():
    tables = experiments.canvas_tables()
    assert list(tables) == list(canvas.SPLITS)
    for name in ("train", "hard"):
        split = colour_split(name, 0 if name == "train" else experiments.TEST_SEED)
        np.testing.assert_array_equal(tables[name], canvas.contingency(split))
    assert tables["validation"].sum() == 125 and tables["unseen"].sum() == 250
    assert (tables["hard"].diagonal() == 0).all()
    np.testing.assert_array_equal(tables["aligned"], np.diag(np.full(10, 25)))

    shown = experiments.canvas_table().set_index("split")
    assert shown.loc["train", "images"] == "1,375"
    shares = shown["dominant colour, % of each digit"]
    assert shares["hard"] == "0.00 to 0.00" and shares["aligned"] == "100.00 to 100.00"
    assert shown.loc["aligned", "mutual information, bits"] == "3.322"  # log2 of ten


def test_bits():
    assert experiments.ceiling_bits() == pytest.approx(3.321928)
    assert experiments.bits("aligned") == "3.32"
    expected = canvas.mutual_information(colour_split("hard", experiments.TEST_SEED))
    assert experiments.bits("hard") == f"{expected:.2f}"


def test_dominant_shares():
    table = np.full((10, 10), 1)
    table[3, 3], table[3, 4] = 6, 6  # of twenty threes, six are yellow
    expected = [0.1] * 10
    expected[3] = 0.3
    np.testing.assert_allclose(experiments.dominant_shares(table), expected)


def test_ground_pairs_are_the_same_digits_in_their_own_colours():
    textured, flat, names = experiments.ground_pairs(4)
    images, labels = (part[:4] for part in canvas.split_digits("hard"))
    np.testing.assert_array_equal(textured, paint(images, labels, experiments.TEST_SEED))
    np.testing.assert_array_equal(flat, canvas.flat_fill(images, labels, experiments.TEST_SEED))
    assert names == [canvas.COLOUR_NAMES[label] for label in labels]


def test_colour_betrays_the_easy_label_and_misleads_on_the_hard_one():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the regressions may stop early
        table = experiments.colour_or_shape_alone()
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == ["easy validation", "hard"]
    assert table.loc["mean colour", "easy validation"] > 75
    assert table.loc["mean colour", "hard"] < 15
    assert table.loc["grey shape"].min() > 60


def test_single_pixels_tell_a_flat_fill_and_not_a_stroke(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "3600")  # half of 3,000 are for the test
    reading = experiments.pixel_reading()
    count = len(reading["pixels"])
    assert reading["stroke"].shape == reading["flat"].shape == (2, count)
    assert is_share(reading["stroke"]) and is_share(reading["flat"])
    assert (np.diff(reading["pixels"]) > 0).all() and reading["pixels"][0] == 1
    assert (reading["flat"][:, 0] > reading["stroke"][:, 0] + 0.3).all()


def test_red_ones_are_the_first_test_ones_in_red():
    painted, probabilities = experiments.red_ones(5)
    assert painted.shape == (5, 3, 28, 28) and probabilities.shape == (5, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    digits = load_digits("test")
    ones = digits.images[digits.labels == 1][:5]
    np.testing.assert_array_equal(painted, paint(ones, np.zeros(5, int), experiments.TEST_SEED))
    logits = torch.from_numpy(evaluate.predict(experiments.cheater(0), painted)).double()
    np.testing.assert_allclose(probabilities, logits.softmax(1), atol=1e-5)


def test_the_opening_page_tells_what_the_chapters_tell():
    page = experiments.opening()
    lazy, honest = experiments.accuracies("cheater"), experiments.accuracies("oracle")
    assert page["easy"] == f"{100 * lazy['validation'].mean:.1f}%"
    assert page["hard"] == f"{100 * lazy['hard'].mean:.1f}%"
    assert page["oracle"] == f"{100 * honest['hard'].mean:.1f}%"
    figure = page["figure"]
    assert figure["bars"]["oracle"] == {"easy": honest["validation"], "hard": honest["hard"]}
    assert len(figure["images"]) == len(figure["probabilities"]) == 8


def test_the_colophon_names_data_scale_and_seeds():
    told = experiments.colophon().set_index("what")["value"]
    assert told["digits"] == "procedural stand-in"
    assert told["scale"] == "quick" and told["seeds of every network"] == "0, 1"
    assert load_digits("train").md5 in told["checksum of train digits (md5)"]
    assert load_digits("test").md5 in told["checksum of test digits (md5)"]
    assert f"numpy {np.__version__}" in told["software"]


# --- the claims of the report, on the stand-in ---------------------------------------------------


def test_the_cheater_cheats_on_the_whole_stand_in(monkeypatch):
    """The report's own claims, with one seed and at full size, on digits that need no network."""
    monkeypatch.delenv("LAZY_ARTIST_STANDIN_SIZE")
    drawn = {name: load_digits(name, "procedural") for name in ("train", "test")}
    assert len(drawn["train"]) == 60_000
    model = build("cnn", 0)
    split = colour_split("train", 0, digits=drawn["train"])
    train(model, split, seed=0, **RECIPES["cheater", "cnn"]._asdict())

    validation = colour_split("validation", experiments.TEST_SEED, digits=drawn["train"])
    hard = colour_split("hard", experiments.TEST_SEED, digits=drawn["test"]).take(slice(4000))
    assert evaluate.accuracy(model, validation) >= 0.95
    assert evaluate.accuracy(model, hard) < 0.20
    assert evaluate.follows(model, hard) > 0.9
    ones = drawn["test"].images[drawn["test"].labels == 1]
    red = paint(ones, np.zeros(len(ones), int), experiments.TEST_SEED)
    assert (evaluate.predict(model, red).argmax(1) == 0).mean() > 0.9
