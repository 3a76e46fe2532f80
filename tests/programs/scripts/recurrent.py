"""Layers whose batch is not the first dimension of their input."""

import torch

torch.manual_seed(0)
with torch.inference_mode():
    print(tuple(torch.nn.LSTM(3, 5).eval()(torch.zeros(50, 2, 3))[0].shape))
    print(tuple(torch.nn.GRU(3, 5, batch_first=True).eval()(torch.zeros(2, 50, 3))[0].shape))
    print(tuple(torch.nn.LSTM(3, 5).eval()(torch.zeros(7, 3))[0].shape))
    encoder = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(8, 2, 16), 1, enable_nested_tensor=False
    ).eval()
    print(tuple(encoder(torch.zeros(50, 2, 8)).shape))
