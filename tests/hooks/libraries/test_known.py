"""The table of known entry points: well-formed rows, tried on libraries and on stand-ins for them."""

import sys
import types

import pytest
import torch
from torch import nn

from warpspan.hooks.contract import DECODE, ENCODER, PREFILL, STEP
from warpspan.hooks.libraries import entry_points
from warpspan.hooks.libraries.known import ENTRIES, Whisper


def test_rows_are_well_formed():
    """Each names a module and a method or function of it, once."""
    written = [f"{entry.module}:{entry.path}" for entry in ENTRIES]
    assert [] == [row for row in written if entry_points._FORM.fullmatch(row) is None]
    assert len(written) == len(set(written))


def spans(telemetry):
    """Name, steps and batch of each inference."""
    names = ("pytorch.step.count", "pytorch.input.batch.size")
    return [(span.name, *map(span.attributes.get, names)) for span in telemetry.spans()]


def test_the_encoders_of_transformers(uninstrumented):
    """CLIP's features are one inference each, beside a call of the whole model."""
    transformers = pytest.importorskip("transformers")
    uninstrumented.instrument()
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    small["num_attention_heads"] = 2
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 50, "max_position_embeddings": 8},
        vision_config={**small, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    model = transformers.CLIPModel(config).eval()
    tokens, images = torch.ones(3, 8, dtype=torch.int64), torch.zeros(2, 3, 16, 16)
    with torch.no_grad():
        model.get_text_features(input_ids=tokens)
        model.get_image_features(pixel_values=images)
        model(input_ids=tokens, pixel_values=images)
    assert [
        ("get_text_features CLIPModel", 2, 3),
        ("get_image_features CLIPModel", 2, 2),
        ("forward CLIPModel", None, 3),
    ] == spans(uninstrumented)


@pytest.fixture
def stand_in(monkeypatch):
    """Makes a module of a library that is not installed, which a program then imports."""

    def make(name, **contents):
        module = types.ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return make


def test_a_stream_of_results(uninstrumented, stand_in):
    """ultralytics gives a generator then: each model call is an inference of its own."""

    class Model:
        def __init__(self):
            self.model = nn.Linear(4, 4).eval()

        def predict(self, source, stream=False):
            results = (self.model(x) for x in source)
            return results if stream else list(results)

    stand_in("ultralytics.engine.model", Model=Model)
    uninstrumented.instrument()
    model = Model()
    model.predict([torch.ones(1, 4), torch.ones(1, 4)])
    list(model.predict([torch.ones(1, 4), torch.ones(1, 4)], stream=True))
    assert [("predict Linear", 2, 1), *2 * [("forward Linear", None, 1)]] == spans(uninstrumented)


def test_spacy_without_a_transformer(uninstrumented, stand_in):
    """Such a pipeline computes nothing with torch, so that it is no inference."""

    class Language:
        def __init__(self, *names):
            self.pipe_names = names
            self.model = nn.Linear(4, 4).eval()

        def __call__(self, text):
            return self.model(torch.ones(1, 4)) if "transformer" in self.pipe_names else text

    stand_in("spacy.language", Language=Language)
    uninstrumented.instrument()
    Language("tagger")("text")
    Language("transformer", "tagger")("text")
    assert [("call Linear", 1, 1)] == spans(uninstrumented)


def test_an_engine_is_named_by_its_class(uninstrumented, stand_in):
    """What AOTInductor compiled has no modules."""

    class AOTICompiledModel:
        def __call__(self, x):
            return x + 1

    stand_in("torch.export.pt2_archive._package", AOTICompiledModel=AOTICompiledModel)
    uninstrumented.instrument()
    AOTICompiledModel()(torch.ones(2, 4))
    assert [("forward AOTICompiledModel", None, None)] == spans(uninstrumented)


def test_a_function_that_a_class_has_bound_is_wrapped_once(uninstrumented, stand_in):
    """openai-whisper's functions are methods as well, bound before or after instrumenting."""

    def transcribe(model, audio):
        return model.layer(model.layer(audio))

    class Whisper(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

    Whisper.transcribe = transcribe
    functions = stand_in("whisper.transcribe", transcribe=transcribe)
    stand_in("whisper.model", Whisper=Whisper)
    uninstrumented.instrument()
    model = Whisper().eval()
    model.transcribe(torch.ones(2, 4))
    functions.transcribe(model, torch.ones(2, 4))
    assert 2 * [("transcribe Whisper", 2, 2)] == spans(uninstrumented)


def test_the_phases_of_whisper():
    """The first call of the decoder that fills a cache is the prefill, one token is a decode step."""
    call = Whisper(None, (), {}, "decode")
    encoder, decoder = type("AudioEncoder", (), {})(), type("TextDecoder", (), {})()
    prompt, token = torch.ones(1, 4), torch.ones(1, 1)
    assert [ENCODER, STEP, PREFILL, DECODE] == [
        call.phase(encoder, (prompt,), {}),
        call.phase(decoder, (token,), {}),
        call.phase(decoder, (prompt,), {"kv_cache": {}}),
        call.phase(decoder, (token,), {"kv_cache": {"layer": prompt}}),
    ]
