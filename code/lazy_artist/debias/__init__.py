"""The cures: one function a method, one signature for all, and the table of them.

To add a row to `METHODS`: write a function with the signature of `protocol.Train` in a module of
this package, and put it below.
"""

from lazy_artist.debias import baselines, failures, labelled, own, penalties
from lazy_artist.debias.protocol import Method, run_method

__all__ = ["ABLATIONS", "BEST", "METHODS", "Method", "find", "run_method"]

_NOTHING = "nothing"
_COLOURS = "the colour of every training image"
_SHORTCUT = "that the shortcut is colour"
_PUBLISHED = "published settings, none tuned"
_FIRST = "set once, none tuned"
_RECOLOURED = "on validation digits, recoloured"

# fmt: off
METHODS: dict[str, Method] = {
    "erm": Method(
        hypothesis="no cure: longer training may do",
        title="ERM", train=baselines.erm, needs=_NOTHING, chosen="recipe of chapter 2",
    ),
    "regularised": Method(
        hypothesis="a network held back cannot afford to overrate one cue",
        title="plain regularisation", train=baselines.regularised, needs=_NOTHING, chosen=_FIRST,
    ),
    "gce": Method(
        hypothesis="to be refuted: a loss robust to wrong labels is robust to bias",
        title="generalised cross-entropy", train=failures.gce_alone, needs=_NOTHING,
        chosen=_PUBLISHED,
    ),
    "lff": Method(
        hypothesis="what a biased network trained alongside finds hard is an exception",
        title="learning from failure", train=failures.learning_from_failure, needs=_NOTHING,
        chosen=_PUBLISHED,
    ),
    "jtt": Method(
        hypothesis="what a briefly trained network gets wrong is worth showing more often",
        title="just train twice", train=failures.just_train_twice, needs=_NOTHING, chosen=_FIRST,
    ),
    "amplified-resampling": Method(
        hypothesis="a bias-amplified network's prediction stands for the colour label",
        title="amplified re-sampling (ours)", train=failures.amplified_resampling, needs=_NOTHING,
        chosen="auxiliary network: on training digits",
    ),
    "ccdb": Method(
        hypothesis="a bias-amplified network's confusion tells how the shortcut is spread",
        title="confident partition", train=failures.confident_partition, needs=_NOTHING,
        chosen=_PUBLISHED,
    ),
    "selecmix": Method(
        hypothesis="mixtures of contradicting images make the shortcut contradict itself",
        title="contradicting pairs", train=failures.contradicting_pairs, needs=_NOTHING,
        chosen=_FIRST,
    ),
    "colour-penalty": Method(
        hypothesis="answering otherwise to other colours costs something",
        title="colour penalty", train=penalties.colour_penalty, needs=_SHORTCUT, chosen=_FIRST,
    ),
    "saliency": Method(
        hypothesis="a network whose gradient avoids chroma has no use for colour",
        title="saliency guide (ours)", train=penalties.saliency_guide, needs=_SHORTCUT,
        chosen=_FIRST,
    ),
    "colour-swap": Method(
        hypothesis="colour is a cue only as long as it stays with its digit",
        title="colour swap (ours)", train=own.colour_swap, needs=_SHORTCUT, chosen=_RECOLOURED,
    ),
    "combination": Method(
        hypothesis="swapped colours, re-weighting and affine augmentation add up",
        title="the combination (ours)", train=own.combination, needs=_SHORTCUT, chosen=_RECOLOURED,
    ),
    "adversary": Method(
        hypothesis="features that do not tell the colour have only shape left",
        title="adversarial colour head", train=penalties.adversary, needs=_COLOURS, chosen=_FIRST,
        colours=True,
    ),
    "irm": Method(
        hypothesis="a cue whose worth differs between environments is not worth learning",
        title="IRM", train=penalties.irm, needs=_COLOURS, chosen=_FIRST, colours=True,
    ),
    "resampling": Method(
        hypothesis="with all pairs of label and colour equally frequent, colour says nothing",
        title="re-sampling", train=labelled.resampling, needs=_COLOURS, chosen="nothing to choose",
        colours=True,
    ),
    "group-dro": Method(
        hypothesis="if the worst group counts, none can be sacrificed",
        title="group DRO", train=labelled.group_dro, needs=_COLOURS, chosen=_FIRST, colours=True,
    ),
    "last-layer": Method(
        hypothesis="the biased network has learnt shape too, and only ignores it",
        title="last-layer retraining", train=labelled.last_layer,
        needs="a balanced set (colour of its images)", chosen=_FIRST, colours=True,
    ),
    "oracle-same-budget": Method(
        hypothesis="the ceiling: no bias to begin with",
        title="oracle, equal budget", train=baselines.augmented, needs="unbiased training images",
        chosen="as the combination", correlation=0.1, reference=True,
    ),
    "grey": Method(
        hypothesis="without colour there is no shortcut, nor a solution to the task as set",
        title="grey network (forbidden)", train=baselines.grey, needs="to break the rule",
        chosen="recipe of chapter 2", reference=True,
    ),
}
# fmt: on
"""The methods by name, in the order of the table."""

ABLATIONS: dict[str, Method] = {
    name: METHODS["combination"]._replace(title=title, hypothesis="each part matters", train=train)
    for name, title, train in (
        ("no-recolouring", "no recolouring", own.no_recolouring),
        ("colours-mixed", "colours mixed, not swapped", own.colours_mixed),
        ("background-tinted", "a swap that tints the background", own.background_tinted),
        ("no-reweighting", "no bias-amplified network", own.no_reweighting),
        ("no-augmentation", "no affine augmentation", own.no_augmentation),
    )
}
"""The combination with one part changed at a time."""

BEST = "combination"
"""The best method without colour labels, frozen on validation digits before any test was looked
at."""


def find(name: str) -> Method:
    """The method, or ablation, called `name`. Raises ValueError, listing the valid names, if there
    is none."""
    known = METHODS | ABLATIONS
    if name not in known:
        raise ValueError(f"unknown method {name!r}: choose one of {', '.join(known)}")
    return known[name]
