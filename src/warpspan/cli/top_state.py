"""What the user of `warpspan top` chose, and what was seen so far. Pure: keys and snapshots in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from warpspan.cli.top_charts import SECONDS


class Row(NamedTuple):
    """Inferences of one service, operation and model, of one process or of several.

    Args:
        service: as the program named it.
        name: operation and model.
        pids: of the processes.
        devices: ids of the devices.
        rate: inferences per second.
        failed: since somebody looks.
        p50_s: of the latest durations.
        p95_s: likewise.
        tokens: generated per second.
        queue_s: mean wait before the device began.
        gpu_s: mean GPU-seconds.
        joules: mean energy.
        cpu_s: mean processor time of the calling thread.
        history: rates of the last minute, oldest first.
    """

    service: str
    name: str
    pids: tuple[int, ...]
    devices: tuple[str, ...]
    rate: float | None
    failed: int
    p50_s: float | None
    p95_s: float | None
    tokens: float | None
    queue_s: float | None
    gpu_s: float | None
    joules: float | None
    cpu_s: float | None
    history: tuple[float | None, ...] = ()


class Order(NamedTuple):
    """One way to sort the rows, the highest first."""

    name: str
    value: Callable[[Row], float | None]


ORDERS = (
    Order("rate", lambda row: row.rate),
    Order("p95", lambda row: row.p95_s),
    Order("tokens", lambda row: row.tokens),
    Order("GPU-seconds", lambda row: row.gpu_s),
    Order("joules", lambda row: row.joules),
    Order("processor", lambda row: row.cpu_s),
    Order("failed", lambda row: row.failed),
)


class View:
    """Sorting, filter, folding, and the histories of the last minute."""

    def __init__(self) -> None:
        self.order = 0
        self.reversed = False
        self.folded = True
        self.processes = False
        self.filter = ""
        self.typing = False
        self.offset = 0
        self._rates: dict[tuple[Any, ...], deque[float | None]] = {}
        self._devices: dict[str, deque[float | None]] = {}

    def note(self, snapshot: dict[str, Any]) -> None:
        """Add a snapshot to the histories. Called once a second."""
        rates = {_key(one): one["inferences_per_s"] for one in snapshot["inferences"]}
        _extend(self._rates, rates)
        _extend(self._devices, {one["id"]: busy(one) for one in snapshot["devices"]})

    def history(self, device_id: str) -> tuple[float | None, ...]:
        """The utilization of a device in the last minute, oldest first."""
        return tuple(self._devices.get(device_id, ()))

    def press(self, key: str) -> bool:
        """React to a key; False to end."""
        if self.typing:
            if key in ("enter", "escape"):
                self.typing = False
                self.filter = self.filter if key == "enter" else ""
            elif key == "backspace":
                self.filter = self.filter[:-1]
            elif len(key) == 1:
                self.filter += key
            self.offset = 0
            return True
        if key == "q":
            return False
        if key == "s":
            self.order = (self.order + 1) % len(ORDERS)
        elif key == "r":
            self.reversed = not self.reversed
        elif key == "f":
            self.folded = not self.folded
        elif key == "p":
            self.processes = not self.processes
        elif key == "/":
            self.typing, self.filter = True, ""
        elif key == "escape":
            self.filter = ""
        elif key in ("up", "k"):
            self.offset = max(0, self.offset - 1)
        elif key in ("down", "j"):
            self.offset += 1
        return True

    def rows(self, snapshot: dict[str, Any]) -> list[Row]:
        """The inferences, folded, filtered and sorted."""
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for one in snapshot["inferences"]:
            key: tuple[Any, ...] = (one["service"], one["operation"], one["model"])
            if not self.folded:
                key += (one["pid"], one["device_id"])
            groups.setdefault(key, []).append(one)
        rows = [self._row(group) for group in groups.values()]
        rows = [row for row in rows if self.matches(row.service, row.name, *map(str, row.pids))]
        value = ORDERS[self.order].value
        rows.sort(key=lambda row: (row.service, row.name, row.pids))
        # What is not known comes last in either direction.
        sign = 1 if self.reversed else -1
        rows.sort(key=lambda row: (value(row) is None, sign * (value(row) or 0.0)))
        return rows

    def matches(self, *texts: str) -> bool:
        """Whether the filter is a part of any of them."""
        return any(self.filter.lower() in text.lower() for text in texts)

    def _row(self, group: list[dict[str, Any]]) -> Row:
        first = group[0]
        durations_s = sorted(duration for one in group for duration in one["durations_s"])
        histories = [self._rates.get(_key(one), ()) for one in group]
        return Row(
            service=first["service"],
            name=f"{first['operation']} {first['model'] or ''}".rstrip(),
            pids=tuple(sorted({one["pid"] for one in group})),
            devices=tuple(sorted({one["device_id"] or "" for one in group})),
            rate=_sum(one["inferences_per_s"] for one in group),
            failed=sum(one["failed"] for one in group),
            p50_s=_percentile(durations_s, 50),
            p95_s=_percentile(durations_s, 95),
            tokens=_sum(one["tokens_per_s"] for one in group),
            queue_s=_mean(group, "queue_s_per_inference"),
            gpu_s=_mean(group, "gpu_s_per_inference"),
            joules=_mean(group, "joules_per_inference"),
            cpu_s=_mean(group, "cpu_s_per_inference"),
            history=_added(histories),
        )


def _key(one: dict[str, Any]) -> tuple[Any, ...]:
    return (one["pid"], one["operation"], one["model"], one["device_id"])


def busy(device: dict[str, Any]) -> float | None:
    """Share of its multiprocessors that work, else of the time in which a kernel runs."""
    sm: float | None = device["sm_utilization"]
    kernels: float | None = device["utilization"]
    return kernels if sm is None else sm


def _extend(histories: dict[Any, deque[float | None]], values: dict[Any, float | None]) -> None:
    for gone in histories.keys() - values.keys():
        del histories[gone]
    for key, value in values.items():
        histories.setdefault(key, deque(maxlen=SECONDS)).append(value)


def _added(histories: list[Any]) -> tuple[float | None, ...]:
    """The sums of histories of different lengths that end at the same time."""
    length = max(map(len, histories), default=0)
    padded = [(None,) * (length - len(history)) + tuple(history) for history in histories]
    return tuple(_sum(values) for values in zip(*padded, strict=True))


def _sum(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _mean(group: list[dict[str, Any]], name: str) -> float | None:
    """The mean of several processes, by their rates where these are known."""
    known = [one for one in group if one[name] is not None]
    weights = [one["inferences_per_s"] or 0.0 for one in known]
    if not known:
        return None
    if not sum(weights):
        weights = [1.0] * len(known)
    total: float = sum(one[name] * weight for one, weight in zip(known, weights, strict=True))
    return total / sum(weights)


def _percentile(ordered: list[float], percent: int) -> float | None:
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)] if ordered else None
