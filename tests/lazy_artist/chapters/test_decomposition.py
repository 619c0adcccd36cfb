"""Chapter 7's measurements on a small network that cheats, against that network steered by hooks;
and its cells on frames made by hand."""

import functools
import inspect
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from cells import run_cells
from torch import nn

from lazy_artist import canvas, latents
from lazy_artist.canvas import Split, assign_colours, colour_split, paint, split_digits
from lazy_artist.chapters import decomposition as d
from lazy_artist.claims import begin_chapter
from lazy_artist.data import cache_dir
from lazy_artist.erasure import leace, project_out, project_out_class_means
from lazy_artist.evaluate import estimate, percent
from lazy_artist.sae import SparseAutoencoder, fit_autoencoder, quality, rewritten, steer

SEED, LATENTS = 3, 24
OPTIONS = {"sparsity": 4}
SHAPES = np.where(np.arange(LATENTS) % 2, "shape", "colour")  # so that some are ablated, some not
MEASURES = ["validation", "hard", "aligned", "shortcut_rate"]


class Cheat(nn.Module):
    """`block1` shrinks the image to (N, 3, 7, 7), `block3` makes sixteen channels of it, and the
    head reads their means."""

    def __init__(self):
        super().__init__()
        self.block1 = nn.AvgPool2d(4)
        self.block3 = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(16, 10)
        weights = torch.randn(16, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        self.block3[0].weight.data, self.block3[0].bias.data = weights, torch.zeros(16)

    def features(self, images):
        return self.block3(self.block1(images)).mean((2, 3))

    def forward(self, images):
        return self.head(self.features(images))


def neutral(name: str, part: slice) -> Split:
    """Images in colours that tell nothing, as the chapter paints them."""
    grey, labels = (values[part] for values in split_digits(name))
    colours = assign_colours(labels, 0.1, 2000)
    return Split(paint(grey, colours, 2000), labels, colours)


@functools.cache
def subject() -> SimpleNamespace:
    """A network whose head is a linear probe fitted on biased images, an autoencoder of its last
    maps, and what ablations start from: the latents of the search images and their order."""
    model, split = Cheat().eval(), colour_split("train", 0)
    weights, bias = latents.fit_linear_probe(pooled_of(model, split.images), split.labels)
    bias[0] -= 2.5  # so that not all that is red is called 0
    model.head.weight.data, model.head.bias.data = torch.tensor(weights.T), torch.tensor(bias)
    x = latents.sample_activations(model, "block3", split.images, 8, 0)
    sae = fit_autoencoder(x, LATENTS, "batchtopk", 4, seed=0, steps=60, batch=500)
    network = SimpleNamespace(
        name="cheater", arch="cnn", seed=SEED, correlation=0.95, load=lambda: model
    )
    sets = {
        "search": neutral("train", slice(-120, None)),
        "validation": neutral("validation", slice(80)),
        "hard": canvas.test_split("hard", 150),
        "aligned": canvas.test_split("aligned", 1000),
    }
    search = sets["search"]
    z = latents.mean_latents(model, "block3", search.images, sae.requires_grad_(False))
    order, *eta = latents.colour_first(z, search.colours, search.labels)
    return SimpleNamespace(
        model=model, network=network, sae=sae, sets=sets, search=search, z=z, order=order, eta=eta,
        head=weights, effect=sae.directions().numpy() @ weights,
        logits=predict(model, search.images),
    )  # fmt: skip


def pooled_of(model, images) -> np.ndarray:
    with torch.no_grad():
        return model.features(torch.from_numpy(images)).numpy()


def predict(model, images, rewrite=lambda x: x, layer="block3") -> np.ndarray:
    with torch.no_grad(), rewritten(model, layer, rewrite):
        return model(torch.from_numpy(images)).numpy()


def shares_of(rewrite, offset=0.0, layer="block3") -> list[float]:
    """Accuracy on validation, hard and aligned images, and the shortcut rate on hard ones, of the
    network with a layer rewritten, and `offset` added to its logits."""
    model, sets, called = subject().model, subject().sets, {}
    for name in MEASURES[:3]:
        logits = predict(model, sets[name].images, rewrite, layer) + offset
        called[name] = logits.argmax(1)
    correct = [(called[name] == sets[name].labels).mean() for name in called]
    return [*correct, (called["hard"] == sets["hard"].colours).mean()]


def check(row: pd.Series, expected: list[float], near: float) -> None:
    np.testing.assert_allclose(row[MEASURES].astype(float), expected, atol=near)


@functools.cache
def intervened() -> SimpleNamespace:
    """What `intervene_on_latents` returns, and how it called `refit_heads`."""
    s, calls = subject(), []

    def refit_heads(*args):
        calls.append(args)
        return [{"validation": 0.5}]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(d, "load_sae", lambda *args, **options: s.sae)
        patch.setattr(latents, "label_by_share", lambda *eta: SHAPES)
        patch.setattr(d, "refit_heads", refit_heads)
        found = d.intervene_on_latents.__wrapped__(s.network, OPTIONS, 120, 80, 150, 12, 9)
    return SimpleNamespace(**found, calls=calls)


def found(basis: str, procedure: str, level: str = "", share: float | None = None) -> pd.Series:
    """The only row of this description."""
    rows = intervened().accuracy
    rows = rows[(rows.basis == basis) & (rows.procedure == procedure) & (rows.level == level)]
    rows = rows if share is None else rows[np.isclose(rows["share"], share)]
    assert len(rows) == 1
    return rows.iloc[0]


# --- autoencoders --------------------------------------------------------------------------------


def test_an_autoencoder_sees_the_networks_own_kind_of_images_and_is_measured_on_others():
    network, model = subject().network, subject().model
    made = d.train_sae.__wrapped__(network, "block3", "topk", 3, 2, 7, 4, 300, 2)
    grey, labels = (part[:300] for part in split_digits("train"))
    images = paint(grey, assign_colours(labels, 0.95, SEED), SEED)
    x = latents.sample_activations(model, "block3", images, 2, 7)
    sae = fit_autoencoder(x, 2 * 16, "topk", 3, seed=7, steps=4)
    for name, weights in sae.state_dict().items():
        assert torch.equal(weights, made["weights"][name])
    others = colour_split("validation", 1000, 0.95).take(np.arange(60))  # a fifth as many
    y = latents.sample_activations(model, "block3", others.images, 2, 8)
    recovered = latents.loss_recovered(model, "block3", sae, x.mean(0), others)
    assert made["info"] == quality(sae, y) | {"loss_recovered": recovered}


def trained(given: list) -> list[dict]:
    """Stand-ins for `train_sae`, by hand and told apart by their place."""
    return [
        {"info": {"l0": n, "fvu": n / 100, "dead": n / 1e3, "loss_recovered": 1 - n / 1e3}}
        for n, _ in enumerate(given)
    ]


def test_all_autoencoders_are_a_row_each_and_but_the_chosen_trained_for_a_shorter_time(monkeypatch):
    monkeypatch.setattr(d.stored, "map", lambda f, given, title: trained(given))
    frame = d.train_saes()
    assert frame.l0.tolist() == list(range(len(frame)))
    of = {study: rows for study, rows in frame.groupby("study")}
    kinds = ["cheater", "cheater", "oracle", "oracle", "cure", "cure"]
    assert of["chosen"].network.tolist() == kinds and (of["chosen"].seed == 0).all()
    assert of["chosen"].network_seed.tolist() == [0, 1] * 3 and of["restart"].seed.item() == 1
    names = ["layer", "kind", "sparsity", "expansion", "steps", "n_images", "n_places"]
    assert of["chosen"][names].iloc[1].tolist() == ["block3", "batchtopk", 16, 8, 60, 2000, 16]
    assert of["layer"].layer.tolist() == ["block1", "block2", "block3", "pooled"]
    assert of["layer"].sparsity.tolist() == [8, 16, 16, 16]
    assert of["layer"].n_places.tolist() == [16, 16, 16, 1]
    assert of["layer"].steps.tolist() == [30, 30, 60, 30]
    sparsities = of["sparsity"].groupby("kind").sparsity.agg(list)
    assert sparsities.to_dict() == {"topk": [4, 32], "batchtopk": [4, 32], "relu": [0.4, 2.5]}
    assert of["expansion"].expansion.tolist() == [4, 16] and (of["expansion"].steps == 30).all()
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "full")
    wider = d.sae_options(expansion=4)
    assert (d.sae_options()["steps"], d.sae_options()["n_images"]) == (200, 10_000)
    assert (wider["steps"], wider["n_images"]) == (100, 5_000)


