"""Widgets: what a page can do that paper cannot. They run in the page, without network or server.

A widget is a script of `assets/` that says `Widgets.define(kind, build)`, and data that a chapter's
cell exports. `place` gives the Markdown of a widget in a chapter: a title, a line, and what stands
there where scripts are off, in print and in notebooks. `after_render.py` copies the folder of
scripts and data into the book, and `reader.dress` gives a page the scripts that its widgets need.
"""

from __future__ import annotations

import base64
import colorsys
import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lazy_artist.canvas import COLOUR_NAMES, PALETTE
from lazy_artist.data import cache_dir, write_whole
from lazy_artist.models import CNN

ASSETS = Path(__file__).with_name("assets")
_HUES = [colorsys.rgb_to_hsv(*rgb) for rgb in PALETTE]
WHEEL = sorted(range(len(PALETTE)), key=lambda k: (_HUES[k][1] < 0.1, _HUES[k][0]))
"""The palette's colours in the order of a hue wheel; white, which has no hue, closes it."""


def folder() -> Path:
    """Where chapters put what widgets need, for `after_render.py` to copy into the book."""
    return cache_dir() / "pages" / "widgets"


def write(path: Path) -> None:
    """Copies the scripts and style sheets of all widgets into the folder `path`."""
    path.mkdir(parents=True, exist_ok=True)
    for asset in ASSETS.iterdir():
        if asset.suffix in (".js", ".css"):
            shutil.copy(asset, path)


def export(name: str, data: Any, path: Path | None = None) -> Path:
    """Writes data as the script `name`.js in the folder `path` (by default `folder`) and returns
    the file: in a page it is `Widgets.data(name)`.

    data: what JSON can hold, and arrays or tensors in it: bytes as they are, all else as float32.
    """
    file = (path or folder()) / f"{name}.js"
    write_whole(file, f"(globalThis.EXPORTED ??= {{}})[{name!r}] ??= {encode(data)};\n".encode())
    return file


def encode(data: Any) -> str:
    """The data, as of `export`, as an expression that a page's script can hold."""
    return json.dumps(_plain(data), separators=(",", ":")).replace("<", "\\u003c")


def place(
    kind: str, title: str, text: str, *, page: str, still: str, needs: Sequence[str] = ("networks",)
) -> str:
    """The Markdown of a widget, to be shown by a cell of the chapter whose page is `page`.

    kind: as the script `kind`.js defines it; title, text: Markdown, what it is and what to do;
    page: such as "report/cloak.html"; still: Markdown of what stands in its place where it cannot
    run, such as "@fig-heat" or an image with its `fig-alt`; needs: what `export` has written.
    """
    scripts = " ".join(["network", "widgets", *needs, kind])
    return f"""::: {{.widget data-kind="{kind}" data-needs="{scripts}"}}

**{title}** {text}

::: {{.widget-still}}

*Here it stands still; it runs where scripts do, on the page `{page}`.* {still}

:::

:::"""


def network_data(
    networks: Mapping[str, CNN], heat: Mapping[str, float], examples: np.ndarray,
    background: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    """What `networks.js` holds, for `export`: the palette and the order of its wheel, networks by
    name with the heat that their maps are drawn relative to, examples uint8 (10, 28, 28), a grey
    picture of every digit, and the background float32 (3, 28, 28) that all is painted on."""
    rgb = np.float32(PALETTE).tolist()
    return {
        "colours": [{"name": n, "rgb": c} for n, c in zip(COLOUR_NAMES, rgb, strict=True)],
        "wheel": WHEEL,
        "background": background,
        "networks": [
            {"name": name, "heat": heat[name]} | _folded(model) for name, model in networks.items()
        ],
        "examples": list(examples),
    }


def _folded(model: CNN) -> dict[str, Any]:
    """The weights of a network as `Network.forward` takes them: convolutions (K, C, k, k) and
    biases (K,), the normalisation that follows folded in, in double precision; the last layer."""
    layers, exact = [], copy.deepcopy(model).double()
    for convolution, norm, *_ in (exact.block1, exact.block2, exact.block3):
        layer = fuse_conv_bn_eval(convolution, norm)
        folded = {"weight": layer.weight, "bias": layer.bias, "stride": layer.stride[0]}
        layers.append(folded)
    return {"layers": layers, "head": {"weight": model.head.weight, "bias": model.head.bias}}


def _plain(data: Any) -> Any:
    """The data with every array as what `Network.decode` turns into a typed array."""
    if isinstance(data, torch.Tensor):
        data = data.detach().cpu().numpy()
    if isinstance(data, np.ndarray):
        data = data if data.dtype == np.uint8 else data.astype("<f4")
        text = base64.b64encode(np.ascontiguousarray(data).tobytes()).decode()
        return {"type": data.dtype.name, "shape": data.shape, "base64": text}
    if isinstance(data, Mapping):
        return {key: _plain(value) for key, value in data.items()}
    return [_plain(v) for v in data] if isinstance(data, (list, tuple)) else data
