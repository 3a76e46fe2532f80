"""Who is open on a device, and how long it was idle before."""

import sys
import threading

from warpspan.probes.runtime_device import RuntimeDevice, host_idle_s
from warpspan.records import Device, DeviceState

S = 1_000_000_000


class Inferences:
    """A device, and a new inference each time one enters."""

    def __init__(self):
        self.device = RuntimeDevice(Device("cpu"))

    def enter(self):
        inference = object()
        return inference, self.device.enter(inference)

    def leave(self, entered, ended_ns):
        return self.device.leave(*entered, ended_ns)


def runtime_device():
    return Inferences()


def idle_s(entered, began_ns):
    return host_idle_s(entered[1], began_ns)


def test_alone():
    """The first inference knows of no gap before it; the second measures it."""
    cpu = runtime_device()
    first = cpu.enter()
    assert 1 == cpu.leave(first, ended_ns=2 * S)
    second = cpu.enter()
    assert None is idle_s(first, 1 * S)
    assert 3.0 == idle_s(second, 5 * S)
    assert 1 == cpu.leave(second, ended_ns=6 * S)


def test_overlapping():
    """Each counts all that were open at some time while it was; overlap is no idle time."""
    cpu = runtime_device()
    a = cpu.enter()
    b = cpu.enter()
    assert DeviceState(Device("cpu"), 2, None, None) == cpu.device.state
    assert 2 == cpu.leave(b, ended_ns=2 * S)
    c = cpu.enter()
    assert 3 == cpu.leave(a, ended_ns=3 * S)
    assert 2 == cpu.leave(c, ended_ns=4 * S)
    assert 0 == cpu.device.open
    assert (None, 0.0) == (idle_s(b, 1 * S), idle_s(c, 2 * S + 1))


def test_a_long_inference_around_a_short_one():
    """The gap before the long one is that before its own begin, though the short one ended first."""
    cpu = runtime_device()
    cpu.leave(cpu.enter(), ended_ns=1 * S)
    long = cpu.enter()
    short = cpu.enter()
    cpu.leave(short, ended_ns=6 * S)
    cpu.leave(long, ended_ns=9 * S)
    after = cpu.enter()
    assert (2.0, 0.0, 1.0) == (
        idle_s(long, 3 * S),
        idle_s(short, 5 * S),
        idle_s(after, 10 * S),
    )


def test_an_end_that_is_reported_late_does_not_turn_the_clock_back():
    """The latest end counts, whatever the order in which ends are counted."""
    cpu = runtime_device()
    a, b = cpu.enter(), cpu.enter()
    cpu.leave(a, ended_ns=9 * S)
    cpu.leave(b, ended_ns=8 * S)
    assert 1.0 == idle_s(cpu.enter(), 10 * S)


def test_one_that_was_interrupted():
    """It is counted out once, however often it leaves, and has no concurrency without its ticket."""
    cpu = RuntimeDevice(Device("cpu"))
    cpu.enter(other := object())
    cpu.enter(interrupted := object())
    assert (None, None) == (
        cpu.leave(interrupted, None, 1 * S),
        cpu.leave(interrupted, None, 1 * S),
    )
    assert 1 == cpu.open
    cpu.leave(other, None, 2 * S)
    assert 0 == cpu.open


def test_threads_at_once():
    """None of the inferences of several threads is lost, and none stays open."""
    cpu = runtime_device()
    begin = threading.Barrier(4)

    def infer():
        begin.wait()
        for _ in range(50_000):
            cpu.leave(cpu.enter(), ended_ns=1 * S)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=infer) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert (0, 200_000) == (cpu.device.open, cpu.device.begun)
