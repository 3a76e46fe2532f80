"""Streams, events and graphs of a scripted device, in place of torch.cuda's."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch

from warpspan.testing.machine import Capture, Lane, Machine, Mark, active, refused
from warpspan.testing.machine import device_index as index_of


class ScriptedStream(torch.Stream):
    """In place of `torch.cuda.Stream`."""

    def __new__(  # noqa: PYI034 - a stream is never subclassed
        cls,
        device: Any = None,
        priority: int = 0,  # noqa: ARG004 - streams share nothing here
        *,
        stream_id: int | None = None,
        device_index: int | None = None,
        device_type: int = 1,
    ) -> ScriptedStream:
        """A new stream on a device, or the one that the ids name."""
        if stream_id is None or device_index is None:
            machine = active()
            stream_id, device_index = machine.new_stream(), index_of(device, machine)
        return super().__new__(
            cls, stream_id=stream_id, device_index=device_index, device_type=device_type
        )

    @property
    def cuda_stream(self) -> int:
        """The driver's handle: zero for the default stream."""
        return self.stream_id

    def lane(self) -> Lane:
        """The queue of this stream."""
        return active().lane(self.device_index, self.stream_id)

    def query(self) -> bool:
        """Whether all work enqueued so far is done."""
        machine, lane = active(), self.lane()
        return machine.passed("Stream.query", machine.mark(lane))

    def synchronize(self) -> None:
        """Wait for all work enqueued so far."""
        machine, lane = active(), self.lane()
        machine.wait("Stream.synchronize", [machine.mark(lane)])

    def record_event(self, event: Any = None) -> Any:
        """Record an event, a new one by default."""
        event = ScriptedEvent() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Any) -> None:
        """Let work enqueued later start after the event."""
        event.wait(self)

    def wait_stream(self, stream: Any) -> None:
        """Let work enqueued later start after what the other stream holds now."""
        self.wait_event(stream.record_event())

    def __enter__(self) -> ScriptedStream:  # noqa: PYI034
        contexts = self.__dict__.setdefault("_contexts", [])
        contexts.append(torch.cuda.stream(self))  # type: ignore[arg-type]
        contexts[-1].__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__dict__["_contexts"].pop().__exit__(kind, error, traceback)


def _unrecorded_error() -> type[Exception]:
    """What this torch raises for an event without a time: it was RuntimeError, now ValueError."""
    event = torch._C._CudaEventBase
    try:
        event(enable_timing=True).elapsed_time(event(enable_timing=True))
    except (RuntimeError, ValueError) as error:
        return type(error)
    return ValueError


_UnrecordedError = _unrecorded_error()


class ScriptedEvent:
    """In place of `torch.cuda.Event`."""

    def __init__(
        self,
        enable_timing: bool = False,
        blocking: bool = False,  # noqa: ARG002
        interprocess: bool = False,  # noqa: ARG002
        external: bool = False,  # noqa: ARG002
    ) -> None:
        self._timed = enable_timing
        self._mark: Mark | None = None
        self._machine: Machine | None = None
        self.device: torch.device | None = None

    def record(self, stream: Any = None) -> None:
        """Complete when the stream has done what is enqueued on it now."""
        stream = torch.cuda.current_stream() if stream is None else stream
        self._machine = active()
        self._mark = self._machine.mark(stream.lane())
        self.device = stream.device

    def wait(self, stream: Any = None) -> None:
        """Let work enqueued later on the stream start after this event."""
        stream = torch.cuda.current_stream() if stream is None else stream
        if self._mark is not None:
            active().hold(stream.lane(), self._mark)

    def query(self) -> bool:
        """Whether the event is complete; True for one that was never recorded."""
        return self._mark is None or self._owner.passed("Event.query", self._mark)

    def synchronize(self) -> None:
        """Wait until the event is complete."""
        if self._mark is not None:
            self._owner.wait("Event.synchronize", [self._mark])

    def elapsed_time(self, end_event: ScriptedEvent) -> float:
        """Milliseconds from this event to another.

        Raises:
            ValueError: one of them is not timed or was not recorded (RuntimeError in old torch).
            RuntimeError: one of them is not complete.
        """
        if not (self._timed and end_event._timed):
            raise _UnrecordedError(
                "Both events must be created with argument 'enable_timing=True'."
            )
        if self._mark is None or end_event._mark is None:
            raise _UnrecordedError("Both events must be recorded before calculating elapsed time.")
        if not (self.query() and end_event.query()):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return (end_event._mark - self._mark) / 1e6  # type: ignore[operator]

    @property
    def _owner(self) -> Machine:
        return self._machine or active()


