"""transformers: a generate, a pipeline or a batch of prompts is one inference with its figures."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
import torch
from opentelemetry.trace import StatusCode

import warpspan
from warpspan import guard

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()

VERSION = tuple(map(int, transformers.__version__.split(".")[:2]))
TOKEN = tuple(f"token.duration.{part}" for part in ("mean", "p50", "p99", "max"))
DECODE = ("decode.time", "decode.between.time", "decode.between.share")
FIRST = ("step.first.time", "step.time", "token.first.time", "prefill.time")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*clean_up_tokenization_spaces.*:FutureWarning"),
]


def generated(given, new, steps, *, decode=None, source="host"):
    """The attributes of a generation by their names in `expected`."""
    return {
        "pytorch_step_count": steps,
        "pytorch_step_source": source,
        "pytorch_decode_step_count": steps - 1 if decode is None else decode,
        "pytorch_token_input_count": given,
        "pytorch_token_generated_count": new,
    }


def told(given, new):
    """The attributes of the GenAI conventions."""
    return {
        "gen__ai_operation_name": "text_completion",
        "gen__ai_provider_name": "pytorch",
        "gen__ai_usage_input__tokens": given,
        "gen__ai_usage_output__tokens": new,
    }


def counts(span):
    """Steps, decode steps, assistant's steps, tokens given and generated of a span."""
    names = ("step.count", "decode.step.count", "assistant.step.count")
    names += ("token.input.count", "token.generated.count")
    return tuple(span["attributes"].get(f"pytorch.{name}") for name in names)


def test_a_generate(telemetry, expected, tiny):
    """One span with tokens from the shapes, time to the first one and for each later one."""
    model = tiny.model("llama")
    output = model.generate(tiny.prompt(2, 5), max_new_tokens=8, do_sample=False)
    assert (2, 13) == output.shape
    assert [
        expected(
            model,
            (2, 5),
            operation="generate",
            first=True,
            pytorch_input_sequence_length=5,
            measured=(*FIRST, *TOKEN, *DECODE),
            **generated(10, 16, 8),
            **told(10, 16),
        )
    ] == telemetry.inferences()


@pytest.mark.parametrize("name", ["gpt2", "mistral", "mamba"])
def test_architectures(telemetry, tiny, name):
    """Full attention, a sliding window, a state instead of attention: as many steps as tokens."""
    tiny.model(name).generate(tiny.prompt(2, 6), max_new_tokens=7, do_sample=False)
    assert [(7, 6, None, 12, 14)] == list(map(counts, telemetry.inferences()))


def test_an_encoder_and_its_decoder(telemetry, expected, tiny):
    """T5: the encoder's time is told apart, the decoder's start token is not generated."""
    model = tiny.model("t5")
    output = model.generate(tiny.prompt(2, 5), max_new_tokens=6, do_sample=False)
    assert (2, 7) == output.shape
    assert [
        expected(
            model,
            (2, 5),
            operation="generate",
            first=True,
            pytorch_input_sequence_length=5,
            measured=(*FIRST, *TOKEN, *DECODE, "encoder.time"),
            **generated(10, 12, 7, decode=5),
            **told(10, 12),
        )
    ] == telemetry.inferences()


def test_speech(telemetry, tiny):
    """Whisper's generate calls generate: one inference; what it is given are no tokens."""
    model = tiny.model("whisper")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = torch.randn(1, 8, 100)
    model.generate(features, max_new_tokens=6, do_sample=False)
    (span,) = telemetry.inferences()
    assert "generate WhisperForConditionalGeneration" == span["name"]
    steps, decode, _, given, new = counts(span)
    assert (None, steps - 1) == (given, decode + 1)
    assert new in {steps - 1, steps - 2}  # a last end token may be cut off
    assert "pytorch.encoder.time" in span["attributes"]
    assert "gen_ai.operation.name" not in span["attributes"]


