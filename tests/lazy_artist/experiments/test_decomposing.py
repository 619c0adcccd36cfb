"""Chapter 7's measurements: by hand where that can be done, and agreeing with the network."""

import functools
import re

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from scipy import sparse
from scipy.stats import rankdata

from lazy_artist import debias
from lazy_artist.artifacts import fetch_all, fetch_many
from lazy_artist.data import cache_dir
from lazy_artist.debias import protocol
from lazy_artist.evaluate import predict
from lazy_artist.experiments import decomposing as d
from lazy_artist.experiments import networks
from lazy_artist.experiments.networks import cheater, seeds
from lazy_artist.interventions import rewritten, turned
from lazy_artist.sae import SparseAutoencoder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """In this process: short training, few images and latents, and for the best cure ERM."""
    whole_code, whole_turn, whole_depth = d._config, d._operated_config, d._deepened_config
    short = {"steps": 15, "images": 200, "places": 4}

    def config(kind, seed, layer=d.LAYER, way=None, start=0):
        return whole_code(kind, seed, layer, way or d.CHOSEN, start) | short

    def turn(seed):
        sizes = {"search": 200, "chosen_on": 100, "steps": 10, "ones": 6}
        return whole_turn(seed) | {"code": config("cheater", seed)} | sizes

    monkeypatch.setattr(d, "fetch_many", functools.partial(fetch_many, jobs=1))
    monkeypatch.setattr(d, "fetch_all", functools.partial(fetch_all, jobs=1))
    monkeypatch.setattr(d, "CHOSEN", ("batchtopk", 8.0, 2))
    monkeypatch.setattr(d, "SWEEP", {"topk": (8.0,), "relu": (1.0,)})
    monkeypatch.setattr(d, "WIDTHS", (4,))
    monkeypatch.setattr(d, "READING_STEPS", 40)
    monkeypatch.setattr(d, "_config", config)
    monkeypatch.setattr(d, "_operated_config", turn)
    monkeypatch.setattr(d, "_deepened_config", lambda: whole_depth() | {"images": 40})
    monkeypatch.setattr(
        d, "_named_config", lambda kind, seed: {"code": config(kind, seed), "each": 3}
    )
    short_oracle = networks.RECIPES["diligent", "cnn"]._replace(epochs=2)
    monkeypatch.setitem(networks.RECIPES, ("diligent", "cnn"), short_oracle)
    monkeypatch.setattr(debias, "BEST", "erm")
    monkeypatch.setitem(protocol.RECIPES, "cnn", protocol.Recipe(0.5, 2e-3, 64))


# --- by hand -------------------------------------------------------------------------------------


def test_matched_cosine_sees_through_an_order():
    a, b = SparseAutoencoder(4, 6, "topk", 1, seed=0), SparseAutoencoder(4, 6, "topk", 1, seed=0)
    b.decoder.data.copy_(a.decoder.data[torch.tensor([3, 1, 5, 0, 2, 4])])
    assert d.matched_cosine(a, b) == pytest.approx(1)
    assert d.matched_cosine(a, SparseAutoencoder(4, 6, "topk", 1, seed=1)) < 0.95


def test_separation_by_hand():
    z = np.array([[0.9, 0.0], [0.8, 0.0], [0.1, 0.0], [0.85, 1.0]])
    answers = np.array([0, 0, 1, 1])
    with np.errstate(all="ignore"):
        found = d.separation(rankdata(z, axis=0), answers)
    # column 0: of the four pairs of a 0 and a 1, three have the 0 above; column 1: two ties
    np.testing.assert_allclose(found[:2], [[0.75, 0.25], [0.25, 0.75]])


def test_explained_by_hand():
    answers = np.repeat(np.arange(10), 2)
    z = np.stack([answers, np.tile([0, 1], 10), np.ones(20), answers + np.tile([0, 1], 10)], 1)
    var = np.var(np.arange(10))
    np.testing.assert_allclose(d.explained(z, answers), [1, 0, 0, var / (var + 0.25)], atol=1e-12)


