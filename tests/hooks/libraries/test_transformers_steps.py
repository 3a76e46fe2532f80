"""transformers: the steps of a generate, on threads, compiled, failing, nested, cut short."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest
import torch
from generations import DECODE, FIRST, TOKEN, VERSION, counts, generated, told
from opentelemetry.trace import StatusCode

import warpspan

transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*clean_up_tokenization_spaces.*:FutureWarning"),
]


def test_a_streamer_in_a_thread(telemetry, tiny):
    """generate on a thread, its text read on another, left before its end: one whole inference."""
    model, tokenizer = tiny.model("llama"), tiny.tokenizer()
    streamer = transformers.TextIteratorStreamer(tokenizer, timeout=300)
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
