"""What Quarto and bookbinder run after rendering: dresses the pages as the report's are."""

import os
from pathlib import Path

from bookbinder.reader import dress

dress(Path(os.environ["QUARTO_PROJECT_OUTPUT_DIR"]))
