"""Signal handlers that use warpspan while their thread is inside warpspan."""

import pytest


@pytest.mark.parametrize(
    ("case", "printed"),
    [
        ("step", ["[('loop', 2)]"]),
        ("flush", ["flushed False", "outer True", "[('forward Linear', None)]"]),
    ],
)
def test_a_handler_inside_a_lock_does_not_wait_for_itself(program, case, printed):
    """A step is marked; a flush inside a flush says that it could not, and neither hangs."""
    assert printed == program("handlers.py", case, timeout_s=60).stdout.splitlines()
