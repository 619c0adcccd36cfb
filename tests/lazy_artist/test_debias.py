"""The cures: rules that all obey, values of their parts, and what they must refuse."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist import debias
from lazy_artist.canvas import PALETTE, Split, assign_colours, colour_split, paint
from lazy_artist.data import procedural_digits
from lazy_artist.debias import METHODS, baselines, failures, labelled, lazy, penalties, views
from lazy_artist.debias import own as own_cures
from lazy_artist.debias.protocol import LONGER, Method, Recipe, cure, inverse_frequency, plain, run
from lazy_artist.models import build


@pytest.fixture(scope="module")
def split() -> Split:
    return colour_split("train", 0, 0.9, procedural_digits(600, seed=3))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Six steps for every network."""
    monkeypatch.setattr(lazy, "PASS", 1)
    for arch in ("cnn", "mlp"):
        monkeypatch.setitem(debias.protocol.RECIPES, arch, Recipe(6 * 64 / 550, 2e-3, 64))
        monkeypatch.setitem(lazy.LAZY, arch, Recipe(6 * 64 / 550, 1e-3, 64))


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# --- rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_a_network_and_leaves_the_images_alone(name, split):
    before = split.images.copy()
    model, facts = cure(name, METHODS[name], split, seed=0, arch="cnn")
    assert not model.training
    logits = model(torch.from_numpy(split.images[:4]))
    assert logits.shape == (4, 10) and torch.isfinite(logits).all()
    assert not torch.equal(weights(model), weights(build("cnn", 0)))
    assert sorted(model.state_dict()) == sorted(build("cnn", 0).state_dict())
    np.testing.assert_array_equal(split.images, before)
    assert split.images.flags.writeable  # the caller's array is as it was
    assert all(isinstance(value, int | float) for value in facts.values())


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if not m.colours])
def test_methods_without_colour_labels_do_not_notice_when_they_are_scrambled(name, split):
    scrambled = dataclasses.replace(split, colours=np.roll(split.colours, 7))
    nets = [cure(name, METHODS[name], s, seed=1, arch="mlp")[0] for s in (split, scrambled)]
    assert torch.equal(weights(nets[0]), weights(nets[1]))


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.colours])
def test_methods_with_colour_labels_read_them(name, split):
    scrambled = dataclasses.replace(split, colours=np.roll(split.colours, 7))
    nets = [cure(name, METHODS[name], s, seed=1, arch="mlp")[0] for s in (split, scrambled)]
    assert not torch.equal(weights(nets[0]), weights(nets[1]))


def test_only_the_forbidden_network_is_blind_to_colour(split):
    """A change of hue that keeps the mean of the channels moves every network's logits but the grey
    one's."""
    images = split.images[:8]
    turned = np.ascontiguousarray(images[:, [1, 2, 0]])
    for name, method in METHODS.items():
        model, _ = cure(name, method, split, seed=0, arch="mlp")
        apart = np.abs(run_exactly(model, images) - run_exactly(model, turned)).max()
        assert (apart < 1e-4) == (name == "grey"), name


def run_exactly(model: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(images)).numpy()


def test_same_seed_same_network_other_seed_another(split):
    nets = [cure("c", METHODS["combination"], split, seed, "cnn")[0] for seed in (0, 0, 1)]
    assert torch.equal(weights(nets[0]), weights(nets[1]))
    assert not torch.equal(weights(nets[0]), weights(nets[2]))


def test_the_table_says_what_each_row_needs():
    for name, method in METHODS.items():
        assert method.title and method.hypothesis and method.chosen, name
        assert ("ink of" in method.needs) == method.colours, name
    assert not METHODS[debias.BEST].colours and not METHODS[debias.BEST].reference
    trained = [m for m in METHODS.values() if not m.reference and m.train is not baselines.erm]
    assert len(trained) >= 8


# --- refusals ------------------------------------------------------------------------------------


def test_unknown_method_lists_the_valid_ones():
    with pytest.raises(ValueError, match="unknown method 'jtf'.*erm.*jtt.*combination"):
        debias.find("jtf")


def test_colour_labels_are_asked_for(split):
    bare = dataclasses.replace(split, colours=np.full(len(split), -1))
    with pytest.raises(ValueError, match="'resampling' needs the colour label"):
        cure("resampling", METHODS["resampling"], bare, 0, "cnn")
    cure("erm", METHODS["erm"], bare, 0, "mlp")


