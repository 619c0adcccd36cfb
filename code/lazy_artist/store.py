"""The store: what is slow to compute is computed once, and reused while it is still true.

    @stored
    def accuracies(networks: list[Network], n: int) -> pd.DataFrame: ...

    accuracies(networks, 500)                 # computed once, then read back
    stored.map(accuracies, [{...}, {...}])    # the missing ones in parallel processes

The address of a result is a hash of the function's name, its arguments, the data's checksum and the
code that the function reaches (`code_of`), so nothing stale is ever found, and nothing has to be
invalidated by hand. A result is looked for in the cache, then among those that came with the
repository (`config.repository_results`). It is one or two files in `<cache>/results/<function>/`:

    <address>.json          the record: arguments, versions, times, the value but for arrays
    <address>.safetensors   its arrays, if there are any

The record is written last, by an atomic replace, and is the commit mark: a computation killed at
any moment leaves no record, hence no result. A file lock for each address makes two builds at once
safe. Nothing is pickled. What a chapter asks for is noted in `<cache>/asked/<chapter>.jsonl`.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import multiprocessing
import os
import platform
import shutil
import signal
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import safetensors.torch
import torch
from filelock import FileLock
from tqdm import tqdm

from lazy_artist.config import data_source, device, repository_results
from lazy_artist.data import cache_dir, load_digits, write_whole
from lazy_artist.reach import code_of

_FREE_BYTES = 200 * 2**20
_REMEDY = "free some space, or set LAZY_ARTIST_CACHE to a writable folder with more room"
_MISSING = object()
_at_work: ContextVar[bool] = ContextVar("_at_work", default=False)
"""True within a worker, which works alone: workers of workers would wait for ever."""
_used: ContextVar[list[str] | None] = ContextVar("_used", default=None)
"""Within a computation: the addresses of all that it has asked for."""

MNIST_CHECKSUM = "65e3bbc3fa6148d786a74d0e2884e0e1 8281dd42328a9749b8d38e82a48dccfa"
FASHION_CHECKSUM = "6143ce6bc2f232c187fcb24a4fe93272 5ba1cb8af53c013fa1eeac8e97828e7d"
"""What `digits_checksum` says of MNIST and of Fashion-MNIST."""
ON_ACCELERATOR = 4  # processes that share one at most: each holds a context of its own there


class ArtifactError(RuntimeError):
    """A result could not be computed or stored; what was stored before is untouched."""


class ArtifactWarning(UserWarning):
    """A stored result is damaged and will be computed again."""


class Call(NamedTuple):
    """A stored function with its arguments: what an argument's `made_by` names."""

    function: Callable[..., Any]
    arguments: dict[str, Any]

    def value(self) -> Any:
        """The stored result, computed first if it is not there."""
        return self.function(**self.arguments)


def digits_checksum() -> str:
    """Checksums of both halves of the digits, which most results stand on. Where the results that
    came with the repository are used they are those of MNIST or Fashion-MNIST, which need not be
    here."""
    if repository_results():
        return FASHION_CHECKSUM if data_source() == "fashion-mnist" else MNIST_CHECKSUM
    return f"{load_digits('train').md5} {load_digits('test').md5}"


def stored(
    function: Callable[..., Any] | None = None, *, data: Callable[[], str] = digits_checksum
) -> Callable[..., Any]:
    """Decorates a function at the top level of a module: its results are kept in the store.

    Arguments: JSON-able values, ranges, functions at the top level of a module (which count by
    their code), tuples with a `made_by` that is a `Call` (which count by that call's address, and
    are made first), and arrays; but what is called with arrays cannot be made again from its record
    (`results verify`): pass what makes them. Results: a frame with a RangeIndex, an array or tensor
    without NaN and infinities, None, a number or text, or a list, or dictionary with texts as keys,
    of these. A result is always what was read back: tuples come as lists. data: returns the
    checksum of the data that is read.

    Raises TypeError for arguments that cannot be told by their content, and `ArtifactError`, which
    names function and arguments, if computing or storing fails.
    """
    if function is None:
        return functools.partial(stored, data=data)
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return run([(call, signature.bind(*args, **kwargs).arguments)])[0]

    call.data = data
    return call


