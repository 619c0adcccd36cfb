"""Claims that the prose makes, checked where they stand and gathered at the end.

A chapter's first cell calls `begin_chapter`; each claim of its prose is a `claim(...)`, which shows
itself there as one line: it holds, is undecided, or fails. `book_ledger` gathers the claims of the
book, and `python -m lazy_artist.claims` writes them to the built book's claims.json and prints a
summary. Each chapter is its own process, so its claims are kept in `<cache>/claims/<chapter>.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import numbers
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from operator import eq, ge, gt, le, lt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazy_artist.config import scale
from lazy_artist.data import announcements, cache_dir, write_whole

if TYPE_CHECKING:
    import pandas as pd

_OPERATORS = {"<": (lt, r"\<"), "<=": (le, "≤"), ">": (gt, r"\>"), ">=": (ge, "≥"), "==": (eq, "=")}
_MARKS = {"holds": "✓", "undecided": "±", "fails": "✗", "measured": "•"}  # verdicts from the best
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

_chapter: str | None = None


@dataclass(frozen=True)
class Claim:
    """One claim as `claim` checked it. outcome: "holds", "undecided", "fails" or, without an op,
    "measured". sealed: None, "closed", or value, interval, n and outcome on the sealed digits.
    scale: LAZY_ARTIST_SCALE at that time."""

    id: str
    chapter: str
    statement: str
    value: float
    op: str | None
    threshold: float | None
    interval: list[float] | None
    n: int | None
    holds: bool
    scale: str
    outcome: str
    sealed: str | dict[str, Any] | None = None

    def _repr_markdown_(self) -> str:
        text = _texts(self)
        told = f"**{text['outcome']}** `{self.id}`: {self.statement} ({text['told']})"
        return f"::: {{.claim .claim-{self.outcome}}}\n{told}\n:::\n"


def begin_chapter(name: str) -> None:
    """Starts the claims of a chapter: forgets those of its last run, and remembers `name` (the
    stem of the chapter's file: lowercase letters, digits and hyphens) for this process. So does the
    store, with the results that are asked for. Raises OSError if the cache cannot be written to."""
    global _chapter
    _check_name("chapter name", name)
    try:
        write_whole(cache_dir() / "asked" / f"{name}.jsonl", b"")  # the store goes on with it
        _path(name).unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"the cache {cache_dir()} cannot be written to ({error.strerror or error}): make it "
            f"writable, free some space, or set LAZY_ARTIST_CACHE to another folder"
        ) from error
    _chapter = os.environ["LAZY_ARTIST_CHAPTER"] = name


def claim(
    id: str,
    statement: str,
    value: Any,
    op: str | None = None,
    threshold: float | None = None,
    sealed: Any = None,
) -> Claim:
    """Checks, records and returns the claim that `value op threshold`. It holds if the mean and the
    whole 95% interval meet the criterion, is undecided if the mean alone does, and else (or for
    NaN) fails. Without an op it is a measurement, which no verdict is passed on.

    id: lowercase letters, digits and hyphens; one claim in the whole book.
    statement: one sentence in the book's Markdown.
    value: a number, or an estimate with `mean`, `interval` (low, high) or None, and `n`, such as
        `evaluate.Estimate`.
    op: "<", "<=", ">", ">=" or "==" (exact).
    sealed: of a claim about accuracy on hard images, what the sealed digits in hard colours say: a
        number or an estimate, which has to meet the criterion too, or "closed".

    Raises RuntimeError outside a chapter, TypeError for what is not a number, ValueError for an
    unknown op (as of a threshold without one) and a bad or duplicate id.
    """
    if _chapter is None:
        raise RuntimeError(
            f"claim {id!r} is made outside a chapter: call begin_chapter(name) in the chapter's "
            f"first cell"
        )
    _check_name("claim id", id)
    statement = " ".join(statement.split())
    judging = (op, threshold) != (None, None)
    if judging and op not in _OPERATORS:
        raise ValueError(f"claim {id!r}: unknown op {op!r}; the ops are {', '.join(_OPERATORS)}")
    threshold = _plain(id, "threshold", threshold) if judging else None

    def judged(what: str, value: Any) -> dict[str, Any]:
        interval, n = getattr(value, "interval", None), getattr(value, "n", None)
        value = _plain(id, what, value.mean if hasattr(value, "interval") else value)
        if interval is not None:
            interval = [_plain(id, f"{what}'s interval", end) for end in interval]
        n = None if n is None else _plain(id, f"{what}'s n", n)
        outcome = "measured"
        if judging:
            meets, *ends = (_OPERATORS[op][0](x, threshold) for x in (value, *(interval or ())))
            outcome = "fails" if not meets else "holds" if all(ends) else "undecided"
        return {"value": value, "interval": interval, "n": n, "outcome": outcome}

    given = judged("value", value) | {"op": op, "threshold": threshold}
    if sealed is not None and sealed != "closed":
        sealed = judged("sealed", sealed)
        given["outcome"] = max(given["outcome"], sealed["outcome"], key=list(_MARKS).index)
    given |= {"holds": given["outcome"] == "holds", "sealed": sealed, "scale": scale()}
    made = Claim(id, _chapter, statement, **given)
    ledger = {earlier.id: earlier for earlier in _read(_chapter)}
    if ledger.get(id, made).statement != statement:  # else its cell was run again
        raise ValueError(
            f"claim {id!r} is made twice in chapter {_chapter!r}: give one of them another id (or, "
            f"if you reworded it, run the chapter from its first cell)"
        )
    ledger[id] = made
    records = [asdict(each) for each in ledger.values()]
    write_whole(_path(_chapter), json.dumps(records, indent=1).encode())
    return made


def recorded(chapters: Iterable[str]) -> dict[str, Claim]:
    """The claims that these chapters made when they ran last with this cache, at the scale of
    today, by id. Raises ValueError for a damaged record."""
    found = (made for chapter in chapters for made in _read(chapter))
    return {made.id: made for made in found if made.scale == scale()}


def book_ledger() -> list[Claim]:
    """The current claims of the book, in the order of `_quarto.yml` in this folder and in which
    each chapter made them.

    Raises FileNotFoundError if there is no `_quarto.yml` here, ValueError for a damaged record and
    for an id that two chapters use.
    """
    found: dict[str, Claim] = {}
    for chapter in book_chapters():
        for made in _read(chapter):
            if made.id in found:
                raise ValueError(
                    f"claim {made.id!r} of chapter {chapter!r} is already made in chapter "
                    f"{found[made.id].chapter!r}: give one of them another id"
                )
            found[made.id] = made
    return list(found.values())


def quoted(text: str, claims: Iterable[Claim]) -> str:
    """A Markdown text with the values of claims in the place of fields such as `{cheater-hard:.1%}`
    (as Python formats them; `points` for percentage points, `outcome` for the verdict), or "–"
    where a claim is not on record yet; `main` then writes them into the opening page."""

    def field(match: re.Match) -> str:
        told = f'.quoted data-claim="{match[1]}" data-form="{match[2]}"'
        return f"[{_quote(*match.groups(), claims)}]{{{told}}}"

    return re.sub(r"\{([a-z0-9-]+):([^}]*)\}", field, text)


_QUOTED = re.compile(r'(<span class="quoted" data-claim="([^"]*)" data-form="([^"]*)">)[^<]*')


def _quote(id: str, form: str, claims: Iterable[Claim]) -> str:
    made = {each.id: each for each in claims}.get(id)
    if made is None:
        return "–"
    if form == "outcome":
        return _texts(made)["outcome"].replace(" ", "\u00a0")  # stays on one line
    return f"{100 * made.value:.0f}" if form == "points" else format(made.value, form)


def ledger_table(claims: Iterable[Claim]) -> pd.DataFrame:
    """The claims as a table of Markdown texts, for
    `DataFrame.to_markdown(index=False, disable_numparse=True)`."""
    import pandas as pd

    rows = []
    for made in claims:
        text = _texts(made)
        outcome = text["outcome"].replace(" ", "\u00a0")  # stays on one line
        statement = re.sub(r"(?<!\\)\|", r"\\|", made.statement)
        told = f"`{made.id}` ({made.chapter}): {statement}"
        rows.append((outcome, told, text["measured"], text["criterion"], text["sealed"]))
    return pd.DataFrame(rows, columns=["Outcome", "Claim", "Measured", "Criterion", "Sealed"])


def count_outcomes(claims: Iterable[Claim]) -> str:
    """Such as "49 of 55 claims hold; 4 undecided, 2 fail". Measurements are not counted."""
    counts = Counter(made.outcome for made in claims if made.outcome != "measured")
    others = [f"{counts['undecided']} undecided"] * (counts["undecided"] > 0)
    others += [f"{counts['fails']} fail{'s' * (counts['fails'] == 1)}"] * (counts["fails"] > 0)
    told = f"{counts['holds']} of {counts.total()} claims hold"
    return "; ".join([told, ", ".join(others)] if others else [told])


def main(argv: list[str] | None = None) -> int:
    """Writes the claims of the book to `<book>/claims.json`, and the opening page's numbers anew:
    what it quotes (`quoted`), and in its element "claims-count" how many hold, which is printed.
    Returns the exit status: 1 with --strict if a claim fails or there is none, else 0; exits with 2
    if there is no book, or no _quarto.yml here.
    """
    parser = argparse.ArgumentParser(prog="python -m lazy_artist.claims", description=main.__doc__)
    parser.add_argument("--book", type=Path, default=Path("_book"), help="the built book's folder")
    parser.add_argument("--strict", action="store_true", help="fail if a claim fails")
    options = parser.parse_args(argv)
    if not options.book.is_dir():
        parser.error(f"there is no book in {options.book}: build it first (make report)")
    if not Path("_quarto.yml").is_file():
        parser.error("there is no _quarto.yml here: run this in the project's root")
    claims = book_ledger()
    written = json.dumps([asdict(made) for made in claims])
    plain = json.loads(written, parse_constant=lambda _: None)  # JSON has no NaN and no infinities
    write_whole(options.book / "claims.json", (json.dumps(plain, indent=1) + "\n").encode())

    count = count_outcomes(claims)
    print(count)
    if origins := result_origins():
        print(
            f"{origins['repository']} results came with the repository, {origins['cache']} were in "
            f"the cache, {origins['computed']} were computed"
        )
    # Quarto executes the opening page first, so that its cells cannot know
    opening = options.book / "index.html"
    if opening.is_file():
        page, told = opening.read_text("utf-8"), rf"\g<1>{count}"
        page = re.sub(r'(<span id="claims-count">)[^<]*', told, page)
        page = _QUOTED.sub(lambda span: span[1] + _quote(span[2], span[3], claims), page)
        write_whole(opening, page.encode())
    for announced in announcements():  # by kernels, whose warnings the pages do not show
        print(announced)
    for made in sorted(claims, key=lambda made: made.outcome):  # "fails" before "undecided"
        if made.outcome in ("fails", "undecided"):
            told = _texts(made)["told"].replace("\\", "")
            print(f"  {made.outcome}: {made.id} ({made.chapter}): {told}")
    outcomes = {made.outcome for made in claims} - {"measured"}
    return int(options.strict and ("fails" in outcomes or not outcomes))


# --- records -------------------------------------------------------------------------------------


def _path(chapter: str) -> Path:
    return cache_dir() / "claims" / f"{chapter}.json"


def _read(chapter: str) -> list[Claim]:
    try:
        return [Claim(**record) for record in json.loads(_path(chapter).read_text("utf-8"))]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"the claims in {_path(chapter)} are damaged: delete the file and run its chapter again"
        ) from error


def book_chapters() -> list[str]:
    """The stems of the book's chapters and appendices, in order, from _quarto.yml here."""
    import yaml

    book = yaml.safe_load(Path("_quarto.yml").read_text(encoding="utf-8")).get("book", {})

    def files(entry: Any) -> Iterator[str]:
        if isinstance(entry, dict | list):
            for each in entry.values() if isinstance(entry, dict) else entry:
                yield from files(each)
        elif str(entry).endswith((".qmd", ".md", ".ipynb")):
            yield Path(entry).stem

    return [*files(book.get("chapters")), *files(book.get("appendices"))]


def asked_results() -> Iterator[tuple[str, str, str, str]]:
    """What the chapters of the book asked the store for in their last runs: chapter, function,
    address, and whether it came with the "repository", lay in the "cache" or was "computed"."""
    for chapter in book_chapters() if Path("_quarto.yml").is_file() else ():
        log = cache_dir() / "asked" / f"{chapter}.jsonl"
        for line in log.read_text("utf-8").splitlines() if log.exists() else ():
            yield chapter, *json.loads(line)


def result_origins() -> Counter[str]:
    """How many of the `asked_results` came from where; what was computed, and then found in the
    cache, counts as computed."""
    origins: dict[str, str] = {}
    for _, _, address, origin in asked_results():
        if origins.get(address) != "computed":
            origins[address] = origin
    return Counter(origins.values())


# --- checks and texts ----------------------------------------------------------------------------


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r} must be lowercase letters, digits and single hyphens")


