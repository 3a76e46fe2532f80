"""Instrumented, uninstrumented and instrumented again, also with calls in flight."""

from __future__ import annotations

import atexit
import gc
import logging
import multiprocessing.util
import os
import sys
import threading
import weakref
from contextlib import contextmanager

import pytest
import torch
from opentelemetry.sdk.trace import SpanProcessor
from torch import nn
from wrapt import importer

import warpspan
from warpspan import forks, guard, instrumentor

X = torch.ones(2, 4)
CALL = torch.nn.Module._call_impl.__code__
DURATION = "pytorch.inference.duration"


class Waits(nn.Module):
    """Its forward waits until it is told to go on."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def forward(self, x):
        self.entered.set()
        assert self.go_on.wait(30)
        return self.linear(x)


@contextmanager
def in_flight(model):
    """A call of the model that goes on until the block ends."""
    thread = threading.Thread(target=model, args=(X,), daemon=True)
    thread.start()
    assert model.entered.wait(30)
    yield
    model.go_on.set()
    thread.join(30)
    assert not thread.is_alive()


def test_torch_is_as_it_was(uninstrumented):
    """Every attribute that was replaced is the original object again."""
    owners = [
        torch.nn.Module,
        torch.cuda,
        torch.cuda.memory,
        torch.cuda.CUDAGraph,
        getattr(torch, "accelerator", torch),
    ]
    before = [dict(vars(owner)) for owner in owners]
    assert torch.nn.Module._call_impl.__code__ is CALL
    uninstrumented.instrument()
    nn.Linear(4, 4).eval()(X)
    assert torch.nn.Module._call_impl.__code__ is not CALL
    uninstrumented.uninstrument()
    assert (CALL, {}) == (torch.nn.Module._call_impl.__code__, vars(torch.nn.Module._call_impl))
    for owner, names in zip(owners, before, strict=True):
        assert {} == {
            name: value for name, value in vars(owner).items() if names.get(name) is not value
        }


def test_twice_is_once(telemetry, caplog):
    """A second `instrument()` changes nothing, a second `uninstrument()` neither."""
    patched = torch.nn.Module._call_impl.__code__
    telemetry.instrument()
    assert torch.nn.Module._call_impl.__code__ is patched
    nn.Linear(4, 4).eval()(X)
    assert 1 == len(telemetry.inferences())
    telemetry.uninstrument()
    telemetry.uninstrument()
    assert torch.nn.Module._call_impl.__code__ is CALL
    telemetry.instrument()


def test_models_from_before_and_after(uninstrumented, expected):
    """Models built before, between and after are recorded exactly while it is instrumented."""
    models = [nn.Linear(4, 4).eval()]
    for _ in range(3):
        uninstrumented.instrument()
        models.append(nn.Linear(4, 4).eval())
        for model in models:
            model(X)
        uninstrumented.inferences()
        uninstrumented.uninstrument()
        models.append(nn.Linear(4, 4).eval())
        models[0](X)
    assert 2 + 4 + 6 == len(uninstrumented.spans())


def test_many_times_leaves_nothing_behind(uninstrumented):
    """Trackers, threads and patches of earlier instrumentations are gone."""
    model = nn.Linear(4, 4).eval()
    trackers = weakref.WeakSet()
    threads = threading.active_count()
    for _ in range(10):
        uninstrumented.instrument()
        trackers.add(instrumentor.active_tracker())
        model(X)
        uninstrumented.uninstrument()
    for thread in threading.enumerate():
        if thread.name == "warpspan-finisher":
            thread.join(30)
    gc.collect()
    assert 10 == len(uninstrumented.spans())
    assert 0 == len(trackers)
    assert threads >= threading.active_count()


def registrations():
    """How much of ours is registered where it can't be taken back."""
    return {
        "imports": sum(len(hooks or ()) for hooks in importer._post_import_hooks.values()),
        "import finders": len(sys.meta_path),
        "participants of forks": len(forks._participants),
        "forks of multiprocessing": len(multiprocessing.util._afterfork_registry),
        "exits of multiprocessing": len(multiprocessing.util._finalizer_registry),
        "exits": atexit._ncallbacks() + len(threading._threading_atexits),
        "collections": len(gc.callbacks),
        "starts of CUDA": len(torch.cuda._queued_calls),
    }


def test_200_times_register_nothing_more(uninstrumented, monkeypatch):
    """Nothing of a former session can be called any more, and no object of it is left."""

    def cycle(times):
        for _ in range(times):
            uninstrumented.instrument()
            uninstrumented.uninstrument()
        for thread in threading.enumerate():
            if thread.name == "warpspan-finisher":
                thread.join(30)
        gc.collect()
        return registrations(), len(gc.get_objects())

    before, objects = cycle(50)  # caches of the SDK and of others are full then
    at_fork = []
    monkeypatch.setattr(os, "register_at_fork", lambda **calls: at_fork.append(calls))
    after, more = cycle(200)
    assert (before, []) == (after, at_fork)
    assert more - objects < 200  # not one object each time


