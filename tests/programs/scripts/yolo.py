"""ultralytics: detection with random weights, from the description of the model."""

import os

os.environ["YOLO_VERBOSE"] = "False"  # else it prints where its settings are, a folder of the run

import numpy as np
import torch
from ultralytics import YOLO

torch.manual_seed(0)
model = YOLO("yolov8n.yaml")
for _ in range(2):
    found = model.predict(np.zeros((64, 64, 3), dtype=np.uint8), imgsz=64, verbose=False)
print(len(found), found[0].orig_shape)
