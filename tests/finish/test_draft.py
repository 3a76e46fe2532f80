"""The draft: each of its fields is one of the record, at its own place."""

from __future__ import annotations

import pytest

from tests.support.records import full_inference, inference
from warpspan.finish.draft import Draft
from warpspan.records import Inference, Loop, Phases, Timing

_GIVEN = ("operation", "start_ns", "duration_s", "device", "model", "input", "timing", "error_type")


def draft(record):
    """A draft of which all that is given at first is known."""
    return Draft(*(getattr(record, name) for name in _GIVEN))


def test_what_nobody_added_is_absent():
    """The record of a new draft has no group, and no ids."""
    record = inference(timing=Timing(concurrency=1), error_type="ValueError")
    assert record == draft(record).record()


def test_every_field_reaches_the_record():
    """At its own place, none mistaken for another."""
    record = full_inference(loop=Loop(Phases(source="host")))
    made = draft(record)
    added = [name for name in Inference._fields if name not in (*_GIVEN, "process")]
    for name in added:
        setattr(made, name, getattr(record, name))
    assert record == made.record()


@pytest.mark.parametrize("name", [n for n in Inference._fields if n not in (*_GIVEN, "process")])
def test_every_field_has_a_default(name):
    """An inference pays only for what is set on it: the defaults are the record's, on the class."""
    assert Inference._field_defaults[name] == getattr(Draft, name)


def test_the_process_is_not_of_a_draft():
    """A record names one only where it was read back."""
    assert ("", False) == (draft(inference()).record().process, hasattr(Draft, "process"))