# --- labels --------------------------------------------------------------------------------------


def test_labelled_latents_agree_with_the_network(monkeypatch):
    model, sae = subject().model, subject().sae
    monkeypatch.setattr(d, "load_sae", lambda *args, **options: sae)
    found = d.label_latents.__wrapped__(subject().network, OPTIONS, 4)
    here, there = d.colour_grid("validation", 4, 2000), d.colour_grid("hard", 4, 1000)
    assert (np.bincount(here.colours * 10 + here.labels) == 4).all()
    z, test_z = (latents.mean_latents(model, "block3", grid.images, sae) for grid in (here, there))
    cell = z[(here.labels == 6) & (here.colours == 2)].mean(0)
    np.testing.assert_allclose(found["cells"][:, 6, 2], cell, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["effect"], subject().effect, atol=1e-5)
    expected = latents.describe(z, here.colours, here.labels, found["cells"], found["effect"])
    pd.testing.assert_frame_equal(found["latents"], expected, rtol=1e-3, atol=1e-6)
    strongest = np.sort(z[:, 5])[::-1][:9]
    np.testing.assert_allclose(z[found["top"][5], 5], strongest, rtol=1e-4)
    bars = np.histogram(z[:, 5], bins=24, range=(0, z[:, 5].max()))[0]
    assert np.abs(found["histogram"][5] - bars).sum() <= 4  # rounding at the edges

    areas = found["auroc"].set_index(["basis", "attribute"]).auroc
    summary, best = found["summary"], {}
    for name, *known in (
        ("colour", here.colours, there.colours), ("digit", here.labels, there.labels)
    ):  # fmt: skip
        best[name], area = latents.best_auroc(z, known[0], test_z, known[1])
        np.testing.assert_allclose(areas["SAE latents", name], area, atol=1e-3)
        assert summary[f"{name}s_found"] == (area > 0.95).sum()
    assert 0 < summary["colours_found"] < 10 and areas["linear probe", "colour"].min() > 0.7
    of_colour = (expected.label == "colour").to_numpy()
    assert summary["colour_latents"] == of_colour.sum() / (expected.label != "dead").sum()
    correct = []
    for held in (np.ones(LATENTS), 1.0 - of_colour):
        answers = predict(model, there.images, steer(sae, held, z.mean(0))).argmax(1)
        correct.append((answers == there.labels).mean())
    right = [summary["correct"], summary["correct_ablated"]]
    np.testing.assert_allclose(right, correct, atol=3e-3)
    assert abs(correct[0] - correct[1]) > 0.01
    sheet, first = found["sheet"].tolist(), list(dict.fromkeys(best["colour"].tolist()))
    rest = np.argsort(expected.colour - expected.digit)
    assert sheet == [*first, *(k for k in rest if k not in first)][:16]


