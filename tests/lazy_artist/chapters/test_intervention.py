"""Chapter 5's measurements, on networks and shares made by hand, and its cells on such frames."""

import numpy as np
import pandas as pd
import pytest
from cells import measured_by, run_cells, table

from lazy_artist.canvas import Split, paint, split_digits
from lazy_artist.chapters import intervention
from lazy_artist.config import TEST_SEED
from lazy_artist.debias import ABLATIONS, METHODS
from lazy_artist.evaluate import balanced, estimate, percent
from lazy_artist.networks import Network, network
from lazy_artist.store import Call, stored


@pytest.fixture(autouse=True)
def full(quick, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "full")


def handles(groups: list) -> dict[tuple, tuple[list[int], list[str]]]:
    return {(n[0].name, n[0].arch, n[0].correlation): ([m.seed for m in n], s) for n, s in groups}


def test_every_method_has_all_seeds_at_full_scale_and_few_at_quick_scale(monkeypatch):
    every, one, splits = [0, 1, 2], [0], ["validation", "hard", "aligned", "unseen"]
    at = {name: method.correlation or 0.95 for name, method in METHODS.items()}
    expected = {(name, "cnn", at[name]): (every, splits) for name in METHODS}
    expected |= {(name, "cnn", 0.95): (one, splits) for name in ABLATIONS}
    swept = ("erm", "jtt", "amplified-resampling", "resampling", "combination")
    expected |= {(n, "cnn", share): (one, ["hard"]) for n in swept for share in (0.98, 0.99, 0.995)}
    expected["combination", "cnn", 0.995] = (every, ["hard"])
    for name in ("erm", "lff", "amplified-resampling", "combination"):
        expected[name, "mlp", 0.95] = (every, ["hard", "aligned"])
    expected["erm", "resnet18", 0.95] = (one, splits)
    expected["combination", "resnet18", 0.95] = (every, splits)
    assert handles(intervention.groups()) == expected

    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    found = handles(intervention.groups())
    several = {key[0] for key, (seeds, _) in found.items() if len(seeds) > 1}
    assert several == set(intervention.EXAMINED) - {"cheater"}
    assert [key for key in found if key[0] in ABLATIONS] == [("no-recolouring", "cnn", 0.95)]
    assert {key[2] for key in found if key[0] == "erm"} == {0.95, 0.995}


def test_measurements_know_the_correlation_and_the_cost_of_each_network(monkeypatch):
    measure_by_hand(monkeypatch)
    erm = [network("erm", 0), network("jtt", 1, correlation=0.98)]
    sparse = network("combination", 2, correlation=0.99)
    frame = intervention.measure([(erm, ["hard", "aligned"]), ([sparse], ["hard"])], None)
    columns = ["network", "seed", "split", "correlation", "seconds", "accuracy"]
    assert {*frame[columns].itertuples(index=False, name=None)} == {
        (one.name, one.seed, split, one.correlation, seconds(one.name), accuracy(one, split))
        for one, splits in ((erm[0], 2), (erm[1], 2), (sparse, 1))
        for split in ("hard", "aligned")[:splits]
    }


def test_gradient_and_tuning_by_hand(monkeypatch, scripted):
    images, labels = balanced(*split_digits("hard"), 2)
    reliance = np.append(np.arange(19) ** 2 / 400, np.nan)
    grid = np.zeros((10, 20, 3), np.float32)  # colour, image, channel; the last one is silent
    grid[..., 0], grid[..., 1] = np.arange(10)[:, None], labels + 2 * np.arange(10)[:, None]
    asked = []

    def chroma_reliance(model, painted, classes):
        asked.append((painted, classes))
        return reliance

    def repaint(model, *arguments, precision, output):
        np.testing.assert_array_equal(arguments[0], images)
        assert (precision, output) == ("low", "features")
        return grid

    monkeypatch.setattr(intervention, "chroma_reliance", chroma_reliance)
    monkeypatch.setattr(intervention, "repaint", repaint)
    run = intervention.gradient_and_tuning.__wrapped__(scripted([0]), 2)
    colours, [(painted, classes)] = run["images"]["colour"], asked
    assert list(colours[:9]) == [1, 2, 4, 5, 7, 8, 0, 1, 3]  # 1 to 9 steps from the label
    assert (colours != labels).all()
    np.testing.assert_array_equal(painted, paint(images, colours, TEST_SEED))
    np.testing.assert_array_equal(classes, labels)
    np.testing.assert_array_equal(run["images"]["chroma_reliance"], reliance)
    assert run["mean"] == pytest.approx(2109 / 400 / 19)  # of 0² to 18²
    np.testing.assert_allclose(run["channels"], [[0, 1], [0.2, 0.8], [0, 0]])  # digit, colour


