"""Modules that are called as they are while Dynamo looks at frames: it sees nothing of ours."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

OLD = torch.__version__.startswith("2.4.")
BLOCKS = [f"forward Block{number}" for number in range(12)]
SPANS = {
    "break_in_a_with": BLOCKS * 2,
    "disabled_frame": BLOCKS * 2,
    "checkpointed": [] if OLD else BLOCKS[:4] * 2,
    "hooks": ["forward Hooked"] * 2,
    "layers_in_place": ["forward Sequential"] * 2,
    "dynamo_export": [],
    "artefact": [],
}


@pytest.fixture(scope="module")
def results(program, tmp_path_factory):
    """What Dynamo did without warpspan and with it."""
    directory = str(tmp_path_factory.mktemp("artefacts"))
    with ThreadPoolExecutor(2) as pool:
        never, after = pool.map(
            lambda order: json.loads(program("callback_active.py", order, directory).stdout),
            ("never", "after"),
        )
    return never, after


@pytest.mark.parametrize("way", SPANS)
def test_as_without_us_and_recorded(results, way):
    """The same graphs, frames, guards and names, artefacts of one size, and a span for each call."""
    never, after = (dict(one[way]["dynamo"]) for one in results)
    # The ids in an artefact have more digits in one process than in the other.
    assert abs(never.pop("size", 0) - after.pop("size", 0)) < 64
    assert never == after
    assert SPANS[way] == results[1][way]["spans"]


def test_the_ways_are_what_they_say(results):
    """Twelve models are twelve graphs, four blocks four, and there are guards and an artefact."""
    found = {way: one["dynamo"] for way, one in results[0].items()}
    assert 12 == found["break_in_a_with"]["graphs"]
    assert 14 == found["disabled_frame"]["graphs"]
    assert (0 if OLD else 4) == found["checkpointed"]["graphs"]
    assert 4 == len(found["dynamo_export"]["names"])
    assert len(found["dynamo_export"]["guards"]) > 20
    assert OLD or found["artefact"]["size"] > 10_000
