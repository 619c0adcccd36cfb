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

TRAIN_IMAGES = "train-images-idx3-ubyte"
REAL_MIRRORS, REAL_DOWNLOAD = data._mirrors, data.download


def from_folder(url: str) -> bytes:
    return Path(url.removeprefix("file://")).read_bytes()


def idx(array: np.ndarray, magic: int | None = None) -> bytes:
    header = [magic or 0x800 + array.ndim, *array.shape]
    return np.array(header, ">u4").tobytes() + array.tobytes()


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
TRAIN = np.frombuffer(CANON["mnist"][TRAIN_IMAGES], np.uint8, offset=16).reshape(6, 28, 28)


def put(root: Path, dataset: str = "mnist") -> Path:
    """Writes a data set's compressed files below root, as LAZY_ARTIST_DATA has them."""
    folder = root / dataset
    folder.mkdir(parents=True)
    for file, raw in CANON[dataset].items():
        (folder / f"{file}.gz").write_bytes(gzip.compress(raw))
    return folder


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
    monkeypatch.setattr(data, "download", mock.Mock(side_effect=OSError("network is unreachable")))
    monkeypatch.setattr(data, "_dead_mirrors", {})
    for cached in (data._load_dataset, data._load_standin, data._has_mnist):
        cached.cache_clear()
    yield
    for cached in (data._load_dataset, data._load_standin, data._has_mnist):
        cached.cache_clear()


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    """A mirror that works; returns its folder."""
    folder = put(tmp_path / "mirror")
    monkeypatch.setattr(data, "_mirrors", lambda dataset: [folder.as_uri() + "/"])
    monkeypatch.setattr(data, "download", mock.Mock(side_effect=from_folder))
    return folder


def cached(tmp_path: Path, name: str) -> Path:
    return tmp_path / "cache" / "data" / "mnist" / name


# --- Digits --------------------------------------------------------------------------------------


def test_digits_are_read_only_with_md5_of_images_then_labels():
    images, labels = np.ones((2, 28, 28), np.uint8), np.array([3, 9])
    digits = Digits(images, labels, "a test")
    expected = hashlib.md5(b"\x01" * 2 * 784 + b"\x03" + b"\0" * 7 + b"\x09" + b"\0" * 7)
    assert digits.md5 == expected.hexdigest()
    assert len(digits) == 2
    for array in (digits.images, digits.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (np.zeros((2, 28, 28), np.float32), np.zeros(2, np.int64), TypeError, "images .* uint8"),
        ([[0]], np.zeros(2, np.int64), TypeError, "images .* not list"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.int32), TypeError, "labels .* int64"),
        (np.zeros((2, 784), np.uint8), np.zeros(2, np.int64), ValueError, r"\(N, 28, 28\)"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.int64), ValueError, r"\(2,\)"),
        (np.zeros((2, 28, 28), np.uint8), np.array([0, 10]), ValueError, "0 to 9"),
        (np.zeros((2, 28, 28), np.uint8), np.array([-1, 1]), ValueError, "0 to 9"),
    ],
)
def test_digits_refuse_what_is_not_digits(images, labels, error, message):
    with pytest.raises(error, match=message):
        Digits(images, labels, "a test")


# --- names and folders ---------------------------------------------------------------------------


def test_unknown_names_are_refused_with_the_valid_ones(monkeypatch):
    with pytest.raises(ValueError, match="'validation'.*train, test"):
        load_digits("validation")
    with pytest.raises(ValueError, match="'cifar'.*auto, mnist, fashion-mnist, procedural"):
        load_digits("train", "cifar")
    monkeypatch.setenv("LAZY_ARTIST_SOURCE", "svhn")
    with pytest.raises(ValueError, match="LAZY_ARTIST_SOURCE is 'svhn'.*fashion-mnist"):
        load_digits("train")
    assert load_digits("test", "procedural").source == "procedural stand-in"


def test_the_source_variable_says_what_auto_means(monkeypatch, tmp_path):
    put(tmp_path / "given", "mnist")
    put(tmp_path / "given", "fashion-mnist")
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(tmp_path / "given"))
    assert load_digits("train").source == "MNIST (LAZY_ARTIST_DATA)"
    monkeypatch.setenv("LAZY_ARTIST_SOURCE", "fashion-mnist")
    assert load_digits("train").source == "Fashion-MNIST (LAZY_ARTIST_DATA)"
    monkeypatch.setenv("LAZY_ARTIST_SOURCE", "procedural")
    assert load_digits("train").source == "procedural stand-in"
    assert load_digits("train", "mnist").source == "MNIST (LAZY_ARTIST_DATA)"


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "x"))
    assert cache_dir() == tmp_path / "x"
    monkeypatch.delenv("LAZY_ARTIST_CACHE")
    package = tmp_path / "house" / "code" / "lazy_artist" / "data.py"
    monkeypatch.setattr(data, "__file__", str(package))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "lazy-artist"
    package.parent.mkdir(parents=True)
    (tmp_path / "house" / "pyproject.toml").touch()
    assert cache_dir() == tmp_path / "house" / ".cache"


