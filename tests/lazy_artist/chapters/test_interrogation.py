"""Chapter 4's measurements, on networks whose maps one can work out, and its cells on values made
by hand."""

import io
import itertools
import zlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import run_cells, table
from scipy.special import softmax
from scipy.stats import spearmanr
from torch import nn

from lazy_artist.canvas import Split, assign_colours, paint, split_digits
from lazy_artist.chapters import interrogation
from lazy_artist.chapters.interrogation import matched_pairs, numerical_grad_cam
from lazy_artist.config import NO_BIAS, TEST_SEED
from lazy_artist.evaluate import Estimate, balanced, estimate, percent, predict
from lazy_artist.faithfulness import area_under, deletion_curve, randomise
from lazy_artist.gradcam import grad_cam, upsample
from lazy_artist.models import build
from lazy_artist.networks import Network, network
from lazy_artist.plots import plus_minus
from lazy_artist.store import stored
from lazy_artist.training import train

EACH = 2  # images of each digit


class Reader(nn.Module):
    """Logits that are weights times the image's mean R, G and B; its maps are means of patches:
    block1 (N, 3, 14, 14), block3 (N, 3, 7, 7). So Grad-CAM of block3 is ReLU(w . A) / 49."""

    def __init__(self, weights: np.ndarray):
        super().__init__()
        self.block1, self.block3 = nn.AvgPool2d(2), nn.AvgPool2d(2)
        self.head = nn.Linear(3, len(weights), bias=False)
        self.head.weight.data = torch.tensor(weights, dtype=torch.float32)

    def forward(self, images):
        return self.head(self.block3(self.block1(images)).mean((2, 3)))


WEIGHTS = np.random.default_rng(3).normal(0, 4, (10, 3)) - [[1.0, 2.0, 1.5]]
READER = Reader(WEIGHTS).eval()


def maps_of(images: np.ndarray, classes: np.ndarray, patch: int) -> np.ndarray:
    """Grad-CAM of the `READER`, worked out: a_k = w_ck / places at every place."""
    side = 28 // patch
    means = images.reshape(-1, 3, side, patch, side, patch).mean((3, 5))
    return np.maximum(np.einsum("nk,nkhw->nhw", WEIGHTS[classes], means) / side**2, 0)


def handle(model: nn.Module = READER, name: str = "oracle", seed: int = 1) -> SimpleNamespace:
    return SimpleNamespace(name=name, seed=seed, arch="cnn", load=lambda: model.eval())


@pytest.fixture
def asked() -> SimpleNamespace:
    """What every measurement looks at, in uninformative and in own colours, and the predictions of
    the `READER`."""
    grey, labels = balanced(*split_digits("hard"), EACH)
    colours = assign_colours(labels, NO_BIAS, TEST_SEED)
    images, own = (paint(grey, ids, TEST_SEED) for ids in (colours, labels))
    predictions = (images.mean((2, 3)) @ WEIGHTS.T).argmax(1)
    return SimpleNamespace(
        grey=grey, labels=labels, colours=colours, images=images, own=own, predictions=predictions
    )


def test_pairs_change_one_thing_at_a_time_and_equally_much(asked):
    before, recolour, reshape, both = matched_pairs(EACH)
    grey, colours, (pool, pool_labels) = asked.grey, asked.colours, split_digits("hard")
    np.testing.assert_array_equal(before, asked.images)
    # recolour: some other colour on the same digit and background
    painted = np.stack([paint(grey, 0 * colours + k, TEST_SEED) for k in range(10)])
    same = (painted == recolour).all((2, 3, 4))  # (10, N)
    new_colour = same.argmax(0)
    assert (same.sum(0) == 1).all() and (new_colour != colours).all()
    # reshape: some other test digit in the same colour, on the same background
    background = paint(0 * grey, colours, TEST_SEED)
    reach = paint(np.full_like(grey, 255), colours, TEST_SEED)[:, :, :1, :1] - background
    alpha = 255 * ((reshape - background) * reach).sum(1) / np.square(reach).sum(1)  # (N, 28, 28)
    distance = np.abs(alpha[:, None] - pool[None]).max((2, 3))
    partner = distance.argmin(1)
    assert distance.min(1).max() < 0.1 and (pool_labels[partner] != asked.labels).all()
    np.testing.assert_array_equal(both, paint(pool[partner], new_colour, TEST_SEED))
    sizes = [np.sqrt(np.square(after - before).sum((1, 2, 3))) for after in (recolour, reshape)]
    assert np.mean(np.abs(sizes[1] / sizes[0] - 1) <= 0.05) > 0.8


