"""Maps and gradients by hand, on networks small enough to follow, and all that may go wrong."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist.faithfulness import deletion_curve
from lazy_artist.gradcam import chroma_reliance, display, grad_cam, gradient_energy, upsample
from lazy_artist.models import build


def noise(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, 28, 28), dtype=np.float32)


def quarters() -> np.ndarray:
    """One image in four flat quarters: red, green, blue, yellow."""
    image = np.array([[[1, 0], [0, 1]], [[0, 1], [0, 1]], [[0, 0], [1, 0]]], np.float32)
    return image.repeat(14, 1).repeat(14, 2)[None]


class Squares(nn.Module):
    """Sum of the squares of all that it gets, as the one logit beside a 0."""

    def forward(self, maps):
        total = maps.square().sum((1, 2, 3))
        return torch.stack([total, 0 * total], 1)


def tiny(head: nn.Module | None = None) -> nn.Sequential:
    """Means of the quarters -> the maps R and G - B, each 2x2 -> logits of three classes."""
    maps, linear = nn.Conv2d(3, 2, 1, bias=False), nn.Linear(8, 3)
    with torch.no_grad():
        maps.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, -1]])[:, :, None, None])
        linear.weight.copy_(
            torch.tensor([[1.0, 2, 3, 4, 0, 0, 0, -4], [-1, -1, -1, -1, 2, 2, 2, 2], [0] * 8])
        )
    head = head or nn.Sequential(nn.Flatten(), linear)
    return nn.Sequential(OrderedDict(pool=nn.AvgPool2d(14), maps=maps, head=head)).eval()


def linear_network(*rgb) -> nn.Sequential:
    """A row of `rgb` a class: the weight of every pixel's R, G and B."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, len(rgb))).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor(rgb, dtype=torch.float32).repeat_interleave(784, 1))
    return model


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_grad_cam_by_hand():
    # A_0 = [[1, 0], [0, 1]], A_1 = [[0, 1], [-1, 1]]; channel weights: class 0 (2.5, -1), 1 (-1, 2)
    images = quarters().repeat(3, 0)
    maps = grad_cam(tiny(), "maps", images, [0, 1, 2])
    expected = [[[2.5, 0], [1, 1.5]], [[0, 2], [0, 1]], [[0, 0], [0, 0]]]
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    np.testing.assert_allclose(grad_cam(tiny(), "maps", images[:1], 1), expected[1:2], atol=1e-6)
    # z = sum of squares: dz/dA = 2 A, so the weights are 2 * mean(A) = (1, 0.5)
    maps = grad_cam(tiny(Squares()), "maps", quarters(), 0)
    np.testing.assert_allclose(maps, [[[1, 0.5], [0, 1.5]]], atol=1e-6)


@pytest.mark.parametrize("arch, layer", [("cnn", "block2"), ("resnet18", "layer3.0.bn1")])
def test_batched_equals_one_by_one(arch, layer):
    model, images, classes = build(arch, 0).eval(), noise(252), np.arange(252) % 10
    maps = grad_cam(model, layer, images, classes)
    reliance = chroma_reliance(model, images, classes)
    assert maps[250:].max() > 0
    for i in (0, 249, 250, 251):  # the first batch of 250 and a rest of two
        alone = grad_cam(model, layer, images[i : i + 1], int(classes[i]))[0]
        np.testing.assert_allclose(maps[i], alone, atol=1e-6 * maps.max())
        alone = chroma_reliance(model, images[i : i + 1], int(classes[i]))
        np.testing.assert_allclose(reliance[i : i + 1], alone, rtol=1e-4)


