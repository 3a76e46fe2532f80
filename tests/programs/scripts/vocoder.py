"""transformers: a GAN vocoder, HiFi-GAN with random weights."""

import torch
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

torch.manual_seed(0)
model = SpeechT5HifiGan(
    SpeechT5HifiGanConfig(
        model_in_dim=8,
        upsample_initial_channel=16,
        upsample_rates=[2, 2],
        upsample_kernel_sizes=[4, 4],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
    )
).eval()
with torch.no_grad():
    print(tuple(model(torch.zeros(2, 20, 8)).shape))
