"""The artefact store: reuse, damage, interruption, and what a fingerprint takes of the code."""

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

import joblib
import numpy as np
import pytest
import torch
from filelock import FileLock

from lazy_artist import artifacts, canvas
from lazy_artist.artifacts import (
    ArtifactError,
    ArtifactWarning,
    clear,
    fetch,
    fetch_all,
    fetch_many,
    fingerprint,
    key,
    records,
)

# No test but those of damage may meet a damaged artefact.
pytestmark = pytest.mark.filterwarnings("error::lazy_artist.artifacts.ArtifactWarning")

# --- builds --------------------------------------------------------------------------------------


def build(log, seed=0, sleep=0.0, scale=(1, 2)):
    """Logs that it ran; its tensors depend on the seed."""
    with open(log, "a") as file:
        file.write(f"{seed}\n")
    time.sleep(sleep)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "weight": torch.rand(3, 2, generator=generator).T,  # not contiguous
        "curve": np.linspace(0, seed, 4),
        "count": torch.tensor(seed),
        "empty": torch.zeros(0, 5),
        "mask": np.array([True, False]),
    }
    return tensors, {"accuracy": np.float32(0.5), "steps": [np.int64(3)], "kind": str(type(scale))}


def careless(options):
    return {}, {"first": options.pop("first")}


def failing(seed):
    if seed == 1:
        raise ValueError("the seed is not to my liking")
    return {"x": torch.ones(1)}, {}


def returning(what):
    bad = {
        "nan": ({"fine": torch.ones(2), "broken": torch.tensor([1.0, float("nan")])}, {}),
        "inf": ({"broken": np.array([np.inf])}, {}),
        "list": ({"broken": [1, 2]}, {}),
        "strings": ({"broken": np.array(["a"])}, {}),
        "metric": ({}, {"broken": float("nan")}),
        "object": ({}, {"broken": object()}),
        "nothing": None,
    }
    return bad[what]


def asking_for_more(log, seed):
    fetch_many(build, [{"log": log, "seed": 10 * seed + k} for k in (1, 2)], "md5", jobs=2)
    return {}, {}


def seeing_environment(seed):
    return {}, {"source": os.environ.get("LAZY_ARTIST_SOURCE"), "threads": torch.get_num_threads()}


# --- helpers -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "artifacts"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.touch()
    return path


def runs(log):
    return sorted(int(line) for line in log.read_text().split())


def files(cache, pattern="*"):
    """The store's files, locks apart."""
    return sorted(path for path in cache.glob(f"*/{pattern}") if path.suffix != ".lock")


def same(first, second):
    assert list(first.tensors) == list(second.tensors)
    for name, value in first.tensors.items():
        assert type(value) is type(second.tensors[name])
        assert value.dtype == second.tensors[name].dtype
        np.testing.assert_array_equal(np.asarray(value), np.asarray(second.tensors[name]))
    assert first.record["metrics"] == second.record["metrics"]


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


# --- fetching ------------------------------------------------------------------------------------


def test_what_was_built_comes_back_and_is_built_once(log, cache):
    config = {"log": str(log), "seed": 7}
    built = fetch(build, config, "md5")
    tensors, _ = build(**config)
    log.write_text("7\n")
    assert list(built.tensors) == list(tensors)
    for name, value in tensors.items():
        assert type(built.tensors[name]) is type(value)
        assert built.tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(built.tensors[name], value)
    again = fetch(build, config, "md5")
    same(built, again)
    assert again.record == built.record
    assert runs(log) == [7]
    assert [path.suffix for path in files(cache)] == [".json", ".safetensors"]


def test_the_record_says_what_the_artefact_is(log):
    record = fetch(build, {"log": str(log), "seed": 7}, "md5").record
    assert record["name"] == "build"
    assert record["config"] == {"log": str(log), "seed": 7}
    assert (record["data_md5"], record["seed"]) == ("md5", 7)
    assert record["metrics"]["accuracy"] == 0.5
    assert record["metrics"]["steps"] == [3]
    assert record["versions"]["torch"] == torch.__version__
    assert set(record["versions"]) == {"python", "torch", "numpy", "lazy_artist"}
    assert record["fingerprint"] == fingerprint(build)
    assert record["key"] == key(build, {"log": str(log), "seed": 7}, "md5")
    assert record["wall_seconds"] >= 0
    assert record["created"].endswith("+00:00")
    assert len(record["sha256"]) == 64
    assert record["machine"]["cpus"] == os.cpu_count()


