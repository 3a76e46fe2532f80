"""Names of every attribute and metric, written from signals.yaml by `make signals`."""

from __future__ import annotations

from typing import Final, NamedTuple


class Metric(NamedTuple):
    """A metric as it is created: `buckets` only for histograms."""

    name: str
    unit: str
    description: str
    buckets: tuple[float, ...] | None = None


PYTORCH_OPERATION_NAME: Final = "pytorch.operation.name"
PYTORCH_MODEL_NAME: Final = "pytorch.model.name"
PYTORCH_DEVICE_TYPE: Final = "pytorch.device.type"
PYTORCH_DEVICE_INDEX: Final = "pytorch.device.index"
HW_ID: Final = "hw.id"
PYTORCH_MODEL_PARAMETER_COUNT: Final = "pytorch.model.parameter.count"
PYTORCH_MODEL_PARAMETER_SIZE: Final = "pytorch.model.parameter.size"
PYTORCH_MODEL_DTYPE: Final = "pytorch.model.dtype"
PYTORCH_MODEL_QUANTIZATION: Final = "pytorch.model.quantization"
PYTORCH_MODEL_COMPILED: Final = "pytorch.model.compiled"
PYTORCH_MODEL_DEVICE_COUNT: Final = "pytorch.model.device.count"
PYTORCH_INPUT_BATCH_SIZE: Final = "pytorch.input.batch.size"
PYTORCH_INPUT_SEQUENCE_LENGTH: Final = "pytorch.input.sequence.length"
PYTORCH_INPUT_SHAPE: Final = "pytorch.input.shape"
PYTORCH_HOST_CPU_TIME: Final = "pytorch.host.cpu.time"
PYTORCH_DEVICE_TIME: Final = "pytorch.device.time"
PYTORCH_DEVICE_QUEUE_TIME: Final = "pytorch.device.queue.time"
PYTORCH_DEVICE_IDLE_TIME: Final = "pytorch.device.idle.time"
PYTORCH_INFERENCE_CONCURRENCY: Final = "pytorch.inference.concurrency"
PYTORCH_HOST_GC_TIME: Final = "pytorch.host.gc.time"
PYTORCH_HOST_GC_COUNT: Final = "pytorch.host.gc.count"
PYTORCH_MEMORY_ALLOCATED_START: Final = "pytorch.memory.allocated.start"
PYTORCH_MEMORY_ALLOCATED_END: Final = "pytorch.memory.allocated.end"
PYTORCH_MEMORY_PEAK_SIZE: Final = "pytorch.memory.peak.size"
PYTORCH_MEMORY_PEAK_INCREASE: Final = "pytorch.memory.peak.increase"
PYTORCH_MEMORY_RESERVED: Final = "pytorch.memory.reserved"
PYTORCH_MEMORY_LIMIT: Final = "pytorch.memory.limit"
PYTORCH_MEMORY_UTILIZATION: Final = "pytorch.memory.utilization"
PYTORCH_MEMORY_ALLOCATION_RETRIES: Final = "pytorch.memory.allocation.retries"
PYTORCH_MEMORY_OOM_REQUESTED: Final = "pytorch.memory.oom.requested"
PYTORCH_HOST_MEMORY_RSS: Final = "pytorch.host.memory.rss"
PYTORCH_STEP_COUNT: Final = "pytorch.step.count"
PYTORCH_STEP_FIRST_TIME: Final = "pytorch.step.first.time"
PYTORCH_STEP_TIME: Final = "pytorch.step.time"
PYTORCH_KV_CACHE_TYPE: Final = "pytorch.kv_cache.type"
PYTORCH_KV_CACHE_SIZE: Final = "pytorch.kv_cache.size"
PYTORCH_KV_CACHE_INCREASE: Final = "pytorch.kv_cache.increase"
PYTORCH_KV_CACHE_TOKEN_COUNT: Final = "pytorch.kv_cache.token.count"
PYTORCH_KV_CACHE_TOKEN_INCREASE: Final = "pytorch.kv_cache.token.increase"
PYTORCH_KV_CACHE_TOKEN_CAPACITY: Final = "pytorch.kv_cache.token.capacity"
PYTORCH_KV_CACHE_LAYER_COUNT: Final = "pytorch.kv_cache.layer.count"
PYTORCH_KV_CACHE_RETAINED: Final = "pytorch.kv_cache.retained"
PYTORCH_KV_CACHE_WEIGHT_RATIO: Final = "pytorch.kv_cache.weight.ratio"
PYTORCH_KV_CACHE_UTILIZATION: Final = "pytorch.kv_cache.utilization"
PYTORCH_KV_CACHE_ALIVE_SIZE: Final = "pytorch.kv_cache.alive.size"
PYTORCH_KV_CACHE_ALIVE_COUNT: Final = "pytorch.kv_cache.alive.count"
PYTORCH_KV_CACHE_LEAK_SCORE: Final = "pytorch.kv_cache.leak.score"
PYTORCH_KV_CACHE_LEAK_START: Final = "pytorch.kv_cache.leak.start"
PYTORCH_PIPELINE_NAME: Final = "pytorch.pipeline.name"
PYTORCH_STEP_SOURCE: Final = "pytorch.step.source"
PYTORCH_STEP_DURATION_MEAN: Final = "pytorch.step.duration.mean"
PYTORCH_STEP_DURATION_P50: Final = "pytorch.step.duration.p50"
PYTORCH_STEP_DURATION_P99: Final = "pytorch.step.duration.p99"
PYTORCH_STEP_DURATION_MAX: Final = "pytorch.step.duration.max"
PYTORCH_ENCODER_TIME: Final = "pytorch.encoder.time"
PYTORCH_PREPROCESS_TIME: Final = "pytorch.preprocess.time"
PYTORCH_POSTPROCESS_TIME: Final = "pytorch.postprocess.time"
PYTORCH_TOKEN_INPUT_COUNT: Final = "pytorch.token.input.count"
PYTORCH_TOKEN_GENERATED_COUNT: Final = "pytorch.token.generated.count"
PYTORCH_TOKEN_FIRST_TIME: Final = "pytorch.token.first.time"
PYTORCH_TOKEN_DURATION_MEAN: Final = "pytorch.token.duration.mean"
PYTORCH_TOKEN_DURATION_P50: Final = "pytorch.token.duration.p50"
PYTORCH_TOKEN_DURATION_P99: Final = "pytorch.token.duration.p99"
PYTORCH_TOKEN_DURATION_MAX: Final = "pytorch.token.duration.max"
PYTORCH_PREFILL_TIME: Final = "pytorch.prefill.time"
PYTORCH_PREFILL_SM_CYCLES_ACTIVE: Final = "pytorch.prefill.sm.cycles.active"
PYTORCH_PREFILL_SM_CYCLES_ELAPSED: Final = "pytorch.prefill.sm.cycles.elapsed"
PYTORCH_PREFILL_SM_ESTIMATED: Final = "pytorch.prefill.sm.estimated"
PYTORCH_DECODE_TIME: Final = "pytorch.decode.time"
PYTORCH_DECODE_STEP_COUNT: Final = "pytorch.decode.step.count"
PYTORCH_DECODE_BETWEEN_TIME: Final = "pytorch.decode.between.time"
PYTORCH_DECODE_BETWEEN_SHARE: Final = "pytorch.decode.between.share"
PYTORCH_DECODE_SM_CYCLES_ACTIVE: Final = "pytorch.decode.sm.cycles.active"
PYTORCH_DECODE_SM_CYCLES_ELAPSED: Final = "pytorch.decode.sm.cycles.elapsed"
PYTORCH_DECODE_SM_ESTIMATED: Final = "pytorch.decode.sm.estimated"
PYTORCH_ASSISTANT_STEP_COUNT: Final = "pytorch.assistant.step.count"
PYTORCH_ASSISTANT_TIME: Final = "pytorch.assistant.time"
PYTORCH_DENOISE_STEP_COUNT: Final = "pytorch.denoise.step.count"
PYTORCH_DENOISE_TIME: Final = "pytorch.denoise.time"
PYTORCH_DENOISE_STEP_DURATION_MEAN: Final = "pytorch.denoise.step.duration.mean"
PYTORCH_DENOISE_STEP_DURATION_P50: Final = "pytorch.denoise.step.duration.p50"
PYTORCH_DENOISE_STEP_DURATION_P99: Final = "pytorch.denoise.step.duration.p99"
PYTORCH_DENOISE_STEP_DURATION_MAX: Final = "pytorch.denoise.step.duration.max"
PYTORCH_VAE_TIME: Final = "pytorch.vae.time"
PYTORCH_VAE_SHARE: Final = "pytorch.vae.share"
PYTORCH_TEXT_ENCODER_TIME: Final = "pytorch.text_encoder.time"
PYTORCH_TEXT_ENCODER_SHARE: Final = "pytorch.text_encoder.share"
GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
PYTORCH_STEP_PHASE: Final = "pytorch.step.phase"
PYTORCH_STEP_PHASES: Final = "pytorch.step.phases"
PYTORCH_STEP_STARTS: Final = "pytorch.step.starts"
PYTORCH_STEP_DURATIONS: Final = "pytorch.step.durations"
PYTORCH_GPU_TIME: Final = "pytorch.gpu.time"
PYTORCH_SM_CYCLES_ACTIVE: Final = "pytorch.sm.cycles.active"
PYTORCH_SM_CYCLES_ELAPSED: Final = "pytorch.sm.cycles.elapsed"
PYTORCH_SM_CLOCK: Final = "pytorch.sm.clock"
PYTORCH_SM_UTILIZATION: Final = "pytorch.sm.utilization"
PYTORCH_SM_OCCUPANCY: Final = "pytorch.sm.occupancy"
PYTORCH_TENSOR_CORE_UTILIZATION: Final = "pytorch.tensor_core.utilization"
PYTORCH_DRAM_UTILIZATION: Final = "pytorch.dram.utilization"
PYTORCH_SM_SOURCE: Final = "pytorch.sm.source"
PYTORCH_SM_SCOPE: Final = "pytorch.sm.scope"
PYTORCH_ENERGY_USED: Final = "pytorch.energy.used"
PYTORCH_ENERGY_POWER: Final = "pytorch.energy.power"
PYTORCH_ENERGY_SOURCE: Final = "pytorch.energy.source"
PYTORCH_GPU_UTILIZATION: Final = "pytorch.gpu.utilization"
PYTORCH_GPU_TEMPERATURE: Final = "pytorch.gpu.temperature"
PYTORCH_GPU_THROTTLE_REASONS: Final = "pytorch.gpu.throttle.reasons"
PYTORCH_GPU_ESTIMATED: Final = "pytorch.gpu.estimated"
PYTORCH_SYNC_COUNT: Final = "pytorch.sync.count"
PYTORCH_SYNC_TIME: Final = "pytorch.sync.time"
PYTORCH_SYNC_LONGEST_KIND: Final = "pytorch.sync.longest.kind"
PYTORCH_SYNC_LONGEST_TIME: Final = "pytorch.sync.longest.time"
PYTORCH_SYNC_REPEATED_KIND: Final = "pytorch.sync.repeated.kind"
PYTORCH_SYNC_LONGEST_CODE_FILE_PATH: Final = "pytorch.sync.longest.code.file.path"
PYTORCH_SYNC_LONGEST_CODE_LINE_NUMBER: Final = "pytorch.sync.longest.code.line.number"
PYTORCH_SYNC_LONGEST_CODE_FUNCTION_NAME: Final = "pytorch.sync.longest.code.function.name"
PYTORCH_SYNC_REPEATED_CODE_FILE_PATH: Final = "pytorch.sync.repeated.code.file.path"
PYTORCH_SYNC_REPEATED_CODE_LINE_NUMBER: Final = "pytorch.sync.repeated.code.line.number"
PYTORCH_SYNC_REPEATED_CODE_FUNCTION_NAME: Final = "pytorch.sync.repeated.code.function.name"
PYTORCH_SYNC_SYNCHRONIZE_COUNT: Final = "pytorch.sync.synchronize.count"
PYTORCH_SYNC_SYNCHRONIZE_TIME: Final = "pytorch.sync.synchronize.time"
PYTORCH_SYNC_STREAM_COUNT: Final = "pytorch.sync.stream.count"
PYTORCH_SYNC_STREAM_TIME: Final = "pytorch.sync.stream.time"
PYTORCH_SYNC_EVENT_COUNT: Final = "pytorch.sync.event.count"
PYTORCH_SYNC_EVENT_TIME: Final = "pytorch.sync.event.time"
PYTORCH_SYNC_ITEM_COUNT: Final = "pytorch.sync.item.count"
PYTORCH_SYNC_ITEM_TIME: Final = "pytorch.sync.item.time"
PYTORCH_SYNC_TOLIST_COUNT: Final = "pytorch.sync.tolist.count"
PYTORCH_SYNC_TOLIST_TIME: Final = "pytorch.sync.tolist.time"
PYTORCH_SYNC_NUMPY_COUNT: Final = "pytorch.sync.numpy.count"
PYTORCH_SYNC_NUMPY_TIME: Final = "pytorch.sync.numpy.time"
PYTORCH_SYNC_NONZERO_COUNT: Final = "pytorch.sync.nonzero.count"
PYTORCH_SYNC_NONZERO_TIME: Final = "pytorch.sync.nonzero.time"
PYTORCH_SYNC_BOOL_COUNT: Final = "pytorch.sync.bool.count"
PYTORCH_SYNC_BOOL_TIME: Final = "pytorch.sync.bool.time"
PYTORCH_SYNC_INT_COUNT: Final = "pytorch.sync.int.count"
PYTORCH_SYNC_INT_TIME: Final = "pytorch.sync.int.time"
PYTORCH_SYNC_FLOAT_COUNT: Final = "pytorch.sync.float.count"
PYTORCH_SYNC_FLOAT_TIME: Final = "pytorch.sync.float.time"
PYTORCH_SYNC_INDEX_COUNT: Final = "pytorch.sync.index.count"
PYTORCH_SYNC_INDEX_TIME: Final = "pytorch.sync.index.time"
PYTORCH_SYNC_CONTAINS_COUNT: Final = "pytorch.sync.contains.count"
PYTORCH_SYNC_CONTAINS_TIME: Final = "pytorch.sync.contains.time"
PYTORCH_SYNC_CPU_COUNT: Final = "pytorch.sync.cpu.count"
PYTORCH_SYNC_CPU_TIME: Final = "pytorch.sync.cpu.time"
PYTORCH_SYNC_TO_COUNT: Final = "pytorch.sync.to.count"
PYTORCH_SYNC_TO_TIME: Final = "pytorch.sync.to.time"
PYTORCH_SYNC_CUDA_COUNT: Final = "pytorch.sync.cuda.count"
PYTORCH_SYNC_CUDA_TIME: Final = "pytorch.sync.cuda.time"
PYTORCH_SYNC_COPY_COUNT: Final = "pytorch.sync.copy.count"
PYTORCH_SYNC_COPY_TIME: Final = "pytorch.sync.copy.time"
PYTORCH_TRANSFER_H2D_COUNT: Final = "pytorch.transfer.h2d.count"
PYTORCH_TRANSFER_H2D_SIZE: Final = "pytorch.transfer.h2d.size"
PYTORCH_TRANSFER_H2D_PAGEABLE_SIZE: Final = "pytorch.transfer.h2d.pageable.size"
PYTORCH_TRANSFER_H2D_WEIGHTS_SIZE: Final = "pytorch.transfer.h2d.weights.size"
PYTORCH_TRANSFER_H2D_TIME: Final = "pytorch.transfer.h2d.time"
PYTORCH_TRANSFER_H2D_BANDWIDTH: Final = "pytorch.transfer.h2d.bandwidth"
PYTORCH_TRANSFER_H2D_DEVICE_SHARE: Final = "pytorch.transfer.h2d.device.share"
PYTORCH_TRANSFER_D2H_COUNT: Final = "pytorch.transfer.d2h.count"
PYTORCH_TRANSFER_D2H_SIZE: Final = "pytorch.transfer.d2h.size"
PYTORCH_TRANSFER_D2H_PAGEABLE_SIZE: Final = "pytorch.transfer.d2h.pageable.size"
PYTORCH_TRANSFER_D2H_WEIGHTS_SIZE: Final = "pytorch.transfer.d2h.weights.size"
PYTORCH_TRANSFER_D2H_TIME: Final = "pytorch.transfer.d2h.time"
PYTORCH_TRANSFER_D2H_BANDWIDTH: Final = "pytorch.transfer.d2h.bandwidth"
PYTORCH_TRANSFER_D2H_DEVICE_SHARE: Final = "pytorch.transfer.d2h.device.share"
PYTORCH_TRANSFER_D2D_COUNT: Final = "pytorch.transfer.d2d.count"
PYTORCH_TRANSFER_D2D_SIZE: Final = "pytorch.transfer.d2d.size"
PYTORCH_TRANSFER_D2D_PAGEABLE_SIZE: Final = "pytorch.transfer.d2d.pageable.size"
PYTORCH_TRANSFER_D2D_WEIGHTS_SIZE: Final = "pytorch.transfer.d2d.weights.size"
PYTORCH_TRANSFER_D2D_TIME: Final = "pytorch.transfer.d2d.time"
PYTORCH_TRANSFER_D2D_BANDWIDTH: Final = "pytorch.transfer.d2d.bandwidth"
PYTORCH_TRANSFER_D2D_DEVICE_SHARE: Final = "pytorch.transfer.d2d.device.share"
PYTORCH_TRANSFER_PIN_COUNT: Final = "pytorch.transfer.pin.count"
PYTORCH_TRANSFER_PIN_SIZE: Final = "pytorch.transfer.pin.size"
PYTORCH_TRANSFER_PIN_TIME: Final = "pytorch.transfer.pin.time"
ERROR_TYPE: Final = "error.type"
PYTORCH_MEMORY_STATE: Final = "pytorch.memory.state"
PYTORCH_TOKEN_TYPE: Final = "pytorch.token.type"
PYTORCH_GPU_ACTIVITY: Final = "pytorch.gpu.activity"
PYTORCH_SYNC_KIND: Final = "pytorch.sync.kind"
PYTORCH_TRANSFER_DIRECTION: Final = "pytorch.transfer.direction"
PYTORCH_TRANSFER_MEMORY: Final = "pytorch.transfer.memory"
HW_NAME: Final = "hw.name"
HW_VENDOR: Final = "hw.vendor"
HW_TYPE: Final = "hw.type"
WARPSPAN_DROP_REASON: Final = "warpspan.drop.reason"
WARPSPAN_SIGNAL: Final = "warpspan.signal"
WARPSPAN_FAULT_ORIGIN: Final = "warpspan.fault.origin"
HOST_GPU_ID: Final = "host.gpu.id"
HOST_GPU_NAME: Final = "host.gpu.name"
HOST_GPU_MEMORY_SIZE: Final = "host.gpu.memory.size"
HOST_GPU_MIG_PROFILE: Final = "host.gpu.mig.profile"
HOST_GPU_DRIVER_VERSION: Final = "host.gpu.driver.version"
HOST_GPU_CUDA_VERSION: Final = "host.gpu.cuda.version"
PYTORCH_BENCH_PROVIDER: Final = "pytorch.bench.provider"
PYTORCH_BENCH_SHAPE: Final = "pytorch.bench.shape"
PYTORCH_BENCH_DTYPE: Final = "pytorch.bench.dtype"
PYTORCH_BENCH_CACHE: Final = "pytorch.bench.cache"
PYTORCH_BENCH_METHOD: Final = "pytorch.bench.method"
PYTORCH_BENCH_UNAVAILABLE_REASON: Final = "pytorch.bench.unavailable.reason"
PYTORCH_BENCH_LAUNCH_COUNT: Final = "pytorch.bench.launch.count"
PYTORCH_BENCH_DEVICE_TIME_P20: Final = "pytorch.bench.device.time.p20"
PYTORCH_BENCH_DEVICE_TIME_P80: Final = "pytorch.bench.device.time.p80"
PYTORCH_BENCH_WALL_TIME: Final = "pytorch.bench.wall.time"
PYTORCH_BENCH_IO_MINIMUM: Final = "pytorch.bench.io.minimum"
PYTORCH_BENCH_BANDWIDTH: Final = "pytorch.bench.bandwidth"
PYTORCH_BENCH_CEILING_UTILIZATION: Final = "pytorch.bench.ceiling.utilization"
PYTORCH_BENCH_DATASHEET_UTILIZATION: Final = "pytorch.bench.datasheet.utilization"
PYTORCH_BENCH_SM_CYCLES: Final = "pytorch.bench.sm.cycles"
PYTORCH_BENCH_ENERGY: Final = "pytorch.bench.energy"
PYTORCH_BENCH_ERROR_MAX: Final = "pytorch.bench.error.max"
PYTORCH_BENCH_ERROR_RATIO: Final = "pytorch.bench.error.ratio"
PYTORCH_BENCH_SPEEDUP: Final = "pytorch.bench.speedup"
PYTORCH_BENCH_FIRST_CALL_TIME: Final = "pytorch.bench.first_call.time"

