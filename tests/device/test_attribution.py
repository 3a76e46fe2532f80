"""What a device did is shared out, and nothing of it gets lost or is counted twice."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warpspan.device.attribution import (
    Interval,
    Piece,
    Share,
    during,
    interval,
    share,
    while_busy,
)
from warpspan.records import DeviceSample, Quantities

S = 1_000_000_000


def of(start_s, end_s, **values):
    return Interval(round(start_s * S), round(end_s * S), **values)


def test_the_values_of_an_interval_by_hand():
    """Energy and shares are differences and means; the rest is of the samples around it."""
    before = DeviceSample(
        *(1 * S, "GPU-0"),
        energy_j=100.0,
        power_w=400.0,
        temperature_c=60,
        sm_clock_hz=1.5e9,
        throttle_reasons=("sw_power_cap",),
        sm_utilization=0.1,
    )
    after = DeviceSample(
        *(3 * S, "GPU-0"),
        energy_j=900.0,
        power_w=500.0,
        temperature_c=64,
        sm_clock_hz=1.7e9,
        throttle_reasons=("hw_slowdown", "sw_power_cap"),
        utilization=0.9,
        sm_utilization=0.5,
        shared=True,
    )
    assert interval(before, after) == of(
        *(1, 3),
        energy_j=800.0,
        energy_source="nvml.energy",
        clock_hz=1.6e9,
        sm=0.5,
        utilization=0.9,
        temperature_c=64,
        throttle_reasons=("sw_power_cap", "hw_slowdown"),
        shared=True,
    )


@pytest.mark.parametrize(
    ("before", "after", "energy"),
    [
        ({"energy_j": 9.0}, {"energy_j": 3.0}, (None, None)),  # the driver was loaded anew
        ({"energy_j": 9.0}, {"energy_j": 1e12}, (None, None)),  # the counter was set
        ({"energy_j": 9.0}, {}, (None, None)),
        ({"power_w": 300.0}, {"power_w": 500.0}, (800.0, "nvml.power")),
        ({"energy_j": 9.0, "power_w": 1.0}, {"power_w": 1.0}, (None, None)),
        ({"power_w": 300.0}, {}, (None, None)),
    ],
)
def test_energy_that_can_not_be_true_is_left_out(before, after, energy):
    """Counters that go backwards or jump give nothing; without a counter it is power × time."""
    found = interval(DeviceSample(0, "", **before), DeviceSample(2 * S, "", **after))
    assert energy == (found.energy_j, found.energy_source)


def test_one_inference_by_hand():
    """Half of an interval of 1 s: all that the multiprocessors did, and more than half the energy."""
    part = of(0, 1, energy_j=300.0, clock_hz=1e9, sm=0.4)
    shared = share(part, [(S // 2, 2 * S)], sm_count=100, idle_power_w=100.0)
    assert [
        Share(0.5, True, Quantities(0.5, 250.0, 0.4e11, 0.5e9)),
    ] == shared.shares
    assert Quantities(0.5, 50.0, 0.0, 0.5e9) == shared.idle
    assert 0.8 == while_busy(part.sm, part, shared.busy_s)


def test_without_known_idle_power_energy_goes_by_time():
    """Until the device was seen idle there is no better guess, and it can't be less."""
    part = of(0, 1, energy_j=300.0)
    assert 75.0 == share(part, [(0, S // 4)]).used.energy_j
    assert 75.0 == share(part, [(0, S // 4)], idle_power_w=1000.0).used.energy_j


def test_two_that_overlap_share_by_device_time():
    """Each gets half of the time that both had."""
    part = of(0, 3, energy_j=300.0, clock_hz=1e9)
    first, second = share(part, [(0, 2 * S), (S, 3 * S)]).shares
    assert Share(2.0, False, Quantities(1.5, 150.0, None, 1.5e9)) == first
    assert Share(2.0, False, Quantities(1.5, 150.0, None, 1.5e9)) == second


def test_what_the_multiprocessors_did_beyond_the_busy_time_is_not_ours():
    """Another process kept them busy: at most all of them, for as long as we ran."""
    part = of(0, 1, clock_hz=1e9, sm=0.9)
    shared = share(part, [(0, S // 2)], sm_count=10)
    assert (5e9, 4e9) == (shared.used.sm_cycles_active, pytest.approx(shared.idle.sm_cycles_active))
    assert 1.0 == while_busy(part.sm, part, shared.busy_s)


def test_nothing_ran():
    """All of it is idle."""
    part = of(0, 1, energy_j=90.0, clock_hz=1e9, sm=0.5)
    shared = share(part, [(2 * S, 3 * S)], sm_count=2)
    assert Quantities(1.0, 90.0, 1e9, 1e9) == shared.idle
    assert Quantities(0.0, 0.0, 0.0, 0.0) == shared.used
    assert while_busy(part.sm, part, shared.busy_s) is None


def test_what_was_not_measured_stays_absent():
    """No clock, no cycles; no energy, no joules; time is known all the same."""
    shared = share(of(0, 1, sm=0.5), [(0, S)], sm_count=2)
    assert Quantities(1.0, None, None, None) == shared.used
    assert Quantities(0.0, None, None, None) == shared.idle


runs = st.lists(
    st.tuples(st.integers(0, 5_000), st.integers(0, 3_000)).map(
        lambda pair: (pair[0] * 1_000_000, (pair[0] + pair[1]) * 1_000_000)
    ),
    max_size=30,
)


@given(
    runs,
    st.integers(0, 4_000),
    st.integers(1, 3_000),
    st.floats(0, 1e4),
    st.floats(1e8, 3e9),
    st.floats(0, 1),
    st.none() | st.floats(0, 1e3),
)
def test_conservation_in_an_interval(runs, start, length, energy_j, clock_hz, sm, idle_power_w):
    """Shares and idle rest add up to the device's totals, and no share is negative."""
    part = Interval(
        *(start * 1_000_000, (start + length) * 1_000_000),
        energy_j=energy_j,
        clock_hz=clock_hz,
        sm=sm,
    )
    shared = share(part, runs, 132, idle_power_w)
    length_s = part.length_s
    totals = (length_s, energy_j, sm * length_s * clock_hz * 132, clock_hz * length_s)
    for index, total in enumerate(totals):
        parts = [own.amount[index] for own in shared.shares]
        used = shared.used[index] if runs else 0.0
        assert math.isclose(math.fsum(parts), used, rel_tol=1e-9, abs_tol=1e-9 * (1 + total))
        assert math.isclose(
            math.fsum([*parts, shared.idle[index]]), total, rel_tol=1e-9, abs_tol=1e-9 * (1 + total)
        )
        assert all(value >= 0 for value in parts)
        assert shared.idle[index] >= -1e-9 * (1 + total)
    for run, own in zip(runs, shared.shares, strict=True):
        here = max(0, min(run[1], part.end_ns) - max(run[0], part.start_ns)) / 1e9
        assert math.isclose(here, own.device_time_s, abs_tol=1e-12)
        assert own.amount.time_s <= own.device_time_s + 1e-9
        if own.alone:
            assert math.isclose(own.amount.time_s, own.device_time_s, abs_tol=1e-9)


def test_parts_of_an_inference_by_hand():
    """Of each piece as much as a part overlaps it; what one piece does not know nobody knows."""
    pieces = [
        Piece(0, 2 * S, Quantities(2.0, 100.0, 2e10, 2e9)),
        Piece(2 * S, 4 * S, Quantities(2.0, None, 4e10, 1e9)),
    ]
    assert Quantities(0.5, 25.0, 0.5e10, 0.5e9) == during(pieces, [(S, 3 * S // 2)])
    assert Quantities(2.0, None, 3e10, 1.5e9) == during(pieces, [(S, 3 * S)])
    assert Quantities(1.5, None, 2e10, 1.25e9) == during(
        pieces, [(0, S // 2), (S, 3 * S // 2), (3 * S, 7 * S // 2)]
    )
    assert Quantities(0.0, 0.0, 0.0, 0.0) == during(pieces, [(5 * S, 6 * S)])


@given(
    st.lists(st.tuples(st.integers(1, 900), st.floats(0, 1e12)), min_size=1, max_size=20),
    st.lists(st.integers(0, 18_000), max_size=30),
)
def test_parts_add_up_to_the_whole(lengths, cuts):
    """However an inference is cut, its parts have what it had."""
    pieces, now = [], 0
    for length, cycles in lengths:
        pieces.append(Piece(now, now + length, Quantities(length / 1e9, None, None, cycles)))
        now += length
    edges = sorted({0, now, *(cut for cut in cuts if cut < now)})
    parts = [during(pieces, [run]) for run in itertools.pairwise(edges)]
    whole = math.fsum(cycles for _, cycles in lengths)
    assert math.isclose(
        whole, math.fsum(part.sm_cycles_elapsed for part in parts), rel_tol=1e-9, abs_tol=1e-3
    )
    every_other = list(itertools.pairwise(edges))[::2]
    assert math.isclose(
        math.fsum(part.sm_cycles_elapsed for part in parts[::2]),
        during(pieces, every_other).sm_cycles_elapsed,
        rel_tol=1e-9,
        abs_tol=1e-3,
    )
