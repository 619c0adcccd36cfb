"""The atlas page: what stands in the file, with and without scripts."""

import base64
import io
import json
import re
import zlib

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from lazy_artist import atlas

RED, BLUE = np.zeros((2, 3, 28, 28), np.uint8)
RED[0], BLUE[2] = 250, 250


def card(path: str = "net/block1/0", **changes) -> atlas.Card:
    usual = atlas.Card(
        path=path, title="net block1 0", subtitle="colour: red <all>",
        facets={"label": ("colour",), "answers to": ("red", "blue")},
        measures={"eta": 0.12345, "things": 2.0},
        pictures=[("excites", RED), ("suppresses", BLUE)], examples=[("red 0", RED.copy())],
        grid=np.array([[0, 1, 2], [3, 3.5, 7]]), histogram=np.array([0, 99, 0]),
        most=2.0, mark=3.0,
    )  # fmt: skip
    return usual._replace(**changes)


def written(tmp_path, cards) -> tuple[str, BeautifulSoup, dict]:
    """The page, parsed, and its data."""
    path = tmp_path / "pages" / "atlas.html"
    composed = atlas.compose(cards, "images", rows="01", columns=["red", "green", "blue"])
    about = {"title": "A & B", "intro": "<p>Intro.</p>", "back": ("report/x.html", "Back")}
    assert atlas.write(path, composed, **about) == len(cards)
    page = path.read_text(encoding="utf-8")
    soup = BeautifulSoup(page, "html.parser")
    return page, soup, json.loads(zlib.decompress(base64.b64decode(soup.find(id="data").string)))


def test_the_page_holds_every_card_as_data_and_as_a_table(tmp_path):
    cards = [card(), card("net/block1/1", mark=1.0, subtitle="</script><b>")]
    page, soup, data = written(tmp_path, cards)
    assert data["histogramTitle"] == "images"
    assert (data["facets"], data["measures"]) == (["label", "answers to"], ["eta", "things"])
    assert data["levels"] == [["colour"], ["blue", "red"]]
    first, second = data["cards"]
    assert first == {
        "path": "net/block1/0", "title": "net block1 0", "subtitle": "colour: red <all>",
        "facets": [["colour"], ["red", "blue"]], "measures": [0.123, 2],
        "pictures": [[0, "excites"], [1, "suppresses"]], "examples": [[0, "red 0"]],
        "grid": "05afiz", "strongest": "1, blue", "histogram": "0z0", "mark": 1.5,
    }  # fmt: skip
    assert second["subtitle"] == "</script><b>" and second["mark"] == 0.5
    assert not re.search(r"(src|href)=.?(https?:)?//|@import|url\((?!data:)|\{\{", page)
    rows = soup.find("noscript").find("tbody").find_all("tr")
    assert [row["id"] for row in rows] == ["net/block1/0", "net/block1/1"]
    texts = [cell.get_text() for cell in rows[0].find_all("td")]
    assert texts == ["net block1 0", "", "colour: red <all>", "0.123", "2"]
    assert "background-position:-2px -2px" in rows[0].find("span")["style"]
    assert soup.title.string == "A & B" and soup.find("a")["href"] == "report/x.html"

    # equal pictures share a tile of the sheet, in their own colours
    code = re.search(r"data:image/avif;base64,([^)]*)\)", page)[1]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))).astype(int)
    assert sheet.shape == (32, 64 * 32, 3)
    for tile, colour in ((sheet[2:30, 2:30], RED), (sheet[2:30, 34:62], BLUE)):
        assert np.abs(tile - colour.transpose(1, 2, 0)).max() < 12


def test_bad_cards_are_named(tmp_path):
    for cards, message in (
        ([], "at least one card"),
        ([card("a b")], "'a b': a path is of letters"),
        ([card(), card()], "'net/block1/0': occurs twice"),
        ([card(), card("b", measures={"eta": 1.0})], "'b': other measures than"),
        ([card(), card("b", facets={"label": ()})], "'b': other facets than"),
        ([card(measures={"eta": float("nan")})], "measures must be finite"),
        ([card(grid=np.ones((3, 2)))], r"grid must be \(2, 3\)"),
        ([card(examples=[("x", np.ones((3, 28, 28)))])], "pictures must be uint8"),
        ([card(pictures=[])], "no picture"),
    ):
        with pytest.raises(ValueError, match=message):
            written(tmp_path, cards)
    assert not (tmp_path / "pages").exists()
