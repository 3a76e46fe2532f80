"""Time between the steps of a loop."""

from __future__ import annotations

from tests.support.observations import claims, named, series, shares, verdict
from warpspan.records import Generation, Loop


def generating(between_s: float) -> list:
    """Generations of a second, nine tenths of which decode."""
    generation = Generation(decode_s=0.9, between_s=between_s, between_share=between_s / 0.9)
    return series(25, every_s=1.0, duration_s=1.0, loop=Loop(generation=generation))


def test_half_of_the_decode_time_between_steps():
    """Strong, and a share of the whole duration."""
    found = verdict(generating(0.45))

    held = {one.id: one for one in (*found.bottlenecks, *found.findings)}
    assert ([0.45], True) == (shares(found, "between_steps"), held["between_steps"].strong)
    assert 0.5 == held["between_steps"].evidence["share_of_decode"]


def test_a_tenth_is_none():
    """Below fifteen percent of the decode time."""
    assert "between_steps" not in claims(verdict(generating(0.09)))


def test_loops_without_times_of_steps_say_nothing():
    """Nothing is guessed."""
    loop = Loop(generation=Generation(decode_s=0.9))

    found = verdict(series(25, 1.0, 1.0, loop=loop, timing={"cpu_time_s": 1.0}))

    assert (["device"], [], []) == named(found)
