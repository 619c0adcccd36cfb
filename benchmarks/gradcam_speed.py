"""How fast is our Grad-CAM on 1,000 images, against captum's and pytorch-grad-cam's?

    pip install captum grad-cam        # in an environment of its own: the report needs neither
    python benchmarks/gradcam_speed.py [--images N] [--repetitions N] [--threads N]

Every contender gives raw maps of the same layer for the same classes; that they agree is checked
first. The peers get the images in batches of 250, as ours takes them, and all at once; the
faster counts. pytorch-grad-cam also scales and enlarges each map, which is part of what it does.
The contenders take turns, a repetition each; times are medians. The forward pass alone, without
gradients and in the memory order that ours uses, is timed as well: no exact Grad-CAM in float32 on
the same kernels can be faster. About a minute.
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

from common import cores, machine
from lazy_artist.evaluate import predict
from lazy_artist.gradcam import grad_cam
from lazy_artist.models import build

CASES = (("cnn", "block3"), ("cnn", "block1"), ("resnet18", "layer4"))
BATCH, TARGET = 250, 2.0


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


def seconds(contenders: dict[str, Callable], repetitions: int) -> dict[str, float]:
    """Median seconds of each contender; they take turns, and the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repetitions + 1):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=cores())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine()}, torch {torch.__version__}, {options.threads} threads\n", flush=True)
    images = np.random.default_rng(0).random((options.images, 3, 28, 28), dtype=np.float32)
    classes = np.arange(options.images) % 10
    print("| network, layer | contender | median ms | ours is |\n|---|---|--:|--:|")
    ratios = []
    for arch, name in CASES:
        model = build(arch, 0).eval()
        layer = dict(model.named_modules())[name]
        settings = (model, layer, images, classes)
        maps = grad_cam(model, name, images, classes)
        if not np.abs(maps - captum(*settings, BATCH)).max() < 1e-5:
            print(f"captum's maps of {arch} {name} differ from ours", file=sys.stderr)
            return 1
        contenders = {
            "ours": lambda m=model, n=name: grad_cam(m, n, images, classes),
            "forward pass alone": lambda m=model: predict(m, images, BATCH),
        }
        for peer in (captum, pytorch_grad_cam):
            for batch in (BATCH, options.images):
                title = f"{peer.__name__}, batches of {batch:,}"
                contenders[title] = lambda p=peer, s=settings, b=batch: p(*s, b)
        times = seconds(contenders, options.repetitions)
        for title, value in times.items():
            ratio = value / times["ours"]
            print(f"| {arch}, {name} | {title} | {1000 * value:.0f} | {ratio:.2f} |", flush=True)
        peers = {t: v for t, v in times.items() if t not in ("ours", "forward pass alone")}
        fastest = min(peers, key=peers.get)
        ratios.append((peers[fastest] / times["ours"], f"{arch}, {name}", fastest))
    ratio, case, fastest = min(ratios)
    met = "met" if ratio >= TARGET else "MISSED"
    print(
        f"\nOurs is at least {ratio:.2f} times as fast as the fastest peer ({case}: {fastest}). "
        f"Target {TARGET:g}: {met}."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
