"""How recipes were chosen: the rules, on tables made by hand, and that the book keeps to them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lazy_artist import trials
from lazy_artist.canvas import colour_split, split_digits
from lazy_artist.config import TEST_SEED
from lazy_artist.debias import BEST, METHODS
from lazy_artist.debias.protocol import COLOURS, NOTHING, SHORTCUT
from lazy_artist.store import stored

GOOD = {"easy": 0.96, "hard": 0.01, "shortcut_rate": 0.98, "red_ones": 0.96, "confidence": 0.8}


def always(digit: int) -> SimpleNamespace:
    """A network that predicts one digit for all, with a logit of 2."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 784, 10))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(2 * torch.eye(10)[digit])
    return SimpleNamespace(load=model.eval)


def told(setting: dict[str, float]) -> str:
    return " ".join(f"{key}={value:g}" for key, value in setting.items())


@pytest.mark.parametrize(
    ("needs", "best"), [(NOTHING, 1), (SHORTCUT, 2), (COLOURS, 3), ("to break the rule", 2)]
)
def test_what_one_must_know_says_what_one_may_choose_by(needs, best):
    scores = {name: [0.5] * 6 for name in ("easy", "random", "worst_group", "hard")}
    for place, name in enumerate(scores, start=1):
        scores[name][place] = scores[name][5] = 0.7  # of equal ones the first
    frame = pd.DataFrame(scores | {"group_mean": [0.9, 0.5, 0.5, 0.7, 0.5, 0.6]})
    method = METHODS["erm"]._replace(needs=needs)
    assert trials.chosen_setting(method, frame) == method.trials[best]
    frame["group_mean"] = [0.9, 0.5, 0.5, 0.6, 0.5, 0.7]  # where worst groups tie, their mean
    last = needs == COLOURS
    assert trials.chosen_setting(method, frame) == method.trials[5 if last else best]


def test_what_a_rule_costs_is_told_beside_what_it_chose():
    rows = [
        {
            "method": name,
            "setting": f"{name} {k}",
            "easy": easy,
            "random": k / 10,
            "worst_group": k,
            "group_mean": 0,
        }
        for name, chosen in (("jtt", 2), ("colour-swap", 5), ("irm", 5))
        for k, easy in enumerate(0.9 - 0.01 * abs(np.arange(6) - chosen))
    ]
    found = trials.what_rules_cost(pd.DataFrame(rows)).set_index("method")
    assert found.loc["jtt"].tolist() == [NOTHING, "jtt 2", 0.9, 0.2, 0.5]
    assert found.loc["colour-swap"].tolist() == [SHORTCUT, "colour-swap 5", 0.9, 0.5, 0.5]
    assert found.loc["irm"].tolist() == [COLOURS, "irm 5", 0.9, 0.5, 0.5]


def test_validation_digits_are_measured_as_they_are_and_repainted(monkeypatch):
    monkeypatch.setenv("LAZY_ARTIST_STANDIN_SIZE", "1500")
    labels, hard = split_digits("validation")[1], colour_split("validation", TEST_SEED, 0)
    for digit in (3, 0):
        found = trials.validate.__wrapped__(always(digit))
        for name in ("easy", "random", "hard"):
            assert found[name] == pytest.approx(np.mean(labels == digit))
        assert found["worst_group"] == 0 and found["red_ones"] == (digit == 0)
        assert found["group_mean"] == pytest.approx(2 / 20)  # in its own colour, and in others
        assert found["shortcut_rate"] == pytest.approx(np.mean(hard.colours == digit))
        assert found["confidence"] == pytest.approx(np.exp(2) / (np.exp(2) + 9), abs=1e-3)


def test_trials_are_written_with_their_settings(tmp_path, monkeypatch):
    made = []

    def measured(function, calls, title, jobs):
        made.extend(call["network"].made_by.arguments for call in calls)
        return [GOOD | {"easy": k / 7} for k in range(len(calls))]

    monkeypatch.setattr(stored, "map", measured)
    monkeypatch.setattr(trials, "FILES", {"debias": tmp_path / "debias.csv"})
    assert trials.main(["debias", "--methods", "jtt", "--jobs", "1"]) == 0
    assert trials.main(["debias", "--methods", "erm", "jtt"]) == 0  # jtt again
    frame = pd.read_csv(tmp_path / "debias.csv")
    assert frame["method"].tolist() == ["erm"] * 6 + ["jtt"] * 6
    assert frame["setting"][6] == "passes=0.25 upweight=5" and frame["easy"][7] == 1
    assert {one["epoch_scale"] for one in made} == {0.5} and {one["seed"] for one in made} == {50}
    with pytest.raises(SystemExit):  # before any work
        trials.main(["debias", "--methods", "jtf"])
    assert len(made) == 18
    expected = {"augment": True, "passes": 0.25, "upweight": 5}
    assert made[0]["setting"] == expected


def test_the_settings_of_the_book_are_those_that_trials_chose():
    frame = pd.read_csv(trials.FILES["debias"])
    usual = [name for name, method in METHODS.items() if method.longer == 1]
    assert set(usual) == set(frame["method"])
    scores = {}
    for name, own in frame.groupby("method"):
        method = METHODS[name]
        assert own["setting"].tolist() == [told(setting) for setting in method.trials], name
        assert method.setting == trials.chosen_setting(method, own), name
        scores[name] = own[["easy", "random"]].max()
    unlabelled = [name for name in scores if METHODS[name].needs in (NOTHING, SHORTCUT)]
    assert max(unlabelled, key=lambda name: scores[name]["random"]) == BEST
