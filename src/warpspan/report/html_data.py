"""What the charts of the page draw: bounded numbers out of any number of inferences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import ceil, floor, log10
from typing import Any, NamedTuple, TypeAlias

from warpspan.records import Inference
from warpspan.report.tracks import Group, Slice, lanes

#: Slices of the timeline, over all lanes; of more, the last ones.
SLICES_MAX = 20_000
#: Points of each line over time.
POINTS_MAX = 800
#: Lanes of one track; concurrent inferences beyond it are left out.
LANES_MAX = 16
_BARS_PER_DECADE = 20
_BARS_MAX = 80

_Json: TypeAlias = dict[str, Any]


class Timeline(NamedTuple):
    """The lanes of a run, or of its last part where it has too many slices.

    Args:
        lanes: `group`, `name`, `kind` and `slices`, a flat list of start and length in microseconds
            since the start of the run, and index of the name.
        names: of slices.
        from_us: from where on slices are in it.
        elapsed_us: from the start of the run to the last end.
        slice_count: slices in it.
        all_count: slices of the whole run.
        hidden_count: of these, those in lanes beyond `LANES_MAX`.
    """

    lanes: list[_Json]
    names: list[str]
    from_us: float
    elapsed_us: float
    slice_count: int
    all_count: int
    hidden_count: int


def histogram(values: Sequence[float]) -> _Json:
    """Counts by size on a logarithmic axis, all values in them.

    Returns:
        `edges` (one more than counts) in the unit of the values, and `counts`; values that are not
        above 0 have no place on the axis and are in `zero_count`.
    """
    above = [value for value in values if value > 0]
    if not above:
        return {"edges": [], "counts": [], "zero_count": len(values)}
    low, high = log10(min(above)), log10(max(above))
    step = max(1 / _BARS_PER_DECADE, (high - low) / _BARS_MAX)
    first = floor(low / step)
    counts = [0] * (ceil(high / step) - first + 1)
    for value in above:
        counts[floor(log10(value) / step) - first] += 1
    while counts and not counts[-1]:
        counts.pop()
    edges = [10 ** ((first + number) * step) for number in range(len(counts) + 1)]
    return {"edges": edges, "counts": counts, "zero_count": len(values) - len(above)}


def start_ns(groups: Sequence[Group]) -> int:
    """Unix time of the first thing that was observed."""
    return min((at_ns for group in groups for at_ns in group.starts_ns()), default=0)


def timeline(groups: Sequence[Group], first_ns: int) -> Timeline:
    """Requests, inferences, steps, waits, devices, copies and idle gaps.

    Args:
        groups: the tracks of the run.
        first_ns: Unix time that times are relative to.
    """
    held: list[tuple[Group, str, int, list[Slice]]] = []
    all_count = hidden_count = 0
    for group in groups:
        for track in group.ordered_tracks():
            for number, lane in enumerate(lanes(group.tracks[track])):
                all_count += len(lane)
                if number < LANES_MAX:
                    held.append((group, track, number, lane))
                else:
                    hidden_count += len(lane)
    starts = sorted(one.start_ns for *_, lane in held for one in lane)
    from_ns = starts[-SLICES_MAX] if len(starts) > SLICES_MAX else first_ns
    names: dict[str, int] = {}
    drawn = []
    slice_count, end_ns = 0, first_ns
    for group, track, number, lane in held:
        flat: list[float] = []
        for one in lane:
            if one.start_ns >= from_ns:
                name = names.setdefault(one.name, len(names))
                flat += [_us(one.start_ns - first_ns), _us(one.end_ns - one.start_ns), name]
                end_ns = max(end_ns, one.end_ns)
        slice_count += len(flat) // 3
        title = track if number == 0 else f"{track} {number + 1}"
        if flat:
            drawn.append({"group": group.name, "name": title, "kind": track, "slices": flat})
    times = _us(from_ns - first_ns), _us(end_ns - first_ns)
    return Timeline(drawn, list(names), *times, slice_count, all_count, hidden_count)


def _us(value_ns: int) -> float:
    return value_ns / 1000


def over_time(groups: Sequence[Group], first_ns: int) -> list[_Json]:
    """Memory, and utilization and power, of each process and device over time.

    Args:
        groups: the counters of the run.
        first_ns: Unix time that times are relative to.

    Returns:
        For each chart its `title`, `x` in seconds since the start, and `lines` with `name`, `axis`
        (`bytes`, `%` or `W`) and `values`: in each of at most `POINTS_MAX` parts of the time the
        highest one, null where there is none.
    """
    charts = []
    for group in groups:
        for title, axes in (("Memory", ("bytes",)), ("Utilization and power", ("%", "W"))):
            counters = {
                name: levels
                for name, levels in group.counters.items()
                if name.endswith(tuple(f"({axis})" for axis in axes)) and len(levels) > 1
            }
            if not counters:
                continue
            last_ns = max(level.at_ns for levels in counters.values() for level in levels)
            step_ns = max(1, ceil((last_ns - first_ns + 1) / POINTS_MAX))
            used = sorted(
                {
                    (level.at_ns - first_ns) // step_ns
                    for levels in counters.values()
                    for level in levels
                }
            )
            place = {bucket: number for number, bucket in enumerate(used)}
            lines = []
            for name, levels in counters.items():
                values: list[float | None] = [None] * len(used)
                for level in levels:
                    at = place[(level.at_ns - first_ns) // step_ns]
                    values[at] = max(level.value, values[at] or level.value)
                axis = name.rpartition("(")[2].rstrip(")")
                lines.append({"name": name.rpartition(" (")[0], "axis": axis, "values": values})
            x = [bucket * step_ns / 1e9 for bucket in used]
            charts.append({"title": f"{title}: {group.name}", "x": x, "lines": lines})
    return charts


class BatchPoint(NamedTuple):
    """Inferences of one batch size: how many, and the median of their times."""

    size: float
    inference_count: int
    median_s: float
    low_s: float
    high_s: float


def batch_points(
    inferences: Iterable[Inference], size_of: Callable[[Inference], float | None]
) -> list[BatchPoint]:
    """The time on the device (where it is known, else on the host) by batch size, without failed ones.

    Args:
        inferences: of one operation and model.
        size_of: the size of an inference, None where it is not known.
    """
    times: dict[float, list[float]] = {}
    for one in inferences:
        size = size_of(one)
        if size is not None and one.error_type is None:
            time_s = one.timing.device_time_s
            times.setdefault(size, []).append(one.duration_s if time_s is None else time_s)
    points = []
    for size, held in sorted(times.items()):
        held.sort()
        last = len(held) - 1
        points.append(
            BatchPoint(size, len(held), held[last // 2], held[last // 20], held[last - last // 20])
        )
    return points
