"""What reader.js does with the pages of every built book; their sizes; when they are painted."""

import csv
import io
from pathlib import Path

import book_checks as checks
import pypdf
import pytest
from browsing import BROKEN_IMAGES, open_page
from playwright.sync_api import Page

MEGABYTE = 1_000_000
FIRST_PAINT = """() => new Promise(resolve => new PerformanceObserver(list => list.getEntries()
  .filter(entry => entry.name === 'first-contentful-paint').forEach(e => resolve(e.startTime)))
  .observe({type: 'paint', buffered: true}))"""
PRINTED = """() => [getComputedStyle(document.body).backgroundColor,
  ...new Set([...document.querySelectorAll('main, main :is(p, a, td, code, span, figcaption, h2)')]
    .map(element => getComputedStyle(element).color))]"""
DRAWN = """() => [...document.querySelectorAll('.picture img')].map(getComputedStyle)
  .map(style => `${style.filter} ${style.mixBlendMode}`)"""
MARGINS = ("top", "bottom", "left", "right")
PERMALINKS = """() => [...document.querySelectorAll('.permalink, .float-tools a[href^="#"]')]
  .map(a => a.getAttribute('href').slice(1))"""


def holding(book: Path, pattern: str) -> list[Path]:
    """The book's pages whose text holds `pattern`."""
    found = [p for p in checks.pages(book) if pattern in p.read_text(encoding="utf-8")]
    return found or pytest.skip(f"a book without {pattern}")


def dressed(book: Path) -> list[Path]:
    """The pages that a builder made from chapters."""
    return holding(book, "reader/reader.js")


def test_search_finds_a_section_on_another_page_and_goes_there(book, browser):
    target = next(p for p in dressed(book) if checks.floats(p) and p.name != "index.html")
    heading = checks.main_of(target).find("h2")
    words = checks.text_of(heading)  # with its number, that of the chapter in front
    with open_page(browser, book / "index.html") as tab:
        tab.keyboard.press("Control+k")
        tab.get_by_label("Search the book").fill("xylophonist")
        tab.get_by_text("Nothing found.").wait_for()
        tab.get_by_label("Search the book").fill(words.upper())
        tab.locator(".search-panel li a").filter(has_text=f"› {words}").first.click()
        tab.wait_for_url("**#*")
        assert Path(tab.url.split("#")[0]).name == target.name
        here = "() => document.getElementById(decodeURIComponent(location.hash.slice(1)))"
        assert words in tab.evaluate(f"{here}.textContent")


HITS = """query => {
  bookIndex({titles: {a: "2 Gélöste Fragen – B", b: "B"}, sections: [
    ["a", "x", "2.1 Die Färbung", "The network’s re-weighting by Grad-CAM, in colour or grey."],
    ["b", "y", "", "Nothing of the kind: weights, cameras."]]});
  return find(query).map(hit => [hit.section.address, hit.section.page,
    [...excerpt(hit).querySelectorAll("mark")].map(mark => mark.textContent)]);
}"""


@pytest.mark.parametrize(
    ("query", "marked"),
    [
        ("networks", ["network’s"]), ("network's grad-cam", ["network’s", "Grad-CAM"]),
        ("“gradcam”", ["Grad-CAM"]), ("reweighting", ["re-weighting"]), ("COLOR", ["colour"]),
        ("colour", ["colour"]), ("gray", ["grey"]), ("die farbung", []), ("reweighing", None),
        ("'-", None),
    ],
)  # fmt: skip
def test_search_folds_quotes_hyphens_accents_and_spellings(book, browser, query, marked):
    with open_page(browser, dressed(book)[0]) as tab:
        found = tab.evaluate(HITS, query)
    assert found == ([] if marked is None else [["a#x", "2 Gélöste Fragen", marked]])


def test_enter_opens_the_first_hit(book, browser):
    with open_page(browser, book / "index.html") as tab:
        tab.keyboard.press("Control+k")
        tab.keyboard.type("the figure")
        tab.locator(".search-panel li a").first.wait_for()
        first = tab.locator(".search-panel li a").first.evaluate("link => link.href")
        tab.keyboard.press("Enter")
        tab.wait_for_url(first)
        assert not tab.locator(".search-panel[open]").count()


def downloaded(tab: Page, name: str, role: str) -> list[list[str]]:
    with tab.expect_download() as download:
        tab.get_by_role(role, name=name).first.click()
    return list(csv.reader(io.StringIO(Path(download.value.path()).read_text("utf-8"))))


def test_the_data_of_tables_and_figures_are_what_they_show(book, browser):
    page = holding(book, 'id="tbl-')[0]
    table = checks.main_of(page).select_one("[id^=tbl-] table")
    shown = [[checks.text_of(cell) for cell in row(["th", "td"])] for row in table("tr")]
    with open_page(browser, page) as tab:
        assert downloaded(tab, "Data (CSV) of Table", "button") == shown
    page = holding(book, "data-csv=")[0]
    with open_page(browser, page) as tab:
        note, header, *rows = downloaded(tab, "Data (CSV) of Figure", "link")
    assert note[0].startswith("# ")  # what the columns mean
    assert rows and all(len(row) == len(header) for row in rows)
    for image in checks.main_of(page).select("[data-csv]"):
        assert (page.parent / image["data-csv"]).is_file()


