"""The results that came with the repository: filled, found, named when they lag, and verified."""

import json
import subprocess
from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lazy_artist import claims, reach, results, store
from lazy_artist.config import data_source
from lazy_artist.data import DataNotFoundError, DataWarning, load_digits, using
from lazy_artist.models import build
from lazy_artist.store import (
    FASHION_CHECKSUM,
    MNIST_CHECKSUM,
    ArtifactWarning,
    Call,
    digits_checksum,
    stored,
)

Handle = namedtuple("Handle", "name made_by")
ran: list[str] = []
shift = {"by": 0.0}


def no_data():
    return ""


@stored(data=no_data)
def train_network(arch, seed):
    ran.append(f"train {seed}")
    model = build(arch, seed)
    list(model.children())[-1].bias.data += shift["by"] if seed == 1 else 0
    return {"weights": model.state_dict()}


@stored(data=no_data)
def inner(seed):
    ran.append(f"inner {seed}")
    return seed


@stored(data=no_data)
def measured(handle, seed):
    ran.append(f"measured {seed}")
    inner(seed)
    handle.made_by.value()
    rates = np.linspace(0, 1, 101) + shift["by"] * np.eye(101)[7]
    return {"rates": pd.DataFrame({"rate": rates, "name": "a"}), "picture": np.eye(3), "n": seed}


@stored
def painted(n):
    ran.append(data_source())
    return f"{n} of {data_source()}"


def ones(size):
    return np.ones((size, size))


