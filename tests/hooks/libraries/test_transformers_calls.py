"""transformers: pipelines, batches of prompts, other instrumentations, and versions that differ."""

from __future__ import annotations

import pytest
from generations import DECODE, FIRST, TOKEN, VERSION, counts, generated, told

from warpspan import guard

transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*clean_up_tokenization_spaces.*:FutureWarning"),
]


def test_a_pipeline(telemetry, expected, tiny):
    """One span for a call, its batches its steps, tokenizing and what comes after told apart."""
    model = tiny.model("bert")
    pipe = transformers.TextClassificationPipeline(
        model=model, tokenizer=tiny.tokenizer(), device="cpu", task="text-classification"
    )
    pipe("ab")
    pipe(["ab", "abcd", "b"], batch_size=2)
    common = {
        "operation": "pipeline",
        "measured": ("preprocess.time", "postprocess.time"),
        "pytorch_pipeline_name": "text-classification",
    }
    assert [
        expected(model, (1, 2), first=True, steps=1, pytorch_input_sequence_length=2, **common),
        expected(model, (2, 4), steps=2, pytorch_input_sequence_length=4, **common),
    ] == telemetry.inferences()


def test_a_pipeline_that_is_streamed(telemetry, tiny):
    """A generator of texts gives an iterator: a batch is an inference when it is asked for."""
    pipe = transformers.TextClassificationPipeline(
        model=tiny.model("bert"), tokenizer=tiny.tokenizer(), device="cpu"
    )
    results = iter(pipe(text for text in ["ab", "abcd", "b"]))
    assert [] == telemetry.inferences()
    next(results)
    next(results)
    del results
    assert [("pipeline BertForSequenceClassification", None)] * 2 == [
        (span["name"], span["parent"]) for span in telemetry.inferences()
    ]


def test_a_pipeline_that_generates(telemetry, expected, tiny):
    """One inference, with the figures of the generation."""
    model = tiny.model("llama")
    pipe = transformers.TextGenerationPipeline(
        model=model, tokenizer=tiny.tokenizer(), device="cpu"
    )
    pipe("abab", max_new_tokens=5, do_sample=False)
    assert [
        expected(
            model,
            (1, 4),
            operation="pipeline",
            first=True,
            pytorch_input_sequence_length=4,
            pytorch_pipeline_name="TextGenerationPipeline",
            measured=(*FIRST, *TOKEN, *DECODE, "preprocess.time", "postprocess.time"),
            **generated(4, 5, 5),
            **told(4, 5),
        )
    ] == telemetry.inferences()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_beside_another_instrumentation(telemetry, tiny):
    """OpenLLMetry's span is the parent of ours, in either order; nothing is counted twice."""
    other = pytest.importorskip("opentelemetry.instrumentation.transformers")
    instrumentor = other.TransformersInstrumentor()

    def run():
        pipe = transformers.TextGenerationPipeline(
            model=tiny.model("llama"), tokenizer=tiny.tokenizer(), device="cpu"
        )
        pipe("abab", max_new_tokens=5, do_sample=False)

    instrumentor.instrument(tracer_provider=telemetry.tracer_provider)
    try:
        run()
        telemetry.uninstrument()
        telemetry.instrument()
        run()
    finally:
        instrumentor.uninstrument()
    names = {span.context.span_id: span.name for span in telemetry.spans()}
    found = [
        (span.name, names.get(span.parent.span_id) if span.parent else None)
        for span in telemetry.spans()
    ]
    theirs, ours = "transformers_text_generation_pipeline.call", "pipeline LlamaForCausalLM"
    assert {(theirs, None): 1, (ours, theirs): 1} == {
        pair: found[:2].count(pair) for pair in set(found[:2])
    }
    assert sorted([ours, theirs]) == sorted(name for name, _ in found[2:])
    tokens = telemetry.points("pytorch.inference.tokens")
    assert {4, 5, 8, 10} >= {point.value for point in tokens.values()}


@pytest.mark.skipif(
    not hasattr(transformers.GenerationMixin, "generate_batch"), reason="needs continuous batching"
)
def test_continuous_batching(telemetry, tiny):
    """A batch of prompts is one inference; the steps of its thread are its steps."""
    config = transformers.GenerationConfig(
        max_new_tokens=4, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    small = transformers.ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=32)
    outputs = tiny.model("llama").generate_batch(
        [[3, 4, 5], [6, 7]], generation_config=config, continuous_batching_config=small
    )
    assert 8 == sum(len(output.generated_tokens) for output in outputs.values())
    (span,) = telemetry.inferences()
    steps, decode, _, given, new = counts(span)
    assert ("generate LlamaForCausalLM", None, 5, 8) == (span["name"], decode, given, new)
    assert steps >= 4


