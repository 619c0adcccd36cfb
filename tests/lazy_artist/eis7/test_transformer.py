"""The second challenge: the program, its constants, and the network."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lazy_artist.eis7 import transformer, transformer_label
from lazy_artist.eis7.transformer import PROGRAM, Transformer, all_pairs, decide, program_variables


def test_variables_and_labels_by_hand():
    for x, y, phase, left, lower, label in (
        (0, 0, 0, False, True, True),  # z = 2: in the band, below the line
        (0, 112, 0, True, True, False),
        (4, 0, 0, False, False, False),  # 4^1.5 = 8 exactly
        (5, 1, 3, True, False, False),  # 5^1.5 = 11.18
        (20, 4, 1, False, False, False),  # x^4 = 160,000 = 40,000 y: not left of the curve
        (20, 5, 1, True, False, False),
        (81, 54, 1, False, False, False),  # 81^1.5 = 729; x + y = 135
        (9, 112, 3, True, True, True),  # 27 mod 8 = 3
        (112, 112, 1, False, True, False),  # z = 3: in the band, but beyond the line
    ):
        assert program_variables(x, y) == (phase, left, lower, x + y < 133), (x, y)
        assert bool(transformer_label(np.array(x), np.array(y))) == label, (x, y)


def test_all_labels_with_roots_instead_of_integers():
    x, y = all_pairs()
    assert x.shape == (113, 113) and x[5, 7] == 5 and y[5, 7] == 7
    z = np.floor(x**1.5 + 1e-9) % 8
    z += 3 * (x**2 < 200 * np.sqrt(y) - 1e-9) + 2 * (y**2 >= 600 * np.sqrt(x) - 1e-9)
    labels = (z >= 7) | (((z == 2) | (z == 3)) & (x + y < 133))
    column, row = np.arange(113)[:, None], np.arange(113, dtype=np.uint8)[None]
    assert np.array_equal(transformer_label(column, row), labels)
    assert np.array_equal(np.vectorize(transformer.label_pair)(x, y), labels)
    assert transformer_label(row[:, :0], row[:, :0]).shape == (1, 0)


def test_what_is_no_pair_of_numbers_is_refused():
    for error, message, bad in (
        (ValueError, "must lie in 0..112; it goes from -1", [3, -1]),
        (ValueError, "must lie in 0..112; it goes from 3 to 113", [3, 113]),
        (TypeError, "must hold integers, not float64", [1.0, 2.0]),
        (ValueError, "shape mismatch", [0, 1, 2]),
    ):
        for pair in ((bad, [3, 4]), ([3, 4], bad)):
            with pytest.raises(error, match=message):
                transformer_label(*map(np.array, pair))


def test_other_constants_change_as_many_cells_as_counted_by_hand():
    x, y = all_pairs()
    own = transformer_label(x, y)
    for field, value, cells in (
        ("line", 132, 16), ("line", 134, 16), ("left", 40_040, 1), ("lower", 359_640, 1),
    ):  # fmt: skip
        other = PROGRAM._replace(**{field: value})
        assert np.sum(decide(program_variables(x, y, other), other) != own) == cells
    near = PROGRAM._replace(exponent=1.5 + 1e-12)
    assert np.array_equal(program_variables(x, y, near).phase, program_variables(x, y).phase)


# --- the network ---------------------------------------------------------------------------------


def by_the_book(model: Transformer, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Logits (N, 2) by plain causal self-attention over all three positions."""
    tokens = torch.stack([x, y, torch.full_like(x, 113)], dim=1)
    stream = model.embed[tokens] + model.position  # (N, 3, 128)
    query, key, value = (
        (stream @ weight).unflatten(-1, (8, 16)).transpose(1, 2)
        for weight in (model.query, model.key, model.value)
    )
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    stream = stream + mixed.transpose(1, 2).flatten(2) @ model.out
    neurons = torch.relu(stream @ model.mlp_in + model.mlp_in_bias)
    stream = stream + neurons @ model.mlp_out + model.mlp_out_bias
    return (stream @ model.unembed)[:, -1]


def test_the_last_position_alone_gives_the_answer_of_the_whole_layer_and_states_fit_together():
    model = Transformer(1)
    with torch.no_grad():
        model.mlp_in_bias.normal_()
        model.mlp_out_bias.normal_()
        model.query.mul_(3)  # so that attention is far from even
    s, some = model.states(), slice(400, 12769, 977)
    x, y = (torch.from_numpy(numbers.ravel())[some] for numbers in all_pairs())
    own = model.embed[113] + model.position[2]
    held = s.resid_mid[some] + s.neurons[0] @ model.mlp_out + model.mlp_out_bias
    for found, expected in (
        (model(x, y), by_the_book(model, x, y)),
        (model(x, y), s.logits[some]),
        (s.attention.sum(-1), torch.ones(12769, 8)),
        (own + s.heads.sum(1), s.resid_mid),
        (model.logits(s.resid_mid), s.logits),
        (s.resid_post @ model.unembed, s.logits),
        (model.logits(s.resid_mid[some], s.neurons[:1]), held @ model.unembed),
    ):
        assert torch.allclose(found, expected, atol=1e-5)


def test_training_learns_what_it_sees_and_is_repeatable():
    labels = np.zeros((113, 113), bool)
    labels[:, 50:] = True  # one straight border along y
    seen = np.zeros_like(labels)
    seen[::4] = True
    model, again = (transformer.train_transformer(labels, seen, seed=0, steps=60) for _ in range(2))
    logits = model.states().logits
    predicted = (logits[:, 1] > logits[:, 0]).numpy().reshape(113, 113)
    assert (predicted == labels)[seen].mean() > 0.97
    assert torch.equal(model.embed, again.embed)
