"""Claims that the prose makes, checked where they stand and gathered at the end.

A chapter's first cell calls `begin_chapter`; each claim of its prose is a `claim(...)`, which shows
itself there as one line, holding or failing. `ledger` gathers the claims of the book, and
`python -m lazy_artist.claims` writes them to the built book's claims.json and prints a summary.
A claim's record is a file in `<cache>/claims/<chapter>/`, since each chapter is its own process;
another edition than the digits' has a folder of its own in the cache.
"""

from __future__ import annotations

import argparse
import json
import math
import numbers
import operator
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lazy_artist import edition

if TYPE_CHECKING:
    import pandas as pd

_OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
_SIGNS = {"<": r"\<", "<=": "≤", ">": r"\>", ">=": "≥", "==": "="}
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

_chapter: str | None = None


@dataclass(frozen=True)
class Claim:
    """One checked claim: it holds if `value op threshold` does, and never for a NaN.

    interval: the value's 95% interval (low, high), n: the number of seeds, if there are any.
    scale: LAZY_ARTIST_SCALE when it was checked.
    """

    id: str
    chapter: str
    statement: str
    value: float
    op: str
    threshold: float
    interval: tuple[float, float] | None
    n: int | None
    holds: bool
    scale: str

    def _repr_markdown_(self) -> str:
        interval = f", 95% interval {_interval(self)}" if self.interval else ""
        seeds = f"; {_seeds(self.n)}" if self.n else ""
        reason = "" if self.holds else edition.reason(self.id)
        return (
            f"::: {{.claim .claim-{'holds' if self.holds else 'fails'}}}\n"
            f"**{_verdict(self)}** `{self.id}`: {self.statement} "
            f"(measured {_measured(self)}{interval}; criterion {_criterion(self)}{seeds})"
            f"{f'. *Why in this edition:* {reason}' if reason else ''}\n"
            f":::\n"
        )


def begin_chapter(name: str) -> None:
    """Starts the claims of a chapter: forgets those of its last run, and remembers `name` (the
    stem of the chapter's file: lowercase letters, digits and hyphens) for this process."""
    global _chapter
    _check_name("chapter name", name)
    edition.begin_chapter(name)
    if (_folder() / name).exists():
        shutil.rmtree(_folder() / name)
    _chapter = name


def claim(
    id: str,
    statement: str,
    value: float,
    op: str,
    threshold: float,
    interval: tuple[float, float] | None = None,
    n: int | None = None,
) -> Claim:
    """Checks, records and returns the claim that `value op threshold`.

    id: lowercase letters, digits and hyphens; one claim in the whole book.
    statement: one sentence in the book's Markdown.
    op: "<", "<=", ">", ">=" or "==" (exact).
    interval: the value's 95% interval (low, high); n: the number of seeds.

    Raises RuntimeError outside a chapter, TypeError for what is not a number, ValueError for an
    unknown op, a bad or duplicate id, a NaN threshold, a reversed interval or an n below 1.
    """
    if _chapter is None:
        raise RuntimeError(
            f"claim {id!r} is made outside a chapter: call begin_chapter(name) in the chapter's "
            f"first cell"
        )
    _check_name("claim id", id)
    statement = edition.words(" ".join(statement.split()))
    if not statement:
        raise ValueError(f"claim {id!r} has an empty statement")
    if op not in _OPERATORS:
        raise ValueError(f"claim {id!r}: unknown op {op!r}; the ops are {', '.join(_OPERATORS)}")
    value = _plain(id, "value", value)
    threshold = _plain(id, "threshold", threshold)
    if math.isnan(threshold):
        raise ValueError(f"claim {id!r}: the threshold is NaN")
    if interval is not None:
        low, high = (_plain(id, "interval", bound) for bound in interval)
        if low > high:
            raise ValueError(f"claim {id!r}: the interval ({low}, {high}) is reversed")
        interval = (low, high)
    if n is not None:
        n = _plain(id, "n", n)
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"claim {id!r}: n is {n}; it must be a number of seeds, at least 1")
    made = Claim(
        id=id,
        chapter=_chapter,
        statement=statement,
        value=value,
        op=op,
        threshold=threshold,
        interval=interval,
        n=n,
        holds=bool(_OPERATORS[op](value, threshold)),
        scale=os.environ.get("LAZY_ARTIST_SCALE") or "full",
    )
    _record(made)
    return made


