"""The meter joins inferences with samples; over any schedule, nothing is lost."""

import math
import weakref
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warpspan.device import meter
from warpspan.device.meter import Meter
from warpspan.probes import capture, clock
from warpspan.records import DeviceSample, PhaseCycles, Quantities, Usage

S = 1_000_000_000
MS = 1_000_000


class Event:
    """An event that the device passes at a time."""

    def __init__(self, machine, at_ns):
        self.machine = machine
        self.at_ns = at_ns
        self.event = self  # it is its own lease

    def query(self):
        return self.machine.now_ns >= self.at_ns

    def elapsed_time(self, other):
        return (other.at_ns - self.at_ns) / 1e6


class Machine:
    """A device with a clock: inferences begin and end on it, samples are taken of it."""

    def __init__(self, tied=True, sm_count=100, hold_s=0.0):
        self.now_ns = 0
        self.tied = tied
        self.timeline = SimpleNamespace(begun=None, started_ns=self.started_ns)
        self.runtime_device = SimpleNamespace(
            timeline=self.timeline, sm_count=sm_count, device=None, name="H100", open=0
        )
        self.rung = 0
        self.meter = Meter(self.runtime_device, hold_s, self.ring)

    def ring(self):
        self.rung += 1

    def started_ns(self, events):
        return events.start.at_ns if self.tied else None

    def begin(self, start_ns, enqueued_ns=None):
        events = clock.Events(
            Event(self, start_ns), start_ns if enqueued_ns is None else enqueued_ns, False, None
        )
        self.timeline.begun.append(weakref.ref(events))
        return events

    def end(self, events, end_ns):
        events.end = Event(self, end_ns)

    def run(self, start_ns, end_ns):
        events = self.begin(start_ns)
        self.end(events, end_ns)
        return events

    def sample(self, now_ns, **values):
        self.now_ns = now_ns
        self.meter.add(DeviceSample(now_ns, "GPU-0", **values))


def steady(now_ns):
    """500 W, 1 GHz, half of the multiprocessors."""
    return {
        "energy_j": 500 * now_ns / 1e9,
        "sm_clock_hz": 1e9,
        "sm_utilization": 0.5,
        "sm_occupancy": 0.25,
        "tensor_utilization": 0.125,
        "dram_utilization": 0.2,
        "utilization": 0.9,
        "temperature_c": 60.0,
        "throttle_reasons": (),
    }


@pytest.fixture
def machine():
    return Machine()


def test_an_inference_by_hand(machine):
    """It fills half of the second sample interval and is over when the third one begins."""
    machine.sample(0, **steady(0))
    events = machine.run(1 * S, 2 * S)
    machine.sample(1 * S, **steady(1 * S))
    assert not Machine(hold_s=60).meter.settled(clock.Events(None, 0, False, None))
    machine.sample(3 * S, **steady(3 * S))
    assert machine.meter.settled(events)
    # Idle power is 500 W as well, so that half of the interval's 1000 J are its; the
    # multiprocessors' half of the interval is all of its time.
    assert Usage(
        gpu_time_s=1.0,
        sm_cycles_active=1e11,
        sm_cycles_elapsed=1e9,
        sm_clock_hz=1e9,
        sm_utilization=1.0,
        sm_occupancy=0.5,
        tensor_utilization=0.25,
        dram_utilization=0.4,
        sm_source="gpm",
        sm_scope="device",
        energy_j=500.0,
        power_w=500.0,
        energy_source="nvml.energy",
        utilization=0.9,
        temperature_c=60.0,
        throttle_reasons=(),
        estimated=True,
    ) == machine.meter.usage(events)


