"""Maps and gradients by hand, on networks small enough to follow."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from detectors import random_images, two_filters
from torch import nn

from lazy_artist.evaluate import predict
from lazy_artist.gradcam import (
    chroma_reliance,
    display,
    grad_cam,
    gradient_energy,
    integrated_gradients,
    upsample,
)
from lazy_artist.models import build

NOISE = random_images(4)


class Squares(nn.Module):
    """Sum of the squares of all that it gets, as the one logit beside a 0."""

    def forward(self, maps):
        total = maps.square().sum((1, 2, 3))
        return torch.stack([total, 0 * total], 1)


def tiny(head: nn.Module | None = None) -> nn.Sequential:
    """Means of the quarters -> the maps R and G - B, each 2x2 -> logits of three classes."""
    maps, linear = nn.Conv2d(3, 2, 1, bias=False), nn.Linear(8, 3)
    maps.weight.data = torch.tensor([[1.0, 0, 0], [0, 1, -1]])[:, :, None, None]
    linear.weight.data = torch.tensor([[1.0, 2, 3, 4, 0, 0, 0, -4], [-1] * 4 + [2] * 4, [0] * 8])
    head = head or nn.Sequential(nn.Flatten(), linear)
    return nn.Sequential(OrderedDict(pool=nn.AvgPool2d(14), maps=maps, head=head)).eval()


def linear_network(*rgb) -> nn.Sequential:
    """A row of `rgb` a class: the weight of every pixel's R, G and B."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, len(rgb))).eval()
    model[1].weight.data = torch.tensor(rgb, dtype=torch.float32).repeat_interleave(784, 1)
    return model


def test_grad_cam_by_hand():
    """Of an image in four flat quarters: red, green, blue, yellow."""
    image = np.array([[[1, 0], [0, 1]], [[0, 1], [0, 1]], [[0, 0], [1, 0]]], np.float32)
    images = image.repeat(14, 1).repeat(14, 2)[None].repeat(3, 0)
    # A_0 = [[1, 0], [0, 1]], A_1 = [[0, 1], [-1, 1]]; channel weights: class 0 (2.5, -1), 1 (-1, 2)
    maps = grad_cam(tiny(), "maps", images, [0, 1, 2])
    expected = [[[2.5, 0], [1, 1.5]], [[0, 2], [0, 1]], [[0, 0], [0, 0]]]
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    np.testing.assert_allclose(grad_cam(tiny(), "maps", images[:1], 1), expected[1:2], atol=1e-6)
    # z = sum of squares: dz/dA = 2 A, so the weights are 2 * mean(A) = (1, 0.5)
    maps = grad_cam(tiny(Squares()), "maps", images[:1], 0)
    np.testing.assert_allclose(maps, [[[1, 0.5], [0, 1.5]]], atol=1e-6)


def test_integrated_gradients_by_hand():
    """z = 3 x + 5 on one pixel's red and 2 y^2 on another's blue, x from .2 to .6, y from .1 to .9;
    class 1 is the opposite."""

    class Bent(nn.Module):
        def forward(self, images):
            z = 3 * images[:, 0, 4, 9] + 5 + 2 * images[:, 2, 7, 7] ** 2
            return torch.stack([z, -z], 1)

    images, baselines = NOISE[:2].copy(), np.full((3, 28, 28), 0.1, np.float32)
    images[:, 0, 4, 9], images[:, 2, 7, 7], baselines[0, 4, 9] = 0.6, 0.9, 0.2
    expected = np.zeros_like(images)
    expected[:, 0, 4, 9], expected[:, 2, 7, 7] = 3 * (0.6 - 0.2), 2 * (0.9**2 - 0.1**2)
    expected[1] *= -1
    for steps in (1, 2, 50):  # of a polynomial of degree 2, one node finds the integral
        found = integrated_gradients(Bent(), images, baselines, [0, 1], steps)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    # a step from 0 to 1 at y = .5, in the middle of the way; its slope there is not to be seen
    steep = nn.Sequential(nn.Flatten(), nn.Linear(2352, 2), nn.ReLU())
    steep[1].weight.data.zero_(), steep[1].bias.data.fill_(-0.5)
    steep[1].weight.data[0, 2 * 784 + 7 * 28 + 7] = 1
    found = integrated_gradients(steep, images, baselines, 0, 2)  # one of two nodes is above .5
    np.testing.assert_allclose(found[:, 2, 7, 7], 0.8 / 2, rtol=1e-5)


def test_integrated_gradients_add_up_to_the_difference_of_logits():
    model, images, classes = build("cnn", 0).eval(), random_images(4), np.arange(4)
    for baseline in (0.0, images[::-1] / 4):
        found = integrated_gradients(model, images, baseline, classes, 60)
        start = np.broadcast_to(np.float32(baseline), images.shape)
        gain = (predict(model, images) - predict(model, start))[np.arange(4), classes]
        error = np.abs(found.sum((1, 2, 3), dtype=np.float64) - gain)
        assert error.max() < 0.01 * np.abs(gain).mean()
    for bad, message in (
        ({"baselines": 1.5}, r"baseline must lie in \[0, 1\]"),
        ({"steps": 0}, "steps must be a whole number from 1 to 1000, not 0"),
    ):
        with pytest.raises(ValueError, match=message):
            integrated_gradients(**{"model": model, "images": images, "baselines": 0.0} | bad,
                                 classes=0)  # fmt: skip


