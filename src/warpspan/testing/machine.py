"""What the scripted devices do: streams that work through their queues, and who waits for them."""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import torch

from warpspan.testing.allocator import Allocation, Allocator
from warpspan.testing.clock import ScriptedClock

# Newer versions of torch have a class for what the driver refuses.
_DriverError: type[RuntimeError] = getattr(torch, "AcceleratorError", RuntimeError)


class Costs:
    """How long the devices take. Every value may be set at any time.

    Attributes:
        op_time_s: seconds that each kernel takes, or a callable that gets the operator and its
            arguments and returns them. Views and empty tensors launch no kernel.
        h2d_bytes_per_s: rate of copies from pinned host memory to a device.
        h2d_pageable_bytes_per_s: rate of copies from pageable host memory.
        d2h_bytes_per_s: rate of copies from a device to pinned host memory.
        d2h_pageable_bytes_per_s: rate of copies to pageable host memory.
        d2d_bytes_per_s: rate of copies between two devices.
    """

    def __init__(self) -> None:
        self.op_time_s: float | Callable[[Any, tuple[Any, ...]], float] = 0.0
        self.h2d_bytes_per_s = math.inf
        self.h2d_pageable_bytes_per_s = math.inf
        self.d2h_bytes_per_s = math.inf
        self.d2h_pageable_bytes_per_s = math.inf
        self.d2d_bytes_per_s = math.inf


class Call(NamedTuple):
    """One call that asked a device, copied, or waited for it.

    Args:
        name: `Event.query`, `torch.cuda.synchronize`, `memcpy HtoD`, `aten.nonzero.default`, …
        thread: name of the calling thread.
        stall_s: seconds that the caller waited; None where the call does not synchronize.
        nbytes: bytes of a copy, else None.
        pageable: whether the host's side of a copy is pageable memory, else None.
    """

    name: str
    thread: str
    stall_s: float | None = None
    nbytes: int | None = None
    pageable: bool | None = None


class Capture:
    """One graph capture.

    Attributes:
        mode: `global`, `thread_local` or `relaxed`, as for `torch.cuda.graph`.
        open: whether it still goes on.
        invalidated: whether a forbidden call broke it.
        duration_s: device time of what was captured so far, in seconds.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.thread = threading.get_ident()
        self.open = True
        self.invalidated = False
        self.duration_s = 0.0
        #: What a replay does again, in order.
        self.work: list[Callable[[], object]] = []


class Lane:
    """One stream's queue: the host time at which all work enqueued so far is done."""

    __slots__ = ("capture", "end_ns")

    def __init__(self) -> None:
        self.end_ns = 0
        self.capture: Capture | None = None


#: What an event remembers: the host time at which it completes, or the capture it belongs to.
Mark: TypeAlias = int | Capture


class _Selection(threading.local):
    """Each thread's current device, and its current stream on each."""

    def __init__(self) -> None:
        self.device = 0
        self.streams: dict[int, int] = {}


