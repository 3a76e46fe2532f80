"""`warpspan run` with real programs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from warpspan.records.units import size

WARPSPAN = [sys.executable, "-c", "from warpspan.cli import main; main()"]
OTLP = '{"resourceSpans":[]}\n'

MODEL = """
import sys
import torch

torch.set_num_threads(1)

class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(100, 8)
        self.linear = torch.nn.Linear(8, 2)

    def forward(self, ids):
        if ids.shape[0] == 13:
            raise ValueError("unlucky")
        return self.linear(self.embedding(ids).mean(1))

def infer(batch, length=16):
    with torch.inference_mode():
        model(torch.zeros(batch, length, dtype=torch.long))

model = Classifier().eval()
"""
FAILING = (
    MODEL
    + """
for batch in (1, 2, 4, 13):
    try:
        infer(batch)
    except ValueError:
        pass
print("stdout", *sys.argv[1:], sys.stdin.read())
print("stderr", file=sys.stderr)
sys.exit(3)
"""
)
CHILDREN = (
    MODEL
    + """
import multiprocessing
from opentelemetry import trace

def serve():
    infer(2)
    infer(2)
    trace.get_tracer_provider().force_flush()

if __name__ == "__main__":
    infer(1)
    children = [
        multiprocessing.get_context(method).Process(target=serve)
        for method in ("fork", "fork", "spawn")
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [0, 0, 0] == [child.exitcode for child in children]
"""
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, and nothing of OpenTelemetry in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in [*os.environ]:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "transformers")
    return tmp_path


def warpspan(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*WARPSPAN, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        **options,
    )


def run_script(source: str, *options: str) -> subprocess.CompletedProcess[str]:
    Path("app.py").write_text(source)
    return warpspan("run", *options, "--", sys.executable, "app.py", "-o", "--json", input="words")


def test_whole_run(here):
    """The program's output and exit code are its own; the table follows on standard error."""
    done = run_script(FAILING)
    (file,) = here.glob("warpspan-*.jsonl")
    assert re.fullmatch(r"warpspan-\d{8}T\d{6}Z-\d+\.jsonl", file.name)
    assert (3, "stdout -o --json words\n") == (done.returncode, done.stdout)

    lines = done.stderr.splitlines()
    assert ["stderr", ""] == lines[:2]
    assert lines[2].startswith("forward Classifier: ")
    assert any(re.fullmatch(r"4 inferences in [\d.]+ \S+, 1 failed", line) for line in lines)
    row = next(line for line in lines if line.startswith("forward Classifier  "))
    assert ["4", "1"] == row.split()[2:4]
    assert ["2/13", "16"] == row.split()[-2:]
    assert "Failed: ValueError 1." in lines
    assert [
        f"Recorded in {file.name} ({size(file.stat().st_size)} of OTLP JSON).",
        f"  again   {sys.executable} -m warpspan report {file.name}",
        f"  Jaeger  grep resourceSpans {file.name} > traces.json  # then upload it in Jaeger's UI",
        "  others  OpenTelemetry Collector, receiver otlp_json_file, as in "
        "https://github.com/warpspan/warpspan/blob/main/collector-config/import.yaml",
    ] == lines[-4:]

    kinds = [next(iter(json.loads(line))) for line in file.read_text().splitlines()]
    assert {"resourceSpans", "resourceMetrics"} == set(kinds)
    again = json.loads(warpspan("report", "--json", file.name).stdout)
    assert (file.name, False, 4, {}) == (
        again["file"],
        again["cut"],
        again["counted_by_metrics"],
        again["dropped"],
    )
    (row,) = again["rows"]
    assert ("forward", "Classifier", "cpu", 4, 1, {"ValueError": 1}) == (
        row["operation"],
        row["model"],
        row["device_type"],
        row["inference_count"],
        row["error_count"],
        row["errors"],
    )


def test_forked_and_spawned_children(here):
    """Children write to the same file, and each is a process of its own."""
    done = run_script(CHILDREN, "-o", "out.jsonl")
    assert 0 == done.returncode, done.stderr
    summary = json.loads(warpspan("report", "--json", "out.jsonl").stdout)
    assert (7, 4, 0, 0, False) == (
        summary["inference_count"],
        summary["process_count"],
        summary["error_count"],
        summary["skipped_lines"],
        summary["cut"],
    )


def test_sampled_out(here, monkeypatch):
    """Inferences without a span are not denied: the metrics have counted them."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    done = run_script(MODEL + "infer(1); infer(2)", "-o", "out.jsonl")
    assert [
        "warpspan: no inferences recorded: the metrics count 2 inferences but out.jsonl has no spans "
        "for them: they were sampled out, lost, or exported elsewhere.",
        "OTEL_TRACES_SAMPLER drops every span that has no sampled parent.",
    ] == done.stderr.splitlines()


def test_no_inference(here):
    """A run without an inference says so, and why, and leaves no file."""
    done = warpspan("run", "--", sys.executable, "-c", "print('hello')")
    assert (0, "hello\n") == (done.returncode, done.stdout)
    assert [
        "warpspan: no inferences recorded: no telemetry was written.",
        "The program never imported torch.",
    ] == done.stderr.splitlines()
    assert [] == [*here.iterdir()]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "import torch",
            "warpspan saw no call of a PyTorch module. Wrap compiled functions and engines in "
            "`warpspan.inference()` to record them.",
        ),
        (
            "import os; os._exit(0)",
            "The program left by `os._exit` or was replaced by another one, which skips the "
            "export: call `warpspan.flush()` before.",
        ),
        (
            "import os; os.kill(os.getpid(), 9)",
            "SIGKILL ended the program before it exported what it had; what is older than a second "
            "would be in the file.",
        ),
    ],
)
def test_no_inference_by_how_it_ended(here, source, reason):
    """Each process under `warpspan run` has noted how it began and ended."""
    done = warpspan("run", "--", sys.executable, "-c", source)
    assert reason == done.stderr.splitlines()[-1]


def test_no_inference_without_a_python_of_ours(here):
    """An isolated Python, or none at all."""
    done = warpspan("run", "--", sys.executable, "-I", "-c", "")
    assert done.stderr.splitlines()[-1].startswith("No Python with warpspan ran in it: ")


def test_an_exporter_that_there_is_not(here, monkeypatch):
    """OpenTelemetry then starts nothing at all."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "warpspan_oltp")
    done = warpspan("run", "--", sys.executable, "-c", "")
    assert (
        "(did you mean warpspan_otlp?)."
        == done.stderr.splitlines()[-1][-len("(did you mean warpspan_otlp?).") :]
    )


def test_the_limit_of_the_file(here, monkeypatch):
    """Nothing is written beyond it, which the program's log and the summary say."""
    monkeypatch.setenv("OTEL_PYTHON_WARPSPAN_FILE_LIMIT", "1")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    done = run_script(MODEL + "for _ in range(1500): infer(1)", "-o", "out.jsonl")
    assert (1 << 20) <= Path("out.jsonl").stat().st_size < (2 << 20)
    lines = done.stderr.splitlines()
    assert 1 == sum("has its limit of 1 MiB: nothing more is recorded" in line for line in lines)
    assert "The file has its limit of 1.00 MiB; what came later is not recorded." in lines


SKIPPED = """
import torch
from torch._subclasses import FakeTensorMode
model = torch.nn.Linear(4, 4)
for _ in range(40):
    model(torch.ones(2, 4))
with FakeTensorMode() as mode, torch.no_grad():
    torch.nn.Linear(4, 4)(torch.ones(2, 4))
"""


def test_calls_that_are_no_inferences(here):
    """They are counted by reason, and named where nothing else was recorded."""
    done = run_script(SKIPPED, "-o", "out.jsonl")
    assert (
        "41 calls were skipped: training mode with gradients 40, fake tensors 1."
        == done.stderr.splitlines()[-1]
    )
    summary = warpspan("report", "--json", "out.jsonl")
    assert 1 == summary.returncode


def test_calls_that_are_no_inferences_beside_others(here):
    """They stand below the table, too."""
    done = run_script(MODEL + "infer(1)" + SKIPPED, "-o", "out.jsonl")
    assert (
        "41 calls were skipped: training mode with gradients 40, fake tensors 1."
        in done.stderr.splitlines()
    )
    summary = json.loads(warpspan("report", "--json", "out.jsonl").stdout)
    assert {"training": 40, "fake_tensors": 1} == {
        reason: count for reason, count in summary["skipped"].items() if count
    }


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("OTEL_SDK_DISABLED", "true", "OTEL_SDK_DISABLED turns OpenTelemetry off."),
        (
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
            "transformers,warpspan",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS turns warpspan off.",
        ),
    ],
)
def test_no_inference_for_a_known_reason(here, monkeypatch, name, value, reason):
    """A reason that is known takes the place of the usual ones."""
    monkeypatch.setenv(name, value)
    done = warpspan("run", "--", sys.executable, "-c", "")
    assert reason == done.stderr.splitlines()[-1]


