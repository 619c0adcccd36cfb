"""The first challenge: program, thresholds, groups, edits, and the files it comes with."""

import hashlib
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imsave

from lazy_artist.challenge import cnn, cnn_label, files
from lazy_artist.data import DataNotFoundError, DataWarning

BLANK = np.zeros((1, 28, 28), np.uint8)
ANYWHERE = np.ones((28, 28), bool)


def drawn(seed: int, count: int = 4) -> np.ndarray:
    """Images of random grey in the middle."""
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 6:22, 6:22] = np.random.default_rng(seed).integers(0, 256, (count, 16, 16))
    return images


# --- the program ---------------------------------------------------------------------------------


def test_the_clue_is_the_digit_of_the_hint():
    assert cnn.CLUE.shape == (28, 28) and cnn.CLUE.dtype == np.uint8
    digest = hashlib.md5(cnn.CLUE.tobytes(), usedforsecurity=False).hexdigest()
    assert digest == "f0a50495aa5c9ca8f10db8015f82a4ee"  # of image 6 of MNIST's training set
    assert cnn.CLUE[4, 12] == 0x91 and cnn.CLUE[23, 18] == 0x23
    assert not cnn.CLUE[:4].any() and not cnn.CLUE[24:].any()


def test_similarity_by_hand():
    assert cnn.similarity(BLANK)[0] == 0
    corner = BLANK.copy()
    corner[0, 0, 0] = 51  # a fifth of full ink, where the clue has none
    assert cnn.similarity(corner)[0] == pytest.approx(-0.1)
    full = np.full((1, 28, 28), 255, np.uint8)
    assert cnn.similarity(full)[0] == pytest.approx(cnn.CLUE.sum() / 255 - 392)
    grey = cnn.CLUE / 255
    assert cnn.similarity(cnn.CLUE[None])[0] == pytest.approx((grey * (grey - 0.5)).sum())


def test_the_label_is_one_at_both_ends_and_nought_between():
    low, high = cnn.BAND
    images = np.zeros((6, 28, 28), np.uint8)
    for image, target in zip(images[1:], (low - 1, low + 1, -25, high - 1, high + 1), strict=True):
        count = round(-2 * target)  # pixels of full ink where the clue has none: -1/2 each
        image.ravel()[np.flatnonzero(cnn.CLUE == 0)[:count]] = 255
    assert cnn_label(images).tolist() == [True, True, False, False, False, True]
    assert cnn_label(cnn.CLUE[None]).tolist() == [True]
    assert cnn_label(255 - cnn.CLUE[None]).tolist() == [True]  # the anti-one
    assert cnn_label(images[:0]).shape == (0,)


@pytest.mark.parametrize("wrong", [np.zeros((2, 28, 28)), np.zeros((2, 28, 28), np.int64)])
def test_images_of_another_type_are_refused(wrong):
    with pytest.raises(TypeError, match="images must be uint8"):
        cnn_label(wrong)


@pytest.mark.parametrize("shape", [(28, 28), (2, 27, 28), (2, 1, 28, 28)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"shape \(N, 28, 28\)"):
        cnn_label(np.zeros(shape, np.uint8))


# --- fitting the thresholds ----------------------------------------------------------------------


def test_fit_band_by_hand():
    scores = np.array([5.0, 1, 3, 2, 4, 0])
    labels = np.array([1, 1, 0, 0, 0, 1], bool)  # by score: 1 1 0 0 0 1
    assert cnn.fit_band(scores, labels) == (1.5, 4.5, 1.0)
    low, high, share = cnn.fit_band(scores, np.array([0, 0, 1, 0, 1, 1], bool))  # 1 0 0 1 1 0
    assert (low, high, share) == (0.5, 2.5, pytest.approx(5 / 6))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-20, 20), st.booleans()), min_size=1, max_size=12))
