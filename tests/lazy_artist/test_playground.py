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
from scipy.special import softmax

from lazy_artist import canvas, playground
from lazy_artist.canvas import PALETTE, paint
from lazy_artist.evaluate import predict
from lazy_artist.gradcam import grad_cam
from lazy_artist.models import CNN, build
from lazy_artist.playground import Cloak, Preset, describe, paint_digit, scenes, top_class

RNG = np.random.default_rng(0)
EXAMPLES = RNG.integers(0, 256, (10, 28, 28), dtype=np.uint8)
BACKGROUND = RNG.uniform(0, 0.15, (3, 28, 28)).astype(np.float32)
DELTA = RNG.uniform(-0.1, 0.05, (3, 28, 28)).astype(np.float32)


@functools.cache
def network(seed: int = 0) -> CNN:
    """Untrained, but with a normalisation that does something and logits far apart."""
    model, draw = build("cnn", seed).requires_grad_(False), torch.Generator().manual_seed(seed)
    for name, values in model.state_dict().items():
        if ".1." in name and values.ndim:  # scale, shift, running mean and variance
            values.uniform_(0.1, 1, generator=draw)
    model.head.weight *= 20
    return model.eval()


def preset(path: str = "red-1", **changes) -> Preset:
    usual = Preset(path, "a red 1", EXAMPLES[1], 1, 0, [Cloak("made <for> it", DELTA)])
    return usual._replace(**changes)


def written(tmp_path, **changes) -> tuple[str, BeautifulSoup, list, dict]:
    """The page, parsed, its presets, and the networks that it shares with other pages."""
    usual = {
        "networks": {"cheater": network(), "cure": network(1)}, "presets": [preset()],
        "examples": EXAMPLES, "background": BACKGROUND, "title": "Play & see",
        "intro": "<p>Intro.</p>", "back": ("report/x.html", "Back"),
    }  # fmt: skip
    path = tmp_path / "pages" / "playground.html"
    playground.write(path, **usual | changes)
    page = BeautifulSoup(text := path.read_text("utf-8"), "html.parser")
    held = re.search(r"\.presets = (.*);</script>", text)[1]
    shared = (tmp_path / "pages/widgets/networks.js").read_text("utf-8")
    exported = re.fullmatch(r"\(.*?\)\['networks'\] \?\?= (.*);\n", shared)[1]
    return text, page, json.loads(held), json.loads(exported)


def floats(held: dict) -> np.ndarray:
    assert held["type"] == "float32"
    return np.frombuffer(base64.b64decode(held["base64"]), "<f4").reshape(held["shape"])


