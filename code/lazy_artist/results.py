"""The results that came with the repository, in its folder `results`: which of them today's code
still has, how they are renewed, and whether this machine computes the same.

    python -m lazy_artist.results plan              what the next full build has to compute
    python -m lazy_artist.results check             whether they lag behind the code (no failure)
    python -m lazy_artist.results verify [--all]    computes a sample (all) afresh, and compares
    python -m lazy_artist.results ready             whether they could be renewed from this folder
    python -m lazy_artist.results fill              takes them from the cache, after a full build

`results/` has what chapters ask for, file by file as in the cache, and index.json: of each result,
and of all that it stands on, function, arguments, time, what it used, by address, and of what data
it is ("source"); the digests of all code that they reach; commit, machine and date.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from lazy_artist import store
from lazy_artist.canvas import test_split
from lazy_artist.claims import asked_results
from lazy_artist.config import data_source, repository_results, results_folder, scale
from lazy_artist.data import (
    DataNotFoundError,
    DataWarning,
    cache_dir,
    load_digits,
    using,
    write_whole,
)
from lazy_artist.evaluate import accuracy
from lazy_artist.models import build
from lazy_artist.reach import code_of

LIMIT = 15_000_000  # bytes of all that lies in results/
NETWORKS = ("train_network", "train_debiased")  # compared by accuracy, not by weights
SAMPLE_SECONDS = 10.0  # what a chapter's measurement in the sample may have taken
NEAR, SHARE = 0.02, 0.95  # verified: this share of numbers differs by less of their largest
NEAR_ACCURACY = 0.02  # and accuracies of a network that is trained again by less than this


class Refused(Exception):
    """Why something cannot be done; the message ends with what to do."""


def read_index() -> dict[str, Any]:
    """The index; of no folder that of no results. Raises Refused for one that cannot be read."""
    path = results_folder() / "index.json"
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return {"results": {}, "code": {}}
    except ValueError:
        raise Refused(f"{path} is damaged: take it from the repository again") from None


def named(reference: str) -> Any:
    """The function or class "module:name" of this project; None if it is gone."""
    module, _, name = reference.partition(":")
    try:
        if module not in sys.modules and module.startswith("lazy_artist."):
            importlib.import_module(module)
    except ModuleNotFoundError:
        return None
    return getattr(sys.modules.get(module), name, None)


def of_its_data(entry: dict[str, Any]) -> AbstractContextManager[None]:
    """Within it the book measures the data set that a result is of, MNIST unless it says so."""
    return using("fashion-mnist" if entry.get("source") == "fashion-mnist" else data_source())


def addresses(index: dict[str, Any]) -> dict[str, str | None]:
    """The address that each result of the index would have by today's code; None if its function,
    or one of its arguments, is gone."""

    def renewed(value: Any) -> Any:
        match value:
            case {"made by": function, "address": old}:
                return {"made by": function, "address": today(old)}
            case {"code of": reference}:
                return store.described(named(reference))
            case dict():
                return {name: renewed(item) for name, item in value.items()}
            case list():
                return [renewed(item) for item in value]
        return value

    @cache
    def today(old: str) -> str | None:
        entry = index["results"][old]
        function = named(f"{entry['module']}:{entry['name']}")
        try:
            with of_its_data(entry):
                return store.address(function, renewed(entry["arguments"]))
        except (TypeError, AttributeError, KeyError):
            return None

    return {old: today(old) for old in index["results"]}


def lacking(index: dict[str, Any], places: Iterable[Path]) -> list[dict[str, Any]]:
    """The entries, with what they stand on, whose results lie in none of the places."""
    now, found, places = addresses(index), {}, list(places)

    def visit(old: str) -> None:
        entry = index["results"][old]
        if old in found or any((p / entry["name"] / f"{now[old]}.json").exists() for p in places):
            return
        found[old] = entry
        for used in entry["uses"]:
            visit(used)

    for old, entry in index["results"].items():
        if entry["chapters"]:
            visit(old)
    return list(found.values())


def told(entries: list[dict[str, Any]]) -> str:
    counts = Counter(entry["name"] for entry in entries)
    return shorten(", ".join(f"{n} {name}" for name, n in counts.most_common()), 300)


def edited(index: dict[str, Any]) -> str:
    """Which code that the results reach is not what it was."""
    now: dict[str, str] = {}
    for entry in index["results"].values():
        if function := named(f"{entry['module']}:{entry['name']}"):
            now |= code_of(function)
    parts = [part for part, digest in index["code"].items() if now.get(part) != digest]
    return shorten(", ".join(parts), 200)


def plan() -> str:
    """What a full build has to compute, and how long that took, in a sentence or two."""
    index = read_index()
    if scale() != "full" or not index["results"]:
        return ""
    total = sum(bool(entry["chapters"]) for entry in index["results"].values())
    places = [cache_dir() / "results", *filter(None, [repository_results()])]
    entries = lacking(index, places)
    came = f"results: {total} came with the repository ({index['commit'][:12]}, {index['created']})"
    if not entries:
        return f"{came}; none has to be computed"
    minutes = sum(entry["seconds"] for entry in entries) / 60
    why = f", since {parts} changed" if (parts := edited(index)) else ""
    return (
        f"{came}; to compute{why}: {told(entries)}. That took {minutes:.1f} minutes of a core; "
        f"here are {joblib.cpu_count()}"
    )


def lag() -> str:
    """How the results lag behind the code, by name; empty if they do not."""
    index = read_index()
    if not index["results"]:
        return "there are none (make results)"
    entries = [e for e in lacking(index, [results_folder()]) if e["chapters"]]
    return f"these lag behind the code: {told(entries)}. `make results` renews them" * bool(entries)


# --- renewing ------------------------------------------------------------------------------------


def ready() -> str:
    """The commit that results filled now would be of. Raises Refused for uncommitted work, another
    scale than full, other digits than MNIST, and where Fashion-MNIST cannot be had."""

    def git(*arguments: str) -> str:
        root = results_folder().parent
        try:
            how = {"cwd": root, "capture_output": True, "text": True, "check": True}
            return subprocess.run(["git", *arguments], **how).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            raise Refused(f"git knows nothing of {root}: fill results/ in a checkout") from None

    changed = git("status", "--porcelain", "--", "code", "report", "index.qmd", "_quarto.yml")
    if changed:
        files = shorten(", ".join(line[2:].strip() for line in changed.splitlines()), 200)
        raise Refused(f"uncommitted work ({files}): commit it, or put it aside")
    if scale() != "full":
        raise Refused(f"the scale is {scale()}, not full: unset LAZY_ARTIST_SCALE and SCALE")
    for split in ("train", "test"):
        if not (source := load_digits(split).source).startswith("MNIST"):
            what = f"the {split} digits are not MNIST but: {source}"
            raise Refused(f"{what}. Set LAZY_ARTIST_DATA to a folder that holds mnist/")
        try:
            load_digits(split, "fashion-mnist")
        except DataNotFoundError as error:
            raise Refused(f"one chapter is of clothes, and {error}") from None
    return git("rev-parse", "HEAD")


def fill() -> str:
    """Puts what the chapters of the book asked for in its last build into `results/`, whole or not
    at all. Raises Refused as `ready`, for what was not asked for by today's code, and for more than
    `LIMIT` bytes."""
    commit, old = ready(), read_index()
    asked: dict[str, set[str]] = {}  # "name/address": chapters
    for chapter, name, address, _ in asked_results():
        asked.setdefault(f"{name}/{address}", set()).add(chapter)
    if not asked:
        raise Refused("no chapter has asked for a result yet: run `make results`, which builds")
    kept = {record["address"]: record for record in store.records()}
    entries, code, todo = {}, {}, [name.rpartition("/")[2] for name in asked]
    while todo:
        if (address := todo.pop()) in entries:
            continue
        if address in kept:
            about = ("module", "name", "arguments", "uses", "source")
            entry = {name: kept[address][name] for name in about if name in kept[address]}
            entry["seconds"] = kept[address]["wall_seconds"]
        elif address in old["results"]:
            entry = dict(old["results"][address])
        else:
            raise Refused(f"result {address} is gone from the cache: run `make results` again")
        entry["chapters"] = sorted(asked.get(f"{entry['name']}/{address}", ()))
        entries[address] = entry
        todo += entry["uses"]
        if (function := named(f"{entry['module']}:{entry['name']}")) is None:
            told = f"{entry['module']} has no {entry['name']} any more, which computed {address}"
            raise Refused(f"{told}: delete it from the cache, and run `make results` again")
        code |= code_of(function)
    index = {
        "commit": commit, "created": f"{datetime.now(UTC):%Y-%m-%d}", "machine": store.machine(),
        "torch": torch.__version__, "code": dict(sorted(code.items())),
        "results": dict(sorted(entries.items(), key=lambda e: (e[1]["name"], e[0]))),
    }  # fmt: skip
    if stale := [entries[a]["name"] for a, now in addresses(index).items() if now != a]:
        raise Refused(f"{stale[0]} was asked for by other code: run `make results` again")
    with tempfile.TemporaryDirectory(prefix="results.", dir=results_folder().parent) as work:
        new, replaced = Path(work, "new"), Path(work, "old")
        for name in asked:
            for place in (cache_dir() / "results", results_folder()):
                for file in place.glob(f"{name}.*[!k]"):  # but locks
                    (new / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, new / f"{name}{file.suffix}")
                if (new / f"{name}.json").exists():
                    break
            try:
                store.read(new / name)
            except store._Damaged as damage:
                raise Refused(f"{damage}: delete it, and run `make results` again") from None
            record = new / f"{name}.json"  # without the cache's indents, a tenth of all
            record.write_text(json.dumps(json.loads(record.read_bytes()), separators=(",", ":")))
        write_whole(new / "index.json", (json.dumps(index, indent=0) + "\n").encode())
        size = sum(path.stat().st_size for path in new.rglob("*.*"))
        if size > LIMIT:
            told = f"they have {size / 1e6:.1f} MB, more than {LIMIT / 1e6:.0f}"
            raise Refused(f"{told}: let chapters ask for less")
        if results_folder().exists():
            os.rename(results_folder(), replaced)
        os.rename(new, results_folder())
    return f"{len(asked)} results, {size / 1e6:.1f} MB, of {commit[:12]}. Commit them"


# --- verifying -----------------------------------------------------------------------------------


def arguments_of(index: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a result, from its record. Raises Refused if they held arrays."""

    def value(content: Any) -> Any:
        match content:
            case {"sha256": _}:
                raise Refused(f"{entry['name']} was called with an array, which no record has")
            case {"made by": _, "address": address}:
                made = index["results"][address]
                function = named(f"{made['module']}:{made['name']}")
                return store.Call(function, arguments_of(index, made))
            case {"code of": reference}:
                return named(reference)
            case {"tuple": reference, "items": items}:
                return named(reference)(*map(value, items))
            case dict():
                return {name: value(item) for name, item in content.items()}
            case list():
                return [value(item) for item in content]
        return content

    return value(entry["arguments"])