def test_work_in_place_changes_neither_maps_nor_images():
    model = build("resnet18", 0).eval()
    maps = grad_cam(model, "bn1", noise(), 2)  # a ReLU in place follows
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    np.testing.assert_array_equal(grad_cam(model, "bn1", noise(), 2), maps)
    assert maps.max() > 0
    model = nn.Sequential(nn.Threshold(0.5, 0, inplace=True), *linear_network([1, 2, 3], [0, 0, 0]))
    rows = np.ascontiguousarray(noise().transpose(0, 2, 3, 1))
    images = rows.transpose(0, 3, 1, 2)  # in memory as the network wants it
    chroma_reliance(model.eval(), images, 0)
    grad_cam(nn.Sequential(model[0], *tiny()).eval(), "2", images, 0)
    np.testing.assert_array_equal(images, noise())


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_model_is_left_as_it_was_and_may_be_frozen(frozen, mode):
    model = build("cnn", 0).eval().requires_grad_(not frozen)
    model.head.bias.grad = torch.ones(10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with mode():
        maps = grad_cam(model, "block3", noise(), 0)
        reliance = chroma_reliance(model, noise(), 0)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    fresh = build("cnn", 0).eval()
    np.testing.assert_array_equal(maps, grad_cam(fresh, "block3", noise(), 0))
    np.testing.assert_array_equal(reliance, chroma_reliance(fresh, noise(), 0))
    assert hooks(model) == 0 and not any(module.training for module in model.modules())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != frozen
        assert (parameter.grad is None) == (name != "head.bias")
    assert (model.head.bias.grad == 1).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Oddities(nn.Module):
    """A layer that never runs, one that runs twice, one that leads nowhere, one that gives two, and
    one that gives a vector."""

    class Two(nn.Module):
        def forward(self, x):
            return x, x

    def __init__(self):
        super().__init__()
        self.idle, self.twice, self.aside = nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(3, 2, 1)
        self.two, self.conv, self.head = self.Two(), nn.Conv2d(3, 4, 7), nn.Identity()

    def forward(self, x):
        self.aside(x)
        return self.head(self.twice(self.conv(self.two(self.twice(x))[0])).mean((2, 3)))


@pytest.mark.parametrize(
    "layer, message",
    [
        ("conv9", "no layer 'conv9': the model has idle, twice, aside, two, conv, head$"),
        ("", "no layer ''"),
        ("idle", "'idle' never runs"),
        ("twice", "'twice' runs more than once.*block around it"),
        ("aside", "do not depend on layer 'aside'"),
        ("two", r"'two' must give maps \(N, K, h, w\), not tuple"),
        ("head", r"'head' must give maps \(N, K, h, w\), not \(4, 4\)"),
    ],
)
def test_layers_that_have_no_map(layer, message):
    model = Oddities().eval()
    with pytest.raises(ValueError, match=message):
        grad_cam(model, layer, noise(), 0)
    assert hooks(model) == 0 and torch.is_grad_enabled()
    assert grad_cam(model, "conv", noise(), 0).shape == (4, 22, 22)


ENTRIES = (
    lambda model, *given: grad_cam(model, "block3", *given),
    chroma_reliance,
    lambda model, images, classes: deletion_curve(
        model, images, classes, np.ones((len(images), 7, 7)), 0
    ),
)


@pytest.mark.parametrize("entry", ENTRIES)
def test_bad_images_classes_and_models(entry):
    model = build("cnn", 0).eval()
    for images, classes, error, message in (
        (noise(), 10, ValueError, "class 10 is out of range: the model has the classes 0 to 9"),
        (noise(), [0, 1, 2, 11], ValueError, "class 11 is out of range"),
        (noise(), -1, ValueError, "class -1 is out of range"),
        (noise(), [0, 1], ValueError, r"one for each of 4 images, not \(2,\)"),
        (noise(), 1.0, TypeError, "classes must be integers, not float64"),
        (noise(), True, TypeError, "classes must be integers, not bool"),
        (noise()[:0], 0, ValueError, "there are no images"),
        (noise()[:, :1], 0, ValueError, r"images must be float32 \(N, 3, 28, 28\)"),
        (noise().astype(np.float64), 0, ValueError, "images must be float32"),
        (noise() * 255, 0, ValueError, r"images must lie in \[0, 1\]"),
        (noise() * np.nan, 0, ValueError, r"images must lie in \[0, 1\]"),
        (torch.zeros(4, 3, 28, 28), 0, TypeError, "images must be a numpy array, not Tensor"),
    ):
        with pytest.raises(error, match=message):
            entry(model, images, classes)
    model.block1[1].train()
    with pytest.raises(ValueError, match=r"train mode.*call model\.eval\(\) first"):
        entry(model, noise(), 0)


def test_a_model_without_logits_or_gradient_is_refused():
    with pytest.raises(ValueError, match=r"must return logits \(4, C\)"):
        grad_cam(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).eval(), "0", noise(), 0)
    model = linear_network([1, 2, 3], [1, 2, 3])
    assert np.isnan(chroma_reliance(model, noise(), 0)).all()
    model.register_forward_hook(lambda *args: args[2].detach())
    with pytest.raises(ValueError, match="do not depend on the images"):
        chroma_reliance(model, noise(), 0)


