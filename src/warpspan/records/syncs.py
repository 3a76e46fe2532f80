"""What made the host wait, and what crossed the bus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from warpspan.signals import names

#: The kinds of waits: a closed set, each with its own attributes.
SYNC_KINDS = (
    "synchronize",
    "stream",
    "event",
    "item",
    "tolist",
    "numpy",
    "nonzero",
    "bool",
    "int",
    "float",
    "index",
    "contains",
    "cpu",
    "to",
    "cuda",
    "copy",
)
_PREFIX = "pytorch.sync."


class Site(NamedTuple):
    """A place in the user's code."""

    file: str | None = None
    line: int | None = None
    function: str | None = None


class SyncKind(NamedTuple):
    """The waits of one kind."""

    kind: str
    total: int
    stalled_s: float | None


class Syncs(NamedTuple):
    """The calls in which the host waited for the device.

    Args:
        total: how many.
        stalled_s: host time inside them.
        longest_kind: kind of the longest one.
        longest_s: its time.
        longest_site: where it was called, for one that is long enough to look.
        repeated_kind: the most frequent kind, where it is frequent.
        repeated_site: where it was called, the eighth time.
        kinds: by kind.
    """

    total: int | None = None
    stalled_s: float | None = None
    longest_kind: str | None = None
    longest_s: float | None = None
    longest_site: Site | None = None
    repeated_kind: str | None = None
    repeated_site: Site | None = None
    kinds: tuple[SyncKind, ...] = ()

    def attributes(self) -> Iterator[tuple[str, Any]]:
        """Names and values, absent ones included."""
        values = (self.total, self.stalled_s, self.longest_kind, self.longest_s, self.repeated_kind)
        yield from zip(_SYNCS, values, strict=True)
        yield from zip(_LONGEST_SITE, self.longest_site or Site(), strict=True)
        yield from zip(_REPEATED_SITE, self.repeated_site or Site(), strict=True)
        for kind, total, stalled_s in self.kinds:
            yield f"{_PREFIX}{kind}.count", total
            yield f"{_PREFIX}{kind}.time", stalled_s

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Syncs | None:
        """What `attributes` gave; None where there is nothing of it."""
        get = attributes.get
        total, stalled_s, longest_kind, longest_s, repeated_kind = map(get, _SYNCS)
        if total is None:
            return None
        kinds = tuple(
            SyncKind(kind, found, get(f"{_PREFIX}{kind}.time"))
            for kind in sorted(SYNC_KINDS)
            if (found := get(f"{_PREFIX}{kind}.count")) is not None
        )
        longest, repeated = Site(*map(get, _LONGEST_SITE)), Site(*map(get, _REPEATED_SITE))
        return cls(
            total,
            stalled_s,
            longest_kind,
            longest_s,
            None if longest == Site() else longest,
            repeated_kind,
            None if repeated == Site() else repeated,
            kinds,
        )

    def numbers(self) -> tuple[Any, ...]:
        """All that must be a number, or absent."""
        return (
            self.total,
            self.stalled_s,
            self.longest_s,
            *(value for kind in self.kinds for value in kind[1:]),
        )


class Transfer(NamedTuple):
    """The copies of one direction.

    Args:
        total: how many.
        nbytes: what crossed the bus.
        pageable_bytes: of it, to or from host memory that is not pinned.
        weight_bytes: of it, parameters of models.
        time_s: device time of those of at least 256 KiB, None where one was not timed.
        bytes_per_s: their bytes over their time.
        device_share: that time over the device time of the inference.
    """

    total: int | None = None
    nbytes: int | None = None
    pageable_bytes: int | None = None
    weight_bytes: int | None = None
    time_s: float | None = None
    bytes_per_s: float | None = None
    device_share: float | None = None


class Transfers(NamedTuple):
    """The copies by direction, and what was pinned for them."""

    h2d: Transfer | None = None
    d2h: Transfer | None = None
    d2d: Transfer | None = None
    pin_count: int | None = None
    pin_bytes: int | None = None
    pin_time_s: float | None = None

    def attributes(self) -> Iterator[tuple[str, Any]]:
        """Names and values, absent ones included."""
        for keys, transfer in zip(_WAYS, self[:3], strict=True):
            yield from zip(keys, transfer or Transfer(), strict=True)
        yield from zip(_PIN, self[3:], strict=True)

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Transfers | None:
        """What `attributes` gave; None where there is nothing of it."""
        get = attributes.get
        ways = (Transfer(*map(get, keys)) for keys in _WAYS)
        h2d, d2h, d2d = (None if way == Transfer() else way for way in ways)
        found = cls(h2d, d2h, d2d, *map(get, _PIN))
        return None if found == cls() else found

    def numbers(self) -> tuple[Any, ...]:
        """All that must be a number, or absent."""
        return (*(value for way in self[:3] for value in way or ()), *self[3:])


_SYNCS = (
    names.PYTORCH_SYNC_COUNT,
    names.PYTORCH_SYNC_TIME,
    names.PYTORCH_SYNC_LONGEST_KIND,
    names.PYTORCH_SYNC_LONGEST_TIME,
    names.PYTORCH_SYNC_REPEATED_KIND,
)
_LONGEST_SITE = (
    names.PYTORCH_SYNC_LONGEST_CODE_FILE_PATH,
    names.PYTORCH_SYNC_LONGEST_CODE_LINE_NUMBER,
    names.PYTORCH_SYNC_LONGEST_CODE_FUNCTION_NAME,
)
_REPEATED_SITE = (
    names.PYTORCH_SYNC_REPEATED_CODE_FILE_PATH,
    names.PYTORCH_SYNC_REPEATED_CODE_LINE_NUMBER,
    names.PYTORCH_SYNC_REPEATED_CODE_FUNCTION_NAME,
)
_WAYS = (
    (
        names.PYTORCH_TRANSFER_H2D_COUNT,
        names.PYTORCH_TRANSFER_H2D_SIZE,
        names.PYTORCH_TRANSFER_H2D_PAGEABLE_SIZE,
        names.PYTORCH_TRANSFER_H2D_WEIGHTS_SIZE,
        names.PYTORCH_TRANSFER_H2D_TIME,
        names.PYTORCH_TRANSFER_H2D_BANDWIDTH,
        names.PYTORCH_TRANSFER_H2D_DEVICE_SHARE,
    ),
    (
        names.PYTORCH_TRANSFER_D2H_COUNT,
        names.PYTORCH_TRANSFER_D2H_SIZE,
        names.PYTORCH_TRANSFER_D2H_PAGEABLE_SIZE,
        names.PYTORCH_TRANSFER_D2H_WEIGHTS_SIZE,
        names.PYTORCH_TRANSFER_D2H_TIME,
        names.PYTORCH_TRANSFER_D2H_BANDWIDTH,
        names.PYTORCH_TRANSFER_D2H_DEVICE_SHARE,
    ),
    (
        names.PYTORCH_TRANSFER_D2D_COUNT,
        names.PYTORCH_TRANSFER_D2D_SIZE,
        names.PYTORCH_TRANSFER_D2D_PAGEABLE_SIZE,
        names.PYTORCH_TRANSFER_D2D_WEIGHTS_SIZE,
        names.PYTORCH_TRANSFER_D2D_TIME,
        names.PYTORCH_TRANSFER_D2D_BANDWIDTH,
        names.PYTORCH_TRANSFER_D2D_DEVICE_SHARE,
    ),
)
_PIN = (
    names.PYTORCH_TRANSFER_PIN_COUNT,
    names.PYTORCH_TRANSFER_PIN_SIZE,
    names.PYTORCH_TRANSFER_PIN_TIME,
)
