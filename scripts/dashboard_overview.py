"""The dashboards of many: all services, one model, and the GPUs with DCGM's series beside ours."""

from __future__ import annotations

from dashboard_panels import (
    BY_MODEL,
    FILTERS,
    OF_MODEL,
    SPAN,
    F,
    G,
    Graph,
    Heatmap,
    M,
    Note,
    Page,
    Row,
    Stat,
    Tiles,
    Traces,
    dcgm,
    each,
)


def _quantile_of_all(share: float) -> str:
    """A percentile of the duration of all inferences that the filters choose."""
    buckets = f"sum by (le) (rate(pytorch_inference_duration_seconds_bucket{{{M}}}[5m]))"
    return f"histogram_quantile({share}, {buckets})"


FLEET = Page(
    "fleet",
    "PyTorch inference: fleet",
    ("cluster", "namespace", "price"),
    (
        Note(
            "What to look at",
            "1. **Failed** and **p99**: is anybody hurt? The page *model* shows which model, its list "
            "of traces why.\n"
            "2. **Idle GPUs**: you pay for them. Few inferences: put models together. Many inferences "
            "and idle GPUs: the host is too slow, see the page *transfers and stalls*.\n"
            "3. **Out of memory** and the fullest GPUs: the page *memory and KV cache* shows what "
            "grows.\n"
            "4. **Without a whole span**: numbers below it are still right, single traces are missing.",
        ),
        Tiles(
            (
                Stat("Inferences per second now", "reqps", f"sum(model:inferences:rate5m{{{F}}})"),
                Stat(
                    "Failed",
                    "percentunit",
                    f"(sum(model:inference_errors:rate5m{{{F}}}) or vector(0)) / sum(model:inferences:rate5m{{{F}}})",
                    "Share of the inferences.",
                    (0.01, 0.05),
                ),
                Stat(
                    "p99, the slowest model",
                    "s",
                    f"max(model:inference_duration_seconds:p99_5m{{{F}}})",
                ),
                Stat(
                    "GPUs kept busy",
                    "short",
                    f"sum(model:gpu_seconds:rate5m{{{F}}})",
                    "GPU-seconds per second, as measured.",
                ),
                Stat(
                    "Idle GPUs",
                    "short",
                    "count(hw_id:gpu_utilization:ratio5m < on () group_left () warpspan:threshold:gpu_utilization_low) or vector(0)",
                    "The limit is in rules/thresholds.yaml.",
                ),
                Stat(
                    "Cost of inferences per hour",
                    "short",
                    f"sum(model:gpu_seconds:rate5m{{{F}}}) * $price",
                    "GPUs kept busy, times the price of a GPU-hour above.",
                ),
            )
        ),
        Row("Load and faults"),
        Graph(
            "Inferences per second",
            "reqps",
            ((f"sum by (service_name) (model:inferences:rate5m{{{F}}})", "{{service_name}}"),),
        ),
        Graph(
            "Failed inferences",
            "percentunit",
            (
                (
                    f"sum by (service_name) (model:inference_errors:rate5m{{{F}}}) / sum by (service_name) (model:inferences:rate5m{{{F}}})",
                    "{{service_name}}",
                ),
            ),
        ),
        Graph(
            "Inferences that ran out of memory",
            "short",
            (
                (
                    f"sum by (service_name, pytorch_model_name) (pytorch_inference_out_of_memory_total{{{F}}})",
                    OF_MODEL,
                ),
            ),
            "Since the processes started.",
        ),
        Graph(
            "Inferences without a whole span",
            "short",
            (
                (
                    f"sum by (service_name, warpspan_drop_reason) (warpspan_dropped_total{{{F}}})",
                    "{{service_name}} {{warpspan_drop_reason}}",
                ),
            ),
            "Dropped in the application, since it started. Metrics count them all the same.",
        ),
        Graph(
            "Queues of the collectors",
            "percentunit",
            (
                (
                    "max by (tier, exporter) (otelcol_exporter_queue_size / otelcol_exporter_queue_capacity)",
                    "{{tier}} {{exporter}}",
                ),
            ),
            "The fullest one of each tier.",
        ),
        Graph(
            "GPUs that inferences keep busy",
            "short",
            ((f"sum by (service_name) (model:gpu_seconds:rate5m{{{F}}})", "{{service_name}}"),),
            "GPU-seconds per second, as measured.",
        ),
        Row("GPUs"),
        Graph(
            "GPUs that are idle most of the time",
            "short",
            (
                ("count(hw_id:gpu_utilization:ratio5m)", "all"),
                (
                    "count(hw_id:gpu_utilization:ratio5m < on () group_left () warpspan:threshold:gpu_utilization_low)",
                    "idle",
                ),
            ),
            "Of all that run inferences; the limit is in rules/thresholds.yaml.",
        ),
        Graph(
            "Utilization of the GPUs",
            "percentunit",
            (
                ("max(hw_id:gpu_utilization:ratio5m)", "busiest"),
                ("quantile(0.5, hw_id:gpu_utilization:ratio5m)", "median"),
                ("min(hw_id:gpu_utilization:ratio5m)", "least busy"),
            ),
            "Share of the time in which any kernel ran, by NVML or DCGM.",
        ),
        Graph(
            "The ten GPUs with the fullest memory",
            "percentunit",
            (("topk(10, hw_id:gpu_memory_utilization:ratio)", "{{hw_id}}"),),
        ),
        Graph(
            "GPU-seconds per inference, as measured",
            "s",
            ((f"model:gpu_seconds_per_inference:measured_5m{{{F}}}", BY_MODEL),),
            "GPU-seconds: device time, shared where inferences overlapped.",
        ),
        Graph(
            "GPU-seconds per inference, by utilization: the ten highest",
            "s",
            (("topk(10, hw_id:gpu_seconds_per_inference:by_utilization_5m)", "{{hw_id}}"),),
            "Utilization over inferences a second: all that runs on the GPU is charged.",
        ),
        Graph("Power", "watt", (("sum(hw_id:power_watts:avg5m)", "all GPUs"),)),
        Traces(
            "Those that failed",
            "{ span.pytorch.operation.name != nil && status = error } | select(span.error.type, span.pytorch.model.name, span.pytorch.memory.oom.requested)",
        ),
    ),
)

