"""The backends as the tests start and ask them: each by its shipped file and its own API."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from processes import Process, answers, free_ports, get

CONFIG = Path(__file__).resolve().parents[2] / "collector-config"
Start = Callable[..., Process]

_KINDS = {
    name: number
    for number, name in enumerate(
        ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
    )
}
_STATUS = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}


class Span(NamedTuple):
    """A span as any store gives it back. Attributes keep their types; a list is a tuple."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]


def _hex(value: str | None, length: int) -> str:
    """An id in hexadecimal, which some write in base64."""
    if not value:
        return ""
    return value.lower() if len(value) == length else base64.b64decode(value).hex()


def _value(value: Mapping[str, Any]) -> Any:
    """The value behind OTLP JSON's."""
    ((kind, content),) = value.items()
    if kind == "intValue":
        return int(content)
    if kind == "doubleValue":
        return float(content)
    if kind == "arrayValue":
        return tuple(_value(one) for one in content.get("values", ()))
    return content


def _attributes(owner: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {pair["key"]: _value(pair["value"]) for pair in owner.get("attributes", ())}


def spans(document: Mapping[str, Any]) -> list[Span]:
    """Every span of an OTLP JSON document, or of one in a store's dialect of it."""
    found = []
    for resource in document.get("resourceSpans") or document.get("batches") or ():
        whose = _attributes(resource.get("resource", {}))
        for scope in resource.get("scopeSpans", ()):
            for span in scope["spans"]:
                kind = span.get("kind", 0)
                status = span.get("status", {}).get("code", 0)
                found.append(
                    Span(
                        trace_id=_hex(span["traceId"], 32),
                        span_id=_hex(span["spanId"], 16),
                        parent_id=_hex(span.get("parentSpanId"), 16),
                        name=span["name"],
                        kind=_KINDS[kind.removeprefix("SPAN_KIND_")]
                        if isinstance(kind, str)
                        else kind,
                        start_ns=int(span["startTimeUnixNano"]),
                        end_ns=int(span["endTimeUnixNano"]),
                        status=_STATUS[status] if isinstance(status, str) else status,
                        attributes=_attributes(span),
                        resource=whose,
                    )
                )
    return found


class Jaeger:
    """Jaeger 2 with its storage in a folder."""

    def __init__(self, start: Start, program: Path, folder: Path) -> None:
        grpc, http, ui, query, health, metrics = free_ports(6)
        self.otlp, self.otlp_http = f"127.0.0.1:{grpc}", f"http://127.0.0.1:{http}"
        self.url = f"http://127.0.0.1:{ui}"
        self.process = start(
            "jaeger",
            [program, "--config", CONFIG / "jaeger.yaml"],
            folder,
            {
                "WARPSPAN_JAEGER_GRPC": self.otlp,
                "WARPSPAN_JAEGER_HTTP": f"127.0.0.1:{http}",
                "WARPSPAN_JAEGER_UI": f"127.0.0.1:{ui}",
                "WARPSPAN_JAEGER_QUERY_GRPC": f"127.0.0.1:{query}",
                "WARPSPAN_JAEGER_HEALTH": f"127.0.0.1:{health}",
                "WARPSPAN_JAEGER_METRICS_PORT": str(metrics),
                "WARPSPAN_JAEGER_DATA": str(folder / "jaeger"),
            },
            lambda: answers(f"{self.url}/api/services"),
        )

    def services(self) -> list[str]:
        """The services it knows."""
        return sorted(get(f"{self.url}/api/services")["data"] or ())

    def find(self, service: str, **parameters: Any) -> list[Span]:
        """The spans of the traces that its search finds."""
        traces = get(f"{self.url}/api/traces", service=service, **{"limit": 10000, **parameters})[
            "data"
        ]
        return [span for trace in traces for span in self.trace(trace["traceID"])]

    def search(self, service: str, **parameters: Any) -> list[str]:
        """The ids of the traces that its search finds."""
        parameters = {"limit": 10000, **parameters}
        found = get(f"{self.url}/api/traces", service=service, **parameters)["data"]
        return sorted(trace["traceID"] for trace in found)

    def trace(self, trace_id: str) -> list[Span]:
        """All spans of a trace."""
        return spans(get(f"{self.url}/api/v3/traces/{trace_id}")["result"])

    @staticmethod
    def as_stored(attributes: Mapping[str, Any]) -> dict[str, Any]:
        """These attributes as it gives them back: its model has no lists, they become JSON."""
        return {
            key: json.dumps(value, separators=(",", ":")) if isinstance(value, tuple) else value
            for key, value in attributes.items()
        }


class Tempo:
    """Tempo with its storage in a folder."""

    def __init__(self, start: Start, program: Path, folder: Path) -> None:
        grpc, http, api, internal, members = free_ports(5)
        self.otlp, self.otlp_http = f"127.0.0.1:{grpc}", f"http://127.0.0.1:{http}"
        self.url = f"http://127.0.0.1:{api}"
        self.process = start(
            "tempo",
            [program, "-config.expand-env=true", f"-config.file={CONFIG / 'tempo.yaml'}"],
            folder,
            {
                "WARPSPAN_TEMPO_GRPC": self.otlp,
                "WARPSPAN_TEMPO_HTTP": f"127.0.0.1:{http}",
                "WARPSPAN_TEMPO_HTTP_PORT": str(api),
                "WARPSPAN_TEMPO_INTERNAL_PORT": str(internal),
                "WARPSPAN_TEMPO_MEMBERLIST_PORT": str(members),
                "WARPSPAN_TEMPO_DATA": str(folder / "tempo"),
                "WARPSPAN_TEMPO_TRACE_IDLE": "1s",
                "WARPSPAN_TEMPO_FLUSH_CHECK": "1s",
                "WARPSPAN_TEMPO_RECENT_BLOCK": "2s",
            },
            lambda: answers(f"{self.url}/ready"),
        )

    def search(self, traceql: str, limit: int = 10000) -> list[str]:
        """The ids of the traces that match."""
        return sorted(trace["traceID"].rjust(32, "0") for trace in self.matches(traceql, limit))

    def matches(self, traceql: str, limit: int = 10000, spans_each: int = 100) -> list[Any]:
        """The traces that match, as its search gives them."""
        now = int(time.time())
        parameters = {"q": traceql, "limit": limit, "spss": spans_each}
        answer = get(f"{self.url}/api/search", **parameters, start=now - 7200, end=now + 60)
        return answer.get("traces", [])

    def metrics(self, traceql: str) -> dict[tuple[str, ...], float]:
        """The one value of each series of a TraceQL metrics query over the last hour."""
        now = int(time.time())
        answer = get(f"{self.url}/api/metrics/query", q=traceql, start=now - 3600, end=now)
        return {
            tuple(str(next(iter(label["value"].values()))) for label in series["labels"]): (
                series.get("value", 0.0)  # which is left out where it is 0
            )
            for series in answer.get("series", ())
        }

    def trace(self, trace_id: str) -> list[Span]:
        """All spans of a trace."""
        return spans(get(f"{self.url}/api/v2/traces/{trace_id}")["trace"])

    @staticmethod
    def as_stored(attributes: Mapping[str, Any]) -> dict[str, Any]:
        """These attributes as it gives them back."""
        return dict(attributes)


class Prometheus:
    """Prometheus 3 with the shipped file, its rules and what to scrape.

    Args:
        start: starts a process.
        program: Prometheus.
        folder: for its log and its data.
        targets: addresses and labels by job.
        interval: between scrapes and between evaluations, where not the shipped one.
        hurried: minutes in the rules are seconds, so that alerts come and go within a test.
    """

    def __init__(
        self,
        start: Start,
        program: Path,
        folder: Path,
        targets: Mapping[str, Iterable[tuple[str, Mapping[str, str]]]] | None = None,
        interval: str | None = None,
        *,
        hurried: bool = False,
    ) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.config = folder / "prometheus"
        self.config.mkdir()
        for name in ("prometheus.yaml", "rules", "targets"):
            source = CONFIG / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, self.config / name)
        for job in ("otelcol", "pytorch"):
            self.scrape(job, (targets or {}).get(job, ()))
        if interval is not None:
            file = self.config / "prometheus.yaml"
            text = file.read_text(encoding="utf-8")
            text = text.replace("scrape_interval: 15s", f"scrape_interval: {interval}")
            text = text.replace("evaluation_interval: 15s", f"evaluation_interval: {interval}")
            file.write_text(text, encoding="utf-8")
        if hurried:
            for file in (self.config / "rules").glob("*.yaml"):
                text = file.read_text(encoding="utf-8")
                file.write_text(re.sub(r"\b(\d+)m\b", r"\1s", text), encoding="utf-8")
        self.process = start(
            "prometheus",
            [
                program,
                f"--config.file={self.config / 'prometheus.yaml'}",
                "--web.enable-otlp-receiver",
                "--enable-feature=exemplar-storage",
                f"--web.listen-address=127.0.0.1:{port}",
                f"--storage.tsdb.path={folder / 'prometheus-data'}",
            ],
            folder,
            is_ready=lambda: answers(f"{self.url}/-/ready"),
        )

    def scrape(self, job: str, targets: Iterable[tuple[str, Mapping[str, str]]]) -> None:
        """Have a job scrape these addresses, each with its labels."""
        lines = [
            f"- targets: [{address}]\n  labels: {{{', '.join(f'{k}: {v}' for k, v in more.items())}}}\n"
            for address, more in targets
        ]
        file = self.config / "targets" / f"{job}.yaml"
        file.write_text("".join(lines) or "- targets: []\n", encoding="utf-8")

    def query(self, promql: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The value of each series now, by its labels but for the name."""
        found = get(f"{self.url}/api/v1/query", query=promql)["data"]
        if found["resultType"] == "scalar":
            return {(): float(found["result"][1])}
        return {
            tuple(sorted((k, v) for k, v in one["metric"].items() if k != "__name__")): float(
                one["value"][1]
            )
            for one in found["result"]
        }

    def value(self, promql: str) -> float | None:
        """The value of the one series that a query gives, or None."""
        found = self.query(promql)
        assert len(found) <= 1, found
        return next(iter(found.values()), None)

    def metadata(self) -> dict[str, Any]:
        """Type, unit and help of each metric that is scraped."""
        return {name: one[0] for name, one in get(f"{self.url}/api/v1/metadata")["data"].items()}

    def names(self, match: str = '{__name__!=""}') -> set[str]:
        """The names of all series that a selector matches."""
        return set(get(f"{self.url}/api/v1/label/__name__/values", **{"match[]": match})["data"])

    def exemplars(self, promql: str) -> list[dict[str, str]]:
        """The labels of the exemplars of a query's series in the last hour."""
        now = time.time()
        found = get(
            f"{self.url}/api/v1/query_exemplars", query=promql, start=now - 3600, end=now + 60
        )["data"]
        return [one["labels"] for series in found for one in series["exemplars"]]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with its health."""
        groups = get(f"{self.url}/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = get(f"{self.url}/api/v1/alerts")["data"]["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}
