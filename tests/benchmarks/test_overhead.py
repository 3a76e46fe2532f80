"""The arithmetic of the benchmark, on scripted clocks, and that its variants do equal work."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from rich.console import Console

from benchmarks.overhead import command, table
from benchmarks.overhead.methods import MethodCost
from benchmarks.overhead.modes import NO_SDK, RECORDED, UNSAMPLED, FullRate, ModeResult, Row
from benchmarks.overhead.statistics import Block, Comparison, Cost, measure, rounds
from benchmarks.overhead.variants import BARE, BASELINE, HANDWRITTEN, TORCHTEL, WARPSPAN


def scripted(*readings: int) -> Callable[[], int]:
    """A clock that gives these readings."""
    return iter(readings).__next__


def block(*latencies_ns: int, inner_ns: int = 0, processor_ns: int = 0) -> Block:
    return Block(latencies_ns, [inner_ns] * len(latencies_ns), processor_ns)


def test_a_block_times_each_call_and_counts_the_processor_time_of_the_drain() -> None:
    """Latencies exclude what is left to be done, processor time includes it."""
    done: list[str] = []
    inner_ns = [999]

    def call(argument: str) -> None:
        done.append(argument)
        inner_ns.append(len(done))

    found = measure(
        call,
        "x",
        2,
        lambda: done.append("drained"),
        inner_ns,
        clock=scripted(100, 107, 200, 209),
        processor_clock=scripted(1_000, 1_050),
    )

    assert Block([7, 9], [1, 2], 50) == found
    assert ["x", "x", "drained"] == done


def test_a_round_holds_every_member_once_in_changing_order() -> None:
    """Within a round nothing is left out; the order does not stay, and is the same every run."""
    first = list(rounds("abc", 1e9, at_least=1, at_most=20))
    second = list(rounds("abc", 1e9, at_least=1, at_most=20))

    assert [["a", "b", "c"]] * 20 == [sorted(order) for order in first]
    assert len({tuple(order) for order in first}) > 1
    assert first == second


def test_rounds_end_with_the_time_but_not_before_the_least_number() -> None:
    """The time is asked only once enough rounds are done."""
    ticks = itertools.count(0, 100).__next__

    assert 5 == len(list(rounds("a", 15.0, at_least=5, at_most=9, clock=ticks)))
    assert 2 == len(list(rounds("a", 15.0, at_least=1, at_most=9, clock=scripted(0, 10, 20))))
    assert 3 == len(list(rounds("a", 1e9, at_least=1, at_most=3, clock=ticks)))


def test_a_cost_is_the_median_over_rounds_of_the_difference_in_each_round() -> None:
    """A machine that slows down from round to round slows the baseline down as well."""
    comparison = Comparison(
        {
            "none": [
                block(10, 10, inner_ns=5, processor_ns=40),
                block(50, 50, inner_ns=25, processor_ns=200),
                block(90, 90, inner_ns=45, processor_ns=360),
            ],
            "ours": [
                block(13, 13, inner_ns=6, processor_ns=60),
                block(53, 53, inner_ns=26, processor_ns=220),
                block(999, 999, inner_ns=99, processor_ns=9_999),
            ],
        },
        "none",
    )

    assert Cost(3, 3, 1, 10) == comparison.cost("ours")
    assert Cost(0, 0, 0, 0) == comparison.cost("none")


def test_a_ratio_is_the_median_over_rounds_of_the_ratio_in_each_round() -> None:
    """A round in which the other variant cost nothing tells nothing."""
    comparison = Comparison(
        {
            "none": [block(10, processor_ns=10)] * 3,
            "ours": [block(14, processor_ns=12)] * 3,
            "other": [
                block(18, processor_ns=14),
                block(18, processor_ns=14),
                block(9, processor_ns=9),
            ],
        },
        "none",
    )

    assert 0.5 == comparison.caller_ratio("ours", "other")
    assert 0.5 == comparison.processor_ratio("ours", "other")
    assert comparison.caller_ratio("ours", "none") is None


def test_the_p99_is_the_nearest_rank_of_a_block() -> None:
    """A value that was measured: of 100 calls the one that only the slowest exceeds."""
    assert 99 == block(*range(1, 101)).p99_ns
    assert 7 == block(7).p99_ns


def rows(caller_ns: float, ratio: float, submodule_ns: float, bare_ns: float) -> list[Row]:
    cost = Cost(caller_ns, 2 * caller_ns, submodule_ns * 200, 3 * caller_ns)
    bare = Cost(bare_ns, bare_ns, 0.0, bare_ns)
    return [
        Row(BASELINE, None, Cost(0, 0, 0, 0), Cost(0, 0, 0, 0), 0.0, 0.0),
        Row(WARPSPAN, None, cost, cost, ratio, ratio, 14),
        Row(BARE, None, bare, bare, 1.0, 0.5, 25),
        Row(HANDWRITTEN, None, bare, bare, 2.0, 1.0, 14),
        Row(TORCHTEL, "ImportError: no such thing"),
    ]


RESULTS = [
    ModeResult(RECORDED, 9, rows(19_000, 0.9, 36.0, 20_000), [FullRate(WARPSPAN, 9e3, 8e3, 0.5)]),
    ModeResult(UNSAMPLED, 9, rows(7_000, 1.4, 30.0, 5_000), []),
    ModeResult(NO_SDK, 9, rows(4_000, 1.1, 30.0, 4_000), []),
]


def test_targets_are_judged_by_what_was_measured() -> None:
    """Ratios of the recorded mode, each submodule, and the unsampled time by its own bare span."""
    found = table.targets(RESULTS)

    assert [
        (0.9, 1.0, "×", True),
        (0.9, 1.0, "×", True),
        (36.0, 35.0, "ns", False),
        (7.0, 7.5, "µs", True),
    ] == [(target.measured, target.limit, target.unit, target.met) for target in found]
    fast = [ModeResult(UNSAMPLED, 9, rows(3_900, 2.0, 30.0, 2_000), [])]
    assert [(3.9, 4.0)] == [(t.measured, t.limit) for t in table.targets(fast)]


METHODS = [
    MethodCost("Tensor.item", False, 150.0, 60.0),
    MethodCost("Tensor.to", True, 200.0, 120.0),
]


def test_each_replaced_method_has_a_target() -> None:
    """At most 100 ns on top of torch's own."""
    assert [
        ("Tensor.item, outside of all", 60.0, 100.0, "ns", True),
        ("Tensor.to, inside an inference", 120.0, 100.0, "ns", False),
    ] == [(*target, target.met) for target in table.targets([], METHODS)]
    console = Console(width=120, record=True, file=io.StringIO())
    table.render([], console, METHODS)
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "Tensor.to, inside an inference 200 120" in lines
    assert "Tensor.item, outside of all 60 ns 100 ns met" in lines
    value = json.loads(json.dumps(table.to_json([], {}, METHODS)))
    assert [60.0, 120.0] == [cost["added_ns"] for cost in value["methods"]]


