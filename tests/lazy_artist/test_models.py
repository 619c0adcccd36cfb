"""The networks: shapes, sizes, and that a seed decides the weights and nothing else."""

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from lazy_artist.models import ARCHITECTURES, build

WEIGHTS = {"cnn": 96_298, "resnet18": 701_466, "mlp": 256_510}
MAPS = {
    "cnn": {"block1": (32, 14, 14), "block2": (64, 7, 7), "block3": (128, 7, 7)},
    "resnet18": {"layer1": (16, 14, 14), "layer3": (64, 4, 4), "layer4": (128, 2, 2)},
    "mlp": {"hidden": (100,)},
}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_logits_features_and_maps_by_name(arch):
    model, seen = build(arch, 0).eval(), {}
    assert sum(weights.numel() for weights in model.parameters()) == WEIGHTS[arch]
    modules = dict(model.named_modules())
    for name in MAPS[arch]:
        modules[name].register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    images = torch.rand(5, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, features = model(images), model.features(images)
        torch.testing.assert_close(list(model.children())[-1](features), logits, rtol=0, atol=0)
        assert logits.shape == (5, 10) and logits.sum(1).abs().max() > 1e-3  # unnormalised
        assert {name: tuple(out.shape[1:]) for name, out in seen.items()} == MAPS[arch]
        top = list(seen.values())[-1]
        torch.testing.assert_close(features, top.flatten(2).mean(2) if top.ndim == 4 else top)
        torch.testing.assert_close(model(images[:2]), logits[:2])  # images do not meet


@pytest.mark.parametrize("layer", ["layer1.1", "layer3.0"])  # as large as its input; half of it
def test_a_residual_block_is_that_of_torchvision(layer):
    block = dict(build("resnet18", 2).named_modules())[layer].eval()
    inputs, outputs = block.conv1.in_channels, block.conv1.out_channels
    shortcut = nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs)
    strided = None if inputs == outputs else nn.Sequential(*shortcut)
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
    before = torch.random.get_rng_state()
    first, again, other = (build(arch, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    matrices = [name for name in first if first[name].ndim > 1]  # not ones and zeros of the norms
    assert matrices and not any(torch.equal(first[name], other[name]) for name in matrices)
    with pytest.raises(ValueError, match="unknown architecture 'CNN'.*cnn, resnet18, mlp"):
        build("CNN", 0)
