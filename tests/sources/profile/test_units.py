"""What of a trace is an inference."""

from __future__ import annotations

import pytest
from kineto_trace import KinetoTrace

from warpspan.records import Steps
from warpspan.records.kernels import EngineStep, Trace
from warpspan.sources.profile.units import engine_step


def found(trace: Trace) -> list[tuple]:
    return [
        (one.inference.operation, one.inference.model.name, one.found_by)
        for one in trace.inferences
    ]


def test_outermost_modules_are_inferences():
    """What they call is not, and neither are modules without parameters."""
    trace = KinetoTrace()
    trace.annotation("ProfilerStep#1", 0, 1000)
    trace.annotation("model_inference", 50, 500)
    trace.module("Resize", 60, 10)
    trace.module("Net", 100, 100)
    trace.module("Linear", 110, 20)
    trace.module("Net", 300, 100)
    trace.module("CrossEntropyLoss", 450, 10)
    trace.module("Net", 300, 100, tid=2)

    assert [("forward", "Net", "module")] * 3 == found(trace.read())


def test_a_wrapper_shows_the_model_inside():
    """`torch.compile` and data parallelism wrap it in a module of theirs."""
    trace = KinetoTrace()
    trace.module("OptimizedModule", 100, 100)
    trace.module("DistributedDataParallel", 105, 90)
    trace.module("Net", 110, 50)
    trace.module("OptimizedModule", 300, 100)

    expected = [("forward", "Net", "module"), ("forward", "OptimizedModule", "module")]
    assert expected == found(trace.read())


def test_a_loop_around_a_model_is_one_inference():
    """The calls of the model are its steps; a pipeline only prepares and calls."""
    trace = KinetoTrace()
    trace.python("transformers/pipelines/base.py(1200): __call__", 0, 1000)
    trace.python("transformers/generation/utils.py(2000): generate", 100, 500)
    for start in (150, 300, 450):
        trace.module("LlamaForCausalLM", start, 100)

    (one,) = trace.read().inferences

    assert ("generate", "LlamaForCausalLM") == (one.inference.operation, one.inference.model.name)
    assert Steps(3, 150e-6, 300e-6) == one.inference.steps
    assert [(150_000, 250_000), (300_000, 400_000), (450_000, 550_000)] == list(one.steps)


def test_steps_of_an_engine_come_before_modules():
    """The innermost annotation is the step, its model the module inside."""
    trace = KinetoTrace()
    trace.annotation("execute_64_context_2(sq64sk64)_generation_0(sq0sk0)", 0, 1000)
    trace.annotation("step[EXTEND bs=2 toks=64]", 500, 400)
    trace.module("Qwen3Model", 510, 300)
    trace.module("LogitsProcessor", 820, 20)
    trace.annotation("step[DECODE bs=4]", 1000, 100)

    expected = [("prefill", "Qwen3Model", "engine"), ("decode", None, "engine")]
    assert expected == found(trace.read())


@pytest.mark.parametrize(
    ("name", "step", "operation"),
    [
        (
            "execute_8192_context_9(sq8155sk8430sqsq7sqsk7)_generation_37(sq37sk34489sqsq3sqsk3)",
            EngineStep("vLLM", 9, 37, 8155, 37),
            "step",
        ),
        (
            "execute_context_1(128)_generation_0(0)",
            EngineStep("vLLM", 1, 0, 128, 0),
            "prefill",
        ),
        ("execute_new_1_cached_7", EngineStep("vLLM", 1, 7, None, None), "step"),
        ("step[DECODE bs=32]", EngineStep("SGLang", 0, 32, 0, 32), "decode"),
        ("step[EXTEND bs=15 toks=15360]", EngineStep("SGLang", 15, 0, 15360, 0), "prefill"),
        ("step[MIXED bs=3 toks=70]", EngineStep("SGLang", 3, None, 70, None), "step"),
        ("step[IDLE]", EngineStep("SGLang", None, None, None, None), "step"),
        ("forward", None, None),
    ],
)
def test_names_of_engines_say_requests_and_tokens(name, step, operation):
    """vLLM and SGLang write them into the names of their annotations."""
    read = engine_step(name)

    assert step == read
    assert operation == (None if read is None else read.operation)


def test_annotations_that_name_an_inference_are_preferred():
    """Around and beside them are others; numbers at their end tell no kinds apart."""
    trace = KinetoTrace()
    trace.annotation("request", 0, 1000)
    for number in range(3):
        trace.annotation("preprocess", 300 * number, 100)
        trace.annotation(f"model_inference {number}", 300 * number + 100, 100)
        trace.annotation("inference: attention", 300 * number + 110, 10)

    assert [("model_inference", None, "annotation")] * 3 == found(trace.read())


def test_other_annotations_count_where_nothing_else_does():
    """The outermost ones, without those of torch itself."""
    trace = KinetoTrace()
    trace.annotation("nccl:all_reduce", 0, 10)
    trace.annotation("rerank", 100, 100)
    trace.annotation("scores", 120, 10)

    assert [("rerank", None, "annotation")] == found(trace.read())


def test_compiled_graphs_and_steps_and_the_whole():
    """In this order, where the trace has nothing better."""
    compiled, steps, whole = KinetoTrace(), KinetoTrace(), KinetoTrace()
    compiled.annotation("Torch-Compiled Region: 0/0", 0, 100)
    compiled.annotation("## Call CompiledFxGraph fal4 ##", 10, 50)
    steps.annotation("ProfilerStep#4", 0, 100)
    steps.annotation("## Call CompiledFxGraph fal4 ##", 10, 50)
    steps.annotation("ProfilerStep#5", 100, 100)
    whole.op("aten::mm", 10, 5)
    whole.work(30, 5, launch=12)

    assert [("compiled_graph", None, "compiled")] == found(compiled.read())
    assert [("profiler_step", None, "step")] * 2 == found(steps.read())
    assert [("trace", None, "trace")] == found(whole.read())


def test_training_is_told_from_evaluation():
    """A backward pass before the next one begins; the last without one is an inference."""
    trace = KinetoTrace()
    for start in (0, 200, 400):
        trace.module("Net", start, 50)
    for start in (60, 260):
        trace.op("autograd::engine::evaluate_function: AddmmBackward0", start, 20, tid=9)
        trace.annotation("Optimizer.step#SGD.step", start + 40, 10)

    read = trace.read()

    assert (2, [400_000]) == (
        read.training_steps,
        [one.inference.start_ns for one in read.inferences],
    )


def test_arrows_to_gradients_are_a_backward_pass():
    """Also where the operators of the backward pass have other names."""
    trace = KinetoTrace()
    trace.module("Net", 0, 50)
    trace.events.append({"ph": "f", "cat": "fwdbwd", "id": 1, "pid": 1, "tid": 9, "ts": 60})

    assert (1, ()) == (trace.read().training_steps, trace.read().inferences)


def test_training_without_operators_is_told_by_its_kernels():
    """A trace of device activities alone has no backward operators."""
    trace = KinetoTrace()
    trace.work(30, 5, launch=10, name="cudnn_wgrad_128x64")

    assert (1, ()) == (trace.read().training_steps, trace.read().inferences)
