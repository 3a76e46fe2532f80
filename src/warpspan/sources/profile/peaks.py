"""What devices can do at most, from their makers' datasheets: dense, without sparsity.

FLOP/s of tensor (NVIDIA) or matrix (AMD) cores for 16-bit and 8-bit types, of the vector units for
32-bit ones: whether TF32 was allowed does not stand in a trace.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Peak(NamedTuple):
    """The most that a device can do.

    Args:
        f32: operations per second on 32-bit floating point numbers.
        f16: on 16-bit ones.
        f8: on 8-bit ones; 0 where it has no units for them.
        bytes_per_s: of its memory.
        source: the datasheet.
    """

    f32: float
    f16: float
    f8: float
    bytes_per_s: float
    source: str

    def flops(self, dtype: str | None) -> float | None:
        """Operations per second for a type of `OpCost`, None where the table has none."""
        found = {"f32": self.f32, "f16": self.f16, "f8": self.f8}.get(dtype or "", 0.0)
        return found or None


def _peak(f32: float, f16: float, f8: float, gigabytes_per_s: float, source: str) -> Peak:
    return Peak(f32 * 1e12, f16 * 1e12, f8 * 1e12, gigabytes_per_s * 1e9, source)


# The first pattern that is found in a device's name counts.
_PEAKS = tuple(
    (re.compile(pattern), peak)
    for pattern, peak in (
        ("B200", _peak(75, 2250, 4500, 7700, "NVIDIA HGX B200 datasheet")),
        ("GH200", _peak(67, 989, 1979, 4000, "NVIDIA GH200 datasheet (96 GB)")),
        ("H200 NVL", _peak(60, 835, 1671, 4800, "NVIDIA H200 NVL datasheet")),
        ("H200", _peak(67, 989, 1979, 4800, "NVIDIA H200 SXM datasheet")),
        ("H100 NVL", _peak(60, 835, 1671, 3900, "NVIDIA H100 NVL datasheet")),
        ("H100 PCIe", _peak(51, 756, 1513, 2000, "NVIDIA H100 PCIe datasheet")),
        ("H100", _peak(67, 989, 1979, 3350, "NVIDIA H100 SXM datasheet")),
        ("L40S", _peak(91.6, 362, 733, 864, "NVIDIA L40S datasheet")),
        ("L40", _peak(90.5, 181, 362, 864, "NVIDIA L40 datasheet")),
        ("L4$", _peak(30.3, 121, 242.5, 300, "NVIDIA L4 datasheet")),
        ("A100.*PCI.*80", _peak(19.5, 312, 0, 1935, "NVIDIA A100 80GB PCIe datasheet")),
        ("A100.*80", _peak(19.5, 312, 0, 2039, "NVIDIA A100 80GB SXM datasheet")),
        ("A100", _peak(19.5, 312, 0, 1555, "NVIDIA A100 40GB datasheet")),
        ("A30$", _peak(10.3, 165, 0, 933, "NVIDIA A30 datasheet")),
        ("A40$", _peak(37.4, 149.7, 0, 696, "NVIDIA A40 datasheet")),
        ("A10$", _peak(31.2, 125, 0, 600, "NVIDIA A10 datasheet")),
        ("A10G", _peak(35, 70, 0, 600, "NVIDIA A10G datasheet")),
        ("RTX A6000", _peak(38.7, 154.8, 0, 768, "NVIDIA RTX A6000 datasheet")),
        ("RTX 5090", _peak(104.8, 209.5, 419, 1792, "NVIDIA RTX Blackwell whitepaper")),
        ("RTX 4090", _peak(82.6, 165.2, 330.3, 1008, "NVIDIA Ada whitepaper")),
        ("RTX 3090", _peak(35.6, 71, 0, 936, "NVIDIA GA102 whitepaper")),
        ("V100S", _peak(16.4, 130, 0, 1134, "NVIDIA V100S datasheet")),
        ("V100-PCI", _peak(14, 112, 0, 900, "NVIDIA V100 PCIe datasheet")),
        ("V100", _peak(15.7, 125, 0, 900, "NVIDIA V100 SXM2 datasheet")),
        ("T4$", _peak(8.1, 65, 0, 320, "NVIDIA Turing whitepaper")),
        ("MI355X", _peak(157.3, 2516, 5033, 8000, "AMD Instinct MI355X datasheet")),
        ("MI350X", _peak(144.2, 2307, 4614, 8000, "AMD Instinct MI350X datasheet")),
        ("MI325X", _peak(163.4, 1307.4, 2614.9, 6000, "AMD Instinct MI325X datasheet")),
        ("MI300A", _peak(122.6, 980.6, 1961.2, 5300, "AMD Instinct MI300A datasheet")),
        ("MI300X", _peak(163.4, 1307.4, 2614.9, 5300, "AMD Instinct MI300X datasheet")),
        ("MI250X", _peak(23.9, 191.5, 0, 1638, "AMD Instinct MI250X datasheet, one of two dies")),
        ("MI250", _peak(22.6, 181, 0, 1638, "AMD Instinct MI250 datasheet, one of two dies")),
        ("MI210", _peak(22.6, 181, 0, 1638, "AMD Instinct MI210 datasheet")),
        ("MI100", _peak(23.1, 184.6, 0, 1229, "AMD Instinct MI100 datasheet")),
    )
)


def peak_of(device_name: str) -> Peak | None:
    """What the device of that name can do at most, None where the table does not have it."""
    return next((peak for pattern, peak in _PEAKS if pattern.search(device_name.strip())), None)
