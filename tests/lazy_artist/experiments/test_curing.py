"""Chapter 5's measurements, on a tiny table of cures."""

import functools

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

from lazy_artist import debias, figures
from lazy_artist.artifacts import fetch_many, records
from lazy_artist.canvas import colour_split
from lazy_artist.debias import lazy, protocol
from lazy_artist.debias.protocol import Recipe
from lazy_artist.evaluate import Estimate
from lazy_artist.experiments import curing, networks


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """A few hundred digits, two seeds, a few steps, in this process, and a cache of its own."""
    monkeypatch.setattr(curing, "fetch_many", functools.partial(fetch_many, jobs=1))
    monkeypatch.setitem(curing.LOOKED_AT, "quick", 5)
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "600")
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path))
    monkeypatch.setattr(lazy, "PASS", 1)
    for arch in ("cnn", "mlp", "resnet18"):
        monkeypatch.setitem(protocol.RECIPES, arch, Recipe(0.5, 2e-3, 64))
        monkeypatch.setitem(lazy.LAZY, arch, Recipe(0.25, 1e-3, 64))
    recipe = networks.Recipe(1, 1e-3, 64)
    for key in list(networks.RECIPES):
        monkeypatch.setitem(networks.RECIPES, key, recipe)
    kept = ("erm", "lazy-resampling", "combination", "resampling", "oracle")
    methods = {name: row for name, row in debias.METHODS.items() if name in kept}
    monkeypatch.setattr(debias, "METHODS", methods)
    monkeypatch.setattr(debias, "ABLATIONS", dict(list(debias.ABLATIONS.items())[:1]))
    monkeypatch.setitem(curing.SWEPT, "quick", ("erm", "combination"))
    monkeypatch.setattr(curing, "LFF", ("erm", "combination"))
    monkeypatch.setattr(curing, "OWN", ("lazy-resampling", "combination"))
    monkeypatch.setattr(curing, "GAZED", {n: curing.GAZED[n] for n in ("cheater", "combination")})


def test_robust_is_the_method_asked_for_and_best_is_the_frozen_one():
    best, named = curing.robust(), curing.robust("combination", 0)
    assert not best.training
    for a, b in zip(best.parameters(), named.parameters(), strict=True):
        assert torch.equal(a, b)
    other = curing.robust("erm", 1)
    assert not torch.equal(next(best.parameters()), next(other.parameters()))
    stored = [record["config"] for record in records() if record["name"] == "cured"]
    found = sorted((c["method"], c["seed"]) for c in stored)
    assert found == [("combination", 0), ("erm", 1)]


def test_robust_refuses_before_any_work():
    with pytest.raises(ValueError, match="unknown method 'cure-all'.*erm.*combination"):
        curing.robust("cure-all")
    with pytest.raises(ValueError, match="unknown architecture 'vit'.*cnn"):
        curing.robust("erm", arch="vit")
    assert records() == []


def test_a_failed_run_is_named_and_not_stored(monkeypatch):
    def diverging(split, seed, arch, effort):
        return protocol.plain(split, seed, arch, effort, loss=_nan)

    row = debias.METHODS["erm"]._replace(train=diverging)
    monkeypatch.setitem(debias.METHODS, "erm", row)
    monkeypatch.setattr(curing, "_code", lambda row: "test")
    with pytest.raises(Exception, match="'erm' failed: the loss is nan at step 1 .*seed 0"):
        curing.robust("erm")
    assert records() == []


def _nan(model, images, labels, index):
    return model(images).float().mean() * np.nan


def test_a_cure_is_stored_under_the_code_of_its_own_method_alone():
    plain = curing.cured_config("erm", "cnn", 0)
    ours = curing.cured_config("combination", "cnn", 0)
    assert plain["code"] != ours["code"]
    parts = curing.fingerprint(debias.find("erm").train)
    assert not any("own" in part or "failures" in part for part in parts)
    assert curing.cured_config("oracle", "cnn", 0)["correlation"] == 0.1
    assert curing.cured_config("erm", "cnn", 0, 0.99)["correlation"] == 0.99
    assert plain["correlation"] == 0.95 and plain["images"] == curing.TAUGHT["quick"]


def test_fewer_images_keep_the_exact_share_of_dominant_inks():
    split = curing._taught(0, 0.95, 330)
    assert len(split) == 330
    whole = colour_split("train", 0, 0.95)
    np.testing.assert_array_equal(split.labels, whole.labels[:330])
    for digit in range(10):
        inks = split.colours[split.labels == digit]
        assert (inks == digit).sum() == np.ceil(0.95 * len(inks) - 1e-9)
    assert len(curing._taught(0, 0.95, 10**6)) == len(whole)


