"""The metrics of KV caches: what each inference had, and what is alive when metrics are collected."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import Meter, Observation

from warpspan.emit.instruments import Active, counter, histogram, observe
from warpspan.records import Cache, CacheState, Inference, device_attributes
from warpspan.signals import instruments, names


class CacheMetrics:
    """Creates the instruments and records into them.

    Args:
        meter: where they are created.
        caches: the caches that are alive, asked when metrics are collected.
    """

    def __init__(self, meter: Meter, caches: Callable[[], Iterable[CacheState]]) -> None:
        _active.set(self, meter)
        self._caches = caches
        self._size = histogram(meter, instruments.PYTORCH_INFERENCE_KV_CACHE_SIZE)
        self._growth = counter(meter, instruments.PYTORCH_INFERENCE_KV_CACHE_GROWTH)
        level = meter.create_observable_up_down_counter
        for metric, create, ask in (
            (instruments.PYTORCH_KV_CACHE_USAGE, level, CacheMetrics._usage),
            (instruments.PYTORCH_KV_CACHE_COUNT, level, CacheMetrics._count),
            (
                instruments.PYTORCH_KV_CACHE_LEAK_SCORE,
                meter.create_observable_gauge,
                CacheMetrics._score,
            ),
        ):
            observe(create, metric, _active.asking(meter, ask))

    def close(self) -> None:
        """Observe nothing any more."""
        _active.clear(self)

    def record(self, record: Inference, cache: Cache, context: Context) -> None:
        """Record what an inference had; its span's context gives the exemplars."""
        attributes: dict[str, Any] = record.start_attributes()
        if record.error_type is not None:
            attributes[names.ERROR_TYPE] = record.error_type
        if cache.size is not None:
            self._size.record(cache.size, attributes, context)
        if cache.increase is not None and cache.increase > 0:
            self._growth.add(cache.increase, attributes, context)

    def _usage(self) -> Iterable[Observation]:
        return self._of(lambda state: state.alive)

    def _count(self) -> Iterable[Observation]:
        return self._of(lambda state: state.alive_count)

    def _score(self) -> Iterable[Observation]:
        return self._of(lambda state: state.leak_score)

    def _of(self, value: Callable[[CacheState], float]) -> Iterable[Observation]:
        for state in self._caches():
            attributes = {
                names.PYTORCH_MODEL_NAME: state.model,
                **device_attributes(state.device),
            }
            yield Observation(value(state), attributes)


_active: Active[CacheMetrics] = Active()
