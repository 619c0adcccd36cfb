"""What a PDF says of itself: its structure, its bookmarks, its links, where its text stands."""

from collections.abc import Iterator

from pypdf import PageObject, PdfReader


def tags(reader: PdfReader) -> list[tuple[str, str]]:
    """(tag, alternative text) of each element of the PDF's structure, in reading order."""
    found = []
    stack = [reader.trailer["/Root"]["/StructTreeRoot"]["/K"]]
    while stack:
        node = stack.pop()
        node = node.get_object() if hasattr(node, "get_object") else node
        if isinstance(node, list):
            stack += reversed(node)
        elif isinstance(node, dict):
            if "/S" in node:
                found.append((node["/S"], " ".join(str(node.get("/Alt", "")).split())))
            stack.append(node.get("/K", []))
    return found


def bookmarks(reader: PdfReader, outline: list | None = None, depth: int = 1) -> Iterator[tuple]:
    """(depth, title, number of its page) of each bookmark, in order."""
    for entry in reader.outline if outline is None else outline:
        if isinstance(entry, list):
            yield from bookmarks(reader, entry, depth + 1)
        else:
            number = reader.get_destination_page_number(entry)
            yield depth, " ".join(entry.title.split()), number


def _texts(page: PageObject) -> list[tuple[float, float, float, str]]:
    """(left, baseline, size, text) of each piece of the page's text."""
    found = []

    def see(text: str, cm: list, tm: list, _font: dict, size: float) -> None:
        if text.strip():
            found.append((cm[4] + tm[4], cm[5] - tm[5], size, " ".join(text.split())))

    page.extract_text(visitor_text=see)
    return found


def spans(page: PageObject) -> list[tuple[float, float]]:
    """(start, least end) of each piece: letters are a third of their size wide, or wider."""
    return [(left, left + len(text) * size / 3) for left, _, size, text in _texts(page)]


def heights(page: PageObject) -> list[tuple[float, float]]:
    """(low, high) of each piece of text and each picture, in points above the foot of the page."""
    found = [(low, low + size) for _, low, size, _ in _texts(page)]
    return found + [(low, high) for _, low, _, high in pictures(page)]


def pictures(page: PageObject) -> list[tuple[float, float, float, float]]:
    """(left, low, right, high) of each picture on the page."""
    found = []

    def see(operator: bytes, _operands: list, cm: list, _tm: list) -> None:
        if operator == b"Do":
            (left, right), (low, high) = (
                sorted([cm[4], cm[4] + cm[0]]),
                sorted([cm[5], cm[5] + cm[3]]),
            )
            found.append((left, low, right, high))

    page.extract_text(visitor_operand_before=see)
    return found


def links(reader: PdfReader) -> Iterator[tuple[int, str, str | int]]:
    """(number of its page, the text there, where it leads: a URL or a page's number) of each."""
    for number, page in enumerate(reader.pages):
        texts = _texts(page)
        for annotation in page.get("/Annots", []):
            annotation = annotation.get_object()
            left, low, right, high = annotation["/Rect"]
            inside = (t for x, y, _, t in texts if left - 1 < x < right and low < y < high)
            if (to := annotation.get("/Dest")) is None:
                to = annotation["/A"]["/URI"]
            else:
                named = isinstance(to, str)
                to = reader.named_destinations[to].page if named else to.get_object()[0]
                to = reader.get_page_number(to.get_object())
            yield number, next(inside, ""), to