def test_how_far_a_colour_reader_moves(monkeypatch):
    """Its logits are the means of R, G and B, its maps those of patches of flat images."""

    def flat(*colours):
        return np.array(colours, np.float32)[:, :, None, None].repeat(28, 2).repeat(28, 3)

    def moved(weights):
        return interrogation.measure_changes.__wrapped__(handle(Reader(weights)), EACH)["changes"]

    pairs = [
        flat((0.8, 0.2, 0.0), (0.1, 0.5, 0.0)), flat((0.2, 0.8, 0.0), (0.1, 0.5, 0.4)),
        flat((0.4, 0.2, 0.0), (0.5, 0.1, 0.0)), flat((0.0, 0.0, 0.0), (0.1, 0.5, 0.1)),
    ]  # fmt: skip
    monkeypatch.setattr(interrogation, "matched_pairs", lambda n_per_class: pairs)
    found = moved(np.eye(3))
    assert list(found["change"]) == ["recolour", "reshape", "both"]
    # classes: 0, 1 before; 1, 1 recoloured; 0, 0 reshaped; 0 (of equals the first), 1 both
    np.testing.assert_array_equal(found["predictions"], [0.5, 0.5, 0])
    # what is added to R, G and B, and its length; without its mean over classes
    added = np.array([after[:, :, 0, 0] - pairs[0][:, :, 0, 0] for after in pairs[1:]])
    length = np.sqrt(np.square(added).sum(2)) * 28  # (changes, images)
    np.testing.assert_allclose(found["size"], length.mean(1), rtol=1e-5)
    centred = np.sqrt(np.square(added).sum(2) - np.square(added.sum(2)) / 3).mean(1)
    np.testing.assert_allclose(found["logits"], centred / centred[2], rtol=1e-5)
    # maps of class 0 are those of R: .8 against .2, .4, 0; of class 1 those of G: .5, .5, .1, .5
    first, second = (0.6 / 1, 0.4 / 1.2, 1), (0, 0.4 / 0.6, 0)
    np.testing.assert_allclose(found["map"], np.mean([first, second], 0), rtol=1e-5)
    for red, share in ((0.17, 0.5), (0.12, 0)):  # by 1.03 or 1.07 as far as (.2, .8, 0)
        pairs[2][0] = flat((red, 0.8, 0.0))[0]
        assert list(moved(np.eye(3))["matched"]) == [share] * 3
    # maps that are blank before and after have not moved
    assert list(moved(-np.eye(3))["map"]) == [0, 0, 0]


def test_chroma_reliance_is_of_test_digits_and_the_predicted_class(asked):
    found = interrogation.measure_changes.__wrapped__(handle(), EACH)
    recoloured = (matched_pairs(EACH)[1].mean((2, 3)) @ WEIGHTS.T).argmax(1)
    assert 0 < found["changes"]["predictions"][0] == np.mean(asked.predictions != recoloured)
    direction = WEIGHTS[asked.predictions] - WEIGHTS.mean(0)  # the gradient, alike at every pixel
    share = 1 - direction.sum(1) ** 2 / 3 / np.square(direction).sum(1)
    np.testing.assert_allclose(found["chroma"], share, rtol=1e-4)


