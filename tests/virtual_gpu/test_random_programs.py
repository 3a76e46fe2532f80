"""Random programs: every reading on a span against the device's own timeline.

Times are held between bounds that follow from the timeline and from clocks that the test reads
around each call, so that a host that is preempted widens the bounds and breaks nothing.
"""

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings

from programs import PROGRAMS, prepare, run
from virtual_gpu import Kind, VirtualGpu

pytestmark = [pytest.mark.gpu]

EVENT_S = 2e-6  # events give milliseconds as a float
ANCHOR_S = 3e-3  # how well the device's clock is known on the host's
WAYS = {"h2d": Kind.H2D, "d2h": Kind.D2H}


def between(low, value, high, slack=EVENT_S):
    assert low - slack <= value <= high + slack, (low, value, high)


def started(truth, work):
    """Earliest and latest time at which the inference began on its stream."""
    low = max(truth.host_begin_ns, truth.tail_ns)
    return low, max(low, min((line.begin_ns for line in work), default=truth.host_end_ns))


def ended(truth, work):
    """Earliest and latest time at which it ended there."""
    tail = max((line.end_ns for line in work), default=truth.tail_ns)
    return max(tail, truth.host_begin_ns), max(tail, truth.host_end_ns)


def check_times(record, truth, work, previous):
    start, end = started(truth, work), ended(truth, work)
    timing = record.timing
    between((end[0] - start[1]) / 1e9, timing.device_time_s, (end[1] - start[0]) / 1e9)
    queue_s = [(at - truth.host_begin_ns) / 1e9 for at in start]
    between(queue_s[0], timing.queue_time_s or 0.0, queue_s[1], ANCHOR_S)
    if previous is None:
        return end
    between(
        max(0, start[0] - previous[1]) / 1e9,
        timing.idle_time_s,
        max(0, start[1] - previous[0]) / 1e9,
    )
    return max(previous[0], end[0]), max(previous[1], end[1])


def check_copies(record, lines):
    for way, kind in WAYS.items():
        copies = [line for line in lines if line.kind is kind and not line.replayed]
        found = getattr(record.transfers, way) if record.transfers else None
        expected = (
            len(copies),
            sum(line.bytes for line in copies),
            sum(line.bytes for line in copies if line.pageable),
        )
        assert expected == (
            (found.total, found.nbytes, found.pageable_bytes) if found else (0,) * 3
        )


def check_waits(record, truth):
    kinds = record.syncs.kinds if record.syncs else ()
    waits = {kind.kind: kind.total for kind in kinds}
    assert truth.waits == waits
    for kind in kinds:
        assert kind.stalled_s <= truth.waited_s[kind.kind]


@pytest.fixture(scope="module")
def models():
    """The same for all programs: an older one's release would move the peak of a later one."""
    with torch.inference_mode():
        return prepare(VirtualGpu())


@given(program=PROGRAMS)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
@torch.inference_mode()
def test_spans_say_what_the_device_did(gpu, telemetry, models, program):
    """Device, queue and idle time, copies, waits and the peak of each inference; and their sums."""
    before = len(telemetry.records())
    gpu.forget()
    truths = run(gpu, models, program)
    records = telemetry.records()[before:]
    timeline = gpu.timeline()
    assert len(truths) == len(records)
    previous = {}
    for record, truth in zip(records, truths, strict=True):
        lines = timeline[truth.first : truth.last]
        lines = [line for line in lines if line.device == truth.device]
        work = [line for line in lines if line.stream in truth.streams and line.kind < Kind.WAIT]
        assert truth.device == record.device.ordinal
        previous[truth.device] = check_times(record, truth, work, previous.get(truth.device))
        check_copies(record, lines)
        check_waits(record, truth)
        assert truth.peak_bytes == record.memory.peak_bytes
