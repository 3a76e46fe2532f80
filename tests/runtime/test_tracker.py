"""The tracker: what a caller opens, without any sink or finisher behind it."""

from __future__ import annotations

import contextvars
from collections import Counter

import pytest
import torch
from torch import nn

from warpspan import guard
from warpspan.config import Settings
from warpspan.probes.layout import BATCH_FIRST
from warpspan.probes.runtime_device import RuntimeDevice
from warpspan.records import Device, DeviceState
from warpspan.records.phases import DECODE
from warpspan.runtime.replays import open_replay
from warpspan.runtime.scopes import NO_SCOPE, Skipped, current
from warpspan.runtime.steps import LoopScope, MarkedStep, StepScope
from warpspan.runtime.tracker import Tracker, start_of
from warpspan.runtime.window import Window

X = torch.ones(2, 4)
SHAPE = torch.Size([2, 4])
ATTRIBUTES = {
    "pytorch.operation.name": "forward",
    "pytorch.model.name": "Linear",
    "pytorch.device.type": "cpu",
}


class Spans:
    """Where spans begin: notes what is asked of it."""

    unrecorded = ("unrecorded", False)

    def __init__(self):
        self.started = []
        self.left = []
        self._inside = []
        self.suppressed = False

    def start(self, name, attributes, start_ns):
        if self.suppressed:
            return None
        self.started.append((name, attributes))
        return name, False

    def enter(self, span):
        self._inside.append(span)

    def leave(self, span):
        if self._inside and self._inside[-1] is span:
            self.left.append(self._inside.pop()[0])

    def request(self, span):
        return 0


class Closed:
    """Where windows go when they are closed."""

    def __init__(self):
        self.dropped = Counter()
        self.full = False
        self.windows = []

    def push(self, window):
        self.windows.append(window)


@pytest.fixture(autouse=True)
def faults():
    """The faults of one test, which begins and ends outside of every call."""
    assert current.get() is NO_SCOPE
    guard.forget()
    yield guard.faults
    guard.forget()
    current.set(NO_SCOPE)


@pytest.fixture
def spans():
    return Spans()


@pytest.fixture
def closed():
    return Closed()


@pytest.fixture
def tracker(spans, closed):
    return Tracker(Settings(), spans, closed)


@pytest.fixture
def model():
    return nn.Linear(4, 4).eval()


def skips(tracker):
    """Calls that were skipped so far, by reason."""
    return {reason: count for reason, count in tracker.admission.skipped.items() if count}


def test_a_module_call_is_an_inference(tracker, spans, closed, model):
    """Its span begins with what samplers see; its window is handed on when it is closed."""
    window = tracker.open_call(model, (X,), {})
    assert (window, True) == (current.get(), window.covers)
    window.close()
    assert [("forward Linear", ATTRIBUTES)] == spans.started
    assert ([window], ["forward Linear"], NO_SCOPE) == (closed.windows, spans.left, current.get())
    assert ("forward", "Linear", (SHAPE, torch.float32, None, BATCH_FIRST)) == (
        window.operation,
        window.model.name,
        window.seen,
    )


def test_an_input_that_can_not_be_looked_at(tracker, model, monkeypatch, faults):
    """The inference is recorded without it."""
    monkeypatch.setattr("warpspan.probes.inputs.look", None)
    window = tracker.open_call(model, (X,), {})
    window.close()
    assert (None, {"input": 1}) == (window.seen, dict(faults))


def test_a_call_in_a_named_inference_is_a_step(tracker, spans, closed, model):
    """The first one says model and input; only the inference has a span."""
    window = tracker.open_named("chat", None)
    step = tracker.open_call(model, (X,), {})
    assert (StepScope, True) == (type(step), step.covers)
    step.close()
    window.close()
    assert ["chat"] == [name for name, _ in spans.started]
    assert ("Linear", SHAPE, [window]) == (window.model.name, window.seen[0], closed.windows)
    assert 3 == len(window.steps.times_ns)


def test_a_call_in_a_loop_has_a_phase(tracker, model):
    """The one that the loop says."""
    window = tracker.open_named("chat", model)
    loop = LoopScope(window, lambda module, args, kwargs: DECODE)
    tracker.open_call(model, (X,), {}).close()
    loop.close()
    window.close()
    assert DECODE == window.steps.times_ns[0]


def test_a_call_in_a_marked_step_is_part_of_it(tracker, model):
    """It is no step of its own."""
    window = tracker.open_named("chat", None)
    mark = MarkedStep(window, "decode")
    scope = tracker.open_call(model, (X,), {})
    assert Skipped is type(scope)
    scope.close()
    mark.close()
    window.close()
    assert ("Linear", 3, {}) == (window.model.name, len(window.steps.times_ns), skips(tracker))


def test_a_step_of_a_model_that_is_not_recorded(spans, closed, model):
    """It is passed over, and is no skip: the inference that it is in is recorded."""
    tracker = Tracker(Settings(excluded_models=("Linear",)), spans, closed)
    window = tracker.open_named("chat", None)
    scope = tracker.open_call(model, (X,), {})
    scope.close()
    window.close()
    assert (Skipped, {}, None) == (type(scope), skips(tracker), window.model)


@pytest.mark.parametrize("model", [None, "Tiny"])
def test_a_named_inference(tracker, spans, model):
    """Its device is the host where no GPU is in use, and its model what it is said to be."""
    window = tracker.open_named("chat", model)
    window.close()
    name, attributes = spans.started[0]
    assert (f"chat {model}" if model else "chat", model) == (
        name,
        attributes.get("pytorch.model.name"),
    )
    assert (model, True) == (window.model_or_name, window.runtime_device.is_host)


