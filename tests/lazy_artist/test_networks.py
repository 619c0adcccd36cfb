"""The named networks: what each handle stands for, and that training does what its handle says."""

import copy
from unittest import mock

import numpy as np
import pytest
import torch

from lazy_artist import config, debias, networks
from lazy_artist.canvas import colour_split, paint, split_digits, test_split
from lazy_artist.config import TEST_SEED, Recipe
from lazy_artist.data import Digits, load_digits
from lazy_artist.evaluate import accuracy, predict, shortcut_rate
from lazy_artist.models import build
from lazy_artist.networks import network, train_debiased, train_network
from lazy_artist.reach import code_of
from lazy_artist.store import Call, _entry
from lazy_artist.training import train

test_split.__test__ = False  # a function of the canvas, whatever its name
CURVE = {"validation": 1000, "aligned": 500, "hard": 500}


@pytest.fixture(autouse=True)
def small(tmp_path_factory, monkeypatch):
    """1,250 training digits at full scale, in a store of this file's own."""
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path_factory.getbasetemp() / "networks"))
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1500")
    monkeypatch.delenv("LAZY_ARTIST_SCALE", raising=False)


def test_the_scale_decides_seeds_and_sizes(monkeypatch):
    full, quick = (range(3), range(3), None, 50_000), (range(2), range(1), 1000, 3000)
    for named, expected in (("full", full), ("", full), ("quick", quick)):
        monkeypatch.setenv("LAZY_ARTIST_SCALE", named)
        found = (config.seeds(), config.seeds("resnet18"), config.n_eval(), config.n_train())
        assert found == expected and config.scale() == (named or "full")


@pytest.mark.parametrize(
    ("kind", "arch", "full", "quick"),
    [
        ("cheater", "cnn", (1, 1e-4, 64, 30), (0.5, 2e-4, 64, 30)),
        ("cheater", "resnet18", (0.3, 3e-4, 128, 0.01), (0.15, 6e-4, 128, 0.01)),
        ("long-trained", "cnn", (4, 4e-3, 256, 0.01), (0.8, 4e-3, 256, 0.01)),
        ("oracle", "resnet18", (0.75, 2e-3, 128, 0.01), (0.15, 2e-3, 128, 0.01)),
        ("brief-oracle", "cnn", (1, 1e-4, 64, 30), (0.5, 2e-4, 64, 30)),
        ("convinced-cheater", "cnn", (1, 1e-3, 256, 0.01), (0.5, 2e-3, 256, 0.01)),
    ],
)
def test_a_trained_network_is_its_recipe_on_its_canvas(kind, arch, full, quick, monkeypatch):
    correlation, n_curve = (0.1, {}) if kind.endswith("oracle") else (0.95, CURVE)
    power = 0.9 if kind == "convinced-cheater" else 0
    for scale, recipe in (("full", full), ("quick", quick)):
        monkeypatch.setenv("LAZY_ARTIST_SCALE", scale)
        handle = network(kind, 2, arch)
        assert (handle.name, handle.arch, handle.seed) == (kind, arch, 2)
        assert handle.made_by.function is train_network
        given = dict(handle.made_by.arguments)
        assert [given.pop(name) for name in Recipe._fields] == pytest.approx(recipe)
        assert given.pop("gce_power") == power
        assert given == {"arch": arch, "seed": 2, "correlation": correlation, "n_curve": n_curve}
    dose = network(kind, 2, arch, correlation=0.5)  # without curves
    assert dose.made_by.arguments == handle.made_by.arguments | {"correlation": 0.5, "n_curve": {}}
    assert dose.correlation == 0.5


@pytest.mark.parametrize("kind", ["cure", *debias.METHODS, *debias.ABLATIONS])
def test_a_debiased_network_is_its_method_on_its_canvas(kind, monkeypatch):
    row = (debias.METHODS | debias.ABLATIONS)["combination" if kind == "cure" else kind]
    own = {"oracle-same-budget": 0.1}.get(kind)
    for scale, count in (("full", 50_000), ("quick", 3_000)):
        monkeypatch.setenv("LAZY_ARTIST_SCALE", scale)
        handle = network(kind, 1, "mlp")
        assert handle.name == kind and handle.made_by.function is train_debiased
        colours = kind in ("adversary", "irm", "resampling", "group-dro", "last-layer")
        assert handle.made_by.arguments == {
            "method": row.train, "colours": colours, "arch": "mlp", "correlation": own or 0.95,
            "seed": 1, "n_train": count, "epoch_scale": 2.5 if kind == "lff-longer" else 1,
            "setting": {"augment": True, **row.setting},
        }  # fmt: skip
    plain = network(kind, augment=False, rate=7).made_by.arguments["setting"]
    assert plain == row.setting | {"augment": False, "rate": 7}
    if own is None:
        assert network(kind, correlation=0.99).correlation == 0.99
    else:
        with pytest.raises(ValueError, match="has a correlation of its own, 0.1: leave it out"):
            network(kind, correlation=0.99)


