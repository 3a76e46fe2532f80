"""On a real device: shares of the driver's counters equal what other tools say."""

import shutil
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from warpspan import guard
from warpspan.device import discovery, identity
from warpspan.testing import InMemoryTelemetry

pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.version.hip is not None, reason="needs an NVIDIA GPU"
    ),
]

SAMPLES = 50
LOOP_S = 8.0
KERNEL = """
import torch
a = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
for _ in range(3):
    a @ a
torch.cuda.synchronize()
"""


@pytest.fixture
def driver():
    found = discovery.open_driver()
    if not found.open():
        pytest.skip(found.problem)
    yield found
    found.close()


@pytest.fixture
def uuid(driver):
    import os

    device = torch.cuda.get_device_properties(0)
    given = getattr(device, "uuid", None)
    found = identity.find(driver.gpus(), 0, f"GPU-{given}" if given else None, os.environ)
    assert found is not None
    return found


@pytest.fixture
def model():
    kind = {"device": "cuda", "dtype": torch.float16}
    return nn.Sequential(*(nn.Linear(4096, 4096, **kind) for _ in range(64))).eval()


@pytest.fixture
def batch():
    return torch.randn(8192, 4096, device="cuda", dtype=torch.float16)


def nvidia_smi(query, uuid):
    """One value of nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        pytest.skip("nvidia-smi is not installed")
    return float(
        subprocess.run(
            ["nvidia-smi", f"--id={uuid}", f"--query-gpu={query}", "--format=csv,noheader,nounits"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )


def test_the_cost_of_a_sample(driver, uuid, record_property):
    """Seconds in the driver for a sample, fast and slow, and which call is the slowest."""
    reader = driver.reader(uuid)
    reader.read(0, slowly=True)
    for name, slowly in (("sample_s", False), ("slow_sample_s", True)):
        costs = []
        for _ in range(SAMPLES):
            time.sleep(0.11)  # GPM's shortest interval
            costs.append(reader.read(time.perf_counter_ns(), slowly=slowly).cost_s)
        record_property(name, sorted(costs)[SAMPLES // 2])
    record_property("slowest_call", driver.slowest)


def test_what_is_offered_and_permitted(driver, uuid, record_property):
    """Which counters this device and user have."""
    reader = driver.reader(uuid)
    reader.read(0, slowly=True)
    time.sleep(0.2)
    sample = reader.read(1, slowly=True)
    record_property(
        "offered", [name for name, value in sample._asdict().items() if value is not None]
    )
    record_property("refused", driver.refusals(uuid))
    assert sample.memory_total_bytes is not None


@pytest.mark.real_gpu("nvidia-smi")
def test_the_device_as_nvidia_smi_shows_it(driver, uuid):
    """Memory, temperature and clock agree."""
    if uuid.startswith("MIG-"):
        pytest.skip("nvidia-smi does not show these for a MIG instance")
    sample = driver.reader(uuid).read(0, slowly=True)
    assert sample.memory_total_bytes / 2**20 == pytest.approx(
        nvidia_smi("memory.total", uuid), rel=0.02
    )
    assert sample.temperature_c == pytest.approx(nvidia_smi("temperature.gpu", uuid), abs=5)


@torch.inference_mode()
def test_energy_over_a_long_loop(driver, uuid, model, batch, record_property):
    """The spans' joules and the idle rest are what the counter counted; nearly all is the spans'."""
    if uuid.startswith("MIG-"):
        pytest.skip("energy is the whole device's")
    guard.forget()
    with InMemoryTelemetry() as telemetry:
        until = time.perf_counter() + 1.0
        while time.perf_counter() < until:  # samples are under way
            model(batch)
            torch.cuda.synchronize()
        before_j = driver.ask("nvmlDeviceGetTotalEnergyConsumption", uuid=uuid)
        if before_j is None:
            pytest.skip("no energy counter")
        first = len(telemetry.records())
        until = time.perf_counter() + LOOP_S
        while time.perf_counter() < until:
            model(batch)
            torch.cuda.synchronize()
        after_j = driver.ask("nvmlDeviceGetTotalEnergyConsumption", uuid=uuid)
        records = telemetry.records()[first:]
    counted_j = (after_j - before_j) / 1e3
    measured = [record.usage for record in records if record.usage and record.usage.energy_j]
    spans_j = sum(usage.energy_j for usage in measured)
    record_property("counted_j", counted_j)
    record_property("spans_j", spans_j)
    record_property("spans_with_energy", len(measured) / len(records))
    record_property("power_w", [min(u.power_w for u in measured), max(u.power_w for u in measured)])
    utilization = [u.sm_utilization for u in measured if u.sm_utilization is not None]
    record_property("sm_utilization", sum(utilization) / len(utilization) if utilization else None)
    assert len(measured) > 0.95 * len(records)
    assert spans_j == pytest.approx(counted_j, rel=0.10)
    assert {} == dict(guard.faults)


@pytest.mark.real_gpu("ncu")
@torch.inference_mode()
def test_cycles_are_those_of_ncu(model, batch, record_property, tmp_path):
    """Elapsed SM cycles of a known kernel, within 5 %: clock × GPU-seconds against the counter."""
    ncu = shutil.which("ncu")
    if ncu is None:
        pytest.skip("ncu is not installed")
    program = tmp_path / "kernel.py"
    program.write_text(KERNEL)
    profiled = subprocess.run(
        [
            *(ncu, "--csv", "--clock-control", "none", "--metrics"),
            *("sm__cycles_elapsed.max,gpu__time_duration.sum", sys.executable, str(program)),
        ],
        capture_output=True,
        text=True,
    )
    if "ERR_NVGPUCTRPERM" in profiled.stdout + profiled.stderr:
        pytest.skip("ncu may not read the counters")
    rows = [line.split('","') for line in profiled.stdout.splitlines() if line.startswith('"')]
    values = {row[-3]: float(row[-1].strip('"').replace(",", "")) for row in rows[1:]}
    unit = {row[-3]: row[-2] for row in rows[1:]}["gpu__time_duration.sum"]
    seconds = values["gpu__time_duration.sum"] * {"nsecond": 1e-9, "ns": 1e-9, "us": 1e-6}[unit]
    ncu_hz = values["sm__cycles_elapsed.max"] / seconds
    with InMemoryTelemetry() as telemetry:
        until = time.perf_counter() + 4.0
        while time.perf_counter() < until:
            model(batch)
            torch.cuda.synchronize()
        usages = [record.usage for record in telemetry.records() if record.usage]
    clock_hz = usages[-1].sm_cycles_elapsed / usages[-1].gpu_time_s
    record_property("ncu_clock_hz", ncu_hz)
    record_property("clock_hz", clock_hz)
    assert clock_hz == pytest.approx(ncu_hz, rel=0.05)
