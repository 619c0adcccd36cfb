"""What does an accelerator gain, and does it compute the same?

    python benchmarks/on_gpu.py [--seeds N]      # meant for five minutes at most on a GPU
    python benchmarks/on_gpu.py --small          # tries the script itself, on a processor too

Prints a Markdown table: the book's heavy work on the accelerator that torch finds and on the
processor of the same machine, in the same run, from the same weights and images. Drawn digits, so
neither a data set nor the network is needed. On the accelerator each piece of work is done twice
and the second time counts; training is by `training.train`, one seed after the other, in processes
of their own, or all in one process by `torch.func.vmap` (`train_together`, below). Results are
compared by the measure that the table names, and may differ by what it tolerates.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from common import cores, machine
from lazy_artist.attack import minimal_epsilon, targeted_pgd
from lazy_artist.canvas import Split, colour_split
from lazy_artist.config import RECIPES, device
from lazy_artist.data import procedural_digits
from lazy_artist.eis7.transformer import all_pairs, train_transformer, transformer_label
from lazy_artist.evaluate import predict
from lazy_artist.featurevis import visualise
from lazy_artist.gradcam import grad_cam
from lazy_artist.latents import sample_activations
from lazy_artist.models import build
from lazy_artist.sae import fit_autoencoder, quality
from lazy_artist.training import low_precision, train

RECIPE = RECIPES["cheater", "cnn"]


class Sizes(NamedTuple):
    training: int  # images; one pass over them
    predicted: int
    attacked: int
    searched: int
    mapped: int
    drawing: int  # steps
    autoencoder: int  # steps
    transformer: int  # steps


FULL = Sizes(20_480, 10_000, 500, 100, 1000, 96, 200, 500)
SMALL = Sizes(1024, 500, 20, 5, 50, 8, 5, 20)


def painted(count: int, seeds: int) -> list[Split]:
    """`count` drawn digits in biased colours, for each seed."""
    digits = procedural_digits(count * 12 // 10 + 12)  # of which two twelfths are set apart
    splits = [colour_split("train", seed, digits=digits) for seed in range(seeds)]
    return [split.take(np.arange(count)) for split in splits]


def train_one(split: Split, seed: int) -> tuple[nn.Module, np.ndarray]:
    """The network and the losses of its steps, one pass."""
    model, recipe = build("cnn", seed), RECIPE._asdict() | {"epochs": 1}
    return model, train(model, split, seed=seed, **recipe).losses


def train_together(splits: list[Split]) -> tuple[list[nn.Module], np.ndarray]:
    """As `train_one` for each split, its seed being its place, but in one process and all at once:
    the networks, and losses (steps, networks). The same up to rounding."""
    place, count, batch = device(), len(splits[0]), RECIPE.batch_size
    networks = [build("cnn", seed).train() for seed in range(len(splits))]
    weights, statistics = stack_module_state(networks)
    template, precision = copy.deepcopy(networks[0]).to("meta"), low_precision(place)
    for module in template.modules():
        if isinstance(module, nn.BatchNorm2d):  # within vmap it takes one type only
            module.forward = lambda x, m=module: type(m).forward(m, x.float()).to(x.dtype)

    def loss(own: dict, running: dict, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(functional_call(template, (own, running), (images,)).float(), labels)

    images = torch.stack([torch.from_numpy(split.images) for split in splits]).to(place)
    labels = torch.stack([torch.from_numpy(split.labels) for split in splits]).to(place)
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(splits))]
    orders = torch.stack([torch.randperm(count, generator=g) for g in generators]).to(place)
    steps, rows = count // batch, torch.arange(len(splits), device=place)[:, None]
    optimiser = torch.optim.AdamW(
        weights.values(), RECIPE.learning_rate, weight_decay=RECIPE.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RECIPE.learning_rate, total_steps=steps + 1, pct_start=0.2 + 1e-9
    )
    losses = []
    for index in orders[:, : steps * batch].split(batch, dim=1):
        # autocast does not reach into vmap: matrices are cast here
        low = {
            name: weight.to(precision) if weight.ndim > 2 or name.startswith("head") else weight
            for name, weight in weights.items()
        }
        values = vmap(loss)(low, statistics, images[rows, index].to(precision), labels[rows, index])
        optimiser.zero_grad()
        values.sum().backward()
        optimiser.step()
        schedule.step()
        losses.append(values.detach())
    with torch.no_grad():
        for seed, network in enumerate(networks):
            for name, value in network.state_dict().items():
                value.copy_((weights | statistics)[name][seed])
    return [network.eval() for network in networks], torch.stack(losses).cpu().numpy()


# --- in processes ---------------------------------------------------------------------------------

_splits: list[Split] = []


def _prepare(name: str, count: int, seeds: int, barrier: Any) -> None:
    os.environ["LAZY_ARTIST_DEVICE"] = name
    _splits[:] = painted(count, seeds)
    train_one(_splits[0].take(np.arange(2 * RECIPE.batch_size)), 0)
    barrier.wait()


def _train(seed: int) -> float:
    return float(train_one(_splits[seed], seed)[1][-10:].mean())


def in_processes(count: int, seeds: int) -> tuple[float, float]:
    """Seconds for all seeds, a process each (as many as there are cores on a processor), and the
    mean last loss. That they start and paint does not count."""
    name = device().type
    jobs = min(seeds, cores()) if name == "cpu" else seeds
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(jobs + 1)
    with context.Pool(jobs, _prepare, (name, count, seeds, barrier)) as pool:
        barrier.wait()
        start = time.perf_counter()
        losses = pool.map(_train, range(seeds), chunksize=1)
        seconds = time.perf_counter() - start
        pool.close()
        pool.join()
    return seconds, float(np.mean(losses))


# --- the table ------------------------------------------------------------------------------------


class Work(NamedTuple):
    """A row. count: of images, channels, activations or pairs; run: gives the result, on the device
    that is set; compare: how far two results are apart, in `measure`, at most `tolerance`; itself:
    `run` gives its own seconds, too."""

    title: str
    count: int
    run: Callable[[], Any]
    compare: Callable[[Any, Any], float]
    measure: str
    tolerance: float
    itself: bool = False


def works(sizes: Sizes, seeds: int, weights: dict, splits: list[Split]) -> list[Work]:
    """All rows; weights: of the network that those after the training ask."""
    images, labels = splits[-1].images, splits[-1].labels

    def network() -> nn.Module:
        model = build("cnn", 0)
        model.load_state_dict(weights)
        return model.eval()

    def last_loss(model_and_losses: tuple) -> float:
        return float(model_and_losses[1][-10:].mean())

    def share(a: np.ndarray, b: np.ndarray) -> float:
        return abs(float(np.mean(a)) - float(np.mean(b)))

    def relative(a: np.ndarray, b: np.ndarray) -> float:
        return abs(float(np.median(a)) / float(np.median(b)) - 1)

    def largest(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a - b).max() / np.abs(b).max())

    def one_after_the_other() -> float:
        return float(np.mean([last_loss(train_one(s, k)) for k, s in enumerate(splits)]))

    def autoencoder() -> np.ndarray:
        x = activations
        return np.array(
            quality(fit_autoencoder(x, 1024, "topk", 16, seed=0, steps=steps), x)["fvu"]
        )

    def transformer() -> np.ndarray:
        truth = transformer_label(*all_pairs())
        seen = np.random.default_rng(0).random(truth.shape) < 0.5
        logits = train_transformer(truth, seen, 0, sizes.transformer).states().logits
        return (logits[:, 1] > logits[:, 0]).cpu().numpy() == truth.ravel()

    steps, n, many = sizes.autoencoder, sizes.training, seeds * sizes.training
    activations = np.asarray(
        sample_activations(network(), "block3", images[: sizes.mapped], 16, 0).cpu()
    )
    # the third in rank: not so near that rounding makes it the prediction
    targets = predict(network(), images[: sizes.attacked]).argsort(1)[:, -3]
    p, a, s, m = sizes.predicted, sizes.attacked, sizes.searched, sizes.mapped
    loss = ("mean loss of the last ten steps", 0.02)
    return [
        Work("training a CNN", n, lambda: last_loss(train_one(splits[0], 0)), share, *loss),
        Work(f"{seeds} CNNs, one after the other", many, one_after_the_other, share, *loss),
        Work(f"{seeds} CNNs, in processes", many, lambda: in_processes(n, seeds), share, *loss,
             itself=True),
        Work(f"{seeds} CNNs, by vmap", many, lambda: last_loss(train_together(splits)), share,
             *loss),
        Work("prediction", p, lambda: predict(network(), images[:p]), largest,
             "logits, of the largest", 2e-3),
        Work("targeted attack, 40 steps", a,
             lambda: targeted_pgd(network(), images[:a], targets, 0.1).probability,
             share, "mean probability of the target", 0.02),
        Work("smallest changes, linf", s,
             lambda: minimal_epsilon(network(), images[:s], targets[:s]).epsilon,
             relative, "median size, relative", 0.01),
        Work(f"feature visualisation, {sizes.drawing} steps", 128,
             lambda: visualise(network(), "block3", steps=sizes.drawing)[1],
             relative, "median score, relative", 0.02),
        Work("Grad-CAM", m, lambda: grad_cam(network(), "block3", images[:m], labels[:m]), largest,
             "maps, of the largest", 2e-3),
        Work(f"autoencoder, {steps} steps", 2048 * steps, autoencoder, relative,
             "unexplained variance, relative", 0.05),
        Work(f"transformer, {sizes.transformer} steps", 256 * sizes.transformer, transformer, share,
             "accuracy", 0.02),
    ]  # fmt: skip


def timed(work: Work, name: str, twice: bool) -> tuple[float, Any]:
    """Seconds on the device `name`, and the result."""
    os.environ["LAZY_ARTIST_DEVICE"] = name
    if work.itself:
        return work.run()
    for _ in range(1 + twice):
        start = time.perf_counter()
        result = work.run()  # results are on the processor: it has been waited for
        seconds = time.perf_counter() - start
    return seconds, result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="networks that are trained at once")
    parser.add_argument("--small", action="store_true", help="tries the script itself")
    options = parser.parse_args()
    place, sizes = device(), SMALL if options.small else FULL
    if place.type == "cpu" and not options.small:
        print("There is no accelerator here: nothing is measured (--small tries the script).")
        return 0
    cuda = place.type == "cuda"
    card = torch.cuda.get_device_name() if cuda else f"{place.type}, {platform.machine()}"
    print(f"{machine()}\n{card}, torch {torch.__version__}, {low_precision(place)}\n", flush=True)

    begin = time.perf_counter()
    splits = painted(sizes.training, options.seeds)
    os.environ["LAZY_ARTIST_DEVICE"] = "cpu"
    weights = train_one(splits[0], 0)[0].state_dict()
    print(f"| work | processor | {card} | times as fast | difference in | measured | tolerated |")
    print("|---|--:|--:|--:|---|--:|--:|")
    wrong = 0
    for work in works(sizes, options.seeds, weights, splits):
        theirs, expected = timed(work, "cpu", False)
        mine, found = timed(work, place.type, place.type != "cpu")
        difference = work.compare(found, expected)
        wrong += not difference <= work.tolerance
        rates = (f"{s:.2f} s ({work.count / s:,.0f}/s)" for s in (theirs, mine))
        print(
            f"| {work.title} | {' | '.join(rates)} | {theirs / mine:.1f} | {work.measure} "
            f"| {difference:.1e} | {work.tolerance:g} |",
            flush=True,
        )
    print(f"\n{time.perf_counter() - begin:.0f} s in all; {wrong} differences are not tolerated.")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
