"""The first challenge, solved: what report/challenge-cnn.qmd measures and shows.

If the challenge's file cannot be had, a stand-in is studied, trained here on the program's labels.
Thresholds, groups and templates are fitted on training digits; test digits only measure. In frames
"prediction" is the network's (True for 1), "program" the program's; shares are fractions of 1.
`test` is the frame of that name of `observe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from lazy_artist import plots
from lazy_artist.data import DataNotFoundError, load_digits
from lazy_artist.eis7 import cnn, files
from lazy_artist.store import digits_checksum, stored

RANKS = (1, 2)  # principal components of the hidden layer that are kept
FAR = 2.0  # similarity: as much as four full pixels can add
PUSHED = 5.0  # how far beyond a threshold images are pushed
N_SCATTER = 3000  # points in scatter plots
N_CLOUD = 600  # points behind the widget's plot


def cnn_checksum() -> str:
    """Of all that this chapter reads: the digits, and the challenge's network."""
    return f"{digits_checksum()} {files.MD5['mnist_model.pt']}"


@stored
def stand_in_weights(seed: int, epochs: float) -> dict[str, torch.Tensor]:
    """Weights of the stand-in for the released CNN, trained on the program's labels."""
    digits = load_digits("train")
    network = cnn.train_cnn(digits.images, cnn.cnn_label(digits.images), seed, epochs)
    return dict(network.state_dict())


@stored
def teach_by_program(seed: int, epochs: float) -> dict[str, Any]:
    """The network of chapter 9's widget: the stand-in, which may be published (the released one's
    author states no licence), with weights in half precision, and so half as large.

    "weights": its state dict; "agreement": the share of test digits on which it predicts what the
    program labels; "cloud": float64 (N_CLOUD, 2), similarity and margin of the first of them.
    """
    weights = {name: value.half() for name, value in stand_in_weights(seed, epochs).items()}
    network, images = cnn.ChallengeCNN(), load_digits("test").images
    network.load_state_dict(weights)
    evidence, offset = network.evidence()
    margin = cnn.hidden_units(network, images) @ evidence + offset
    cloud = np.stack([cnn.similarity(images), margin], axis=1)[:N_CLOUD]
    agreement = float(((margin > 0) == cnn.cnn_label(images)).mean())
    return {"weights": weights, "agreement": agreement, "cloud": cloud}


def load_cnn(network: str, epochs: float) -> cnn.ChallengeCNN:
    """The "released" network, or the "stand-in" trained for so many epochs."""
    model = cnn.ChallengeCNN()
    released = network == "released"
    model.load_state_dict(files.cnn_weights() if released else stand_in_weights(0, epochs))
    return model.eval()


