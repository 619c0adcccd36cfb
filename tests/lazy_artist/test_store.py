"""The store: reuse, damage, interruption, and what an address takes of arguments and code."""

import errno
import importlib
import json
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
    generator = torch.Generator().manual_seed(seed)
    frame = {
        "name": ["a", None],
        "share": [0.5, float("nan")],
        "count": [seed, 2],
        "is": [True, False],
    }
    return {
        "weight": torch.rand(3, 2, generator=generator).T,  # not contiguous
        "curve": np.linspace(0, seed, 4)[::-1],  # of negative strides
        "count": torch.tensor(seed),
        "scalar": np.array(seed),
        "empty": torch.zeros(0, 5),
        "mask": np.array([True, False]),
        "frame": pd.DataFrame(frame),
        "accuracy": np.float32(0.5),
        "steps": [np.int64(3), {"nothing": None}],
    }


@stored(data=data_md5)
def failing(seed):
    if seed == 1:
        raise ValueError("the seed is not to my liking")
    return 1


@stored(data=data_md5)
def returning(what):
    return {
        "nan": {"fine": torch.ones(2), "broken": torch.tensor([1.0, float("nan")])},
        "inf": {"broken": np.array([np.inf])},
        "strings": {"broken": np.array(["a"])},
        "number": {"broken": float("nan")},
        "object": {"broken": object()},
        "keys": {"broken": {1: 2}},
        "index": {"broken": pd.DataFrame({"x": [1]}, index=["a"])},
    }[what]


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


