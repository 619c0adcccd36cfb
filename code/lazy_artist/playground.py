"""The playground: a page on which one draws, chooses an ink, and sees what networks say.

`write` puts all of it into a single HTML file: the weights of the networks, some digits to begin
with, and a script that paints as `canvas.paint` does, runs the networks and draws their Grad-CAM.
The page loads nothing else, works from a file, and without scripts shows the answers in a table.

The script knows one architecture, `models.CNN`. Its batch normalisation is folded into the
convolutions here, in double precision; weights travel as float32 in base64.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from lazy_artist.evaluate import predict
from lazy_artist.gradcam import grad_cam
from lazy_artist.models import CNN

TEMPLATE = Path(__file__).with_name("assets") / "playground.html"
LAYER = "block3"  # whose Grad-CAM the page draws
SIDE = 28
_PATH = re.compile(r"[a-z0-9-]+")

Inks = Sequence[tuple[str, np.ndarray]]


class Cloak(NamedTuple):
    """A change of a painted picture, which the page's dial lays on in part or in full.

    title: plain text, such as "made for the cheater"; delta: float32 (3, 28, 28).
    """

    title: str
    delta: np.ndarray


class Preset(NamedTuple):
    """A digit to begin with.

    path: its permalink, such as "red-1"; title: plain text; grey: uint8 (28, 28); label: its class;
    ink: the number of the ink that it comes in; cloaks: changes of the digit painted in that ink.
    """

    path: str
    title: str
    grey: np.ndarray
    label: int
    ink: int
    cloaks: Sequence[Cloak] = ()


def write(
    path: Path,
    networks: Mapping[str, nn.Module],
    presets: Sequence[Preset],
    examples: np.ndarray,
    ground: np.ndarray,
    inks: Inks,
    *,
    title: str,
    intro: str,
    back: tuple[str, str],
    classes: Sequence[str],
    noun: str = "digit",
) -> None:
    """Write the page to `path`.

    networks: by the name they go by in a sentence ("cheater"), each a `models.CNN`; presets: the
    first is shown at the start; examples: uint8 (C, 28, 28), a grey picture of every class; ground:
    float32 (3, 28, 28) in [0, 1], on which all is painted; inks: names and RGB (3,) in [0, 1], the
    ink `c` being the one that goes with class `c`; intro: HTML, some paragraphs on what to try;
    back: address and text of a link to where the page belongs; classes: their names; noun: what
    a picture shows, in one word. Titles and names are plain text.

    Raises ValueError for no networks or presets, networks of another architecture or with weights
    that are not finite, a path that is no permalink or occurs twice, unknown inks, as many inks or
    examples as there are no classes, and pictures, grounds or changes of another type, shape or
    range.
    """
    _check(networks, presets, examples, ground, inks, classes)
    data = {
        "classes": list(classes),
        "noun": noun,
        "inks": [
            {"name": name, "rgb": [float(value) for value in np.float32(rgb)]} for name, rgb in inks
        ],
        "ground": _base64(ground),
        "networks": [
            _network(name, model, _all_inks(examples, ground, inks))
            for name, model in networks.items()
        ],
        "examples": [_base64(grey) for grey in examples],
        "presets": [
            {
                "path": preset.path,
                "title": preset.title,
                "grey": _base64(preset.grey),
                "label": preset.label,
                "ink": preset.ink,
                "cloaks": [
                    {
                        "title": cloak.title,
                        "delta": _base64(cloak.delta),
                        "size": float(np.abs(cloak.delta).max()),
                    }
                    for cloak in preset.cloaks
                ],
            }
            for preset in presets
        ],
    }
    parts = {
        "title": html.escape(title),
        "intro": intro,
        "back": html.escape(back[0]),
        "back_text": html.escape(back[1]),
        "noun": html.escape(noun),
        "table": _table(networks, presets, ground, inks, classes),
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], TEMPLATE.read_text("utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def painted(grey: np.ndarray, rgb: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """One grey digit uint8 (28, 28) as the page paints it: float32 (3, 28, 28) in [0, 1].

    As `canvas.paint` does, `a * ink + (1 - a) * ground`, but for the jitter of the ink, which is
    left out, and the ground, which is always the same: rgb (3,), ground float32 (3, 28, 28).
    """
    alpha = grey.astype(np.float32) / 255
    return ground + alpha * (np.float32(rgb)[:, None, None] - ground)


class Scene(NamedTuple):
    """A preset as it is first seen, or under one of its cloaks in full: its title and picture
    float32 (3, 28, 28)."""

    title: str
    image: np.ndarray


def scenes(presets: Sequence[Preset], ground: np.ndarray, inks: Inks) -> list[Scene]:
    """Each preset, followed by what its cloaks make of it."""
    found = []
    for preset in presets:
        image = painted(preset.grey, inks[preset.ink][1], ground)
        found.append(Scene(preset.title + ", dial at 0" * bool(preset.cloaks), image))
        for cloak in preset.cloaks:
            title = f"{preset.title}, dial at 1: {cloak.title}"
            found.append(Scene(title, np.clip(image + cloak.delta, 0, 1)))
    return found


def answers(model: nn.Module, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class that the model names for each image, int64 (N,), and its probability, (N,)."""
    probability = torch.from_numpy(predict(model, images)).double().softmax(1).numpy()
    return probability.argmax(1), probability.max(1)


def in_words(model: nn.Module, images: np.ndarray, classes: Sequence[str]) -> list[str]:
    """What the model says of each image, such as "1, 80% sure", as the page writes it."""
    return [
        f"{classes[said]}, {'> 99%' if 0.995 < sure < 1 else f'{sure:.0%}'} sure"
        for said, sure in zip(*answers(model, images), strict=True)
    ]


