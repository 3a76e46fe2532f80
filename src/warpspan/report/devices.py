"""Devices by the driver's samples: one line each, of the whole device and not of the inferences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from warpspan.records import DeviceSample


class DeviceLine(NamedTuple):
    """What the samples of one device say together; None where none of them has it.

    Args:
        device_id: UUID.
        samples: how many there are.
        power_mean_w: mean of the samples.
        temperature_max_c: highest of them.
        memory_max_bytes: highest memory in use, of all processes.
    """

    device_id: str
    samples: int
    power_mean_w: float | None
    temperature_max_c: float | None
    memory_max_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """The device as `warpspan report --json` prints it; its keys are stable."""
        return self._asdict()


def summarize_devices(samples: Iterable[DeviceSample]) -> list[DeviceLine]:
    """One line per device, in the order of their ids."""
    by_device: dict[str, list[DeviceSample]] = {}
    for sample in samples:
        by_device.setdefault(sample.device_id, []).append(sample)
    return [_line(device_id, taken) for device_id, taken in sorted(by_device.items())]


def _line(device_id: str, samples: list[DeviceSample]) -> DeviceLine:
    powers = [sample.power_w for sample in samples if sample.power_w is not None]
    memory = [s.memory_used_bytes for s in samples if s.memory_used_bytes is not None]
    return DeviceLine(
        device_id,
        len(samples),
        sum(powers) / len(powers) if powers else None,
        max((s.temperature_c for s in samples if s.temperature_c is not None), default=None),
        max(map(int, memory), default=None),
    )
