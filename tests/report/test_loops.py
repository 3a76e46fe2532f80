"""Generations and diffusions of a row: percentiles over inferences, tokens over elapsed time."""

import json

from rich.console import Console

from tests.support.records import inference
from warpspan.records import Denoising, Generation, Loop, Phases
from warpspan.report import text
from warpspan.report.loops import LoopFigures
from warpspan.report.quantiles import Quantiles
from warpspan.report.summary import summarize

SECOND = 1_000_000_000


def generate(number, **generation):
    """A generation of half a second that begins at a whole second."""
    loop = Loop(Phases(source="host"), Generation(**generation))
    return inference(operation="generate", start_ns=number * SECOND, duration_s=0.5, loop=loop)


def test_generations():
    """Times are those of inferences, shares and rates those of all together."""
    summary = summarize(
        [
            generate(
                1,
                input_tokens=10,
                generated_tokens=16,
                first_token_s=0.1,
                token_mean_s=0.02,
                decode_s=0.3,
                between_s=0.1,
                between_share=1 / 3,
            ),
            generate(2, input_tokens=5, generated_tokens=14, first_token_s=0.2, token_mean_s=0.04),
        ]
    )
    (row,) = summary.rows
    assert row.loops == LoopFigures(
        first_token_s=Quantiles(0.1, 0.2, 0.2),
        token_s=Quantiles(0.02, 0.04, 0.04),
        between_share=1 / 3,
        input_tokens=15,
        generated_tokens=30,
        tokens_per_s=20.0,
    )
    assert 20.0 == json.loads(json.dumps(summary.to_json()))["rows"][0]["loops"]["tokens_per_s"]


def test_diffusions():
    """Steps are added up, a step's time is that of each inference."""
    loop = Loop(denoising=Denoising(steps=30, step_mean_s=0.08))
    (row,) = summarize([inference(operation="diffusion", duration_s=3.0, loop=loop)]).rows
    assert row.loops == LoopFigures(denoise_step_s=Quantiles(0.08, 0.08, 0.08), denoise_steps=30)


def test_a_loop_without_figures():
    """Steps without a role say nothing here."""
    loop = Loop(Phases(source="host", step_mean_s=0.1))
    (row,) = summarize([inference(operation="search", duration_s=3.0, loop=loop)]).rows
    assert None is row.loops


def shown(*inferences):
    console = Console(width=400)
    with console.capture() as capture:
        console.print(text.render(summarize(inferences), console))
    return capture.get()


def test_columns_are_there_where_there_is_something():
    """Time to the first token, per token, tokens per second; none of these for other programs."""
    other = inference()
    assert "first token" not in shown(other)
    table = shown(other, generate(1, generated_tokens=16, first_token_s=0.1, token_mean_s=0.02))
    assert "first token" in table
    assert "100 ms" in table
    assert "20.0 ms" in table
    assert "32.0" in table
    assert "denoise" not in table
