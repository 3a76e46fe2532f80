"""The time of one device as disjoint sets: busy, and idle by reason. The ledger is its sums."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from warpspan.advisor.ledger import Idle, Ledger
from warpspan.records import Device, Inference
from warpspan.records.intervals import Intervals
from warpspan.records.kernels import DeviceWork, TracedInference

#: Operation, model and device type: what has a verdict of its own.
Key: TypeAlias = tuple[str, str | None, str]


def key_of(inference: Inference) -> Key:
    """Which verdict an inference counts for."""
    return inference.operation, inference.model.name, inference.device.type


class Window(NamedTuple):
    """The time of one inference on one device, on the clock of its timeline.

    Args:
        inference: whose.
        start_ns: when its work on the device began; on a CPU, and where the device's time is not
            known, when it began itself.
        end_ns: likewise.
        open_ns: start and end of the inference on the host, extended to the end of its work.
        traced: what a profiler saw of it.
        work: of that, what it did on this device.
    """

    inference: Inference
    start_ns: int
    end_ns: int
    open_ns: tuple[int, int]
    traced: TracedInference | None = None
    work: DeviceWork | None = None


class Timeline(NamedTuple):
    """One device over the observed time.

    Args:
        device: the device.
        process: the process that used it, empty where several did.
        start_ns: begin of the observed time.
        end_ns: its end.
        windows: inferences on it by start.
        busy: when it ran anything of ours, None where that is not known.
        copying: of `busy`, copies alone; None where that is not known.
        idle: why it was idle: disjoint sets that make up the rest; None where a reason can't be
            told from `Idle.OTHER`. Empty where `busy` is None.
        kernels: whether `busy` is made of kernels: else it is made of whole inferences, with the
            idle time inside them.
        steps: whether the time between steps is known.
        functions: whether Python functions are known.
        exaggerated: whether the measurement itself slowed the host down, so that idle times are
            longer than without it.
    """

    device: Device
    process: str
    start_ns: int
    end_ns: int
    windows: tuple[Window, ...]
    busy: Intervals | None
    copying: Intervals | None
    idle: dict[Idle, Intervals | None]
    kernels: bool = False
    functions: bool = False
    exaggerated: bool = False

    @property
    def elapsed_ns(self) -> int:
        """The observed time."""
        return self.end_ns - self.start_ns

    def ledger(self) -> Ledger:
        """Its sums."""
        idle_s = {reason: _seconds(self.idle.get(reason)) for reason in Idle}
        return Ledger(
            device=self.device,
            process=self.process,
            elapsed_s=self.elapsed_ns / 1e9,
            busy_s=_seconds(self.busy),
            transfer_alone_s=None if self.busy is None else _seconds(self.copying),
            idle_s=idle_s,
        )


def split(
    start_ns: int, end_ns: int, busy: Intervals, reasons: dict[Idle, Intervals | None]
) -> dict[Idle, Intervals | None]:
    """Idle time by reason, disjoint: the first reason of a time counts, the rest is `OTHER`.

    Args:
        start_ns: begin of the observed time.
        end_ns: its end.
        busy: when the device ran anything.
        reasons: when each reason held, None where that is not known; the most telling one first.
    """
    rest = Intervals([(start_ns, end_ns)]) - busy
    idle: dict[Idle, Intervals | None] = dict.fromkeys(Idle)
    for reason, time in reasons.items():
        if time is not None:
            idle[reason] = rest & time
            rest -= time
    idle[Idle.OTHER] = rest
    return idle


def _seconds(time: Intervals | None) -> float | None:
    return None if time is None else time.total_s
