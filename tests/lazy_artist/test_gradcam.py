"""Maps and measures by hand, on networks small enough to follow, and all that may go wrong."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from torch import nn

from lazy_artist import gradcam
from lazy_artist.evaluate import predict
from lazy_artist.gradcam import (
    area_under,
    centre_maps,
    chroma_reliance,
    class_activation_map,
    deletion_curve,
    display,
    grad_cam,
    gradient_energy,
    heat_shares,
    insertion_curve,
    random_maps,
    randomise,
    rank_correlation,
    telling_parts,
    upsample,
)
from lazy_artist.models import build


def noise(count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, 28, 28), dtype=np.float32)


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
    maps = nn.Conv2d(3, 2, 1, bias=False)
    linear = nn.Linear(8, 3)
    with torch.no_grad():
        maps.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1, -1]])[:, :, None, None])
        linear.weight.copy_(
            torch.tensor([[1.0, 2, 3, 4, 0, 0, 0, -4], [-1, -1, -1, -1, 2, 2, 2, 2], [0] * 8])
        )
    layers = OrderedDict(pool=nn.AvgPool2d(14), maps=maps)
    if head is None:
        layers |= {"flat": nn.Flatten(), "head": linear}
    else:
        layers["head"] = head
    return nn.Sequential(layers).eval()


def linear_network(*rgb) -> nn.Sequential:
    """A row of `rgb` a class: the weight of every pixel's R, G and B."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, len(rgb))).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor(rgb, dtype=torch.float32).repeat_interleave(784, 1))
    return model


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


# --- maps ----------------------------------------------------------------------------------------


def test_grad_cam_by_hand():
    # A_0 = [[1, 0], [0, 1]], A_1 = [[0, 1], [-1, 1]]; channel weights: class 0 (2.5, -1), 1 (-1, 2)
    images = quarters().repeat(3, 0)
    maps = grad_cam(tiny(), "maps", images, [0, 1, 2])
    expected = [[[2.5, 0], [1, 1.5]], [[0, 2], [0, 1]], [[0, 0], [0, 0]]]
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    np.testing.assert_allclose(grad_cam(tiny(), "maps", images[:1], 1), expected[1:2], atol=1e-6)


def test_grad_cam_takes_the_gradient_where_the_network_stands():
    # z = sum of squares: dz/dA = 2 A, so the weights are 2 * mean(A) = (1, 0.5)
    maps = grad_cam(tiny(Squares()), "maps", quarters(), 0)
    np.testing.assert_allclose(maps, [[[1, 0.5], [0, 1.5]]], atol=1e-6)


@pytest.mark.parametrize("arch, layer", [("cnn", "block2"), ("resnet18", "layer3.0.bn1")])
def test_batched_equals_one_by_one(arch, layer, monkeypatch):
    model, images, classes = build(arch, 0).eval(), noise(5), np.array([3, 1, 4, 1, 5])
    whole = grad_cam(model, layer, images, classes)
    assert (whole >= 0).all() and whole.max() > 0
    single = [grad_cam(model, layer, images[i : i + 1], int(classes[i])) for i in range(5)]
    np.testing.assert_allclose(np.concatenate(single), whole, atol=1e-6 * whole.max())
    monkeypatch.setattr(gradcam, "BATCH", 2)
    np.testing.assert_allclose(
        grad_cam(model, layer, images, classes), whole, atol=1e-6 * whole.max()
    )


def test_work_in_place_after_the_layer_changes_nothing():
    model = build("resnet18", 0).eval()
    maps = grad_cam(model, "bn1", noise(), 2)  # a ReLU in place follows
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    np.testing.assert_array_equal(grad_cam(model, "bn1", noise(), 2), maps)
    assert maps.max() > 0


