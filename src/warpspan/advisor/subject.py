"""What a verdict is about: the inferences of one operation, model and device type, and their time."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import NamedTuple

from warpspan.advisor import from_records, from_traces
from warpspan.advisor.company import company
from warpspan.advisor.ledger import Idle
from warpspan.advisor.observation import Observation
from warpspan.advisor.timeline import Key, Timeline, Window, key_of
from warpspan.records import Inference
from warpspan.records.intervals import Intervals
from warpspan.records.kernels import DeviceWork, TracedInference

_WARM_UP_FACTOR = 3
"""The first inferences are warm-up as long as they take so many times the median."""
_WARM_UP_MOST = 10
_WARM_UP_SHARE = 0.25
_COMPARED = 20
"""The median is that of so many inferences with the least company, which makes all slower."""


class Part(NamedTuple):
    """What a subject had of one device.

    Args:
        line: the device.
        span: the observed time after warm-up.
        windows: its inferences there, without warm-up.
        inside: when its work was on the device.
        owned: `inside`, and the idle time before each of its inferences.
        demand: of `owned`, when somebody waited: without idle time that has no reason or no demand.
    """

    line: Timeline
    span: Intervals
    windows: tuple[Window, ...]
    inside: Intervals
    owned: Intervals
    demand: Intervals

    def idle(self, reason: Idle) -> Intervals | None:
        """Its idle time for a reason, None where that is not known."""
        time = self.line.idle.get(reason)
        return None if time is None else time & self.owned & self.span


class Subject(NamedTuple):
    """Inferences that get one verdict together.

    Args:
        key: operation, model, device type.
        seen: how many inferences, with warm-up.
        inferences: those after warm-up, by start.
        company: how many were on their device on average during each of these, itself included.
        warm_up: the first ones, which were slower.
        parts: what they had of each device.
        observation: everything that was observed.
    """

    key: Key
    seen: int
    inferences: tuple[Inference, ...]
    company: tuple[float, ...]
    warm_up: tuple[Inference, ...]
    parts: tuple[Part, ...]
    observation: Observation

    @property
    def is_traced(self) -> bool:
        """Whether a profiler recorded all of its devices, kernel by kernel."""
        return bool(self.parts) and all(part.line.kernels for part in self.parts)

    @property
    def on_gpu(self) -> bool:
        """Whether a device of its own does the work."""
        return self.key[2] != "cpu"

    @property
    def traced(self) -> tuple[TracedInference, ...]:
        """What profilers saw of each inference."""
        found = {id(w.traced): w.traced for part in self.parts for w in part.windows if w.traced}
        return tuple(found.values())

    @property
    def works(self) -> tuple[DeviceWork, ...]:
        """What profilers saw on each device."""
        return tuple(window.work for part in self.parts for window in part.windows if window.work)

    @property
    def observed_s(self) -> float:
        """The observed time after warm-up, of all its devices."""
        return sum(part.span.total_s for part in self.parts)

    @property
    def inside_s(self) -> float:
        """When its work was on the devices."""
        return sum(part.inside.total_s for part in self.parts)

    @property
    def demand_s(self) -> float:
        """When it ran, or a request waited for it."""
        return sum(part.demand.total_s for part in self.parts)

    @property
    def asked_s(self) -> float:
        """The time of its devices without that in which nobody asked for it, as far as known."""
        total = 0.0
        for part in self.parts:
            no_demand = part.line.idle.get(Idle.NO_DEMAND) or Intervals()
            total += ((part.owned - no_demand) & part.span).total_s
        return total

    @property
    def wall_s(self) -> float:
        """When it ran on the host: overlapping inferences count once."""
        times: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for inference in self.inferences:
            times[inference.process].append((inference.start_ns, inference.end_ns))
        return sum(Intervals(pairs).total_s for pairs in times.values())

    @property
    def busy_s(self) -> float | None:
        """When its devices ran anything in its time, None where that is not known."""
        if not self.parts or any(part.line.busy is None for part in self.parts):
            return None
        return sum(
            (part.line.busy & part.owned & part.span).total_s
            for part in self.parts
            if part.line.busy is not None
        )

    def idle_s(self, reason: Idle) -> float | None:
        """Idle time of its devices for a reason, None where one of them can't tell."""
        times = [part.idle(reason) for part in self.parts]
        known = [time.total_s for time in times if time is not None]
        return sum(known) if known and len(known) == len(times) else None

    def total(self, value: Callable[[Inference], float | None]) -> float | None:
        """The sum of a value over the inferences that have it, None where none has."""
        known = self.known(value)
        return sum(known) if known else None

    def known(self, value: Callable[[Inference], float | None]) -> list[float]:
        """A value of each inference that has it."""
        return [one for one in map(value, self.inferences) if one is not None]

    def middle(self, value: Callable[[Inference], float | None]) -> float | None:
        """The median of a value over the inferences that have it, None where none has."""
        known = self.known(value)
        return median(known) if known else None