def ledger(chapters: Iterable[str] | None = None) -> list[Claim]:
    """The current claims, in the order in which each chapter made them.

    chapters: the stems of the chapters to gather, in the book's order; by default all chapters
    that have claims, by name.
    """
    if chapters is None:
        chapters = sorted(path.name for path in _folder().glob("*") if path.is_dir())
    found = []
    for chapter in chapters:
        records = [_read(path) for path in (_folder() / chapter).glob("*.json")]
        found += [made for _, made in sorted(records, key=lambda record: record[0])]
    return found


def ledger_table(claims: Iterable[Claim]) -> pd.DataFrame:
    """The claims as a table of Markdown texts, for
    `DataFrame.to_markdown(index=False, disable_numparse=True)`."""
    import pandas as pd

    columns = ["Holds", "Claim", "Measured", "Criterion"]
    rows = []
    for made in claims:
        interval = f" {_interval(made)}" if made.interval else ""
        seeds = f", {_seeds(made.n)}" if made.n else ""
        statement = re.sub(r"(?<!\\)\|", r"\\|", made.statement)
        rows.append(
            (
                _verdict(made).replace(" ", "\u00a0"),  # stays on one line
                f"`{made.id}` ({made.chapter}): {statement}",
                f"{_measured(made)}{interval}{seeds}",
                _criterion(made),
            )
        )
    return pd.DataFrame(rows, columns=columns)


def book_ledger() -> list[Claim]:
    """The current claims of the book's chapters, in the order of `_quarto.yml` in this folder.

    Raises FileNotFoundError if there is no `_quarto.yml` here.
    """
    return ledger(path.stem for path in _book_chapters())


def reasons(claims: Iterable[Claim]) -> str:
    """In another edition than the digits', in Markdown: each claim that fails there, with why."""
    failed = [made for made in claims if not made.holds]
    if edition.name() == edition.DIGITS or not failed:
        return ""
    lines = [f"* `{m.id}`: {edition.reason(m.id) or 'we have not found out.'}" for m in failed]
    return "\n".join(["Why claims fail in this edition, as far as we know:", "", *lines])


def summary(claims: Iterable[Claim]) -> str:
    """One sentence, plain text: how many claims hold, and which do not."""
    claims = list(claims)
    failed = [made.id for made in claims if not made.holds]
    text = f"{len(claims) - len(failed)} of {len(claims)} claims hold"
    return f"{text}; not so: {', '.join(failed)}." if failed else f"{text}."


def main(argv: list[str] | None = None) -> int:
    """Writes the claims of the book to `<book>/claims.json`, and how many hold into the opening
    page's element "claims-count", and prints it.

    Returns the exit status: 0; 1 with --strict if a claim fails or there is none; 2 if the book's
    folder or _quarto.yml is not there.
    """
    parser = argparse.ArgumentParser(prog="python -m lazy_artist.claims", description=main.__doc__)
    parser.add_argument("--book", type=Path, default=Path("_book"), help="the built book's folder")
    parser.add_argument("--strict", action="store_true", help="fail if a claim fails")
    options = parser.parse_args(argv)
    if not options.book.is_dir():
        print(f"there is no book in {options.book}: build it first (make report)", file=sys.stderr)
        return 2
    try:
        claims = book_ledger()
    except FileNotFoundError:
        print("there is no _quarto.yml here: run this in the project's root", file=sys.stderr)
        return 2
    content = json.dumps([_strict_json(asdict(made)) for made in claims], indent=1)
    _write(options.book / "claims.json", content + "\n")

    failed = [made for made in claims if not made.holds]
    count = f"{len(claims) - len(failed)} of {len(claims)}"
    print(f"{count} claims hold")
    # Quarto executes the opening page first, so that its cells cannot know
    opening = options.book / "index.html"
    if opening.is_file():
        page = re.sub(
            r'(<span id="claims-count">)[^<]*', rf"\g<1>: {count}.", opening.read_text("utf-8")
        )
        _write(opening, page)
    for made in failed:
        value, threshold = _numbers(made)
        interval = f" {_interval(made)}".replace("\\", "") if made.interval else ""
        print(
            f"  failed: {made.id} ({made.chapter}): measured {value}{interval}, "
            f"criterion {made.op} {threshold}"
        )
    return int(options.strict and (bool(failed) or not claims))