def test_a_single_colour_or_class_is_refused(split):
    for part, word in ((split.colours == 3, "colour"), (split.labels == 3, "class")):
        with pytest.raises(ValueError, match=f"single {word}"):
            cure("erm", METHODS["erm"], split.take(part), 0, "cnn")
    with pytest.raises(ValueError, match="unknown architecture 'vit'"):
        cure("erm", METHODS["erm"], split, 0, "vit")


def test_a_loss_that_is_not_finite_names_method_step_and_seed(split):
    def broken(split, seed, arch, effort):
        count = iter(range(9))

        def loss(model, images, labels, index):
            return model(images).float().sum() * (np.nan if next(count) == 2 else 0)

        return plain(split, seed, arch, effort, loss=loss)

    with pytest.raises(FloatingPointError, match="'broken' failed.*nan at step 3.*seed 5"):
        cure("broken", METHODS["erm"]._replace(train=broken), split, 5, "mlp")


def test_altering_the_training_images_is_found_out(split):
    def forger(split, seed, arch, effort):
        split.images.base[0, 0, 0, 0] += 0.5  # past the read-only view
        return build(arch, seed), {}

    copy = dataclasses.replace(split, images=split.images.copy())
    with pytest.raises(RuntimeError, match="'forger' altered its training images"):
        cure("forger", METHODS["erm"]._replace(train=forger), copy, 0, "mlp")

    def naive(split, seed, arch, effort):
        split.images[0] = 0

    with pytest.raises(ValueError, match="read-only"):
        cure("naive", METHODS["erm"]._replace(train=naive), split, 0, "mlp")


# --- parts ---------------------------------------------------------------------------------------


def test_inverse_frequency_makes_all_combinations_equally_likely():
    labels, guesses = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 1])
    np.testing.assert_allclose(
        inverse_frequency(labels, guesses), np.array([0.5, 0.5, 1, 0.5, 0.5]) / 0.6
    )
    halfway = inverse_frequency(labels, guesses, power=0.5)
    np.testing.assert_allclose(halfway[2] / halfway[0], np.sqrt(2))


def test_inks_and_grounds_are_read_from_the_images():
    digits = procedural_digits(200, seed=1)
    colours = assign_colours(digits.labels, 0.1, 0)
    painted = paint(digits.images, colours, 4)
    ink, ground = (part.numpy() for part in views.inks_and_grounds(torch.from_numpy(painted)))
    assert np.abs(ink - PALETTE[colours]).mean() < 0.06
    bare = painted[:, :, :2].mean((2, 3))  # the two topmost rows are free of strokes
    assert np.abs(ground - bare).mean() < 0.03 and ground.max() < 0.15


def test_swapping_sends_ink_to_ink_and_leaves_the_ground():
    torch.manual_seed(0)
    own, new = torch.rand(2, 50, 3) * 0.9 + 0.1
    ground = 0.1 * torch.rand(50, 3)
    matrices = views.swap_matrices(own, ground, new)

    def sent(colour):
        return ground + torch.einsum("bij,bj->bi", matrices, colour - ground)

    torch.testing.assert_close(sent(own), new, atol=1e-4, rtol=0)
    torch.testing.assert_close(sent(ground), ground)
    expected = (own * (new - ground)).sum(1) / (own * (own - ground)).sum(1)
    torch.testing.assert_close(torch.linalg.det(matrices), expected, atol=1e-4, rtol=1e-3)
    assert expected.abs().min() > 0  # can be inverted: no channel is lost


def test_swapped_inks_come_from_the_batch_and_do_not_tell_the_old_ones():
    digits = procedural_digits(400, seed=2)
    painted = torch.from_numpy(paint(digits.images, assign_colours(digits.labels, 1, 0), 4))
    torch.manual_seed(0)
    swapped = views.swap_inks(painted, invented=0)
    before, ground = (part.numpy() for part in views.inks_and_grounds(painted))
    after, ground_after = (part.numpy() for part in views.inks_and_grounds(swapped))
    nearest = [np.linalg.norm(before - ink, axis=1).min() for ink in after]
    assert np.mean(nearest) < 0.06  # inks of the batch
    assert (np.linalg.norm(after - before, axis=1) > 0.1).mean() > 0.8  # but others'
    assert np.abs(ground_after - ground).mean() < 0.01
    tinted = views.inks_and_grounds(views.swap_inks(painted, 0, keep_ground=False))[1].numpy()
    assert np.abs(tinted - ground).mean() > 0.02
    for channel in range(3):
        assert abs(np.corrcoef(before[:, channel], after[:, channel])[0, 1]) < 0.2
    invented = views.inks_and_grounds(views.swap_inks(painted, invented=1))[0].numpy()
    far = [np.linalg.norm(before - ink, axis=1).min() for ink in invented]
    assert np.mean(far) > 3 * np.mean(nearest)


