"""A signal handler that uses warpspan while its thread is inside warpspan, holding its locks."""

import signal
import sys

import torch

import warpspan
from warpspan.testing import InMemoryTelemetry


class Name(str):
    """A name of a step whose first comparison, inside the lock, is interrupted by a signal."""

    compared = False
    __hash__ = str.__hash__

    def __eq__(self, other):
        if not Name.compared:
            Name.compared = True
            signal.raise_signal(signal.SIGUSR1)
        return str.__eq__(self, other)


class Sink:
    """A subscriber of the record stream that is interrupted while it takes a record."""

    def __call__(self, span, record):
        signal.raise_signal(signal.SIGUSR1)


def marks_a_step(*_):
    with warpspan.step("inner"):
        pass


def flushes(*_):
    print("flushed", warpspan.flush(60.0))


model = torch.nn.Linear(4, 4).eval()
x = torch.ones(2, 4)
with InMemoryTelemetry() as telemetry, torch.no_grad():
    if sys.argv[1] == "step":
        signal.signal(signal.SIGUSR1, marks_a_step)
        with warpspan.inference("loop"), warpspan.step(Name("outer")):
            model(x)
    else:
        signal.signal(signal.SIGUSR1, flushes)
        session = warpspan.instrumentor.active_session()
        session.stream.subscribe("interrupted", Sink())
        model(x)
        print("outer", session.finisher.flush(60.0))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    print([(span.name, span.attributes.get("pytorch.step.count")) for span in telemetry.spans()])
