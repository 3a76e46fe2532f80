"""Kernels, copies and waits, added up."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

from warpspan.records.intervals import Intervals
from warpspan.records.kernels import TOP, CopyTotal, KernelTotal, WaitTotal
from warpspan.sources.profile.assign import Assignment
from warpspan.sources.profile.host import HostIndex, is_wait, own_times
from warpspan.sources.profile.recording import COPY, KERNEL, Recording, Unit

# Names of kernels for tensor cores (NVIDIA) and matrix cores (AMD), as their libraries form them.
_TENSOR_CORES = re.compile(
    r"[hisd](?:884|1688|8816|16816|16832|16864)|[hi]mma|w?gmma|tensorop|xmma|nvjet|mfma|xdl|_MI\d+x"
    r"|flash_(?:fwd|attn)|attn_fwd|fmha|_tc_",
    re.IGNORECASE,
)
_DIRECTION = re.compile(r"(HtoD|H2D|DtoH|D2H|DtoD|D2D|PtoP|P2P)", re.IGNORECASE)
_WAIT_OPERATORS = {
    "aten::_local_scalar_dense": "item",
    "aten::item": "item",
    "aten::nonzero": "nonzero",
    "aten::is_nonzero": "bool",
    "aten::copy_": "copy",
    "aten::_to_copy": "to",
    "aten::to": "to",
}


def uses_tensor_cores(kernel: str) -> bool:
    """Whether a kernel's name is that of one for tensor or matrix cores."""
    return _TENSOR_CORES.search(kernel) is not None


def kernel_totals(
    recording: Recording, assignment: Assignment, work: Iterable[int]
) -> tuple[KernelTotal, ...]:
    """The kernels with most time among this work, at most `TOP`."""
    times, counts = Counter[tuple[int, int]](), Counter[tuple[int, int]]()
    inputs: dict[tuple[int, int], Counter[int]] = {}
    device, ops = recording.device, recording.ops
    for at in work:
        if device.kinds[at] != KERNEL:
            continue
        op = assignment.op[at]
        key = (device.names[at], ops.names[op] if op >= 0 else -1)
        length = device.ends[at] - device.starts[at]
        times[key] += length
        counts[key] += 1
        if op >= 0 and ops.others[op] >= 0:
            inputs.setdefault(key, Counter())[ops.others[op]] += length
    names = list(recording.names)
    return tuple(
        KernelTotal(
            names[key[0]],
            names[key[1]] if key[1] >= 0 else None,
            counts[key],
            time_ns / 1e9,
            uses_tensor_cores(names[key[0]]),
            recording.inputs[inputs[key].most_common(1)[0][0]].shapes or None
            if key in inputs
            else None,
        )
        for key, time_ns in times.most_common(TOP)
    )


def copy_direction(name: str) -> str:
    """`h2d`, `d2h`, `d2d`, `p2p`, or `other`, by the name that the profiler gives a copy."""
    match = _DIRECTION.search(name)
    if match is None:
        return "other"
    return match[1].lower().replace("to", "2")


def _memory(name: str, direction: str) -> str | None:
    if direction not in ("h2d", "d2h"):
        return None
    lower = name.lower()
    return "pageable" if "pageable" in lower else "pinned" if "pinned" in lower else None


def copy_totals(recording: Recording, work: Iterable[int]) -> tuple[CopyTotal, ...]:
    """The copies among this work by direction and memory, those with most time first."""
    times, counts = Counter[tuple[str, str | None]](), Counter[tuple[str, str | None]]()
    sizes: dict[tuple[str, str | None], int | None] = {}
    device, names = recording.device, list(recording.names)
    for at in work:
        if device.kinds[at] == COPY:
            name = names[device.names[at]]
            direction = copy_direction(name)
            key = (direction, _memory(name, direction))
            times[key] += device.ends[at] - device.starts[at]
            counts[key] += 1
            before, size = sizes.get(key, 0), device.sizes[at]
            sizes[key] = None if before is None or size < 0 else before + size
    return tuple(
        CopyTotal(*key, counts[key], sizes[key], time_ns / 1e9)
        for key, time_ns in times.most_common()
    )


def operator_times(
    recording: Recording, ops: HostIndex, unit: Unit
) -> tuple[Counter[int], Counter[int]]:
    """What operators did in an inference, by the number of their name, added up over threads.

    Args:
        recording: sorted.
        ops: its operators.
        unit: the inference.

    Returns:
        Nanoseconds of each without those that it called, where there are any; and how often it ran.
    """
    threads = {unit.thread}
    if recording.async_launches:
        threads = {*recording.threads.values()}
    inside = [at for thread in threads for at in ops.started(thread, unit.start_ns, unit.end_ns)]
    counts = Counter[int](recording.ops.names[at] for at in inside)
    times = own_times(ops, inside)
    known = {name: time for name, time in times.items() if time > 0 and name in counts}
    return Counter(known), counts


class Waits:
    """The waits of a trace for its devices.

    Args:
        recording: sorted.
        ops: operators.
        frames: Python functions.
        busy: when any device was busy; None where that is not known.
    """

    def __init__(
        self, recording: Recording, ops: HostIndex, frames: HostIndex, busy: Intervals | None
    ) -> None:
        names = list(recording.names)
        self._calls, self._names, self._ops, self._frames = recording.calls, names, ops, frames
        self._busy = busy
        kinds = {number for number, name in enumerate(names) if is_wait(name)}
        self._at = [at for at, name in enumerate(recording.calls.names) if name in kinds]
        self._keys = [(recording.calls.threads[at], recording.calls.starts[at]) for at in self._at]
        self.times = Intervals((self._calls.starts[at], self._calls.ends[at]) for at in self._at)

    def inside(self, thread: int, start_ns: int, end_ns: int) -> tuple[WaitTotal, ...]:
        """Those that began on a thread in that time, by kind and call, most time first."""
        starts, ends = self._calls.starts, self._calls.ends
        groups: dict[tuple[str, str], list[int]] = {}
        first, last = (bisect_left(self._keys, (thread, time)) for time in (start_ns, end_ns))
        for at in self._at[first:last]:
            key = (self._kind(at), self._names[self._calls.names[at]])
            groups.setdefault(key, []).append(at)
        totals = []
        for (kind, call), held in groups.items():
            time = Intervals((starts[at], ends[at]) for at in held)
            longest = max(held, key=lambda at: ends[at] - starts[at])
            frame = self._frames.innermost(thread, starts[longest])
            totals.append(
                WaitTotal(
                    kind,
                    call,
                    len(held),
                    sum(ends[at] - starts[at] for at in held) / 1e9,
                    None if self._busy is None else (time - self._busy).total_s,
                    self._names[self._frames.spans.names[frame]] if frame >= 0 else None,
                    (ends[longest] - starts[longest]) / 1e9,
                )
            )
        return tuple(sorted(totals, key=lambda total: -total.time_s))

    def _kind(self, at: int) -> str:
        """A kind of `pytorch.sync.*`: by the operator that waits, else by the call."""
        op = self._ops.innermost(self._calls.threads[at], self._calls.starts[at])
        for one in self._ops.around(op):
            kind = _WAIT_OPERATORS.get(self._names[self._ops.spans.names[one]])
            if kind is not None:
                return kind
        call = self._names[self._calls.names[at]].lower()
        kind = next((kind for kind in ("stream", "event", "memcpy") if kind in call), "synchronize")
        return "copy" if "memcpy" in call else kind
