"""KV caches grow from inference to inference, and nobody releases them."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from warpspan.advisor.rule import OURS, finding
from warpspan.advisor.subject import Subject
from warpspan.advisor.verdict import Cause, Finding, Threshold, Unknown
from warpspan.records import CacheState, Inference
from warpspan.records.units import share, size

SCORE = Threshold("leak score ≥ 0.95", 0.95, "scalene")
SLOWDOWN = Threshold("time lost to the growth ≥ 5%", 0.05, OURS)


def rule(subject: Subject) -> Iterator[Finding | Unknown]:
    """By the caches alive at the end, where metrics say so, else by the last inference."""
    everything = [*subject.warm_up, *subject.inferences]
    cached = [one for one in everything if one.cache is not None]
    if not cached:
        return
    cached.sort(key=lambda one: one.end_ns)
    sizes = [one.cache.alive_bytes for one in cached if one.cache and one.cache.alive_bytes]
    score, held, count = _end(subject, cached[-1])
    grown = held - sizes[0] if len(sizes) > 1 else 0
    if score < SCORE.value or not held or grown <= 0:
        return
    lost = _lost(cached)
    slower = lost is not None and lost >= SLOWDOWN.value
    yield finding(
        subject,
        Cause.KV_GROWTH,
        SCORE,
        SLOWDOWN,
        what=(
            f"KV caches are not released: {count:,} hold {size(held)}, {size(grown)} more than at "
            f"the start"
            + (f", and inferences take {share(lost or 0.0)} longer for it" if slower else "")
            + "."
        ),
        advice=(
            "Start each conversation with a cache of its own and drop it at the end, or cut it "
            "(cache.crop(n)); look for a list or an attribute that keeps past_key_values."
        ),
        check="warpspan report: the sentence about a leak must be gone, and memory reach a plateau.",
        evidence={
            "leak_score": score,
            "alive_bytes": held,
            "alive_count": count,
            "grown_bytes": grown,
            "time_lost_share": lost,
        },
        time_s=(lost or 0.0) * subject.demand_s if slower else None,
        share=lost if slower else None,
    )


def _end(subject: Subject, last: Inference) -> tuple[float, int, int]:
    """Score, bytes and number of the caches that are alive at the end."""
    states = subject.observation.caches
    if states is not None:
        own = [state for state in states if _is_of(state, subject)]
        return (
            max((state.leak_score for state in own), default=0.0),
            sum(state.alive_bytes for state in own),
            sum(state.alive_count for state in own),
        )
    cache = last.cache
    if cache is None:
        return 0.0, 0, 0
    return cache.leak_score or 0.0, cache.alive_bytes or 0, cache.alive_count or 0


def _is_of(state: CacheState, subject: Subject) -> bool:
    return state.model == (subject.key[1] or "")


def _lost(cached: list[Inference]) -> float | None:
    """Share of the time that came with the growth: against the first quarter, for the same tokens."""
    if len(cached) < 20:
        return None
    times = [(one.timing.device_time_s or one.duration_s) / _tokens(one) for one in cached[1:]]
    quarter = len(times) // 4
    # Medians: a few slow ones are no growth.
    middles = [median(times[at * quarter : (at + 1) * quarter]) for at in range(4)]
    lost = sum(middles) - middles[0] * 4
    return max(lost / sum(middles), 0.0) if sum(middles) else None


def _tokens(inference: Inference) -> int:
    """New tokens, which the time goes with where the cache does not matter."""
    loop = inference.loop
    generated = loop.generation.generated_tokens if loop and loop.generation else None
    return generated or 1
