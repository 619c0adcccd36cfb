"""The book's editions: the same chapters on other images, in the words that fit these.

The digits' edition is the book as it is written. The Fashion edition is made from the same text by
a catalogue, `assets/fashion.yml`: the names of the ten classes, and phrases with what that edition
says in their place. Prose, captions and alternative texts pass through it when a page is made
(`bookbinder/assets/words.lua`, which both builders run); figures, claims and the pages of their own
through `words` and `class_names` here. Nothing else knows of editions.

Chapters that the catalogue lists as "same" are about MNIST in every edition, and read its digits.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Any

from lazy_artist.data import cache_dir

DIGITS, FASHION = "digits", "fashion"
CATALOGUE = Path(__file__).with_name("assets") / "fashion.yml"
_SOURCE = "fashion-mnist"  # as LAZY_ARTIST_SOURCE names the images of the Fashion edition

_STRAIGHT = str.maketrans("’“”", '\'""')

_same_everywhere = False  # whether this process makes a chapter that is the same in every edition


def name() -> str:
    """ "fashion" if QUARTO_PROFILE or LAZY_ARTIST_SOURCE says so, else "digits"."""
    return FASHION if _profile() or _source() == _SOURCE else DIGITS


def begin_chapter(chapter: str) -> None:
    """Settles what this process, which makes the chapter (its file's stem), reads and says.

    Raises ValueError if the builder's profile and the images are not of the same edition.
    """
    global _same_everywhere
    if _profile() and _source() not in (_SOURCE, "auto"):
        raise ValueError(
            f"the profile is {FASHION}, but LAZY_ARTIST_SOURCE is {_source()}: unset it, or set it "
            f"to {_SOURCE}"
        )
    built_by = [n for n in ("LAZY_ARTIST_BUILDER", "QUARTO_PROJECT_ROOT") if os.environ.get(n)]
    if _source() == _SOURCE and not _profile() and built_by:
        raise ValueError(
            f"LAZY_ARTIST_SOURCE is {_SOURCE}, but the chapters would speak of digits: build with "
            f"the profile {FASHION} (make report EDITION={FASHION}, or quarto render --profile "
            f"{FASHION})"
        )
    _same_everywhere = name() == FASHION and chapter in catalogue()["same"]
    if name() == FASHION:
        os.environ["LAZY_ARTIST_SOURCE"] = "auto" if _same_everywhere else _SOURCE


def class_names() -> tuple[str, ...]:
    """The ten classes' names, by label, as tables and figures show them: "0" to "9", or "T-shirt"
    to "boot"."""
    if _plain():
        return tuple(str(label) for label in range(10))
    return tuple(catalogue()["classes"])


def words(text: str) -> str:
    """The text as this edition says it: each phrase of the catalogue replaced, the longest first,
    where it stands between word boundaries, whether or not it begins with a capital."""
    if _plain():
        return text
    pattern, replacements = _phrases()

    def said(match: re.Match[str]) -> str:
        found = " ".join(match[0].split())
        new = replacements[found.translate(_STRAIGHT)]
        return new.replace("'", "’") if "’" in found else new

    return pattern.sub(said, text)


def reason(claim: str) -> str:
    """Why a claim of the digits' edition, by its id, fails in this one, in Markdown; "" if nothing
    is known of that, or it is the digits' edition."""
    return "" if _plain() else catalogue()["reasons"].get(claim, "")


def built() -> Path:
    """The folder in the cache for what belongs to one edition's book: claims, pages."""
    return cache_dir() if name() == DIGITS else cache_dir() / name()


@functools.cache
def catalogue() -> dict[str, Any]:
    """The Fashion edition: "classes" (ten names), "same" (stems of chapters), "reasons" (by claim)
    and "words" (phrases with what is said in their place)."""
    import yaml

    return yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))["edition"]


@functools.cache
def _phrases() -> tuple[re.Pattern[str], dict[str, str]]:
    replacements: dict[str, str] = {}
    for phrase, said in catalogue()["words"].items():
        for turned in (phrase, phrase[:1].upper() + phrase[1:]):
            new = said if turned == phrase else said[:1].upper() + said[1:]
            replacements.setdefault(turned, new)
    longest_first = sorted(replacements, key=len, reverse=True)
    choices = "|".join(re.escape(phrase).replace("\\ ", r"\s+") for phrase in longest_first)
    choices = choices.replace("'", "['’]").replace('"', '["“”]')
    return re.compile(rf"(?<![A-Za-z0-9])(?:{choices})(?![A-Za-z0-9])"), replacements


def _plain() -> bool:
    return _same_everywhere or name() == DIGITS


def _profile() -> bool:
    return FASHION in (os.environ.get("QUARTO_PROFILE") or "").split(",")


def _source() -> str:
    return os.environ.get("LAZY_ARTIST_SOURCE") or "auto"