MODEL = Page(
    "model",
    "PyTorch inference: model",
    (*FILTERS, "price"),
    (
        Note(
            "What to look at",
            "1. **Duration** far above **device** time: the host is the bottleneck. See *idle* below, "
            "and the page *transfers and stalls*.\n"
            "2. **Wait in the stream** grows with the load: the device is saturated. Larger batches, a "
            "faster model or more GPUs help; more host threads don't.\n"
            "3. Two bands in the heatmap are two kinds of requests (lengths, batch sizes): compare "
            "their traces, which the dots of the graph *Duration* lead to.\n"
            "4. **Cost** falls with batch size as long as the device has room.",
        ),
        Tiles(
            (
                Stat("Inferences per second now", "reqps", f"sum(model:inferences:rate5m{{{M}}})"),
                Stat(
                    "Failed",
                    "percentunit",
                    f"(sum(model:inference_errors:rate5m{{{M}}}) or vector(0)) / sum(model:inferences:rate5m{{{M}}})",
                    "Share of the inferences.",
                    (0.01, 0.05),
                ),
                Stat("p50", "s", _quantile_of_all(0.5)),
                Stat("p99", "s", _quantile_of_all(0.99)),
                Stat(
                    "Cost of 1,000 inferences",
                    "short",
                    f"1000 * sum(model:gpu_seconds:rate5m{{{M}}}) / sum(model:inferences:rate5m{{{M}}}) / 3600 * $price",
                    "GPU-seconds per inference, times the price of a GPU-hour above.",
                ),
                Stat(
                    "Energy of 1,000 inferences",
                    "joule",
                    f"1000 * sum(rate(pytorch_inference_energy_joules_sum{{{M}}}[5m])) / sum(rate(pytorch_inference_energy_joules_count{{{M}}}[5m]))",
                ),
            )
        ),
        Row("Latency"),
        Graph("Inferences per second", "reqps", ((f"model:inferences:rate5m{{{M}}}", BY_MODEL),)),
        each(
            "pytorch_inference_duration_seconds",
            "s",
            "Duration",
            "On the host. The dots are single inferences: click one for its trace.",
        ),
        Heatmap(
            "Durations",
            "s",
            "pytorch_inference_duration_seconds",
            "How many inferences per second took how long; the buckets of the histogram.",
        ),
        Heatmap(
            "Times on the device",
            "s",
            "pytorch_inference_device_duration_seconds",
            "Likewise, on the device.",
        ),
        each("pytorch_inference_device_duration_seconds", "s", "Time on the device"),
        each(
            "pytorch_inference_device_queue_duration_seconds",
            "s",
            "Wait in the stream before the device began",
        ),
        Row("Work and cost"),
        each("pytorch_inference_batch_size", "short", "Batch size"),
        Graph(
            "Device idle between inferences",
            "percentunit",
            (
                (
                    f"sum by (service_name, pytorch_model_name) (rate(pytorch_inference_idle_time_seconds_total{{{M}}}[5m]))",
                    OF_MODEL,
                ),
            ),
            "Share of the time, by the inference that ended the pause. Summed over devices.",
        ),
        Graph(
            "GPU-seconds per inference",
            "s",
            ((f"model:gpu_seconds_per_inference:measured_5m{{{M}}}", BY_MODEL),),
        ),
        Graph(
            "Energy per inference",
            "joule",
            ((f"model:joules_per_inference:measured_5m{{{M}}}", BY_MODEL),),
        ),
        Traces(
            "Inferences over a second",
            f"{{ {SPAN} && duration > 1s }} | select(span.pytorch.device.time, span.pytorch.device.queue.time, span.pytorch.sync.time, span.pytorch.host.cpu.time)",
        ),
    ),
)

