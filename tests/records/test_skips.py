"""Why calls are no inferences, in one sentence."""

import pytest

from warpspan.records.skips import SkipReason, describe


@pytest.mark.parametrize(
    ("skipped", "sentence"),
    [
        ({}, ""),
        ({"training": 0}, ""),
        ({"excluded": 1}, "1 call was skipped: excluded models 1"),
        (
            {"fake_tensors": 1, "training": 40, "excluded": 0},
            "41 calls were skipped: training mode with gradients 40, fake tensors 1",
        ),
        ({"of another version": 2}, "2 calls were skipped: of another version 2"),
    ],
)
def test_the_sentence(skipped, sentence):
    """Most first; a reason that this version does not know keeps its label."""
    assert sentence == describe(skipped)


def test_every_reason_has_words():
    """A new member needs a text for people."""
    assert all(reason.text for reason in SkipReason)
