"""An instrumented program on a scripted GPU, with DCGM's series of the same GPU beside its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from known import GPUS, one_machine
from processes import eventually

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).resolve().parent / "programs" / "scripted_gpu.py"
SERVICE, GPU = "score-desk", GPUS[0]
MIB = 1 << 20
# The driver tells what dcgm.py serves of this GPU. A quarter of the multiprocessors had work over
# all the time, of which inferences had a part.
DRIVER = f"""\
clock manual
epoch 0
device 0 uuid={GPU} memory={80 << 30}
at 0 0 power=310 clock=1500 temperature=41 reasons=4 utilization=26 used={11264 * MIB} sm=0.25
"""
REQUESTS = 5


@pytest.fixture(scope="module")
def stores(programs, start_for_module, tmp_path_factory, fake_library):
    """The stores with all that the program sent."""
    folder = tmp_path_factory.mktemp("scripted")
    script = folder / "nvml.txt"
    script.write_text(DRIVER, encoding="utf-8")
    with one_machine(start_for_module, programs, folder) as stores:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), stores.collector.grpc, SERVICE, GPU],
            capture_output=True,
            text=True,
            timeout=300,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("OTEL_")},
                "PYTHONPATH": os.pathsep.join(
                    [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
                ),
                "FAKE_NVML_SCRIPT": str(script),
                "LD_LIBRARY_PATH": str(fake_library.parent),
                "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "warpspan",
                # As Kubernetes tells of DCGM's service, so that `hw.*` is left to it.
                "NVIDIA_DCGM_EXPORTER_SERVICE_HOST": "dcgm",
            },
        )
        assert 0 == done.returncode, done.stdout + done.stderr
        yield stores


def line_of(text):
    """The number of the one line of the program that has this text."""
    lines = PROGRAM.read_text(encoding="utf-8").splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if text in line)
    return number


def rounded(value):
    """A number without what rounding left of it."""
    return float(f"{value:.9g}") if isinstance(value, float) else value


#: Two matrices of 256 × 512 with their biases, by 4 bytes.
WEIGHTS = 4 * (2 * 256 * 512 + 512 + 256)
#: Those, the ranker's and 1,024 texts by 256 numbers.
BEFORE = WEIGHTS + 4 * (256 * 256 + 256) + MIB
# Each kernel takes 0.25 s, and so does 1 MiB over the bus. The result is copied inside the
# inference, which therefore waits for three kernels and the copy. A request and the pause after it
# are 2 s, from one sample of the driver to the next.
SCORED = {
    "pytorch.operation.name": "forward",
    "pytorch.model.name": "Scorer",
    "pytorch.device.type": "cuda",
    "pytorch.device.index": 0,
    "hw.id": GPU,
    "pytorch.model.parameter.count": WEIGHTS // 4,
    "pytorch.model.parameter.size": WEIGHTS,
    "pytorch.model.dtype": "float32",
    "pytorch.model.compiled": False,
    "pytorch.model.device.count": 1,
    "pytorch.input.batch.size": 1024,
    "pytorch.input.shape": (1024, 256),
    "pytorch.device.time": 1.0,
    "pytorch.device.queue.time": 0.0,
    "pytorch.device.idle.time": 1.0,  # the pause, and the copy before
    "pytorch.inference.concurrency": 1,
    "pytorch.memory.allocated.start": BEFORE,
    "pytorch.memory.allocated.end": BEFORE,
    "pytorch.memory.peak.size": BEFORE + 4 * MIB,  # what relu takes and what it gives
    "pytorch.memory.peak.increase": 4 * MIB,
    "pytorch.memory.reserved": (2 * 2 + 20) * MIB,  # two segments for what is small, and one
    "pytorch.memory.limit": 80 << 30,
    "pytorch.memory.utilization": rounded((BEFORE + 4 * MIB) / (80 << 30)),
    "pytorch.memory.allocation.retries": 0,
    "pytorch.gpu.time": 1.0,
    "pytorch.gpu.utilization": 0.26,
    "pytorch.gpu.temperature": 41,
    "pytorch.gpu.throttle.reasons": ("sw_power_cap",),
    "pytorch.gpu.estimated": True,  # it is shorter than the time between two samples
    "pytorch.sm.source": "gpm",
    "pytorch.sm.scope": "device",
    "pytorch.sm.utilization": 0.25 * 2,
    "pytorch.sm.occupancy": 0.0,
    "pytorch.tensor_core.utilization": 0.0,
    "pytorch.dram.utilization": 0.0,
    "pytorch.sm.clock": 1.5e9,
    "pytorch.sm.cycles.elapsed": 1.5e9,
    "pytorch.sm.cycles.active": 1.5e9 * 132 / 2,
    "pytorch.energy.source": "nvml.energy",
    "pytorch.energy.used": 310.0,
    "pytorch.energy.power": 310.0,
    "pytorch.sync.count": 3,
    "pytorch.sync.time": 1.25,
    "pytorch.sync.kinds": ("cpu", "synchronize", "to"),
    "pytorch.sync.counts": (1, 1, 1),
    "pytorch.sync.times": (
        1,
        0,
        0.25,
    ),  # whole numbers as JSON has them, which Jaeger makes of lists
    "pytorch.sync.place.kinds": ("cpu", "to"),
    "pytorch.sync.place.counts": (1, 1),
    "pytorch.sync.place.times": (1, 0.25),
    "pytorch.sync.place.code.file.paths": (str(PROGRAM), str(PROGRAM)),
    "pytorch.sync.place.code.line.numbers": (line_of(".cpu()"), line_of('texts.to("cuda")')),
    "pytorch.sync.longest.kind": "cpu",
    "pytorch.sync.longest.time": 1.0,
    "pytorch.sync.longest.code.file.path": str(PROGRAM),
    "pytorch.sync.longest.code.line.number": line_of(".cpu()"),
    **{
        f"pytorch.transfer.{way}.{part}": value
        for way in ("h2d", "d2h")
        for part, value in {
            "count": 1,
            "size": MIB,
            "pageable.size": MIB,
            "weights.size": 0,
            "time": 0.25,
            "bandwidth": 4.0 * MIB,
            "device.share": 0.25,
        }.items()
    },
}
#: What depends on the machine that the test runs on, and how Python names functions.
OWN = {
    "pytorch.host.cpu.time",
    "pytorch.host.gc.count",
    "pytorch.host.gc.time",
    "pytorch.sync.longest.code.function.name",
    "pytorch.sync.place.code.function.names",
}


SEARCH = {"jaeger": SERVICE, "tempo": f'{{ resource.service.name = "{SERVICE}" }}'}


@pytest.mark.parametrize("name", SEARCH)
def test_the_whole_span_is_as_scripted(stores, name):
    """Every attribute of both inferences of one model, below their requests, in each store."""
    store = getattr(stores, name)

    def arrived():
        return [span for trace in store.search(SEARCH[name]) for span in store.trace(trace)]

    spans = eventually(arrived, lambda spans: len(spans) == 2 * REQUESTS)
    requests = {span.span_id: span.name for span in spans}
    scored = [span for span in spans if span.name == "forward Scorer"]
    assert ["POST /score"] * 2 == [requests[span.parent_id] for span in scored]
    assert [1_000_000_000] * 2 == [span.end_ns - span.start_ns for span in scored]
    expected = store.as_stored(SCORED)
    for span in scored:
        assert OWN <= span.attributes.keys()
        found = {key: rounded(span.attributes[key]) for key in span.attributes.keys() - OWN}
        assert expected == found
        assert store.as_stored({"host.gpu.id": (GPU,)}).items() <= span.resource.items()


#: The GPU's power by DCGM is 310 W, and of its GPU-seconds the two models have 1.0 and 0.25.
JOINED = {
    "model:gpu_seconds_per_inference:measured_5m": {"Scorer": 1.0, "Ranker": 0.25},
    "model:joules_per_inference:measured_5m": {"Scorer": 310.0, "Ranker": 310.0 / 4},
    "hw_id_model:power_watts:share5m": {"Scorer": 310.0 * 4 / 5, "Ranker": 310.0 / 5},
    "hw_id:power_watts:avg5m": {GPU: 310.0},
    "hw_id:gpu_utilization:ratio5m": {GPU: 0.26},
    "hw_id:gpu_memory_utilization:ratio": {GPU: 11264 / 81920},
    "hw_id:gpu_memory_limit_bytes:max": {GPU: 80 << 30},
    "hw_id:gpu_seconds_per_inference:by_utilization_5m * hw_id:inferences:rate5m": {GPU: 0.26},
}


@pytest.mark.parametrize("rule", JOINED)
def test_dcgm_and_the_program_meet_by_uuid(stores, rule):
    """Recording rules take the device's series from DCGM, the program's from the program."""

    def ask():
        found = stores.prometheus.query(rule)
        keyed = {
            dict(labels).get("pytorch_model_name", dict(labels).get("hw_id")): value
            for labels, value in found.items()
        }
        return {key: keyed[key] for key in JOINED[rule] if key in keyed}

    expected = pytest.approx(JOINED[rule])
    found = eventually(ask, lambda found: found == expected)
    assert expected == found


def test_the_device_is_told_of_once(stores):
    """DCGM's series are there and our own of the same quantities are not."""
    names = eventually(stores.prometheus.names, lambda names: "DCGM_FI_DEV_GPU_UTIL" in names)
    assert "DCGM_FI_DEV_GPU_UTIL" in names
    assert [] == sorted(name for name in names if name.startswith("hw_") and ":" not in name)
