"""The benchmark row of a generation: its target, and what it prints."""

from rich.console import Console

from benchmarks.overhead.generate import LIMIT_US, Result, render


def printed(result):
    console = Console(width=200)
    with console.capture() as capture:
        render(result, console)
    return " ".join(capture.get().split())


def test_the_target_is_judged_by_the_steps():
    """What the patch of the module call adds is judged elsewhere."""
    assert Result(3, 400.0, 50.0, LIMIT_US).target.met
    assert not Result(3, 400.0, 0.0, LIMIT_US + 0.1).target.met
    assert not Result(unavailable="needs transformers").target.met


def test_what_is_printed():
    """The figures in one sentence, or why there are none."""
    assert (
        "A generation of 512 tokens by a tiny Llama (3 rounds): 400 µs a token without "
        "instrumentation; the patched module calls add 1.0 µs, the steps 2.5 µs."
    ) == printed(Result(3, 400.0, 1.0, 2.5))
    assert "A generation does not run here: needs transformers" == printed(
        Result(unavailable="needs transformers")
    )
