"""The playground in a real browser, opened as a file: does it compute what PyTorch computes, and
can it be used with mouse, finger and keys?"""

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browsing import IS_DARK, OVERFLOW, faults, open_page, violations
from playwright.sync_api import Page, expect

from lazy_artist import playground
from lazy_artist.canvas import COLOUR_NAMES, PALETTE, paint
from lazy_artist.evaluate import predict
from lazy_artist.gradcam import grad_cam, upsample
from lazy_artist.models import CNN, build
from lazy_artist.playground import Cloak, Preset
from lazy_artist.standin import draw_digits

RNG = np.random.default_rng(0)
FLOATS = """text => Float32Array.from(new Float32Array(
  Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer))"""
SEVEN = [[[0.3, 0.2], [0.7, 0.2], [0.45, 0.8]]]


def network(seed: int) -> CNN:
    """Untrained, but normalised to such pictures, and with answers far apart."""
    model = build("cnn", seed).train()
    images = torch.from_numpy(paint(draw_digits(200, seed)[0], RNG.integers(0, 10, 200), seed))
    for block in (model.block1, model.block2, model.block3):
        block[1].momentum = None  # one pass is enough
    with torch.no_grad():
        model(images)
        features = model.features(images)
        model.head.weight.mul_(30)
        model.head.bias.sub_(features.mean(0) @ model.head.weight.T)
    return model.eval()


