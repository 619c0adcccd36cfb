"""The pages' last dressing: what a reader meets on each of them, whichever builder made it.

`dress` gives each page the same small script and style sheet (reader.js and reader.css: search,
enlarging, data as CSV, permalinks, glossary, one toggle for all code), its icon, and its card for
those who share it, and writes what they need: the index of the text, the terms of the glossary, the
figures' data, the card's picture, the sitemap. Everything works from a file, without network.
"""

import io
import json
import os
import posixpath
import re
import shutil
import struct
import zipfile
from html import escape
from pathlib import Path
from urllib.parse import quote

import matplotlib
from bs4 import BeautifulSoup, NavigableString
from PIL import Image, ImageDraw, ImageFont

from bookbinder.modules import without_modules

ASSETS = Path(__file__).with_name("assets")
FOLDER = "reader"  # in the book
SITE = "LAZY_ARTIST_SITE_URL"  # where the book is published, if it is
CARD = (1200, 630)  # pixels
LONG = 20_000  # bytes: longer tables of figures are zipped
_BUILT = re.compile(r'<meta name="generator" content="(?:quarto|bookbinder)\b')
_DRESSED = "<!-- reader -->"
# by sitemaps.org, protocol 0.9; only with SITE are its addresses whole
_SITEMAP = """<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
{}</urlset>
"""
_IMAGE = re.compile(r"<img\b(?:[^>\"']|\"[^\"]*\"|'[^']*')*>")
_SRC = re.compile(r"\ssrc=\"([^\"]*)\"")
_CELL = re.compile(r"<td\b[^>]*>[^<]*</td>")
_INTERVAL = re.compile(r"(\[[^]\[\s]+,) ([^]\[\s]+\])")
_HEADINGS = ["h1", "h2", "h3", "h4"]
_BLOCKS = ["p", "li", "dt", "dd", "td", "th", "tr", "figcaption", "caption", "div", *_HEADINGS]
_PASSED = "script, style, pre, nav, summary, annotation, button"  # text that is passed over

Section = tuple[str, str, str, str]  # its page, anchor (empty at the top), title and text
Term = tuple[str, list[str], str]  # its anchor, the words that mean it (itself first), its meaning


def dress(book: Path) -> None:
    """Dresses the finished book in the folder `book`; a second time changes nothing.

    Pages that no builder made (the atlas) are left as they are, but are in the sitemap.
    """
    files = sorted(page for page in book.rglob("*.html") if "site_libs" not in page.parts)
    names = [file.relative_to(book).as_posix() for file in files]
    texts = {n: text for n in names if _BUILT.search(text := (book / n).read_text("utf-8"))}
    soups = {name: BeautifulSoup(text, "html.parser") for name, text in texts.items()}
    titles = {name: _clean(soup.title.text) for name, soup in soups.items()}
    (book / FOLDER).mkdir(exist_ok=True)
    if "index.html" in soups:
        _card(book, titles["index.html"], soups["index.html"])
    read = {name: _read(name, soup) for name, soup in soups.items()}
    for asset in ("reader.css", "reader.js", "favicon.svg"):
        shutil.copyfile(ASSETS / asset, book / FOLDER / asset)
    for name, new in without_modules(book, texts, FOLDER).items():
        if _DRESSED not in new:
            new = _dressed(book, name, new, titles[name], read[name][0])
        if new != texts[name]:
            (book / name).write_text(new, "utf-8")
    for name, soup in soups.items():  # with the number, where there is one
        if heading := soup.select_one("main h1[id], main h1.title, main h1:has(.chapter-number)"):
            titles[name] = _clean(heading.text)
    index = {"titles": titles, "sections": [part for parts, _ in read.values() for part in parts]}
    found = ({"page": name, "terms": terms} for name, (_, terms) in read.items() if terms)
    glossary = next(found, {"page": "", "terms": []})
    (book / FOLDER / "index.js").write_text(f"bookIndex({_json(index)});\n", "utf-8")
    script = f"const BOOK_GLOSSARY = {_json(glossary)};\n"
    (book / FOLDER / "glossary.js").write_text(script, "utf-8")
    listed = [escape(_address(n, quote(n))) for n in names if n != "404.html"]
    lines = "".join(f"<url><loc>{address}</loc></url>\n" for address in listed)
    (book / "sitemap.xml").write_text(_SITEMAP.format(lines), "utf-8")


