"""Calls of libraries: an inference each, or a part of the one that is open."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import warpspan
from warpspan import guard
from warpspan.instrumentor import active_tracker
from warpspan.records.phases import DECODE, PREFILL
from warpspan.runtime.library_calls import (
    OpenCall,
    enclosing_call,
    open_host_part,
    open_library_call,
    open_mark,
)
from warpspan.runtime.scopes import NO_SCOPE, current
from warpspan.runtime.steps import MarkedStep
from warpspan.testing import InMemoryTelemetry

X = torch.ones(2, 4)


class Generate(OpenCall):
    """A call whose first module call is the prefill, and each later one a token."""

    operation = "generate"

    def __init__(self, model=None):
        self.model = model
        self.asked = 0

    def phase(self, module, args, kwargs):
        self.asked += 1
        return PREFILL if self.asked == 1 else DECODE


@pytest.fixture
def model():
    return nn.Linear(4, 4).eval()


def opened(call):
    """A scope for a call in the session that is active."""
    return open_library_call(active_tracker(), call)


def skips():
    """Calls that were skipped so far, by reason."""
    skipped = active_tracker().admission.skipped
    return {reason: count for reason, count in skipped.items() if count}


def summary(telemetry):
    """Operation, model and number of steps of each inference."""
    return [
        (record.operation, record.model.name, record.steps and record.steps.total)
        for record in telemetry.records()
    ]


def test_an_inference_of_its_own(telemetry, model):
    """Where nothing is open; module calls inside are its steps, each of its phase."""
    call = Generate(model)
    library_call = opened(call)
    assert library_call.recorded
    for _ in range(3):
        model(X)
    library_call.close()
    assert current.get() is NO_SCOPE
    (record,) = telemetry.records()
    generation = record.loop.generation
    assert ("generate", "Linear", 3, 2) == (
        record.operation,
        record.model.name,
        record.steps.total,
        generation.decode_steps,
    )
    assert 3 == call.asked


@pytest.mark.parametrize("name", [None, "Tiny"])
def test_a_model_that_is_no_module(telemetry, model, name):
    """Its name is said, or the first step says it."""
    library_call = opened(Generate(name))
    model(X)
    library_call.close()
    assert [("generate", name or "Linear", 1)] == summary(telemetry)


def test_part_of_an_inference_that_is_open(telemetry, model):
    """Its module calls are steps of that one, which is not its to end."""
    with warpspan.inference("chat"):
        library_call = opened(Generate(model))
        model(X)
        library_call.fail(ValueError())
        library_call.close()
        model(X)
    assert [("chat", "Linear", 2)] == summary(telemetry)
    assert telemetry.records()[0].error_type is None


def test_two_calls_in_each_other(telemetry, model):
    """One inference; the inner one says the phases of what is inside it."""
    outer, inner = Generate(model), Generate(model)
    outer_call, inner_call = opened(outer), opened(inner)
    model(X)
    inner_call.close()
    model(X)
    outer_call.close()
    assert (1, 1, [("generate", "Linear", 2)]) == (inner.asked, outer.asked, summary(telemetry))


def test_nothing_where_a_module_call_or_a_marked_step_covers(telemetry, model):
    """It is part of that one."""
    found = []

    class Calls(nn.Linear):
        def forward(self, x):
            found.append(opened(Generate(self)))
            return super().forward(x)

    Calls(4, 4).eval()(X)
    with warpspan.inference("chat"), warpspan.step():
        found.append(opened(Generate(model)))
    assert [None, None] == found


def test_nothing_where_nothing_is_run(telemetry, model):
    """Under fake tensors a graph is built."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert opened(Generate(model)) is None
    assert ([], {}) == (telemetry.records(), skips())


def test_a_model_that_is_excluded(uninstrumented, model):
    """It is counted once, and nothing inside is recorded."""
    uninstrumented.instrument(excluded_models=("Linear",))
    library_call = opened(Generate(model))
    assert (False, 0) == (library_call.recorded, library_call.repeats)
    library_call.set_batch_size(3)
    library_call.repeat(model, DECODE)
    model(X)
    nn.Conv1d(1, 1, 1).eval()(torch.ones(1, 1, 1))
    library_call.fail(ValueError())
    library_call.close()
    assert ([], {"excluded": 1}) == (uninstrumented.records(), skips())


