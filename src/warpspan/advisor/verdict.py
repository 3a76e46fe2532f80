"""What the advisor says: findings with evidence, what it can't tell, and the verdict of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from warpspan.advisor.ledger import Ledger
from warpspan.records.enums import StrEnum

#: Version of the rules and their thresholds.
RULES = 1

#: A value of evidence: it is printed, and encoded as JSON.
Evidence: TypeAlias = str | int | float | bool | list[str]


class Cause(StrEnum):
    """What can hold an inference back: a closed set."""

    LAUNCH = "launch"
    SYNC = "sync"
    REQUEST_WAIT = "request_wait"
    TRANSFER = "transfer"
    BETWEEN_STEPS = "between_steps"
    BATCHING = "batching"
    CONTENTION = "contention"
    COMPUTE = "compute"
    MEMORY_BANDWIDTH = "memory_bandwidth"
    DEVICE = "device"
    MEMORY_CAPACITY = "memory_capacity"
    FRAGMENTATION = "fragmentation"
    KV_GROWTH = "kv_growth"
    THROTTLING = "throttling"
    GC = "gc"
    OVERSIZED = "oversized"
    PRECISION = "precision"
    FUSION = "fusion"
    NO_DEMAND = "no_demand"
    TAIL = "tail"
    CANT_TELL = "cant_tell"


class Confidence(StrEnum):
    """How certain a finding is."""

    SURE = "sure"
    POSSIBLE = "possible"


class Threshold(NamedTuple):
    """A number that a rule compares with.

    Args:
        name: what is compared, with `≥`, `>`, `≤` or `<` and the number in words for a person, such
            as `idle share of the device time > 30%`.
        value: the number.
        origin: where the number is from.
    """

    name: str
    value: float
    origin: str


class Finding(NamedTuple):
    """Something that costs time or memory, with its evidence.

    Args:
        id: the cause.
        confidence: how certain it is.
        strong: whether it passed the stronger one of two thresholds, where there are two.
        time_s: what it costs, in seconds of the device or of the host; None where it costs no time.
        share: that time over the time it is compared with; None likewise.
        ceiling_gain: how many times faster it gets at most without it (Amdahl); gains of several
            findings don't add up. None where that is not known.
        evidence: measured values, by name with unit.
        thresholds: the numbers that it was compared with.
        what: a sentence about what happens.
        advice: a sentence about the one thing to do.
        check: a command or a query that shows whether it helped.
    """

    id: Cause
    confidence: Confidence
    strong: bool
    time_s: float | None
    share: float | None
    ceiling_gain: float | None
    evidence: Mapping[str, Evidence]
    thresholds: tuple[Threshold, ...]
    what: str
    advice: str
    check: str

    def to_json(self) -> dict[str, Any]:
        """The finding as `warpspan report --json` prints it; its keys are stable."""
        return {
            "id": self.id.value,
            "confidence": self.confidence.value,
            "share": self.share,
            "ceiling_gain": self.ceiling_gain,
            "evidence": dict(self.evidence),
        }


class Unknown(NamedTuple):
    """A cause that can be neither named nor excluded.

    Args:
        id: the cause.
        missing: what was not measured.
        how: the one command or setting that supplies it.
        time_s: what it may cost at most, None where even that is not known.
    """

    id: Cause
    missing: str
    how: str
    time_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As `warpspan report --json` prints it; its keys are stable."""
        return {"id": self.id.value, "missing": self.missing, "how": self.how}


class Verdict(NamedTuple):
    """What held the inferences of one operation, model and device type back.

    Args:
        operation: what ran.
        model: class name of the model, None where it has none.
        device_type: as torch names it.
        inference_count: all of them.
        warm_up_count: of these, the first ones that were set aside as warm-up.
        wall_s: time in which any of them ran.
        sentence: the answer, for a person.
        bottlenecks: one, or two of nearly the same size; `Cause.CANT_TELL` where none can be named.
        findings: at most three further ones, most time first.
        cant_tell: causes that can be neither named nor excluded.
    """

    operation: str
    model: str | None
    device_type: str
    inference_count: int
    warm_up_count: int
    wall_s: float
    sentence: str
    bottlenecks: tuple[Finding, ...]
    findings: tuple[Finding, ...] = ()
    cant_tell: tuple[Unknown, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The verdict as `warpspan report --json` prints it; its keys are stable."""
        return {
            "operation": self.operation,
            "model": self.model,
            "device_type": self.device_type,
            "bottlenecks": [finding.to_json() for finding in self.bottlenecks],
            "findings": [finding.to_json() for finding in self.findings],
            "cant_tell": [unknown.to_json() for unknown in self.cant_tell],
            "rules": RULES,
        }


class Advice(NamedTuple):
    """Everything that the advisor says of an observation.

    Args:
        ledgers: one per device, most time first.
        verdicts: one per operation, model and device type, most time first.
    """

    ledgers: tuple[Ledger, ...]
    verdicts: tuple[Verdict, ...]

    def to_json(self) -> dict[str, Any]:
        """The two keys as `warpspan report --json` prints them."""
        return {
            "ledger": [ledger.to_json() for ledger in self.ledgers],
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
        }
