"""Hooks by request and response: what they are given, when, and what their faults cost."""

from __future__ import annotations

import weakref

import pytest
import torch
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from torch import nn

import warpspan
from warpspan import guard
from warpspan.hooks.contract import HookApi, OpenCall
from warpspan.runtime.scopes import NO_SCOPE, current

X = torch.ones(2, 4)


@pytest.fixture
def model():
    return nn.Linear(4, 4).eval()


@pytest.fixture
def calls():
    """What the hooks were given, in order."""
    return []


@pytest.fixture
def hooks(calls):
    """A hook of each kind that notes its arguments and sets an attribute."""

    def request(span, called, args, kwargs):
        calls.append(("request", called, args, kwargs))
        span.set_attribute("mine.rows", len((args or [*kwargs.values()])[0]))

    def response(span, called, result):
        calls.append(("response", called, result))
        span.set_attribute("mine.shape", list(result.shape))

    return {"request_hook": request, "response_hook": response}


def test_a_module_call(uninstrumented, model, calls, hooks):
    """Both are called once for the outermost call, on its thread, with the span that is recorded."""
    uninstrumented.instrument(**hooks)
    whole = nn.Sequential(model).eval()
    result = whole(X)
    whole(input=X)
    assert [
        ("request", whole, (X,), {}),
        ("response", whole, result),
        ("request", whole, (), {"input": X}),
    ] == calls[:3]
    assert [(2, (2, 4))] * 2 == [
        (span["attributes"]["mine.rows"], span["attributes"]["mine.shape"])
        for span in uninstrumented.inferences()
    ]


def test_a_call_that_raises(uninstrumented, model, calls, hooks):
    """The response hook is not called: there is no response."""
    uninstrumented.instrument(**hooks)
    with pytest.raises(RuntimeError):
        model(torch.ones(2, 3))
    assert ["request"] == [call[0] for call in calls]


def test_steps_and_named_inferences(uninstrumented, model, calls, hooks):
    """They have no call of their own to see."""
    uninstrumented.instrument(**hooks)
    with warpspan.inference("rerank"):
        model(X)
    assert [] == calls


def test_a_call_of_a_library(uninstrumented, model, calls, hooks):
    """The object is given as the program called it; calls inside are parts of it."""

    class Engine:
        def run(self, batch):
            return model(batch)

    class Run(OpenCall):
        operation = "run"

    uninstrumented.instrument(**hooks)
    session = warpspan.instrumentor.active_session()
    api = HookApi("engine", session._patches, session._switch)
    api.wrap_call(Engine, "run", lambda engine, args, kwargs: Run())
    engine = Engine()
    result = engine.run(X)
    assert [("request", engine, (X,), {}), ("response", engine, result)] == calls
    (span,) = uninstrumented.inferences()
    assert ("run", 2) == (span["name"].split()[0], span["attributes"]["mine.rows"])


def test_what_is_not_sampled(uninstrumented, model, calls, hooks):
    """Hooks see recorded spans only, as those of other instrumentations."""
    uninstrumented.instrument(tracer_provider=TracerProvider(sampler=ALWAYS_OFF), **hooks)
    model(X)
    assert [] == calls


def test_hooks_that_raise(uninstrumented, model, caplog):
    """The program notices nothing; each is counted, and logged once."""

    def broken(*_):
        raise ValueError("mine")

    uninstrumented.instrument(request_hook=broken, response_hook=broken)
    for _ in range(2):
        assert (2, 4) == model(X).shape
    assert {"request_hook": 2, "response_hook": 2} == dict(guard.faults)
    assert 2 == len(caplog.records)
    assert 2 == len(uninstrumented.inferences())
    guard.forget()


def test_a_keyboard_interrupt_in_a_hook(uninstrumented, model):
    """It reaches the program, and no scope is left behind."""

    def interrupted(*_):
        raise KeyboardInterrupt

    uninstrumented.instrument(request_hook=interrupted)
    with pytest.raises(KeyboardInterrupt):
        model(X)
    assert current.get() is NO_SCOPE


def test_what_is_no_function(uninstrumented, model, caplog):
    """It is named in a warning, and the rest works."""
    uninstrumented.instrument(request_hook="serve:hook")
    model(X)
    assert ["request_hook='serve:hook' is not valid: give a function. Using none."] == [
        record.getMessage() for record in caplog.records
    ]
    assert 1 == len(uninstrumented.inferences())


def test_the_module_is_not_kept_alive(uninstrumented, calls):
    """What waits for the response hook lets go of the module when it was told."""
    uninstrumented.instrument(response_hook=lambda *_: None)
    module = nn.Linear(4, 4).eval()
    alive = weakref.ref(module)
    module(X)
    warpspan.flush()
    del module
    assert alive() is None
