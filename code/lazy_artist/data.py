"""Where the digits come from: MNIST, Fashion-MNIST, or a procedural stand-in.

`load_digits` is the one way in. It looks for the canonical files in the folder that
LAZY_ARTIST_DATA names, then in the project's cache, then on the network (torchvision's mirrors),
and, unless the caller insists on a data set, falls back to digits drawn by `procedural_digits`.
Every file is checked before use, and `Digits` says where its images came from.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.client
import io
import math
import os
import threading
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock

SPLITS = ("train", "test")
SOURCES = ("auto", "mnist", "fashion-mnist", "procedural")

_NAMES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# md5 of the decompressed files, so that a recompressed copy is as good as the original.
_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
_STANDIN_TRAIN_SIZE = 60_000
_STANDIN_SEEDS = {"train": 1, "test": 2}
_CONNECT_SECONDS = 4.0  # for each mirror, and once a process: there are at most two
_READ_SECONDS = 10.0


class DataWarning(UserWarning):
    """A data file or folder cannot be used, and something else is used in its place."""


class StandInWarning(DataWarning):
    """MNIST cannot be had; the procedural stand-in is used instead."""


class DataNotFoundError(FileNotFoundError):
    """The data set that was asked for is nowhere to be had."""


class _Damaged(ValueError):
    """The content of a data file is not what it has to be."""


@dataclass(frozen=True, eq=False)
class Digits:
    """Images with their labels, and where they came from. The arrays are read-only.

    images: uint8 (N, 28, 28), 0 = ground, 255 = full ink.
    labels: int64 (N,), 0 to 9.
    source: a sentence fragment, such as "MNIST (downloaded)".
    md5: over the raw bytes of images, then labels.

    Raises TypeError for a wrong dtype, ValueError for a wrong shape, length or label.
    """

    images: np.ndarray
    labels: np.ndarray
    source: str
    md5: str = field(init=False)

    def __post_init__(self) -> None:
        for name, dtype in (("images", np.uint8), ("labels", np.int64)):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != dtype:
                kind = getattr(array, "dtype", type(array).__name__)
                raise TypeError(f"{name} must be a NumPy array of {dtype.__name__}, not {kind}")
        if self.images.ndim != 3 or self.images.shape[1:] != (28, 28):
            raise ValueError(f"images must have shape (N, 28, 28), not {self.images.shape}")
        if self.labels.shape != (len(self.images),):
            raise ValueError(
                f"labels must have shape ({len(self.images)},), one for each image, "
                f"not {self.labels.shape}"
            )
        if len(self.labels) and not (self.labels.min() >= 0 and self.labels.max() <= 9):
            raise ValueError(
                f"labels must be 0 to 9; these go from {self.labels.min()} to {self.labels.max()}"
            )
        digest = hashlib.md5(usedforsecurity=False)
        for name in ("images", "labels"):
            array = np.ascontiguousarray(getattr(self, name)).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
            digest.update(array)
        object.__setattr__(self, "md5", digest.hexdigest())

    def __len__(self) -> int:
        return len(self.labels)


def cache_dir() -> Path:
    """The project's cache folder (not created): LAZY_ARTIST_CACHE, else `.cache` in the
    repository that this package runs from, else ~/.cache/lazy-artist."""
    if named := os.environ.get("LAZY_ARTIST_CACHE"):
        return Path(named).expanduser()
    repository = Path(__file__).resolve().parents[2]
    if (repository / "pyproject.toml").is_file():
        return repository / ".cache"
    return Path.home() / ".cache" / "lazy-artist"


def load_digits(split: str, source: str = "auto") -> Digits:
    """The images and labels of one split ("train" or "test"), read once a process.

    source: "mnist" or "fashion-mnist" (searched for in LAZY_ARTIST_DATA, the cache, and the
    network), "procedural" (the stand-in: 60,000 train and 10,000 test images, or as
    LAZY_ARTIST_STANDIN_SIZE says), or "auto": what LAZY_ARTIST_SOURCE names, by default MNIST
    if both of its splits can be had, else the stand-in, with a `StandInWarning` once a process.

    Raises ValueError for an unknown split or source, `DataNotFoundError` if a data set asked for
    by name cannot be had, PermissionError if the data folder cannot be read.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the splits are {', '.join(SPLITS)}")
    if source not in SOURCES:
        raise ValueError(f"unknown source {source!r}; the sources are {', '.join(SOURCES)}")
    if source == "auto":
        source = os.environ.get("LAZY_ARTIST_SOURCE") or "auto"
        if source not in SOURCES:
            raise ValueError(
                f"LAZY_ARTIST_SOURCE is {source!r}; set it to one of {', '.join(SOURCES)}"
            )
    data_folder = os.environ.get("LAZY_ARTIST_DATA") or None
    offline = os.environ.get("LAZY_ARTIST_OFFLINE", "") not in ("", "0")
    place = _Place(Path(data_folder).expanduser() if data_folder else None, cache_dir(), offline)
    if source == "procedural":
        return _load_standin(split, place.cache, _standin_size(split))
    if source != "auto":
        return _load_dataset(split, source, place)
    if _has_mnist(place):
        return _load_dataset(split, "mnist", place)
    return _load_standin(split, place.cache, _standin_size(split))


