"""Every point that a set of whole records and states becomes: names, units, labels, exemplars."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, Histogram, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from tests.support.records import inference
from warpspan import guard, signals
from warpspan.emit.emitter import Emitter
from warpspan.records import (
    Cache,
    CacheState,
    Denoising,
    Device,
    DeviceSample,
    DeviceState,
    DeviceUsage,
    GenAi,
    Generation,
    Inference,
    Input,
    Loop,
    Memory,
    Model,
    Quantities,
    SyncKind,
    Syncs,
    Timing,
    Transfer,
    Transfers,
    Usage,
)

GPU = Device("cuda", 0, "GPU-1")
CPU = Device("cpu")
PLAIN = inference(start_ns=1_000, duration_s=0.25, model=Model("Linear"), input=Input(batch_size=4))
FULL = Inference(
    operation="generate",
    start_ns=2_000,
    duration_s=2.0,
    device=GPU,
    model=Model("Llama"),
    input=Input(batch_size=8),
    timing=Timing(device_time_s=1.5, queue_time_s=0.125, idle_time_s=0.5),
    memory=Memory(peak_bytes=1 << 30),
    usage=Usage(gpu_time_s=1.25, sm_cycles_active=3e9, sm_cycles_elapsed=4e9, energy_j=90.0),
    cache=Cache(size_bytes=4096, increase_bytes=512),
    loop=Loop(
        generation=Generation(
            input_tokens=5, generated_tokens=8, first_token_s=0.5, token_mean_s=0.25
        ),
        denoising=Denoising(step_mean_s=0.0625),
        gen_ai=GenAi(operation="text_completion", provider="pytorch", request_model="meta/llama"),
    ),
    syncs=Syncs(
        total=3, stalled_s=0.5, kinds=(SyncKind("item", 2, 0.25), SyncKind("cpu", 1, None))
    ),
    transfers=Transfers(
        h2d=Transfer(total=3, nbytes=700, pageable_bytes=600, time_s=0.125),
        d2h=Transfer(total=2, nbytes=40, pageable_bytes=0),
        d2d=Transfer(total=1, nbytes=9, pageable_bytes=0, time_s=0.5),
    ),
)
FAILED = FULL._replace(error_type="torch.OutOfMemoryError", syncs=None, transfers=None)
# On a CPU an allocation fails with a RuntimeError, and the size that was asked for is known.
CPU_FAILED = PLAIN._replace(
    error_type="RuntimeError", input=Input(), memory=Memory(oom_requested_bytes=7)
)
# Groups that have next to nothing in them, and an increase that is a decrease.
SPARSE = Inference(
    operation="chat",
    start_ns=3_000,
    duration_s=0.5,
    device=CPU,
    timing=Timing(idle_time_s=0.0),
    usage=Usage(),
    cache=Cache(increase_bytes=-512),
    loop=Loop(generation=Generation(input_tokens=3, generated_tokens=0), gen_ai=GenAi()),
    syncs=Syncs(),
    transfers=Transfers(h2d=Transfer(total=1, nbytes=5, pageable_bytes=5)),
)
RECORDS = {
    "plain": PLAIN,
    "full": FULL,
    "failed": FAILED,
    "cpu_failed": CPU_FAILED,
    "sparse": SPARSE,
}

NAMED_GPU = {"pytorch.device.type": "cuda", "pytorch.device.index": 0, "hw.id": "GPU-1"}
NAMED_CPU = {"pytorch.device.type": "cpu"}
NAMED_MIG = {"pytorch.device.type": "cuda", "pytorch.device.index": 1}
HARDWARE = {"hw.id": "MIG-1", "hw.name": "H200", "hw.vendor": "NVIDIA"}
TYPED = {**HARDWARE, "hw.type": "gpu"}
ID = {"hw.id": "GPU-1"}
OOM = {"error.type": "torch.OutOfMemoryError"}
LABELS = {
    "plain": {"pytorch.operation.name": "forward", "pytorch.model.name": "Linear", **NAMED_CPU},
    "full": {"pytorch.operation.name": "generate", "pytorch.model.name": "Llama", **NAMED_GPU},
    "sparse": {"pytorch.operation.name": "chat", **NAMED_CPU},
}
LABELS["failed"] = {**LABELS["full"], **OOM}
LABELS["cpu_failed"] = {**LABELS["plain"], "error.type": "RuntimeError"}
GEN_AI = {
    "gen_ai.operation.name": "text_completion",
    "gen_ai.provider.name": "pytorch",
    "gen_ai.request.model": "meta/llama",
}


def of(more=None, **values):
    """The points of records by their names: labels, value, whose span the exemplar is of."""
    return [({**LABELS[name], **(more or {})}, value, name) for name, value in values.items()]


def summed(more, **values):
    """Points of an observable: they have no exemplars."""
    return [(labels, value, None) for labels, value, _ in of(more, **values)]


def kind(name):
    return {"pytorch.sync.kind": name}


def way(name, memory=None):
    place = {} if memory is None else {"pytorch.transfer.memory": memory}
    return {"pytorch.transfer.direction": name, **place}


def token(name):
    return {"pytorch.token.type": name}


def activity(name):
    return {**NAMED_GPU, "pytorch.gpu.activity": name}


RECORDED = {
    "pytorch.inference.duration": of(plain=0.25, full=2.0, failed=2.0, cpu_failed=0.25, sparse=0.5),
    "pytorch.inference.device.duration": of(full=1.5, failed=1.5),
    "pytorch.inference.device.queue.duration": of(full=0.125, failed=0.125),
    "pytorch.inference.idle.time": summed(None, full=0.5, failed=0.5, sparse=0.0),
    "pytorch.inference.batch.size": of(plain=4, full=8, failed=8),
    "pytorch.inference.memory.peak": of(full=1 << 30, failed=1 << 30),
    "pytorch.inference.out_of_memory": of(failed=1, cpu_failed=1),
    "pytorch.inference.gpu.time": of(full=1.25, failed=1.25),
    "pytorch.inference.sm.cycles.active": of(full=3e9, failed=3e9),
    "pytorch.inference.sm.cycles.elapsed": of(full=4e9, failed=4e9),
    "pytorch.inference.energy": of(full=90.0, failed=90.0),
    "pytorch.inference.kv_cache.size": of(full=4096, failed=4096),
    "pytorch.inference.kv_cache.growth": of(full=512, failed=512),
    "pytorch.inference.token.first.duration": of(full=0.5, failed=0.5),
    "pytorch.inference.token.duration": of(full=0.25, failed=0.25),
    "pytorch.inference.tokens": of(token("input"), full=5, failed=5, sparse=3)
    + of(token("generated"), full=8, failed=8),
    "pytorch.inference.denoise.step.duration": of(full=0.0625, failed=0.0625),
    "gen_ai.server.request.duration": [
        (GEN_AI, 2.0, "full"),
        ({**GEN_AI, **OOM}, 2.0, "failed"),
        ({}, 0.5, "sparse"),
    ],
    "gen_ai.server.time_to_first_token": [(GEN_AI, 0.5, "full")],
    "gen_ai.server.time_per_output_token": [(GEN_AI, 0.25, "full")],
    "pytorch.inference.sync.calls": summed(kind("item"), full=2) + summed(kind("cpu"), full=1),
    "pytorch.inference.sync.time": summed(kind("item"), full=0.25),
    "pytorch.inference.transfer.copies": summed(way("h2d"), full=3, sparse=1)
    + summed(way("d2h"), full=2)
    + summed(way("d2d"), full=1),
    "pytorch.inference.transfer.time": summed(way("h2d"), full=0.125)
    + summed(way("d2d"), full=0.5),
    "pytorch.inference.transfer.io": summed(way("h2d", "pageable"), full=600, sparse=5)
    + summed(way("h2d", "pinned"), full=100)
    + summed(way("d2h", "pinned"), full=40)
    + summed(way("d2d", "device"), full=9),
}
OBSERVED = {
    "pytorch.inference.active": [(NAMED_GPU, 2, None), (NAMED_CPU, 0, None)],
    "pytorch.memory.usage": [
        ({**NAMED_GPU, "pytorch.memory.state": "allocated"}, 30, None),
        ({**NAMED_GPU, "pytorch.memory.state": "reserved"}, 40, None),
    ],
    "pytorch.kv_cache.usage": [({"pytorch.model.name": "Llama", **NAMED_GPU}, 8192, None)],
    "pytorch.kv_cache.count": [({"pytorch.model.name": "Llama", **NAMED_GPU}, 2, None)],
    "pytorch.kv_cache.leak.score": [({"pytorch.model.name": "Llama", **NAMED_GPU}, 0.75, None)],
    "pytorch.gpu.sampled.time": [
        (activity("inference"), 5.0, None),
        (activity("idle"), 7.0, None),
        ({**NAMED_MIG, "pytorch.gpu.activity": "inference"}, 1.0, None),
        ({**NAMED_MIG, "pytorch.gpu.activity": "idle"}, 0.0, None),
    ],
    "pytorch.gpu.sampled.energy": [
        (activity("inference"), 400.0, None),
        (activity("idle"), 100.0, None),
    ],
    "pytorch.gpu.sampled.cycles": [(activity("inference"), 6e9, None)],
    "warpspan.sampler.samples": [(ID, 9, None), ({"hw.id": "MIG-1"}, 4, None)],
    "warpspan.sampler.time": [(ID, 0.5, None), ({"hw.id": "MIG-1"}, 0.25, None)],
    "warpspan.dropped": [({"warpspan.drop.reason": "queue_full"}, 3, None)],
    "warpspan.skipped": [
        ({"warpspan.skip.reason": "training"}, 40, None),
        ({"warpspan.skip.reason": "fake_tensors"}, 1, None),
    ],
    "warpspan.faults": [({"warpspan.fault.origin": "memory"}, 2, None)],
    "warpspan.queue.size": [({}, 5, None)],
    "warpspan.finisher.slice.max": [({}, 0.0004, None)],
}
SAMPLED = {
    "hw.gpu.utilization": [(HARDWARE, 0.5, None)],
    "hw.gpu.memory.usage": [(HARDWARE, 25, None)],
    "hw.gpu.memory.limit": [(HARDWARE, 100, None)],
    "hw.gpu.memory.utilization": [(HARDWARE, 0.25, None)],
    "hw.power": [(TYPED, 450.0, None)],
    "hw.energy": [(TYPED, 1000.0, None)],
    "hw.temperature": [(TYPED, 61.0, None)],
    "hw.errors": [
        ({**TYPED, "error.type": "corrected"}, 1, None),
        ({**TYPED, "error.type": "uncorrected"}, 0, None),
    ],
}


class Finisher:
    waiting = 5

    def __init__(self):
        self.dropped = {"queue_full": 3}

    def longest_slice_s(self):
        return 0.0004


def devices():
    return [DeviceState(GPU, 2, 30, 40), DeviceState(CPU, 0, None, None)]


def usage():
    sample = DeviceSample(
        taken_ns=1,
        device_id="MIG-1",
        energy_j=1000.0,
        power_w=450.0,
        temperature_c=61.0,
        utilization=0.5,
        memory_used_bytes=25,
        memory_total_bytes=100,
        corrected_errors=1,
        uncorrected_errors=0,
    )
    mig = Device("cuda", 1)
    return [
        DeviceUsage(
            *(GPU, "H200", None, Quantities(5.0, 400.0, 6e9), Quantities(7.0, 100.0), 9, 0.5)
        ),
        DeviceUsage(mig, "H200", sample, Quantities(1.0), Quantities(0.0), 4, 0.25),
    ]


def caches():
    return [CacheState("Llama", GPU, 8192, 2, 0.75)]


def skipped():
    return {"training": 40, "fake_tensors": 1}


class Pipeline:
    """An emitter whose points are in memory."""

    def __init__(self, *, hardware=True):
        self.reader = InMemoryMetricReader()
        self.emitter = Emitter("1", TracerProvider(), MeterProvider([self.reader]))
        self.emitter.observe(devices, Finisher(), usage, caches, skipped, hardware=hardware)
        self.spans = {None: None}

    def emit(self, name, record, attributes=None):
        """Emit a record; its exemplars are known by that name."""
        opened = self.emitter.start(name, attributes or record.start_attributes(), record.start_ns)
        self.emitter.leave(opened)
        self.emitter.record_metrics(opened, record)
        self.emitter.end_span(opened, record)
        self.spans[opened[0].get_span_context().span_id] = name

    def metrics(self):
        """All metrics that have points."""
        data = self.reader.get_metrics_data()
        return data.resource_metrics[0].scope_metrics[0].metrics if data is not None else []

    def points(self):
        """Labels, value and the name of the exemplar's record, by metric."""
        return {
            metric.name: [
                (
                    dict(point.attributes),
                    point.sum if hasattr(point, "sum") else point.value,
                    *({self.spans[one.span_id] for one in point.exemplars} or {None}),
                )
                for point in metric.data.data_points
            ]
            for metric in self.metrics()
        }


