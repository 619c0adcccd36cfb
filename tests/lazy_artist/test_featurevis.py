"""Feature visualisation on networks whose optima are known."""

import numpy as np
import pytest
import scipy.special
import torch
from detectors import Detector, two_filters

from lazy_artist import featurevis
from lazy_artist.chapters import prober
from lazy_artist.featurevis import visualise
from lazy_artist.models import build
from lazy_artist.tuning import activations

PIXELS = {"parametrisation": "pixels"}


def test_the_known_optimum_is_found_wherever_it_lies(monkeypatch):
    bar = prober.patterns()["red vertical bar"]
    monkeypatch.setattr(prober, "patterns", lambda: {"bar": bar})
    assert prober.recover_patterns.__wrapped__("max", "fourier", True).cosine[0] >= 0.95


def test_a_unit_is_shown_what_it_sees_at_its_place_and_the_rest_stays():
    """A red vertical bar, seven high and one wide, on black."""
    bar = prober.patterns()["red vertical bar"]
    model = Detector(torch.where(bar > 0, 1, -0.5)[None], [[1.0]]).eval()
    settings = dict(where=(14, 10), robust=False, **PIXELS)
    images, _ = visualise(model, "layer", **settings)
    patch = images[0, 0, :, 11:18, 7:14]
    assert patch[0, :, 3].sum() / np.linalg.norm(patch) / 7**0.5 >= 0.95  # a cosine
    start, _ = visualise(model, "layer", **settings, learning_rate=0)
    np.testing.assert_allclose(images[..., 20:], start[..., 20:], atol=1e-6)


def test_channels_their_negatives_combinations_and_logits():
    directions = np.array([[1, 0], [-1, 0], [1, -1]])
    images, scores = visualise(two_filters(), "layer", directions, steps=48, **PIXELS)
    red, not_red, red_not_green = images[:, 0].mean((2, 3))
    assert red[0] > 0.95 and 0.45 < red[1] < 0.55 and 0.45 < red[2] < 0.55
    assert not_red[0] < 0.05 and 0.45 < not_red[1] < 0.55
    assert red_not_green[0] > 0.95 and red_not_green[1] < 0.05
    expected = [red[0], -not_red[0], red_not_green[0] - red_not_green[1]]
    np.testing.assert_allclose(scores[:, 0], expected, atol=1e-5)
    images, scores = visualise(two_filters(), "head", steps=48, **PIXELS)
    red, both = images[:, 0].mean((2, 3))
    assert red[0] > 0.95 and red[1] < 0.6 and both[:2].min() > 0.95
    assert scores[1, 0] == pytest.approx(both[0] + 2 * both[1], abs=1e-4)


def test_a_silent_channel_is_woken_and_scores_are_of_the_layers_own_output():
    """Shut on a grey image, 1 on pure red; what suppresses it gives 0 and not less."""
    model = Detector(torch.tensor([1, -0.8, -0.8]).view(1, 3, 1, 1), [[1.0]]).eval()
    _, scores = visualise(model, "layer", np.array([[1], [-1]]), **PIXELS)
    assert scores[0, 0] > 0.9 and scores[1, 0] == pytest.approx(0, abs=1e-3)
    model = build("resnet18", 0).eval()  # its ReLUs work in place
    images, scores = visualise(model, "layer4", np.eye(128)[:3], steps=4)
    again = activations(model, ["layer4"], images[:, 0])["layer4"]
    np.testing.assert_allclose(scores[:, 0], again[range(3), range(3)], atol=1e-5)


def test_each_channel_comes_out_as_it_would_alone():
    """Of 64 channels, 42 are drawn in the first pass."""
    model, settings = build("cnn", 3).eval(), dict(optima=3, steps=4)
    every, _ = visualise(model, "block2", **settings)
    for channel in (17, 50):
        alone, other = (
            visualise(model, "block2", np.eye(64)[[channel]], **settings, seed=seed)[0]
            for seed in (0, 1)
        )
        np.testing.assert_allclose(every[channel], alone[0], atol=1e-3)
        assert np.abs(alone - other).max() > 0.01


def test_diversity_keeps_the_optima_of_a_channel_apart():
    model = build("cnn", 0).eval()

    def likeness(diversity):
        images, _ = visualise(model, "block1", optima=2, diversity=diversity, steps=32)
        maps = model.block1(torch.from_numpy(images.reshape(-1, 3, 28, 28))).detach()
        gram = torch.einsum("nkhw,nlhw->nkl", maps, maps).flatten(1).unflatten(0, (-1, 2))
        return float(torch.cosine_similarity(gram[:, 0], gram[:, 1]).mean())

    assert likeness(2.0) < likeness(0.0) - 0.02
    # of three optima two excite channel 0 and one channel 1: alike (1), and not at all (0)
    maps = torch.zeros(1, 3, 2, 1, 2)
    maps[0, 0, 0], maps[0, 1, 0], maps[0, 2, 1] = 1, 3, 1
    torch.testing.assert_close(featurevis._likeness(maps), torch.tensor([[0.5, 0.5, 0.0]]))


