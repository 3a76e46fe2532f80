"""How instruments are created, and callbacks that outlive an instrumentation without holding it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from warpspan.signals.instruments import Metric

S = TypeVar("S")

#: Sums by the attributes of their point.
Totals: TypeAlias = dict[tuple[tuple[str, Any], ...], float]
_totals: WeakKeyDictionary[Meter, dict[str, Totals]] = WeakKeyDictionary()


class Active(Generic[S]):
    """The source of one kind of observations, on one meter at a time.

    The SDK creates an instrument once and keeps its first callback for as long as its meter
    lives, and so what that callback holds: it must serve the next instrumentation, too.
    """

    def __init__(self) -> None:
        self._source: S | None = None
        self._meter: Meter | None = None

    def set(self, source: S, meter: Meter) -> None:
        """Ask this one from now on."""
        self._source, self._meter = source, meter

    def clear(self, source: S) -> None:
        """Ask nobody, if it was this one."""
        if self._source is source:
            self._source = self._meter = None

    def asking(
        self, meter: Meter, observe: Callable[[S], Iterable[Observation]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """A callback that asks the source that is active on its meter when it is called."""

        def callback(_: CallbackOptions) -> Iterable[Observation]:
            source = self._source
            if source is None or self._meter is None or _sdk(self._meter) is not _sdk(meter):
                return ()
            return observe(source)

        return callback


def observe(create: Callable[..., Any], metric: Metric, callback: Callable[..., Any]) -> None:
    """Create an instrument that asks."""
    create(metric.name, [callback], metric.unit, metric.description)


def histogram(meter: Meter, metric: Metric) -> Histogram:
    """Create a histogram."""
    return meter.create_histogram(
        metric.name,
        metric.unit,
        metric.description,
        explicit_bucket_boundaries_advisory=metric.buckets,
    )


def counter(meter: Meter, metric: Metric) -> Counter:
    """Create a counter."""
    return meter.create_counter(metric.name, metric.unit, metric.description)


def totals(meter: Meter, name: str) -> Totals:
    """The sums of the observable counter of that name, which go on in the next instrumentation of its meter.

    They are for counts of every inference: adding to one costs the finisher a twentieth of a
    counter's own `add`.
    """
    kept: dict[str, Totals] = {}
    for other, sums in list(_totals.items()):
        if _sdk(other) is _sdk(meter):
            kept = sums
    _totals[meter] = kept
    return kept.setdefault(name, {})


def _sdk(meter: Meter) -> Meter:
    """The meter behind the one that the API gives before a provider is set."""
    return getattr(meter, "_real_meter", None) or meter
