"""The export's own state as metrics: what was lost, what waits, how long a slice took."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Observation, get_meter

from warpspan.export.channel import Channel
from warpspan.signals import instruments, names

_channels: weakref.WeakSet[Channel] = weakref.WeakSet()
_lock = threading.RLock()
_created = False


def observe(channel: Channel) -> None:
    """Have the global meter provider, also one that is set later, ask about a channel."""
    global _created
    with _lock:
        _channels.add(channel)
        if _created:
            return
        _created = True
    meter = get_meter("warpspan")
    dropped = instruments.WARPSPAN_EXPORT_DROPPED
    backlog = instruments.WARPSPAN_EXPORT_BACKLOG
    longest = instruments.WARPSPAN_EXPORT_SLICE_MAX
    meter.create_observable_counter(
        dropped.name, [_asking(_dropped)], dropped.unit, dropped.description
    )
    meter.create_observable_up_down_counter(
        backlog.name, [_asking(_backlog)], backlog.unit, backlog.description
    )
    meter.create_observable_gauge(
        longest.name, [_asking(_longest)], longest.unit, longest.description
    )


def _asking(
    ask: Callable[[list[Channel]], Iterable[Observation]],
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: ask(list(_channels))


def _dropped(channels: list[Channel]) -> Iterable[Observation]:
    totals: dict[tuple[str, str], int] = {}
    for channel in channels:
        for key, count in list(channel.dropped.items()):
            totals[key] = totals.get(key, 0) + count
    for (signal, reason), count in totals.items():
        yield Observation(
            count, {names.WARPSPAN_SIGNAL: signal, names.WARPSPAN_DROP_REASON: reason}
        )


def _backlog(channels: list[Channel]) -> Iterable[Observation]:
    # A program that exports nothing else has nothing to say of its export.
    used = [channel for channel in channels if channel.used]
    if used:
        yield Observation(sum(channel.backlog[1] for channel in used))


def _longest(channels: list[Channel]) -> Iterable[Observation]:
    longest_ns = max((channel.longest_slice_ns() for channel in channels), default=0)
    if longest_ns:
        yield Observation(longest_ns / 1e9)
