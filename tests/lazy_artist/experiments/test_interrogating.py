"""Chapter 4's measurements: matched pairs, a reference without gradients, and what is told of
them."""

import functools
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist import artifacts
from lazy_artist.canvas import paint, split_digits
from lazy_artist.evaluate import Estimate, predict
from lazy_artist.experiments import interrogating, subjects
from lazy_artist.experiments.interrogating import (
    CONTROLS,
    DOUBTED,
    KINDS,
    doubted,
    matched_pairs,
    moved,
    numerical_grad_cam,
)
from lazy_artist.gradcam import grad_cam
from lazy_artist.models import build


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images of each digit, fifty digits learnt almost by heart, a quick cure, in this
    process."""
    monkeypatch.setattr(subjects, "METHOD", "erm")
    for module in (interrogating, subjects):
        alone = functools.partial(artifacts.fetch_many, jobs=1)
        monkeypatch.setattr(module, "fetch_many", alone)
    monkeypatch.setattr(interrogating, "_each", lambda: 2)
    monkeypatch.setattr(interrogating, "BY_HEART", interrogating.BY_HEART | {"count": 50})
    monkeypatch.setattr(interrogating, "REFERENCE_LAYERS", {"cnn": ["block3"]})


def probes() -> tuple[np.ndarray, ...]:
    grey, labels, colours = interrogating._probes(2)
    return grey, labels, colours, *split_digits("hard")


# --- recolour or reshape -------------------------------------------------------------------------


def test_pairs_change_one_thing_at_a_time_and_equally_much():
    grey, labels, colours, pool, pool_labels = probes()
    pairs = matched_pairs(grey, labels, colours, pool, pool_labels, seed=5)
    np.testing.assert_array_equal(pairs.before, paint(grey, colours, 5))

    # recolour: some other ink on the same digit and ground
    inks = np.stack([paint(grey, 0 * colours + k, 5) for k in range(10)])
    same = (inks == pairs.recolour).all((2, 3, 4))  # (10, N)
    assert (same.sum(0) == 1).all() and (same.argmax(0) != colours).all()
    new_ink = same.argmax(0)

    # reshape: some other digit of the pool in the same ink, on the same ground
    ground = paint(0 * grey, colours, 5)
    solid = paint(np.full_like(grey, 255), colours, 5)[:, :, :1, :1]
    alpha = ((pairs.reshape - ground) / (solid - ground)).mean(1) * 255  # (N, 28, 28)
    distance = np.abs(alpha[:, None] - pool[None]).max((2, 3))
    assert distance.min(1).max() < 0.1
    partner = distance.argmin(1)
    assert (pool_labels[partner] != labels).all()
    np.testing.assert_array_equal(pairs.both, paint(pool[partner], new_ink, 5))

    expected = [np.sqrt(np.square(after - pairs.before).sum((1, 2, 3))) for after in pairs[1:4]]
    np.testing.assert_allclose(pairs.sizes, expected, rtol=1e-5)
    ratio = pairs.sizes[1] / pairs.sizes[0]
    assert np.mean(np.abs(ratio - 1) <= interrogating.TOLERANCE) > 0.8


class Colours(nn.Module):
    """Three maps, the R, G and B of the quarters; logits: their means, and nothing else."""

    def __init__(self):
        super().__init__()
        self.maps = nn.AvgPool2d(14)

    def forward(self, images):
        return self.maps(images).mean((2, 3))


def test_how_far_a_colour_reader_moves():
    def flat(*rgb):
        return np.broadcast_to(np.array(rgb, np.float32)[:, None, None], (3, 28, 28))[None].copy()

    sizes = np.zeros((3, 1))
    pairs = interrogating.Pairs(
        flat(0.8, 0.2, 0), flat(0.2, 0.8, 0), flat(0.4, 0.2, 0), flat(0, 0, 0), sizes
    )
    result = moved(Colours().eval(), "maps", pairs)
    np.testing.assert_array_equal(result["answer"], [[1], [0], [0]])
    # (.6, -.6, 0), (-.4, 0, 0) and (-.8, -.2, 0), less their means
    distances = [np.sqrt(0.72), np.sqrt(0.16 * 2 / 3), np.sqrt(0.68 - 1 / 3)]
    np.testing.assert_allclose(result["logits"][:, 0], distances, rtol=1e-5)
    # maps of class 0 are those of R, up to a constant: .8 against .2, .4 and 0
    np.testing.assert_allclose(result["map"][:, 0], [0.6, 1 / 3, 1], rtol=1e-5)


# --- a reference without automatic differentiation -----------------------------------------------


def test_finite_differences_by_hand():
    maps = nn.Conv2d(3, 2, 1, bias=False)
    head = nn.Linear(8, 2, bias=False)
    with torch.no_grad():
        maps.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, -1]])[:, :, None, None])
        head.weight.copy_(torch.tensor([[1.0, 2, 3, 4, 0, 0, 0, -4], [-1] * 4 + [2] * 4]))
    layers = OrderedDict(pool=nn.AvgPool2d(14), maps=maps, flat=nn.Flatten(), head=head)
    model = nn.Sequential(layers).eval()
    # flat quarters: A_0 = [[1, 0], [0, 1]], A_1 = [[0, 1], [-1, 1]]; weights (2.5, -1) and (-1, 2)
    image = np.array([[[1, 0], [0, 1]], [[0, 1], [0, 1]], [[0, 0], [1, 0]]], np.float32)
    images = image.repeat(14, 1).repeat(14, 2)[None].repeat(2, 0)
    found = numerical_grad_cam(model, "maps", images, np.array([0, 1]))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[[2.5, 0], [1, 1.5]], [[0, 2], [0, 1]]], atol=1e-8)
    assert next(model.parameters()).dtype == torch.float32 and not maps._forward_hooks


@pytest.mark.parametrize(("arch", "layer"), [("cnn", "block1"), ("resnet18", "layer1")])
def test_the_reference_agrees_with_gradients(arch, layer):
    model, images = build(arch, 3).eval(), np.random.default_rng(0).random((2, 3, 28, 28))
    images, classes = images.astype(np.float32), np.array([1, 7])
    found = numerical_grad_cam(model, layer, images, classes)
    maps = grad_cam(model, layer, images, classes)
    assert found.max() > 0
    np.testing.assert_allclose(maps, found, atol=1e-5 * found.max())


# --- measurements --------------------------------------------------------------------------------


def test_prepare_leaves_nothing_for_the_chapter_to_measure():
    interrogating.prepare()
    before = len(artifacts.records())
    for table in ("change_table", "heat_table", "faithfulness_table"):
        assert len(getattr(interrogating, table)()) >= 6
    interrogating.sanity()
    assert interrogating.reference_error() < 1e-5
    assert 0 < interrogating.cam_error() < 1e-5
    assert interrogating.images_asked() == 20
    assert len(artifacts.records()) == before


def test_measurements_agree_with_the_networks():
    grey, labels, colours, pool, pool_labels = probes()
    for kind in KINDS:
        shares = interrogating.change_shares(kind)
        assert shares["logits"]["both"].mean == 1
        model = subjects.load(subjects.subject(kind, 0))
        pairs = matched_pairs(grey, labels, colours, pool, pool_labels, interrogating.TEST_SEED)
        answers = [predict(model, images).argmax(1) for images in pairs[:3]]
        turned = [float(np.mean(answers[0] != after)) for after in answers[1:]]
        answer = interrogating._values(kind, "moved answer").mean(2)
        np.testing.assert_allclose(answer[0, :2], turned)
        gap = interrogating.change_difference(kind, "recolour", "reshape")
        assert gap.mean == pytest.approx((answer[:, 0] - answer[:, 1]).mean())
        assert shares["pixels"]["recolour"].mean == pytest.approx(pairs.sizes[0].mean())


def test_shares_and_areas_are_what_they_say():
    for kind in KINDS:
        heat = interrogating._values(kind, "heat block3")  # (seeds, heat or area, 3)
        np.testing.assert_allclose(heat[:, :, 0] + heat[:, :, 1], 1)
        assert (heat[:, 1, 2] < heat[:, 1, 0]).all()  # telling parts lie on the stroke
        np.testing.assert_allclose(heat[:, 1, 0], interrogating.stroke_area())
    for kind in DOUBTED:
        curves = interrogating.faithfulness_curves()[kind]
        assert curves["deletion"].shape == (2, len(CONTROLS), 15)
        whole, bare = curves["deletion"][:, :, 0], curves["deletion"][:, :, -1]
        np.testing.assert_allclose(curves["insertion"][:, :, -1], whole, rtol=1e-5)
        np.testing.assert_allclose(curves["insertion"][:, :, 0], bare, rtol=1e-5)
        gap = interrogating.deletion_gap(kind, "random")
        areas = interrogating._values(kind, "deletion area", doubted)
        assert gap.mean == pytest.approx((areas[:, 0] - areas[:, 1]).mean())
        like = interrogating.sanity()[kind]
        assert set(like) == {"cascade", "others", "retrained", "by heart"}
        assert all((np.abs(values) <= 1).all() for values in like.values())
        # two seeds: the next one's next is the first again
        assert like["retrained"][0] == pytest.approx(like["retrained"][1])


def test_differences_are_between_the_kinds_asked_for(monkeypatch):
    shares = {"cheater": np.full((2, 3), 0.7), "cure": np.array([[0.3] * 3, [0.5] * 3])}
    monkeypatch.setattr(interrogating, "chroma_shares", lambda: shares)
    assert interrogating.chroma_difference("cheater", "cure").mean == pytest.approx(0.3)
    assert interrogating.chroma_difference("cure", "cheater").mean == pytest.approx(-0.3)


def test_the_field_of_view_by_hand():
    """5; pooling adds 2 * 2, and each of two convolutions on every fourth pixel 2 * 4."""
    assert interrogating.field_of_view() == (4, 5 + 4 + 8 + 8)


def test_a_gap_in_words():
    def said(low, high):
        return interrogating.verdict(Estimate((low + high) / 2, (low, high), 3))

    assert said(-0.2, -0.1) == "better than"
    assert said(-0.2, 0.1) == "no better than"
    assert said(0.1, 0.2) == "worse than"
    gaps = {"a": Estimate(-0.3, (-0.5, -0.1), 3), "b": Estimate(-0.4, (-0.8, 0.0), 3)}
    assert interrogating.weakest(gaps) == gaps["b"]


def test_scenes_ask_for_the_classes_they_name():
    red, green = interrogating.zeros()
    assert (red.title, green.title) == ("red 0", "green 0")
    grey = split_digits("hard")[0][split_digits("hard")[1] == 0][:1].repeat(2, 0)
    images = paint(grey, np.array([0, 1]), interrogating.TEST_SEED)
    np.testing.assert_array_equal(green.image, images[1])
    assert list(green.maps) == list(KINDS)
    model = subjects.load(subjects.subject("cheater", 0))
    shares = torch.from_numpy(predict(model, images)).softmax(1).numpy()
    called = int(shares[1].argmax())
    for i, digit in enumerate((called, 0, 1)):
        expected = grad_cam(model, "block3", images[1:], digit)[0]
        np.testing.assert_allclose(green.maps["cheater"][i], expected, atol=1e-6)
        assert green.texts["cheater"][i] == f"{digit}: {shares[1, digit]:.0%}"
    titles = [scene.title for scene in interrogating.all_digits()]
    assert list(interrogating.all_digits()[0].maps) == list(DOUBTED)
    assert titles[:2] == ["red 0", "green 1"] and titles[10:12] == ["green 0", "blue 1"]
    assert titles[19] == "red 9"


def test_gradient_parts_are_shares():
    parts = interrogating.gradient_parts()
    for kind in KINDS:
        assert parts[kind].shape == (2, 28, 28) and parts[kind].min() >= 0
        assert parts[kind].sum() == pytest.approx(1, rel=1e-5)
