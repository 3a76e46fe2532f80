"""Providers that come late or never, and several instrumentations on one meter."""

from __future__ import annotations

import gc
import weakref

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from tests.support.records import inference
from warpspan.emit.emitter import Emitter
from warpspan.records import Device, DeviceState, Timing

RECORD = inference(
    start_ns=1_000,
    duration_s=0.5,
    timing=Timing(idle_time_s=0.25),
)
IDLE, ACTIVE, DURATION = (
    "pytorch.inference.idle.time",
    "pytorch.inference.active",
    "pytorch.inference.duration",
)


class Finisher:
    waiting = 0

    def __init__(self):
        self.dropped = {}

    def longest_slice_s(self):
        return None


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def instrument():
    """Makes emitters that show so many open inferences; none is left observing."""
    made = []

    def run(meters, opened=0):
        emitter = Emitter("1", TracerProvider(), meters)
        made.append(emitter)
        states = [DeviceState(Device("cpu"), opened, None, None)]
        emitter.observe(lambda: states, Finisher(), list, list, dict, hardware=True)
        return emitter

    yield run
    for emitter in made:
        emitter.close()


def emit(emitter):
    opened = emitter.start("forward", RECORD.start_attributes(), RECORD.start_ns)
    emitter.leave(opened)
    emitter.record_metrics(opened, RECORD)
    emitter.end_span(opened, RECORD)


def values(reader):
    """Value, or count, of each metric's only point."""
    data = reader.get_metrics_data()
    found = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics if data is not None else ():
        (point,) = metric.data.data_points
        found[metric.name] = point.count if hasattr(point, "count") else point.value
    return {name: found[name] for name in (IDLE, ACTIVE, DURATION) if name in found}


def test_a_provider_that_is_set_late(reader, instrument):
    """What is observed before it is there from the begin, what is recorded from then on."""
    proxy = _ProxyMeterProvider()
    emitter = instrument(proxy, opened=3)
    emit(emitter)
    proxy.on_set_meter_provider(MeterProvider([reader]))
    emit(emitter)
    assert {IDLE: 0.5, ACTIVE: 3, DURATION: 1} == values(reader)


def test_the_next_instrumentation_before_a_provider_is_set(reader, instrument):
    """The callback that the SDK keeps is the first one's, and asks the present one."""
    proxy = _ProxyMeterProvider()
    instrument(proxy, opened=1).close()
    emitter = instrument(proxy, opened=2)
    proxy.on_set_meter_provider(MeterProvider([reader]))
    emit(emitter)
    assert {IDLE: 0.25, ACTIVE: 2, DURATION: 1} == values(reader)


def test_the_next_instrumentation_of_a_meter(reader, instrument):
    """Sums go on, gauges are the present one's, and after the last one nothing is observed."""
    meters = MeterProvider([reader])
    for count in (1, 2, 3):
        emitter = instrument(meters, opened=count)
        emit(emitter)
        assert {IDLE: 0.25 * count, ACTIVE: count, DURATION: count} == values(reader)
        emitter.close()
        assert {DURATION: count} == values(reader)


def test_one_in_flight_is_recorded_after_close(reader, instrument):
    """Its histograms at once, its sums in the next instrumentation."""
    meters = MeterProvider([reader])
    emitter = instrument(meters)
    emitter.close()
    emit(emitter)
    assert {DURATION: 1} == values(reader)
    instrument(meters)
    assert {IDLE: 0.25, ACTIVE: 0, DURATION: 1} == values(reader)


def test_closing_an_earlier_one_late(reader, instrument):
    """The present one goes on being observed."""
    meters = MeterProvider([reader])
    earlier = instrument(meters, opened=1)
    instrument(meters, opened=2)
    earlier.close()
    assert {ACTIVE: 2} == values(reader)


def test_another_meter_has_sums_of_its_own(reader, instrument):
    """Two providers, one after the other: neither shows what the other has."""
    first = MeterProvider([reader])
    emit(instrument(first, opened=1))
    other = InMemoryMetricReader()
    emit(instrument(MeterProvider([other]), opened=2))
    assert {DURATION: 1} == values(reader)
    assert {IDLE: 0.25, ACTIVE: 2, DURATION: 1} == values(other)


def test_without_metrics(instrument):
    """A provider that does nothing costs no span."""
    emitter = instrument(NoOpMeterProvider())
    emit(emitter)
    assert emitter.flush(1.0)


def test_a_closed_emitter_is_not_held(reader):
    """The SDK keeps callbacks as long as a meter lives; what they asked is free."""
    states = {Device("cpu")}  # a set, for the weak reference
    emitter = Emitter("1", TracerProvider(), MeterProvider([reader]))
    held = weakref.ref(states)
    emitter.observe(states.copy, Finisher(), list, list, dict, hardware=True)
    emitter.close()
    del states, emitter
    gc.collect()
    assert None is held()
