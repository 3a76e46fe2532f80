"""Times of steps: by the device's clock where all of it is known, else by the host's."""

from __future__ import annotations

import pytest

from tests.support.windows import host, open_window
from warpspan import guard
from warpspan.finish.assemble import assemble
from warpspan.finish.step_figures import StepTimes
from warpspan.finish.step_times import StepFigures, count, step_times
from warpspan.probes import capture, clock
from warpspan.records import Loop, Phases, Steps, StepTime
from warpspan.records.phases import DECODE, PHASES, PREFILL, STEP
from warpspan.runtime.steps import STEP_LIMIT, StepTimeline
from warpspan.testing.clock import ScriptedClock

S = 1_000_000_000


class Event:
    """A CUDA event that the device passed at a time in milliseconds."""

    def __init__(self, at_ms):
        self.at_ms = at_ms

    def elapsed_time(self, other):
        return other.at_ms - self.at_ms


class Timeline:
    """The events of a device."""

    def __init__(self, ends_ms=()):
        self._ends = [Event(at_ms) for at_ms in ends_ms]
        self.back = []

    def mark_on(self, stream):
        return self._ends.pop(0)

    def take_back(self, events):
        self.back += events


@pytest.fixture(autouse=True)
def faults():
    """The faults of one test."""
    guard.forget()
    yield guard.faults
    guard.forget()


def on_host(*steps):
    """A timeline of a host, with steps as (phase, begin, end) in seconds of its clock."""
    timeline = StepTimeline(10 * S, None)
    for phase, began_s, ended_s in steps:
        timeline.add(phase, round(began_s * S), round(ended_s * S), None)
    return timeline


def on_device(*steps):
    """A timeline of a device whose steps begin at 11 s and take 1 s on the host.

    Args:
        steps: phase, and begin and end by the device in milliseconds, None where there is no event.
    """
    device = Timeline([end for _, begin, end in steps if begin is not None])
    timeline = StepTimeline(10 * S, device)
    for number, (phase, begin, _) in enumerate(steps, 11):
        mark = None if begin is None else ("stream", Event(begin))
        timeline.add(phase, number * S, (number + 1) * S, mark)
    return timeline, device


def test_no_steps():
    """Neither a count nor times."""
    timeline = on_host()
    assert count(timeline) is None
    assert StepTimes(PHASES, [], [], [], "host", 0.0) == step_times(timeline, None, None)


def test_count():
    """How many, the time to the end of the first, and the time inside them."""
    assert Steps(2, 3.0, 2.5) == count(on_host((PREFILL, 11, 13), (DECODE, 14, 14.5)))


def test_count_on_a_device():
    """The host's own times are counted there, too."""
    timeline, _ = on_device((PREFILL, 100.0, 400.0), (DECODE, None, None))
    assert Steps(2, 2.0, 2.0) == count(timeline)


def test_the_clock_of_the_host():
    """Since the begin of the window."""
    timeline = on_host((PREFILL, 11, 13), (DECODE, 14, 14.5))
    expected = StepTimes(PHASES, [PREFILL, DECODE], [1.0, 4.0], [3.0, 4.5], "host", 0.0)
    assert expected == step_times(timeline, None, None)


def test_the_clock_of_the_device():
    """Since the start event, beside the time that this one waited; all events go back."""
    timeline, device = on_device((PREFILL, 1100.0, 1400.0), (DECODE, 1500.0, 1750.0))
    found = step_times(timeline, Event(1000.0), 0.5)
    assert StepTimes(PHASES, [PREFILL, DECODE], [0.1, 0.5], [0.4, 0.75], "device", 0.5) == found
    assert [1100.0, 1400.0, 1500.0, 1750.0] == [event.at_ms for event in device.back]


def test_a_queue_time_that_is_not_known():
    """It is not guessed: the device's times stand without an offset to the host's."""
    timeline, _ = on_device((STEP, 1100.0, 1400.0))
    found = step_times(timeline, Event(1000.0), None)
    assert StepTimes(PHASES, [STEP], [0.1], [0.4], "device", None) == found


def test_one_event_is_missing():
    """Two clocks can't be mixed: all times are the host's. What events there are go back."""
    timeline, device = on_device((PREFILL, None, None), (DECODE, 1500.0, 1750.0))
    expected = StepTimes(PHASES, [PREFILL, DECODE], [1.0, 2.0], [2.0, 3.0], "host", 0.0)
    assert expected == step_times(timeline, Event(1000.0), 0.5)
    assert [1500.0, 1750.0] == [event.at_ms for event in device.back]


