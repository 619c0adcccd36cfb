"""The cures: one function a method, one signature for all, and the table of them.

    baselines   nothing, plain regularisation; the oracle and the grey network as references
    penalties   colour penalty, saliency guide, adversarial head, IRM
    failures    what a lazy network's mistakes tell: GCE, LfF, JTT, re-sampling, CCDB, SelecMix
    labelled    with colour labels: re-sampling, group DRO, last-layer retraining
    own         our own: swapped inks, and the combination

`METHODS` is the table. To add a row: write a function with the signature of `protocol.Train` in a
module of this package, and put it below.
"""

from lazy_artist.debias import baselines, failures, labelled, own, penalties
from lazy_artist.debias.protocol import Method, cure

__all__ = ["ABLATIONS", "BEST", "METHODS", "Method", "cure", "find"]

_NOTHING = "nothing"
_COLOURS = "the ink of every training image"
_SHORTCUT = "that the shortcut is colour"
_PUBLISHED = "published settings, none tuned"
_FIRST = "set once, none tuned"
_RECOLOURED = "on validation digits, recoloured"

METHODS: dict[str, Method] = {
    "erm": Method(
        title="ERM",
        hypothesis="no cure: longer training may do",
        train=baselines.erm,
        needs=_NOTHING,
        chosen="recipe of chapter 2",
    ),
    "regularised": Method(
        title="plain regularisation",
        hypothesis="a network held back cannot afford to overrate one cue",
        train=baselines.regularised,
        needs=_NOTHING,
        chosen=_FIRST,
    ),
    "gce": Method(
        title="generalised cross-entropy",
        hypothesis="to be refuted: a loss robust to wrong labels is robust to bias",
        train=failures.gce_alone,
        needs=_NOTHING,
        chosen=_PUBLISHED,
    ),
    "lff": Method(
        title="learning from failure",
        hypothesis="what a lazy network trained alongside finds hard is an exception",
        train=failures.learning_from_failure,
        needs=_NOTHING,
        chosen=_PUBLISHED,
    ),
    "jtt": Method(
        title="just train twice",
        hypothesis="what a briefly trained network gets wrong is worth showing more often",
        train=failures.just_train_twice,
        needs=_NOTHING,
        chosen=_FIRST,
    ),
    "lazy-resampling": Method(
        title="lazy twin (ours)",
        hypothesis="the answer of a lazy twin stands for the colour label",
        train=failures.lazy_resampling,
        needs=_NOTHING,
        chosen="twin: on training digits",
    ),
    "ccdb": Method(
        title="confident partition",
        hypothesis="a lazy network's confusion tells how the shortcut is spread",
        train=failures.confident_partition,
        needs=_NOTHING,
        chosen=_PUBLISHED,
    ),
    "selecmix": Method(
        title="contradicting pairs",
        hypothesis="mixtures of contradicting images make the shortcut contradict itself",
        train=failures.contradicting_pairs,
        needs=_NOTHING,
        chosen=_FIRST,
    ),
    "colour-penalty": Method(
        title="colour penalty",
        hypothesis="answering otherwise to other colours costs something",
        train=penalties.colour_penalty,
        needs=_SHORTCUT,
        chosen=_FIRST,
    ),
    "saliency": Method(
        title="saliency guide (ours)",
        hypothesis="a network whose gradient avoids chroma has no use for ink",
        train=penalties.saliency_guide,
        needs=_SHORTCUT,
        chosen=_FIRST,
    ),
    "ink-swap": Method(
        title="ink swap (ours)",
        hypothesis="ink is a cue only as long as it stays with its digit",
        train=own.ink_swap,
        needs=_SHORTCUT,
        chosen=_RECOLOURED,
    ),
    "combination": Method(
        title="the combination (ours)",
        hypothesis="swapped inks, a watchful lazy twin and small moves add up",
        train=own.combination,
        needs=_SHORTCUT,
        chosen=_RECOLOURED,
    ),
    "adversary": Method(
        title="adversarial colour head",
        hypothesis="features that do not tell the ink have only shape left",
        train=penalties.adversary,
        needs=_COLOURS,
        chosen=_FIRST,
        colours=True,
    ),
    "irm": Method(
        title="IRM",
        hypothesis="a cue whose worth differs between environments is not worth learning",
        train=penalties.irm,
        needs=_COLOURS,
        chosen=_FIRST,
        colours=True,
    ),
    "resampling": Method(
        title="re-sampling",
        hypothesis="with all pairs of label and ink equally frequent, ink says nothing",
        train=labelled.resampling,
        needs=_COLOURS,
        chosen="nothing to choose",
        colours=True,
    ),
    "group-dro": Method(
        title="group DRO",
        hypothesis="if the worst group counts, none can be sacrificed",
        train=labelled.group_dro,
        needs=_COLOURS,
        chosen=_FIRST,
        colours=True,
    ),
    "last-layer": Method(
        title="last-layer retraining",
        hypothesis="the lazy network has learnt shape too, and only ignores it",
        train=labelled.last_layer,
        needs="a balanced set (ink of its images)",
        chosen=_FIRST,
        colours=True,
    ),
    "oracle": Method(
        title="oracle, equal budget",
        hypothesis="the ceiling: no bias to begin with",
        train=baselines.moved,
        needs="unbiased training images",
        chosen="as the combination",
        correlation=0.1,
        reference=True,
    ),
    "grey": Method(
        title="grey network (forbidden)",
        hypothesis="without colour there is no shortcut, nor a solution to the task as set",
        train=baselines.grey,
        needs="to break the rule",
        chosen="recipe of chapter 2",
        reference=True,
    ),
}
"""The methods by name, in the order of the table."""

ABLATIONS: dict[str, Method] = {
    name: METHODS["combination"]._replace(title=title, hypothesis=expected, train=train)
    for name, title, expected, train in (
        (
            "no-recolouring",
            "no recolouring",
            "a few exceptions, shown over and over, do not teach enough shape",
            own.without_recolouring,
        ),
        (
            "mixing",
            "colours mixed, inks not swapped",
            "a mixed ink still tells its origin, a swapped one hardly",
            own.mixed_instead,
        ),
        (
            "tinting",
            "a swap that tints the ground",
            "the tint tells the old ink",
            own.ground_tinted,
        ),
        (
            "no-twin",
            "no lazy twin",
            "a trace of the old ink is left, and a network would find it",
            own.without_twin,
        ),
        ("no-moves", "no moves", "the exceptions are learnt by heart", own.without_moves),
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
