"""From a closed window to its record: contributors in their order, then the record stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from warpspan import guard
from warpspan.config import Settings
from warpspan.finish.assemble import (
    AllocatorMemory,
    DeviceShare,
    WaitsAndCopies,
    assemble,
    is_done,
)
from warpspan.finish.draft import Contributor
from warpspan.finish.kv_leaks import KvLeaks
from warpspan.finish.process import GcFreezer, ProcessMemory
from warpspan.finish.step_times import StepFigures
from warpspan.finish.stream import RecordStream
from warpspan.records import StepMode
from warpspan.runtime.window import Window

#: Hexadecimal ids of a span's trace, of itself and of its parent.
Ids: TypeAlias = tuple[str, str, str]


def contributors(settings: Settings, kv_leaks: KvLeaks, capture: Contributor) -> list[Contributor]:
    """Who adds to a record, in this order: each sees what those before it added.

    Args:
        settings: what the user chose.
        kv_leaks: the ledger of KV caches.
        capture: adds what a profiler saw.
    """
    return [
        AllocatorMemory(),
        ProcessMemory(),
        DeviceShare(),
        StepFigures(details=settings.steps != StepMode.SUMMARY),
        WaitsAndCopies(),
        kv_leaks,
        capture,
        *([GcFreezer()] if settings.gc_freeze else []),
    ]


class Pipeline:
    """Makes the record of a closed window. Runs on the finisher's thread.

    Args:
        contributors: who adds to it, in their order.
        stream: where it goes.
        ids: the ids of a span that the sink started.
    """

    def __init__(
        self, contributors: Sequence[Contributor], stream: RecordStream, ids: Callable[[Any], Ids]
    ) -> None:
        self._contributors = tuple(contributors)
        self._late = [one for one in contributors if type(one).settled is not Contributor.settled]
        self._stream = stream
        self._ids = ids

    def is_done(self, window: Window) -> bool:
        """Whether its device has passed its end. Asks, never waits."""
        return is_done(window)

    def is_settled(self, window: Window) -> bool:
        """Whether no contributor waits for something to add. Asks, never waits."""
        return all(contributor.settled(window) for contributor in self._late)

    def finish(self, window: Window, *, device_done: bool) -> None:
        """Make the record and hand it on.

        Args:
            window: the inference.
            device_done: its device times can be read.
        """
        if window.finished:  # an interrupt had it handed over twice
            return
        window.finished = True
        draft = assemble(window, device_done=device_done)
        for contributor in self._contributors:
            try:
                contributor.contribute(window, draft)
            except Exception as error:
                guard.caught(contributor.name, error)
        draft.trace_id, draft.span_id, draft.parent_span_id = self._ids(window.span)
        self._stream.inference(window.span, draft.record())
