"""The virtual GPU from Python: processes that have one, its script, and its timeline.

A process has it by its environment alone, since its libraries are preloaded:

    subprocess.run([sys.executable, "program.py"], env=virtual_gpu.environment(devices=2))
    python -m virtual_gpu --devices 2 -- python program.py

Inside such a process, `VirtualGpu()` is the script:

    gpu = VirtualGpu()
    gpu.kernel_time("elementwise", 2e-3)
    with gpu.recording() as lines:
        model(x)
        torch.cuda.synchronize()
    busy_s = sum(line.duration_s for line in lines if line.kind is Kind.KERNEL)

All times are of CLOCK_MONOTONIC, which time.perf_counter_ns() gives on Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from virtual_gpu.build import LIBRARY, UnbuildableError, build

__all__ = ["Kind", "Line", "UnbuildableError", "VirtualGpu", "environment", "uuid"]

NAME = "virtual GPU"
CLOCK_HZ = 1.41e9  # of torch.cuda._sleep's cycles
_PACKAGES = Path(__file__).resolve().parent.parent


def uuid(index: int) -> str:
    """What torch and the driver both call a device."""
    return f"GPU-{UUID(int=index)}"


def nvml_script(devices: int) -> str:
    """A driver's view of the devices, which moves with what this process does on them."""
    lines = ["driver 580.65.06", "cuda 13020"]
    for index in range(devices):
        lines += [
            f"device {index} uuid={uuid(index)} name=virtual_GPU live=1 idle_power=60 "
            f"bus=00000000:{0x1B + index:02X}:00.0",
            f"at 0 {index} power=400 clock=1410 temperature=45 sm=0.9 occupancy=0.5 tensor=0.4 "
            "dram=0.3 utilization=100",
        ]
    return "\n".join(lines) + "\n"


def environment(
    devices: int = 1,
    memory_bytes: int | None = None,
    base: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The environment of a process that has the virtual GPU, and NVML of the same devices.

    Args:
        devices: how many there are.
        memory_bytes: of each; by default 80 GiB.
        base: environment to add to, by default this process's.

    Raises:
        UnbuildableError: it can't be built here; the message says why.
    """
    folder = build()
    script = folder / f"nvml-{devices}.txt"
    if not script.exists():
        script.write_text(nvml_script(devices), encoding="utf-8")
    environ = dict(os.environ if base is None else base)
    libraries = [LIBRARY, *sorted(file.name for file in folder.glob("lib*.so.*"))]
    preloaded = [str(folder / name) for name in libraries]
    environ["LD_PRELOAD"] = ":".join([*preloaded, *filter(None, [environ.get("LD_PRELOAD")])])
    environ["PYTHONPATH"] = os.pathsep.join(
        [str(_PACKAGES), *filter(None, [environ.get("PYTHONPATH")])]
    )
    environ["VIRTUAL_GPU_DEVICES"] = str(devices)
    environ["VIRTUAL_GPU_FOLDER"] = str(folder)
    environ["TRITON_LIBCUDA_PATH"] = str(folder)
    environ.setdefault("FAKE_NVML_SCRIPT", str(script))
    if memory_bytes is not None:
        environ["VIRTUAL_GPU_MEMORY_BYTES"] = str(memory_bytes)
    return environ


class Kind(enum.IntEnum):
    """What a line of the timeline is: work of the device, or of the host."""

    KERNEL = 0
    H2D = 1
    D2H = 2
    D2D = 3
    MEMSET = 4
    H2H = 5
    HOST_FUNCTION = 6
    WAIT = 7


class Line(NamedTuple):
    """One piece of work on the device, or one wait of the host."""

    kind: Kind
    device: int
    stream: int  # its handle, 0 for the default stream
    begin_ns: int
    end_ns: int
    bytes: int
    pageable: bool
    replayed: bool  # a node of a graph
    thread: int  # native id of the one that enqueued it or waited
    name: str  # of the kernel, or of the call

    @property
    def duration_s(self) -> float:
        """From begin to end."""
        return (self.end_ns - self.begin_ns) / 1e9


class _Record(ctypes.Structure):
    """`Record` of device.h."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("stream", ctypes.c_uint64),
        ("begin_ns", ctypes.c_int64),
        ("end_ns", ctypes.c_int64),
        ("bytes", ctypes.c_int64),
        ("pageable", ctypes.c_int32),
        ("replayed", ctypes.c_int32),
        ("thread", ctypes.c_uint64),
        ("name", ctypes.c_char * 96),
    )


