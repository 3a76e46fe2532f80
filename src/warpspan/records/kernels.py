"""What a profiler saw of inferences: the work on devices, and what the host did meanwhile.

Values that a trace does not have are None, and `Coverage` says which parts it lacks. Sets of time
are `Intervals` in nanoseconds, on one clock for host and devices.
"""

from __future__ import annotations

from typing import NamedTuple

from warpspan.records.inference import Inference
from warpspan.records.intervals import Intervals
from warpspan.records.model import Device


class KernelTotal(NamedTuple):
    """All runs of one kernel that one operator launched.

    Args:
        name: of the kernel.
        operator: innermost operator that launched it, None where the trace does not tell.
        total: how often it ran.
        time_s: its device time, runs on several streams added up.
        tensor_cores: whether its name is that of a kernel for tensor or matrix cores.
        shapes: types and shapes of the operator's tensors, of several those with most time.
    """

    name: str
    operator: str | None
    total: int
    time_s: float
    tensor_cores: bool
    shapes: str | None = None


class CopyTotal(NamedTuple):
    """All copies of one direction and one kind of host memory.

    Args:
        direction: `h2d`, `d2h`, `d2d`, `p2p`, or `other`.
        memory: `pageable` or `pinned` for the side of the host, None where it is not told.
        total: how many.
        nbytes: what was copied, None where a copy does not say it.
        time_s: their device time.
    """

    direction: str
    memory: str | None
    total: int
    nbytes: int | None
    time_s: float


class WaitTotal(NamedTuple):
    """All waits of the host for a device of one kind.

    Args:
        kind: as in `pytorch.sync.*`.
        call: the function of the driver or the runtime.
        total: how many.
        time_s: the host's time in them.
        idle_s: of it, what the device was idle. A wait costs nothing while the device works.
        frame: the Python function that waited longest, where the trace has Python functions.
        longest_s: the longest one.
    """

    kind: str
    call: str
    total: int
    time_s: float
    idle_s: float | None
    frame: str | None
    longest_s: float


class HostTime(NamedTuple):
    """A function of the host, and how much of a time it was running."""

    name: str
    time_s: float


class IdleGap(NamedTuple):
    """A time without work on a device.

    Args:
        start_ns: its start on the clock of the trace.
        end_ns: its end.
        wait_s: of it, the host's time in waits for the device.
        functions: Python functions that held at least half of it, the outermost first; without
            those that run around the inferences before or after it.
    """

    start_ns: int
    end_ns: int
    wait_s: float
    functions: tuple[HostTime, ...] = ()

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return (self.end_ns - self.start_ns) / 1e9


class HostShare(NamedTuple):
    """What the host's thread did while the device was idle, in seconds that add up.

    Args:
        wait_s: in calls that wait for the device.
        driver_s: in other calls of driver and runtime, as launches.
        operator_s: in operators, outside of these.
        python_s: in Python, outside of operators.
        other_s: in nothing that the trace has.
    """

    wait_s: float
    driver_s: float
    operator_s: float
    python_s: float
    other_s: float


class Roofline(NamedTuple):
    """What the work had to do at least, against what the device can do at most.

    Args:
        covered_share: share of kernel time in operators whose shapes and formula are known.
        compute_share: share of the covered time in operators that arithmetic bounds.
        bandwidth_share: likewise that memory bounds.
        flops: floating point operations of the covered work.
        nbytes: bytes that it reads and writes at least.
        flops_share: operations per second over the peak of their types, while covered work ran.
        bandwidth_used: bytes per second over the peak of the memory, likewise.
        source: where the peaks are from.
    """

    covered_share: float
    compute_share: float
    bandwidth_share: float
    flops: float
    nbytes: float
    flops_share: float
    bandwidth_used: float
    source: str


class EngineStep(NamedTuple):
    """What a serving engine says of one of its steps; None where it does not.

    Args:
        engine: vLLM, SGLang.
        prefill_requests: requests that are prefilled, in whole or in part.
        decode_requests: requests that go on, decoded as a rule.
        prefill_tokens: tokens of the former.
        decode_tokens: tokens of the latter.
    """

    engine: str
    prefill_requests: int | None
    decode_requests: int | None
    prefill_tokens: int | None
    decode_tokens: int | None

    @property
    def operation(self) -> str:
        """`prefill` or `decode` where all requests are, else `step`."""
        if self.prefill_requests and self.decode_requests == 0:
            return "prefill"
        return "decode" if self.decode_requests and self.prefill_requests == 0 else "step"

    @property
    def requests(self) -> int | None:
        """Requests in the step."""
        counts = [self.prefill_requests, self.decode_requests]
        return None if counts == [None, None] else sum(count or 0 for count in counts)

    @property
    def tokens(self) -> int | None:
        """Tokens in the step."""
        counts = [self.prefill_tokens, self.decode_tokens]
        return None if counts == [None, None] else sum(count or 0 for count in counts)


