"""The dashboards of one: an inference's cost, memory, generation, and what holds it up."""

from __future__ import annotations

from dashboard_panels import (
    BY_MODEL,
    OF_MODEL,
    SPAN,
    Graph,
    M,
    Page,
    S,
    Traces,
    each,
    quantile,
)

BY = "sum by (service_name, pytorch_model_name)"
GPU_TIME = "pytorch_inference_gpu_time_seconds_sum"
TOKENS = f'pytorch_inference_tokens_total{{{M},pytorch_token_type="generated"}}'


def by_hub(metric: str, title: str) -> Graph:
    """A metric of the GenAI conventions, which know models by their names on the Hub only."""
    label = "gen_ai_request_model"
    return Graph(
        f"{title}, by name on the Hub",
        "s",
        (quantile(0.5, metric, label, S), quantile(0.99, metric, label, S)),
        "By OpenTelemetry's GenAI conventions, to compare with other servers.",
        exemplars=True,
    )


INFERENCE = Page(
    "inference",
    "PyTorch inference: cost of one",
    ("service", "model"),
    (
        Graph(
            "GPU-seconds",
            "s",
            ((f"model:gpu_seconds_per_inference:measured_5m{{{M}}}", BY_MODEL),),
            "Device time, shared where inferences overlapped.",
        ),
        each("pytorch_inference_gpu_time_seconds", "s", "GPU-seconds, spread"),
        Graph(
            "Energy",
            "joule",
            ((f"model:joules_per_inference:measured_5m{{{M}}}", BY_MODEL),),
        ),
        Graph(
            "GPU-seconds of 1,000 generated tokens",
            "s",
            ((f"1000 * {BY} (rate({GPU_TIME}{{{M}}}[5m])) / {BY} (rate({TOKENS}[5m]))", OF_MODEL),),
            "Those of prompts included.",
        ),
        Graph(
            "Cycles of the SM clock",
            "short",
            ((f"model:sm_cycles_elapsed_per_inference:measured_5m{{{M}}}", BY_MODEL),),
        ),
        Graph(
            "Active cycles of all SMs",
            "short",
            ((f"model:sm_cycles_active_per_inference:measured_5m{{{M}}}", BY_MODEL),),
            "Summed over multiprocessors.",
        ),
        Traces(
            "Inferences over 0.1 GPU-seconds",
            f"{{ {SPAN} && span.pytorch.gpu.time > 0.1 }} | select(span.pytorch.gpu.time, span.pytorch.energy.used, span.pytorch.sm.cycles.active, span.pytorch.input.batch.size)",
        ),
    ),
)

MEMORY = Page(
    "memory",
    "PyTorch inference: memory and KV cache",
    ("service", "model"),
    (
        each(
            "pytorch_inference_memory_peak_bytes",
            "bytes",
            "Peak memory of an inference",
            "Read off buckets that double, so that p99 may exceed the GPU. Single peaks are below.",
        ),
        Graph(
            "Memory of the caching allocator",
            "bytes",
            (
                (
                    f"sum by (service_name, hw_id, pytorch_memory_state) (pytorch_memory_usage_bytes{{{S}}})",
                    "{{service_name}} {{hw_id}} {{pytorch_memory_state}}",
                ),
            ),
            "`reserved` far above `allocated` is fragmentation or an old peak.",
        ),
        Graph(
            "KV caches that are alive",
            "bytes",
            ((f"{BY} (pytorch_kv_cache_usage_bytes{{{M}}})", OF_MODEL),),
        ),
        Graph(
            "Their number",
            "short",
            ((f"{BY} (pytorch_kv_cache_count{{{M}}})", OF_MODEL),),
        ),
        Graph(
            "Their share of the GPU's memory",
            "percentunit",
            (
                (
                    f"sum by (hw_id) (model:kv_cache_bytes:sum{{{M}}}) / on (hw_id) hw_id:gpu_memory_limit_bytes:max",
                    "{{hw_id}}",
                ),
            ),
        ),
        Graph(
            "Leak score",
            "percentunit",
            (
                (
                    f"max by (service_name, pytorch_model_name) (pytorch_kv_cache_leak_score_ratio{{{M}}})",
                    OF_MODEL,
                ),
            ),
            "How likely it is that what makes the caches grow is never released: a leak from 95 % on.",
        ),
        each("pytorch_inference_kv_cache_size_bytes", "bytes", "KV cache of an inference"),
        Graph(
            "KV cache that inferences add",
            "Bps",
            ((f"model:kv_cache_growth_bytes:rate5m{{{M}}}", BY_MODEL),),
        ),
        Traces(
            "Out of memory",
            f"{{ {SPAN} && span.pytorch.memory.oom.requested > 0 }} | select(span.pytorch.memory.oom.requested, span.pytorch.memory.allocated.start, span.pytorch.memory.peak.size, span.pytorch.input.shape)",
        ),
        Traces(
            "Peaks over half of the GPU's memory",
            f"{{ {SPAN} && span.pytorch.memory.utilization > 0.5 }} | select(span.pytorch.memory.peak.size, span.pytorch.memory.peak.increase, span.pytorch.memory.utilization)",
        ),
        Traces(
            "KV caches over 100 MB",
            f"{{ {SPAN} && span.pytorch.kv_cache.size > 100000000 }} | select(span.pytorch.kv_cache.size, span.pytorch.kv_cache.increase, span.pytorch.kv_cache.token.count, span.pytorch.kv_cache.retained)",
        ),
        Traces(
            "Inferences with a leak of KV caches",
            f"{{ {SPAN} && span.pytorch.kv_cache.leak.score >= 0.95 }} | select(span.pytorch.kv_cache.alive.size, span.pytorch.kv_cache.alive.count, span.pytorch.kv_cache.leak.score)",
        ),
    ),
)

