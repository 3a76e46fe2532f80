"""What an application feels of faults behind it: the time of its inferences, and what it lost.

One application under `opentelemetry-instrument` sends to an agent and a gateway from the shipped
files, TLS and token included. The faults take turns, in a new order each round. An inference's time
is its caller's. What in production stands on other machines (the gateway, the stores, the other
applications of the flood) runs at the lowest priority, so that it is not their processor time that
is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles
from types import SimpleNamespace
from typing import Any, NamedTuple

import binaries
from collectors import Collector, scraped
from demo_service import BIN, ROOT
from processes import certificate, eventually, free_ports, running
from rich import box
from rich.console import Console
from rich.table import Table
from sender import Sender
from stores import Jaeger, Prometheus, Tempo

from benchmarks.backends import TESTS
from benchmarks.environment import describe_environment

RATE = 100  # inferences a second, each one span
FLOOD = 100  # times that
BATCH = 500  # traces of two spans in a batch of the flood
WARM_S = 1.0
#: Twice, to see what chance does; ratios are to both together.
HEALTHY = ("healthy", "healthy, once more")
GENTLY = ["nice", "-n", "19"]
#: Spans and inferences that the application counted as lost, and spans that a collector did.
LOST_BEFORE = ("warpspan_dropped_total", "warpspan_export_dropped_total")
LOST_BEHIND = ("otelcol_exporter_send_failed_spans", "otelcol_exporter_enqueue_failed_spans")


class Turn(NamedTuple):
    """What one turn of a condition gave."""

    seconds: list[float]
    made: int
    lost_before: float
    lost_behind: float


class Application:
    """The application, and what it counts itself."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        (port,) = free_ports(1)
        self._metrics = f"127.0.0.1:{port}"
        program = TESTS / "programs" / "steady_inferences.py"
        self._log = (folder / "application.log").open("wb")
        self._process = subprocess.Popen(
            [BIN / "opentelemetry-instrument", sys.executable, program, str(RATE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("OTEL_")},
                "PYTHONPATH": str(ROOT / "src"),
                "OTEL_SERVICE_NAME": "steady",
                "OTEL_TRACES_EXPORTER": "warpspan_otlp",
                "OTEL_METRICS_EXPORTER": "warpspan_otlp,prometheus",
                "OTEL_LOGS_EXPORTER": "none",
                "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                # Several exports in each turn, and what is not delivered by its end is lost: each
                # turn tells its own losses.
                "OTEL_BSP_SCHEDULE_DELAY": "500",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
                "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
                "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
            },
        )
        self._answer()

    def _answer(self) -> list[float]:
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"bench-backends: the application ended:\n{Path(self._log.name).read_text()}")
        return json.loads(line)

    def _order(self, *words: object) -> list[float]:
        print(*words, file=self._process.stdin, flush=True)
        return self._answer()

    def infer(self, seconds: float) -> list[float]:
        """The seconds of each inference."""
        return self._order("infer", seconds)

    def flush(self) -> None:
        """Wait until all spans are delivered or given up."""
        self._order("flush")

    def lost(self) -> float:
        """The spans and inferences that it counted as lost."""
        # A flush leaves the Prometheus exporter an older page, which it serves before the newest.
        newest = {
            (name, *sorted(labels.items())): value
            for name, labels, value in scraped(self._metrics)
            if name in LOST_BEFORE and labels.get("warpspan_signal", "traces") == "traces"
        }
        return sum(newest.values())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()


@contextlib.contextmanager
def world(folder: Path) -> Iterator[SimpleNamespace]:
    """Everything, started and connected."""
    programs = binaries.paths()
    pem, key = certificate(folder)
    token, agents_token = folder / "token", folder / "agents-token"
    for file in (token, agents_token):
        file.write_text("s3cret", encoding="utf-8")
    with running() as start:

        def gently(name: str, command: list[str], *arguments: Any, **options: Any) -> Any:
            return start(name, [*GENTLY, *command], *arguments, **options)

        jaeger = Jaeger(gently, programs["jaeger"], folder)
        tempo = Tempo(gently, programs["tempo"], folder)
        prometheus = Prometheus(gently, programs["prometheus"], folder)
        gateway = Collector(
            gently,
            programs["otelcol"],
            folder,
            "gateway",
            secure=True,
            environment={
                "WARPSPAN_JAEGER": jaeger.otlp,
                "WARPSPAN_TEMPO": tempo.otlp,
                "WARPSPAN_PROMETHEUS": prometheus.url,
                "WARPSPAN_GATEWAY_TOKEN_FILE": str(token),
                "WARPSPAN_GATEWAY_CERT_FILE": str(pem),
                "WARPSPAN_GATEWAY_KEY_FILE": str(key),
            },
        )
        agent = Collector(
            start,
            programs["otelcol"],
            folder,
            "agent",
            secure=True,
            environment={
                "WARPSPAN_GATEWAYS": f"[{gateway.grpc}]",
                "WARPSPAN_GATEWAY_TOKEN_FILE": str(agents_token),
                "WARPSPAN_GATEWAY_CA_FILE": str(pem),
            },
        )
        application = Application(folder, agent.otlp)
        try:
            yield SimpleNamespace(
                agent=agent,
                gateway=gateway,
                stores=(jaeger, tempo),
                token=agents_token,
                application=application,
                flooded=[],
            )
        finally:
            application.close()


@contextlib.contextmanager
def killed(collector: Collector) -> Iterator[None]:
    """While it is dead."""
    collector.process.kill()
    yield
    collector.process.start()


@contextlib.contextmanager
def frozen(*programs: Collector | Jaeger | Tempo) -> Iterator[None]:
    """While they take connections and answer nothing."""
    for one in programs:
        one.process.freeze()
    yield
    for one in programs:
        one.process.thaw()


