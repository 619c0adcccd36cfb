"""Tiny files with patched checksums play MNIST; a folder plays the mirror. Nothing is fetched."""

from __future__ import annotations

import errno
import functools
import gzip
import hashlib
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lazy_artist import data, standin
from lazy_artist.data import (
    DataNotFoundError,
    DataWarning,
    Digits,
    StandInWarning,
    cache_dir,
    load_digits,
    procedural_digits,
)

REAL_MIRRORS, REAL_DOWNLOAD = data._mirrors, data.download
IMAGES = "train-images-idx3-ubyte"
OFFLINE = OSError("network is unreachable")


def idx(array: np.ndarray) -> bytes:
    return np.array([0x800 + array.ndim, *array.shape], ">u4").tobytes() + array.tobytes()


def tiny(seed: int) -> dict[str, bytes]:
    """The four decompressed files of a data set of 6 and 4 images."""
    rng = np.random.default_rng(seed)
    files = {}
    for split, count in (("train", 6), ("t10k", 4)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        files[f"{split}-images-idx3-ubyte"] = idx(images)
        files[f"{split}-labels-idx1-ubyte"] = idx(np.arange(count, dtype=np.uint8))
    return files


CANON = {"mnist": tiny(0), "fashion-mnist": tiny(1)}
GOOD = CANON["mnist"][IMAGES]
TRAIN = np.frombuffer(GOOD, np.uint8, offset=16).reshape(6, 28, 28)


def put(root: Path, dataset: str = "mnist") -> Path:
    """Writes a data set's compressed files below root, as LAZY_ARTIST_DATA has them."""
    folder = root / dataset
    folder.mkdir(parents=True)
    for file, raw in CANON[dataset].items():
        (folder / f"{file}.gz").write_bytes(gzip.compress(raw))
    return folder


def forget() -> None:
    """As in a new process."""
    for kept in (data._load_dataset, data._load_standin, data._has_mnist):
        kept.cache_clear()


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """No memory of earlier loads, an empty cache, no network, and the tiny files as canon."""
    for name in [name for name in os.environ if name.startswith("LAZY_ARTIST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "60")
    md5 = {
        dataset: {file: hashlib.md5(raw).hexdigest() for file, raw in files.items()}
        for dataset, files in CANON.items()
    }
    monkeypatch.setattr(data, "_MD5", md5)
    monkeypatch.setattr(data, "_mirrors", lambda dataset: ["http://nowhere.invalid/"])
    monkeypatch.setattr(data, "download", mock.Mock(side_effect=OFFLINE))
    monkeypatch.setattr(data, "_dead_mirrors", {})
    forget()
    yield
    forget()


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """A mirror that works; returns its folder."""
    folder = put(tmp_path / "mirror")
    read = mock.Mock(side_effect=lambda url: Path(url.removeprefix("file://")).read_bytes())
    monkeypatch.setattr(data, "_mirrors", lambda dataset: [folder.as_uri() + "/"])
    monkeypatch.setattr(data, "download", read)
    return folder


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """MNIST's files where LAZY_ARTIST_DATA has them."""
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(tmp_path / "data"))
    return put(tmp_path / "data")


# --- digits, names and folders -------------------------------------------------------------------


def test_digits_are_read_only_with_md5_of_images_then_labels():
    images, labels = np.ones((2, 28, 28), np.uint8), np.array([3, 9])
    digits = Digits(images, labels, "a test")
    expected = hashlib.md5(b"\x01" * 2 * 784 + b"\x03" + b"\0" * 7 + b"\x09" + b"\0" * 7)
    assert digits.md5 == expected.hexdigest() and len(digits) == 2
    for array in (digits.images, digits.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


TWO, NONE = np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (TWO.astype(np.float32), NONE, TypeError, "images .* uint8, not float32"),
        ([[0]], NONE, TypeError, "images .* not list"),
        (TWO, NONE.astype(np.int32), TypeError, "labels .* int64, not int32"),
        (TWO.reshape(2, 784), NONE, ValueError, r"\(N, 28, 28\), not \(2, 784\)"),
        (TWO, np.zeros(3, np.int64), ValueError, r"\(2,\), .*, not \(3,\)"),
        (TWO, np.array([0, 10]), ValueError, "from 0 to 10"),
        (TWO, np.array([-1, 1]), ValueError, "from -1 to 1"),
    ],
)
def test_digits_refuse_what_is_not_digits(images, labels, error, message):
    with pytest.raises(error, match=message):
        Digits(images, labels, "a test")


def test_unknown_names_and_sizes_are_refused_with_the_valid_ones(monkeypatch):
    with pytest.raises(ValueError, match="'validation'.*train, test"):
        load_digits("validation")
    with pytest.raises(ValueError, match="'cifar'.*auto, mnist, fashion-mnist, procedural"):
        load_digits("train", "cifar")
    monkeypatch.setenv("LAZY_ARTIST_SOURCE", "svhn")
    with pytest.raises(ValueError, match="LAZY_ARTIST_SOURCE is 'svhn'.*fashion-mnist"):
        load_digits("train")
    assert load_digits("test", "procedural").source == "procedural stand-in"
    for size in ("59", "-1", "many", "60.5"):
        monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", size)
        with pytest.raises(ValueError, match=f"STANDIN_SIZE is '{size}'.*at least 60"):
            load_digits("test", "procedural")
    with pytest.raises(ValueError, match="at least 1, not 0"):
        procedural_digits(0)


def test_the_source_variable_says_what_auto_means(monkeypatch, folder):
    put(folder.parent, "fashion-mnist")
    assert load_digits("train").source == "MNIST (LAZY_ARTIST_DATA)"
    monkeypatch.setenv("LAZY_ARTIST_SOURCE", "fashion-mnist")
    assert load_digits("train").source == "Fashion-MNIST (LAZY_ARTIST_DATA)"
    monkeypatch.setenv("LAZY_ARTIST_SOURCE", "procedural")
    assert load_digits("train").source == "procedural stand-in"
    assert load_digits("train", "mnist").source == "MNIST (LAZY_ARTIST_DATA)"


def test_cache_dir(monkeypatch, tmp_path):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("LAZY_ARTIST_CACHE")
    package = tmp_path / "house" / "code" / "lazy_artist" / "data.py"
    monkeypatch.setattr(data, "__file__", str(package))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "lazy-artist"
    package.parent.mkdir(parents=True)
    (tmp_path / "house" / "pyproject.toml").touch()
    assert cache_dir() == tmp_path / "house" / ".cache"


# --- the search ----------------------------------------------------------------------------------


def test_reads_the_data_folder_once_however_it_is_compressed(folder):
    digits = load_digits("train", "mnist")
    assert np.array_equal(digits.images, TRAIN)
    assert digits.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(load_digits("test", "mnist")) == 4
    assert load_digits("train", "mnist") is digits
    forget()
    (folder / f"{IMAGES}.gz").write_bytes(gzip.compress(GOOD, compresslevel=1, mtime=12345))
    assert np.array_equal(load_digits("train", "mnist").images, TRAIN)
    data.download.assert_not_called()


def test_downloads_from_the_first_good_mirror_into_the_cache_and_then_reads_it(
    mirror, monkeypatch, tmp_path
):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / f"{IMAGES}.gz").write_bytes(b"<html>not here</html>")
    mirrors = [bad.as_uri() + "/", mirror.as_uri() + "/"]
    monkeypatch.setattr(data, "_mirrors", lambda dataset: mirrors)
    kept = tmp_path / "cache" / "data" / "mnist" / f"{IMAGES}.gz"
    for _ in range(2):
        digits = load_digits("train", "mnist")
        assert np.array_equal(digits.images, TRAIN) and digits.source == "MNIST (downloaded)"
        assert kept.read_bytes() == (mirror / kept.name).read_bytes()
        assert data.download.call_count == 3  # images twice, labels once
        forget()
    assert not list(kept.parent.glob("*.tmp"))


