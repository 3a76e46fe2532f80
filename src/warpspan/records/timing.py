"""When an inference ran, beside its own start and duration."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from warpspan.records.attr import attr
from warpspan.signals import names


class Timing(NamedTuple):
    """Times beside the inference's own start and duration."""

    cpu_time_s: Annotated[float | None, attr(names.PYTORCH_HOST_CPU_TIME)] = None
    device_time_s: Annotated[float | None, attr(names.PYTORCH_DEVICE_TIME)] = None
    queue_time_s: Annotated[float | None, attr(names.PYTORCH_DEVICE_QUEUE_TIME)] = None
    idle_time_s: Annotated[float | None, attr(names.PYTORCH_DEVICE_IDLE_TIME)] = None
    concurrency: Annotated[int | None, attr(names.PYTORCH_INFERENCE_CONCURRENCY)] = None
    gc_time_s: Annotated[float | None, attr(names.PYTORCH_HOST_GC_TIME)] = None
    gc_count: Annotated[int | None, attr(names.PYTORCH_HOST_GC_COUNT)] = None


class Steps(NamedTuple):
    """The module calls inside an inference that is not a module call itself."""

    total: Annotated[int | None, attr(names.PYTORCH_STEP_COUNT)] = None
    first_s: Annotated[float | None, attr(names.PYTORCH_STEP_FIRST_TIME)] = None
    duration_s: Annotated[float | None, attr(names.PYTORCH_STEP_TIME)] = None