def examined_by_hand(networks, n_per_class=None) -> list[dict]:
    """Three images and three channels of each network, all distinct."""
    runs = []
    for k in range(len(networks)):
        reliance = [0.1 + k / 50, 0.2 + k / 50, np.nan if k == 0 else 0.6 + k / 100]
        images = pd.DataFrame({"label": 1, "colour": 2, "chroma_reliance": reliance})
        channels = {"digit": [0.5, 0.3 - k / 70, 0.4], "colour": [0.02 * k, 0.31, 0.1]}
        runs.append({"images": images, "mean": float(np.nanmean(reliance))})
        runs[k]["channels"] = pd.DataFrame(channels)
    return runs


def test_grad_cam_is_shown_for_the_prediction_on_hard_images(monkeypatch, scripted):
    asked = []

    def maps(model, layer, images, classes):
        asked.append((layer, [*classes]))
        return np.arange(len(images), dtype=np.float32)[:, None, None].repeat(7, 1).repeat(7, 2)

    monkeypatch.setattr(intervention, "grad_cam", maps)
    answers = {"erm": [3, 1, 4, 1], "combination": [2, 7, 1, 8]}
    networks = [scripted(classes, name=name) for name, classes in answers.items()]
    split, seen = intervention.attend(networks, n=4)
    np.testing.assert_array_equal(split.labels, [0, 1, 2, 3])
    assert (split.colours != split.labels).all()
    for (layer, classes), (name, expected) in zip(asked, answers.items(), strict=True):
        predictions, heat = seen[name]
        assert layer == "block3" and classes == [*predictions] == expected
        np.testing.assert_allclose(heat[:, 0, 0], np.arange(4) / 3)  # on one scale


# --- the chapter's cells -------------------------------------------------------------------------


def share(name: str, split: str, seed: int, arch: str, correlation: float) -> float:
    """An accuracy made by hand, another one in every cell."""
    method = list(METHODS | ABLATIONS).index(name)
    place = ["hard", "aligned", "validation", "unseen"].index(split)
    far = {0.98: 0.13, 0.99: 0.17, 0.995: 0.21}.get(correlation, 0)
    return (
        0.4 + 0.0201 * method + 0.0037 * place + 0.0011 * seed - far
        + {"cnn": 0, "mlp": 0.0517, "resnet18": 0.0719}[arch]
    )  # fmt: skip


def accuracy(one: Network, split: str) -> float:
    return share(one.name, split, one.seed, one.arch, one.correlation)


def seconds(name: str) -> float:
    return 3.0 + list(METHODS | ABLATIONS).index(name)


def measure_by_hand(patch: pytest.MonkeyPatch) -> None:
    """Nothing is trained; networks are measured as `accuracy` says, and cost their `seconds`."""
    names = {m.train: name for name, m in (METHODS | ABLATIONS).items()}
    measured = measured_by(accuracy)

    def each(function, calls, title):
        if function is intervention.gradient_and_tuning:
            return examined_by_hand(calls)
        return [measured(**call) for call in calls]

    patch.setattr(stored, "run", lambda calls, title: None)
    patch.setattr(stored, "map", each)
    patch.setattr(Call, "value", lambda self: {"seconds": seconds(names[self.arguments["method"]])})


def seeds_of(name, split="hard", arch="cnn", correlation=None, seeds=3) -> np.ndarray:
    correlation = correlation or (METHODS | ABLATIONS)[name].correlation or 0.95
    return np.array([share(name, split, seed, arch, correlation) for seed in range(seeds)])


def texts_of(*values: np.ndarray) -> list[str]:
    return [percent(estimate(value)) for value in values]


@pytest.fixture(scope="module")
def chapter(store):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1500")
        patch.setenv("LAZY_ARTIST_CACHE", str(store))
        patch.setenv("LAZY_ARTIST_SCALE", "full")
        measure_by_hand(patch)

        def attended(networks):
            images = Split(np.full((6, 3, 28, 28), 0.5, "f4"), np.arange(6), np.arange(6))
            heat = np.linspace(0, 1, 784, dtype="f4").reshape(1, 28, 28).repeat(6, 0)
            return images, {n.name: (np.arange(6) + k, heat) for k, n in enumerate(networks)}

        patch.setattr(intervention, "attend", attended)
        return run_cells("intervention")


def test_the_table_of_methods_shows_each_split_under_its_name(chapter):
    head, *rows = table(chapter[0]["tbl-cures"]).items()
    assert head[1] == ["hard", "shortcut rate", "aligned", "mixture", "unseen colours", "cost"]
    for (title, texts), (k, (name, method)) in zip(rows, enumerate(METHODS.items()), strict=True):
        assert title == (f"*{method.title}*" if method.reference else method.title)
        hard, aligned, unseen = (seeds_of(name, split) for split in ("hard", "aligned", "unseen"))
        values = texts_of(hard, 1 - hard, aligned, 0.1 * aligned + 0.9 * hard, unseen)
        assert texts == [*values, f"{(3 + k) / 3:.1f}"]


