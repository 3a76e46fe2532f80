"""What the inferences on one device had of it: joins their device times with its samples."""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence

from warpspan.device.attribution import (
    Interval,
    Piece,
    Run,
    Share,
    Shared,
    add,
    during,
    interval,
    share,
    total,
    while_busy,
)
from warpspan.probes import capture
from warpspan.probes.clock import DeviceTimeline, Events
from warpspan.probes.runtime_device import RuntimeDevice
from warpspan.records import CounterScope, DeviceSample, DeviceUsage, PhaseCycles, Quantities, Usage

_SHARES = ("sm", "occupancy", "tensor", "dram")
# Intervals of one inference that are kept apart, for the cycles of its phases.
_MOST_PIECES = 4096


class Account:
    """What one inference had so far, interval by interval."""

    def __init__(self) -> None:
        self.start_ns: int | None = None
        self.end_ns: int | None = None
        #: False where its place on the host's clock is not known exactly.
        self.exact = True
        #: Host time up to which it was counted as still running.
        self.counted_ns = 0
        self._covered_s = 0.0
        self._longest_s = 0.0
        self._alone = True
        self._amount = Quantities(0.0, 0.0, 0.0, 0.0)
        self._means: dict[str, float | None] = dict.fromkeys((*_SHARES, "utilization"), 0.0)
        self._temperature_c: float | None = None
        self._reasons: tuple[str, ...] | None = ()
        self._energy_source: str | None = None
        self._pieces: list[Piece] = []

    def add(self, part: Interval, shared: Shared, own: Share, run: Run) -> None:
        """Take its share of an interval."""
        if len(self._pieces) <= _MOST_PIECES:
            start_ns, end_ns = max(run[0], part.start_ns), min(run[1], part.end_ns)
            self._pieces.append(Piece(start_ns, end_ns, own.amount))
        self._longest_s = max(self._longest_s, part.length_s)
        self._alone = self._alone and own.alone and not part.shared
        self._amount = add(self._amount, own.amount)
        for name in _SHARES:
            self._mean(name, while_busy(getattr(part, name), part, shared.busy_s), own)
        self._mean("utilization", part.utilization, own)
        self._energy_source = part.energy_source
        if part.temperature_c is not None:
            self._temperature_c = max(part.temperature_c, self._temperature_c or 0.0)
        if part.throttle_reasons is None or self._reasons is None:
            self._reasons = None
        else:
            self._reasons = tuple(dict.fromkeys(self._reasons + part.throttle_reasons))
        self._covered_s += own.device_time_s  # last: the finisher may look at any time

    def _mean(self, name: str, value: float | None, own: Share) -> None:
        so_far = self._means[name]
        if value is None or so_far is None:
            self._means[name] = None
        else:
            self._means[name] = so_far + value * own.device_time_s

    def usage(self, scope: CounterScope) -> Usage | None:
        """Its usage; None where it did not lie in measured intervals whole."""
        length_s = self._length_s
        if length_s is None:
            return None
        gpu_time_s, energy_j, active, elapsed = self._amount
        means = {
            name: None if total is None else total / length_s for name, total in self._means.items()
        }
        has_shares = any(means[name] is not None for name in _SHARES)
        return Usage(
            gpu_time_s=gpu_time_s,
            sm_cycles_active=active,
            sm_cycles_elapsed=elapsed,
            sm_clock_hz=None if elapsed is None else elapsed / gpu_time_s,
            sm_utilization=means["sm"],
            sm_occupancy=means["occupancy"],
            tensor_utilization=means["tensor"],
            dram_utilization=means["dram"],
            sm_source="gpm" if has_shares else None,
            sm_scope=scope if has_shares else None,
            energy_j=energy_j,
            power_w=None if energy_j is None else energy_j / gpu_time_s,
            energy_source=self._energy_source if energy_j is not None else None,
            utilization=means["utilization"],
            temperature_c=self._temperature_c,
            throttle_reasons=self._reasons,
            estimated=self._is_estimate(length_s),
        )

    def during(self, spans_s: Sequence[tuple[float, float]]) -> PhaseCycles | None:
        """What it had in parts of its time, in seconds since its begin on the device."""
        if not spans_s or self._length_s is None or len(self._pieces) > _MOST_PIECES:
            return None
        start_ns: int = self.start_ns  # type: ignore[assignment]
        runs = [(start_ns + round(a * 1e9), start_ns + round(b * 1e9)) for a, b in spans_s]
        amount = during(self._pieces, runs)
        if amount.sm_cycles_elapsed is None:
            return None
        shortest_s = min(end - start for start, end in spans_s)
        return PhaseCycles(
            amount.sm_cycles_active, amount.sm_cycles_elapsed, self._is_estimate(shortest_s)
        )

    @property
    def _length_s(self) -> float | None:
        """How long it was on the device; None where not all of that was measured."""
        if self.start_ns is None or self.end_ns is None:
            return None
        length_s = (self.end_ns - self.start_ns) / 1e9
        # Sums of differences of whole nanoseconds, so that only rounding can differ.
        return length_s if length_s > 0 and abs(self._covered_s - length_s) <= 1e-6 else None

    def _is_estimate(self, length_s: float) -> bool:
        return not (self.exact and self._alone and length_s >= self._longest_s)