def test_the_images_are_not_worked_on():
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
        cam = class_activation_map(model, "block3", "head", noise(), 0)
        reliance = chroma_reliance(model, noise(), 0)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    np.testing.assert_array_equal(maps, grad_cam(build("cnn", 0).eval(), "block3", noise(), 0))
    assert maps.shape == cam.shape == (4, 7, 7) and np.isfinite(reliance).all()
    assert hooks(model) == 0 and not any(module.training for module in model.modules())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != frozen
        assert (parameter.grad is None) == (name != "head.bias")
    assert (model.head.bias.grad == 1).all()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_no_hook_survives_an_exception():
    class Fails(nn.Module):
        def forward(self, x):
            raise RuntimeError("broken")

    model = tiny(Fails())
    with pytest.raises(RuntimeError, match="broken"):
        grad_cam(model, "maps", quarters(), 0)
    assert hooks(model) == 0
    for layer, classes in [("head", 0), ("maps", 3), ("flat", 0)]:
        model = tiny()
        with pytest.raises(ValueError):
            grad_cam(model, layer, quarters(), classes)
        assert hooks(model) == 0 and torch.is_grad_enabled()


def test_cam_by_hand():
    head = nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, -2], [0, 3]]))
    model = tiny(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head))
    cam = class_activation_map(model, "maps", "head.2", quarters().repeat(2, 0), [0, 1])
    np.testing.assert_allclose(cam, [[[1, -2], [2, -1]], [[0, 3], [-3, 3]]], atol=1e-6)


@pytest.mark.parametrize(
    "arch, layer, head", [("cnn", "block3", "head"), ("resnet18", "layer4", "fc")]
)
def test_grad_cam_is_cam_up_to_a_constant(arch, layer, head):
    model, images, classes = build(arch, 1).eval(), noise(6), np.arange(6)
    cam = class_activation_map(model, layer, head, images, classes)
    maps = grad_cam(model, layer, images, classes)
    assert cam.min() < 0 < cam.max()
    expected = np.maximum(cam, 0) / (cam.shape[1] * cam.shape[2])
    np.testing.assert_allclose(maps, expected, atol=1e-6 * expected.max())


def test_cam_refuses_other_networks():
    model = build("cnn", 0).eval()
    model.features = lambda x: model.block3(model.block2(model.block1(x))).amax((2, 3))
    with pytest.raises(ValueError, match="'block3'.*use grad_cam"):
        class_activation_map(model, "block3", "head", noise(), 0)
    with pytest.raises(ValueError, match="128 features, but 'block2' gives 64 maps"):
        class_activation_map(build("cnn", 0).eval(), "block2", "head", noise(), 0)
    with pytest.raises(ValueError, match="'block3' must name a linear layer, not Sequential"):
        class_activation_map(build("cnn", 0).eval(), "block3", "block3", noise(), 0)


# --- bad input -----------------------------------------------------------------------------------


class Oddities(nn.Module):
    """A layer that never runs, one that runs twice, one that leads nowhere, one that gives two."""

    class Two(nn.Module):
        def forward(self, x):
            return x, x

    def __init__(self):
        super().__init__()
        self.idle, self.twice, self.aside = nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(3, 2, 1)
        self.two, self.conv = self.Two(), nn.Conv2d(3, 4, 7)

    def forward(self, x):
        self.aside(x)
        return self.twice(self.conv(self.two(self.twice(x))[0])).mean((2, 3))


@pytest.mark.parametrize(
    "layer, message",
    [
        ("conv9", "no layer 'conv9': the model has idle, twice, aside, two, conv$"),
        ("", "no layer ''"),
        ("idle", "'idle' never runs"),
        ("twice", "'twice' runs more than once.*block around it"),
        ("aside", "do not depend on layer 'aside'"),
        ("two", r"'two' \(Two\) must give maps \(N, K, h, w\), not tuple"),
    ],
)
def test_layers_that_have_no_map(layer, message):
    model = Oddities().eval()
    with pytest.raises(ValueError, match=message):
        grad_cam(model, layer, noise(), 0)
    assert hooks(model) == 0
    assert grad_cam(model, "conv", noise(), 0).shape == (4, 22, 22)


def test_a_linear_layer_has_no_map():
    with pytest.raises(
        ValueError, match=r"'head' \(Linear\) must give maps .* not \(4, 10\): name"
    ):
        grad_cam(build("cnn", 0).eval(), "head", noise(), 0)


