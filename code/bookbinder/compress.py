"""Fewer bytes for the same pages: images, style sheets, and PDFs as Typst writes them."""

import functools
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pikepdf
import tinycss2
from fontTools import subset
from PIL import Image

CLOSE = 24  # of 255: how far a channel of a pixel may be off where colours are made fewer
CLOSE_ON_AVERAGE = 0.5  # where they are made fewer than 256
LARGE = 100_000  # bytes: an image that would be larger may be off by `CLOSE_IF_LARGE`
CLOSE_IF_LARGE = 44
LARGE_IN_PRINT = 50_000
_SCRIPT = re.compile(  # with its attributes, if it is run at once and not short
    r'<script((?: id="[^"]*")?(?: type="(?:application|text)/javascript")?)>'
    r"([^<](?:(?!</script).){2000,})</script>",
    re.S,
)
_WORD = re.compile(r"[A-Za-z_][\w-]*")
_FIGURE = re.compile(r'(_files/[^"<>]+)\.png(?=")')


def images(folder: Path, printed: bool = False) -> None:
    """Compresses all PNG images below the folder, in place."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = list(folder.rglob("*.png"))
        list(pool.map(lambda f: f.write_bytes(png(f.read_bytes(), printed)), files))


def figures(book: Path) -> None:
    """Makes WebP, a quarter smaller and of the same pixels, of the figures of a book's pages: the
    PNG images that lie in a page's folder `*_files`."""

    def convert(file: Path) -> None:
        with Image.open(file) as image:
            kind = "RGBA" if image.has_transparency_data else "RGB"
            image.convert(kind).save(file.with_suffix(".webp"), lossless=True, quality=100)
        file.unlink()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(convert, list(book.rglob("*_files/**/*.png"))))
    for page in book.rglob("*.html"):
        page.write_text(_FIGURE.sub(r"\1.webp", page.read_text("utf-8")), "utf-8")


def scripts(book: Path, folder: str) -> None:
    """Puts scripts that several pages hold alike, as Quarto's do, into files of the `folder`."""
    texts = {page: page.read_text("utf-8") for page in book.rglob("*.html")}
    count = Counter(match[2] for text in texts.values() for match in _SCRIPT.finditer(text))

    def moved(page: Path, match: re.Match[str]) -> str:
        if count[match[2]] == 1:
            return match[0]
        name = f"{folder}/{hashlib.sha256(match[2].encode()).hexdigest()[:8]}.js"
        (book / name).write_text(match[2], "utf-8")
        root = "../" * len(page.parent.relative_to(book).parts)
        return f'<script{match[1]} src="{root}{name}"></script>'

    for page, text in texts.items():
        page.write_text(_SCRIPT.sub(functools.partial(moved, page), text), "utf-8")


def styles(book: Path) -> None:
    """Takes out of a book's style sheets the rules for classes that no page or script names (a word
    there that ends in a hyphen, such as "callout-", stands for all that begin so), and out of the
    fonts beside them the icons that no rule is left to show."""
    files = [file for kind in ("html", "js") for file in book.rglob(f"*.{kind}")]
    words = {word for file in files for word in _WORD.findall(file.read_text("utf-8"))}
    beginnings = tuple(word for word in words if len(word) > 2 and word.endswith("-"))

    def used(selector: list) -> bool:
        """Whether all of its classes are named; those in brackets, as of :not(), do not count."""
        classes = [
            name.value
            for dot, name in zip(selector, selector[1:], strict=False)
            if dot == "." and name.type == "ident"
        ]
        return all(name in words or name.startswith(beginnings) for name in classes)

    def kept(rules: list) -> Iterator[str]:
        for rule in rules:
            if rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports", "layer"):
                inner = "".join(kept(tinycss2.parse_rule_list(rule.content or [])))
                yield f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}"
            elif rule.type == "qualified-rule":
                selectors: list[list] = [[]]
                for token in rule.prelude:
                    if token == ",":
                        selectors.append([])
                    else:
                        selectors[-1].append(token)
                if left := [tinycss2.serialize(each).strip() for each in selectors if used(each)]:
                    yield f"{','.join(left)}{{{tinycss2.serialize(rule.content)}}}"
            elif rule.type != "comment" or rule.value.startswith("!"):  # a licence
                yield rule.serialize()

    for file in book.rglob("*.css"):
        rules = tinycss2.parse_stylesheet(file.read_text("utf-8"), skip_whitespace=True)
        file.write_text("".join(kept(rules)), "utf-8")
    for font in book.rglob("*icons*.woff"):
        shown = {ord(sign) for css in font.parent.glob("*.css") for sign in css.read_text("utf-8")}
        options = subset.Options(flavor="woff")
        loaded, subsetter = subset.load_font(font, options), subset.Subsetter(options)
        subsetter.populate(unicodes=shown)
        subsetter.subset(loaded)
        subset.save_font(loaded, font, options)


