"""Which bottleneck two runs had, from hand-made verdicts."""

from __future__ import annotations

import pytest

from warpspan.advisor.verdict import Advice, Cause, Confidence, Finding, Verdict
from warpspan.report.compare_verdicts import Bottleneck, Moved, moved, moved_sentence


def advice(*found: tuple[Cause, float | None], model: str = "Net", device: str = "cuda") -> Advice:
    """A verdict on the forwards of a model, with bottlenecks and their shares."""
    findings = tuple(
        Finding(cause, Confidence.SURE, False, None, share, None, {}, (), "", "", "")
        for cause, share in found
    )
    return Advice((), (Verdict("forward", model, device, 30, 1, 1.0, "", findings),))


@pytest.mark.parametrize(
    ("before", "after", "has_moved", "said"),
    [
        (
            [(Cause.REQUEST_WAIT, 0.61)],
            [(Cause.DEVICE, 0.92)],
            True,
            "The bottleneck moved from request wait (61%) to device (92%).",
        ),
        (
            [(Cause.LAUNCH, 0.5)],
            [(Cause.LAUNCH, 0.3)],
            False,
            "The bottleneck is still launch (30%); it was launch (50%).",
        ),
        (
            [(Cause.LAUNCH, 0.5), (Cause.SYNC, 0.4)],
            [(Cause.SYNC, 0.4)],
            True,
            "The bottleneck moved from launch (50%) and sync (40%) to sync (40%).",
        ),
        (
            [(Cause.KV_GROWTH, None)],
            [(Cause.CANT_TELL, None)],
            None,
            "Bottleneck: kv growth before, can't tell after.",
        ),
        ([], [(Cause.DEVICE, 0.9)], None, "Bottleneck: none before, device (90%) after."),
    ],
)
def test_bottlenecks_move_stay_or_are_not_known(before, after, has_moved, said):
    """Where one run can't tell, nothing is said to have moved."""
    (found,) = moved(advice(*before), advice(*after))
    assert (has_moved, said) == (found.has_moved, moved_sentence(found))


def test_only_what_both_runs_have():
    """By operation and model, whatever the device."""
    device = [(Cause.DEVICE, 0.9)]
    assert () == moved(advice(*device, model="Net"), advice(*device, model="Other"))
    one = Bottleneck(Cause.DEVICE, 0.9, "sure")
    assert (Moved("forward", "Net", (one,), (one,)),) == moved(
        advice(*device, device="cpu"), advice(*device)
    )


def test_json():
    """Ids, shares and confidences, and whether it moved."""
    (found,) = moved(advice((Cause.SYNC, 0.5)), advice((Cause.DEVICE, 0.9)))
    assert {
        "operation": "forward",
        "model": "Net",
        "before": [{"id": "sync", "share": 0.5, "confidence": "sure"}],
        "after": [{"id": "device", "share": 0.9, "confidence": "sure"}],
        "moved": True,
    } == found.to_json()
