"""The values that flow through warpspan: immutable, with units in their names.

Each group of values is a named tuple whose fields stand in the order of its attribute names, so
that one table turns a record into span attributes and span attributes back into a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from warpspan import signals

AttributeValue: TypeAlias = str | bool | int | float | tuple[int, ...] | tuple[str, ...]


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


class DeviceSample(NamedTuple):
    """What the driver said of a device at one time. Shares are since the sample before it.

    Args:
        taken_ns: host clock.
        device_id: UUID of the device or MIG instance.
        shared: whether another process computes on it, too.
        cost_s: how long the driver took.
        skew_s: how far apart in time its counters were read.
    """

    taken_ns: int
    device_id: str
    energy_j: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    sm_clock_hz: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    utilization: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    sm_utilization: float | None = None
    sm_occupancy: float | None = None
    tensor_utilization: float | None = None
    dram_utilization: float | None = None
    corrected_errors: int | None = None
    uncorrected_errors: int | None = None
    shared: bool | None = None
    cost_s: float = 0.0
    skew_s: float = 0.0


class Quantities(NamedTuple):
    """Amounts of a device over some time: they add up, None where one was not measured."""

    time_s: float = 0.0
    energy_j: float | None = None
    sm_cycles_active: float | None = None
    sm_cycles_elapsed: float | None = None


class DeviceUsage(NamedTuple):
    """A sampled device: its latest sample, and what of it inferences had since the first one.

    `used` and `idle` together are what the device counted.

    Args:
        device: what torch calls it.
        name: its model.
        sample: the latest one.
        used: what inferences had.
        idle: the rest.
        samples: how many there were.
        cost_s: how long the driver took for them.
    """

    device: Device
    name: str | None
    sample: DeviceSample | None
    used: Quantities
    idle: Quantities
    samples: int
    cost_s: float


class DeviceState(NamedTuple):
    """A device now: inferences open on it, and the allocator when the last one ended."""

    device: Device
    open: int
    allocated_bytes: int | None
    reserved_bytes: int | None


_DEVICE = (signals.PYTORCH_DEVICE_TYPE, signals.PYTORCH_DEVICE_INDEX, signals.HW_ID)
_MODEL = (
    signals.PYTORCH_MODEL_NAME,
    signals.PYTORCH_MODEL_PARAMETER_COUNT,
    signals.PYTORCH_MODEL_PARAMETER_SIZE,
    signals.PYTORCH_MODEL_DTYPE,
    signals.PYTORCH_MODEL_QUANTIZATION,
    signals.PYTORCH_MODEL_COMPILED,
    signals.PYTORCH_MODEL_DEVICE_COUNT,
)
_INPUT = (
    signals.PYTORCH_INPUT_BATCH_SIZE,
    signals.PYTORCH_INPUT_SEQUENCE_LENGTH,
    signals.PYTORCH_INPUT_SHAPE,
)
_TIMING = (
    signals.PYTORCH_HOST_CPU_TIME,
    signals.PYTORCH_DEVICE_TIME,
    signals.PYTORCH_DEVICE_QUEUE_TIME,
    signals.PYTORCH_DEVICE_IDLE_TIME,
    signals.PYTORCH_INFERENCE_CONCURRENCY,
    signals.PYTORCH_HOST_GC_TIME,
    signals.PYTORCH_HOST_GC_COUNT,
)
_MEMORY = (
    signals.PYTORCH_MEMORY_ALLOCATED_START,
    signals.PYTORCH_MEMORY_ALLOCATED_END,
    signals.PYTORCH_MEMORY_PEAK_SIZE,
    signals.PYTORCH_MEMORY_PEAK_INCREASE,
    signals.PYTORCH_MEMORY_RESERVED,
    signals.PYTORCH_MEMORY_LIMIT,
    signals.PYTORCH_MEMORY_UTILIZATION,
    signals.PYTORCH_MEMORY_ALLOCATION_RETRIES,
    signals.PYTORCH_MEMORY_OOM_REQUESTED,
    signals.PYTORCH_HOST_MEMORY_RSS,
)
_USAGE = (
    signals.PYTORCH_GPU_TIME,
    signals.PYTORCH_SM_CYCLES_ACTIVE,
    signals.PYTORCH_SM_CYCLES_ELAPSED,
    signals.PYTORCH_SM_CLOCK,
    signals.PYTORCH_SM_UTILIZATION,
    signals.PYTORCH_SM_OCCUPANCY,
    signals.PYTORCH_TENSOR_CORE_UTILIZATION,
    signals.PYTORCH_DRAM_UTILIZATION,
    signals.PYTORCH_SM_SOURCE,
    signals.PYTORCH_SM_SCOPE,
    signals.PYTORCH_ENERGY_USED,
    signals.PYTORCH_ENERGY_POWER,
    signals.PYTORCH_ENERGY_SOURCE,
    signals.PYTORCH_GPU_UTILIZATION,
    signals.PYTORCH_GPU_TEMPERATURE,
    signals.PYTORCH_GPU_THROTTLE_REASONS,
    signals.PYTORCH_GPU_ESTIMATED,
)
_STEPS = (signals.PYTORCH_STEP_COUNT, signals.PYTORCH_STEP_FIRST_TIME, signals.PYTORCH_STEP_TIME)
_END = (*_MODEL, *_INPUT, *_TIMING, *_MEMORY, *_STEPS, signals.ERROR_TYPE)
_NO_MEMORY = Memory()
_NO_STEPS = Steps()
_NO_USAGE = Usage()


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
        shape = get(signals.PYTORCH_INPUT_SHAPE)
        memory = Memory(*map(get, _MEMORY))
        steps = Steps(*map(get, _STEPS))
        usage = Usage(*map(get, _USAGE))
        if usage.throttle_reasons is not None:
            usage = usage._replace(throttle_reasons=tuple(usage.throttle_reasons))
        return cls(
            operation=attributes[signals.PYTORCH_OPERATION_NAME],
            start_ns=start_ns,
            duration_s=duration_s,
            device=Device(attributes[signals.PYTORCH_DEVICE_TYPE], *map(get, _DEVICE[1:])),
            model=Model(*map(get, _MODEL)),
            input=Input(*map(get, _INPUT))._replace(shape=tuple(shape) if shape else None),
            timing=Timing(*map(get, _TIMING)),
            memory=None if memory == _NO_MEMORY else memory,
            steps=None if steps == _NO_STEPS else steps,
            usage=None if usage == _NO_USAGE else usage,
            error_type=get(signals.ERROR_TYPE),
            trace_id=trace_id,
            span_id=span_id,
            parent_span_id=parent_span_id,
            process=process,
        )


def start_attributes(
    operation: str, model_name: str | None, device: Device
) -> dict[str, AttributeValue]:
    """The attributes that a span has from its start, which samplers see."""
    attributes: dict[str, AttributeValue] = {signals.PYTORCH_OPERATION_NAME: operation}
    if model_name is not None:
        attributes[signals.PYTORCH_MODEL_NAME] = model_name
    attributes.update(device_attributes(device))
    return attributes


def device_attributes(device: Device) -> dict[str, AttributeValue]:
    """The attributes that name a device."""
    return {name: value for name, value in zip(_DEVICE, device, strict=True) if value is not None}
