"""KV caches: their size from the shapes of their tensors. No value is read, no tensor is kept.

Caches are told by what they hold, not by their classes: those of transformers 4.44 to 5.x (a list
of layers, or lists of keys and of values), recurrent states, and tuples of (key, value), also those
of hand-written loops. No method of theirs is called, since some read values from the device.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from warpspan.guard import let_through

#: The names that transformers gives to a cache, in calls and in outputs.
NAMES = ("past_key_values", "cache_params")

_DEEPEST = 4
_NO_TENSOR = frozenset({bool, int, float, str, type(None), torch.dtype, torch.device})


class Reading(NamedTuple):
    """The size of a cache at one time.

    Args:
        kind: dynamic, static, sliding, quantized, offloaded, encoder_decoder, hybrid, state,
            tuple or other.
        size: bytes of the distinct storages that its tensors lie in.
        tokens: how many it holds a sequence, or None where shapes don't tell.
        capacity: how many it has room for, where that is fixed.
        layers: how many of its layers hold anything.
        shape: of the first key, for a tuple.
        first: weak reference to the first storage; both are None for an empty cache.
        last: weak reference to the last one.
    """

    kind: str
    size: int
    tokens: int | None = None
    capacity: int | None = None
    layers: int | None = None
    shape: torch.Size | None = None
    first: StorageWeakRef | None = None
    last: StorageWeakRef | None = None

    @property
    def held(self) -> bool:
        """Whether its memory is still there, judged by its first and its last tensor."""
        return (
            self.first is not None
            and self.last is not None
            and not self.first.expired()
            and not self.last.expired()
        )


def taken(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The cache among the arguments of a call, or None."""
    if kwargs:
        for name in NAMES:
            value = kwargs.get(name)
            if value is not None and not issubclass(type(value), torch.Tensor):
                return value
        for value in kwargs.values():
            if is_cache(value):
                return value
    for value in args:
        if is_cache(value):
            return value
    return None


def given(result: Any) -> Any:
    """The cache in what a call returned, or None."""
    kind: Any = type(result)
    if issubclass(kind, torch.Tensor):
        return None
    if issubclass(kind, dict):  # an output of transformers is one, too
        for name in NAMES:
            value = result.get(name)
            if value is not None:
                return value
        result = tuple(result.values())
    elif not issubclass(kind, (list, tuple)):
        values = attributes_of(result)
        return next((v for n in NAMES if (v := values.get(n)) is not None), None)
    return next((value for value in result if is_cache(value)), None)


def is_cache(value: Any) -> bool:
    """Whether a value is a cache by its class, or a sequence of (key, value) by its content."""
    if is_sequence(value):
        return _pair(value) is not None
    kind: Any = type(value)
    return _is_cache_class(kind)


def is_sequence(cache: Any) -> bool:
    """Whether it is a tuple or list, which can't be referred to weakly and is never the same."""
    # By its class: `isinstance` asks an object for `__class__`, which may run the program's code.
    return issubclass(type(cache), (list, tuple))


def layers_of(cache: Any) -> tuple[list[Any], int] | None:
    """The layer objects of a cache and how many of them are self-attention's, if it has any."""
    values = attributes_of(cache)
    own = values.get("self_attention_cache")
    if own is not None:
        first, second = layers_of(own), layers_of(values.get("cross_attention_cache"))
        if first is None or second is None:
            return None
        return first[0] + second[0], first[1]
    layers = values.get("layers")
    if not isinstance(layers, list):
        return None
    return list(layers), len(layers)


def attributes_of(value: Any) -> Mapping[str, Any]:
    """What an object of any class has in its dictionary; asking for attributes may run its code."""
    try:
        return object.__getattribute__(value, "__dict__")  # type: ignore[no-any-return]
    except AttributeError as missing:
        let_through(missing)
        return {}


