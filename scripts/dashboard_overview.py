"""The dashboards of many: all services, one model, and the GPUs with DCGM's series beside ours."""

from __future__ import annotations

from dashboard_panels import BY_MODEL, OF_MODEL, SPAN, G, Graph, M, Page, Traces, dcgm, each

FLEET = Page(
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
            "Cost of an inference, as measured",
            "s",
            (("model:gpu_seconds_per_inference:measured_5m", BY_MODEL),),
            "GPU-seconds: device time, shared where inferences overlapped.",
        ),
        Graph(
            "Cost of an inference, by utilization: the ten highest",
            "s",
            (("topk(10, hw_id:gpu_seconds_per_inference:by_utilization_5m)", "{{hw_id}}"),),
            "Utilization over inferences a second: all that runs on the GPU is charged.",
        ),
        Graph("Power", "watt", (("sum(hw_id:power_watts:avg5m)", "all GPUs"),)),
        Graph(
            "Inferences that ran out of memory",
            "short",
            (
                (
                    "sum by (service_name, pytorch_model_name) (pytorch_inference_out_of_memory_total)",
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
                    "sum by (service_name, warpspan_drop_reason) (warpspan_dropped_total)",
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
        Traces(
            "Those that failed",
            "{ span.pytorch.operation.name != nil && status = error } | select(span.error.type, span.pytorch.model.name, span.pytorch.memory.oom.requested)",
        ),
    ),
)

MODEL = Page(
    "model",
    "PyTorch inference: model",
    ("service", "model"),
    (
        Graph("Inferences a second", "reqps", ((f"model:inferences:rate5m{{{M}}}", BY_MODEL),)),
        each(
            "pytorch_inference_duration_seconds",
            "s",
            "Duration",
            "On the host. The dots are single inferences: click one for its trace.",
        ),
        each("pytorch_inference_device_duration_seconds", "s", "Time on the device"),
        each(
            "pytorch_inference_device_queue_duration_seconds",
            "s",
            "Wait in the stream before the device began",
        ),
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
        Graph("Inferences a second", "reqps", ((f"hw_id:inferences:rate5m{{{G}}}", "{{hw_id}}"),)),
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
