"""Captures: when the profiler runs, and which inferences are in it. One thread does it all.

The profiler is started and stopped on that thread, never on a caller's, and scheduled captures wait
for a moment without an open inference. Records of inferences in a capture are held back until its
trace is read, as they are for a sample of the device.
"""

from __future__ import annotations

import logging
import queue
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from warpspan import guard
from warpspan.deep.kernel_source import KernelSource
from warpspan.deep.members import Ids, ThreadNames, members_of
from warpspan.deep.trace_file import TraceFolder
from warpspan.finish.assemble import is_done
from warpspan.probes import capture, clock
from warpspan.runtime.window import Window

_logger = logging.getLogger("warpspan")

LIMIT = 1000
"""Inferences in one capture at most."""

LONGEST_S = 10.0
"""A scheduled capture takes no longer, however few inferences came."""

_LONGEST_BLOCK_S = 60.0
_LONGEST_FIRST_S = 600.0
_START_WAIT_S = 10.0
_YIELD_WAIT_S = 30.0
_QUIET_WAIT_S = 1.0
_LOOK_S = 0.005

#: Calls a function with the windows that wait for the finisher, which stands still meanwhile; None
#: where that is not possible now.
Look = Callable[[Callable[[Sequence[Window]], Any]], Any]


class Order:
    """One capture that somebody wants.

    Args:
        count: inferences after which it ends; None for a block that ends when it is closed.
        longest_s: how long it takes at most.
        ready: whether it may begin now.
        patience_s: how long to wait for that before it begins all the same.
    """

    #: Host clock of the first moment in which everything is recorded; None until then.
    began_ns: int | None = None
    #: Host clock of the last one.
    stopped_ns: int | None = None
    #: Host clock of the end of the block.
    closed_ns: int | None = None
    #: Whether somebody waits for its inferences, so that it ends now.
    hurried = False

    def __init__(
        self,
        count: int | None,
        longest_s: float,
        ready: Callable[[], bool] = lambda: True,
        patience_s: float = 0.0,
    ) -> None:
        self.count, self.longest_s = count, longest_s
        self.ready, self.patience_s = ready, patience_s
        #: Blocks that are open in it.
        self.blocks = 0 if count is not None else 1
        self.started = threading.Event()
        self.threads = ThreadNames()

    def is_over(self, windows: Sequence[Window]) -> bool:
        """Whether all that it is for has ended, on the device too."""
        inside = self.inside(windows)
        if self.count is not None:
            return sum(map(is_done, inside)) >= self.count
        if len(inside) >= LIMIT:
            return True
        closed_ns = self.closed_ns
        return closed_ns is not None and all(
            is_done(window) for window in inside if window.ended_ns <= closed_ns
        )

    def done(self, windows: Sequence[Window]) -> list[Window]:
        """Those that it is for, by start; not those that came on top until it had ended."""
        passed = [window for window in self.inside(windows) if is_done(window)]
        passed.sort(key=lambda window: window.began_ns)
        return passed[: self.count or LIMIT]

    def inside(self, windows: Sequence[Window]) -> list[Window]:
        """Those that began, and ended, while it recorded; of a block those that began in it."""
        return [
            window
            for window in windows
            if self.began_ns is not None
            and window.began_ns >= self.began_ns
            and (self.stopped_ns is None or window.ended_ns <= self.stopped_ns)
            and (self.closed_ns is None or window.began_ns < self.closed_ns)
        ]