def run(
    calls: Iterable[tuple[Callable[..., Any], dict[str, Any]]],
    title: str | None = None,
    jobs: int | None = None,
) -> list[Any]:
    """The results of stored functions with their arguments by name, in order.

    What the arguments are made by is made first. What is missing is computed in `jobs` parallel
    processes (by default one for each usable core), which share the cores, and stored as soon as it
    is done: an interruption loses only what is unfinished. It is begun in order, so that what takes
    longest is best asked for first. A single missing one is computed in this process, on all cores.
    Processes that share an accelerator are at most `ON_ACCELERATOR`.
    The processes are joblib's; `joblib.parallel_config` chooses another backend. Of all processes
    that share the store one at a time has such workers; the others wait. On a terminal a progress
    bar called `title` counts.
    """
    entries = [_entry(function, arguments) for function, arguments in calls]
    found = {entry.stem: _lookup(entry.stem) for entry in entries}
    missing = list({e.stem: e for e in entries if found[e.stem] is _MISSING}.values())
    if missing:
        if made := [call for entry in missing for call in entry.made_by]:
            token = _used.set([])  # the chapter did not ask for these
            try:
                run(made, "training what it stands on", jobs)
            finally:
                _used.reset(token)
        cores = joblib.cpu_count()
        most = cores if device().type == "cpu" else min(cores, ON_ACCELERATOR)
        jobs = 1 if _at_work.get() else min(jobs or most, len(missing))
        turn = _lock(cache_dir() / "results" / "workers") if jobs > 1 else nullcontext()
        title = title or missing[0].function.__name__.replace("_", " ")
        with turn, tqdm(total=len(missing), desc=title, disable=None) as bar:
            for stem in _compute_all(missing, jobs, max(1, cores // jobs)):
                found[stem] = _lookup(stem)
                bar.update()
    _note(entries, {entry.stem for entry in missing})
    return [found[entry.stem] for entry in entries]


def _note(entries: list[_Entry], computed: set[Path]) -> None:
    """Notes what was asked for, and whether it was found in the "repository" or the "cache"."""
    if (used := _used.get()) is not None:
        used += [entry.stem.name for entry in entries]
    elif (chapter := os.environ.get("LAZY_ARTIST_CHAPTER")) and not _at_work.get():
        lines = []
        for stem in (entry.stem for entry in entries):
            kept = "cache" if stem.with_suffix(".json").exists() else "repository"
            origin = "computed" if stem in computed else kept
            lines.append(json.dumps([stem.parent.name, stem.name, origin]) + "\n")
        log = cache_dir() / "asked" / f"{chapter}.jsonl"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.writelines(lines)


def _map(
    function: Callable[..., Any],
    configs: Iterable[dict[str, Any]],
    title: str | None = None,
    jobs: int | None = None,
) -> list[Any]:
    """The results of one stored function for each of `configs`, arguments by name; see `run`."""
    return run([(function, config) for config in configs], title, jobs)


stored.run, stored.map = run, _map


def records() -> list[dict[str, Any]]:
    """The records of all results in the cache but damaged ones, each with its "address", by
    function name, then by time."""
    found = []
    for path in (cache_dir() / "results").glob("*/*.json"):
        with suppress(_Damaged, FileNotFoundError):
            found.append({"address": path.stem, **_read_record(path.with_suffix(""))})
    return sorted(found, key=lambda record: (record["name"], record["created"]))


# --- the address ---------------------------------------------------------------------------------


class _Entry(NamedTuple):
    function: Callable[..., Any]
    arguments: dict[str, Any]
    content: Any  # the arguments as JSON
    made_by: list[Call]  # what they stand on
    stem: Path  # of the two files; its name is the address

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.function.__name__}({given if len(given) < 500 else given[:500] + ' …'})"


def _entry(function: Callable[..., Any], arguments: dict[str, Any]) -> _Entry:
    if not hasattr(function, "data"):
        raise TypeError(f"{function!r} is not a stored function: decorate it by @stored")
    bound = inspect.signature(function).bind(**arguments)
    bound.apply_defaults()
    made_by: list[Call] = []
    content = _encode(dict(bound.arguments), function.__name__, {}, made_by)
    stem = cache_dir() / "results" / function.__name__ / address(function, content)
    return _Entry(function, dict(bound.arguments), content, made_by, stem)


def address(function: Callable[..., Any], content: Any) -> str:
    """Where the result of a stored function lies, from its arguments as a record has them. In which
    module a function or class stands does not count."""

    def bare(value: Any) -> Any:
        if isinstance(value, list):
            return [bare(item) for item in value]
        if not isinstance(value, dict):
            return value
        names = {key: value[key].rpartition(":")[2] for key in ("code of", "tuple") if key in value}
        return {key: names.get(key) or bare(item) for key, item in value.items()}

    parts = sorted([part.rpartition(":")[2], digest] for part, digest in code_of(function).items())
    whole = json.dumps([function.__name__, bare(content), function.data(), parts], sort_keys=True)
    return _sha256(whole.encode())[:20]


# --- computing -----------------------------------------------------------------------------------


def _compute_all(entries: list[_Entry], jobs: int, threads: int) -> Iterator[Path]:
    """Computes all entries and yields the stem of each when it is stored."""
    if jobs == 1:
        for entry in entries:
            _compute(entry)
            yield entry.stem
        return
    settings = {k: v for k, v in os.environ.items() if k.startswith("LAZY_ARTIST_")}
    before = torch.get_num_threads()
    try:
        # a worker without work ends after ten seconds, and with it the memory that it holds
        workers = joblib.Parallel(
            n_jobs=jobs, batch_size=1, return_as="generator_unordered", idle_worker_timeout=10
        )
        yield from workers(joblib.delayed(_in_worker)(e, threads, settings) for e in entries)
    finally:
        torch.set_num_threads(before)  # a backend of threads changes it here (MKL has one for all)


def _in_worker(entry: _Entry, threads: int, settings: dict[str, str]) -> Path:
    # Workers live on from call to call: they may have started in another environment, or before
    # an edit to the source.
    for name in [name for name in os.environ if name.startswith("LAZY_ARTIST_")]:
        if name not in settings:
            del os.environ[name]
    os.environ.update(settings)
    torch.set_num_threads(threads)
    if multiprocessing.current_process().name.startswith("Loky"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends its workers
    if _entry(entry.function, entry.arguments).stem != entry.stem:
        raise ArtifactError(
            f"{entry}: the code differs between this process and its workers: run again in a new "
            f"process (restart the kernel), or with jobs=1"
        )
    token = _at_work.set(True)
    try:
        _compute(entry)
    finally:
        _at_work.reset(token)
    return entry.stem


def _compute(entry: _Entry) -> None:
    """Computes and stores, unless another process did while this one waited for the lock."""
    folder = entry.stem.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ArtifactError(
            f"the store {folder} cannot be written to ({error.strerror or error}): make it "
            f"writable, {_REMEDY}"
        ) from error
    if free < _FREE_BYTES:
        raise ArtifactError(f"the store {folder} has only {free >> 20} MiB free: {_REMEDY}")
    with _lock(entry.stem):
        if _read_or_remove(entry.stem) is not _MISSING:
            return
        for left in folder.glob(f"{entry.stem.name}*.tmp"):  # of a process that was killed
            left.unlink(missing_ok=True)
        started, used = time.perf_counter(), [_entry(*call).stem.name for call in entry.made_by]
        token = _used.set(used)
        try:
            value = entry.function.__wrapped__(**entry.arguments)
        except ArtifactError:
            raise
        except torch.OutOfMemoryError as error:
            remedy = "set LAZY_ARTIST_DEVICE=cpu, or end what else uses it"
            raise ArtifactError(f"{entry}: {device()} has too little memory: {remedy}") from error
        except Exception as error:
            raise ArtifactError(f"{entry} failed: {type(error).__name__}: {error}") from error
        finally:
            _used.reset(token)
        seconds, arrays = time.perf_counter() - started, {}
        try:
            value = _encode(value, "value", arrays)
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"{entry}: {error}; nothing is stored") from error
        content = safetensors.torch.save(arrays)
        record = {
            "name": entry.function.__name__,
            "module": entry.function.__module__,
            "source": data_source(),
            "arguments": entry.content,
            "uses": sorted(set(used)),
            "torch": torch.__version__,
            "machine": machine(),
            "wall_seconds": round(seconds, 3),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "value": value,
            "sha256": _sha256(content),
        }
        record["record_sha256"] = _sha256(json.dumps(record).encode())
        try:
            if arrays:
                write_whole(entry.stem.with_suffix(".safetensors"), content)
            write_whole(entry.stem.with_suffix(".json"), json.dumps(record, indent=1).encode())
        except OSError as error:
            raise ArtifactError(
                f"{entry} could not be stored in {folder} ({error.strerror or error}): {_REMEDY}"
            ) from error


# --- values as JSON and safetensors --------------------------------------------------------------


def _encode(
    value: Any, where: str, arrays: dict[str, torch.Tensor], made_by: list[Call] | None = None
) -> Any:
    """The value as JSON, equal for equal values; its arrays go into `arrays`, named by their place.

    made_by: given for arguments, which may hold calls and functions; takes the calls; arrays stand
    as their checksums then. Raises TypeError or ValueError, with the place, for what cannot be
    stored.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{where} is {value}, not finite")
        return value
    if isinstance(value, np.ndarray | torch.Tensor):
        is_array = isinstance(value, np.ndarray)
        try:
            tensor = torch.from_numpy(_native(value)) if is_array else value.detach().cpu()
        except TypeError as error:
            raise TypeError(f"{where} cannot be stored: {error}") from None
        if tensor.dtype.is_floating_point and not tensor.isfinite().all():
            raise ValueError(f"{where} holds values that are not finite")
        arrays[where] = tensor.clone(memory_format=torch.contiguous_format)
        if made_by is not None:
            return {"sha256": _sha256(safetensors.torch.save({"": arrays.pop(where)}))}
        return {"$": "array" if is_array else "tensor", "at": where}
    if isinstance(value, pd.DataFrame):
        if not isinstance(value.index, pd.RangeIndex):
            raise ValueError(f"{where} has an index of its own: call reset_index()")
        columns = []
        for name, column in value.items():
            at = f"{where}.{name}"
            if column.dtype.kind in "biuf":  # NaN is a missing value
                arrays[at] = torch.from_numpy(_native(column.to_numpy()))
                columns.append([name, {"$": "array", "at": at}])
            else:
                texts = column.astype(object).where(column.notna(), None).to_list()
                columns.append([name, _encode(texts, at, arrays)])
        return {"$": "frame", "columns": columns}
    if isinstance(value, dict):
        if wrong := [name for name in value if not isinstance(name, str) or name == "$"]:
            raise TypeError(f"{where} has the key {wrong[0]!r}: keys must be texts")
        return {n: _encode(item, f"{where}.{n}", arrays, made_by) for n, item in value.items()}
    if made_by is not None and isinstance(value, Call):
        made_by.append(value)
        return {"made by": value.function.__name__, "address": _entry(*value).stem.name}
    if made_by is not None and isinstance(value, tuple) and hasattr(value, "_fields"):
        items = _encode(list(value), where, arrays, made_by)
        return {"tuple": f"{type(value).__module__}:{type(value).__qualname__}", "items": items}
    if made_by is not None and isinstance(value, types.FunctionType | type):
        return described(value)
    if isinstance(value, list | tuple | range):
        return [_encode(item, f"{where}.{i}", arrays, made_by) for i, item in enumerate(value)]
    raise TypeError(
        f"{where} is of type {type(value).__name__}, which cannot be stored: use frames, arrays, "
        f"tensors, numbers, texts, and lists and dictionaries of these"
    )


def described(function: Callable[..., Any]) -> dict[str, str]:
    """A function as an argument: its name and the digest of the code that it reaches."""
    digest = _sha256(str(sorted(code_of(function).values())).encode())
    return {"code of": f"{function.__module__}:{function.__qualname__}", "digest": digest}


def _native(array: np.ndarray) -> np.ndarray:
    """A copy that torch takes, whatever the byte order and the strides."""
    return array.astype(array.dtype.newbyteorder("="))


def _decode(value: Any, arrays: dict[str, torch.Tensor]) -> Any:
    match value:
        case {"$": "tensor", "at": at}:
            return arrays[at]
        case {"$": "array", "at": at}:
            return arrays[at].numpy()
        case {"$": "frame", "columns": columns}:
            return pd.DataFrame({name: _decode(column, arrays) for name, column in columns})
        case dict():
            return {name: _decode(item, arrays) for name, item in value.items()}
        case list():
            return [_decode(item, arrays) for item in value]
    return value


# --- files ---------------------------------------------------------------------------------------


class _Damaged(Exception):
    """A stored file is not what was written; the message says how."""


def _lookup(stem: Path) -> Any:
    try:
        value = read(stem)
    except _Damaged:
        with _lock(stem):  # it may only be that another process writes it just now
            value = _read_or_remove(stem)
    if value is _MISSING and (folder := repository_results()):
        try:
            return read(folder / stem.parent.name / stem.name)
        except _Damaged as damage:
            warnings.warn(f"{damage}; it is not used, and computed", ArtifactWarning, stacklevel=2)
    return value


def _read_or_remove(stem: Path) -> Any:
    """For the holder of the lock."""
    try:
        return read(stem)
    except _Damaged as damage:
        warnings.warn(f"{damage}; it is removed and computed again", ArtifactWarning, stacklevel=2)
        for suffix in (".json", ".safetensors"):
            stem.with_suffix(suffix).unlink(missing_ok=True)
        return _MISSING


def read(stem: Path) -> Any:
    """The result in the files of this stem, `_MISSING` if there are none. Raises `_Damaged`."""
    try:
        record = _read_record(stem)
    except (FileNotFoundError, NotADirectoryError):
        return _MISSING
    arrays, path = {}, stem.with_suffix(".safetensors")
    if record["sha256"] != _sha256(safetensors.torch.save({})):
        content = path.read_bytes() if path.is_file() else b""
        if _sha256(content) != record["sha256"]:
            raise _Damaged(f"result {path} is gone, truncated or altered")
        arrays = safetensors.torch.load(content)
    return _decode(record["value"], arrays)


def _read_record(stem: Path) -> dict[str, Any]:
    path = stem.with_suffix(".json")
    try:
        record = json.loads(path.read_bytes())
        digest = record.pop("record_sha256")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _Damaged(f"record {path} is no record") from None
    if digest != _sha256(json.dumps(record).encode()):
        raise _Damaged(f"record {path} is altered")
    return record


def _lock(stem: Path) -> FileLock:
    stem.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{stem}.lock")


def machine() -> str:
    """Processor and accelerator, in words."""
    where = device()
    name = torch.cuda.get_device_name() if where.type == "cuda" else where.type
    other = f", {name}" * (where.type != "cpu")
    return f"{platform.machine()}, {os.cpu_count()} processor cores{other}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