def test_each_configuration_and_each_data_has_its_own_artefact(log):
    base = {"log": str(log), "seed": 1}
    keys = {
        key(build, base, "a"),
        key(build, base, "b"),
        key(build, base | {"seed": 2}, "a"),
        key(build, base | {"sleep": 0.0}, "a"),
        key(failing, base, "a"),
    }
    assert len(keys) == 5
    assert key(build, {"seed": 1, "log": str(log)}, "a") == key(build, base, "a")


def test_a_build_gets_its_configuration_as_it_is_recorded(log):
    made = fetch(build, {"log": str(log), "scale": (1, 2)}, "md5")
    assert made.record["metrics"]["kind"] == "<class 'list'>"
    assert made.record["config"]["scale"] == [1, 2]


def test_a_build_cannot_change_its_record():
    config = {"options": {"first": 1}}
    assert fetch(careless, config, "md5").record["config"] == {"options": {"first": 1}}
    assert config == {"options": {"first": 1}}


@pytest.mark.parametrize(
    ("config", "error", "words"),
    [
        ({"a": {"palette": np.zeros(3)}}, TypeError, r"config\['a'\]\['palette'\].*ndarray"),
        ({"a": [1, {2}]}, TypeError, r"config\['a'\]\[1\].*set"),
        ({"a": np.int64(1)}, TypeError, r"config\['a'\].*int64"),
        ({"a": {1: 2}}, TypeError, r"config\['a'\] has the key 1"),
        ({"a": float("nan")}, ValueError, r"config\['a'\] is nan"),
    ],
)
def test_a_configuration_that_is_not_json_is_named(config, error, words):
    with pytest.raises(error, match=words):
        fetch(build, config, "md5")


def test_a_build_must_be_found_by_its_name(log):
    def local(log):
        return build(log)

    for function in (local, lambda log: build(log)):
        with pytest.raises(TypeError, match="top level"):
            fetch(function, {"log": str(log)}, "md5")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan", "'broken' holds values that are not finite"),
        ("inf", "'broken' holds values that are not finite"),
        ("list", "'broken' must be a tensor or an array, not list"),
        ("strings", "'broken' cannot be stored"),
        ("metric", "metrics cannot be stored as JSON"),
        ("object", "metrics cannot be stored as JSON"),
        ("nothing", "failed: TypeError"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(what, words, cache):
    with pytest.raises(ArtifactError, match=rf"returning\(what='{what}'\).*{words}"):
        fetch(returning, {"what": what}, "md5")
    assert files(cache) == []


def test_an_error_names_build_configuration_and_message(cache):
    with pytest.raises(ArtifactError, match=r"failing\(seed=1\) failed: ValueError: the seed is"):
        fetch(failing, {"seed": 1}, "md5")
    assert files(cache) == []


def test_clear_and_records(log, cache):
    for seed in (2, 1):
        fetch(build, {"log": str(log), "seed": seed}, "md5")
    fetch(failing, {"seed": 0}, "md5")
    assert sorted((r["name"], r["seed"]) for r in records()) == [
        ("build", 1),
        ("build", 2),
        ("failing", 0),
    ]
    files(cache, "*.json")[0].write_text("{")
    assert len(records()) == 2
    clear("build")
    assert [r["name"] for r in records()] == ["failing"]
    clear()
    assert records() == files(cache) == []
    fetch(build, {"log": str(log), "seed": 1}, "md5")
    assert runs(log) == [1, 1, 2]


# --- damage --------------------------------------------------------------------------------------


def truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def alter(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def alter_metric(path):
    path.write_text(path.read_text().replace('"accuracy": 0.5', '"accuracy": 0.9'))


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".safetensors", truncate),
        (".safetensors", alter),
        (".safetensors", Path.unlink),
        (".json", truncate),
        (".json", alter_metric),
        (".json", lambda path: path.write_text("[]")),
        (".json", lambda path: path.write_text("")),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_a_damaged_artefact_is_named_and_built_again(suffix, damage, many, log, cache):
    config = {"log": str(log), "seed": 3}
    good = fetch(build, config, "md5")
    (path,) = files(cache, f"*{suffix}")
    damage(path)
    with pytest.warns(ArtifactWarning, match=f"{path.name}.*built again"):
        again = fetch_many(build, [config], "md5")[0] if many else fetch(build, config, "md5")
    same(good, again)
    assert runs(log) == [3, 3]
    same(good, fetch(build, config, "md5"))
    assert runs(log) == [3, 3]


# --- the disk ------------------------------------------------------------------------------------


def test_a_full_disk_while_storing_is_named_and_leaves_the_rest(log, cache, monkeypatch):
    kept = fetch(build, {"log": str(log), "seed": 1}, "md5")
    before = files(cache)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ArtifactError, match=f"{cache}.*No space left.*LAZY_ARTIST_CACHE"):
            fetch(build, {"log": str(log), "seed": 2}, "md5")
    assert files(cache) == before
    same(kept, fetch(build, {"log": str(log), "seed": 1}, "md5"))
    fetch(build, {"log": str(log), "seed": 2}, "md5")
    assert runs(log) == [1, 2, 2]


