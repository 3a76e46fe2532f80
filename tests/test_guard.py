"""Our own errors are counted, logged once a cause, and go no further."""

import ctypes
import functools
import logging
import signal
import threading

import pytest

from warpspan import guard


@pytest.fixture(autouse=True)
def nothing_seen():
    guard.forget()
    yield
    guard.forget()


def test_a_fault_is_counted_each_time_and_logged_once(caplog):
    """The log says what failed and that the inference goes on."""
    for _ in range(3):
        guard.caught("memory", ValueError("no counters"))
    assert {"memory": 3} == dict(guard.faults)
    assert [
        "warpspan: memory failed, the inference continues without it (logged once, counted in "
        "warpspan.faults): ValueError: no counters"
    ] == [record.getMessage() for record in caplog.records]


def test_each_cause_is_logged(caplog):
    """Another class or another part is another cause."""
    guard.caught("memory", ValueError())
    guard.caught("memory", TypeError())
    guard.caught("begin", ValueError())
    assert 3 == len(caplog.records)


def test_causes_without_end(caplog):
    """Classes that are made at run time are counted, and neither logged nor kept without end."""
    for index in range(1_000):
        guard.caught("memory", type(f"Error{index}", (Exception,), {})())
    assert 1_000 == guard.faults["memory"]
    assert guard.CAUSE_LIMIT == len(caplog.records) == len(guard._seen)


def test_a_log_handler_that_raises_does_not_reach_the_host():
    """logging.raiseExceptions or not, an error while reporting an error is swallowed."""

    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("disk full")

    logger = logging.getLogger("warpspan")
    handler = Broken()
    logger.addHandler(handler)
    try:
        guard.caught("memory", ValueError())
    finally:
        logger.removeHandler(handler)
    assert 1 == guard.faults["memory"]


def interrupted(handler, number=signal.SIGUSR1):
    """What `caught` makes of an exception that a signal's handler raises in code beneath it."""
    before = signal.signal(number, handler)
    try:
        try:
            signal.raise_signal(number)
        except Exception as error:
            guard.caught("memory", error)
    finally:
        signal.signal(number, before)


class TimeLimitExceededError(Exception):
    """What a signal handler raises, as Celery's soft time limit."""


def raises(signum, frame):
    """A handler as a function."""
    raise TimeLimitExceededError


class Raises:
    """A handler as a method, with arguments that have no names."""

    def __call__(self, *args):
        raise TimeLimitExceededError("now")


@pytest.mark.parametrize(
    "handler", [raises, Raises(), Raises().__call__, functools.partial(raises)]
)
def test_what_a_signal_handler_raises_is_let_through(handler):
    """Whatever its class, it is the program's, and no fault of ours."""
    with pytest.raises(TimeLimitExceededError):
        interrupted(handler)
    assert {} == guard.faults


@pytest.mark.parametrize("kind", [TimeLimitExceededError, RuntimeError, TimeoutError])
def test_what_is_thrown_into_a_thread_is_let_through(kind):
    """`PyThreadState_SetAsyncExc` gives a class, which appears at no instruction that raises."""
    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    arguments = ctypes.c_ulong(threading.get_ident()), ctypes.py_object(kind)

    def run():
        try:
            throw(*arguments)
            len(())
        except Exception as error:
            guard.caught("memory", error)

    with pytest.raises(kind):
        run()
    assert {} == guard.faults


def test_errors_of_ours_are_not_let_through():
    """Raised by code of ours, by what it calls, with and without arguments."""

    def raises_bare():
        raise ValueError

    for fault in (raises_bare, lambda: {}[0], lambda: int("x"), lambda: next(iter(()))):
        try:
            fault()
        except Exception as error:
            guard.caught("memory", error)
    assert {"memory": 4} == guard.faults
