"""The challenges' widgets in a real browser: does the page compute what Python computes, and can
one paint and search with mouse, finger and keys?"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browsing import PHONE, faults, open_page
from playing import write_page
from playwright.sync_api import Page, expect

from lazy_artist import widgets
from lazy_artist.eis7 import cnn, transformer
from lazy_artist.eis7.challenge_transformer import program_errors
from lazy_artist.standin import draw_digits

RNG = np.random.default_rng(0)
DIGITS = draw_digits(10, 3)[0]
TRUTH = transformer.transformer_label(*transformer.all_pairs())
TRUTH[20, 30:60] ^= True
PIXELS = """given => {
  const {weights, clue, band} = Widgets.data("challenge-cnn");
  return given.map(bytes => {
    const image = Float32Array.from(bytes, value => value / 255);
    const sum = Challenge.similarity(clue, image);
    return [...Challenge.logits(weights, image), sum, Challenge.label(sum, band)];
  });
}"""
ROWS = """([canvas, colour]) => { // row by row, how many cells of a drawn table have a colour
  const shown = canvas.getContext("2d").getImageData(0, 0, 565, 565).data;
  return Array.from({length: 113}, (_, x) => Array.from({length: 113}, (_, y) => {
    const at = 4 * (565 * (5 * x + 2) + 5 * y + 2);
    return colour.every((value, c) => shown[at + c] === value);
  }).filter(Boolean).length);
}"""


@pytest.fixture(scope="module")
def network() -> cnn.ChallengeCNN:
    """Untrained, with logits far apart, some on either side."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = cnn.ChallengeCNN().eval()
    with torch.no_grad():
        model.fc2.weight.mul_(300)
        logits = model(torch.from_numpy(DIGITS[:, None] / np.float32(255)))
        model.fc2.bias.sub_(logits.mean(0))
    return model


@pytest.fixture(scope="module")
def page(network, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("challenges")
    widgets.write(folder / "widgets")
    shown = {"weights": dict(network.state_dict()), "clue": cnn.CLUE, "band": cnn.BAND}
    shown |= {"digits": DIGITS, "cloud": np.array([[-25.0, -5.0], [0, 16]])}
    widgets.export("challenge-cnn", shown, folder / "widgets")
    table = {"labels": np.packbits(TRUTH), "program": transformer.PROGRAM._asdict()}
    widgets.export("challenge-labels", table, folder / "widgets")
    about = {"page": "x.html", "still": "Here is a picture."}
    placed = [
        widgets.place(kind, "Try it.", "See.", needs=[needs], **about)
        for kind, needs in (("pixels", "challenge-cnn"), ("stripes", "challenge-labels"))
    ]
    aside = '<p class="notebook">Not this one.</p>'
    return write_page(folder / "index.html", aside, "A first paragraph.", *placed)


@pytest.fixture
def tab(page, browser) -> Iterator[Page]:
    with open_page(browser, page, has_touch=True) as tab:
        yield tab


def test_the_page_computes_what_network_and_program_compute(network, tab):
    noise = RNG.integers(0, 256, (100, 28, 28), dtype=np.uint8)
    noise[50:] = np.where(RNG.random((50, 28, 28)) < 0.1, noise[50:], 0)
    images = np.concatenate([draw_digits(100, 5)[0], noise])
    here = np.array(tab.evaluate(PIXELS, images.reshape(200, -1).tolist()))
    with torch.no_grad():
        there = network(torch.from_numpy(images[:, None] / np.float32(255))).numpy()
    assert there.std() > 3 and 0.1 < np.mean(there[:, 1] > there[:, 0]) < 0.9
    np.testing.assert_allclose(here[:, :2], there, atol=1e-3, rtol=0)
    np.testing.assert_allclose(here[:, 2], cnn.similarity(images), atol=1e-4)
    assert set(cnn.zones(cnn.similarity(images))) == set(cnn.ZONES)
    assert here[:, 3].tolist() == cnn.cnn_label(images).tolist()


def told(network: cnn.ChallengeCNN, grey: np.ndarray) -> str:
    """What the page says of a picture."""
    label, total = int(cnn.cnn_label(grey[None])[0]), cnn.similarity(grey[None])[0]
    evidence, offset = network.evidence()
    answer = int(cnn.hidden_units(network, grey[None])[0] @ evidence + offset > 0)
    text = f"The sum is {total:.1f}. The program says {label}, the network {answer}."
    return text.replace("-", "−")


def test_pixels_are_painted_with_keys_and_the_link_keeps_them(network, tab):
    first, grey = tab.get_by_role("status").first, DIGITS[3].copy()
    expect(first).to_have_text(told(network, grey))
    tab.get_by_role("application").focus()
    tab.keyboard.press("Space")
    for key in ["ArrowDown"] * 9 + ["ArrowRight"] * 4:
        tab.keyboard.press(key)
    grey[13:24, 13:15] = grey[22:24, 13:19] = 255
    at = "Pen down, column 18, row 23. "
    expect(first).to_have_text(at + told(network, grey))
    tab.wait_for_url(re.compile(r"#pixels\?start=3&on=\w+$"))
    link = tab.url
    tab.get_by_role("button", name="Lighten the rim").click()
    grey[[0, -1]] = grey[:, [0, -1]] = 255
    expect(first).to_have_text(told(network, grey))
    tab.get_by_role("button", name="Undo").click()
    tab.get_by_role("button", name="Undo").click()
    expect(first).to_have_text(told(network, DIGITS[3]))
    tab.get_by_role("button", name="the clue").click()
    expect(first).to_have_text(told(network, cnn.CLUE))
    tab.goto(link)
    grey[[0, -1]] = DIGITS[3][[0, -1]]
    grey[:, [0, -1]] = DIGITS[3][:, [0, -1]]
    expect(first).to_have_text(told(network, grey))


def test_a_mouse_darkens_and_a_finger_sets_dabs_until_it_is_asked_to_paint(network, tab):
    first, grey, pad = tab.get_by_role("status").first, cnn.CLUE.copy(), tab.locator(".pad")
    tab.get_by_role("button", name="the clue").click()
    box, touch = pad.bounding_box(), "getComputedStyle(document.querySelector('.pad')).touchAction"
    step = box["width"] / 28
    tab.touchscreen.tap(box["x"] + 5 * step, box["y"] + 6 * step)
    grey[5:7, 4:6] = 255
    expect(first).to_have_text(told(network, grey))
    assert tab.evaluate(touch) == "auto"
    tab.get_by_role("button", name="Darken pixels").click()
    assert tab.evaluate(touch) == "none"
    tab.mouse.move(box["x"] + 14 * step, box["y"] + 8 * step)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 14 * step, box["y"] + 12 * step)
    tab.mouse.up()
    grey[7:13, 13:15] = 0
    expect(first).to_have_text(told(network, grey))


