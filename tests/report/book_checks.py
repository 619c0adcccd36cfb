"""What must hold for the pages of a built book, whoever built it.

Each check takes the folder of a built book and returns its findings as lines, "page: what"; an
empty list is a pass. `test_book_checks.py` shows each of them a page that it must find fault with.
"""

import json
import operator
import re
from collections import Counter
from functools import cache
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
COMPARISONS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}


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
def _ids(page: Path) -> frozenset[str]:
    return frozenset(tag["id"] for tag in parse(page).find_all(id=True))


def broken_links(book: Path) -> list[str]:
    """References to a file that is not in the book, or to an id that is not on its page."""
    found = []
    root = book.resolve()
    for page in pages(book):
        name = page.relative_to(book)
        for tag in parse(page).find_all(lambda tag: tag.has_attr("href") or tag.has_attr("src")):
            link = tag.get("href", tag.get("src"))
            parts = urlsplit(link)
            if not link or parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if target.is_dir():
                target = target / "index.html"
            if not target.is_file() or not target.resolve().is_relative_to(root):
                found.append(f"{name}: {link} leads to no file of the book")
            elif (
                parts.fragment
                and target.suffix == ".html"
                and unquote(parts.fragment) not in _ids(target)
            ):
                found.append(f"{name}: {link} names no id on its page")
    return found


def faulty_figures(book: Path) -> list[str]:
    """Images without alternative text; numbered figures and tables without a numbered caption."""
    found = []
    for page in pages(book):
        name = page.relative_to(book)
        for image in parse(page).find_all("img"):
            if not image.get("alt", "").strip():
                found.append(f"{name}: {image.get('src')} has no alternative text")
        for label, caption in floats(page).items():
            if not FLOAT_LABEL.match(caption):
                found.append(f"{name}: #{label} has the caption {caption!r}")
    return found


def duplicate_ids(book: Path) -> list[str]:
    """Ids that occur twice in the body of a page."""
    found = []
    for page in pages(book):
        counts = Counter(tag["id"] for tag in parse(page).body.find_all(id=True))
        found += [
            f"{page.relative_to(book)}: #{i} occurs {n} times" for i, n in counts.items() if n > 1
        ]
    return found


def unrendered_markdown(book: Path) -> list[str]:
    """Markdown that stands in a page's text as it was written: references, fences, emphasis …"""
    found = []
    for page in pages(book):
        name = page.relative_to(book)
        body = BeautifulSoup(str(parse(page).body), "html.parser")
        for code in body.find_all("code"):
            if not code.find_parent("pre") and code.get_text().startswith("{python}"):
                found.append(f"{name}: a computed value in {code.get_text()!r}")
        for tag in body.find_all(["pre", "code", "script", "style", "math", "template"]):
            tag.decompose()
        text = text_of(body)
        for what, pattern in UNRENDERED.items():
            if match := pattern.search(text):
                near = text[max(0, match.start() - 30) : match.end() + 30]
                found.append(f"{name}: {what} in {near!r}")
    return found


def cell_errors(book: Path) -> list[str]:
    """Errors that cells left in a page."""
    found = []
    for page in pages(book):
        name = page.relative_to(book)
        main = main_of(page)
        if main.select(".cell-output-error"):
            found.append(f"{name}: a cell's error")
        outputs = [tag for tag in main.find_all("pre") if "sourceCode" not in tag.get("class", [])]
        if any("Traceback (most recent call last)" in tag.get_text() for tag in outputs):
            found.append(f"{name}: a traceback")
    return found


