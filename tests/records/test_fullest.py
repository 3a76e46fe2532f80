"""Records with every field set, and any others, through spans, the SDK's limits, and files."""

from __future__ import annotations

import io
import itertools
import types
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.json.file import FileSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from warpspan.emit.spans import Spans
from warpspan.records import (
    DETAILS_EVENT,
    PROFILE_EVENT,
    SPAN_ATTRIBUTE_LIMIT,
    Inference,
    Loop,
    codec,
)
from warpspan.sources.otlp_json import OtlpJsonReader

VALUES = {
    str: st.text(st.characters(codec="utf-8"), min_size=1, max_size=9),
    bool: st.booleans(),
    int: st.integers(0, 2**40),
    float: st.floats(0, 1e6),
}
# Single steps are no attributes: they stand on an event or spans of their own.
APART = {"steps": ()}


def is_group(hint: Any) -> bool:
    """Whether a type is that of a nested group."""
    return hasattr(hint, "_fields")


def plain(hint: Any) -> tuple[Any, bool, bool]:
    """A type without None and tuple around it, whether it may be absent, and whether it is many."""
    absent = get_origin(hint) in (Union, types.UnionType)
    hint = get_args(hint)[0] if absent else hint
    many = get_origin(hint) is tuple
    return (get_args(hint)[0] if many else hint), absent, many


def apart(group: Any) -> dict[str, Any]:
    """The fields of a group that are no attributes."""
    return APART if group is Loop else {}


def any_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field, by its type."""
    hint, absent, many = plain(hint)
    if is_group(hint):
        fields = {name: any_of(inner) for name, inner in get_type_hints(hint).items()}
        one = st.builds(hint, **(fields | {k: st.just(v) for k, v in apart(hint).items()}))
        if absent:  # a group without any value is no group
            one = one.filter(lambda record: record != hint())
    else:
        one = VALUES[hint]
    if many:
        one = st.lists(one, max_size=3).map(tuple)
    return st.none() | one if absent else one


def fullest(hint: Any = Inference, numbers: Any = None) -> Any:
    """A value of a type in which every field is set, each number another one."""
    numbers = numbers or itertools.count(1)
    hint, _, many = plain(hint)
    if is_group(hint):
        fields = {name: fullest(inner, numbers) for name, inner in get_type_hints(hint).items()}
        one = hint(**(fields | apart(hint)))
    else:
        number = next(numbers)
        one = f"text {number}" if hint is str else hint(number)
    return (one,) if many else one


def emitted(record: Inference, exporter: Any) -> None:
    """Send a record as the emitter does, with the SDK's defaults."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = Spans(provider.get_tracer("warpspan"))
    opened = spans.start("x", record.start_attributes(), record.start_ns)
    spans.leave(opened)
    spans.finish(opened, record)


def test_the_sdk_drops_nothing_of_the_fullest_span():
    """By default it keeps 128 attributes and drops the oldest: there is room for the user's, too."""
    exporter = InMemorySpanExporter()
    emitted(fullest(), exporter)
    (span,) = exporter.get_finished_spans()
    profile, details = span.events
    assert {attribute.name for attribute in codec.attributes} == {
        *span.attributes,
        *profile.attributes,
        *details.attributes,
    }
    assert [PROFILE_EVENT, DETAILS_EVENT] == [profile.name, details.name]
    assert len(span.attributes) <= SPAN_ATTRIBUTE_LIMIT <= 128 - 16
    assert (0, 0, 0, 0) == (
        span.dropped_attributes,
        span.dropped_events,
        profile.attributes.dropped,
        details.attributes.dropped,
    )


def read_back(record: Inference) -> Inference:
    """What a reader of the file of the official exporter gets."""
    file = io.StringIO()
    emitted(record, FileSpanExporter(stream=file))
    (read,) = OtlpJsonReader(io.BytesIO(file.getvalue().encode()))
    return read


def own(record: Inference) -> Inference:
    """A record without what is not its own but its span's."""
    return record._replace(
        start_ns=0, duration_s=0.0, trace_id="", span_id="", parent_span_id="", process=""
    )


def test_the_fullest_record_survives_a_file():
    """Its details included, through the official exporter of OTLP JSON."""
    assert own(fullest()) == own(read_back(fullest()))


@given(any_of(Inference))
@settings(max_examples=50)
def test_any_record_survives_attributes(record):
    """Attributes give back the record they came from, and nothing that was not measured."""
    attributes = record.start_attributes() | record.end_attributes()
    assert None not in attributes.values()
    assert codec.is_sound(attributes)
    beside = ("start_ns", "duration_s", "trace_id", "span_id", "parent_span_id", "process")
    assert record == Inference.from_attributes(
        attributes, **{name: getattr(record, name) for name in beside}
    )