def compare(kept: Any, fresh: Any) -> tuple[int, int, float]:
    """How many numbers (and texts) two results hold, how many differ by more than `NEAR` of the
    largest of their column or array, and the largest difference in these units."""
    if isinstance(kept, dict | pd.DataFrame) and list(kept) != list(fresh):
        return 1, 1, np.inf
    if isinstance(kept, dict | pd.DataFrame):
        parts = [compare(kept[name], fresh[name]) for name in kept]
    elif isinstance(kept, list) and len(kept) == len(fresh) and not _plain(kept):
        parts = [compare(*pair) for pair in zip(kept, fresh, strict=True)]
    else:
        one, other = np.asarray(kept), np.asarray(fresh)
        if one.dtype == np.uint8 and one.ndim == 1:  # an encoded picture, by whatever encoder
            return 0, 0, 0.0
        if one.shape != other.shape:
            return one.size, one.size, np.inf
        if one.dtype.kind not in "biuf":
            differ = (one != other).astype(float)
        else:
            one, other = one.astype(float), other.astype(float)
            differ = np.abs(one - other) / max(np.nanmax(np.abs(one), initial=0), 1e-12)
            differ = np.where(np.isnan(one) & np.isnan(other), 0, differ)
        return one.size, int((~(differ <= NEAR)).sum()), float(np.nanmax(differ, initial=0))
    if not parts:
        return 0, 0, 0.0
    sizes, wrong, worst = zip(*parts, strict=True)
    return sum(sizes), sum(wrong), max(worst)


