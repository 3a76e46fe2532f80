"""The groups of values of an inference, each in the order of its attribute names."""

from __future__ import annotations

from typing import NamedTuple


class Device(NamedTuple):
    """The device of an inference; `ordinal` is its index as torch counts."""

    type: str
    ordinal: int | None = None
    id: str | None = None


class Model(NamedTuple):
    """What is known of a model. `parameter_bytes` is the size as stored."""

    name: str | None = None
    parameter_count: int | None = None
    parameter_bytes: int | None = None
    dtype: str | None = None
    quantization: str | None = None
    compiled: bool | None = None
    device_count: int | None = None


class Input(NamedTuple):
    """The input tensor, from its shape."""

    batch_size: int | None = None
    sequence_length: int | None = None
    shape: tuple[int, ...] | None = None


class Timing(NamedTuple):
    """Times beside the inference's own start and duration."""

    cpu_time_s: float | None = None
    device_time_s: float | None = None
    queue_time_s: float | None = None
    idle_time_s: float | None = None
    concurrency: int | None = None
    gc_time_s: float | None = None
    gc_count: int | None = None


class Memory(NamedTuple):
    """Memory of the device in torch's caching allocator; `rss_bytes` is the host process's."""

    allocated_start_bytes: int | None = None
    allocated_end_bytes: int | None = None
    peak_bytes: int | None = None
    peak_increase_bytes: int | None = None
    reserved_bytes: int | None = None
    limit_bytes: int | None = None
    utilization: float | None = None
    allocation_retries: int | None = None
    oom_requested_bytes: int | None = None
    rss_bytes: int | None = None


class Steps(NamedTuple):
    """The module calls inside an inference that is not a module call itself."""

    total: int | None = None
    first_s: float | None = None
    duration_s: float | None = None


class Usage(NamedTuple):
    """What an inference had of its GPU: its share of what the driver counted while it ran.

    `sm_*` and `*_utilization` are shares from 0 to 1 while it ran, not over the whole time.
    """

    gpu_time_s: float | None = None
    sm_cycles_active: float | None = None
    sm_cycles_elapsed: float | None = None
    sm_clock_hz: float | None = None
    sm_utilization: float | None = None
    sm_occupancy: float | None = None
    tensor_utilization: float | None = None
    dram_utilization: float | None = None
    sm_source: str | None = None
    sm_scope: str | None = None
    energy_j: float | None = None
    power_w: float | None = None
    energy_source: str | None = None
    utilization: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    estimated: bool | None = None


class Cache(NamedTuple):
    """The KV cache of an inference when it ended, and all those of its model that live.

    Sizes are bytes. `retained` is what was still referred to when the inference was finished,
    `leak_start_s` a Unix time.
    """

    type: str | None = None
    size: int | None = None
    increase: int | None = None
    tokens: int | None = None
    token_increase: int | None = None
    capacity: int | None = None
    layers: int | None = None
    retained: int | None = None
    weight_ratio: float | None = None
    utilization: float | None = None
    alive: int | None = None
    alive_count: int | None = None
    leak_score: float | None = None
    leak_start_s: float | None = None
