"""One mode of the benchmark, run in a process of its own: providers are global and set once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON

from benchmarks.overhead.statistics import Block, Comparison, Cost, measure, rounds
from benchmarks.overhead.variants import (
    BARE,
    BASELINE,
    HANDWRITTEN,
    TORCHTEL,
    VARIANTS,
    Stack,
    UnavailableError,
    Variant,
)

RECORDED = "recorded"
UNSAMPLED = "unsampled"
NO_SDK = "no SDK"
MODES = (RECORDED, UNSAMPLED, NO_SDK)

SUBMODULES = 200
# Calls in a block. Small: short of what fills a queue, long enough for the finisher to come in
# between. Deep: tens of milliseconds, a launch-bound model at its full rate.
_CALLS = {"small": 250, "deep": 100}
_WARM_UP_CALLS = 25
_ROUNDS = (5, 150)  # CPython 3.13 stops caching attributes of a class after 1,000 changes to it
_FULL_RATE_CHECK = 128


class Row(NamedTuple):
    """What one variant adds in one mode; all but the name is None where it does not run.

    Args:
        variant: its name.
        unavailable: why it does not run, or None.
        small: what it adds to a call of the small model.
        deep: what it adds to a call of the model with submodules.
        caller_ratio: time on the caller's thread for the small model, as a multiple of the bare
            span's.
        processor_ratio: processor time for the small model, as a multiple of the hand-written
            variant's.
        attributes: attributes of a span, or None where none is recorded.
    """

    variant: str
    unavailable: str | None = None
    small: Cost | None = None
    deep: Cost | None = None
    caller_ratio: float | None = None
    processor_ratio: float | None = None
    attributes: int | None = None

    @property
    def submodule_ns(self) -> float | None:
        """What it adds to the call of each submodule."""
        return None if self.deep is None else self.deep.inner_ns / SUBMODULES


class FullRate(NamedTuple):
    """One caller without a pause.

    Args:
        variant: its name.
        calls_per_s: how many the caller made.
        recorded_per_s: how many became spans.
        first_drop_s: when the first one was not recorded, or None where all were.
    """

    variant: str
    calls_per_s: float
    recorded_per_s: float
    first_drop_s: float | None


class ModeResult(NamedTuple):
    """What was measured in one mode."""

    mode: str
    rounds: int
    rows: list[Row]
    full_rate: list[FullRate]


class CountingExporter(SpanExporter):
    """Counts the spans and keeps the last one."""

    def __init__(self) -> None:
        self.count = 0
        self.last: ReadableSpan | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take them."""
        self.count += len(spans)
        self.last = spans[-1]
        return SpanExportResult.SUCCESS


class QuietReader(InMemoryMetricReader):
    """Collects when asked by `get_metrics_data` only.

    A collection is due once a minute, not at the end of each block of 10 ms.
    """

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002
        """Nothing is under way."""
        return True


class LostError(Exception):
    """A block recorded less than it should have, so that its figures are no good."""


def set_providers(mode: str) -> tuple[CountingExporter, QuietReader]:
    """Set the global providers of a mode, as a program does once when it starts."""
    exporter, reader = CountingExporter(), QuietReader()
    if mode != NO_SDK:
        sampler = DEFAULT_ON if mode == RECORDED else ALWAYS_OFF
        provider = TracerProvider(sampler=sampler)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider([reader]))
    return exporter, reader


def run(mode: str, seconds: float, full_rate_seconds: float) -> ModeResult:
    """Measure one mode. To be called once in a process.

    Raises:
        LostError: an inference was not recorded.
    """
    torch.set_num_threads(1)
    exporter, _ = set_providers(mode)
    with torch.inference_mode():
        return _Mode(mode, exporter).run(seconds, full_rate_seconds)


