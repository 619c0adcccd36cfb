"""The published edition in docs/: sound in itself, and how far it lags behind the sources.

An edition is refreshed now and then, by `make publish` and in a commit of its own, not with every
edit: it takes a full-scale build. So a lag is no failure, or every commit between two editions
would fail; it is a warning, which pytest prints at its end, and `make check` says it in a line of
its own. Damage is a failure: a file that is missing, altered or not recorded, an unreadable record,
more than the permitted size, a dead link.
"""

import warnings
from pathlib import Path

import book_checks as checks
import pytest

from bookbinder import publish

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def docs() -> Path:
    if not (ROOT / "docs").is_dir():
        pytest.skip("nothing is published yet: make publish")
    return ROOT / "docs"


def tell_lag(root: Path, docs: Path) -> None:
    if told := publish.lag(root, docs):
        warnings.warn(told, publish.LagWarning, stacklevel=2)


def test_the_published_edition_is_whole(docs: Path) -> None:
    assert publish.faults(docs) == []


def test_the_published_edition_has_no_dead_links_and_asks_nothing_of_the_network(
    docs: Path,
) -> None:
    assert checks.broken_links(docs) == []
    assert checks.remote_requests(docs) == []
    assert checks.cell_errors(docs) == []


def test_a_lag_of_the_published_edition_is_told(docs: Path) -> None:
    tell_lag(ROOT, docs)


def test_a_lag_is_a_warning_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "index.qmd").write_text("# Welcome\n")
    (tmp_path / "docs" / publish.EDITION).write_text(
        '{"commit": "0123456789abcdef", "built": "2020-01-01", "sources": {}, "files": {}}'
    )
    with pytest.warns(publish.LagWarning, match="built from 0123456789ab .*since: index.qmd"):
        tell_lag(tmp_path, tmp_path / "docs")
