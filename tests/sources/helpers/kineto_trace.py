"""A trace as PyTorch's profiler writes it, made event by event; times are microseconds."""

from __future__ import annotations

import io
import json
from typing import Any

from warpspan.records.kernels import Trace
from warpspan.sources.traces import Head, TraceFile, read_trace

PID = 100


class KinetoTrace:
    """Events in the order in which they are added."""

    def __init__(self, **header: Any) -> None:
        self.header = {"schemaVersion": 1, **header}
        self.events: list[dict[str, Any]] = []
        self._correlation = 0

    def add(self, cat: str, name: str, ts: float, dur: float, *, tid: int = 1, **args: Any) -> None:
        event = {"ph": "X", "cat": cat, "name": name, "pid": PID, "tid": tid, "ts": ts, "dur": dur}
        self.events.append({**event, "args": args})

    def op(self, name: str, ts: float, dur: float, *, tid: int = 1, **args: Any) -> None:
        self.add("cpu_op", name, ts, dur, tid=tid, **args)

    def module(self, name: str, ts: float, dur: float, *, tid: int = 1) -> None:
        self.add("python_function", f"nn.Module: {name}_0", ts, dur, tid=tid)

    def python(self, name: str, ts: float, dur: float, *, tid: int = 1) -> None:
        self.add("python_function", name, ts, dur, tid=tid)

    def annotation(self, name: str, ts: float, dur: float, *, tid: int = 1) -> None:
        self.add("user_annotation", name, ts, dur, tid=tid)

    def call(self, name: str, ts: float, dur: float, *, tid: int = 1, **args: Any) -> None:
        self.add("cuda_runtime", name, ts, dur, tid=tid, **args)

    def work(
        self,
        ts: float,
        dur: float,
        *,
        name: str = "gemm",
        cat: str = "kernel",
        launch: float | None = None,
        tid: int = 1,
        device: int = 0,
        stream: int = 7,
        call: str = "cudaLaunchKernel",
        **args: Any,
    ) -> None:
        """Work on a device, and the call that launched it where `launch` says when."""
        self._correlation += 1
        if launch is not None:
            self.call(call, launch, 2, tid=tid, correlation=self._correlation)
            args["correlation"] = self._correlation
        self.add(cat, name, ts, dur, tid=stream, device=device, stream=stream, **args)

    def graph(self, launch: float, *kernels: tuple[float, float], tid: int = 1) -> None:
        """A CUDA graph: one launch, and its kernels as start and duration."""
        self._correlation += 1
        self.call("cudaGraphLaunch", launch, 2, tid=tid, correlation=self._correlation)
        for ts, dur in kernels:
            self.add(
                "kernel", "node", ts, dur, tid=7, device=0, stream=7,
                correlation=self._correlation,
            )  # fmt: skip

    def json(self) -> str:
        return json.dumps({**self.header, "traceEvents": self.events})

    def read(self, name: str = "trace.json") -> Trace:
        return read_bytes(self.json().encode(), name).trace


def read_bytes(data: bytes, name: str = "trace.json") -> TraceFile:
    """Read what a file has in it."""
    return read_trace(io.BytesIO(data), name, Head.of(data))
