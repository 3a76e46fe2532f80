"""The window: readings at its begin and its end, and what it is told in between."""

from __future__ import annotations

import threading

import pytest
import torch

from tests.support.windows import closed_window, host, open_window
from warpspan import guard
from warpspan.probes import clock, garbage
from warpspan.probes.memory import MemoryReading
from warpspan.probes.transfers import SEALED
from warpspan.runtime.scopes import NO_SCOPE, Skipped, current
from warpspan.runtime.steps import LoopScope, MarkedStep
from warpspan.runtime.window import disown


@pytest.fixture(autouse=True)
def nothing_open():
    """Each test begins and ends outside of every call."""
    assert current.get() is NO_SCOPE
    yield
    current.set(NO_SCOPE)


def test_readings_on_the_host(host_clock):
    """Begin and end on the clocks, and who else was open; the host has no events and no ledger."""
    cpu = host()
    wall_ns, now_ns = host_clock.wall_ns(), host_clock.now_ns()
    window = open_window(cpu)
    host_clock.advance(2)
    window.close()
    assert (wall_ns, now_ns, now_ns + 2_000_000_000, 1) == (
        window.start_ns,
        window.began_ns,
        window.ended_ns,
        window.concurrency,
    )
    assert (None, None, None, None) == (
        window.events,
        window.end_event,
        window.memory_start,
        window.memory_end,
    )


def test_readings_on_a_device(device, gpu):
    """Events around its work, and the allocator's levels and peak."""
    window = open_window(gpu)
    device.launch(0.5)
    kept = device.allocate(1024)
    device.free(device.allocate(2048))
    window.close()
    device.complete()
    assert 0.5 == pytest.approx(
        window.events.start.event.elapsed_time(window.end_event.event) / 1e3
    )
    start = window.memory_start.allocated
    assert (start + 1024, start + 3072) == (window.memory_end.allocated, window.peak_holder.peak)
    assert isinstance(window.memory_end, MemoryReading)
    device.free(kept)


def test_no_end_event_in_a_capture(device, gpu):
    """An event that was captured can't be read."""
    window = open_window(gpu)
    with device.capturing():
        window.close()
    assert window.end_event is None


def test_a_window_is_the_current_scope():
    """A module call's covers what is inside; one that takes steps looks at each call."""
    call, named = open_window(host()), open_window(host(), takes_steps=True)
    assert [(True, False), (False, True)] == [
        (window.covers, window.takes_steps) for window in (call, named)
    ]
    assert [False, True] == [call.is_current, named.is_current]
    named.close()
    call.close()
    assert (False, False, NO_SCOPE) == (named.takes_steps, call.covers, current.get())


def test_closed_twice():
    """It is handed on once, and counted out once."""
    closed, cpu = [], host()
    window = open_window(cpu, on_close=closed.append)
    window.close()
    ended_ns = window.ended_ns
    window.close()
    assert ([window], 0, ended_ns) == (closed, cpu.open, window.ended_ns)


def test_concurrency():
    """How many were open at some time while it was; one inside another is not a further one."""
    cpu = host()
    outer = open_window(cpu)
    nested = open_window(cpu, nested=True)
    other = open_window(cpu)
    for window in (other, nested, outer):
        window.close()
    assert [2, None, 2] == [window.concurrency for window in (outer, nested, other)]


