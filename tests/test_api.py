"""`warpspan.inference` in all its forms, `warpspan.profile`, and `warpspan.flush`."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest
import torch
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, StaticSampler
from torch import nn

import warpspan

X = torch.ones(2, 4)


@pytest.fixture
def model():
    return nn.Linear(4, 4).eval()


def test_a_block(telemetry, expected, model):
    """Its module calls are its steps, the first of which tells model and input."""
    with warpspan.inference("rerank"):
        model(X)
        model(torch.ones(3, 4))
    rerank = expected(model, (2, 4), operation="rerank", first=True, steps=2)
    assert [rerank | {"name": "rerank"}] == telemetry.inferences()


def test_a_block_with_its_model(telemetry, expected, model):
    """The model names the span from its start, whatever is called inside."""
    with warpspan.inference("generate", model=model):
        nn.Conv2d(1, 1, 1).eval()(torch.ones(5, 1, 2, 2))
    assert [
        expected(model, (5, 1, 2, 2), operation="generate", first=True, steps=1)
    ] == telemetry.inferences()


def test_a_block_with_the_name_of_its_model(telemetry, expected):
    """An engine has no module to look at: the name is all that is known."""
    with warpspan.inference("generate", model="Engine"):
        pass
    assert [expected(None, name="Engine", operation="generate", first=True)] == (
        telemetry.inferences()
    )


def test_a_block_with_nothing_inside(telemetry, expected):
    """The operation has a default, and no step is no value."""
    with warpspan.inference():
        pass
    assert [expected(None, operation="inference", first=True)] == telemetry.inferences()


def test_a_decorator(telemetry, expected, model):
    """Each call is an inference, recursion is one inside the other, signature and name stay."""

    @warpspan.inference("embed", model=model)
    def embed(texts, *, depth=0):
        """Embeds."""
        return embed(texts, depth=depth - 1) if depth else model(texts)

    assert ("embed", "Embeds.", "(texts, *, depth=0)") == (
        embed.__name__,
        embed.__doc__,
        str(inspect.signature(embed)),
    )
    assert (2, 4) == embed(X, depth=1).shape
    inner = expected(
        model,
        (2, 4),
        operation="embed",
        parent="embed Linear",
        steps=1,
        pytorch_device_idle_time=None,
        pytorch_inference_concurrency=None,
    )
    outer = expected(model, operation="embed", first=True)
    assert [outer, inner] == telemetry.inferences()


def test_a_decorator_of_a_coroutine_function(telemetry, expected, model):
    """It spans what is awaited; the thread's processor time is not only its own."""

    @warpspan.inference("embed", model=model)
    async def embed(texts):
        await asyncio.sleep(0)
        return model(texts)

    assert inspect.iscoroutinefunction(embed)
    assert (2, 4) == asyncio.run(embed(X)).shape
    assert [
        expected(model, (2, 4), operation="embed", first=True, steps=1, pytorch_host_cpu_time=None)
    ] == telemetry.inferences()


def test_a_decorator_of_a_method(telemetry, expected, model):
    """As one of a function."""

    class Service:
        @warpspan.inference("answer", model=model)
        def answer(self, x):
            return model(x)

    assert (2, 4) == Service().answer(X).shape
    assert [
        expected(model, (2, 4), operation="answer", first=True, steps=1)
    ] == telemetry.inferences()


def test_own_attributes(telemetry, expected, caplog):
    """From the start, and set inside, by OpenTelemetry's rules; ours win over equal names."""
    own = {"tenant": "a", "pytorch.operation.name": "mine"}
    with warpspan.inference("rerank", attributes=own) as inference:
        own["tenant"] = "b"
        inference.set_attribute("candidates", 20)
        inference.set_attributes({"tags": ["x", "y"], "": 1})
    span = expected(None, operation="rerank", first=True)
    span["attributes"] |= {"tenant": "a", "candidates": 20, "tags": ("x", "y")}
    assert [span] == telemetry.inferences()
    assert ["opentelemetry.attributes"] == [record.name for record in caplog.records]


def test_own_attributes_for_samplers(uninstrumented):
    """Those given at the start are known when the sampler decides."""
    seen = []

    class Sampler(StaticSampler):
        def should_sample(self, *args, **kwargs):
            seen.append(dict(kwargs.get("attributes") or args[4]))
            return super().should_sample(*args, **kwargs)

    uninstrumented.instrument(tracer_provider=TracerProvider(sampler=Sampler(Decision.DROP)))
    with warpspan.inference("rerank", attributes={"tenant": "a"}) as inference:
        inference.set_attribute("late", 1)
    assert [
        {"tenant": "a", "pytorch.operation.name": "rerank", "pytorch.device.type": "cpu"}
    ] == seen


def test_own_attributes_of_a_decorator_and_a_coroutine(telemetry):
    """Each call has those of the decorator; `async with` gives the same object."""

    @warpspan.inference("embed", attributes={"tenant": "a"})
    async def embed():
        async with warpspan.inference("inner") as inner:
            inner.set_attribute("n", 1)

    asyncio.run(embed())
    assert [("embed", "a", None), ("inner", None, 1)] == [
        (span["name"], span["attributes"].get("tenant"), span["attributes"].get("n"))
        for span in telemetry.inferences()
    ]