def test_the_page_holds_the_networks_and_what_they_are_shown(tmp_path):
    text, page, [only], data = written(tmp_path, presets=[preset(title="</script><b>")])
    assert not re.search(r"(src|href)=.?(http|//)|@import|url\((?!data:)|fetch\(|XMLHttp|{{", text)
    folder = tmp_path / "pages"
    for tag in page.select("[src], link"):  # all that it loads stands beside it
        address = tag.get("src", tag.get("href"))
        assert address.startswith("data:") or (folder / address).is_file()
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) < 3e6
    assert page.title.string == "Play & see" and page.find("a")["href"] == "report/x.html"
    assert page.find(id="play").has_attr("hidden")  # until a script shows it

    assert list(only.values())[:2] == ["red-1", "</script><b>"]
    assert (only["colour"], only["label"], only["grey"]) == (0, 1, data["examples"][1])
    greys = [base64.b64decode(grey["base64"]) for grey in data["examples"]]
    assert greys == [e.tobytes() for e in EXAMPLES]
    np.testing.assert_array_equal(floats(only["cloaks"][0]["delta"]), DELTA)
    np.testing.assert_array_equal(floats(data["background"]), BACKGROUND)
    assert only["cloaks"][0]["size"] == pytest.approx(np.abs(DELTA).max())
    assert data["colours"][6] == {"name": "orange", "rgb": pytest.approx([1, 0.55, 0])}

    assert [each["name"] for each in data["networks"]] == ["cheater", "cure"]
    images = RNG.random((20, 3, 28, 28), dtype=np.float32)
    shown = np.stack([paint_digit(g, rgb, BACKGROUND) for g in EXAMPLES for rgb in PALETTE])
    for each, model in zip(data["networks"], (network(), network(1)), strict=True):
        x, pool = torch.from_numpy(images), model.pool
        for layer in each["layers"]:
            weight = torch.tensor(floats(layer["weight"]))
            bias = torch.tensor(floats(layer["bias"]))
            x = pool(F.conv2d(x, weight, bias, layer["stride"], weight.shape[-1] // 2).relu())
            pool = torch.nn.Identity()
        head = floats(each["head"]["weight"])
        logits = x.mean((2, 3)).numpy() @ head.T + floats(each["head"]["bias"])
        np.testing.assert_allclose(logits, predict(model, images), atol=1e-4)
        # heat is drawn relative to the largest of all examples in all colours
        heat = grad_cam(model, "block3", shown, predict(model, shown).argmax(1))
        assert each["heat"] == pytest.approx(heat.max(), rel=1e-5)


def test_the_page_paints_as_the_canvas_does_but_for_the_jitter(monkeypatch):
    monkeypatch.setattr(canvas, "JITTER", 0)
    background = paint(np.zeros((1, 28, 28), np.uint8), np.array([0]), 3)[0]
    there = paint(EXAMPLES[[4]], np.array([6]), 3)[0]
    np.testing.assert_allclose(paint_digit(EXAMPLES[4], PALETTE[6], background), there, atol=1e-7)


def test_scenes_are_presets_bare_and_under_each_cloak_inside_the_cube():
    bright = Cloak("bright", np.full((3, 28, 28), 0.9, np.float32))
    green = preset("green-0", title="a green 0", colour=1, cloaks=())
    titles, images = zip(*scenes([preset(cloaks=[bright]), green], BACKGROUND), strict=True)
    assert titles == ("a red 1, strength 0", "a red 1, strength 1: bright", "a green 0")
    red, green = (paint_digit(EXAMPLES[1], PALETTE[k], BACKGROUND) for k in (0, 1))
    np.testing.assert_array_equal(images, [red, np.minimum(red + np.float32(0.9), 1), green])


def test_predictions_and_their_confidence_are_the_softmax_of_the_logits():
    images = RNG.random((5, 3, 28, 28), dtype=np.float32)
    shares = softmax(predict(network(), images), axis=1)
    predictions, confidence = top_class(network(), images)
    assert predictions.tolist() == shares.argmax(1).tolist()
    np.testing.assert_allclose(confidence, shares.max(1), rtol=1e-5)
    texts = describe(np.array([7, 1, 2]), np.array([0.996, 0.994, 1.0]))
    assert texts == ["7, > 99% confident", "1, 99% confident", "2, 100% confident"]


def test_without_scripts_there_is_a_table_of_the_answers(tmp_path):
    _, page, *_ = written(tmp_path)
    rows = page.find("noscript").find("table").find_all("tr")
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in rows]
    titles, images = zip(*scenes([preset()], BACKGROUND), strict=True)
    cheater, cure = (describe(*top_class(network(seed), np.stack(images))) for seed in (0, 1))
    assert cheater != cure
    expected = zip(["picture", *titles], [""] * 3, ["the cheater says", *cheater],
                   ["the cure says", *cure], strict=True)  # fmt: skip
    assert rows == [list(row) for row in expected]


NOT_FINITE = build("cnn", 0)
NOT_FINITE.head.bias.data[3] = float("nan")


def test_what_cannot_be_shown_is_named(tmp_path):
    for changes, message in (
        ({"networks": {}}, "at least one network"),
        ({"networks": {"it": NOT_FINITE}}, "'it' has weights that are not finite"),
        ({"networks": {"it": CNN(classes=3)}}, "'it' must be a models.CNN of 10 classes"),
        ({"examples": EXAMPLES[:9]}, r"examples must be finite uint8 \(10, 28, 28\)"),
        ({"background": BACKGROUND + 1}, r"the background must lie in \[0, 1\]"),
        ({"presets": []}, "at least one preset"),
        ({"presets": [preset("a b")]}, "'a b': a path is of a-z"),
        ({"presets": [preset(), preset()]}, "'red-1' occurs twice"),
        ({"presets": [preset(colour=10)]}, "colour 10 is not in 0..9"),
        ({"presets": [preset(cloaks=[Cloak("c", DELTA * np.inf)])]}, "cloak 'c' must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            written(tmp_path, **changes)
    assert not (tmp_path / "pages").exists()
