"""The one codec between records and span attributes.

An attribute is declared once, on the field that holds it, and groups of them nest:

    class Memory(NamedTuple):
        peak_bytes: Annotated[int | None, attr(names.PYTORCH_MEMORY_PEAK_SIZE)] = None

    class Inference(NamedTuple):
        memory: Memory | None = None
        start_ns: int  # no attribute: given beside them when a record is read back

A group that occurs more than once declares the ends of its names, and each place the beginning:

    class Transfer(NamedTuple):
        time_s: Annotated[float | None, attr("time")] = None

    class Transfers(NamedTuple):
        h2d: Annotated[Transfer | None, group(names.PYTORCH_TRANSFER_H2D)] = None

A tuple of groups becomes parallel arrays, one for each field, so its fields can't be absent.

Encoder and decoder are compiled once, when a codec is made: the finisher encodes each inference.
"""

from __future__ import annotations

import itertools
import math
import types
from collections.abc import Callable, Iterator, Mapping
from typing import (
    Annotated,
    Any,
    Generic,
    NamedTuple,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

Record = TypeVar("Record", bound=tuple[Any, ...])
Group = TypeVar("Group")

AttributeValue: TypeAlias = (
    str | bool | int | float | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
)


class Declared(NamedTuple):
    """What `attr` and `group` note on a field."""

    is_group: bool
    name: str
    start: bool = False
    signed: bool = False
    detail: bool = False


def attr(name: str, *, start: bool = False, signed: bool = False, detail: bool = False) -> Declared:
    """Declare that a field is an attribute.

    Args:
        name: of the attribute, or its end in a group that occurs more than once.
        start: whether a span has it from its start.
        signed: whether the number may be negative.
        detail: whether it may leave a span that has many attributes for an event of the span.
    """
    return Declared(False, name, start, signed, detail)


def group(prefix: str = "", *, start: bool = False, detail: bool = False) -> Declared:
    """Declare what holds for all attributes of a nested group. A plain one needs no declaration.

    Args:
        prefix: what their names begin with, without the dot behind it.
        start: whether a span has them from its start.
        detail: as for `attr`.
    """
    return Declared(True, prefix, start, False, detail)


class Attribute(NamedTuple):
    """An attribute and its place in a record.

    Args:
        name: of the attribute.
        path: of the field, as `memory.peak_bytes`; `kinds[].total` in a tuple of groups.
        type: as the registry calls it.
        start: whether a span has it from its start.
        signed: whether the number may be negative.
        detail: whether it may move to an event.
    """

    name: str
    path: str
    type: str
    start: bool
    signed: bool
    detail: bool


class _Node(NamedTuple):
    """A field: an attribute, a group, a tuple of groups (`rows`), or none of these."""

    field: str
    optional: bool
    default: Any
    attribute: Attribute | None = None
    record: type[Any] | None = None
    children: tuple[_Node, ...] = ()
    rows: bool = False


_TYPES: dict[Any, str] = {str: "string", bool: "boolean", int: "int", float: "double"}
_MISSING: Any = object()


class Codec(Generic[Record]):
    """Encodes records of one class as attributes, and decodes them.

    Args:
        record: a named tuple whose fields are declared as this module describes.

    Attributes:
        attributes: all of them, in the order of the fields.
        encode: gives the attributes of a record; nothing that was not measured.
        encode_end: the same without those that a span has from its start.

    Raises:
        TypeError: a field has a type that no attribute can have.
    """

    def __init__(self, record: type[Record]) -> None:
        self._nodes = _nodes(record, Declared(True, ""), "")
        self.attributes: tuple[Attribute, ...] = tuple(_attributes(self._nodes))
        self.encode: Callable[[Record], dict[str, AttributeValue]]
        self.encode = _encoder(self._nodes, start=True)
        self.encode_end: Callable[[Record], dict[str, AttributeValue]]
        self.encode_end = _encoder(self._nodes, start=False)
        self._decode = _decoder(record, self._nodes)
        self._checks = {attribute.name: _check(attribute) for attribute in self.attributes}

    def decode(self, attributes: Mapping[str, Any], beside: Mapping[str, Any]) -> Record:
        """The record behind attributes. A group is None where none of its attributes is there.

        Args:
            attributes: may hold others, too.
            beside: the fields of the record itself that are no attributes.

        Raises:
            KeyError: a field that is never absent has no value.
            TypeError, ValueError: arrays that belong together don't fit.
        """
        decoded: Record = self._decode(attributes, beside)
        return decoded

    def is_sound(self, attributes: Mapping[str, Any]) -> bool:
        """Whether each attribute of the record has its type, and numbers can be counted with.

        They are finite, and not negative unless they are declared `signed`.
        """
        checks = self._checks
        return all(checks[name](value) for name, value in attributes.items() if name in checks)


def _nodes(record: type[Any], outer: Declared, path: str) -> tuple[_Node, ...]:
    hints = get_type_hints(record, include_extras=True)
    defaults = record._field_defaults
    return tuple(
        _node(field, hints[field], defaults.get(field, _MISSING), outer, path)
        for field in record._fields
    )


def _node(field: str, hint: Any, default: Any, outer: Declared, path: str) -> _Node:
    declared = None
    if get_origin(hint) is Annotated:
        hint, declared = get_args(hint)[:2]
    hint, optional = _without_none(hint)
    inner: Any = get_args(hint)[0] if get_origin(hint) is tuple else None
    if declared is None and not _is_record(hint):
        return _Node(field, optional, default)
    declared = declared or Declared(True, "")
    name = ".".join(filter(None, (outer.name, declared.name)))
    start, detail = outer.start or declared.start, outer.detail or declared.detail
    here = Declared(declared.is_group, name, start, declared.signed, detail)
    where = f"{path}{field}"
    if _is_record(hint):
        return _Node(field, optional, default, None, hint, _nodes(hint, here, f"{where}."))
    if _is_record(inner):
        children = _nodes(inner, here, f"{where}[].")
        if any(child.attribute is None or child.optional for child in children):
            raise TypeError(f"{where} becomes parallel arrays: each field needs a value")
        return _Node(field, optional, default, None, inner, children, rows=True)
    kind = _TYPES.get(hint if inner is None else inner)
    if kind is None or declared.is_group:
        raise TypeError(f"{where} can't be an attribute: {hint}")
    if inner is not None or "[]" in where:
        kind += "[]"
    return _Node(field, optional, default, Attribute(name, where, kind, start, here.signed, detail))


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    options = [option for option in get_args(hint) if option is not types.NoneType]
    return options[0] if len(options) == 1 else hint, True


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and hasattr(hint, "_fields")


def _attributes(nodes: tuple[_Node, ...]) -> Iterator[Attribute]:
    for node in nodes:
        if node.attribute is not None:
            yield node.attribute
        yield from _attributes(node.children)


def _check(attribute: Attribute) -> Callable[[Any], bool]:
    kind = attribute.type.removesuffix("[]")
    lowest = -math.inf if attribute.signed else 0

    def is_one(value: Any) -> bool:
        if kind in ("string", "boolean"):
            return isinstance(value, str if kind == "string" else bool)
        kinds = (int,) if kind == "int" else (int, float)
        return type(value) in kinds and math.isfinite(value) and value >= lowest

    def are_all(values: Any) -> bool:
        return isinstance(values, (list, tuple)) and all(map(is_one, values))

    return is_one if kind == attribute.type else are_all


def _encoder(nodes: tuple[_Node, ...], *, start: bool) -> Callable[[Any], dict[str, Any]]:
    names = (f"v{number}" for number in itertools.count())
    lines = ["def encode(record):", " found = {}"]

    def take_apart(nodes: tuple[_Node, ...], source: str, pad: str) -> None:
        variables = {node.field: next(names) for node in nodes}
        lines.append(f"{pad}{', '.join(variables.values())}, = {source}")
        for node in nodes:
            value, within = variables[node.field], pad
            if node.rows:
                keys = [repr(child.attribute.name) for child in node.children if child.attribute]
                targets = "".join(f"found[{key}], " for key in keys)
                lines.append(f"{pad}if {value}: {targets}= zip(*{value})")
                continue
            if node.attribute is None and node.record is None:
                continue
            if all(attribute.start for attribute in _attributes((node,))) and not start:
                continue
            if node.optional:
                lines.append(f"{pad}if {value} is not None:")
                within = pad + " "
            if node.attribute is not None:
                lines.append(f"{within}found[{node.attribute.name!r}] = {value}")
            else:
                take_apart(node.children, value, within)

    take_apart(nodes, "record", " ")
    return _compile([*lines, " return found"], "encode", {})


def _decoder(record: type[Any], nodes: tuple[_Node, ...]) -> Callable[..., Any]:
    known: dict[str, Any] = {"unless_empty": _unless_empty, "rows": _rows, "array": _array}

    def remember(value: Any) -> str:
        name = f"k{len(known)}"
        known[name] = value
        return name

    def made(record: type[Any], nodes: tuple[_Node, ...], *, outermost: bool) -> str:
        values = ", ".join(value(node, outermost=outermost) for node in nodes)
        return f"{remember(record)}({values})"

    def value(node: _Node, *, outermost: bool) -> str:
        if node.attribute is not None:
            name = repr(node.attribute.name)
            read = f"get({name})" if node.optional else f"attributes[{name}]"
            return f"array({read})" if node.attribute.type.endswith("[]") else read
        if node.rows:
            columns = ", ".join(f"get({found.name!r})" for found in _attributes(node.children))
            return f"rows({remember(node.record)}, ({columns},))"
        if node.record is not None:
            group = made(node.record, node.children, outermost=False)
            if not node.optional:
                return group
            return f"unless_empty({group}, {remember(node.record())})"
        if not outermost:
            return remember(node.default)
        if node.default is _MISSING:
            return f"beside[{node.field!r}]"
        return f"beside.get({node.field!r}, {remember(node.default)})"

    body = made(record, nodes, outermost=True)
    lines = ["def decode(attributes, beside):", " get = attributes.get", f" return {body}"]
    return _compile(lines, "decode", known)


def _compile(lines: list[str], name: str, known: dict[str, Any]) -> Callable[..., Any]:
    """A function made of lines, as the standard library makes those of dataclasses."""
    exec("\n".join(lines), known)  # noqa: S102 - nothing in it comes from outside the package
    compiled: Callable[..., Any] = known[name]
    return compiled


def _unless_empty(group: Group, empty: Group) -> Group | None:
    return None if group == empty else group


def _array(values: Any) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def _rows(record: type[Any], columns: tuple[Any, ...]) -> tuple[Any, ...]:
    if all(column is None for column in columns):
        return ()
    return tuple(record(*values) for values in zip(*columns, strict=True))
