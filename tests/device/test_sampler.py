"""The sampler's thread: what inferences get from it, and that nothing it meets reaches them."""

import logging
import os
import threading
from types import SimpleNamespace

import pytest
import torch

import warpspan
from warpspan import guard
from warpspan.device import sampler as sampler_module
from warpspan.device.sampler import Sampler
from warpspan.records import DeviceSample
from warpspan.testing import InMemoryTelemetry

GPU = "device 0 uuid=GPU-00000000-0000-0000-0000-000000000000"
STEADY = (
    "at 0 0 power=500 clock=1000 temperature=61 reasons=4 sm=0.5 occupancy=0.25 tensor=0.125 "
    "dram=0.2 utilization=80 used=1000000"
)


class Work(torch.nn.Module):
    """Two kernels, 2 ms each."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.second(self.first(x))


@pytest.fixture
def work(live_device):
    model = Work().eval().to("cuda")
    tokens = torch.ones(2, 4, device="cuda")

    def run():
        with torch.inference_mode():
            model(tokens)
        torch.cuda.synchronize()

    return run


@pytest.fixture
def telemetry(live_device):
    guard.forget()
    with InMemoryTelemetry(sample_period_s=0.1) as kept:
        yield kept
    assert {} == dict(guard.faults)


def sampler():
    from warpspan import instrumentor

    return instrumentor.active_session()._sampler


def run_until(work, condition, limit=2000):
    """Run inferences until something has happened; how many they were."""
    for count in range(1, limit):
        work()
        if condition():
            return count
    raise AssertionError("it did not happen")


def meter():
    [found] = sampler()
    return found


def test_each_value_can_be_recomputed(fake, work, telemetry):
    """A steady device of 500 W, 1 GHz and half-busy multiprocessors."""
    fake.script(GPU, STEADY, clock="live")
    count = run_until(work, lambda: sampler() is not None and meter().samples >= 5)
    records = telemetry.records()
    assert count == len(records)
    measured = [record for record in records if record.usage is not None]
    assert len(measured) > count / 2
    for record in measured:
        usage = record.usage
        assert record.timing.device_time_s == pytest.approx(usage.gpu_time_s, abs=1e-5)
        assert usage.sm_cycles_elapsed == pytest.approx(1e9 * usage.gpu_time_s)
        assert usage.sm_cycles_active == pytest.approx(
            usage.sm_utilization * 132 * 1e9 * usage.gpu_time_s
        )
        assert 0.5 <= usage.sm_utilization <= 1.0
        assert usage.power_w == pytest.approx(500, rel=0.02)
        assert usage.energy_j == pytest.approx(500 * usage.gpu_time_s, rel=0.02)
        assert ("gpm", "device", "nvml.energy", ("sw_power_cap",), 61.0, True) == (
            usage.sm_source,
            usage.sm_scope,
            usage.energy_source,
            usage.throttle_reasons,
            usage.temperature_c,
            usage.estimated,
        )
    state = meter().state
    assert state.used.time_s + state.idle.time_s == pytest.approx(
        (state.used.energy_j + state.idle.energy_j) / 500, rel=0.02
    )
    reported = sum(record.usage.energy_j for record in measured)
    assert reported <= state.used.energy_j * (1 + 1e-9)


def test_cycles_of_prefill_and_decode(fake, live_device, work, telemetry):
    """At a steady 1 GHz they are the phases' device times; together with the rest, the whole's."""
    fake.script(GPU, STEADY, clock="live")
    run_until(work, lambda: sampler() is not None and meter().samples >= 2)
    with warpspan.inference("chat"):
        for phase in ("prefill", "decode", "decode"):
            with warpspan.step(phase):
                work()
    record = telemetry.records()[-1]
    generation, prefill = record.loop.generation, record.loop.prefill_cycles
    assert prefill.sm_cycles_elapsed == pytest.approx(1e9 * generation.prefill_s, rel=1e-4)
    decode = record.loop.decode_cycles
    assert decode.sm_cycles_elapsed == pytest.approx(1e9 * generation.decode_s, rel=1e-4)
    assert (True, True) == (prefill.estimated, decode.estimated)  # shorter than the 0.1 s between
    both = prefill.sm_cycles_elapsed + decode.sm_cycles_elapsed
    assert 0 < both <= record.usage.sm_cycles_elapsed * (1 + 1e-6)
    assert 0 < prefill.sm_cycles_active <= record.usage.sm_cycles_active


def test_the_metrics_of_a_device(fake, work, telemetry):
    """Shares of inferences, what was idle, the device as nvidia-smi shows it, our own cost."""
    fake.script(GPU, STEADY, clock="live")
    run_until(work, lambda: sampler() is not None and meter().samples >= 4)
    measured = [record for record in telemetry.records() if record.usage is not None]
    metrics = telemetry.metrics()
    [energy] = metrics["pytorch.inference.energy"]
    [active] = metrics["pytorch.inference.sm.cycles.active"]
    assert (len(measured), len(measured)) == (energy.count, active.count)
    assert energy.sum == pytest.approx(sum(record.usage.energy_j for record in measured))
    assert {"inference", "idle"} == {
        point.attributes["pytorch.gpu.activity"] for point in metrics["pytorch.gpu.sampled.energy"]
    }
    identity = {
        "hw.id": "GPU-00000000-0000-0000-0000-000000000000",
        "hw.name": "NVIDIA H100 80GB HBM3",
        "hw.vendor": "NVIDIA",
    }
    typed = {**identity, "hw.type": "gpu"}
    assert {
        "hw.gpu.utilization": [(0.8, identity)],
        "hw.gpu.memory.usage": [(1_000_000, identity)],
        "hw.gpu.memory.limit": [(85_520_809_984, identity)],
        "hw.gpu.memory.utilization": [(1_000_000 / 85_520_809_984, identity)],
        "hw.power": [(500.0, typed)],
        "hw.temperature": [(61, typed)],
        "hw.errors": [
            (0, {**typed, "error.type": "corrected"}),
            (0, {**typed, "error.type": "uncorrected"}),
        ],
    } == {
        name: [(point.value, dict(point.attributes)) for point in points]
        for name, points in metrics.items()
        if name.startswith("hw.") and name != "hw.energy"
    }
    [samples] = metrics["warpspan.sampler.samples"]
    [cost] = metrics["warpspan.sampler.time"]
    assert samples.value >= 4
    assert cost.value > 0


@pytest.mark.parametrize(
    ("mode", "environ", "exported"),
    [
        ("auto", {}, True),
        ("on", {"NVIDIA_DCGM_EXPORTER_SERVICE_HOST": "10.0.0.1"}, True),
        ("auto", {"NVIDIA_DCGM_EXPORTER_SERVICE_HOST": "10.0.0.1"}, False),
        ("off", {}, False),
    ],
)
def test_hardware_metrics_are_left_to_dcgm(
    fake, live_device, work, monkeypatch, mode, environ, exported
):
    """Off where told so, or where a variable names a dcgm-exporter; shares of inferences stay."""
    fake.script(GPU, STEADY, clock="live")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with InMemoryTelemetry(sample_period_s=0.1, hardware_metrics=mode) as telemetry:
        run_until(work, lambda: sampler() is not None and meter().samples >= 3)
        metrics = telemetry.metrics()
    assert exported == any(name.startswith("hw.") for name in metrics)
    assert "pytorch.gpu.sampled.time" in metrics


@pytest.mark.parametrize(
    "trouble",
    [
        ["error * 15 device=0"],  # the GPU fell off the bus
        ["error nvmlInitWithFlags 18"],  # library mismatch
        ["error nvmlInitWithFlags 9"],  # driver not loaded
        ["error nvmlInitWithFlags 4"],  # not permitted at all
        ["error nvmlGpmSampleGet 4"],
        ["error nvmlGpmMetricsGet 2"],
        ["error nvmlDeviceGetTotalEnergyConsumption 3"],
        ["error nvmlDeviceGetHandleByUUID 6"],
        ["error * 999 device=0"],
        ["at 0.01 0 clock=0"],
        ["at 0.05 0 energy=0", "at 0.15 0 energy=0", "at 0.25 0 energy=0"],  # backwards
    ],
)
def test_no_failure_of_the_driver_reaches_an_inference(fake, work, telemetry, caplog, trouble):
    """Every inference has its span and device time; what is missing is absent, and said once."""
    caplog.set_level(logging.WARNING, logger="warpspan")
    fake.script(GPU, STEADY, *trouble, clock="live")
    for _ in range(60):
        work()
    records = telemetry.records()
    assert 60 == len(records)
    assert all(record.timing.device_time_s is not None for record in records)
    for record in records:
        if record.usage is not None:
            assert 0 not in (record.usage.energy_j, record.usage.sm_cycles_elapsed)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) <= 1, lines


def test_a_driver_that_blocks(fake, work, telemetry):
    """A call that takes two seconds makes the sampler late, and no inference."""
    fake.script(GPU, STEADY, "latency nvmlDeviceGetPowerUsage 2", clock="live")
    for _ in range(30):
        work()
    assert warpspan.flush(1.5)  # while the sampler is still in the driver
    records = telemetry.records()
    assert 30 == len(records)
    assert {None} == {record.usage for record in records}
    assert [] == [record for record in records if record.duration_s > 1]


def test_a_slow_driver_is_waited_for(fake, work, telemetry):
    """After samples of 50 ms the sampler rests for a second, and inferences wait that long."""
    fake.script(GPU, STEADY, "latency nvmlDeviceGetClockInfo 0.05", clock="live")
    run_until(work, lambda: meter().samples > 2)
    assert warpspan.flush(30)
    *_, last = telemetry.records()
    assert last.usage is not None


def test_the_caller_never_asks_the_driver(fake, work, telemetry):
    """All calls come from the sampler's thread."""
    fake.script(GPU, STEADY, clock="live")
    run_until(work, lambda: sampler() is not None and meter().samples >= 3)
    [thread] = [one for one in threading.enumerate() if one.native_id == fake.caller]
    assert ("warpspan-sampler", True) == (thread.name, thread.daemon)


