"""Starts a server, sends it requests one after the other, and stops it with a signal."""

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

REQUESTS = 4
START_S = 120.0


def command(kind: str, port: int) -> list[str]:
    """What is run, in the folder of the scripts."""
    address = f"127.0.0.1:{port}"
    quiet = ["--log-level", "warning"]
    if kind == "uvicorn":
        return ["-m", "uvicorn", "--workers", "2", *quiet, "--port", str(port), "asgi:app"]
    if kind == "litserve":
        return ["lit.py", str(port)]
    options = {
        "sync": ["-k", "sync"],
        "threads": ["-k", "gthread", "--threads", "4"],
        "gevent": ["-k", "gevent"],
        "preload": ["--preload"],
    }[kind]
    return [
        "-m",
        "gunicorn",
        "-w",
        "2",
        *quiet,
        "--no-control-socket",
        *options,
        "-b",
        address,
        "wsgi:app",
    ]


def request(port: int, path: str, body: bytes | None) -> bytes:
    """The answer, once the server is up."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            asked = urllib.request.Request(
                f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(asked, timeout=START_S) as answer:
                return answer.read()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def main() -> None:
    kind = sys.argv[1]
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    server = subprocess.Popen([sys.executable, *command(kind, port)], cwd=Path(__file__).parent)
    try:
        path, body = ("/predict", b"{}") if kind == "litserve" else ("/", None)
        for _ in range(REQUESTS):
            print(request(port, path, body).decode())
    finally:
        # uvicorn ends its workers by the signal itself, which runs no exit handlers: what is older
        # than OTEL_BSP_SCHEDULE_DELAY (1 s) is exported.
        time.sleep(3)
        server.send_signal(signal.SIGINT if kind == "litserve" else signal.SIGTERM)
        server.wait(60)


if __name__ == "__main__":
    main()