class _Mode:
    def __init__(self, mode: str, exporter: CountingExporter) -> None:
        self._mode = mode
        self._exporter = exporter
        self._input = torch.zeros(2, 4)
        self._unavailable: dict[str, str] = {}
        self._attributes: dict[str, int] = {}
        self._variants: dict[tuple[str, str], Variant] = {}
        for workload, submodules in (("small", 0), ("deep", SUBMODULES)):
            model = Stack(submodules).eval()
            for name, kind in VARIANTS.items():
                try:
                    # torchtel leaves an attribute on the model that it was given.
                    own = Stack(submodules).eval() if name == TORCHTEL else model
                    self._variants[workload, name] = kind(own)
                except UnavailableError as error:
                    self._unavailable[name] = str(error)

    def run(self, seconds: float, full_rate_seconds: float) -> ModeResult:
        blocks: dict[str, dict[str, list[Block]]] = {workload: {} for workload in _CALLS}
        least, most = _ROUNDS
        for order in rounds(self._variants, seconds, at_least=least, at_most=most):
            for workload, name in order:
                if name not in self._unavailable:
                    block = self._block(workload, name)
                    if block is not None:
                        blocks[workload].setdefault(name, []).append(block)
        done = len(blocks["small"][BASELINE])
        small, deep = (
            Comparison(
                {name: of for name, of in blocks[workload].items() if len(of) == done}, BASELINE
            )
            for workload in ("small", "deep")
        )
        rows = [self._row(name, small, deep) for name in VARIANTS]
        full_rate = []
        if self._mode == RECORDED:
            full_rate = [
                self._full_rate(name, full_rate_seconds)
                for name, kind in VARIANTS.items()
                if kind.spans and name not in self._unavailable
            ]
        return ModeResult(self._mode, done, rows, full_rate)

    def _block(self, workload: str, name: str) -> Block | None:
        variant = self._variants[workload, name]
        try:
            variant.context.run(variant.switch_on)
        except UnavailableError as error:
            self._unavailable[name] = str(error)
            return None
        try:
            return variant.context.run(self._measure, variant, name, _CALLS[workload])
        finally:
            variant.context.run(variant.switch_off)

    def _measure(self, variant: Variant, name: str, count: int) -> Block:
        for _ in range(_WARM_UP_CALLS):
            variant.call(self._input)
        variant.drain()
        before = self._exporter.count
        block = measure(variant.call, self._input, count, variant.drain, variant.model.inner_ns)
        expected = count * variant.spans if self._mode == RECORDED else 0
        recorded = self._exporter.count - before
        if recorded != expected or variant.dropped:
            raise LostError(
                f"{name} recorded {recorded} of {expected} inferences of a block, dropped "
                f"{variant.dropped} so far: what is dropped is cheap and would flatter it; "
                "run again on a machine with less load"
            )
        if expected and self._exporter.last is not None:
            self._attributes[name] = len(self._exporter.last.attributes or ())
        return block

    def _row(self, name: str, small: Comparison, deep: Comparison) -> Row:
        if name in self._unavailable:
            return Row(name, self._unavailable[name])
        return Row(
            name,
            small=small.cost(name),
            deep=deep.cost(name),
            caller_ratio=small.caller_ratio(name, BARE),
            processor_ratio=small.processor_ratio(name, HANDWRITTEN),
            attributes=self._attributes.get(name),
        )

    def _full_rate(self, name: str, seconds: float) -> FullRate:
        variant = self._variants["small", name]
        variant.context.run(variant.switch_on)
        try:
            return variant.context.run(self._run_full_rate, variant, name, seconds)
        finally:
            variant.context.run(variant.switch_off)

    def _run_full_rate(self, variant: Variant, name: str, seconds: float) -> FullRate:
        call, argument = variant.call, self._input
        variant.drain()
        inner_ns = variant.model.inner_ns
        spans, dropped, calls = self._exporter.count, variant.dropped, 0
        first_drop_s: float | None = None
        began = time.monotonic()
        while (elapsed_s := time.monotonic() - began) < seconds:
            for _ in range(_FULL_RATE_CHECK):
                call(argument)
            calls += _FULL_RATE_CHECK
            inner_ns.clear()
            if first_drop_s is None and variant.dropped > dropped:
                first_drop_s = elapsed_s
        variant.drain()
        recorded = self._exporter.count - spans
        return FullRate(name, calls / elapsed_s, recorded / elapsed_s, first_drop_s)
