"""Sends inferences whose every number is known, as warpspan emits them, by OTLP.

Spans go once. Metrics count all of it twice, with an export between: a rate needs a before and an
after, and ratios of rates are then exact.

Arguments: the agent's OTLP/gRPC address, service.name.
"""

from __future__ import annotations

import sys
import time

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

from warpspan.emit.telemetry import Telemetry
from warpspan.records import (
    Cache,
    CacheState,
    Device,
    DeviceSample,
    DeviceState,
    DeviceUsage,
    Inference,
    Input,
    Memory,
    Model,
    Quantities,
    Site,
    SyncKind,
    Syncs,
    Timing,
    Transfer,
    Transfers,
    Usage,
)

MIB, GIB = 1 << 20, 1 << 30
LIMIT = 80 * GIB
GPU = [Device("cuda", n, f"GPU-00000000-0000-0000-0000-00000000000{n + 1}") for n in (0, 1)]
BERT = Model("BertModel", 22_713_216, 90_852_864, "float32", None, False, 1)
LLAMA = Model("LlamaForCausalLM", 8_030_261_248, 16_060_522_496, "bfloat16", None, False, 1)


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


def usage(gpu_time_s):
    """At 1.5 GHz, 132 multiprocessors half in use, 400 W."""
    return Usage(
        gpu_time_s=gpu_time_s,
        sm_cycles_active=gpu_time_s * 1.5e9 * 132 * 0.5,
        sm_cycles_elapsed=gpu_time_s * 1.5e9,
        sm_clock_hz=1.5e9,
        sm_utilization=0.5,
        sm_source="gpm",
        sm_scope="device",
        energy_j=gpu_time_s * 400.0,
        power_w=400.0,
        energy_source="nvml.energy",
        estimated=False,
    )


def memory(peak, *, start=10 * GIB, requested=None):
    return Memory(
        allocated_start_bytes=start,
        allocated_end_bytes=start,
        peak_bytes=peak,
        peak_increase_bytes=peak - start,
        reserved_bytes=max(peak, 20 * GIB),
        limit_bytes=LIMIT,
        utilization=peak / LIMIT,
        allocation_retries=0 if requested is None else 1,
        oom_requested_bytes=requested,
    )


def transfers(nbytes, device_time_s, *, pageable):
    time_s = nbytes / 20e9
    return Transfers(
        h2d=Transfer(2, nbytes, nbytes if pageable else 0, 0, time_s, 20e9, time_s / device_time_s)
    )


def embeddings():
    """Twenty of BertModel on the first GPU; the eighth copies 200 MiB and takes 1.2 s."""
    for number in range(20):
        batch = (1, 2, 4, 8)[number % 4]
        heavy = number == 7
        device_time = 0.002 * batch
        yield (
            "/embed",
            f"reader-{number % 2}",
            Inference(
                "forward",
                0,
                1.2 if heavy else device_time + 0.004,
                GPU[0],
                BERT,
                Input(batch, 32, (batch, 32)),
                Timing(
                    cpu_time_s=0.003,
                    device_time_s=device_time,
                    queue_time_s=0.06 if number >= 18 else 0.0001,
                    idle_time_s=0.010,
                    concurrency=1 + number // 10,
                    gc_time_s=0.025 if number == 3 else 0.0,
                    gc_count=1 if number == 3 else 0,
                ),
                memory(11 * GIB),
                usage=usage(device_time),
                syncs=Syncs(
                    1,
                    0.002,
                    "cpu",
                    0.002,
                    Site("app.py", 49, "embed"),
                    kinds=(SyncKind("cpu", 1, 0.002),),
                ),
                transfers=transfers(
                    200 * MIB if heavy else batch * MIB, device_time, pageable=heavy
                ),
            ),
        )


def answers():
    """Three conversations with LlamaForCausalLM on the second GPU, four turns each.

    The caches of the third one grow twice as fast, and its last turn fills the memory to 95 %.
    """
    for conversation in (1, 2, 3):
        for turn in (1, 2, 3, 4):
            increase = (2 if conversation == 3 else 1) * 100 * MIB
            last = (conversation, turn) == (3, 4)
            yield (
                "/chat",
                f"conversation-{conversation}",
                Inference(
                    "generate",
                    0,
                    2.0 + 0.1 * turn,
                    GPU[1],
                    LLAMA,
                    Input(1, 128 * turn, (1, 128 * turn)),
                    Timing(device_time_s=1.5, queue_time_s=0.0002, idle_time_s=0.5, concurrency=1),
                    memory(76 * GIB if last else 40 * GIB, start=30 * GIB),
                    usage=usage(1.5),
                    syncs=Syncs(
                        128,
                        0.4,
                        "item",
                        0.01,
                        Site("generation.py", 210, "sample"),
                        "item",
                        Site("generation.py", 210, "sample"),
                        (SyncKind("item", 128, 0.4),),
                    ),
                    cache=Cache(
                        "dynamic",
                        size=increase * turn,
                        increase=increase,
                        tokens=256 * turn,
                        token_increase=256,
                    ),
                ),
            )


def failures():
    """One that ran out of memory, and one that a user's error left."""
    yield (
        "/chat",
        "conversation-4",
        Inference(
            "generate",
            0,
            0.3,
            GPU[1],
            LLAMA,
            Input(8, 4096, (8, 4096)),
            Timing(device_time_s=0.2, queue_time_s=0.0002, idle_time_s=0.5, concurrency=1),
            memory(75 * GIB, start=30 * GIB, requested=8 * GIB),
            usage=usage(0.2),
            error_type="torch.OutOfMemoryError",
        ),
    )
    yield (
        "/embed",
        "reader-0",
        Inference(
            "forward",
            0,
            0.001,
            GPU[0],
            BERT,
            Input(1, 32, (1, 32)),
            Timing(device_time_s=0.0005, queue_time_s=0.0001, idle_time_s=0.01, concurrency=1),
            error_type="builtins.ValueError",
        ),
    )


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
    yield CacheState(LLAMA.name, GPU[1], 1600 * MIB, 3, 0.2)


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
    telemetry = Telemetry("0", tracer_provider, meter_provider)
    telemetry.observe(states, finisher, observed(amount), caches, hardware=True)
    requests = tracer_provider.get_tracer("opentelemetry.instrumentation.fastapi")
    start_ns = time.time_ns() - 60_000_000_000
    for switch.on in (False, True):
        at_ns = start_ns
        for route, conversation, record in [*embeddings(), *answers(), *failures()]:
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
                telemetry.finish(opened, record)
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