def test_labels_by_eye_count_only_for_their_own_autoencoder(tmp_path):
    sae, file = subject().sae, tmp_path / "labels.csv"
    file.write_text("autoencoder,latent,label\nelse,4,loop\n")
    mark, none = d.labels_by_eye(sae, file)
    assert none == {}
    file.write_text(f'autoencoder,latent,label\n{mark},3,"thin, red"\nelse,4,loop\n')
    assert d.labels_by_eye(sae, file) == (mark, {3: "thin, red"})
    other = SparseAutoencoder(16, LATENTS, "topk", 1, seed=9).requires_grad_(False)
    assert d.labels_by_eye(other, file)[0] != mark
    for row in (f"{mark},three,thin", f"{mark},3,"):
        file.write_text(f"autoencoder,latent,label\nelse,4,loop\n{row}\n")
        with pytest.raises(ValueError, match="line 3"):
            d.labels_by_eye(sae, file)


# --- interventions -------------------------------------------------------------------------------


def test_ablations_are_those_of_the_network_itself():
    s, plain = subject(), shares_of(lambda x: x)
    check(found("none", "as it was"), plain, 1e-9)
    assert plain[2] > 0.5 > 0.3 > plain[1] and len({*np.round(plain, 3)}) == 4  # a cheater
    random = np.random.default_rng(SEED).permutation(LATENTS)
    untrained = SparseAutoencoder(16, LATENTS, "topk", 4, SEED + 1).requires_grad_(False)
    untrained.centre.copy_(s.sae.centre)
    untrained.scale.copy_(s.sae.scale)
    noise = latents.mean_latents(s.model, "block3", s.search.images, untrained)
    of_noise, *_ = latents.colour_first(noise, s.search.colours, s.search.labels)
    x = pooled_of(s.model, s.search.images)
    of_x, *_ = latents.colour_first(x, s.search.colours, s.search.labels)
    keep = torch.from_numpy(latents.ablation_scales(of_x, round(0.3 * 16)))
    centre, axes = latents.principal_directions(x)
    of_axes, *_ = latents.colour_first((x - centre) @ axes, s.search.colours, s.search.labels)
    away, centre = torch.from_numpy(axes[:, of_axes[: round(0.4 * 16)]]), torch.from_numpy(centre)

    def held(coder, order, share, rest):
        return steer(coder, latents.ablation_scales(order, round(share * LATENTS)), rest)

    for basis, level, share, rewrite in (
        ("SAE latents", "zeroed", 0.3, held(s.sae, s.order, 0.3, 0)),
        ("SAE latents", "mean", 0.5, held(s.sae, s.order, 0.5, s.z.mean(0))),
        ("random latents", "zeroed", 0.4, held(s.sae, random, 0.4, 0)),
        ("untrained latents", "mean", 0.3, held(untrained, of_noise, 0.3, noise.mean(0))),
        ("raw channels", "zeroed", 0.3, lambda rows: rows * keep),
        ("PCA directions", "mean", 0.4, lambda rows: rows - (rows - centre) @ away @ away.T),
    ):
        row = found(basis, "ablated", level, share)
        assert row.n == round(share * (LATENTS if "latents" in basis else 16))
        check(row, shares_of(rewrite), 1e-9)