def test_cells_are_wrong_and_rows_sorted_as_in_python(tab):
    slider, (_, status) = tab.get_by_label("Exponent"), tab.get_by_role("status").all()
    rows, cells = tab.locator(".stripes canvas").element_handles()
    phase = {1.5: transformer.program_variables(*transformer.all_pairs()).phase[:, 0]}
    for exponent in (1.3, 1.377, 1.499, 1.5, 1.501, 1.6, 1.7):
        slider.fill(str(exponent))
        constants = transformer.PROGRAM._replace(exponent=exponent)
        wrong = program_errors(TRUTH, constants)
        assert (wrong == 30) == (exponent == 1.5)
        expect(status).to_have_text(f"Exponent {exponent:.3f}: {wrong} of 12769 cells wrong.")
        assert sum(tab.evaluate(ROWS, [cells, [232, 119, 34]])) == wrong
        phase = transformer.program_variables(*transformer.all_pairs(), constants).phase[:, 0]
        order = np.argsort(phase, kind="stable")
        assert tab.evaluate(ROWS, [rows, [255, 255, 255]]) == TRUTH[order].sum(1).tolist()


def test_the_exponent_is_moved_by_keys_buttons_and_link(tab):
    slider, value = tab.get_by_label("Exponent"), tab.locator(".stripes p b").first
    slider.focus()
    tab.keyboard.press("End")
    expect(value).to_have_text("1.700")
    tab.keyboard.press("ArrowLeft")
    expect(value).to_have_text("1.699")
    tab.get_by_role("button", name="− 0.001").click()
    expect(value).to_have_text("1.698")
    tab.wait_for_url("**#stripes?exponent=1.698")
    tab.goto(tab.url.replace("1.698", "1.501"))
    tab.get_by_role("button", name="− 0.001").click()
    expect(value).to_have_text("1.500")
    box = slider.bounding_box()  # a drag goes by steps of 0.005
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    for place in (0.52, 0.543, 0.571):
        tab.mouse.move(box["x"] + place * box["width"], box["y"] + box["height"] / 2)
    tab.mouse.up()
    expect(value).to_have_text(re.compile(r"^1\.5[23][05]$"))


def test_the_first_paragraph_links_to_each_widget_and_a_setting_is_kept(tab):
    first, slider = tab.get_by_text("A first paragraph."), tab.get_by_label("Exponent")
    assert first.get_by_role("link").count() == 2
    tab.get_by_role("button", name="+ 0.001").click()
    first.get_by_role("link").nth(1).press("Enter")
    expect(tab.locator(".widget[data-kind=stripes] p").first).to_be_in_viewport(ratio=1)
    expect(slider).to_have_value("1.301")


def test_the_widgets_have_no_fault_and_a_still_where_scripts_are_off(browser, page, tab):
    assert faults(browser, page, "light") + faults(browser, page, "dark") == []
    tab.set_viewport_size(PHONE)
    assert tab.evaluate("document.querySelector('.bowl').getBoundingClientRect().bottom") < 800
    with open_page(browser, page, java_script_enabled=False) as bare:
        assert bare.get_by_text("Here is a picture.").count() == 2
        assert bare.locator(".widget canvas").count() == 0
