"""Timing of short kernels: replayed graphs, interleaved, cold and hot, medians with quantiles.

Why not an event pair around a call: on a starved stream it times the gap until the host enqueues
the work, for kernels under about 100 us. So each provider's calls are captured once in a graph (or,
where that fails, enqueued behind a spinning kernel that outlasts the enqueueing) and one pair of
events spans them all. Why interleaved: clocks drift by 2-3 times over a run; providers that take
turns in shuffled order drift together.

Nothing here knows torch or CUDA: `Device` does, and tests script one.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

Call: TypeAlias = Callable[[], object]

# The spread of a batch of rounds: the 20th and 80th percentile beside the median.
QUANTILES = (0.2, 0.5, 0.8)
# A pair of events resolves 0.5 us: at this length of a replay that is 0.25 %.
REPLAY_S = 200e-6
MAX_CALLS = 2048
# Margin of the spinning kernel over the time that the host took to enqueue the same calls before.
SPIN_MARGIN = 3.0
MIN_SPIN_S = 1e-3
ENERGY_S = 1.0


class CaptureError(Exception):
    """The calls can't be captured in a graph."""


class Device(Protocol):
    """What timing needs of a device and its stream."""

    def now(self) -> float:
        """Host clock in seconds."""

    def record(self) -> Any:
        """An event in the stream, now."""

    def elapsed_s(self, start: Any, end: Any) -> float:
        """Seconds between two events that the device has passed."""

    def synchronize(self) -> None:
        """Wait for the stream."""

    def capture(self, calls: Sequence[Call], *, keep_outputs: bool) -> Call:
        """A graph of the calls, as a function that replays it.

        Args:
            calls: to capture.
            keep_outputs: outputs of all calls have memory of their own. Else they share one
                buffer, which stays in L2.

        Raises:
            CaptureError: the calls can't be captured.
        """

    def spin(self, seconds: float) -> None:
        """Enqueue a kernel that occupies the stream for that long."""

    def flush(self) -> None:
        """Enqueue a read that fills the L2 cache with something else."""


class Meter(Protocol):
    """Device counters beside the clock; what a device can't give is None."""

    def sm_clock_hz(self) -> float | None:
        """The clock of the SMs now."""

    def energy_j(self) -> float | None:
        """The total energy counter."""

    def throttle_reasons(self) -> tuple[str, ...] | None:
        """Why the clock is below its maximum now, other than idleness."""


class Workload(NamedTuple):
    """One provider's calls: one for each rotated set of buffers, all doing the same work."""

    name: str
    calls: Sequence[Call]


class Spread(NamedTuple):
    """Quantiles over rounds, in seconds a call."""

    p20_s: float
    p50_s: float
    p80_s: float


class Timing(NamedTuple):
    """What was measured of one workload.

    Args:
        device: seconds on the device a call.
        wall: seconds a call on the host when calls are made one by one, without a graph.
        method: `graph` or `queued`.
        first_call_s: the first call, with all compiling and tuning.
        sm_clock_hz: median of the clock while it ran.
        energy_j: joules a call.
        throttle_reasons: all seen while it ran.
    """

    device: Spread
    wall: Spread
    method: str
    first_call_s: float
    sm_clock_hz: float | None = None
    energy_j: float | None = None
    throttle_reasons: tuple[str, ...] | None = None


class _Prepared(NamedTuple):
    workload: Workload
    launch: Call
    calls: int
    spin_s: float
    method: str
    first_call_s: float


def spread(samples: Sequence[float]) -> Spread:
    """The 20th, 50th and 80th percentile."""
    if len(samples) == 1:
        return Spread(*(samples[0],) * 3)
    cuts = statistics.quantiles(samples, n=100, method="inclusive")
    return Spread(*(cuts[round(100 * q) - 1] for q in QUANTILES))


def first_call(device: Device, call: Call) -> float:
    """Seconds of a first call, to its end on the device."""
    start = device.now()
    call()
    device.synchronize()
    return device.now() - start