@stored(data=cnn_checksum)
def observe(network: str, epochs: float, n_images: int | None) -> dict[str, Any]:
    """What the CNN holds and predicts, of the first `n_images` (None: all) digits of both splits.

    "train", "test": frames, one row an image: digit, similarity, margin (logit 1 - logit 0),
    prediction, program; one, anti-one and brake: what each group adds to the margin. "offset":
    what no unit adds; "brake mean": over training images; "units": of each group.
    "plane": frame of the first training images, with their first two components of the hidden
    layer. "ranks": frame: components kept, their share of the variance, share of test predictions
    "unchanged". "gradients", "fitted": templates (2, 28, 28) of "one" and "anti-one"; "kernels":
    (8, 3, 3). "lit", "variance": (28, 28), share of training images in which a pixel is above one
    half, and its variance. "scores": see `compare_scores`. "extremes": uint8 (2, 10, 28, 28), for
    each digit the training images most confidently predicted as 1, and as 0.
    """
    model = load_cnn(network, epochs)
    evidence, offset = model.evidence()
    digits = {split: load_digits(split) for split in ("train", "test")}
    images = {split: each.images[:n_images] for split, each in digits.items()}
    hidden = {split: cnn.hidden_units(model, each) for split, each in images.items()}
    fitting = hidden["train"]
    groups = cnn.unit_groups(fitting, evidence, cnn.hidden_units(model, cnn.CLUE[None])[0])
    frames, parts = {}, {}
    for split, units in hidden.items():
        margin, scores = units @ evidence + offset, cnn.similarity(images[split])
        parts[split] = np.stack([units[:, on] @ evidence[on] for on in groups.values()])  # (3, N)
        frames[split] = pd.DataFrame({
            "digit": digits[split].labels[:n_images].astype(np.uint8), "similarity": scores,
            "margin": margin, "prediction": margin > 0, "program": cnn.zones(scores) != "between",
        } | dict(zip(cnn.GROUPS, parts[split], strict=True)))  # fmt: skip

    plane = frames["train"][["digit", "similarity", "prediction"]][:N_SCATTER].copy()
    covariance = np.cov(fitting.T.astype(np.float64))
    axes = np.linalg.eigh(covariance)[1][:, ::-1]  # the largest variance first
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(200)])  # largest entry > 0
    components = (fitting - fitting.mean(axis=0)) @ axes[:, :2]
    plane[["component 1", "component 2"]] = components[:N_SCATTER]
    variance = np.linalg.eigvalsh(covariance)[::-1]
    explained = np.cumsum(variance / variance.sum())[np.array(RANKS) - 1]
    mean, weights = fitting.mean(axis=0, dtype=np.float64), evidence @ axes
    scores, base = (hidden["test"] - mean) @ axes, mean @ evidence + offset
    reduced = [scores[:, :rank] @ weights[:rank] + base > 0 for rank in RANKS]
    same = np.array(reduced) == frames["test"]["prediction"].to_numpy()

    pixels = {split: each / np.float32(255) for split, each in images.items()}
    fitted = np.stack([cnn.fitted_template(images["train"], part) for part in parts["train"][:2]])
    gradients = [
        cnn.gradient_template(model, images["train"][part > 0][:3000], evidence, groups[name])
        for part, name in zip(parts["train"][:2], ("one", "anti-one"), strict=True)
    ]
    margin = frames["train"].groupby("digit")["margin"]
    return {
        **frames,
        "offset": offset,
        "brake mean": parts["train"][2].mean(),
        "units": {name: int(units.sum()) for name, units in groups.items()},
        "plane": plane,
        "ranks": pd.DataFrame({
            "components": RANKS, "variance": explained, "unchanged": same.mean(axis=1),
        }),
        "gradients": np.stack(gradients),
        "fitted": fitted,
        "scores": compare_scores(pixels, frames, fitted),
        "kernels": model.conv1.weight.detach().numpy()[:, 0],
        "lit": (pixels["train"] > 0.5).mean(axis=0),
        "variance": pixels["train"].var(axis=0),
        "extremes": images["train"][np.array([margin.idxmax(), margin.idxmin()])],
    }  # fmt: skip


@stored(data=cnn_checksum)
def recap(network: str, epochs: float, n_images: int | None) -> dict[str, Any]:
    """What the chapter shows of `observe`: all but the frame of training images, of which there are
    "by digit", a frame of each digit's share of "prediction"s of 1; "agreement", the share on which
    network and program agree; "band", the two thresholds of `cnn.fit_band`; and "mechanism", see
    `fit_mechanism`."""
    seen = observe(network, epochs, n_images)
    train = seen.pop("train")
    predicted = train["prediction"].to_numpy()
    return seen | {
        "by digit": train.groupby("digit")["prediction"].mean().reset_index(),
        "agreement": float((predicted == train["program"]).mean()),
        "band": list(cnn.fit_band(train["similarity"].to_numpy(), predicted)[:2]),
        "mechanism": fit_mechanism(train, seen["test"], seen["offset"]),
    }


