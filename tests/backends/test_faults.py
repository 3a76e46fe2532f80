"""Whatever fails: what the agent accepted is in the stores, and what it did not is counted.

Once, but where an answer was lost: OTLP promises at least once.
"""

from __future__ import annotations

import contextlib
import re
import shutil

import pytest
from processes import certificate, eventually
from sender import Sender

TRACES = 50  # of two spans, in one batch


@pytest.fixture
def sender():
    """Makes senders, which end with the test."""
    with contextlib.ExitStack() as open_:

        def make(collector, service="sender"):
            made = Sender(collector.grpc, service)
            open_.callback(made.close)
            return made

        yield make


@pytest.fixture
def to_stores(jaeger, tempo):
    """What a gateway is told about them; every trace is kept, and nobody asks for metrics."""
    return {
        "WARPSPAN_JAEGER": jaeger.otlp,
        "WARPSPAN_TEMPO": tempo.otlp,
        "WARPSPAN_PROMETHEUS": "http://127.0.0.1:9",
        "WARPSPAN_KEEP_PERCENT": "100",
    }


def agent_for(collector, *gateways, **options):
    """An agent before these gateways."""
    addresses = ", ".join(gateway.grpc for gateway in gateways)
    more = options.pop("environment", {})
    return collector(
        "agent", environment={"WARPSPAN_GATEWAYS": f"[{addresses}]", **more}, **options
    )


def stored(store, trace):
    """The ids of a trace's spans, one for each time it is there; () for an unknown trace."""
    try:
        return [span.span_id for span in store.trace(trace)]
    except AssertionError:
        return []


def assert_arrived(sender, *stores, once=True):
    """Everything accepted is in each store: once, or at least once."""
    expected = {trace: sorted(spans) for trace, spans in sender.accepted.items()}
    for store in stores:

        def all_of_it(store=store):
            found = {trace: stored(store, trace) for trace in expected}
            return {trace: sorted(ids if once else set(ids)) for trace, ids in found.items()}

        assert expected == eventually(all_of_it, lambda found: found == expected)


def queued(collector):
    """The batches that wait in its queues."""
    return collector.total("otelcol_exporter_queue_size")


def test_a_gateway_is_killed_and_comes_back(collector, sender, to_stores, jaeger, tempo):
    """What is meant for it waits on the agent's disk."""
    one, two = (collector("gateway", name=name, environment=to_stores) for name in ("one", "two"))
    agent = agent_for(collector, one, two)
    client = sender(agent)
    assert client.send(TRACES)
    assert_arrived(client, tempo)  # it decided about all that it had
    one.process.kill()
    assert all(client.send(TRACES) for _ in range(3))
    one.process.start()
    assert client.send(TRACES)
    assert_arrived(client, tempo, jaeger)


def test_a_gateway_is_stopped_in_the_midst_of_it(collector, sender, to_stores, tempo):
    """It decides at once about the traces that it holds, and sends them."""
    slowly = {**to_stores, "WARPSPAN_DECISION_WAIT": "60s"}
    one, two = (collector("gateway", name=name, environment=slowly) for name in ("one", "two"))
    agent = agent_for(collector, one, two)
    client = sender(agent)
    assert client.send(TRACES)
    eventually(
        lambda: sum(each.total("otelcol_receiver_accepted_spans") for each in (one, two)),
        lambda spans: spans == 2 * TRACES,
    )
    assert {0} == {each.process.stop() for each in (one, two)}
    for each in (one, two):  # what it could not send in time is in its queue
        each.process.start()
    assert_arrived(client, tempo)


def test_tempo_is_away_for_a_while(collector, sender, to_stores, jaeger, tempo):
    """Its queue waits on the gateway's disk, Jaeger has everything meanwhile."""
    gateway = collector("gateway", environment=to_stores)
    agent = agent_for(collector, gateway)
    client = sender(agent)
    assert client.send(TRACES)
    assert_arrived(client, tempo)
    tempo.process.stop_when_it_says('msg="module stopped" module=ingester')
    assert all(client.send(TRACES) for _ in range(3))
    assert_arrived(client, jaeger)
    tempo.process.start()
    assert_arrived(client, tempo)


