"""What callers bring: public functions give the same for images, labels and networks of any kind,
for images of any size and any number of classes, and leave them as they were."""

import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist import (
    attack,
    canvas,
    erasure,
    evaluate,
    faithfulness,
    featurevis,
    gradcam,
    latents,
    sae,
    tuning,
)
from lazy_artist.canvas import Split
from lazy_artist.training import train

N_CLASSES, SHAPE = 5, (3, 9, 12)


class Net(nn.Module):
    def __init__(self, by_view=False):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.head = nn.Linear(8 * 5 * 6, N_CLASSES)
        self.by_view = by_view

    def features(self, x):
        x = self.block(x)
        return x.view(len(x), -1) if self.by_view else x.flatten(1)

    def forward(self, x):
        return self.head(self.features(x))


def make(by_view=False):
    torch.manual_seed(0)
    model = Net(by_view)
    model.block[1].running_mean.normal_(std=0.1)
    return model.eval()


RNG = np.random.default_rng(0)
X = RNG.random((8, *SHAPE), dtype=np.float32)
Z = RNG.random((8, *SHAPE), dtype=np.float32)
MAPS = RNG.random((8, 5, 6), dtype=np.float32)
ROWS = RNG.random((200, 6), dtype=np.float32)
with torch.no_grad():
    LOGITS = make()(torch.from_numpy(X)).numpy()
Y = LOGITS.argmax(1)
Y[:2] = (Y[:2] + 1) % N_CLASSES  # two are wrong
T = np.argsort(LOGITS, 1)[:, -2]
LABELS = np.arange(200) % 3
EYE = np.eye(8, dtype=np.float32)[:2]


def trained(m, x, y):
    history = train(m, Split(x, y, y), seed=0, epochs=2, learning_rate=1e-3, batch_size=4)
    return history.losses


