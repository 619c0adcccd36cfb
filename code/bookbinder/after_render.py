"""What runs after rendering, by Quarto or bookbinder: puts the pages that chapters have written
(the atlas, the playground) and the claims into the finished book, and dresses its pages
(reader.py)."""

import os
import shutil
from pathlib import Path

from bookbinder.reader import dress
from lazy_artist import claims
from lazy_artist.edition import built

if __name__ == "__main__":
    book = Path(os.environ.get("QUARTO_PROJECT_OUTPUT_DIR", "_book"))
    for page in (built() / "pages").glob("*.html"):
        shutil.copy(page, book)
    claims.main(["--book", str(book)])
    dress(book)