def test_beams(telemetry, tiny):
    """What is returned counts as generated, not every beam."""
    model = tiny.model("llama")
    model.generate(tiny.prompt(2, 5), max_new_tokens=6, num_beams=3, do_sample=False)
    assert [(6, 5, None, 10, 12)] == list(map(counts, telemetry.inferences()))


def test_several_sequences_of_a_prompt(telemetry, tiny):
    """The prompt counts once, each of its sequences counts."""
    model = tiny.model("llama")
    model.generate(tiny.prompt(1, 5), max_new_tokens=6, do_sample=True, num_return_sequences=3)
    assert [(6, 5, None, 5, 18)] == list(map(counts, telemetry.inferences()))


def test_padding(telemetry, tiny):
    """A padded batch counts as it is computed: batch × length."""
    prompt = tiny.prompt(2, 5)
    prompt[0, :3] = 0
    mask = (prompt != 0).long()
    tiny.model("llama").generate(prompt, attention_mask=mask, max_new_tokens=4, do_sample=False)
    assert [(4, 3, None, 10, 8)] == list(map(counts, telemetry.inferences()))


def test_embeddings_as_prompt(telemetry, tiny):
    """Its positions are tokens, and the output holds none of them."""
    model = tiny.model("llama")
    model.generate(inputs_embeds=torch.zeros(1, 5, 16), max_new_tokens=6, do_sample=False)
    assert [(6, 5, None, 5, 6)] == list(map(counts, telemetry.inferences()))


def test_a_cache_that_is_passed_on(telemetry, tiny):
    """A second turn is given the whole conversation, though only its end is computed."""
    model = tiny.model("llama")
    first = model.generate(
        tiny.prompt(1, 5), max_new_tokens=4, do_sample=False, return_dict_in_generate=True
    )
    turn = torch.cat([first.sequences, tiny.prompt(1, 2)], dim=1)
    model.generate(turn, past_key_values=first.past_key_values, max_new_tokens=3, do_sample=False)
    assert [(4, 3, None, 5, 4), (3, 2, None, 11, 3)] == list(map(counts, telemetry.inferences()))


def test_an_assistant(telemetry, expected, tiny):
    """Its calls are no steps of the model; a token's percentiles can't be told, its mean can."""
    model, assistant = tiny.model("llama"), tiny.model("llama")
    model.generate(tiny.prompt(1, 5), assistant_model=assistant, max_new_tokens=12, do_sample=False)
    (span,) = telemetry.inferences()
    steps, decode, assisting, given, new = counts(span)
    assert (5, 12) == (given, new)
    assert steps == 1 + decode + assisting
    assert decode + 1 < new
    assert [
        expected(
            model,
            (1, 5),
            operation="generate",
            first=True,
            pytorch_input_sequence_length=5,
            pytorch_input_shape=span["attributes"]["pytorch.input.shape"],
            pytorch_assistant_step_count=assisting,
            measured=(*FIRST, *DECODE, "token.duration.mean", "assistant.time"),
            **generated(5, 12, steps, decode=decode),
            **told(5, 12),
        )
    ] == [span]


def test_tokens_that_are_looked_up(telemetry, tiny):
    """Prompt lookup has no assistant, and a step may yield several tokens as well."""
    model = tiny.model("llama")
    model.generation_config.eos_token_id = 63
    model.generate(
        tiny.prompt(1, 5).repeat(1, 4),
        prompt_lookup_num_tokens=3,
        min_new_tokens=8,
        max_new_tokens=8,
        do_sample=False,
    )
    (span,) = telemetry.inferences()
    assert (20, 8) == counts(span)[3:]


@pytest.mark.skipif(VERSION >= (4, 50), reason="only old versions have it")
def test_contrastive_search(telemetry, tiny):
    """A step for each token beside the prefill."""
    model = tiny.model("llama")
    model.generate(tiny.prompt(1, 5), penalty_alpha=0.6, top_k=3, max_new_tokens=6)
    (span,) = telemetry.inferences()
    assert (5, 6) == counts(span)[3:]