MEASURED = """
import torch
from benchmarks.overhead import methods

methods._CALLS, methods._ROUNDS = 10, (1, 1)
for cost in methods.run(0.0):
    print(cost.method, cost.inside, cost.original_ns > 0)
print([name for name in ("item", "to", "cpu") if name in vars(torch.Tensor)])
"""


def test_methods_are_measured_with_and_without_the_replacement() -> None:
    """Inside an inference and outside; torch's own are back in their place afterwards."""
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED], capture_output=True, text=True, check=False
    )

    assert (
        "Tensor.item False True\nTensor.item True True\n"
        "Tensor.to False True\nTensor.to True True\n"
        "Tensor.cpu False True\nTensor.cpu True True\n"
        "CUDAGraph.replay True True\n[]\n",
        "",
    ) == (ended.stdout, ended.stderr)


def test_the_table_shows_every_variant_and_why_one_does_not_run() -> None:
    """The baseline is what all is compared with, so it has no row."""
    console = Console(width=120, record=True, file=io.StringIO())

    table.render(RESULTS, console)

    text = console.export_text()
    assert 3 == text.count(f"{TORCHTEL} does not run here: ImportError: no such thing")
    assert BASELINE not in text
    lines = [line.split() for line in text.splitlines()]
    assert ["warpspan", "19.0", "38.0", "0.90", "57.0", "0.90"] in [line[:6] for line in lines]
    assert ["warpspan", "9,000", "8,000", "0.50"] in lines
    assert 1 == text.count("missed")


