"""A backend that dies, hangs and comes back, always on the same port."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

_START_S = 60.0


class Backend:
    """Takes OTLP over HTTP in a process of its own.

    Args:
        seed: of the faults.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._process: Any = None
        self._frozen = False
        self.port = self._start(0)

    @property
    def endpoint(self) -> str:
        """Where spans are sent."""
        return f"http://127.0.0.1:{self.port}"

    def disturb(self) -> str:
        """Kill it, freeze it, or let it work again; says which."""
        if self._process is None:
            self._start(self.port)
            return "started"
        if self._frozen:
            os.kill(self._process.pid, signal.SIGCONT)
            self._frozen = False
            return "thawed"
        if self._random.random() < 0.5:
            self.stop()
            return "killed"
        os.kill(self._process.pid, signal.SIGSTOP)
        self._frozen = True
        return "frozen"

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process, self._frozen = None, False

    def _start(self, port: int) -> int:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, port), daemon=True)
        self._process.start()
        there.close()
        if not here.poll(_START_S):
            raise RuntimeError("the backend of the soak did not start")
        return int(here.recv())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _serve(parent: Connection, port: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    parent.send(server.server_port)
    server.serve_forever()