# --- records -------------------------------------------------------------------------------------


def _folder() -> Path:
    return edition.built() / "claims"


def _record(made: Claim) -> None:
    _refuse_duplicate(made)
    folder = _folder() / made.chapter
    path = folder / f"{made.id}.json"
    if path.exists():
        order = _read(path)[0]
    else:
        order = 1 + max((_read(other)[0] for other in folder.glob("*.json")), default=0)
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, json.dumps({"order": order, **asdict(made)}, indent=1) + "\n")


def _refuse_duplicate(made: Claim) -> None:
    for path in _folder().glob(f"*/{made.id}.json"):
        chapter = path.parent.name
        if chapter != made.chapter and _is_stale(path):
            path.unlink(missing_ok=True)
        elif chapter != made.chapter:
            raise ValueError(
                f"claim {made.id!r} of chapter {made.chapter!r} is already made in chapter "
                f"{chapter!r}: give one of them another id"
            )
        elif _read(path)[1].statement != made.statement:  # else its cell was run again
            raise ValueError(
                f"claim {made.id!r} is made twice in chapter {chapter!r}: give one of them "
                f"another id (or, if you reworded it, run the chapter from its first cell)"
            )


def _is_stale(path: Path) -> bool:
    """Whether a record's chapter left the book, or was edited since: the claim may have moved."""
    try:
        sources = {source.stem: source for source in _book_chapters()}
    except FileNotFoundError:
        return False
    source = sources.get(path.parent.name)
    if source is None or not source.exists():
        return True
    return source.stat().st_mtime > path.stat().st_mtime


def _read(path: Path) -> tuple[int, Claim]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        made = Claim(**{field.name: record[field.name] for field in fields(Claim)})
        interval = tuple(made.interval) if made.interval else None
        return record["order"], Claim(**{**asdict(made), "interval": interval})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"the claim record {path} is damaged: delete it and run its chapter again"
        ) from error


def _write(path: Path, content: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _book_chapters() -> list[Path]:
    """The sources of the book's chapters and appendices, in order, from _quarto.yml here."""
    import yaml

    book = yaml.safe_load(Path("_quarto.yml").read_text(encoding="utf-8")).get("book", {})

    def sources(entries: list[Any]) -> Iterator[Path]:
        for entry in entries:
            if isinstance(entry, dict):
                yield from sources([entry.get("part", ""), entry.get("file", "")])
                yield from sources(entry.get("chapters") or [])
            elif str(entry).endswith((".qmd", ".md", ".ipynb")):
                yield Path(entry)

    return list(sources([*(book.get("chapters") or []), *(book.get("appendices") or [])]))


def _strict_json(value: Any) -> Any:
    """JSON has no NaN and no infinities: they become null."""
    if isinstance(value, dict):
        return {name: _strict_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --- checks and texts ----------------------------------------------------------------------------


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r} must be lowercase letters, digits and single hyphens")


def _plain(id: str, what: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"claim {id!r}: {what} must be a number, not {value!r} of type {type(value).__name__}"
        )
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _verdict(made: Claim) -> str:
    return "✓ holds" if made.holds else "✗ fails"


def _seeds(n: int) -> str:
    return f"{n} seed{'s' if n > 1 else ''}"


def _numbers(made: Claim) -> tuple[str, str]:
    """Value and threshold: a threshold is not rounded to three digits, and a value not so far that
    it seems to be its threshold."""
    threshold = _number(made.threshold)
    if _parsed(threshold) != made.threshold:
        threshold = _number(made.threshold, 6)
    for digits in range(3, 18):
        value = _number(made.value, digits)
        if made.value == made.threshold or _parsed(value) != _parsed(threshold):
            break
    return value, threshold


def _measured(made: Claim) -> str:
    return _numbers(made)[0]


def _criterion(made: Claim) -> str:
    return f"{_SIGNS[made.op]} {_numbers(made)[1]}"


def _interval(made: Claim) -> str:
    low, high = made.interval
    return rf"\[{_number(low)}, {_number(high)}\]"


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
