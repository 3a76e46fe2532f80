"""The CUDA side of the harness: events, graphs, a spinning kernel, launch counts, peak memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from warpspan.kernels.bench.harness import Call, CaptureError

# Datasheet bandwidth in bytes a second, by a part of the name that the driver gives; the first
# that fits counts. HBM parts: NVIDIA datasheets of the SXM or PCIe product.
_DATASHEET = (
    ("H200", 4.8e12),
    ("H100 NVL", 3.9e12),
    ("H100 PCIe", 2.0e12),
    ("H100", 3.35e12),
    ("A100-SXM4-80GB", 2.039e12),
    ("A100 80GB PCIe", 1.935e12),
    ("A100", 1.555e12),
    ("L40S", 864e9),
    ("L4", 300e9),
    ("A10", 600e9),
    ("T4", 320e9),
    ("RTX 4090", 1.008e12),
)
COPY_BYTES = 256 * 2**20


def datasheet_bandwidth(name: str) -> float | None:
    """Bytes a second by the datasheet of the GPU of that name; None for one not known here."""
    return next((bandwidth for part, bandwidth in _DATASHEET if part in name), None)


class CudaDevice:
    """The current CUDA device and stream, as `fused.BenchDevice`."""

    def __init__(self) -> None:
        self.torch_device = torch.device("cuda", torch.cuda.current_device())
        properties = torch.cuda.get_device_properties(self.torch_device)
        self.name = properties.name
        uuid = getattr(properties, "uuid", None)  # torch >= 2.5
        self.identity = f"GPU-{str(uuid).removeprefix('GPU-')}" if uuid else None
        cache = getattr(properties, "L2_cache_size", 0) or 64 * 2**20
        self._other = torch.zeros(cache, dtype=torch.int32, device="cuda")
        self._cycles_per_s = 1e9 * 2  # above any SM clock: a spin is never shorter than asked for

    def now(self) -> float:
        """Host clock in seconds."""
        return time.perf_counter()

    def record(self) -> torch.cuda.Event:
        """A timing event in the current stream."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def elapsed_s(self, start: Any, end: Any) -> float:
        """Seconds between two events."""
        return float(start.elapsed_time(end)) / 1e3

    def synchronize(self) -> None:
        """Wait for the device."""
        torch.cuda.synchronize()

    def capture(self, calls: Sequence[Call], *, keep_outputs: bool) -> Call:
        """The calls as a CUDA graph."""
        graph = torch.cuda.CUDAGraph()
        kept: list[object] = []
        try:
            with torch.cuda.graph(graph):
                for call in calls:
                    output = call()
                    if keep_outputs:
                        kept.append(output)
        except RuntimeError as error:
            torch.cuda.synchronize()
            raise CaptureError(str(error)) from error
        return graph.replay

    def spin(self, seconds: float) -> None:
        """Occupy the stream; torch's own tests use this kernel."""
        torch.cuda._sleep(int(seconds * self._cycles_per_s))

    def flush(self) -> None:
        """Read four times the L2 cache: written lines would be written back in the timed part."""
        torch.sum(self._other)

    def launches(self, call: Call) -> int:
        """Kernels, copies and fills that one call puts on the device, counted in a pass of its own."""
        from torch.profiler import ProfilerActivity, profile

        call()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            call()
            torch.cuda.synchronize()
        events = profiler.events() or []
        # A range that a compiler names is shown on the device too, and is no launch.
        return sum(
            event.device_type.name == "CUDA" and not getattr(event, "is_user_annotation", False)
            for event in events
        )

    def peak_bytes(self, call: Call) -> int:
        """Peak of live tensors in one call, over what was allocated before it."""
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def copy_calls(self) -> list[Call]:
        """Plain copies of 256 MiB: the ceiling that a memory-bound kernel can be held to."""
        pairs = [
            (
                torch.randint(0, 255, (COPY_BYTES,), dtype=torch.uint8, device="cuda"),
                torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda"),
            )
            for _ in range(2)
        ]
        return [lambda source=source, to=to: to.copy_(source) for source, to in pairs]  # type: ignore[misc]


class CudaMeter:
    """Counters that torch itself reads from NVML; energy and throttling it does not."""

    def sm_clock_hz(self) -> float | None:
        """The SM clock; None without nvidia-ml-py or permission."""
        try:
            return torch.cuda.clock_rate() * 1e6
        except Exception:  # torch raises several kinds, all of which mean: not to be had
            return None

    def energy_j(self) -> float | None:
        """None: torch gives no energy counter."""
        return None

    def throttle_reasons(self) -> tuple[str, ...] | None:
        """None: torch gives no throttle reasons."""
        return None
