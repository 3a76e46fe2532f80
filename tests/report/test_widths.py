"""No table crops a value, at the widths that terminals have and with values as wide as they get."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from tests.support import records
from warpspan.cli import doctor
from warpspan.cli.finding import Finding
from warpspan.records import Cache, Device, Generation, Input, Loop, Memory, Model, Timing
from warpspan.records.intervals import Intervals
from warpspan.records.kernels import Coverage, DeviceTimeline, KernelTotal, Trace
from warpspan.report.profile import ProfileRow
from warpspan.report.profile_text import render_profile
from warpspan.report.summary import summarize
from warpspan.report.text import render

WIDTHS = (60, 80, 100, 150, 200)
NAME = "StableDiffusionXLControlNetUnionInpaintPipelineWithAdapters"


def printed(show: Callable[[Console], object], width: int) -> str:
    """What is on the terminal, no line of which is too long."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    result = show(console)
    if result is not None:
        console.print(result)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    return text


def assert_whole(text: str, numbers: tuple[str, ...], texts: tuple[str, ...]) -> None:
    """Numbers stand in one line with their units; texts may be folded, beside other columns."""
    for number in numbers:
        assert number in text
    lines = [line.split() for line in text.splitlines()]
    for whole in texts:
        left = whole.replace(" ", "")
        for words in lines:
            for word in words:
                if left.startswith(word):
                    left = left[len(word) :]
        assert left == ""


@pytest.mark.parametrize("width", WIDTHS)
def test_report(width):
    """Every column of a row of which everything is known."""
    wide = records.full_inference(
        operation="document_question_answering",
        model=Model(NAME),
        device=Device("cuda", 15, "GPU-1234"),
        input=Input(batch_size=123_456, sequence_length=1_048_576, shape=(1, 2)),
        memory=Memory(peak_bytes=1 << 40, oom_requested_bytes=141 << 30),
        timing=Timing(1.5, 123.4, 0.1, 0.2, gc_time_s=0.0123, gc_count=3),
        loop=Loop(generation=Generation(8, 1_000_000, 1.11, 0.0123, decode_s=1.0)),
        cache=Cache(type="dynamic", size_bytes=123 << 30, increase_bytes=123 << 20),
        duration_s=321.9,
    )
    later = wide._replace(start_ns=wide.start_ns + 10**9, duration_s=1.0)
    summary = summarize([wide, *[later] * 11])
    assert_whole(
        printed(lambda console: render(summary, console), width),
        (
            *("12", "5 min 21 s", "1.00 s", "1.50 s", "12.3 ms", "2 min 3 s", "cuda:15", "5.00 G"),
            *("350 M", "90.0 J", "60%", "97%", "100%", "1.00 TiB", "141 GiB", "123,456"),
            *("1,048,576", "123 GiB", "123 MiB", "38.0", "1.11 s", "waits", "KV cache", "tokens"),
        ),
        (f"document_question_answering {NAME}",),
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_profile(width):
    """Devices and kernels of a trace."""
    name = "cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_256x128_32x3_tn_align8"[:60]
    operator = "aten::scaled_dot_product_attention"
    kernels = (KernelTotal(name, operator, 12_345, 61.75, tensor_cores=True),)
    second = 1_000_000_000
    busy = Intervals([(0, 62 * second), (123 * second, 124 * second)])
    line = DeviceTimeline(
        device=Device("cuda", 15),
        name="NVIDIA RTX PRO 6000 Blackwell Server Edition",
        process="rank-000127.pt.trace.json",
        computing=busy,
        copying=Intervals(),
        complete=True,
        kernels=kernels,
        kernel_time_s=61.75,
        copies=(),
        between=(),
        between_s=None,
        between_host=None,
        between_functions=(),
    )
    row = ProfileRow(
        **(
            dict.fromkeys(ProfileRow._fields)
            | dict.fromkeys(("copies", "waits", "functions", "operators"), ())
            | {
                "operation": "generate",
                "model": NAME,
                "inference_count": 1,
                "device_s": 124.0,
                "busy_s": 61.75,
                "kernel_count": 12_345,
                "kernel_time_s": 61.75,
                "launch_count": 23_456,
                "tensor_core_share": 0.995,
                "occupancy": 0.333,
                "kernels": kernels,
            }
        )
    )
    lines = (line, line._replace(process="rank-000128.pt.trace.json"))
    trace = Trace("", "", 0, (), 0, lines, Intervals(), Coverage(*[0] * len(Coverage._fields)))
    assert_whole(
        printed(lambda console: render_profile([trace], [row], console), width),
        ("2 min 4 s", "1 min 1 s", "12,345", "23,456", "5.00 ms", ">99%", "33%"),
        (name, f"generate {NAME}", "cuda:15 NVIDIA RTX PRO 6000 Blackwell Server Edition"),
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_doctor(width):
    """Findings with long subjects, paths and commands."""
    path = (
        "/opt/venvs/inference-service-production/lib/python3.13/site-packages/torch/lib/libtorch.so"
    )
    command = "pip install opentelemetry-instrumentation-fastapi"
    found = [
        Finding("error", "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", path, command),
        Finding("ok", "torch", "2.15.0"),
    ]
    assert_whole(
        printed(lambda console: doctor._print(found, console), width),
        ("2.15.0", "1 error"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", path, f"→ {command}"),
    )