@pytest.mark.parametrize("many", [False, True])
def test_a_nearly_full_disk_is_named_before_building(many, log, cache, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=5 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ArtifactError, match=f"{cache}.* 5 MiB free.*LAZY_ARTIST_CACHE"):
        if many:
            fetch_many(build, [{"log": str(log), "seed": s} for s in (0, 1)], "md5")
        else:
            fetch(build, {"log": str(log)}, "md5")
    assert runs(log) == []


def test_a_folder_that_cannot_be_written_to_is_named_before_building(log, tmp_path, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(log))  # a file stands where the folder should
    with pytest.raises(ArtifactError, match=f"{log}.*cannot be written to.*LAZY_ARTIST_CACHE"):
        fetch(build, {"log": str(log)}, "md5")
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
        (time, "sleep", die),  # in the build
        (os, "fsync", die),  # in the middle of the temporary file
        (os, "replace", dying_replace(".safetensors", after=False)),
        (os, "replace", dying_replace(".safetensors", after=True)),
        (os, "replace", dying_replace(".json", after=False)),
        (os, "replace", dying_replace(".json", after=True)),
    ],
)
def test_killed_at_any_moment_the_next_run_starts_clean(where, name, replacement, log, cache):
    kept = fetch(build, {"log": str(log), "seed": 1}, "md5")

    def killed():
        setattr(where, name, replacement)
        fetch(build, {"log": str(log), "seed": 2}, "md5")

    assert in_child(killed) == -signal.SIGKILL
    fetch(failing, {"seed": 0}, "md5")  # another build's folder stays out of it
    made = fetch(build, {"log": str(log), "seed": 2}, "md5")
    assert made.tensors["count"] == 2
    same(kept, fetch(build, {"log": str(log), "seed": 1}, "md5"))
    assert files(cache, "*.tmp") == []
    assert len(files(cache / "..", "build/*")) == 4
    assert len(records()) == 3


def test_only_temporary_files_of_dead_processes_are_swept(log, cache):
    folder = cache / "build"
    folder.mkdir(parents=True)
    dead, alive = folder / f"{'0' * 20}.json.tmp", folder / f"{'1' * 20}.json.tmp"
    dead.touch()
    alive.touch()
    with FileLock(f"{folder / ('1' * 20)}.lock"):
        fetch(build, {"log": str(log)}, "md5")
    assert files(cache, "*.tmp") == [alive]


def test_two_processes_at_once_build_once(log):
    config = {"log": str(log), "sleep": 0.5}
    children = []
    for _ in range(2):
        if (child := os.fork()) == 0:
            try:
                os._exit(0 if fetch(build, config, "md5").tensors["count"] == 0 else 1)
            except BaseException:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert runs(log) == [0]


