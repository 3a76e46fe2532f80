"""Runs the example service under `warpspan run`, drives it, and shows what came out.

Everything is local and real: MiniLM with its weights, texts in natural language, uvicorn and
FastAPI as they are, and OpenTelemetry's own instrumentation for them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from warpspan.signals import names

ROOT = Path(__file__).resolve().parent.parent
SERVICE = ROOT / "examples" / "service"
BIN = Path(sys.executable).parent
STOP_S = 60  # what a service gets to finish its requests and write its telemetry


def free_port() -> int:
    """A port on loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def service(port: int, file: Path, app: str) -> list[str]:
    """The service's command line under `warpspan run`."""
    return [
        *(str(BIN / "warpspan"), "run", "-o", str(file), "--"),
        *(
            str(BIN / "uvicorn"),
            "--app-dir",
            str(SERVICE),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ),
        *("--log-level", "warning", app),
    ]


def environment() -> dict[str, str]:
    """A quiet model loader; no spans for health checks.

    Another instrumentor of transformers, which tests run beside ours, is not part of the demo.
    PATH is the user's own, so that the commands that `warpspan run` prints work in their shell.
    """
    return {
        **os.environ,
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "transformers",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "OTEL_SERVICE_NAME": "message-desk",
        "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "healthz",
    }


def drive(server: subprocess.Popen[bytes], port: int, requests: int) -> None:
    """Run the client; leave if the server ends before it."""
    address = f"http://127.0.0.1:{port}"
    client = subprocess.Popen(
        [sys.executable, str(SERVICE / "client.py"), address, "--requests", str(requests)]
    )
    try:
        while client.poll() is None:
            try:
                code = server.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            sys.exit(f"demo: the service ended early with exit code {code}; its words stand above.")
        if client.returncode:
            sys.exit("demo: the client failed; its words stand above.")
    finally:
        client.kill()
        client.wait()


def spans(file: Path) -> Iterator[dict[str, Any]]:
    """Every span of an OTLP JSON lines file."""
    for line in file.read_text(encoding="utf-8").splitlines():
        for resource in json.loads(line).get("resourceSpans", []):
            for scope in resource["scopeSpans"]:
                yield from scope["spans"]


def attribute(span: dict[str, Any], key: str) -> Any:
    """The value of an attribute, or None."""
    for pair in span["attributes"]:
        if pair["key"] == key:
            return next(iter(pair["value"].values()))
    return None


def milliseconds(span: dict[str, Any]) -> str:
    """How long a span took."""
    return f"{(int(span['endTimeUnixNano']) - int(span['startTimeUnixNano'])) / 1e6:8.1f} ms"


def show_one_request(file: Path) -> None:
    """Print one web request with its inference, as a tracing backend shows it."""
    by_id = {span["spanId"]: span for span in spans(file)}
    children = [
        (by_id[span["parentSpanId"]], span)
        for span in by_id.values()
        if attribute(span, names.PYTORCH_OPERATION_NAME) and span.get("parentSpanId") in by_id
    ]
    if not children:
        sys.exit(f"demo: no inference in {file} is the child of a web request's span.")
    request, inference = children[len(children) // 2]
    batch = attribute(inference, names.PYTORCH_INPUT_BATCH_SIZE)
    tokens = attribute(inference, names.PYTORCH_INPUT_SEQUENCE_LENGTH)
    print(
        f"\n{len(children)} inferences are children of web requests' spans. One of them:\n"
        f"  {request['name']:<24}{milliseconds(request)}   trace {request['traceId']}\n"
        f"  └─ {inference['name']:<21}{milliseconds(inference)}   "
        f"batch {batch}, {tokens} tokens long\n"
        "\nNext: your own service, the same way, and its spans to Jaeger, Tempo or any vendor: "
        "README.md\n"
        "      a plain script, torch.compile, inferences that you name: examples/"
    )


def main() -> None:
    """Start, drive, stop, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--output", type=Path, default=ROOT / "warpspan-demo.jsonl")
    parser.add_argument("--app", default="app:app", help="the service, as uvicorn takes it")
    options = parser.parse_args()
    # In a shell's background it is ignored, and the service would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    port = free_port()
    print(f"demo: starting the service on 127.0.0.1:{port}; it loads the model first", flush=True)
    command = service(port, options.output, options.app)
    server = subprocess.Popen(command, env=environment(), cwd=ROOT)
    try:
        drive(server, port, options.requests)
        server.send_signal(signal.SIGINT)  # as Ctrl-C does: the service leaves in good order
        server.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        sys.exit(f"demo: the service did not stop within {STOP_S} s.")
    finally:
        if server.poll() is None:
            server.terminate()
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()
    show_one_request(options.output)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