@pytest.fixture
def make(monkeypatch):
    """Makes pipelines; none is left observing."""
    monkeypatch.setitem(guard.faults, "memory", 2)
    made = []

    def pipeline(**options):
        made.append(Pipeline(**options))
        return made[-1]

    yield pipeline
    for one in made:
        one.emitter.close()


def by_labels(points):
    """Points without the order in which they came."""
    return {name: sorted(found, key=str_of) for name, found in points.items()}


def str_of(point):
    labels, value, span = point
    return sorted(labels.items(), key=str), value, span or ""


def test_every_point(make):
    """Each value once, with the labels of its inference and an exemplar of its span."""
    pipeline = make()
    for name, record in RECORDS.items():
        pipeline.emit(name, record)
    assert by_labels(RECORDED | OBSERVED | SAMPLED) == by_labels(pipeline.points())


def test_sums_go_on(make):
    """The same inference again adds to every point, and makes none."""
    pipeline = make()
    for _ in range(2):
        for name, record in RECORDS.items():
            pipeline.emit(name, record)
    doubled = {
        name: [(labels, 2 * value, span) for labels, value, span in points]
        for name, points in RECORDED.items()
    }
    assert by_labels(doubled | OBSERVED | SAMPLED) == by_labels(pipeline.points())


def test_a_model_that_its_first_step_showed(make):
    """The span began without it; the metrics name it."""
    pipeline = make()
    pipeline.emit("late", PLAIN, {"pytorch.operation.name": "forward", **NAMED_CPU})
    assert [(LABELS["plain"], 0.25, "late")] == pipeline.points()["pytorch.inference.duration"]


def test_without_hardware_metrics(make):
    """No `hw.*`, and nothing else less."""
    assert by_labels(OBSERVED) == by_labels(make(hardware=False).points())


def test_kinds_units_and_buckets_are_the_registrys(make):
    """What the SDK made of each instrument is what registry.yaml declares."""
    pipeline = make()
    for name, record in RECORDS.items():
        pipeline.emit(name, record)

    def instrument(data):
        if isinstance(data, (Histogram, Gauge)):
            return type(data).__name__.lower()
        return "counter" if data.is_monotonic else "updowncounter"

    registry = Path(signals.__path__[0], "registry.yaml").read_text(encoding="utf-8")
    declared = {
        group["metric_name"]: (
            group["instrument"],
            group["unit"],
            group["brief"],
            tuple(map(float, group.get("annotations", {}).get("buckets", ()))),
        )
        for group in yaml.safe_load(registry)["groups"]
        if group["type"] == "metric"
    }
    made = {
        metric.name: (
            instrument(metric.data),
            metric.unit,
            metric.description,
            tuple(getattr(metric.data.data_points[0], "explicit_bounds", ())),
        )
        for metric in pipeline.metrics()
    }
    assert {name: declared[name] for name in made} == made