def _json(value: object) -> str:
    """As JSON that a script of a page can hold."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _address(name: str, otherwise: str) -> str:
    """Where the file of the book is published, or `otherwise` where that is not known."""
    site = os.environ.get(SITE, "").rstrip("/")
    return f"{site}/{quote(name)}" if site else otherwise


def _dressed(book: Path, name: str, text: str, title: str, sections: list[Section]) -> str:
    root = "../" * name.count("/")
    opening = next((words for *_, words in sections if words), "")  # the description
    if len(opening) > 200:
        opening = opening[:200].rsplit(" ", 1)[0] + " …"
    properties = {
        "type": "website" if name == "index.html" else "article",
        "title": title,
        "description": opening,
        "url": _address(name, ""),
        "image": _address(f"{FOLDER}/card.png", f"{root}{FOLDER}/card.png"),
        "image:width": str(CARD[0]),
        "image:height": str(CARD[1]),
        "image:alt": "The book's title above its opening figure.",
    }
    lines = [_DRESSED, f'<meta name="description" content="{escape(opening)}">']
    lines += [f'<meta property="og:{k}" content="{escape(v)}">' for k, v in properties.items() if v]
    lines += [
        '<meta name="twitter:card" content="summary_large_image">',
        f'<link rel="icon" type="image/svg+xml" href="{root}{FOLDER}/favicon.svg">',
        f'<link rel="stylesheet" href="{root}{FOLDER}/reader.css">',
        f'<script src="{root}{FOLDER}/glossary.js" defer></script>',
        f'<script src="{root}{FOLDER}/reader.js" data-root="{root}" defer></script>',
        *widget_tags(root, text),
        "</head>",
    ]
    text = text.replace("</head>", "\n".join(lines), 1)
    target = re.search(r'<main\b[^>]*\sid="([^"]+)"', text)
    if target and 'class="skip"' not in text:
        link = f'<a class="skip" href="#{target[1]}">Skip to the text</a>'
        text = re.sub(r"<body\b[^>]*>", lambda body: f"{body[0]}\n{link}", text, count=1)
    text = _CELL.sub(lambda cell: _INTERVAL.sub("\\1\u00a0\\2", cell[0]), text)  # on one line
    folder = book / posixpath.dirname(name)
    return _IMAGE.sub(lambda image: _image(folder, image[0]), text)


def widget_tags(root: str, text: str) -> list[str]:
    """The style sheet and the scripts, each once, for the widgets that stand in a page's `text`."""
    needs = [name for held in re.findall(r'\sdata-needs="([^"]*)"', text) for name in held.split()]
    scripts = [f'<script src="{root}widgets/{n}.js" defer></script>' for n in dict.fromkeys(needs)]
    return [f'<link rel="stylesheet" href="{root}widgets/widgets.css">'] * bool(needs) + scripts


def _image(folder: Path, tag: str) -> str:
    """The tag of an image, lazy, with its size, and with the file of the data that it shows.

    The data that a PNG carries are written beside it, under its name; zipped if they are long. A
    figure of plots.py stands in a frame, in which it scrolls on a phone. On a dark page a style
    sheet inverts it, but for its pictures: where they are it has holes, and over them lies the same
    image, cut to just them.
    """
    source = _SRC.search(tag)
    if not source or re.match(r"[a-z]+:|//", source[1]):
        return tag
    file, more = folder / source[1], "" if re.search(r"\sloading=", tag) else ' loading="lazy"'
    if file.suffix != ".png" or not file.is_file():
        return _with(tag, more)
    png = file.read_bytes()
    data, drawn = (texts_in(png).get(name) for name in ("data.csv", "figure.json"))
    if not re.search(r"\s(?:width|height)=", tag):
        more += ' width="{}" height="{}"'.format(*struct.unpack(">II", png[16:24]))
    stem = posixpath.splitext(source[1])[0]
    if data:
        suffix = ".csv" if len(data.encode()) <= LONG else ".csv.zip"
        if suffix == ".csv":
            file.with_suffix(suffix).write_bytes(data.encode())
        else:
            with zipfile.ZipFile(file.with_suffix(suffix), "w") as archive:
                entry = zipfile.ZipInfo(f"{file.stem}.csv")  # without the time
                archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 9)
        more += f' data-csv="{escape(stem)}{suffix}"'
    if not drawn:
        return _with(tag, more)
    drawn, wide = json.loads(drawn), re.search(r"\swidth=\"?(\d+)", tag + more)
    frame = f' data-text="{drawn["text"]}"' + (f' style="--wide: {wide[1]}px"' if wide else "")
    boxes, size = drawn["pictures"], struct.unpack(">II", png[16:24])
    if not boxes:
        return f'<span class="picture drawn"{frame}>{_with(tag, more)}</span>'
    holes = _with(tag, f'{more} style="clip-path: {_cut(boxes, size, 3, (0, 0, 1, 1))}"')
    again = _with(tag, f'{more} aria-hidden="true" style="clip-path: {_cut(boxes, size, -1)}"')
    return f'<span class="picture mixed"{frame}>{holes}{again}</span>'


