"""A CUDA device that follows a script, at the boundary where torch.cuda meets the driver."""

from __future__ import annotations

import gc
import uuid
import warnings
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from warpspan.probes import clock as probe_clock
from warpspan.testing.allocator import Allocation
from warpspan.testing.clock import ScriptedClock
from warpspan.testing.cuda_guard import guard_switch
from warpspan.testing.factories import Patch, kernels, tensor_patches
from warpspan.testing.machine import Call, Capture, Costs, Machine, activate, activated
from warpspan.testing.streams import stream_patches

if TYPE_CHECKING:
    from typing_extensions import Self


# Those whose tensors may still live.
_machines: weakref.WeakSet[Machine] = weakref.WeakSet()


class DeviceProperties(NamedTuple):
    """In place of what `torch.cuda.get_device_properties` gives: an H100 but for the first three."""

    name: str
    total_memory: int
    uuid: uuid.UUID
    major: int = 9
    minor: int = 0
    multi_processor_count: int = 132
    max_threads_per_multi_processor: int = 2048
    warp_size: int = 32
    L2_cache_size: int = 52_428_800
    is_integrated: int = 0
    is_multi_gpu_board: int = 0
    gcnArchName: str = ""  # noqa: N815 - torch's name


def _uncompiled() -> AbstractContextManager[Any]:
    """Have compiled functions run as they were written: Dynamo can't trace our tensors."""
    # Imported now: Dynamo notes torch.cuda's classes when it is imported, and not to the scripted
    # ones, which would be there for good.
    import torch._dynamo.eval_frame

    if hasattr(torch.compiler, "set_stance"):  # torch >= 2.6
        return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return]
    return mock.patch.object(torch._dynamo.eval_frame, "set_eval_frame", return_value=None)


def _common_operators_only(stack: ExitStack) -> None:
    """Have torch choose operators that all devices have, not those of cuDNN and fused attention."""
    stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    stack.callback(torch._C._set_cudnn_enabled, torch._C._get_cudnn_enabled())
    torch._C._set_cudnn_enabled(False)


