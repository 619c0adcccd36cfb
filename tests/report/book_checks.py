"""What must hold for the pages of a built book, whoever built it.

Each check takes the folder of a built book and returns its findings as lines, "page: what"; an
empty list is a pass. `test_book_checks.py` shows each of them a page that it must find fault with.
"""

import json
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache, wraps
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

FLOAT_LABEL = re.compile(r"^(Figure|Table) \d+(\.\d+)?: \S")
UNRENDERED = {
    "a reference": re.compile(r"\?@|(?<![\w.])[@?](fig|tbl|sec|eq)-"),
    "a fenced div": re.compile(r":::"),
    "a computed value": re.compile(r"\{python\}"),
    "emphasis": re.compile(r"\*\*"),
    "an attribute": re.compile(r"\{[#.][\w-]+"),
    "a link": re.compile(r"\]\("),
    "a shortcode": re.compile(r"\{\{<"),
    "a formula": re.compile(r"\$\$|\\(?:[a-zA-Z]+[{_^]|[Bb]ig[lr]?\b)"),
}
FAR = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
FAR_CSS = re.compile(r"(url\(\s*['\"]?|@import\s+['\"])(https?:)?//[^)'\"\s]*", re.IGNORECASE)
FAR_MODULE = re.compile(r"(\bfrom|\bimport)\s*\(?\s*['\"]https?://[^'\"]*")
COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
COMPARISONS["=="] = operator.eq


def pages(book: Path) -> list[Path]:
    """The book's own HTML pages, sorted; not those of the libraries that a builder brings."""
    return sorted(p for p in book.rglob("*.html") if "site_libs" not in p.relative_to(book).parts)


def page_names(book: Path) -> set[str]:
    return {page.relative_to(book).as_posix() for page in pages(book)}