def fit_mechanism(train: pd.DataFrame, test: pd.DataFrame, offset: float) -> dict[str, Any]:
    """The equation slope_1 [s - start_1]+ + slope_2 [start_2 - s]+ + constant for the margin, each
    term fitted on training images: the groups' "slope", "start", and the "variance" of their
    evidence on test images that their ramp explains, in the frame "ramps"; "constant", the brake's
    mean and the offset. Of test images, the shares of the margin's "variance" that the equation
    explains, and of predictions that its sign is ("predictions"); "band", where it crosses 0."""
    total = constant = float(train["brake"].mean() + offset)
    rows, band = [], []
    for group, sign in (("one", 1), ("anti-one", -1)):
        slope, start = cnn.fit_ramp(sign * train["similarity"].to_numpy(), train[group].to_numpy())
        ramp = slope * np.maximum(sign * test["similarity"] - start, 0)
        explained = 1 - np.square(test[group] - ramp).mean() / test[group].var(ddof=0)
        rows.append({"group": group, "slope": slope, "start": sign * start, "variance": explained})
        band.append(sign * (start - constant / slope))
        total = total + ramp
    return {
        "ramps": pd.DataFrame(rows),
        "constant": constant,
        "variance": 1 - np.square(test["margin"] - total).mean() / test["margin"].var(ddof=0),
        "predictions": np.mean((total > 0) == test["prediction"]),
        "band": band[::-1],
    }


@stored(data=cnn_checksum)
def find_clue() -> dict[str, Any]:
    """Which training image the hint's picture shows: "index", its "correlation" with the picture,
    and that of the "runner-up"; without the picture, of the clue itself."""
    try:
        picture = files.clue_picture()
    except DataNotFoundError:
        picture = cnn.CLUE / 255
    images = load_digits("train").images.reshape(-1, 784)
    picture = (picture - picture.mean()).ravel().astype(np.float32)
    squares = np.einsum("np,np->n", images, images, dtype=np.float64)
    norms = np.sqrt(squares - images.sum(axis=1, dtype=np.float64) ** 2 / 784)
    match = images @ picture / norms / np.linalg.norm(picture)
    best, second = np.argsort(-match)[:2]
    return {"index": best, "correlation": match[best], "runner-up": match[second]}


def compare_scores(
    pixels: dict[str, np.ndarray], frames: dict[str, pd.DataFrame], fitted: np.ndarray
) -> pd.DataFrame:
    """Other one-sentence programs, each with two thresholds fitted on training digits: shares of
    the network's predictions that they make, "train" and "test", and the "correlation" of their
    "score" with the first. pixels: float32 (N, 28, 28) in [0, 1] by split; the rest: as observed.
    """
    clue = (cnn.CLUE / 255).ravel().astype(np.float32)
    one, anti = fitted
    blind = (one / np.linalg.norm(one) - anti / np.linalg.norm(anti)).ravel().astype(np.float32)
    scores = {
        "(clue − ½) · image: this chapter's": lambda x: x @ (clue - np.float32(0.5)),
        "distance to the clue, sum of absolute differences": lambda x: np.abs(x - clue).sum(1),
        "distance to the clue, sum of squares": lambda x: np.square(x - clue).sum(1),
        "cosine with the clue": lambda x: x @ clue / np.maximum(np.linalg.norm(x, axis=1), 1e-6),
        "clue · image": lambda x: x @ clue,
        "sum of all pixels": lambda x: x.sum(1),
        "template fitted to the network, clue unseen": lambda x: x @ blind,
    }
    rows = []
    for name, score in scores.items():
        train, test = (
            score(pixels[split].reshape(-1, 784)).astype(np.float64) for split in ("train", "test")
        )
        low, high, agreed = cnn.fit_band(train, frames["train"]["prediction"].to_numpy())
        test = np.mean(((test < low) | (test > high)) == frames["test"]["prediction"])
        correlation = np.corrcoef(train, frames["train"]["similarity"])[0, 1]
        rows.append({"score": name, "train": agreed, "test": test, "correlation": correlation})
    return pd.DataFrame(rows)


