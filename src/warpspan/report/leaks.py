"""KV caches that nobody releases: what the metrics say at the end, since when by the spans."""

from __future__ import annotations

from array import array
from collections import Counter
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

    size_bytes: int = 0
    caches: int = 0
    score: float = 0.0


class Leak(NamedTuple):
    """KV caches of a model that grow and are not released.

    Args:
        model: whose.
        process: in which process.
        size_bytes: of those that were alive at the end.
        caches: how many those were.
        score: at the end.
        since_ns: Unix time of the inference that first saw the oldest of them, None where no span
            says so.
        per_inference_bytes: mean growth per inference since then, likewise; None as well where
            some inference has no span, since the number of inferences is then not known.
    """

    model: str
    process: str
    size_bytes: int
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
            "kv_cache_bytes": self.size_bytes,
            "kv_cache_count": self.caches,
            "score": self.score,
            "since": self.since,
            "bytes_per_inference": self.per_inference_bytes,
        }


class History:
    """What inferences say about the KV caches of their models, collected as they pass by."""

    def __init__(self) -> None:
        self._spans: Counter[Key] = Counter()
        #: Start of each inference with a cache, and bytes of its model's caches alive after it.
        self._starts_ns: dict[Key, array[int]] = {}
        self._alive_bytes: dict[Key, array[int]] = {}
        self._latest: dict[Key, tuple[int, float | None]] = {}

    def passing(self, inferences: Iterable[Inference]) -> Iterator[Inference]:
        """The same inferences, noted on their way."""
        for inference in inferences:
            cache, model = inference.cache, inference.model.name
            if model is not None:
                key = (inference.process, model)
                self._spans[key] += 1
                if cache is not None:
                    self._starts_ns.setdefault(key, array("q")).append(inference.start_ns)
                    self._alive_bytes.setdefault(key, array("q")).append(cache.alive_bytes or 0)
                    latest = self._latest.get(key)
                    if latest is None or inference.end_ns >= latest[0]:
                        self._latest[key] = (inference.end_ns, cache.leak_start_s)
            yield inference

    def leaks(self, levels: Mapping[Key, Level], counted: Mapping[Key, int]) -> tuple[Leak, ...]:
        """The leaks, the largest first.

        The metrics alone decide: a cache that was released after the last inference is in no span.

        Args:
            levels: the caches by the metrics' last points.
            counted: inferences by the metrics.
        """
        found = []
        for key, level in levels.items():
            if level.score < THRESHOLD or not level.size_bytes:
                continue
            process, model = key
            leak = Leak(model, process, level.size_bytes, level.caches, level.score)
            _, since_s = self._latest.get(key, (0, None))
            if since_s is not None:
                since_ns = round(since_s * 1e9)
                whole = counted.get(key) == self._spans[key]
                leak = leak._replace(
                    since_ns=since_ns,
                    per_inference_bytes=self._growth(key, since_ns, level) if whole else None,
                )
            found.append(leak)
        return tuple(sorted(found, key=lambda leak: -leak.size_bytes))

    def _growth(self, key: Key, since_ns: int, level: Level) -> float | None:
        """Bytes per inference from the first inference of a leak to the end; None for one alone."""
        # A Unix time in a double is exact to a quarter of a microsecond.
        since = sorted(
            (start_ns, alive)
            for start_ns, alive in zip(self._starts_ns[key], self._alive_bytes[key], strict=True)
            if start_ns >= since_ns - 1000
        )
        if len(since) < 2:
            return None
        return (level.size_bytes - since[0][1]) / (len(since) - 1)
