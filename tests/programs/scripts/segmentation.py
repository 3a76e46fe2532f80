"""segmentation_models_pytorch: a U-Net with random weights."""

import segmentation_models_pytorch as smp
import torch

torch.manual_seed(0)
model = smp.Unet("resnet18", encoder_weights=None, classes=2).eval()
with torch.inference_mode():
    print(tuple(model(torch.zeros(2, 3, 64, 64)).shape))
    print(tuple(model.predict(torch.zeros(1, 3, 64, 64)).shape))
