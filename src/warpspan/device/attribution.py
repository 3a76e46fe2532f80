"""Shares what a device did between two samples out among the inferences that were on it.

Pure functions. The formulas are beside the attributes in registry.yaml. For every quantity the
shares and the idle rest add up to what the device counted, so that sums over inferences and over
sample intervals can be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from warpspan.records import DeviceSample, Quantities

# No board takes more; a counter that was set or wrapped tells of more.
_MAX_POWER_W = 20_000.0

#: The host clock (ns) at which the device began an inference, and ended it.
Run: TypeAlias = tuple[int, int]


class Interval(NamedTuple):
    """What a device did between two samples.

    Args:
        start_ns: host clock of the first sample.
        end_ns: host clock of the second one.
        energy_j: its energy, or None where it was not measured.
        energy_source: `nvml.energy` or `nvml.power`.
        clock_hz: its mean SM clock, or None.
        sm: share of its multiprocessors that had work, or None; likewise the next three.
        occupancy: resident warps over the most it can hold.
        tensor: share of the time in which tensor cores worked.
        dram: share of its memory's bandwidth.
        utilization: share of the time in which any kernel ran, at the second sample.
        temperature_c: the higher one of the two samples.
        throttle_reasons: those of both samples.
        shared: whether another process computes on it, too.
    """

    start_ns: int
    end_ns: int
    energy_j: float | None = None
    energy_source: str | None = None
    clock_hz: float | None = None
    sm: float | None = None
    occupancy: float | None = None
    tensor: float | None = None
    dram: float | None = None
    utilization: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    shared: bool = False

    @property
    def length_s(self) -> float:
        """Time between the two samples."""
        return (self.end_ns - self.start_ns) / 1e9


class Share(NamedTuple):
    """What one inference had in an interval.

    Args:
        device_time_s: time for which it was on the device.
        alone: nothing else was, all that time.
        amount: its part of the device's quantities.
    """

    device_time_s: float
    alone: bool
    amount: Quantities


class Shared(NamedTuple):
    """An interval shared out.

    Args:
        shares: one for each run, in their order.
        used: their sum.
        idle: the rest of what the device counted.
        busy_s: time with at least one run on the device.
    """

    shares: list[Share]
    used: Quantities
    idle: Quantities
    busy_s: float


class Piece(NamedTuple):
    """What one inference had in one interval: the part of it that it ran in, and the amount."""

    start_ns: int
    end_ns: int
    amount: Quantities


def interval(before: DeviceSample, after: DeviceSample) -> Interval:
    """What happened between two samples of one device. Values that can't be true are left out."""
    length_s = (after.taken_ns - before.taken_ns) / 1e9
    energy_j, source = _energy(before, after, length_s)
    clocks = (before.sm_clock_hz, after.sm_clock_hz)
    temperatures = [t for t in (before.temperature_c, after.temperature_c) if t is not None]
    reasons: tuple[str, ...] | None = None
    if before.throttle_reasons is not None and after.throttle_reasons is not None:
        reasons = tuple(dict.fromkeys(before.throttle_reasons + after.throttle_reasons))
    return Interval(
        start_ns=before.taken_ns,
        end_ns=after.taken_ns,
        energy_j=energy_j,
        energy_source=source,
        clock_hz=None if None in clocks else sum(clocks) / 2,  # type: ignore[arg-type]
        sm=after.sm_utilization,
        occupancy=after.sm_occupancy,
        tensor=after.tensor_utilization,
        dram=after.dram_utilization,
        utilization=after.utilization,
        temperature_c=max(temperatures, default=None),
        throttle_reasons=reasons,
        shared=bool(before.shared or after.shared),
    )


def _energy(
    before: DeviceSample, after: DeviceSample, length_s: float
) -> tuple[float | None, str | None]:
    if before.energy_j is not None and after.energy_j is not None:
        energy_j, source = after.energy_j - before.energy_j, "nvml.energy"
    elif (
        before.energy_j is None
        and after.energy_j is None
        and None
        not in (
            before.power_w,
            after.power_w,
        )
    ):
        energy_j = (before.power_w + after.power_w) / 2 * length_s  # type: ignore[operator]
        source = "nvml.power"
    else:
        return None, None
    # Backwards: the driver was loaded anew. A jump: the counter was set.
    if not 0 <= energy_j <= _MAX_POWER_W * max(length_s, 1.0):
        return None, None
    return energy_j, source


def while_busy(share: float | None, interval: Interval, busy_s: float) -> float | None:
    """A share of the whole interval as one of the busy time in it, at most 1."""
    if share is None or busy_s <= 0:
        return None
    return min(1.0, share * interval.length_s / busy_s)


