"""The networks: a three-layer CNN, a ResNet-18 for 28x28 pixels, and the MLP of the LfF protocol.

All take float32 (N, 3, 28, 28) in [0, 1] and return logits (N, 10), unnormalised. All have
`features`, the vector that the last linear layer reads. Layers are found by name, as
`dict(model.named_modules())` lists them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lazy_artist.canvas import N_CLASSES
from lazy_artist.config import device
from lazy_artist.interface import public


class CNN(nn.Module):
    """Three convolutions, global average pooling, one linear layer (Lin et al. 2013,
    arXiv:1312.4400): 96,000 weights.

    `block1`, `block2` and `block3` end in a ReLU, with feature maps (N, 32, 14, 14), (N, 64, 7, 7)
    and (N, 128, 7, 7). As these are averaged before the linear layer, it does not matter where
    something is seen, only how much of it: the kind of architecture that colour tempts most.
    """

    def __init__(self, classes: int = N_CLASSES):
        super().__init__()
        self.block1 = _conv_block(3, 32, kernel=5, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.block2 = _conv_block(32, 64, kernel=3)
        self.block3 = _conv_block(64, 128, kernel=3)
        self.head = nn.Linear(128, classes)

    def features(self, images: Tensor) -> Tensor:
        """Pooled activations (N, 128), non-negative, of images (N, 3, 28, 28)."""
        x = self.pool(self.block1(images))  # (N, 32, 14, 14) -> (N, 32, 7, 7)
        x = self.block3(self.block2(x))  # (N, 64, 7, 7) -> (N, 128, 7, 7)
        # the mean over places, (N, 128); its gradient keeps the maps' memory order this way, and
        # training is a fifth faster than with x.mean((2, 3))
        return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


class ResNet18(nn.Module):
    """ResNet-18 (He et al. 2016, arXiv:1512.03385) for small images and machines: 701,000 weights.

    Layers, blocks, strides and initialisation are the original's, but the first convolution is 3x3,
    no max-pooling follows it, and stages have a quarter of the width: `layer1` to `layer4` give
    (N, 16, 14, 14), (N, 32, 7, 7), (N, 64, 4, 4) and (N, 128, 2, 2).
    """

    def __init__(self, classes: int = N_CLASSES):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(_Residual(16, 16), _Residual(16, 16))
        self.layer2 = nn.Sequential(_Residual(16, 32, stride=2), _Residual(32, 32))
        self.layer3 = nn.Sequential(_Residual(32, 64, stride=2), _Residual(64, 64))
        self.layer4 = nn.Sequential(_Residual(64, 128, stride=2), _Residual(128, 128))
        self.fc = nn.Linear(128, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        """Pooled activations (N, 128), non-negative, of images (N, 3, 28, 28)."""
        x = F.relu(self.bn1(self.conv1(images)))  # (N, 16, 14, 14)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (N, 128, 2, 2)
        return x.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.features(images))


class _Residual(nn.Module):
    """The basic block of He et al.: two 3x3 convolutions around which the input is added; where the
    size changes the input goes through a strided 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, h, w) -> (N, outputs, h / stride, w / stride), sizes rounded up."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class MLP(nn.Module):
    """Three hidden layers of 100 units: the network of Nam et al. (2020, arXiv:2007.02561) for
    Colored MNIST."""

    def __init__(self, classes: int = N_CLASSES):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * 28 * 28, 100), nn.ReLU(),
            nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(100, classes)

    def features(self, images: Tensor) -> Tensor:
        """Last hidden layer (N, 100), non-negative, of images (N, 3, 28, 28)."""
        return self.hidden(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {"cnn": CNN, "resnet18": ResNet18, "mlp": MLP}


@public
def build(arch: str, seed: int) -> nn.Module:
    """A freshly initialised network on `config.device()`, the same for the same seed; torch's own
    generator is left alone. Raises ValueError for an unknown architecture."""
    check_architecture(arch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ARCHITECTURES[arch]()
    return network.to(device())


def check_architecture(arch: str) -> None:
    """Raises ValueError, listing the valid names, unless `arch` is one."""
    if arch not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {arch!r}: choose one of {', '.join(ARCHITECTURES)}")


def _conv_block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167), ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