def test_one_named_inference_in_another(tracker, closed):
    """Each has its window; the inner one is no further one on its device."""
    outer = tracker.open_named("outer", None)
    inner = tracker.open_named("inner", None)
    inner.close()
    outer.close()
    assert [("inner", None), ("outer", 1)] == [
        (window.operation, window.concurrency) for window in closed.windows
    ]


def test_a_full_queue(tracker, spans, closed, model):
    """The inference is dropped and counted, and what is inside it is not recorded either."""
    closed.full = True
    scope = tracker.open_call(model, (X,), {})
    assert (Skipped, True, {"queue_full": 1}, {}) == (
        type(scope),
        current.get().covers,
        dict(closed.dropped),
        skips(tracker),
    )
    scope.close()
    assert ([], [], NO_SCOPE) == (spans.started, closed.windows, current.get())


def test_no_span_where_instrumentation_is_suppressed(tracker, spans, closed, model):
    """A named inference is skipped as a module call is."""
    spans.suppressed = True
    for scope in (tracker.open_call(model, (X,), {}), tracker.open_named("chat", None)):
        scope.close()
    assert ({"suppressed": 2}, []) == (skips(tracker), closed.windows)


def test_a_sink_that_fails(tracker, spans, faults, model):
    """The call is skipped, its device has no inference open, and the fault is counted."""
    spans.start = None  # raises where it is called
    for scope in (tracker.open_call(model, (X,), {}), tracker.open_named("chat", None)):
        scope.close()
    assert ({"fault": 2}, {"begin": 2}) == (skips(tracker), dict(faults))
    assert [0] == [state.open for state in tracker.devices()]


def test_a_sink_that_can_not_leave(tracker, spans, closed, faults, model):
    """The window is handed on all the same."""
    spans.leave = None
    window = tracker.open_call(model, (X,), {})
    window.close()
    assert ([window], {"end": 1}, NO_SCOPE) == (closed.windows, dict(faults), current.get())


def test_an_interrupt_at_the_begin(tracker, spans, closed, model):
    """It reaches the program, and does not leave the caller inside."""

    class Ledger:
        def open(self):
            raise KeyboardInterrupt

    cpu = tracker.runtime_devices.at(torch.device("cpu"))
    cpu.ledger = Ledger()
    with pytest.raises(KeyboardInterrupt):
        tracker.open_call(model, (X,), {})
    assert (NO_SCOPE, [], 1, 0) == (
        current.get(),
        spans._inside,
        len(closed.windows),
        cpu.open,
    )


def test_a_window_that_is_closed_out_of_turn(tracker, spans, model):
    """Its span is left with its scope, when what is inside it has ended."""
    outer = tracker.open_named("outer", None)
    inner = tracker.open_named("inner", None)
    outer.close()
    assert ([], inner) == (spans.left, tracker.innermost())
    inner.close()
    assert (["inner", "outer"], NO_SCOPE) == (spans.left, current.get())


def test_a_window_that_is_closed_in_another_context(tracker, spans, closed, model):
    """Where it was opened it stays behind and covers nothing, and is left by the next call."""
    window = tracker.open_named("outer", None)
    contextvars.copy_context().run(window.close)
    assert ([window], ["outer"]) == (closed.windows, spans.left)
    after = tracker.open_call(model, (X,), {})
    after.close()
    assert Window is type(after)
    assert (["outer", "forward Linear"], NO_SCOPE) == (spans.left, current.get())


def test_devices(tracker, model):
    """Those on which inferences ran, with how many are open."""
    assert [] == tracker.devices()
    window = tracker.open_call(model, (X,), {})
    assert [DeviceState(Device("cpu"), 1, None, None)] == tracker.devices()
    window.close()
    assert [DeviceState(Device("cpu"), 0, None, None)] == tracker.devices()


def test_a_replay_of_a_graph_that_nobody_knows(tracker, spans):
    """An inference without a model; in a named one it is a step."""

    class Graph:
        """A graph that was captured while nobody looked."""

    graph = Graph()
    open_replay(tracker, graph).close()
    window = tracker.open_named("chat", None)
    step = open_replay(tracker, graph)
    step.close()
    window.close()
    assert ["graph_replay", "chat"] == [name for name, _ in spans.started]
    assert StepScope is type(step)


@pytest.mark.parametrize(
    ("mark", "reason"), [("excluded", {"excluded": 1}), ("training", {"training": 1})]
)
def test_a_replay_of_what_is_not_recorded(tracker, mark, reason):
    """It is skipped as the calls in it would be."""

    class Graph:
        """A graph."""

    graph = Graph()
    setattr(tracker.graphs.of(graph), mark, True)
    open_replay(tracker, graph).close()
    assert reason == skips(tracker)


def test_anew_in_a_forked_child(tracker, spans, closed, model):
    """What is open is the parent's to end: it covers nothing, and its close hands nothing on."""
    window = tracker.open_named("chat", None)
    tracker.start_anew()
    assert (NO_SCOPE, []) == (current.get(), tracker.devices())
    after = tracker.open_call(model, (X,), {})
    assert Window is type(after)
    after.close()
    window.close()
    assert [after] == closed.windows


@pytest.mark.parametrize(
    ("model", "device", "expected"),
    [
        ("Linear", Device("cpu"), ("forward Linear", ATTRIBUTES)),
        (
            None,
            Device("cuda", 1, "GPU-1"),
            (
                "forward",
                {
                    "pytorch.operation.name": "forward",
                    "pytorch.device.type": "cuda",
                    "pytorch.device.index": 1,
                    "hw.id": "GPU-1",
                },
            ),
        ),
    ],
)
def test_the_start_of_a_span(model, device, expected):
    """Its name, and what samplers see."""
    assert expected == start_of("forward", model, RuntimeDevice(device))