ENTRIES = {
    "grad_cam": lambda model, images, classes: grad_cam(model, "block3", images, classes),
    "cam": lambda model, images, classes: class_activation_map(
        model, "block3", "head", images, classes
    ),
    "chroma": chroma_reliance,
    "deletion": lambda model, images, classes: deletion_curve(
        model, images, classes, np.ones((len(images), 7, 7)), 0
    ),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize(
    "images, classes, error, message",
    [
        (noise(), 10, ValueError, "class 10 is out of range: the model has the classes 0 to 9"),
        (noise(), [0, 1, 2, 11], ValueError, "class 11 is out of range"),
        (noise(), -1, ValueError, "class -1 is out of range"),
        (noise(), [0, 1], ValueError, r"one for each of the 4 images, not \(2,\)"),
        (noise(), 1.0, TypeError, "classes must be integers, not float64"),
        (noise(), True, TypeError, "classes must be integers, not bool"),
        (noise()[:0], 0, ValueError, "there are no images"),
        (noise()[:, :1], 0, ValueError, r"images must be float32 \(N, 3, 28, 28\)"),
        (noise().astype(np.float64), 0, ValueError, "images must be float32"),
        (noise() * 255, 0, ValueError, r"images must lie in \[0, 1\]"),
        (noise() * np.nan, 0, ValueError, r"images must lie in \[0, 1\]"),
        (torch.zeros(4, 3, 28, 28), 0, TypeError, "images must be a numpy array, not Tensor"),
    ],
)
def test_bad_images_and_classes(entry, images, classes, error, message):
    with pytest.raises(error, match=message):
        ENTRIES[entry](build("cnn", 0).eval(), images, classes)


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_model_in_train_mode_is_refused(entry):
    model = build("cnn", 0).eval()
    model.block1[1].train()
    with pytest.raises(ValueError, match=r"train mode.*call model\.eval\(\) first"):
        ENTRIES[entry](model, noise(), 0)


def test_a_model_without_logits_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()).eval()
    with pytest.raises(ValueError, match=r"must return logits \(4, C\)"):
        grad_cam(model, "0", noise(), 0)


# --- drawing -------------------------------------------------------------------------------------


def test_upsampling_matches_areas():
    ramp = upsample(np.array([[[0.0, 1.0]]]), 4)[0]
    np.testing.assert_allclose(ramp, [[0, 0.25, 0.75, 1]] * 4)
    np.testing.assert_allclose(upsample(np.full((2, 7, 7), 3.0)), np.full((2, 28, 28), 3.0))


def test_display_shares_one_scale():
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


# --- colour or brightness ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rgb, share",
    [([2, 2, 2], 0), ([1, -1, 0], 1), ([1, 1, -2], 1), ([1, 0, 0], 2 / 3), ([1, 1, 0], 1 / 3)],
)
def test_chroma_share_of_a_linear_network(rgb, share):
    model = linear_network(rgb, [0, 0, 0])
    np.testing.assert_allclose(chroma_reliance(model, noise(), 0), [share] * 4, atol=1e-6)
    np.testing.assert_allclose(chroma_reliance(model, noise(), 1), [share] * 4, atol=1e-6)


def test_what_all_logits_share_does_not_count():
    model = linear_network([6, -4, 1], [5, -5, 0])  # both for red, they differ by grey alone
    np.testing.assert_allclose(chroma_reliance(model, noise(), 0), [0] * 4, atol=1e-6)
    model = linear_network([9, 8, 9], [8, 9, 9])  # both for light, they differ by colour alone
    np.testing.assert_allclose(chroma_reliance(model, noise(), 0), [1] * 4, atol=1e-6)