def test_a_long_inference_alone_is_no_estimate(machine):
    """It is longer than the intervals that it lies in, and nobody else was there."""
    machine.sample(0, **steady(0))
    events = machine.run(S // 2, 9 * S // 2)
    for second in (1, 2, 3, 4, 5):
        machine.sample(second * S, **steady(second * S))
    usage = machine.meter.usage(events)
    assert usage.estimated is False
    assert 4.0 == usage.gpu_time_s
    assert 2000.0 == pytest.approx(usage.energy_j)


def test_cycles_of_a_part(machine):
    """By the samples in that part; one that is shorter than an interval is an estimate."""
    machine.sample(0, **steady(0))
    events = machine.run(0, 4 * S)
    for second, clock_hz in ((1, 1e9), (2, 1e9), (3, 2e9), (4, 2e9)):
        machine.sample(second * S, **steady(second * S) | {"sm_clock_hz": clock_hz})
    # Clocks are means of two samples: 1, 1, 1.5, 2 GHz.
    assert PhaseCycles(
        sm_cycles_active=0.25e11, sm_cycles_elapsed=0.5e9, estimated=True
    ) == machine.meter.during(events, [(0.5, 1.0)])
    assert PhaseCycles(
        sm_cycles_active=1.75e11, sm_cycles_elapsed=3.5e9, estimated=False
    ) == machine.meter.during(events, [(2.0, 4.0)])
    assert machine.meter.during(events, []) is None


def test_cycles_of_a_part_are_absent_where_those_of_the_whole_are(machine, monkeypatch):
    """Not all of it was sampled, or there was no clock, or it had too many intervals."""
    early = machine.run(0, 2 * S)
    machine.sample(1 * S, **steady(1 * S))
    machine.sample(2 * S, **steady(2 * S))
    assert machine.meter.during(early, [(1.0, 2.0)]) is None
    clockless = machine.run(2 * S, 3 * S)
    machine.sample(3 * S)
    assert machine.meter.usage(clockless) is not None
    assert machine.meter.during(clockless, [(0.0, 1.0)]) is None
    machine.sample(4 * S, **steady(4 * S))
    monkeypatch.setattr(meter, "_MOST_PIECES", 1)
    long = machine.run(4 * S, 6 * S)
    machine.sample(5 * S, **steady(5 * S))
    machine.sample(6 * S, **steady(6 * S))
    assert 2e9 == machine.meter.usage(long).sm_cycles_elapsed
    assert machine.meter.during(long, [(0.0, 1.0)]) is None


def test_another_process_on_the_device_makes_it_an_estimate(machine):
    """What the counters say is not ours alone."""
    machine.sample(0, **steady(0))
    events = machine.run(0, 2 * S)
    machine.sample(1 * S, **steady(1 * S), shared=True)
    machine.sample(2 * S, **steady(2 * S))
    assert machine.meter.usage(events).estimated is True


def test_clocks_that_are_not_tied():
    """Its place on the host's clock is a guess: an estimate, whatever its length."""
    machine = Machine(tied=False)
    machine.sample(0, **steady(0))
    events = machine.begin(start_ns=S // 4, enqueued_ns=S // 8)
    machine.end(events, S // 4 + 2 * S)
    for second in (1, 2, 3):
        machine.sample(second * S, **steady(second * S))
    assert (True, 2.0) == ((usage := machine.meter.usage(events)).estimated, usage.gpu_time_s)


def test_before_the_first_sample_there_is_nothing(machine):
    """What lies outside the samples is not known, so the whole inference's share isn't."""
    events = machine.run(0, 2 * S)
    machine.sample(1 * S, **steady(1 * S))
    machine.sample(3 * S, **steady(3 * S))
    assert machine.meter.settled(events)
    assert machine.meter.usage(events) is None


def test_an_interval_without_a_value_leaves_that_value_out(machine):
    """Energy and clock were not to be had at one sample of three; the temperature was at two."""
    machine.sample(0, **steady(0))
    events = machine.run(0, 2 * S)
    machine.sample(1 * S)
    machine.sample(2 * S, **steady(2 * S))
    expected = Usage(gpu_time_s=2.0, temperature_c=60.0, estimated=False)
    assert expected == machine.meter.usage(events)


def test_it_waits_for_the_sample_and_no_longer(machine):
    """`settled` says no until the hold is over; then what is not known is absent."""
    patient, hasty = Machine(hold_s=60), Machine(hold_s=0)
    for one, answer in ((patient, False), (hasty, True)):
        one.sample(0, **steady(0))
        events = one.run(0, 1 * S)
        assert answer == one.meter.settled(events)
        assert one.meter.usage(events) is None
    patient.meter.stop()
    assert patient.meter.settled(events)  # no sample will come
    patient.meter.hurry()
    assert 1 == patient.rung


def test_one_that_is_forgotten_does_not_share_for_ever(machine):
    """A window that was never closed is gone with its last reference."""
    machine.sample(0, **steady(0))
    leaked = machine.begin(0)
    machine.sample(1 * S, **steady(1 * S))
    assert machine.meter.busy
    del leaked
    events = machine.run(1 * S, 2 * S)
    machine.sample(2 * S, **steady(2 * S))
    assert 1.0 == machine.meter.usage(events).gpu_time_s
    assert not machine.meter.busy


def test_no_question_while_a_graph_is_captured(machine, monkeypatch):
    """The interval gets longer, and shares that are of a part of it are left out."""
    gate, graph = capture.CaptureGate(), Machine()
    monkeypatch.setattr(capture, "gate", gate)
    machine.sample(0, **steady(0))
    events = machine.run(0, 2 * S)
    gate.opened(graph)
    machine.sample(1 * S, **steady(1 * S))
    assert not events.account
    gate.closed(graph)
    machine.sample(2 * S, **steady(2 * S))
    usage = machine.meter.usage(events)
    assert (2.0, 1000.0, None) == (usage.gpu_time_s, usage.energy_j, usage.sm_utilization)


def test_idle_power_is_learnt(machine):
    """An interval with nothing on the device tells what it takes then."""
    machine.sample(0, energy_j=0.0)
    machine.sample(1 * S, energy_j=100.0)
    events = machine.run(1 * S, 3 * S // 2)
    machine.sample(2 * S, energy_j=400.0)
    assert 250.0 == machine.meter.usage(events).energy_j  # 300 J less half a second at 100 W
    assert (Quantities(0.5, 250.0), Quantities(1.5, 150.0)) == (
        machine.meter.state.used,
        machine.meter.state.idle,
    )


schedules = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 1500)), min_size=1, max_size=25)


@settings(deadline=None)
@given(
    schedules,
    st.lists(st.integers(1, 900), min_size=4, max_size=12),
    st.lists(st.floats(0, 900), min_size=12, max_size=12),
    st.lists(st.floats(0, 1), min_size=12, max_size=12),
)
def test_conservation_over_a_schedule(schedule, periods, powers, shares):
    """Whatever overlaps and whenever it is sampled: attributed and idle are the device's totals."""
    machine = Machine()
    machine.sample(0, energy_j=0.0, sm_clock_hz=1e9, sm_utilization=0.0)
    begins = sorted((start * MS, (start + length) * MS) for start, length in schedule)
    waiting, running, events = list(begins), [], []
    now_ns = energy_j = cycles = 0.0
    # Samples until everything that began is over, as they come in a process: each sees only
    # what was begun and ended by the host so far.
    steps = [*periods, 5_000]
    for index, period in enumerate(steps):
        length_s = period / 1e3
        now_ns += period * MS
        while waiting and waiting[0][0] < now_ns:
            start_ns, end_ns = waiting.pop(0)
            one = machine.begin(start_ns)
            events.append(one)
            running.append((one, end_ns))
        for one, end_ns in list(running):
            if end_ns <= now_ns:
                machine.end(one, end_ns)
                running.remove((one, end_ns))
        energy_j += powers[index % 12] * length_s
        cycles += shares[index % 12] * length_s * 1e9 * 100
        machine.sample(
            int(now_ns), energy_j=energy_j, sm_clock_hz=1e9, sm_utilization=shares[index % 12]
        )
    usages = [machine.meter.usage(one) for one in events]
    assert None not in usages
    state = machine.meter.state
    for total, used, idle, parts in (
        (now_ns / 1e9, state.used.time_s, state.idle.time_s, [u.gpu_time_s for u in usages]),
        (energy_j, state.used.energy_j, state.idle.energy_j, [u.energy_j for u in usages]),
        (
            cycles,
            state.used.sm_cycles_active,
            state.idle.sm_cycles_active,
            [u.sm_cycles_active for u in usages],
        ),
    ):
        tolerance = {"rel_tol": 1e-6, "abs_tol": 1e-6 * (1 + total)}
        assert math.isclose(total, used + idle, **tolerance)
        assert math.isclose(used, math.fsum(parts), **tolerance)