def folded(model: CNN) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights float32 (K, C, k, k) and biases (K,) of the three convolutions, each with the
    normalisation that follows it in it: w * g / sqrt(v + e) and b - m * g / sqrt(v + e), where g
    and b are its scale and shift, m and v its running mean and variance."""
    layers = []
    for block in (model.block1, model.block2, model.block3):
        convolution, norm = block[0], block[1]
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = convolution.weight.double() * scale[:, None, None, None]
        bias = norm.bias.double() - norm.running_mean.double() * scale
        layers.append((weight.detach().float().numpy(), bias.detach().float().numpy()))
    return layers


def _network(name: str, model: CNN, images: np.ndarray) -> dict[str, Any]:
    """All that the script needs to run a network. "heat": the largest heat on `images`, for the
    class that it names: what its heat maps are drawn relative to."""
    heat = grad_cam(model, LAYER, images, predict(model, images).argmax(1))
    strides = [block[0].stride[0] for block in (model.block1, model.block2, model.block3)]
    layers = [
        {"weight": _base64(weight), "bias": _base64(bias), "shape": weight.shape, "stride": stride}
        for (weight, bias), stride in zip(folded(model), strides, strict=True)
    ]
    head = {"weight": _base64(model.head.weight), "bias": _base64(model.head.bias)}
    return {"name": name, "layers": layers, "head": head, "heat": float(heat.max()) or 1.0}


def _all_inks(examples: np.ndarray, ground: np.ndarray, inks: Inks) -> np.ndarray:
    return np.stack([painted(grey, rgb, ground) for grey in examples for _, rgb in inks])


def _base64(values: np.ndarray | torch.Tensor) -> str:
    """Bytes of grey values as they are, all else as little-endian float32."""
    values = values.detach().numpy() if isinstance(values, torch.Tensor) else values
    values = values if values.dtype == np.uint8 else values.astype("<f4")
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _table(
    networks: Mapping[str, nn.Module],
    presets: Sequence[Preset],
    ground: np.ndarray,
    inks: Inks,
    classes: Sequence[str],
) -> str:
    """What the networks say of all scenes, as a static table."""
    shown = scenes(presets, ground, inks)
    images = np.stack([scene.image for scene in shown])
    said = [in_words(model, images, classes) for model in networks.values()]
    heads = ["picture", "", *(f"the {name} says" for name in networks)]
    lines = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in heads)
    lines = [f"<table><thead><tr>{lines}</tr></thead><tbody>"]
    for k, scene in enumerate(shown):
        title = html.escape(scene.title)
        source = f'src="{_png(scene.image)}" alt="{title}, as the networks see it"'
        cells = [title, f'<img {source} width="56" height="56">']
        cells += [html.escape(words[k]) for words in said]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _png(image: np.ndarray) -> str:
    file = io.BytesIO()
    pixels = np.round(255 * image).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _check(
    networks: Mapping[str, nn.Module],
    presets: Sequence[Preset],
    examples: np.ndarray,
    ground: np.ndarray,
    inks: Inks,
    classes: Sequence[str],
) -> None:
    if not networks:
        raise ValueError("a playground needs at least one network")
    for name, model in networks.items():
        if not isinstance(model, CNN):
            raise ValueError(f"network {name!r} must be a models.CNN, not {type(model).__name__}")
        if not all(torch.isfinite(values).all() for values in model.state_dict().values()):
            raise ValueError(f"network {name!r} has weights that are not finite")
        if model.head.out_features != len(classes):
            raise ValueError(
                f"network {name!r} tells {model.head.out_features} classes apart, but there are "
                f"{len(classes)} names"
            )
    if len(inks) != len(classes):
        raise ValueError(
            f"there are {len(inks)} inks for {len(classes)} classes: one goes with each"
        )
    for name, rgb in inks:
        if np.shape(rgb) != (3,) or not (np.min(rgb) >= 0 and np.max(rgb) <= 1):
            raise ValueError(f"ink {name!r} must be three numbers in [0, 1], not {rgb}")
    _check_array("examples", examples, np.uint8, (len(classes), SIDE, SIDE))
    _check_array("the ground", ground, np.float32, (3, SIDE, SIDE))
    if not (ground.min() >= 0 and ground.max() <= 1):
        raise ValueError("the ground must lie in [0, 1]")
    if not presets:
        raise ValueError("a playground needs at least one preset")
    seen = set()
    for preset in presets:
        where = f"preset {preset.path!r}"
        if not _PATH.fullmatch(preset.path):
            raise ValueError(f"{where}: a path is of small letters, digits and hyphens")
        if preset.path in seen:
            raise ValueError(f"{where} occurs twice")
        seen.add(preset.path)
        for name, number in (("ink", preset.ink), ("class", preset.label)):
            if not 0 <= number < len(classes):
                raise ValueError(
                    f"{where}: there is no {name} {number}, only 0 to {len(classes) - 1}"
                )
        _check_array(f"{where}: its picture", preset.grey, np.uint8, (SIDE, SIDE))
        for cloak in preset.cloaks:
            name = f"{where}: the cloak {cloak.title!r}"
            _check_array(name, cloak.delta, np.float32, (3, SIDE, SIDE))
            if not np.isfinite(cloak.delta).all():
                raise ValueError(f"{name} must be finite")


def _check_array(name: str, values: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    if values.dtype != dtype or values.shape != shape:
        raise ValueError(
            f"{name} must be {np.dtype(dtype)} {shape}, not {values.dtype} {values.shape}"
        )