def _plain(id: str, what: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"claim {id!r}: {what} must be a number, not {value!r}")
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _texts(made: Claim) -> dict[str, str]:
    """What is told of a claim. A threshold is not rounded to three digits, and a value or an end of
    its interval not so far that it seems to be the threshold."""
    threshold = _number(made.threshold) if made.op else ""
    if threshold and _parsed(threshold) != made.threshold:
        threshold = _number(made.threshold, 6)

    def short(x: float) -> str:
        for digits in range(3, 18):
            text = _number(x, digits)
            if not threshold or x == made.threshold or _parsed(text) != _parsed(threshold):
                break
        return text

    def estimate(value: float, interval: list[float] | None, n: int | None, outcome: str) -> str:
        ends = rf" \[{', '.join(map(short, interval))}\]" if interval else ""
        seeds = f", {n} seed{'s' * (n > 1)}" if n else ""
        return short(value) + ends + seeds + f": {outcome}" * bool(outcome)

    told = measured = estimate(made.value, made.interval, made.n, "")
    sealed = made.sealed
    if isinstance(sealed, dict):  # of as many seeds
        sealed = estimate(**sealed | {"n": None if sealed["n"] == made.n else sealed["n"]})
    if made.op:
        criterion = f"{_OPERATORS[made.op][1]} {threshold}"
        told = f"measured {measured}; criterion {criterion}"
        told += ", with the whole interval" * bool(made.interval)
    return {
        "outcome": f"{_MARKS[made.outcome]} {made.outcome}",
        "measured": measured,
        "criterion": criterion if made.op else "–",
        "sealed": sealed or "–",
        "told": told + f"; sealed digits {sealed}" * bool(sealed),
    }


def _number(x: float, digits: int = 3) -> str:
    """A short text: integers exact, otherwise about `digits` digits (0.041, 12.3, 3.2e-06); zeros
    at the end are left out only if nothing was rounded away (0.95, but 0.950 for 0.94996)."""
    if math.isnan(x):
        return "n/a"
    if math.isinf(x):
        return "∞" if x > 0 else "-∞"
    size = abs(x)
    if isinstance(x, int) or (x == int(x) and size < 1e15):
        return f"{int(x):,}"
    if size >= 1e15 or size < 1e-3:
        return f"{x:.{digits - 2}e}"
    if size < 0.01:
        text = f"{x:.{digits + 1}f}"
    elif size < 1:
        text = f"{x:.{digits}f}"
    else:
        text = f"{x:,.{max(digits - len(str(int(size))), digits - 3)}f}"
    if _parsed(text) == x and "." in text:
        text = text.rstrip("0").rstrip(".")
    return text


def _parsed(text: str) -> float:
    return float(text.replace(",", "").replace("∞", "inf").replace("n/a", "nan"))


if __name__ == "__main__":
    sys.exit(main())
