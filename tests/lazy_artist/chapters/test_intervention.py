"""Chapter 5's measurements, on networks and shares made by hand, and its cells on such frames."""

import json
import zlib
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from cells import measured_by, run_cells, table

from lazy_artist.canvas import paint, specimens, split_digits
from lazy_artist.chapters import cheater, intervention
from lazy_artist.config import TEST_SEED
from lazy_artist.debias import ABLATIONS, METHODS, views
from lazy_artist.evaluate import balanced, estimate
from lazy_artist.networks import Network, network
from lazy_artist.plots import plus_minus
from lazy_artist.store import Call, stored

SWEPT, SHARES = (0.95, 0.98, 0.99, 0.995), [5.0, 2.0, 1.0, 0.5]


@pytest.fixture(autouse=True)
def full(quick, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "full")


def test_few_networks_have_several_seeds_at_quick_scale(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    groups = [nets for nets, _ in intervention.groups()]
    several = {nets[0].name for nets in groups if len(nets) > 1}
    assert several == set(intervention.EXAMINED) - {"cheater"}
    plain = [nets for nets in groups if not nets[0].made_by.arguments["setting"]["augment"]]
    assert [nets[0].name for nets in plain] == ["erm", "regularised"]
    assert [nets[0].name for nets in groups if nets[0].name in ABLATIONS] == ["no-recolouring"]
    assert {nets[0].correlation for nets in groups if nets[0].name == "erm"} == {0.95, 0.995}


def test_measurements_know_the_correlation_and_the_cost_of_each_network(monkeypatch):
    measure_by_hand(monkeypatch)
    erm, jtt = network("erm", 0), network("jtt", 1, correlation=0.98, augment=False)
    groups = [([erm, jtt], ["hard", "aligned"]), ([network("lff", 2, correlation=0.99)], ["hard"])]
    columns = ["network", "seed", "split", "correlation", "augment", "seconds", "accuracy"]
    rows = intervention.measure(groups, None)[columns].itertuples(index=False, name=None)
    assert {*rows} == {
        (
            one.name,
            one.seed,
            split,
            one.correlation,
            one.name != "jtt",
            seconds(one),
            accuracy(one, split),
        )
        for nets, splits in groups
        for one in nets
        for split in splits
    }


def test_gradient_and_tuning_by_hand(monkeypatch, scripted):
    images, labels = balanced(*split_digits("hard"), 2)
    reliance = np.append(np.arange(19) ** 2 / 400, np.nan)
    grid = np.zeros((10, 20, 3), np.float32)  # colour, image, channel; the last one is silent
    grid[..., 0], grid[..., 1] = np.arange(10)[:, None], labels + 2 * np.arange(10)[:, None]
    chroma, repaint = Mock(return_value=reliance), Mock(return_value=grid)
    monkeypatch.setattr(intervention, "chroma_reliance", chroma)
    monkeypatch.setattr(intervention, "repaint", repaint)
    run = intervention.gradient_and_tuning.__wrapped__(scripted([0], 4, "erm"), 2)
    (_, painted, classes), colours = chroma.call_args.args, run["images"]["colour"]
    assert list(colours[:9]) == [1, 2, 4, 5, 7, 8, 0, 1, 3]  # 1 to 9 steps from the label
    assert (colours != labels).all() and (classes == labels).all()
    np.testing.assert_array_equal(painted, paint(images, colours, TEST_SEED))
    np.testing.assert_array_equal(run["images"]["chroma_reliance"], reliance)
    np.testing.assert_array_equal(repaint.call_args.args[1], images)
    assert repaint.call_args.kwargs == {"precision": "low", "output": "features"}
    channels = run["channels"][["digit", "colour"]]
    np.testing.assert_allclose(channels, [[0, 1], [0.2, 0.8], [0, 0]])
    means = run["networks"][["chroma_reliance", "digit", "colour", "mostly_colour"]]
    np.testing.assert_allclose(means, [[2109 / 400 / 19, 0.2 / 3, 0.6, 2 / 3]])  # of 0² to 18²
    assert run["networks"][["network", "seed"]].to_numpy().tolist() == [["erm", 4]]


def examined_by_hand(networks: list[Network]) -> list[dict[str, pd.DataFrame]]:
    """Three images, three channels and the means of each network, all distinct."""
    runs, means = [], {"chroma_reliance": 1, "colour": 2, "digit": 3, "mostly_colour": 4}
    for k, one in enumerate(networks):
        reliance = [0.1 + k / 50, 0.2 + k / 50, np.nan if k == 0 else 0.6 + k / 100]
        frames = {
            "images": {"chroma_reliance": reliance},
            "channels": {"digit": [0.5, 0.3 - k / 70, 0.4], "colour": [0.02 * k, 0.31, 0.1]},
            "networks": {part: [m / 10 + k**2 / 1000] for part, m in means.items()},
        }
        about = {"network": one.name, "seed": one.seed}
        runs.append({name: pd.DataFrame(frame | about) for name, frame in frames.items()})
    return runs


def test_grad_cam_is_shown_for_the_prediction_on_the_specimens(monkeypatch, scripted):
    heat = np.arange(2, dtype=np.float32)[:, None, None].repeat(7, 1).repeat(7, 2)
    monkeypatch.setattr(intervention, "grad_cam", maps := Mock(return_value=heat))
    answers, pairs = {"erm": [3, 1], "combination": [2, 7]}, [[0, 1], [7, 3]]
    networks = [scripted(classes, name=name) for name, classes in answers.items()]
    found = intervention.look_at_specimens.__wrapped__(networks, pairs)
    np.testing.assert_array_equal(found["images"], specimens(pairs))
    asked = [(call.args[1], [*call.args[3]]) for call in maps.call_args_list]
    assert asked == [("block3", classes) for classes in answers.values()]
    assert {name: [*own["predictions"]] for name, own in found["seen"].items()} == answers
    sure = np.e / (np.e + 9)  # of logits 1 and nine times 0
    np.testing.assert_allclose(found["seen"]["erm"]["confidence"], [sure] * 2, rtol=1e-5)
    np.testing.assert_allclose(found["seen"]["erm"]["maps"][:, 0, 0], [0, 1])  # on one scale


def test_views_are_those_of_the_methods_on_training_images():
    shown = intervention.training_views.__wrapped__(n=3, seed=5)
    images, labels = (part[:64] for part in split_digits("train"))
    painted = paint(images, labels, 5)
    np.testing.assert_allclose(shown["as painted"], 255 * painted[:3], atol=0.501)
    torch.manual_seed(5)
    mixed = views.mix_colours(torch.from_numpy(painted)).clamp(0, 1)
    np.testing.assert_allclose(shown["colours mixed"], 255 * mixed[:3], atol=0.501)
    assert {one.shape for one in shown.values()} == {(3, 3, 28, 28)} and len(shown) == 4


# --- the chapter's cells -------------------------------------------------------------------------


def share(name, split="hard", seed=0, arch="cnn", correlation=None, augment=True) -> float:
    """An accuracy made by hand, another one in every cell; for an array of seeds too."""
    correlation = correlation or (METHODS | ABLATIONS)[name].correlation or 0.95
    cell = repr((name, split, arch, correlation, augment)).encode()
    return 0.4 + zlib.crc32(cell) / 2**33 + seed / 1000


def accuracy(one: Network, split: str) -> float:
    augment = one.made_by.arguments["setting"]["augment"]
    return share(one.name, split, one.seed, one.arch, one.correlation, augment)


def seconds(one: Network) -> float:
    return cost(one.made_by.arguments)


def cost(arguments: dict) -> float:
    """Of processor time; LfF's differ by how long they train, ERM's by their canvas."""
    place = [m.train for m in (METHODS | ABLATIONS).values()].index(arguments["method"])
    return (
        3.0 + place + 50 * (arguments["epoch_scale"] > 1) + 100 * (arguments["correlation"] < 0.9)
    )


def measure_by_hand(patch: pytest.MonkeyPatch) -> None:
    """Nothing is trained; networks are measured as `accuracy` says, and cost their `seconds`."""
    measured = measured_by(accuracy)

    def each(function, calls, title):
        if function is intervention.gradient_and_tuning:
            return examined_by_hand([call["network"] for call in calls])
        if function is intervention.evaluate_networks:
            return [measured(**call) for call in calls]
        return [function(**call) for call in calls]

    patch.setattr(stored, "map", each)
    patch.setattr(intervention, "training_seconds", intervention.training_seconds.__wrapped__)
    patch.setattr(Call, "value", lambda self: {"seconds": cost(self.arguments)})


def of(name, split="hard") -> np.ndarray:
    """What the main table has of a method: LfF at its longest has the first seed."""
    return seeds_of(name, split)[: 1 if name == "lff-longer" else None]


def seeds_of(name, split="hard", **where) -> np.ndarray:
    return share(name, split, np.arange(3), **where)


def texts_of(*values: np.ndarray) -> list[str]:
    return [plus_minus(estimate(value)) for value in values]


def looked_at(networks: list[Network], pairs: list[list[int]]) -> dict:
    assert pairs == [[0, 1], [7, 3]]  # green, yellow
    heat = np.linspace(0, 1, 784, dtype="f4").reshape(1, 28, 28).repeat(2, 0)
    answers = {"cheater": [1, 3], "cure": [0, 7], "oracle": [0, 7]}
    seen = {
        name: {"predictions": answers[name], "confidence": [0.9, 0.8], "maps": heat}
        for name in (one.name for one in networks)
    }
    return {"images": np.full((2, 3, 28, 28), 0.5, "f4"), "seen": seen}


def asked(networks: list[Network], pairs: list[list[int]]) -> dict:
    """Method number k predicts the class k + i, modulo ten, of picture number i."""
    places = np.add.outer(np.arange(len(networks)), np.arange(len(pairs))) % 10
    pictures = np.full((len(pairs), 3, 28, 28), 0.5, "f4")
    return {"images": pictures, "probabilities": np.eye(10, dtype="f4")[places]}


@pytest.fixture(scope="module")
def chapter(store):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1500")
        patch.setenv("LAZY_ARTIST_CACHE", str(store))
        patch.setenv("LAZY_ARTIST_SCALE", "full")
        measure_by_hand(patch)
        return both_pages(patch)


def both_pages(patch: pytest.MonkeyPatch) -> tuple[dict, dict]:
    """What the chapter and its appendix show."""
    patch.setattr(intervention, "look_at_specimens", looked_at)
    patch.setattr(cheater, "ask", asked)
    (shown, inline), (more, texts) = map(run_cells, ("intervention", "intervention-more"))
    return shown | more, inline | texts


def test_tables_show_each_split_under_its_name(chapter):
    shown, inline = chapter
    head, *rows = table(shown["tbl-cures"]).items()
    expected = [
        "hard",
        "shortcut rate",
        "aligned",
        "mixture",
        "unseen colours",
        "cost",
    ]
    assert head[1] == expected
    order = sorted(METHODS, key=lambda name: of(name).mean(), reverse=True)
    for (title, texts), name in zip(rows, order, strict=True):
        method = METHODS[name]
        assert title == (f"*{method.title}*" if method.reference else method.title)
        hard, aligned, unseen = (of(name, split) for split in ("hard", "aligned", "unseen"))
        values = texts_of(hard, 1 - hard, aligned, hard, unseen)
        values[3] = f"{100 * (0.1 * aligned + 0.9 * hard).mean():.1f}"
        spent = cost(network(name).made_by.arguments) / 3
        assert texts == [*values, f"{spent:.1f}"]
        if (row := table(shown["tbl-best"]).get(title)) is not None:
            assert row == [method.needs, *values[:3], values[4], f"{spent:.1f}"]
    assert len(table(shown["tbl-best"])) == 8  # its head and seven rows, sorted
    places = [
        [title for title, _ in rows].index(title) for title in [*table(shown["tbl-best"])][1:]
    ]
    assert places == sorted(places)

    head, *rows = table(shown["tbl-plain"]).items()
    assert head[1] == ["hard", "aligned", "unseen colours", "hard, augmented", "added"]
    usual = [name for name in METHODS if name != "lff-longer"]
    order = sorted(usual, key=lambda name: share(name, augment=False), reverse=True)
    for (title, texts), name in zip(rows, order, strict=True):
        plain = [share(name, split, augment=False) for split in ("hard", "aligned", "unseen")]
        values = [*plain, share(name), share(name) - plain[0]]
        assert (title, texts) == (METHODS[name].title, [f"{100 * v:.1f}" for v in values])

    head, *rows = table(shown["tbl-parts"]).values()
    assert head == ["hard", "unseen colours", "aligned", "behind"]
    for name, texts in zip(["combination", *ABLATIONS], rows, strict=True):
        values = [share(name, split) for split in ("hard", "unseen", "aligned")]  # of seed 0
        values.append(share("combination") - share(name))
        assert texts == [f"{100 * value:.2f}" for value in values]
    lost = [
        100 * (share("combination") - share(f"no-{part}"))
        for part in ("recolouring", "reweighting")
    ]
    told = table(shown["tbl-expected"])["Of the two parts recolouring matters most"][0]
    assert told.endswith(f"loses {lost[0]:.1f} points, without re-weighting {lost[1]:.1f}")

    aligned, hard = (seeds_of("combination", split, arch="mlp") for split in ("aligned", "hard"))
    ours, found = texts_of(0.1 * aligned + 0.9 * hard), table(shown["tbl-lff"])
    assert found["the combination (ours)"] == [*ours, "here (3 seeds)"]
    lff = [share("lff", split, arch="mlp") for split in ("aligned", "hard")]
    assert found["learning from failure"] == [
        *texts_of([0.1 * lff[0] + 0.9 * lff[1]]),
        "here (1 seed)",
    ]
    resnet, ours = table(shown["tbl-resnet-cured"]), seeds_of("combination", arch="resnet18")
    assert resnet["the combination (ours) (seeds: 3)"][:2] == texts_of(ours, 1 - ours)
    assert resnet["ERM (seeds: 1)"][:1] == texts_of([share("erm", arch="resnet18")])


def test_the_explorer_has_what_was_measured_of_each_method_on_hard_images(chapter, store):
    text = (store / "pages/widgets/methods.js").read_text("utf-8")
    data = json.loads(text.partition("'] ??= ")[2].rstrip(";\n"))
    assert [one["name"] for one in data["methods"]] == list(METHODS) and data["shares"] == SHARES
    for k, (one, method) in enumerate(zip(data["methods"], METHODS.values(), strict=True)):
        assert (one["title"], one["needs"]) == (method.title, method.needs)
        assert one["code"].startswith(f"def {method.train.__name__}(")
        assert one["answers"] == [[(k + i) % 10, 1.0] for i in range(8)]
        spent = cost(network(one["name"]).made_by.arguments) / 3
        assert one["cost"] == pytest.approx(spent)
        found = {(each["share"], each["augment"]): each for each in one["results"]}
        usual = None if one["name"] == "oracle-same-budget" else 5.0
        name, expected = one["name"], {(usual, True): of(one["name"])}
        if name != "lff-longer":
            expected[usual, False] = share(name, seed=np.arange(1), augment=False)
        if name in intervention.swept()[0]:
            expected |= {
                (each, True): share(name, "hard", np.arange(3 if each == 0.5 else 1), correlation=c)
                for each, c in zip(SHARES[1:], SWEPT[1:], strict=True)
            }
        assert set(found) == set(expected)
        for key, values in expected.items():
            assert found[key]["mean"] == pytest.approx(np.mean(values))
            assert (found[key]["n"], found[key]["told"]) == (len(values), *texts_of(values))


def test_claims_stand_on_hard_images_of_all_seeds(chapter):
    shown, inline = chapter
    best, oracle = seeds_of("combination"), seeds_of("oracle-same-budget")
    gap = seeds_of("oracle-same-budget", arch="mlp") - seeds_of("combination", arch="mlp")
    for id, values in {
        "cure-brief": sorted(map(seeds_of, intervention.OWN), key=np.mean)[-2],
        "cure-best-hard": best,
        "cure-best-gap-to-oracle": oracle - best,
        "cure-knows-nothing": seeds_of("amplified-resampling"),
        "cure-unseen": seeds_of("combination", "unseen"),
        "cure-rare": seeds_of("combination", correlation=0.995),
        "cure-lff-gap": gap,
    }.items():
        expected, claim = estimate(values, bounds=(-1, 1)), shown[id]
        np.testing.assert_allclose(claim.value, expected.mean)
        np.testing.assert_allclose(claim.interval, expected.interval)
        assert claim.n == 3 and claim.sealed == (None if id == "cure-unseen" else "closed")
    rivals = [n for n, m in METHODS.items() if not m.reference and n not in ("erm", "lff-longer")]
    passed = [n for n in rivals if seeds_of(n).mean() > 0.7]
    code = 'f"{len(passed)} of the {len(rivals)}"'
    assert inline[code] == f"{len(passed)} of the {len(rivals)}" and 0 < len(passed) < len(rivals)
    gap = f"{100 * np.mean(oracle - best):.1f}"
    assert inline["told(gap)"] == gap


def test_the_sealed_digits_judge_the_same_claims_once_they_are_open(store, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1500")
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(store))
    monkeypatch.setenv("LAZY_ARTIST_SEALED", "open")
    measure_by_hand(monkeypatch)
    shown, _ = both_pages(monkeypatch)
    best, oracle = (seeds_of(name, "sealed") for name in ("combination", "oracle-same-budget"))
    gap = [seeds_of(n, "sealed", arch="mlp") for n in ("oracle-same-budget", "combination")]
    for id, values in {
        "cure-best-hard": best,
        "cure-best-gap-to-oracle": oracle - best,
        "cure-knows-nothing": seeds_of("amplified-resampling", "sealed"),
        "cure-rare": seeds_of("combination", "sealed", correlation=0.995),
        "cure-lff-gap": gap[0] - gap[1],
    }.items():
        np.testing.assert_allclose(shown[id].sealed["value"], values.mean())


def test_the_fall_of_chroma_reliance_is_taken_seed_by_seed(chapter):
    shown, inline = chapter
    means = np.arange(1, 5) / 10 + np.arange(15)[:, None] ** 2 / 1000  # 5 times 3 networks, 4 means
    fall = estimate(means[:3, 0] - means[9:12, 0], bounds=(-1, 1))  # cheater, combination
    np.testing.assert_allclose(shown["cure-gaze"].value, fall.mean)
    falls = [inline[f'told(gaze.loc[{name}, "chroma_reliance"])'] for name in ('"cheater"', "BEST")]
    assert falls == [f"{100 * means[k : k + 3, 0].mean():.1f}" for k in (0, 9)]
    gaze = table(shown["tbl-gaze"])
    assert list(gaze)[1:] == [f"{title} (3 seeds)" for title in intervention.EXAMINED.values()]
    assert gaze["oracle (3 seeds)"] == texts_of(*means[12:].T)


def test_figures_show_the_frames_that_they_carry(chapter):
    shown, _ = chapter
    ranking = shown["fig-cures"].axes[0]
    usual = [name for name in METHODS if name != "lff-longer"]
    hard = {METHODS[name].title: seeds_of(name).mean() for name in usual}
    assert [tick.get_text() for tick in ranking.get_yticklabels()] == sorted(hard, key=hard.get)
    groups = {line.get_label(): line for line in ranking.lines}
    labelled = [hard[m.title] for m in METHODS.values() if m.colours]
    np.testing.assert_allclose(groups["colour labels"].get_xdata(), sorted(labelled))

    handles, labels = shown["fig-sweep"].axes[0].get_legend_handles_labels()
    curves = dict(zip(labels, handles, strict=True))
    for name in intervention.swept()[0]:
        sweep = (
            seeds_of(name, correlation=share)[:n]
            for share, n in zip(SWEPT, (3, 1, 1, 3), strict=True)
        )
        found = np.sort(curves[METHODS[name].title][0].get_ydata())
        np.testing.assert_allclose(found, np.sort([values.mean() for values in sweep]))

    gaze = shown["fig-gaze"]
    dots = {ax.get_title(): ax for ax in gaze.axes}["the combination"].lines[1]
    channels = [[0.18, 0.31, 0.1], [0.5, 0.3 - 9 / 70, 0.4]]  # of the tenth network: its seed 0
    np.testing.assert_allclose(dots.get_data(), channels)
    assert "box,cheater,50,0.21,,\n" in gaze.data_csv  # of .1, .2, -, .12, .22, .61, .14, .24, .62

    titles = [ax.get_title() for ax in shown["fig-looks"].axes]
    networks = (("cheater", 1, 3), ("cure", 0, 7), ("oracle", 0, 7))
    for row, sure in ((0, 90), (1, 80)):
        seen = [f"{name}: “{found[row]}” ({sure}%)" for name, *found in networks]
        assert titles[4 * row : 4 * row + 4] == ["the image", *seen]
