"""The training loop: it learns, a seed decides all, and it cleans up behind itself."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist.canvas import PALETTE, Split
from lazy_artist.evaluate import accuracy
from lazy_artist.models import build
from lazy_artist.training import cross_entropy, low_precision, train


def patches(count: int, seed: int = 0) -> Split:
    """Flat images of the palette's colours, a little noisy: label and colour are one."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    noise = rng.normal(0, 0.02, (count, 3, 28, 28))
    images = np.clip(PALETTE[labels][:, :, None, None] + noise, 0, 1).astype(np.float32)
    return Split(images, labels, labels)


def linear() -> nn.Module:
    """Small and quick; draws from torch's generator while it trains."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Dropout(0.2), nn.Linear(48, 10))


def state(model: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


SHORT = {"seed": 1, "epochs": 3, "learning_rate": 0.01, "batch_size": 5}  # 6 steps of 10 images


@pytest.fixture(autouse=True)
def undisturbed():
    """Whatever happens in a training, threads, generator and gradients are as before."""
    torch.set_num_threads(2)
    generator = torch.random.get_rng_state()
    yield
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert torch.is_grad_enabled()


def test_a_tiny_problem_is_learnt():
    model, fresh, split = build("cnn", 0), patches(100, seed=1), patches(10)
    logits = build("mlp", 0)(torch.from_numpy(split.images)).detach()
    first = train(build("mlp", 0), split, seed=0, epochs=1, learning_rate=1e-3)  # one batch
    expected = nn.functional.cross_entropy(logits, torch.from_numpy(split.labels))
    np.testing.assert_allclose(first.losses, [expected], rtol=0.01)  # bfloat16
    assert accuracy(model.eval(), fresh) < 0.5
    history = train(model, patches(300), seed=0, epochs=5, learning_rate=5e-3, batch_size=30)
    assert not any(module.training for module in model.modules())
    assert accuracy(model, fresh) == 1
    assert history.losses[:5].mean() > 1 > 0.2 > history.losses[-5:].mean()


def test_weight_decay_shrinks_weights():
    models = {0.0: linear(), 5.0: linear()}
    for decay, model in models.items():
        train(model, patches(10), **SHORT | {"learning_rate": 0.1}, weight_decay=decay)
    assert models[5.0][3].weight.norm() < 0.7 * models[0.0][3].weight.norm()


@pytest.mark.parametrize("make", [lambda: build("cnn", 0), linear])
def test_same_seed_same_weights_on_any_number_of_threads(make):
    def run(seed, threads):
        torch.set_num_threads(threads)
        torch.rand(threads)  # whatever was drawn before
        model = make()
        history = train(model, split, seed=seed, epochs=1, learning_rate=1e-3, batch_size=32)
        assert torch.get_num_threads() == threads
        return state(model), history.losses

    split = patches(160)
    with torch.random.fork_rng(devices=[]):
        (first, losses), (again, losses_again), (other, _) = run(3, 1), run(3, 2), run(4, 2)
    assert same(first, again) and not same(first, other)
    np.testing.assert_array_equal(losses, losses_again)


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
        batches, split, model = [], patches(20), linear()
        arguments = SHORT | {"epochs": 3 * whole / 20, "batch_size": batch_size}
        train(model, split, **arguments, loss=spy(split, batches))
        epochs = np.concatenate(batches).reshape(3, whole)
        assert all(len(set(epoch)) == whole for epoch in epochs)
        assert (epochs[0] != epochs[1]).any() and set(epochs.ravel()) == set(range(20))
        assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


def test_the_rate_goes_up_for_a_fifth_of_the_steps_and_down_along_cosines():
    """One cycle, worked out for a gradient that is always 1: the second moment's root is 1 too."""
    model, seen = linear(), []
    train(
        model, patches(49), seed=0, epochs=1, learning_rate=0.5, batch_size=1, weight_decay=0,
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
    np.testing.assert_allclose(-np.diff(seen), moved, atol=2e-5)


def test_steps_are_epochs_times_images_over_batch():
    for epochs, batch_size, steps in ((2, 5, 8), (0.5, 5, 2), (1, 8, 2), (1, 50, 1), (3, 20, 3)):
        arguments = SHORT | {"epochs": epochs, "batch_size": batch_size}
        assert len(train(linear(), patches(20), **arguments).losses) == steps


def test_weights_steer_the_sampling():
    batches, split = [], patches(40)
    weights = np.zeros(40)
    weights[[3, 17]] = [1, 3]
    how = SHORT | {"epochs": 20, "batch_size": 20, "weights": weights}
    train(linear(), split, **how, loss=spy(split, batches))
    drawn = np.bincount(np.concatenate(batches), minlength=40)
    assert drawn.sum() == 800 == drawn[3] + drawn[17]
    assert abs(drawn[17] - 600) < 5 * math.sqrt(800 * 0.25 * 0.75)


def test_observe_is_called_after_the_steps_asked_for_in_eval_mode():
    seen, steps, model, alone = [], [], linear(), linear()
    fresh = state(model)

    def loss(*arguments):
        steps.append(len(steps) + 1)
        return cross_entropy(*arguments)

    def look(watched):
        assert watched is model and not torch.is_grad_enabled()
        assert not any(module.training for module in watched.modules())
        seen.append(state(watched))
        return len(steps), "seen"

    history = train(model, patches(10), **SHORT, loss=loss, observe=look, observe_at=(3, 0, -1))
    # looking changes nothing
    np.testing.assert_array_equal(train(alone, patches(10), **SHORT).losses, history.losses)
    assert same(state(model), state(alone))
    assert history.observed == {0: (0, "seen"), 3: (3, "seen"), 6: (6, "seen")}
    assert same(seen[0], fresh) and not same(seen[1], fresh) and same(seen[2], state(model))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_step_seed_and_remedy(bad):
    calls, model = [], linear()

    def loss(*arguments):
        calls.append(state(model))
        return cross_entropy(*arguments) * (bad if len(calls) == 3 else 1)

    message = f"loss is {bad} at step 3 of 6 (seed 1): lower the learning rate, now 0.01"
    with pytest.raises(FloatingPointError, match=re.escape(message)):
        train(model, patches(10), **SHORT, loss=loss)
    assert len(calls) == 3 and same(calls[2], state(model))  # the bad step was not taken


TEN = patches(10)
IMAGES = TEN.images
WITH_NAN = np.where(np.arange(784).reshape(28, 28) == 145, np.float32(np.nan), IMAGES)
BAD = {
    "empty": (patches(0), {}, "split is empty"),
    "channels last": (replace(TEN, images=IMAGES.transpose(0, 2, 3, 1)), {}, r"\(2, 28, 28, 3\)"),
    "up to 255": (replace(TEN, images=IMAGES * 255), {}, r"\[0, 1\]; divide"),
    "nan": (replace(TEN, images=WITH_NAN), {}, r"\[0, 1\]"),
    "fewer images": (replace(TEN, images=IMAGES[:9]), {}, "labels must be integers of shape"),
    "label 10": (replace(TEN, labels=np.arange(1, 11)), {}, "integers in 0..9, not 1 to 10"),
    "negative weight": (TEN, {"weights": np.arange(-1, 9)}, "10 finite numbers >= 0, one an image"),
    "no weight": (TEN, {"weights": np.zeros(10)}, "not all 0"),
    "no epochs": (TEN, {"epochs": 0}, "0 epochs of 10 images are no step"),
    "no batch": (TEN, {"batch_size": 0}, "batch_size must be a whole number from 1 to inf, not 0"),
    "no observer": (TEN, {"observe_at": (0,)}, "observe_at names steps in 0..6 or -1, and"),
    "step 7": (TEN, {"observe_at": (7,), "observe": len}, "observe_at names steps in 0..6"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_changed(case):
    (split, change, message), model = BAD[case], linear()
    before = state(model)
    with pytest.raises(ValueError, match=message):
        train(model, split, **SHORT | {"loss": None} | change)
    assert same(state(model), before)
