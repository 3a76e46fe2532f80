"""What the charts of the page draw: bounded numbers out of any number of inferences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import ceil, floor, log10
from typing import Any, NamedTuple, TypeAlias

from warpspan.records import Inference
from warpspan.report.tracks import Group, Slice, lanes

#: Blocks of the timeline, over all lanes.
SLICES_MAX = 20_000
#: Points of each line over time.
POINTS_MAX = 800
#: Lanes of one track; concurrent inferences beyond it are left out.
LANES_MAX = 16
_BARS_PER_DECADE = 20
_BARS_MAX = 80

_Json: TypeAlias = dict[str, Any]


class Timeline(NamedTuple):
    """The lanes of a run, and how far they were coarsened to fit.

    Args:
        lanes: `group`, `name`, `kind` and `slices`, a flat list of start and length in microseconds
            since the start, index of the name, and how many slices this one stands for.
        names: of slices.
        elapsed_us: from the first start to the last end.
        merged: how many slices are only in a block with others.
        resolution_us: slices closer than this were merged, 0 where none was.
        hidden: slices in lanes beyond the bound.
    """

    lanes: list[_Json]
    names: list[str]
    elapsed_us: float
    merged: int
    resolution_us: float
    hidden: int


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
    hidden = 0
    for group in groups:
        for track in group.ordered_tracks():
            for number, lane in enumerate(lanes(group.tracks[track])):
                if number < LANES_MAX:
                    held.append((group, track, number, lane))
                else:
                    hidden += len(lane)
    end_ns = max((lane[-1].end_ns for *_, lane in held if lane), default=first_ns)
    blocks = [[(one, 1) for one in lane] for *_, lane in held]
    total = sum(map(len, blocks))
    resolution_ns = 0
    while sum(map(len, blocks)) > SLICES_MAX:
        resolution_ns = max(2 * resolution_ns, (end_ns - first_ns) // SLICES_MAX, 1)
        blocks = [list(_coarse(lane, resolution_ns, track)) for _, track, _, lane in held]
    names: dict[str, int] = {}
    drawn = []
    for (group, track, number, _), drawn_lane in zip(held, blocks, strict=True):
        flat: list[float] = []
        for one, count in drawn_lane:
            name = names.setdefault(one.name, len(names))
            flat += [
                (one.start_ns - first_ns) / 1000,
                (one.end_ns - one.start_ns) / 1000,
                name,
                count,
            ]
        title = track if number == 0 else f"{track} {number + 1}"
        drawn.append({"group": group.name, "name": title, "kind": track, "slices": flat})
    kept = sum(map(len, blocks))
    return Timeline(
        drawn, list(names), (end_ns - first_ns) / 1000, total - kept, resolution_ns / 1000, hidden
    )


def _coarse(lane: Sequence[Slice], resolution_ns: int, track: str) -> Iterator[tuple[Slice, int]]:
    """Short slices with short gaps between them as one; short idle gaps are left out instead."""
    if track == "idle":
        yield from ((one, 1) for one in lane if one.end_ns - one.start_ns >= resolution_ns)
        return
    held, count = None, 0
    for one in lane:
        if (
            held is not None
            and one.end_ns - one.start_ns < resolution_ns
            and held.end_ns - held.start_ns < 8 * resolution_ns
            and one.start_ns - held.end_ns < resolution_ns
        ):
            held, count = Slice(held.name, held.start_ns, one.end_ns), count + 1
            continue
        if held is not None:
            yield held, count
        held, count = one, 1
    if held is not None:
        yield held, count


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
