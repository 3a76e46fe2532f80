"""What a source knows of inferences, and what it can't know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from warpspan.records import CacheState, DeviceSample, Inference
from warpspan.records.kernels import Trace
from warpspan.records.request import Request


class Observation(NamedTuple):
    """Everything that the advisor looks at, in any order. An empty part was not observed.

    Args:
        inferences: those of all sources, also those in `traces`.
        requests: spans around inferences.
        samples: what the driver said of devices.
        caches: KV caches that were alive at the end, None where only the inferences tell.
        traces: profiler recordings.
        forgotten: earlier inferences that were not kept, to bound memory.
    """

    inferences: Sequence[Inference]
    requests: Sequence[Request] = ()
    samples: Sequence[DeviceSample] = ()
    caches: Sequence[CacheState] | None = None
    traces: Sequence[Trace] = ()
    forgotten: int = 0

    @classmethod
    def of_traces(cls, traces: Iterable[Trace]) -> Observation:
        """What profiler recordings show."""
        held = tuple(traces)
        return cls(tuple(one.inference for trace in held for one in trace.inferences), traces=held)
