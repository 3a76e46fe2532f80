"""The commands as a user calls them."""

import json
import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("typer")
from typer.testing import CliRunner

from warpspan.kernels.bench import fused as suite
from warpspan.kernels.bench import fused_cli
from warpspan.kernels.bench.correctness import Check

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without one")


@pytest.fixture
def run(monkeypatch):
    """Runs a command in this process, whose environment is put back."""
    monkeypatch.setenv("TRITON_INTERPRET", os.environ.get("TRITON_INTERPRET", ""))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments):
        result = CliRunner().invoke(fused_cli.app, [str(one) for one in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@without_gpu
@pytest.mark.parametrize("command", ["fused", "model"])
def test_without_a_gpu_one_sentence_offers_the_interpreter(command):
    """Exit status 2, nothing on stdout, no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "warpspan.kernels.bench.fused_cli", command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (2, "") == (done.returncode, done.stdout)
    assert (
        "No CUDA GPU is visible to torch, so nothing can be timed; "
        f"`warpspan bench {command} --interpret` checks "
    ) in done.stderr
    assert 1 == len(done.stderr.splitlines())


@without_gpu
@pytest.mark.usefixtures("kernels")
def test_interpret_checks_and_shows_no_times(run, tmp_path):
    """A table of cases, a JSON without rows, exit status 0."""
    path = tmp_path / "out.json"
    done = run("fused", "--interpret", "--op", "swiglu", "--dtype", "fp32", "--json", path)
    assert 0 == done.exit_code
    assert "Correctness against float64" in done.stdout
    assert "Not timed" in done.stdout
    assert "us" not in done.stdout.replace("cases", "").split()
    value = json.loads(path.read_text())
    assert ([], {}, True) == (value["rows"], value["verdicts"], value["environment"]["interpreted"])
    assert {"swiglu"} == {check["op"] for check in value["checks"]}


@without_gpu
@pytest.mark.usefixtures("kernels")
def test_a_failed_case_is_named_and_fails_the_command(run, monkeypatch):
    """Exit status 1."""
    failed = Check("swiglu", "M=3,I=7 nan", "float32", None, None, "gives 1.0 at (1, 3)")
    monkeypatch.setattr(suite, "check", lambda *_, **__: iter([failed]))
    done = run("fused", "--interpret", "--op", "swiglu", "--dtype", "fp32")
    assert 1 == done.exit_code
    assert "FAILED swiglu float32 M=3,I=7 nan: gives 1.0 at (1, 3)\n" == done.stderr


@without_gpu
@pytest.mark.usefixtures("kernels")
def test_a_tiny_model_is_checked_on_the_cpu(run):
    """Fused logits against float64; no times."""
    done = run("model", "--interpret")
    assert 0 == done.exit_code
    assert ["fused", "float32", "1", "0"] == done.stdout.splitlines()[3].split()[:4]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--op", "flash"], "--op flash is not known; choose from: add_rms_norm, "),
        (["--dtype", "fp8"], "--dtype fp8 is not known; choose from: fp32, fp16, bf16."),
        (["--provider", "jax"], "--provider jax is not known; choose from: eager, "),
        (["--cache", "warm"], "--cache warm is not known; choose from: cold, hot."),
        (["--op", "rope", "--shape", "M=1"], "fits no chosen operation: rope takes B=...,S=..."),
        (["--shape", "M=x"], "--shape M=x is not understood; write sizes as M=8,H=4096."),
        (["--shape", "nonsense"], "--shape nonsense is not understood"),
        (["--plot", "x.png"], "--plot draws times, and --interpret takes none"),
    ],
)
def test_a_mistake_is_answered_with_what_fits(run, arguments, sentence):
    """Exit status 2 and one sentence, before anything runs."""
    done = run("fused", "--interpret", *arguments)
    assert (2, "") == (done.exit_code, done.stdout)
    assert sentence in done.stderr


@without_gpu
@pytest.mark.usefixtures("kernels")
def test_a_file_that_cannot_be_written_is_told(run, tmp_path):
    """Not a traceback."""
    path = tmp_path / "missing" / "out.json"
    done = run("fused", "--interpret", "--op", "swiglu", "--dtype", "fp32", "--json", path)
    assert 2 == done.exit_code
    assert f"{path} can't be written: {path.parent} is no directory." in done.stderr
    assert "" == done.stdout  # before anything ran


def test_plots_without_matplotlib_are_refused_before_anything_runs(run, monkeypatch, tmp_path):
    """With the command that brings it."""
    find = fused_cli.importlib.util.find_spec
    monkeypatch.setattr(
        fused_cli.importlib.util,
        "find_spec",
        lambda name: None if name == "matplotlib" else find(name),
    )
    done = run("fused", "--interpret", "--html", tmp_path / "out.html")
    assert (2, "") == (done.exit_code, done.stdout)
    assert "Plots need matplotlib: pip install 'warpspan[bench]'" in done.stderr


@without_gpu
@pytest.mark.usefixtures("kernels")
def test_with_a_gpu_tables_verdicts_and_files_are_made(run, monkeypatch, tmp_path, computing):
    """The whole command on a scripted device that computes on the CPU."""
    from warpspan.kernels.bench.ops import load

    swiglu = load("swiglu")
    device = computing(
        {swiglu.fused: "triton", swiglu.reference: "eager"},
        {"triton": 2e-6, "eager": 6e-6, "copy": 100e-6},
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("warpspan.kernels.bench.cuda.CudaDevice", lambda: device)
    files = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "html", "png")}
    done = run(
        "fused",
        *("--op", "swiglu", "--dtype", "fp32", "--shape", "M=2,I=64", "--rounds", 3),
        *("--provider", "eager", "--provider", "triton", "--provider", "tensorrt"),
        *("--json", files["json"], "--csv", files["csv"]),
        *("--html", files["html"], "--plot", files["png"]),
    )
    assert 0 == done.exit_code, done.stderr
    assert "swiglu: fusion pays 3.0x at decode" in done.stdout
    assert "pip install torch-tensorrt" in done.stdout
    value = json.loads(files["json"].read_text())
    assert [
        ("tensorrt", "", None),
        ("eager", "cold", 1.0),
        ("triton", "cold", 3.0),
        ("eager", "hot", 1.0),
        ("triton", "hot", 3.0),
    ] == [
        (row["provider"], row["cache"], row["speedup"] and round(row["speedup"], 6))
        for row in value["rows"]
    ]
    assert ("NVIDIA H100 80GB HBM3", 3.35e12) == (
        value["environment"]["gpu"],
        value["rows"][0]["datasheet_bytes_per_s"],
    )
    assert 6 == len(files["csv"].read_text().splitlines())
    assert "<svg" in files["html"].read_text()
    assert b"\x89PNG" == files["png"].read_bytes()[:4]


def test_a_model_that_is_not_there_is_told(run, monkeypatch, tmp_path):
    """transformers' own sentence, without its traceback."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = run("model", "--interpret", "--model", tmp_path / "nothing")
    assert (2, "") == (done.exit_code, done.stdout)
    assert done.stderr


def test_a_shape_is_timed_where_its_names_fit(run):
    """Sizes may stand in any order; operations with other names are left out."""
    from warpspan.kernels.bench.ops import load

    assert [{"M": 3, "H": 5}] == fused_cli._sizes(load("add_rms_norm"), ["H=5,M=3"])
    assert [] == fused_cli._sizes(load("rope"), ["H=5,M=3"])


@pytest.mark.gpu
def test_the_whole_command_on_a_gpu(tmp_path):
    """Rows with times for eager, compile and ours, files of every kind, exit status 0."""
    paths = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "html", "png")}
    done = subprocess.run(
        [sys.executable, "-m", "warpspan.kernels.bench.fused_cli", "fused"]
        + ["--op", "add_rms_norm", "--shape", "M=64,H=4096", "--rounds", "5"]
        + [part for name in ("eager", "compile", "triton") for part in ("--provider", name)]
        + ["--json", paths["json"], "--csv", paths["csv"], "--html", paths["html"]]
        + ["--plot", paths["png"]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    value = json.loads(paths["json"].read_text())
    assert {("eager", "cold"), ("compile", "hot"), ("triton", "cold")} <= {
        (row["provider"], row["cache"]) for row in value["rows"] if row["device_p50_s"]
    }
    assert {1} == {row["launches"] for row in value["rows"] if row["provider"] == "triton"}
    assert all(path.stat().st_size for path in paths.values())


@without_gpu
@pytest.mark.usefixtures("kernels")
def test_a_model_is_timed_end_to_end(run, monkeypatch, tmp_path, computing):
    """Rows of prefill and decode in each mode, on a scripted device that computes on the CPU."""
    from warpspan.kernels.bench import model as bench

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("warpspan.kernels.bench.cuda.CudaDevice", lambda: computing({}, {}))
    monkeypatch.setattr(bench, "LLAMA_1B", bench.TINY)
    path = tmp_path / "out.json"
    done = run(
        "model",
        *("--dtype", "fp32", "--mode", "fused", "--prompt", 4, "--new-tokens", 2),
        *("--rounds", 3, "--json", path),
    )
    assert 0 == done.exit_code, done.stderr
    value = json.loads(path.read_text())
    assert [
        ("prefill", "eager"),
        ("prefill", "fused"),
        ("decode", "eager"),
        ("decode", "fused"),
    ] == [(row["phase"], row["provider"]) for row in value["rows"]]
    assert "LlamaForCausalLM" == value["environment"]["model"]
    assert "model  B=1,S=4,new=2  float32" in done.stdout
