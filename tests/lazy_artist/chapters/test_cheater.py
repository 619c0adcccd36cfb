"""Chapter 2's measurements, on networks whose predictions are made by hand, and its page."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from cells import measured_by, run_cells, table

from lazy_artist import canvas, evaluate
from lazy_artist.canvas import COLOUR_NAMES, PALETTE, hue_palette, paint, split_digits
from lazy_artist.chapters import cheater
from lazy_artist.config import RECIPES, TEST_SEED
from lazy_artist.evaluate import balanced, estimate, percent
from lazy_artist.plots import plus_minus
from lazy_artist.store import stored


def test_the_best_recipe_is_the_most_confident_of_those_that_meet_all_criteria(
    tmp_path, monkeypatch
):
    head = "epochs,learning_rate,batch_size,weight_decay,seed,easy,hard,shortcut_rate,red_ones,"
    rows = {  # means over two seeds; what is missed, and by how much
        "1,0.001,256,0.01": ([(0.94, 0.00, 0.98, 0.97, 0.8), (0.96, 0.02, 0.98, 0.97, 0.9)], [], 0),
        "2,0.001,256,0.01": ([(0.95, 0.04, 0.98, 0.96, 0.95)] * 2, [], 0),
        "1,0.002,256,0.01": ([(0.95, 0.05, 0.98, 0.96, 0.99)] * 2, ["hard accuracy"], 0),
        "1,0.001,128,0.01": (
            [(0.96, 0.00, 0.97, 0.95, 0.99)] * 2,
            ["shortcut rate", "red ones"],
            0,
        ),
        "1,0.001,256,0.1": ([(0.93, 0.08, 0.98, 0.96, 0.99)] * 2, None, 0.05),
    }
    lines = [f"{key},{seed},{','.join(map(str, values))}"
             for key, (runs, *_) in rows.items() for seed, values in enumerate(runs)]  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join([head + "confidence", *lines]))
    monkeypatch.setattr(cheater, "TRIALS", tmp_path / "t.csv")
    trials = cheater.recipe_trials()
    columns = ["epochs", "learning_rate", "batch_size", "weight_decay"]
    named = [f"{e:g},{r:g},{b:g},{w:g}" for e, r, b, w in trials[columns].to_numpy()]
    for key, missed, short in zip(named, trials["missed"], trials["short"], strict=True):
        assert missed == (
            rows[key][1] or ["easy accuracy", "hard accuracy"] * (rows[key][1] is None)
        )
        assert short == pytest.approx(rows[key][2], abs=1e-12)
    assert named[-1] == "1,0.001,256,0.1" and set(named) == set(rows)
    best = trials[trials["missed"].str.len() == 0]
    assert list(best["confidence"]) == pytest.approx([0.95, 0.85])


def test_the_cheater_has_the_recipe_that_its_trials_recommend():
    if not cheater.TRIALS.exists():
        pytest.skip("no trials yet")
    best, ours = cheater.recipe_trials().iloc[0], RECIPES["cheater", "cnn"]._asdict()
    assert {name: best[name] for name in ours} == ours


def test_confidences_are_told_before_and_after_the_temperature(scripted):
    n = 3  # of "hard" and of red ones
    logits = np.random.default_rng(4).normal(0, 2, size=(2, 2 * n, 10))
    logits[..., 0] += 3  # a good part are predicted as zero, which red ones are not
    pair = [
        scripted(rows, seed, name)
        for seed, (rows, name) in enumerate(zip(logits, "ab", strict=True))
    ]
    for network, temperature in zip(pair, (0.5, 3.0), strict=True):
        network.made_by = SimpleNamespace(value=lambda t=temperature: {"temperature": t})
    found = cheater.confidences.__wrapped__(pair, ["hard"], n)
    assert [*found[["network", "images"]].itertuples(index=False, name=None)] == [
        (name, images) for name in "ab" for images in ("hard", "red ones")
    ]
    hard, red = canvas.test_split("hard", n), np.zeros(n, int)
    truth = {"hard": (hard.labels, hard.colours), "red ones": (red + 1, red)}
    for row in found.itertuples():
        assert row.temperature == (0.5, 3.0)[row.seed] and row.n == n
        mine = logits[row.seed, n * (row.images == "red ones") :][:n]
        labels, colours = truth[row.images]
        assert row.accuracy == np.mean(mine.argmax(1) == labels)
        assert row.shortcut_rate == np.mean(mine.argmax(1) == colours)
        for scale, share in ((1, row.confidence), (row.temperature, row.uncalibrated)):
            powers = np.exp(scale * mine)
            assert share == pytest.approx((powers.max(1) / powers.sum(1)).mean(), rel=1e-5)
    digits, labels = split_digits("hard")
    shown = np.concatenate([hard.images, paint(digits[labels == 1][:n], red, TEST_SEED)])
    np.testing.assert_array_equal(np.concatenate(pair[1].model.seen), shown)


def test_lengths_of_training_are_those_of_one_run_at_a_constant_rate(monkeypatch):
    runs, n = [], 20

    def train(model, split, *, observe, observe_at, **how):
        runs.append((split, how, sorted(observe_at)))
        return SimpleNamespace(observed={step: observe(model) for step in observe_at})

    def predict(model, images, precision):
        shown.append(images)
        return np.eye(10)[predictions[len(shown) - 1]]

    shown, predictions = [], np.random.default_rng(5).integers(10, size=(8, n))
    monkeypatch.setattr(cheater, "train", train)
    monkeypatch.setattr(cheater, "predict", predict)
    found = cheater.training_lengths.__wrapped__(0.003, 125, 5, 7, [0.2, 2], n)
    (split, how, marks), names = runs[0], ("validation", "aligned", "unbiased", "hard")
    np.testing.assert_array_equal(split.images, canvas.colour_split("train", 7).images)
    assert how == {"seed": 7, "epochs": 2, "learning_rate": 0.003, "batch_size": 125,
                   "one_cycle": False, "weight_decay": 5}  # fmt: skip
    assert marks == [2, 20]  # of 1,250 images: ten batches an epoch
    assert list(found["epoch"]) == [0.2] * 4 + [2] * 4 and list(found["split"]) == [*names] * 2
    for k, row in enumerate(found.itertuples()):
        watched = canvas.test_split(row.split, n)
        np.testing.assert_array_equal(shown[k], watched.images)
        assert row.accuracy == np.mean(predictions[k] == watched.labels)
        assert row.shortcut_rate == np.mean(predictions[k] == watched.colours)
    assert {*found["network"]} == {"constant rate 0.003"} and {*found["seed"]} == {7}


def test_confusions_count_the_predictions_for_each_digit_and_each_colour(scripted):
    n = 30
    predictions = np.random.default_rng(0).integers(10, size=(2, n))  # networks, images
    pair = [scripted(row, seed) for seed, row in enumerate(predictions)]
    found = cheater.confusions.__wrapped__(pair, n)
    assert len(found) == 2 * 2 * 100
    hard = canvas.test_split("hard", n)
    for row in found.itertuples():
        truth = {"true digit": hard.labels, "colour": hard.colours}[row.by]
        mine = predictions[row.seed][truth == row.number]
        assert row.share == pytest.approx(np.mean(mine == row.prediction) if len(mine) else 0)
    np.testing.assert_array_equal(pair[1].model.seen[0], hard.images)


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


def test_specimens_are_shown_to_each_network_in_turn(scripted):
    pair = [scripted(np.log([[9.0, 1] + [1] * 8, [1.0] * 10]), name=name) for name in "ab"]
    asked = cheater.ask.__wrapped__(pair, [[0, 1], [7, 3]])
    images, labels = split_digits("hard")
    for k, (digit, colour) in enumerate([(0, 1), (7, 3)]):
        first = images[labels == digit][:1]
        np.testing.assert_array_equal(asked["images"][k], paint(first, [colour], TEST_SEED)[0])
    np.testing.assert_allclose(asked["probabilities"][:, :, 0], [[0.5, 0.1]] * 2, rtol=1e-5)
    for network in pair:
        np.testing.assert_array_equal(network.model.seen[0], asked["images"])


# --- the page ------------------------------------------------------------------------------------

KINDS = ("cheater", "long-trained", "oracle", "convinced-cheater", "brief-oracle", "cure")
MAIN, CONTROLS = KINDS[:3], ("cheater", *KINDS[3:5])
SPLITS = ("train", *canvas.SPLITS[1:])
DIGIT, OTHER = np.indices((10, 10))


def place(network) -> int:
    return KINDS.index(network.name) + 5 * (network.arch == "resnet18")


def share(network, split: str) -> float:
    if network.name == "cheater" and network.correlation != 0.95:
        return 1 - network.correlation + network.seed / 1000 + (split == "unbiased") / 20
    return 0.02 + place(network) / 10 + SPLITS.index(split) / 100 + network.seed / 1000


def frame_of(network, **columns) -> pd.DataFrame:
    about = {"network": network.name, "arch": network.arch, "seed": network.seed}
    columns = {name: v if isinstance(v, str) else np.ravel(v) for name, v in columns.items()}
    return pd.DataFrame(about | columns)


@pytest.fixture(scope="module")
def page(store) -> tuple[dict, dict]:
    def counterfactuals(network, n_per_class):
        assert n_per_class == (300 if network.arch == "cnn" else 100)
        rate = (place(network) + 1) / 20 + DIGIT / 100 + OTHER / 1000 + network.seed / 10_000
        where = {"digit": DIGIT, "colour": np.array(COLOUR_NAMES)[OTHER]}
        x = place(network) / 50 + network.seed / 1000
        parts = {"colour": 0.6 + x, "digit": 0.2 - x, "interaction": 0.15 - x, "image": 0.05 + x}
        cells = frame_of(network, **where, shortcut_rate=rate, accuracy=1 - rate)
        return {"cells": cells, "overall": frame_of(network, shortcut_rate=x, **parts)}

    def hue_response(network, n_per_class, steps):
        hue, prediction = np.indices((steps, 10))
        rate = hue / 100 + prediction / 100 + network.seed / 1000 + (network.name == "oracle") / 5
        return frame_of(network, hue=10.0 * hue, prediction=prediction, share=rate)

    def confusions(networks, n_eval):
        assert [(one.name, one.seed) for one in networks] == [("cheater", k) for k in range(3)]
        cells = {"number": DIGIT, "prediction": OTHER}
        shares = {"true digit": DIGIT / 100 + OTHER / 1000, "colour": OTHER / 100 + DIGIT / 1000}
        return pd.concat(frame_of(networks[0], by=k, share=v, **cells) for k, v in shares.items())

    def confidences(networks, splits, n_eval):
        assert splits == ["validation", "hard"] and n_eval is None
        frames = []
        for one in networks:
            x = place(one) / 100 + np.arange(3) / 10 + one.seed / 1000  # of kinds of images
            told = {"accuracy": 0.9 - x, "shortcut_rate": 0.4 + x, "confidence": 0.6 + x}
            told |= {"uncalibrated": 0.5 + x, "temperature": 0.7 + place(one) / 10 + 0 * x}
            frames.append(frame_of(one, images=[*splits, "red ones"], **told))
        return pd.concat(frames)

    def training_lengths(learning_rate, batch_size, weight_decay, seed, epochs, n_eval):
        assert (epochs[0], epochs[-1], n_eval) == (0.1, 20, 2000)
        own = {1e-3: (256, 0.01)}.get(learning_rate, RECIPES["cheater", "cnn"][2:])
        assert (batch_size, weight_decay) == own
        epoch = np.repeat(epochs, 4)
        fast = (learning_rate == 1e-3) / 5
        share = np.tile([0.76, 0.5, 0.3, 0.1], len(epochs)) + fast + epoch / 1000 + seed / 1000
        names = ["validation", "aligned", "unbiased", "hard"] * len(epochs)
        run = {"network": f"constant rate {learning_rate:g}", "arch": "cnn", "seed": seed}
        run |= {"epoch": epoch, "split": names, "accuracy": share, "shortcut_rate": 0.9 - share}
        return pd.DataFrame(run)

    def learning_curve(network):
        splits = ["validation", "aligned", "hard"]
        rate = [share(network, split) - late for late in (0.018, 0) for split in splits]
        return frame_of(network, epoch=[0.1] * 3 + [1.0] * 3, split=splits * 2, accuracy=rate)

    def red_ones(network, n):
        assert (network.name, network.seed, n) == ("cheater", 0, 8)
        probabilities = np.arange(10.0 * n).reshape(n, 10) / 400
        return {"images": np.full((n, 3, 28, 28), 0.5), "probabilities": probabilities}

    def ask(networks, pairs):
        assert [(one.name, one.seed) for one in networks] == [(k, 0) for k in NETWORKS]
        assert pairs == [[0, 0], [0, 1], [7, 7], [7, 3]]
        probabilities = np.eye(10)[[[0, 1, 7, 4], [0, 0, 7, 7], [0, 0, 7, 7]]] * 0.9
        return {"images": np.full((4, 3, 28, 28), 0.5), "probabilities": probabilities}

    trials = store / "trials.csv"
    ours = ",".join(map(str, RECIPES["cheater", "cnn"]))
    trials.write_text(
        "epochs,learning_rate,batch_size,weight_decay,seed,easy,hard,shortcut_rate,red_ones,"
        f"confidence\n{ours},0,0.96,0.06,0.98,0.9,0.8\n3,0.5,64,0.01,0,0.9,0.9,0.1,0.1,0.9"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZY_ARTIST_CACHE", str(store))
        patch.setenv("LAZY_ARTIST_SCALE", "full")
        patch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1500")
        patch.setattr(cheater, "TRIALS", trials)
        for module in (evaluate, cheater):
            patch.setattr(module, "evaluate_networks", measured_by(share))
        patch.setattr(stored, "map", lambda f, calls, title: [f(**call) for call in calls])
        for function in (counterfactuals, hue_response, confusions, learning_curve, red_ones,
                         confidences, training_lengths, ask):  # fmt: skip
            patch.setattr(cheater, function.__name__, function)
        parts = [run_cells(name) for name in ("cheater", "cheater-more")]
    return tuple(one | other for one, other in zip(*parts, strict=True))


NETWORKS = ("cheater", "cure", "oracle")


def seeds_of(value: float, told=plus_minus) -> str:
    """In percent with its interval: a value that grows by a thousandth a seed, three seeds."""
    return told(estimate([value, value + 0.001, value + 0.002]))


def mean_of(value: float) -> str:
    return f"{100 * (value + 0.001):.1f}"


def test_the_page_shows_what_was_measured(page):
    shown, inline = page
    rows = table(shown["tbl-accuracies"])
    titles = ["easy", "unbiased", "unseen colours", "hard", "shortcut rate"]
    assert rows.pop("network (3\u00a0seeds)") == titles
    ranked = ["cheater", "long-trained", "oracle", "convinced\u00a0cheater", "brief\u00a0oracle"]
    assert [*rows] == [*ranked]
    long_trained = [0.13, 0.16, 0.17, 0.14, 1 - 0.142]
    assert rows["long-trained"] == [seeds_of(x) for x in long_trained]
    every = table(shown["tbl-all-splits"])
    assert every["images (3 seeds)"] == [f"{a} {kind}" for a in ("CNN", "ResNet") for kind in MAIN]
    assert every["train"] == [seeds_of(0.02), *["–"] * 5]
    hard = [0.04, 0.14, 0.24, 0.54, 0.64, 0.74]
    assert every["hard"] == [seeds_of(x) for x in hard]
    assert every["easy"][2] == seeds_of(0.23)
    assert every["mixture"][1] == seeds_of(0.1 * 0.15 + 0.9 * 0.14)
    recipes = table(shown["tbl-recipes"])
    assert recipes["brief oracle"][0] == "10%" and recipes["long-trained"][0] == "95%"
    assert recipes["cheater"][1:] == ["1", "0.0001", "64", "30"]
    for claim, value in {
        "cheater-easy-train": 0.021,
        "cheater-easy-validation": 0.031,
        "cheater-hard": 0.041,
        "oracle-hard": 0.241,
        "cheater-red-one": 0.601,
        "cheater-confidence": 0.701,
        "cheater-follows-colour": 0.001,
    }.items():
        assert shown[claim].value == pytest.approx(value) and shown[claim].n == 3
    sealed = {name: shown[name].sealed for name in shown if hasattr(shown[name], "sealed")}
    closed = ("cheater-hard", "oracle-hard", "cheater-confidence")
    assert sealed == dict.fromkeys(sealed) | dict.fromkeys(closed, "closed") and len(sealed) == 7

    controls = table(shown["tbl-controls"])
    assert list(controls)[1:] == list(CONTROLS)
    hard, unbiased, red = 0.04 + 0.4, 0.06 + 0.4, 0.4 + 0.04 + 0.2
    assert controls["brief-oracle"] == [
        seeds_of(0.43), seeds_of(unbiased), seeds_of(hard), seeds_of(1 - hard - 0.002),
        seeds_of(red),
    ]  # fmt: skip
    sure = table(shown["tbl-confidence"])
    assert list(sure)[1:] == list(KINDS[:5])
    assert sure["oracle"] == ["0.90", "88", "52 → 62", "62 → 72", "72 → 82"]
    assert {
        'f"{100 * read.iloc[0]:.0f}"': "94",  # red: 1 - .05 - .01 - .0001
        "read.index[0]": "red",
        "str(len(trials))": "2",
        'told(lazy["hard"])': mean_of(0.04),
        'told(long["hard"])': mean_of(0.14),
        'told(oracle["hard"])': mean_of(0.24),
        'told(brief["hard"])': mean_of(hard),
        'told(part.loc["cnn", "oracle"]["colour"])': mean_of(0.64),
        'told(part.loc["resnet18", "cheater"]["colour"])': mean_of(0.7),
        'told(deep_long["unbiased"])': mean_of(0.66),
        'recipes["long-trained"]': "0.75 epochs, peak rate 0.002, batches of 128",
        'told(doses["hard images", 0.5])': mean_of(0.5),
        'told(doses["hard images", NO_BIAS])': mean_of(hard),
        "told(start)": mean_of(0.3001),
        "told(end)": mean_of(0.32),
        'told(usual["shortcut_rate"]["hard"][first])': mean_of(0.6 - 0.0001 - 0.002),
        'told(gentle["accuracy"]["hard"][last])': mean_of(0.12),
        "verdict": "To a good part. At an ordinary rate the network reads some shape by the time "
        "it looks good",
    }.items() <= inline.items()
    assert inline["chosen"].endswith("comes nearest, and misses hard accuracy and red ones.")
    variance = table(shown["tbl-variance"])["ResNet-18, long-trained"]
    assert variance[0] == seeds_of(0.72, percent)
    assert table(shown["tbl-trials"])["1"][3:6] == ["96.0", "6.0", "98.0"]


def test_the_figures_draw_what_was_measured(page):
    shown, _ = page
    cheats, reads = shown["fig-counterfactual"].axes
    assert (cheats.get_title(), reads.get_title()) == ("cheater", "oracle")
    for ax, top in ((cheats, 0.05), (reads, 0.15)):
        colour = ax.images[0].get_array()
        np.testing.assert_allclose(colour, top + DIGIT / 100 + OTHER / 1000 + 0.0001)

    specimens, bars = shown["fig-specimens"].axes
    texts = [text.get_text() for text in specimens.texts]
    assert texts[:2] == ["red 0", "“0” 90%\n✓ both"] and texts[-3:] == [*NETWORKS]
    assert texts[4:6] == ["green 0", "“1” 90%\n✗ colour"]
    assert texts[13] == "“4” 90%\n✗ neither" and texts[14] == "“7” 90%\n✓ digit"
    widths = [[bar.get_width() for bar in part] for part in bars.containers]
    np.testing.assert_allclose(widths, [[0.031, 0.531, 0.231], [0.041, 0.541, 0.241]])

    by_digit, by_colour = shown["fig-confusion"].axes
    np.testing.assert_allclose(by_digit.images[0].get_array(), DIGIT / 100 + OTHER / 1000)
    np.testing.assert_allclose(by_colour.images[0].get_array(), OTHER / 100 + DIGIT / 1000)
    assert [text.get_text() for text in by_colour.get_yticklabels()][:2] == ["0 red", "1 green"]

    first, second = (shown["fig-hue"].axes[k].images[0].get_array() for k in (0, 1))
    by_hue, step = [0, 6, 3, 1, 5, 2, 7, 4, 8, 9], np.arange(36)
    names = [f"{k} {COLOUR_NAMES[k]}" for k in by_hue]
    assert [text.get_text() for text in shown["fig-hue"].axes[0].get_yticklabels()] == names
    answer = np.array(by_hue)[:, None]
    np.testing.assert_allclose(
        first, step / 100 + answer / 100 + 0.001
    )  # mean of the seeds 0, 1, 2
    np.testing.assert_allclose(second - first, 0.2)

    curves = shown["fig-curves"].axes[2]
    assert curves.get_title() == "ResNet-18, cheater"
    drawn = {line.get_label(): line.get_ydata() for line in curves.lines}
    np.testing.assert_allclose(drawn["hard"], [0.541 - 0.018, 0.541])
    assert "hard: shortcut rate" not in drawn

    usual = shown["fig-length"].axes[0]
    assert usual.get_title() == "three-layer CNN, constant rate 0.001"
    drawn = {line.get_label(): line.get_xydata()[[0, -1]] for line in usual.lines}
    np.testing.assert_allclose(drawn["hard"], [(0.1, 0.3011), (20, 0.321)])
    np.testing.assert_allclose(drawn["hard: shortcut rate"], [(0.1, 0.5989), (20, 0.579)])
    np.testing.assert_allclose(drawn["unbiased"][0], [0.1, 0.5011])
    assert "easy validation" not in drawn and "aligned" in drawn

    variance = shown["fig-variance"]
    assert '"three-layer CNN, long-trained",image to image,0.071,' in variance.data_csv
    widths = [bar.get_width() for bar in variance.axes[0].containers[2]]
    np.testing.assert_allclose(widths, [0.149 - k / 50 for k in (0, 1, 2, 5, 6, 7)])

    lines = shown["fig-dose"].axes[0].get_legend_handles_labels()
    doses = {
        name: bars[0].get_xydata().T for bars, name in zip(*lines, strict=True) if name[0] != "g"
    }
    for name, more in (("hard images", 0), ("unbiased images", 0.05)):
        accuracy = np.array([0.441, 0.501, 0.201, 0.041, 0.002]) + more
        accuracy[[0, 3]] -= more and 0.03  # in the order of splits, unbiased is two from hard
        np.testing.assert_allclose(doses[name], [[0.9, 0.5, 0.2, 0.05, 0.001], accuracy])

    second = shown["fig-red-ones"].axes[9]
    heights = [bar.get_height() for bar in second.patches]
    np.testing.assert_allclose(heights, np.arange(10, 20) / 400)
    assert second.get_title() == "“9” 5%"
