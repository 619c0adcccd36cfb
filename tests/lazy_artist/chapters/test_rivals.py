"""The appendix on rivals: its measurements on networks and dictionaries made by hand, and its cells
on frames made by hand."""

import inspect
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import run_cells
from torch import nn

from lazy_artist import erasure, latents
from lazy_artist.canvas import Split, paint
from lazy_artist.chapters import rivals as r
from lazy_artist.claims import begin_chapter
from lazy_artist.evaluate import estimate, percent
from lazy_artist.plots import plus_minus
from lazy_artist.sae import SparseAutoencoder

GIVEN = {"n_search": 1, "n_validation": 1, "n_eval": 1, "splits": ["hard"]}
SEALED = {"splince-beats-leace", "mask-beats-random", "sae-scr", "earlier-helps"}


class Told(nn.Module):
    """Its images name digit and colour in their first two rows: ten channels are 1 for the digit,
    ten are 2 for the colour, and the head adds up what speaks for a digit: colour decides."""

    def __init__(self):
        super().__init__()
        self.block3, self.head = nn.Identity(), nn.Linear(20, 10)
        self.head.weight.data = torch.eye(10).repeat(1, 2)
        self.head.bias.data = torch.zeros(10)

    def features(self, images):
        rows = images[:, 0, :2, :10] * torch.tensor([[1.0], [2.0]])
        return self.block3(rows.flatten(1)[:, :, None, None]).mean((2, 3))

    def forward(self, images):
        return self.head(self.features(images))


def told(labels, colours, noise=0.0) -> Split:
    labels, colours = np.asarray(labels), np.asarray(colours)
    images = np.random.default_rng(len(labels)).random((len(labels), 3, 28, 28)) * noise
    for row, numbers in enumerate((labels, colours)):
        images[np.arange(len(labels)), 0, row, numbers] += 1 - noise
    return Split(images.astype(np.float32), labels, colours)


def network(model=None, seed=5, name="cheater") -> SimpleNamespace:
    model = model or Told().eval()
    return SimpleNamespace(seed=seed, name=name, correlation=0.95, load=lambda: model)


@pytest.fixture
def sets(monkeypatch) -> dict[str, Split]:
    """Images of all 100 pairs to search on; ten with three wrong colours, ten with all wrong."""
    digits, colours = np.divmod(np.arange(100), 10)
    ten = np.arange(10)
    made = {
        "search": told(digits, colours), "validation": told(ten, np.r_[:7, 8, 9, 7]),
        "hard": told(ten, (ten + 1) % 10), "unbiased": told(digits, colours),
    }  # fmt: skip
    monkeypatch.setattr(r, "image_sets", lambda *given: {**made})
    monkeypatch.setattr(r.canvas, "test_split", lambda name, n: made[name])
    return made


# --- erasing and masks ---------------------------------------------------------------------------


