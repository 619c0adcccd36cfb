"""Does a network that has seen only the procedural stand-in read real MNIST?

    python benchmarks/standin_reads_mnist.py

Draws the 60,000 stand-in digits (and times it), trains a small CNN on them alone, and prints its
accuracy on the 10,000 MNIST test digits, over three seeds. About three minutes on two cores.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn

from lazy_artist.data import DataNotFoundError, Digits, load_digits, procedural_digits

COUNT, EPOCHS, BATCH, SEEDS = 60_000, 2, 128, (0, 1, 2)


def tensors(digits: Digits) -> tuple[Tensor, Tensor]:
    """float32 (N, 1, 28, 28) in [0, 1], and int64 (N,)."""
    images = torch.from_numpy(digits.images.astype(np.float32) / 255).unsqueeze(1)
    return images, torch.from_numpy(digits.labels.copy())


def train(images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten()),
        nn.Linear(64 * 7 * 7, 10),
    )
    optimiser = torch.optim.AdamW(model.parameters())
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH)[: len(images) // BATCH]:
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    predictions = torch.cat([model(batch).argmax(1) for batch in images.split(1000)])
    return (predictions == labels).double().mean().item()


def main() -> None:
    start = time.perf_counter()
    drawn = procedural_digits(COUNT)
    print(f"{COUNT:,} stand-in digits drawn in {time.perf_counter() - start:.1f} s")
    try:
        real = load_digits("test", "mnist")
    except DataNotFoundError as error:
        print(f"NOT MEASURED, as MNIST is absent. {error}")
        return
    print(f"tested on: {real.source}, {len(real):,} test digits")
    scores = []
    for seed in SEEDS:
        scores.append(accuracy(train(*tensors(drawn), seed), *tensors(real)))
        print(f"seed {seed}: {scores[-1]:.2%} of the real digits read correctly", flush=True)
    print(f"mean {np.mean(scores):.2%}, range {min(scores):.2%} to {max(scores):.2%}")


if __name__ == "__main__":
    main()
