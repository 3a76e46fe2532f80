"""The begin of a record: what the readings of a window say by themselves."""

from __future__ import annotations

from warpspan import guard
from warpspan.finish.draft import Contributor, Draft
from warpspan.probes import capture, garbage, inputs
from warpspan.probes.model import ModelInfo
from warpspan.probes.runtime_device import host_idle_s
from warpspan.records import Memory, Model, Timing
from warpspan.runtime.window import Window


def is_done(window: Window) -> bool:
    """Whether the device has passed the end of an inference. Asks, never waits."""
    try:
        counters = window.sync_copies
        if counters is not None and not counters.settled(capture.gate.ask):
            return False  # a copy or a call that belongs to it is under way
        end = window.end_event
        if end is None or window.device_times is not None:
            return True
        ticket, timeline = window.ticket, window.runtime_device.timeline
        window.device_times = timeline.times(  # type: ignore[union-attr]
            window.events,  # type: ignore[arg-type]
            end,
            overlapped=ticket is None or ticket[0] > 0,
        )
    except Exception as error:  # a device that is lost must not cost the span
        guard.caught("device events", error)
        window.end_event = None
        return True
    return window.device_times is not None


def assemble(window: Window, *, device_done: bool) -> Draft:
    """The draft of an inference's record.

    Args:
        window: its readings.
        device_done: its device times can be read.
    """
    model = window.model_or_name
    return Draft(
        window.operation,
        window.start_ns,
        (window.ended_ns - window.began_ns) / 1e9,
        window.runtime_device.device,
        model.facts() if isinstance(model, ModelInfo) else Model(model),
        inputs.describe(window.seen),
        _timing(window, device_done=device_done),
        window.error_type,
    )


def _timing(window: Window, *, device_done: bool) -> Timing:
    device_s = queue_s = idle_s = None
    ticket = window.ticket
    if window.runtime_device.is_host:
        if ticket is not None:
            idle_s = host_idle_s(ticket, window.began_ns)
    elif device_done and window.device_times is not None:
        device_s, queue_s, idle_s = window.device_times
        if ticket is None:  # inside another inference there is no gap to speak of
            idle_s = None
    return Timing(
        window.cpu_s,
        device_s,
        queue_s,
        idle_s,
        window.concurrency,
        *garbage.between(window.garbage_start, window.garbage_end),
    )


class AllocatorMemory(Contributor):
    """Memory in torch's caching allocator: exact, from the peak ledger of the device."""

    name = "memory"

    def contribute(self, window: Window, draft: Draft) -> None:
        """Add levels and peak, and the size of the allocation that failed."""
        start, end, holder = window.memory_start, window.memory_end, window.peak_holder
        if start is None or end is None or holder is None:
            if window.oom_requested_bytes is not None:
                draft.memory = Memory(oom_requested_bytes=window.oom_requested_bytes)
            return
        device, peak = window.runtime_device, holder.peak
        device.allocated_bytes, device.reserved_bytes = end.allocated, end.reserved
        draft.memory = Memory(
            allocated_start_bytes=start.allocated,
            allocated_end_bytes=end.allocated,
            peak_bytes=peak,
            peak_increase_bytes=peak - start.allocated,
            reserved_bytes=end.reserved,
            limit_bytes=device.limit_bytes,
            utilization=peak / device.limit_bytes if device.limit_bytes else None,
            allocation_retries=end.retries - start.retries,
            oom_requested_bytes=window.oom_requested_bytes,
        )


class WaitsAndCopies(Contributor):
    """Calls in which the host waited for the device, and copies over the bus."""

    name = "transfers"

    def contribute(self, window: Window, draft: Draft) -> None:
        """Add what was counted; from now on nothing is counted for this inference any more."""
        draft.syncs, draft.transfers = window.seal().describe(draft.timing.device_time_s)


class DeviceShare(Contributor):
    """The inference's share of what the driver counted, where a meter samples its device."""

    name = "device share"

    def settled(self, window: Window) -> bool:
        """Whether the samples cover it, or it has waited long enough for the next one."""
        meter = window.runtime_device.meter
        return meter is None or window.end_event is None or meter.settled(window.events)

    def contribute(self, window: Window, draft: Draft) -> None:
        """Add its usage."""
        meter = window.runtime_device.meter
        if meter is not None and draft.timing.device_time_s is not None:
            draft.usage = meter.usage(window.events)