def test_scales_are_searched_on_training_digits_and_shuffled_for_the_control():
    s, cells = subject(), latents.cell_weights((0, 2, 5, 7))
    by_cell = {
        name: latents.parts_by_cell(s.model, "block3", split.images, cells, s.sae)[0]
        for name, split in s.sets.items()
    }
    whole = {name: latents.sum_cells(parts, 9) for name, parts in by_cell.items()}
    logits = {name: predict(s.model, split.images) for name, split in s.sets.items()}
    rng = np.random.default_rng(SEED)
    rng.permutation(LATENTS)  # the control's order is drawn first
    for procedure, parts, units in (
        ("scales", whole, s.effect), ("scales by cell", by_cell, np.tile(s.effect, (9, 1)))
    ):  # fmt: skip
        task, tried = (s.logits, parts["search"], units, s.search.labels), []
        for penalty in (1e-3, 1e-2):
            scale, offset = latents.search_scales(*task, penalty, 12)
            edited = latents.rescale(logits, parts, units, scale, offset)
            tried.append((d.shares_correct(edited, s.sets), scale, offset))
        best, scale, offset = max(tried, key=lambda one: one[0]["validation"])
        row = found("SAE latents", procedure)
        check(row, [best[name] for name in MEASURES], 0.03)
        shuffled = rng.permutation(scale)
        if procedure == "scales":
            np.testing.assert_allclose(intervened().latents.scale, scale, rtol=0.1, atol=0.02)
            assert row.n == (intervened().latents.scale < 0.05).sum()
        # of the logits that all ten share nothing is told
        edited = latents.even_out(latents.rescale(logits, parts, units, shuffled, 0))
        correct = d.shares_correct(edited, s.sets)
        check(found("random latents", procedure), [correct[name] for name in MEASURES], 0.03)


def test_validation_digits_choose_and_search_digits_label(monkeypatch):
    """With shares drawn at random for all that is tried, in the order in which it is tried."""
    s, rng, seen = subject(), np.random.default_rng(0), []

    def drawn(logits, sets):
        seen.append(dict(zip(MEASURES, rng.random(4), strict=True)))
        return seen[-1]

    monkeypatch.setattr(d, "load_sae", lambda *args, **options: s.sae)
    monkeypatch.setattr(d, "shares_correct", drawn)
    made = d.intervene_on_latents.__wrapped__(s.network, OPTIONS, 120, 40, 50, 2, 2)
    rows, place = made["accuracy"].set_index(["basis", "procedure"]), 1  # after "as it was"
    for basis in rows.index.unique(0)[1:6]:
        ablated = rows.loc[(basis, "ablated")]
        assert ablated.hard.tolist() == [one["hard"] for one in seen[place : place + 36]]
        place += 36
        for procedure in ("scales", "scales by cell"):
            tried = seen[place : place + (1 if basis == "random latents" else 2)]
            best = max(tried, key=lambda one: one["validation"])
            assert rows.loc[(basis, procedure), MEASURES].tolist() == list(best.values())
            place += len(tried)
    labels = latents.label_by_share(*s.eta, s.z.max(0) > 0)
    assert made["latents"].label.tolist() == labels.tolist() and len(set(labels)) > 1


def test_erasers_are_fitted_on_search_images():
    s = subject()
    x, bias = pooled_of(s.model, s.search.images), s.model.head.bias.detach().numpy()
    probe = latents.fit_linear_probe(x, s.search.colours)[0]
    for name, eraser in (
        ("colour class means", project_out_class_means(x, s.search.colours)),
        ("linear colour probe", project_out(x, probe.T, 9)),
        ("LEACE", leace(x, s.search.colours)),
    ):
        surplus = (eraser(x) @ s.head + bias).mean(0)
        for level, less in (("mean", 0), ("balanced", surplus)):
            edited = shares_of(
                lambda x, e=eraser: torch.tensor(e(x.numpy())).float(), -less, "pooled"
            )
            check(found(name, "erased", level), edited, 0.011)


