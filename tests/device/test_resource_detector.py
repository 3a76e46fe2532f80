"""The GPUs of a process on its resource, as CUDA shows them."""

import importlib.metadata

import pytest

from warpspan.device import discovery, driver, resource_detector
from warpspan.device.driver import Gpu, Instance

GPUS = [
    Gpu("GPU-a", "1", "H100", 80, mig=False),
    Gpu("GPU-b", "2", "H100", 80, mig=True, instances=(Instance("MIG-b", 1, 0, "1g.10gb", 10),)),
]


class Driver(driver.NoDriver):
    def __init__(self):
        super().__init__("")

    def open(self):
        return True

    def version(self):
        return "570.86.15"

    def cuda_version(self):
        return "12.8"

    def gpus(self):
        return GPUS


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("0", {"host.gpu.id": ("GPU-a",), "host.gpu.memory.size": (80,)}),
        (
            "MIG-b",
            {
                "host.gpu.id": ("MIG-b",),
                "host.gpu.memory.size": (10,),
                "host.gpu.mig.profile": ("1g.10gb",),
            },
        ),
        ("", None),
    ],
)
def test_what_cuda_shows(monkeypatch, chosen, expected):
    """The visible devices, driver and CUDA version; nothing where none is visible."""
    monkeypatch.setattr(discovery, "open_driver", Driver)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    if expected is not None:
        expected |= {
            "host.gpu.name": ("H100",),
            "host.gpu.driver.version": "570.86.15",
            "host.gpu.cuda.version": "12.8",
        }
    found = resource_detector.WarpspanResourceDetector().detect()
    assert (expected or {}) == dict(found.attributes)


def test_without_a_driver(monkeypatch):
    """An empty resource, and no complaint."""
    monkeypatch.setattr(discovery, "open_driver", lambda: driver.NoDriver("none"))
    assert {} == dict(resource_detector.WarpspanResourceDetector().detect().attributes)


def test_opentelemetry_finds_it():
    """By the name that OTEL_EXPERIMENTAL_RESOURCE_DETECTORS takes."""
    [point] = importlib.metadata.entry_points(
        group="opentelemetry_resource_detector", name="warpspan"
    )
    assert resource_detector.WarpspanResourceDetector is point.load()
