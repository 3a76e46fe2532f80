"""The example service under `opentelemetry-instrument`, and what it really recorded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from processes import answers, free_ports
from stores import Span, Start, spans

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "examples" / "service"
BIN = Path(sys.executable).parent


def written(file: Path) -> list[Span]:
    """Every span in a file of the exporter `warpspan_file`."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [span for line in lines for span in spans(json.loads(line))]


class Service:
    """The example service, uvicorn and FastAPI as they are, no line of it changed.

    Beside the exporter of the topology it writes its spans to a file: what must arrive.

    Args:
        start: starts a process.
        folder: for its log and its file.
        name: service.name.
        environment: where it exports to.
    """

    def __init__(
        self, start: Start, folder: Path, name: str, environment: Mapping[str, str]
    ) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.file = folder / f"{name}.jsonl"
        self.process = start(
            name,
            [
                *(BIN / "opentelemetry-instrument", BIN / "uvicorn"),
                *("--app-dir", SERVICE, "--host", "127.0.0.1", "--port", str(port)),
                *("--log-level", "warning", "app:app"),
            ],
            folder,
            {
                "PYTHONPATH": os.pathsep.join(
                    [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
                ),
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": "1",
                "OTEL_SERVICE_NAME": name,
                "OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={name}-1",
                "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "healthz",
                "OTEL_TRACES_EXPORTER": "otlp,warpspan_file",
                "OTEL_METRICS_EXPORTER": "otlp",
                "OTEL_LOGS_EXPORTER": "none",
                "OTEL_METRIC_EXPORT_INTERVAL": "1000",
                "OTEL_BSP_SCHEDULE_DELAY": "500",
                "OTEL_PYTHON_WARPSPAN_FILE": str(self.file),
                **environment,
            },
            lambda: answers(f"{self.url}/healthz"),
        )

    def serve(self, requests: int = 40) -> None:
        """Answer that many requests of the example's client, all of them well."""
        done = subprocess.run(
            [sys.executable, SERVICE / "client.py", self.url, "--requests", str(requests)],
            capture_output=True,
            text=True,
            timeout=300,
            env={k: v for k, v in os.environ.items() if not k.startswith("OTEL_")},
        )
        assert 0 == done.returncode, done.stdout + done.stderr

    def spans(self) -> list[Span]:
        """Every span in its file by now."""
        return written(self.file) if self.file.exists() else []

    def end(self) -> list[Span]:
        """Stop as Ctrl-C does; every span that it recorded."""
        assert 0 == self.process.stop(signal.SIGINT), self.process.words()
        return self.spans()
