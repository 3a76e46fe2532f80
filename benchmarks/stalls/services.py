"""What runs under telemetry: three services on a launch-bound model, and how they are measured."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

#: Layers of the model, each a linear and an activation: 200 operations of a few microseconds.
LAYERS = 100
_WIDTH = 16
_THREADS = 8
_TASKS = 32
# Requests of the two services come at a pace that leaves them about half of their time.
_THREAD_PAUSE_S = 0.008
_TASK_PAUSE_S = 0.03
_SMALL_LAYERS = 20
_WARM_UP_CALLS = 400


class Segment(NamedTuple):
    """One turn of a variant.

    Args:
        latencies_ns: of all its inferences.
        process_s: processor time of its process, all threads.
        export_s: of that, the threads that neither serve nor finish inferences: the exporting ones.
        helper_s: processor time of its export helper.
        rss_bytes: resident memory of the process at the end.
        helper_rss_bytes: that of the helper.
    """

    latencies_ns: list[int]
    process_s: float
    export_s: float
    helper_s: float
    rss_bytes: int
    helper_rss_bytes: int


class Services:
    """Runs a service for some seconds and gives the latencies of its inferences."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self._large = _model(LAYERS)
        self._small = _model(_SMALL_LAYERS)
        self._input = torch.zeros(1, _WIDTH)
        self.all: dict[str, Callable[[float], list[int]]] = {
            "launch-bound": self._launch_bound,
            "8 threads": self._threads,
            "asyncio": self._asyncio,
        }

    def warm_up(self) -> None:
        """The first inferences of both models."""
        with torch.inference_mode():
            for _ in range(_WARM_UP_CALLS):
                self._large(self._input)
                self._small(self._input)

    def _launch_bound(self, seconds: float) -> list[int]:
        """One thread at full rate."""
        model, x, clock = self._large, self._input, time.perf_counter_ns
        latencies: list[int] = []
        until = clock() + int(seconds * 1e9)
        with torch.inference_mode():
            while (began := clock()) < until:
                model(x)
                latencies.append(clock() - began)
        return latencies

    def _threads(self, seconds: float) -> list[int]:
        """Threads that wait for their next request; a latency is that of the call."""
        model, x, clock = self._small, self._input, time.perf_counter_ns
        until = clock() + int(seconds * 1e9)
        found: list[list[int]] = [[] for _ in range(_THREADS)]

        def work(latencies: list[int]) -> None:
            with torch.inference_mode():
                while (began := clock()) < until:
                    model(x)
                    latencies.append(clock() - began)
                    time.sleep(_THREAD_PAUSE_S)

        workers = [threading.Thread(target=work, args=(each,)) for each in found]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return [latency for each in found for latency in each]

    def _asyncio(self, seconds: float) -> list[int]:
        """Tasks of one loop; a latency runs from when the request was due."""
        model, x = self._small, self._input
        latencies: list[int] = []
        until = 0.0

        async def serve(offset_s: float) -> None:
            loop = asyncio.get_running_loop()
            due = loop.time() + offset_s
            while due < until:
                await asyncio.sleep(max(0.0, due - loop.time()))
                model(x)
                latencies.append(int((loop.time() - due) * 1e9))
                due = max(due + _TASK_PAUSE_S, loop.time())

        async def serve_all() -> None:
            nonlocal until
            until = asyncio.get_running_loop().time() + seconds
            await asyncio.gather(*(serve(_TASK_PAUSE_S * i / _TASKS) for i in range(_TASKS)))

        with torch.inference_mode():
            asyncio.run(serve_all())
        return latencies


def _model(layers: int) -> torch.nn.Sequential:
    parts: list[torch.nn.Module] = []
    for _ in range(layers):
        parts += [torch.nn.Linear(_WIDTH, _WIDTH), torch.nn.ReLU()]
    return torch.nn.Sequential(*parts).eval()


def work(orders: Connection, environ: dict[str, str], instrumented: bool) -> None:
    """Serve as one variant: a service's name and seconds in, its segment out, until None."""
    os.environ.update(environ)
    flush: Callable[[], Any] = lambda: None  # noqa: E731
    if instrumented:
        from opentelemetry.instrumentation.auto_instrumentation import _load

        from warpspan import WarpspanInstrumentor
        from warpspan.api import flush as flush_all

        _load._load_configurators()  # type: ignore[no-untyped-call]
        WarpspanInstrumentor().instrument()
        flush = flush_all
    services = Services()
    services.warm_up()
    flush()
    orders.send(None)
    while (order := orders.recv()) is not None:
        gc.collect()
        service, seconds = order
        helper = _helper()
        began_s, helper_began_s = time.process_time(), _processor_s(helper)
        exporting = _exporting()
        latencies = services.all[service](seconds)
        flush()
        orders.send(
            Segment(
                latencies,
                time.process_time() - began_s,
                sum(now_s - exporting.get(id_, now_s) for id_, now_s in _exporting().items()),
                _processor_s(helper) - helper_began_s,
                _rss_bytes(os.getpid()),
                _rss_bytes(helper),
            )
        )


def _helper() -> int | None:
    """The one child of this process, whichever of its threads started it."""
    found = [
        int(pid)
        for path in Path("/proc/self/task").glob("*/children")
        for pid in path.read_text(encoding="ascii").split()
    ]
    return found[0] if found else None


def _exporting() -> dict[str, float]:
    """Processor time of each thread but the main one and the finisher, in seconds.

    Those of a service are not there yet when it begins.
    """
    others = {str(os.getpid())}
    others |= {
        str(thread.native_id)
        for thread in threading.enumerate()
        if thread.name == "warpspan-finisher"
    }
    return {
        path.name: int((path / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
        for path in Path("/proc/self/task").iterdir()
        if path.name not in others and (path / "schedstat").exists()
    }


def _processor_s(pid: int | None) -> float:
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_bytes(pid: int | None) -> int:
    if pid is None:
        return 0
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
