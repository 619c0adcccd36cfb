"""Chapter 6's measurements agree with the attacks, the networks and each other."""

import joblib
import numpy as np
import pandas as pd
import pytest

from lazy_artist import artifacts, attack, debias
from lazy_artist.canvas import colour_split
from lazy_artist.evaluate import predict
from lazy_artist.experiments import cloaking, curing, networks
from lazy_artist.experiments.networks import RECIPES, Recipe


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Networks that can be trained in seconds on the small stand-in, few images, short searches; an
    honest network in place of the best cure, and one other cure of chapter 5."""
    counts = {"main": 8, "l2": 3, "side": 4, "few": 4, "pair": 1, "epochs": 1}
    monkeypatch.setitem(cloaking.COUNTS, "quick", counts)
    monkeypatch.setattr(cloaking, "STEPS", 8)
    monkeypatch.setattr(cloaking, "RIVALLED", 8)
    monkeypatch.setattr(cloaking, "methods", lambda: ("erm",))
    monkeypatch.setitem(RECIPES, ("cheater", "cnn"), Recipe(3, 3e-3, 64))
    monkeypatch.setitem(RECIPES, ("diligent", "cnn"), Recipe(6, 8e-3, 64))
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
    cloaking.temperature(), cloaking.noise("cure"), cloaking.curves("sure"), cloaking.exhibit()
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


@pytest.mark.parametrize("criterion", ["predict", "sure"])
def test_sizes_are_those_of_the_attack(criterion):
    values = cloaking.sizes("cheater", "linf", criterion)
    images = sevens()
    assert values.shape == (2, len(images))
    found = attack.minimal_epsilon(
        networks.cheater(1),
        images,
        3,
        "linf",
        "predict" if criterion == "predict" else 0.9,
        cloaking.STEPS,
    )
    np.testing.assert_allclose(values[1], found.epsilon, rtol=1e-3)
    assert (cloaking.sizes("cheater") <= cloaking.sizes("cheater", "linf", "sure") * 1.02).all()


def test_what_a_network_does_not_read_is_not_a_number():
    values = cloaking.sizes("hardened")
    images = sevens()[: values.shape[1]]
    read = predict(cloaking.load(cloaking.hardened(0)), images).argmax(1) == 7
    np.testing.assert_array_equal(np.isnan(values[0]), ~read)


def test_bootstrap_intervals():
    rng = np.random.default_rng(0)
    values = rng.normal(5, 1, size=(3, 400))
    low, high = cloaking.bootstrap(values, np.mean)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(1200), rel=0.6)
    assert cloaking.bootstrap(np.ones((2, 5)), np.median) == (1, 1)
    apart = np.repeat([[1.0], [3.0]], 50, axis=1)  # seeds differ, images do not
    assert cloaking.bootstrap(apart, np.mean) == (1, 3)


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
    logits = predict(networks.cheater(0), images)
    assert cloaking._confidence(logits, metrics["temperature"]) == pytest.approx(
        metrics["confidence"], abs=1e-6
    )
    wanted = predict(cloaking.load(cloaking.cure(0)), images)
    assert metrics["confidence"] == pytest.approx(cloaking._confidence(wanted, 1))
    assert tensors["epsilon"].shape == (len(images),)


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


def test_tables_have_a_row_for_everything():
    assert len(cloaking.sizes_table()) == 4
    assert list(cloaking.methods_table()["network"])[:4] == list(cloaking.NAMES.values())
    assert len(cloaking.methods_table()) == 5 and len(cloaking.ink_table()) == 10
    assert isinstance(cloaking.exhibit_table(), pd.DataFrame)
    gap = cloaking.chroma_gap()
    assert gap.mean == pytest.approx(
        cloaking.chroma("cheater").mean - cloaking.chroma("cure").mean, abs=1e-9
    )
    share, number, middle = cloaking.strength()
    assert 0 <= share <= 1 and number > 0 and middle > 0
