"""Pages of a built book in a real browser, opened as files."""

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ["gpu", "quic", "background-networking", "component-update", "sync"]
FLAGS = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in FLAGS)]
PHONE = {"width": 390, "height": 800}
DESK = {"width": 1280, "height": 900}
# The page's own toggle, where it does not follow the reader's system.
TOGGLE = "document.querySelector('.quarto-color-scheme-toggle, [data-theme-toggle]')?.click()"
IS_DARK = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[1] < 80"
BROKEN_IMAGES = """async () => (await Promise.all([...document.images].map(image => {
  image.loading = 'eager';
  return image.decode().then(() => null, () => image.getAttribute('src'));
}))).filter(Boolean)"""
OVERFLOW = """width => document.documentElement.scrollWidth <= width ? [] :
  [...document.body.querySelectorAll('*')]
    .filter(e => e.getBoundingClientRect().right > width + 1).slice(0, 3)
    .map(e => e.outerHTML.slice(0, 120))"""
SMALL_TEXT = """least => [...document.querySelectorAll('.picture')].flatMap(frame => {
  const image = [...frame.children].find(image => image.checkVisibility());
  const size = image ? image.clientWidth * frame.dataset.text : least;
  return size < least - 0.1 ? [`${image.getAttribute('src')}: ${size.toFixed(1)} px`] : [];
})"""
AXE = """async levels => {
  document.querySelectorAll('details').forEach(details => { details.open = true; });
  const settings = {runOnly: levels, resultTypes: ['violations'], preload: false};
  const {violations} = await axe.run(document, settings);
  return violations.map(({id, nodes}) => `${id}: ${nodes[0].html.slice(0, 200)} `
    + `(${nodes.length}) ${nodes[0].failureSummary.slice(-200)}`);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no browser: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def open_page(
    browser: Browser, page: Path, scheme: str = "light", found: list[str] | None = None, **more: Any
) -> Iterator[Page]:
    """A tab on a desk that shows the page's file as a reader with a "light" or "dark" system sees
    it. Its errors and requests to the network go into `found`; without, there must be none."""
    context = browser.new_context(
        viewport=DESK, color_scheme=scheme, reduced_motion="reduce", **more
    )
    tab, complaints = context.new_page(), [] if found is None else found

    def hear(message: Any) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def ask(request: Any) -> None:
        if not request.url.startswith(("file:", "data:")):
            complaints.append(f"a request of {request.url}")

    tab.on("console", hear)
    tab.on("request", ask)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(page.resolve().as_uri())
    if scheme == "dark" and not tab.evaluate(IS_DARK):
        tab.evaluate(TOGGLE)
        tab.wait_for_timeout(300)
    try:
        yield tab
    finally:
        context.close()
    assert found is not None or complaints == [], complaints


def violations(tab: Page) -> list[str]:
    """What axe-core (WCAG 2.1, A and AA) finds on the page, faint text among it."""
    package = importlib.util.find_spec("axe_playwright_python")
    tab.evaluate(Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    return tab.evaluate(AXE, ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"])


def faults(browser: Browser, page: Path, scheme: str) -> list[str]:
    """All that is wrong with a page for a "light" or "dark" reader at a desk and on a phone."""
    found: list[str] = []
    with open_page(browser, page, scheme, found) as tab:
        found += [f"no image: {src}" for src in tab.evaluate(BROKEN_IMAGES)]
        if tab.evaluate(IS_DARK) != (scheme == "dark"):
            found.append(f"its background is not {scheme}")
        found += [f"small text: {what}" for what in tab.evaluate(SMALL_TEXT, 12)]
        found += violations(tab)
        tab.set_viewport_size(PHONE)
        found += [f"too wide: {html}" for html in tab.evaluate(OVERFLOW, PHONE["width"])]
        small = [f"small text: {what}" for what in tab.evaluate(SMALL_TEXT, 10)]
        found += [f"on a phone, {what}" for what in small + violations(tab)]
    return found
