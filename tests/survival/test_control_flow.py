"""Calls inside calls, on threads, in tasks and in generators: the outermost one is the inference."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from opentelemetry import trace
from torch import nn

import warpspan


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    def forward(self, x):
        return self.inner(x)


class Countdown(nn.Module):
    """Calls itself."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, depth):
        return self.linear(x) if depth == 0 else self(x, depth - 1)


class Calls(nn.Module):
    """Does something in its forward."""

    def __init__(self, inside):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.inside = inside

    def forward(self, x):
        self.inside()
        return x


X = torch.ones(2, 4)


def traced(telemetry):
    """Name and parent's name of every inference, in the order of their starts."""
    return [(span["name"], span["parent"]) for span in telemetry.inferences()]


def test_the_outermost_call_is_the_span(telemetry, expected):
    """Submodules are part of it; a second call knows how long the device was idle before."""
    model = Outer().eval()
    model(X)
    model(torch.ones(3, 4))
    assert [
        expected(model, (2, 4), first=True),
        expected(model, (3, 4)),
    ] == telemetry.inferences()


def test_span_and_metric_tell_the_same_duration(telemetry):
    """The end of the span is its start plus the duration that the histogram got."""
    Outer().eval()(X)
    (span,) = telemetry.spans()
    (point,) = telemetry.points("pytorch.inference.duration").values()
    assert {
        "pytorch.operation.name": "forward",
        "pytorch.model.name": "Outer",
        "pytorch.device.type": "cpu",
    } == dict(point.attributes)
    assert (1, span.end_time - span.start_time) == (point.count, round(point.sum * 1e9))


def test_child_of_the_current_span(telemetry, expected):
    """A span that the host opened is the parent, and spans that the model opens are children."""

    def inside():
        with telemetry.tracer.start_as_current_span("tokenize"):
            pass

    model = Calls(inside).eval()
    with telemetry.tracer.start_as_current_span("request"):
        model(X)
    assert [expected(model, (2, 4), first=True, parent="request")] == telemetry.inferences()
    names = {span.context.span_id: span.name for span in telemetry.spans()}
    parents = {
        span.name: names.get(span.parent.span_id) if span.parent else None
        for span in telemetry.spans()
    }
    assert {"tokenize": "forward Calls", "forward Calls": "request", "request": None} == parents


def test_reentrant_calls_are_one_inference(telemetry, expected):
    """A model that calls itself is one span with its first input."""
    model = Countdown().eval()
    model(X, 3)
    assert [expected(model, (2, 4), first=True)] == telemetry.inferences()


def test_a_named_inference_inside_a_forward(telemetry, expected):
    """It is a span of its own inside the outer one, and not one more on the device."""
    linear = nn.Linear(4, 4).eval()

    def inside():
        with warpspan.inference("retrieve"):
            linear(X)

    model = Calls(inside).eval()
    model(X)
    retrieve = expected(
        linear,
        (2, 4),
        operation="retrieve",
        parent="forward Calls",
        steps=1,
        pytorch_device_idle_time=None,
        pytorch_inference_concurrency=None,
    )
    assert [
        expected(model, (2, 4), first=True),
        retrieve | {"name": "retrieve"},
    ] == telemetry.inferences()


def test_threads_have_inferences_of_their_own(telemetry, expected):
    """Calls on pool threads are roots; those that overlapped say so."""
    both = threading.Barrier(2, timeout=30)
    model = Calls(both.wait).eval()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(model, [X, X]))
    overlapped = expected(model, (2, 4), first=True, pytorch_inference_concurrency=2)
    assert [overlapped, overlapped] == telemetry.inferences()


def test_a_thread_started_inside_an_inference_is_a_root(telemetry):
    """A thread inherits no context: what it runs is not part of the call that started it."""
    model = nn.Linear(4, 4).eval()

    def inside():
        with ThreadPoolExecutor(1) as pool:
            pool.submit(model, X).result(30)

    Calls(inside).eval()(X)
    assert [("forward Calls", None), ("forward Linear", None)] == traced(telemetry)


def test_gathered_tasks_do_not_mix(telemetry, expected):
    """Each task's inferences are children of its own span and its steps its own."""
    model = nn.Linear(4, 4).eval()

    async def request(name, steps):
        with telemetry.tracer.start_as_current_span(name):
            async with warpspan.inference("generate", model=model):
                for _ in range(steps):
                    model(X)
                    await asyncio.sleep(0)

    async def main():
        await asyncio.gather(request("one", 1), request("three", 3), request("two", 2))

    asyncio.run(main())
    found = {
        span["parent"]: (span["name"], span["attributes"]["pytorch.step.count"])
        for span in telemetry.inferences()
    }
    assert {
        "one": ("generate Linear", 1),
        "two": ("generate Linear", 2),
        "three": ("generate Linear", 3),
    } == found
    assert all("pytorch.host.cpu.time" not in span["attributes"] for span in telemetry.inferences())


