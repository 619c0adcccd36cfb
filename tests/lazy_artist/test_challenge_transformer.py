"""The second challenge: the program, its constants, and the network."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lazy_artist.challenge import transformer, transformer_label
from lazy_artist.challenge.transformer import Constants, Transformer, decide, grid, program_parts

NUMBERS = st.integers(0, 112)


# --- the program ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "phase", "left", "lower", "score", "label"),
    [
        (0, 0, 0, False, True, 2, True),  # below the line, in the band
        (0, 112, 0, True, True, 5, False),
        (4, 0, 0, False, False, 0, False),  # 4^1.5 = 8 exactly
        (5, 1, 3, True, False, 6, False),  # 5^1.5 = 11.18
        (20, 4, 1, False, False, 1, False),  # x^4 = 160,000 = 40,000 y: not left of the curve
        (20, 5, 1, True, False, 4, False),
        (81, 54, 1, False, False, 1, False),  # 81^1.5 = 729; x + y = 135
        (9, 112, 3, True, True, 8, True),  # 27 mod 8 = 3
        (100, 0, 0, False, False, 0, False),  # 100^1.5 = 1000 = 125 * 8
        (112, 112, 1, False, True, 3, False),  # in the band, but beyond the line
        (90, 42, 5, False, False, 5, False),
    ],
)
def test_by_hand(x, y, phase, left, lower, score, label):
    parts = program_parts(x, y)
    assert int(parts.phase) == math.isqrt(x**3) % 8 == phase
    assert (bool(parts.left), bool(parts.lower), int(parts.score)) == (left, lower, score)
    assert bool(transformer_label(np.array(x), np.array(y))) == label


@given(NUMBERS, NUMBERS)
def test_roots_and_integers_say_the_same(x, y):
    """The program as one would write it by hand, with roots, is that of integers."""
    z = int(x**1.5 + 1e-9) % 8
    z += 3 * (x**2 < 200 * math.sqrt(y) - 1e-9) + 2 * (y**2 >= 600 * math.sqrt(x) - 1e-9)
    expected = z >= 7 or (z in (2, 3) and x + y < 133)
    assert bool(transformer_label(x, y)) == expected


def test_shapes_broadcast_and_the_grid_is_by_rows_of_x():
    x, y = grid()
    assert x.shape == (113, 113) and x[5, 7] == 5 and y[5, 7] == 7
    whole = transformer_label(x, y)
    assert whole.dtype == bool and whole.sum() == 5465
    column, row = np.arange(113)[:, None], np.arange(113, dtype=np.uint8)[None]
    assert np.array_equal(transformer_label(column, row), whole)
    assert transformer_label(row[:, :0], row[:, :0]).shape == (1, 0)


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("bad", [-1, 113])
def test_numbers_out_of_range_are_refused(name, bad):
    numbers = {"x": np.array([3, 4]), "y": np.array([3, 4])}
    numbers[name] = np.array([3, bad])
    with pytest.raises(ValueError, match=rf"{name} must lie in 0..112; it goes from"):
        transformer_label(**numbers)


def test_other_types_and_shapes_are_refused():
    with pytest.raises(TypeError, match="y must hold integers, not float64"):
        transformer_label(np.arange(3), np.arange(3.0))
    with pytest.raises(ValueError, match=r"broadcast, not \(3,\) and \(2,\)"):
        transformer_label(np.arange(3), np.arange(2))


@pytest.mark.parametrize(
    ("field", "value", "cells"),
    [("line", 132, 16), ("line", 134, 16), ("left", 40_040, 1), ("lower", 359_640, 1)],
)
def test_other_constants_change_as_many_cells_as_counted_by_hand(field, value, cells):
    own = transformer_label(*grid())
    other = Constants()._replace(**{field: value})
    changed = decide(program_parts(*grid(), other), other) != own
    assert changed.sum() == cells
    x, y = grid()
    if field == "line":
        assert (x + y)[changed].tolist() == [min(value, 133)] * cells
    if field == "left":
        assert (x**4 - 40_000 * y)[changed].min() >= 0


def test_the_exponent_is_a_constant_like_the_others():
    near = Constants(exponent=1.5 + 1e-12)
    assert np.array_equal(program_parts(*grid(), near).phase, program_parts(*grid()).phase)
    square = program_parts(np.array([3, 10]), np.array([0, 0]), Constants(exponent=2.0))
    assert square.phase.tolist() == [1, 4]


# --- the network ---------------------------------------------------------------------------------


def by_the_book(model: Transformer, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Logits (N, 2) by plain causal self-attention over all three positions, head by head."""
    tokens = torch.stack([x, y, torch.full_like(x, 113)], dim=1)
    stream = model.embed[tokens] + model.place  # (N, 3, 128)
    mixed = []
    for head in range(8):
        part = slice(16 * head, 16 * head + 16)
        query, key, value = (stream @ w[:, part] for w in (model.query, model.key, model.value))
        scores = (query @ key.mT) / 4
        scores = scores.masked_fill(torch.triu(torch.ones(3, 3), 1) > 0, -torch.inf)
        mixed.append(scores.softmax(-1) @ value)
    stream = stream + torch.cat(mixed, -1) @ model.out
    neurons = torch.relu(stream @ model.rise + model.rise_bias)
    stream = stream + neurons @ model.fall + model.fall_bias
    return (stream @ model.read)[:, -1]