def test_colour_is_erased_before_the_head_its_own_or_a_new_one(sets):
    sets["search"] = told(np.arange(300) % 10, np.arange(300) // 7 % 10, 0.3)
    frame = r.erase_colour.__wrapped__(network(), **GIVEN).set_index(["eraser", "head"])
    model = Told()
    x, at = (model.features(torch.from_numpy(sets[n].images)).numpy() for n in ("search", "hard"))
    assert frame.loc[("none", "own"), ["validation", "hard", "shortcut_rate"]].tolist() == [
        0.7,
        0,
        1,
    ]
    head = model.head.weight.detach().numpy().T
    erasers = {
        "LEACE": erasure.leace(x, sets["search"].colours),
        "SPLINCE": erasure.splince(x, sets["search"].colours, sets["search"].labels),
    }
    for name, eraser in erasers.items():
        own, surplus = eraser(at) @ head, (eraser(x) @ head).mean(0)
        balanced = own - surplus
        weights, bias = latents.fit_linear_probe(
            eraser(x).astype(np.float32), sets["search"].labels
        )
        for kind, logits in (
            ("own", own), ("own, balanced", balanced), ("new", eraser(at) @ weights + bias)
        ):  # fmt: skip
            correct = (logits.argmax(1) == np.arange(10)).mean()
            assert frame.loc[(name, kind), "hard"] == pytest.approx(correct), (name, kind)
    assert frame.loc[("SPLINCE", "own, balanced"), "hard"] > 0.5


def test_a_mask_is_what_zeroed_channels_are():
    model, split = Told(), told([1, 2, 3], [4, 2, 0])
    mask = torch.ones(20)
    mask[[1, 10]] = 0  # the digit 1 and the colour 0
    logits = r.masked(model, {"block3": mask}, split.images)
    wanted = np.zeros((3, 10))
    wanted[0, 4], wanted[1, 2], wanted[2, 3] = 2, 3, 1
    np.testing.assert_allclose(logits, wanted)


def test_masks_learn_to_switch_colour_off(sets):
    model = Told().requires_grad_(False)
    found, offset = r.learn_masks(model, ["block3"], sets["search"], np.ones(100), 60, 0)
    assert found["block3"].tolist() == [1] * 10 + [0] * 10 and np.ptp(offset) < 0.3
    weights = (sets["search"].labels == sets["search"].colours).astype(float)  # colour is right
    assert r.learn_masks(model, ["block3"], sets["search"], weights, 60, 0)[0]["block3"].sum() > 10
    assert (model.head.weight == Told().head.weight).all()


@pytest.mark.parametrize("fitted_on", ["random colours", "own images"])
def test_masks_are_measured_beside_random_ones_of_their_size(sets, monkeypatch, fitted_on):
    own, given = told(np.repeat([0, 1], [300, 100]), np.repeat([0, 1, 2], [200, 150, 50])), []
    monkeypatch.setattr(r.canvas, "colour_split", lambda name, seed, bias: own)
    mask = torch.tensor([1.0] * 10 + [0, 1] * 5)

    def learn(model, layers, split, weights, steps, seed):
        given.append((layers, split, weights, steps, seed))
        return {"block3": mask}, np.eye(10)[9] * 2

    monkeypatch.setattr(r, "learn_masks", learn)
    more = GIVEN | {"n_search": 400, "steps": 7}
    leaning, bias = Told().eval(), 1.5 * np.eye(10)[4]  # to the answer 4
    leaning.head.bias.data = torch.tensor(bias, dtype=torch.float32)
    frame = r.mask_channels.__wrapped__(network(leaning), ["block3"], fitted_on, **more)
    frame = frame.set_index("mask")
    (layers, split, weights, steps, seed), = given  # fmt: skip
    assert (layers, steps, seed, weights.mean()) == (["block3"], 7, 5, pytest.approx(1))
    if fitted_on == "own images":
        cells = [(weights[(own.labels == d) & (own.colours == c)].sum()) for d, c in
                 ((0, 0), (0, 1), (1, 1), (1, 2))]  # fmt: skip
        assert split is not sets["search"] and cells == pytest.approx([100] * 4)
    else:
        assert split is sets["search"] and (weights == 1).all()
    assert frame.loc["none", ["kept", "validation", "hard"]].tolist() == [1, 0.7, 0.1]
    rng, tried, model = np.random.default_rng(5), [], Told()
    x = {name: model.features(torch.from_numpy(one.images)).numpy() for name, one in sets.items()}
    head, ten = np.tile(np.eye(10), (2, 1)), np.arange(10)
    for _ in range(3):
        shuffled = mask.numpy()[rng.permutation(20)]
        surplus = (x["search"] * shuffled @ head).mean(0)
        tried.append(((x["hard"] * shuffled @ head - surplus).argmax(1) == ten).mean())
        leant = (x["hard"] * shuffled @ head + bias).argmax(1)
    assert (leant == ten).mean() != tried[-1]
    assert frame.loc["random", "hard"] == pytest.approx(np.mean(tried))
    offset = bias + np.eye(10)[9] * 2
    right = ((x["hard"] * mask.numpy() @ head + offset).argmax(1) == ten).mean()
    assert frame.loc["learnt", ["kept", "hard"]].tolist() == pytest.approx([0.75, right])


# --- two networks --------------------------------------------------------------------------------


def test_a_crosscoder_tells_what_only_one_network_has(monkeypatch):
    """Both networks have the digit in their activations, the first has the colour besides."""
    rng = np.random.default_rng(0)
    made = {n: told(rng.integers(10, size=n), rng.integers(10, size=n)) for n in (900, 500)}
    sets = dict(zip(("search", "validation"), made.values(), strict=True))
    directions, seen = rng.normal(size=(3, 10, 16)), []

    def activations(model, layer, images, n_places, seed):
        assert (layer, n_places) == ("block3", 2)
        split, (first, scale) = made[len(images)], model
        x = directions[1 - first][split.labels] + first * directions[2][split.colours]
        return torch.tensor(scale * x.repeat(2, axis=0), dtype=torch.float32) + 3

    fit = r.fit_autoencoder
    monkeypatch.setattr(r, "intervention_sets", lambda *given: sets)
    monkeypatch.setattr(r.latents, "sample_activations", activations)
    monkeypatch.setattr(r, "fit_autoencoder", lambda x, *a, **o: seen.append(x) or fit(x, *a, **o))
    pair = [network((1, 1.0)), network((0, 50.0))]
    found = r.diff_networks.__wrapped__(pair, 900, 500, 2, 2, 2, 300)
    (x,) = seen
    assert x.shape == (1800, 32)
    assert [x[:, part].var(0).mean() for part in (slice(16), slice(16, 32))] == pytest.approx(
        [1, 1]
    )
    frame = found["latents"].assign(owner=lambda rows: r.owners(rows))
    strong = frame[frame.active > 0.03]
    assert set(strong.owner[strong.label == "colour"]) == {"first"}
    assert not set(strong.owner[strong.label == "shape"]) & {"first", "second"}
    assert (strong.label == "colour").sum() >= 4 <= (strong.label == "shape").sum()
    info = found["info"]
    assert info["fvu_first"] + info["fvu_second"] == pytest.approx(2 * info["fvu"], rel=0.05)
    assert 0 < info["fvu_second"] < 0.3
    shares = pd.DataFrame({"share": [0.09, 0.11, 0.41, 0.59, 0.61, 0.89, 0.91]})
    own = ["first", "between", "shared", "shared", "between", "between", "second"]
    assert r.owners(shares).tolist() == own


# --- scores --------------------------------------------------------------------------------------


def test_attribution_by_hand():
    parts = np.array([[1.0, 0], [3, 2], [5, 4], [7, 2]])  # the classes 0, 0, 1 and 2
    unit = np.zeros((2, 10))
    unit[0, :2], unit[1, 1] = [10, 0], 5
    with np.errstate(invalid="ignore"):  # seven classes have no image
        found = r.attribution(parts, unit, np.array([0, 0, 1, 2]))
    # of class 0: 2 - 6 and 1 - 3; of class 1: 5 - 11 / 3 and 4 - 4 / 3
    wanted = [[(2 - 6) * 9, (5 - 11 / 3) * -1], [(1 - 3) * -0.5, (4 - 4 / 3) * 4.5]]
    np.testing.assert_allclose(found[:, :2], wanted)


def test_scr_and_tpp_count_what_ablation_does(sets, monkeypatch):
    """With raw channels that are a class each, n ablated ones of colour cost n of ten colours their
    dominance, and each own one brings its probe's area from 1 to 1/2."""
    digits, colours = np.divmod(np.arange(100), 10)
    sets["hard"] = told(digits[digits != colours], colours[digits != colours])
    eye, none = np.eye(10, dtype=np.float32), np.zeros((10, 10), np.float32)
    probes = {"labels": np.vstack([eye, none]), "colours": np.vstack([none, eye])}

    def probe(x, classes):
        name = "labels" if (classes == sets["search"].labels).all() else "colours"
        return probes[name], np.zeros(10, np.float32)

    sae = SparseAutoencoder(20, 40, "topk", 3, seed=1).requires_grad_(False)
    monkeypatch.setattr(r, "load_sae", lambda network, **options: sae)
    monkeypatch.setattr(r.latents, "fit_linear_probe", probe)
    monkeypatch.setattr(r, "CUTS", (0, 1))
    frame = r.score_bases.__wrapped__(network(), {}, **GIVEN)
    assert len(frame) == (2 * 4 + 2 * 4) * (2 + 2)  # of 40 and of 20 parts at most
    by = frame.set_index(["score", "basis", "set", "n"]).value
    raw = by.xs("raw channels", level="basis")
    for n in (2, 5, 10):
        np.testing.assert_allclose(raw["TPP colour", "unbiased", n], 0.5 - (n - 1) / 18, atol=1e-6)
    # an ablated channel is held at .2: a hard image is right once its colour's channel is
    assert [raw["SCR", "hard", n] for n in (2, 5, 10)] == pytest.approx([0.2, 0.5, 1])
    assert raw["SCR", "validation", 10] == pytest.approx(1)
    # latents: their parts are taken off the logits by hand, in the order of what they speak for
    x, at = (Told().features(torch.from_numpy(sets[n].images)) for n in ("search", "hard"))
    z, there, head = sae.encode(x).numpy(), sae.encode(at).numpy(), np.tile(np.eye(10), (2, 1))
    unit = sae.directions().numpy() @ head
    speaks = r.attribution(z, unit, sets["search"].colours).sum(1)
    for n in (5, 10, 20):
        top = np.argsort(-speaks)[:n]
        logits = at.numpy() @ head - (there[:, top] - z[:, top].mean(0)) @ unit[top]
        correct = (logits.argmax(1) == sets["hard"].labels).mean()
        assert by["SCR", "SAE latents", "hard", n] == pytest.approx(correct)


# --- earlier layers ------------------------------------------------------------------------------


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.block1 = nn.Conv2d(3, 4, 7, stride=7, bias=False)
        self.head = nn.Linear(4, 10)
        generator = torch.Generator().manual_seed(0)
        for weight in self.parameters():
            weight.data = torch.randn(weight.shape, generator=generator)

    def forward(self, images):
        return self.head(self.block1(images).square().mean((2, 3)))


def test_a_resampled_latent_takes_its_mean_over_repaintings_at_each_place():
    grey = np.random.default_rng(0).integers(0, 256, (30, 28, 28)).astype(np.uint8)
    images = np.stack([paint(grey, np.full(30, k), 3) for k in range(10)])
    colours, model = np.arange(30) * 7 % 10, Small().requires_grad_(False)
    sae = SparseAutoencoder(4, 9, "topk", 3, seed=2).requires_grad_(False)
    chosen = torch.zeros(2, 9)
    chosen[0, [0, 4, 5]], chosen[1] = 1, 1
    found = r.resampled(model, "block1", sae, chosen, images, colours)
    assert found.shape == (4, 30, 10)
    for i in (0, 12, 26, 29):  # in both batches
        maps = model.block1(torch.from_numpy(images[:, i].copy()))  # (10, 4, 4, 4)
        rows = maps.flatten(2).movedim(2, 0)  # (places, colours, W)
        z = torch.stack([sae.encode(place) for place in rows])
        own = rows[:, colours[i]]
        change = z.mean(1) - z[:, colours[i]]
        wanted = [own, own + change[:, [0, 4, 5]] @ sae.directions()[[0, 4, 5]],
                  own + change @ sae.directions(), rows.mean(1)]  # fmt: skip
        logits = [model.head(one.square().mean(0)) for one in wanted]
        np.testing.assert_allclose(found[:, i], torch.stack(logits), rtol=1e-4, atol=1e-4)


def test_layers_are_resampled_by_their_order_and_counted(monkeypatch):
    given = []

    def resampled(model, layer, sae, chosen, images, colours):
        given.append((layer, chosen.numpy(), colours))
        assert (
            images.shape == (10, len(colours), 3, 28, 28) and np.ptp(images[:, 0], axis=0).max() > 0
        )
        n, right = len(colours), 1 + np.arange(len(chosen) + 2) * 2  # images right, by row
        labels = r.split_digits("hard" if len(given) % 2 == 0 else "validation")[1][:n]
        answers = np.where(np.arange(n) < right[:, None], labels, (labels + 1) % 10)
        return np.eye(10)[answers]

    saes = {"block1": SparseAutoencoder(4, 8, "topk", 2, seed=0).requires_grad_(False)}
    order = np.array([7, 2, 5, 0, 1, 3, 4, 6])
    monkeypatch.setattr(r, "load_sae", lambda network, layer: saes[layer])
    monkeypatch.setattr(r, "resampled", resampled)
    monkeypatch.setattr(r.latents, "colour_first", lambda *given: (order, None, None))
    made = r.resample_layers.__wrapped__(network(Small()), [{"layer": "block1"}], 20, 40, ["hard"])
    (_, chosen, colours), (_, again, hard) = given
    assert (chosen == again).all() and len(colours) == len(hard) == 40
    assert (hard != r.split_digits("hard")[1][:40]).all()
    shares = [0.1, 0.25, 0.5, 0.75, 1]
    for row, n in zip(chosen, (1, 2, 4, 6, 8), strict=False):
        assert np.flatnonzero(row).tolist() == sorted(order[:n])
    assert chosen[5:].sum(1).tolist() == [1, 2, 4, 6, 8]
    assert made.parts.tolist() == [
        "none", *["colour latents"] * 5, *["random latents"] * 5, "whole activation"
    ]  # fmt: skip
    assert made.share.tolist() == [0, *shares, *shares, 1]
    assert made.hard.tolist() == pytest.approx([(1 + 2 * k) / 40 for k in range(12)])
    assert made.validation.tolist() == made.hard.tolist() and "shortcut_rate" in made


# --- the cells -----------------------------------------------------------------------------------


def made_by_hand(function: str, seed: int, **given) -> pd.DataFrame | dict:
    """A measurement whose numbers differ in every row; seed 1 is .02 higher on hard images."""
    up = 0.02 * seed
    if function == "erase_colour":
        rows = [
            ("none", "own", 0.1, 0.01), ("none", "own, balanced", 0.09, 0.02),
            ("none", "new", 0.5, 0.4), ("LEACE", "own", 0.3, 0.21),
            ("LEACE", "own, balanced", 0.2, 0.35), ("LEACE", "new", 0.6, 0.5),
            ("SPLINCE", "own", 0.3, 0.1), ("SPLINCE", "own, balanced", 0.4, 0.26 + up / 2),
        ]  # fmt: skip
        frame = pd.DataFrame(rows, columns=["eraser", "head", "validation", "hard"])
        return frame.assign(hard=frame.hard + up)
    if function == "mask_channels":
        add = 0.1 * (given["fitted_on"] == "own images") + 0.2 * (given["layers"] == ["block3"])
        hard = np.array([0.01, 0.4, 0.15 - up / 2]) + add + up
        made = {"mask": ["none", "learnt", "random"], "kept": [1, 0.5, 0.5], "hard": hard}
        return pd.DataFrame(made | {"validation": 0.3, "shortcut_rate": 0.2})
    if function == "score_bases":
        rows = []
        for k, basis in enumerate(r.LOOKS):  # on validation digits the most parts are best
            for n, value in ((1, 0.9), (5, 0.1 * (4 - k) + up * (k == 0))):
                given = {"basis": basis, "n": n, "value": value}
                rows.append(given | {"score": "SCR", "set": "hard"})
                rows.append(given | {"score": "SCR", "set": "validation", "value": n / 10})
                value = n / 10 + 0.05 * (k == 2) - up * (k == 0)
                for score in ("TPP colour", "TPP digit"):
                    rows.append(given | {"score": score, "set": "unbiased", "value": value})
        return pd.DataFrame(rows)
    hard = {"block1": 0.3, "block2": 0.2, "block3": 0.12}
    rows = [
        {"layer": layer, "parts": parts, "share": share, "validation": validation,
         "hard": hard[layer] + add + up * (layer == "block3"), "shortcut_rate": 0.5}
        for layer in hard
        for parts, share, validation, add in (
            ("none", 0.0, 0.1, -0.1), ("colour latents", 0.1, 0.2, 0.4),
            ("colour latents", 0.5, 0.3, 0), ("colour latents", 1.0, 0.3, 0.2),
            ("whole activation", 1.0, 0.4, 0.3),
        )
    ]  # fmt: skip
    return pd.DataFrame(rows)


def crosscoder_made(pair, n_images, n_validation, n_places, expansion, sparsity, steps):
    """Ten latents: of cheater and oracle three the cheater's (two, or for seed 1 three, of colour),
    two the oracle's (one of colour), four shared; of two of a kind all but one are shared."""
    kinds = {one.name for one in pair}
    share = np.full(10, 0.5)
    share[:1] = 0.95
    label = np.array(["colour"] * 5 + ["shape"] * 5)
    if len(kinds) == 2:
        assert [one.name for one in pair] == ["cheater", "brief-oracle"]
        assert pair[0].seed == pair[1].seed
        share[:6] = [0.01, 0.02, 0.05, 0.97, 0.99, 0.3]
        label[2], label[3] = ("colour" if pair[0].seed else "unexplained"), "shape"
    else:
        assert sorted(one.seed for one in pair) == [0, 1]
    return {"info": {}, "latents": pd.DataFrame({"share": share, "label": label})}


def test_the_cells_show_what_was_measured(monkeypatch):
    def measured(function, given, title=None):
        name = function.__name__
        bound = [inspect.signature(function).bind(**one).arguments for one in given]
        if name == "diff_networks":
            return [crosscoder_made(**one) for one in given]
        assert all(one["network"].name == "cheater" for one in given)
        return [made_by_hand(name, one.pop("network").seed, **one) for one in bound]

    monkeypatch.setattr(r.stored, "map", measured)
    begin_chapter("rivals")
    outputs, inline = run_cells("rivals")
    ahead = [0.26 - 0.21, 0.27 - 0.21]
    colour = [2 / 3 - 1 / 2, 1 - 1 / 2]
    for name, values in {
        "splince-beats-leace": ahead, "mask-beats-random": [0.25, 0.26],
        "crosscoder-own-colour": colour, "sae-scr": [0.1, 0.12], "sae-tpp": [-0.05, -0.07],
        "earlier-helps": [0.18, 0.16],
    }.items():  # fmt: skip
        made, wanted = outputs[name], estimate(values, (-10, 10))
        assert made.value == pytest.approx(wanted.mean), name
        if name not in ("mask-beats-random", "crosscoder-own-colour"):
            assert made.interval == pytest.approx(wanted.interval), name
        assert (made.op, made.threshold) == (">", 0)
        assert (made.sealed == "closed") is (name in SEALED), name

    def over(value, up=0.02, told=percent):
        return told(estimate([value, value + up]))

    for code, text in {
        "percent(mask_hard)": over(0.4), 'f"{100 * own_most:.0f}"': "36",
        'percent(estimate(found.hard["random"]))': over(0.15, 0.01),
        'percent(estimate(learnt.hard["last maps", "random colours"]))': over(0.6),
        'percent(estimate(learnt.hard["all three blocks", "own images"]))': over(0.5),
        'percent(estimate(sharing.loc["cheater and oracle", "shared"]))': over(0.4, 0),
    }.items():  # fmt: skip
        assert inline[code] == text, code
    reach = partial(over, told=plus_minus)
    for label, row, expected in (
        ("erased", 1, ["LEACE", reach(0.21), reach(0.35), reach(0.5)]),
        ("masks", 0, ["all three blocks", "random colours", "learnt", reach(0.5, 0), reach(0.3, 0),
                      reach(0.4), reach(0.2, 0)]),
        ("layers", 2, ["block1", "whole activation", reach(1, 0), reach(0.4, 0), reach(0.6, 0),
                       reach(0.5, 0)]),
        ("layers", 3, ["block2", "colour latents", reach(0.5, 0), reach(0.3, 0), reach(0.2, 0),
                       reach(0.5, 0)]),
    ):  # fmt: skip
        line = outputs[f"tbl-{label}"].data.splitlines()[2 + row]
        assert [cell.strip() for cell in line.strip("|").split("|")] == expected, label
    first = outputs["fig-shares"].axes[0]
    heights = [[bar.get_height() for bar in bars] for bars in first.containers]
    assert [first.get_title(), *map(sum, heights)] == ["cheater and oracle", 3.5, 6, 0.5]
    assert heights[0][0] == 2 and heights[0][19] == 1  # below .05, from .95 on
    lines = outputs["fig-scores"].axes[0].lines[2]  # after two thin ones
    np.testing.assert_allclose(lines.get_ydata(), [0.9, 0.41])
    assert len(outputs["fig-scores"].axes) == 2 + 1