def test_import_is_light():
    code = "import sys, lazy_artist.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- the search ----------------------------------------------------------------------------------


def test_reads_the_data_folder_once(monkeypatch, tmp_path):
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(put(tmp_path / "given").parent))
    digits = load_digits("train", "mnist")
    assert np.array_equal(digits.images, TRAIN)
    assert digits.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(load_digits("test", "mnist")) == 4
    assert load_digits("train", "mnist") is digits
    data.download.assert_not_called()


def test_downloads_into_the_cache_and_then_reads_it(mirror, tmp_path):
    assert load_digits("train", "mnist").source == "MNIST (downloaded)"
    kept = cached(tmp_path, f"{TRAIN_IMAGES}.gz")
    assert kept.read_bytes() == (mirror / kept.name).read_bytes()
    assert data.download.call_count == 2
    data._load_dataset.cache_clear()
    assert np.array_equal(load_digits("train", "mnist").images, TRAIN)
    assert data.download.call_count == 2
    assert not list(kept.parent.glob("*.tmp"))


def test_a_mirror_with_wrong_files_is_passed_over(monkeypatch, mirror, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    for file in mirror.iterdir():
        (bad / file.name).write_bytes(b"<html>not here</html>")
    mirrors = [bad.as_uri() + "/", mirror.as_uri() + "/"]
    monkeypatch.setattr(data, "_mirrors", lambda dataset: mirrors)
    assert np.array_equal(load_digits("train", "mnist").images, TRAIN)


def test_no_network_and_no_data_is_an_error_with_remedies(monkeypatch, tmp_path):
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(tmp_path / "nothing"))
    with pytest.raises(DataNotFoundError) as caught:
        load_digits("train", "fashion-mnist")
    message = str(caught.value)
    for part in (
        "Fashion-MNIST cannot be had",
        str(tmp_path / "nothing" / "fashion-mnist"),
        str(tmp_path / "cache" / "data" / "fashion-mnist"),
        "network is unreachable",
        "Set LAZY_ARTIST_DATA",
        "connect to the network",
        'source="procedural"',
    ):
        assert part in message


def test_auto_without_mnist_announces_the_stand_in_once():
    with pytest.warns(StandInWarning, match="PROCEDURAL STAND-IN") as caught:
        train = load_digits("train")
        test = load_digits("test")
    assert len(caught) == 1
    assert (len(train), len(test)) == (60, 10)
    assert train.source == test.source == "procedural stand-in"
    assert data.download.call_count == 1  # a mirror that failed is not tried again


def test_auto_never_mixes_real_and_drawn_digits(monkeypatch, tmp_path):
    folder = put(tmp_path / "given")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(folder.parent))
    assert load_digits("train", "mnist").source == "MNIST (LAZY_ARTIST_DATA)"
    with pytest.warns(StandInWarning, match="t10k-labels"):
        assert load_digits("train").source == "procedural stand-in"
    for path in put(tmp_path / "late").iterdir():
        path.rename(folder / path.name)  # too late for this process
    assert load_digits("test").source == "procedural stand-in"


def test_offline_variable_forbids_the_download(monkeypatch, mirror):
    monkeypatch.setenv("LAZY_ARTIST_OFFLINE", "1")
    with pytest.raises(DataNotFoundError, match="LAZY_ARTIST_OFFLINE forbids"):
        load_digits("train", "mnist")
    data.download.assert_not_called()


def test_a_mirror_that_does_not_answer_is_given_up(monkeypatch):
    answered = threading.Event()
    monkeypatch.setattr(data, "download", REAL_DOWNLOAD)
    monkeypatch.setattr(requests, "get", lambda *_, **__: answered.wait())
    monkeypatch.setattr(data, "_CONNECT_SECONDS", 0.05)
    try:
        with pytest.raises(DataNotFoundError, match="no answer in 0.05 seconds"):
            load_digits("train", "mnist")
    finally:
        answered.set()


def test_a_download_is_what_the_server_answers_and_a_refusal_an_error(monkeypatch, tmp_path):
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0),
        functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path)),
    )
    server.RequestHandlerClass.log_message = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        (tmp_path / "there").write_bytes(b"content")
        address = f"http://127.0.0.1:{server.server_port}"
        assert REAL_DOWNLOAD(f"{address}/there") == b"content"
        with pytest.raises(OSError, match="404"):
            REAL_DOWNLOAD(f"{address}/elsewhere")
    finally:
        server.shutdown()


