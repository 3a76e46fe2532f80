"""Which bottleneck two runs had, per operation and model, and whether it moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from warpspan.advisor.verdict import Advice, Cause, Verdict
from warpspan.records.units import share


class Bottleneck(NamedTuple):
    """A bottleneck of a run; `share` is that of its time, None where it costs none."""

    id: Cause
    share: float | None
    confidence: str

    @property
    def said(self) -> str:
        """`request wait (61%)`."""
        name = self.id.value.replace("_", " ")
        return name if self.share is None else f"{name} ({share(self.share)})"


class Moved(NamedTuple):
    """The bottlenecks of an operation and model in both runs, empty where a run has no verdict."""

    operation: str
    model: str | None
    before: tuple[Bottleneck, ...]
    after: tuple[Bottleneck, ...]

    @property
    def has_moved(self) -> bool | None:
        """Whether they are others now, None where one of the runs can't tell."""
        before, after = ({one.id for one in side} for side in (self.before, self.after))
        if not before or not after or Cause.CANT_TELL in before | after:
            return None
        return before != after

    def to_json(self) -> dict[str, Any]:
        """What `warpspan compare --json` prints of it; its keys are stable."""
        return {
            "operation": self.operation,
            "model": self.model,
            "before": [one._asdict() for one in self.before],
            "after": [one._asdict() for one in self.after],
            "moved": self.has_moved,
        }


def moved(before: Advice, after: Advice) -> tuple[Moved, ...]:
    """The bottlenecks of what both runs have, in the order of the first one."""
    first, second = _by_subject(before), _by_subject(after)
    return tuple(
        Moved(*key, _bottlenecks(first[key]), _bottlenecks(second[key]))
        for key in first
        if key in second
    )


def moved_sentence(one: Moved) -> str:
    """What became of the bottleneck."""
    before, after = (_listed(side) for side in (one.before, one.after))
    if one.has_moved is None:
        return f"Bottleneck: {before} before, {after} after."
    if one.has_moved:
        return f"The bottleneck moved from {before} to {after}."
    return f"The bottleneck is still {after}; it was {before}."


def _by_subject(advice: Advice) -> dict[tuple[str, str | None], Verdict]:
    """Verdicts by operation and model; of several device types, that with most time."""
    found: dict[tuple[str, str | None], Verdict] = {}
    for verdict in advice.verdicts:
        found.setdefault((verdict.operation, verdict.model), verdict)
    return found


def _bottlenecks(verdict: Verdict) -> tuple[Bottleneck, ...]:
    return tuple(Bottleneck(one.id, one.share, one.confidence.value) for one in verdict.bottlenecks)


def _listed(side: Sequence[Bottleneck]) -> str:
    names = ["can't tell" if one.id is Cause.CANT_TELL else one.said for one in side]
    return " and ".join(names) or "none"
