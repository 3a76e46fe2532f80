"""What made the host wait."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from warpspan.records.attr import attr, group
from warpspan.records.enums import StrEnum
from warpspan.signals import names


class SyncCall(StrEnum):
    """The kinds of calls in which the host waits for a device."""

    SYNCHRONIZE = "synchronize"
    STREAM = "stream"
    EVENT = "event"
    ITEM = "item"
    TOLIST = "tolist"
    NUMPY = "numpy"
    NONZERO = "nonzero"
    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    INDEX = "index"
    CONTAINS = "contains"
    CPU = "cpu"
    TO = "to"
    CUDA = "cuda"
    COPY = "copy"


class Site(NamedTuple):
    """A place in the user's code."""

    file: Annotated[str | None, attr("file.path")] = None
    line: Annotated[int | None, attr("line.number")] = None
    function: Annotated[str | None, attr("function.name")] = None


class SyncKind(NamedTuple):
    """The waits of one kind."""

    kind: Annotated[str, attr("kinds")]
    total: Annotated[int, attr("counts")]
    stalled_s: Annotated[float, attr("times")]


class SyncPlace(NamedTuple):
    """The waits of one kind at one place in the user's code, of those that were looked up.

    Args:
        kind: of the call.
        file: path of its file.
        line: in that file.
        function: with its module.
        total: how many waits.
        stalled_s: host time inside them.
    """

    kind: Annotated[str, attr("kinds")]
    file: Annotated[str, attr("code.file.paths")]
    line: Annotated[int, attr("code.line.numbers")]
    function: Annotated[str, attr("code.function.names")]
    total: Annotated[int, attr("counts")]
    stalled_s: Annotated[float, attr("times")]

    @property
    def site(self) -> Site:
        """Where it is."""
        return Site(self.file, self.line, self.function)


class Syncs(NamedTuple):
    """The calls in which the host waited for the device.

    What the places lack to the sums of the kinds was waited at places that are not known.

    Args:
        total: how many.
        stalled_s: host time inside them.
        longest_kind: kind of the longest one.
        longest_s: its time.
        longest_site: where it was called, for one that is long enough to look.
        repeated_kind: the most frequent kind, where it is frequent.
        repeated_site: where it was called, the eighth time.
        kinds: all waits, by kind.
        places: those whose place was looked up, the places with the most time first; a few.
    """

    total: Annotated[int | None, attr(names.PYTORCH_SYNC_COUNT)] = None
    stalled_s: Annotated[float | None, attr(names.PYTORCH_SYNC_TIME)] = None
    longest_kind: Annotated[str | None, attr(names.PYTORCH_SYNC_LONGEST_KIND)] = None
    longest_s: Annotated[float | None, attr(names.PYTORCH_SYNC_LONGEST_TIME)] = None
    longest_site: Annotated[Site | None, group(names.PYTORCH_SYNC_LONGEST_CODE)] = None
    repeated_kind: Annotated[str | None, attr(names.PYTORCH_SYNC_REPEATED_KIND, detail=True)] = None
    repeated_site: Annotated[Site | None, group(names.PYTORCH_SYNC_REPEATED_CODE, detail=True)] = (
        None
    )
    kinds: Annotated[tuple[SyncKind, ...], group(names.PYTORCH_SYNC, detail=True)] = ()
    places: Annotated[tuple[SyncPlace, ...], group(names.PYTORCH_SYNC_PLACE, detail=True)] = ()
