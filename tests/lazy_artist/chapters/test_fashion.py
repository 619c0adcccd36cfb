"""The chapter on clothes asks the claims of earlier chapters again: their values from measurements
made by hand, and its page with and without Fashion-MNIST."""

import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from cells import measured_by, run_cells, table

from lazy_artist import claims
from lazy_artist.chapters import (
    biased_canvas,
    cheater,
    cloak,
    decomposition,
    fashion,
    interrogation,
    intervention,
    prober,
)
from lazy_artist.data import using
from lazy_artist.debias import BEST, BLIND
from lazy_artist.evaluate import Estimate

SPLITS = {"train": 0.9, "validation": 0.8, "hard": 0.1, "aligned": 0.95, "unbiased": 0.3}
SPLITS |= {"unseen": 0.4}
LAZY = Estimate(0.97, (0.96, 0.98), 3)


@pytest.fixture
def by_hand(monkeypatch):
    """by_hand(module, name, function): the function in its place; stored ones are just called."""
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "full")
    direct = SimpleNamespace(map=lambda function, calls, *_: [function(**call) for call in calls])
    monkeypatch.setattr(fashion, "stored", direct)
    return monkeypatch.setattr


def means(values):
    return {
        id: round(value.mean if hasattr(value, "interval") else value, 6)
        for id, (value, _) in values.items()
    }