def interchange_groups(test: pd.DataFrame, offset: float, seed: int = 0) -> pd.DataFrame:
    """Test images paired at random; the activations of the groups "exchanged" are the partner's.
    Shares of predictions that the "program" foresees with the exchanged question (is it one-like?
    is it anti-one?) asked about the partner; the same where that differs from the image's own label
    ("differing", NaN if nowhere); that equal the "own" label."""
    program = test["program"].to_numpy()
    evidence = test[list(cnn.GROUPS)].to_numpy().T
    partner = np.random.default_rng(seed).permutation(len(test))
    zone = cnn.zones(test["similarity"].to_numpy())
    one, anti = zone == "one", zone == "anti-one"
    foreseen = {
        "one": one[partner] | anti, "anti-one": one | anti[partner], "brake": program,
        "one and anti-one": one[partner] | anti[partner],
    }  # fmt: skip
    rows = []
    for name, expected in foreseen.items():
        taken = np.isin(cnn.GROUPS, name.split(" and "))[:, None]
        after = np.where(taken, evidence[:, partner], evidence).sum(axis=0) + offset > 0
        differing = expected != program
        rows.append({
            "exchanged": name, "program": np.mean(after == expected),
            "differing": np.mean((after == expected)[differing]) if differing.any() else np.nan,
            "own": np.mean(after == program),
        })  # fmt: skip
    return pd.DataFrame(rows)


@stored(data=cnn_checksum)
def edit_digits(network: str, epochs: float, n_images: int) -> dict[str, Any]:
    """The CNN's predictions of images that no data set holds: edits of at most `n_images` test
    digits of each kind.

    Pixels may be pushed that are lit in more than a tenth of the training images; in the border
    they hardly ever are. "edits": frame, one row an "edit": "images", mean "pixels" changed, shares
    of predictions that the "program" makes too, that are "unchanged", and that a "control" edit
    leaves unchanged (pixels and control: of pushes alone). "fading": frame by the "factor" that
    digits are multiplied by: shares predicted as 1 by "network" and "program", and their
    "agreement". "examples": uint8 (2, 9, 28, 28), unedited and pushed images; "example
    predictions": bool (2, 9).
    """
    model, test = load_cnn(network, epochs), load_digits("test").images
    evidence, offset = model.evidence()

    def predict(images: np.ndarray) -> np.ndarray:
        return cnn.hidden_units(model, images) @ evidence + offset > 0

    often = (load_digits("train").images > 127).mean(axis=0)
    allowed, border = often > 0.1, often < 0.001
    before = predict(test)
    zone = cnn.zones(cnn.similarity(test))
    agreed = before == (zone != "between")
    kinds = {kind: np.flatnonzero((zone == kind) & agreed) for kind in cnn.ZONES}
    low, high = cnn.BAND
    targets = {
        ("between", "one"): high + PUSHED, ("between", "anti-one"): low - PUSHED,
        ("one", "between"): high - PUSHED, ("anti-one", "between"): low + PUSHED,
        ("one", "anti-one"): low - PUSHED, ("anti-one", "one"): high + PUSHED,
    }  # fmt: skip
    rows = []

    def measure(edit: str, chosen: Any, edited: np.ndarray, **of_push: float) -> None:
        after = predict(edited)
        rows.append({
            "edit": edit, "images": len(edited), **of_push,
            "program": np.mean(after == cnn.cnn_label(edited)),
            "unchanged": np.mean(after == before[chosen]),
        })  # fmt: skip

    for (kind, goal), target in targets.items():
        chosen = kinds[kind][:n_images]
        edited = cnn.push(test[chosen], target, allowed, seed=0)
        still = predict(cnn.disturb(test[chosen], edited, allowed, seed=1))
        pixels = (edited != test[chosen]).sum(axis=(1, 2)).mean()
        control = np.mean(still == before[chosen])
        measure(f"from {kind} to {goal}", chosen, edited, pixels=pixels, control=control)
    first, these = test[:n_images], slice(n_images)
    other = np.roll(first, 1, axis=0)  # each digit's neighbour in the file
    measure("two digits overlaid", these, np.maximum(first, other))
    measure("top of one, bottom of another", these, np.where(np.c_[:28] < 14, first, other))
    measure("moved right by two pixels", these, np.roll(first, 2, axis=2))
    measure("mirrored", these, np.ascontiguousarray(first[:, :, ::-1]))
    chosen = kinds["between"][:n_images]
    lit = cnn.push(test[chosen], low - PUSHED, border, seed=0)
    measure("pixels lit in the empty border", chosen, lit)

    factors = np.linspace(0, 1, 21)
    faded = [np.rint(first * factor).astype(np.uint8) for factor in factors]
    network, program = (np.stack([f(images) for images in faded]) for f in (predict, cnn.cnn_label))
    examples = []
    for at in (("between", "one"), ("one", "between"), ("anti-one", "between")):
        three = test[kinds[at[0]][:3]]
        examples.append([three, cnn.push(three, targets[at], allowed, seed=0)])
    examples = np.concatenate(examples, axis=1)
    return {
        "edits": pd.DataFrame(rows),
        "fading": pd.DataFrame({
            "factor": factors, "network": network.mean(1), "program": program.mean(1),
            "agreement": (network == program).mean(1),
        }),
        "examples": examples,
        "example predictions": predict(examples.reshape(-1, 28, 28)).reshape(2, -1),
    }  # fmt: skip


