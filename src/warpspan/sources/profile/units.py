"""Which parts of a trace are inferences, as the product defines them.

The first of these that the trace has: steps of a serving engine, by their annotations; outermost
calls of modules and of libraries around them; annotations of the program; compiled graphs; steps
of the profiler's schedule; else the whole trace as one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Iterable, Iterator

from warpspan.records.intervals import Intervals
from warpspan.records.kernels import EngineStep
from warpspan.sources.profile.recording import Recording, Span, Unit

_MODULE = re.compile(r"nn\.Module: (.*?)(?:_\d+)?$")
# Loops around a model. A pipeline or an encoder also prepares inputs: that is before the inference.
_LIBRARIES = (
    (re.compile(r"transformers[/\\]generation[/\\]\w+\.py\(\d+\): generate$"), "generate"),
    (re.compile(r"diffusers[/\\]pipelines[/\\].*\.py\(\d+\): __call__$"), "diffusion"),
)
# Modules without parameters: the call of one of these is no inference.
_WITHOUT_PARAMETERS = re.compile(
    r"(?:\w*Loss|Dropout\w*|Identity|Flatten|Unflatten|Softmax\w*|LogSoftmax|ReLU6?|GELU|SiLU|Tanh"
    r"|Sigmoid|Normalize|Resize|CenterCrop|Compose|ToTensor|ToImage|ToDtype|PILToTensor"
    r"|ConvertImageDtype|Upsample)$"
)
# Its call shows the model inside.
_WRAPPER = re.compile(
    r"(?:OptimizedModule|DataParallel|DistributedDataParallel|FullyShardedDataParallel)$"
)
_VLLM = re.compile(r"execute_(?:\d+_)?context_(\d+)\(([^)]*)\)_generation_(\d+)\(([^)]*)\)")
_VLLM_BEFORE = re.compile(r"execute_new_(\d+)_cached_(\d+)")
_SGLANG = re.compile(r"step\[(\w+)([^\]]*)\]")
_SGLANG_VALUE = re.compile(r"(\w+)=(\d+)")
_TOKENS = re.compile(r"(?:^|sq)(\d+)")
# What torch and its libraries annotate by themselves.
_NOT_THE_PROGRAM = re.compile(
    r"ProfilerStep#|Optimizer\.|(?:nccl|gloo|mpi|ucc|xccl|hccl|c10d):|DistributedDataParallel\."
    r"|FSDP|FullyShardedDataParallel|enumerate\(|## Call |Torch-Compiled Region|PyTorch Profiler"
    r"|CompiledFunction|TorchDynamo|AOT|Inductor|dynamo|inductor|record_param_comms|autograd::"
)
_COMPILED = re.compile(r"## Call CompiledFxGraph|Torch-Compiled Region")
_INFERENCE_WORD = re.compile(
    r"forward|infer|predict|generat|prefill|decod|denois|evaluat", re.IGNORECASE
)
_TRAINING_KERNEL = re.compile(r"wgrad|backward|_bwd|multi_tensor_apply|adam", re.IGNORECASE)
_COUNTER = re.compile(r"[\s_#:.\-]*\d+$")


def find_units(recording: Recording) -> list[Unit]:
    """The inferences and training steps of a trace, by start."""
    if recording.units:
        return _with_training(recording, sorted(recording.units, key=lambda unit: unit.start_ns))
    for find in (_engine_steps, _calls, _annotations, _compiled, _steps, _whole):
        units = sorted(find(recording), key=lambda unit: (unit.start_ns, -unit.end_ns))
        if units:
            return _with_training(recording, units)
    return []


def _engine_steps(recording: Recording) -> Iterable[Unit]:
    """The innermost ones: an engine may wait in its own step for the one before."""
    steps = {
        span: step for span in recording.annotations if (step := engine_step(span.name)) is not None
    }
    modules = _Heads(_outermost(recording, recording.module_names)) if steps else None
    for span in _innermost(steps):
        model = None if modules is None else modules.longest_in(span)
        yield Unit("engine", steps[span].operation, model, *span[1:], engine=steps[span])


def engine_step(name: str) -> EngineStep | None:
    """What the name of an annotation of vLLM or SGLang says, None for any other."""
    if match := _VLLM.match(name):
        prefills, prefill_text, decodes, decode_text = match.groups()
        tokens = [_TOKENS.search(text) for text in (prefill_text, decode_text)]
        prefill_tokens, decode_tokens = (None if one is None else int(one[1]) for one in tokens)
        return EngineStep("vLLM", int(prefills), int(decodes), prefill_tokens, decode_tokens)
    if match := _VLLM_BEFORE.match(name):
        return EngineStep("vLLM", int(match[1]), int(match[2]), None, None)
    if match := _SGLANG.match(name):
        values = dict(_SGLANG_VALUE.findall(match[2]))
        requests = int(values["bs"]) if "bs" in values else None
        tokens_there = int(values["toks"]) if "toks" in values else None
        if match[1] == "DECODE":
            return EngineStep("SGLang", 0, requests, 0, tokens_there or requests)
        if match[1] in ("EXTEND", "PREFILL"):
            return EngineStep("SGLang", requests, 0, tokens_there, 0)
        return EngineStep("SGLang", requests, None, tokens_there, None)
    return None


def _calls(recording: Recording) -> Iterable[Unit]:
    """Outermost calls of modules, and of library functions that call modules."""
    if not recording.module_names:
        return
    libraries = {
        number: operation
        for name, number in recording.names.items()
        for pattern, operation in _LIBRARIES
        if pattern.search(name)
    }
    heads = _Heads(_outermost(recording, recording.module_names))
    wrappers = {
        number
        for name, number in recording.names.items()
        if number in recording.module_names and _WRAPPER.match(_module_name(name))
    }
    inner = _Heads(_outermost(recording, recording.module_names - wrappers) if wrappers else ())
    for span in _outermost(recording, recording.module_names | libraries.keys()):
        operation = libraries.get(recording.names[span.name])
        if operation is not None:
            model, steps = heads.longest_in(span), heads.steps_in(span)
            if model is not None:
                yield Unit("library", operation, model, *span[1:], steps=steps)
            continue
        model = _module_name(span.name)
        if _WRAPPER.match(model):
            model = inner.longest_in(span) or model
        if not _WITHOUT_PARAMETERS.match(model):
            yield Unit("module", "forward", model, *span[1:])


def _annotations(recording: Recording) -> Iterable[Unit]:
    """What the program calls an inference; else what it names at all, outside of steps."""
    own = [span for span in recording.annotations if not _NOT_THE_PROGRAM.match(span.name)]
    named = [span for span in own if _INFERENCE_WORD.search(span.name)]
    if not named and any(span.name.startswith("ProfilerStep#") for span in recording.annotations):
        return
    for span in _without_enclosed(named or own):
        yield Unit("annotation", _without_counter(span.name), None, *span[1:])


def _compiled(recording: Recording) -> Iterable[Unit]:
    if any(span.name.startswith("ProfilerStep#") for span in recording.annotations):
        return
    spans = [span for span in recording.annotations if _COMPILED.match(span.name)]
    for span in _without_enclosed(spans):
        yield Unit("compiled", "compiled_graph", None, *span[1:])


def _steps(recording: Recording) -> Iterable[Unit]:
    for span in recording.annotations:
        if span.name.startswith("ProfilerStep#"):
            yield Unit("step", "profiler_step", None, *span[1:])


def _whole(recording: Recording) -> Iterable[Unit]:
    hosts = [spans for spans in (recording.calls, recording.ops, recording.frames) if len(spans)]
    if hosts:
        start_ns = min(min(spans.starts) for spans in hosts)
        end_ns = max(max(spans.ends) for spans in hosts)
        thread, _ = Counter(hosts[0].threads).most_common(1)[0]
        yield Unit("trace", "trace", None, start_ns, end_ns, thread)
    elif len(recording.device):
        starts, ends = recording.device.starts, recording.device.ends
        yield Unit("trace", "trace", None, min(starts), max(ends), -1)


def _with_training(recording: Recording, units: list[Unit]) -> list[Unit]:
    """Mark those that a backward pass or an optimizer's step follows before the next begins."""
    marks = sorted(
        [*recording.backward, *recording.optimizer_steps, *_kernels_of_training(recording)]
    )
    if not marks:
        return units
    ends = [*(unit.start_ns for unit in units[1:]), marks[-1] + 1]
    return [
        unit._replace(training=bisect_left(marks, unit.start_ns) < bisect_left(marks, end_ns))
        for unit, end_ns in zip(units, ends, strict=True)
    ]