def test_a_device_that_is_not_done():
    """Without its start event the host's clock is the only one."""
    timeline, _ = on_device((STEP, 1100.0, 1400.0))
    found = step_times(timeline, None, None)
    assert StepTimes(PHASES, [STEP], [1.0], [2.0], "host", 0.0) == found


def test_a_device_that_can_not_be_read(faults):
    """The fault is counted, and the host's times stand in."""

    class Start:
        def elapsed_time(self, other):
            raise ValueError("not recorded")

    timeline, _ = on_device((STEP, 1100.0, 1400.0))
    found = step_times(timeline, Start(), 0.5)
    assert StepTimes(PHASES, [STEP], [1.0], [2.0], "host", 0.0) == found
    assert {"device events": 1} == dict(faults)


def test_while_a_capture_is_open():
    """No time is asked for, and the events go back."""
    timeline, device = on_device((STEP, 1100.0, 1400.0))
    graph = on_host()  # anything that can be held weakly
    capture.gate.opened(graph)
    try:
        found = step_times(timeline, Event(1000.0), 0.5)
    finally:
        capture.gate.closed(graph)
    assert StepTimes(PHASES, [STEP], [1.0], [2.0], "host", 0.0) == found
    assert 2 == len(device.back)


def test_many_events_are_asked_in_slices(monkeypatch):
    """The GIL is let go after each; the times are the same."""
    pauses = []
    monkeypatch.setattr(clock, "yield_gil", lambda: pauses.append(None))
    steps = [(STEP, 1000.0 + number, 1000.5 + number) for number in range(200)]
    timeline, _ = on_device(*steps)
    found = step_times(timeline, Event(1000.0), 0.0)
    assert [number / 1e3 for number in range(200)] == found.begins_s
    assert [(number + 0.5) / 1e3 for number in range(200)] == found.ends_s
    assert 4 == len(pauses)


def test_steps_beyond_the_limit():
    """They are counted and their time is summed; of decode steps the end of the last is known."""
    timeline = on_host(*((DECODE, 11 + n, 11.5 + n) for n in range(STEP_LIMIT + 3)))
    assert Steps(STEP_LIMIT + 3, 1.5, (STEP_LIMIT + 3) / 2) == count(timeline)
    found = step_times(timeline, None, None)
    assert (STEP_LIMIT, 3.0) == (len(found.ends_s), found.over_decode_s)


def test_steps_of_no_role_beyond_the_limit():
    """They are counted, and have no share in what decoding took."""
    timeline = on_host(*((STEP, 11, 12) for _ in range(STEP_LIMIT + 1)))
    assert STEP_LIMIT + 1 == count(timeline).total
    assert 0.0 == step_times(timeline, None, None).over_decode_s


def test_names_of_the_users_own():
    """They have numbers behind the known ones."""
    timeline = StepTimeline(10 * S, None)
    timeline.add(timeline.phase("resample"), 11 * S, 12 * S, None)
    expected = StepTimes((*PHASES, "resample"), [len(PHASES)], [1.0], [2.0], "host", 0.0)
    assert expected == step_times(timeline, None, None)


@pytest.fixture
def contributed(monkeypatch):
    """What is added to the draft of a window on the host with one step of a second."""
    scripted = ScriptedClock()
    monkeypatch.setattr(clock, "host_ns", scripted.now_ns)

    def contribute(*, takes_steps, details=False):
        window = open_window(host(), "chat", takes_steps=takes_steps)
        if takes_steps:
            step = window.step(None, None)
            scripted.advance(1)
            step.close()
        window.close()
        draft = assemble(window, device_done=False)
        StepFigures(details=details).contribute(window, draft)
        return draft.steps, draft.loop

    return contribute


def test_a_module_call_has_no_steps(contributed):
    """Neither count nor figures."""
    assert (None, None) == contributed(takes_steps=False)


@pytest.mark.parametrize("details", [False, True])
def test_steps_and_their_figures(contributed, details):
    """Their count and time, and one by one where that is wanted."""
    steps, loop = contributed(takes_steps=True, details=details)
    phases = Phases(source="host", step_mean_s=1.0, step_p50_s=1.0, step_p99_s=1.0, step_max_s=1.0)
    each = (StepTime("step", 0.0, 1.0),) if details else ()
    assert (Steps(1, 1.0, 1.0), Loop(phases, steps=each)) == (steps, loop)
