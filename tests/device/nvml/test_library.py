"""The one way to the driver: what it can't or may not do is None, once and for all, and said once."""

import logging
import os
import sys
import warnings

import pytest

from warpspan.device.driver import Gpu, Instance, Process

H100 = "device 0 uuid=GPU-0 bus=00000000:1B:00.0"
BUSY = (
    "at 0 0 power=500 clock=1755 temperature=61 reasons=5 sm=0.5 occupancy=0.25 tensor=0.4 "
    "dram=0.3 utilization=80 used=1000000 ecc=2"
)


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def nvml(fake, clock, caplog):
    from warpspan.device.nvml.library import Nvml

    caplog.set_level(logging.INFO, logger="warpspan")
    driver = Nvml(clock)
    yield driver
    driver.close()


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "warpspan"]


def test_every_value_in_its_unit(fake, nvml):
    """mJ, mW, MHz and percent become J, W, Hz and shares; GPM gives means between two samples."""
    fake.script(H100, BUSY, "at 2 0 sm=1 reasons=0x84", "process 0 pid=1 used=7")
    reader = nvml.reader("GPU-0")
    fake.at(1)
    first = reader.read(1, slowly=True)
    fake.at(3)
    second = reader.read(3)
    assert {
        "taken_ns": 1,
        "device_id": "GPU-0",
        "energy_j": 500.0,
        "power_w": 500.0,
        "temperature_c": 61,
        "sm_clock_hz": 1.755e9,
        "throttle_reasons": ("sw_power_cap",),  # not that it is idle
        "utilization": 0.8,
        "memory_used_bytes": 1_000_000,
        "memory_total_bytes": 85_520_809_984,
        "sm_utilization": None,
        "sm_occupancy": None,
        "tensor_utilization": None,
        "dram_utilization": None,
        "corrected_errors": 0,
        "uncorrected_errors": 2,
        "shared": False,
        "cost_s": first.cost_s,
        "skew_s": first.skew_s,
        "unix_ns": None,
    } == first._asdict()
    assert (1500.0, 0.75, 0.25, 0.4, 0.3) == (
        second.energy_j,
        second.sm_utilization,
        second.sm_occupancy,
        pytest.approx(second.tensor_utilization),
        pytest.approx(second.dram_utilization),
    )
    assert first.cost_s > 0


def test_the_machine(fake, nvml):
    """Driver, CUDA, devices, instances and processes."""
    fake.script(
        "driver 570.86.15",
        "cuda 12080",
        H100,
        "device 1 uuid=GPU-1 bus=00000000:02:00.0 mig=1 memory=1000",
        "mig 1 0 uuid=MIG-0 gi=3 ci=0 sms=16 memory_mb=1 name=NVIDIA_H100_MIG_1g.10gb",
        "process 0 pid=41 used=9",
    )
    assert ("570.86.15", "12.8") == (nvml.version(), nvml.cuda_version())
    assert [
        Gpu("GPU-0", "00000000:1B:00.0", "NVIDIA H100 80GB HBM3", 85_520_809_984),
        Gpu(
            *("GPU-1", "00000000:02:00.0", "NVIDIA H100 80GB HBM3", 1000, True),
            (Instance("MIG-0", 3, 0, "1g.10gb", 1 << 20, 16),),
        ),
    ] == nvml.gpus()
    assert [Process(41, 9)] == nvml.processes("GPU-0")


def test_a_mig_instance(fake, nvml):
    """Its own SM counters and memory; the device's clock and temperature; nobody's energy."""
    fake.script(
        "device 0 uuid=GPU-0 mig=1", BUSY, "mig 0 0 uuid=MIG-0 gi=1 ci=0 sms=16 memory_mb=1"
    )
    reader = nvml.reader("MIG-0")
    fake.at(1)
    reader.read(1)
    fake.at(2)
    sample = reader.read(2)
    assert "mig" == reader.scope
    assert (0.5, 1.755e9, 61, None, None, None, 1 << 20) == (
        sample.sm_utilization,
        sample.sm_clock_hz,
        sample.temperature_c,
        sample.energy_j,
        sample.power_w,
        sample.utilization,
        sample.memory_total_bytes,
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [(3, "does not offer it"), (4, "for administrators only"), (13, "update the driver")],
)
def test_what_is_refused_is_asked_once_and_said_once(fake, nvml, caplog, code, words):
    """Not supported, not permitted, not there: None, and the driver is left alone with it."""
    fake.script(H100, BUSY, f"error nvmlGpmSampleGet {code}")
    reader = nvml.reader("GPU-0")
    reader.read(0, slowly=True)
    calls, fake_calls = nvml.calls, fake.calls
    samples = [reader.read(second) for second in (1, 2, 3)]
    assert {None} == {sample.sm_utilization for sample in samples}
    assert 500.0 == samples[0].power_w
    assert fake.calls - fake_calls == nvml.calls - calls
    assert 3 * (nvml.calls - calls) // 3 == nvml.calls - calls
    [line] = said(caplog)
    assert words in line
    assert list(nvml.refusals("GPU-0")) == ["nvmlGpmSampleGet"]


def test_before_hopper(fake, nvml, caplog):
    """GPM is not offered: no SM utilization, no line about it, everything else."""
    fake.script("device 0 uuid=GPU-0 gpm=0", BUSY)
    reader = nvml.reader("GPU-0")
    reader.read(0)
    fake.at(1)
    assert (None, 500.0) == ((sample := reader.read(1)).sm_utilization, sample.energy_j)
    assert [] == said(caplog)