def test_values_of_chapters_1_and_2(by_hand):
    def share(one, split):
        return SPLITS[split] + 0.01 * one.seed + 0.05 * (one.name == "oracle")

    def alone(n_train, n_eval):
        assert (n_train, n_eval) == (5_000, 5_000)
        rows = [("mean colour", "validation", 0.93), ("mean colour", "hard", 0.02)]
        rows += [("grey shape", "validation", 0.85)]
        return pd.DataFrame(rows, columns=["sees", "split", "accuracy"])

    def confidences(networks, splits, n_eval):
        assert {one.name for one in networks} == {"cheater"} and splits == ["validation", "hard"]
        rows = [
            {"images": images, "seed": one.seed, "shortcut_rate": rate + one.seed / 100,
             "confidence": sure}
            for one in networks
            for images, rate, sure in (("validation", 0.9, 0.7), ("hard", 0.6, 0.55),
                                       ("red ones", 0.77, 0.66))
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def counterfactuals(network, n_per_class):
        assert network.name == "cheater" and n_per_class == 300
        return {"overall": pd.DataFrame({"shortcut_rate": [0.5 + network.seed / 10]})}

    by_hand(fashion, "evaluate_networks", measured_by(share))
    by_hand(biased_canvas, "colour_or_shape", alone)
    by_hand(cheater, "confidences", confidences)
    by_hand(cheater, "counterfactuals", counterfactuals)
    values = fashion.cheating()
    assert means(values) == {
        "canvas-colour-alone": 0.93, "cheater-easy-train": 0.91, "cheater-easy-validation": 0.81,
        "cheater-hard": 0.11, "oracle-hard": 0.16, "cheater-confidence": 0.55,
        "cheater-red-one": 0.78, "cheater-follows-colour": 0.6,
    }  # fmt: skip
    on_sealed = {id for id, (_, sealed) in values.items() if sealed == "closed"}
    assert on_sealed == {"cheater-hard", "oracle-hard", "cheater-confidence"}


def test_values_of_chapter_3(by_hand):
    def all_channels(networks, n_per_class, n_train, steps):
        assert (n_per_class, n_train, steps) == (30, None, 96) and len(networks) == 9
        counts = {"cheater": 3, "cure": 1, "oracle": 0}  # colour channels of four
        return pd.DataFrame(
            {"network": one.name, "seed": one.seed, "layer": layer, "alive": k < 4, "most": 1.0,
             "score": 2.0 - (k == 0) * (layer == "block1") * (one.name == "cure"),
             "label": "colour" if k < counts[one.name] or layer == "block1" else "shape"}
            for one in networks for layer in ("block1", "block3") for k in range(5)
        )  # fmt: skip

    def ablate_channels(network, layers, n_per_class, n_train, n_eval):
        assert network.name == "cheater" and (n_per_class, n_train, n_eval) == (30, None, 1000)
        assert layers == ["block1", "block2", "block3"]
        rates = {"most tuned to colour first": 0.5 - network.seed / 10, "at random": 0.6,
                 "most tuned to shape first": 0.9}  # fmt: skip
        return pd.DataFrame(
            {"seed": network.seed, "layer": layer, "share": share, "order": order,
             "shortcut_rate": rate if (layer, share) == ("block3", 0.25) else 0.05}
            for layer in layers for share in (0, 0.25, 0.5) for order, rate in rates.items()
        )  # fmt: skip

    by_hand(prober, "all_channels", all_channels)
    by_hand(prober, "ablate_channels", ablate_channels)
    assert means(fashion.tuning()) == {
        "probe-beats-dataset": round(23 / 24, 6),  # one of 24 live channels a seed draws level
        "probe-cheater-colour-share": 0.75, "probe-cure-colour-share": 0.5, "probe-ablation": 0.2,
    }  # fmt: skip


def test_values_of_chapter_4(by_hand):
    shares = {
        "cheater": {"recolour": 0.9, "reshape": 0.2, "both": 1.0},
        "cure": {"recolour": 0.1, "reshape": 0.7, "both": 0.8},
        "oracle": {"recolour": 0.05, "reshape": 0.85, "both": 0.95},
    }
    chroma = {"cheater": 0.8, "cure": 0.6, "oracle": 0.5}

    def measure_changes(network, n_per_class):
        assert n_per_class == 30
        rows = [
            {"network": network.name, "seed": network.seed, "change": change, "predictions": share}
            for change, share in shares[network.name].items()
        ]
        spread = np.array([-0.1, 0.1]) + chroma[network.name] + network.seed / 100
        return {"changes": pd.DataFrame(rows), "chroma": spread}

    left = {  # area under the curve by the maps: gradients, Grad-CAM, stroke, centre, random
        "cheater": (0.2, 0.3, 0.15, 0.35, 0.6), "cure": (0.1, 0.25, 0.18, 0.2, 0.5),
        "oracle": (0.05, 0.28, 0.2, 0.21, 0.4),
    }  # fmt: skip

    def delete_and_insert(network, measures, reach, n_per_class, steps):
        assert (measures, reach, n_per_class, steps) == (["deletion"], 4, 30, 28)
        about = {"network": network.name, "seed": network.seed, "reach": reach}
        rows = [
            about | {"measure": "deletion", "map": name, "area": area + network.seed / 100}
            for name, area in zip(interrogation.MAPS, left[network.name], strict=True)
        ]
        return {"areas": pd.DataFrame(rows)}

    by_hand(interrogation, "measure_changes", measure_changes)
    by_hand(interrogation, "delete_and_insert", delete_and_insert)
    assert means(fashion.gaze()) == {
        "gradcam-recolour-moves-cheater": 0.7, "gradcam-reshape-moves-oracle": 0.8,
        "gradcam-reshape-moves-cure": 0.6, "chroma-reliance": 0.3, "chroma-reliance-cure": 0.2,
        "gradcam-faithful": -0.12,  # the oracle's: -0.3 of the cheater
        "gradcam-beats-centre": 0.07, "ig-convicts": 0.2, "ig-convicts-cure": 0.13,
    }  # fmt: skip


def rivals(sealed=False):
    """Rows as of `evaluate_rivals`: hard accuracies .5, .6, ... in the order of `RIVALS`."""
    splits = ["validation", "hard", "aligned", "unseen"] + ["sealed"] * sealed
    return pd.DataFrame(
        {"network": name, "arch": "cnn", "seed": seed, "split": split, "shortcut_rate": 0.2,
         "accuracy": 0.5 + k / 10 + seed / 1000 - 0.03 * splits.index(split)}
        for k, name in enumerate(fashion.RIVALS) for seed in range(3) for split in splits
    )  # fmt: skip


def test_values_of_chapter_5(by_hand):
    def gradient_and_tuning(network, n_per_class):
        assert n_per_class == 50
        reliance = {"cheater": 0.7, BEST: 0.45}[network.name] - network.seed / 100
        row = {"network": network.name, "seed": network.seed, "chroma_reliance": reliance}
        return {"networks": pd.DataFrame([row]), "images": None, "channels": None}

    by_hand(intervention, "gradient_and_tuning", gradient_and_tuning)
    values = fashion.cures(rivals(sealed=True))
    assert fashion.RIVALS.index(BLIND) == 3 and fashion.RIVALS.index(BEST) == 4
    assert means(values) == {
        "cure-best-hard": 0.871, "cure-best-gap-to-oracle": 0.1, "cure-knows-nothing": 0.771,
        "cure-unseen": 0.811, "cure-gaze": 0.25,
    }  # fmt: skip
    assert values["cure-best-hard"][1].mean == pytest.approx(0.781)
    assert values["cure-best-gap-to-oracle"][1].mean == pytest.approx(0.1)
    assert values["cure-knows-nothing"][1].mean == pytest.approx(0.681)
    assert values["cure-unseen"][1] is None
    assert fashion.cures(rivals())["cure-best-gap-to-oracle"][1] == "closed"


def test_values_of_chapter_6(by_hand):
    size = {"cheater": 0.04, "cure": 0.02, "brief-oracle": 0.01}

    def gather(function, calls):
        assert function is cloak.smallest_changes
        asked = {(call["network"].name, call["n"]) for call in calls}
        assert asked == {("cheater", None), ("cure", None), ("brief-oracle", 100)}
        assert {call["shared"]["n_7"] for call in calls} == {500}
        return pd.DataFrame(
            {"network": one.name, "seed": one.seed, "norm": "linf", "goal": goal, "image": image,
             "size": size[one.name] * (1 + image) * (3 if goal == cloak.CONFIDENT else 1),
             "chroma": {"cheater": 0.7}.get(one.name, 0.4) if goal == cloak.PREDICTS else 0.9}
            for one in (call["network"] for call in calls)
            for goal in cloak.GOALS for image in range(2)
        )  # fmt: skip

    by_hand(cloak, "gather", gather)
    assert means(fashion.cloaks()) == {
        "cloak-predict": 0.5,  # .04 < .05 <= .08; the cure's .02 and .04 both lie below
        "cloak-success-cure": 0.0,  # .06, .12
        "cloak-ratio": 0.5, "cloak-not-brevity": 0.25, "cloak-chroma": 0.3,
    }  # fmt: skip


def test_values_of_chapter_7(by_hand):
    def rate_saes(given):
        assert [each["network"].seed for each in given] == [0, 1, 2]
        assert all(each["layer"] == "block3" for each in given)
        return [{"loss_recovered": 0.9 + each["network"].seed / 100} for each in given]

    def describe_latents(network, options, n_per_class):
        assert options == decomposition.sae_options() and n_per_class == 25
        return {"summary": {"colours_found": 7 + network.seed, "digits_found": 2}}

    by_hand(decomposition, "rate_saes", rate_saes)
    by_hand(decomposition, "describe_latents", describe_latents)
    assert means(fashion.autoencoders()) == {"sae-loss-recovered": 0.91, "sae-colours-found": 8.0}


def test_values_of_chapter_7_s_steering(by_hand):
    sizes = {"n_validation": 2_500, "n_eval": None, "splits": ["hard"]}
    hard = {
        "SAE latents": (0.4, 0.5),
        "raw channels": (0.45, 0.2),
        "PCA directions": (0.3, 0.35),
        "random latents": (0.1, 0.1),
        "untrained latents": (0.2, 0.1),
        "LEACE": (0.9, 0.9),
    }

    def intervene_on_latents(network, options, **given):
        assert given == {"n_search": 20_000, "steps": 60} | sizes
        rows = [
            {"basis": basis, "procedure": procedure, "validation": on_validation,
             "hard": value - network.seed / 100}
            for basis, values in hard.items()
            for procedure, on_validation, value in (
                ("scales", 0.3, values[0]), ("by cell", 0.6, values[1]),
            )
        ]  # fmt: skip
        return {"accuracy": pd.DataFrame(rows)}

    def refit_heads(network, options, **given):
        assert given == {"n_images": 8_000} | sizes
        read = {"SAE latents": 0.7, "raw channels": 0.6, "untrained latents": 0.65}
        return pd.DataFrame(
            {"features": features, "places": places, "fitted_on": fitted_on,
             "hard": value + network.seed / 100
             if (places, fitted_on) == ("cells", "random colours") else 0.01}
            for features, value in read.items() for places in ("cells", "whole map")
            for fitted_on in ("random colours", "own images")
        )  # fmt: skip

    def turn_red(network, options, **given):
        assert given == {"n_per_class": 25, "n_choose": 200, "n_images": 200}
        values = {"red": 0.8, "control": 0.1, "everything": 0.9}
        down = [
            {"latents": name, "digit": digit, "moved": value if digit == 1 else 0.33}
            for name, value in values.items() for digit in (1, 2)
        ]  # fmt: skip
        up = [
            {"images": images, "latents": name, "dose": dose, "answer": answer,
             "predicted": values[name] / 2 if (images, answer) == ("green ones", 0) and dose ==
             decomposition.DOSES[-1] else 0.77}
            for images in ("red ones", "green ones") for name in ("red", "control")
            for dose in decomposition.DOSES for answer in (0, 1)
        ]  # fmt: skip
        return {"down": pd.DataFrame(down), "curve": pd.DataFrame(up)}

    for function in (intervene_on_latents, refit_heads, turn_red):
        by_hand(decomposition, function.__name__, function)
    direct = SimpleNamespace(run=lambda calls, _: [function(**given) for function, given in calls])
    by_hand(decomposition, "stored", direct)
    values = fashion.steering()
    assert means(values) == {
        "sae-cure": 0.49, "sae-cure-beats-controls": 0.15,  # .5 - .35, both by cell
        "sae-digit-is-there": 0.61, "sae-cure-refit": 0.1, "sae-dial": 0.8,
        "sae-dial-beats-control": 0.7, "sae-steer-up": 0.4, "sae-steer-up-beats-control": 0.35,
    }  # fmt: skip
    assert [sealed for _, sealed in values.values()] == ["closed"] * 4 + [None] * 4


def test_a_claim_of_clothes_does_not_tell_the_control_of_digits():
    told = fashion.restated("red ones move (matched control: 0.012), at 3 times (or so)")
    assert told == "on clothes: red ones move, at 3 times (or so)"


def test_mistakes_among_tops_are_counted_without_what_is_right():
    share = np.zeros((10, 10))
    share[0, 0], share[0, 6], share[2, 4], share[6, 1], share[1, 0] = 0.9, 0.3, 0.1, 0.15, 0.05
    number, prediction = np.indices((10, 10)).reshape(2, -1)
    rows = {"by": "true digit", "number": number, "prediction": prediction, "share": share.ravel()}
    other = rows | {"by": "colour", "share": 1.0}
    frame = pd.concat([pd.DataFrame(rows), pd.DataFrame(other)])
    assert fashion.among_tops(frame) == pytest.approx(0.4 / 0.6)


def test_garments_are_painted_in_their_own_and_in_the_next_colour():
    shown = fashion.dressed.__wrapped__(2)
    assert shown["own"].shape == (2, 10, 3, 28, 28) and shown["other"].shape == (10, 3, 28, 28)
    brightest = [image.reshape(3, -1).max(1) for image in (shown["own"][1, 0], shown["other"][0])]
    assert brightest[0].argmax() == 0 and brightest[0][0] > 200 > brightest[0][1]  # red
    assert brightest[1].argmax() == 1  # green


@pytest.fixture
def page(monkeypatch):
    """page(measured) -> what the cells show, with three claims of chapter 2 on record."""

    def run(measured):
        for chapter in fashion.CHAPTERS:  # also those that other tests have run
            claims.begin_chapter(f"{chapter}-more")
            claims.begin_chapter(chapter)
        claims.begin_chapter("cheater")
        claims.claim("cheater-hard", "it reads | hard images", 0.01, "<", 0.2, sealed="closed")
        claims.claim("cheater-red-one", "red ones are zeros", LAZY, ">", 0.95)
        claims.claim("oracle-hard", "the oracle reads hard images", 0.99, ">=", 0.985)
        monkeypatch.setattr(fashion, "measure", lambda: measured)
        monkeypatch.setattr(fashion, "evaluate_rivals", rivals)
        monkeypatch.setattr(fashion, "coverage", lambda: [0.1] * 10)
        return run_cells("fashion")

    return run


def test_the_page_judges_clothes_by_the_criteria_of_digits(page, monkeypatch):
    number, prediction = np.indices((10, 10)).reshape(2, -1)
    confusions = {"by": "true digit", "number": number, "prediction": prediction}
    confusions["share"] = np.where((number == 6) & (prediction == 0), 0.4, 0.001)
    measured = {
        "values": {"cheater-hard": (0.02, "closed"), "cheater-red-one": (0.9, None),
                   "oracle-hard": (0.91, "closed"), "sae-dial": (0.5, None)},
        "rivals": rivals(), "pictures": fashion.dressed.__wrapped__(3),
        "red": {"images": np.zeros((8, 3, 28, 28)), "probabilities": np.full((8, 10), 0.1)},
        "asked": {"images": np.zeros((5, 3, 28, 28)), "probabilities": np.eye(10)[[[0] * 5] * 3]},
        "confident": pd.DataFrame([{"images": "red ones", "seed": 0, "shortcut_rate": 0.9,
                                    "confidence": 0.8}]),
        "confusions": pd.DataFrame(confusions), "coverage": [0.1 + k / 100 for k in range(10)],
        "followed": pd.Series(0.5, range(10)),
    }  # fmt: skip
    shown, inline = page(measured)
    made = claims.recorded(["fashion"])
    assert list(made) == ["fashion-cheater-hard", "fashion-cheater-red-one", "fashion-oracle-hard"]
    assert [one.outcome for one in made.values()] == ["holds", "fails", "fails"]
    assert [one.threshold for one in made.values()] == [0.2, 0.95, 0.985]
    assert made["fashion-cheater-hard"].statement == "on clothes: it reads | hard images"
    assert made["fashion-cheater-hard"].sealed == "closed"
    rows = table(shown["tbl-fashion-claims"])  # of what comes out otherwise
    told = ["✓\u00a00.97 \\[0.96, 0.98\\]", "✗\u00a00.9"]
    assert rows["red ones are zeros (\\> 0.95)"] == told and len(rows) == 3
    assert list(table(shown["tbl-fashion-chapters"]).values())[1] == ["3", "3", "1"]
    assert shown["fashion-cheater-hard"].value == 0.02
    texts = [text.get_text() for text in shown["fig-trousers"].axes[0].texts]
    assert texts[1:4] == ["“T-shirt” 100%\n✗ neither"] * 3 and "yellow sneaker" in texts
    assert "1 hold on clothes" in inline["short"] and "2.0 percent" in inline["short"]
    assert inline['f"{len(failed)} of {len(doomed)}"'] == "1 of 1"
    assert inline['f"{len(alike)} of {len(others)}"'] == "1 of 2"
    first, *_, told = [value.data for name, value in shown.items() if name.startswith("cell")]
    assert 'with using("fashion-mnist"):' in first
    claims.begin_chapter("decomposition-more")
    claims.claim("sae-dial", "they turn", 0.4, ">=", 0.45)
    more, inline = run_cells("fashion-more")
    assert len(table(more["tbl-fashion-all"])) == 5  # with its head
    assert (inline["len(later)"], inline["alike"], inline["why"]) == ("1", "0", "")
    (later,) = claims.recorded(["fashion-more"]).values()
    assert (later.id, later.outcome, later.threshold) == ("fashion-sae-dial", "holds", 0.45)
    assert "A lower ceiling" in told and "no reason for `cheater-red-one`" in told
    assert "asked again in @sec-fashion-more: `sae-dial`" in told
    cures = table(shown["tbl-fashion-cures"])
    monkeypatch.setenv("LAZY_ARTIST_SCALE", "full")
    assert claims.recorded(["cheater", "fashion"]) == {}  # those were of another scale
    assert cures["just train twice"][0] == cures["just train twice"][1] == "67.1\u00a0±\u00a00.2"


@pytest.mark.parametrize("measured", [{}, None])
def test_the_page_says_so_where_there_are_no_clothes(page, monkeypatch, measured):
    before = os.environ["LAZY_ARTIST_SOURCE"]
    with using("fashion-mnist"):
        if measured is None:  # offline, and without results
            measured = fashion.measure()
    assert measured == {} and os.environ["LAZY_ARTIST_SOURCE"] == before
    shown, inline = page(measured)
    assert inline["short"] + "." == fashion.MISSING and claims.recorded(["fashion"]) == {}
    assert {"fig-clothes", "fig-trousers", "tbl-fashion-claims"} <= set(shown)
    assert all(shown[name].data.strip() for name in shown if name.startswith("tbl"))
