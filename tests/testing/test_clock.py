"""The clock that only a test moves."""

import pytest

from warpspan.testing import ScriptedClock


def test_time_passes_only_when_told():
    """Host and wall time start at fixed moments and move together, in whole nanoseconds."""
    clock = ScriptedClock(wall_ns=5_000_000_000)
    start_ns = clock.now_ns()
    assert (start_ns, 5_000_000_000) == (clock.now_ns(), clock.wall_ns())
    clock.advance(1.5)
    clock.advance(1e-9)
    assert (start_ns + 1_500_000_001, 6_500_000_001) == (clock.now_ns(), clock.wall_ns())


def test_time_does_not_go_back():
    """A negative step is refused; a moment that is over is reached at once."""
    clock = ScriptedClock()
    now_ns = clock.now_ns()
    with pytest.raises(ValueError, match=r"does not go back: advance\(-1\)"):
        clock.advance(-1)
    assert 0 == clock.advance_to(now_ns - 1)
    assert 7 == clock.advance_to(now_ns + 7)
    assert now_ns + 7 == clock.now_ns()
