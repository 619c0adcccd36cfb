"""The networks: shapes, sizes, and that a seed decides the weights and nothing else."""

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist.models import ARCHITECTURES, CNN, build, check_architecture

WIDTH = {"cnn": 128, "resnet18": 128, "mlp": 100}
MAPS = {
    "cnn": {"block1": (32, 14, 14), "block2": (64, 7, 7), "block3": (128, 7, 7)},
    "resnet18": {
        "conv1": (16, 14, 14),
        "layer1": (16, 14, 14),
        "layer2": (32, 7, 7),
        "layer3": (64, 4, 4),
        "layer4": (128, 2, 2),
    },
    "mlp": {"hidden": (100,)},
}


def images(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 3, 28, 28, generator=torch.Generator().manual_seed(0))


def last_linear(model: nn.Module) -> nn.Linear:
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]


def weights(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_logits_and_features(arch):
    model = build(arch, 0).eval()
    with torch.no_grad():
        logits, features = model(images()), model.features(images())
        assert logits.shape == (5, 10) and logits.dtype == torch.float32
        assert features.shape == (5, WIDTH[arch])
        assert (features >= 0).all() and (features > 0).any()
        torch.testing.assert_close(last_linear(model)(features), logits, rtol=0, atol=0)
        assert logits.sum(1).abs().max() > 1e-3  # unnormalised
        torch.testing.assert_close(model(images()[:2]), logits[:2])  # images do not meet


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_feature_maps_by_name(arch):
    model, seen = build(arch, 0).eval(), {}
    modules = dict(model.named_modules())
    for name in MAPS[arch]:
        modules[name].register_forward_hook(
            lambda _, __, output, name=name: seen.update({name: output})
        )
    with torch.no_grad():
        model(images())
    assert {name: tuple(output.shape[1:]) for name, output in seen.items()} == MAPS[arch]
    if arch == "cnn":
        assert all((output >= 0).all() for output in seen.values())  # they end in a ReLU


def test_the_pooled_features_are_the_mean_of_the_last_map():
    model, seen = CNN().eval(), []
    model.block3.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        features = model.features(images())
    torch.testing.assert_close(features, seen[0].mean((2, 3)))


def test_the_number_of_weights():
    norm = 2 * (32 + 64 + 128)
    expected = 3 * 32 * 25 + 32 * 64 * 9 + 64 * 128 * 9 + norm + 129 * 10
    assert weights(build("cnn", 0)) == expected
    assert round(expected, -3) == 96_000 and "96,000 weights" in ARCHITECTURES["cnn"].__doc__
    expected = 3 * 16 * 9 + 2 * 16 + 129 * 10  # first convolution and its norm, last layer
    for before, width in ((16, 16), (16, 32), (32, 64), (64, 128)):
        expected += 9 * width * (before + 3 * width) + 4 * 2 * width  # two blocks of two
        expected += (before * width + 2 * width) * (before != width)  # the first block's shortcut
    assert weights(build("resnet18", 0)) == expected
    assert round(expected, -3) == 701_000 and "701,000" in ARCHITECTURES["resnet18"].__doc__
    assert weights(build("mlp", 0)) == 2353 * 100 + 2 * 101 * 100 + 101 * 10


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_seed_decides_the_weights_whatever_torch_drew_before(arch):
    torch.manual_seed(1)
    first = build(arch, 3).state_dict()
    torch.rand(7)
    again, other = build(arch, 3).state_dict(), build(arch, 4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if first[name].ndim > 1]  # not the ones and zeros of the norms
    assert drawn and not any(torch.equal(first[name], other[name]) for name in drawn)


def test_build_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    build("cnn", 3)
    np.testing.assert_array_equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("arch", ["vgg", "CNN", ""])
def test_an_unknown_architecture_lists_the_known_ones(arch):
    for ask in (lambda: build(arch, 0), lambda: check_architecture(arch)):
        with pytest.raises(ValueError, match=f"unknown architecture '{arch}'.*cnn, resnet18, mlp"):
            ask()