def test_mixing_colours_is_linear_in_rgb_and_keeps_three_channels():
    torch.manual_seed(0)
    image = 0.5 * torch.rand(1, 3, 28, 28)
    mixed = views.mix_colours(image)[0].flatten(1).T
    matrix = torch.linalg.lstsq(image[0].flatten(1).T, mixed).solution
    torch.testing.assert_close(image[0].flatten(1).T @ matrix, mixed, atol=1e-4, rtol=0)
    assert torch.linalg.matrix_rank(matrix) == 3
    assert ((matrix.sum(0) > 0.59) & (matrix.sum(0) < 1.41)).all()
    torch.testing.assert_close(views.mix_colours(image, strength=0), image)


def test_moves_keep_colour_and_stay_small():
    images = torch.zeros(64, 3, 28, 28)
    images[:, 0, 12:16, 12:16] = 1
    torch.testing.assert_close(views.move(images, 0, 0, 0), images, atol=1e-5, rtol=0)
    torch.manual_seed(0)
    moved = views.move(images)
    assert moved[:, 1:].abs().max() == 0 and moved[:, 0].max() > 0.9
    place = torch.arange(28.0)
    centre = (moved[:, 0].sum(1) * place).sum(1) / moved[:, 0].sum((1, 2))
    assert (centre - 13.5).abs().mean() > 0.3 and (centre - 13.5).abs().max() < 3.2


def test_generalised_cross_entropy_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    expected = [(1 - 0.25**0.7) / 0.7, (1 - 0.8**0.7) / 0.7]
    torch.testing.assert_close(lazy.gce(logits, torch.tensor([1, 1])), torch.tensor(expected))


def test_the_lazy_twin_finds_the_exceptions(monkeypatch):
    """Flat squares whose shade is the label, but for some: a network that follows the shade errs on
    those alone."""
    rng = np.random.default_rng(0)
    labels = np.arange(2000) % 2
    shade = np.where(rng.random(2000) < 0.1, 1 - labels, labels)
    images = np.zeros((2000, 3, 28, 28), np.float32)
    images[np.arange(2000), shade, 8:20, 8:20] = 1
    split = Split(images, labels, np.full(2000, -1))
    monkeypatch.setitem(lazy.LAZY, "mlp", Recipe(2, 1e-3, 64))
    twin = lazy.lazy_twin(split, 0, "mlp")
    np.testing.assert_array_equal(twin.answers, shade)
    np.testing.assert_array_equal(twin.wrong, shade != labels)
    assert twin.facts() == {"twin wrong": np.mean(shade != labels)}
    assert twin.sureness.min() > 0.5 and twin.sureness.max() <= 1


def test_the_lazy_twin_takes_as_many_steps_on_few_images(split, monkeypatch):
    monkeypatch.setattr(lazy, "PASS", 5000)
    monkeypatch.setitem(lazy.LAZY, "mlp", Recipe(0.5, 1e-3, 64))
    trained = []
    monkeypatch.setattr(lazy, "train", lambda *_, epochs, **__: trained.append(epochs))
    lazy.lazy_twin(split, 0, "mlp")
    lazy.lazy_twin(split, 0, "mlp", keep=np.arange(100))
    many = Split(split.images.repeat(10, 0), split.labels.repeat(10), split.colours.repeat(10))
    lazy.lazy_twin(many, 0, "mlp")
    assert trained == [pytest.approx(2500 / 550), 25, 0.5]


def test_chroma_share_by_hand():
    gradient = torch.tensor([[1.0, 1, 1], [1, -1, 0], [3, 0, 0]]).view(3, 3, 1, 1)
    torch.testing.assert_close(penalties.chroma_share(gradient), torch.tensor([0, 1, 2 / 3]))


def test_reversal_turns_the_gradient_round():
    x = torch.ones(2, requires_grad=True)
    y = penalties._Reverse.apply(x, 0.3)
    assert torch.equal(y, x)
    (y * torch.tensor([1.0, 2.0])).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([-0.3, -0.6]))


