"""The collector in its shipped roles."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from processes import answers, free_ports
from stores import CONFIG, Start

#: What makes a test short; the defaults are for production.
QUICK = {
    "WARPSPAN_BATCH_TIMEOUT": "100ms",
    "WARPSPAN_RETRY_MAX_INTERVAL": "1s",
    "WARPSPAN_SPAN_METRICS_INTERVAL": "1s",
    "WARPSPAN_DECISION_WAIT": "1s",
    "WARPSPAN_DCGM_INTERVAL": "1s",
    "WARPSPAN_DCGM_TIMEOUT": "1s",
    # Flushing each write is for machines that lose power, which no test here does.
    "WARPSPAN_AGENT_QUEUE_FSYNC": "false",
    "WARPSPAN_GATEWAY_QUEUE_FSYNC": "false",
}


def scraped(address: str) -> list[tuple[str, dict[str, str], float]]:
    """What is served there for Prometheus: name, labels and value of each series."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
        text = page.read().decode()
    found = []
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if match and not line.startswith("#"):
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
            found.append((match[1], labels, float(match[3])))
    return found


class Collector:
    """A collector that runs one of the shipped files.

    Args:
        start: starts a process.
        program: the collector.
        folder: for its log and its queue.
        role: `agent`, `gateway` or `all-in-one`.
        name: of this one; by default the role.
        secure: whether to add the file with TLS and the token.
        environment: what differs from the defaults of the shipped file.
        launcher: a command that starts the collector's.
    """

    def __init__(
        self,
        start: Start,
        program: Path,
        folder: Path,
        role: str,
        *,
        name: str | None = None,
        secure: bool = False,
        environment: Mapping[str, str] | None = None,
        launcher: Sequence[str] = (),
    ) -> None:
        grpc, http, health, metrics = free_ports(4)
        name = name or role
        prefix = "WARPSPAN_GATEWAY" if role == "gateway" else "WARPSPAN_AGENT"
        self.grpc = f"127.0.0.1:{grpc}"
        self.otlp, self.otlp_http = f"http://{self.grpc}", f"http://127.0.0.1:{http}"
        self.metrics_address = f"127.0.0.1:{metrics}"
        self.queue = folder / f"{name}-queue"
        files = [CONFIG / f"{role}.yaml"]
        if secure:
            files.append(CONFIG / f"{role}-secure.yaml")
        self.process = start(
            name,
            [*launcher, program, *(part for file in files for part in ("--config", file))],
            folder,
            {
                **QUICK,
                f"{prefix}_GRPC": self.grpc,
                f"{prefix}_HTTP": f"127.0.0.1:{http}",
                f"{prefix}_HEALTH": f"127.0.0.1:{health}",
                f"{prefix}_METRICS_PORT": str(metrics),
                f"{prefix}_QUEUE_DIR": str(self.queue),
                # Nothing listens there.
                "WARPSPAN_DCGM": "127.0.0.1:9",
                **(environment or {}),
            },
            lambda: answers(f"http://127.0.0.1:{health}"),
        )

    def metrics(self) -> list[tuple[str, dict[str, str], float]]:
        """Its own metrics: name, labels and value of each."""
        return scraped(self.metrics_address)

    def total(self, name: str, **labels: Any) -> float:
        """The sum of a metric over the series with these labels, 0 where there is none."""
        return sum(
            value
            for metric, has, value in self.metrics()
            if metric == name and labels.items() <= has.items()
        )
