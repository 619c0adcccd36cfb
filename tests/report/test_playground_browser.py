"""The playground in a real browser, opened as a file: does it compute what PyTorch computes, and
can it be used with mouse, finger and keys?"""

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import test_book_browser as book_browser
import torch
from browsing import violations
from playwright.sync_api import Browser, Page, expect

from lazy_artist import playground
from lazy_artist.canvas import COLOUR_NAMES, PALETTE, paint
from lazy_artist.evaluate import predict
from lazy_artist.gradcam import grad_cam, upsample
from lazy_artist.models import CNN, build
from lazy_artist.playground import Cloak, Preset

browser = book_browser.browser  # the fixture
RNG = np.random.default_rng(0)
FLOATS = """text => Float32Array.from(new Float32Array(
  Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer))"""
ONE = [[[0.55, 0.2], [0.45, 0.8]]]
SEVEN = [[[0.3, 0.2], [0.7, 0.2], [0.45, 0.8]]]


def greys(count: int) -> np.ndarray:
    """Grey pictures of two soft bars each, uint8 (count, 28, 28)."""
    rows = np.arange(28)
    middle, width = RNG.uniform(8, 20, (2, count, 2, 1)), RNG.uniform(1, 7, (2, count, 2, 1))
    ramps = np.clip(width - np.abs(rows - middle) + 0.5, 0, 1)  # (2 axes, count, 2 bars, 28)
    bars = ramps[0][..., :, None] * ramps[1][..., None, :]
    return np.round(255 * bars.max(1)).astype(np.uint8)


