"""Grad-CAM equals the reference libraries, on three architectures and several layers.

The libraries serve for this comparison alone: `pip install captum grad-cam`.
"""

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist.gradcam import grad_cam
from lazy_artist.models import build

WHY = "a reference library for this comparison alone: pip install captum grad-cam"


def sequential() -> nn.Module:
    """Overlapping pools, leaky and smooth units, a hidden linear layer: gradients that differ from
    place to place, unlike those of a network that ends in an average."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool2d(3, 2),
            nn.Conv2d(8, 12, 3), nn.GELU(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(12 * 5 * 5, 20), nn.Tanh(), nn.Linear(20, 10),
        )  # fmt: skip


def network(name: str) -> nn.Module:
    """With the statistics of a batch in its normalisations, as of a trained network, so that maps
    are neither huge nor tiny."""
    model = sequential() if name == "sequential" else build(name, 0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.from_numpy(images(64)))
    return model.eval()


def images(count: int) -> np.ndarray:
    return np.random.default_rng(2).random((count, 3, 28, 28), dtype=np.float32)


CASES = [
    ("cnn", "block3"),
    ("cnn", "block1"),
    ("resnet18", "layer4"),
    ("resnet18", "layer2.1"),
    ("sequential", "4"),
    ("sequential", "0"),
]


def case(name: str, layer: str):
    model = network(name)
    return model, dict(model.named_modules())[layer], images(16), np.arange(16) % 10


def assert_equal(maps: np.ndarray, reference: np.ndarray) -> None:
    """Within 1e-5, and within 1e-5 of the largest value."""
    assert maps.shape == reference.shape
    assert reference.max() > 0 and (reference == 0).any()
    assert np.abs(maps - reference).max() < 1e-5 * min(1, reference.max())


@pytest.mark.parametrize("name, layer", CASES)
def test_captum(name, layer):
    attr = pytest.importorskip("captum.attr", reason=WHY)
    model, module, x, classes = case(name, layer)
    reference = attr.LayerGradCam(model, module).attribute(
        torch.from_numpy(x), torch.from_numpy(classes), relu_attributions=True
    )
    assert_equal(grad_cam(model, layer, x, classes), reference[:, 0].detach().numpy())


@pytest.mark.parametrize("name, layer", CASES)
def test_pytorch_grad_cam(name, layer):
    library = pytest.importorskip("pytorch_grad_cam", reason=WHY)
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, module, x, classes = case(name, layer)
    maps = grad_cam(model, layer, x, classes)
    targets = [ClassifierOutputTarget(int(index)) for index in classes]
    with library.GradCAM(model, [module]) as cam:
        scaled = cam(torch.from_numpy(x), targets)
        seen = cam.activations_and_grads
        raw = cam.get_cam_image(
            None, module, targets, seen.activations[0], seen.gradients[0].numpy()
        )
    assert_equal(maps, np.maximum(raw, 0))
    # and what it returns: each map scaled to [0, 1] by itself, enlarged
    ours = scale_cam_image(scale_cam_image(maps, (28, 28)))
    np.testing.assert_allclose(scaled, ours, atol=1e-4)
