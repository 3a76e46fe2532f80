"""What is kept of a profiler's trace while it is read: columns of numbers, not events.

A trace of 4 GB has some fourteen million events; each costs 20 to 60 bytes here, and those that
nothing below asks for cost none.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from warpspan.records.intervals import Intervals
from warpspan.records.kernels import EngineStep
from warpspan.sources.profile.op_costs import OpInputs

KERNEL, COPY, FILL = range(3)
"""The kinds of work on a device."""


class Numbered(dict[str, int]):
    """Numbers for texts that come again and again."""

    def __missing__(self, text: str) -> int:
        number = self[text] = len(self)
        return number


class Span(NamedTuple):
    """A named time on a thread of the host."""

    name: str
    start_ns: int
    end_ns: int
    thread: int


class Unit(NamedTuple):
    """A part of a trace that is an inference, or a step of a training.

    Args:
        kind: what it was found by: engine, module, library, function, annotation, compiled, step,
            or trace for the whole.
        operation: what ran, as on a span.
        model: class name of the model, None where the trace does not tell.
        start_ns: its begin on the host.
        end_ns: its end on the host.
        thread: number of its thread, of the busiest one for a whole trace.
        training: whether a backward pass or an optimizer belongs to it.
        engine: what a serving engine says of its step.
        steps: calls of modules inside a loop around a model.
    """

    kind: str
    operation: str
    model: str | None
    start_ns: int
    end_ns: int
    thread: int
    training: bool = False
    engine: EngineStep | None = None
    steps: Intervals = Intervals()


class HostSpans:
    """Times on threads of the host, in any order until they are sorted."""

    def __init__(self) -> None:
        self.starts, self.ends = array("q"), array("q")
        self.names, self.threads = array("i"), array("i")
        self.ids, self.others = array("q"), array("q")

    def __len__(self) -> int:
        return len(self.starts)

    def add(
        self,
        start_ns: int,
        end_ns: int,
        name: int,
        thread: int,
        number: int = -1,
        other: int = -1,
    ) -> None:
        """Keep one; `number` is what other events call it by, `other` what it refers to."""
        self.starts.append(start_ns)
        self.ends.append(end_ns)
        self.names.append(name)
        self.threads.append(thread)
        self.ids.append(number)
        self.others.append(other)

    def sort(self) -> None:
        """By thread, then by start, an enclosing one before what it encloses."""
        order = sorted(range(len(self)), key=self.ends.__getitem__, reverse=True)
        order.sort(key=self.starts.__getitem__)
        order.sort(key=self.threads.__getitem__)
        for column in ("starts", "ends", "names", "threads", "ids", "others"):
            values = getattr(self, column)
            setattr(self, column, array(values.typecode, (values[at] for at in order)))

    def rows(self) -> Iterator[tuple[int, int, int, int]]:
        """Start, end, number of the name and of the thread of each."""
        return zip(self.starts, self.ends, self.names, self.threads, strict=True)


class DeviceSpans:
    """Work on devices: one entry for each kernel, copy and fill."""

    def __init__(self) -> None:
        self.starts, self.ends = array("q"), array("q")
        self.kinds, self.names = array("b"), array("i")
        self.devices, self.streams = array("q"), array("q")
        self.correlations, self.ops = array("q"), array("q")
        self.sizes = array("q")
        self.occupancies = array("d")

    def __len__(self) -> int:
        return len(self.starts)

    def add(
        self,
        kind: int,
        start_ns: int,
        end_ns: int,
        name: int,
        device: int,
        stream: int,
        correlation: int = -1,
        op: int = -1,
        nbytes: int = -1,
        occupancy: float = -1.0,
    ) -> None:
        """Keep one; what is not known is -1."""
        self.kinds.append(kind)
        self.starts.append(start_ns)
        self.ends.append(end_ns)
        self.names.append(name)
        self.devices.append(device)
        self.streams.append(stream)
        self.correlations.append(correlation)
        self.ops.append(op)
        self.sizes.append(nbytes)
        self.occupancies.append(occupancy)


class MemoryLevels:
    """What the allocator of a device held after each of its calls."""

    def __init__(self) -> None:
        self.times = array("q")
        self.allocated, self.reserved = array("q"), array("q")

    def add(self, time_ns: int, allocated: int, reserved: int) -> None:
        """Keep one; sizes in bytes, -1 where it is not known."""
        self.times.append(time_ns)
        self.allocated.append(allocated)
        self.reserved.append(reserved)

    def sort(self) -> None:
        """By time."""
        order = sorted(range(len(self.times)), key=self.times.__getitem__)
        for column in ("times", "allocated", "reserved"):
            values = getattr(self, column)
            setattr(self, column, array("q", (values[at] for at in order)))


class Recording:
    """One profiler's trace of one process.

    Attributes:
        format: `PyTorch Profiler`, `XPlane`.
        epoch_ns: Unix time of the trace's time 0.
        names: of everything.
        threads: of the host.
        ops: operators; their `ids` is what kernels call them by, `others` an index of `inputs`.
        frames: Python functions that took a while, and modules.
        module_names: those names of `frames` that are calls of modules.
        calls: of the interfaces of runtime and driver; their `ids` are correlations, `others` ids
            of `ops`.
        device_syncs: waits as the device saw them; their `ids` are correlations.
        annotations: what the program named itself.
        units: the inferences, where the profiler marks them.
        async_launches: whether work is launched by other threads than the one that called.
        device: the work on devices.
        device_labels: models of devices by index.
        device_limits: bytes of memory of devices by index.
        device_type: as torch names it, None where the trace has no device.
        inputs: what operators were called with, where that was recorded.
        memory: levels of the allocators of devices, by type and index.
        backward: when operators of the backward pass began.
        optimizer_steps: when optimizers began to step.
        rank: of a distributed program.
        has_shapes: whether operators have the shapes of their inputs.
        has_python: whether Python functions were recorded.
        short_frames: Python functions that were too short to be kept.
        unmeasured_kernels: kernels whose counters were read and whose times were not.
    """

    def __init__(self, format_name: str) -> None:
        self.format = format_name
        self.epoch_ns = 0
        self.names, self.threads = Numbered(), Numbered()
        self.ops, self.frames, self.calls = HostSpans(), HostSpans(), HostSpans()
        self.device_syncs = HostSpans()
        self.module_names: set[int] = set()
        self.annotations: list[Span] = []
        self.units: list[Unit] = []
        self.async_launches = False
        self.device = DeviceSpans()
        self.device_labels: dict[int, str] = {}
        self.device_limits: dict[int, int] = {}
        self.device_type: str | None = None
        self.inputs: list[OpInputs] = []
        self.memory: dict[tuple[str, int], MemoryLevels] = {}
        self.backward = array("q")
        self.optimizer_steps = array("q")
        self.rank: int | None = None
        self.has_shapes = False
        self.has_python = False
        self.short_frames = 0
        self.unmeasured_kernels = 0

    def sort(self) -> None:
        """Bring everything into order, once all is read."""
        for spans in (self.ops, self.frames, self.calls):
            spans.sort()
        for levels in self.memory.values():
            levels.sort()
