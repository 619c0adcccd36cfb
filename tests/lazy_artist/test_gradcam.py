"""Maps and gradients by hand, on networks small enough to follow, and all that may go wrong."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from detectors import random_images, two_filters
from torch import nn

from lazy_artist.faithfulness import deletion_curve
from lazy_artist.gradcam import chroma_reliance, display, grad_cam, gradient_energy, upsample
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


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


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


def test_batched_equals_one_by_one():
    model, images, classes = build("cnn", 0).eval(), random_images(252), np.arange(252) % 10
    maps = grad_cam(model, "block2", images, classes)
    reliance = chroma_reliance(model, images, classes)
    for i in (0, 249, 250, 251):  # the first batch of 250 and a rest of two
        alone = grad_cam(model, "block2", images[i : i + 1], int(classes[i]))[0]
        np.testing.assert_allclose(maps[i], alone, atol=1e-6 * maps.max())
        alone = chroma_reliance(model, images[i : i + 1], int(classes[i]))
        np.testing.assert_allclose(reliance[i : i + 1], alone, rtol=1e-4)


def test_work_in_place_changes_neither_maps_nor_images():
    model = build("resnet18", 0).eval()
    maps = grad_cam(model, "bn1", NOISE, 2)  # a ReLU in place follows
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    np.testing.assert_array_equal(grad_cam(model, "bn1", NOISE, 2), maps)
    assert maps.max() > 0
    model = nn.Sequential(nn.Threshold(0.5, 0, inplace=True), *linear_network([1, 2, 3], [0, 0, 0]))
    rows = np.ascontiguousarray(NOISE.transpose(0, 2, 3, 1))
    images = rows.transpose(0, 3, 1, 2)  # in memory as the network wants it
    chroma_reliance(model.eval(), images, 0)
    grad_cam(nn.Sequential(model[0], *tiny()).eval(), "2", images, 0)
    np.testing.assert_array_equal(images, NOISE)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_model_is_left_as_it_was_and_may_be_frozen(frozen, mode):
    model, fresh = build("cnn", 0).eval().requires_grad_(not frozen), build("cnn", 0).eval()
    model.head.bias.grad = torch.ones(10)
    with mode():
        maps, reliance = grad_cam(model, "block3", NOISE, 0), chroma_reliance(model, NOISE, 0)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    np.testing.assert_array_equal(maps, grad_cam(fresh, "block3", NOISE, 0))
    np.testing.assert_array_equal(reliance, chroma_reliance(fresh, NOISE, 0))
    assert hooks(model) == 0 and not any(module.training for module in model.modules())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != frozen
        assert (parameter.grad is None) == (name != "head.bias")
    assert (model.head.bias.grad == 1).all()
    state = fresh.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_layers_that_have_no_map():
    model = two_filters()
    model.aside = nn.Conv2d(3, 2, 1).eval()

    def look_aside(_, inputs):
        model.aside(inputs[0])

    model.layer.register_forward_pre_hook(look_aside)
    for layer, message in (
        ("conv9", "no layer 'conv9': the model has layer, layer.0, layer.1, head, unused, aside$"),
        ("", "no layer ''"),
        ("unused", "'unused' never runs"),
        ("aside", "do not depend on layer 'aside'"),
        ("head", r"'head' must give maps \(N, K, h, w\), not \(4, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            grad_cam(model, layer, NOISE, 0)
        assert hooks(model) == 0 and torch.is_grad_enabled()
    model.layer[0] = nn.Sequential(nn.Conv2d(3, 2, 1), model.layer[1]).eval()
    with pytest.raises(ValueError, match="'layer.0.1' runs more than once.*block around it"):
        grad_cam(model, "layer.0.1", NOISE, 0)


@pytest.mark.parametrize("entry", [grad_cam, chroma_reliance, deletion_curve])
def test_bad_images_classes_and_models(entry):
    model = build("cnn", 0).eval()

    def enter(images, classes):
        before = ("block3",) if entry is grad_cam else ()
        after = (np.ones((len(images), 7, 7)), 0) if entry is deletion_curve else ()
        return entry(model, *before, images, classes, *after)

    for images, classes, error, message in (
        (NOISE, [0, 1, 2, 10], ValueError, "class 10 is out of range: .* the classes 0 to 9"),
        (NOISE, -1, ValueError, "classes must be integers of 0 and above, not -1 to -1"),
        (NOISE, [0, 1], ValueError, r"classes must be .*\(4,\), .*not of shape \(2,\)"),
        (NOISE, True, TypeError, "not bool"),
        (NOISE[:0], 0, ValueError, "there are no images"),
        (NOISE * np.nan, 0, ValueError, r"images must lie in \[0, 1\]"),
    ):
        with pytest.raises(error, match=message):
            enter(images, classes)


def test_a_model_without_logits_or_gradient_is_refused():
    with pytest.raises(ValueError, match=r"must return logits \(4, K\)"):
        grad_cam(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).eval(), "0", NOISE, 0)
    model = linear_network([1, 2, 3], [1, 2, 3])
    assert np.isnan(chroma_reliance(model, NOISE, 0)).all()
    model.register_forward_hook(lambda *args: args[2].detach())
    with pytest.raises(ValueError, match="do not depend on the images"):
        chroma_reliance(model, NOISE, 0)


def test_upsampling_matches_areas_and_display_shares_one_scale():
    ramp = upsample(np.array([[[0.0, 1.0]]]))[0]
    np.testing.assert_allclose(ramp[3], np.clip((np.arange(28) - 6.5) / 14, 0, 1), atol=1e-6)
    maps = np.array([4.0, 1.0, 0.0])[:, None, None].repeat(7, 1).repeat(7, 2)
    np.testing.assert_allclose(display(maps)[:, 5, 5], [1, 0.25, 0])
    np.testing.assert_allclose(display(maps, scale=2)[:, 5, 5], [1, 0.5, 0])  # cut at 1
    assert (display(maps[2:]) == 0).all()
    for scale in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="scale must be positive and finite"):
            display(maps, scale)
    for bad in (maps[0], -maps, maps * np.nan):
        with pytest.raises(ValueError, match="maps must"):
            display(bad)


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
