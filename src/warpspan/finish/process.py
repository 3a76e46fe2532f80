"""The process that an inference runs in: its memory, and its garbage collector."""

from __future__ import annotations

import time

from warpspan.finish.draft import Contributor, Draft
from warpspan.probes import garbage
from warpspan.probes.memory import process_rss_bytes
from warpspan.records import Memory
from warpspan.runtime.window import Window

# One reading of /proc serves all inferences that are finished within this time.
_RSS_AGE_NS = 50_000_000


class ProcessMemory(Contributor):
    """Resident memory of the process, for inferences on the host."""

    name = "memory"

    def __init__(self) -> None:
        self._rss_bytes: int | None = None
        self._due_ns = 0

    def contribute(self, window: Window, draft: Draft) -> None:
        """Add it."""
        if not window.runtime_device.is_host:
            return
        now = time.perf_counter_ns()
        if now >= self._due_ns:
            self._due_ns = now + _RSS_AGE_NS
            self._rss_bytes = process_rss_bytes()
        if self._rss_bytes is not None:
            requested = draft.memory.oom_requested_bytes if draft.memory is not None else None
            draft.memory = Memory(oom_requested_bytes=requested, rss_bytes=self._rss_bytes)


class GcFreezer(Contributor):
    """Takes what is alive once a model is warm out of all later collections; adds nothing."""

    name = "gc freeze"

    def __init__(self) -> None:
        self._freezer = garbage.Freezer()

    def contribute(self, window: Window, draft: Draft) -> None:  # noqa: ARG002 - it adds nothing
        """Count an inference of its model."""
        if window.model is not None:
            self._freezer.finished(window.model)
