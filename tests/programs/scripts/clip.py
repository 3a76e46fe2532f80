"""open_clip: texts and images encoded by random weights."""

import open_clip
import torch

torch.manual_seed(0)
config = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 100, "width": 32, "heads": 2, "layers": 2},
}
model = open_clip.CLIP(**config).eval()
with torch.no_grad():
    print(tuple(model.encode_text(torch.zeros(2, 16, dtype=torch.long)).shape))
    print(tuple(model.encode_image(torch.zeros(3, 3, 32, 32)).shape))
