"""`warpspan report` on good, odd and broken files."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from warpspan.cli.app import app

WARPSPAN = [sys.executable, "-c", "from warpspan.cli import main; main()"]


def line(count: int = 2, operation: str = "forward", **span: str) -> str:
    """A line of OTLP JSON with inferences of Net, one second each, one after another."""
    attributes = {
        "pytorch.operation.name": operation,
        "pytorch.device.type": "cpu",
        "pytorch.model.name": "Net",
    }
    spans = [
        {
            "name": f"{operation} Net",
            "startTimeUnixNano": str(start * 10**9),
            "endTimeUnixNano": str((start + 1) * 10**9),
            "attributes": [
                {"key": key, "value": {"stringValue": value}} for key, value in attributes.items()
            ],
            **span,
        }
        for start in range(count)
    ]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}) + "\n"


METRICS = (
    '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"pytorch.inference.duration",'
    '"histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"5"}]}},'
    '{"name":"warpspan.dropped","sum":{"aggregationTemporality":2,"dataPoints":[{"asInt":"3",'
    '"attributes":[{"key":"warpspan.drop.reason","value":{"stringValue":"queue_full"}}]}]}}]}]}]}\n'
)
OTHER_SPAN = '{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"GET /"}]}]}]}\n'


def report(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, where it needs none of its own."""
    done = CliRunner().invoke(app, ["report", *arguments], **options)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_table(here):
    """The answer and a table on standard output."""
    Path("a.jsonl").write_text(line())
    done = report("a.jsonl")
    lines = done.stdout.splitlines()
    assert (0, "") == (done.returncode, done.stderr)
    assert "forward Net: what held it back can't be told." == lines[0]
    first = lines.index("2 inferences in 2.00 s")
    cells = " ".join(lines[first + 5].split())
    assert "forward Net 2 1.00 1.00 s 1.00 s 1.00 s cpu" == cells


def test_standard_input(here):
    """`-` reads from a pipe."""
    done = report("-", input=line())
    assert 0 == done.returncode
    assert "2 inferences in 2.00 s" in done.stdout.splitlines()


def test_json(here):
    """One object for programs, with what was left out of it."""
    Path("a.jsonl").write_text("words\n" + line() + METRICS + OTHER_SPAN)
    done = report("--json", "a.jsonl")
    summary = json.loads(done.stdout)
    assert {
        "file": "a.jsonl",
        "cut": False,
        "skipped_lines": 1,
        "skipped_spans": 0,
        "other_spans": 1,
        "counted_by_metrics": 5,
        "dropped": {"queue_full": 3},
        "skipped": {},
        "devices": [],
        "kv_cache_leaks": [],
        "inference_count": 2,
        "error_count": 0,
        "process_count": 1,
        "elapsed_s": 2.0,
    } == {key: value for key, value in summary.items() if key not in ("rows", "ledger", "verdicts")}
    assert ["forward"] == [row["operation"] for row in summary["rows"]]
    assert [
        {
            "device": {"type": "cpu", "index": None},
            "process": "{}",
            "elapsed_s": 2.0,
            "busy_s": 2.0,
            "transfer_alone_s": None,
            "idle_s": {
                "launch": None,
                "sync": None,
                "between_steps": None,
                "request_wait": None,
                "no_demand": None,
                "other": 0.0,
            },
        }
    ] == summary["ledger"]
    assert [
        {
            "operation": "forward",
            "model": "Net",
            "device_type": "cpu",
            "bottlenecks": [
                {
                    "id": "cant_tell",
                    "confidence": "possible",
                    "share": None,
                    "ceiling_gain": None,
                    "evidence": {"busy_s": 1.0},
                }
            ],
            "findings": [],
            "cant_tell": [
                {
                    "id": "device",
                    "missing": "whether the processor worked: inferences in an event loop, or that "
                    "change their thread, have no processor time",
                    "how": "run the model on one thread (asyncio.to_thread)",
                }
            ],
            "rules": 1,
        }
    ] == summary["verdicts"]


