"""Our own errors are counted, logged once a cause, and go no further."""

import logging

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
