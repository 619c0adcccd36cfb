"""How fast is our feature visualisation, a channel, against torch-lucent's?

    python benchmarks/run_all.py feature_visualisation.py [--steps N] [--channels N] …

Both maximise the mean of channels of the CNN's last block, from waves with decorrelated colours,
under small shifts, turns and zooms, for the same number of steps on 28 x 28 pixels. Ours takes all
128 channels in one call. torch-lucent runs as its documentation has it, a channel a call (for the
first few channels), and also with several channels in one batch, which its objectives allow. All
on one thread; the contenders take turns; times are medians, a channel. About two minutes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from common import machine
from lazy_artist.featurevis import visualise
from lazy_artist.models import build

LAYER, WIDTH, SIDE, TARGET = "block3", 128, 28, 10.0


def ours(model: torch.nn.Module, steps: int) -> None:
    visualise(model, LAYER, steps=steps, root=np.eye(3, dtype=np.float32))


def peer(model: torch.nn.Module, channels: int, steps: int, batch: int) -> None:
    from lucent.optvis import objectives, param, render, transform

    moves = [
        transform.pad(2, mode="constant", constant_value=0.5),
        transform.jitter(2),
        transform.random_scale([0.95, 1, 1.05]),
        transform.random_rotate(range(-5, 6)),
    ]
    for start in range(0, channels, batch):
        size = min(batch, channels - start)
        goal = sum(objectives.channel(LAYER, start + k, batch=k) for k in range(size))
        render.render_vis(
            model, goal, lambda size=size: param.image(SIDE, batch=size), transforms=moves,
            thresholds=(steps,), preprocess=False, progress=False, show_image=False,
            fixed_image_size=SIDE,
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--channels", type=int, default=16, help="that torch-lucent is given")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, torch {torch.__version__}, {options.steps} steps\n", flush=True)

    model = build("cnn", 0).eval()
    steps, channels = options.steps, options.channels
    contenders: dict[str, tuple[Callable, int]] = {
        "ours, all channels at once": (lambda: ours(model, steps), WIDTH),
        "torch-lucent, a channel a call": (lambda: peer(model, channels, steps, 1), channels),
        f"torch-lucent, {channels} channels a batch": (
            lambda: peer(model, channels, steps, channels),
            channels,
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.repetitions):
        for name, (call, count) in contenders.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) / count)
    medians = {name: statistics.median(values) for name, values in times.items()}
    mine = medians["ours, all channels at once"]
    print("| contender | ms a channel | ours is |\n|:--|--:|--:|")
    for name, value in medians.items():
        print(f"| {name} | {1e3 * value:.1f} | {value / mine:.1f} |")
    ratio = medians["torch-lucent, a channel a call"] / mine
    met = "met" if ratio >= TARGET else "MISSED"
    print(f"\nOurs is {ratio:.1f} times as fast a channel. Target {TARGET:g}: {met}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
