"""What must hold for the pages of a built book, whoever built it: each check takes the book's
folder and returns its findings as lines, "page: what"."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache, wraps
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

FLOAT_LABEL = re.compile(r"^(Figure|Table) (\d+|[A-Z]\.\d+|\d+\.\d+): \S")
# references, fenced divs, computed values, emphasis, attributes, links, shortcodes, formulas
UNRENDERED = re.compile(
    r"\?@|(?<![\w.])[@?](fig|tbl|sec|eq)-|:::|\{python\}|\*\*|\{[#.][\w-]+|\]\(|\{\{<"
    r"|\$\$|\\(?:[a-zA-Z]+[{_^]|[Bb]ig[lr]?\b)"
)
# what a browser would fetch by itself: not the links to click on
FAR = re.compile(
    r"""\s(?:src|srcset|poster|data)=["']?\s*(?:https?:)?//"""
    r"""|<link\b(?![^>]*\srel="(?:canonical|next|prev)")[^>]*\shref=["']?(?:https?:)?//"""
    r"""|(?:url\(\s*['"]?|@import\s+['"])(?:https?:)?//|\b(?:from|import)\s*\(?['"]https?://"""
)

# the chapters that have the shape of a chapter, and what that shape is
DONE = (
    "biased-canvas", "cheater", "prober", "interrogation", "intervention", "cloak",
    "decomposition", "fashion", "challenge-cnn", "challenge-transformer",
)  # fmt: skip
PARTS = ["In short", "The method", "The evidence", "Predicted and observed", "Try it"]
LONGEST = 1500  # words of prose in a chapter
# words that this book alone would use so; the field's own are in DESIGN.md
PRIVATE = re.compile(
    r"\b(inks?|inked|grounds?(?! truth)|diligent(ly)?|hurried(ly)?|twins?|small moves|price[ds]?"
    r"|silenc(e|ed|ing)|under the knife|dials?|read-?outs?|sure|sureness|rightly|by heart|nought"
    r"|points of percent|arithmetic of training)\b",
    re.I,
)


def pages(book: Path) -> list[Path]:
    """The book's own HTML pages, sorted; not those of the libraries that a builder brings."""
    return sorted(p for p in book.rglob("*.html") if "site_libs" not in p.relative_to(book).parts)