def _plain(values: list[Any]) -> bool:
    return all(isinstance(value, int | float | str | None) for value in values)


def sample(index: dict[str, Any]) -> list[str]:
    """Of each chapter one measurement: of those that take at most `SAMPLE_SECONDS`, with all that
    they stand on and that neither the repository nor the sample has, the longest; else the
    shortest. Chapters whose shortest is the longest choose first."""
    entries = index["results"]
    chapters = {chapter for entry in entries.values() for chapter in entry["chapters"]}
    own = {
        chapter: [
            address
            for address, entry in entries.items()
            if chapter in entry["chapters"] and entry["name"] not in NETWORKS
        ]
        for chapter in sorted(chapters)
    }

    @cache
    def needed(address: str) -> frozenset[str]:
        used = [needed(a) for a in entries[address]["uses"] if not entries[a]["chapters"]]
        return frozenset({address}).union(*used)

    def cost(addresses: Iterable[str]) -> float:
        return sum(entries[address]["seconds"] for address in addresses)

    chosen, have = [], set()
    for chapter in sorted(
        filter(own.get, own), key=lambda c: -min(cost(needed(a)) for a in own[c])
    ):
        costs = {address: cost(needed(address) - have) for address in own[chapter]}
        short = [address for address in costs if costs[address] <= SAMPLE_SECONDS]
        chosen.append(max(short, key=costs.get) if short else min(costs, key=costs.get))
        have |= needed(chosen[-1])
    return list(dict.fromkeys(chosen))


