"""Parts of digits: patches in digits made by hand, and channels that do or do not see them."""

from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lazy_artist import parts


def digit(*strokes) -> np.ndarray:
    """Grey (28, 28): 255 at the given slices."""
    grey = np.zeros((28, 28), np.uint8)
    for stroke in strokes:
        grey[stroke] = 255
    return grey


BAR, UPRIGHT = np.s_[4:7, 2:13], np.s_[15:26, 20:23]
MADE = [
    digit(BAR, UPRIGHT),
    digit(np.s_[4:7, 2:10], UPRIGHT),  # a shorter bar
    digit(UPRIGHT),  # no bar at all
    digit(BAR),  # nothing to match it with
]


@pytest.fixture
def digits(monkeypatch):
    """These four, and none else, as the validation digits."""
    made = np.stack(MADE)
    monkeypatch.setattr(parts, "split_digits", lambda name: {"validation": (made, None)}[name])
    monkeypatch.setattr(parts, "balanced", lambda grey, labels, n: (grey, labels))


def test_patches_are_those_most_and_least_like_the_part(digits):
    """The bar lies in the middle of its patch; the upright stroke has as much of it."""
    template = parts.part_templates()["bar"]
    assert template.shape == (11, 11) and template[4:7].min() == 1 and template.sum() == 33
    grey, corners = parts.matched_patches(template, 1)
    np.testing.assert_array_equal(grey[0], MADE[0])
    assert corners[0, 0].tolist() == [0, 2]
    row, column = corners[0, 1]
    other = MADE[0][row : row + 11, column : column + 11] > 0
    assert 28 <= other.sum() <= 38 and other.any(0).sum() <= 3  # upright
    assert len(grey) == 3 and (grey[1:] == np.stack(MADE[1:3])).all()  # best first
    assert abs(row - 0) > 5 or abs(column - 2) > 5


def test_templates_are_what_they_are_called():
    templates = parts.part_templates()
    assert len(templates) == 9
    np.testing.assert_array_equal(templates["bar"].T, templates["upright stroke"])
    np.testing.assert_array_equal(templates["rising stroke"][::-1], templates["falling stroke"])
    assert templates["rising stroke"][0, 10] == 1 and templates["falling stroke"][0, 0] == 1
    assert templates["loop"][5, 5] == 0 and templates["loop"][1, 5] == 1
    for name, turn in (("right", 0), ("top", 1), ("left", 2), ("bottom", 3)):
        bend = np.rot90(templates[f"bend open to the {name}"], -turn)
        assert bend[5, 2:4].max() == 1 and bend[5, 8:].max() == 0  # closed on the left
    assert all(t.min() == 0 and t.max() == 1 for t in templates.values())


def test_a_part_is_upheld_only_where_it_moves_the_channel(monkeypatch):
    """Channel 0 answers to horizontal edges of any colour, 1 to the amount of stroke, 2 to red.
    In the digits a bar and an upright stroke of the same size lie apart, moved a little in each;
    whatever the part, the first patch has the bar."""
    places = [(4 + k % 3, 15 + k % 2, 18 + k % 5) for k in range(40)]
    made = np.stack([
        digit(np.s_[row : row + 3, 2:13], np.s_[top : top + 11, left : left + 3])
        for row, top, left in places
    ])  # fmt: skip
    corners = np.array([[(row - 4, 2), (top, left - 5)] for row, top, left in places])
    monkeypatch.setattr(parts, "matched_patches", lambda *given: (made, corners))
    conv = nn.Conv2d(3, 3, (9, 9), padding=4, bias=True)
    conv.weight.data.zero_()
    conv.weight.data[0, :, 3:6], conv.weight.data[0, :, :3] = 1, -1
    conv.weight.data[0, :, 6:] = -1
    conv.weight.data[1, :, 4, 4] = 1
    conv.weight.data[2, 0, 4, 4], conv.weight.data[2, 1:, 4, 4] = 1, -1
    conv.bias.data = torch.tensor([-6.0, -0.6, -0.3])
    model = nn.Sequential(OrderedDict(layer=nn.Sequential(conv, nn.ReLU()))).eval()
    network = SimpleNamespace(name="cure", seed=2, load=lambda: model)
    found = parts.try_parts.__wrapped__(network, ["layer"], 4)
    edge, amount, red = found.itertuples()
    assert edge.answers and edge.part == "bar" and edge.share > 0.5 > edge.place
    assert edge.alone > 0.95 and edge.erased > 0.95 and edge.upheld
    assert 0.2 < amount.alone < 0.8  # as much stroke in both
    assert amount.part == "loop" and not (amount.answers and amount.upheld)
    assert red.colour > 0.5 and not red.answers
    assert found[["network", "seed", "layer"]].drop_duplicates().to_numpy().tolist() == [
        ["cure", 2, "layer"]
    ]