def test_results_are_those_of_the_networks():
    values = curing.results("combination")
    assert values["hard"].n == 2
    expected = []
    for seed in range(2):
        split = colour_split("hard", networks.TEST_SEED)
        called = protocol.run(curing.robust("combination", seed), split.images).argmax(1)
        expected.append(np.mean(called == split.labels))
    np.testing.assert_allclose(values["hard"].mean, np.mean(expected))
    np.testing.assert_allclose(
        values["lff unbiased"].mean, 0.1 * values["aligned"].mean + 0.9 * values["hard"].mean
    )
    assert values["seconds"].mean > 0


def test_the_chapter_has_all_it_asks_for(tmp_path):
    """One pass over every table and figure, after `prepare`, which leaves nothing to train."""
    curing.prepare()
    before = len(records())
    table = curing.methods_table()
    assert list(table["method"]) == [
        f"*{m.title}*" if m.reference else m.title for m in debias.METHODS.values()
    ]
    assert table["cost"].iloc[0] == "1.0"
    assert len(curing.rules_table()) == len(debias.METHODS)
    ranked = curing.hard_accuracies()
    assert {group for group, _ in ranked.values()} == {"no labels", "colour labels", "reference"}
    assert curing.cured_count(-1) == 3 and curing.cured_count(1) == 0
    ours = sorted(curing.results(name)["hard"].mean for name in curing.OWN)
    assert curing.own_brief().mean == ours[0]
    gap = curing.gap_to_oracle()
    np.testing.assert_allclose(
        gap.mean, curing.results("oracle")["hard"].mean - curing.results("combination")["hard"].mean
    )
    curve = curing.correlation_curve()
    assert all(list(points) == [0.95, 0.995] for points in curve.values())
    assert curve["the combination (ours)"][0.995].n == curve["ERM"][0.995].n == 1
    assert list(curing.ablation_table()["variant"])[1:] == ["no recolouring"]
    ours, without = (float(hard) for hard in curing.ablation_table()["hard"])
    title, behind = curing.costliest_part()
    assert title == "no recolouring" and abs(behind - (ours - without)) < 0.011
    assert curing.idle_parts(behind + 1) == '"no recolouring"'
    assert curing.idle_parts(behind - 1) == "none"
    assert len(curing.resnet_table()) == 2
    assert list(curing.lff_table()["where"][:2]) == ["here (1 seed)"] * 2

    chroma, channels = curing.gaze_chroma(), curing.gaze_channels()
    assert all((v >= 0).all() and (v <= 1).all() for v in chroma.values())
    for digit, colour in channels.values():
        assert digit.shape == colour.shape == (128,)
        assert (digit + colour <= 1 + 1e-9).all() and min(digit.min(), colour.min()) >= 0
    assert isinstance(curing.gaze_table(), pd.DataFrame)
    runs = [r["metrics"]["chroma"] for r in records() if r["name"] == "gazed"]
    assert abs(curing.gaze_difference().mean) <= max(runs) - min(runs) + 1e-9
    seen = curing.overlays()
    views = curing.recoloured_views()
    assert len(records()) == before

    assert list(seen["labels"]) == list(range(6)) and len(seen["heats"]) == 2
    for index, figure in enumerate(
        (
            figures.cures_ranked(curing.titled(ranked)),
            figures.correlation_curves(curve),
            figures.gaze(chroma, channels),
            figures.overlays(seen["images"], seen["heats"]),
            figures.recoloured(views),
        )
    ):
        figure.savefig(tmp_path / f"{index}.png")
        assert (tmp_path / f"{index}.png").stat().st_size > 4000


def test_curves_and_ranking_accept_a_single_seed():
    one = Estimate(0.5, None, 1)
    figures.cures_ranked({"a": ("no labels", one)})
    figures.correlation_curves({"a": {0.95: one, 0.99: one}})


def test_the_lower_end_decides_only_where_there_is_an_interval():
    assert curing.lower_end(Estimate(0.5, (0.2, 0.8), 3)) == 0.2
    assert np.isnan(curing.lower_end(Estimate(0.5, None, 1)))


def test_the_sweep_runs_on_a_dask_cluster():
    distributed = pytest.importorskip("distributed")
    configs = [curing.cured_config("erm", "mlp", seed) for seed in range(2)]
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        found = fetch_many(curing.cured, configs, networks.data_md5(), jobs=2)
    assert [artifact.record["config"]["seed"] for artifact in found] == [0, 1]