def test_the_handles_of_kinds_come_by_kind_and_seed(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    both = [network(kind, seed) for kind in ("oracle", "cure") for seed in (0, 1)]
    assert networks.networks(["oracle", "cure"]) == both
    assert networks.networks("cheater", "resnet18") == [network("cheater", 0, "resnet18")]
    monkeypatch.setattr(networks, "network", lambda *asked: mock.Mock(load=lambda: asked))
    assert networks.robust(seed=2) == ("cure", 2, "cnn")


@pytest.mark.parametrize(
    ("message", "ask"),
    [
        ("unknown network 'lazy': choose one of cheater, long", lambda: networks.networks("lazy")),
        ("unknown method 'lazy': choose one of erm", lambda: networks.robust("lazy")),
        ("unknown method 'oracle': choose one of erm", lambda: networks.robust("oracle")),
        ("no oracle of the architecture 'mlp': .*cnn, res", lambda: networks.oracle(arch="mlp")),
        (
            "no convinced-cheater of the architecture 'resnet18': choose one of cnn$",
            lambda: network("convinced-cheater", arch="resnet18"),
        ),
        ("unknown architecture 'vgg': choose one of", lambda: networks.robust(arch="vgg")),
    ],
)
def test_what_is_unknown_is_named_before_any_work(message, ask, monkeypatch):
    monkeypatch.setattr(Call, "value", lambda call: pytest.fail("work began"))
    with pytest.raises(ValueError, match=message):
        ask()
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "huge")
    with pytest.raises(ValueError, match="SCALE is 'huge': choose one of full, quick"):
        networks.cheater()


def test_training_has_addresses_that_do_not_stand_on_tables_recipes_or_scale():
    kinds = ["cheater", "oracle", *debias.METHODS, *debias.ABLATIONS]
    calls = [network(kind, seed).made_by for kind in kinds for seed in (0, 1)]
    assert len({_entry(*call).stem for call in calls}) == len(calls)
    for function in (train_network, train_debiased):
        names = {part.partition(":")[2] for part in code_of(function)}
        assert "_texture" in names
        assert not names & {"METHODS", "RECIPES", "scale", "pick", "network", "Network", "seeds"}


def same_weights(model, weights):
    state = model.state_dict()
    assert list(state) == list(weights)
    assert all(torch.equal(state[name], weights[name]) for name in state)


def test_training_looks_at_its_marks_and_leaves_what_training_alone_would():
    count = {"validation": 30, "hard": 50}
    made = train_network.__wrapped__("mlp", 0.4, 3, count, 0, 2.5, 1e-3, 64, 2)
    # 1,250 images: 19.53 steps an epoch; 0.03, 0.06, 0.1, … of it, then epoch 2, then the end
    assert made["steps_per_epoch"] == 1250 / 64 and len(made["curve"]["loss"]) == 49
    steps = [1, 2, 3, 4, 6, 8, 11, 15, 20, 39, 49]
    assert made["curve"]["step"].tolist() == steps
    model, split = build("mlp", 3), colour_split("train", 3, 0.4)
    splits, looked = [test_split(name, n) for name, n in count.items()], []

    def look(model):
        predictions = [predict(model, split.images, "low").argmax(1) for split in splits]
        looked.append([np.mean(p == s.labels) for p, s in zip(predictions, splits, strict=True)])

    recipe = {"epochs": 2.5, "learning_rate": 1e-3, "batch_size": 64, "weight_decay": 2}
    history = train(model, split, seed=3, **recipe, observe=look, observe_at=[1, 39, 49])
    assert made["temperature"] == networks.calibrate(model, 3)
    same_weights(model, made["weights"])
    np.testing.assert_array_equal(made["curve"]["loss"], history.losses)
    rows = [steps.index(step) for step in (1, 39, 49)]
    found = made["curve"]["accuracy"]
    np.testing.assert_array_equal(found[rows], np.float32(looked), strict=True)
    assert found[-1, 0] != found[-1, 1]


def test_a_convinced_cheater_is_trained_by_generalised_cross_entropy():
    made = train_network.__wrapped__("mlp", 0.4, 3, {}, 0.9, 1, 1e-3, 64, 0.01)
    model, split = build("mlp", 3), colour_split("train", 3, 0.4)

    def loss(model, images, labels, index):
        likelihood = model(images).float().softmax(1)[torch.arange(len(labels)), labels]
        return ((1 - likelihood**0.9) / 0.9).mean()

    history = train(model, split, seed=3, epochs=1, learning_rate=1e-3, batch_size=64, loss=loss)
    np.testing.assert_allclose(made["curve"]["loss"], history.losses, rtol=1e-4)