def verify(everything: bool) -> pd.DataFrame:
    """Computes results afresh, in a cache of their own, and compares them: a row each. Networks are
    compared by their accuracies on easy and hard images. Files that cannot be had are named, with a
    warning. The cache is kept if this is interrupted (and then goes on). Raises Refused without
    results, or if they lag behind the code."""
    index = read_index()
    if lagging := lag():
        raise Refused(f"nothing to verify: {lagging}")
    entries, work = index["results"], cache_dir() / "verify"
    asked = [a for a, entry in entries.items() if entry["chapters"]]
    networks = [a for a in asked if entries[a]["name"] in NETWORKS]
    chosen = asked if everything else [*networks[:1], *sample(index)]
    settings = {"LAZY_ARTIST_CACHE": str(work), "LAZY_ARTIST_FRESH": "1" * everything}
    settings["LAZY_ARTIST_DATA"] = os.environ.get("LAZY_ARTIST_DATA") or str(cache_dir() / "data")
    load_digits("train", "mnist")  # before the cache is another one
    kept = {a: store.read(results_folder() / entries[a]["name"] / a) for a in chosen}
    before, rows = dict(os.environ), []
    os.environ.update(settings)

    def call(address: str) -> tuple[Any, dict[str, Any]]:
        entry = entries[address]
        return named(f"{entry['module']}:{entry['name']}"), arguments_of(index, entry)

    try:
        for address in tqdm(chosen, "verifying", disable=None):
            entry, start = entries[address], time.perf_counter()
            row = {"result": f"{entry['name']} {address[:6]}"}
            row |= {"chapters": ", ".join(entry["chapters"]), "then, s": entry["seconds"]}
            rows.append(row)
            try:
                made = [a for a in entry["uses"] if everything or not entries[a]["chapters"]]
                with of_its_data(entry):
                    store.run([call(a) for a in made])
                    function, given = call(address)
                    fresh = function(**given) if everything else function.__wrapped__(**given)
            except (DataNotFoundError, store.ArtifactError) as error:
                if not isinstance(error.__cause__ or error, DataNotFoundError):
                    raise
                warnings.warn(f"not verified: {error}", DataWarning, stacklevel=2)
                rows[-1] = row | {"verdict": "not verified"}
                continue
            seconds = time.perf_counter() - start
            if address in networks:
                with of_its_data(entry):
                    splits = [test_split(name, 2000) for name in ("validation", "hard")]
                pair = [build(given["arch"], 0) for _ in range(2)]
                for model, value in zip(pair, (kept[address], fresh), strict=True):
                    model.load_state_dict(value["weights"])
                told = [[accuracy(model.eval(), split) for split in splits] for model in pair]
                worst = float(np.abs(np.subtract(*told)).max())
                size, wrong, holds = 2, int(worst > NEAR_ACCURACY), worst <= NEAR_ACCURACY
            else:
                size, wrong, worst = compare(kept[address], fresh)
                holds = wrong <= (1 - SHARE) * size
            rows[-1] = row | {
                "now, s": seconds, "numbers": size, "differ": wrong, "largest difference": worst,
                "verdict": "same" if holds else "OTHER",
            }  # fmt: skip
    finally:
        os.environ.clear()
        os.environ.update(before)
    shutil.rmtree(work, ignore_errors=True)
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 if something was refused, or if a result was not verified."""
    how = {"description": __doc__, "formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(prog="python -m lazy_artist.results", **how)
    parser.add_argument("step", choices=["plan", "check", "verify", "ready", "fill"])
    parser.add_argument("--all", action="store_true", help="verify all, networks too")
    options = parser.parse_args(arguments)
    try:
        if options.step == "plan":
            print(plan())
        elif options.step == "check":
            print(f"results: {lag() or 'as new as the code'}")
        elif options.step == "ready":
            print(f"Computing the results of {ready()[:12]}, at full scale, from MNIST")
        elif options.step == "fill":
            print(f"results: {fill()}")
        else:
            table = verify(options.all)
            print(table.to_markdown(index=False, floatfmt=".3g", missingval=""))
            print(
                f"same: {SHARE:.0%} of the numbers within {NEAR:.0%} of the largest of their kind; "
                f"accuracies of a network within {100 * NEAR_ACCURACY:.0f} percentage points"
            )
            return int((table["verdict"] == "OTHER").any())
    except Refused as error:
        print(f"results: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
