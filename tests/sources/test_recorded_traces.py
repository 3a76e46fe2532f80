"""Traces of real GPUs, recorded by others: what AMD's TraceLens computes of them is computed here."""

from __future__ import annotations

import pytest

from tests.support import recorded as recorded_traces
from tests.support.recorded import BUSY_COPIES_TOTAL_MS
from warpspan.records.kernels import EngineStep, Trace

INFERENCES = {
    "h100-bert-small.json.gz": [("forward", "BertLMHeadModel", "module")],
    "mi300-vit-image-classification.json.gz": [("forward", "ViTModel", "module")],
    "mi300-timesformer.json.gz": [("forward", "TimesformerForVideoClassification", "module")],
    "h100-qwen1.5-0.5b.json.gz": [("forward", "Qwen2Model", "module")],
    "mi300-vllm-prefill-decode.json.gz": [("step", "GptOssForCausalLM", "engine")],
    "mi300-sglang-qwen3-8b-prefill-decode.json.gz": [("prefill", "Qwen3Model", "engine")],
    "mi300-torch-compile.json.gz": [("compiled_graph", None, "compiled")],
    "a100-alexnet.json.gz": [
        ("[param|pytorch.model.alex_net|0|0|0|warmup|forward]", None, "annotation"),
        ("[param|pytorch.model.alex_net|0|0|0|measure|forward]", None, "annotation"),
    ],
    "a100-alexnet-counters.json.gz": [
        ("[param|pytorch.model.alex_net|0|0|0|warmup|forward]", None, "annotation"),
        ("[param|pytorch.model.alex_net|0|0|0|measure|forward]", None, "annotation"),
    ],
    "v100-ddp-training.json.gz": [],
    "mi300-jax-conv.xplane.pb": [("jit", "forward_3d_conv", "function")] * 5,
}


@pytest.fixture(scope="module")
def read(recorded):
    held: dict[str, Trace] = {}

    def trace(name: str) -> Trace:
        if name not in held:
            held[name] = recorded_traces.read(recorded / name)
        return held[name]

    return trace


@pytest.mark.parametrize("name", BUSY_COPIES_TOTAL_MS)
def test_times_of_the_device_are_those_of_trace_lens(read, name):
    """Busy, copies alone and total agree within 0.1 %."""
    (line,) = read(name).devices

    figures = (line.busy.total_s * 1e3, line.copies_alone_s * 1e3, line.elapsed_s * 1e3)

    assert pytest.approx(BUSY_COPIES_TOTAL_MS[name], rel=1e-3) == figures


@pytest.mark.parametrize("name", INFERENCES)
def test_inferences_are_the_ones_that_ran(read, name):
    """They are found by what the trace has: engines, modules, annotations, graphs, functions."""
    found = [
        (one.inference.operation, one.inference.model.name, one.found_by)
        for one in read(name).inferences
    ]

    assert INFERENCES[name] == found


def test_requests_and_tokens_of_engines_are_read(read):
    """They stand in the names of annotations."""
    vllm, sglang = (
        read(name).inferences[0].engine
        for name in (
            "mi300-vllm-prefill-decode.json.gz",
            "mi300-sglang-qwen3-8b-prefill-decode.json.gz",
        )
    )

    assert EngineStep("vLLM", 9, 37, 8155, 37) == vllm
    assert EngineStep("SGLang", 15, 0, 15360, 0) == sglang


def test_training_is_no_inference(read):
    """Five steps of an optimizer, and all of the work outside of inferences."""
    trace = read("v100-ddp-training.json.gz")

    assert (5, ()) == (trace.training_steps, trace.inferences)


def test_counters_without_kernels_give_no_figures(read):
    """What was not measured is absent, and the trace says why."""
    trace = read("a100-alexnet-counters.json.gz")

    coverage = trace.coverage
    assert (False, 77, ()) == (coverage.kernels, coverage.unmeasured_kernels, trace.devices)
    assert [()] * 2 == [one.work for one in trace.inferences]
    assert [None] * 2 == [one.inference.timing.device_time_s for one in trace.inferences]


def test_a_step_stands_alone(read):
    """The device was idle for half of SGLang's trace, but not in its step."""
    trace = read("mi300-sglang-qwen3-8b-prefill-decode.json.gz")
    (step,) = trace.inferences

    assert 0.998 < step.work[0].busy_s / step.work[0].elapsed_s < 1
    (line,) = trace.devices
    assert 0.49 < line.between_s < 0.5
    named = {function.name.rsplit(": ", 1)[-1] for function in line.between_functions[:3]}
    assert {"__torch_function__", "init_new", "<built-in method tensor of type object>"} == named


def test_a_launch_bound_inference_shows_it(read):
    """BERT on an H100: 60 kernels of 5 µs, 8 % busy, and no wait that explains the rest."""
    (one,) = read("h100-bert-small.json.gz").inferences
    (work,) = one.work

    assert (60, 61, 0) == (work.kernel_count, work.launch_count, work.graph_launch_count)
    assert pytest.approx(5.12e-6, rel=1e-3) == work.kernel_mean_s
    assert pytest.approx(0.0792, rel=1e-2) == work.busy_s / work.elapsed_s
    assert pytest.approx(work.idle_s) == sum(work.host)
    assert work.host.wait_s < 0.01 * work.idle_s
    assert "aten::addmm" == work.kernels[0].operator
    assert "bf16[512] bf16[141,512] bf16[512,512]" == work.kernels[0].shapes


def test_planes_of_jax_are_devices(read):
    """Five calls on eight devices, kernels launched by a pool of threads."""
    trace = read("mi300-jax-conv.xplane.pb")

    assert list(range(8)) == [line.device.ordinal for line in trace.devices]
    assert [8] * 5 == [len(one.work) for one in trace.inferences]
    assert {5} == {work.kernel_count for one in trace.inferences for work in one.work}
    assert 0 == trace.coverage.unassigned
