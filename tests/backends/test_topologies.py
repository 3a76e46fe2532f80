"""The example service under load, by every way in which it reaches the stores."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from collectors import Collector
from demo_service import Service
from metric_names import OURS, series
from processes import eventually
from stores import Jaeger, Prometheus, Tempo

from warpspan.signals import names

ROOT = Path(__file__).resolve().parents[2]
TYPES = {"string": str, "int": int, "double": float, "boolean": bool}
REQUESTS = 40


@pytest.fixture(scope="module")
def world(programs, start_for_module, tmp_path_factory):
    """The three stores, and what starts collectors and services before them."""
    folder = tmp_path_factory.mktemp("stores")
    jaeger = Jaeger(start_for_module, programs["jaeger"], folder)
    tempo = Tempo(start_for_module, programs["tempo"], folder)
    prometheus = Prometheus(start_for_module, programs["prometheus"], folder, interval="1s")
    where = {
        "WARPSPAN_JAEGER": jaeger.otlp,
        "WARPSPAN_TEMPO": tempo.otlp,
        "WARPSPAN_PROMETHEUS": prometheus.url,
    }

    def collector(role, **options):
        options["environment"] = {**where, **options.get("environment", {})}
        return Collector(start_for_module, programs["otelcol"], folder, role, **options)

    return SimpleNamespace(
        jaeger=jaeger,
        tempo=tempo,
        prometheus=prometheus,
        collector=collector,
        start=start_for_module,
        folder=folder,
    )


def direct(traces, protocol):
    """The service sends its traces straight to a store, and its metrics to Prometheus."""

    def environment(world):
        store = getattr(world, traces)
        to = f"http://{store.otlp}" if protocol == "grpc" else f"{store.otlp_http}/v1/traces"
        return (store,), {
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": to,
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{world.prometheus.url}/api/v1/otlp/v1/metrics",
        }

    return environment


def all_in_one(world):
    """One collector on the machine."""
    collector = world.collector("all-in-one")
    return (world.jaeger, world.tempo), {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.otlp}


def two_gateways(world):
    """An agent beside the service, two gateways behind it that keep every trace."""
    all_of_them = {"WARPSPAN_KEEP_PERCENT": "100"}
    gateways = [
        world.collector("gateway", name=f"gateway-{number}", environment=all_of_them)
        for number in (1, 2)
    ]
    addresses = ", ".join(gateway.grpc for gateway in gateways)
    agent = world.collector("agent", environment={"WARPSPAN_GATEWAYS": f"[{addresses}]"})
    return (world.jaeger, world.tempo), {"OTEL_EXPORTER_OTLP_ENDPOINT": agent.otlp}


TOPOLOGIES = {
    "direct-grpc-jaeger": direct("jaeger", "grpc"),
    "direct-http-jaeger": direct("jaeger", "http/protobuf"),
    "direct-grpc-tempo": direct("tempo", "grpc"),
    "direct-http-tempo": direct("tempo", "http/protobuf"),
    "all-in-one": all_in_one,
    "two-gateways": two_gateways,
}


@pytest.fixture(scope="module", params=TOPOLOGIES)
def served(request, world):
    """A service that answered its requests and ended, and the stores that must have its spans."""
    stores, environment = TOPOLOGIES[request.param](world)
    service = Service(world.start, world.folder, request.param, environment)
    service.serve(REQUESTS)
    return SimpleNamespace(name=request.param, stores=stores, spans=service.end())


def inferences(spans):
    return [span for span in spans if names.PYTORCH_OPERATION_NAME in span.attributes]


def as_stored(store, spans):
    """The spans as this store gives them back."""
    return sorted(
        span._replace(
            attributes=store.as_stored(span.attributes), resource=store.as_stored(span.resource)
        )
        for span in spans
    )


def test_every_span_arrives_once_and_whole(served):
    """Ids, parents, names, times, statuses, attributes and their types, in each store."""
    inferred = inferences(served.spans)
    assert REQUESTS <= len(inferred)
    traces = sorted({span.trace_id for span in served.spans})
    for store in served.stores:
        expected = as_stored(store, served.spans)

        def stored(store=store):
            return [span for trace in traces for span in found(store, trace)]

        arrived = sorted(eventually(stored, lambda spans: len(spans) >= len(served.spans)))
        assert [span._replace(resource={}) for span in expected] == [
            span._replace(resource={}) for span in arrived
        ]
        for sent, got in zip(expected, arrived, strict=True):
            assert sent.resource.items() <= got.resource.items()


def found(store, trace):
    """The spans of a trace, none where the store does not know it yet."""
    try:
        return store.trace(trace)
    except AssertionError:
        return []


def test_attributes_have_the_types_of_signals_yaml(served):
    """The file that the documentation is made from tells the truth about what is sent."""
    registry = yaml.safe_load(
        (ROOT / "src/warpspan/signals/registry.yaml").read_text(encoding="utf-8")
    )
    types = {
        attribute["id"]: attribute["type"]
        for group in registry["groups"]
        for attribute in group.get("attributes", ())
        if "id" in attribute
    }
    for span in inferences(served.spans):
        for name, value in span.attributes.items():
            kind = types[name]
            if isinstance(kind, str) and kind.endswith("[]"):
                assert isinstance(value, tuple), name
                assert {TYPES[kind[:-2]]} >= {type(one) for one in value}, name
            else:
                assert type(value) is TYPES.get(kind if isinstance(kind, str) else "string"), name


def test_inferences_are_children_of_their_requests(served):
    """Each request's inference hangs below the span of its request, in the same trace."""
    by_id = {span.span_id: span for span in served.spans}
    parents = [by_id[span.parent_id] for span in inferences(served.spans) if span.parent_id]
    assert REQUESTS == len(parents)
    assert {"POST /embed", "POST /classify"} == {span.name for span in parents}


def test_metrics_count_every_inference(world, served):
    """The last collection, at the end of the process, arrives too."""
    query = f'sum(pytorch_inference_duration_seconds_count{{service_name="{served.name}"}})'
    expected = len(inferences(served.spans))
    counted = eventually(lambda: world.prometheus.value(query), lambda value: value == expected)
    assert expected == counted


def test_metrics_have_the_names_of_signals_yaml(world, served):
    """With their units, whichever way they came; nothing else of ours is there."""
    found = world.prometheus.names(f'{{service_name="{served.name}"}}')
    known = series()
    ours = {name for name in found if name.startswith(OURS)}
    assert ours <= set(known)
    assert {
        "pytorch_inference_duration_seconds",
        "pytorch_inference_batch_size",
        "pytorch_inference_idle_time_seconds_total",
        "pytorch_inference_active",
        "warpspan_queue_size",
    } <= {known[name] for name in ours}


def test_exemplars_lead_to_traces_that_exist(world, served):
    """From a bucket of the histogram to the request that was in it."""
    query = f'pytorch_inference_duration_seconds_bucket{{service_name="{served.name}"}}'
    exemplars = eventually(lambda: world.prometheus.exemplars(query))
    spans = {(span.trace_id, span.span_id) for span in inferences(served.spans)}
    assert set() != {(one["trace_id"], one["span_id"]) for one in exemplars} <= spans
