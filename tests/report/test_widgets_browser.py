"""The network and the widgets in a real browser: do they compute what PyTorch computes, and can the
front page's be used with mouse, finger and keys, and without scripts?"""

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browsing import PHONE, faults, open_page
from playing import Playground, write_page
from playwright.sync_api import Page, expect

from lazy_artist import widgets
from lazy_artist.canvas import COLOUR_NAMES, PALETTE, paint
from lazy_artist.evaluate import predict
from lazy_artist.gradcam import grad_cam, upsample
from lazy_artist.standin import draw_digits

RNG = np.random.default_rng(0)
# image by image, what an expression of them gives: `net` is the network, `given` what goes with it
EACH = """([name, text, given, expression]) => {
  const all = new Float32Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const net = Widgets.data("networks").networks.find(network => network.name === name);
  const compute = new Function("net", "image", "given", `return ${expression}`);
  const image = i => all.subarray(2352 * i, 2352 * (i + 1));
  return given.map((one, i) => Array.from(compute(net, image(i), one)));
}"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Playground:
    return Playground(tmp_path_factory.mktemp("widgets"))


@pytest.fixture(scope="module")
def page(made) -> Path:
    """A page with the front page's widget, as its Markdown and its dressing make it."""
    still = {"page": "index.html", "still": "Here is a picture."}
    placed = widgets.place("wheel", "Turn it.", "See.", **still)
    return write_page(made.path.with_name("index.html"), placed)


@pytest.fixture
def tab(page, browser) -> Iterator[Page]:
    with open_page(browser, page, has_touch=True) as tab:
        yield tab


def computed(tab: Page, name: str, images: np.ndarray, given: list, expression: str) -> np.ndarray:
    text = base64.b64encode(images.tobytes()).decode()
    return np.array(tab.evaluate(EACH, [name, text, given, expression]))


def test_logits_and_heat_maps_are_those_of_the_modules(made, tab):
    # painted pictures, and noise over the whole cube
    painted = paint(draw_digits(100, 5)[0], RNG.integers(0, 10, 100), 5)
    images = np.concatenate([painted, RNG.random((100, 3, 28, 28), dtype=np.float32)])
    for name, model in made.networks.items():
        there = predict(model, images)
        assert there.std() > 3 and len(set(there.argmax(1))) > 2
        here = computed(tab, name, images, [0] * 200, "Network.forward(net, image).logits")
        np.testing.assert_allclose(here, there, atol=1e-3, rtol=0)
        for classes in (there.argmax(1), (there.argmax(1) + 3) % 10):
            maps = grad_cam(model, "block3", images, classes)
            assert (maps.max((1, 2)) > 0).mean() > 0.5
            heat = "Network.gradCam(net, Network.forward(net, image), given)"
            here = computed(tab, name, images, classes.tolist(), heat).reshape(maps.shape)
            np.testing.assert_allclose(here, maps, atol=1e-5 * float(maps.max()), rtol=1e-3)
    # heat is enlarged and pictures are painted as in Python
    maps = RNG.random((3, 7, 7), dtype=np.float32)
    run = "map => Array.from(Network.upsample(map, 7))"
    here = [np.reshape(tab.evaluate(run, each.ravel().tolist()), (28, 28)) for each in maps]
    np.testing.assert_allclose(here, upsample(maps), atol=1e-6)
    run = """([grey, rgb]) =>
      Array.from(Network.paint(grey, rgb, Widgets.data("networks").background))"""
    here = tab.evaluate(run, [made.examples[5].ravel().tolist(), PALETTE[6].tolist()])
    there = made.painted(made.examples[5], 6)
    np.testing.assert_allclose(np.reshape(here, (3, 28, 28)), there, atol=1e-6)


def test_the_backward_pass_gives_the_gradient_at_the_image(made, tab):
    painted = paint(draw_digits(10, 6)[0], RNG.integers(0, 10, 10), 6)
    images = np.concatenate([painted, RNG.random((10, 3, 28, 28), dtype=np.float32)])
    slopes = np.zeros((20, 10), np.float32)  # of a margin between two classes
    slopes[np.arange(20), np.arange(20) % 10] += 1
    slopes[np.arange(20), (np.arange(20) + 3) % 10] -= 1
    for name, model in made.networks.items():
        x = torch.from_numpy(images).requires_grad_()
        there = torch.autograd.grad((model(x) * torch.from_numpy(slopes)).sum(), x)[0].numpy()
        expression = "Network.backward(net, Network.forward(net, image), given)"
        here = computed(tab, name, images, slopes.tolist(), expression).reshape(there.shape)
        largest = np.abs(there).max((1, 2, 3), keepdims=True)
        assert largest.min() > 0.01
        np.testing.assert_allclose(here / largest, there / largest, atol=1e-3, rtol=0)


