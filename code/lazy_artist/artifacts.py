"""The artefact store: what is slow to make is made once, and reused while it is still true.

`fetch(build, config, data_md5)` returns what `build(**config)` returns, from the store if it is
there. The address of an artefact is a hash of its configuration, of its data's checksum and of
the code that the build reaches (`fingerprint`), so nothing stale is ever found, and nothing has
to be invalidated by hand. An artefact is two files in `<cache>/artifacts/<build name>/`:

    <key>.safetensors   the tensors
    <key>.json          the record: configuration, versions, times, metrics, checksums

The record is written last, by an atomic replace, and is the commit mark: a build killed at any
moment leaves no record, hence no artefact. A file lock for each key makes two builds at once safe.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import shutil
import signal
import symtable
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import joblib
import numpy as np
import safetensors.torch
import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from lazy_artist.data import cache_dir

Build = Callable[..., tuple[dict[str, torch.Tensor | np.ndarray], dict[str, Any]]]

_FREE_BYTES = 200 * 2**20
_KEY_DIGITS = 20
_IDLE_SECONDS = 10  # after which a worker without work ends, and with it the memory that it holds
_REMEDY = "free some space, or set LAZY_ARTIST_CACHE to a writable folder with more room"


class ArtifactError(RuntimeError):
    """An artefact could not be built or stored; what was stored before is untouched."""


class ArtifactWarning(UserWarning):
    """A stored artefact is damaged and will be built again."""


class Artifact(NamedTuple):
    """tensors: by name, in the build's order; a NumPy array where the build gave one, else a
    tensor on the CPU. record: the JSON record, with the build's metrics under "metrics"."""

    tensors: dict[str, torch.Tensor | np.ndarray]
    record: dict[str, Any]


# --- fetching ------------------------------------------------------------------------------------


def fetch(build: Build, config: dict[str, Any], data_md5: str) -> Artifact:
    """The artefact of `build(**config)`, built and stored first if it is not there.

    build: a function at the top level of a module, returning (tensors, metrics): finite tensors or
        arrays by name, and a JSON-able dictionary (NumPy and torch values become numbers and
        lists). It gets `config` as JSON gives it back: tuples arrive as lists.
    config: JSON-able; the record's "seed" is config.get("seed").
    data_md5: checksum of the data that the build reads.

    Raises TypeError for a build or config that cannot be stored by its content, ValueError for a
    NaN or infinity in config, and `ArtifactError`, which names the build and its configuration, if
    building or storing fails.
    """
    entry = _entry(build, config, data_md5)
    return _lookup(entry.stem) or _make(entry)


def fetch_many(
    build: Build,
    configs: Iterable[dict[str, Any]],
    data_md5: str,
    jobs: int | None = None,
    title: str | None = None,
) -> list[Artifact]:
    """The artefacts of `build` for each of `configs`, in order; see `fetch_all`. The progress bar's
    title is by default the build's name."""
    return fetch_all(((build, c) for c in configs), data_md5, jobs, title or build.__name__)


