"""Grad-CAM and integrated gradients equal the reference libraries, on three architectures.

The libraries serve for this comparison alone; `make bench` installs them.
"""

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist.gradcam import grad_cam, integrated_gradients
from lazy_artist.models import build

WHY = "make bench installs it"
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


def captum_maps(model: nn.Module, layer: nn.Module) -> np.ndarray:
    attr = pytest.importorskip("captum.attr", reason=WHY)
    given = torch.from_numpy(IMAGES[:16]), torch.from_numpy(CLASSES)
    maps = attr.LayerGradCam(model, layer).attribute(*given, relu_attributions=True)
    return maps[:, 0].detach().numpy()


def pytorch_grad_cam_maps(model: nn.Module, layer: nn.Module) -> np.ndarray:
    library = pytest.importorskip("pytorch_grad_cam", reason=WHY)
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(int(index)) for index in CLASSES]
    with library.GradCAM(model, [layer]) as cam:
        cam(torch.from_numpy(IMAGES[:16]), targets)
        seen = cam.activations_and_grads
        maps, gradients = seen.activations[0], seen.gradients[0].numpy()
        return np.maximum(cam.get_cam_image(None, layer, targets, maps, gradients), 0)


@pytest.mark.parametrize("name, layer", CASES)
@pytest.mark.parametrize("library", [captum_maps, pytorch_grad_cam_maps])
def test_grad_cam_equals_the_librarys(library, name, layer):
    """Within 1e-5, and within 1e-5 of the largest value."""
    model = network(name)
    reference = library(model, model.get_submodule(layer))
    assert reference.max() > 0 and (reference == 0).any()
    maps = grad_cam(model, layer, IMAGES[:16], CLASSES)
    np.testing.assert_allclose(maps, reference, rtol=0, atol=1e-5 * min(1, reference.max()))


@pytest.mark.parametrize("name", ["cnn", "resnet18", "sequential"])
def test_integrated_gradients_equal_captums(name):
    """By its default quadrature, Gauss-Legendre, with 50 nodes and with 7; of networks in double
    precision, lest rounding take a node to the other side of a kink."""
    attr = pytest.importorskip("captum.attr", reason=WHY)
    model, images, baselines = network(name).double(), IMAGES[:16], 0.2 * IMAGES[16:32]
    given = [torch.from_numpy(images).double(), torch.from_numpy(baselines).double()]
    for steps in ({}, {"n_steps": 7}):
        method = attr.IntegratedGradients(model)
        reference = method.attribute(*given, torch.from_numpy(CLASSES), **steps).numpy()
        assert reference.max() > 0 > reference.min()
        found = integrated_gradients(model, images, baselines, CLASSES, *steps.values())
        tolerance = 1e-5 * min(1, np.abs(reference).max())
        np.testing.assert_allclose(found, reference, rtol=0, atol=tolerance)
