"""Test helpers: a CUDA device that follows a script, and telemetry kept in memory.

They let a machine without a GPU run the CUDA paths of an instrumented program, and tests read what
it recorded:

    with ScriptedDevice() as device, InMemoryTelemetry() as telemetry:
        device.op_time_s = 1e-3
        model.to("cuda")(torch.ones(2, 8, device="cuda"))
        [inference] = telemetry.records()
"""

from warpspan.testing.clock import ScriptedClock
from warpspan.testing.device import ScriptedDevice
from warpspan.testing.telemetry import InMemoryTelemetry

__all__ = ["InMemoryTelemetry", "ScriptedClock", "ScriptedDevice"]