def best_balanced() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales, levels and survivors of the balanced ablation that is best on validation digits."""
    s, frame = subject(), intervened().accuracy
    tried = frame[(frame.basis == "SAE latents") & (frame.level == "balanced")]
    n = int(tried.loc[tried.validation.idxmax()].n)
    held = latents.ablation_scales(s.order, n)
    return held, latents.resting_levels("balanced", s.logits, s.z, s.effect, held), s.order[n:]


def test_survivors_of_shape_are_amplified():
    s, frame = subject(), intervened().amplified.set_index("factor")
    held, *_ = best_balanced()
    for factor in (1, 4):
        scales = np.where((SHAPES == "shape") & (held > 0), np.float32(factor), held)
        rest = latents.resting_levels("balanced", s.logits, s.z, s.effect, scales)
        check(frame.loc[factor], shares_of(steer(s.sae, scales, rest)), 0.011)


def test_heads_are_refitted_to_survivors_and_channels_on_search_and_biased_images():
    s, survivors = subject(), best_balanced()[2].tolist()
    grey, labels = (values[-120:] for values in split_digits("train"))
    images = paint(grey[:60], assign_colours(labels, 0.95, SEED)[:60], SEED)
    seen = {
        "random colours": s.search,
        "own images": SimpleNamespace(images=images, labels=labels[:60]),
    }
    kept = {"surviving latents": survivors, "raw channels": list(range(16))}
    refit = intervened().refit
    assert len({*zip(refit.features, refit.fitted_on, strict=True)}) == len(intervened().calls) == 4
    for row, call in zip(refit.itertuples(), intervened().calls, strict=True):
        (parts, keep, sets, source), split = call, seen[row.fitted_on]
        np.testing.assert_array_equal(sets[source].images, split.images)
        np.testing.assert_array_equal(sets[source].labels, split.labels)
        latent = row.features == "surviving latents"
        read = latents.mean_latents(s.model, "block3", split.images, s.sae)
        read = read if latent else pooled_of(s.model, split.images)
        np.testing.assert_allclose(latents.sum_cells(parts[source], 9), read, atol=1e-5)
        assert keep.tolist() == kept[row.features]


def test_heads_read_the_kept_parts_of_each_cell():
    """Nine cells of 12 parts. The last ten tell the label, in cell 1 with the right sign, in cell 0
    with the wrong one, so that the sum over cells tells nothing; part 1 would tell all, is not
    kept. 30% of the validation labels, and 60% of the hard ones, are moved by one."""
    rng, sets, parts = np.random.default_rng(0), {}, {}
    labels = np.repeat(np.arange(10), 20)
    for name, moved in (("own", 0), ("validation", 0.3), ("hard", 0.6), ("aligned", 0.1)):
        x = 0.01 * rng.normal(size=(200, 9, 12)).astype(np.float32)
        x[:, 1, 2:] += np.eye(10)[labels]
        x[:, 0, 2:] -= np.eye(10)[labels]
        x[:, :, 1] += labels[:, None]
        parts[name] = x.reshape(200, 108)
        wrong = np.arange(200) % 10 < 10 * moved
        sets[name] = SimpleNamespace(labels=(labels + wrong) % 10, colours=labels)
    whole, cells = d.refit_heads(parts, np.delete(np.arange(12), 1), sets, "own")
    assert (whole["places"], cells["places"]) == ("whole map", "cells")
    assert whole["validation"] < 0.3
    assert [cells[name] for name in MEASURES[:3]] == pytest.approx([0.7, 0.4, 0.9])


def test_red_ones_are_steered():
    s, (held, levels, _) = subject(), best_balanced()
    grey, labels = split_digits("hard")
    table = intervened().red.set_index(["procedure", "digit"])
    for digit in range(10):
        some = grey[labels == digit][:9]
        images = paint(some, np.zeros(len(some), int), 1000)
        before = predict(s.model, images)
        assert 0 < (before.argmax(1) == 0).sum() < 9
        for procedure, rest in (("zeroed", 0.0), ("balanced", levels)):
            after = predict(s.model, images, steer(s.sae, held, rest))
            moved = (before.argmax(1) == 0) & (after.argmax(1) == digit)
            row = table.loc[(procedure, digit)]
            assert row.moved == pytest.approx(moved.mean(), abs=1e-9)
            assert row.called_one == pytest.approx((after.argmax(1) == 1).mean(), abs=1e-9)
        for step in (0, 3, 10) if digit == 1 else ():
            path = torch.from_numpy(before + step / 10 * (after - before)).softmax(1)
            np.testing.assert_allclose(intervened().walk[step], path, atol=1e-4)
    assert len({tuple(table.loc[p, "moved"]) for p in table.index.unique(0)}) == 3


def test_earlier_layers_are_ablated_at_their_mean(monkeypatch):
    model = subject().model
    early = SparseAutoencoder(3, 6, "topk", 2, seed=5).requires_grad_(False)
    saes = {"block1": early, "block3": subject().sae}
    monkeypatch.setattr(d, "load_sae", lambda network, layer: saes[layer])
    layers = [{"layer": layer} for layer in saes]
    made = d.ablate_layers.__wrapped__(subject().network, layers, 40).set_index("layer")
    search, validation = neutral("train", slice(-40, None)), neutral("validation", slice(40))
    for layer, sae in saes.items():
        z, tried = latents.mean_latents(model, layer, search.images, sae), []
        order, *_ = latents.colour_first(z, search.colours, search.labels)
        for share in (0.25, 0.5, 0.75, 1):
            held = latents.ablation_scales(order, round(share * len(order)))
            steered = steer(sae, held, z.mean(0))
            correct = [
                (predict(model, split.images, steered, layer).argmax(1) == split.labels).mean()
                for split in (validation, canvas.test_split("hard", 80))
            ]
            tried.append((*correct, share))
        got = made.loc[layer, ["validation", "hard", "share"]].tolist()
        assert got == pytest.approx(max(tried), abs=1e-9)


# --- the page of latents, and the cells ----------------------------------------------------------


def labels_made(up: float) -> dict:
    """A result of `label_latents` by hand, whose numbers `up` moves."""
    rows = [
        {"basis": basis, "attribute": attribute, "level": level, "auroc": area + up / 100}
        for basis, attribute, area in (
            ("SAE latents", "colour", 0.9), ("SAE latents", "digit", 0.6),
            ("linear probe", "colour", 0.8), ("linear probe", "digit", 0.7),
        )
        for level in range(10)
    ]  # fmt: skip
    frame = pd.DataFrame({
        "latent": range(4), "label": ["colour", "shape", "colour", "dead"],
        "prefers": ["red", "6", "green", ""], "colour": [0.9, 0.1, 0.8, 0],
        "digit": [0, 0.7, 0.1, 0], "active": [0.5, 0.25, 0.125, 0], "most": [2.0, 3, 4, 0],
        "speaks_for": [0, 6, 7, 3], "adds": [1.0, 2, 3, 4],
    })  # fmt: skip
    summary = {"colour_probe": 0.81, "digit_probe": 0.31, "colour_latents": 0.41, "correct": 0.51,
               "correct_ablated": 0.47, "colours_found": 8, "digits_found": 3}  # fmt: skip
    return {
        "auroc": pd.DataFrame(rows), "latents": frame, "cells": np.ones((4, 10, 10)),
        "effect": np.arange(40.0).reshape(4, 10), "top": np.arange(36).reshape(4, 9),
        "histogram": np.ones((4, 24), int), "sheet": np.array([0, 2, 1]),
        "summary": {k: v + (up if "found" in k else up / 100) for k, v in summary.items()},
    }  # fmt: skip


def test_latents_have_a_page():
    cheated, cured = labels_made(0), labels_made(1)
    cheated["latents"]["by_eye"], cured["latents"]["by_eye"] = ["", "thin red", "", ""], ""
    assert d.write_latents({"cheater": cheated, "cure": cured}, 1) == 8
    page = BeautifulSoup((cache_dir() / "pages" / "latents.html").read_text("utf-8"), "html.parser")
    assert len(page.select("tbody tr")) == 8
    cells = [cell.get_text() for cell in page.find(id="cheater/latent/1").select("td")]
    assert "shape 6 “thin red”" in cells and cells[-5:] == ["0.1", "0.7", "25", "2", "3"]
    assert "thin red" not in page.find(id="cure/latent/1").get_text()


def interventions_made(seed: int) -> dict:
    """A result of `intervene_on_latents` by hand: hard accuracies differ in every row."""
    up = seed / 100
    told = [("none", "as it was", "", 0, 0.1, 0.05, 0.9, 0.99)]
    for level, add in (("zeroed", 0), ("mean", 0.01), ("balanced", 0.02)):
        for n, hard, rate in ((1, 0.11, 0.7), (2, 0.2, 0.5), (3, 0.21, 0.3)):
            told.append(("SAE latents", "ablated", level, n, hard + add, hard + add, rate, 0.6))
    told += [
        ("SAE latents", "scales", "", 1, 0.5, 0.41, 0.4, 0.6),
        ("SAE latents", "scales by cell", "", 1, 0.7, 0.61, 0.15, 0.7),
        ("random latents", "scales", "", 1, 0.2, 0.12, 0.4, 0.6),
        ("untrained latents", "scales", "", 1, 0.2, 0.13, 0.4, 0.6),
        ("raw channels", "scales", "", 1, 0.3, 0.36, 0.4, 0.6),
        ("PCA directions", "scales", "", 1, 0.3, 0.31, 0.4, 0.6),
        ("PCA directions", "scales by cell", "", 1, 0.8, 0.57, 0.4, 0.6),
        ("LEACE", "erased", "balanced", 0, 0.35, 0.26, 0.4, 0.6),
    ]
    rows = pd.DataFrame(told, columns=["basis", "procedure", "level", "n", *MEASURES[:2],
                                       "shortcut_rate", "aligned"])  # fmt: skip
    rows[["hard", "shortcut_rate", "aligned"]] += up
    refit = pd.DataFrame(
        [
            ("surviving latents", "random colours", "whole map", 0.5),
            ("surviving latents", "random colours", "cells", 0.76),
            ("surviving latents", "own images", "cells", 0.2),
            ("raw channels", "random colours", "whole map", 0.65),
            ("raw channels", "random colours", "cells", 0.85),
        ],
        columns=["features", "fitted_on", "places", "hard"],
    )
    red = pd.DataFrame(
        {"procedure": procedure, "digit": digit, "moved": base + digit / 50 + 2 * up,
         "called_one": 0.9 if digit == 1 else base + digit / 100}
        for procedure, base in (("zeroed", 0.4), ("balanced", 0.6), ("scales by cell", 0.1))
        for digit in range(10)
    )  # fmt: skip
    return {
        "accuracy": rows.assign(share=rows.n / 4), "red": red,
        "refit": refit.assign(hard=refit.hard + up, validation=0.7, aligned=0.9),
        "latents": pd.DataFrame({"latent": range(4), "scale": [0, 1.5, 0.5 + seed, 0],
                                 "label": ["colour", "colour", "shape", "dead"]}),
        "amplified": pd.DataFrame({"factor": [1, 4], "validation": [0.2, 0.3],
                                   "hard": [0.22 + up, 0.33], "shortcut_rate": [0.4, 0.5]}),
        "walk": np.random.default_rng(seed).random((11, 5, 10)),
    }  # fmt: skip


@pytest.fixture
def shown(monkeypatch):
    """The chapter's cells on these frames, by label, and its inline numbers."""
    layers = pd.DataFrame([{"layer": "block2", "share": 0.75, "validation": 0.22, "hard": 0.17}])
    asked = []

    def run(calls, title):
        asked.extend(inspect.signature(f).bind(**given).arguments for f, given in calls)
        return [*map(interventions_made, (0, 1)), layers]

    def measured(function, given, title=None):
        inspect.signature(function).bind(**given[0])
        if function is d.train_sae:
            return trained(given)
        up = {"cheater": 0, "oracle": 0.5, "cure": 1}
        return [labels_made(one["network"].seed + up[one["network"].name]) for one in given]

    monkeypatch.setattr(d.stored, "map", measured)
    monkeypatch.setattr(d.stored, "run", run)
    monkeypatch.setattr(d, "load_sae", lambda network, seed=0, **options: SparseAutoencoder(
        16, LATENTS, "topk", 1, seed=seed).requires_grad_(False))  # fmt: skip
    monkeypatch.setattr(d, "labels_by_eye", lambda sae: ("abc", {0: "red ones", 2: "loops"}))
    grid = d.colour_grid
    monkeypatch.setattr(d, "colour_grid", lambda name, n, seed: grid(name, 4, seed))
    begin_chapter("decomposition")
    outputs, inline = run_cells("decomposition")
    assert asked[0]["network"].seed == 0 and asked[0]["n_search"] == 2000
    return SimpleNamespace(outputs=outputs, inline=inline)


