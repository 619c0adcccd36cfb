"""Smaller files that show the same: pictures, style sheets, PDFs."""

import io
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import typst
from fontTools.ttLib import TTFont
from making import drawing
from making import png_bytes as png
from PIL import Image
from pypdf import PdfReader

from bookbinder import compress
from pdf_reading import tags

RNG = np.random.default_rng(0)


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=np.int16)


def test_a_drawing_gets_smaller_and_stays_what_it_is():
    given = png(drawing(), dpi=(200, 200))
    less = compress.png(given)
    assert len(less) < 0.7 * len(given)
    off = np.abs(opened(less) - opened(given))  # of 255
    assert off.max() <= compress.CLOSE and off.mean() < 1
    assert Image.open(io.BytesIO(less)).info["dpi"] == pytest.approx((200, 200), abs=0.1)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "few"])
def test_a_picture_of_too_many_colours_few_colours_or_with_transparency_keeps_them(mode):
    values = RNG.integers(0, 256, size=(40, 40, 4 if mode == "RGBA" else 3), dtype=np.uint8)
    values = values // 128 * 200 if mode == "few" else values
    given = png(Image.fromarray(values))
    less = compress.png(given)
    assert len(less) <= len(given)
    kept = Image.open(io.BytesIO(less)).convert("RGBA" if mode == "RGBA" else "RGB")
    np.testing.assert_array_equal(np.asarray(kept), values)


def test_a_large_picture_of_many_colours_may_be_a_little_farther_off(monkeypatch):
    tiles = RNG.integers(0, 256, size=(40, 50, 3), dtype=np.uint8) // 52 * 52
    noise = RNG.integers(0, 24, size=(200, 250, 3), dtype=np.uint8)
    given = png(Image.fromarray(tiles.repeat(5, 0).repeat(5, 1) + noise))
    monkeypatch.setattr(compress, "CLOSE", 5)
    assert len(given) > compress.LARGE
    less = compress.png(given)
    assert len(less) < 0.5 * len(given)
    assert 5 < np.abs(opened(less) - opened(given)).max() <= compress.CLOSE_IF_LARGE
    monkeypatch.setattr(compress, "LARGE", 1_000_000)
    np.testing.assert_array_equal(opened(compress.png(given)), opened(given))


def images(reader: PdfReader) -> list[np.ndarray]:
    return [np.asarray(i.image.convert("RGB")) for page in reader.pages for i in page.images]


def test_a_pdf_gets_smaller_and_shows_and_says_the_same(tmp_path):
    drawing().convert("RGB").quantize(200).convert("RGB").save(tmp_path / "few.png")
    many = RNG.integers(0, 256, size=(40, 40, 3), dtype=np.uint8)
    Image.fromarray(many).save(tmp_path / "many.png")
    source = "".join(f"= Chapter {k}\nSome text.\n#pagebreak()\n" for k in range(99))
    source += '#image("few.png", alt: "few", width: 5cm)#image("many.png", alt: "many")'
    (tmp_path / "a.typ").write_text('#set document(title: "T")\n' + source)
    given = typst.compile(tmp_path / "a.typ", pdf_standards=["ua-1"])
    less = compress.pdf(given)
    assert len(less) < 0.6 * len(given)
    before, after = PdfReader(io.BytesIO(given)), PdfReader(io.BytesIO(less), strict=True)
    assert [p.extract_text() for p in before.pages] == [p.extract_text() for p in after.pages]
    assert [e.title for e in before.outline] == [e.title for e in after.outline]
    assert before.metadata == after.metadata
    assert len(images(after)) == 2
    for here, there in zip(images(after), images(before), strict=True):
        np.testing.assert_array_equal(here, there)
    spaces = [i.indirect_reference.get_object()["/ColorSpace"] for i in after.pages[-1].images]
    assert [space[0] for space in spaces].count("/Indexed") == 1
    assert tags(after) == tags(before)


def test_a_style_sheet_keeps_the_rules_that_pages_or_scripts_can_use(tmp_path):
    rules = {
        **{"body{margin:0}": True, ".used{a:b}": True, ".unused{a:b}": False},
        **{".by-script{a:b}": True, ".of-anything{a:b}": True, "p .used .unused{a:b}": False},
        **{"p:not(.unused)>a{a:b}": True, '[x=".unused"]{a:b}': True, "/*! MIT */": True},
        **{"/* long */": False, "@font-face{src:url(a.woff)}": True},
    }
    style = "".join(rules) + ".used,.unused{c:d}@media print{.unused{a:b}.used{e:f}}"
    kept = [rule for rule, stays in rules.items() if stays]
    kept = "".join(kept) + ".used{c:d}@media print{.used{e:f}}"
    (tmp_path / "a.html").write_text('<p class="used">')
    (tmp_path / "a.js").write_text("add('by-script', `of-${kind}`)")
    (tmp_path / "a.css").write_text(style)
    compress.styles(tmp_path)
    assert (tmp_path / "a.css").read_text() == kept
    compress.styles(tmp_path)
    assert (tmp_path / "a.css").read_text() == kept


def test_scripts_that_pages_share_are_files(tmp_path):
    tag = '<script id="a" type="application/javascript">{}</script>'
    shared, own = "let x = 1;" * 300, "let y = 1;" * 300
    others = f'<script type="application/json">{shared}</script><script>short()</script>'
    for name, more in (("a.html", tag.format(own)), ("r/b.html", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"<p>{tag.format(shared)}{more}{others}</p>")
    (tmp_path / "lib").mkdir()
    compress.scripts(tmp_path, "lib")
    (file,) = (tmp_path / "lib").iterdir()
    assert file.read_text() == shared
    moved = f'<script id="a" type="application/javascript" src="{{}}lib/{file.name}"></script>'
    assert (
        tmp_path / "a.html"
    ).read_text() == f"<p>{moved.format('')}{tag.format(own)}{others}</p>"
    assert (tmp_path / "r/b.html").read_text() == f"<p>{moved.format('../')}{others}</p>"


def test_a_font_of_icons_keeps_those_that_a_rule_shows(tmp_path):
    with TTFont(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")) as font:
        font.flavor = "woff"
        font.save(tmp_path / "some-icons.woff")
    (tmp_path / "a.html").write_text('<p class="used">')
    rules = '.used::before{content:"\\2192"}.unused::before{content:"\\2190"}'
    (tmp_path / "a.css").write_text(rules)
    compress.styles(tmp_path)
    with TTFont(tmp_path / "some-icons.woff") as font:
        assert 0x2192 in font.getBestCmap() and 0x2190 not in font.getBestCmap()


def test_large_images_have_fewer_colours_in_print(monkeypatch):
    given = png(Image.fromarray(RNG.integers(0, 255, (60, 60, 3), dtype=np.uint8)))
    assert len(np.unique(opened(compress.png(given, printed=True)).reshape(-1, 3), axis=0)) > 48
    monkeypatch.setattr(compress, "LARGE_IN_PRINT", 1_000)
    less = compress.png(given, printed=True)
    assert len(np.unique(opened(less).reshape(-1, 3), axis=0)) <= 48 and len(less) < len(given)
    np.testing.assert_array_equal(opened(compress.png(given)), opened(given))
