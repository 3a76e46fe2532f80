"""A hundred thousand inferences leave nothing behind that grows."""

from __future__ import annotations

import gc

import pytest
import torch
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from torch import nn

import warpspan
from warpspan import instrumentor

X = torch.ones(1, 1)
ROUND = 5_000


class Counts(SpanProcessor):
    """Keeps no span."""

    def __init__(self):
        self.spans = 0

    def on_end(self, span):
        self.spans += 1


class Identity(nn.Module):
    """A small model without an operator."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(X)

    def forward(self, x):
        return x


def sizes(session):
    """How much there is of all that one instrumentation holds."""
    return {
        "queue": len(session.finisher._queue),
        "registry": len(session.tracker.registry._infos),
        "places": [
            (runtime_device.device.type, runtime_device.open)
            for runtime_device in session.tracker.runtime_devices
        ],
        "drops": dict(session.finisher.dropped),
    }


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "unsampled"])
def test_nothing_grows(uninstrumented, recorded):
    """The sizes after the first of ten rounds are those after the last; all are counted."""
    counts = Counts()
    provider = TracerProvider(sampler=ALWAYS_ON if recorded else ALWAYS_OFF)
    provider.add_span_processor(counts)
    uninstrumented.instrument(tracer_provider=provider, queue_size=ROUND)
    session = instrumentor.active_session()
    model = Identity().eval()

    def infer():
        for _ in range(ROUND - 1):
            model(X)
        assert warpspan.flush(60)

    def objects():
        gc.collect()
        return len(gc.get_objects())

    infer()
    before = objects()
    for _ in range(9):
        infer()
    assert abs(objects() - before) < ROUND / 10
    assert {"queue": 0, "registry": 1, "places": [("cpu", 0)], "drops": {}} == sizes(session)
    assert (10 * (ROUND - 1) if recorded else 0) == counts.spans
    (point,) = uninstrumented.points("pytorch.inference.duration").values()
    assert 10 * (ROUND - 1) == point.count
