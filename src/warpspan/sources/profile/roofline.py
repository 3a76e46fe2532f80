"""What bounds the work of an inference, from the shapes of its operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from warpspan.records.kernels import Roofline
from warpspan.sources.profile.assign import Assignment
from warpspan.sources.profile.host import HostIndex
from warpspan.sources.profile.op_costs import OpCost
from warpspan.sources.profile.peaks import peak_of
from warpspan.sources.profile.recording import KERNEL, Recording


def roofline(
    recording: Recording,
    assignment: Assignment,
    ops: HostIndex,
    work: Iterable[int],
    device_name: str | None,
) -> Roofline | None:
    """The bounds of this work; None where shapes or the device's peaks are not known.

    The time of a kernel counts for the innermost operator around its launch that has a formula.
    """
    peak = peak_of(device_name or "")
    if peak is None or not recording.inputs:
        return None
    times = Counter[int]()
    kernel_ns = 0
    device = recording.device
    for at in work:
        if device.kinds[at] == KERNEL:
            length = device.ends[at] - device.starts[at]
            kernel_ns += length
            for op in ops.around(assignment.op[at]):
                if _cost(recording, op) is not None:
                    times[op] += length
                    break
    flops = nbytes = ideal_s = bounded_s = covered_s = 0.0
    for op, time_ns in times.items():
        cost = _cost(recording, op)
        most = None if cost is None else peak.flops(cost.dtype)
        if cost is None or (most is None and cost.flops and cost.kind != "elementwise"):
            continue
        time_s = time_ns / 1e9
        covered_s += time_s
        flops += cost.flops
        nbytes += cost.nbytes
        arithmetic_s = 0.0 if most is None else cost.flops / most
        ideal_s += arithmetic_s
        if arithmetic_s > cost.nbytes / peak.bytes_per_s:
            bounded_s += time_s
    if not covered_s:
        return None
    return Roofline(
        covered_share=covered_s * 1e9 / kernel_ns,
        compute_share=bounded_s / covered_s,
        bandwidth_share=1 - bounded_s / covered_s,
        flops=flops,
        nbytes=nbytes,
        flops_share=ideal_s / covered_s,
        bandwidth_used=nbytes / covered_s / peak.bytes_per_s,
        source=peak.source,
    )


def _cost(recording: Recording, op: int) -> OpCost | None:
    number = recording.ops.others[op]
    return None if number < 0 else recording.inputs[number].cost