GPU = Page(
    "gpu",
    "PyTorch inference: GPU",
    ("gpu",),
    (
        Graph(
            "Utilization",
            "percentunit",
            (
                (f"max by (hw_id) (hw_gpu_utilization_ratio{{{G}}})", "warpspan {{hw_id}}"),
                (dcgm('DCGM_FI_DEV_GPU_UTIL{UUID=~"$gpu"} / 100'), "DCGM {{hw_id}}"),
            ),
        ),
        Graph(
            "Memory in use",
            "bytes",
            (
                (f"max by (hw_id) (hw_gpu_memory_usage_bytes{{{G}}})", "warpspan {{hw_id}}"),
                (dcgm('DCGM_FI_DEV_FB_USED{UUID=~"$gpu"} * 1048576'), "DCGM {{hw_id}}"),
                (f"hw_id:gpu_memory_limit_bytes:max{{{G}}}", "all of {{hw_id}}"),
            ),
        ),
        Graph(
            "Power",
            "watt",
            (
                (f"max by (hw_id) (hw_power_watts{{{G}}})", "warpspan {{hw_id}}"),
                (dcgm('DCGM_FI_DEV_POWER_USAGE{UUID=~"$gpu"}'), "DCGM {{hw_id}}"),
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
        Graph(
            "Temperature",
            "celsius",
            (
                (f"max by (hw_id) (hw_temperature_celsius{{{G}}})", "warpspan {{hw_id}}"),
                (dcgm('DCGM_FI_DEV_GPU_TEMP{UUID=~"$gpu"}'), "DCGM {{hw_id}}"),
            ),
        ),
        Graph(
            "SM clock",
            "hertz",
            (
                (
                    f"sum by (hw_id) (rate(pytorch_inference_sm_cycles_elapsed_sum{{{G}}}[5m])) / sum by (hw_id) (rate(pytorch_inference_gpu_time_seconds_sum{{{G}}}[5m]))",
                    "in inferences {{hw_id}}",
                ),
                (dcgm('DCGM_FI_DEV_SM_CLOCK{UUID=~"$gpu"} * 1000000'), "DCGM {{hw_id}}"),
            ),
        ),
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
            "Power with and without inferences",
            "watt",
            (
                (
                    f"sum by (hw_id, pytorch_gpu_activity) (rate(pytorch_gpu_sampled_energy_joules_total{{{G}}}[5m]))",
                    "{{hw_id}} {{pytorch_gpu_activity}}",
                ),
            ),
            "Joules a second; both together are the GPU's power.",
        ),
        Graph(
            "Inferences per second", "reqps", ((f"hw_id:inferences:rate5m{{{G}}}", "{{hw_id}}"),)
        ),
        Graph(
            "Memory errors",
            "short",
            (
                (
                    f"max by (hw_id, error_type) (hw_errors_total{{{G}}})",
                    "{{hw_id}} {{error_type}}",
                ),
            ),
            "Since the driver was loaded.",
        ),
    ),
)
