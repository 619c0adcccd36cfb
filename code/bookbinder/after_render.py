"""What runs after rendering, by Quarto or bookbinder: gathers the claims into the finished book."""

import os

from lazy_artist import claims

if __name__ == "__main__":
    claims.main(["--book", os.environ.get("QUARTO_PROJECT_OUTPUT_DIR", "_book")])