def test_where_the_attribution_lies(asked):
    stroke, (train_grey, train_labels) = asked.grey > 127.5, split_digits("train")
    means = np.array([train_grey[train_labels == digit].mean(0) for digit in range(10)])
    part = np.zeros_like(stroke)
    for i, label in enumerate(asked.labels):
        distance = [np.square(asked.grey[i] - mean).sum() for mean in means]
        distance[label] = np.inf
        part[i] = stroke[i] & (means[np.argmin(distance)] < means[label] / 2)
    masks = np.stack([stroke, ~stroke, part])  # (parts, N, 28, 28)
    found = interrogation.measure_attribution.__wrapped__(handle(), EACH)
    for layer, patch in (("block3", 4), ("block1", 2)):
        maps = upsample(maps_of(asked.images, asked.predictions, patch)).astype(float)
        shares = ((maps * masks).sum((2, 3)) / maps.sum((1, 2))).mean(1)
        dense = shares / masks.mean((1, 2, 3))
        rows = found[found["layer"] == layer].set_index("part")
        assert list(rows.index) == ["stroke", "background", "discriminative parts"]
        np.testing.assert_allclose(rows["attribution"], shares, rtol=1e-4)
        np.testing.assert_allclose(rows["area"], masks.mean((1, 2, 3)))
        np.testing.assert_allclose(rows["density"], dense / dense[0], rtol=1e-4)
    # 5; pooling adds 2 * 2, and each of two convolutions on every fourth pixel 2 * 4
    assert interrogation.field_of_view() == (4, 5 + 4 + 8 + 8)


