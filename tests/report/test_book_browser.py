"""Every page of every built book in a real browser, in light and in dark, and by keyboard alone."""

from pathlib import Path

import book_checks as checks
import pytest
from browsing import BROKEN_IMAGES, IS_DARK, faults, open_page
from playwright.sync_api import Browser, Page

from bookbinder.modules import without_modules

ROOT = Path(__file__).resolve().parents[2]
UNSEEN = """() => {
  const e = document.activeElement, style = getComputedStyle(e);
  if (e === document.body) return [];
  const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0
    || style.boxShadow !== 'none';
  const box = e.getBoundingClientRect();
  return ring && box.width && +style.opacity === 1 ? [] : [e.outerHTML.slice(0, 100)];
}"""


@pytest.mark.timeout(900)  # two minutes on an idle machine
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_fault_in_the_browser(book, browser, scheme):
    found = [(page, faults(browser, page, scheme)) for page in checks.pages(book)]
    assert [(page.name, told) for page, told in found if told] == []


@pytest.mark.timeout(900)
def test_the_published_pages_have_nothing_to_complain_about_as_files(browser):
    docs, quarto = ROOT / "docs", '<meta name="generator" content="quarto'
    if not (docs / "index.html").is_file():
        pytest.skip("nothing is published yet: make publish")
    by_quarto = quarto in (docs / "index.html").read_text("utf-8")
    if by_quarto and not list(docs.glob("reader/modules-*.js")):
        pytest.skip("docs/ is of a time when pages loaded modules: make publish")
    found = {}
    for page in checks.pages(docs):
        with open_page(browser, page, found=found.setdefault(page.name, [])) as tab:
            tab.evaluate(BROKEN_IMAGES)
    assert {name: told for name, told in found.items() if told} == {}


MODULES = {
    "a.js": """import * as b from "./deep/b.js";
import usual, { twice as doubled,
  Kind } from './deep/c.js'
import "./deep/b.js";
window.told.push(`a ${b.count} ${b.next()} ${b.count}`, usual(4), doubled(4));
window.told.push(new Kind().name, this);
""",
    "deep/b.js": """// import this, export that
export let count = 1;
export async function* later() {}
export function next() { return ++count; }
window.told.push("b " + typeof later);
""",
    "deep/c.js": """import {next} from "./b.js"
const two = next();
export default function (x) { return x - two; }
function times(x) { return two * x; }
export { times as twice, Kind };
class Kind { name = "kind"; }
""",
}


def test_modules_become_one_classic_script_that_runs_from_a_file(browser, make_book, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "reader").mkdir()
    tags = [f'<script src="{name}" type="module"></script>' for name in MODULES]
    page = make_book("<script>window.told = []</script>" + "".join(tags), MODULES) / "index.html"
    texts = {page.name: page.read_text()}
    with open_page(browser, page, found=(refused := [])):
        assert refused
    new = without_modules(tmp_path, texts, "reader")
    page.write_text(new[page.name])
    with open_page(browser, page) as tab:
        told = ["b function", "a 2 3 3", 2, 8, "kind", None]
        assert tab.evaluate("window.told") == told
    assert without_modules(tmp_path, new, "reader") == new


def test_a_broken_page_is_found(browser, make_book):
    book = make_book(
        '<div style="width: 600px">wide</div><img src="missing.png" alt=""><p style="color: #aaa">'
        "faint<input><script>throw new Error('broken')</script><img src='http://127.0.0.1:9/x' alt>"
    )
    found = faults(browser, book / "index.html", "light")
    for what in (
        *("broken", "a request of http://127.0.0.1:9/x", "no image: missing.png"),
        *("its background is not light", 'too wide: <div style="width: 600px">wide</div>'),
        *("html-has-lang: ", "label: <input>", "on a phone, color-contrast: "),
    ):
        assert any(line.startswith(what) for line in found), what


ANSWER_ENDS = """() => {
  const headings = [...document.querySelectorAll('main h2')];
  const first = headings.findIndex(h => h.matches('#in-short, #in-short > h2'));
  if (first < 0) return Infinity;
  const before = (a, b) => a.compareDocumentPosition(b) & Node.DOCUMENT_POSITION_FOLLOWING;
  return Math.max(...[...document.querySelectorAll('main *')]
    .filter(e => before(headings[first], e) && before(e, headings[first + 1]))
    .filter(e => !e.contains(headings[first + 1]))
    .map(e => e.getBoundingClientRect().bottom));
}"""


