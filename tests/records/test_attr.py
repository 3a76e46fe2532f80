"""The codec: what is declared on a field is encoded, read back and checked."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import pytest

from warpspan.records.attr import Attribute, Codec, attr, group


class Site(NamedTuple):
    """Stands in two places."""

    file: Annotated[str | None, attr("file")] = None
    line: Annotated[int | None, attr("line")] = None


class Row(NamedTuple):
    """Stands in a tuple."""

    kind: Annotated[str, attr("kinds")]
    time_s: Annotated[float, attr("times")]


class Inner(NamedTuple):
    """A group with a group in it."""

    height: Annotated[int | None, attr("inner.height", signed=True)] = None
    near: Annotated[Site | None, group("near")] = None
    far: Annotated[Site | None, group("far", detail=True)] = None
    rows: Annotated[tuple[Row, ...], group("rows")] = ()
    apart: tuple[int, ...] = (7,)


class Outer(NamedTuple):
    """A record with all that may be declared."""

    name: Annotated[str, attr("name", start=True)]
    at_ns: int
    flag: Annotated[bool | None, attr("flag")] = None
    shape: Annotated[tuple[int, ...] | None, attr("shape")] = None
    always: Site = Site()
    inner: Inner | None = None
    note: str = ""


codec = Codec(Outer)
FULL = Outer(
    "x", 5, True, (2, 3), Site("a", 1), Inner(-4, Site("b", 2), Site("c", 3), (Row("k", 0.5),))
)
ATTRIBUTES = {
    "name": "x",
    "flag": True,
    "shape": (2, 3),
    "file": "a",
    "line": 1,
    "inner.height": -4,
    "near.file": "b",
    "near.line": 2,
    "far.file": "c",
    "far.line": 3,
    "rows.kinds": ("k",),
    "rows.times": (0.5,),
}


def test_encoding():
    """Each attribute has its name and value; those of the start can be left out."""
    assert ATTRIBUTES == codec.encode(FULL)
    del (end := dict(ATTRIBUTES))["name"]
    assert end == codec.encode_end(FULL)


def test_what_is_absent_has_no_attribute():
    """A field without a value, a group that is absent, a tuple without items."""
    assert {"name": "x"} == codec.encode(Outer("x", 5))
    assert {"name": "x", "near.line": 0} == codec.encode(
        Outer("x", 5, inner=Inner(near=Site(None, 0)))
    )


@pytest.mark.parametrize("record", [FULL, Outer("x", 5), Outer("x", 5, shape=(), note="n")])
def test_decoding(record):
    """The record comes back; a group is None where nothing of it is there; arrays are tuples."""
    attributes = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in codec.encode(record).items()
    }
    beside = {"at_ns": record.at_ns, "note": record.note}
    assert record == codec.decode(attributes | {"foreign": 1}, beside)


def test_what_must_be_there():
    """A field that is never absent raises where it is; so do arrays that don't fit together."""
    with pytest.raises(KeyError):
        codec.decode({}, {"at_ns": 5})
    with pytest.raises(KeyError):
        codec.decode({"name": "x"}, {})
    for broken in ({"rows.kinds": ["k"]}, {"rows.kinds": ["k"], "rows.times": []}):
        with pytest.raises((TypeError, ValueError)):
            codec.decode({"name": "x", **broken}, {"at_ns": 5})


@pytest.mark.parametrize(
    "broken",
    [
        {"name": 3},
        {"name": None},
        {"flag": 1},
        {"shape": 8},
        {"shape": [1, -1]},
        {"line": -1},
        {"line": True},
        {"line": 1.5},
        {"rows.kinds": [1]},
        {"rows.times": [float("nan")]},
        {"rows.times": [float("inf")]},
        {"rows.times": [True]},
    ],
)
def test_what_is_not_sound(broken):
    """A value of another type, a number that is not finite, or negative without being declared so."""
    assert not codec.is_sound(ATTRIBUTES | broken)


def test_what_is_sound():
    """Whole numbers are numbers, too; signed ones may be negative; others' attributes are theirs."""
    assert codec.is_sound(ATTRIBUTES | {"rows.times": [1], "foreign": -1})


def test_the_attributes_of_a_record():
    """Where each of them stands: what the docs, the limit of a span and tests are made from."""
    assert codec.attributes[:2] == (
        Attribute("name", "name", "string", start=True, signed=False, detail=False),
        Attribute("flag", "flag", "boolean", start=False, signed=False, detail=False),
    )
    assert {
        "inner.height": ("inner.height", "int", True, False),
        "far.file": ("inner.far.file", "string", False, True),
        "rows.times": ("inner.rows[].time_s", "double[]", False, False),
        "shape": ("shape", "int[]", False, False),
    }.items() <= {
        one.name: (one.path, one.type, one.signed, one.detail) for one in codec.attributes
    }.items()


class Sparse(NamedTuple):
    """In an array no value can be absent."""

    time_s: Annotated[float | None, attr("times")] = None


class Rows(NamedTuple):
    """Declares what can't be."""

    rows: Annotated[tuple[Sparse, ...], group("rows")] = ()


class Strange(NamedTuple):
    """Declares what no attribute holds."""

    values: Annotated[dict[str, int] | None, attr("values")] = None


@pytest.mark.parametrize("record", [Rows, Strange])
def test_what_cannot_be_declared(record):
    """It is refused when the codec is made, not when an inference ends."""
    with pytest.raises(TypeError):
        Codec(record)
