"""torchvision: objects in two images of different sizes, and a classifier."""

import torch
import torchvision

torch.manual_seed(0)
detector = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
    weights=None, weights_backbone=None, num_classes=3
).eval()
classifier = torchvision.models.resnet18(weights=None).eval()
with torch.inference_mode():
    found = detector([torch.zeros(3, 64, 64), torch.zeros(3, 48, 96)])
    print(len(found), sorted(found[0]))
    print(tuple(classifier(torch.zeros(4, 3, 64, 64)).shape))
