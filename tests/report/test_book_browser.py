"""Every page of every built book in a real browser, opened as a file, in light and in dark."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import book_checks as checks
import browsing
import pytest
from browsing import DESK, IS_DARK, PHONE, go  # noqa: F401
from playwright.sync_api import Browser, ConsoleMessage

browser = browsing.browser  # a fixture
GROUND = "() => getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number)"

LOAD_IMAGES = """() => Promise.all([...document.images].map(image => {
  image.loading = 'eager';
  return image.decode().then(() => null, () => image.getAttribute('src'));
}))"""

OVERFLOW = """width => document.documentElement.scrollWidth <= width ? [] :
  [...document.body.querySelectorAll('*')]
    .filter(e => e.getBoundingClientRect().right > width + 1).slice(0, 3).map(e => e.outerHTML)
    .map(html => html.slice(0, 120))"""

# Visible text whose contrast to its ground is below 4.5, by the formula of WCAG 2.1 (relative
# luminance). The ground is the nearest opaque background, with translucent ones laid over it.
FAINT_TEXT = """() => {
  const rgba = css => {
    const [r, g, b, a = 1] = css.match(/[\\d.]+/g).map(Number);
    return css.startsWith('color(srgb') ? [255 * r, 255 * g, 255 * b, a] : [r, g, b, a];
  };
  const over = (top, base) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * base[i]);
  const luminance = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(
      v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.push(rgba(getComputedStyle(e).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reverse().reduce((base, top) => over(top, base), [255, 255, 255]);
  };
  document.querySelectorAll('details').forEach(details => { details.open = true; });
  const found = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility({visibilityProperty: true,
        opacityProperty: true})
        || element.closest('script, style, svg, annotation')) continue;
    const back = ground(element);
    const alpha = [];
    for (let e = element; e; e = e.parentElement) alpha.push(+getComputedStyle(e).opacity);
    const ink = rgba(getComputedStyle(element).color);
    ink[3] *= alpha.reduce((a, b) => a * b, 1);
    const [high, low] = [luminance(over(ink, back)), luminance(back)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    const name = `${element.tagName.toLowerCase()}.${element.className}`;
    if (ratio < 4.5) found.set(name, `${name} ${ratio.toFixed(2)}: ${element.textContent.trim()
      .slice(0, 40)}`);
  }
  return [...found.values()];
}"""


@dataclass
class Visit:
    """What one look at a page in one colour scheme showed."""

    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    broken_images: list[str] = field(default_factory=list)
    overflow: list[str] = field(default_factory=list)
    faint: list[str] = field(default_factory=list)
    ground: list[float] = field(default_factory=list)


def _quartos_own(message: ConsoleMessage) -> bool:
    """Whether the browser speaks of a module of Quarto's own, which it does not load from a file.

    Quarto loads two scripts as modules; browsers refuse modules from file://. The pages work
    without them.
    """
    about = message.text + message.location.get("url", "")
    return "site_libs/quarto-html/" in about


def visit(browser: Browser, page: Path, scheme: str) -> Visit:
    """Open a page from its file as a reader with a "light" or "dark" system, at two widths."""
    seen = Visit()
    context = browser.new_context(viewport=DESK, color_scheme=scheme)
    tab = context.new_page()
    tab.on(
        "console",
        lambda m: (
            seen.console.append(m.text) if m.type == "error" and not _quartos_own(m) else None
        ),
    )
    tab.on("pageerror", lambda error: seen.console.append(str(error)))
    tab.on("request", lambda request: seen.requests.append(request.url))
    go(tab, page, scheme)
    tab.emulate_media(reduced_motion="reduce")
    seen.ground = tab.evaluate(GROUND)
    seen.broken_images = [src for src in tab.evaluate(LOAD_IMAGES) if src]
    seen.faint = tab.evaluate(FAINT_TEXT)
    tab.set_viewport_size(PHONE)
    seen.overflow = tab.evaluate(OVERFLOW, PHONE["width"])
    seen.requests = [url for url in seen.requests if not url.startswith(("file:", "data:"))]
    context.close()
    return seen


@pytest.fixture(scope="module")
def visits(book: Path, browser: Browser) -> dict[tuple[str, str], Visit]:
    """By page and colour scheme, what the browser showed of the book."""
    return {
        (page.relative_to(book).as_posix(), scheme): visit(browser, page, scheme)
        for page in checks.pages(book)
        for scheme in ("light", "dark")
    }


Visits = dict[tuple[str, str], Visit]


def faults(visits: Visits, of: Callable[[Visit], list[str]]) -> list[str]:
    """The findings of one kind in all visits, as lines "page in scheme: what"."""
    return [
        f"{page} in {scheme}: {what}"
        for (page, scheme), seen in visits.items()
        for what in of(seen)
    ]


def test_the_console_is_silent(visits: Visits) -> None:
    assert faults(visits, lambda seen: seen.console) == []


def test_the_browser_asks_nothing_of_the_network(visits: Visits) -> None:
    assert faults(visits, lambda seen: seen.requests) == []


def test_every_image_loads(visits: Visits) -> None:
    assert faults(visits, lambda seen: seen.broken_images) == []


def test_no_page_scrolls_sideways_on_a_phone(visits: Visits) -> None:
    assert faults(visits, lambda seen: seen.overflow) == []


def test_text_is_readable_in_light_and_in_dark(visits: Visits) -> None:
    grounds = {scheme: max(seen.ground[:3]) for (_, scheme), seen in visits.items()}
    assert grounds["light"] > 200 and grounds["dark"] < 80
    assert faults(visits, lambda seen: seen.faint) == []


def test_a_broken_page_is_found(
    browser: Browser, make_book: Callable[..., Path], tmp_path: Path
) -> None:
    make_book(
        '<div style="width: 600px">wide</div><p style="color: #888; background: #fff">faint</p>'
        '<p style="color: #111; background: #fff">clear</p><img src="missing.png" alt="">'
        "<script>throw new Error('broken')</script><img src='http://127.0.0.1:9/x.png' alt=''>"
    )
    seen = visit(browser, tmp_path / "index.html", "light")
    assert any("broken" in line for line in seen.console)
    assert seen.requests == ["http://127.0.0.1:9/x.png"]
    assert seen.broken_images == ["missing.png", "http://127.0.0.1:9/x.png"]
    assert len(seen.overflow) == 1 and "wide" in seen.overflow[0]
    assert seen.faint == ["p. 3.54: faint"]