# --- figures -------------------------------------------------------------------------------------


def show_digits(rows: dict[str, Any], height: float, titles: list[str]) -> plots.Figure:
    """Named rows of grey images uint8 (n, 28, 28), dark on white, `height` inches each, with titles
    for as many as there are, row by row."""
    pictures = {
        name: np.repeat(1 - np.array(images)[:, None] / 255, 3, axis=1)
        for name, images in rows.items()
    }
    figure, axes = plots.picture_rows(pictures, height=height)
    for ax, title in zip(axes.flat, titles, strict=False):
        ax.set_title(title, fontsize=plots.SMALL, pad=2)
    return figure


def show_plane(plane: pd.DataFrame) -> plots.Figure:
    """The "plane" of `observe`: by the network's prediction (left), with some zeros and ones
    written out, and by similarity to the clue (right)."""
    figure, (axes,) = plots.grid(plots.WIDTH, 3.5, 1, 2, sharex=True, sharey=True)
    components = ["component 1", "component 2"]
    for predicted, colour, marker in ((True, plots.BLUE, "o"), (False, plots.AMBER, "x")):
        points = plane.loc[plane["prediction"] == predicted, components].to_numpy().T
        axes[0].scatter(*points, s=7, color=colour, marker=marker, lw=0.6, alpha=0.5,
                        label=f"predicted {predicted:d}")  # fmt: skip
    for digit in (0, 1):
        for x, y in plane.loc[plane["digit"] == digit, components].to_numpy()[:25]:
            axes[0].text(x, y, str(digit), weight="bold")
    axes[0].legend(markerscale=2)
    points = plane[components].to_numpy().T
    dots = axes[1].scatter(*points, c=plane["similarity"], s=5, cmap="viridis")
    bar = figure.colorbar(dots, ax=axes[1], label="similarity to the clue")
    for edge in cnn.BAND:
        bar.ax.axhline(edge, color="white", linewidth=1.5, linestyle="--")
    axes[0].set(xlabel="first principal component", ylabel="second principal component")
    axes[1].set_xlabel("first principal component")
    note = "one row a training image; prediction: whether the network predicts 1"
    return plots.show(figure, plane, note)


