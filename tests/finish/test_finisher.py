"""The finisher: bounded, in order, never in the caller's way."""

import threading

import pytest

from tests.support.waiting import wait_until
from warpspan import guard
from warpspan.finish import finisher as finisher_module
from warpspan.finish.finisher import Finisher


class Job:
    """Stands for a closed window."""

    def __init__(self, name, done=True, settled=True):
        self.name = name
        self.done = done
        self.settled = settled


class Jobs:
    """Stands for the pipeline: asks the jobs, and hands them to a function."""

    def __init__(self, finish):
        self._finish = finish

    def is_done(self, job):
        return job.done

    def is_settled(self, job):
        return job.settled

    def finish(self, job, *, device_done):
        self._finish(job, device_done)


@pytest.fixture
def finished():
    return []


@pytest.fixture
def finisher(finished):
    made = Finisher(Jobs(lambda job, done: finished.append((job.name, done))), 4, 0.0)
    yield made
    made.stop()
    guard.forget()


def asleep(finisher):
    """Keep the thread out of it: as if it were awake already, so that push rings no bell."""
    finisher._asleep = False
    return finisher


def test_flush_finishes_in_the_order_of_the_ends(finisher, finished):
    """What was pushed is finished when flush returns."""
    for name in "abc":
        finisher.push(Job(name))
    assert finisher.flush(60.0)
    assert [("a", True), ("b", True), ("c", True)] == finished


def test_the_thread_finishes_by_itself(finished):
    """Without a flush: the first push starts the thread."""
    arrived = threading.Event()
    made = Finisher(Jobs(lambda job, done: arrived.set()), 4, 0.0)
    made.push(Job("a"))
    assert arrived.wait(60.0)
    made.stop()


@pytest.mark.parametrize(
    ("waiting", "behind", "pause_s"),
    [(False, False, 0.01), (True, False, 0.01), (False, True, 0.001), (True, True, 0.0)],
)
def test_it_works_on_while_a_caller_waits_for_its_device(waiting, behind, pause_s):
    """Else it pauses between two slices, so that a caller gets the GIL."""
    made = Finisher(Jobs(lambda job, done: None), 4, 0.0, waiting=lambda: waiting)
    assert pause_s == made._pause_s(behind=behind)


def test_it_wakes_again_after_a_quiet_time(finished, monkeypatch):
    """The thread sleeps when nothing comes and is rung awake by the next one."""
    monkeypatch.setattr("warpspan.finish.finisher._QUIET_ROUNDS", 0)
    arrived = [threading.Event(), threading.Event()]
    made = Finisher(Jobs(lambda job, done: arrived[job.name].set()), 4, 0.0)
    made.push(Job(0))
    assert arrived[0].wait(60.0)
    wait_until(lambda: made._asleep)
    made.push(Job(1))
    assert arrived[1].wait(60.0)
    made.stop()


def test_flush_gives_up_in_time_on_a_device_that_is_not_done(finisher, finished):
    """And what waits stays in the queue for later."""
    job = Job("a", done=False)
    asleep(finisher).push(job)
    assert not finisher.flush(0.0)
    assert [] == finished
    job.done = True
    assert finisher.flush(60.0)
    assert [("a", True)] == finished


def test_flush_gives_up_in_time_on_an_exporter_that_hangs(finished):
    """The finisher is inside the exporter and does not come back."""
    inside, release = threading.Event(), threading.Event()

    def finish(job, done):
        inside.set()
        release.wait(300)

    made = Finisher(Jobs(finish), 4, 0.0)
    made.push(Job("a"))
    assert inside.wait(60.0)
    assert not made.flush(0.01)
    made.drain()
    assert {"timeout": 1} == dict(made.dropped)
    release.set()
    made.stop()


def test_full_says_when_nothing_more_should_begin(finisher):
    """The bound is on what waits; what began before it was reached is still taken."""
    asleep(finisher)
    for name in "abcd":
        assert not finisher.full
        finisher.push(Job(name))
    assert finisher.full
    finisher.flush(60.0)
    assert not finisher.full


def test_the_end_of_the_process_finishes_without_device_times(finisher, finished):
    """Late is better than lost; what is not whole is counted."""
    asleep(finisher)
    finisher.push(Job("a", done=False))
    finisher.push(Job("b"))
    finisher.drain()
    assert [("a", False), ("b", True)] == finished
    assert {"timeout": 1} == dict(finisher.dropped)


def test_a_window_that_fails_does_not_stop_the_others(finished):
    """The fault is counted, the next one is finished."""

    def finish(job, done):
        if job.name == "bad":
            raise ValueError("no record")
        finished.append(job.name)

    made = Finisher(Jobs(finish), 4, 0.0)
    for name in ("a", "bad", "b"):
        asleep(made).push(Job(name))
    assert made.flush(60.0)
    assert ["a", "b"] == finished
    assert {"finish": 1} == dict(guard.faults)
    made.stop()
    guard.forget()


def test_no_thread_to_be_had(finisher, finished, monkeypatch):
    """The process is at its limit: the caller hears nothing of it, the end of the process drains."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    finisher.push(Job("a"))
    assert {"finisher": 1} == dict(guard.faults)
    finisher.drain()
    assert [("a", True)] == finished


def test_a_forked_child_starts_empty(finisher, finished):
    """What waits belongs to the parent."""
    asleep(finisher).push(Job("a"))
    finisher.reset()
    asleep(finisher).push(Job("b"))
    finisher.flush(60.0)
    assert [("b", True)] == finished


def test_what_waits_and_how_long_a_turn_was(finisher):
    """Its own state, for metrics; a turn is told once, and none is not 0."""
    asleep(finisher).push(Job("a"))
    assert (1, None) == (finisher.waiting, finisher.longest_slice_s())
    finisher._asleep = True
    finisher.push(Job("b"))
    wait_until(lambda: not finisher.waiting)
    with finisher._working:
        assert finisher.longest_slice_s() > 0
    assert finisher.longest_slice_s() is None


def test_a_look_at_what_waits(finisher, monkeypatch):
    """The windows in their order; nothing while something is being finished for too long."""
    monkeypatch.setattr(finisher_module, "_LOOK_WAIT_S", 0.01)
    asleep(finisher)
    jobs = [Job("a"), Job("b")]
    for job in jobs:
        finisher.push(job)
    assert jobs == finisher.look(list)
    finisher.pause()
    assert finisher.look(list) is None
    finisher.resume()
    assert finisher.flush(60.0)
