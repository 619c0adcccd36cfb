"""Fewer bytes for the same pages: PNG images, and PDFs as Typst writes them."""

import io
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pikepdf
from PIL import Image

CLOSE = 24  # of 255: how far a channel of a pixel may be off where colours are made fewer
CLOSE_ON_AVERAGE = 0.5  # where they are made fewer than 256
LARGE = 100_000  # bytes: an image that would be larger may be off by `CLOSE_IF_LARGE`
CLOSE_IF_LARGE = 44
_FIGURE = re.compile(r'(_files/[^"<>]+)\.png(?=")')


def images(folder: Path) -> None:
    """Compresses all PNG images below the folder, in place."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda f: f.write_bytes(png(f.read_bytes())), list(folder.rglob("*.png"))))


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


def png(content: bytes) -> bytes:
    """The PNG image in fewer bytes: the same pixels, in at most 256 colours if no channel of them
    is off by more than `CLOSE` (in large images, `CLOSE_IF_LARGE`), in fewer if the mean is not off
    by more than `CLOSE_ON_AVERAGE` either, else, or if transparent, in its own colours. Texts in
    the file are dropped, its resolution is kept.
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
