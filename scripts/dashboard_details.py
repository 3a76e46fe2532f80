"""The dashboards of one: what an inference costs, and what memory it takes."""

from __future__ import annotations

from dashboard_panels import (
    BY_MODEL,
    FILTERS,
    OF_MODEL,
    SPAN,
    Graph,
    Heatmap,
    M,
    Note,
    Page,
    Row,
    S,
    Stat,
    Tiles,
    Traces,
    each,
)

BY = "sum by (service_name, pytorch_model_name)"
GPU_TIME = "pytorch_inference_gpu_time_seconds_sum"
TOKENS = f'pytorch_inference_tokens_total{{{M},pytorch_token_type="generated"}}'


def _price_of(gpu_seconds: str) -> str:
    """GPU-seconds in money, by the price of a GPU-hour."""
    return f"{gpu_seconds} / 3600 * $price"


INFERENCE = Page(
    "inference",
    "PyTorch inference: cost of one",
    (*FILTERS, "price"),
    (
        Note(
            "What to look at",
            "**GPU-seconds** are device time, shared where inferences overlapped: times the price of a "
            "GPU-hour they are what an inference costs while it runs. **Idle** GPUs come on top: see "
            "the page *GPU*. *Active* cycles far below *clock* cycles × SMs mean that an inference "
            "occupies the GPU without using it: batch it, or put it on a smaller one.",
        ),
        Tiles(
            (
                Stat(
                    "Cost of 1,000 inferences",
                    "short",
                    _price_of(
                        f"1000 * sum(model:gpu_seconds:rate5m{{{M}}}) / sum(model:inferences:rate5m{{{M}}})"
                    ),
                    "At the price of a GPU-hour above.",
                ),
                Stat(
                    "Cost of a million generated tokens",
                    "short",
                    _price_of(
                        f"1000000 * sum(rate({GPU_TIME}{{{M}}}[5m]) and on (service_name, pytorch_model_name) rate({TOKENS}[5m])) / sum(rate({TOKENS}[5m]))"
                    ),
                    "Those of prompts included.",
                ),
                Stat("Cost per hour", "short", f"sum(model:gpu_seconds:rate5m{{{M}}}) * $price"),
                Stat(
                    "Energy of 1,000 inferences",
                    "joule",
                    f"1000 * sum(rate(pytorch_inference_energy_joules_sum{{{M}}}[5m])) / sum(rate(pytorch_inference_energy_joules_count{{{M}}}[5m]))",
                ),
            )
        ),
        Row("By model"),
        Graph(
            "Cost of 1,000 inferences, by model",
            "short",
            (
                (
                    _price_of(f"1000 * model:gpu_seconds_per_inference:measured_5m{{{M}}}"),
                    BY_MODEL,
                ),
            ),
            "At the price of a GPU-hour above.",
        ),
        Heatmap(
            "GPU-seconds of inferences",
            "s",
            "pytorch_inference_gpu_time_seconds",
            "How many inferences per second cost how much.",
        ),
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
    FILTERS,
    (
        Note(
            "What to look at",
            "A **leak score** from 95 % on: caches of that model are never released, and the list at "
            "the end has the inferences. `reserved` far above `allocated`: fragmentation, or an old "
            "peak. A **peak** close to the GPU's memory: the next longer prompt runs out of it.",
        ),
        Tiles(
            (
                Stat(
                    "Fullest GPU",
                    "percentunit",
                    "max(hw_id:gpu_memory_utilization:ratio)",
                    "Of all GPUs that run inferences.",
                    (0.85, 0.95),
                ),
                Stat(
                    "KV caches alive now",
                    "bytes",
                    f"sum(pytorch_kv_cache_usage_bytes{{{M}}})",
                ),
                Stat(
                    "Highest leak score",
                    "percentunit",
                    f"max(pytorch_kv_cache_leak_score_ratio{{{M}}})",
                    "",
                    (0.8, 0.95),
                ),
                Stat(
                    "Ran out of memory",
                    "short",
                    f"sum(pytorch_inference_out_of_memory_total{{{M}}}) or vector(0)",
                    "Inferences since the processes started.",
                ),
            )
        ),
        Row("Memory"),
        Heatmap(
            "Peaks of inferences",
            "bytes",
            "pytorch_inference_memory_peak_bytes",
            "How many inferences per second had which peak.",
        ),
        Heatmap(
            "KV caches of inferences",
            "bytes",
            "pytorch_inference_kv_cache_size_bytes",
            "How many inferences per second ended with how large a cache.",
        ),
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