def answer_ends(browser: Browser, page: Path) -> float:
    """Where the chapter's answer ends, in pixels from the top, on a desk of 1,300 px."""
    with open_page(browser, page) as tab:
        tab.set_viewport_size({"width": 1300, "height": 900})
        tab.evaluate(BROKEN_IMAGES)
        return tab.evaluate(ANSWER_ENDS)


@pytest.mark.parametrize("chapter", checks.DONE)
def test_a_chapters_answer_is_on_its_first_screen(chapter, books, browser):
    book = books("report")
    room = 1000 if checks.is_quick(book) else 900  # other outcomes may take lines more
    assert 0 < answer_ends(browser, book / "report" / f"{chapter}.html") <= room


def test_an_answer_below_the_first_screen_is_found(browser, make_book):
    page = '<main><h1>1 One</h1><h2 id="in-short">In short</h2><p>Yes.</p>{}<h2>1.1 The method</h2>'
    ends = [
        answer_ends(browser, make_book(page.format(more)) / "index.html")
        for more in ("", '<div style="height: 900px"></div><p>No.</p>')
    ]
    assert 0 < ends[0] < 200 and 1000 < ends[1] < 1200


def focused(tab: Page) -> str:
    return tab.evaluate("() => document.activeElement.textContent.trim()")


def figures_page(book: Path) -> Path:
    return next(p for p in checks.pages(book) if any("fig-" in i for i in checks.floats(p)))


def test_the_keyboard_leads_to_the_text_and_is_seen_at_every_stop(book, browser):
    with open_page(browser, figures_page(book)) as tab:
        tab.keyboard.press("Tab")
        assert focused(tab) == "Skip to the text"
        box = tab.evaluate("() => document.activeElement.getBoundingClientRect().toJSON()")
        assert box["left"] >= 0 and box["top"] >= 0 and box["width"] > 50
        tab.keyboard.press("Enter")
        tab.keyboard.press("Tab")
        assert tab.evaluate("() => !!document.activeElement.closest('main')")
        tab.reload()
        unseen = []
        for _ in range(40):
            tab.keyboard.press("Tab")
            unseen += tab.evaluate(UNSEEN)
        assert unseen == []


def test_contents_are_all_there_and_follow_and_a_chosen_theme_stays(book, browser):
    pages = [book / "index.html", figures_page(book)]
    with open_page(browser, pages[0]) as tab:
        contents = tab.locator("#TOC a, #book-toc a")
        assert contents.count()
        assert all(contents.nth(i).is_visible() for i in range(contents.count()))
        assert not tab.evaluate(IS_DARK)
        tab.locator(".quarto-color-scheme-toggle, .theme-toggle").locator("visible=true").click()
        assert tab.evaluate(IS_DARK)
        tab.goto(pages[1].as_uri())
        assert tab.evaluate(IS_DARK)
        if not tab.locator("#TOC").count():
            return  # bookbinder's contents are short and all in sight
        tab.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        tab.wait_for_selector("#TOC li:last-child > a.active")
        assert tab.locator("#TOC a.active").inner_text() == tab.locator("#TOC a").last.inner_text()


def test_figure_and_search_are_opened_and_left_by_keyboard(book, browser):
    with open_page(browser, figures_page(book), "dark") as tab:
        tab.get_by_role("button", name="Enlarge Figure").first.focus()
        tab.keyboard.press("Enter")
        assert tab.locator("dialog.lightbox[open] img:visible").first.get_attribute("alt")
        assert focused(tab) == "Close"
        tab.keyboard.press("Escape")
        tab.wait_for_selector("dialog.lightbox", state="detached")  # it goes after it has closed
        assert focused(tab) == "Enlarge"
        tab.get_by_role("button", name="Search").first.focus()
        tab.keyboard.press("Enter")
        tab.keyboard.type("figure")
        tab.wait_for_selector(".search-panel li a")
        assert "found" in tab.locator(".search-panel").get_by_role("status").inner_text()
        tab.keyboard.press("Escape")
        assert not tab.locator(".search-panel[open]").count()
        assert focused(tab) == "Search"
