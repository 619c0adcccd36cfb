"""Fewer bytes for the same pages: PNG images, PDFs as Typst writes them, style sheets."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator

import numpy as np
import pikepdf
from PIL import Image

CLOSE = 24  # of 255: how far a channel of a pixel may be off where colours are made fewer
CLOSE_ON_AVERAGE = 0.5  # where they are made fewer than 256
LARGE = 100_000  # bytes: an image that would be larger may be off by `CLOSE_IF_LARGE`
CLOSE_IF_LARGE = 40


def png(content: bytes) -> bytes:
    """The PNG image in fewer bytes: the same pixels in number and place, in at most 256 colours if
    no channel of a pixel is off by more than `CLOSE` (in large images, `CLOSE_IF_LARGE`), in fewer
    if the mean is not off by more than `CLOSE_ON_AVERAGE` either, else in its own colours, packed
    harder.

    Nothing is scattered or blurred, so letters stay as sharp as they are. Transparent images keep
    their colours. Texts in the file are dropped, its resolution is kept.
    """
    image = Image.open(io.BytesIO(content))
    dots = image.info.get("dpi")
    image = image if image.mode in ("RGB", "RGBA") else image.convert("RGBA")
    if image.mode == "RGBA" and image.getextrema()[3] == (255, 255):
        image = image.convert("RGB")
    packed = [content, _packed(image, dots)]
    if image.mode == "RGB":
        few = _few_colours(image, large=len(min(packed, key=len)) > LARGE)
        packed += [_packed(few, dots)] if few else []
    return min(packed, key=len)


def _few_colours(image: Image.Image, large: bool) -> Image.Image | None:
    """The RGB image in 64, 128 or 256 colours, if it looks the same in one of them."""
    for colours in (64, 128, 256):
        few = image.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        worst, mean = _off(few, image)
        if worst <= CLOSE and (mean <= CLOSE_ON_AVERAGE or colours == 256):
            return few
    if large:
        few = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
        return few if _off(few, image)[0] <= CLOSE_IF_LARGE else None
    return None


def _off(few: Image.Image, image: Image.Image) -> tuple[int, float]:
    """How far the channels of pixels are off, at worst and on average, in 0 to 255."""
    off = np.asarray(few.convert("RGB"), dtype=np.int16) - np.asarray(image, dtype=np.int16)
    off = np.abs(off)
    return int(off.max()), float(off.mean())


def _packed(image: Image.Image, dots: tuple[float, float] | None) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, **({"dpi": dots} if dots else {}))
    return file.getvalue()


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
        document.save(
            file,
            object_stream_mode=pikepdf.ObjectStreamMode.generate,
            recompress_flate=True,
            deterministic_id=True,
        )
    return file.getvalue()


def _with_few_colours(image: pikepdf.Stream) -> None:
    """Gives an RGB image (8 bits a channel) of at most 256 colours a table of them."""
    pixels, size = image.read_bytes(), (int(image.Width), int(image.Height))
    if image.get("/BitsPerComponent") != 8 or len(pixels) != 3 * size[0] * size[1]:
        return
    counted = Image.frombytes("RGB", size, pixels).getcolors(256)
    if not counted:
        return
    weights = np.array([1 << 16, 1 << 8, 1])
    table = np.sort(np.array([colour for _, colour in counted]) @ weights)  # 0xRRGGBB
    places = np.searchsorted(table, np.frombuffer(pixels, np.uint8).reshape(-1, 3) @ weights)
    colours = (table[:, None] // weights % 256).astype(np.uint8).tobytes()
    image.ColorSpace = pikepdf.Array(
        [pikepdf.Name.Indexed, image.ColorSpace, len(table) - 1, pikepdf.String(colours)]
    )
    image.write(places.astype(np.uint8).tobytes())  # packed when the document is saved


_CSS_TOKEN = re.compile(
    r"/\*.*?\*/|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|url\([^)\"']*\)|[{};]", re.S
)
_NAME = re.compile(r"[A-Za-z_][\w-]*")
_GROUPING = ("@media", "@supports", "@layer", "@container")


def names_in(texts: Iterable[str]) -> set[str]:
    """All words of pages and scripts that could name a class or an element."""
    return {name for text in texts for name in _NAME.findall(text)}


def css(style: str, names: set[str]) -> str:
    """The style sheet without rules for classes and elements that no page or script names.

    names: as `names_in` gives them. One that ends in a hyphen stands for all that begin with it,
    since a script may put the rest behind it. What is no rule for classes or elements is kept.
    """
    beginnings = tuple(name for name in names if name.endswith("-") and len(name) > 3)

    def used(selector: str) -> bool:
        bare = re.sub(r"\\.|\[[^]]*\]|\"[^\"]*\"|'[^']*'", " ", selector)
        bare = re.sub(r":not\((?:[^()]|\([^()]*\))*\)", " ", bare)
        if re.search(r":(?:is|where|has|host)\b", bare) or "\\" in selector:
            return True
        wanted = re.findall(r"[.#]([A-Za-z_][\w-]*)", bare)
        return all(name in names or name.startswith(beginnings) for name in wanted)

    def kept(text: str) -> Iterator[str]:
        for prelude, body in _rules(text):
            if body is None or (prelude.startswith("@") and not prelude.startswith(_GROUPING)):
                yield prelude + (";" if body is None else f"{{{body}}}")
            elif prelude.startswith("@"):
                if inner := "".join(kept(body)):
                    yield f"{prelude}{{{inner}}}"
            elif selectors := [s for s in _split(prelude) if used(s)]:
                yield f"{','.join(selectors)}{{{body}}}"

    return "".join(kept(style))


def _rules(text: str) -> Iterator[tuple[str, str | None]]:
    """(what stands before its braces, what stands within) of each rule; None: it has no braces."""
    depth, start, prelude = 0, 0, ""
    for token in _CSS_TOKEN.finditer(text):
        if token[0].startswith("/*") and depth == 0:
            start = token.end() if not text[start : token.start()].strip() else start
        elif token[0] == "{":
            depth += 1
            if depth == 1:
                prelude, start = text[start : token.start()].strip(), token.end()
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                yield prelude, text[start : token.start()]
                start = token.end()
        elif token[0] == ";" and depth == 0:
            yield text[start : token.start()].strip(), None
            start = token.end()


def _split(selectors: str) -> list[str]:
    """The selectors of a list, which commas part where they stand in no brackets."""
    parts, depth = [""], 0
    for letter in selectors:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