def test_upsampling_matches_areas_and_display_shares_one_scale():
    ramp = upsample(np.array([[[0.0, 1.0]]]))[0]
    np.testing.assert_allclose(ramp[3], np.clip((np.arange(28) - 6.5) / 14, 0, 1), atol=1e-6)
    maps = np.stack([np.full((7, 7), 4.0), np.full((7, 7), 1.0), np.zeros((7, 7))])
    drawn = display(maps)
    assert drawn.shape == (3, 28, 28) and drawn.dtype == np.float32
    np.testing.assert_allclose(drawn[:, 5, 5], [1, 0.25, 0])
    np.testing.assert_allclose(display(maps, scale=2)[:, 5, 5], [1, 0.5, 0])  # cut at 1
    assert (display(maps[2:]) == 0).all()
    for scale in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="scale must be positive and finite"):
            display(maps, scale)
    for bad in (maps[0], -maps, maps * np.nan):
        with pytest.raises(ValueError, match="maps must"):
            display(bad)


@pytest.mark.parametrize(
    "rgb, share",
    [
        ([[2, 2, 2], [0] * 3], 0), ([[1, -1, 0], [0] * 3], 1), ([[1, 0, 0], [0] * 3], 2 / 3),
        ([[1, 1, 0], [0] * 3], 1 / 3),
        ([[6, -4, 1], [5, -5, 0]], 0),  # both for red, they differ by grey alone
        ([[9, 8, 9], [8, 9, 9]], 1),  # both for light, they differ by colour alone
    ],
)  # fmt: skip
def test_chroma_share_of_a_linear_network(rgb, share):
    for wanted in (0, 1):
        found = chroma_reliance(linear_network(*rgb), noise(), wanted)
        np.testing.assert_allclose(found, [share] * 4, atol=1e-6)


def test_gradient_energy_by_hand():
    model = linear_network([0, 0, 0], [0, 0, 0], [0, 0, 0])
    with torch.no_grad():
        weight = model[1].weight.view(3, 3, 28, 28)
        weight[1, :, 4, 9] = torch.tensor([3.0, 3, 0])  # above the mean: (2, 2, 0)
        weight[1, :, 7, 7] = torch.tensor([1.5, 1.5, 1.5])  # (1, 1, 1)
    brightness, chroma = gradient_energy(model, noise(2), 1)
    assert brightness.shape == chroma.shape == (2, 28, 28)
    np.testing.assert_allclose(brightness[:, [4, 7], [9, 7]], [[16 / 3, 3]] * 2, rtol=1e-5)
    np.testing.assert_allclose(chroma[:, 4, 9], 8 / 3, rtol=1e-5)
    assert np.count_nonzero(brightness) == 4 and chroma[:, 7, 7].max() < 1e-9
    np.testing.assert_allclose(chroma_reliance(model, noise(2), 1), (8 / 3) / 11, rtol=1e-5)
    for low, high in zip(gradient_energy(model, noise(2), 0), (brightness, chroma), strict=True):
        np.testing.assert_allclose(4 * low, high, atol=1e-5)  # half as far below the mean