def test_no_network_and_no_data_is_an_error_with_remedies(monkeypatch, tmp_path):
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(tmp_path / "nothing"))
    words = [
        "Fashion-MNIST cannot be had", str(tmp_path / "nothing" / "fashion-mnist"),
        str(tmp_path / "cache" / "data" / "fashion-mnist"), "network is unreachable",
        "Set LAZY_ARTIST_DATA", "connect to the network", 'source="procedural"',
    ]  # fmt: skip
    with pytest.raises(DataNotFoundError, match=".*".join(words)):
        load_digits("train", "fashion-mnist")


def test_auto_without_mnist_announces_the_stand_in_once():
    with pytest.warns(StandInWarning, match="PROCEDURAL STAND-IN") as caught:
        train, test = load_digits("train"), load_digits("test")
    assert len(caught) == 1
    assert (len(train), len(test)) == (60, 10)
    assert train.source == test.source == "procedural stand-in"
    with pytest.raises(DataNotFoundError, match="network is unreachable"):
        load_digits("test", "mnist")
    assert data.download.call_count == 1  # a mirror that failed is not tried again


def test_auto_never_mixes_real_and_drawn_digits(folder):
    late = folder / "t10k-labels-idx1-ubyte.gz"
    late.rename(folder / "late")
    assert load_digits("train", "mnist").source == "MNIST (LAZY_ARTIST_DATA)"
    with pytest.warns(StandInWarning, match="t10k-labels"):
        assert load_digits("train").source == "procedural stand-in"
    (folder / "late").rename(late)  # too late for this process
    assert load_digits("test").source == "procedural stand-in"


