"""The store: reuse, damage, interruption, and what an address takes of arguments and code."""

import ast
import errno
import importlib
import multiprocessing
import os
import pkgutil
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock

from lazy_artist import attack, canvas, reach
from lazy_artist.claims import begin_chapter
from lazy_artist.eis7 import cnn
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


Handle = namedtuple("Handle", "name made_by")


@stored(data=data_md5)
def standing_on(handles, log):
    with open(log, "a") as file:
        file.write("1000\n")
    return [handle.made_by.value()["count"] for handle in handles]


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


def told(value):
    """Kinds, types and all values of a result, as a text."""
    if isinstance(value, pd.DataFrame):
        value = {"index": list(value.index)} | {n: column.to_numpy() for n, column in value.items()}
    if isinstance(value, np.ndarray | torch.Tensor):
        value = [type(value), value.dtype, value.shape, value.tolist()]
    if isinstance(value, dict):
        return str({name: told(item) for name, item in value.items()})
    return str([told(item) for item in value]) if isinstance(value, list) else repr(value)


def start(action):
    process = multiprocessing.get_context("fork").Process(target=action)
    process.start()
    return process


# --- reuse ---------------------------------------------------------------------------------------


def test_a_result_comes_back_as_it_was_and_is_computed_once(log, cache):
    first = build(log, 3)
    expected = build.__wrapped__(os.devnull, 3) | {"accuracy": 0.5, "steps": [3, {"nothing": None}]}
    assert told(first) == told(expected)
    assert told(build(seed=3, log=log, scale=[1, 2])) == told(first)
    assert runs(log) == [3]
    assert [path.suffix for path in files(cache)] == [".json", ".safetensors"]
    failing(0)
    one, other = records()
    assert (one["name"], one["arguments"]["seed"], other["name"]) == ("build", 3, "failing")
    assert one["wall_seconds"] >= 0 and one["created"].endswith("+00:00")
    assert one["module"] == __name__ and one["uses"] == []


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


def test_what_an_argument_is_made_by_is_made_first(log):
    handles = [Handle("a", Call(build, config)) for config in of_seeds(log, 5, 6)]
    assert [int(c) for c in standing_on(handles, log)] == [5, 6]
    assert Path(log).read_text().split()[-1] == "1000" and runs(log) == [5, 6, 1000]
    assert [int(c) for c in standing_on(handles[:1], log)] == [5]
    assert runs(log) == [5, 6, 1000, 1000]


def test_what_is_no_argument_or_no_stored_function_is_named(log):
    with pytest.raises(TypeError, match=r"build\.scale\.a\.1 is of type set"):
        build(log, scale={"a": [1, {2}]})
    with pytest.raises(TypeError, match="top level of an importable module"):
        build(log, scale=lambda: 1)
    with pytest.raises(TypeError, match="not a stored function"):
        run([(failing.__wrapped__, {"seed": 0})])
    assert runs(log) == []


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_stored_is_refused_by_name(what, cache):
    words = rf"returning\(what='{what}'\): value\.{WRONG[what][1]}"
    with pytest.raises(ArtifactError, match=words):
        returning(what)
    assert files(cache) == []


@pytest.mark.parametrize("seeds", [[1], [0, 1]])
def test_an_error_names_function_arguments_and_message(seeds):
    words = r"failing\(seed=1\) failed: ValueError: the seed is"
    with pytest.raises(ArtifactError, match=words):
        stored.map(failing, [{"seed": seed} for seed in seeds], jobs=2)


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
        again = build(log, 3)
    assert told(again) == told(build(log, 3)) == told(good)
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
        with pytest.raises(OSError, match=f"{log}.*cannot be written to.*LAZY_ARTIST_CACHE"):
            begin_chapter("a-chapter")
    assert files(cache) == before
    stored.map(build, of_seeds(log, 1, 2))
    assert runs(log) == [1, 2, 2]


