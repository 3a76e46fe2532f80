"""The phases of a step, by number: arrays of steps hold the numbers, spans the names."""

from __future__ import annotations

#: The phases that are known by their name, each at its number in `StepTimes.phases`.
PHASES: tuple[str, ...] = (
    "step",
    "prefill",
    "decode",
    "assistant",
    "encoder",
    "denoise",
    "text_encoder",
    "vae",
)
STEP, PREFILL, DECODE, ASSISTANT, ENCODER, DENOISE, TEXT_ENCODER, VAE = range(len(PHASES))
