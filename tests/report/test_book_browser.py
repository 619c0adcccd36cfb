"""Every page of every built book in a real browser, opened as a file, in light and in dark."""

from types import SimpleNamespace

import book_checks as checks
import browsing
import pytest
from browsing import DESK, IS_DARK, PHONE, go  # noqa: F401

browser = browsing.browser  # a fixture
KINDS = ("console", "requests", "broken_images", "overflow")
BACKGROUND = "() => getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number)"
LOAD_IMAGES = """() => Promise.all([...document.images].map(image => {
  image.loading = 'eager';
  return image.decode().then(() => null, () => image.getAttribute('src'));
}))"""
OVERFLOW = """width => document.documentElement.scrollWidth <= width ? [] :
  [...document.body.querySelectorAll('*')]
    .filter(e => e.getBoundingClientRect().right > width + 1).slice(0, 3).map(e => e.outerHTML)
    .map(html => html.slice(0, 120))"""


def visit(browser, page, scheme) -> SimpleNamespace:
    """What one look at a page, at two widths, as a reader with a "light" or "dark" system, shows:
    the findings of each of `KINDS`, and `ground`, the background's colour."""
    seen = SimpleNamespace(**{kind: [] for kind in KINDS})
    context = browser.new_context(viewport=DESK, color_scheme=scheme)
    tab = context.new_page()

    def hear(message) -> None:
        # Quarto loads two scripts as modules, which browsers refuse from file://, and works without
        about = message.text + message.location.get("url", "")
        if message.type == "error" and "site_libs/quarto-html/" not in about:
            seen.console.append(message.text)

    tab.on("console", hear)
    tab.on("pageerror", lambda error: seen.console.append(str(error)))
    tab.on("request", lambda request: seen.requests.append(request.url))
    go(tab, page, scheme)
    tab.emulate_media(reduced_motion="reduce")
    seen.ground = tab.evaluate(BACKGROUND)
    seen.broken_images = [src for src in tab.evaluate(LOAD_IMAGES) if src]
    tab.set_viewport_size(PHONE)
    seen.overflow = tab.evaluate(OVERFLOW, PHONE["width"])
    seen.requests = [url for url in seen.requests if not url.startswith(("file:", "data:"))]
    context.close()
    return seen


@pytest.fixture(scope="module")
def visits(book, browser) -> dict[tuple[str, str], SimpleNamespace]:
    """By page and colour scheme, what the browser showed of the book."""
    return {
        (page.relative_to(book).as_posix(), scheme): visit(browser, page, scheme)
        for page in checks.pages(book)
        for scheme in ("light", "dark")
    }


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_has_a_fault_in_the_browser(visits, kind):
    assert [(at, what) for at, seen in visits.items() for what in getattr(seen, kind)] == []


def test_the_background_is_light_or_dark_as_the_reader_has_it(visits):
    for (page, scheme), seen in visits.items():
        bright = max(seen.ground[:3])
        assert bright > 200 if scheme == "light" else bright < 80, page


def test_a_broken_page_is_found(browser, make_book):
    book = make_book(
        '<div style="width: 600px">wide</div><img src="missing.png" alt="">'
        "<script>throw new Error('broken')</script><img src='http://127.0.0.1:9/x.png' alt=''>"
    )
    seen = visit(browser, book / "index.html", "light")
    assert any("broken" in line for line in seen.console)
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
    assert seen.broken_images == ["missing.png", "http://127.0.0.1:9/x.png"]
    assert len(seen.overflow) == 1 and "wide" in seen.overflow[0]