# --- interruption and company --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "name", "nth"),
    [
        (time, "sleep", 1),  # while computing
        (os, "fsync", 1),  # in the middle of the arrays' temporary file
        (os, "replace", 1),
        (os, "fsync", 2),  # of the record's
        (os, "replace", 2),
    ],
)
def test_killed_at_any_moment_the_next_run_starts_clean(where, name, nth, log, cache):
    build(log, 1)
    alive = cache / "build" / f"{'1' * 20}.json.9.tmp"  # of a living process
    alive.touch()
    real, left = getattr(where, name), [None] * nth

    def dying(*arguments):
        left.pop()
        return real(*arguments) if left else os.kill(os.getpid(), signal.SIGKILL)

    def killed():
        setattr(where, name, dying)
        build(log, 2)

    (process := start(killed)).join()
    assert process.exitcode == -signal.SIGKILL
    assert build(log, 2)["count"] == 2 and build(log, 1)["count"] == 1
    assert runs(log) == [1, 2, 2]
    assert files(cache, "*.tmp") == [alive] and len(files(cache)) == 5


def test_two_processes_at_once_compute_once(log):
    processes = [start(lambda: build(log, sleep=0.5)) for _ in range(2)]
    assert [process.join() or process.exitcode for process in processes] == [0, 0]
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
    assert runs(log) == [0, 1, 2]
    assert [int(result["count"]) for result in parallel[1:]] == [2, 0, 1, 0]
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "another"))
    assert told(run(calls, jobs=1)) == told(parallel)
    assert runs(log) == [0, 0, 1, 1, 2, 2]
    assert capsys.readouterr() == ("", "")  # no progress bar but on a terminal


def test_a_dask_cluster_does_the_work_by_joblib_s_switch_and_shares_the_cores():
    distributed = pytest.importorskip("distributed")
    options = dict(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)
    before, many = torch.get_num_threads(), joblib.cpu_count() + 1
    torch.set_num_threads(many)
    with distributed.Client(**options), joblib.parallel_config("dask"):
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


def test_an_excerpt_is_code_as_it_stands_without_its_docstring():
    program = reach.excerpt(cnn, "similarity", "BAND").splitlines()
    assert program[:2] == [
        "```python",
        "BAND = (-33.954, -15.1295)  # " + program[1].split("# ")[1],
    ]
    assert program[2:] == [
        "", "def similarity(images: Array) -> Array:",
        "    return _checked(images).reshape(-1, 784) @ TEMPLATE.ravel() / 255", "```",
    ]  # fmt: skip
    with pytest.raises(KeyError, match="eis7.cnn has no nothing"):
        reach.excerpt(cnn, "similarity", "nothing")


