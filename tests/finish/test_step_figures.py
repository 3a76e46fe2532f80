"""What steps say: figures computed by hand from phases and times."""

from __future__ import annotations

import pytest

from warpspan.finish.step_figures import StepTimes, figures
from warpspan.records import Denoising, GenAi, Generation, Loop, PhaseCycles, Phases, StepTime
from warpspan.records.phases import (
    ASSISTANT,
    DECODE,
    DENOISE,
    ENCODER,
    PHASES,
    PREFILL,
    STEP,
    TEXT_ENCODER,
    VAE,
)
from warpspan.runtime.loop_notes import LoopNotes

close = pytest.approx


def steps(*found, offset_s=0.0):
    """Steps as (phase, begin, end)."""
    phases, begins, ends = zip(*found, strict=True) if found else ((), (), ())
    return StepTimes(PHASES, phases, begins, ends, "host", offset_s)


def test_nothing():
    """No step, nothing noted: no figures."""
    assert None is figures(steps(), LoopNotes(), total_s=1.0)


def test_plain_steps():
    """Mean and nearest-rank percentiles of their times."""
    found = steps(*((STEP, n, n + (n + 1) / 10) for n in range(4)))
    loop = figures(found, LoopNotes(), total_s=10.0)
    assert loop == Loop(
        Phases(
            pipeline=None,
            source="host",
            step_mean_s=close(0.25),
            step_p50_s=close(0.2),
            step_p99_s=close(0.4),
            step_max_s=close(0.4),
        )
    )


def test_a_generation():
    """Encoder, prefill, three tokens; what is between the calls is not the model's."""
    sections = LoopNotes()
    sections.operation, sections.model = "text_completion", "a/b"
    sections.add_tokens(5, 8, 4)
    found = steps(
        (ENCODER, 0.0, 0.5),
        (PREFILL, 1.0, 2.0),
        (DECODE, 2.5, 3.0),
        (DECODE, 3.5, 4.0),
        (DECODE, 5.0, 6.0),
    )
    assert figures(found, sections, total_s=7.0) == Loop(
        Phases(source="host", encoder_s=0.5),
        Generation(
            input_tokens=5,
            generated_tokens=8,
            first_token_s=2.0,
            token_mean_s=close(4 / 3),
            token_p50_s=1.0,
            token_p99_s=2.0,
            token_max_s=2.0,
            prefill_s=1.0,
            decode_s=4.0,
            decode_steps=3,
            between_s=2.0,
            between_share=0.5,
        ),
        gen_ai=GenAi(
            operation="text_completion",
            provider="pytorch",
            request_model="a/b",
            input_tokens=5,
            output_tokens=8,
        ),
    )


def test_an_assistant_is_not_between_the_steps():
    """Its time is its own, and a token's percentiles are not known."""
    sections = LoopNotes()
    sections.speculative = True
    sections.add_tokens(5, 7, 7)
    found = steps(
        (ASSISTANT, 0.0, 1.0), (PREFILL, 1.0, 2.0), (ASSISTANT, 2.0, 3.0), (DECODE, 4.0, 5.0)
    )
    assert figures(found, sections, total_s=5.0).generation == Generation(
        input_tokens=5,
        generated_tokens=7,
        first_token_s=2.0,
        token_mean_s=0.5,
        prefill_s=1.0,
        decode_s=3.0,
        decode_steps=1,
        between_s=1.0,
        between_share=close(1 / 3),
        assistant_steps=2,
        assistant_s=2.0,
    )


def test_several_generations():
    """No token's time reaches from one to the next; the first token is that of the first."""
    one = [(PREFILL, 0.0, 1.0), (DECODE, 1.0, 2.0)]
    other = [(PREFILL, 10.0, 11.0), (DECODE, 11.0, 12.0)]
    generation = figures(steps(*one, *other), LoopNotes(), total_s=12.0).generation
    assert (1.0, 1.0, 1.0, 2.0, 2.0, 2) == (
        generation.first_token_s,
        generation.token_mean_s,
        generation.token_max_s,
        generation.prefill_s,
        generation.decode_s,
        generation.decode_steps,
    )


