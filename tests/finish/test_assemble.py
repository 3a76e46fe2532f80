"""The begin of a record: what the readings of a window say by themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.windows import closed_window, host, open_window
from warpspan import guard
from warpspan.finish.assemble import (
    AllocatorMemory,
    DeviceShare,
    WaitsAndCopies,
    assemble,
    is_done,
)
from warpspan.probes import capture
from warpspan.probes.layout import BATCH_FIRST
from warpspan.probes.memory import MemoryReading, PeakHolder
from warpspan.probes.model import ModelInfo
from warpspan.records import (
    Device,
    Input,
    Memory,
    Model,
    SyncCall,
    Timing,
    Transfer,
    Transfers,
    Usage,
)
from warpspan.records.transfers import Direction

close = pytest.approx


def test_the_draft_of_a_window(host_clock):
    """Start, duration, device, model, input, error and times; no group that others add."""
    model = nn.Linear(4, 4)
    info = ModelInfo(model, lambda _: None)
    seen = (torch.Size([2, 4]), torch.float32, None, BATCH_FIRST)
    window = open_window(host(), "forward", info, seen=seen)
    host_clock.advance(1.5)
    window.fail(ValueError("private"))
    window.close()
    assert vars(assemble(window, device_done=True)) == {
        "operation": "forward",
        "start_ns": window.start_ns,
        "duration_s": 1.5,
        "device": Device("cpu"),
        "model": Model("Linear", 20, 80, "float32", None, compiled=False, device_count=1),
        "input": Input(batch_size=2, shape=(2, 4)),
        "timing": Timing(concurrency=1),
        "error_type": "ValueError",
    }


@pytest.mark.parametrize("name", [None, "Tiny"])
def test_a_model_of_which_the_name_is_known_at_most(name):
    """Nothing else is said of it."""
    draft = assemble(closed_window(host(), model=name), device_done=True)
    assert (Model(name), Input()) == (draft.model, draft.input)


def test_idle_time_of_the_host(host_clock):
    """Since the end before; the first one knows of none, and one inside another has none."""
    cpu = host()
    first = closed_window(cpu)
    host_clock.advance(3)
    second = open_window(cpu)
    nested = closed_window(cpu, nested=True)
    second.close()
    assert [None, 3.0, None] == [
        assemble(window, device_done=True).timing.idle_time_s for window in (first, second, nested)
    ]


def test_collections_of_garbage():
    """Their time and number between begin and end; nothing where nobody counted."""
    window = closed_window(host())
    window.garbage_start, window.garbage_end = (1, 1_000_000_000, 5), (5, 1_500_000_000, 5)
    assert Timing(concurrency=1, gc_time_s=0.5, gc_count=2) == (
        assemble(window, device_done=True).timing
    )
    window.garbage_end = None
    assert Timing(concurrency=1) == assemble(window, device_done=True).timing


def test_times_by_the_device(device, gpu):
    """Once it is done: what it computed, what it waited for, and how long the device was idle."""
    closed_window(gpu)
    device.clock.advance(2)
    window = open_window(gpu)
    device.launch(0.25)
    window.close()
    assert not is_done(window)
    device.complete()
    assert is_done(window)
    assert assemble(window, device_done=True).timing == Timing(
        device_time_s=close(0.25), queue_time_s=0.0, idle_time_s=close(2.0), concurrency=1
    )


def test_a_nested_window_has_no_idle_time(device, gpu):
    """Inside another inference there is no gap to speak of."""
    first = closed_window(gpu)
    device.clock.advance(2)
    outer = open_window(gpu, takes_steps=True)
    nested = open_window(gpu, nested=True)
    device.launch(0.25)
    nested.close()
    outer.close()
    device.complete()
    assert [True, True] == [is_done(first), is_done(nested)]  # the first one ties the clocks
    assert Timing(device_time_s=close(0.25), queue_time_s=0.0) == (
        assemble(nested, device_done=True).timing
    )


def test_no_idle_time_while_another_is_open(device, gpu):
    """The gap before the first is none of the second's."""
    closed_window(gpu)
    device.clock.advance(2)
    first = open_window(gpu)
    device.clock.advance(1)
    second = open_window(gpu)
    second.close()
    first.close()
    device.complete()
    assert [True, True] == [is_done(first), is_done(second)]
    assert [close(2.0), 0.0] == [
        assemble(window, device_done=True).timing.idle_time_s for window in (first, second)
    ]


def test_a_device_that_is_not_done_has_no_times(device, gpu):
    """As at the end of a process that waits no longer."""
    window = open_window(gpu)
    device.launch(0.25)
    window.close()
    assert not is_done(window)
    assert Timing(concurrency=1) == assemble(window, device_done=False).timing
    device.complete()


