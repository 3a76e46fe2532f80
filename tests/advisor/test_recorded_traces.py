"""Traces of real GPUs, recorded by others: the verdict is what an expert says of them."""

from __future__ import annotations

import pytest

from tests.support import recorded as recorded_traces
from tests.support.observations import named
from tests.support.recorded import BUSY_COPIES_TOTAL_MS
from warpspan.advisor.engine import advise
from warpspan.advisor.ledger import Idle
from warpspan.advisor.observation import Observation
from warpspan.advisor.verdict import Advice

# TRUTH.md's last column. AlexNet's device is idle because the driver loads and tunes kernels, which
# is no launch; with counters instead of kernels nothing is known; training has no verdict.
TRUTH = {
    "h100-bert-small.json.gz": [["launch"]],
    "mi300-vit-image-classification.json.gz": [["launch"]],
    "mi300-timesformer.json.gz": [["device"]],
    "h100-qwen1.5-0.5b.json.gz": [["device"]],
    "mi300-vllm-prefill-decode.json.gz": [["device"]],
    "mi300-sglang-qwen3-8b-prefill-decode.json.gz": [["device"]],
    "mi300-torch-compile.json.gz": [["device"]],
    "a100-alexnet.json.gz": [["cant_tell"], ["cant_tell"]],
    "a100-alexnet-counters.json.gz": [["cant_tell"], ["cant_tell"]],
    "v100-ddp-training.json.gz": [],
}


@pytest.fixture(scope="module")
def advised(recorded):
    held: dict[str, Advice] = {}

    def advice(name: str) -> Advice:
        if name not in held:
            trace = recorded_traces.read(recorded / name)
            held[name] = advise(Observation.of_traces([trace]))
        return held[name]

    return advice


@pytest.mark.parametrize("name", TRUTH)
def test_the_verdict_is_the_experts(advised, name):
    """One bottleneck for each, or none that can be told."""
    assert TRUTH[name] == [named(one)[0] for one in advised(name).verdicts]


@pytest.mark.parametrize("name", BUSY_COPIES_TOTAL_MS)
def test_ledgers_are_those_of_trace_lens(advised, name):
    """Busy, copies alone and total agree within 0.1 %, and busy and idle sum to the total."""
    (ledger,) = advised(name).ledgers

    figures = (ledger.busy_s, ledger.transfer_alone_s, ledger.elapsed_s)
    assert pytest.approx(BUSY_COPIES_TOTAL_MS[name], rel=1e-3) == tuple(
        one * 1e3 for one in figures
    )
    idle_s = sum(part for part in ledger.idle_s.values() if part is not None)
    assert pytest.approx(ledger.elapsed_s, rel=1e-9) == ledger.busy_s + idle_s


def test_idle_time_before_a_step_is_not_the_steps(advised):
    """SGLang's device was idle for half of its trace, before the only step began."""
    (ledger,) = advised("mi300-sglang-qwen3-8b-prefill-decode.json.gz").ledgers

    assert 0.49 < ledger.idle_s[Idle.OTHER] < 0.5


def test_without_kernels_the_missing_is_named(advised):
    """Counters were read instead of times."""
    verdict = advised("a100-alexnet-counters.json.gz").verdicts[0]

    assert ["when the device was busy: no kernel was recorded"] == [
        one.missing for one in verdict.cant_tell
    ]
