"""Networks and a playground for the tests of pages on which networks run."""

from pathlib import Path

import numpy as np
import pypandoc
import torch

from bookbinder.reader import widget_tags
from lazy_artist import playground, widgets
from lazy_artist.canvas import PALETTE, paint
from lazy_artist.models import CNN, build
from lazy_artist.playground import Cloak, Preset
from lazy_artist.standin import draw_digits

RNG = np.random.default_rng(0)

THEME = widgets.ASSETS.joinpath("theme.html").read_text()
PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>t</title>
<meta name="viewport" content="width=device-width, initial-scale=1">{}</head>
<body style="background: var(--ground); color: var(--text)"><main><h1>t</h1>{}</main></body>"""


def write_page(path: Path, *placed: str) -> Path:
    """Writes a page with such widgets, as their Markdown and its dressing make it; returns its
    path."""
    body = pypandoc.convert_text("\n\n".join(placed), "html", "markdown")
    path.write_text(PAGE.format(THEME + "\n".join(widget_tags("", body)), body), "utf-8")
    return path


def network(seed: int) -> CNN:
    """Untrained, but normalised to such pictures, and with answers far apart."""
    model = build("cnn", seed).train()
    colours = np.random.default_rng(seed).integers(0, 10, 200)
    images = torch.from_numpy(paint(draw_digits(200, seed)[0], colours, seed))
    for block in (model.block1, model.block2, model.block3):
        block[1].momentum = None  # one pass is enough
    with torch.no_grad():
        model(images)
        features = model.features(images)
        model.head.weight.mul_(30)
        model.head.bias.sub_(features.mean(0) @ model.head.weight.T)
    return model.eval()


class Playground:
    """A page with all that went into it."""

    def __init__(self, folder: Path):
        self.path = folder / "playground.html"
        names = ("cheater", "cure", "oracle")
        self.networks = {name: network(seed) for seed, name in enumerate(names)}
        self.background = paint(np.zeros((1, 28, 28), np.uint8), np.array([0]), 0)[0]
        self.examples = draw_digits(10, 3)[0]
        delta = RNG.uniform(-0.5, 0.5, (2, 3, 28, 28)).astype(np.float32)
        cloaks = [Cloak("made for one", delta[0]), Cloak("made for the other", delta[1])]
        self.presets = [
            Preset("red-1", "a red 1", self.examples[1], 1, 0),
            Preset("green-0", "a green 0", self.examples[0], 0, 1),
            Preset("cloaked-7", "a cloaked 7", self.examples[7], 7, 7, cloaks),
        ]
        playground.write(
            self.path, self.networks, self.presets, self.examples, self.background,
            title="The Playground", intro="<p>Draw.</p>", back=("index.html", "Back"),
        )  # fmt: skip

    def painted(self, grey: np.ndarray, colour: int | np.ndarray) -> np.ndarray:
        """A grey digit in a colour of the palette, by its number, or in an RGB colour."""
        rgb = colour if isinstance(colour, np.ndarray) else PALETTE[colour]
        return playground.paint_digit(grey, rgb, self.background)

    def told(
        self, grey: np.ndarray, colour: int | np.ndarray, delta: np.ndarray | float = 0
    ) -> list[str]:
        """What each network says of this picture: "1, 80% confident"."""
        image = np.clip(self.painted(grey, colour) + delta, 0, 1)[None].astype(np.float32)
        tops = [playground.top_class(model, image) for model in self.networks.values()]
        return [playground.describe(*top)[0] for top in tops]

    def expected(self, *picture: np.ndarray | int) -> str:
        """What stands below the pad for this picture."""
        told = zip(self.networks, self.told(*picture), strict=True)
        return "\n".join(f"The {name} says {text}." for name, text in told)
