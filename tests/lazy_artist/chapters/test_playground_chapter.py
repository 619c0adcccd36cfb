"""The playground's digits: chosen by rule, cloaked as said, and written."""

from types import SimpleNamespace

import numpy as np
import pytest
from bs4 import BeautifulSoup
from cells import run_cells, table

from lazy_artist import playground
from lazy_artist.canvas import PALETTE, paint, split_digits
from lazy_artist.chapters import playground as chapter
from lazy_artist.config import TEST_SEED
from lazy_artist.data import cache_dir
from lazy_artist.debias import BEST, find
from lazy_artist.models import build
from lazy_artist.networks import Network

pick_digits = chapter.pick_digits.__wrapped__


def sevens() -> np.ndarray:
    return np.flatnonzero(split_digits("test")[1] == 7)


def digits_of_the_page() -> dict[str, np.ndarray]:
    """As they are for a network that reads no seven."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(playground, "top_class", lambda model, images: (np.zeros(len(images)), None))
        return pick_digits([SimpleNamespace(load=lambda: None)], 1, 5)


@pytest.mark.parametrize(
    ("reached", "chosen", "sizes"),
    [([True, False, True, True], 3, [0.3, 0.4]), ([False] * 4, 0, [])],  # of the third, the fourth
)
def test_the_first_seven_that_both_read_and_can_be_cloaked_for(monkeypatch, reached, chosen, sizes):
    """Of two networks one misreads the first seven and one the second; searches succeed as
    `reached` says, one after the other, with a change of 0.1 times their number."""
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
    found = pick_digits([SimpleNamespace(load=lambda name=name: name) for name in "ab"], 4, 5)
    np.testing.assert_array_equal(found["seven"], greys[chosen])
    assert len(calls) == 4
    assert [float(delta.mean()) for delta in found["delta"]] == pytest.approx(sizes, abs=1e-6)
    seven = chapter.presets(["a", "b"], found)[-1]
    assert (seven.title, len(seven.cloaks)) == (("a 7 under its cloak", 3) if sizes else ("a 7", 0))


def test_presets_are_first_digits_and_carry_a_control_as_large_as_the_larger_cloak():
    images, labels = split_digits("test")
    given = digits_of_the_page()
    firsts = given["examples"]
    assert all((firsts[k] == images[labels == k][0]).all() for k in range(10))
    delta = np.full((2, 3, 28, 28), 0.02, np.float32) * np.float32([1, -2.5])[:, None, None, None]
    seven = images[sevens()[4]]
    made = chapter.presets(["a", "b"], given | {"seven": seven, "delta": delta})
    assert [(one.path, one.title, one.label, one.colour) for one in made] == [
        ("red-1", "a red 1", 1, 0),
        ("green-0", "a green 0", 0, 1),
        ("cloaked-7", "a 7 under its cloak", 7, 7),
    ]
    greys = [firsts[1], firsts[0], seven]
    np.testing.assert_array_equal([one.grey for one in made], greys)
    titles, (*deltas, control) = zip(*made[2].cloaks, strict=True)
    assert titles[:2] == ("made for the a", "made for the b")
    np.testing.assert_array_equal(deltas, delta)
    assert (
        np.unique(control).tolist() == pytest.approx([-0.05, 0.05]) and abs(control.mean()) < 0.01
    )
    # the background is that of the first painted test image
    painted = paint(images[:1], np.array([4]), TEST_SEED)[0]
    empty = np.broadcast_to(images[0] == 0, painted.shape)
    np.testing.assert_array_equal(given["background"][empty], painted[empty])


def test_the_chapter_shows_cheater_best_cure_and_oracle_of_the_first_seed(monkeypatch):
    asked, delta = {}, np.full((2, 3, 28, 28), 0.02, np.float32)
    delta[1, 0, 0, 0] = -0.05

    def load(network):
        asked[network.name] = network.seed, network.made_by.arguments.get("method")
        return build("cnn", len(asked)).eval()

    def cloaked(networks, n, steps):
        assert (n, steps) == (50, 100)
        assert [network.name for network in networks] == ["cheater", "cure"]
        return digits_of_the_page() | {"delta": delta}

    monkeypatch.setattr(Network, "load", load)
    monkeypatch.setattr(chapter, "pick_digits", cloaked)
    shown, inline = run_cells("playground")
    assert asked == {"cheater": (0, None), "cure": (0, find(BEST).train), "oracle": (0, None)}
    told = table(shown["tbl-presets"])
    page = BeautifulSoup((cache_dir() / "pages/playground.html").read_text(), "html.parser")
    for row in page.find("noscript").find_all("tr"):
        title, _, *texts = (cell.text for cell in row.find_all(["th", "td"]))
        assert told[title] == texts
    assert len(told) == 7 and "0.020 (made for the cheater), 0.050 (made for the" in inline["sizes"]
