"""diffusers: an unconditional pipeline."""

import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

torch.manual_seed(0)
pipeline = DDPMPipeline(
    unet=UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        norm_num_groups=4,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    ),
    scheduler=DDPMScheduler(num_train_timesteps=10),
)
pipeline.set_progress_bar_config(disable=True)
for _ in range(2):
    images = pipeline(num_inference_steps=3, batch_size=2, output_type="np").images
print(images.shape)