@cache
def parse(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def main_of(page: Path) -> Tag:
    return parse(page).find("main") or parse(page).body


def text_of(element: Tag) -> str:
    """The element's text with every run of white space, also the unbreakable, as one space."""
    return " ".join(element.get_text().split())


@cache
def _ids(page: Path) -> list[str]:
    return [tag["id"] for tag in parse(page).find_all(id=True)]


def on_every_page(check: Callable[[Path, Path], Iterable[str]]) -> Callable[[Path], list[str]]:
    """check(page, book) -> what it finds, for every page of a book, as lines "page: what"."""

    @wraps(check)
    def over(book: Path) -> list[str]:
        found = [(page.relative_to(book), check(page, book)) for page in pages(book)]
        return [f"{name}: {what}" for name, told in found for what in told]

    return over


@on_every_page
def broken_links(page: Path, book: Path) -> Iterator[str]:
    """References to a file that is not in the book, or to an id that is not on its page."""
    for tag in parse(page).find_all(lambda tag: tag.has_attr("href") or tag.has_attr("src")):
        link = tag.get("href", tag.get("src"))
        parts = urlsplit(link)
        if not link or parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file() or not target.resolve().is_relative_to(book.resolve()):
            yield f"{link} leads to no file of the book"
        elif target.suffix == ".html" and {unquote(parts.fragment)} - {"", *_ids(target)}:
            yield f"{link} names no id on its page"


@on_every_page
def faulty_figures(page: Path, _: Path) -> Iterator[str]:
    """Images without alternative text; numbered figures and tables without a numbered caption."""
    for image in parse(page).find_all("img"):
        if not image.get("alt", "").strip():
            yield f"{image.get('src')} has no alternative text"
    for label, caption in floats(page).items():
        if not FLOAT_LABEL.match(caption):
            yield f"#{label} has the caption {caption!r}"


@on_every_page
def duplicate_ids(page: Path, _: Path) -> list[str]:
    """Ids that occur twice on a page."""
    return [f"#{i} occurs {n} times" for i, n in Counter(_ids(page)).items() if n > 1]


@on_every_page
def unrendered_markdown(page: Path, _: Path) -> Iterator[str]:
    """Markdown that stands in a page's text as it was written: references, fences, emphasis …"""
    body = BeautifulSoup(str(parse(page).body), "html.parser")
    for code in body.find_all("code"):
        if not code.find_parent("pre") and code.get_text().startswith("{python}"):
            yield f"a computed value in {code.get_text()!r}"
    for tag in body.find_all(["pre", "code", "script", "style", "math", "template"]):
        tag.decompose()
    text = text_of(body)
    for what, pattern in UNRENDERED.items():
        if match := pattern.search(text):
            yield f"{what} in {text[max(0, match.start() - 30) : match.end() + 30]!r}"


@on_every_page
def cell_errors(page: Path, _: Path) -> Iterator[str]:
    """Errors that cells left in a page."""
    main = main_of(page)
    if main.select(".cell-output-error"):
        yield "a cell's error"
    outputs = [tag for tag in main.find_all("pre") if "sourceCode" not in tag.get("class", [])]
    if any("Traceback (most recent call last)" in tag.get_text() for tag in outputs):
        yield "a traceback"


@on_every_page
def remote_requests(page: Path, book: Path) -> Iterator[str]:
    """All that a browser would fetch from the network by itself: not the links to click on."""
    soup = parse(page)
    for tag in soup.find_all(lambda tag: tag.name != "a"):
        if tag.name == "link" and set(tag.get("rel", [])) & {"canonical", "next", "prev"}:
            continue
        for key in ("src", "href", "srcset", "data", "poster"):
            if FAR.match(tag.get(key) or ""):
                yield f"<{tag.name} {key}={tag[key]}>"
    styles = [tag.get_text() for tag in soup.find_all("style")]
    styles += [tag["style"] for tag in soup.find_all(style=True)]
    if page == pages(book)[0]:
        styles += [sheet.read_text("utf-8", errors="replace") for sheet in book.rglob("*.css")]
    yield from (match[0] for style in styles for match in FAR_CSS.finditer(style))
    for script in soup.find_all("script"):
        yield from (match[0] for match in FAR_MODULE.finditer(script.get_text()))


def floats(page: Path) -> dict[str, str]:
    """Label (`fig-…`, `tbl-…`) -> caption with its number, in order; "" where there is none."""
    found = {}
    for tag in main_of(page).find_all(id=re.compile(r"^(fig|tbl)-")):
        if tag.name not in ("figcaption", "caption") and "-caption-" not in tag["id"]:
            caption = tag.find(["figcaption", "caption"])
            found[tag["id"]] = text_of(caption) if caption else ""
    return found


def headings(page: Path) -> list[str]:
    """The page's headings with their levels and numbers, in order: "h2 1.1 Figures from cells".

    Without two that a builder adds: the book's title, which Quarto sets above the first page's own,
    and the title of the works that a chapter cites, which Quarto lists for the whole book only.
    """
    tags = main_of(page).find_all(re.compile("^h[1-6]$"))
    if [tag.name for tag in tags].count("h1") > 1:
        tags.remove(main_of(page).find("h1"))
    found = [f"{tag.name} {text_of(tag)}" for tag in tags]
    return [heading for heading in found if heading != "h2 References"]


def cross_references(page: Path) -> list[tuple[str, str]]:
    """(text, name of the page it leads to) of every link to a figure, table, section or equation by
    its label, or to a whole chapter, which Quarto marks by a class, in the page's order."""
    found = []
    for link in main_of(page).find_all("a", href=True):
        parts = urlsplit(link["href"])
        labelled = re.match(r"(fig|tbl|sec|eq)-", parts.fragment)
        marked = "quarto-xref" in link.get("class", [])
        if text_of(link) and not parts.scheme and (labelled or marked):
            found.append((text_of(link), Path(parts.path).name or page.name))
    return found


def outline(book: Path) -> dict[str, dict[str, object]]:
    """What two builds of one book must agree about: each page's headings, floats, references."""
    views = {"headings": headings, "floats": floats, "references": cross_references}
    return {
        page.relative_to(book).as_posix(): {name: view(page) for name, view in views.items()}
        for page in pages(book)
    }


def faulty_claims(text: str, stems: set[str]) -> list[str]:
    """Faults of the text of a `claims.json`: ids, chapters (of the `stems`), intervals, and whether
    each verdict is as measured."""
    claims = json.loads(text)
    if not isinstance(claims, list) or not claims:
        return ["claims.json is not a list of claims"]
    found = []
    for claim in claims:
        name = claim.get("id")
        fields = ("statement", "chapter", "value", "op", "threshold", "interval", "n", "holds")
        if missing := [field for field in fields if field not in claim]:
            found.append(f"{name}: lacks {', '.join(missing)}")
            continue
        # A measured value may be NaN, which JSON carries as null: it never holds.
        value = float("nan") if claim["value"] is None else claim["value"]
        low, high = claim["interval"] or (0, 0)
        verdict = COMPARISONS[claim["op"]](value, claim["threshold"])
        if claim["holds"] is not verdict:
            found.append(f"{name}: {value} {claim['op']} {claim['threshold']} is not as it says")
        if not low <= high or claim["n"] == 0:
            found.append(f"{name}: interval {claim['interval']!r} of {claim['n']!r} seeds")
        if claim["chapter"] not in stems:
            found.append(f"{name}: stands in {claim['chapter']!r}, which is no chapter")
    counts = Counter(claim.get("id") for claim in claims)
    found += [f"{name}: occurs {n} times" for name, n in counts.items() if n > 1]
    return found