def test_remarks(here):
    """What the table leaves out of the file is told under it."""
    broken = line(1, endTimeUnixNano="never")
    Path("a.jsonl").write_text("words\n3\n" + broken + METRICS + line() + line()[:40])
    done = report("a.jsonl")
    assert [
        "The last line is incomplete and was skipped.",
        "Lines that are not OTLP JSON were skipped: 2.",
        "Inference spans with broken values were skipped: 1.",
        "The metrics count 5 inferences. The table shows the 2 with a span in the file; the rest was "
        "not sampled, or lost.",
        "Inferences that were not recorded, or only in part: queue_full 3.",
    ] == done.stdout.splitlines()[-5:]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "a.jsonl is empty"),
        ("\n\n", "a.jsonl is empty"),
        (
            "hello\nworld\n",
            "a.jsonl is not OTLP JSON with one object per line, as `warpspan run` writes it (convert "
            "multi-line JSON with: jq -c . a.jsonl | warpspan report -)",
        ),
        (
            '{"traces": []}\n[1]\n',
            "a.jsonl is JSON, but not OTLP: no line is an object with resourceSpans or "
            "resourceMetrics",
        ),
        (
            line()[:-30],
            "a.jsonl is not OTLP JSON, or its first line is truncated; no complete record was found",
        ),
        (OTHER_SPAN, "a.jsonl has 1 span, but no span of a PyTorch inference"),
        ('{"resourceSpans":[]}\n', "a.jsonl has no spans"),
        (
            METRICS,
            "the metrics count 5 inferences but a.jsonl has no spans for them: they were sampled "
            "out, lost, or exported elsewhere",
        ),
        (
            line(3, startTimeUnixNano="never"),
            "the values of all 3 inference spans in a.jsonl are broken",
        ),
    ],
)
def test_nothing_to_summarize(here, content, sentence):
    """A file without an inference is told what is wrong with it; exit code 1."""
    Path("a.jsonl").write_text(content)
    for options in ([], ["--json"]):
        done = report(*options, "a.jsonl")
        assert (1, "", f"warpspan: {sentence}\n") == (done.returncode, done.stdout, done.stderr)


def test_compressed(here):
    """A compressed file is told how to be read, and that way works."""
    Path("a.gz").write_bytes(gzip.compress(line().encode()))
    done = report("a.gz")
    assert (1, "warpspan: a.gz is compressed with gzip: gzip -dc a.gz | warpspan report -\n") == (
        done.returncode,
        done.stderr,
    )
    piped = subprocess.run(["gzip", "-dc", "a.gz"], capture_output=True, check=True).stdout
    assert 0 == report("-", input=piped.decode()).returncode


def test_binary(here):
    """A program, an image or the like is not OTLP JSON."""
    Path("a.bin").write_bytes(bytes(range(256)) * 100)
    done = report("a.bin")
    assert 1 == done.returncode
    assert done.stderr.startswith("warpspan: a.bin is not OTLP JSON")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing.jsonl", "can't read missing.jsonl: there is no such file"),
        ("folder", "can't read folder: it is a directory: give a file in it"),
        ("a.jsonl/b", "can't read a.jsonl/b: Not a directory"),
    ],
)
def test_unreadable(here, name, sentence):
    """A file that can't be opened is wrong usage; exit code 2."""
    Path("folder").mkdir()
    Path("a.jsonl").write_text(line())
    done = report(name)
    assert (2, "", f"warpspan: {sentence}\n") == (done.returncode, done.stdout, done.stderr)


def test_terminal_without_unicode(here):
    """A terminal that can't show a sign gets another in its place."""
    Path("a.jsonl").write_text(line() + line(1, "encode"))  # one has no rate
    done = subprocess.run(
        [*WARPSPAN, "report", "a.jsonl"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert "? = not measured." in done.stdout


def test_closed_pipe(here):
    """A reader that has seen enough ends it without a traceback."""
    Path("a.jsonl").write_text("".join(line(1, f"operation {n}") for n in range(500)))
    command = f'{sys.executable} -c "{WARPSPAN[2]}" report a.jsonl | head -n 1'
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=False, timeout=300
    )
    assert ("operation 0 Net: what held it back can't be told.\n", "") == (done.stdout, done.stderr)


def test_progress_on_a_terminal(here):
    """A large file shows a progress bar on a terminal, and only there."""
    Path("a.jsonl").write_text(line(traceState="x" * (1 << 20)) * 9)
    assert Path("a.jsonl").stat().st_size > 16 << 20
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [*WARPSPAN, "report", "--json", "a.jsonl"],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    ) as program:
        os.close(terminal)
        summary = json.loads(program.stdout.read())
    shown = b""
    try:
        while part := os.read(controller, 1 << 16):
            shown += part
    except OSError:  # Linux says so that the other end is closed
        pass
    os.close(controller)
    assert 18 == summary["inference_count"]
    assert b"reading" in shown
    assert "" == report("--json", "a.jsonl").stderr