class Meter:
    """The meter of one device.

    The sampler's thread adds samples and shares out what lies between them; the finisher asks
    whether an inference is settled, and for its usage.

    Args:
        place: the device.
        hold_s: how long inferences may wait for the next sample, over the rest of the sampler.
        ring: has the sampler take a sample soon.
        scope: what the SM counters of the device cover.
    """

    def __init__(
        self,
        runtime_device: RuntimeDevice,
        hold_s: float,
        ring: Callable[[], None],
        scope: CounterScope = CounterScope.DEVICE,
    ) -> None:
        self.runtime_device = runtime_device
        self.scope = scope
        #: Whether samples come; False once it is known that none will.
        self.sampled = True
        #: Samples so far, and seconds that the driver took for them.
        self.samples = 0
        self.cost_s = 0.0
        #: How long the sampler rests before its next sample, because the driver was slow.
        self.rest_s = 0.0
        self.latest: DeviceSample | None = None
        self._timeline: DeviceTimeline = runtime_device.timeline  # type: ignore[assignment]
        self._begun: deque[weakref.ref[Events]] = deque()
        self._timeline.begun = self._begun
        self._hold_s = hold_s
        self.hurry = ring
        self._last: DeviceSample | None = None
        self._settled_ns: int | None = None
        self._skipped = False
        self._give_up_s: float | None = None
        self._live: list[weakref.ref[Events]] = []
        self._idle_power_w: float | None = None
        self._used = self._idle = Quantities()
        #: Inferences that were finished, and what those had whose usage is known.
        self.inferences = 0
        self.measured = 0
        self.reported = Quantities()

    @property
    def state(self) -> DeviceUsage:
        """What metrics are made from."""
        return DeviceUsage(
            self.runtime_device.device,
            self.runtime_device.name,
            self.latest,
            self._used,
            self._idle,
            self.samples,
            self.cost_s,
        )

    @property
    def busy(self) -> bool:
        """Whether inferences are on the device, or wait for a sample after their end."""
        return bool(self._begun or self._live)

    def add(self, sample: DeviceSample) -> None:
        """Take a sample and share out what happened since the last one."""
        self.latest = sample
        self.samples += 1
        self.cost_s += sample.cost_s
        if not capture.gate.ask(self._resolve):
            self._skipped = True  # a graph is being captured: no question may be asked
            return
        if self._skipped:  # shares are since the sample before, the interval is longer
            sample = sample._replace(
                sm_utilization=None,
                sm_occupancy=None,
                tensor_utilization=None,
                dram_utilization=None,
            )
            self._skipped = False
        before, self._last = self._last, sample
        if before is not None and sample.taken_ns > before.taken_ns:
            self._share(interval(before, sample))
        self._settled_ns = sample.taken_ns
        self._give_up_s = None
        self._live = [found for found in self._live if _is_open(found, sample.taken_ns)]

    def stop(self) -> None:
        """No sample will come any more."""
        self.sampled = False
        self._timeline.begun = None

    def settled(self, events: Events) -> bool:
        """Whether the samples cover an inference that is done, or it has waited long enough."""
        if not self.sampled:
            return True
        account: Account | None = events.account
        if (
            account is not None
            and account.end_ns is not None
            and self._settled_ns is not None
            and account.end_ns <= self._settled_ns
        ):
            return True
        # Counted for the sampler, not for each inference: behind a driver that does not answer
        # all of them wait once, together.
        if self._give_up_s is None:
            self._give_up_s = time.monotonic() + self.rest_s + self._hold_s
        return time.monotonic() >= self._give_up_s

    def usage(self, events: Events) -> Usage | None:
        """What an inference had; None where the samples do not cover it."""
        account: Account | None = events.account
        self.inferences += 1
        usage = None if account is None else account.usage(self.scope)
        if usage is not None:
            self.measured += 1
            self.reported = total(
                self.reported,
                Quantities(
                    usage.gpu_time_s or 0.0,
                    usage.energy_j,
                    usage.sm_cycles_active,
                    usage.sm_cycles_elapsed,
                ),
            )
        return usage

    def during(self, events: Events, spans_s: Sequence[tuple[float, float]]) -> PhaseCycles | None:
        """What an inference had in parts of its time; None where the samples do not cover it."""
        account: Account | None = events.account
        return None if account is None else account.during(spans_s)

    def _resolve(self) -> bool:
        """Find out which inferences began and ended on the device, and when."""
        while self._begun:
            self._live.append(self._begun.popleft())
        for reference in self._live:
            events = reference()
            if events is None:
                continue
            account: Account | None = events.account
            if account is None:
                account = events.account = Account()
            if account.start_ns is None:
                if not events.start.event.query():
                    continue
                started_ns = self._timeline.started_ns(events)
                account.exact = started_ns is not None
                # Without tied clocks: it can't have begun before it was asked to. Nor can it have
                # begun or ended before the last time that it was seen not to have.
                account.start_ns = max(started_ns or events.enqueued_ns, self._settled_ns or 0)
            if account.end_ns is None and events.end is not None and events.end.event.query():
                elapsed_ms = events.start.event.elapsed_time(events.end.event)
                end_ns = account.start_ns + round(elapsed_ms * 1e6)
                account.end_ns = max(end_ns, account.counted_ns)
        return True

    def _share(self, part: Interval) -> None:
        accounts: list[Account] = []
        runs: list[Run] = []
        for reference in self._live:
            events = reference()
            account: Account | None = None if events is None else events.account
            if account is None or account.start_ns is None:
                continue
            end_ns = part.end_ns if account.end_ns is None else account.end_ns
            if account.start_ns < part.end_ns and end_ns > part.start_ns:
                accounts.append(account)
                runs.append((account.start_ns, end_ns))
        shared = share(part, runs, self.runtime_device.sm_count, self._idle_power_w)
        for account, own, run in zip(accounts, shared.shares, runs, strict=True):
            account.add(part, shared, own, run)
            if account.end_ns is None:
                account.counted_ns = part.end_ns
        if not runs and part.energy_j is not None and part.length_s > 0:
            self._idle_power_w = part.energy_j / part.length_s
        self._used = total(self._used, shared.used)
        self._idle = total(self._idle, shared.idle)


def _is_open(reference: weakref.ref[Events], until_ns: int) -> bool:
    """Whether an inference may have a part of what comes after that time."""
    events = reference()
    if events is None:
        return False
    account: Account | None = events.account
    return account is None or account.end_ns is None or account.end_ns > until_ns
