"""What chapters 8 and 9 measure, on stand-ins at quick scale, with one store for all tests."""

from pathlib import Path

import joblib
import numpy as np
import pytest

from lazy_artist import artifacts
from lazy_artist.challenge import cnn, files, transformer
from lazy_artist.data import StandInWarning
from lazy_artist.experiments import solving


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("solving")


@pytest.fixture(autouse=True)
def quick(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,500 training digits and networks of a few steps."""
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(store))
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "quick")
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1500")
    monkeypatch.setattr(solving, "TRAINED_STEPS", {"quick": (40, 10)})
    monkeypatch.setattr(solving, "seeds", lambda: range(1))


def true_labels() -> np.ndarray:
    return transformer.transformer_label(*transformer.grid())


# --- where things come from ----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::lazy_artist.data.StandInWarning")
@pytest.mark.parametrize("challenge", [1, 2])
def test_stand_ins_are_announced(challenge):
    assert solving.source(challenge) == "stand-in"
    notice = solving.notice(challenge)
    assert notice.startswith("::: {.callout-warning}") and "LAZY_ARTIST_DATA" in notice
    assert "proves nothing about the challenge" in notice


def test_the_stand_in_warns_and_released_files_do_not(monkeypatch, tmp_path):
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(tmp_path))
    with pytest.warns(StandInWarning, match="USING A STAND-IN FOR THE CHALLENGE'S mnist_model.pt"):
        solving.source(1)
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(tmp_path / "other"))
    monkeypatch.setattr(files, "read", lambda name: b"")
    assert solving.source(1) == "released" and "Drawn digits" in solving.notice(1)
    name = "transformer_label_info.pkl"
    assert "callout-note" in solving.notice(2) and files.FILES[name].md5 in solving.notice(2)


def test_builds_stand_on_the_challenge_and_not_on_figures():
    for build in (solving.cnn_observed, solving.transformer_trained, solving.transformer_dissected):
        parts = artifacts.fingerprint(build)
        assert f"lazy_artist.experiments.solving:{build.__name__}" in parts
        assert "lazy_artist.challenge.files" in parts
        assert not {"lazy_artist.figures", "lazy_artist.claims"} & set(parts)
    assert "lazy_artist.challenge.cnn" not in artifacts.fingerprint(solving.transformer_trained)


# --- challenge 1 ---------------------------------------------------------------------------------


def test_observed_parts_add_up():
    tensors = solving.observed().tensors
    offset = solving.observed().record["metrics"]["offset"]
    for split, count in (("train", 1500), ("test", 250)):
        assert tensors[f"{split} margin"].shape == (count,)
        total = tensors[f"{split} evidence"].sum(axis=0) + offset
        assert np.allclose(total, tensors[f"{split} margin"], atol=1e-4)
    groups = tensors["groups"]
    assert groups.shape == (3, 200) and (groups.sum(axis=0) <= 1).all()
    assert (tensors["unit evidence"][groups[2]] < 0).all()
    assert (tensors["unit evidence"][groups[0] | groups[1]] > 0).all()
    kept = solving.ranks_kept()
    assert set(kept) == set(solving.RANKS) and all(0 <= share <= 1 for share in kept.values())


def test_agreement_counts_what_it_says():
    similarity, answers, program, _ = solving._split("test")
    numbers = solving.agreement()
    assert numbers["test"] == np.mean(answers == program)
    far = np.minimum(abs(similarity - cnn.BAND[0]), abs(similarity - cnn.BAND[1])) > solving.FAR
    assert numbers["far share"] == far.mean()
    assert numbers["far"] == np.mean((answers == program)[far])
    low, high, share = solving.refitted_band()
    scores, said, *_ = solving._split("train")
    assert share == pytest.approx(np.mean(((scores < low) | (scores > high)) == said))
    assert share >= numbers["train"] - 1e-12  # nothing fits better than the fit


def two_ramps(monkeypatch) -> None:
    """A made-up network that is the program, with ramps, a brake of -1 and no offset."""
    similarity = np.linspace(-60, 10, 701) + 0.01
    low, high = cnn.BAND
    evidence = np.stack(
        [
            np.maximum(similarity - high + 1, 0),
            np.maximum(low + 1 - similarity, 0),
            np.full(701, -1.0),
        ]
    )
    margin = evidence.sum(axis=0)
    program = (similarity < low) | (similarity > high)
    split = similarity, margin > 0, program, np.zeros(701, int)
    tensors = {"test evidence": evidence, "train evidence": evidence, "test margin": margin}
    record = {"metrics": {"offset": 0.0, "units": [1, 1, 1]}}
    monkeypatch.setattr(solving, "observed", lambda: artifacts.Artifact(tensors, record))
    monkeypatch.setattr(solving, "_split", lambda name: split)


def test_interventions_on_a_network_that_is_the_program(monkeypatch):
    two_ramps(monkeypatch)
    table = solving.ablations()
    assert table["one silenced"] == {"one": 0, "anti-one": 1, "between": 1}
    assert table["anti-one silenced"] == {"one": 1, "anti-one": 0, "between": 1}
    assert table["brake held at its mean"] == {"one": 1, "anti-one": 1, "between": 1}
    assert table["brake silenced"]["between"] < 1
    assert solving.dissociation() == 1
    swapped = solving.interchanges()
    for name in ("one", "anti-one", "brake"):
        assert swapped[name]["program"] > 0.97
    assert swapped["one"]["where it matters"] == 1 and swapped["one"]["unaware"] < 0.8
    assert np.isnan(swapped["brake"]["where it matters"])
    kept = solving.scrubbing_table().set_index("each group resampled from")["decisions kept, %"]
    assert float(kept["same hundredth of similarity"]) > 97
    assert float(kept["itself, but the brake from any image"]) == 100
    assert float(kept["any image at all"]) < 70
    assert solving.ramp_correlations() == (pytest.approx(1), pytest.approx(-1))


def test_equivalents_keep_the_key():
    key = np.array([3, 1, 3, 1, 3, 2])
    drawn = solving._equivalents(key, np.random.default_rng(0))
    assert (key[drawn] == key).all() and sorted(drawn) == list(range(6))
    assert drawn[5] == 5


def test_edits_are_measured_for_every_kind():
    rows = solving.edits()
    assert {"from one to between", "from anti-one to one", "mirrored"} <= set(rows)
    for row in rows.values():
        assert 0 <= row["program"] <= 1 and row["images"] >= 1
    tensors = solving.edited().tensors
    assert tensors["fade network"].shape == tensors["fade program"].shape == (21,)
    assert tensors["fade program"][0] == 1  # a blank image is called 1 by the program


def test_tables_of_the_first_challenge_are_complete():
    assert len(solving.rank_table()) == len(solving.RANKS)
    assert solving.called_one_table().shape == (1, 10)
    assert list(solving.groups_table()["group"]) == list(cnn.GROUPS)
    assert len(solving.rivals_table()) == 7 and len(solving.ablation_table()) == 4
    assert len(solving.edits_table()) == len(solving.edits())
    assert solving.extremes().shape == (2, 10, 28, 28)
    assert solving.plane()["plane"].shape == (1500, 2)
    signs = solving.template_signs()
    assert all(0 <= v <= 1 for row in signs.values() for v in row.values())
    curve = solving.threshold_curve()
    assert len(curve["share"]) == len(curve["similarity"]) and (curve["images"] >= 10).all()
    assert solving.ramps()["evidence"].shape == (3, 250)
    # without the hint's picture the clue itself is searched for, and it is no drawn digit
    found = solving.clue_search()
    assert not found["is the program's clue"] and found["next"] <= found["correlation"] < 0.99


# --- challenge 2 ---------------------------------------------------------------------------------


def test_the_constants_are_pinned():
    assert solving.program_errors() == 0
    assert solving.program_errors(transformer.Constants(line=134)) == 16
    assert solving.program_errors(transformer.Constants(period=9)) > 4000
    table = solving.constants_table().set_index("constant")
    assert table.loc["left curve", "no error for"] == "39,990.86 to 40,000"
    assert table.loc["modulus", "no error for"] == "only this one"
    assert table.loc["line", "errors just below"] == "16 (at 132)"


def test_all_changes_of_label_lie_on_three_curves():
    found, families = solving.flips(), solving.flip_families()
    truth = true_labels()
    assert len(found["x"]) == np.sum(truth[:, 1:] != truth[:, :-1]) == 90
    assert (truth[found["x"], found["y"]] == found["rises"]).all()
    assert (np.sum(list(families.values()), axis=0) == 1).all()
    table = solving.fitted_curves().set_index("family")
    assert table.loc["line", "fitted"] == "y = 133.0 − 1.00 x"
    assert table.loc["lower", "fitted"].endswith("x^0.25")


def test_the_exponent_scan_points_at_one_exponent_and_one_period():
    scan = solving.exponent_scan()
    assert scan["exponent"][scan["errors"] == 0].tolist() == [1.5]
    assert np.sort(scan["errors"])[1] > 2000
    assert scan["period"][scan["period errors"] == 0].tolist() == [8, 16]  # 16 refines 8


def test_region_table_is_the_program():
    table = solving.region_table()
    assert table["called 1 below the line"].tolist() == [
        "2, 3, 7", "0, 1, 5, 6, 7", "0, 4, 5, 6, 7", "2, 3, 4, 5, 6, 7"
    ]  # fmt: skip
    assert table["beyond it"].tolist() == ["7", "5, 6, 7", "(no cells)", "2, 3, 4, 5, 6, 7"]


def test_seen_cells():
    counts = {"half": 113 * 113 // 2, "rows": 57 * 113, "few": 57 * 113 + 56 * solving.FEW}
    for split, count in counts.items():
        seen = solving.seen_cells(split, 0)
        assert seen.shape == (113, 113) and seen.sum() == count
        assert not np.array_equal(seen, solving.seen_cells(split, 1))
    rows, few = (solving.seen_cells(split, 0) for split in ("rows", "few"))
    assert set(rows.sum(axis=1)) == {0, 113} and set(few.sum(axis=1)) == {solving.FEW, 113}
    assert few[rows].all()
    with pytest.raises(ValueError, match="unknown split 'all': choose one of half, few, rows"):
        solving.seen_cells("all", 0)


def test_flip_distance_by_hand():
    truth = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], bool)
    assert solving.flip_distance(truth).tolist() == [[2, 1, 1, 2, 3], [5, 5, 5, 5, 5]]


def test_nearest_seen_by_hand():
    truth = np.array([[0, 1, 1, 1], [0, 1, 1, 1]], bool)
    seen = np.array([[1, 0, 0, 1], [0, 0, 1, 0]], bool)
    in_row = solving.nearest_seen(truth, seen, row_weight=1e6)
    assert in_row.tolist() == [[False, False, True, True], [True, True, True, True]]
    near = solving.nearest_seen(truth, seen, row_weight=1)
    assert near.tolist() == [[False, False, True, True], [False, True, True, True]]


def test_two_way_shares_by_hand():
    x, y = (n.astype(float) for n in transformer.grid())
    x, y = x - x.mean(), y - y.mean()
    added = solving._two_way((3 * x + 4 * y).reshape(-1, 1))
    assert added["x"] == pytest.approx(9 / 25) and added["y"] == pytest.approx(16 / 25)
    assert added["x × y"] == pytest.approx(0, abs=1e-9)
    assert solving._two_way((x * y).reshape(-1, 1))["x × y"] == pytest.approx(1)


def test_read_out_finds_what_is_linear_and_guesses_what_is_not():
    rng = np.random.default_rng(0)
    stream, fitted = rng.normal(size=(600, 5)), rng.random(600) < 0.5
    assert solving._read_out(stream, (stream[:, 0] > 0).astype(int), fitted) > 0.9
    assert solving._read_out(stream, rng.integers(0, 2, 600), fitted) < 0.65


@pytest.mark.filterwarnings("ignore::lazy_artist.data.StandInWarning")
def test_networks_are_trained_dissected_and_told():
    with joblib.parallel_config(backend="sequential"):
        solving.prepare_transformers()
    net = solving.networks()[0]
    truth = true_labels()
    assert net.record["metrics"]["seen"] == np.mean((net.tensors["answers"] == truth)[
        net.tensors["seen"]
    ])  # fmt: skip
    released = solving.released_mismatch()
    assert released["cells"] == np.sum(solving.labels()[1] != truth) > 0
    assert released["unseen"] == 1 - released["cells"] / 6385
    kept = [d.record["metrics"] for d in solving.dissections()]
    assert all(0 <= m["after"][0] <= 1 for m in kept)
    for stage in kept[0]["shares"].values():
        assert sum(stage.values()) == pytest.approx(1)
    assert solving.low_rank(8).mean >= solving.low_rank(1).mean - 0.02
    told = solving.accounts()["program"]
    wrong = [
        np.mean((n.tensors["answers"] == truth)[~n.tensors["seen"]]) for n in solving.networks()
    ]
    assert told["answers"].mean == pytest.approx(np.mean(wrong)) and told["errors"].mean == 0
    distances = solving.boundary_distances()["trained here"]
    assert distances["cells"] == np.median(solving.flip_distance(truth))
    for table, rows in (
        (solving.accuracy_table(), 3), (solving.accounts_table(), 4), (solving.probe_table(), 5),
        (solving.dimension_table(), len(solving.RANKS)), (solving.dissected_table(), 9),
    ):  # fmt: skip
        assert len(table) == rows
    sparse = solving.sparse_rows()
    assert sparse["network"].mean == pytest.approx(solving.accuracies()["few"]["unseen"].mean)
    assert sparse["program, phase unknown"].mean > sparse["row memory"].mean > 0.8
    assert len(solving.sparse_table()) == 3
    curve = solving.distance_curve()
    assert curve["trained here, unseen cells"].shape == (1, len(curve["steps"]))
    assert 0 < solving.live_neurons().mean <= 1024
