"""Two runs of hand-made inferences against each other."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from warpspan.records import Device, Inference, Input, Memory, Model, Timing, Usage
from warpspan.records.kernels import DeviceWork, TracedInference
from warpspan.report.compare import Outcome, Run, Side, compare_runs
from warpspan.report.compare_figures import UNITS
from warpspan.report.compare_limits import LimitError, State, check, parse_limit, signed_share
from warpspan.report.compare_text import markdown, render_compared

MS = 1_000_000


def inference(number: int, device_ms: float = 4.0, **values) -> Inference:
    """The inference of a GPU that begins after so many tenths of a second, all else as stated."""
    defaults = {
        "operation": "forward",
        "device": Device("cuda", 0),
        "model": Model("Net"),
        "duration_s": device_ms / 1e3 + 0.001,
        "timing": Timing(device_time_s=device_ms / 1e3, queue_time_s=0.001),
        "process": "p",
    }
    return Inference(start_ns=number * 100 * MS, **(defaults | values))


def run(device_ms: float = 4.0, count: int = 40, **values) -> Run:
    """A cold inference and then steady ones, whose times differ by up to 2 %."""
    cold = inference(0, 900.0, **values)
    return Run(
        [cold, *(inference(number, device_ms * (1 + number % 3 / 100), **values)
                 for number in range(1, count))]
    )  # fmt: skip


def outcomes(before: Run, after: Run) -> dict[str, str]:
    """What became of each figure of the one row."""
    (row,) = compare_runs(before, after).rows
    return {change.name: change.outcome.value for change in row.changes}


def test_a_faster_run():
    """The change of each figure, without the warm-up."""
    (row,) = compare_runs(run(4.0), run(3.0)).rows
    change = row.change("device_time_p50")
    side = Side(40, 1, 0, ("cuda",))
    assert (side, side) == (row.before, row.after)
    assert (Outcome.BETTER, pytest.approx(-0.25)) == (change.outcome, change.values.change)
    assert {
        "queue_time_mean": "same",
        "duration_p50": "better",
        "rate": "same",
    }.items() <= outcomes(run(4.0), run(3.0)).items()


def test_more_is_worse_but_of_a_rate():
    """Ways of change and what they mean; the size of a batch has no better way."""
    slow = run(6.0, input=Input(batch_size=8), memory=Memory(peak_bytes=200))
    quick = run(4.0, input=Input(batch_size=4), memory=Memory(peak_bytes=100))
    assert {
        "device_time_p95": "worse",
        "memory_peak_max": "worse",
        "batch_size_mean": "changed",
    }.items() <= outcomes(quick, slow).items()
    often = Run([inference(number)._replace(start_ns=number * 50 * MS) for number in range(40)])
    assert "better" == outcomes(run(), often)["rate"]


def test_warm_up_is_the_first_and_what_is_as_slow():
    """Of each process; a slow inference later is none, and failed ones are left out."""
    slow = [inference(number, 100.0) for number in (0, 1, 2)]
    rest = [inference(number) for number in range(3, 20)]
    late = [inference(20, 100.0), inference(21)._replace(error_type="ValueError")]
    other = [inference(number)._replace(process="q") for number in range(22, 30)]
    (row,) = compare_runs(Run([*slow, *rest, *late, *other]), run()).rows
    assert Side(30, 4, 1, ("cuda",)) == row.before
    assert 25 == row.before.compared_count


def test_nothing_but_warm_up_is_compared_all_the_same():
    """A profiler's trace of one inference."""
    (row,) = compare_runs(Run([inference(0)]), Run([inference(0, 8.0)])).rows
    assert (1, Outcome.UNSURE) == (
        row.before.compared_count,
        row.change("device_time_p50").outcome,
    )


def test_what_one_run_lacks():
    """Figures and rows of one run only are named and not compared."""
    energy = run(usage=Usage(energy_j=3.0))
    (row,) = compare_runs(energy, run()).rows
    assert (("energy",), None) == (row.missing, row.change("energy_mean"))
    found = compare_runs(run(), run(operation="generate"))
    assert ((), (("forward", "Net"),), (("generate", "Net"),)) == found[:3]


def test_what_profiler_traces_have_beyond():
    """Busy and idle time of the device, kernels and launches."""

    def traced(busy_s: float | None) -> Run:
        work = DeviceWork(
            Device("cuda", 0), 0, 5 * MS, busy_s, 0.0, None if busy_s is None else 0.005 - busy_s,
            0.004, 10, 0.004, 11, 0, (), (), None, None, None, (), (), 0, None,
        )  # fmt: skip
        return Run(traced=[TracedInference(inference(n), "module", (work,)) for n in range(20)])

    found = outcomes(traced(0.001), traced(0.004))
    assert ("worse", "better", "same") == (
        found["busy_p50"],
        found["idle_inside_p50"],
        found["kernels_mean"],
    )
    (row,) = compare_runs(traced(0.001), traced(None)).rows
    assert ("busy", "idle_inside") == row.missing


