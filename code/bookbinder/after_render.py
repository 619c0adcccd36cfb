"""What runs after rendering, by Quarto or bookbinder: puts what chapters have written (atlas,
playground, widgets, networks to download) and the claims into the finished book, and dresses its
pages (reader.py). What Quarto has executed is kept for the PDF and the notebooks."""

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
    for network in (cache_dir() / "pages/networks").glob("*.safetensors"):
        (book / "networks").mkdir(exist_ok=True)
        shutil.copy(network, book / "networks")
    if (widgets := cache_dir() / "pages/widgets").is_dir():
        shutil.copytree(widgets, book / "widgets", dirs_exist_ok=True)
    if "QUARTO_PROJECT_OUTPUT_FILES" in os.environ:  # which bookbinder does not set
        from bookbinder.notebooks import take_over
        from bookbinder.source import read_book

        take_over(read_book(Path()))
    claims.main(["--book", str(book)])
    dress(book)