@contextlib.contextmanager
def wrong_token(file: Path) -> Iterator[None]:
    """While the agent shows a token that the gateway does not know."""
    right = file.read_text(encoding="utf-8")
    file.write_text("guess", encoding="utf-8")
    yield
    file.write_text(right, encoding="utf-8")


@contextlib.contextmanager
def flood(agent: Collector, rates: list[float]) -> Iterator[None]:
    """While others send the agent FLOOD times the usual rate, or as much as they manage."""
    command = [*GENTLY, sys.executable, "-m", "benchmarks.backends", "--flood", agent.grpc]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        yield
        rates.append(float(process.communicate()[0]))


def send_flood(endpoint: str) -> None:
    """Send until standard input ends; then tell the spans a second that were accepted."""
    import select
    import time

    sender = Sender(endpoint, "flood")
    sender.send(1)
    print(flush=True)
    begin, accepted = time.perf_counter(), 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        accepted += 2 * BATCH * sender.send(BATCH)
        sender.accepted.clear()
        sender.refused.clear()
        due = begin + accepted / (RATE * FLOOD)
        time.sleep(max(0.0, due - time.perf_counter()))
    print(accepted / (time.perf_counter() - begin))
    sender.close()


CONDITIONS: dict[str, Callable[[SimpleNamespace], contextlib.AbstractContextManager[None]]] = {
    **dict.fromkeys(HEALTHY, lambda _: contextlib.nullcontext()),
    "agent killed": lambda all_: killed(all_.agent),
    "agent frozen": lambda all_: frozen(all_.agent),
    "gateway killed": lambda all_: killed(all_.gateway),
    "stores frozen": lambda all_: frozen(*all_.stores),
    "wrong token": lambda all_: wrong_token(all_.token),
    f"{FLOOD} × the spans": lambda all_: flood(all_.agent, all_.flooded),
}


def lost_behind(all_: SimpleNamespace) -> float:
    """Spans that a collector took and lost. What an agent refuses its client counts."""
    return all_.agent.total(LOST_BEHIND[0]) + sum(map(all_.gateway.total, LOST_BEHIND))


def turn(all_: SimpleNamespace, condition: str, seconds: float) -> Turn:
    """One turn of a condition, and afterwards all is well again."""
    application = all_.application
    before, behind = application.lost(), lost_behind(all_)
    with CONDITIONS[condition](all_):
        warm = application.infer(WARM_S)
        took = application.infer(seconds)
        application.flush()
        lost = application.lost() - before
    accepted = all_.gateway.total("otelcol_receiver_accepted_spans")

    def arrives() -> bool:
        application.infer(0.2)
        application.flush()
        return all_.gateway.total("otelcol_receiver_accepted_spans") > accepted

    def nothing_waits() -> bool:
        done = sum(map(all_.agent.total, ("otelcol_exporter_sent_spans", LOST_BEHIND[0])))
        return all_.agent.total("otelcol_receiver_accepted_spans") <= done

    if not (eventually(arrives) and eventually(nothing_waits)):
        sys.exit(f"bench-backends: nothing arrives after the condition {condition!r}")
    # A collector that was killed counts from 0 again.
    return Turn(took, len(warm) + len(took), lost, max(0.0, lost_behind(all_) - behind))


def render(turns: dict[str, list[Turn]], sent: list[float], *, markdown: bool) -> None:
    """Print the figures."""
    console = Console(width=200) if markdown or not sys.stdout.isatty() else Console()
    described = ", ".join(f"{name} {value}" for name, value in describe_environment().items())
    console.print(f"{described}\n", highlight=False, soft_wrap=True)
    table = Table(box=box.MARKDOWN if markdown else box.SIMPLE_HEAD)
    table.add_column("condition", no_wrap=True)
    for name in ("inferences", "p50 µs", "ratio", "p99 µs", "ratio", "lost before", "lost behind"):
        table.add_column(name, justify="right", no_wrap=True)
    p50, p99 = percentiles([one for name in HEALTHY for one in turns[name]])
    for name, of_it in turns.items():
        own_p50, own_p99 = percentiles(of_it)
        made = sum(one.made for one in of_it)
        table.add_row(
            name,
            f"{sum(len(one.seconds) for one in of_it):,}",
            *(f"{own_p50 * 1e6:,.0f}", f"{own_p50 / p50:.2f}"),
            *(f"{own_p99 * 1e6:,.0f}", f"{own_p99 / p99:.2f}"),
            f"{sum(one.lost_before for one in of_it):,.0f} of {made:,}",
            f"{sum(one.lost_behind for one in of_it):,.0f}",
        )
    console.print(table)
    console.print(f"\nThe flood: {', '.join(f'{rate:,.0f}' for rate in sent)} spans/s accepted.")


def percentiles(turns: list[Turn]) -> tuple[float, float]:
    """The median and the 99th percentile of a condition's inferences."""
    cuts = quantiles([second for one in turns for second in one.seconds], n=100)
    return cuts[49], cuts[98]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.backends", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn")
    parser.add_argument("--markdown", action="store_true", help="for a document")
    parser.add_argument("--flood", metavar="ENDPOINT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flood:
        send_flood(options.flood)
        return
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    turns: dict[str, list[Turn]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, world(Path(folder)) as all_:
        turn(all_, "healthy", WARM_S)  # the first one starts the export helper
        for number in range(options.rounds):
            for condition in random.sample([*CONDITIONS], len(CONDITIONS)):
                print(f"round {number + 1} of {options.rounds}: {condition}", file=sys.stderr)
                turns[condition].append(turn(all_, condition, options.seconds))
        sent = all_.flooded
    render({name: turns[name] for name in CONDITIONS}, sent, markdown=options.markdown)