def test_cycles_of_the_phases():
    """Prefill is its calls; decode is all from the end of prefill on, in one piece a loop."""
    asked = []

    def cycles(spans):
        asked.append(spans)
        return PhaseCycles(
            sm_cycles_active=float(len(asked)), sm_cycles_elapsed=1.0, estimated=False
        )

    one = [(PREFILL, 0.0, 1.0), (DECODE, 1.5, 2.0), (ASSISTANT, 2.0, 2.5), (DECODE, 2.5, 3.0)]
    other = [(PREFILL, 10.0, 11.0), (DECODE, 11.0, 12.0)]
    found = steps(*one, *other)._replace(source="device")
    loop = figures(found, LoopNotes(), total_s=12.0, cycles=cycles)
    assert [[(0.0, 1.0), (10.0, 11.0)], [(1.0, 3.0), (11.0, 12.0)]] == asked
    assert (
        PhaseCycles(sm_cycles_active=1.0, sm_cycles_elapsed=1.0, estimated=False),
        PhaseCycles(sm_cycles_active=2.0, sm_cycles_elapsed=1.0, estimated=False),
    ) == (
        loop.prefill_cycles,
        loop.decode_cycles,
    )
    on_the_host = figures(steps(*one), LoopNotes(), total_s=12.0, cycles=cycles)
    assert (None, None) == (on_the_host.prefill_cycles, on_the_host.decode_cycles)


def test_cycles_of_a_decode_with_steps_whose_times_are_not_kept():
    """Where it ended on the device is not known."""
    sections = LoopNotes()
    sections.over_decode_steps = 1
    asked = []
    found = steps((PREFILL, 0.0, 1.0), (DECODE, 1.0, 2.0))._replace(source="device")
    figures(found, sections, total_s=2.0, cycles=asked.append)
    assert [[(0.0, 1.0)], []] == asked


def test_a_prefill_in_chunks():
    """The first token comes after the last of them."""
    sections = LoopNotes()
    sections.first_chunks = 2
    found = steps((PREFILL, 0.0, 1.0), (PREFILL, 1.0, 3.0), (DECODE, 3.0, 4.0))
    generation = figures(found, sections, total_s=4.0).generation
    assert (3.0, 3.0, 1) == (
        generation.first_token_s,
        generation.prefill_s,
        generation.decode_steps,
    )


def test_a_device_whose_clock_is_not_tied_to_the_hosts():
    """The time to the first token needs both; the others don't."""
    found = steps((PREFILL, 0.0, 1.0), (DECODE, 1.0, 2.0), offset_s=None)
    generation = figures(found, LoopNotes(), total_s=2.0).generation
    assert (None, 1.0) == (generation.first_token_s, generation.token_mean_s)


def test_a_diffusion():
    """Two calls of the denoiser for each step, as the pipeline says; shares of the whole."""
    sections = LoopNotes()
    sections.pipeline, sections.denoise_steps = "Mine", 2
    found = steps(
        (TEXT_ENCODER, 0.0, 1.0),
        *((DENOISE, float(n), n + 0.5) for n in (1, 2, 3, 4)),
        (VAE, 5.0, 7.0),
    )
    assert figures(found, sections, total_s=10.0) == Loop(
        Phases("Mine", "host"),
        denoising=Denoising(2, 3.5, 1.75, 1.5, 2.0, 2.0, 2.0, 0.2, 1.0, 0.1),
    )


def test_a_pipeline_that_counts_otherwise():
    """Its steps are then the calls."""
    sections = LoopNotes()
    sections.denoise_steps = 2
    found = steps(*((DENOISE, float(n), n + 0.5) for n in range(3)))
    assert 3 == figures(found, sections, total_s=None).denoising.steps


def test_single_steps():
    """In order, by name, since the begin of the inference on the host's clock."""
    found = steps((PREFILL, 0.0, 1.0), (DECODE, 1.5, 2.0), offset_s=0.25)
    assert figures(found, LoopNotes(), total_s=2.0, details=True).steps == (
        StepTime("prefill", 0.25, 1.0),
        StepTime("decode", 1.75, 0.5),
    )
