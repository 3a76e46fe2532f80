"""What generations and diffusions of one row say: times to the first token, per token, per step."""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

from warpspan.records import Loop
from warpspan.report.quantiles import Quantiles, quantiles


class LoopFigures(NamedTuple):
    """Figures of the loops in a row. None is: not measured.

    Args:
        first_token_s: time to the first token.
        token_s: mean time per output token of each inference.
        between_share: share of decode time outside the model, over all inferences.
        input_tokens: of all inferences.
        generated_tokens: of all inferences.
        tokens_per_s: generated ones over the time from the first start to the last end.
        denoise_step_s: mean time of a denoising step of each inference.
        denoise_steps: of all inferences.
    """

    first_token_s: Quantiles | None = None
    token_s: Quantiles | None = None
    between_share: float | None = None
    input_tokens: int | None = None
    generated_tokens: int | None = None
    tokens_per_s: float | None = None
    denoise_step_s: Quantiles | None = None
    denoise_steps: int | None = None

    def to_json(self) -> dict[str, Any]:
        """What a row has under `loops` as `warpspan report --json` prints it; its keys are stable."""
        first = self.first_token_s or (None, None, None)
        token = self.token_s or (None, None, None)
        denoise = self.denoise_step_s or (None, None, None)
        return {
            "first_token_p50_s": first[0],
            "first_token_p95_s": first[1],
            "first_token_p99_s": first[2],
            "token_p50_s": token[0],
            "token_p95_s": token[1],
            "token_p99_s": token[2],
            "decode_between_share": self.between_share,
            "input_tokens": self.input_tokens,
            "generated_tokens": self.generated_tokens,
            "tokens_per_s": self.tokens_per_s,
            "denoise_step_p50_s": denoise[0],
            "denoise_step_p95_s": denoise[1],
            "denoise_step_p99_s": denoise[2],
            "denoise_steps": self.denoise_steps,
        }


class LoopTotals:
    """What is kept of the loops in a row: three numbers of each."""

    def __init__(self) -> None:
        self._first_tokens_s = array("d")
        self._tokens_s = array("d")
        self._denoise_steps_s = array("d")
        self._decode_s = self._between_s = 0.0
        self._input_tokens: int | None = None
        self._generated_tokens: int | None = None
        self._denoise_steps: int | None = None

    def add(self, loop: Loop) -> None:
        """Take one inference."""
        generation, denoising = loop.generation, loop.denoising
        if generation is not None:
            if generation.first_token_s is not None:
                self._first_tokens_s.append(generation.first_token_s)
            if generation.token_mean_s is not None:
                self._tokens_s.append(generation.token_mean_s)
            if generation.between_s is not None and generation.between_share:
                self._between_s += generation.between_s
                self._decode_s += generation.between_s / generation.between_share
            elif generation.decode_s is not None:
                self._decode_s += generation.decode_s
            self._input_tokens = _sum(self._input_tokens, generation.input_tokens)
            self._generated_tokens = _sum(self._generated_tokens, generation.generated_tokens)
        if denoising is not None:
            if denoising.step_mean_s is not None:
                self._denoise_steps_s.append(denoising.step_mean_s)
            self._denoise_steps = _sum(self._denoise_steps, denoising.steps)

    def figures(self, elapsed_s: float) -> LoopFigures | None:
        """The figures, or None where there are none."""
        tokens_per_s = None
        if self._generated_tokens is not None and elapsed_s > 0:
            tokens_per_s = self._generated_tokens / elapsed_s
        figures = LoopFigures(
            _quantiles(self._first_tokens_s),
            _quantiles(self._tokens_s),
            self._between_s / self._decode_s if self._decode_s > 0 else None,
            self._input_tokens,
            self._generated_tokens,
            tokens_per_s,
            _quantiles(self._denoise_steps_s),
            self._denoise_steps,
        )
        return None if figures == LoopFigures() else figures


def _quantiles(values: array[float]) -> Quantiles | None:
    return quantiles(values) if values else None


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else (one or 0) + other
