"""The export helper: a process that runs the official exporters, and no torch.

It reads batches from the channel that is its standard input, exports them in the order in which
they came, one signal beside the other, and reports each. It leaves when it is told to, when the
channel ends or when its parent is gone; in each case it first exports what it holds, for no
longer than it was allowed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from warpspan.export import wire

#: Spans or log records in one request: the default of the SDK's batch processors.
_MAX_BATCH = 512
_PARENT_CHECK_MS = 1000

_Slices = list[bytes]


class Helper:
    """The two ends of it: a reader (the main thread) and an exporter thread a signal.

    Args:
        channel: to the parent.
        parent: its process id.
        linger_s: how long to go on when the parent is gone.
        exporters: the official exporters by signal.
        merging: whether what waits together goes out together; a line of a file is one batch.
    """

    def __init__(
        self,
        channel: socket.socket,
        parent: int,
        linger_s: float,
        exporters: dict[str, Any],
        *,
        merging: bool = True,
    ) -> None:
        self._channel = channel
        self._exporters = exporters
        self._parent = parent
        self._linger_s = linger_s
        self._merging = merging
        self._writing = threading.Lock()
        self._partial: dict[int, _Slices] = {}
        self._queues: dict[int, queue.SimpleQueue[tuple[int, _Slices] | None]] = {}
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        """Serve until there is nothing left to serve."""
        self._report(wire.READY)
        try:
            linger_s = self._read()
        except Exception:  # not what a parent sends: it starts another helper
            logging.getLogger("warpspan").exception("The export helper ends")
            os._exit(1)
        for waiting in self._queues.values():
            waiting.put(None)
        watchdog = threading.Timer(linger_s, os._exit, (1,))
        watchdog.daemon = True
        watchdog.start()
        for thread in self._threads:
            thread.join()
        # Not by the interpreter's own end: gRPC's threads need not be waited for.
        os._exit(0)

    def _read(self) -> float:
        """Take in batches; gives the seconds that are left for what waits."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        while True:
            # A fork of the parent that never ran Python holds the channel open: ask for the parent.
            while not poll.poll(_PARENT_CHECK_MS):
                if os.getppid() != self._parent:
                    return self._linger_s
            header = wire.read_exactly(self._channel, wire.HEADER.size)
            if header is None:
                return self._linger_s
            length, kind, batch = wire.parse(header)
            payload = wire.read_exactly(self._channel, length)
            if payload is None:
                return self._linger_s
            if kind == wire.STOP:
                logging.disable()  # the program itself says in one line what was lost
                return float(wire.loads(payload))
            self._take(kind, batch, payload)

    def _take(self, kind: int, batch: int, payload: bytes) -> None:
        slices = self._partial.setdefault(batch, [])
        if payload:
            slices.append(payload)
        if kind & wire.LAST:
            signal = kind & ~wire.LAST
            self._queue(signal).put((batch, self._partial.pop(batch)))

    def _queue(self, signal: int) -> queue.SimpleQueue[tuple[int, _Slices] | None]:
        found = self._queues.get(signal)
        if found is None:
            found = self._queues[signal] = queue.SimpleQueue()
            thread = threading.Thread(
                target=self._export_all, args=(signal, found), name=wire.SIGNALS[signal]
            )
            self._threads.append(thread)
            thread.start()
        return found

    def _export_all(
        self, signal: int, waiting: queue.SimpleQueue[tuple[int, _Slices] | None]
    ) -> None:
        from warpspan.export.unpack import Unpacker

        exporter = self._exporters[wire.SIGNALS[signal]]
        unpacker = Unpacker()
        merging = self._merging and signal != wire.METRICS  # a collection stays whole
        unpack: Callable[[_Slices], Any] = getattr(
            unpacker, {wire.TRACES: "spans", wire.METRICS: "metrics", wire.LOGS: "logs"}[signal]
        )
        while (entry := waiting.get()) is not None:
            batch, slices = entry
            numbers, found = [batch], unpack(slices)
            # What came in during the last request goes out as one.
            while merging and len(found) < _MAX_BATCH and not waiting.empty():
                following = waiting.get()
                if following is None:
                    waiting.put(None)
                    break
                numbers.append(following[0])
                found.extend(unpack(following[1]))
            self._report(wire.BEGUN, *numbers)
            self._report(wire.DONE if _succeeds(exporter, found) else wire.FAILED, *numbers)
        exporter.shutdown()

    def _report(self, kind: int, *batches: int) -> None:
        report = b"".join(wire.frame(kind, batch) for batch in batches or (0,))
        with self._writing:
            try:
                self._channel.sendall(report)
            except OSError:
                pass  # the parent is gone; the reader sees it too


def _succeeds(exporter: Any, found: Any) -> bool:
    try:
        return bool(exporter.export(found).name == "SUCCESS")
    except Exception:
        logging.getLogger("warpspan").exception("The export helper failed to export a batch")
        return False


def _close_inherited() -> None:
    """Close what the program made inheritable, a listening socket for one: it would outlive it."""
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir("/dev/fd"):  # noqa: PTH208 - the names are what is meant
            if int(entry) > 2:
                with contextlib.suppress(OSError):  # the listing's own
                    os.close(int(entry))


def main() -> None:
    """Take over the channel on standard input, be set up through it, and serve."""
    _close_inherited()
    channel = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    logging.basicConfig(format="warpspan export: %(message)s", level=logging.WARNING)
    # A request that will be repeated is no news; one that failed is.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    header = wire.read_exactly(channel, wire.HEADER.size)
    payload = header and wire.read_exactly(channel, wire.parse(header)[0])
    if not payload:
        return
    setup = wire.loads(payload)
    sys.path[:] = setup["path"]
    try:
        # Before it says that it is ready: what can't export is noticed here.
        from warpspan.export import official, unpack  # noqa: F401

        target = setup["target"]
        exporters = {
            signal: official.make(target, signal, os.environ) for signal in setup["signals"]
        }
    except Exception as error:
        channel.sendall(wire.frame(wire.REFUSED, 0, str(error).encode()))
        return
    Helper(
        channel,
        setup["parent"],
        setup["linger_s"],
        exporters,
        merging=target == official.OTLP,
    ).run()