def first_key(cache: Sequence[Any]) -> torch.Tensor | None:
    """The first key of a sequence of (key, value), if that is what it is."""
    pair = _pair(cache)
    return None if pair is None else pair[0]


def sequence_dimension(
    first: torch.Size | None, last: torch.Size, length: int | None, *, usual: bool
) -> int | None:
    """Which dimension of a key in a tuple counts tokens, or None where nothing tells.

    Args:
        first: its shape when it was first seen.
        last: its shape now.
        length: tokens in the input of the call that first returned it.
        usual: whether it is the last but one by convention.
    """
    dimensions: list[int] = [len(last) - 2, *range(len(last) - 2)]
    if first is not None and len(first) == len(last) and first != last:
        dimensions = [number for number in dimensions if first[number] != last[number]]
        return dimensions[0] if len(dimensions) == 1 else None
    if usual:
        return dimensions[0]
    return next((number for number in dimensions if last[number] == length), None)


def read(cache: Any) -> Reading:
    """The size of a cache now. About 1 µs a layer (docs/kv_cache.md)."""
    found = layers_of(cache)
    if found is not None:
        return read_layers(cache, *found)
    tensors: list[torch.Tensor] = []
    if is_sequence(cache):
        _collect(cache, tensors)
        pair = _pair(cache)
        layers = sum(layer is not None for layer in cache)
        return _reading(
            "tuple", tensors, layers=layers, shape=None if pair is None else pair[0].shape
        )
    return read_values(type(cache), attributes_of(cache))


def read_values(owner: Any, values: Mapping[str, Any]) -> Reading:
    """The size of a cache without layer objects.

    Args:
        owner: its class.
        values: its attributes.
    """
    tensors: list[torch.Tensor] = []
    _collect(values.values(), tensors)
    kind, states = kind_of(owner), values.get("conv_states")
    inner = values.get("self_attention_cache")
    own, holder = (values, owner) if inner is None else (vars(inner), type(inner))
    lists = own.get("key_cache")
    keys = [key for key in lists or () if isinstance(key, torch.Tensor) and key.dim() > 2]
    longest = max((key.shape[-2] for key in keys), default=None if lists is None else 0)
    fixed = "max_cache_len" in own or hasattr(holder, "max_cache_len")
    tokens = None if fixed else longest
    if kind == "quantized":
        tokens = _count(own.get("_seen_tokens"))
    layers = len(keys)
    if isinstance(states, torch.Tensor):  # all layers in one
        layers = states.shape[0]
    elif states is not None and not keys:
        layers = len(states)
    return _reading(kind, tensors, tokens, longest if fixed else None, layers or None)


def read_layers(cache: Any, layers: list[Any], own: int) -> Reading:
    """The size of layers.

    Args:
        cache: theirs, or its class.
        layers: of which those that are gone are None.
        own: how many of them are self-attention's, which come first.
    """
    tensors: list[torch.Tensor] = []
    tokens = capacity = None
    filled = 0
    for number, layer in enumerate(layers):
        before = len(tensors)
        parts = vars(layer)
        _collect(parts.values(), tensors)
        if number >= own or len(tensors) == before:
            continue
        filled += 1
        keys = parts.get("keys")
        length = keys.shape[-2] if keys is not None and keys.dim() > 2 else None
        if "max_cache_len" in parts:
            capacity = _larger(capacity, length)
            length = _count(parts.get("cumulative_length_int"))
            if length is not None and capacity is not None:
                length = min(length, capacity)
        elif "_quantized_keys" in parts:
            length = _count(parts.get("cumulative_length"))
        if length is not None and (tokens is None or length > tokens):
            tokens = length
    kind_: Any = type(cache)
    is_class = issubclass(kind_, type)
    owner: Any = cache if is_class else kind_
    offloads = not is_class and bool(attributes_of(cache).get("offloading"))
    kind = "offloaded" if offloads else kind_of(owner, frozenset(map(type, layers[:own])))
    return _reading(kind, tensors, tokens, capacity, filled)


