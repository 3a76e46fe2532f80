"""The stores with the inferences of programs/known_inferences.py in them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from collectors import Collector
from dcgm import dcgm_exporter
from processes import eventually
from stores import Jaeger, Prometheus, Tempo

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).resolve().parent / "programs" / "known_inferences.py"
SERVICE = "message-desk"
GPUS = [f"GPU-00000000-0000-0000-0000-00000000000{number}" for number in (1, 2)]
#: What the program sends: requests and their inferences, and the inferences in metrics.
TRACES, INFERENCES = 36, 72


def send(endpoint: str, environment: dict[str, str]) -> None:
    """Run the program, which sends everything and ends."""
    command = [sys.executable, str(PROGRAM), endpoint, SERVICE]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={**environment, "PYTHONPATH": str(ROOT / "src")},
    )
    assert 0 == done.returncode, done.stdout + done.stderr


@contextmanager
def one_machine(start, programs, folder):
    """Every backend behind all-in-one.yaml, DCGM's series of two GPUs included."""
    with dcgm_exporter(GPUS) as dcgm:
        jaeger = Jaeger(start, programs["jaeger"], folder)
        tempo = Tempo(start, programs["tempo"], folder)
        prometheus = Prometheus(start, programs["prometheus"], folder, interval="1s")
        collector = Collector(
            start,
            programs["otelcol"],
            folder,
            "all-in-one",
            environment={
                "WARPSPAN_JAEGER": jaeger.otlp,
                "WARPSPAN_TEMPO": tempo.otlp,
                "WARPSPAN_PROMETHEUS": prometheus.url,
                "WARPSPAN_DCGM": dcgm,
            },
        )
        prometheus.scrape("otelcol", [(collector.metrics_address, {"tier": "agent"})])
        yield SimpleNamespace(
            jaeger=jaeger, tempo=tempo, prometheus=prometheus, collector=collector
        )


def filled(start, programs, folder, environment):
    """Start everything, send, and wait until all of it is there.

    Yields a namespace of the stores.
    """
    with one_machine(start, programs, folder) as stores:
        jaeger, tempo, prometheus = stores.jaeger, stores.tempo, stores.prometheus
        send(stores.collector.grpc, environment)
        eventually(lambda: jaeger.search(SERVICE), lambda found: len(found) == TRACES)
        eventually(
            lambda: tempo.search('{ span.pytorch.operation.name != "" }'),
            lambda found: len(found) == TRACES,
        )
        eventually(
            lambda: prometheus.value("sum(pytorch_inference_duration_seconds_count)"),
            lambda value: value == INFERENCES,
        )
        eventually(
            lambda: tempo.metrics("{ span.pytorch.operation.name != nil } | count_over_time()"),
            lambda found: list(found.values()) == [TRACES],
        )
        # Rules that rest on others follow one evaluation later.
        eventually(lambda: prometheus.query("hw_id_model:power_watts:share5m"))
        yield stores