GENERATION = Page(
    "generation",
    "PyTorch inference: generation and diffusion",
    ("service", "model"),
    (
        each("pytorch_inference_token_first_duration_seconds", "s", "Time to the first token"),
        each(
            "pytorch_inference_token_duration_seconds",
            "s",
            "Time per token after the first",
            "Mean of each generation.",
        ),
        Graph(
            "Tokens a second",
            "short",
            (
                (
                    f"sum by (service_name, pytorch_model_name, pytorch_token_type) (rate(pytorch_inference_tokens_total{{{M}}}[5m]))",
                    f"{OF_MODEL} {{{{pytorch_token_type}}}}",
                ),
            ),
        ),
        each(
            "pytorch_inference_denoise_step_duration_seconds",
            "s",
            "Time of a denoising step",
            "Mean of each diffusion.",
        ),
        by_hub("gen_ai_server_time_to_first_token_seconds", "Time to the first token"),
        by_hub("gen_ai_server_time_per_output_token_seconds", "Time per token"),
        by_hub("gen_ai_server_request_duration_seconds", "Duration"),
        Graph(
            "Requests a second, by name on the Hub",
            "reqps",
            (
                (
                    f"sum by (gen_ai_request_model, gen_ai_operation_name, error_type) (rate(gen_ai_server_request_duration_seconds_count{{{S}}}[5m]))",
                    "{{gen_ai_request_model}} {{gen_ai_operation_name}} {{error_type}}",
                ),
            ),
        ),
        Traces(
            "First tokens after more than 200 ms",
            f"{{ {SPAN} && span.pytorch.token.first.time > 0.2 }} | select(span.pytorch.token.first.time, span.pytorch.prefill.time, span.pytorch.token.input.count)",
        ),
        Traces(
            "Generations over 0.1 GPU-seconds, by prompt and by tokens after it",
            f"{{ {SPAN} && span.pytorch.gpu.time > 0.1 && span.pytorch.decode.time > 0.0 }} | select(span.pytorch.prefill.time, span.pytorch.decode.time, span.pytorch.prefill.sm.cycles.active, span.pytorch.decode.sm.cycles.active, span.pytorch.token.generated.count)",
        ),
        Traces(
            "Generations that wait for the host",
            f"{{ {SPAN} && span.pytorch.decode.between.share > 0.4 }} | select(span.pytorch.decode.between.share, span.pytorch.decode.time, span.pytorch.token.duration.mean, span.pytorch.token.duration.p99)",
            "Over 40 % of the time of decoding is not in the model.",
        ),
        Traces(
            "Diffusions",
            f"{{ {SPAN} && span.pytorch.denoise.step.count > 0 }} | select(span.pytorch.pipeline.name, span.pytorch.denoise.step.count, span.pytorch.denoise.time, span.pytorch.vae.share, span.pytorch.text_encoder.share)",
        ),
    ),
)