def test_a_mirror_that_does_not_answer_is_given_up(monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(data, "download", REAL_DOWNLOAD)
    monkeypatch.setattr(requests, "get", lambda *_, **__: answered.wait())
    monkeypatch.setattr(data, "_CONNECT_SECONDS", 0.05)
    with pytest.raises(DataNotFoundError, match="no answer in 0.05 seconds"):
        load_digits("train", "mnist")
    answered.set()


def test_a_download_is_what_the_server_answers_and_a_refusal_an_error(tmp_path):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "there").write_bytes(b"content")
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        assert REAL_DOWNLOAD(f"{address}/there") == b"content"
        with pytest.raises(OSError, match="404"):
            REAL_DOWNLOAD(f"{address}/elsewhere")
    finally:
        server.shutdown()


def test_torchvision_still_has_mirrors():
    for dataset in ("mnist", "fashion-mnist"):
        assert {url[:4] + url[-1] for url in REAL_MIRRORS(dataset)} == {"http/"}


# --- damage --------------------------------------------------------------------------------------

DAMAGE = {
    "truncated gzip": (gzip.compress(GOOD)[:-100], "does not decompress"),
    "not gzip": (b"<html>", "does not decompress"),
    "empty": (b"", "wrong checksum"),
    "truncated": (gzip.compress(GOOD[:-1]), "wrong checksum"),
    "altered": (gzip.compress(GOOD[:-1] + bytes([GOOD[-1] ^ 1])), "wrong checksum"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_in_the_data_folder_is_named_and_skipped(name, folder, mirror, monkeypatch):
    content, reason = DAMAGE[name]
    path = folder / f"{IMAGES}.gz"
    path.write_bytes(content)
    monkeypatch.setenv("LAZY_ARTIST_OFFLINE", "1")
    with (
        pytest.warns(DataWarning, match=f"{IMAGES}.gz .*{reason}.*left alone"),
        pytest.raises(DataNotFoundError, match=f"{IMAGES}.gz .*{reason}.*_OFFLINE forbids"),
    ):
        load_digits("train", "mnist")
    data.download.assert_not_called()
    monkeypatch.delenv("LAZY_ARTIST_OFFLINE")
    with pytest.warns(DataWarning, match=f"{IMAGES}.gz .*{reason}.*left alone"):
        digits = load_digits("train", "mnist")
    assert np.array_equal(digits.images, TRAIN)
    assert digits.source == "MNIST (downloaded, LAZY_ARTIST_DATA)"
    assert path.read_bytes() == content and len(list(folder.iterdir())) == 4


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_in_the_cache_is_set_aside_and_fetched_again(name, mirror, tmp_path):
    content, reason = DAMAGE[name]
    path = put(tmp_path / "cache" / "data") / f"{IMAGES}.gz"
    path.write_bytes(content)
    with pytest.warns(DataWarning, match=f"{IMAGES}.gz .*{reason}.*set aside"):
        digits = load_digits("train", "mnist")
    assert np.array_equal(digits.images, TRAIN)
    assert path.with_name(path.name + ".damaged").read_bytes() == content
    assert path.read_bytes() == (mirror / path.name).read_bytes()
    assert data.download.call_count == 1


@pytest.mark.parametrize("source", ["mnist", "auto"])
def test_a_data_folder_without_read_permission(source, folder, monkeypatch):
    def refuse(path: Path) -> bytes:  # chmod would not do: the superuser may read all
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    words = rf"{folder}/{IMAGES}.gz cannot be read.*u\+rX {folder.parent}\).*LAZY_ARTIST_DATA"
    with pytest.raises(PermissionError, match=words):
        load_digits("train", source)


# --- the stand-in and its cache ------------------------------------------------------------------


def test_the_stand_in_is_kept_unless_its_generator_is_edited(monkeypatch, tmp_path):
    drawn = mock.Mock(wraps=procedural_digits)
    monkeypatch.setattr(data, "procedural_digits", drawn)
    first = load_digits("train", "procedural")
    forget()
    again = load_digits("train", "procedural")
    assert again is not first and drawn.call_count == 1
    assert (again.md5, again.source, len(again)) == (first.md5, "procedural stand-in", 60)
    edited = tmp_path / "standin.py"
    edited.write_bytes(Path(standin.__file__).read_bytes() + b"\n")
    monkeypatch.setattr(standin, "__file__", str(edited))
    forget()
    load_digits("train", "procedural")
    assert drawn.call_count == 2


def sprung():
    pytest.fail("an object was unpickled")


class Trap:
    def __reduce__(self):
        return sprung, ()


@pytest.mark.parametrize("damage", ["altered", "pickled", "short"])
def test_a_damaged_stand_in_is_drawn_again(damage, tmp_path):
    first = load_digits("train", "procedural")
    (path,) = (tmp_path / "cache" / "data" / "procedural").glob("train-*.npz")
    content, middle = path.read_bytes(), path.stat().st_size // 2
    if damage == "altered":
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    elif damage == "pickled":
        np.savez(path, images=np.array([Trap()]), labels=first.labels)
    else:
        np.savez(path, images=first.images[:5], labels=first.labels[:5])
    forget()
    with pytest.warns(DataWarning, match=f"{path.name} is damaged.*set aside"):
        assert load_digits("train", "procedural").md5 == first.md5
    forget()
    assert load_digits("train", "procedural").md5 == first.md5


def test_a_cache_that_cannot_be_written_to_costs_only_time(monkeypatch, tmp_path):
    full = mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    with monkeypatch.context() as patch, pytest.warns(DataWarning, match="No space.*ARTIST_CACHE"):
        patch.setattr(data.os, "fsync", full)
        assert len(load_digits("train", "procedural")) == 60
    left = {path.suffix for path in (tmp_path / "cache" / "data" / "procedural").iterdir()}
    assert left == {".lock"}
    (tmp_path / "file").touch()
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "file"))
    with pytest.warns(DataWarning, match="could not be kept"):
        assert len(load_digits("train", "procedural")) == 60