def test_a_document_gets_the_same_tables_in_markdown() -> None:
    """One line a heading, so that any renderer takes it."""
    console = Console(width=200, record=True, file=io.StringIO())

    table.render(RESULTS, console, markdown=True)

    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert 3 == sum(line.startswith("| | small caller p50 | p99 | × bare |") for line in lines)
    assert 3 == sum(line.startswith("| warpspan |") and line.endswith("| 14 |") for line in lines)
    assert "| each submodule | 36 ns | 35 ns | missed |" in lines


def test_the_json_holds_what_the_table_shows() -> None:
    """For programs: nanoseconds, by mode and variant."""
    value = json.loads(json.dumps(table.to_json(RESULTS, {"cores": 2})))

    assert {"cores": 2} == value["environment"]
    assert [RECORDED, UNSAMPLED, NO_SDK] == list(value["modes"])
    ours = value["modes"][RECORDED]["variants"][WARPSPAN]
    assert 19_000 == ours["small"]["caller_p50_ns"]
    assert 36.0 == ours["submodule_ns"]
    theirs = value["modes"][RECORDED]["variants"][TORCHTEL]
    assert "ImportError: no such thing" == theirs["unavailable"]
    assert [True, True, False, True] == [target["met"] for target in value["targets"]]


EQUAL_WORK = """
import torch
from opentelemetry import trace
from benchmarks.overhead.modes import set_providers
from benchmarks.overhead.variants import HANDWRITTEN, WARPSPAN, VARIANTS, Stack

exporter, reader = set_providers("recorded")
model = Stack(3).eval()
spans, scopes = {}, {}
with torch.inference_mode():
    for name in (WARPSPAN, HANDWRITTEN):
        variant = VARIANTS[name](model)
        variant.switch_on()
        for _ in range(2):
            variant.call(torch.zeros(2, 4))
        variant.switch_off()
        model(torch.zeros(2, 4))
        variant.drain()
        spans[name] = exporter.last
for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
    scopes[scope.scope.name] = {
        metric.name: sum(getattr(point, "count", 1) for point in metric.data.data_points)
        for metric in scope.metrics
    }
print(exporter.count)
ours, theirs = spans[WARPSPAN], spans[HANDWRITTEN]
print(ours.name == theirs.name, ours.kind == theirs.kind)
changing = (
    "pytorch.host.cpu.time",
    "pytorch.device.idle.time",
    "pytorch.host.memory.rss",
    "pytorch.host.gc.time",
    "pytorch.host.gc.count",
)
values = [
    {key: type(value) if key in changing else value for key, value in span.attributes.items()}
    for span in (ours, theirs)
]
print(values[0] == values[1], len(values[0]))
print({name: scopes["warpspan"].get(name) for name in scopes["hand-written"]}
      == scopes["hand-written"], sorted(scopes["hand-written"]))
print(sorted(set(scopes["warpspan"]) - set(scopes["hand-written"])))
"""


def test_the_hand_written_variant_records_what_warpspan_records() -> None:
    """Else the comparison would be unfair: same span, same metrics, apart from observed ones."""
    ended = subprocess.run(
        [sys.executable, "-c", EQUAL_WORK], capture_output=True, text=True, check=False
    )

    assert (
        "4\n"
        "True True\n"
        "True 16\n"
        "True ['pytorch.inference.batch.size', 'pytorch.inference.duration',"
        " 'pytorch.inference.idle.time']\n"
        "['pytorch.inference.active', 'warpspan.queue.size']\n",
        "",
    ) == (ended.stdout, ended.stderr)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--seconds", "0"], "--seconds must be more than 0"),
        (["--seconds", "nan"], "--seconds must be more than 0"),
        (["--soak", "3"], "--soak must be at least 1000"),
        (["--json", "nowhere/at/all.json"], "--json: there is no directory nowhere/at"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_measured(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one sentence, with the exit code of wrong usage."""
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)

    assert 2 == ended.value.code
    assert (
        f"python -m benchmarks.overhead: error: {sentence}"
        == capsys.readouterr().err.splitlines()[-1]
    )