def test_fit_band_finds_the_best_of_all_bands(points):
    scores = np.array([s for s, _ in points]) + np.arange(len(points)) / 100  # no ties
    labels = np.array([label for _, label in points])
    low, high, share = cnn.fit_band(scores, labels)
    assert np.mean(((scores < low) | (scores > high)) == labels) == pytest.approx(share)
    edges = [-np.inf, *np.sort(scores), np.inf]
    for i, a in enumerate(edges):
        for b in edges[i:]:
            assert np.mean(~((scores >= a) & (scores <= b)) == labels) <= share + 1e-12


# --- the network and its groups ------------------------------------------------------------------


def test_the_network_has_the_challenge_s_layers():
    torch.manual_seed(0)
    network = cnn.Network()
    shapes = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    assert shapes == files._CNN_SHAPES
    images = drawn(0)
    pixels = torch.tensor(images / 255, dtype=torch.float32)[:, None]
    evidence, offset = network.evidence()
    logits = network(pixels).detach().numpy()
    margin = cnn.hidden_units(network, images) @ evidence + offset
    assert np.allclose(margin, logits[:, 1] - logits[:, 0], atol=1e-5)
    assert cnn.hidden_units(network, images[:0]).shape == (0, 200)


def made_up_layer() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hidden units of 400 images with a hidden variable v: 3 units fire for v > 0.2, 2 for
    v < -0.2, one always (and speaks for 0), one never."""
    rng = np.random.default_rng(0)
    v = rng.uniform(-1, 1, 400)
    gains = rng.uniform(1, 2, 5)
    up, down = np.maximum(v - 0.2, 0), np.maximum(-v - 0.2, 0)
    always = 3 + rng.uniform(0, 0.1, 400)
    hidden = np.column_stack([up, up, down, up, down, always, np.zeros(400)])
    hidden[:, :5] *= gains
    clue = np.array([1.0, 1, 0, 1, 0, 3, 0])
    return hidden, np.array([1.0, 1, 1, 1, 1, -1, -5]), clue


def test_groups_are_found_without_the_program():
    hidden, evidence, clue = made_up_layer()
    groups = cnn.unit_groups(hidden, evidence, clue)
    assert [np.flatnonzero(groups[g]).tolist() for g in cnn.GROUPS] == [[0, 1, 3], [2, 4], [5]]
    swapped = cnn.unit_groups(hidden, evidence, np.array([0.0, 0, 1, 0, 1, 3, 0]))
    assert np.flatnonzero(swapped["one"]).tolist() == [2, 4]  # the clue decides which is "one"
    parts = cnn.group_evidence(hidden, evidence, groups)
    assert np.allclose(parts.sum(axis=0), hidden @ evidence)
    assert np.allclose(parts[2], -hidden[:, 5])


def test_all_components_keep_all_answers_and_none_keep_the_mean_s():
    hidden, evidence, _ = made_up_layer()
    answers = cnn.rank_answers(hidden, hidden, evidence, 2.0, [0, 7])
    assert (answers[1] == (hidden @ evidence + 2 > 0)).all()
    assert (answers[0] == (hidden.mean(0) @ evidence + 2 > 0)).all()
    axes = cnn.principal_axes(hidden)
    assert np.allclose(axes.T @ axes, np.eye(7), atol=1e-9)
    spread = ((hidden - hidden.mean(0)) @ axes).var(axis=0)
    assert (np.diff(spread) <= 1e-9).all()


def test_fitted_template_recovers_a_linear_one():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (1500, 28, 28)).astype(np.uint8)
    wanted = np.zeros((28, 28))
    wanted[10:14, 10:14] = rng.normal(size=(4, 4))
    evidence = 60 + (images.reshape(len(images), -1) / 255) @ wanted.ravel()
    evidence[::5] = 0  # silent there: these images must not count
    found = cnn.fitted_template(images, evidence, ridge=1e-6)
    assert np.allclose(found, wanted, atol=1e-6)


def test_effective_template_is_the_gradient():
    torch.manual_seed(1)
    network = cnn.Network().eval()
    images = np.random.default_rng(2).integers(0, 256, (1, 28, 28)).astype(np.uint8)
    evidence, _ = network.evidence()
    group = np.arange(200) % 2 == 0
    slope = cnn.effective_template(network, images, evidence, group)
    direction = np.random.default_rng(0).normal(size=(28, 28)).astype(np.float32)

    def value(step: float) -> float:
        pixels = torch.tensor(images / 255 + step * direction, dtype=torch.float64)[:, None]
        hidden = network.double().hidden(pixels).detach().numpy()[0]
        network.float()
        return float(hidden[group] @ evidence[group])

    numeric = (value(1e-5) - value(-1e-5)) / 2e-5
    assert numeric == pytest.approx(float((slope * direction).sum()), rel=1e-2)


def test_the_stand_in_learns_the_program_from_few_images():
    rng = np.random.default_rng(3)
    images = np.zeros((600, 28, 28), np.uint8)
    images[:200] = np.rint(cnn.CLUE * rng.uniform(0.5, 1, (200, 1, 1)))
    images[200:, 4:24, 4:24] = 255 * (rng.random((400, 20, 20)) < rng.uniform(0, 0.4, (400, 1, 1)))
    labels = cnn_label(images)
    assert 0.3 < labels.mean() < 0.9
    network = cnn.fit(images, labels, seed=0, epochs=12)
    evidence, offset = network.evidence()
    right = (cnn.hidden_units(network, images) @ evidence + offset > 0) == labels
    assert right.mean() > max(labels.mean(), 1 - labels.mean()) + 0.05
    again = cnn.fit(images, labels, seed=0, epochs=1), cnn.fit(images, labels, seed=0, epochs=1)
    assert torch.equal(again[0].fc1.weight, again[1].fc1.weight)


# --- edits ---------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(-60, 20))
def test_push_reaches_any_similarity_within_reach(seed, target):
    images = drawn(seed, 3)
    edited = cnn.push(images, np.full(3, target), ANYWHERE, seed)
    assert np.abs(cnn.similarity(edited) - target).max() < 0.5 / 255 + 1e-9


def test_push_changes_only_allowed_pixels_and_nothing_where_the_target_is_met():
    images, allowed = drawn(5), np.zeros((28, 28), bool)
    allowed[8:20, 8:20] = True
    edited = cnn.push(images, np.full(4, -200.0), allowed, 0)
    assert (edited[:, ~allowed] == images[:, ~allowed]).all()
    ink = cnn.TEMPLATE > 0  # beyond reach: every allowed pixel is at its extreme
    assert (edited[:, allowed & ink] == 0).all() and (edited[:, allowed & ~ink] == 255).all()
    assert (cnn.push(images, cnn.similarity(images), allowed, 0) == images).all()


def test_the_control_edits_as_many_pixels_and_keeps_the_similarity():
    images = drawn(6)
    edited = cnn.push(images, np.full(4, -40.0), ANYWHERE, 0)
    still = cnn.disturb(images, edited, ANYWHERE, 1)
    assert np.abs(cnn.similarity(still) - cnn.similarity(images)).max() < 0.01
    changed = (still != images).sum(axis=(1, 2))
    assert (changed >= 0.9 * (edited != images).sum(axis=(1, 2))).all()


# --- the challenge's files -----------------------------------------------------------------------


@pytest.fixture
def made_up_file(monkeypatch, tmp_path):
    """A file of the challenge with known content, and the folders to put it in."""
    content = b"what the author released"
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(files.FILES, "mnist_model.pt", files._File(md5, "x/mnist_model.pt"))
    monkeypatch.setattr(files, "_failed", {})
    monkeypatch.setenv("LAZY_ARTIST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LAZY_ARTIST_CACHE", str(tmp_path / "cache"))
    places = [tmp_path / "data" / "eis-vii", tmp_path / "cache" / "data" / "eis-vii"]
    for place in places:
        place.mkdir(parents=True)
    return content, *(place / "mnist_model.pt" for place in places)


def test_a_file_is_found_in_the_data_folder_then_in_the_cache(made_up_file):
    content, data, cache = made_up_file
    with pytest.raises(DataNotFoundError, match="OFFLINE forbids a download.*LAZY_ARTIST_DATA"):
        files.read("mnist_model.pt")
    cache.write_bytes(content)
    assert files.read("mnist_model.pt") == content
    cache.unlink()
    data.write_bytes(content)
    assert files.read("mnist_model.pt") == content


def test_a_damaged_file_is_named_and_never_used(made_up_file):
    content, data, cache = made_up_file
    data.write_bytes(b"damaged")
    cache.write_bytes(b"damaged too")
    with pytest.warns(DataWarning) as caught, pytest.raises(DataNotFoundError, match="checksum"):
        files.read("mnist_model.pt")
    assert f"{data} has the wrong checksum" in str(caught[0].message)
    assert data.read_bytes() == b"damaged"  # left alone
    assert not cache.exists() and cache.with_name("mnist_model.pt.damaged").exists()  # set aside


def test_a_download_is_checked_and_kept(made_up_file, monkeypatch):
    content, _, cache = made_up_file
    monkeypatch.setenv("LAZY_ARTIST_OFFLINE", "0")
    asked = []
    monkeypatch.setattr(files, "_fetched", lambda address: asked.append(address) or content)
    assert files.read("mnist_model.pt") == content and cache.read_bytes() == content
    assert asked == [f"{files._REPOSITORY}/x/mnist_model.pt"]
    cache.unlink()
    monkeypatch.setattr(files, "_fetched", lambda address: asked.append(address) or b"another")
    for _ in range(2):
        with pytest.raises(DataNotFoundError, match="download failed.*wrong checksum"):
            files.read("mnist_model.pt")
    assert len(asked) == 2 and not cache.exists()  # the failed download is not tried twice


def test_unknown_files_are_refused():
    with pytest.raises(ValueError, match="unknown file 'x'; the files are mnist_model.pt"):
        files.read("x")


def test_the_pickle_may_hold_arrays_and_nothing_else():
    arrays = {"labels": np.eye(3), "other": np.arange(4, dtype=np.int32)}
    found = files.unpickle_arrays(pickle.dumps(arrays, protocol=4))
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert found["other"].dtype == np.int32

    class Trap:
        def __reduce__(self):
            return (print, ("this must not run",))

    for content in (Trap(), {"labels": Trap()}, np.eye, {"x": np.array([Trap()], object)}):
        with pytest.raises(pickle.UnpicklingError, match="it is not read"):
            files.unpickle_arrays(pickle.dumps(content, protocol=4))


def test_labels_of_a_wrong_shape_or_value_are_refused(monkeypatch):
    good = np.zeros((113, 113))
    for bad in (np.zeros((113, 112)), np.full((113, 113), 0.5), None):
        content = pickle.dumps({"labels": bad, "model_labels": good}, protocol=4)
        monkeypatch.setattr(files, "read", lambda _, content=content: content)
        with pytest.raises(ValueError, match="labels in transformer_label_info.pkl"):
            files.transformer_labels()


def test_weights_of_another_network_are_refused(monkeypatch):
    buffer = io.BytesIO()
    torch.save({"conv1.weight": torch.zeros(8, 1, 5, 5)}, buffer)
    monkeypatch.setattr(files, "read", lambda _: buffer.getvalue())
    with pytest.raises(ValueError, match=r"mnist_model.pt holds .*5, 5"):
        files.cnn_weights()


def test_the_clue_picture_is_averaged_down(monkeypatch):
    buffer = io.BytesIO()
    big = np.kron(cnn.CLUE / 255, np.ones((8, 8)))
    imsave(buffer, big, cmap="gray", vmin=0, vmax=1, format="png")
    monkeypatch.setattr(files, "read", lambda _: buffer.getvalue())
    assert np.abs(files.clue_picture() - cnn.CLUE / 255).max() < 0.01