def test_digits_are_moved_by_whole_pixels_and_lose_what_leaves():
    grey = np.random.default_rng(1).integers(1, 256, (200, 28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(interrogation.move_digits(grey, 0), grey)
    moved, steps = interrogation.move_digits(grey, 3), set()
    for before, after in zip(grey, moved, strict=True):
        rows, columns = np.flatnonzero(after.any(1)), np.flatnonzero(after.any(0))
        down, right = (int(28 - len(c) if c[0] else len(c) - 28) for c in (rows, columns))
        whole = np.roll(before, (down, right), (0, 1))
        whole[: max(down, 0)], whole[:, : max(right, 0)] = 0, 0
        whole[28 + min(down, 0) :], whole[:, 28 + min(right, 0) :] = 0, 0
        np.testing.assert_array_equal(after, whole)
        steps.add((down, right))
    assert {d for d, _ in steps} == {r for _, r in steps} == set(range(-3, 4))
    assert len(steps) > 40 and moved.dtype == np.uint8


def test_deletion_and_insertion_by_every_map(asked, monkeypatch):
    monkeypatch.setattr(interrogation, "PATH", 3)  # the reader is linear: any number will do
    row, n = np.square(((np.arange(7) + 0.5) / 7 - 0.5) * 4), len(asked.grey)
    for reach, measures in ((0, ["deletion"]), (4, ["insertion", "deletion"])):
        grey = interrogation.move_digits(asked.grey, reach)
        images, bare = (paint(part, asked.colours, TEST_SEED) for part in (grey, 0 * grey))
        predictions = (images.mean((2, 3)) @ WEIGHTS.T).argmax(1)
        slopes = WEIGHTS[predictions] / 784  # of the logit, at every pixel
        added = (images - bare) * slopes[:, :, None, None]  # (N, 3, 28, 28)
        maps = {
            "integrated gradients": added.sum(1).astype(np.float32),
            "Grad-CAM": maps_of(images, predictions, 4).astype(np.float32),
            "the stroke itself": grey / 255,
            "centre blob": np.exp(-(row[:, None] + row) / 2)[None].repeat(n, 0),
            "random": np.random.default_rng(TEST_SEED).random((n, 7, 7), dtype=np.float32),
        }
        given, rest = (READER, images, predictions), (bare, 4, TEST_SEED)
        task = {"measures": measures, "reach": reach, "n_per_class": EACH, "steps": 4}
        found = interrogation.delete_and_insert.__wrapped__(handle(), **task)
        for measure in measures:
            insert = measure == "insertion"
            expected = [deletion_curve(*given, by, *rest, insert) for by in maps.values()]
            curves, areas = (
                found[name][found[name]["measure"] == measure] for name in ("curves", "areas")
            )
            assert list(areas["map"]) == list(maps) == list(curves["map"].unique())
            assert set(curves["network"]) == {"oracle"} and set(areas["seed"]) == {1}
            assert set(curves["reach"]) == set(areas["reach"]) == {reach}
            assert list(curves["pixels"][:5]) == [0, 0.25, 0.5, 0.75, 1]
            np.testing.assert_allclose(curves["probability"], np.mean(expected, 1).ravel(), 1e-3)
            expected = [area_under(curve).mean() for curve in expected]
            np.testing.assert_allclose(areas["area"], expected, 1e-3)
        assert list(found["areas"]["measure"].unique()) == measures
        told = found["asked"].iloc[0]
        assert (told["network"], told["reach"]) == ("oracle", reach)
        assert told["kept"] == pytest.approx(grey.sum() / asked.grey.sum())
        assert told["same"] == np.mean(predictions == asked.predictions)
        change = images - bare
        off_grey = change - change.mean(1, keepdims=True)
        chroma = (off_grey * slopes[:, :, None, None]).sum() / added.sum()
        assert told["chroma"] == pytest.approx(chroma, rel=1e-3)
        assert told["even"] == pytest.approx(np.square(off_grey).sum() / np.square(change).sum())
        assert told["gap"] < 1e-4
    path_gradient, gains = interrogation.gradcam.path_gradient, added.sum((1, 2, 3))
    wrong = np.where(np.arange(n) % 2, 1.25, 1)[:, None, None, None]
    monkeypatch.setattr(
        interrogation.gradcam, "path_gradient", lambda *given: wrong * path_gradient(*given)
    )
    told = interrogation.delete_and_insert.__wrapped__(handle(), ["deletion"], 4, EACH, 4)["asked"]
    expected = np.abs(gains[1::2]).sum() / 4 / gains.sum()
    assert told["gap"][0] == pytest.approx(expected, rel=1e-3)


def test_memorising_is_judged_on_the_shuffled_labels(asked):
    recipe = {"epochs": 15, "learning_rate": 4e-3, "batch_size": 10}
    found = interrogation.memorise_labels.__wrapped__(3, 20, recipe, EACH)
    grey, labels = (part[:20] for part in split_digits("train"))
    colours = assign_colours(labels, NO_BIAS, 3)
    shuffled = np.random.default_rng(3).permutation(labels)
    model, images = build("cnn", 3), paint(grey, colours, 3)
    train(model, Split(images, shuffled, colours), seed=3, weight_decay=0, **recipe)
    predictions = predict(model, images).argmax(1)
    assert found["accuracy"] == np.mean(predictions == shuffled) > np.mean(predictions == labels)
    maps = grad_cam(model, "block3", asked.own, asked.labels)
    np.testing.assert_array_equal(found["maps"], maps)


def test_maps_are_held_against_those_of_other_networks_and_images(monkeypatch, asked):
    model, other, count = build("cnn", 4).eval(), build("cnn", 5).eval(), len(asked.grey)

    def maps(network):
        return grad_cam(network, "block3", asked.own, asked.labels).reshape(count, -1)

    own, order = maps(model), ["head", "block3", "block2", "block1"]
    memorised = np.random.default_rng(0).random((count, 7, 7), dtype=np.float32)
    memorised[::3] = 0
    expected = {order[k]: maps(randomise(model, order[: k + 1], 6)) for k in range(4)}
    expected["another image"] = own[[(i + count // 2) % count for i in range(count)]]
    expected["retrained"], expected["memorised"] = maps(other), memorised.reshape(count, -1)
    monkeypatch.setattr(interrogation, "memorise_labels", lambda maps: {"maps": maps})
    given = (handle(model, seed=6), handle(other), {"maps": memorised})
    found = interrogation.saliency_sanity.__wrapped__(*given, EACH)
    assert list(found["against"]) == list(expected) and set(found["seed"]) == {6}
    for (_, row), maps_b in zip(found.iterrows(), expected.values(), strict=True):
        pairs = [(a, b) for a, b in zip(own, maps_b, strict=True) if np.ptp(a) and np.ptp(b)]
        assert row["blank"] == pytest.approx(1 - len(pairs) / count)
        mean = np.mean([spearmanr(a, b).statistic for a, b in pairs])
        assert row["correlation"] == pytest.approx(mean, abs=1e-9)
    assert found["correlation"].nunique() == 7 and found["blank"].iloc[-1] > 0.3
    given = (handle(model), handle(model), {"maps": 0 * memorised})
    found = interrogation.saliency_sanity.__wrapped__(*given, EACH)
    assert found.iloc[-1][["correlation", "blank"]].to_list() == [0, 1]


def test_finite_differences_and_the_errors_that_are_told(asked, monkeypatch):
    """Errors are absolute, or relative to the largest value of the map."""
    images, classes, model = asked.images[::5], asked.predictions[::5], build("cnn", 4).eval()
    found = numerical_grad_cam(READER, "block3", images, classes)
    np.testing.assert_allclose(found, maps_of(images, classes, 4), atol=1e-6)
    assert found.dtype == np.float64 and READER.head.weight.dtype == torch.float32
    maps = grad_cam(model, "block1", images, classes)  # gradients differ from place to place
    found = numerical_grad_cam(model, "block1", images, classes)
    np.testing.assert_allclose(maps, found, atol=1e-5 * found.max())
    monkeypatch.setattr(interrogation, "numerical_grad_cam", lambda *given: 1.5 * grad_cam(*given))
    for scale in (0.01, 10_000):
        model.head.weight.data *= scale
        largest = grad_cam(model, "block3", asked.images, asked.labels).max()
        found = interrogation.compare_references.__wrapped__(handle(model), ["block3"], EACH)
        assert list(found["reference"]) == ["finite differences", "CAM"]
        expected = 0.5 * largest / min(1, 1.5 * largest)
        np.testing.assert_allclose(found["error"][0], expected, rtol=1e-5)
        assert found["error"][1] < 1e-5 * max(1, largest)


def test_pictures_ask_for_the_predicted_class(asked):
    """The first seven in blue and the first zero in green."""
    found = interrogation.attribution_maps.__wrapped__(handle(), [7, 0], [2, 1])
    grey, colours = asked.grey[[7 * EACH, 0]], np.array([2, 1])
    images, bare = (paint(each, colours, TEST_SEED) for each in (grey, 0 * grey))
    np.testing.assert_array_equal(found["images"], images)
    logits = images.mean((2, 3)) @ WEIGHTS.T
    predicted = logits.argmax(1)
    np.testing.assert_array_equal(found["predicted"], predicted)
    np.testing.assert_allclose(found["probability"], softmax(logits, 1).max(1), rtol=1e-4)
    np.testing.assert_allclose(found["Grad-CAM"], maps_of(images, predicted, 4), atol=1e-6)
    parts = np.einsum("nchw,nc->nhw", images - bare, WEIGHTS[predicted]) / 784
    np.testing.assert_allclose(found["integrated gradients"], parts, atol=1e-6)
    found = interrogation.gradient_parts.__wrapped__(handle(), 7, 2)
    image = paint(asked.grey[[7 * EACH]], np.array([2]), TEST_SEED)
    np.testing.assert_array_equal(found["image"], image[0])
    direction = WEIGHTS[(image.mean((2, 3)) @ WEIGHTS.T).argmax()] - WEIGHTS.mean(0)
    share = direction.sum() ** 2 / 3 / np.square(direction).sum()  # the same at all 784 pixels
    np.testing.assert_allclose(found["energy"][0], share / 784, rtol=1e-3)
    np.testing.assert_allclose(found["energy"][1], (1 - share) / 784, rtol=1e-3)


# --- the chapter's cells -------------------------------------------------------------------------

KINDS, TESTED = ("cheater", "cure", "oracle"), ("cheater", "oracle")
MEASURES, LAYERS = ("deletion", "insertion"), ("block3", "block1")
CASCADE, CHANGES = interrogation.CASCADE, interrogation.CHANGES
MAPS, PARTS = interrogation.MAPS, interrogation.PARTS
OTHERS = ("retrained", "another image", "memorised")
IG, CAM, STROKE, BLOB, NOISE = MAPS


def made(*key) -> float:
    """A value in [0.1, 0.9] of its own for each key, but that the oracle's Grad-CAM has clearly
    less area under its curves than the blob."""
    shift = 2 * (BLOB in key) if key[:2] == ("area", "oracle") else 0
    return 0.1 + shift + 0.8 * np.random.default_rng(zlib.crc32(repr(key).encode())).random()


def of_seeds(*key) -> np.ndarray:
    return np.array([made(*key, seed) for seed in range(3)])


def spread(*key, bounds=(0, 1)) -> Estimate:
    return estimate(of_seeds(*key), bounds)


def framed(network, values: str, **axes) -> pd.DataFrame:
    """A row for each combination of the axes; each value is `made` of its name, the network, the
    row's keys and the seed."""
    rows = []
    for key in itertools.product(*axes.values()):
        row = {"network": network.name, "seed": network.seed} | dict(zip(axes, key, strict=True))
        row |= {name: made(name, network.name, *key, network.seed) for name in values.split()}
        rows.append(row)
    return pd.DataFrame(rows)


def map_by_hand(function, calls):
    name = function.__name__
    assert {call["n_per_class"] for call in calls} == {1 if name == "compare_references" else 30}
    return [by_hand(name, **call) for call in calls]


def by_hand(
    name, network=None, steps=28, seed=0, layers=(), retrained=None, memorised=None, measures=(),
    reach=0, **_,
):  # fmt: skip
    match name:
        case "memorise_labels":
            return {"maps": np.full((2, 7, 7), seed), "accuracy": made("accuracy", seed)}
        case "measure_changes":
            chroma = np.array([made("chroma", network.name, i, network.seed) for i in range(4)])
            values = "predictions logits map size matched"
            return {"changes": framed(network, values, change=CHANGES), "chroma": chroma}
        case "measure_attribution":
            return framed(network, "attribution density area", layer=LAYERS, part=PARTS)
        case "compare_references":
            found = framed(network, "error", reference=["finite differences"], layer=layers)
            cam = ["block3"] * (network.arch == "cnn")
            return pd.concat([found, framed(network, "error", reference=["CAM"], layer=cam)])
        case "delete_and_insert":
            assert steps == 28 and tuple(measures) == {4: MEASURES, 0: MEASURES[:1]}[reach]
            axes = {"measure": measures, "map": MAPS, "reach": [reach]}
            return {
                "areas": framed(network, "area", **axes),
                "curves": framed(network, "probability", **axes, pixels=(0.0, 0.5, 1.0)),
                "asked": framed(network, "kept same chroma even gap", reach=[reach]),
            }
    assert retrained.name == network.name and retrained.seed == (network.seed + 1) % 3
    assert memorised["seed"] == network.seed
    return framed(network, "correlation blank", against=(*CASCADE, *OTHERS))


def reader(network) -> Reader:
    """In the place of each network: logits that differ by network."""
    return Reader(WEIGHTS * (0.5 + KINDS.index(network.name))).eval()


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZY_ARTIST_CACHE", str(tmp_path_factory.mktemp("chapter")))
        patch.setenv("LAZY_ARTIST_SCALE", "full")
        patch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1500")
        patch.setattr(stored, "map", map_by_hand)
        patch.setattr(Network, "load", reader)
        for function in (interrogation.attribution_maps, interrogation.gradient_parts):
            patch.setattr(interrogation, function.__name__, function.__wrapped__)
        parts = [run_cells(name) for name in ("interrogation", "interrogation-more")]
        return [parts[0][k] | parts[1][k] for k in (0, 1)]


def area(kind: str, by: str, reach: int = 4) -> np.ndarray:
    """Of deletion, by seed."""
    return of_seeds("area", kind, "deletion", by, reach)


def test_claims_are_of_differences_seed_by_seed(chapter):
    """Of the worse of two networks, by the end of its interval."""
    more, chroma, knows = {}, {}, {}
    for kind in KINDS:
        recolour, reshape = (of_seeds("predictions", kind, change) for change in CHANGES[:2])
        more[kind] = recolour - reshape
        chroma[kind] = np.mean([of_seeds("chroma", kind, i) for i in range(4)], axis=0)
        knows[kind] = area(kind, STROKE) - area(kind, IG)
    random, memorised = (
        [of_seeds("correlation", kind, by) for kind in TESTED] for by in ("block1", "memorised")
    )
    centred = [area(kind, IG, by) - area(kind, BLOB, by) for kind in TESTED for by in (0, 4)]
    for id, gaps, criterion in (
        ("gradcam-recolour-moves-cheater", [more["cheater"]], (">", 0)),
        ("gradcam-reshape-moves-oracle", [-more["oracle"]], (">", 0)),
        ("gradcam-reshape-moves-cure", [-more["cure"]], (">", 0)),
        ("chroma-reliance", [chroma["cheater"] - chroma["oracle"]], (">", 0)),
        ("chroma-reliance-cure", [chroma["cheater"] - chroma["cure"]], (">", 0)),
        ("gradcam-faithful", [area(kind, CAM) - area(kind, NOISE) for kind in TESTED], ("<", 0)),
        ("gradcam-beats-centre", [area(kind, CAM) - area(kind, BLOB) for kind in TESTED], ("<", 0)),
        ("ig-beats-centre", centred, ("<", 0)),
        ("ig-convicts", [knows["oracle"] - knows["cheater"]], (">", 0)),
        ("ig-convicts-cure", [knows["cure"] - knows["cheater"]], (">", 0)),
        ("gradcam-sanity", random, ("<", 0.5)),
        ("gradcam-sanity-labels", memorised, ("<", 0.5)),
    ):
        wide = (-2, 2) if id.startswith("ig-convicts") else (-1, 1)
        bar, found = criterion[1], [estimate(gap, wide) for gap in gaps]
        worst = max(found, key=lambda gap: (gap.mean >= bar, gap.interval[1]))
        claim = chapter[0][id]
        assert (claim.value, *claim.interval) == pytest.approx((worst.mean, *worst.interval)), id
        assert (claim.op, claim.threshold) == criterion and claim.n == 3


def test_tables_and_numbers_are_told_by_network(chapter):
    shown, inline = chapter
    for layer in LAYERS:  # their last rows
        flat = [estimate([made("area", "cheater", layer, part, 0)]) for part in PARTS]
        assert table(shown["tbl-heat"])[layer] == ["flat map (area)", *map(plus_minus, flat)]
    rows = [line.split("|") for line in shown["tbl-faithful"].data.splitlines()[2:]]
    rows = {(row[1].strip(), row[2].strip()): [cell.strip() for cell in row[3:6]] for row in rows}
    assert len(rows) == 15
    for name in MAPS:
        for measure, where, by in (
            ("deletion", "moved", 4), ("deletion", "in the middle", 0), ("insertion", "moved", 4)
        ):  # fmt: skip
            expected = [spread("area", kind, measure, name, by) for kind in KINDS]
            expected = [plus_minus(value, "{:.3f}", 1) for value in expected]
            assert rows[f"{measure}, {where}", name] == expected
    gains = table(shown["tbl-gains"])
    for kind in KINDS:
        left = [of_seeds("probability", kind, "deletion", IG, 4, x) for x in (0.5, 1.0)]
        adds = [of_seeds("area", kind, "insertion", name, 4) for name in (IG, STROKE)]
        knows = [area(kind, STROKE, by) - area(kind, IG, by) for by in (4, 0)]
        found = [*knows, adds[0] - adds[1], left[0] - left[1]]
        expected = [plus_minus(estimate(values, (-1, 1)), "{:+.2f}", 1) for values in found]
        assert gains[kind] == [*expected, plus_minus(spread("chroma", kind, 4))]

    turned = table(shown["tbl-changes"])["oracle"]  # the last: both
    ends = spread("predictions", "oracle", "both"), spread("map", "oracle", "both")
    assert turned[0] == "both" and turned[2::2] == [plus_minus(end) for end in ends]
    verdicts = [line.split("|") for line in shown["tbl-verdicts"].data.splitlines()]
    dense = [of_seeds("density", kind, "block3", PARTS[2]) for kind in TESTED]
    margin = estimate(dense[1] - dense[0], (-np.inf, np.inf)).format("{:.2f}")
    assert verdicts[3][2].strip() == margin
    assert verdicts[3][3].strip().endswith(": where the attribution lies does not convict")
    stroke = of_seeds("attribution", "cure", "block3", PARTS[0]).mean()
    cam, finite = (
        max(made("error", kind, reference, layer, 0) for kind in TESTED for layer in layers)
        for reference, layers in (("CAM", LAYERS[:1]), ("finite differences", (*LAYERS, "layer3")))
    )
    assert shown["gradcam-equals-reference"].value == finite
    another = spread("correlation", "oracle", "another image", bounds=(-1, 1))
    accuracy, reshaped = of_seeds("accuracy").mean(), of_seeds("map", "cheater", "reshape")
    better = np.mean(area("oracle", BLOB) - area("oracle", CAM))
    for code, text in {
        """f"{largest['CAM']:.0e}\"""": f"{cam:.0e}",
        'f"{changes.matched[0]:.1%}"': f"{made('matched', 'cheater', 'recolour', 0):.1%}",
        'brief(on_stroke["cure"])': f"{100 * stroke:.1f}",
        'brief(moved["map"]["cheater", "reshape"])': f"{100 * reshaped.mean():.1f}",
        'f"{abs(margin.mean):.2f}"': margin.split()[0].lstrip("-"),
        'verdict(blob["oracle"])': f"better by {better:.3f}",
        'verdict(blob["cheater"])': "no better",
        'brief(along["chroma"]["cure"])': f"{100 * of_seeds('chroma', 'cure', 4).mean():.1f}",
        'like["oracle", "another image"]': another.format("{:.2f}"),
        'blank["cheater", "block1"]': percent(spread("blank", "cheater", "block1")),
        """f"{np.mean([run['accuracy'] for run in memorised]):.1%}\"""": f"{accuracy:.1%}",
    }.items():
        assert inline[code] == text, code


def test_figures_draw_the_numbers(chapter):
    shown, _ = chapter
    frame = pd.read_csv(io.StringIO(shown["fig-chroma"].data_csv), comment="#")
    for kind, rows in frame.groupby("network"):
        counts, _ = np.histogram([of_seeds("chroma", kind, i) for i in range(4)], 40, (0, 1))
        np.testing.assert_allclose(rows["share"], counts / 12, rtol=1e-5)
    place, predictions, moved = shown["fig-changes"].axes
    bars = [rect.get_height() for rect in place.patches]
    stroke = [of_seeds("attribution", kind, "block3", PARTS[0]).mean() for kind in KINDS]
    assert bars == pytest.approx(stroke)
    assert place.lines[-1].get_ydata()[0] == made("area", "cheater", "block3", PARTS[0], 0)
    for ax, name in ((predictions, "predictions"), (moved, "map")):
        bars = [rect.get_height() for rect in ax.patches]
        means = [of_seeds(name, kind, change).mean() for kind in KINDS for change in CHANGES[:2]]
        assert bars == pytest.approx(means)
    assert shown["fig-faithful"].axes[1].get_title() == "cure: deletion"
    for figure, measure in (("fig-faithful", "deletion"), ("fig-insertion", "insertion")):
        lines = {line.get_label(): line.get_ydata() for line in shown[figure].axes[2].lines}
        for name in MAPS:  # the oracle's
            keys = [("probability", "oracle", measure, name, 4, x) for x in (0.0, 0.5, 1.0)]
            np.testing.assert_allclose(lines[name], [of_seeds(*key).mean() for key in keys])
    for name, digits in (("fig-attributions", (0, 0, 7, 7)), ("fig-grid", range(10))):
        ax = shown[name].axes[0]
        assert len(ax.images) == len(digits) * 7
        titles = [text.get_text() for text in ax.texts if text.get_text()]
        assert [title for title in titles if ":" not in title] == ["Grad-CAM", IG]
    measure = interrogation.attribution_maps.__wrapped__
    found = measure(handle(reader(network("oracle"))), [*range(10)], [*range(1, 10), 0])
    assert titles[-1] == f"{found['predicted'][9]}: {found['probability'][9]:.0%}"
    assert titles[-10].startswith("oracle\n")
    last = found["integrated gradients"][9]
    drawn = ax.images[-1].get_array()
    np.testing.assert_allclose(drawn / drawn.max(), last / last.max(), atol=1e-6)
