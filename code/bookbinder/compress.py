"""Fewer bytes for the same pages: PNG images, PDFs as Typst writes them, style sheets."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

CLOSE = 24  # of 255: how far a channel of a pixel may be off where colours are made fewer
CLOSE_ON_AVERAGE = 0.5  # where they are made fewer than 256
LARGE = 100_000  # bytes: an image that would be larger may be off by `CLOSE_IF_LARGE`
CLOSE_IF_LARGE = 40
_GROUP = 200  # objects of a PDF that are packed together
_OBJECT = re.compile(rb"(\d+) 0 obj\s+(.*?)\s+endobj\s*", re.S)
_TABLE = re.compile(
    rb"xref\s+0 (\d+)\s+((?:\d{10} \d{5} [nf]\s+)+)trailer\s*<<(.*)>>\s*"
    rb"startxref\s+\d+\s+%%EOF\s*$",
    re.S,
)
_STREAM = re.compile(rb"(<<.*?>>)\s*stream\n(.*)\nendstream", re.S)


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
    """A PDF of Typst's in fewer bytes, with the same pages, tags and pixels.

    Images of at most 256 colours get a table of them, and objects are packed together (ISO 32000-1,
    7.5.7 and 7.5.8). The content is returned as it is if it is not written as Typst writes it: one
    classic table of objects at its end.
    """
    offsets, trailer = _table(content)
    objects = dict(_objects(content, offsets))
    if not objects or len(objects) != len(offsets):
        return content
    parts = [content[: content.index(b"\n") + 1], b"%\xe2\xe3\xcf\xd3\n"]
    length = sum(map(len, parts))
    entries: dict[int, tuple[int, int, int]] = {0: (0, 0, 65535)}  # how an object is found
    number = max(objects)

    def write(which: int, body: bytes) -> None:
        nonlocal length
        entries[which] = (1, length, 0)
        parts.append(b"%d 0 obj\n%b\nendobj\n" % (which, body))
        length += len(parts[-1])

    loose = []
    for which, body in objects.items():
        if _STREAM.fullmatch(body):
            write(which, _with_few_colours(body))
        else:
            loose.append(which)
    for first in range(0, len(loose), _GROUP):
        group = loose[first : first + _GROUP]
        number += 1
        index, bodies = b"", b""
        for place, which in enumerate(group):
            entries[which] = (2, number, place)
            index += b"%d %d " % (which, len(bodies))
            bodies += objects[which] + b"\n"
        keys = b"/Type/ObjStm/N %d/First %d" % (len(group), len(index))
        write(number, _stream(keys, index + bodies))
    number += 1
    entries[number] = (1, length, 0)
    table = b"".join(struct.pack(">BIH", *entries[i]) for i in range(number + 1))
    keys = re.sub(rb"/Size \d+", b"/Size %d" % (number + 1), trailer)
    start = length
    write(number, _stream(b"/Type/XRef/W[1 4 2]" + keys, table))
    return b"".join([*parts, b"startxref\n%d\n%%%%EOF\n" % start])


def _table(content: bytes) -> tuple[list[int], bytes]:
    """Where the objects start, and what the trailer's dictionary holds; nothing if it is unlike
    Typst's: no gaps, no generations, no earlier table."""
    found = _TABLE.search(content[content.rfind(b"\nxref") :])
    if not found or b"/Prev" in found[3] or b"/Encrypt" in found[3]:
        return [], b""
    entries = found[2].split()
    used = [int(at) for at, kind in zip(entries[::3], entries[2::3], strict=True) if kind == b"n"]
    return (used, found[3]) if len(used) == int(found[1]) - 1 else ([], b"")


def _objects(content: bytes, offsets: list[int]) -> Iterator[tuple[int, bytes]]:
    end = content.rfind(b"\nxref") + 1
    starts = sorted(offsets) or [end]
    for start, stop in zip(starts, [*starts, end][1:], strict=True):
        if found := _OBJECT.fullmatch(content[start:stop]):
            yield int(found[1]), found[2]


def _stream(keys: bytes, data: bytes) -> bytes:
    """The body of an object that is a stream: `keys` of its dictionary, and its data, packed."""
    packed = zlib.compress(data, 9)
    length = b"/Filter/FlateDecode/Length %d" % len(packed)
    return b"<<" + keys + length + b">>\nstream\n" + packed + b"\nendstream"


def _with_few_colours(body: bytes) -> bytes:
    """An image of at most 256 colours with a table of them; any other stream as it is."""
    keys, data = _STREAM.fullmatch(body).groups()
    space = re.search(rb"/ColorSpace\s*(\d+ 0 R|/DeviceRGB)", keys)
    plain = all(re.search(key, keys) for key in (rb"/Subtype\s*/Image", rb"/BitsPerComponent 8\b"))
    if not (plain and space and b"/FlateDecode" in keys and b"/DecodeParms" not in keys):
        return body
    width, height = (
        int(re.search(rb"/%b (\d+)" % name, keys)[1]) for name in (b"Width", b"Height")
    )
    pixels = zlib.decompress(data)
    if len(pixels) != 3 * width * height:
        return body
    counted = Image.frombytes("RGB", (width, height), pixels).getcolors(256)
    if not counted:
        return body
    colours = np.array([colour for _, colour in sorted(counted, reverse=True)])
    weights = np.array([1 << 16, 1 << 8, 1])
    names = np.frombuffer(pixels, np.uint8).reshape(-1, 3) @ weights
    order = np.argsort(colours @ weights)
    places = order[np.searchsorted((colours @ weights)[order], names)].astype(np.uint8)
    table = b"[/Indexed %b %d<%b>]" % (
        space[1],
        len(colours) - 1,
        bytes(colours.astype(np.uint8)).hex().encode(),
    )
    keys = keys.replace(space[0], b"/ColorSpace" + table)
    keys = re.sub(rb"/(?:Filter\s*(?:/FlateDecode|\[/FlateDecode\])|Length \d+)", b"", keys)
    return _stream(keys[2:-2], places.tobytes())


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
