"""transformers: a generate of any kind is one inference with its figures."""

from __future__ import annotations

import pytest
import torch
from generations import DECODE, FIRST, TOKEN, VERSION, counts, generated, told

transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*clean_up_tokenization_spaces.*:FutureWarning"),
]


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
