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
