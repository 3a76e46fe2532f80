"""What leaves a forward reaches the caller as it was thrown, and the span names its class."""

from __future__ import annotations

import asyncio
import signal
import traceback

import pytest
import torch
from torch import nn

import warpspan

X = torch.ones(2, 4)


class HostError(Exception):
    """An exception of the host program."""


class Raises(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.error = error

    def forward(self, x):
        x = self.linear(x)
        if self.error is not None:
            raise self.error
        return x


class Outer(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


ERRORS = [
    (HostError("no"), f"{HostError.__module__}.HostError"),
    (ValueError("no"), "ValueError"),
    (torch.cuda.OutOfMemoryError("no"), "torch.OutOfMemoryError"),
    (StopIteration(3), "StopIteration"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (SystemExit(3), "SystemExit"),
]


@pytest.fixture
def out_of_memory_name():
    """The class has another home in older versions of torch."""
    kind = torch.cuda.OutOfMemoryError
    return f"{kind.__module__}.{kind.__qualname__}"


@pytest.mark.parametrize(("error", "name"), ERRORS, ids=[name for _, name in ERRORS])
def test_the_caller_gets_the_original(telemetry, expected, out_of_memory_name, error, name):
    """The same object, its origin last in the traceback, no cause or context; roots go on."""
    if "OutOfMemory" in name:
        name = out_of_memory_name
    error.__traceback__ = None
    model = Outer(Raises(error)).eval()
    with pytest.raises(type(error)) as caught:
        model(X)
    assert caught.value is error
    assert (None, None, False) == (
        error.__cause__,
        error.__context__,
        error.__suppress_context__,
    )
    frames = traceback.extract_tb(error.__traceback__)
    assert (__file__, "forward", "raise self.error") == (
        frames[-1].filename,
        frames[-1].name,
        frames[-1].line,
    )
    model.inner.error = None
    model(X)
    assert [
        expected(model, (2, 4), first=True, error=name),
        expected(model, (2, 4)),
    ] == telemetry.inferences()
    ((labels, point), (good, _)) = sorted(
        telemetry.points("pytorch.inference.duration").items(), key=lambda item: -len(item[0])
    )
    assert ("forward", "Outer", "cpu", name) == labels
    assert ("forward", "Outer", "cpu") == good
    assert 1 == point.count


def test_the_traceback_is_as_without_us(uninstrumented):
    """No frame of ours is in it, and no line of torch's is another one."""

    def printed():
        model = Outer(Raises(HostError())).eval()
        with pytest.raises(HostError) as caught:
            model(X)
        return "".join(traceback.format_exception(caught.value))

    before = printed()
    uninstrumented.instrument()
    assert before == printed()


def test_an_exception_that_can_not_be_printed(telemetry, expected):
    """Its own `__str__` raises: the caller gets it all the same."""

    class UnprintableError(RuntimeError):
        def __str__(self):
            raise HostError("no text")

    error = UnprintableError()
    model = Raises(error).eval()
    with pytest.raises(UnprintableError) as caught:
        model(X)
    assert caught.value is error
    assert error.__context__ is None
    name = f"{UnprintableError.__module__}.{UnprintableError.__qualname__}"
    assert [expected(model, (2, 4), first=True, error=name)] == telemetry.inferences()


def test_an_exception_that_the_model_handles(telemetry, expected):
    """It never left the inference: no error."""

    class Handles(Outer):
        def forward(self, x):
            try:
                return self.inner(x)
            except HostError:
                return x

    model = Handles(Raises(HostError())).eval()
    model(X)
    assert [expected(model, (2, 4), first=True)] == telemetry.inferences()


def test_an_exception_while_another_is_handled(telemetry):
    """Its context is the one that the host was handling, as without warpspan."""
    first, second = HostError("first"), HostError("second")
    model = Raises(second).eval()

    def handle():
        try:
            raise first
        except HostError:
            model(X)

    with pytest.raises(HostError) as caught:
        handle()
    assert caught.value is second
    assert second.__context__ is first


def test_a_signal_in_the_middle_of_a_forward(telemetry, expected):
    """Ctrl-C: KeyboardInterrupt as ever, the span says so, and the next call is a root."""

    class Interrupted(Outer):
        def forward(self, x):
            signal.raise_signal(signal.SIGINT)
            return self.inner(x)

    model = Interrupted(nn.Linear(4, 4)).eval()
    with pytest.raises(KeyboardInterrupt):
        model(X)
    model.inner(X)
    assert [
        expected(model, (2, 4), first=True, error="KeyboardInterrupt"),
        expected(model.inner, (2, 4)),
    ] == telemetry.inferences()


@pytest.mark.parametrize(("error", "name"), ERRORS[:2], ids=["of the host", "built in"])
def test_an_exception_in_a_named_inference(telemetry, expected, error, name):
    """Of a step or of the host's own code: it is the inference's error."""
    error.__traceback__ = None
    model = Raises(error).eval()
    with pytest.raises(type(error)) as caught, warpspan.inference("rerank", model=model):
        model(X)
    assert caught.value is error
    assert [
        expected(model, (2, 4), operation="rerank", first=True, steps=1, error=name)
    ] == telemetry.inferences()


def test_a_cancelled_task(telemetry):
    """asyncio's cancellation passes, and is the error of the inference that it ended."""

    async def wait():
        async with warpspan.inference("engine"):
            await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    (span,) = telemetry.inferences()
    assert ("engine", "asyncio.exceptions.CancelledError") == (
        span["name"],
        span["attributes"]["error.type"],
    )


def test_wrong_arguments(telemetry, expected):
    """The TypeError of a wrong call is torch's own, and reads as it does without warpspan."""
    model = Raises(None).eval()
    with pytest.raises(TypeError, match=r"forward\(\) missing 1 required positional argument"):
        model()
    assert [expected(model, first=True, error="TypeError")] == telemetry.inferences()


def test_an_input_that_breaks_our_reading(uninstrumented, caplog):
    """A mapping of the host's that raises when looked into costs only the input's attributes."""
    from collections.abc import Mapping

    from warpspan import guard

    class Strange(Mapping):
        def __getitem__(self, key):
            raise HostError("strange")

        def __iter__(self):
            return iter(())

        def __len__(self):
            return 0

    class Takes(Raises):
        def forward(self, mapping):
            return super().forward(X)

    uninstrumented.instrument()
    model = Takes(None).eval()
    assert (2, 4) == model(Strange()).shape
    (span,) = uninstrumented.inferences()
    assert "forward Takes" == span["name"]
    assert {"input": 1} == guard.faults
    guard.forget()
    assert 1 == len(caplog.records)
