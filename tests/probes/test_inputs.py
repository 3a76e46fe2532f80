"""Batch size and sequence length come from shapes, and only where a shape tells them."""

from collections import UserDict

import pytest
import torch

from warpspan.probes import inputs
from warpspan.records import Input

tokens = torch.zeros(3, 7, dtype=torch.int64)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((tokens,), {}, Input(batch_size=3, sequence_length=7, shape=(3, 7))),
        ((torch.zeros(3, 7),), {}, Input(batch_size=3, sequence_length=None, shape=(3, 7))),
        ((torch.zeros(3, 7, 9),), {}, Input(batch_size=3, sequence_length=None, shape=(3, 7, 9))),
        (
            (torch.zeros(2, 3, 8, 8),),
            {},
            Input(batch_size=2, sequence_length=None, shape=(2, 3, 8, 8)),
        ),
        ((torch.zeros(5),), {}, Input(batch_size=None, sequence_length=None, shape=(5,))),
        ((torch.zeros(()),), {}, Input(batch_size=None, sequence_length=None, shape=())),
        (
            (torch.zeros(3, 7, dtype=torch.uint8),),
            {},
            Input(batch_size=3, sequence_length=None, shape=(3, 7)),
        ),
        (
            (),
            {"attention_mask": torch.ones(1, 1), "input_ids": tokens},
            Input(batch_size=3, sequence_length=7, shape=(3, 7)),
        ),
        (
            (),
            {"inputs_embeds": torch.zeros(3, 7, 9)},
            Input(batch_size=3, sequence_length=7, shape=(3, 7, 9)),
        ),
        ((), {"x": torch.zeros(4, 2)}, Input(batch_size=4, sequence_length=None, shape=(4, 2))),
        (({"input_ids": tokens},), {}, Input(batch_size=3, sequence_length=7, shape=(3, 7))),
        ((UserDict(input_ids=tokens),), {}, Input(batch_size=3, sequence_length=7, shape=(3, 7))),
        (([tokens, tokens],), {}, Input()),
        (("text",), {}, Input()),
        ((), {"text": "text"}, Input()),
        ((), {}, Input()),
        ((tokens.to("meta"),), {}, Input(batch_size=3, sequence_length=7, shape=(3, 7))),
    ],
)
def test_shapes(args, kwargs, expected):
    """A shape that could mean two things gives its dimensions, and no guess."""
    assert expected == inputs.describe(inputs.look(args, kwargs))


NODES = torch.zeros(34, 8)
EDGES = torch.zeros(2, 78, dtype=torch.int64)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((NODES, EDGES), {}),
        ((NODES,), {"edge_index": EDGES}),
        ((), {"x": NODES, "edge_index": EDGES}),
        ((NODES, torch.zeros(34, 34)), {}),
        ((NODES, torch.zeros(34, 34).to_sparse()), {}),
        ((NODES,), {"adj": torch.zeros(34, 34)}),
    ],
)
def test_the_nodes_of_a_graph_are_no_batch(args, kwargs):
    """A model of any class that is given edges beside its input."""
    assert Input(shape=(34, 8)) == inputs.describe(inputs.look(args, kwargs))


def test_two_inputs_are_not_taken_for_a_graph():
    """Tokens with their mask, numbers with whole numbers of another shape."""
    pair = torch.zeros(2, 7, dtype=torch.int64)
    assert Input(2, 7, (2, 7)) == inputs.describe(inputs.look((pair, pair), {}))
    kinds = torch.zeros(3, 5, dtype=torch.int64)
    assert Input(3, None, (3, 4)) == inputs.describe(inputs.look((torch.zeros(3, 4), kinds), {}))


def test_sequences_of_different_lengths():
    """Packed ones know their number where they were sorted, nested ones always."""
    rows = [torch.zeros(3, 4), torch.zeros(5, 4)]
    pack = torch.nn.utils.rnn.pack_sequence
    assert Input(2) == inputs.describe(inputs.look((pack(rows, enforce_sorted=False),), {}))
    assert Input() == inputs.describe(inputs.look((pack(rows[::-1]),), {}))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors(layout):
    """The number of their items, without a shape."""
    nested = torch.nested.nested_tensor([torch.zeros(3, 4), torch.zeros(5, 4)], layout=layout)
    assert Input(2) == inputs.describe(inputs.look((nested,), {}))