def test_ctrl_c_keeps_what_is_done_and_leaves_nothing_half_done(log, cache, tmp_path):
    script = textwrap.dedent("""
        import sys
        from test_artifacts import build, fetch_many
        configs = [{"log": sys.argv[1], "seed": seed, "sleep": 60.0 * seed} for seed in range(3)]
        if sys.argv[2:]:
            configs = configs[:1]
        fetch_many(build, configs, "md5", jobs=2)
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(log)],
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
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0
    assert [record["seed"] for record in records()] == [0]
    assert files(cache, "*.tmp") == []
    assert len(files(cache)) == 2
    fetch(build, {"log": str(log), "seed": 0, "sleep": 0.0}, "md5")
    assert runs(log) == [0, 1, 2]


# --- many at once --------------------------------------------------------------------------------


def test_one_process_at_a_time_has_workers(log, cache):
    cache.mkdir(parents=True)
    configs = [{"log": str(log), "seed": seed} for seed in (0, 1)]
    with ThreadPoolExecutor() as pool:
        with FileLock(f"{cache / 'workers'}.lock"):  # as another process has it while it works
            waiting = pool.submit(fetch_many, build, configs, "md5", jobs=2)
            fetch(build, {"log": str(log), "seed": 2}, "md5")  # which needs no worker
            time.sleep(0.5)
            assert runs(log) == [2] and not waiting.done()
        waiting.result()
    assert runs(log) == [0, 1, 2]


def test_builds_that_fetch_many_do_not_wait_for_themselves(log, cache):
    fetch_many(asking_for_more, [{"log": str(log), "seed": seed} for seed in (0, 1)], "md5", jobs=2)
    assert runs(log) == [1, 2, 11, 12]


def test_parallel_results_equal_serial_ones_in_order(log, cache, tmp_path, capsys):
    configs = [{"log": str(log), "seed": seed} for seed in (2, 0, 1, 0)]
    parallel = fetch_many(build, configs, "md5", jobs=2)
    assert runs(log) == [0, 1, 2]
    assert [int(artifact.tensors["count"]) for artifact in parallel] == [2, 0, 1, 0]
    assert len(files(cache, "*.json")) == 3
    clear()
    serial = fetch_many(build, configs, "md5", jobs=1)
    assert runs(log) == [0, 0, 1, 1, 2, 2]
    for first, second in zip(parallel, serial, strict=True):
        same(first, second)
    fetch_many(build, configs, "md5")
    assert runs(log) == [0, 0, 1, 1, 2, 2]
    assert capsys.readouterr() == ("", "")  # no progress bar but on a terminal


def test_different_builds_are_made_together_and_come_in_order(log, cache):
    wanted = [(seeing_environment, {"seed": 0}), (build, {"log": str(log), "seed": 2})]
    wanted += [(build, {"log": str(log), "seed": 1}), wanted[0]]
    seen, second, first, again = fetch_all(wanted, "md5", jobs=2)
    assert (int(second.tensors["count"]), int(first.tensors["count"])) == (2, 1)
    assert seen.record["metrics"] == again.record["metrics"]
    assert {file.parent.name for file in files(cache, "*.json")} == {"build", "seeing_environment"}
    assert runs(log) == [1, 2]
    alone = fetch_many(build, [{"log": str(log), "seed": 1}], "md5")[0]
    same(alone, first)
    assert runs(log) == [1, 2]


def test_another_joblib_backend_may_be_chosen_and_shares_the_cores(log):
    before, many = torch.get_num_threads(), joblib.cpu_count() + 1
    configs = [{"log": str(log), "seed": seed} for seed in range(3)]
    try:
        torch.set_num_threads(many)
        with joblib.parallel_config(backend="threading"):
            made = fetch_many(build, configs, "md5", jobs=3)
        assert torch.get_num_threads() == many
    finally:
        torch.set_num_threads(before)
    assert [artifact.record["seed"] for artifact in made] == [0, 1, 2]
    share = max(1, joblib.cpu_count() // 3)
    assert {artifact.record["machine"]["threads"] for artifact in made} == {share}


def test_workers_share_the_cores_and_follow_the_environment(monkeypatch):
    for source in ("procedural", "mnist"):
        monkeypatch.setenv("LAZY_ARTIST_SOURCE", source)
        clear()
        made = fetch_many(seeing_environment, [{"seed": 0}, {"seed": 1}], "md5", jobs=2)
        assert [artifact.record["metrics"] for artifact in made] == [
            {"source": source, "threads": max(1, joblib.cpu_count() // 2)}
        ] * 2


def test_a_worker_s_error_names_build_configuration_and_message():
    with pytest.raises(ArtifactError, match=r"failing\(seed=1\) failed: ValueError: the seed is"):
        fetch_many(failing, [{"seed": 0}, {"seed": 1}], "md5", jobs=2)


def test_jobs_must_be_positive(log):
    with pytest.raises(ValueError, match="at least 1, not 0"):
        fetch_many(build, [{"log": str(log)}], "md5", jobs=0)


# --- fingerprints --------------------------------------------------------------------------------

TOY = {
    "__init__": '"""The toy package."""\n',
    "experiments": '''
        """Experiments."""
        import functools
        import os
        import numpy as np
        import toy.canvas
        from toy import late as lately, figures
        from toy.models import Network
        from .helpers import twice

        EPOCHS = 3
        UNUSED = 1
        WEIGHTS = np.arange(3.0)
        SCALE = os.environ.get("TOY_SCALE", "full")

        def dance(): return 1
        def sing(): return 2
        METHODS = {"dance": dance}
        PARTIAL = functools.partial(sing, 1)
        LAMBDAS = {"a": lambda: 1}

        def deco(function): return function

        class Recipe:
            step = 1
            def run(self): return part()

        def part(): return 7

        def helper(x):
            """Helps."""
            return x + EPOCHS  # a comment

        @deco
        def build(seed):
            """Builds."""
            def inner():
                from toy.inside import thing
                return helper(thing)
            figures_of = inner() + WEIGHTS.sum()
            Recipe()
            local = lately.x
            return SCALE, METHODS, PARTIAL, LAMBDAS, Network, twice, toy.canvas.paint(local)

        def draw():
            return figures.draw(UNUSED)

        def shadow(UNUSED):
            draw = UNUSED
            return draw
    ''',
    "canvas": "from . import palette\ndef paint(x): return palette.RED\n",
    "palette": "RED = 1\ndef f():\n    from toy.deep.bottom import y\n",
    "deep/__init__": "DEEP = 1\n",
    "deep/bottom": "y = 1\n",
    "late": "x = 1\n",
    "models": "class Network: pass\n",
    "helpers": "def twice(x): return 2 * x\n",
    "inside": "thing = 1\n",
    "figures": "def draw(x): return x\n",
    "lonely": "z = 1\n",
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A function that writes the modules of package `toy` and imports its experiments afresh."""
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
            return importlib.import_module("toy.experiments")

    yield write
    forget()


def edited(name, old, new):
    assert TOY[name].count(old) == 1
    return {**TOY, name: TOY[name].replace(old, new)}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("experiments", '"""Builds."""', '"""Makes."""'),
        ("experiments", '"""Helps."""', ""),
        ("experiments", '"""Experiments."""', '"""All of them."""'),
        ("experiments", "# a comment", "# another"),
        ("experiments", "x + EPOCHS", "(x   +   EPOCHS)"),
        ("experiments", "UNUSED = 1", "UNUSED = 2"),
        ("experiments", "EPOCHS = 3", "EPOCHS = 2 + 1"),
        ("experiments", "figures.draw(UNUSED)", "figures.draw(9)"),
        ("experiments", "def draw()", "def added(): pass\n        def draw()"),
        ("canvas", "from . import palette", '"""Paints."""\nfrom . import palette'),
        ("figures", "return x", "return -x"),
        ("lonely", "z = 1", "z = 2"),
        ("deep/__init__", "DEEP = 1", "DEEP = 2"),
    ],
)
def test_edits_that_a_build_does_not_reach_change_nothing(toy, name, old, new):
    before = fingerprint(toy(TOY).build)
    assert fingerprint(toy(edited(name, old, new)).build) == before


