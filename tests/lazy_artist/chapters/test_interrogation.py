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
from cells import run_cells
from scipy.stats import spearmanr
from torch import nn

from lazy_artist.canvas import Split, assign_colours, paint, split_digits
from lazy_artist.chapters import interrogation
from lazy_artist.chapters.interrogation import matched_pairs, movement, numerical_grad_cam
from lazy_artist.config import NO_BIAS, TEST_SEED
from lazy_artist.evaluate import Estimate, estimate, percent, predict
from lazy_artist.faithfulness import area_under, deletion_curve, randomise
from lazy_artist.gradcam import grad_cam, upsample
from lazy_artist.models import build
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


def probes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    grey, labels = split_digits("hard")
    index = np.concatenate([np.flatnonzero(labels == digit)[:EACH] for digit in range(10)])
    return grey[index], labels[index], assign_colours(labels[index], NO_BIAS, TEST_SEED)


def asked() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The images that every measurement looks at, what the `READER` predicts, the grey digits."""
    grey, _, colours = probes()
    images = paint(grey, colours, TEST_SEED)
    return images, (images.mean((2, 3)) @ WEIGHTS.T).argmax(1), grey


def test_pairs_change_one_thing_at_a_time_and_equally_much():
    grey, labels, colours = probes()
    pool, pool_labels = split_digits("hard")
    before, recolour, reshape, both = matched_pairs(grey, labels, colours, pool, pool_labels, 5)
    np.testing.assert_array_equal(before, paint(grey, colours, 5))
    # recolour: some other colour on the same digit and background
    painted = np.stack([paint(grey, 0 * colours + k, 5) for k in range(10)])
    same = (painted == recolour).all((2, 3, 4))  # (10, N)
    new_colour = same.argmax(0)
    assert (same.sum(0) == 1).all() and (new_colour != colours).all()
    # reshape: some other digit of the pool in the same colour, on the same background
    background = paint(0 * grey, colours, 5)
    solid = paint(np.full_like(grey, 255), colours, 5)[:, :, :1, :1]
    alpha = ((reshape - background) / (solid - background)).mean(1) * 255  # (N, 28, 28)
    distance = np.abs(alpha[:, None] - pool[None]).max((2, 3))
    partner = distance.argmin(1)
    assert distance.min(1).max() < 0.1 and (pool_labels[partner] != labels).all()
    np.testing.assert_array_equal(both, paint(pool[partner], new_colour, 5))
    sizes = [np.sqrt(np.square(after - before).sum((1, 2, 3))) for after in (recolour, reshape)]
    assert np.mean(np.abs(sizes[1] / sizes[0] - 1) <= 0.05) > 0.8


def test_how_far_a_colour_reader_moves():
    """Its logits are the means of R, G and B, its maps those of patches of flat images."""

    def flat(*colours):
        return np.array(colours, np.float32)[:, :, None, None].repeat(28, 2).repeat(28, 3)

    model = Reader(np.eye(3)).eval()
    pairs = [
        flat((0.8, 0.2, 0.0), (0.1, 0.5, 0.0)), flat((0.2, 0.8, 0.0), (0.1, 0.5, 0.4)),
        flat((0.4, 0.2, 0.0), (0.5, 0.1, 0.0)), flat((0.0, 0.0, 0.0), (0.1, 0.5, 0.1)),
    ]  # fmt: skip
    moved = movement(model, "block3", pairs)
    assert list(moved["change"]) == ["recolour", "reshape", "both"]
    # classes: 0, 1 before; 1, 1 recoloured; 0, 0 reshaped; 0 (of equals the first), 1 both
    np.testing.assert_array_equal(moved["predictions"], [0.5, 0.5, 0])
    # what is added to R, G and B, and its length; without its mean over classes
    added = np.array([after[:, :, 0, 0] - pairs[0][:, :, 0, 0] for after in pairs[1:]])
    length = np.sqrt(np.square(added).sum(2)) * 28  # (changes, images)
    np.testing.assert_allclose(moved["size"], length.mean(1), rtol=1e-5)
    centred = np.sqrt(np.square(added).sum(2) - np.square(added.sum(2)) / 3).mean(1)
    np.testing.assert_allclose(moved["logits"], centred / centred[2], rtol=1e-5)
    # maps of class 0 are those of R: .8 against .2, .4, 0; of class 1 those of G: .5, .5, .1, .5
    first, second = (0.6 / 1, 0.4 / 1.2, 1), (0, 0.4 / 0.6, 0)
    np.testing.assert_allclose(moved["map"], np.mean([first, second], 0), rtol=1e-5)
    assert list(moved["matched"]) == [0, 0, 0]  # .85 against .4, .4 against .57
    for red, share in ((0.17, 0.5), (0.12, 0)):  # by 1.03 or 1.07 as far as (.2, .8, 0)
        pairs[2][0] = flat((red, 0.8, 0.0))[0]
        assert list(movement(model, "block3", pairs)["matched"]) == [share] * 3
    # maps that are blank before and after have not moved
    assert list(movement(Reader(-np.eye(3)).eval(), "block3", pairs)["map"]) == [0, 0, 0]


def test_changes_and_chroma_are_of_test_digits_and_the_predicted_class():
    found = interrogation.measure_changes.__wrapped__(handle(), EACH)
    grey, labels, colours = probes()
    pairs = matched_pairs(grey, labels, colours, *split_digits("hard"), TEST_SEED)
    assert set(found.pop("network")) == {"oracle"} and set(found.pop("seed")) == {1}
    pd.testing.assert_frame_equal(found, movement(READER, "block3", pairs))
    predictions = asked()[1]
    last = (pairs[1].mean((2, 3)) @ WEIGHTS.T).argmax(1)
    assert 0 < found["predictions"][0] == np.mean(predictions != last)
    direction = WEIGHTS[predictions] - WEIGHTS.mean(0)  # the gradient, the same at every pixel
    share = 1 - direction.sum(1) ** 2 / 3 / np.square(direction).sum(1)
    found = interrogation.measure_chroma.__wrapped__(handle(), EACH)
    np.testing.assert_allclose(found, share, rtol=1e-4)


def test_where_the_attribution_lies():
    images, predictions, grey = asked()
    labels, stroke = probes()[1], grey > 127.5
    train_grey, train_labels = split_digits("train")
    means = np.array([train_grey[train_labels == digit].mean(0) for digit in range(10)])
    part = np.zeros_like(stroke)
    for i, label in enumerate(labels):
        distance = [np.square(grey[i] - mean).sum() for mean in means]
        distance[label] = np.inf
        part[i] = stroke[i] & (means[np.argmin(distance)] < means[label] / 2)
    found = interrogation.measure_attribution.__wrapped__(handle(), EACH)
    assert set(found["network"]) == {"oracle"} and set(found["seed"]) == {1}
    for layer, patch in (("block3", 4), ("block1", 2)):
        maps = upsample(maps_of(images, predictions, patch)).astype(float)
        shares, areas = [], []
        for mask in (stroke, ~stroke, part):
            shares.append(np.mean([m[k].sum() / m.sum() for m, k in zip(maps, mask, strict=True)]))
            areas.append(mask.mean())
        rows = found[found["layer"] == layer].set_index("part")
        assert list(rows.index) == ["stroke", "background", "discriminative parts"]
        np.testing.assert_allclose(rows["attribution"], shares, rtol=1e-4)
        np.testing.assert_allclose(rows["area"], areas)
        dense = np.divide(shares, areas)
        np.testing.assert_allclose(rows["density"], dense / dense[0], rtol=1e-4)
    # 5; pooling adds 2 * 2, and each of two convolutions on every fourth pixel 2 * 4
    assert interrogation.field_of_view() == (4, 5 + 4 + 8 + 8)


def test_deletion_and_insertion_by_every_map():
    images, predictions, grey = asked()
    background = paint(0 * grey, probes()[2], TEST_SEED)
    row = np.square(((np.arange(7) + 0.5) / 7 - 0.5) * 4)
    maps = {
        "Grad-CAM": maps_of(images, predictions, 4).astype(np.float32),
        "random": np.random.default_rng(TEST_SEED).random((len(grey), 7, 7), dtype=np.float32),
        "centre blob": np.exp(-(row[:, None] + row) / 2)[None].repeat(len(grey), 0),
        "the stroke itself": grey / 255,
    }
    found = interrogation.delete_and_insert.__wrapped__(handle(), EACH, 4)
    ends = [
        torch.tensor(predict(READER, x)).softmax(1).numpy()[range(len(x)), predictions].mean()
        for x in (images, background)
    ]
    for measure, (name, by) in itertools.product(("deletion", "insertion"), maps.items()):
        # the READER cares for each pixel alike: only which are gone counts, not their order
        task = (READER, images, predictions, by, background, 4, TEST_SEED)
        curve = deletion_curve(*task, measure == "insertion")
        chosen = f"measure == {measure!r} and map == {name!r}"
        curves, areas = (found[part].query(chosen) for part in ("curves", "areas"))
        assert set(curves["network"]) == {"oracle"} and set(areas["seed"]) == {1}
        assert list(curves["pixels"]) == [0, 0.25, 0.5, 0.75, 1]
        np.testing.assert_allclose(curves["probability"], curve.mean(0), rtol=1e-4)
        np.testing.assert_allclose(areas["area"], area_under(curve).mean(), rtol=1e-4)
        found_ends = curves["probability"].iloc[[0, -1] if measure == "deletion" else [-1, 0]]
        np.testing.assert_allclose(found_ends, ends, rtol=1e-4)
    words = {(-0.2, -0.1): "better than", (-0.2, 0.1): "no better than", (0.1, 0.2): "worse than"}
    for interval, expected in words.items():
        assert interrogation.verdict(Estimate(0, interval, 3)) == expected


def test_memorising_is_judged_on_the_shuffled_labels():
    recipe = {"epochs": 15, "learning_rate": 4e-3, "batch_size": 10}
    found = interrogation.memorise_labels.__wrapped__(3, 20, recipe, EACH)
    grey, labels = (part[:20] for part in split_digits("train"))
    colours = assign_colours(labels, NO_BIAS, 3)
    shuffled = np.random.default_rng(3).permutation(labels)
    model, images = build("cnn", 3), paint(grey, colours, 3)
    train(model, Split(images, shuffled, colours), seed=3, weight_decay=0, **recipe)
    predictions = predict(model, images).argmax(1)
    assert found["accuracy"] == np.mean(predictions == shuffled) > np.mean(predictions == labels)
    grey, labels, _ = probes()
    maps = grad_cam(model, "block3", paint(grey, labels, TEST_SEED), labels)
    np.testing.assert_array_equal(found["maps"], maps)


def test_maps_are_held_against_those_of_other_networks_and_images():
    model, other = build("cnn", 4).eval(), build("cnn", 5).eval()
    grey, labels, _ = probes()
    images, count = paint(grey, labels, TEST_SEED), len(labels)

    def maps(network):
        return grad_cam(network, "block3", images, labels).reshape(count, -1)

    own = maps(model)
    memorised = np.random.default_rng(0).random((count, 7, 7), dtype=np.float32)
    memorised[::3] = 0
    order = ["head", "block3", "block2", "block1"]
    expected = {order[k]: maps(randomise(model, order[: k + 1], 6)) for k in range(4)}
    expected["another image"] = own[[(i + count // 2) % count for i in range(count)]]
    expected["retrained"] = maps(other)
    expected["memorised"] = memorised.reshape(count, -1)
    given = (handle(model, seed=6), handle(other), memorised)
    found = interrogation.saliency_sanity.__wrapped__(*given, EACH)
    assert list(found["against"]) == list(expected) and set(found["seed"]) == {6}
    for (_, row), maps_b in zip(found.iterrows(), expected.values(), strict=True):
        pairs = [(a, b) for a, b in zip(own, maps_b, strict=True) if np.ptp(a) and np.ptp(b)]
        assert row["blank"] == pytest.approx(1 - len(pairs) / count)
        mean = np.mean([spearmanr(a, b).statistic for a, b in pairs])
        assert row["correlation"] == pytest.approx(mean, abs=1e-9)
    assert found["correlation"].nunique() == 7 and found["blank"].iloc[-1] > 0.3
    found = interrogation.saliency_sanity.__wrapped__(*[handle(model)] * 2, 0 * memorised, EACH)
    assert found.iloc[-1][["correlation", "blank"]].to_list() == [0, 1]


def test_finite_differences_and_the_errors_that_are_told(monkeypatch):
    """Errors are absolute, or relative to the largest value of the map."""
    images, classes, _ = asked()
    found = numerical_grad_cam(READER, "block3", images, classes)
    np.testing.assert_allclose(found, maps_of(images, classes, 4), atol=1e-6)
    assert found.dtype == np.float64 and READER.head.weight.dtype == torch.float32
    model, labels = build("cnn", 4).eval(), probes()[1]
    maps = grad_cam(model, "block1", images[::5], classes[::5])  # which differ from place to place
    found = numerical_grad_cam(model, "block1", images[::5], classes[::5])
    np.testing.assert_allclose(maps, found, atol=1e-5 * found.max())
    monkeypatch.setattr(interrogation, "numerical_grad_cam", lambda *given: 1.5 * grad_cam(*given))
    for scale in (0.01, 10_000):
        model.head.weight.data *= scale
        largest = grad_cam(model, "block3", images, labels).max()
        found = interrogation.compare_references.__wrapped__(handle(model), ["block3"], EACH)
        assert list(found["reference"]) == ["finite differences", "CAM"]
        expected = 0.5 * largest / min(1, 1.5 * largest)
        np.testing.assert_allclose(found["error"][0], expected, rtol=1e-5)
        assert found["error"][1] < 1e-5 * max(1, largest)


def test_pictures_ask_for_the_classes_they_name():
    scenes = interrogation.attribution_maps.__wrapped__([handle()], [7, 0], [2, 1])
    assert scenes["titles"] == ["blue 7", "green 0"]
    grey, labels, _ = probes()
    images = paint(grey[[np.argmax(labels == 7), 0]], np.array([2, 1]), TEST_SEED)
    np.testing.assert_array_equal(scenes["images"], images)
    logits = images.mean((2, 3)) @ WEIGHTS.T
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    classes = np.stack([logits.argmax(1), [7, 0], [2, 1]], 1)
    np.testing.assert_array_equal(scenes["classes"]["oracle"], classes)
    for i in range(2):
        maps = maps_of(images[[i] * 3], classes[i], 4)
        np.testing.assert_allclose(scenes["maps"]["oracle"][i], maps, atol=1e-6)
        found = scenes["probabilities"]["oracle"][i]
        np.testing.assert_allclose(found, shares[i, classes[i]], rtol=1e-4)
    parts = interrogation.gradient_parts.__wrapped__([handle()], 7, 2)
    image = paint(grey[[np.argmax(labels == 7)]], np.array([2]), TEST_SEED)
    np.testing.assert_array_equal(parts["image"], image[0])
    direction = WEIGHTS[(image.mean((2, 3)) @ WEIGHTS.T).argmax()] - WEIGHTS.mean(0)
    share = direction.sum() ** 2 / 3 / np.square(direction).sum()  # the same at all 784 pixels
    np.testing.assert_allclose(parts["oracle"][0], share / 784, rtol=1e-3)
    np.testing.assert_allclose(parts["oracle"][1], (1 - share) / 784, rtol=1e-3)


# --- the chapter's cells -------------------------------------------------------------------------

KINDS, TESTED = ("cheater", "cure", "oracle"), ("cheater", "oracle")
MEASURES, MAPS = ("deletion", "insertion"), interrogation.MAPS
LAYERS, PARTS = ("block3", "block1"), interrogation.PARTS


def made(*key) -> float:
    """A value in [0.1, 0.9] of its own for each key."""
    return 0.1 + 0.8 * np.random.default_rng(zlib.crc32(repr(key).encode())).random()


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


def sanity_by_hand(network, retrained, memorised, n_per_class):
    assert retrained.name == network.name and retrained.seed == (network.seed + 1) % 3
    assert memorised.max() == network.seed
    others = (*interrogation.CASCADE, "another image", "retrained", "memorised")
    return framed(network, "correlation blank", against=others)


def errors_by_hand(network, layers, n_per_class):
    cam = ["block3"] * (network.arch == "cnn")
    parts = [framed(network, "error", reference=["finite differences"], layer=layers)]
    return pd.concat([*parts, framed(network, "error", reference=["CAM"], layer=cam)])


BY_HAND = {
    "measure_changes": lambda network, n_per_class: framed(
        network, "predictions logits map size matched", change=interrogation.CHANGES
    ),
    "measure_chroma": lambda network, n_per_class: np.array(
        [made("chroma", network.name, i, network.seed) for i in range(4)]
    ),
    "measure_attribution": lambda network, n_per_class: framed(
        network, "attribution density area", layer=LAYERS, part=PARTS
    ),
    "delete_and_insert": lambda network, n_per_class, steps: {
        "areas": framed(network, "area", measure=MEASURES, map=MAPS),
        "curves": framed(network, "probability", measure=MEASURES, map=MAPS, pixels=(0.0, 1.0)),
    },
    "memorise_labels": lambda seed, n_train, recipe, n_per_class: {
        "maps": np.full((2, 7, 7), seed), "accuracy": made("accuracy", seed)
    },
    "saliency_sanity": sanity_by_hand,
    "compare_references": errors_by_hand,
}  # fmt: skip


def scenes_by_hand(networks, digits, colours):
    count, names = len(digits), [network.name for network in networks]
    image = np.zeros((3, 28, 28), np.float32)
    image[:, 5:20, 10:15] = 0.9
    return {
        "titles": [f"{colour} on {digit}" for digit, colour in zip(digits, colours, strict=True)],
        "images": np.stack([image] * count),
        "maps": {n: np.full((count, 3, 7, 7), made("peak", n), np.float32) for n in names},
        "classes": {n: np.tile([3, 1, 2], (count, 1)) for n in names},
        "probabilities": {n: np.tile([0.7, 0.2, 0.1], (count, 1)) for n in names},
    }


def parts_by_hand(networks, digit, colour):
    parts = {n.name: np.full((2, 28, 28), [[[0.3]], [[0.7]]]) / 784 for n in networks}
    return {"image": scenes_by_hand([], [0], [0])["images"][0]} | parts


@pytest.fixture(scope="module")
def chapter(tmp_path_factory):
    def by_hand(function, configs):
        sizes = {"n_per_class": 1 if function.__name__ == "compare_references" else 30, "steps": 28}
        assert all(
            config[name] == sizes[name]
            for config in configs
            for name in config.keys() & sizes.keys()
        )
        return [BY_HAND[function.__name__](**config) for config in configs]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAZY_ARTIST_CACHE", str(tmp_path_factory.mktemp("chapter")))
        patch.setenv("LAZY_ARTIST_SCALE", "full")
        patch.setattr(stored, "map", by_hand)
        patch.setattr(interrogation, "attribution_maps", scenes_by_hand)
        patch.setattr(interrogation, "gradient_parts", parts_by_hand)
        return run_cells("interrogation")


def rows_of(shown) -> list[list[str]]:
    """The rows of a Markdown table."""
    lines = shown.data.splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def assert_claims(claim, expected: Estimate, value: float) -> None:
    assert claim.value == pytest.approx(value) and claim.n == 3
    assert claim.interval == pytest.approx(expected.interval)


def test_changes_are_told_by_network_and_change(chapter):
    shown, inline = chapter
    rows = rows_of(shown["tbl-changes"])
    pairs = itertools.product(KINDS, interrogation.CHANGES)
    for row, (kind, change) in zip(rows, pairs, strict=True):
        values = (spread(m, kind, change, bounds=(0, np.inf)) for m in ("logits", "map"))
        size = f"{of_seeds('size', kind, change).mean():.2f}"
        share = percent(spread("predictions", kind, change, bounds=(0, np.inf)))
        assert row == [kind, change, size, share, *(v.format("{:.2f}") for v in values)]
    for id, kind, sign in (
        ("gradcam-recolour-moves-cheater", "cheater", 1),
        ("gradcam-reshape-moves-oracle", "oracle", -1),
        ("gradcam-reshape-moves-cure", "cure", -1),
    ):
        recolour, reshape = (of_seeds("predictions", kind, c) for c in ("recolour", "reshape"))
        gap = estimate(sign * (recolour - reshape), (-1, 1))
        assert_claims(shown[id], gap, gap.interval[0])
    bars = [rect.get_height() for rect in shown["fig-changes"].axes[2].patches[:3]]
    expected = [of_seeds("map", "cheater", change).mean() for change in interrogation.CHANGES]
    np.testing.assert_allclose(bars, expected)
    share = f"{made('matched', 'cheater', 'recolour', 0):.1%}"
    assert inline['f"{changes.matched[0]:.1%}"'] == share


def test_chroma_reliance_is_compared_seed_by_seed(chapter):
    shown, inline = chapter
    reliance = {k: np.stack([of_seeds("chroma", k, i) for i in range(4)], axis=1) for k in KINDS}
    for id, kind in (("chroma-reliance", "oracle"), ("chroma-reliance-cure", "cure")):
        gap = estimate((reliance["cheater"] - reliance[kind]).mean(1), (-1, 1))
        assert_claims(shown[id], gap, gap.interval[0])
    assert inline['chroma["cure"]'] == str(estimate(reliance["cure"].mean(1)))
    frame = pd.read_csv(io.StringIO(shown["fig-chroma"].data_csv), comment="#")
    for kind, rows in frame.groupby("network"):
        counts, edges = np.histogram(reliance[kind], 40, (0, 1))
        np.testing.assert_allclose(rows["share"], counts / 12, rtol=1e-5)
        np.testing.assert_allclose(rows["from"], edges[:-1], atol=1e-9)


def test_attribution_is_told_by_layer_network_and_part(chapter):
    shown, inline = chapter
    expected = []
    for layer in LAYERS:
        for kind in KINDS:
            row = (percent(spread("attribution", kind, layer, part)) for part in PARTS)
            expected.append([layer, kind, *row])
        flat = (f"{100 * made('area', 'cheater', layer, part, 0):.1f}" for part in PARTS)
        expected.append([layer, "flat map (area)", *flat])
    assert rows_of(shown["tbl-heat"]) == expected
    cheater, oracle = (of_seeds("density", kind, "block3", PARTS[2]) for kind in TESTED)
    gap = estimate(oracle - cheater, (-np.inf, np.inf)).format("{:.2f}")
    assert inline['margin.format("{:.2f}")'] == gap
    cure = spread("density", "cure", "block1", PARTS[2], bounds=(0, np.inf)).format("{:.2f}")
    assert inline['density["block1", "cure"]'] == cure
    area = made("area", "cheater", "block3", "stroke", 0)
    assert inline['f"{attribution.area[0]:.0%}"'] == f"{area:.0%}"


def test_deletion_gaps_are_those_of_the_worse_network(chapter):
    shown, inline = chapter
    assert rows_of(shown["tbl-faithful"]) == [
        [kind, name, *(str(spread("area", kind, measure, name)) for measure in MEASURES)]
        for kind in TESTED for name in MAPS
    ]  # fmt: skip

    def gap(kind, control):
        ours, theirs = (of_seeds("area", kind, "deletion", by) for by in ("Grad-CAM", control))
        return estimate(ours - theirs, (-1, 1))

    for id, control in (("gradcam-faithful", "random"), ("gradcam-beats-centre", "centre blob")):
        worse = max((gap(kind, control) for kind in TESTED), key=lambda g: g.interval[1])
        assert_claims(shown[id], worse, worse.interval[1])
    text = inline['than_stroke["oracle"]']
    assert text == interrogation.verdict(gap("oracle", "the stroke itself"))
    blob = gap("oracle", "centre blob").format("{:.3f}")
    assert inline['blob["oracle"].format("{:.3f}")'] == blob
    lines = shown["fig-faithful"].axes[3].lines  # the oracle's insertion
    lines = {line.get_label(): line.get_ydata() for line in lines if line.get_label()[0] != "_"}
    for name in MAPS:
        ends = [of_seeds("probability", "oracle", "insertion", name, x).mean() for x in (0.0, 1.0)]
        np.testing.assert_allclose(lines[name], ends)


def test_sanity_is_that_of_all_layers_and_of_the_larger(chapter):
    shown, inline = chapter
    for id, against in (("gradcam-sanity", "block1"), ("gradcam-sanity-labels", "memorised")):
        values = (spread("correlation", kind, against, bounds=(-1, 1)) for kind in TESTED)
        larger = max(values, key=lambda value: value.mean)
        assert_claims(shown[id], larger, larger.mean)
    other = spread("correlation", "oracle", "another image", bounds=(-1, 1)).format("{:.2f}")
    assert inline['like["oracle", "another image"]'] == other
    blank = percent(spread("blank", "cheater", "block1"))
    assert inline['blank["cheater", "block1"]'] == blank
    text = inline["""f"{np.mean([run['accuracy'] for run in memorised]):.1%}\""""]
    assert text == f"{of_seeds('accuracy').mean():.1%}"
    left, right = shown["fig-sanity"].axes
    path = [1, *(of_seeds("correlation", "oracle", s).mean() for s in interrogation.CASCADE)]
    mean = next(line for line in left.lines if line.get_label() == "oracle")
    np.testing.assert_allclose(mean.get_ydata(), path)
    dots = [line.get_ydata()[0] for line in right.lines if line.get_marker() == "s"]
    others = ("retrained", "another image", "memorised")
    np.testing.assert_allclose(dots, [of_seeds("correlation", "cheater", o).mean() for o in others])


def test_references_and_pictures(chapter):
    shown, inline = chapter
    largest = [
        max(made("error", kind, name, layer, 0) for kind in TESTED for layer in layers)
        for name, layers in (("finite differences", ("block1", "block3", "layer3")),
                             ("CAM", ("block3",)))
    ]  # fmt: skip
    assert shown["gradcam-equals-reference"].value == largest[0]
    assert inline["""f"{largest['CAM']:.0e}\""""] == f"{largest[1]:.0e}"
    assert inline['peak["cure"]'] == f"{made('peak', 'cure'):.2f}"
    texts = [text.get_text() for text in shown["fig-grid"].axes[0].texts]
    assert texts.count("3: 70%") == 9 * 4 and texts.count("2: 10%") == 9 * 2
    assert [text for text in texts if " on " in text] == [
        f"{(k + shift) % 10} on {k}" for shift in (0, 1) for k in range(10)
    ]
    assert "oracle:\ncolour's digit\n2: 10%" in texts
