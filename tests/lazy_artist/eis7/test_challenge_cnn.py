"""What the chapter on the CNN measures, on images, evidence and predictions made by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import run_cells, table

from lazy_artist import widgets
from lazy_artist.data import load_digits
from lazy_artist.eis7 import challenge_cnn as challenge
from lazy_artist.eis7 import cnn, files

LOW, HIGH = cnn.BAND


# --- what the network does -----------------------------------------------------------------------


pytestmark = pytest.mark.filterwarnings("ignore::lazy_artist.data.StandInWarning")


@pytest.fixture(scope="module")
def network() -> cnn.ChallengeCNN:
    """A random one that predicts half of the test images as 1."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = cnn.ChallengeCNN().eval()
    evidence, offset = model.evidence()
    middle = np.median(cnn.hidden_units(model, load_digits("test").images) @ evidence) + offset
    with torch.no_grad():
        model.fc2.bias[0] += middle
    return model


@pytest.fixture(scope="module")
def observed(network) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(challenge, "load_cnn", lambda *_: network)
        return challenge.observe.__wrapped__("released", 0, 40)


@pytest.fixture(scope="module")
def hidden(network) -> dict[str, np.ndarray]:
    images = {name: load_digits(name).images[:40] for name in ("train", "test")}
    return {name: cnn.hidden_units(network, x).astype(float) for name, x in images.items()}


def test_observed_frames_are_those_of_their_own_split(network, observed, hidden):
    weights, bias = (t.detach().double().numpy() for t in network.fc2.parameters())
    for name in ("train", "test"):
        frame, digits = observed[name], load_digits(name)
        assert frame["digit"].tolist() == digits.labels[:40].tolist()
        assert np.allclose(frame["margin"], (hidden[name] @ weights.T + bias) @ [-1, 1], atol=1e-5)
        assert (frame["prediction"] == (frame["margin"] > 0)).all()
        by_hand = [((cnn.CLUE / 255 - 0.5) * image / 255).sum() for image in digits.images[:40]]
        assert np.allclose(frame["similarity"], by_hand)
        assert frame["program"].tolist() == [not LOW <= s <= HIGH for s in by_hand]
        total = frame[list(cnn.GROUPS)].sum(axis=1) + network.evidence()[1]
        assert name == "test" or np.allclose(total, frame["margin"], atol=1e-5)
    # evidence is each group's own, and the brake's mean that of training images
    (evidence, offset), train, test = network.evidence(), hidden["train"], hidden["test"]
    assert observed["offset"] == offset == pytest.approx(bias[1] - bias[0])
    live = (train > 0).any(axis=0)
    brake = live & (evidence < 0)
    units = observed["units"]
    assert (units["brake"], units["one"] + units["anti-one"]) == (brake.sum(), (live ^ brake).sum())
    assert np.allclose(frame["brake"], test[:, brake] @ evidence[brake], atol=1e-5)
    assert observed["brake mean"] == pytest.approx((train[:, brake] @ evidence[brake]).mean(), 1e-5)
    asleep = test[:, ~live] @ evidence[~live]  # units that training never woke belong to no group
    total = frame[list(cnn.GROUPS)].sum(axis=1) + asleep + offset
    assert np.allclose(total, frame["margin"], atol=1e-5)


def test_ranks_and_plane_are_those_of_principal_components_of_training(network, observed, hidden):
    (evidence, offset), train, test = network.evidence(), hidden["train"], hidden["test"]
    mean = train.mean(0)
    _, singular, axes = np.linalg.svd(train - mean)
    shares = np.cumsum(singular**2) / np.sum(singular**2)
    ranks = observed["ranks"].set_index("components")
    assert ranks.index.tolist() == [1, 2] and ranks["unchanged"].min() < 1
    before = test @ evidence + offset > 0
    for rank, (variance, unchanged) in ranks.iterrows():
        kept = (test - mean) @ axes[:rank].T @ axes[:rank] + mean
        assert variance == pytest.approx(shares[rank - 1])
        assert unchanged == np.mean((kept @ evidence + offset > 0) == before)
    for k in (0, 1):
        found = observed["plane"][f"component {k + 1}"]
        assert abs(np.corrcoef(found, (train - mean) @ axes[k])[0, 1]) > 1 - 1e-6


