"""The store: reuse, damage, interruption, and what an address takes of arguments and code."""

import errno
import importlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock

from lazy_artist import canvas
from lazy_artist.reach import EditedError, code_of
from lazy_artist.store import ArtifactError, ArtifactWarning, Call, records, run, stored

# No test but those of damage may meet a damaged result.
pytestmark = pytest.mark.filterwarnings("error::lazy_artist.store.ArtifactWarning")


def data_md5():
    return os.environ.get("TEST_MD5", "md5")


@stored(data=data_md5)
def build(log, seed=0, sleep=0.0, scale=(1, 2)):
    """Logs that it ran; what it returns depends on the seed."""
    with open(log, "a") as file:
        file.write(f"{seed}\n")
    time.sleep(sleep)
    frame = {"name": ["a", None], "share": [0.5, float("nan")], "count": [seed, 2], "is": [True, 0]}
    return {
        "weight": torch.rand(3, 2, generator=torch.Generator().manual_seed(seed)).T,  # strided
        "curve": np.linspace(0, seed, 4)[::-1],  # of negative strides
        "count": torch.tensor(seed),
        "scalar": np.array(seed),
        "empty": torch.zeros(0, 5),
        "mask": np.array([True, False]),
        "frame": pd.DataFrame(frame).astype({"is": bool}),
        "accuracy": np.float32(0.5),
        "steps": [np.int64(3), {"nothing": None}],
    }


@stored(data=data_md5)
def failing(seed):
    if seed == 1:
        raise ValueError("the seed is not to my liking")
    return 1


WRONG = {
    "nan": ({"x": torch.tensor([1.0, float("nan")])}, r"x holds values that are not finite"),
    "inf": ({"x": [0, np.array([np.inf])]}, r"x\.1 holds values that are not finite"),
    "texts": ({"x": np.array(["a"])}, r"x cannot be stored"),
    "number": ({"x": float("nan")}, r"x is nan, not finite"),
    "object": ({"x": object()}, r"x is of type object"),
    "keys": ({"x": {1: 2}}, r"x has the key 1"),
    "index": ({"x": pd.DataFrame({"y": [1]}, index=["a"])}, r"x has an index of its own"),
}


@stored(data=data_md5)
def returning(what):
    return WRONG[what][0]


@stored(data=data_md5)
def asking_for_more(log, seed):
    stored.map(build, [{"log": log, "seed": 10 * seed + k} for k in (1, 2)], jobs=2)


@stored(data=data_md5)
def seeing_environment(seed):
    return [os.environ.get("LAZY_ARTIST_SOURCE"), torch.get_num_threads()]


class Handle(NamedTuple):
    name: str
    made_by: Call


@stored(data=data_md5)
def standing_on(handles, log):
    with open(log, "a") as file:
        file.write("1000\n")
    return [handle.made_by.value()["count"] for handle in handles]


# --- helpers -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "results"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.touch()
    return str(path)


def runs(log):
    return sorted(int(line) for line in Path(log).read_text().split())


def of_seeds(log, *seeds):
    return [{"log": log, "seed": seed} for seed in seeds]


def files(cache, pattern="*"):
    """The store's files, locks apart."""
    return sorted(path for path in cache.glob(f"*/{pattern}") if path.suffix != ".lock")


def same(first, second):
    """Equal in kind, type and every value."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert list(first) == list(second)
        first, second = list(first.values()), list(second.values())
    if isinstance(first, list):
        for one, other in zip(first, second, strict=True):
            same(one, other)
    elif isinstance(first, pd.DataFrame):
        pd.testing.assert_frame_equal(first, second, check_exact=True)
    elif isinstance(first, np.ndarray | torch.Tensor):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second), strict=True)
    else:
        assert first == second


def start(action):
    """Runs `action` in a forked process."""
    if child := os.fork():
        return child
    try:
        action()
        os._exit(0)
    except BaseException:
        os._exit(1)


def ended(child):
    """How a process ended: 0, 1, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# --- reuse ---------------------------------------------------------------------------------------


def test_a_result_comes_back_as_it_was_and_is_computed_once(log, cache):
    first = build(log, 3)
    expected = build.__wrapped__(os.devnull, 3) | {"accuracy": 0.5, "steps": [3, {"nothing": None}]}
    same(first, expected)
    same(first, build(seed=3, log=log, scale=[1, 2]))  # however the arguments are given
    assert runs(log) == [3]
    assert [path.suffix for path in files(cache)] == [".json", ".safetensors"]


