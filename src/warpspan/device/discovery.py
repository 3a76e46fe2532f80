"""Finds the driver of this machine, without importing anything where there is none."""

from __future__ import annotations

import ctypes
import sys

from warpspan.device.driver import INSTALL, LIBRARY_MISSING, Driver, NoDriver


def open_driver() -> Driver:
    """The driver of this machine. Where it has none, nothing is imported."""
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return NoDriver(LIBRARY_MISSING)
    try:
        from warpspan.device.nvml.library import Nvml
    except ImportError:
        return NoDriver(f"the package nvidia-ml-py is not installed: {INSTALL}")
    return Nvml()