def test_without_an_energy_counter(fake, nvml):
    """Before Volta there is power only."""
    fake.script("device 0 uuid=GPU-0 energy=0", BUSY)
    assert (None, 500.0) == ((sample := nvml.reader("GPU-0").read(0)).energy_j, sample.power_w)


def test_a_clock_of_zero_is_no_clock(fake, nvml):
    """Cycles of a clock that stands still would be a lie."""
    fake.script(H100, BUSY, "at 1 0 clock=0")
    fake.at(2)
    assert nvml.reader("GPU-0").read(2).sm_clock_hz is None


@pytest.mark.parametrize(
    ("code", "words"),
    [(15, "fell off the bus"), (9, "not loaded"), (18, "was updated"), (16, "to be reset")],
)
def test_a_lost_driver_and_its_return(fake, nvml, clock, caplog, code, words):
    """All is absent while it is lost, said once, tried again at growing intervals, and back."""
    fake.script(H100, BUSY, f"error * {code} from=1 to=10")
    reader = nvml.reader("GPU-0")
    assert 500.0 == reader.read(0, slowly=True).power_w
    fake.at(2)
    assert reader.read(2, slowly=True).power_w is None
    assert words in nvml.problem
    calls = fake.calls
    for _ in range(5):
        assert reader.read(2, slowly=True).power_w is None
    assert fake.calls == calls  # not before the retry is due
    clock.now_s = 1.5
    assert reader.read(2, slowly=True).power_w is None
    assert fake.calls > calls
    fake.at(20)
    clock.now_s = 3.0
    assert reader.read(3, slowly=True).power_w is None  # the second retry is due two seconds later
    clock.now_s = 4.0
    assert 500.0 == reader.read(4, slowly=True).power_w
    fake.at(21)
    assert 0.5 == reader.read(5).sm_utilization  # with counters of the new initialisation
    assert nvml.problem is None
    first, last = said(caplog)
    assert words in first
    assert "NVML answers again." == last


def test_somebody_else_shuts_nvml_down(fake, nvml, caplog):
    """It is initialised again at once, and nothing is missing."""
    import pynvml

    fake.script(H100, BUSY)
    reader = nvml.reader("GPU-0")
    reader.read(0)
    pynvml.nvmlShutdown()
    fake.at(1)
    assert 500.0 == reader.read(1, slowly=True).power_w
    assert [] == said(caplog)


def test_other_errors_are_for_this_time_only(fake, nvml, caplog):
    """A timeout gives None; the next call is made again."""
    fake.script(H100, BUSY, "error nvmlDeviceGetPowerUsage 10 to=1")
    reader = nvml.reader("GPU-0")
    assert reader.read(0, slowly=True).power_w is None
    fake.at(2)
    assert 500.0 == reader.read(2, slowly=True).power_w
    assert 1 == len(said(caplog))


def test_the_time_in_the_driver_is_measured(fake, nvml):
    """Calls, seconds, and the slowest one."""
    fake.script(H100, BUSY, "latency nvmlDeviceGetPowerUsage 0.05")
    sample = nvml.reader("GPU-0").read(0)
    assert "nvmlDeviceGetPowerUsage" == nvml.slowest[0]
    assert 0.05 <= nvml.slowest[1] <= sample.cost_s <= nvml.spent_s
    assert nvml.calls > 5


def test_other_processes_are_seen(fake, nvml):
    """Ours among others is sharing; one alone whose id is a container's is taken for ours."""
    for processes, shared in (
        ([], False),
        ([os.getpid()], False),
        ([1], False),
        ([1, os.getpid()], True),
        ([1, 2], True),
    ):
        fake.script(H100, BUSY, *(f"process 0 pid={pid} used=1" for pid in processes))
        assert shared == nvml.reader("GPU-0").read(0, slowly=True).shared
    fake.script(H100, BUSY, "error nvmlDeviceGetComputeRunningProcesses_v3 3")
    assert nvml.reader("GPU-0").read(0, slowly=True).shared is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_its_own(fake, nvml):
    """The parent's initialisation is not the child's; forgotten, it is made anew."""
    fake.script(H100, BUSY)
    assert 500.0 == nvml.reader("GPU-0").read(0, slowly=True).power_w
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the test's process has other threads
        child = os.fork()
    if not child:
        nvml.forget()
        os._exit(0 if nvml.reader("GPU-0").read(0, slowly=True).power_w == 500.0 else 1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_no_library_loads_nothing(program):
    """On a machine without NVML pynvml is not even imported, and the reason is a sentence."""
    done = program("no_driver.py")
    assert "libnvidia-ml.so.1 was not found" in done.stdout
    assert "False" == done.stdout.splitlines()[-1]
    assert "" == done.stderr


def test_without_the_package(fake, monkeypatch):
    """The driver is there and nvidia-ml-py is not: what to install."""
    from warpspan.device import discovery

    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.delitem(sys.modules, "warpspan.device.nvml.library", raising=False)
    driver = discovery.open_driver()
    assert not driver.open()
    assert "the package nvidia-ml-py is not installed: pip install nvidia-ml-py" == driver.problem
    assert (None, None, [], None, {}) == (
        driver.version(),
        driver.cuda_version(),
        driver.gpus(),
        driver.processes("GPU-0"),
        driver.refusals("GPU-0"),
    )
    assert driver.reader("GPU-0").read(3, slowly=True).power_w is None
