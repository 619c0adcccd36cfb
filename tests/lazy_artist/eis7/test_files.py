"""The challenge's files: found, checked, downloaded, and what a chapter says of them."""

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave

from lazy_artist import data
from lazy_artist.data import DataNotFoundError, DataWarning, StandInWarning
from lazy_artist.eis7 import cnn, files

NAME = "mnist_model.pt"
CONTENT = b"what the author released"


@pytest.fixture
def places(monkeypatch, tmp_path) -> tuple[Path, Path]:
    """Where a made-up file of the challenge, with known content, may lie: data folder and cache."""
    monkeypatch.setitem(files.MD5, NAME, hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "cache"))
    folders = tmp_path / "data" / "eis-vii", tmp_path / "cache" / "data" / "eis-vii"
    for folder in folders:
        folder.mkdir(parents=True)
    return tuple(folder / NAME for folder in folders)


def test_a_file_is_found_in_the_data_folder_then_in_the_cache_and_never_used_damaged(places):
    given, cache = places
    with pytest.raises(DataNotFoundError, match="OFFLINE forbids a download.*LAZY_ARTIST_DATA"):
        files.read(NAME)
    cache.write_bytes(CONTENT)
    assert files.read(NAME) == CONTENT
    given.write_bytes(b"damaged")
    with pytest.warns(DataWarning, match="wrong checksum") as caught:
        assert files.read(NAME) == CONTENT
    assert str(given) in str(caught[0].message) and given.read_bytes() == b"damaged"  # left alone
    given.write_bytes(CONTENT)
    cache.unlink()
    assert files.read(NAME) == CONTENT
    with pytest.raises(ValueError, match="unknown file 'x'; the files are mnist_model.pt"):
        files.read("x")


def test_a_download_is_checked_and_kept(places, monkeypatch):
    _, cache = places
    monkeypatch.setenv("LAZY_ARTIST_OFFLINE", "0")
    sent, asked = [CONTENT], []
    monkeypatch.setattr(data, "download", lambda url: asked.append(url) or sent[-1])
    assert files.read(NAME) == CONTENT == cache.read_bytes()
    assert asked[0].endswith(f"/3e38c675bed8d5a68724a6379ddbf09091d0230f/{NAME}")
    cache.write_bytes(b"damaged")
    sent.append(b"another")
    with pytest.warns(DataWarning), pytest.raises(DataNotFoundError, match=r"github.*checksum"):
        files.read(NAME)
    assert cache.read_bytes() == b"damaged"


def test_the_pickle_may_hold_arrays_and_nothing_else(monkeypatch):
    arrays = {"labels": np.eye(113), "model_labels": np.tri(113, dtype=np.int32)}
    monkeypatch.setattr(files, "read", lambda name: pickle.dumps(arrays, protocol=4))
    truth, released = files.transformer_labels()
    assert np.array_equal(truth, np.eye(113)) and np.array_equal(released, np.tri(113))

    class Trap:
        def __reduce__(self):
            return (print, ("this must not run",))

    for content in (Trap(), np.eye, {"x": np.array([Trap()], object)}):
        with pytest.raises(pickle.UnpicklingError, match="it is not read"):
            data.ArraysOnly(io.BytesIO(pickle.dumps(content, protocol=4))).load()


def test_the_clue_picture_is_averaged_down(monkeypatch):
    buffer = io.BytesIO()
    big = np.kron(cnn.CLUE / 255, np.ones((8, 8)))
    imsave(buffer, big, cmap="gray", vmin=0, vmax=1, format="png")
    monkeypatch.setattr(files, "read", lambda _: buffer.getvalue())
    assert np.abs(files.clue_picture() - cnn.CLUE / 255).max() < 0.01


@pytest.mark.filterwarnings("ignore:USING THE PROCEDURAL")
def test_stand_ins_are_announced_and_released_files_named(monkeypatch):
    data.ask_again()  # as a new build does
    for challenge, name in files.CHALLENGES.items():
        with pytest.warns(StandInWarning, match=f"STAND-IN FOR THE CHALLENGE'S {name}"):
            assert files.source(challenge) == "stand-in"
        notice = files.notice(challenge)
        assert notice.startswith("::: {.callout-warning}") and f"stand-in for `{name}`" in notice
    files.source.cache_clear()
    monkeypatch.setattr(files, "read", lambda name: b"")
    assert files.source("cnn") == "released" and "Drawn digits" in files.notice("cnn")
    notice = files.notice("transformer")
    assert "callout-note" in notice and "287c107e12b838615ac0599260823514" in notice
