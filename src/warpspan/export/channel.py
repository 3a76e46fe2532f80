"""The process's end of the channel: the helper's life, and the batches that it has not confirmed.

No thread of its own: whoever exports, flushes or shuts down moves the bytes. A batch is kept, as
bytes, until the helper says how its export went, so that a new helper gets what the one before it
had not finished.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

from warpspan import forks
from warpspan.export import closing, official, wire
from warpspan.export.batch import Batch
from warpspan.export.spawn import Process, refusal

_logger = logging.getLogger("warpspan")

#: Bytes of batches that wait for their confirmation; what comes on top is dropped.
BACKLOG = 32 << 20
#: A helper that has said nothing for so long has not started.
START_S = 30.0
#: How long a helper goes on when its parent is gone.
LINGER_S = 5.0
_BACK_OFF_S = 0.5
_MAX_BACK_OFF_S = 60.0
#: A batch whose export ended this many helpers is dropped; so many failed starts are the last.
_TRIES = 3
_POLL_MS = 50


class Channel:
    """Sends batches to a helper that it starts, restarts and ends.

    Args:
        variables: the helper's environment, where the official exporters find their settings.
        target: where those send to.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        target: str = official.OTLP,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.variables = dict(variables)
        self._target = target
        self._clock = clock
        self._longest_ns = 0
        #: Whether its last exporter was shut down.
        self.closed = False
        self._users: dict[int, bool] = {}
        #: Items that were lost, by signal and reason.
        self.dropped: Counter[tuple[str, str]] = Counter()
        self._reset()
        forks.join(in_child=self._reset_in_child)

    def _reset(self) -> None:
        # Re-entrant: a signal handler may shut down what its own thread is in the middle of.
        self._lock = threading.RLock()
        self._batches: dict[int, Batch] = {}
        self._last = 0
        self._size = 0
        self._process: Process | None = None
        self._socket: socket.socket | None = None
        self._out: deque[memoryview] = deque()
        self._in = bytearray()
        self._ready = False
        self._was_ready = False
        self._failures = 0
        self._start_after = 0.0
        self._started_at = 0.0
        #: What is left of the time that the ends of all exporters have together.
        self._limit_s = self._closing_s = closing.flush_timeout_s(self.variables)
        self._lost_before: Counter[tuple[str, str]] | None = None
        #: Why no helper can serve, once that is so. Batches are then the exporter's own to send.
        self.broken: str | None = None

    def attach(self, kind: int) -> None:
        """One more exporter, of a signal."""
        with self._lock:
            self._users[kind] = True

    @property
    def backlog(self) -> tuple[int, int]:
        """Batches and bytes that wait for their confirmation."""
        return len(self._batches), self._size

    @property
    def used(self) -> bool:
        """Whether anything was ever handed over, in this process."""
        return self._last > 0

    def sliced(self, took_ns: int) -> None:
        """Remember how long a slice took."""
        self._longest_ns = max(self._longest_ns, took_ns)

    def longest_slice_ns(self) -> int:
        """The longest slice since this was asked before; 0 where there was none."""
        longest, self._longest_ns = self._longest_ns, 0
        return longest

    @property
    def helper_pid(self) -> int | None:
        """The process id of the helper, where one runs."""
        return None if (process := self._process) is None else process.pid

    def open(self, kind: int) -> Batch:
        """A new batch of a signal."""
        with self._lock:
            self._last += 1
            batch = self._batches[self._last] = Batch(self._last, kind)
            return batch

    def add(self, batch: Batch, payload: bytes, items: int, *, last: bool) -> None:
        """Add a slice to a batch and send what can be sent without waiting."""
        signal_name = wire.SIGNALS[batch.kind]
        with self._lock:
            if batch.number not in self._batches:  # another one died of it
                self.dropped[signal_name, "helper"] += items
                return
            reason = None
            if self._size + len(payload) > BACKLOG:
                reason = "backlog"
            elif len(payload) > wire.MAX_PAYLOAD:
                reason = "size"
            if reason is not None:
                self.dropped[signal_name, reason] += items
                items, payload = 0, b""
            if payload or (last and batch.frames):
                kind = batch.kind | (wire.LAST if last else 0)
                frame = wire.frame(kind, batch.number, payload)
                batch.frames.append(frame)
                batch.items += items
                batch.size += len(frame)
                self._size += len(frame)
                self._out.append(memoryview(frame))
            if last:
                batch.complete = True
                if not batch.frames:
                    self._forget(batch)
            self._pump()

    def settle(self, timeout_s: float) -> None:
        """Wait until what was added is in the helper's hands, while it takes any of it."""
        deadline = self._clock() + timeout_s
        while self._out and self.broken is None and self._clock() < deadline:
            before = len(self._out)
            self._wait(deadline, writing=True)
            with self._lock:
                self._pump()
            if len(self._out) == before and self._socket is None:
                return  # a new helper is not due yet

    def wait(self, timeout_s: float, kind: int | None = None) -> bool:
        """Wait until the batches (of a signal) that there are now were exported or given up."""
        deadline = self._clock() + timeout_s
        with self._lock:
            numbers = [n for n, batch in self._batches.items() if kind in (None, batch.kind)]
        while True:
            with self._lock:
                self._pump()
                if self.broken is not None:
                    return False
                if not any(number in self._batches for number in numbers):
                    return True
            if self._clock() >= deadline:
                return False
            self._wait(deadline, writing=bool(self._out))

    def take(self, kind: int) -> list[Batch]:
        """Take back the complete batches of a signal: no helper can send them."""
        with self._lock:
            taken = [b for b in self._batches.values() if b.kind == kind and b.complete]
            for batch in taken:
                self._forget(batch)
            return taken

    def detach(self, kind: int, timeout_s: float) -> bool:
        """One exporter less; with the last one the helper ends, in time or by force.

        Returns:
            False where something was left that could not be exported in time.
        """
        deadline = self._clock() + timeout_s
        if self._lost_before is None:
            self._lost_before = Counter(self.dropped)
        self._await_helper(deadline)
        began = self._clock()
        deadline = min(deadline, began + self._closing_s)
        done = self.wait(deadline - began, kind)
        with self._lock:
            for batch in [b for b in self._batches.values() if b.kind == kind]:
                if self.broken is None:
                    self.dropped[wire.SIGNALS[kind], "shutdown"] += batch.items
                    self._forget(batch)
            self._users.pop(kind, None)
            self._closing_s -= self._clock() - began
            if not self._users:
                self.closed = True
                self._end(max(0.0, deadline - self._clock()))
                to = official.address(self._target, wire.SIGNALS[kind], self.variables)
                closing.say(self.dropped - self._lost_before, to, self._limit_s)
        return done

    def _await_helper(self, deadline: float) -> None:
        """Give a helper that starts the time for it, which is not the backend's."""
        while self._batches and not self._ready and self._clock() < deadline:
            with self._lock:
                self._pump()
            if self._socket is None:  # broken, or not due
                return
            self._wait(deadline, writing=bool(self._out))

    def _pump(self) -> None:
        """Move bytes both ways, as many as go without waiting."""
        self._receive()
        if not self._batches or self.broken is not None:
            return
        if self._socket is None and self._clock() >= self._start_after:
            self._start()
        channel = self._socket
        if channel is None:
            return
        try:
            while self._out:
                sent = channel.send(self._out[0])
                if sent == len(self._out[0]):
                    self._out.popleft()
                else:
                    self._out[0] = self._out[0][sent:]
        except OSError:
            pass  # full, or its other end is gone, which the next _receive finds
        if not self._ready and self._clock() > self._started_at + START_S:
            self._lost(f"it did not answer in {START_S:.0f} s")

    def _receive(self) -> None:
        channel = self._socket
        if channel is None:
            return
        ended = False
        try:
            while received := channel.recv(65536):
                self._in += received
            ended = True
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        reason = "it ended"
        try:
            while (frame := wire.take(self._in)) is not None:
                kind, number, payload = frame
                if kind == wire.REFUSED:
                    reason = payload.decode(errors="replace")
                    ended = True
                else:
                    self._heard(kind, number)
        except wire.WireError:
            ended = True
        if ended:
            self._lost(reason)

    def _heard(self, kind: int, number: int) -> None:
        self._ready = self._was_ready = True
        batch = self._batches.get(number)
        if kind == wire.BEGUN and batch is not None:
            batch.begun = True
        elif kind in (wire.DONE, wire.FAILED) and batch is not None:
            self._failures = 0
            if kind == wire.FAILED:
                self.dropped[wire.SIGNALS[batch.kind], "export"] += batch.items
            self._forget(batch)

    def _forget(self, batch: Batch) -> None:
        if self._batches.pop(batch.number, None) is not None:
            self._size -= batch.size

    def _start(self) -> None:
        try:
            refused = refusal()
            if refused is None:
                self._start_helper()
            else:
                self._give_up(refused)
        except BaseException as error:
            self._drop_process(0.0)
            if not isinstance(error, Exception):  # the program's: an interrupt, a time limit
                raise
            self._failed(f"{type(error).__name__}: {error}")

    def _start_helper(self) -> None:
        setup = {
            "path": [os.path.abspath(entry) for entry in sys.path],  # noqa: PTH100 - "" too
            "parent": os.getpid(),
            "linger_s": LINGER_S,
            "target": self._target,
            "signals": [wire.SIGNALS[kind] for kind in sorted(self._users)],
        }
        frames = [wire.frame(wire.SETUP, 0, wire.dumps(setup))]
        for batch in self._batches.values():
            frames.extend(batch.frames)
        self._process = Process()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._socket.setblocking(False)
            self._process.start(theirs, self.variables)
        self._started_at = self._clock()
        self._ready = False
        self._in.clear()
        self._out = deque(memoryview(frame) for frame in frames)

    def _lost(self, reason: str) -> None:
        """The helper is gone, or as good as gone."""
        ready = self._ready
        self._drop_process(0.0)
        for batch in list(self._batches.values()):
            if batch.begun:
                # It may have arrived: the one request in flight is all that can arrive twice.
                batch.begun = False
                batch.tries += 1
                if batch.tries >= _TRIES:
                    self.dropped[wire.SIGNALS[batch.kind], "helper"] += batch.items
                    self._forget(batch)
        if ready:
            self._failures += 1
            self._back_off()
            _logger.warning("warpspan: the export helper ended and is being restarted")
        else:
            self._failed(reason)

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if not self._was_ready or self._failures >= _TRIES:
            self._give_up(reason)
        else:
            self._back_off()

    def _back_off(self) -> None:
        delay_s = min(_MAX_BACK_OFF_S, _BACK_OFF_S * 2 ** (self._failures - 1))
        self._start_after = self._clock() + delay_s

    def _give_up(self, reason: str) -> None:
        self.broken = reason
        self._out.clear()
        _logger.warning(
            "warpspan: no export helper can be started (%s); OpenTelemetry's own exporter is used "
            "in this process instead",
            reason,
        )

    def _end(self, timeout_s: float) -> None:
        """Tell the helper to leave, wait for that, and make sure of it."""
        channel = self._socket
        if channel is not None:
            try:
                channel.send(wire.frame(wire.STOP, 0, wire.dumps(timeout_s)))
            except OSError:
                pass  # it is gone, or so far behind that it will be made to leave
        self._drop_process(timeout_s)

    def _drop_process(self, timeout_s: float) -> None:
        channel, self._socket = self._socket, None
        process, self._process = self._process, None
        self._ready = False
        self._out.clear()
        if channel is not None:
            channel.close()
        if process is not None:
            process.end(timeout_s)

    def _wait(self, deadline: float, *, writing: bool) -> None:
        """Until the channel has something, or is free to write; in short turns."""
        left_ms = max(0, min(_POLL_MS, round((deadline - self._clock()) * 1e3)))
        channel = self._socket
        poll = select.poll()
        if channel is not None:
            try:
                poll.register(channel, select.POLLIN | (select.POLLOUT if writing else 0))
            except ValueError:
                return  # another thread has just closed it
        poll.poll(left_ms)

    def _reset_in_child(self) -> None:
        channel, process = self._socket, self._process
        if channel is not None:
            channel.close()  # the parent's helper must see the parent's end, not ours
        if process is not None:
            process.forget()
        self.dropped.clear()
        self._reset()
