"""The input of an inference: shapes only, no value is read and no tensor is kept."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch.nn.utils.rnn import PackedSequence

from warpspan.guard import let_through
from warpspan.probes.layout import BATCH_FIRST, UNKNOWN, Layout
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


# What a graph's edges are called; then rows of the input are nodes.
_EDGES = ("edge_index", "adj", "adj_t", "adjacency", "adjacency_matrix")

# What the caller's thread takes from an input tensor: its shape, its dtype, its name and its layout.
# Of an input that is no tensor, how many items it has.
Seen: TypeAlias = tuple[torch.Size, torch.dtype, str | None, Layout] | int

_Tensor = torch.Tensor
_INTEGERS = frozenset({torch.int64, torch.int32})


def look(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], layout: Layout = BATCH_FIRST
) -> Seen | None:
    """The shape of the input tensor of a call, or None where it has none.

    Args:
        args: of the call.
        kwargs: likewise.
        layout: of the model that is called.
    """
    if args:
        first = args[0]
        if isinstance(first, _Tensor):
            if (kwargs or len(args) > 1) and _has_edges(first, args, kwargs):
                layout = UNKNOWN
            return _of(first, None, layout)
        if isinstance(first, Mapping):  # a tokenizer's output, sentence-transformers' features
            return _named(first, layout)
        if isinstance(first, list):
            return len(first) if layout.takes_lists else None
        if not isinstance(first, str):
            return _items(first)
    if kwargs:
        return _named(kwargs, layout)
    return None


def _named(values: Mapping[str, Any], layout: Layout) -> Seen | None:
    for name in _NAMES:
        value = values.get(name)
        if isinstance(value, _Tensor):
            return _of(value, name, BATCH_FIRST)
    if any(name in values for name in _EDGES):
        layout = UNKNOWN
    for value in values.values():
        if isinstance(value, _Tensor):
            return _of(value, None, layout)
    return None


def _of(tensor: torch.Tensor, name: str | None, layout: Layout) -> Seen | None:
    if not has_torch_function(tensor):
        return _shape(tensor, name, layout)
    with Unseen():
        return _shape(tensor, name, layout)


def _shape(tensor: torch.Tensor, name: str | None, layout: Layout) -> Seen | None:
    # Strided nested tensors have no shape, those with jagged layout are a class of their own.
    if type(tensor) is not _Tensor and tensor.is_nested:
        return tensor.size(0)
    try:
        return tensor.shape, tensor.dtype, name, layout
    except RuntimeError as refused:
        let_through(refused)
        return tensor.size(0)


def _has_edges(nodes: torch.Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether an input may be the nodes of a graph whose edges are given beside it."""
    if kwargs and any(name in kwargs for name in _EDGES):
        return True
    second = args[1] if len(args) > 1 else None
    if not isinstance(second, _Tensor):
        return False
    first, other = _of(nodes, None, UNKNOWN), _of(second, None, UNKNOWN)
    if not isinstance(first, tuple) or not isinstance(other, tuple):
        return False
    if len(first[0]) != 2 or not first[1].is_floating_point or len(other[0]) != 2:
        return False
    if other[1] in _INTEGERS:
        return other[0][0] == 2  # the two ends of each edge
    return other[0][0] == other[0][1] == first[0][0]  # an adjacency matrix


def _items(value: Any) -> int | None:
    """How many items an input has that is no tensor, where its class says it without being read."""
    if isinstance(value, PackedSequence):
        order = value.sorted_indices
        return None if order is None else order.shape[0]
    # A batch of graphs; its class is made at run time.
    if any(base.__module__.startswith("torch_geometric") for base in type(value).__mro__):
        count = getattr(value, "_num_graphs", None)
        return count if isinstance(count, int) else None
    return None


@functools.lru_cache(maxsize=256)
def describe(seen: Seen | None) -> Input:
    """Batch size and sequence length, where the shape and the model's layout tell them."""
    if seen is None:
        return Input()
    if isinstance(seen, int):
        return Input(batch_size=seen)
    shape, dtype, name, layout = tuple(seen[0]), seen[1], seen[2], seen[3]
    dimensions = len(shape)
    batch, sequence = layout.batch_of(dimensions), layout.sequence_of(dimensions)
    if dtype in _INTEGERS and dimensions == 2:
        batch = layout.tokens
        sequence = None if batch is None else 1 - batch
    elif name == "inputs_embeds" and dimensions == 3:
        sequence = 1
    return Input(
        batch_size=None if batch is None else shape[batch],
        sequence_length=None if sequence is None else shape[sequence],
        shape=shape,
    )
