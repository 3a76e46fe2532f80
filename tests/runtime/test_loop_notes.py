"""What hooks note about loops: sums, and nothing where nobody noted anything."""

from __future__ import annotations

import pytest

from warpspan.records.phases import ASSISTANT, DECODE, PHASES, PREFILL, STEP
from warpspan.runtime.loop_notes import LoopNotes


def test_nothing_is_noted_until_somebody_does():
    """What was not counted is absent, and a window pays for no field."""
    notes = LoopNotes()
    assert {} == vars(notes)
    assert (None, None, None, None) == (
        notes.input_tokens,
        notes.generated_tokens,
        notes.preprocess_ns,
        notes.over_decode_end_ns,
    )


def test_tokens_are_summed_over_loops():
    """Of each sequence all but the first token are later ones."""
    notes = LoopNotes()
    notes.add_tokens(10, 6, 3)
    notes.add_tokens(20, 4, 4)
    assert {"input_tokens": 30, "generated_tokens": 10, "later_tokens": 5} == vars(notes)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((None, None, None), {}),
        ((5, None, None), {"input_tokens": 5}),
        ((None, 7, None), {"generated_tokens": 7}),
        ((None, None, 1), {"later_tokens": 0}),
        ((0, 0, 0), {"input_tokens": 0, "generated_tokens": 0, "later_tokens": 0}),
    ],
)
def test_a_count_that_is_not_known(tokens, expected):
    """It is left out; a count of none is a count."""
    notes = LoopNotes()
    notes.add_tokens(*tokens)
    assert expected == vars(notes)


def test_a_count_that_is_not_known_keeps_what_was_noted():
    """The sum is over the loops that know theirs."""
    notes = LoopNotes()
    notes.add_tokens(5, 6, None)
    notes.add_tokens(None, None, None)
    assert {"input_tokens": 5, "generated_tokens": 6} == vars(notes)


def test_host_parts_are_summed_by_name():
    """Preparing the input and reading the output each have a time."""
    notes = LoopNotes()
    notes.add_part("preprocess", 3)
    notes.add_part("postprocess", 4)
    notes.add_part("preprocess", 5)
    assert {"preprocess_ns": 8, "postprocess_ns": 4} == vars(notes)


def test_decode_steps_that_are_not_kept():
    """They are counted, and the end of the last one is known."""
    notes = LoopNotes()
    notes.overflow(DECODE, 10)
    notes.overflow(DECODE, 30)
    assert {"over_decode_steps": 2, "over_decode_end_ns": 30} == vars(notes)


def test_assistant_steps_that_are_not_kept():
    """They are counted apart, without a time."""
    notes = LoopNotes()
    notes.overflow(ASSISTANT, 10)
    assert {"over_assistant_steps": 1} == vars(notes)


@pytest.mark.parametrize("phase", [STEP, PREFILL, len(PHASES)])
def test_other_steps_that_are_not_kept(phase):
    """The timeline counts them; no figure is made of them."""
    notes = LoopNotes()
    notes.overflow(phase, 10)
    assert {} == vars(notes)