def test_the_agent_is_killed_with_a_full_queue(collector, sender, to_stores, jaeger, tempo):
    """It refuses what has no room, and delivers what it took when it is back."""
    gateway = collector("gateway", environment=to_stores)
    gateway.process.stop()
    agent = agent_for(collector, gateway, environment={"WARPSPAN_AGENT_QUEUE_BYTES": "50000"})
    client = sender(agent)
    eventually(lambda: not client.send(TRACES))
    assert {} != client.accepted
    assert {} != client.refused
    agent.process.kill()
    gateway.process.start()
    agent.process.start()
    assert_arrived(client, jaeger, tempo)


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit makes the full disk")
def test_the_disk_of_the_queue_is_full(collector, sender, to_stores, tempo):
    """The client gets an error for what could not be written, and nothing else is lost."""
    gateway = collector("gateway", environment=to_stores)
    gateway.process.stop()
    agent = agent_for(collector, gateway, launcher=["prlimit", "--fsize=400000"])
    client = sender(agent)
    eventually(lambda: not client.send(TRACES))
    assert {} != client.accepted
    assert {} != client.refused
    assert 0 < agent.total("otelcol_exporter_enqueue_failed_spans")
    gateway.process.start()
    assert_arrived(client, tempo)


def test_a_gateway_hangs(collector, sender, to_stores, jaeger, tempo):
    """Nothing is lost, and only what got no answer in time can be there more than once."""
    gateway = collector("gateway", environment=to_stores)
    agent = agent_for(collector, gateway, environment={"WARPSPAN_GATEWAY_TIMEOUT": "1s"})
    client = sender(agent)
    assert client.send(TRACES)
    assert_arrived(client, tempo, jaeger)
    answered = {trace: sorted(spans) for trace, spans in client.accepted.items()}
    gateway.process.freeze()
    assert client.send(TRACES)
    eventually(lambda: "Exporting failed. Will retry" in agent.process.words())
    gateway.process.thaw()
    assert_arrived(client, tempo, once=False)
    assert 0 == eventually(lambda: queued(agent), lambda batches: batches == 0)
    assert_arrived(client, jaeger)  # which shows a span once
    assert answered == {trace: sorted(stored(tempo, trace)) for trace in answered}


def test_a_batch_comes_twice(collector, sender, to_stores, jaeger, tempo, prometheus):
    """As from a client whose answer was lost: how each store shows a span that it was sent twice."""
    gateway = collector(
        "gateway",
        environment={
            **to_stores,
            "WARPSPAN_PROMETHEUS": prometheus.url,
            "WARPSPAN_DECISION_WAIT": "5s",  # both of them are in one decision
        },
    )
    client = sender(gateway)
    assert client.send(1)
    assert client.send_again()
    ((trace, spans),) = client.accepted.items()
    twice = sorted([*spans, *spans])
    assert twice == eventually(lambda: sorted(stored(tempo, trace)), lambda found: found == twice)
    once = sorted(spans)
    assert once == eventually(lambda: sorted(stored(jaeger, trace)), lambda found: found == once)
    query = f'sum(traces_span_metrics_calls_total{{service_name="{client.service}"}})'
    counted = eventually(lambda: prometheus.value(query), lambda value: value == len(twice))
    assert len(twice) == counted


def test_slow_stores(collector, sender, to_stores, jaeger, tempo, prometheus):
    """The gateway waits for them and repeats what got no answer; clients notice nothing of it."""
    # With metrics delivered, for a collector's log holds ten lines of a kind in ten seconds.
    to_all = {**to_stores, "WARPSPAN_PROMETHEUS": prometheus.url}
    gateway = collector("gateway", environment=to_all)
    agent = agent_for(collector, gateway)
    client = sender(agent)

    def sent():
        stores = ("otlp_grpc/jaeger", "otlp_grpc/tempo")
        return [gateway.total("otelcol_exporter_sent_spans", exporter=store) for store in stores]

    with jaeger.process.slowed(), tempo.process.slowed():
        assert all(client.send(TRACES) for _ in range(3))
        spans = 3 * 2 * TRACES
        assert [spans, spans] == eventually(sent, lambda counts: counts == [spans, spans])
    for store in (jaeger, tempo):
        store.process.freeze()
    assert all(client.send(TRACES) for _ in range(3))
    eventually(lambda: repeating(gateway) == {"otlp_grpc/jaeger", "otlp_grpc/tempo"})
    assert all(client.send(TRACES) for _ in range(3))
    for store in (jaeger, tempo):
        store.process.thaw()
    assert_arrived(client, tempo, once=False)  # an answer in time is not certain here
    assert_arrived(client, jaeger)
    assert 0 == gateway.total("otelcol_receiver_refused_spans")
    assert 0 == gateway.total("otelcol_exporter_send_failed_spans")


def repeating(collector):
    """The exporters that got no answer and try again."""
    return {
        name
        for line in collector.process.words().splitlines()
        if "Will retry" in line
        for name in re.findall(r'"otelcol.component.id": "(.+?)"', line)
    }


