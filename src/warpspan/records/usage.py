"""What an inference had of its GPU."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from warpspan.records.attr import attr
from warpspan.records.enums import StrEnum
from warpspan.signals import names


class CounterScope(StrEnum):
    """What the driver's counters cover: a whole device, or one MIG instance of it."""

    DEVICE = "device"
    MIG = "mig"


class Usage(NamedTuple):
    """What an inference had of its GPU: its share of what the driver counted while it ran.

    `sm_*` and `*_utilization` are shares from 0 to 1 while it ran, not over the whole time.
    """

    gpu_time_s: Annotated[float | None, attr(names.PYTORCH_GPU_TIME)] = None
    sm_cycles_active: Annotated[float | None, attr(names.PYTORCH_SM_CYCLES_ACTIVE)] = None
    sm_cycles_elapsed: Annotated[float | None, attr(names.PYTORCH_SM_CYCLES_ELAPSED)] = None
    sm_clock_hz: Annotated[float | None, attr(names.PYTORCH_SM_CLOCK)] = None
    sm_utilization: Annotated[float | None, attr(names.PYTORCH_SM_UTILIZATION)] = None
    sm_occupancy: Annotated[float | None, attr(names.PYTORCH_SM_OCCUPANCY, detail=True)] = None
    tensor_utilization: Annotated[
        float | None, attr(names.PYTORCH_TENSOR_CORE_UTILIZATION, detail=True)
    ] = None
    dram_utilization: Annotated[float | None, attr(names.PYTORCH_DRAM_UTILIZATION, detail=True)] = (
        None
    )
    sm_source: Annotated[str | None, attr(names.PYTORCH_SM_SOURCE, detail=True)] = None
    sm_scope: Annotated[str | None, attr(names.PYTORCH_SM_SCOPE, detail=True)] = None
    energy_j: Annotated[float | None, attr(names.PYTORCH_ENERGY_USED)] = None
    power_w: Annotated[float | None, attr(names.PYTORCH_ENERGY_POWER)] = None
    energy_source: Annotated[str | None, attr(names.PYTORCH_ENERGY_SOURCE, detail=True)] = None
    utilization: Annotated[float | None, attr(names.PYTORCH_GPU_UTILIZATION)] = None
    temperature_c: Annotated[
        float | None, attr(names.PYTORCH_GPU_TEMPERATURE, signed=True, detail=True)
    ] = None
    throttle_reasons: Annotated[
        tuple[str, ...] | None, attr(names.PYTORCH_GPU_THROTTLE_REASONS)
    ] = None
    estimated: Annotated[bool | None, attr(names.PYTORCH_GPU_ESTIMATED)] = None