@cache
def parse(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def main_of(page: Path) -> Tag:
    return parse(page).find("main") or parse(page).body


def is_quick(book: Path) -> bool:
    """Whether the book is a build at quick scale, whose numbers and outcomes are others."""
    colophon = book / "report" / "colophon.html"
    return colophon.is_file() and "scale quick" in text_of(main_of(colophon))


def text_of(element: Tag) -> str:
    """The element's text with every run of white space, also the unbreakable, as one space."""
    return " ".join(element.get_text().split())


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
    images = parse(page).find_all("img")
    yield from (f"{i.get('src')} has no alt" for i in images if not i.get("alt", "").strip())
    for label, caption in floats(page).items():
        if not FLOAT_LABEL.match(caption):
            yield f"#{label} has the caption {caption!r}"


@on_every_page
def duplicate_ids(page: Path, _: Path) -> list[str]:
    return [f"#{i} occurs {n} times" for i, n in Counter(_ids(page)).items() if n > 1]


@on_every_page
def unrendered_markdown(page: Path, _: Path) -> Iterator[str]:
    """Markdown that stands in a page's text as it was written."""
    body = BeautifulSoup(str(parse(page).body), "html.parser")
    for code in body.find_all("code"):
        if not code.find_parent("pre") and code.get_text().startswith("{python}"):
            yield f"a computed value in {code.get_text()!r}"
    for tag in body.find_all(["pre", "code", "script", "style", "math", "template"]):
        tag.decompose()
    text = text_of(body)
    for match in UNRENDERED.finditer(text):
        yield f"unrendered: {text[max(0, match.start() - 30) : match.end() + 30]!r}"


@on_every_page
def cell_errors(page: Path, _: Path) -> Iterator[str]:
    """Errors that cells left in a page."""
    main = main_of(page)
    if main.select(".cell-output-error"):
        yield "a cell's error"
    if "Traceback (most recent call last)" in str(main.select("pre:not(.sourceCode)")):
        yield "a traceback"


@on_every_page
def remote_requests(page: Path, book: Path) -> Iterator[str]:
    """All that a browser would fetch from the network by itself."""
    files = [page, *(book.rglob("*.css") if page == pages(book)[0] else ())]
    for text in (file.read_text("utf-8", errors="replace") for file in files):
        yield from (text[match.start() : match.end() + 30] for match in FAR.finditer(text))


@on_every_page
def private_words(page: Path, _: Path) -> Iterator[str]:
    """Words of the private vocabulary in a page's text, captions, tables and alternative texts."""
    body = BeautifulSoup(str(main_of(page)), "html.parser")
    texts = [image.get("alt", "") for image in body.find_all("img")]
    for tag in body.find_all(["pre", "code", "script", "style"]):
        tag.decompose()
    for text in (text_of(body), *texts):
        for match in PRIVATE.finditer(text):
            yield f"{match[0]!r} in {text[max(0, match.start() - 30) : match.end() + 30]!r}"


def uncited_floats(book: Path) -> list[str]:
    """Figures and tables to which no text of the book refers."""
    cited = {
        unquote(urlsplit(link["href"]).fragment)
        for page in pages(book)
        for link in main_of(page).find_all("a", href=True)
    }
    found = [(page.relative_to(book), label) for page in pages(book) for label in floats(page)]
    return [f"{name}: #{label} is not cited" for name, label in found if label not in cited]


def missing_parts(page: Path) -> list[str]:
    """What a chapter's page lacks of the five parts in their order, or has beside them."""
    found = [re.sub(r"^h2 (\d+\.\d+ )?", "", h) for h in headings(page) if h.startswith("h2 ")]
    return [] if found == PARTS else [f"{page.name}: {', '.join(found)}"]


def prose(source: str) -> str:
    """The prose of a chapter's source: without its header, code, options of cells, tables, computed
    values, displayed formulas, headings and solutions."""
    for pattern in (
        *(r"\A---\n.*?^---$", r"^::: \{\.callout-tip title=\"Solution\".*?^:::$", r"^```.*?^```$"),
        *(r"^\$\$.*?\$\$.*?$", r"^\|.*$", r"`\{python\}[^`]*`", r"^#+ .*$", r"\{[#.][^}]*\}"),
    ):
        source = re.sub(pattern, " ", source, flags=re.M | re.S if ".*?" in pattern else re.M)
    return source


def words(source: str) -> int:
    """How many words of `prose` a chapter's source has."""
    return len(re.findall(r"[^\W\d_][\w'’-]*", prose(source)))


def floats(page: Path) -> dict[str, str]:
    """Label (`fig-…`, `tbl-…`) -> caption with its number, in order; "" where there is none."""
    found = {}
    for tag in main_of(page).find_all(id=re.compile(r"^(fig|tbl)-(?!.*-caption-)")):
        caption = tag.find(["figcaption", "caption"])
        found[tag["id"]] = text_of(caption) if caption else ""
    return found


def headings(page: Path) -> list[str]:
    """The page's headings with their levels and numbers, in order: "h2 1.1 Figures from cells",
    without the book's title that Quarto sets above the first page's own, and bookbinder's title of
    the works that a chapter cites."""
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


def contents(page: Path) -> dict[str, int | list[str]]:
    """What a page shows besides its text: the scripts of each widget; how many claims, tables …"""
    main = main_of(page)
    kinds = (".claim", "img", "table", "math", ".callout", ".term")
    return {kind: len(main.select(kind)) for kind in kinds} | {
        "widgets": [tag["data-needs"] for tag in main.select("[data-needs]")]
    }


def outline(book: Path) -> dict[str, list]:
    """What two builds of one book must agree about: each page's headings, floats, references,
    contents. LAZY_ARTIST_BOOK_QUARTO names the second build of the report (see conftest.py)."""
    return {
        page.relative_to(book).as_posix(): [
            *(headings(page), floats(page), cross_references(page), contents(page))
        ]
        for page in pages(book)
    }
