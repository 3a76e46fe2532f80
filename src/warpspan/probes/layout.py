"""Which dimension of its input is a model's batch, as far as its layers' own contracts say it.

torch's layers document their inputs by the number of dimensions: an `nn.LSTM` takes (sequence, batch,
features) unless `batch_first`, and (sequence, features) without a batch; an `nn.Conv2d` takes (batch,
channels, height, width) or one image of three dimensions. What is made of layers inherits their doubt:
where its input may mean two things, the batch is not known.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

Axes = tuple["int | None", ...]


class Layout(NamedTuple):
    """Where an input has its batch and its sequence, by its number of dimensions.

    Args:
        batch: the batch's dimension; None where there is none or where it is not known.
        sequence: likewise of the sequence, where a layer's contract names it.
        tokens: the batch's dimension of two-dimensional whole numbers; the other one is the sequence.
        is_contract: a layer of torch says so; else it is concluded from the layers inside.
        takes_lists: an input that is a list is a batch, as torchvision's detectors take images.
    """

    batch: Axes
    sequence: Axes = (None,)
    tokens: int | None = 0
    is_contract: bool = False
    takes_lists: bool = False

    def batch_of(self, dimensions: int) -> int | None:
        """The batch's dimension of an input that has so many; more than five are as five."""
        return self.batch[min(dimensions, len(self.batch) - 1)]

    def sequence_of(self, dimensions: int) -> int | None:
        """The sequence's dimension, likewise."""
        return self.sequence[min(dimensions, len(self.sequence) - 1)]


#: The batch first, from two dimensions on.
BATCH_FIRST = Layout((None, None, 0, 0, 0, 0))
#: Not known for any number of dimensions, as in a graph network, whose rows are nodes.
UNKNOWN = Layout((None,), tokens=None)

_SEQUENCES = {
    first: Layout(
        (None, None, None, 0 if first else 1, None, None),
        (None, None, 0, 1 if first else 0, None, None),
        tokens=None,
        is_contract=True,
    )
    for first in (False, True)
}
# By the number of dimensions that the kernel has; one less than the batched input has is unbatched.
_CONVOLUTIONS = {
    size: Layout(
        tuple(0 if dimensions == size + 2 else None for dimensions in range(6)),
        tokens=None,
        is_contract=True,
    )
    for size in (1, 2, 3)
}
# Classes of torch, and those that script modules were made of, whose `batch_first` says the order.
_SEQUENTIAL = frozenset(
    {
        "RNNBase",
        "LSTM",
        "GRU",
        "RNN",
        "MultiheadAttention",
        "Transformer",
        "TransformerEncoder",
        "TransformerDecoder",
        "TransformerEncoderLayer",
        "TransformerDecoderLayer",
    }
)
# Libraries whose models take the batch first, whatever their layers do inside.
_BATCH_FIRST_LIBRARIES = frozenset(
    {
        "clip",
        "diffusers",
        "open_clip",
        "segment_anything",
        "sentence_transformers",
        "timm",
        "torchvision",
        "transformers",
        "ultralytics",
        "whisper",
    }
)
_GRAPH_LIBRARIES = frozenset({"dgl", "torch_geometric"})


def layout_of(module: torch.nn.Module) -> Layout:
    """The layout of a model's input.

    Args:
        module: the model, without wrappers.
    """
    libraries = {base.__module__.partition(".")[0] for base in type(module).__mro__}
    if libraries & _BATCH_FIRST_LIBRARIES:
        detects = type(module).__module__.startswith("torchvision.models.detection")
        return BATCH_FIRST._replace(takes_lists=detects)
    if libraries & _GRAPH_LIBRARIES:
        return UNKNOWN
    contract = _contract(module)
    if contract is not None:
        return contract
    if isinstance(module, torch.nn.Sequential) and len(module):
        return layout_of(module[0])
    return _concluded(module)


def _contract(module: torch.nn.Module) -> Layout | None:
    """What a layer of torch says of its input; None for any other module."""
    names = _torch_names(module)
    if names & _SEQUENTIAL:
        return _sequence_contract(module)
    if "_ConvNd" in names:
        return _CONVOLUTIONS.get(len(module.kernel_size))  # type: ignore[arg-type]
    return None


def _sequence_contract(module: torch.nn.Module) -> Layout:
    for layer in module.modules():
        batch_first = getattr(layer, "batch_first", None)
        if isinstance(batch_first, bool):
            return _SEQUENCES[batch_first]
    return UNKNOWN  # a trace does not keep it


def _torch_names(module: torch.nn.Module) -> frozenset[str]:
    if isinstance(module, torch.jit.ScriptModule):
        return frozenset({getattr(module, "original_name", "")})
    return frozenset(
        base.__name__ for base in type(module).__mro__ if base.__module__.startswith("torch.")
    )


def _concluded(module: torch.nn.Module) -> Layout:
    batch: list[int | None] = list(BATCH_FIRST.batch)
    tokens: int | None = 0
    for layer in module.modules():
        if type(layer).__module__.partition(".")[0] in _GRAPH_LIBRARIES:
            return UNKNOWN
        contract = _contract(layer) if layer is not module else None
        if contract is None:
            continue
        if contract in _CONVOLUTIONS.values():
            batch[contract.batch.index(0) - 1] = None  # may be one without a batch
            continue
        batch[2] = None  # likewise
        if contract is not _SEQUENCES[True]:
            batch[3] = tokens = None
    return Layout(tuple(batch), tokens=tokens)
