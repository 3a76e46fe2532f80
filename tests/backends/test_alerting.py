"""The alerts about telemetry itself, as Prometheus raises them while something is really wrong."""

from __future__ import annotations

import pytest
from demo_service import Service
from processes import eventually
from sender import Sender


def sending_until(condition, client):
    """Ask again and again, sending all the time, until the condition is as it should be."""

    def ask():
        client.send(20)
        return condition()

    return ask


def test_nothing_is_wrong(collector, watched):
    """Collectors that work raise no alert."""
    gateway = collector("gateway")
    agent = collector("agent", environment={"WARPSPAN_GATEWAYS": f"[{gateway.grpc}]"})
    prometheus = watched(agent=agent, gateway=gateway)
    client = Sender(agent.grpc, "sender")
    assert client.send(20)
    eventually(lambda: gateway.total("otelcol_receiver_accepted_spans"), lambda n: n == 40)
    scrapes = "min(count_over_time(up[1m]))"
    eventually(lambda: prometheus.value(scrapes), lambda count: (count or 0) >= 6)
    # A busy machine may miss a scrape; an alert that stays has another reason.
    assert set() == eventually(prometheus.firing, lambda names: not names, within_s=30)
    client.close()


def test_an_agent_without_gateways_fills_and_refuses(collector, watched):
    """First its queue fills, then clients are refused; nothing that it took is lost."""
    agent = collector(
        "agent",
        environment={
            "WARPSPAN_GATEWAYS": "[127.0.0.1:9]",
            "WARPSPAN_AGENT_QUEUE_BYTES": "50000",
        },
    )
    prometheus = watched(agent=agent)
    client = Sender(agent.grpc, "sender")
    expected = {"CollectorQueueFilling", "CollectorRefusesTelemetry"}
    firing = eventually(sending_until(prometheus.firing, client), lambda names: names == expected)
    assert expected == firing
    client.close()


def test_a_collector_that_is_gone(collector, watched):
    """Prometheus scrapes in vain."""
    gateway = collector("gateway")
    prometheus = watched(gateway=gateway)
    gateway.process.kill()
    expected = {"CollectorDown"}
    assert expected == eventually(prometheus.firing, lambda names: names == expected)


#: What each exporter counts of the spans that it gave up.
DROPPED = {
    "warpspan_otlp": 'sum(warpspan_export_dropped_total{warpspan_signal="traces"})',
    "otlp": 'sum(otel_sdk_exporter_span_exported_total{error_type!=""})',
}


@pytest.mark.parametrize("exporter", DROPPED)
def test_an_application_without_its_agent(collector, watched, jaeger, start, tmp_path, exporter):
    """It serves on; what it gave up is counted to the span, and alerts once the agent is back."""
    prometheus = watched()
    gateway = collector(
        "gateway",
        environment={
            "WARPSPAN_JAEGER": jaeger.otlp,
            "WARPSPAN_PROMETHEUS": prometheus.url,
            "WARPSPAN_KEEP_PERCENT": "100",
        },
    )
    agent = collector("agent", environment={"WARPSPAN_GATEWAYS": f"[{gateway.grpc}]"})
    service = Service(
        start,
        tmp_path,
        "desk",
        {
            "OTEL_TRACES_EXPORTER": f"{exporter},warpspan_file",
            "OTEL_METRICS_EXPORTER": exporter,
            "OTEL_EXPORTER_OTLP_ENDPOINT": agent.otlp,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
            "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
        },
    )

    def arrived():
        known = "desk" in jaeger.services()
        return [span.span_id for span in jaeger.find("desk")] if known else []

    service.serve(10)
    # Nothing is on its way when the agent dies: whether that arrived would be known to nobody.
    eventually(lambda: 10 == requests(service.spans()) and len(arrived()) == len(service.spans()))
    agent.process.kill()
    service.serve(10)
    eventually(lambda: "Failed to export traces" in service.process.words())
    agent.process.start()
    service.serve(10)
    firing = eventually(prometheus.firing, lambda names: "TelemetryDroppedInApplication" in names)
    assert {"TelemetryDroppedInApplication"} == firing
    made = service.end()
    assert 30 == requests(made)

    def told():
        return len(arrived()), prometheus.value(DROPPED[exporter])

    stored, dropped = eventually(told, lambda both: len(made) == both[0] + (both[1] or 0))
    assert 0 < dropped
    assert len(made) == stored + dropped
    assert len(set(arrived())) == stored


def requests(spans):
    """How many requests were answered."""
    return sum(span.name.startswith("POST /") and not span.parent_id for span in spans)