def test_a_gateway_has_no_room_left(collector, sender, to_stores, jaeger, watched):
    """Behind the sampling nobody is left to refuse to: what its queue does not take is counted."""
    jaeger.process.stop()
    gateway = collector(
        "gateway", environment={**to_stores, "WARPSPAN_GATEWAY_QUEUE_BYTES": "50000"}
    )
    prometheus = watched(gateway=gateway)
    agent = agent_for(collector, gateway)
    client = sender(agent)

    def lost():
        return gateway.total("otelcol_exporter_enqueue_failed_spans", exporter="otlp_grpc/jaeger")

    eventually(lambda: client.send(TRACES) and lost())
    assert {} == client.refused
    assert {"CollectorLosesTelemetry"} <= eventually(
        prometheus.firing, lambda names: "CollectorLosesTelemetry" in names
    )
    jaeger.process.start()
    made = sum(map(len, client.accepted.values()))

    def told():
        found = [span for trace in client.accepted for span in stored(jaeger, trace)]
        return len(set(found)), len(found), lost()

    distinct, found, missed = eventually(told, lambda counts: counts[1] + counts[2] == made)
    assert made == found + missed
    assert distinct == found


@pytest.fixture
def secured(collector, to_stores, tmp_path):
    """A gateway with TLS and a token, and the settings with which an agent is let in."""
    pem, key = certificate(tmp_path)
    token = tmp_path / "token"
    token.write_text("s3cret", encoding="utf-8")
    common = {"WARPSPAN_GATEWAY_TOKEN_FILE": str(token)}
    gateway = collector(
        "gateway",
        secure=True,
        environment={
            **to_stores,
            **common,
            "WARPSPAN_GATEWAY_CERT_FILE": str(pem),
            "WARPSPAN_GATEWAY_KEY_FILE": str(key),
        },
    )
    return gateway, {**common, "WARPSPAN_GATEWAY_CA_FILE": str(pem)}


def test_tls_and_token(collector, sender, secured, tempo):
    """With the right ones everything arrives."""
    gateway, right = secured
    agent = agent_for(collector, gateway, secure=True, environment=right)
    client = sender(agent)
    assert client.send(TRACES)
    assert_arrived(client, tempo)


def test_a_certificate_that_is_not_trusted(collector, sender, secured, tempo, tmp_path):
    """Nothing is sent to a stranger; it waits until the right authority is known."""
    gateway, right = secured
    (tmp_path / "other").mkdir()
    other, _ = certificate(tmp_path / "other")
    trusted = tmp_path / "trusted.pem"
    shutil.copy(other, trusted)
    agent = agent_for(
        collector,
        gateway,
        secure=True,
        environment={**right, "WARPSPAN_GATEWAY_CA_FILE": str(trusted)},
    )
    client = sender(agent)
    assert client.send(TRACES)
    eventually(lambda: "certificate signed by unknown authority" in agent.process.words())
    assert "certificate signed by unknown authority" in agent.process.words()
    assert 0 == gateway.total("otelcol_receiver_accepted_spans")
    agent.process.stop()
    shutil.copy(right["WARPSPAN_GATEWAY_CA_FILE"], trusted)
    agent.process.start()
    assert_arrived(client, tempo)


def test_a_wrong_token(collector, sender, secured, watched, tmp_path):
    """It is refused for good: what was sent with it is lost, is counted, and alerts."""
    gateway, right = secured
    wrong = tmp_path / "wrong-token"
    wrong.write_text("guess", encoding="utf-8")
    agent = agent_for(
        collector,
        gateway,
        secure=True,
        environment={**right, "WARPSPAN_GATEWAY_TOKEN_FILE": str(wrong)},
    )
    prometheus = watched(agent=agent, gateway=gateway)
    client = sender(agent)
    assert client.send(TRACES)
    lost = eventually(
        lambda: agent.total("otelcol_exporter_send_failed_spans", exporter="load_balancing")
    )
    assert 2 * TRACES == lost
    assert 0 == gateway.total("otelcol_receiver_accepted_spans")
    expected = {"CollectorLosesTelemetry"}
    assert expected == eventually(prometheus.firing, lambda names: names == expected)


def test_a_flood(collector, sender, to_stores, jaeger):
    """A hundred times the usual rate: who is refused knows it, all else arrives, also the usual."""
    gateway = collector("gateway", environment=to_stores)
    agent = agent_for(collector, gateway, environment={"WARPSPAN_AGENT_QUEUE_BYTES": "500000"})
    usual, flood = sender(agent, "usual"), sender(agent, "flood")

    def both_send():
        return usual.send(1), flood.send(100)

    gateway.process.freeze()  # so that the queue fills on any machine
    eventually(lambda: both_send() and flood.refused)
    gateway.process.thaw()
    for _ in range(40):
        both_send()
    assert {} != flood.accepted
    assert {} != flood.refused
    assert len(flood.accepted) + len(flood.refused) == 100 * (
        len(usual.accepted) + len(usual.refused)
    )
    assert 0 < agent.total("otelcol_exporter_enqueue_failed_spans")
    assert_arrived(usual, jaeger)
    assert_arrived(flood, jaeger)
