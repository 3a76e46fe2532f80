"""What a generation shows, as the tests of transformers compare it."""

from __future__ import annotations

import pytest

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()

VERSION = tuple(map(int, transformers.__version__.split(".")[:2]))
TOKEN = tuple(f"token.duration.{part}" for part in ("mean", "p50", "p99", "max"))
DECODE = ("decode.time", "decode.between.time", "decode.between.share")
FIRST = ("step.first.time", "step.time", "token.first.time", "prefill.time")


def generated(given, new, steps, *, decode=None, source="host"):
    """The attributes of a generation by their names in `expected`."""
    return {
        "pytorch_step_count": steps,
        "pytorch_step_source": source,
        "pytorch_decode_step_count": steps - 1 if decode is None else decode,
        "pytorch_token_input_count": given,
        "pytorch_token_generated_count": new,
    }


def told(given, new):
    """The attributes of the GenAI conventions."""
    return {
        "gen__ai_operation_name": "text_completion",
        "gen__ai_provider_name": "pytorch",
        "gen__ai_usage_input__tokens": given,
        "gen__ai_usage_output__tokens": new,
    }


def counts(span):
    """Steps, decode steps, assistant's steps, tokens given and generated of a span."""
    names = ("step.count", "decode.step.count", "assistant.step.count")
    names += ("token.input.count", "token.generated.count")
    return tuple(span["attributes"].get(f"pytorch.{name}") for name in names)
