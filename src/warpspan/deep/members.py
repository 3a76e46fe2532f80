"""Windows as a trace knows them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from warpspan.deep.figures import Member
from warpspan.probes.capture import gate
from warpspan.probes.model import ModelInfo
from warpspan.runtime.window import Window

#: Hexadecimal ids of a span's trace, of itself and of its parent.
Ids: TypeAlias = Callable[[Any], tuple[str, str, str]]


class ThreadNames:
    """The system's numbers of the threads of this process, also of those that ended since."""

    def __init__(self) -> None:
        self._natives: dict[int | None, int | None] = {}

    def look(self) -> None:
        """Remember those that are alive."""
        for thread in threading.enumerate():
            self._natives[thread.ident] = thread.native_id

    def of(self, ident: int | None) -> tuple[str, ...]:
        """What a thread may be called in a trace.

        Kineto knows those that ran operators by the system's number. Of others it has the lower
        half of what CUPTI calls them by, without the sign.
        """
        if ident is None:
            return ()
        half = ident & 0xFFFF_FFFF
        signed = half - (1 << 32) if half >= 1 << 31 else half
        process, native = os.getpid(), self._natives.get(ident)
        return (
            *([] if native is None else [f"{process}/{native}"]),
            f"{process}/{abs(signed)}",
        )


def members_of(windows: Sequence[Window], ids: Ids, threads: ThreadNames) -> list[Member]:
    """What identifies closed inferences in a trace.

    Args:
        windows: closed, and passed by their devices.
        ids: of a span.
        threads: of this process.
    """
    return [_member(window, ids, threads) for window in windows]


def _member(window: Window, ids: Ids, threads: ThreadNames) -> Member:
    model = window.model_or_name
    name = model.name if isinstance(model, ModelInfo) else model
    device = window.runtime_device.device
    trace_id, span_id, _ = ids(window.span)
    return Member(
        name=window.operation if name is None else f"{window.operation} {name}",
        start_ns=window.start_ns,
        end_ns=window.start_ns + window.ended_ns - window.began_ns,
        threads=threads.of(window.thread),
        ordinal=None if device.type == "cpu" else device.ordinal or 0,
        device_times=_device_times(window),
        trace_id=trace_id,
        span_id=span_id,
    )


def _device_times(window: Window) -> tuple[int, int] | None:
    """Unix time of its begin and end by its own events, None where the clocks are not tied."""
    timeline, events, times = window.runtime_device.timeline, window.events, window.device_times
    if timeline is None or events is None or times is None:
        return None
    started_ns = gate.ask(lambda: timeline.started_ns(events))
    if started_ns is None:
        return None
    start_ns = window.start_ns + started_ns - window.began_ns
    return start_ns, start_ns + round(times.elapsed_s * 1e9)
