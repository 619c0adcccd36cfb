"""Outputs of cells made by hand, so that most tests need no kernel."""

import base64
import io
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image, ImageDraw

FIGURE = ("label: fig-a", "fig-cap: A *line*.", 'fig-alt: A "thin" line.')
WORKS = """\
@book{knuth1984, author={Knuth, Donald}, title={Literate}, year=1984}
@book{turing1950, author={Turing, Alan}, title={Machinery}, year=1950}
@book{unread2000, author={Unread, Una}, title={Nothing}, year=2000}
"""


def cell(*options: str, code: str = "x = 1") -> str:
    return "```{python}\n" + "".join(f"#| {o}\n" for o in options) + code + "\n```\n"


def result(metadata: dict[str, Any] | None = None, /, **data: str) -> nbformat.NotebookNode:
    """A returned value; its MIME types are written with _ for /: text_plain, image_png …"""
    data = {kind.replace("_", "/", 1): value for kind, value in data.items()}
    return nbformat.v4.new_output("execute_result", data, metadata=metadata or {})


def stream(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", name=name, text=text)


def png_bytes(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def png(width: int, height: int) -> str:
    return base64.b64encode(png_bytes(Image.new("RGB", (width, height), "white"))).decode()


def drawing() -> Image.Image:
    """Letters and lines, smoothed, as matplotlib saves them: opaque, with an alpha channel."""
    image = Image.new("RGBA", (300, 200), "white")
    draw = ImageDraw.Draw(image)
    for k in range(12):
        draw.text((10, 15 * k), "cheater and oracle", fill=(34, 34 + 5 * k, 34))
        draw.line((150, 10, 290, 15 * k), fill=(0, 114, 178), width=2)
    return image.resize((600, 400), Image.Resampling.BICUBIC)


def contents(folder: Path) -> dict[str, bytes]:
    """The files below the folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
