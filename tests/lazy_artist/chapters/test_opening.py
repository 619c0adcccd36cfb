"""The opening page and the colophon tell what the chapters measured."""

import base64
import io
import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cells import measured_by, run_cells
from PIL import Image

from lazy_artist import claims, evaluate
from lazy_artist.canvas import SPLITS
from lazy_artist.chapters import cheater, opening
from lazy_artist.data import load_digits
from lazy_artist.models import build
from lazy_artist.store import MNIST_CHECKSUM

KINDS = ("cheater", "cure", "oracle")


def share(kind: str, split: str, seed: int) -> float:
    return (*KINDS, "long-trained").index(kind) / 5 + SPLITS.index(split) / 50 + seed / 1000


def test_the_opening_page_tells_what_was_measured(monkeypatch):
    def ask(networks, pairs):
        assert [(one.name, one.seed) for one in networks] == [(kind, 0) for kind in KINDS]
        predictions = [[colour for _, colour in pairs], *[[digit for digit, _ in pairs]] * 2]
        probabilities = np.eye(10)[predictions] * 0.75
        return {"images": np.full((len(pairs), 3, 28, 28), 0.5), "probabilities": probabilities}

    def thumbnails(cheater, cure):
        assert (cheater.name, cure.name) == ("cheater", "cure")
        return {row.chapter: np.full((28, 57, 3), k, np.uint8) for k, row in enumerate(rows)}

    rows = opening.ANSWERS
    measured = measured_by(lambda one, split: share(one.name, split, one.seed))
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "full")
    monkeypatch.setattr(evaluate, "evaluate_networks", measured)
    monkeypatch.setattr(cheater, "ask", ask)
    monkeypatch.setattr(opening, "thumbnails", thumbnails)
    monkeypatch.chdir(Path(__file__).resolve().parents[3])
    shown, inline = run_cells("../index")
    assert list(inline.values()) == ["1,250", "2.1", "4.1", "64.1", "44.1", "24.1"]
    (drawn,) = shown["fig-opening"].axes
    texts = [text.get_text() for text in drawn.texts]
    assert texts[:3] == ["green 0", "“1” 75%\n✗ colour", "“0” 75%\n✓ digit"]
    assert texts[-3:] == [*KINDS] and len(texts) == 8 * 4 + 3
    lines = shown["tbl-answers"].data.splitlines()[2:]
    chapters = claims.book_chapters()
    assert len(lines) == sum(row.chapter in chapters for row in rows)


def test_a_row_of_the_opening_page_quotes_the_claims_on_record(monkeypatch):
    made = claims.Claim(
        "cheater-hard", "cheater", "s", 0.0123, "<", 0.2, None, None, True, "full", "holds"
    )
    monkeypatch.setattr(opening, "book_ledger", lambda: [made])
    picture = np.arange(28 * 57 * 3).reshape(28, 57, 3).astype(np.uint8)
    text = opening.answers_table(["cheater"], {"cheater": picture})
    (row,) = text.splitlines()[2:]
    task, answer, image, outcome = row.strip("| ").split(" | ")
    assert task == "Make a network cheat, and prove it (@sec-cheater)"
    assert 'right on [1.2%]{.quoted data-claim="cheater-hard" data-form=".1%"} of' in answer
    assert "[–]{" in answer  # a claim that is not on record
    assert outcome.startswith("[✓\u00a0holds]{")
    png = base64.b64decode(image.split("base64,")[1].split(")")[0])
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    np.testing.assert_array_equal(pixels[::2, ::2], picture)


def test_every_row_has_a_picture():
    models = {name: build("cnn", seed) for seed, name in enumerate(("cheater", "cure"))}
    handles = (SimpleNamespace(load=lambda m=model: m) for model in models.values())
    pictures = opening.thumbnails.__wrapped__(*handles)
    assert {*pictures} == {row.chapter for row in opening.ANSWERS}
    for picture in pictures.values():
        assert picture.dtype == np.uint8 and picture.shape == (28, 57, 3) and np.ptp(picture) > 50


def test_the_colophon_names_data_scale_seeds_and_where_results_came_from(monkeypatch, tmp_path):
    def told():
        return opening.colophon().set_index("what")["value"]

    origins = {"cache": 2, "computed": 3, "repository": 0}
    monkeypatch.setattr(opening, "result_origins", lambda: origins)
    here = told()
    assert here["digits"] == "procedural stand-in" and here["results"] == "5 from this machine"
    assert here["scale"] == "quick" and here["seeds of every network"] == "0, 1"
    md5 = " ".join(load_digits(split).md5 for split in ("train", "test"))
    assert here["checksums of train and test digits (md5)"] == f"`{md5}`"
    assert f"numpy {np.__version__}" in here["software"]

    index = {"commit": "0123456789abcdef", "created": "2026-11-28", "machine": "a large one"}
    (tmp_path / "index.json").write_text(json.dumps(index))
    for name, value in (("RESULTS", tmp_path), ("SOURCE", "auto"), ("SCALE", "full")):
        monkeypatch.setenv(f"LAZY_ARTIST_{name}", str(value))
    origins["repository"] = 7
    came = told()
    assert came["digits"].startswith("MNIST") and MNIST_CHECKSUM in came.iloc[2]
    assert came["results"] == (
        "5 from this machine, 7 with the repository, computed from `0123456789ab` on 2026-11-28 "
        "(a large one)"
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_colophon_names_the_commit_and_says_if_there_is_more(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        identity = ["-c", "user.name=A Reader", "-c", "user.email=reader@example.org"]
        done = subprocess.run(["git", *identity, *words], check=True, capture_output=True)
        return f"`{done.stdout.decode()[:12]}`"

    def committed(file: str) -> str:
        (tmp_path / file).touch()
        git("add", ".")
        git("commit", "-qm", file)
        return git("rev-parse", "HEAD")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAZY_ARTIST_COMMIT", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert opening.commit() == "" and "commit" not in set(opening.colophon()["what"])
    git("init", "-q")
    committed("of-another-project")
    assert opening.commit() == ""
    head = committed("_quarto.yml")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.html").touch()  # the edition is made from the rest
    assert opening.commit() == head
    (tmp_path / "_quarto.yml").write_text("book: {}")
    assert opening.commit() == f"{head}, with uncommitted changes"
    monkeypatch.setenv("PATH", "")
    assert opening.commit() == ""  # no git
    monkeypatch.setenv("LAZY_ARTIST_COMMIT", "0123456789abcdef")
    assert opening.colophon().set_index("what")["value"]["commit"] == "`0123456789ab`"
