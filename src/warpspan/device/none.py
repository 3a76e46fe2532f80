"""A driver that isn't there."""

from __future__ import annotations

import ctypes
import sys

from warpspan.device.base import Driver, Gpu, Process
from warpspan.records import DeviceSample

INSTALL = "pip install nvidia-ml-py"


LIBRARY_MISSING = (
    "libnvidia-ml.so.1 was not found: install the NVIDIA driver, or start the container with "
    "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
)


def driver() -> Driver:
    """The driver of this machine. Where it has none, nothing is imported."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return NoDriver(LIBRARY_MISSING)
    try:
        from warpspan.device.nvml import Nvml
    except ImportError:
        return NoDriver(f"the package nvidia-ml-py is not installed: {INSTALL}")
    return Nvml()


class NoDriver:
    """Stands for a driver where none can be asked, and says why."""

    def __init__(self, problem: str) -> None:
        self.problem: str | None = problem
        self.hopeless = True
        self.spent_s = 0.0
        self.calls = 0

    def open(self) -> bool:
        """Never."""
        return False

    def version(self) -> str | None:
        """Not known."""
        return None

    def cuda_version(self) -> str | None:
        """Not known."""
        return None

    def gpus(self) -> list[Gpu]:
        """None."""
        return []

    def processes(self, uuid: str) -> list[Process] | None:  # noqa: ARG002
        """Not known."""
        return None

    def reader(self, uuid: str) -> NoReader:
        """Reads nothing."""
        return NoReader(uuid)

    def refusals(self, uuid: str) -> dict[str, str]:  # noqa: ARG002
        """Nothing was asked."""
        return {}

    def close(self) -> None:
        """There is nothing to close."""

    def forget(self) -> None:
        """There is nothing to forget."""


class NoReader:
    """Reads nothing."""

    scope = "device"

    def __init__(self, uuid: str, *, found: bool = True) -> None:
        self._uuid = uuid
        self.found = found

    def read(self, taken_ns: int, *, slowly: bool = False) -> DeviceSample:  # noqa: ARG002
        """A sample without a value."""
        return DeviceSample(taken_ns, self._uuid)
