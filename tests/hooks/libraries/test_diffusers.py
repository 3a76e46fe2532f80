"""diffusers: a call of a pipeline is one inference, its steps told apart by component."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*clean_up_tokenization_spaces.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

DENOISE = (
    "step.first.time",
    "step.time",
    "denoise.time",
    *(f"denoise.step.duration.{part}" for part in ("mean", "p50", "p99", "max")),
)
VAE = ("vae.time", "vae.share")


def test_stable_diffusion(telemetry, expected, tiny):
    """Text encoder, denoising and VAE; the model is the denoiser."""
    pipeline = tiny.stable_diffusion()
    pipeline("abab", num_inference_steps=4, height=16, width=16, output_type="np")
    (span,) = telemetry.inferences()
    steps = 2 + 4 + 2  # prompt and negative prompt, UNet, two modules of the VAE
    assert [
        expected(
            pipeline.unet,
            operation="diffusion",
            first=True,
            pytorch_input_batch_size=1,
            pytorch_input_sequence_length=8,
            pytorch_input_shape=(1, 8),
            pytorch_pipeline_name="StableDiffusionPipeline",
            pytorch_step_count=steps,
            pytorch_step_source="host",
            pytorch_denoise_step_count=4,
            measured=(
                *DENOISE,
                *VAE,
                "preprocess.time",
                "text_encoder.time",
                "text_encoder.share",
            ),
        )
    ] == [span]


def test_a_diffusion_transformer(telemetry, expected, tiny):
    """A pipeline without a text encoder: its share is absent."""
    pipeline = tiny.dit()
    pipeline(class_labels=[1, 2], num_inference_steps=3, output_type="np")
    assert [
        expected(
            pipeline.transformer,
            (4, 4, 4, 4),
            operation="diffusion",
            first=True,
            pytorch_pipeline_name="DiTPipeline",
            pytorch_step_count=5,
            pytorch_step_source="host",
            pytorch_denoise_step_count=3,
            measured=(*DENOISE, *VAE),
        )
    ] == telemetry.inferences()


def test_a_pipeline_of_the_users(telemetry, tiny):
    """A class made later, with its own __call__ around the library's: one inference."""
    dit = tiny.dit()

    class Mine(type(dit)):
        def __call__(self, label):
            return super().__call__(class_labels=[label], num_inference_steps=2, output_type="np")

    mine = Mine(transformer=dit.transformer, vae=dit.vae, scheduler=dit.scheduler)
    mine.set_progress_bar_config(disable=True)
    mine(3)
    (span,) = telemetry.inferences()
    assert ("diffusion DiTTransformer2DModel", "Mine", 2) == (
        span["name"],
        span["attributes"]["pytorch.pipeline.name"],
        span["attributes"]["pytorch.denoise.step.count"],
    )


def test_an_error_in_a_step(telemetry, tiny):
    """What ran until then is told."""
    pipeline = tiny.dit()
    calls = []

    def fail(module, args):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("lost")

    pipeline.transformer.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="lost"):
        pipeline(class_labels=[1], num_inference_steps=5, output_type="np")
    (span,) = telemetry.inferences()
    assert ("RuntimeError", 3) == (
        span["attributes"]["error.type"],
        span["attributes"]["pytorch.denoise.step.count"],
    )


def test_other_internals_cost_information_only(telemetry, tiny):
    """Without the number of steps that pipelines keep, and with components of other names."""
    dit = tiny.dit()

    class Mine(type(dit)):
        def __call__(self, labels):
            for _ in range(3):
                self.backbone(
                    torch.zeros(1, 4, 4, 4), timestep=torch.tensor([1]), class_labels=labels
                )

    mine = Mine(transformer=dit.transformer, vae=dit.vae, scheduler=dit.scheduler)
    mine.backbone = mine.transformer
    del mine.transformer, mine.vae
    mine(torch.tensor([1]))
    (span,) = telemetry.inferences()
    assert ("diffusion DiTTransformer2DModel", 3) == (
        span["name"],
        span["attributes"]["pytorch.step.count"],
    )
    assert "pytorch.denoise.step.count" not in span["attributes"]
