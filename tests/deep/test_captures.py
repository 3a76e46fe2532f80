"""When the profiler runs and which inferences are in it, with a scripted profiler."""

from __future__ import annotations

import gc
import os
import threading
import time
import tracemalloc
from collections import Counter, deque

import pytest
from kineto_trace import KinetoTrace

import warpspan
from tests.support.windows import closed_window, host, open_window
from warpspan import guard, session
from warpspan.deep import captures as captures_module
from warpspan.deep import trace_file
from warpspan.deep.captures import Captures
from warpspan.probes import clock
from warpspan.records import Profile
from warpspan.testing import InMemoryTelemetry


class Profiler:
    """A source that records one operator for each window that it is told of."""

    def __init__(self):
        self.running = False
        self.starts = 0
        self.reason = None
        self.fails = False
        self.thread = None
        self.ran = threading.Event()

    def obstacle(self):
        return self.reason

    def start(self):
        if self.fails:
            raise RuntimeError("no driver")
        assert not self.running
        self.thread = threading.current_thread()
        self.running = True
        self.starts += 1
        self.ran.set()

    def stop(self, path):
        assert self.running
        self.running = False
        self.ran.clear()
        if path is not None:
            path.write_text(KinetoTrace(baseTimeNanoseconds=0).json())


def wait_until(captures):
    """Until a capture records."""
    deadline = time.monotonic() + 30
    while captures.current is None:
        assert time.monotonic() < deadline


class Bench:
    """Captures over a queue of windows that nobody finishes."""

    def __init__(self, directory=None):
        self.profiler = Profiler()
        self.queue = deque()
        self.lock = threading.RLock()
        self.captures = Captures(
            self.profiler,
            self.look,
            lambda: True,
            lambda _: ("t", "s", ""),
            directory,
        )

    def look(self, function):
        """What a function makes of the windows."""
        with self.lock:
            return function(list(self.queue))

    def run(self):
        """An inference that begins and ends now."""
        window = closed_window(host(), model="Tiny")
        self.queue.append(window)
        return window

    def wait_until_recording(self):
        """Until the profiler runs."""
        wait_until(self.captures)

    def wait(self):
        """Until nothing is under way."""
        assert self.captures._idle.wait(30)


@pytest.fixture
def bench(monkeypatch):
    """A bench without faults of ours."""
    monkeypatch.setattr(captures_module, "_LOOK_S", 0.0005)
    guard.forget()
    made = Bench()
    yield made
    made.captures.stop(30)
    assert not made.profiler.running
    assert {} == dict(guard.faults)


def test_a_scheduled_capture_takes_so_many(bench):
    """It ends after three, on its own thread, and those before have nothing of it."""
    before = bench.run()
    bench.captures.request(3)
    assert bench.profiler.ran.wait(30)
    bench.wait_until_recording()
    inside = [bench.run() for _ in range(3)]
    bench.wait()
    assert [None, *[Profile()] * 3] == [one.profile for one in (before, *inside)]
    assert "warpspan-capture" == bench.profiler.thread.name
    assert {"recorded": 1} == dict(bench.captures.outcomes)


def test_no_more_than_so_many(bench):
    """What comes on top until the profiler is off has no figures, and is known to be slowed."""
    bench.captures.request(2)
    bench.wait_until_recording()
    with bench.lock:
        inside = [bench.run() for _ in range(3)]
    bench.wait()
    assert [Profile(), Profile(), None] == [one.profile for one in inside]
    assert all(map(bench.captures.was_traced, inside))


def test_one_after_the_other(bench):
    """While a capture runs, a further one is not begun."""
    bench.captures.request(3)
    assert bench.profiler.ran.wait(30)
    bench.captures.request(3)
    bench.captures.pause(30)
    assert 1 == bench.profiler.starts


def test_records_wait_for_their_trace(bench):
    """An inference in a capture is held back until the trace is read, others are not."""
    before = bench.run()
    order = bench.captures.open_block()
    inside = bench.run()
    assert (False, True) == (bench.captures.holds(before), bench.captures.holds(inside))
    bench.captures.close_block(order)
    bench.wait()
    assert not bench.captures.holds(inside)


