"""Chapter 4: where cheater and oracle look, how far colour and shape move them, and whether the
maps deserve belief."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from lazy_artist.artifacts import Artifact, fetch, fetch_many
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
    ARCH_NAMES,
    NO_BIAS,
    TEST_SEED,
    cheater,
    data_md5,
    load_network,
    network_config,
    oracle,
    percent,
    scale,
    seeds,
)
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

KINDS = ("cheater", "oracle")
LAYER = "block3"  # the last maps of the CNN, (N, 128, 7, 7), which the mean and the head follow
FINE = "block1"  # its first maps, (N, 32, 14, 14)
CASCADE = ("head", "block3", "block2", "block1")  # from the output down
CHANGES = ("recolour", "reshape", "both")
CONTROLS = ("Grad-CAM", "random", "centre blob", "the ink itself")
REFERENCE_LAYERS = {"cnn": ("block1", "block2", "block3"), "resnet18": ("layer3", "layer4")}
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
    )  # (N, pool)
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
    model: nn.Module, layer: str, images: np.ndarray, classes: np.ndarray, step: float = 1e-5
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


def interrogated(network: dict, each: int, steps: int) -> tuple[dict, dict]:
    """Build: all measurements of one network, on the first `each` test digits of every kind, in
    inks that say nothing about the digit.

    Tensors: "moved …" and "sizes" (3, N), "chroma" (N,), "heat …" (3 shares, 3 areas), "deletion"
    and "insertion" (4 `CONTROLS`, steps + 1), "… area" (4,), "maps" (N, 7, 7) for the true digit,
    and "cascade" (4 stages,), the rank correlation of those maps with the maps of the network made
    random stage by stage; "others" (1,): with the map of another image.
    """
    model = load_network(network)
    grey, labels, colours = _probes(each)
    pool, pool_labels = split_digits("hard")
    pairs = matched_pairs(grey, labels, colours, pool, pool_labels, TEST_SEED)
    images, called = pairs.before, predict(model, pairs.before).argmax(1)
    alpha, ground = grey / 255, paint(0 * grey, colours, TEST_SEED)
    tensors = {f"moved {name}": value for name, value in moved(model, LAYER, pairs).items()}
    tensors["moved map"] = np.nan_to_num(tensors["moved map"], nan=0)  # no heat, before and after
    tensors["sizes"] = pairs.sizes
    tensors["chroma"] = chroma_reliance(model, images, called)

    prototypes = _prototypes()
    telling = telling_parts(alpha, labels, prototypes)[0]
    for layer in (LAYER, FINE):
        maps = grad_cam(model, layer, images, called)
        tensors[f"heat {layer}"] = _heat(maps, alpha, telling)

    maps = grad_cam(model, LAYER, images, called)
    rivals = [maps, random_maps(maps.shape, TEST_SEED), centre_maps(maps.shape), alpha]
    for name, curve in (("deletion", deletion_curve), ("insertion", insertion_curve)):
        curves = [curve(model, images, called, heat, ground, steps, TEST_SEED) for heat in rivals]
        tensors[name] = np.stack([c.mean(0, dtype=np.float64) for c in curves])
        tensors[f"{name} area"] = np.array([area_under(c).mean() for c in curves])

    maps = grad_cam(model, LAYER, images, labels)
    stages = [CASCADE[:k] for k in range(1, len(CASCADE) + 1)]
    random = [randomise(model, stage, network["seed"]) for stage in stages]
    tensors["maps"] = maps
    tensors["cascade"] = np.array(
        [_agreement(maps, grad_cam(other, LAYER, images, labels)) for other in random]
    )
    tensors["others"] = np.array([_agreement(maps, np.roll(maps, len(maps) // 2, axis=0))])
    return tensors, {"accuracy": np.mean(called == labels), "images": len(labels)}


def memorised(
    seed: int, count: int, epochs: float, learning_rate: float, batch_size: int, each: int
) -> tuple[dict, dict]:
    """Build: the maps (N, 7, 7) of a network that has learnt `count` training images by heart, with
    labels shuffled among them, for the same images and classes as "maps" of `interrogated`; and its
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
    grey, labels, colours = _probes(each)
    images = paint(grey, colours, TEST_SEED)
    maps = grad_cam(model, LAYER, images, labels)
    return {"maps": maps}, {"by heart": accuracy(model, split)}


def compared(network: dict, layers: list[str], each: int) -> tuple[dict, dict]:
    """Build: the largest difference between `grad_cam` and `numerical_grad_cam` for each layer, on
    the first `each` test digits of every kind, absolute or relative to the largest value of the
    map, whichever is larger; for the CNN also that of Grad-CAM and ReLU(CAM) / (h * w)."""
    model = load_network(network)
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


def _agreement(maps: np.ndarray, others: np.ndarray) -> float:
    """Mean rank correlation; images of which one map is constant count as 0: they do not agree."""
    return float(np.nan_to_num(rank_correlation(maps, others), nan=0).mean())


def _length(difference: np.ndarray) -> np.ndarray:
    flat = difference.reshape(len(difference), -1).astype(np.float64)
    return np.sqrt(np.square(flat).sum(1))


def _map_distance(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    apart = np.abs(maps - others).sum((1, 2), dtype=np.float64)
    total = (maps + others).sum((1, 2), dtype=np.float64)
    return np.divide(apart, total, out=np.full(len(maps), np.nan), where=total > 0)


def _worst(maps: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(maps - reference).max() / min(1, reference.max()))
