"""The proof on a GPU: the tests marked `gpu` and the measurements, into one JSON file.

Uses the torch of the Python that runs it, from 2.4 on, and nothing of requirements.lock:

    make gpu-check PYTHON=python3

What the tests record by pytest's `record_property` is in the file too. Whatever the machine, it
ends within eight minutes: first what the virtual GPU of `make test-virtual-gpu` can't prove, then
the other tests, then the measurements; what there was no time for says so. Exit code 1: a test or a
measurement failed; 2: it can't run here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("torch", "pytest", "hypothesis", "opentelemetry.sdk", "wrapt", "typer", "rich")
VERSIONS = (
    "torch",
    "triton",
    "transformers",
    "nvidia-ml-py",
    "opentelemetry-sdk",
    "wrapt",
    "numpy",
)
NO_TESTS = 5  # pytest's exit code
BUDGET_S = 460
ROUND_S = 30  # no other round of a measurement where less is left
TESTS_S = 150  # of it, for each half of the tests
_began_s = time.monotonic()
COMMAND = "import sys; sys.argv[0] = 'warpspan'; from warpspan.cli import main; main()"


def missing() -> list[str]:
    """Modules that this Python lacks."""

    def there(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            return False

    return [name for name in NEEDED if not there(name)]


def version(package: str) -> str | None:
    """The installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def output(*command: str) -> str | None:
    """What a command prints, None where it can't."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine(device: str) -> dict[str, Any]:
    """Hardware and versions, without which no figure means anything."""
    import torch

    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "versions": {package: version(package) for package in VERSIONS},
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "commit": output("git", "rev-parse", "HEAD"),
        "changed": bool(output("git", "status", "--porcelain", "--untracked-files=no")),
    }
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        facts["device"] = {
            "name": card.name,
            "capability": [card.major, card.minor],
            "memory_bytes": card.total_memory,
            "driver": output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        }
    return facts


def left_s() -> float:
    """Seconds until all must be over."""
    return max(1.0, BUDGET_S - (time.monotonic() - _began_s))


def run_tests(marks: str) -> dict[str, Any]:
    """Tests by their marks: the outcome, seconds and recorded properties of each."""
    tests: list[dict[str, Any]] = []
    code = 0
    until_s = time.monotonic() + min(TESTS_S, left_s())
    with tempfile.TemporaryDirectory() as folder:
        for file in sorted((ROOT / "tests" / "gpu").glob("test_*.py")):
            report = Path(folder) / f"{file.stem}.xml"
            command = [sys.executable, "-m", "pytest", str(file), "-m", marks, "-q"]
            try:
                done = subprocess.run(
                    [*command, f"--junitxml={report}"],
                    cwd=ROOT,
                    timeout=max(1.0, until_s - time.monotonic()),
                ).returncode
            except subprocess.TimeoutExpired:
                tests.append({"test": file.stem, "outcome": "no time", "seconds": None})
                code = code or 1
                continue
            code = code or (done if done != NO_TESTS else 0)
            tests += cases(report)
    return {"exit_code": code, "tests": tests}


def cases(report: Path) -> list[dict[str, Any]]:
    """The tests of one of pytest's reports."""
    found = ET.parse(report).iter("testcase") if report.exists() else iter(())
    return [
        {
            "test": f"{case.get('classname')}.{case.get('name')}",
            "outcome": next(
                (tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None),
                "passed",
            ),
            "seconds": float(case.get("time", 0)),
            "properties": {item.get("name"): item.get("value") for item in case.iter("property")},
        }
        for case in found
    ]


def encoder(device: str) -> tuple[str, Callable[[], Any]]:
    """BERT-base at batch 1."""
    import torch
    from transformers import BertConfig, BertModel

    small = device != "cuda"  # tries the script
    config = BertConfig(
        hidden_size=768 if not small else 64,
        intermediate_size=3072 if not small else 128,
        num_hidden_layers=12 if not small else 2,
        num_attention_heads=12 if not small else 4,
    )
    dtype = torch.float16 if not small else torch.float32
    config._attn_implementation = "eager"  # others look at the mask's values, which captures forbid
    model = BertModel(config).eval().to(device, dtype)
    tokens = torch.randint(config.vocab_size, (1, 128), device=device)
    mask = torch.ones_like(tokens)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    name = f"BERT of {parameters / 1e6:.0f} M random weights, batch 1, 128 tokens, {dtype}"
    return name, lambda: model(tokens, attention_mask=mask)


def replay(device: str) -> tuple[str, Callable[[], Any]]:
    """The same as one CUDA graph: the least that a caller does for an inference."""
    import torch

    name, run = encoder(device)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return f"{name}, as a CUDA graph", lambda: graph.replay()


