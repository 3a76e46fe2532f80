"""speechbrain: the embedding of a speaker, by ECAPA-TDNN with random weights."""

import torch
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN

torch.manual_seed(0)
model = ECAPA_TDNN(40, channels=[16, 16, 16, 16, 48], lin_neurons=8, attention_channels=8).eval()
features = Fbank(n_mels=40).eval()
with torch.no_grad():
    print(tuple(model(features(torch.zeros(2, 8000))).shape))