@pytest.mark.parametrize(
    ("name", "old", "new", "parts"),
    [
        ("experiments", "local = lately.x", "local = -lately.x", ["experiments:build"]),
        ("experiments", "return helper(thing)", "return -helper(thing)", ["experiments:build"]),
        ("experiments", "x + EPOCHS", "x - EPOCHS", ["experiments:helper"]),
        ("experiments", "EPOCHS = 3", "EPOCHS = 4", ["experiments:EPOCHS="]),
        ("experiments", "arange(3.0)", "arange(3.0) * 2", ["experiments:WEIGHTS="]),
        ("experiments", "arange(3.0)", "arange(3)", ["experiments:WEIGHTS="]),
        ("experiments", "return function", "return function or 1", ["experiments:deco"]),
        ("experiments", "step = 1", "step = 2", ["experiments:Recipe"]),
        ("experiments", "return 7", "return 8", ["experiments:part"]),
        ("experiments", "def dance(): return 1", "def dance(): return 3", ["experiments:dance"]),
        ("experiments", "def sing(): return 2", "def sing(): return 3", ["experiments:sing"]),
        ("experiments", '"a": lambda: 1', '"a": lambda: 2', ["experiments:LAMBDAS"]),
        ("experiments", '{"dance": dance}', '{"d": dance}', ["experiments:METHODS="]),
        ("canvas", "palette.RED", "-palette.RED", ["canvas"]),
        ("palette", "RED = 1", "RED = 2", ["palette"]),
        ("deep/bottom", "y = 1", "y = 2", ["deep.bottom"]),
        ("late", "x = 1", "x = 2", ["late"]),
        ("models", "pass", "x = 1", ["models"]),
        ("helpers", "2 * x", "3 * x", ["helpers"]),
        ("inside", "thing = 1", "thing = 2", ["inside"]),
    ],
)
def test_edits_that_a_build_reaches_change_their_part(toy, name, old, new, parts):
    before = fingerprint(toy(TOY).build)
    after = fingerprint(toy(edited(name, old, new)).build)
    changed = sorted(part for part in before if before[part] != after.get(part))
    assert changed == [f"toy.{part}" for part in parts]
    assert set(after) == set(before)


