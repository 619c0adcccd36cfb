"""The playground: a page on which one draws, chooses a colour, and sees what networks predict.

`write` makes the page, and beside it the folder `widgets/` with the scripts and the networks that
this page and the chapters' widgets share (widgets.py). The page loads nothing else, works from a
file, and without scripts shows the answers in a table. It knows one architecture, `models.CNN`.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from lazy_artist import widgets
from lazy_artist.atlas import SIDE, fill
from lazy_artist.canvas import N_CLASSES, PALETTE
from lazy_artist.evaluate import predict
from lazy_artist.gradcam import grad_cam
from lazy_artist.models import CNN

LAYER = "block3"  # whose Grad-CAM the page draws
_PATH = re.compile(r"[a-z0-9-]+")


class Cloak(NamedTuple):
    """A change of a painted picture, float32 (3, 28, 28), which the page lays on at any strength
    from 0 to 1; title: plain text, such as "made for the cheater"."""

    title: str
    delta: np.ndarray


class Preset(NamedTuple):
    """A digit to begin with.

    path: its permalink, such as "red-1"; title: plain text; grey: uint8 (28, 28); label: the digit;
    colour: the number of the colour that it comes in; cloaks: changes of the digit so painted.
    """

    path: str
    title: str
    grey: np.ndarray
    label: int
    colour: int
    cloaks: Sequence[Cloak] = ()


def write(
    path: Path, networks: Mapping[str, nn.Module], presets: Sequence[Preset],
    examples: np.ndarray, background: np.ndarray, *, title: str, intro: str, back: tuple[str, str],
) -> None:  # fmt: skip
    """Write the page to `path`.

    networks: by the name they go by in a sentence ("cheater"), each a `models.CNN`; presets: the
    first is shown at the start; examples: uint8 (10, 28, 28), a grey picture of every digit;
    background: float32 (3, 28, 28) in [0, 1], on which all is painted, in the colours of
    `canvas.PALETTE`; intro: HTML, some paragraphs on what to try; title, back: as of `atlas.fill`.

    Raises ValueError, by name, for what cannot be shown, as `_check` says.
    """
    for wrong, sentence in _check(networks, presets, examples, background):
        if wrong:
            raise ValueError(sentence)
    heat = {name: _largest_heat(model, examples, background) for name, model in networks.items()}
    folder = path.parent / "widgets"
    widgets.write(folder)
    data = widgets.network_data(networks, heat, examples, background)
    widgets.export("networks", data, folder)
    shown = []
    for preset in presets:
        cloaks = [
            {"title": name, "delta": delta, "size": float(np.abs(delta).max())}
            for name, delta in preset.cloaks
        ]
        shown.append(preset._asdict() | {"cloaks": cloaks})
    titles, images = zip(*scenes(presets, background), strict=True)
    told = [describe(*top_class(model, np.stack(images))) for model in networks.values()]
    table = {}
    for scene, image, *texts in zip(map(html.escape, titles), images, *told, strict=True):
        file = io.BytesIO()
        pixels = np.round(255 * image).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
        source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        alt = f"{scene}, as the networks see it"
        tile = f'<img src="{source}" alt="{alt}" width="56" height="56">'
        table[f"scene-{len(table)}"] = [scene, tile, *map(html.escape, texts)]
    fill(
        path, "playground.html", title, back,
        ["picture", "", *(f"the {name} says" for name in networks)], table, intro=intro,
        data=widgets.encode(shown),
    )  # fmt: skip


def paint_digit(grey: np.ndarray, rgb: np.ndarray, background: np.ndarray) -> np.ndarray:
    """One grey digit uint8 (28, 28) as the page paints it: float32 (3, 28, 28) in [0, 1].

    As `canvas.paint` does, `a * colour + (1 - a) * background`, but without the jitter of the
    colour, and always on the same background: rgb (3,), background float32 (3, 28, 28).
    """
    alpha = grey.astype(np.float32) / 255
    return background + alpha * (np.float32(rgb)[:, None, None] - background)


def scenes(presets: Sequence[Preset], background: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Titles and pictures float32 (3, 28, 28): each preset as it is first seen, followed by what
    its cloaks make of it at full strength."""
    shown = []
    for preset in presets:
        image = paint_digit(preset.grey, PALETTE[preset.colour], background)
        shown.append((preset.title + ", strength 0" * bool(preset.cloaks), image))
        for name, delta in preset.cloaks:
            shown.append((f"{preset.title}, strength 1: {name}", np.clip(image + delta, 0, 1)))
    return shown


def top_class(model: nn.Module, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class that the model predicts for each image, int64 (N,), and its probability, (N,)."""
    probability = torch.from_numpy(predict(model, images)).double().softmax(1).numpy()
    return probability.argmax(1), probability.max(1)


def describe(predictions: np.ndarray, confidence: np.ndarray) -> list[str]:
    """Predicted classes and their probabilities as the page writes them: "1, 80% confident"."""
    return [
        f"{label}, {'> 99%' if 0.995 < share < 1 else f'{share:.0%}'} confident"
        for label, share in zip(predictions, confidence, strict=True)
    ]


def _largest_heat(model: CNN, examples: np.ndarray, background: np.ndarray) -> float:
    """The largest heat on all examples in all colours, for the predicted class: what a network's
    heat maps are drawn relative to."""
    images = np.stack([paint_digit(g, rgb, background) for g in examples for rgb in PALETTE])
    return float(grad_cam(model, LAYER, images, predict(model, images).argmax(1)).max()) or 1.0


def _check(
    networks: Mapping[str, nn.Module], presets: Sequence[Preset],
    examples: np.ndarray, background: np.ndarray,
) -> Iterator[tuple[bool, str]]:  # fmt: skip
    """Yields what can be wrong, each as whether it is and the sentence that says so. A check may
    rely on those before it."""
    yield not networks, "a playground needs at least one network"
    yield not presets, "a playground needs at least one preset"
    for name, model in networks.items():
        fits = isinstance(model, CNN) and model.head.out_features == N_CLASSES
        yield not fits, f"network {name!r} must be a models.CNN of {N_CLASSES} classes"
        finite = all(torch.isfinite(values).all() for values in model.state_dict().values())
        yield not finite, f"network {name!r} has weights that are not finite"
    yield _unlike("examples", examples, np.uint8, (N_CLASSES, SIDE, SIDE))
    yield _unlike("the background", background, np.float32, (3, SIDE, SIDE))
    yield background.min() < 0 or background.max() > 1, "the background must lie in [0, 1]"
    paths = [preset.path for preset in presets]
    for preset in presets:
        where = f"preset {preset.path!r}"
        yield not _PATH.fullmatch(preset.path), f"{where}: a path is of a-z, 0-9 and -"
        yield paths.count(preset.path) > 1, f"{where} occurs twice"
        for name, number in (("colour", preset.colour), ("digit", preset.label)):
            yield number not in range(N_CLASSES), f"{where}: {name} {number} is not in 0..9"
        yield _unlike(f"{where}: its picture", preset.grey, np.uint8, (SIDE, SIDE))
        for name, delta in preset.cloaks:
            yield _unlike(f"{where}: the cloak {name!r}", delta, np.float32, (3, SIDE, SIDE))


def _unlike(name: str, values: np.ndarray, dtype: type, shape: tuple[int, ...]) -> tuple[bool, str]:
    right = values.dtype == dtype and values.shape == shape and np.isfinite(values).all()
    wanted, given = f"{np.dtype(dtype)} {shape}", f"{values.dtype} {values.shape}"
    return not right, f"{name} must be finite {wanted}, not {given}"
