"""kornia: descriptors of patches by HardNet with random weights."""

import kornia
import torch

torch.manual_seed(0)
model = kornia.feature.HardNet(pretrained=False).eval()
with torch.inference_mode():
    print(tuple(model(torch.zeros(3, 1, 32, 32)).shape))
