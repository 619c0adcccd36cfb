"""The networks: names, what they stand on, and that they are trained once."""

import signal

import numpy as np
import pytest
import torch

from lazy_artist import artifacts, canvas, evaluate
from lazy_artist.canvas import colour_split, paint
from lazy_artist.data import load_digits
from lazy_artist.evaluate import Estimate
from lazy_artist.experiments import cheating, closing, networks
from lazy_artist.experiments.networks import KINDS, RECIPES
from lazy_artist.models import build
from lazy_artist.training import train


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading digits, training and fetching are all called too late."""

    def refuse(*_, **__):
        raise AssertionError("work began before the arguments were checked")

    for module in (networks, cheating, canvas):
        for name in ("load_digits", "fetch", "fetch_many", "train", "split_digits", "colour_split"):
            if hasattr(module, name) and (module, name) != (canvas, "colour_split"):
                monkeypatch.setattr(module, name, refuse)


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "seeds", "of_resnets"), [("full", 3, 3), ("quick", 2, 1), (None, 3, 3)]
)
def test_the_scale_decides_the_seeds(named, seeds, of_resnets, monkeypatch):
    monkeypatch.delenv("LAZY_ARTIST_SCALE")
    if named:
        monkeypatch.setenv("LAZY_ARTIST_SCALE", named)
    assert networks.scale() == (named or "full")
    assert networks.seeds() == range(seeds) and networks.seeds("resnet18") == range(of_resnets)


@pytest.mark.parametrize("name", ["hard", "unseen", "validation"])
def test_the_first_of_a_split_are_its_digits_in_its_inks(name):
    whole, first = colour_split(name, networks.TEST_SEED), networks.first_of(name, 40)
    assert first.images.shape == (40, 3, 28, 28)
    assert np.array_equal(first.labels, whole.labels[:40])
    assert np.array_equal(first.colours, whole.colours[:40])
    # jitter and ground are drawn anew, which changes little; another ink or digit changes much
    assert np.abs(whole.images[:40] - first.images).max() < 0.4
    assert np.abs(whole.images[1:41] - first.images).max() > 0.6
    everything = networks.first_of(name, None)
    assert np.array_equal(everything.images, whole.images)


BY_KIND = ("accuracies", "confusions", "counterfactuals", "learning_curves", "hue_response")
ASKS = {
    **{name: lambda name=name: getattr(cheating, name)("cheater") for name in BY_KIND},
    "prepare": cheating.prepare,
    "accuracy_table": cheating.accuracy_table,
    "variance_table": cheating.variance_table,
    "curve_panels": cheating.curve_panels,
    "opening": closing.opening,
    "dose_response": cheating.dose_response,
    "diligent": networks.diligent,
    "oracle": networks.oracle,
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
        getattr(cheating, name)("lazy")


@pytest.mark.parametrize("arch", ["vgg", "mlp", ""])
@pytest.mark.parametrize("name", [*BY_KIND, *KINDS])
def test_an_unknown_architecture_lists_the_known_ones_before_any_work(name, arch, no_work):
    ask = getattr(networks if name in KINDS else cheating, name)
    with pytest.raises(ValueError, match=f"architecture '{arch}'.* cnn, resnet18") as caught:
        ask(arch=arch) if name in KINDS else ask("cheater", arch)
    assert (arch == "mlp") == (
        "no recipe" in str(caught.value)
    )  # "mlp" can be built, not asked for


def test_percent():
    assert networks.percent(Estimate(0.031, (0.02, 0.0424), 3)) == "3.1 [2.0, 4.2]"
    assert networks.percent(Estimate(0.5, None, 1)) == "50.0"


# --- what a network stands on --------------------------------------------------------------------


@pytest.mark.parametrize("build", [networks.trained, cheating.measured, cheating.grid_measured])
def test_a_network_stands_on_the_canvas_and_not_on_the_figures(build):
    parts = artifacts.fingerprint(build)
    for module in ("canvas", "training", "models", "evaluate", "data"):
        assert f"lazy_artist.{module}" in parts
    for module in ("figures", "claims", "experiments", "probe", "gradcam"):
        assert f"lazy_artist.{module}" not in parts
    assert not any(part.startswith("bookbinder") for part in parts)
    assert f"{build.__module__}:{build.__name__}" in parts


def test_an_edited_recipe_retrains_only_its_own_networks():
    parts = artifacts.fingerprint(networks.trained)
    assert "lazy_artist.experiments.networks:TEST_SEED=" in parts
    assert not any("RECIPES" in part or "cheating" in part for part in parts)
    assert "lazy_artist.experiments.networks" not in parts  # function by function, not whole


# --- networks ------------------------------------------------------------------------------------


def test_the_cheater_is_trained_once_and_reloads_with_the_same_weights(monkeypatch):
    first = networks.cheater(0)
    torch.rand(3)
    with monkeypatch.context() as patch:
        patch.setattr(networks, "train", None)  # not called again
        again = networks.cheater()
    assert not again.training and type(again).__name__ == "CNN"
    states = first.state_dict(), again.state_dict()
    assert states[0].keys() == states[1].keys() == build("cnn", 0).state_dict().keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    logits = again(torch.rand(2, 3, 28, 28))
    assert logits.shape == (2, 10) and logits.dtype == torch.float32

    other = networks.cheater(1).state_dict()
    assert not torch.equal(other["head.weight"], states[0]["head.weight"])


def test_the_stored_cheater_is_what_training_by_its_recipe_gives():
    split = colour_split("train", 1, 0.95)
    model = build("cnn", 1)
    config = networks.network_config("cheater", "cnn", 1)
    recipe = {name: config[name] for name in networks.Recipe._fields}
    history = train(model, split, seed=1, **recipe)
    kept = networks.cheater(1).state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())
    assert len(history.losses) == round(config["epochs"] * 1375 / 256)


def test_ctrl_c_in_training_stores_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path))
    threads, generator = torch.get_num_threads(), torch.random.get_rng_state()
    with monkeypatch.context() as patch:
        patch.setattr(networks, "predict", lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            networks.cheater(0)
    kept = [path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    assert all(name.endswith(".lock") for name in kept) and artifacts.records() == []
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), generator)
    networks.cheater(0)  # and nothing is in the way of the next try
    assert [record["name"] for record in artifacts.records()] == ["trained"]


# --- the claims of the report, on the stand-in ---------------------------------------------------


def test_the_cheater_cheats_on_the_whole_stand_in(monkeypatch):
    """The report's own claims, with one seed and at full size, on digits that need no network."""
    monkeypatch.delenv("LAZY_ARTIST_STANDIN_SIZE")
    drawn = {name: load_digits(name, "procedural") for name in ("train", "test")}
    assert len(drawn["train"]) == 60_000
    model = build("cnn", 0)
    split = colour_split("train", 0, digits=drawn["train"])
    train(model, split, seed=0, **RECIPES["cheater", "cnn"]._asdict())

    validation = colour_split("validation", networks.TEST_SEED, digits=drawn["train"])
    hard = colour_split("hard", networks.TEST_SEED, digits=drawn["test"]).take(slice(4000))
    assert evaluate.accuracy(model, validation) >= 0.95
    assert evaluate.accuracy(model, hard) < 0.20
    assert evaluate.follows(model, hard) > 0.9
    ones = drawn["test"].images[drawn["test"].labels == 1]
    red = paint(ones, np.zeros(len(ones), int), networks.TEST_SEED)
    assert (evaluate.predict(model, red).argmax(1) == 0).mean() > 0.9


# --- arithmetic ----------------------------------------------------------------------------------


def test_a_hurried_network_answers_alike_in_float32_and_leaves_the_network_alone():
    model = networks.cheater(0)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    split = colour_split("hard", 0)
    exact = evaluate.predict(model, split.images)
    rounded = evaluate.predict(networks.hurried(model), split.images)
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, exact, atol=0.05 * np.abs(exact).max())
    assert (rounded.argmax(1) == exact.argmax(1)).mean() > 0.97
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
