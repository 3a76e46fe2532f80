"""A recording as records: its inferences, its devices, and what it lacks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from warpspan.records import (
    Device,
    Inference,
    Input,
    Memory,
    Model,
    Steps,
    SyncKind,
    Syncs,
    Timing,
    Transfer,
    Transfers,
)
from warpspan.records.intervals import Intervals
from warpspan.records.kernels import (
    TOP,
    CopyTotal,
    Coverage,
    DeviceWork,
    KernelTotal,
    Trace,
    TracedInference,
    WaitTotal,
)
from warpspan.sources.profile.recording import Recording, Unit
from warpspan.sources.profile.totals import Waits, operator_times
from warpspan.sources.profile.units import find_units
from warpspan.sources.profile.work import WorkReader


def build(recording: Recording, process: str) -> Trace:
    """The records of a recording.

    Args:
        recording: read and sorted.
        process: what tells it from other traces, where it has no rank.
    """
    units = find_units(recording)
    reader = WorkReader(recording, units)
    busy = Intervals() if not reader.lines else reader.lines[0].busy
    for line in reader.lines[1:]:
        busy |= line.busy
    known = reader.complete and bool(reader.lines)
    waits = Waits(recording, reader.ops, reader.frames, busy if known else None)
    name = process if recording.rank is None else f"rank {recording.rank}"
    builder = _Builder(recording, reader, waits, name)
    work = reader.work()
    inferences = tuple(
        builder.inference(unit, devices)
        for unit, devices in zip(units, work, strict=True)
        if not unit.training
    )
    steps = sum(unit.training for unit in units)
    if steps and recording.optimizer_steps:
        steps = len(recording.optimizer_steps)
    assignment = reader.assignment
    return Trace(
        format=recording.format,
        process=name,
        epoch_ns=recording.epoch_ns,
        inferences=inferences,
        training_steps=steps,
        devices=tuple(
            reader.timeline(
                line,
                name,
                [one for devices in work for one in devices if one.device == reader.device(line)],
            )
            for line in reader.lines
        ),
        waits=waits.times,
        coverage=Coverage(
            kernels=bool(len(recording.device)),
            python=recording.has_python,
            shapes=recording.has_shapes,
            memory=bool(recording.memory),
            by_time=assignment.by_time,
            unassigned=assignment.unit.count(-1),
            unmeasured_kernels=recording.unmeasured_kernels,
            graph_launches=assignment.graph_launches,
            graphs_without_kernels=assignment.graphs_without_kernels,
        ),
    )


class _Builder:
    """Makes inferences; they come by start."""

    def __init__(
        self, recording: Recording, reader: WorkReader, waits: Waits, process: str
    ) -> None:
        self._recording, self._reader, self._waits = recording, reader, waits
        self._process = process
        self._until: dict[int | None, int] = {}
        self._names = list(recording.names)

    def inference(self, unit: Unit, work: Sequence[DeviceWork]) -> TracedInference:
        waits = self._waits.inside(unit.thread, unit.start_ns, unit.end_ns)
        main = work[0] if work else None
        device = Device(self._recording.device_type or "cpu") if main is None else main.device
        timing = Timing() if main is None else self._timing(unit, main)
        inference = Inference(
            operation=unit.operation,
            start_ns=self._recording.epoch_ns + unit.start_ns,
            duration_s=(unit.end_ns - unit.start_ns) / 1e9,
            device=device,
            model=Model(unit.model, device_count=len(work) if len(work) > 1 else None),
            input=Input() if unit.engine is None else Input(batch_size=unit.engine.requests),
            timing=timing,
            memory=self._memory(unit, device),
            steps=_steps(unit),
            syncs=_syncs(waits),
            transfers=None if main is None else _transfers(main),
            process=self._process,
        )
        operators = () if self._recording.device else self._operators(unit)
        return TracedInference(
            inference, unit.kind, tuple(work), waits, operators, unit.engine, unit.steps
        )

    def _timing(self, unit: Unit, work: DeviceWork) -> Timing:
        """From the first work to the last one on its main device, by the trace's clock."""
        ordinal = work.device.ordinal
        before_ns = self._until.get(ordinal)
        self._until[ordinal] = max(before_ns or work.end_ns, work.end_ns)
        queue_ns = work.start_ns - unit.start_ns
        return Timing(
            device_time_s=work.elapsed_s,
            queue_time_s=queue_ns / 1e9 if queue_ns >= 0 else None,
            idle_time_s=None if before_ns is None else max(work.start_ns - before_ns, 0) / 1e9,
        )

    def _memory(self, unit: Unit, device: Device) -> Memory | None:
        """What the allocator held; of the only device with memory where numbers differ."""
        recorded = self._recording.memory
        places = [place for place in recorded if place[0] == device.type]
        exact = (device.type, device.ordinal if device.ordinal is not None else 0)
        if exact not in places and len(places) != 1:
            return None
        levels = recorded[exact if exact in places else places[0]]
        first = bisect_left(levels.times, unit.start_ns)
        last = bisect_right(levels.times, unit.end_ns)
        before = levels.allocated[first - 1] if first else None
        inside = levels.allocated[first:last]
        if before is None and not inside:
            return None
        held = [*inside] if before is None else [before, *inside]
        reserved = levels.reserved[last - 1] if last and levels.reserved[last - 1] > 0 else None
        return Memory(
            allocated_start_bytes=before,
            allocated_end_bytes=held[-1],
            peak_bytes=max(held),
            peak_increase_bytes=None if before is None else max(held) - before,
            reserved_bytes=reserved,
            limit_bytes=self._limit(exact[1]),
        )

    def _limit(self, number: int) -> int | None:
        """Memory of a device by its number, or because all of them have the same."""
        limits = self._recording.device_limits
        every = {*limits.values()}
        return limits.get(number) or (every.pop() if len(every) == 1 else None)

    def _operators(self, unit: Unit) -> tuple[KernelTotal, ...]:
        """The operators of an inference on a CPU, by their own time."""
        times, counts = operator_times(self._recording, self._reader.ops, unit)
        return tuple(
            KernelTotal(self._names[name], None, counts[name], time_ns / 1e9, tensor_cores=False)
            for name, time_ns in times.most_common(TOP)
        )


