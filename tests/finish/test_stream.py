"""The record stream: subscribers in their order, and the latest samples of devices."""

from __future__ import annotations

import pytest

from tests.support.records import inference
from warpspan import guard
from warpspan.finish.stream import _SAMPLES, RecordStream
from warpspan.records import DeviceSample


@pytest.fixture(autouse=True)
def faults():
    """The faults of one test."""
    guard.forget()
    yield guard.faults
    guard.forget()


@pytest.fixture
def heard():
    """What subscribers were given, in the order in which they were."""
    return []


def listen(heard, name):
    """A subscriber that notes what it is given."""
    return lambda span, record: heard.append((name, span, record))


def fail(span, record):
    """A subscriber that fails."""
    raise ValueError("no record")


def test_subscribers_hear_in_their_order(heard):
    """Each is given the span and the record, the same to all."""
    record = inference()
    stream = RecordStream({name: listen(heard, name) for name in ("metrics", "span", "more")})
    stream.inference("span of it", record)
    assert [(name, "span of it", record) for name in ("metrics", "span", "more")] == heard
    assert all(given is record for _, _, given in heard)


def test_records_are_handed_on_one_by_one(heard):
    """All subscribers hear of one before any hears of the next."""
    stream = RecordStream({name: listen(heard, name) for name in "ab"})
    stream.inference(1, inference())
    stream.inference(2, inference())
    assert [("a", 1), ("b", 1), ("a", 2), ("b", 2)] == [(name, span) for name, span, _ in heard]


def test_one_that_fails_costs_no_other_its_record(heard, faults):
    """Each failure is counted under its name."""
    stream = RecordStream({"a": listen(heard, "a"), "broken": fail, "b": listen(heard, "b")})
    for _ in range(2):
        stream.inference("span", inference())
    assert ["a", "b", "a", "b"] == [name for name, _, _ in heard]
    assert {"broken": 2} == dict(faults)


def test_nobody_listens(faults):
    """A record may go nowhere."""
    RecordStream({}).inference("span", inference())
    assert {} == dict(faults)


def test_one_more_is_heard_after_the_others(heard):
    """It is given further records, not those that were handed on before."""
    stream = RecordStream({"a": listen(heard, "a")})
    stream.inference(1, inference())
    stream.subscribe("b", listen(heard, "b"))
    stream.inference(2, inference())
    assert [("a", 1), ("a", 2), ("b", 2)] == [(name, span) for name, span, _ in heard]


def test_one_may_subscribe_another_while_it_hears(heard):
    """The new one is given the next record, on."""
    stream = RecordStream({})

    def first(span, record):
        heard.append(("first", span, record))
        stream.subscribe("second", listen(heard, "second"))

    stream.subscribe("first", first)
    stream.inference(1, inference())
    stream.inference(2, inference())
    assert [("first", 1), ("first", 2), ("second", 2)] == [(name, span) for name, span, _ in heard]


def test_unsubscribed(heard):
    """It hears no more; the others do, and a name that nobody has is no error."""
    stream = RecordStream({"a": listen(heard, "a"), "b": listen(heard, "b")})
    stream.unsubscribe("a")
    stream.unsubscribe("c")
    stream.inference("span", inference())
    assert ["b"] == [name for name, _, _ in heard]


def test_a_name_stands_for_one_subscriber(heard):
    """Subscribed again, it takes the former one's place."""
    stream = RecordStream({"a": fail, "b": listen(heard, "b")})
    stream.subscribe("a", listen(heard, "a"))
    stream.inference("span", inference())
    assert ["a", "b"] == [name for name, _, _ in heard]


def test_the_stream_keeps_its_own_list(heard):
    """What its maker does to theirs later changes nothing."""
    given = {"a": listen(heard, "a")}
    stream = RecordStream(given)
    given.clear()
    stream.inference("span", inference())
    assert ["a"] == [name for name, _, _ in heard]


def test_samples_are_kept_in_their_order():
    """The oldest first."""
    stream = RecordStream({})
    samples = [DeviceSample(taken_ns, "GPU-1") for taken_ns in range(3)]
    for sample in samples:
        stream.sample(sample)
    assert samples == list(stream.samples)


def test_the_oldest_sample_goes():
    """The ring is bounded, however long the program runs."""
    stream = RecordStream({})
    for taken_ns in range(_SAMPLES + 2):
        stream.sample(DeviceSample(taken_ns, "GPU-1"))
    assert (_SAMPLES, 2, _SAMPLES + 1) == (
        len(stream.samples),
        stream.samples[0].taken_ns,
        stream.samples[-1].taken_ns,
    )
