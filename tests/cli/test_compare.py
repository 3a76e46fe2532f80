"""`warpspan compare` on files: good, mixed, empty and missing ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from warpspan.cli.app import app


def otlp(path, duration_ms: int, operation: str = "forward") -> str:
    """A file with twenty inferences of Net on the CPU."""
    spans = [
        {
            "startTimeUnixNano": str(start * 10**9),
            "endTimeUnixNano": str(start * 10**9 + duration_ms * 10**6),
            "attributes": [
                {"key": key, "value": {"stringValue": value}}
                for key, value in {
                    "pytorch.operation.name": operation,
                    "pytorch.device.type": "cpu",
                    "pytorch.model.name": "Net",
                }.items()
            ],
        }
        for start in range(20)
    ]
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}) + "\n")
    return str(path)


def trace(path, kernel_us: int) -> str:
    """A profiler's trace of one module that runs one kernel."""

    def event(cat: str, name: str, ts: int, dur: int, **args) -> dict:
        return {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": dur,
                "args": args}  # fmt: skip

    path.write_text(
        json.dumps(
            {
                "schemaVersion": 1,
                "traceEvents": [
                    event("python_function", "nn.Module: Net_0", 1000, 5000),
                    event("cuda_runtime", "cudaLaunchKernel", 1100, 5, correlation=1),
                    event("kernel", "gemm", 1200, kernel_us, device=0, stream=7, correlation=1),
                ],
            }
        )
    )
    return str(path)


def compare(*arguments: str, **options) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["compare", *arguments], **options)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def files(tmp_path):
    return otlp(tmp_path / "a.jsonl", 100), otlp(tmp_path / "b.jsonl", 120)


def test_a_table(files):
    """What changed, and exit code 0 without limits."""
    code, out, err = compare(*files)
    assert (0, "") == (code, err)
    assert "forward Net: the duration is 20% longer (100 ms → 120 ms, median)." in out


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("duration_p50 > +5%", 1), ("duration_p50 > +30%", 0), ("energy_mean > +5%", 1)],
)
def test_limits_give_the_exit_code(files, limit, expected):
    """One that is broken or can't be checked ends with 1, after the table."""
    code, out, err = compare(*files, "--fail-on", "rate < -50%", "--fail-on", limit)
    assert (expected, "") == (code, err)
    assert f"{limit}: " in out


def test_json_and_markdown(files):
    """For programs and for pull requests."""
    code, out, _ = compare(*files, "--json", "--fail-on", "duration_p50 > +5%")
    found = json.loads(out)
    assert (1, files) == (code, (found["before"], found["after"]))
    assert [
        {
            "expression": "duration_p50 > +5%",
            "state": "broken",
            "reason": "forward Net 100 ms → 120 ms (+20%)",
        }
    ] == found["fail_on"]
    assert ["forward"] == [one["operation"] for one in found["bottlenecks"]]
    code, out, _ = compare(*files, "--markdown")
    assert (0, "### warpspan: ") == (code, out[:14])
    assert "| duration p50 | 100 ms | 120 ms | +20% |" in out


def test_standard_input(files):
    """One side may be piped."""
    code, out, _ = compare(files[0], "-", input=Path(files[1]).read_bytes())
    assert (0, True) == (code, "100 ms → 120 ms" in out)


def test_profiler_traces(tmp_path):
    """Two of them, and not one of them with OTLP."""
    first, second = trace(tmp_path / "a.json", 300), trace(tmp_path / "b.json", 600)
    code, out, _ = compare(first, second, "--fail-on", "busy_p50 > +5%")
    assert (1, True) == (code, "device busy p50" in out)
    spans = otlp(tmp_path / "c.jsonl", 100)
    said = (
        "warpspan: a profiler's trace can't be compared with OTLP: profiling changes the times; "
        "give two files of one kind\n"
    )
    assert (2, "", said) == compare(first, spans)
    assert (2, "", said) == compare(spans, first)


def test_what_can_not_be_compared(files, tmp_path):
    """One sentence and an exit code."""
    first, second = files
    other = otlp(tmp_path / "other.jsonl", 100, "generate")
    (tmp_path / "empty").write_text("")
    for arguments, code, said in (
        (
            (first, str(tmp_path / "none")),
            2,
            f"can't read {tmp_path / 'none'}: there is no such file",
        ),
        ((first, str(tmp_path / "empty")), 1, f"{tmp_path / 'empty'} is empty"),
        (("-", "-"), 2, "only one of the files can be standard input"),
        ((first, second, "--json", "--markdown"), 2, "choose one of --json and --markdown"),
        (
            (first, other),
            1,
            f"{first} and {other} have no operation and model in common: forward Net against "
            "generate Net",
        ),
        (
            (first, second, "--fail-on", "speed"),
            2,
            "--fail-on 'speed': write a figure, one of > >= < <=, and a bound, for example "
            "'device_time_p50 > +5%'",
        ),
    ):
        assert (code, "", f"warpspan: {said}\n") == compare(*arguments)
