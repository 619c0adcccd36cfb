"""Builds a Quarto book's HTML pages where Quarto cannot be had: `python -m bookbinder`.

`source` reads and checks the book, `execute` runs its cells, `compose` makes of both one tree a
chapter with all numbers and references, which `pages` writes as HTML and `pdf` as one PDF; `build`
ties them together so that a failure at any moment leaves the last good book in place.
"""

__version__ = "2.0.0"


class BookError(Exception):
    """What stops a build; the message reads `file:line: what is wrong; what to do`."""