class ScriptedGraph:
    """In place of `torch.cuda.CUDAGraph`: a replay computes again and takes the captured time."""

    def __init__(self, keep_graph: bool = False) -> None:  # noqa: ARG002
        self._capture: Capture | None = None
        self._pool: tuple[int, int] | None = None

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global", **_: Any) -> None:
        """Capture what the current stream gets from now on."""
        machine = active()
        stream = torch.cuda.current_stream()
        if stream.cuda_stream == 0:
            raise RuntimeError(
                "CUDA graphs must be captured on a non-default stream. (However, after capture, "
                "it's ok to replay them on the default stream.)"
            )
        self._pool = pool or graph_pool_handle()
        self._capture = machine.begin_capture(
            machine.lane(stream.device_index, stream.stream_id), capture_error_mode
        )

    def capture_end(self) -> None:
        """End the capture.

        Raises:
            RuntimeError: there is none, or a forbidden call broke it.
        """
        self.capture_end_pre()

    def capture_end_pre(self) -> None:
        """End the capture, as newer versions of torch do before they make the graph executable."""
        capture = self._capture
        if capture is None or not capture.open:
            raise refused("illegal state")
        active().end_capture(capture)
        if capture.invalidated:
            self._capture = None
            raise refused("operation failed due to a previous error during capture")

    def replay(self) -> None:
        """Enqueue the captured work on the current stream, and compute its results again."""
        if self._capture is None:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        machine = active()
        machine.enqueue(machine.lane(machine.device), self._capture.duration_s)
        with torch.inference_mode():
            for work in self._capture.work:
                work()

    def reset(self) -> None:
        """Forget what was captured."""
        self._capture = None

    def pool(self) -> tuple[int, int] | None:
        """Handle of the memory pool."""
        return self._pool


def graph_pool_handle() -> tuple[int, int]:
    """A handle of a new memory pool; pools are not told apart here."""
    return (0, 1)


Patch = tuple[Any, str, Any]


def stream_patches(machine: Machine) -> list[Patch]:
    """Owner, name and replacement of all that concerns devices, streams, events and graphs."""
    C, cuda = torch._C, torch.cuda  # noqa: N806 - as it is called

    def set_device(index: int) -> None:
        machine.device = index

    def exchange_device(index: int) -> int:
        before = machine.device
        if index >= 0:
            machine.device = index
        return before

    def maybe_exchange_device(index: int) -> int:  # Dynamo tells the two apart by identity
        return exchange_device(index)

    def stream_data(index: int) -> tuple[int, int, int]:
        return machine.stream_of(index), index, 1

    def set_stream(stream_id: int, device_index: int, device_type: int) -> None:  # noqa: ARG001
        machine.select(device_index, stream_id)

    def synchronizer(name: str) -> Callable[..., None]:
        def synchronize(index: int | None = None) -> None:
            index = machine.device if index is None else index
            machine.wait(name, [machine.mark(lane) for lane in machine.lanes(index)])

        return synchronize

    def is_capturing() -> bool:
        return machine.lane(machine.device).capture is not None

    def lazy_init() -> None:
        if not cuda._initialized:
            cuda._initialized = True
            for call, _ in cuda._queued_calls:
                call()

    patches: list[Patch] = [
        (cuda, "_initialized", False),
        (cuda, "_queued_calls", []),  # those from before are for a real device
        (cuda, "_cached_device_count", machine.count),
        (cuda, "_exchange_device", exchange_device),
        (cuda, "_maybe_exchange_device", maybe_exchange_device),
        (cuda, "default_generators", (torch.default_generator,) * machine.count),
        (cuda.graphs, "_cuda_isCurrentStreamCapturing", is_capturing),
        (cuda.graphs, "_graph_pool_handle", graph_pool_handle),
        (cuda.graphs.graph, "default_capture_stream", None),
        (C, "_cuda_getDeviceCount", lambda: machine.count),
        (C, "_cuda_getDevice", lambda: machine.device),
        (C, "_cuda_setDevice", set_device),
        (C, "_cuda_exchangeDevice", exchange_device),
        (C, "_cuda_maybeExchangeDevice", maybe_exchange_device),
        (C, "_cuda_synchronize", synchronizer("torch.cuda.synchronize")),
        (C, "_cuda_getCurrentStream", stream_data),
        (C, "_cuda_getDefaultStream", lambda index: (0, index, 1)),
        (C, "_cuda_getCurrentRawStream", machine.stream_of),
        (C, "_cuda_setStream", set_stream),
        (C, "_cuda_isCurrentStreamCapturing", is_capturing),
        (C, "_graph_pool_handle", graph_pool_handle),
        (C, "_accelerator_getAccelerator", lambda: torch.device("cuda")),
        (C, "_accelerator_getDeviceIndex", lambda: machine.device),
        (C, "_accelerator_setDeviceIndex", set_device),
        (C, "_accelerator_exchangeDevice", exchange_device),
        (C, "_accelerator_maybeExchangeDevice", maybe_exchange_device),
        (C, "_accelerator_synchronizeDevice", synchronizer("torch.accelerator.synchronize")),
        (
            C,
            "_accelerator_getStream",
            lambda index: ScriptedStream(stream_id=machine.stream_of(index), device_index=index),
        ),
        (C, "_accelerator_setStream", lambda s: machine.select(s.device_index, s.stream_id)),
    ]
    patches += [(owner, "_lazy_init", lazy_init) for owner in (cuda, cuda.memory, cuda.random)]
    for owner in (cuda, cuda.streams):
        patches += [(owner, "Stream", ScriptedStream), (owner, "Event", ScriptedEvent)]
    patches += [(owner, "CUDAGraph", ScriptedGraph) for owner in (cuda, cuda.graphs)]
    return patches
