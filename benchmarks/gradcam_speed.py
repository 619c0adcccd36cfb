"""How fast is our Grad-CAM on 1,000 images, against captum's and pytorch-grad-cam's?

    python benchmarks/run_all.py gradcam_speed.py [--images N] [--repetitions N] [--threads N]

Every contender gives raw maps of the same layer for the same classes; that they agree is checked
first. Ours takes all images in one call and cuts them into batches itself; the peers get them in
batches of 100, of 250 and all at once, and the fastest counts. pytorch-grad-cam also scales and
enlarges each map, which is part of what it does. The contenders take turns, a repetition each;
times are medians: of processor time on one thread, so that other work on the machine disturbs them
little, or of wall time with `--threads` above 1.

What can be reached at all is measured beside it: the forward pass alone, without gradients and in
the fastest memory order, which every exact Grad-CAM must do; and how many operations a second that
is, next to a large matrix product, the fastest that the processor does in float32. A minute or two.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common import machine
from lazy_artist.evaluate import predict
from lazy_artist.gradcam import grad_cam
from lazy_artist.models import build

CASES = (("cnn", "block3"), ("cnn", "block1"), ("resnet18", "layer4"))
BATCHES, TARGET = (100, 250), 2.0  # of the peers, and all at once


def captum(model: nn.Module, layer: nn.Module, images: np.ndarray, classes: np.ndarray, batch: int):
    from captum.attr import LayerGradCam

    method = LayerGradCam(model, layer)
    parts = [
        method.attribute(
            torch.from_numpy(images[i : i + batch]),
            torch.from_numpy(classes[i : i + batch]),
            relu_attributions=True,
        ).detach()
        for i in range(0, len(images), batch)
    ]
    return torch.cat(parts)[:, 0].numpy()


def pytorch_grad_cam(
    model: nn.Module, layer: nn.Module, images: np.ndarray, classes: np.ndarray, batch: int
):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(int(c)) for c in classes]
    with GradCAM(model, [layer]) as method:
        parts = [
            method(torch.from_numpy(images[i : i + batch]), targets[i : i + batch])
            for i in range(0, len(images), batch)
        ]
    return np.concatenate(parts)


PEERS = (captum.__name__, pytorch_grad_cam.__name__)


def seconds(contenders: dict[str, Callable], repetitions: int, clock: Callable) -> dict[str, float]:
    """Median seconds of each contender; they take turns, and the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repetitions + 1):
        for name, call in contenders.items():
            start = clock()
            call()
            if turn:
                times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def operations(model: nn.Module) -> int:
    """Multiplications and additions of a forward pass of one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 28, 28))
    return counter.get_total_flops()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    print(f"{machine()}, torch {torch.__version__}, {options.threads} threads\n", flush=True)
    images = np.random.default_rng(0).random((options.images, 3, 28, 28), dtype=np.float32)
    classes = np.arange(options.images) % 10
    square = torch.rand(2048, 2048)
    product = "a matrix product of 2,048 squared"
    print("| network, layer | contender | median ms | times ours | 10^9 operations/s |")
    print("|---|---|--:|--:|--:|")
    lines, met = [], True
    for arch, name in CASES:
        model = build(arch, 0).eval()
        layer = dict(model.named_modules())[name]
        settings = (model, layer, images, classes)
        maps = grad_cam(model, name, images, classes)
        if not np.abs(maps - captum(*settings, BATCHES[0])).max() < 1e-5:
            print(f"captum's maps of {arch} {name} differ from ours", file=sys.stderr)
            return 1
        contenders = {"ours": lambda m=model, n=name: grad_cam(m, n, images, classes)}
        for batch in BATCHES:
            title = f"forward pass alone, batches of {batch}"
            contenders[title] = lambda m=model, b=batch: predict(m, images, batch_size=b)
        contenders[product] = lambda: square @ square
        for peer in (captum, pytorch_grad_cam):
            for batch in (*BATCHES, options.images):
                title = f"{peer.__name__}, batches of {batch:,}"
                contenders[title] = lambda p=peer, s=settings, b=batch: p(*s, b)
        times = seconds(contenders, options.repetitions, clock)
        count = {product: 2 * len(square) ** 3}
        for title, value in times.items():
            if title.startswith("forward"):
                count[title] = options.images * operations(model)
            rate = f"{count[title] / value / 1e9:.0f}" if title in count else ""
            ratio = "" if title == product else f"{value / times['ours']:.2f}"
            print(
                f"| {arch}, {name} | {title} | {1000 * value:.0f} | {ratio} | {rate} |", flush=True
            )
        peers = {t: v for t, v in times.items() if t.partition(",")[0] in PEERS}
        fastest = min(peers, key=peers.get)
        at_once = min(v for t, v in peers.items() if t.endswith(f"of {options.images:,}"))
        floor = min(v for t, v in times.items() if t.startswith("forward"))
        ratio = peers[fastest] / times["ours"]
        met &= ratio >= TARGET
        lines.append(
            f"{arch}, {name}: ours is {ratio:.2f} times as fast as the fastest peer ({fastest}), "
            f"{at_once / times['ours']:.2f} times as fast as the faster one on all images at once. "
            f"The forward pass alone would be {peers[fastest] / floor:.2f} times as fast."
        )
    print("", *lines, sep="\n")
    print(f"Target {TARGET:g} against the fastest: {'met' if met else 'MISSED'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