def test_a_fingerprint_holds_just_what_is_reached(toy):
    experiments = toy(TOY)
    assert set(fingerprint(experiments.draw)) == {
        "toy.experiments:draw",
        "toy.experiments:UNUSED=",
        "toy.figures",
    }
    assert set(fingerprint(experiments.shadow)) == {"toy.experiments:shadow"}


def test_a_constant_read_from_the_environment_counts_by_its_value(toy, monkeypatch):
    before = fingerprint(toy(TOY).build)
    monkeypatch.setenv("TOY_SCALE", "quick")
    after = fingerprint(toy(TOY).build)
    assert [part for part in before if before[part] != after[part]] == ["toy.experiments:SCALE="]


def test_names_bound_by_decoration_conditions_and_stars_are_followed(toy):
    source = """
        import functools
        from toy.stars import *

        if True:
            def conditional(): return 1

        @functools.cache
        def cached(): return 2

        def wrapped(): return 3
        wrapped = functools.lru_cache(wrapped)

        def build(): return conditional() + cached() + wrapped() + star
    """
    base = {"__init__": "", "experiments": source, "stars": "star = 4\n"}
    before = fingerprint(toy(base).build)
    for number in "123":
        after = fingerprint(
            toy({**base, "experiments": source.replace(f"return {number}", "return 9")}).build
        )
        assert after != before
    assert fingerprint(toy({**base, "stars": "star = 5\n"}).build) != before


def test_the_order_within_a_set_does_not_count(toy):
    assert list({0, 8}) != list({8, 0})
    prints = []
    for numbers in ("{0, 8}", "{8, 0}", "{0, 9}"):
        source = f"NUMBERS = {numbers}\ndef build(): return NUMBERS\n"
        prints.append(fingerprint(toy({"__init__": "", "experiments": source}).build))
    assert prints[0] == prints[1] != prints[2]


def test_code_edited_under_a_running_process_is_refused(toy, log):
    experiments = toy(TOY)
    before = fingerprint(experiments.build)
    toy(edited("experiments", "UNUSED = 1", "UNUSED = 2"), reload=False)
    assert fingerprint(experiments.build) == before
    toy(edited("canvas", "palette.RED", "-palette.RED"), reload=False)
    with pytest.raises(ArtifactError, match=r"toy\.canvas was edited.*new process"):
        fingerprint(experiments.build)
    importlib.reload(sys.modules["toy.canvas"])
    assert fingerprint(experiments.build) != before


def test_an_edit_builds_again(toy):
    source = "import torch\ndef build(seed): return {'x': torch.ones(1)}, {'value': 1}\n"
    base = {"__init__": "", "experiments": source}
    assert fetch(toy(base).build, {"seed": 0}, "md5").record["metrics"] == {"value": 1}
    base["experiments"] = source.replace("'value': 1", "'value': 2")
    assert fetch(toy(base).build, {"seed": 0}, "md5").record["metrics"] == {"value": 2}


def test_the_real_package():
    parts = fingerprint(canvas.colour_split)
    assert "lazy_artist.canvas:colour_split" in parts
    assert "lazy_artist.data" in parts
    assert not any("figures" in part or "artifacts" in part for part in parts)
    assert all(part.startswith("lazy_artist.") for part in parts)
    assert all(len(digest) == 64 for digest in parts.values())
    assert json.dumps(parts) == json.dumps(fingerprint(canvas.colour_split))


def test_the_store_itself_is_not_part_of_what_it_stores(toy):
    source = """
        from lazy_artist.artifacts import fetch
        from lazy_artist import canvas
        def inner(seed): return {}, {}
        def build(seed): return fetch(inner, {"seed": seed}, ""), canvas
    """
    parts = fingerprint(toy({"__init__": "", "experiments": source}).build)
    assert set(parts) == {
        "toy.experiments:build",
        "toy.experiments:inner",
        "lazy_artist.canvas",
        "lazy_artist.data",
    }
    assert artifacts.__name__ not in parts
