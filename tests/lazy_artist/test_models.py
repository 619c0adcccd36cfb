"""The networks: shapes, sizes, and that a seed decides the weights and nothing else."""

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from lazy_artist.models import ARCHITECTURES, build

MAPS = {
    "cnn": {"block1": (32, 14, 14), "block2": (64, 7, 7), "block3": (128, 7, 7)},
    "resnet18": {
        "conv1": (16, 14, 14), "layer1": (16, 14, 14), "layer2": (32, 7, 7),
        "layer3": (64, 4, 4), "layer4": (128, 2, 2),
    },
    "mlp": {"hidden": (100,)},
}  # fmt: skip


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_logits_features_and_maps_by_name(arch):
    model, seen = build(arch, 0).eval(), {}
    modules = dict(model.named_modules())
    for name in MAPS[arch]:
        modules[name].register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    images = torch.rand(5, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, features = model(images), model.features(images)
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        torch.testing.assert_close(last(features), logits, rtol=0, atol=0)
        assert logits.shape == (5, 10) and logits.sum(1).abs().max() > 1e-3  # unnormalised
        assert {name: tuple(out.shape[1:]) for name, out in seen.items()} == MAPS[arch]
        top = list(seen.values())[-1]
        torch.testing.assert_close(features, top.flatten(2).mean(2) if top.ndim == 4 else top)
        assert arch == "resnet18" or all((out >= 0).all() for out in seen.values())
        torch.testing.assert_close(model(images[:2]), logits[:2])  # images do not meet


def test_the_number_of_weights():
    cnn = 3 * 32 * 25 + 32 * 64 * 9 + 64 * 128 * 9 + 2 * (32 + 64 + 128) + 129 * 10
    resnet = 3 * 16 * 9 + 2 * 16 + 129 * 10  # first convolution and its norm, last layer
    for before, width in ((16, 16), (16, 32), (32, 64), (64, 128)):
        resnet += 9 * width * (before + 3 * width) + 4 * 2 * width  # two blocks of two
        resnet += (before * width + 2 * width) * (before != width)  # the first block's shortcut
    mlp = 2353 * 100 + 2 * 101 * 100 + 101 * 10
    for arch, expected in {"cnn": cnn, "resnet18": resnet, "mlp": mlp}.items():
        assert sum(weights.numel() for weights in build(arch, 0).parameters()) == expected
    assert round(cnn, -3) == 96_000 and "96,000 weights" in ARCHITECTURES["cnn"].__doc__
    assert round(resnet, -3) == 701_000 and "701,000" in ARCHITECTURES["resnet18"].__doc__


@pytest.mark.parametrize("layer", ["layer1.1", "layer3.0"])  # as large as its input; half of it
def test_a_residual_block_is_that_of_torchvision(layer):
    block = dict(build("resnet18", 2).named_modules())[layer].eval()
    inputs, outputs = block.conv1.in_channels, block.conv1.out_channels
    strided = None
    if inputs != outputs:
        strided = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs)
        )
    peer = BasicBlock(inputs, outputs, 1 if strided is None else 2, strided).eval()
    weights = block.state_dict()
    for norm in (name for name in weights if name.endswith("running_var")):
        weights[norm] += torch.rand(len(weights[norm]))
    peer.load_state_dict({name.replace("shortcut", "downsample"): w for name, w in weights.items()})
    x = torch.randn(3, inputs, 7, 7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(block(x), peer(x))


def test_resnets_are_initialised_by_their_fan_out():
    weight = build("resnet18", 0).layer4[0].conv1.weight  # from 64 channels to 128
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_seed_decides_the_weights_and_torchs_generator_is_left_alone(arch):
    torch.manual_seed(1)
    first = build(arch, 3).state_dict()
    drawn = torch.rand(7)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(7), drawn)
    again, other = build(arch, 3).state_dict(), build(arch, 4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    matrices = [name for name in first if first[name].ndim > 1]  # not ones and zeros of the norms
    assert matrices and not any(torch.equal(first[name], other[name]) for name in matrices)


def test_an_unknown_architecture_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown architecture 'CNN'.*cnn, resnet18, mlp"):
        build("CNN", 0)
