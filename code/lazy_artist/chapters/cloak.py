"""Chapter 6: how little noise makes a network see a 3 in a 7, cheater against cure.

Numbers are smallest sizes by `attack.minimal_epsilon`, on 8-bit pictures; other measurements are
controls of it. Of most measurements `shared` is what `shared_images` is given, and `n` how many of
its sevens are taken, the first; None: all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.special import bdtr
from torch import Tensor, nn

from lazy_artist import attack, canvas, plots
from lazy_artist.canvas import COLOUR_NAMES, N_CLASSES, colour_split, paint, test_split
from lazy_artist.config import ARCH_NAMES, BIAS, NO_BIAS, TEST_SEED, device, pick
from lazy_artist.debias import BEST, METHODS
from lazy_artist.evaluate import Estimate, estimate, predict
from lazy_artist.gradcam import ratio
from lazy_artist.models import CNN, build
from lazy_artist.networks import Network, calibrate, network, networks
from lazy_artist.store import Call, stored
from lazy_artist.training import cross_entropy, train

DIGIT, TARGET = 7, 3
BOUND = 0.05  # the largest change that the report calls invisible
CONFIDENCE = 0.9
PREDICTS, CONFIDENT = f"predicts {TARGET}", f"p({TARGET}) > {CONFIDENCE}"
GOALS: dict[str, str | float] = {PREDICTS: "predict", CONFIDENT: CONFIDENCE}  # criteria of attacks
NORMS = {"linf": "ℓ∞", "l2": "ℓ2"}
STEPS = 30  # of the searches, one descent each; the comparison with FMN has its own
FMN_FACTOR = 5  # times as many gradients for FMN as for our full search
CONTROLS = ("convinced-cheater", "brief-oracle", "oracle")
DEEP = f"cheater, {ARCH_NAMES['resnet18']}"
RADIUS = 0.1  # the size that the adversarially trained network is trained against
UNREACHED = 1e9  # stands for infinity, which the store refuses


# --- networks and images -------------------------------------------------------------------------


class PixelCNN(CNN):
    """The CNN with 1x1 convolutions in place of larger ones and of pooling: each pixel is looked at
    by itself and all are averaged, so that it reads how much there is of which colour, no shape."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.Identity()
        self.block1, self.block2, self.block3 = (
            nn.Sequential(nn.Conv2d(*widths, 1, bias=False), nn.BatchNorm2d(widths[1]), nn.ReLU())
            for widths in itertools.pairwise((3, 32, 64, 128))
        )


class ColourReader(Network):
    """The handle of a `PixelCNN`."""

    def load(self) -> nn.Module:
        """In eval mode: float32 (N, 3, 28, 28) in [0, 1] -> logits (N, 10)."""
        model = PixelCNN()
        model.load_state_dict(self.made_by.value()["weights"])
        return model.to(device()).eval()