@functools.cache
def _has_mnist(place: _Place) -> bool:
    """Whether both splits can be had, decided once a process: real and drawn digits must never
    meet in one experiment. Announces the stand-in if not."""
    try:
        for split in SPLITS:
            _load_dataset(split, "mnist", place)
    except DataNotFoundError as error:
        warnings.warn(
            f"USING THE PROCEDURAL STAND-IN INSTEAD OF MNIST: these digits are drawn by a program. "
            f"{error}",
            StandInWarning,
            stacklevel=3,
        )
        return False
    return True


# --- MNIST and Fashion-MNIST ---------------------------------------------------------------------


class _Place(NamedTuple):
    """Where to look for data files."""

    data_folder: Path | None
    cache: Path
    offline: bool


@functools.cache
def _load_dataset(split: str, dataset: str, place: _Place) -> Digits:
    (images, images_from), (labels, labels_from) = (
        _find(dataset, file, place) for file in _FILES[split]
    )
    origin = images_from if images_from == labels_from else f"{images_from}, {labels_from}"
    return Digits(images, labels.astype(np.int64), f"{_NAMES[dataset]} ({origin})")


def _find(dataset: str, file: str, place: _Place) -> tuple[np.ndarray, str]:
    """The checked content of one IDX file, and in a word where it was found."""
    looked = []
    if place.data_folder is None:
        looked.append("LAZY_ARTIST_DATA is not set")
    else:
        path = place.data_folder / dataset / f"{file}.gz"
        try:
            return _parse_idx(path.read_bytes(), dataset, file), "LAZY_ARTIST_DATA"
        except (FileNotFoundError, NotADirectoryError):
            looked.append(f"{path} does not exist")
        except PermissionError as error:
            raise PermissionError(
                f"LAZY_ARTIST_DATA is {place.data_folder}, but {path} cannot be read: make the "
                f"folder and its files readable (chmod -R u+rX {place.data_folder}), or unset "
                f"LAZY_ARTIST_DATA"
            ) from error
        except _Damaged as damage:
            looked.append(f"{path} {damage}")
            warnings.warn(
                f"{path} {damage}; it is left alone and not used. Replace it with the canonical "
                f"file.",
                DataWarning,
                stacklevel=2,
            )

    path = place.cache / "data" / dataset / f"{file}.gz"
    with locked(path):
        try:
            return _parse_idx(path.read_bytes(), dataset, file), "downloaded"
        except (FileNotFoundError, NotADirectoryError):
            looked.append(f"{path} does not exist")
        except PermissionError as error:
            raise PermissionError(
                f"the cache file {path} cannot be read: make it readable, or set "
                f"LAZY_ARTIST_CACHE to a folder of your own"
            ) from error
        except _Damaged as damage:
            looked.append(f"{path} {damage}")
            set_aside(path, str(damage))
        if place.offline:
            looked.append("LAZY_ARTIST_OFFLINE forbids a download")
        else:
            try:
                content, array = _download(dataset, file)
            except OSError as error:
                looked.append(f"the download failed ({error})")
            else:
                keep(path, content)
                return array, "downloaded"
    raise DataNotFoundError(
        f"{_NAMES[dataset]} cannot be had: {'; '.join(looked)}. Set LAZY_ARTIST_DATA to a folder "
        f"that holds {dataset}/{file}.gz and its three companions, or connect to the network, or "
        f'ask for source="procedural".'
    )