def test_gradient_energy_by_hand():
    model = linear_network([0, 0, 0], [0, 0, 0], [0, 0, 0])
    with torch.no_grad():
        weight = model[1].weight.view(3, 3, 28, 28)
        weight[1, :, 4, 9] = torch.tensor([3.0, 3, 0])  # above the mean: (2, 2, 0)
        weight[1, :, 7, 7] = torch.tensor([1.5, 1.5, 1.5])  # (1, 1, 1)
    brightness, chroma = gradient_energy(model, noise(2), 1)
    assert brightness.shape == chroma.shape == (2, 28, 28)
    np.testing.assert_allclose(brightness[:, 4, 9], 16 / 3, rtol=1e-5)
    np.testing.assert_allclose(chroma[:, 4, 9], 8 / 3, rtol=1e-5)
    np.testing.assert_allclose(brightness[:, 7, 7], 3, rtol=1e-5)
    assert np.count_nonzero(brightness) == 4 and chroma[:, 7, 7].max() < 1e-9
    np.testing.assert_allclose(chroma_reliance(model, noise(2), 1), (8 / 3) / 11, rtol=1e-5)
    for low, high in zip(gradient_energy(model, noise(2), 0), (brightness, chroma), strict=True):
        np.testing.assert_allclose(4 * low, high, atol=1e-5)  # half as far below the mean


def test_chroma_share_of_no_gradient_is_unknown():
    assert np.isnan(chroma_reliance(linear_network([1, 2, 3], [1, 2, 3]), noise(), 0)).all()
    with pytest.raises(ValueError, match="do not depend on the images"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(2352, 2).requires_grad_(False)).eval()
        model.register_forward_hook(lambda *args: args[2].detach())
        chroma_reliance(model, noise(), 0)


# --- stroke or ground ----------------------------------------------------------------------------


def test_heat_shares_by_hand():
    maps, alpha = np.zeros((3, 28, 28)), np.zeros((3, 28, 28))
    alpha[:, 10:14, 10:14] = 0.6
    alpha[:, 20, 20] = 0.5  # half is not yet stroke
    maps[0, 10, 10], maps[0, 0, 0], maps[0, 20, 20] = 3, 1, 4
    maps[1] = 5
    shares = heat_shares(maps, alpha)
    np.testing.assert_allclose(shares.stroke, [3 / 8, 16 / 784, np.nan])
    np.testing.assert_allclose(shares.ground, [5 / 8, 768 / 784, np.nan])
    np.testing.assert_allclose(shares.area, [16 / 784] * 3)


def test_heat_shares_upsamples_and_takes_masks():
    maps = np.zeros((1, 7, 7))
    maps[0, :, 3:] = 1  # bilinear: the edge between the columns 11 and 12 is a ramp of four pixels
    right = np.zeros((1, 28, 28), bool)
    right[..., 14:] = True
    # mean over the columns: 0.125, 0.375, 0.625, 0.875 at 10 to 13, then 14 whole ones
    np.testing.assert_allclose(heat_shares(maps, right).stroke, [14 / 16], rtol=1e-6)


@pytest.mark.parametrize(
    "alpha", [np.ones((1, 28, 28)), np.ones((2, 7, 7)), np.full((2, 28, 28), 255)]
)
def test_heat_shares_refuses_bad_alpha(alpha):
    with pytest.raises(ValueError, match="expected shape|must lie in"):
        heat_shares(np.ones((2, 7, 7)), alpha)


def test_telling_parts_by_hand():
    prototypes = np.zeros((3, 28, 28))
    prototypes[0, 5, :] = 0.8  # a bar
    prototypes[1, 5, :14] = 0.8  # half a bar, and a foot
    prototypes[1, 9, :4] = 0.8
    prototypes[0, 9, :3] = [0.5, 0.4, 0.3]  # half as much, at 1, is not yet less
    prototypes[2, 20, :] = 1  # far from both
    alpha = (prototypes[[0, 1]] > 0.5).astype(float)
    parts, rivals = telling_parts(alpha, np.array([0, 1]), prototypes)
    assert rivals.tolist() == [1, 0]
    assert [np.argwhere(part).tolist() for part in parts] == [
        [[5, x] for x in range(14, 28)],
        [[9, 2], [9, 3]],
    ]
    with pytest.raises(ValueError, match="label 3 has no prototype: there are 3"):
        telling_parts(alpha, np.array([0, 3]), prototypes)