def decoder(device: str) -> tuple[str, Callable[[], Any]]:
    """A decode step of a Llama of 1B random weights, over a cache of 512 tokens."""
    import torch
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    small = device != "cuda"  # tries the script
    config = LlamaConfig(
        vocab_size=128256 if not small else 1000,
        hidden_size=2048 if not small else 64,
        intermediate_size=8192 if not small else 128,
        num_hidden_layers=16 if not small else 2,
        num_attention_heads=32 if not small else 4,
        num_key_value_heads=8 if not small else 2,
        max_position_embeddings=4096,
    )
    dtype = torch.bfloat16 if not small else torch.float32
    model = LlamaForCausalLM(config).eval().to(device, dtype)
    prompt = torch.randint(config.vocab_size, (1, 512), device=device)
    token = torch.randint(config.vocab_size, (1, 1), device=device)
    cache = DynamicCache()
    with torch.inference_mode():
        model(prompt, past_key_values=cache, use_cache=True)

    def step() -> None:
        model(token, past_key_values=cache, use_cache=True)
        cache.crop(-1)

    parameters = sum(parameter.numel() for parameter in model.parameters())
    return f"Llama of {parameters / 1e9:.2f} B random weights, decode at 512 tokens, {dtype}", step


def throughput(
    device: str,
    make: Callable[[str], tuple[str, Callable[[], Any]]],
    rounds: int = 20,
    calls: int = 50,
) -> dict[str, Any]:
    """A model without us, recorded, and recorded without samples of the driver, interleaved."""
    import torch
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    import warpspan

    exporter = InMemorySpanExporter()
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(BatchSpanProcessor(exporter))
    meter_provider = MeterProvider([InMemoryMetricReader()])
    instrumentor = warpspan.WarpspanInstrumentor()

    def seconds_a_call() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / calls

    taken: dict[str, list[float]] = {"without": [], "recorded": [], "recorded_unsampled": []}
    with torch.inference_mode():
        name, run = make(device)
        seconds_a_call()
        for _ in range(rounds):
            if left_s() < ROUND_S and taken["without"]:
                break
            taken["without"].append(seconds_a_call())
            for mode, period_s in (("recorded", 0.2), ("recorded_unsampled", 0.0)):
                instrumentor.instrument(
                    tracer_provider=tracer_provider,
                    meter_provider=meter_provider,
                    sample_period_s=period_s,
                )
                seconds_a_call()  # the first calls look at the model
                taken[mode].append(seconds_a_call())
                warpspan.flush()
                instrumentor.uninstrument()
    tracer_provider.force_flush()
    spans = len(exporter.get_finished_spans())
    tracer_provider.shutdown()
    meter_provider.shutdown()
    return {
        "model": name,
        **{f"{mode}_s": statistics.median(seconds) for mode, seconds in taken.items()},
        **{
            f"{mode}_ratio": statistics.median(
                b / a for a, b in zip(taken["without"], taken[mode], strict=True)
            )
            for mode in ("recorded", "recorded_unsampled")
        },
        "spans": spans,
        "calls": 4 * len(taken["without"]) * calls,
    }


def benchmark(*command: str) -> dict[str, Any]:
    """The figures of a benchmark here: of `benchmarks.overhead`, or of `warpspan bench NAME`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        subprocess.run(
            [sys.executable, *command, "--json", file], cwd=ROOT, check=True, timeout=left_s()
        )
        return json.loads(file.read_text(encoding="utf-8"))


def main() -> int:
    """Run everything, write the file, and say in one line how it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "gpu-check.json")
    parser.add_argument("--device", default="cuda", help="cpu tries the script without a GPU")
    options = parser.parse_args()
    if lacking := missing():
        print(
            f"gpu-check: {sys.executable} lacks {', '.join(lacking)}. All but torch come from "
            f"`make gpu-packages PYTHON={platform.python_version()}`, which needs a network; "
            "carry .cache/gpu-packages here.",
            file=sys.stderr,
        )
        return 2
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            f"gpu-check: torch {torch.__version__} sees no CUDA or ROCm device here.",
            file=sys.stderr,
        )
        return 2
    result: dict[str, Any] = {"machine": machine(options.device)}
    on_gpu = options.device == "cuda"
    result["only_a_real_gpu"] = run_tests("gpu and real_gpu") if on_gpu else None
    result["tests"] = run_tests("gpu and not real_gpu") if on_gpu else None
    measurements: dict[str, Callable[[], dict[str, Any]]] = {
        "throughput": lambda: throughput(options.device, encoder),
        "decode": lambda: throughput(options.device, decoder),
        "overhead": lambda: benchmark("-m", "benchmarks.overhead"),
    }
    if options.device == "cuda":
        measurements["replay"] = lambda: throughput(options.device, replay)
        measurements["fused"] = lambda: benchmark("-c", COMMAND, "bench", "fused")
        measurements["model"] = lambda: benchmark("-c", COMMAND, "bench", "model")
    for name, measure in measurements.items():
        if left_s() < ROUND_S:
            result[name] = {"error": "no time"}
            continue
        print(f"gpu-check: measuring {name}", file=sys.stderr)
        try:
            result[name] = measure()
        except Exception as error:
            result[name] = {"error": f"{type(error).__name__}: {error}"}
    options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    failed = [name for name in measurements if "error" in result[name]]
    halves = ("only_a_real_gpu", "tests")
    failed += [half for half in halves if result[half] and result[half]["exit_code"]]
    print(f"gpu-check: {'failed: ' + ', '.join(failed) if failed else 'passed'}; {options.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