def test_another_python(here, monkeypatch):
    """A Python other than the one with warpspan is named."""
    python = here / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(here), prepend=os.pathsep)
    done = warpspan("run", "--", "python", "app.py")
    assert (
        f"The program is {python}, but warpspan is installed for {sys.executable}."
        == done.stderr.splitlines()[-1]
    )


def test_signal_without_a_handler(here):
    """A program that a signal ends is summarized, and its signal is the exit status."""
    with subprocess.Popen(
        [*WARPSPAN, "run", "--", "sh", "-c", "echo ready; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert "ready\n" == program.stdout.readline()
        program.send_signal(signal.SIGTERM)
        errors = program.stderr.read()
    assert -signal.SIGTERM == program.returncode
    assert errors.startswith("warpspan: no inferences recorded: no telemetry was written.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_summary_that_can_not_be_written(here):
    """Trouble with the summary does not change the exit code."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*WARPSPAN, "run", "--", "sh", "-c", "exit 4"], stderr=full)
    assert 4 == done.returncode


def test_file_of_ours_is_overwritten(here):
    """A named file that holds OTLP JSON, or nothing, is begun anew."""
    for content in (OTLP, ""):
        Path("out.jsonl").write_text(content)
        assert 0 == warpspan("run", "-o", "out.jsonl", "--", "true").returncode
        assert "" == Path("out.jsonl").read_text()


def prepare_files() -> None:
    Path("notes.txt").write_text("keep me")
    Path("folder").mkdir()


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (
            "notes.txt",
            "notes.txt exists and is not OTLP JSON, so it is not overwritten: give -o another name",
        ),
        ("folder", "folder is a directory: give -o the name of a file"),
        ("/dev/null", "/dev/null is not a regular file: give -o another name"),
        (
            "missing/out.jsonl",
            "can't write missing/out.jsonl: no such file or directory (-o chooses another file)",
        ),
        (
            "notes.txt/out.jsonl",
            "can't write notes.txt/out.jsonl: not a directory (-o chooses another file)",
        ),
    ],
)
def test_unusable_file(here, file, sentence):
    """A file that can't be written is told before the program starts."""
    prepare_files()
    done = warpspan("run", "-o", file, "--", "touch", "started")
    assert (2, "", f"warpspan: {sentence}\n") == (done.returncode, done.stdout, done.stderr)
    assert not Path("started").exists()
    assert "keep me" == Path("notes.txt").read_text()


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        ("missing", 127, "can't run missing: command not found"),
        ("./folder", 126, "can't run folder: it is a directory"),
        ("./notes.txt", 126, "can't run notes.txt: it is not executable"),
    ],
)
def test_unusable_command(here, command, code, sentence):
    """A command that can't be run is told, with a shell's exit code, and leaves no file."""
    prepare_files()
    done = warpspan("run", "--", command)
    assert (code, f"warpspan: {sentence}\n") == (done.returncode, done.stderr)
    assert [] == [*here.glob("*.jsonl")]


def test_no_command(here):
    """Without a command it shows how to use it."""
    done = warpspan("run")
    assert 2 == done.returncode
    assert "Usage: " in done.stderr
    assert "COMMAND" in done.stderr


def test_command_without_dashes(here):
    """`--` may be left out: options after the command are the command's."""
    done = warpspan("run", "-o", "out.jsonl", "echo", "-o", "x", "--", "y")
    assert "-o x -- y\n" == done.stdout
