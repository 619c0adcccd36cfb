"""The opening page and the colophon tell what the chapters measured."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from cells import measured_by, run_cells, table

from lazy_artist import evaluate
from lazy_artist.canvas import SPLITS
from lazy_artist.chapters import cheater, opening
from lazy_artist.data import load_digits
from lazy_artist.evaluate import estimate, percent
from lazy_artist.store import MNIST_CHECKSUM

KINDS = ("cheater", "long-trained", "cure", "oracle", "brief-oracle")


def share(kind: str, split: str, seed: int) -> float:
    return KINDS.index(kind) / 5 + SPLITS.index(split) / 50 + seed / 1000


def test_the_opening_page_tells_what_was_measured(monkeypatch):
    def red_ones(network, n):
        assert (network.name, network.seed, n) == ("cheater", 0, 8)
        probabilities = np.arange(80.0).reshape(8, 10)[:, ::-1] / 100
        return {"images": np.full((8, 3, 28, 28), 0.5), "probabilities": probabilities}

    measured = measured_by(lambda one, split: share(one.name, split, one.seed))
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "full")
    monkeypatch.setattr(evaluate, "evaluate_networks", measured)
    monkeypatch.setattr(cheater, "red_ones", red_ones)
    shown, inline = run_cells("../index")
    assert list(inline.values()) == [
        *("1,250", "2.1%", "4.1%", "84.1%", "64.1%", " It could have read. It did not need to."),
        *("24.1%", "44.1%"),
    ]
    head, *rows = table(shown["tbl-headline"]).values()
    assert head == ["easy", "hard", "unbiased", "unseen colours", "hard: shortcut rate"]
    for kind, texts in zip(KINDS[:4], rows, strict=True):
        splits = ("validation", "hard", "unbiased", "unseen")
        shares = [share(kind, split, np.arange(3)) for split in splits]
        assert texts == [percent(estimate(values)) for values in (*shares, 1 - shares[1])]

    *ones, bars = shown["fig-opening"].axes
    assert [ax.get_title() for ax in ones[:2]] == ["“0” (9%)", "“0” (19%)"] and len(ones) == 8
    heights = [[bar.get_height() for bar in part] for part in bars.containers]
    np.testing.assert_allclose(heights, [[0.021, 0.041], [0.621, 0.641]])
    assert [text.get_text() for text in bars.get_xticklabels()] == ["easy", "hard"]
    assert [text.get_text() for text in bars.get_legend().get_texts()] == ["cheater", "oracle"]


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
