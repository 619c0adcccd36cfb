"""What runs after rendering, by Quarto or bookbinder: puts the pages that chapters have written
(the atlas, the playground) and the claims into the finished book, and dresses its pages
(reader.py)."""

import os
import shutil
from pathlib import Path

from bookbinder.reader import dress
from lazy_artist import claims
from lazy_artist.data import cache_dir

if __name__ == "__main__":
    book = Path(os.environ.get("QUARTO_PROJECT_OUTPUT_DIR", "_book"))
    for page in (cache_dir() / "pages").glob("*.html"):
        shutil.copy(page, book)
    claims.main(["--book", str(book)])
    dress(book)
