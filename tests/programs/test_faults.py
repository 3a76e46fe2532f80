"""Programs in which one call of the user's was once no span, several, or one of something else."""

from __future__ import annotations

import pytest

from tests.programs.conftest import Span


@pytest.mark.chosen
def test_an_ensemble_in_a_list(recorded):
    """A module without parameters is transparent: each model in it is one inference."""
    assert [Span("forward Linear", 5)] * 3 == recorded("ensemble")


@pytest.mark.chosen
def test_ultralytics_predict(recorded):
    """Two calls of `predict`; the dry runs of the construction are none."""
    assert [Span("predict YOLO", 1)] * 2 == recorded("yolo")


@pytest.mark.parametrize("kind", ["cpu", "disk"])
def test_accelerate_offload(recorded, kind):
    """A model on `meta` between its calls runs for real."""
    assert [
        Span("forward Sequential", 1),
        Span("forward Sequential", 3),
    ] == recorded("offload", kind)


def test_forward_without_call(recorded):
    """`model.forward(x)` is one inference of the model."""
    assert [Span("forward Classifier", 2, 7)] * 3 == recorded("forward")


def test_open_clip(recorded):
    """One text encoded, and one image."""
    assert [Span("encode_text CLIP", 2, 16), Span("encode_image CLIP", 3)] == recorded("clip")


def test_timm_features(recorded):
    """`forward_features` twice, and the whole model."""
    found = recorded("features")
    assert ["forward_features ResNet"] * 2 + ["forward ResNet"] == [span.name for span in found]


def test_a_policy(recorded):
    """stable-baselines3's `predict`, three times."""
    assert [Span("predict ActorCriticPolicy", 1)] * 3 == recorded("policy")


@pytest.mark.chosen
def test_whisper(recorded):
    """openai-whisper's `transcribe`, three times; its tokens are steps."""
    assert [Span("transcribe Whisper", 1)] * 3 == recorded("whisper_transcribe")


@pytest.mark.chosen
def test_a_construction(recorded):
    """Parametrized weights that are computed are no inferences."""
    assert [Span("forward Wav2Vec2Model", 2)] == recorded("construction")


@pytest.mark.chosen
def test_sequence_first(recorded):
    """By the layer's own contract; without a batch there is no size."""
    assert [
        Span("forward LSTM", 2, 50),
        Span("forward GRU", 2, 50),
        Span("forward LSTM", None, 7),
        Span("forward TransformerEncoder", 2, 50),
    ] == recorded("recurrent")


def test_graphs(recorded):
    """The number of nodes is no batch; a `Batch` has its number of graphs."""
    assert [Span("forward GCN"), Span("forward Classifier", 3)] == recorded("graph")


def test_voice_activity(recorded):
    """silero-vad: the speech in a second of sound, and one chunk of it."""
    found = recorded("silero")
    assert ["get_speech_timestamps VADRNNJITMerge", "forward VADRNNJITMerge"] == [
        span.name for span in found
    ]


def test_a_table(recorded):
    """pytorch-tabnet's `predict_proba`, after the masks with which `fit` explains its features."""
    assert ["forward_masks TabNet"] * 2 + ["predict_proba TabNet"] == [
        span.name for span in recorded("tabular")
    ]
