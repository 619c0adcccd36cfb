"""The two challenges for mechanists, solved: what chapters 8 and 9 measure.

The first half is about the CNN (chapter 8): groups of hidden units, interventions on them, edited
images. The second is about the transformer (chapter 9): the label map, the program's constants, and
the networks of the same architecture that this report trains.

If the challenge's files cannot be had, both chapters study stand-ins, trained here on labels that
the recovered programs make, and `notice` says so. Thresholds, groups and templates are fitted on
training digits; test digits only measure.
"""

from __future__ import annotations

import functools
import os
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch

from lazy_artist import edition
from lazy_artist.artifacts import Artifact, fetch, fetch_many
from lazy_artist.challenge import cnn, files, transformer
from lazy_artist.data import DataNotFoundError, StandInWarning, load_digits
from lazy_artist.evaluate import Estimate, estimate
from lazy_artist.experiments.networks import data_md5, percent, scale, seeds

FAR = 2.0  # similarity: as much as four pixels of full ink can add
PUSHED = 5.0  # how far beyond a threshold images are pushed
RANKS = (1, 2, 3, 4, 6, 8)
SHOWN = 3000  # points in scatter plots


# --- where the challenge's files come from -------------------------------------------------------


@functools.cache
def _available(name: str, offline_key: tuple[str | None, ...]) -> bool:
    try:
        files.read(name)
    except DataNotFoundError as error:
        warnings.warn(
            f"USING A STAND-IN FOR THE CHALLENGE'S {name}, trained here on labels that the "
            f"recovered program makes. {error}",
            StandInWarning,
            stacklevel=3,
        )
        return False
    return True


def source(challenge: int) -> str:
    """ "released", or "stand-in" (announced once a process) if the file of challenge 1 or 2 cannot
    be had."""
    name = {1: "mnist_model.pt", 2: "transformer_label_info.pkl"}[challenge]
    key = tuple(os.environ.get(f"LAZY_ARTIST_{v}") for v in ("DATA", "CACHE", "OFFLINE"))
    return "released" if _available(name, key) else "stand-in"


def notice(challenge: int) -> str:
    """What a chapter says, in Markdown, about the origin of what it studies."""
    name = {1: "mnist_model.pt", 2: "transformer_label_info.pkl"}[challenge]
    same = "" if edition.name() == edition.DIGITS else " This chapter is the same in every edition."
    remedy = (
        "The prose describes the author's files; only its numbers are those of this build. Set "
        "`LAZY_ARTIST_DATA` to a folder that holds the files, or connect to the network, and build "
        "again."
    )
    if source(challenge) != "released":
        what = {
            1: "the network below was trained here on labels that the recovered program made. That "
            "it agrees with the program proves nothing about the challenge.",
            2: "the labels below were made by the recovered program, and the answers called the "
            "released network's are those of a network trained here. That the program reproduces "
            "the labels proves nothing about the challenge.",
        }[challenge]
        return (
            f"::: {{.callout-warning}}\n## A stand-in for `{name}`\nThe challenge's file could not "
            f"be had, so {what} {remedy}{same}\n:::\n"
        )
    if challenge == 1 and "MNIST" not in load_digits("train").source:
        return (
            f"::: {{.callout-warning}}\n## Drawn digits\nThe released network is here (`{name}`), "
            f"but MNIST is not: it is shown digits drawn by a program, which it was not trained "
            f"on. {remedy}{same}\n:::\n"
        )
    return (
        f"::: {{.callout-note}}\nThis build studies the author's released file, `{name}` (md5 "
        f"`{files.FILES[name].md5}`, checked).{same}\n:::\n"
    )


# --- challenge 1: the CNN ------------------------------------------------------------------------


def cnn_trained(seed: int, epochs: float) -> tuple[dict, dict]:
    """Build: the stand-in for the released CNN, taught by the program."""
    digits = load_digits("train")
    network = cnn.fit(digits.images, cnn.cnn_label(digits.images), seed, epochs)
    return {name: t.detach().clone() for name, t in network.state_dict().items()}, {}


def cnn_observed(network: str, epochs: float, count: int | None) -> tuple[dict, dict]:
    """Build: what the CNN does on the first `count` (None: all) training and test digits.

    For each split: "similarity" (N,); "margin" (N,), logit 1 less logit 0; "evidence" (3, N), what
    each group of hidden units adds to it; "plane" (N, 2), the first two principal components;
    "ranks" (R, N), answers from that many components. Then "groups" (3, 200), "unit evidence"
    (200,), "kernels" (8, 3, 3); "inked" and "pixel variance" (28, 28) of the training digits; and
    templates (2, 28, 28) of the groups "one" and "anti-one": "gradients" and "fitted".
    """
    model = _cnn(network, epochs)
    evidence, offset = model.evidence()
    images = {name: load_digits(name).images[:count] for name in ("train", "test")}
    hidden = {name: cnn.hidden_units(model, x) for name, x in images.items()}
    fitting = hidden["train"]
    groups = cnn.unit_groups(fitting, evidence, cnn.hidden_units(model, cnn.CLUE[None])[0])
    axes = cnn.principal_axes(fitting)[:, :2]
    tensors: dict[str, np.ndarray] = {}
    for name, units in hidden.items():
        tensors[f"{name} similarity"] = cnn.similarity(images[name])
        tensors[f"{name} margin"] = units @ evidence + offset
        tensors[f"{name} evidence"] = cnn.group_evidence(units, evidence, groups)
        tensors[f"{name} plane"] = (units - fitting.mean(axis=0)) @ axes
        tensors[f"{name} ranks"] = cnn.rank_answers(units, fitting, evidence, offset, list(RANKS))
    tensors["groups"] = np.stack([groups[name] for name in cnn.GROUPS])
    tensors["unit evidence"] = evidence
    pixels = images["train"] / np.float32(255)
    tensors["inked"] = (pixels > 0.5).mean(axis=0)
    tensors["pixel variance"] = pixels.var(axis=0)
    tensors["kernels"] = model.conv1.weight.detach().numpy()[:, 0]
    speaks = tensors["train evidence"][:2] > 0
    tensors["gradients"] = np.stack([
        cnn.effective_template(model, images["train"][on][:3000], evidence, groups[name])
        for on, name in zip(speaks, cnn.GROUPS, strict=False)
    ])  # fmt: skip
    tensors["fitted"] = np.stack([
        cnn.fitted_template(images["train"], each) for each in tensors["train evidence"][:2]
    ])  # fmt: skip
    variance = np.linalg.eigvalsh(np.cov(fitting.T.astype(np.float64)))[::-1]
    return tensors, {
        "offset": offset,
        "variance": (variance / variance.sum())[:8],
        "units": [int(groups[name].sum()) for name in cnn.GROUPS],
    }