def fetch_all(
    wanted: Iterable[tuple[Build, dict[str, Any]]],
    data_md5: str,
    jobs: int | None = None,
    title: str = "building",
) -> list[Artifact]:
    """The artefact of each build and configuration, in order; see `fetch`.

    The missing ones are built in `jobs` parallel processes (by default one for each usable core),
    which share the cores, and are stored as soon as they are done: an interruption loses only the
    unfinished ones. They are begun in order, so that what others stand on is best asked for before,
    and what takes longest first. A single missing one is built in this process, on all cores. The
    processes are joblib's; `joblib.parallel_config` chooses another backend. Of all processes that
    share the store one at a time has such workers, so that two chapters executed side by side do
    not crowd the machine and its memory; the others wait. On a terminal a progress bar called
    `title` counts the missing ones.
    """
    wanted = list(wanted)
    parts = {build: fingerprint(build) for build in dict.fromkeys(build for build, _ in wanted)}
    entries = [_entry(build, config, data_md5, parts[build]) for build, config in wanted]
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1, not {jobs}")
    found = {entry.stem: _lookup(entry.stem) for entry in entries}
    missing = list({entry.stem: entry for entry in entries if not found[entry.stem]}.values())
    if missing:
        for folder in {entry.stem.parent for entry in missing}:
            _check_folder(folder)
        cores = joblib.cpu_count()
        jobs = 1 if _at_work.get() else min(jobs or cores, len(missing))
        turn = _lock(cache_dir() / "artifacts" / "workers") if jobs > 1 else nullcontext()
        with turn, tqdm(total=len(missing), desc=title, disable=None) as bar:
            for stem in _make_all(missing, jobs, max(1, cores // jobs)):
                found[stem] = _lookup(stem)
                bar.update()
    return [found[entry.stem] or _make(entry) for entry in entries]


def records() -> list[dict[str, Any]]:
    """The records of all stored artefacts but damaged ones, by build name, then by time."""
    found = []
    for path in sorted((cache_dir() / "artifacts").glob("*/*.json")):
        try:
            found.append(_read_record(path))
        except (_Damaged, FileNotFoundError):
            continue
    return sorted(found, key=lambda record: (record["name"], record["created"]))


def clear(name: str | None = None) -> None:
    """Removes the artefacts of the build called `name`, or all artefacts."""
    for folder in (cache_dir() / "artifacts").glob("*"):
        if folder.is_dir() and name in (None, folder.name):
            files = [*folder.glob("*.json"), *folder.glob("*.safetensors")]
            for stem in {path.with_suffix("") for path in files}:
                with _lock(stem):
                    _remove(stem)
            _sweep(folder)


# --- what an artefact stands on ------------------------------------------------------------------


def key(build: Build, config: dict[str, Any], data_md5: str) -> str:
    """sha256, in hex, of the build's name, `config`, `data_md5` and the build's `fingerprint`."""
    return _entry(build, config, data_md5).key


def fingerprint(function: Callable[..., Any]) -> dict[str, str]:
    """The project's code that `function` stands on, as sha256 in hex by part.

    "module:name" is the source of a function or class of the function's own module, "module:NAME="
    the value of a constant there, for all names that the code refers to, directly or through
    others of that module. "module" is the whole source of another module of this project, for
    each one that this code imports (inside functions too) and, transitively, that those import.

    Source is taken without docstrings, comments and layout: they rebuild nothing. Libraries are not
    taken (the record names their versions), nor is this store, which does not shape what it keeps.
    Imports by computed names (`importlib.import_module`) are not seen. Constants of the function's
    own module are taken as they are now, so that one read from the environment counts.

    Raises TypeError if `function` is not found by its name at the top level of a module, and
    `ArtifactError` if the source of a part was edited after this process loaded its module.
    """
    home, name = getattr(function, "__module__", None), getattr(function, "__name__", None)
    if home == "__main__" or getattr(sys.modules.get(home), str(name), None) is not function:
        raise TypeError(
            f"{function!r} must be a function at the top level of an importable module, "
            f"so that its source can be found"
        )
    project = {__name__.partition(".")[0], home.partition(".")[0]}
    parts: dict[str, str] = {}

    names, modules = {name}, set()
    followed = set()
    while names - followed:
        name = (names - followed).pop()
        followed.add(name)
        bindings = _source(home).bindings.get(name, [])
        if bindings and not any(isinstance(node, _DEFINITIONS) for node in bindings):
            try:
                reached: list[tuple[str, str]] = []
                content = _content(getattr(sys.modules[home], name), reached)
                if (home, name) in reached:
                    raise _Opaque
            except (_Opaque, AttributeError):
                pass  # its source has to do
            else:
                parts[f"{home}:{name}="] = _sha256(content)
                names.update(inner.partition(".")[0] for m, inner in reached if m == home)
                modules.update(m for m, _ in reached if m != home)
                continue
        read = [_read_statement(node, _package(home)) for node in bindings]
        modules.update(_resolve((i for statement in read for i in statement.imports), project))
        names.update(*(statement.names for statement in read))
        if source := [statement.text for statement in read if statement.text]:
            parts[f"{home}:{name}"] = _current(home, f":{name}", _sha256("\n".join(source)))
    for node in _source(home).bindings.get("*", []):
        modules.update(_resolve(_read_statement(node, _package(home)).imports, project))

    while modules:
        module = modules.pop()
        if module in parts or module == __name__ or module.partition(".")[0] not in project:
            continue
        source = _source(module)
        parts[module] = _current(module, "", source.digest)
        modules.update(_resolve(source.imports, project))
    return dict(sorted(parts.items()))


_DEFINITIONS = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Import,
    ast.ImportFrom,
)


class _Source(NamedTuple):
    """A module's source without docstrings."""

    digest: str
    imports: frozenset[tuple[str, str]]  # (module, name taken from it or "") of all its imports
    bindings: dict[str, list[ast.stmt]]  # top-level name -> the statements that bind it


def _source(module: str) -> _Source:
    path = _locate(module)
    if path is None:
        raise TypeError(f"module {module} has no source file, so its content cannot be known")
    stat = path.stat()
    return _parse(path, _package(module), stat.st_mtime_ns, stat.st_size)


@functools.cache
def _parse(path: Path, package: str, mtime: int, size: int) -> _Source:
    tree = ast.parse(path.read_bytes(), filename=str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            match node.body:
                case [ast.Expr(ast.Constant(str())), *rest]:
                    node.body = rest or [ast.Pass()]
    bindings: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                single = copy.copy(node)
                single.names = [alias]
                name = alias.asname or alias.name
                if isinstance(node, ast.Import):
                    name = name.partition(".")[0]
                bindings.setdefault(name, []).append(single)
        else:
            for symbol in _table(ast.unparse(node)).get_symbols():
                if symbol.is_assigned() or symbol.is_imported():
                    bindings.setdefault(symbol.get_name(), []).append(node)
    return _Source(_sha256(ast.unparse(tree)), frozenset(_imports(tree, package)), bindings)


class _Statement(NamedTuple):
    text: str  # "" of an import
    imports: frozenset[tuple[str, str]]
    names: frozenset[str]  # the module-level names that it refers to


@functools.cache
def _read_statement(node: ast.stmt, package: str) -> _Statement:
    """What a top-level statement of a parsed source holds."""
    text = "" if isinstance(node, ast.Import | ast.ImportFrom) else ast.unparse(node)
    return _Statement(text, frozenset(_imports(node, package)), frozenset(_global_names(text)))


def _locate(module: str) -> Path | None:
    """The file of a module of a loaded top-level package, found without importing the module."""
    root, *rest = module.split(".")
    top = sys.modules[root]
    if not rest:
        return Path(top.__file__) if getattr(top, "__file__", None) else None
    for folder in getattr(top, "__path__", ()):
        base = os.path.join(folder, *rest)
        for path in (os.path.join(base, "__init__.py"), f"{base}.py"):
            if os.path.isfile(path):
                return Path(path)
    return None


def _package(module: str) -> str:
    """The package that relative imports in `module` start from."""
    path = _locate(module)
    is_package = path is not None and path.name == "__init__.py"
    return module if is_package else module.rpartition(".")[0]


def _imports(tree: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, *filter(None, [base])])
            yield from ((base, alias.name) for alias in node.names)


def _resolve(imported: Iterable[tuple[str, str]], project: set[str]) -> Iterator[str]:
    """The project's modules that imports mean; `from a import b` may mean a or a.b."""
    for module, name in imported:
        if module.partition(".")[0] in project:
            whole = f"{module}.{name}" if name else module
            if name and _locate(whole):
                yield whole
            elif _locate(module):
                yield module


def _table(text: str) -> symtable.SymbolTable:
    return symtable.symtable(text, "<source>", "exec")


def _global_names(text: str) -> set[str]:
    """The module-level names that a top-level statement refers to, in nested scopes too."""
    found, tables = set(), [_table(text)]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (symbol.is_global() or table.get_type() == "module"):
                found.add(symbol.get_name())
    return found


class _Opaque(Exception):
    """A value that cannot be told by its content."""


_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice),
    *(torch.dtype, torch.device, np.ufunc, types.BuiltinFunctionType),
)