def test_uninstrument_ends_the_thread(fake, live_device, work):
    """Nothing of ours runs afterwards."""
    fake.script(GPU, STEADY, clock="live")
    before = set(threading.enumerate())  # one of another test may still be in a slow call
    with InMemoryTelemetry(sample_period_s=0.1):
        work()
    after = set(threading.enumerate()) - before
    samplers = [one for one in after if one.name == "warpspan-sampler"]
    for sampler in samplers:  # one that was in the driver for longer than we wait for it
        sampler.join(60)
    assert [] == [one for one in samplers if one.is_alive()]


def test_no_sampling_where_it_is_switched_off(fake, live_device, work):
    """A period of 0: no thread, no call, spans as they were."""
    fake.script(GPU, STEADY, clock="live")
    calls = fake.calls
    with InMemoryTelemetry(sample_period_s=0) as telemetry:
        work()
        [record] = telemetry.records()
    assert (None, calls) == (record.usage, fake.calls)


def test_without_a_driver_one_line(live_device, work, monkeypatch, caplog):
    """There is a GPU and no NVML: one sentence, and spans with all that torch tells."""
    from warpspan.device import driver

    monkeypatch.setattr(
        Sampler.__init__, "__defaults__", (lambda: driver.NoDriver(driver.LIBRARY_MISSING),)
    )
    with InMemoryTelemetry(sample_period_s=0.1) as telemetry:
        for _ in range(5):
            work()
        records = telemetry.records()
    assert [None] * 5 == [record.usage for record in records]
    assert all(record.timing.device_time_s is not None for record in records)
    [line] = [record.getMessage() for record in caplog.records]
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in line