@stored(data=no_data)
def drawn(what):
    ran.append("drawn")
    return what(2) * (1 + shift["by"])


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A book of two chapters in a repository, and digits said to be MNIST."""

    def git(*words):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.chdir(tmp_path)
    for name, value in (("SCALE", "full"), ("SOURCE", "auto"), ("CACHE", tmp_path / "cache"),
                        ("RESULTS", tmp_path / "results"), ("STANDIN_SIZE", 60)):  # fmt: skip
        monkeypatch.setenv(f"LAZY_ARTIST_{name}", str(value))
    digits = namedtuple("Digits", "source")("MNIST (of the test)")
    monkeypatch.setattr(results, "load_digits", lambda *_: digits)
    monkeypatch.setattr(results, "test_split", lambda name, n: name)
    monkeypatch.setattr(
        results, "accuracy", lambda model, _: float(list(model.children())[-1].bias[0])
    )
    monkeypatch.setenv("LAZY_ARTIST_CHAPTER", "")
    monkeypatch.setitem(shift, "by", 0.0)
    Path("_quarto.yml").write_text("book: {chapters: [one.qmd, two.qmd]}")
    Path("code").mkdir()
    Path("code/module.py").touch()
    git("init", "-q")
    git("add", "code", "_quarto.yml")
    git("commit", "-qm", "a book")
    ran.clear()
    return tmp_path


def handle(seed):
    return Handle(f"net {seed}", Call(train_network, {"arch": "mlp", "seed": seed}))


def build_book():
    """What the two chapters ask for; what was computed for it."""
    ran.clear()
    claims.begin_chapter("one")
    measured(handle(0), 5)
    claims.begin_chapter("two")
    measured(handle(0), 5)
    drawn(ones)
    handle(1).made_by.value()
    return list(ran)


def say(*arguments):
    return results.main(list(arguments))


def files():
    return sorted(str(path.relative_to("results")) for path in Path("results").rglob("*.*"))


def test_what_chapters_ask_for_comes_with_the_repository_and_no_more(checkout, capsys):
    everything = ["train 0", "measured 5", "inner 5", "drawn", "train 1"]
    assert build_book() == everything and claims.result_origins() == {"computed": 3}
    assert say("fill") == 0 and "3 results" in capsys.readouterr().out
    assert [name.partition("/")[0] for name in files()] == [
        "drawn", "drawn", "index.json", "measured", "measured", "train_network", "train_network",
    ]  # fmt: skip
    index = json.loads(Path("results/index.json").read_text())
    asked = {e["name"]: e["chapters"] for e in index["results"].values() if e["chapters"]}
    assert asked == {"drawn": ["two"], "measured": ["one", "two"], "train_network": ["two"]}
    assert sorted(e["name"] for e in index["results"].values() if not e["chapters"]) == [
        "inner", "train_network",
    ]  # fmt: skip
    (used,) = (e["uses"] for e in index["results"].values() if e["name"] == "measured")
    assert {index["results"][address]["name"] for address in used} == {"inner", "train_network"}

    (checkout / "cache").rename(checkout / "elsewhere")
    assert build_book() == [] and claims.result_origins() == {"repository": 3}
    assert say("plan") == 0
    assert "3 came with the repository" in (told := capsys.readouterr().out)
    assert "none has to be computed" in told
    assert say("fill") == 0 and len(files()) == 7  # once more, from themselves


def test_fresh_and_quick_builds_do_without_them(checkout, monkeypatch):
    build_book()
    results.fill()
    for name, value in (("FRESH", "1"), ("SCALE", "quick"), ("SOURCE", "procedural")):
        with monkeypatch.context() as patch:
            patch.setenv(f"LAZY_ARTIST_{name}", value)
            patch.setenv("LAZY_ARTIST_CACHE", str(checkout / name))
            assert "measured 5" in build_book()
            assert claims.result_origins()["repository"] == 0
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(checkout / "another"))
    assert build_book() == []


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("damage", [lambda c: c[:-4], lambda c: c.replace(b"\x3f", b"\x3e"), None])
def test_what_is_damaged_is_named_and_computed_and_never_shown(checkout, suffix, damage):
    build_book()
    results.fill()
    (path,) = Path("results/drawn").glob(f"*{suffix}")
    content = path.read_bytes()
    path.unlink()
    if damage:
        path.write_bytes(damage(content) if suffix != ".json" else content[: len(content) // 2])
    (checkout / "cache").rename(checkout / "elsewhere")
    if damage or suffix != ".json":
        with pytest.warns(ArtifactWarning, match=f"{path.name}.*it is not used"):
            again = drawn(ones)
    else:
        again = drawn(ones)
    np.testing.assert_array_equal(again, np.ones((2, 2)))
    assert ran[-1] == "drawn" and path.exists() == bool(damage)


def test_what_lags_behind_the_code_is_named_with_its_cause_and_time(checkout, monkeypatch, capsys):
    build_book()
    results.fill()
    assert say("check") == 0 and "as new as the code" in capsys.readouterr().out
    code_of = reach.code_of

    def other(function):
        return {
            part: "other" if part.endswith(":train_network") else digest
            for part, digest in code_of(function).items()
        }

    monkeypatch.setattr(store, "code_of", other)
    monkeypatch.setattr(results, "code_of", other)
    index = results.read_index()
    for entry in index["results"].values():
        entry["seconds"] = {"train_network": 60, "measured": 120, "inner": 600, "drawn": 600}[
            entry["name"]
        ]
    Path("results/index.json").write_text(json.dumps(index))
    assert say("check") == 0  # a warning, no failure
    told = capsys.readouterr().out
    assert "lag behind the code: 1 measured" in told and "measured" in told and "drawn" not in told
    assert say("plan") == 0
    told = capsys.readouterr().out
    assert "since test_results:train_network changed" in told
    assert "2 train_network, 1 measured" in told and "inner" not in told  # which is in the cache
    assert "4.0 minutes" in told  # 60 + 60 + 120 seconds
    assert say("verify") == 1 and "lag" in capsys.readouterr().err


def test_what_cannot_be_kept_is_refused_and_leaves_the_last_ones(checkout, monkeypatch, capsys):
    assert say("fill") == 1 and "no chapter has asked" in capsys.readouterr().err
    build_book()
    results.fill()
    before = files()

    def refused(words):
        assert say("fill") == 1 and words in capsys.readouterr().err
        assert files() == before and [*checkout.glob("results.*")] == []

    monkeypatch.setattr(results, "LIMIT", 2000)
    refused("let chapters ask for less")
    monkeypatch.setattr(results, "LIMIT", 15_000_000)
    (kept,) = Path("cache/results/drawn").glob("*.safetensors")
    content = kept.read_bytes()
    kept.write_bytes(content[:-1])
    refused("truncated or altered: delete it")
    kept.write_bytes(content)
    monkeypatch.undo()
    monkeypatch.chdir(checkout)
    for name, value in (("SCALE", "quick"), ("CACHE", checkout / "cache"),
                        ("RESULTS", checkout / "results"), ("STANDIN_SIZE", 60)):  # fmt: skip
        monkeypatch.setenv(f"LAZY_ARTIST_{name}", str(value))
    refused("the scale is quick")
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "full")
    refused("not MNIST but: procedural")
    Path("code/module.py").write_text("x = 1")
    refused("uncommitted work (code/module.py)")


def test_results_of_other_code_are_not_filled_in(checkout, monkeypatch, capsys):
    build_book()
    monkeypatch.setattr(store, "code_of", lambda function: {"other:code": "1"})
    assert say("fill") == 1 and "other code" in capsys.readouterr().err
    assert not Path("results").exists()


def test_a_damaged_index_is_named(checkout, capsys):
    build_book()
    results.fill()
    path = Path("results/index.json")
    path.write_text(path.read_text()[:-50])
    for step in ("plan", "check", "verify"):
        assert say(step) == 1 and "index.json is damaged" in capsys.readouterr().err


def test_a_sample_is_computed_afresh_and_compared(checkout, capsys):
    build_book()
    results.fill()
    ran.clear()
    assert say("verify") == 0
    told = capsys.readouterr().out
    # a network, and of each chapter a measurement; what those stand on is made by workers
    assert sorted(ran) == ["drawn", "measured 5", "train 1"]
    verdicts = [line.split("|")[-2].strip() for line in told.splitlines() if "|" in line]
    assert verdicts[2:] == ["same"] * 3
    shift["by"] = 0.5  # one number of 101 is another, and the accuracies of the network
    assert say("verify") == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "|" in line]
    assert ["same" in line for line in lines[2:]] == [False, True, False]  # "measured" is near
    assert say("verify", "--all") == 1
    assert capsys.readouterr().out.count("OTHER") == 2  # the network, and what is drawn
    assert not (checkout / "cache" / "verify").exists()


def test_the_sample_counts_what_measurements_stand_on_and_shares_it():
    def entry(seconds, chapters="", uses=""):
        about = {"name": "measured", "seconds": seconds}
        return about | {"chapters": chapters.split(), "uses": uses.split()}

    entries = {
        "net": entry(100), "kept net": entry(50, "a"), "slow": entry(5, "a", "net"),
        "quick": entry(2, "a"), "other": entry(3, "b", "net"), "dear": entry(300, "b", "net"),
    }  # fmt: skip
    assert results.sample({"results": entries}) == ["other", "slow"]  # "net" is made for "other"
    del entries["other"], entries["dear"]
    assert results.sample({"results": entries}) == ["quick"]


def test_what_cannot_be_verified_for_want_of_a_file_is_named(checkout, capsys, monkeypatch):
    build_book()
    results.fill()

    def missing(**_):
        raise DataNotFoundError("weights.pt cannot be had")

    monkeypatch.setattr(drawn, "__wrapped__", missing)
    with pytest.warns(DataWarning, match="not verified: weights.pt"):
        assert say("verify") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "not verified" in line]
    assert len(lines) == 1 and "drawn" in lines[0]


def test_results_of_clothes_stand_beside_those_of_digits(checkout, capsys, monkeypatch):
    checksums = {"auto": MNIST_CHECKSUM, "fashion-mnist": FASHION_CHECKSUM}
    Digits = namedtuple("Digits", "md5")
    monkeypatch.setattr(
        store,
        "load_digits",
        lambda split: Digits(checksums[data_source()].split()[split == "test"]),
    )

    def build():
        ran.clear()
        claims.begin_chapter("one")
        with using("fashion-mnist"):
            clothes = painted(3)
        return clothes, painted(3), list(ran)

    assert build() == ("3 of fashion-mnist", "3 of auto", ["fashion-mnist", "auto"])
    assert say("fill") == 0
    index = json.loads(Path("results/index.json").read_text())
    assert sorted(e["source"] for e in index["results"].values()) == ["auto", "fashion-mnist"]
    (checkout / "cache").rename(checkout / "elsewhere")
    with monkeypatch.context() as patch:
        patch.delattr(store, "load_digits")  # neither data set is needed
        assert build() == ("3 of fashion-mnist", "3 of auto", [])
        assert say("check") == 0 and "as new as the code" in capsys.readouterr().out
    ran.clear()
    assert say("verify", "--all") == 0 and sorted(ran) == ["auto", "fashion-mnist"]
    assert data_source() == "auto"

    def only_digits(split, source="mnist"):
        if source == "fashion-mnist":
            raise DataNotFoundError("Fashion-MNIST cannot be had: offline")
        return namedtuple("Digits", "source")("MNIST")

    monkeypatch.setattr(results, "load_digits", only_digits)
    assert say("ready") == 1 and "one chapter is of clothes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kept", "fresh", "expected"),
    [
        ({"a": [1, 2.0]}, {"a": [1, 2.0]}, (2, 0, 0)),
        ({"a": np.array([1.0, 200])}, {"a": np.array([4.0, 200])}, (2, 0, 0.015)),
        ({"a": np.array([1.0, 100])}, {"a": np.array([4.0, 100])}, (2, 1, 0.03)),
        ({"a": 1}, {"b": 1}, (1, 1, np.inf)),
        (np.zeros(3), np.zeros(4), (3, 3, np.inf)),
        (np.array([np.nan, 1]), np.array([np.nan, 1]), (2, 0, 0)),
        (np.array([np.nan, 1]), np.array([1, np.nan]), (2, 2, 0)),
        (["red", "blue"], ["red", "green"], (2, 1, 1)),
        ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 3}], (2, 1, 0.5)),
        ({"sheet": np.zeros(3, np.uint8)}, {"sheet": np.zeros(4, np.uint8)}, (0, 0, 0)),
        (pd.DataFrame({"n": [1, 10]}), pd.DataFrame({"n": [1, 11]}), (2, 1, 0.1)),
    ],
)
def test_differences_are_told_in_units_of_the_largest(kept, fresh, expected):
    size, wrong, worst = results.compare(kept, fresh)
    assert (size, wrong) == expected[:2] and worst == pytest.approx(expected[2])


def test_with_them_no_digits_are_needed_and_no_drawn_ones_allowed(checkout, monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_OFFLINE", "1")
    build_book()
    results.fill()
    assert digits_checksum() == MNIST_CHECKSUM
    with pytest.raises(DataNotFoundError, match="LAZY_ARTIST_SOURCE=procedural"):
        load_digits("train")
    monkeypatch.setenv("LAZY_ARTIST_FRESH", "1")
    assert "stand-in" in load_digits("train").source
    assert digits_checksum() != MNIST_CHECKSUM
