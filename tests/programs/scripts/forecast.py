"""chronos: a time series continued by a T5 of the smallest size."""

import torch
from chronos import BaseChronosPipeline  # noqa: F401
from chronos.chronos import ChronosConfig, ChronosModel, ChronosPipeline
from transformers import T5Config, T5ForConditionalGeneration

torch.manual_seed(0)
config = ChronosConfig(
    tokenizer_class="MeanScaleUniformBins",
    tokenizer_kwargs={"low_limit": -15.0, "high_limit": 15.0},
    context_length=32,
    prediction_length=4,
    n_tokens=64,
    n_special_tokens=2,
    pad_token_id=0,
    eos_token_id=1,
    use_eos_token=True,
    model_type="seq2seq",
    num_samples=2,
    temperature=1.0,
    top_k=50,
    top_p=1.0,
)
model = T5ForConditionalGeneration(
    T5Config(
        vocab_size=64,
        d_model=8,
        d_kv=4,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
).eval()
pipeline = ChronosPipeline(config.create_tokenizer(), ChronosModel(config, model))
print(tuple(pipeline.predict(torch.arange(16.0)).shape))