def test_a_program_without_a_gpu_has_none_of_this(program):
    """Nothing is loaded, no thread runs, nothing is said."""
    done = program("cpu_only.py")
    assert "True [] []" == done.stdout.strip()
    assert "" == done.stderr


def test_a_forked_child_samples_for_itself(program, fake_library, tmp_path):
    """It starts its own thread and its own NVML."""
    script = tmp_path / "nvml.txt"
    script.write_text(f"{GPU}\n{STEADY}\n")
    done = program(
        "forked_gpu.py",
        PYTHONWARNINGS="ignore::DeprecationWarning",  # Python 3.12 warns of forks with threads
        FAKE_NVML_SCRIPT=str(script),
        LD_LIBRARY_PATH=str(fake_library.parent),
    )
    assert [
        "parent 1 False",
        "child 300 True",
        "parent 300 True",
    ] == done.stdout.splitlines()
    assert "" == done.stderr


def test_it_rests_when_nothing_runs_and_when_the_driver_is_slow(monkeypatch):
    """A period while inferences run, five seconds when none does, twenty times what a call took."""
    now = [100.0]
    monkeypatch.setattr(sampler_module.time, "monotonic", lambda: now[0])
    meter = SimpleNamespace(busy=True, rest_s=0.0, add=lambda sample: None)
    watch = sampler_module._Watch(meter, os.environ, lambda sample: None)
    took_s = [0.0]

    def read(taken_ns, *, slowly):
        now[0] += took_s[0]
        return DeviceSample(taken_ns, "GPU-0", power_w=1.0)

    watch._reader = SimpleNamespace(found=True, read=read)
    assert 0.0 == watch.due_s(0.2)
    watch.sample(None)
    assert 100.2 == watch.due_s(0.2)
    meter.busy = False
    assert 105.0 == watch.due_s(0.2)
    meter.busy = True
    took_s[0] = 0.05
    watch.sample(None)
    assert 101.0 == pytest.approx(watch.due_s(0.2))
    took_s[0] = 2.0
    watch.sample(None)
    assert 105.05 == pytest.approx(watch.due_s(0.2))