def test_the_error_that_left_it(telemetry, model):
    """Of a call that is an inference itself."""
    library_call = opened(Generate(model))
    library_call.fail(ValueError("private"))
    library_call.close()
    assert ["ValueError"] == [record.error_type for record in telemetry.records()]


def test_a_batch_that_is_no_tensor(telemetry):
    """Its size is said, and stands before that of the first step's input."""
    library_call = opened(Generate())
    library_call.set_batch_size(5)
    nn.Linear(4, 4).eval()(X)
    library_call.close()
    assert [(5, None)] == [(r.input.batch_size, r.input.shape) for r in telemetry.records()]


def test_notes(telemetry, model):
    """What a hook notes is in the record of the inference."""
    library_call = opened(Generate(model))
    library_call.notes.add_tokens(7, 4, 2)
    model(X)
    library_call.close()
    generation = telemetry.records()[0].loop.generation
    assert (7, 4) == (generation.input_tokens, generation.generated_tokens)


def test_a_phase_that_can_not_be_said(model):
    """The fault is counted; the call is a step of no role."""

    class Broken(OpenCall):
        def phase(self, module, args, kwargs):
            raise ValueError("a library that changed its ways")

    guard.forget()
    with InMemoryTelemetry() as telemetry:
        library_call = opened(Broken())
        model(X)
        library_call.close()
        assert [("call", "Linear", 1)] == summary(telemetry)
        assert telemetry.records()[0].loop.generation is None
    assert {"phase": 1} == dict(guard.faults)
    guard.forget()


def test_a_fault_of_ours(model, monkeypatch):
    """The call runs without a scope; what is inside is an inference of its own."""
    guard.forget()
    with InMemoryTelemetry() as telemetry:
        tracker = active_tracker()
        with monkeypatch.context() as broken:
            broken.setattr(tracker, "innermost", None)
            assert open_library_call(tracker, Generate(model)) is None
        model(X)
        assert [("forward", "Linear", None)] == summary(telemetry)
    assert {"begin": 1} == dict(guard.faults)
    guard.forget()


def test_an_interrupt_does_not_leave_the_caller_inside(telemetry, model, monkeypatch):
    """The program is told of it, and the next call is looked at again."""

    def interrupt(window, phase_of):
        raise KeyboardInterrupt

    monkeypatch.setattr("warpspan.runtime.library_calls.LoopScope", interrupt)
    with pytest.raises(KeyboardInterrupt):
        opened(Generate(model))
    assert current.get() is NO_SCOPE
    assert [("generate", "Linear", None)] == summary(telemetry)


def test_the_call_that_the_caller_is_in(telemetry, model):
    """With no other scope between."""
    call = Generate(model)
    assert enclosing_call() is None
    library_call = opened(call)
    assert enclosing_call() is call
    with warpspan.step():
        assert enclosing_call() is None
    library_call.close()
    assert enclosing_call() is None


def test_a_mark(telemetry):
    """A step in what takes steps, with no other mark around it; else nothing."""
    tracker = active_tracker()
    assert open_mark(tracker, "decode") is None
    with warpspan.inference("chat"):
        mark = open_mark(tracker, "decode")
        assert (True, None) == (isinstance(mark, MarkedStep), open_mark(tracker, "decode"))
        mark.close()
    assert [("chat", None, 1)] == summary(telemetry)


def test_host_parts(telemetry):
    """They are parts of an inference, and one inside another is not counted twice."""
    assert open_host_part("preprocess") is None
    with warpspan.inference("chat"):
        timeline = open_host_part("preprocess")
        assert open_host_part("postprocess") is None
        timeline.leave_part(2_000_000_000)
    phases = telemetry.records()[0].loop.phases
    assert (2.0, None) == (phases.preprocess_s, phases.postprocess_s)
