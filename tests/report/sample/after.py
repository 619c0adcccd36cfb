"""What Quarto and bookbinder run after rendering: leaves one line in the book's folder and a small
atlas, and dresses the pages as the report's are."""

import os
from pathlib import Path

import numpy as np

from bookbinder.reader import dress
from lazy_artist import atlas

BOOK = Path(os.environ["QUARTO_PROJECT_OUTPUT_DIR"])
(BOOK / "after.txt").write_text("rendered\n")
square = np.full((3, 28, 28), 127, np.uint8)
card = atlas.Card(
    path="net/1",
    title="net 1",
    subtitle="grey",
    facets={"answers to": ("grey",)},
    measures={"share": 0.5},
    pictures=[("excites", square)],
    examples=[("a grey square", square)],
    grid=np.array([[0.0, 1.0]]),
    histogram=np.array([3, 1]),
    most=1.0,
    mark=0.5,
)
atlas.write(
    BOOK / "atlas.html",
    [card],
    title="Atlas",
    intro="<p>One card.</p>",
    back=("index.html", "Back to the book"),
    rows=["0"],
    columns=["red", "green"],
    grid_title="digit by colour",
    histogram_title="images",
)
dress(BOOK)
