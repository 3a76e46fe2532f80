"""The gate to the driver, and the capture mode of the thread that asks."""

import ctypes
import threading

import pytest

from warpspan.probes import capture


class Graph:
    pass


class Driver:
    """In place of cuThreadExchangeStreamCaptureMode: one mode a thread."""

    def __init__(self, monkeypatch, status=0):
        self.local = threading.local()
        self.status = status
        monkeypatch.setattr(capture, "_driver", lambda: self)

    @property
    def mode(self):
        return getattr(self.local, "mode", 0)

    def __call__(self, argument):
        value = ctypes.cast(argument, ctypes.POINTER(ctypes.c_int)).contents
        if self.status == 0:
            value.value, self.local.mode = self.mode, value.value
        return self.status


@pytest.fixture
def gate():
    return capture.CaptureGate()


def test_a_question_is_asked_in_the_relaxed_mode(gate, monkeypatch):
    """And the thread's own mode is back afterwards, also where the question fails."""
    driver = Driver(monkeypatch)
    driver.local.mode = 1
    assert 2 == gate.ask(lambda: driver.mode)
    with pytest.raises(ZeroDivisionError):
        gate.ask(lambda: 1 / 0)
    assert 1 == driver.mode


def test_a_driver_that_is_not_initialised(gate, monkeypatch):
    """It refuses the mode; then there is no capture either."""
    Driver(monkeypatch, status=3)
    assert "answer" == gate.ask(lambda: "answer")


def test_a_capture_that_never_ends_is_not_obeyed_for_ever(gate, monkeypatch):
    """Only where the relaxed mode keeps our questions from mattering to it."""
    now = [100.0]
    monkeypatch.setattr(capture.time, "monotonic", lambda: now[0])
    graph = Graph()
    gate.opened(graph)
    now[0] += 3600.0
    assert gate.ask(lambda: True) is None
    Driver(monkeypatch)
    assert gate.ask(lambda: True)
    gate.opened(graph)
    assert gate.ask(lambda: True) is None


def test_a_caller_does_not_wait_for_another_thread(gate):
    """It goes without the answer."""
    asking, done = threading.Event(), threading.Event()

    def question():
        asking.set()
        return done.wait(30)

    thread = threading.Thread(target=gate.ask, args=(question,))
    thread.start()
    assert asking.wait(30)
    assert gate.ask(lambda: True, wait=False) is None
    done.set()
    thread.join(30)
    assert gate.ask(lambda: True, wait=False)


def test_a_capture_may_begin_inside_a_question(gate):
    """In a signal handler or a finaliser, on the thread that asks."""
    graph = Graph()
    assert "answer" == gate.ask(lambda: [gate.opened(graph), gate.closed(graph), "answer"][-1])


def test_a_forked_child_begins_anew(gate):
    """Its copy of the lock may be taken, and the capture is the parent's."""
    graph = Graph()
    gate.opened(graph)
    gate.forget()
    assert gate.ask(lambda: True)
