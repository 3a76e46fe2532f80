"""timm: the features of a backbone, without its head."""

import timm
import torch

torch.manual_seed(0)
model = timm.create_model("resnet10t", num_classes=10).eval()
with torch.no_grad():
    for _ in range(2):
        print(tuple(model.forward_features(torch.zeros(2, 3, 64, 64)).shape))
    print(tuple(model(torch.zeros(1, 3, 64, 64)).shape))