class Playground:
    """A page with all that went into it."""

    def __init__(self, folder: Path):
        self.path = folder / "playground.html"
        self.networks = {"cheater": network(0), "cure": network(1)}
        self.background = paint(np.zeros((1, 28, 28), np.uint8), np.array([0]), 0)[0]
        self.examples = draw_digits(10, 3)[0]
        delta = RNG.uniform(-0.5, 0.5, (2, 3, 28, 28)).astype(np.float32)
        cloaks = [Cloak("made for one", delta[0]), Cloak("made for the other", delta[1])]
        self.presets = [
            Preset("red-1", "a red 1", self.examples[1], 1, 0),
            Preset("green-0", "a green 0", self.examples[0], 0, 1),
            Preset("cloaked-7", "a cloaked 7", self.examples[7], 7, 7, cloaks),
        ]
        playground.write(
            self.path, self.networks, self.presets, self.examples, self.background,
            title="The Playground", intro="<p>Draw.</p>", back=("index.html", "Back"),
        )  # fmt: skip

    def painted(self, grey: np.ndarray, colour: int) -> np.ndarray:
        return playground.paint_digit(grey, PALETTE[colour], self.background)

    def expected(self, grey: np.ndarray, colour: int, delta: np.ndarray | float = 0) -> str:
        """What stands below the pad for this picture."""
        image = np.clip(self.painted(grey, colour) + delta, 0, 1)[None].astype(np.float32)
        tops = [playground.top_class(model, image) for model in self.networks.values()]
        texts = [playground.describe(*top)[0] for top in tops]
        return "\n".join(f"The {n} says {t}." for n, t in zip(self.networks, texts, strict=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Playground:
    return Playground(tmp_path_factory.mktemp("playground"))


@pytest.fixture
def tab(made, browser) -> Iterator[Page]:
    with open_page(browser, made.path, has_touch=True) as tab:
        yield tab


def brief(tab: Page) -> str:
    """What stands below the pad once all that follows from the last move is on the page."""
    tab.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")
    return tab.inner_text("#brief")


def test_logits_and_heat_maps_are_those_of_the_modules(made, tab):
    # painted pictures, and noise over the whole cube
    painted = paint(draw_digits(100, 5)[0], RNG.integers(0, 10, 100), 5)
    images = np.concatenate([painted, RNG.random((100, 3, 28, 28), dtype=np.float32)])
    run = f"""([name, text, classes, what]) => {{
      const all = ({FLOATS})(text), one = i => all.subarray(2352 * i, 2352 * (i + 1));
      return classes.map((wanted, i) => Array.from(playground[what](name, one(i), wanted)));
    }}"""
    texts = [base64.b64encode(part.tobytes()).decode() for part in (images, images[80:120])]
    for name, model in made.networks.items():
        there = predict(model, images)
        assert there.std() > 3 and len(set(there.argmax(1))) > 2
        here = tab.evaluate(run, [name, texts[0], [0] * 200, "logits"])
        np.testing.assert_allclose(here, there, atol=1e-3, rtol=0)
        for classes in (there.argmax(1)[80:120], (there.argmax(1)[80:120] + 3) % 10):
            maps = grad_cam(model, "block3", images[80:120], classes)
            assert (maps.max((1, 2)) > 0).mean() > 0.5
            here = tab.evaluate(run, [name, texts[1], classes.tolist(), "gradCam"])
            close = {"atol": 1e-5 * float(maps.max()), "rtol": 1e-3}
            np.testing.assert_allclose(np.reshape(here, maps.shape), maps, **close)
    # heat is enlarged and pictures are painted as in Python
    maps = RNG.random((3, 7, 7), dtype=np.float32)
    run = "([map]) => Array.from(playground.upsample(map, 7))"
    here = [np.reshape(tab.evaluate(run, [each.ravel().tolist()]), (28, 28)) for each in maps]
    np.testing.assert_allclose(here, upsample(maps), atol=1e-6)
    run = "([grey, rgb]) => Array.from(playground.paint(grey, rgb))"
    here = tab.evaluate(run, [made.examples[5].ravel().tolist(), PALETTE[6].tolist()])
    there = made.painted(made.examples[5], 6)
    np.testing.assert_allclose(np.reshape(here, (3, 28, 28)), there, atol=1e-6)


def drawn(tab: Page, strokes: list) -> np.ndarray:
    grey = tab.evaluate("strokes => Array.from(playground.normalise(strokes))", strokes)
    return np.reshape(grey, (28, 28))


def test_a_drawing_is_scaled_and_centred_like_mnist_wherever_and_however_large(tab):
    for strokes in ([[[0.55, 0.2], [0.45, 0.8]]], SEVEN, [*SEVEN, [[0.4, 0.5], [0.7, 0.5]]]):
        grey = drawn(tab, strokes)
        rows, columns = (np.flatnonzero((grey > 127).any(axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20, 21)
        centre = [grey.sum(axis) @ np.arange(28) / grey.sum() for axis in (1, 0)]
        np.testing.assert_allclose(centre, 14, atol=0.15)
        assert ((grey > 20) & (grey < 235)).sum() > 20  # soft edges
    small = [[[0.1 + 0.5 * x, 0.4 + 0.5 * y] for x, y in stroke] for stroke in SEVEN]
    np.testing.assert_allclose(drawn(tab, small), drawn(tab, SEVEN), atol=1)
    assert drawn(tab, []).sum() == 0
    dot = drawn(tab, [[[0.2, 0.9]]])
    assert dot[14, 14] == 255 and 5 < dot.sum() / 255 < 10


def test_presets_and_the_strength_of_a_cloak_change_the_predictions(made, tab):
    seen = []
    for preset in made.presets:
        tab.get_by_role("button", name=preset.title, exact=True).click()
        assert brief(tab) == made.expected(preset.grey, preset.colour)
        assert tab.is_checked(f"#colours input[value='{preset.colour}']")
        assert tab.is_visible("#cloak") == bool(preset.cloaks)
        seen.append(brief(tab))
    assert len(set(seen)) == 3
    seven, slider = made.presets[2], tab.get_by_label("Strength")
    for cloak in seven.cloaks:
        tab.get_by_label(cloak.title).check()
        for strength in (0, 0.35, 1):
            slider.fill(str(strength))
            assert brief(tab) == made.expected(seven.grey, 7, np.float32(strength) * cloak.delta)
            seen.append(brief(tab))
    assert len(set(seen[3:])) > 3
    largest = np.abs(seven.cloaks[1].delta).max()
    assert f"more than {largest:.3f}" in tab.inner_text("#strength-text")


def test_a_test_digit_comes_in_the_colour_chosen_and_in_all_colours(made, tab):
    tab.get_by_role("radio", name="orange").check()
    tab.get_by_role("button", name="test digit 4").click()
    assert brief(tab) == made.expected(made.examples[4], 6)
    assert tab.inner_text("#seen-text") == "The digit 4 in orange, 28 by 28 pixels"
    bold = [line.inner_text().split()[0] for line in tab.locator("article .top").all()]
    assert bold == [line.split("says ")[1][0] for line in brief(tab).splitlines()]
    assert tab.locator("article .bars tr").count() == 20
    assert tab.locator("article .bars .swatch").count() == 2  # the answer that the colour suggests
    tab.get_by_role("button", name="Paint it in all colours").click()
    for digit in (4, 8):  # the table follows the picture
        tab.get_by_role("button", name=f"test digit {digit}").click()
        images = np.stack([made.painted(made.examples[digit], colour) for colour in range(10)])
        models = made.networks.values()
        said = np.transpose([playground.top_class(model, images)[0] for model in models])
        expect(tab.locator("#ten-table td b")).to_have_text(said.ravel().astype(str).tolist())
        rows = tab.locator("#ten-table tbody tr").all()
        assert [row.locator("th").inner_text() for row in rows] == list(COLOUR_NAMES)
        shortcuts = said == np.arange(10)[:, None]
        assert [row.locator("td .swatch").count() for row in rows] == shortcuts.sum(1).tolist()
        for name, count in zip(made.networks, shortcuts.sum(0), strict=True):
            words = tab.inner_text("#ten-text").split(f"The {name}")[1]
            assert f"what the colour suggests in {count} of 10" in words


def test_a_mouse_and_a_finger_draw(tab):
    box = tab.locator("#pad").bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    before = brief(tab)
    tab.mouse.move(*at(0.3, 0.2))
    tab.mouse.down()
    for x, y in ((0.5, 0.2), (0.7, 0.2), (0.6, 0.5), (0.45, 0.8)):
        tab.mouse.move(*at(x, y))
    tab.mouse.up()
    assert tab.inner_text("#seen-text") == "Your drawing in red, 28 by 28 pixels"
    drawing = brief(tab)
    tab.mouse.move(*at(0.1, 0.9))  # the mouse is up
    assert brief(tab) == drawing != before
    tab.get_by_role("button", name="Undo").click()
    assert "Draw something" in brief(tab)
    tab.touchscreen.tap(*at(0.5, 0.5))
    assert "says" in brief(tab)
    assert tab.evaluate("getComputedStyle(document.getElementById('pad')).touchAction") == "none"


FOCUSED = """() => {
  const e = document.activeElement;
  const seen = [e, e.closest('label') ?? e].some(x => getComputedStyle(x).outlineStyle !== 'none');
  return seen && (e.id || e.name || e.getAttribute('aria-label') || e.textContent);
}"""


def test_all_of_it_can_be_done_with_keys(made, tab):
    def press(*keys: str) -> None:
        for key in keys:
            tab.keyboard.press(key)

    stops = []
    for _ in range(19):
        press("Tab")
        stops.append(tab.evaluate(FOCUSED))
    tests = [f"test digit {digit}" for digit in range(10)]
    titles = [preset.title for preset in made.presets]
    assert stops == ["Back", "pad", "undo", "clear", "colour", *titles, *tests, "repaint"]
    tab.focus("#pad")
    press(*["ArrowUp"] * 4, " ", *["ArrowRight"] * 4, *["ArrowDown"] * 8, " ", "ArrowLeft")
    assert tab.inner_text("#pen") == "Pen up, column 10, row 11 of 14"
    corner = [[(c + 0.5) / 14, (r + 0.5) / 14] for c, r in ((6, 2), (10, 2), (10, 10))]
    grey = drawn(tab, [corner]).astype(np.uint8)
    assert brief(tab) == made.expected(grey, 0)
    # spoken once the pen has come to rest
    expect(tab.locator("#verdict")).to_have_text(brief(tab).replace("\n", " "))
    press("Tab", "Tab", "Tab", "ArrowDown")  # from red to green
    assert brief(tab) == made.expected(grey, 1)
    press("Tab", "Tab", "Enter")
    assert brief(tab) == made.expected(made.presets[1].grey, 1)
    tab.focus("#pad")
    press(" ", "ArrowDown", " ", "ArrowRight", " ", "ArrowUp", "Backspace")
    assert "says" in brief(tab)  # the first of two strokes is left
    press("Delete")
    assert "Draw something" in brief(tab)
    expect(tab.locator("#verdict")).to_have_text("Nothing drawn.")


def test_the_page_has_no_fault_on_a_phone_either_in_the_theme_of_the_book(made, browser, tab):
    assert faults(browser, made.path, "light") + faults(browser, made.path, "dark") == []
    assert not tab.evaluate(IS_DARK)
    tab.evaluate("localStorage.setItem('book-theme', 'dark')")
    tab.goto(made.path.as_uri() + "#cloaked-7")
    tab.reload()
    assert tab.evaluate(IS_DARK)
    tab.get_by_role("button", name="Paint it in all colours").click()
    for width in (390, 320):
        tab.set_viewport_size({"width": width, "height": 700})
        assert tab.evaluate(OVERFLOW, width) == []
    assert violations(tab) == []