def in_child(action):
    """Runs `action` in a forked process and returns how it ended: 0, or minus the signal."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# --- reuse ---------------------------------------------------------------------------------------


def test_a_result_comes_back_as_it_was_and_is_computed_once(log, cache):
    first = build(log, 3)
    expected = build.__wrapped__(os.devnull, 3)
    expected |= {"accuracy": 0.5, "steps": [3, {"nothing": None}]}
    same(first["frame"]["share"].to_numpy(), expected["frame"]["share"].to_numpy())
    assert first["frame"]["name"].tolist()[0] == "a" and first["frame"]["name"].isna().tolist() == [
        False,
        True,
    ]
    for frame in (first.pop("frame"), expected.pop("frame")):
        assert frame[["count", "is"]].values.tolist() == [[3, True], [2, False]]
    same(first, expected)
    again = build(seed=3, log=log, scale=[1, 2])  # however the arguments are given
    again.pop("frame")
    same(first, again)
    assert runs(log) == [3]
    assert [path.suffix for path in files(cache)] == [".json", ".safetensors"]


def test_arguments_data_and_names_tell_results_apart(log, monkeypatch):
    build(log)
    build(log, scale=(2, 1))
    build(log, seed=np.int64(0))  # the same as 0
    assert runs(log) == [0, 0]
    monkeypatch.setenv("TEST_MD5", "other")
    build(log)
    assert runs(log) == [0, 0, 0]


def test_the_record_says_what_the_result_is(log):
    record = build.record(log, 7)
    assert record["name"] == "build" and record["arguments"]["seed"] == 7
    assert record["wall_seconds"] >= 0 and record["created"].endswith("+00:00")
    assert set(record["code"]) == {f"{__name__}:build", f"{__name__}:data_md5"}
    assert runs(log) == [7]
    failing(0)
    assert [r["name"] for r in records()] == ["build", "failing"]


def test_arrays_functions_and_networks_count_by_their_content(log):
    array = np.arange(6.0).reshape(2, 3)
    calls = [Call(build, {"log": log, "seed": seed}) for seed in (1, 2)]
    different = [array, array.T, array.astype(np.float32), canvas.paint, canvas.flat_fill, *calls]
    for scale in different:
        build(log, scale=scale)
    assert runs(log) == [0] * 5 + [0, 0, 1, 2]  # the calls are made first
    for scale in (array.copy(), array.T.copy(), canvas.paint, Call(build, dict(seed=1, log=log))):
        build(log, scale=scale)
    assert runs(log) == [0] * 5 + [0, 0, 1, 2]


def test_what_an_argument_is_made_by_is_made_first(log):
    handles = [
        Handle(name, Call(build, {"log": log, "seed": s}))
        for name, s in zip("ab", (5, 6), strict=True)
    ]
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
def test_an_argument_without_content_is_named(value, error, words, log):
    with pytest.raises(error, match=words):
        build(log, scale=value)
    assert runs(log) == []


def test_only_stored_functions_at_the_top_level_are_taken(log):
    with pytest.raises(TypeError, match="not a stored function"):
        run([(failing.__wrapped__, {"seed": 0})])
    with pytest.raises(TypeError, match="top level of an importable module"):
        stored(lambda: 1)()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan", r"value\.broken holds values that are not finite"),
        ("inf", r"value\.broken holds values that are not finite"),
        ("strings", r"value\.broken cannot be stored"),
        ("number", r"value\.broken is nan, not finite"),
        ("object", r"value\.broken is of type object"),
        ("keys", r"value\.broken has the key 1"),
        ("index", r"value\.broken has an index of its own"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(what, words, cache):
    with pytest.raises(ArtifactError, match=rf"returning\(what='{what}'\): {words}"):
        returning(what)
    assert files(cache) == []


def test_an_error_names_function_arguments_and_message(cache):
    for jobs, calls in ((1, [1]), (2, [0, 1])):
        with pytest.raises(
            ArtifactError, match=r"failing\(seed=1\) failed: ValueError: the seed is"
        ):
            stored.map(failing, [{"seed": seed} for seed in calls], jobs=jobs)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        stored.map(failing, [{"seed": 0}], jobs=0)


# --- damage and the disk -------------------------------------------------------------------------


def truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def alter(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".safetensors", truncate),
        (".safetensors", alter),
        (".safetensors", Path.unlink),
        (".json", truncate),
        (".json", lambda path: path.write_text(path.read_text().replace("0.5", "0.9"))),
        (".json", lambda path: path.write_text("[]")),
        (".json", lambda path: path.write_text("")),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_a_damaged_result_is_named_and_computed_again(suffix, damage, many, log, cache):
    good = build(log, 3)
    (path,) = files(cache, f"*{suffix}")
    damage(path)
    with pytest.warns(ArtifactWarning, match=f"{path.name}.*computed again"):
        again = stored.map(build, [{"log": log, "seed": 3}])[0] if many else build(log, 3)
    for result in (again, build(log, 3)):
        same({**good, "frame": 0}, {**result, "frame": 0})
    assert runs(log) == [3, 3]


def test_a_full_disk_while_storing_is_named_and_leaves_the_rest(log, cache, monkeypatch):
    build(log, 1)
    before = files(cache)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ArtifactError, match=f"{cache}.*No space left.*LAZY_ARTIST_CACHE"):
            build(log, 2)
    assert files(cache) == before
    build(log, 1)
    build(log, 2)
    assert runs(log) == [1, 2, 2]


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_nearly_full_disk_is_named_before_computing(seeds, log, cache, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=5 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ArtifactError, match=f"{cache}.* 5 MiB free.*LAZY_ARTIST_CACHE"):
        stored.map(build, [{"log": log, "seed": seed} for seed in seeds], jobs=1)
    assert runs(log) == []


def test_a_folder_that_cannot_be_written_to_is_named_before_computing(log, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_CACHE", log)  # a file stands where the folder should
    with pytest.raises(ArtifactError, match=f"{log}.*cannot be written to.*LAZY_ARTIST_CACHE"):
        build(log)
    assert runs(log) == []


# --- interruption and company --------------------------------------------------------------------


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def dying_replace(suffix, after):
    real = os.replace

    def replace(source, target):
        if Path(target).suffix == suffix:
            if after:
                real(source, target)
            die()
        real(source, target)

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

    def killed():
        setattr(where, name, replacement)
        build(log, 2)

    assert in_child(killed) == -signal.SIGKILL
    failing(0)  # another function's folder stays out of it
    assert build(log, 2)["count"] == 2 and build(log, 1)["count"] == 1
    assert runs(log).count(1) == 1
    assert files(cache, "*.tmp") == []
    assert len(files(cache / "..", "build/*")) == 4 and len(records()) == 3


def test_temporary_files_of_living_processes_stay(log, cache):
    folder = cache / "build"
    folder.mkdir(parents=True)
    alive = folder / f"{'1' * 20}.json.9.tmp"
    alive.touch()
    build(log)
    assert files(cache, "*.tmp") == [alive]


def test_two_processes_at_once_compute_once(log):
    children = []
    for _ in range(2):
        if (child := os.fork()) == 0:
            try:
                os._exit(0 if build(log, sleep=0.5)["count"] == 0 else 1)
            except BaseException:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert runs(log) == [0]


def test_ctrl_c_keeps_what_is_done_and_leaves_nothing_half_done(log, cache):
    script = textwrap.dedent("""
        import sys
        from test_store import build, stored
        configs = [{"log": sys.argv[1], "seed": seed, "sleep": 60.0 * seed} for seed in range(3)]
        stored.map(build, configs, jobs=2)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script, log],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while len(runs(log)) < 3 or len(files(cache, "*.json")) < 1:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "KeyboardInterrupt" in errors and process.returncode != 0
    assert [record["arguments"]["seed"] for record in records()] == [0]
    assert files(cache, "*.tmp") == [] and len(files(cache)) == 2
    build(log, 0)
    assert runs(log) == [0, 1, 2]


