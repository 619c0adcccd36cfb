"""The atlas in a real browser: filters, order, permalinks, on a phone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browsing import IS_DARK, faults, open_page
from playwright.sync_api import Page, expect

from lazy_artist import atlas

NETWORKS, LABELS, EACH = ("cheater", "cure", "oracle"), ("colour", "shape"), 50
RNG = np.random.default_rng(0)


def card(network: str, k: int) -> atlas.Card:
    """Of channel k; even ones answer to red and odd ones to a digit, and η² falls with k."""
    tiles = RNG.integers(0, 256, (4, 3, 28, 28), np.uint8)
    label = (LABELS[k % 2], *["rare"] * (network == "oracle"))
    return atlas.Card(
        path=f"{network}/block3/{k}", title=f"{network} block3 {k}",
        subtitle=("colour: red", "shape: 3")[k % 2],
        facets={"network": (network,), "label": label},
        measures={"η² colour": 1 / (1 + k), "things": 1.0},
        pictures=[("excites", tiles[0]), ("silences", tiles[1])],
        examples=[("red 0", tile) for tile in tiles[2:]] * 4,
        grid=RNG.random((10, 10)), histogram=RNG.integers(0, 999, 24), most=2.0, mark=3.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("atlas") / "atlas.html"
    cards = [card(network, k) for network in NETWORKS for k in range(EACH)]
    composed = atlas.compose(cards, "training images", columns=list("rgbymcovpw"))
    about = {"title": "The Atlas", "intro": "<p>How to read it.</p>", "back": ("x.html", "Back")}
    atlas.write(path, composed, **about)
    return path


@pytest.fixture
def tab(browser, page) -> Iterator[Page]:
    with open_page(browser, page) as tab:
        yield tab


def test_cards_are_filtered_by_network_and_label_together_and_sorted(tab):
    count = tab.locator("#count")

    def choose(name: str, option: str) -> list[str]:
        """The titles that are shown then."""
        tab.locator(f"select[name={name}]").select_option(option)
        return tab.locator("#cards h2 a").all_inner_texts()

    choose("network", "cure")
    assert choose("label", "shape") == [f"cure block3 {k}" for k in range(1, EACH, 2)]
    expect(count).to_have_text("25 of 150 cards")
    choose("label", "all")
    expect(count).to_have_text("50 of 150 cards")
    choose("network", "all")
    low, high = (choose("sort", f"η² colour, {which} first")[:3] for which in ("low", "high"))
    assert low == [f"{network} block3 49" for network in NETWORKS]
    assert high == [f"{network} block3 0" for network in NETWORKS]
    assert tab.locator("#cards article").count() < 80  # drawn as one scrolls
    while tab.locator("#more").is_visible():
        tab.keyboard.press("End")
        tab.wait_for_timeout(20)
    assert tab.locator("#cards article").count() == 150


def test_a_permalink_shows_its_card_and_a_phone_the_whole_page(tab, page, browser):
    tab.goto(f"{page.as_uri()}#cure/block3/7")
    expect(tab.locator("#solo h2")).to_have_text("cure block3 7 shape: 3")
    tab.get_by_role("link", name="cheater block3 2", exact=True).click()
    expect(tab.locator("#solo h2")).to_have_text("cheater block3 2 colour: red")
    assert tab.url.endswith("#cheater/block3/2")
    tab.goto(f"{page.as_uri()}#nowhere/0")
    expect(tab.locator("#solo")).to_have_text("There is no card “nowhere/0” on this page.")
    assert faults(browser, page, "light") + faults(browser, page, "dark") == []


def test_filters_stand_in_the_address_and_where_nothing_fits_the_page_says_so(tab, page, browser):
    count, titles = tab.locator("#count"), tab.locator("#cards h2 a")
    tab.locator("[name=network]").select_option("cure")
    tab.locator("[name=sort]").select_option("η² colour, low first")
    assert tab.url.endswith("#network=cure&sort=1")
    tab.get_by_role("link", name="cure block3 40", exact=True).click()
    expect(tab.locator("#solo h2 a")).to_have_text("cure block3 40")
    assert tab.url.endswith("#cure/block3/40&network=cure&sort=1")
    with open_page(browser, page) as other:
        other.goto(tab.url)
        other.reload()
        expect(other.locator("#solo h2 a")).to_have_text("cure block3 40")
        expect(other.locator("#count")).to_have_text("50 of 150 cards")
        assert other.locator("#cards h2 a").first.inner_text() == "cure block3 49"
        other.evaluate("localStorage.setItem('book-theme', 'dark')")
        other.reload()
        assert other.evaluate(IS_DARK)
    tab.locator("[name=label]").select_option("rare")
    expect(count).to_have_text("None of 150 cards fits all filters: set one of them back to “all”.")
    expect(titles).to_have_count(0)
    tab.goto(f"{page.as_uri()}#label=no+such&network=oracle")  # what is no level counts for nothing
    expect(count).to_have_text("50 of 150 cards")
    expect(tab.locator("[name=label]")).to_have_value("")
