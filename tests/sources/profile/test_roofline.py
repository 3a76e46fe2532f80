"""What bounds work whose shapes are known, on a device whose peaks are."""

from __future__ import annotations

import pytest
from kineto_trace import KinetoTrace

from warpspan.records.kernels import Roofline
from warpspan.sources.profile.peaks import peak_of

BF16 = ["c10::BFloat16", "c10::BFloat16"]


def trace(device: str) -> KinetoTrace:
    """A product that arithmetic bounds, one that memory bounds, and one nobody knows."""
    made = KinetoTrace(deviceProperties=[{"id": 0, "name": device}])
    made.module("Net", 0, 100)
    made.op("aten::mm", 10, 9, **{"Input Dims": [[4096, 4096], [4096, 4096]], "Input type": BF16})
    made.work(100, 300, launch=12)
    made.op("aten::mm", 20, 9, **{"Input Dims": [[1, 4096], [4096, 4096]], "Input type": BF16})
    made.work(400, 100, launch=22)
    made.op("my::op", 30, 9, **{"Input Dims": [[1]], "Input type": ["float"]})
    made.work(500, 100, launch=32)
    return made


def test_shares_are_of_the_time_in_known_work():
    """By arithmetic where its operations take longer at the peak than its bytes do."""
    (one,) = trace("NVIDIA H100 80GB HBM3").read().inferences

    flops = 2 * 4096**3 + 2 * 4096**2
    nbytes = 2 * (3 * 4096**2) + 2 * (4096 + 4096**2 + 4096)
    expected = Roofline(
        covered_share=0.8,
        compute_share=0.75,
        bandwidth_share=0.25,
        flops=flops,
        nbytes=nbytes,
        flops_share=flops / 989e12 / 400e-6,
        bandwidth_used=nbytes / 3.35e12 / 400e-6,
        source="NVIDIA H100 SXM datasheet",
    )
    roofline = one.work[0].roofline
    assert pytest.approx(tuple(expected)[:-1]) == tuple(roofline)[:-1]
    assert expected.source == roofline.source


def test_without_peaks_there_is_no_roofline():
    """A device that the table does not have, or that the trace does not name."""
    for device in ("Some GPU", ""):
        assert trace(device).read().inferences[0].work[0].roofline is None


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM datasheet"),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe datasheet"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB SXM datasheet"),
        ("NVIDIA A100-PG509-200", "NVIDIA A100 40GB datasheet"),
        ("NVIDIA L40S", "NVIDIA L40S datasheet"),
        ("NVIDIA L4", "NVIDIA L4 datasheet"),
        ("Tesla V100-SXM2-32GB", "NVIDIA V100 SXM2 datasheet"),
        ("Tesla T4", "NVIDIA Turing whitepaper"),
        ("AMD Instinct MI300X VF", "AMD Instinct MI300X datasheet"),
    ],
)
def test_devices_are_known_by_their_names(name, source):
    """As the driver calls them, the most special entry first."""
    assert source == peak_of(name).source
