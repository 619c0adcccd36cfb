"""The pages' last dressing: what a reader meets on each of them, whichever builder made it.

`dress` runs after rendering. It gives each page the same small script and style sheet (reader.js
and reader.css: search, enlarging, data as CSV, permalinks, glossary, one toggle for all code), its
icon, and its card for those who share it; and it writes what they need: the index of the text, the
terms of the glossary, the figures' data, the card's picture, the sitemap. Everything works from a
file, without network, and without scripts the pages read well.
"""

from __future__ import annotations

import io
import json
import os
import posixpath
import re
import shutil
import struct
import zipfile
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from lazy_artist.figure_data import data_in

ASSETS = Path(__file__).with_name("assets")
FOLDER = "reader"  # in the book
SITE = "LAZY_ARTIST_SITE_URL"  # where the book is published, if it is
CARD = (1200, 630)  # pixels
LONG = 100_000  # bytes: longer tables of figures are zipped
_BUILT = re.compile(r'<meta name="generator" content="(?:quarto|bookbinder)\b')
_DRESSED = "<!-- reader -->"
_IMAGE = re.compile(r"<img\b(?:[^>\"']|\"[^\"]*\"|'[^']*')*>")
_SRC = re.compile(r"\ssrc=\"([^\"]*)\"")
_CELL = re.compile(r"<td\b[^>]*>[^<]*</td>")
_INTERVAL = re.compile(r"(\[[^]\[\s]+,) ([^]\[\s]+\])")
_VOID = {"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
_HEADINGS = {"h1", "h2", "h3", "h4"}
_BLOCKS = {"p", "li", "dt", "dd", "td", "th", "tr", "figcaption", "caption", "div", *_HEADINGS}
_PASSED = {"script", "style", "pre", "nav", "summary", "annotation", "button"}
_NUMBERS = {"header-section-number", "chapter-number"}


class Section(NamedTuple):
    """The text below one heading of a page: what a search finds."""

    page: str
    anchor: str  # empty at the top of a page
    title: str
    text: str


class Term(NamedTuple):
    """An entry of the glossary; forms: the words that mean it in a text, the term itself first."""

    anchor: str
    forms: list[str]
    meaning: str


def dress(book: Path) -> None:
    """Dresses the finished book in the folder `book`; a second time changes nothing.

    Pages that no builder made (the atlas) are left as they are, but are in the sitemap.
    """
    files = sorted(page for page in book.rglob("*.html") if "site_libs" not in page.parts)
    names = [file.relative_to(book).as_posix() for file in files]
    texts = {name: (book / name).read_text("utf-8") for name in names}
    texts = {name: text for name, text in texts.items() if _BUILT.search(text)}
    readings = [_Reading(name, text) for name, text in texts.items()]
    (book / FOLDER).mkdir(exist_ok=True)
    for asset in ("reader.css", "reader.js", "favicon.svg"):
        shutil.copyfile(ASSETS / asset, book / FOLDER / asset)
    for reading in readings:
        if _DRESSED not in texts[reading.name]:
            _write(book / reading.name, _dressed(book, reading, texts[reading.name]))
    index = {
        "titles": {name: _title(text) for name, text in texts.items()},
        "sections": [section for reading in readings for section in reading.sections],
    }
    _write(book / FOLDER / "index.js", f"bookIndex({_json(index)});\n")
    defining = next((reading for reading in readings if reading.terms), None)
    terms = defining.terms if defining else []
    terms = [(t.anchor, [_clean([f]) for f in t.forms], _clean([t.meaning])) for t in terms]
    glossary = {"page": defining.name if defining else "", "terms": terms}
    _write(book / FOLDER / "glossary.js", f"const BOOK_GLOSSARY = {_json(glossary)};\n")
    if "index.html" in texts:
        _card(book, texts["index.html"])
    _sitemap(book, [name for name in names if name != "404.html"])


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def _json(value: object) -> str:
    """As JSON that a script of a page can hold."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _site() -> str:
    return os.environ.get(SITE, "").rstrip("/")


def _address(name: str) -> str:
    """Where the file of the book is published; its name alone where that is not known."""
    return f"{_site()}/{quote(name)}" if _site() else quote(name)


# A page


def _dressed(book: Path, reading: _Reading, text: str) -> str:
    name = reading.name
    root = "../" * name.count("/")
    opening = next((section.text for section in reading.sections if section.text), "")
    if len(opening) > 200:
        opening = opening[:200].rsplit(" ", 1)[0] + " …"
    card = f"{FOLDER}/card.png"
    properties = {
        "og:type": "website" if name == "index.html" else "article",
        "og:title": _title(text),
        "og:description": opening,
        "og:image": _address(card) if _site() else root + card,
        "og:image:width": str(CARD[0]),
        "og:image:height": str(CARD[1]),
        "og:image:alt": "The book's title above its opening figure.",
    }
    if _site():
        properties["og:url"] = _address(name)
    lines = [_DRESSED, f'<meta name="description" content="{escape(opening)}">']
    lines += [f'<meta property="{k}" content="{escape(v)}">' for k, v in properties.items()]
    lines += [
        '<meta name="twitter:card" content="summary_large_image">',
        f'<link rel="icon" type="image/svg+xml" href="{root}{FOLDER}/favicon.svg">',
        f'<link rel="stylesheet" href="{root}{FOLDER}/reader.css">',
        f'<script src="{root}{FOLDER}/glossary.js" defer></script>',
        f'<script src="{root}{FOLDER}/reader.js" data-root="{root}" defer></script>',
    ]
    text = text.replace("</head>", "\n".join(lines) + "\n</head>", 1)
    target = re.search(r'<main\b[^>]*\sid="([^"]+)"', text)
    if target and 'class="skip"' not in text:
        link = f'<a class="skip" href="#{target[1]}">Skip to the text</a>'
        text = re.sub(r"<body\b[^>]*>", lambda body: f"{body[0]}\n{link}", text, count=1)
    text = _CELL.sub(lambda cell: _INTERVAL.sub("\\1\u00a0\\2", cell[0]), text)  # on one line
    folder = book / posixpath.dirname(name)
    return _IMAGE.sub(lambda image: _image(folder, image[0]), text)


def _title(text: str) -> str:
    return _text(re.search(r"<title>(.*?)</title>|$", text, re.S)[1] or "")


def _text(html: str) -> str:
    """The text of a piece of HTML."""
    return _clean([unescape(re.sub(r"<[^>]*>", "", html))])


def _image(folder: Path, tag: str) -> str:
    """The tag of an image, lazy, with its size, and with the file of the data that it shows.

    The data that a PNG carries are written beside it, under its name; zipped if they are long.
    """
    source = _SRC.search(tag)
    if not source or re.match(r"[a-z]+:|//", source[1]):
        return tag
    more = "" if re.search(r"\sloading=", tag) else ' loading="lazy"'
    file = folder / source[1]
    if file.suffix == ".png" and file.is_file():
        png = file.read_bytes()
        if not re.search(r"\s(?:width|height)=", tag):
            more += ' width="{}" height="{}"'.format(*struct.unpack(">II", png[16:24]))
        if data := data_in(png).encode():
            suffix = ".csv" if len(data) <= LONG else ".csv.zip"
            table = file.with_suffix(suffix)
            table.write_bytes(data if suffix == ".csv" else _zipped(f"{file.stem}.csv", data))
            more += f' data-csv="{escape(posixpath.splitext(source[1])[0])}{suffix}"'
    end = 2 if tag.endswith("/>") else 1
    return tag[:-end].rstrip() + more + tag[-end:]


def _zipped(name: str, content: bytes) -> bytes:
    """A ZIP archive of one file, the same bytes each time."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return archive.getvalue()


class _Reading(HTMLParser):
    """Reads a page's main text, by sections, and the terms that it defines.

    A term is a span of the class `term`, with an id, in a definition list; what its attribute
    `also` lists between commas means it too.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__()
        self.name = name
        self.terms: list[Term] = []
        self._open: list[tuple[str, bool]] = []  # tags, and whether their text is passed over
        self._ids: list[str] = []  # of the sections around
        self._found: list[tuple[str, list[str], list[str]]] = [("", [], [])]
        self.feed(text)
        self.sections = [
            section
            for anchor, title, words in self._found
            if any((section := Section(name, anchor, _clean(title), _clean(words)))[2:])
        ]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        classes = set(values.get("class", "").split())
        if tag == "section":
            self._ids.append(values.get("id", ""))
        if self._reads() and tag in _HEADINGS:
            sections = self._ids[-1:] or [""]
            anchor = values.get("id") or values.get("data-anchor-id") or sections[0]
            self._found.append((anchor, [], []))
        if self._reads() and tag == "span" and "term" in classes and "id" in values:
            also = [form.strip() for form in values.get("data-also", "").split(",")]
            self.terms.append(Term(values["id"], ["", *filter(None, also)], ""))
        if tag not in _VOID:
            self._open.append((tag, tag in _PASSED or bool(classes & _NUMBERS)))

    def handle_endtag(self, tag: str) -> None:
        if tag == "section" and self._ids:
            self._ids.pop()
        if tag in _BLOCKS:
            self.handle_data(" ")
        while any(name == tag for name, _ in self._open) and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not self._reads():
            return
        tags = {tag for tag, _ in self._open}
        if tags & _HEADINGS:
            self._found[-1][1].append(data)
        elif "header" not in tags:  # the title's block: subtitle, authors
            self._found[-1][2].append(data)
        if self.terms and "dt" in tags and "span" in tags:
            self.terms[-1].forms[0] += data
        elif self.terms and "dd" in tags:
            self.terms[-1] = self.terms[-1]._replace(meaning=self.terms[-1].meaning + data)

    def _reads(self) -> bool:
        return any(tag == "main" for tag, _ in self._open) and not any(p for _, p in self._open)


def _clean(texts: list[str]) -> str:
    return " ".join("".join(texts).split())


# The card of those who share the book, and the map for those who list it


def _card(book: Path, text: str) -> None:
    """Draws the title above the first figure of the opening page."""
    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
    card = Image.new("RGB", CARD, "white")
    draw = ImageDraw.Draw(card)
    bold = ImageFont.truetype(fonts / "DejaVuSans-Bold.ttf", 60)
    plain = ImageFont.truetype(fonts / "DejaVuSans.ttf", 29)
    draw.text((60, 40), _title(text), "#23262b", bold)
    if found := re.search(r'<p class="(?:book-)?subtitle\b[^>]*>(.*?)</p>', text, re.S):
        draw.text((62, 122), _text(found[1]), "#5a5f68", plain)
    source = _SRC.search(next(iter(_IMAGE.findall(text)), ""))
    if source and (file := book / source[1]).suffix == ".png" and file.is_file():
        with Image.open(file) as figure:
            figure = figure.convert("RGB")
            figure.thumbnail((CARD[0] - 80, CARD[1] - 220))
            card.paste(figure, ((CARD[0] - figure.width) // 2, 190))
    card.save(book / FOLDER / "card.png", optimize=True)


def _sitemap(book: Path, names: list[str]) -> None:
    """Writes sitemap.xml (sitemaps.org, protocol 0.9); only with SITE are its addresses whole."""
    urls = "".join(f"<url><loc>{escape(_address(name))}</loc></url>\n" for name in names)
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    _write(book / "sitemap.xml", f'{head}<urlset xmlns="{space}">\n{urls}</urlset>\n')
