"""The metrics of GPUs: each inference's share, the idle rest, and the device as the driver sees it.

Callbacks read the sampler's latest sample; nobody asks the driver when metrics are collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import Meter, Observation

from warpspan.emit.instruments import Active, histogram, observe
from warpspan.records import DeviceUsage, Inference, Usage, device_attributes
from warpspan.signals import instruments, names

_VENDOR = "NVIDIA"


class DeviceMetrics:
    """Creates the instruments and records into them.

    Args:
        meter: where they are created.
        devices: the sampled devices, asked when metrics are collected.
        hardware: whether to export `hw.*`.
    """

    def __init__(
        self, meter: Meter, devices: Callable[[], Iterable[DeviceUsage]], *, hardware: bool
    ) -> None:
        _active.set(self, meter)
        self._devices = devices
        self._hardware = hardware
        self._gpu_time = histogram(meter, instruments.PYTORCH_INFERENCE_GPU_TIME)
        self._elapsed = histogram(meter, instruments.PYTORCH_INFERENCE_SM_CYCLES_ELAPSED)
        self._cycles = histogram(meter, instruments.PYTORCH_INFERENCE_SM_CYCLES_ACTIVE)
        self._energy = histogram(meter, instruments.PYTORCH_INFERENCE_ENERGY)
        counter, gauge = meter.create_observable_counter, meter.create_observable_gauge
        level = meter.create_observable_up_down_counter
        for metric, create, ask in (
            (instruments.PYTORCH_GPU_SAMPLED_TIME, counter, DeviceMetrics._time),
            (instruments.PYTORCH_GPU_SAMPLED_ENERGY, counter, DeviceMetrics._sampled_energy),
            (instruments.PYTORCH_GPU_SAMPLED_CYCLES, counter, DeviceMetrics._sampled_cycles),
            (instruments.WARPSPAN_SAMPLER_SAMPLES, counter, DeviceMetrics._samples),
            (instruments.WARPSPAN_SAMPLER_TIME, counter, DeviceMetrics._cost),
            (instruments.HW_GPU_UTILIZATION, gauge, DeviceMetrics._utilization),
            (instruments.HW_GPU_MEMORY_USAGE, level, DeviceMetrics._memory_usage),
            (instruments.HW_GPU_MEMORY_LIMIT, level, DeviceMetrics._memory_limit),
            (instruments.HW_GPU_MEMORY_UTILIZATION, gauge, DeviceMetrics._memory_utilization),
            (instruments.HW_POWER, gauge, DeviceMetrics._power),
            (instruments.HW_ENERGY, counter, DeviceMetrics._hardware_energy),
            (instruments.HW_TEMPERATURE, gauge, DeviceMetrics._temperature),
            (instruments.HW_ERRORS, counter, DeviceMetrics._errors),
        ):
            observe(create, metric, _active.asking(meter, ask))

    def close(self) -> None:
        """Observe nothing any more."""
        _active.clear(self)

    def record(self, record: Inference, usage: Usage, context: Context) -> None:
        """Record what an inference had; its span's context gives the exemplars."""
        attributes: dict[str, Any] = record.start_attributes()
        if record.error_type is not None:
            attributes[names.ERROR_TYPE] = record.error_type
        for instrument, value in (
            (self._gpu_time, usage.gpu_time_s),
            (self._elapsed, usage.sm_cycles_elapsed),
            (self._cycles, usage.sm_cycles_active),
            (self._energy, usage.energy_j),
        ):
            if value is not None:
                instrument.record(value, attributes, context)

    def _time(self) -> Iterable[Observation]:
        return self._both(lambda amount: amount.time_s)

    def _sampled_energy(self) -> Iterable[Observation]:
        return self._both(lambda amount: amount.energy_j)

    def _sampled_cycles(self) -> Iterable[Observation]:
        return self._both(lambda amount: amount.sm_cycles_active)

    def _both(self, of: Callable[..., float | None]) -> Iterable[Observation]:
        for usage in self._devices():
            for activity, amount in (("inference", usage.used), ("idle", usage.idle)):
                value = of(amount)
                if value is not None:
                    attributes: dict[str, Any] = {**device_attributes(usage.device)}
                    yield Observation(value, {**attributes, names.PYTORCH_GPU_ACTIVITY: activity})

    def _samples(self) -> Iterable[Observation]:
        for usage in self._devices():
            yield Observation(usage.samples, _identity(usage))

    def _cost(self) -> Iterable[Observation]:
        for usage in self._devices():
            yield Observation(usage.cost_s, _identity(usage))

    def _utilization(self) -> Iterable[Observation]:
        return self._of("utilization")

    def _memory_usage(self) -> Iterable[Observation]:
        return self._of("memory_used_bytes")

    def _memory_limit(self) -> Iterable[Observation]:
        return self._of("memory_total_bytes")

    def _memory_utilization(self) -> Iterable[Observation]:
        for usage in self._sampled():
            used, limit = usage.sample.memory_used_bytes, usage.sample.memory_total_bytes  # type: ignore[union-attr]
            if used is not None and limit:
                yield Observation(used / limit, _hardware(usage))

    def _power(self) -> Iterable[Observation]:
        return self._of("power_w", typed=True)

    def _hardware_energy(self) -> Iterable[Observation]:
        return self._of("energy_j", typed=True)

    def _temperature(self) -> Iterable[Observation]:
        return self._of("temperature_c", typed=True)

    def _errors(self) -> Iterable[Observation]:
        for kind in ("corrected", "uncorrected"):
            for seen in self._of(f"{kind}_errors", typed=True):
                yield Observation(seen.value, {**(seen.attributes or {}), names.ERROR_TYPE: kind})

    def _of(self, field: str, *, typed: bool = False) -> Iterable[Observation]:
        for usage in self._sampled():
            value = getattr(usage.sample, field)
            if value is not None:
                kind = {names.HW_TYPE: "gpu"} if typed else {}
                yield Observation(value, {**_hardware(usage), **kind})

    def _sampled(self) -> Iterable[DeviceUsage]:
        if not self._hardware:
            return
        for usage in self._devices():
            if usage.sample is not None:
                yield usage


def _identity(usage: DeviceUsage) -> dict[str, str]:
    device_id = usage.sample.device_id if usage.sample is not None else usage.device.id
    return {names.HW_ID: device_id} if device_id else {}


def _hardware(usage: DeviceUsage) -> dict[str, str]:
    name = {names.HW_NAME: usage.name} if usage.name else {}
    return {**_identity(usage), **name, names.HW_VENDOR: _VENDOR}


_active: Active[DeviceMetrics] = Active()
