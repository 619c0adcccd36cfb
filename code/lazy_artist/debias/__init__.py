"""The cures: one function a method, one signature for all, and the table of them.

To add a row to `METHODS`: write a function with the signature of `protocol.Train` in a module of
this package, and put it below, with the six settings that you try; `python -m lazy_artist.trials`
tries them, and says which one the rule chooses.
"""

from lazy_artist.debias import baselines, failures, labelled, own, penalties
from lazy_artist.debias.protocol import (
    COLOURS,
    NOTHING,
    RULES,
    SHORTCUT,
    Method,
    grid,
    run_method,
)

__all__ = ["ABLATIONS", "BEST", "BLIND", "METHODS", "RULES", "Method", "find", "run_method"]

_PASSES = (0.25, 0.5, 1)

# fmt: off
METHODS: dict[str, Method] = {
    "erm": Method(
        hypothesis="no cure: longer training may do",
        title="ERM", train=baselines.erm, needs=NOTHING,
        trials=grid(rate=(0.5, 1, 2), weight_decay=(0.01, 1)),
        setting={"rate": 2, "weight_decay": 0.01},
    ),
    "regularised": Method(
        hypothesis="a network held back cannot afford to overrate one cue",
        title="plain regularisation", train=baselines.regularised, needs=NOTHING,
        trials=grid(weight_decay=(0.1, 0.3, 1), smoothing=(0.1, 0.3)),
        setting={"weight_decay": 0.1, "smoothing": 0.1},
    ),
    "gce": Method(
        hypothesis="to be refuted: a loss robust to wrong labels is robust to bias",
        title="generalised cross-entropy", train=failures.gce_alone, needs=NOTHING,
        trials=grid(rate=(0.5, 1, 2), weight_decay=(0.01, 1)),
        setting={"rate": 0.5, "weight_decay": 1},
    ),
    "lff": Method(
        hypothesis="what a biased network trained alongside finds hard is an exception",
        title="learning from failure", train=failures.learning_from_failure, needs=NOTHING,
        trials=grid(rate=(0.125, 0.25, 0.5, 1, 2, 4)), setting={"rate": 0.125},
    ),
    "jtt": Method(
        hypothesis="what a briefly trained network gets wrong is worth showing more often",
        title="just train twice", train=failures.just_train_twice, needs=NOTHING,
        trials=grid(passes=(0.25, 0.5), upweight=(5, 20, 50)),
        setting={"passes": 0.5, "upweight": 5},
    ),
    "amplified-resampling": Method(
        hypothesis="a bias-amplified network's prediction stands for the colour label",
        title="amplified re-sampling (ours)", train=failures.amplified_resampling, needs=NOTHING,
        trials=grid(passes=_PASSES, power=(0.75, 1)), setting={"passes": 0.5, "power": 0.75},
    ),
    "ccdb": Method(
        hypothesis="a biased network's confusion tells how the shortcut is spread in a class",
        title="CCDB", train=failures.ccdb, needs=NOTHING,
        trials=grid(passes=_PASSES, rate=(0.5, 1)), setting={"passes": 0.25, "rate": 1},
    ),
    "fg-ccdb": Method(
        hypothesis="the same, with every cell of the confusion matrix for itself",
        title="FG-CCDB", train=failures.fg_ccdb, needs=NOTHING,
        trials=grid(passes=_PASSES, rate=(0.5, 1)), setting={"passes": 0.25, "rate": 1},
    ),
    "selecmix": Method(
        hypothesis="mixtures of contradicting images make the shortcut contradict itself",
        title="contradicting pairs", train=failures.contradicting_pairs, needs=NOTHING,
        trials=grid(passes=_PASSES, rate=(0.5, 1)), setting={"passes": 0.5, "rate": 1},
    ),
    "colour-penalty": Method(
        hypothesis="answering otherwise to other colours costs something",
        title="colour penalty", train=penalties.colour_penalty, needs=SHORTCUT,
        trials=grid(weight=(0.3, 1, 3), rate=(0.5, 1)), setting={"weight": 3, "rate": 1},
    ),
    "saliency": Method(
        hypothesis="a network whose gradient avoids chroma has no use for colour",
        title="saliency guide (ours)", train=penalties.saliency_guide, needs=SHORTCUT,
        trials=grid(weight=(1, 3, 10), rate=(0.5, 1)), setting={"weight": 3, "rate": 1},
    ),
    "colour-swap": Method(
        hypothesis="colour is a cue only as long as it stays with its digit",
        title="colour swap (ours)", train=own.colour_swap, needs=SHORTCUT,
        trials=grid(rate=(0.5, 1, 2), weight_decay=(0.01, 1)),
        setting={"rate": 2, "weight_decay": 0.01},
    ),
    "combination": Method(
        hypothesis="swapped colours and re-weighting add up",
        title="the combination (ours)", train=own.combination, needs=SHORTCUT,
        trials=grid(passes=(0.25, 0.5), power=(0.5, 0.75, 1)),
        setting={"passes": 0.5, "power": 0.5},
    ),
    "adversary": Method(
        hypothesis="features that do not tell the colour have only shape left",
        title="adversarial colour head", train=penalties.adversary, needs=COLOURS,
        trials=grid(weight=(0.1, 0.3, 1), rate=(0.5, 1)), setting={"weight": 0.1, "rate": 1},
    ),
    "irm": Method(
        hypothesis="a cue whose worth differs between environments is not worth learning",
        title="IRM", train=penalties.irm, needs=COLOURS,
        trials=grid(weight=(10, 100, 1000), rate=(0.5, 1)), setting={"weight": 10, "rate": 1},
    ),
    "resampling": Method(
        hypothesis="with all pairs of label and colour equally frequent, colour says nothing",
        title="re-sampling", train=labelled.resampling, needs=COLOURS,
        trials=grid(rate=(0.5, 1, 2), power=(0.75, 1)), setting={"rate": 1, "power": 1},
    ),
    "group-dro": Method(
        hypothesis="if the worst group counts, none can be sacrificed",
        title="group DRO", train=labelled.group_dro, needs=COLOURS,
        trials=grid(weight_decay=(0.1, 0.3, 1), rate=(0.5, 1)),
        setting={"weight_decay": 0.1, "rate": 1},
    ),
    "last-layer": Method(
        hypothesis="the biased network has learnt shape too, and only ignores it",
        title="last-layer retraining", train=labelled.last_layer, needs=COLOURS,
        trials=grid(ridge=(1e-4, 1e-3, 1e-2), rate=(0.5, 1)), setting={"ridge": 0.01, "rate": 1},
    ),
    "oracle-same-budget": Method(
        hypothesis="the ceiling: no bias to begin with",
        title="oracle", train=baselines.erm, needs="unbiased training images",
        trials=grid(rate=(0.5, 1, 2), weight_decay=(0.01, 1)),
        setting={"rate": 2, "weight_decay": 0.01}, correlation=0.1, reference=True,
    ),
    "grey": Method(
        hypothesis="without colour there is no shortcut, nor a solution to the task as set",
        title="grey network (forbidden)", train=baselines.grey, needs="to break the rule",
        trials=grid(rate=(0.5, 1, 2), weight_decay=(0.01, 1)),
        setting={"rate": 2, "weight_decay": 0.01}, reference=True,
    ),
}
# fmt: on
"""The methods by name, in the order of the table."""

METHODS["lff-longer"] = METHODS["lff"]._replace(
    title="learning from failure, longer", hypothesis="LfF needs its time", longer=2.5
)

ABLATIONS: dict[str, Method] = {
    name: METHODS["combination"]._replace(title=title, hypothesis="each part matters", train=train)
    for name, title, train in (
        ("no-recolouring", "no recolouring", own.no_recolouring),
        ("colours-mixed", "colours mixed, not swapped", own.colours_mixed),
        ("colours-invented", "half of the colours invented", own.colours_invented),
        ("background-tinted", "a swap that tints the background", own.background_tinted),
        ("no-reweighting", "no bias-amplified network", own.no_reweighting),
    )
}
"""The combination with one part changed at a time."""

BEST, BLIND = "combination", "amplified-resampling"
"""The best method without colour labels, by validation digits in random colours, and our own one
that knows nothing."""


def find(name: str) -> Method:
    """The method, or ablation, called `name`. Raises ValueError, listing the valid names, if there
    is none."""
    known = METHODS | ABLATIONS
    if name not in known:
        raise ValueError(f"unknown method {name!r}: choose one of {', '.join(known)}")
    return known[name]
