"""Programs of many kinds, each with the list of inferences that its user counts."""

from __future__ import annotations

import pytest

from tests.programs.conftest import Span


def test_detection_and_classification(recorded):
    """torchvision: a list of two images, and a batch of four."""
    assert [Span("forward SSD", 2), Span("forward ResNet", 4)] == recorded("detection")


def test_segmentation(recorded):
    """segmentation_models_pytorch: the model, and its `predict`."""
    assert [Span("forward Unet", 2), Span("forward Unet", 1)] == recorded("segmentation")


@pytest.mark.chosen
def test_a_vocoder(recorded):
    """transformers' HiFi-GAN."""
    assert [Span("forward SpeechT5HifiGan", 2)] == recorded("vocoder")


def test_keypoints(recorded):
    """kornia's descriptors of three patches."""
    assert [Span("forward HardNet", 3)] == recorded("keypoints")


def test_a_speaker(recorded):
    """speechbrain: the features are computed by a module of their own, before the network."""
    assert [Span("forward Fbank", 2), Span("forward ECAPA_TDNN", 2)] == recorded("speaker")


def test_diffusion(recorded):
    """diffusers: a call of the pipeline is one inference, its three steps are in it."""
    assert [Span("diffusion UNet2DModel", 2)] * 2 == recorded("diffusion")


@pytest.mark.chosen
def test_embeddings(recorded):
    """sentence-transformers' `encode` of five texts, two at a time."""
    assert [Span("encode SentenceTransformer", 2, 4)] == recorded("embeddings", "embed")


def test_reranking(recorded):
    """A CrossEncoder ranks two documents."""
    assert [Span("predict CrossEncoder", 2, 7)] == recorded("embeddings", "rank")


@pytest.mark.chosen
def test_an_adapter(recorded):
    """peft's `generate` of two prompts of five tokens."""
    assert [Span("generate GPT2LMHeadModel", 2, 5)] == recorded("adapter")


def test_a_trainer(recorded):
    """lightning's `Trainer.predict` calls the model once a batch."""
    assert [Span("forward Model", 3)] * 2 == recorded("trainer")


def test_windows(recorded):
    """monai: nine windows of a volume, two at a time, are one inference."""
    assert [Span("sliding_window_inference UNet", 2)] == recorded("volume")


def test_a_forecast(recorded):
    """chronos' `predict` of one series by two samples."""
    assert [Span("predict ChronosModel", 1, 17)] == recorded("forecast")