def test_blocks_that_overlap_are_one(bench):
    """The profiler runs until the last of them is closed."""
    first = bench.captures.open_block()
    second = bench.captures.open_block()
    bench.captures.close_block(first)
    inside = bench.run()
    bench.captures.close_block(second)
    bench.wait()
    assert (first, 1, Profile()) == (second, bench.profiler.starts, inside.profile)


def test_one_that_is_open_at_the_end_is_not_in_it(bench):
    """What ends after the profiler has only a part of its work in the trace."""
    order = bench.captures.open_block()
    window = open_window(host())
    bench.captures.close_block(order)
    bench.wait()
    window.close()
    bench.queue.append(window)
    assert (False, True) == (bench.captures.holds(window), bench.captures.was_traced(window))
    assert {"empty": 1} == dict(bench.captures.outcomes)


def test_a_flush_ends_a_capture(bench):
    """Somebody waits: what is there is read."""
    bench.captures.request(3)
    assert bench.profiler.ran.wait(30)
    bench.wait_until_recording()
    inside = bench.run()
    bench.captures.hurry()
    bench.wait()
    assert Profile() == inside.profile


def test_an_obstacle_is_said_once(bench, caplog):
    """The block runs without a profiler, and the log has the reason once."""
    bench.profiler.reason = "nsys is here"
    for _ in range(2):
        bench.captures.close_block(bench.captures.open_block())
        bench.wait()
    assert {"yielded": 2} == dict(bench.captures.outcomes)
    assert ["warpspan: no capture: nsys is here"] == [
        record.getMessage() for record in caplog.records
    ]


def test_a_profiler_that_can_not_start(bench):
    """A fault of the source costs the capture alone."""
    bench.profiler.fails = True
    bench.captures.close_block(bench.captures.open_block())
    bench.wait()
    assert ({"failed": 1}, {"capture": 1}) == (dict(bench.captures.outcomes), dict(guard.faults))
    guard.forget()


def test_a_profiler_of_the_program_waits_until_ours_is_off(bench):
    """When `stop_now` returns, it does not run any more; its trace is not read."""
    bench.captures.open_block()
    inside = bench.run()
    bench.captures.stop_now()
    assert not bench.profiler.running
    bench.wait()
    assert (None, {"yielded": 1}) == (inside.profile, dict(bench.captures.outcomes))


def test_a_forked_child_of_one_that_captured_makes_none(bench):
    """The profiler's state did not come along; a child of another process captures."""
    bench.captures.start_anew()
    order = bench.captures.open_block()
    bench.captures.close_block(order)
    bench.wait()
    bench.captures.start_anew()
    bench.captures.close_block(bench.captures.open_block())
    bench.captures.request(3)
    assert 1 == bench.profiler.starts


def test_a_thousand_captures_take_no_memory(bench):
    """Nothing of a capture stays: the memory after a thousand is that after a hundred."""

    def capture_once():
        order = bench.captures.open_block()
        bench.run()
        bench.captures.close_block(order)
        bench.wait()
        bench.queue.clear()

    for _ in range(100):
        capture_once()
    tracemalloc.start()
    try:
        for _ in range(900):
            capture_once()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000
    assert {"recorded": 1000} == dict(bench.captures.outcomes)


def test_the_oldest_traces_make_room(tmp_path, monkeypatch):
    """The directory keeps so many of this process, the newest ones."""
    monkeypatch.setattr(trace_file, "KEPT", 4)
    bench = Bench(str(tmp_path / "traces"))
    paths = []
    for _ in range(7):
        order = bench.captures.open_block()
        window = bench.run()
        bench.captures.close_block(order)
        bench.wait()
        paths.append(window.profile.trace)
    bench.captures.stop(30)
    assert sorted(paths[3:]) == sorted(str(path) for path in (tmp_path / "traces").iterdir())