class Captures:
    """Makes captures, one after the other.

    Args:
        source: the profiler.
        look: shows the windows that wait for the finisher.
        is_quiet: whether no inference is open.
        ids: of a span.
        directory: where traces are kept; None to keep none.
    """

    def __init__(
        self,
        source: KernelSource,
        look: Look,
        is_quiet: Callable[[], bool],
        ids: Ids,
        directory: str | None,
    ) -> None:
        self._source, self._look, self._is_quiet, self._ids = source, look, is_quiet, ids
        self._folder = None if directory is None else TraceFolder(Path(directory))
        self._ever_started = False
        #: How captures went, by outcome.
        self.outcomes: Counter[str] = Counter()
        self.reset()

    def reset(self) -> None:
        """Hold nothing, with no thread and fresh locks."""
        self._lock = threading.RLock()  # a signal handler may come while its thread has it
        self._orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._block: Order | None = None
        self._ordered = False
        self._given_up = False
        self._active: Order | None = None
        self._off = threading.Event()
        self._off.set()
        self._idle = threading.Event()
        self._idle.set()
        self._refused: set[str] = set()
        #: The capture whose inferences are held back now.
        self.current: Order | None = None
        #: The latest one, which may be over.
        self.latest: Order | None = None

    def start_anew(self) -> None:
        """Begin anew in a forked child; a child of a process that captured makes no captures.

        The profiler's threads and the driver's state did not come along.
        """
        self.reset()
        self._given_up = self._ever_started

    def request(self, count: int) -> None:
        """Capture the next inferences, from a quiet moment on, unless a capture is under way."""
        self._request(Order(count, LONGEST_S, self._is_quiet, _QUIET_WAIT_S))

    def request_first(self, count: int, ready: Callable[[], bool]) -> None:
        """Capture the first inferences of the process.

        Args:
            count: how many.
            ready: whether it is known which devices it uses. Where it is now, this returns when the
                profiler runs.
        """
        order = Order(count, _LONGEST_FIRST_S, ready, _LONGEST_FIRST_S)
        self._request(order)
        if ready():
            order.started.wait(_START_WAIT_S)

    def _request(self, order: Order) -> None:
        with self._lock:
            if not self._ordered and not self._given_up:
                self._ordered = True
                self._submit(order)

    def open_block(self) -> Order:
        """Capture what runs until `close_block`; returns when the profiler runs, or can't.

        Blocks that overlap are one capture.
        """
        with self._lock:
            order = self._block
            if order is not None and order.blocks:
                order.blocks += 1
            else:
                order = self._block = Order(None, _LONGEST_BLOCK_S)
                if self._given_up:
                    order.started.set()
                else:
                    self.hurry()
                    self._submit(order)
        order.started.wait(_START_WAIT_S)
        return order

    def close_block(self, order: Order) -> None:
        """End a block. Waits for nothing."""
        with self._lock:
            order.blocks -= 1
            if not order.blocks:
                order.closed_ns = clock.host_ns()

    def holds(self, window: Window) -> bool:
        """Whether the record of an inference waits for the trace that it is in."""
        order = self.current
        return order is not None and bool(order.inside((window,)))

    def was_traced(self, window: Window) -> bool:
        """Whether the profiler ran during any part of an inference."""
        order = self.latest
        if order is None or order.began_ns is None or window.ended_ns < order.began_ns:
            return False
        return order.stopped_ns is None or window.began_ns < order.stopped_ns

    def hurry(self) -> None:
        """Somebody waits for the inferences that ended."""
        order = self.current
        if order is not None:
            order.hurried = True

    def stop_now(self) -> None:
        """Have the profiler off before the program starts its own; what it recorded is lost."""
        if not self._off.is_set():
            self._yielding = True
            self._off.wait(_YIELD_WAIT_S)

    def pause(self, timeout_s: float) -> None:
        """End what runs, as before a fork, in which no profiler may be at work."""
        order = self._active
        if order is not None:
            order.hurried = True
        self._idle.wait(timeout_s)

    def stop(self, timeout_s: float) -> None:
        """End what runs, and the thread."""
        self._given_up = True
        self.pause(timeout_s)
        if self._thread is not None:
            self._orders.put(None)

    #: Whether the program's own profiler waits for ours to stop.
    _yielding = False

    def _submit(self, order: Order) -> None:
        self._idle.clear()
        self._orders.put(order)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="warpspan-capture", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        capture.relax()
        while (order := self._orders.get()) is not None:
            self._active = order
            try:
                if not self._given_up:
                    self.outcomes[self._capture(order)] += 1
            except Exception as error:
                self.outcomes["failed"] += 1
                guard.caught("capture", error)
            finally:
                self.current = self._active = None
                order.started.set()
                with self._lock:
                    if order.count is not None:
                        self._ordered = False
                    if order is self._block:
                        self._block = None
                    if self._orders.empty():
                        self._idle.set()

    def _capture(self, order: Order) -> str:
        """Make one capture; how it went."""
        if not self._wait_until_ready(order):
            return "busy"
        self._yielding = False
        self._off.clear()  # from here on a profiler of the program waits for ours
        try:
            reason = self._source.obstacle()
            if reason is None:
                self._ever_started = True
                self.latest = order
                self._source.start()
        except BaseException:
            self._off.set()
            raise
        if reason is not None:
            self._off.set()
            self._say(reason)
            return "yielded"
        return self._record(order)

    def _record(self, order: Order) -> str:
        with tempfile.TemporaryDirectory(prefix="warpspan-") as folder:
            path = Path(folder) / "trace.json"
            try:
                order.began_ns = clock.host_ns()
                self.current = order
                order.started.set()
                self._wait_for(order)
                order.stopped_ns = clock.host_ns()
                windows = self._look(order.done) or []
                keep = bool(windows) and not self._yielding
            except BaseException:
                self._source.stop(None)
                raise
            else:
                self._source.stop(path if keep else None)
            finally:
                self._off.set()
            if not keep:
                return "yielded" if self._yielding else "empty"
            order.threads.look()
            self._read(path, windows, order.threads)
        return "recorded"

    def _wait_for(self, order: Order) -> None:
        pause = threading.Event()
        until_s = time.monotonic() + order.longest_s
        while not order.hurried and not self._yielding and time.monotonic() < until_s:
            order.threads.look()
            if self._look(order.is_over):
                return
            pause.wait(_LOOK_S)

    def _wait_until_ready(self, order: Order) -> bool:
        """Wait for a quiet moment, or not that long; False while a graph is captured."""
        pause = threading.Event()
        until_s = time.monotonic() + order.patience_s
        while not order.ready() and not order.hurried and time.monotonic() < until_s:
            pause.wait(_LOOK_S)
        return capture.gate.ask(lambda: True) is True

    def _read(self, path: Path, windows: Sequence[Window], threads: ThreadNames) -> None:
        # Imported late: it is needed for a capture only.
        from warpspan.deep.figures import read_figures

        members = members_of(windows, self._ids, threads)
        figures = read_figures(path, members)
        target = None
        if self._folder is not None:
            target = self._folder.next()
            try:
                self._folder.keep(path, target, members, figures)
            except OSError as error:
                target = None
                self._say(f"can't write the trace of a capture: {error}")
        for window, profile in zip(windows, figures.profiles, strict=True):
            window.profile = profile._replace(trace=None if target is None else str(target))

    def _say(self, reason: str) -> None:
        """Log each reason once."""
        if reason not in self._refused:
            self._refused.add(reason)
            _logger.warning("warpspan: no capture: %s", reason)
