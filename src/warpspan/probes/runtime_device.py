"""A device as the place where inferences run: who is open on it, its clock, its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import torch

from warpspan import guard
from warpspan.config import environment
from warpspan.probes.clock import DeviceTimeline
from warpspan.probes.memory import PeakLedger
from warpspan.records import Device, DeviceState, PhaseCycles, Usage

# What an inference found when it began on a device: how many others were open, its own number, and
# the host clock of the latest end (None before the first). A plain tuple, since a named one costs
# the caller's thread three times as much.
ConcurrencyTicket: TypeAlias = tuple[int, int, int | None]


class UsageMeter(Protocol):
    """Knows what an inference had of its device; `device` implements it."""

    def settled(self, events: Any) -> bool:
        """Whether what an inference had is known, or won't be. Asks, never waits."""

    def usage(self, events: Any) -> Usage | None:
        """What an inference had of the device. Asked once."""

    def during(self, events: Any, spans_s: Sequence[tuple[float, float]]) -> PhaseCycles | None:
        """What it had in parts of its time, in seconds since its begin on the device."""

    def hurry(self) -> None:
        """Somebody waits for the inferences that ended."""


def host_idle_s(entrance: ConcurrencyTicket, began_ns: int) -> float | None:
    """Seconds since the latest end by the host's clock, 0 where others were open."""
    others, _, last_end_ns = entrance
    if last_end_ns is None:
        return None
    return 0.0 if others else max(0, began_ns - last_end_ns) / 1e9


class RuntimeDevice:
    """One device of this process. Counters are changed by callers, times by the finisher.

    Args:
        device: what it is called.
        timeline: its events, or None where the device has none.
        ledger: its memory peaks, or None where they can't be read.
        limit_bytes: its total memory, or None.
        sm_count: its multiprocessors, or None.
        name: its model, or None.
    """

    def __init__(
        self,
        device: Device,
        timeline: DeviceTimeline | None = None,
        ledger: PeakLedger | None = None,
        limit_bytes: int | None = None,
        sm_count: int | None = None,
        name: str | None = None,
    ) -> None:
        self.device = device
        self.timeline = timeline
        self.ledger = ledger
        self.limit_bytes = limit_bytes
        self.sm_count = sm_count
        self.name = name
        self.meter: UsageMeter | None = None
        self.is_host = device.type == "cpu"
        # Ids of the inferences on it: an interrupted one is counted out once, however far it came.
        self._inside: dict[int, int] = {}
        #: Inferences so far.
        self.begun = 0
        self.allocated_bytes: int | None = None
        self.reserved_bytes: int | None = None
        self._last_end_ns: int | None = None

    @property
    def state(self) -> DeviceState:
        """What metrics are made from when they are collected."""
        return DeviceState(self.device, self.open, self.allocated_bytes, self.reserved_bytes)

    @property
    def open(self) -> int:
        """How many inferences are open."""
        return len(self._inside)

    def enter(self, inference: object) -> ConcurrencyTicket:
        """Count an inference in."""
        # Without a lock, which would cost each inference 300 ns: CPython changes threads, and runs
        # signal handlers, at calls and at jumps back only, and a tracing debugger between lines.
        # So the number is taken in one statement without a call, and the rest is single calls of C.
        number = self.begun = self.begun + 1
        inside = self._inside
        inside[id(inference)] = number
        others = len(inside) - 1
        if others:
            others = sum(other < number for other in list(inside.values()))
        return others, number, self._last_end_ns

    def leave(
        self, inference: object, entrance: ConcurrencyTicket | None, ended_ns: int
    ) -> int | None:
        """Count it out: how many were open at some time while it was, itself included.

        None for one that was interrupted in `enter`.
        """
        self._inside.pop(id(inference), None)
        if self._last_end_ns is None or ended_ns > self._last_end_ns:
            self._last_end_ns = ended_ns
        return None if entrance is None else entrance[0] + 1 + self.begun - entrance[1]


#: Makes the meter of a CUDA device, or None where it has none.
MeterFactory: TypeAlias = Callable[[RuntimeDevice], "UsageMeter | None"]


class RuntimeDevices:
    """The places of this process, made when first asked for.

    Args:
        memory: whether the allocator's counters are read.
        pool_size: events that are kept for each device.
        meter: makes the meter of a CUDA device, or None where it has none.
    """

    def __init__(
        self,
        *,
        memory: bool,
        pool_size: int,
        meter: MeterFactory | None = None,
    ) -> None:
        self._memory = memory
        self._make_meter = meter
        self._pool_size = pool_size
        self._runtime_devices: dict[torch.device, RuntimeDevice] = {}

    def __iter__(self) -> Iterator[RuntimeDevice]:
        return iter(list(self._runtime_devices.values()))

    def at(self, device: torch.device) -> RuntimeDevice:
        """The place of a device. A CUDA device must be initialised already."""
        runtime_device = self._runtime_devices.get(device)
        if runtime_device is None:
            made = self._cuda(device) if device.type == "cuda" else RuntimeDevice(_named(device))
            runtime_device = self._runtime_devices.setdefault(device, made)
        return runtime_device

    def anew(self, former: RuntimeDevice) -> RuntimeDevice:
        """The place of the device that another process's places had, as in a forked child."""
        kind, ordinal = former.device.type, former.device.ordinal
        return self.at(torch.device(kind) if ordinal is None else torch.device(kind, ordinal))

    def current(self) -> RuntimeDevice:
        """The place of an inference whose model is not known: the current CUDA device, if any."""
        if torch.cuda.is_initialized():
            return self.at(torch.device("cuda", torch.cuda.current_device()))
        return self.at(torch.device("cpu"))

    def ledger(self, ordinal: int) -> PeakLedger | None:
        """The ledger of a CUDA device on which inferences ran."""
        runtime_device = self._runtime_devices.get(torch.device("cuda", ordinal))
        return runtime_device.ledger if runtime_device is not None else None

    def _cuda(self, device: torch.device) -> RuntimeDevice:
        ordinal = device.index
        uuid = limit = sm_count = name = None
        try:
            properties = torch.cuda.get_device_properties(ordinal)
            limit = properties.total_memory
            sm_count = properties.multi_processor_count
            name = properties.name
            uuid = getattr(properties, "uuid", None)  # torch >= 2.5
        except Exception as error:
            guard.caught("device properties", error)
        runtime_device = RuntimeDevice(
            Device("cuda", ordinal, f"GPU-{str(uuid).removeprefix('GPU-')}" if uuid else None),
            DeviceTimeline(ordinal, self._pool_size),
            _ledger(ordinal) if self._memory else None,
            limit,
            sm_count,
            name,
        )
        if self._make_meter is not None:
            try:
                runtime_device.meter = self._make_meter(runtime_device)
            except Exception as error:
                guard.caught("sampler", error)
        return runtime_device


def _named(device: torch.device) -> Device:
    return Device(device.type, device.index)


# Without its cache the CUDA allocator counts nothing, and all its counters are 0.
_UNCOUNTED = ("PYTORCH_NO_CUDA_MEMORY_CACHING", "PYTORCH_NO_HIP_MEMORY_CACHING")


def _ledger(ordinal: int) -> PeakLedger | None:
    if any(name in environment() for name in _UNCOUNTED):
        return None
    try:
        torch._C._cuda_memoryStats(ordinal)
    except Exception as error:  # a pluggable allocator keeps no counters
        guard.caught("memory", error)
        return None
    return PeakLedger(
        lambda: torch._C._cuda_memoryStats(ordinal),
        lambda: torch._C._cuda_resetPeakMemoryStats(ordinal),
    )
