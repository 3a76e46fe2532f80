"""`warpspan report` on profiler traces: one file, compressed, piped, a directory of ranks."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import subprocess
import sys

import pytest

WARPSPAN = [sys.executable, "-c", "from warpspan.cli import main; main()"]


def event(cat: str, name: str, ts: float, dur: float, **args) -> dict:
    return {
        "ph": "X", "cat": cat, "name": name, "pid": 1, "tid": 1, "ts": ts, "dur": dur, "args": args
    }  # fmt: skip


def trace(rank: int | None = None, *more: dict, start: float = 1000) -> dict:
    """A module that runs one kernel of 300 µs after a copy of 100 µs."""
    return {
        "schemaVersion": 1,
        "deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3"}],
        **({} if rank is None else {"distributedInfo": {"rank": rank}}),
        "traceEvents": [
            event("python_function", "nn.Module: Net_0", start, 800),
            event("cuda_runtime", "cudaMemcpyAsync", start + 10, 5, correlation=1),
            event("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", start + 100, 100,
                  device=0, stream=7, correlation=1, bytes=4096),
            event("cpu_op", "aten::mm", start + 50, 20,
                  **{"Input Dims": [[8, 8], [8, 8]], "Input type": ["float", "float"]}),
            event("cuda_runtime", "cudaLaunchKernel", start + 55, 5, correlation=2),
            event("kernel", "void gemm<float>(float*)", start + 300, 300,
                  device=0, stream=7, correlation=2),
            *more,
        ],
    }  # fmt: skip


def report(*arguments: str, **options) -> subprocess.CompletedProcess:
    options = {"text": True, **options}
    return subprocess.run(
        [*WARPSPAN, "report", *arguments], capture_output=True, check=False, timeout=60, **options
    )


def test_a_trace_is_reported(tmp_path):
    """Inferences as from any other source, and what the device did."""
    path = tmp_path / "anything"
    path.write_text(json.dumps(trace()))

    result = report(str(path))

    assert ("", 0) == (result.stderr, result.returncode)
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert "forward Net: the device itself is the limit: it is busy 80% of the time." == lines[0]
    for expected in (
        "1 inference in 800 µs",
        "cuda:0 NVIDIA H100 80GB HBM3   500 µs  400 µs    80%  100 µs  100 µs           0 s",
        "forward Net       500 µs  400 µs    80%  100 µs  100 µs        1  300 µs         2      0%",
        "300 µs   100%      1  300 µs  gemm<float>  aten::mm  f32[8,8] f32[8,8]",
        "Copies: 1 host to device pageable 4.00 KiB in 100 µs.",
        "While the device was idle, the host was 100% in functions.",
        "Not in the trace: memory (profile_memory=True).",
    ):
        assert expected in lines


def test_programs_get_json(tmp_path):
    """The keys of a report, and what the trace has beyond them; unknown causes are null."""
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps(trace()).encode()))

    found = json.loads(report(str(path), "--json").stdout)

    assert {
        "file": str(path),
        "cut": False,
        "skipped_events": 0,
        "inference_count": 1,
        "training_steps": 0,
    }.items() <= found.items()
    (row,) = found["rows"]
    assert ("forward", "Net", "cuda", [0]) == (
        row["operation"],
        row["model"],
        row["device_type"],
        row["device_indexes"],
    )
    assert [
        {
            "device": {"type": "cuda", "index": 0},
            "process": "trace.json",
            "elapsed_s": 5e-4,
            "busy_s": 4e-4,
            "transfer_alone_s": 1e-4,
            "idle_s": {
                "launch": 1e-4,
                "sync": 0.0,
                "between_steps": None,
                "request_wait": 0.0,
                "no_demand": None,
                "other": 0.0,
            },
        }
    ] == found["ledger"]
    (profiled,) = found["profile"]
    assert (1, "aten::mm", 300e-6) == (
        profiled["kernel_count"],
        profiled["kernels"][0]["operator"],
        profiled["kernels"][0]["time_s"],
    )
    (read,) = found["traces"]
    assert ("PyTorch Profiler", [0.0005]) == (
        read["format"],
        [on["elapsed_s"] for one in read["inferences"] for on in one["devices"]],
    )


@pytest.mark.parametrize("compressed", [False, True])
def test_a_trace_is_read_from_standard_input(compressed):
    """Recognized by its beginning, as a file is."""
    data = json.dumps(trace()).encode()

    result = report("-", "--json", input=gzip.compress(data) if compressed else data, text=False)

    found = json.loads(result.stdout)
    assert ("standard input", 1) == (found["file"], found["inference_count"])


def test_a_directory_of_ranks_is_one_report(tmp_path):
    """Each rank is a process; two traces of one rank have the names of their files."""
    for name, rank in (("a.json", 0), ("sub/b.json", 1), ("sub/c.json", 1)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(trace(rank)))
    (tmp_path / "empty.json").write_text('{"traceEvents": []}')
    (tmp_path / "notes.txt").write_text("nothing of that")

    result = report(str(tmp_path))

    assert 0 == result.returncode
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert "3 inferences in 800 µs, 3 processes" in lines
    processes = [
        line[len("cuda:0 NVIDIA H100 80GB HBM3") :].strip().split("  ")[0]
        for line in lines
        if line.startswith("cuda:0 NVIDIA")
    ]
    assert ["rank 0", "rank 1 (b.json)", "rank 1 (c.json)"] == processes
    assert "Other files in the directory: 1." in lines
    assert f"{tmp_path / 'empty.json'} is a trace without any event." in lines


def test_training_is_said(tmp_path):
    """A trace without an inference has its device all the same."""
    backward = event("cpu_op", "autograd::engine::evaluate_function: MmBackward0", 1900, 50)
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(trace(None, backward)))

    result = report(str(path))

    assert 0 == result.returncode
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert "1 training step, no inference" == lines[0]
    assert "Kernels on cuda:0, most time first" in lines
    assert (
        "1 training step with a backward pass or an optimizer: not counted as inferences." in lines
    )


def test_a_trace_that_breaks_off_is_said(tmp_path):
    """What is whole is reported."""
    text = json.dumps(trace(None, event("kernel", "x", 2000, 1), event("kernel", "y", 2100, 1)))
    path = tmp_path / "trace.json"
    path.write_text(text[:-40])

    result = report(str(path))

    assert (0, "") == (result.returncode, result.stderr)
    assert "The trace breaks off; what is whole is summarized." in result.stdout.splitlines()


def test_a_trace_with_nothing_in_it_ends_with_a_sentence(tmp_path):
    """And with exit code 1, as any file without a summary."""
    path = tmp_path / "trace.json"
    path.write_text('{"traceEvents": []}')

    result = report(str(path))

    assert ("", f"warpspan: {path} is a trace without any event\n", 1) == (
        result.stdout,
        result.stderr,
        result.returncode,
    )


@pytest.mark.parametrize("columns", [60, 100])
def test_no_value_is_cropped_on_a_narrow_terminal(tmp_path, columns):
    """Columns that do not fit go to further blocks."""
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(trace()))
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}

    process = subprocess.Popen(
        [*WARPSPAN, "report", str(path)], stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    text = b""
    try:
        while data := os.read(leader, 1 << 16):
            text += data
    except OSError:  # the terminal is closed
        pass
    process.wait(timeout=60)
    os.close(leader)

    plain = re.sub(r"\x1b\[[0-9;]*m", "", text.decode())
    assert max(map(len, plain.splitlines())) <= columns
    for value in ("500 µs", "400 µs", "300 µs", "NVIDIA H100", "aten::mm", "launches"):
        assert value in plain
