"""The alerts about telemetry itself, asked while something is really wrong."""

from __future__ import annotations

import pytest
import yaml
from processes import eventually
from sender import Sender
from stores import CONFIG, Prometheus

#: Nothing is wrong where there is only one sample yet, hence rates of a few seconds.
SHORT = "10s"


@pytest.fixture
def watched(programs, start, tmp_path):
    """Starts a Prometheus that scrapes these collectors, and tells which alerts' conditions hold.

    How long a condition must hold is a matter of promtool's tests.
    """

    def watch(**collectors):
        targets = [
            (one.metrics_address, {"tier": tier.rstrip("_")}) for tier, one in collectors.items()
        ]
        prometheus = Prometheus(
            start, programs["prometheus"], tmp_path, {"otelcol": targets}, interval="1s"
        )
        text = (CONFIG / "rules/alerts.yaml").read_text(encoding="utf-8")
        rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]

        def holding():
            return {
                rule["alert"]
                for rule in rules
                if rule["alert"].startswith(("Collector", "Telemetry"))
                and prometheus.query(rule["expr"].replace("[5m]", f"[{SHORT}]"))
            }

        return holding

    return watch


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
    holding = watched(agent=agent, gateway=gateway)
    client = Sender(agent.grpc, "sender")
    assert client.send(20)
    eventually(lambda: gateway.total("otelcol_receiver_accepted_spans"), lambda n: n == 40)
    assert set() == eventually(holding, within_s=5)
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
    holding = watched(agent=agent)
    client = Sender(agent.grpc, "sender")
    expected = {"CollectorQueueFilling", "CollectorRefusesTelemetry"}
    assert expected == eventually(sending_until(holding, client), lambda alerts: alerts == expected)
    client.close()


def test_a_collector_that_is_gone(collector, watched):
    """Prometheus scrapes in vain."""
    gateway = collector("gateway")
    holding = watched(gateway=gateway)
    gateway.process.kill()
    expected = {"CollectorDown"}
    assert expected == eventually(holding, lambda alerts: alerts == expected)