# by name: of a model, images x, labels y and targets t; and of images x, labels y and images z
MODEL_USES = {
    "predict": lambda m, x, y, t: evaluate.predict(m, x),
    "features": lambda m, x, y, t: evaluate.predict(m, x, output="features"),
    "accuracy": lambda m, x, y, t: evaluate.accuracy(m, Split(x, y, t)),
    "shortcut_rate": lambda m, x, y, t: evaluate.shortcut_rate(m, Split(x, y, t)),
    "grad_cam": lambda m, x, y, t: gradcam.grad_cam(m, "block", x, y),
    "gradient_energy": lambda m, x, y, t: gradcam.gradient_energy(m, x, y),
    "integrated_gradients": lambda m, x, y, t: gradcam.integrated_gradients(m, x, x / 2, y, 3),
    "chroma_reliance": lambda m, x, y, t: gradcam.chroma_reliance(m, x, 1),
    "deletion_curve": lambda m, x, y, t: faithfulness.deletion_curve(m, x, y, MAPS, 0.1, steps=3),
    "activations": lambda m, x, y, t: tuning.activations(m, ["block"], x),
    "ablated_logits": lambda m, x, y, t: tuning.ablated_logits(m, "block", x, EYE > 0, 0.5),
    "visualise": lambda m, x, y, t: featurevis.visualise(m, "block", EYE, steps=4, shape=SHAPE),
    "targeted_pgd": lambda m, x, y, t: attack.targeted_pgd(m, x, t, 0.1, steps=9),
    "minimal_epsilon": lambda m, x, y, t: attack.minimal_epsilon(m, x, t, steps=9),
    "minimal_epsilon l2": lambda m, x, y, t: attack.minimal_epsilon(m, x, t, "l2", steps=9),
    "fmn": lambda m, x, y, t: attack.fmn(m, x, t, steps=9),
    "square_attack": lambda m, x, y, t: attack.square_attack(m, x, t, 0.3, queries=9),
    "colour_attack": lambda m, x, y, t: attack.colour_attack(m, x, t, "tint", grid=4),
    "rewritten_logits": lambda m, x, y, t: latents.rewritten_logits(m, "block", x, lambda a: a / 2),
}
DATA_USES = {
    "colour_root": lambda x, y, z: featurevis.colour_root(x),
    "random_pixels": lambda x, y, z: evaluate.random_pixels(x, 5, 0),
    "change_sizes": lambda x, y, z: attack.change_sizes(x, z, "l2"),
    "chroma_share": lambda x, y, z: attack.chroma_share(x, z),
    "ciede2000": lambda x, y, z: attack.ciede2000(x, z),
    "attribution_share": lambda x, y, z: faithfulness.attribution_share(x[:, 0], z[:, 1]),
    "discriminative_mask": lambda x, y, z: faithfulness.discriminative_mask(x[:, 0], y, z[:5, 0]),
    "rank_correlation": lambda x, y, z: faithfulness.rank_correlation(x[:, 0], z[:, 0]),
    "upsample": lambda x, y, z: gradcam.upsample(x[:, 0], (18, 20)),
    "display": lambda x, y, z: gradcam.display(x[:, 0]),
    "confusion": lambda x, y, z: evaluate.confusion(y, y),
    "contingency": lambda x, y, z: canvas.contingency(y, y),
    "assign_colours": lambda x, y, z: canvas.assign_colours(y, 0.5, 0),
    "simulate_deficiency": lambda x, y, z: canvas.simulate_deficiency(x[:, :, 0, :3], "tritanopia"),
    "area_under": lambda x, y, z: faithfulness.area_under(x[:, 0, 0]),
    "auroc": lambda x, y, z: latents.auroc(x[:, 0, 0], y)[y],
    "leace": lambda x, y, z: erasure.leace(x[:, 0, 0], y % 2)(z[:, 0, 0]),
    "splince": lambda x, y, z: erasure.splince(x[:, 0, 0], y % 2, y // 2)(z[:, 0, 0]),
}


@functools.cache
def usual(use):
    """What comes of arrays and of a network as anyone has them."""
    return MODEL_USES[use](make(), X, Y, T) if use in MODEL_USES else DATA_USES[use](X, Y, Z)


def arrays(value):
    """The arrays and numbers in a result, and whether each was a tensor."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [pair for item in value for pair in arrays(item)]
    return [(np.asarray(value.numpy() if isinstance(value, torch.Tensor) else value),
             isinstance(value, torch.Tensor))]  # fmt: skip


def check(found, expected, tensors=None, tolerance=1e-5):
    found, expected = arrays(found), arrays(expected)
    assert len(found) == len(expected)
    for (a, is_tensor), (b, was_tensor) in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance)
        if a.ndim:
            assert is_tensor == (was_tensor if tensors is None else tensors)


def mapped(x):
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file.name, x)
        return np.load(file.name, mmap_mode="r")


def last(x):
    """In channels-last order, if images."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if x.ndim == 4 else x


def backwards(x):
    return x[::-1].copy()[::-1]


KINDS = {
    "tensor": torch.tensor,
    "tensor with gradients": lambda x: torch.tensor(x).requires_grad_(x.dtype.kind == "f"),
    "float64": lambda x: x.astype(np.float64 if x.dtype.kind == "f" else np.int32),
    "mapped": mapped,
    "backwards": backwards,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "channels last": last,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", [*MODEL_USES, *DATA_USES])
def test_arrays_and_tensors_of_any_kind_count_alike(use, kind):
    x, y, t, z = (KINDS[kind](values) for values in (X, Y, T, Z))
    found = MODEL_USES[use](make(), x, y, t) if use in MODEL_USES else DATA_USES[use](x, y, z)
    always = use in ("visualise", "rewritten_logits")  # no images given; a tensor by its docstring
    check(found, usual(use), None if always else kind.startswith("tensor"))


AROUND = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device": lambda: torch.device("meta"),  # stands in for an accelerator
}


@pytest.mark.parametrize("around", [*AROUND, "dtype"])
@pytest.mark.parametrize("use", MODEL_USES)
def test_what_is_switched_on_around_changes_nothing(use, around):
    run, model, expected = MODEL_USES[use], make(), usual(use)
    if around == "dtype":
        torch.set_default_dtype(torch.float64)
        try:
            found = run(model, X, Y, T)
        finally:
            torch.set_default_dtype(torch.float32)
    else:
        with AROUND[around]():
            found = run(model, X, Y, T)
    check(found, expected)


NETWORKS = {
    "by view": lambda: make(by_view=True),
    "half trained": lambda: make().train(),
    "float64": lambda: make().double(),
    "compiled": lambda: torch.compile(make(), backend="eager"),
    "parallel": lambda: nn.DataParallel(make()),
    "channels last": lambda: make().to(memory_format=torch.channels_last),
}


def state(model):
    """All that a function might change of a network."""
    found = [(type(m), m.training, len(m._forward_hooks), len(m._forward_pre_hooks))
             for m in model.modules()]  # fmt: skip
    for name, weight in [*model.named_parameters(), *model.named_buffers()]:
        found += [name, weight.dtype, weight.stride(), weight.requires_grad, weight.grad is None]
        found.append(weight.detach().double().sum().item())
    return found


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("use", MODEL_USES)
def test_networks_of_any_kind_answer_alike_and_stay_as_they_were(use, network):
    model = NETWORKS[network]()
    if network == "half trained":
        model.block.eval()
        model.head.weight.requires_grad_(False)
    before = state(model)
    check(MODEL_USES[use](model, X, Y, T), usual(use), tolerance=1e-4)
    assert state(model) == before
    with pytest.raises((ValueError, TypeError)):
        MODEL_USES[use](model, X[:, :2], Y + 0.5, T + 0.5)
        featurevis.visualise(model, "block", steps=0)
    assert state(model) == before


def test_low_precision_networks_answer_nearly_alike():
    for dtype in (torch.float16, torch.bfloat16):
        check(evaluate.predict(make().to(dtype), X), LOGITS, tolerance=0.02)
        maps = gradcam.grad_cam(make().to(dtype), "block", X, Y)
        check(maps, gradcam.grad_cam(make(), "block", X, Y), tolerance=0.02)


@pytest.mark.parametrize("kind", [*KINDS, *AROUND])
def test_training_takes_what_comes_and_leaves_a_network_to_be_saved(kind, tmp_path):
    from safetensors.torch import load_file, save_file

    expected, model, given = make(), make(), KINDS.get(kind, np.copy)
    trained(expected, X, Y)
    with AROUND.get(kind, torch.enable_grad)():
        trained(model, given(X), given(Y))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.testing.assert_close(load_file(tmp_path / "model.safetensors"), expected.state_dict())
    assert not any(m.training for m in model.modules())
    assert all(w.is_contiguous() and w.grad is None for w in model.parameters())


def test_training_flattens_by_view_and_refuses_what_it_cannot_train():
    trained(make(by_view=True), X, Y)
    for model, x, y, told in (
        (make().double(), X, Y, "in float32, not torch.float64"),
        (make(), X, Y + N_CLASSES, r"labels must be integers in 0\.\.4"),
        (make(), X, Y[:, None], r"labels must be .* \(8,\)"),
        (make(), X[:, :1], Y, r"the model cannot be called on images \(2, 1, 9, 12\)"),
        (nn.Sequential(make(), nn.Flatten(0)), X, Y, "must return logits"),
    ):
        with pytest.raises(ValueError, match=told):
            trained(model, x, y)


@pytest.mark.parametrize("kind", ["tensor", "tensor with gradients", "float64", "backwards"])
def test_autoencoders_take_activations_of_any_kind(kind):
    expected = sae.fit_autoencoder(ROWS, 8, "topk", 2, seed=0, steps=20)
    found = sae.fit_autoencoder(KINDS[kind](ROWS), 8, "topk", np.float64(2), seed=0, steps=20)
    torch.testing.assert_close(found.state_dict(), expected.state_dict())
    copy.deepcopy(found)
    check(sae.quality(found, KINDS[kind](ROWS)), sae.quality(expected, ROWS))


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (
            lambda: attack.targeted_pgd(make(), X, T, 8),
            "epsilon .* divide grey levels by 255, not 8",
        ),
        (lambda: attack.targeted_pgd(make(), X, T, np.full(8, 0.1)), "epsilon must lie above 0"),
        (lambda: attack.minimal_epsilon(make(), X, T, "l2", limit=20), "limit .* at most 18"),
        (lambda: attack.minimal_epsilon(make(), X, T, "L2"), "unknown norm 'L2'"),
        (lambda: attack.change_sizes(X, Z, "L2"), "unknown norm 'L2'"),
        (lambda: attack.change_sizes(X, Z[:1], "l2"), "same shape"),
        (lambda: attack.minimal_epsilon(make(), X, 5), r"targets must be integers in 0\.\.4"),
        (lambda: gradcam.grad_cam(make(), "block", X, 5), "class 5 is out of range"),
        (lambda: evaluate.accuracy(make(), Split(X, Y[:, None], Y)), r"labels .* \(8,\)"),
        (lambda: evaluate.shortcut_rate(make(), Split(X, Y, Y[:1])), r"colours .* \(8,\)"),
        (lambda: evaluate.confusion(Y, Y[:1]), r"predictions .* \(8,\)"),
        (lambda: evaluate.predict(nn.ReLU(), X), "must return logits"),
        (lambda: canvas.contingency(Y, Y + 8), "counted apart"),
        (lambda: canvas.contingency(Y, Y + 20), r"colours must be integers in 0\.\.19"),
        (lambda: evaluate.shortcut_map(LOGITS, Y), "grid must have shape"),
        (lambda: evaluate.random_pixels(X, 109, 0), "count must be a whole number from 1 to 108"),
        (lambda: sae.fit_autoencoder(LABELS, 8, "topk", 2, seed=0, steps=1), "activations must be"),
        (lambda: erasure.leace(ROWS, LABELS[:, None]), r"classes .* \(200,\)"),
        (lambda: featurevis.visualise(make(), "block", shape=SHAPE, root=np.eye(4)), "root must"),
        (lambda: featurevis.visualise(make(), "block", np.nan * EYE, shape=SHAPE), "finite"),
    ],
)
def test_no_wrong_number_comes_without_a_word(run, told):
    with pytest.raises(ValueError, match=told):
        run()


