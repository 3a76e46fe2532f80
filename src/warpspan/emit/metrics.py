"""The metrics of inferences, recorded by the finisher in the context of their spans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from opentelemetry.context import Context
from opentelemetry.metrics import Meter, Observation

from warpspan import guard
from warpspan.emit.instruments import Active, counter, histogram, observe, totals
from warpspan.records import DeviceState, Inference, device_attributes
from warpspan.signals import instruments, names


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


class Metrics:
    """Creates the instruments and records into them.

    Args:
        meter: where they are created.
        devices: the devices of this process, asked when metrics are collected.
        finisher: what waits for it, what was lost there, and how long its turns are.
    """

    def __init__(
        self,
        meter: Meter,
        devices: Callable[[], Iterable[DeviceState]],
        finisher: Finisher,
    ) -> None:
        _active.set(self, meter)
        self._devices = devices
        self._finisher = finisher
        self._duration = histogram(meter, instruments.PYTORCH_INFERENCE_DURATION)
        self._device = histogram(meter, instruments.PYTORCH_INFERENCE_DEVICE_DURATION)
        self._queue = histogram(meter, instruments.PYTORCH_INFERENCE_DEVICE_QUEUE_DURATION)
        self._batch = histogram(meter, instruments.PYTORCH_INFERENCE_BATCH_SIZE)
        self._peak = histogram(meter, instruments.PYTORCH_INFERENCE_MEMORY_PEAK)
        self._idle = totals(meter, instruments.PYTORCH_INFERENCE_IDLE_TIME.name)
        self._oom = counter(meter, instruments.PYTORCH_INFERENCE_OUT_OF_MEMORY)
        for metric, create, ask in (
            (
                instruments.PYTORCH_INFERENCE_ACTIVE,
                meter.create_observable_up_down_counter,
                Metrics._observe_active,
            ),
            (
                instruments.PYTORCH_MEMORY_USAGE,
                meter.create_observable_up_down_counter,
                Metrics._observe_memory,
            ),
            (
                instruments.PYTORCH_INFERENCE_IDLE_TIME,
                meter.create_observable_counter,
                Metrics._observe_idle,
            ),
            (
                instruments.WARPSPAN_DROPPED,
                meter.create_observable_counter,
                Metrics._observe_dropped,
            ),
            (
                instruments.WARPSPAN_FAULTS,
                meter.create_observable_counter,
                Metrics._observe_faults,
            ),
            (
                instruments.WARPSPAN_QUEUE_SIZE,
                meter.create_observable_up_down_counter,
                Metrics._observe_queue,
            ),
            (
                instruments.WARPSPAN_FINISHER_SLICE_MAX,
                meter.create_observable_gauge,
                Metrics._observe_slice,
            ),
        ):
            observe(create, metric, _active.asking(meter, ask))

    def close(self) -> None:
        """Observe nothing any more."""
        _active.clear(self)

    def record(self, record: Inference, attributes: dict[str, Any], context: Context) -> None:
        """Record an inference.

        Args:
            record: what is known of it.
            attributes: what its span started with, in which it may not have known its model.
            context: that of its span, which gives the exemplars.
        """
        if record.model.name is not None and names.PYTORCH_MODEL_NAME not in attributes:
            attributes = {**attributes, names.PYTORCH_MODEL_NAME: record.model.name}
        if record.error_type is not None:
            attributes = {**attributes, names.ERROR_TYPE: record.error_type}
        timing, memory = record.timing, record.memory
        self._duration.record(record.duration_s, attributes, context)
        if timing.device_time_s is not None:
            self._device.record(timing.device_time_s, attributes, context)
        if timing.queue_time_s is not None:
            self._queue.record(timing.queue_time_s, attributes, context)
        if timing.idle_time_s is not None:
            key = tuple(attributes.items())
            self._idle[key] = self._idle.get(key, 0.0) + timing.idle_time_s
        if record.input.batch_size is not None:
            self._batch.record(record.input.batch_size, attributes, context)
        if memory is not None and memory.peak_bytes is not None:
            self._peak.record(memory.peak_bytes, attributes, context)
        if record.out_of_memory:
            self._oom.add(1, attributes, context)

    def _observe_active(self) -> Iterable[Observation]:
        for state in self._devices():
            yield Observation(state.open, device_attributes(state.device))

    def _observe_memory(self) -> Iterable[Observation]:
        for state in self._devices():
            attributes = device_attributes(state.device)
            for name, value in (
                ("allocated", state.allocated_bytes),
                ("reserved", state.reserved_bytes),
            ):
                if value is not None:
                    yield Observation(value, {**attributes, names.PYTORCH_MEMORY_STATE: name})

    def _observe_idle(self) -> Iterable[Observation]:
        for attributes, idle_s in list(self._idle.items()):
            yield Observation(idle_s, dict(attributes))

    def _observe_dropped(self) -> Iterable[Observation]:
        for reason, count in list(self._finisher.dropped.items()):
            yield Observation(count, {names.WARPSPAN_DROP_REASON: reason})

    def _observe_queue(self) -> Iterable[Observation]:
        yield Observation(self._finisher.waiting)

    def _observe_slice(self) -> Iterable[Observation]:
        longest_s = self._finisher.longest_slice_s()
        if longest_s is not None:
            yield Observation(longest_s)

    def _observe_faults(self) -> Iterable[Observation]:
        for origin, count in list(guard.faults.items()):
            yield Observation(count, {names.WARPSPAN_FAULT_ORIGIN: origin})


_active: Active[Metrics] = Active()
