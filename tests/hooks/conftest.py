"""Tiny random models and pipelines, made from configurations: nothing is downloaded."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

# Under pytest's importlib mode no folder is on the path, and tests here share functions.
sys.path.insert(0, str(Path(__file__).resolve().parent / "libraries"))

VOCABULARY = 64


def _make(name):
    """A model in evaluation mode; its weights are the same in every run."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": VOCABULARY,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": None,
    }
    if name == "llama":
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**small))
    elif name == "mistral":
        config = transformers.MistralConfig(**small, num_key_value_heads=1, sliding_window=4)
        model = transformers.MistralForCausalLM(config)
    elif name == "gpt2":
        config = transformers.GPT2Config(
            n_embd=16,
            n_layer=2,
            n_head=2,
            vocab_size=VOCABULARY,
            n_positions=128,
            bos_token_id=1,
            eos_token_id=None,
            pad_token_id=0,
        )
        model = transformers.GPT2LMHeadModel(config)
    elif name == "mamba":
        config = transformers.MambaConfig(
            hidden_size=16,
            num_hidden_layers=2,
            state_size=4,
            vocab_size=VOCABULARY,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=None,
        )
        model = transformers.MambaForCausalLM(config)
    elif name == "t5":
        config = transformers.T5Config(
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            vocab_size=VOCABULARY,
            decoder_start_token_id=0,
            eos_token_id=None,
        )
        model = transformers.T5ForConditionalGeneration(config)
    elif name == "whisper":
        config = transformers.WhisperConfig(
            vocab_size=VOCABULARY,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            num_mel_bins=8,
            max_source_positions=50,
            max_target_positions=64,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            begin_suppress_tokens=None,
            suppress_tokens=None,
        )
        model = transformers.WhisperForConditionalGeneration(config)
    else:
        config = transformers.BertConfig(**{k: v for k, v in small.items() if k != "eos_token_id"})
        model = transformers.BertForSequenceClassification(config)
    model = model.eval()
    if getattr(model, "generation_config", None) is not None and name != "whisper":
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
    return model


def _tokenizer(texts=("ab", "abcd", "b")):
    """A fast tokenizer of single characters."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split

    letters = sorted({letter for text in texts for letter in text})
    words = {"[PAD]": 0, "[UNK]": 1} | {letter: 2 + i for i, letter in enumerate(letters)}
    inner = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = Split("", "isolated")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", padding_side="left"
    )


def _prompt(batch=1, length=5):
    """Token ids of a prompt."""
    return torch.randint(3, VOCABULARY, (batch, length), generator=torch.manual_seed(1))


def _vae(diffusers, channels=3):
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
    ).eval()


def _stable_diffusion():
    """A latent diffusion with text encoder, UNet and VAE; works on embeddings of a prompt too."""
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    tokenizer.model_max_length = 8
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        norm_num_groups=4,
        attention_head_dim=4,
    ).eval()
    text_encoder = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            vocab_size=64,
            max_position_embeddings=8,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    ).eval()
    pipeline = diffusers.StableDiffusionPipeline(
        vae=_vae(diffusers),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        image_encoder=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _dit():
    """A diffusion transformer, conditioned on a class."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    transformer = diffusers.DiTTransformer2DModel(
        sample_size=4,
        num_layers=1,
        patch_size=2,
        attention_head_dim=4,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        attention_bias=True,
        num_embeds_ada_norm=1000,
        norm_elementwise_affine=False,
    ).eval()
    pipeline = diffusers.DiTPipeline(
        transformer=transformer, vae=_vae(diffusers), scheduler=diffusers.DDIMScheduler()
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def tiny():
    """Makes tiny models, their tokenizer, a prompt for them, and diffusion pipelines."""
    return SimpleNamespace(
        model=_make,
        tokenizer=_tokenizer,
        prompt=_prompt,
        stable_diffusion=_stable_diffusion,
        dit=_dit,
    )