def test_no_change_has_no_share_of_colour():
    assert np.isnan(attack.chroma_share(X, X)).all()
    changed = np.clip(X, 0, 0.5) + 0.25 * np.array([1, -1, 0], np.float32)[:, None, None]
    share = attack.chroma_share(np.clip(X, 0.25, 0.5), np.clip(changed, 0, 1))
    assert ((share > 0.9) & (share <= 1)).all()


def test_a_grid_of_digits_is_counted_by_hand():
    table = canvas.contingency([0, 0, 3], np.array([1, 1, 9]))
    assert table[0, 1] == 2 and table[3, 9] == 1 and table.sum() == 3
    assert canvas.contingency([0, 3], [11, 19])[3, 9] == 1
    table = evaluate.confusion([0, 0, 0, 2], [0, 1, 1, 2])
    assert table[0, :3].tolist() == [1 / 3, 2 / 3, 0] and table[2, 2] == 1 and table.sum() == 2


@pytest.mark.parametrize("layer", ["block", "block.0", "block.1", "block.2"])
def test_an_attack_climbs_the_network_that_is_rewritten(layer):
    model, mask = make(), torch.tensor([0.0, 1] * 4)
    with sae.rewritten(model, layer, lambda rows: rows * mask):
        logits = evaluate.predict(model, X)
        targets = logits.argsort(1)[:, -2]
        found = attack.minimal_epsilon(model, X, targets, steps=40)
        said = evaluate.predict(model, found.images).argmax(1)
        assert found.reached.sum() >= 6 and ((said == targets) == found.reached).all()
        search = attack._Search(model, X, targets, "linf", "predict")
        torch.testing.assert_close(search.fast(torch.from_numpy(X)), torch.tensor(logits))
