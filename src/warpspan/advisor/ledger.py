"""Where the time of each device went: a split of the observed time that is disjoint and complete."""

from __future__ import annotations

from typing import Any, NamedTuple

from warpspan.records import Device
from warpspan.records.enums import StrEnum


class Idle(StrEnum):
    """Why a device was idle."""

    LAUNCH = "launch"
    SYNC = "sync"
    BETWEEN_STEPS = "between_steps"
    REQUEST_WAIT = "request_wait"
    NO_DEMAND = "no_demand"
    OTHER = "other"


class Ledger(NamedTuple):
    """The time of one device, or of the host process for inferences on a CPU.

    `busy_s` and the parts of `idle_s` add up to `elapsed_s`. None is: not known; that time is in
    `idle_s[Idle.OTHER]`. Where `busy_s` is None, no part of `idle_s` is known.

    Args:
        device: the device.
        process: the process that used it, empty where several did.
        elapsed_s: the observed time: from the first work to the last one.
        busy_s: time in which it ran something of ours.
        transfer_alone_s: of it, copies while nothing else ran.
        idle_s: seconds of each reason, all members of `Idle` as keys.
    """

    device: Device
    process: str
    elapsed_s: float
    busy_s: float | None
    transfer_alone_s: float | None
    idle_s: dict[Idle, float | None]

    def to_json(self) -> dict[str, Any]:
        """The entry as `warpspan report --json` prints it; its keys are stable."""
        return {
            "device": {"type": self.device.type, "index": self.device.ordinal},
            "process": self.process,
            "elapsed_s": self.elapsed_s,
            "busy_s": self.busy_s,
            "transfer_alone_s": self.transfer_alone_s,
            "idle_s": {reason.value: self.idle_s[reason] for reason in Idle},
        }
