"""The first challenge: which digits does the CNN call 1?

`cnn_label` is the recovered program; it needs no network and no data. The rest takes the released
network apart: its hidden layer falls into three groups of units, and these are what the
interventions act on.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
BAND = (-33.954, -15.1295)  # between these similarities the label is 0; fitted on training digits

GROUPS = ("one", "anti-one", "brake")


def similarity(images: np.ndarray) -> np.ndarray:
    """How much an image is like the clue rather than unlike it: float64 (N,), the sum over pixels
    of (clue - 1/2) * image, with pixels in [0, 1]; images: uint8 (N, 28, 28)."""
    return _checked_images(images).reshape(len(images), 784) @ TEMPLATE.ravel() / 255


def cnn_label(images: np.ndarray) -> np.ndarray:
    """Labels (bool, (N,)) of images uint8 (N, 28, 28), by the program alone: 1 if the image is very
    like the clue, or very unlike it; 0 between (see `similarity` and `BAND`).

    Raises TypeError unless images are uint8, ValueError unless they are (N, 28, 28).
    """
    scores = similarity(images)
    return (scores < BAND[0]) | (scores > BAND[1])


def fit_band(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """The two thresholds between which calling 0, and 1 outside, agrees best with labels (bool
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


def _checked_images(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"images must be uint8, 0 to 255, not {images.dtype}")
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(f"images must have shape (N, 28, 28), not {images.shape}")
    return images


# --- the network ---------------------------------------------------------------------------------


class Network(nn.Module):
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


def restore(weights: dict[str, Tensor]) -> Network:
    """The network with these weights, in eval mode."""
    network = Network()
    network.load_state_dict(weights)
    return network.eval()


@torch.no_grad()
def hidden_units(network: Network, images: np.ndarray) -> np.ndarray:
    """The hidden layer, float32 (N, 200), of images uint8 (N, 28, 28)."""
    images = _checked_images(images)
    return np.concatenate(
        [network.hidden(_tensor(chunk)).numpy() for chunk in _chunks(images)]
        or [np.empty((0, 200), np.float32)]
    )


def fit(images: np.ndarray, labels: np.ndarray, seed: int, epochs: float) -> Network:
    """A network of the same architecture trained on images uint8 (N, 28, 28) and labels bool (N,):
    the stand-in. AdamW at 2e-3 falling linearly to nought, batches of 128, one thread."""
    images, threads = _checked_images(images), torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(seed)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network()
        steps = max(1, round(epochs * len(images) / 128))
        optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: 1 - k / steps)
        answers = torch.from_numpy(labels).long()
        for _ in range(steps):
            batch = torch.randint(len(images), (128,), generator=generator)
            loss = F.cross_entropy(network(_tensor(images[batch.numpy()])), answers[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    finally:
        torch.set_num_threads(threads)
    return network.eval()


def _tensor(images: np.ndarray) -> Tensor:
    return torch.tensor(images, dtype=torch.float32)[:, None] / 255


def _chunks(images: np.ndarray) -> list[np.ndarray]:
    return [images[i : i + 500] for i in range(0, len(images), 500)]


# --- the three groups ----------------------------------------------------------------------------


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
    halves = np.zeros((2, len(evidence)), bool)
    halves[0, speaking[first]] = True
    halves[1, speaking[~first]] = True
    excited = [float((clue_hidden * evidence)[half].sum()) for half in halves]
    one = int(excited[1] > excited[0])
    return {"one": halves[one], "anti-one": halves[1 - one], "brake": live & (evidence < 0)}


def group_evidence(
    hidden: np.ndarray, evidence: np.ndarray, groups: dict[str, np.ndarray]
) -> np.ndarray:
    """What each group adds to logit 1 minus logit 0: float64 (3, N), in the order of `GROUPS`."""
    return np.stack([hidden[:, groups[g]] @ evidence[groups[g]] for g in GROUPS])


def rank_answers(
    hidden: np.ndarray, fitted_on: np.ndarray, evidence: np.ndarray, offset: float, ranks: list[int]
) -> np.ndarray:
    """Answers bool (R, N) when the hidden layer (N, 200) keeps only its mean and its `ranks` first
    principal components, both taken from the hidden layer `fitted_on` (M, 200)."""
    mean = fitted_on.mean(axis=0, dtype=np.float64)
    axes = principal_axes(fitted_on)
    read = evidence @ axes  # (200,)
    scores = (hidden - mean) @ axes  # (N, 200)
    base = mean @ evidence + offset
    return np.stack([scores[:, :r] @ read[:r] + base > 0 for r in ranks])


def principal_axes(hidden: np.ndarray) -> np.ndarray:
    """Principal axes (200, 200) of the hidden layer (N, 200), a column each, largest variance
    first; the sign of each is such that its largest entry is positive."""
    axes = np.linalg.eigh(np.cov(hidden.T.astype(np.float64)))[1][:, ::-1]
    return axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])


def effective_template(
    network: Network, images: np.ndarray, evidence: np.ndarray, group: np.ndarray
) -> np.ndarray:
    """How the evidence of a group of units changes with each pixel: the gradient, float64 (28, 28),
    mean over the images uint8 (N, 28, 28)."""
    weights = torch.from_numpy(np.where(group, evidence, 0)).float()
    total = np.zeros((28, 28))
    for chunk in _chunks(_checked_images(images)):
        pixels = _tensor(chunk).requires_grad_()
        (network.hidden(pixels) @ weights).sum().backward()
        total += pixels.grad[:, 0].double().sum(0).numpy()
    return total / len(images)


def fitted_template(images: np.ndarray, evidence: np.ndarray, ridge: float = 50) -> np.ndarray:
    """The linear template float64 (28, 28) that explains a group's evidence (N,) best on the
    images uint8 (N, 28, 28) where it is not nought: ridge regression with an intercept."""
    active = evidence > 0
    pixels = _checked_images(images)[active].reshape(-1, 784) / 255
    pixels -= pixels.mean(axis=0)
    target = evidence[active] - evidence[active].mean()
    square = pixels.T @ pixels + ridge * np.eye(784)
    return np.linalg.solve(square, pixels.T @ target).reshape(28, 28)


# --- what the program predicts of edited images --------------------------------------------------


def push(images: np.ndarray, target: np.ndarray, allowed: np.ndarray, seed: int) -> np.ndarray:
    """Images edited until their similarity is `target` (N,), or as near as the pixels allow.

    To raise it, ink is added where the clue has ink and taken away elsewhere; to lower it, the
    reverse. Of the `allowed` pixels (bool (28, 28)) those that help are set to black or white in
    random order; the last one is set in part, to the nearest grey. uint8 (N, 28, 28) -> uint8
    (N, 28, 28).
    """
    flat = _checked_images(images).reshape(len(images), 784).astype(np.float64)
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

    In each image as many of the `allowed` pixels as `edited` changed, drawn at random, are turned
    from dark to white or from light to black; then the similarity is pushed back to the image's
    own. uint8 (N, 28, 28) each, and so is the result.
    """
    rng = np.random.default_rng(seed)
    flat = _checked_images(images).reshape(len(images), 784)
    count = (edited != images).sum(axis=(1, 2))
    rank = (rng.random(flat.shape) + ~allowed.ravel()).argsort(axis=1).argsort(axis=1)
    turned = np.where(flat < 128, np.uint8(255), np.uint8(0))
    noisy = np.where(rank < count[:, None], turned, flat).reshape(images.shape)
    return push(noisy, similarity(images), allowed, seed + 1)