def network(seed: int) -> CNN:
    """Untrained, but normalised to such pictures, and with answers far apart."""
    model = build("cnn", seed).train()
    images = torch.from_numpy(paint(greys(200), RNG.integers(0, 10, 200), seed))
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
        self.examples = greys(10)
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

    def expected(self, grey: np.ndarray, colour: int, delta: np.ndarray | float = 0) -> str:
        """What stands below the pad for this picture."""
        image = playground.paint_digit(grey, PALETTE[colour], self.background) + delta
        image = np.clip(image, 0, 1)[None].astype(np.float32)
        tops = [playground.top_class(model, image) for model in self.networks.values()]
        texts = [playground.describe(*top)[0] for top in tops]
        return "\n".join(f"The {n} says {t}." for n, t in zip(self.networks, texts, strict=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Playground:
    return Playground(tmp_path_factory.mktemp("playground"))


@pytest.fixture
def tab(made: Playground, browser: Browser) -> Iterator[Page]:
    """The page, fresh; whatever it complains of fails the test."""
    context = browser.new_context(viewport=book_browser.DESK, has_touch=True)
    tab = context.new_page()
    complaints: list[str] = []
    tab.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(made.path.as_uri())
    yield tab
    context.close()
    assert complaints == []


def settle(tab: Page) -> None:
    """Waits until what follows from the last move is on the page."""
    tab.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")


def brief(tab: Page) -> str:
    settle(tab)
    return tab.inner_text("#brief")


def encoded(images: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(images, "<f4").tobytes()).decode()


# --- the same numbers as PyTorch -----------------------------------------------------------------


def pictures() -> np.ndarray:
    """A hundred painted pictures, and a hundred of noise over the whole cube."""
    painted_ = paint(greys(100), RNG.integers(0, 10, 100), 5)
    return np.concatenate([painted_, RNG.random((100, 3, 28, 28), dtype=np.float32)])


def test_logits_are_those_of_pytorch_on_two_hundred_images(made: Playground, tab: Page) -> None:
    images = pictures()
    run = f"""([name, text]) => {{
      const all = ({FLOATS})(text), found = [];
      for (let i = 0; i < all.length; i += 2352)
        found.push(playground.logits(name, all.subarray(i, i + 2352)));
      return found;
    }}"""
    for name, model in made.networks.items():
        here = np.array(tab.evaluate(run, [name, encoded(images)]))
        there = predict(model, images)
        assert there.std() > 3 and len(set(there.argmax(1))) > 2
        assert here.shape == (200, 10)
        np.testing.assert_allclose(here, there, atol=1e-3, rtol=0)


def test_heat_maps_are_those_of_the_module(made: Playground, tab: Page) -> None:
    images = pictures()[80:120]
    run = f"""([name, text, classes]) => {{
      const all = ({FLOATS})(text);
      return classes.map((wanted, i) =>
        playground.gradCam(name, all.subarray(2352 * i, 2352 * (i + 1)), wanted));
    }}"""
    for name, model in made.networks.items():
        predicted = predict(model, images).argmax(1)
        for classes in (predicted, (predicted + 3) % 10):
            here = np.array(tab.evaluate(run, [name, encoded(images), classes.tolist()]))
            there = grad_cam(model, "block3", images, classes)
            assert (there.max((1, 2)) > 0).mean() > 0.5
            np.testing.assert_allclose(
                here.reshape(there.shape), there, atol=1e-5 * float(there.max()), rtol=1e-3
            )


def test_heat_is_enlarged_as_the_module_does(tab: Page) -> None:
    maps = RNG.random((3, 7, 7), dtype=np.float32)
    run = "([map]) => Array.from(playground.upsample(map, 7))"
    here = [np.reshape(tab.evaluate(run, [each.ravel().tolist()]), (28, 28)) for each in maps]
    np.testing.assert_allclose(here, upsample(maps), atol=1e-6)


def test_pictures_are_painted_as_in_python(made: Playground, tab: Page) -> None:
    run = "([grey, rgb]) => Array.from(playground.paint(grey, rgb))"
    grey = made.examples[5]
    here = tab.evaluate(run, [grey.ravel().tolist(), PALETTE[6].tolist()])
    there = playground.paint_digit(grey, PALETTE[6], made.background)
    np.testing.assert_allclose(np.reshape(here, (3, 28, 28)), there, atol=1e-6)


# --- from strokes to a digit ---------------------------------------------------------------------


def drawn(tab: Page, strokes: list) -> np.ndarray:
    grey = tab.evaluate("strokes => Array.from(playground.normalise(strokes))", strokes)
    return np.reshape(grey, (28, 28))


@pytest.mark.parametrize("strokes", [ONE, SEVEN, [*SEVEN, [[0.4, 0.5], [0.7, 0.5]]]])
def test_a_drawing_is_scaled_and_centred_like_mnist(tab: Page, strokes: list) -> None:
    grey = drawn(tab, strokes)
    rows, columns = (np.flatnonzero((grey > 127).any(axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20, 21)
    mass = grey.sum()
    centre = (grey.sum(1) @ np.arange(28) / mass, grey.sum(0) @ np.arange(28) / mass)
    np.testing.assert_allclose(centre, 14, atol=0.15)
    assert ((grey > 20) & (grey < 235)).sum() > 20  # soft edges


def test_where_and_how_large_one_draws_makes_no_difference(tab: Page) -> None:
    small = [[[0.1 + 0.5 * x, 0.4 + 0.5 * y] for x, y in stroke] for stroke in SEVEN]
    np.testing.assert_allclose(drawn(tab, small), drawn(tab, SEVEN), atol=1)


def test_nothing_and_a_dot_are_drawn_as_such(tab: Page) -> None:
    assert drawn(tab, []).sum() == 0
    dot = drawn(tab, [[[0.2, 0.9]]])
    assert dot[14, 14] == 255 and 5 < dot.sum() / 255 < 10


# --- what one sees -------------------------------------------------------------------------------


def test_presets_change_the_predictions(made: Playground, tab: Page) -> None:
    seen = []
    for preset in made.presets:
        tab.get_by_role("button", name=preset.title, exact=True).click()
        assert brief(tab) == made.expected(preset.grey, preset.colour)
        assert tab.is_checked(f"#colours input[value='{preset.colour}']")
        assert tab.is_visible("#cloak") == bool(preset.cloaks)
        seen.append(brief(tab))
    assert len(set(seen)) == 3


def test_the_strength_lays_on_the_cloak_in_part(made: Playground, tab: Page) -> None:
    seven = made.presets[2]
    tab.goto(made.path.as_uri() + "#cloaked-7")
    slider = tab.get_by_label("Strength")
    said = set()
    for cloak in (0, 1):
        tab.get_by_label(seven.cloaks[cloak].title).check()
        for strength in (0, 0.35, 1):
            slider.fill(str(strength))
            delta = np.float32(strength) * seven.cloaks[cloak].delta
            assert brief(tab) == made.expected(seven.grey, 7, delta)
            said.add(brief(tab))
    assert len(said) > 3
    largest = np.abs(seven.cloaks[1].delta).max()
    assert f"more than {largest:.3f}" in tab.inner_text("#strength-text")


def test_a_test_digit_comes_in_the_colour_chosen(made: Playground, tab: Page) -> None:
    tab.get_by_role("radio", name="orange").check()
    tab.get_by_role("button", name="test digit 4").click()
    assert brief(tab) == made.expected(made.examples[4], 6)
    assert tab.inner_text("#seen-text") == "The digit 4 in orange, 28 by 28 pixels"
    top = tab.locator("article .top")
    bold = [line.inner_text().split()[0] for line in top.all()]
    said = [line.split("says ")[1][0] for line in brief(tab).splitlines()]
    assert bold == said
    assert tab.locator("article .bars tr").count() == 20
    assert tab.locator("article .bars .swatch").count() == 2  # the answer that the colour suggests


def test_one_digit_in_all_colours_side_by_side(made: Playground, tab: Page) -> None:
    tab.get_by_role("button", name="Paint it in all colours").click()
    grey = made.presets[0].grey
    images = np.stack([playground.paint_digit(grey, rgb, made.background) for rgb in PALETTE])
    said = {name: playground.top_class(m, images)[0] for name, m in made.networks.items()}
    rows = tab.locator("#ten-table tbody tr")
    assert rows.count() == 10
    for colour, row in enumerate(rows.all()):
        cells = row.locator("td b").all_inner_texts()
        assert row.locator("th").inner_text() == COLOUR_NAMES[colour]
        assert cells == [str(answer[colour]) for answer in said.values()]
        shortcuts = sum(answer[colour] == colour for answer in said.values())
        assert row.locator("td .swatch").count() == shortcuts
    words = tab.inner_text("#ten-text")
    for name, answer in said.items():
        count = int((answer == np.arange(10)).sum())
        assert f"what the colour suggests in {count} of 10" in words.split(f"The {name}")[1]
    before = tab.inner_text("#ten-table")
    tab.get_by_role("button", name="test digit 8").click()  # the table follows the picture
    expect(tab.locator("#ten-table")).not_to_have_text(before, use_inner_text=True)
    first = playground.paint_digit(made.examples[8], PALETTE[0], made.background)[None]
    expected = [str(playground.top_class(m, first)[0][0]) for m in made.networks.values()]
    assert rows.first.locator("td b").all_inner_texts() == expected


# --- mouse, finger, keys -------------------------------------------------------------------------


def test_a_mouse_draws(tab: Page) -> None:
    box = tab.locator("#pad").bounding_box()
    at = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])  # noqa: E731
    before = brief(tab)
    tab.mouse.move(*at(0.3, 0.2))
    tab.mouse.down()
    for x, y in ((0.5, 0.2), (0.7, 0.2), (0.6, 0.5), (0.45, 0.8)):
        tab.mouse.move(*at(x, y))
    tab.mouse.up()
    assert tab.inner_text("#seen-text") == "Your drawing in red, 28 by 28 pixels"
    assert brief(tab) != before
    drawn_ = brief(tab)
    tab.mouse.move(*at(0.1, 0.9))  # the mouse is up
    assert brief(tab) == drawn_
    tab.get_by_role("button", name="Undo").click()
    assert "Draw something" in brief(tab)


def test_a_finger_draws(tab: Page) -> None:
    box = tab.locator("#pad").bounding_box()
    tab.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    settle(tab)
    assert tab.inner_text("#seen-text") == "Your drawing in red, 28 by 28 pixels"
    assert tab.evaluate("getComputedStyle(document.getElementById('pad')).touchAction") == "none"


def focused(tab: Page) -> str:
    return tab.evaluate("""() => {
      const e = document.activeElement;
      return e.id || e.name || e.getAttribute('aria-label') || e.textContent;
    }""")


def test_all_of_it_can_be_done_with_keys(made: Playground, tab: Page) -> None:
    stops = []
    for _ in range(19):
        tab.keyboard.press("Tab")
        stops.append(focused(tab))
        shown = tab.evaluate("""() => {
          const e = document.activeElement, label = e.closest('label') ?? e;
          return [e, label].some(each => getComputedStyle(each).outlineStyle !== 'none');
        }""")
        assert shown, f"no focus to be seen on {stops[-1]}"
    tests = [f"test digit {digit}" for digit in range(10)]
    titles = [preset.title for preset in made.presets]
    assert stops == ["Back", "pad", "undo", "clear", "colour", *titles, *tests, "repaint"]

    tab.focus("#pad")
    pressed = ["ArrowUp"] * 4 + [" "] + ["ArrowRight"] * 4 + ["ArrowDown"] * 8 + [" ", "ArrowLeft"]
    for key in pressed:
        tab.keyboard.press(key)
    assert tab.inner_text("#pen") == "Pen up, column 10, row 11 of 14"
    corner = [[(c + 0.5) / 14, (r + 0.5) / 14] for c, r in ((6, 2), (10, 2), (10, 10))]
    grey = drawn(tab, [corner]).astype(np.uint8)
    assert brief(tab) == made.expected(grey, 0)
    # spoken once the pen has come to rest
    expect(tab.locator("#verdict")).to_have_text(brief(tab).replace("\n", " "))

    tab.keyboard.press("Tab"), tab.keyboard.press("Tab"), tab.keyboard.press("Tab")
    tab.keyboard.press("ArrowDown")  # from red to green
    assert brief(tab) == made.expected(grey, 1)
    tab.keyboard.press("Tab"), tab.keyboard.press("Tab"), tab.keyboard.press("Enter")
    assert brief(tab) == made.expected(made.presets[1].grey, 1)

    tab.focus("#pad")
    for key in (" ", "ArrowDown", " ", "ArrowRight", " ", "ArrowUp", "Backspace"):
        tab.keyboard.press(key)
    assert "says" in brief(tab)  # the first of two strokes is left
    tab.keyboard.press("Delete")
    assert "Draw something" in brief(tab)
    expect(tab.locator("#verdict")).to_have_text("Nothing drawn.")


# --- the page as a page --------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_quiet_readable_and_fits_a_phone(
    made: Playground, browser: Browser, scheme: str
) -> None:
    seen = book_browser.visit(browser, made.path, scheme)
    assert (seen.console, seen.requests, seen.broken_images) == ([], [], [])
    assert seen.overflow == []
    assert (max(seen.ground[:3]) < 80) == (scheme == "dark")


def test_cloak_and_table_fit_a_phone_too(made: Playground, tab: Page) -> None:
    tab.set_viewport_size(book_browser.PHONE)
    tab.goto(made.path.as_uri() + "#cloaked-7")
    tab.get_by_role("button", name="Paint it in all colours").click()
    for wanted in (book_browser.PHONE["width"], 320):
        tab.set_viewport_size({"width": wanted, "height": 700})
        assert tab.evaluate(book_browser.OVERFLOW, wanted) == []
    assert violations(tab) == []


def test_the_theme_chosen_in_the_book_holds_here(made: Playground, tab: Page) -> None:
    assert not tab.evaluate(book_browser.IS_DARK)
    tab.evaluate("localStorage.setItem('book-theme', 'dark')")
    tab.reload()
    assert tab.evaluate(book_browser.IS_DARK)
    assert violations(tab) == []


def test_without_scripts_the_answers_stand_in_a_table(made: Playground, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(made.path.as_uri())
    assert "Scripts are off" in tab.locator("noscript p").inner_text()
    assert not tab.is_visible("#pad")
    assert tab.locator("noscript tbody tr").count() == 5  # two plain, one bare and in two cloaks
    context.close()
