"""What library hooks note about the loops of one inference, beside the times of their steps."""

from __future__ import annotations

from warpspan.records.phases import ASSISTANT, DECODE


class LoopNotes:
    """What hooks note about the loops in a window, summed over them. Each field has one writer."""

    # On the class: a window pays for what it sets.
    pipeline: str | None = None
    operation: str | None = None  # as the GenAI conventions call it
    model: str | None = None
    input_tokens: int | None = None
    generated_tokens: int | None = None
    #: Tokens of a sequence after its first, summed over loops.
    later_tokens = 0
    #: A step may yield more than one token of a sequence.
    speculative = False
    denoise_steps: int | None = None
    preprocess_ns: int | None = None
    postprocess_ns: int | None = None
    over_decode_steps = 0
    #: Host clock of the end of the last of them.
    over_decode_end_ns: int | None = None
    over_assistant_steps = 0
    #: Module calls that the first prefill takes.
    first_chunks: int | None = None

    def add_tokens(self, given: int | None, generated: int | None, length: int | None) -> None:
        """Count the tokens of one loop.

        Args:
            given: of all sequences of its input.
            generated: of all its sequences.
            length: generated for each sequence, None where they differ.
        """
        if given is not None:
            self.input_tokens = (self.input_tokens or 0) + given
        if generated is not None:
            self.generated_tokens = (self.generated_tokens or 0) + generated
        if length is not None:
            self.later_tokens += max(0, length - 1)

    def add_part(self, name: str, spent_ns: int) -> None:
        """Add host time to `preprocess` or `postprocess`."""
        field = f"{name}_ns"
        setattr(self, field, (getattr(self, field) or 0) + spent_ns)

    def overflow(self, phase: int, ended_ns: int) -> None:
        """Count a step whose own times are not kept."""
        if phase == DECODE:
            self.over_decode_steps += 1
            self.over_decode_end_ns = ended_ns
        elif phase == ASSISTANT:
            self.over_assistant_steps += 1