class ScriptedDevice(Costs):
    """Stands in for CUDA inside its `with` block; torch is as it was afterwards.

    Unchanged code runs on it: `model.to("cuda")`, `torch.zeros(3, device="cuda")`, streams, events,
    graphs, `torch.cuda.memory_stats()`. Results are those of the CPU, and memory is counted as the
    caching allocator counts it. Time is scripted: nothing takes any until `op_time_s` and the copy
    rates (see `Costs`) are set or `launch` is called, and the host's time, warpspan's included,
    passes only when `clock.advance` is called or somebody waits for the device.

    Enter it before warpspan is instrumented. Not modelled: what happens inside one operator (its
    workspace, fragmentation), operators that only CUDA has, and backward passes. Compiled models
    run uncompiled inside the block, and a real GPU is out of reach.

        with ScriptedDevice() as device:
            device.op_time_s = 1e-3
            model.to("cuda")(torch.ones(2, 8, device="cuda"))

    Args:
        count: number of devices.
        name: their name.
        total_memory: bytes of memory of each.
        uuids: one UUID for each, with or without `GPU-` before it; made up by default.
        clock: the clock to use, a new one by default.

    Attributes:
        clock: host and wall time. warpspan's own clocks follow it inside the block.

    Raises:
        ValueError: there are not `count` UUIDs, or no device at all.
    """

    def __init__(
        self,
        count: int = 1,
        name: str = "NVIDIA H100 80GB HBM3",
        total_memory: int = 85_520_809_984,
        uuids: Sequence[str] | None = None,
        clock: ScriptedClock | None = None,
    ) -> None:
        super().__init__()
        if uuids is None:
            uuids = [str(uuid.UUID(int=index + 1)) for index in range(count)]
        if count < 1 or len(uuids) != count:
            raise ValueError(f"ScriptedDevice: {count} devices and {len(uuids)} UUIDs were given")
        self.clock = clock or ScriptedClock()
        self._machine = Machine(count, total_memory, self.clock, self)
        _machines.add(self._machine)
        self._properties = [
            DeviceProperties(name, total_memory, uuid.UUID(text.removeprefix("GPU-")))
            for text in uuids
        ]
        self._handles: set[Allocation] = set()
        self._stack = ExitStack()

    @property
    def calls(self) -> list[Call]:
        """Every query, copy and synchronization so far, in order."""
        return self._machine.calls

    @property
    def synchronizations(self) -> Counter[str]:
        """How many calls made the host wait for a device, by the name of the calling thread."""
        return Counter(call.thread for call in list(self.calls) if call.stall_s is not None)

    @property
    def captures(self) -> list[Capture]:
        """Every graph capture so far, in order."""
        return self._machine.captures

    def launch(self, seconds: float, stream: Any = None) -> None:
        """Enqueue a kernel that takes `seconds`, by default on the current stream."""
        machine = self._machine
        machine.enqueue(machine.lane(machine.device) if stream is None else stream.lane(), seconds)

    def complete(self) -> None:
        """Let the host's time pass until all devices are idle, without a synchronizing call."""
        self._machine.complete()

    def allocate(self, nbytes: int, device: int = 0) -> Allocation:
        """Take `nbytes` of a device's memory until `free`.

        Raises:
            torch.cuda.OutOfMemoryError: there is no room.
        """
        handle = self._machine.allocate(device, nbytes)
        self._handles.add(handle)
        return handle

    def free(self, handle: Allocation) -> None:
        """Give back what `allocate` took."""
        handle.release()
        self._handles.discard(handle)

    def fail_allocation(self, at: int = 1, device: int = 0) -> None:
        """Have the `at`-th allocation from now on run out of memory."""
        self._machine.allocators[device].fail(at)

    @contextmanager
    def capturing(self, mode: str = "global") -> Iterator[Capture]:
        """Have the current stream be in a graph capture inside the block.

        Args:
            mode: `global`, `thread_local` or `relaxed`, as for `torch.cuda.graph`.
        """
        capture = self._machine.begin_capture(self._machine.lane(self._machine.device), mode)
        try:
            yield capture
        finally:
            self._machine.end_capture(capture)

    def __enter__(self) -> Self:
        """Take CUDA's place.

        Raises:
            RuntimeError: a scripted device is entered already.
        """
        if activated() is not None:
            raise RuntimeError("A ScriptedDevice is entered already: give it a higher `count`")
        with ExitStack() as stack:
            stack.enter_context(_uncompiled())
            self._switch_guard(stack)
            activate(self._machine)
            stack.callback(activate, None)
            for owner, name, replacement in self._patches():
                # A build without CUDA lacks some. Others are those of a newer version of torch.
                missing = name.startswith(("_cuda", "_get_device_properties"))
                if missing or hasattr(owner, name):
                    stack.enter_context(mock.patch.object(owner, name, replacement, create=missing))
            _common_operators_only(stack)
            stack.enter_context(kernels())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _switch_guard(self, stack: ExitStack) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a driver that does not work says so
            has_gpu = torch._C._cuda_getDeviceCount() > 0 if torch.cuda._is_compiled() else False
        switch = guard_switch()

        def restore() -> None:
            # Autograd ends the process when it meets a tensor of ours and no driver: as long as
            # there is one, the guard stays off, and using it is an error of ours instead.
            if not has_gpu and any(machine.blocks for machine in _machines):
                gc.collect()
            if has_gpu or not any(machine.blocks for machine in _machines):
                switch.on()

        stack.callback(restore)
        switch.off()

    def _patches(self) -> list[Patch]:
        machine, C, cuda = self._machine, torch._C, torch.cuda  # noqa: N806 - as it is called

        def stats(index: int) -> dict[str, Any]:
            return machine.allocator(index).stats()

        def reset_peaks(index: int) -> None:
            machine.allocator(index).reset_peaks()

        def reset_accumulated(index: int) -> None:
            machine.allocator(index).reset_accumulated()

        def empty_cache() -> None:
            for allocator in machine.allocators:
                allocator.empty_cache()

        def memory_info(index: int) -> tuple[int, int]:
            return machine.allocator(index).memory_info()

        patches: list[Patch] = [
            (probe_clock, "host_ns", self.clock.now_ns),
            (probe_clock, "wall_ns", self.clock.wall_ns),
            (cuda, "_get_device_properties", self._properties.__getitem__),
            (C, "_cuda_memoryStats", stats),
            (C, "_cuda_resetPeakMemoryStats", reset_peaks),
            (C, "_cuda_resetAccumulatedMemoryStats", reset_accumulated),
            (C, "_cuda_emptyCache", empty_cache),
            (C, "_host_emptyCache", lambda: None),
            (C, "_accelerator_getDeviceStats", stats),
            (C, "_accelerator_resetPeakStats", reset_peaks),
            (C, "_accelerator_resetAccumulatedStats", reset_accumulated),
            (C, "_accelerator_emptyCache", empty_cache),
            (C, "_accelerator_isAllocatorInitialized", cuda.is_initialized),
            (C, "_accelerator_getMemoryInfo", memory_info),
        ]
        if cuda._cudart is not None:  # type: ignore[attr-defined]
            patches.append((cuda._cudart, "cudaMemGetInfo", memory_info))  # type: ignore[attr-defined]
        return patches + stream_patches(machine) + tensor_patches(machine)
