"""The attacks against the reference library: the same algorithm gives the same numbers, and our
search is no weaker. The library serves for this comparison alone; `make bench` installs it."""

import math
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist.attack import change_sizes, fmn, minimal_epsilon
from lazy_artist.evaluate import predict
from lazy_artist.models import build


@pytest.mark.parametrize(("norm", "order"), [("linf", math.inf), ("l2", 2)])
def test_fmn_is_the_published_one_and_ours_finds_no_larger_changes(monkeypatch, norm, order):
    monkeypatch.setitem(sys.modules, "visdom", types.ModuleType("visdom"))  # which only draws
    reference = pytest.importorskip("adv_lib.attacks", reason="make bench installs it")
    rng = np.random.default_rng(3)
    x, others = (rng.random((n, 3, 28, 28), dtype=np.float32) for n in (20, 64))
    model = build("cnn", 0).requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(torch.from_numpy(others))  # its normalisations know such images
    model.eval().head.weight.mul_(20)
    targets = predict(model, x).argsort(1)[:, -2]
    given = model, torch.from_numpy(x), torch.from_numpy(targets)
    theirs = reference.fmn(*given, order, targeted=True, steps=60).numpy()
    sizes = change_sizes(x, theirs, norm)
    same = fmn(model, x, targets, norm, steps=60)
    np.testing.assert_allclose(np.sort(same.epsilon), np.sort(sizes), rtol=0.02)
    assert np.median(np.abs(same.epsilon / sizes - 1)) < 2e-3
    best = np.minimum(sizes, same.epsilon)
    if norm == "l2":
        other = reference.ddn(*given, targeted=True, steps=60, levels=None).numpy()
        best = np.minimum(best, change_sizes(x, other, norm))

    class Pair(nn.Module):
        """The target against the likeliest other class: what FAB leaves, that is the target."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = model(x)
            own = torch.from_numpy(targets)[:, None] == torch.arange(logits.shape[1])
            return torch.stack([logits.masked_fill(own, -torch.inf).amax(1), logits[own]], 1)

    torch.manual_seed(0)
    fab = reference.fab(Pair(), given[1], torch.zeros(20, dtype=torch.long), order, n_iter=40)
    reached = predict(model, fab.numpy().clip(0, 1)).argmax(1) == targets
    assert reached.mean() >= 0.5
    best = np.minimum(best, np.where(reached, change_sizes(x, fab.numpy(), norm), np.inf))
    ours = minimal_epsilon(model, x, targets, norm).epsilon
    assert np.mean(ours <= 1.01 * best) >= 0.95
    for factor, least, most in ((0.98, 0, 0.05), (1.2, 0.8, 1)):  # APGD-T, within one size
        size = torch.from_numpy(factor * ours).float()
        changed = reference.apgd(*given, size, order, targeted=True, n_iter=40).numpy()
        assert least <= np.mean(predict(model, changed.clip(0, 1)).argmax(1) == targets) <= most