# --- does the heat matter? -----------------------------------------------------------------------


def one_pixel() -> tuple[nn.Module, np.ndarray]:
    """A network that looks at the red of one pixel, and a map that says so."""
    model, maps = linear_network([0, 0, 0], [0, 0, 0]), np.zeros((2, 28, 28), np.float32)
    with torch.no_grad():
        model[1].bias.zero_()
        model[1].weight.view(2, 3, 28, 28)[0, 0, 12, 3] = 4
    maps[:, 12, 3] = 1
    return model, maps


def test_curves_of_one_pixel():
    model, maps = one_pixel()
    images = np.ones((2, 3, 28, 28), np.float32)
    high, low = 1 / (1 + np.exp(-4)), 0.5
    down = deletion_curve(model, images, [0, 1], maps, 0.0, steps=4)
    assert down.dtype == np.float32
    np.testing.assert_allclose(
        down, [[high, low, low, low, low], [1 - high, low, low, low, low]], atol=1e-6
    )
    up = insertion_curve(model, images, 0, maps, np.zeros((3, 28, 28)), steps=2)
    np.testing.assert_allclose(up, [[low, high, high]] * 2, atol=1e-6)
    late = deletion_curve(model, images, 0, 1 - maps, 0, steps=784)  # the coldest goes last
    np.testing.assert_allclose(late, [[high] * 784 + [low]] * 2, atol=1e-6)
    np.testing.assert_allclose(area_under(down[:1]), [(high + 7 * low) / 8], rtol=1e-6)


def test_curves_end_where_they_should_and_mirror_each_other():
    model, images, classes = build("cnn", 0).eval(), noise(3), np.array([1, 2, 3])
    ground, maps = noise(3, seed=1), random_maps((3, 7, 7), 0)
    down = deletion_curve(model, images, classes, maps, ground, steps=5)

    def of(images):
        return torch.from_numpy(predict(model, images)).softmax(1).numpy()[range(3), classes]

    np.testing.assert_allclose(down[:, 0], of(images), rtol=1e-5)
    np.testing.assert_allclose(down[:, -1], of(ground), rtol=1e-5)
    np.testing.assert_array_equal(
        insertion_curve(model, ground, classes, maps, images, steps=5), down
    )


def test_ties_go_in_a_random_order_that_the_seed_decides():
    model, maps = one_pixel()
    images = np.ones((2, 3, 28, 28), np.float32)

    def gone(seed):
        curve = deletion_curve(model, images, 0, 0 * maps, 0, steps=784, seed=seed)
        return (curve > 0.6).sum(1).tolist()  # the step at which the one pixel went

    assert gone(0) == gone(0) != gone(1)
    assert gone(0)[0] != gone(0)[1]  # each image has its own order
    assert all(1 < step < 784 for step in gone(0))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"steps": 0}, r"steps must lie in 1\.\.784, not 0"),
        ({"steps": 785}, "steps must lie"),
        ({"baseline": 2.0}, r"baseline must lie in \[0, 1\]"),
        ({"baseline": np.nan}, r"baseline must lie in \[0, 1\]"),
        ({"baseline": np.zeros((5, 5))}, r"baseline must broadcast .* shape is \(5, 5\)"),
        ({"maps": np.ones((1, 7, 7))}, "a map for each of the 2 images, not 1"),
        ({"maps": -np.ones((2, 7, 7))}, "finite and >= 0"),
    ],
)
@pytest.mark.parametrize("curve", [deletion_curve, insertion_curve])
def test_bad_curves(curve, change, message):
    model, maps = one_pixel()
    with pytest.raises(ValueError, match=message):
        curve(model, noise(2), 0, **{"maps": maps, "baseline": 0.0, **change})


def test_area_needs_a_curve():
    for bad in (np.ones(3), np.ones((3, 1))):
        with pytest.raises(ValueError, match="curves must have shape"):
            area_under(bad)