def cnn_edited(network: str, epochs: float, count: int) -> tuple[dict, dict]:
    """Build: answers to images that no data set holds, on the first `count` test digits of each
    kind.

    metrics: for each edit the number of images, the share of answers that the program predicts, the
    share that equal the answer to the unedited image, and where there is a control the share of
    answers that it leaves alone. "fade network" and "fade program" (21,): share called 1 as `count`
    digits fade to nothing.
    """
    model = _cnn(network, epochs)
    evidence, offset = model.evidence()

    def answers(images: np.ndarray) -> np.ndarray:
        return cnn.hidden_units(model, images) @ evidence + offset > 0

    train, test = load_digits("train").images, load_digits("test").images
    inked = (train > 127).mean(axis=0)
    allowed, border = inked > 0.1, inked < 0.001
    before, similarity = answers(test), cnn.similarity(test)
    agree = before == cnn.cnn_label(test)
    low, high = cnn.BAND
    kinds = {
        "anti-one": similarity < low,
        "between": (similarity >= low) & (similarity <= high),
        "one": similarity > high,
    }
    goals = {
        ("between", "one"): high + PUSHED,
        ("between", "anti-one"): low - PUSHED,
        ("one", "between"): high - PUSHED,
        ("anti-one", "between"): low + PUSHED,
        ("one", "anti-one"): low - PUSHED,
        ("anti-one", "one"): high + PUSHED,
    }
    rows: dict[str, dict[str, float]] = {}

    def record(name: str, edited: np.ndarray, unedited: np.ndarray) -> None:
        said = answers(edited)
        rows[name] = {
            "images": len(edited),
            "program": float(np.mean(said == cnn.cnn_label(edited))),
            "unchanged": float(np.mean(said == unedited)),
        }

    for (kind, goal), target in goals.items():
        chosen = np.flatnonzero(kinds[kind] & agree)[:count]
        images = test[chosen]
        edited = cnn.push(images, np.full(len(images), target), allowed, seed=0)
        name = f"from {kind} to {goal}"
        record(name, edited, before[chosen])
        still = cnn.disturb(images, edited, allowed, seed=1)
        rows[name]["control"] = float(np.mean(answers(still) == before[chosen]))
        rows[name]["pixels"] = float((edited != images).sum(axis=(1, 2)).mean())
    first = test[:count]
    other = np.roll(first, 1, axis=0)  # each digit's neighbour in the file
    crossed = np.where(np.arange(28)[:, None] < 14, first, other)
    record("two digits overlaid", np.maximum(first, other), before[:count])
    record("top of one, bottom of another", crossed, before[:count])
    record("moved right by two pixels", np.roll(first, 2, axis=2), before[:count])
    record("mirrored", np.ascontiguousarray(first[:, :, ::-1]), before[:count])
    chosen = np.flatnonzero(kinds["between"] & agree)[:count]
    goal = np.full(len(chosen), low - PUSHED)
    record("ink in the empty border", cnn.push(test[chosen], goal, border, 0), before[chosen])
    steps = np.linspace(0, 1, 21)
    faded = [np.rint(first * step).astype(np.uint8) for step in steps]
    shown = [
        _example(test, np.flatnonzero(kinds[kind] & agree)[:3], goals[kind, goal], allowed)
        for kind, goal in (("between", "one"), ("one", "between"), ("anti-one", "between"))
    ]
    example = np.concatenate(shown)
    tensors = {
        "fade": steps,
        "fade network": np.array([answers(images).mean() for images in faded]),
        "fade program": np.array([cnn.cnn_label(images).mean() for images in faded]),
        "fade agreement": np.array(
            [np.mean(answers(images) == cnn.cnn_label(images)) for images in faded]
        ),
        "example": example,
        "example answers": answers(example),
    }
    return tensors, rows


def _example(
    test: np.ndarray, chosen: np.ndarray, target: float, allowed: np.ndarray
) -> np.ndarray:
    """Images and their edited versions, in turn: uint8 (2n, 28, 28)."""
    edited = cnn.push(test[chosen], np.full(len(chosen), target), allowed, seed=0)
    return np.stack([test[chosen], edited], axis=1).reshape(-1, 28, 28)


def _cnn(network: str, epochs: float) -> cnn.Network:
    if network == "released":
        return cnn.restore(files.cnn_weights())
    config = {"seed": 0, "epochs": epochs}
    return cnn.restore(fetch(cnn_trained, config, load_digits("train").md5).tensors)


def _cnn_config() -> dict[str, Any]:
    return {"network": source(1), "epochs": {"full": 3.0, "quick": 1.5}[scale()]}


def _cnn_md5() -> str:
    return f"{data_md5()} {files.FILES['mnist_model.pt'].md5}"


def observed() -> Artifact:
    """The stored `cnn_observed`, made if need be: all digits, 5,000 of each split at most
    at quick scale."""
    return fetch(cnn_observed, _observed_config(), _cnn_md5())


def _observed_config() -> dict[str, Any]:
    return _cnn_config() | {"count": {"full": None, "quick": 5_000}[scale()]}


def edited() -> Artifact:
    """The stored `cnn_edited`, made if need be."""
    config = _cnn_config() | {"count": {"full": 600, "quick": 200}[scale()]}
    return fetch(cnn_edited, config, _cnn_md5())


