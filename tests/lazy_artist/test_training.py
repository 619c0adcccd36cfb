"""The training loop: it learns, a seed decides all, and it cleans up behind itself."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from lazy_artist.canvas import PALETTE, Split
from lazy_artist.evaluate import accuracy
from lazy_artist.models import build
from lazy_artist.training import cross_entropy, low_precision, train


def patches(count: int, seed: int = 0) -> Split:
    """Flat images of the palette's colours, a little noisy: label and colour are one."""
    labels = np.arange(count) % 10
    noise = np.random.default_rng(seed).normal(0, 0.02, (count, 3, 28, 28))
    images = np.clip(PALETTE[labels][:, :, None, None] + noise, 0, 1).astype(np.float32)
    return Split(images, labels, labels)


def linear() -> nn.Module:
    """Small and quick; draws from torch's generator while it trains."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Dropout(0.2), nn.Linear(48, 10))


def weights(model: nn.Module) -> torch.Tensor:
    return parameters_to_vector(model.parameters()).detach().clone()


TEN = patches(10)
SHORT = {"seed": 1, "epochs": 3, "learning_rate": 0.01, "batch_size": 5}  # 6 steps of 10 images


@pytest.fixture(autouse=True)
def undisturbed():
    """Whatever happens in a training, threads, generator and gradients are as before."""
    torch.set_num_threads(2)
    generator = torch.random.get_rng_state()
    yield
    assert torch.get_num_threads() == 2 and torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), generator)


def test_a_tiny_problem_is_learnt():
    model, fresh = build("cnn", 0), patches(100, seed=1)
    logits = build("mlp", 0)(torch.from_numpy(TEN.images)).detach()
    first = train(build("mlp", 0), TEN, seed=0, epochs=1, learning_rate=1e-3)  # one batch
    expected = nn.functional.cross_entropy(logits, torch.from_numpy(TEN.labels))
    np.testing.assert_allclose(first.losses, [expected], rtol=0.01)  # bfloat16
    assert accuracy(model.eval(), fresh) < 0.5
    history = train(model, patches(300), seed=0, epochs=5, learning_rate=5e-3, batch_size=30)
    assert accuracy(model, fresh) == 1
    assert history.losses[:5].mean() > 1 > 0.2 > history.losses[-5:].mean()


@pytest.mark.parametrize("make", [lambda: build("cnn", 0), linear])
def test_same_seed_same_weights_on_any_number_of_threads(make):
    def run(seed, threads):
        torch.set_num_threads(threads)
        torch.rand(threads)  # whatever was drawn before
        model = make()
        history = train(model, patches(160), seed=seed, epochs=1, learning_rate=1e-3, batch_size=32)
        assert torch.get_num_threads() == threads
        return weights(model), torch.from_numpy(history.losses)

    with torch.random.fork_rng(devices=[]):
        first, again, other = run(3, 1), run(3, 2), run(4, 2)
    assert all(map(torch.equal, first, again)) and not torch.equal(first[0], other[0])


def spy(split: Split, batches: list[np.ndarray]):
    """Cross-entropy that notes its batches, and checks that they are what `index` says."""

    def loss(model, images, labels, index):
        assert model.training and torch.is_grad_enabled() and torch.get_num_threads() == 1
        assert images.dtype == low_precision() and images.shape == (len(index), 3, 28, 28)
        assert labels.dtype == index.dtype == torch.int64
        np.testing.assert_array_equal(labels, split.labels[index])
        np.testing.assert_allclose(images.float(), split.images[index], atol=0.004)  # bfloat16
        batches.append(index.numpy().copy())
        return cross_entropy(model, images, labels, index)

    return loss


def test_every_epoch_shows_each_image_once_in_a_new_order():
    for batch_size, whole in ((5, 20), (8, 16)):  # what fills no batch waits for the next epoch
        batches, split = [], patches(20)
        arguments = SHORT | {"epochs": 3 * whole / 20, "batch_size": batch_size}
        train(linear(), split, **arguments, loss=spy(split, batches))
        epochs = np.concatenate(batches).reshape(3, whole)
        assert all(len(set(epoch)) == whole for epoch in epochs)
        assert (epochs[0] != epochs[1]).any() and set(epochs.ravel()) == set(range(20))


def test_the_rate_goes_up_for_a_fifth_of_the_steps_and_down_along_cosines():
    """One cycle, worked out for a gradient that is always 1: the second moment's root is 1 too.
    Weights decay by a twentieth of the rate."""
    model, seen = linear(), []
    train(
        model, patches(49), seed=0, epochs=1, learning_rate=0.5, batch_size=1, weight_decay=0.05,
        loss=lambda model, *_: model[3].weight.sum(),
        observe=lambda model: seen.append(model[3].weight[0, 0].item()), observe_at=range(50),
    )  # fmt: skip
    at = np.arange(49)
    up, down = ((1 - np.cos(np.pi * x)) / 2 for x in (at / 9, (49 - at) / 40))
    height = np.where(at <= 9, up, down)  # 0 to 1 and back
    rate = np.where(at <= 9, 0.02 + 0.48 * height, 0.5 * height)  # from a 25th, to next to nothing
    mean, moved = 0.0, []
    for step, beta in enumerate(0.95 - 0.1 * height, start=1):  # momentum cycles against the rate
        mean = beta * mean + (1 - beta)
        moved.append(rate[step - 1] * mean / (1 - beta**step))
    np.testing.assert_allclose(-np.diff(seen), moved + 0.05 * rate * seen[:-1], atol=2e-5)


def test_without_the_cycle_the_rate_stays_as_it_is(monkeypatch):
    seen = {True: [], False: []}
    step = torch.optim.AdamW.step

    def noted(self, *arguments):
        seen[one_cycle].append((self.param_groups[0]["lr"], self.param_groups[0]["betas"][0]))
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    for one_cycle in seen:
        train(linear(), TEN, **SHORT, one_cycle=one_cycle)
    assert seen[False] == [(0.01, 0.9)] * 6
    assert len({rate for rate, _ in seen[True]}) == 6


def test_weights_steer_the_sampling():
    batches, split, share = [], patches(40), np.zeros(40)
    share[[3, 17]] = [1, 3]
    how = SHORT | {"epochs": 20, "batch_size": 20, "weights": share}
    train(linear(), split, **how, loss=spy(split, batches))
    drawn = np.bincount(np.concatenate(batches), minlength=40)
    assert drawn.sum() == 800 == drawn[3] + drawn[17]
    assert abs(drawn[17] - 600) < 5 * math.sqrt(800 * 0.25 * 0.75)


def test_observe_is_called_after_the_steps_asked_for_in_eval_mode():
    steps, model, alone = [], linear(), linear()
    fresh = weights(model)

    def loss(*arguments):
        steps.append(None)
        return cross_entropy(*arguments)

    def look(watched):
        assert watched is model and not torch.is_grad_enabled()
        assert not any(module.training for module in watched.modules())
        return len(steps), weights(watched)

    history = train(model, TEN, **SHORT, loss=loss, observe=look, observe_at=(3, 0, -1))
    np.testing.assert_array_equal(train(alone, TEN, **SHORT).losses, history.losses)
    assert torch.equal(weights(model), weights(alone))  # looking changes nothing
    assert {step: done for step, (done, _) in history.observed.items()} == {0: 0, 3: 3, 6: 6}
    first, middle, last = (seen for _, seen in history.observed.values())
    assert torch.equal(first, fresh) and torch.equal(last, weights(model))
    assert not torch.equal(middle, fresh)


def test_a_loss_that_is_not_finite_names_step_seed_and_remedy():
    calls, model = [], linear()

    def loss(*arguments):
        calls.append(weights(model))
        return cross_entropy(*arguments) * (math.nan if len(calls) == 3 else 1)

    message = r"loss is nan at step 3 of 6 \(seed 1\): lower the learning rate, now 0.01"
    with pytest.raises(FloatingPointError, match=message):
        train(model, TEN, **SHORT, loss=loss)
    assert len(calls) == 3 and torch.equal(calls[2], weights(model))  # the bad step was not taken


@pytest.mark.parametrize(
    ("count", "change", "message"),
    [
        (0, {}, "split is empty"),
        (10, {"weights": np.arange(-1, 9)}, "10 finite numbers >= 0, one an image"),
        (10, {"weights": np.full(10, np.nan)}, "finite numbers"),
        (10, {"weights": np.zeros(10)}, "not all 0"),
        (10, {"weights": np.ones(9)}, "10 finite numbers"),
        (10, {"epochs": 0}, "0 epochs of 10 images are no step"),
        (10, {"observe_at": (0,)}, "observe_at names steps in 0..6 or -1, and"),
        (10, {"observe_at": (7,), "observe": len}, "observe_at names steps in 0..6"),
    ],
)
def test_bad_input_is_refused_before_anything_is_changed(count, change, message):
    model = linear()
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        train(model, patches(count), **SHORT | {"loss": None} | change)
    assert torch.equal(weights(model), before)
