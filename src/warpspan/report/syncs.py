"""What the inferences of a row waited for and copied, summed."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, NamedTuple

from warpspan.records import Direction, Inference, SyncPlace, Transfer


class Waiting(NamedTuple):
    """Sums over the inferences of a row.

    Args:
        inference_count: all of the row, also those that waited for nothing.
        sync_count: calls in which the host waited for the device.
        sync_time_s: host time inside them.
        sync_kinds: how many, by kind, the most frequent first.
        sync_site: where most of the time was waited that has a place: function, file and line.
        sync_site_time_s: host time waited there, as far as it has a place.
        h2d: copies to the device.
        d2h: copies from the device.
        d2d: copies between devices.
    """

    inference_count: int
    sync_count: int
    sync_time_s: float
    sync_kinds: dict[str, int]
    sync_site: str | None
    sync_site_time_s: float | None
    h2d: Transfer
    d2h: Transfer
    d2d: Transfer

    def to_json(self) -> dict[str, Any]:
        """What `warpspan report --json` prints of it; its keys are stable."""
        return {
            "sync_count": self.sync_count,
            "sync_time_s": self.sync_time_s,
            "sync_kinds": self.sync_kinds,
            "sync_site": self.sync_site,
            "sync_site_time_s": self.sync_site_time_s,
        } | {
            f"{way}_{name}": getattr(transfer, field)
            for way, transfer in zip(Direction, (self.h2d, self.d2h, self.d2d), strict=True)
            for name, field in (
                ("count", "total"),
                ("bytes", "nbytes"),
                ("pageable_bytes", "pageable_bytes"),
                ("weight_bytes", "weight_bytes"),
                ("time_s", "time_s"),
            )
        }


class WaitingSum:
    """Adds up what inferences waited for and copied."""

    def __init__(self) -> None:
        self._count = 0
        self._any = False
        self._stalled_s = 0.0
        self._kinds: Counter[str] = Counter()
        self._sites_s: defaultdict[str, float] = defaultdict(float)
        self._ways: dict[Direction, Transfer] = {}

    def add(self, inference: Inference) -> None:
        """Add one inference."""
        self._count += 1
        syncs, transfers = inference.syncs, inference.transfers
        if syncs is not None:
            self._any = True
            self._stalled_s += syncs.stalled_s or 0.0
            for kind, total, _ in syncs.kinds:
                self._kinds[kind] += total
            for place in syncs.places:
                self._sites_s[_site(place)] += place.stalled_s
        if transfers is not None:
            self._any = True
            for direction, transfer in transfers.by_direction().items():
                self._ways[direction] = _sum(self._ways.get(direction), transfer)

    def total(self) -> Waiting | None:
        """The sums; None where no inference waited or copied."""
        if not self._any:
            return None
        site, site_time_s = max(
            self._sites_s.items(), key=lambda item: item[1], default=(None, None)
        )
        nothing = Transfer(0, 0, 0, 0)
        return Waiting(
            inference_count=self._count,
            sync_count=sum(self._kinds.values()),
            sync_time_s=self._stalled_s,
            sync_kinds=dict(self._kinds.most_common()),
            sync_site=site,
            sync_site_time_s=site_time_s,
            h2d=self._ways.get(Direction.H2D, nothing),
            d2h=self._ways.get(Direction.D2H, nothing),
            d2d=self._ways.get(Direction.D2D, nothing),
        )


def _site(place: SyncPlace) -> str:
    return f"{place.function} ({place.file}:{place.line})"


def _sum(one: Transfer | None, other: Transfer) -> Transfer:
    if one is None:
        one = Transfer(0, 0, 0, 0)
    times = [time_s for time_s in (one.time_s, other.time_s) if time_s is not None]
    return Transfer(
        total=(one.total or 0) + (other.total or 0),
        nbytes=(one.nbytes or 0) + (other.nbytes or 0),
        pageable_bytes=(one.pageable_bytes or 0) + (other.pageable_bytes or 0),
        weight_bytes=(one.weight_bytes or 0) + (other.weight_bytes or 0),
        time_s=sum(times) if times else None,
    )