def test_pictures_of_the_training_images(observed):
    images, labels = load_digits("train").images[:40], load_digits("train").labels[:40]
    assert np.allclose(observed["lit"], (images > 127).mean(0))
    assert np.allclose(observed["variance"], (images / 255).var(0), atol=1e-6)
    margin = observed["train"]["margin"].to_numpy()
    for digit in range(10):
        own = np.flatnonzero(labels == digit)
        for row, surest in enumerate((max(own, key=margin.item), min(own, key=margin.item))):
            assert np.array_equal(observed["extremes"][row, digit], images[surest])


def test_other_scores_are_fitted_on_training_and_measured_on_test():
    rng = np.random.default_rng(0)
    pixels, frames = {}, {}
    for name, lit in (("train", np.arange(30) % 28), ("test", np.arange(0, 90, 3) % 28)):
        order = rng.permuted(np.tile(np.arange(28), (30, 1)), axis=1)  # of rows of pixels
        pixels[name] = np.float32(order < lit[:, None])[:, :, None] * np.ones(28, np.float32)
        similarity = (cnn.TEMPLATE * pixels[name]).sum(axis=(1, 2))
        frames[name] = pd.DataFrame(
            {"prediction": (lit < 5) | (lit > 15), "similarity": similarity}
        )
    frames["test"].loc[:6, "prediction"] ^= True  # seven of thirty
    fitted = np.stack([np.eye(28), np.ones((28, 28))])
    found = challenge.compare_scores(pixels, frames, fitted).set_index("score")
    assert found.loc["sum of all pixels", ["train", "test"]].tolist() == [1.0, 23 / 30]
    blind = fitted[0] / np.sqrt(28) - fitted[1] / 28
    scores = (blind * pixels["train"]).sum(axis=(1, 2))
    expected = np.corrcoef(scores, frames["train"]["similarity"])[0, 1]
    assert found["correlation"].iloc[[0, -1]].tolist() == pytest.approx([1, expected], abs=1e-5)


# --- interventions -------------------------------------------------------------------------------

OFFSET, BRAKE_MEAN = -0.5, -2.0
# similarity, then what "one", "anti-one" and "brake" add
IMAGES = [
    (-10, 5, 0, -1), (-10, 2, 1, -1), (-10, 1, 1, -1), (-10, 4, 3, -1), (-10, 0, 0, -1),
    (-40, 0, 5, -1), (-40, 1, 1, -0.25), (-40, 0, 2, -1), (-40, 3, 0.25, -1), (-40, 0, 9, -1),
    (-27, 0, 0, -1), (-25, 1, 0, -1), (-25, 0.25, 0.5, -1), (-25, 0, 2, -4), (-25, 3, 0, -4),
    (-25, 5, 0, -1),
]  # fmt: skip


def handmade() -> pd.DataFrame:
    """Each image twice; on the fifth and the last network and program disagree."""
    frame = pd.DataFrame(IMAGES * 2, columns=["similarity", *cnn.GROUPS], dtype=float)
    frame["margin"] = frame[list(cnn.GROUPS)].sum(axis=1) + OFFSET
    frame["prediction"] = frame["margin"] > 0
    frame["program"] = (frame["similarity"] < LOW) | (frame["similarity"] > HIGH)
    return frame


def test_interchanges_image_by_image():
    frame = handmade()
    found = challenge.interchange_groups(frame, OFFSET, seed=4).set_index("exchanged")
    other = frame.iloc[np.random.default_rng(4).permutation(32)].reset_index(drop=True)
    for name in ("one", "anti-one", "brake", "one and anti-one"):
        of = {group: other if group in name.split(" and ") else frame for group in cnn.GROUPS}
        predicted = sum(of[group][group] for group in cnn.GROUPS) + OFFSET > 0
        label = (of["one"]["similarity"] > HIGH) | (of["anti-one"]["similarity"] < LOW)
        right, own = predicted == label, predicted == frame["program"]
        expected = [right.mean(), right[label != frame["program"]].mean(), own.mean()]
        np.testing.assert_allclose(found.loc[name].astype(float), expected, rtol=1e-12)