def test_balanced_levels_make_the_answers_equally_strong():
    rng = np.random.default_rng(0)
    parts = {"search": rng.random((50, 30)).astype(np.float32)}
    effect = rng.normal(size=(30, 10)).astype(np.float32)
    logits = {"search": (parts["search"] @ effect + rng.normal(size=10)).astype(np.float32)}
    mean = parts["search"].mean(0)
    silent = d._dials(np.arange(30)[::-1], 20)
    assert silent[:10].all() and not silent[10:].any()
    edited = d._turned(logits, parts, effect, silent, mean, "balanced")["search"]
    np.testing.assert_allclose(d._lean(edited), 0, atol=1e-4)
    # and nothing but a constant apart from holding them at their means
    held = d._turned(logits, parts, effect, silent, mean, "mean")["search"]
    np.testing.assert_allclose((edited - held).std(0), 0, atol=1e-4)


def test_no_linear_reader_is_left_after_leace_and_class_means_are_equal():
    rng = np.random.default_rng(0)
    colours = np.arange(1000) % 10
    x = rng.normal(size=(1000, 16)) @ rng.normal(size=(16, 16)) + rng.normal(size=(10, 16))[colours]
    erasers = d._erasers(x.astype(np.float32), colours)
    for name in ("colour class means", "LEACE"):
        y = erasers[name](x.astype(np.float32))
        means = np.stack([y[colours == c].mean(0) for c in range(10)])
        np.testing.assert_allclose(means - means.mean(0), 0, atol=2e-3)
    moved = {name: np.square(eraser(x) - x).sum() for name, eraser in erasers.items()}
    assert moved["LEACE"] > 0  # the class means' projection is orthogonal: another yardstick
    once = erasers["LEACE"](x)
    np.testing.assert_allclose(erasers["LEACE"](once), once, atol=1e-6)  # a projection


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_array])
def test_searched_dials_keep_what_tells_the_digit_and_drop_what_misleads(wrap):
    rng = np.random.default_rng(0)
    labels, ink = rng.integers(0, 10, (2, 1000))
    z = np.concatenate([np.eye(10)[labels], np.eye(10)[ink]], 1).astype(np.float32)
    effect = np.concatenate([np.eye(10), 3 * np.eye(10)]).astype(np.float32)
    logits = z @ effect
    dials, lean = d._search(logits, wrap(z), effect, labels, 1e-4, 100)
    assert (dials >= 0).all()
    assert dials[10:].max() < 0.2 and dials[:10].min() > 1
    edited = d._dialled({"": logits}, {"": wrap(z)}, effect, dials, lean)[""]
    assert (edited.argmax(1) == labels).mean() > 0.99
    tight, _ = d._search(logits, wrap(z), effect, labels, 1.0, 100)
    assert np.linalg.norm(tight) < 0.5 * np.linalg.norm(dials)  # a price holds dials down