def test_data_and_arguments_count_by_their_content(log, monkeypatch):
    array = np.arange(6.0).reshape(2, 3)
    call, again = Call(build, {"log": log, "seed": 1}), Call(build, {"seed": 1, "log": log})
    functions = canvas.paint, canvas.flat_fill
    for scale in ((2, 1), array, array.T, array.astype(np.float32), *functions, call):
        build(log, scale=scale)
    for scale in ([2, 1], array.copy(), array.T.copy(), *functions, again):
        build(log, np.int64(0), scale=scale)
    assert runs(log) == [0] * 7 + [1]
    monkeypatch.setenv("TEST_MD5", "other")
    build(log, scale=(2, 1))
    assert runs(log) == [0] * 8 + [1]


def test_the_record_says_what_the_result_is(log):
    record = build.record(log, 7)
    assert record["name"] == "build" and record["arguments"]["seed"] == 7
    assert record["wall_seconds"] >= 0 and record["created"].endswith("+00:00")
    assert set(record["code"]) == {f"{__name__}:build", f"{__name__}:data_md5"}
    assert runs(log) == [7]
    failing(0)
    assert [r["name"] for r in records()] == ["build", "failing"]


def test_what_an_argument_is_made_by_is_made_first(log):
    handles = [Handle("a", Call(build, config)) for config in of_seeds(log, 5, 6)]
    assert [int(c) for c in standing_on(handles, log)] == [5, 6]
    assert Path(log).read_text().split()[-1] == "1000" and runs(log) == [5, 6, 1000]
    assert [int(c) for c in standing_on(handles[:1], log)] == [5]
    assert runs(log) == [5, 6, 1000, 1000]


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ({"a": [1, {2}]}, TypeError, r"build\.scale\.a\.1 is of type set"),
        ({1: 2}, TypeError, r"has the key 1"),
        (float("nan"), ValueError, r"build\.scale is nan"),
        (lambda: 1, TypeError, "top level of an importable module"),
    ],
)
def test_what_is_no_argument_or_no_stored_function_is_named(value, error, words, log):
    with pytest.raises(error, match=words):
        build(log, scale=value)
    with pytest.raises(TypeError, match="not a stored function"):
        run([(failing.__wrapped__, {"seed": 0})])
    assert runs(log) == []


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_stored_is_refused_by_name(what, cache):
    with pytest.raises(
        ArtifactError, match=rf"returning\(what='{what}'\): value\.{WRONG[what][1]}"
    ):
        returning(what)
    assert files(cache) == []


def test_an_error_names_function_arguments_and_message():
    for jobs, seeds in ((1, [1]), (2, [0, 1])):
        with pytest.raises(
            ArtifactError, match=r"failing\(seed=1\) failed: ValueError: the seed is"
        ):
            stored.map(failing, [{"seed": seed} for seed in seeds], jobs=jobs)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        stored.map(failing, [{"seed": 0}], jobs=0)


# --- damage and the disk -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".safetensors", lambda content: content[:-3]),
        (".safetensors", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        (".safetensors", None),
        (".json", lambda content: content[:-3]),
        (".json", lambda content: content.replace(b"0.5", b"0.9")),
        (".json", lambda content: b"[]"),
        (".json", lambda content: b""),
    ],
)
def test_a_damaged_result_is_named_and_computed_again(suffix, damage, log, cache):
    good = build(log, 3)
    (path,) = files(cache, f"*{suffix}")
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    with pytest.warns(ArtifactWarning, match=f"{path.name}.*computed again"):
        same(good, build(log, 3))
    same(good, build(log, 3))
    assert runs(log) == [3, 3]


def test_a_full_disk_or_a_closed_folder_is_named_and_leaves_the_rest(log, cache, monkeypatch):
    build(log, 1)
    before, usage = files(cache), shutil.disk_usage("/")._replace(free=5 * 2**20)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ArtifactError, match=f"{cache}.*No space left.*LAZY_ARTIST_CACHE"):
            build(log, 2)
        patch.setattr(shutil, "disk_usage", lambda _: usage)  # named before computing
        with pytest.raises(ArtifactError, match=f"{cache}.* 5 MiB free.*LAZY_ARTIST_CACHE"):
            build(log, 2)
    with monkeypatch.context() as patch:
        patch.setenv("LAZY_ARTIST_CACHE", log)  # a file stands where the folder should
        with pytest.raises(ArtifactError, match=f"{log}.*cannot be written to.*LAZY_ARTIST_CACHE"):
            build(log, 2)
    assert files(cache) == before
    stored.map(build, of_seeds(log, 1, 2))
    assert runs(log) == [1, 2, 2]