def _cut(boxes: list[list[float]], size: tuple[int, int], grown: int, *around: tuple) -> str:
    """What CSS leaves of an image of a size in pixels: the boxes (left, top, right and bottom, as
    shares), `grown` by as many pixels on each side; or what lies between them and one `around`."""
    shapes = [*around]
    for left, top, right, bottom in boxes:
        x, y = (grown / length for length in size)
        shapes.append((left - x, top - y, right + x, bottom + y))
    points = "0 0"
    for box in shapes:  # a rectangle each, and back, so that nothing lies between them
        left, top, right, bottom = (f"{100 * min(max(share, 0), 1):.4g}%" for share in box)
        points += f",{left} {top},{right} {top},{right} {bottom},{left} {bottom},{left} {top},0 0"
    return f"polygon(evenodd,{points})"


def texts_in(png: bytes) -> dict[str, str]:
    """The texts that a PNG file carries, by keyword; plots.py puts some there."""
    with Image.open(io.BytesIO(png)) as image:  # its head alone: decoding pixels would take longer
        return {key: str(text) for key, text in image.info.items() if isinstance(text, str)}


def _with(tag: str, more: str) -> str:
    """The tag with more attributes."""
    end = 2 if tag.endswith("/>") else 1
    return tag[:-end].rstrip() + more + tag[-end:]


def _read(name: str, page: BeautifulSoup) -> tuple[list[Section], list[Term]]:
    """A page's main text, by sections, and the terms that it defines: spans of the class `term`
    with an id in a definition list, and what their attribute `also` lists. Changes the tree."""
    if not (main := page.main):
        return [], []
    for passed in main.select(_PASSED):
        passed.extract()
    terms = []
    for term in main.select("dt span.term[id]"):
        also = filter(None, map(_clean, term.get("data-also", "").split(",")))
        meaning = term.find_parent("dt").find_next_sibling("dd")
        terms.append((term["id"], [_clean(term.text), *also], _clean(meaning.text)))
    found: list[tuple[str, list[str], list[str]]] = [("", [], [])]  # anchor, title, text
    block = None
    for element in main.descendants:
        if element.name in _HEADINGS:
            section = element.find_parent("section") or {}
            anchor = element.get("id") or element.get("data-anchor-id") or section.get("id", "")
            found.append((anchor, [], []))
        elif type(element) is NavigableString:
            around = list(element.parents)
            before, block = block, next((tag for tag in around if tag.name in _BLOCKS), None)
            words = element if block is before else f" {element}"
            names = {tag.name for tag in around}
            if names.intersection(_HEADINGS):
                found[-1][1].append(words)
            elif "header" not in names:  # the title's block: subtitle, authors
                found[-1][2].append(words)
    texts = [(name, anchor, _clean("".join(t)), _clean("".join(w))) for anchor, t, w in found]
    return [section for section in texts if any(section[2:])], terms


def _clean(text: str) -> str:
    return " ".join(text.split())


def _card(book: Path, title: str, opening: BeautifulSoup) -> None:
    """Draws what those who share the book show: its title above the opening page's first figure."""
    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")
    card = Image.new("RGB", CARD, "white")
    draw = ImageDraw.Draw(card)
    bold = ImageFont.truetype(fonts / "DejaVuSans-Bold.ttf", 60)
    plain = ImageFont.truetype(fonts / "DejaVuSans.ttf", 29)
    draw.text((60, 40), title, "#23262b", bold)
    if subtitle := opening.select_one("p.subtitle, p.book-subtitle"):
        draw.text((62, 122), _clean(subtitle.text), "#5a5f68", plain)
    image = opening.find("img")
    if image and (file := book / image["src"]).suffix == ".png" and file.is_file():
        with Image.open(file) as figure:
            figure = figure.convert("RGB")
            figure.thumbnail((CARD[0] - 80, CARD[1] - 220))
            card.paste(figure, ((CARD[0] - figure.width) // 2, 190))
    card.save(book / FOLDER / "card.png", optimize=True)