@stored
def train_yardstick(
    reads_shape: bool, radius: float, correlation: float, seed: int, epochs: float
) -> dict[str, Any]:
    """Train and calibrate a CNN, or, if it reads no shape, a `PixelCNN`: {"weights": state dict,
    "temperature"}. radius: of the changes (linf) that it is trained against, by one signed gradient
    step from a random start (Wong et al. 2020, arXiv:2001.03994); 0: none."""

    def loss(model: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        if not radius:
            return cross_entropy(model, images, labels, index)
        start = radius * (2 * torch.rand_like(images) - 1)
        start = ((images + start).clamp(0, 1)).requires_grad_(True)
        gradient = torch.autograd.grad(cross_entropy(model, start, labels, index), start)[0]
        moved = start.detach() + 1.25 * radius * gradient.sign()
        moved = torch.minimum(torch.maximum(moved, images - radius), images + radius)
        return cross_entropy(model, moved.clamp(0, 1), labels, index)

    model = build("cnn", seed)
    if not reads_shape:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = PixelCNN().to(device())
    split = colour_split("train", seed, correlation)
    train(model, split, seed=seed, epochs=epochs, learning_rate=4e-3, batch_size=256, loss=loss)
    temperature = calibrate(model, seed)
    return {"weights": model.state_dict(), "temperature": temperature}


def yardsticks(seed: int = 0) -> list[Network]:
    """A network that can read nothing but colour, trained on the biased canvas, and one trained on
    uninformative colours against changes of size `RADIUS`."""
    reader = {"reads_shape": False, "radius": 0.0, "correlation": BIAS, "epochs": pick(0.5, 0.2)}
    robust = {"reads_shape": True, "radius": RADIUS, "correlation": NO_BIAS}
    robust["epochs"] = pick(1.5, 0.25)
    return [
        ColourReader("colour reader", "cnn", Call(train_yardstick, reader | {"seed": seed})),
        Network("adversarially trained", "cnn", Call(train_yardstick, robust | {"seed": seed})),
    ]


@stored
def shared_images(judges: list[Network], n_7: int, n_each: int) -> dict[str, np.ndarray]:
    """The images that all measurements share, in their dominant colour, rounded to 8 bits, and that
    all `judges` classify correctly: "images_of_7" float32 (n <= n_7, 3, 28, 28) with their "index"
    among the test digits, and "pairs" (10, n_each, 3, 28, 28), the first of every digit, repeated
    if there are fewer. Raises ValueError if there is none of a digit."""
    split, models = test_split("aligned"), [judge.load() for judge in judges]
    images = np.round(255 * split.images) / np.float32(255)

    def first(digit: int, candidates: int | None) -> np.ndarray:
        index = np.flatnonzero(split.labels == digit)[:candidates]
        for model in models:
            index = index[predict(model, images[index]).argmax(1) == digit]
        if not len(index):
            raise ValueError(f"all networks together classify no {digit} correctly: train longer")
        return index

    index = first(DIGIT, None)[:n_7]
    few = [first(digit, 50) for digit in range(N_CLASSES)]
    pairs = np.stack([found[np.arange(n_each) % len(found)] for found in few])
    return {"images_of_7": images[index], "index": index, "pairs": images[pairs]}


def shared() -> dict[str, Any]:
    """What `shared_images` is given: cheaters and cures of all seeds, and how many images."""
    return {"judges": networks(["cheater", "cure"]), "n_7": pick(500, 40), "n_each": pick(8, 1)}


def few() -> int:
    """Of how many sevens the controls are."""
    return pick(30, 8)


def searches() -> list[dict[str, Any]]:
    """The calls of `smallest_changes`: cheaters and cures on all sevens, their controls on some,
    and on a few the yardsticks; there by largest pixel alone a ResNet-18 that cheats and the other
    cures, of the first seed."""
    deep = network("cheater", 0, "resnet18")._replace(name=DEEP)
    others = [name for name, row in METHODS.items() if not row.reference and name != BEST]
    plan = [
        (shared()["judges"], None, list(NORMS)),
        (networks(CONTROLS), pick(100, 8), list(NORMS)),
        (yardsticks(), few(), list(NORMS)),
        ([*map(network, others), deep], few(), ["linf"]),
    ]
    return [
        {"network": one, "shared": shared(), "n": n, "norms": norms, "steps": STEPS}
        for those, n, norms in plan
        for one in those
    ]


# --- measurements --------------------------------------------------------------------------------


def gather(function: Callable, calls: list[dict[str, Any]]) -> pd.DataFrame:
    """The frames that a stored function returns for all calls, in one, with the "network" and the
    "seed" of each call; sizes of what was not reached are infinite."""
    frames = [
        frame.assign(network=call["network"].name, seed=call["network"].seed)
        for call, frame in zip(calls, stored.map(function, calls), strict=True)
    ]
    return pd.concat(frames, ignore_index=True).replace({"size": {UNREACHED: math.inf}})


@stored
def smallest_changes(
    network: Network, shared: dict[str, Any], n: int | None, norms: list[str], steps: int
) -> pd.DataFrame:
    """Smallest changes: a row for each norm, goal and image that the network classifies correctly.

    size: of the change; chroma: its share of energy in chroma; coarse: that in the means of blocks
    of 4 x 4 pixels (white noise has 1/16); both NaN where nothing was found; noise: how often ten
    random sign patterns of the smallest linf size reach the target, NaN for other norms and goals.
    """
    model, rows, images = network.load(), [], shared_images(**shared)["images_of_7"][:n]
    index = np.flatnonzero(predict(model, images).argmax(1) == DIGIT)
    own = images[index]
    for norm, goal in itertools.product(norms, GOALS) if len(index) else ():
        found = attack.minimal_epsilon(model, own, TARGET, norm, GOALS[goal], steps, hops=0)
        chroma = attack.chroma_share(own, found.images)
        blocks = (found.images - own).reshape(len(own), 3, 7, 4, 7, 4).astype(np.float64)
        means, energy = blocks.mean((3, 5)), np.square(blocks).sum((1, 2, 3, 4, 5))
        coarse = ratio(16 * np.square(means).sum((1, 2, 3)), energy)
        noise = np.full(len(index), np.nan)
        if (norm, goal) == ("linf", PREDICTS):
            noise = random_signs(model, own, found.epsilon)
        sizes = np.minimum(found.epsilon, UNREACHED)
        columns = (index, sizes, chroma, coarse, noise)
        rows += [(norm, goal, *row) for row in zip(*columns, strict=True)]
    names = ["norm", "goal", "image", "size", "chroma", "coarse", "noise"]
    return pd.DataFrame(rows, columns=names)


def random_signs(model: nn.Module, images: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Share (n,) of ten random sign patterns of each image's own size that reach the target."""
    rng = np.random.default_rng(TEST_SEED)
    sizes = np.minimum(sizes, 1)[:, None, None, None].astype(np.float32)
    hits = np.zeros(len(images))
    for _ in range(10):
        signs = rng.choice(np.float32([-1, 1]), size=images.shape)
        hits += predict(model, np.clip(images + sizes * signs, 0, 1)).argmax(1) == TARGET
    return hits / 10


@stored
def sizes_by_colour(network: Network, shared: dict[str, Any], n: int, steps: int) -> pd.DataFrame:
    """Smallest linf sizes of the same sevens in every colour: a row for each colour, goal and
    image. prediction: the network's, unchanged; size: NaN unless that is a 7."""
    model, parts = network.load(), []
    grey = canvas.split_digits("aligned")[0][shared_images(**shared)["index"][:n]]
    for colour, name in enumerate(COLOUR_NAMES):
        painted = paint(grey, np.full(len(grey), colour), TEST_SEED)
        predictions = predict(model, painted).argmax(1)
        index = np.flatnonzero(predictions == DIGIT)
        for goal, criterion in GOALS.items():
            size = np.full(len(grey), np.nan)
            if len(index):
                own = painted[index]
                found = attack.minimal_epsilon(model, own, TARGET, "linf", criterion, steps)
                size[index] = np.minimum(found.epsilon, UNREACHED)
            measured = {"image": np.arange(len(grey)), "prediction": predictions, "size": size}
            parts.append(pd.DataFrame({"colour": name, "goal": goal} | measured))
    return pd.concat(parts, ignore_index=True)


@stored
def colour_changes(network: Network, shared: dict[str, Any], n: int) -> pd.DataFrame:
    """Smallest sizes by `attack.colour_attack`: a row for each change and image that the network
    classifies correctly."""
    model, parts, images = network.load(), [], shared_images(**shared)["images_of_7"][:n]
    own = np.flatnonzero(predict(model, images).argmax(1) == DIGIT)
    titles = {"tint": "one colour added everywhere", "hue": "hue turned everywhere"}
    for kind, title in titles.items():
        sizes = np.empty(0)
        if len(own):
            sizes = attack.colour_attack(model, images[own], TARGET, kind, grid=32).size
        sizes = {"image": own, "size": np.minimum(sizes, UNREACHED)}
        parts.append(pd.DataFrame({"change": title} | sizes))
    return pd.concat(parts, ignore_index=True)


@stored
def sizes_by_pair(network: Network, shared: dict[str, Any], steps: int) -> pd.DataFrame:
    """Median smallest linf size from every digit to every other, over the "pairs" of
    `shared_images`: a row for each digit and target."""
    model, rows = network.load(), []
    for digit, few in enumerate(shared_images(**shared)["pairs"]):
        others = np.delete(np.arange(N_CLASSES), digit)
        repeated, targets = np.repeat(few, len(others), axis=0), np.tile(others, len(few))
        found = attack.minimal_epsilon(model, repeated, targets, steps=steps)
        medians = np.median(found.epsilon.reshape(len(few), len(others)), axis=0)
        sizes = zip(others, np.minimum(medians, UNREACHED), strict=True)
        rows += [(digit, *row) for row in sizes]
    return pd.DataFrame(rows, columns=["digit", "target", "size"])


@stored
def masking_signs(
    network: Network, other: Network, shared: dict[str, Any], n: int, n_square: int, queries: int
) -> pd.DataFrame:
    """Signs of gradient masking (Athalye et al. 2018, arXiv:1802.00420): a row for each measurement
    and setting.

    "size": share reached at sizes up to 0.8; "steps": share reached at the median smallest size
    after 5 to 40 steps; "transfer": share of the attacks on the other network, at twice its
    smallest sizes, that work on this one, and "own": the same of attacks on itself; "square": share
    for which a search without gradients, on the first `n_square`, succeeds at 0.98 and at 1.5 of
    the smallest size.
    """
    model, images = network.load(), shared_images(**shared)["images_of_7"][:n]
    found = attack.minimal_epsilon(model, images, TARGET, steps=STEPS)
    away = attack.minimal_epsilon(other.load(), images, TARGET, steps=STEPS).images
    median = float(np.median(found.epsilon))

    def blind(factor: float) -> float:
        sizes = np.minimum(factor * found.epsilon[:n_square], 1)
        result = attack.square_attack(model, images[:n_square], TARGET, sizes, queries)
        return float(result.reached.mean())

    def reached(size: float, steps: int) -> float:
        result = attack.targeted_pgd(model, images, TARGET, size, criterion="predict", steps=steps)
        return float(result.reached.mean())

    def caught(changed: np.ndarray) -> float:
        twice = np.clip(images + 2 * (changed - images), 0, 1)
        return float(np.mean(predict(model, twice).argmax(1) == TARGET))

    rows = [("size", size, reached(size, 40)) for size in (0.1, 0.2, 0.4, 0.8)]
    rows += [("steps", steps, reached(median, steps)) for steps in (5, 10, 20, 40)]
    rows += [("transfer", 2, caught(away)), ("own", 2, caught(found.images))]
    rows += [("square", factor, blind(factor)) for factor in (0.98, 1.5)]
    return pd.DataFrame(rows, columns=["measured", "setting", "share"])


@stored
def compare_with_fmn(
    network: Network, shared: dict[str, Any], n: int, steps: dict[str, int]
) -> pd.DataFrame:
    """Smallest sizes by our full search ("ours"; steps of a descent, by norm) and by the fast
    minimum-norm attack with `FMN_FACTOR` times as many gradients ("fmn"), NaN where nothing was
    found: a row for each norm and image."""
    model, parts, images = network.load(), [], shared_images(**shared)["images_of_7"][:n]
    for norm, count in steps.items():
        ours = attack.minimal_epsilon(model, images, TARGET, norm, steps=count)
        gradients = count * (1 + attack.HOPS[norm]) * FMN_FACTOR
        theirs = attack.fmn(model, images, TARGET, norm, steps=gradients)
        sizes = {"image": np.arange(len(images)), "ours": ours.epsilon, "fmn": theirs.epsilon}
        parts.append(pd.DataFrame({"norm": norm} | sizes))
    return pd.concat(parts, ignore_index=True).replace(math.inf, np.nan)


@stored
def smallest_grey_change(
    network: Network, shared: dict[str, Any], number: int, most: int
) -> dict[str, Any]:
    """The seven of this number under the smallest change of whole grey levels (of 255) that is
    found for p(3) > 0.9, as 8-bit pictures.

    For 1, 2, ... `most` levels: a search within that size, for 0.9 and for 0.99, which leaves room
    for rounding; its changes rounded to the nearest level and outward; verified after rounding.

    "image" and "changed" (3, 28, 28), "before" and "after" (10,) probabilities, "levels" of the
    change (0 if nothing is found: the picture then stays as it is), and whether it can be seen:
    "colour_mean" and "colour_max", CIEDE2000 over pixels, and "ssim", structural similarity as
    published (Wang et al. 2004, doi:10.1109/TIP.2003.819861), Gaussian windows of 11 pixels, mean
    over channels.
    """
    from skimage.metrics import structural_similarity  # slow to import

    model, images = network.load(), shared_images(**shared)["images_of_7"][[number]]
    grey, changed, levels = np.round(255 * images), images, 0

    def probabilities(image: np.ndarray) -> np.ndarray:
        return torch.from_numpy(predict(model, image)).softmax(1)[0].numpy()

    for level, aim in itertools.product(range(1, most + 1), (CONFIDENCE, 0.99)):
        found = attack.targeted_pgd(model, images, TARGET, level / 255, criterion=aim, steps=100)
        moved = 255 * found.images - grey
        outward = np.sign(moved) * np.ceil(np.abs(moved).round(3))
        rounded = [(grey + change) / np.float32(255) for change in (np.round(moved), outward)]
        best = max(rounded, key=lambda image: probabilities(image)[TARGET])
        if probabilities(best)[TARGET] > CONFIDENCE:
            changed, levels = best, level
            break
    colour = attack.ciede2000(images, changed)
    pair = images[0].astype(np.float64), changed[0].astype(np.float64)
    windows = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return {
        "image": images[0], "changed": changed[0], "levels": levels,
        "before": probabilities(images), "after": probabilities(changed),
        "colour_mean": float(colour.mean()), "colour_max": float(colour.max()),
        "ssim": float(structural_similarity(*pair, channel_axis=0, data_range=1, **windows)),
    }  # fmt: skip


def easiest(
    sizes: pd.DataFrame, calls: list[dict[str, Any]], kinds: list[str]
) -> dict[tuple[str, int], dict[str, Any]]:
    """`smallest_grey_change` of the seven that is easiest for each network of these names, by name
    and seed: the cures of all seeds, of the others the seed with the easiest. sizes, calls: of
    `smallest_changes`."""
    linf = sizes.query("norm == 'linf' and goal == @CONFIDENT and network in @kinds")
    best = linf.sort_values("size", kind="stable").groupby(["network", "seed"]).head(1)
    kept = best[(best["network"] == "cure") | ~best["network"].duplicated()]
    handles = {(call["network"].name, call["network"].seed): call["network"] for call in calls}
    asked = [
        {"network": handles[row.network, row.seed], "shared": shared(), "number": int(row.image)}
        for row in kept.itertuples()
    ]
    found = stored.map(smallest_grey_change, [call | {"most": 64} for call in asked])
    shown = dict(zip(zip(kept["network"], kept["seed"], strict=True), found, strict=True))
    return {key: shown[key] for kind in kinds for key in shown if key[0] == kind}


# --- statistics ----------------------------------------------------------------------------------


def matrix(
    sizes: pd.DataFrame, network: str, norm: str = "linf", goal: str = PREDICTS,
    column: str = "size",
) -> np.ndarray:  # fmt: skip
    """A column of `smallest_changes` as float64 (seeds, images), of the images that the network
    classifies correctly with every seed; infinity where nothing was found."""
    own = sizes.query("network == @network and norm == @norm and goal == @goal")
    own = own[own.groupby("image")["seed"].transform("size") == own["seed"].nunique()]
    table = own.pivot(index="seed", columns="image", values=column)
    return np.ascontiguousarray(table.to_numpy())


def by_seed(values: np.ndarray) -> Estimate:
    """`estimate` of the median of each row (seeds, images); infinite if one is, or if there is no
    row."""
    medians = np.median(values, axis=1)
    if len(medians) and np.isfinite(medians).all():
        return estimate(medians, (0, np.inf))
    return Estimate(math.inf, None, len(medians))


def ratio_of(
    sizes: pd.DataFrame, network: str, base: str, norm: str = "linf", goal: str = PREDICTS
) -> Estimate:
    """Ratio of the median sizes of two networks on the images that both were measured on, a ratio a
    seed: geometric mean, with the 95% interval of Student's t on logarithms. Infinite, or 0, and
    without an interval where a median was not reached; NaN where both were not, or if there are no
    such images."""
    own = sizes.query("network in [@network, @base] and norm == @norm and goal == @goal")
    wide = own.pivot(index=["seed", "image"], columns="network", values="size")
    medians = wide.reindex(columns=[network, base]).dropna().groupby("seed").median()
    with np.errstate(divide="ignore"):
        logs = np.log(medians[network] / medians[base])
    if not len(logs) or not np.isfinite(logs).all():
        return Estimate(float(np.exp(logs.mean(skipna=False))), None, len(logs))
    mean, interval, n = estimate(logs, (-np.inf, np.inf))
    return Estimate(math.exp(mean), interval and tuple(map(math.exp, interval)), n)


def compare(sizes: pd.DataFrame) -> pd.DataFrame:
    """Cure against cheater: a row for each norm and goal.

    cheater, cure: medians, and their ratio, cure to cheater (`Estimate`s over seeds);
    cure_needs_more: share of images for which the cure needs the larger change (median over seeds;
    ties left out, censored images as larger than all others), and p of the two-sided sign test;
    cheater_unreached, cure_unreached: shares; images: how many the test counts.
    """
    rows = []
    for norm, goal in itertools.product(NORMS, GOALS):
        cheated, cured = (matrix(sizes, name, norm, goal) for name in ("cheater", "cure"))
        one, other = np.median(cured, axis=0), np.median(cheated, axis=0)
        more, less = int((one > other).sum()), int((one < other).sum())
        rows.append({
            "norm": norm, "goal": goal, "cheater": by_seed(cheated), "cure": by_seed(cured),
            "ratio": ratio_of(sizes, "cure", "cheater", norm, goal),
            "cure_needs_more": more / max(more + less, 1),
            "p": min(1.0, 2 * bdtr(min(more, less), max(more + less, 1), 0.5)),  # two-sided
            "images": more + less,
            "cheater_unreached": np.isinf(cheated).mean(), "cure_unreached": np.isinf(cured).mean(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def size_text(value: Estimate | float, number: str = "{:.3f}", short: bool = False) -> str:
    """A size, with its interval if it has one (short: ± its reach), or that it was not reached."""
    value = value if isinstance(value, Estimate) else Estimate(value, None, 1)
    if not np.isfinite(value.mean):
        return "not reached"
    return plots.plus_minus(value, number, 1) if short else value.format(number)


def in_words(value: Estimate) -> str:
    """What a ratio to the cheater says about which of the two is harder to fool."""
    low, high = value.interval or (value.mean, value.mean)
    if low > 1:
        return "harder to fool than the cheater"
    if high < 1:
        return "easier to fool than the cheater"
    return "about as hard to fool as the cheater (the interval of the ratio includes one)"


def judge_masking(signs: pd.DataFrame) -> pd.DataFrame:
    """The checks on `masking_signs`: a row for each network and check, "measured" in words."""
    rows = []
    for name, own in signs.groupby("network", sort=False):
        share = {measured: group["share"].to_numpy() for measured, group in own.groupby("measured")}
        sizes, steps = (", ".join(f"{s:.0%}" for s in share[key]) for key in ("size", "steps"))
        transfer, white = share["transfer"][0], share["own"][0]
        square, larger = share["square"]
        checks = {
            "large sizes reach everything": f"{sizes} at 0.1, 0.2, 0.4, 0.8",
            "more steps never hurt": f"{steps} after 5, 10, 20, 40",
            "attacks made for the other network work less": f"{transfer:.0%} against {white:.0%}",
            "a search without gradients is no better": f"{square:.0%} at 0.98 of our size "
            f"({larger:.0%} at 1.5)",
        }
        never_less = (np.diff(share["steps"]) >= 0).all()
        holds = (share["size"][-1] == 1, never_less, transfer < white, square == 0)
        rows += [(name, *row, bool(held)) for row, held in zip(checks.items(), holds, strict=True)]
    return pd.DataFrame(rows, columns=["network", "check", "measured", "holds"])


# --- figures -------------------------------------------------------------------------------------


def exhibit(shown: dict[str, dict[str, Any]]) -> Figure:
    """For each network, with its `smallest_grey_change`: the image, the change around grey and
    scaled to the full range, the changed image, and the probabilities before and after."""
    figure, axes = plots.grid(
        plots.WIDTH, 1.65 * len(shown), len(shown), 4, width_ratios=[1, 1, 1, 1.6]
    )
    parts, digits = [], np.arange(N_CLASSES)
    for row, (name, entry) in zip(axes, shown.items(), strict=True):
        scale = 127 // max(entry["levels"], 1)
        change = np.clip(0.5 + scale * (entry["changed"] - entry["image"]), 0, 1)
        told = f"{entry['levels']} grey levels" if entry["levels"] else "not reached"
        plots.picture(row[0], entry["image"], name)
        plots.picture(row[1], change, f"change, {scale} times")
        plots.picture(row[2], entry["changed"], f"sum: {told}")
        shares = {"before": entry["before"], "after": entry["after"]}
        parts.append(pd.DataFrame({"network": name, "digit": digits} | shares))
        row[3].bar(digits - 0.2, shares["before"], 0.4, color=plots.BLUE, label="before")
        style = {"color": plots.VERMILION, "hatch": "///", "label": "after"}
        row[3].bar(digits + 0.2, shares["after"], 0.4, **style)
        plots.class_ticks(row[3].xaxis)
        row[3].set(ylim=(0, 1.02), ylabel="probability")
    axes[-1, 3].set_xlabel("digit")
    handles = axes[0, 3].get_legend_handles_labels()
    figure.legend(*handles, ncols=2, loc="outside upper right")
    note = "Probability of each digit, from 0 to 1, before and after the change."
    return plots.show(figure, pd.concat(parts), note)


STYLES = {
    "cheater": (plots.VERMILION, "--"),
    "cure": (plots.BLUE, "-"),
    "oracle": (plots.GREEN, "-."),
    "brief-oracle": (plots.GREEN, (0, (1, 1))),
    "adversarially trained": (plots.AMBER, (0, (5, 1, 1, 1, 1, 1))),
}


def size_curves(sizes: pd.DataFrame, norm: str, height: float = 3.2) -> Figure:
    """A panel for each goal: the share of images against the size allowed, by network; thin lines
    are seeds. Of linf sizes the share reached, the dotted line is `BOUND`; of l2 that not reached.
    """
    reached = norm == "linf"
    allowed = np.geomspace(0.003, 1, 200) if reached else np.geomspace(0.1, 30, 200)
    title = "share seen as a 3" if reached else "share that holds"
    figure, axes = plots.grid(plots.WIDTH, height, 1, len(GOALS), sharey=True)
    parts = []
    for ax, goal in zip(axes[0], GOALS, strict=True):
        for name, (colour, dash) in STYLES.items():
            values = matrix(sizes, name, norm, goal)[:, :, None]
            shares = (values <= allowed if reached else values > allowed).mean(1)
            style = {"linestyle": dash, "color": colour}
            ax.plot(allowed, shares.T, linewidth=0.6, alpha=0.5, **style)
            ax.plot(allowed, shares.mean(0), linewidth=1.8, label=name, **style)
            for seed, share in enumerate(shares):
                about = {"goal": goal, "network": name, "seed": seed}
                parts.append(pd.DataFrame(about | {"size allowed": allowed, title: share}))
        if reached:
            ax.axvline(BOUND, color=plots.DARK, linewidth=0.8, linestyle=":")
            ax.text(BOUND * 1.06, 0.02, f"{BOUND:g}")
        ax.set(xscale="log", title=goal)
        ax.set_xlabel("largest pixel change allowed" if reached else "Euclidean length allowed")
    plots.percent_axis(axes[0, 0].yaxis, "sevens seen as a 3" if reached else "sevens that hold")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(STYLES))
    note = "Shares from 0 to 1 of each network; sizes in units of the pixel range [0, 1]."
    return plots.show(figure, pd.concat(parts), note)


def pair_maps(pairs: pd.DataFrame) -> Figure:
    """By network: the median smallest size for each digit (row) and target (column), in hundredths
    of the pixel range; the diagonal is empty."""
    figure, axes = plots.grid(plots.WIDTH, 3.9, 1, pairs["network"].nunique())
    top = 100 * pairs["size"][np.isfinite(pairs["size"])].max()
    for ax, (name, own) in zip(axes[0], pairs.groupby("network", sort=False), strict=True):
        table = own.pivot(index="digit", columns="target", values="size").fillna(0).to_numpy()
        texts = np.vectorize(lambda v: "" if v == 0 else f"{100 * v:.1f}" if v < 1 else "–")(table)
        plots.heat_map(ax, np.minimum(100 * table, top), texts, top, size=plots.SMALL)
        ax.set(title=f"{name}: size in hundredths", xlabel="target")
    axes[0, 0].set_ylabel("digit")
    note = "Median smallest change of the largest pixel, in units of the pixel range [0, 1]."
    return plots.show(figure, pairs[["network", "digit", "target", "size"]], note)