def test_the_last_layer_is_fitted_to_convergence():
    torch.manual_seed(0)
    features, labels = torch.randn(300, 5), torch.randint(3, (300,))
    features[torch.arange(300), labels] += 2
    head = nn.Linear(5, 3)
    labelled.refit(head, features, labels)
    head.zero_grad()
    loss = nn.functional.cross_entropy(head(features), labels)
    (loss + labelled.RIDGE * head.weight.square().sum()).backward()
    assert head.weight.grad.abs().max() < 1e-3


def test_last_layer_retraining_leaves_the_other_weights_to_erm(split):
    plain_net, _ = cure("erm", METHODS["erm"], split, 0, "cnn")
    cured, facts = cure("last-layer", METHODS["last-layer"], split, 0, "cnn")
    for (name, a), (_, b) in zip(
        plain_net.named_parameters(), cured.named_parameters(), strict=True
    ):
        assert torch.equal(a, b) != name.startswith("head"), name
    assert facts["balanced images"] % len(set(zip(split.labels, split.colours, strict=True))) == 0


def test_the_grey_fold_is_exact(split, monkeypatch):
    kept = {}

    def remember(*arguments, **strategy):
        kept["net"], facts = plain(*arguments, **strategy)
        kept["before"] = [p.detach().clone() for p in kept["net"].parameters()]
        return kept["net"], facts

    monkeypatch.setattr(baselines, "plain", remember)
    for arch in ("cnn", "mlp"):
        model, _ = baselines.grey(split, 0, arch, 1)
        unfolded = build(arch, 0)
        unfolded.load_state_dict(model.state_dict())
        with torch.no_grad():
            for p, value in zip(unfolded.parameters(), kept["before"], strict=True):
                p.copy_(value)
        images = torch.from_numpy(split.images[:5])
        shade = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        torch.testing.assert_close(
            model.eval()(images), unfolded.eval()(shade), atol=1e-4, rtol=1e-4
        )


def test_weights_that_the_methods_sample_by(split, monkeypatch):
    """With a twin that answers with the ink itself, the label-free methods weigh as their namesakes
    with labels do."""
    twin = lazy.Twin(split.colours, np.ones(len(split)), split.colours != split.labels)
    monkeypatch.setattr(failures, "lazy_twin", lambda *a, **k: twin)
    monkeypatch.setattr(own_cures, "lazy_twin", lambda *a, **k: twin)
    seen = {}

    def spy(split, seed, arch, effort, **strategy):
        seen["weights"], seen["effort"] = strategy["weights"], effort
        return build(arch, seed), {}

    monkeypatch.setattr(failures, "plain", spy)
    monkeypatch.setattr(own_cures, "plain", spy)
    failures.lazy_resampling(split, 0, "mlp", 1)
    np.testing.assert_allclose(seen["weights"], inverse_frequency(split.labels, split.colours))
    failures.just_train_twice(split, 0, "mlp", 1)
    assert set(seen["weights"][twin.wrong]) == {failures.UPWEIGHT}
    failures.confident_partition(split, 0, "mlp", 1)
    for digit in range(10):  # every answer that occurs gets the same share of its digit
        mine = split.labels == digit
        total = np.bincount(split.colours[mine], seen["weights"][mine])
        np.testing.assert_allclose(total[total > 0], total.max())
    own_cures.combination(split, 0, "mlp", 2)
    np.testing.assert_allclose(
        seen["weights"], inverse_frequency(split.labels, split.colours, own_cures.POWER)
    )
    assert seen["effort"] == 2 * LONGER
    own_cures.without_twin(split, 0, "mlp", 1)
    assert seen["weights"] is None
    with pytest.raises(ValueError, match="unknown recolouring 'dye'.*swap, tint, mix, none"):
        own_cures.combined(split, 0, "mlp", 1, recolour="dye")


def test_lff_weighs_up_what_the_lazy_network_finds_hard(split, monkeypatch):
    """With a lazy network that is sure of the ink and an honest one that knows nothing, exceptions
    weigh more: the gradient is theirs."""
    colours = torch.from_numpy(split.colours)
    spied = []

    class Fixed(nn.Module):
        def __init__(self, sure):
            super().__init__()
            self.sure, self.logits = sure, nn.Parameter(torch.zeros(len(split), 10))

        def forward(self, index):
            bonus = nn.functional.one_hot(colours[index], 10) * 8.0 if self.sure else 0
            return self.logits[index] + bonus

    def spy(pair, split, seed, arch, effort, loss):
        index, labels = torch.arange(len(split)), torch.from_numpy(split.labels)
        pair = failures._Pair(Fixed(False), Fixed(True))
        loss(pair, index, labels, index).backward()
        spied.append(pair.honest.logits.grad.norm(dim=1))

    monkeypatch.setattr(failures, "fit", spy)
    failures.learning_from_failure(split, 0, "mlp", 1)
    conflict = torch.from_numpy(split.colours != split.labels)
    assert spied[0][conflict].min() > 20 * spied[0][~conflict].max()