@pytest.mark.parametrize(
    ("expression", "state"),
    [
        ("device_time_p50 > +5%", State.BROKEN),
        ("device_time_p50>+60%", State.HELD),
        ("device_time_p50 >= +1.9ms", State.BROKEN),
        ("device_time_p50 > +2500us", State.HELD),
        ("duration_p95 > 5ms", State.BROKEN),
        ("duration_p95 > 0.01 s", State.HELD),
        ("rate < -5%", State.HELD),
        ("queue_time_mean >= +0%", State.HELD),
        ("energy_mean > +5%", State.UNKNOWN),
    ],
)
def test_limits(expression, state):
    """Of a share of change, a change, and the value after; what was not measured is not held."""
    (found,) = check([parse_limit(expression)], compare_runs(run(4.0), run(6.0)))
    assert (expression, state) == (found.limit.expression, found.state)


def test_a_limit_says_who_broke_it():
    """And what is within the noise breaks none."""
    found = check(
        [parse_limit("device_time_p50 > +5%"), parse_limit("queue_time_mean >= +0%")],
        compare_runs(run(4.0), run(6.0)),
    )
    assert [
        "forward Net 4.04 ms → 6.06 ms (+50%)",
        "within the noise: forward Net 1.00 ms → 1.00 ms (0.0%)",
    ] == [one.reason for one in found]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "write a figure, one of > >= < <=, and a bound"),
        ("duration_p50", "write a figure"),
        ("duration_p50 == 5ms", "write a figure"),
        ("duratoin_p50 > 5ms", "there is no figure duratoin_p50; did you mean duration_p50?"),
        ("xyz > 5", "there is no figure xyz; figures are rate and duration, device_time"),
        ("duration > 5ms", "there is no figure duration; did you mean duration_"),
        ("duration_p50 > 5%", "a share needs its sign: +5% for a rise by so much"),
        ("duration_p50 > 5kg", "kg is no unit of duration_p50; its units are %, ns, us, µs, ms, s"),
        ("energy_mean > 5", "no unit is no unit of energy_mean; its units are %, mJ, J, kJ"),
    ],
)
def test_what_is_no_limit(expression, said):
    """One sentence that says how to write it."""
    with pytest.raises(LimitError) as raised:
        parse_limit(expression)
    assert str(raised.value).startswith(f"--fail-on {expression!r}: {said}")


def test_units_of_all_figures_are_read_back():
    """A bound in each unit of each figure."""
    for name, unit in UNITS.items():
        figure = name if name == "rate" else f"{name}_mean"
        for multiple, factor in unit.multiples.items():
            assert pytest.approx(-2.5 * factor) == parse_limit(f"{figure} < -2.5{multiple}").bound


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0.0%"), (-0.0, "0.0%"), (0.052, "+5.2%"), (-0.38, "-38%"), (12.5, "+1,250%")],
)
def test_changes_in_percent(value, said):
    """With a sign where there is a change."""
    assert said == signed_share(value)


def rendered(width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    compared = compare_runs(run(4.0, input=Input(4)), run(3.0, input=Input(8)))
    limits = check([parse_limit("device_time_p50 > +5%")], compared)
    console.print(render_compared(compared, limits, console))
    return console.file.getvalue()


def test_the_table_for_a_terminal():
    """The sentence first, then figures, limits, and what else has to be known."""
    lines = [line.rstrip() for line in rendered(140).splitlines()]
    assert [
        "forward Net: the device time is 25% shorter (4.04 ms → 3.03 ms, median).",
        "39 → 39 inferences compared on cuda; left out before: 1 as warm-up; after: 1 as warm-up.",
        "",
    ] == lines[:3]
    assert "device time p50 4.04 ms 3.03 ms -25% -26% … -24% ±1% better" in [
        " ".join(line.split()) for line in lines
    ]
    assert "device_time_p50 > +5%: held (not reached)." in lines
    assert (
        "The inputs differ: the mean batch size went from 4 to 8, so that changes are not of the "
        "program alone."
    ) in lines


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_value_is_cropped(width):
    """A narrow terminal has further tables."""
    whole = rendered(140)
    narrow = rendered(width)
    cells = {cell for line in whole.splitlines() for cell in line.split() if "ms" in cell}
    assert "…" not in narrow.replace(" … ", "")
    assert [] == [cell for cell in cells if cell not in narrow]
    assert max(map(len, narrow.splitlines())) <= width


def test_markdown_shows_names_as_they_are():
    """A name can't make markup, a link or a column."""
    compared = compare_runs(
        run(4.0, model=Model("<img src=x>|a_b`")), run(6.0, model=Model("<img src=x>|a_b`"))
    )
    said = markdown(compared, check([parse_limit("rate > +5%")], compared), ("a_1.jsonl", "b"))
    assert "### warpspan: a\\_1.jsonl → b" == said.splitlines()[0]
    assert "- ✅ rate &gt; +5%: held (not reached)." == said.splitlines()[2]
    assert "**forward &lt;img src=x&gt;\\|a\\_b\\`: the device time is 50% longer" in said
    assert "| device time p50 | 4.04 ms | 6.06 ms | +50% | +49% … +51% | ±1% | worse |" in said


def test_json_has_all_statistics():
    """Also those that tables don't show."""
    found = json.loads(json.dumps(compare_runs(run(4.0), run(3.0)).to_json()))
    (row,) = found["rows"]
    assert {
        "inference_count": 40,
        "warm_up_count": 1,
        "failed_count": 0,
        "device_types": ["cuda"],
    } == (row["before"])
    assert ["duration_p50", "duration_p95", "duration_mean", "duration_max"] == [
        figure["figure"] for figure in row["figures"]
    ][:4]
    assert {"unit": "1/s", "outcome": "same"}.items() <= row["figures"][-1].items()