def test_an_excerpt_can_be_some_lines_of_it():
    part = reach.excerpt(attack, "_inside", "_project", lines=("if norm", "torch.minimum("))
    assert part.splitlines()[1:-1] == [
        'if norm == "linf":',
        "    return torch.minimum(torch.maximum(delta, -radius), radius)",
    ]
    for lines in (("nowhere", "x"), ("radius", "nowhere")):
        with pytest.raises(ValueError, match="no line of _project holds 'nowhere'"):
            reach.excerpt(attack, "_project", lines=lines)


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
        WEIGHTS = np.arange(3)
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
        def deco(function): return function or 1
        class Recipe:
            step: int = 1
            def run(self): return part()
        @functools.cache
        def part(): return 7
        def helper(x: UNUSED):
            """Helps."""
            return x + EPOCHS * 2  # a comment
        @deco
        def build(seed: figures.draw, network: UNUSED = 0) -> UNUSED:
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
            return figures.draw(UNUSED) + 1
        def shadow(UNUSED):
            draw = UNUSED
            return draw
    ''',
    "canvas": """
        from . import palette
        from .deep import bottom, z
        def paint(x): return palette.RED + bottom.y + z - 1
        def unused(): return 1
    """,
    "palette": "RED = 1\n",
    "deep/__init__": "from .bottom import z\nDEEP = 1\n",
    "deep/bottom": "y = 1\nz = 1\n",
    "late": "x = 1\nz = 1\n",
    "models": "class Network: x = 1\n",
    "helpers": "def twice(x): return 2 * x\n",
    "inside": "deep = 1\n",
    "other": "thing = 1\n",
    "whole": "from toy.late import z\nTWO = 2\n",
    "figures": "def draw(x): return x + 1\n",
}  # fmt: skip
PARTS = {
    "studio": "EPOCHS - WEIGHTS dance sing PARTIAL LAMBDAS conditional thing wrapped deco Recipe "
    "part helper build -",
    "canvas": "paint -", "palette": "RED", "deep/__init__": "-", "deep/bottom": "y z",
    "late": "x z", "models": "Network", "helpers": "twice", "inside": "deep", "other": "thing",
    "whole": "TWO", "figures": "-",
}  # fmt: skip
"""What changes when one number after another is edited in each module; "-": nothing."""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A function that writes the modules of package `toy` and imports its studio afresh."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def write(sources):
        for name, source in sources.items():
            path = tmp_path / "toy" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))
        forget()
        return importlib.import_module("toy.studio")

    yield write
    forget()


def test_an_edit_changes_its_part_if_it_is_reached_and_no_other(toy):
    before, found = code_of(toy(TOY).build), {}
    for name, source in TOY.items():
        for k, number in enumerate(re.finditer(r"\b\d\b", source)):
            new = "9" * (2 + k % 2)  # sizes tell versions of a file apart, if its time does not
            text = source[: number.start()] + new + source[number.end() :]
            after = code_of(toy({**TOY, name: text}).build)
            assert set(after) == set(before)
            changed = [part.partition(":")[2] for part in before if before[part] != after[part]]
            found.setdefault(name, []).append("+".join(changed) or "-")
    assert found == {name: parts.split() for name, parts in PARTS.items()}


def test_docstrings_comments_annotations_layout_and_additions_do_not_count(toy):
    before, studio = code_of(toy(TOY).build), TOY["studio"]
    for old, new in (
        ('"""Builds."""', '"""Makes."""'),
        ("x + EPOCHS * 2  # a comment", "(x   +   EPOCHS * 2)"),
        ("x: UNUSED", "x: int"),
        ("step: int", "step: float"),
        ("def draw()", "def added(): pass\n        def draw()"),
    ):
        assert studio.count(old) == 1
        studio = studio.replace(old, new)
    assert code_of(toy(TOY | {"studio": studio}).build) == before


def test_just_what_is_reached_counts(toy):
    studio = toy(TOY)
    assert set(code_of(studio.draw)) == {"toy.studio:draw", "toy.studio:UNUSED", "toy.figures:draw"}
    assert set(code_of(studio.shadow)) == {"toy.studio:shadow"}
    assert all(part.startswith("toy.") for part in code_of(studio.build))  # not the store's


def test_code_edited_under_a_running_process_is_refused(toy):
    studio = toy(TOY)
    before, path = code_of(studio.build), Path(studio.__file__)
    path.write_text(path.read_text().replace("UNUSED = 1", "UNUSED = 20"))
    assert code_of(studio.build) == before
    path.write_text(path.read_text().replace("EPOCHS = 3", "EPOCHS = 30"))
    with pytest.raises(EditedError, match=r"toy\.studio\.EPOCHS was edited.*new process"):
        code_of(studio.build)
    importlib.reload(studio)
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


def test_every_stored_function_of_the_book_follows_its_code_and_no_other(tmp_path, monkeypatch):
    """In a copy every other module gets a function more, and one of its functions is edited: that
    changes the parts of what reaches the latter, and nothing else. Then the other modules."""
    root, copy, find = Path(canvas.__file__).parent, tmp_path / "lazy_artist", reach._file
    shutil.copytree(root, copy)
    places = str(root), str(copy)
    monkeypatch.setattr(reach, "_file", lambda name: (find(name) or "").replace(*places) or None)
    monkeypatch.setattr(reach, "_first_seen", {})
    functions = {
        value
        for module in pkgutil.walk_packages([root], "lazy_artist.")
        for value in vars(importlib.import_module(module.name)).values()
        if getattr(value, "__module__", "") == module.name and hasattr(value, "data")
    }
    assert len(functions) > 30 and "train_network" in {value.__name__ for value in functions}

    def codes():
        reach._first_seen.clear()
        return {function: code_of(function) for function in functions}

    before, rng = codes(), random.Random(0)
    modules = sorted({part.partition(":")[0] for parts in before.values() for part in parts})
    for some in (modules[::2], modules[1::2]):
        texts, edited = {}, set()
        for module in some:
            path = Path(reach._file(module))
            texts[path] = text = path.read_text()
            bodies = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
            lines = [*text.split("\n"), "def added(): pass"]
            for node in rng.sample(bodies, min(1, len(bodies))):
                last = node.body[-1]
                lines.insert(last.lineno - 1, " " * last.col_offset + "edited = 1")
                edited.add(f"{module}:{node.name}")
            path.write_text("\n".join(lines))
        for function, parts in codes().items():
            old = before[function]
            changed = [part for part in old if old[part] != parts.get(part)]
            assert changed == [part for part in old if part in edited], (function, changed)
        for path, text in texts.items():
            path.write_text(text)