class Machine:
    """The devices of one `ScriptedDevice`. Safe to use from any thread.

    Args:
        count: number of devices.
        total_bytes: memory of each.
        clock: moved on by whoever waits.
        costs: how long things take.
    """

    def __init__(self, count: int, total_bytes: int, clock: ScriptedClock, costs: Costs) -> None:
        self.count = count
        self.clock = clock
        self.costs = costs
        self.allocators = [Allocator(index, total_bytes) for index in range(count)]
        self.calls: list[Call] = []
        self.captures: list[Capture] = []
        self.lock = threading.RLock()
        #: Device memory by the host storage that holds its values.
        self.blocks: weakref.WeakValueDictionary[int, Allocation] = weakref.WeakValueDictionary()
        self._pinned: weakref.WeakValueDictionary[int, torch.UntypedStorage] = (
            weakref.WeakValueDictionary()
        )
        self._lanes: dict[tuple[int, int], Lane] = {}
        self._selection = _Selection()
        self._stream_ids = itertools.count(1)

    @property
    def device(self) -> int:
        """The calling thread's current device."""
        return self._selection.device

    @device.setter
    def device(self, index: int) -> None:
        self._selection.device = self.checked(index)

    def checked(self, index: int) -> int:
        """The index of a device that exists.

        Raises:
            RuntimeError: there is none of this index.
        """
        if not 0 <= index < self.count:
            raise _DriverError("CUDA error: invalid device ordinal")
        return index

    def allocator(self, index: int) -> Allocator:
        """The allocator of a device.

        Raises:
            RuntimeError: the device does not exist, or CUDA is not initialised.
        """
        if not (torch.cuda.is_initialized() and 0 <= index < self.count):
            raise RuntimeError(f"Invalid device argument {index}: did you call init?")
        return self.allocators[index]

    def allocate(self, index: int, nbytes: int) -> Allocation:
        """Take memory of a device."""
        return Allocation(self.allocators[self.checked(index)], nbytes)

    def pin(self, tensor: torch.Tensor) -> None:
        """Call the memory of a host tensor pinned, as long as it lives."""
        storage = tensor.untyped_storage()
        self._pinned[storage._cdata] = storage

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Whether the memory of a host tensor is pinned."""
        storage = tensor.untyped_storage()
        return self._pinned.get(storage._cdata) is storage

    def new_stream(self) -> int:
        """The id of a stream nobody has."""
        return next(self._stream_ids)

    def stream_of(self, index: int) -> int:
        """The calling thread's current stream on a device."""
        return self._selection.streams.get(self.checked(index), 0)

    def select(self, index: int, stream: int) -> None:
        """Make a stream, and its device, the calling thread's current one."""
        self.device = index
        self._selection.streams[index] = stream

    def lane(self, index: int, stream: int | None = None) -> Lane:
        """The queue of a stream, by default of the current one on the device."""
        key = (index, self.stream_of(index) if stream is None else stream)
        with self.lock:
            return self._lanes.setdefault(key, Lane())

    def lanes(self, index: int | None = None) -> list[Lane]:
        """All queues, or those of one device."""
        with self.lock:
            return [lane for (device, _), lane in self._lanes.items() if index in (None, device)]

    def enqueue(self, lane: Lane, seconds: float) -> None:
        """Put work on a stream: it starts when the work before it is done, but not before now."""
        with self.lock:
            if lane.capture is not None:
                lane.capture.duration_s += seconds
            else:
                start_ns = max(lane.end_ns, self.clock.now_ns())
                lane.end_ns = start_ns + round(seconds * 1e9)

    def launch(self, lane: Lane, operator: Any, args: tuple[Any, ...]) -> None:
        """Enqueue the kernel of an operator."""
        cost = self.costs.op_time_s
        self.enqueue(lane, cost(operator, args) if callable(cost) else cost)

    def mark(self, lane: Lane) -> Mark:
        """What an event recorded now remembers."""
        with self.lock:
            return lane.capture or max(lane.end_ns, self.clock.now_ns())

    def hold(self, lane: Lane, mark: Mark) -> None:
        """Let a stream go on only after a mark; in a capture it joins the capture."""
        with self.lock:
            if isinstance(mark, Capture):
                lane.capture = mark
            elif lane.capture is None:
                lane.end_ns = max(lane.end_ns, mark)

    def passed(self, name: str, mark: Mark) -> bool:
        """Whether a mark is passed. A question that never waits."""
        self._record(Call(name, _thread()))
        self._refuse_in_capture()
        return self._reached(mark) <= self.clock.now_ns()

    def wait(self, name: str, marks: Iterable[Mark]) -> None:
        """Let the host wait until all marks are passed."""
        self._stall(Call(name, _thread()), marks)

    def copy(
        self, name: str, lane: Lane, nbytes: int, rate: float, *, pageable: bool, blocking: bool
    ) -> None:
        """Enqueue a copy at `rate` bytes a second, and wait for it where the driver would."""
        self.enqueue(lane, nbytes / rate)
        call = Call(name, _thread(), nbytes=nbytes, pageable=pageable)
        if blocking:
            self._stall(call, [self.mark(lane)])
        else:
            self._record(call)

    def complete(self) -> None:
        """Let the host's time pass until all streams are idle. Nobody waits."""
        self.clock.advance_to(max((lane.end_ns for lane in self.lanes()), default=0))

    def begin_capture(self, lane: Lane, mode: str) -> Capture:
        """Capture what is enqueued on a stream from now on."""
        if mode not in ("global", "thread_local", "relaxed"):
            raise RuntimeError(
                "Unknown capture error mode. Expected `global`, `thread_local`, or `relaxed`, "
                f"got {mode}"
            )
        with self.lock:
            capture = lane.capture = Capture(mode)
            self.captures.append(capture)
        return capture

    def end_capture(self, capture: Capture) -> None:
        """End a capture on all streams that joined it."""
        with self.lock:
            capture.open = False
            for lane in self.lanes():
                if lane.capture is capture:
                    lane.capture = None

    def _stall(self, call: Call, marks: Iterable[Mark]) -> None:
        stall_ns = 0
        try:
            self._refuse_in_capture()
            stall_ns = self.clock.advance_to(max(map(self._reached, marks), default=0))
        finally:
            self._record(call._replace(stall_s=stall_ns / 1e9))

    def _refuse_in_capture(self) -> None:
        """What the driver does with a query or a synchronization while a capture is open."""
        with self.lock:
            for capture in self.captures:
                mine = capture.thread == threading.get_ident()
                if capture.open and (
                    capture.mode == "global" or (capture.mode == "thread_local" and mine)
                ):
                    capture.invalidated = True
                    raise refused("operation not permitted when stream is capturing")

    def _record(self, call: Call) -> None:
        with self.lock:
            self.calls.append(call)

    def _reached(self, mark: Mark) -> int:
        if isinstance(mark, Capture):
            raise refused("operation not permitted on an event last recorded in a capturing stream")
        return mark


def device_index(device: Any, machine: Machine) -> int:
    """The index that a `device` argument means; the current device for None."""
    if device is None:
        return machine.device
    index = device if isinstance(device, int) else torch.device(device).index
    return machine.device if index is None or index < 0 else machine.checked(index)


def refused(reason: str) -> RuntimeError:
    """What torch raises when the driver refuses a call."""
    return _DriverError(f"CUDA error: {reason}")


def _thread() -> str:
    return threading.current_thread().name


_active: Machine | None = None


def activate(machine: Machine | None) -> None:
    """Let a machine stand in for CUDA, or none."""
    global _active
    _active = machine


def active() -> Machine:
    """The machine that stands in for CUDA.

    Raises:
        RuntimeError: there is none.
    """
    if _active is None:
        raise RuntimeError(
            "No ScriptedDevice is entered: streams, events and tensors of one can be used only "
            "inside its `with` block"
        )
    return _active


def activated() -> Machine | None:
    """The machine that stands in for CUDA, or None."""
    return _active