def _parse_idx(content: bytes, dataset: str, file: str) -> np.ndarray:
    """The array in a gzip-compressed IDX file (big-endian header, then unsigned bytes), read-only:
    uint8 (N, 28, 28) for images, (N,) for labels. Raises `_Damaged` unless it is canonical."""
    try:
        raw = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise _Damaged(f"is damaged: it does not decompress ({error})") from None
    ndim = 3 if "idx3" in file else 1
    magic, start = 0x800 + ndim, 4 + 4 * ndim
    if len(raw) < start:
        raise _Damaged(f"is damaged: it is truncated ({len(raw)} bytes)")
    found, *shape = (int(n) for n in np.frombuffer(raw, ">u4", 1 + ndim))
    if found != magic:
        raise _Damaged(f"is damaged: its magic number is {found:#010x}, not {magic:#010x}")
    if len(raw) - start != math.prod(shape) or shape[1:] not in ([], [28, 28]):
        raise _Damaged(
            f"is damaged: its header says {' x '.join(map(str, shape))} bytes, "
            f"but {len(raw) - start} follow"
        )
    md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if md5 != _MD5[dataset][file]:
        raise _Damaged(f"has the wrong checksum: md5 {md5}, not {_MD5[dataset][file]}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


_dead_mirrors: dict[str, str] = {}  # with the reason


def _download(dataset: str, file: str) -> tuple[bytes, np.ndarray]:
    """The compressed file, and its checked content, from the first mirror that gives it.

    Raises OSError. A mirror that failed is not asked again in this process, so that being offline
    costs a few seconds, once.
    """
    mirrors = _mirrors(dataset)
    for mirror in mirrors:
        if mirror in _dead_mirrors:
            continue
        try:
            with within(_CONNECT_SECONDS, open_url, f"{mirror}{file}.gz") as answer:
                content = answer.read()
            return content, _parse_idx(content, dataset, file)
        except _Damaged as damage:
            _dead_mirrors[mirror] = f"its {file}.gz {damage}"
        except (OSError, http.client.HTTPException) as error:
            _dead_mirrors[mirror] = str(error) or type(error).__name__
    raise OSError("; ".join(f"{mirror}: {_dead_mirrors[mirror]}" for mirror in mirrors))


def _mirrors(dataset: str) -> list[str]:
    from torchvision import datasets  # here only, as it brings torch, which takes seconds

    return {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[dataset].mirrors


def open_url(url: str):
    return urllib.request.urlopen(url, timeout=_READ_SECONDS)


def within(seconds: float, function: Callable, *arguments):
    """`function(*arguments)`, or TimeoutError. A socket's time-out does not bound name look-up,
    hence the thread."""
    outcome = {}

    def call() -> None:
        try:
            outcome["result"] = function(*arguments)
        except Exception as error:
            outcome["error"] = error

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in outcome:
        raise outcome["error"]
    if "result" not in outcome:
        raise TimeoutError(f"no answer in {seconds:g} seconds")
    return outcome["result"]


# --- the cache -----------------------------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock beside `path` against other processes. A cache that cannot be written to is
    not locked: nothing will be changed in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(path.name + ".lock"))
        lock.acquire()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def keep(path: Path, content: bytes) -> None:
    """Writes a cache file whole or not at all; a cache that cannot be written to is only slow."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        warnings.warn(
            f"{path} could not be kept in the cache ({error}); it will be fetched or made again "
            f"next time. Free some space, or set LAZY_ARTIST_CACHE to a writable folder.",
            DataWarning,
            stacklevel=2,
        )


def set_aside(path: Path, damage: str) -> None:
    aside = path.with_name(path.name + ".damaged")
    try:
        os.replace(path, aside)
        fate = f"set aside as {aside.name}"
    except OSError as error:
        fate = f"not used, but could not be set aside ({error})"
    warnings.warn(f"{path} {damage}; it is {fate}, and will be replaced", DataWarning, stacklevel=2)


def _standin_size(split: str) -> int:
    """60,000 train and 10,000 test, or LAZY_ARTIST_STANDIN_SIZE and a sixth of it."""
    named = os.environ.get("LAZY_ARTIST_STANDIN_SIZE") or str(_STANDIN_TRAIN_SIZE)
    try:
        size = int(named)
    except ValueError:
        size = 0
    if size < 60:
        raise ValueError(
            f"LAZY_ARTIST_STANDIN_SIZE is {named!r}; set it to a whole number of training images, "
            f"at least 60"
        )
    return size if split == "train" else size // 6


_UNREADABLE_NPZ = (
    OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@functools.cache
def _load_standin(split: str, cache: Path, size: int) -> Digits:
    # The key is this whole file: an edited generator never serves old digits.
    key = hashlib.md5(
        Path(__file__).read_bytes() + np.__version__.encode(), usedforsecurity=False
    ).hexdigest()
    path = cache / "data" / "procedural" / f"{split}-{size}-{key[:16]}.npz"
    with locked(path):
        try:
            with np.load(path, allow_pickle=False) as arrays:  # zip checks each array's CRC-32
                digits = Digits(arrays["images"], arrays["labels"], _STANDIN_SOURCE)
            if len(digits) == size:
                return digits
            set_aside(path, f"is damaged: it holds {len(digits)} images, not {size}")
        except (FileNotFoundError, NotADirectoryError):
            pass
        except _UNREADABLE_NPZ as error:
            set_aside(path, f"is damaged ({error})")
        digits = procedural_digits(size, _STANDIN_SEEDS[split])
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=digits.images, labels=digits.labels)
        keep(path, buffer.getvalue())
    return digits


# --- the procedural stand-in ---------------------------------------------------------------------

_STANDIN_SOURCE = "procedural stand-in"
_POINTS = 72  # on the skeleton of each digit: less than a pixel apart
_BOX = 20.0  # MNIST fits each digit into a box of 20 x 20 pixels …
_CENTRE = 14.0  # … and puts its centre of mass here, in pixels

# How people write each digit: (share, skeleton). A skeleton is a list of strokes, separated by
# "/", each a smooth curve through its points "x,y" on a sheet of 100 x 100, y downwards. Equal
# points are one point: it stays joined when the points are moved, and a new stroke from it makes
# a corner.
_SKELETONS: dict[int, list[tuple[float, str]]] = {
    0: [
        (4, "50,0 22,15 10,50 22,88 50,100 78,85 90,48 78,12 50,0"),
        (3, "66,8 40,2 16,25 10,62 30,96 62,96 86,68 86,32 66,6 44,5"),
        (2, "42,6 20,22 10,55 28,96 60,98 88,62 84,25 62,6 40,10 28,24"),
        (1, "38,8 16,30 12,65 34,98 66,94 88,60 84,24 66,4 50,14"),
    ],
    1: [
        (9, "50,0 50,50 50,100"),
        (3, "54,0 52,30 48,66 46,100"),
        (2, "36,20 52,0 / 52,0 51,50 50,100"),
        (1, "34,24 44,14 54,0 / 54,0 53,50 52,100 / 30,100 52,100 76,99"),
        (1, "32,30 48,14 58,0 / 58,0 52,50 46,100"),
        (0.5, "14,26 36,16 58,0 / 58,0 52,50 46,98 / 8,100 46,98 84,94"),
    ],
    2: [
        (4, "14,24 30,5 56,0 78,18 70,45 40,76 10,100 / 10,100 50,97 94,96"),
        (4, "14,22 36,2 66,4 78,26 62,58 34,88 12,96 8,84 24,76 54,86 94,96"),
        (2, "10,10 40,4 84,6 / 84,6 48,50 8,96 / 8,96 50,96 96,94"),
        (2, "18,30 24,8 54,0 78,14 74,44 50,76 24,94 / 24,94 14,88 26,80 56,92 96,90"),
        (2, "22,22 42,2 66,16 62,50 42,86 14,98 4,80 22,64 56,80 98,66"),
        (2, "6,28 30,8 62,6 70,30 48,62 20,94 6,98 12,84 50,84 98,84"),
        (1, "10,16 40,6 76,10 64,42 36,72 16,90 / 16,90 56,82 98,74"),
    ],
    3: [
        (4, "14,14 44,0 76,14 66,40 36,48 / 36,48 72,54 84,76 58,98 10,90"),
        (3, "12,8 44,2 80,4 / 80,4 62,24 40,42 / 40,42 76,52 82,80 52,100 8,92"),
        (3, "14,14 46,0 74,16 58,42 34,52 40,44 68,52 84,74 60,98 8,92"),
        (1, "16,16 46,0 78,16 72,40 56,50 74,62 80,84 50,100 8,86"),
        (1, "26,8 50,0 70,14 60,34 46,44 / 46,44 64,58 66,80 50,98 30,96"),
    ],
    4: [
        (4, "20,4 12,30 12,52 / 12,52 40,56 90,48 / 78,0 72,50 66,100"),
        (3, "62,0 36,32 8,64 / 8,64 50,64 94,60 / 62,0 62,50 60,100"),
        (3, "18,2 12,36 24,54 52,50 76,34 / 84,2 76,34 70,66 64,100"),
        (2, "26,0 20,28 10,58 / 10,58 46,58 92,54 / 66,22 64,60 60,100"),
    ],
    5: [
        (4, "84,2 54,4 24,5 / 24,5 20,26 16,46 / 16,46 48,38 80,56 76,86 44,100 8,92"),
        (3, "30,10 26,28 20,46 / 20,46 52,42 76,62 66,90 36,100 8,92 / 30,8 60,6 96,0"),
        (2, "88,4 56,2 32,14 30,34 58,50 74,72 58,96 28,100 6,88"),
        (2, "96,2 62,4 36,8 / 36,8 28,26 20,42 / 20,42 48,48 64,68 48,92 6,96"),
        (2, "82,4 50,5 26,6 / 26,6 24,26 20,48 / 20,48 54,36 86,58 74,92 40,100 12,82"),
        (1, "96,6 46,20 / 46,20 34,34 22,46 / 22,46 50,46 66,64 48,92 4,98"),
    ],
    6: [
        (4, "70,0 38,26 16,64 26,94 56,100 80,80 66,58 40,60 18,80"),
        (3, "52,0 26,36 12,72 28,98 62,98 86,78 72,58 44,62 20,84"),
        (2, "62,2 30,30 12,70 36,100 74,90 82,66 58,54 26,68 30,94"),
        (2, "34,0 20,34 12,72 32,98 66,96 84,74 66,58 38,66 24,92"),
        (3, "38,0 12,36 6,76 30,98 68,96 96,78 78,60 50,68 30,94"),
        (1, "76,4 40,10 16,44 18,88 54,100 80,82 66,62 20,72"),
    ],
    7: [
        (4, "8,10 46,7 88,4 / 88,4 62,48 44,100"),
        (3, "10,26 14,8 / 14,8 50,8 88,4 / 88,4 68,46 56,100"),
        (2, "8,12 46,6 86,4 / 86,4 58,50 40,100 / 30,54 56,50 86,46"),
        (2, "6,20 28,4 60,8 86,8 76,40 64,68 58,100"),
        (2, "8,42 12,10 / 12,10 50,12 90,2 / 90,2 76,48 66,100"),
        (1, "8,26 14,8 / 14,8 50,8 88,4 / 88,4 66,48 54,100 / 40,52 64,50 90,48"),
    ],
    8: [
        (4, "78,16 52,0 24,12 32,36 64,56 80,82 50,100 20,84 34,56 66,36 78,16"),
        (3, "88,10 56,0 26,14 34,38 60,56 70,82 42,100 14,82 34,56 64,34 90,8"),
        (3, "50,46 24,26 46,0 76,18 50,46 22,74 46,100 78,78 50,46"),
        (1, "72,10 46,2 24,22 50,44 74,66 60,96 30,98 20,74 44,50 68,30 72,10"),
        (2, "16,10 34,34 64,58 82,80 54,100 26,84 44,54 76,26 84,6 50,0 16,10"),
        (2, "86,12 60,0 20,10 24,38 56,54 66,76 46,100 30,84 44,58 70,38 86,12"),
        (1, "96,6 70,0 34,12 36,36 60,56 62,84 30,100 10,82 32,60 62,44"),
        (2, "50,46 12,30 16,6 50,0 84,8 88,30 50,46 8,66 12,92 50,100 90,92 92,64 50,46"),
    ],
    9: [
        (4, "78,18 52,0 22,16 20,42 48,50 72,32 78,18 / 78,18 72,58 64,100"),
        (3, "80,14 50,0 20,20 22,44 50,48 80,14 / 80,14 78,50 70,80 46,100 16,92"),
        (3, "76,10 46,2 16,26 26,50 56,44 80,8 / 80,8 70,50 52,100"),
        (1, "76,20 54,2 24,14 22,40 50,46 76,20 / 76,20 76,60 78,100"),
        (2, "66,6 32,8 16,34 38,50 72,30 / 80,8 72,30 66,64 58,100"),
        (1, "84,8 46,0 12,34 20,64 52,58 84,8 / 84,8 80,56 84,100"),
        (2, "70,14 52,2 32,14 36,34 54,34 70,14 / 70,14 64,56 52,100"),
        (1, "80,4 46,8 18,28 30,46 62,28 80,4 / 80,4 64,50 46,100"),
    ],
}


def procedural_digits(count: int, seed: int = 0) -> Digits:
    """Draws `count` digits that look hand-written and are normalised as MNIST is.

    Each is a skeleton whose control points are moved at random, bent by a smooth random field
    (the elastic distortion of Simard, Steinkraus and Platt, 2003, applied to the stroke and not
    to the pixels), slanted, turned and stretched, fitted into 20 x 20 pixels, put with its centre
    of mass in the middle of 28 x 28, and inked by a pen of random and varying width. The classes
    are balanced to within one image; the order is shuffled; the seed determines all.

    Raises ValueError for a count below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 10)
    images = np.empty((count, 28, 28), np.uint8)
    for digit, skeletons in _SKELETONS.items():
        places = np.flatnonzero(labels == digit)
        shares = np.array([share for share, _ in skeletons])
        chosen = rng.choice(len(skeletons), len(places), p=shares / shares.sum())
        for variant, (_, text) in enumerate(skeletons):
            control, basis, ends = _parse_skeleton(text)
            drawn = places[chosen == variant]
            for start in range(0, len(drawn), 128):
                chunk = drawn[start : start + 128]
                points = _write(control, basis, ends, len(chunk), rng)
                images[chunk] = _ink(points, rng)
    return Digits(images, labels, _STANDIN_SOURCE)