def test_controls():
    maps = random_maps((50, 7, 7), 3)
    assert maps.dtype == np.float32 and maps.shape == (50, 7, 7)
    assert maps.min() >= 0 and maps.max() < 1 and abs(maps.mean() - 0.5) < 0.03
    np.testing.assert_array_equal(maps, random_maps((50, 7, 7), 3))
    assert (maps != random_maps((50, 7, 7), 4)).any()
    blob = centre_maps((2, 7, 7))
    assert blob.dtype == np.float32 and blob[0].max() == blob[0, 3, 3] == 1
    np.testing.assert_allclose(blob[0, 3, 5], np.exp(-((2 / 7 * 4) ** 2) / 2), rtol=1e-6)
    np.testing.assert_allclose(blob, blob[:, ::-1].transpose(0, 2, 1), rtol=1e-6)
    blob[0] = 0  # an array of its own
    assert blob[1].max() == 1


# --- does the map notice the weights? ------------------------------------------------------------


def changed(model: nn.Module, other: nn.Module) -> set[str]:
    values = other.state_dict()
    return {
        name for name, value in model.state_dict().items() if not torch.equal(value, values[name])
    }


def test_the_cascade_keeps_what_it_has_drawn():
    model = build("cnn", 0).eval()
    with torch.no_grad():
        model.block3[1].running_mean += 1
    state = torch.get_rng_state()
    top = randomise(model, ["head"], 7)
    both = randomise(model, ["head", "block3"], 7)
    assert torch.equal(torch.get_rng_state(), state)
    assert changed(model, top) == {"head.weight", "head.bias"}
    assert changed(top, both) == {"block3.0.weight", "block3.1.running_mean"}
    assert not changed(both, randomise(model, ["block3", "head"], 7))
    assert changed(both, randomise(model, ["block3", "head"], 8))
    assert not changed(model, build("cnn", 0)) - {"block3.1.running_mean"}  # untouched itself
    assert not any(module.training for module in both.modules())
    twin = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    twin = randomise(twin, ["0", "1"], 0)
    assert not torch.equal(twin[0].weight, twin[1].weight)


def test_layers_that_cannot_be_made_random():
    model = build("cnn", 0)
    with pytest.raises(ValueError, match="no layer 'fc': the model has block1, "):
        randomise(model, ["fc"], 0)
    with pytest.raises(ValueError, match="'pool' has no parameters"):
        randomise(model, ["pool"], 0)
    with pytest.raises(TypeError, match=r"list of names: \['head'\]"):
        randomise(model, "head", 0)
    model.head = nn.MultiheadAttention(2, 1)
    with pytest.raises(ValueError, match=r"'head' \(MultiheadAttention\) has no reset_parameters"):
        randomise(model, ["head"], 0)


grids = arrays(np.int64, (2, 3, 2, 3), elements=st.integers(0, 4))


@pytest.mark.filterwarnings("error")
@given(grids)
def test_rank_correlation_is_spearmans(pair):
    a, b = pair.astype(np.float64)
    for value, x, y in zip(rank_correlation(a, b), a, b, strict=True):
        if np.ptp(x) == 0 or np.ptp(y) == 0:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(spearmanr(x, y, axis=None).statistic, abs=1e-12)


def test_rank_correlation_sees_order_alone():
    maps = random_maps((3, 5, 5), 0)
    np.testing.assert_allclose(rank_correlation(maps, maps**3), 1)
    np.testing.assert_allclose(rank_correlation(maps, -maps), -1)
    with pytest.raises(ValueError, match="same shape"):
        rank_correlation(maps, maps[:2])
    with pytest.raises(ValueError, match="must be finite"):
        rank_correlation(maps, maps * np.nan)


def test_maps_notice_random_weights():
    model = build("cnn", 0).eval()
    maps = grad_cam(model, "block3", noise(20), 3)
    other = grad_cam(randomise(model, ["head", "block3"], 1), "block3", noise(20), 3)
    assert np.nanmean(rank_correlation(maps, other)) < 0.5