@pytest.mark.skipif(VERSION < (5, 0), reason="only new versions can")
def test_a_prefill_in_chunks(telemetry, tiny):
    """The first token comes after the last chunk."""
    model = tiny.model("llama")
    model.generate(tiny.prompt(1, 5), prefill_chunk_size=2, max_new_tokens=6, do_sample=False)
    (span,) = telemetry.inferences()
    assert (8, 5, None, 5, 6) == counts(span)


def test_a_streamer_in_a_thread(telemetry, tiny):
    """generate on a thread, its text read on another, left before its end: one whole inference."""
    model, tokenizer = tiny.model("llama"), tiny.tokenizer()
    streamer = transformers.TextIteratorStreamer(tokenizer, timeout=60)
    thread = threading.Thread(
        target=model.generate,
        args=(tiny.prompt(1, 5),),
        kwargs={"streamer": streamer, "max_new_tokens": 6, "do_sample": False},
    )
    thread.start()
    next(iter(streamer))
    thread.join(60)
    (span,) = telemetry.inferences()
    assert (6, 5, None, 5, 6) == counts(span)
    assert span["attributes"]["pytorch.postprocess.time"] == "measured"


def test_in_threads_of_an_event_loop(telemetry, tiny):
    """asyncio.to_thread carries the context: each is a child of its own request."""
    models = [tiny.model("llama"), tiny.model("gpt2")]

    async def request(number):
        with telemetry.tracer.start_as_current_span(f"request {number}"):
            await asyncio.to_thread(
                models[number].generate,
                tiny.prompt(1, 4),
                max_new_tokens=3 + number,
                do_sample=False,
            )

    async def main():
        await asyncio.gather(request(0), request(1))

    asyncio.run(main())
    found = {span["parent"]: counts(span) for span in telemetry.inferences()}
    assert {"request 0": (3, 2, None, 4, 3), "request 1": (4, 3, None, 4, 4)} == found


