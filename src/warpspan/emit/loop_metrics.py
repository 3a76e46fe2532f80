"""The metrics of generation and diffusion, and those of OpenTelemetry's GenAI conventions."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import Meter

from warpspan.emit.instruments import counter, histogram
from warpspan.records import GenAi, Generation, Inference, Loop
from warpspan.signals import instruments, names

_TOKEN_TYPE = names.PYTORCH_TOKEN_TYPE


class LoopMetrics:
    """Creates the instruments and records into them.

    Args:
        meter: where they are created, when the first loop ends: most programs have none.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._instruments: _Instruments | None = None

    def record(self, record: Inference, loop: Loop, context: Context) -> None:
        """Record what a loop did; its span's context gives the exemplars."""
        generation, denoising = loop.generation, loop.denoising
        if generation is None and denoising is None and loop.gen_ai is None:
            return
        made = self._instruments
        if made is None:
            made = self._instruments = _Instruments(self._meter)
        attributes: dict[str, Any] = record.start_attributes()
        error: dict[str, Any] = {}
        if record.error_type is not None:
            error = {names.ERROR_TYPE: record.error_type}
            attributes |= error
        if generation is not None:
            self._record_generation(made, generation, attributes, context)
        if denoising is not None and denoising.step_mean_s is not None:
            made.denoise_step.record(denoising.step_mean_s, attributes, context)
        if loop.gen_ai is not None:
            self._record_gen_ai(made, record, loop.gen_ai, generation, context)

    def _record_generation(
        self,
        made: _Instruments,
        generation: Generation,
        attributes: dict[str, Any],
        context: Context,
    ) -> None:
        if generation.first_token_s is not None:
            made.first_token.record(generation.first_token_s, attributes, context)
        if generation.token_mean_s is not None:
            made.token.record(generation.token_mean_s, attributes, context)
        for kind, tokens in (
            ("input", generation.input_tokens),
            ("generated", generation.generated_tokens),
        ):
            if tokens:
                made.tokens.add(tokens, {**attributes, _TOKEN_TYPE: kind}, context)

    def _record_gen_ai(
        self,
        made: _Instruments,
        record: Inference,
        gen_ai: GenAi,
        generation: Generation | None,
        context: Context,
    ) -> None:
        named = (
            (names.GEN_AI_OPERATION_NAME, gen_ai.operation),
            (names.GEN_AI_PROVIDER_NAME, gen_ai.provider),
            (names.GEN_AI_REQUEST_MODEL, gen_ai.request_model),
            (names.ERROR_TYPE, record.error_type),
        )
        attributes: dict[str, Any] = {name: value for name, value in named if value is not None}
        made.request.record(record.duration_s, attributes, context)
        if generation is None or record.error_type is not None:
            return  # the conventions ask for these of successful ones
        if generation.first_token_s is not None:
            made.time_to_first_token.record(generation.first_token_s, attributes, context)
        if generation.token_mean_s is not None:
            made.time_per_output_token.record(generation.token_mean_s, attributes, context)


class _Instruments:
    def __init__(self, meter: Meter) -> None:
        self.first_token = histogram(meter, instruments.PYTORCH_INFERENCE_TOKEN_FIRST_DURATION)
        self.token = histogram(meter, instruments.PYTORCH_INFERENCE_TOKEN_DURATION)
        self.tokens = counter(meter, instruments.PYTORCH_INFERENCE_TOKENS)
        self.denoise_step = histogram(meter, instruments.PYTORCH_INFERENCE_DENOISE_STEP_DURATION)
        self.request = histogram(meter, instruments.GEN_AI_SERVER_REQUEST_DURATION)
        self.time_to_first_token = histogram(meter, instruments.GEN_AI_SERVER_TIME_TO_FIRST_TOKEN)
        self.time_per_output_token = histogram(
            meter, instruments.GEN_AI_SERVER_TIME_PER_OUTPUT_TOKEN
        )