# --- interruption and company --------------------------------------------------------------------


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def dying_replace(suffix, after):
    real = os.replace

    def replace(source, target):
        if Path(target).suffix == suffix and not after:
            die()
        real(source, target)
        if Path(target).suffix == suffix:
            die()

    return replace


@pytest.mark.parametrize(
    ("where", "name", "replacement"),
    [
        (time, "sleep", die),  # while computing
        (os, "fsync", die),  # in the middle of the temporary file
        (os, "replace", dying_replace(".safetensors", after=False)),
        (os, "replace", dying_replace(".safetensors", after=True)),
        (os, "replace", dying_replace(".json", after=False)),
        (os, "replace", dying_replace(".json", after=True)),
    ],
)
def test_killed_at_any_moment_the_next_run_starts_clean(where, name, replacement, log, cache):
    build(log, 1)
    alive = cache / "build" / f"{'1' * 20}.json.9.tmp"  # of a living process
    alive.touch()

    def killed():
        setattr(where, name, replacement)
        build(log, 2)

    assert ended(start(killed)) == -signal.SIGKILL
    failing(0)  # another function's folder stays out of it
    assert build(log, 2)["count"] == 2 and build(log, 1)["count"] == 1
    assert runs(log).count(1) == 1
    assert files(cache, "*.tmp") == [alive]
    assert len(files(cache / "..", "build/*")) == 5 and len(records()) == 3


def test_two_processes_at_once_compute_once(log):
    children = [start(lambda: build(log, sleep=0.5)) for _ in range(2)]
    assert [ended(child) for child in children] == [0, 0]
    assert runs(log) == [0]


def test_ctrl_c_keeps_what_is_done_and_leaves_nothing_half_done(log, cache):
    script = f"""
from test_store import build, stored
stored.map(build, [dict(log={log!r}, seed=seed, sleep=60.0 * seed) for seed in range(3)], jobs=2)
"""
    command = [sys.executable, "-c", script]
    options = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, cwd=Path(__file__).parent, **options) as process:
        while len(runs(log)) < 3 or len(files(cache, "*.json")) < 1:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert [record["arguments"]["seed"] for record in records()] == [0]
    assert files(cache, "*.tmp") == [] and len(files(cache)) == 2
    build(log, 0)
    assert runs(log) == [0, 1, 2]


def test_one_process_at_a_time_has_workers(log, cache):
    cache.mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        with FileLock(f"{cache / 'workers'}.lock"):  # as another process has it while it works
            waiting = pool.submit(stored.map, build, of_seeds(log, 0, 1), jobs=2)
            build(log, 2)  # which needs no worker
            time.sleep(0.5)
            assert runs(log) == [2] and not waiting.done()
        waiting.result()
    assert runs(log) == [0, 1, 2]


def test_computations_that_ask_for_many_do_not_wait_for_themselves(log):
    stored.map(asking_for_more, of_seeds(log, 0, 1), jobs=2)
    assert runs(log) == [1, 2, 11, 12]


def test_parallel_results_equal_serial_ones_in_order(log, cache, monkeypatch, tmp_path, capsys):
    calls = [(failing, {"seed": 0}), *((build, config) for config in of_seeds(log, 2, 0, 1, 0))]
    parallel = run(calls, jobs=2)
    assert runs(log) == [0, 1, 2] and len(files(cache, "*.json")) == 4
    assert [int(result["count"]) for result in parallel[1:]] == [2, 0, 1, 0]
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "another"))
    same(parallel, run(calls, jobs=1))
    assert runs(log) == [0, 0, 1, 1, 2, 2]
    assert capsys.readouterr() == ("", "")  # no progress bar but on a terminal