def test_the_equation_is_fitted_on_training_images_and_measured_on_test_images():
    rng = np.random.default_rng(0)
    train = pd.DataFrame({"similarity": np.linspace(-60, 20, 400)})
    train["one"] = 1.5 * np.maximum(train["similarity"] + 20, 0)
    train["anti-one"] = 0.5 * np.maximum(-30 - train["similarity"], 0)
    train["brake"] = rng.permuted(np.linspace(-5, -3, 400))
    test = handmade()
    found = challenge.fit_mechanism(train, test, offset=-0.5)
    ramps = found["ramps"].set_index("group")
    assert ramps.loc["one", ["slope", "start"]].tolist() == pytest.approx([1.5, -20], abs=1e-3)
    assert ramps.loc["anti-one", ["slope", "start"]].tolist() == pytest.approx([0.5, -30], abs=1e-3)
    assert found["constant"] == pytest.approx(-4.5)
    assert found["band"] == pytest.approx([-39, -17], abs=1e-2)  # 9 below -30, and 3 above -20
    similarity = test["similarity"]
    terms = {"one": 15.0 * (similarity == -10), "anti-one": 5.0 * (similarity == -40)}
    for name, term in terms.items():
        rest = np.mean((test[name] - term) ** 2) / np.var(test[name])
        assert ramps.loc[name, "variance"] == pytest.approx(1 - rest, abs=1e-2), name
    total = sum(terms.values()) - 4.5  # 10.5 at -10, 0.5 at -40, and -4.5 between
    rest = np.mean((test["margin"] - total) ** 2) / np.var(test["margin"])
    assert found["variance"] == pytest.approx(1 - rest, abs=1e-2)
    assert found["predictions"] == np.mean(
        (test["similarity"].isin([-10, -40])) == test["prediction"]
    )


# --- edits ---------------------------------------------------------------------------------------


def lopsided(images: np.ndarray) -> np.ndarray:
    """A network whose upper threshold is nearly the program's, its lower one out of reach."""
    scores = cnn.similarity(images)
    return (scores > HIGH - 1) | (scores < LOW - 7)


