"""monai: a volume segmented window by window."""

import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet

torch.manual_seed(0)
model = UNet(
    spatial_dims=2, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,), num_res_units=0
).eval()
with torch.inference_mode():
    print(tuple(sliding_window_inference(torch.zeros(1, 1, 32, 32), (16, 16), 2, model).shape))
