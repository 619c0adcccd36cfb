"""Widgets: what is exported, and how a chapter places one."""

import base64
import json

import numpy as np
import pypandoc
import torch
from bs4 import BeautifulSoup

from bookbinder.reader import widget_tags
from lazy_artist import widgets


def test_exported_arrays_keep_type_and_shape(tmp_path):
    grey, values = np.arange(6, dtype=np.uint8).reshape(2, 3), torch.tensor([[0.5], [-2.0]])
    file = widgets.export("some", {"a": [grey, "</b>"], "b": values.double()}, tmp_path / "deep")
    assert file == tmp_path / "deep" / "some.js"
    text = file.read_text()
    start = "(globalThis.EXPORTED ??= {})['some'] ??= "
    assert text.startswith(start) and "<" not in text
    data = json.loads(text.removeprefix(start).rstrip(";\n"))
    (first, word), second = data["a"], data["b"]
    assert (word, first["type"], first["shape"]) == ("</b>", "uint8", [2, 3])
    assert base64.b64decode(first["base64"]) == bytes(range(6))
    assert (second["type"], second["shape"]) == ("float32", [2, 1])
    assert base64.b64decode(second["base64"]) == np.array([0.5, -2], "<f4").tobytes()


def test_a_placed_widget_names_its_scripts_and_the_page_loads_each_once():
    still = {"page": "report/x.html", "still": "![](x.png){alt='a still'}"}
    placed = [
        widgets.place(kind, "Turn it.", "And see.", needs=needs, **still)
        for kind, needs in (("turn", ["networks"]), ("steer", ["networks", "latents"]))
    ]
    html = pypandoc.convert_text("\n\n".join(placed), "html", "markdown")
    page = BeautifulSoup(html, "html.parser")
    assert [one["data-kind"] for one in page.select(".widget")] == ["turn", "steer"]
    told = page.select_one(".widget > p").get_text()
    assert told == "Turn it. And see."
    assert page.select(".widget > .widget-still img[alt='a still']")
    assert "report/x.html" in page.select_one(".widget-still").get_text()
    style, *scripts = widget_tags("../", html)
    assert style == '<link rel="stylesheet" href="../widgets/widgets.css">'
    names = ("network", "widgets", "networks", "turn", "latents", "steer")
    assert scripts == [f'<script src="../widgets/{name}.js" defer></script>' for name in names]
    assert widget_tags("", "<p>none</p>") == []


def test_the_scripts_of_all_widgets_are_written(tmp_path):
    widgets.write(tmp_path / "w")
    names = {file.name for file in (tmp_path / "w").iterdir()}
    assert {"network.js", "widgets.js", "widgets.css", "wheel.js"} <= names
    assert not any(name.endswith(".html") for name in names)