def _content(value: Any, reached: list[tuple[str, str]]) -> str:
    """A text that is equal for equal values; adds (module, name) of the code in it to `reached`."""

    def inside(values: Iterable[Any]) -> str:
        return ", ".join(_content(item, reached) for item in values)

    kind = type(value)
    if kind in _PLAIN or isinstance(value, PurePath | np.dtype):
        return repr(value)
    if kind in (list, tuple):
        return f"{kind.__name__}({inside(value)})"
    if kind in (set, frozenset):
        return f"{kind.__name__}({sorted(_content(item, reached) for item in value)})"
    if kind is dict:
        return f"dict({inside(value.items())})"
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        return f"{kind.__name__}({value.dtype}, {value.shape}, {_sha256(value.tobytes())})"
    if kind is torch.Tensor and value.layout is torch.strided:
        array = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return f"Tensor({value.dtype}, {tuple(value.shape)}, {_sha256(array.tobytes())})"
    if isinstance(value, types.ModuleType):
        reached.append((value.__name__, ""))
        return f"module({value.__name__})"
    if isinstance(value, types.FunctionType | type):
        found = sys.modules.get(value.__module__)
        for name in value.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is not value:  # a lambda, a wrapper, something local
            raise _Opaque
        reached.append((value.__module__, value.__qualname__))
        return f"{value.__module__}:{value.__qualname__}"
    if kind is functools.partial:
        return f"partial({inside([value.func, value.args, value.keywords])})"
    if isinstance(value, Enum):
        return f"{_content(kind, reached)}.{value.name}"
    if dataclasses.is_dataclass(value):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return f"{inside([kind, fields])}"
    raise _Opaque


