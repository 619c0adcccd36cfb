"""The atlas in a real browser, opened as a file: filters, order, permalinks, narrow, without
scripts."""

from collections.abc import Iterator
from pathlib import Path

import browsing
import numpy as np
import pytest
from browsing import DESK, PHONE
from playwright.sync_api import Browser, Page, expect

from lazy_artist import atlas

browser = browsing.browser  # the fixture
NETWORKS, LABELS, EACH = ("cheater", "cure", "oracle"), ("colour", "shape"), 50
RNG = np.random.default_rng(0)


def card(network: str, k: int) -> atlas.Card:
    """Of channel k; even ones answer to red and odd ones to a digit, and η² falls with k."""
    tiles = RNG.integers(0, 256, (4, 3, 28, 28), np.uint8)
    return atlas.Card(
        path=f"{network}/block3/{k}",
        title=f"{network} block3 {k}",
        subtitle=("colour: red", "shape: 3")[k % 2],
        facets={"network": (network,), "label": (LABELS[k % 2],)},
        measures={"η² colour": 1 / (1 + k), "things": 1.0},
        pictures=[("excites", tiles[0]), ("silences", tiles[1])],
        examples=[("red 0", tile) for tile in tiles[2:]] * 4,
        grid=RNG.random((10, 10)),
        histogram=RNG.integers(0, 999, 24),
        most=2.0,
        mark=3.0,
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("atlas") / "atlas.html"
    atlas.write(
        path, [card(network, k) for network in NETWORKS for k in range(EACH)],
        title="The Atlas", intro="<p>How to read it.</p>", back=("x.html", "Back"),
        rows=[str(digit) for digit in range(10)], columns=list("rgbymcovpw"),
        grid_title="digit by colour", histogram_title="training images",
    )  # fmt: skip
    return path


@pytest.fixture
def tab(browser: Browser, page: Path) -> Iterator[Page]:
    """The open page; at the end it must have raised no error and asked for nothing else."""
    context = browser.new_context(viewport=DESK)
    tab = context.new_page()
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", lambda request: wrong.append(request.url))
    tab.goto(page.as_uri())
    yield tab
    context.close()
    assert [w for w in wrong if not w.startswith(("data:", page.as_uri()))] == []


def titles(tab: Page) -> list[str]:
    return tab.locator("#cards h2 a").all_inner_texts()


def choose(tab: Page, name: str, option: str) -> None:
    tab.locator(f"select[name={name}]").select_option(option)


def test_cards_are_filtered_by_network_and_label_together(tab):
    expect(tab.locator("#count")).to_have_text("150 of 150 cards")
    choose(tab, "facet0", "cure")
    choose(tab, "facet1", "shape")
    expect(tab.locator("#count")).to_have_text("25 of 150 cards")
    assert titles(tab) == [f"cure block3 {k}" for k in range(1, EACH, 2)]
    choose(tab, "facet1", "all")
    expect(tab.locator("#count")).to_have_text("50 of 150 cards")


def test_cards_are_sorted_by_a_measure_either_way_and_drawn_as_one_scrolls(tab):
    choose(tab, "sort", "η² colour, low first")
    assert all(title.endswith("block3 49") for title in titles(tab)[:3])
    choose(tab, "sort", "η² colour, high first")
    assert all(title.endswith("block3 0") for title in titles(tab)[:3])
    assert tab.locator("#cards article").count() < 80
    while tab.locator("#more").is_visible():
        tab.keyboard.press("End")
        tab.wait_for_timeout(20)
    assert tab.locator("#cards article").count() == 150


def test_a_permalink_shows_its_card(tab, page):
    tab.goto(f"{page.as_uri()}#cure/block3/7")
    expect(tab.locator("#solo h2")).to_have_text("cure block3 7 shape: 3")
    tab.get_by_role("link", name="cheater block3 2", exact=True).click()
    expect(tab.locator("#solo h2")).to_have_text("cheater block3 2 colour: red")
    assert tab.url.endswith("#cheater/block3/2")
    tab.goto(f"{page.as_uri()}#nowhere/0")
    expect(tab.locator("#solo article")).to_have_count(0)


def test_a_phone_shows_whole_cards(tab):
    tab.set_viewport_size(PHONE)
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for box in tab.locator("#cards article").first.locator("canvas, svg, .t, dl").all():
        place = box.bounding_box()
        assert place["x"] >= 0 and place["x"] + place["width"] <= PHONE["width"]


def test_without_scripts_all_cards_stand_in_a_table(browser, page):
    context = browser.new_context(viewport=PHONE, java_script_enabled=False)
    try:
        tab = context.new_page()
        tab.goto(f"{page.as_uri()}#oracle/block3/9")
        assert tab.locator("tbody tr").count() == 150
        row = tab.locator('[id="oracle/block3/9"]')
        expect(row).to_contain_text("shape: 3")
        expect(row).to_be_in_viewport()  # the permalink leads to it
    finally:
        context.close()
