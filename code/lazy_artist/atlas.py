"""The atlas: many cards of channels, or of other units, on one page to browse.

`compose` makes of the cards what is kept: a sheet of pictures, and all else as JSON (deflated).
`write` puts both into a single HTML file with a small script to filter, sort and link. The page
loads nothing else, works from a file, and without scripts shows a table instead.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from lazy_artist.canvas import COLOUR_NAMES

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # 36 levels, in which grids and histograms are kept
SIDE, MARGIN = 28, 2  # a tile and its rim: 32 is a whole number of AVIF's blocks, so none bleeds
PITCH = SIDE + 2 * MARGIN
COLUMNS = 64  # tiles in a row of the sheet
QUALITY = 35  # of the AVIF, which takes half of what a JPEG takes that looks alike
_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


class Card(NamedTuple):
    """One unit.

    path: its permalink, such as "cheater/block3/17"; title, subtitle: plain text; facets: by the
    name of a filter, the levels that the card is found under; measures: finite numbers by name;
    pictures: shown large, examples: shown small, (description, uint8 (3, 28, 28)) each; grid:
    activation (R, C), >= 0, over the page's rows and columns; histogram: counts (B,) of activation
    between 0 and `most`; mark: the activation to be marked there, that of the first picture.
    """

    path: str
    title: str
    subtitle: str
    facets: dict[str, tuple[str, ...]]
    measures: dict[str, float]
    pictures: Sequence[tuple[str, np.ndarray]]
    examples: Sequence[tuple[str, np.ndarray]]
    grid: np.ndarray
    histogram: np.ndarray
    most: float
    mark: float


def compose(
    cards: Sequence[Card], histogram_title: str, grid_title: str = "digit by colour",
    rows: Sequence[str] = DIGITS[:10], columns: Sequence[str] = COLOUR_NAMES,
) -> dict[str, np.ndarray]:  # fmt: skip
    """What a page of `cards` shows, in their order, as bytes, uint8 (n,): "cards", deflated JSON;
    "sheet", an AVIF of their pictures, equal ones once.

    rows, columns: names of the grid's rows and columns, which are shown by their first letters.

    Raises ValueError, naming the card, for what cannot be shown, as `_check` says.
    """
    _check(cards, rows, columns)
    tiles: dict[bytes, int] = {}

    def place(picture: np.ndarray) -> int:
        return tiles.setdefault(np.ascontiguousarray(picture).tobytes(), len(tiles))

    facets, measures = list(cards[0].facets), list(cards[0].measures)
    shown: list[dict[str, Any]] = []
    for card in cards:
        top = np.unravel_index(card.grid.argmax(), card.grid.shape)
        shown.append(
            {
                **{name: getattr(card, name) for name in ("path", "title", "subtitle")},
                "facets": [list(card.facets[name]) for name in facets],
                "measures": [float(f"{card.measures[name]:.3g}") for name in measures],
                "pictures": [[place(image), name] for name, image in card.pictures],
                "examples": [[place(image), name] for name, image in card.examples],
                "grid": _digits(card.grid.ravel()),
                "strongest": f"{rows[top[0]]}, {columns[top[1]]}",
                "histogram": _digits(np.log1p(card.histogram)),
                "mark": round(card.mark / card.most, 3) if card.most > 0 else 0,
            }
        )
    levels = [sorted({level for card in cards for level in card.facets[name]}) for name in facets]
    data = {
        "cards": shown, "facets": facets, "levels": levels, "measures": measures,
        "digits": DIGITS, "pitch": PITCH, "margin": MARGIN, "columns": COLUMNS,
        "gridRows": list(rows), "gridColumns": list(columns), "gridTitle": grid_title,
        "histogramTitle": histogram_title,
    }  # fmt: skip
    packed = zlib.compress(json.dumps(data, separators=(",", ":")).encode(), 9)
    return {
        name: np.frombuffer(part, np.uint8)
        for name, part in (("cards", packed), ("sheet", _sheet(tiles)))
    }


def write(
    path: Path, composed: dict[str, np.ndarray], *, title: str, intro: str, back: tuple[str, str]
) -> int:
    """Write the page of what `compose` made to `path`, and return the number of its cards.

    intro: HTML, some paragraphs on how to read a card; title, back: as of `fill`.
    """
    data = json.loads(zlib.decompress(composed["cards"].tobytes()))
    table: dict[str, list[str]] = {}
    for card in data["cards"]:
        index, alt = card["pictures"][0]
        at = " ".join(f"-{PITCH * at + MARGIN}px" for at in (index % COLUMNS, index // COLUMNS))
        tile = f'<span class="t" role="img" aria-label="{html.escape(alt)}" '
        tile += f'style="background-position:{at}"></span>'
        cells = [html.escape(card["title"]), tile, html.escape(card["subtitle"])]
        table[card["path"]] = cells + [f"{value:g}" for value in card["measures"]]
    packed, sheet = (
        base64.b64encode(composed[name].tobytes()).decode() for name in ("cards", "sheet")
    )
    fill(
        path, "atlas.html", title, back, ["card", "", "label", *data["measures"]], table,
        intro=intro, data=packed, sheet=f"data:image/avif;base64,{sheet}",
        width=str(COLUMNS * PITCH),
    )  # fmt: skip
    return len(table)


def fill(
    path: Path, template: str, title: str, back: tuple[str, str], heads: Sequence[str],
    rows: dict[str, Sequence[str]], **parts: str,
) -> None:  # fmt: skip
    """Write the page `template`, a file in assets/, to `path`, with HTML in the place of its {{…}}.

    title, back: plain text, and address and text of a link to where the page belongs; heads, rows:
    plain text, and cells in HTML by id, of the table that those without scripts see.
    """
    for name, text in (("title", title), ("back", back[0]), ("back_text", back[1])):
        parts[name] = html.escape(text)
    lines = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in heads)
    lines = [f"<table><thead><tr>{lines}</tr></thead><tbody>"]
    for name, cells in rows.items():
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<tr id="{html.escape(name)}">{row}</tr>')
    parts["table"] = "\n".join([*lines, "</tbody></table>"])
    assets = Path(__file__).with_name("assets")
    parts["theme"] = (assets / "theme.html").read_text("utf-8").strip()
    page = (assets / template).read_text("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page), "utf-8")


def _digits(values: np.ndarray) -> str:
    """Values >= 0 in 36 levels of their largest, a character each."""
    top = max(float(values.max()), 1e-12)
    return "".join(DIGITS[round(value / top * (len(DIGITS) - 1))] for value in values.tolist())


def _sheet(tiles: dict[bytes, int]) -> bytes:
    """All tiles, in rows of COLUMNS, each with a rim of its own edge, as an AVIF."""
    images = np.frombuffer(b"".join(tiles), np.uint8).reshape(-1, 3, SIDE, SIDE)
    rims = (0, -len(images) % COLUMNS), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)
    images = np.pad(images.transpose(0, 2, 3, 1), rims, mode="edge")
    sheet = images.reshape(-1, COLUMNS, PITCH, PITCH, 3).swapaxes(1, 2)
    file = io.BytesIO()
    picture = Image.fromarray(sheet.reshape(-1, COLUMNS * PITCH, 3))
    picture.save(file, "AVIF", quality=QUALITY, subsampling="4:4:4", speed=8)
    return file.getvalue()


def _check(cards: Sequence[Card], rows: Sequence[str], columns: Sequence[str]) -> None:
    if not cards:
        raise ValueError("an atlas needs at least one card")
    first, shape, paths = cards[0], (len(rows), len(columns)), Counter(c.path for c in cards)
    for card in cards:
        tiles = [picture for _, picture in (*card.pictures, *card.examples)]
        pictured = all(t.dtype == np.uint8 and t.shape == (3, SIDE, SIDE) for t in tiles)
        for wrong, what in (
            (not _PATH.fullmatch(card.path), "a path is of letters, digits and ._-, with slashes"),
            (paths[card.path] > 1, "occurs twice"),
            (list(card.facets) != list(first.facets), f"other facets than card {first.path!r}"),
            (list(card.measures) != list(first.measures), f"other measures than {first.path!r}"),
            (not np.isfinite([*card.measures.values()]).all(), "measures must be finite"),
            (card.grid.shape != shape or not card.grid.min() >= 0, f"grid must be {shape}, >= 0"),
            (not card.pictures, "no picture"),
            (not pictured, f"all pictures must be uint8 (3, {SIDE}, {SIDE})"),
        ):
            if wrong:
                raise ValueError(f"card {card.path!r}: {what}")
