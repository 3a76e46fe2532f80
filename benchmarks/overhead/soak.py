"""Very many small inferences: is memory flat, the queue bounded, each drop counted?"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch

from benchmarks.overhead.modes import RECORDED, QuietReader, set_providers
from benchmarks.overhead.variants import Stack
from warpspan.instrumentor import WarpspanInstrumentor, active_session
from warpspan.probes.memory import process_rss_bytes
from warpspan.signals import instruments

_STEPS = 20
_CHECK = 1_000
_DRAIN_S = 60.0


class Soak(NamedTuple):
    """What a soak found.

    Args:
        calls: inferences that the caller made.
        seconds: how long it took.
        finished: inferences in the duration metric.
        dropped: inferences in `warpspan.dropped`.
        spans: spans that reached the exporter.
        queue_max: most inferences that were seen waiting.
        queue_size: how many may wait.
        rss_bytes: resident memory after each twentieth of the calls.
    """

    calls: int
    seconds: float
    finished: int
    dropped: int
    spans: int
    queue_max: int
    queue_size: int
    rss_bytes: list[int | None]

    @property
    def accounted(self) -> bool:
        """Whether each call was finished or counted as dropped."""
        return self.finished + self.dropped == self.calls


def run(calls: int) -> Soak:
    """Make the calls from one thread. To be called once in a process.

    Of each twentieth the first half waits for the finisher now and then, so that every inference
    is recorded; the second half runs without a pause, so that the queue is full most of the time.
    """
    torch.set_num_threads(1)
    exporter, reader = set_providers(RECORDED)
    WarpspanInstrumentor().instrument()
    session = active_session()
    if session is None:
        raise RuntimeError("warpspan did not instrument torch: its log says why")
    model, argument = Stack(0).eval(), torch.zeros(2, 4)
    rss_bytes: list[int | None] = []
    queue_max = done = 0
    began = time.monotonic()
    with torch.inference_mode():
        for step in range(1, _STEPS + 1):
            calm, until = calls * (2 * step - 1) // (2 * _STEPS), calls * step // _STEPS
            while done < until:
                for _ in range(min(_CHECK, until - done)):
                    model(argument)
                    done += 1
                model.inner_ns.clear()
                queue_max = max(queue_max, len(session.finisher._queue))
                if done <= calm:
                    session.finisher.flush(_DRAIN_S)
            rss_bytes.append(process_rss_bytes())
    seconds = time.monotonic() - began
    session.flush(_DRAIN_S)
    finished, dropped = _counts(reader)
    return Soak(
        done,
        seconds,
        finished,
        dropped,
        exporter.count,
        queue_max,
        session.tracker.settings.queue_size,
        rss_bytes,
    )


def _counts(reader: QuietReader) -> tuple[int, int]:
    """Inferences in the duration metric, and in the counter of dropped ones."""
    finished = dropped = 0
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                points: Any = metric.data.data_points
                if metric.name == instruments.PYTORCH_INFERENCE_DURATION.name:
                    finished = sum(point.count for point in points)
                elif metric.name == instruments.WARPSPAN_DROPPED.name:
                    dropped = sum(point.value for point in points)
    return finished, dropped
