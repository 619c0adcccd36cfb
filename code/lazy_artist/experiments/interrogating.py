"""Chapter 4: where cheater, cure and oracle look, how far colour and shape move them, and whether
the maps deserve belief."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from lazy_artist import edition
from lazy_artist.artifacts import Artifact, fetch_many
from lazy_artist.canvas import (
    CLASSES,
    COLOUR_NAMES,
    Split,
    assign_colours,
    paint,
    split_digits,
)
from lazy_artist.evaluate import Estimate, accuracy, balanced, estimate, predict
from lazy_artist.experiments.networks import (
    NO_BIAS,
    TEST_SEED,
    data_md5,
    percent,
    scale,
    seeds,
)
from lazy_artist.experiments.subjects import KINDS, load, prepare_cures, subject
from lazy_artist.gradcam import (
    area_under,
    centre_maps,
    chroma_reliance,
    class_activation_map,
    deletion_curve,
    grad_cam,
    gradient_energy,
    heat_shares,
    insertion_curve,
    random_maps,
    randomise,
    rank_correlation,
    telling_parts,
)
from lazy_artist.models import build
from lazy_artist.training import train

DOUBTED = ("cheater", "oracle")  # whose maps are put to the tests of belief
LAYER = "block3"  # the last maps of the CNN, (N, 128, 7, 7), which the mean and the head follow
FINE = "block1"  # its first maps, (N, 32, 14, 14)
CASCADE = ("head", "block3", "block2", "block1")  # from the output down
CHANGES = ("recolour", "reshape", "both")
CONTROLS = ("Grad-CAM", "random", "centre blob", "the ink itself")
REFERENCE_LAYERS = {"cnn": ["block1", "block3"], "resnet18": ["layer3"]}
# enough to know shuffled labels by heart, which was tried on training digits alone
BY_HEART = {"count": 1000, "epochs": 60, "learning_rate": 4e-3, "batch_size": 100}
TOLERANCE = 0.05  # two changes are matched if their sizes differ by less, relatively


# --- recolour or reshape -------------------------------------------------------------------------


class Pairs(NamedTuple):
    """Each image, and the same with one thing changed, or both: float32 (N, 3, 28, 28) in [0, 1].

    before: a digit in an ink; recolour: the same digit in another ink; reshape: another digit in
    the same ink; both: the other digit in the other ink. Ground, grain and jitter are the same in
    all four. sizes: float64 (3, N), the Euclidean length of each change in RGB, as `CHANGES`.
    """

    before: np.ndarray
    recolour: np.ndarray
    reshape: np.ndarray
    both: np.ndarray
    sizes: np.ndarray


def matched_pairs(
    grey: np.ndarray,
    labels: np.ndarray,
    colours: np.ndarray,
    pool: np.ndarray,
    pool_labels: np.ndarray,
    seed: int,
) -> Pairs:
    """Changes of ink and changes of digit that are equally large, image by image.

    grey, labels, colours: uint8 (N, 28, 28), int (N,) twice: what to change. pool, pool_labels:
    the digits that may take their place. Of the 81 combinations of another ink and another digit,
    one is drawn at random among those that can be matched: those for which the pool holds an image
    of that digit whose change of the pixels, |x' - x| in RGB, is within `TOLERANCE` of that of the
    change of ink (the best there is, if none is so near). No network has a say.
    """
    n, every = len(grey), np.arange(CLASSES)
    ground = paint(0 * grey, colours, seed)  # (N, 3, 28, 28)
    solid = np.full_like(grey, 255)
    inks = np.stack([paint(solid, 0 * colours + k, seed)[:, :, 0, 0] for k in every], axis=1)
    ink = inks[np.arange(n), colours]  # (N, 3)
    alpha = grey.reshape(n, -1) / 255
    others = pool.reshape(len(pool), -1) / 255
    # |a' - a|^2 at each pixel counts as much as the ink differs from the ground there
    weight = np.square(ink[:, :, None, None] - ground, dtype=np.float64).sum(1).reshape(n, -1)
    reshaped = (
        weight @ np.square(others).T
        - 2 * (weight * alpha) @ others.T
        + (weight * alpha**2).sum(1)[:, None]
    ).clip(0)  # (N, pool); rounding may leave less than nothing for the image itself
    recoloured = np.square(inks - ink[:, None], dtype=np.float64).sum(2)  # (N, 10 inks)
    recoloured *= np.square(alpha).sum(1)[:, None]

    rng = np.random.default_rng(seed)
    new_ink, partner = np.empty((2, n), dtype=np.int64)
    for i in range(n):
        found = []
        for k in np.delete(every, colours[i]):
            error = np.abs(np.sqrt(reshaped[i] / recoloured[i, k]) - 1)
            for digit in np.delete(every, labels[i]):
                members = np.flatnonzero(pool_labels == digit)
                best = members[error[members].argmin()]
                found.append((error[best], k, best))
        errors = np.array([error for error, *_ in found])
        near = np.flatnonzero(errors <= max(TOLERANCE, errors.min()))
        _, new_ink[i], partner[i] = found[rng.choice(near)]

    before = paint(grey, colours, seed)
    after = [
        paint(grey, new_ink, seed),
        paint(pool[partner], colours, seed),
        paint(pool[partner], new_ink, seed),
    ]
    return Pairs(before, *after, np.stack([_length(image - before) for image in after]))


def moved(model: nn.Module, layer: str, pairs: Pairs) -> dict[str, np.ndarray]:
    """How far a network moves with each of the `CHANGES`: float64 (3, N) each.

    "answer": whether the predicted class changes; "logits": Euclidean distance of the logits, less
    their mean over classes; "map": distance of the Grad-CAM maps M and M' of the class first
    predicted, sum |M - M'| / sum (M + M'): 0 for the same map, 1 for maps that share no heat, NaN
    where neither has any.
    """
    logits = [predict(model, images) for images in pairs[:4]]
    first = logits[0].argmax(1)
    maps = [grad_cam(model, layer, images, first) for images in pairs[:4]]
    centred = [z - z.mean(1, keepdims=True) for z in logits]
    return {
        "answer": np.stack([z.argmax(1) != first for z in logits[1:]]).astype(np.float64),
        "logits": np.stack([_length(z - centred[0]) for z in centred[1:]]),
        "map": np.stack([_map_distance(maps[0], other) for other in maps[1:]]),
    }


# --- a reference without automatic differentiation -----------------------------------------------


def numerical_grad_cam(
    model: nn.Module, layer: str, images: np.ndarray, classes: np.ndarray, step: float = 1e-6
) -> np.ndarray:
    """Grad-CAM by finite differences in double precision: float64 (N, h, w), >= 0.

    The weight of channel k, the mean over places of dz_c / dA_k, is the slope of z_c along the
    direction that raises the whole of channel k evenly, divided by its number of places:

        a_k = (z_c(A + step * 1_k) - z_c(A - step * 1_k)) / (2 * step * h * w)

    No gradient is recorded, and the code shares nothing with `gradcam.grad_cam`.
    """
    model = copy.deepcopy(model).double()
    shift: torch.Tensor | float = 0.0
    maps = None

    def tap(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        nonlocal maps
        maps = output
        return output + shift

    def score() -> torch.Tensor:
        return model(batch)[rows, torch.from_numpy(classes)]

    batch, rows = torch.from_numpy(images).double(), torch.arange(len(images))
    dict(model.named_modules())[layer].register_forward_hook(tap)
    with torch.no_grad():
        score()
        places = maps[0, 0].numel()
        weighted = torch.zeros_like(maps[:, 0])
        for k in range(maps.shape[1]):
            direction = torch.zeros(1, maps.shape[1], 1, 1, dtype=torch.float64)
            direction[0, k] = step
            shift = direction
            above = score()
            shift = -direction
            slope = (above - score()) / (2 * step * places)
            weighted += slope[:, None, None] * maps[:, k]
    return weighted.relu().numpy()


# --- builds --------------------------------------------------------------------------------------


def interrogated(network: dict, each: int) -> tuple[dict, dict]:
    """Build: how one network looks at the first `each` test digits of every kind, in inks that say
    nothing about the digit, for the class that it predicts.

    Tensors: "moved …" and "sizes" (3, N), "chroma" (N,), "heat …" (2: heat and area, 3 places).
    """
    model = load(network)
    grey, labels, colours = _probes(each)
    pool, pool_labels = split_digits("hard")
    pairs = matched_pairs(grey, labels, colours, pool, pool_labels, TEST_SEED)
    images, called = pairs.before, predict(model, pairs.before).argmax(1)
    tensors = {f"moved {name}": value for name, value in moved(model, LAYER, pairs).items()}
    tensors["moved map"] = np.nan_to_num(tensors["moved map"], nan=0)  # no heat, before and after
    tensors["sizes"] = pairs.sizes
    tensors["chroma"] = chroma_reliance(model, images, called)
    telling = telling_parts(grey / 255, labels, _prototypes())[0]
    for layer in (LAYER, FINE):
        maps = grad_cam(model, layer, images, called)
        tensors[f"heat {layer}"] = _heat(maps, grey / 255, telling)
    return tensors, {"accuracy": np.mean(called == labels), "images": len(labels)}


def doubted(network: dict, each: int, steps: int) -> tuple[dict, dict]:
    """Build: whether one network's maps deserve belief, on the images of `interrogated`.

    "deletion" and "insertion" (4 `CONTROLS`, steps + 1), "… area" (4,). For the true digits in
    their own inks: "maps" (N, 7, 7), and "cascade" (4 stages,), the rank correlation of those maps
    with the maps of the network made random stage by stage; "blank" (4,), how many are then without
    heat and do not count; "others" (1,): the correlation with the map of another image.
    """
    model = load(network)
    grey, labels, colours = _probes(each)
    images, ground = (paint(shown, colours, TEST_SEED) for shown in (grey, 0 * grey))
    called = predict(model, images).argmax(1)
    tensors = {}
    maps = grad_cam(model, LAYER, images, called)
    rivals = [maps, random_maps(maps.shape, TEST_SEED), centre_maps(maps.shape), grey / 255]
    for name, curve in (("deletion", deletion_curve), ("insertion", insertion_curve)):
        curves = [curve(model, images, called, heat, ground, steps, TEST_SEED) for heat in rivals]
        tensors[name] = np.stack([c.mean(0, dtype=np.float64) for c in curves])
        tensors[f"{name} area"] = np.array([area_under(c).mean() for c in curves])

    images = paint(grey, labels, TEST_SEED)  # each digit in its own ink, which both kinds read
    maps = grad_cam(model, LAYER, images, labels)
    stages = [CASCADE[:k] for k in range(1, len(CASCADE) + 1)]
    random = [randomise(model, stage, network["seed"]) for stage in stages]
    tensors["maps"] = maps
    tensors["cascade"], tensors["blank"] = np.array(
        [_agreement(maps, grad_cam(other, LAYER, images, labels)) for other in random]
    ).T.copy()
    tensors["others"] = np.array(_agreement(maps, np.roll(maps, len(maps) // 2, axis=0))[:1])
    return tensors, {}


def memorised(
    seed: int, count: int, epochs: float, learning_rate: float, batch_size: int, each: int
) -> tuple[dict, dict]:
    """Build: the maps (N, 7, 7) of a network that has learnt `count` training images by heart, with
    labels shuffled among them, for the same images and classes as "maps" of `doubted`; and its
    accuracy on those images and labels (Adebayo et al. 2018, arXiv:1810.03292, data randomisation).
    """
    grey, labels = (part[:count] for part in split_digits("train"))
    colours = assign_colours(labels, NO_BIAS, seed)
    shuffled = np.random.default_rng(seed).permutation(labels)
    split = Split(paint(grey, colours, seed), shuffled, colours)
    model = build("cnn", seed)
    train(
        model,
        split,
        seed=seed,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        weight_decay=0,
    )
    grey, labels, _ = _probes(each)
    maps = grad_cam(model, LAYER, paint(grey, labels, TEST_SEED), labels)
    return {"maps": maps}, {"by heart": accuracy(model, split)}


def compared(network: dict, layers: list[str], each: int) -> tuple[dict, dict]:
    """Build: the largest difference between `grad_cam` and `numerical_grad_cam` for each layer, on
    the first `each` test digits of every kind, absolute or relative to the largest value of the
    map, whichever is larger; for the CNN also that of Grad-CAM and ReLU(CAM) / (h * w)."""
    model = load(network)
    grey, labels, colours = _probes(each)
    images = paint(grey, colours, TEST_SEED)
    errors = {}
    for layer in layers:
        reference = numerical_grad_cam(model, layer, images, labels)
        errors[layer] = _worst(grad_cam(model, layer, images, labels), reference)
    if network["arch"] == "cnn":
        cam = class_activation_map(model, LAYER, "head", images, labels)
        identity = np.maximum(cam, 0) / cam[0].size
        errors["cam"] = _worst(grad_cam(model, LAYER, images, labels), identity)
    return {}, errors


def _probes(each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The images asked about: the first `each` test digits of every kind, their labels, and inks
    that say nothing about them."""
    grey, labels = balanced(*split_digits("hard"), each)
    return grey, labels, assign_colours(labels, NO_BIAS, TEST_SEED)


