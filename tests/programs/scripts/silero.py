"""silero-vad: voice activity in a second of noise, by the weights of its wheel."""

import torch
from silero_vad import get_speech_timestamps, load_silero_vad

torch.manual_seed(0)
torch.set_num_threads(1)
model = load_silero_vad()
print(get_speech_timestamps(torch.randn(16000) * 0.01, model))
print(tuple(model(torch.zeros(1, 512), 16000).shape))
