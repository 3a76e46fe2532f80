"""The inside of an inference that is a loop: its steps, what they were for, and its tokens."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from warpspan.records.attr import attr, group
from warpspan.records.enums import StrEnum
from warpspan.signals import names


class StepMode(StrEnum):
    """How single steps are recorded: not at all, as an event of the span, or as child spans."""

    SUMMARY = "summary"
    EVENTS = "events"
    SPANS = "spans"


class StepClock(StrEnum):
    """What measured the times of steps: events on the device, or the host's clock."""

    DEVICE = "device"
    HOST = "host"


class StepTime(NamedTuple):
    """One step: what it was for, and when it ran in seconds since the begin of the inference."""

    phase: str
    start_s: float
    duration_s: float


class Phases(NamedTuple):
    """What every kind of loop may have. `source` is the clock of all times of steps."""

    pipeline: Annotated[str | None, attr(names.PYTORCH_PIPELINE_NAME)] = None
    source: Annotated[str | None, attr(names.PYTORCH_STEP_SOURCE)] = None
    step_mean_s: Annotated[float | None, attr(names.PYTORCH_STEP_DURATION_MEAN)] = None
    step_p50_s: Annotated[float | None, attr(names.PYTORCH_STEP_DURATION_P50, detail=True)] = None
    step_p99_s: Annotated[float | None, attr(names.PYTORCH_STEP_DURATION_P99, detail=True)] = None
    step_max_s: Annotated[float | None, attr(names.PYTORCH_STEP_DURATION_MAX, detail=True)] = None
    encoder_s: Annotated[float | None, attr(names.PYTORCH_ENCODER_TIME)] = None
    preprocess_s: Annotated[float | None, attr(names.PYTORCH_PREPROCESS_TIME)] = None
    postprocess_s: Annotated[float | None, attr(names.PYTORCH_POSTPROCESS_TIME)] = None


class Generation(NamedTuple):
    """A loop that generates tokens. `between_s` is the part of `decode_s` outside the model."""

    input_tokens: Annotated[int | None, attr(names.PYTORCH_TOKEN_INPUT_COUNT)] = None
    generated_tokens: Annotated[int | None, attr(names.PYTORCH_TOKEN_GENERATED_COUNT)] = None
    first_token_s: Annotated[float | None, attr(names.PYTORCH_TOKEN_FIRST_TIME)] = None
    token_mean_s: Annotated[float | None, attr(names.PYTORCH_TOKEN_DURATION_MEAN)] = None
    token_p50_s: Annotated[float | None, attr(names.PYTORCH_TOKEN_DURATION_P50)] = None
    token_p99_s: Annotated[float | None, attr(names.PYTORCH_TOKEN_DURATION_P99)] = None
    token_max_s: Annotated[float | None, attr(names.PYTORCH_TOKEN_DURATION_MAX)] = None
    prefill_s: Annotated[float | None, attr(names.PYTORCH_PREFILL_TIME)] = None
    decode_s: Annotated[float | None, attr(names.PYTORCH_DECODE_TIME)] = None
    decode_steps: Annotated[int | None, attr(names.PYTORCH_DECODE_STEP_COUNT)] = None
    between_s: Annotated[float | None, attr(names.PYTORCH_DECODE_BETWEEN_TIME)] = None
    between_share: Annotated[float | None, attr(names.PYTORCH_DECODE_BETWEEN_SHARE)] = None
    assistant_steps: Annotated[int | None, attr(names.PYTORCH_ASSISTANT_STEP_COUNT)] = None
    assistant_s: Annotated[float | None, attr(names.PYTORCH_ASSISTANT_TIME)] = None


class PhaseCycles(NamedTuple):
    """What a phase had of the device's multiprocessors."""

    sm_cycles_active: Annotated[float | None, attr("cycles.active")] = None
    sm_cycles_elapsed: Annotated[float | None, attr("cycles.elapsed", detail=True)] = None
    estimated: Annotated[bool | None, attr("estimated", detail=True)] = None


class Denoising(NamedTuple):
    """A loop that denoises. Shares are of the whole inference."""

    steps: Annotated[int | None, attr(names.PYTORCH_DENOISE_STEP_COUNT)] = None
    duration_s: Annotated[float | None, attr(names.PYTORCH_DENOISE_TIME)] = None
    step_mean_s: Annotated[float | None, attr(names.PYTORCH_DENOISE_STEP_DURATION_MEAN)] = None
    step_p50_s: Annotated[
        float | None, attr(names.PYTORCH_DENOISE_STEP_DURATION_P50, detail=True)
    ] = None
    step_p99_s: Annotated[
        float | None, attr(names.PYTORCH_DENOISE_STEP_DURATION_P99, detail=True)
    ] = None
    step_max_s: Annotated[
        float | None, attr(names.PYTORCH_DENOISE_STEP_DURATION_MAX, detail=True)
    ] = None
    vae_s: Annotated[float | None, attr(names.PYTORCH_VAE_TIME)] = None
    vae_share: Annotated[float | None, attr(names.PYTORCH_VAE_SHARE)] = None
    text_encoder_s: Annotated[float | None, attr(names.PYTORCH_TEXT_ENCODER_TIME)] = None
    text_encoder_share: Annotated[float | None, attr(names.PYTORCH_TEXT_ENCODER_SHARE)] = None


class GenAi(NamedTuple):
    """What OpenTelemetry's conventions for generative AI say of it, as far as it applies."""

    operation: Annotated[str | None, attr(names.GEN_AI_OPERATION_NAME)] = None
    provider: Annotated[str | None, attr(names.GEN_AI_PROVIDER_NAME)] = None
    request_model: Annotated[str | None, attr(names.GEN_AI_REQUEST_MODEL)] = None
    input_tokens: Annotated[int | None, attr(names.GEN_AI_USAGE_INPUT_TOKENS)] = None
    output_tokens: Annotated[int | None, attr(names.GEN_AI_USAGE_OUTPUT_TOKENS)] = None


class Loop(NamedTuple):
    """All of it. `steps` are recorded with the span only, and only where they are asked for."""

    phases: Phases = Phases()
    generation: Generation | None = None
    denoising: Denoising | None = None
    gen_ai: GenAi | None = None
    prefill_cycles: Annotated[PhaseCycles | None, group(names.PYTORCH_PREFILL_SM)] = None
    decode_cycles: Annotated[PhaseCycles | None, group(names.PYTORCH_DECODE_SM)] = None
    # A step's own attributes are those of the event `pytorch.steps`, or of its own span.
    steps: tuple[StepTime, ...] = ()
