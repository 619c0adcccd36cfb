"""Chapter 7's measurements on a small network that cheats, against that network steered by hooks;
and its cells on frames made by hand."""

import copy
import functools
import inspect
from collections import OrderedDict
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
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


def neutral(name: str, part: slice) -> Split:
    """Images in colours that tell nothing, as the chapter paints them."""
    grey, labels = (values[part] for values in split_digits(name))
    colours = assign_colours(labels, 0.1, 2000)
    return Split(paint(grey, colours, 2000), labels, colours)


@functools.cache
def subject() -> SimpleNamespace:
    """A network whose head, which reads sixteen channels' means, is a linear probe fitted on biased
    images; an autoencoder of its last maps; and what ablations start from: the latents of the
    search images and their order."""
    channels = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.ReLU())
    layers = OrderedDict(
        block1=nn.AvgPool2d(4), block3=channels, mean=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(),
        head=nn.Linear(16, 10),
    )  # fmt: skip
    model, split = nn.Sequential(layers).requires_grad_(False).eval(), colour_split("train", 0)
    channels[0].weight[:] = torch.randn(16, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    weights, bias = latents.fit_linear_probe(pooled_of(model, split.images), split.labels)
    bias[0] -= 2.5  # so that not all that is red is called 0
    model.head.weight[:], model.head.bias[:] = torch.tensor(weights.T), torch.tensor(bias)
    x = latents.sample_activations(model, "block3", split.images, 8, 0)
    sae = fit_autoencoder(x, LATENTS, "batchtopk", 4, seed=0, steps=60, batch=500)
    network = SimpleNamespace(seed=SEED, correlation=0.95, load=lambda: model)
    search = neutral("train", slice(-120, None))
    sets = {"search": search, "validation": neutral("validation", slice(80))}
    sets |= {name: canvas.test_split(name, n) for name, n in (("hard", 150), ("aligned", 1000))}
    z = latents.mean_latents(model, "block3", search.images, sae.requires_grad_(False))
    order, *eta = latents.colour_first(z, search.colours, search.labels)
    return SimpleNamespace(
        model=model, network=network, sae=sae, sets=sets, search=search, z=z, order=order, eta=eta,
        head=weights, effect=sae.directions().numpy() @ weights,
        logits=predict(model, search.images),
    )  # fmt: skip


def pooled_of(model, images) -> np.ndarray:
    return model[:-1](torch.from_numpy(images)).numpy()


def predict(model, images, rewrite=lambda x: x, layer="block3") -> np.ndarray:
    with rewritten(model, layer, rewrite):
        return model(torch.from_numpy(images)).numpy()


def shares_of(rewrite, offset=0.0) -> list[float]:
    """Accuracy on validation, hard and aligned images, and the shortcut rate on hard ones, of the
    network with its last maps rewritten, and `offset` added to its logits."""
    called = {
        name: (predict(subject().model, split.images, rewrite) + offset).argmax(1)
        for name, split in subject().sets.items()
    }
    correct = [(called[name] == subject().sets[name].labels).mean() for name in MEASURES[:3]]
    return [*correct, (called["hard"] == subject().sets["hard"].colours).mean()]


def check(row, expected: list[float], near: float = 0.011) -> None:
    np.testing.assert_allclose([row[name] for name in MEASURES], expected, atol=near)


@functools.cache
def intervened() -> SimpleNamespace:
    """What `intervene_on_latents` returns, and how it called `refit_heads`; and scales and
    survivors of the balanced ablation that is best on validation digits."""
    s, calls = subject(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(d, "load_sae", lambda *args, **options: s.sae)
        patch.setattr(latents, "label_by_share", lambda *eta: SHAPES)
        patch.setattr(d, "refit_heads", lambda *args: calls.append(args) or [{"validation": 0.5}])
        found = d.intervene_on_latents.__wrapped__(s.network, OPTIONS, 120, 80, 150, 12, 9)
    tried = found["accuracy"].query("basis == 'SAE latents' and level == 'balanced'")
    n = int(tried.loc[tried.validation.idxmax()].n)
    held = latents.ablation_scales(s.order, n)
    return SimpleNamespace(**found, calls=calls, held=held, survivors=s.order[n:])


def found(basis: str, level: str, share: float = -1) -> pd.Series:
    rows = intervened().accuracy.fillna(-1).set_index(["basis", "level", "share"]).sort_index()
    return rows.loc[[(basis, level, share)]].iloc[0]


# --- autoencoders --------------------------------------------------------------------------------


def test_an_autoencoder_sees_the_networks_own_kind_of_images_and_is_measured_on_others():
    network, model = subject().network, subject().model
    made = d.train_sae.__wrapped__(network, "block3", "topk", 3, 2, 7, 4, 300, 2)
    grey, labels = (part[:300] for part in split_digits("train"))
    images = paint(grey, assign_colours(labels, 0.95, SEED), SEED)
    x = latents.sample_activations(model, "block3", images, 2, 7)
    sae = fit_autoencoder(x, 2 * 16, "topk", 3, seed=7, steps=4)
    assert all(torch.equal(made["weights"][name], w) for name, w in sae.state_dict().items())
    others = colour_split("validation", 1000, 0.95).take(np.arange(60))  # a fifth as many
    y = latents.sample_activations(model, "block3", others.images, 2, 8)
    recovered = latents.loss_recovered(model, "block3", sae, x.mean(0), others)
    assert made["info"] == quality(sae, y) | {"loss_recovered": recovered}


def trained(given: list) -> list[dict]:
    """Stand-ins for `train_sae`, by hand and told apart by their place."""
    infos = [(n, n / 100, n / 1e3, 1 - n / 1e3) for n in range(len(given))]
    names = ("l0", "fvu", "dead", "loss_recovered")
    return [{"info": dict(zip(names, info, strict=True))} for info in infos]


def test_all_autoencoders_are_a_row_each_and_but_the_chosen_trained_for_a_shorter_time(monkeypatch):
    monkeypatch.setattr(d.stored, "map", lambda f, given, title: trained(given))
    monkeypatch.setattr(d, "rate_saes", d.rate_saes.__wrapped__)
    frame = d.train_saes()
    assert frame.l0.tolist() == list(range(19))
    longer, names = frame[frame.steps == 60], ["study", "network", "network_seed", "seed"]
    expected = [("chosen", kind, n, 0) for kind in ("cheater", "oracle", "cure") for n in (0, 1)]
    expected += [("restart", "cheater", 0, 1), ("layer", "cheater", 0, 0)]
    assert [*longer[names].itertuples(index=False)] == expected
    assert frame[7:11].layer.tolist() == ["block1", "block2", "block3", "pooled"]
    assert frame[7:17].sparsity.tolist() == [8, 16, 16, 16, 4, 32, 4, 32, 0.4, 2.5]
    assert frame[10:].n_places.tolist() == [1] + [16] * 8
    assert frame[17:].expansion.tolist() == [4, 16]


# --- labels --------------------------------------------------------------------------------------


def test_labelled_latents_agree_with_the_network(monkeypatch):
    model, sae = subject().model, subject().sae
    monkeypatch.setattr(d, "load_sae", lambda *args, **options: sae)
    found = d.label_latents.__wrapped__(subject().network, OPTIONS, 4)
    here, there = d.colour_grid("validation", 4, 2000), d.colour_grid("hard", 4, 1000)
    z, test_z = (latents.mean_latents(model, "block3", grid.images, sae) for grid in (here, there))
    cell = z[(here.labels == 6) & (here.colours == 2)].mean(0)
    np.testing.assert_allclose(found["cells"][:, 6, 2], cell, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["effect"], subject().effect, atol=1e-5)
    expected = latents.describe(z, here.colours, here.labels, found["cells"], found["effect"])
    pd.testing.assert_frame_equal(found["latents"], expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(z[found["top"][5], 5], np.sort(z[:, 5])[:-10:-1], rtol=1e-4)
    bars = np.histogram(z[:, 5], bins=24, range=(0, z[:, 5].max()))[0]
    assert np.abs(found["histogram"][5] - bars).sum() <= 4  # rounding at the edges

    areas = found["auroc"].set_index(["basis", "attribute"]).auroc
    summary, of_colour = found["summary"], (expected.label == "colour").to_numpy()
    for name, part in (("digit", "labels"), ("colour", "colours")):
        parts = z, getattr(here, part), test_z, getattr(there, part)
        best, area = latents.best_auroc(*parts)
        np.testing.assert_allclose(areas["SAE latents", name], area, atol=1e-3)
        assert summary[f"{name}s_found"] == (area > 0.95).sum()
    assert 0 < summary["colours_found"] < 10 and areas["linear probe", "colour"].min() > 0.7
    assert summary["colour_latents"] == of_colour.sum() / (expected.label != "dead").sum()
    for name, held in (("correct", np.ones(LATENTS)), ("correct_ablated", 1.0 - of_colour)):
        answers = predict(model, there.images, steer(sae, held, z.mean(0))).argmax(1)
        assert summary[name] == pytest.approx((answers == there.labels).mean(), abs=3e-3)
    assert abs(summary["correct"] - summary["correct_ablated"]) > 0.01
    rest = np.argsort(expected.colour - expected.digit)
    assert found["sheet"].tolist() == list(dict.fromkeys([*best, *rest]))[:16]


def test_labels_by_eye_count_only_for_their_own_autoencoder(tmp_path, monkeypatch):
    saes, file = [], tmp_path / "labels.csv"
    monkeypatch.setattr(d, "load_sae", lambda network, **options: saes.pop())
    monkeypatch.setattr(d, "label_latents", lambda *given: labels_made(0))

    def mark_of(sae) -> str:
        saes.append(sae)
        return d.describe_latents.__wrapped__(None, {}, 4)["mark"]

    near, far = (copy.deepcopy(subject().sae) for _ in range(2))
    near.decoder += 1e-7
    far.decoder += 1e-2
    mark, same, other = map(mark_of, (subject().sae, near, far))
    assert mark == same != other
    file.write_text(f'autoencoder,latent,label\n{mark},3,"thin, red"\n{other},4,loop\n')
    assert d.labels_by_eye(mark, file) == {"3": "thin, red"}
    for row in (f"{mark},three,thin", f"{mark},3,"):
        file.write_text(f"autoencoder,latent,label\nelse,4,loop\n{row}\n")
        with pytest.raises(ValueError, match="line 3"):
            d.labels_by_eye(mark, file)


# --- interventions -------------------------------------------------------------------------------


def test_ablations_are_those_of_the_network_itself():
    s, plain = subject(), shares_of(lambda x: x)
    check(found("none", ""), plain, 1e-9)
    assert plain[2] > 0.5 > 0.3 > plain[1] and len({*np.round(plain, 3)}) == 4  # a cheater
    untrained = SparseAutoencoder(16, LATENTS, "topk", 4, SEED + 1).requires_grad_(False)
    untrained.centre.copy_(s.sae.centre)
    untrained.scale.copy_(s.sae.scale)
    noise = latents.mean_latents(s.model, "block3", s.search.images, untrained)
    x, colours = pooled_of(s.model, s.search.images), s.search.colours
    centre, axes = latents.principal_directions(x)
    of_noise, of_x, of_axes = (
        latents.colour_first(parts, colours, s.search.labels)[0]
        for parts in (noise, x, (x - centre) @ axes)
    )
    random = np.random.default_rng(SEED).permutation(LATENTS)
    keep = torch.from_numpy(latents.ablation_scales(of_x, round(0.3 * 16)))
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
        row = found(basis, level, share)
        assert row["n"] == round(share * (LATENTS if "latents" in basis else 16))
        check(row, shares_of(rewrite), 1e-9)
    for basis, eraser in (
        ("colour class means", project_out_class_means(x, colours)),
        ("linear colour probe", project_out(x, latents.fit_linear_probe(x, colours)[0].T, 9)),
        ("LEACE", leace(x, colours)),
    ):
        stays = torch.from_numpy(eraser.projection).float()
        surplus = (eraser(x) @ s.head + s.model.head.bias.numpy(force=True)).mean(0)
        for level, less in (("mean", 0), ("balanced", surplus)):
            edited = shares_of(lambda rows, p=stays: rows - (rows - centre) @ p, -less)
            # the probe of so few images is sensitive to rounding
            check(found(basis, level), edited, 0.03 if basis == "linear colour probe" else 0.011)


def test_scales_are_searched_on_training_digits_chosen_on_others_and_shuffled(monkeypatch):
    """Shares are drawn at random for all that is tried, in order: first as it was, then of each
    basis 36 ablations, and scales of two penalties (of the control: shuffled ones)."""
    s, draws, seen = subject(), np.random.default_rng(0), []

    def drawn(logits, sets):
        seen.append((dict(zip(MEASURES, draws.random(4), strict=True)), logits["hard"]))
        return seen[-1][0]

    monkeypatch.setattr(d, "load_sae", lambda *args, **options: s.sae)
    monkeypatch.setattr(d, "shares_correct", drawn)
    made = d.intervene_on_latents.__wrapped__(s.network, OPTIONS, 120, 40, 150, 2, 2)
    rows = made["accuracy"].set_index(["basis", "procedure"])
    labels = latents.label_by_share(*s.eta, s.z.max(0) > 0)
    assert made["latents"].label.tolist() == labels.tolist() and len(set(labels)) > 1

    logits = {name: predict(s.model, s.sets[name].images) for name in ("search", "hard")}
    weights, rng = latents.cell_weights(d.CUTS), np.random.default_rng(SEED)
    by_cell = {
        name: latents.parts_by_cell(s.model, "block3", s.sets[name].images, weights, s.sae)[0]
        for name in logits
    }
    whole = {name: latents.sum_cells(parts, 9) for name, parts in by_cell.items()}
    rng.permutation(LATENTS)  # the control's order is drawn first
    for place, procedure, parts in ((37, "scales", whole), (39, "scales by cell", by_cell)):
        units = np.tile(s.effect, (parts["search"].shape[1] // LATENTS, 1))
        task = logits["search"], parts["search"], units, s.search.labels
        tried = [latents.search_scales(*task, penalty, 2) for penalty in (1e-3, 1e-2)]
        best = max((0, 1), key=lambda k: seen[place + k][0]["validation"])
        scale, offset = tried[best]
        assert rows.loc[("SAE latents", procedure), MEASURES].to_dict() == seen[place + best][0]
        assert rows.loc[("SAE latents", procedure)].n == (scale < 0.05).sum()
        edited = latents.rescale(logits, parts, units, scale, offset)["hard"]
        np.testing.assert_allclose(seen[place + best][1], edited, atol=1e-3)
        if procedure == "scales":
            np.testing.assert_allclose(made["latents"].scale, scale, atol=1e-3)
        told, control = seen[77 + (procedure == "scales by cell")]
        edited = latents.rescale(logits, parts, units, rng.permutation(scale), offset)
        np.testing.assert_allclose(control, latents.even_out(edited)["hard"], atol=1e-3)
        assert rows.loc[("random latents", procedure), MEASURES].to_dict() == told


def test_survivors_of_shape_are_amplified():
    s, held = subject(), intervened().held
    for row in intervened().amplified.to_dict("records"):
        scales = np.where((SHAPES == "shape") & (held > 0), np.float32(row["factor"]), held)
        rest = latents.resting_levels("balanced", s.logits, s.z, s.effect, scales)
        check(row, shares_of(steer(s.sae, scales, rest)))


def test_heads_are_refitted_to_survivors_and_channels_on_search_and_biased_images():
    s, survivors = subject(), intervened().survivors.tolist()
    grey, labels = (values[-120:] for values in split_digits("train"))
    biased = paint(grey[:60], assign_colours(labels, 0.95, SEED)[:60], SEED)
    seen = {"random colours": s.search.images, "own images": biased}
    refit, calls = intervened().refit, intervened().calls
    assert len({*zip(refit.features, refit.fitted_on, strict=True)}) == 4
    for row, (parts, keep, sets, source) in zip(refit.itertuples(), calls, strict=True):
        images, latent = seen[row.fitted_on], row.features == "surviving latents"
        np.testing.assert_array_equal(sets[source].images, images)
        np.testing.assert_array_equal(sets[source].labels, labels[: len(images)])
        read = latents.mean_latents(s.model, "block3", images, s.sae)
        read = read if latent else pooled_of(s.model, images)
        np.testing.assert_allclose(latents.sum_cells(parts[source], 9), read, atol=1e-5)
        assert keep.tolist() == (survivors if latent else list(range(16)))


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
        sets[name] = Split(None, (labels + (np.arange(200) % 10 < 10 * moved)) % 10, labels)
    whole, cells = d.refit_heads(parts, np.delete(np.arange(12), 1), sets, "own")
    assert (whole["places"], cells["places"]) == ("whole map", "cells")
    assert whole["validation"] < 0.3
    assert [cells[name] for name in MEASURES[:3]] == pytest.approx([0.7, 0.4, 0.9])


def test_red_ones_are_steered():
    s, held = subject(), intervened().held
    levels = latents.resting_levels("balanced", s.logits, s.z, s.effect, held)
    grey, labels = split_digits("hard")
    table = intervened().red.set_index(["procedure", "digit"])
    for (procedure, rest), digit in product((("zeroed", 0.0), ("balanced", levels)), range(10)):
        images = paint(grey[labels == digit][:9], np.zeros(9, int), 1000)
        before, after = predict(s.model, images), predict(s.model, images, steer(s.sae, held, rest))
        was, called, row = before.argmax(1), after.argmax(1), table.loc[(procedure, digit)]
        assert row.moved == pytest.approx(((was == 0) & (called == digit)).mean())
        assert row.called_one == pytest.approx((called == 1).mean()) and 0 < (was == 0).sum() < 9
        if (procedure, digit) == ("balanced", 1):
            path = before + np.linspace(0, 1, 11)[:, None, None] * (after - before)
            path = torch.from_numpy(path).softmax(2)
            np.testing.assert_allclose(intervened().walk, path, atol=1e-4)


def test_earlier_layers_are_ablated_at_their_mean(monkeypatch):
    model, saes = subject().model, {"block3": subject().sae}
    saes["block1"] = SparseAutoencoder(3, 6, "topk", 2, seed=5).requires_grad_(False)
    monkeypatch.setattr(d, "load_sae", lambda network, layer: saes[layer])
    layers = [{"layer": layer} for layer in saes]
    made = d.ablate_layers.__wrapped__(subject().network, layers, 40).set_index("layer")
    search, validation = neutral("train", slice(-40, None)), neutral("validation", slice(40))
    for layer, sae in saes.items():
        z, tried = latents.mean_latents(model, layer, search.images, sae), []
        order, *_ = latents.colour_first(z, search.colours, search.labels)
        for share in (0.25, 0.5, 0.75, 1):
            steered = steer(sae, latents.ablation_scales(order, round(share * len(z.T))), z.mean(0))
            correct = [
                (predict(model, split.images, steered, layer).argmax(1) == split.labels).mean()
                for split in (validation, canvas.test_split("hard", 80))
            ]
            tried.append((*correct, share))
        got = made.loc[layer, ["validation", "hard", "share"]].tolist()
        assert got == pytest.approx(max(tried), abs=1e-9)


# --- the cells -----------------------------------------------------------------------------------


def labels_made(up: float) -> dict:
    """A result of `label_latents` by hand, whose numbers `up` moves."""
    frame = pd.DataFrame({
        "latent": range(4), "label": ["colour", "shape", "colour", "dead"],
        "prefers": ["red", "6", "green", ""], "colour": [0.9, 0.1, 0.8, 0],
        "digit": [0, 0.7, 0.1, 0], "active": [0.5, 0.25, 0.125, 0], "most": [2.0, 3, 4, 0],
        "speaks_for": [0, 6, 7, 3], "adds": [1.0, 2, 3, 4],
    })  # fmt: skip
    summary = {"colour_probe": 0.81, "digit_probe": 0.31, "colour_latents": 0.41, "correct": 0.51,
               "correct_ablated": 0.47, "colours_found": 8, "digits_found": 3}  # fmt: skip
    return {
        "auroc": pd.DataFrame({"basis": "SAE latents", "attribute": ["colour", "digit"],
                               "auroc": np.array([0.9, 0.6]) + up / 100}),
        "latents": frame, "cells": np.ones((4, 10, 10)), "sheet": np.array([0, 2, 1]),
        "effect": np.arange(40.0).reshape(4, 10), "top": np.arange(36).reshape(4, 9),
        "histogram": np.ones((4, 24), int),
        "summary": {k: v + (up if "found" in k else up / 100) for k, v in summary.items()},
    }  # fmt: skip


def interventions_made(seed: int) -> dict:
    """A result of `intervene_on_latents` by hand: hard accuracies differ in every row."""
    up, rows = seed / 100, [("none", "as it was", "", 0, 0.1, 0.05, 0.9)]
    for level, add in (("zeroed", 0), ("mean", 0.01), ("balanced", 0.02)):
        for n, hard, rate in ((1, 0.11, 0.7), (2, 0.2, 0.5), (3, 0.21, 0.3)):
            rows.append(("SAE latents", "ablated", level, n, hard + add, hard + add, rate))
    scaled = {
        ("SAE latents", "scales"): (0.5, 0.41), ("SAE latents", "scales by cell"): (0.7, 0.61),
        ("random latents", "scales"): (0.2, 0.12), ("untrained latents", "scales"): (0.2, 0.13),
        ("PCA directions", "scales"): (0.3, 0.31), ("raw channels", "scales"): (0.3, 0.36),
        ("PCA directions", "scales by cell"): (0.8, 0.57),
    }  # fmt: skip
    rows += [(*row, "", 1, *measured, 0.4) for row, measured in scaled.items()]
    names = ["basis", "procedure", "level", "n", "validation", "hard", "shortcut_rate"]
    accuracy = pd.DataFrame(rows, columns=names).assign(aligned=0.6)
    accuracy[["hard", "shortcut_rate", "aligned"]] += up
    digits, base = np.tile(np.arange(10), 3), np.repeat([0.4, 0.6, 0.1], 10)
    red = {"procedure": np.repeat(["zeroed", "balanced", "scales by cell"], 10), "digit": digits}
    called = np.where(digits == 1, 0.9, base + digits / 100)
    return {
        "accuracy": accuracy.assign(share=accuracy.n / 4),
        "red": pd.DataFrame(red | {"moved": base + digits / 50 + 2 * up, "called_one": called}),
        "refit": pd.DataFrame({
            "features": ["surviving latents"] * 3 + ["raw channels"] * 2,
            "fitted_on": ["random colours"] * 2 + ["own images"] + ["random colours"] * 2,
            "places": ["whole map", "cells", "cells", "whole map", "cells"], "validation": 0.7,
            "hard": np.array([0.5, 0.76, 0.2, 0.65, 0.85]) + up, "aligned": 0.9}),
        "latents": pd.DataFrame({"latent": range(4), "scale": [0, 1.5, 0.5 + seed, 0],
                                 "label": ["colour", "colour", "shape", "dead"]}),
        "amplified": pd.DataFrame({"factor": [1, 4], "validation": [0.2, 0.3],
                                   "hard": [0.22 + up, 0.33], "shortcut_rate": [0.4, 0.5]}),
        "walk": np.random.default_rng(seed).random((11, 5, 10)),
    }  # fmt: skip


def test_the_cells_show_what_was_measured(monkeypatch):
    """All figures, tables, claims and numbers of the page; seed 1 is .01 higher."""
    layers = pd.DataFrame([{"layer": "block2", "share": 0.75, "validation": 0.22, "hard": 0.17}])
    up, grid = {"cheater": 0, "oracle": 0.5, "cure": 1}, d.colour_grid

    def run(calls, title):
        given = [inspect.signature(f).bind(**given).arguments for f, given in calls]
        assert given[0]["network"].seed == 0 and given[0]["n_search"] == 2000
        return [*map(interventions_made, (0, 1)), layers]

    def measured(function, given, title=None):
        inspect.signature(function).bind(**given[0])
        if function is d.train_sae:
            return trained(given)
        return [function.__wrapped__(**one) for one in given]

    def load_sae(network, seed=0, **options):
        return SparseAutoencoder(16, LATENTS, "topk", 1, seed=seed).requires_grad_(False)

    def label_latents(network, options, n_per_class):
        assert n_per_class == 10
        return labels_made(network.seed + up[network.name])

    monkeypatch.setattr(d.stored, "map", measured)
    monkeypatch.setattr(d.stored, "run", run)
    monkeypatch.setattr(d, "load_sae", load_sae)
    for name in ("rate_saes", "compare_saes", "show_latents"):
        monkeypatch.setattr(d, name, getattr(d, name).__wrapped__)
    monkeypatch.setattr(d, "label_latents", label_latents)
    monkeypatch.setattr(d, "labels_by_eye", lambda mark: {"0": "red ones", "2": "loops"})
    monkeypatch.setattr(d, "colour_grid", lambda name, n, seed: grid(name, 4, seed))
    begin_chapter("decomposition")
    outputs, inline = run_cells("decomposition")

    def over(value, up=0.01):
        return percent(estimate([value, value + up]))

    for name, value in {
        "sae-loss-recovered": 0.9995, "sae-colours-found": 8.5, "sae-cure": 0.615,
        "sae-cure-beats-controls": 0.61 - 0.57, "sae-cure-refit": 0.765,
        "sae-dial": 0.63,
    }.items():  # fmt: skip
        assert outputs[name].value == pytest.approx(value), name
    assert outputs["sae-cure"].threshold == pytest.approx(4 * 0.055)
    for code, text in {
        "percent(unexplained)": over(0), 'percent(shares["colour"])': over(0.5, 0),
        "str(own)": "1", "str(same)": "1", 'most.format("{:.0f}")': "2 [2, 2]",
        'half.format("{:.0f}")': estimate([2, 3], (0, 4)).format("{:.0f}"),
        "percent(whole_margin)": over(0.41 - 0.36, 0), "percent(recovers)": over(0.56 / 0.6, 0),
        'f"{100 * of_ceiling:.0f}"': "70",  # .56 / .8
        "f\"{100 * others['balanced']:.0f}\"": "65",  # .6 + (45 - 1) / 9 / 100
    }.items():  # fmt: skip
        assert inline[code] == text, code
    nine = estimate([9, 10], (0, 10)).format("{:.1f}")
    ablated = [over(0.23, 0), over(0.23), over(0.3), over(0.6)]
    refitted = [over(0.7, 0), over(0.5), over(0.9, 0)]
    for label, row, expected in (
        ("sae-quality", 0, ["block1", "8 x 32", "8", "7.0", "0.070", "0.993", "0.7"]),
        ("sae-use", 2, ["cure", nine, *map(over, (0.42, 0.82, 0.52, 0.48))]),
        ("operation", 1, ["SAE latents", "ablated", *ablated]),
        ("amplified", 1, ["x 4", over(0.3, 0), over(0.33, 0), over(0.5, 0)]),
        ("dials", 1, ["shape", "1 [1, 1]", over(0, 0), over(0, 1)]),
        ("depth", 0, ["block2", "75%", "22.0", "17.0"]),
        ("refit", 0, ["surviving latents", "whole map", "random colours", *refitted]),
    ):
        line = outputs[f"tbl-{label}"].data.splitlines()[2 + row]
        assert [cell.strip() for cell in line.strip("|").split("|")] == expected, label
    front = [line.get_xydata().tolist() for line in outputs["fig-sparse-front"].axes[0].lines]
    assert front == [[[n, n / 100], [n + 1, (n + 1) / 100]] for n in (11, 13, 15)]
    balanced = outputs["fig-silence"].axes[1].lines[8].get_ydata()  # after its two thin lines
    np.testing.assert_allclose(balanced, [0.705, 0.505, 0.305])
    images = 255 * d.colour_grid("validation", 10, 2000).images.transpose(0, 2, 3, 1)
    second = outputs["fig-latents"].axes[2].images[0].get_array()  # the latent 2: images 18 to 26
    np.testing.assert_allclose(second[28:56, :28], images[21], atol=0.501)
    page = (cache_dir() / "pages" / "latents.html").read_text("utf-8").split("<tr id=")[1:]
    cells = "colour red “red ones”", "0.9", "0", "50", "1", "2"
    assert len(page) == 8 and "</td><td>".join(cells) in page[0] and "cure/latent/1" in page[5]
    assert "cure/latent/0" in page[4] and "red ones" not in page[4]  # it is of another autoencoder
