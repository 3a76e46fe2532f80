"""What a source knows of inferences, and what it can't know."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from warpspan.records import CacheState, DeviceSample, Inference
from warpspan.records.kernels import Trace
from warpspan.records.request import Request

KEPT_INFERENCES = 20_000
"""Inferences of a stream that a verdict looks at, the last ones: some 40 MB."""


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


class Recent:
    """Keeps the last inferences of a stream for an observation, while they pass by."""

    def __init__(self) -> None:
        self._kept: deque[Inference] = deque(maxlen=KEPT_INFERENCES)
        self._seen = 0

    def passing(self, inferences: Iterable[Inference]) -> Iterator[Inference]:
        """The same inferences, kept on their way."""
        for inference in inferences:
            self._kept.append(inference)
            self._seen += 1
            yield inference

    def observation(
        self,
        requests: Iterable[Request],
        samples: Sequence[DeviceSample],
        caches: Sequence[CacheState] | None,
    ) -> Observation:
        """What was kept, with what else was observed.

        Args:
            requests: spans around inferences.
            samples: what the driver said of devices.
            caches: KV caches at the end, None where only the inferences tell.
        """
        return Observation(
            inferences=tuple(self._kept),
            requests=tuple(requests),
            samples=samples,
            caches=caches,
            forgotten=self._seen - len(self._kept),
        )
