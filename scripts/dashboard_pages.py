"""What the dashboards show: pages of panels, each with its queries. `make dashboards` draws them."""

from __future__ import annotations

from typing import NamedTuple

# What the variables on top of a dashboard choose.
M = 'service_name=~"$service",pytorch_model_name=~"$model"'
G = 'hw_id=~"$gpu"'
SPAN = 'resource.service.name =~ "$service" && span.pytorch.model.name =~ "$model"'
BY_MODEL = "{{service_name}} {{pytorch_model_name}} {{pytorch_operation_name}}"
VARIABLES = {
    "service": ("Service", "label_values(pytorch_inference_duration_seconds_count, service_name)"),
    "model": (
        "Model",
        'label_values(pytorch_inference_duration_seconds_count{service_name=~"$service"}, pytorch_model_name)',
    ),
    "gpu": ("GPU", "label_values(hw_id:gpu_utilization:ratio5m, hw_id)"),
}


class Graph(NamedTuple):
    """Series of Prometheus over time: (query, legend) each."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    description: str = ""
    exemplars: bool = False


class Traces(NamedTuple):
    """Spans of Tempo that match a TraceQL query, each a link to its trace."""

    title: str
    query: str
    description: str = ""


class Page(NamedTuple):
    """A dashboard."""

    name: str
    title: str
    variables: tuple[str, ...]
    panels: tuple[Graph | Traces, ...]


def quantile(share: float, metric: str, by: str = "", of: str = M) -> str:
    labels = ", ".join(part for part in ("le", by) if part)
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{of}}}[5m])))"


PAGES = (
    Page(
        "fleet",
        "PyTorch inference: fleet",
        (),
        (
            Graph(
                "Inferences a second",
                "reqps",
                (("sum by (service_name) (model:inferences:rate5m)", "{{service_name}}"),),
            ),
            Graph(
                "Failed inferences",
                "percentunit",
                (
                    (
                        "sum by (service_name) (model:inference_errors:rate5m) / sum by (service_name) (model:inferences:rate5m)",
                        "{{service_name}}",
                    ),
                ),
            ),
            Graph(
                "GPUs that inferences keep busy",
                "short",
                (("sum by (service_name) (model:gpu_seconds:rate5m)", "{{service_name}}"),),
                "GPU-seconds a second, as measured.",
            ),
            Graph(
                "Utilization of each GPU",
                "percentunit",
                (("hw_id:gpu_utilization:ratio5m", "{{hw_id}}"),),
                "Share of the time in which any kernel ran, by NVML or DCGM.",
            ),
            Graph(
                "Memory of each GPU",
                "percentunit",
                (("hw_id:gpu_memory_utilization:ratio", "{{hw_id}}"),),
            ),
            Graph("Power of each GPU", "watt", (("hw_id:power_watts:avg5m", "{{hw_id}}"),)),
            Graph(
                "Cost of an inference, as measured",
                "s",
                (("model:gpu_seconds_per_inference:measured_5m", BY_MODEL),),
                "GPU-seconds: device time, shared where inferences overlapped.",
            ),
            Graph(
                "Cost of an inference, by utilization",
                "s",
                (("hw_id:gpu_seconds_per_inference:by_utilization_5m", "{{hw_id}}"),),
                "Utilization over inferences a second: all that runs on the GPU is charged.",
            ),
            Graph(
                "Out of memory",
                "short",
                (
                    (
                        "sum by (service_name, pytorch_model_name) (pytorch_inference_out_of_memory_total)",
                        "{{service_name}} {{pytorch_model_name}}",
                    ),
                ),
            ),
            Graph(
                "Telemetry that was dropped",
                "short",
                (
                    (
                        "sum by (service_name, warpspan_drop_reason) (warpspan_dropped_total)",
                        "{{service_name}} {{warpspan_drop_reason}}",
                    ),
                    (
                        "max by (tier, exporter) (otelcol_exporter_queue_size / otelcol_exporter_queue_capacity)",
                        "queue of {{tier}} {{exporter}}",
                    ),
                ),
            ),
            Traces(
                "Failed inferences",
                "{ span.pytorch.operation.name != nil && status = error } | select(span.error.type, span.pytorch.model.name, span.pytorch.memory.oom.requested)",
            ),
        ),
    ),
    Page(
        "model",
        "PyTorch inference: model",
        ("service", "model"),
        (
            Graph("Inferences a second", "reqps", ((f"model:inferences:rate5m{{{M}}}", BY_MODEL),)),
            Graph(
                "Duration",
                "s",
                (
                    (quantile(0.5, "pytorch_inference_duration_seconds"), "p50"),
                    (quantile(0.99, "pytorch_inference_duration_seconds"), "p99"),
                ),
                "On the host. The dots are single inferences: click one for its trace.",
                exemplars=True,
            ),
            Graph(
                "Time on the device",
                "s",
                (
                    (quantile(0.5, "pytorch_inference_device_duration_seconds"), "p50"),
                    (quantile(0.99, "pytorch_inference_device_duration_seconds"), "p99"),
                ),
                exemplars=True,
            ),
            Graph(
                "Wait in the stream before the device began",
                "s",
                ((quantile(0.99, "pytorch_inference_device_queue_duration_seconds"), "p99"),),
                exemplars=True,
            ),
            Graph(
                "Batch size",
                "short",
                (
                    (quantile(0.5, "pytorch_inference_batch_size"), "p50"),
                    (quantile(0.99, "pytorch_inference_batch_size"), "p99"),
                ),
            ),
            Graph(
                "Share of the duration spent waiting for the device",
                "percentunit",
                ((f"model:sync_share:ratio5m{{{M}}}", BY_MODEL),),
            ),
            Graph(
                "GPU-seconds an inference",
                "s",
                ((f"model:gpu_seconds_per_inference:measured_5m{{{M}}}", BY_MODEL),),
            ),
            Graph(
                "Energy an inference",
                "joule",
                ((f"model:joules_per_inference:measured_5m{{{M}}}", BY_MODEL),),
            ),
            Traces(
                "Slow inferences",
                f"{{ {SPAN} && duration > 1s }} | select(span.pytorch.device.time, span.pytorch.device.queue.time, span.pytorch.sync.time)",
            ),
        ),
    ),
    Page(
        "inference",
        "PyTorch inference: cost, memory and KV cache",
        ("service", "model"),
        (
            Traces(
                "The most costly inferences",
                f"{{ {SPAN} && span.pytorch.gpu.time > 0.1 }} | select(span.pytorch.gpu.time, span.pytorch.energy.used, span.pytorch.sm.cycles.active, span.pytorch.input.batch.size)",
            ),
            Traces(
                "The highest peaks of memory",
                f"{{ {SPAN} && span.pytorch.memory.utilization > 0.5 }} | select(span.pytorch.memory.peak.size, span.pytorch.memory.peak.increase, span.pytorch.memory.utilization)",
            ),
            Traces(
                "Out of memory",
                "{ span.pytorch.memory.oom.requested > 0 } | select(span.pytorch.memory.oom.requested, span.pytorch.memory.allocated.start, span.pytorch.memory.peak.size, span.pytorch.input.shape)",
            ),
            Traces(
                "The largest KV caches",
                f"{{ {SPAN} && span.pytorch.kv_cache.size > 0 }} | select(span.pytorch.kv_cache.size, span.pytorch.kv_cache.increase, span.pytorch.kv_cache.token.count)",
            ),
            Graph(
                "Peak memory of an inference",
                "bytes",
                (
                    (quantile(0.5, "pytorch_inference_memory_peak_bytes"), "p50"),
                    (quantile(0.99, "pytorch_inference_memory_peak_bytes"), "p99"),
                ),
                exemplars=True,
            ),
            Graph(
                "Memory of the caching allocator",
                "bytes",
                (
                    (
                        'sum by (service_name, hw_id, pytorch_memory_state) (pytorch_memory_usage_bytes{service_name=~"$service"})',
                        "{{service_name}} {{hw_id}} {{pytorch_memory_state}}",
                    ),
                ),
            ),
            Graph(
                "KV caches that are alive",
                "bytes",
                (
                    (
                        f"sum by (service_name, pytorch_model_name) (pytorch_kv_cache_usage_bytes{{{M}}})",
                        "{{service_name}} {{pytorch_model_name}}",
                    ),
                ),
            ),
            Graph(
                "Cycles of the SM clock an inference",
                "short",
                ((f"model:sm_cycles_elapsed_per_inference:measured_5m{{{M}}}", BY_MODEL),),
            ),
            Graph(
                "Active cycles of all SMs an inference",
                "short",
                ((f"model:sm_cycles_active_per_inference:measured_5m{{{M}}}", BY_MODEL),),
            ),
        ),
    ),
    Page(
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
            Graph(
                "Device idle between inferences",
                "s",
                (
                    (
                        f"sum by (service_name, pytorch_model_name) (rate(pytorch_inference_idle_time_seconds_total{{{M}}}[5m]))",
                        "{{service_name}} {{pytorch_model_name}}",
                    ),
                ),
                "Seconds a second, by the inference that ended the pause.",
            ),
            Traces(
                "Inferences that copied much",
                f"{{ {SPAN} && span.pytorch.transfer.h2d.size > 100000000 }} | select(span.pytorch.transfer.h2d.size, span.pytorch.transfer.h2d.pageable.size, span.pytorch.transfer.h2d.time)",
            ),
            Traces(
                "Inferences that waited long",
                f"{{ {SPAN} && span.pytorch.sync.time > 0.1 }} | select(span.pytorch.sync.time, span.pytorch.sync.count, span.pytorch.sync.longest.kind, span.pytorch.sync.longest.code.file.path, span.pytorch.sync.longest.code.line.number)",
            ),
        ),
    ),
    Page(
        "gpu",
        "PyTorch inference: GPU",
        ("gpu",),
        (
            Graph(
                "Utilization",
                "percentunit",
                (
                    (f"hw_gpu_utilization_ratio{{{G}}}", "warpspan {{hw_id}}"),
                    (
                        'label_replace(DCGM_FI_DEV_GPU_UTIL{UUID=~"$gpu"} / 100, "hw_id", "$1", "UUID", "(.+)")',
                        "DCGM {{hw_id}}",
                    ),
                ),
            ),
            Graph(
                "Memory in use",
                "bytes",
                (
                    (f"hw_gpu_memory_usage_bytes{{{G}}}", "warpspan {{hw_id}}"),
                    (
                        'label_replace(DCGM_FI_DEV_FB_USED{UUID=~"$gpu"} * 1048576, "hw_id", "$1", "UUID", "(.+)")',
                        "DCGM {{hw_id}}",
                    ),
                    (f"hw_gpu_memory_limit_bytes{{{G}}}", "all of {{hw_id}}"),
                ),
            ),
            Graph(
                "Power",
                "watt",
                (
                    (f"hw_power_watts{{{G}}}", "warpspan {{hw_id}}"),
                    (
                        'label_replace(DCGM_FI_DEV_POWER_USAGE{UUID=~"$gpu"}, "hw_id", "$1", "UUID", "(.+)")',
                        "DCGM {{hw_id}}",
                    ),
                ),
            ),
            Graph(
                "Power by model",
                "watt",
                (
                    (
                        f"hw_id_model:power_watts:share5m{{{G}}}",
                        "{{service_name}} {{pytorch_model_name}} {{hw_id}}",
                    ),
                ),
                "The GPU's power, divided by the models' GPU-seconds.",
            ),
            Graph("Temperature", "celsius", ((f"hw_temperature_celsius{{{G}}}", "{{hw_id}}"),)),
            Graph(
                "Time with and without inferences",
                "percentunit",
                (
                    (
                        f"sum by (hw_id, pytorch_gpu_activity) (rate(pytorch_gpu_sampled_time_seconds_total{{{G}}}[5m])) / on (hw_id) group_left () sum by (hw_id) (rate(pytorch_gpu_sampled_time_seconds_total{{{G}}}[5m]))",
                        "{{hw_id}} {{pytorch_gpu_activity}}",
                    ),
                ),
            ),
            Graph(
                "Energy with and without inferences",
                "watt",
                (
                    (
                        f"sum by (hw_id, pytorch_gpu_activity) (rate(pytorch_gpu_sampled_energy_joules_total{{{G}}}[5m]))",
                        "{{hw_id}} {{pytorch_gpu_activity}}",
                    ),
                ),
            ),
            Graph(
                "Inferences a second", "reqps", ((f"hw_id:inferences:rate5m{{{G}}}", "{{hw_id}}"),)
            ),
            Graph(
                "Memory errors", "short", ((f"hw_errors_total{{{G}}}", "{{hw_id}} {{error_type}}"),)
            ),
        ),
    ),
)