_first_seen: dict[str, tuple[Any, str]] = {}


def _current(module: str, name: str, digest: str) -> str:
    """`digest`, unless the source was edited since this process loaded the module: then what is
    built here would be the old code's work, stored under the new code's key."""
    spec = getattr(sys.modules.get(module), "__spec__", None)  # a reload makes a new one
    seen_spec, seen_digest = _first_seen.get(module + name, (None, digest))
    if spec is not None and seen_spec is spec and seen_digest != digest:
        raise ArtifactError(
            f"the source of {module}{name} was edited after this process loaded it: "
            f"run again in a new process (restart the kernel)"
        )
    _first_seen[module + name] = (spec, digest)
    return digest


# --- building ------------------------------------------------------------------------------------


class _Entry(NamedTuple):
    build: Build
    config: dict[str, Any]
    data_md5: str
    fingerprint: dict[str, str]
    key: str
    stem: Path  # of the two files

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config.items())
        return f"{self.build.__name__}({arguments})"


def _entry(
    build: Build, config: dict[str, Any], data_md5: str, parts: dict[str, str] | None = None
) -> _Entry:
    _check_json(config, "config")
    parts = parts or fingerprint(build)
    whole = _sha256(
        _canonical(
            {
                "name": build.__name__,
                "config": config,
                "data_md5": data_md5,
                "fingerprint": parts,
            }
        )
    )
    stem = cache_dir() / "artifacts" / build.__name__ / whole[:_KEY_DIGITS]
    return _Entry(build, json.loads(json.dumps(config)), data_md5, parts, whole, stem)


