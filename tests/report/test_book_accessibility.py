"""Every page of every built book by axe-core (WCAG 2.1, A and AA), and by keyboard alone."""

from pathlib import Path

import book_checks as checks
from browsing import PHONE, open_page, violations
from playwright.sync_api import Page


def test_no_page_violates_wcag_in_light_or_in_dark(book, browser):
    found = []
    for page in checks.pages(book):
        for scheme in ("light", "dark"):
            with open_page(browser, page, scheme) as tab:
                name = f"{page.relative_to(book)} in {scheme}"
                found += [f"{name}: {what}" for what in violations(tab)]
                tab.set_viewport_size(PHONE)
                found += [f"{name}, on a phone: {what}" for what in violations(tab)]
    assert found == []


def test_a_violation_is_found(browser, make_book):
    folder = make_book("<main><h1>t</h1><input><p style='color: #aaa'>faint</p></main>")
    with open_page(browser, folder / "index.html", "light") as tab:
        rules = {what.split(":")[0] for what in violations(tab)}
    assert rules == {"html-has-lang", "label", "color-contrast"}


def focused(tab: Page) -> str:
    return tab.evaluate("() => document.activeElement.textContent.trim()")


def figures_page(book: Path) -> Path:
    return next(page for page in checks.pages(book) if checks.floats(page))


def test_the_first_stop_of_the_keyboard_leads_to_the_text(book, browser):
    with open_page(browser, figures_page(book), "light") as tab:
        tab.keyboard.press("Tab")
        assert focused(tab) == "Skip to the text"
        box = tab.evaluate("() => document.activeElement.getBoundingClientRect().toJSON()")
        assert box["left"] >= 0 and box["top"] >= 0 and box["width"] > 50
        tab.keyboard.press("Enter")
        tab.keyboard.press("Tab")
        assert tab.evaluate("() => !!document.activeElement.closest('main')")


def test_every_stop_of_the_keyboard_is_seen(book, browser):
    """Each focused element has an outline or a ring, and a place on the page."""
    with open_page(browser, figures_page(book), "light") as tab:
        unseen = []
        for _ in range(40):
            tab.keyboard.press("Tab")
            unseen += tab.evaluate("""() => {
              const e = document.activeElement, style = getComputedStyle(e);
              if (e === document.body) return [];
              const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0
                || style.boxShadow !== 'none';
              const box = e.getBoundingClientRect();
              return ring && box.width && +style.opacity === 1 ? [] : [e.outerHTML.slice(0, 100)];
            }""")
        assert unseen == []


def test_an_enlarged_figure_closes_by_escape_and_gives_the_focus_back(book, browser):
    with open_page(browser, figures_page(book), "light") as tab:
        opener = tab.get_by_role("button", name="Enlarge Figure").first
        opener.focus()
        tab.keyboard.press("Enter")
        assert tab.locator("dialog.lightbox[open] img").get_attribute("alt")
        assert focused(tab) == "Close"
        tab.keyboard.press("Escape")
        tab.wait_for_selector("dialog.lightbox", state="detached")  # it goes after it has closed
        assert focused(tab) == "Enlarge"


def test_search_is_opened_and_left_by_keyboard(book, browser):
    with open_page(browser, figures_page(book), "dark") as tab:
        tab.get_by_role("button", name="Search").first.focus()
        tab.keyboard.press("Enter")
        tab.keyboard.type("figure")
        tab.wait_for_selector(".search-panel li a")
        assert "found" in tab.get_by_role("status").inner_text()
        tab.keyboard.press("Escape")
        assert not tab.locator(".search-panel[open]").count()
        assert focused(tab) == "Search"