def test_one_toggle_shows_all_code_and_is_remembered(book, browser):
    page = holding(book, "code-fold")[0]
    folds = len(checks.main_of(page).select("details.code-fold"))
    open_folds = "() => document.querySelectorAll('details.code-fold[open]').length"
    with open_page(browser, page) as tab:
        tab.get_by_role("button", name="Show all code").click()
        assert tab.evaluate(open_folds) == folds
        tab.reload()
        assert tab.evaluate(open_folds) == folds
        tab.get_by_role("button", name="Hide all code").click()
        assert tab.evaluate(open_folds) == 0


def test_headings_figures_and_tables_link_to_themselves(book, browser):
    for page in dressed(book):
        with open_page(browser, page) as tab:
            links = tab.evaluate(PERMALINKS)
            assert all(tab.evaluate("id => !!document.getElementById(id)", id) for id in links)
        assert set(checks.floats(page)) <= set(links)
        assert len(links) >= len(checks.main_of(page)(["h2", "h3"])), page


def test_a_term_explains_itself_by_mouse_and_by_keyboard(book, browser):
    pages = iter(dressed(book))
    with open_page(browser, next(pages)) as tab:
        while not tab.locator("a.term").count():
            tab.goto(next(pages).as_uri())
        term, tip = tab.locator("a.term").first, tab.get_by_role("tooltip")
        term.hover()
        assert len(tip.inner_text()) > 20
        tip.hover()  # it stays while pointed at
        assert tip.is_visible()
        tab.keyboard.press("Escape")
        assert not tip.is_visible()
        tab.mouse.move(0, 0)
        term.focus()
        tab.keyboard.press("Shift+Tab")
        tab.keyboard.press("Tab")
        assert tip.is_visible()
        assert term.get_attribute("aria-describedby") == tip.get_attribute("id")
        name = tip.locator("strong").inner_text()
        term.click()
        tab.wait_for_url("**#term-*")
        tab.wait_for_load_state()
        entry = "() => document.getElementById(location.hash.slice(1)).closest('dt').innerText"
        assert tab.evaluate(entry).strip() == name


def test_a_dark_page_is_printed_black_on_white_without_its_tools(book, browser):
    with open_page(browser, holding(book, 'id="fig-')[0], "dark") as tab:
        assert tab.locator(".float-tools").first.is_visible()
        tab.emulate_media(media="print")
        for selector in (".reader-bar", ".float-tools", ".skip"):
            assert not tab.locator(selector).first.is_visible()
        assert tab.evaluate(PRINTED) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
        assert set(tab.evaluate(DRAWN)) == {"none normal"}


def lowest_text(page: pypdf.PageObject) -> float:
    """How far down the lowest text of a printed page is, as a share of its height."""
    lowest = [0.0]

    def see(text: str, cm: list[float], tm: list[float], *_: object) -> None:
        if text.strip():  # by the text's place in its form, and that of the form
            lowest.append(1 - (tm[4] * cm[1] + tm[5] * cm[3] + cm[5]) / float(page.mediabox.height))

    page.extract_text(visitor_text=see)
    return max(lowest)


def test_a_printed_page_but_a_chapters_last_has_no_empty_third(book, browser):
    """Of A4 with margins of 15 mm."""
    margin, found, least = 15 / 297, [], 0.55 if checks.is_quick(book) else 2 / 3
    for page in dressed(book):
        with open_page(browser, page, "dark") as tab:
            tab.evaluate(BROKEN_IMAGES)  # loads them
            paper = tab.pdf(format="A4", margin=dict.fromkeys(MARGINS, "15mm"))
        sheets = [lowest_text(sheet) for sheet in pypdf.PdfReader(io.BytesIO(paper)).pages]
        filled = [(down - margin) / (1 - 2 * margin) for down in sheets[:-1]]
        found += [(page.name, n) for n, full in enumerate(filled, 1) if full < least]
    assert found == []


def test_every_page_is_painted_within_two_seconds(book, browser):
    """From disk, by the Paint Timing API; in one of three tries, since the machine may be busy."""

    def first_paint(page: Path) -> float:
        with open_page(browser, page) as tab:
            return tab.evaluate(FIRST_PAINT)

    pages = checks.pages(book)
    assert [p for p in pages if all(first_paint(p) > 2000 for _ in range(3))] == []


def test_images_are_lazy_files_of_known_size_and_no_file_is_too_large(book):
    images = [image for page in dressed(book) for image in checks.main_of(page)("img")]
    for image in images:
        assert image.get("loading") == "lazy" and not image["src"].startswith("data:"), image
        assert image.get("width") or image.get("height"), image
    assert sum(file.stat().st_size for file in book.rglob("*") if file.is_file()) <= 40 * MEGABYTE
    assert [p for p in checks.pages(book) if p.stat().st_size > 3 * MEGABYTE] == []
    listed = (book / "sitemap.xml").read_text(encoding="utf-8")
    assert [p for p in checks.pages(book) if p.name not in listed and p.stem != "404"] == []
    assert (book / "reader" / "card.png").stat().st_size < MEGABYTE
