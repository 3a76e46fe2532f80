"""The published schema of XPlane, as protobuf's own description of it.

https://github.com/openxla/xla/blob/main/third_party/tsl/tsl/profiler/protobuf/xplane.proto
(Apache-2.0): every message, with the fields that are read here; protobuf skips the others. Code
that protoc generates is bound to versions of the protobuf package, a description is not; a test
compares it with TensorFlow's compiled one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "warpspan.xplane"
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "int64": _FIELD.TYPE_INT64,
    "uint64": _FIELD.TYPE_UINT64,
    "double": _FIELD.TYPE_DOUBLE,
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
}
# A map is a list of entries, in the schema and on the wire.
MESSAGES: dict[str, tuple[str, ...]] = {
    "XSpace": (
        "repeated XPlane planes = 1",
        "repeated string errors = 2",
        "repeated string warnings = 3",
        "repeated string hostnames = 4",
    ),
    "XPlane": (
        "int64 id = 1",
        "string name = 2",
        "repeated XLine lines = 3",
        "repeated EventMetadataEntry event_metadata = 4",
        "repeated StatMetadataEntry stat_metadata = 5",
        "repeated XStat stats = 6",
    ),
    "EventMetadataEntry": ("int64 key = 1", "XEventMetadata value = 2"),
    "StatMetadataEntry": ("int64 key = 1", "XStatMetadata value = 2"),
    "XLine": (
        "int64 id = 1",
        "string name = 2",
        "int64 timestamp_ns = 3",
        "repeated XEvent events = 4",
        "string display_name = 11",
    ),
    "XEvent": (
        "int64 metadata_id = 1",
        "oneof int64 offset_ps = 2",
        "int64 duration_ps = 3",
        "repeated XStat stats = 4",
        "oneof int64 num_occurrences = 5",
    ),
    "XStat": (
        "int64 metadata_id = 1",
        "oneof double double_value = 2",
        "oneof uint64 uint64_value = 3",
        "oneof int64 int64_value = 4",
        "oneof string str_value = 5",
        "oneof bytes bytes_value = 6",
        "oneof uint64 ref_value = 7",
    ),
    "XEventMetadata": (
        "int64 id = 1",
        "string name = 2",
        "string display_name = 4",
        "repeated XStat stats = 5",
    ),
    "XStatMetadata": ("int64 id = 1", "string name = 2"),
}


ONE_OF = "value"
"""What the alternatives of a message are called here; the name is not on the wire."""


@cache
def x_space() -> Any:
    """The class of a whole file, as protobuf makes it."""
    file = descriptor_pb2.FileDescriptorProto(
        name="warpspan/xplane.proto", package=_PACKAGE, syntax="proto3"
    )
    for message, fields in MESSAGES.items():
        description = file.message_type.add(name=message)
        for text in fields:
            *rule, kind, name, _, number = text.split()
            field = description.field.add(
                name=name,
                number=int(number),
                label=_FIELD.LABEL_REPEATED if rule == ["repeated"] else _FIELD.LABEL_OPTIONAL,
            )
            if rule == ["oneof"]:  # no message has more than one
                if not description.oneof_decl:
                    description.oneof_decl.add(name=ONE_OF)
                field.oneof_index = 0
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.XSpace"))
