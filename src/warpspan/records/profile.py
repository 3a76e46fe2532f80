"""What a profiler saw of one inference, as far as its span carries it."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from warpspan.records.attr import attr, group
from warpspan.signals import names


class ProfileTotal(NamedTuple):
    """All runs of one kernel, or of one operator on the host.

    Args:
        name: of the kernel or operator.
        total: how often it ran.
        time_s: seconds in it; for an operator without those that it called.
    """

    name: Annotated[str, attr("names")]
    total: Annotated[int, attr("counts")]
    time_s: Annotated[float, attr("times")]


class Profile(NamedTuple):
    """What a capture has of an inference.

    Args:
        kernel_count: kernels that it launched on its device.
        busy_s: seconds in which the device ran anything of this process between the first and the
            last work of the inference; None where the trace lacks work of it.
        idle_s: the rest of that time; likewise.
        slowdown: its time over that of the same without a profiler.
        idle_reliable: whether the slowdown is small enough for `idle_s` to be believed.
        trace: path of the trace.
        kernels: those with most time, most first.
        operators: those of an inference on a CPU with most time of their own, most first.
    """

    kernel_count: Annotated[int | None, attr(names.PYTORCH_KERNEL_COUNT)] = None
    busy_s: Annotated[float | None, attr(names.PYTORCH_KERNEL_BUSY_TIME)] = None
    idle_s: Annotated[float | None, attr(names.PYTORCH_KERNEL_IDLE_TIME)] = None
    slowdown: Annotated[float | None, attr(names.PYTORCH_PROFILE_SLOWDOWN)] = None
    idle_reliable: Annotated[bool | None, attr(names.PYTORCH_PROFILE_IDLE_RELIABLE)] = None
    trace: Annotated[str | None, attr(names.PYTORCH_PROFILE_TRACE)] = None
    kernels: Annotated[tuple[ProfileTotal, ...], group(names.PYTORCH_KERNEL_TOP)] = ()
    operators: Annotated[tuple[ProfileTotal, ...], group(names.PYTORCH_OPERATOR_TOP)] = ()