def test_attributes_after_the_end(telemetry, caplog, monkeypatch):
    """They are ignored, with one line that says so."""
    monkeypatch.setattr(warpspan.api, "_warned_ended", False)
    with warpspan.inference("rerank") as inference:
        pass
    inference.set_attribute("late", 1)
    inference.set_attribute("later", 2)
    (span,) = telemetry.inferences()
    assert not {"late", "later"} & span["attributes"].keys()
    assert [
        "The inference 'rerank' has ended: its attributes 'late' are ignored. Set attributes inside "
        "the `with` block. (logged once)"
    ] == [record.getMessage() for record in caplog.records]


def test_attributes_of_what_is_not_recorded(uninstrumented):
    """Uninstrumented, or skipped: nothing happens."""
    with warpspan.inference("rerank") as inference:
        inference.set_attribute("n", 1)
    uninstrumented.instrument()
    with suppress_instrumentation(), warpspan.inference("rerank") as inference:
        inference.set_attributes({"n": 1})
    assert [] == uninstrumented.inferences()


def test_attributes_that_are_no_mapping():
    """One sentence says what they are to be."""
    message = "takes attributes as a mapping of names to values, not as list"
    with pytest.raises(TypeError, match=message):
        warpspan.inference("rerank", attributes=["a"])


def test_generators_are_refused():
    """They would end before their body does; the message says what to do."""

    def generate():
        yield 1

    async def agenerate():
        yield 1

    message = (
        "warpspan.inference can't decorate the generator "
        r".*generate: use `with warpspan.inference\(...\)` inside it"
    )
    for function in (generate, agenerate):
        with pytest.raises(TypeError, match=message):
            warpspan.inference("generate")(function)


def test_one_object_used_again(telemetry):
    """Entered several times, also inside itself, it opens an inference each time."""
    rerank = warpspan.inference("rerank")
    with rerank, rerank:
        pass
    with rerank:
        pass
    assert [("rerank", None), ("rerank", "rerank"), ("rerank", None)] == [
        (span["name"], span["parent"]) for span in telemetry.inferences()
    ]


def test_one_object_shared_by_threads(telemetry, model):
    """Each thread leaves the inference that it entered, in whichever order."""
    rerank = warpspan.inference("rerank")
    entered = [threading.Event(), threading.Event()]

    def first():
        with rerank:
            entered[0].set()
            assert entered[1].wait(30)
            model(X)

    def second():
        assert entered[0].wait(30)
        with rerank:
            entered[1].set()
            thread.join(30)
            model(X)
            model(X)

    thread = threading.Thread(target=first)
    other = threading.Thread(target=second)
    thread.start()
    other.start()
    other.join(30)
    spans = telemetry.spans()
    assert [1, 2] == [span.attributes["pytorch.step.count"] for span in spans]
    assert spans[0].end_time < spans[1].end_time


def test_one_object_shared_by_tasks(telemetry, model):
    """Each task leaves the inference that it entered."""
    rerank = warpspan.inference("rerank")

    async def request(steps):
        async with rerank:
            for _ in range(steps):
                await asyncio.sleep(0)
                model(X)

    async def main():
        await asyncio.gather(request(1), request(3), request(2))

    asyncio.run(main())
    assert [1, 3, 2] == [span.attributes["pytorch.step.count"] for span in telemetry.spans()]


def test_training_and_parameterless_steps(telemetry, model):
    """What a user names is recorded in any mode; a transform inside is no step."""
    with warpspan.inference("finetune"):
        model.train()(X)
        nn.ReLU()(X)
    (span,) = telemetry.inferences()
    assert ("finetune", 1) == (span["name"], span["attributes"]["pytorch.step.count"])


def test_steps_inside_steps(telemetry, model):
    """Only the outermost module calls inside an inference are its steps."""
    with warpspan.inference("rerank"):
        nn.Sequential(nn.Sequential(model)).eval()(X)
    (span,) = telemetry.inferences()
    assert 1 == span["attributes"]["pytorch.step.count"]


def test_uninstrumented(model):
    """All forms run the code, and a flush has nothing to do."""

    @warpspan.inference("embed")
    def embed(x):
        return model(x)

    assert (2, 4) == embed(X).shape
    with warpspan.inference("embed", model=model):
        pass
    assert warpspan.flush()
    assert warpspan.flush(0)


def test_instrumented_in_the_middle(uninstrumented):
    """A block that was entered before is not recorded; it ends without a fault."""
    with warpspan.inference("before"):
        uninstrumented.instrument()
        with warpspan.inference("after"):
            pass
    assert ["after"] == [span["name"] for span in uninstrumented.inferences()]


def test_flush_finishes_what_ended(telemetry, model):
    """When it returns, the spans are at the exporter."""
    for _ in range(100):
        model(X)
    assert warpspan.flush(30)
    assert 100 == len(telemetry._exporter.get_finished_spans())


def test_flush_with_no_time(telemetry, model):
    """It tries, says whether it was enough, and does not raise."""
    model(X)
    assert warpspan.flush(0) in {True, False}
    assert warpspan.flush(30)