def test_one_process_at_a_time_has_workers(log, cache):
    cache.mkdir(parents=True)
    configs = [{"log": log, "seed": seed} for seed in (0, 1)]
    with ThreadPoolExecutor() as pool:
        with FileLock(f"{cache / 'workers'}.lock"):  # as another process has it while it works
            waiting = pool.submit(stored.map, build, configs, jobs=2)
            build(log, 2)  # which needs no worker
            time.sleep(0.5)
            assert runs(log) == [2] and not waiting.done()
        waiting.result()
    assert runs(log) == [0, 1, 2]


def test_computations_that_ask_for_many_do_not_wait_for_themselves(log):
    stored.map(asking_for_more, [{"log": log, "seed": seed} for seed in (0, 1)], jobs=2)
    assert runs(log) == [1, 2, 11, 12]


def test_parallel_results_equal_serial_ones_in_order(log, cache, monkeypatch, tmp_path, capsys):
    configs = [{"log": log, "seed": seed} for seed in (2, 0, 1, 0)]
    parallel = stored.map(build, configs, jobs=2)
    assert runs(log) == [0, 1, 2] and len(files(cache, "*.json")) == 3
    assert [int(result["count"]) for result in parallel] == [2, 0, 1, 0]
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "another"))
    serial = stored.map(build, configs, jobs=1)
    assert runs(log) == [0, 0, 1, 1, 2, 2]
    for first, second in zip(parallel, serial, strict=True):
        same({**first, "frame": 0}, {**second, "frame": 0})
    assert capsys.readouterr() == ("", "")  # no progress bar but on a terminal


def test_different_functions_are_run_together_and_come_in_order(log, cache):
    calls = [(failing, {"seed": 0}), (build, {"log": log, "seed": 2}), (failing, {"seed": 0})]
    one, built, again = run(calls, jobs=2)
    assert (one, int(built["count"]), again) == (1, 2, 1)
    assert {file.parent.name for file in files(cache, "*.json")} == {"build", "failing"}