def test_what_is_added_to_the_last_maps_moves_the_logits_as_a_hook_would(made, tab):
    images, model = RNG.random((3, 3, 28, 28), dtype=np.float32), made.networks["cheater"]
    added = RNG.normal(size=128).astype(np.float32)
    expression = "Network.forward(net, image, Float32Array.from(given)).logits"
    here = computed(tab, "cheater", images, [added.tolist()] * 3, expression)
    rewrite = torch.from_numpy(added)[None, :, None, None]
    with model.block3.register_forward_hook(lambda _, __, out: out + rewrite):
        np.testing.assert_allclose(here, predict(model, images), atol=1e-3, rtol=0)


def test_the_wheel_passes_through_the_palette_and_mixes_its_neighbours(tab):
    hue = """turn => { const {colours, wheel} = Widgets.data("networks");
      return Network.hue(turn, wheel.map(k => colours[k].rgb)); }"""
    order = [COLOUR_NAMES.index(name) for name in ("red", "orange", "yellow", "green")]
    assert widgets.WHEEL[:4] == order and sorted(widgets.WHEEL) == list(range(10))
    for turn, colour in enumerate([*widgets.WHEEL, widgets.WHEEL[0]]):
        assert tab.evaluate(hue, turn) == pytest.approx(PALETTE[colour])
    red, white = PALETTE[0], PALETTE[9]
    assert tab.evaluate(hue, 9.25) == pytest.approx(0.75 * white + 0.25 * red)
    assert tab.evaluate(hue, -0.75) == pytest.approx(0.75 * white + 0.25 * red)


def answers(tab: Page) -> list[str]:
    """What the cards say, once all that follows from the last move is on the page."""
    tab.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")
    told = [answer.inner_text() for answer in tab.locator(".answer").all()]
    return [", ".join(text.split(";")[0].split("\n")) for text in told]


def test_the_front_pages_answers_follow_the_wheel_by_keys_and_name(made, tab):
    seven, mixed = made.examples[7], [PALETTE[k] for k in (3, 1)]  # yellow, green
    assert answers(tab) == made.told(seven, 3)
    slider = tab.get_by_label("Colour of the stroke")
    slider.focus()
    for _ in range(4):
        tab.keyboard.press("ArrowRight")
    assert answers(tab) == made.told(seven, 0.6 * mixed[0] + 0.4 * mixed[1])
    assert slider.get_attribute("aria-valuetext") == (
        "between yellow and green, which suggest 3 or 1"
    )
    assert tab.locator(".bars .swatch").count() == 6  # both, in three tables
    expect(tab.get_by_role("radio", checked=True)).to_have_count(0)
    seen = [answers(tab)]
    for turn, colour in enumerate(widgets.WHEEL):
        tab.get_by_role("radio", name=COLOUR_NAMES[colour]).check()
        assert slider.input_value() == str(turn)
        assert answers(tab) == made.told(seven, colour)
        seen.append(answers(tab))
    assert len({told[0] for told in seen}) > 3
    tab.keyboard.press("ArrowLeft")  # in the group of names: from white to pink
    assert answers(tab) == made.told(seven, 8)
    tab.get_by_role("button", name="test digit 4").press("Enter")
    assert answers(tab) == made.told(made.examples[4], 8)
    tab.wait_for_url("**#wheel?digit=4&hue=8")
    link = tab.get_by_role("link", name="More in the playground").get_attribute("href")
    assert link == "playground.html#play?digit=4&hue=8"
    tab.goto(tab.url.replace("digit=4&hue=8", "digit=2&hue=4.5"))
    assert answers(tab) == made.told(made.examples[2], (PALETTE[5] + PALETTE[2]) / 2)


def test_a_finger_scrolls_past_the_front_pages_pad_until_it_is_asked_to_draw(tab):
    tab.set_viewport_size(PHONE)
    before, box = answers(tab), tab.locator(".pad").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    touch = "getComputedStyle(document.querySelector('.pad')).touchAction"
    tab.touchscreen.tap(*middle)
    assert answers(tab) == before and tab.evaluate(touch) == "auto"
    tab.get_by_role("button", name="Draw your own").click()
    assert answers(tab) == ["–, nothing drawn yet"] * 3 and tab.evaluate(touch) == "none"
    tab.touchscreen.tap(*middle)
    assert all("confident" in told for told in answers(tab))


def test_the_widget_has_no_fault_and_a_still_where_scripts_are_off(browser, page, tab):
    assert faults(browser, page, "light") + faults(browser, page, "dark") == []
    expect(tab.get_by_text("Here is a picture.")).to_be_hidden()
    with open_page(browser, page, java_script_enabled=False) as bare:
        expect(bare.get_by_text("Here is a picture.")).to_be_visible()
        assert bare.locator(".widget canvas").count() == 0