def remote_requests(book: Path) -> list[str]:
    """All that a browser would fetch from the network by itself: not the links to click on."""
    found = []
    for page in pages(book):
        name = page.relative_to(book)
        soup = parse(page)
        for tag in soup.find_all(lambda tag: tag.name != "a"):
            if tag.name == "link" and set(tag.get("rel", [])) & {"canonical", "next", "prev"}:
                continue
            for key in ("src", "href", "srcset", "data", "poster"):
                if FAR.match(tag.get(key) or ""):
                    found.append(f"{name}: <{tag.name} {key}={tag[key]}>")
        styles = [tag.get_text() for tag in soup.find_all("style")]
        styles += [tag["style"] for tag in soup.find_all(style=True)]
        found += [f"{name}: {m[0]}" for style in styles for m in FAR_CSS.finditer(style)]
        for script in soup.find_all("script"):
            found += [f"{name}: {m[0]}" for m in FAR_MODULE.finditer(script.get_text())]
    for sheet in sorted(book.rglob("*.css")):
        css = sheet.read_text(encoding="utf-8", errors="replace")
        found += [f"{sheet.relative_to(book)}: {m[0]}" for m in FAR_CSS.finditer(css)]
    return found


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
    levels = ["h1", "h2", "h3", "h4", "h5", "h6"]
    tags = main_of(page).find_all(levels)
    if [tag.name for tag in tags].count("h1") > 1:
        tags.remove(main_of(page).find("h1"))
    found = [f"{tag.name} {text_of(tag)}" for tag in tags]
    return [heading for heading in found if heading != "h2 References"]


def cross_references(page: Path) -> list[tuple[str, str]]:
    """(text, name of the page it leads to) of every cross-reference, in the page's order.

    A link to a figure, table, section or equation by its label is one; and so is a link to a whole
    chapter, which Quarto marks by a class.
    """
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
    return {
        page.relative_to(book).as_posix(): {
            "headings": headings(page),
            "floats": floats(page),
            "references": cross_references(page),
        }
        for page in pages(book)
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def faulty_claims(text: str, stems: set[str]) -> list[str]:
    """Faults of a `claims.json`: its fields, their types, and whether each verdict is as measured.

    Args:
        text: the file's content, a JSON list of objects.
        stems: the names of the book's chapters without their folder and suffix.
    """
    claims = json.loads(text)
    if not isinstance(claims, list) or not claims:
        return ["claims.json is not a list of claims"]
    found = []
    kinds = {"id": str, "chapter": str, "statement": str, "op": str, "holds": bool}
    for claim in claims:
        name = claim.get("id", claim)
        missing = {*kinds, "value", "threshold", "interval", "n"} - set(claim)
        if missing:
            found.append(f"{name}: lacks {', '.join(sorted(missing))}")
            continue
        found += [
            f"{name}: {field} is {claim[field]!r}, not {kind.__name__}"
            for field, kind in kinds.items()
            if not isinstance(claim[field], kind)
        ]
        # A measured value may be NaN, which JSON carries as null: it never holds.
        if not (_is_number(claim["value"]) or claim["value"] is None):
            found.append(f"{name}: value is {claim['value']!r}, not a number")
        elif not _is_number(claim["threshold"]) or claim["op"] not in COMPARISONS:
            found.append(f"{name}: the criterion is {claim['op']!r} {claim['threshold']!r}")
        else:
            value = float("nan") if claim["value"] is None else claim["value"]
            if COMPARISONS[claim["op"]](value, claim["threshold"]) != claim["holds"]:
                found.append(
                    f"{name}: {value} {claim['op']} {claim['threshold']} is not as it says"
                )
        interval = claim["interval"]
        if interval is not None and not (
            len(interval) == 2 and all(map(_is_number, interval)) and interval[0] <= interval[1]
        ):
            found.append(f"{name}: interval is {interval!r}, not a pair (low, high)")
        if claim["n"] is not None and not (isinstance(claim["n"], int) and claim["n"] > 0):
            found.append(f"{name}: n is {claim['n']!r}, not a positive count")
        if claim["chapter"] not in stems:
            found.append(f"{name}: stands in {claim['chapter']!r}, which is no chapter")
    counts = Counter(claim.get("id") for claim in claims)
    found += [f"{name}: occurs {n} times" for name, n in counts.items() if n > 1]
    return found
