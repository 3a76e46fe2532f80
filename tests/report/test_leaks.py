"""KV caches that are not released, out of records and the last metric points."""

from __future__ import annotations

from warpspan.records import Cache, Device, Inference, Model
from warpspan.report.leaks import History, Leak, Level
from warpspan.report.text import leak_sentence

START_NS = 1_763_892_000_000_000_000


def inference(second: int, **cache) -> Inference:
    return Inference(
        operation="forward",
        start_ns=START_NS + second * 1_000_000_000,
        duration_s=0.5,
        device=Device("cpu"),
        model=Model("LlamaForCausalLM"),
        cache=Cache(
            type="dynamic", size_bytes=512, increase_bytes=512, alive_bytes=512 * second, **cache
        ),
        process="p",
    )


def leaks(inferences, levels, counted=None):
    history = History()
    assert inferences == list(history.passing(inferences))
    return history.leaks(levels, {KEY: len(inferences)} if counted is None else counted)


KEY = ("p", "LlamaForCausalLM")
GROWING = [
    inference(second, leak_start_s=(START_NS + 10**9) / 1e9 if second > 1 else None)
    for second in range(5)
]


def test_a_leak_is_named_with_its_begin_and_its_rate():
    """The metrics say that there is one, the latest span since when."""
    (leak,) = leaks(GROWING, {KEY: Level(2048, 4, 0.97)})
    assert Leak("LlamaForCausalLM", "p", 2048, 4, 0.97, leak.since_ns, 512.0) == leak
    assert abs(leak.since_ns - START_NS - 10**9) < 1000
    assert "2025-11-23 10:00:01 UTC" == leak.since


def test_growth_is_what_came_after_the_begin():
    """What was alive when the leak began did not grow since; the first inference added nothing."""
    (leak,) = leaks(GROWING, {KEY: Level(2048 + 4096, 4, 0.97)})
    assert (2048 + 4096 - 512) / 3 == leak.per_inference_bytes


def test_a_rate_needs_every_inference():
    """A sampler left out others, whose number since the begin nobody knows."""
    (leak,) = leaks(GROWING, {KEY: Level(2048, 4, 0.97)}, counted={KEY: 50})
    assert (None, "2025-11-23 10:00:01 UTC") == (leak.per_inference_bytes, leak.since)


def test_a_rate_needs_two_inferences():
    """One alone has no growth."""
    (leak,) = leaks([GROWING[4]], {KEY: Level(2048, 4, 0.97)})
    assert None is leak.per_inference_bytes


def test_nothing_is_named_that_was_released_after_the_last_inference():
    """The spans alone would say that it grew."""
    assert () == leaks(GROWING, {KEY: Level(0, 0, 0.4)})
    assert () == leaks(GROWING, {KEY: Level(2048, 4, 0.94)})
    assert () == leaks(GROWING, {})


def test_without_spans_the_begin_is_not_known():
    """A sampler may have left them out."""
    assert (Leak("LlamaForCausalLM", "p", 2048, 4, 0.97),) == leaks([], {KEY: Level(2048, 4, 0.97)})


def test_the_largest_comes_first():
    """Of several models and processes."""
    levels = {KEY: Level(1, 1, 0.97), ("q", "T5"): Level(9, 1, 0.96)}
    assert ["T5", "LlamaForCausalLM"] == [leak.model for leak in leaks([], levels)]


def test_the_sentence():
    """Which model, since when, how much."""
    many = Leak("Llama", "p", 1_413_120, 60, 0.984, START_NS, 2944.0)
    assert (
        "Possible leak: Llama has released no KV cache since 2025-11-23 10:00:00 UTC. 60 caches now "
        "hold 1.35 MiB, growing 2.88 KiB per inference (leak score 0.98)."
    ) == leak_sentence(many)
    one = many._replace(caches=1, since_ns=None, per_inference_bytes=None)
    assert (
        "Possible leak: one KV cache of Llama has grown without being cut or released. It now holds "
        "1.35 MiB (leak score 0.98)."
    ) == leak_sentence(one)


def test_json():
    """What a script reads."""
    leak = Leak("Llama", "p", 2048, 4, 0.97, START_NS, 512.0)
    assert {
        "model": "Llama",
        "kv_cache_bytes": 2048,
        "kv_cache_count": 4,
        "score": 0.97,
        "since": "2025-11-23 10:00:00 UTC",
        "bytes_per_inference": 512.0,
    } == leak.to_json()