def test_two_that_take_turns(telemetry, tiny):
    """Two on two threads, a step of one after a step of the other: each has its own steps."""
    barrier = threading.Barrier(2)

    class Turns(transformers.StoppingCriteria):
        def __call__(self, ids, scores, **kwargs):
            barrier.wait(60)
            return torch.zeros(len(ids), dtype=torch.bool)

    def run(model, batch):
        model.generate(
            tiny.prompt(batch, 4),
            max_new_tokens=5,
            do_sample=False,
            stopping_criteria=transformers.StoppingCriteriaList([Turns()]),
        )

    threads = [threading.Thread(target=run, args=(tiny.model("llama"), batch)) for batch in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    spans = telemetry.inferences()
    assert [(5, 4, None, 4, 5), (5, 4, None, 8, 10)] == sorted(map(counts, spans))


def test_an_error_in_a_step(telemetry, tiny):
    """The user gets it; what ran so far is told, tokens are not."""
    model = tiny.model("llama")
    steps = []

    def fail(module, args, kwargs):
        steps.append(1)
        if len(steps) == 3:
            raise ValueError("a prompt that must not be told")

    handle = model.register_forward_pre_hook(fail, with_kwargs=True)
    with pytest.raises(ValueError, match="must not be told"):
        model.generate(tiny.prompt(1, 5), max_new_tokens=6, do_sample=False)
    handle.remove()
    model.generate(tiny.prompt(1, 5), max_new_tokens=2, do_sample=False)
    failed, good = telemetry.inferences()
    assert (3, 2, None, None, None) == counts(failed)
    assert ("ValueError", StatusCode.ERROR) == (
        failed["attributes"]["error.type"],
        failed["status"][0],
    )
    assert (2, 1, None, 5, 2) == counts(good)


def on_decode(step, action):
    """A stopping criterion that acts after a step of the model, between this one and the next."""
    steps = []

    class Acts(transformers.StoppingCriteria):
        def __call__(self, ids, scores, **kwargs):
            steps.append(1)
            if len(steps) == step:
                action()
            return torch.zeros(len(ids), dtype=torch.bool)

    return transformers.StoppingCriteriaList([Acts()])


def test_a_step_on_another_thread(telemetry, tiny):
    """Of a copied context: it counts, and those of the loop go on."""
    model = tiny.model("llama")

    def on_a_thread():
        thread = threading.Thread(target=contextvars.copy_context().run, args=(ask,))
        thread.start()
        thread.join(60)

    def ask():
        model(tiny.prompt(1, 3))

    model.generate(
        tiny.prompt(1, 5),
        max_new_tokens=6,
        do_sample=False,
        stopping_criteria=on_decode(4, on_a_thread),
    )
    assert [(7, 6, None, 5, 6)] == list(map(counts, telemetry.inferences()))


def test_inside_a_decode_step(telemetry, tiny):
    """What is called in it is part of it: no step, no inference; one that is named is its own."""
    model, other = tiny.model("llama"), torch.nn.Linear(4, 4).eval()
    calls = []

    def inside(module, args, kwargs):
        calls.append(1)
        if len(calls) == 4:
            with warpspan.step("mine"):
                other(torch.ones(2, 4))
            tiny.model("gpt2").generate(tiny.prompt(1, 2), max_new_tokens=2, do_sample=False)
            with warpspan.inference("guard"):
                other(torch.ones(2, 4))

    model.register_forward_pre_hook(inside, with_kwargs=True)
    model.generate(tiny.prompt(1, 5), max_new_tokens=6, do_sample=False)
    whole, named = telemetry.inferences()
    assert "guard" == named["name"]
    assert "generate LlamaForCausalLM" == named["parent"]
    assert 1 == named["attributes"]["pytorch.step.count"]
    assert (6, 5, None, 5, 6) == counts(whole)


def test_a_model_that_is_called_anew_after_a_loop(telemetry, tiny):
    """A loop that has ended covers and repeats nothing."""
    model = tiny.model("llama")
    with warpspan.inference("chat"):
        model.generate(tiny.prompt(1, 5), max_new_tokens=4, do_sample=False)
        model(tiny.prompt(1, 5))
    model(tiny.prompt(1, 5))
    chat, forward = telemetry.inferences()
    assert (5, 3, None, 5, 4) == counts(chat)
    assert "forward LlamaForCausalLM" == forward["name"]


def test_a_stop_before_the_limit(telemetry, tiny):
    """Only what was generated counts."""

    class AfterThree(transformers.StoppingCriteria):
        def __call__(self, ids, scores, **kwargs):
            return torch.full((len(ids),), ids.shape[1] >= 8)

    tiny.model("llama").generate(
        tiny.prompt(1, 5),
        max_new_tokens=20,
        do_sample=False,
        stopping_criteria=transformers.StoppingCriteriaList([AfterThree()]),
    )
    assert [(3, 2, None, 5, 3)] == list(map(counts, telemetry.inferences()))


def test_a_compiled_forward_with_a_static_cache(telemetry, tiny):
    """The steps are those of the compiled model, in one graph without a break."""
    model = tiny.model("llama")
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    model.forward = torch.compile(model.forward, backend=backend, fullgraph=True)
    model.generate(
        tiny.prompt(1, 5), max_new_tokens=5, do_sample=False, cache_implementation="static"
    )
    torch.compiler.reset()
    assert [(5, 4, None, 5, 5)] == list(map(counts, telemetry.inferences()))
    assert graphs


@pytest.mark.skipif(VERSION < (5, 0), reason="only new versions do")
def test_a_decode_that_generate_compiles(telemetry, tiny):
    """As by default with a static cache on a GPU: each call of the compiled model is a step."""
    config = transformers.CompileConfig(backend="eager", fullgraph=True, dynamic=False, mode=None)
    config._compile_all_devices = True
    torch.compiler.reset()
    tiny.model("llama").generate(
        tiny.prompt(1, 5),
        max_new_tokens=6,
        do_sample=False,
        cache_implementation="static",
        compile_config=config,
    )
    torch.compiler.reset()
    assert [(6, 5, None, 5, 6)] == list(map(counts, telemetry.inferences()))


def test_a_compiled_model_of_the_users(telemetry, tiny):
    """torch.compile(model).generate: torch's wrapper is not taken for another model."""
    torch.compiler.reset()
    model = torch.compile(tiny.model("llama"), backend="eager")
    model.generate(tiny.prompt(1, 5), max_new_tokens=3, do_sample=False)
    torch.compiler.reset()
    (span,) = telemetry.inferences()
    assert "generate LlamaForCausalLM" == span["name"]
    assert (3, 2, None, 5, 3) == counts(span)


def test_inside_a_named_inference(telemetry, expected, tiny):
    """The outermost wins, and has the figures of all generations inside; tokenizing is told."""
    model, tokenizer = tiny.model("llama"), tiny.tokenizer()
    with warpspan.inference("chat", model=model):
        for text in ("ab", "abb"):
            ids = tokenizer(text, return_tensors="pt")["input_ids"]
            tokenizer.decode(model.generate(ids, max_new_tokens=4, do_sample=False)[0])
    assert [
        expected(
            model,
            (1, 2),
            operation="chat",
            first=True,
            pytorch_input_sequence_length=2,
            measured=(*FIRST, *TOKEN, *DECODE, "preprocess.time", "postprocess.time"),
            **generated(5, 8, 8, decode=6),
            **told(5, 8),
        )
    ] == telemetry.inferences()


def test_inside_a_module_call(telemetry, tiny):
    """A model that generates in its forward is one inference, as every outermost module call."""

    class Chat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.language = tiny.model("llama")

        def forward(self, ids):
            return self.language.generate(ids, max_new_tokens=3, do_sample=False)

    Chat().eval()(tiny.prompt(1, 4))
    assert ["forward Chat"] == [span["name"] for span in telemetry.inferences()]


def test_the_name_on_the_hub(telemetry, tiny, tmp_path):
    """The conventions' model is the one of the configuration, unless that is a path."""
    model = tiny.model("llama")
    for name in ("someone/tiny-llama", str(tmp_path)):
        model.config._name_or_path = name
        model.generate(tiny.prompt(1, 4), max_new_tokens=2, do_sample=False)
    assert ["someone/tiny-llama", None] == [
        span["attributes"].get("gen_ai.request.model") for span in telemetry.inferences()
    ]


def test_metrics(telemetry, tiny):
    """Times and tokens, ours and those of the GenAI conventions."""
    model = tiny.model("llama")
    model.generate(tiny.prompt(2, 5), max_new_tokens=8, do_sample=False)
    (span,) = telemetry.spans()
    attributes = span.attributes
    found = {
        name: {tuple(point.attributes.values()): point for point in points}
        for name, points in telemetry.metrics().items()
    }
    ours = ("generate", "LlamaForCausalLM", "cpu")
    theirs = ("text_completion", "pytorch")
    assert {(*ours, "input"): 10, (*ours, "generated"): 16} == {
        key: point.value for key, point in found["pytorch.inference.tokens"].items()
    }
    for name, key, value in (
        ("pytorch.inference.token.first.duration", ours, "pytorch.token.first.time"),
        ("pytorch.inference.token.duration", ours, "pytorch.token.duration.mean"),
        ("gen_ai.server.time_to_first_token", theirs, "pytorch.token.first.time"),
        ("gen_ai.server.time_per_output_token", theirs, "pytorch.token.duration.mean"),
    ):
        ((of, point),) = found[name].items()
        assert (key, 1, attributes[value]) == (of, point.count, point.sum)
    (point,) = found["gen_ai.server.request.duration"].values()
    assert (0.01, 81.92) == (point.explicit_bounds[0], point.explicit_bounds[-1])
    (point,) = found["gen_ai.server.time_per_output_token"].values()
    assert (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5) == (
        tuple(point.explicit_bounds)
    )


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