def _make_all(entries: list[_Entry], jobs: int, threads: int) -> Iterator[Path]:
    """Builds all entries and yields the stem of each when it is stored."""
    if jobs == 1:
        for entry in entries:
            _make(entry)
            yield entry.stem
        return
    settings = {k: v for k, v in os.environ.items() if k.startswith("LAZY_ARTIST_")}
    before = torch.get_num_threads()
    try:
        workers = joblib.Parallel(
            n_jobs=jobs,
            batch_size=1,
            return_as="generator_unordered",
            idle_worker_timeout=_IDLE_SECONDS,
        )
        yield from workers(
            joblib.delayed(_make_in_worker)(entry, threads, settings) for entry in entries
        )
    finally:
        torch.set_num_threads(before)  # a backend of threads changes it here (MKL has one for all)


def _make_in_worker(entry: _Entry, threads: int, settings: dict[str, str]) -> Path:
    # Workers live on from call to call: they may have started in another environment, or before
    # an edit to the source.
    for name in [name for name in os.environ if name.startswith("LAZY_ARTIST_")]:
        if name not in settings:
            del os.environ[name]
    os.environ.update(settings)
    torch.set_num_threads(threads)
    if multiprocessing.current_process().name.startswith("Loky"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends its workers
    if key(entry.build, entry.config, entry.data_md5) != entry.key:
        raise ArtifactError(
            f"{entry}: the code or its constants differ between this process and its workers: "
            f"run again in a new process (restart the kernel), or with jobs=1"
        )
    token = _at_work.set(True)
    try:
        _make(entry)
    finally:
        _at_work.reset(token)
    return entry.stem


_at_work: ContextVar[bool] = ContextVar("_at_work", default=False)
"""True within a worker, whose builds work alone: workers of workers would wait for their turn
for ever."""


def _make(entry: _Entry) -> Artifact:
    """Builds and stores, unless another process did while this one waited for the lock."""
    folder = entry.stem.parent
    _check_folder(folder)
    with _lock(entry.stem):
        if artifact := _read_or_remove(entry.stem):
            return artifact
        _sweep(folder)
        started = time.perf_counter()
        try:
            tensors, metrics = entry.build(**copy.deepcopy(entry.config))
        except ArtifactError:
            raise
        except Exception as error:
            raise ArtifactError(f"{entry} failed: {type(error).__name__}: {error}") from error
        seconds = time.perf_counter() - started
        record = {
            "name": entry.build.__name__,
            "key": entry.key,
            "config": entry.config,
            "data_md5": entry.data_md5,
            "seed": entry.config.get("seed"),
            "fingerprint": entry.fingerprint,
            "versions": _versions(),
            "wall_seconds": round(seconds, 3),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {
                "cpus": os.cpu_count(),
                "architecture": platform.machine(),
                "threads": torch.get_num_threads(),
            },
            "metrics": _plain_metrics(entry, metrics),
            "tensors": {
                name: "torch" if isinstance(value, torch.Tensor) else "numpy"
                for name, value in tensors.items()
            },
        }
        _store(entry.stem, _serialise(entry, tensors), record)
        return _read(entry.stem)


def _versions() -> dict[str, str]:
    try:
        own = importlib.metadata.version("lazy-artist")
    except importlib.metadata.PackageNotFoundError:
        own = "not installed"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "lazy_artist": own,
    }


