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
        ((tokens,), {}, Input(3, 7, (3, 7))),
        ((torch.zeros(3, 7),), {}, Input(3, None, (3, 7))),
        ((torch.zeros(3, 7, 9),), {}, Input(3, None, (3, 7, 9))),
        ((torch.zeros(2, 3, 8, 8),), {}, Input(2, None, (2, 3, 8, 8))),
        ((torch.zeros(5),), {}, Input(None, None, (5,))),
        ((torch.zeros(()),), {}, Input(None, None, ())),
        ((torch.zeros(3, 7, dtype=torch.uint8),), {}, Input(3, None, (3, 7))),
        ((), {"attention_mask": torch.ones(1, 1), "input_ids": tokens}, Input(3, 7, (3, 7))),
        ((), {"inputs_embeds": torch.zeros(3, 7, 9)}, Input(3, 7, (3, 7, 9))),
        ((), {"x": torch.zeros(4, 2)}, Input(4, None, (4, 2))),
        (({"input_ids": tokens},), {}, Input(3, 7, (3, 7))),
        ((UserDict(input_ids=tokens),), {}, Input(3, 7, (3, 7))),
        (([tokens, tokens],), {}, Input()),
        (("text",), {}, Input()),
        ((), {"text": "text"}, Input()),
        ((), {}, Input()),
        ((tokens.to("meta"),), {}, Input(3, 7, (3, 7))),
    ],
)
def test_shapes(args, kwargs, expected):
    """A shape that could mean two things gives its dimensions, and no guess."""
    assert expected == inputs.describe(inputs.look(args, kwargs))