STALLS = Page(
    "stalls",
    "PyTorch inference: transfers and stalls",
    ("service", "model"),
    (
        Graph(
            "Bytes over the bus",
            "Bps",
            (
                (
                    f"sum by (pytorch_transfer_direction, pytorch_transfer_memory) (rate(pytorch_inference_transfer_io_bytes_total{{{M}}}[5m]))",
                    "{{pytorch_transfer_direction}} {{pytorch_transfer_memory}}",
                ),
            ),
            "`pageable`: through memory that is not pinned, copied twice.",
        ),
        Graph(
            "Bytes an inference",
            "bytes",
            (
                (
                    f"sum by (service_name, pytorch_model_name, pytorch_transfer_direction) (rate(pytorch_inference_transfer_io_bytes_total{{{M}}}[5m])) / on (service_name, pytorch_model_name) group_left () {BY} (rate(pytorch_inference_duration_seconds_count{{{M}}}[5m]))",
                    f"{OF_MODEL} {{{{pytorch_transfer_direction}}}}",
                ),
            ),
        ),
        Graph(
            "Share of pageable memory in the copies",
            "percentunit",
            (
                (
                    f'sum by (pytorch_transfer_direction) (rate(pytorch_inference_transfer_io_bytes_total{{{M},pytorch_transfer_memory="pageable"}}[5m])) / sum by (pytorch_transfer_direction) (rate(pytorch_inference_transfer_io_bytes_total{{{M}}}[5m]))',
                    "{{pytorch_transfer_direction}}",
                ),
            ),
            "Of the bytes.",
        ),
        Graph(
            "Copies a second",
            "ops",
            (
                (
                    f"sum by (pytorch_transfer_direction) (rate(pytorch_inference_transfer_copies_total{{{M}}}[5m]))",
                    "{{pytorch_transfer_direction}}",
                ),
            ),
        ),
        Graph(
            "Time of the copies over device time",
            "percentunit",
            ((f"model:transfer_share:ratio5m{{{M}}}", BY_MODEL),),
            "Above 100 % the bus is the bottleneck.",
        ),
        Graph(
            "Share of the duration spent waiting for the device",
            "percentunit",
            ((f"model:sync_share:ratio5m{{{M}}}", BY_MODEL),),
            "Above 100 % where waits after the inference count for it.",
        ),
        Graph(
            "Waiting for the device",
            "s",
            (
                (
                    f"sum by (pytorch_sync_kind) (rate(pytorch_inference_sync_time_seconds_total{{{M}}}[5m]))",
                    "{{pytorch_sync_kind}}",
                ),
            ),
            "Seconds a second, by what made the host wait.",
        ),
        Graph(
            "Waits a second",
            "ops",
            (
                (
                    f"sum by (pytorch_sync_kind) (rate(pytorch_inference_sync_calls_total{{{M}}}[5m]))",
                    "{{pytorch_sync_kind}}",
                ),
            ),
        ),
        each(
            "pytorch_inference_device_queue_duration_seconds",
            "s",
            "Wait in the stream before the device began",
        ),
        Graph(
            "Device idle before an inference",
            "s",
            (
                (
                    f"{BY} (rate(pytorch_inference_idle_time_seconds_total{{{M}}}[5m])) / {BY} (rate(pytorch_inference_duration_seconds_count{{{M}}}[5m]))",
                    OF_MODEL,
                ),
            ),
            "Mean. Much of it under load means that the host is too slow.",
        ),
        Traces(
            "Inferences that copied over 100 MB to the device",
            f"{{ {SPAN} && span.pytorch.transfer.h2d.size > 100000000 }} | select(span.pytorch.transfer.h2d.size, span.pytorch.transfer.h2d.pageable.size, span.pytorch.transfer.h2d.time, span.pytorch.transfer.h2d.device.share)",
        ),
        Traces(
            "Inferences that waited over 100 ms for the device",
            f"{{ {SPAN} && span.pytorch.sync.time > 0.1 }} | select(span.pytorch.sync.time, span.pytorch.sync.count, span.pytorch.sync.longest.kind, span.pytorch.sync.longest.code.file.path, span.pytorch.sync.longest.code.line.number)",
        ),
    ),
)
