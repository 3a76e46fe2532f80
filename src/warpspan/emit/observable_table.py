"""The metrics that are asked for when metrics are collected: one row each.

Callbacks read what is there: the sampler's latest sample, the allocator's when the last inference
ended. Nobody asks the driver when metrics are collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from warpspan import guard
from warpspan.emit.metric_table import TOTALS
from warpspan.emit.recorder import Kept, sdk
from warpspan.records import (
    CacheState,
    DeviceSample,
    DeviceState,
    DeviceUsage,
    GpuActivity,
    Quantities,
    device_attributes,
)
from warpspan.signals import instruments, names
from warpspan.signals.instruments import Metric

Points: TypeAlias = Iterable[tuple[float | None, Mapping[str, Any]]]

_VENDOR = "NVIDIA"


class Finisher(Protocol):
    """What makes records of inferences that ended."""

    @property
    def waiting(self) -> int:
        """Inferences that wait for it."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """Inferences that were not recorded, or not whole, by reason."""

    def longest_slice_s(self) -> float | None:
        """Its longest turn since this was asked before; None where it had none."""


class Sources(NamedTuple):
    """What is asked when metrics are collected.

    Args:
        devices: the devices of this process.
        finisher: what waits for it, what was lost there, and how long its turns are.
        usage: the sampled devices.
        caches: the KV caches that are alive.
        skipped: module calls that were no inference, by reason.
        kept: the sums over inferences.
        hardware: whether to export `hw.*`.
    """

    devices: Callable[[], Iterable[DeviceState]]
    finisher: Finisher
    usage: Callable[[], Iterable[DeviceUsage]]
    caches: Callable[[], Iterable[CacheState]]
    skipped: Callable[[], Mapping[str, int]]
    kept: Kept
    hardware: bool


class Observable(NamedTuple):
    """An observable instrument; its kind is the registry's.

    Args:
        metric: its declaration.
        points: its values, each with its labels. One of None is not observed.
    """

    metric: Metric
    points: Callable[[Sources], Points]


def _counts(label: str, counts: Mapping[str, int]) -> Points:
    # A copy: whoever counts does not wait for the collection.
    return [(count, {label: value}) for value, count in list(counts.items())]


def _summed(metric: Metric) -> Callable[[Sources], Points]:
    return lambda sources: sources.kept.sums[metric.name].points()


def _memory(sources: Sources) -> Points:
    for state in sources.devices():
        labels = device_attributes(state.device)
        yield state.allocated_bytes, {**labels, names.PYTORCH_MEMORY_STATE: "allocated"}
        yield state.reserved_bytes, {**labels, names.PYTORCH_MEMORY_STATE: "reserved"}


def _caches(value: Callable[[CacheState], float]) -> Callable[[Sources], Points]:
    return lambda sources: (
        (
            value(state),
            {names.PYTORCH_MODEL_NAME: state.model, **device_attributes(state.device)},
        )
        for state in sources.caches()
    )


def _activities(value: Callable[[Quantities], float | None]) -> Callable[[Sources], Points]:
    def points(sources: Sources) -> Points:
        for usage in sources.usage():
            labels = device_attributes(usage.device)
            yield (
                value(usage.used),
                {**labels, names.PYTORCH_GPU_ACTIVITY: GpuActivity.INFERENCE.value},
            )
            yield value(usage.idle), {**labels, names.PYTORCH_GPU_ACTIVITY: GpuActivity.IDLE.value}

    return points


def _sampler(value: Callable[[DeviceUsage], float]) -> Callable[[Sources], Points]:
    return lambda sources: ((value(usage), _identity(usage)) for usage in sources.usage())


def _hardware(
    value: Callable[[DeviceSample], float | None], *, typed: bool = False
) -> Callable[[Sources], Points]:
    return lambda sources: (
        (value(sample), labels) for sample, labels in _samples(sources, typed=typed)
    )


def _errors(sources: Sources) -> Points:
    for sample, labels in _samples(sources, typed=True):
        yield sample.corrected_errors, {**labels, names.ERROR_TYPE: "corrected"}
        yield sample.uncorrected_errors, {**labels, names.ERROR_TYPE: "uncorrected"}


def _samples(sources: Sources, *, typed: bool) -> Iterator[tuple[DeviceSample, dict[str, str]]]:
    for usage in sources.usage() if sources.hardware else ():
        if usage.sample is not None:
            name = {names.HW_NAME: usage.name} if usage.name else {}
            kind = {names.HW_TYPE: "gpu"} if typed else {}
            yield (
                usage.sample,
                {**_identity(usage), **name, names.HW_VENDOR: _VENDOR, **kind},
            )


def _identity(usage: DeviceUsage) -> dict[str, str]:
    device_id = usage.sample.device_id if usage.sample is not None else usage.device.id
    return {names.HW_ID: device_id} if device_id else {}


def _memory_utilization(sample: DeviceSample) -> float | None:
    used, limit = sample.memory_used_bytes, sample.memory_total_bytes
    return used / limit if used is not None and limit else None


TABLE = (
    Observable(
        instruments.PYTORCH_INFERENCE_ACTIVE,
        lambda sources: (
            (state.open, device_attributes(state.device)) for state in sources.devices()
        ),
    ),
    Observable(instruments.PYTORCH_MEMORY_USAGE, _memory),
    *(Observable(metric, _summed(metric)) for metric in TOTALS),
    Observable(instruments.PYTORCH_KV_CACHE_USAGE, _caches(lambda state: state.alive_bytes)),
    Observable(instruments.PYTORCH_KV_CACHE_COUNT, _caches(lambda state: state.alive_count)),
    Observable(instruments.PYTORCH_KV_CACHE_LEAK_SCORE, _caches(lambda state: state.leak_score)),
    Observable(instruments.PYTORCH_GPU_SAMPLED_TIME, _activities(lambda part: part.time_s)),
    Observable(instruments.PYTORCH_GPU_SAMPLED_ENERGY, _activities(lambda part: part.energy_j)),
    Observable(
        instruments.PYTORCH_GPU_SAMPLED_CYCLES, _activities(lambda part: part.sm_cycles_active)
    ),
    Observable(instruments.HW_GPU_UTILIZATION, _hardware(lambda sample: sample.utilization)),
    Observable(instruments.HW_GPU_MEMORY_USAGE, _hardware(lambda sample: sample.memory_used_bytes)),
    Observable(
        instruments.HW_GPU_MEMORY_LIMIT, _hardware(lambda sample: sample.memory_total_bytes)
    ),
    Observable(instruments.HW_GPU_MEMORY_UTILIZATION, _hardware(_memory_utilization)),
    Observable(instruments.HW_POWER, _hardware(lambda sample: sample.power_w, typed=True)),
    Observable(instruments.HW_ENERGY, _hardware(lambda sample: sample.energy_j, typed=True)),
    Observable(
        instruments.HW_TEMPERATURE, _hardware(lambda sample: sample.temperature_c, typed=True)
    ),
    Observable(instruments.HW_ERRORS, _errors),
    Observable(instruments.WARPSPAN_SAMPLER_SAMPLES, _sampler(lambda usage: usage.samples)),
    Observable(instruments.WARPSPAN_SAMPLER_TIME, _sampler(lambda usage: usage.cost_s)),
    Observable(
        instruments.WARPSPAN_SKIPPED,
        lambda sources: _counts(names.WARPSPAN_SKIP_REASON, sources.skipped()),
    ),
    Observable(
        instruments.WARPSPAN_DROPPED,
        lambda sources: _counts(names.WARPSPAN_DROP_REASON, sources.finisher.dropped),
    ),
    Observable(
        instruments.WARPSPAN_FAULTS,
        lambda _: _counts(names.WARPSPAN_FAULT_ORIGIN, guard.faults),
    ),
    Observable(
        instruments.WARPSPAN_LABELS_FOLDED,
        lambda sources: _counts(names.WARPSPAN_LABEL, sources.kept.labels.folded),
    ),
    Observable(instruments.WARPSPAN_QUEUE_SIZE, lambda sources: ((sources.finisher.waiting, {}),)),
    Observable(
        instruments.WARPSPAN_FINISHER_SLICE_MAX,
        lambda sources: ((sources.finisher.longest_slice_s(), {}),),
    ),
)


class Observables:
    """Creates the instruments of the table, which ask these sources until it is closed.

    The SDK creates an instrument once and keeps its first callback for as long as its meter
    lives, and so what that callback holds: it must serve the next instrumentation, too.

    Args:
        meter: where they are created.
        sources: what is asked.
    """

    def __init__(self, meter: Meter, sources: Sources) -> None:
        global _active
        self._sources = sources
        _active = meter, sources
        for row in TABLE:
            _create(meter, row)

    def close(self) -> None:
        """Observe nothing any more."""
        global _active
        if _active is not None and _active[1] is self._sources:
            _active = None


# The meter and the sources that are asked now.
_active: tuple[Meter, Sources] | None = None


def _create(meter: Meter, row: Observable) -> None:
    def callback(_: CallbackOptions) -> Iterable[Observation]:
        active = _active
        if active is None or sdk(active[0]) is not sdk(meter):
            return
        for value, labels in row.points(active[1]):
            if value is not None:
                yield Observation(value, labels)

    create = {
        "counter": meter.create_observable_counter,
        "updowncounter": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }[row.metric.instrument]
    create(row.metric.name, [callback], row.metric.unit, row.metric.description)