def _steps(unit: Unit) -> Steps | None:
    if not len(unit.steps):
        return None
    _, first_end_ns = next(iter(unit.steps))
    return Steps(len(unit.steps), (first_end_ns - unit.start_ns) / 1e9, unit.steps.total_s)


def _syncs(waits: Sequence[WaitTotal]) -> Syncs | None:
    if not waits:
        return None
    longest = max(waits, key=lambda wait: wait.longest_s)
    kinds = sorted({wait.kind for wait in waits})
    return Syncs(
        total=sum(wait.total for wait in waits),
        stalled_s=sum(wait.time_s for wait in waits),
        longest_kind=longest.kind,
        longest_s=longest.longest_s,
        kinds=tuple(
            SyncKind(
                kind,
                sum(wait.total for wait in waits if wait.kind == kind),
                sum(wait.time_s for wait in waits if wait.kind == kind),
            )
            for kind in kinds
        ),
    )


def _transfers(work: DeviceWork) -> Transfers | None:
    # What the profiler calls DtoD stays on one device, and crosses no bus.
    h2d, d2h, d2d = (_transfer(work, way) for way in ("h2d", "d2h", "p2p"))
    found = Transfers(h2d, d2h, d2d)
    return None if found == Transfers() else found


def _transfer(work: DeviceWork, direction: str) -> Transfer | None:
    copies = [copy for copy in work.copies if copy.direction == direction]
    if not copies:
        return None
    time_s = sum(copy.time_s for copy in copies)
    nbytes = _sum([copy.nbytes for copy in copies])
    return Transfer(
        total=sum(copy.total for copy in copies),
        nbytes=nbytes,
        pageable_bytes=_pageable(copies),
        time_s=time_s,
        bytes_per_s=nbytes / time_s if nbytes is not None and time_s else None,
        device_share=time_s / work.elapsed_s if work.elapsed_s else None,
    )


def _pageable(copies: Sequence[CopyTotal]) -> int | None:
    """None where the trace does not tell pageable memory from pinned."""
    if any(copy.memory is None for copy in copies):
        return None
    return _sum([copy.nbytes for copy in copies if copy.memory == "pageable"])


def _sum(sizes: Sequence[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None
