"""Sends inferences whose every number is known, as warpspan emits them, by OTLP.

Spans go once. Metrics count all of it twice, with an export between: a rate needs a before and an
after, and ratios of rates are then exact.

Arguments: the agent's OTLP/gRPC address, service.name.
"""

from __future__ import annotations

import sys
import time

from known_records import (
    CACHES_BYTES,
    GIB,
    GPU,
    LEAK_SCORE,
    LIMIT,
    LLAMA,
    all_of_them,
)
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, Status, StatusCode

from warpspan.emit.emitter import Emitter
from warpspan.records import CacheState, DeviceSample, DeviceState, DeviceUsage, Quantities


class Switch(Sampler):
    """Records spans only while it is on."""

    on = False

    def should_sample(self, *arguments, **more):
        return (ALWAYS_ON if self.on else ALWAYS_OFF).should_sample(*arguments, **more)

    def get_description(self):
        return "switch"


class Finisher:
    """One that loses three inferences in the second round."""

    waiting = 0

    def __init__(self):
        self.dropped = {"queue_full": 0}

    def longest_slice_s(self):
        return 0.0005


def observed(amount):
    """Both GPUs as the driver shows them, after `amount` rounds of an hour each."""

    def usage_now():
        for device, busy, used in ((GPU[0], 0.25, 11 * GIB), (GPU[1], 0.75, 76 * GIB)):
            seconds = 3600.0 * amount[0]
            yield DeviceUsage(
                device,
                "NVIDIA H100 80GB HBM3",
                DeviceSample(
                    0,
                    device.id,
                    energy_j=1e6 * amount[0],
                    power_w=200.0 + 400.0 * busy,
                    temperature_c=50.0,
                    sm_clock_hz=1.5e9,
                    utilization=busy,
                    memory_used_bytes=used,
                    memory_total_bytes=LIMIT,
                    corrected_errors=0,
                    uncorrected_errors=0,
                ),
                used=Quantities(busy * seconds, 8e5 * amount[0], 1e12 * amount[0], None),
                idle=Quantities((1 - busy) * seconds, 2e5 * amount[0], 0.0, None),
                samples=5 * amount[0],
                cost_s=0.001 * amount[0],
            )

    return usage_now


def states():
    for device, used in ((GPU[0], 11 * GIB), (GPU[1], 40 * GIB)):
        yield DeviceState(device, 0, used, used + 4 * GIB)


def caches():
    """Those of the three conversations, after their last turns."""
    yield CacheState(LLAMA.name, GPU[1], CACHES_BYTES, 3, LEAK_SCORE)


def main():
    endpoint, service = sys.argv[1:]
    resource = Resource.create({"service.name": service, "service.instance.id": f"{service}-1"})
    switch, amount, finisher = Switch(), [1], Finisher()
    tracer_provider = TracerProvider(sampler=switch, resource=resource)
    tracer_provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint, insecure=True))
    )
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint, insecure=True), export_interval_millis=3_600_000
    )
    meter_provider = MeterProvider([reader], resource=resource)
    telemetry = Emitter("0", tracer_provider, meter_provider)
    telemetry.observe(states, finisher, observed(amount), caches, dict, hardware=True)
    requests = tracer_provider.get_tracer("opentelemetry.instrumentation.fastapi")
    start_ns = time.time_ns() - 60_000_000_000
    for switch.on in (False, True):
        at_ns = start_ns
        for route, conversation, record in all_of_them():
            record = record._replace(start_ns=at_ns + 500_000)
            request = requests.start_span(
                f"POST {route}",
                kind=SpanKind.SERVER,
                attributes={"http.route": route, "gen_ai.conversation.id": conversation},
                start_time=at_ns,
            )
            with trace.use_span(request):
                opened = telemetry.start(
                    f"{record.operation} {record.model.name}",
                    record.start_attributes(),
                    record.start_ns,
                )
                telemetry.leave(opened)
                telemetry.record_metrics(opened, record)
                telemetry.end_span(opened, record)
            if record.error_type:
                request.set_status(Status(StatusCode.ERROR))
            at_ns = record.end_ns + 500_000
            request.end(at_ns)
        assert meter_provider.force_flush()
        amount[0], finisher.dropped = 2, {"queue_full": 3}
        time.sleep(1.1)  # two points of a series need two times
    tracer_provider.shutdown()
    meter_provider.shutdown()


if __name__ == "__main__":
    main()
