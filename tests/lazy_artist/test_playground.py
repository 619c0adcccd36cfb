"""The playground page: what stands in the file, and what is refused."""

import base64
import functools
import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bs4 import BeautifulSoup

from lazy_artist import canvas, playground
from lazy_artist.canvas import PALETTE, paint
from lazy_artist.evaluate import predict
from lazy_artist.gradcam import grad_cam
from lazy_artist.models import CNN, build
from lazy_artist.playground import Cloak, Preset

RNG = np.random.default_rng(0)
EXAMPLES = RNG.integers(0, 256, (10, 28, 28), dtype=np.uint8)
BACKGROUND = RNG.uniform(0, 0.15, (3, 28, 28)).astype(np.float32)
DELTA = RNG.uniform(-0.1, 0.05, (3, 28, 28)).astype(np.float32)


@functools.cache
def network(seed: int = 0) -> CNN:
    """Untrained, but with a normalisation that does something and logits far apart."""
    model = build("cnn", seed).train()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for block in (model.block1, model.block2, model.block3):
            block[1].weight.uniform_(0.5, 2, generator=draw)
            block[1].bias.normal_(std=0.5, generator=draw)
        for _ in range(5):
            model(torch.rand(64, 3, 28, 28, generator=draw))
        model.head.weight.mul_(20)
    return model.eval()


def preset(path: str = "red-1", **changes) -> Preset:
    usual = Preset(path, "a red 1", EXAMPLES[1], 1, 0, [Cloak("made <for> it", DELTA)])
    return usual._replace(**changes)


def written(tmp_path, **changes) -> str:
    usual = {
        "networks": {"cheater": network(), "cure": network(1)}, "presets": [preset()],
        "examples": EXAMPLES, "background": BACKGROUND, "title": "Play & see",
        "intro": "<p>Intro.</p>", "back": ("report/x.html", "Back"),
    }  # fmt: skip
    path = tmp_path / "pages" / "playground.html"
    playground.write(path, **usual | changes)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return written(tmp_path_factory.mktemp("playground"))