def subjects(observation: Observation) -> tuple[list[Timeline], list[Subject]]:
    """All timelines, and all subjects in the order of their keys."""
    traced = {one.inference for trace in observation.traces for one in trace.inferences}
    on_device = {
        one.inference for trace in observation.traces for one in trace.inferences if trace.devices
    }
    recorded = [
        one
        for one in observation.inferences
        if one not in traced or (one.device.type == "cpu" and one not in on_device)
    ]
    lines = from_records.timelines(recorded, observation.requests)
    for trace in observation.traces:
        lines += from_traces.timelines(trace)
    groups: defaultdict[Key, list[Inference]] = defaultdict(list)
    for inference in observation.inferences:
        groups[key_of(inference)].append(inference)
    ordered = sorted(groups.items(), key=lambda item: tuple(map(str, item[0])))
    beside = {
        id(window.inference): mean
        for line in lines
        for window, mean in zip(line.windows, company(line.windows), strict=True)
    }
    return lines, [_subject(key, held, lines, observation, beside) for key, held in ordered]


def _subject(
    key: Key,
    held: list[Inference],
    lines: Iterable[Timeline],
    observation: Observation,
    beside: dict[int, float],
) -> Subject:
    held.sort(key=lambda one: (one.start_ns, one.duration_s, one.span_id))
    begun = not observation.forgotten and not observation.traces
    warm_up = _warm_up(held, beside, begun=begun)
    cold = {id(one) for one in warm_up}
    warm = tuple(one for one in held if id(one) not in cold)
    parts = [_part(key, line, cold) for line in lines]
    return Subject(
        key=key,
        seen=len(held),
        inferences=warm,
        company=tuple(beside.get(id(one), 1.0) for one in warm),
        warm_up=warm_up,
        parts=tuple(part for part in parts if part is not None),
        observation=observation,
    )


def _warm_up(
    held: Sequence[Inference], beside: dict[int, float], *, begun: bool
) -> tuple[Inference, ...]:
    """The first inferences of each process, while they are slow; the very first one in any case.

    Args:
        held: by start.
        beside: how many ran during each of them on average, by its identity.
        begun: whether the first one that was observed is the first one of its process.
    """
    by_process: defaultdict[str, list[Inference]] = defaultdict(list)
    for inference in held:
        by_process[inference.process].append(inference)
    found: list[Inference] = []
    for of_process in by_process.values():
        if len(of_process) < 2:
            continue
        alone = sorted(of_process, key=lambda one: beside.get(id(one), 1.0))[:_COMPARED]
        slow_s = _WARM_UP_FACTOR * median(one.duration_s for one in alone)
        most = max(min(_WARM_UP_MOST, round(_WARM_UP_SHARE * len(of_process))), 1)
        for at, inference in enumerate(of_process[:most]):
            if inference.duration_s < slow_s and not (begun and at == 0):
                break
            found.append(inference)
    return tuple(found)


def _part(key: Key, line: Timeline, cold: set[int]) -> Part | None:
    warm = [window for window in line.windows if id(window.inference) not in cold]
    own = tuple(window for window in warm if key_of(window.inference) == key)
    if not own:
        return None
    span_start_ns = line.start_ns
    for window in line.windows:
        if id(window.inference) not in cold:
            break
        span_start_ns = max(span_start_ns, window.end_ns)
    span_end_ns = line.end_ns
    if line.kernels:  # a recording begins and ends when somebody likes it to
        span_start_ns = max(span_start_ns, min(window.start_ns for window in warm))
        span_end_ns = max(window.end_ns for window in warm)
    span = Intervals([(span_start_ns, span_end_ns)])
    inside = Intervals((window.start_ns, window.end_ns) for window in own)
    owned = inside | Intervals(_gaps_before(line, warm, key, span_start_ns))
    demand = owned
    for reason in (Idle.NO_DEMAND, Idle.OTHER):
        demand -= line.idle.get(reason) or Intervals()
    opened = Intervals(window.open_ns for window in own) if not line.kernels else Intervals()
    return Part(line, span, own, inside, owned, (demand | inside | opened) & span)


def _gaps_before(
    line: Timeline, warm: Sequence[Window], key: Key, start_ns: int
) -> list[tuple[int, int]]:
    """Times without any inference, before one of a subject and after its last one at the end."""
    gaps = Intervals([(start_ns, line.end_ns)]) - Intervals(
        (window.start_ns, window.end_ns) for window in line.windows
    )
    starts = [window.start_ns for window in warm]
    found = []
    for gap in gaps:
        at = min(bisect_left(starts, gap[1]), len(warm) - 1)
        if key_of(warm[at].inference) == key:
            found.append(gap)
    return found