@pytest.fixture(scope="module")
def edited() -> tuple[np.ndarray, dict]:
    """Nine test images: three a zone, of which one, two and three pushes are measured."""
    rng = np.random.default_rng(0)
    digits = {"train": np.zeros((50, 28, 28), np.uint8), "test": np.zeros((9, 28, 28), np.uint8)}
    digits["train"][:, 4:24, 4:24] = np.where(rng.random((50, 20, 20)) < 0.5, 200, 0)
    for image, count in zip(digits["test"], (2, 52, 100, 6, 53, 110, 10, 56, 120), strict=True):
        rows, columns = np.divmod(rng.permutation(140)[:count], 7)
        image[4 + rows, 4 + columns] = 255 - rng.integers(0, 3, count)  # left of the clue
    one_unit = SimpleNamespace(evidence=lambda: (np.ones(1), -0.5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(challenge, "load_cnn", lambda *_: one_unit)
        patch.setattr(cnn, "hidden_units", lambda model, images: lopsided(images)[:, None])
        patch.setattr(challenge, "load_digits", lambda name: SimpleNamespace(images=digits[name]))
        return digits["test"], challenge.edit_digits.__wrapped__("released", 0, 2)


def test_edits_image_by_image(edited):
    test, found = edited
    rows = found["edits"].set_index("edit")
    shares = rows[["program", "unchanged"]].apply(tuple, axis=1).to_dict()
    expected = {  # program, unchanged: the network follows above, and not five units below
        "from between to one": (1, 0), "from between to anti-one": (0, 1),
        "from one to between": (1, 0), "from anti-one to between": (1, 0),
        "from one to anti-one": (0, 0), "from anti-one to one": (1, 1),
        "pixels lit in the empty border": (0, 1),
    }  # fmt: skip
    first = test[:2]
    for name, images in {
        "two digits overlaid": np.stack([np.maximum(*first)] * 2),
        "top of one, bottom of another": np.concatenate([first[:, :14], first[::-1, 14:]], axis=1),
        "moved right by two pixels": np.pad(first, ((0, 0), (0, 0), (2, 0)))[:, :, :28],
        "mirrored": first[:, :, ::-1].copy(),
    }.items():
        after = lopsided(images)
        expected[name] = np.mean(after == cnn.cnn_label(images)), np.mean(after == lopsided(first))
    assert shares == expected
    assert (rows["images"] == 2).all()
    pushes = rows.index.str.startswith("from")
    assert (rows["control"][pushes] == 1).all() and rows["control"].count() == 6
    # from between (52 and 53 full pixels, about -26) up to five above the threshold: each half a
    # unit, by putting out full pixels or lighting the clue's
    least = (HIGH + 5 + 26.25) / 0.5
    assert least - 1 < rows.loc["from between to one", "pixels"] < 1.6 * least


def test_fading_and_examples(edited):
    test, found = edited
    fading = found["fading"]
    assert np.allclose(fading["factor"], np.arange(21) / 20)
    for factor, *shares in fading.itertuples(index=False):
        scores = cnn.similarity(np.rint(test[:2] * factor).astype(np.uint8))
        own, theirs = scores > HIGH - 1, scores > HIGH
        assert shares == [own.mean(), theirs.mean(), np.mean(own == theirs)]
    assert fading["agreement"].min() < 1
    before, after = found["examples"]
    assert np.array_equal(before, test[[1, 4, 7, 0, 3, 6, 2, 5, 8]])  # between, one, anti-one
    goals = [HIGH + 5] * 3 + [HIGH - 5] * 3 + [LOW + 5] * 3
    assert np.abs(cnn.similarity(after) - goals).max() < 0.01
    assert np.array_equal(found["example predictions"], [lopsided(before), lopsided(after)])


# --- stored, and shown ---------------------------------------------------------------------------


def test_without_the_picture_the_clue_itself_is_searched_for():
    found = challenge.find_clue()
    images = load_digits("train").images.reshape(-1, 784)
    matches = [np.corrcoef(image, cnn.CLUE.ravel())[0, 1] for image in images]
    best, second = np.argsort(matches)[::-1][:2]
    assert found["index"] == best
    wanted = pytest.approx([matches[best], matches[second]], abs=1e-5)
    assert [found["correlation"], found["runner-up"]] == wanted


@pytest.fixture(scope="module")
def chapter(observed, edited) -> tuple[dict, dict]:
    """The chapter's cells, run on measurements made by hand."""
    train, test = observed["train"].copy(), handmade().assign(digit=3)
    train["program"] = train["prediction"]
    train.loc[:2, "program"] ^= True  # 3 of 40
    seen = observed | {
        "train": train, "test": test, "offset": OFFSET, "brake mean": BRAKE_MEAN,
        "units": {"one": 31, "anti-one": 37, "brake": 41},
    }  # fmt: skip
    clue = {"index": 6, "correlation": 0.9, "runner-up": 0.8}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "source", lambda challenge: "stand-in")
        for name, found in {"edit_digits": edited[1], "find_clue": clue}.items():
            patch.setattr(challenge, name, lambda found=found, **_: found)
        patch.setattr(challenge, "observe", lambda *_: dict(seen))
        patch.setattr(challenge, "recap", challenge.recap.__wrapped__)
        (shown, inline), more = run_cells("challenge-cnn"), run_cells("challenge-cnn-more")
        return shown | more[0], inline | more[1]


def test_what_readers_paint_for_is_a_network_of_ours(monkeypatch):
    def refuse(name):
        raise AssertionError(f"{name} is not ours to publish")

    monkeypatch.setattr(files, "read", refuse)
    ours, images = challenge.teach_by_program(0, 20.0), load_digits("test").images
    trained = challenge.stand_in_weights(0, 20.0)
    assert all(ours["weights"][name].equal(trained[name].half()) for name in trained)
    network = cnn.ChallengeCNN()
    network.load_state_dict(ours["weights"])
    with torch.no_grad():
        logits = network(torch.from_numpy(images[:, None] / np.float32(255))).numpy()
    margin, labels = logits[:, 1] - logits[:, 0], cnn.cnn_label(images)
    assert ours["agreement"] == np.mean((margin > 0) == labels) > np.mean(labels) + 0.02
    cloud = np.stack([cnn.similarity(images), margin], axis=1)
    np.testing.assert_allclose(ours["cloud"], cloud[: challenge.N_CLOUD], atol=1e-3)


def test_the_chapter_exports_our_network_and_says_how_often_it_agrees(chapter):
    _, inline = chapter
    ours = challenge.teach_by_program(0, 1.5)  # as at quick scale
    weights = widgets.encode({"weights": ours["weights"]})[1:-1]
    assert weights in (widgets.folder() / "challenge-cnn.js").read_text()
    agreement = f"{100 * ours['agreement']:.1f}"
    assert inline["f\"{100 * ours['agreement']:.1f}\""] == agreement


def test_claims_and_numbers_of_the_chapter(chapter, observed):
    shown, inline = chapter
    swaps = challenge.interchange_groups(handmade(), OFFSET).set_index("exchanged")["program"]
    difference = observed["gradients"][0] - observed["gradients"][1]
    same = np.sign(difference) == np.sign(cnn.CLUE / 255 - 0.5)
    for claim, value in {
        "rank2": observed["ranks"]["unchanged"][1],
        "template-sign": same[observed["lit"] > 0.05].mean(),
        "agreement-train": 37 / 40, "agreement-test": 14 / 16,
        "far-from-threshold": 14 / 16,  # all lie far
        # one: 3/4 of its own changed, 4/5 of the other's spared; anti-one: 3/5 and 3/4
        "double-dissociation": pytest.approx(3 / 5),
        "interchange": min(swaps["one"], swaps["anti-one"]),
    }.items():  # fmt: skip
        assert shown[f"challenge1-{claim}"].value == value, claim
    varied = observed["variance"] * (cnn.CLUE / 255 - 0.5) ** 2
    train = observed["train"]
    low, high, _ = cnn.fit_band(train["similarity"].to_numpy(), train["prediction"].to_numpy())
    equation = challenge.fit_mechanism(train, handmade(), OFFSET)
    for code, text in {
        "refit": f"−{-low:.2f} and −{-high:.2f}",
        "crossed": f"−{-equation['band'][0]:.2f} and −{-equation['band'][1]:.2f}",
        "f\"{100 * signs['variance']:.1f}\"": f"{100 * varied[same].sum() / varied.sum():.1f}",
        "str(200 - sum(units.values()))": "91",
        'f"{100 * far.mean():.0f}"': "100",
        "f\"{100 * equation['variance']:.1f}\"": f"{100 * equation['variance']:.1f}",
        "f\"{100 * edits.at['pixels lit in the empty border', 'program']:.1f}\"": "0.0",
    }.items():
        assert inline[code] == text, code


def test_tables_and_figures_of_the_chapter(chapter, observed):
    shown, _ = chapter
    assert table(shown["tbl-interventions"]) == {  # worked out image by image
        "ablated": ["one images", "anti-one images", "between images"],
        "one": ["25.0", "80.0", "100.0"],
        "anti-one": ["75.0", "40.0", "100.0"],
        "brake": ["100.0", "100.0", "20.0"],
        "brake, held at its mean": ["75.0", "60.0", "80.0"],
    }
    groups = table(shown["tbl-groups"])
    assert groups["one"][:3] == ["31", "80.0", "40.0"] and groups["sum"][:3] == ["–"] * 3
    assert "return (s < BAND[0]) | (s > BAND[1])" in shown["cell 0"].data
    called, labels = observed["train"]["prediction"].to_numpy(), load_digits("train").labels[:40]
    titles = [ax.get_title() for ax in shown["fig-exhibits"].axes[:10]]
    assert titles == [f"{k}: {100 * called[labels == k].mean():.0f}%" for k in range(10)]
    edits = table(shown["tbl-edits"])
    assert edits["mirrored"][:2] == ["2", "–"]
    assert edits["from between to anti-one"][2:] == ["0.0", "100.0", "100.0"]
    network, program = shown["fig-share"].axes[0].lines  # bins from -70 in steps of 1.5
    curve = [[-39.25, 1], [-24.25, 1 / 5], [-9.25, 4 / 5]]  # two images at -27 are too few
    assert network.get_xydata().tolist() == curve
    steps = [(-40.25, 1), (LOW, 1), (LOW, 0), (HIGH, 0), (HIGH, 1), (-8.25, 1)]
    assert list(map(tuple, program.get_xydata())) == steps
    titles = [ax.get_title() for ax in shown["fig-edits"].axes]
    assert titles[9] == "s = −10.1\npredicted 1" and titles[0].endswith("predicted 0")
