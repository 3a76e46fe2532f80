"""Python functions that hold the idle time between inferences."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import NamedTuple

from warpspan.advisor.from_traces import is_blocked
from warpspan.advisor.subject import Subject
from warpspan.records.kernels import HostTime, IdleGap

_HOLDS = 0.5
_GLUE = re.compile(
    r"^(?:<string>|<frozen|runpy\.py|threading\.py|asyncio/|concurrent/|contextlib\.py"
    r"|torch/utils/_contextlib\.py|torch/utils/_device\.py|torch/_ops\.py"
    r"|torch/nn/modules/module\.py|<built-in method (?:run_until_complete|_bootstrap|exec))"
)
"""Functions that only call others."""


class Caller(NamedTuple):
    """A function that holds idle time between inferences.

    Args:
        name: as the recording has it, `file.py(line): function`.
        time_s: its time in the gaps.
        share: of the gaps that were looked at.
    """

    name: str
    time_s: float
    share: float


def callers(subject: Subject) -> list[Caller]:
    """The outermost library call that holds most of the gaps, and the innermost one in it.

    Of each gap the functions are known that hold at least half of it, outermost first. The
    innermost one counts if it holds at least half of all gaps. One function that is both comes once.
    """
    gaps = [
        gap
        for part in subject.parts
        for trace in subject.observation.traces
        for line in trace.devices
        if (line.device, line.process) == (part.line.device, part.line.process)
        for gap in line.between
        if not is_blocked(gap)
    ]
    all_s = sum(gap.duration_s for gap in gaps)
    if not all_s:
        return []
    outermost, innermost = _most(gaps, last=False), _most(gaps, last=True)
    found = [one for one in (outermost, innermost) if one is not None]
    held = [Caller(one.name, one.time_s, one.time_s / all_s) for one in found]
    return [
        one
        for at, one in enumerate(held)
        if one.share >= _HOLDS and one.name not in [before.name for before in held[:at]]
    ]


def _most(gaps: list[IdleGap], *, last: bool) -> HostTime | None:
    """The function with most time of those that are the outermost or innermost of a gap."""
    times: defaultdict[str, float] = defaultdict(float)
    for gap in gaps:
        named = [one for one in gap.functions if not _GLUE.match(one.name)]
        if named:
            one = named[-1 if last else 0]
            times[one.name] += one.time_s
    if not times:
        return None
    name = max(times, key=lambda name: (times[name], name))
    return HostTime(name, times[name])
