"""The phases of a step, by number: arrays of steps hold the numbers, spans the names."""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """What a step is for. Steps that the user names have the numbers behind these."""

    STEP = 0
    PREFILL = 1
    DECODE = 2
    ASSISTANT = 3
    ENCODER = 4
    DENOISE = 5
    TEXT_ENCODER = 6
    VAE = 7


#: Their names, each at its number in `StepTimes.phases`.
PHASES: tuple[str, ...] = tuple(phase.name.lower() for phase in Phase)
# A global costs a caller less than a member of an enum.
STEP, PREFILL, DECODE, ASSISTANT, ENCODER, DENOISE, TEXT_ENCODER, VAE = Phase
