"""The published edition in docs/ is sound in itself. That it lags behind the sources is no failure
but a warning: it is refreshed now and then, by a full-scale build and in a commit of its own."""

import warnings
from pathlib import Path

import book_checks as checks
import pytest

from bookbinder import publish

ROOT = Path(__file__).resolve().parents[2]


def test_the_published_edition_is_whole() -> None:
    docs = ROOT / "docs"
    if not docs.is_dir():
        pytest.skip("nothing is published yet: make publish")
    publish.check_size(docs)
    if told := publish.lag(ROOT, docs):
        warnings.warn(told, stacklevel=1)
    for check in (checks.broken_links, checks.remote_requests, checks.cell_errors):
        assert check(docs) == []
