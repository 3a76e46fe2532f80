"""The CUDA side of the harness, on a GPU; names of GPUs without one."""

import pytest
import torch

from warpspan.kernels.bench.cuda import CudaDevice, CudaMeter, datasheet_bandwidth
from warpspan.kernels.bench.harness import Workload, measure

US = 1e-6


@pytest.mark.parametrize(
    ("name", "bandwidth"),
    [
        ("NVIDIA H100 80GB HBM3", 3.35e12),
        ("NVIDIA H100 PCIe", 2.0e12),
        ("NVIDIA H200", 4.8e12),
        ("NVIDIA A100-SXM4-80GB", 2.039e12),
        ("NVIDIA L40S", 864e9),
        ("NVIDIA L4", 300e9),
        ("NVIDIA GeForce GTX 970", None),
    ],
)
def test_the_datasheet_is_found_by_the_drivers_name(name, bandwidth):
    """None for a GPU that is not in the list."""
    assert bandwidth == datasheet_bandwidth(name)


@pytest.fixture
def device():
    return CudaDevice()


@pytest.mark.gpu
def test_a_short_kernel_is_timed_without_its_launch(device):
    """An addition of 4096 values takes the device under 10 us, whatever the host needs."""
    x = torch.randn(4096, device="cuda")
    timing = measure(
        [Workload("add", [lambda: x + 1] * 16)],
        device,
        cold=True,
        rounds=10,
        first_calls={"add": 0.0},
        meter=CudaMeter(),
    )["add"]
    assert "graph" == timing.method
    assert timing.device.p50_s < 10 * US
    assert timing.device.p50_s < timing.wall.p50_s


@pytest.mark.gpu
def test_calls_that_cannot_be_captured_are_queued(device):
    """A synchronizing call breaks a capture; the stream is usable after it."""
    x = torch.randn(4096, device="cuda")
    timing = measure(
        [Workload("sync", [lambda: float(x.sum())] * 4)],
        device,
        cold=False,
        rounds=3,
        first_calls={"sync": 0.0},
    )["sync"]
    assert "queued" == timing.method
    assert 4096 == (x + 1).numel()


@pytest.mark.gpu
def test_launches_and_peak_are_those_of_one_call(device):
    """Two kernels; one intermediate and one result of 4 MB."""
    x = torch.randn(1024, 1024, device="cuda")
    assert 2 == device.launches(lambda: (x + 1) * 2)
    assert 2 * x.nbytes == device.peak_bytes(lambda: (x + 1) * 2)


@pytest.mark.gpu
def test_a_large_copy_comes_near_the_datasheet(device):
    """Between 60 and 105 % of the datasheet, where the GPU is listed."""
    from warpspan.kernels.bench.cuda import COPY_BYTES

    sheet = datasheet_bandwidth(device.name)
    if sheet is None:
        pytest.skip(f"no datasheet for {device.name}")
    timing = measure(
        [Workload("copy", device.copy_calls())],
        device,
        cold=True,
        rounds=10,
        first_calls={"copy": 0.0},
    )["copy"]
    assert 0.6 < 2 * COPY_BYTES / timing.device.p50_s / sheet < 1.05