def show_ramps(test: pd.DataFrame, names: Sequence[str], height: float) -> plots.Figure:
    """Columns of `test`, what adds to logit 1 less logit 0, against similarity to the clue, which
    stands beside them."""
    frame = test[["similarity", *names]][:N_SCATTER]
    figure, ((left, ax),) = plots.grid(plots.WIDTH, height, 1, 2, width_ratios=[1, 5])
    plots.picture(left, np.repeat(1 - cnn.CLUE[None] / 255, 3, axis=0), "the clue")
    styles = ((plots.BLUE, "o"), (plots.VERMILION, "^"), ("#777777", "s"))
    for name, (colour, marker) in zip(names, styles, strict=False):
        ax.scatter(frame["similarity"], frame[name], s=5, color=colour, marker=marker, alpha=0.4,
                   lw=0, label=f"“{name}”")  # fmt: skip
    ax.axhline(0, color=plots.DARK, linewidth=0.7)
    for edge in cnn.BAND:
        ax.axvline(edge, color=plots.DARK, linewidth=0.9, linestyle="--")
    for place, label in ((-58, 1), (np.mean(cnn.BAND), 0), (3, 1)):
        ax.text(place, 1, f"program: {label}", transform=ax.get_xaxis_transform(), ha="center")
    ax.set(xlabel="similarity to the clue", ylabel="logit 1 − logit 0")
    if len(names) > 1:
        ax.legend(markerscale=3, loc="center left")
        ax.set_ylabel("evidence for 1")
    note = "one row a test image; what adds to the margin, logit 1 - logit 0, or the margin"
    return plots.show(figure, frame, note)


def show_templates(templates: dict[str, np.ndarray], kernels: np.ndarray) -> plots.Figure:
    """Templates (28, 28), each on its own scale, and the first layer's kernels (8, 3, 3) on a
    common one: orange for positive, purple for negative, white for zero."""
    figure = plots.Figure(figsize=(plots.WIDTH, 3.1))
    above, below = figure.subfigures(2, 1, height_ratios=[2.4, 1])
    numbered = {f"kernel {k}": kernel for k, kernel in enumerate(kernels)}
    rows, largest = [], np.abs(kernels).max()
    for part, pictures, common in ((above, templates, None), (below, numbered, largest)):
        panels = part.subplots(1, len(pictures))
        for ax, (name, picture) in zip(panels, pictures.items(), strict=True):
            top = common or np.abs(picture).max()
            ax.imshow(picture, cmap="PuOr_r", vmin=-top, vmax=top)
            ax.set(title=name, xticks=[], yticks=[])
            ax.spines[:].set_visible(True)
            rows += [(name, *at, value) for at, value in np.ndenumerate(picture)]
    frame = pd.DataFrame(rows, columns=["panel", "row", "column", "weight"])
    note = "the weight of each pixel: of templates in evidence per unit of a pixel in [0, 1]"
    return plots.show(figure, frame, note)


def show_threshold(curve: pd.DataFrame) -> plots.Figure:
    """The "share" of images predicted as 1 by "similarity", and the program's label (dashed)."""
    figure, ((ax,),) = plots.grid(plots.WIDTH, 2.6)
    x = curve["similarity"]
    ax.plot(x, curve["share"], "o-", color=plots.BLUE, markersize=3, lw=1.2, label="the network")
    ends = [x.min() - 1, *np.repeat(cnn.BAND, 2), x.max() + 1]
    ax.plot(ends, [1, 1, 0, 0, 1, 1], "--", color=plots.VERMILION, lw=1.2, label="the program")
    ax.set_xlabel("similarity to the clue")
    plots.percent_axis(ax.yaxis, "predicted 1")
    ax.legend(loc="center left")
    note = "share (a fraction of 1) of test images that the network predicts as 1, in bins of 1.5"
    return plots.show(figure, curve, note)
