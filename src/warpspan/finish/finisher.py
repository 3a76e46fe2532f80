"""The bounded queue of closed windows, and the one thread of a process that finishes them.

The thread runs in short slices: Python that runs elsewhere holds the GIL, and a launch-bound
caller feels each burst of it. While inferences arrive it looks at the queue at a fixed pace, so
that a caller wakes nobody; after a quiet time it sleeps until the next one rings.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from warpspan import forks, guard
from warpspan.records import DropReason
from warpspan.runtime.window import Window

T = TypeVar("T")

# The finisher takes at most half of the GIL when it is behind and next to nothing when it keeps
# up. 10 ms later than the end is still long before a batch processor sends a span.
_SLICE_NS = 500_000
_BEHIND_S = 0.001
_PACE_S = 0.01
_QUIET_ROUNDS = 100
# Many times a slice: only an exporter that holds up the finisher takes longer.
_FORK_WAIT_S = 1.0
_LOOK_WAIT_S = 1.0


class Finishing(Protocol):
    """How windows are finished; the pipeline implements it. None of it waits."""

    def is_done(self, window: Window) -> bool:
        """Whether the device has passed its end."""

    def is_settled(self, window: Window) -> bool:
        """Whether everything that may be added to its record is known."""

    def finish(self, window: Window, *, device_done: bool) -> None:
        """Make and hand on its record; `device_done` says whether its device times can be read."""


class Finisher:
    """Finishes closed windows in the order in which they ended.

    Args:
        pipeline: how each is finished.
        size: windows that may wait; what comes on top is not recorded, and counted.
        exit_timeout_s: how long the end of the process may wait for windows in flight.
        hurry: called while somebody waits for windows that are not settled.
        waiting: whether a caller waits for its device now, and so leaves the GIL to others.
        dropped: where inferences that were not recorded, or not whole, are counted by reason.
    """

    def __init__(
        self,
        pipeline: Finishing,
        size: int,
        exit_timeout_s: float,
        hurry: Callable[[], None] = lambda: None,
        waiting: Callable[[], bool] = lambda: False,
        dropped: Counter[str] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._size = size
        self._exit_timeout_s = exit_timeout_s
        self._hurry = hurry
        self._waiting = waiting
        self._stopped = False
        #: Inferences that were not recorded, or not whole, by reason. `warpspan.dropped`.
        self.dropped: Counter[str] = Counter() if dropped is None else dropped
        self.reset()

    def start_anew(self) -> None:
        """Begin anew in a forked child: what waits belongs to the parent."""
        forks.keep(self._queue)
        self.reset()

    def reset(self) -> None:
        """Hold nothing, with no thread and fresh locks."""
        self.dropped.clear()
        self._queue: deque[Window] = deque()
        self._finished = 0
        self._longest_ns = 0
        # Not re-entrant: a slice inside a slice would finish a window twice. `_worker` is the thread
        # that holds it, so that a signal handler on that thread does not wait for itself.
        self._working = threading.Lock()
        self._worker: int | None = None
        self._paused = False
        # Re-entrant: a signal handler may close a window while its thread starts the finisher.
        self._starting = threading.RLock()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = True
        self._thread: threading.Thread | None = None

    def pause(self) -> None:
        """Wait until nothing is being finished, as before a fork.

        Else a lock that the finisher has taken in the SDK may stay taken in the child for ever.
        """
        self._paused = self._working.acquire(timeout=_FORK_WAIT_S)

    def resume(self) -> None:
        """Go on after `pause`."""
        if self._paused:
            self._paused = False
            self._working.release()

    @property
    def full(self) -> bool:
        """Whether an inference that began now would have to be dropped."""
        return len(self._queue) >= self._size

    @property
    def waiting(self) -> int:
        """Windows that wait for the finisher."""
        return len(self._queue)

    def look(self, function: Callable[[Sequence[Window]], T]) -> T | None:
        """What a function makes of the windows that wait, while nothing is being finished.

        None where the finisher can't be interrupted, as by an exporter that hangs.
        """
        if not self._working.acquire(timeout=_LOOK_WAIT_S):
            return None
        try:
            return function(list(self._queue))
        finally:
            self._working.release()

    def longest_slice_s(self) -> float | None:
        """The finisher's longest turn since this was asked before; None where it had none."""
        longest_ns, self._longest_ns = self._longest_ns, 0
        return longest_ns / 1e9 if longest_ns else None

    def push(self, window: Window) -> None:
        """Take a closed window. Runs on the caller's thread, waits for nothing, never raises."""
        self._queue.append(window)
        if self._asleep:
            try:
                self._wake()
            except Exception as error:  # no more threads: what waits is finished at exit
                guard.caught("finisher", error)

    def flush(self, timeout_s: float) -> bool:
        """Finish what was pushed so far, in this thread; False where time ran out."""
        if self._worker == threading.get_ident():
            return False
        deadline = time.monotonic() + timeout_s
        target = self._finished + len(self._queue)
        while self._finished < target:
            left_s = max(0.0, deadline - time.monotonic())
            if not self._working.acquire(timeout=left_s):
                return False
            try:
                waiting = not self._slice()
            finally:
                self._working.release()
            if waiting:
                if time.monotonic() >= deadline:
                    return False
                self._hurry()
                time.sleep(_BEHIND_S)
        return True

    def drain(self) -> None:
        """Finish what can be finished in time, the rest without its device times."""
        if self.flush(self._exit_timeout_s):
            return
        if not self._working.acquire(blocking=False):
            self.dropped[DropReason.TIMEOUT.value] += len(self._queue)  # an exporter hangs
            return
        try:
            while self._queue:
                done = self._pipeline.is_done(self._queue[0])
                if not done:
                    self.dropped[DropReason.TIMEOUT.value] += 1
                self._pipeline.finish(self._queue.popleft(), device_done=done)
        except Exception as error:
            guard.caught("finish", error)
        finally:
            self._working.release()

    def stop(self) -> None:
        """Drain, and end the finisher. It comes back for those that are closed later."""
        self.drain()
        self._stopped = True
        self._bell.put(None)

    def _wake(self) -> None:
        forks.check()
        with self._starting:
            self._asleep = False
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="warpspan-finisher", daemon=True
                )
                self._thread.start()
        self._bell.put(None)

    def _run(self) -> None:
        guard.on_own_thread()
        quiet = 0
        time.sleep(_PACE_S)
        while True:
            behind = False
            if self._queue:
                quiet = 0
                with self._working:
                    began_ns = time.perf_counter_ns()
                    behind = self._slice() and bool(self._queue)
                    self._longest_ns = max(self._longest_ns, time.perf_counter_ns() - began_ns)
            else:
                quiet += 1
            if quiet <= (0 if self._stopped else _QUIET_ROUNDS):
                time.sleep(self._pause_s(behind=behind))
                continue
            self._asleep = True
            with self._starting:  # nobody may find this thread alive that is about to end
                if self._stopped and not self._queue:
                    self._thread = None
                    return
            if not self._queue:  # one that was pushed since found nobody asleep
                self._bell.get()
            self._asleep = False
            quiet = 0
            time.sleep(_PACE_S)  # let a burst pass before taking the GIL from its caller

    def _pause_s(self, *, behind: bool) -> float:
        """How long the callers have the GIL before the next slice."""
        if not behind:
            return _PACE_S
        return 0.0 if self._waiting() else _BEHIND_S

    def _slice(self) -> bool:
        """Finish windows for about half a millisecond; False where the next one waits for its device."""
        self._worker = threading.get_ident()
        try:
            return self._finish_some()
        finally:
            self._worker = None

    def _finish_some(self) -> bool:
        until_ns = time.perf_counter_ns() + _SLICE_NS
        while self._queue and time.perf_counter_ns() < until_ns:
            window = self._queue[0]
            try:
                # A window that only waits for its device's next sample makes room for others.
                if not self._pipeline.is_done(window) or (
                    len(self._queue) <= self._size // 2 and not self._pipeline.is_settled(window)
                ):
                    return False
                self._pipeline.finish(window, device_done=True)
            except Exception as error:
                guard.caught("finish", error)
            # Only now, so that an empty queue means that everything is finished.
            self._queue.popleft()
            self._finished += 1
        return True
