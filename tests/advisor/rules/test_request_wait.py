"""The device idles while requests are open."""

from __future__ import annotations

import pytest

from tests.sources.helpers.kineto_trace import KinetoTrace
from tests.support.observations import (
    GPU,
    claims,
    inference,
    named,
    recording,
    request,
    served,
    shares,
    verdict,
)
from warpspan.advisor.observation import Observation
from warpspan.records import Loop, Phases
from warpspan.records.request import RequestKind


@pytest.mark.parametrize("fields", [{}, {"device": GPU}])
def test_requests_wait_for_the_host(fields):
    """Of ten parts of a request, six are on the host."""
    found = verdict(served(30, before_s=0.05, duration_s=0.04, after_s=0.01, pause_s=0.0, **fields))

    assert (["request_wait"], [0.6]) == (named(found)[0], shares(found, "request_wait"))
    (first,) = found.bottlenecks
    assert ("sure", True, 2.5) == (first.confidence, first.strong, round(first.ceiling_gain, 1))


def test_nearly_a_tenth_is_none():
    """Nine percent of the time."""
    found = verdict(served(30, before_s=0.09, duration_s=0.91, after_s=0, pause_s=0))

    assert (["device"], [], []) == named(found)


def test_nobody_waits_at_low_load():
    """Idle, and requests are met: that is no fault."""
    found = verdict(served(30, before_s=0.002, duration_s=0.05, after_s=0.001, pause_s=0.5))

    assert ["no_demand"] == named(found)[0]
    assert claims(found) <= {"no_demand", "device"}


def test_without_requests_it_is_not_known():
    """Removing the requests turns the claim into a question."""
    seen = served(30, before_s=0.05, duration_s=0.04, after_s=0.01, pause_s=0)

    found = verdict(seen._replace(requests=()))

    assert (["cant_tell"], [], ["request_wait"]) == named(found)


def test_one_request_is_too_little():
    """One inference may be warm-up."""
    found = verdict(served(1, before_s=0.05, duration_s=0.04, after_s=0.01, pause_s=0))

    assert (["cant_tell"], [], ["cant_tell"]) == named(found)


def test_two_are_possible():
    """From twenty on it is sure."""
    found = verdict(served(3, before_s=0.05, duration_s=0.04, after_s=0.01, pause_s=0))

    assert (["request_wait"], "possible") == (named(found)[0], found.bottlenecks[0].confidence)


@pytest.mark.parametrize(
    "around",
    [
        [request(0, 10, "a" * 32, kind=RequestKind.ROOT)],
        [request(0, 10, "a" * 32, kind=RequestKind.CONSUMER, process="other")],
        [request(0, 10, "b" * 32, kind=RequestKind.SERVER)],
    ],
)
def test_roots_others_and_queues_are_requests(around):
    """The root of the trace, a consumer elsewhere, or a server that hands work to a batcher."""
    held = [inference(at / 10, 0.04, trace="a" * 32) for at in range(30)]

    found = verdict(Observation(held, around))

    assert ["request_wait"] == named(found)[0]


def test_a_health_check_is_nobody_who_waits():
    """A request of another trace does not count where inferences have requests of their own."""
    seen = served(30, before_s=0.0, duration_s=0.05, after_s=0.0, pause_s=0.05)

    found = verdict(seen._replace(requests=(*seen.requests, request(0, 3, "f" * 32))))

    assert "request_wait" not in claims(found)


def test_preprocessing_inside_a_pipeline_counts():
    """The call is the request: its preparation is host time, too."""
    loop = Loop(phases=Phases(preprocess_s=0.03, postprocess_s=0.005))

    found = verdict([inference(at / 20, 0.05, loop=loop) for at in range(30)])

    assert "request_wait" in claims(found)
    assert [0.7] == shares(found, "request_wait")


def decoding(gap_us: float, *, python: bool, name: str = "app.py(7): preprocess") -> KinetoTrace:
    """A loop that prepares an image, resizes it in a library, and runs the model."""
    made = KinetoTrace()
    step = 1000 + gap_us
    for at in range(20):
        start = 1000 + at * step
        if python:
            made.python(name, start, gap_us - 2)
            made.python("PIL/Image.py(2000): resize", start + 1, gap_us * 0.8)
            made.module("Net", start + gap_us, 500)
        else:
            made.annotation("forward", start + gap_us, 500)
        made.op("aten::mm", start + gap_us, 20)
        made.work(start + gap_us + 10, 989, launch=start + gap_us + 2)
    return made


def test_a_recording_names_the_functions():
    """The outermost call that holds most of the gaps, and the innermost one in it."""
    found = verdict(recording(decoding(1000, python=True)))

    assert ["request_wait"] == named(found)[0]
    names = [text.rsplit(" ", 1)[0] for text in found.bottlenecks[0].evidence["functions"]]
    assert ["app.py(7): preprocess", "PIL/Image.py(2000): resize"] == names
    assert "while requests wait for the CPU (preprocess → resize)." in found.sentence


def test_a_recording_without_functions_can_not_tell():
    """It needs with_stack."""
    found = verdict(recording(decoding(1000, python=False)))

    assert "request_wait" in named(found)[2]
    assert "request_wait" not in claims(found)


def test_a_host_that_waits_for_work_is_not_accused():
    """Nothing is asked for while the thread sleeps."""
    made = decoding(1000, python=True, name="<built-in function sleep>")

    assert "request_wait" not in claims(verdict(recording(made)))