def test_torchvision_still_has_mirrors():
    for dataset in ("mnist", "fashion-mnist"):
        mirrors = REAL_MIRRORS(dataset)
        assert mirrors
        assert all(url.startswith("http") and url.endswith("/") for url in mirrors)


# --- damage --------------------------------------------------------------------------------------

GOOD = CANON["mnist"][TRAIN_IMAGES]
DAMAGE = {
    "truncated gzip": (gzip.compress(GOOD)[:-100], "does not decompress"),
    "not gzip": (b"<html>", "does not decompress"),
    "empty": (b"", "damaged"),
    "header only": (gzip.compress(GOOD[:9]), r"truncated \(9 bytes\)"),
    "truncated": (gzip.compress(GOOD[:-1]), "6 x 28 x 28 bytes, but 4703 follow"),
    "wrong magic": (gzip.compress(idx(TRAIN, 0x801)), "magic number is 0x00000801"),
    "wrong shape": (gzip.compress(idx(TRAIN.reshape(6, 14, 56))), "6 x 14 x 56"),
    "wrong checksum": (gzip.compress(GOOD[:-1] + bytes([GOOD[-1] ^ 1])), "wrong checksum"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_in_the_data_folder_is_named_and_skipped(name, monkeypatch, mirror, tmp_path):
    content, reason = DAMAGE[name]
    path = put(tmp_path / "given") / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(content)
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(path.parent.parent))
    with pytest.warns(DataWarning, match=f"{TRAIN_IMAGES}.gz .*{reason}.*left alone"):
        digits = load_digits("train", "mnist")
    assert np.array_equal(digits.images, TRAIN)
    assert digits.source == "MNIST (downloaded, LAZY_ARTIST_DATA)"
    assert path.read_bytes() == content
    assert len(list(path.parent.iterdir())) == 4


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_in_the_cache_is_set_aside_and_fetched_again(name, mirror, tmp_path):
    content, reason = DAMAGE[name]
    path = put(tmp_path / "cache" / "data") / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(content)
    with pytest.warns(DataWarning, match=f"{TRAIN_IMAGES}.gz .*{reason}.*set aside"):
        digits = load_digits("train", "mnist")
    assert np.array_equal(digits.images, TRAIN)
    assert path.with_name(path.name + ".damaged").read_bytes() == content
    assert path.read_bytes() == (mirror / path.name).read_bytes()
    assert data.download.call_count == 1


def test_damage_without_a_network_is_an_error_that_names_it(monkeypatch, tmp_path):
    path = put(tmp_path / "given") / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(DAMAGE["wrong checksum"][0])
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(path.parent.parent))
    with (
        pytest.warns(DataWarning, match="wrong checksum"),
        pytest.raises(DataNotFoundError, match=f"{TRAIN_IMAGES}.gz has the wrong checksum"),
    ):
        load_digits("train", "mnist")


def test_a_recompressed_file_is_as_good(monkeypatch, tmp_path):
    path = put(tmp_path / "given") / f"{TRAIN_IMAGES}.gz"
    path.write_bytes(gzip.compress(GOOD, compresslevel=1, mtime=12345))
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(path.parent.parent))
    assert np.array_equal(load_digits("train", "mnist").images, TRAIN)


@pytest.mark.parametrize("source", ["mnist", "auto"])
def test_a_data_folder_without_read_permission(source, monkeypatch, tmp_path):
    folder = put(tmp_path / "given")
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(folder.parent))
    read_bytes = Path.read_bytes

    def refuse(path: Path) -> bytes:  # chmod would not do: the superuser may read all
        if folder in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError) as caught:
        load_digits("train", source)
    assert f"LAZY_ARTIST_DATA is {folder.parent}" in str(caught.value)
    assert f"chmod -R u+rX {folder.parent}" in str(caught.value)


@given(
    st.integers(0, 3).flatmap(lambda n: st.binary(min_size=784 * n, max_size=784 * n)),
    st.data(),
)
@settings(max_examples=30, deadline=None)
def test_idx_round_trip_and_no_part_of_it_passes(content, choice):
    images = np.frombuffer(content, np.uint8).reshape(-1, 28, 28)
    raw = idx(images)
    packed = gzip.compress(raw)
    md5 = {"mnist": {TRAIN_IMAGES: hashlib.md5(raw).hexdigest()}}
    cut = choice.draw(st.integers(0, len(packed) - 1))
    with mock.patch.object(data, "_MD5", md5):
        assert np.array_equal(data._parse_idx(packed, "mnist", TRAIN_IMAGES), images)
        with pytest.raises(data._Damaged):
            data._parse_idx(packed[:cut], "mnist", TRAIN_IMAGES)