METRIC_PYTORCH_INFERENCE_DURATION: Final = Metric(
    "pytorch.inference.duration",
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
METRIC_PYTORCH_INFERENCE_DEVICE_DURATION: Final = Metric(
    "pytorch.inference.device.duration",
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
METRIC_PYTORCH_INFERENCE_DEVICE_QUEUE_DURATION: Final = Metric(
    "pytorch.inference.device.queue.duration",
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
METRIC_PYTORCH_INFERENCE_BATCH_SIZE: Final = Metric(
    "pytorch.inference.batch.size",
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
METRIC_PYTORCH_INFERENCE_MEMORY_PEAK: Final = Metric(
    "pytorch.inference.memory.peak",
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
METRIC_PYTORCH_INFERENCE_IDLE_TIME: Final = Metric(
    "pytorch.inference.idle.time",
    "s",
    "Time of the device between inferences of this process (`pytorch.device.idle.time`), counted for the inference that ended it.",
)
METRIC_PYTORCH_INFERENCE_SYNC_CALLS: Final = Metric(
    "pytorch.inference.sync.calls",
    "{call}",
    "Calls in which inferences waited for the device (`pytorch.sync.*.count`).",
)
METRIC_PYTORCH_INFERENCE_SYNC_TIME: Final = Metric(
    "pytorch.inference.sync.time",
    "s",
    "Host time inside them (`pytorch.sync.*.time`).",
)
METRIC_PYTORCH_INFERENCE_TRANSFER_COPIES: Final = Metric(
    "pytorch.inference.transfer.copies",
    "{copy}",
    "Copies over the bus for inferences (`pytorch.transfer.*.count`).",
)
METRIC_PYTORCH_INFERENCE_TRANSFER_IO: Final = Metric(
    "pytorch.inference.transfer.io",
    "By",
    "Their bytes (`pytorch.transfer.*.size`).",
)
METRIC_PYTORCH_INFERENCE_TRANSFER_TIME: Final = Metric(
    "pytorch.inference.transfer.time",
    "s",
    "Device time of those of at least 256 KiB (`pytorch.transfer.*.time`).",
)
METRIC_PYTORCH_INFERENCE_OUT_OF_MEMORY: Final = Metric(
    "pytorch.inference.out_of_memory",
    "{error}",
    "Inferences that ran out of memory.",
)
METRIC_PYTORCH_INFERENCE_ACTIVE: Final = Metric(
    "pytorch.inference.active",
    "{inference}",
    "Inferences that are open now.",
)
METRIC_PYTORCH_MEMORY_USAGE: Final = Metric(
    "pytorch.memory.usage",
    "By",
    "Memory of torch's caching allocator, read when the last inference ended.",
)
METRIC_PYTORCH_INFERENCE_TOKEN_FIRST_DURATION: Final = Metric(
    "pytorch.inference.token.first.duration",
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
METRIC_PYTORCH_INFERENCE_TOKEN_DURATION: Final = Metric(
    "pytorch.inference.token.duration",
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
METRIC_PYTORCH_INFERENCE_TOKENS: Final = Metric(
    "pytorch.inference.tokens",
    "{token}",
    "Tokens of the input, and generated tokens.",
)
METRIC_PYTORCH_INFERENCE_DENOISE_STEP_DURATION: Final = Metric(
    "pytorch.inference.denoise.step.duration",
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
METRIC_GEN_AI_SERVER_REQUEST_DURATION: Final = Metric(
    "gen_ai.server.request.duration",
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
METRIC_GEN_AI_SERVER_TIME_TO_FIRST_TOKEN: Final = Metric(
    "gen_ai.server.time_to_first_token",
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
METRIC_GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN: Final = Metric(
    "gen_ai.server.time_per_output_token",
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
METRIC_PYTORCH_INFERENCE_GPU_TIME: Final = Metric(
    "pytorch.inference.gpu.time",
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
METRIC_PYTORCH_INFERENCE_SM_CYCLES_ELAPSED: Final = Metric(
    "pytorch.inference.sm.cycles.elapsed",
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
METRIC_PYTORCH_INFERENCE_SM_CYCLES_ACTIVE: Final = Metric(
    "pytorch.inference.sm.cycles.active",
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
METRIC_PYTORCH_INFERENCE_ENERGY: Final = Metric(
    "pytorch.inference.energy",
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
METRIC_PYTORCH_GPU_SAMPLED_TIME: Final = Metric(
    "pytorch.gpu.sampled.time",
    "s",
    "Time of the device since it is sampled. Its two activities add up to all of it.",
)
METRIC_PYTORCH_GPU_SAMPLED_ENERGY: Final = Metric(
    "pytorch.gpu.sampled.energy",
    "J",
    "Energy of the device since it is sampled, likewise.",
)
METRIC_PYTORCH_GPU_SAMPLED_CYCLES: Final = Metric(
    "pytorch.gpu.sampled.cycles",
    "{cycle}",
    "Active cycles of all multiprocessors of the device since it is sampled, likewise.",
)
METRIC_PYTORCH_INFERENCE_KV_CACHE_SIZE: Final = Metric(
    "pytorch.inference.kv_cache.size",
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
METRIC_PYTORCH_INFERENCE_KV_CACHE_GROWTH: Final = Metric(
    "pytorch.inference.kv_cache.growth",
    "By",
    "Bytes that inferences added to KV caches.",
)
METRIC_PYTORCH_KV_CACHE_USAGE: Final = Metric(
    "pytorch.kv_cache.usage",
    "By",
    "Bytes of the KV caches of a model that are alive, each as large as it was at its last inference.",
)
METRIC_PYTORCH_KV_CACHE_COUNT: Final = Metric(
    "pytorch.kv_cache.count",
    "{cache}",
    "KV caches of a model that are alive.",
)
METRIC_PYTORCH_KV_CACHE_LEAK_SCORE: Final = Metric(
    "pytorch.kv_cache.leak.score",
    "1",
    "How likely it is that what makes these caches grow is never released (`pytorch.kv_cache.leak.score`).",
)
METRIC_HW_GPU_UTILIZATION: Final = Metric(
    "hw.gpu.utilization",
    "1",
    "Share of the time in which any kernel ran.",
)
METRIC_HW_GPU_MEMORY_USAGE: Final = Metric(
    "hw.gpu.memory.usage",
    "By",
    "Memory of the device in use.",
)
METRIC_HW_GPU_MEMORY_LIMIT: Final = Metric(
    "hw.gpu.memory.limit",
    "By",
    "Memory of the device.",
)
METRIC_HW_GPU_MEMORY_UTILIZATION: Final = Metric(
    "hw.gpu.memory.utilization",
    "1",
    "Memory of the device in use over its memory.",
)
METRIC_HW_POWER: Final = Metric(
    "hw.power",
    "W",
    "Power of the device.",
)
METRIC_HW_ENERGY: Final = Metric(
    "hw.energy",
    "J",
    "Energy of the device since its driver was loaded.",
)
METRIC_HW_TEMPERATURE: Final = Metric(
    "hw.temperature",
    "Cel",
    "Temperature of the device.",
)
METRIC_HW_ERRORS: Final = Metric(
    "hw.errors",
    "{error}",
    "Memory errors of the device since its driver was loaded, corrected and uncorrected.",
)
METRIC_WARPSPAN_SAMPLER_SAMPLES: Final = Metric(
    "warpspan.sampler.samples",
    "{sample}",
    "Samples taken of the device.",
)
METRIC_WARPSPAN_SAMPLER_TIME: Final = Metric(
    "warpspan.sampler.time",
    "s",
    "Time that the driver took for them, on a thread of warpspan.",
)
METRIC_WARPSPAN_DROPPED: Final = Metric(
    "warpspan.dropped",
    "{inference}",
    "Inferences that were not recorded, or not whole.",
)
METRIC_WARPSPAN_FAULTS: Final = Metric(
    "warpspan.faults",
    "{fault}",
    "Errors of warpspan itself that were caught. Each cause is logged once.",
)
METRIC_WARPSPAN_QUEUE_SIZE: Final = Metric(
    "warpspan.queue.size",
    "{inference}",
    "Inferences that have ended and wait for the finisher.",
)
METRIC_WARPSPAN_FINISHER_SLICE_MAX: Final = Metric(
    "warpspan.finisher.slice.max",
    "s",
    "The longest turn of the finisher since the previous collection. It shares the GIL with the callers.",
)
METRIC_WARPSPAN_EXPORT_DROPPED: Final = Metric(
    "warpspan.export.dropped",
    "{item}",
    "Spans, metric points and log records that the exporter `warpspan_otlp` lost.",
)
METRIC_WARPSPAN_EXPORT_BACKLOG: Final = Metric(
    "warpspan.export.backlog",
    "By",
    "What the export helper has not confirmed yet.",
)
METRIC_WARPSPAN_EXPORT_SLICE_MAX: Final = Metric(
    "warpspan.export.slice.max",
    "s",
    "The longest turn of packing and handing over since the previous collection.",
)
