"""Building a model computes its parametrized weights, which is no inference."""

import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

torch.manual_seed(0)
model = Wav2Vec2Model(
    Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
).eval()
linear = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 4)).eval()
print(tuple(linear.weight.shape))
with torch.no_grad():
    print(tuple(model(torch.zeros(2, 1600)).last_hidden_state.shape))
