"""What Quarto and bookbinder run after rendering: leaves one line in the book's folder."""

import os
from pathlib import Path

Path(os.environ["QUARTO_PROJECT_OUTPUT_DIR"], "after.txt").write_text("rendered\n")
