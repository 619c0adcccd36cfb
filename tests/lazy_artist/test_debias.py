"""The methods of debiasing: the rules, the arithmetic of their parts, and what they refuse."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lazy_artist import debias
from lazy_artist.canvas import PALETTE, Split, assign_colours, colour_split, paint
from lazy_artist.data import procedural_digits
from lazy_artist.debias import amplified, baselines, failures, labelled, own, penalties, views
from lazy_artist.debias.amplified import Amplified
from lazy_artist.debias.protocol import checksum, inverse_frequency, run_method, train_new
from lazy_artist.models import build
from lazy_artist.training import cross_entropy

BRIEF = 0.05  # of the passes: a few steps


@pytest.fixture(scope="module")
def split() -> Split:
    return colour_split("train", 0, 0.9, procedural_digits(600, seed=3))


def train(name: str, split: Split, arch: str = "mlp") -> tuple[nn.Module, dict]:
    method = debias.find(name)
    setting = method.setting | {"augment": False}
    if "passes" in setting:
        setting["passes"] *= BRIEF
    return run_method(method.train, split, 0, arch, method.colours, BRIEF, **setting)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def on_labels(labels, heights) -> torch.Tensor:
    """Logits of a height for each image on its label, 0 elsewhere."""
    heights = torch.as_tensor(heights, dtype=torch.float32).expand(len(labels))
    return F.one_hot(torch.as_tensor(labels), 10) * heights[:, None]


class Caught:
    """Every method's one call of the training loop, caught instead of made: `epoch_scale` and
    `strategy` (loss, weights, ...). Auxiliary networks predict as `amplified` says."""

    def __init__(self):
        self.amplified, self.kept, self.asked = None, [], []

    def train_new(self, split, seed, arch, epoch_scale, info=None, **strategy):
        self.epoch_scale, self.strategy = epoch_scale, strategy
        return build(arch, seed), info

    def train_by_recipe(self, model, split, seed, arch, epoch_scale, **strategy):
        self.model, self.strategy = model, strategy

    def train_amplified(self, split, seed, arch, passes, keep=None, plain=False):
        self.kept.append(keep)
        self.asked.append((passes, plain))
        return self.amplified

    def loss(self, model, labels, images=None, index=None) -> float:
        """Of a network, or of its logits."""
        network = (lambda images: model) if isinstance(model, torch.Tensor) else model
        index = torch.arange(len(labels)) if index is None else index
        value = self.strategy["loss"](network, images, torch.as_tensor(labels), index)
        return float(value.detach())


@pytest.fixture
def caught(monkeypatch) -> Caught:
    caught = Caught()
    for module in (baselines, failures, labelled, own, penalties):
        for name in ("train_new", "train_by_recipe", "train_amplified"):
            monkeypatch.setattr(module, name, getattr(caught, name), raising=False)
    return caught


@pytest.mark.parametrize("name", [*debias.METHODS, *debias.ABLATIONS])
def test_every_method_trains_a_network_and_leaves_the_images_alone(name, split):
    """Colour labels matter to those alone that declare them; and all but the grey network see a
    change of hue that keeps the mean of the channels."""
    before, plain_net = checksum(split), build("mlp", 0)
    model, info = train(name, split)
    assert not model.training and model.state_dict().keys() == plain_net.state_dict().keys()
    assert not torch.equal(weights(model), weights(plain_net))
    assert checksum(split) == before and split.images.flags.writeable  # as it was
    assert all(isinstance(value, int | float) for value in info.values())
    images = torch.from_numpy(split.images[:8])
    apart = (model(images) - model(images[:, [1, 2, 0]])).abs().max()
    assert (apart < 1e-4) == (name == "grey")
    scrambled = dataclasses.replace(split, colours=np.roll(split.colours, 7))
    other, _ = train(name, scrambled)
    assert torch.equal(weights(model), weights(other)) != debias.find(name).colours


def test_labels_of_colour_are_shown_only_if_asked_for(split):
    for asked in (False, True):
        _, seen = run_method(lambda s, *_: (nn.Identity(), s.colours), split, 0, "mlp", asked)
        np.testing.assert_array_equal(seen, split.colours if asked else np.full(len(split), -1))


def test_what_cannot_be_debiased_is_refused(split):
    def broken(*_):
        raise FloatingPointError("the loss is nan at step 3")

    with pytest.raises(FloatingPointError, match="'broken' failed: the loss is nan at step 3"):
        run_method(broken, split, 5, "mlp")
    bare = dataclasses.replace(split, colours=np.full(len(split), -1))
    train("erm", bare)
    for name, data, arch, message in (
        ("jtf", split, "mlp", "unknown method 'jtf'.*erm.*jtt.*no-reweighting"),
        ("resampling", bare, "mlp", "'resampling' needs the colour label"),
        ("erm", split.take(split.colours == 3), "mlp", "single colour"),
        ("erm", split.take(split.labels == 3), "mlp", "single class"),
        ("erm", split, "vit", "unknown architecture 'vit'"),
    ):
        with pytest.raises(ValueError, match=message):
            train(name, data, arch=arch)


@pytest.mark.parametrize("part", ["images", "labels"])
def test_altering_the_training_images_or_labels_is_found_out(split, part):
    def forger(given, *_):
        getattr(given, part).base[0] += 1  # past the read-only view
        return nn.Identity(), {}

    copy = Split(split.images.copy(), split.labels.copy(), split.colours)
    with pytest.raises(RuntimeError, match="altered its training images"):
        run_method(forger, copy, 0, "mlp")
    with pytest.raises(ValueError, match="read-only"):
        run_method(lambda given, *_: getattr(given, part).fill(0), split, 0, "mlp")


def test_swapped_colours_come_from_the_batch_and_do_not_tell_the_old_ones():
    digits = procedural_digits(400, seed=2)
    painted = torch.from_numpy(paint(digits.images, assign_colours(digits.labels, 1, 0), 4))
    torch.manual_seed(0)
    swapped, tinted, fresh = (views.swap_colours(painted, *how) for how in ([0], [0, False], [1]))
    seen = map(views.stroke_and_background, (painted, swapped, tinted, fresh))
    (own, dark), (new, kept), (_, tint), (invented, _) = seen
    assert (own - torch.from_numpy(PALETTE[digits.labels])).abs().mean() < 0.06
    bare = painted[:, :, :2].mean((2, 3))  # the two topmost rows are free of strokes
    assert (dark - bare).abs().mean() < 0.03 and dark.max() < 0.15
    apart = [torch.cdist(colours, own).amin(1).mean() for colours in (new, invented)]
    assert apart[0] < 0.06 and apart[1] > 3 * apart[0]  # from the colours of the batch
    assert ((new - own).norm(dim=1) > 0.1).float().mean() > 0.8  # but others'
    assert (kept - dark).abs().mean() < 0.01 and (tint - dark).abs().mean() > 0.02


def test_mixing_colours_is_linear_in_rgb_and_keeps_three_channels():
    torch.manual_seed(0)
    image = 0.5 * torch.rand(1, 3, 28, 28)
    before, mixed = (x[0].flatten(1).T for x in (image, views.mix_colours(image)))
    matrix = torch.linalg.lstsq(before, mixed).solution
    torch.testing.assert_close(before @ matrix, mixed, atol=1e-4, rtol=0)
    assert torch.linalg.matrix_rank(matrix) == 3
    assert ((matrix.sum(0) > 0.59) & (matrix.sum(0) < 1.41)).all()


def test_affine_augmentation_moves_and_stretches_as_far_as_it_says_and_keeps_colour():
    images = torch.zeros(200, 3, 28, 28)
    images[:, 0, 10:18, 10:18] = 1  # a red square of 64 pixels around the centre
    torch.testing.assert_close(views.affine(images, 0, 0, 0), images, atol=1e-5, rtol=0)
    torch.manual_seed(0)
    shifted = views.affine(images, 0, 0, 2)
    assert shifted[:, 1:].abs().max() == 0
    for axis in (1, 2):
        centre = (shifted[:, 0].sum(axis) * (torch.arange(28.0) - 13.5)).sum(1) / 64
        assert 1.8 < centre.max() <= 2.001 and -1.8 > centre.min() >= -2.001
    area = views.affine(images, 0, 0.2, 0)[:, 0].sum((1, 2)) / 64
    assert 1.3 < area.max() < 1.6 and 0.68 < area.min() < 0.8  # 1 / 0.8² and 1 / 1.2² at most
    assert views.affine(images, 45, 0, 0)[:, 0, :10, 13].max() > 0.9  # a turned corner


def test_inverse_frequency_makes_all_combinations_equally_likely():
    labels, guesses = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1])
    for power in (1, 0.5):
        expected = np.array([2, 2, 1, 2, 2]) ** -float(power)
        found = inverse_frequency(labels, guesses, power)
        np.testing.assert_allclose(found, expected / expected.mean())


def test_generalised_cross_entropy_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    expected = torch.tensor([(1 - 0.25**0.7) / 0.7, (1 - 0.8**0.7) / 0.7])
    loss = amplified.gce_loss(lambda images: logits, None, torch.tensor([1, 1]), None)
    torch.testing.assert_close(loss, expected.mean())


def test_the_amplified_network_reports_what_it_predicts(split, monkeypatch):
    """Of all images, however few it is trained on; for as many steps on few images as on many."""
    trained, three = [], dataclasses.replace(split.take([0, 1, 2]), labels=np.array([0, 1, 1]))
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.1, 0.8]], np.float32))
    monkeypatch.setattr(amplified, "predict", lambda _, images, precision: logits[: len(images)])
    monkeypatch.setattr(amplified, "train", lambda model, part, **how: trained.append((part, how)))
    found = amplified.train_amplified(three, 5, "mlp", 1.0)
    np.testing.assert_allclose(found, [[0, 1, 2], [0.7, 0.4, 0.8], [0, 0, 1]], rtol=1e-6)
    assert found.info() == {"amplified wrong": 1 / 3}
    keep = np.array([True, True, False])
    again = amplified.train_amplified(three, 5, "mlp", 0.5, keep, plain=True)
    assert len(again.predictions) == 3
    steps = [how["epochs"] * len(part) / how["batch_size"] for part, how in trained]
    assert steps == [pytest.approx(50_000 / 3), pytest.approx(0.5 * 50_000 / 2)]
    assert [how["loss"] for _, how in trained] == [amplified.gce_loss, cross_entropy]
    assert all(how["seed"] == 5 for _, how in trained)


def test_weights_that_the_methods_sample_by(split, caught):
    """Told the colour by an auxiliary network, methods weigh as their namesakes with labels do."""
    wrong = split.colours != split.labels
    caught.amplified = Amplified(split.colours, np.ones(len(split)), wrong)
    for name, power, given in (
        ("amplified-resampling", 0.6, {"passes": 0.3, "power": 0.6}),
        ("resampling", 0.8, {"power": 0.8}),
        ("group-dro", 1, {}),
        ("selecmix", 0.5, {"passes": 0.4}),
        ("combination", 0.7, {"passes": 0.2, "power": 0.7}),
    ):
        debias.find(name).train(split, 0, "mlp", 1, augment=False, rate=3, **given)
        expected = inverse_frequency(split.labels, split.colours, power)
        np.testing.assert_allclose(caught.strategy["weights"], expected)
        assert (caught.strategy["augment"], caught.strategy["rate"]) == (False, 3)
    failures.just_train_twice(split, 0, "mlp", 1, passes=0.1, upweight=20)
    np.testing.assert_array_equal(caught.strategy["weights"], np.where(wrong, 20, 1))
    assert caught.asked == [(0.3, False), (0.4, False), (0.2, False), (0.1, True)]


def test_ccdb_keeps_the_confident_half_of_a_class_and_balances_its_predictions(caught):
    labels, predictions = np.array([[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 0, 1, 0]])
    confidence = np.array([0.6, 0.9, 0.7, 0.99, 0.8, 0.5, 0.9])
    tiny = Split(np.zeros((7, 3, 28, 28), np.float32), labels, labels)
    caught.amplified = Amplified(predictions, confidence, predictions != labels)
    _, info = failures.ccdb(tiny, 3, "mlp", 1, passes=0.3)
    assert info == {"amplified wrong": 2 / 7} and caught.asked == [(0.3, True)] * 2
    np.testing.assert_array_equal(caught.kept[0], np.random.default_rng(3).permutation(7)[:1])
    np.testing.assert_array_equal(caught.kept[1], [0, 1, 1, 0, 1, 1, 0])
    # P(s | y): of the zeros four in five are predicted as 0, of the ones one of two as 1; q: 5, 2
    cells = np.array([5 / 4, 5 / 4, 5 / 4, 5, 5 / 4, 2, 2])
    expected = cells * np.array([5, 5, 5, 2, 5, 2, 5]) / 7
    np.testing.assert_allclose(caught.strategy["weights"], expected)
    failures.fg_ccdb(tiny, 3, "mlp", 1, passes=0.3, rate=2)
    np.testing.assert_allclose(caught.strategy["weights"], expected / [4, 4, 4, 1, 4, 1, 1])
    assert caught.strategy["rate"] == 2


def test_parts_of_the_combination(split, caught, monkeypatch):
    """Which views each variant shows, and whether it re-weights."""
    caught.amplified, shown = Amplified(split.colours, np.ones(len(split)), split.colours == 0), []
    for name in ("swap_colours", "mix_colours"):

        def spy(images, name=name, **options):
            shown.append(name + "".join(f" {key}={value}" for key, value in options.items()))
            return images

        monkeypatch.setattr(own, name, spy)
    for name, views_shown in {
        "combination": ["swap_colours"],
        "no-recolouring": [],
        "colours-mixed": ["mix_colours"],
        "colours-invented": ["swap_colours invented=0.5"],
        "background-tinted": ["swap_colours keep_background=False"],
        "no-reweighting": ["swap_colours"],
        "colour-swap": ["swap_colours"],
    }.items():
        shown.clear()
        setting = {} if name == "colour-swap" else {"passes": 0.5, "power": 0.75}
        debias.find(name).train(split, 0, "mlp", 2, **setting)
        loss = caught.loss(on_labels(range(4), 3), [0, 1, 0, 3], torch.zeros(4, 3, 28, 28))
        assert shown == views_shown, name
        alone = name in ("no-reweighting", "colour-swap")
        assert (caught.strategy["weights"] is None) == alone and caught.epoch_scale == 2
        np.testing.assert_allclose(loss, np.log(np.exp(3) + 9) - 3 * 3 / 4, rtol=1e-5)


def test_baselines_change_only_what_they_say(split, caught):
    baselines.erm(split, 0, "mlp", 2, augment=False)
    assert caught.strategy == {"augment": False} and caught.epoch_scale == 2
    baselines.regularised(split, 0, "mlp", 2, smoothing=0.1, weight_decay=0.5)
    assert caught.strategy["weight_decay"] == 0.5
    loss, total = caught.loss(on_labels([3], 2), [3]), np.log(np.exp(2) + 9)
    np.testing.assert_allclose(loss, -(0.91 * (2 - total) - 9 * 0.01 * total), rtol=1e-5)


def test_lff_weighs_by_running_means_over_the_largest_of_each_class(caught):
    """Two steps with logits made by hand, against the same arithmetic in NumPy. The largest is that
    of all images of the class, in the batch or not."""
    labels = np.array([0, 0, 1])
    model, _ = failures.learning_from_failure(Split(labels, labels, labels), 3, "mlp", 1)
    assert torch.equal(weights(model), weights(build("mlp", 3)))  # the debiased one
    assert not torch.equal(weights(caught.model.biased), weights(model))
    running = np.zeros((2, 3))
    for kept, *heights in (  # of the biased network's logits, and of the debiased one's
        (0, (5.0, -4.0, 3.0), (1.0, 0.5, 2.0)), (0.7, (6.0, -3.0, 1.0), (2.0, 1.0, 0.0))
    ):  # fmt: skip
        logits = [on_labels(labels, height) for height in heights]
        pair = SimpleNamespace(biased=lambda x, z=logits[0]: z, debiased=lambda x, z=logits[1]: z)
        likelihood = np.exp(heights) / (np.exp(heights) + 9)
        running = kept * running + (1 - kept) * -np.log(likelihood)
        top = np.stack([running[:, labels == digit].max(1) for digit in (0, 1)])
        share = running / top[labels].T
        losses = share[0] / share.sum(0) * -np.log(likelihood[1]) + (1 - likelihood[0] ** 0.7) / 0.7
        np.testing.assert_allclose(caught.loss(pair, labels), losses.mean(), rtol=1e-4)
    few, logits = labels[[0, 2]], [on_labels([0, 1], height) for height in ((1.0, 2.0), (0.0, 3.0))]
    pair = SimpleNamespace(biased=lambda x: logits[0], debiased=lambda x: logits[1])
    likelihood = np.exp([[1.0, 2], [0, 3]]) / (np.exp([[1.0, 2], [0, 3]]) + 9)
    running[:, [0, 2]] = 0.7 * running[:, [0, 2]] - 0.3 * np.log(likelihood)
    share = running[:, [0, 2]] / np.stack([running[:, :2].max(1), running[:, 2]], axis=1)
    losses = share[0] / share.sum(0) * -np.log(likelihood[1]) + (1 - likelihood[0] ** 0.7) / 0.7
    found = caught.loss(pair, few, index=torch.tensor([0, 2]))
    np.testing.assert_allclose(found, losses.mean(), rtol=1e-4)


def test_pairs_contradict_each_other_and_labels_are_mixed_alike(split, caught):
    """Partners share the label or the auxiliary network's prediction, not both; the loss is that of
    the mixture which the network has seen."""
    caught.amplified = Amplified(split.colours, np.ones(len(split)), split.colours == 0)
    failures.contradicting_pairs(split, 0, "mlp", 1, passes=0.5)
    labels = torch.from_numpy(split.labels)[:100]
    flags = torch.eye(100).view(100, 1, 10, 10).expand(-1, 3, -1, -1)  # image k is pixel k
    logits, seen = torch.randn(100, 10, generator=torch.manual_seed(1)), []

    def model(images):
        seen.append(images[:, 0].flatten(1))
        return logits

    torch.manual_seed(0)
    losses = [caught.loss(model, labels, flags) for _ in range(8)]
    surprise = -logits.log_softmax(1)[:, labels]  # of image i, if its label were that of j
    mixed = [pixels for pixels in seen if pixels.diagonal().min() < 1]
    y, s = split.labels[:100], split.colours[:100]
    has_partner = ((y[:, None] == y) != (s[:, None] == s)).any(1)
    assert has_partner.mean() > 0.8
    assert 0 < len(mixed) < 8
    for loss, pixels in zip(losses, seen, strict=True):
        np.testing.assert_allclose(loss, (pixels * surprise).sum(1).mean(), rtol=1e-5)
    for pixels in mixed:
        assert pixels.diagonal().min() >= 0.5
        row, column = (pixels - torch.diag(pixels.diagonal())).nonzero().T
        same_label = split.labels[row] == split.labels[column]
        same_prediction = split.colours[row] == split.colours[column]
        assert (same_label != same_prediction)[has_partner[row]].all()


def test_the_colour_penalty_is_the_distance_of_centred_logits(split, caught):
    penalties.colour_penalty(split, 0, "mlp", 1, weight=2)
    here = torch.randn(4, 10, generator=torch.manual_seed(0))
    there = here + torch.arange(40.0).view(4, 10) / 10 + 7  # 7: what all logits share is free
    labels, images = torch.tensor([1, 2, 3, 4]), torch.from_numpy(split.images[:4])
    loss = caught.loss(torch.cat([here, there]), labels, images)
    apart = np.var(np.arange(10) / 10)  # of one row, around its mean
    np.testing.assert_allclose(loss, F.cross_entropy(here, labels) + 2 * apart, rtol=1e-4)


def test_the_saliency_guide_adds_the_share_of_chroma_in_the_gradient(split, caught):
    """Of a linear network, whose gradient is its weights: grey for class 0, red for class 1."""
    penalties.saliency_guide(split, 0, "mlp", 1, weight=3)
    matrix = torch.zeros(10, 3)
    matrix[0], matrix[1] = torch.tensor([1.0, 1, 1]), torch.tensor([1.0, 0, 0])

    def model(images):
        return images.mean((2, 3)) @ matrix.T

    images = torch.from_numpy(split.images[:2])
    for label in (0, 1):
        labels = torch.tensor([label, label])
        slope = matrix[label] - matrix.mean(0)  # of the logit above the mean of all
        chroma = (slope - slope.mean()).square().sum() / slope.square().sum()
        expected = F.cross_entropy(model(images), labels) + 3 * chroma
        np.testing.assert_allclose(caught.loss(model, labels, images), expected, rtol=1e-5)


def test_the_adversary_reverses_the_gradient_of_its_colour_head(split, caught):
    x = torch.ones(2, requires_grad=True)
    y = penalties._Reverse.apply(x, 0.3)
    assert torch.equal(y, x)
    (y * torch.tensor([1.0, 2.0])).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([-0.3, -0.6]))
    penalties.adversary(split, 0, "mlp", 1, weight=0.3)
    index = torch.tensor([5, 6, 7])
    images, labels = torch.from_numpy(split.images)[index], torch.from_numpy(split.labels)[index]
    loss = caught.loss(caught.model, labels, images, index)
    network, colours = caught.model.network, torch.from_numpy(split.colours)[index]
    guess = caught.model.colour(network.features(images))
    expected = F.cross_entropy(network(images), labels) + F.cross_entropy(guess, colours)
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-5)


def test_irm_penalises_a_scale_that_wants_to_move(split, caught):
    """Against the derivative written out: with one logit of height h on the label, the risk at
    scale s is log(exp(s h) + 9) - s h, and its slope at 1 is h (p - 1). The penalty is the product
    of the slopes of every other image of an environment, and of those between."""
    penalties.irm(split, 0, "mlp", 1e-5, weight=100)  # only the first step is warming up
    conflict = split.colours != split.labels
    height = np.where(conflict, -2.0, 3.0) + np.arange(len(split)) % 7 / 10
    values = [caught.loss(on_labels(split.labels, height), split.labels) for _ in range(2)]
    second = np.random.default_rng(0).random(len(split)) < np.where(conflict, 0.8, 0.5)
    p = np.exp(height) / (np.exp(height) + 9)
    risk = np.mean([-np.log(p[part]).mean() for part in (second, ~second)])
    slope = height * (p - 1)
    penalty = np.mean([slope[e][::2].mean() * slope[e][1::2].mean() for e in (second, ~second)])
    np.testing.assert_allclose(values, [risk + penalty, risk / 100 + penalty], rtol=1e-4)


def test_group_dro_weighs_groups_by_the_exponential_of_their_losses(split, caught):
    """Two groups of four images: three whose loss is small, and one whose loss is large; the 98
    groups that are not there keep their weight, and have no loss."""
    labels, colours = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 2])
    labelled.group_dro(Split(split.images[:4], labels, colours), 0, "mlp", 1)
    total, q = np.log(np.exp(4) + 9), np.full(100, 0.01)
    risks = np.zeros(100)  # logits of 4 on the classes 0, 0, 0 and 5
    risks[:2] = total - 4, total
    for _ in range(3):
        loss = caught.loss(on_labels([0, 0, 0, 5], 4), labels)
        q = q * np.exp(0.01 * risks)
        q /= q.sum()
        np.testing.assert_allclose(loss, q @ risks, rtol=1e-5)


def test_last_layer_retraining_fits_the_head_on_held_out_images(split, monkeypatch):
    seen, trained = [], []
    monkeypatch.setattr(labelled, "refit", lambda head, *rest: seen.append(rest))
    monkeypatch.setattr(
        labelled,
        "train_new",
        lambda part, *how: trained.append((part, how)) or (build("mlp", 1), {}),
    )
    _, info = labelled.last_layer(split, 1, "mlp", 2.0, ridge=0.7)
    order = np.random.default_rng(1).permutation(len(split))
    held_out, rest = order[: round(0.2 * len(split))], order[round(0.2 * len(split)) :]
    (part, how), (features, labels, ridge) = trained[0], seen[0]
    np.testing.assert_array_equal(part.images, split.images[rest])
    assert how == (1, "mlp", pytest.approx(2.0 * len(split) / len(rest))) and ridge == 0.7
    group = (split.labels * 10 + split.colours)[held_out]
    counts = np.unique(group, return_counts=True)[1]
    assert info == {"balanced images": counts.min() * len(counts)} and len(features) == len(labels)
    assert (np.bincount(labels) >= counts.min()).all() and len(labels) == info["balanced images"]


def test_the_last_layer_is_fitted_to_convergence():
    torch.manual_seed(0)
    features, labels, head = torch.randn(300, 5), torch.randint(3, (300,)), nn.Linear(5, 3)
    features[torch.arange(300), labels] += 2
    labelled.refit(head, features, labels, 1e-3)
    head.zero_grad()
    (F.cross_entropy(head(features), labels) + 1e-3 * head.weight.square().sum()).backward()
    assert head.weight.grad.abs().max() < 1e-3


@pytest.mark.parametrize("arch", ["cnn", "mlp"])
def test_the_grey_fold_is_exact(split, caught, arch):
    model, _ = baselines.grey(split, 0, arch, 1)
    images = torch.from_numpy(split.images[:5])
    shade = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    direct = build(arch, 0).eval()(shade)
    torch.testing.assert_close(model.eval()(images), direct, atol=1e-4, rtol=1e-4)


def test_training_takes_the_recipe_of_the_architecture(split, monkeypatch):
    seen = []
    monkeypatch.setattr(debias.protocol, "train", lambda model, split, **how: seen.append(how))
    train_new(split, 4, "cnn", 3.0)
    train_new(split, 4, "resnet18", 1e-6)
    own = {"seed": 4, "epochs": 12, "learning_rate": 8e-3, "batch_size": 128}
    own |= {"weight_decay": 0.01}
    assert seen[0] == own | {"loss": seen[0]["loss"]}
    assert seen[1]["epochs"] * len(split) == 128 == seen[1]["batch_size"]  # one step at least


def test_all_methods_train_at_their_rate_on_the_same_augmented_images(split, monkeypatch):
    seen, looked = [], []
    monkeypatch.setattr(debias.protocol, "train", lambda model, split, **how: seen.append(how))
    monkeypatch.setattr(debias.protocol, "affine", lambda images: looked.append(1) or images + 1)

    def loss(model, images, labels, index):
        return images

    for augment, image in ((True, 1), (False, 0)):
        train_new(split, 4, "cnn", 1, loss=loss, augment=augment, rate=0.5, weight_decay=3)
        assert seen[-1]["loss"](None, torch.zeros(1), None, None) == image
        assert (seen[-1]["learning_rate"], seen[-1]["weight_decay"]) == (4e-3, 3)
    assert looked == [1]


def test_every_row_has_six_trials_with_the_chosen_one_among_them():
    for name, method in (debias.METHODS | debias.ABLATIONS).items():
        assert len(method.trials) == 6 and method.setting in method.trials, name
        assert (method.needs in debias.RULES) != method.reference
    assert debias.METHODS["lff-longer"].setting == debias.METHODS["lff"].setting