def test_the_search_finds_the_minimum():
    """No dial can be moved to a lower price, but those at the stop, which would have to go below 0:
    by finite differences of what the docstring says is minimised."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 300)
    z = (rng.random((300, 12)) * (1 + (labels[:, None] % 12 == np.arange(12)))).astype(np.float32)
    effect = rng.normal(size=(12, 10)).astype(np.float32)
    logits, penalty = z @ effect, 0.01
    dials, lean = d._search(logits, z, effect, labels, penalty, 300)
    spread = z.std(0) * np.linalg.norm(effect - effect.mean(1, keepdims=True), axis=1)

    def price(dials):
        edited = torch.from_numpy(d._dialled({"": logits}, {"": z}, effect, dials, lean)[""])
        entropy = torch.nn.functional.cross_entropy(edited.double(), torch.from_numpy(labels))
        return float(entropy) + penalty / 2 * np.square(dials.astype(float) * spread).sum()

    for k in range(12):
        step = np.zeros(12)
        step[k] = 1e-2
        slope = (price(dials + step) - price(dials - step)) / 2e-2
        assert abs(slope) < 2e-3 or (dials[k] == 0 and slope > 0)
    assert (dials == 0).any() and (dials > 0).any()


def test_cells_add_up_to_the_map():
    cut = d._cut()
    assert cut.shape == (9, 49)
    torch.testing.assert_close(cut.sum(0), torch.full((49,), 1 / 49))
    one = torch.zeros(7, 7)
    one[2, 6] = 49  # third row: the middle band; last column: the last
    np.testing.assert_allclose((cut @ one.flatten()).numpy(), np.eye(9)[5])
    parts = np.arange(2 * 9 * 3, dtype=np.float32).reshape(2, 27)
    by_hand = np.stack([parts[:, k::3].sum(1) for k in range(3)], 1)
    np.testing.assert_allclose(d._whole(parts), by_hand)
    np.testing.assert_allclose(d._whole(sparse.csr_array(parts)), by_hand)


def test_kinds_of_latents():
    colour, digit = np.array([0.6, 0.1, 0.3, 0.9]), np.array([0.1, 0.6, 0.3, 0.0])
    found = d._kinds(colour, digit, np.array([True, True, True, False]))
    assert list(found) == ["colour", "shape", "mixed", "silent"]


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_array])
def test_a_readout_reads_what_is_there(wrap):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 1000)
    z = (5 + np.eye(10)[labels] + 0.1 * rng.normal(size=(1000, 10))).astype(np.float32)
    weights, bias = d._readout(wrap(z), labels)
    assert ((z @ weights + bias).argmax(1) == labels).mean() > 0.99
    held, _ = d._readout(wrap(z), labels, 1.0)
    assert np.linalg.norm(held) < 0.5 * np.linalg.norm(weights)
    np.testing.assert_allclose(d._spread(wrap(z)), z.std(0), rtol=1e-2)


# --- in the network ------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", d.LAYERS)
def test_autoencoders_of_every_layer(layer):
    config = d._config("cheater", 0, layer)
    metrics = d.fetch(d.coded, config, d.data_md5()).record["metrics"]
    assert 0 < metrics["fvu"] < 5 and metrics["l0"] > 0 and 0 <= metrics["dead"] <= 1
    assert np.isfinite(metrics["loss recovered"])
    sae = d.autoencoder(config)
    assert sae.decoder.shape == (2 * d.LAYERS[layer], d.LAYERS[layer])


def test_products_of_latents_are_the_network_with_its_latents_turned():
    model, sae = cheater(0), d.autoencoder(d._config("cheater", 0))
    images = d._grid("validation", 2, 5)[0][:40]
    parts, channels = d._parts(model, images, sae)
    z, x = d._whole(parts), d._whole(channels)
    head, offset = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    logits = {"search": x @ head.T + offset}
    np.testing.assert_allclose(logits["search"], predict(model, images), atol=1e-4)
    rng = np.random.default_rng(0)
    dials = rng.uniform(0, 2, z.shape[1]).astype(np.float32)
    effect = sae.directions().numpy() @ head.T
    levels = d._levels(logits, {"search": z}, effect, dials, z.mean(0))
    edited = d._turned(logits, {"search": z}, effect, dials, z.mean(0), "balanced")["search"]
    with rewritten(model, d.LAYER, turned(sae, dials, levels)), torch.no_grad():
        hooked = model(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(edited, hooked, atol=2e-3)

    # and with a dial for each latent in each cell
    by_cell = rng.uniform(0, 2, (9, z.shape[1])).astype(np.float32)
    effects = np.tile(effect, (9, 1))
    edited = d._dialled(logits, {"search": parts}, effects, by_cell.ravel(), 0)["search"]
    band = np.repeat(np.arange(3), np.diff(d.CUTS))
    at_place = torch.from_numpy(by_cell[(3 * band[:, None] + band).ravel()])  # (49, L)

    def rewrite(rows):
        change = sae.encode(rows).view(-1, 49, z.shape[1]) * (at_place - 1)
        return rows + (change @ sae.directions()).flatten(0, 1)

    with rewritten(model, d.LAYER, rewrite), torch.no_grad():
        hooked = model(torch.from_numpy(images)).numpy()
    centred = [value - value.mean(1, keepdims=True) for value in (edited, hooked)]
    np.testing.assert_allclose(*centred, atol=2e-3)


def test_operated_numbers_agree_with_each_other():
    artifact = d.fetch(d.operated, d._operated_config(0), d.data_md5())
    metrics, tensors = artifact.record["metrics"], artifact.tensors
    split = d.colour_split("hard", d.TEST_SEED)
    called = predict(cheater(0), split.images).argmax(1)
    assert metrics["none | none | hard"] == pytest.approx((called == split.labels).mean(), abs=2e-3)
    for basis in d.BASES:
        scores = [metrics[f"{basis} | {p} | validation"] for p in d.PROCEDURES]
        assert metrics[f"{basis} | chosen | validation"] == max(scores)
        assert d.PROCEDURES[int(metrics[f"{basis} | chosen | which"])]
    best = tensors["curve"][2, :, 0].max()
    assert metrics["SAE latents | balanced | validation"] == pytest.approx(best)
    plain = metrics["SAE latents | balanced | validation"]
    assert tensors["amplified"][0, 0] == pytest.approx(plain)  # times 1
    share = tensors["ink share"][tensors["order"]]
    assert (np.diff(share) <= 0).all()
    assert tensors["walk"].shape == (11, 6, 10)
    np.testing.assert_allclose(tensors["walk"].sum(2), 1, rtol=1e-4)
    assert ((tensors["moved"] >= 0) & (tensors["moved"] <= 1)).all()


def test_only_training_and_validation_digits_choose(monkeypatch):
    """Other test images: other results on them, the same dials, order and counts."""
    config = d._operated_config(0)
    _, before = d.operated(**config)
    first = d.first_of

    def shuffled(name, count):
        made = first(name, count)
        return made.take(np.arange(len(made))[::-2])

    monkeypatch.setattr(d, "first_of", shuffled)
    _, after = d.operated(**config)
    for name, value in before.items():
        if name.endswith(("validation", "count", "which")):
            assert after[name] == pytest.approx(value), name
    assert any(after[n] != v for n, v in before.items() if n.endswith("hard"))


def test_tables_and_labels():
    d.prepare()
    assert list(d.chosen_quality()) == ["l0", "fvu", "dead", "loss recovered", "stability"]
    assert list(d.sweep()) == ["topk", "relu"] and len(d.quality_table()) == 5
    table = d.auroc_table()
    assert list(table["reader"]) == 3 * list(d.READERS) and table["network"].nunique() == 3
    for kind in d.KINDS:
        found = d.found(kind)
        assert 0 <= found["colours found"].mean <= 10 and found["colour probe"].n == len(seeds())
        assert 0 <= found["right, colours held"].mean <= 1
    assert list(d.use_table()["network"]) == list(d.KINDS)
    shares = d.label_shares()
    assert sum(value.mean for value in shares.values()) == pytest.approx(1)
    cards = d.contact_sheet()
    assert len(cards) == d.SHOWN and cards[0]["images"].shape == (9, 3, 28, 28)
    cured = d.cure()
    assert -1 <= cured["margin"].mean <= 1 and cured["hard"].n == len(seeds())
    assert all(name in d.PROCEDURES for name in d.chosen_procedure().split(" or "))
    assert len(d.cure_table()) == 1 + 5 * 3 + 3 and len(d.refit_table()) == 8
    assert not d.cure_table().isna().any(axis=None)
    assert len(d.amplified_table()) == len(d.FACTORS) and len(d.dial_table()) >= 1
    assert list(d.depth_table()["layer"]) == list(d.DEPTHS)
    needed = d.needed()
    assert 1 <= needed["most"].mean <= needed["of"].mean
    curves = d.silence_curves()
    assert curves["zeroed"].shape == (len(seeds()), len(d.SHARES), 2)
    assert d.dials()["moved"]["balanced"].shape == (10,)


def test_the_chapter_asks_for_what_there_is():
    """All its cells, and the expressions in its prose, in order."""
    text = (d.LABELS.parent / "decomposition.qmd").read_text("utf-8")
    names: dict = {}
    pieces = re.split(r"^```\{python\}\n(.*?)^```$", text, flags=re.M | re.S)
    for number, piece in enumerate(pieces):
        if number % 2:
            exec(piece, names)
        else:
            for expression in re.findall(r"`\{python\} ([^`]+)`", piece):
                assert isinstance(eval(expression, names), str), expression


def test_latents_have_a_page(tmp_path, monkeypatch):
    file = tmp_path / "labels.csv"
    file.write_text(f"autoencoder,latent,label\n{d.autoencoder_mark()},3,thin red\n")
    monkeypatch.setattr(d, "LABELS", file)
    assert d.write_latents() == 2 * 256  # cheater and cure
    page = BeautifulSoup((cache_dir() / "pages" / "latents.html").read_text("utf-8"), "html.parser")
    rows = page.select("tbody tr")
    assert len(rows) == 2 * 256
    assert "thin red" in page.find(id="cheater/latent/3").get_text()
    assert "thin red" not in page.find(id="cure/latent/3").get_text()
    assert page.find("a", href="report/decomposition.html")


def test_labels_by_eye_count_only_for_their_own_autoencoder(tmp_path):
    file = tmp_path / "labels.csv"
    mark = d.autoencoder_mark()
    file.write_text(f"autoencoder,latent,label\n{mark},3,thin red\nelse,4,loop\n")
    assert d.manual_labels(file) == {3: "thin red"}
    file.write_text(f"autoencoder,latent,label\n{mark},three,thin red\n")
    with pytest.raises(ValueError, match="line 2"):
        d.manual_labels(file)
