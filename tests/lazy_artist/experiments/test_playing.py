"""The playground's networks and digits: chosen by rule, cloaked as said, and written."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup

from lazy_artist import debias, playground
from lazy_artist.canvas import PALETTE, colour_split, split_digits
from lazy_artist.data import cache_dir
from lazy_artist.evaluate import predict
from lazy_artist.experiments import networks, playing, subjects
from lazy_artist.models import CNN, build


@functools.cache
def reader(seed: int) -> CNN:
    """Untrained, but with a leaning towards 7 that a change of the picture can overcome."""
    model = build("cnn", seed).eval()
    images = colour_split("aligned", networks.TEST_SEED).images[:20]
    with torch.no_grad():
        model.head.weight.mul_(300)
        model.head.bias.zero_()
        model.head.bias.sub_(torch.from_numpy(predict(model, images)).mean(0))
        model.head.bias[7] += 2
    return model


def sevens() -> np.ndarray:
    return np.flatnonzero(split_digits("test")[1] == 7)


def invented(monkeypatch: pytest.MonkeyPatch, reached: list[bool]) -> None:
    """Two networks, one of which misreads the first seven and one the second; searches that succeed
    as `reached` says, one after the other, with a change of 0.1 times their number."""
    misread = {"a": 0, "b": 1}
    calls = iter(range(1, 99))

    def answers(model, images):
        said = np.full(len(images), 7)
        said[misread[model]] = 4
        return said, None

    def search(model, images, target, criterion, steps):
        assert (target, criterion, steps, len(images)) == (3, 0.9, 5, 1)
        call = next(calls)
        changed = np.float32(images + 0.1 * call)
        return SimpleNamespace(reached=np.array([reached[call - 1]]), images=changed)

    monkeypatch.setattr(playing, "load", lambda config: config["name"])
    monkeypatch.setattr(playground, "answers", answers)
    monkeypatch.setattr(playing, "minimal_epsilon", search)


BOTH = [{"name": "a"}, {"name": "b"}]


def test_the_seven_is_the_first_that_both_read_and_that_can_be_cloaked_for_both(monkeypatch):
    invented(monkeypatch, [True, False, True, True])  # the third fails for b, the fourth will do
    found, _ = playing.cloaked(BOTH, looked_at=6, steps=5)
    assert found["index"].tolist() == [sevens()[3]]
    np.testing.assert_allclose(found["delta"][0], 0.3, atol=1e-6)
    np.testing.assert_allclose(found["delta"][1], 0.4, atol=1e-6)


def test_where_no_seven_will_do_there_is_no_cloak(monkeypatch):
    invented(monkeypatch, [False] * 8)
    found, _ = playing.cloaked(BOTH, looked_at=6, steps=5)
    assert found["index"].tolist() == [sevens()[0]] and found["delta"].shape == (0, 3, 28, 28)
    monkeypatch.setattr(playing, "fetch", lambda *_: SimpleNamespace(tensors=found))
    seven = playing.presets()[-1]
    assert seven.title == "a 7" and seven.cloaks == []
    assert playing.cloak_sizes().startswith("nothing")


def test_digits_are_the_first_of_the_test_set():
    images, labels = split_digits("test")
    examples = playing.examples()
    for digit in range(10):
        assert (examples[digit] == images[np.argmax(labels == digit)]).all()


def test_presets_carry_a_control_as_large_as_the_larger_cloak(monkeypatch):
    delta = np.stack([np.full((3, 28, 28), size, np.float32) for size in (0.02, -0.05)])
    stored = {"index": sevens()[4:5], "delta": delta}
    monkeypatch.setattr(playing, "fetch", lambda *_: SimpleNamespace(tensors=stored))
    one, zero, seven = playing.presets()
    assert (one.path, one.title, one.label, one.ink) == ("red-1", "a red 1", 1, 0)
    assert (zero.path, zero.title, zero.label, zero.ink) == ("green-0", "a green 0", 0, 1)
    assert (seven.path, seven.label, seven.ink) == ("cloaked-7", 7, 7)
    assert (seven.grey == split_digits("test")[0][sevens()[4]]).all()
    cheater, cure, control = seven.cloaks
    assert [cheater.title, cure.title] == ["made for the cheater", "made for the cure"]
    assert control.title.startswith("random signs")
    assert set(np.unique(control.delta)) == {np.float32(-0.05), np.float32(0.05)}
    assert abs(control.delta.mean()) < 0.01
    assert playing.cloak_sizes().startswith(
        "0.020 (made for the cheater), 0.050 (made for the cure)"
    )


def test_the_ground_is_as_dark_as_the_canvas():
    ground = playing.ground()
    assert ground.shape == (3, 28, 28) and ground.dtype == np.float32
    assert ground.min() >= 0 and ground.max() < 0.3
    assert ground.mean() == pytest.approx(0.075, abs=0.02)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained networks in place of cheater and cure."""

    def load(config: dict) -> CNN:
        return reader(1 if "method" in config else 0)

    monkeypatch.setattr(playing, "load", load)
    monkeypatch.setattr(playing, "STEPS", 20)


def test_the_networks_are_the_cheater_and_the_best_cure_of_the_first_seed(readers, monkeypatch):
    monkeypatch.setattr(playing, "load", lambda config: config)
    found = playing.networks()
    assert found == {kind: subjects.subject(kind, 0) for kind in ("cheater", "cure")}
    assert found["cure"]["method"] == debias.BEST


def test_a_cloak_in_full_makes_its_network_sure_of_the_target(readers):
    seven = playing.presets()[-1]
    assert len(seven.cloaks) == 3
    image = playground.painted(seven.grey, PALETTE[7], playing.ground())
    for cloak, model in zip(seven.cloaks, playing.networks().values(), strict=False):
        assert playground.answers(model, image[None])[0] == 7
        changed = np.clip(image + cloak.delta, 0, 1)[None]
        said, sure = playground.answers(model, changed)
        assert said == 3 and 0.9 < sure < 0.95  # no more than it takes


def test_the_page_of_the_chapter_is_written_with_its_table(readers):
    playing.write_page()
    page = BeautifulSoup((cache_dir() / "pages" / "playground.html").read_text(), "html.parser")
    assert page.find("h1").get_text() == "The Playground"
    table = playing.answer_table()
    rows = page.find("noscript").find("tbody").find_all("tr")
    there = [[cell.get_text() for cell in row.find_all("td")] for row in rows]
    assert [[a, c, d] for a, _, c, d in there] == table.to_numpy().tolist()
    assert len(table) == 3 + 3
    assert list(table) == ["picture", "the cheater says", "the cure says"]
