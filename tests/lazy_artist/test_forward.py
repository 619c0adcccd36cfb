"""Networks made here are called, tapped and rewritten, and come back as they were."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist.forward import as_logits, as_maps, asked, batches, find_layer, home_of, hooked


class Net(nn.Module):
    """Maps (N, 2, 4, 4), twice through one ReLU; flattened by view."""

    def __init__(self, by_view=False):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)
        self.norm, self.relu, self.head = nn.BatchNorm2d(2), nn.ReLU(), nn.Linear(32, 5)
        self.unused = nn.Identity()
        self.by_view = by_view

    def forward(self, x):
        x = self.relu(self.norm(self.conv2(self.relu(self.conv1(x)))))
        return self.head(x.view(len(x), -1) if self.by_view else x.flatten(1))


IMAGES = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Net()


def test_all_parts_are_asked_in_eval_mode_and_get_their_own_back(model):
    model.train().conv1.eval()
    modes = [part.training for part in model.modules()]
    statistics = model.norm.running_mean.clone()
    with pytest.raises(ZeroDivisionError), asked(model) as ask:
        ask(IMAGES)
        assert not any(part.training for part in model.modules())
        raise ZeroDivisionError
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(model.norm.running_mean, statistics)


@pytest.mark.parametrize("by_view", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_networks_of_any_type_and_those_that_flatten_by_view_answer(by_view, dtype):
    torch.manual_seed(0)
    model = Net(by_view).eval()
    expected = model(IMAGES)
    with torch.no_grad(), asked(model.to(dtype)) as ask:
        for _ in range(2):
            torch.testing.assert_close(ask(IMAGES).float(), expected, atol=0.02, rtol=0.02)


def test_a_network_that_cannot_be_called_says_on_what(model):
    wrong = pytest.raises(ValueError, match=r"images \(3, 1, 4, 4\) .*\(N, 3, 28, 28\)")
    with asked(model) as ask, wrong:
        ask(IMAGES[:, :1])
    with pytest.raises(ValueError, match="the model is on the device meta"):
        home_of(nn.Linear(1, 1, device="meta"))


def test_what_is_no_logits_is_refused_by_its_kind():
    assert as_logits(torch.ones(3, 5).half(), 3).dtype == torch.float32
    for output, told in (
        ((torch.ones(3, 5), 1), "returned a tuple"),
        ({"logits": 1}, "returned a dict"),
        (torch.ones(3), r"a Tensor, shape \(3,\)"),
        (torch.ones(2, 5), r"logits \(3, K\)"),
    ):
        with pytest.raises(ValueError, match=told):
            as_logits(output, 3)


def test_a_layer_is_rewritten_while_it_lasts(model):
    model.eval()
    before = model(IMAGES)
    with hooked(model, "conv2", lambda output: output + 1):
        assert not torch.allclose(model(IMAGES), before)
        assert not torch.allclose(copy.deepcopy(model)(IMAGES), before)
    assert torch.equal(model(IMAGES), before)
    assert not model._forward_hooks and not model.conv2._forward_hooks


def test_what_the_head_reads_is_rewritten_under_the_name_pooled(model):
    with hooked(model.eval(), "pooled", torch.zeros_like):
        torch.testing.assert_close(model(IMAGES), model.head.bias.expand(3, 5))


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ("relu", "'relu' runs more than once"),
        ("unused", "'unused' never runs"),
        ("nowhere", "no layer 'nowhere': the model has conv1, conv2"),
    ],
)
def test_a_layer_that_does_not_run_once_is_refused(model, layer, told):
    with pytest.raises(ValueError, match=told), hooked(model, layer, lambda output: None):
        model(IMAGES)


def test_a_call_that_failed_is_not_counted(model):
    def fail_once(output):
        if failing.pop():
            raise ZeroDivisionError

    failing = [False, False, True]
    with hooked(model, "conv2", fail_once):
        with pytest.raises(ZeroDivisionError):
            model(IMAGES)
        model(IMAGES)
        model(IMAGES)


def test_what_works_in_place_gets_copies_also_of_what_may_not_be_written():
    images = np.ones((3, 4, 4, 3), np.float32).transpose(0, 3, 1, 2)
    images.flags.writeable = False
    for part in batches(images, 2):
        part.zero_()
    assert (images == 1).all() and [len(part) for part in batches(images, 2)] == [2, 1]


def test_layers_are_found_within_wrappers(model):
    assert find_layer(torch.compile(nn.DataParallel(model)), "conv2") is model.conv2


def test_outputs_become_maps_or_are_refused():
    assert as_maps(torch.ones(2, 3), "head").shape == (2, 3, 1, 1)
    with pytest.raises(ValueError, match=r"'head' must give maps \(N, K, h, w\), not \(2, 3\)"):
        as_maps(torch.ones(2, 3), "head", vectors=False)
    with pytest.raises(ValueError, match="not tuple"):
        as_maps((1, 2), "block")