def test_batched_equals_one_by_one():
    model, images, classes = build("cnn", 0).eval(), random_images(252), np.arange(252) % 10
    maps = grad_cam(model, "block2", images, classes)
    reliance = chroma_reliance(model, images, classes)
    parts = integrated_gradients(model, images, images[::-1], classes, 2)
    for i in (0, 249, 250, 251):  # the first batch of 250 and a rest of two
        alone = images[i : i + 1], int(classes[i])
        found = grad_cam(model, "block2", *alone)[0]
        np.testing.assert_allclose(maps[i], found, atol=1e-6 * maps.max())
        np.testing.assert_allclose(reliance[i], chroma_reliance(model, *alone)[0], rtol=1e-4)
        found = integrated_gradients(model, alone[0], images[251 - i], alone[1], 2)[0]
        np.testing.assert_allclose(parts[i], found, atol=1e-5 * np.abs(parts).max())


def test_work_in_place_changes_neither_maps_nor_images():
    model = build("resnet18", 0).eval()
    maps = grad_cam(model, "bn1", NOISE, 2)  # a ReLU in place follows
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    np.testing.assert_array_equal(grad_cam(model, "bn1", NOISE, 2), maps)
    assert maps.max() > 0
    cut = nn.Threshold(0.5, 0, inplace=True)
    images = np.ascontiguousarray(NOISE.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    linear = nn.Sequential(cut, *linear_network([1, 2, 3], [0, 0, 0]))
    chroma_reliance(linear, images, 0)
    integrated_gradients(linear, images, images, 0)
    grad_cam(nn.Sequential(cut, *tiny()), "2", images, 0)
    np.testing.assert_array_equal(images, NOISE)


def test_what_has_no_map_or_gradient_is_refused():
    model, straight = two_filters(), linear_network([1, 2, 3], [1, 2, 3])
    model.aside = nn.Conv2d(3, 2, 1)
    model.layer.register_forward_pre_hook(lambda _, inputs: (model.aside(inputs[0]), None)[1])
    assert np.isnan(chroma_reliance(straight, NOISE, 0)).all()
    straight.register_forward_hook(lambda *args: args[2].detach())
    for run, message in (
        (lambda: grad_cam(model, "aside", NOISE, 0), "do not depend on layer 'aside'"),
        (lambda: grad_cam(model, "head", NOISE, 0), r"'head' must give maps \(N, K, h, w\)"),
        (lambda: grad_cam(model, "layer", NOISE[:0], 0), "there are no images"),
        (lambda: grad_cam(model, "layer", NOISE, 2), "class 2 is out of range"),
        (lambda: chroma_reliance(straight, NOISE, 0), "do not depend on the images"),
        (lambda: integrated_gradients(straight, NOISE, 0, 0), "do not depend on the images"),
    ):
        with pytest.raises(ValueError, match=message):
            run()


def test_upsampling_matches_areas_and_display_shares_one_scale():
    ramp = upsample(np.array([[[0.0, 1.0]]]))[0]
    np.testing.assert_allclose(ramp[3], np.clip((np.arange(28) - 6.5) / 14, 0, 1), atol=1e-6)
    maps = np.array([4.0, 1.0, 0.0])[:, None, None].repeat(7, 1).repeat(7, 2)
    np.testing.assert_allclose(display(maps)[:, 5, 5], [1, 0.25, 0])
    np.testing.assert_allclose(display(maps, scale=2)[:, 5, 5], [1, 0.5, 0])  # cut at 1
    assert (display(maps[2:]) == 0).all()
    for bad in ((maps, 0), (maps, np.inf), (maps[0], 1), (-maps, 1), (maps * np.nan, 1)):
        with pytest.raises(ValueError, match="scale must be positive and finite|maps must"):
            display(*bad)


def test_chroma_share_of_a_linear_network():
    for rgb, share in (
        ([[2, 2, 2], [0] * 3], 0),
        ([[1, -1, 0], [0] * 3], 1),
        ([[1, 0, 0], [0] * 3], 2 / 3),
        ([[6, -4, 1], [5, -5, 0]], 0),  # both for red, they differ by grey alone
        ([[9, 8, 9], [8, 9, 9]], 1),  # both for light, they differ by colour alone
    ):
        for wanted in (0, 1):
            found = chroma_reliance(linear_network(*rgb), NOISE, wanted)
            np.testing.assert_allclose(found, [share] * 4, atol=1e-6)


def test_gradient_energy_by_hand():
    model = linear_network([0, 0, 0], [0, 0, 0], [0, 0, 0])
    weight = model[1].weight.data.view(3, 3, 28, 28)
    weight[1, :, 4, 9] = torch.tensor([3.0, 3, 0])  # above the mean: (2, 2, 0)
    weight[1, :, 7, 7] = 1.5  # (1, 1, 1)
    brightness, chroma = gradient_energy(model, NOISE[:2], 1)
    np.testing.assert_allclose(brightness[:, [4, 7], [9, 7]], [[16 / 3, 3]] * 2, rtol=1e-5)
    np.testing.assert_allclose(chroma[:, 4, 9], 8 / 3, rtol=1e-5)
    assert np.count_nonzero(brightness) == 4 and chroma[:, 7, 7].max() < 1e-9
    np.testing.assert_allclose(chroma_reliance(model, NOISE[:2], 1), (8 / 3) / 11, rtol=1e-5)
    low = gradient_energy(model, NOISE[:2], 0)  # half as far below the mean
    np.testing.assert_allclose(4 * np.array(low), [brightness, chroma], atol=1e-5)
