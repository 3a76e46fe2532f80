"""What profiler traces say of each kind of inference, summed: pure functions on records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from warpspan.records.kernels import (
    TOP,
    CopyTotal,
    DeviceTimeline,
    HostShare,
    HostTime,
    KernelTotal,
    Roofline,
    Trace,
    TracedInference,
    WaitTotal,
)


class ProfileRow(NamedTuple):
    """Inferences of one operation and model, summed over all of them and their devices.

    None is: not in the trace.

    Args:
        operation: what ran.
        model: class name of the model.
        found_by: how inferences were found, see `TracedInference`.
        inference_count: how many.
        device_s: from the first work to the last on each device.
        busy_s: of it, any work.
        copies_alone_s: of it, copies while no kernel ran.
        idle_s: of `device_s`, no work.
        kernel_count: kernels.
        kernel_time_s: their times added up.
        launch_count: calls that launched work.
        graph_launch_count: of these, CUDA graphs.
        tensor_core_share: of the kernel time.
        occupancy: weighted by kernel time.
        kernels: most time first.
        copies: most time first.
        waits: most time first.
        host: what the host did while the device was idle.
        functions: Python functions by their own time in that.
        operators: by their own time on the host, where there is no device.
        roofline: sums and shares weighted by covered time.
        requests: of a serving engine's steps, prefilled and decoded.
        tokens: likewise.
    """

    operation: str
    model: str | None
    found_by: str
    inference_count: int
    device_s: float | None
    busy_s: float | None
    copies_alone_s: float | None
    idle_s: float | None
    kernel_count: int | None
    kernel_time_s: float | None
    launch_count: int | None
    graph_launch_count: int | None
    tensor_core_share: float | None
    occupancy: float | None
    kernels: tuple[KernelTotal, ...]
    copies: tuple[CopyTotal, ...]
    waits: tuple[WaitTotal, ...]
    host: HostShare | None
    functions: tuple[HostTime, ...]
    operators: tuple[KernelTotal, ...]
    roofline: Roofline | None
    requests: tuple[int, int] | None
    tokens: tuple[int, int] | None

    def to_json(self) -> dict[str, Any]:
        """What `warpspan report --json` prints of it; its keys are stable."""
        return {
            **self._asdict(),
            **{
                name: [entry._asdict() for entry in getattr(self, name)]
                for name in ("kernels", "copies", "waits", "functions", "operators")
            },
            "host": None if self.host is None else self.host._asdict(),
            "roofline": None if self.roofline is None else self.roofline._asdict(),
        }


def profile_rows(traces: Iterable[Trace]) -> tuple[ProfileRow, ...]:
    """A row for each operation and model, the one with most time on devices first."""
    groups: dict[tuple[str, str | None], list[TracedInference]] = {}
    for trace in traces:
        for one in trace.inferences:
            key = (one.inference.operation, one.inference.model.name)
            groups.setdefault(key, []).append(one)
    rows = [_row(*key, held) for key, held in groups.items()]
    return tuple(sorted(rows, key=lambda row: -(row.device_s or 0.0)))


def _row(operation: str, model: str | None, held: Sequence[TracedInference]) -> ProfileRow:
    work = [on for one in held for on in one.work]
    kernel_time_s = sum(on.kernel_time_s for on in work)
    hosts = [on.host for on in work if on.host is not None]
    engines = [one.engine for one in held if one.engine is not None]
    return ProfileRow(
        operation=operation,
        model=model,
        found_by=held[0].found_by,
        inference_count=len(held),
        device_s=_sum([on.elapsed_s for on in work]),
        busy_s=_sum([on.busy_s for on in work]),
        copies_alone_s=_sum([on.copies_alone_s for on in work]),
        idle_s=_sum([on.idle_s for on in work]),
        kernel_count=_count([on.kernel_count for on in work]),
        kernel_time_s=kernel_time_s if work else None,
        launch_count=_count([on.launch_count for on in work]),
        graph_launch_count=_count([on.graph_launch_count for on in work]),
        tensor_core_share=_mean([(on.tensor_core_share, on.kernel_time_s) for on in work]),
        occupancy=_mean([(on.occupancy, on.kernel_time_s) for on in work]),
        kernels=merge_kernels(kernel for on in work for kernel in on.kernels),
        copies=_copies(copy for on in work for copy in on.copies),
        waits=_waits(wait for one in held for wait in one.waits),
        host=HostShare(*map(sum, zip(*hosts, strict=True))) if hosts else None,
        functions=_functions(function for on in work for function in on.functions),
        operators=merge_kernels(operator for one in held for operator in one.operators),
        roofline=_roofline([(on.roofline, on.kernel_time_s) for on in work]),
        requests=(
            sum(engine.prefill_requests or 0 for engine in engines),
            sum(engine.decode_requests or 0 for engine in engines),
        )
        if engines
        else None,
        tokens=(
            sum(engine.prefill_tokens or 0 for engine in engines),
            sum(engine.decode_tokens or 0 for engine in engines),
        )
        if engines
        else None,
    )


def merge_kernels(kernels: Iterable[KernelTotal]) -> tuple[KernelTotal, ...]:
    """Kernels of the same name and operator added up, most time first, at most `TOP`."""
    held: dict[tuple[str, str | None], KernelTotal] = {}
    for kernel in kernels:
        key = (kernel.name, kernel.operator)
        before = held.get(key)
        if before is not None:
            shapes = max(before, kernel, key=lambda one: one.time_s).shapes
            kernel = kernel._replace(
                total=kernel.total + before.total,
                time_s=kernel.time_s + before.time_s,
                shapes=shapes,
            )
        held[key] = kernel
    return tuple(sorted(held.values(), key=lambda kernel: -kernel.time_s)[:TOP])


def trace_json(trace: Trace) -> dict[str, Any]:
    """What `warpspan report --json` prints of a trace; its keys are stable."""
    return {
        "format": trace.format,
        "process": trace.process,
        "training_steps": trace.training_steps,
        "coverage": trace.coverage._asdict(),
        "devices": [_device_json(line) for line in trace.devices],
        "inferences": [_inference_json(one) for one in trace.inferences],
    }


def _device_json(line: DeviceTimeline) -> dict[str, Any]:
    return {
        "type": line.device.type,
        "index": line.device.ordinal,
        "name": line.name,
        "complete": line.complete,
        "elapsed_s": line.elapsed_s,
        "busy_s": line.busy.total_s,
        "copies_alone_s": line.copies_alone_s,
        "idle_between_s": line.between_s,
        "between_host": None if line.between_host is None else line.between_host._asdict(),
        "between_functions": [function._asdict() for function in line.between_functions],
        "copies": [copy._asdict() for copy in line.copies],
        "kernels": [kernel._asdict() for kernel in line.kernels],
    }


def _inference_json(one: TracedInference) -> dict[str, Any]:
    return {
        "operation": one.inference.operation,
        "model": one.inference.model.name,
        "found_by": one.found_by,
        "start_ns": one.inference.start_ns,
        "duration_s": one.inference.duration_s,
        "engine": None if one.engine is None else one.engine._asdict(),
        "devices": [
            {
                "type": on.device.type,
                "index": on.device.ordinal,
                "elapsed_s": on.elapsed_s,
                "busy_s": on.busy_s,
                "copies_alone_s": on.copies_alone_s,
                "idle_s": on.idle_s,
                "kernel_count": on.kernel_count,
                "kernel_mean_s": on.kernel_mean_s,
                "launch_count": on.launch_count,
                "graph_launch_count": on.graph_launch_count,
            }
            for on in one.work
        ],
    }


def _sum(values: Sequence[float | None]) -> float | None:
    """None where one is missing, or all are."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _count(values: Sequence[int]) -> int | None:
    return sum(values) if values else None


