"""One finished inference, and the table that makes attributes of it and reads them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from warpspan.records.generation import Loop, loop_attributes, read_loop
from warpspan.records.syncs import Syncs, Transfers
from warpspan.records.values import Cache, Device, Input, Memory, Model, Steps, Timing, Usage
from warpspan.signals import names

AttributeValue: TypeAlias = str | bool | int | float | tuple[int, ...] | tuple[str, ...]

_DEVICE = (names.PYTORCH_DEVICE_TYPE, names.PYTORCH_DEVICE_INDEX, names.HW_ID)
_MODEL = (
    names.PYTORCH_MODEL_NAME,
    names.PYTORCH_MODEL_PARAMETER_COUNT,
    names.PYTORCH_MODEL_PARAMETER_SIZE,
    names.PYTORCH_MODEL_DTYPE,
    names.PYTORCH_MODEL_QUANTIZATION,
    names.PYTORCH_MODEL_COMPILED,
    names.PYTORCH_MODEL_DEVICE_COUNT,
)
_INPUT = (
    names.PYTORCH_INPUT_BATCH_SIZE,
    names.PYTORCH_INPUT_SEQUENCE_LENGTH,
    names.PYTORCH_INPUT_SHAPE,
)
_TIMING = (
    names.PYTORCH_HOST_CPU_TIME,
    names.PYTORCH_DEVICE_TIME,
    names.PYTORCH_DEVICE_QUEUE_TIME,
    names.PYTORCH_DEVICE_IDLE_TIME,
    names.PYTORCH_INFERENCE_CONCURRENCY,
    names.PYTORCH_HOST_GC_TIME,
    names.PYTORCH_HOST_GC_COUNT,
)
_MEMORY = (
    names.PYTORCH_MEMORY_ALLOCATED_START,
    names.PYTORCH_MEMORY_ALLOCATED_END,
    names.PYTORCH_MEMORY_PEAK_SIZE,
    names.PYTORCH_MEMORY_PEAK_INCREASE,
    names.PYTORCH_MEMORY_RESERVED,
    names.PYTORCH_MEMORY_LIMIT,
    names.PYTORCH_MEMORY_UTILIZATION,
    names.PYTORCH_MEMORY_ALLOCATION_RETRIES,
    names.PYTORCH_MEMORY_OOM_REQUESTED,
    names.PYTORCH_HOST_MEMORY_RSS,
)
_USAGE = (
    names.PYTORCH_GPU_TIME,
    names.PYTORCH_SM_CYCLES_ACTIVE,
    names.PYTORCH_SM_CYCLES_ELAPSED,
    names.PYTORCH_SM_CLOCK,
    names.PYTORCH_SM_UTILIZATION,
    names.PYTORCH_SM_OCCUPANCY,
    names.PYTORCH_TENSOR_CORE_UTILIZATION,
    names.PYTORCH_DRAM_UTILIZATION,
    names.PYTORCH_SM_SOURCE,
    names.PYTORCH_SM_SCOPE,
    names.PYTORCH_ENERGY_USED,
    names.PYTORCH_ENERGY_POWER,
    names.PYTORCH_ENERGY_SOURCE,
    names.PYTORCH_GPU_UTILIZATION,
    names.PYTORCH_GPU_TEMPERATURE,
    names.PYTORCH_GPU_THROTTLE_REASONS,
    names.PYTORCH_GPU_ESTIMATED,
)
_STEPS = (names.PYTORCH_STEP_COUNT, names.PYTORCH_STEP_FIRST_TIME, names.PYTORCH_STEP_TIME)
_CACHE = (
    names.PYTORCH_KV_CACHE_TYPE,
    names.PYTORCH_KV_CACHE_SIZE,
    names.PYTORCH_KV_CACHE_INCREASE,
    names.PYTORCH_KV_CACHE_TOKEN_COUNT,
    names.PYTORCH_KV_CACHE_TOKEN_INCREASE,
    names.PYTORCH_KV_CACHE_TOKEN_CAPACITY,
    names.PYTORCH_KV_CACHE_LAYER_COUNT,
    names.PYTORCH_KV_CACHE_RETAINED,
    names.PYTORCH_KV_CACHE_WEIGHT_RATIO,
    names.PYTORCH_KV_CACHE_UTILIZATION,
    names.PYTORCH_KV_CACHE_ALIVE_SIZE,
    names.PYTORCH_KV_CACHE_ALIVE_COUNT,
    names.PYTORCH_KV_CACHE_LEAK_SCORE,
    names.PYTORCH_KV_CACHE_LEAK_START,
)
_END = (*_MODEL, *_INPUT, *_TIMING, *_MEMORY, *_STEPS, names.ERROR_TYPE)
_NO_MEMORY = Memory()
_NO_STEPS = Steps()
_NO_USAGE = Usage()
_NO_CACHE = Cache()


class Inference(NamedTuple):
    """One finished inference.

    Args:
        operation: what ran, `forward` for a module call.
        start_ns: Unix time of its start in nanoseconds.
        duration_s: seconds on the host.
        error_type: class of the exception that left it, or None.
        trace_id: hex id of its trace, empty where no span was recorded.
        span_id: hex id of its span, likewise.
        parent_span_id: hex id of the span that was current, likewise.
        process: identity of the process that ran it where it was read back, empty in that process.
    """

    operation: str
    start_ns: int
    duration_s: float
    device: Device
    model: Model = Model()
    input: Input = Input()
    timing: Timing = Timing()
    memory: Memory | None = None
    steps: Steps | None = None
    usage: Usage | None = None
    cache: Cache | None = None
    loop: Loop | None = None
    syncs: Syncs | None = None
    transfers: Transfers | None = None
    error_type: str | None = None
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    process: str = ""

    @property
    def out_of_memory(self) -> bool:
        """Whether it ran out of memory: on a GPU by the class of the error, on a CPU by its text."""
        return (self.error_type or "").endswith("OutOfMemoryError") or (
            self.memory is not None and self.memory.oom_requested_bytes is not None
        )

    @property
    def end_ns(self) -> int:
        """Unix time of its end in nanoseconds."""
        return self.start_ns + round(self.duration_s * 1e9)

    def start_attributes(self) -> dict[str, AttributeValue]:
        """What is known when it begins: also the attributes of its metrics."""
        return start_attributes(self.operation, self.model.name, self.device)

    def end_attributes(self) -> dict[str, AttributeValue]:
        """What is known when it ended; nothing that was not measured."""
        values = (
            *self.model,
            *self.input,
            *self.timing,
            *(self.memory or _NO_MEMORY),
            *(self.steps or _NO_STEPS),
            self.error_type,
        )
        attributes: dict[str, AttributeValue] = {
            name: value for name, value in zip(_END, values, strict=True) if value is not None
        }
        if self.usage is not None:
            had = zip(_USAGE, self.usage, strict=True)
            attributes |= {name: value for name, value in had if value is not None}
        if self.cache is not None:
            held = zip(_CACHE, self.cache, strict=True)
            attributes |= {name: value for name, value in held if value is not None}
        if self.loop is not None:
            attributes |= loop_attributes(self.loop)
        for group in (self.syncs, self.transfers):
            if group is not None:
                attributes |= {
                    name: value for name, value in group.attributes() if value is not None
                }
        return attributes

    def to_json(self) -> dict[str, Any]:
        """A value for `json.dumps`, read back by `from_json`."""
        return {
            "start_ns": self.start_ns,
            "duration_s": self.duration_s,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_span_id": self.parent_span_id,
            "process": self.process,
            "attributes": self.start_attributes() | self.end_attributes(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Inference:
        """The record that `to_json` wrote.

        Raises:
            KeyError: a required field or attribute is missing.
        """
        return cls.from_attributes(
            value["attributes"],
            start_ns=value["start_ns"],
            duration_s=value["duration_s"],
            trace_id=value["trace_id"],
            span_id=value["span_id"],
            parent_span_id=value["parent_span_id"],
            process=value["process"],
        )

    @classmethod
    def from_attributes(
        cls,
        attributes: Mapping[str, Any],
        *,
        start_ns: int,
        duration_s: float,
        trace_id: str = "",
        span_id: str = "",
        parent_span_id: str = "",
        process: str = "",
    ) -> Inference:
        """The record behind the attributes of an inference span.

        Raises:
            KeyError: the attributes are not those of an inference.
        """
        get = attributes.get
        shape = get(names.PYTORCH_INPUT_SHAPE)
        memory = Memory(*map(get, _MEMORY))
        steps = Steps(*map(get, _STEPS))
        usage = Usage(*map(get, _USAGE))
        cache = Cache(*map(get, _CACHE))
        if usage.throttle_reasons is not None:
            usage = usage._replace(throttle_reasons=tuple(usage.throttle_reasons))
        return cls(
            operation=attributes[names.PYTORCH_OPERATION_NAME],
            start_ns=start_ns,
            duration_s=duration_s,
            device=Device(attributes[names.PYTORCH_DEVICE_TYPE], *map(get, _DEVICE[1:])),
            model=Model(*map(get, _MODEL)),
            input=Input(*map(get, _INPUT))._replace(shape=tuple(shape) if shape else None),
            timing=Timing(*map(get, _TIMING)),
            memory=None if memory == _NO_MEMORY else memory,
            steps=None if steps == _NO_STEPS else steps,
            usage=None if usage == _NO_USAGE else usage,
            cache=None if cache == _NO_CACHE else cache,
            loop=read_loop(attributes),
            syncs=Syncs.from_attributes(attributes),
            transfers=Transfers.from_attributes(attributes),
            error_type=get(names.ERROR_TYPE),
            trace_id=trace_id,
            span_id=span_id,
            parent_span_id=parent_span_id,
            process=process,
        )


def start_attributes(
    operation: str, model_name: str | None, device: Device
) -> dict[str, AttributeValue]:
    """The attributes that a span has from its start, which samplers see."""
    attributes: dict[str, AttributeValue] = {names.PYTORCH_OPERATION_NAME: operation}
    if model_name is not None:
        attributes[names.PYTORCH_MODEL_NAME] = model_name
    attributes.update(device_attributes(device))
    return attributes


def device_attributes(device: Device) -> dict[str, AttributeValue]:
    """The attributes that name a device."""
    return {name: value for name, value in zip(_DEVICE, device, strict=True) if value is not None}
