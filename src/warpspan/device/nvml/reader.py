"""Reads the counters of one NVIDIA device, or of one MIG instance and the device it is in."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Protocol

from warpspan.device.driver import Process
from warpspan.records import CounterScope, DeviceSample

# Ids of NVML_GPM_METRIC_*.
_SM_UTIL, _SM_OCCUPANCY, _ANY_TENSOR_UTIL, _DRAM_BW_UTIL = 2, 3, 5, 10
_GPM = (_SM_UTIL, _SM_OCCUPANCY, _ANY_TENSOR_UTIL, _DRAM_BW_UTIL)
_CLOCK_SM, _TEMPERATURE_GPU = 1, 0
_CORRECTED, _UNCORRECTED, _SINCE_LOAD = 0, 1, 0

# Bits of nvmlClocksEventReason*; what only says that nothing runs is no throttling.
_THROTTLE_REASONS = {
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}


class Library(Protocol):
    """What a reader asks of the library; `Nvml` implements it."""

    #: Counts how often the library was opened: handles of before are void.
    generation: int
    problem: str | None
    #: Seconds inside its calls so far.
    spent_s: float

    def open(self) -> bool:
        """Whether it can be asked."""

    def ask(self, name: str, *args: Any, uuid: str = "", logged: bool = True) -> Any:
        """The answer of a function for a device, None where it gives none."""

    def whole(self, uuid: str) -> str | None:
        """The device that a MIG instance is in, itself for a whole one."""

    def processes(self, uuid: str) -> list[Process] | None:
        """The processes that compute on a device."""

    def gpm(self, first: Any, second: Any, metrics: Sequence[int]) -> dict[int, float]:
        """Metrics between two samples."""


class NvmlReader:
    """Reads one device.

    Under MIG the SM counters are the instance's; clock, temperature and throttling are the whole
    device's, and energy and power, which other instances share, are not given.

    Args:
        nvml: the library.
        uuid: `GPU-…` or `MIG-…`.
    """

    def __init__(self, nvml: Library, uuid: str) -> None:
        self._nvml = nvml
        self._uuid = uuid
        self.scope = CounterScope.MIG if uuid.startswith("MIG-") else CounterScope.DEVICE
        self.found = True
        self._generation = -1
        self._errors: tuple[int | None, int | None] = (None, None)
        self._memory: Any = None
        self._power: int | None = None
        self._shared: bool | None = None

    def read(self, taken_ns: int, *, slowly: bool = False) -> DeviceSample:
        """The counters now. What the device does not give is None."""
        nvml, before_s = self._nvml, self._nvml.spent_s
        if not nvml.open():
            return DeviceSample(taken_ns, self._uuid, cost_s=nvml.spent_s - before_s)
        if nvml.generation != self._generation:
            self._start()
            slowly = True
        # What is counted first, close together; each call may wait for the GIL when it is back.
        started_s = time.perf_counter()
        got = self._take()
        energy = None
        if self.scope == CounterScope.DEVICE:
            energy = nvml.ask("nvmlDeviceGetTotalEnergyConsumption", uuid=self._uuid)
        skew_s = time.perf_counter() - started_s
        shares = self._shares() if got else {}
        utilization = None
        if self.scope == CounterScope.DEVICE:
            utilization = nvml.ask("nvmlDeviceGetUtilizationRates", uuid=self._uuid, logged=False)
            if slowly or energy is None:
                self._power = nvml.ask("nvmlDeviceGetPowerUsage", uuid=self._uuid)
        clock = self._ask_whole("nvmlDeviceGetClockInfo", _CLOCK_SM)
        if slowly:
            self._read_slow()
        power, memory = self._power, self._memory
        temperature = self._ask_whole("nvmlDeviceGetTemperature", _TEMPERATURE_GPU)
        reasons = self._throttle_reasons()
        if nvml.problem is not None:  # lost on the way: what was read before is not known to hold
            return DeviceSample(taken_ns, self._uuid, cost_s=nvml.spent_s - before_s)
        return DeviceSample(
            taken_ns=taken_ns,
            device_id=self._uuid,
            energy_j=None if energy is None else energy / 1e3,
            power_w=None if power is None else power / 1e3,
            temperature_c=temperature,
            # A device that is asleep or broken says 0, which no running clock is.
            sm_clock_hz=clock * 1e6 if clock else None,
            throttle_reasons=reasons,
            utilization=None if utilization is None else utilization.gpu / 100,
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            sm_utilization=shares.get(_SM_UTIL),
            sm_occupancy=shares.get(_SM_OCCUPANCY),
            tensor_utilization=shares.get(_ANY_TENSOR_UTIL),
            dram_utilization=shares.get(_DRAM_BW_UTIL),
            corrected_errors=self._errors[0],
            uncorrected_errors=self._errors[1],
            shared=self._shared,
            cost_s=nvml.spent_s - before_s,
            skew_s=skew_s,
        )

    def _start(self) -> None:
        """What the library gives once, after each of its initialisations."""
        nvml, uuid = self._nvml, self._uuid
        self._generation = nvml.generation
        self._whole: str | None = uuid
        self._instance: int | None = None
        if self.scope == CounterScope.MIG:
            self._whole = nvml.whole(uuid)
            self._instance = nvml.ask("nvmlDeviceGetGpuInstanceId", uuid=uuid)
        self._taken = False
        self._samples: list[Any] = []
        support = self._ask_whole("nvmlGpmQueryDeviceSupport")
        if support is not None and support.isSupportedDevice:
            samples = [nvml.ask("nvmlGpmSampleAlloc") for _ in range(2)]
            self._samples = [] if None in samples else samples

    def _ask_whole(self, name: str, *args: Any) -> Any:
        """Asks the device, or the one that a MIG instance is in."""
        return None if self._whole is None else self._nvml.ask(name, *args, uuid=self._whole)

    def _take(self) -> bool:
        """Take a GPM sample."""
        if not self._samples:
            return False
        if self.scope == CounterScope.DEVICE:
            got = self._nvml.ask("nvmlGpmSampleGet", self._samples[1], uuid=self._uuid)
        elif self._instance is None:
            return False
        else:
            got = self._ask_whole("nvmlGpmMigSampleGet", self._instance, self._samples[1])
        if got is None:
            self._taken = False
        return got is not None

    def _shares(self) -> dict[int, float]:
        """Shares (0 to 1) between the GPM sample just taken and the one before it."""
        taken, self._taken = self._taken, True
        first, second = self._samples
        self._samples = [second, first]
        if not taken:
            return {}
        return {
            metric: min(1.0, max(0.0, value / 100))
            for metric, value in self._nvml.gpm(first, second, _GPM).items()
        }

    def _throttle_reasons(self) -> tuple[str, ...] | None:
        bits = self._ask_whole("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # the name that it had before CUDA 12.2
            bits = self._ask_whole("nvmlDeviceGetCurrentClocksThrottleReasons")
        if bits is None:
            return None
        return tuple(name for bit, name in _THROTTLE_REASONS.items() if bits & bit)

    def _read_slow(self) -> None:
        nvml, uuid = self._nvml, self._uuid
        self._memory = nvml.ask("nvmlDeviceGetMemoryInfo", uuid=uuid)
        if self.scope == CounterScope.DEVICE:
            corrected, uncorrected = (
                nvml.ask("nvmlDeviceGetTotalEccErrors", kind, _SINCE_LOAD, uuid=uuid, logged=False)
                for kind in (_CORRECTED, _UNCORRECTED)
            )
            self._errors = (corrected, uncorrected)
        processes = nvml.processes(uuid)
        if processes is None:
            self._shared = None
        else:
            # A container's process ids are not the driver's: one process is then taken for us.
            pids = {process.pid for process in processes}
            self._shared = len(pids - {os.getpid()}) > (0 if os.getpid() in pids else 1)
