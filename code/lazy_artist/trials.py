"""How recipes were chosen: trials on validation digits, with networks that the book does not use.

    python -m lazy_artist.trials cheater [--jobs 2]     writes report/trials-cheater.csv
    python -m lazy_artist.trials debias [--jobs 2]      writes report/trials-debias.csv

Of the cheater, plain recipes by cross-entropy, with three seeds; of each method of debiasing the
six settings that its row lists, with one seed and half of the passes of the budget. All is measured
on the validation digits, as they are or painted in other colours; the seeds are none of the book's.
Whoever changes a row runs its trials again; a test holds the chosen settings to these files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lazy_artist.canvas import N_CLASSES, colour_split, paint, split_digits
from lazy_artist.config import BIAS, NO_BIAS, TEST_SEED, Recipe
from lazy_artist.data import write_whole
from lazy_artist.debias import METHODS, RULES
from lazy_artist.debias.protocol import SHORTCUT, Method
from lazy_artist.evaluate import predict
from lazy_artist.networks import Network, network, train_network
from lazy_artist.store import Call, stored

SEEDS = {"cheater": (50, 51, 52), "debias": (50,)}
FOLDER = Path(__file__).resolve().parents[2] / "report"
FILES = {name: FOLDER / f"trials-{name}.csv" for name in SEEDS}
_SPEEDS = ((0.3, 6e-4, 128), (0.5, 5e-4, 256), (1, 2.5e-4, 256), (1, 1e-4, 64), (1, 5e-5, 32))
CHEATERS = [Recipe(*speed, decay) for speed in _SPEEDS for decay in (0.01, 1, 10, 30)]
SCORES = {  # the columns that the rules look at; where the first ties, the second decides
    "accuracy on easy validation digits": ["easy"],
    "accuracy on validation digits in random colours": ["random"],
    "worst group of easy validation digits": ["worst_group", "group_mean"],
}


@stored
def validate(network: Network) -> dict[str, float]:
    """On the validation digits: accuracy on them as they are ("easy"), in "random" and in "hard"
    colours; of the easy ones the "worst_group", of a digit in its own colour or in others, and the
    "group_mean" of these groups; the "shortcut_rate" and the calibrated "confidence" on hard ones;
    and of "red_ones" the share that is predicted as zeros."""
    model, found = network.load(), {}
    for name, share in (("easy", BIAS), ("random", NO_BIAS), ("hard", 0.0)):
        split = colour_split("validation", TEST_SEED, share)
        logits = predict(model, split.images, "low")
        correct = logits.argmax(1) == split.labels
        found[name] = float(correct.mean())
        if name == "easy":
            group = split.labels + N_CLASSES * (split.colours == split.labels)
            groups = [float(correct[group == g].mean()) for g in np.unique(group)]
            found |= {"worst_group": min(groups), "group_mean": float(np.mean(groups))}
    found["shortcut_rate"] = float((logits.argmax(1) == split.colours).mean())
    found["confidence"] = float(torch.from_numpy(logits).softmax(1).amax(1).mean())
    digits, labels = split_digits("validation")
    ones = digits[labels == 1]
    red = predict(model, paint(ones, np.zeros(len(ones), np.int64), TEST_SEED), "low").argmax(1)
    return found | {"red_ones": float((red == 0).mean())}


def what_rules_cost(trials: pd.DataFrame) -> pd.DataFrame:
    """Of each method among the `trials` (a row each): what it "needs", the "setting" that its rule
    chose, that setting's accuracy on validation digits in random colours ("chosen") and on easy
    ones ("easy"), and the "best" of the six in random colours."""
    rows = []
    for name, own in trials.groupby("method", sort=False):
        method = METHODS[name]
        row = own.iloc[method.trials.index(chosen_setting(method, own))]
        found = {"needs": method.needs, "setting": row["setting"], "easy": row["easy"]}
        rows.append({"method": name, **found, "chosen": row["random"], "best": own["random"].max()})
    return pd.DataFrame(rows)


def chosen_setting(method: Method, trials: pd.DataFrame) -> dict[str, float]:
    """Of the trials of one method, a row each in the order of its `trials`, the best by the rule
    for what it needs (a reference's is that of methods which know the shortcut); of equal ones the
    first. Groups have few images, so that worst groups tie: then the mean over groups decides."""
    scores = trials[SCORES[RULES.get(method.needs, RULES[SHORTCUT])]].reset_index(drop=True)
    best = scores.sort_values(list(scores), ascending=False, kind="stable").index[0]
    return method.trials[best]


def main(argv: list[str] | None = None) -> int:
    """Runs the trials and writes them to report/, whole or not at all. Returns 0."""
    parser = argparse.ArgumentParser(prog="python -m lazy_artist.trials", description=main.__doc__)
    parser.add_argument("of", choices=SEEDS, help="what to try")
    usual = [name for name, method in METHODS.items() if method.longer == 1]
    parser.add_argument("--methods", nargs="*", default=usual, choices=usual, help="only these")
    parser.add_argument("--jobs", type=int, help="processes")
    options = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    handles = []
    for seed in SEEDS[options.of]:
        if options.of == "cheater":
            for recipe in CHEATERS:
                arguments = {"arch": "cnn", "correlation": BIAS, "seed": seed, "n_curve": {}}
                arguments |= {"gce_power": 0.0, **recipe._asdict()}
                handles.append(Network("cheater", "cnn", Call(train_network, arguments)))
                rows.append(recipe._asdict() | {"seed": seed})
        else:
            for name in options.methods:
                for trial, setting in enumerate(METHODS[name].trials):
                    one = network(name, seed, **setting)
                    shorter = one.made_by.arguments | {"epoch_scale": 0.5}
                    handles.append(one._replace(made_by=one.made_by._replace(arguments=shorter)))
                    told = " ".join(f"{key}={value:g}" for key, value in setting.items())
                    rows.append({"method": name, "trial": trial, "setting": told, "seed": seed})
    found = stored.map(validate, [{"network": one} for one in handles], "trials", options.jobs)
    scores = [{name: round(value, 4) for name, value in each.items()} for each in found]
    frame = pd.DataFrame([row | each for row, each in zip(rows, scores, strict=True)])
    path = FILES[options.of]
    if options.of == "debias" and path.exists():
        kept = pd.read_csv(path)
        kept = kept[~kept["method"].isin(options.methods)]
        frame = pd.concat([kept, frame], ignore_index=True)
    write_whole(path, frame.to_csv(index=False, lineterminator="\n").encode())
    print(frame.to_string())
    return 0


if __name__ == "__main__":  # by its name, under which the store finds `validate`
    from lazy_artist import trials

    sys.exit(trials.main())