def _parse_skeleton(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Control points (C, 2) of a sheet of size 1, the matrix (_POINTS, C) that makes curve points
    of them (Catmull-Rom splines), and for each control point whether a stroke ends there."""
    strokes = [stroke.split() for stroke in text.split("/")]
    names = list(dict.fromkeys(name for stroke in strokes for name in stroke))
    control = np.array([[float(n) for n in name.split(",")] for name in names]) / 100
    pieces = []  # for each span between two neighbouring control points: (4, C) weights
    for stroke in strokes:
        rows = np.eye(len(names))[[names.index(name) for name in stroke]]
        rows = np.concatenate([[2 * rows[0] - rows[1]], rows, [2 * rows[-1] - rows[-2]]])
        pieces += [rows[i : i + 4] for i in range(len(rows) - 3)]
    length = np.array([np.linalg.norm((piece[2] - piece[1]) @ control) for piece in pieces])
    along = (np.arange(_POINTS) + 0.5) / _POINTS * length.sum()
    before = np.concatenate([[0], np.cumsum(length)])
    span = np.searchsorted(before, along, side="right") - 1
    t = (along - before[span]) / length[span]
    blend = 0.5 * np.stack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    )
    basis = np.einsum("km,mkc->mc", blend, np.stack(pieces)[span])
    ends = np.isin(names, [name for stroke in strokes for name in (stroke[0], stroke[-1])])
    return control, basis, ends


def _write(
    control: np.ndarray, basis: np.ndarray, ends: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Curve points (n, _POINTS, 2) of n different hands, in units of the sheet."""
    jitter = rng.normal(0, np.where(ends, 0.055, 0.038)[:, None], (n, *control.shape))
    points = basis @ (control + jitter - 0.5)

    # A Gaussian random field of correlation length 0.35, as a sum of random waves.
    waves = 6
    frequency = rng.normal(0, 1 / 0.35, (n, 2, waves))
    phase = rng.uniform(0, 2 * np.pi, (n, 1, waves))
    amplitude = rng.normal(0, 0.045 * math.sqrt(2 / waves), (n, waves, 2))
    points = points + np.cos(points @ frequency + phase) @ amplitude

    aspect = np.exp(rng.normal(-0.2, 0.18, n))
    slant = rng.normal(0.18, 0.22, n)
    angle = rng.normal(0, 0.12, n)
    x = aspect[:, None] * points[..., 0] - slant[:, None] * points[..., 1]
    y = points[..., 1]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def _ink(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images uint8 (n, 28, 28) of the curves, normalised as MNIST is."""
    n = len(points)
    # The pen's radius in pixels; beyond these bounds digits vanish or clog.
    radius = np.exp(rng.normal(math.log(1.3), 0.3, (n, 1))).clip(0.6, 2.4)
    turns = np.linspace(0, 2 * np.pi, _POINTS) * rng.uniform(0.5, 1.5, (n, 1))
    pressure = 1 + 0.15 * np.sin(turns + rng.uniform(0, 2 * np.pi, (n, 1)))
    edge = rng.uniform(0.9, 1.5, (n, 1))  # over so many pixels ink fades into ground

    low, high = points.min(axis=1), points.max(axis=1)
    size = (high - low).max(axis=1, keepdims=True)
    points = points * ((_BOX - 2 * radius - edge / 2) / size)[..., None]
    step = np.linalg.norm(np.gradient(points, axis=1), axis=-1)
    weight = (np.minimum(step, 1.0) * pressure)[..., None]
    middle = (weight * points).sum(axis=1) / weight.sum(axis=1)
    # MNIST moves images by whole pixels, which leaves this much of a rounding.
    points = points - middle[:, None] + rng.uniform(-0.5, 0.5, (n, 1, 2))

    # Squared distance of each pixel to the nearest point, less the pen's local radius squared:
    # |g - p|^2 - r^2 = |g|^2 + (g, 1) . (-2p, |p|^2 - r^2), one matrix product for all.
    grid = np.arange(28, dtype=np.float32) - np.float32(_CENTRE)
    gy, gx = (axis.ravel() for axis in np.meshgrid(grid, grid, indexing="ij"))
    excess = (points**2).sum(axis=-1) - (radius * pressure) ** 2
    features = np.concatenate([-2 * points, excess[..., None]], axis=-1).astype(np.float32)
    pixels = np.stack([gx, gy, np.ones_like(gx)])
    power = (features.transpose(1, 0, 2).reshape(-1, 3) @ pixels).reshape(_POINTS, n, 784)
    nearest = power.min(axis=0) + (gx**2 + gy**2)
    radius, edge = radius.astype(np.float32), edge.astype(np.float32)
    outside = np.sqrt(np.maximum(nearest + radius**2, 0)) - radius
    ink = np.clip(0.5 - outside / edge, 0, 1)
    return np.rint(255 * ink).astype(np.uint8).reshape(n, 28, 28)
