"""An endpoint with DCGM exporter's series, for GPUs that this machine lacks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Name, type, help and the value of each GPU; as dcgm-exporter 4 writes them.
SERIES = [
    ("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz).", (1500, 1500)),
    ("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C).", (41, 63)),
    ("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", (310, 520)),
    ("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", (26, 74)),
    ("DCGM_FI_DEV_FB_FREE", "gauge", "Framebuffer memory free (in MiB).", (70656, 4096)),
    ("DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB).", (11264, 77824)),
]


def page(uuids: list[str]) -> str:
    """What it serves."""
    lines = []
    for name, kind, words, values in SERIES:
        lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
        for index, (uuid, value) in enumerate(zip(uuids, values, strict=True)):
            lines.append(
                f'{name}{{gpu="{index}",UUID="{uuid}",device="nvidia{index}",'
                f'modelName="NVIDIA H100 80GB HBM3",Hostname="node-1"}} {value}'
            )
    return "\n".join(lines) + "\n"


@contextmanager
def dcgm_exporter(uuids: list[str]) -> Iterator[str]:
    """Serves the GPUs with these UUIDs; its address."""
    text = page(uuids).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