def _plain_metrics(entry: _Entry, metrics: dict[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(
            json.dumps(metrics, default=lambda value: value.tolist(), allow_nan=False)
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{entry}: its metrics cannot be stored as JSON: {error}") from error


def _serialise(entry: _Entry, tensors: dict[str, torch.Tensor | np.ndarray]) -> bytes:
    stored = {}
    for name, value in tensors.items():
        if isinstance(value, np.ndarray | np.generic):
            try:
                value = torch.tensor(np.asarray(value))
            except (TypeError, ValueError) as error:
                raise ArtifactError(f"{entry}: array {name!r} cannot be stored: {error}") from error
        elif not isinstance(value, torch.Tensor):
            raise ArtifactError(
                f"{entry}: {name!r} must be a tensor or an array, not {type(value).__name__}"
            )
        if (value.is_floating_point() or value.is_complex()) and not value.isfinite().all():
            raise ArtifactError(
                f"{entry}: tensor {name!r} holds values that are not finite; nothing is stored"
            )
        stored[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    try:
        return safetensors.torch.save(stored)
    except Exception as error:  # the library raises many kinds
        raise ArtifactError(f"{entry}: its tensors cannot be stored: {error}") from error


# --- files ---------------------------------------------------------------------------------------


class _Damaged(Exception):
    """A stored file is not what was written; the message says how."""


def _lookup(stem: Path) -> Artifact | None:
    try:
        return _read(stem)
    except _Damaged:
        with _lock(stem):  # it may only be that another process writes it just now
            return _read_or_remove(stem)


def _read_or_remove(stem: Path) -> Artifact | None:
    """For the holder of the lock."""
    try:
        return _read(stem)
    except _Damaged as damage:
        warnings.warn(f"{damage}; it is removed and built again", ArtifactWarning, stacklevel=2)
        _remove(stem)
        return None


def _read(stem: Path) -> Artifact | None:
    try:
        record = _read_record(stem.with_suffix(".json"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    path = stem.with_suffix(".safetensors")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise _Damaged(f"artefact {path} is gone, but its record is there") from None
    if _sha256(content) != record["sha256"]:
        raise _Damaged(f"artefact {path} is truncated or altered: its sha256 is not the record's")
    loaded = safetensors.torch.load(content)
    tensors = {
        name: loaded[name].numpy() if kind == "numpy" else loaded[name]
        for name, kind in record["tensors"].items()
    }
    return Artifact(tensors, record)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
        checksum = record.pop("checksum")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _Damaged(f"artefact record {path} is not a record") from None
    if checksum != _sha256(_canonical(record)):
        raise _Damaged(f"artefact record {path} is altered: its checksum is not its content's")
    return record


def _store(stem: Path, content: bytes, record: dict[str, Any]) -> None:
    record = {**record, "sha256": _sha256(content)}
    record["checksum"] = _sha256(_canonical(record))
    try:
        _write(stem.with_suffix(".safetensors"), content)
        _write(stem.with_suffix(".json"), json.dumps(record, indent=1).encode())
    except OSError as error:
        raise ArtifactError(
            f"{record['name']} could not be stored in {stem.parent} ({error.strerror or error}): "
            f"{_REMEDY}; stored artefacts are untouched"
        ) from error


def _write(path: Path, content: bytes) -> None:
    """For the holder of the lock: writes the whole file or nothing."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove(stem: Path) -> None:
    stem.with_suffix(".json").unlink(missing_ok=True)
    stem.with_suffix(".safetensors").unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Removes temporary files of killed processes: those whose lock nobody holds."""
    for temporary in folder.glob("*.tmp"):
        try:
            with FileLock(f"{folder / temporary.name[:_KEY_DIGITS]}.lock", timeout=0):
                temporary.unlink(missing_ok=True)
        except Timeout:
            continue


def _lock(stem: Path) -> FileLock:
    return FileLock(f"{stem}.lock")


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < _FREE_BYTES:
            raise ArtifactError(
                f"the artefact folder {folder} has only {free / 2**20:.0f} MiB free, and "
                f"{_FREE_BYTES / 2**20:.0f} MiB are needed: {_REMEDY}"
            )
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ArtifactError(
            f"the artefact folder {folder} cannot be written to ({error.strerror or error}): "
            f"make it writable, {_REMEDY}"
        ) from error


# --- hashing -------------------------------------------------------------------------------------


def _sha256(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _check_json(value: Any, where: str) -> None:
    """Raises TypeError or ValueError, naming the place, for what JSON would refuse or change."""
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise TypeError(f"{where} has the key {name!r}: keys must be strings")
            _check_json(item, f"{where}[{name!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_json(item, f"{where}[{index}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}: it must be finite")
    elif value is not None and not isinstance(value, bool | int | str):
        raise TypeError(
            f"{where} is of type {type(value).__name__}, which JSON cannot hold: use numbers, "
            f"strings, booleans, None, lists and dictionaries"
        )