def _kernels_of_training(recording: Recording) -> Iterator[int]:
    """When kernels of a backward pass or an optimizer began, where no operator tells of them."""
    if not len(recording.ops):
        kinds = {
            number for name, number in recording.names.items() if _TRAINING_KERNEL.search(name)
        }
        device = recording.device
        for start_ns, name in zip(device.starts, device.names, strict=True):
            if name in kinds:
                yield start_ns


class _Heads:
    """Outermost calls of modules, to be found by the time around them."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans: dict[int, list[Span]] = {}
        for span in spans:
            self._spans.setdefault(span.thread, []).append(span)

    def longest_in(self, outer: Span) -> str | None:
        """Class name of the longest one inside of it, on its thread."""
        inside = self._inside(outer)
        if not inside:
            return None
        return _module_name(max(inside, key=lambda span: span.end_ns - span.start_ns).name)

    def steps_in(self, outer: Span) -> Intervals:
        """When they ran inside of it, on its thread."""
        return Intervals((span.start_ns, span.end_ns) for span in self._inside(outer))

    def _inside(self, outer: Span) -> list[Span]:
        spans = self._spans.get(outer.thread, [])
        first = bisect_left(spans, outer.start_ns, key=lambda span: span.start_ns)
        last = bisect_left(spans, outer.end_ns, key=lambda span: span.start_ns)
        return [span for span in spans[first:last] if span.end_ns <= outer.end_ns]


def _outermost(recording: Recording, wanted: Container[int]) -> list[Span]:
    """Frames with one of these names that no other of them encloses; frames are sorted."""
    names = list(recording.names)
    found: list[Span] = []
    thread_before, until_ns = None, 0
    for start_ns, end_ns, name, thread in recording.frames.rows():
        if name in wanted and (thread != thread_before or start_ns >= until_ns):
            found.append(Span(names[name], start_ns, end_ns, thread))
            thread_before, until_ns = thread, end_ns
    return found


def _by_nesting(spans: Iterable[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: (span.thread, span.start_ns, -span.end_ns))


def _without_enclosed(spans: Iterable[Span]) -> Iterator[Span]:
    """Those that no other of them on the same thread encloses."""
    outer: Span | None = None
    for span in _by_nesting(spans):
        if outer is None or not _holds(outer, span):
            outer = span
            yield span


def _innermost(spans: Iterable[Span]) -> Iterator[Span]:
    """Those that enclose no other of them on the same thread."""
    ordered = _by_nesting(spans)
    for at, span in enumerate(ordered):
        if at + 1 == len(ordered) or not _holds(span, ordered[at + 1]):
            yield span


def _holds(outer: Span, inner: Span) -> bool:
    return (
        outer.thread == inner.thread
        and outer.start_ns <= inner.start_ns
        and inner.end_ns <= outer.end_ns
    )


def _module_name(name: str) -> str:
    match = _MODULE.match(name)
    return name if match is None else match[1]


def _without_counter(name: str) -> str:
    return _COUNTER.sub("", name) or name
