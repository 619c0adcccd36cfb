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
IMAGES = np.random.default_rng(2).random((64, 3, 28, 28), dtype=np.float32)
CLASSES = np.arange(16) % 10
CASES = [
    ("cnn", "block3"), ("cnn", "block1"), ("resnet18", "layer4"), ("resnet18", "layer2.1"),
    ("sequential", "4"), ("sequential", "0"),
]  # fmt: skip


def network(name: str) -> nn.Module:
    """With the statistics of a batch in its normalisations, as of a trained network, so that maps
    are neither huge nor tiny. The sequential one has overlapping pools, leaky and smooth units, and
    a hidden linear layer: gradients that differ from place to place."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sequential = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool2d(3, 2),
            nn.Conv2d(8, 12, 3), nn.GELU(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(12 * 5 * 5, 20), nn.Tanh(), nn.Linear(20, 10),
        )  # fmt: skip
    model = sequential if name == "sequential" else build(name, 0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.from_numpy(IMAGES))
    return model.eval()


def assert_equal(maps: np.ndarray, reference: np.ndarray) -> None:
    """Within 1e-5, and within 1e-5 of the largest value."""
    assert maps.shape == reference.shape
    assert reference.max() > 0 and (reference == 0).any()
    assert np.abs(maps - reference).max() < 1e-5 * min(1, reference.max())


@pytest.mark.parametrize("name, layer", CASES)
def test_captum(name, layer):
    attr = pytest.importorskip("captum.attr", reason=WHY)
    model = network(name)
    reference = attr.LayerGradCam(model, model.get_submodule(layer)).attribute(
        torch.from_numpy(IMAGES[:16]), torch.from_numpy(CLASSES), relu_attributions=True
    )
    maps = grad_cam(model, layer, IMAGES[:16], CLASSES)
    assert_equal(maps, reference[:, 0].detach().numpy())


@pytest.mark.parametrize("name, layer", CASES)
def test_pytorch_grad_cam(name, layer):
    library = pytest.importorskip("pytorch_grad_cam", reason=WHY)
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = network(name)
    module, maps = model.get_submodule(layer), grad_cam(model, layer, IMAGES[:16], CLASSES)
    targets = [ClassifierOutputTarget(int(index)) for index in CLASSES]
    with library.GradCAM(model, [module]) as cam:
        scaled = cam(torch.from_numpy(IMAGES[:16]), targets)
        maps_of, gradients = (
            getattr(cam.activations_and_grads, part)[0] for part in ("activations", "gradients")
        )
        raw = cam.get_cam_image(None, module, targets, maps_of, gradients.numpy())
    assert_equal(maps, np.maximum(raw, 0))
    # and what it returns: each map scaled to [0, 1] by itself, enlarged
    ours = scale_cam_image(scale_cam_image(maps, (28, 28)))
    np.testing.assert_allclose(scaled, ours, atol=1e-4)