def test_colours_are_mixed_by_the_root_and_waves_by_their_frequency():
    """With one direction in the root all that is drawn is twice as much red as green. The power of
    the start, which is noise, goes as 1 / f squared in waves and is level in pixels."""
    root = np.array([[2, 0, 0], [1, 0, 0], [0, 0, 0]], np.float32)
    power = {}
    for way in featurevis.PARAMETRISATIONS:
        images, _ = visualise(two_filters(), "layer", steps=3, root=root, parametrisation=way)
        red, green, blue = np.moveaxis(scipy.special.logit(images), 2, 0)
        np.testing.assert_allclose(red, 2 * green, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(blue, 0)
        start = dict(optima=99, steps=1, learning_rate=0, diversity=0, parametrisation=way)
        images, _ = visualise(two_filters(), "layer", np.eye(2)[:1], **start)
        spectrum = np.square(np.abs(np.fft.fft2(scipy.special.logit(images[0].astype(float)))))
        power[way] = spectrum.mean((0, 1))[:, 0]  # along columns
    assert power["fourier"][2] / power["fourier"][8] == pytest.approx(16, rel=0.3)
    assert power["pixels"][[1, 2, 8]] == pytest.approx(0.25 * 784, rel=0.3)


@pytest.mark.parametrize("way", featurevis.PARAMETRISATIONS)
def test_an_ascent_can_start_from_an_image(way, monkeypatch):
    """Without a step what comes back is the image, in mixed colours too, under the noise."""
    root = np.array([[1, 0.5, 0], [0.5, 1, 0], [0, 0.2, 0.8]], np.float32)
    begin = np.random.default_rng(2).uniform(0.1, 0.9, (2, 3, 28, 28)).astype(np.float32)
    begin[1] /= 2
    settings = dict(steps=1, learning_rate=0, root=root, parametrisation=way)
    noisy, _ = visualise(two_filters(), "layer", start=begin, **settings, optima=2)
    monkeypatch.setattr(featurevis, "START", 0)
    images, _ = visualise(two_filters(), "layer", start=begin, **settings)
    np.testing.assert_allclose(images[:, 0], begin.clip(0.02), atol=1e-4)
    assert (noisy[:, 0] != noisy[:, 1]).any() and np.abs(noisy - images).mean() > 0.02
    with pytest.raises(ValueError, match="start must be images of shape"):
        visualise(two_filters(), "layer", start=begin[:1], **settings)


def test_the_colour_root_by_hand():
    """Red varies between 0 and 1 and green between 0 and 0.5, apart and then together."""
    images = np.zeros((4, 3, 28, 28), np.float32)
    images[2:, 0], images[1::2, 1], images[:, 2] = 1, 0.5, 0.25
    np.testing.assert_allclose(featurevis.colour_root(images), np.diag([1, 0.5, 0]), atol=1e-6)
    images[:, 1] = images[:, 0]
    root = featurevis.colour_root(images)
    np.testing.assert_allclose(root[:2, :2], np.full((2, 2), 2**-0.5), atol=1e-3)


def test_augmentation_moves_all_images_alike_and_little():
    """In pixels: the middle is shifted by up to 1.5; a corner (13.5 off, either way) goes 19.1 *
    0.087 = 1.7 more when turned by 5 degrees, and 0.7 each way when zoomed."""
    images = torch.zeros(2, 3, 28, 28)
    images[:, 0], images[:, 1] = torch.meshgrid(*[torch.arange(28.0)] * 2, indexing="ij")
    generator, middle, farthest = torch.Generator().manual_seed(0), [], []
    for _ in range(40):
        moved = featurevis._shaken(images, generator)
        torch.testing.assert_close(moved[0], moved[1])
        distance = (moved - images)[0, :2].abs()
        middle.append(distance[:, 13:15, 13:15].amax((1, 2)))
        farthest.append(float(distance.max()))
    assert all(1.3 < most < 1.6 for most in torch.stack(middle).amax(0))  # down and right
    assert 1.8 < max(farthest) < 1.5 + 1.2 + 0.7


def test_bad_input_is_named():
    for given, message in (
        ({"directions": np.eye(3)}, r"directions must have shape \(M, 2 channels"),
        ({"where": (28, 0)}, r"in \(28, 28\), not \(28, 0\)"),
        ({"where": (0, 28)}, '"mean", "max"'),
        ({"parametrisation": "wavelet"}, "must be fourier or pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            visualise(two_filters(), "layer", **given)