def measure(
    workloads: Sequence[Workload],
    device: Device,
    *,
    cold: bool,
    rounds: int,
    first_calls: Mapping[str, float],
    meter: Meter | None = None,
    shuffle: random.Random | None = None,
) -> dict[str, Timing]:
    """Time workloads in turns.

    Args:
        workloads: to compare with each other; each was called before.
        device: to time on.
        cold: flush L2 before each replay and use each set of buffers once in it; else the first
            set is used again and again.
        rounds: how many times each workload takes its turn.
        first_calls: seconds of each first call, by name.
        meter: counters to read while the work runs.
        shuffle: the order of turns in a round.

    Returns:
        By the workload's name.
    """
    shuffle = shuffle or random.Random(0)  # noqa: S311 - an order of turns, no secret
    prepared = [_prepare(w, device, first_calls[w.name], cold=cold) for w in workloads]
    device_s: dict[str, list[float]] = {w.name: [] for w in workloads}
    wall_s: dict[str, list[float]] = {w.name: [] for w in workloads}
    clocks: dict[str, list[float]] = {w.name: [] for w in workloads}
    reasons: dict[str, set[str] | None] = {w.name: None for w in workloads}
    for _ in range(rounds):
        for one in shuffle.sample(prepared, len(prepared)):
            name = one.workload.name
            device_s[name].append(_device_turn(one, device, meter, clocks[name], reasons, cold))
            wall_s[name].append(_wall_turn(one, device, cold=cold))
    return {
        one.workload.name: Timing(
            spread(device_s[one.workload.name]),
            spread(wall_s[one.workload.name]),
            one.method,
            one.first_call_s,
            _median(clocks[one.workload.name]),
            _energy(one, device, meter),
            _ordered(reasons[one.workload.name]),
        )
        for one in prepared
    }


def _prepare(workload: Workload, device: Device, first_call_s: float, *, cold: bool) -> _Prepared:
    calls = list(workload.calls) if cold else list(workload.calls[:1])
    start = device.now()
    for call in calls:
        call()
    enqueued_s = device.now() - start
    device.synchronize()
    each_s = (device.now() - start) / len(calls)
    if not cold:
        # The host's time is an upper bound of the device's: the replay may be shorter than
        # wanted, so the bound is taken ten times.
        repeats = min(MAX_CALLS, max(1, round(10 * REPLAY_S / each_s)))
        calls, enqueued_s = calls * repeats, enqueued_s * repeats
    spin_s = max(MIN_SPIN_S, SPIN_MARGIN * enqueued_s)
    try:
        replay = device.capture(calls, keep_outputs=cold)
        return _Prepared(workload, replay, len(calls), MIN_SPIN_S, "graph", first_call_s)
    except CaptureError:

        def launch() -> None:
            for call in calls:
                call()

        return _Prepared(workload, launch, len(calls), spin_s, "queued", first_call_s)


def _device_turn(
    one: _Prepared,
    device: Device,
    meter: Meter | None,
    clocks: list[float],
    reasons: dict[str, set[str] | None],
    cold: bool,
) -> float:
    if cold:
        device.flush()
    # The host enqueues both events and the replay while the device still spins.
    device.spin(one.spin_s)
    start = device.record()
    one.launch()
    end = device.record()
    if meter is not None:
        clock, why = meter.sm_clock_hz(), meter.throttle_reasons()
        if clock is not None:
            clocks.append(clock)
        if why is not None:
            reasons[one.workload.name] = (reasons[one.workload.name] or set()) | set(why)
    device.synchronize()
    return device.elapsed_s(start, end) / one.calls


def _wall_turn(one: _Prepared, device: Device, *, cold: bool) -> float:
    calls = one.workload.calls if cold else one.workload.calls[:1]
    if cold:
        device.flush()
    device.synchronize()
    start = device.now()
    for call in calls:
        call()
    device.synchronize()
    return (device.now() - start) / len(calls)


def _energy(one: _Prepared, device: Device, meter: Meter | None) -> float | None:
    """Joules a call over at least a second: the counter moves about every 100 ms."""
    before = None if meter is None else meter.energy_j()
    if meter is None or before is None:
        return None
    start, launches = device.now(), 0
    while device.now() - start < ENERGY_S:
        for _ in range(16):
            one.launch()
        device.synchronize()
        launches += 16
    after = meter.energy_j()
    return None if after is None else (after - before) / (launches * one.calls)


def _median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def _ordered(reasons: set[str] | None) -> tuple[str, ...] | None:
    return None if reasons is None else tuple(sorted(reasons))