def _split(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Similarity, network's answer, program's answer, and true digit of the images observed."""
    tensors = observed().tensors
    similarity, answers = tensors[f"{name} similarity"], tensors[f"{name} margin"] > 0
    program = (similarity < cnn.BAND[0]) | (similarity > cnn.BAND[1])
    return similarity, answers, program, load_digits(name).labels[: len(answers)]


def clue_search() -> dict[str, float]:
    """The stored `clue_found`, made if need be."""
    return fetch(clue_found, {}, _cnn_md5()).record["metrics"]


def clue_found() -> tuple[dict, dict]:
    """Build: which training image the hint's picture shows: "index", its "correlation" with the
    picture, and that of the runner-up, "next"; without the picture, of the clue itself."""
    try:
        picture = files.clue_picture()
    except DataNotFoundError:
        picture = cnn.CLUE / 255
    images = load_digits("train").images.reshape(-1, 784)
    picture = (picture - picture.mean()).ravel().astype(np.float32)
    match = images @ picture  # float32 (N,)
    norms = np.sqrt(
        np.einsum("np,np->n", images, images, dtype=np.float64)
        - images.sum(axis=1, dtype=np.float64) ** 2 / 784
    )
    match = match / norms / np.linalg.norm(picture)
    best, second = np.argsort(-match)[:2]
    same = np.array_equal(load_digits("train").images[best], cnn.CLUE)
    return {}, {
        "index": int(best),
        "correlation": float(match[best]),
        "next": float(match[second]),
        "is the program's clue": same,
    }


def called_one_table() -> pd.DataFrame:
    """Share of training images that the network calls 1, in percent, for each digit."""
    _, answers, _, labels = _split("train")
    shares = [f"{100 * answers[labels == d].mean():.0f}" for d in range(10)]
    return pd.DataFrame([shares], columns=[str(d) for d in range(10)]).rename_axis(None)


def extremes() -> np.ndarray:
    """For each digit the training images that the network calls most surely 1 and most surely 0:
    uint8 (2, 10, 28, 28)."""
    images, labels = load_digits("train").images, _split("train")[3]
    margin = observed().tensors["train margin"]
    chosen = [
        [np.flatnonzero(labels == d)[(sign * margin[labels == d]).argmax()] for d in range(10)]
        for sign in (1, -1)
    ]
    return images[np.array(chosen)]


def plane() -> dict[str, np.ndarray]:
    """The hidden layer's first two principal components for training images: "plane" (n, 2), with
    the "digit", the network's "answer" and the "similarity" of each."""
    similarity, answers, _, labels = _split("train")
    some = slice(0, SHOWN)
    points = observed().tensors["train plane"][some]
    return {
        "plane": points,
        "digit": labels[some],
        "answer": answers[some],
        "similarity": similarity[some],
    }


def rank_table() -> pd.DataFrame:
    """Share of test decisions kept when the hidden layer keeps only some principal components."""
    variance = np.cumsum(observed().record["metrics"]["variance"])
    kept = ranks_kept()
    return pd.DataFrame({
        "components kept": [str(rank) for rank in RANKS],
        "variance of the hidden layer, %": [f"{100 * variance[rank - 1]:.1f}" for rank in RANKS],
        "test decisions unchanged, %": [f"{100 * kept[rank]:.1f}" for rank in RANKS],
    })  # fmt: skip


def ranks_kept() -> dict[int, float]:
    """By number of principal components (of training digits): share of test decisions unchanged."""
    tensors = observed().tensors
    kept = (tensors["test ranks"] == (tensors["test margin"] > 0)).mean(axis=1)
    return dict(zip(RANKS, map(float, kept), strict=True))


def groups_table() -> pd.DataFrame:
    """The three groups of hidden units: how many, and what they add to the evidence for 1 on test
    images that the program calls one-like, in between, and anti-one."""
    similarity, *_ = _split("test")
    low, high = cnn.BAND
    zones = {
        "anti-one": similarity < low,
        "between": (similarity >= low) & (similarity <= high),
        "one": similarity > high,
    }
    tensors, metrics = observed().tensors, observed().record["metrics"]
    rows = [
        {"group": name, "units": str(units)}
        | {f"evidence, {zone} images": f"{each[on].mean():+.2f}" for zone, on in zones.items()}
        | {"fires on, % of one": f"{100 * (each[zones['one']] != 0).mean():.1f}"}
        | {"fires on, % of anti-one": f"{100 * (each[zones['anti-one']] != 0).mean():.1f}"}
        for name, units, each in zip(
            cnn.GROUPS, metrics["units"], tensors["test evidence"], strict=True
        )
    ]
    return pd.DataFrame(rows)


def ramps() -> dict[str, np.ndarray]:
    """Evidence of the three groups (3, n) and the margin (n,) against similarity (n,), on test
    images."""
    some = slice(0, SHOWN)
    tensors = observed().tensors
    return {
        "similarity": _split("test")[0][some],
        "evidence": tensors["test evidence"][:, some],
        "margin": tensors["test margin"][some],
        "offset": np.array(observed().record["metrics"]["offset"]),
    }


def ramp_correlations() -> tuple[float, float]:
    """Correlation of the evidence of "one" and "anti-one" with similarity, on the test images where
    the group fires."""
    similarity = _split("test")[0]
    pairs = [(e, e > 0) for e in observed().tensors["test evidence"][:2]]
    return tuple(float(np.corrcoef(similarity[on], e[on])[0, 1]) for e, on in pairs)


def template_signs() -> dict[str, dict[str, float]]:
    """How the network's own template (that of "one" less that of "anti-one") agrees in sign with
    the program's, for "gradients" and "fitted": as a share of "pixels" that at least one training
    digit in twenty inks, and of the "variance" that the pixels of the program's similarity have."""
    used = observed().tensors["inked"] > 0.05
    variance = observed().tensors["pixel variance"] * cnn.TEMPLATE**2
    result = {}
    for name in ("gradients", "fitted"):
        one, anti = observed().tensors[name]
        same = np.sign(one - anti) == np.sign(cnn.TEMPLATE)
        result[name] = {
            "pixels": float(same[used].mean()),
            "variance": float(variance[same].sum() / variance.sum()),
        }
    return result


def agreement() -> dict[str, float]:
    """Share of images on which program and network agree: "train", "test", "far" (test images more
    than FAR from both thresholds) and how many these are, "far share"; "hint", what the challenge
    reports for the network against the true labels."""
    result = {"hint": 0.9558}
    for name in ("train", "test"):
        similarity, answers, program, _ = _split(name)
        result[name] = float(np.mean(answers == program))
    distance = np.abs(similarity[:, None] - np.array(cnn.BAND)).min(axis=1)
    far = distance > FAR
    result["far"] = float(np.mean((answers == program)[far]))
    result["far share"] = float(far.mean())
    return result


def refitted_band() -> tuple[float, float, float]:
    """The two thresholds fitted anew on training digits, and the agreement there."""
    similarity, answers, *_ = _split("train")
    return cnn.fit_band(similarity, answers)


def threshold_curve() -> dict[str, np.ndarray]:
    """Share of test images that the network calls 1 by "similarity" (bins of width 1.5), with the
    number of images in each bin."""
    similarity, answers, *_ = _split("test")
    edges = np.arange(-70, 15.1, 1.5)
    where = np.digitize(similarity, edges)
    kept = [k for k in range(1, len(edges)) if np.sum(where == k) >= 10]
    return {
        "similarity": np.array([edges[k - 1] + 0.75 for k in kept]),
        "share": np.array([answers[where == k].mean() for k in kept]),
        "images": np.array([np.sum(where == k) for k in kept]),
    }


def cnn_rivals(network: str, epochs: float, count: int | None) -> tuple[dict, dict]:
    """Build: other one-sentence programs, each with two thresholds fitted on training digits, as
    predictors of the network: shares that agree on "train" and "test", and the "correlation" of
    their score with the first's."""
    seen = fetch(
        cnn_observed, {"network": network, "epochs": epochs, "count": count}, _cnn_md5()
    ).tensors
    answers = {name: seen[f"{name} margin"] > 0 for name in ("train", "test")}
    pixels = {
        name: load_digits(name).images[: len(said)].reshape(-1, 784) / np.float32(255)
        for name, said in answers.items()
    }
    clue = (cnn.CLUE / 255).ravel().astype(np.float32)
    one, anti = seen["fitted"]
    blind = (one / np.linalg.norm(one) - anti / np.linalg.norm(anti)).ravel().astype(np.float32)
    programs = {
        "(clue − ½) · image: this chapter's": lambda x: x @ (clue - np.float32(0.5)),
        "distance to the clue, sum of absolute differences": lambda x: np.abs(x - clue).sum(1),
        "distance to the clue, sum of squares": lambda x: np.square(x - clue).sum(1),
        "cosine with the clue": lambda x: x @ clue / np.maximum(np.linalg.norm(x, axis=1), 1e-6),
        "clue · image": lambda x: x @ clue,
        "amount of ink": lambda x: x.sum(1),
        "template fitted to the network, clue unseen": lambda x: x @ blind,
    }
    rows = {}
    for name, score in programs.items():
        train, test = (score(pixels[split]).astype(np.float64) for split in ("train", "test"))
        low, high, fitted = cnn.fit_band(train, answers["train"])
        called = (test < low) | (test > high)
        rows[name] = {
            "train": fitted,
            "test": float(np.mean(called == answers["test"])),
            "correlation": float(np.corrcoef(train, seen["train similarity"])[0, 1]),
        }
    return {}, rows


def rivals_table() -> pd.DataFrame:
    """The stored `cnn_rivals`, made if need be, in percent."""
    rows = fetch(cnn_rivals, _observed_config(), _cnn_md5()).record["metrics"]
    return pd.DataFrame([
        {
            "score": name,
            "agrees on training digits, %": f"{100 * row['train']:.2f}",
            "on test digits, %": f"{100 * row['test']:.2f}",
            "correlation with the first": f"{row['correlation']:+.4f}",
        }
        for name, row in rows.items()
    ])  # fmt: skip


def ablations() -> dict[str, dict[str, float]]:
    """With each group silenced (the brake: held at its training mean as well): share of test images
    still called as before, among those that network and program both call 1 as "one", 1 as
    "anti-one", or 0 ("between")."""
    similarity, answers, program, _ = _split("test")
    evidence = observed().tensors["test evidence"]
    offset = observed().record["metrics"]["offset"]
    low, high = cnn.BAND
    zones = {
        "one": (similarity > high) & answers,
        "anti-one": (similarity < low) & answers,
        "between": ~program & ~answers,
    }
    held = evidence.copy()
    held[2] = observed().tensors["train evidence"][2].mean()
    cases = {f"{name} silenced": evidence * (np.arange(3) != k)[:, None]
             for k, name in enumerate(cnn.GROUPS)}  # fmt: skip
    cases["brake held at its mean"] = held
    return {
        name: {
            zone: float(np.mean((parts.sum(0) + offset > 0)[on] == answers[on]))
            for zone, on in zones.items()
        }
        for name, parts in cases.items()
    }


def ablation_table() -> pd.DataFrame:
    """`ablations` in percent."""
    rows = [
        {"": name} | {f"{zone} images": f"{100 * share:.1f}" for zone, share in shares.items()}
        for name, shares in ablations().items()
    ]
    return pd.DataFrame(rows)


def dissociation() -> float:
    """The worst of the four numbers that make a double dissociation: decisions about its own images
    that each group's silence changes, and decisions about the other's that it leaves alone."""
    table = ablations()
    one, anti = table["one silenced"], table["anti-one silenced"]
    return min(1 - one["one"], one["anti-one"], 1 - anti["anti-one"], anti["one"])


def interchanges() -> dict[str, dict[str, float]]:
    """Test images paired at random; one group's activations are taken from the partner.

    For each group exchanged: share of answers that the "program" predicts with the exchanged part
    (is it one-like? is it anti-one?) taken from the partner, the same where that prediction differs
    from the image's own label ("where it matters"), and the share predicted by the image's own
    label ("unaware").
    """
    similarity, answers, program, _ = _split("test")
    evidence = observed().tensors["test evidence"]
    offset = observed().record["metrics"]["offset"]
    partner = np.random.default_rng(0).permutation(len(answers))
    low, high = cnn.BAND
    one, anti = similarity > high, similarity < low
    predicted = {
        "one": one[partner] | anti,
        "anti-one": one | anti[partner],
        "brake": program,
        "one and anti-one": one[partner] | anti[partner],
    }
    result = {}
    for name, expected in predicted.items():
        parts = evidence.copy()
        for k, group in enumerate(cnn.GROUPS):
            if group in name.split(" and "):
                parts[k] = evidence[k][partner]
        said = parts.sum(axis=0) + offset > 0
        matters = expected != program
        result[name] = {
            "program": float(np.mean(said == expected)),
            "where it matters": float(np.mean((said == expected)[matters]))
            if matters.any()
            else float("nan"),
            "unaware": float(np.mean(said == program)),
        }
    return result


def interchange_table() -> pd.DataFrame:
    """`interchanges` in percent."""
    titles = {
        "program": "answers the program predicts, %",
        "where it matters": "the same, where its label changes, %",
        "unaware": "answers like the image's own label, %",
    }
    rows = [
        {"taken from the partner": name}
        | {
            title: "–" if np.isnan(shares[key]) else f"{100 * shares[key]:.1f}"
            for key, title in titles.items()
        }
        for name, shares in interchanges().items()
    ]
    return pd.DataFrame(rows)


def scrubbing_table() -> pd.DataFrame:
    """Causal scrubbing: each group's activations are replaced by those of another test image,
    chosen at random among those that an account calls equivalent."""
    similarity, *_ = _split("test")
    evidence = observed().tensors["test evidence"]
    offset = observed().record["metrics"]["offset"]
    margin = evidence.sum(axis=0) + offset
    low, high = cnn.BAND
    hundredth = np.digitize(similarity, np.quantile(similarity, np.arange(1, 100) / 100))
    nothing = np.zeros(len(similarity), int)
    accounts = {
        "any image at all": (nothing, nothing, nothing),
        "same side of its own threshold": (similarity > high, similarity < low, nothing),
        "same hundredth of similarity": (hundredth, hundredth, nothing),
        "itself, but the brake from any image": (None, None, nothing),
    }
    rng = np.random.default_rng(0)
    rows = []
    for name, keys in accounts.items():
        parts = [
            each if key is None else each[_equivalents(key, rng)]
            for each, key in zip(evidence, keys, strict=True)
        ]
        scrubbed = np.sum(parts, axis=0) + offset
        rest = np.square(scrubbed - margin).mean() / margin.var()
        rows.append({
            "each group resampled from": name,
            "decisions kept, %": f"{100 * np.mean((scrubbed > 0) == (margin > 0)):.1f}",
            "variance of the margin explained, %": f"{100 * (1 - rest):.1f}",
        })  # fmt: skip
    return pd.DataFrame(rows)


def _equivalents(key: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each position another one, drawn by permutation among those with the same key."""
    result = np.arange(len(key))
    for value in np.unique(key):
        same = np.flatnonzero(key == value)
        result[same] = rng.permutation(same)
    return result


def edits() -> dict[str, dict[str, float]]:
    """The numbers of `cnn_edited` by edit."""
    return edited().record["metrics"]


def edits_table() -> pd.DataFrame:
    """`edits` in percent."""
    rows = [
        {
            "edit": name,
            "images": str(row["images"]),
            "pixels changed": f"{row['pixels']:.0f}" if "pixels" in row else "–",
            "answers the program predicts, %": f"{100 * row['program']:.1f}",
            "answers like the unedited image's, %": f"{100 * row['unchanged']:.1f}",
            "control edits that change nothing, %": f"{100 * row['control']:.1f}"
            if "control" in row
            else "–",
        }
        for name, row in edits().items()
    ]
    return pd.DataFrame(rows)


# --- challenge 2: the labels and the program -----------------------------------------------------

SPLITS = ("half", "few", "rows")
FEW = 3  # cells of each sparse row that the split "few" shows
TRAINED_STEPS = {"full": (2000, 800), "quick": (400, 250)}  # for "half", and for the controls
STANDIN_SEED = 99
REAL_CONSTANTS = ("exponent", "left", "lower", "line")  # the others are counts


def labels() -> tuple[np.ndarray, np.ndarray]:
    """True labels and the released network's answers, bool (113, 113) each, by x and y; stand-ins
    for both if the challenge's file cannot be had."""
    if source(2) == "released":
        return files.transformer_labels()
    config = _transformer_config("half", STANDIN_SEED)
    stored = fetch(transformer_trained, config, _transformer_md5())
    return transformer.transformer_label(*transformer.grid()), stored.tensors["answers"]


def program_errors(constants: transformer.Constants | None = None) -> int:
    """Cells of 12,769 that the program gets wrong, with its own constants or others."""
    constants = constants or transformer.Constants()
    parts = transformer.program_parts(*transformer.grid(), constants)
    return int(np.sum(transformer.decide(parts, constants) != labels()[0]))


def released_mismatch() -> dict[str, float]:
    """Cells where the released network's answer is not the label: "cells", the "share" of all
    cells, and the accuracy on the unseen half if all of them lie there, "unseen"."""
    truth, said = labels()
    wrong = int(np.sum(truth != said))
    return {
        "cells": wrong,
        "share": wrong / truth.size,
        "unseen": 1 - wrong / (truth.size - truth.size // 2),
    }


def flips() -> dict[str, np.ndarray]:
    """Where the label changes along y: "x" and "y" of each change (between y - 1 and y), and
    whether it "rises" from 0 to 1."""
    truth = labels()[0]
    x, y = np.nonzero(truth[:, 1:] != truth[:, :-1])
    return {"x": x, "y": y + 1, "rises": truth[x, y + 1]}


def flip_families() -> dict[str, np.ndarray]:
    """Which of `flips` lie on the program's "left" curve, its "lower" curve, its "line": bool each,
    exclusive, the line first."""
    found = flips()
    x, y = found["x"], found["y"]
    line = x + y == 133
    left = ~line & (x**4 < 40_000 * y) & (x**4 >= 40_000 * (y - 1))
    lower = ~line & ~left & (y**4 >= 360_000 * x) & ((y - 1) ** 4 < 360_000 * x)
    return {"left": left, "lower": lower, "line": line}


def fitted_curves() -> pd.DataFrame:
    """Power laws through the three families of changes: log y against log x by least squares for
    the two curves (where they are steep enough to tell, x > 20 and x > 5), y against x for the
    line."""
    found, families = flips(), flip_families()
    x, y = found["x"], found["y"]
    rows = []
    for name, least, law in (("left", 20, "x⁴ / 40,000"), ("lower", 5, "(360,000 x)^(1/4)")):
        on = families[name] & (x > least)
        slope, start = np.polyfit(np.log(x[on]), np.log(y[on] - 0.5), 1)
        fitted = f"exp({start:.2f}) · x^{slope:.2f}"
        rows.append((name, families[name].sum(), f"y = {fitted}", f"y = {law}"))
    on = families["line"]
    slope, start = np.polyfit(x[on], y[on], 1)
    rows.append(("line", on.sum(), f"y = {start:.1f} − {-slope:.2f} x", "y = 133 − x"))
    return pd.DataFrame(rows, columns=["family", "changes of label", "fitted", "in the program"])


def exponent_scan() -> dict[str, np.ndarray]:
    """How many cells the best table of phase by region gets wrong when the phase is
    floor(x^p) mod m: "exponent" (P,) and "errors" (P,) at m = 8; "period" (M,) and "period errors"
    (M,) at p = 1.5.

    The table may hold any label for each phase in each of the regions that the two curves and the
    line cut out, so nothing but the phase is tested.
    """
    x, y = transformer.grid()
    truth = labels()[0]
    parts = transformer.program_parts(x, y)
    region = parts.left + 2 * parts.lower + 4 * parts.line

    def errors(exponent: float, period: int) -> int:
        root = np.floor(np.arange(transformer.SIDE) ** exponent + 1e-9).astype(np.int64)
        cell = (root % period)[x] * 8 + region
        ones = np.bincount(cell[truth], minlength=8 * period)
        every = np.bincount(cell.ravel(), minlength=8 * period)
        return int(np.minimum(ones, every - ones).sum())

    exponents = np.round(np.arange(0.5, 2.5001, 0.01), 2)
    periods = np.arange(2, 17)
    return {
        "exponent": exponents,
        "errors": np.array([errors(p, 8) for p in exponents]),
        "period": periods,
        "period errors": np.array([errors(1.5, int(m)) for m in periods]),
    }


def constants_table() -> pd.DataFrame:
    """How sharply the labels pin each constant: the range of values with no error (the other
    constants kept) and the cells that go wrong a little outside."""
    base = transformer.Constants()
    trials = {
        "exponent": (1.499, 1.501),
        "period": (7, 9),
        "left": (39_000, 41_000),
        "left_step": (2, 4),
        "lower": (350_000, 370_000),
        "lower_step": (1, 3),
        "top": (6, 8),
        "line": (132, 134),
    }
    names = {
        "exponent": "exponent of x in the phase", "period": "modulus", "left": "left curve",
        "left_step": "step left of it", "lower": "lower curve", "lower_step": "step above it",
        "top": "lowest score called 1", "line": "line",
    }  # fmt: skip
    rows = []
    for field, (below, above) in trials.items():
        value = getattr(base, field)
        if field not in REAL_CONSTANTS:
            span = "only this one"
        else:
            low, high = _free_range(field, float(value))
            span = f"{low:,.7g} to {high:,.7g}"
        wrong = [program_errors(base._replace(**{field: v})) for v in (below, above)]
        rows.append({
            "constant": names[field],
            "value": f"{value:,}",
            "no error for": span,
            "errors just below": f"{wrong[0]:,} (at {below:,})",
            "errors just above": f"{wrong[1]:,} (at {above:,})",
        })  # fmt: skip
    return pd.DataFrame(rows)


def _free_range(field: str, value: float) -> tuple[float, float]:
    """Between which values of a constant the program makes as few errors as with its own, found by
    bisection within 2%."""
    base, least = transformer.Constants(), program_errors()
    ends = []
    for sign in (-1, 1):
        inside, outside = 0.0, 0.02
        for _ in range(30):
            middle = (inside + outside) / 2
            tried = base._replace(**{field: value * (1 + sign * middle)})
            inside, outside = (
                (middle, outside) if program_errors(tried) == least else (inside, middle)
            )
        ends.append(value * (1 + sign * inside))
    return ends[0], ends[1]


def region_table() -> pd.DataFrame:
    """The program as a table: which phases are called 1 in each region, and how many cells the
    region has."""
    x, y = transformer.grid()
    truth, parts = labels()[0], transformer.program_parts(x, y)
    rows = []
    for left in (False, True):
        for lower in (False, True):
            region = (parts.left == left) & (parts.lower == lower)
            row = {
                "x⁴ < 40,000 y": "yes" if left else "no",
                "y⁴ ≥ 360,000 x": "yes" if lower else "no",
                "cells": f"{region.sum():,}",
            }
            for line, title in ((True, "called 1 below the line"), (False, "beyond it")):
                here = region & (parts.line == line)
                ones = [
                    str(t)
                    for t in range(8)
                    if (here & (parts.phase == t)).any()
                    and 2 * truth[here & (parts.phase == t)].mean() > 1
                ]
                row[title] = ", ".join(ones) or ("–" if here.any() else "(no cells)")
            rows.append(row)
    return pd.DataFrame(rows)


# --- challenge 2: the networks -------------------------------------------------------------------


def seen_cells(split: str, seed: int) -> np.ndarray:
    """The cells to train on, bool (113, 113): a random "half" of all; all cells of a random half of
    the "rows" (values of x); or these and FEW random cells of each other row ("few")."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    rng, side = np.random.default_rng(seed), transformer.SIDE
    seen = np.zeros((side, side), bool)
    if split == "half":
        seen.ravel()[rng.permutation(side * side)[: side * side // 2]] = True
        return seen
    order = rng.permutation(side)
    seen[order[: side // 2 + 1]] = True
    if split == "few":
        for x in order[side // 2 + 1 :]:
            seen[x, rng.permutation(side)[:FEW]] = True
    return seen


def transformer_trained(origin: str, split: str, seed: int, steps: int) -> tuple[dict, dict]:
    """Build: a network of the challenge's architecture: its weights, "seen" and "answers" (bool
    (113, 113) each), "losses". origin: "released" labels, or the program's ("stand-in")."""
    if origin == "released":
        truth = files.transformer_labels()[0]
    else:
        truth = transformer.transformer_label(*transformer.grid())
    seen = seen_cells(split, seed)
    model, losses = transformer.fit(truth, seen, seed, steps)
    said = _answers(_states(model).logits)
    tensors = {name: t.detach().clone() for name, t in model.state_dict().items()}
    right = said == truth
    return tensors | {"seen": seen, "answers": said, "losses": losses}, {
        "seen": float(right[seen].mean()),
        "unseen": float(right[~seen].mean()),
    }


def transformer_dissected(network: dict) -> tuple[dict, dict]:
    """Build: what a trained network holds and needs, over all 12,769 cells.

    tensors: "attention" (8, 2, 113), the mean share that each head gives to x by x, and to x by y;
    "neurons" (4, 113, 113), the activations of the four neurons that move the answer most;
    "plane" (2, 113, 113), the first two principal components of the final stream. metrics:
    decisions kept by rank ("after", "before" the MLP), when parts are held at their mean
    ("ablated"), accuracy of linear read-outs ("probes"), shares of variance ("shares").
    """
    stored = fetch(transformer_trained, network, _transformer_md5())
    model = _restored(stored)
    s = _states(model)
    said = stored.tensors["answers"].ravel()
    margin = (s.logits[:, 1] - s.logits[:, 0]).double().numpy()
    seed = network["seed"]

    def kept(logits: torch.Tensor) -> float:
        return float(np.mean(_answers(logits).ravel() == said))

    with torch.no_grad():
        ranks = {
            "after": [kept(_flattened(s.after, r) @ model.read) for r in RANKS],
            "before": [kept(model.answer(_flattened(s.before, r))) for r in RANKS],
        }
        ablated = {}
        for head in range(transformer.HEADS):
            part = s.heads[:, head]
            ablated[f"head {head}"] = kept(model.answer(s.before - part + part.mean(0)))
        x, y = _pairs()
        _, values, own = model.attend(x, y)
        frozen = s.attention.mean(0, keepdim=True).expand_as(s.attention)
        ablated["attention shares"] = kept(model.answer(model.mix(frozen, values, own)))
        ablated["MLP"] = kept(model.finish(s.before, s.neurons.mean(0, keepdim=True)))
        ablated["path around the MLP"] = kept(
            model.finish(s.before.mean(0, keepdim=True), s.neurons)
        )
        effect = (model.fall @ (model.read[:, 1] - model.read[:, 0])) * s.neurons.std(0)
    strongest = effect.abs().argsort(descending=True)
    fallen, ordered = s.neurons.clone(), [0, 10, 30, 100, 300]
    ablated_neurons = {}
    for first, last in zip(ordered, ordered[1:], strict=False):
        chosen = strongest[first:last]
        fallen[:, chosen] = s.neurons[:, chosen].mean(0)
        with torch.no_grad():
            ablated_neurons[str(last)] = kept(model.finish(s.before, fallen))
    side = transformer.SIDE
    to_x = s.attention[:, :, 0].T.reshape(transformer.HEADS, side, side)
    tensors = {
        "attention": torch.stack([to_x.mean(2), to_x.mean(1)], dim=1).numpy(),
        "neurons": s.neurons[:, strongest[:4]].T.reshape(4, side, side).numpy(),
        "plane": _scores(s.after)[:, :2].T.reshape(2, side, side).astype(np.float32),
    }
    return tensors, {
        **ranks,
        "ablated": ablated,
        "strongest neurons": ablated_neurons,
        "live neurons": int((s.neurons > 0).any(0).sum()),
        "probes": _probes(s, seed),
        "shares": {
            "stream before the MLP": _two_way(s.before.double().numpy()),
            "stream after the MLP": _two_way(s.after.double().numpy()),
            "logit 1 − logit 0": _two_way(margin[:, None]),
        },
    }


def _restored(stored: Artifact) -> transformer.Transformer:
    model = transformer.Transformer(0)
    model.load_state_dict({name: stored.tensors[name] for name in model.state_dict()})
    return model.eval()


def _pairs() -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.from_numpy(number.ravel()) for number in transformer.grid())


def _states(model: transformer.Transformer) -> transformer.States:
    return model.states(*_pairs())


def _answers(logits: torch.Tensor) -> np.ndarray:
    return (logits[:, 1] > logits[:, 0]).numpy().reshape(transformer.SIDE, -1)


def _scores(stream: torch.Tensor) -> np.ndarray:
    """Principal component scores float64 (N, D), largest variance first."""
    values = stream.double().numpy()
    centred = values - values.mean(0)
    return centred @ np.linalg.eigh(centred.T @ centred)[1][:, ::-1]


def _flattened(stream: torch.Tensor, rank: int) -> torch.Tensor:
    """A stream (N, D) that keeps its mean and its first `rank` principal components."""
    values = stream.double()
    mean = values.mean(0)
    axes = torch.linalg.eigh((values - mean).T @ (values - mean))[1][:, -rank:]
    return ((values - mean) @ axes @ axes.T + mean).float()


def _two_way(values: np.ndarray) -> dict[str, float]:
    """Shares of the variance of (12,769, D) that go with x alone, y alone, and both together
    (two-way analysis of variance, one value a cell)."""
    table = values.reshape(transformer.SIDE, transformer.SIDE, -1)
    table = table - table.mean((0, 1))
    by_x, by_y = table.mean(1, keepdims=True), table.mean(0, keepdims=True)
    total = np.square(table).sum()
    side = transformer.SIDE
    x, y = side * np.square(by_x).sum() / total, side * np.square(by_y).sum() / total
    return {"x": float(x), "y": float(y), "x × y": float(1 - x - y)}


def _probes(s: transformer.States, seed: int) -> dict[str, dict[str, float]]:
    """Linear read-outs of the program's inner variables from the stream before the MLP and from the
    final one, each tested on cells held out at random and on whole rows held out; beside the share
    of the commonest value ("guess"). "phases shuffled" is the control: the same phases, dealt out
    to the wrong rows."""
    x, y = transformer.grid()
    parts = transformer.program_parts(x, y)
    rng = np.random.default_rng(seed)
    wanted = {
        "phase": parts.phase,
        "phases shuffled": parts.phase[rng.permutation(transformer.SIDE)],
        "left": parts.left,
        "lower": parts.lower,
        "line": parts.line,
    }
    cells = rng.random(x.size) < 0.5
    rows = (rng.permutation(transformer.SIDE) < transformer.SIDE // 2)[x].ravel()
    result = {}
    for name, values in wanted.items():
        values = values.ravel().astype(np.int64)
        numbers = {"guess": np.bincount(values).max() / values.size}
        for place, stream in (("before", s.before), ("after", s.after)):
            for kind, fitted in (("cells", cells), ("rows", rows)):
                numbers[f"{place}, {kind}"] = _read_out(stream.double().numpy(), values, fitted)
        result[name] = {key: float(value) for key, value in numbers.items()}
    return result


def _read_out(stream: np.ndarray, values: np.ndarray, fitted: np.ndarray) -> float:
    """Accuracy, where not `fitted`, of a ridge regression to one-hot values; classes weighted by
    nothing, inputs scaled to unit variance."""
    inputs = (stream - stream[fitted].mean(0)) / (stream[fitted].std(0) + 1e-9)
    inputs = np.column_stack([inputs, np.ones(len(inputs))])
    targets = np.eye(values.max() + 1)[values[fitted]]
    square = inputs[fitted].T @ inputs[fitted] + np.eye(inputs.shape[1])
    weights = np.linalg.solve(square, inputs[fitted].T @ targets)
    return float(np.mean((inputs[~fitted] @ weights).argmax(1) == values[~fitted]))


def _transformer_config(split: str, seed: int) -> dict[str, Any]:
    steps = TRAINED_STEPS[scale()][split != "half"]
    return {"origin": source(2), "split": split, "seed": seed, "steps": steps}


def _transformer_md5() -> str:
    return files.FILES["transformer_label_info.pkl"].md5


def networks(split: str = "half") -> list[Artifact]:
    """The stored networks of a split, one a seed, trained if need be."""
    configs = [_transformer_config(split, seed) for seed in seeds()]
    return fetch_many(transformer_trained, configs, _transformer_md5(), title="training")


def prepare_transformers() -> None:
    """Train and dissect all that chapter 9 asks for, in parallel, longest first."""
    configs = [_transformer_config(split, seed) for split in SPLITS for seed in seeds()]
    if source(2) != "released":
        configs.append(_transformer_config("half", STANDIN_SEED))
    fetch_many(transformer_trained, configs, _transformer_md5(), title="training transformers")
    dissections()


def dissections() -> list[Artifact]:
    """The stored dissections of the networks trained on half of the cells, one a seed."""
    configs = [{"network": _transformer_config("half", seed)} for seed in seeds()]
    return fetch_many(transformer_dissected, configs, _transformer_md5(), title="dissecting")


def accuracies() -> dict[str, dict[str, Estimate]]:
    """Accuracy of the trained networks by split, on "seen" and "unseen" cells, over seeds; "guess"
    is the share of the commoner label."""
    common = max(labels()[0].mean(), 1 - labels()[0].mean())
    result = {"guess": {"unseen": Estimate(float(common), None, 1)}}
    for split in SPLITS:
        metrics = [stored.record["metrics"] for stored in networks(split)]
        result[split] = {part: estimate(m[part] for m in metrics) for part in ("seen", "unseen")}
    return result


def accuracy_table() -> pd.DataFrame:
    """`accuracies` in percent."""
    titles = {
        "half": "half of all cells",
        "few": f"half of the rows, and {FEW} cells of each other row",
        "rows": "half of the rows",
    }
    table = accuracies()
    return pd.DataFrame([
        {
            "trained on": title,
            "seen cells": percent(table[split]["seen"]),
            "unseen cells": percent(table[split]["unseen"]),
        }
        for split, title in titles.items()
    ])  # fmt: skip


def sparse_rows() -> dict[str, Estimate]:
    """Rows of which only FEW cells were seen: accuracy on their other cells, over seeds.

    "network"; "row memory", the label of the nearest seen cell of the row; "program, phase
    unknown", a learner who has all of the program but the phase of each row: it keeps the phases
    that fit the seen cells and takes the label that most of them give (0 at a tie).
    """
    truth = labels()[0]
    parts = transformer.program_parts(*transformer.grid())
    by_phase = np.stack([
        transformer.decide(
            parts._replace(score=parts.score - parts.phase + phase), transformer.Constants()
        )
        for phase in range(8)
    ])  # fmt: skip
    rows: dict[str, list[float]] = {}
    for net in networks("few"):
        seen, told = net.tensors["seen"], truth.copy()
        for x in np.flatnonzero(~seen.all(axis=1)):
            fits = (by_phase[:, x, seen[x]] == truth[x, seen[x]]).all(axis=1)
            told[x] = by_phase[fits, x].mean(axis=0) > 0.5
        for name, table in (
            ("network", net.tensors["answers"]),
            ("row memory", nearest_seen(truth, seen, row_weight=1e6)),
            ("program, phase unknown", told),
        ):
            rows.setdefault(name, []).append(float(np.mean((table == truth)[~seen])))
    return {name: estimate(values) for name, values in rows.items()}


def sparse_table() -> pd.DataFrame:
    """`sparse_rows` in percent."""
    return pd.DataFrame([
        {"learner": name, f"unseen cells of rows with {FEW} seen ones, %": percent(value)}
        for name, value in sparse_rows().items()
    ])  # fmt: skip


def maps() -> dict[str, np.ndarray]:
    """The label map, the released network's answers, and those of the first trained network, bool
    (113, 113) each."""
    truth, said = labels()
    return {
        "true labels": truth,
        "released network": said,
        "trained here, seed 0": networks()[0].tensors["answers"],
    }


def flip_distance(truth: np.ndarray) -> np.ndarray:
    """For each cell of a table (X, Y) of labels the number of steps along y to the nearest cell
    with another label: int64 (X, Y); Y where the row has only one label."""
    side = truth.shape[1]
    steps = np.abs(np.arange(side)[:, None] - np.arange(side)[None])  # (Y, Y)
    differs = truth[:, :, None] != truth[:, None, :]  # (X, Y, Y)
    return np.where(differs, steps, side).min(axis=2)


def boundary_distances() -> dict[str, dict[str, float]]:
    """Median steps along y to the nearest change of label: of the "errors" on unseen cells and of
    all "cells", for the released network (all its errors) and the trained ones (over seeds); and
    the "ratio" of the two, and the share of errors within three steps, "near"."""
    truth, said = labels()
    distance = flip_distance(truth)
    wrongs = [said != truth]
    wrongs += [(net.tensors["answers"] != truth) & ~net.tensors["seen"] for net in networks()]
    every = float(np.median(distance))
    rows = [
        {
            "errors": float(np.median(distance[wrong])),
            "cells": every,
            "ratio": float(np.median(distance[wrong])) / every,
            "near": float(np.mean(distance[wrong] <= 3)),
        }
        for wrong in wrongs
    ]
    trained = {key: float(np.mean([row[key] for row in rows[1:]])) for key in rows[0]}
    return {"released network": rows[0], "trained here": trained}


def distance_curve() -> dict[str, dict[str, np.ndarray]]:
    """Share of cells answered wrongly by steps along y to the nearest change of label ("steps",
    grouped), for the released network (all cells) and the trained ones (unseen cells)."""
    truth, said = labels()
    distance = flip_distance(truth)
    edges = np.array([1, 2, 3, 4, 6, 9, 14, 22, 40, 113, 114])
    group = np.digitize(distance, edges) - 1
    titles = [
        str(a) if b == a + 1 else f"{a}–{b - 1}" for a, b in zip(edges, edges[1:], strict=False)
    ]
    titles[-1] = "no change"

    def by_group(wrong: np.ndarray, counted: np.ndarray) -> np.ndarray:
        return np.array([
            wrong[counted & (group == k)].mean() if (counted & (group == k)).any() else 0.0
            for k in range(len(titles))
        ])  # fmt: skip

    trained = [
        by_group(net.tensors["answers"] != truth, ~net.tensors["seen"]) for net in networks()
    ]
    everywhere = np.ones_like(truth)
    return {
        "steps": np.array(titles),
        "released network, all cells": by_group(said != truth, everywhere)[None],
        "trained here, unseen cells": np.stack(trained),
    }


def accounts() -> dict[str, dict[str, Estimate]]:
    """How much of the trained networks' behaviour on unseen cells each account predicts: share of
    "answers", and share of the network's "errors" that the account makes too (over seeds).

    "program": the recovered program. "row memory": the label of the nearest seen cell in the same
    row, the mean of both neighbours' labels at a tie counting as the lower one's. "nearest cell":
    the nearest seen cell anywhere. "commonest label".
    """
    truth = labels()[0]
    rows: dict[str, list[tuple[float, float]]] = {}
    for net in networks():
        seen, said = net.tensors["seen"], net.tensors["answers"]
        common = np.full_like(truth, truth[seen].mean() > 0.5)
        predicted = {
            "program": transformer.transformer_label(*transformer.grid()),
            "row memory": nearest_seen(truth, seen, row_weight=1e6),
            "nearest cell": nearest_seen(truth, seen, row_weight=1.0),
            "commonest label": common,
        }
        wrong = ~seen & (said != truth)
        for name, table in predicted.items():
            share = (table == said)[~seen].mean(), (table == said)[wrong].mean()
            rows.setdefault(name, []).append(share)
    return {
        name: {
            "answers": estimate(first for first, _ in shares),
            "errors": estimate(second for _, second in shares),
        }
        for name, shares in rows.items()
    }


def accounts_table() -> pd.DataFrame:
    """`accounts` in percent."""
    return pd.DataFrame([
        {
            "account": name,
            "answers on unseen cells predicted, %": percent(shares["answers"]),
            "the network's errors predicted, %": percent(shares["errors"]),
        }
        for name, shares in accounts().items()
    ])  # fmt: skip


def nearest_seen(truth: np.ndarray, seen: np.ndarray, row_weight: float) -> np.ndarray:
    """For each cell of a table the label of the nearest seen cell, by squared distance
    row_weight * dx^2 + dy^2; the first such cell at a tie. bool, of the table's shape."""
    from scipy.spatial import cKDTree

    scale_x = np.sqrt(row_weight)
    cells = np.argwhere(np.ones_like(seen)) * [scale_x, 1.0]
    known = np.argwhere(seen) * [scale_x, 1.0]
    return truth[seen][cKDTree(known).query(cells)[1]].reshape(truth.shape)


def low_rank(rank: int = 4) -> Estimate:
    """Share of decisions kept when the last residual stream keeps `rank` principal components."""
    place = RANKS.index(rank)
    return estimate(d.record["metrics"]["after"][place] for d in dissections())


def dimension_table() -> pd.DataFrame:
    """Share of decisions kept, in percent over seeds, by the number of principal components that
    the stream keeps before the MLP and after it."""
    metrics = [d.record["metrics"] for d in dissections()]
    return pd.DataFrame({
        "components kept": [str(rank) for rank in RANKS],
        "of the stream before the MLP": [
            percent(estimate(m["before"][k] for m in metrics)) for k in range(len(RANKS))
        ],
        "of the last stream": [
            percent(estimate(m["after"][k] for m in metrics)) for k in range(len(RANKS))
        ],
    })  # fmt: skip


def dissected_table() -> pd.DataFrame:
    """Share of decisions kept, in percent over seeds, when a part is held at its mean."""
    metrics = [d.record["metrics"] for d in dissections()]
    heads = [sorted(m["ablated"][f"head {h}"] for h in range(transformer.HEADS)) for m in metrics]
    rows = {
        "the head that matters least": [each[-1] for each in heads],
        "the head that matters most": [each[0] for each in heads],
        "all attention shares (values still flow)": [
            m["ablated"]["attention shares"] for m in metrics
        ],
        "the MLP": [m["ablated"]["MLP"] for m in metrics],
        "the path around the MLP": [m["ablated"]["path around the MLP"] for m in metrics],
    }
    for count in ("10", "30", "100", "300"):
        rows[f"the {count} strongest neurons"] = [m["strongest neurons"][count] for m in metrics]
    return pd.DataFrame([
        {"held at its mean": name, "decisions kept, %": percent(estimate(values))}
        for name, values in rows.items()
    ])  # fmt: skip


def live_neurons() -> Estimate:
    """How many of the 1,024 neurons fire on any cell."""
    counts = (d.record["metrics"]["live neurons"] for d in dissections())
    return estimate(counts, bounds=(0, transformer.NEURONS))


def shares() -> dict[str, dict[str, Estimate]]:
    """Shares of the variance of each stage that go with x alone, y alone, and both, over seeds."""
    metrics = [d.record["metrics"]["shares"] for d in dissections()]
    return {
        stage: {part: estimate(m[stage][part] for m in metrics) for part in parts}
        for stage, parts in metrics[0].items()
    }


def shares_table() -> pd.DataFrame:
    """`shares` in percent."""
    return pd.DataFrame([
        {"stage": stage}
        | {f"goes with {part}": percent(value) for part, value in parts.items()}
        for stage, parts in shares().items()
    ])  # fmt: skip


def probes() -> dict[str, dict[str, Estimate]]:
    """Accuracy of linear read-outs by inner variable, see `_probes`, over seeds."""
    metrics = [d.record["metrics"]["probes"] for d in dissections()]
    return {
        name: {kind: estimate(m[name][kind] for m in metrics) for kind in numbers}
        for name, numbers in metrics[0].items()
    }


def probe_table() -> pd.DataFrame:
    """`probes` of the stream before the MLP in percent."""
    titles = {
        "phase": "phase (one of eight)",
        "phases shuffled": "phases of the wrong rows (control)",
        "left": "x⁴ < 40,000 y",
        "lower": "y⁴ ≥ 360,000 x",
        "line": "x + y < 133",
    }
    numbers = probes()
    return pd.DataFrame([
        {
            "variable": title,
            "guessing": percent(numbers[name]["guess"]),
            "unseen cells": percent(numbers[name]["before, cells"]),
            "unseen rows": percent(numbers[name]["before, rows"]),
        }
        for name, title in titles.items()
    ])  # fmt: skip
