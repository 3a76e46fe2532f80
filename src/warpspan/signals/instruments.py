"""All metrics, written from registry.yaml by `make signals`."""

from __future__ import annotations

from typing import Final, NamedTuple


class Metric(NamedTuple):
    """A metric as it is created: `buckets` only for histograms."""

    name: str
    instrument: str
    unit: str
    description: str
    buckets: tuple[float, ...] | None = None


PYTORCH_INFERENCE_DURATION: Final = Metric(
    "pytorch.inference.duration",
    "histogram",
    "s",
    "Duration of the inference on the host.",
    (
        0.0005,
        0.001,
        0.0025,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1.0,
        2.5,
        5.0,
        10.0,
        30.0,
        60.0,
    ),
)
PYTORCH_INFERENCE_DEVICE_DURATION: Final = Metric(
    "pytorch.inference.device.duration",
    "histogram",
    "s",
    "Device time of the inference (`pytorch.device.time`).",
    (
        0.0001,
        0.00025,
        0.0005,
        0.001,
        0.0025,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1.0,
        2.5,
        5.0,
        10.0,
        30.0,
        60.0,
    ),
)
PYTORCH_INFERENCE_DEVICE_QUEUE_DURATION: Final = Metric(
    "pytorch.inference.device.queue.duration",
    "histogram",
    "s",
    "Wait in the stream before the device began (`pytorch.device.queue.time`).",
    (
        1e-05,
        5e-05,
        0.0001,
        0.00025,
        0.0005,
        0.001,
        0.0025,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.5,
        1.0,
    ),
)
PYTORCH_INFERENCE_BATCH_SIZE: Final = Metric(
    "pytorch.inference.batch.size",
    "histogram",
    "{item}",
    "Batch size of the inference.",
    (
        1.0,
        2.0,
        4.0,
        8.0,
        16.0,
        32.0,
        64.0,
        128.0,
        256.0,
        512.0,
        1024.0,
    ),
)
PYTORCH_INFERENCE_MEMORY_PEAK: Final = Metric(
    "pytorch.inference.memory.peak",
    "histogram",
    "By",
    "Peak of bytes in live tensors inside the inference (`pytorch.memory.peak.size`).",
    (
        67108864.0,
        268435456.0,
        1073741824.0,
        2147483648.0,
        4294967296.0,
        8589934592.0,
        17179869184.0,
        34359738368.0,
        68719476736.0,
        137438953472.0,
        206158430208.0,
    ),
)
PYTORCH_INFERENCE_IDLE_TIME: Final = Metric(
    "pytorch.inference.idle.time",
    "counter",
    "s",
    "Time of the device between inferences of this process (`pytorch.device.idle.time`), counted for the inference that ended it.",
)
PYTORCH_INFERENCE_SYNC_CALLS: Final = Metric(
    "pytorch.inference.sync.calls",
    "counter",
    "{call}",
    "Calls in which inferences waited for the device (`pytorch.sync.counts`).",
)
PYTORCH_INFERENCE_SYNC_TIME: Final = Metric(
    "pytorch.inference.sync.time",
    "counter",
    "s",
    "Host time inside these waits (`pytorch.sync.times`).",
)
PYTORCH_INFERENCE_TRANSFER_COPIES: Final = Metric(
    "pytorch.inference.transfer.copies",
    "counter",
    "{copy}",
    "Copies over the bus for inferences (`pytorch.transfer.*.count`).",
)
PYTORCH_INFERENCE_TRANSFER_IO: Final = Metric(
    "pytorch.inference.transfer.io",
    "counter",
    "By",
    "Bytes of these copies (`pytorch.transfer.*.size`).",
)
PYTORCH_INFERENCE_TRANSFER_TIME: Final = Metric(
    "pytorch.inference.transfer.time",
    "counter",
    "s",
    "Device time of the copies of at least 256 KiB (`pytorch.transfer.*.time`).",
)
PYTORCH_INFERENCE_OUT_OF_MEMORY: Final = Metric(
    "pytorch.inference.out_of_memory",
    "counter",
    "{error}",
    "Inferences that ran out of memory.",
)
PYTORCH_INFERENCE_ACTIVE: Final = Metric(
    "pytorch.inference.active",
    "updowncounter",
    "{inference}",
    "Inferences that are open now.",
)
PYTORCH_MEMORY_USAGE: Final = Metric(
    "pytorch.memory.usage",
    "updowncounter",
    "By",
    "Memory of torch's caching allocator, read when the last inference ended.",
)
PYTORCH_INFERENCE_TOKEN_FIRST_DURATION: Final = Metric(
    "pytorch.inference.token.first.duration",
    "histogram",
    "s",
    "Time to the first token (`pytorch.token.first.time`).",
    (
        0.001,
        0.005,
        0.01,
        0.02,
        0.04,
        0.06,
        0.08,
        0.1,
        0.25,
        0.5,
        0.75,
        1.0,
        2.5,
        5.0,
        7.5,
        10.0,
    ),
)
PYTORCH_INFERENCE_TOKEN_DURATION: Final = Metric(
    "pytorch.inference.token.duration",
    "histogram",
    "s",
    "Mean time per output token after the first (`pytorch.token.duration.mean`).",
    (
        0.0001,
        0.00025,
        0.0005,
        0.001,
        0.0025,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1.0,
        2.5,
    ),
)
PYTORCH_INFERENCE_TOKENS: Final = Metric(
    "pytorch.inference.tokens",
    "counter",
    "{token}",
    "Tokens of the input, and generated tokens.",
)
PYTORCH_INFERENCE_DENOISE_STEP_DURATION: Final = Metric(
    "pytorch.inference.denoise.step.duration",
    "histogram",
    "s",
    "Mean time of a denoising step (`pytorch.denoise.step.duration.mean`).",
    (
        0.001,
        0.0025,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1.0,
        2.5,
        5.0,
        10.0,
    ),
)
GEN_AI_SERVER_REQUEST_DURATION: Final = Metric(
    "gen_ai.server.request.duration",
    "histogram",
    "s",
    "OpenTelemetry's GenAI metric: duration of the request, here of the inference.",
    (
        0.01,
        0.02,
        0.04,
        0.08,
        0.16,
        0.32,
        0.64,
        1.28,
        2.56,
        5.12,
        10.24,
        20.48,
        40.96,
        81.92,
    ),
)
GEN_AI_SERVER_TIME_TO_FIRST_TOKEN: Final = Metric(
    "gen_ai.server.time_to_first_token",
    "histogram",
    "s",
    "OpenTelemetry's GenAI metric, of successful inferences.",
    (
        0.001,
        0.005,
        0.01,
        0.02,
        0.04,
        0.06,
        0.08,
        0.1,
        0.25,
        0.5,
        0.75,
        1.0,
        2.5,
        5.0,
        7.5,
        10.0,
    ),
)
GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN: Final = Metric(
    "gen_ai.server.time_per_output_token",
    "histogram",
    "s",
    "OpenTelemetry's GenAI metric, of successful inferences.",
    (
        0.01,
        0.025,
        0.05,
        0.075,
        0.1,
        0.15,
        0.2,
        0.3,
        0.4,
        0.5,
        0.75,
        1.0,
        2.5,
    ),
)
PYTORCH_INFERENCE_GPU_TIME: Final = Metric(
    "pytorch.inference.gpu.time",
    "histogram",
    "s",
    "GPU-seconds of the inference (`pytorch.gpu.time`).",
    (
        0.0001,
        0.00025,
        0.0005,
        0.001,
        0.0025,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1.0,
        2.5,
        5.0,
        10.0,
        30.0,
        60.0,
    ),
)
PYTORCH_INFERENCE_SM_CYCLES_ELAPSED: Final = Metric(
    "pytorch.inference.sm.cycles.elapsed",
    "histogram",
    "{cycle}",
    "Cycles of the SM clock of the inference (`pytorch.sm.cycles.elapsed`).",
    (
        1000000.0,
        2500000.0,
        5000000.0,
        10000000.0,
        25000000.0,
        50000000.0,
        100000000.0,
        250000000.0,
        500000000.0,
        1000000000.0,
        2500000000.0,
        10000000000.0,
        100000000000.0,
    ),
)
PYTORCH_INFERENCE_SM_CYCLES_ACTIVE: Final = Metric(
    "pytorch.inference.sm.cycles.active",
    "histogram",
    "{cycle}",
    "Active cycles of all multiprocessors for the inference (`pytorch.sm.cycles.active`).",
    (
        10000000.0,
        100000000.0,
        250000000.0,
        500000000.0,
        1000000000.0,
        2500000000.0,
        5000000000.0,
        10000000000.0,
        25000000000.0,
        100000000000.0,
        1000000000000.0,
        10000000000000.0,
    ),
)
PYTORCH_INFERENCE_ENERGY: Final = Metric(
    "pytorch.inference.energy",
    "histogram",
    "J",
    "Energy of the inference (`pytorch.energy.used`).",
    (
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1.0,
        2.5,
        5.0,
        10.0,
        25.0,
        50.0,
        100.0,
        250.0,
        500.0,
        1000.0,
        5000.0,
        10000.0,
    ),
)
PYTORCH_GPU_SAMPLED_TIME: Final = Metric(
    "pytorch.gpu.sampled.time",
    "counter",
    "s",
    "Time of the device since sampling began. The two activities add up to the total.",
)
PYTORCH_GPU_SAMPLED_ENERGY: Final = Metric(
    "pytorch.gpu.sampled.energy",
    "counter",
    "J",
    "Energy of the device since sampling began, likewise.",
)
PYTORCH_GPU_SAMPLED_CYCLES: Final = Metric(
    "pytorch.gpu.sampled.cycles",
    "counter",
    "{cycle}",
    "Active cycles of all multiprocessors of the device since sampling began, likewise.",
)
PYTORCH_INFERENCE_KV_CACHE_SIZE: Final = Metric(
    "pytorch.inference.kv_cache.size",
    "histogram",
    "By",
    "Size of the KV cache when the inference ended (`pytorch.kv_cache.size`).",
    (
        1048576.0,
        4194304.0,
        16777216.0,
        67108864.0,
        268435456.0,
        1073741824.0,
        2147483648.0,
        4294967296.0,
        8589934592.0,
        17179869184.0,
        34359738368.0,
        68719476736.0,
    ),
)
PYTORCH_INFERENCE_KV_CACHE_GROWTH: Final = Metric(
    "pytorch.inference.kv_cache.growth",
    "counter",
    "By",
    "Bytes that inferences added to KV caches.",
)
PYTORCH_KV_CACHE_USAGE: Final = Metric(
    "pytorch.kv_cache.usage",
    "updowncounter",
    "By",
    "Bytes of the KV caches of a model that are alive, each as large as it was at its last inference.",
)
PYTORCH_KV_CACHE_COUNT: Final = Metric(
    "pytorch.kv_cache.count",
    "updowncounter",
    "{cache}",
    "KV caches of a model that are alive.",
)
PYTORCH_KV_CACHE_LEAK_SCORE: Final = Metric(
    "pytorch.kv_cache.leak.score",
    "gauge",
    "1",
    "Estimated probability that the growing caches are never released (`pytorch.kv_cache.leak.score`).",
)
HW_GPU_UTILIZATION: Final = Metric(
    "hw.gpu.utilization",
    "gauge",
    "1",
    "Share of the time in which any kernel ran.",
)
HW_GPU_MEMORY_USAGE: Final = Metric(
    "hw.gpu.memory.usage",
    "updowncounter",
    "By",
    "Memory of the device in use.",
)
HW_GPU_MEMORY_LIMIT: Final = Metric(
    "hw.gpu.memory.limit",
    "updowncounter",
    "By",
    "Memory of the device.",
)
HW_GPU_MEMORY_UTILIZATION: Final = Metric(
    "hw.gpu.memory.utilization",
    "gauge",
    "1",
    "Memory of the device in use, divided by its total memory.",
)
HW_POWER: Final = Metric(
    "hw.power",
    "gauge",
    "W",
    "Power of the device.",
)
HW_ENERGY: Final = Metric(
    "hw.energy",
    "counter",
    "J",
    "Energy of the device since its driver was loaded.",
)
HW_TEMPERATURE: Final = Metric(
    "hw.temperature",
    "gauge",
    "Cel",
    "Temperature of the device.",
)
HW_ERRORS: Final = Metric(
    "hw.errors",
    "counter",
    "{error}",
    "Memory errors of the device since its driver was loaded, corrected and uncorrected.",
)
WARPSPAN_SAMPLER_SAMPLES: Final = Metric(
    "warpspan.sampler.samples",
    "counter",
    "{sample}",
    "Samples taken of the device.",
)
WARPSPAN_SAMPLER_TIME: Final = Metric(
    "warpspan.sampler.time",
    "counter",
    "s",
    "Time that the driver took for the samples, on a thread of warpspan.",
)
WARPSPAN_DROPPED: Final = Metric(
    "warpspan.dropped",
    "counter",
    "{inference}",
    "Inferences that were not recorded, or only in part.",
)
WARPSPAN_SKIPPED: Final = Metric(
    "warpspan.skipped",
    "counter",
    "{call}",
    "Outermost module calls that were no inference.",
)
WARPSPAN_LABELS_FOLDED: Final = Metric(
    "warpspan.labels.folded",
    "counter",
    "{inference}",
    "Inferences with an attribute that metrics name `other`, because the process has too many values of it. Spans keep the true value.",
)
WARPSPAN_FAULTS: Final = Metric(
    "warpspan.faults",
    "counter",
    "{fault}",
    "Errors of warpspan itself that were caught. Each cause is logged once.",
)
WARPSPAN_QUEUE_SIZE: Final = Metric(
    "warpspan.queue.size",
    "updowncounter",
    "{inference}",
    "Inferences that have ended and wait for the finisher.",
)
WARPSPAN_FINISHER_SLICE_MAX: Final = Metric(
    "warpspan.finisher.slice.max",
    "gauge",
    "s",
    "The longest turn of the finisher since the previous collection. It shares the GIL with the callers.",
)
WARPSPAN_EXPORT_DROPPED: Final = Metric(
    "warpspan.export.dropped",
    "counter",
    "{item}",
    "Spans, metric points and log records that the exporter `warpspan_otlp` lost.",
)
WARPSPAN_EXPORT_BACKLOG: Final = Metric(
    "warpspan.export.backlog",
    "updowncounter",
    "By",
    "Bytes that the export helper has not confirmed yet.",
)
WARPSPAN_EXPORT_SLICE_MAX: Final = Metric(
    "warpspan.export.slice.max",
    "gauge",
    "s",
    "The longest turn of packing items for the helper since the previous collection.",
)
