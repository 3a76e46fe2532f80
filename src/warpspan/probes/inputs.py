"""The input of an inference: shapes only, no value is read and no tensor is kept."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch

from warpspan.guard import let_through
from warpspan.probes.unseen import Unseen, has_torch_function
from warpspan.records import Input

# The names that transformers, diffusers and sentence-transformers give to the tensor whose first
# dimension is the batch, the one that tells most first.
_NAMES = (
    "input_ids",
    "inputs_embeds",
    "pixel_values",
    "input_features",
    "input_values",
    "sample",
    "hidden_states",
    "sentence_embedding",
)


# What the caller's thread takes from an input tensor: its shape, its dtype and its name. Of an input
# that is no tensor, how many items it has.
Seen: TypeAlias = tuple[torch.Size, torch.dtype, str | None] | int

_INTEGERS = frozenset({torch.int64, torch.int32})


def look(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Seen | None:
    """The shape of the input tensor of a call, or None where it has none."""
    if args:
        first = args[0]
        if isinstance(first, torch.Tensor):
            return _of(first, None)
        if isinstance(first, Mapping):  # a tokenizer's output, sentence-transformers' features
            return _named(first)
    if kwargs:
        return _named(kwargs)
    return None


def _named(values: Mapping[str, Any]) -> Seen | None:
    for name in _NAMES:
        value = values.get(name)
        if isinstance(value, torch.Tensor):
            return _of(value, name)
    for value in values.values():
        if isinstance(value, torch.Tensor):
            return _of(value, None)
    return None


def _of(tensor: torch.Tensor, name: str | None) -> Seen | None:
    try:
        if not has_torch_function(tensor):
            return tensor.shape, tensor.dtype, name
        with Unseen():
            return tensor.shape, tensor.dtype, name
    except RuntimeError as refused:  # a strided nested tensor has no shape
        let_through(refused)
        return None


@functools.lru_cache(maxsize=256)
def describe(seen: Seen | None) -> Input:
    """Batch size and sequence length, where the shape tells them."""
    if seen is None:
        return Input()
    if isinstance(seen, int):
        return Input(batch_size=seen)
    shape, dtype, name = tuple(seen[0]), seen[1], seen[2]
    dimensions = len(shape)
    tokens = (dtype in _INTEGERS and dimensions == 2) or (
        name == "inputs_embeds" and dimensions == 3
    )
    return Input(
        batch_size=shape[0] if dimensions >= 2 else None,
        sequence_length=shape[1] if tokens else None,
        shape=shape,
    )
