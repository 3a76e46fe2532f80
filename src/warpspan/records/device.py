"""What the driver and the allocator say of a device, and what its inferences had of it."""

from __future__ import annotations

from typing import NamedTuple

from warpspan.records.enums import StrEnum
from warpspan.records.model import Device


class HardwareMode(StrEnum):
    """Whether metrics of the hardware are exported; AUTO unless something else exports them."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class GpuActivity(StrEnum):
    """What a device did in some time: inferences of this process, or the rest."""

    INFERENCE = "inference"
    IDLE = "idle"


class DeviceSample(NamedTuple):
    """What the driver said of a device at one time. Shares are since the sample before it.

    Args:
        taken_ns: host clock; the Unix time of a sample that was read back from a file.
        device_id: UUID of the device or MIG instance.
        shared: whether another process computes on it, too.
        cost_s: how long the driver took.
        skew_s: how far apart in time its counters were read.
        unix_ns: Unix time.
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
    unix_ns: int | None = None


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
