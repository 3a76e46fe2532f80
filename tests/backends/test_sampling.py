"""What the gateway keeps of the known inferences, and what it counts of them all."""

from __future__ import annotations

import os

import pytest
from known import SERVICE, TRACES, send
from processes import eventually

#: A limit that nothing reaches.
NEVER = {
    "WARPSPAN_KEEP_PERCENT": "0",
    "WARPSPAN_KEEP_SLOWER_THAN_MS": "3600000",
    "WARPSPAN_KEEP_MEMORY_ABOVE": "2.0",
    "WARPSPAN_KEEP_GPU_SECONDS_ABOVE": "3600.0",
    "WARPSPAN_KEEP_JOULES_ABOVE": "1000000.0",
}

# Policy: its setting; how many of the requests it keeps, the two failed ones among them.
KEPT = {
    "errors-only": ({}, 2),
    "slow": ({"WARPSPAN_KEEP_SLOWER_THAN_MS": "1000"}, 2 + 1 + 12),
    "memory": ({"WARPSPAN_KEEP_MEMORY_ABOVE": "0.9"}, 2 + 1),
    "costly": ({"WARPSPAN_KEEP_GPU_SECONDS_ABOVE": "0.5"}, 2 + 12),
    "energy": ({"WARPSPAN_KEEP_JOULES_ABOVE": "100.0"}, 2 + 12),
    "everything": ({"WARPSPAN_KEEP_PERCENT": "100"}, TRACES),
}


@pytest.mark.parametrize("policy", KEPT)
def test_every_bad_inference_is_kept(collector, jaeger, policy):
    """All of what a policy names, whole traces, and nothing else."""
    settings, kept = KEPT[policy]
    gateway = collector(
        "gateway",
        environment={**NEVER, **settings, "WARPSPAN_JAEGER": jaeger.otlp},
    )
    agent = collector("agent", environment={"WARPSPAN_GATEWAYS": f"[{gateway.grpc}]"})
    send(agent.grpc, {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")})

    def decided():
        counts = {
            sampled: gateway.total(
                "otelcol_processor_tail_sampling_global_count_traces_sampled", sampled=sampled
            )
            for sampled in ("true", "false")
        }
        return counts["true"], sum(counts.values())

    assert (kept, TRACES) == eventually(decided, lambda counts: counts[1] == TRACES)
    found = eventually(lambda: jaeger.search(SERVICE), lambda found: len(found) == kept)
    assert kept == len(found)
    assert {2} == {len(jaeger.trace(trace)) for trace in found}


def test_span_metrics_count_what_is_sampled_away(collector, jaeger, prometheus):
    """The gateway counts every span before it decides."""
    gateway = collector(
        "gateway",
        environment={
            **NEVER,
            "WARPSPAN_JAEGER": jaeger.otlp,
            "WARPSPAN_PROMETHEUS": prometheus.url,
        },
    )
    agent = collector("agent", environment={"WARPSPAN_GATEWAYS": f"[{gateway.grpc}]"})
    send(agent.grpc, {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")})
    query = (
        "sum by (span_name, pytorch_model_name) (traces_span_metrics_calls_total"
        f'{{service_name="{SERVICE}",span_kind="SPAN_KIND_INTERNAL"}})'
    )
    expected = {
        (("pytorch_model_name", "BertModel"), ("span_name", "forward BertModel")): 21,
        (
            ("pytorch_model_name", "LlamaForCausalLM"),
            ("span_name", "generate LlamaForCausalLM"),
        ): 13,
        (
            ("pytorch_model_name", "UNet2DConditionModel"),
            ("span_name", "diffusion UNet2DConditionModel"),
        ): 2,
    }
    counted = eventually(lambda: prometheus.query(query), lambda found: found == expected)
    assert expected == counted
