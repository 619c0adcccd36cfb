"""The opening page and the colophon tell what the chapters tell."""

import shutil
import subprocess

import numpy as np
import pytest

from lazy_artist.data import load_digits
from lazy_artist.experiments import cheating, closing


def test_the_opening_page_tells_what_the_chapters_tell():
    page = closing.opening()
    lazy, honest = cheating.accuracies("cheater"), cheating.accuracies("oracle")
    assert page["easy"] == f"{100 * lazy['validation'].mean:.1f}%"
    assert page["hard"] == f"{100 * lazy['hard'].mean:.1f}%"
    assert page["oracle"] == f"{100 * honest['hard'].mean:.1f}%"
    figure = page["figure"]
    assert figure["bars"]["oracle"] == {"easy": honest["validation"], "hard": honest["hard"]}
    assert len(figure["images"]) == len(figure["probabilities"]) == 8


def test_the_headline_has_the_numbers_of_the_chapters(monkeypatch):
    lazy, honest = cheating.accuracies("cheater"), cheating.accuracies("oracle")
    monkeypatch.setattr(closing.curing, "results", lambda method: {"combination": honest}[method])
    table = closing.headline().set_index("network")
    assert len(table) == 4
    assert table.loc["the cheater", "hard"] == closing.percent(lazy["hard"])
    assert table.loc["the cheater", "easy"] == closing.percent(lazy["validation"])
    oracle = table.loc["the oracle, never tempted"]
    assert oracle["unseen inks"] == closing.percent(honest["unseen"])
    assert oracle["hard: says the ink's digit"] == closing.percent(honest["hard follows"])
    assert (table.loc["cured, without colour labels"] == oracle).all()


def test_the_colophon_names_data_scale_and_seeds():
    told = closing.colophon().set_index("what")["value"]
    assert told["digits"] == "procedural stand-in"
    assert told["scale"] == "quick" and told["seeds of every network"] == "0, 1"
    assert load_digits("train").md5 in told["checksum of train digits (md5)"]
    assert load_digits("test").md5 in told["checksum of test digits (md5)"]
    assert f"numpy {np.__version__}" in told["software"]


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_colophon_names_the_commit_and_says_if_there_is_more(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=A Reader", "-c", "user.email=reader@example.org"]
        done = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)
        return done.stdout.decode().strip()

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAZY_ARTIST_COMMIT", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert closing.commit() == ""  # no repository
    git("init", "-q")
    (tmp_path / "of-another-project").touch()
    git("add", ".")
    git("commit", "-qm", "Not the book's")
    assert closing.commit() == ""
    (tmp_path / "_quarto.yml").touch()
    git("add", ".")
    git("commit", "-qm", "The book")
    head = git("rev-parse", "HEAD")[:12]
    assert closing.commit() == f"`{head}`"
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.html").touch()  # the edition is made from the rest
    assert closing.commit() == f"`{head}`"
    (tmp_path / "_quarto.yml").write_text("book: {}")
    assert closing.commit() == f"`{head}`, with uncommitted changes"
    monkeypatch.setenv("LAZY_ARTIST_COMMIT", "0123456789abcdef")
    assert closing.commit() == "`0123456789ab`"
    monkeypatch.delenv("LAZY_ARTIST_COMMIT")
    monkeypatch.setenv("PATH", "")
    assert closing.commit() == ""  # no git


def test_the_colophon_is_silent_where_there_is_no_commit(monkeypatch):
    monkeypatch.setattr(closing, "commit", lambda: "`0123456789ab`")
    assert closing.colophon().set_index("what")["value"]["commit"] == "`0123456789ab`"
    monkeypatch.setattr(closing, "commit", lambda: "")
    assert "commit" not in set(closing.colophon()["what"])
