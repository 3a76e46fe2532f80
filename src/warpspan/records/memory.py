"""The memory of an inference."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from warpspan.records.attr import attr
from warpspan.signals import names


class Memory(NamedTuple):
    """Memory of the device in torch's caching allocator; `rss_bytes` is the host process's."""

    allocated_start_bytes: Annotated[int | None, attr(names.PYTORCH_MEMORY_ALLOCATED_START)] = None
    allocated_end_bytes: Annotated[int | None, attr(names.PYTORCH_MEMORY_ALLOCATED_END)] = None
    peak_bytes: Annotated[int | None, attr(names.PYTORCH_MEMORY_PEAK_SIZE)] = None
    peak_increase_bytes: Annotated[int | None, attr(names.PYTORCH_MEMORY_PEAK_INCREASE)] = None
    reserved_bytes: Annotated[int | None, attr(names.PYTORCH_MEMORY_RESERVED)] = None
    limit_bytes: Annotated[int | None, attr(names.PYTORCH_MEMORY_LIMIT)] = None
    utilization: Annotated[float | None, attr(names.PYTORCH_MEMORY_UTILIZATION)] = None
    allocation_retries: Annotated[int | None, attr(names.PYTORCH_MEMORY_ALLOCATION_RETRIES)] = None
    oom_requested_bytes: Annotated[int | None, attr(names.PYTORCH_MEMORY_OOM_REQUESTED)] = None
    rss_bytes: Annotated[int | None, attr(names.PYTORCH_HOST_MEMORY_RSS)] = None
