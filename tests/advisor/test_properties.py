"""What holds for every observation: sums, scale, order, and what less data may say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.observations import CPU, GPU, inference, named, ns, request, shuffled
from warpspan.advisor.engine import advise
from warpspan.advisor.observation import Observation
from warpspan.advisor.verdict import Advice
from warpspan.records import Inference, Usage

_times = st.integers(1, 40).map(lambda ticks: ticks / 64)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """Inferences of two models on two devices, some overlapping, some in requests."""
    held, requests, at_s = [], [], 0.0
    device = draw(st.sampled_from([CPU, GPU]))
    for number in range(draw(st.integers(1, 40))):
        at_s += draw(_times) - 0.25
        at_s = max(at_s, 0.0)
        duration_s = draw(_times)
        trace = f"{number:032x}"
        timing = {"gc_time_s": draw(st.sampled_from([None, 0.0, duration_s / 8]))}
        if device is GPU:
            timing["device_time_s"] = draw(st.sampled_from([duration_s, 2 * duration_s]))
            timing["queue_time_s"] = draw(st.sampled_from([0.0, duration_s / 2]))
        held.append(
            inference(
                at_s,
                duration_s,
                device=device,
                model=draw(st.sampled_from(["Net", "Other"])),
                batch=draw(st.sampled_from([None, 1, 2, 4])),
                trace=trace,
                timing=timing,
                usage=draw(st.sampled_from([None, Usage(sm_utilization=0.25)])),
            )._replace(span_id=trace)
        )
        if draw(st.booleans()):
            start_s = at_s - draw(_times)
            requests.append(request(start_s, start_s + draw(_times) + duration_s, trace))
    return Observation(held, requests)


def scaled(seen: Observation, factor: int) -> Observation:
    """Every time is so many times as long."""
    begin_ns = ns(0)

    def later(time_ns: int) -> int:
        return begin_ns + (time_ns - begin_ns) * factor

    def slower(one: Inference) -> Inference:
        times = {
            name: value * factor
            for name, value in one.timing._asdict().items()
            if name.endswith("_s") and value is not None
        }
        return one._replace(
            start_ns=later(one.start_ns),
            duration_s=one.duration_s * factor,
            timing=one.timing._replace(**times),
        )

    return seen._replace(
        inferences=[slower(one) for one in seen.inferences],
        requests=[
            one._replace(start_ns=later(one.start_ns), end_ns=later(one.end_ns))
            for one in seen.requests
        ],
    )


def ids(advice: Advice) -> list[tuple[str | None, tuple[list[str], list[str], list[str]]]]:
    """All that verdicts name, by model."""
    return sorted((one.model, named(one)) for one in advice.verdicts)


@settings(deadline=None, max_examples=60)
@given(observations())
def test_the_ledger_sums_to_the_observed_time(seen):
    """Each part is at least 0, and busy and idle together are all of it."""
    for ledger in advise(seen).ledgers:
        known = [part for part in ledger.idle_s.values() if part is not None]
        assert ledger.busy_s is not None
        assert min([ledger.busy_s, *known]) >= 0
        assert pytest.approx(ledger.elapsed_s) == ledger.busy_s + sum(known)


@settings(deadline=None, max_examples=60)
@given(observations(), st.sampled_from([2, 16]))
def test_times_scale_and_verdicts_stay(seen, factor):
    """No rule knows how long a second is."""
    before, after = advise(seen), advise(scaled(seen, factor))

    assert ids(before) == ids(after)
    assert [pytest.approx(one.elapsed_s * factor) for one in before.ledgers] == [
        one.elapsed_s for one in after.ledgers
    ]


@settings(deadline=None, max_examples=60)
@given(observations(), st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(seen, random):
    """Everything is sorted by what it says."""
    order = [*range(len(seen.inferences))]
    random.shuffle(order)
    requests = [*seen.requests]
    random.shuffle(requests)

    mixed = Observation(shuffled(seen.inferences, order), requests)

    assert advise(seen).to_json() == advise(mixed).to_json()


@settings(deadline=None, max_examples=60)
@given(observations())
def test_less_data_makes_no_claim_of_a_question(seen):
    """Where it can't be told with requests and counters, it can't be told without."""
    poor = Observation([one._replace(usage=None) for one in seen.inferences])
    rich = {one.model: named(one)[0] for one in advise(seen).verdicts}

    for one in advise(poor).verdicts:
        if rich[one.model] == ["cant_tell"]:
            assert ["cant_tell"] == named(one)[0]


@settings(deadline=None, max_examples=60)
@given(observations())
def test_shares_are_shares(seen):
    """From 0 to 1, with a gain of at least nothing, and seconds within the observed time."""
    for one in advise(seen).verdicts:
        for found in (*one.bottlenecks, *one.findings):
            assert found.share is None or 0 <= found.share <= 1
            assert found.ceiling_gain is None or found.ceiling_gain >= 1