class VirtualGpu:
    """The script of this process's virtual devices."""

    def __init__(self) -> None:
        """Of a process that `environment` made.

        Raises:
            OSError: this process has no virtual GPU.
        """
        # Loaded by its name alone: a second copy would have devices of its own.
        self._library = library = ctypes.CDLL(LIBRARY)
        text, number, real = ctypes.c_char_p, ctypes.c_int64, ctypes.c_double
        library.virtual_gpu_kernel_time.argtypes = [text, real]
        library.virtual_gpu_copy_speed.argtypes = [real] * 3
        library.virtual_gpu_memory.argtypes = [ctypes.c_size_t]
        library.virtual_gpu_queue_depth.argtypes = [ctypes.c_size_t]
        library.virtual_gpu_fail.argtypes = [text, ctypes.c_int, number]
        library.virtual_gpu_launch.argtypes = [text, ctypes.c_void_p, real]
        library.virtual_gpu_timeline.restype = ctypes.c_size_t
        library.virtual_gpu_timeline.argtypes = [
            ctypes.POINTER(_Record),
            ctypes.c_size_t,
            ctypes.c_size_t,
        ]
        library.virtual_gpu_calls.argtypes = [text]
        for name in ("calls", "live_events", "busy_ns", "used_bytes"):
            getattr(library, f"virtual_gpu_{name}").restype = number

    def kernel_time(self, part: str, seconds: float) -> None:
        """What kernels take whose name has this part; "" is the shortest that any takes."""
        self._library.virtual_gpu_kernel_time(part.encode(), seconds)

    def copy_speed(
        self, host_bytes_s: float = 25e9, device_bytes_s: float = 1.5e12, latency_s: float = 2e-6
    ) -> None:
        """Speed of copies from and to the host, and inside a device."""
        self._library.virtual_gpu_copy_speed(host_bytes_s, device_bytes_s, latency_s)

    def memory(self, size: int) -> None:
        """Bytes that each device has, from now on."""
        self._library.virtual_gpu_memory(size)

    def queue_depth(self, launches: int) -> None:
        """How many launches a stream holds before the host must wait."""
        self._library.virtual_gpu_queue_depth(launches)

    def exclusive(self, on: bool) -> None:
        """Whether a device runs one kernel at a time, whatever its stream."""
        self._library.virtual_gpu_exclusive(on)

    def fail(self, api: str, error: int, times: int = -1) -> None:
        """Let the next calls of an API give an error of CUDA; -1: all from now on."""
        self._library.virtual_gpu_fail(api.encode(), error, times)

    def sticky(self, error: int) -> None:
        """Let the device be lost, as after an illegal access (700): every call gives the error."""
        self._library.virtual_gpu_sticky(error)

    def reset(self) -> None:
        """The script as it was at first. Memory, streams, events and graphs stay."""
        self._library.virtual_gpu_reset()

    def forget(self) -> None:
        """Start the timeline and the counts of calls anew."""
        self._library.virtual_gpu_forget()

    def launch(self, name: str, seconds: float, stream: int = 0) -> None:
        """One kernel, as if torch had launched it."""
        self._library.virtual_gpu_launch(name.encode(), stream, seconds)

    def calls(self, api: str) -> int:
        """How often an entry point was called."""
        return int(self._library.virtual_gpu_calls(api.encode()))

    def live_events(self) -> int:
        """Events that were created and not destroyed."""
        return int(self._library.virtual_gpu_live_events())

    def has_context(self, device: int) -> bool:
        """Whether the process has touched a device, which costs memory there."""
        return bool(self._library.virtual_gpu_has_context(device))

    def busy_s(self, device: int) -> float:
        """Seconds until now in which something was on a device."""
        return int(self._library.virtual_gpu_busy_ns(device)) / 1e9

    def length(self) -> int:
        """Lines of the timeline so far."""
        return int(self._library.virtual_gpu_timeline(None, 0, 0))

    def timeline(self, first: int = 0) -> list[Line]:
        """Everything from one line on, in the order in which it was enqueued."""
        count = self.length() - first
        records = (_Record * max(count, 1))()
        self._library.virtual_gpu_timeline(records, first, count)
        return [
            Line(
                Kind(record.kind),
                record.device,
                record.stream,
                record.begin_ns,
                record.end_ns,
                record.bytes,
                bool(record.pageable),
                bool(record.replayed),
                record.thread,
                record.name.decode(errors="replace"),
            )
            for record in records[:count]
        ]

    @contextlib.contextmanager
    def recording(self) -> Iterator[list[Line]]:
        """A list that has, after the block, what was enqueued in it."""
        first, lines = self.length(), []
        yield lines
        lines += self.timeline(first)