class DeviceWork(NamedTuple):
    """What one inference did on one device, from its first kernel or copy to its last one.

    Args:
        device: the device.
        start_ns: when its first work began, on the clock of the trace.
        end_ns: when its last work ended.
        busy_s: time in which the device ran anything of this process; None where the trace lacks
            kernels of CUDA graphs.
        copies_alone_s: of it, copies while no kernel ran; likewise.
        idle_s: the rest; likewise.
        own_busy_s: time in which it ran work of this inference.
        kernel_count: kernels of it.
        kernel_time_s: their times added up, so that overlapping ones count twice.
        launch_count: calls that launched its work, a CUDA graph counting once.
        graph_launch_count: of these, CUDA graphs.
        kernels: those with most time first, at most `TOP`.
        copies: by direction and memory.
        tensor_core_share: share of the kernel time in kernels for tensor or matrix cores.
        occupancy: estimated occupancy, weighted by time, 0 to 1.
        host: what its thread did while the device was idle.
        functions: Python functions by their own time in that, most first, at most `TOP`.
        gaps: the longest idle gaps, longest first, at most `TOP`.
        gap_count: all of them.
        roofline: where shapes were recorded and the device's peaks are known.
    """

    device: Device
    start_ns: int
    end_ns: int
    busy_s: float | None
    copies_alone_s: float | None
    idle_s: float | None
    own_busy_s: float
    kernel_count: int
    kernel_time_s: float
    launch_count: int
    graph_launch_count: int
    kernels: tuple[KernelTotal, ...]
    copies: tuple[CopyTotal, ...]
    tensor_core_share: float | None
    occupancy: float | None
    host: HostShare | None
    functions: tuple[HostTime, ...]
    gaps: tuple[IdleGap, ...]
    gap_count: int | None
    roofline: Roofline | None

    @property
    def elapsed_s(self) -> float:
        """From its first work to its last."""
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def kernel_mean_s(self) -> float | None:
        """Mean time of a kernel."""
        return self.kernel_time_s / self.kernel_count if self.kernel_count else None


class TracedInference(NamedTuple):
    """An inference in a profiler's trace.

    Args:
        inference: the record that every source gives; `start_ns` is Unix time.
        found_by: engine, module, library, annotation, compiled, step, or trace for the whole.
        work: on each device that it used, the one with most of it first.
        waits: of the host for the device, most time first.
        operators: operators by their own time on the host, most first, at most `TOP`; only where
            the trace has no device.
        engine: of a serving engine's step.
        steps: when modules ran inside a loop around a model, as `generate` is.
    """

    inference: Inference
    found_by: str
    work: tuple[DeviceWork, ...] = ()
    waits: tuple[WaitTotal, ...] = ()
    operators: tuple[KernelTotal, ...] = ()
    engine: EngineStep | None = None
    steps: Intervals = Intervals()


class DeviceTimeline(NamedTuple):
    """One device over the whole trace.

    Args:
        device: the device, by the number that the profiler gives it.
        name: its model, None where the trace does not tell.
        process: whose trace it is.
        computing: when a kernel or a fill ran.
        copying: when a copy ran.
        complete: False where the kernels of more than a tenth of the CUDA graphs are not in the
            trace: then it was busy longer.
        kernels: those with most time first, at most `TOP`, of all that ran.
        kernel_time_s: the times of all of them added up.
        copies: by direction and memory, of all that ran.
        between: the longest idle gaps between inferences, longest first, at most `TOP`.
        between_s: all idle gaps between inferences.
        between_host: what the host did in these gaps.
        between_functions: Python functions that ran in these gaps, by their time with all that
            they call, most first, at most `TOP`; without those that run around inferences.
    """

    device: Device
    name: str | None
    process: str
    computing: Intervals
    copying: Intervals
    complete: bool
    kernels: tuple[KernelTotal, ...]
    kernel_time_s: float
    copies: tuple[CopyTotal, ...]
    between: tuple[IdleGap, ...]
    between_s: float | None
    between_host: HostShare | None
    between_functions: tuple[HostTime, ...]

    @property
    def busy(self) -> Intervals:
        """When anything ran."""
        return self.computing | self.copying

    @property
    def elapsed_s(self) -> float:
        """From the first work to the last."""
        busy = self.busy
        return ((busy.end_ns or 0) - (busy.start_ns or 0)) / 1e9

    @property
    def copies_alone_s(self) -> float:
        """Copies while no kernel and no fill ran."""
        return (self.copying - self.computing).total_s


class Coverage(NamedTuple):
    """What a trace has and what it lacks.

    Args:
        kernels: whether any kernel, copy or fill was recorded.
        python: whether Python functions were.
        shapes: whether shapes of inputs were.
        memory: whether calls of the allocator were.
        by_time: work that was assigned by time, because its launch is not in the trace.
        unassigned: work that belongs to no inference.
        unmeasured_kernels: kernels whose counters were read instead of their times.
        graph_launches: launches of CUDA graphs.
        graphs_without_kernels: of these, those whose kernels are not in the trace.
    """

    kernels: bool
    python: bool
    shapes: bool
    memory: bool
    by_time: int = 0
    unassigned: int = 0
    unmeasured_kernels: int = 0
    graph_launches: int = 0
    graphs_without_kernels: int = 0


class Trace(NamedTuple):
    """One profiler's trace of one process.

    Args:
        format: `PyTorch Profiler` or `XPlane`.
        process: tells it from other traces: rank, host, or name of the file.
        epoch_ns: Unix time of the clock's zero.
        inferences: by start.
        training_steps: parts of the trace that train, which are no inferences.
        devices: by number.
        waits: when the host waited for a device.
        coverage: what the trace lacks.
    """

    format: str
    process: str
    epoch_ns: int
    inferences: tuple[TracedInference, ...]
    training_steps: int
    devices: tuple[DeviceTimeline, ...]
    waits: Intervals
    coverage: Coverage


TOP = 20
"""How many kernels, functions and gaps a record keeps."""
