"""KV caches that nobody releases: what the metrics say at the end, since when by the spans."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple, TypeAlias

from warpspan.records import Inference

#: The score from which on a leak is named, as in scalene.
THRESHOLD = 0.95

#: Process and model.
Key: TypeAlias = tuple[str, str]


class Level(NamedTuple):
    """The KV caches of a model in a process at their last metric points."""

    size: int = 0
    caches: int = 0
    score: float = 0.0


class Leak(NamedTuple):
    """KV caches of a model that grow and are not released.

    Args:
        model: whose.
        process: in which process.
        size: bytes of those that were alive at the end.
        caches: how many those were.
        score: at the end.
        since_ns: Unix time of the inference that first saw the oldest of them, None where no span
            of it is there.
        per_inference_bytes: growth an inference since then, likewise.
    """

    model: str
    process: str
    size: int
    caches: int
    score: float
    since_ns: int | None = None
    per_inference_bytes: float | None = None

    @property
    def since(self) -> str | None:
        """The time in UTC, to the second."""
        if self.since_ns is None:
            return None
        at = datetime.fromtimestamp(self.since_ns / 1e9, tz=timezone.utc)
        return f"{at:%Y-%m-%d %H:%M:%S} UTC"

    def to_json(self) -> dict[str, Any]:
        """The leak as `warpspan report --json` prints it; its keys are stable."""
        return {
            "model": self.model,
            "kv_cache_bytes": self.size,
            "kv_cache_count": self.caches,
            "score": self.score,
            "since": self.since,
            "bytes_per_inference": self.per_inference_bytes,
        }


class History:
    """What inferences say of the KV caches of their models, collected as they pass by."""

    def __init__(self) -> None:
        self._starts_ns: dict[Key, array[int]] = {}
        self._latest: dict[Key, tuple[int, float | None]] = {}

    def passing(self, inferences: Iterable[Inference]) -> Iterator[Inference]:
        """The same inferences, noted on their way."""
        for inference in inferences:
            cache, model = inference.cache, inference.model.name
            if cache is not None and model is not None:
                key = (inference.process, model)
                self._starts_ns.setdefault(key, array("q")).append(inference.start_ns)
                latest = self._latest.get(key)
                if latest is None or inference.end_ns >= latest[0]:
                    self._latest[key] = (inference.end_ns, cache.leak_start_s)
            yield inference

    def leaks(self, levels: Mapping[Key, Level]) -> tuple[Leak, ...]:
        """The leaks, the largest first.

        The metrics alone decide: a cache that was released after the last inference is in no span.
        """
        found = []
        for (process, model), level in levels.items():
            if level.score < THRESHOLD or not level.size:
                continue
            leak = Leak(model, process, level.size, level.caches, level.score)
            _, since_s = self._latest.get((process, model), (0, None))
            if since_s is not None:
                since_ns = round(since_s * 1e9)
                # A Unix time in a double is exact to a quarter of a microsecond.
                since = [s for s in self._starts_ns[process, model] if s >= since_ns - 1000]
                leak = leak._replace(
                    since_ns=since_ns,
                    per_inference_bytes=level.size / len(since) if since else None,
                )
            found.append(leak)
        return tuple(sorted(found, key=lambda leak: -leak.size))
