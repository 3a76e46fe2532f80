"""What the inferences of this process were like lately, by operation and model, for `warpspan top`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from warpspan.records import Inference

#: Operations and models that are told apart; further ones are `other`.
_KEYS = 100
_OTHER = ("other", "", "")
_RECENT = 128
_RECENT_S = 60.0


class LiveFigures:
    """Counts since somebody looks, and the latest durations. One thread at a time."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, str, str], _Figures] = {}

    def clear(self) -> None:
        """Forget all."""
        self._figures.clear()

    def add(self, record: Inference) -> None:
        """Take a finished inference."""
        device = record.device
        place = device.id or (
            device.type if device.ordinal is None else f"{device.type}:{device.ordinal}"
        )
        key = (record.operation, record.model.name or "", place)
        figures = self._figures.get(key)
        if figures is None:
            if len(self._figures) >= _KEYS:
                key = _OTHER
            figures = self._figures.setdefault(key, _Figures())
        figures.add(record)

    def to_json(self) -> Iterator[dict[str, Any]]:
        """One object per operation, model and device; sums and the numbers of what was summed."""
        for (operation, model, device), figures in list(self._figures.items()):
            yield {
                "operation": operation,
                "model": model or None,
                "device": device or None,
                **figures.to_json(),
            }


class _Figures:
    """Those of one operation and model on one device."""

    def __init__(self) -> None:
        self.count = self.failed = 0
        self.tokens: int | None = None
        #: Sum and number of the inferences that have a value.
        self.sums: dict[str, tuple[float, int]] = {}
        self.recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)

    def add(self, record: Inference) -> None:
        usage, timing, loop = record.usage, record.timing, record.loop
        self.count += 1
        self.failed += record.error_type is not None
        if loop is not None and loop.generation is not None:
            self.tokens = (self.tokens or 0) + (loop.generation.generated_tokens or 0)
        for name, value in (
            ("cpu_s", timing.cpu_time_s),
            ("queue_s", timing.queue_time_s),
            ("gpu_s", None if usage is None else usage.gpu_time_s),
            ("joules", None if usage is None else usage.energy_j),
        ):
            if value is not None:
                total, number = self.sums.get(name, (0.0, 0))
                self.sums[name] = (total + value, number + 1)
        self.recent.append((time.monotonic(), record.duration_s))

    def to_json(self) -> dict[str, Any]:
        since_s = time.monotonic() - _RECENT_S
        return {
            "inferences": self.count,
            "failed": self.failed,
            "tokens": self.tokens,
            "sums": {name: list(pair) for name, pair in self.sums.items()},
            # `top` takes percentiles over several processes.
            "durations_s": [
                float(f"{duration_s:.4g}")
                for at_s, duration_s in list(self.recent)
                if at_s >= since_s
            ],
        }
