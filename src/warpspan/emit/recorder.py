"""Records finished inferences in the metrics of the table, on the finisher's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.context import Context
from opentelemetry.metrics import Meter

from warpspan.emit.labels import BoundedLabels
from warpspan.emit.metric_table import TOTALS, recorded, recorded_for_gen_ai
from warpspan.records import Inference
from warpspan.signals.instruments import Metric


class Sums:
    """The sums of an observable counter, by the labels of their points."""

    def __init__(self) -> None:
        # Equal labels are the same object, which is kept here, so that its id stands for it.
        self._points: dict[int, tuple[dict[str, Any], float]] = {}

    def add(self, amount: float, labels: dict[str, Any], _: Context) -> None:
        """Add to the sum of these labels, as `Counter.add` does."""
        _, so_far = self._points.get(id(labels), (labels, 0))
        self._points[id(labels)] = labels, so_far + amount

    def points(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """Each sum with its labels."""
        for labels, amount in list(self._points.values()):
            yield amount, labels


class Kept:
    """What goes on in the next instrumentation of a meter: its labels, and its sums by metric."""

    def __init__(self) -> None:
        self.labels = BoundedLabels()
        self.sums: dict[str, Sums] = {metric.name: Sums() for metric in TOTALS}


class Recorder:
    """Records into the instruments of the table, each of which is created for its first value.

    Args:
        meter: where they are created.
    """

    def __init__(self, meter: Meter) -> None:
        self.kept = _kept(meter)
        self._meter = meter
        self._methods: dict[str, Callable[..., None]] = {
            name: sums.add for name, sums in self.kept.sums.items()
        }

    def record(self, record: Inference, context: Context) -> None:
        """Record an inference.

        Args:
            record: what is known of it.
            context: that of its span, which gives the exemplars.
        """
        methods = self._methods
        labels = self.kept.labels[
            record.operation, record.model.name, record.device, record.error_type
        ]
        attributes = labels.attributes
        for metric, value, own in recorded(record):
            if value is not None:
                add = methods.get(metric.name) or self._create(metric)
                add(value, attributes if own is None else labels.and_also(own), context)
        loop = record.loop
        if loop is not None and loop.gen_ai is not None:
            attributes = self.kept.labels.of_gen_ai(loop.gen_ai, labels.error_type)
            for metric, value in recorded_for_gen_ai(record, loop.generation):
                if value is not None:
                    add = methods.get(metric.name) or self._create(metric)
                    add(value, attributes, context)

    def _create(self, metric: Metric) -> Callable[..., None]:
        """Create an instrument and keep what records a value in it."""
        made: Callable[..., None]
        if metric.instrument == "counter":
            made = self._meter.create_counter(metric.name, metric.unit, metric.description).add
        else:
            made = self._meter.create_histogram(
                metric.name,
                metric.unit,
                metric.description,
                explicit_bucket_boundaries_advisory=metric.buckets,
            ).record
        self._methods[metric.name] = made
        return made


def sdk(meter: Meter) -> Meter:
    """The meter behind the one that the API gives before a provider is set."""
    return getattr(meter, "_real_meter", None) or meter


_meters: WeakKeyDictionary[Meter, Kept] = WeakKeyDictionary()


def _kept(meter: Meter) -> Kept:
    kept = Kept()
    for other, known in list(_meters.items()):
        if sdk(other) is sdk(meter):
            kept = known
    _meters[meter] = kept
    return kept