# --- the stand-in and its cache ------------------------------------------------------------------


def test_the_stand_in_is_kept_and_read_back(monkeypatch):
    first = load_digits("train", "procedural")
    data._load_standin.cache_clear()
    monkeypatch.setattr(data, "procedural_digits", mock.Mock(side_effect=AssertionError("drawn")))
    again = load_digits("train", "procedural")
    assert again is not first
    assert (again.md5, again.source, len(again)) == (first.md5, "procedural stand-in", 60)


def test_an_edited_generator_never_serves_old_digits(monkeypatch, tmp_path):
    load_digits("train", "procedural")
    edited = tmp_path / "standin.py"
    edited.write_bytes(Path(standin.__file__).read_bytes() + b"\n")
    monkeypatch.setattr(standin, "__file__", str(edited))
    data._load_standin.cache_clear()
    drawn = mock.Mock(wraps=procedural_digits)
    monkeypatch.setattr(data, "procedural_digits", drawn)
    load_digits("train", "procedural")
    drawn.assert_called_once()


class Trap:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("damage", ["truncated", "altered", "pickled", "short"])
def test_a_damaged_stand_in_is_drawn_again(damage, tmp_path):
    first = load_digits("train", "procedural")
    (path,) = (tmp_path / "cache" / "data" / "procedural").glob("train-*.npz")
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "altered":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    elif damage == "pickled":
        np.savez(path, images=np.array([Trap(tmp_path / "sprung")]), labels=first.labels)
    else:
        np.savez(path, images=first.images[:5], labels=first.labels[:5])
    data._load_standin.cache_clear()
    with pytest.warns(DataWarning, match=f"{path.name} is damaged.*set aside"):
        assert load_digits("train", "procedural").md5 == first.md5
    assert not (tmp_path / "sprung").exists()
    data._load_standin.cache_clear()
    assert load_digits("train", "procedural").md5 == first.md5


def test_a_full_disk_costs_only_time(monkeypatch, tmp_path):
    full = mock.Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(data.os, "fsync", full)
    with pytest.warns(DataWarning, match="No space left.*LAZY_ARTIST_CACHE"):
        assert len(load_digits("train", "procedural")) == 60
    left = {path.suffix for path in (tmp_path / "cache" / "data" / "procedural").iterdir()}
    assert left == {".lock"}


def test_a_cache_that_cannot_be_made_costs_only_time(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "file"))
    with pytest.warns(DataWarning, match="could not be kept"):
        assert len(load_digits("train", "procedural")) == 60


def test_two_processes_agree(tmp_path):
    code = "from lazy_artist.data import load_digits; print(load_digits('train', 'procedural').md5)"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (process.communicate()[0] for process in both)
    assert first == second == load_digits("train", "procedural").md5 + "\n"
    names = [path.name for path in (tmp_path / "cache" / "data" / "procedural").iterdir()]
    assert len(names) == 2  # the digits and the lock


@pytest.mark.parametrize("size", ["59", "-1", "many", "60.5"])
def test_a_bad_stand_in_size_is_refused(size, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", size)
    with pytest.raises(ValueError, match=f"LAZY_ARTIST_STANDIN_SIZE is '{size}'.*at least 60"):
        load_digits("test", "procedural")


# --- the generator -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn() -> Digits:
    return procedural_digits(2000, seed=3)


@given(st.integers(1, 45), st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_balanced_and_determined_by_the_seed(count, seed):
    digits = procedural_digits(count, seed)
    assert len(digits) == count
    assert set(np.bincount(digits.labels, minlength=10)) <= {count // 10, -(-count // 10)}
    assert procedural_digits(count, seed).md5 == digits.md5


def test_seeds_differ_and_the_order_is_shuffled(drawn):
    other = procedural_digits(2000, seed=4)
    assert not np.array_equal(other.labels, drawn.labels)
    assert not np.array_equal(drawn.labels, np.sort(drawn.labels))
    assert len(np.unique(drawn.images.reshape(2000, -1), axis=0)) == 2000


def test_normalised_as_mnist_is(drawn):
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


def test_labels_belong_to_the_drawings(drawn):
    """The nearest of 1,500 drawings, by pixels, has the label of each of 500 others."""
    images = drawn.images.reshape(2000, -1) / 255
    known, asked = images[:1500], images[1500:]
    distance = (known**2).sum(axis=1) - 2 * asked @ known.T
    guesses = drawn.labels[distance.argmin(axis=1)]
    assert (guesses == drawn.labels[1500:]).mean() > 0.85


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


@pytest.mark.parametrize("count", [0, -5])
def test_a_count_below_one_is_refused(count):
    with pytest.raises(ValueError, match="at least 1"):
        procedural_digits(count)


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
