"""Real models on a scripted GPU, instrumented and exported as in a service.

The machine, its GPU and the GPU's driver have one clock, on which nothing takes time but kernels,
copies and pauses; hence every number is exact.

Arguments: the agent's OTLP/gRPC address, service.name, UUID of the GPU. FAKE_NVML_SCRIPT and
LD_LIBRARY_PATH name the driver.
"""

from __future__ import annotations

import ctypes
import sys
import time
from unittest import mock

import torch
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, use_span

import warpspan
from warpspan.device import sampler
from warpspan.instrumentor import active_session
from warpspan.testing import ScriptedClock, ScriptedDevice

MIB = 1 << 20
PAUSE_S = 0.75


class DriversClock(ScriptedClock):
    """Moves the driver's time with its own."""

    def __init__(self):
        super().__init__(wall_ns=time.time_ns() - 60_000_000_000)
        self._driver = ctypes.CDLL("libnvidia-ml.so.1")
        self._driver.fake_nvml_set_time.argtypes = [ctypes.c_int64]

    def advance(self, seconds):
        super().advance(seconds)
        self._driver.fake_nvml_set_time(self.now_ns())

    def advance_to(self, now_ns):
        passed_ns = super().advance_to(now_ns)
        self._driver.fake_nvml_set_time(self.now_ns())
        return passed_ns


class PatientSampler(sampler.Sampler):
    """Samples only when somebody waits for a sample, which is when the clock stands still."""

    def __init__(self, _, environ):
        super().__init__(3600, environ)


class Scorer(torch.nn.Module):
    """Three kernels, and its scores copied back."""

    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(256, 512)
        self.down = torch.nn.Linear(512, 256)

    def forward(self, texts):
        return self.down(torch.relu(self.up(texts))).cpu()


class Ranker(torch.nn.Linear):
    """One kernel, whose result stays on the GPU."""


def request(tracer, clock, route, model, texts):
    """Answer one as a web framework's instrumentation would show it."""
    span = tracer.start_span(
        f"POST {route}",
        kind=SpanKind.SERVER,
        attributes={"http.route": route},
        start_time=clock.wall_ns(),
    )
    with use_span(span), torch.no_grad():
        model(texts.to("cuda"))
        torch.cuda.synchronize()
    span.end(clock.wall_ns())
    clock.advance(PAUSE_S)
    # warpspan.flush() would export the metrics, too, and the series get points at different times.
    assert active_session().finisher.flush(60)


def main():
    endpoint, service, uuid = sys.argv[1:]
    torch.set_num_threads(1)
    resource = Resource.create({"service.name": service, "service.instance.id": f"{service}-1"})
    tracer_provider = TracerProvider(resource=resource)
    tracer_provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint, insecure=True))
    )
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint, insecure=True), export_interval_millis=3_600_000
    )
    meter_provider = MeterProvider([reader], resource=resource)
    tracer = tracer_provider.get_tracer("opentelemetry.instrumentation.fastapi")
    clock = DriversClock()
    with (
        ScriptedDevice(uuids=[uuid], clock=clock, total_memory=80 << 30) as device,
        mock.patch.object(sampler, "Sampler", PatientSampler),
    ):
        device.op_time_s = 0.25
        device.h2d_pageable_bytes_per_s = device.d2h_pageable_bytes_per_s = 4 * MIB
        warpspan.WarpspanInstrumentor().instrument(
            tracer_provider=tracer_provider, meter_provider=meter_provider
        )
        scorer, ranker = Scorer().to("cuda"), Ranker(256, 256).to("cuda")
        texts = torch.ones(1024, 256)
        # The first one has neither a sample nor an inference before it.
        request(tracer, clock, "/warm-up", torch.nn.Linear(256, 256).to("cuda"), texts)
        for _ in range(2):
            request(tracer, clock, "/score", scorer, texts)
            request(tracer, clock, "/rank", ranker, texts)
            assert meter_provider.force_flush()
            time.sleep(1.1)  # two points of a series need two times
        tracer_provider.shutdown()
        meter_provider.shutdown()
        warpspan.WarpspanInstrumentor().uninstrument()


if __name__ == "__main__":
    main()