def test_calibration_fits_confidence_to_easy_validation_and_changes_no_answer():
    """Of logits three times too large, the temperature is three times that of the network."""
    model, split = build("mlp", 5), colour_split("train", 5)
    train(model, split, seed=5, epochs=4, learning_rate=2e-3, batch_size=64)
    hot = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in hot.head.parameters():
            parameter.mul_(3)
    easy = colour_split("validation", 5)
    before = predict(hot, easy.images, "low")
    temperature = networks.calibrate(hot, 5)
    assert temperature == pytest.approx(3 * networks.calibrate(model, 5), rel=0.01)
    after = predict(hot, easy.images, "low")
    np.testing.assert_allclose(after, before / temperature, rtol=0.05, atol=0.05)
    assert (after.argmax(1) == before.argmax(1)).all()

    def loss(temperature):
        z = torch.from_numpy(before).double() / temperature
        return torch.nn.functional.cross_entropy(z, torch.tensor(easy.labels))

    assert loss(temperature) < min(loss(0.97 * temperature), loss(1.03 * temperature))


def given(split, seed, arch, epoch_scale, **setting):
    """A method that tells what it was given, and trains nothing."""
    info = {"images": split.images, "labels": split.labels, "colours": split.colours}
    return build(arch, seed), info | {"given": [seed, arch, epoch_scale, setting]}


@pytest.mark.parametrize(
    ("n_train", "taken", "seen"),
    [(100, 120, 100), (101, 121, 100), (1249, 1498, 1248), (1250, 1500, 1250), (9999, 1500, 1250)],
)
def test_a_method_is_given_the_first_training_images_with_their_exact_bias(n_train, taken, seen):
    """Of twelve tenths as many digits, rounded down, ten twelfths are training images."""
    made = train_debiased.__wrapped__(given, True, "mlp", 0.8, 4, n_train, 2.5, {"rate": 3})
    digits = load_digits("train")
    part = Digits(digits.images[:taken], digits.labels[:taken], digits.source)
    info, split = made["info"], colour_split("train", 4, 0.8, part)
    assert info["given"] == [4, "mlp", 2.5, {"rate": 3}] and 0 <= made["seconds"] < 5
    for name in ("images", "labels", "colours"):
        np.testing.assert_array_equal(info[name], getattr(split, name))
    np.testing.assert_array_equal(info["labels"], split_digits("train")[1][:seen])
    model = build("mlp", 4)
    assert made["temperature"] == networks.calibrate(model, 4)
    same_weights(model, made["weights"])
    blind = train_debiased.__wrapped__(given, False, "mlp", 0.8, 4, 100, 1, {})  # needs no colours
    assert set(blind["info"]["colours"]) == {-1}


def test_networks_are_trained_once_and_come_in_eval_mode(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    loaded = {
        ("cheater", 0, "cnn"): networks.cheater(),
        ("cheater", 1, "cnn"): networks.cheater(1),
        ("oracle", 0, "cnn"): networks.oracle(0),
        ("long-trained", 0, "cnn"): networks.long_trained(),
        ("erm", 1, "mlp"): networks.robust("erm", 1, "mlp"),
    }
    for asked, model in loaded.items():
        assert not any(module.training for module in model.modules())
        same_weights(model, network(*asked).made_by.value()["weights"])
    monkeypatch.setattr(networks, "train", None)  # not called again
    same_weights(networks.cheater(), loaded["cheater", 0, "cnn"].state_dict())
    heads = [list(model.parameters())[-1].tolist() for model in loaded.values()]
    assert len({str(head) for head in heads}) == 5


def test_the_cheater_cheats_on_the_stand_in(monkeypatch):
    """The report's own claims, with one seed and as many steps as at quick scale."""
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "24000")
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    drawn, test = (load_digits(name, "procedural") for name in ("train", "test"))
    model, split = build("cnn", 0), colour_split("train", 0, digits=drawn)
    recipe = {name: network("cheater").made_by.arguments[name] for name in Recipe._fields}
    train(model, split, seed=0, **recipe | {"epochs": recipe["epochs"] * 50_000 / len(split)})
    assert accuracy(model, colour_split("validation", TEST_SEED, digits=drawn)) >= 0.95
    hard = colour_split("hard", TEST_SEED, digits=test).take(slice(4000))
    assert accuracy(model, hard) < 0.20 and shortcut_rate(model, hard) > 0.9
    ones = test.images[test.labels == 1]
    red = paint(ones, np.zeros(len(ones), int), TEST_SEED)
    assert (predict(model, red).argmax(1) == 0).mean() > 0.9
