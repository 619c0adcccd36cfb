"""How fast do our sparse autoencoders train, and how well, against dictionary-learning?

    PYTHON benchmarks/sae_training.py [--steps N] [--repetitions N]

PYTHON has torch, this project, and `pip install dictionary-learning` (kept out of the project's
own environment). All train a TopK autoencoder of equal width, k, batch and number of
steps, on the same activations of the cheater's last maps, on one thread. Activations are scaled to
a mean square of 1 for all. The peer runs with the learning rate of ours and with that of its
own rule; its better run counts for variance, its faster one for time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from common import machine
from lazy_artist.canvas import colour_split
from lazy_artist.experiments.decomposing import LAYER, _sampled
from lazy_artist.experiments.networks import cheater
from lazy_artist.sae import fit

LATENTS, K, BATCH, RATE = 1024, 16, 2048, 2e-3
TARGET_SPEED, TARGET_VARIANCE = 2.0, 0.02


def ours(x: torch.Tensor, steps: int) -> Callable[[torch.Tensor], torch.Tensor]:
    sae = fit(x, LATENTS, "topk", K, seed=0, steps=steps, batch=BATCH, learning_rate=RATE)
    return lambda y: sae.decode(sae.encode(y))


def dictionary_learning(x: torch.Tensor, steps: int, rate: float | None):
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=steps,
        activation_dim=x.shape[1],
        dict_size=LATENTS,
        k=K,
        layer=0,
        lm_name="",
        lr=rate,
        warmup_steps=steps // 20,
        decay_start=steps * 2 // 3,
        seed=0,
        device="cpu",
    )
    for step, index in enumerate(_batches(len(x), steps)):
        trainer.update(step, x[index])
    return trainer.ae


def _batches(count: int, steps: int):
    generator = torch.Generator().manual_seed(0)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < BATCH:
            order = torch.randperm(count, generator=generator)
        index, order = order[:BATCH], order[BATCH:]
        yield index


def unexplained(rebuild: Callable, x: torch.Tensor) -> float:
    """Fraction of variance unexplained on held-out activations."""
    with torch.no_grad():
        error = sum(float((part - rebuild(part)).square().sum()) for part in x.split(4096))
    return error / float((x - x.mean(0)).square().sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, torch {torch.__version__}, {options.steps} steps of {BATCH}\n", flush=True)
    model = cheater(0)
    sets = [
        colour_split(name, 0).take(np.arange(n))
        for name, n in (("train", 8000), ("validation", 1000))
    ]
    x, held = (_sampled(model, LAYER, split.images, 16, 0) for split in sets)
    centre, scale = x.mean(0), (x - x.mean(0)).square().mean().sqrt()
    x, held = (x - centre) / scale, (held - centre) / scale
    contenders = {
        "ours": lambda: ours(x, options.steps),
        "dictionary-learning": lambda: dictionary_learning(x, options.steps, RATE),
        "dictionary-learning, its rate": lambda: dictionary_learning(x, options.steps, None),
    }
    rows = []
    for repetition in range(options.repetitions):
        for name, run in contenders.items():
            start = time.process_time()
            rebuild = run()
            rows.append((name, time.process_time() - start, unexplained(rebuild, held)))
            print(f"repetition {repetition}: {name}", flush=True)
    table = pd.DataFrame(rows, columns=["trainer", "CPU s", "unexplained"])
    table = table.groupby("trainer", sort=False).agg(
        seconds=("CPU s", statistics.median), unexplained=("unexplained", "mean")
    )
    print("\n" + table.to_markdown(floatfmt=("", ".1f", ".4f")) + "\n")
    mine, peers = table.loc["ours"], table.drop(index="ours")
    speed = peers.seconds.min() / mine.seconds
    variance = mine.unexplained - peers.unexplained.min()
    print(
        f"{speed:.2f} times as fast as the fastest peer (target {TARGET_SPEED:g}: "
        f"{'met' if speed >= TARGET_SPEED else 'MISSED'}); variance explained "
        f"{-variance:+.3f} against the best peer (target within {TARGET_VARIANCE:g}: "
        f"{'met' if variance <= TARGET_VARIANCE else 'MISSED'})."
    )


if __name__ == "__main__":
    main()
