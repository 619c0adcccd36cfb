"""Writes the HTML pages of a book, with pandoc and the template assets/page.html."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nbformat import NotebookNode

from bookbinder import __version__, compose
from bookbinder.compose import NAMES, REFERENCES, SPACE, Node, Page, node, relative, rewrite, string
from bookbinder.source import ASSETS, Book


def bind(book: Book, notebooks: dict[str, NotebookNode], out: Path) -> None:
    """Writes all pages of the book, with their images and assets, into the new folder `out`.

    Raises BookError for what `compose` refuses.
    """
    (out / "bookbinder").mkdir(parents=True)
    for asset in ("book.css", "book.js"):
        shutil.copyfile(ASSETS / asset, out / "bookbinder" / asset)
    pages = compose.compose(book, notebooks, out)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda page: _write(page, pages, book, out), pages))


def _html(element: Node) -> list[Node] | None:
    """What the page has in the place of an element of the composed tree."""
    kind, contents = element["t"], element.get("c")
    if kind == "Header":
        level, (identifier, classes, attributes), inlines = contents
        attributes = dict(attributes)
        if number := attributes.pop("number", ""):
            inlines = [_span("header-section-number", number), SPACE, *inlines]
        return [node("Header", level, [identifier, classes, list(attributes.items())], inlines)]
    if kind == "Div" and "float" in contents[0][1]:
        (label, (_, kind), numbers), blocks = contents
        caption, *content = rewrite(blocks, _html)
        identifier = f' id="{label}"' if label else ""
        name = [string(f"{NAMES[kind]}\u00a0{number}:") for _, number in numbers]
        text = node("Plain", [*name, *[SPACE] * len(name), *caption["c"]])
        caption = [_raw("<figcaption>"), text, _raw("</figcaption>")]
        body = caption + content if kind == "tbl" else content + caption
        return [_raw(f'<figure{identifier} class="float-{kind}">'), *body, _raw("</figure>")]
    if name := compose.callout_kind(element):
        title, *blocks = rewrite(contents[1], _html)
        title = node("Plain", [node("Span", ["", ["callout-title"], []], title["c"])])
        opening, closing = f'<div class="callout callout-{name}" role="note">', "</div>"
        if collapse := dict(contents[0][2]).get("collapse"):
            state = "" if collapse == "true" else " open"
            opening = f'<details class="callout callout-{name}"{state}><summary>'
            blocks, closing = [_raw("</summary>"), *blocks], "</details>"
        return [_raw(opening), title, *blocks, _raw(closing)]
    if kind == "Table":
        (identifier, classes, attributes), *rest = contents
        table = node("Table", [identifier, [*classes, "scroll"], attributes], *rest)
        return [node("Div", ["", ["table-scroll"], []], [table])]
    if kind == "Span" and "equation" in contents[0][1]:
        (label, classes, ((_, number),)), inlines = contents
        inlines = [*inlines, _span("equation-number", f"({number})")]
        return [node("Span", [label, classes, []], inlines)]
    return None


def _raw(html: str) -> Node:
    return node("RawBlock", "html", html)


def _span(css_class: str, text: str) -> Node:
    return node("Span", ["", [css_class], []], [string(text)])


def _write(page: Page, pages: list[Page], book: Book, out: Path) -> None:
    chapter = page.chapter
    blocks = rewrite(page.blocks, _html)
    cited = page.cited
    if REFERENCES in blocks:
        cited = {label for other in pages for label in other.cited}
    elif cited:
        title = [2, ["page-references", ["unnumbered"], []], [string("References")]]
        blocks += [node("Header", *title), REFERENCES]

    def link(other: Page, **attributes: str) -> Node:
        url = relative(chapter.page, other.chapter.page)
        return node("Link", ["", [], list(attributes.items())], other.numbered_title, [url, ""])

    i = pages.index(page)
    nav = [link(p, **{"aria-current": "page"} if p is page else {}) for p in pages]
    number = [_span("chapter-number", str(chapter.number)), SPACE] if chapter.number else []
    if page.kind == "appendix":
        number = [string(compose.appendix_number(chapter.number)), SPACE]
    texts = {"lang": book.lang, "book": book.title, "subtitle": book.subtitle}
    texts |= {"author": book.author, "titleid": page.title_id, "version": __version__}
    texts["pagetitle"] = f"{compose.plain(page.title)} – {book.title}" if i else book.title
    texts["root"] = "../" * chapter.page.count("/")
    meta = {key: node("MetaString", text) for key, text in texts.items() if text}
    meta["heading"] = node("MetaInlines", number + page.title)
    items = [[node("Plain", [a])] for a in nav]
    main = sum(not p.chapter.appendix for p in pages)
    if main < len(pages):
        items[main:] = [[node("Plain", [string("Appendices")]), node("BulletList", items[main:])]]
    meta["nav"] = node("MetaBlocks", [node("BulletList", items)])
    meta["first"] = node("MetaBool", i == 0)
    if i > 0:
        meta["previous"] = node("MetaInlines", [link(pages[i - 1], rel="prev")])
    if i + 1 < len(pages):
        meta["next"] = node("MetaInlines", [link(pages[i + 1], rel="next")])
    options = ["-t", "html5", "--standalone", "--mathml", f"--template={ASSETS / 'page.html'}"]
    options += ["--toc", f"--toc-depth={book.toc_depth}"]
    file = out / chapter.page
    file.parent.mkdir(parents=True, exist_ok=True)
    text = compose.written(book, page, blocks, cited, options, meta)
    file.write_text(text, encoding="utf-8")
