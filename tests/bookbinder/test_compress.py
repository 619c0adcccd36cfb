"""Smaller files that show the same: pictures, PDFs, style sheets."""

import io

import numpy as np
import pikepdf
import pytest
import typst
from PIL import Image, ImageDraw
from pypdf import PdfReader

from bookbinder import compress


def png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.int16)


def drawing() -> Image.Image:
    """Letters and lines, smoothed, as matplotlib saves them: opaque, with an alpha channel."""
    image = Image.new("RGBA", (300, 200), "white")
    draw = ImageDraw.Draw(image)
    for k in range(12):
        draw.text((10, 15 * k), "cheater and oracle", fill=(34, 34 + 5 * k, 34))
        draw.line((150, 10, 290, 15 * k), fill=(0, 114, 178), width=2)
    return image.resize((600, 400), Image.Resampling.BICUBIC)


def test_a_drawing_gets_smaller_and_stays_what_it_is():
    given = png(drawing())
    less = compress.png(given)
    assert len(less) < 0.7 * len(given)
    before, after = opened(given), opened(less)
    assert before.shape == after.shape
    assert np.abs(after - before).max() <= compress.CLOSE
    assert np.abs(after - before).mean() < 1  # of 255


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_picture_of_too_many_colours_or_with_transparency_keeps_them(mode):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, size=(40, 40, len(mode)), dtype=np.uint8)
    given = png(Image.fromarray(values))
    less = compress.png(given)
    assert len(less) <= len(given)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(less)).convert(mode)), values)


def test_a_picture_of_few_colours_loses_nothing():
    values = np.zeros((50, 50, 3), dtype=np.uint8)
    values[::2, :, 0], values[:, ::3, 1] = 200, 17
    less = compress.png(png(Image.fromarray(values)))
    np.testing.assert_array_equal(opened(less), values)


def test_a_large_picture_of_many_colours_may_be_a_little_farther_off(monkeypatch):
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, size=(40, 50, 3), dtype=np.uint8) // 52 * 52
    noisy = tiles.repeat(5, 0).repeat(5, 1) + rng.integers(
        0, 24, size=(200, 250, 3), dtype=np.uint8
    )
    given = png(Image.fromarray(noisy))
    monkeypatch.setattr(compress, "CLOSE", 5)
    assert len(given) > compress.LARGE
    less = compress.png(given)
    assert len(less) < 0.5 * len(given)
    assert 5 < np.abs(opened(less) - opened(given)).max() <= compress.CLOSE_IF_LARGE
    monkeypatch.setattr(compress, "LARGE", 1_000_000)
    np.testing.assert_array_equal(opened(compress.png(given)), opened(given))


def test_a_picture_keeps_its_resolution():
    file = io.BytesIO()
    drawing().save(file, "PNG", dpi=(200, 200))
    less = Image.open(io.BytesIO(compress.png(file.getvalue())))
    assert less.info["dpi"] == pytest.approx((200, 200), abs=0.1)


# --- PDF -----------------------------------------------------------------------------------------


@pytest.fixture
def typeset(tmp_path):
    """The PDF that Typst makes of a source, with a drawing of few colours and one of many."""
    few = drawing().convert("RGB").quantize(200).convert("RGB")
    few.save(tmp_path / "few.png")
    many = np.random.default_rng(0).integers(0, 256, size=(40, 40, 3), dtype=np.uint8)
    Image.fromarray(many).save(tmp_path / "many.png")
    source = "".join(f"= Chapter {k}\nSome text.\n#pagebreak()\n" for k in range(300))
    source += '#image("few.png", alt: "few", width: 5cm)#image("many.png", alt: "many")'
    (tmp_path / "a.typ").write_text('#set document(title: "T")\n' + source)
    return typst.compile(tmp_path / "a.typ", pdf_standards=["ua-1"])


def images(reader: PdfReader) -> list[np.ndarray]:
    return [np.asarray(i.image.convert("RGB")) for page in reader.pages for i in page.images]


def test_a_pdf_gets_smaller_and_shows_and_says_the_same(typeset):
    less = compress.pdf(typeset)
    assert len(less) < 0.6 * len(typeset)
    before, after = PdfReader(io.BytesIO(typeset)), PdfReader(io.BytesIO(less), strict=True)
    assert [p.extract_text() for p in before.pages] == [p.extract_text() for p in after.pages]
    assert [e.title for e in before.outline] == [e.title for e in after.outline]
    assert before.metadata == after.metadata and before.xmp_metadata.dc_title == {"x-default": "T"}
    pictures = images(after)
    assert len(pictures) == 2
    for here, there in zip(pictures, images(before), strict=True):
        np.testing.assert_array_equal(here, there)
    spaces = [i.indirect_reference.get_object()["/ColorSpace"] for i in after.pages[-1].images]
    assert [space[0] for space in spaces].count("/Indexed") == 1
    tree = after.trailer["/Root"]["/StructTreeRoot"]
    assert tree.keys() == before.trailer["/Root"]["/StructTreeRoot"].keys()


def test_what_is_small_already_stays_so_and_what_is_no_pdf_is_refused(typeset):
    less = compress.pdf(typeset)
    assert compress.pdf(less) == less
    for content in (b"", b"%PDF-1.7"):
        with pytest.raises(pikepdf.PdfError):
            compress.pdf(content)


# --- style sheets --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("style", "less"),
    [
        (".a{x:y}.b{x:y}", ".a{x:y}"),
        (".b,p>.a:hover,#b .a,h1{x:y}", "p>.a:hover,h1{x:y}"),
        (".made-7{x:y}.made{x:y}", ".made-7{x:y}"),
        ("@media print{.b{x:y}}@media print{.b{x:y}.a{x:y}}", "@media print{.a{x:y}}"),
        ("@font-face{src:url(b.woff)}@keyframes b{0%{x:y}}", None),
        ('@charset "UTF-8";:root{--b: 1}[data-b]{x:y}*{x:y}', None),
        ('.a{x:url("data:,{}.b{}")}.a[b="}"]{x:y}', None),
        (".a:not(.b){x:y}.a:is(.b,h1){x:y}.a\\:b{x:y}", None),
        ("/*! a licence {} */.b{x:y}.a{x:y}", ".a{x:y}"),
        (".b{x:y}.a{x:y/* } */}", ".a{x:y/* } */}"),
        ("@supports (x:y){@media print{.b{x:y}}}", ""),
    ],
)
def test_rules_for_what_no_page_has_are_dropped(style, less):
    names = compress.names_in(['<h1 class="a">', 'add("made-" + 7)'])
    assert compress.css(style, names) == (style if less is None else less)
