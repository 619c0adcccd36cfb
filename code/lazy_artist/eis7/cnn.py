"""The first challenge: which digits does the CNN call 1?

`cnn_label` is the recovered program; it needs no network and no data. The rest takes the released
network apart, whose hidden layer falls into three groups of units.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.interface import Array, public
from lazy_artist.training import _one_thread

# The digit that the challenge gives as a hint (image 6 of MNIST's training set): its rows 4 to 23
# and columns 11 to 18; all else is empty.
_CLUE = bytes.fromhex(
    """
    0091ffd31f000000 20edfdfc47000000 0baffdfc47000000 0090fdfc47000000 10bffdfc47000000
    1addfdfc7c1f0000 007dfdfcfc6c0000 0000fdfcfc6c0000 0000fffdfd6c0000 0000fdfcfc6c0000
    0000fdfcfc6c0000 0000fdfcfc6c0000 0000fffdfdaa0000 0000fdfcfcfc2a00 000095fcfcfc9000
    00006dfcfcfc9000 000000dafdfdff23 000000affcfcfd23 00000049fcfcfd23 0000001fd3fcfd23
    """
)
CLUE = np.zeros((28, 28), np.uint8)
CLUE[4:24, 11:19] = np.frombuffer(_CLUE, np.uint8).reshape(20, 8)
CLUE.flags.writeable = False
TEMPLATE = CLUE / 255 - 0.5  # float64 (28, 28)
BAND = (-33.954, -15.1295)  # between them the label is 0; fitted on training digits

GROUPS = ("one", "anti-one", "brake")
ZONES = ("anti-one", "between", "one")  # of similarity: below the band, in it, above it


@public
def similarity(images: Array) -> Array:
    """How much an image is like the clue rather than unlike it: float64 (N,), the sum over pixels
    of (clue - 1/2) * image, with pixels in [0, 1]; images: uint8 (N, 28, 28)."""
    return _checked(images).reshape(-1, 784) @ TEMPLATE.ravel() / 255


@public
def cnn_label(images: Array) -> Array:
    """Labels (bool, (N,)) of images uint8 (N, 28, 28), by the program alone: 1 if the image is very
    like the clue, or very unlike it; 0 between (see `similarity` and `BAND`)."""
    s = similarity(images)
    return (s < BAND[0]) | (s > BAND[1])


def _checked(images: Array) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"images must be uint8, 0 to 255, not {images.dtype}")
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(f"images must have shape (N, 28, 28), not {images.shape}")
    return images


@public
def zones(scores: Array) -> np.ndarray:
    """Which of `ZONES` each similarity (N,) lies in; the thresholds themselves are "between"."""
    return np.select([scores < BAND[0], scores > BAND[1]], ["anti-one", "one"], "between")


@public
def fit_band(scores: Array, labels: Array) -> tuple[float, float, float]:
    """The two thresholds between which predicting 0, and 1 outside, agrees best with labels (bool
    (N,)), and the share that agrees. Exact, by cumulative counts over the sorted scores; a
    threshold lies half-way between two neighbouring scores."""
    order = np.argsort(scores, kind="stable")
    ranked, ones = scores[order], np.concatenate([[0], np.cumsum(labels[order])])
    n = len(ranked)
    # with the band over ranks i..j-1: agreement = ones[i] + (j - i) - (ones[j] - ones[i])
    #                                            + (ones[n] - ones[j])
    below, above = 2 * ones - np.arange(n + 1), np.arange(n + 1) - 2 * ones
    best_below = np.maximum.accumulate(below)
    stop = int((best_below + above).argmax())
    start = int(below[: stop + 1].argmax())
    edges = np.concatenate([[-np.inf], (ranked[1:] + ranked[:-1]) / 2, [np.inf]])
    agreement = (below[start] + above[stop] + ones[n]) / n
    return float(edges[start]), float(edges[stop]), float(agreement)


def fit_ramp(scores: np.ndarray, evidence: np.ndarray) -> tuple[float, float]:
    """Slope and start of the ramp, slope * max(score - start, 0), that is nearest to the evidence
    of images (N,) in least squares; scores (N,). (Negated scores make a falling ramp.)"""
    from scipy.optimize import minimize_scalar  # slow to import

    def fitted(start: float) -> tuple[float, float]:
        ramp = np.maximum(scores - start, 0)
        slope = ramp @ evidence / (ramp @ ramp)
        return slope, np.square(evidence - slope * ramp).sum()

    ends = np.quantile(scores, [0.01, 0.99])
    start = minimize_scalar(lambda start: fitted(start)[1], bounds=ends, method="bounded").x
    return float(fitted(start)[0]), float(start)


# --- the network ---------------------------------------------------------------------------------


class ChallengeCNN(nn.Module):
    """The challenge's CNN: float32 (N, 1, 28, 28) in [0, 1] -> logits (N, 2). Its dropout is left
    out: it is never in training mode when it is studied."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3)
        self.fc1, self.fc2 = nn.Linear(400, 200), nn.Linear(200, 2)

    def hidden(self, images: Tensor) -> Tensor:
        """The 200 hidden units (N, 200), after the ReLU."""
        maps = F.max_pool2d(F.relu(self.conv1(images)), 2)  # (N, 8, 13, 13)
        maps = F.max_pool2d(F.relu(self.conv2(maps)), 2)  # (N, 16, 5, 5)
        return F.relu(self.fc1(maps.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc2(self.hidden(images))

    def evidence(self) -> tuple[np.ndarray, float]:
        """What a hidden unit adds to logit 1 minus logit 0, float64 (200,), and the offset."""
        weight, bias = (t.detach().double().numpy() for t in (self.fc2.weight, self.fc2.bias))
        return weight[1] - weight[0], float(bias[1] - bias[0])


@torch.no_grad()
def hidden_units(network: ChallengeCNN, images: np.ndarray) -> np.ndarray:
    """The hidden layer, float32 (N, 200), of images uint8 (N, 28, 28)."""
    return np.concatenate([network.hidden(batch).numpy() for batch in _pixels(images).split(500)])


@_one_thread()
def train_cnn(images: np.ndarray, labels: np.ndarray, seed: int, epochs: float) -> ChallengeCNN:
    """A network of the same architecture trained on images uint8 (N, 28, 28) and labels bool (N,):
    the stand-in. AdamW at 2e-3 falling linearly to zero, batches of 128, one thread."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ChallengeCNN()
    steps = max(1, round(epochs * len(images) / 128))
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: 1 - k / steps)
    targets = torch.from_numpy(labels).long()
    for _ in range(steps):
        batch = torch.randint(len(images), (128,), generator=generator)
        loss = F.cross_entropy(network(_pixels(images[batch.numpy()])), targets[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def _pixels(images: np.ndarray) -> Tensor:
    return torch.tensor(images, dtype=torch.float32)[:, None] / 255


def unit_groups(
    hidden: np.ndarray, evidence: np.ndarray, clue_hidden: np.ndarray
) -> dict[str, np.ndarray]:
    """Which hidden units (bool (200,) each) form the three groups, found without the program.

    Units that never fire belong to none. "brake": those that speak for 0 (evidence < 0). The
    others are halved by the sign of the leading eigenvector of their correlations; "one" is the
    half that the clue excites more. hidden: (N, 200), evidence: (200,), clue_hidden: (200,).
    """
    live = (hidden > 0).any(axis=0)
    speaking = np.flatnonzero(live & (evidence > 0))
    correlations = np.corrcoef(hidden[:, speaking].T.astype(np.float64))
    first = np.linalg.eigh(correlations)[1][:, -1] > 0
    halves = [np.isin(np.arange(len(evidence)), speaking[half]) for half in (first, ~first)]
    excited = [float((clue_hidden * evidence)[half].sum()) for half in halves]
    one = int(excited[1] > excited[0])
    return {"one": halves[one], "anti-one": halves[1 - one], "brake": live & (evidence < 0)}


def gradient_template(
    network: ChallengeCNN, images: np.ndarray, evidence: np.ndarray, group: np.ndarray
) -> np.ndarray:
    """How the evidence of a group of units changes with each pixel: the gradient, float64 (28, 28),
    mean over the images uint8 (N, 28, 28)."""
    weights = torch.from_numpy(np.where(group, evidence, 0)).float()
    total = np.zeros((28, 28))
    for pixels in _pixels(images).split(500):
        (network.hidden(pixels.requires_grad_()) @ weights).sum().backward()
        total += pixels.grad[:, 0].double().sum(0).numpy()
    return total / len(images)


def fitted_template(images: np.ndarray, evidence: np.ndarray, ridge: float = 50) -> np.ndarray:
    """The linear template float64 (28, 28) that explains a group's evidence (N,) best on the
    images uint8 (N, 28, 28) where it is positive: ridge regression with an intercept."""
    active = evidence > 0
    pixels = images[active].reshape(-1, 784) / 255
    pixels -= pixels.mean(axis=0)
    target = evidence[active] - evidence[active].mean()
    square = pixels.T @ pixels + ridge * np.eye(784)
    return np.linalg.solve(square, pixels.T @ target).reshape(28, 28)


def push(
    images: np.ndarray, target: float | np.ndarray, allowed: np.ndarray, seed: int
) -> np.ndarray:
    """Images edited until their similarity is `target` (one for all, or (N,)), or as near as the
    pixels allow.

    To raise it, pixels are lit where the clue is lit and put out elsewhere; to lower it, the
    reverse. Of the `allowed` pixels (bool (28, 28)) those that help are set to 0 or 255 in random
    order; the last one is set in part, to the nearest grey. Images are uint8 (N, 28, 28).
    """
    flat = images.reshape(len(images), 784).astype(np.float64)
    template = TEMPLATE.ravel()
    gap = (target - similarity(images)) * 255  # in grey levels
    raising = np.where(template > 0, 255, 0)  # the extremes that raise the similarity
    extreme = np.where(gap[:, None] > 0, raising, 255 - raising)
    gain = np.abs((extreme - flat) * template) * allowed.ravel()
    order = np.random.default_rng(seed).random(flat.shape).argsort(axis=1)
    ranked = np.take_along_axis(gain, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    share = np.clip((np.abs(gap)[:, None] - before) / np.maximum(ranked, 1e-9), 0, 1)
    moved = np.zeros_like(flat)  # of each pixel's way to its extreme
    np.put_along_axis(moved, order, share * (ranked > 0), axis=1)
    return np.rint(flat + moved * (extreme - flat)).astype(np.uint8).reshape(-1, 28, 28)


def disturb(images: np.ndarray, edited: np.ndarray, allowed: np.ndarray, seed: int) -> np.ndarray:
    """A control for `push`: edits at least as large that leave the similarity as it was.

    In each image as many of the `allowed` pixels as `edited` changed, drawn at random, are set to
    255 if below 128, else to 0; then the similarity is pushed back. uint8 (N, 28, 28) all.
    """
    rng = np.random.default_rng(seed)
    flat = images.reshape(len(images), 784)
    count = (edited != images).sum(axis=(1, 2))
    rank = (rng.random(flat.shape) + ~allowed.ravel()).argsort(axis=1).argsort(axis=1)
    turned = np.where(flat < 128, np.uint8(255), np.uint8(0))
    noisy = np.where(rank < count[:, None], turned, flat).reshape(images.shape)
    return push(noisy, similarity(images), allowed, seed + 1)