def _mean(values: Sequence[tuple[float | None, float]]) -> float | None:
    known = [(value, weight) for value, weight in values if value is not None and weight]
    weights = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / weights if weights else None


def _copies(copies: Iterable[CopyTotal]) -> tuple[CopyTotal, ...]:
    held: dict[tuple[str, str | None], CopyTotal] = {}
    for copy in copies:
        key = (copy.direction, copy.memory)
        before = held.get(key, CopyTotal(*key, 0, 0, 0.0))
        sizes = (before.nbytes, copy.nbytes)
        held[key] = CopyTotal(
            *key,
            before.total + copy.total,
            None if sizes[0] is None or sizes[1] is None else sizes[0] + sizes[1],
            before.time_s + copy.time_s,
        )
    return tuple(sorted(held.values(), key=lambda copy: -copy.time_s))


def _waits(waits: Iterable[WaitTotal]) -> tuple[WaitTotal, ...]:
    held: dict[tuple[str, str], WaitTotal] = {}
    for wait in waits:
        before = held.get((wait.kind, wait.call))
        if before is not None:
            longest = max(before, wait, key=lambda one: one.longest_s)
            wait = longest._replace(
                total=before.total + wait.total,
                time_s=before.time_s + wait.time_s,
                idle_s=_sum([before.idle_s, wait.idle_s]),
            )
        held[wait.kind, wait.call] = wait
    return tuple(sorted(held.values(), key=lambda wait: -wait.time_s))


def _functions(functions: Iterable[HostTime]) -> tuple[HostTime, ...]:
    times = Counter[str]()
    for function in functions:
        times[function.name] += function.time_s  # type: ignore[assignment]
    return tuple(HostTime(name, time_s) for name, time_s in times.most_common(TOP))


def _roofline(parts: Sequence[tuple[Roofline | None, float]]) -> Roofline | None:
    known = [(part, time_s) for part, time_s in parts if part is not None]
    if not known:
        return None
    all_s = sum(time_s for _, time_s in parts)
    covered = [(part, part.covered_share * time_s) for part, time_s in known]
    covered_s = sum(time_s for _, time_s in covered)

    def weighted(name: str) -> float:
        return float(sum(getattr(part, name) * time_s for part, time_s in covered) / covered_s)

    return Roofline(
        covered_share=covered_s / all_s,
        compute_share=weighted("compute_share"),
        bandwidth_share=weighted("bandwidth_share"),
        flops=sum(part.flops for part, _ in known),
        nbytes=sum(part.nbytes for part, _ in known),
        flops_share=weighted("flops_share"),
        bandwidth_used=weighted("bandwidth_used"),
        source=known[0][0].source,
    )
