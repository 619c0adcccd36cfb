"""Chapter 6's measurements agree with the attacks, the networks and each other."""

import functools
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist import artifacts, attack, debias
from lazy_artist.canvas import colour_split
from lazy_artist.evaluate import predict
from lazy_artist.experiments import cloaking, curing, networks

LOAD, BOOTSTRAP = cloaking.load, cloaking.bootstrap  # as they are without the fixture below


class Reader(nn.Module):
    """Ten linear scores of the pixels."""

    def __init__(self, weights: np.ndarray):
        super().__init__()
        self.register_buffer("weights", torch.from_numpy(weights.astype(np.float32)))

    def forward(self, x):
        return torch.nn.functional.pad(x.flatten(1), (0, 1), value=1.0) @ self.weights


@functools.cache
def reader(correlation: float, seed: int, penalty: float) -> Reader:
    """Fitted to the training images by ridge regression: lazy or honest as the canvas has it."""
    split = colour_split("train", seed, correlation)
    x = np.pad(split.images.reshape(len(split), -1), ((0, 0), (0, 1)), constant_values=1.0)
    inner = x @ x.T + penalty * np.eye(len(x))
    return Reader(8 * x.T @ np.linalg.solve(inner, np.eye(10)[split.labels]))


def load(config: dict) -> nn.Module:
    """In place of a trained network: a reader from the same canvas, a smoother one in place of the
    adversarially trained one."""
    hard = "adversary" in config
    return reader(0.1 if hard else config["correlation"], config["seed"], 300 if hard else 10)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Linear readers for networks, few images, short searches, few draws; an honest reader in place
    of the best cure, and one other cure of chapter 5."""
    counts = {"main": 8, "side": 4, "few": 4, "pair": 1, "epochs": 1}
    monkeypatch.setitem(cloaking.COUNTS, "quick", counts)
    monkeypatch.setattr(cloaking, "STEPS", 8)
    monkeypatch.setitem(cloaking.RIVALLED, "quick", {"linf": 8, "l2": 4})
    monkeypatch.setattr(cloaking, "methods", lambda: ("erm",))
    monkeypatch.setattr(cloaking, "load", load)
    monkeypatch.setattr(cloaking, "bootstrap", functools.partial(BOOTSTRAP, draws=50))
    real = cloaking.cure
    monkeypatch.setattr(
        cloaking,
        "cure",
        lambda seed, method=None: (
            real(seed, method) if method else networks.network_config("oracle", "cnn", seed)
        ),
    )
    with joblib.parallel_config("sequential"):  # one process, which these patches reach
        yield


def test_each_kind_of_network_is_loaded_from_where_it_is_made(monkeypatch):
    monkeypatch.setattr(cloaking, "fetch", lambda build, config, _: (build, config))
    monkeypatch.setattr(cloaking, "restore", lambda artifact, arch: (*artifact, arch))
    monkeypatch.setattr(cloaking, "load_network", lambda config: ("chapter 2", config))
    hard, cured = cloaking.hardened(0), cloaking.cure(0, "erm")
    assert LOAD(hard) == (cloaking.trained_against, hard, "cnn")
    assert LOAD(cured) == (curing.cured, cured, "cnn")
    assert LOAD(cloaking.lazy(1)) == ("chapter 2", cloaking.lazy(1))


def test_the_yardstick_learns_from_images_that_were_moved_against_it(monkeypatch):
    seen = []

    class Watched(Reader):
        def forward(self, x):
            seen.append(x.detach())
            return super().forward(x)

    def train(model, split, seed, loss, epochs, **recipe):
        assert epochs == 1 and split.images.shape[1:] == (3, 28, 28)
        images, labels = torch.tensor(split.images[:64]), torch.tensor(split.labels[:64])
        watched = Watched(reader(0.1, 0, 10).weights.numpy())
        value = loss(watched, images, labels, torch.arange(64))
        clean = nn.functional.cross_entropy(watched(images), labels)
        moved = seen[-2]  # the images that the loss was taken of
        assert (moved - images).abs().max() <= 0.1 + 1e-6
        assert moved.min() >= 0 and moved.max() <= 1
        assert value > 2 * clean
        return SimpleNamespace(losses=np.array([float(value)]))

    monkeypatch.setattr(cloaking, "train", train)
    tensors, metrics = cloaking.trained_against(0.1, 0, 1)
    assert metrics["loss"] > 0 and set(tensors) == set(cloaking.build("cnn", 0).state_dict())


def test_the_cure_is_the_best_of_chapter_5():
    assert cloaking.CURE == debias.BEST
    assert cloaking.cure(1, debias.BEST) == curing.cured_config(debias.BEST, "cnn", 1)


def stored() -> set[str]:
    return {record["key"] for record in artifacts.records()}


def test_prepare_leaves_nothing_for_the_chapter_to_measure():
    cloaking.prepare()
    before = stored()
    cloaking.sizes_table(), cloaking.methods_table(), cloaking.colour_table()
    cloaking.ink_table(), cloaking.pair_maps(), cloaking.masking(), cloaking.strength()
    cloaking.temperature(), cloaking.confidence(), cloaking.overrated(), cloaking.noise("cure")
    cloaking.curves("sure"), cloaking.curves("sure", "l2"), cloaking.kindest("cheater")
    cloaking.exhibit_table(), cloaking.deep_sureness()
    assert stored() == before


def sevens(most: int = 8) -> np.ndarray:
    return cloaking._shared(cloaking.shared(), "sevens")[:most]


def test_all_kinds_are_attacked_on_the_first_images_that_all_judges_read():
    judges = [cloaking.load(config) for config in cloaking.shared()["networks"]]
    assert len(judges) == 4  # two kinds, two seeds
    split = colour_split("aligned", networks.TEST_SEED)
    first = np.flatnonzero(split.labels == 7)
    right = [predict(judge, split.images[first]).argmax(1) == 7 for judge in judges]
    index = first[np.all(right, axis=0)][:8]
    np.testing.assert_array_equal(sevens(), split.images[index])
    np.testing.assert_array_equal(cloaking._shared(cloaking.shared(), "index"), index)
    pairs = cloaking._shared(cloaking.shared(), "pairs")
    assert pairs.shape == (10, 1, 3, 28, 28)
    for judge in judges:
        np.testing.assert_array_equal(predict(judge, pairs[:, 0]).argmax(1), range(10))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("criterion", ["predict", "sure"])
def test_sizes_are_those_of_the_attack(norm, criterion):
    values = cloaking.sizes("cheater", norm, criterion)
    model, images = cloaking.load(cloaking.lazy(1)), sevens()
    assert values.shape == (2, len(images))
    wanted = "predict" if criterion == "predict" else 0.9
    found = attack.minimal_epsilon(model, images, 3, norm, wanted, cloaking.STEPS, hops=0)
    np.testing.assert_allclose(values[1], found.epsilon, rtol=1e-3)
    easier = cloaking.sizes("cheater", norm)
    assert (easier <= cloaking.sizes("cheater", norm, "sure") * 1.02).all()


def test_what_a_network_does_not_read_is_not_a_number():
    values = cloaking.sizes("hardened")
    images = sevens()[: values.shape[1]]
    read = predict(cloaking.load(cloaking.hardened(0)), images).argmax(1) == 7
    np.testing.assert_array_equal(np.isnan(values[0]), ~read)


def test_bootstrap_intervals():
    rng = np.random.default_rng(0)
    values = rng.normal(5, 1, size=(3, 400))
    low, high = BOOTSTRAP(values, np.mean)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(1200), rel=0.6)
    assert BOOTSTRAP(np.ones((2, 5)), np.median) == (1, 1)
    apart = np.repeat([[1.0], [3.0]], 50, axis=1)  # seeds differ, images do not
    assert BOOTSTRAP(apart, np.mean) == (1, 3)


def test_medians_keep_censored_images_and_leave_unread_ones_out():
    values = np.array([[0.1, 0.2, np.inf, np.inf, np.nan], [0.1, 0.2, 0.3, np.inf, 0.1]])
    assert cloaking.median(values).mean == pytest.approx(0.25)
    assert cloaking.median(values).interval[1] == np.inf
    np.testing.assert_array_equal(
        cloaking._decoded(np.array([0.5, cloaking.MISSING, cloaking.UNREACHED, 0.0])),
        [0.5, np.nan, np.inf, 0.0],
    )


def made_up(monkeypatch, cheated: np.ndarray, cured: np.ndarray) -> None:
    monkeypatch.setattr(
        cloaking, "sizes", lambda kind, *_: np.array(cheated if kind == "cheater" else cured)
    )


def test_ratio_and_paired_test_by_hand(monkeypatch):
    made_up(monkeypatch, [[0.1, 0.2, 0.3]] * 3, [[0.2, 0.4, np.inf]] * 3)
    assert cloaking.ratio().mean == pytest.approx(2)
    share, p, number = cloaking.paired_test()
    assert (share, number) == (1, 3) and p == pytest.approx(2 * 0.5**3)  # inf > 0.3 counts
    made_up(monkeypatch, [[0.1, 0.2, 0.3, 0.4]], [[0.1, 0.1, 0.1, 0.5]])
    share, p, number = cloaking.paired_test()
    assert (share, number) == (1 / 3, 3) and p == pytest.approx(1)


def test_the_answer_in_words_follows_the_interval(monkeypatch):
    made_up(monkeypatch, [[0.2, 0.2]] * 2, [[0.5, 0.5]] * 2)
    assert cloaking.difference().mean == pytest.approx(0.3)
    assert cloaking.answer(cloaking.ratio()).startswith("harder")
    made_up(monkeypatch, [[0.5, 0.5]] * 2, [[0.2, 0.2]] * 2)
    assert cloaking.difference().interval == pytest.approx((-0.3, -0.3))
    assert cloaking.answer(cloaking.ratio()).startswith("easier")
    made_up(monkeypatch, [[0.5, 0.5], [0.2, 0.2]], [[0.2, 0.2], [0.5, 0.5]])
    assert cloaking.answer(cloaking.ratio()).startswith("about as hard")


def test_success_is_the_share_below_the_bound(monkeypatch):
    made_up(monkeypatch, [[0.01, 0.05, 0.2, np.inf], [0.04, 0.04, 0.3, np.nan]], [[1.0]])
    value = cloaking.success("cheater", "sure", 0.05)
    assert value.mean == pytest.approx((1 / 4 + 2 / 3) / 2) and value.n == 2


def test_matched_temperatures_match_confidence():
    degrees, ratio = cloaking.temperature()
    assert degrees.n == 2 and degrees.mean > 0 and ratio.mean > 0
    images = sevens(4)
    config = {"spec": cloaking.shared(), "most": 4, "steps": 8}
    tensors, metrics = cloaking.tempered(cloaking.lazy(0), cloaking.cure(0), **config)
    logits = predict(cloaking.load(cloaking.lazy(0)), images)
    assert cloaking._confidence(logits, metrics["temperature"]) == pytest.approx(
        metrics["confidence"], abs=1e-6
    )
    wanted = predict(cloaking.load(cloaking.cure(0)), images)
    assert metrics["confidence"] == pytest.approx(cloaking._confidence(wanted, 1))
    assert metrics["before"] == pytest.approx(cloaking._confidence(logits, 1))
    assert tensors["epsilon"].shape == (len(images),)
    cheated, cured = cloaking.confidence()
    assert cheated.n == cured.n == 2 and 0 < cheated.mean < 1 and 0 < cured.mean < 1


def test_the_kindest_seven_of_all_seeds_and_inks(monkeypatch):
    made_up(monkeypatch, [[0.3, 0.2], [0.4, 0.1]], [[1.0, np.inf]])
    table = np.full((10, 2), cloaking.MISSING)
    table[7] = 0.01  # its own ink is not among the others
    table[3] = 0  # seen as a 3 already
    table[5] = [cloaking.UNREACHED, 0.25]
    monkeypatch.setattr(cloaking, "_inked", lambda kind: {"sure": table})
    assert cloaking.kindest("cheater") == (0.1, 0.25)
    table[5] = cloaking.MISSING
    assert cloaking.kindest("cheater") == (0.1, np.inf)


def test_inks_in_numbers(monkeypatch):
    table = np.full((10, 4), cloaking.MISSING)
    table[3] = [0, 0, 0, 0.3]  # the ink of the 3s
    table[4] = [0.1, 0.2, 0.3, cloaking.MISSING]
    table[7] = [0.4, 0.4, cloaking.UNREACHED, cloaking.UNREACHED]
    table[8] = [0.01, -1, -1, -1]  # too few are read as a 7
    monkeypatch.setattr(cloaking, "_inked", lambda kind: {"predict": table})
    assert cloaking.repainted_share("cheater") == 0.75
    assert cloaking.ink_range("cheater") == (pytest.approx(0.2), np.inf)


def test_easier_cures_are_counted_on_the_same_images(monkeypatch):
    found = {
        "cheater": [[0.2] * 4 + [0.001] * 4],  # only the first four count
        "one": [[0.1, 0.1, np.nan, 0.1]],
        "two": [[0.3, 0.3, np.inf, 0.1]],
        "blind": [[np.nan] * 4],
    }
    monkeypatch.setattr(cloaking, "sizes", lambda kind, *_: np.array(found[kind]))
    monkeypatch.setattr(cloaking, "methods", lambda: ("one", "two", "blind", cloaking.CURE))
    assert cloaking.easier_cures() == (1, 2)


def test_strength_by_hand(monkeypatch):
    runs = [
        SimpleNamespace(
            tensors={
                "linf": np.array([1.0, 1.0]),
                "linf/rival": np.array([0.995, 0.5]),
                "l2": np.array([2.0, cloaking.UNREACHED]),
                "l2/rival": np.array([cloaking.UNREACHED, cloaking.UNREACHED]),
            }
        )
    ] * 2
    monkeypatch.setattr(cloaking, "_rivalled", lambda: runs)
    share, number, middle = cloaking.strength()
    assert (share, number) == (0.5, 8)  # within 1%, twice as large, alone, and none
    assert middle == pytest.approx((1 / 0.995 + 2) / 2)
    made_up(monkeypatch, [[1.1, 1.2, 9.0]], [[1.1, 1.2, 9.0]])
    assert cloaking.overrated()["linf"] == pytest.approx(0.15)


def test_the_rival_gets_several_times_our_gradients(monkeypatch):
    given = {}
    found = SimpleNamespace(reached=np.array([True]), epsilon=np.array([1.0]))
    monkeypatch.setattr(cloaking, "load", lambda _: None)
    monkeypatch.setattr(cloaking, "_shared", lambda *_: np.zeros((1, 3, 28, 28)))

    def ours(model, images, target, norm, steps):
        given[norm] = steps * (1 + attack.HOPS[norm])
        return found

    def theirs(model, images, target, norm, steps):
        assert steps == cloaking.RIVAL * given[norm]
        return found

    monkeypatch.setattr(cloaking, "minimal_epsilon", ours)
    monkeypatch.setattr(cloaking, "fmn", theirs)
    cloaking.rivalled({}, {}, 1, {"linf": 100, "l2": 60})
    assert set(given) == {"linf", "l2"} and cloaking.RIVAL == 5


def test_colour_alone_is_never_cheaper_than_any_change():
    for kinds in cloaking.colour_only().values():
        assert kinds["free"][0] <= min(kinds["tint"][0], kinds["hue"][0])
        assert all(0 <= share <= 1 for *_, share in kinds.values())


def test_the_map_of_pairs_is_full():
    maps = cloaking.pair_maps()
    assert set(maps) == {"cheater", "cure"}
    for table in maps.values():
        assert table.shape == (10, 10) and (table.diagonal() == 0).all()
        assert (table[~np.eye(10, dtype=bool)] > 0).all()


def test_summaries_of_the_map_leave_the_diagonal_out():
    low, high = np.full((10, 10), 0.2), np.full((10, 10), 0.5)
    np.fill_diagonal(low, 0), np.fill_diagonal(high, 0)
    high[0, 1] = 0.1
    assert cloaking.middle_of(low) == 0.2
    assert cloaking.pairs_below({"cheater": high, "cure": low}) == pytest.approx(89 / 90)


def test_masking_counts_its_failures(monkeypatch):
    table, failed = cloaking.masking()
    assert len(table) == 8 and failed == (table["holds"] == "no").sum()

    class Run:
        record = {
            "metrics": {
                "large": [0.1, 0.5, 0.9, 0.99],  # not all
                "steps": [0.5, 0.4, 0.6, 0.6],  # falls once
                "transfer": 0.2,
                "white": 0.9,
                "square": 0.1,  # better than the gradient
            }
        }

    monkeypatch.setattr(cloaking, "fetch", lambda *_: Run)
    assert cloaking.masking()[1] == 6


def test_the_exhibit_stays_below_the_bound_and_in_range():
    shown = cloaking.exhibit()
    assert set(shown) == {"cheater", "cure"}
    np.testing.assert_array_equal(shown["cheater"]["image"], shown["cure"]["image"])
    for entry in shown.values():
        change = np.abs(entry["changed"].astype(np.float64) - entry["image"]).max()
        assert change < cloaking.BOUND and change == pytest.approx(entry["size"])
        assert entry["changed"].min() >= 0 and entry["changed"].max() <= 1
        assert entry["before"].argmax() == 7 and entry["after"][3] > entry["before"][3]
    needed = np.maximum(*(cloaking.sizes(kind, "linf", "sure") for kind in shown))
    seed, index = np.argwhere(needed == needed.min())[0]
    assert shown["cure"]["seed"] == seed
    np.testing.assert_array_equal(shown["cure"]["image"], sevens()[index])


def test_the_deep_cheater_is_attacked_on_the_seven_of_the_exhibit_and_on_the_first_that_it_reads():
    entry, seven = cloaking.deep_exhibit(), cloaking.exhibit()["cheater"]["image"]
    np.testing.assert_array_equal(entry["image"], seven)
    assert 0 < entry["size"] < cloaking.BOUND
    model = cloaking.load(cloaking.deep(0))
    assert cloaking.deep(0)["arch"] == "resnet18"
    few = sevens(cloaking.count("few"))
    few = few[predict(model, few).argmax(1) == 7]
    found = attack.minimal_epsilon(model, few, 3, "linf", 0.9, steps=cloaking.STEPS, hops=0)
    share, size, number = cloaking.deep_sureness()
    assert number == len(few) and share == np.mean(found.epsilon < cloaking.BOUND)
    assert size == pytest.approx(np.median(found.epsilon))


def test_a_seven_that_is_called_a_3_already_is_left_alone(monkeypatch):
    image = sevens(1)[0]
    monkeypatch.setattr(cloaking, "predict", lambda model, x: np.tile(np.eye(10)[3], (len(x), 1)))
    tensors, metrics = cloaking.attacked(cloaking.deep(0), cloaking.shared(), 0)
    np.testing.assert_array_equal(tensors["changed"], image)
    assert metrics["size"] == 0 and metrics["colour"] == [0, 0]


def test_tables_have_a_row_for_everything():
    assert cloaking.sizes_table().shape == (7, 5)
    assert list(cloaking.methods_table()["network"])[:4] == list(cloaking.NAMES.values())
    assert len(cloaking.methods_table()) == 5 and len(cloaking.ink_table()) == 10
    assert list(cloaking.exhibit_table()["network"]) == ["cheater", "cure", "cheater, ResNet-18"]
    gap = cloaking.chroma_gap()
    assert gap.mean == pytest.approx(
        cloaking.chroma("cheater").mean - cloaking.chroma("cure").mean, abs=1e-9
    )
    share, number, middle = cloaking.strength()
    assert 0 <= share <= 1 and number > 0 and middle > 0