def test_a_dask_cluster_does_the_work_by_joblib_s_switch_and_shares_the_cores():
    distributed = pytest.importorskip("distributed")
    options = dict(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)
    before, many = torch.get_num_threads(), joblib.cpu_count() + 1
    torch.set_num_threads(many)
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        seen = stored.map(seeing_environment, [{"seed": 1}, {"seed": 2}], jobs=2)
    assert [threads for _, threads in seen] == [max(1, joblib.cpu_count() // 2)] * 2
    assert torch.get_num_threads() == many
    torch.set_num_threads(before)


def test_workers_share_the_cores_and_follow_the_environment(monkeypatch, tmp_path):
    for source in ("procedural", "mnist"):
        monkeypatch.setenv("LAZY_ARTIST_SOURCE", source)
        monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / source))
        seen = stored.map(seeing_environment, [{"seed": 0}, {"seed": 1}], jobs=2)
        assert seen == [[source, max(1, joblib.cpu_count() // 2)]] * 2


# --- the code that a function reaches ------------------------------------------------------------

TOY = {
    "__init__": '"""The toy package."""\n',
    "studio": '''
        """The studio."""
        import functools
        import numpy as np
        import toy.canvas
        from lazy_artist import store
        from toy import late as lately, figures, whole
        from toy.models import Network
        from .helpers import twice
        EPOCHS = 3
        UNUSED = 1
        WEIGHTS = np.arange(3.0)
        def dance(): return 1
        def sing(): return 2
        METHODS = {"dance": dance}
        PARTIAL = functools.partial(sing, 1)
        LAMBDAS = {"a": lambda: 1}
        if True:
            def conditional(): return 3
        try:
            from toy.other import thing
        except ImportError:
            thing = 4
        def wrapped(): return 5
        wrapped = functools.lru_cache(wrapped)
        def deco(function): return function
        class Recipe:
            step: int = 1
            def run(self): return part()
        @functools.cache
        def part(): return 7
        def helper(x: UNUSED):
            """Helps."""
            return x + EPOCHS  # a comment
        @deco
        def build(seed: figures.draw, network: UNUSED = None) -> UNUSED:
            """Builds."""
            def inner():
                from toy.inside import deep
                return helper(deep)
            figures_of = inner() + WEIGHTS.sum()
            Recipe()
            local = lately.x + conditional() + thing + wrapped()
            network.draw()
            store.run(vars(whole))
            return METHODS, PARTIAL, LAMBDAS, Network, twice, toy.canvas.paint(local)
        def draw():
            return figures.draw(UNUSED)
        def shadow(UNUSED):
            draw = UNUSED
            return draw
    ''',
    "canvas": '''
        from . import palette
        from .deep import bottom, z
        def paint(x): return palette.RED + bottom.y + z
        def unused(): pass
    ''',
    "palette": "RED = 1\n",
    "deep/__init__": "from .bottom import z\nDEEP = 1\n",
    "deep/bottom": "y = 1\nz = 1\n",
    "late": "x = 1\nz = 1\n",
    "models": "class Network: pass\n",
    "helpers": "def twice(x): return 2 * x\n",
    "inside": "deep = 1\n",
    "other": "thing = 1\n",
    "whole": "from toy.late import z\nTWO = 2\n",
    "figures": "def draw(x): return x\n",
}  # fmt: skip


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A function that writes the modules of package `toy` and imports its studio afresh."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def write(sources, reload=True):
        for name, source in sources.items():
            path = tmp_path / "toy" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))
        if reload:
            forget()
            return importlib.import_module("toy.studio")

    yield write
    forget()


def edited(name, old, new):
    assert TOY[name].count(old) == 1
    return {**TOY, name: TOY[name].replace(old, new)}


@pytest.mark.parametrize(
    ("name", "old", "new", "part"),
    [
        ("studio", '"""Builds."""', '"""Makes."""', None),
        ("studio", "x + EPOCHS", "(x   +   EPOCHS)", None),
        ("studio", "x: UNUSED", "x: int", None),
        ("studio", "step: int", "step: float", None),
        ("studio", "UNUSED = 1", "UNUSED = 2", None),
        ("studio", "figures.draw(UNUSED)", "figures.draw(9)", None),
        ("studio", "def draw()", "def added(): pass\n        def draw()", None),
        ("canvas", "def unused(): pass", "def unused(): return 1", None),
        ("figures", "return x", "return -x", None),
        ("deep/__init__", "DEEP = 1", "DEEP = 2", None),
        ("studio", "local = lately.x", "local = -lately.x", "studio:build"),
        ("studio", "= None)", "= 1)", "studio:build"),
        ("studio", "x + EPOCHS", "x - EPOCHS", "studio:helper"),
        ("studio", "arange(3.0)", "arange(3)", "studio:WEIGHTS"),
        ("studio", "return function", "return function or 1", "studio:deco"),
        ("studio", "int = 1", "int = 2", "studio:Recipe"),
        ("studio", "return 7", "return 8", "studio:part"),
        ("studio", "def dance(): return 1", "def dance(): return 3", "studio:dance"),
        ("studio", "def sing(): return 2", "def sing(): return 3", "studio:sing"),
        ("studio", '"a": lambda: 1', '"a": lambda: 2', "studio:LAMBDAS"),
        ("studio", "return 3", "return 9", "studio:conditional"),
        ("studio", "thing = 4", "thing = 9", "studio:thing"),
        ("studio", "return 5", "return 9", "studio:wrapped"),
        ("canvas", "palette.RED", "-palette.RED", "canvas:paint"),
        ("palette", "RED = 1", "RED = 2", "palette:RED"),
        ("deep/bottom", "y = 1", "y = 2", "deep.bottom:y"),
        ("deep/bottom", "z = 1", "z = 2", "deep.bottom:z"),
        ("late", "x = 1", "x = 2", "late:x"),
        ("late", "z = 1", "z = 2", "late:z"),
        ("models", "pass", "x = 1", "models:Network"),
        ("helpers", "2 * x", "3 * x", "helpers:twice"),
        ("inside", "deep = 1", "deep = 2", "inside:deep"),
        ("other", "thing = 1", "thing = 2", "other:thing"),
        ("whole", "TWO = 2", "TWO = 3", "whole:TWO"),
    ],
)
def test_an_edit_changes_its_part_if_it_is_reached(toy, name, old, new, part):
    before = code_of(toy(TOY).build)
    after = code_of(toy(edited(name, old, new)).build)
    changed = [key for key in before if before[key] != after.get(key)]
    assert changed == ([f"toy.{part}"] if part else [])
    assert set(after) == set(before)


def test_just_what_is_reached_counts(toy):
    studio = toy(TOY)
    assert set(code_of(studio.draw)) == {"toy.studio:draw", "toy.studio:UNUSED", "toy.figures:draw"}
    assert set(code_of(studio.shadow)) == {"toy.studio:shadow"}
    assert all(part.startswith("toy.") for part in code_of(studio.build))  # not the store's


def test_code_edited_under_a_running_process_is_refused(toy):
    studio = toy(TOY)
    before = code_of(studio.build)
    toy(edited("studio", "UNUSED = 1", "UNUSED = 2"), reload=False)
    assert code_of(studio.build) == before
    toy(edited("canvas", "palette.RED", "-palette.RED"), reload=False)
    with pytest.raises(EditedError, match=r"toy\.canvas\.paint was edited.*new process"):
        code_of(studio.build)
    importlib.reload(sys.modules["toy.canvas"])
    assert code_of(studio.build) != before


def test_an_edit_computes_again_and_a_move_to_another_module_does_not(toy):
    source = """
        from lazy_artist.store import stored
        {}
        @stored(data=lambda: "")
        def build(): return helper()
        @stored(data=lambda: "")
        def call(function): return function()
    """
    log = []
    for helper, other in (
        ("def helper(): return 1", ""),
        ("def helper(): return 2", ""),
        ("from toy.other import helper", "def helper(): return 2\n"),
    ):
        studio = toy({"__init__": "", "studio": source.replace("{}", helper), "other": other})
        log.append((studio.build(), studio.call(studio.helper), len(records())))
    assert log == [(1, 1, 2), (2, 2, 4), (2, 2, 4)]


# --- every stored function of the book -----------------------------------------------------------

BOOK = textwrap.dedent("""
    import ast, importlib, pathlib, pkgutil, random, sys
    import lazy_artist
    from lazy_artist import reach

    assert lazy_artist.__path__ == sys.argv[1:]
    functions = {}
    for module in pkgutil.walk_packages(lazy_artist.__path__, "lazy_artist."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if getattr(value, "__module__", "") == module.name and hasattr(value, "record"):
                functions[f"{module.name}:{name}"] = value

    def codes():
        reach._first_seen.clear()
        return {name: reach.code_of(function) for name, function in functions.items()}

    before, rng = codes(), random.Random(0)
    for module in sorted({part.partition(":")[0] for parts in before.values() for part in parts}):
        path = pathlib.Path(reach._file(module))
        text = path.read_text()
        bodies = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
        lines = [*text.split("\\n"), "def added(): pass"]
        for node in rng.sample(bodies, min(1, len(bodies))):
            lines.insert(node.body[-1].lineno - 1, " " * node.body[-1].col_offset + "edited = 1")
        path.write_text("\\n".join(lines))
        for name, parts in codes().items():
            changed = [part for part in before[name] if before[name][part] != parts.get(part)]
            edited = [f"{module}:{node.name}"] if bodies else []
            assert changed == [part for part in edited if part in before[name]], (name, changed)
        path.write_text(text)
    print(*functions)
""")


def test_every_stored_function_of_the_book_follows_its_code_and_no_other(tmp_path):
    """In a copy each module in turn gets a function more, and one of its functions is edited: that
    changes the part of what reaches the latter, and nothing else."""
    copy = tmp_path / "code" / "lazy_artist"
    shutil.copytree(Path(canvas.__file__).parent, copy)
    command = [sys.executable, "-B", "-c", BOOK, str(copy)]
    environment = os.environ | {"PYTHONPATH": str(copy.parent)}
    functions = subprocess.check_output(command, env=environment, text=True).split()
    assert len(functions) > 30 and "lazy_artist.networks:train_network" in functions
