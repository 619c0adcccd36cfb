"""The playground in a real browser, opened as a file: can one use it by mouse, finger and keys?"""

from collections.abc import Iterator

import numpy as np
import pytest
from browsing import IS_DARK, OVERFLOW, PHONE, faults, open_page, violations
from playing import Playground
from playwright.sync_api import Page, expect

from lazy_artist import playground
from lazy_artist.canvas import COLOUR_NAMES, PALETTE

SEVEN = [[[0.3, 0.2], [0.7, 0.2], [0.45, 0.8]]]


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


def drawn(tab: Page, strokes: list) -> np.ndarray:
    grey = tab.evaluate("strokes => Array.from(Network.normalise(strokes))", strokes)
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
        delta = preset.cloaks[0].delta if preset.cloaks else 0  # a cloaked one opens cloaked
        assert brief(tab) == made.expected(preset.grey, preset.colour, delta)
        expect(tab.get_by_role("radio", name=COLOUR_NAMES[preset.colour])).to_be_checked()
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
    assert tab.locator("article .bars tr").count() == 30
    assert tab.locator("article .bars .swatch").count() == 3  # the answer that the colour suggests
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
    box = tab.locator(".pad").bounding_box()

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
    assert tab.evaluate("getComputedStyle(document.querySelector('.pad')).touchAction") == "none"


def test_a_setting_is_shared_by_its_link(made, browser, tab):
    tab.get_by_role("button", name="a cloaked 7").click()
    tab.get_by_label("made for the other").check()
    tab.get_by_label("Strength").fill("0.4")
    tab.get_by_label("Colour of the stroke").fill("3.5")
    told = brief(tab)
    green, cyan = PALETTE[1], PALETTE[5]
    delta = np.float32(0.4) * made.presets[2].cloaks[1].delta
    assert told == made.expected(made.examples[7], (green + cyan) / 2, delta)
    tab.wait_for_url("**#play?start=cloaked-7&hue=3.5&cloak=1&strength=0.4")
    link = tab.url
    tab.get_by_role("button", name="test digit 4").click()
    tab.wait_for_url("**#play?digit=4&hue=3.5")
    assert brief(tab) == made.expected(made.examples[4], (green + cyan) / 2)
    with open_page(browser, made.path) as other:
        for address, words in ((link, told), (tab.url, brief(tab))):
            other.goto(address)
            assert brief(other) == words
            assert other.get_by_label("Colour of the stroke").input_value() == "3.5"
        other.goto(link)
        expect(other.get_by_label("made for the other")).to_be_checked()
        assert other.get_by_label("Strength").input_value() == "0.4"


def test_on_a_phone_a_cloaks_strength_and_the_answers_are_in_sight_together(tab):
    tab.set_viewport_size(PHONE)
    tab.get_by_role("button", name="a cloaked 7").click()
    tab.locator(".pad").evaluate("pad => pad.scrollIntoView()")
    for what in (".pad", "#brief", ".hue", "#strength", "#strength-text"):
        box = tab.locator(what).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= PHONE["height"], what


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
    for _ in range(20):
        press("Tab")
        stops.append(tab.evaluate(FOCUSED))
    tests = [f"test digit {digit}" for digit in range(10)]
    titles = [preset.title for preset in made.presets]
    wheel = ["Colour of the stroke", "colour-0"]
    assert stops == ["Back", "Drawing pad", *wheel, "undo", "clear", *titles, *tests, "repaint"]
    tab.focus(".pad")
    press(*["ArrowUp"] * 4, " ", *["ArrowRight"] * 4, *["ArrowDown"] * 8, " ", "ArrowLeft")
    assert tab.inner_text("#pad [role=status]") == "Pen up, column 10, row 11 of 14"
    corner = [[(c + 0.5) / 14, (r + 0.5) / 14] for c, r in ((6, 2), (10, 2), (10, 10))]
    grey = drawn(tab, [corner]).astype(np.uint8)
    assert brief(tab) == made.expected(grey, 0)
    # spoken once the pen has come to rest
    expect(tab.locator("#verdict")).to_have_text(brief(tab).replace("\n", " "))
    press("Tab", *["ArrowRight"] * 3)  # from red, three tenths of the way to orange
    assert brief(tab) == made.expected(grey, 0.7 * PALETTE[0] + 0.3 * PALETTE[6])
    assert "between red and orange, which suggest 0 or 6" in tab.inner_text(".hue-now")
    press("Tab", "ArrowDown", "ArrowDown")  # by name, to yellow
    assert brief(tab) == made.expected(grey, 3)
    press("Tab", "Tab", "Tab", "Tab", "Enter")
    assert brief(tab) == made.expected(made.presets[1].grey, 1)
    tab.focus(".pad")
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