def test_a_directory_that_can_not_be_written(tmp_path, caplog):
    """The figures are there without a path, and the log says why."""
    (tmp_path / "file").write_text("")
    bench = Bench(str(tmp_path / "file"))
    order = bench.captures.open_block()
    window = bench.run()
    bench.captures.close_block(order)
    bench.wait()
    bench.captures.stop(30)
    assert Profile() == window.profile
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("warpspan: no capture: can't write the trace of a capture: ")


class Kernels(Profiler):
    """A source whose trace has a kernel of 3 ms on cuda:0 for each of the windows."""

    def __init__(self, users, environ, *, operators):
        super().__init__()
        del users, environ, operators
        Kernels.latest = self

    def stop(self, path):
        super().stop(path)
        if path is None:
            return
        trace = KinetoTrace(baseTimeNanoseconds=0)
        for number, window in enumerate(warpspan.instrumentor.active_session().finisher._queue):
            launch_us = window.start_ns // 1000 + 1
            trace.work(launch_us + 500 + number, 3000, launch=launch_us, tid=os.getpid())
        path.write_text(trace.json())


@pytest.fixture
def kernels(device, monkeypatch):
    """A scripted device, with a scripted profiler."""
    monkeypatch.setattr(session, "KinetoSource", Kernels)
    return device


def run(device):
    """An inference of 10 ms on the device, and a little time on the host, which launches it."""
    from tests.support.gpu import Runs

    model = Runs(device)
    device.clock.advance(0.001)
    model(lambda: device.clock.advance(0.001))
    device.clock.advance(0.05)
    device.complete()


def test_kernels_reach_the_span(kernels):
    """Inferences in the block have kernels, busy time, and how much the profiler slowed them."""
    with InMemoryTelemetry() as telemetry:
        with warpspan.capture():
            run(kernels)
        for _ in range(3):
            run(kernels)
        with warpspan.capture():
            run(kernels)
        records = telemetry.records()
        (event,) = telemetry.spans()[-1].events
    assert [True, False, False, False, True] == [one.profile is not None for one in records]
    first, last = records[0].profile, records[-1].profile
    assert (1, 0.003, 0.0, None, None) == first[:5]
    assert (1, 0.003, 0.0, 1.0, True) == last[:5]
    assert ("pytorch.profile", ("gemm",)) == (
        event.name,
        event.attributes["pytorch.kernel.top.names"],
    )


def test_a_signal_asks_for_a_capture(kernels):
    """With `deep_signal` the next inferences are profiled; the program's own handler runs too."""
    import signal

    came = Counter()
    former = signal.signal(signal.SIGUSR2, lambda *_: came.update(["signal"]))
    try:
        with InMemoryTelemetry(deep_signal="SIGUSR2") as telemetry:
            os.kill(os.getpid(), signal.SIGUSR2)
            assert Kernels.latest.ran.wait(30)
            wait_until(warpspan.instrumentor.active_session().captures)
            run(kernels)
            (record,) = telemetry.records()
        assert 1 == record.profile.kernel_count
        assert {"signal": 1} == dict(came)
    finally:
        signal.signal(signal.SIGUSR2, former)


def test_a_share_of_all(kernels):
    """With a share of 1 a capture begins after each inference that is in none."""
    with InMemoryTelemetry(deep="1") as telemetry:
        run(kernels)
        first = telemetry.records()
        assert Kernels.latest.ran.wait(30)
        wait_until(warpspan.instrumentor.active_session().captures)
        run(kernels)
        second = telemetry.records()
    assert (None, 1) == (first[0].profile, second[1].profile.kernel_count)


def test_without_captures_nothing_is_kept(kernels):
    """Off by default: no thread, no times of inferences, nothing on a span."""
    with InMemoryTelemetry() as telemetry:
        run(kernels)
        captures = warpspan.instrumentor.active_session().captures
        assert (None, None) == (telemetry.records()[0].profile, captures._thread)
    assert clock.host_ns() > 0
