"""The playground's digits: chosen by rule, cloaked as said, and written."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from cells import run_cells

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
    model = build("cnn", seed).eval()
    images = colour_split("aligned", TEST_SEED).images[:20]
    with torch.no_grad():
        model.head.weight.mul_(300)
        model.head.bias.zero_()
        model.head.bias.sub_(torch.from_numpy(predict(model, images)).mean(0))
        model.head.bias[7] += 2
    return model


def sevens() -> np.ndarray:
    return np.flatnonzero(split_digits("test")[1] == 7)


def searched(monkeypatch, reached: list[bool]) -> tuple[dict[str, np.ndarray], int]:
    """What is found for two networks, of which one misreads the first seven and one the second, by
    searches that succeed as `reached` says, one after the other, with a change of 0.1 times their
    number; and how many searches there were."""
    pictures = [playground.paint_digit(g, PALETTE[7], chapter.background()) for g in greys(4)]
    calls = []

    def top_class(model, images):
        np.testing.assert_array_equal(images, pictures)
        return np.where(np.arange(4) == "ab".index(model), 4, 7), None

    def search(model, images, target, criterion, steps):
        assert (model, target, criterion, steps) == ("ab"[len(calls) % 2], 3, 0.9, 5)
        calls.append(np.float32(images + 0.1 * (len(calls) + 1)))
        return SimpleNamespace(reached=np.array([reached[len(calls) - 1]]), images=calls[-1])

    monkeypatch.setattr(playground, "top_class", top_class)
    monkeypatch.setattr(chapter, "minimal_epsilon", search)
    both = [SimpleNamespace(load=lambda name=name: name) for name in "ab"]
    return cloak_seven(both, n=4, steps=5), len(calls)


def greys(n: int) -> np.ndarray:
    return split_digits("test")[0][sevens()[:n]]


def test_the_seven_is_the_first_that_both_read_and_that_can_be_cloaked_for_both(monkeypatch):
    found, _ = searched(monkeypatch, [True, False, True, True])  # of the third, and the fourth
    assert found["index"].tolist() == [sevens()[3]]
    np.testing.assert_allclose(found["delta"][0], 0.3, atol=1e-6)
    np.testing.assert_allclose(found["delta"][1], 0.4, atol=1e-6)


def test_where_no_seven_will_do_there_is_no_cloak(monkeypatch):
    found, searches = searched(monkeypatch, [False] * 4)
    assert found["index"].tolist() == [sevens()[0]] and searches == 4
    seven = chapter.presets(["a", "b"], found)[-1]
    assert seven.title == "a 7" and seven.cloaks == []


def test_presets_are_first_digits_and_carry_a_control_as_large_as_the_larger_cloak():
    images, labels = split_digits("test")
    firsts = [images[np.argmax(labels == digit)] for digit in range(10)]
    np.testing.assert_array_equal(chapter.examples(), firsts)
    delta = np.stack([np.full((3, 28, 28), size, np.float32) for size in (0.02, -0.05)])
    one, zero, seven = chapter.presets(["a", "b"], {"index": sevens()[4:5], "delta": delta})
    assert (one.path, one.title, one.label, one.colour) == ("red-1", "a red 1", 1, 0)
    assert (zero.path, zero.title, zero.label, zero.colour) == ("green-0", "a green 0", 0, 1)
    assert (seven.path, seven.label, seven.colour) == ("cloaked-7", 7, 7)
    for preset, grey in ((one, firsts[1]), (zero, firsts[0]), (seven, images[sevens()[4]])):
        np.testing.assert_array_equal(preset.grey, grey)
    assert [cloak.title for cloak in seven.cloaks[:2]] == ["made for the a", "made for the b"]
    assert [cloak.delta[0, 0, 0] for cloak in seven.cloaks[:2]] == pytest.approx([0.02, -0.05])
    control = seven.cloaks[2].delta
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
    lines = [line.strip("| ").split("|") for line in shown["tbl-presets"].data.splitlines()]
    table = [[cell.strip() for cell in line] for line in lines]
    assert table[0] == ["picture", "the cheater says", "the cure says"]
    page = BeautifulSoup((cache_dir() / "pages/playground.html").read_text(), "html.parser")
    assert page.find("h1").text == "The Playground"
    rows = [row.find_all("td") for row in page.find("noscript").find("tbody").find_all("tr")]
    assert table[2:] == [[title.text, *(cell.text for cell in cells)] for title, _, *cells in rows]
    # a cloak at full strength makes its network confident of a 3, no more than it takes
    bare, cheater, cure, _ = table[4:]
    assert bare[1][0] == bare[2][0] == "7"
    for text in (cheater[1], cure[2]):
        assert text in [f"3, {share}% confident" for share in range(90, 95)]
    largest = np.abs(found["delta"]).max((1, 2, 3))
    expected = f"{largest[0]:.3f} (made for the cheater), {largest[1]:.3f} (made for the cure), "
    assert (
        inline["sizes"] == expected + f"{largest.max():.3f} (random signs, as large as the larger)"
    )
