"""How fast is our training loop, against the usual recipe and against what the machine can do?

    python benchmarks/training_throughput.py [--images N] [--repetitions N]

Ours is `lazy_artist.training.train`, run as the report runs it: one process of one thread for each
core, side by side, each with its own seed. The peer is the recipe of the tutorials on the same
network, data, batch size and optimiser: a Dataset whose `__getitem__` returns a transformed image
(torchvision's v2: ToImage, ToDtype with scaling), a DataLoader, float32. It runs in its usual way,
one process with a thread for each core and 0, 1 or 2 workers, and in ours, a process for each core.

All of them train for one epoch on the same painted digits; a call is timed whole. The contenders
take turns, a repetition each. The peak is that of bfloat16 `torch.mm` on large square matrices, in
our arrangement; the network's arithmetic is counted exactly. About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

from common import cores, machine
from lazy_artist.canvas import Split, colour_split
from lazy_artist.data import load_digits
from lazy_artist.models import build
from lazy_artist.training import low_precision, train

BATCH, LEARNING_RATE, WEIGHT_DECAY = 256, 5e-4, 0.01
MATRICES = (1024, 2048, 4096)
TARGET_RATIO, TARGET_SHARE = 2.0, 0.5


class Painted(Dataset):
    """The split as a vision data set is usually kept: uint8 (28, 28, 3), transformed one by one."""

    def __init__(self, split: Split):
        self.images = np.rint(split.images.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
        self.labels = split.labels
        self.transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[i]), self.labels[i]


def ours(split: Split, seed: int = 0) -> float:
    """One epoch of our loop; returns the mean loss of its last ten steps."""
    settings = dict(epochs=1, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    history = train(build("cnn", seed), split, seed=seed, batch_size=BATCH, **settings)
    return float(history.losses[-10:].mean())


def usual(dataset: Painted, workers: int, seed: int = 0) -> float:
    """One epoch of the usual recipe; returns as `ours`."""
    torch.manual_seed(seed)
    loader = DataLoader(dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers)
    model = build("cnn", seed).train()
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=len(loader) + 1, pct_start=0.2
    )
    losses = []
    for images, labels in loader:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return statistics.mean(losses[-10:])


def matrix_peak() -> float:
    """GFLOP/s of this process in products of square matrices, in low precision: the best size."""
    rates = []
    for size in MATRICES:
        a, b = (torch.randn(size, size).to(low_precision()) for _ in range(2))
        torch.mm(a, b)
        rounds = max(1, 2 * (MATRICES[-1] // size) ** 2 // 4)
        start = time.perf_counter()
        for _ in range(rounds):
            torch.mm(a, b)
        rates.append(rounds * 2 * size**3 / (time.perf_counter() - start) / 1e9)
    return max(rates)


def training_flops() -> tuple[float, float]:
    """Floating-point operations (two a multiply-add) for an image: forward, and a training step.

    Convolutions and matrix products only. The backward pass does them twice more, once for the
    weights and once for the input, but for the first layer, whose input needs no gradient.
    """
    model, images = build("cnn", 0), torch.zeros(2, 3, 28, 28)
    with FlopCounterMode(display=False) as forward:
        logits = model(images)
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    forward, backward = forward.get_total_flops() / 2, backward.get_total_flops() / 2
    return forward, forward + backward


# --- in the processes ----------------------------------------------------------------------------

_here: dict[str, Any] = {}


def _prepare(images: int, barrier: Any) -> None:
    split = colour_split("train", 0).take(np.arange(images))
    _here.update(split=split, dataset=Painted(split), barrier=barrier)


def _call(name: str, threads: int, together: bool, seed: int) -> tuple[float, float]:
    """Seconds that a contender took, and what it returned."""
    split, dataset = _here["split"], _here["dataset"]
    contenders: dict[str, Callable[[], float]] = {
        "ours": lambda: ours(split, seed),
        "peak": matrix_peak,
        **{f"usual {w}": lambda w=w: usual(dataset, w, seed) for w in (0, 1, 2)},
    }
    torch.set_num_threads(threads)
    if together:
        _here["barrier"].wait()
    start = time.perf_counter()
    result = contenders[name]()
    return time.perf_counter() - start, result


def _profile() -> tuple[list[tuple[str, float]], float]:
    """Self CPU seconds of each operator in one call of `ours`, largest first, and their sum."""
    torch.set_num_threads(1)
    _here["barrier"].wait()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        ours(_here["split"].take(np.arange(min(len(_here["split"]), 40 * BATCH))))
    rows = [(row.key, row.self_cpu_time_total / 1e6) for row in profiler.key_averages()]
    return sorted(rows, key=lambda row: -row[1]), sum(seconds for _, seconds in rows)


# --- the report ----------------------------------------------------------------------------------


def measure(pool: ProcessPoolExecutor, repetitions: int, images: int) -> pd.DataFrame:
    """A row for each contender and repetition: rate (images a second, or GFLOP/s) and loss."""
    arrangements = [("ours", cores(), 1), ("usual 0", cores(), 1)]
    arrangements += [(f"usual {workers}", 1, cores()) for workers in (0, 1, 2)]
    arrangements += [("peak", cores(), 1)]
    rows = []
    for repetition in range(-1, repetitions):  # the first is to warm up
        for name, processes, threads in arrangements:
            jobs = [
                pool.submit(_call, name, threads, processes > 1, seed) for seed in range(processes)
            ]
            done = [job.result() for job in jobs]
            if name == "peak":
                rate = sum(result for _, result in done)
            else:
                rate = sum(images / seconds for seconds, _ in done)
            loss = statistics.mean(result for _, result in done)
            if repetition >= 0:
                rows.append((name, processes, threads, rate, loss))
    return pd.DataFrame(rows, columns=["name", "processes", "threads", "rate", "loss"])


def show(rows: pd.DataFrame) -> tuple[float, float]:
    """Prints the table of contenders; returns our median rate and the peak."""
    peak = rows[rows.name == "peak"].rate.max()
    rows = rows[rows.name != "peak"]
    table = (
        rows.groupby(["name", "processes", "threads"], sort=False)
        .agg(
            median=("rate", "median"),
            low=("rate", "min"),
            high=("rate", "max"),
            loss=("loss", "mean"),
        )
        .reset_index()
    )
    mine = table.loc[table.name == "ours", "median"].item()
    table["ratio"] = mine / table["median"]
    table["name"] = table["name"].str.replace(r"usual (\d)", r"usual, \1 workers", regex=True)
    print(
        table.rename(
            columns={"name": "loop", "median": "images/s", "loss": "last loss", "ratio": "ours is"}
        ).to_markdown(
            index=False, floatfmt=("", ".0f", ".0f", ",.0f", ",.0f", ",.0f", ".3f", ".2f")
        )
    )
    peers = table[table.name != "ours"]
    best = peers.loc[peers["median"].idxmax()]
    met = "met" if best.ratio >= TARGET_RATIO else "MISSED"
    print(
        f"\nOurs trains {best.ratio:.2f} times as fast as the fastest peer ({best['name']}, "
        f"processes x threads: {best.processes} x {best.threads}). Target {TARGET_RATIO:g}: {met}."
    )
    return mine, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_240, help="images in the epoch")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    print(f"{machine()}, torch {torch.__version__}, ours in {low_precision()}\n", flush=True)
    images = min(options.images, len(load_digits("train").labels) * 10 // 12) // BATCH * BATCH
    if images < BATCH:
        parser.error(f"--images must be at least {BATCH}, one batch")

    context = multiprocessing.get_context("spawn")
    os.environ.pop("OMP_NUM_THREADS", None)  # threads are set by each contender
    pool = ProcessPoolExecutor(cores(), context, _prepare, (images, context.Barrier(cores())))
    with pool:
        rows = measure(pool, options.repetitions, images)
        # all cores are busy with the same, as they are when rates are measured
        profiles = [job.result() for job in [pool.submit(_profile) for _ in range(cores())]]
    operators, total = profiles[0]

    rate, peak = show(rows)
    forward, step = training_flops()
    share = rate * step / 1e9 / peak
    met = "met" if share >= TARGET_SHARE else "MISSED"
    print(
        f"\nAn image costs {forward / 2e6:.3f} million multiply-adds forward and {step / 2e6:.3f} "
        f"in training, so ours computes at {rate * step / 1e9:,.0f} GFLOP/s: {share:.0%} of the "
        f"{peak:,.0f} GFLOP/s of large matrix products. Target {TARGET_SHARE:.0%}: {met}.\n"
    )
    convolution = sum(seconds for name, seconds in operators if "convolution" in name)
    arithmetic_rate = min(images, 40 * BATCH) * step / 1e9 / convolution
    print("Where the time goes (one process, one thread, self CPU time):\n")
    top = [(f"`{name}`", seconds / total) for name, seconds in operators[:6]]
    top.append(("all others", sum(seconds for _, seconds in operators[6:]) / total))
    print(pd.DataFrame(top, columns=["operator", "share"]).to_markdown(index=False, floatfmt=".1%"))
    print(
        f"\nConvolutions are {convolution / total:.0%} of it and run at "
        f"{arithmetic_rate * cores() / peak:.0%} of the peak."
    )


if __name__ == "__main__":
    main()