class OwnError(Exception):
    """An error of the program's."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("private"), "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (OwnError("private"), f"{__name__}.OwnError"),
        (GeneratorExit(), None),
    ],
)
def test_an_error_is_kept_by_its_class(error, expected):
    """The message may hold anything, and a consumer that stops early is no error."""
    window = open_window(host())
    window.fail(error)
    window.close()
    assert (expected, None) == (window.error_type, window.oom_requested_bytes)
    assert not any("private" in str(value) for value in vars(window).values())


def test_the_size_of_an_allocation_that_failed():
    """It is the one thing that is taken from a message."""
    window = open_window(host())
    window.fail(torch.cuda.OutOfMemoryError("Tried to allocate 2.00 KiB. GPU 0 has"))
    window.close()
    assert 2048 == window.oom_requested_bytes


def test_an_error_without_a_text():
    """Its class is enough."""

    class MuteError(RuntimeError):
        def __str__(self):
            raise ValueError

    window = open_window(host())
    window.fail(MuteError())
    window.close()
    assert window.error_type.endswith("MuteError")
    assert window.oom_requested_bytes is None


def test_processor_time(monkeypatch):
    """The thread's own, for a span that is recorded."""
    times = iter([1_000_000_000, 3_500_000_000])
    monkeypatch.setattr(clock, "thread_ns", lambda: next(times))
    assert 2.5 == closed_window(host(), span=("span", True)).cpu_s
    assert closed_window(host(), span=("span", False)).cpu_s is None
    assert closed_window(host(), span=("span", True), cpu_time=False).cpu_s is None


def test_processor_time_of_another_thread():
    """A window that is closed elsewhere has none: two threads' clocks have no difference."""
    window = open_window(host(), span=("span", True))
    thread = threading.Thread(target=window.close)
    thread.start()
    thread.join(30)
    assert (None, False) == (window.cpu_s, window.open)


def test_collections_of_garbage(monkeypatch):
    """The counts at begin and end are kept as they are."""
    monkeypatch.setattr(garbage, "state", [(1, 2, 3)])
    window = open_window(host())
    monkeypatch.setattr(garbage, "state", [(4, 5, 3)])
    window.close()
    assert ((1, 2, 3), (4, 5, 3)) == (window.garbage_start, window.garbage_end)


def test_the_first_step_identifies():
    """Model and input are those of the first call inside, unless they were given."""
    window = open_window(host(), takes_steps=True)
    for model, seen in (("first", 2), ("second", 3)):
        window.step(model, seen).close()
    named = open_window(host(), model="given", seen=7, takes_steps=True)
    named.step("first", 2).close()
    assert [("first", 2), ("given", 7)] == [
        (window.model_or_name, window.seen),
        (named.model_or_name, named.seen),
    ]
    assert (None, 6) == (window.model, len(window.steps.times_ns))


def test_counters_are_made_once_and_sealed():
    """All threads count into the same; one that counted nothing is sealed with those that are."""
    window, quiet = closed_window(host()), closed_window(host())
    counters = window.counters
    assert (counters, counters) == (window.counters, window.seal())
    assert (SEALED, SEALED, None) == (quiet.seal(), quiet.counters, SEALED.enter())


class Broken:
    """A device that answers with errors from some time on."""

    capturing = False

    def __getattr__(self, name):
        def fail(*args):
            raise ValueError(name)

        return fail


def test_a_device_that_can_not_be_read():
    """The inference opens and closes without what the device would say; each fault is counted."""
    guard.forget()
    gpu = host()
    gpu.timeline = gpu.ledger = Broken()
    closed = []
    window = open_window(gpu, on_close=closed.append)
    window.events = window.peak_holder = object()
    window.close()
    assert ([window], 1, None, None) == (
        closed,
        window.concurrency,
        window.memory_end,
        window.end_event,
    )
    assert {"device events": 2, "memory": 2} == dict(guard.faults)
    guard.forget()


def test_disowned(gpu):
    """In a forked child nothing that is open covers, and its close touches no device."""
    closed, left = [], []
    window = open_window(gpu, on_close=closed.append, takes_steps=True)
    loop = LoopScope(window, lambda *_: 0)
    mark = MarkedStep(window, "decode")
    skipped = Skipped()
    disown(current.get(), left.append)
    assert [False] * 6 == [
        skipped.covers,
        mark.takes_steps,
        loop.takes_steps,
        loop.open,
        window.takes_steps,
        window.covers,
    ]
    assert (None, None, None) == (
        window.events,
        window.peak_holder,
        window.steps.device_timeline,
    )
    window.close()
    assert ([], [window], None) == (closed, left, window.end_event)