def test_another_joblib_backend_may_be_chosen_and_shares_the_cores(log):
    before, many = torch.get_num_threads(), joblib.cpu_count() + 1
    try:
        torch.set_num_threads(many)
        with joblib.parallel_config(backend="threading"):
            seen = stored.map(seeing_environment, [{"seed": s} for s in range(3)], jobs=3)
        assert torch.get_num_threads() == many
    finally:
        torch.set_num_threads(before)
    assert [threads for _, threads in seen] == [max(1, joblib.cpu_count() // 3)] * 3


def test_a_dask_cluster_does_the_work_by_joblib_s_switch(log):
    distributed = pytest.importorskip("distributed")
    options = {
        "n_workers": 1,
        "threads_per_worker": 1,
        "processes": False,
        "dashboard_address": None,
    }
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        made = stored.map(build, [{"log": log, "seed": seed} for seed in (1, 2)], jobs=2)
    assert [int(result["count"]) for result in made] == [1, 2] and runs(log) == [1, 2]


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
        from toy import late as lately, figures
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

        def deco(function): return function

        class Recipe:
            step: int = 1
            def run(self): return part()

        def part(): return 7

        def helper(x: UNUSED):
            """Helps."""
            return x + EPOCHS  # a comment

        @deco
        def build(seed: figures.draw, network: UNUSED = None) -> UNUSED:
            """Builds."""
            def inner():
                from toy.inside import thing
                return helper(thing)
            figures_of = inner() + WEIGHTS.sum()
            Recipe()
            local = lately.x
            network.draw()
            return METHODS, PARTIAL, LAMBDAS, Network, twice, toy.canvas.paint(local)

        def draw():
            return figures.draw(UNUSED)

        def shadow(UNUSED):
            draw = UNUSED
            return draw
    ''',
    "canvas": '''
        from . import palette
        from .deep import bottom
        def paint(x): return palette.RED + bottom.y
        def unused(): pass
    ''',
    "palette": "RED = 1\nGREEN = 2\n",
    "deep/__init__": "DEEP = 1\n",
    "deep/bottom": "y = 1\n",
    "late": "x = 1\nz = 1\n",
    "models": "class Network: pass\n",
    "helpers": "def twice(x): return 2 * x\n",
    "inside": "thing = 1\n",
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
    ("name", "old", "new"),
    [
        ("studio", '"""Builds."""', '"""Makes."""'),
        ("studio", '"""Helps."""', ""),
        ("studio", "# a comment", "# another"),
        ("studio", "x + EPOCHS", "(x   +   EPOCHS)"),
        ("studio", "x: UNUSED", "x: int"),
        ("studio", "step: int", "step: float"),
        ("studio", "UNUSED = 1", "UNUSED = 2"),
        ("studio", "figures.draw(UNUSED)", "figures.draw(9)"),
        ("studio", "def draw()", "def added(): pass\n        def draw()"),
        ("canvas", "def unused(): pass", "def unused(): return 1"),
        ("palette", "GREEN = 2", "GREEN = 3"),
        ("late", "z = 1", "z = 2"),
        ("figures", "return x", "return -x"),
        ("deep/__init__", "DEEP = 1", "DEEP = 2"),
    ],
)
def test_edits_that_a_function_does_not_reach_change_nothing(toy, name, old, new):
    before = code_of(toy(TOY).build)
    assert code_of(toy(edited(name, old, new)).build) == before


@pytest.mark.parametrize(
    ("name", "old", "new", "part"),
    [
        ("studio", "local = lately.x", "local = -lately.x", "studio:build"),
        ("studio", "= None)", "= 1)", "studio:build"),
        ("studio", "x + EPOCHS", "x - EPOCHS", "studio:helper"),
        ("studio", "EPOCHS = 3", "EPOCHS = 4", "studio:EPOCHS"),
        ("studio", "arange(3.0)", "arange(3)", "studio:WEIGHTS"),
        ("studio", "return function", "return function or 1", "studio:deco"),
        ("studio", "int = 1", "int = 2", "studio:Recipe"),
        ("studio", "return 7", "return 8", "studio:part"),
        ("studio", "def dance(): return 1", "def dance(): return 3", "studio:dance"),
        ("studio", "def sing(): return 2", "def sing(): return 3", "studio:sing"),
        ("studio", '"a": lambda: 1', '"a": lambda: 2', "studio:LAMBDAS"),
        ("studio", '{"dance": dance}', '{"d": dance}', "studio:METHODS"),
        ("canvas", "palette.RED", "-palette.RED", "canvas:paint"),
        ("palette", "RED = 1", "RED = 2", "palette:RED"),
        ("deep/bottom", "y = 1", "y = 2", "deep.bottom:y"),
        ("late", "x = 1", "x = 2", "late:x"),
        ("models", "pass", "x = 1", "models:Network"),
        ("helpers", "2 * x", "3 * x", "helpers:twice"),
        ("inside", "thing = 1", "thing = 2", "inside:thing"),
    ],
)
def test_edits_that_a_function_reaches_change_their_part(toy, name, old, new, part):
    before = code_of(toy(TOY).build)
    after = code_of(toy(edited(name, old, new)).build)
    assert [key for key in before if before[key] != after.get(key)] == [f"toy.{part}"]
    assert set(after) == set(before)


def test_just_what_is_reached_counts(toy):
    studio = toy(TOY)
    assert set(code_of(studio.draw)) == {"toy.studio:draw", "toy.studio:UNUSED", "toy.figures:draw"}
    assert set(code_of(studio.shadow)) == {"toy.studio:shadow"}


def test_a_module_that_is_handed_on_counts_as_a_whole(toy):
    source = """
        from toy import palette
        from lazy_artist import store
        def build(): return vars(palette), store.run
    """
    studio = toy({"__init__": "", "palette": TOY["palette"], "studio": source})
    assert set(code_of(studio.build)) == {
        "toy.studio:build",
        "toy.palette:RED",
        "toy.palette:GREEN",
    }


def test_names_bound_by_decoration_and_conditions_are_followed(toy):
    source = """
        import functools

        if True:
            def conditional(): return 1
        try:
            from toy.other import thing
        except ImportError:
            thing = 4

        @functools.cache
        def cached(): return 2

        def wrapped(): return 3
        wrapped = functools.lru_cache(wrapped)

        def build(): return conditional() + cached() + wrapped() + thing
    """
    base = {"__init__": "", "studio": source, "other": "thing = 5\n"}
    before = code_of(toy(base).build)
    for number in "1234":
        new = source.replace(f"return {number}", "return 9").replace(f"= {number}\n", "= 9\n")
        assert code_of(toy({**base, "studio": new}).build) != before
    assert code_of(toy({**base, "other": "thing = 6\n"}).build) != before


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
    """
    log = []
    for helper, other in (
        ("def helper(): return 1", ""),
        ("def helper(): return 2", ""),
        ("from toy.other import helper", "def helper(): return 2\n"),
    ):
        studio = toy({"__init__": "", "studio": source.replace("{}", helper), "other": other})
        log.append((studio.build(), len(records())))
    assert log == [(1, 1), (2, 2), (2, 2)]


# --- every stored function of the book -----------------------------------------------------------

BOOK = textwrap.dedent("""
    import ast, importlib, json, pathlib, pkgutil, random, sys
    import lazy_artist
    from lazy_artist import reach

    root = pathlib.Path(lazy_artist.__file__).parent
    assert str(root) == sys.argv[1], root
    functions = {}
    for module in pkgutil.walk_packages(lazy_artist.__path__, "lazy_artist."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if getattr(value, "__module__", "") == module.name and hasattr(value, "record"):
                functions[f"{module.name}:{name}"] = value

    def code(function):
        reach._first_seen.clear()
        return reach.code_of(function)

    def codes():
        return {name: code(function) for name, function in functions.items()}

    before, wrong = codes(), []
    reached = {part.partition(":")[0] for parts in before.values() for part in parts}
    texts = {reach._file(m): pathlib.Path(reach._file(m)).read_text() for m in reached}
    for path, text in texts.items():  # a function is added to every module
        pathlib.Path(path).write_text(text + "\\ndef added_for_the_test():\\n    pass\\n")
    after = codes()
    wrong += [f"{n}: recomputed after additions" for n in before if after[n] != before[n]]
    for path, text in texts.items():
        pathlib.Path(path).write_text(text)

    rng = random.Random(0)
    for module in sorted(reached):  # a function of each module is edited
        path = pathlib.Path(reach._file(module))
        bodies = [n for n in ast.parse(texts[str(path)]).body if isinstance(n, ast.FunctionDef)]
        for node in rng.sample(bodies, min(1, len(bodies))):
            lines = texts[str(path)].split("\\n")
            lines.insert(node.body[-1].lineno - 1, " " * node.body[-1].col_offset + "edited = 1")
            path.write_text("\\n".join(lines))
            for name, parts in codes().items():
                changed = [key for key in before[name] if before[name][key] != parts.get(key)]
                if changed != [part for part in [f"{module}:{node.name}"] if part in before[name]]:
                    wrong.append(f"{name}: {module}.{node.name} edited, changed: {changed}")
            path.write_text(texts[str(path)])
    print(json.dumps({"functions": sorted(functions), "wrong": wrong}))
""")


def test_every_stored_function_of_the_book_follows_its_code_and_no_other(tmp_path):
    """On copies of the modules: an addition, or an edit to what is not reached, changes nothing; an
    edit to what is reached changes the address."""
    package = Path(canvas.__file__).parent
    copy = tmp_path / "code" / "lazy_artist"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-B", "-c", BOOK, str(copy)],
        env={**os.environ, "PYTHONPATH": str(copy.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert len(result["functions"]) > 30
    assert "lazy_artist.networks:train_network" in result["functions"]
    assert result["wrong"] == []
