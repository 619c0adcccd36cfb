"""Pages of a built book in a real browser, opened as files."""

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ["--no-sandbox", "--no-first-run"]
FLAGS += [
    f"--disable-{w}" for w in ("gpu", "quic", "background-networking", "component-update", "sync")
]
PHONE = {"width": 390, "height": 800}
DESK = {"width": 1280, "height": 900}

# Turns the page dark by its own toggle where it does not follow the reader's system.
TOGGLE = """() => document.querySelector('.quarto-color-scheme-toggle, [data-theme-toggle]')
  ?.click()"""
IS_DARK = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[1] < 80"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no browser: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


def go(tab: Page, page: Path, scheme: str) -> None:
    """Opens the page from its file in an open tab, and turns it "light" or "dark"."""
    tab.goto(page.resolve().as_uri())
    if scheme == "dark" and not tab.evaluate(IS_DARK):
        tab.evaluate(TOGGLE)
        tab.wait_for_timeout(300)


@contextmanager
def open_page(browser: Browser, page: Path, scheme: str = "light") -> Iterator[Page]:
    """A tab on a desk that shows the page as a reader with a "light" or "dark" system sees it."""
    context = browser.new_context(viewport=DESK, color_scheme=scheme, reduced_motion="reduce")
    try:
        tab = context.new_page()
        go(tab, page, scheme)
        yield tab
    finally:
        context.close()


LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
AXE = """async levels => {
  document.querySelectorAll('details').forEach(details => { details.open = true; });
  const settings = {runOnly: levels, resultTypes: ['violations'], preload: false};
  const {violations} = await axe.run(document, settings);
  return violations.map(({id, nodes}) => `${id}: ${nodes[0].html.slice(0, 200)} `
    + `(${nodes.length}) ${nodes[0].failureSummary.slice(-200)}`);
}"""


def violations(tab: Page) -> list[str]:
    """What axe-core (WCAG 2.1, A and AA) finds on the page, faint text among it."""
    pytest.importorskip("axe_playwright_python")
    package = importlib.util.find_spec("axe_playwright_python")
    tab.evaluate(Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    return tab.evaluate(AXE, LEVELS)