def test_two_processes_agree_and_load_no_torch(tmp_path):
    code = "import sys; from lazy_artist.data import load_digits; "
    code += "print(load_digits('train', 'procedural').md5, 'torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (process.communicate()[0] for process in both)
    assert first == second == f"{load_digits('train', 'procedural').md5} False\n"
    names = [path.name for path in (tmp_path / "cache" / "data" / "procedural").iterdir()]
    assert len(names) == 2  # the digits and the lock


# --- the generator -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn() -> Digits:
    return procedural_digits(2000, seed=3)


@given(st.integers(1, 45), st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_balanced_and_determined_by_the_seed(count, seed):
    digits = procedural_digits(count, seed)
    assert set(np.bincount(digits.labels, minlength=10)) <= {count // 10, -(-count // 10)}
    assert procedural_digits(count, seed).md5 == digits.md5
    assert count < 30 or not np.array_equal(
        procedural_digits(count, seed + 1).labels, digits.labels
    )


def test_shuffled_and_normalised_as_mnist_is(drawn):
    assert not np.array_equal(drawn.labels, np.sort(drawn.labels))
    assert len(np.unique(drawn.images.reshape(2000, -1), axis=0)) == 2000
    ink = drawn.images / 255
    assert 0.11 < ink.mean() < 0.15  # MNIST: 0.131
    assert 0.28 < ink.std() < 0.33  # MNIST: 0.308
    assert ink.max(axis=(1, 2)).min() > 0.6
    total, grid = ink.sum(axis=(1, 2)), np.arange(28)
    for axis in (1, 2):  # the centre of mass is at 14, up to the rounding to whole pixels
        centre = (ink.sum(axis=axis) * grid).sum(axis=1) / total
        assert abs(centre.mean() - 14) < 0.15
        assert np.quantile(np.abs(centre - 14), 0.99) < 1.5
    extents = np.stack([(drawn.images.max(axis=axis) > 127).sum(axis=1) for axis in (1, 2)])
    assert extents.max() <= 21  # half a pixel at either side, by the shift
    assert np.median(extents.max(axis=0)) in (19, 20)


def test_digits_have_their_loops(drawn):
    """Half of each digit's drawings or more have its number of enclosed areas, correctly placed."""
    heights = {digit: [] for digit in range(10)}
    for image, label in zip(drawn.images, drawn.labels, strict=True):
        areas, count = ndimage.label(np.pad(image, 1) < 100)
        middles = ndimage.center_of_mass(areas > 0, areas, range(1, count + 1))
        outer = areas[0, 0]
        heights[label].append([y for i, (y, _) in enumerate(middles, 1) if i != outer])
    for digit, loops in {0: 1, 1: 0, 3: 0, 5: 0, 6: 1, 7: 0, 8: 2, 9: 1}.items():
        share = np.mean([len(found) == loops for found in heights[digit]])
        assert share >= 0.5, f"{share:.0%} of the {digit}s have {loops} loops"
    assert np.median([y for found in heights[6] for y in found]) > 15
    assert np.median([y for found in heights[9] for y in found]) < 14


def test_skeletons_become_evenly_spaced_points_on_joined_strokes():
    control, basis, ends = standin._parse_skeleton("0,0 50,0 / 50,0 50,50")
    assert control.tolist() == [[0, 0], [0.5, 0], [0.5, 0.5]]
    assert ends.tolist() == [True, True, True]
    along = (np.arange(72) + 0.5) / 72
    expected = np.stack([np.minimum(along, 0.5), np.maximum(along - 0.5, 0)], axis=1)
    np.testing.assert_allclose(basis @ control, expected, atol=1e-12)
    np.testing.assert_allclose(basis.sum(axis=1), 1)  # moving all control points moves the curve


def test_a_straight_stroke_is_where_it_was_drawn():
    line = np.stack([np.zeros(72), np.linspace(-0.5, 0.5, 72)], axis=1)
    (image,) = standin._draw(line[None], np.random.default_rng(0))
    rows, columns = (np.flatnonzero(image.max(axis=axis)) for axis in (1, 0))
    assert 19 <= len(rows) <= 22
    assert rows.tolist() == list(range(rows[0], rows[-1] + 1))
    assert 2 <= len(columns) <= 7
    assert 13 in columns or 14 in columns
