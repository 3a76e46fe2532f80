"""Percentiles of what was measured."""

from __future__ import annotations

from array import array
from typing import NamedTuple


class Quantiles(NamedTuple):
    """Nearest-rank percentiles: each is a value that was measured."""

    p50: float
    p95: float
    p99: float


def rank(percent: int, count: int) -> int:
    """Index of the smallest of `count` sorted values that `percent` % of them don't exceed."""
    return max(0, -(-percent * count // 100) - 1)


def quantiles(values: array[float]) -> Quantiles:
    """The percentiles of some values."""
    ordered = sorted(values)
    return Quantiles(*(ordered[rank(percent, len(ordered))] for percent in (50, 95, 99)))