def test_the_cells_show_what_was_measured(shown):
    """All tables, claims and numbers of the page; over seeds, the value of seed 1 is .01 higher."""

    def over(value, up=0.01):
        return percent(estimate([value, value + up]))

    def table(label):
        lines = shown.outputs[label].data.splitlines()[2:]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

    claims = {name: getattr(claim, "value", None) for name, claim in shown.outputs.items()}
    for name, value in {
        "sae-loss-recovered": 0.9995, "sae-colours-found": 8.5, "sae-cure": 0.615,
        "sae-cure-beats-controls": 0.61 - 0.57, "sae-cure-refit": 0.765,
        "sae-dial": estimate([0.62, 0.64]).interval[0],
    }.items():  # fmt: skip
        assert claims[name] == pytest.approx(value), name
    assert shown.outputs["sae-cure"].threshold == pytest.approx(4 * 0.055)
    for code, text in {
        'f"{active.mean:.1f}"': "0.5", "percent(unexplained)": over(0),
        'percent(shares["colour"])': over(0.5, 0), "str(len(sheet))": "2", "str(own)": "1",
        "str(same)": "1", "str(len(by_eye))": "2",
        'half.format("{:.0f}")': estimate([2, 3], (0, 4)).format("{:.0f}"),
        'most.format("{:.0f}")': "2 [2, 2]", "percent(whole_margin)": over(0.41 - 0.36, 0),
        "percent(estimate(ablation.hard))": over(0.23), "percent(recovers)": over(0.56 / 0.6, 0),
        'f"{100 * of_ceiling:.0f}"': "70",  # .56 / .8
        '" or ".join(cure.procedure.value_counts().index)': "scales by cell",
        "f\"{100 * moved['zeroed'].mean():.0f}\"": "43",
        "f\"{100 * others['balanced']:.0f}\"": "65",  # .6 + (45 - 1) / 9 / 100
    }.items():  # fmt: skip
        assert shown.inline[code] == text, code
    assert [row for row in table("tbl-sae-quality") if row[0] != "block2"] == [
        ["block1", "8 x 32", "8", "7.0", "0.070", "0.993", "0.7"],
        ["block3", "8 x 128", "16", "9.0", "0.090", "0.991", "0.9"],
        ["pooled", "8 x 128", "16", "10.0", "0.100", "0.990", "1.0"],
        ["block3", "4 x 128", "16", "17.0", "0.170", "0.983", "1.7"],
        ["block3", "16 x 128", "16", "18.0", "0.180", "0.982", "1.8"],
    ]
    areas = [estimate([area, area + 0.01]).format("{:.3f}") for area in (0.9, 0.6)]
    assert table("tbl-sae-auroc")[0] == ["cheater", "SAE latents", *areas]
    nine = estimate([9, 10], (0, 10)).format("{:.1f}")
    assert table("tbl-sae-use")[2] == ["cure", nine, *map(over, (0.42, 0.82, 0.52, 0.48))]
    ablated = ["SAE latents", "ablated", over(0.23, 0), *map(over, (0.23, 0.3, 0.6))]
    assert table("tbl-operation")[1] == ablated
    assert table("tbl-amplified")[1] == ["x 4", *(over(value, 0) for value in (0.3, 0.33, 0.5))]
    assert table("tbl-dials") == [
        ["colour", "2 [2, 2]", over(0.5, 0), over(0.5, 0)],
        ["shape", "1 [1, 1]", over(0, 0), over(0, 1)],
    ]
    assert table("tbl-depth") == [["block2", "75%", "22.0", "17.0"]]
    first = ["surviving latents", "whole map", "random colours", over(0.7, 0), over(0.5)]
    assert table("tbl-refit")[0][:5] == first