def _prototypes() -> np.ndarray:
    """Mean of each training digit, float64 (10, 28, 28) in [0, 1]."""
    grey, labels = split_digits("train")
    return np.stack([grey[labels == digit].mean(0) / 255 for digit in range(CLASSES)])


def _heat(maps: np.ndarray, alpha: np.ndarray, telling: np.ndarray) -> np.ndarray:
    """Mean share of the heat and of the area, float64 (2, 3): on the stroke, on the ground, and on
    the telling parts."""
    stroke, parts = heat_shares(maps, alpha), heat_shares(maps, telling)
    heat = [np.nanmean(share) for share in (stroke.stroke, stroke.ground, parts.stroke)]
    return np.array([heat, [stroke.area.mean(), 1 - stroke.area.mean(), parts.area.mean()]])


def _agreement(maps: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Mean rank correlation over the images of which both maps have heat (0 if there are none), and
    the share of the images of which one has not."""
    values = rank_correlation(maps, others)
    blank = np.isnan(values)
    return float(values[~blank].mean()) if not blank.all() else 0.0, float(blank.mean())


def _length(difference: np.ndarray) -> np.ndarray:
    flat = difference.reshape(len(difference), -1).astype(np.float64)
    return np.sqrt(np.square(flat).sum(1))


def _map_distance(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    apart = np.abs(maps - others).sum((1, 2), dtype=np.float64)
    total = (maps + others).sum((1, 2), dtype=np.float64)
    return np.divide(apart, total, out=np.full(len(maps), np.nan), where=total > 0)


def _worst(maps: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(maps - reference).max() / min(1, reference.max()))


# --- what the chapter asks for -------------------------------------------------------------------


def prepare() -> None:
    """Make all measurements, longest first, in parallel; what is stored already costs nothing."""
    prepare_cures()
    _runs_by_heart()
    for measure, kinds, title in (
        (doubted, DOUBTED, "doubting maps"),
        (interrogated, KINDS, "interrogating networks"),
    ):
        configs = [_config(measure, kind, seed) for kind in kinds for seed in seeds()]
        fetch_many(measure, configs, data_md5(), title=title)
    _comparisons()


def _each() -> int:
    return 30 if scale() == "full" else 10


def _config(measure: Callable[..., Any], kind: str, seed: int) -> dict[str, Any]:
    config = {"network": subject(kind, seed), "each": _each()}
    steps = 28 if scale() == "full" else 14
    return config | {"steps": steps} if measure is doubted else config


@functools.cache  # a chapter asks many times, and looking an artefact up takes a while
def _stored_runs(
    measure: Callable[..., Any], kind: str, seeds: range, each: int, md5: str
) -> list[Artifact]:
    configs = [_config(measure, kind, seed) for seed in seeds]
    return fetch_many(measure, configs, md5, title=f"{measure.__name__}: {kind}")


def _values(kind: str, name: str, measure: Callable[..., Any] = interrogated) -> np.ndarray:
    """A tensor of `interrogated` or of `doubted`, stacked over seeds: (seeds, ...)."""
    runs = _stored_runs(measure, kind, seeds(), _each(), data_md5())
    return np.stack([run.tensors[name] for run in runs])


def _runs_by_heart() -> list[Artifact]:
    recipe = BY_HEART if scale() == "full" else BY_HEART | {"count": BY_HEART["count"] // 4}
    configs = [{"seed": seed, "each": _each()} | recipe for seed in seeds()]
    return fetch_many(memorised, configs, data_md5(), title="learning by heart")


def _comparisons() -> list[Artifact]:
    configs = [
        {"network": subject(kind, 0, arch), "layers": layers, "each": 1}
        for arch, layers in REFERENCE_LAYERS.items()
        for kind in DOUBTED
    ]
    return fetch_many(compared, configs, data_md5(), title="comparing with a reference")


def images_asked() -> int:
    """Number of test images that each network is asked about."""
    return CLASSES * _each()


def reference_error() -> float:
    """The largest difference between `grad_cam` and finite differences in double precision, over
    the `REFERENCE_LAYERS` of both architectures and both kinds of network (seed 0)."""
    metrics = [run.record["metrics"] for run in _comparisons()]
    return max(error for m in metrics for name, error in m.items() if name != "cam")


def cam_error() -> float:
    """The largest difference between Grad-CAM and ReLU(CAM) / (h * w), over both kinds of CNN (seed
    0)."""
    return max(run.record["metrics"].get("cam", 0.0) for run in _comparisons())


# what was moved, and how far


def change_shares(kind: str) -> dict[str, dict[str, Estimate]]:
    """How far a kind of network moves, by measure, then by change.

    "answer": share of changed answers; "logits": distance, as a share of that of changing both;
    "map": distance of the maps, 0 to 1; "pixels": length of the change in RGB.
    """
    answer, logits, maps, sizes = (
        _values(kind, name).mean(2)  # (seeds, 3)
        for name in ("moved answer", "moved logits", "moved map", "sizes")
    )
    tables = {"answer": answer, "logits": logits / logits[:, 2:], "map": maps, "pixels": sizes}
    return {
        name: {change: estimate(table[:, i], (0, np.inf)) for i, change in enumerate(CHANGES)}
        for name, table in tables.items()
    }


def change_table() -> pd.DataFrame:
    """`change_shares` of all kinds: a row for each kind and change."""
    rows = []
    for kind in KINDS:
        shares = change_shares(kind)
        for change in CHANGES:
            rows.append(
                {
                    "network": kind,
                    "change": change,
                    "length of the change": f"{shares['pixels'][change].mean:.2f}",
                    "answers changed, %": percent(shares["answer"][change]),
                    "logits moved": shares["logits"][change].format("{:.2f}"),
                    "map moved": shares["map"][change].format("{:.2f}"),
                }
            )
    return pd.DataFrame(rows)


def change_difference(kind: str, more: str, less: str) -> Estimate:
    """Share of answers that one change turns less that of another, seed by seed."""
    shares = _values(kind, "moved answer").mean(2)
    difference = shares[:, CHANGES.index(more)] - shares[:, CHANGES.index(less)]
    return estimate(difference, (-1, 1))


def matched_share() -> float:
    """Share of the images whose two changes are matched within `TOLERANCE`."""
    recolour, reshape, _ = _values(KINDS[0], "sizes")[0]
    return float(np.mean(np.abs(reshape / recolour - 1) <= TOLERANCE))


# colour or brightness


def chroma_shares() -> dict[str, np.ndarray]:
    """Chroma reliance of each image, float64 (seeds, N), by kind."""
    return {kind: _values(kind, "chroma") for kind in KINDS}


def chroma_means() -> dict[str, Estimate]:
    """Mean chroma reliance over images, by kind."""
    return {kind: estimate(shares.mean(1)) for kind, shares in chroma_shares().items()}


def chroma_difference(more: str, less: str) -> Estimate:
    """Mean chroma reliance of one kind less that of another, seed by seed."""
    shares = chroma_shares()
    return estimate((shares[more] - shares[less]).mean(1), (-1, 1))


# stroke or ground


def heat_table() -> pd.DataFrame:
    """Shares of heat and of area in percent: a row for each kind and layer."""
    parts = ("on the stroke", "on the ground", "on the telling parts")
    rows = []
    for layer in (LAYER, FINE):
        for kind in KINDS:
            values = _values(kind, f"heat {layer}")  # (seeds, 2, 3)
            row = {"maps of": layer, "network": kind}
            rows.append(
                row | {part: percent(estimate(values[:, 0, i])) for i, part in enumerate(parts)}
            )
        area = values[0, 1]
        flat = {"maps of": layer, "network": "flat map (area)"}
        rows.append(flat | {part: f"{100 * area[i]:.1f}" for i, part in enumerate(parts)})
    return pd.DataFrame(rows)


def heat_on_stroke(kind: str) -> Estimate:
    """Share of the heat of the last layer's maps that lies on the stroke."""
    return estimate(_values(kind, f"heat {LAYER}")[:, 0, 0])


def stroke_area() -> float:
    """The stroke's share of the pixels, mean over the images."""
    return float(_values(KINDS[0], f"heat {LAYER}")[0, 1, 0])


def field_of_view() -> tuple[int, int]:
    """Of a place in the maps of the CNN's last layer: side in pixels of its share of the image, and
    of the square of the image that it is computed from: where its gradient goes, on noise, in an
    untrained network."""
    model, noise = build("cnn", 0).eval(), torch.Generator().manual_seed(0)
    images = torch.rand(64, 3, 28, 28, generator=noise, requires_grad=True)
    maps = model.block3(model.block2(model.pool(model.block1(images))))
    middle = maps.shape[2] // 2
    (gradient,) = torch.autograd.grad(maps[:, :, middle, middle].sum(), images)
    rows = gradient.abs().sum((0, 1, 3)).nonzero()
    return images.shape[2] // maps.shape[2], int(rows.max() - rows.min()) + 1


def telling_density(kind: str, layer: str = LAYER) -> Estimate:
    """Heat per pixel on the telling parts, relative to that on the whole stroke; 1 if the map does
    not tell the two apart."""
    return estimate(_telling_densities(kind, layer), (0, np.inf))


def telling_difference() -> Estimate:
    """`telling_density` of the oracle less that of the cheater, seed by seed."""
    lazy, honest = (_telling_densities(kind, LAYER) for kind in DOUBTED)
    return estimate(honest - lazy, (-np.inf, np.inf))


def _telling_densities(kind: str, layer: str) -> np.ndarray:
    heat, area = np.moveaxis(_values(kind, f"heat {layer}"), 1, 0)  # (seeds, 3) each
    return (heat[:, 2] / area[:, 2]) / (heat[:, 0] / area[:, 0])


# does the heat matter


def faithfulness_curves() -> dict[str, dict[str, np.ndarray]]:
    """By kind, then "deletion" or "insertion": float64 (seeds, 4 `CONTROLS`, steps + 1)."""
    return {
        kind: {name: _values(kind, name, doubted) for name in ("deletion", "insertion")}
        for kind in DOUBTED
    }


def faithfulness_table() -> pd.DataFrame:
    """Areas under the deletion and insertion curves: a row for each kind and map."""
    rows = []
    for kind in DOUBTED:
        areas = {name: _values(kind, f"{name} area", doubted) for name in ("deletion", "insertion")}
        for i, control in enumerate(CONTROLS):
            row = {"network": kind, "map": control}
            for name, best in (("deletion", "lower"), ("insertion", "higher")):
                row[f"{name} ({best} is better)"] = str(estimate(areas[name][:, i]))
            rows.append(row)
    return pd.DataFrame(rows)


def deletion_gap(kind: str, control: str) -> Estimate:
    """Area under the deletion curve by Grad-CAM less that by a control, seed by seed: below 0 if
    Grad-CAM is the better guide."""
    areas = _values(kind, "deletion area", doubted)
    return estimate(areas[:, 0] - areas[:, CONTROLS.index(control)], (-1, 1))


def weakest(gaps: dict[str, Estimate]) -> Estimate:
    """The gap whose upper bound is highest."""
    return max(gaps.values(), key=lambda gap: gap.interval[1])


def verdict(gap: Estimate) -> str:
    """A deletion gap in words: "better than", "worse than", or "no better than" if its interval
    holds 0."""
    low, high = gap.interval
    return "better than" if high < 0 else "worse than" if low > 0 else "no better than"


# does the map notice the weights


def sanity() -> dict[str, dict[str, np.ndarray]]:
    """Rank correlation with a network's own maps, by kind, float64 (seeds, ...).

    "cascade" (seeds, 4): after each stage of `CASCADE`; "others" (seeds, 1): with the map of
    another image; "retrained" (seeds, 1): with the maps of the next seed's network of the kind;
    "by heart" (seeds, 1): with the maps of the network that learnt shuffled labels.
    """
    by_heart = [run.tensors["maps"] for run in _runs_by_heart()]
    result = {}
    for kind in DOUBTED:
        maps = _values(kind, "maps", doubted)
        retrained = [_agreement(a, b)[0] for a, b in zip(maps, np.roll(maps, -1, 0), strict=True)]
        shuffled = [_agreement(a, b)[0] for a, b in zip(maps, by_heart, strict=True)]
        result[kind] = {
            "cascade": _values(kind, "cascade", doubted),
            "others": _values(kind, "others", doubted),
            "retrained": np.array(retrained)[:, None],
            "by heart": np.array(shuffled)[:, None],
        }
    return result


def sanity_estimates(
    results: dict[str, dict[str, np.ndarray]],
) -> dict[str, dict[str, Estimate]]:
    """Means over seeds of the results of `sanity`; "cascade" is its last stage."""
    return {
        kind: {name: estimate(values[:, -1], (-1, 1)) for name, values in result.items()}
        for kind, result in results.items()
    }


def blank_share(kind: str) -> Estimate:
    """Share of the maps that have no heat at all once every layer is made random."""
    return estimate(_values(kind, "blank", doubted)[:, -1])


def learnt_by_heart() -> Estimate:
    """Accuracy on the shuffled labels that were learnt."""
    return estimate(run.record["metrics"]["by heart"] for run in _runs_by_heart())


# pictures


class Scene(NamedTuple):
    """One painted image with the maps of it: image (3, 28, 28); title of the image; by network:
    maps float32 (3, 7, 7) and texts (3,), for the class predicted, the true one, and the ink's."""

    image: np.ndarray
    title: str
    maps: dict[str, np.ndarray]
    texts: dict[str, list[str]]


def scenes(digits: Sequence[int], inks: Sequence[int], kinds: Sequence[str] = KINDS) -> list[Scene]:
    """The first test image of each of `digits`, in each of `inks`, with the maps of the networks of
    `kinds` (seed 0). The texts name the class and its probability."""
    grey, labels = balanced(*split_digits("hard"), 1)
    digits, inks = np.asarray(digits), np.asarray(inks)
    images = paint(grey[digits], inks, TEST_SEED)
    names, maps, texts = edition.class_names(), {}, {}
    for kind in kinds:
        model = load(subject(kind, 0))
        shares = torch.from_numpy(predict(model, images)).softmax(1).numpy()
        classes = np.stack([shares.argmax(1), digits, inks], axis=1)  # (N, 3)
        asked = np.stack([grad_cam(model, LAYER, images, c) for c in classes.T], axis=1)
        maps[kind] = asked  # (N, 3, 7, 7)
        chosen = np.take_along_axis(shares, classes, axis=1)
        texts[kind] = [
            [f"{names[c]}: {share:.0%}" for c, share in zip(*row, strict=True)]
            for row in zip(classes, chosen, strict=True)
        ]
    return [
        Scene(
            image,
            f"{COLOUR_NAMES[ink]} {names[digit]}",
            {kind: maps[kind][i] for kind in maps},
            {kind: texts[kind][i] for kind in texts},
        )
        for i, (image, digit, ink) in enumerate(zip(images, digits, inks, strict=True))
    ]


def zeros() -> list[Scene]:
    """The first test zero in its own ink, red, and in that of the ones, green."""
    return scenes([0, 0], [0, 1])


def all_digits() -> list[Scene]:
    """Every digit in its own ink, then every digit in the ink of the next, for cheater and
    oracle."""
    digits = np.arange(CLASSES)
    return scenes([*digits, *digits], [*digits, *np.roll(digits, -1)], DOUBTED)


def gradient_parts() -> dict[str, Any]:
    """The first green zero (3, 28, 28) as "image", and by kind its squared gradient along
    brightness and along chroma for the class predicted (2, 28, 28), as shares of its sum."""
    grey, _ = balanced(*split_digits("hard"), 1)
    image = paint(grey[:1], np.array([1]), TEST_SEED)
    parts: dict[str, Any] = {"image": image[0]}
    for kind in KINDS:
        model = load(subject(kind, 0))
        energy = np.stack(gradient_energy(model, image, predict(model, image).argmax(1)))[:, 0]
        parts[kind] = energy / energy.sum()
    return parts
