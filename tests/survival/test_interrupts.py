"""An exception of a signal handler at any instruction of ours: it reaches the program, and nothing stays."""

from __future__ import annotations

import sys

import pytest
import torch
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import SpanProcessor
from torch import nn

import warpspan
from tests.support.instructions import CALLERS, Instructions, missing, name
from warpspan import guard
from warpspan.hooks.contract import DECODE, HookApi, OpenCall
from warpspan.hooks.patches import Patches
from warpspan.hooks.torch.module_call import Switch
from warpspan.instrumentor import active_tracker
from warpspan.runtime.scopes import NO_SCOPE, current

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12),
    reason="since Python 3.12 a trace function sees no instruction of a frame's first events",
)

X = torch.ones(2, 4)


class HostError(Exception):
    """An exception of the host program, as Celery's soft time limit is."""


ERRORS = (HostError, RuntimeError, KeyboardInterrupt)
# As many calls after an interrupt must be right; at some instructions.
LONG, SHORT, SAMPLED = 50, 2, 40
WARM = 6


class Starts(SpanProcessor):
    """Notes which spans start and end, with their parents."""

    def __init__(self):
        self.started = []

    def on_start(self, span, parent_context=None):
        self.started.append((span.name, span.parent))


@pytest.fixture
def starts(uninstrumented):
    starts = Starts()
    uninstrumented.tracer_provider.add_span_processor(starts)
    uninstrumented.instrument()
    return starts


class Survivor:
    """Interrupts a call at each of its instructions, and looks at what becomes of the calls after it.

    Args:
        call: what is interrupted.
        starts: which spans started.
        after: the model that is called after it.
        where: the files whose instructions count.
        prepare: called before each call, so that all take the same way.
    """

    def __init__(self, call, starts, after=None, where=CALLERS, prepare=lambda: None):
        self._where = where
        self._prepare = prepare
        self._call = call
        self._starts = starts
        linear = nn.Linear(4, 4).eval()
        self._after = (lambda: linear(X)) if after is None else after
        self._after()
        self._expected = self._starts.started[-1:]

    def run(self):
        """All of it; the instructions at which it interrupted."""
        self._prepare()
        instructions = Instructions(self._call, self._where)
        for _ in range(WARM):  # what is looked at in the first calls only
            instructions.all()
        reached = instructions.all()
        wrong = []
        for number, instruction in enumerate(reached):
            error = ERRORS[number % len(ERRORS)]("now")
            code, offset = instruction
            where = f"{code.co_filename}:{name(code)}+{offset} {type(error).__name__}"
            self._prepare()
            raised, was_reached = instructions.interrupt(instruction, error)
            if not was_reached:
                wrong.append(f"{where}: not reached")
                continue
            if raised is not error:
                wrong.append(f"{where}: the program got {raised!r}")
            wrong += [f"{where}: {found}" for found in self._left(number)]
        assert [] == wrong, "\n".join(wrong[:40]) + f"\n{len(wrong)} of {len(reached)}"
        return reached

    def _left(self, number):
        if current.get() is not NO_SCOPE:
            yield f"{current.get()} stays current"
            current.set(NO_SCOPE)
        if {} != otel_context.get_current():
            yield "a span stays current"
            otel_context.attach(otel_context.Context())
        opened = [state.open for state in active_tracker().devices()]
        if any(opened):
            yield f"inferences stay open: {opened}"
            for device in active_tracker().runtime_devices:
                device._inside.clear()
        if not torch._C._is_torch_function_enabled():
            yield "torch functions stay disabled"
            torch._C.DisableTorchFunction().__exit__(None, None, None)
        if guard.faults:
            yield f"taken for a fault of ours: {dict(guard.faults)}"
            guard.forget()
        count = LONG if number % SAMPLED == 0 else SHORT
        del self._starts.started[:]
        for _ in range(count):
            self._after()
        if self._expected * count != self._starts.started:
            yield f"the next calls gave {self._starts.started}"


def test_a_module_call(starts):
    """Of a model with submodules, on the CPU."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    reached = Survivor(lambda: model(X), starts).run()
    assert set() == missing(
        {
            "Module._call_impl",
            "Switch.open",
            "Tracker.open_call",
            "Spans.start",
            "Window.close",
        },
        reached,
    )


def test_the_first_call_of_a_model(starts):
    """It is looked at, and may have a KV cache."""

    def call():
        nn.Linear(4, 4).eval()(X)

    reached = Survivor(call, starts).run()
    assert set() == missing({"ModelRegistry.model_info", "CacheCall.returned"}, reached)


def test_a_call_that_fails(starts):
    """What handles an exception of the model may be interrupted, too."""

    class Raises(nn.Linear):
        def forward(self, x):
            raise ValueError("no")

    model = Raises(4, 4).eval()

    def call():
        try:
            model(X)
        except ValueError:
            pass

    reached = Survivor(call, starts).run()
    assert set() == missing({"left_by", "Window.fail"}, reached)


def test_a_call_in_training(starts):
    """It is skipped, and covers what is inside."""
    model = nn.Sequential(nn.Linear(4, 4))
    reached = Survivor(lambda: model(X), starts).run()
    assert set() == missing({"Admission.skip", "Skipped.close"}, reached)


def test_a_named_inference(starts):
    """With steps that are marked, of names and without."""
    model = nn.Linear(4, 4).eval()

    def call():
        with warpspan.inference("rerank", model=model):
            with warpspan.step("prefill"):
                model(X)
            model(X)

    reached = Survivor(call, starts).run()
    assert set() == missing({"_Block.__enter__", "_Block.__exit__", "MarkedStep.close"}, reached)


def test_a_decorated_function(starts):
    """Its call is one inference."""
    model = nn.Linear(4, 4).eval()

    @warpspan.inference("rerank")
    def call():
        model(X)

    assert set() == missing({"inference.__call__.<locals>.run"}, Survivor(call, starts).run())


class Engine:
    """A library whose calls are inferences, with a loop of steps."""

    def __init__(self):
        self.model = nn.Linear(4, 4).eval()

    def run(self):
        self.prepare()
        self.prefill()
        for _ in range(2):
            self.model(X)

    def prefill(self):
        self.model(X)

    def prepare(self):
        pass


class Run(OpenCall):
    """What the engine's hook knows of a call."""

    operation = "run"

    def __init__(self, engine, args, kwargs):
        self.model = engine.model

    def opened(self, call):
        self._call = call

    def phase(self, module, args, kwargs):
        self._call.repeat(module, DECODE)
        return DECODE


def test_a_library_call(starts):
    """One with steps of its own, a loop that repeats a step, and work on the host."""
    patches = Patches()
    api = HookApi("engine", patches, Switch(active_tracker()))
    api.wrap_call(Engine, "run", Run)
    api.wrap_step(Engine, "prefill", "prefill")
    api.wrap_host_part(Engine, "prepare", "preprocess")
    engine = Engine()
    try:
        reached = Survivor(engine.run, starts).run()
    finally:
        patches.restore()
    assert set() == missing(
        {"LoopScope.close", "open_library_call", "StepTimeline.leave_part"}, reached
    )