def png(content: bytes, printed: bool = False) -> bytes:
    """The PNG image in fewer bytes: the same pixels, in at most 256 colours if no channel of them
    is off by more than `CLOSE` (in large images, `CLOSE_IF_LARGE`), in fewer if the mean is not off
    by more than `CLOSE_ON_AVERAGE` either, else, or if transparent, in its own colours. Texts in
    the file are dropped, its resolution is kept. If `printed`, larger ones than `LARGE_IN_PRINT`
    bytes get 48 colours: they are shown smaller there.
    """
    image = Image.open(io.BytesIO(content))
    dots = {"dpi": image.info["dpi"]} if "dpi" in image.info else {}
    image = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA")
    if image.mode == "RGBA" and image.getextrema()[3] == (255, 255):
        image = image.convert("RGB")

    def packed(image: Image.Image) -> bytes:
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True, **dots)
        return file.getvalue()

    best = min(content, packed(image), key=len)
    tries = [(64, 0, CLOSE, CLOSE_ON_AVERAGE), (128, 0, CLOSE, CLOSE_ON_AVERAGE)]
    tries += [(256, 0, CLOSE, 255), (256, 3, CLOSE_IF_LARGE if len(best) > LARGE else -1, 255)]
    if printed and len(best) > LARGE_IN_PRINT:
        tries = [(48, 3, 255, 255)]
    for colours, means, worst, average in tries if image.mode == "RGB" else ():
        few = image.quantize(colours, Image.Quantize.MAXCOVERAGE, means, dither=Image.Dither.NONE)
        off = np.abs(np.asarray(few.convert("RGB"), np.int16) - np.asarray(image, np.int16))
        if off.max() <= worst and off.mean() <= average:
            return min(best, packed(few), key=len)
    return best


def pdf(content: bytes) -> bytes:
    """The PDF in fewer bytes, with the same pages, tags and pixels: images of at most 256 colours
    get a table of them, and objects are packed together (ISO 32000-1, 7.5.7 and 7.5.8).

    Raises pikepdf.PdfError for what is no PDF.
    """
    file = io.BytesIO()
    pikepdf.settings.set_flate_compression_level(9)
    with pikepdf.open(io.BytesIO(content)) as document:
        for found in document.objects:
            if isinstance(found, pikepdf.Stream) and found.get("/Subtype") == "/Image":
                _with_few_colours(found)
        packed = {"object_stream_mode": pikepdf.ObjectStreamMode.generate, "recompress_flate": True}
        document.save(file, deterministic_id=True, **packed)
    return file.getvalue()


def _with_few_colours(image: pikepdf.Stream) -> None:
    """Gives an RGB image (8 bits a channel) of at most 256 colours a table of them."""
    pixels = np.frombuffer(image.read_bytes(), np.uint8)
    if image.get("/BitsPerComponent") != 8 or pixels.size != 3 * image.Width * image.Height:
        return
    weights = np.array([1 << 16, 1 << 8, 1])
    table, places = np.unique(pixels.reshape(-1, 3) @ weights, return_inverse=True)  # 0xRRGGBB
    if len(table) > 256:
        return
    colours = (table[:, None] // weights % 256).astype(np.uint8).tobytes()
    space = [pikepdf.Name.Indexed, image.ColorSpace, len(table) - 1, pikepdf.String(colours)]
    image.ColorSpace = pikepdf.Array(space)
    image.write(places.astype(np.uint8).tobytes())  # packed when the document is saved
