"""What each decode step of a generation pays: a tiny Llama, 512 tokens, in a process of its own.

The same generation takes turns with and without warpspan, and with the patches in place but
nothing recorded (instrumentation suppressed): what the steps cost in addition to the patch of the
module call.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

import torch
from opentelemetry.instrumentation.utils import suppress_instrumentation
from rich.console import Console
from rich.text import Text

import warpspan
from benchmarks.overhead.modes import RECORDED, set_providers
from benchmarks.overhead.statistics import rounds
from benchmarks.overhead.table import Target

TOKENS = 512
LIMIT_US = 10.0
_ROUNDS = (3, 60)
_DRAIN_S = 30.0
_PLAIN, _PATCHED, _RECORDED = "no instrumentation", "patched, suppressed", "warpspan"
_VARIANTS = (_PLAIN, _PATCHED, _RECORDED)


class Result(NamedTuple):
    """The caller's processor time: medians over the rounds, of differences within a round.

    A difference of the least of all rounds depends on two single ones: it was 3 to 10 µs in runs
    whose medians were within 1 µs of each other.

    Args:
        rounds: how many there were.
        plain_us: time of a token without instrumentation, or None where it could not be measured.
        patched_us: what the patch of the module call adds to it, for all submodules.
        step_us: what the steps add to that.
        unavailable: why it could not be measured, or None.
    """

    rounds: int = 0
    plain_us: float | None = None
    patched_us: float | None = None
    step_us: float | None = None
    unavailable: str | None = None

    @property
    def target(self) -> Target:
        """What a step may cost at most."""
        return Target(
            f"caller's time of a decode step, beside the module calls ({TOKENS} tokens)",
            self.step_us,
            LIMIT_US,
            "µs",
        )


def run(seconds: float) -> Result:
    """Measure. To be called once in a process."""
    try:
        model = _model()
    except ImportError as missing:
        return Result(unavailable=f"needs transformers ({missing})")
    torch.set_num_threads(1)
    set_providers(RECORDED)
    prompt = torch.ones(1, 8, dtype=torch.long)
    spent_s: dict[str, list[float]] = {name: [] for name in _VARIANTS}
    for name in _VARIANTS:
        _generate(name, model, prompt)
    least, most = _ROUNDS
    for order in rounds(_VARIANTS, seconds, at_least=least, at_most=most):
        for name in order:
            spent_s[name].append(_generate(name, model, prompt))
    plain, patched, recorded = (spent_s[name] for name in _VARIANTS)
    return Result(
        len(plain),
        statistics.median(plain) / TOKENS * 1e6,
        _added_us(patched, plain),
        _added_us(recorded, patched),
    )


def render(result: Result, console: Console) -> None:
    """Print one sentence: the targets hold the figure that counts."""
    sentence = f"A generation does not run here: {result.unavailable}"
    if result.plain_us is not None:
        sentence = (
            f"A generation of {TOKENS} tokens by a tiny Llama ({result.rounds} rounds): "
            f"{result.plain_us:.0f} µs a token without instrumentation; the patched module calls "
            f"add {result.patched_us:.1f} µs, the steps {result.step_us:.1f} µs.\n"
        )
    console.print(Text(sentence))


def _added_us(some: list[float], others: list[float]) -> float:
    added_s = (one - other for one, other in zip(some, others, strict=True))
    return statistics.median(added_s) / TOKENS * 1e6


def _generate(name: str, model: Any, prompt: torch.Tensor) -> float:
    if name == _PLAIN:
        return _timed(model, prompt)
    warpspan.WarpspanInstrumentor().instrument()
    try:
        if name == _PATCHED:
            with suppress_instrumentation():
                return _timed(model, prompt)
        spent_s = _timed(model, prompt)
        warpspan.flush(_DRAIN_S)
        return spent_s
    finally:
        warpspan.WarpspanInstrumentor().uninstrument()


def _timed(model: Any, prompt: torch.Tensor) -> float:
    began_s = time.thread_time()
    model.generate(prompt, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False)
    return time.thread_time() - began_s


def _model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=128,
        max_position_embeddings=2 * TOKENS,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()