@functools.lru_cache(maxsize=256)
def kind_of(owner: type, parts: frozenset[type] = frozenset()) -> str:
    """What a cache of this class with layers of these classes is called."""
    name = _lineage(owner)
    layers = [lineage for lineage in map(_lineage, parts) if "Dummy" not in lineage]
    recurrent = sum("Linear" in layer for layer in layers)
    attending = sum("DynamicLayer" in layer or "StaticLayer" in layer for layer in layers)
    sliding = sum("Sliding" in layer for layer in layers)
    everything = " ".join([name, *layers])
    if "EncoderDecoder" in name:
        return "encoder_decoder"
    for word in ("Offloaded", "Quantized"):
        if word in everything:
            return word.lower()
    if recurrent or "Mamba" in name:
        return "hybrid" if attending or "Hybrid" in name or "Attention" in name else "state"
    if "Static" in everything:
        return "static"
    if "Hybrid" in name or 0 < sliding < len(layers):
        return "hybrid"
    if sliding or "Sliding" in name or "Sink" in name:
        return "sliding"
    return "dynamic" if "Dynamic" in everything else "other"


@functools.lru_cache(maxsize=256)
def _lineage(owner: type) -> str:
    return " ".join(base.__name__ for base in owner.__mro__)


@functools.lru_cache(maxsize=1024)
def _is_cache_class(kind: type) -> bool:
    return not issubclass(kind, torch.Tensor) and any(
        base.__name__.endswith("Cache") for base in kind.__mro__
    )


def _pair(value: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The first layer's key and value of a sequence of layers, if that is what it is."""
    for layer in value:
        if layer is None:
            continue
        if isinstance(layer, (list, tuple)) and len(layer) >= 2:
            key, content = layer[0], layer[1]
            if (
                isinstance(key, torch.Tensor)
                and isinstance(content, torch.Tensor)
                and key.dim() > 2
                and content.dim() > 2
            ):
                return key, content
        return None
    return None


def _collect(values: Iterable[Any], found: list[torch.Tensor], depth: int = 0) -> None:
    """Gather the tensors in values and in what they hold. Vectors and scalars are bookkeeping."""
    for value in values:
        kind: Any = type(value)
        if kind is torch.Tensor:
            if value.dim() > 1:
                found.append(value)
        elif kind in _NO_TENSOR:
            pass
        elif isinstance(value, torch.Tensor):
            if hasattr(value, "__tensor_flatten__"):
                # A quantized tensor is a shell: what it holds lies in tensors inside.
                names = value.__tensor_flatten__()[0]
                _collect([getattr(value, name) for name in names], found, depth + 1)
            elif value.dim() > 1:
                found.append(value)
        elif depth < _DEEPEST:
            if isinstance(value, (list, tuple)):
                _collect(value, found, depth + 1)
            elif isinstance(value, dict):
                _collect(value.values(), found, depth + 1)
            elif _is_cache_class(kind):
                _collect(vars(value).values(), found, depth + 1)


def _reading(
    kind: str,
    tensors: list[torch.Tensor],
    tokens: int | None = None,
    capacity: int | None = None,
    layers: int | None = None,
    shape: torch.Size | None = None,
) -> Reading:
    sizes: dict[int, int] = {}
    first = last = None
    for tensor in tensors:
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        if size:
            sizes[storage._cdata] = size
            first, last = first or storage, storage
    if first is None or last is None:
        return Reading(kind, 0, 0 if capacity is None else tokens, capacity, layers)
    return Reading(
        kind,
        sum(sizes.values()),
        tokens,
        capacity,
        layers,
        shape,
        StorageWeakRef(first),
        StorageWeakRef(last),
    )


def _count(value: Any) -> int | None:
    """A count that is kept as a number; one in a tensor would have to be read from the device."""
    return value if type(value) is int else None


def _larger(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)
