"""The playground's digits: chosen by rule, cloaked as said, and written."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from cells import run_cells, table

from lazy_artist import playground
from lazy_artist.canvas import PALETTE, colour_split, paint, split_digits
from lazy_artist.chapters import playground as chapter
from lazy_artist.config import TEST_SEED
from lazy_artist.data import cache_dir
from lazy_artist.debias import BEST, find
from lazy_artist.evaluate import predict
from lazy_artist.models import CNN, build
from lazy_artist.networks import Network

cloak_seven = chapter.cloak_seven.__wrapped__


def leaning(seed: int) -> CNN:
    """Untrained, but with a leaning towards 7 that a change of the picture can overcome."""
    model = build("cnn", seed).requires_grad_(False).eval()
    model.head.weight.mul_(300)
    model.head.bias.zero_()
    mean = predict(model, colour_split("aligned", TEST_SEED).images[:20]).mean(0)
    model.head.bias.copy_(torch.from_numpy(2 * np.eye(10)[7] - mean))
    return model


def sevens() -> np.ndarray:
    return np.flatnonzero(split_digits("test")[1] == 7)


@pytest.mark.parametrize(
    ("reached", "chosen", "sizes"),
    [([True, False, True, True], 3, [0.3, 0.4]), ([False] * 4, 0, [])],  # of the third, the fourth
)
def test_the_seven_is_the_first_that_both_read_and_that_can_be_cloaked_for_both(
    monkeypatch, reached, chosen, sizes
):
    """For two networks, of which one misreads the first seven and one the second, and searches that
    succeed as `reached` says, one after the other, with a change of 0.1 times their number."""
    greys, calls = split_digits("test")[0][sevens()[:4]], []
    pictures = [playground.paint_digit(grey, PALETTE[7], chapter.background()) for grey in greys]

    def top_class(model, images):
        np.testing.assert_array_equal(images, pictures)
        return np.where(np.arange(4) == "ab".index(model), 4, 7), None

    def search(model, images, target, criterion, steps):
        assert (model, target, criterion, steps) == ("ab"[len(calls) % 2], 3, 0.9, 5)
        calls.append(np.float32(images + 0.1 * (len(calls) + 1)))
        return SimpleNamespace(reached=np.array([reached[len(calls) - 1]]), images=calls[-1])

    monkeypatch.setattr(playground, "top_class", top_class)
    monkeypatch.setattr(chapter, "minimal_epsilon", search)
    found = cloak_seven([SimpleNamespace(load=lambda name=name: name) for name in "ab"], 4, 5)
    assert found["index"].tolist() == [sevens()[chosen]] and len(calls) == 4
    assert [float(delta.mean()) for delta in found["delta"]] == pytest.approx(sizes, abs=1e-6)
    seven = chapter.presets(["a", "b"], found)[-1]
    assert len(seven.cloaks) == (3 if sizes else 0)
    assert seven.title == ("a 7 under its cloak" if sizes else "a 7")


def test_presets_are_first_digits_and_carry_a_control_as_large_as_the_larger_cloak():
    images, labels = split_digits("test")
    firsts = [images[np.argmax(labels == digit)] for digit in range(10)]
    np.testing.assert_array_equal(chapter.examples(), firsts)
    delta = np.stack([np.full((3, 28, 28), size, np.float32) for size in (0.02, -0.05)])
    made = chapter.presets(["a", "b"], {"index": sevens()[4:5], "delta": delta})
    assert [(one.path, one.title, one.label, one.colour) for one in made] == [
        ("red-1", "a red 1", 1, 0),
        ("green-0", "a green 0", 0, 1),
        ("cloaked-7", "a 7 under its cloak", 7, 7),
    ]
    greys = [firsts[1], firsts[0], images[sevens()[4]]]
    np.testing.assert_array_equal([one.grey for one in made], greys)
    first, second, (_, control) = made[2].cloaks
    assert (first.title, second.title) == ("made for the a", "made for the b")
    np.testing.assert_array_equal([first.delta, second.delta], delta)
    assert set(np.unique(control)) == {np.float32(-0.05), np.float32(0.05)}
    assert abs(control.mean()) < 0.01


def test_the_background_is_that_of_the_first_painted_test_image():
    images = split_digits("test")[0][:1]
    painted = paint(images, np.array([4]), TEST_SEED)[0]
    empty = np.broadcast_to(images == 0, painted.shape)
    assert empty.mean() > 0.5
    np.testing.assert_array_equal(chapter.background()[empty], painted[empty])


def test_the_chapter_shows_cheater_and_best_cure_of_the_first_seed(monkeypatch):
    asked, found, models = set(), {}, {"cheater": leaning(0), "cure": leaning(1)}

    def load(network):
        asked.add((network.name, network.seed, network.made_by.arguments.get("method")))
        return models[network.name]

    def fewer_steps(networks, n, steps):
        assert (n, steps) == (50, 100)
        found.update(cloak_seven(networks, n, 20))
        return found

    monkeypatch.setattr(Network, "load", load)
    monkeypatch.setattr(chapter, "cloak_seven", fewer_steps)
    shown, inline = run_cells("playground")
    assert asked == {("cheater", 0, None), ("cure", 0, find(BEST).train)}
    told = table(shown["tbl-presets"])
    page = BeautifulSoup((cache_dir() / "pages/playground.html").read_text(), "html.parser")
    for row in page.find("noscript").find_all("tr"):
        title, _, *texts = (cell.text for cell in row.find_all(["th", "td"]))
        assert told[title] == texts
    # a cloak at full strength makes its network confident of a 3, no more than it takes
    bare, cheater, cure, _ = list(told.values())[3:]
    assert bare[0][0] == bare[1][0] == "7"
    for text in (cheater[0], cure[1]):
        assert text in [f"3, {share}% confident" for share in range(90, 95)]
    one, two = np.abs(found["delta"]).max((1, 2, 3))
    sizes = f"{one:.3f} (made for the cheater), {two:.3f} (made for the cure), {max(one, two):.3f}"
    assert inline["sizes"] == sizes + " (random signs, as large as the larger)"
