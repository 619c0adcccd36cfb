"""What Quarto and bookbinder run after rendering: leaves one line in the book's folder, and
dresses its pages as the report's are."""

import os
from pathlib import Path

from bookbinder.reader import dress

BOOK = Path(os.environ["QUARTO_PROJECT_OUTPUT_DIR"])
(BOOK / "after.txt").write_text("rendered\n")
dress(BOOK)