def test_done_without_an_end_event(device, gpu):
    """Where the end was in a capture there is nothing to wait for, and no device time."""
    window = open_window(gpu)
    with device.capturing():
        window.close()
    assert is_done(window)
    assert Timing(concurrency=1) == assemble(window, device_done=True).timing


def test_not_done_while_a_capture_is_open(gpu):
    """The driver is asked nothing that could break it."""
    window = closed_window(gpu)
    graph = torch.cuda.CUDAGraph()
    capture.gate.opened(graph)
    try:
        assert not is_done(window)
    finally:
        capture.gate.closed(graph)
    assert is_done(window)


def test_not_done_while_a_counted_call_runs():
    """A wait that belongs to it is counted before the record is made."""
    window = closed_window(host())
    turn = window.counters.enter()
    assert not is_done(window)
    del turn
    assert is_done(window)


def test_a_device_that_is_lost_costs_no_record(gpu):
    """It counts as done, without its times."""
    window = closed_window(gpu)
    window.runtime_device.timeline.times = None  # raises where it is called
    assert is_done(window)
    assert {"device events": 1} == dict(guard.faults)
    assert Timing(concurrency=1) == assemble(window, device_done=True).timing
    guard.forget()


def contributed(contributor, window, *, device_done=True):
    """The draft of a window with what one contributor adds."""
    draft = assemble(window, device_done=device_done)
    contributor.contribute(window, draft)
    return draft


def test_memory_of_the_allocator(gpu):
    """Levels at both ends, the peak between them, and what the device holds."""
    window = closed_window(gpu)
    window.memory_start, window.memory_end = MemoryReading(100, 500, 1), MemoryReading(300, 700, 3)
    window.peak_holder = PeakHolder(600)
    gpu.limit_bytes = 1000
    assert contributed(AllocatorMemory(), window).memory == Memory(
        allocated_start_bytes=100,
        allocated_end_bytes=300,
        peak_bytes=600,
        peak_increase_bytes=500,
        reserved_bytes=700,
        limit_bytes=1000,
        utilization=0.6,
        allocation_retries=2,
    )
    assert (300, 700) == (gpu.allocated_bytes, gpu.reserved_bytes)


def test_no_utilization_of_a_device_of_unknown_size(gpu):
    """A share of what is not known is not known."""
    window = closed_window(gpu)
    gpu.limit_bytes = None
    memory = contributed(AllocatorMemory(), window).memory
    assert (None, None) == (memory.limit_bytes, memory.utilization)


@pytest.mark.parametrize("missing", ["memory_start", "memory_end", "peak_holder"])
def test_memory_that_was_not_read(gpu, missing):
    """No part of it is guessed; the size of an allocation that failed is known by itself."""
    window = closed_window(gpu)
    setattr(window, missing, None)
    assert contributed(AllocatorMemory(), window).memory is None
    window.oom_requested_bytes = 4096
    assert Memory(oom_requested_bytes=4096) == contributed(AllocatorMemory(), window).memory


def test_waits_and_copies():
    """What was counted; afterwards nothing is counted for it any more."""
    window = closed_window(host())
    window.counters.wait(SyncCall.ITEM, 2_000_000)
    window.counters.copy(Direction.H2D, 64, pageable=True)
    draft = contributed(WaitsAndCopies(), window)
    assert (1, 0.002, "item") == (
        draft.syncs.total,
        draft.syncs.stalled_s,
        draft.syncs.longest_kind,
    )
    h2d = Transfer(total=1, nbytes=64, pageable_bytes=64, weight_bytes=0)
    assert Transfers(h2d=h2d) == draft.transfers
    assert not window.counters.enter()


def test_neither_waits_nor_copies():
    """The groups are absent."""
    draft = contributed(WaitsAndCopies(), closed_window(host()))
    assert (None, None) == (draft.syncs, draft.transfers)


class Meter:
    """A meter that knows one thing."""

    def __init__(self, *, settled):
        self._settled = settled

    def settled(self, events):
        return self._settled

    def usage(self, events):
        return Usage(energy_j=1.5)


def test_the_share_of_a_device(device, gpu):
    """What the meter knows, where the inference has a device time."""
    gpu.meter = Meter(settled=True)
    window = closed_window(gpu)
    device.complete()
    assert is_done(window)
    assert Usage(energy_j=1.5) == contributed(DeviceShare(), window).usage
    assert contributed(DeviceShare(), window, device_done=False).usage is None


def test_a_share_is_waited_for(gpu):
    """Until the meter's samples cover it; without a meter or an end there is none to wait for."""
    share, window = DeviceShare(), closed_window(gpu)
    assert share.settled(window)
    gpu.meter = Meter(settled=False)
    assert not share.settled(window)
    gpu.meter = Meter(settled=True)
    assert share.settled(window)
    gpu.meter, window.end_event = Meter(settled=False), None
    assert share.settled(window)