def test_excluded_models(uninstrumented, tiny):
    """A model that is not to be recorded is not, whatever calls it."""
    uninstrumented.instrument(excluded_models="Llama*")
    tiny.model("llama").generate(tiny.prompt(1, 4), max_new_tokens=2, do_sample=False)
    assert [] == uninstrumented.inferences()


def test_everything_is_taken_back(uninstrumented, tiny):
    """uninstrument leaves the identical functions; classes made since are not patched."""
    owners = (
        (transformers.GenerationMixin, "generate"),
        (transformers.Pipeline, "__call__"),
        (transformers.TextGenerationPipeline, "preprocess"),
        (transformers.PreTrainedTokenizerBase, "__call__"),
        (transformers.GenerationMixin, "__init_subclass__"),
    )
    before = [vars(owner).get(name) for owner, name in owners]
    uninstrumented.instrument()
    assert before != [vars(owner).get(name) for owner, name in owners]

    class Mine(transformers.LlamaForCausalLM):
        def generate(self, *args, **kwargs):
            return super().generate(*args, **kwargs)

    assert hasattr(Mine.generate, "__wrapped__")
    model = Mine(transformers.LlamaConfig(**tiny.model("llama").config.to_dict())).eval()
    model.generate(tiny.prompt(1, 4), max_new_tokens=2, do_sample=False)
    assert ["generate Mine"] == [span["name"] for span in uninstrumented.inferences()]
    assert (True, False) == (
        transformers.LlamaForCausalLM.can_generate(),
        transformers.LlamaModel.can_generate(),
    )
    uninstrumented.uninstrument()
    assert before == [vars(owner).get(name) for owner, name in owners]

    class Later(transformers.LlamaForCausalLM):
        def generate(self, *args, **kwargs):
            return super().generate(*args, **kwargs)

    assert not hasattr(Later.generate, "__wrapped__")


@pytest.mark.parametrize("changed", ["output", "arguments", "configuration"])
def test_other_internals_cost_information_only(telemetry, tiny, changed):
    """Another output, other arguments, no configuration: less is told, nothing fails."""

    class Output:
        sequences = "ids"

    class Changed(transformers.LlamaForCausalLM):
        def generate(self, text, **options):
            logits = self(tiny.prompt(1, 4)).logits
            if changed == "output":
                return Output()
            if changed == "configuration":
                del self.config
            return {"tokens": logits} if changed == "arguments" else logits

    Changed(tiny.model("llama").config).eval().generate("a prompt", generation_config=[1])
    (span,) = telemetry.inferences()
    assert ("generate Changed", 1) == (span["name"], span["attributes"]["pytorch.step.count"])
    assert "pytorch.token.generated.count" not in span["attributes"]
    assert "pytorch.prefill.time" in span["attributes"]


@pytest.mark.skipif(VERSION < (5, 0), reason="old versions ask their own models for it")
def test_a_method_that_is_renamed(uninstrumented, tiny, monkeypatch):
    """Without `generate` there is nothing to patch: its module calls are inferences."""
    original = transformers.GenerationMixin.generate
    monkeypatch.setattr(transformers.GenerationMixin, "produce", original, raising=False)
    monkeypatch.delattr(transformers.GenerationMixin, "generate")
    uninstrumented.instrument()
    tiny.model("llama").produce(tiny.prompt(1, 4), max_new_tokens=2, do_sample=False)
    assert ["forward LlamaForCausalLM"] * 2 == [
        span["name"] for span in uninstrumented.inferences()
    ]
    uninstrumented.uninstrument()


def test_a_library_without_what_we_look_for(uninstrumented, monkeypatch):
    """Classes and methods that are gone are not patched, and nothing else suffers."""
    import transformers.pipelines.base as pipelines

    monkeypatch.delattr(pipelines, "Pipeline")
    monkeypatch.delattr(transformers.PreTrainedTokenizerBase, "batch_decode")
    uninstrumented.instrument()
    assert {} == dict(guard.faults)
    uninstrumented.uninstrument()
