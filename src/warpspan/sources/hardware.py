"""Samples of devices out of the metric points of OpenTelemetry's hardware conventions (`hw.*`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from warpspan.records import DeviceSample
from warpspan.signals import instruments, names

_FIELDS = {
    instruments.HW_GPU_UTILIZATION.name: "utilization",
    instruments.HW_GPU_MEMORY_USAGE.name: "memory_used_bytes",
    instruments.HW_GPU_MEMORY_LIMIT.name: "memory_total_bytes",
    instruments.HW_POWER.name: "power_w",
    instruments.HW_ENERGY.name: "energy_j",
    instruments.HW_TEMPERATURE.name: "temperature_c",
}
_ERRORS = {"corrected": "corrected_errors", "uncorrected": "uncorrected_errors"}


class HardwareSamples:
    """Collects points that were exported at one time into a sample of their device."""

    def __init__(self) -> None:
        self._samples: dict[tuple[int, str], DeviceSample] = {}

    def add(self, metric: str, attributes: Mapping[str, Any], at_ns: int, value: float) -> None:
        """Take a point; one that is of no device, or of another metric, is left alone.

        Args:
            metric: its name.
            attributes: of the point.
            at_ns: Unix time of the point.
            value: of the point.
        """
        if metric == instruments.HW_ERRORS.name:
            field = _ERRORS.get(str(attributes.get(names.ERROR_TYPE)))
        else:
            field = _FIELDS.get(metric)
        device_id = attributes.get(names.HW_ID)
        if field is None or not isinstance(device_id, str) or not math.isfinite(value):
            return
        key = (at_ns, device_id)
        sample = self._samples.get(key) or DeviceSample(at_ns, device_id, unix_ns=at_ns)
        values: dict[str, Any] = {field: value}
        self._samples[key] = sample._replace(**values)

    def samples(self) -> list[DeviceSample]:
        """The samples of all devices, oldest first."""
        return [self._samples[key] for key in sorted(self._samples)]