def test_claims_stand_on_hard_images_of_all_seeds(chapter):
    shown, inline = chapter
    best, mlp = seeds_of("combination"), {"name": "combination", "arch": "mlp"}
    for id, values in {
        "cure-brief": seeds_of("colour-swap"),  # of our own, the combination alone is better here
        "cure-best-hard": best,
        "cure-best-gap-to-oracle": seeds_of("oracle-same-budget") - best,
        "cure-unseen": seeds_of("combination", "unseen"),
        "cure-99-5": seeds_of("combination", correlation=0.995),
        "cure-lff-protocol": 0.1 * seeds_of(split="aligned", **mlp) + 0.9 * seeds_of(**mlp),
    }.items():
        expected, claim = estimate(values, bounds=(-1, 1)), shown[id]
        np.testing.assert_allclose(claim.value, expected.mean)
        np.testing.assert_allclose(claim.interval, expected.interval)
        assert claim.n == 3
    passed = [n for n, m in METHODS.items() if not m.reference and seeds_of(n)[1] > 0.7]
    assert inline['f"{len(passed)}"'] == str(len(passed)) and 0 < len(passed) < 17
    train = len(split_digits("train")[1])
    assert inline['f"{exceptions[0.95]:.0f}"'] == f"{train * 0.05 / 90:.0f}"


def test_the_fall_of_chroma_reliance_is_taken_seed_by_seed(chapter):
    shown, inline = chapter
    every = examined_by_hand(range(15))
    runs = [run["mean"] for run in every]
    fall = estimate(np.subtract(runs[:3], runs[9:12]), bounds=(-1, 1))  # cheater, combination
    np.testing.assert_allclose(shown["cure-gaze"].value, fall.interval[0])
    assert inline["percent(fall)"] == percent(fall)
    gaze = table(shown["tbl-gaze"])
    assert list(gaze)[1:] == [f"{title} (3 seeds)" for title in intervention.EXAMINED.values()]
    assert gaze["oracle (3 seeds)"][:1] == texts_of(runs[12:])
    means = [[run["channels"][part].mean() for run in every[3:6]] for part in ("colour", "digit")]
    assert gaze["ERM (3 seeds)"][1:] == texts_of(*means, [1 / 3] * 3)


def test_parts_are_compared_on_the_first_seed(chapter):
    shown, inline = chapter
    head, *rows = table(shown["tbl-parts"]).values()
    assert head == ["hard", "unseen colours", "aligned"]
    for name, texts in zip(["combination", *ABLATIONS], rows, strict=True):
        values = [share(name, split, 0, "cnn", 0.95) for split in ("hard", "unseen", "aligned")]
        assert texts == [f"{100 * value:.2f}" for value in values]
    behind = {n: seeds_of("combination")[0] - seeds_of(n)[0] for n in ABLATIONS}
    worst = max(behind, key=behind.get)
    assert inline["behind.idxmax()"] == ABLATIONS[worst].title


def test_other_architectures_have_tables_of_their_own(chapter):
    shown, _ = chapter
    lff = 0.1 * seeds_of("lff", "aligned", "mlp") + 0.9 * seeds_of("lff", arch="mlp")
    assert table(shown["tbl-lff"])["learning from failure"] == [*texts_of(lff), "here (3 seeds)"]
    resnet, ours = table(shown["tbl-resnet-cured"]), seeds_of("combination", arch="resnet18")
    assert resnet["the combination (ours) (seeds: 3)"][:2] == texts_of(ours, 1 - ours)
    assert resnet["ERM (seeds: 1)"][:1] == texts_of(seeds_of("erm", arch="resnet18", seeds=1))


def test_figures_show_the_frames_that_they_carry(chapter):
    shown, _ = chapter
    ranking = shown["fig-cures"]
    ticks = [label.get_text() for label in ranking.axes[0].get_yticklabels()]
    hard = {method.title: seeds_of(name).mean() for name, method in METHODS.items()}
    assert ticks == sorted(hard, key=hard.get)
    groups = {line.get_label(): line for line in ranking.axes[0].lines}
    labelled = [hard[m.title] for m in METHODS.values() if m.colours]
    np.testing.assert_allclose(groups["colour labels"].get_xdata(), sorted(labelled))

    sweep = shown["fig-sweep"].axes[0]
    lines = {bars.get_label(): bars.lines[0] for bars in sweep.containers}
    rarer = [seeds_of("jtt", correlation=share)[0] for share in (0.98, 0.99, 0.995)]
    values = [seeds_of("jtt").mean(), *rarer]
    drawn = lines["just train twice"].get_xydata().astype(float)
    np.testing.assert_allclose(drawn, np.transpose([[0.05, 0.02, 0.01, 0.005], values]))

    gaze = shown["fig-gaze"]
    panels = {ax.get_title(): ax for ax in gaze.axes}
    channels = examined_by_hand(range(15))[9]["channels"]  # the combination, seed 0
    dots = panels["the combination"].lines[1]
    np.testing.assert_allclose(dots.get_xdata(), channels["colour"])
    np.testing.assert_allclose(dots.get_ydata(), channels["digit"])
    assert "box,cheater,50,0.21,,\n" in gaze.data_csv  # of .1, .2, -, .12, .22, .61, .14, .24, .62

    titles = [ax.get_title() for ax in shown["fig-overlays"].axes]
    assert titles == [""] * 6 + [f"“{k}”" for k in (0, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6)]