def test_tasks_gathered_inside_an_inference_are_its_steps(telemetry, expected):
    """Tasks copy the context of the inference that waits for them."""
    model = nn.Linear(4, 4).eval()

    async def call():
        await asyncio.sleep(0)
        model(X)

    async def main():
        async with warpspan.inference("ensemble"):
            await asyncio.gather(call(), call(), call())

    asyncio.run(main())
    ensemble = expected(
        model,
        (2, 4),
        operation="ensemble",
        first=True,
        steps=3,
        pytorch_host_cpu_time=None,
    )
    assert [ensemble | {"name": "ensemble"}] == telemetry.inferences()


def test_to_thread_carries_the_inference(telemetry):
    """asyncio.to_thread copies the context: a call there is a step, and a root without one."""
    model = nn.Linear(4, 4).eval()

    async def main():
        await asyncio.to_thread(model, X)
        async with warpspan.inference("embed"):
            await asyncio.to_thread(model, X)

    asyncio.run(main())
    assert [("forward Linear", None), ("embed", None)] == traced(telemetry)
    assert 1 == telemetry.inferences()[1]["attributes"]["pytorch.step.count"]


@pytest.mark.parametrize("inside", ["inference", "step", "forward"])
def test_a_task_that_outlives_its_inference_has_roots_again(telemetry, inside):
    """A background task copied the context of an inference that is over when it runs a model."""
    model = nn.Linear(4, 4).eval()
    tasks = []

    async def background(over):
        await over.wait()
        model(X)
        with warpspan.inference("later"):
            model(X)

    async def main():
        over = asyncio.Event()
        starter = Calls(lambda: tasks.append(asyncio.create_task(background(over)))).eval()
        if inside == "forward":
            starter(X)
        else:
            with warpspan.inference("first"):
                if inside == "step":
                    starter(X)
                else:
                    starter.inside()
        over.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    outer = "forward Calls" if inside == "forward" else "first"
    # OpenTelemetry's own context was copied, too: what the task does was caused by that span.
    assert [(outer, None), ("forward Linear", outer), ("later", outer)] == traced(telemetry)
    assert [1, 1, 1] == [
        span["attributes"]["pytorch.inference.concurrency"] for span in telemetry.inferences()
    ]


def stream(model, chunks=3):
    with warpspan.inference("generate", model=model):
        for _ in range(chunks):
            yield model(X)


def test_a_generator_is_one_inference(telemetry, expected):
    """Its steps are counted while it is consumed; afterwards calls are roots."""
    model = nn.Linear(4, 4).eval()
    assert 3 == len(list(stream(model)))
    model(X)
    assert [
        expected(model, (2, 4), operation="generate", first=True, steps=3),
        expected(model, (2, 4)),
    ] == telemetry.inferences()


def test_a_consumer_that_stops_early_is_no_error(telemetry, expected):
    """Closing a generator ends its inference with what it did until then."""
    model = nn.Linear(4, 4).eval()
    chunks = stream(model)
    next(chunks)
    chunks.close()
    assert [
        expected(model, (2, 4), operation="generate", first=True, steps=1)
    ] == telemetry.inferences()


def test_a_generator_closed_in_another_context(telemetry, caplog):
    """Nothing is logged, and where it was opened calls are roots without a parent again."""
    model = nn.Linear(4, 4).eval()
    chunks = stream(model)
    next(chunks)
    contextvars.Context().run(chunks.close)
    model(X)
    model(X)
    assert [("generate Linear", None), ("forward Linear", None), ("forward Linear", None)] == (
        traced(telemetry)
    )
    assert [] == caplog.records


def test_a_generator_closed_in_a_copy_of_its_context(telemetry, caplog):
    """So it is when a framework pulls each chunk in a worker thread."""
    model = nn.Linear(4, 4).eval()
    chunks = stream(model)
    next(chunks)
    contextvars.copy_context().run(chunks.close)
    model(X)
    assert [("generate Linear", None), ("forward Linear", None)] == traced(telemetry)
    assert [] == caplog.records


def test_a_generator_collected_on_another_thread(telemetry, expected, caplog):
    """The garbage collector closes it anywhere; its processor time is unknown then."""
    model = nn.Linear(4, 4).eval()
    held = [stream(model)]
    next(held[0])

    def collect():
        held.clear()
        gc.collect()

    thread = threading.Thread(target=collect)
    thread.start()
    thread.join()
    model(X)
    assert [
        expected(
            model, (2, 4), operation="generate", first=True, steps=1, pytorch_host_cpu_time=None
        ),
        expected(model, (2, 4)),
    ] == telemetry.inferences()
    assert [] == caplog.records


def test_generators_that_end_in_the_order_of_their_begin(telemetry, caplog):
    """The first to end is not the innermost: neither stays anybody's parent."""
    model = nn.Linear(4, 4).eval()
    first, second = stream(model), stream(model)
    next(first)
    next(second)
    first.close()
    second.close()
    model(X)
    assert trace.INVALID_SPAN is trace.get_current_span()
    assert [
        ("generate Linear", None),
        ("generate Linear", "generate Linear"),
        ("forward Linear", None),
    ] == traced(telemetry)
    assert [] == caplog.records