def test_the_last_position_alone_gives_the_answer_of_the_whole_layer():
    model = Transformer(0)
    with torch.no_grad():
        model.rise_bias.normal_()
        model.query.mul_(3)  # so that attention is far from even
    x, y = torch.tensor([0, 5, 112, 40]), torch.tensor([112, 5, 0, 77])
    assert torch.allclose(model(x, y), by_the_book(model, x, y), atol=1e-5)


def test_states_fit_together():
    model = Transformer(1)
    x, y = torch.arange(6), torch.arange(6) * 7
    s = model.states(x, y)
    assert s.attention.shape == (6, 8, 3) and torch.allclose(s.attention.sum(-1), torch.ones(6, 8))
    own = model.embed[113] + model.place[2]
    assert torch.allclose(own + s.heads.sum(1), s.before, atol=1e-5)
    assert torch.allclose(model.answer(s.before), s.logits, atol=1e-5)
    assert torch.allclose(s.after @ model.read, s.logits, atol=1e-5)
    assert torch.allclose(model(x, y), s.logits, atol=1e-6) and not s.logits.requires_grad
    assert (s.neurons >= 0).all() and s.neurons.shape == (6, 1024)


def test_fit_learns_what_it_sees_and_is_repeatable():
    labels = np.zeros((113, 113), bool)
    labels[:, 50:] = True  # one straight border along y
    seen = np.zeros_like(labels)
    seen[::4] = True
    model, losses = transformer.fit(labels, seen, seed=0, steps=120, batch_size=32)
    assert losses.shape == (120,) and losses[-5:].mean() < 0.1 * losses[0]
    x, y = (torch.from_numpy(n.ravel()) for n in grid())
    logits = model.states(x, y).logits
    said = (logits[:, 1] > logits[:, 0]).numpy().reshape(113, 113)
    assert (said == labels)[seen].mean() > 0.97
    first, again, other = (transformer.fit(labels, seen, s, steps=3)[1] for s in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_fit_refuses_what_it_cannot_learn_from():
    table = np.zeros((113, 113), bool)
    with pytest.raises(ValueError, match="0 seen cells are fewer than a batch of 256"):
        transformer.fit(table, table, 0, 1)
    with pytest.raises(ValueError, match=r"113 x 113 tables, not \(113, 113\) and \(112, 113\)"):
        transformer.fit(table, table[1:], 0, 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 7), NUMBERS)
def test_attention_to_a_number_depends_on_that_number_alone(head, x):
    """The ratio of the share given to x and the share kept does not depend on y."""
    ys = torch.tensor([0, 40, 112])
    attention = Transformer(4).attend(torch.full((3,), x), ys)[0][:, head].detach()
    ratio = attention[:, 0] / attention[:, 2]
    assert torch.allclose(ratio, ratio[:1].expand(3))