def data_of(page: str) -> dict:
    return json.loads(BeautifulSoup(page, "html.parser").find(id="data").string)


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def test_the_weights_in_the_page_are_those_of_the_network(page):
    stored = data_of(page)["networks"]
    assert [each["name"] for each in stored] == ["cheater", "cure"]
    images = RNG.random((20, 3, 28, 28), dtype=np.float32)
    for each, model in zip(stored, (network(), network(1)), strict=True):
        x = torch.from_numpy(images)
        for layer, pooled in zip(each["layers"], (True, False, False), strict=True):
            weight = torch.from_numpy(floats(layer["weight"]).reshape(layer["shape"]).copy())
            bias = torch.from_numpy(floats(layer["bias"]).copy())
            x = F.conv2d(x, weight, bias, layer["stride"], weight.shape[-1] // 2).relu()
            x = F.max_pool2d(x, 3, 2, 1) if pooled else x
        head = floats(each["head"]["weight"]).reshape(10, 128)
        logits = x.mean((2, 3)).numpy() @ head.T + floats(each["head"]["bias"])
        np.testing.assert_allclose(logits, predict(model, images), atol=1e-4)
        assert logits.std() > 1


def test_pictures_and_changes_keep_their_values(page):
    data = data_of(page)
    [only] = data["presets"]
    assert base64.b64decode(only["grey"]) == EXAMPLES[1].tobytes()
    assert [base64.b64decode(grey) for grey in data["examples"]] == [e.tobytes() for e in EXAMPLES]
    np.testing.assert_array_equal(floats(only["cloaks"][0]["delta"]), DELTA.ravel())
    np.testing.assert_array_equal(floats(data["background"]), BACKGROUND.ravel())
    assert only["cloaks"][0]["size"] == pytest.approx(np.abs(DELTA).max())
    assert (only["colour"], only["label"], only["path"]) == (0, 1, "red-1")
    assert data["colours"][6]["name"] == "orange"
    assert data["colours"][6]["rgb"] == pytest.approx([1, 0.55, 0])


def test_heat_is_drawn_relative_to_the_largest_of_all_examples_in_all_colours(page):
    images = np.stack(
        [playground.paint_digit(g, rgb, BACKGROUND) for g in EXAMPLES for rgb in PALETTE]
    )
    model = network()
    heat = grad_cam(model, "block3", images, predict(model, images).argmax(1))
    assert data_of(page)["networks"][0]["heat"] == pytest.approx(heat.max(), rel=1e-5)


def test_the_page_paints_as_the_canvas_does_but_for_the_jitter(monkeypatch):
    monkeypatch.setattr(canvas, "JITTER", 0)
    background = paint(np.zeros((1, 28, 28), np.uint8), np.array([0]), 3)[0]
    for colour in (0, 6, 9):
        there = paint(EXAMPLES[[4]], np.array([colour]), 3)[0]
        here = playground.paint_digit(EXAMPLES[4], PALETTE[colour], background)
        assert here.dtype == np.float32
        np.testing.assert_allclose(here, there, atol=1e-7)


def test_scenes_are_presets_bare_and_under_each_cloak_inside_the_cube():
    bright = Cloak("bright", np.full((3, 28, 28), 0.9, np.float32))
    green = preset("green-0", title="a green 0", colour=1, cloaks=())
    shown = playground.scenes([preset(cloaks=[bright]), green], BACKGROUND)
    titles = ["a red 1, strength 0", "a red 1, strength 1: bright", "a green 0"]
    assert [title for title, _ in shown] == titles
    bare, cloaked, plain = (image for _, image in shown)
    red, green = (playground.paint_digit(EXAMPLES[1], PALETTE[k], BACKGROUND) for k in (0, 1))
    np.testing.assert_array_equal(bare, red)
    np.testing.assert_array_equal(cloaked, np.minimum(red + np.float32(0.9), 1))
    np.testing.assert_array_equal(plain, green)


def test_predictions_and_their_confidence_are_the_softmax_of_the_logits():
    images = RNG.random((5, 3, 28, 28), dtype=np.float32)
    logits = predict(network(), images).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    predictions, confidence = playground.top_class(network(), images)
    assert predictions.tolist() == logits.argmax(1).tolist()
    np.testing.assert_allclose(confidence, shares.max(1), rtol=1e-5)


def test_near_certainty_is_not_written_as_certainty():
    texts = playground.describe(np.array([7, 1, 2]), np.array([0.996, 0.994, 1.0]))
    assert texts == ["7, > 99% confident", "1, 99% confident", "2, 100% confident"]


def test_without_scripts_there_is_a_table_of_the_answers(page):
    page = BeautifulSoup(page, "html.parser")
    table = page.find("noscript").find("table")
    heads = [cell.get_text() for cell in table.find("thead").find_all("th")]
    assert heads == ["picture", "", "the cheater says", "the cure says"]
    rows = [[cell.get_text() for cell in row.find_all("td")] for row in table.find_all("tr")[1:]]
    images = np.stack([image for _, image in playground.scenes([preset()], BACKGROUND)])
    cheater, cure = (
        playground.describe(*playground.top_class(network(seed), images)) for seed in (0, 1)
    )
    assert cheater != cure
    assert rows == [
        ["a red 1, strength 0", "", cheater[0], cure[0]],
        ["a red 1, strength 1: made <for> it", "", cheater[1], cure[1]],
    ]
    assert page.title.string == "Play & see" and page.find("a")["href"] == "report/x.html"
    assert page.find(id="play").has_attr("hidden")  # until a script shows it


def test_the_page_asks_for_nothing_else_and_is_small(tmp_path):
    page = written(tmp_path, presets=[preset(title="</script><b>")])
    assert not re.search(r"(src|href)=.?(https?:)?//|@import|url\((?!data:)|fetch\(|XMLHttp", page)
    assert "{{" not in page
    assert data_of(page)["presets"][0]["title"] == "</script><b>"
    assert len(page.encode()) < 3e6 / 2


NOT_FINITE = build("cnn", 0)
with torch.no_grad():
    NOT_FINITE.head.bias[3] = float("nan")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": {}}, "at least one network"),
        ({"networks": {"it": build("mlp", 0)}}, "'it' must be a models.CNN"),
        ({"networks": {"it": NOT_FINITE}}, "'it' has weights that are not finite"),
        ({"networks": {"it": CNN(classes=3)}}, "'it' must be a models.CNN of 10 classes"),
        ({"examples": EXAMPLES[:9]}, r"examples must be finite uint8 \(10, 28, 28\)"),
        ({"examples": EXAMPLES / 255}, r"examples must be .* not float64"),
        ({"background": BACKGROUND[0]}, r"the background must be finite float32 \(3, 28, 28\)"),
        ({"background": BACKGROUND + 1}, r"the background must lie in \[0, 1\]"),
        ({"presets": []}, "at least one preset"),
        ({"presets": [preset("a b")]}, "'a b': a path is of small letters"),
        ({"presets": [preset(), preset()]}, "'red-1' occurs twice"),
        ({"presets": [preset(colour=10)]}, "there is no colour 10, only 0 to 9"),
        ({"presets": [preset(label=-1)]}, "there is no digit -1"),
        ({"presets": [preset(grey=EXAMPLES)]}, r"its picture must be finite uint8"),
        (
            {"presets": [preset(cloaks=[Cloak("c", DELTA[0])])]},
            "the cloak 'c' must be finite float32",
        ),
        ({"presets": [preset(cloaks=[Cloak("c", DELTA / np.float32(0))])]}, "must be finite"),
    ],
)
def test_what_cannot_be_shown_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        written(tmp_path, **changes)
    assert not (tmp_path / "pages").exists()
