"""The inside of an inference that is a loop: its steps, what they were for, and its tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from warpspan.signals import names

Group = TypeVar("Group")


class StepTime(NamedTuple):
    """One step: what it was for, and when it ran in seconds since the begin of the inference."""

    phase: str
    start_s: float
    duration_s: float


class Phases(NamedTuple):
    """What every kind of loop may have. `source` is the clock of all times of steps."""

    pipeline: str | None = None
    source: str | None = None
    step_mean_s: float | None = None
    step_p50_s: float | None = None
    step_p99_s: float | None = None
    step_max_s: float | None = None
    encoder_s: float | None = None
    preprocess_s: float | None = None
    postprocess_s: float | None = None


class Generation(NamedTuple):
    """A loop that generates tokens. `between_s` is the part of `decode_s` outside the model."""

    input_tokens: int | None = None
    generated_tokens: int | None = None
    first_token_s: float | None = None
    token_mean_s: float | None = None
    token_p50_s: float | None = None
    token_p99_s: float | None = None
    token_max_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    decode_steps: int | None = None
    between_s: float | None = None
    between_share: float | None = None
    assistant_steps: int | None = None
    assistant_s: float | None = None


class PhaseCycles(NamedTuple):
    """What a phase had of the device's multiprocessors."""

    sm_cycles_active: float | None = None
    sm_cycles_elapsed: float | None = None
    estimated: bool | None = None


class Denoising(NamedTuple):
    """A loop that denoises. Shares are of the whole inference."""

    steps: int | None = None
    duration_s: float | None = None
    step_mean_s: float | None = None
    step_p50_s: float | None = None
    step_p99_s: float | None = None
    step_max_s: float | None = None
    vae_s: float | None = None
    vae_share: float | None = None
    text_encoder_s: float | None = None
    text_encoder_share: float | None = None


class GenAi(NamedTuple):
    """What OpenTelemetry's conventions for generative AI say of it, as far as it applies."""

    operation: str | None = None
    provider: str | None = None
    request_model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class Loop(NamedTuple):
    """All of it. `steps` are told on the span only, and only where they are asked for."""

    phases: Phases = Phases()
    generation: Generation | None = None
    denoising: Denoising | None = None
    gen_ai: GenAi | None = None
    prefill_cycles: PhaseCycles | None = None
    decode_cycles: PhaseCycles | None = None
    steps: tuple[StepTime, ...] = ()


_PHASES = (
    names.PYTORCH_PIPELINE_NAME,
    names.PYTORCH_STEP_SOURCE,
    names.PYTORCH_STEP_DURATION_MEAN,
    names.PYTORCH_STEP_DURATION_P50,
    names.PYTORCH_STEP_DURATION_P99,
    names.PYTORCH_STEP_DURATION_MAX,
    names.PYTORCH_ENCODER_TIME,
    names.PYTORCH_PREPROCESS_TIME,
    names.PYTORCH_POSTPROCESS_TIME,
)
_GENERATION = (
    names.PYTORCH_TOKEN_INPUT_COUNT,
    names.PYTORCH_TOKEN_GENERATED_COUNT,
    names.PYTORCH_TOKEN_FIRST_TIME,
    names.PYTORCH_TOKEN_DURATION_MEAN,
    names.PYTORCH_TOKEN_DURATION_P50,
    names.PYTORCH_TOKEN_DURATION_P99,
    names.PYTORCH_TOKEN_DURATION_MAX,
    names.PYTORCH_PREFILL_TIME,
    names.PYTORCH_DECODE_TIME,
    names.PYTORCH_DECODE_STEP_COUNT,
    names.PYTORCH_DECODE_BETWEEN_TIME,
    names.PYTORCH_DECODE_BETWEEN_SHARE,
    names.PYTORCH_ASSISTANT_STEP_COUNT,
    names.PYTORCH_ASSISTANT_TIME,
)
_PREFILL_CYCLES = (
    names.PYTORCH_PREFILL_SM_CYCLES_ACTIVE,
    names.PYTORCH_PREFILL_SM_CYCLES_ELAPSED,
    names.PYTORCH_PREFILL_SM_ESTIMATED,
)
_DECODE_CYCLES = (
    names.PYTORCH_DECODE_SM_CYCLES_ACTIVE,
    names.PYTORCH_DECODE_SM_CYCLES_ELAPSED,
    names.PYTORCH_DECODE_SM_ESTIMATED,
)
_DENOISING = (
    names.PYTORCH_DENOISE_STEP_COUNT,
    names.PYTORCH_DENOISE_TIME,
    names.PYTORCH_DENOISE_STEP_DURATION_MEAN,
    names.PYTORCH_DENOISE_STEP_DURATION_P50,
    names.PYTORCH_DENOISE_STEP_DURATION_P99,
    names.PYTORCH_DENOISE_STEP_DURATION_MAX,
    names.PYTORCH_VAE_TIME,
    names.PYTORCH_VAE_SHARE,
    names.PYTORCH_TEXT_ENCODER_TIME,
    names.PYTORCH_TEXT_ENCODER_SHARE,
)
_GEN_AI = (
    names.GEN_AI_OPERATION_NAME,
    names.GEN_AI_PROVIDER_NAME,
    names.GEN_AI_REQUEST_MODEL,
    names.GEN_AI_USAGE_INPUT_TOKENS,
    names.GEN_AI_USAGE_OUTPUT_TOKENS,
)


def loop_attributes(loop: Loop) -> dict[str, Any]:
    """The attributes of a loop; nothing that was not measured."""
    attributes = {}
    for keys, values in (
        (_PHASES, loop.phases),
        (_GENERATION, loop.generation),
        (_DENOISING, loop.denoising),
        (_GEN_AI, loop.gen_ai),
        (_PREFILL_CYCLES, loop.prefill_cycles),
        (_DECODE_CYCLES, loop.decode_cycles),
    ):
        if values is not None:
            found = zip(keys, values, strict=True)
            attributes.update({name: value for name, value in found if value is not None})
    return attributes


def read_loop(attributes: Mapping[str, Any]) -> Loop | None:
    """The loop behind the attributes of an inference span, without its single steps."""
    get: Callable[[str], Any] = attributes.get
    loop = Loop(
        Phases(*map(get, _PHASES)),
        _found(Generation(*map(get, _GENERATION)), Generation()),
        _found(Denoising(*map(get, _DENOISING)), Denoising()),
        _found(GenAi(*map(get, _GEN_AI)), GenAi()),
        _found(PhaseCycles(*map(get, _PREFILL_CYCLES)), PhaseCycles()),
        _found(PhaseCycles(*map(get, _DECODE_CYCLES)), PhaseCycles()),
    )
    return _found(loop, Loop())


def _found(group: Group, nothing: Group) -> Group | None:
    return None if group == nothing else group