def test_metrics_count_once_after_instrumenting_again(uninstrumented, caplog):
    """What is observed is the present instrumentation's, on the same meter provider as before."""

    def points(name):
        return {
            labels: getattr(point, "value", None) if name != DURATION else point.count
            for labels, point in uninstrumented.points(name).items()
        }

    def faults_and_drops():
        return points("warpspan.faults"), points("warpspan.dropped")

    for round_ in (1, 2, 3):
        uninstrumented.instrument()
        nn.Linear(4, 4).eval()(X)
        instrumentor.active_session().finisher.dropped["test"] += round_
        guard.faults["test"] = 1
        assert {("forward", "Linear", "cpu"): round_} == points(DURATION)
        assert {("cpu",): 0} == points("pytorch.inference.active")
        assert ({("test",): 1}, {("test",): round_}) == faults_and_drops()
        guard.forget()
        uninstrumented.uninstrument()
        assert ({}, {}) == faults_and_drops()
    assert [] == caplog.messages


def test_a_call_in_flight_is_recorded_whole(uninstrumented, expected, ends):
    """A call that ends after uninstrumenting still ends its span, with all that it knows.

    Garbage collections are not counted any more, so their number is not known.
    """
    model = Waits().eval()
    uninstrumented.instrument()
    with in_flight(model):
        uninstrumented.uninstrument()
        assert torch.nn.Module._call_impl.__code__ is CALL
        assert [] == uninstrumented.spans()
        nn.Linear(4, 4).eval()(X)
    ends.wait(1)
    whole = expected(
        model, (2, 4), first=True, pytorch_host_gc_time=None, pytorch_host_gc_count=None
    )
    assert [whole] == uninstrumented.inferences()


def test_a_call_in_flight_over_uninstrument_and_instrument(uninstrumented, ends):
    """Its inner calls are still part of it; new calls belong to the new instrumentation."""
    model, linear = Waits().eval(), nn.Linear(4, 4).eval()
    uninstrumented.instrument()
    with in_flight(model):
        uninstrumented.uninstrument()
        uninstrumented.instrument()
        linear(X)
    linear(X)
    ends.wait(3)
    assert ["forward Linear", "forward Linear", "forward Waits"] == sorted(
        span["name"] for span in uninstrumented.inferences()
    )


class Ends(SpanProcessor):
    """Waits for the ends of spans: nobody flushes what outlives its instrumentation."""

    def __init__(self, telemetry):
        self._ended = threading.Semaphore(0)
        telemetry.tracer_provider.add_span_processor(self)

    def on_end(self, span):
        self._ended.release()

    def wait(self, count):
        for _ in range(count):
            assert self._ended.acquire(timeout=30)


@pytest.fixture
def ends(uninstrumented):
    return Ends(uninstrumented)


def test_somebody_who_patched_over_us(uninstrumented, caplog):
    """Their patch stays and ours is gone from under it until it is instrumented again."""
    original = torch.nn.Module.__call__
    model = nn.Linear(4, 4).eval()
    calls = []
    uninstrumented.instrument()
    ours = torch.nn.Module.__call__

    def theirs(self, *args, **kwargs):
        calls.append(type(self).__name__)
        return ours(self, *args, **kwargs)

    torch.nn.Module.__call__ = theirs
    try:
        model(X)
        with caplog.at_level(logging.INFO, "warpspan"):
            uninstrumented.uninstrument()
        assert ([], CALL) == (caplog.messages, torch.nn.Module._call_impl.__code__)
        assert torch.nn.Module.__call__ is theirs
        model(X)
        for _ in range(2):
            uninstrumented.instrument()
            model(X)
            assert warpspan.flush(30)
            uninstrumented.uninstrument()
            assert torch.nn.Module.__call__ is theirs
    finally:
        torch.nn.Module.__call__ = original
    assert ["Linear"] * 4 == calls
    assert 3 == len(uninstrumented.spans())


def test_somebody_who_patched_before_us(uninstrumented):
    """Their patch is called as before, and stays."""
    original = torch.nn.Module.__call__
    calls = []

    def theirs(self, *args, **kwargs):
        calls.append(type(self).__name__)
        return original(self, *args, **kwargs)

    torch.nn.Module.__call__ = theirs
    try:
        uninstrumented.instrument()
        nn.Sequential(nn.Linear(4, 4)).eval()(X)
        assert ["Sequential", "Linear"] == calls
        assert ["forward Sequential"] == [s["name"] for s in uninstrumented.inferences()]
        uninstrumented.uninstrument()
        assert torch.nn.Module.__call__ is theirs
    finally:
        torch.nn.Module.__call__ = original


@pytest.mark.parametrize("opened", ["before", "after"])
def test_a_named_inference_across_uninstrument(uninstrumented, expected, ends, opened):
    """One that was open is recorded with the steps until then; one opened after it is nothing."""
    model = nn.Linear(4, 4).eval()
    uninstrumented.instrument()
    if opened == "after":
        uninstrumented.uninstrument()
    with warpspan.inference("rerank", model=model):
        model(X)
        uninstrumented.uninstrument()
        model(X)
    if opened == "before":
        ends.wait(1)
    rerank = expected(
        model,
        (2, 4),
        operation="rerank",
        first=True,
        steps=1,
        pytorch_host_gc_time=None,
        pytorch_host_gc_count=None,
    )
    assert ([rerank] if opened == "before" else []) == uninstrumented.inferences()
