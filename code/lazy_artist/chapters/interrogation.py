"""Chapter 4: where cheater, cure and oracle look, how far colour and shape move them, and whether
the maps deserve belief.

Unless said otherwise a measurement is of the first `n_per_class` test digits of every kind, in
colours that say nothing about the digit, and for the class that the network predicts; frames begin
with the columns "network" (name) and "seed", numbers are means over the images.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor, nn

from lazy_artist import faithfulness, gradcam, plots
from lazy_artist.canvas import N_CLASSES, Split, assign_colours, paint, split_digits
from lazy_artist.config import NO_BIAS, TEST_SEED
from lazy_artist.evaluate import accuracy, balanced, predict
from lazy_artist.gradcam import chroma_reliance, display, grad_cam, integrated_gradients
from lazy_artist.models import build
from lazy_artist.networks import Network
from lazy_artist.store import stored
from lazy_artist.training import train

LAYER = "block3"  # the last maps of the CNN, (N, 128, 7, 7), which the mean and the head follow
CASCADE = ("head", "block3", "block2", "block1")  # from the output down
CHANGES = ("recolour", "reshape", "both")
PARTS = ("stroke", "background", "discriminative parts")
MAPS = ("integrated gradients", "Grad-CAM", "the stroke itself", "centre blob", "random")
REACH = 4  # pixels by which digits are moved off the middle, at most
PATH = 25  # nodes on the way from the bare background to the image, for integrated gradients
# enough to memorise shuffled labels, which was tried on training digits alone
MEMORISE = {"epochs": 60, "learning_rate": 4e-3, "batch_size": 100}
TOLERANCE = 0.05  # two changes are matched if their sizes differ by less, relatively


def matched_pairs(n_per_class: int) -> list[np.ndarray]:
    """Changes of colour and changes of digit that are equally large, image by image: four float32
    (N, 3, 28, 28) in [0, 1], with the same backgrounds, grain and jitter: the digits in their
    colours, recoloured, reshaped (other test digits in the same colours), and both.

    Of the 81 combinations of another colour and another digit, one is drawn at random among those
    for which there is a test image of that digit whose change, |x' - x| in RGB, is within
    `TOLERANCE` of that of the change of colour (the best, if none is).
    """
    grey, _, labels, colours = _probes(n_per_class)
    pool, pool_labels = split_digits("hard")
    n, every = len(grey), np.arange(N_CLASSES)
    background = paint(0 * grey, colours, TEST_SEED)  # (N, 3, 28, 28)
    solid = np.full_like(grey, 255)
    strokes = [paint(solid, 0 * colours + k, TEST_SEED)[:, :, 0, 0] for k in every]
    strokes = np.stack(strokes, axis=1)  # (N, 10 colours, 3)
    stroke = strokes[np.arange(n), colours]  # (N, 3)
    alpha, others = grey.reshape(n, -1) / 255, pool.reshape(len(pool), -1) / 255
    # |a' - a|^2 at each pixel counts as much as the stroke differs from the background there
    weight = np.square(stroke[:, :, None, None] - background, dtype=np.float64)
    weight = weight.sum(1).reshape(n, -1)
    reshaped = weight @ np.square(others).T - 2 * (weight * alpha) @ others.T
    reshaped = reshaped + (weight * alpha**2).sum(1)[:, None]  # (N, pool)
    reshaped = reshaped.clip(0)  # rounding may leave less than nothing for the image itself
    recoloured = np.square(strokes - stroke[:, None], dtype=np.float64).sum(2)  # (N, 10 colours)
    recoloured *= np.square(alpha).sum(1)[:, None]

    rng = np.random.default_rng(TEST_SEED)
    new_colour, partner = np.empty((2, n), dtype=np.int64)
    for i in range(n):
        found = []
        for k in np.delete(every, colours[i]):
            error = np.abs(np.sqrt(reshaped[i] / recoloured[i, k]) - 1)
            for digit in np.delete(every, labels[i]):
                best = np.where(pool_labels == digit, error, np.inf).argmin()
                found.append((error[best], k, best))
        errors = np.array([error for error, *_ in found])
        near = np.flatnonzero(errors <= max(TOLERANCE, errors.min()))
        _, new_colour[i], partner[i] = found[rng.choice(near)]

    reshape = pool[partner]
    pairs = ((grey, colours), (grey, new_colour), (reshape, colours), (reshape, new_colour))
    return [paint(digits, painted, TEST_SEED) for digits, painted in pairs]


@stored
def measure_changes(network: Network, n_per_class: int) -> dict[str, Any]:
    """How far a network moves when the digits change. "chroma" float64 (N,): its `chroma_reliance`
    on each as it is; "changes": of the `matched_pairs` a row for each of the `CHANGES` ("change"):

    "predictions": share of changed predictions; "logits": Euclidean distance of the logits, less
    their mean over classes, relative to that of changing both; "map": distance of the last
    layer's Grad-CAM maps M and M' of the class first predicted, sum |M - M'| / sum (M + M'), 0 if
    both are blank; "size": Euclidean length of the change in RGB; "matched": share of the images
    whose recolouring and reshaping are equally large (`TOLERANCE`).
    """

    def length(difference: np.ndarray) -> np.ndarray:
        flat = difference.reshape(len(difference), -1).astype(np.float64)
        return np.linalg.norm(flat, axis=1)

    model, pairs = network.load(), matched_pairs(n_per_class)
    before = predict(model, pairs[0])
    centred, first = before - before.mean(1, keepdims=True), before.argmax(1)
    maps = grad_cam(model, LAYER, pairs[0], first)
    rows, sizes = [], [length(images - pairs[0]) for images in pairs[1:]]
    for change, images, size in zip(CHANGES, pairs[1:], sizes, strict=True):
        logits, moved = predict(model, images), grad_cam(model, LAYER, images, first)
        parts = (np.abs(maps - moved), maps + moved)
        distance = gradcam.ratio(*(part.sum((1, 2), dtype=np.float64) for part in parts))
        row = {"change": change, "predictions": np.mean(logits.argmax(1) != first)}
        row["logits"] = length(logits - logits.mean(1, keepdims=True) - centred).mean()
        rows.append(row | {"map": np.nan_to_num(distance, nan=0).mean(), "size": size.mean()})
    frame = pd.DataFrame(rows)
    frame["logits"] /= frame["logits"].iloc[-1]
    frame["matched"] = np.mean(np.abs(sizes[1] / sizes[0] - 1) <= TOLERANCE)
    return {"changes": _of(network, frame), "chroma": chroma_reliance(model, pairs[0], first)}


@stored
def measure_attribution(network: Network, n_per_class: int) -> pd.DataFrame:
    """Where the attribution of last and first layer lies: a row for each "layer" and "part" (see
    `PARTS`) of the image. "attribution": share of the attribution there; "area": share of the
    pixels; "density": attribution per pixel, relative to that on the whole stroke."""
    model, (grey, images, labels, _) = network.load(), _probes(n_per_class)
    predictions = predict(model, images).argmax(1)
    pool, of = split_digits("train")
    prototypes = np.stack([pool[of == digit].mean(0) / 255 for digit in range(N_CLASSES)])
    mask = faithfulness.discriminative_mask(grey / 255, labels, prototypes)
    frames = []
    for layer in (LAYER, "block1"):  # the first maps, (N, 32, 14, 14)
        maps = grad_cam(model, layer, images, predictions)
        stroke, area = faithfulness.attribution_share(maps, grey / 255)
        discriminative, small = faithfulness.attribution_share(maps, mask)
        shares = [np.nanmean(share) for share in (stroke, 1 - stroke, discriminative)]
        frame = pd.DataFrame({"layer": layer, "part": PARTS, "attribution": shares})
        frame["area"] = [area.mean(), 1 - area.mean(), small.mean()]
        density = frame["attribution"] / frame["area"]
        frames.append(frame.assign(density=density / density[0]))
    return _of(network, pd.concat(frames, ignore_index=True))


def field_of_view() -> tuple[int, int]:
    """Of a place in the maps of the CNN's last layer: side in pixels of its share of the image, and
    of the square that it is computed from."""
    cnn, share, side = build("cnn", 0), 1, 1
    for part in (cnn.block1[0], cnn.pool, cnn.block2[0], cnn.block3[0]):
        side += (int(np.max(part.kernel_size)) - 1) * share
        share *= int(np.max(part.stride))
    return share, side


def move_digits(grey: np.ndarray, reach: int) -> np.ndarray:
    """Grey digits (N, 28, 28), each moved by up to `reach` whole pixels down or up and to a side,
    uniformly at random; what leaves the image is lost."""
    wide = np.pad(grey, ((0, 0), (reach, reach), (reach, reach)))
    places = np.random.default_rng(TEST_SEED).integers(0, 2 * reach + 1, (len(grey), 2))
    moved = [image[y : y + 28, x : x + 28] for image, (y, x) in zip(wide, places, strict=True)]
    return np.stack(moved)


@stored
def delete_and_insert(
    network: Network, measures: list[str], reach: int, n_per_class: int, steps: int
) -> dict[str, pd.DataFrame]:
    """Deletion and insertion (the `measures`) of pixels by each of the `MAPS`, of digits that
    `move_digits` has moved by up to `reach` pixels, for the class predicted then. "curves":
    "measure", "map", "pixels" (share deleted or inserted), "probability"; "areas": "measure",
    "map", "area" under the curve; each with "reach".

    Integrated gradients go from the bare background to the image; the blob, a Gaussian of a quarter
    of the side, stays in the middle. "asked", a row: the share of the stroke that moving has
    "kept", of the predictions that are the "same" as before; of the sum of all integrated gradients
    the share along "chroma", of the change (x - x')^2 the share "even" along it, and the "gap": the
    mean error of the sums, relative to the mean gain of the logit.
    """
    model, (grey, images, _, colours) = network.load(), _probes(n_per_class)
    before, whole = predict(model, images).argmax(1), grey.sum()
    grey = move_digits(grey, reach)
    images, background = (paint(digits, colours, TEST_SEED) for digits in (grey, 0 * grey))
    logits, bare = predict(model, images), predict(model, background)
    predictions = logits.argmax(1)
    change = (images - background).astype(np.float64)
    slope = gradcam.path_gradient(model, images, background, predictions, PATH)
    parts = (change * slope).sum(1)  # (N, 28, 28): integrated gradients
    along_grey = change.sum(1) * slope.sum(1, dtype=np.float64) / 3
    gain = (logits - bare)[np.arange(len(grey)), predictions]
    found = {
        "reach": reach,
        "kept": grey.sum() / whole,
        "same": np.mean(predictions == before),
        "chroma": 1 - along_grey.sum() / parts.sum(),
        "even": 1 - np.square(change.sum(1)).sum() / 3 / np.square(change).sum(),
        "gap": np.abs(parts.sum((1, 2)) - gain).mean() / gain.mean(),
    }
    cam = grad_cam(model, LAYER, images, predictions)
    noise = np.random.default_rng(TEST_SEED).random(cam.shape, dtype=np.float32)
    row = (((np.arange(cam.shape[1]) + 0.5) / cam.shape[1] - 0.5) / 0.25) ** 2
    blob = np.exp(-(row[:, None] + row) / 2).astype(np.float32)[None].repeat(len(cam), 0)
    curves, areas = [], []
    for measure in measures:
        for name, rival in zip(MAPS, (parts, cam, grey / 255, blob, noise), strict=True):
            task = (model, images, predictions, rival, background, steps, TEST_SEED)
            curve = faithfulness.deletion_curve(*task, insert=measure == "insertion")
            row = {"measure": measure, "map": name, "reach": reach}
            areas.append(row | {"area": faithfulness.area_under(curve).mean()})
            row["pixels"] = np.linspace(0, 1, steps + 1)
            curves.append(pd.DataFrame(row | {"probability": curve.mean(0, dtype=np.float64)}))
    curves, areas = pd.concat(curves, ignore_index=True), pd.DataFrame(areas)
    frames = {"curves": curves, "areas": areas, "asked": pd.DataFrame([found])}
    return {name: _of(network, frame) for name, frame in frames.items()}


@stored
def memorise_labels(
    seed: int, n_train: int, recipe: dict[str, float], n_per_class: int
) -> dict[str, Any]:
    """A CNN that has memorised `n_train` training images with shuffled labels (Adebayo et al. 2018,
    arXiv:1810.03292): "accuracy" on those, and "maps" (N, 7, 7) for the images and classes of
    `saliency_sanity`."""
    grey, labels = (part[:n_train] for part in split_digits("train"))
    colours = assign_colours(labels, NO_BIAS, seed)
    shuffled = np.random.default_rng(seed).permutation(labels)
    split, model = Split(paint(grey, colours, seed), shuffled, colours), build("cnn", seed)
    train(model, split, seed=seed, weight_decay=0, **recipe)
    _, images, labels, _ = _probes(n_per_class, own_colours=True)
    return {"maps": grad_cam(model, LAYER, images, labels), "accuracy": accuracy(model, split)}


@stored
def saliency_sanity(
    network: Network, retrained: Network, memorised: dict[str, Any], n_per_class: int
) -> pd.DataFrame:
    """Whether a network's maps depend on what it has learnt: their agreement with others, for each
    digit in its own colour, which all networks classify correctly, and the true digit. A row for
    each map "against" which they are held: of the network made random from the output down to each
    layer of `CASCADE`; of "another image"; "retrained", with another seed; "memorised", of
    `memorise_labels`, which is given `memorised`. "correlation": mean rank correlation over the
    images where neither map is blank (0 if there are none); "blank": share of the others."""
    model, rows, others = network.load(), [], {}
    _, images, labels, _ = _probes(n_per_class, own_colours=True)
    maps = grad_cam(model, LAYER, images, labels)
    for k, layer in enumerate(CASCADE, 1):
        random = faithfulness.randomise(model, CASCADE[:k], network.seed)
        others[layer] = grad_cam(random, LAYER, images, labels)
    others["another image"] = np.roll(maps, len(maps) // 2, axis=0)
    others["retrained"] = grad_cam(retrained.load(), LAYER, images, labels)
    others["memorised"] = memorise_labels(**memorised)["maps"]
    for against, other in others.items():
        values = faithfulness.rank_correlation(maps, other)
        blank = np.isnan(values)
        mean = 0.0 if blank.all() else values[~blank].mean()
        rows.append({"against": against, "correlation": mean, "blank": blank.mean()})
    return _of(network, pd.DataFrame(rows))


def numerical_grad_cam(
    model: nn.Module, layer: str, images: np.ndarray, classes: np.ndarray, step: float = 1e-6
) -> np.ndarray:
    """Grad-CAM by finite differences in double precision: float64 (N, h, w), >= 0. The weight of
    channel k, the mean over places of dz_c / dA_k, is the slope of z_c as all of it is raised:

        a_k = (z_c(A + step * 1_k) - z_c(A - step * 1_k)) / (2 * step * h * w)

    No gradient is recorded, and the code shares nothing with `gradcam.grad_cam`.
    """
    model, seen = copy.deepcopy(model).double(), []
    module = dict(model.named_modules())[layer]
    batch, wanted = torch.from_numpy(images).double(), (range(len(images)), classes)

    def raised(by: Tensor) -> Tensor:
        with module.register_forward_hook(lambda _, inputs, output: output + by):
            return model(batch)[wanted]

    with torch.no_grad():
        with module.register_forward_hook(lambda _, inputs, output: seen.append(output)):
            model(batch)
        maps = seen[0]
        weighted = torch.zeros_like(maps[:, 0])
        for k, unit in enumerate(step * torch.eye(maps.shape[1]).double()[:, :, None, None]):
            slope = (raised(unit) - raised(-unit)) / (2 * step * maps[0, 0].numel())
            weighted += slope[:, None, None] * maps[:, k]
    return weighted.relu().numpy()


@stored
def compare_references(network: Network, layers: list[str], n_per_class: int) -> pd.DataFrame:
    """The largest difference, "error", of `grad_cam` for true digits from each "reference",
    absolute or relative to the map's largest value, whichever is larger: `numerical_grad_cam` for
    each "layer", and for the CNN ReLU(CAM) / (h * w) for its last one."""
    model, (_, images, labels, _) = network.load().cpu(), _probes(n_per_class)
    found = {
        ("finite differences", layer): numerical_grad_cam(model, layer, images, labels)
        for layer in layers
    }
    if network.arch == "cnn":
        with torch.no_grad():
            batch = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
            maps = model.block3(model.block2(model.pool(model.block1(batch))))
            weights = model.head.weight[torch.from_numpy(labels)]
            cam = torch.einsum("nk,nkhw->nhw", weights, maps)
        found["CAM", LAYER] = cam.relu().numpy() / cam[0].numel()
    rows = []
    for (name, layer), reference in found.items():
        error = np.abs(grad_cam(model, layer, images, labels) - reference).max()
        error = float(error / min(1, reference.max()))
        rows.append({"reference": name, "arch": network.arch, "layer": layer, "error": error})
    return _of(network, pd.DataFrame(rows))


@stored
def attribution_maps(
    network: Network, digits: list[int], colours: list[int]
) -> dict[str, np.ndarray]:
    """Of the first test image of each of `digits`, in `colours`, "images" float32 (N, 3, 28, 28):
    the classes "predicted" int64 (N,), their "probability" (N,), and for these "Grad-CAM" (N, 7, 7)
    and "integrated gradients" (N, 28, 28), from the bare background."""
    model, grey, colours = network.load(), _probes(1)[0][digits], np.array(colours)
    images, background = (paint(each, colours, TEST_SEED) for each in (grey, 0 * grey))
    shares = torch.from_numpy(predict(model, images)).softmax(1).numpy()
    predicted = shares.argmax(1)
    found = {"images": images, "predicted": predicted, "probability": shares.max(1)}
    found["Grad-CAM"] = grad_cam(model, LAYER, images, predicted)
    parts = integrated_gradients(model, images, background, predicted)
    return found | {"integrated gradients": parts.sum(1)}


@stored
def gradient_parts(network: Network, digit: int, colour: int) -> dict[str, np.ndarray]:
    """The first test image of a digit (3, 28, 28) as "image", and as "energy" float32 (2, 28, 28)
    the squared gradient there along brightness and along chroma, for the class predicted, as shares
    of its sum."""
    model, image = network.load(), paint(_probes(1)[0][[digit]], np.array([colour]), TEST_SEED)
    predictions = predict(model, image).argmax(1)
    energy = np.concatenate(gradcam.gradient_energy(model, image, predictions))
    return {"image": image[0], "energy": energy / energy.sum()}


def _probes(n_per_class: int, own_colours: bool = False) -> tuple[np.ndarray, ...]:
    """The first `n_per_class` test digits of every kind, grey and painted, in colours that say
    nothing about them or in their own; their labels and colours."""
    grey, labels = balanced(*split_digits("hard"), n_per_class)
    colours = labels if own_colours else assign_colours(labels, NO_BIAS, TEST_SEED)
    return grey, paint(grey, colours, TEST_SEED), labels, colours


def _of(network: Network, frame: pd.DataFrame) -> pd.DataFrame:
    frame.insert(0, "network", network.name)
    frame.insert(1, "seed", network.seed)
    return frame


# --- figures -------------------------------------------------------------------------------------

MAP_STYLES = (
    (plots.AMBER, "-", "D"), (plots.VERMILION, "-", "o"), (plots.GREEN, "-.", "^"),
    (plots.BLUE, "--", "s"), (plots.DARK, ":", "x"),
)  # fmt: skip
OUTLINE = {"levels": [0.4], "linewidths": 0.7}  # of the stroke


def attribution_tiles(scenes: dict[str, Any], alike: int) -> Figure:
    """A row for each image of what `attribution_maps` found of each network, with both maps of all
    networks; every network's maps of a kind have one scale for each so many images in a row."""
    figure, axes = plots.grid(plots.WIDTH, plots.WIDTH)
    ax, images = axes[0, 0], next(iter(scenes.values()))["images"]  # one axes: many are slow
    step, high, gap, x = 31, 40, 9, 0  # pixels, of which a tile has 28
    middles = np.arange(28) + 0.5

    def tile(x: float, row: int, pixels: np.ndarray, title: str, **look: Any) -> None:
        ax.text(x + 14, row * high - 2, title, ha="center", size=plots.SMALL)
        ax.imshow(pixels, extent=(x, x + 28, row * high + 28, row * high), **look)
        if look:
            outline = OUTLINE | {"colors": "white" if look["cmap"] == "magma" else plots.DARK}
            place = (x + middles, row * high + middles)
            ax.contour(*place, images[row].max(0), **outline)

    for row, image in enumerate(images):
        tile(x, row, image.transpose(1, 2, 0), "")
    x += step + gap
    for kind, cmap in (("Grad-CAM", "magma"), ("integrated gradients", "RdBu_r")):
        ax.text(x + 1.5 * step - 1.5, -17, kind, ha="center")
        for name, found in scenes.items():
            look = {"cmap": cmap, "vmin": 0 if kind == "Grad-CAM" else -1, "vmax": 1}
            for row in range(len(images)):
                maps = found[kind][row // alike * alike :][:alike]
                top = np.quantile(np.abs(maps), 1 if kind == "Grad-CAM" else 0.998)
                maps = display(maps, top) if kind == "Grad-CAM" else maps / top
                title = f"{name}\n" * (row == 0)
                title += f"{found['predicted'][row]}: {found['probability'][row]:.0%}"
                tile(x, row, maps[row % alike], title, **look)
            x += step
        x += gap
    ax.set(xlim=(0, x - gap), ylim=(high * len(images) - 10, -22))
    ax.set_axis_off()
    down = high * len(images) + 12
    figure.set_size_inches(plots.WIDTH, plots.WIDTH * down / (x - gap))
    return figure


def answer_bars(bars: pd.DataFrame, flat: float) -> Figure:
    """A panel for each "measure": bars by "change", with 95% intervals, of the networks. bars:
    besides these columns "network" and "value" (estimates of shares); flat: what a flat map has of
    the first measure, a dotted line."""
    groups = bars.groupby("measure", sort=False)
    names = list(bars["network"].unique())
    width, ratios = 0.8 / len(names), [group["change"].nunique() + 0.5 for _, group in groups]
    figure, axes = plots.grid(plots.WIDTH, 1.95, 1, len(groups), sharey=True, width_ratios=ratios)
    for ax, (measure, group) in zip(axes[0], groups, strict=True):
        changes = list(group["change"].unique())
        for k, name in enumerate(names):
            values = group.loc[group["network"] == name, "value"]
            means = np.array([value.mean for value in values])
            bounds = np.array([value.interval for value in values])
            places = np.arange(len(values)) + (k - (len(names) - 1) / 2) * width
            drawn = ax.bar(
                places, means, width, yerr=np.abs(bounds - means[:, None]).T, label=name,
                color=plots.NETWORK_STYLES[name][0], hatch=("", "//", "..")[k], edgecolor="white",
                error_kw={"elinewidth": 1, "ecolor": plots.DARK},
            )  # fmt: skip
            texts = [f"{100 * mean:.0f}" for mean in means]
            ax.bar_label(drawn, texts, padding=2, size=plots.SMALL)
        ax.set_xticks(range(len(changes)), changes)
        ax.set_title(measure, pad=10)
    axes[0, 0].axhline(flat, color=plots.DARK, linewidth=0.9, linestyle=":", label="flat map")
    plots.percent_axis(axes[0, 0].yaxis, "")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(names) + 1)
    return plots.show(figure, bars, "value: a share, mean over seeds; low, high: its 95% interval")


def chroma_histogram(reliance: dict[str, np.ndarray], parts: dict[str, Any]) -> Figure:
    """Left: the `gradient_parts`, on one scale a network. Right: histograms of the chroma reliance
    (seeds, N) of all images, by network."""
    figure = plots.Figure(figsize=(plots.WIDTH, 1.35 * len(reliance)))
    left, right = figure.subfigures(1, 2, width_ratios=[1.1, 1])
    for row, name in zip(left.subplots(len(reliance), 3), reliance, strict=True):
        image, both = parts[name]["image"], parts[name]["energy"]
        top = np.quantile(both.sum(0), 0.995)
        plots.picture(row[0], image, name)
        for ax, energy, part in zip(row[1:], both, ("brightness", "chroma"), strict=True):
            ax.imshow(energy / top, cmap="magma", vmin=0, vmax=1)
            ax.contour(image.max(0), colors="white", **OUTLINE)
            ax.set_title(f"{part}\n{energy.sum():.0%}", size=plots.SMALL, pad=2)
            ax.set_axis_off()
    ax, frames = right.subplots(), []
    for (name, values), hatch in zip(reliance.items(), ("", "//", ".."), strict=False):
        colour = plots.NETWORK_STYLES[name][0]
        shares, edges, _ = ax.hist(
            values.ravel(), np.linspace(0, 1, 41), weights=np.full(values.size, 1 / values.size),
            histtype="stepfilled", facecolor=f"{colour}55", edgecolor=colour, hatch=hatch,
            label=name,
        )  # fmt: skip
        bins = {"from": edges[:-1], "to": edges[1:], "share": shares}
        frames.append(pd.DataFrame({"network": name} | bins))
    ax.axvline(2 / 3, color=plots.DARK, linewidth=0.9, linestyle=":", label="2/3")
    ax.set(xlim=(0, 1), ylim=(0, 1.3 * ax.get_ylim()[1]))
    ax.set(xlabel="chroma reliance of an image", ylabel="share of images")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.legend(loc="upper left")
    note = "share of the images of all seeds whose chroma reliance, 0 to 1, lies in [from, to)"
    return plots.show(figure, pd.concat(frames, ignore_index=True), note)


def deletion_curves(curves: pd.DataFrame) -> Figure:
    """The curves of `delete_and_insert`: a row for each measure, a column for each network; thin
    lines are seeds."""
    measures, names = (list(curves[column].unique()) for column in ("measure", "network"))
    height, shape = 2.1 * len(measures) + 0.9, (len(measures), len(names))
    figure, axes = plots.grid(plots.WIDTH, height, *shape, sharex=True, sharey=True)
    groups = curves.groupby(["measure", "network"])
    for ax, (measure, name) in zip(axes.flat, itertools.product(measures, names), strict=True):
        group = groups.get_group((measure, name))
        for k, (by, (colour, dash, marker)) in enumerate(zip(MAPS, MAP_STYLES, strict=True)):
            lines = group[group["map"] == by].set_index(["pixels", "seed"])["probability"].unstack()
            ax.plot(lines, color=colour, linewidth=0.5, alpha=0.4)
            style = {"marker": marker, "markevery": (k, 5), "linewidth": 1.4, "label": by}
            ax.plot(lines.mean(axis=1), dash, color=colour, **style)
        ax.set(title=f"{name}: {measure}", xlim=(0, 0.5), ylim=(0, 1.02))
        plots.percent_axis(ax.xaxis, "pixels")
        plots.percent_axis(ax.yaxis, "probability of the class")
        ax.label_outer()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    note = """probability: of the predicted class, mean over images; pixels: share replaced, highest
        attribution first; reach: how far the digits were moved, in pixels"""
    return plots.show(figure, curves, note)


def sanity_lines(sanity: pd.DataFrame) -> Figure:
    """What `saliency_sanity` found of all networks: as their layers are made random (lines), and
    with other maps (points); thin marks are seeds."""
    figure, axes = plots.grid(plots.WIDTH, 3.4, 1, 2, sharey=True)
    left, right = axes[0]
    others = {
        "retrained": "next\nseed", "another image": "another\nimage",
        "memorised": "shuffled\nlabels",
    }  # fmt: skip
    for k, (name, group) in enumerate(sanity.groupby("network", sort=False)):
        colour, marker, dash = plots.NETWORK_STYLES[name]
        table = group.pivot(index="against", columns="seed", values="correlation")
        paths = np.vstack([np.ones(table.shape[1]), table.loc[list(CASCADE)]])
        left.plot(paths, color=colour, linewidth=0.5, alpha=0.5)
        left.plot(paths.mean(1), dash, color=colour, marker=marker, markersize=6, label=name)
        values, places = table.loc[list(others)].to_numpy(), np.arange(3) + 0.16 * (2 * k - 1)
        right.plot(places, values, "_", color=colour, markersize=9)
        right.plot(places, values.mean(1), marker, color=colour, markersize=6)
        for place, row in zip(places, values, strict=True):
            text = f"{row.mean():.2f}"
            right.text(place, row.max() + 0.04, text, ha="center", size=plots.SMALL)
    for ax in (left, right):
        ax.axhline(0, color=plots.DARK, linewidth=0.7)
        ax.axhline(0.5, color=plots.DARK, linewidth=0.7, linestyle=":")
    left.set_xticks(range(5), ["none", *(f"+ {layer}" for layer in CASCADE)], rotation=30)
    left.set(xlabel="layers made random", ylabel="rank correlation")
    left.set_ylim(-0.25, 1.08)
    left.legend()
    right.set_xticks(range(3), list(others.values()))
    right.set_xlim(-0.5, 2.5)
    note = """correlation: rank correlation with a network's own maps, mean over images; against:
        the network made random from the head down to this layer, or other maps; blank: share of
        images left out, as a map is zero"""
    return plots.show(figure, sanity, note)
