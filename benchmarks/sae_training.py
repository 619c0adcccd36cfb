"""How fast do our sparse autoencoders train, and how well, against three libraries?

    python benchmarks/run_all.py sae_training.py [--steps N] [--repetitions N]

Against dictionary-learning, overcomplete and sae-lens. All train a TopK autoencoder of equal width,
k, batch and number of steps, on the same activations of the cheater's last maps, on one thread.
Activations are scaled to a mean square of 1 for all. Ours runs at its default learning rate, chosen
on validation images; each peer at several, and dictionary-learning at that of its own rule too. The
best run counts for variance, the fastest for time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch

from common import machine
from lazy_artist.canvas import colour_split
from lazy_artist.latents import sample_activations
from lazy_artist.networks import cheater
from lazy_artist.sae import fit_autoencoder

LATENTS, K, BATCH = 1024, 16, 2048
RATES = (1e-3, 2e-3, 6e-3)  # for the peers; the last is ours
TARGET_SPEED, TARGET_VARIANCE = 2.0, 0.02


def ours(x: torch.Tensor, steps: int) -> Callable[[torch.Tensor], torch.Tensor]:
    sae = fit_autoencoder(x, LATENTS, "topk", K, seed=0, steps=steps, batch=BATCH)
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


def overcomplete(x: torch.Tensor, steps: int, rate: float) -> Callable:
    """By its own training loop, criterion as in its documentation, and a rate that falls as ours
    does."""
    import matplotlib

    # it asks for a name that newer releases of matplotlib have dropped
    matplotlib.cm.get_cmap = matplotlib.colormaps.get_cmap
    from overcomplete.sae import TopKSAE, train_sae

    torch.manual_seed(0)
    sae = TopKSAE(x.shape[1], LATENTS, top_k=K)
    optimiser = torch.optim.Adam(sae.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _falling(step, steps))
    loader = [x[index] for index in _batches(len(x), steps)]
    train_sae(
        sae,
        loader,
        lambda x, x_hat, pre_codes, codes, dictionary: (x - x_hat).square().mean(),
        optimiser,
        schedule,
        nb_epochs=1,
        monitoring=0,
    )
    sae.eval()
    return lambda y: sae(y)[2]


def sae_lens(x: torch.Tensor, steps: int, rate: float):
    """Its TopK autoencoder and losses; its own trainer streams a language model's activations, so
    the loop is this one."""
    from sae_lens.saes.sae import TrainStepInput
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

    torch.manual_seed(0)
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=x.shape[1], d_sae=LATENTS, k=K, device="cpu"))
    optimiser = torch.optim.Adam(sae.parameters(), lr=rate)
    inactive = torch.zeros(LATENTS)
    for step, index in enumerate(_batches(len(x), steps)):
        optimiser.param_groups[0]["lr"] = rate * _falling(step, steps)
        given = TrainStepInput(x[index], {}, inactive > 50, step, False)
        result = sae.training_forward_pass(given)
        optimiser.zero_grad()
        result.loss.backward()
        optimiser.step()
        fired = (result.feature_acts.detach() > 0).any(0)
        inactive = torch.where(fired, 0, inactive + 1)
    return sae.eval()


def _falling(step: int, steps: int) -> float:
    """As in `fit_autoencoder`: linearly to 0 over the last third."""
    return min(1, 3 * (steps - step) / steps)


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
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, torch {torch.__version__}, {options.steps} steps of {BATCH}\n", flush=True)
    model = cheater(0)
    sets = [
        colour_split(name, 0).take(np.arange(n))
        for name, n in (("train", 8000), ("validation", 1000))
    ]
    x, held = (sample_activations(model, "block3", split.images, 16, 0) for split in sets)
    centre, scale = x.mean(0), (x - x.mean(0)).square().mean().sqrt()
    x, held = (x - centre) / scale, (held - centre) / scale
    contenders = {
        "ours": ours,
        "dictionary-learning, its rate": partial(dictionary_learning, rate=None),
    }
    libraries = {
        "dictionary-learning": dictionary_learning,
        "overcomplete": overcomplete,
        "sae-lens": sae_lens,
    }
    for name, run in libraries.items():
        contenders |= {f"{name}, {rate:g}": partial(run, rate=rate) for rate in RATES}
    for run in contenders.values():
        run(x, 2)  # warms up
    rows = []
    for repetition in range(options.repetitions):
        for name, run in contenders.items():
            start = time.process_time()
            rebuild = run(x, options.steps)
            rows.append((name, time.process_time() - start, unexplained(rebuild, held)))
            print(f"repetition {repetition}: {name}", flush=True)
    table = pd.DataFrame(rows, columns=["trainer", "CPU s", "unexplained"])
    table = table.groupby("trainer", sort=False).agg(
        seconds=("CPU s", statistics.median), unexplained=("unexplained", "mean")
    )
    print("\n" + table.to_markdown(floatfmt=("", ".1f", ".4f")) + "\n")
    mine, peers = table.loc["ours"], table.drop(index="ours")
    speed = peers.seconds.min() / mine.seconds
    variance = mine.unexplained / peers.unexplained.min() - 1
    print(
        f"{speed:.2f} times as fast as the fastest peer (target {TARGET_SPEED:g}: "
        f"{'met' if speed >= TARGET_SPEED else 'MISSED'}); variance unexplained "
        f"{variance:+.1%} of the best peer's (target at most {TARGET_VARIANCE:+.0%}: "
        f"{'met' if variance <= TARGET_VARIANCE else 'MISSED'})."
    )


if __name__ == "__main__":
    main()
