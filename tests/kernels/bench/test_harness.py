"""The harness against a scripted clock: what it calls device time is device time."""

import pytest

from warpspan.kernels.bench.harness import ENERGY_S, Workload, first_call, measure, spread

US = 1e-6


def workload(device, name, *, count=8, **times):
    return Workload(name, [device.call(name, buffer=(name, i), **times) for i in range(count)])


def timed(device, *workloads, cold=True, rounds=5, **options):
    firsts = {one.name: 0.0 for one in workloads}
    return measure(workloads, device, cold=cold, rounds=rounds, first_calls=firsts, **options)


@pytest.mark.parametrize(("capturable", "method"), [(True, "graph"), (False, "queued")])
def test_a_kernel_far_shorter_than_its_launch_is_timed_without_the_launch(
    scripted, capturable, method
):
    """2 us on the device behind 50 us on the host: 2 us, by a graph or behind a spin."""
    device = scripted(capturable=capturable)
    timing = timed(device, workload(device, "eager", host_s=50 * US, device_s=2 * US))["eager"]
    assert method == timing.method
    assert pytest.approx(2 * US) == timing.device.p50_s
    assert pytest.approx(50 * US, rel=0.1) == timing.wall.p50_s


def test_a_launch_slower_than_expected_is_outlasted_by_the_spin(scripted):
    """Enqueueing 8 calls takes the host 2.4 ms: the spin is three times as long."""
    device = scripted(capturable=False)
    timing = timed(device, workload(device, "slow", host_s=300 * US, device_s=4 * US))["slow"]
    assert pytest.approx(4 * US) == timing.device.p50_s


def test_cold_and_hot_are_apart(scripted):
    """Cold: L2 is flushed before each pass and no buffer comes twice; hot: one buffer, no flush."""
    times = {"host_s": 5 * US, "device_s": 8 * US, "hot_s": 3 * US}
    device = scripted()
    cold = timed(device, workload(device, "x", **times), cold=True)["x"]
    assert pytest.approx(8 * US) == cold.device.p50_s
    assert device.flushes > 0
    device = scripted()
    hot = timed(device, workload(device, "x", **times), cold=False)["x"]
    assert pytest.approx(3 * US) == hot.device.p50_s
    assert 0 == device.flushes


def test_providers_take_turns(scripted):
    """Every round has each provider once, in an order that changes."""
    device = scripted()
    names = ["a", "b", "c"]
    times = {"host_s": 1 * US, "device_s": 1 * US}
    timed(device, *(workload(device, name, **times) for name in names), rounds=12)
    orders = [tuple(device.replays[i : i + 3]) for i in range(0, 36, 3)]
    assert [names] * 12 == [sorted(order) for order in orders]
    assert len(set(orders)) > 1


def test_a_falling_clock_hits_all_providers_alike(scripted):
    """The device gets slower by 5 % a replay: the ratio of two providers stays near 2."""
    device = scripted()
    spin = device.spin

    def spin_and_slow(seconds):
        device.slowdown *= 1.05
        spin(seconds)

    device.spin = spin_and_slow
    one = workload(device, "one", host_s=US, device_s=2 * US)
    two = workload(device, "two", host_s=US, device_s=4 * US)
    timings = timed(device, one, two, rounds=20)
    assert timings["one"].device.p80_s > 1.5 * timings["one"].device.p20_s  # it did drift
    ratio = timings["two"].device.p50_s / timings["one"].device.p50_s
    assert pytest.approx(2.0, rel=0.1) == ratio


def test_quantiles_are_those_of_the_rounds():
    """20th, 50th and 80th percentile with interpolation; one sample is all three."""
    assert pytest.approx((3.0, 6.0, 9.0)) == tuple(spread([11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]))
    assert (4.0, 4.0, 4.0) == tuple(spread([4.0]))


def test_the_first_call_is_timed_to_its_end_on_the_device(scripted):
    """Compiling is host time, and the kernel's own run belongs to it."""
    device = scripted()
    assert pytest.approx(3.5) == first_call(device, device.call("x", host_s=3.0, device_s=0.5))


class Meter:
    """400 W, a clock that falls, and a throttle reason in the second half."""

    def __init__(self, device, *, energy=True):
        self.device, self.energy, self.reads = device, energy, 0

    def sm_clock_hz(self):
        self.reads += 1
        return 2e9 - self.reads * 1e7

    def energy_j(self):
        return 400.0 * self.device.host_s if self.energy else None

    def throttle_reasons(self):
        return ("sw_power_cap",) if self.reads > 2 else ()


def test_energy_is_taken_over_a_second_and_divided_by_all_calls(scripted):
    """The counter moves every 100 ms: 400 W times 100 us a call."""
    device = scripted(launch_s=0.0)
    one = workload(device, "x", host_s=US, device_s=100 * US)
    before = device.host_s
    timing = timed(device, one, meter=Meter(device))["x"]
    assert pytest.approx(400 * 100 * US) == timing.energy_j
    assert device.host_s - before > ENERGY_S


def test_clock_and_throttling_are_read_while_it_runs(scripted):
    """The median of the clock, and every reason that was seen."""
    device = scripted()
    timing = timed(
        device, workload(device, "x", host_s=US, device_s=US), meter=Meter(device), rounds=5
    )["x"]
    assert (pytest.approx(1.97e9), ("sw_power_cap",)) == (
        timing.sm_clock_hz,
        timing.throttle_reasons,
    )


def test_what_no_meter_gives_is_absent(scripted):
    """None, not 0."""
    device = scripted()
    timing = timed(device, workload(device, "x", host_s=US, device_s=US))["x"]
    assert (None, None, None) == (timing.sm_clock_hz, timing.energy_j, timing.throttle_reasons)
    metered = timed(
        device,
        workload(device, "x", host_s=US, device_s=US),
        meter=Meter(device, energy=False),
    )["x"]
    assert metered.energy_j is None
