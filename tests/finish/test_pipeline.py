"""The pipeline: contributors in their order, and a record whatever one of them does."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.records import inference
from tests.support.windows import closed_window, host
from warpspan import guard
from warpspan.config import Settings
from warpspan.finish.draft import Contributor
from warpspan.finish.kv_leaks import KvLeaks
from warpspan.finish.pipeline import Pipeline, contributors
from warpspan.finish.stream import RecordStream
from warpspan.records import Memory, Model, Steps, Timing, Usage

_IDS = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7")


@pytest.fixture(autouse=True)
def faults():
    """The faults of one test."""
    guard.forget()
    yield guard.faults
    guard.forget()


@pytest.fixture
def window():
    return closed_window(host(), span=("span", False))


class Adds(Contributor):
    """Contributes by a function."""

    def __init__(self, name, contribute):
        self.name = name
        self.contribute = contribute


class Late(Contributor):
    """May be late, and counts how often it was asked."""

    name = "late"

    def __init__(self, settled):
        self._settled = settled
        self.asked = 0

    def settled(self, window):
        self.asked += 1
        return self._settled

    def contribute(self, window, draft):
        pass


def finish(window, *contributors, ids=lambda span: ("", "", "")):
    """What subscribers hear of a window: its span and its record."""
    heard = []
    stream = RecordStream({"test": lambda span, record: heard.append((span, record))})
    Pipeline(contributors, stream, ids).finish(window, device_done=False)
    return heard


def made_of(window, **groups):
    """The record of a window, of which only the readings and some groups are known."""
    return inference(
        start_ns=window.start_ns,
        duration_s=(window.ended_ns - window.began_ns) / 1e9,
        timing=Timing(concurrency=1),
        **groups,
    )


def test_the_readings_alone_make_a_record(window):
    """No contributor is needed, and none is missed."""
    assert [(("span", False), made_of(window))] == finish(window)


def test_contributors_run_in_their_order_on_one_draft(window):
    """Each sees what those before it added."""
    seen = []

    def first(window, draft):
        seen.append((draft.steps, draft.memory))
        draft.steps = Steps(3)

    def second(window, draft):
        seen.append((draft.steps, draft.memory))
        draft.memory = Memory(rss_bytes=draft.steps.total)

    ((_, record),) = finish(window, Adds("first", first), Adds("second", second))
    assert [(None, None), (Steps(3), None)] == seen
    assert made_of(window, steps=Steps(3), memory=Memory(rss_bytes=3)) == record


def test_one_that_raises_costs_its_own_group_only(window, faults):
    """The others add theirs, before and after it; it is counted under its name."""

    def fail(window, draft):
        raise ValueError("no memory")

    ((_, record),) = finish(
        window,
        Adds("steps", lambda window, draft: setattr(draft, "steps", Steps(3))),
        Adds("memory", fail),
        Adds("device share", lambda window, draft: setattr(draft, "usage", Usage(energy_j=1.0))),
    )
    assert made_of(window, steps=Steps(3), usage=Usage(energy_j=1.0)) == record
    assert {"memory": 1} == dict(faults)


def test_the_ids_of_the_span_reach_the_record(window):
    """They are asked of what was started for the window, once."""
    asked = []

    def ids(span):
        asked.append(span)
        return _IDS

    ((span, record),) = finish(window, ids=ids)
    trace_id, span_id, parent_span_id = _IDS
    expected = made_of(window, trace_id=trace_id, span_id=span_id, parent_span_id=parent_span_id)
    assert (expected, [("span", False)], ("span", False)) == (record, asked, span)


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_settled_once_every_late_one_is(window, first, second):
    """One that is not holds up the record."""
    late = [Late(first), Late(second)]
    pipeline = Pipeline(late, RecordStream({}), None)
    assert (first and second) is pipeline.is_settled(window)


def test_only_those_that_may_be_late_are_asked(window):
    """The rest know all at once, and are not even called."""

    class Prompt(Contributor):
        name = "prompt"

    prompt, late = Prompt(), Late(True)
    pipeline = Pipeline([prompt, late], RecordStream({}), None)
    prompt.settled = None  # would raise where it is called
    assert pipeline.is_settled(window)
    assert 1 == late.asked


def test_a_record_is_not_held_up_where_none_may_be_late(window):
    """All is known at the end."""
    assert Pipeline([], RecordStream({}), None).is_settled(window)


def test_a_window_on_the_host_is_done(window):
    """There is no device to wait for."""
    assert Pipeline([], RecordStream({}), None).is_done(window)


def test_a_contributor_must_contribute(window):
    """The contract's own method adds nothing silently."""
    with pytest.raises(NotImplementedError):
        Contributor().contribute(window, None)


def test_a_subscriber_that_fails_is_no_fault_of_the_pipeline(window, faults):
    """The window is finished all the same."""

    def fail(span, record):
        raise ValueError("no sink")

    stream = RecordStream({"span": fail})
    Pipeline([], stream, lambda span: _IDS).finish(window, device_done=True)
    assert {"span": 1} == dict(faults)


class Capture(Contributor):
    """Adds nothing."""

    def contribute(self, window, draft):
        pass


@pytest.mark.parametrize("gc_freeze", [False, True])
def test_who_contributes(gc_freeze):
    """The order is fixed: shares of device time come after the device time's own readers."""
    kv_leaks = KvLeaks(Counter())
    found = contributors(Settings(gc_freeze=gc_freeze), kv_leaks, Capture())
    assert [
        "AllocatorMemory",
        "ProcessMemory",
        "DeviceShare",
        "StepFigures",
        "WaitsAndCopies",
        "KvLeaks",
        "Capture",
        *(["GcFreezer"] if gc_freeze else []),
    ] == [type(contributor).__name__ for contributor in found]
    assert found[5] is kv_leaks


def test_all_of_them_on_a_plain_window(faults):
    """A module call on the host has memory of its process, and nothing of a device or of steps."""
    window = closed_window(host(), model="Tiny")
    found = contributors(Settings(), KvLeaks(Counter()), Capture())
    ((_, record),) = finish(window, *found)
    assert record.memory.rss_bytes > 0
    expected = made_of(window, model=Model("Tiny"), memory=Memory(rss_bytes=1))
    assert expected == record._replace(memory=Memory(rss_bytes=1))
    assert {} == dict(faults)
