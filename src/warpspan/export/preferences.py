"""Temporality and histogram aggregation, by the variables of the official metric exporters.

Read here since the official exporters, which have the same, need protobuf to be imported.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION,
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE,
)
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics.view import (
    Aggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
)

_logger = logging.getLogger("warpspan")

_INSTRUMENTS: tuple[type, ...] = (
    Counter,
    UpDownCounter,
    Histogram,
    ObservableCounter,
    ObservableUpDownCounter,
    ObservableGauge,
)
_DELTA: dict[str, tuple[type, ...]] = {
    "CUMULATIVE": (),
    "DELTA": (Counter, Histogram, ObservableCounter),
    "LOWMEMORY": (Counter, Histogram),
}
_AGGREGATIONS: dict[str, type[Aggregation]] = {
    "explicit_bucket_histogram": ExplicitBucketHistogramAggregation,
    "base2_exponential_bucket_histogram": ExponentialBucketHistogramAggregation,
}


def temporality(environ: Mapping[str, str]) -> dict[type, AggregationTemporality]:
    """The temporality of each kind of instrument."""
    variable = OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE
    chosen = environ.get(variable, "CUMULATIVE").upper().strip()
    if chosen not in _DELTA:
        _logger.warning(
            "%s=%r is not valid: give %s. Using CUMULATIVE.", variable, chosen, ", ".join(_DELTA)
        )
    delta = _DELTA.get(chosen, ())
    return {
        kind: AggregationTemporality.DELTA if kind in delta else AggregationTemporality.CUMULATIVE
        for kind in _INSTRUMENTS
    }


def aggregation(environ: Mapping[str, str]) -> dict[type, Aggregation]:
    """The aggregation of histograms."""
    variable = OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION
    chosen = environ.get(variable, "explicit_bucket_histogram")
    if chosen not in _AGGREGATIONS:
        _logger.warning(
            "%s=%r is not valid: give %s. Using explicit_bucket_histogram.",
            variable,
            chosen,
            " or ".join(_AGGREGATIONS),
        )
    return {Histogram: _AGGREGATIONS.get(chosen, ExplicitBucketHistogramAggregation)()}
