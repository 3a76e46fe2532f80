"""`warpspan.profile`: a report of a block, without a provider and without instrumentation."""

from __future__ import annotations

import pytest
import torch
from rich.console import Console
from torch import nn

import warpspan
from warpspan.report import notebook

X = torch.ones(2, 4)


@pytest.fixture
def model():
    return nn.Linear(4, 4).eval()


def test_it_instruments_for_the_block(uninstrumented, model):
    """What runs inside is recorded with its processor time, what runs outside is not."""
    model(X)
    with warpspan.profile() as p:
        model(X)
        model.train()(X)
        with torch.no_grad():
            model(X)
    model(X)
    assert [("forward", "Linear", 2)] * 2 == [
        (one.operation, one.model.name, one.input.batch_size) for one in p.inferences
    ]
    assert all(one.timing.cpu_time_s is not None and one.span_id for one in p.inferences)
    assert (2, {"training": 1}) == (p.summary.inference_count, p.skipped)
    assert not warpspan.WarpspanInstrumentor().is_instrumented_by_opentelemetry


def test_it_listens_to_what_is_instrumented(telemetry, model):
    """Spans go where they went before; blocks inside have their own part."""
    with warpspan.profile() as outer:
        model(X)
        with warpspan.profile() as inner:
            model(X)
    model(X)
    assert (2, 1) == (len(outer.inferences), len(inner.inferences))
    assert [one.span_id for one in outer.inferences] == [
        f"{span.context.span_id:016x}" for span in telemetry.spans()[:2]
    ]
    assert warpspan.WarpspanInstrumentor().is_instrumented_by_opentelemetry


def test_an_exception_leaves_nothing_behind(uninstrumented, model):
    """It reaches the program, and what ran before is recorded."""

    def run():
        with warpspan.profile() as p:
            taken.append(p)
            model(X)
            raise ValueError("mine")

    taken = []
    with pytest.raises(ValueError, match="mine"):
        run()
    (p,) = taken
    assert 1 == len(p.inferences)
    assert not warpspan.WarpspanInstrumentor().is_instrumented_by_opentelemetry


def test_the_report(uninstrumented, model):
    """The same table in a terminal, in a notebook, and for programs."""
    with warpspan.profile() as p:
        model(X)
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        console.print(p)
    assert captured.get().rstrip("\n") == repr(p)
    assert repr(p).startswith("1 inference in ")
    assert "forward Linear" in repr(p)
    bundle = p._repr_mimebundle_(include=None, exclude=None)
    assert {"text/plain": repr(p), "text/html": p._repr_html_()} == bundle
    assert bundle["text/html"].startswith("<pre ")
    assert "forward Linear" in bundle["text/html"]
    assert (1, 0) == (p.to_json()["inference_count"], p.to_json()["further_inference_count"])


def test_more_than_is_kept(uninstrumented, model, monkeypatch):
    """The further ones are counted, and the report says so."""
    monkeypatch.setattr(notebook, "LIMIT", 3)
    with warpspan.profile() as p:
        for _ in range(5):
            model(X)
    assert (3, 2) == (len(p.inferences), p.further)
    assert "The first 3 are shown; 2 further inferences were counted." in repr(p)


def test_nothing_ran(uninstrumented):
    """It says so."""
    with warpspan.profile() as p:
        pass
    assert "No inference was recorded." == repr(p)