def test_pairs_contradict_each_other(split, monkeypatch):
    """Batches are mixed only with partners that share the label or the twin's answer, not both."""
    twin = lazy.Twin(split.colours, np.ones(len(split)), split.colours != split.labels)
    monkeypatch.setattr(failures, "lazy_twin", lambda *a, **k: twin)
    kept = {}
    monkeypatch.setattr(
        failures, "plain", lambda *a, **strategy: (kept.update(strategy), (build("mlp", 0), {}))[1]
    )
    failures.contradicting_pairs(split, 0, "mlp", 1)
    index = torch.arange(100)
    labels = torch.from_numpy(split.labels)[index]
    flags = torch.eye(100).view(100, 1, 10, 10).expand(-1, 3, -1, -1)  # image k is pixel k
    seen = []

    def model(images):
        seen.append(images[:, 0].flatten(1))
        return torch.zeros(len(images), 10)

    torch.manual_seed(0)
    for _ in range(8):
        kept["loss"](model, flags, labels, index)
    mixed = [pixels for pixels in seen if pixels.diagonal().min() < 1]
    assert 0 < len(mixed) < 8
    for pixels in mixed:
        assert pixels.diagonal().min() >= 0.5 and torch.allclose(pixels.sum(1), torch.ones(100))
        row, column = (pixels - torch.diag(pixels.diagonal())).nonzero().T
        same_label = split.labels[row] == split.labels[column]
        same_answer = split.colours[row] == split.colours[column]
        assert (same_label != same_answer).mean() > 0.95  # some have no such partner in the batch


def test_irm_penalises_a_scale_that_wants_to_move(split, monkeypatch):
    """Where the scale of the logits is right, the risk is all; where it is wrong, they pay."""
    kept = {}
    monkeypatch.setattr(
        penalties, "plain", lambda *a, **strategy: (kept.update(strategy), (build("mlp", 0), {}))[1]
    )
    monkeypatch.setattr(penalties, "WARM_UP", 0.0)
    penalties.irm(split, 0, "mlp", 1)
    index, labels = torch.arange(len(split)), torch.from_numpy(split.labels)
    kept["loss"](lambda images: torch.zeros(len(index), 10), None, labels, index)  # warming up
    flat = kept["loss"](lambda images: torch.zeros(len(index), 10), None, labels, index)
    torch.testing.assert_close(flat * penalties.INVARIANCE, torch.tensor(np.log(10.0)).float())
    wrong = kept["loss"](
        lambda images: -5.0 * nn.functional.one_hot(labels, 10), None, labels, index
    )
    assert wrong > 10  # a scale of 0 would be better: the slope is steep


def test_group_dro_leans_towards_the_worst_group(split, monkeypatch):
    kept = {}
    monkeypatch.setattr(
        labelled, "plain", lambda *a, **strategy: (kept.update(strategy), (build("mlp", 0), {}))[1]
    )
    labelled.group_dro(split, 0, "mlp", 1)
    index, labels = torch.arange(len(split)), torch.from_numpy(split.labels)
    bad = labels == 0
    right = 4.0 * nn.functional.one_hot(labels, 10)
    logits = torch.where(bad[:, None], -right, right)
    values = [float(kept["loss"](lambda images: logits, None, labels, index)) for _ in range(40)]
    assert all(a < b for a, b in zip(values, values[1:], strict=False))
    worst = float(nn.functional.cross_entropy(-right[bad], labels[bad]))
    assert values[0] < 0.5 * worst < 0.6 * values[-1] + 0.5 * worst
    assert isinstance(METHODS["group-dro"], Method)


def test_run_agrees_with_the_network(split):
    model = build("cnn", 0).eval()
    exact = run_exactly(model, split.images[:20])
    np.testing.assert_allclose(run(model, split.images[:20]), exact, atol=0.05)
    assert run(model, split.images[:7], features=True).shape == (7, 128)