def share(
    interval: Interval,
    runs: Sequence[Run],
    sm_count: int | None = None,
    idle_power_w: float | None = None,
) -> Shared:
    """Share an interval out among runs by their device time.

    Args:
        interval: what the device did.
        runs: the inferences that were on the device; parts outside the interval don't count.
        sm_count: multiprocessors of the device, or None.
        idle_power_w: its power without an inference, or None where it is not known.
    """
    clipped = [(max(start, interval.start_ns), min(end, interval.end_ns)) for start, end in runs]
    gpu_s, alone, busy_s = _split(clipped)
    length_s = interval.length_s
    busy_s = min(busy_s, length_s)
    energy_j = _busy_energy(interval, busy_s, idle_power_w)
    elapsed = active = total_active = None
    if interval.clock_hz is not None:
        elapsed = interval.clock_hz * busy_s
        if interval.sm is not None and sm_count is not None:
            total_active = interval.sm * length_s * interval.clock_hz * sm_count
            # What the multiprocessors did beyond the busy time was not ours.
            active = min(interval.sm * length_s, busy_s) * interval.clock_hz * sm_count
    shares = []
    for (start, end), own_s, was_alone in zip(clipped, gpu_s, alone, strict=True):
        part = own_s / busy_s if busy_s > 0 else 0.0
        shares.append(
            Share(
                max(0, end - start) / 1e9,
                was_alone,
                Quantities(own_s, _of(energy_j, part), _of(active, part), _of(elapsed, part)),
            )
        )
    used = Quantities(busy_s, energy_j, active, elapsed)
    idle = Quantities(
        length_s - busy_s,
        None if energy_j is None else interval.energy_j - energy_j,  # type: ignore[operator]
        None if active is None else total_active - active,  # type: ignore[operator]
        None if elapsed is None else interval.clock_hz * length_s - elapsed,  # type: ignore[operator]
    )
    return Shared(shares, used, idle, busy_s)


def during(pieces: Sequence[Piece], runs: Sequence[Run]) -> Quantities:
    """What an inference had in parts of its time: of each piece as much as they overlap it.

    Args:
        pieces: in the order of their times, as the runs are; no two of either overlap.
        runs: the parts.
    """
    amount = Quantities(0.0, 0.0, 0.0, 0.0)
    first = 0
    for piece in pieces:
        while first < len(runs) and runs[first][1] <= piece.start_ns:
            first += 1
        overlap_ns, index = 0, first
        while index < len(runs) and runs[index][0] < piece.end_ns:
            start_ns, end_ns = runs[index]
            overlap_ns += min(end_ns, piece.end_ns) - max(start_ns, piece.start_ns)
            index += 1
        if overlap_ns > 0:
            part = overlap_ns / (piece.end_ns - piece.start_ns)
            amount = add(amount, Quantities(*(_of(whole, part) for whole in piece.amount)))  # type: ignore[arg-type]
    return amount


def add(first: Quantities, second: Quantities) -> Quantities:
    """The sum; None where either is not known."""
    more = (
        None if a is None or b is None else a + b
        for a, b in zip(first[1:], second[1:], strict=True)
    )
    return Quantities(first.time_s + second.time_s, *more)


def total(first: Quantities, second: Quantities) -> Quantities:
    """The sum of what is known."""
    more = (a if b is None else (a or 0.0) + b for a, b in zip(first[1:], second[1:], strict=True))
    return Quantities(first.time_s + second.time_s, *more)


def _busy_energy(interval: Interval, busy_s: float, idle_power_w: float | None) -> float | None:
    if interval.energy_j is None:
        return None
    if busy_s <= 0 or interval.length_s <= 0:
        return 0.0
    # Busy, a device takes at least its mean power.
    energy_j = interval.energy_j * busy_s / interval.length_s
    if idle_power_w is not None:
        rest_j = interval.energy_j - idle_power_w * (interval.length_s - busy_s)
        energy_j = max(energy_j, rest_j)
    return energy_j


def _split(runs: Sequence[Run]) -> tuple[list[float], list[bool], float]:
    """For each run its time divided by how many ran; whether it was alone; the time with any."""
    edges = sorted(
        edge
        for index, (start, end) in enumerate(runs)
        if end > start
        for edge in ((start, 1, index), (end, 0, index))
    )
    own_s = [0.0] * len(runs)
    alone = [True] * len(runs)
    # A run's own time is the difference of one running sum, of dt / n, at its two ends: one pass
    # over the edges, however many overlap.
    running_s = busy_s = 0.0
    entered: dict[int, float] = {}
    previous_ns = 0
    for now_ns, opens, index in edges:
        if entered:
            passed_s = (now_ns - previous_ns) / 1e9
            running_s += passed_s / len(entered)
            busy_s += passed_s
        previous_ns = now_ns
        if opens:
            if entered:
                alone[index] = False
                for other in entered if len(entered) == 1 else ():
                    alone[other] = False
            entered[index] = running_s
        else:
            own_s[index] = running_s - entered.pop(index)
    return own_s, alone, busy_s


def _of(whole: float | None, part: float) -> float | None:
    return None if whole is None else whole * part
