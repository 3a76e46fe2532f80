"""The KV cache of an inference."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from warpspan.records.attr import attr
from warpspan.records.model import Device
from warpspan.signals import names


class Cache(NamedTuple):
    """The KV cache of an inference when it ended, and all those of its model that live.

    Args:
        type: what kind of cache it is.
        size_bytes: of the largest cache.
        increase_bytes: what the inference added; negative where it cut the cache.
        tokens: tokens per sequence in it.
        token_increase: what the inference added of them.
        token_capacity: tokens per sequence that it has room for.
        layers: layers of the model that keep anything in it.
        retained_bytes: what was still referred to when the inference was finished.
        weight_ratio: its size over that of the parameters.
        utilization: its size over the memory of the device.
        alive_bytes: of all caches of the model on the device.
        alive_count: how many those are.
        leak_score: how likely it is that they leak, from 0 to 1.
        leak_start_s: Unix time of the inference that first saw the oldest leaking one.
    """

    type: Annotated[str | None, attr(names.PYTORCH_KV_CACHE_TYPE)] = None
    size_bytes: Annotated[int | None, attr(names.PYTORCH_KV_CACHE_SIZE)] = None
    increase_bytes: Annotated[int | None, attr(names.PYTORCH_KV_CACHE_INCREASE, signed=True)] = None
    tokens: Annotated[int | None, attr(names.PYTORCH_KV_CACHE_TOKEN_COUNT)] = None
    token_increase: Annotated[
        int | None, attr(names.PYTORCH_KV_CACHE_TOKEN_INCREASE, signed=True, detail=True)
    ] = None
    token_capacity: Annotated[
        int | None, attr(names.PYTORCH_KV_CACHE_TOKEN_CAPACITY, detail=True)
    ] = None
    layers: Annotated[int | None, attr(names.PYTORCH_KV_CACHE_LAYER_COUNT, detail=True)] = None
    retained_bytes: Annotated[int | None, attr(names.PYTORCH_KV_CACHE_RETAINED)] = None
    weight_ratio: Annotated[
        float | None, attr(names.PYTORCH_KV_CACHE_WEIGHT_RATIO, detail=True)
    ] = None
    utilization: Annotated[float | None, attr(names.PYTORCH_KV_CACHE_UTILIZATION, detail=True)] = (
        None
    )
    alive_bytes: Annotated[int | None, attr(names.PYTORCH_KV_CACHE_ALIVE_SIZE)] = None
    alive_count: Annotated[int | None, attr(names.PYTORCH_KV_CACHE_ALIVE_COUNT)] = None
    leak_score: Annotated[float | None, attr(names.PYTORCH_KV_CACHE_LEAK_SCORE)] = None
    leak_start_s: Annotated[float | None, attr(names.PYTORCH_KV_CACHE_LEAK_START)] = None


class CacheState(NamedTuple):
    """The KV caches of a model on a device now: those that are alive, and their leak score."""

    model: str
    device: Device
    alive_bytes: int
    alive_count: int
    leak_score: float