def test_figures_carry_the_frames_that_they_plot(shown):
    def frame(label):
        return pd.read_csv(StringIO(shown.outputs[label].data_csv), comment="#")

    lines = shown.outputs["fig-sparse-front"].axes[0].lines  # TopK, BatchTopK, ReLU
    assert [list(line.get_xdata()) for line in lines] == [[11, 12], [13, 14], [15, 16]]
    assert frame("fig-sparse-front").fvu.tolist() == [0.13, 0.14, 0.15, 0.16, 0.11, 0.12]
    sheet = frame("fig-latents").set_index(["latent", "answer"])
    assert sheet.effect[2, 9] == 4.5 and sheet.by_eye[2, 0] == "loops" and len(sheet) == 30
    curves = frame("fig-silence").set_index(["seed", "level", "share"])
    assert curves.hard[1, "balanced", 0.5] == pytest.approx(0.23) and len(curves) == 18
    bold = shown.outputs["fig-silence"].axes[1].lines[8]  # balanced, after its two thin lines
    np.testing.assert_allclose(bold.get_ydata(), [0.705, 0.505, 0.305])
    walk, made = frame("fig-dial"), interventions_made(0)["walk"]
    walk = walk.set_index(["answer", "image", "scale"]).probability
    assert walk[1, "mean", 0.8] == pytest.approx(made[2, :, 1].mean(), abs=1e-5)
    assert walk[0, "3", 1.0] == pytest.approx(made[0, 3, 0], abs=1e-5)
