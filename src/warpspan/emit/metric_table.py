"""The metrics that finished inferences are recorded in: each is one row.

The rows of an inference are made at once, since the finisher does so for every one: each group of
its record is read once, and of one that it lacks nothing. A value of None is not recorded.
"""

from __future__ import annotations

from typing import TypeAlias

from warpspan.records import Direction, Generation, Inference, MemoryKind, Transfer
from warpspan.signals import instruments, names
from warpspan.signals.instruments import Metric

#: Names and values of labels that a metric has beside those of the inference; few of each.
Own: TypeAlias = tuple[tuple[str, str], ...]
#: Metric, value, and labels of the metric's own or None.
Instrument: TypeAlias = tuple[Metric, float | None, Own | None]

#: Metrics that are summed up here and observed when metrics are collected. All others are recorded
#: in the context of the span, which gives them exemplars, and costs twenty times as much.
TOTALS = (
    instruments.PYTORCH_INFERENCE_IDLE_TIME,
    instruments.PYTORCH_INFERENCE_SYNC_CALLS,
    instruments.PYTORCH_INFERENCE_SYNC_TIME,
    instruments.PYTORCH_INFERENCE_TRANSFER_COPIES,
    instruments.PYTORCH_INFERENCE_TRANSFER_IO,
    instruments.PYTORCH_INFERENCE_TRANSFER_TIME,
)

_INPUT = ((names.PYTORCH_TOKEN_TYPE, "input"),)
_GENERATED = ((names.PYTORCH_TOKEN_TYPE, "generated"),)


def recorded(record: Inference) -> list[Instrument]:
    """The rows with the labels of the inference."""
    timing = record.timing
    rows: list[Instrument] = [
        (instruments.PYTORCH_INFERENCE_DURATION, record.duration_s, None),
        (instruments.PYTORCH_INFERENCE_DEVICE_DURATION, timing.device_time_s, None),
        (instruments.PYTORCH_INFERENCE_DEVICE_QUEUE_DURATION, timing.queue_time_s, None),
        (instruments.PYTORCH_INFERENCE_IDLE_TIME, timing.idle_time_s, None),
        (instruments.PYTORCH_INFERENCE_BATCH_SIZE, record.input.batch_size, None),
    ]
    if record.error_type is not None and record.out_of_memory:
        rows.append((instruments.PYTORCH_INFERENCE_OUT_OF_MEMORY, 1, None))
    if (memory := record.memory) is not None:
        rows.append((instruments.PYTORCH_INFERENCE_MEMORY_PEAK, memory.peak_bytes, None))
    if (usage := record.usage) is not None:
        rows += (
            (instruments.PYTORCH_INFERENCE_GPU_TIME, usage.gpu_time_s, None),
            (instruments.PYTORCH_INFERENCE_SM_CYCLES_ELAPSED, usage.sm_cycles_elapsed, None),
            (instruments.PYTORCH_INFERENCE_SM_CYCLES_ACTIVE, usage.sm_cycles_active, None),
            (instruments.PYTORCH_INFERENCE_ENERGY, usage.energy_j, None),
        )
    if (cache := record.cache) is not None:
        growth = (
            cache.increase_bytes
            if cache.increase_bytes is not None and cache.increase_bytes > 0
            else None
        )
        rows += (
            (instruments.PYTORCH_INFERENCE_KV_CACHE_SIZE, cache.size_bytes, None),
            (instruments.PYTORCH_INFERENCE_KV_CACHE_GROWTH, growth, None),
        )
    if (loop := record.loop) is not None:
        if (generation := loop.generation) is not None:
            rows += (
                (
                    instruments.PYTORCH_INFERENCE_TOKEN_FIRST_DURATION,
                    generation.first_token_s,
                    None,
                ),
                (instruments.PYTORCH_INFERENCE_TOKEN_DURATION, generation.token_mean_s, None),
                (instruments.PYTORCH_INFERENCE_TOKENS, generation.input_tokens or None, _INPUT),
                (
                    instruments.PYTORCH_INFERENCE_TOKENS,
                    generation.generated_tokens or None,
                    _GENERATED,
                ),
            )
        if (denoising := loop.denoising) is not None:
            step_s = denoising.step_mean_s
            rows.append((instruments.PYTORCH_INFERENCE_DENOISE_STEP_DURATION, step_s, None))
    if (syncs := record.syncs) is not None:
        for kind, total, stalled_s in syncs.kinds:
            own = ((names.PYTORCH_SYNC_KIND, kind),)
            rows += (
                (instruments.PYTORCH_INFERENCE_SYNC_CALLS, total, own),
                (instruments.PYTORCH_INFERENCE_SYNC_TIME, stalled_s, own),
            )
    if (transfers := record.transfers) is not None:
        rows += _copies(Direction.H2D, transfers.h2d, MemoryKind.PINNED)
        rows += _copies(Direction.D2H, transfers.d2h, MemoryKind.PINNED)
        rows += _copies(Direction.D2D, transfers.d2d, MemoryKind.DEVICE)
    return rows


def _copies(
    direction: Direction, copies: Transfer | None, otherwise: MemoryKind
) -> tuple[Instrument, ...]:
    """The rows of one direction; memory that is not pageable is `otherwise`."""
    if copies is None:
        return ()
    pageable = copies.pageable_bytes or 0
    other = None if copies.nbytes is None else copies.nbytes - pageable
    way = (names.PYTORCH_TRANSFER_DIRECTION, direction.value)
    of_pageable = (way, (names.PYTORCH_TRANSFER_MEMORY, MemoryKind.PAGEABLE.value))
    of_other = (way, (names.PYTORCH_TRANSFER_MEMORY, otherwise.value))
    return (
        (instruments.PYTORCH_INFERENCE_TRANSFER_COPIES, copies.total, (way,)),
        (instruments.PYTORCH_INFERENCE_TRANSFER_TIME, copies.time_s, (way,)),
        (instruments.PYTORCH_INFERENCE_TRANSFER_IO, pageable or None, of_pageable),
        (instruments.PYTORCH_INFERENCE_TRANSFER_IO, other or None, of_other),
    )


def recorded_for_gen_ai(
    record: Inference, generation: Generation | None
) -> list[tuple[Metric, float | None]]:
    """The rows with the labels of OpenTelemetry's GenAI conventions."""
    rows: list[tuple[Metric, float | None]] = [
        (instruments.GEN_AI_SERVER_REQUEST_DURATION, record.duration_s)
    ]
    # The conventions want the times of tokens of successful requests only.
    if generation is not None and record.error_type is None:
        rows += (
            (instruments.GEN_AI_SERVER_TIME_TO_FIRST_TOKEN, generation.first_token_s),
            (instruments.GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN, generation.token_mean_s),
        )
    return rows
